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

/* From 64 on, as the rest of the query's memory. */
static size_t tables_at(size_t dimension) { return sri_round_up(2 * dimension, 64); }

static size_t table_groups(size_t dimension) {
    return sri_sign_groups(&sri_kernels_get()->signs, dimension);
}

size_t sri_prepared_bytes(size_t dimension) {
    size_t tables = table_groups(dimension) << sri_kernels_get()->signs.group;
    return tables_at(dimension) + sri_round_up(tables, 64);
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

void sri_prepare(const float *vector, size_t dimension, float *rotated, void *memory,
                 sri_prepared *prepared) {
    int8_t *halves = memory;
    *prepared = (sri_prepared){.vector = vector,
                               .rotated = rotated,
                               .halves = halves,
                               .tables = (uint8_t *)memory + tables_at(dimension)};
    sri_index_rotate(vector, dimension, rotated);
    into_steps(prepared, dimension);
}

/* entries[pattern] = lowest + the values whose sign is set in the pattern. */
static void fill_entries(const float *values, size_t group, float lowest,
                         float entries[1 << SRI_SIGN_GROUP]) {
    entries[0] = lowest;
    for (size_t j = 0; j < group; j++)
        for (size_t pattern = 0; pattern < (size_t)1 << j; pattern++)
            entries[pattern + ((size_t)1 << j)] = entries[pattern] + values[j];
}

/* The part of a group's values that are not negative where their sign is set, in steps. Half a step
 * more and the fraction cut off rounds to the nearest, in a loop that compilers turn into SIMD. */
static void fill_table(const float *values, size_t group, float inverse, float most,
                       uint8_t *table) {
    float entries[1 << SRI_SIGN_GROUP], lowest = 0;
    for (size_t j = 0; j < group; j++) lowest += fminf(values[j], 0.0f);
    fill_entries(values, group, -lowest, entries);
    for (size_t pattern = 0; pattern < (size_t)1 << group; pattern++) {
        float steps = entries[pattern] * inverse;
        steps = steps > 0 ? steps : 0.0f; /* what is not a number, too */
        steps = steps < most ? steps : most;
        table[pattern] = (uint8_t)(int32_t)(steps + 0.5f);
    }
}

/* signs . q = 2 * (sum of the values with sign 1) - sum of all; a table counts from the group's
 * lowest sum. */
void sri_prepare_tables(sri_prepared *p, size_t n) {
    const sri_signs *signs = &sri_kernels_get()->signs;
    size_t groups = table_groups(n), group = signs->group;
    float widest = 0, lowest = 0, all = 0, most = (float)signs->most;
    for (size_t start = 0; start < n; start += group) {
        float width = 0;
        for (size_t i = start; i < SRI_MIN(start + group, n); i++) {
            width += fabsf(p->rotated[i]);
            lowest += fminf(p->rotated[i], 0.0f);
            all += p->rotated[i];
        }
        widest = fmaxf(widest, width);
    }
    float unit = widest / most, inverse = widest > 0 ? most / widest : 0.0f;
    for (size_t g = 0; g < groups; g++) {
        float values[SRI_SIGN_GROUP] = {0};
        for (size_t i = g * group; i < SRI_MIN((g + 1) * group, n); i++)
            values[i - g * group] = p->rotated[i];
        fill_table(values, group, inverse, most, p->tables + (g << group));
    }
    p->table_step = 2 * unit;
    p->table_offset = 2 * lowest - all;
    p->table_noise = 2 * unit * sqrtf((float)groups / 12.0f);
}
