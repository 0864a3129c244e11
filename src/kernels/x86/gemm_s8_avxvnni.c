/*
 * gemm_s8_avxvnni.c - the int8 product with AVX-VNNI: CPUs of laptops and desktops without AVX-512.
 *
 * vpdpbusd on registers of 256 bits multiplies 32 unsigned by 32 signed bytes and adds the products
 * by fours into 8 sums, exactly. Panels of 16 output channels: scale, bias and sums of the columns,
 * then for every 4 inputs the 4 bytes of each channel together, 64 bytes. A tile is up to 6 rows by
 * one panel, 12 of 16 registers holding sums. vpdpbusd waits for the one before into the same sum,
 * so one and two rows take several panels at once (three by two would be short of registers). Sums
 * go through memory, where the last step turns them into values.
 */
#include "kernels/x86/math_avx2.h"

enum {
    PANEL = 16,
    GROUP = 4,
    UNIT = 4,
    TILE_ROWS = 6,
    ROWS = 192,
    BLOCK = 4,
    WIDTH = BLOCK * PANEL
};

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
    int32_t sums[PANEL];
} panel_head;

SRI_INLINE size_t place(size_t column, size_t i) { return i / 4 * 4 * PANEL + column * 4 + i % 4; }

#define NOTE_CHANNEL(head, column, sum, least) ((head)->sums[column] = (sum), (void)(least))

#include "kernels/panels_s8.inc"

SRI_INLINE __m256i load(const void *from) { return _mm256_loadu_si256(from); }

