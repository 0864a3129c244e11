/*
 * test_index.c - the index against brute force, under random changes, with readers of older
 * versions.
 *
 * A model keeps every row that there ever was; its answer is exhaustive search with the same
 * kernel. Scores, routes, rows and their order must be equal to the bit.
 */
#include "unit.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "index/index.h"
#include "kernels/kernels.h"
#include "short_memory.h"

enum { MOST_ROWS = 20000, ROUTES = 97 };

#define HASH_OF_CODES 0x0AE31257DFCFC2F9u

typedef struct model_row {
    float *vector;
    uint32_t route, slot;
    uint64_t utterance, born, died;
    bool durable;
} model_row;

typedef struct table {
    int dimension;
    int kind;
    sri_epoch *epoch;
    sri_index *index;
    model_row *rows;
    size_t count;
    uint64_t version;
    uint64_t orders[ROUTES];
    sri_index_scratch scratch;
    sri_index_source source;
    size_t fetches, missing; /* every so-manyth fetch finds nothing; 0: none */
} table;

static uint64_t random_state = 88172645463325252u;

static uint32_t random_word(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

static float random_normal(void) {
    double u = (random_word() + 1.0) / 4294967297.0, v = random_word() / 4294967296.0;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static void normalize(float *x, int n) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += (double)x[i] * x[i];
    for (int i = 0; i < n; i++) x[i] = (float)(x[i] / sqrt(squares));
}

enum { RANDOM, CLUSTERED, DUPLICATES, ONE_HOT, SAME, KINDS };

static void centre_of(int kind, uint32_t which, int n, float *x) {
    uint64_t kept = random_state;
    random_state = 0x1234567u + 7919u * which + (uint64_t)kind;
    for (int i = 0; i < 8; i++) random_word();
    for (int i = 0; i < n; i++) x[i] = random_normal();
    normalize(x, n);
    random_state = kept;
}

/* A vector of length 1. Clustered ones also share a mean of about 0.7. */
static void make_vector(int kind, int n, float *x) {
    if (kind == ONE_HOT) {
        for (int i = 0; i < n; i++) x[i] = 0;
        x[random_word() % (uint32_t)n] = random_word() % 4 == 0 ? -1.0f : 1.0f;
        return;
    }
    centre_of(kind, kind == SAME ? 0 : random_word() % (kind == DUPLICATES ? 60 : 40), n, x);
    if (kind == RANDOM)
        for (int i = 0; i < n; i++) x[i] = random_normal();
    if (kind == CLUSTERED) {
        float *mean = malloc((size_t)n * sizeof *mean);
        centre_of(kind, 1000, n, mean);
        for (int i = 0; i < n; i++)
            x[i] += 1.2f * mean[i] + 0.6f / sqrtf((float)n) * random_normal();
        free(mean);
    }
    normalize(x, n);
}

static void fetch(void *user, const uint64_t *utterances, size_t n, float *rows, uint8_t *found) {
    table *t = user;
    assert_true(n <= SRI_INDEX_FETCH);
    for (size_t i = 0; i < n; i++) {
        const model_row *row = &t->rows[utterances[i]];
        found[i] = row->durable && (t->missing == 0 || ++t->fetches % t->missing != 0);
        if (found[i])
            memcpy(rows + i * (size_t)t->dimension, row->vector,
                   (size_t)t->dimension * sizeof(float));
    }
}

static table *open_table(int dimension, int kind, size_t exact_bytes) {
    table *t = calloc(1, sizeof *t);
    t->dimension = dimension;
    t->kind = kind;
    t->rows = calloc(MOST_ROWS, sizeof *t->rows);
    t->source = (sri_index_source){t, fetch};
    assert_int_equal(sri_epoch_open(&t->epoch, NULL), SR_OK);
    sri_index_options options = {dimension, t->epoch, exact_bytes, SRI_INDEX_EXACT};
    assert_int_equal(sri_index_open(&options, &t->index, NULL), SR_OK);
    assert_int_equal(sri_index_reserve(t->index, 0, 0, ROUTES, NULL), SR_OK);
    for (uint32_t r = 0; r < ROUTES; r++) {
        t->orders[r] = (r * 31 + 5) % ROUTES;
        sri_index_set_route(t->index, r, t->orders[r]);
    }
    return t;
}

static void close_table(table *t) {
    sri_index_scratch_free(&t->scratch);
    sri_epoch_close(&t->epoch);
    sri_index_close(&t->index);
    for (size_t i = 0; i < t->count; i++) free(t->rows[i].vector);
    free(t->rows);
    free(t);
}

/* ---- Changes --------------------------------------------------------------------------------- */

static void add_vector(table *t, const float *vector, uint32_t route, bool durable,
                       bool code_only) {
    assert_true(t->count < MOST_ROWS);
    uint64_t utterance = t->count++;
    model_row *row = &t->rows[utterance];
    size_t bytes = (size_t)t->dimension * sizeof(float);
    *row =
        (model_row){malloc(bytes), route, 0, utterance, t->version + 1, SRI_INDEX_FOREVER, durable};
    memcpy(row->vector, vector, bytes);
    uint8_t *code = malloc(sri_index_code_bytes(t->dimension));
    sri_index_encode(vector, t->dimension, code);
    assert_true(sri_index_code_valid(code, t->dimension));
    sri_index_row added = {.vector = code_only ? NULL : vector,
                           .code = code_only ? code : NULL,
                           .route = route,
                           .utterance = utterance,
                           .owner = row,
                           .born = row->born,
                           .durable = durable};
    row->slot = sri_index_add(t->index, &added);
    free(code);
}

static void add_one(table *t) {
    float *vector = malloc((size_t)t->dimension * sizeof *vector);
    make_vector(t->kind, t->dimension, vector);
    bool durable = random_word() % 2, code_only = durable && random_word() % 2;
    add_vector(t, vector, random_word() % ROUTES, durable, code_only);
    free(vector);
}

static model_row *random_live(table *t) {
    for (int tries = 0; tries < 1000 && t->count > 0; tries++) {
        model_row *row = &t->rows[random_word() % t->count];
        if (row->died == SRI_INDEX_FOREVER && row->born <= t->version) return row;
    }
    return NULL;
}

static void remove_one(table *t) {
    model_row *row = random_live(t);
    if (row == NULL) return;
    row->died = t->version + 1;
    sri_index_remove(t->index, row->slot, row->died);
}

/* Gives a row another place in the order of adding. */
static void renew_one(table *t) {
    model_row *from = random_live(t);
    if (from == NULL || t->count == MOST_ROWS) return;
    model_row *row = &t->rows[t->count];
    *row = *from;
    row->utterance = t->count++;
    row->born = from->died = t->version + 1;
    row->vector = malloc((size_t)t->dimension * sizeof(float));
    memcpy(row->vector, from->vector, (size_t)t->dimension * sizeof(float));
    sri_index_remove(t->index, from->slot, from->died);
    sri_index_row copy = {.vector = row->vector,
                          .route = row->route,
                          .utterance = row->utterance,
                          .owner = row,
                          .born = row->born,
                          .durable = row->durable};
    row->slot = sri_index_copy(t->index, from->slot, &copy);
}

static void store_one(table *t) {
    model_row *row = random_live(t);
    if (row == NULL || row->durable) return;
    row->durable = true;
    sri_index_set_durable(t->index, row->slot);
}

static void moved(void *user, void *owner, uint32_t slot) {
    (void)user;
    ((model_row *)owner)->slot = slot;
}

static void publish(table *t) {
    sri_index_compact(t->index, 40, t->version + 1, moved, t);
    t->version++;
    sri_epoch_advance(t->epoch, 64);
}

static void reserve(table *t, size_t rows) {
    assert_int_equal(sri_index_reserve(t->index, rows, rows, ROUTES, NULL), SR_OK);
}

static void mutate(table *t, int adds, int removals) {
    reserve(t, (size_t)(adds + 2));
    for (int i = 0; i < adds; i++) add_one(t);
    for (int i = 0; i < removals; i++) remove_one(t);
    if (removals > 0) {
        renew_one(t);
        renew_one(t);
        store_one(t);
    }
    publish(t);
}

/* ---- The answer that must come --------------------------------------------------------------- */

static bool in_version(const model_row *row, uint64_t version) {
    return row->born <= version && version < row->died;
}

typedef struct expected {
    const model_row *row;
    float score;
} expected;

static const uint64_t *sort_orders;

static int compare_expected(const void *a, const void *b) {
    const expected *x = a, *y = b;
    if ((x->row == NULL) != (y->row == NULL)) return x->row == NULL ? 1 : -1;
    if (x->row == NULL) return 0;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return sort_orders[x->row->route] < sort_orders[y->row->route] ? -1 : 1;
}

static size_t brute_force(const table *t, const float *query, uint64_t version,
                          expected bests[ROUTES]) {
    size_t routes = 0;
    memset(bests, 0, ROUTES * sizeof *bests);
    for (size_t i = 0; i < t->count; i++) {
        const model_row *row = &t->rows[i];
        if (!in_version(row, version)) continue;
        float score;
        sri_kernels_get()->dots(query, 1, row->vector, 1, (size_t)t->dimension, &score);
        expected *best = &bests[row->route];
        routes += best->row == NULL;
        if (best->row == NULL || score > best->score) *best = (expected){row, score};
    }
    sort_orders = t->orders;
    qsort(bests, ROUTES, sizeof *bests, compare_expected);
    return routes;
}

static void check_query(table *t, const float *queries, size_t n, size_t k, uint64_t version) {
    sri_hit *hits = calloc(n * k + 1, sizeof *hits);
    size_t *counts = calloc(n, sizeof *counts);
    sri_index_query query = {queries, n, k, version, &t->source, NULL};
    assert_true(sri_index_search(t->index, &query, &t->scratch, hits, counts));
    for (size_t q = 0; q < n; q++) {
        expected bests[ROUTES];
        size_t routes = brute_force(t, queries + q * (size_t)t->dimension, version, bests);
        assert_int_equal(counts[q], routes < k ? routes : k);
        for (size_t i = 0; i < counts[q]; i++) {
            const sri_hit *hit = &hits[q * k + i];
            assert_int_equal(hit->route, bests[i].row->route);
            assert_memory_equal(&hit->score, &bests[i].score, sizeof(float));
            assert_ptr_equal(hit->owner, bests[i].row);
            assert_true(sri_index_visible(t->index, hit->slot, version));
        }
    }
    free(hits);
    free(counts);
}

/* Some queries near rows and some far from all, one and several at once. */
static void check(table *t, uint64_t version) {
    enum { QUERIES = 5 };
    size_t n = (size_t)t->dimension;
    float *queries = malloc(QUERIES * n * sizeof *queries);
    for (int q = 0; q < QUERIES; q++) {
        float *query = queries + (size_t)q * n;
        make_vector(q == 0 ? RANDOM : t->kind, t->dimension, query);
        if (q == 1 && t->count > 0)
            memcpy(query, t->rows[random_word() % t->count].vector, n * sizeof *query);
    }
    check_query(t, queries, QUERIES, 3, version);
    check_query(t, queries + n, 1, 1, version);
    check_query(t, queries + random_word() % QUERIES * n, 1, 1 + random_word() % (ROUTES + 10),
                version);
    free(queries);
}

/* More at once than one block takes, and a block that ends within the queries summed together. */
static void check_many(table *t) {
    enum { QUERIES = SRI_INDEX_QUERY_BLOCK + 13 };
    size_t n = (size_t)t->dimension;
    float *queries = malloc(QUERIES * n * sizeof *queries);
    for (size_t q = 0; q < QUERIES; q++) make_vector(t->kind, t->dimension, queries + q * n);
    check_query(t, queries, QUERIES, 2, t->version);
    check_query(t, queries, SRI_INDEX_QUERY_BLOCK, 1, t->version);
    free(queries);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void under_changes(int dimension, int kind, size_t exact_bytes, int rounds, int adds) {
    enum { PINS = 3 };
    struct {
        bool held;
        uint64_t version;
        sri_pin pin;
    } pins[PINS] = {0};
    table *t = open_table(dimension, kind, exact_bytes);
    check(t, 0);
    for (int round = 0; round < rounds; round++) {
        bool shrink = round % 10 >= 6;
        mutate(t, shrink ? adds / 10 : adds, shrink ? adds : adds / 3);
        uint32_t which = random_word() % PINS;
        if (pins[which].held) {
            check(t, pins[which].version);
            sri_epoch_unpin(pins[which].pin);
            pins[which].held = false;
        } else {
            pins[which].pin = sri_epoch_pin(t->epoch);
            pins[which].held = true;
            pins[which].version = t->version;
        }
        check(t, t->version);
    }
    for (int i = 0; i < PINS; i++)
        if (pins[i].held) sri_epoch_unpin(pins[i].pin);
    size_t live = 0;
    for (size_t i = 0; i < t->count; i++) live += in_version(&t->rows[i], t->version);
    assert_int_equal(sri_index_count(t->index), live);
    close_table(t);
}

static void equals_brute_force_under_changes(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) under_changes(24, kind, SIZE_MAX, 40, 300);
}

static void equals_brute_force_in_any_dimension(void **state) {
    (void)state;
    static const int dimensions[] = {1, 2, 7, 8, 9, 64, 100, 384, 1000};
    for (size_t i = 0; i < SRI_COUNT(dimensions); i++)
        for (int kind = 0; kind < KINDS; kind++)
            under_changes(dimensions[i], kind, SIZE_MAX, 4, dimensions[i] > 200 ? 500 : 1500);
    under_changes(4096, CLUSTERED, SIZE_MAX, 2, 300);
}

static void rows_come_from_the_store(void **state) {
    (void)state;
    under_changes(24, CLUSTERED, 0, 30, 300);
    under_changes(24, DUPLICATES, 100 * 24 * sizeof(float), 30, 300);
}

/* ---- Many rows, most of which are passed over ------------------------------------------------ */

typedef struct led_search {
    table *t;
    sri_index_query query;
    sri_hit hits[8];
    size_t count;
    bool enough;
} led_search;

static void lead(void *job, sri_team *team, int slot) {
    led_search *led = job;
    (void)slot;
    led->query.team = team;
    led->enough =
        sri_index_search(led->t->index, &led->query, &led->t->scratch, led->hits, &led->count);
}

/* One query over several threads gives what it gives on one. */
static void check_shared(table *t, sri_pool *pool) {
    float *query = malloc((size_t)t->dimension * sizeof *query);
    make_vector(t->kind, t->dimension, query);
    sri_hit alone[8];
    size_t count;
    led_search led = {.t = t, .query = {query, 1, 5, t->version, &t->source, NULL}};
    assert_true(sri_index_search(t->index, &led.query, &t->scratch, alone, &count));
    sri_pool_lead(pool, lead, &led);
    assert_true(led.enough);
    assert_int_equal(led.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(led.hits[i].slot, alone[i].slot);
        assert_memory_equal(&led.hits[i].score, &alone[i].score, sizeof(float));
    }
    free(query);
}

static void many_rows(int dimension, int kind, size_t exact_bytes) {
    table *t = open_table(dimension, kind, exact_bytes);
    sri_pool *pool;
    assert_int_equal(sri_pool_open(3, &pool, NULL), SR_OK);
    reserve(t, 17000);
    for (int i = 0; i < 17000; i++) add_one(t);
    for (int i = 0; i < 3000; i++) remove_one(t);
    publish(t);
    for (int i = 0; i < 6; i++) check(t, t->version);
    for (int i = 0; i < 10; i++) check_shared(t, pool);
    check_many(t);
    mutate(t, 200, 150);
    check(t, t->version);
    check(t, t->version - 1);
    sri_pool_close(&pool);
    close_table(t);
}

static void equals_brute_force_where_most_rows_are_passed_over(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) many_rows(128, kind, SIZE_MAX);
    many_rows(130, CLUSTERED, 0);
}

