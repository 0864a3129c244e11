/*
 * math_avx2.h - what the AVX2 kernels share: exp, gelu, 16 lanes as a pair of registers, sums of
 * lanes, and the loading of a tail. The operations and their order are those of ref.c.
 */
#ifndef SRI_MATH_AVX2_H
#define SRI_MATH_AVX2_H

#include "kernels/kernels_int.h"

#include <immintrin.h>
#include <string.h>

#define SRI_INLINE static inline __attribute__((always_inline))

/* Lanes 0 to 7 and 8 to 15. */
typedef struct sri_lanes {
    __m256 low, high;
} sri_lanes;

SRI_INLINE sri_lanes sri_load_lanes(const float *x) {
    return (sri_lanes){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)};
}

/* The first `count` (at most 16) floats, then zeros. */
SRI_INLINE sri_lanes sri_load_tail(const float *x, size_t count) {
    float copy[16] = {0};
    memcpy(copy, x, count * sizeof *x);
    return sri_load_lanes(copy);
}

SRI_INLINE float sri_sum8(__m256 eight) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

SRI_INLINE int32_t sri_sum8_s32(__m256i sums) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

SRI_INLINE float sri_sum_lanes(sri_lanes lanes) {
    return sri_sum8(_mm256_add_ps(lanes.low, lanes.high));
}

SRI_INLINE __m256 sri_exp8(__m256 x) {
    x = _mm256_max_ps(x, _mm256_set1_ps(EXP_LOWEST));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(EXP_LOG2E)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(EXP_LN2_HIGH), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(EXP_LN2_LOW), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_4), r, _mm256_set1_ps(EXP_3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_0));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    __m256i power =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

SRI_INLINE __m256 sri_gelu8(__m256 x) {
    __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    __m256 a = _mm256_min_ps(size, _mm256_set1_ps(GELU_CLAMP));
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(GELU_5), a, _mm256_set1_ps(GELU_4));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(GELU_3));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(GELU_2));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(GELU_1));
    p = _mm256_fmadd_ps(p, a, _mm256_set1_ps(GELU_0));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) p = _mm256_mul_ps(p, p);
    return _mm256_fnmadd_ps(size, p, _mm256_max_ps(x, _mm256_setzero_ps()));
}

/* Applies gelu to y [rows, columns], rows `stride` floats apart. Out of the tiles of the products,
 * so that these keep all their sums in registers. */
static inline void sri_gelu_rows(float *y, size_t rows, size_t columns, size_t stride) {
    for (size_t r = 0; r < rows; r++, y += stride) {
        size_t i = 0;
        for (; i + 8 <= columns; i += 8) _mm256_storeu_ps(y + i, sri_gelu8(_mm256_loadu_ps(y + i)));
        if (i == columns) continue;
        float rest[8] = {0};
        memcpy(rest, y + i, (columns - i) * sizeof *y);
        _mm256_storeu_ps(rest, sri_gelu8(_mm256_loadu_ps(rest)));
        memcpy(y + i, rest, (columns - i) * sizeof *y);
    }
}

#endif
