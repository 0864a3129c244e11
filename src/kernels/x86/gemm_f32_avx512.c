/*
 * gemm_f32_avx512.c - the fp32 product with AVX-512: panels of 64 output channels (bias, then 64
 * weights for each input), tiles of up to 6 rows by 64 channels, as in gemm_s8_vnni.c.
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
        for (size_t i = 0; i < weights->k; i++)
            panel[(i + 1) * PANEL] = weights->w[j * weights->k + i];
    }
}

/* Sums have names of their own, not places in an array, which GCC would keep in memory. */
#define SUMS(r)                                                                                    \
    __m512 s##r##0 = _mm512_setzero_ps(), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define MULTIPLY(r)                                                                                \
    {                                                                                              \
        __m512 a = _mm512_set1_ps(x[r * k + i]);                                                   \
        s##r##0 = _mm512_fmadd_ps(a, w0, s##r##0);                                                 \
        s##r##1 = _mm512_fmadd_ps(a, w1, s##r##1);                                                 \
        s##r##2 = _mm512_fmadd_ps(a, w2, s##r##2);                                                 \
        s##r##3 = _mm512_fmadd_ps(a, w3, s##r##3);                                                 \
    }
#define STORE(r, part)                                                                             \
    sri_store_part(y + r * n, columns, part,                                                       \
                   _mm512_add_ps(s##r##part, _mm512_loadu_ps(panel + 16 * part)));
#define FINISH(r)    STORE(r, 0) STORE(r, 1) STORE(r, 2) STORE(r, 3)
#define ROWS_1(each) each(0)
#define ROWS_2(each) ROWS_1(each) each(1)
#define ROWS_3(each) ROWS_2(each) each(2)
#define ROWS_4(each) ROWS_3(each) each(3)
#define ROWS_5(each) ROWS_4(each) each(4)
#define ROWS_6(each) ROWS_5(each) each(5)

/* tile_R: R rows of x by one panel, of whose columns the first `columns` are real. With 4 rows and
 * more, multiplications take longer than weights to arrive: the next panel's are fetched
 * meanwhile. */
typedef void tile_fn(const float *x, const float *panel, size_t k, size_t columns, float *y,
                     size_t n);
#define DEFINE_TILE(count)                                                                         \
    static void tile_##count(const float *x, const float *panel, size_t k, size_t columns,         \
                             float *y, size_t n) {                                                 \
        const float *weights = panel + PANEL;                                                      \
        ROWS_##count(SUMS) for (size_t i = 0; i < k; i++, weights += PANEL) {                      \
            __m512 w0 = _mm512_loadu_ps(weights), w1 = _mm512_loadu_ps(weights + 16);              \
            __m512 w2 = _mm512_loadu_ps(weights + 32), w3 = _mm512_loadu_ps(weights + 48);         \
            if (count > 3) {                                                                       \
                const float *next = weights + panel_floats(k);                                     \
                _mm_prefetch(next, _MM_HINT_T1);                                                   \
                _mm_prefetch(next + 16, _MM_HINT_T1);                                              \
                _mm_prefetch(next + 32, _MM_HINT_T1);                                              \
                _mm_prefetch(next + 48, _MM_HINT_T1);                                              \
            }                                                                                      \
            ROWS_##count(MULTIPLY)                                                                 \
        }                                                                                          \
        ROWS_##count(FINISH)                                                                       \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

static void run(const float *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    float *y = product->y;
    size_t n = product->n;
    static tile_fn *const tile[TILE_ROWS + 1] = {NULL,   tile_1, tile_2, tile_3,
                                                 tile_4, tile_5, tile_6};
    size_t tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const float *panel = (const float *)packed + j / PANEL * panel_floats(k);
        size_t columns = SRI_MIN(n - j, (size_t)PANEL);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
            tile[rows](x + row * k, panel, k, columns, y + row * n + j, n);
            if (product->activation == SRI_GELU) sri_gelu_tile(y + row * n + j, rows, columns, n);
        }
    }
}

void sri_kernels_gemm_f32_avx512(sri_kernels *table) {
    table->gemm_f32 = (sri_gemm_f32){packed_size, pack, run};
}
