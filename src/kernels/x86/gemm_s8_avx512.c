/*
 * gemm_s8_avx512.c - the int8 product with AVX-512 BW, for CPUs without VNNI.
 *
 * As gemm_s8_avx2.c: bytes are widened to 16 bits and multiplied by vpmaddwd, activations less
 * their zero point beforehand. Panels of 64 output channels: scale, bias, then for every 2 inputs
 * the 2 bytes of each channel together; tiles of up to 6 rows by one panel, 24 of 32 registers
 * holding sums. Activations are widened once for BLOCK panels: with three, their weights no longer
 * stay in the first cache beside them.
 */
#include "kernels/x86/math_avx512.h"

#include <string.h>

enum {
    PANEL = 64,
    GROUP = 2,
    UNIT = 2,
    TILE_ROWS = 6,
    ROWS = 192,
    STEP = 1024,
    BLOCK = 2,
    WIDTH = BLOCK * PANEL
};

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
} panel_head;

SRI_INLINE size_t place(size_t column, size_t i) { return i / 2 * 2 * PANEL + column * 2 + i % 2; }

/* Nothing: activations come less their zero point. */
#define NOTE_CHANNEL(head, column, sum, least) ((void)(sum), (void)(least))

#include "kernels/panels_s8.inc"

/* `count` bytes less `zero` to 16 bits; zeros up to the next multiple of 32. */
static void widen(const uint8_t *q, size_t count, int32_t zero, int16_t *wide) {
    __m512i shift = _mm512_set1_epi16((int16_t)zero);
    for (size_t i = 0; i < count; i += 32) {
        __mmask32 mask = count - i >= 32 ? 0xFFFFFFFFu : (1u << (count - i)) - 1;
        __m512i words = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(mask, q + i));
        _mm512_storeu_si512(wide + i, _mm512_maskz_sub_epi16(mask, words, shift));
    }
}

/* Two neighbouring activations, in every lane. */
SRI_INLINE __m512i broadcast2(const int16_t *wide) {
    int32_t two;
    memcpy(&two, wide, sizeof two);
    return _mm512_set1_epi32(two);
}

SRI_INLINE __m512i load_weights(const int8_t *w) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
}

/* Sums have names of their own, not places in an array, which GCC would keep in memory. */
#define SUM(r, part)  __m512i s##r##part = _mm512_loadu_si512(sums + r * PANEL + 16 * part);
#define ADD(r, part)  s##r##part = _mm512_add_epi32(s##r##part, _mm512_madd_epi16(a, w##part));
#define KEEP(r, part) _mm512_storeu_si512(sums + r * PANEL + 16 * part, s##r##part);
#define SUMS(r)       SUM(r, 0) SUM(r, 1) SUM(r, 2) SUM(r, 3)
#define MULTIPLY(r)                                                                                \
    {                                                                                              \
        __m512i a = broadcast2(wide + r * STEP + i);                                               \
        ADD(r, 0) ADD(r, 1) ADD(r, 2) ADD(r, 3)                                                    \
    }
#define STORE(r)     KEEP(r, 0) KEEP(r, 1) KEEP(r, 2) KEEP(r, 3)
#define ROWS_1(each) each(0)
#define ROWS_2(each) ROWS_1(each) each(1)
#define ROWS_3(each) ROWS_2(each) each(2)
#define ROWS_4(each) ROWS_3(each) each(3)
#define ROWS_5(each) ROWS_4(each) each(4)
#define ROWS_6(each) ROWS_5(each) each(5)

/* tile_R: adds the products of R rows `wide` and `count` inputs of a panel to `sums`. Weights
 * `ahead` bytes further on are fetched meanwhile, as in gemm_s8_avx2.c. */
typedef void tile_fn(const int16_t *wide, const int8_t *w, size_t ahead, size_t count,
                     int32_t *sums);
#define DEFINE_TILE(rows)                                                                          \
    static void tile_##rows(const int16_t *wide, const int8_t *w, size_t ahead, size_t count,      \
                            int32_t *sums) {                                                       \
        (void)ahead;                                                                               \
        ROWS_##rows(SUMS) for (size_t i = 0; i < count; i += 2, w += 2 * PANEL) {                  \
            __m512i w0 = load_weights(w), w1 = load_weights(w + 32);                               \
            __m512i w2 = load_weights(w + 64), w3 = load_weights(w + 96);                          \
            if (rows > 2) {                                                                        \
                _mm_prefetch((const char *)w + ahead, _MM_HINT_T1);                                \
                _mm_prefetch((const char *)w + ahead + 64, _MM_HINT_T1);                           \
            }                                                                                      \
            ROWS_##rows(MULTIPLY)                                                                  \
        }                                                                                          \
        ROWS_##rows(STORE)                                                                         \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

