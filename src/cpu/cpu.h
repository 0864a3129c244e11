/*
 * cpu.h - what this CPU can do, as far as the kernels care.
 */
#ifndef SRI_CPU_H
#define SRI_CPU_H

#include <stdbool.h>

/* Levels, in ascending order within a family of CPUs. A CPU may have a level and lack the one
 * before it: AVX-512 came without AVX-VNNI. */
typedef enum sri_cpu_level {
    SRI_CPU_REF,     /* the ABI's baseline, of every family */
    SRI_CPU_AVX2,    /* AVX2 and FMA */
    SRI_CPU_AVXVNNI, /* AVX-VNNI, on registers of 256 bits, beside SRI_CPU_AVX2 */
    SRI_CPU_AVX512,  /* AVX-512 F, BW, DQ and VL beside SRI_CPU_AVX2 */
    SRI_CPU_VNNI,    /* AVX-512 VNNI, VBMI and VPOPCNTDQ beside SRI_CPU_AVX512 */
    SRI_CPU_AMX,     /* AMX tiles of bytes, which the system lets us use, beside SRI_CPU_VNNI */
    SRI_CPU_NEON,    /* arm64's baseline */
    SRI_CPU_DOTPROD, /* sdot beside SRI_CPU_NEON */
    SRI_CPU_I8MM,    /* products of byte matrices beside SRI_CPU_DOTPROD */
    SRI_CPU_LEVELS
} sri_cpu_level;

/* Whether CPU and operating system support a level. The first call asks the system for AMX, where
 * the CPU has it; any thread may call. */
bool sri_cpu_has(sri_cpu_level level);

/* The best level that CPU and operating system support. */
sri_cpu_level sri_cpu_best(void);

/* The level to use: the best, unless the environment variable SR_CPU names another. For one that
 * this CPU lacks, the best below it is taken; for one of another family, or an unknown name, the
 * best of all. Both are logged. */
sri_cpu_level sri_cpu_chosen(void);

const char *sri_cpu_level_name(sri_cpu_level level); /* as in SR_CPU: "ref", "avx2", ... */

#endif
