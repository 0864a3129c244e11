/*
 * test_snapshot.c - what readers see of a table that changes: batches whole or not at all, nothing that was removed, no older
 * state after a newer one; and what another router sees. Built with -Db_sanitize=thread it also shows that there is no data
 * race on the readers' path.
 */
#include "toy.h"

#include <pthread.h>

#include "base/base.h"
#include "short_memory.h"

enum { READERS = 3, BATCH = 3 };

/* ---- Readers beside a writer ---------------------------------------------------------------------------------------- */

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
    atomic_int gone;    /* batches up to this were removed, and that call has returned */
    atomic_int there;   /* batches up to this were put, and that call has returned */
    atomic_int leaving; /* the batch that is being removed, or was last */
    atomic_int stop, rounds, faults;
} scene;

static void expect(scene *self, bool right) {
    if (!right) atomic_fetch_add(&self->faults, 1);
}

/* The number of the batch that a route is of, and its place in it; -1 for others. */
static int batch_of(sr_str route, int *part) {
    char name[64] = {0};
    int number;
    memcpy(name, route.data, SRI_MIN(route.len, sizeof name - 1));
    return sscanf(name, "batch %d part %d", &number, part) == 2 ? number : -1;
}

/* Of each batch all parts or none, none that is gone, and those that are there before `read` began. */
static void check_table(scene *self, const sr_table *table, int gone, int there) {
    int parts[2] = {0, 0}, numbers[2] = {-1, -1}, part;
    for (size_t i = 0; i < sr_table_count(table); i++) {
        int number = batch_of(sr_table_route(table, i)->name, &part);
        if (number < 0) continue;
        expect(self, number > gone);
        int which = numbers[0] == number || numbers[0] < 0 ? 0 : 1;
        numbers[which] = number;
        parts[which]++;
        if (number == there) there = -1;
    }
    for (int i = 0; i < 2; i++) expect(self, parts[i] == 0 || parts[i] == BATCH);
    /* Put before, and not being removed since: it must be there. */
    expect(self, there <= 0 || atomic_load(&self->leaving) >= there);
}

static void *read_tables(void *argument) {
    scene *self = argument;
    uint64_t last = 0;
    while (!atomic_load(&self->stop)) {
        int gone = atomic_load(&self->gone), there = atomic_load(&self->there);
        sr_table *table = NULL;
        if (sr_table_read(self->router, NULL, 1, &table, NULL) != SR_OK) {
            expect(self, false);
            break;
        }
        expect(self, sr_table_revision(table) >= last);
        last = sr_table_revision(table);
        check_table(self, table, gone, gone < there ? there : 0);
        sr_table_free(&table);
        atomic_fetch_add(&self->rounds, 1);
    }
    return NULL;
}

static void *read_decisions(void *argument) {
    scene *self = argument;
    uint64_t last = 0;
    sr_str text = sr_str_of("a text of every batch");
    sr_decide_options options = {.size = sizeof options, .top_k = 50};
    while (!atomic_load(&self->stop)) {
        int gone = atomic_load(&self->gone), parts[2] = {0, 0}, numbers[2] = {-1, -1}, part;
        sr_decisions *decisions = NULL;
        if (sr_decide(self->router, &text, 1, &options, &decisions, NULL) != SR_OK) {
            expect(self, false);
            break;
        }
        const sr_decision *decision = sr_decisions_get(decisions, 0);
        expect(self, decision->revision >= last);
        last = decision->revision;
        for (size_t i = 0; i < decision->candidate_count; i++) {
            int number = batch_of(decision->candidates[i].route, &part);
            if (number < 0) continue;
            expect(self, number > gone && decision->candidates[i].utterance.len > 0);
            int which = numbers[0] == number || numbers[0] < 0 ? 0 : 1;
            numbers[which] = number;
            parts[which]++;
        }
        for (int i = 0; i < 2; i++) expect(self, parts[i] == 0 || parts[i] == BATCH);
        sr_decisions_free(&decisions);
        atomic_fetch_add(&self->rounds, 1);
    }
    return NULL;
}

