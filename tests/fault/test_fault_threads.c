/*
 * test_fault_threads.c - readers deciding while writers change the table. Built with -Db_sanitize=thread it
 * also shows that there is no data race.
 */
#include "toy.h"

#include <pthread.h>

#include "base/base.h"

enum { READERS = 4, ROUNDS = 60 };

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
    atomic_int
        gone; /* the route of this number and those below were removed, and that call has returned */
    atomic_int stop;
    atomic_int decisions;
    atomic_int faults;
} scene;

/* The number of a route "temporary N"; -1 for others. */
static int temporary(sr_str route) {
    char name[64] = {0};
    memcpy(name, route.data, route.len < sizeof name ? route.len : sizeof name - 1);
    int number;
    return sscanf(name, "temporary %d", &number) == 1 ? number : -1;
}

static void *read_on(void *argument) {
    scene *self = argument;
    sr_str texts[] = {sr_str_of("a text that is always there"), sr_str_of("temporary text"),
                      sr_str_of("other")};
    while (!atomic_load(&self->stop)) {
        int gone = atomic_load(&self->gone);
        sr_decisions *decisions = NULL;
        if (sr_decide(self->router, texts, 3, NULL, &decisions, NULL) != SR_OK) {
            atomic_fetch_add(&self->faults, 1);
            break;
        }
        uint64_t revision = sr_decisions_get(decisions, 0)->revision;
        for (size_t i = 0; i < 3; i++) {
            const sr_decision *decision = sr_decisions_get(decisions, i);
            if (decision->revision != revision) atomic_fetch_add(&self->faults, 1);
            for (size_t k = 0; k < decision->candidate_count; k++) {
                int number = temporary(decision->candidates[k].route);
                if (number >= 0 && number <= gone) atomic_fetch_add(&self->faults, 1);
            }
        }
        if (!toy_is(sr_decisions_get(decisions, 0)->route, "permanent"))
            atomic_fetch_add(&self->faults, 1);
        sr_decisions_free(&decisions);
        sr_table *table = NULL;
        if (sr_table_read(self->router, NULL, 1, &table, NULL) != SR_OK)
            atomic_fetch_add(&self->faults, 1);
        else if (sr_table_count(table) < 1)
            atomic_fetch_add(&self->faults, 1);
        sr_table_free(&table);
        sr_info info = {.size = sizeof info};
        if (sr_router_info(self->router, &info, NULL) != SR_OK) atomic_fetch_add(&self->faults, 1);
        atomic_fetch_add(&self->decisions, 1);
    }
    return NULL;
}

static void write_on(scene *self) {
    for (int i = 1; i <= ROUNDS; i++) {
        char name[32], texts[200];
        snprintf(name, sizeof name, "temporary %d", i);
        snprintf(texts, sizeof texts, "temporary text|temporary text %d|another %d|yet another %d",
                 i, i * 7, i);
        assert_int_equal(toy_put(self->router, name, texts, SR_PUT_REPLACE, NULL, NULL), SR_OK);
        snprintf(texts, sizeof texts, "growing %d", i);
        assert_int_equal(toy_put(self->router, "permanent", texts, SR_PUT_EXTEND, NULL, NULL),
                         SR_OK);
        assert_int_equal(
            toy_put(self->router, name, "temporary text|third", SR_PUT_REPLACE, NULL, NULL), SR_OK);
        assert_int_equal(sr_route_remove(self->router, sr_str_of(name), NULL, NULL), SR_OK);
        atomic_store(&self->gone, i);
    }
}

static void run(const char *path, unsigned flags) {
    scene self = {0};
    self.encoder = toy_open(&self.toy, "toy");
    sr_router *maker = toy_router(path, self.encoder, 0);
    assert_int_equal(
        toy_put(maker, "permanent", "a text that is always there", SR_PUT_REPLACE, NULL, NULL),
        SR_OK);
    self.router = maker;
    if (path != NULL) {
        sr_router_close(&maker);
        self.router = toy_router(path, self.encoder, flags);
    }
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_on, &self), 0);
    write_on(&self);
    /* Every reader is to have had its turn while the table changed. */
    for (int i = 0; i < 1000 && atomic_load(&self.decisions) < READERS; i++) usleep(1000);
    atomic_store(&self.stop, 1);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&self.faults), 0);
    assert_true(atomic_load(&self.decisions) >= READERS);
    assert_int_equal(sr_router_verify(self.router, NULL), SR_OK);
    sr_router_close(&self.router);
    sr_encoder_close(&self.encoder);
}

static void readers_never_see_a_removed_route_in_memory(void **state) {
    (void)state;
    run(NULL, 0);
}

static void readers_never_see_a_removed_route_with_a_file(void **state) {
    (void)state;
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/routes.db", directory);
    run(path, SR_OPEN_LAZY); /* the model is loaded by whichever thread comes first */
    toy_remove_directory(directory);
}

typedef struct writer {
    scene *scene;
    int number;
} writer;

static void *write_own_routes(void *argument) {
    writer *self = argument;
    for (int i = 0; i < 30; i++) {
        char name[32], texts[64];
        snprintf(name, sizeof name, "w%d", self->number);
        snprintf(texts, sizeof texts, "text %d|shared %d", i * 10 + self->number, i);
        if (toy_put(self->scene->router, name, texts, SR_PUT_EXTEND, NULL, NULL) != SR_OK ||
            toy_put(self->scene->router, "common", texts, SR_PUT_EXTEND, NULL, NULL) != SR_OK)
            atomic_fetch_add(&self->scene->faults, 1);
    }
    return NULL;
}

static void many_writers_lose_nothing(void **state) {
    (void)state;
    scene self = {0};
    self.encoder = toy_open(&self.toy, "toy");
    self.router = toy_router(NULL, self.encoder, 0);
    pthread_t threads[3];
    writer writers[3];
    for (int i = 0; i < 3; i++) {
        writers[i] = (writer){&self, i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_own_routes, &writers[i]), 0);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&self.faults), 0);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(self.router, &info, NULL), SR_OK);
    assert_int_equal(info.routes, 4);
    assert_int_equal(info.utterances, 3 * 60 + 90 + 30);
    /* Each text once, but that two calls at the same time may both encode one. */
    assert_true(atomic_load(&self.toy.encoded) >= 90 + 30);
    assert_true(atomic_load(&self.toy.encoded) <= 90 + 3 * 30);
    sr_router_close(&self.router);
    sr_encoder_close(&self.encoder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_never_see_a_removed_route_in_memory),
        cmocka_unit_test(readers_never_see_a_removed_route_with_a_file),
        cmocka_unit_test(many_writers_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
