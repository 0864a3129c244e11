/*
 * index_code.c - a row as the index computes with it: rotated by a fixed pseudo-random orthonormal
 * transform, then int8 with a scale of its own.
 *
 * The rotation spreads what a row says evenly over all coordinates, whatever the encoder does, so
 * that one scale wastes nothing and signs alone say much (J. Gao, C. Long: RaBitQ, SIGMOD 2024). It
 * is that of RaBitQ-Library (Gao et al. 2025) for any dimension without padding: in each round
 * random signs, a fast Hadamard transform of the first or, in every second round, the last power of
 * two that fits, and a step of Kac's walk, which turns coordinate i with i + half by 45 degrees. A
 * dense random matrix was rejected: dimension^2 operations and as much memory.
 *
 * Codes lie in databases, so they are the same on every machine: each value has one order of
 * additions and multiplications, no fused one, and signs come from a generator of our own. Changing
 * anything here needs another version of the store's schema.
 */
#include "index/index_int.h"

#include <math.h>
#include <string.h>

#define ROUNDS    4
#define SQRT_HALF 0.70710678118654752f
#define LANES     16

size_t sri_index_code_bytes(int dimension) { return sizeof(float) + (size_t)dimension; }

/* splitmix64 (S. Vigna), by place: 64 random signs. */
static uint64_t random_bits(uint64_t place) {
    uint64_t z = (place + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Value 16 t + l of every 512 takes bit t of word l: so that 16 values shift by the same number. */
static void flip_signs(float *x, size_t n, unsigned round) {
    for (size_t start = 0; start < n; start += 512) {
        uint32_t words[LANES], bits[LANES];
        for (size_t l = 0; l < LANES; l += 2) {
            uint64_t two = random_bits((uint64_t)round << 32 | (start / 2 + l));
            words[l] = (uint32_t)two;
            words[l + 1] = (uint32_t)(two >> 32);
        }
        for (size_t t = 0; t < 32 && start + t * LANES < n; t++) {
            size_t first = start + t * LANES, count = SRI_MIN(n - first, (size_t)LANES);
            float values[LANES] = {0};
            memcpy(values, x + first, count * sizeof *values);
            memcpy(bits, values, sizeof bits);
            for (size_t l = 0; l < LANES; l++) bits[l] ^= words[l] << (31 - t) & 0x80000000u;
            memcpy(values, bits, sizeof bits);
            memcpy(x + first, values, count * sizeof *values);
        }
    }
}

static void butterflies(float *restrict low, float *restrict high, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float a = low[i], b = high[i];
        low[i] = a + b;
        high[i] = a - b;
    }
}

/* The first two steps in one. */
static void butterflies_of_four(float *x) {
    float a = x[0] + x[1], b = x[0] - x[1], c = x[2] + x[3], d = x[2] - x[3];
    x[0] = a + c, x[1] = b + d, x[2] = a - c, x[3] = b - d;
}

/* n is a power of two. */
static void hadamard(float *x, size_t n) {
    size_t half = 1;
    if (n >= 4) {
        for (size_t i = 0; i < n; i += 4) butterflies_of_four(x + i);
        half = 4;
    }
    for (; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half) butterflies(x + i, x + i + half, half);
    float scale = 1.0f / sqrtf((float)n);
    for (size_t i = 0; i < n; i++) x[i] *= scale;
}

static void turn_pairs(float *restrict low, float *restrict high, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float a = low[i], b = high[i];
        low[i] = (a + b) * SQRT_HALF;
        high[i] = (a - b) * SQRT_HALF;
    }
}

/* In place. */
static void rotate(float *x, size_t n) {
    size_t power = (size_t)1 << (63 - __builtin_clzll(n));
    for (unsigned round = 0; round < ROUNDS; round++) {
        flip_signs(x, n, round);
        hadamard(round % 2 == 0 ? x : x + n - power, power);
        if (power < n) turn_pairs(x, x + (n + 1) / 2, n / 2);
    }
}

void sri_index_rotate(const float *vector, size_t dimension, float *rotated) {
    memcpy(rotated, vector, dimension * sizeof *rotated);
    rotate(rotated, dimension);
}

/* ---- Codes ----------------------------------------------------------------------------------- */

/* Adding and taking off 1.5 * 2^23 rounds to the nearest whole number, ties to even, wherever
 * this is compiled. */
static float round_off(const float *x, size_t n, int8_t *values) {
    const float magic = 12582912.0f;
    float most[LANES] = {0}, largest = 0;
    for (size_t i = 0; i < n; i += LANES)
        for (size_t l = 0; l < SRI_MIN(n - i, (size_t)LANES); l++) {
            float size = fabsf(x[i + l]);
            most[l] = size > most[l] ? size : most[l];
        }
    for (size_t l = 0; l < LANES; l++) largest = most[l] > largest ? most[l] : largest;
    float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    for (size_t i = 0; i < n; i++) {
        float value = x[i] * inverse;
        value = value < 127.0f ? value : 127.0f; /* what is not a number, too */
        value = value > -127.0f ? value : -127.0f;
        values[i] = (int8_t)(int32_t)((value + magic) - magic);
    }
    return largest / 127.0f;
}

__attribute__((noinline)) static float quantize_large(const float *vector, size_t n,
                                                      int8_t *values) {
    float rotated[65536];
    sri_index_rotate(vector, n, rotated);
    return round_off(rotated, n, values);
}

float sri_index_quantize(const float *vector, size_t dimension, int8_t *values) {
    float rotated[1024];
    if (dimension > SRI_COUNT(rotated)) return quantize_large(vector, dimension, values);
    sri_index_rotate(vector, dimension, rotated);
    return round_off(rotated, dimension, values);
}

void sri_index_encode(const float *vector, int dimension, uint8_t *code) {
    float scale = sri_index_quantize(vector, (size_t)dimension, (int8_t *)code + sizeof scale);
    memcpy(code, &scale, sizeof scale);
}

bool sri_index_code_valid(const uint8_t *code, int dimension) {
    float scale;
    memcpy(&scale, code, sizeof scale);
    if (!(scale >= 0 && scale <= 1)) return false; /* NaN is neither */
    const int8_t *values = (const int8_t *)code + sizeof scale;
    double squares = 0;
    for (int i = 0; i < dimension; i++) {
        if (values[i] == -128) return false;
        squares += (double)values[i] * values[i];
    }
    double length = squares * scale * scale;
    return length > 0.9 && length < 1.1;
}
