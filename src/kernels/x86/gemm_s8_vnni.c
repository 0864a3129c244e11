/*
 * gemm_s8_vnni.c - the int8 product with AVX-512 VNNI.
 *
 * vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds the products by fours into 16 sums of 32 bits,
 * exactly. Weights are packed into panels of 64 output channels: scale, bias and sums of the columns, then
 * for every 4 inputs the 4 bytes of each channel together, 256 bytes. A tile is up to 6 rows by 64 channels:
 * 24 of 32 registers hold sums, so that 4 loads of weights and 6 broadcasts serve 24 multiplications and the
 * multiplier, not the load unit, is the limit. Rows are split evenly over tiles: 13 are 5 + 4 + 4 rather than
 * 6 + 6 + 1, since a tile of one row waits for its own sums.
 */
#include "kernels/x86/math_avx512.h"

#include <string.h>

enum { PANEL = 64, TILE_ROWS = 6 };

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
    int32_t sums[PANEL];
} panel_head;

static size_t panel_size(size_t k) { return sizeof(panel_head) + sri_round_up(k, 4) * PANEL; }

static size_t packed_size(size_t n, size_t k) { return sri_round_up(n, PANEL) / PANEL * panel_size(k); }

static void pack_channel(const sri_weights_s8 *weights, size_t j, panel_head *head, int8_t *groups) {
    const int8_t *w = weights->w + j * weights->k;
    size_t column = j % PANEL;
    int32_t sum = 0;
    for (size_t i = 0; i < weights->k; i++) {
        groups[i / 4 * 4 * PANEL + column * 4 + i % 4] = w[i];
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

/* Rows [row, row + rows) by the columns of one panel, of which `columns` are real. */
SRI_INLINE void tile(const sri_quantized *x, size_t row, const int rows, const panel_head *head, size_t k,
                     size_t columns, sri_activation activation, float *y, size_t n) {
    __m512i sums[TILE_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++) sums[r][c] = _mm512_setzero_si512();
    const uint8_t *q = x->q + row * x->stride;
    const char *groups = (const char *)(head + 1);
    for (size_t i = 0; i < k; i += 4, groups += 4 * PANEL) {
        __m512i w[4];
        for (int c = 0; c < 4; c++) w[c] = _mm512_loadu_si512(groups + 64 * c);
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, q + (size_t)r * x->stride + i, 4);
            __m512i a = _mm512_set1_epi32(four);
            for (int c = 0; c < 4; c++) sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], a, w[c]);
        }
    }
    for (int c = 0; c < 4 && (size_t)c * 16 < columns; c++) {
        __m512 scale = _mm512_loadu_ps(head->scale + 16 * c), bias = _mm512_loadu_ps(head->bias + 16 * c);
        __m512i column_sums = _mm512_loadu_si512(head->sums + 16 * c);
        __mmask16 mask = sri_mask16(columns - (size_t)c * 16);
        for (int r = 0; r < rows; r++) {
            size_t i = row + (size_t)r;
            __m512i shift = _mm512_mullo_epi32(_mm512_set1_epi32(x->zero[i]), column_sums);
            __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[r][c], shift));
            __m512 value = _mm512_fmadd_ps(_mm512_mul_ps(sum, scale), _mm512_set1_ps(x->scale[i]), bias);
            if (activation == SRI_GELU) value = sri_gelu16(value);
            _mm512_mask_storeu_ps(y + i * n + (size_t)c * 16, mask, value);
        }
    }
}

static void run(const sri_quantized *x, size_t m, const void *packed, size_t n, size_t k, sri_activation activation,
                float *y) {
    size_t tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j = 0; j < n; j += PANEL) {
        const panel_head *head = (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
        size_t columns = SRI_MIN(n - j, (size_t)PANEL);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles;
            switch (m * (t + 1) / tiles - row) {
            case 6: tile(x, row, 6, head, k, columns, activation, y + j, n); break;
            case 5: tile(x, row, 5, head, k, columns, activation, y + j, n); break;
            case 4: tile(x, row, 4, head, k, columns, activation, y + j, n); break;
            case 3: tile(x, row, 3, head, k, columns, activation, y + j, n); break;
            case 2: tile(x, row, 2, head, k, columns, activation, y + j, n); break;
            default: tile(x, row, 1, head, k, columns, activation, y + j, n); break;
            }
        }
    }
}

void sri_kernels_gemm_s8_vnni(sri_kernels *table) { table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run}; }
