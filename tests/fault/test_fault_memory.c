/*
 * test_fault_memory.c - every allocation failing once. Each scenario runs with the first allocation failing,
 * then the second, and so on until it succeeds: never a crash, never a leak, and a failed call changes
 * nothing.
 */
#include "short_memory.h"
#include "toy.h"

#include <sched.h>

#include "base/base.h"

typedef struct stage {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
    const char *path;
} stage;

/* Everything that a call might do; returns its status. */
typedef sr_status step_fn(stage *scene);

static sr_status do_open(stage *scene) {
    sr_options options = {
        .size = sizeof options, .database = scene->path, .encoder = scene->encoder, .threads = 1};
    sr_router *router = NULL;
    sr_error error;
    sr_status code = sr_router_open(&options, &router, &error);
    assert_true((router != NULL) == (code == SR_OK));
    sr_router_close(&router);
    return code;
}

static sr_status do_put(stage *scene) {
    sr_str texts[] = {sr_str_of("three"), sr_str_of("new"), sr_str_of("one"), sr_str_of("new")};
    sr_str description = sr_str_of("changed");
    sr_route routes[] = {
        {.size = sizeof(sr_route),
         .name = sr_str_of("a"),
         .utterances = texts,
         .utterance_count = 4,
         .description = &description},
        {.size = sizeof(sr_route),
         .name = sr_str_of("fresh"),
         .utterances = texts,
         .utterance_count = 2},
    };
    return sr_routes_put(scene->router, routes, 2, NULL, NULL, NULL);
}

static sr_status do_remove(stage *scene) {
    return sr_route_remove(scene->router, sr_str_of("a"), NULL, NULL);
}

static sr_status do_remove_utterance(stage *scene) {
    sr_str text = sr_str_of("two");
    return sr_utterances_remove(scene->router, sr_str_of("a"), &text, 1, NULL, NULL);
}

static sr_status do_decide(stage *scene) {
    sr_str texts[] = {sr_str_of("one"), sr_str_of("b\xFFroken"), sr_str_of(" "), sr_str_of("four")};
    sr_decisions *decisions = NULL;
    sr_status code = sr_decide(scene->router, texts, 4, NULL, &decisions, NULL);
    assert_true((decisions != NULL) == (code == SR_OK));
    sr_decisions_free(&decisions);
    return code;
}

/* What came back of a submission. */
typedef struct returned {
    atomic_int calls;
    sr_status status;
} returned;

static void take_answer(void *user, const sr_completion *done) {
    returned *self = user;
    sr_decisions *decisions = done->decisions;
    sr_vectors *vectors = done->vectors;
    self->status = done->status;
    sr_decisions_free(&decisions);
    sr_vectors_free(&vectors);
    atomic_fetch_add(&self->calls, 1);
}

/* Refused, or answered once with a result or the failure. */
static sr_status submit_with(stage *scene, unsigned flags) {
    sr_str texts[] = {sr_str_of("one"), sr_str_of("b\xFFroken"), sr_str_of(" "), sr_str_of("four")};
    sr_submit_options options = {
        .size = sizeof options, .flags = flags, .deadline_ns = sr_steady_ns() + 60000000000u};
    returned answer = {0};
    sr_status code =
        sr_submit_list(scene->router, texts, 4, &options, take_answer, &answer, NULL, NULL);
    assert_int_equal(sr_queue_drain(scene->router, 0, NULL), SR_OK);
    assert_int_equal(answer.calls, code == SR_OK);
    return code == SR_OK ? answer.status : code;
}

static sr_status do_submit(stage *scene) { return submit_with(scene, 0); }
static sr_status do_submit_away(stage *scene) { return submit_with(scene, SR_SUBMIT_AWAY); }
static sr_status do_submit_vectors(stage *scene) { return submit_with(scene, SR_SUBMIT_VECTORS); }

static sr_status do_page(stage *scene) {
    sr_table *table = NULL;
    sr_sample *sample = NULL;
    uint64_t next;
    sr_status code = sr_table_page(scene->router, NULL, &table, &next, NULL);
    assert_true((table != NULL) == (code == SR_OK));
    sr_table_free(&table);
    if (code != SR_OK) return code;
    code = sr_utterance_vectors(scene->router, 3, &sample, NULL);
    assert_true((sample != NULL) == (code == SR_OK));
    sr_sample_free(&sample);
    return code;
}

static sr_status do_fit(stage *scene) {
    sr_str texts[] = {sr_str_of("one more"), sr_str_of("something else")};
    sr_str routes[] = {sr_str_of("b"), {NULL, 0}};
    sr_fit_options options = {.size = sizeof options, .texts = texts, .routes = routes, .count = 2};
    sr_fit_report *report = NULL;
    sr_status code = sr_fit(scene->router, &options, &report, NULL);
    assert_true((report != NULL) == (code == SR_OK));
    sr_fit_report_free(&report);
    return code;
}

static sr_status do_decide_fitted(stage *scene) { return do_decide(scene); }

static sr_status do_put_oos(stage *scene) {
    sr_str texts[] = {sr_str_of("three"), sr_str_of("nowhere")};
    return sr_oos_put(scene->router, texts, 2, NULL, NULL);
}

static sr_status do_read(stage *scene) {
    sr_table *table = NULL;
    sr_status code = sr_table_read(scene->router, NULL, 1, &table, NULL);
    assert_true((table != NULL) == (code == SR_OK));
    sr_table_free(&table);
    return code;
}

