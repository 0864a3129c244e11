/*
 * kernel_speed.c - how fast the products run, and what a core could do at best.
 *
 * The least time of a product is its multiplications at the instruction peak, or its packed weights
 * at the rate at which memory of their size is read, whichever is longer. The peak is measured with
 * a loop of independent instructions, those that a product at that level cannot do without. Weights
 * of LAYERS matrices take turns, as a model's layers do, and the rate is that of reading all of
 * them. Times are the least of several rounds, so that a loaded machine disturbs them little: by
 * the clock where a round is brief, since some are then left alone, else CPU time of this thread.
 * CPU time of brief rounds was at times too short in a virtual machine, which may deduct late what
 * its host took: by a third.
 */
#include "kernels/kernel_speed.h"

#include <math.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { ROUNDS = 10000 };
#define BRIEF 0.002 /* seconds */

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double sri_least_seconds(sri_work_fn *run, void *argument) {
    double least = 1e9, total = 0;
    for (int round = 0; round < ROUNDS && (round < 3 || total < 0.03); round++) {
        double cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID), wall = seconds_of(CLOCK_MONOTONIC);
        run(argument);
        wall = seconds_of(CLOCK_MONOTONIC) - wall;
        cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu;
        least = fmin(least, cpu < BRIEF ? wall : cpu);
        total += cpu;
    }
    return least;
}

/* ---- Instructions ---------------------------------------------------------------------------- */

enum { PEAK_ROUNDS = 20000 };

/* Twelve times `body` with registers 0 to 11 as sums; 12 to 15 may hold what it likes. */
#define TWELVE(body)                                                                               \
    body("0") body("1") body("2") body("3") body("4") body("5") body("6") body("7") body("8")      \
        body("9") body("10") body("11")
#define PEAK(name, body, ...)                                                                      \
    static void name(void) {                                                                       \
        for (int i = 0; i < PEAK_ROUNDS; i++) __asm__ volatile(TWELVE(body)::: __VA_ARGS__);       \
    }

typedef struct peak {
    const char *instructions;
    void (*run)(void);
    double operations; /* of each of the twelve: multiplications and additions */
} peak;

#if defined(__x86_64__)
#define YMM                                                                                        \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define MADD_YMM(s)                                                                                \
    "vpmaddwd %%ymm14, %%ymm15, %%ymm12\n\tvpaddd %%ymm12, %%ymm" s ", %%ymm" s "\n\t"
#define MADD_ZMM(s)                                                                                \
    "vpmaddwd %%zmm14, %%zmm15, %%zmm12\n\tvpaddd %%zmm12, %%zmm" s ", %%zmm" s "\n\t"
#define DP_YMM(s)  "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" s "\n\t"
#define DP_ZMM(s)  "vpdpbusd %%zmm14, %%zmm15, %%zmm" s "\n\t"
#define FMA_YMM(s) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" s "\n\t"
#define FMA_ZMM(s) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" s "\n\t"
#define ZERO(s)    "vpxor %%xmm" s ", %%xmm" s ", %%xmm" s "\n\t"
PEAK(zero_sums, ZERO, YMM)
PEAK(madd_ymm, MADD_YMM, YMM)
PEAK(madd_zmm, MADD_ZMM, YMM)
PEAK(dp_ymm, DP_YMM, YMM)
PEAK(dp_zmm, DP_ZMM, YMM)
PEAK(fma_ymm, FMA_YMM, YMM)
PEAK(fma_zmm, FMA_ZMM, YMM)

/* As many tile products as a PEAK() has instructions: by fours into sums of their own, since one
 * takes four times as long as the next may begin after it. The processor's permission for tiles was
 * asked for when its level was found. */
__attribute__((target("amx-tile,amx-int8"))) static void amx_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
    __asm__ volatile("" ::"r"(&config) : "memory");
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(6);
    for (int i = 0; i < 3 * PEAK_ROUNDS; i++) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 6);
        _tile_dpbusd(2, 4, 6);
        _tile_dpbusd(3, 4, 6);
    }
    _tile_release();
}