/* ---- Rows that cannot be had, single rows ---------------------------------------------------- */

static void a_row_that_is_gone_keeps_the_score_of_its_code(void **state) {
    (void)state;
    table *t = open_table(128, RANDOM, 0);
    reserve(t, 500);
    float *vector = malloc(128 * sizeof *vector);
    for (int i = 0; i < 500; i++) {
        make_vector(RANDOM, 128, vector);
        add_vector(t, vector, (uint32_t)i % ROUTES, true, true);
    }
    publish(t);
    t->missing = 1;
    sri_index_query query = {vector, 1, 3, t->version, &t->source, NULL};
    sri_hit hits[3];
    size_t count;
    assert_true(sri_index_search(t->index, &query, &t->scratch, hits, &count));
    assert_int_equal(count, 3);
    assert_ptr_equal(hits[0].owner, &t->rows[499]);
    assert_true(fabsf(hits[0].score - 1) < 0.01f);
    float score, *row = malloc(128 * sizeof *row);
    assert_true(sri_index_scores(t->index, vector, &hits[0].slot, 1, NULL, &t->scratch, &score));
    assert_true(score == hits[0].score);
    uint8_t found = 1;
    assert_false(sri_index_vectors(t->index, &hits[0].slot, 1, &t->source, row, &found));
    assert_int_equal(found, 0);
    free(vector);
    free(row);
    close_table(t);
}

