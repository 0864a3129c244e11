/*
 * gemm_s8_avx2.c - the int8 product with AVX2.
 *
 * vpmaddubsw would multiply bytes directly, but it saturates at 16 bits, and sums must be exact. So
 * weights and activations are widened to 16 bits and vpmaddwd adds pairs of products into 32 bits:
 * two multiplications and two additions for 32 products. Panels of 16 output channels: scale, bias,
 * then for every 2 inputs the 2 bytes of each channel together. A tile is up to 6 rows by 16
 * channels, 12 of 16 registers holding sums; weights are widened as they are loaded, once for all
 * rows; activations beforehand, less their zero point (so that no sums of columns are needed), once
 * for BLOCK panels. Sums go through memory, where the last step turns them into values.
 *
 * Rejected, each exact: activations split into halves of 4 bits (two vpmaddubsw and two additions,
 * and twice the sums); into 7 bits and 1 (five instructions); |a| with the sign moved to the
 * weights (vpsignb, vpmaddubsw, vpmaddwd, vpaddd). None takes fewer multiplications for 32
 * products.
 */
#include "kernels/x86/math_avx2.h"

enum {
    PANEL = 16,
    GROUP = 2,
    UNIT = 2,
    TILE_ROWS = 6,
    ROWS = 192,
    STEP = 1024,
    BLOCK = 4,
    WIDTH = BLOCK * PANEL,
    AHEAD = 4096
};

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
} panel_head;

SRI_INLINE size_t place(size_t column, size_t i) { return i / 2 * 2 * PANEL + column * 2 + i % 2; }

/* Nothing: activations come less their zero point. */
#define NOTE_CHANNEL(head, column, sum, least) ((void)(sum), (void)(least))

#include "kernels/panels_s8.inc"

/* `count` bytes less `zero` to 16 bits, the last odd one with a zero beside it. */
static void widen(const uint8_t *q, size_t count, int32_t zero, int16_t *wide) {
    __m256i shift = _mm256_set1_epi16((int16_t)zero);
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m256i words = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(q + i)));
        _mm256_storeu_si256((__m256i *)(wide + i), _mm256_sub_epi16(words, shift));
    }
    for (; i < count; i++) wide[i] = (int16_t)(q[i] - zero);
    if (count % 2 != 0) wide[count] = 0;
}

/* Two neighbouring activations, in every lane. */
SRI_INLINE __m256i broadcast2(const int16_t *wide) {
    int32_t two;
    memcpy(&two, wide, sizeof two);
    return _mm256_set1_epi32(two);
}

SRI_INLINE __m256i load_sums(const int32_t *sums) {
    return _mm256_loadu_si256((const __m256i *)sums);
}

SRI_INLINE __m256i load_weights(const int8_t *w) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
}

/* Sums have names of their own, not places in an array, which GCC would keep in memory. */
#define SUMS(r)                                                                                    \
    __m256i s##r##0 = load_sums(sums + r * WIDTH), s##r##1 = load_sums(sums + r * WIDTH + 8);
#define MULTIPLY(r)                                                                                \
    {                                                                                              \
        __m256i a = broadcast2(wide + r * STEP + i);                                               \
        s##r##0 = _mm256_add_epi32(s##r##0, _mm256_madd_epi16(a, low));                            \
        s##r##1 = _mm256_add_epi32(s##r##1, _mm256_madd_epi16(a, high));                           \
    }
#define STORE(r)                                                                                   \
    _mm256_storeu_si256((__m256i *)(sums + r * WIDTH), s##r##0);                                   \
    _mm256_storeu_si256((__m256i *)(sums + r * WIDTH + 8), s##r##1);
#define ROWS_1(each) each(0)
#define ROWS_2(each) ROWS_1(each) each(1)
#define ROWS_3(each) ROWS_2(each) each(2)
#define ROWS_4(each) ROWS_3(each) each(3)
#define ROWS_5(each) ROWS_4(each) each(4)
#define ROWS_6(each) ROWS_5(each) each(5)

/* tile_R: adds the products of R rows `wide` and `count` inputs of a panel to `sums`. With 2 rows
 * and more, multiplications take longer than weights to arrive: those `ahead` bytes further on are
 * fetched meanwhile, which this tile, when it is the only one, or those that follow will want. */
typedef void tile_fn(const int16_t *wide, const int8_t *w, size_t ahead, size_t count,
                     int32_t *sums);
#define DEFINE_TILE(rows)                                                                          \
    static void tile_##rows(const int16_t *wide, const int8_t *w, size_t ahead, size_t count,      \
                            int32_t *sums) {                                                       \
        (void)ahead;                                                                               \
        ROWS_##rows(SUMS) for (size_t i = 0; i < count; i += 2, w += 2 * PANEL) {                  \
            __m256i low = load_weights(w), high = load_weights(w + PANEL);                         \
            if (rows > 1) _mm_prefetch((const char *)w + ahead, _MM_HINT_T1);                      \
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
                       sri_activation activation, float *y) {
    float out[PANEL], *to = columns < PANEL ? out : y;
    for (int half = 0; half < PANEL; half += 8) {
        __m256 value = _mm256_cvtepi32_ps(load_sums(sums + half));
        value = _mm256_mul_ps(value, _mm256_loadu_ps(head->scale + half));
        value =
            _mm256_fmadd_ps(value, _mm256_set1_ps(row_scale), _mm256_loadu_ps(head->bias + half));
        _mm256_storeu_ps(to + half, activation == SRI_GELU ? sri_gelu8(value) : value);
    }
    if (columns < PANEL) memcpy(y, out, columns * sizeof *y);
}

/* Rows [row, row + rows) by the channels of up to BLOCK panels, `columns` of them real. */
static void multiply(const sri_quantized *x, size_t row, size_t rows, const char *panels,
                     size_t ahead, size_t k, size_t columns, sri_activation activation, float *y,
                     size_t n) {
    static tile_fn *const tile[TILE_ROWS + 1] = {NULL,   tile_1, tile_2, tile_3,
                                                 tile_4, tile_5, tile_6};
    int16_t wide[TILE_ROWS * STEP];
    int32_t sums[TILE_ROWS * WIDTH];
    memset(sums, 0, rows * WIDTH * sizeof *sums);
    for (size_t start = 0; start < k; start += STEP) {
        size_t count = SRI_MIN(k - start, (size_t)STEP);
        for (size_t r = 0; r < rows; r++)
            widen(x->q + (row + r) * x->stride + start, count, x->zero[row + r], wide + r * STEP);
        for (size_t j = 0; j < columns; j += PANEL) {
            const panel_head *head = (const panel_head *)(panels + j / PANEL * panel_size(k));
            tile[rows](wide, (const int8_t *)(head + 1) + start * PANEL, ahead, count, sums + j);
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j += PANEL)
            finish(sums + r * WIDTH + j, (const panel_head *)(panels + j / PANEL * panel_size(k)),
                   x->scale[row + r], columns - j, activation, y + r * n + j);
}

/* Rows [start, start + m). */
static void run_rows(const sri_quantized *x, size_t start, size_t m, const void *packed, size_t k,
                     const sri_product *product) {
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j = product->first; j < product->last; j += WIDTH)
        for (size_t t = 0; t < tiles; t++) {
            size_t row = start + m * t / tiles, rows = start + m * (t + 1) / tiles - row;
            size_t ahead = tiles == 1 ? AHEAD : t == tiles - 1 ? BLOCK * panel_size(k) : 0;
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

void sri_kernels_gemm_s8_avx2(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
