/*
 * gemm_f32_avx2.c - the fp32 product with AVX2 and FMA.
 *
 * Panels of 16 output channels: bias, then 16 weights for each input. A tile is up to 6 rows by one
 * panel, 12 of 16 registers holding sums. The order of a sum is fixed, so that an addition waits
 * for the one before; one to three rows therefore take several panels at once, to have at least 8
 * sums under way.
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

SRI_INLINE void store(__m256 low, __m256 high, const float *panel, size_t columns, float *y) {
    low = _mm256_add_ps(low, _mm256_loadu_ps(panel));
    high = _mm256_add_ps(high, _mm256_loadu_ps(panel + 8));
    float out[PANEL], *to = columns < PANEL ? out : y;
    _mm256_storeu_ps(to, low);
    _mm256_storeu_ps(to + 8, high);
    if (columns < PANEL) memcpy(y, out, columns * sizeof *y);
}

/* Sums have names of their own, not places in an array, which GCC would keep in memory. `p` counts
 * panels, `r` rows. */
#define SUMS(p, r) __m256 s##p##r##0 = _mm256_setzero_ps(), s##p##r##1 = s##p##r##0;
#define MULTIPLY(p, r)                                                                             \
    {                                                                                              \
        __m256 a = _mm256_broadcast_ss(x + r * k + i);                                             \
        s##p##r##0 = _mm256_fmadd_ps(a, low, s##p##r##0);                                          \
        s##p##r##1 = _mm256_fmadd_ps(a, high, s##p##r##1);                                         \
    }
#define STORE(p, r)                                                                                \
    store(s##p##r##0, s##p##r##1, panel + p * panel_floats(k), columns - p * PANEL,                \
          y + r * n + p * PANEL);
#define ROWS_1(each, p)  each(p, 0)
#define ROWS_2(each, p)  ROWS_1(each, p) each(p, 1)
#define ROWS_3(each, p)  ROWS_2(each, p) each(p, 2)
#define ROWS_4(each, p)  ROWS_3(each, p) each(p, 3)
#define ROWS_5(each, p)  ROWS_4(each, p) each(p, 4)
#define ROWS_6(each, p)  ROWS_5(each, p) each(p, 5)
#define SUMS_OF(p, rows) ROWS_##rows(SUMS, p)
#define MULTIPLY_BY(p, rows)                                                                       \
    {                                                                                              \
        const float *w = weights + p * panel_floats(k) + i * PANEL;                                \
        if (rows > 3) _mm_prefetch(w + panel_floats(k), _MM_HINT_T1);                              \
        __m256 low = _mm256_loadu_ps(w), high = _mm256_loadu_ps(w + 8);                            \
        ROWS_##rows(MULTIPLY, p)                                                                   \
    }
#define STORE_OF(p, rows)    ROWS_##rows(STORE, p)
#define PANELS_1(part, rows) part(0, rows)
#define PANELS_2(part, rows) PANELS_1(part, rows) part(1, rows)
#define PANELS_4(part, rows) PANELS_2(part, rows) part(2, rows) part(3, rows)

/* tile_RxP: R rows of x by P panels, of whose columns the first `columns` are real. With 4 rows and
 * more, multiplications take longer than weights to arrive: the next panel's are fetched
 * meanwhile. */
typedef void tile_fn(const float *x, const float *panel, size_t k, size_t columns, float *y,
                     size_t n);
#define DEFINE_TILE(rows, panels)                                                                  \
    static void tile_##rows##x##panels(const float *x, const float *panel, size_t k,               \
                                       size_t columns, float *y, size_t n) {                       \
        const float *weights = panel + PANEL;                                                      \
        PANELS_##panels(SUMS_OF, rows) for (size_t i = 0; i < k; i++){                             \
            PANELS_##panels(MULTIPLY_BY, rows)} PANELS_##panels(STORE_OF, rows)                    \
    }
DEFINE_TILE(1, 1)
DEFINE_TILE(1, 4)
DEFINE_TILE(2, 1)
DEFINE_TILE(2, 2)
DEFINE_TILE(3, 1)
DEFINE_TILE(3, 2)
DEFINE_TILE(4, 1)
DEFINE_TILE(5, 1)
DEFINE_TILE(6, 1)

static void run(const float *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    static const struct {
        tile_fn *one, *several;
        size_t panels; /* that `several` takes */
    } kinds[TILE_ROWS + 1] = {
        {NULL, NULL, 1},         {tile_1x1, tile_1x4, 4}, {tile_2x1, tile_2x2, 2},
        {tile_3x1, tile_3x2, 2}, {tile_4x1, tile_4x1, 1}, {tile_5x1, tile_5x1, 1},
        {tile_6x1, tile_6x1, 1},
    };
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    size_t most = tiles == 1 ? kinds[m].panels : 1;
    for (size_t j = product->first, panels; j < product->last; j += panels * PANEL) {
        panels = product->last - j > (most - 1) * PANEL ? most : 1;
        const float *panel = (const float *)packed + j / PANEL * panel_floats(k);
        size_t columns = SRI_MIN(product->last - j, panels * PANEL);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
            tile_fn *tile = panels > 1 ? kinds[rows].several : kinds[rows].one;
            float *y = product->y + row * n + j;
            tile(x + row * k, panel, k, columns, y, n);
            if (product->activation == SRI_GELU) sri_gelu_rows(y, rows, columns, n);
        }
    }
}

void sri_kernels_gemm_f32_avx2(sri_kernels *table) {
    table->gemm_f32 = (sri_gemm_f32){packed_size, pack, run};
}
