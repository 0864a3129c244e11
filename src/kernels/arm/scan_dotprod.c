/* scan_dotprod.c - dot products of bytes by sdot, up to two queries by a row. */
#include "kernels/arm/math_neon.h"

#include "kernels/dots_rows.inc"

SRI_INLINE void dot_row(const int8_t *queries, const int query_count, const int8_t *row, size_t dim,
                        int32_t *out, size_t n) {
    int32x4_t sums[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    size_t k = 0;
    for (; k + 16 <= dim; k += 16) {
        int8x16_t b = vld1q_s8(row + k);
        for (int q = 0; q < query_count; q++)
            sums[q] = vdotq_s32(sums[q], vld1q_s8(queries + (size_t)q * dim + k), b);
    }
    for (int q = 0; q < query_count; q++) {
        int32_t sum = vaddvq_s32(sums[q]);
        for (size_t i = k; i < dim; i++) sum += queries[(size_t)q * dim + i] * row[i];
        out[(size_t)q * n] = sum;
    }
}

void sri_kernels_scan_dotprod(sri_kernels *table) { table->dots_s8 = dots_s8; }
