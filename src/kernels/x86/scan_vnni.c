/*
 * scan_vnni.c - dot products of bytes with AVX-512 VNNI: vpdpbusd wants one side unsigned, so 128
 * is added to the rows (by their highest bit) and 128 times the query's sum taken off. Tiles of two
 * queries by four rows.
 */
#include "kernels/x86/math_avx512.h"

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

void sri_kernels_scan_vnni(sri_kernels *table) { table->dots_s8 = dots_s8; }