static void single_rows_are_exact(void **state) {
    (void)state;
    enum { N = 300 };
    table *t = open_table(40, CLUSTERED, 50 * 40 * sizeof(float));
    mutate(t, N, 0);
    uint32_t slots[N];
    float scores[N], query[40];
    static float rows[N * 40];
    uint8_t found[N];
    make_vector(CLUSTERED, 40, query);
    for (int i = 0; i < N; i++) slots[i] = t->rows[(i * 7) % N].slot;
    for (int again = 0; again < 2; again++) { /* then from memory, as far as the budget goes */
        assert_true(sri_index_scores(t->index, query, slots, N, &t->source, &t->scratch, scores));
        assert_true(sri_index_vectors(t->index, slots, N, &t->source, rows, found));
        for (int i = 0; i < N; i++) {
            const model_row *row = &t->rows[(i * 7) % N];
            float score;
            sri_kernels_get()->dots(query, 1, row->vector, 1, 40, &score);
            assert_memory_equal(&scores[i], &score, sizeof score);
            assert_memory_equal(rows + i * 40, row->vector, 40 * sizeof(float));
            assert_int_equal(found[i], 1);
        }
    }
    close_table(t);
}

/* ---- Codes ----------------------------------------------------------------------------------- */

static void codes_keep_dot_products(void **state) {
    (void)state;
    static const int dimensions[] = {8, 9, 100, 384, 1000, 4096};
    for (size_t d = 0; d < SRI_COUNT(dimensions); d++) {
        int n = dimensions[d];
        float *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
        uint8_t *codes = malloc(2 * sri_index_code_bytes(n)),
                *other = codes + sri_index_code_bytes(n);
        for (int i = 0; i < 20; i++) {
            double exact = 0, sum = 0;
            make_vector(i % 2 ? CLUSTERED : ONE_HOT, n, a);
            make_vector(CLUSTERED, n, b);
            sri_index_encode(a, n, codes);
            sri_index_encode(b, n, other);
            assert_true(sri_index_code_valid(codes, n));
            float scales[2];
            memcpy(&scales[0], codes, sizeof(float));
            memcpy(&scales[1], other, sizeof(float));
            for (int j = 0; j < n; j++) {
                exact += (double)a[j] * b[j];
                sum += (double)(int8_t)codes[4 + j] * (int8_t)other[4 + j];
            }
            assert_true(fabs(sum * scales[0] * scales[1] - exact) < 0.012);
        }
        free(a);
        free(b);
        free(codes);
    }
}

