/* rows_avx2.c - quantisation and normalisation of rows with AVX2; 16 lanes are a pair of registers.
 * */
#include "kernels/x86/math_avx2.h"

SRI_INLINE sri_lanes load(const float *x, size_t left) {
    return left >= 16 ? sri_load_lanes(x) : sri_load_tail(x, left);
}

SRI_INLINE void store(float *x, size_t left, sri_lanes value) {
    float out[16];
    _mm256_storeu_ps(left >= 16 ? x : out, value.low);
    _mm256_storeu_ps(left >= 16 ? x + 8 : out + 8, value.high);
    if (left < 16) memcpy(x, out, left * sizeof *x);
}

static float lowest(__m256 values) {
    float each[8];
    _mm256_storeu_ps(each, values);
    for (int i = 1; i < 8; i++) each[0] = fminf(each[0], each[i]);
    return each[0];
}

SRI_INLINE __m128i quantize8(__m256 value, __m256 inverse, __m256i shift) {
    __m256i rounded = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(value, inverse)), shift);
    __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    return _mm_packus_epi16(words, words);
}

static void quantize_row(const float *x, size_t k, uint8_t *q, float *scale, int32_t *zero) {
    __m256 low = _mm256_setzero_ps(), negated_high = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i += 16) {
        sri_lanes value = load(x + i, k - i);
        low = _mm256_min_ps(low, _mm256_min_ps(value.low, value.high));
        __m256 high = _mm256_max_ps(value.low, value.high);
        negated_high = _mm256_min_ps(negated_high, _mm256_sub_ps(_mm256_setzero_ps(), high));
    }
    __m256 inverse =
        _mm256_set1_ps(sri_quantize_range(lowest(low), -lowest(negated_high), scale, zero));
    __m256i shift = _mm256_set1_epi32(*zero);
    for (size_t i = 0; i < k; i += 16) {
        sri_lanes value = load(x + i, k - i);
        uint8_t out[16];
        _mm_storel_epi64((__m128i *)out, quantize8(value.low, inverse, shift));
        _mm_storel_epi64((__m128i *)(out + 8), quantize8(value.high, inverse, shift));
        memcpy(q + i, out, SRI_MIN(k - i, (size_t)16));
    }
}

static void quantize(const float *x, size_t m, size_t k, const sri_quantized *out) {
    for (size_t i = 0; i < m; i++)
        quantize_row(x + i * k, k, out->q + i * out->stride, &out->scale[i], &out->zero[i]);
}

/* Zero in the lanes from `left` on. */
SRI_INLINE sri_lanes cut(sri_lanes value, size_t left) {
    if (left >= 16) return value;
    float out[16];
    _mm256_storeu_ps(out, value.low);
    _mm256_storeu_ps(out + 8, value.high);
    return sri_load_tail(out, left);
}

static void add_norm_row(float *x, const float *y, size_t n, const sri_norm *norm) {
    sri_lanes lanes = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t i = 0; i < n; i += 16) {
        sri_lanes a = load(x + i, n - i), b = load(y + i, n - i);
        sri_lanes sum = {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
        store(x + i, n - i, sum);
        lanes.low = _mm256_add_ps(lanes.low, sum.low);
        lanes.high = _mm256_add_ps(lanes.high, sum.high);
    }
    __m256 mean = _mm256_set1_ps(sri_sum_lanes(lanes) / (float)n);
    lanes.low = lanes.high = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        sri_lanes value = load(x + i, n - i);
        sri_lanes centred = {_mm256_sub_ps(value.low, mean), _mm256_sub_ps(value.high, mean)};
        centred = cut(centred, n - i);
        lanes.low = _mm256_fmadd_ps(centred.low, centred.low, lanes.low);
        lanes.high = _mm256_fmadd_ps(centred.high, centred.high, lanes.high);
    }
    __m256 inverse = _mm256_set1_ps(1.0f / sqrtf(sri_sum_lanes(lanes) / (float)n + norm->epsilon));
    for (size_t i = 0; i < n; i += 16) {
        sri_lanes value = load(x + i, n - i), g = load(norm->gamma + i, n - i),
                  b = load(norm->beta + i, n - i);
        value.low =
            _mm256_fmadd_ps(_mm256_mul_ps(_mm256_sub_ps(value.low, mean), inverse), g.low, b.low);
        value.high = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_sub_ps(value.high, mean), inverse),
                                     g.high, b.high);
        store(x + i, n - i, value);
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

void sri_kernels_rows_avx2(sri_kernels *table) {
    table->quantize = quantize;
    table->add_norm = add_norm;
}
