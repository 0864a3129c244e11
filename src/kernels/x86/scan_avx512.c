/*
 * scan_avx512.c - the search of an index with AVX-512: tables of 16 sums looked up by vpshufb, 64
 * rows at a time.
 *
 * A register holds one group of 64 rows, not four groups of 16: the table is loaded into all four
 * parts at no cost, and nothing has to be added across them. For 128 rows and four groups: 8 loads
 * and 32 operations. Rejected: vpopcntq of the query's bit planes (as many operations for a query
 * of 4 bits, which is coarser), and vpermb with tables of 64 (needs VBMI, and 6 of 8 bits of
 * memory).
 */
#include "kernels/x86/math_avx512.h"

#include "kernels/dots_rows.inc"

enum { HALF = SRI_BIT_ROWS / 2 };

/* ---- Bits: sums of up to four groups in bytes, of all groups in words ------------------------ */

typedef struct word_sums {
    __m512i both, odd; /* words: even rows' sums and 256 times the odd ones'; odd rows' sums */
} word_sums;

SRI_INLINE void widen(word_sums *sums, __m512i bytes) {
    sums->both = _mm512_add_epi16(sums->both, bytes);
    sums->odd = _mm512_add_epi16(sums->odd, _mm512_srli_epi16(bytes, 8));
}

SRI_INLINE void store_sums(const word_sums *sums, uint16_t *to) {
    __m512i even = _mm512_sub_epi16(sums->both, _mm512_slli_epi16(sums->odd, 8));
    __m512i low = _mm512_unpacklo_epi16(even, sums->odd);
    __m512i high = _mm512_unpackhi_epi16(even, sums->odd);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(to + 32, _mm512_permutex2var_epi64(low, second, high));
}

SRI_INLINE void look_up(const uint8_t *bits, const uint8_t *tables, size_t g, __m512i *low,
                        __m512i *high) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i codes = _mm512_loadu_si512(bits + g * HALF);
    __m512i table =
        _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(tables + g * SRI_BIT_TABLE)));
    __m512i upper = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
    *low = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, nibble));
    *high = _mm512_shuffle_epi8(table, upper);
}

static void sum_block(const uint8_t *bits, size_t groups, const uint8_t *tables, uint16_t *sums) {
    word_sums first = {_mm512_setzero_si512(), _mm512_setzero_si512()}, second = first;
    size_t g = 0;
    for (; g + 4 <= groups; g += 4) {
        __m512i low[4], high[4];
        for (size_t i = 0; i < 4; i++) look_up(bits, tables, g + i, &low[i], &high[i]);
        widen(&first,
              _mm512_add_epi8(_mm512_add_epi8(low[0], low[1]), _mm512_add_epi8(low[2], low[3])));
        widen(&second, _mm512_add_epi8(_mm512_add_epi8(high[0], high[1]),
                                       _mm512_add_epi8(high[2], high[3])));
    }
    for (; g < groups; g++) {
        __m512i low, high;
        look_up(bits, tables, g, &low, &high);
        widen(&first, low);
        widen(&second, high);
    }
    store_sums(&first, sums);
    store_sums(&second, sums + HALF);
}

static void sum_bits(const uint8_t *bits, size_t blocks, size_t groups, const uint8_t *tables,
                     uint16_t *sums) {
    for (size_t b = 0; b < blocks; b++)
        sum_block(bits + b * groups * HALF, groups, tables, sums + b * SRI_BIT_ROWS);
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

static size_t pick(const sri_bounds *b, uint32_t *rows, float *found) {
    size_t count = 0;
    const __m512 step = _mm512_set1_ps(b->step), offset = _mm512_set1_ps(b->offset);
    const __m512 least = _mm512_set1_ps(b->least);
    for (size_t i = 0; i < b->n; i += 16) {
        __mmask16 there = sri_mask16(b->n - i);
        __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, b->sums + i));
        __m512 bound = _mm512_fmadd_ps(_mm512_cvtepi32_ps(words), step, offset);
        bound = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, b->weights + i), bound,
                                _mm512_maskz_loadu_ps(there, b->bases + i));
        unsigned mask = _mm512_mask_cmp_ps_mask(there, bound, least, _CMP_GE_OQ);
        if (mask == 0) continue;
        float bounds[16];
        _mm512_storeu_ps(bounds, bound);
        for (; mask != 0; mask &= mask - 1) {
            unsigned lane = (unsigned)__builtin_ctz(mask);
            rows[count] = (uint32_t)(i + lane);
            found[count++] = bounds[lane];
        }
    }
    return count;
}

/* ---- Bytes, multiplied as words -------------------------------------------------------------- */

SRI_INLINE __m512i widen_bytes(const int8_t *from, size_t left) {
    if (left >= 32) return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8((1u << left) - 1, from));
}

SRI_INLINE void dot_row(const int8_t *queries, const int query_count, const int8_t *row, size_t dim,
                        int32_t *out, size_t n) {
    __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t k = 0; k < dim; k += 32) {
        __m512i b = widen_bytes(row + k, dim - k);
        for (int q = 0; q < query_count; q++) {
            __m512i a = widen_bytes(queries + (size_t)q * dim + k, dim - k);
            sums[q] = _mm512_add_epi32(sums[q], _mm512_madd_epi16(a, b));
        }
    }
    for (int q = 0; q < query_count; q++) out[(size_t)q * n] = _mm512_reduce_add_epi32(sums[q]);
}

void sri_kernels_scan_avx512(sri_kernels *table) {
    table->sum_bits = sum_bits;
    table->pick = pick;
    table->dots_s8 = dots_s8;
}
