/*
 * scan_vnni.c - the search of an index on CPUs with AVX-512 VNNI and VBMI.
 *
 * Signs: vpermb looks 64 rows up in a table of 64 sums, so a pattern has six signs, and a row of
 * 384 takes 64 lookups instead of 96. vpermb ignores the two highest bits of a byte; they hold the
 * patterns of every fourth group, two bits each, so that nothing is wasted. Three bytes of 64 rows
 * are taken apart into four groups by five operations, once for up to four queries. Entries are at
 * most 31, so that eight sums fit a byte: coarser than six bits, and still a fifteenth of the error
 * that signs have. Rejected: vpermi2b with tables of 128, which is half as fast.
 *
 * Bytes: vpdpbusd wants one side unsigned, so 128 is added to the rows (by their highest bit) and
 * 128 times the query's sum taken off. Tiles of two queries by four rows.
 */
#include "kernels/x86/signs_avx512.h"

/* ---- Signs ----------------------------------------------------------------------------------- */

enum { PART = 64, QUAD = 4, QUAD_BYTES = 3 * PART, QUAD_TABLES = QUAD * 64, PARTS_AHEAD = 2 };

/* [2 parts of 64 rows, groups / 4, 3 bytes of 64 rows]: groups 4i to 4i + 2 in the lower six bits,
 * group 4i + 3 in the upper two, its lowest bits first. */
static void pack_signs(const uint8_t *patterns, size_t groups, size_t row, uint8_t *block) {
    uint8_t *byte = block + row / PART * (groups / QUAD * QUAD_BYTES) + row % PART;
    for (size_t g = 0; g < groups; g += QUAD)
        for (size_t i = 0; i < 3; i++, byte += PART)
            *byte = (uint8_t)(patterns[g + i] | (patterns[g + 3] >> 2 * i & 3) << 6);
}

/* Four groups of 64 rows; the two highest bits of each byte mean nothing. */
SRI_INLINE void take_apart(const uint8_t *packed, __m512i patterns[4]) {
    const __m512i two = _mm512_set1_epi8(3), four = _mm512_set1_epi8(15);
    enum { WHERE_SET = 0xCA }; /* the second where the first is set, or the third */
    for (size_t i = 0; i < 3; i++) patterns[i] = _mm512_loadu_si512(packed + i * PART);
    __m512i low = _mm512_ternarylogic_epi64(two, _mm512_srli_epi16(patterns[0], 6),
                                            _mm512_srli_epi16(patterns[1], 4), WHERE_SET);
    patterns[3] =
        _mm512_ternarylogic_epi64(four, low, _mm512_srli_epi16(patterns[2], 2), WHERE_SET);
}

SRI_INLINE __m512i look_four_up(const __m512i patterns[4], const uint8_t *tables) {
    __m512i found[4];
    for (size_t i = 0; i < 4; i++)
        found[i] = _mm512_permutexvar_epi8(patterns[i], _mm512_loadu_si512(tables + i * 64));
    return _mm512_add_epi8(_mm512_add_epi8(found[0], found[1]),
                           _mm512_add_epi8(found[2], found[3]));
}

/* 64 rows for up to four queries. What comes so many bytes behind is asked for, since the CPU itself
 * does not look beyond a page. */
SRI_INLINE void sum_part(const uint8_t *packed, size_t quads, const uint8_t *const *tables,
                         const int queries, uint16_t *const *sums, size_t to, size_t ahead) {
    sri_word_sums words[4];
    for (int q = 0; q < queries; q++) words[q] = sri_no_sums();
    size_t at = 0;
    for (; at + 2 <= quads; at += 2, packed += 2 * QUAD_BYTES) {
        __m512i first[4], second[4];
        if (ahead > 0)
            for (size_t i = 0; i < 2 * QUAD_BYTES; i += 64)
                _mm_prefetch((const char *)packed + ahead + i, _MM_HINT_T0);
        take_apart(packed, first);
        take_apart(packed + QUAD_BYTES, second);
        for (int q = 0; q < queries; q++) {
            const uint8_t *table = tables[q] + at * QUAD_TABLES;
            sri_widen(&words[q], _mm512_add_epi8(look_four_up(first, table),
                                                 look_four_up(second, table + QUAD_TABLES)));
        }
    }
    if (at < quads) {
        __m512i last[4];
        take_apart(packed, last);
        for (int q = 0; q < queries; q++)
            sri_widen(&words[q], look_four_up(last, tables[q] + at * QUAD_TABLES));
    }
    for (int q = 0; q < queries; q++) sri_store_sums(&words[q], sums[q] + to);
}

