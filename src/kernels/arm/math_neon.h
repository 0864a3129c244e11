/*
 * math_neon.h - what the NEON kernels share: exp, gelu, 16 lanes as four registers and their sum,
 * and the loading of a tail. The operations and their order are those of ref.c.
 */
#ifndef SRI_MATH_NEON_H
#define SRI_MATH_NEON_H

#include "kernels/kernels_int.h"

#include <arm_neon.h>
#include <string.h>

#define SRI_INLINE static inline __attribute__((always_inline))

/* Lanes 4 i to 4 i + 3 in v[i]. */
typedef struct sri_lanes {
    float32x4_t v[4];
} sri_lanes;

SRI_INLINE sri_lanes sri_zero_lanes(void) {
    float32x4_t zero = vdupq_n_f32(0);
    return (sri_lanes){{zero, zero, zero, zero}};
}

/* The first 16 of `count` floats, or as many as there are, then zeros. */
SRI_INLINE sri_lanes sri_load_lanes(const float *x, size_t count) {
    float copy[16] = {0};
    if (count < 16) x = memcpy(copy, x, count * sizeof *x);
    return (sri_lanes){{vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)}};
}

/* Stores the first 16 or `count` lanes. */
SRI_INLINE void sri_store_lanes(float *x, size_t count, sri_lanes lanes) {
    float copy[16], *to = count < 16 ? copy : x;
    for (int i = 0; i < 4; i++) vst1q_f32(to + 4 * i, lanes.v[i]);
    if (count < 16) memcpy(x, copy, count * sizeof *x);
}

SRI_INLINE float sri_sum_lanes(sri_lanes lanes) {
    float32x4_t low = vaddq_f32(lanes.v[0], lanes.v[2]), high = vaddq_f32(lanes.v[1], lanes.v[3]);
    float32x4_t four = vaddq_f32(low, high);
    float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

SRI_INLINE float32x4_t sri_exp4(float32x4_t x) {
    x = vmaxnmq_f32(x, vdupq_n_f32(EXP_LOWEST));
    float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(EXP_LOG2E)));
    float32x4_t r = vfmaq_f32(x, n, vdupq_n_f32(EXP_LN2_HIGH));
    r = vfmaq_f32(r, n, vdupq_n_f32(EXP_LN2_LOW));
    float32x4_t p = vfmaq_f32(vdupq_n_f32(EXP_3), vdupq_n_f32(EXP_4), r);
    p = vfmaq_f32(vdupq_n_f32(EXP_2), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_1), p, r);
    p = vfmaq_f32(vdupq_n_f32(EXP_0), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
    return vmulq_f32(p, vreinterpretq_f32_s32(power));
}

SRI_INLINE float32x4_t sri_gelu4(float32x4_t x) {
    float32x4_t size = vabsq_f32(x), a = vminnmq_f32(size, vdupq_n_f32(GELU_CLAMP));
    float32x4_t p = vfmaq_f32(vdupq_n_f32(GELU_4), vdupq_n_f32(GELU_5), a);
    p = vfmaq_f32(vdupq_n_f32(GELU_3), p, a);
    p = vfmaq_f32(vdupq_n_f32(GELU_2), p, a);
    p = vfmaq_f32(vdupq_n_f32(GELU_1), p, a);
    p = vfmaq_f32(vdupq_n_f32(GELU_0), p, a);
    for (int i = 0; i < 4; i++) p = vmulq_f32(p, p);
    return vfmsq_f32(vmaxnmq_f32(x, vdupq_n_f32(0)), size, p);
}

/* Applies gelu to y [rows, columns], rows `stride` floats apart. */
static inline void sri_gelu_rows(float *y, size_t rows, size_t columns, size_t stride) {
    for (size_t r = 0; r < rows; r++, y += stride)
        for (size_t i = 0; i < columns; i += 16) {
            sri_lanes lanes = sri_load_lanes(y + i, columns - i);
            for (int part = 0; part < 4; part++) lanes.v[part] = sri_gelu4(lanes.v[part]);
            sri_store_lanes(y + i, columns - i, lanes);
        }
}

/* What every int8 product has at the head of a panel of 16 output channels. */
enum { SRI_PANEL = 16 };

typedef struct sri_panel_head {
    float scale[SRI_PANEL], bias[SRI_PANEL];
    int32_t sums[SRI_PANEL];
    int32_t has_lowest; /* whether a weight is -128 */
    int32_t unused[15];
} sri_panel_head;

/* Turns `sums` of a row by one panel, of (q - offset) by weights, into values. */
SRI_INLINE void sri_finish_sums(const int32_t *sums, const sri_panel_head *head, float row_scale,
                                int32_t zero, size_t columns, sri_activation activation, float *y) {
    sri_lanes lanes;
    for (int i = 0; i < 4; i++) {
        int32x4_t sum =
            vmlsq_s32(vld1q_s32(sums + 4 * i), vdupq_n_s32(zero), vld1q_s32(head->sums + 4 * i));
        float32x4_t value = vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(head->scale + 4 * i));
        value = vfmaq_f32(vld1q_f32(head->bias + 4 * i), value, vdupq_n_f32(row_scale));
        lanes.v[i] = activation == SRI_GELU ? sri_gelu4(value) : value;
    }
    sri_store_lanes(y, columns, lanes);
}

#endif
