/*
 * kernels.h - the one table of inner loops, filled for the CPU at first use.
 */
#ifndef SRI_KERNELS_H
#define SRI_KERNELS_H

#include "base/base.h"

/* out[q * n + i] = queries[q] . vectors[i]: dot products of fp32 rows of `dim` floats, row-major. Each sum
 * runs in 16 lanes over ascending dimensions with fused multiply-add and ends in a fixed tree, so a result
 * depends on neither the kernel level nor on `query_count` and `n`. */
typedef void sri_dots_fn(const float *queries, size_t query_count, const float *vectors, size_t n, size_t dim,
                         float *out);

typedef struct sri_kernels {
    sri_dots_fn *dots;
} sri_kernels;

/* The table; constant after the first call, from any thread. */
const sri_kernels *sri_kernels_get(void);

#endif