static void sum_signs(const uint8_t *packed, size_t blocks, size_t groups,
                      const uint8_t *const *tables, size_t queries, uint16_t *const *sums) {
    size_t quads = groups / QUAD, rows = blocks * SRI_SIGN_ROWS;
    for (size_t q = 0; q < queries;) {
        size_t some = queries - q >= 4 ? 4 : queries - q >= 2 ? 2 : 1;
        const uint8_t *part = packed;
        size_t ahead = q == 0 ? PARTS_AHEAD * quads * QUAD_BYTES : 0;
        for (size_t row = 0; row < rows; row += PART, part += quads * QUAD_BYTES)
            if (some == 4)
                sum_part(part, quads, tables + q, 4, sums + q, row, ahead);
            else if (some == 2)
                sum_part(part, quads, tables + q, 2, sums + q, row, ahead);
            else
                sum_part(part, quads, tables + q, 1, sums + q, row, ahead);
        q += some;
    }
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

SRI_INLINE __m512i load(const int8_t *from, size_t left) {
    if (left >= 64) return _mm512_loadu_si512(from);
    return _mm512_maskz_loadu_epi8(((__mmask64)1 << left) - 1, from);
}

SRI_INLINE void tile(const int8_t *queries, const int query_count, const int32_t *query_sums,
                     const int8_t *const *rows, const int row_count, size_t dim, int32_t *out,
                     size_t n) {
    const __m512i high = _mm512_set1_epi8((char)0x80);
    __m512i sums[2][4];
    for (int q = 0; q < query_count; q++)
        for (int r = 0; r < row_count; r++) sums[q][r] = _mm512_setzero_si512();
    for (size_t k = 0; k < dim; k += 64) {
        __m512i a[2];
        for (int q = 0; q < query_count; q++) a[q] = load(queries + (size_t)q * dim + k, dim - k);
        for (int r = 0; r < row_count; r++) {
            __m512i b = _mm512_xor_si512(load(rows[r] + k, dim - k), high);
            for (int q = 0; q < query_count; q++)
                sums[q][r] = _mm512_dpbusd_epi32(sums[q][r], b, a[q]);
        }
    }
    for (int q = 0; q < query_count; q++)
        for (int r = 0; r < row_count; r++)
            out[(size_t)q * n + (size_t)r] =
                (int32_t)((uint32_t)_mm512_reduce_add_epi32(sums[q][r]) -
                          128u * (uint32_t)query_sums[q]);
}

SRI_INLINE void dots_of(const int8_t *queries, const int query_count, const int32_t *sums,
                        const int8_t *const *rows, size_t n, size_t dim, int32_t *out) {
    size_t i = 0;
    for (; i + 4 <= n; i += 4) tile(queries, query_count, sums, rows + i, 4, dim, out + i, n);
    for (; i < n; i++) tile(queries, query_count, sums, rows + i, 1, dim, out + i, n);
}

static int32_t sum_of(const int8_t *query, size_t dim) {
    __m512i sum = _mm512_setzero_si512();
    for (size_t k = 0; k < dim; k += 64)
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), load(query + k, dim - k));
    return _mm512_reduce_add_epi32(sum);
}

static void dots_s8(const int8_t *queries, size_t query_count, const int8_t *const *rows, size_t n,
                    size_t dim, int32_t *out) {
    for (size_t q = 0; q < query_count; q += 2) {
        const int8_t *query = queries + q * dim;
        bool two = query_count - q >= 2;
        int32_t sums[2] = {sum_of(query, dim), two ? sum_of(query + dim, dim) : 0};
        if (two)
            dots_of(query, 2, sums, rows, n, dim, out + q * n);
        else
            dots_of(query, 1, sums, rows, n, dim, out + q * n);
    }
}

void sri_kernels_scan_vnni(sri_kernels *table) {
    table->signs =
        (sri_signs){.group = 6, .step = QUAD, .most = 31, .pack = pack_signs, .sum = sum_signs};
    table->dots_s8 = dots_s8;
}
