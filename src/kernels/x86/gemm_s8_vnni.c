/*
 * gemm_s8_vnni.c - the int8 product with AVX-512 VNNI.
 *
 * vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds the products by fours into 16 sums of
 * 32 bits, exactly. Weights are packed into panels of 64 output channels: scale, bias and sums of
 * the columns, then for every 4 inputs the 4 bytes of each channel together, 256 bytes. A tile is
 * up to 6 rows by 64 channels: 24 of 32 registers hold sums, so that 4 loads of weights and 6
 * broadcasts serve 24 multiplications and the multiplier, not the load unit, is the limit. Rows are
 * split evenly over tiles: 13 are 5 + 4 + 4 rather than 6 + 6 + 1, since a tile of one row waits
 * for its own sums.
 * A single text's weights come from the last-level cache or memory; the first two tiles of a panel
 * fetch the next panel, a half each, while they multiply, a single tile what it wants next. A long
 * panel does not stay in the first cache until the second tile comes; tiles of six rows are slow
 * enough for the second cache, smaller ones go over DEPTH inputs of it at a time, their sums
 * waiting in memory.
 */
#include "kernels/x86/math_avx512.h"

#include <string.h>

/* So many rows of activations stay in the second-level cache while all panels pass by. */
enum {
    PANEL = 64,
    GROUP = 4,
    UNIT = 4,
    TILE_ROWS = 6,
    BLOCK_ROWS = 192,
    DEPTH = 384,
    FEW_TILES = 3,
    AHEAD = 4096
};

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
    int32_t sums[PANEL];
} panel_head;

SRI_INLINE size_t place(size_t column, size_t i) { return i / 4 * 4 * PANEL + column * 4 + i % 4; }

#define NOTE_CHANNEL(head, column, sum, least) ((head)->sums[column] = (sum), (void)(least))

#include "kernels/panels_s8.inc"

/* Turns sums of a row by 16 columns into values; `part` says which 16 of the panel. */
SRI_INLINE void finish(__m512i sum, const panel_head *head, int part, __m512i zero,
                       __m512 row_scale, size_t columns, float *y) {
    __m512i shift = _mm512_mullo_epi32(zero, _mm512_loadu_si512(head->sums + 16 * part));
    __m512 value = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, shift));
    value = _mm512_mul_ps(value, _mm512_loadu_ps(head->scale + 16 * part));
    value = _mm512_fmadd_ps(value, row_scale, _mm512_loadu_ps(head->bias + 16 * part));
    sri_store_part(y, columns, part, value);
}

