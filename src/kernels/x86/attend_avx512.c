/*
 * attend_avx512.c - attention of one head with AVX-512.
 *
 * Keys are transposed once, so that one register holds the scores of 16 keys and every sum runs
 * over the head's width in order. Up to eight rows of queries go together, split evenly: a load of
 * keys or values then serves eight multiplications.
 */
#include "kernels/x86/math_avx512.h"

enum { ROWS = SRI_ATTEND_ROWS };

/* out[d * stride + j] = rows[j][d] for 16 rows of 16: pairs, fours, then quarters of registers
 * change places. */
SRI_INLINE void transpose16(const __m512 rows[16], float *out, size_t stride) {
    __m512 a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16;
         i += 4) { /* b[i + c] holds column c of each quarter, of rows i to i + 3 */
        __m512d low0 = _mm512_castps_pd(a[i]), low1 = _mm512_castps_pd(a[i + 2]);
        __m512d high0 = _mm512_castps_pd(a[i + 1]), high1 = _mm512_castps_pd(a[i + 3]);
        b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
        b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
        b[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
        b[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        __m512 low = _mm512_shuffle_f32x4(b[c], b[c + 4], 0x44);
        __m512 low_next = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0x44);
        __m512 high = _mm512_shuffle_f32x4(b[c], b[c + 4], 0xEE);
        __m512 high_next = _mm512_shuffle_f32x4(b[c + 8], b[c + 12], 0xEE);
        float *column = out + (size_t)c * stride;
        _mm512_storeu_ps(column, _mm512_shuffle_f32x4(low, low_next, 0x88));
        _mm512_storeu_ps(column + 4 * stride, _mm512_shuffle_f32x4(low, low_next, 0xDD));
        _mm512_storeu_ps(column + 8 * stride, _mm512_shuffle_f32x4(high, high_next, 0x88));
        _mm512_storeu_ps(column + 12 * stride, _mm512_shuffle_f32x4(high, high_next, 0xDD));
    }
}

/* keys [width rounded up to 16, padded]; zeros beyond the text and beyond the width. */
static void transpose_keys(const sri_attention *a, size_t padded, float *keys) {
    for (size_t j = 0; j < a->t; j += 16)
        for (size_t d = 0; d < a->width; d += 16) {
            __mmask16 mask = sri_mask16(a->width - d);
            __m512 rows[16];
#pragma GCC unroll 16
            for (size_t r = 0; r < 16; r++)
                rows[r] = j + r < a->t ? _mm512_maskz_loadu_ps(mask, a->k + (j + r) * a->stride + d)
                                       : _mm512_setzero_ps();
            transpose16(rows, keys + d * padded + j, padded);
        }
}

#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)

SRI_INLINE void score(const sri_attention *a, const float *q, const int rows, const float *keys,
                      size_t padded, float *scores) {
    __m512 scale = _mm512_set1_ps(a->scale);
    for (size_t j = 0; j < padded; j += 16) {
        __m512 sums[ROWS];
        EACH_ROW sums[r] = _mm512_setzero_ps();
        for (size_t d = 0; d < a->width; d++) {
            __m512 key = _mm512_loadu_ps(keys + d * padded + j);
            EACH_ROW sums[r] =
                _mm512_fmadd_ps(_mm512_set1_ps(q[(size_t)r * a->stride + d]), key, sums[r]);
        }
        EACH_ROW _mm512_storeu_ps(scores + (size_t)r * padded + j, _mm512_mul_ps(sums[r], scale));
    }
}

/* Turns scores into weights not yet divided by their sum, whose inverse it returns. */
SRI_INLINE float soften(float *scores, size_t t) {
    __m512 highest = _mm512_set1_ps(scores[0]), lanes = _mm512_setzero_ps();
    for (size_t j = 0; j < t; j += 16)
        highest =
            _mm512_mask_max_ps(highest, sri_mask16(t - j), highest, _mm512_loadu_ps(scores + j));
    highest = _mm512_set1_ps(_mm512_reduce_max_ps(highest));
    for (size_t j = 0; j < t; j += 16) {
        __m512 weight = sri_exp16(_mm512_sub_ps(_mm512_loadu_ps(scores + j), highest));
        weight = _mm512_maskz_mov_ps(sri_mask16(t - j), weight);
        _mm512_storeu_ps(scores + j, weight);
        lanes = _mm512_add_ps(lanes, weight);
    }
    return 1.0f / sri_sum16(lanes);
}

SRI_INLINE void weigh(const sri_attention *a, const float *weights, size_t padded,
                      const float inverse[ROWS], size_t row, const int rows) {
    for (size_t d = 0; d < a->width; d += 16) {
        __m512 sums[ROWS];
        EACH_ROW sums[r] = _mm512_setzero_ps();
        for (size_t j = 0; j < a->t; j++) {
            __m512 value = sri_load16(a->v + j * a->stride + d, a->width - d);
            EACH_ROW sums[r] =
                _mm512_fmadd_ps(_mm512_set1_ps(weights[(size_t)r * padded + j]), value, sums[r]);
        }
        EACH_ROW sri_store16(a->out + (row + (size_t)r) * a->out_stride + d, a->width - d,
                             _mm512_mul_ps(sums[r], _mm512_set1_ps(inverse[r])));
    }
}

/* `rows` rows of queries from `row` on. */
SRI_INLINE void attend_rows(const sri_attention *a, size_t row, const int rows, const float *keys,
                            size_t padded, float *scores) {
    float inverse[ROWS];
    score(a, a->q + row * a->stride, rows, keys, padded, scores);
    EACH_ROW inverse[r] = soften(scores + (size_t)r * padded, a->t);
    weigh(a, scores, padded, inverse, row, rows);
}

static void attend(const sri_attention *a) {
    size_t padded = sri_round_up(a->t, 16), blocks = (a->rows + ROWS - 1) / ROWS;
    float *keys = a->scratch, *scores = keys + sri_round_up(a->width, 16) * padded;
    transpose_keys(a, padded, keys);
    for (size_t block = 0; block < blocks; block++) {
        size_t row = a->rows * block / blocks, rows = a->rows * (block + 1) / blocks - row;
        switch (rows) {
        case 1: attend_rows(a, row, 1, keys, padded, scores); break;
        case 2: attend_rows(a, row, 2, keys, padded, scores); break;
        case 3: attend_rows(a, row, 3, keys, padded, scores); break;
        case 4: attend_rows(a, row, 4, keys, padded, scores); break;
        case 5: attend_rows(a, row, 5, keys, padded, scores); break;
        case 6: attend_rows(a, row, 6, keys, padded, scores); break;
        case 7: attend_rows(a, row, 7, keys, padded, scores); break;
        default: attend_rows(a, row, ROWS, keys, padded, scores); break;
        }
    }
}

void sri_kernels_attend_avx512(sri_kernels *table) { table->attend = attend; }
