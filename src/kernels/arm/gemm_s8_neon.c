/*
 * gemm_s8_neon.c - the int8 product with plain NEON, for CPUs without sdot.
 *
 * Activations less 128 are signed bytes (the sums of the columns make up for it). smull multiplies
 * 8 pairs of bytes into 16 bits, smlal2 adds the products of 8 more, sadalp adds neighbours into 32
 * bits: three instructions for 16 products. Two products stay within 16 bits unless both weights
 * and both activations are -128; a panel with such a weight is added up after every product.
 * Panels of 16 output channels: a head, then for every 4 inputs and 4 channels the bytes of inputs
 * 0 and 1 of each channel, then of inputs 2 and 3. A tile is up to 4 rows by one panel.
 */
#include "kernels/arm/math_neon.h"

enum { PANEL = SRI_PANEL, GROUP = 4, UNIT = 2, TILE_ROWS = 4 };

typedef sri_panel_head panel_head;

SRI_INLINE size_t place(size_t column, size_t i) {
    return i / 4 * 4 * PANEL + column / 4 * 16 + i % 4 / 2 * 8 + column % 4 * 2 + i % 2;
}

#define NOTE_CHANNEL(head, column, sum, least)                                                     \
    ((head)->sums[column] = (sum), (head)->has_lowest |= (least) == -128)

#include "kernels/panels_s8.inc"

/* Two neighbouring activations less 128, in every pair of bytes. */
SRI_INLINE int8x16_t broadcast2(const uint8_t *q) {
    int16_t two;
    memcpy(&two, q, sizeof two);
    return veorq_s8(vreinterpretq_s8_s16(vdupq_n_s16(two)), vdupq_n_s8(-128));
}

/* sum + the products of 4 channels by 4 inputs. */
SRI_INLINE int32x4_t add_products(int32x4_t sum, int8x16_t a01, int8x16_t a23, int8x16_t w) {
    int16x8_t products = vmull_s8(vget_low_s8(a01), vget_low_s8(w));
    return vpadalq_s16(sum, vmlal_high_s8(products, a23, w));
}

SRI_INLINE int32x4_t add_products_lowest(int32x4_t sum, int8x16_t a01, int8x16_t a23, int8x16_t w) {
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a01), vget_low_s8(w)));
    return vpadalq_s16(sum, vmull_high_s8(a23, w));
}

/* Sums have names of their own, not places in an array, which compilers may keep in memory. */
#define SUMS(r, add)                                                                               \
    int32x4_t s##r##0 = vdupq_n_s32(0), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define MULTIPLY(r, add)                                                                           \
    {                                                                                              \
        int8x16_t a01 = broadcast2(q + r * stride + i), a23 = broadcast2(q + r * stride + i + 2);  \
        s##r##0 = add(s##r##0, a01, a23, w0);                                                      \
        s##r##1 = add(s##r##1, a01, a23, w1);                                                      \
        s##r##2 = add(s##r##2, a01, a23, w2);                                                      \
        s##r##3 = add(s##r##3, a01, a23, w3);                                                      \
    }
#define STORE(r, add)                                                                              \
    vst1q_s32(sums + r * PANEL, s##r##0);                                                          \
    vst1q_s32(sums + r * PANEL + 4, s##r##1);                                                      \
    vst1q_s32(sums + r * PANEL + 8, s##r##2);                                                      \
    vst1q_s32(sums + r * PANEL + 12, s##r##3);
#define ROWS_1(each, add) each(0, add)
#define ROWS_2(each, add) ROWS_1(each, add) each(1, add)
#define ROWS_3(each, add) ROWS_2(each, add) each(2, add)
#define ROWS_4(each, add) ROWS_3(each, add) each(3, add)

/* tile_R: sums of R rows of q, less 128, by one panel whose groups begin at w. */
typedef void tile_fn(const uint8_t *q, size_t stride, const int8_t *w, size_t k, int32_t *sums);
#define DEFINE_TILE(rows, name, add)                                                               \
    static void name##rows(const uint8_t *q, size_t stride, const int8_t *w, size_t k,             \
                           int32_t *sums) {                                                        \
        ROWS_##rows(SUMS, add) for (size_t i = 0; i < k; i += 4, w += 4 * PANEL) {                 \
            int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);                                     \
            int8x16_t w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);                                \
            ROWS_##rows(MULTIPLY, add)                                                             \
        }                                                                                          \
        ROWS_##rows(STORE, add)                                                                    \
    }
DEFINE_TILE(1, tile_, add_products)
DEFINE_TILE(2, tile_, add_products)
DEFINE_TILE(3, tile_, add_products)
DEFINE_TILE(4, tile_, add_products)
DEFINE_TILE(1, tile_lowest_, add_products_lowest)
DEFINE_TILE(2, tile_lowest_, add_products_lowest)
DEFINE_TILE(3, tile_lowest_, add_products_lowest)
DEFINE_TILE(4, tile_lowest_, add_products_lowest)

static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    static tile_fn *const tile[2][TILE_ROWS + 1] = {
        {NULL, tile_1, tile_2, tile_3, tile_4},
        {NULL, tile_lowest_1, tile_lowest_2, tile_lowest_3, tile_lowest_4}};
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    int32_t sums[TILE_ROWS * PANEL];
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const panel_head *head =
            (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
        size_t columns = SRI_MIN(product->last - j, (size_t)PANEL);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
            tile[head->has_lowest][rows](x->q + row * x->stride, x->stride,
                                         (const int8_t *)(head + 1), k, sums);
            for (size_t r = 0; r < rows; r++)
                sri_finish_sums(sums + r * PANEL, head, x->scale[row + r], x->zero[row + r] - 128,
                                columns, product->activation, product->y + (row + r) * n + j);
        }
    }
}

void sri_kernels_gemm_s8_neon(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
