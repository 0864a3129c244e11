/*
 * gemm_s8_dotprod.c - the int8 product with sdot.
 *
 * sdot multiplies 16 pairs of signed bytes and adds the products by fours into 4 sums, exactly.
 * Activations less 128 are signed bytes; the sums of the columns make up for it. Panels of 16
 * output channels: a head, then for every 4 inputs the 4 bytes of each channel together, 64 bytes.
 * A tile is up to 4 rows by one panel, 16 of 32 registers holding sums; one load brings 16 inputs
 * of a row, of which sdot picks four by their place.
 */
#include "kernels/arm/math_neon.h"

enum { PANEL = SRI_PANEL, GROUP = 4, UNIT = 4, TILE_ROWS = 4, STEP = 16 };

typedef sri_panel_head panel_head;

SRI_INLINE size_t place(size_t column, size_t i) { return i / 4 * 4 * PANEL + column * 4 + i % 4; }

#define NOTE_CHANNEL(head, column, sum, least) ((head)->sums[column] = (sum), (void)(least))

#include "kernels/panels_s8.inc"

SRI_INLINE int8x16_t less_128(uint8x16_t q) {
    return vreinterpretq_s8_u8(veorq_u8(q, vdupq_n_u8(128)));
}

/* Four activations, in every lane: for the inputs beyond the last sixteen. */
SRI_INLINE uint8x16_t broadcast4(const uint8_t *q) {
    uint32_t four;
    memcpy(&four, q, sizeof four);
    return vreinterpretq_u8_u32(vdupq_n_u32(four));
}

/* Sums have names of their own, not places in an array, which compilers may keep in memory. */
#define SUMS(r)                                                                                    \
    int32x4_t s##r##0 = vdupq_n_s32(0), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define LOAD(r) int8x16_t a##r = less_128(vld1q_u8(q + r * stride + i));
#define MULTIPLY(r, place)                                                                         \
    s##r##0 = vdotq_laneq_s32(s##r##0, w0, a##r, place);                                           \
    s##r##1 = vdotq_laneq_s32(s##r##1, w1, a##r, place);                                           \
    s##r##2 = vdotq_laneq_s32(s##r##2, w2, a##r, place);                                           \
    s##r##3 = vdotq_laneq_s32(s##r##3, w3, a##r, place);
#define MULTIPLY_0(r) MULTIPLY(r, 0)
#define MULTIPLY_1(r) MULTIPLY(r, 1)
#define MULTIPLY_2(r) MULTIPLY(r, 2)
#define MULTIPLY_3(r) MULTIPLY(r, 3)
#define REST(r)                                                                                    \
    {                                                                                              \
        int8x16_t a##r = less_128(broadcast4(q + r * stride + i));                                 \
        MULTIPLY_0(r)                                                                              \
    }
#define STORE(r)                                                                                   \
    vst1q_s32(sums + r * PANEL, s##r##0);                                                          \
    vst1q_s32(sums + r * PANEL + 4, s##r##1);                                                      \
    vst1q_s32(sums + r * PANEL + 8, s##r##2);                                                      \
    vst1q_s32(sums + r * PANEL + 12, s##r##3);
#define ROWS_1(each) each(0)
#define ROWS_2(each) ROWS_1(each) each(1)
#define ROWS_3(each) ROWS_2(each) each(2)
#define ROWS_4(each) ROWS_3(each) each(3)

/* One group of 4 inputs by the panel. */
#define GROUP(body)                                                                                \
    {                                                                                              \
        int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);                                         \
        int8x16_t w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);                                    \
        w += 4 * PANEL;                                                                            \
        body                                                                                       \
    }

/* tile_R: sums of R rows of q, less 128, by one panel whose groups begin at w. */
typedef void tile_fn(const uint8_t *q, size_t stride, const int8_t *w, size_t k, int32_t *sums);
#define DEFINE_TILE(rows)                                                                          \
    static void tile_##rows(const uint8_t *q, size_t stride, const int8_t *w, size_t k,            \
                            int32_t *sums) {                                                       \
        size_t i = 0;                                                                              \
        ROWS_##rows(SUMS) for (; i + STEP <= k; i += STEP) {                                       \
            ROWS_##rows(LOAD) GROUP(ROWS_##rows(MULTIPLY_0)) GROUP(ROWS_##rows(MULTIPLY_1))        \
                GROUP(ROWS_##rows(MULTIPLY_2)) GROUP(ROWS_##rows(MULTIPLY_3))                      \
        }                                                                                          \
        for (; i < k; i += 4) GROUP(ROWS_##rows(REST))                                             \
        ROWS_##rows(STORE)                                                                         \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)

static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    static tile_fn *const tile[TILE_ROWS + 1] = {NULL, tile_1, tile_2, tile_3, tile_4};
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    int32_t sums[TILE_ROWS * PANEL];
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const panel_head *head =
            (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
        size_t columns = SRI_MIN(product->last - j, (size_t)PANEL);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
            tile[rows](x->q + row * x->stride, x->stride, (const int8_t *)(head + 1), k, sums);
            for (size_t r = 0; r < rows; r++)
                sri_finish_sums(sums + r * PANEL, head, x->scale[row + r], x->zero[row + r] - 128,
                                columns, product->activation, product->y + (row + r) * n + j);
        }
    }
}

void sri_kernels_gemm_s8_dotprod(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
