/*
 * test_index_threads.c - readers of the index beside a writer that adds, removes and compacts without a pause.
 *
 * A row's vector follows from the number of its utterance, so readers check what they find without sharing anything with
 * the writer: a hit is in the version that was pinned, belongs to the route that it names, and has the exact score.
 */
#include "unit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "index/index.h"
#include "kernels/kernels.h"

enum {
    ROUTES = 40,
    PLACES = 6000,
    READERS = 2,
    BATCH = 50,
    STRIDE = 7919,
    BACK = 1679,
    MOST = 256
};

typedef struct owned {
    uint64_t utterance;
    atomic_uint slot;
} owned;

typedef struct shared {
    int dimension;
    sri_epoch *epoch;
    sri_index *index;
    owned *rows;               /* by utterance */
    _Atomic(uint64_t) version; /* published */
    atomic_bool done;
    atomic_size_t searches;
} shared;

/* Each version replaces BATCH of PLACES rows. Every second sweep over the places goes in another order, so that rows do not
 * die in the order in which they came, and chunks thin out before they go. */
static uint64_t place_at(uint64_t change) {
    uint64_t sweep = change / PLACES, step = change % PLACES;
    return sweep % 2 == 0 ? step * STRIDE % PLACES : step;
}

/* Which row of the place there is in a version. */
static uint64_t utterance_in(uint64_t place, uint64_t version) {
    uint64_t changes = (version - 1) * BATCH, sweep = changes / PLACES;
    uint64_t step = sweep % 2 == 0 ? place * BACK % PLACES : place;
    return (sweep + (step < changes % PLACES)) * PLACES + place;
}

static void make_vector(uint64_t utterance, int n, float *x) {
    double squares = 0;
    uint64_t state = utterance * 0x9E3779B97F4A7C15u + 1;
    for (int i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(state >> 40) - 8388608.0f;
        squares += (double)x[i] * x[i];
    }
    for (int i = 0; i < n; i++) x[i] = (float)(x[i] / sqrt(squares));
}

static uint32_t route_of(uint64_t utterance) { return (uint32_t)(utterance % ROUTES); }

static void fetch(void *user, const uint64_t *utterances, size_t n, float *rows, uint8_t *found) {
    const shared *s = user;
    for (size_t i = 0; i < n; i++) {
        make_vector(utterances[i], s->dimension, rows + i * (size_t)s->dimension);
        found[i] = 1;
    }
}

static void check_hit(const shared *s, const sri_hit *hit, const float *query, uint64_t version) {
    const owned *row = hit->owner;
    float vector[MOST], score;
    assert_int_equal(row->utterance, utterance_in(row->utterance % PLACES, version));
    assert_int_equal(hit->route, route_of(row->utterance));
    make_vector(row->utterance, s->dimension, vector);
    sri_kernels_get()->dots(query, 1, vector, 1, (size_t)s->dimension, &score);
    assert_memory_equal(&score, &hit->score, sizeof score);
}

static void *read_on(void *argument) {
    enum { K = 5 };
    shared *s = argument;
    sri_index_scratch scratch = {0};
    sri_index_source source = {s, fetch};
    for (uint64_t turn = 0; !atomic_load(&s->done); turn++) {
        sri_pin pin = sri_epoch_pin(s->epoch);
        uint64_t version = atomic_load_explicit(&s->version, memory_order_acquire);
        uint64_t wanted = utterance_in(turn * 31 % PLACES, version);
        float query[MOST];
        sri_hit hits[K];
        size_t count;
        make_vector(wanted, s->dimension, query);
        sri_index_query what = {query, 1, K, version, &source, NULL};
        assert_true(sri_index_search(s->index, &what, &scratch, hits, &count));
        assert_int_equal(count, K);
        assert_int_equal(((owned *)hits[0].owner)->utterance, wanted);
        for (size_t i = 0; i < count; i++) check_hit(s, &hits[i], query, version);
        uint32_t slot = atomic_load(&s->rows[wanted].slot);
        float again;
        assert_true(sri_index_scores(s->index, query, &slot, 1, &source, &scratch, &again));
        assert_memory_equal(&again, &hits[0].score, sizeof again);
        sri_epoch_unpin(pin);
        atomic_fetch_add(&s->searches, 1);
    }
    sri_index_scratch_free(&scratch);
    return NULL;
}

