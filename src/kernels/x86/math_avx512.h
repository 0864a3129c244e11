/*
 * math_avx512.h - what the AVX-512 kernels share: exp, gelu, the sum of 16 lanes, masks of a tail.
 * The operations and their order are those of ref.c.
 */
#ifndef SRI_MATH_AVX512_H
#define SRI_MATH_AVX512_H

#include "kernels/kernels_int.h"

#include <immintrin.h>

#define SRI_INLINE static inline __attribute__((always_inline))

/* Lanes 0 to count - 1; all 16 from count 16 on. */
SRI_INLINE __mmask16 sri_mask16(size_t count) {
    return count >= 16 ? (__mmask16)0xFFFF : (__mmask16)((1u << count) - 1);
}

/* The first 16 of `left` floats, zeros where there are fewer; and their storing. With a branch,
 * since what a masked store has written cannot be loaded again until it has left for the cache. */
SRI_INLINE __m512 sri_load16(const float *x, size_t left) {
    return left >= 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(sri_mask16(left), x);
}

SRI_INLINE void sri_store16(float *x, size_t left, __m512 value) {
    if (left >= 16)
        _mm512_storeu_ps(x, value);
    else
        _mm512_mask_storeu_ps(x, sri_mask16(left), value);
}

/* Stores what of the sixteen columns from 16 * part on is among the first `columns` of y. */
SRI_INLINE void sri_store_part(float *y, size_t columns, int part, __m512 value) {
    size_t first = 16 * (size_t)part;
    if (columns > first) sri_store16(y + first, columns - first, value);
}

SRI_INLINE float sri_sum16(__m512 lanes) {
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

SRI_INLINE __m512 sri_exp16(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(EXP_LOWEST));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(EXP_LOG2E)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(EXP_LN2_HIGH), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(EXP_LN2_LOW), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_4), r, _mm512_set1_ps(EXP_3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_0));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

SRI_INLINE __m512 sri_gelu16(__m512 x) {
    __m512 size = _mm512_abs_ps(x), a = _mm512_min_ps(size, _mm512_set1_ps(GELU_CLAMP));
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(GELU_5), a, _mm512_set1_ps(GELU_4));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(GELU_3));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(GELU_2));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(GELU_1));
    p = _mm512_fmadd_ps(p, a, _mm512_set1_ps(GELU_0));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) p = _mm512_mul_ps(p, p);
    return _mm512_fnmadd_ps(size, p, _mm512_max_ps(x, _mm512_setzero_ps()));
}

/* Applies gelu to y [rows, columns], rows `stride` floats apart. Out of the tiles of the products,
 * so that these keep all their sums in registers. */
static inline void sri_gelu_tile(float *y, size_t rows, size_t columns, size_t stride) {
    for (size_t r = 0; r < rows; r++, y += stride)
        for (size_t i = 0; i < columns; i += 16)
            sri_store16(y + i, columns - i, sri_gelu16(sri_load16(y + i, columns - i)));
}

#endif
