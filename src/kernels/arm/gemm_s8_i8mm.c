/*
 * gemm_s8_i8mm.c - the int8 product with usmmla.
 *
 * usmmla multiplies 2 rows of 8 unsigned bytes by 2 channels of 8 signed bytes and adds to 2 x 2
 * sums, exactly: twice what sdot does. Panels of 16 output channels: a head, then for every 8
 * inputs the 8 bytes of each channel together, 128 bytes. A tile is up to two pairs of rows by one
 * panel, 16 of 32 registers holding sums. An odd last row is its own partner, and stored once.
 */
#include "kernels/arm/math_neon.h"

enum { PANEL = SRI_PANEL, GROUP = 8, UNIT = 8, TILE_ROWS = 4 };

typedef sri_panel_head panel_head;

SRI_INLINE size_t place(size_t column, size_t i) {
    return i / GROUP * GROUP * PANEL + column * GROUP + i % GROUP;
}

#define NOTE_CHANNEL(head, column, sum, least) ((head)->sums[column] = (sum), (void)(least))

#include "kernels/panels_s8.inc"

/* 8 inputs of a row, or as many as there are. */
SRI_INLINE uint8x8_t load8(const uint8_t *q, size_t count) {
    if (count >= GROUP) return vld1_u8(q);
    uint8_t copy[GROUP] = {0};
    memcpy(copy, q, count);
    return vld1_u8(copy);
}

/* Sums of a pair of rows by 2 channels have names of their own; `p` counts pairs of rows. */
#define SUMS(p)                                                                                    \
    int32x4_t s##p##0 = vdupq_n_s32(0), s##p##1 = s##p##0, s##p##2 = s##p##0, s##p##3 = s##p##0,   \
              s##p##4 = s##p##0, s##p##5 = s##p##0, s##p##6 = s##p##0, s##p##7 = s##p##0;          \
    const uint8_t *even##p = q + 2 * p * stride;                                                   \
    const uint8_t *odd##p = q + SRI_MIN(2 * (size_t)p + 1, rows - 1) * stride;
#define LOAD(p)       uint8x16_t a##p = vcombine_u8(load8(even##p + i, k - i), load8(odd##p + i, k - i));
#define MULTIPLY_0(p) s##p##0 = vusmmlaq_s32(s##p##0, a##p, weight);
#define MULTIPLY_1(p) s##p##1 = vusmmlaq_s32(s##p##1, a##p, weight);
#define MULTIPLY_2(p) s##p##2 = vusmmlaq_s32(s##p##2, a##p, weight);
#define MULTIPLY_3(p) s##p##3 = vusmmlaq_s32(s##p##3, a##p, weight);
#define MULTIPLY_4(p) s##p##4 = vusmmlaq_s32(s##p##4, a##p, weight);
#define MULTIPLY_5(p) s##p##5 = vusmmlaq_s32(s##p##5, a##p, weight);
#define MULTIPLY_6(p) s##p##6 = vusmmlaq_s32(s##p##6, a##p, weight);
#define MULTIPLY_7(p) s##p##7 = vusmmlaq_s32(s##p##7, a##p, weight);
#define STORE_TWO(p, c)                                                                            \
    vst1_s32(sums + 2 * p * PANEL + 2 * c, vget_low_s32(s##p##c));                                 \
    vst1_s32(sums + (2 * p + 1) * PANEL + 2 * c, vget_high_s32(s##p##c));
#define STORE(p)                                                                                   \
    STORE_TWO(p, 0)                                                                                \
    STORE_TWO(p, 1)                                                                                \
    STORE_TWO(p, 2)                                                                                \
    STORE_TWO(p, 3) STORE_TWO(p, 4) STORE_TWO(p, 5) STORE_TWO(p, 6) STORE_TWO(p, 7)
#define PAIRS_1(each) each(0)
#define PAIRS_2(each) each(0) each(1)
#define CHANNELS(c, pairs)                                                                         \
    {                                                                                              \
        int8x16_t weight = vld1q_s8(w + 16 * c);                                                   \
        PAIRS_##pairs(MULTIPLY_##c)                                                                \
    }

/* tile_P: sums of `rows` rows of q, in P pairs, by one panel whose groups begin at w. */
#define DEFINE_TILE(pairs)                                                                         \
    static void tile_##pairs(const uint8_t *q, size_t stride, size_t rows, const int8_t *w,        \
                             size_t k, int32_t *sums) {                                            \
        PAIRS_##pairs(SUMS) for (size_t i = 0; i < k; i += GROUP, w += GROUP * PANEL){             \
            PAIRS_##pairs(LOAD) CHANNELS(0, pairs) CHANNELS(1, pairs) CHANNELS(2, pairs)           \
                CHANNELS(3, pairs) CHANNELS(4, pairs) CHANNELS(5, pairs) CHANNELS(6, pairs)        \
                    CHANNELS(7, pairs)} PAIRS_##pairs(STORE)                                       \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)

static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    size_t n = product->n;
    int32_t sums[TILE_ROWS * PANEL];
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const panel_head *head =
            (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
        const int8_t *w = (const int8_t *)(head + 1);
        size_t columns = SRI_MIN(product->last - j, (size_t)PANEL);
        for (size_t row = 0; row < m; row += TILE_ROWS) {
            size_t rows = SRI_MIN(m - row, (size_t)TILE_ROWS);
            const uint8_t *q = x->q + row * x->stride;
            (rows > 2 ? tile_2 : tile_1)(q, x->stride, rows, w, k, sums);
            for (size_t r = 0; r < rows; r++)
                sri_finish_sums(sums + r * PANEL, head, x->scale[row + r], x->zero[row + r],
                                columns, product->activation, product->y + (row + r) * n + j);
        }
    }
}

void sri_kernels_gemm_s8_i8mm(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