/* Codes lie in databases: they may never change. */
static void codes_are_what_they_have_always_been(void **state) {
    (void)state;
    static const int dimensions[] = {8, 100, 384, 1025};
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t d = 0; d < SRI_COUNT(dimensions); d++) {
        int n = dimensions[d];
        float *x = malloc((size_t)n * sizeof *x);
        uint8_t *code = malloc(sri_index_code_bytes(n));
        for (int i = 0; i < n; i++) x[i] = (float)((i * 37 + 11) % 64 - 32) / 1024.0f;
        sri_index_encode(x, n, code);
        for (size_t i = 0; i < sri_index_code_bytes(n); i++)
            hash = (hash ^ code[i]) * 0x100000001B3u;
        free(x);
        free(code);
    }
    assert_int_equal(hash, HASH_OF_CODES);
}

static void damaged_codes_are_refused(void **state) {
    (void)state;
    float x[16], bad[] = {-0.01f, 2.0f, NAN, INFINITY};
    uint8_t code[20], other[20];
    make_vector(CLUSTERED, 16, x);
    sri_index_encode(x, 16, code);
    assert_true(sri_index_code_valid(code, 16));
    for (size_t i = 0; i < SRI_COUNT(bad); i++) {
        memcpy(other, code, sizeof other);
        memcpy(other, &bad[i], sizeof(float));
        assert_false(sri_index_code_valid(other, 16));
    }
    memcpy(other, code, sizeof other);
    other[7] = 0x80;
    assert_false(sri_index_code_valid(other, 16));
    memset(other + 4, 0, 16);
    assert_false(sri_index_code_valid(other, 16));
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Adds and removes far more than lives; a reader that never goes on keeps its own rows, not the
 * others'. */
static void memory_is_bounded_under_churn(void **state) {
    (void)state;
    enum { LIVE = 3000, ROUNDS = 60 };
    table *t = open_table(16, CLUSTERED, SIZE_MAX);
    mutate(t, LIVE, 0);
    size_t before = sri_index_bytes(t->index), exact = sri_index_exact_held(t->index), most = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < 25; i++) {
            reserve(t, 10);
            for (int j = 0; j < 10; j++) remove_one(t), add_one(t);
            publish(t);
        }
        most = SRI_MAX(most, sri_index_bytes(t->index));
        if (t->count > MOST_ROWS - 300) break;
    }
    assert_true(t->count > 5 * LIVE);
    assert_int_equal(sri_index_count(t->index), LIVE);
    assert_true(most < before * 2);
    assert_true(sri_index_exact_held(t->index) < exact * 3 / 2);
    assert_true(sri_index_dead(t->index) < LIVE);
    check(t, t->version);
    close_table(t);
}

