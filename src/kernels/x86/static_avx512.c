/*
 * static_avx512.c - the weighted sum of int8 rows with AVX-512: 256 columns of the sum are kept in
 * sixteen registers while all rows of the list go by; what is left goes by 16 columns.
 */
#include "kernels/x86/math_avx512.h"

/* `parts` times 16 columns from `column` on, the last of them masked; adds their squares to
 * `squares`. */
SRI_INLINE void sum_columns(const int8_t *rows, size_t dim, const sri_weighted_row *list,
                            size_t count, size_t column, const int parts, __mmask16 mask,
                            float *out, __m512 *squares) {
    __m512 sums[16];
    for (int p = 0; p < parts; p++) sums[p] = _mm512_setzero_ps();
    for (size_t i = 0; i < count; i++) {
        const int8_t *row = rows + list[i].row * dim + column;
        __m512 weight = _mm512_set1_ps(list[i].weight);
        for (int p = 0; p < parts; p++) {
            __m128i bytes = _mm_maskz_loadu_epi8(mask, row + 16 * p);
            __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
            sums[p] = _mm512_fmadd_ps(values, weight, sums[p]);
        }
    }
    for (int p = 0; p < parts; p++) {
        _mm512_mask_storeu_ps(out + column + 16 * (size_t)p, mask, sums[p]);
        *squares = _mm512_fmadd_ps(sums[p], sums[p], *squares);
    }
}

static float sum_rows(const int8_t *rows, size_t dim, const sri_weighted_row *list, size_t count,
                      float *out) {
    const __mmask16 all = (__mmask16)0xFFFF;
    __m512 squares = _mm512_setzero_ps();
    size_t column = 0;
    for (; column + 256 <= dim; column += 256)
        sum_columns(rows, dim, list, count, column, 16, all, out, &squares);
    for (; column + 64 <= dim; column += 64)
        sum_columns(rows, dim, list, count, column, 4, all, out, &squares);
    for (; column < dim; column += 16)
        sum_columns(rows, dim, list, count, column, 1, sri_mask16(dim - column), out, &squares);
    return sri_sum16(squares);
}

void sri_kernels_static_avx512(sri_kernels *table) { table->sum_rows = sum_rows; }
