/*
 * scan_avx512.c - the search of an index with AVX-512: tables of 16 sums looked up by vpshufb, 64
 * rows at a time.
 *
 * A register holds one group of 64 rows, not four groups of 16: the table is loaded into all four
 * parts at no cost, and nothing has to be added across them. Two queries go together, since taking
 * patterns apart then serves both. For 128 rows and four groups of both: 12 loads and 48 operations.
 * Rejected: vpopcntq of the query's bit planes (as many operations for a query of 4 bits, which is
 * coarser). Tables of 64, where there is a lookup for them: scan_vnni.c.
 */
#include "kernels/x86/signs_avx512.h"

#include "kernels/dots_rows.inc"

enum { HALF = SRI_SIGN_ROWS / 2 };

/* ---- Signs: sums of up to four groups in bytes, of all groups in words ----------------------- */

SRI_INLINE __m512i look_up(__m512i patterns, const uint8_t *table) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)),
                               patterns);
}

/* Adds four groups, or what is left of them. */
SRI_INLINE void add_groups(const uint8_t *packed, size_t count, const uint8_t *const *tables,
                           const int queries, sri_word_sums sums[2][2]) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low[4], high[4];
    for (size_t i = 0; i < count; i++) {
        __m512i both = _mm512_loadu_si512(packed + i * HALF);
        low[i] = _mm512_and_si512(both, nibble);
        high[i] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    }
    for (int q = 0; q < queries; q++) {
        __m512i first = _mm512_setzero_si512(), second = first;
        for (size_t i = 0; i < count; i++) {
            first = _mm512_add_epi8(first, look_up(low[i], tables[q] + i * 16));
            second = _mm512_add_epi8(second, look_up(high[i], tables[q] + i * 16));
        }
        sri_widen(&sums[q][0], first);
        sri_widen(&sums[q][1], second);
    }
}

/* A block for one or two queries. */
SRI_INLINE void sum_block(const uint8_t *packed, size_t groups, const uint8_t *const *tables,
                          const int queries, uint16_t *const *sums, size_t to) {
    sri_word_sums words[2][2];
    const uint8_t *at[2];
    for (int q = 0; q < queries; q++) {
        at[q] = tables[q];
        words[q][0] = words[q][1] = sri_no_sums();
    }
    for (; groups >= 4; groups -= 4, packed += 4 * HALF) {
        add_groups(packed, 4, at, queries, words);
        for (int q = 0; q < queries; q++) at[q] += 4 * 16;
    }
    if (groups > 0) add_groups(packed, groups, at, queries, words);
    for (int q = 0; q < queries; q++) {
        sri_store_sums(&words[q][0], sums[q] + to);
        sri_store_sums(&words[q][1], sums[q] + to + HALF);
    }
}

static void sum_signs(const uint8_t *packed, size_t blocks, size_t groups,
                      const uint8_t *const *tables, size_t queries, uint16_t *const *sums) {
    for (size_t b = 0; b < blocks; b++, packed += groups * HALF) {
        size_t q = 0, to = b * SRI_SIGN_ROWS;
        for (; q + 2 <= queries; q += 2) sum_block(packed, groups, tables + q, 2, sums + q, to);
        if (q < queries) sum_block(packed, groups, tables + q, 1, sums + q, to);
    }
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

/* Of rows i to i + 15, as far as they are there. */
SRI_INLINE __m512 bounds_at(const sri_bounds *b, size_t i, __mmask16 there) {
    __m512i words = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, b->sums + i));
    __m512 sums = _mm512_fmadd_ps(_mm512_cvtepi32_ps(words), _mm512_set1_ps(b->step),
                                  _mm512_set1_ps(b->offset));
    return _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, b->weights + i), sums,
                           _mm512_maskz_loadu_ps(there, b->bases + i));
}

SRI_INLINE __mmask16 enough(__m512 bounds, __mmask16 there, float least) {
    return _mm512_mask_cmp_ps_mask(there, bounds, _mm512_set1_ps(least), _CMP_GE_OQ);
}

/* Lists what the mask has of rows i to i + 15, of which `there` exist. No more are listed than came
 * before them, so there is room for all that exist. */
SRI_INLINE size_t list(__m512 bounds, __mmask16 mask, size_t i, __mmask16 there, uint32_t *rows,
                       float *found) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)i));
    _mm512_mask_storeu_epi32(rows, there, _mm512_maskz_compress_epi32(mask, places));
    _mm512_mask_storeu_ps(found, there, _mm512_maskz_compress_ps(mask, bounds));
    return (size_t)__builtin_popcount(mask);
}

/* 64 rows at a time, since of most none is listed. */
static size_t pick(const sri_bounds *b, uint32_t *rows, float *found) {
    const __mmask16 all = 0xFFFF;
    size_t count = 0, i = 0;
    for (; i + 64 <= b->n; i += 64) {
        __m512 bounds[4];
        __mmask16 masks[4];
        for (size_t j = 0; j < 4; j++) {
            bounds[j] = bounds_at(b, i + 16 * j, all);
            masks[j] = enough(bounds[j], all, b->least);
        }
        if (_kortestz_mask16_u8(_kor_mask16(masks[0], masks[1]), _kor_mask16(masks[2], masks[3])))
            continue;
        for (size_t j = 0; j < 4; j++)
            count += list(bounds[j], masks[j], i + 16 * j, all, rows + count, found + count);
    }
    for (; i < b->n; i += 16) {
        __mmask16 there = sri_mask16(b->n - i);
        __m512 bounds = bounds_at(b, i, there);
        count +=
            list(bounds, enough(bounds, there, b->least), i, there, rows + count, found + count);
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
    table->signs.sum = sum_signs;
    table->pick = pick;
    table->dots_s8 = dots_s8;
}