SRI_INLINE __m512i broadcast4(const uint8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/* sum += the products of `a` (unsigned bytes) and `w` (signed bytes) by fours. As assembly, because
 * GCC 12 copies the sum to another register around the intrinsic, and then has too few registers.
 * */
#define DPBUSD(sum, a, w) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w))

/* Sums have names of their own, not places in an array, which GCC would keep in memory. */
#define SUMS(r)                                                                                    \
    __m512i s##r##0 = _mm512_setzero_si512(), s##r##1 = s##r##0, s##r##2 = s##r##0,                \
            s##r##3 = s##r##0;                                                                     \
    const uint8_t *q##r = x->q + (row + r) * x->stride;
#define MULTIPLY(r)                                                                                \
    {                                                                                              \
        __m512i a = broadcast4(q##r + i);                                                          \
        DPBUSD(s##r##0, a, w0);                                                                    \
        DPBUSD(s##r##1, a, w1);                                                                    \
        DPBUSD(s##r##2, a, w2);                                                                    \
        DPBUSD(s##r##3, a, w3);                                                                    \
    }
#define FINISH(r)                                                                                  \
    {                                                                                              \
        __m512i zero = _mm512_set1_epi32(x->zero[row + r]);                                        \
        __m512 scale = _mm512_set1_ps(x->scale[row + r]);                                          \
        finish(s##r##0, head, 0, zero, scale, columns, y + (row + r) * n);                         \
        finish(s##r##1, head, 1, zero, scale, columns, y + (row + r) * n);                         \
        finish(s##r##2, head, 2, zero, scale, columns, y + (row + r) * n);                         \
        finish(s##r##3, head, 3, zero, scale, columns, y + (row + r) * n);                         \
    }
#define ROWS_1(each) each(0)
#define ROWS_2(each) ROWS_1(each) each(1)
#define ROWS_3(each) ROWS_2(each) each(2)
#define ROWS_4(each) ROWS_3(each) each(3)
#define ROWS_5(each) ROWS_4(each) each(4)
#define ROWS_6(each) ROWS_5(each) each(5)

/* tile_R: rows [row, row + R) by one panel, of whose columns the first `columns` are real. With
 * `ahead` not NULL: weights of the next panel, of which two lines are fetched at each step. A tile
 * that is `alone` fetches its own weights, AHEAD bytes before they are wanted: the CPU does that by
 * itself, but stops at the end of each page. */
typedef void tile_fn(const sri_quantized *x, size_t row, const panel_head *head, size_t k,
                     size_t columns, float *y, size_t n, const char *ahead, bool alone);
#define STEP(count, begin, end, fetch)                                                             \
    for (size_t i = begin; i < end; i += 4, groups += 4 * PANEL) {                                 \
        __m512i w0 = _mm512_loadu_si512(groups), w1 = _mm512_loadu_si512(groups + 64);             \
        __m512i w2 = _mm512_loadu_si512(groups + 128), w3 = _mm512_loadu_si512(groups + 192);      \
        fetch ROWS_##count(MULTIPLY)                                                               \
    }
#define FETCH                                                                                      \
    _mm_prefetch(ahead, _MM_HINT_T0);                                                              \
    _mm_prefetch(ahead + 64, _MM_HINT_T0);                                                         \
    ahead += 128;
#define FETCH_OWN                                                                                  \
    _mm_prefetch(groups + AHEAD, _MM_HINT_T0);                                                     \
    _mm_prefetch(groups + (AHEAD + 64), _MM_HINT_T0);                                              \
    _mm_prefetch(groups + (AHEAD + 128), _MM_HINT_T0);                                             \
    _mm_prefetch(groups + (AHEAD + 192), _MM_HINT_T0);
#define DEFINE_TILE(count)                                                                         \
    static void tile_##count(const sri_quantized *x, size_t row, const panel_head *head, size_t k, \
                             size_t columns, float *y, size_t n, const char *ahead, bool alone) {  \
        const char *groups = (const char *)(head + 1);                                             \
        ROWS_##count(SUMS) if (alone) STEP(count, 0, k, FETCH_OWN) else if (ahead != NULL)         \
            STEP(count, 0, k, FETCH) else STEP(count, 0, k, ) ROWS_##count(FINISH)                 \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)

/* part_R: adds to `sums` [R, PANEL] the products of inputs begin to end - 1. */
typedef void part_fn(const sri_quantized *x, size_t row, const char *groups, size_t begin,
                     size_t end, int32_t *sums, const char *ahead);
#define RESUME(r)                                                                                  \
    s##r##0 = _mm512_loadu_si512(sums + r * PANEL);                                                \
    s##r##1 = _mm512_loadu_si512(sums + (r * PANEL + 16));                                         \
    s##r##2 = _mm512_loadu_si512(sums + (r * PANEL + 32));                                         \
    s##r##3 = _mm512_loadu_si512(sums + (r * PANEL + 48));
#define KEEP(r)                                                                                    \
    _mm512_storeu_si512(sums + r * PANEL, s##r##0);                                                \
    _mm512_storeu_si512(sums + (r * PANEL + 16), s##r##1);                                         \
    _mm512_storeu_si512(sums + (r * PANEL + 32), s##r##2);                                         \
    _mm512_storeu_si512(sums + (r * PANEL + 48), s##r##3);
#define DEFINE_PART(count)                                                                         \
    static void part_##count(const sri_quantized *x, size_t row, const char *groups, size_t begin, \
                             size_t end, int32_t *sums, const char *ahead) {                       \
        ROWS_##count(SUMS) if (begin > 0) { ROWS_##count(RESUME) }                                 \
        if (ahead != NULL)                                                                         \
            STEP(count, begin, end, FETCH) else STEP(count, begin, end, ) ROWS_##count(KEEP)       \
    }
DEFINE_PART(3)
DEFINE_PART(4)
DEFINE_PART(5)
DEFINE_PART(6)

/* Rows [first, first + m), in at most FEW_TILES tiles of 3 rows and more, by one panel, DEPTH
 * inputs at a time. */
static void run_parts(const sri_quantized *x, size_t first, size_t m, size_t tiles,
                      const panel_head *head, size_t k, size_t columns, float *y, size_t n) {
    static part_fn *const part[TILE_ROWS + 1] = {NULL, NULL, NULL, part_3, part_4, part_5, part_6};
    int32_t sums[FEW_TILES * TILE_ROWS * PANEL];
    const char *groups = (const char *)(head + 1);
    for (size_t begin = 0, end; begin < k; begin = end) {
        end = SRI_MIN(begin + DEPTH, k);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = m * t / tiles, rows = m * (t + 1) / tiles - row;
            const char *ahead =
                t < 2 ? groups + end * PANEL + t * ((end - begin) * PANEL / 2) : NULL;
            part[rows](x, first + row, groups + begin * PANEL, begin, end, sums + row * PANEL,
                       ahead);
        }
    }
    for (size_t r = 0; r < m; r++) {
        __m512i zero = _mm512_set1_epi32(x->zero[first + r]);
        __m512 scale = _mm512_set1_ps(x->scale[first + r]);
        for (int i = 0; i < PANEL / 16; i++)
            finish(_mm512_loadu_si512(sums + r * PANEL + 16 * (size_t)i), head, i, zero, scale,
                   columns, y + (first + r) * n);
    }
}

/* Rows [begin, begin + m), split evenly over tiles, by the columns of the product. */
static void run_rows(const sri_quantized *x, size_t begin, size_t m, const void *packed, size_t k,
                     const sri_product *product) {
    static tile_fn *const tile[TILE_ROWS + 1] = {NULL,   tile_1, tile_2, tile_3,
                                                 tile_4, tile_5, tile_6};
    size_t tiles = (m + TILE_ROWS - 1) / TILE_ROWS, n = product->n;
    bool in_parts = k > DEPTH && tiles > 1 && tiles <= FEW_TILES && m < tiles * TILE_ROWS;
    for (size_t j = product->first; j < product->last; j += PANEL) {
        const panel_head *head =
            (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
        size_t columns = SRI_MIN(n - j, (size_t)PANEL);
        float *y = product->y + j;
        if (in_parts) run_parts(x, begin, m, tiles, head, k, columns, y, n);
        for (size_t t = 0; t < tiles; t++) {
            size_t row = begin + m * t / tiles, rows = begin + m * (t + 1) / tiles - row;
            const char *ahead = NULL;
            if (tiles > 1 && t < 2)
                ahead = (const char *)head + panel_size(k) + t * (panel_size(k) / 2);
            if (!in_parts) tile[rows](x, row, head, k, columns, y, n, ahead, tiles == 1);
            if (product->activation == SRI_GELU) sri_gelu_tile(y + row * n, rows, columns, n);
        }
    }
}

static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    for (size_t row = 0; row < m; row += BLOCK_ROWS)
        run_rows(x, row, SRI_MIN(m - row, (size_t)BLOCK_ROWS), packed, k, product);
}

void sri_kernels_gemm_s8_vnni(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
