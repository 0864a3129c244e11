/*
 * attend_avx2.c - attention of one head with AVX2, in blocks of rows as attend_rows.inc has it.
 */
#include "kernels/x86/math_avx2.h"

enum { ROWS = 4 };

#include "kernels/attend_rows.inc"

static void score(const sri_attention *a, const float *const q[ROWS], const float *keys,
                  size_t padded, float *scores) {
    __m256 scale = _mm256_set1_ps(a->scale);
    for (size_t j = 0; j < padded; j += 8) {
        __m256 sums[ROWS];
        for (int r = 0; r < ROWS; r++) sums[r] = _mm256_setzero_ps();
        for (size_t d = 0; d < a->width; d++) {
            __m256 key = _mm256_loadu_ps(keys + d * padded + j);
            for (int r = 0; r < ROWS; r++)
                sums[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(q[r] + d), key, sums[r]);
        }
        for (int r = 0; r < ROWS; r++)
            _mm256_storeu_ps(scores + (size_t)r * padded + j, _mm256_mul_ps(sums[r], scale));
    }
}

static float soften(float *scores, size_t t, size_t padded) {
    float highest = scores[0];
    for (size_t j = 1; j < t; j++) highest = scores[j] > highest ? scores[j] : highest;
    __m256 most = _mm256_set1_ps(highest);
    sri_lanes lanes = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t j = 0; j < padded; j += 8)
        _mm256_storeu_ps(scores + j, sri_exp8(_mm256_sub_ps(_mm256_loadu_ps(scores + j), most)));
    for (size_t j = t; j < padded; j++) scores[j] = 0;
    for (size_t j = 0; j < padded; j += 16) {
        sri_lanes weight = sri_load_lanes(scores + j);
        lanes.low = _mm256_add_ps(lanes.low, weight.low);
        lanes.high = _mm256_add_ps(lanes.high, weight.high);
    }
    return 1.0f / sri_sum_lanes(lanes);
}

static void weigh(const sri_attention *a, const float *weights, size_t padded,
                  const float inverse[ROWS], size_t row, int rows) {
    size_t d = 0;
    for (; d + 8 <= a->width; d += 8) {
        __m256 sums[ROWS];
        for (int r = 0; r < ROWS; r++) sums[r] = _mm256_setzero_ps();
        for (size_t j = 0; j < a->t; j++) {
            __m256 value = _mm256_loadu_ps(a->v + j * a->stride + d);
            for (int r = 0; r < ROWS; r++)
                sums[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(weights + (size_t)r * padded + j),
                                          value, sums[r]);
        }
        for (int r = 0; r < rows; r++)
            _mm256_storeu_ps(a->out + (row + (size_t)r) * a->out_stride + d,
                             _mm256_mul_ps(sums[r], _mm256_set1_ps(inverse[r])));
    }
    weigh_tail(a, d, weights, padded, inverse, row, rows);
}

void sri_kernels_attend_avx2(sri_kernels *table) { table->attend = attend; }