/* Only the code is given: the row is in the store. */
static void add(shared *s, uint64_t utterance, uint64_t born) {
    float vector[MOST];
    uint8_t code[sizeof(float) + MOST];
    make_vector(utterance, s->dimension, vector);
    sri_index_encode(vector, s->dimension, code);
    owned *row = &s->rows[utterance];
    row->utterance = utterance;
    sri_index_row added = {.code = code,
                           .route = route_of(utterance),
                           .utterance = utterance,
                           .owner = row,
                           .born = born,
                           .durable = true};
    atomic_store(&row->slot, sri_index_add(s->index, &added));
}

static void moved(void *user, void *owner, uint32_t slot) {
    (void)user;
    atomic_store(&((owned *)owner)->slot, slot);
}

static void publish(shared *s, uint64_t version) {
    atomic_store_explicit(&s->version, version, memory_order_release);
    sri_epoch_advance(s->epoch, SIZE_MAX);
}

static void change(shared *s, uint64_t version) {
    uint64_t first = (version - 1) * BATCH;
    assert_int_equal(sri_index_reserve(s->index, BATCH, 0, ROUTES, NULL), SR_OK);
    for (uint64_t i = first; i < first + BATCH; i++) {
        uint64_t old = utterance_in(place_at(i), version);
        sri_index_remove(s->index, atomic_load(&s->rows[old].slot), version + 1);
        add(s, old + PLACES, version + 1);
    }
    sri_index_compact(s->index, BATCH * 8, version + 1, moved, NULL);
    publish(s, version + 1);
}

static void fill(shared *s) {
    assert_int_equal(sri_index_reserve(s->index, PLACES, 0, ROUTES, NULL), SR_OK);
    for (uint32_t r = 0; r < ROUTES; r++) sri_index_set_route(s->index, r, r);
    for (uint64_t i = 0; i < PLACES; i++) add(s, i, 1);
    publish(s, 1);
}

static void readers_beside_a_writer(int dimension, size_t exact_rows, int changes) {
    shared s = {.dimension = dimension};
    pthread_t readers[READERS];
    s.rows = calloc((size_t)changes * BATCH + 2 * PLACES, sizeof *s.rows);
    assert_int_equal(sri_epoch_open(&s.epoch, NULL), SR_OK);
    sri_index_options options = {.dimension = dimension,
                                 .epoch = s.epoch,
                                 .exact_bytes = exact_rows * (size_t)dimension * sizeof(float)};
    assert_int_equal(sri_index_open(&options, &s.index, NULL), SR_OK);
    fill(&s);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_on, &s), 0);
    for (int i = 0; i < changes; i++) change(&s, (uint64_t)i + 1);
    while (atomic_load(&s.searches) < 200) sched_yield();
    atomic_store(&s.done, true);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    assert_int_equal(sri_index_count(s.index), PLACES);
    for (int i = 0; i < 3; i++) { /* what readers held back goes in two steps */
        assert_int_equal(sri_index_reserve(s.index, 0, 0, ROUTES, NULL), SR_OK);
        sri_epoch_advance(s.epoch, SIZE_MAX);
    }
    assert_in_range(sri_index_dead(s.index), 1, PLACES / 3);
    assert_in_range(sri_index_exact_held(s.index), 0,
                    (exact_rows + READERS) * (size_t)dimension * sizeof(float));
    sri_epoch_close(&s.epoch);
    sri_index_close(&s.index);
    free(s.rows);
}

static void rows_fetched_while_they_move(void **state) {
    (void)state;
    readers_beside_a_writer(16, 1u << 20, 300);
    readers_beside_a_writer(16, 500, 300);
}

static void bits_of_chunks_that_come_and_go(void **state) {
    (void)state;
    readers_beside_a_writer(128, 1u << 20, 300);
    readers_beside_a_writer(128, 0, 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_fetched_while_they_move),
        cmocka_unit_test(bits_of_chunks_that_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