static void put_batch(scene *self, int number, sr_durability durability) {
    char names[BATCH][40], texts[BATCH][2][64];
    sr_str utterances[BATCH][2];
    sr_route routes[BATCH];
    for (int i = 0; i < BATCH; i++) {
        snprintf(names[i], sizeof names[i], "batch %d part %d", number, i);
        snprintf(texts[i][0], sizeof texts[i][0], "a text of every batch");
        snprintf(texts[i][1], sizeof texts[i][1], "only %d of batch %d", i, number);
        for (int k = 0; k < 2; k++) utterances[i][k] = sr_str_of(texts[i][k]);
        routes[i] = (sr_route){.size = sizeof(sr_route),
                               .name = sr_str_of(names[i]),
                               .utterances = utterances[i],
                               .utterance_count = 2};
    }
    sr_put_options options = {.size = sizeof options, .durability = durability};
    sr_receipt receipt;
    sr_error error;
    if (sr_routes_put(self->router, routes, BATCH, &options, &receipt, &error) != SR_OK)
        fail_msg("%s", error.message);
    assert_int_equal(receipt.routes_added, BATCH);
    assert_int_equal(receipt.durability, durability);
}

static void remove_batch(scene *self, int number, sr_durability durability) {
    char names[BATCH][40];
    sr_str all[BATCH];
    for (int i = 0; i < BATCH; i++) {
        snprintf(names[i], sizeof names[i], "batch %d part %d", number, i);
        all[i] = sr_str_of(names[i]);
    }
    sr_remove_options options = {.size = sizeof options, .durability = durability};
    assert_int_equal(sr_routes_remove(self->router, all, BATCH, &options, NULL, NULL), SR_OK);
}

static void churn(scene *self, int from, int count, const sr_durability *durabilities) {
    for (int i = from; i < from + count; i++) {
        put_batch(self, i, durabilities[i % 4]);
        atomic_store(&self->there, i);
        atomic_store(&self->leaving, i);
        remove_batch(self, i, durabilities[(i + 1) % 4]);
        atomic_store(&self->gone, i);
    }
}

/* Enough that chunks of the index fill up with what is gone, and are given back. */
static void run_readers(const char *path, int count, const sr_durability *durabilities) {
    scene self = {0};
    self.encoder = toy_open(&self.toy, "toy");
    self.router = toy_router(path, self.encoder, 0);
    assert_int_equal(
        toy_put(self.router, "always", "always there|and this", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    pthread_t readers[2 * READERS];
    for (int i = 0; i < 2 * READERS; i++)
        assert_int_equal(
            pthread_create(&readers[i], NULL, i % 2 == 0 ? read_tables : read_decisions, &self), 0);
    churn(&self, 1, count, durabilities);
    for (int i = 0; i < 2000 && atomic_load(&self.rounds) < 2 * READERS; i++) usleep(1000);
    atomic_store(&self.stop, 1);
    for (int i = 0; i < 2 * READERS; i++) pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&self.faults), 0);
    assert_true(atomic_load(&self.rounds) >= 2 * READERS);
    assert_int_equal(sr_router_flush(self.router, NULL), SR_OK);
    toy_assert_table(self.router, "always:always there|and this;");
    assert_int_equal(sr_router_verify(self.router, NULL), SR_OK);
    sr_router_close(&self.router);
    sr_encoder_close(&self.encoder);
}

static void batches_are_seen_whole_in_memory(void **state) {
    (void)state;
    static const sr_durability all[] = {SR_DURABILITY_NORMAL, SR_DURABILITY_DEFERRED,
                                        SR_DURABILITY_NORMAL, SR_DURABILITY_FULL};
    run_readers(NULL, 600, all);
}

static void batches_are_seen_whole_with_a_file(void **state) {
    (void)state;
    static const sr_durability deferred[] = {SR_DURABILITY_DEFERRED, SR_DURABILITY_DEFERRED,
                                             SR_DURABILITY_DEFERRED, SR_DURABILITY_DEFERRED};
    static const sr_durability mixed[] = {SR_DURABILITY_NORMAL, SR_DURABILITY_DEFERRED,
                                          SR_DURABILITY_DEFERRED, SR_DURABILITY_FULL};
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/routes.db", directory);
    run_readers(path, 600, deferred);
    run_readers(path, 60, mixed);
    toy_remove_directory(directory);
}

/* ---- Several writers -------------------------------------------------------------------------------------------------- */

typedef struct worker {
    scene *scene;
    int number;
} worker;

static void *put_own_batches(void *argument) {
    worker *self = argument;
    for (int i = 0; i < 5; i++) put_batch(self->scene, 100 * self->number + i, SR_DURABILITY_FULL);
    return NULL;
}

