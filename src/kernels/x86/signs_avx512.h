/*
 * signs_avx512.h - what the AVX-512 kernels that sum signs share: sums of 64 rows, from bytes to
 * words.
 */
#ifndef SRI_SIGNS_AVX512_H
#define SRI_SIGNS_AVX512_H

#include "kernels/x86/math_avx512.h"

typedef struct sri_word_sums {
    __m512i both, odd; /* words: even rows' sums and 256 times the odd ones'; odd rows' sums */
} sri_word_sums;

SRI_INLINE sri_word_sums sri_no_sums(void) {
    return (sri_word_sums){_mm512_setzero_si512(), _mm512_setzero_si512()};
}

/* Adds a byte for each row. */
SRI_INLINE void sri_widen(sri_word_sums *sums, __m512i bytes) {
    sums->both = _mm512_add_epi16(sums->both, bytes);
    sums->odd = _mm512_add_epi16(sums->odd, _mm512_srli_epi16(bytes, 8));
}

SRI_INLINE void sri_store_sums(const sri_word_sums *sums, uint16_t *to) {
    __m512i even = _mm512_sub_epi16(sums->both, _mm512_slli_epi16(sums->odd, 8));
    __m512i low = _mm512_unpacklo_epi16(even, sums->odd);
    __m512i high = _mm512_unpackhi_epi16(even, sums->odd);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi64(low, second, high));
}

#endif
