/*
 * test_extend.c - routes that gain and lose utterances one by one: their versions share a list (utterance_list.c), so that what
 * each reader sees of it is compared with what was done.
 */
#include "toy.h"

#include <pthread.h>

#include "base/base.h"

/* ---- As a plain list would have it -------------------------------------------------------------------------------- */

enum { ROUTES = 3, MOST = 60 };

typedef struct model_route {
    int numbers[MOST], count;
    bool there;
} model_route;

typedef struct fixture {
    toy toy;
    sr_encoder *encoder;
    char directory[256], path[300];
    sr_router *router, *other;
    model_route routes[ROUTES]; /* in the order of adding, which here is that of their places */
    uint32_t random;
    int next;
} fixture;

static int below(fixture *self, int limit) {
    self->random = self->random * 1664525u + 1013904223u;
    return (int)((self->random >> 8) % (uint32_t)limit);
}

static void name_of(int route, char name[16]) { snprintf(name, 16, "route %d", route); }

static void text_of(int number, char text[32]) { snprintf(text, 32, "text %d", number); }

static void put(sr_router *router, int route, const int *numbers, int count, sr_put_mode mode,
                sr_durability durability) {
    char name[16], texts[MOST][32];
    sr_str utterances[MOST];
    name_of(route, name);
    for (int i = 0; i < count; i++) {
        text_of(numbers[i], texts[i]);
        utterances[i] = sr_str_of(texts[i]);
    }
    sr_route given = {.size = sizeof given,
                      .name = sr_str_of(name),
                      .utterances = utterances,
                      .utterance_count = (size_t)count};
    sr_put_options options = {.size = sizeof options, .mode = mode, .durability = durability};
    sr_error error;
    if (sr_routes_put(router, &given, 1, &options, NULL, &error) != SR_OK)
        fail_msg("%s", error.message);
}

static void extend(fixture *self, int route, sr_durability durability) {
    model_route *model = &self->routes[route];
    int fresh[MOST], count = 1 + below(self, 4);
    for (int i = 0; i < count; i++) fresh[i] = model->numbers[model->count++] = self->next++;
    put(self->router, route, fresh, count, SR_PUT_EXTEND, durability);
    model->there = true;
}

/* Some of them, from any place; a text named twice is removed once. */
static void shorten(fixture *self, int route) {
    model_route *model = &self->routes[route];
    char name[16], texts[MOST][32];
    sr_str gone[MOST];
    int count = 0;
    name_of(route, name);
    for (int i = 0, kept = 0, all = model->count; i < all; i++) {
        if (below(self, 4) != 0) {
            model->numbers[kept++] = model->numbers[i];
            continue;
        }
        text_of(model->numbers[i], texts[count]);
        gone[count] = sr_str_of(texts[count]);
        count++;
        model->count--;
    }
    if (count > 0) gone[count] = gone[0];
    sr_error error;
    if (count > 0 && sr_utterances_remove(self->router, sr_str_of(name), gone, (size_t)count + 1,
                                          NULL, &error) != SR_OK)
        fail_msg("%s", error.message);
}

/* Turned round: old utterances come after new ones, and move. */
static void replace(fixture *self, int route) {
    model_route *model = &self->routes[route];
    for (int i = 0, k = model->count - 1; i < k; i++, k--) {
        int first = model->numbers[i];
        model->numbers[i] = model->numbers[k];
        model->numbers[k] = first;
    }
    put(self->router, route, model->numbers, model->count, SR_PUT_REPLACE, SR_DURABILITY_NORMAL);
    model->there = true;
}

static void change_something(fixture *self) {
    int route = below(self, ROUTES), what = below(self, 8);
    model_route *model = &self->routes[route];
    if (model->count > MOST - 8 || (what == 0 && model->there))
        shorten(self, route);
    else if (what == 1 && model->there)
        replace(self, route);
    else if (what <= 3 && model->there)
        shorten(self, route);
    else
        extend(self, route, what < 6 ? SR_DURABILITY_NORMAL : SR_DURABILITY_DEFERRED);
}

static void assert_is_model(const fixture *self, sr_router *router) {
    for (int route = 0; route < ROUTES; route++) {
        const model_route *model = &self->routes[route];
        char name[16], text[32];
        sr_table *table = NULL;
        name_of(route, name);
        sr_str wanted = sr_str_of(name);
        sr_status code = sr_table_read(router, &wanted, 1, &table, NULL);
        assert_int_equal(code, model->there ? SR_OK : SR_ERR_NOT_FOUND);
        if (code != SR_OK) continue;
        const sr_route_view *view = sr_table_route(table, 0);
        assert_int_equal(view->utterance_count, model->count);
        for (int i = 0; i < model->count; i++) {
            text_of(model->numbers[i], text);
            assert_true(toy_is(view->utterances[i], text));
        }
        sr_table_free(&table);
    }
}

