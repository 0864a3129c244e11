/*
 * scan_avxvnni.c - dot products of bytes with AVX-VNNI: vpdpbusd wants one side unsigned, so 128 is
 * added to the rows (by their highest bit) and 128 times the query's sum taken off.
 */
#include "kernels/x86/math_avx2.h"

/* As assembly, because GCC 12 copies the sum around the intrinsic. {vex}: not AVX-512's
 * encoding. */
#define DPBUSD(sum, a, w) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w))

SRI_INLINE __m256i load(const int8_t *from) { return _mm256_loadu_si256((const __m256i *)from); }

/* Up to two queries, whose sums over whole registers are given, by a row. */
SRI_INLINE void dot_row(const int8_t *queries, const int query_count, const int32_t *query_sums,
                        const int8_t *row, size_t dim, int32_t *out, size_t n) {
    const __m256i high = _mm256_set1_epi8((char)0x80);
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t k = 0;
    for (; k + 32 <= dim; k += 32) {
        __m256i b = _mm256_xor_si256(load(row + k), high);
        for (int q = 0; q < query_count; q++) {
            __m256i a = load(queries + (size_t)q * dim + k);
            DPBUSD(sums[q], b, a);
        }
    }
    for (int q = 0; q < query_count; q++) {
        int32_t sum = (int32_t)((uint32_t)sri_sum8_s32(sums[q]) - 128u * (uint32_t)query_sums[q]);
        for (size_t i = k; i < dim; i++) sum += queries[(size_t)q * dim + i] * row[i];
        out[(size_t)q * n] = sum;
    }
}

static void dots_s8(const int8_t *queries, size_t query_count, const int8_t *const *rows, size_t n,
                    size_t dim, int32_t *out) {
    for (size_t q = 0; q < query_count; q += 2) {
        int32_t sums[2] = {0, 0};
        size_t some = SRI_MIN(query_count - q, (size_t)2);
        const int8_t *query = queries + q * dim;
        for (size_t j = 0; j < some; j++)
            for (size_t k = 0; k < dim / 32 * 32; k++) sums[j] += query[j * dim + k];
        for (size_t i = 0; i < n; i++) {
            if (some == 2)
                dot_row(query, 2, sums, rows[i], dim, out + q * n + i, n);
            else
                dot_row(query, 1, sums, rows[i], dim, out + q * n + i, n);
        }
    }
}

void sri_kernels_scan_avxvnni(sri_kernels *table) { table->dots_s8 = dots_s8; }
