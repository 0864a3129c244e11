/* test_group.c - what a call may rely on when it returns while other calls' changes are on their way to the store. */
#include "toy.h"

#include <pthread.h>
#include <sqlite3.h>

typedef toy_table fixture;

static sr_status put(sr_router *router, const char *name, const char *text,
                     sr_durability durability, sr_receipt *receipt) {
    sr_str utterance = sr_str_of(text);
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = &utterance,
                      .utterance_count = 1};
    sr_put_options options = {.size = sizeof options, .durability = durability};
    return sr_routes_put(router, &route, 1, &options, receipt, NULL);
}

/* As another process finds it after a kill of this one. */
static bool is_stored(const fixture *self, const char *name) {
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open_v2(self->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT 1 FROM routes WHERE name = ?1", -1, &statement, NULL),
        SQLITE_OK);
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    bool stored = sqlite3_step(statement) == SQLITE_ROW;
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return stored;
}

static void what_is_there_already_is_stored_when_the_call_returns(void **state) {
    fixture *self = *state;
    for (int i = 0; i < 100; i++) {
        char name[16];
        sr_receipt first, second;
        snprintf(name, sizeof name, "route %d", i);
        assert_int_equal(put(self->router, name, "a text", SR_DURABILITY_DEFERRED, &first), SR_OK);
        assert_int_equal(put(self->router, name, "a text", SR_DURABILITY_NORMAL, &second), SR_OK);
        assert_int_equal(second.routes_added + second.routes_changed, 0);
        assert_int_equal(second.revision, first.revision);
        assert_true(is_stored(self, name));
    }
}

/* What a vector of the test is: of length 1, and another for each number. */
static void fill_vector(float *vector, int number) {
    memset(vector, 0, TOY_DIMENSION * sizeof *vector);
    vector[number % TOY_DIMENSION] = 0.6f;
    vector[(number + 1 + number / TOY_DIMENSION) % TOY_DIMENSION] = 0.8f;
}

static void put_vector(sr_router *router, int number, float *vector) {
    char text[32];
    snprintf(text, sizeof text, "text %d", number);
    sr_str utterance = sr_str_of(text);
    fill_vector(vector, number);
    sr_route route = {.size = sizeof route,
                      .name = utterance,
                      .utterances = &utterance,
                      .utterance_count = 1,
                      .vectors = vector};
    sr_put_options options = {.size = sizeof options, .durability = SR_DURABILITY_DEFERRED};
    assert_int_equal(sr_routes_put(router, &route, 1, &options, NULL, NULL), SR_OK);
}

static void deferred_vectors_are_stored_as_they_were_at_the_call(void **state) {
    enum { COUNT = 3000 };
    fixture *self = *state;
    float vector[TOY_DIMENSION];
    /* Each second route is gone again before it is stored, perhaps. */
    sr_remove_options deferred = {.size = sizeof deferred, .durability = SR_DURABILITY_DEFERRED};
    for (int i = 0; i < COUNT; i++) {
        put_vector(self->router, i, vector);
        memset(vector, 0, sizeof vector);
        char name[32];
        snprintf(name, sizeof name, "text %d", i);
        sr_str gone = sr_str_of(name);
        if (i % 2 == 1)
            assert_int_equal(sr_routes_remove(self->router, &gone, 1, &deferred, NULL, NULL),
                             SR_OK);
    }
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, 0);
    sr_table *table = NULL;
    static float rows[COUNT / 2 * TOY_DIMENSION];
    assert_int_equal(sr_table_read(self->router, NULL, 1, &table, NULL), SR_OK);
    assert_int_equal(sr_table_count(table), COUNT / 2);
    assert_int_equal(
        sr_table_vectors(self->router, table, rows, sizeof rows / sizeof rows[0], NULL), SR_OK);
    for (int i = 0; i < COUNT; i += 2) {
        fill_vector(vector, i);
        assert_memory_equal(rows + i / 2 * TOY_DIMENSION, vector, sizeof vector);
    }
    sr_table_free(&table);
}

/* Another program that writes to the file: it has the lock for 50 ms, and is without it for one. */
typedef struct busy_writer {
    pthread_t thread;
    const char *path;
    atomic_bool stop;
} busy_writer;

static void *lock_again_and_again(void *argument) {
    busy_writer *self = argument;
    sqlite3 *db = NULL;
    bool right = sqlite3_open(self->path, &db) == SQLITE_OK;
    while (right && !atomic_load(&self->stop)) {
        sqlite3_busy_timeout(db, 1000);
        right = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
        usleep(50000);
        right = right && sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK;
        usleep(1000);
    }
    sqlite3_close(db);
    return right ? NULL : self;
}

/* Who looks seldom does not find the moment, and fails after some seconds. */
static void a_writer_finds_the_moment_between_two_groups_of_another(void **state) {
    enum { CHANGES = 15 };
    fixture *self = *state;
    busy_writer busy = {.path = self->path};
    void *failed = NULL;
    assert_int_equal(put(self->router, "first", "a text", SR_DURABILITY_FULL, NULL), SR_OK);
    assert_int_equal(pthread_create(&busy.thread, NULL, lock_again_and_again, &busy), 0);
    for (int i = 0; i < CHANGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "route %d", i);
        usleep(10000); /* it has the lock again */
        assert_int_equal(put(self->router, name, "a text", SR_DURABILITY_NORMAL, NULL), SR_OK);
    }
    atomic_store(&busy.stop, true);
    pthread_join(busy.thread, &failed);
    assert_null(failed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_there_already_is_stored_when_the_call_returns,
                                        toy_set_up, toy_tear_down),
        cmocka_unit_test_setup_teardown(a_writer_finds_the_moment_between_two_groups_of_another,
                                        toy_set_up, toy_tear_down),
        cmocka_unit_test_setup_teardown(deferred_vectors_are_stored_as_they_were_at_the_call,
                                        toy_set_up, toy_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
