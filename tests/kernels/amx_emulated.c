/*
 * amx_emulated.c - gemm_s8_amx.c with tile registers in plain memory.
 *
 * Few machines have AMX. This compiles the product with its tile instructions replaced by functions
 * that do what the manual says of them (Intel SDM, TILELOADD, TDPBUSD, TILESTORED), so that the
 * packing, the tails and the configuration are tested everywhere; the instructions themselves only
 * where they exist.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_config;

static tile_config emulated_config; /* all zeros: not configured, and every instruction faults */
static uint8_t emulated_tiles[8][16][64];

static void check(int tile) {
    if (emulated_config.palette != 1 || emulated_config.rows[tile] == 0 ||
        emulated_config.bytes[tile] == 0)
        __builtin_trap();
}

static void load_config(const void *from) {
    memcpy(&emulated_config, from, sizeof emulated_config);
    memset(emulated_tiles, 0, sizeof emulated_tiles);
    for (int i = 0; i < 16; i++)
        if (emulated_config.rows[i] > (i < 8 ? 16 : 0) ||
            emulated_config.bytes[i] > (i < 8 ? 64 : 0))
            __builtin_trap();
}

static void release(void) { memset(&emulated_config, 0, sizeof emulated_config); }

static void zero(int tile) {
    check(tile);
    memset(emulated_tiles[tile], 0, sizeof emulated_tiles[tile]);
}

/* Loads what is configured, and makes the rest zero. */
static void load(int tile, const void *from, size_t stride) {
    zero(tile);
    for (size_t r = 0; r < emulated_config.rows[tile]; r++)
        memcpy(emulated_tiles[tile][r], (const char *)from + r * stride,
               emulated_config.bytes[tile]);
}

static void store(int tile, void *to, size_t stride) {
    check(tile);
    for (size_t r = 0; r < emulated_config.rows[tile]; r++)
        memcpy((char *)to + r * stride, emulated_tiles[tile][r], emulated_config.bytes[tile]);
}

static void multiply_add(int c, int a, int b) {
    check(c), check(a), check(b);
    if (emulated_config.rows[c] != emulated_config.rows[a] ||
        emulated_config.bytes[a] != 4 * emulated_config.rows[b] ||
        emulated_config.bytes[c] != emulated_config.bytes[b])
        __builtin_trap();
    for (size_t m = 0; m < emulated_config.rows[c]; m++)
        for (size_t k = 0; k < emulated_config.bytes[a] / 4u; k++)
            for (size_t n = 0; n < emulated_config.bytes[c] / 4u; n++) {
                int32_t sum;
                memcpy(&sum, &emulated_tiles[c][m][4 * n], 4);
                for (size_t i = 0; i < 4; i++)
                    sum +=
                        emulated_tiles[a][m][4 * k + i] * (int8_t)emulated_tiles[b][k][4 * n + i];
                memcpy(&emulated_tiles[c][m][4 * n], &sum, 4);
            }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#define _tile_loadconfig        load_config
#define _tile_release           release
#define _tile_zero              zero
#define _tile_loadd             load
#define _tile_stored            store
#define _tile_dpbusd            multiply_add
#define sri_kernels_gemm_s8_amx amx_emulated_fill

/* kernels_int.h, which the file includes, declares it by its new name. */
#include "kernels/x86/gemm_s8_amx.c"