static void routes_are_what_was_done_to_them(void **state) {
    fixture *self = *state;
    for (int i = 0; i < 1500; i++) {
        change_something(self);
        assert_is_model(self, self->router);
        if (i % 7 != 0) continue;
        assert_int_equal(sr_router_flush(self->router, NULL), SR_OK);
        assert_is_model(self, self->other); /* by what was added and what is gone */
    }
    assert_int_equal(sr_router_flush(self->router, NULL), SR_OK);
    assert_int_equal(sr_router_verify(self->router, NULL), SR_OK);
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, 0);
    assert_is_model(self, self->router);
}

/* The vectors that belong to a route's utterances are found whichever places are empty. */
static void vectors_stay_with_their_texts(void **state) {
    fixture *self = *state;
    for (int i = 0; i < 200; i++) change_something(self);
    sr_table *table = NULL;
    static float rows[ROUTES * MOST * TOY_DIMENSION], alone[TOY_DIMENSION];
    assert_int_equal(sr_table_read(self->router, NULL, 1, &table, NULL), SR_OK);
    assert_int_equal(
        sr_table_vectors(self->router, table, rows, sizeof rows / sizeof rows[0], NULL), SR_OK);
    const float *row = rows;
    for (size_t i = 0; i < sr_table_count(table); i++) {
        const sr_route_view *view = sr_table_route(table, i);
        for (size_t k = 0; k < view->utterance_count; k++, row += TOY_DIMENSION) {
            assert_int_equal(
                sr_encoder_encode(self->encoder, &view->utterances[k], 1, alone, NULL, NULL),
                SR_OK);
            assert_memory_equal(row, alone, sizeof alone);
        }
    }
    sr_table_free(&table);
}

/* ---- Readers beside a writer --------------------------------------------------------------------------------------- */

enum { WINDOW = 40, STEPS = 3000, READERS = 2 };

typedef struct scene {
    sr_router *router;
    atomic_int stop, faults, rounds;
} scene;

/* What is seen is a run of texts, at most one longer than the window. */
static void *read_window(void *argument) {
    scene *self = argument;
    int last = 0;
    while (!atomic_load(&self->stop)) {
        sr_table *table = NULL;
        if (sr_table_read(self->router, NULL, 1, &table, NULL) != SR_OK) {
            atomic_fetch_add(&self->faults, 1);
            break;
        }
        const sr_route_view *view = sr_table_route(table, 0);
        int first = atoi(view->utterances[0].data + strlen("text "));
        bool right = first >= last &&
                     (view->utterance_count == WINDOW || view->utterance_count == WINDOW + 1);
        for (size_t i = 0; i < view->utterance_count && right; i++) {
            char text[32];
            text_of(first + (int)i, text);
            right = toy_is(view->utterances[i], text);
        }
        last = first;
        if (!right) atomic_fetch_add(&self->faults, 1);
        atomic_fetch_add(&self->rounds, 1);
        sr_table_free(&table);
    }
    return NULL;
}

static void readers_see_each_version_whole(void **state) {
    fixture *self = *state;
    int numbers[WINDOW];
    for (int i = 0; i < WINDOW; i++) numbers[i] = i;
    put(self->router, 0, numbers, WINDOW, SR_PUT_EXTEND, SR_DURABILITY_DEFERRED);
    scene beside = {.router = self->router};
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_window, &beside), 0);
    for (int i = WINDOW; i < WINDOW + STEPS || atomic_load(&beside.rounds) < 50; i++) {
        char text[32];
        put(self->router, 0, &i, 1, SR_PUT_EXTEND, SR_DURABILITY_DEFERRED);
        text_of(i - WINDOW, text);
        sr_str gone = sr_str_of(text);
        assert_int_equal(
            sr_utterances_remove(self->router, sr_str_of("route 0"), &gone, 1, NULL, NULL), SR_OK);
    }
    atomic_store(&beside.stop, 1);
    for (int i = 0; i < READERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&beside.faults), 0);
}

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    self->random = 2026;
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    self->encoder = toy_open(&self->toy, "toy");
    self->router = toy_router(self->path, self->encoder, 0);
    self->other = toy_router(self->path, self->encoder, 0);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    sr_router_close(&self->router);
    sr_router_close(&self->other);
    sr_encoder_close(&self->encoder);
    toy_remove_directory(self->directory);
    free(self);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(routes_are_what_was_done_to_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(vectors_stay_with_their_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_see_each_version_whole, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
