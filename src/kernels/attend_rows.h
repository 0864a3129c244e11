/*
 * attend_rows.h - attention in blocks of ROWS rows of queries: the frame that AVX2 and NEON share.
 *
 * Keys are transposed once, so that a register holds the scores of several keys and every sum runs
 * over the head's width in order. ROWS rows of queries go together: a load of keys or values then
 * serves as many multiplications. At the end of the text the last row stands in for missing ones.
 * Included once, after ROWS; the including file defines score(), soften() and weigh().
 */
#ifndef SRI_ATTEND_ROWS_H
#define SRI_ATTEND_ROWS_H

#include "kernels/kernels.h"

/* scores [ROWS, padded] of ROWS rows of queries by keys [width, padded]. */
static void score(const sri_attention *a, const float *const q[ROWS], const float *keys,
                  size_t padded, float *scores);

/* Turns a row of scores into weights not yet divided by their sum, whose inverse it returns. */
static float soften(float *scores, size_t t, size_t padded);

/* Values by weights [ROWS, padded] into the output rows [row, row + rows). */
static void weigh(const sri_attention *a, const float *weights, size_t padded,
                  const float inverse[ROWS], size_t row, int rows);

static void transpose_keys(const sri_attention *a, size_t padded, float *keys) {
    for (size_t d = 0; d < a->width; d++) {
        float *row = keys + d * padded;
        for (size_t j = 0; j < a->t; j++) row[j] = a->k[j * a->stride + d];
        for (size_t j = a->t; j < padded; j++) row[j] = 0;
    }
}

/* weigh() for the columns from d on, fewer than a register holds. */
static void weigh_tail(const sri_attention *a, size_t d, const float *weights, size_t padded,
                       const float inverse[ROWS], size_t row, int rows) {
    for (; d < a->width; d++)
        for (int r = 0; r < rows; r++) {
            float sum = 0;
            for (size_t j = 0; j < a->t; j++)
                sum = __builtin_fmaf(weights[(size_t)r * padded + j], a->v[j * a->stride + d], sum);
            a->out[(row + (size_t)r) * a->out_stride + d] = sum * inverse[r];
        }
}

static void attend(const sri_attention *a) {
    size_t padded = sri_round_up(a->t, 16);
    float *keys = a->scratch, *scores = keys + a->width * padded;
    transpose_keys(a, padded, keys);
    for (size_t row = 0; row < a->rows; row += ROWS) {
        const float *q[ROWS];
        float inverse[ROWS];
        int rows = (int)SRI_MIN(a->rows - row, (size_t)ROWS);
        for (int r = 0; r < ROWS; r++)
            q[r] = a->q + SRI_MIN(row + (size_t)r, a->rows - 1) * a->stride;
        score(a, q, keys, padded, scores);
        for (int r = 0; r < ROWS; r++)
            inverse[r] = soften(scores + (size_t)r * padded, a->t, padded);
        weigh(a, scores, padded, inverse, row, rows);
    }
}

#endif
