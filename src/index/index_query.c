/*
 * index_query.c - what a query is turned into before it meets rows: rotated, in integer steps, and
 * as tables of sums.
 *
 * Steps go to 16319, two signed bytes each, so that dot products of codes are as exact as the row's
 * own steps: one byte would add as much noise again, and that decides how many fp32 rows have to be
 * fetched.
 */
#include "index/index_search_int.h"

#include <math.h>

#include "kernels/kernels.h"

#define MOST_STEPS 16319 /* 127 * 128 + 63 */

/* A code's dot product has an error of sum q_i d_i, each d_i within half a step of the row. In
 * few dimensions they may all point the same way; in many they are as random as the rotation,
 * and six deviations are allowed for: uniform ones, whose deviation is 1 / sqrt(12) of a step. */
#define RANDOM_FROM 128
#define DEVIATIONS  6.0f

size_t sri_prepared_bytes(size_t dimension) {
    size_t groups = sri_bits_groups(dimension);
    return sri_round_up(dimension * sizeof(float) + 2 * dimension + groups * SRI_BIT_TABLE, 64);
}

static void into_steps(sri_prepared *p, size_t n) {
    float most = 0, size = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmaxf(most, fabsf(p->rotated[i]));
        size += fabsf(p->rotated[i]);
        squares += p->rotated[i] * p->rotated[i];
    }
    p->length = sqrtf(squares);
    p->slack = 1e-4f * p->length;
    p->noise = n < RANDOM_FROM ? 0.5f * size : p->length * DEVIATIONS / sqrtf(12.0f);
    p->step = most / MOST_STEPS;
    float inverse = most > 0 ? MOST_STEPS / most : 0.0f;
    for (size_t i = 0; i < n; i++) {
        int steps = (int)rintf(fminf(fmaxf(p->rotated[i] * inverse, -MOST_STEPS), MOST_STEPS));
        int first = (steps + 64 + 128 * 128) / 128 - 128;
        p->halves[i] = (int8_t)first;
        p->halves[n + i] = (int8_t)(steps - 128 * first);
    }
}

void sri_prepare(const float *vector, size_t dimension, void *memory, sri_prepared *prepared) {
    float *rotated = memory;
    int8_t *halves = (int8_t *)(rotated + dimension);
    *prepared = (sri_prepared){.vector = vector,
                               .rotated = rotated,
                               .halves = halves,
                               .tables = (uint8_t *)halves + 2 * dimension};
    sri_index_rotate(vector, dimension, rotated);
    into_steps(prepared, dimension);
}

/* The part of four values that are not negative where their sign is set: bit j of `pattern`
 * stands for value j. */
static void fill_table(const float four[4], float inverse, uint8_t *table) {
    float lowest = 0;
    for (int j = 0; j < 4; j++) lowest += fminf(four[j], 0.0f);
    for (unsigned pattern = 0; pattern < SRI_BIT_TABLE; pattern++) {
        float sum = -lowest;
        for (unsigned j = 0; j < 4; j++) sum += (pattern >> j & 1) ? four[j] : 0.0f;
        table[pattern] = (uint8_t)fminf(fmaxf(rintf(sum * inverse), 0.0f), SRI_BIT_MOST);
    }
}

/* signs . q = 2 * (sum of the values with sign 1) - sum of all; a table counts from the group's
 * lowest sum. */
void sri_prepare_tables(sri_prepared *p, size_t n) {
    size_t groups = sri_bits_groups(n);
    float widest = 0, lowest = 0, all = 0;
    for (size_t g = 0; g < groups; g++) {
        float width = 0;
        for (size_t i = 4 * g; i < SRI_MIN(4 * g + 4, n); i++) {
            width += fabsf(p->rotated[i]);
            lowest += fminf(p->rotated[i], 0.0f);
            all += p->rotated[i];
        }
        widest = fmaxf(widest, width);
    }
    float unit = widest / SRI_BIT_MOST, inverse = widest > 0 ? SRI_BIT_MOST / widest : 0.0f;
    for (size_t g = 0; g < groups; g++) {
        float four[4] = {0};
        for (size_t i = 4 * g; i < SRI_MIN(4 * g + 4, n); i++) four[i % 4] = p->rotated[i];
        fill_table(four, inverse, p->tables + g * SRI_BIT_TABLE);
    }
    p->table_step = 2 * unit;
    p->table_offset = 2 * lowest - all;
    p->table_noise = 2 * unit * sqrtf((float)groups / 12.0f);
}
