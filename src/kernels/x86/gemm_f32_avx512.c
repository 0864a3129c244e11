/*
 * gemm_f32_avx512.c - the fp32 product with AVX-512: panels of 64 output channels (bias, then 64 weights for
 * each input), tiles of up to 6 rows by 64 channels, as in gemm_s8_vnni.c.
 */
#include "kernels/x86/math_avx512.h"

#include <string.h>

enum { PANEL = 64, TILE_ROWS = 6 };

static size_t panel_floats(size_t k) { return PANEL + k * PANEL; }

static size_t packed_size(size_t n, size_t k) {
    return sri_round_up(n, PANEL) / PANEL * panel_floats(k) * sizeof(float);
}

static void pack(const sri_weights_f32 *weights, void *packed) {
    memset(packed, 0, packed_size(weights->n, weights->k));
    for (size_t j = 0; j < weights->n; j++) {
        float *panel = (float *)packed + j / PANEL * panel_floats(weights->k) + j % PANEL;
        panel[0] = weights->bias[j];
        for (size_t i = 0; i < weights->k; i++) panel[(i + 1) * PANEL] = weights->w[j * weights->k + i];
    }
}

SRI_INLINE void tile(const float *x, const int rows, const float *panel, size_t k, size_t columns,
                     sri_activation activation, float *y, size_t n) {
    __m512 sums[TILE_ROWS][4];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4; c++) sums[r][c] = _mm512_setzero_ps();
    const float *weights = panel + PANEL;
    for (size_t i = 0; i < k; i++, weights += PANEL) {
        __m512 w[4];
        for (int c = 0; c < 4; c++) w[c] = _mm512_loadu_ps(weights + 16 * c);
        for (int r = 0; r < rows; r++) {
            __m512 a = _mm512_set1_ps(x[(size_t)r * k + i]);
            for (int c = 0; c < 4; c++) sums[r][c] = _mm512_fmadd_ps(a, w[c], sums[r][c]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < 4 && (size_t)c * 16 < columns; c++) {
            __m512 value = _mm512_add_ps(sums[r][c], _mm512_loadu_ps(panel + 16 * c));
            if (activation == SRI_GELU) value = sri_gelu16(value);
            _mm512_mask_storeu_ps(y + (size_t)r * n + (size_t)c * 16, sri_mask16(columns - (size_t)c * 16), value);
        }
}

static void run(const float *x, size_t m, const void *packed, size_t n, size_t k, sri_activation activation,
                float *y) {
    for (size_t j = 0; j < n; j += PANEL) {
        const float *panel = (const float *)packed + j / PANEL * panel_floats(k);
        size_t columns = SRI_MIN(n - j, (size_t)PANEL);
        for (size_t row = 0; row < m; row += TILE_ROWS) {
            const float *in = x + row * k;
            float *out = y + row * n + j;
            switch (SRI_MIN(m - row, (size_t)TILE_ROWS)) {
            case 6: tile(in, 6, panel, k, columns, activation, out, n); break;
            case 5: tile(in, 5, panel, k, columns, activation, out, n); break;
            case 4: tile(in, 4, panel, k, columns, activation, out, n); break;
            case 3: tile(in, 3, panel, k, columns, activation, out, n); break;
            case 2: tile(in, 2, panel, k, columns, activation, out, n); break;
            default: tile(in, 1, panel, k, columns, activation, out, n); break;
            }
        }
    }
}

void sri_kernels_gemm_f32_avx512(sri_kernels *table) { table->gemm_f32 = (sri_gemm_f32){packed_size, pack, run}; }
