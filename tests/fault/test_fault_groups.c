/*
 * test_fault_groups.c - groups of changes of several threads and routers, some of which fail: each call answers for its own
 * change, nothing is shown that fails, and what was taken back is told.
 */
#include "toy.h"

#include <pthread.h>

#include "power_vfs.h"

enum { NAME = 24 };

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
    char directory[256], path[300];
    atomic_ulong lost; /* as the callback was told */
    atomic_bool stop;
    atomic_int wrong, done;
    int burst;          /* changes that the callback makes, once */
    bool mend;          /* the callback lets writing succeed again */
    atomic_int refused; /* of the callback's changes */
    atomic_int calls;   /* of the callback that have ended */
} scene;

static sr_status put(sr_router *router, const char *kind, int number, sr_durability durability) {
    char name[NAME];
    snprintf(name, sizeof name, "%s %d", kind, number);
    sr_str text = sr_str_of(name);
    sr_route route = {
        .size = sizeof route, .name = text, .utterances = &text, .utterance_count = 1};
    sr_put_options options = {.size = sizeof options, .durability = durability};
    return sr_routes_put(router, &route, 1, &options, NULL, NULL);
}

static void note_lost(void *user, uint64_t mutations, const sr_error *error) {
    scene *self = user;
    (void)error;
    atomic_fetch_add(&self->lost, (unsigned long)mutations);
    if (self->mend) power_fail(POWER_ANY, 0, false, false);
    int burst = self->burst;
    self->burst = 0;
    for (int i = 0; i < burst; i++)
        if (put(self->router, "burst", i, SR_DURABILITY_DEFERRED) != SR_OK)
            atomic_fetch_add(&self->refused, 1);
    atomic_fetch_add(&self->calls, 1);
}

static sr_router *open_router(scene *self, bool told) {
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = self->encoder,
                          .threads = 1,
                          .fast_model = "",
                          .lost = told ? note_lost : NULL,
                          .lost_user = self};
    sr_router *router = NULL;
    sr_error error;
    if (sr_router_open(&options, &router, &error) != SR_OK) fail_msg("%s", error.message);
    return router;
}

static int set_up(void **state) {
    scene *self = calloc(1, sizeof *self);
    self->encoder = toy_open(&self->toy, "toy");
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    power_on(self->directory);
    self->router = open_router(self, true);
    assert_int_equal(put(self->router, "first", 0, SR_DURABILITY_FULL), SR_OK);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    scene *self = *state;
    sr_router_close(&self->router);
    sr_encoder_close(&self->encoder);
    power_off();
    toy_remove_directory(self->directory);
    free(self);
    return 0;
}

/* Routes of this kind, as a new router finds them in the file, or as `router` shows them. */
static int count_routes(scene *self, sr_router *router, const char *kind) {
    sr_router *other = router == NULL ? open_router(self, false) : NULL;
    sr_table *table = NULL;
    int found = 0;
    assert_int_equal(sr_table_read(router == NULL ? other : router, NULL, 0, &table, NULL), SR_OK);
    for (size_t i = 0; i < sr_table_count(table); i++) {
        sr_str name = sr_table_route(table, i)->name;
        found += name.len > strlen(kind) && memcmp(name.data, kind, strlen(kind)) == 0;
    }
    sr_table_free(&table);
    sr_router_close(&other);
    return found;
}

/* ---- The callback -------------------------------------------------------------------------------------------------- */

/* More than may wait, on the thread that would write it. */
static void a_callback_may_change_more_than_may_wait(void **state) {
    enum { BURST = 12000 };
    scene *self = *state;
    self->burst = BURST;
    power_fail(POWER_WRITE, 1, false, false);
    assert_int_equal(put(self->router, "lost", 0, SR_DURABILITY_DEFERRED), SR_OK);
    while (atomic_load(&self->calls) == 0) usleep(1000);
    assert_int_equal(sr_router_flush(self->router, NULL), SR_ERR_IO); /* of the first one */
    assert_int_equal(atomic_load(&self->refused), 0);
    assert_int_equal(count_routes(self, NULL, "burst"), BURST);
    assert_int_equal(count_routes(self, NULL, "lost"), 0);
}

/* Whoever calls it then, the thread behind or the close. */
static void what_a_callback_changes_at_the_close_is_stored_or_refused(void **state) {
    scene *self = *state;
    for (int i = 0; i < 60; i++) {
        self->burst = 1;
        self->mend = true;
        atomic_store(&self->refused, 0);
        power_fail(POWER_WRITE, 1, false, true);
        assert_int_equal(put(self->router, "lost", i, SR_DURABILITY_DEFERRED), SR_OK);
        if (i % 2 == 1) usleep((useconds_t)(i * 100));
        sr_router_close(&self->router);
        int told = self->burst == 0, stored = count_routes(self, NULL, "burst");
        assert_int_equal(told, 1);
        assert_int_equal(stored, 1 - atomic_load(&self->refused));
        self->router = open_router(self, true);
        if (stored > 0)
            assert_int_equal(sr_route_remove(self->router, sr_str_of("burst 0"), NULL, NULL),
                             SR_OK);
    }
}