SRI_INLINE __m256i broadcast4(const uint8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

/* sum += the products of `a` (unsigned bytes) and `w` (signed bytes) by fours. As assembly, because
 * GCC 12 copies the sum to another register around the intrinsic. {vex}: not AVX-512's encoding. */
#define DPBUSD(sum, a, w) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w))

/* Sums have names of their own, not places in an array, which GCC would keep in memory. `p` counts
 * panels, `r` rows. */
#define SUMS(p, r) __m256i s##p##r##0 = _mm256_setzero_si256(), s##p##r##1 = s##p##r##0;
#define MULTIPLY(p, r)                                                                             \
    {                                                                                              \
        __m256i a = broadcast4(q + r * stride + i);                                                \
        DPBUSD(s##p##r##0, a, low);                                                                \
        DPBUSD(s##p##r##1, a, high);                                                               \
    }
#define STORE(p, r)                                                                                \
    _mm256_storeu_si256((__m256i *)(sums + r * WIDTH + p * PANEL), s##p##r##0);                    \
    _mm256_storeu_si256((__m256i *)(sums + r * WIDTH + p * PANEL + 8), s##p##r##1);
#define ROWS_1(each, p)  each(p, 0)
#define ROWS_2(each, p)  ROWS_1(each, p) each(p, 1)
#define ROWS_3(each, p)  ROWS_2(each, p) each(p, 2)
#define ROWS_4(each, p)  ROWS_3(each, p) each(p, 3)
#define ROWS_5(each, p)  ROWS_4(each, p) each(p, 4)
#define ROWS_6(each, p)  ROWS_5(each, p) each(p, 5)
#define SUMS_OF(p, rows) ROWS_##rows(SUMS, p)
#define MULTIPLY_BY(p, rows)                                                                       \
    {                                                                                              \
        const char *w = groups + p * panel_size(k) + i * PANEL;                                    \
        if (rows > 3) _mm_prefetch(w + ahead, _MM_HINT_T1);                                        \
        __m256i low = load(w), high = load(w + 32);                                                \
        ROWS_##rows(MULTIPLY, p)                                                                   \
    }
#define STORE_OF(p, rows)    ROWS_##rows(STORE, p)
#define PANELS_1(part, rows) part(0, rows)
#define PANELS_2(part, rows) PANELS_1(part, rows) part(1, rows)
#define PANELS_4(part, rows) PANELS_2(part, rows) part(2, rows) part(3, rows)

/* tile_RxP: sums of R rows of q by P panels, whose groups begin at `groups`. With 4 rows and more,
 * multiplications take longer than weights to arrive: those `ahead` bytes further on are fetched
 * meanwhile, which tiles that follow will want. */
typedef void tile_fn(const uint8_t *q, size_t stride, const char *groups, size_t ahead, size_t k,
                     int32_t *sums);
#define DEFINE_TILE(rows, panels)                                                                  \
    static void tile_##rows##x##panels(const uint8_t *q, size_t stride, const char *groups,        \
                                       size_t ahead, size_t k, int32_t *sums) {                    \
        (void)ahead;                                                                               \
        size_t i = 0;                                                                              \
        PANELS_##panels(                                                                           \
            SUMS_OF,                                                                               \
            rows) do { /* k is at least 1: a loop that may not run costs GCC a copy of each sum */ \
            PANELS_##panels(MULTIPLY_BY, rows) i += 4;                                             \
        }                                                                                          \
        while (i < k)                                                                              \
            ;                                                                                      \
        PANELS_##panels(STORE_OF, rows)                                                            \
    }
DEFINE_TILE(1, 1)
DEFINE_TILE(1, 4)
DEFINE_TILE(2, 1)
DEFINE_TILE(2, 2)
DEFINE_TILE(3, 1)
DEFINE_TILE(4, 1)
DEFINE_TILE(5, 1)
DEFINE_TILE(6, 1)

/* Turns the sums of a row by one panel into values. */
SRI_INLINE void finish(const int32_t *sums, const panel_head *head, float row_scale, int32_t zero,
                       size_t columns, sri_activation activation, float *y) {
    float out[PANEL], *to = columns < PANEL ? out : y;
    for (int half = 0; half < PANEL; half += 8) {
        __m256i shift = _mm256_mullo_epi32(_mm256_set1_epi32(zero), load(head->sums + half));
        __m256 value = _mm256_cvtepi32_ps(_mm256_sub_epi32(load(sums + half), shift));
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
    static const struct {
        tile_fn *one, *several;
        size_t panels; /* that `several` takes */
    } kinds[TILE_ROWS + 1] = {
        {NULL, NULL, 1},         {tile_1x1, tile_1x4, 4}, {tile_2x1, tile_2x2, 2},
        {tile_3x1, tile_3x1, 1}, {tile_4x1, tile_4x1, 1}, {tile_5x1, tile_5x1, 1},
        {tile_6x1, tile_6x1, 1},
    };
    int32_t sums[TILE_ROWS * WIDTH];
    for (size_t j = 0, width; j < columns; j += width) {
        width = kinds[rows].panels * PANEL;
        tile_fn *tile = kinds[rows].several;
        if (columns - j <= width - PANEL) width = PANEL, tile = kinds[rows].one;
        tile(x->q + row * x->stride, x->stride,
             panels + j / PANEL * panel_size(k) + sizeof(panel_head), ahead, k, sums + j);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < columns; j += PANEL)
            finish(sums + r * WIDTH + j, (const panel_head *)(panels + j / PANEL * panel_size(k)),
                   x->scale[row + r], x->zero[row + r], columns - j, activation, y + r * n + j);
}

/* Rows [start, start + m). */
static void run_rows(const sri_quantized *x, size_t start, size_t m, const void *packed, size_t k,
                     const sri_product *product) {
    size_t n = product->n, tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t j = product->first; j < product->last; j += WIDTH)
        for (size_t t = 0; t < tiles; t++) {
            size_t row = start + m * t / tiles, rows = start + m * (t + 1) / tiles - row;
            /* A single tile reads weights in one go: the CPU's own prefetcher does as well. */
            size_t ahead = tiles > 1 && t == tiles - 1 ? BLOCK * panel_size(k) : 0;
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

void sri_kernels_gemm_s8_avxvnni(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
