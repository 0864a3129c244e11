/*
 * kernel_speed.h - how fast the products run, and what a core could do at best: for benchmarks.
 */
#ifndef SRI_KERNEL_SPEED_H
#define SRI_KERNEL_SPEED_H

#include "kernels/kernels.h"

typedef void sri_work_fn(void *argument);

/* Seconds of one call of `run` on this thread: the least of at least 3 calls, some 30 ms in all. */
double sri_least_seconds(sri_work_fn *run, void *argument);

/* Multiplications and additions a second of one core with the int8 or fp32 instruction of a level
 * that this CPU has, and what that instruction is; 0 and NULL for a level that has none of its
 * own. */
double sri_peak_int8(sri_cpu_level level, const char **instructions);
double sri_peak_fp32(sri_cpu_level level, const char **instructions);

/* Bytes a second at which one core reads these, which are read again and again. 64-byte aligned. */
double sri_read_rate(const void *from, size_t bytes);

/* y [m, n] = act(x [m, k] W^T + b); the values do not matter to the time. */
typedef struct sri_product_shape {
    bool int8;
    size_t n, k;
    sri_activation activation;
} sri_product_shape;

typedef struct sri_product_speed {
    double seconds;    /* of one product */
    double operations; /* multiplications and additions a second */
    double share;      /* of what the core could do: see the file's head; NaN where the peak is 0 */
} sri_product_speed;

/* Measures products of rows[i] rows by one core, whose peak is `peak_rate` operations a second.
 * False when memory is short. */
SR_MUST_CHECK bool sri_product_speed_of(const sri_kernels *table, const sri_product_shape *shape,
                                        double peak_rate, const size_t *rows, size_t count,
                                        sri_product_speed *speeds);

#endif
