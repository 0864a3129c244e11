/* test_index.c - exact search, ties, churn and reservation. */
#include "unit.h"

#include <math.h>
#include <stdlib.h>

#include "index/index.h"

enum { DIM = 24, ROWS = 3000, ROUTES = 37 };

typedef struct row {
    bool live;
    float vector[DIM];
    uint32_t route, slot;
    uint64_t utterance;
} row;

static uint32_t random_state = 1;

static uint32_t next_random(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

/* Few distinct values, so that equal scores are common. */
static void random_vector(float *vector) {
    double sum = 0;
    for (int i = 0; i < DIM; i++) {
        vector[i] = i < 4 ? (float)(next_random() % 3) - 1 : 0.0f;
        sum += vector[i] * vector[i];
    }
    for (int i = 0; i < DIM; i++) vector[i] = sum == 0 ? (i == 5) : (float)(vector[i] / sqrt(sum));
}

static uint64_t order_of(uint32_t route) { return (route * 7u) % ROUTES + 1000; }

static float dot(const float *a, const float *b) {
    /* As the kernel does it, so that ties are the same ties. */
    float lanes[16] = {0};
    for (int i = 0; i < DIM; i++) lanes[i % 16] = fmaf(a[i], b[i], lanes[i % 16]);
    for (int width = 8; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

/* The best k routes by looking at everything. */
static size_t search_plainly(const row *rows, const float *query, size_t k, sri_hit *hits) {
    const row *best[ROUTES] = {NULL};
    for (int i = 0; i < ROWS; i++) {
        if (!rows[i].live) continue;
        const row *held = best[rows[i].route];
        float score = dot(query, rows[i].vector),
              other = held == NULL ? 0 : dot(query, held->vector);
        if (held == NULL || score > other ||
            (score == other && rows[i].utterance < held->utterance))
            best[rows[i].route] = &rows[i];
    }
    size_t count = 0;
    for (; count < k; count++) {
        int chosen = -1;
        for (int route = 0; route < ROUTES; route++) {
            if (best[route] == NULL) continue;
            if (chosen >= 0) {
                float a = dot(query, best[route]->vector), b = dot(query, best[chosen]->vector);
                if (a < b || (a == b && order_of((uint32_t)route) > order_of((uint32_t)chosen)))
                    continue;
            }
            chosen = route;
        }
        if (chosen < 0) break;
        hits[count] =
            (sri_hit){(uint32_t)chosen, best[chosen]->slot, dot(query, best[chosen]->vector)};
        best[chosen] = NULL;
    }
    return count;
}

static void compare(const sri_index *index, const row *rows, size_t queries, size_t k) {
    float *query = malloc(queries * DIM * sizeof *query);
    for (size_t q = 0; q < queries; q++) random_vector(query + q * DIM);
    sri_hit *hits = malloc(queries * k * sizeof *hits), *expected = malloc(k * sizeof *expected);
    size_t *counts = malloc(queries * sizeof *counts);
    sri_index_scratch scratch = {0};
    assert_true(sri_index_search(index, query, queries, k, &scratch, hits, counts));
    for (size_t q = 0; q < queries; q++) {
        size_t count = search_plainly(rows, query + q * DIM, k, expected);
        assert_int_equal(counts[q], count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(hits[q * k + i].route, expected[i].route);
            assert_int_equal(hits[q * k + i].slot, expected[i].slot);
            assert_true(hits[q * k + i].score == expected[i].score);
        }
    }
    sri_index_scratch_free(&scratch);
    free(query);
    free(hits);
    free(expected);
    free(counts);
}

static void search_is_exact_under_churn(void **state) {
    (void)state;
    static row rows[ROWS];
    sri_index *index;
    assert_int_equal(sri_index_open(DIM, &index, NULL), SR_OK);
    assert_int_equal(sri_index_reserve(index, 0, ROUTES, NULL), SR_OK);
    for (uint32_t route = 0; route < ROUTES; route++)
        sri_index_set_route(index, route, order_of(route));
    compare(index, rows, 3, 2);
    uint64_t utterance = 0;
    for (int step = 0; step < 20000; step++) {
        row *one = &rows[next_random() % ROWS];
        if (one->live) {
            sri_index_remove(index, one->slot);
            one->live = false;
        } else {
            one->live = true;
            one->route = next_random() % ROUTES;
            one->utterance = utterance++;
            random_vector(one->vector);
            assert_int_equal(sri_index_reserve(index, 1, ROUTES, NULL), SR_OK);
            one->slot = sri_index_add(index, one->vector, one->route, one->utterance);
            assert_memory_equal(sri_index_vector(index, one->slot), one->vector,
                                sizeof one->vector);
        }
        if (step % 4000 == 3999) compare(index, rows, 37, 5);
    }
    size_t live = 0;
    for (int i = 0; i < ROWS; i++) live += rows[i].live;
    assert_int_equal(sri_index_count(index), live);
    assert_true(sri_index_capacity(index) <= 3072); /* free slots were used again */
    compare(index, rows, 1, ROUTES + 5);
    compare(index, rows, 100, 1);
    /* A later place in the order of adding loses ties. */
    for (int i = 0; i < ROWS; i += 3)
        if (rows[i].live) {
            rows[i].utterance = utterance++;
            sri_index_renumber(index, rows[i].slot, rows[i].utterance);
        }
    compare(index, rows, 50, 3);
    sri_index_close(&index);
    assert_null(index);
}

static void rows_stay_where_they_are(void **state) {
    (void)state;
    sri_index *index;
    assert_int_equal(sri_index_open(DIM, &index, NULL), SR_OK);
    assert_int_equal(sri_index_reserve(index, 1, 1, NULL), SR_OK);
    float vector[DIM] = {1};
    const float *first = sri_index_vector(index, sri_index_add(index, vector, 0, 0));
    assert_int_equal((uintptr_t)first % 64, 0);
    for (uint64_t i = 1; i < 5000; i++) {
        assert_int_equal(sri_index_reserve(index, 1, 1, NULL), SR_OK);
        sri_index_add(index, vector, 0, i);
    }
    assert_ptr_equal(first, sri_index_vector(index, 0));
    sri_index_close(&index);
}

static void impossible_sizes_are_refused(void **state) {
    (void)state;
    sri_index *index;
    sr_error error;
    assert_int_equal(sri_index_open(0, &index, &error), SR_ERR_INVALID);
    assert_null(index);
    assert_int_equal(sri_index_open(8, &index, &error), SR_OK);
    assert_int_equal(sri_index_reserve(index, (size_t)SRI_INDEX_MAX_ROWS + 1, 1, &error),
                     SR_ERR_LIMIT);
    assert_int_equal(sri_index_count(index), 0);
    sri_index_close(&index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(search_is_exact_under_churn),
        cmocka_unit_test(rows_stay_where_they_are),
        cmocka_unit_test(impossible_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
