/*
 * cpu.h - what this CPU can do, as far as the kernels care.
 */
#ifndef SRI_CPU_H
#define SRI_CPU_H

/* Levels in ascending order; a level implies those that sri_cpu_has() says it has. */
typedef enum sri_cpu_level {
    SRI_CPU_REF,    /* the ABI's baseline */
    SRI_CPU_AVX2,   /* AVX2 and FMA */
    SRI_CPU_AVX512, /* AVX-512 F, BW, DQ and VL */
    SRI_CPU_VNNI,   /* AVX-512 VNNI and VPOPCNTDQ beside SRI_CPU_AVX512 */
    SRI_CPU_LEVELS
} sri_cpu_level;

/* The best level that CPU and operating system support. */
sri_cpu_level sri_cpu_best(void);

/* The level to use: the best, unless the environment variable SR_CPU names a lower one. A name that
 * is unknown, or a level that the CPU lacks, leaves the best and is logged. */
sri_cpu_level sri_cpu_chosen(void);

const char *sri_cpu_level_name(sri_cpu_level level); /* "ref", "avx2", "avx512", "vnni" */

#endif
