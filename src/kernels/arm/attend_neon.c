/*
 * attend_neon.c - attention of one head with NEON, in blocks of rows as attend_rows.inc has it.
 */
#include "kernels/arm/math_neon.h"

enum { ROWS = 4 };

#include "kernels/attend_rows.inc"

/* 16 keys at a time. */
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

void sri_kernels_attend_neon(sri_kernels *table) { table->attend = attend; }
