/*
 * gemm_f32_neon.c - the fp32 product with NEON: panels of 16 output channels (bias, then 16 weights
 * for each input), tiles of up to 6 rows by one panel, 24 of 32 registers holding sums.
 */
#include "kernels/arm/math_neon.h"

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

/* Sums have names of their own, not places in an array, which compilers may keep in memory. */
#define SUMS(r)                                                                                    \
    float32x4_t s##r##0 = vdupq_n_f32(0), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define MULTIPLY(r)                                                                                \
    {                                                                                              \
        float32x4_t a = vld1q_dup_f32(x + r * k + i);                                              \
        s##r##0 = vfmaq_f32(s##r##0, a, w0);                                                       \
        s##r##1 = vfmaq_f32(s##r##1, a, w1);                                                       \
        s##r##2 = vfmaq_f32(s##r##2, a, w2);                                                       \
        s##r##3 = vfmaq_f32(s##r##3, a, w3);                                                       \
    }
#define FINISH(r)                                                                                  \
    sri_store_lanes(y + r * n, columns,                                                            \
                    (sri_lanes){{vaddq_f32(s##r##0, bias.v[0]), vaddq_f32(s##r##1, bias.v[1]),     \
                                 vaddq_f32(s##r##2, bias.v[2]), vaddq_f32(s##r##3, bias.v[3])}});
#define ROWS_1(each) each(0)
#define ROWS_2(each) ROWS_1(each) each(1)
#define ROWS_3(each) ROWS_2(each) each(2)
#define ROWS_4(each) ROWS_3(each) each(3)
#define ROWS_5(each) ROWS_4(each) each(4)
#define ROWS_6(each) ROWS_5(each) each(5)

/* tile_R: R rows of x by one panel, of whose columns the first `columns` are real. */
typedef void tile_fn(const float *x, const float *panel, size_t k, size_t columns, float *y,
                     size_t n);
#define DEFINE_TILE(rows)                                                                          \
    static void tile_##rows(const float *x, const float *panel, size_t k, size_t columns,          \
                            float *y, size_t n) {                                                  \
        const float *weights = panel + PANEL;                                                      \
        ROWS_##rows(SUMS) for (size_t i = 0; i < k; i++, weights += PANEL) {                       \
            float32x4_t w0 = vld1q_f32(weights), w1 = vld1q_f32(weights + 4);                      \
            float32x4_t w2 = vld1q_f32(weights + 8), w3 = vld1q_f32(weights + 12);                 \
            ROWS_##rows(MULTIPLY)                                                                  \
        }                                                                                          \
        sri_lanes bias = sri_load_lanes(panel, PANEL);                                             \
        ROWS_##rows(FINISH)                                                                        \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

static void run(const float *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    static tile_fn *const tile[TILE_ROWS + 1] = {NULL,   tile_1, tile_2, tile_3,
                                                 tile_4, tile_5, tile_6};
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const float *panel = (const float *)packed + j / PANEL * panel_floats(k);
        size_t columns = SRI_MIN(product->last - j, (size_t)PANEL);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
            float *y = product->y + row * n + j;
            tile[rows](x + row * k, panel, k, columns, y, n);
            if (product->activation == SRI_GELU) sri_gelu_rows(y, rows, columns, n);
        }
    }
}

void sri_kernels_gemm_f32_neon(sri_kernels *table) {
    table->gemm_f32 = (sri_gemm_f32){packed_size, pack, run};
}
