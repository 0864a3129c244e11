/*
 * static_avx2.c - the weighted sum of int8 rows with AVX2: 64 columns of the sum are kept in eight
 * registers while all rows of the list go by; what is left goes by 16 columns, then one by one.
 */
#include "kernels/x86/math_avx2.h"

/* `parts` times 16 columns from `column` on; adds their squares to `squares`. */
SRI_INLINE void sum_columns(const int8_t *rows, size_t dim, const sri_weighted_row *list,
                            size_t count, size_t column, const int parts, float *out,
                            sri_lanes *squares) {
    sri_lanes sums[4];
    for (int p = 0; p < parts; p++) sums[p].low = sums[p].high = _mm256_setzero_ps();
    for (size_t i = 0; i < count; i++) {
        const int8_t *row = rows + list[i].row * dim + column;
        __m256 weight = _mm256_set1_ps(list[i].weight);
        for (int p = 0; p < parts; p++) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(row + 16 * p));
            __m256i low = _mm256_cvtepi8_epi32(bytes);
            __m256i high = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes));
            sums[p].low = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), weight, sums[p].low);
            sums[p].high = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), weight, sums[p].high);
        }
    }
    for (int p = 0; p < parts; p++) {
        _mm256_storeu_ps(out + column + 16 * (size_t)p, sums[p].low);
        _mm256_storeu_ps(out + column + 16 * (size_t)p + 8, sums[p].high);
        squares->low = _mm256_fmadd_ps(sums[p].low, sums[p].low, squares->low);
        squares->high = _mm256_fmadd_ps(sums[p].high, sums[p].high, squares->high);
    }
}

/* The last columns, fewer than 16. */
static void sum_tail(const int8_t *rows, size_t dim, const sri_weighted_row *list, size_t count,
                     size_t column, float *out, sri_lanes *squares) {
    for (size_t d = column; d < dim; d++) {
        float sum = 0;
        for (size_t i = 0; i < count; i++)
            sum = fmaf((float)rows[list[i].row * dim + d], list[i].weight, sum);
        out[d] = sum;
    }
    sri_lanes tail = sri_load_tail(out + column, dim - column);
    squares->low = _mm256_fmadd_ps(tail.low, tail.low, squares->low);
    squares->high = _mm256_fmadd_ps(tail.high, tail.high, squares->high);
}

static float sum_rows(const int8_t *rows, size_t dim, const sri_weighted_row *list, size_t count,
                      float *out) {
    sri_lanes squares = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t column = 0;
    for (; column + 64 <= dim; column += 64)
        sum_columns(rows, dim, list, count, column, 4, out, &squares);
    for (; column + 16 <= dim; column += 16)
        sum_columns(rows, dim, list, count, column, 1, out, &squares);
    if (column < dim) sum_tail(rows, dim, list, count, column, out, &squares);
    return sri_sum_lanes(squares);
}

void sri_kernels_static_avx2(sri_kernels *table) { table->sum_rows = sum_rows; }
