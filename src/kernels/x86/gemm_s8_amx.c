/*
 * gemm_s8_amx.c - the int8 product with AMX: tiles of 16 rows by 64 bytes.
 *
 * tdpbusd multiplies a tile of activations [16, 64] (unsigned) by a tile of weights [16 groups of 4
 * inputs, 16 channels] (signed) and adds to 16 x 16 sums, exactly. Panels of 32 output channels:
 * scale, bias and sums of the columns, then for every 64 inputs two tiles of weights. A block is up
 * to 32 rows by one panel: two tiles of activations and two of weights serve four products. Tiles
 * of activations have exactly as many rows as there are, so that nothing is copied, but for the
 * last inputs where k is no multiple of 64.
 *
 * Tile registers and their configuration belong to the thread: a call configures them and releases
 * them before it returns, so that nothing else need know.
 */
#include "kernels/x86/math_avx512.h"

#include <string.h>

enum { TILE = 16, GROUP = 64, UNIT = 4, PANEL = 2 * TILE, BLOCK_ROWS = 2 * TILE };

typedef struct panel_head {
    float scale[PANEL], bias[PANEL];
    int32_t sums[PANEL];
} panel_head;

SRI_INLINE size_t place(size_t column, size_t i) {
    return i / GROUP * GROUP * PANEL + column / TILE * TILE * GROUP + i % GROUP / 4 * 4 * TILE +
           column % TILE * 4 + i % 4;
}

#define NOTE_CHANNEL(head, column, sum, least) ((head)->sums[column] = (sum), (void)(least))

#include "kernels/panels_s8.inc"

/* What `pointer` points to is in memory: GCC 12's intrinsics do not say what they read. */
#define IN_MEMORY(pointer) __asm__ volatile("" ::"r"(pointer) : "memory")

/* Tiles 0 to 3 hold sums (row tile, then column tile), 4 and 5 activations, 6 and 7 weights. */
static void configure(size_t rows) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16]; /* of a row */
        uint8_t rows[16];
    } config = {.palette = 1};
    uint8_t first = (uint8_t)SRI_MIN(rows, (size_t)TILE);
    uint8_t second = (uint8_t)(rows > TILE ? rows - TILE : 1);
    for (int i = 0; i < 8; i++) config.bytes[i] = GROUP;
    config.rows[0] = config.rows[1] = config.rows[4] = first;
    config.rows[2] = config.rows[3] = config.rows[5] = second;
    config.rows[6] = config.rows[7] = TILE;
    IN_MEMORY(&config);
    _tile_loadconfig(&config);
}

/* One step of up to 16, or of up to 32 rows. `q` are GROUP inputs of each row. */
SRI_INLINE void step(const uint8_t *q, size_t stride, size_t rows, const int8_t *w) {
    _tile_loadd(6, w, GROUP);
    _tile_loadd(4, q, stride);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, w + TILE * GROUP, GROUP);
    _tile_dpbusd(1, 4, 7);
    if (rows <= TILE) return;
    _tile_loadd(5, q + TILE * stride, stride);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
}

/* The last inputs, of which there are fewer than GROUP: beyond a row's end may be nothing. */
static void last_step(const uint8_t *q, size_t stride, size_t rows, size_t count, const int8_t *w) {
    uint8_t copy[BLOCK_ROWS * GROUP] = {0};
    for (size_t r = 0; r < rows; r++) memcpy(copy + r * GROUP, q + r * stride, count);
    IN_MEMORY(copy);
    step(copy, GROUP, rows, w);
}

static void sum_block(const uint8_t *q, size_t stride, size_t rows, const int8_t *w, size_t k,
                      int32_t *sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    size_t i = 0;
    for (; i + GROUP <= k; i += GROUP) step(q + i, stride, rows, w + i * PANEL);
    if (i < k) last_step(q + i, stride, rows, k - i, w + i * PANEL);
    _tile_stored(0, sums, PANEL * sizeof *sums);
    _tile_stored(1, sums + TILE, PANEL * sizeof *sums);
    if (rows <= TILE) return;
    _tile_stored(2, sums + TILE * PANEL, PANEL * sizeof *sums);
    _tile_stored(3, sums + TILE * PANEL + TILE, PANEL * sizeof *sums);
}

/* Turns the sums of a row by one panel into values. */
SRI_INLINE void finish(const int32_t *sums, const panel_head *head, float row_scale, int32_t zero,
                       size_t columns, float *y) {
    for (int part = 0; part < PANEL / 16; part++) {
        __m512i shift =
            _mm512_mullo_epi32(_mm512_set1_epi32(zero), _mm512_loadu_si512(head->sums + 16 * part));
        __m512 value =
            _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sums + 16 * part), shift));
        value = _mm512_mul_ps(value, _mm512_loadu_ps(head->scale + 16 * part));
        value = _mm512_fmadd_ps(value, _mm512_set1_ps(row_scale),
                                _mm512_loadu_ps(head->bias + 16 * part));
        sri_store_part(y, columns, part, value);
    }
}

static void run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product) {
    size_t n = product->n;
    int32_t sums[BLOCK_ROWS * PANEL];
    for (size_t row = 0; row < m; row += BLOCK_ROWS) {
        size_t rows = SRI_MIN(m - row, (size_t)BLOCK_ROWS);
        if (row == 0 || rows < BLOCK_ROWS) configure(rows);
        for (size_t j = product->first; j < product->last; j += PANEL) {
            const panel_head *head =
                (const panel_head *)((const char *)packed + j / PANEL * panel_size(k));
            size_t columns = SRI_MIN(product->last - j, (size_t)PANEL);
            float *y = product->y + row * n + j;
            sum_block(x->q + row * x->stride, x->stride, rows, (const int8_t *)(head + 1), k, sums);
            for (size_t r = 0; r < rows; r++)
                finish(sums + r * PANEL, head, x->scale[row + r], x->zero[row + r], columns,
                       y + r * n);
            if (product->activation == SRI_GELU) sri_gelu_tile(y, rows, columns, n);
        }
    }
    if (m > 0) _tile_release();
}

void sri_kernels_gemm_s8_amx(sri_kernels *table) {
    table->gemm_s8 = (sri_gemm_s8){packed_size, pack, run};
}
