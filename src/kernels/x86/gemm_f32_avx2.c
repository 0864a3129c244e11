/*
 * gemm_f32_avx2.c - the fp32 product with AVX2 and FMA: panels of 16 output channels (bias, then 16
 * weights for each input), tiles of up to 6 rows by 16 channels, 12 of 16 registers holding sums.
 */
#include "kernels/x86/math_avx2.h"

enum { PANEL = 16, TILE_ROWS = 6 };

static size_t panel_floats(size_t k) { return PANEL + k * PANEL; }

static size_t packed_size(size_t n, size_t k) {
    return sri_round_up(n, PANEL) / PANEL * panel_floats(k) * sizeof(float);
}

static void pack(const sri_weights_f32 *weights, void *packed) {
    memset(packed, 0, packed_size(weights->n, weights->k));
    for (size_t j = 0; j < weights->n; j++) {
        float *panel = (float *)packed + j / PANEL * panel_floats(weights->k) + j % PANEL;
        panel[0] = weights->bias[j];
        for (size_t i = 0; i < weights->k; i++)
            panel[(i + 1) * PANEL] = weights->w[j * weights->k + i];
    }
}

SRI_INLINE void tile(const float *x, const int rows, const float *panel, size_t k, size_t columns,
                     sri_activation activation, float *y, size_t n) {
    __m256 sums[TILE_ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
    const float *weights = panel + PANEL;
    for (size_t i = 0; i < k; i++, weights += PANEL) {
        __m256 low = _mm256_loadu_ps(weights), high = _mm256_loadu_ps(weights + 8);
        for (int r = 0; r < rows; r++) {
            __m256 a = _mm256_broadcast_ss(x + (size_t)r * k + i);
            sums[r][0] = _mm256_fmadd_ps(a, low, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(a, high, sums[r][1]);
        }
    }
    for (int r = 0; r < rows; r++) {
        float out[PANEL];
        for (int half = 0; half < 2; half++) {
            __m256 value = _mm256_add_ps(sums[r][half], _mm256_loadu_ps(panel + 8 * half));
            _mm256_storeu_ps(out + 8 * half, activation == SRI_GELU ? sri_gelu8(value) : value);
        }
        memcpy(y + (size_t)r * n, out, columns * sizeof *y);
    }
}

static void run(const float *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    float *y = product->y;
    size_t n = product->n;
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const float *panel = (const float *)packed + j / PANEL * panel_floats(k);
        size_t columns = SRI_MIN(n - j, (size_t)PANEL);
        for (size_t row = 0; row < m; row += TILE_ROWS) {
            const float *in = x + row * k;
            float *out = y + row * n + j;
            switch (SRI_MIN(m - row, (size_t)TILE_ROWS)) {
            case 6: tile(in, 6, panel, k, columns, product->activation, out, n); break;
            case 5: tile(in, 5, panel, k, columns, product->activation, out, n); break;
            case 4: tile(in, 4, panel, k, columns, product->activation, out, n); break;
            case 3: tile(in, 3, panel, k, columns, product->activation, out, n); break;
            case 2: tile(in, 2, panel, k, columns, product->activation, out, n); break;
            default: tile(in, 1, panel, k, columns, product->activation, out, n); break;
            }
        }
    }
}

void sri_kernels_gemm_f32_avx2(sri_kernels *table) {
    table->gemm_f32 = (sri_gemm_f32){packed_size, pack, run};
}
