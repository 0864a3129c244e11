/* rows_avx512.c - quantisation and normalisation of rows with AVX-512. */
#include "kernels/x86/math_avx512.h"

static void quantize_row(const float *x, size_t k, uint8_t *q, float *scale, int32_t *zero) {
    __m512 low = _mm512_setzero_ps(), high = _mm512_setzero_ps();
    for (size_t i = 0; i < k; i += 16) {
        __m512 value = _mm512_maskz_loadu_ps(sri_mask16(k - i), x + i);
        low = _mm512_min_ps(low, value);
        high = _mm512_max_ps(high, value);
    }
    float factor =
        sri_quantize_range(_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high), scale, zero);
    __m512 inverse = _mm512_set1_ps(factor);
    __m512i shift = _mm512_set1_epi32(*zero);
    for (size_t i = 0; i < k; i += 16) {
        __mmask16 mask = sri_mask16(k - i);
        __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), inverse);
        __m512i rounded = _mm512_add_epi32(_mm512_cvtps_epi32(value), shift);
        rounded = _mm512_max_epi32(rounded, _mm512_setzero_si512());
        _mm512_mask_cvtusepi32_storeu_epi8(q + i, mask, rounded);
    }
}

static void quantize(const float *x, size_t m, size_t k, const sri_quantized *out) {
    for (size_t i = 0; i < m; i++)
        quantize_row(x + i * k, k, out->q + i * out->stride, &out->scale[i], &out->zero[i]);
}

static void add_norm_row(float *x, const float *y, size_t n, const float *gamma, const float *beta,
                         float epsilon) {
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = sri_mask16(n - i);
        __m512 sum =
            _mm512_add_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_maskz_loadu_ps(mask, y + i));
        _mm512_mask_storeu_ps(x + i, mask, sum);
        lanes = _mm512_add_ps(lanes, sum);
    }
    __m512 mean = _mm512_set1_ps(sri_sum16(lanes) / (float)n);
    lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = sri_mask16(n - i);
        __m512 centred = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, x + i), mean);
        lanes = _mm512_fmadd_ps(centred, centred, lanes);
    }
    __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(sri_sum16(lanes) / (float)n + epsilon));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = sri_mask16(n - i);
        __m512 scaled =
            _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, x + i), mean), inverse);
        scaled = _mm512_fmadd_ps(scaled, _mm512_maskz_loadu_ps(mask, gamma + i),
                                 _mm512_maskz_loadu_ps(mask, beta + i));
        _mm512_mask_storeu_ps(x + i, mask, scaled);
    }
}

static void add_norm(float *x, const float *y, size_t m, size_t n, const float *gamma,
                     const float *beta, float epsilon) {
    for (size_t i = 0; i < m; i++) add_norm_row(x + i * n, y + i * n, n, gamma, beta, epsilon);
}

void sri_kernels_rows_avx512(sri_kernels *table) {
    table->quantize = quantize;
    table->add_norm = add_norm;
}
