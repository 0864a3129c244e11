/*
 * test_near.c - the approximate index: what it finds of what brute force finds, and that changes
 * count at once although it never changes itself. Without Faiss: that it says so.
 */
#include "unit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "index/index.h"
#include "synaptoroute.h"

#if !SRI_FAISS
#undef SRI_FAISS
#define SRI_FAISS 0
#endif

enum { DIMENSION = 24, ROWS = 17 * 1024 + 100, QUERIES = 100, MOST = ROWS + ROWS / 2 };

typedef struct table {
    sri_epoch *epoch;
    sri_index *index;
    sri_index_scratch scratch;
    float *rows, *queries;
    uint32_t *slots;
    size_t count;
} table;

static sr_status try_open(table *t, sri_index_kind kind) {
    sr_error error;
    *t = (table){0};
    assert_int_equal(sri_epoch_open(&t->epoch, &error), SR_OK);
    sri_index_options options = {
        .dimension = DIMENSION, .epoch = t->epoch, .exact_bytes = SIZE_MAX, .kind = kind};
    return sri_index_open(&options, &t->index, &error);
}

static int encode_anything(void *user, const sr_str *texts, size_t n, float *out) {
    (void)user;
    for (size_t i = 0; i < n * DIMENSION; i++)
        out[i] = (float)(texts[i / DIMENSION].data[0] % 7 + 1) + (float)(i % DIMENSION);
    return 0;
}

/* The option of a router gets to its index. */
static void a_router_is_told(void **state) {
    (void)state;
    sr_error error;
    sr_encoder *encoder = NULL;
    sr_router *router = NULL;
    sr_encoder_options encoding = {.size = sizeof encoding,
                                   .kind = SR_ENCODER_CALLBACK,
                                   .encode = encode_anything,
                                   .dimension = DIMENSION,
                                   .identity = "near"};
    assert_int_equal(sr_encoder_open(&encoding, &encoder, &error), SR_OK);
    sr_options options = {.size = sizeof options, .encoder = encoder, .index = SR_INDEX_HNSW};
    sr_status expected = SRI_FAISS ? SR_OK : SR_ERR_UNSUPPORTED;
    assert_int_equal(sr_router_open(&options, &router, &error), expected);
    sr_router_close(&router);
    options.index = (sr_index_kind)3;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    sr_encoder_close(&encoder);
}

#if SRI_FAISS

static uint64_t random_state = 88172645463325252u;

static float random_normal(void) {
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        random_state ^= random_state << 13, random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        sum += (float)(random_state >> 40) / 16777216.0f;
    }
    return sum - 6;
}

/* A vector of length 1, near to `centre` when there is one. */
static void make_vector(const float *centre, float *x) {
    double squares = 0;
    for (int i = 0; i < DIMENSION; i++) {
        x[i] = random_normal() / sqrtf(DIMENSION) * (centre ? 0.6f : 1) + (centre ? centre[i] : 0);
        squares += (double)x[i] * x[i];
    }
    for (int i = 0; i < DIMENSION; i++) x[i] = (float)(x[i] / sqrt(squares));
}

static void add(table *t, const float *vector, uint64_t born) {
    sr_error error;
    uint32_t route = (uint32_t)(t->count / 4);
    assert_int_equal(sri_index_reserve(t->index, 1, 1, route + 1, &error), SR_OK);
    sri_index_set_route(t->index, route, route);
    sri_index_row row = {.vector = vector, .route = route, .utterance = t->count, .born = born};
    t->slots[t->count++] = sri_index_add(t->index, &row);
}

static void no_move(void *user, void *owner, uint32_t slot) { (void)user, (void)owner, (void)slot; }

/* The approximate index is built in the background. */
static void wait_for(const table *t, size_t rows) {
    struct timespec turn = {.tv_nsec = 20000000};
    for (int i = 0; i < 3000 && sri_index_near_rows(t->index) < rows; i++) nanosleep(&turn, NULL);
    assert_true(sri_index_near_rows(t->index) >= rows);
}

static void open_filled(table *t, sri_index_kind kind) {
    assert_int_equal(try_open(t, kind), SR_OK);
    t->rows = malloc(sizeof(float) * DIMENSION * MOST);
    t->queries = malloc(sizeof(float) * DIMENSION * QUERIES);
    t->slots = malloc(sizeof(uint32_t) * MOST);
    float centre[DIMENSION] = {0};
    for (size_t i = 0; i < MOST; i++) {
        if (i % 40 == 0) make_vector(NULL, centre);
        make_vector(centre, t->rows + i * DIMENSION);
    }
    for (size_t q = 0; q < QUERIES; q++)
        make_vector(t->rows + q * (ROWS / QUERIES) * DIMENSION, t->queries + q * DIMENSION);
    for (size_t i = 0; i < ROWS; i++) add(t, t->rows + i * DIMENSION, 1);
}

static void close_table(table *t) {
    sri_index_scratch_free(&t->scratch);
    sri_index_stop(t->index);
    sri_epoch_close(&t->epoch);
    sri_index_close(&t->index);
    free(t->rows), free(t->queries), free(t->slots);
}

