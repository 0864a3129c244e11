/*
 * scan_avx2.c - the search of an index with AVX2: tables of 16 sums looked up by vpshufb, 32 rows
 * at a time; bytes multiplied as words, since vpmaddubsw saturates.
 */
#include "kernels/x86/math_avx2.h"

#include "kernels/dots_rows.inc"

enum { HALF = SRI_SIGN_ROWS / 2, LANES = 32 };

SRI_INLINE __m256i load(const void *from) { return _mm256_loadu_si256(from); }

/* ---- Signs: sums of up to four groups in bytes, of all groups in words ----------------------- */

typedef struct word_sums {
    __m256i both, odd; /* words: even rows' sums and 256 times the odd ones'; odd rows' sums */
} word_sums;

SRI_INLINE void widen(word_sums *sums, __m256i bytes) {
    sums->both = _mm256_add_epi16(sums->both, bytes);
    sums->odd = _mm256_add_epi16(sums->odd, _mm256_srli_epi16(bytes, 8));
}

SRI_INLINE void store_sums(const word_sums *sums, uint16_t *to) {
    __m256i even = _mm256_sub_epi16(sums->both, _mm256_slli_epi16(sums->odd, 8));
    __m256i low = _mm256_unpacklo_epi16(even, sums->odd);
    __m256i high = _mm256_unpackhi_epi16(even, sums->odd);
    _mm256_storeu_si256((__m256i *)to, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((__m256i *)(to + 16), _mm256_permute2x128_si256(low, high, 0x31));
}

/* The sums of 32 rows and of those 64 further on. */
static void sum_part(const uint8_t *packed, size_t groups, const uint8_t *tables, uint16_t *sums) {
    const __m256i nibble = _mm256_set1_epi8(15);
    word_sums first = {_mm256_setzero_si256(), _mm256_setzero_si256()}, second = first;
    for (size_t g = 0; g < groups;) {
        __m256i low = _mm256_setzero_si256(), high = low;
        for (size_t end = SRI_MIN(g + 4, groups); g < end; g++) {
            __m256i codes = load(packed + g * HALF);
            __m256i table =
                _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(tables + g * 16)));
            __m256i upper = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
            low = _mm256_add_epi8(low, _mm256_shuffle_epi8(table, _mm256_and_si256(codes, nibble)));
            high = _mm256_add_epi8(high, _mm256_shuffle_epi8(table, upper));
        }
        widen(&first, low);
        widen(&second, high);
    }
    store_sums(&first, sums);
    store_sums(&second, sums + HALF);
}

static void sum_signs(const uint8_t *packed, size_t blocks, size_t groups,
                      const uint8_t *const *tables, size_t queries, uint16_t *const *sums) {
    for (size_t b = 0; b < blocks; b++, packed += groups * HALF)
        for (size_t q = 0; q < queries; q++)
            for (size_t part = 0; part < HALF; part += LANES)
                sum_part(packed + part, groups, tables[q], sums[q] + b * SRI_SIGN_ROWS + part);
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

static size_t pick(const sri_bounds *b, uint32_t *rows, float *found) {
    size_t count = 0, i = 0;
    const __m256 step = _mm256_set1_ps(b->step), offset = _mm256_set1_ps(b->offset);
    const __m256 least = _mm256_set1_ps(b->least);
    for (; i + 8 <= b->n; i += 8) {
        __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(b->sums + i)));
        __m256 bound = _mm256_fmadd_ps(_mm256_cvtepi32_ps(words), step, offset);
        bound =
            _mm256_fmadd_ps(_mm256_loadu_ps(b->weights + i), bound, _mm256_loadu_ps(b->bases + i));
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(bound, least, _CMP_GE_OQ));
        if (mask == 0) continue;
        float bounds[8];
        _mm256_storeu_ps(bounds, bound);
        for (; mask != 0; mask &= mask - 1) {
            unsigned lane = (unsigned)__builtin_ctz(mask);
            rows[count] = (uint32_t)(i + lane);
            found[count++] = bounds[lane];
        }
    }
    for (; i < b->n; i++) {
        float bound = fmaf(b->weights[i], fmaf((float)b->sums[i], b->step, b->offset), b->bases[i]);
        if (!(bound >= b->least)) continue;
        rows[count] = (uint32_t)i;
        found[count++] = bound;
    }
    return count;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

SRI_INLINE __m256i widen_bytes(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
}

SRI_INLINE void dot_row(const int8_t *queries, const int query_count, const int8_t *row, size_t dim,
                        int32_t *out, size_t n) {
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t k = 0;
    for (; k + 16 <= dim; k += 16) {
        __m256i b = widen_bytes(row + k);
        for (int q = 0; q < query_count; q++) {
            __m256i products = _mm256_madd_epi16(widen_bytes(queries + (size_t)q * dim + k), b);
            sums[q] = _mm256_add_epi32(sums[q], products);
        }
    }
    for (int q = 0; q < query_count; q++) {
        int32_t sum = sri_sum8_s32(sums[q]);
        for (size_t i = k; i < dim; i++) sum += queries[(size_t)q * dim + i] * row[i];
        out[(size_t)q * n] = sum;
    }
}

void sri_kernels_scan_avx2(sri_kernels *table) {
    table->signs.sum = sum_signs;
    table->pick = pick;
    table->dots_s8 = dots_s8;
}
