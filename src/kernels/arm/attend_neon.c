/*
 * attend_neon.c - attention of one head with NEON.
 *
 * Keys are transposed once, so that a register holds the scores of 4 keys and every sum runs over
 * the head's width in order. Four rows of queries go together: a load of keys or values then serves
 * four multiplications. At the end of the text the last row stands in for missing ones.
 */
#include "kernels/arm/math_neon.h"

enum { ROWS = 4 };

static void transpose_keys(const sri_attention *a, size_t padded, float *keys) {
    for (size_t d = 0; d < a->width; d++) {
        float *row = keys + d * padded;
        for (size_t j = 0; j < a->t; j++) row[j] = a->k[j * a->stride + d];
        for (size_t j = a->t; j < padded; j++) row[j] = 0;
    }
}

/* scores [ROWS, padded], 16 keys at a time. */
static void score(const sri_attention *a, const float *const q[ROWS], const float *keys,
                  size_t padded, float *scores) {
    for (size_t j = 0; j < padded; j += 16) {
        sri_lanes sums[ROWS] = {sri_zero_lanes(), sri_zero_lanes(), sri_zero_lanes(),
                                sri_zero_lanes()};
        for (size_t d = 0; d < a->width; d++) {
            sri_lanes key = sri_load_lanes(keys + d * padded + j, 16);
            for (int r = 0; r < ROWS; r++)
                for (int part = 0; part < 4; part++)
                    sums[r].v[part] = vfmaq_n_f32(sums[r].v[part], key.v[part], q[r][d]);
        }
        for (int r = 0; r < ROWS; r++) {
            for (int part = 0; part < 4; part++)
                sums[r].v[part] = vmulq_n_f32(sums[r].v[part], a->scale);
            sri_store_lanes(scores + (size_t)r * padded + j, 16, sums[r]);
        }
    }
}

/* Turns scores into weights not yet divided by their sum, whose inverse it returns. */
static float soften(float *scores, size_t t, size_t padded) {
    float highest = scores[0];
    for (size_t j = 1; j < t; j++) highest = scores[j] > highest ? scores[j] : highest;
    float32x4_t most = vdupq_n_f32(highest);
    for (size_t j = 0; j < padded; j += 4)
        vst1q_f32(scores + j, sri_exp4(vsubq_f32(vld1q_f32(scores + j), most)));
    for (size_t j = t; j < padded; j++) scores[j] = 0;
    sri_lanes lanes = sri_zero_lanes();
    for (size_t j = 0; j < padded; j += 16)
        for (int part = 0; part < 4; part++)
            lanes.v[part] = vaddq_f32(lanes.v[part], vld1q_f32(scores + j + 4 * part));
    return 1.0f / sri_sum_lanes(lanes);
}

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

static void weigh(const sri_attention *a, const float *weights, size_t padded,
                  const float inverse[ROWS], size_t row, int rows) {
    size_t d = 0;
    for (; d + 16 <= a->width; d += 16) {
        sri_lanes sums[ROWS] = {sri_zero_lanes(), sri_zero_lanes(), sri_zero_lanes(),
                                sri_zero_lanes()};
        for (size_t j = 0; j < a->t; j++) {
            sri_lanes value = sri_load_lanes(a->v + j * a->stride + d, 16);
            for (int r = 0; r < ROWS; r++)
                for (int part = 0; part < 4; part++)
                    sums[r].v[part] = vfmaq_n_f32(sums[r].v[part], value.v[part],
                                                  weights[(size_t)r * padded + j]);
        }
        for (int r = 0; r < ROWS; r++) {
            for (int part = 0; part < 4; part++)
                sums[r].v[part] = vmulq_n_f32(sums[r].v[part], inverse[r]);
            if (r < rows)
                sri_store_lanes(a->out + (row + (size_t)r) * a->out_stride + d, 16, sums[r]);
        }
    }
    weigh_tail(a, d, weights, padded, inverse, row, rows);
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

void sri_kernels_attend_neon(sri_kernels *table) { table->attend = attend; }