static peak int8_peak(sri_cpu_level level) {
    zero_sums(); /* so that no sum is a denormal */
    switch (level) {
    case SRI_CPU_AVX2: return (peak){"vpmaddwd + vpaddd, 256 bits", madd_ymm, 32};
    case SRI_CPU_AVXVNNI: return (peak){"vpdpbusd, 256 bits", dp_ymm, 64};
    case SRI_CPU_AVX512: return (peak){"vpmaddwd + vpaddd, 512 bits", madd_zmm, 64};
    case SRI_CPU_VNNI: return (peak){"vpdpbusd, 512 bits", dp_zmm, 128};
    case SRI_CPU_AMX: return (peak){"tdpbusd", amx_tiles, 2 * 16 * 16 * 64};
    default: return (peak){NULL, NULL, 0};
    }
}

static peak fp32_peak(sri_cpu_level level) {
    zero_sums();
    if (level == SRI_CPU_AVX2 || level == SRI_CPU_AVXVNNI)
        return (peak){"vfmadd231ps, 256 bits", fma_ymm, 16};
    if (level >= SRI_CPU_AVX512) return (peak){"vfmadd231ps, 512 bits", fma_zmm, 32};
    return (peak){NULL, NULL, 0};
}
#elif defined(__aarch64__)
#define V                                                                                          \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", \
        "v15"
#define MULL(s)                                                                                    \
    "smull v12.8h, v14.8b, v15.8b\n\tsmlal2 v12.8h, v14.16b, v15.16b\n\tsadalp v" s                \
    ".4s, v12.8h\n\t"
#define DOT(s)  ".arch armv8.2-a+dotprod\n\tsdot v" s ".4s, v14.16b, v15.16b\n\t"
#define MMLA(s) ".arch armv8.2-a+i8mm\n\tusmmla v" s ".4s, v14.16b, v15.16b\n\t"
#define FMLA(s) "fmla v" s ".4s, v14.4s, v15.4s\n\t"
PEAK(mull, MULL, V)
PEAK(dot, DOT, V)
PEAK(mmla, MMLA, V)
PEAK(fmla, FMLA, V)

static peak int8_peak(sri_cpu_level level) {
    switch (level) {
    case SRI_CPU_NEON: return (peak){"smull + smlal2 + sadalp", mull, 32};
    case SRI_CPU_DOTPROD: return (peak){"sdot", dot, 32};
    case SRI_CPU_I8MM: return (peak){"usmmla", mmla, 64};
    default: return (peak){NULL, NULL, 0};
    }
}

static peak fp32_peak(sri_cpu_level level) {
    return level >= SRI_CPU_NEON ? (peak){"fmla", fmla, 8} : (peak){NULL, NULL, 0};
}
#else
static peak int8_peak(sri_cpu_level level) {
    (void)level;
    return (peak){NULL, NULL, 0};
}
static peak fp32_peak(sri_cpu_level level) { return int8_peak(level); }
#endif

static void run_peak(void *argument) { ((const peak *)argument)->run(); }

static double rate_of(peak p, const char **instructions) {
    *instructions = p.instructions;
    return p.run == NULL ? 0 : p.operations * 12 * PEAK_ROUNDS / sri_least_seconds(run_peak, &p);
}

double sri_peak_int8(sri_cpu_level level, const char **instructions) {
    return rate_of(int8_peak(level), instructions);
}

