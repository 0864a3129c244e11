/*
 * softmax_loops.h - the inner loops of the solver that no kernel has.
 *
 * They are plain C without fused multiplications, sums in fixed lanes: so a compiler gives the same bits
 * whatever it vectorises for. softmax_loops.c is compiled once for each of three levels.
 */
#ifndef SRI_SOFTMAX_LOOPS_H
#define SRI_SOFTMAX_LOOPS_H

#include "kernels/kernels.h"

/* Samples side by side: their number in a block is a multiple of this. */
#define SRI_SOFTMAX_LANES 64

typedef struct sri_softmax_loops {
    /* out[0 .. width) = sum over the list of weight * rows[row * width ..], in the order of the list from +0;
     * width: a multiple of 16. */
    void (*sum_rows)(const float *rows, size_t width, const sri_weighted_row *list, size_t count,
                     float *out);
    /* to [columns, to_stride] = from [rows, from_stride] transposed. */
    void (*transpose)(const float *from, size_t rows, size_t columns, size_t from_stride, float *to,
                      size_t to_stride);
    /* to += from transposed, otherwise the same. */
    void (*transpose_add)(const float *from, size_t rows, size_t columns, size_t from_stride,
                          float *to, size_t to_stride);
    /* z [classes, stride], of which SRI_SOFTMAX_LANES columns: adds bias[c], and leaves probabilities.
     * highest and sums [SRI_SOFTMAX_LANES] take each column's greatest logit and the sum of exp(z - highest). */
    void (*softmax_columns)(float *z, size_t classes, size_t stride, const float *bias,
                            float *highest, float *sums);
    /* Probabilities of one row in place, logits multiplied by `factor` first; its sum in 16 lanes. */
    void (*softmax_row)(float *logits, size_t n, float factor);
    void (*scale_columns)(float *z, size_t classes, size_t stride, const float *factors);
    double (*dot)(const float *a, const float *b, size_t n); /* in 16 lanes, in double */
    double (*sum)(const float *a, size_t n);                 /* the same */
    void (*add)(const float *a, size_t n, float *y);         /* y += a */
    void (*add_scaled)(const float *a, float factor, size_t n, float *y); /* y += factor * a */
    void (*step)(const float *x, const float *a, float factor, size_t n,
                 float *y); /* y = x + factor a */
    void (*add_scaled_double)(const double *a, double factor, size_t n, double *y);
    void (*subtract)(const float *a, const float *b, size_t n, float *y); /* y = a - b */
} sri_softmax_loops;

/* Those of a level, which the CPU must have; those of the level that sri_cpu_chosen() gives. */
void sri_softmax_loops_fill(sri_cpu_level level, sri_softmax_loops *loops);
const sri_softmax_loops *sri_softmax_loops_get(void);

/* One for each way that softmax_loops.c is compiled. */
void sri_softmax_loops_base(sri_softmax_loops *loops);
void sri_softmax_loops_avx2(sri_softmax_loops *loops);
void sri_softmax_loops_avx512(sri_softmax_loops *loops);

#endif