static void open_scene(stage *scene, const char *path) {
    scene->path = path;
    scene->encoder = toy_open(&scene->toy, "toy");
    scene->router = toy_router(path, scene->encoder, 0);
    assert_int_equal(toy_put(scene->router, "a", "one|two|three", SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    assert_int_equal(toy_put(scene->router, "b", "four|one", SR_PUT_REPLACE, NULL, NULL), SR_OK);
}

/* Makes it a table that something can be learned from. */
static void enlarge(stage *scene) {
    assert_int_equal(toy_put(scene->router, "a",
                             "money back|my money|the money now|refund money|money again|no money",
                             SR_PUT_EXTEND, NULL, NULL),
                     SR_OK);
    assert_int_equal(
        toy_put(scene->router, "b",
                "my parcel|the parcel now|parcel lost|which parcel|parcel again|no parcel",
                SR_PUT_EXTEND, NULL, NULL),
        SR_OK);
    sr_str texts[] = {sr_str_of("who wrote hamlet"), sr_str_of("rain today")};
    assert_int_equal(sr_oos_put(scene->router, texts, 2, NULL, NULL), SR_OK);
}

static void close_scene(stage *scene) {
    sr_router_close(&scene->router);
    sr_encoder_close(&scene->encoder);
}

/* Fails allocation after allocation of `step` on a table that is made anew each time. */
static void fail_each(const char *path, step_fn *step, bool changes) {
    sr_status code = SR_ERR_NO_MEMORY;
    static char before[4096], after[4096];
    bool fits = step == do_fit || step == do_decide_fitted;
    for (long n = 1; code != SR_OK; n += step == do_fit ? 1 + n / 10 : 1) {
        assert_true(n < 1000000);
        stage scene = {0};
        open_scene(&scene, path);
        if (fits) enlarge(&scene);
        if (step == do_decide_fitted) assert_int_equal(do_fit(&scene), SR_OK);
        toy_dump(scene.router, before, sizeof before);
        long held = memory.held;
        memory.countdown = n;
        code = step(&scene);
        memory.countdown = 0;
        if (code != SR_OK) assert_int_equal(code, SR_ERR_NO_MEMORY);
        if (step == do_open) assert_int_equal(memory.held, held);
        toy_dump(scene.router, after, sizeof after);
        if (code != SR_OK || !changes) assert_string_equal(before, after);
        /* The table still works, and disk equals memory. */
        assert_int_equal(do_decide(&scene), SR_OK);
        if (path != NULL) {
            sr_router_close(&scene.router);
            scene.router = toy_router(path, scene.encoder, 0);
            toy_dump(scene.router, before, sizeof before);
            assert_string_equal(before, after);
        }
        close_scene(&scene);
        assert_int_equal(memory.held, 0);
        if (path != NULL) unlink(path);
    }
}

static void run_all(const char *path) {
    static const sr_allocator failing = {take, change, release, NULL};
    sr_allocator_set(&failing);
    fail_each(path, do_open, false);
    fail_each(path, do_put, true);
    fail_each(path, do_remove, true);
    fail_each(path, do_remove_utterance, true);
    fail_each(path, do_decide, false);
    fail_each(path, do_read, false);
    fail_each(path, do_submit, false);
    fail_each(path, do_submit_away, false);
    fail_each(path, do_submit_vectors, false);
    fail_each(path, do_page, false);
    fail_each(path, do_put_oos, false);
    fail_each(path, do_fit, false);
    fail_each(path, do_decide_fitted, false);
    sr_allocator_set(NULL);
}

static void every_allocation_may_fail_in_memory(void **state) {
    (void)state;
    run_all(NULL);
}

static void every_allocation_may_fail_with_a_file(void **state) {
    (void)state;
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/routes.db", directory);
    run_all(path);
    toy_remove_directory(directory);
}

/* Decides `n` texts on as many cores as there are. */
static sr_status decide_many(sr_router *router, size_t n) {
    sr_str texts[1000];
    sr_decisions *decisions = NULL;
    for (size_t i = 0; i < n; i++) texts[i] = sr_str_of("some text");
    sr_status code = sr_decide(router, texts, n, NULL, &decisions, NULL);
    sr_decisions_free(&decisions);
    return code;
}

/* A first use that fails with one core and is tried again with all of them: memory that was sized for the
 * one must not serve the many. What goes wrong is seen by AddressSanitizer. */
static void cores_may_be_added_between_attempts(void **state) {
    (void)state;
    static const sr_allocator failing = {take, change, release, NULL};
    char directory[256], path[300];
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/routes.db", directory);
    stage scene = {0};
    open_scene(&scene, path);
    sr_status code = SR_ERR_NO_MEMORY;
    sr_allocator_set(&failing);
    for (long n = 1; code != SR_OK; n++) {
        sr_options options = {.size = sizeof options,
                              .database = path,
                              .encoder = scene.encoder,
                              .flags = SR_OPEN_LAZY};
        sr_router *router = NULL;
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK);
        memory.countdown = n;
        code = decide_many(router, 1);
        memory.countdown = 0;
        assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
        assert_int_equal(decide_many(router, 1000), SR_OK);
        sr_router_close(&router);
    }
    sr_allocator_set(NULL);
    close_scene(&scene);
    toy_remove_directory(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail_in_memory),
        cmocka_unit_test(every_allocation_may_fail_with_a_file),
        cmocka_unit_test(cores_may_be_added_between_attempts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
