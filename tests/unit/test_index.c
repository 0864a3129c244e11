/*
 * test_index.c - the index against brute force, under random changes, with readers of older versions.
 *
 * A model keeps every row that there ever was; its answer is exhaustive search with the same kernel. Scores, routes,
 * rows and their order must be equal to the bit.
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

/* ---- Changes ------------------------------------------------------------------------------------------ */

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

/* ---- The answer that must come ---------------------------------------------------------------------------- */

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

/* ---- Tests -------------------------------------------------------------------------------------------------- */

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_brute_force_under_changes),
        cmocka_unit_test(equals_brute_force_in_any_dimension),
        cmocka_unit_test(rows_come_from_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
