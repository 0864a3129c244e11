/*
 * dots_neon.c - dot products of queries and vectors with NEON, in tiles of 2 queries by 2 vectors
 * of four registers each; what is left goes one by one.
 */
#include "kernels/arm/math_neon.h"

SRI_INLINE void tile(const float *queries, const int query_count, const float *vectors,
                     const int vector_count, size_t dim, float *out, size_t n) {
    sri_lanes sums[2][2] = {{sri_zero_lanes(), sri_zero_lanes()},
                            {sri_zero_lanes(), sri_zero_lanes()}};
    for (size_t k = 0; k < dim; k += 16) {
        sri_lanes b[2];
        for (int v = 0; v < vector_count; v++)
            b[v] = sri_load_lanes(vectors + (size_t)v * dim + k, dim - k);
        for (int q = 0; q < query_count; q++) {
            sri_lanes a = sri_load_lanes(queries + (size_t)q * dim + k, dim - k);
            for (int v = 0; v < vector_count; v++)
                for (int part = 0; part < 4; part++)
                    sums[q][v].v[part] = vfmaq_f32(sums[q][v].v[part], a.v[part], b[v].v[part]);
        }
    }
    for (int q = 0; q < query_count; q++)
        for (int v = 0; v < vector_count; v++)
            out[(size_t)q * n + (size_t)v] = sri_sum_lanes(sums[q][v]);
}

static void dots(const float *queries, size_t query_count, const float *vectors, size_t n,
                 size_t dim, float *out) {
    size_t twos = n / 2 * 2, q = 0;
    for (; q + 2 <= query_count; q += 2) {
        const float *a = queries + q * dim;
        for (size_t i = 0; i < twos; i += 2)
            tile(a, 2, vectors + i * dim, 2, dim, out + q * n + i, n);
        if (twos < n) tile(a, 2, vectors + twos * dim, 1, dim, out + q * n + twos, n);
    }
    for (; q < query_count; q++) {
        const float *a = queries + q * dim;
        for (size_t i = 0; i < twos; i += 2)
            tile(a, 1, vectors + i * dim, 2, dim, out + q * n + i, n);
        if (twos < n) tile(a, 1, vectors + twos * dim, 1, dim, out + q * n + twos, n);
    }
}

void sri_kernels_dots_neon(sri_kernels *table) { table->dots = dots; }