double sri_peak_fp32(sri_cpu_level level, const char **instructions) {
    return rate_of(fp32_peak(level), instructions);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

typedef struct memory {
    const uint64_t *words;
    size_t count;
} memory;

/* Loads only, eight at a time of what the compiler's widest vectors hold. */
typedef uint64_t wide __attribute__((vector_size(64), aligned(64), may_alias));
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void
read_memory(void *argument) {
    const memory *m = argument;
    const wide *at = (const wide *)m->words, *end = at + m->count / 8;
    wide a = {0}, b = a, c = a, d = a;
    for (; at + 4 <= end; at += 4) a |= at[0], b |= at[1], c |= at[2], d |= at[3];
    a |= b | (c | d);
    __asm__ volatile("" ::"m"(a));
}

double sri_read_rate(const void *from, size_t bytes) {
    memory m = {from, bytes / sizeof(uint64_t)};
    return (double)bytes / sri_least_seconds(read_memory, &m);
}

/* ---- Products -------------------------------------------------------------------------------- */

enum { LAYERS = 12 };

typedef struct product_work {
    const sri_kernels *table;
    bool int8;
    size_t m, k, packed_size;
    char *packed; /* of LAYERS matrices */
    sri_quantized quantized;
    float *x;
    sri_product product;
} product_work;

/* All layers once. */
static void run_product(void *argument) {
    product_work *w = argument;
    for (int layer = 0; layer < LAYERS; layer++) {
        const void *packed = w->packed + (size_t)layer * w->packed_size;
        if (w->int8)
            w->table->gemm_s8.run(&w->quantized, w->m, packed, w->k, &w->product);
        else
            w->table->gemm_f32.run(w->x, w->m, packed, w->k, &w->product);
    }
}

static void *zeros(size_t bytes) {
    void *block = sri_alloc_aligned(bytes);
    if (block != NULL) memset(block, 0, bytes);
    return block;
}

static bool pack_layers(product_work *w, size_t n, size_t k) {
    const sri_kernels *table = w->table;
    w->packed_size = sri_round_up(
        w->int8 ? table->gemm_s8.packed_size(n, k) : table->gemm_f32.packed_size(n, k), 64);
    w->packed = sri_alloc_aligned(w->packed_size * LAYERS);
    float *parameters = zeros(n * sizeof(float));
    void *weights = zeros(n * k * (w->int8 ? 1 : sizeof(float)));
    bool enough = w->packed != NULL && parameters != NULL && weights != NULL;
    for (int layer = 0; enough && layer < LAYERS; layer++) {
        void *packed = w->packed + (size_t)layer * w->packed_size;
        if (w->int8)
            table->gemm_s8.pack(&(sri_weights_s8){weights, parameters, parameters, n, k}, packed);
        else
            table->gemm_f32.pack(&(sri_weights_f32){weights, parameters, n, k}, packed);
    }
    sri_free_aligned(parameters);
    sri_free_aligned(weights);
    return enough;
}

static bool prepare(product_work *w, size_t most, size_t n, size_t k, sri_activation activation) {
    if (!pack_layers(w, n, k)) return false;
    w->quantized = (sri_quantized){zeros(most * sri_round_up(k, SRI_K_STEP)), zeros(most * 4),
                                   zeros(most * 4), sri_round_up(k, SRI_K_STEP)};
    w->x = zeros(most * k * sizeof(float));
    w->product = (sri_product){zeros(most * n * sizeof(float)), n, 0, n, activation};
    return w->quantized.q && w->quantized.scale && w->quantized.zero && w->x && w->product.y;
}

static void release(product_work *w) {
    sri_free_aligned(w->packed);
    sri_free_aligned(w->quantized.q);
    sri_free_aligned(w->quantized.scale);
    sri_free_aligned(w->quantized.zero);
    sri_free_aligned(w->x);
    sri_free_aligned(w->product.y);
}

bool sri_product_speed_of(const sri_kernels *table, const sri_product_shape *shape,
                          double peak_rate, const size_t *rows, size_t count,
                          sri_product_speed *speeds) {
    product_work w = {.table = table, .int8 = shape->int8, .k = shape->k};
    size_t most = 1;
    for (size_t i = 0; i < count; i++) most = SRI_MAX(most, rows[i]);
    bool enough = prepare(&w, most, shape->n, shape->k, shape->activation);
    double rate = enough ? sri_read_rate(w.packed, w.packed_size * LAYERS) : 1;
    for (size_t i = 0; enough && i < count; i++) {
        w.m = rows[i];
        double operations = 2.0 * (double)(w.m * shape->n * shape->k);
        double least =
            peak_rate > 0 ? fmax(operations / peak_rate, (double)w.packed_size / rate) : NAN;
        speeds[i].seconds = sri_least_seconds(run_product, &w) / LAYERS;
        speeds[i].operations = operations / speeds[i].seconds;
        speeds[i].share = least / speeds[i].seconds;
    }
    release(&w);
    return enough;
}