/* Turns the sums of a row by one panel into values. */
SRI_INLINE void finish(const int32_t *sums, const panel_head *head, float row_scale, size_t columns,
                       float *y) {
    for (int part = 0; part < PANEL / 16; part++) {
        __m512 value = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + 16 * part));
        value = _mm512_mul_ps(value, _mm512_loadu_ps(head->scale + 16 * part));
        value = _mm512_fmadd_ps(value, _mm512_set1_ps(row_scale),
                                _mm512_loadu_ps(head->bias + 16 * part));
        sri_store_part(y, columns, part, value);
    }
}

/* Fetches the lines of y [rows, columns], rows n floats apart, that a tile will write when it has
 * its sums: stores that find their lines there do not hold up the next tile. */
static void fetch_tile(const float *y, size_t rows, size_t columns, size_t n) {
    for (size_t r = 0; r < rows; r++, y += n)
        for (size_t i = 0; i < columns; i += 16) _mm_prefetch(y + i, _MM_HINT_T0);
}

/* Rows [row, row + rows) by the channels of up to BLOCK panels, `columns` of them real. */
static void multiply(const sri_quantized *x, size_t row, size_t rows, const char *panels,
                     size_t ahead, size_t k, size_t columns, sri_activation activation, float *y,
                     size_t n) {
    static tile_fn *const tile[TILE_ROWS + 1] = {NULL,   tile_1, tile_2, tile_3,
                                                 tile_4, tile_5, tile_6};
    int16_t wide[TILE_ROWS * STEP];
    int32_t sums[BLOCK][TILE_ROWS * PANEL];
    for (size_t p = 0; p * PANEL < columns; p++) memset(sums[p], 0, rows * PANEL * sizeof **sums);
    for (size_t start = 0; start < k; start += STEP) {
        size_t count = SRI_MIN(k - start, (size_t)STEP);
        for (size_t r = 0; r < rows; r++)
            widen(x->q + (row + r) * x->stride + start, count, x->zero[row + r], wide + r * STEP);
        for (size_t p = 0; p * PANEL < columns; p++) {
            const char *w = panels + p * panel_size(k) + sizeof(panel_head) + start * PANEL;
            fetch_tile(y + p * PANEL, rows, SRI_MIN(columns - p * PANEL, (size_t)PANEL), n);
            tile[rows](wide, (const int8_t *)w, ahead, count, sums[p]);
        }
    }
    for (size_t p = 0; p * PANEL < columns; p++) {
        const panel_head *head = (const panel_head *)(panels + p * panel_size(k));
        for (size_t r = 0; r < rows; r++)
            finish(sums[p] + r * PANEL, head, x->scale[row + r], columns - p * PANEL,
                   y + r * n + p * PANEL);
    }
    if (activation == SRI_GELU) sri_gelu_tile(y, rows, columns, n);
}

/* Fetches the activations of `rows` rows, which the next tile will want for the first time. */
static void fetch_rows(const sri_quantized *x, size_t row, size_t rows) {
    const uint8_t *q = x->q + row * x->stride;
    for (size_t i = 0; i < rows * x->stride; i += 64) _mm_prefetch(q + i, _MM_HINT_T1);
}

/* Rows [start, start + m). */
static void run_rows(const sri_quantized *x, size_t start, size_t m, const void *packed, size_t k,
                     const sri_product *product) {
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j = product->first; j < product->last; j += WIDTH)
        for (size_t t = 0; t < tiles; t++) {
            size_t row = start + m * t / tiles, rows = start + m * (t + 1) / tiles - row;
            size_t ahead = tiles > 1 && t == tiles - 1 ? BLOCK * panel_size(k) : 0;
            if (j == product->first)
                fetch_rows(x, row + rows, SRI_MIN(start + m - row - rows, (size_t)TILE_ROWS));
            multiply(x, row, rows, (const char *)packed + j / PANEL * panel_size(k), ahead, k,
                     SRI_MIN(product->last - j, (size_t)WIDTH), product->activation,
                     product->y + row * n + j, n);
        }
}

/* Rows go by as many as the second cache holds beside the weights. */
static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    for (size_t start = 0; start < m; start += ROWS)
        run_rows(x, start, SRI_MIN(m - start, (size_t)ROWS), packed, k, product);
}

void sri_kernels_gemm_s8_avx512(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
