/*
 * gemm_s8_avx2.c - the int8 product with AVX2.
 *
 * vpmaddubsw would multiply bytes directly, but it saturates at 16 bits, and sums must be exact. So
 * weights and activations are widened to 16 bits and vpmaddwd adds pairs of products into 32 bits:
 * as many products an instruction as fp32 has, with a quarter of its memory traffic. Panels of 16
 * output channels: scale, bias, sums of the columns, then for every 2 inputs the 2 bytes of each
 * channel together. Weights are widened as they are loaded, once for the 4 rows of a tile;
 * activations beforehand, STEP of them at a time.
 */
#include "kernels/x86/math_avx2.h"

enum { PANEL = 16, TILE_ROWS = 4, STEP = 1024 };

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
    int32_t sums[PANEL];
} panel_head;

static size_t panel_size(size_t k) { return sizeof(panel_head) + sri_round_up(k, 2) * PANEL; }

static size_t packed_size(size_t n, size_t k) {
    return sri_round_up(n, PANEL) / PANEL * panel_size(k);
}

static void pack_channel(const sri_weights_s8 *weights, size_t j, panel_head *head,
                         int8_t *groups) {
    const int8_t *w = weights->w + j * weights->k;
    size_t column = j % PANEL;
    int32_t sum = 0;
    for (size_t i = 0; i < weights->k; i++) {
        groups[i / 2 * 2 * PANEL + column * 2 + i % 2] = w[i];
        sum += w[i];
    }
    head->scale[column] = weights->scale[j];
    head->bias[column] = weights->bias[j];
    head->sums[column] = sum;
}

static void pack(const sri_weights_s8 *weights, void *packed) {
    memset(packed, 0, packed_size(weights->n, weights->k));
    for (size_t j = 0; j < weights->n; j++) {
        panel_head *head = (panel_head *)((char *)packed + j / PANEL * panel_size(weights->k));
        pack_channel(weights, j, head, (int8_t *)(head + 1));
    }
}

/* `count` bytes to 16 bits, the last odd one with a zero beside it. */
SRI_INLINE void widen(const uint8_t *q, size_t count, int16_t *wide) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        _mm256_storeu_si256((__m256i *)(wide + i),
                            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(q + i))));
    for (; i < count; i++) wide[i] = q[i];
    if (count % 2 != 0) wide[count] = 0;
}

SRI_INLINE void finish(const panel_head *head, __m256i sum, int half, float row_scale, int32_t zero,
                       sri_activation activation, float *out) {
    __m256i shift = _mm256_mullo_epi32(
        _mm256_set1_epi32(zero), _mm256_loadu_si256((const __m256i *)(head->sums + 8 * half)));
    __m256 value = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, shift));
    value = _mm256_mul_ps(value, _mm256_loadu_ps(head->scale + 8 * half));
    value =
        _mm256_fmadd_ps(value, _mm256_set1_ps(row_scale), _mm256_loadu_ps(head->bias + 8 * half));
    if (activation == SRI_GELU) value = sri_gelu8(value);
    _mm256_storeu_ps(out + 8 * half, value);
}

SRI_INLINE void tile(const sri_quantized *x, size_t row, const int rows, const panel_head *head,
                     size_t k, size_t columns, sri_activation activation, float *y, size_t n) {
    int16_t wide[TILE_ROWS][STEP];
    __m256i sums[TILE_ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    const char *groups = (const char *)(head + 1);
    for (size_t start = 0; start < k; start += STEP) {
        size_t count = SRI_MIN(k - start, (size_t)STEP);
        for (int r = 0; r < rows; r++)
            widen(x->q + (row + (size_t)r) * x->stride + start, count, wide[r]);
        for (size_t i = 0; i < count; i += 2, groups += 2 * PANEL) {
            __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)groups));
            __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(groups + 16)));
            for (int r = 0; r < rows; r++) {
                int32_t two;
                memcpy(&two, &wide[r][i], 4);
                __m256i a = _mm256_set1_epi32(two);
                sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(a, low));
                sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(a, high));
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        size_t i = row + (size_t)r;
        float out[PANEL];
        for (int half = 0; half < 2; half++)
            finish(head, sums[r][half], half, x->scale[i], x->zero[i], activation, out);
        memcpy(y + i * n, out, columns * sizeof *y);
    }
}

static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    float *y = product->y;
    size_t n = product->n;
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const panel_head *head =
            (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
        size_t columns = SRI_MIN(n - j, (size_t)PANEL);
        for (size_t row = 0; row < m; row += TILE_ROWS) {
            switch (SRI_MIN(m - row, (size_t)TILE_ROWS)) {
            case 4: tile(x, row, 4, head, k, columns, product->activation, y + j, n); break;
            case 3: tile(x, row, 3, head, k, columns, product->activation, y + j, n); break;
            case 2: tile(x, row, 2, head, k, columns, product->activation, y + j, n); break;
            default: tile(x, row, 1, head, k, columns, product->activation, y + j, n); break;
            }
        }
    }
}

void sri_kernels_gemm_s8_avx2(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
