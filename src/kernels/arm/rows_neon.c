/* rows_neon.c - quantisation and normalisation of rows with NEON; 16 lanes are four registers. */
#include "kernels/arm/math_neon.h"

/* To the nearest integer, ties to even; NaN to 0. */
SRI_INLINE uint16x4_t quantize4(float32x4_t value, float32x4_t inverse, int32x4_t shift) {
    return vqmovun_s32(vqaddq_s32(vcvtnq_s32_f32(vmulq_f32(value, inverse)), shift));
}

static void quantize_row(const float *x, size_t k, uint8_t *q, float *scale, int32_t *zero) {
    float32x4_t low = vdupq_n_f32(0), high = low;
    for (size_t i = 0; i < k; i += 16) {
        sri_lanes value = sri_load_lanes(x + i, k - i);
        for (int part = 0; part < 4; part++) {
            low = vminnmq_f32(low, value.v[part]);
            high = vmaxnmq_f32(high, value.v[part]);
        }
    }
    float factor = sri_quantize_range(vminnmvq_f32(low), vmaxnmvq_f32(high), scale, zero);
    float32x4_t inverse = vdupq_n_f32(factor);
    int32x4_t shift = vdupq_n_s32(*zero);
    for (size_t i = 0; i < k; i += 16) {
        sri_lanes value = sri_load_lanes(x + i, k - i);
        uint16x8_t first = vcombine_u16(quantize4(value.v[0], inverse, shift),
                                        quantize4(value.v[1], inverse, shift));
        uint16x8_t second = vcombine_u16(quantize4(value.v[2], inverse, shift),
                                         quantize4(value.v[3], inverse, shift));
        uint8_t out[16];
        vst1q_u8(out, vcombine_u8(vqmovn_u16(first), vqmovn_u16(second)));
        memcpy(q + i, out, SRI_MIN(k - i, (size_t)16));
    }
}

static void quantize(const float *x, size_t m, size_t k, const sri_quantized *out) {
    for (size_t i = 0; i < m; i++)
        quantize_row(x + i * k, k, out->q + i * out->stride, &out->scale[i], &out->zero[i]);
}

/* Sums the squares of (x - mean); what is beyond the row's end counts as nothing. */
static float sum_squares(const float *x, size_t n, float mean) {
    float32x4_t middle = vdupq_n_f32(mean);
    sri_lanes lanes = sri_zero_lanes();
    for (size_t i = 0; i < n; i += 16) {
        sri_lanes value = sri_load_lanes(x + i, n - i);
        for (int part = 0; part < 4; part++) value.v[part] = vsubq_f32(value.v[part], middle);
        if (n - i < 16) {
            float copy[16];
            sri_store_lanes(copy, 16, value);
            value = sri_load_lanes(copy, n - i);
        }
        for (int part = 0; part < 4; part++)
            lanes.v[part] = vfmaq_f32(lanes.v[part], value.v[part], value.v[part]);
    }
    return sri_sum_lanes(lanes);
}

static void add_norm_row(float *x, const float *y, size_t n, const sri_norm *norm) {
    sri_lanes lanes = sri_zero_lanes();
    for (size_t i = 0; i < n; i += 16) {
        sri_lanes sum = sri_load_lanes(x + i, n - i), b = sri_load_lanes(y + i, n - i);
        for (int part = 0; part < 4; part++) {
            sum.v[part] = vaddq_f32(sum.v[part], b.v[part]);
            lanes.v[part] = vaddq_f32(lanes.v[part], sum.v[part]);
        }
        sri_store_lanes(x + i, n - i, sum);
    }
    float mean = sri_sum_lanes(lanes) / (float)n;
    float scale = 1.0f / sqrtf(sum_squares(x, n, mean) / (float)n + norm->epsilon);
    float32x4_t middle = vdupq_n_f32(mean), inverse = vdupq_n_f32(scale);
    for (size_t i = 0; i < n; i += 16) {
        sri_lanes value = sri_load_lanes(x + i, n - i);
        sri_lanes g = sri_load_lanes(norm->gamma + i, n - i);
        sri_lanes b = sri_load_lanes(norm->beta + i, n - i);
        for (int part = 0; part < 4; part++) {
            float32x4_t scaled = vmulq_f32(vsubq_f32(value.v[part], middle), inverse);
            value.v[part] = vfmaq_f32(b.v[part], scaled, g.v[part]);
        }
        sri_store_lanes(x + i, n - i, value);
    }
}

static void add_norm(float *x, const float *y, size_t m, size_t n, const sri_norm *norm,
                     const sri_quantized *out) {
    for (size_t i = 0; i < m; i++) {
        add_norm_row(x + i * n, y + i * n, n, norm);
        if (out != NULL)
            quantize_row(x + i * n, n, out->q + i * out->stride, &out->scale[i], &out->zero[i]);
    }
}

void sri_kernels_rows_neon(sri_kernels *table) {
    table->quantize = quantize;
    table->add_norm = add_norm;
}
