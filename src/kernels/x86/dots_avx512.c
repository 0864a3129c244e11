/*
 * dots_avx512.c - dot products of queries and vectors with AVX-512, in tiles of 4 queries by 4
 * vectors, so that a load serves four multiplications; single queries go by 4 vectors.
 */
#include "kernels/x86/math_avx512.h"

SRI_INLINE void tile(const float *queries, const int query_count, const float *vectors,
                     const int vector_count, size_t dim, float *out, size_t n) {
    __m512 sums[4][4];
    for (int q = 0; q < query_count; q++)
        for (int v = 0; v < vector_count; v++) sums[q][v] = _mm512_setzero_ps();
    for (size_t k = 0; k < dim; k += 16) {
        __mmask16 mask = sri_mask16(dim - k);
        __m512 b[4];
        for (int v = 0; v < vector_count; v++)
            b[v] = _mm512_maskz_loadu_ps(mask, vectors + (size_t)v * dim + k);
        for (int q = 0; q < query_count; q++) {
            __m512 a = _mm512_maskz_loadu_ps(mask, queries + (size_t)q * dim + k);
            for (int v = 0; v < vector_count; v++)
                sums[q][v] = _mm512_fmadd_ps(a, b[v], sums[q][v]);
        }
    }
    for (int q = 0; q < query_count; q++)
        for (int v = 0; v < vector_count; v++)
            out[(size_t)q * n + (size_t)v] = sri_sum16(sums[q][v]);
}

static void dots(const float *queries, size_t query_count, const float *vectors, size_t n,
                 size_t dim, float *out) {
    size_t fours = n / 4 * 4, q = 0;
    for (; q + 4 <= query_count; q += 4) {
        const float *a = queries + q * dim;
        for (size_t i = 0; i < fours; i += 4)
            tile(a, 4, vectors + i * dim, 4, dim, out + q * n + i, n);
        for (size_t i = fours; i < n; i++)
            tile(a, 4, vectors + i * dim, 1, dim, out + q * n + i, n);
    }
    for (; q < query_count; q++) {
        const float *a = queries + q * dim;
        for (size_t i = 0; i < fours; i += 4)
            tile(a, 1, vectors + i * dim, 4, dim, out + q * n + i, n);
        for (size_t i = fours; i < n; i++)
            tile(a, 1, vectors + i * dim, 1, dim, out + q * n + i, n);
    }
}

void sri_kernels_dots_avx512(sri_kernels *table) { table->dots = dots; }
