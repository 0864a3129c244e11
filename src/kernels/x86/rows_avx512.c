/*
 * rows_avx512.c - quantisation and normalisation of rows with AVX-512.
 *
 * The sums of a row wait for one another, and so do its extremes; four rows go together, so that
 * their waits overlap. What is left goes by one.
 */
#include "kernels/x86/math_avx512.h"

enum { ROWS = 4 };

#define EACH_ROW _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++)

/* The quantisation of `rows` rows of x [.., k] whose extremes, 0 among them, are known; rows from
 * `first` of `out`. */
SRI_INLINE void store_rows(const float *x, size_t k, const int rows, const __m512 low[ROWS],
                           const __m512 high[ROWS], const sri_quantized *out, size_t first) {
    __m512 inverse[ROWS];
    __m512i shift[ROWS];
    EACH_ROW {
        float least = _mm512_reduce_min_ps(low[r]), most = _mm512_reduce_max_ps(high[r]);
        size_t row = first + (size_t)r;
        inverse[r] =
            _mm512_set1_ps(sri_quantize_range(least, most, &out->scale[row], &out->zero[row]));
        shift[r] = _mm512_set1_epi32(out->zero[row]);
    }
    uint8_t *q = out->q + first * out->stride;
    for (size_t i = 0; i < k; i += 16) {
        __mmask16 mask = sri_mask16(k - i);
        EACH_ROW {
            __m512 value = sri_load16(x + (size_t)r * k + i, k - i);
            __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(value, inverse[r]));
            rounded = _mm512_max_epi32(_mm512_add_epi32(rounded, shift[r]), _mm512_setzero_si512());
            _mm_mask_storeu_epi8(q + (size_t)r * out->stride + i, mask,
                                 _mm512_cvtusepi32_epi8(rounded));
        }
    }
}

SRI_INLINE void quantize_rows(const float *x, size_t k, const int rows, const sri_quantized *out,
                              size_t first) {
    __m512 low[ROWS], high[ROWS];
    EACH_ROW low[r] = high[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < k; i += 16) {
        EACH_ROW {
            __m512 value = sri_load16(x + (size_t)r * k + i, k - i);
            low[r] = _mm512_min_ps(low[r], value);
            high[r] = _mm512_max_ps(high[r], value);
        }
    }
    store_rows(x, k, rows, low, high, out, first);
}

static void quantize(const float *x, size_t m, size_t k, const sri_quantized *out) {
    size_t i = 0;
    for (; i + ROWS <= m; i += ROWS) quantize_rows(x + i * k, k, ROWS, out, i);
    for (; i < m; i++) quantize_rows(x + i * k, k, 1, out, i);
}

/* x += y; returns the means in every lane of `mean`. */
SRI_INLINE void add_rows(float *x, const float *y, size_t n, const int rows, __m512 mean[ROWS]) {
    __m512 lanes[ROWS];
    EACH_ROW lanes[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        EACH_ROW {
            size_t at = (size_t)r * n + i;
            __m512 sum = _mm512_add_ps(sri_load16(x + at, n - i), sri_load16(y + at, n - i));
            sri_store16(x + at, n - i, sum);
            lanes[r] = _mm512_add_ps(lanes[r], sum);
        }
    }
    EACH_ROW mean[r] = _mm512_set1_ps(sri_sum16(lanes[r]) / (float)n);
}

SRI_INLINE void deviations(const float *x, size_t n, const int rows, const __m512 mean[ROWS],
                           float epsilon, __m512 inverse[ROWS]) {
    __m512 lanes[ROWS];
    EACH_ROW lanes[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        EACH_ROW {
            __m512 value = sri_load16(x + (size_t)r * n + i, n - i);
            __m512 centred = _mm512_maskz_sub_ps(sri_mask16(n - i), value, mean[r]);
            lanes[r] = _mm512_fmadd_ps(centred, centred, lanes[r]);
        }
    }
    EACH_ROW inverse[r] = _mm512_set1_ps(1.0f / sqrtf(sri_sum16(lanes[r]) / (float)n + epsilon));
}

SRI_INLINE void norm_rows(float *x, const float *y, size_t n, const int rows, const sri_norm *norm,
                          const sri_quantized *out, size_t first) {
    __m512 mean[ROWS], inverse[ROWS], low[ROWS], high[ROWS];
    add_rows(x, y, n, rows, mean);
    deviations(x, n, rows, mean, norm->epsilon, inverse);
    EACH_ROW low[r] = high[r] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __m512 gamma = sri_load16(norm->gamma + i, n - i);
        __m512 beta = sri_load16(norm->beta + i, n - i);
        EACH_ROW {
            __m512 value = sri_load16(x + (size_t)r * n + i, n - i);
            value = _mm512_mul_ps(_mm512_sub_ps(value, mean[r]), inverse[r]);
            value = _mm512_fmadd_ps(value, gamma, beta);
            sri_store16(x + (size_t)r * n + i, n - i, value);
            low[r] = _mm512_min_ps(low[r], value);
            high[r] = _mm512_max_ps(high[r], value);
        }
    }
    if (out != NULL) store_rows(x, n, rows, low, high, out, first);
}

static void add_norm(float *x, const float *y, size_t m, size_t n, const sri_norm *norm,
                     const sri_quantized *out) {
    size_t i = 0;
    for (; i + ROWS <= m; i += ROWS) norm_rows(x + i * n, y + i * n, n, ROWS, norm, out, i);
    for (; i < m; i++) norm_rows(x + i * n, y + i * n, n, 1, norm, out, i);
}

void sri_kernels_rows_avx512(sri_kernels *table) {
    table->quantize = quantize;
    table->add_norm = add_norm;
}