static void short_memory_changes_nothing(void **state) {
    (void)state;
    sr_allocator failing = {take, change, release, NULL};
    sr_allocator_set(&failing);
    table *t = open_table(128, CLUSTERED, SIZE_MAX);
    mutate(t, 1500, 0);
    float query[128];
    make_vector(CLUSTERED, 128, query);
    for (long at = 1, failures = 1; failures > 0; at++) {
        failures = 0;
        atomic_store(&memory.countdown, at);
        if (sri_index_reserve(t->index, 3000, 3000, ROUTES, NULL) != SR_OK) failures++;
        if (at > 40) at += 400;
        atomic_store(&memory.countdown, 0);
        assert_int_equal(sri_index_count(t->index), 1500);
    }
    for (int k = 1; k <= 60; k += 59) /* both kinds of search */
        for (long at = 1, failures = 1; failures > 0; at++) {
            sri_index_scratch scratch = {0};
            sri_hit hits[60];
            size_t count;
            sri_index_query asked = {query, 1, (size_t)k, t->version, NULL, NULL};
            atomic_store(&memory.countdown, at);
            failures = !sri_index_search(t->index, &asked, &scratch, hits, &count);
            atomic_store(&memory.countdown, 0);
            sri_index_scratch_free(&scratch);
        }
    for (int i = 0; i < 1200; i++) remove_one(t);
    for (long at = 1; at < 40; at++) { /* compaction without memory leaves things as they are */
        atomic_store(&memory.countdown, at);
        publish(t);
        atomic_store(&memory.countdown, 0);
        if (at % 10 == 1) check(t, t->version);
    }
    close_table(t);
    sri_index *index;
    sri_index_options options = {.dimension = 8};
    atomic_store(&memory.countdown, 1);
    assert_int_equal(sri_index_open(&options, &index, NULL), SR_ERR_NO_MEMORY);
    assert_int_equal(atomic_load(&memory.held), 0);
    sr_allocator_set(NULL);
}