/* The best routes of query q in a version, as a search gives them. */
static size_t search(table *t, size_t q, size_t k, uint64_t version, sri_hit *hits) {
    size_t count;
    sri_index_query query = {t->queries + q * DIMENSION, 1, k, version, NULL, NULL};
    sri_pin pin = sri_epoch_pin(t->epoch);
    assert_true(sri_index_search(t->index, &query, &t->scratch, hits, &count));
    sri_epoch_unpin(pin);
    return count;
}

static float best_of_all(const table *t, size_t q, size_t count) {
    float best = -2;
    for (size_t i = 0; i < count; i++) {
        float score = 0;
        for (int d = 0; d < DIMENSION; d++)
            score += t->rows[i * DIMENSION + (size_t)d] * t->queries[q * DIMENSION + (size_t)d];
        best = fmaxf(best, score);
    }
    return best;
}

static void finds_nearly_all(sri_index_kind kind, size_t least) {
    table t;
    size_t found = 0;
    sri_hit hits[3];
    open_filled(&t, kind);
    wait_for(&t, ROWS / 1024 * 1024);
    for (size_t q = 0; q < QUERIES; q++) {
        assert_int_equal(search(&t, q, 3, 1, hits), 3);
        assert_true(hits[0].score >= hits[1].score && hits[1].score >= hits[2].score);
        found += hits[0].score >= best_of_all(&t, q, ROWS) - 1e-5f;
    }
    assert_in_range(found, least, QUERIES);
    close_table(&t);
}

static void graph_finds_nearly_all(void **state) {
    (void)state;
    finds_nearly_all(SRI_INDEX_HNSW, 97);
}

static void lists_find_nearly_all(void **state) {
    (void)state;
    finds_nearly_all(SRI_INDEX_IVF, 90);
}

/* What was removed is not found by the next version, still by the one before, and what was added is
 * found. */
static void changes_count_at_once(void **state) {
    (void)state;
    table t;
    sri_hit before[2], after[2];
    open_filled(&t, SRI_INDEX_HNSW);
    wait_for(&t, 1);
    uint64_t version = 1;
    for (size_t q = 0; q < QUERIES; q++, version++) {
        search(&t, q, 2, version, before);
        sri_index_remove(t.index, before[0].slot, version + 1);
        search(&t, q, 2, version, after);
        assert_int_equal(after[0].slot, before[0].slot);
        search(&t, q, 2, version + 1, after);
        assert_int_not_equal(after[0].slot, before[0].slot);
        version++;
        add(&t, t.queries + q * DIMENSION, version + 1);
        search(&t, q, 2, version, after);
        assert_int_not_equal(after[0].slot, t.slots[t.count - 1]);
        search(&t, q, 2, version + 1, after);
        assert_int_equal(after[0].slot, t.slots[t.count - 1]);
        sri_index_remove(t.index, after[0].slot, version + 2);
        sri_index_compact(t.index, 16, version + 2, no_move, NULL);
        sri_epoch_advance(t.epoch, 100);
        version++;
    }
    close_table(&t);
}

typedef struct reader {
    table *of;
    atomic_bool stop;
    atomic_size_t searched;
} reader;

static void *read_on(void *user) {
    reader *this = user;
    sri_index_scratch scratch = {0};
    while (!atomic_load(&this->stop)) {
        sri_hit hit;
        size_t count = 0, q = atomic_fetch_add(&this->searched, 1) % QUERIES;
        sri_index_query query = {this->of->queries + q * DIMENSION, 1, 1, 1, NULL, NULL};
        sri_pin pin = sri_epoch_pin(this->of->epoch);
        bool good = sri_index_search(this->of->index, &query, &scratch, &hit, &count);
        sri_epoch_unpin(pin);
        assert_true(good && count == 1);
    }
    sri_index_scratch_free(&scratch);
    return NULL;
}

/* A growing table gets another graph, beside a reader, and the one before is given back. */
static void is_built_again_beside_a_reader(void **state) {
    (void)state;
    table t;
    open_filled(&t, SRI_INDEX_HNSW);
    reader beside = {.of = &t};
    pthread_t thread;
    wait_for(&t, 1);
    assert_int_equal(pthread_create(&thread, NULL, read_on, &beside), 0);
    while (t.count < MOST) {
        add(&t, t.rows + t.count * DIMENSION, 1);
        sri_index_compact(t.index, 8, 1, no_move, NULL);
        sri_epoch_advance(t.epoch, 8);
    }
    wait_for(&t, ROWS + ROWS / 4);
    atomic_store(&beside.stop, true);
    pthread_join(thread, NULL);
    sri_index_compact(t.index, 8, 1, no_move, NULL);
    assert_true(sri_epoch_waiting(t.epoch) > 0);
    for (int i = 0; i < 4; i++) sri_epoch_advance(t.epoch, 100);
    assert_int_equal(sri_epoch_waiting(t.epoch), 0);
    close_table(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph_finds_nearly_all), cmocka_unit_test(lists_find_nearly_all),
        cmocka_unit_test(changes_count_at_once),  cmocka_unit_test(is_built_again_beside_a_reader),
        cmocka_unit_test(a_router_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void says_that_it_is_not_built_in(void **state) {
    (void)state;
    table t;
    assert_int_equal(try_open(&t, SRI_INDEX_HNSW), SR_ERR_UNSUPPORTED);
    assert_null(t.index);
    sri_epoch_close(&t.epoch);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(says_that_it_is_not_built_in),
                                       cmocka_unit_test(a_router_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
