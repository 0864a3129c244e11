/*
 * kernels.c - fills the table: ref first, then level by level over it, returning at the first that
 * the CPU lacks. An entry that a level does not have stays the one of the level below.
 */
#include "kernels/kernels_int.h"

#include <pthread.h>

static sri_kernels chosen;
static sri_cpu_level chosen_level;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void sri_kernels_fill(sri_cpu_level level, sri_kernels *table) {
    sri_kernels_ref(table);
#if defined(__x86_64__)
    if (level < SRI_CPU_AVX2) return;
    sri_kernels_gemm_s8_avx2(table);
    sri_kernels_gemm_f32_avx2(table);
    sri_kernels_rows_avx2(table);
    sri_kernels_attend_avx2(table);
    sri_kernels_dots_avx2(table);
    sri_kernels_static_avx2(table);
    sri_kernels_scan_avx2(table);
    if (level == SRI_CPU_AVXVNNI) {
        sri_kernels_gemm_s8_avxvnni(table);
        sri_kernels_scan_avxvnni(table);
    }
    if (level < SRI_CPU_AVX512) return;
    sri_kernels_gemm_s8_avx512(table);
    sri_kernels_gemm_f32_avx512(table);
    sri_kernels_rows_avx512(table);
    sri_kernels_attend_avx512(table);
    sri_kernels_dots_avx512(table);
    sri_kernels_static_avx512(table);
    sri_kernels_scan_avx512(table);
    if (level < SRI_CPU_VNNI) return;
    sri_kernels_gemm_s8_vnni(table);
    sri_kernels_scan_vnni(table);
    if (level < SRI_CPU_AMX) return;
    sri_kernels_gemm_s8_amx(table);
#elif defined(__aarch64__)
    if (level < SRI_CPU_NEON) return;
    sri_kernels_gemm_s8_neon(table);
    sri_kernels_gemm_f32_neon(table);
    sri_kernels_rows_neon(table);
    sri_kernels_attend_neon(table);
    sri_kernels_dots_neon(table);
    sri_kernels_static_neon(table);
    sri_kernels_scan_neon(table);
    if (level < SRI_CPU_DOTPROD) return;
    sri_kernels_gemm_s8_dotprod(table);
    sri_kernels_scan_dotprod(table);
    if (level < SRI_CPU_I8MM) return;
    sri_kernels_gemm_s8_i8mm(table);
#else
    (void)level;
#endif
}

static void choose(void) {
    chosen_level = sri_cpu_chosen();
    sri_kernels_fill(chosen_level, &chosen);
}

const sri_kernels *sri_kernels_get(void) {
    pthread_once(&once, choose);
    return &chosen;
}

const char *sr_cpu_level(void) {
    pthread_once(&once, choose);
    return sri_cpu_level_name(chosen_level);
}