static void what_cannot_be_indexed_is_refused(void **state) {
    (void)state;
    sri_index *index;
    sri_index_options options = {.dimension = 0};
    assert_int_equal(sri_index_open(&options, &index, NULL), SR_ERR_INVALID);
    options.dimension = 65537;
    assert_int_equal(sri_index_open(&options, &index, NULL), SR_ERR_INVALID);
    table *t = open_table(8, RANDOM, 0);
    mutate(t, 1, 0); /* so that the limit is passed */
    assert_int_equal(sri_index_reserve(t->index, SRI_INDEX_MAX_ROWS, 0, 1, NULL), SR_ERR_LIMIT);
    assert_int_equal(sri_index_reserve(t->index, 1, 0, SRI_INDEX_NONE, NULL), SR_ERR_LIMIT);
    close_table(t);
}

/* Queries that are damaged, or say nothing. */
static void odd_queries_do_no_harm(void **state) {
    (void)state;
    table *t = open_table(128, CLUSTERED, SIZE_MAX);
    mutate(t, 2500, 0);
    float query[128] = {0};
    check_query(t, query, 1, 3, t->version);
    check_query(t, query, 1, ROUTES, t->version);
    sri_hit hits[ROUTES];
    size_t count = 7;
    for (size_t k = 0; k <= ROUTES; k += k < 3 ? 3 : 47) {
        for (int i = 0; i < 128; i++) query[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1e38f;
        sri_index_query asked = {query, 1, k, t->version, NULL, NULL};
        assert_true(sri_index_search(t->index, &asked, &t->scratch, hits, &count));
        assert_int_equal(count, 0);
    }
    close_table(t);
}

/* ---- Readers beside a writer ----------------------------------------------------------------- */

enum { TOPICS = 12, BALLAST = 2500, WIDTH = 128, READERS = 3 };

typedef struct concurrent {
    sri_epoch *epoch;
    sri_index *index;
    atomic_uint_fast64_t
        version; /* published: topic r is topic_vector(r, version), and nothing else */
    uint32_t slots[BALLAST + 2 * TOPICS];
    atomic_bool stop;
    atomic_long wrong, reads;
} concurrent;

static void topic_vector(uint32_t topic, uint64_t version, float *x) {
    uint64_t state = 0x9E3779B97F4A7C15u * (version * TOPICS + topic + 1);
    for (int i = 0; i < WIDTH; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        x[i] = (float)((int)(state >> 40 & 1023) - 512);
    }
    normalize(x, WIDTH);
}

static void *read_topics(void *argument) {
    concurrent *c = argument;
    sri_index_scratch scratch = {0};
    uint64_t last = 0;
    for (uint32_t topic = 0; !atomic_load(&c->stop); topic = (topic + 1) % TOPICS) {
        sri_pin pin = sri_epoch_pin(c->epoch);
        uint64_t version = atomic_load_explicit(&c->version, memory_order_acquire);
        float query[WIDTH];
        topic_vector(topic, version, query);
        sri_hit hits[2];
        size_t count;
        sri_index_query asked = {query, 1, 2, version, NULL, NULL};
        bool right = sri_index_search(c->index, &asked, &scratch, hits, &count) && count == 2 &&
                     hits[0].route == topic && hits[0].score > 0.999f && hits[1].score < 0.9f &&
                     *(uint64_t *)hits[0].owner == version &&
                     sri_index_visible(c->index, hits[0].slot, version) && version >= last;
        last = version;
        sri_epoch_unpin(pin);
        if (!right) atomic_fetch_add(&c->wrong, 1);
        atomic_fetch_add(&c->reads, 1);
    }
    sri_index_scratch_free(&scratch);
    return NULL;
}

typedef struct topic_owner {
    uint64_t version;
    uint32_t place; /* in slots */
} topic_owner;

static void topic_moved(void *user, void *owner, uint32_t slot) {
    ((concurrent *)user)->slots[((topic_owner *)owner)->place] = slot;
}

static void put_topic(concurrent *c, topic_owner *owner, uint32_t route, const float *vector,
                      uint64_t id) {
    sri_index_row row = {
        .vector = vector, .route = route, .utterance = id, .owner = owner, .born = owner->version};
    c->slots[owner->place] = sri_index_add(c->index, &row);
}

static void readers_see_whole_versions(void **state) {
    (void)state;
    enum { VERSIONS = 400 };
    static topic_owner owners[BALLAST + (VERSIONS + 1) * 2 * TOPICS];
    static concurrent c;
    float vector[WIDTH];
    uint64_t id = 0;
    assert_int_equal(sri_epoch_open(&c.epoch, NULL), SR_OK);
    sri_index_options options = {.dimension = WIDTH, .epoch = c.epoch, .exact_bytes = SIZE_MAX};
    assert_int_equal(sri_index_open(&options, &c.index, NULL), SR_OK);
    assert_int_equal(sri_index_reserve(c.index, BALLAST, BALLAST, TOPICS + 20, NULL), SR_OK);
    for (uint32_t r = 0; r < TOPICS + 20; r++) sri_index_set_route(c.index, r, r);
    for (uint32_t i = 0; i < BALLAST; i++, id++) {
        make_vector(RANDOM, WIDTH, vector);
        owners[id] = (topic_owner){0, i};
        put_topic(&c, &owners[id], TOPICS + i % 20, vector, id);
    }
    pthread_t readers[READERS];
    for (uint64_t version = 1; version <= VERSIONS; version++) {
        assert_int_equal(sri_index_reserve(c.index, 2 * TOPICS, 2 * TOPICS, TOPICS + 20, NULL),
                         SR_OK);
        for (uint32_t topic = 0; topic < TOPICS; topic++)
            for (uint32_t i = 0; i < 2; i++, id++) {
                uint32_t place = BALLAST + 2 * topic + i;
                if (version > 1) sri_index_remove(c.index, c.slots[place], version);
                owners[id] = (topic_owner){version, place};
                topic_vector(topic, version, vector);
                put_topic(&c, &owners[id], topic, vector, id);
            }
        sri_index_compact(c.index, 16 * TOPICS, version, topic_moved, &c);
        atomic_store_explicit(&c.version, version, memory_order_release);
        sri_epoch_advance(c.epoch, 64);
        for (int i = 0; version == 1 && i < READERS; i++)
            assert_int_equal(pthread_create(&readers[i], NULL, read_topics, &c), 0);
    }
    while (atomic_load(&c.reads) < 100) {
    }
    atomic_store(&c.stop, true);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&c.wrong), 0);
    for (int i = 0; i < 3; i++) { /* what waited for readers goes */
        sri_epoch_advance(c.epoch, SIZE_MAX);
        assert_int_equal(sri_index_reserve(c.index, 0, 0, TOPICS + 20, NULL), SR_OK);
    }
    assert_true(sri_index_bytes(c.index) < 9 * 1024 * (WIDTH + WIDTH / 8 + 80));
    sri_epoch_close(&c.epoch);
    sri_index_close(&c.index);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_brute_force_under_changes),
        cmocka_unit_test(equals_brute_force_in_any_dimension),
        cmocka_unit_test(equals_brute_force_where_most_rows_are_passed_over),
        cmocka_unit_test(rows_come_from_the_store),
        cmocka_unit_test(a_row_that_is_gone_keeps_the_score_of_its_code),
        cmocka_unit_test(single_rows_are_exact),
        cmocka_unit_test(codes_keep_dot_products),
        cmocka_unit_test(codes_are_what_they_have_always_been),
        cmocka_unit_test(damaged_codes_are_refused),
        cmocka_unit_test(memory_is_bounded_under_churn),
        cmocka_unit_test(short_memory_changes_nothing),
        cmocka_unit_test(what_cannot_be_indexed_is_refused),
        cmocka_unit_test(odd_queries_do_no_harm),
        cmocka_unit_test(readers_see_whole_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