/* ---- Several in one group ------------------------------------------------------------------------------------------ */

static void *put_synced(void *argument) {
    scene *self = argument;
    for (int i = 0; !atomic_load(&self->stop); i++)
        atomic_fetch_add(&self->done, put(self->router, "full", i, SR_DURABILITY_FULL) != SR_OK);
    return NULL;
}

static void what_is_stored_succeeds_though_anothers_sync_fails(void **state) {
    scene *self = *state;
    pthread_t thread;
    power_fail(POWER_SYNC, 1, false, true);
    assert_int_equal(pthread_create(&thread, NULL, put_synced, self), 0);
    for (int i = 0; i < 300 || atomic_load(&self->done) < 50; i++)
        if (put(self->router, "normal", i, SR_DURABILITY_NORMAL) != SR_OK)
            atomic_fetch_add(&self->wrong, 1);
    atomic_store(&self->stop, true);
    pthread_join(thread, NULL);
    power_fail(POWER_SYNC, 0, false, false);
    assert_int_equal(atomic_load(&self->wrong), 0);
}

/* A route that takes some time to be written, in which others may join. */
static sr_status put_large(sr_router *router, int number) {
    enum { TEXTS = 200 };
    char name[NAME], texts[TEXTS][NAME + 16];
    sr_str utterances[TEXTS];
    snprintf(name, sizeof name, "normal %d", number);
    for (int i = 0; i < TEXTS; i++) {
        snprintf(texts[i], sizeof texts[i], "%s text %d", name, i);
        utterances[i] = sr_str_of(texts[i]);
    }
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = utterances,
                      .utterance_count = TEXTS};
    return sr_route_put(router, &route, NULL, NULL);
}

static void *put_stored(void *argument) {
    scene *self = argument;
    for (int i = 0; !atomic_load(&self->stop); i++) {
        if (put_large(self->router, i % 100) == SR_OK) atomic_fetch_add(&self->wrong, 1);
        atomic_fetch_add(&self->done, 1);
    }
    return NULL;
}

static void what_fails_was_never_shown(void **state) {
    scene *self = *state;
    pthread_t thread;
    power_fail(POWER_WRITE, 1, false, true);
    assert_int_equal(pthread_create(&thread, NULL, put_stored, self), 0);
    for (int i = 0; i < 500 || atomic_load(&self->done) < 100; i++) {
        (void)put(self->router, "deferred", i, SR_DURABILITY_DEFERRED);
        assert_int_equal(count_routes(self, self->router, "normal"), 0);
    }
    atomic_store(&self->stop, true);
    pthread_join(thread, NULL);
    power_fail(POWER_WRITE, 0, false, false);
    assert_int_equal(atomic_load(&self->wrong), 0);
}

/* ---- Two routers --------------------------------------------------------------------------------------------------- */

/* Another router, which stores something just when a group of the first one has been taken back. */
typedef struct rival {
    sr_router *router;
    int stored;
} rival;

static _Atomic(rival *) watching; /* NULL: nobody */

static void store_something(void *user, sr_log_level level, const char *line) {
    rival *self = atomic_load(&watching);
    (void)user;
    if (self == NULL || level != SR_LOG_WARN || strstr(line, "could not be stored") == NULL) return;
    for (int i = 0; i < 30; i++)
        self->stored += put(self->router, "other", self->stored, SR_DURABILITY_NORMAL) == SR_OK;
}

/* By the revision alone its changes would pass for those of the group. */
static void losses_are_told_though_another_router_commits(void **state) {
    enum { COUNT = 20 };
    scene *self = *state;
    rival other = {.router = open_router(self, false)};
    unsigned long acknowledged = 0;
    atomic_store(&watching, &other);
    power_fail(POWER_WRITE, 1, false, false);
    for (int i = 0; i < COUNT; i++)
        acknowledged += put(self->router, "deferred", i, SR_DURABILITY_DEFERRED) == SR_OK;
    assert_int_equal(sr_router_flush(self->router, NULL), SR_ERR_IO);
    atomic_store(&watching, NULL);
    sr_router_close(&other.router);
    assert_int_equal(count_routes(self, NULL, "other"), other.stored);
    unsigned long there = (unsigned long)count_routes(self, NULL, "deferred");
    assert_int_equal(there, count_routes(self, self->router, "deferred"));
    assert_int_equal(there + atomic_load(&self->lost), acknowledged);
    assert_true(other.stored > 0 && atomic_load(&self->lost) > 0);
}

#define WITH_SCENE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_SCENE(a_callback_may_change_more_than_may_wait),
        WITH_SCENE(what_a_callback_changes_at_the_close_is_stored_or_refused),
        WITH_SCENE(what_is_stored_succeeds_though_anothers_sync_fails),
        WITH_SCENE(what_fails_was_never_shown),
        WITH_SCENE(losses_are_told_though_another_router_commits),
    };
    sr_log_set(store_something, SR_LOG_WARN, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