static void changes_of_many_threads_are_synced_together(void **state) {
    (void)state;
    enum { WORKERS = 8 };
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/routes.db", directory);
    scene self = {0};
    self.encoder = toy_open(&self.toy, "toy");
    self.router = toy_router(path, self.encoder, 0);
    pthread_t threads[WORKERS];
    worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (worker){&self, i};
        assert_int_equal(pthread_create(&threads[i], NULL, put_own_batches, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    sr_router *other = toy_router(path, self.encoder, SR_OPEN_READ_ONLY);
    sr_info ours = {.size = sizeof ours}, theirs = {.size = sizeof theirs};
    assert_int_equal(sr_router_info(self.router, &ours, NULL), SR_OK);
    assert_int_equal(sr_router_info(other, &theirs, NULL), SR_OK);
    assert_int_equal(ours.revision, WORKERS * 5);
    assert_int_equal(ours.routes, WORKERS * 5 * BATCH);
    assert_int_equal(theirs.revision, ours.revision);
    assert_int_equal(theirs.routes, ours.routes);
    sr_router_close(&other);
    sr_router_close(&self.router);
    sr_encoder_close(&self.encoder);
    toy_remove_directory(directory);
}

/* ---- Another router ----------------------------------------------------------------------------------------------------- */

static atomic_int loads; /* of a whole table, after another router's change */

static void count_loads(void *user, sr_log_level level, const char *line) {
    (void)user, (void)level;
    if (strstr(line, "loading it again") != NULL) atomic_fetch_add(&loads, 1);
}

static uint64_t random_state = 88172645463325252u;

static unsigned pick(unsigned below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % below;
}

static void change_something(sr_router *router) {
    char name[16], texts[128];
    snprintf(name, sizeof name, "r%u", pick(6));
    unsigned a = pick(20), b = pick(20), c = pick(20);
    snprintf(texts, sizeof texts, "say %u|tell %u|say %u", a, b, c);
    sr_str gone[] = {sr_str_of("say 3"), sr_str_of("nowhere 1")};
    sr_threshold threshold = {SR_THRESHOLD_COSINE, pick(100) / 100.0};
    sr_route fields = {.size = sizeof fields, .name = sr_str_of(name), .threshold = &threshold};
    sr_put_options extend = {.size = sizeof extend, .mode = SR_PUT_EXTEND};
    sr_status code = SR_OK;
    switch (pick(8)) {
    case 0:
    case 1: code = toy_put(router, name, texts, SR_PUT_REPLACE, NULL, NULL); break;
    case 2:
    case 3: code = toy_put(router, name, texts, SR_PUT_EXTEND, NULL, NULL); break;
    case 4: code = sr_route_remove(router, sr_str_of(name), NULL, NULL); break;
    case 5: code = sr_utterances_remove(router, sr_str_of(name), gone, 1, NULL, NULL); break;
    case 6: code = sr_routes_put(router, &fields, 1, &extend, NULL, NULL); break;
    default:
        code = pick(2) == 0 ? sr_oos_put(router, gone + 1, 1, NULL, NULL)
                            : sr_oos_remove(router, NULL, 0, NULL, NULL);
    }
    assert_true(code == SR_OK || code == SR_ERR_NOT_FOUND);
}

static void assert_same_answers(sr_router *a, sr_router *b) {
    sr_str texts[] = {sr_str_of("say 3"), sr_str_of("tell 11"), sr_str_of("nowhere 1"),
                      sr_str_of("something else")};
    sr_decide_options options = {.size = sizeof options, .top_k = 10};
    sr_decisions *first = NULL, *second = NULL;
    assert_int_equal(sr_decide(a, texts, 4, &options, &first, NULL), SR_OK);
    assert_int_equal(sr_decide(b, texts, 4, &options, &second, NULL), SR_OK);
    for (size_t i = 0; i < 4; i++) {
        const sr_decision *x = sr_decisions_get(first, i), *y = sr_decisions_get(second, i);
        assert_int_equal(x->revision, y->revision);
        assert_int_equal(x->status, y->status);
        assert_int_equal(x->candidate_count, y->candidate_count);
        for (size_t k = 0; k < x->candidate_count; k++) {
            assert_true(sri_str_equal(x->candidates[k].route, y->candidates[k].route));
            assert_true(sri_str_equal(x->candidates[k].utterance, y->candidates[k].utterance));
            assert_true(x->candidates[k].score == y->candidates[k].score);
        }
    }
    sr_decisions_free(&first);
    sr_decisions_free(&second);
}

static void another_routers_changes_are_followed(void **state) {
    (void)state;
    static char ours[1 << 14], theirs[1 << 14];
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/routes.db", directory);
    toy own = {0};
    sr_encoder *encoder = toy_open(&own, "toy");
    sr_router *a = toy_router(path, encoder, 0);
    assert_int_equal(toy_put(a, "r0", "say 1|tell 2", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_router *b = toy_router(path, encoder, 0), *lazy = toy_router(path, encoder, SR_OPEN_LAZY);
    sr_log_set(count_loads, SR_LOG_INFO, NULL);
    atomic_store(&loads, 0);
    for (int i = 0; i < 400; i++) {
        for (unsigned k = pick(4); k-- > 0;) change_something(pick(3) == 0 ? b : a);
        toy_dump(a, ours, sizeof ours);
        toy_dump(b, theirs, sizeof theirs);
        assert_string_equal(ours, theirs);
        toy_dump(lazy, theirs, sizeof theirs);
        assert_string_equal(ours, theirs);
        assert_same_answers(a, b);
    }
    /* Now and then a name comes back as another route before the other has looked. */
    assert_true(atomic_load(&loads) < 200);
    sr_log_set(NULL, SR_LOG_INFO, NULL);
    sr_router_close(&a);
    sr_router_close(&b);
    sr_router_close(&lazy);
    b = toy_router(path, encoder, 0);
    toy_dump(b, theirs, sizeof theirs);
    assert_string_equal(ours, theirs);
    assert_int_equal(sr_router_verify(b, NULL), SR_OK);
    sr_router_close(&b);
    sr_encoder_close(&encoder);
    toy_remove_directory(directory);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------------- */

static void memory_is_bounded_under_churn(void **state) {
    (void)state;
    static const sr_allocator counting = {take, change, release, NULL};
    static const sr_durability normal[] = {SR_DURABILITY_NORMAL, SR_DURABILITY_NORMAL,
                                           SR_DURABILITY_NORMAL, SR_DURABILITY_NORMAL};
    sr_allocator_set(&counting);
    scene self = {0};
    self.encoder = toy_open(&self.toy, "toy");
    self.router = toy_router(NULL, self.encoder, 0);
    churn(&self, 1, 1000, normal);
    long before = atomic_load(&memory.held);
    churn(&self, 1001, 4000, normal);
    long after = atomic_load(&memory.held);
    if (after > before + 200) fail_msg("%ld blocks became %ld", before, after);
    sr_router_close(&self.router);
    sr_encoder_close(&self.encoder);
    assert_int_equal(atomic_load(&memory.held), 0);
    sr_allocator_set(NULL);
}

/* ---- Vectors that are given ------------------------------------------------------------------------------------------------ */

static void vectors_are_taken_instead_of_encoding(void **state) {
    (void)state;
    toy own = {0};
    sr_encoder *encoder = toy_open(&own, "toy");
    sr_router *router = toy_router(NULL, encoder, SR_OPEN_LAZY);
    sr_str texts[] = {sr_str_of("one"), sr_str_of("two")};
    float rows[2 * TOY_DIMENSION], crooked[2 * TOY_DIMENSION];
    assert_int_equal(sr_encoder_encode(encoder, texts, 2, rows, NULL, NULL), SR_OK);
    sr_str other[] = {sr_str_of("uno"), sr_str_of("dos")};
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of("numbers"),
                      .utterances = other,
                      .utterance_count = 2,
                      .vectors = crooked};
    for (size_t i = 0; i < SRI_COUNT(rows); i++) crooked[i] = rows[i] * 1.1f;
    assert_int_equal(sr_route_put(router, &route, NULL, NULL), SR_ERR_INVALID);
    for (size_t i = 0; i < SRI_COUNT(rows); i++) crooked[i] = rows[i] * 1.0005f;
    int encoded = atomic_load(&own.encoded);
    assert_int_equal(sr_route_put(router, &route, NULL, NULL), SR_OK);
    assert_int_equal(atomic_load(&own.encoded), encoded);
    sr_decisions *decisions = NULL;
    assert_int_equal(sr_decide(router, &texts[1], 1, NULL, &decisions, NULL), SR_OK);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    assert_true(toy_is(decision->candidates[0].utterance, "dos"));
    assert_true(decision->score > 0.99999 && decision->score <= 1);
    sr_decisions_free(&decisions);
    sr_router_close(&router);
    sr_encoder_close(&encoder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_bounded_under_churn),
        cmocka_unit_test(batches_are_seen_whole_in_memory),
        cmocka_unit_test(batches_are_seen_whole_with_a_file),
        cmocka_unit_test(changes_of_many_threads_are_synced_together),
        cmocka_unit_test(another_routers_changes_are_followed),
        cmocka_unit_test(vectors_are_taken_instead_of_encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
