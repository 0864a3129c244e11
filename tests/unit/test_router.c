/* test_router.c - the route table, its mutations and its decisions, through the public header. */
#include "toy.h"

#include <math.h>
#include <pthread.h>

typedef struct fixture {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    self->encoder = toy_open(&self->toy, "toy");
    self->router = toy_router(NULL, self->encoder, 0);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    sr_router_close(&self->router);
    sr_encoder_close(&self->encoder);
    free(self);
    return 0;
}

static sr_decisions *decide(sr_router *router, const char *text, const sr_decide_options *options) {
    sr_str texts[1] = {sr_str_of(text)};
    sr_decisions *decisions = NULL;
    sr_error error = {0};
    if (sr_decide(router, texts, 1, options, &decisions, &error) != SR_OK)
        fail_msg("%s", error.message);
    return decisions;
}

static void put(fixture *self, const char *name, const char *utterances) {
    sr_error error = {0};
    if (toy_put(self->router, name, utterances, SR_PUT_REPLACE, NULL, &error) != SR_OK)
        fail_msg("%s", error.message);
}

static uint64_t revision(sr_router *router) {
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    return info.revision;
}

/* ---- Mutations ------------------------------------------------------------------------------------------ */

static void duplicates_are_stored_once(void **state) {
    fixture *self = *state;
    sr_receipt receipt;
    assert_int_equal(toy_put(self->router, "a", "x|y|x|x", SR_PUT_REPLACE, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.routes_added, 1);
    assert_int_equal(receipt.utterances_added, 2);
    assert_int_equal(receipt.duplicates, 2);
    assert_int_equal(receipt.revision, 1);
    assert_int_equal(toy_put(self->router, "a", "y|z", SR_PUT_EXTEND, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.routes_changed, 1);
    assert_int_equal(receipt.utterances_added, 1);
    assert_int_equal(receipt.duplicates, 1);
    toy_assert_table(self->router, "a:x|y|z;");
}

static void nothing_changed_keeps_the_revision(void **state) {
    fixture *self = *state;
    sr_receipt receipt;
    put(self, "a", "x|y");
    assert_int_equal(toy_put(self->router, "a", "x|y", SR_PUT_REPLACE, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.revision, 1);
    assert_int_equal(receipt.routes_changed + receipt.utterances_added + receipt.utterances_removed,
                     0);
    assert_int_equal(receipt.duplicates, 2);
    assert_int_equal(toy_put(self->router, "a", "", SR_PUT_EXTEND, &receipt, NULL), SR_OK);
    assert_int_equal(sr_routes_put(self->router, NULL, 0, NULL, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.revision, 1);
    assert_int_equal(revision(self->router), 1);
}

static void replacing_makes_the_route_exactly_what_is_given(void **state) {
    fixture *self = *state;
    sr_receipt receipt;
    put(self, "a", "one|two|three");
    put(self, "b", "four");
    assert_int_equal(toy_put(self->router, "a", "three|new|one", SR_PUT_REPLACE, &receipt, NULL),
                     SR_OK);
    assert_int_equal(receipt.utterances_added, 1);
    assert_int_equal(receipt.utterances_removed, 1);
    assert_int_equal(receipt.duplicates, 2);
    toy_assert_table(self->router, "a:three|new|one;b:four;"); /* and it keeps its place */
    sr_decisions *decisions = decide(self->router, "two", NULL);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    for (size_t i = 0; i < decision->candidate_count; i++)
        assert_false(toy_is(decision->candidates[i].utterance, "two"));
    sr_decisions_free(&decisions);
    put(self, "a", "one|new|three"); /* the same texts in another order */
    toy_assert_table(self->router, "a:one|new|three;b:four;");
    assert_int_equal(atomic_load(&self->toy.encoded), 5 + 1); /* three, one and new never again */
}

static void extending_sets_only_the_fields_given(void **state) {
    fixture *self = *state;
    sr_str text = sr_str_of("hello"), description = sr_str_of("about"),
           metadata = sr_str_of("{\"k\": [1, null]}");
    sr_threshold threshold = {SR_THRESHOLD_COSINE, 0.7};
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of("a"),
                      .utterances = &text,
                      .utterance_count = 1,
                      .threshold = &threshold,
                      .description = &description,
                      .metadata = &metadata};
    assert_int_equal(sr_route_put(self->router, &route, NULL, NULL), SR_OK);
    sr_put_options extend = {.size = sizeof extend, .mode = SR_PUT_EXTEND};
    sr_threshold confidence = {SR_THRESHOLD_CONFIDENCE, 0.25};
    sr_route change = {.size = sizeof change, .name = sr_str_of("a"), .threshold = &confidence};
    assert_int_equal(sr_routes_put(self->router, &change, 1, &extend, NULL, NULL), SR_OK);
    sr_table *table;
    assert_int_equal(sr_table_read(self->router, &route.name, 1, &table, NULL), SR_OK);
    const sr_route_view *view = sr_table_route(table, 0);
    assert_true(toy_is(view->description, "about") && toy_is(view->metadata, "{\"k\":[1,null]}"));
    assert_int_equal(view->threshold.kind, SR_THRESHOLD_CONFIDENCE);
    assert_true(view->threshold.value == 0.25);
    assert_int_equal(view->utterance_count, 1);
    assert_null(sr_table_route(table, 1));
    sr_table_free(&table);
    /* Replacing with nothing but a text gives the defaults back. */
    put(self, "a", "hello");
    assert_int_equal(sr_table_read(self->router, &route.name, 0, &table, NULL), SR_OK);
    view = sr_table_route(table, 0);
    assert_int_equal(view->description.len + view->metadata.len, 0);
    assert_int_equal(view->threshold.kind, SR_THRESHOLD_AUTO);
    assert_null(view->utterances);
    assert_int_equal(view->utterance_count, 1);
    sr_table_free(&table);
}

static void a_name_given_twice_extends_itself(void **state) {
    fixture *self = *state;
    put(self, "a", "old");
    sr_str first[] = {sr_str_of("p"), sr_str_of("q")}, second[] = {sr_str_of("q"), sr_str_of("r")};
    sr_threshold threshold = {SR_THRESHOLD_COSINE, 0.5};
    sr_route routes[] = {{.size = sizeof(sr_route),
                          .name = sr_str_of("a"),
                          .utterances = first,
                          .utterance_count = 2},
                         {.size = sizeof(sr_route),
                          .name = sr_str_of("b"),
                          .utterances = first,
                          .utterance_count = 1},
                         {.size = sizeof(sr_route),
                          .name = sr_str_of("a"),
                          .utterances = second,
                          .utterance_count = 2,
                          .threshold = &threshold}};
    sr_receipt receipt;
    assert_int_equal(sr_routes_put(self->router, routes, 3, NULL, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.duplicates, 1);
    assert_int_equal(receipt.revision, 2);
    toy_assert_table(self->router, "a[1 0.5]:p|q|r;b:p;");
}

static void one_bad_route_of_five_leaves_all_as_it_was(void **state) {
    fixture *self = *state;
    put(self, "a", "old");
    sr_str good = sr_str_of("fine"), blank = sr_str_of(" \t\n");
    sr_route routes[5];
    for (int i = 0; i < 5; i++)
        routes[i] = (sr_route){.size = sizeof(sr_route),
                               .name = sr_str_of(i == 0   ? "a"
                                                 : i == 1 ? "b"
                                                 : i == 2 ? "c"
                                                 : i == 3 ? "d"
                                                          : "e"),
                               .utterances = i == 2 ? &blank : &good,
                               .utterance_count = 1};
    sr_error error;
    sr_receipt receipt = {.revision = 99};
    assert_int_equal(sr_routes_put(self->router, routes, 5, NULL, &receipt, &error),
                     SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "\"c\""));
    assert_string_equal(error.place, "routes[2].utterances[0]");
    assert_int_equal(receipt.revision, 99);
    toy_assert_table(self->router, "a:old;");
    assert_int_equal(revision(self->router), 1);
}

static void a_failing_encoder_leaves_all_as_it_was(void **state) {
    fixture *self = *state;
    put(self, "a", "old");
    atomic_store(&self->toy.fail, 3);
    sr_error error;
    assert_int_equal(toy_put(self->router, "a", "new", SR_PUT_REPLACE, NULL, &error),
                     SR_ERR_CALLBACK);
    assert_int_equal(toy_put(self->router, "b", "new", SR_PUT_REPLACE, NULL, &error),
                     SR_ERR_CALLBACK);
    toy_assert_table(self->router, "a:old;");
    /* What needs no new vector still works: the text is known. */
    assert_int_equal(toy_put(self->router, "b", "old", SR_PUT_REPLACE, NULL, &error), SR_OK);
    sr_str text = sr_str_of("x");
    sr_decisions *decisions = NULL;
    assert_int_equal(sr_decide(self->router, &text, 1, NULL, &decisions, &error), SR_ERR_CALLBACK);
    assert_null(decisions);
}

static void a_text_in_several_routes_is_encoded_once(void **state) {
    fixture *self = *state;
    put(self, "a", "same|other");
    put(self, "b", "same");
    put(self, "c", "same|same");
    assert_int_equal(atomic_load(&self->toy.encoded), 2);
    /* Its vector must survive every order of removals, even within one call. */
    assert_int_equal(sr_route_remove(self->router, sr_str_of("a"), NULL, NULL), SR_OK);
    assert_int_equal(sr_route_remove(self->router, sr_str_of("b"), NULL, NULL), SR_OK);
    sr_str text = sr_str_of("same"), fresh = sr_str_of("fresh");
    sr_route swap[] = {{.size = sizeof(sr_route),
                        .name = sr_str_of("c"),
                        .utterances = &fresh,
                        .utterance_count = 1},
                       {.size = sizeof(sr_route),
                        .name = sr_str_of("d"),
                        .utterances = &text,
                        .utterance_count = 1}};
    assert_int_equal(sr_routes_put(self->router, swap, 2, NULL, NULL, NULL), SR_OK);
    assert_int_equal(atomic_load(&self->toy.encoded), 3);
    sr_decisions *decisions = decide(self->router, "same", NULL);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->route, "d"));
    assert_true(sr_decisions_get(decisions, 0)->score > 0.99999);
    sr_decisions_free(&decisions);
    decisions = decide(self->router, "fresh", NULL);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->route, "c"));
    assert_true(sr_decisions_get(decisions, 0)->score > 0.99999);
    sr_decisions_free(&decisions);
}

static void removing_takes_routes_and_utterances_away(void **state) {
    fixture *self = *state;
    put(self, "a", "x|y|z");
    put(self, "b", "x");
    sr_receipt receipt;
    sr_error error;
    sr_str texts[] = {sr_str_of("y"), sr_str_of("nowhere")};
    assert_int_equal(sr_utterances_remove(self->router, sr_str_of("a"), texts, 2, NULL, &error),
                     SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "nowhere"));
    toy_assert_table(self->router, "a:x|y|z;b:x;");
    assert_int_equal(sr_utterances_remove(self->router, sr_str_of("a"), texts, 1, &receipt, &error),
                     SR_OK);
    assert_int_equal(receipt.utterances_removed, 1);
    toy_assert_table(self->router, "a:x|z;b:x;");
    assert_int_equal(sr_utterances_remove(self->router, sr_str_of("q"), texts, 1, NULL, &error),
                     SR_ERR_NOT_FOUND);
    assert_int_equal(sr_route_remove(self->router, sr_str_of("q"), NULL, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_route_remove(self->router, sr_str_of("a"), &receipt, &error), SR_OK);
    assert_int_equal(receipt.routes_removed, 1);
    assert_int_equal(receipt.utterances_removed, 2);
    toy_assert_table(self->router, "b:x;");
    sr_decisions *decisions = decide(self->router, "z", NULL);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->candidates[0].route, "b"));
    assert_int_equal(sr_decisions_get(decisions, 0)->candidate_count, 1);
    sr_decisions_free(&decisions);
}

static void a_route_without_utterances_is_kept_but_never_decided_for(void **state) {
    fixture *self = *state;
    put(self, "empty", "");
    sr_decisions *decisions = decide(self->router, "x", NULL);
    assert_int_equal(sr_decisions_get(decisions, 0)->reason, SR_REASON_EMPTY_TABLE);
    sr_decisions_free(&decisions);
    put(self, "a", "x");
    decisions = decide(self->router, "x", NULL);
    assert_int_equal(sr_decisions_get(decisions, 0)->candidate_count, 1);
    sr_decisions_free(&decisions);
    toy_assert_table(self->router, "empty;a:x;");
}

static int stop_at_300(void *user, uint64_t done, uint64_t total) {
    *(uint64_t *)user = total;
    return done > 300;
}

static void progress_counts_and_can_stop(void **state) {
    fixture *self = *state;
    enum { MANY = 1000 };
    static char texts[MANY][16];
    static sr_str strings[MANY];
    for (int i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof texts[i], "text %d", i / 2);
        strings[i] = sr_str_of(texts[i]);
    }
    uint64_t total = 0;
    sr_put_options options = {
        .size = sizeof options, .progress = stop_at_300, .progress_user = &total};
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of("many"),
                      .utterances = strings,
                      .utterance_count = MANY};
    sr_error error;
    assert_int_equal(sr_routes_put(self->router, &route, 1, &options, NULL, &error),
                     SR_ERR_CANCELLED);
    assert_int_equal(total, MANY / 2);
    toy_assert_table(self->router, "");
    sr_receipt receipt;
    assert_int_equal(sr_route_put(self->router, &route, &receipt, &error), SR_OK);
    assert_int_equal(receipt.utterances_added, MANY / 2);
    assert_int_equal(receipt.duplicates, MANY / 2);
}

/* ---- What is refused -------------------------------------------------------------------------------------- */

static void refuse(fixture *self, sr_route route, sr_status expected, const char *says) {
    sr_error error = {0};
    route.size = sizeof route;
    assert_int_equal(sr_route_put(self->router, &route, NULL, &error), expected);
    assert_int_equal(error.code, expected);
    if (strstr(error.message, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    toy_assert_table(self->router, "");
}

static void bad_routes_are_refused_with_a_reason(void **state) {
    fixture *self = *state;
    static char long_text[70000];
    memset(long_text, 'x', sizeof long_text);
    sr_str ok = sr_str_of("ok");
    refuse(self, (sr_route){.name = sr_str_of("")}, SR_ERR_INVALID, "empty");
    refuse(self, (sr_route){.name = sr_str_of(" \xC2\xA0 ")}, SR_ERR_INVALID, "white space");
    refuse(self, (sr_route){.name = sr_str_of("refund ")}, SR_ERR_INVALID,
           "\"refund \" begins or ends with white space");
    refuse(self, (sr_route){.name = sr_str_of("\xE3\x80\x80refund")}, SR_ERR_INVALID,
           "begins or ends with white space");
    refuse(self, (sr_route){.name = {long_text, 513}}, SR_ERR_LIMIT, "513");
    refuse(self, (sr_route){.name = {long_text, 10240}}, SR_ERR_LIMIT, "512");
    refuse(self, (sr_route){.name = {"a\0b", 3}}, SR_ERR_INVALID, "NUL");
    refuse(self, (sr_route){.name = sr_str_of("a\nb")}, SR_ERR_INVALID, "byte 1");
    refuse(self, (sr_route){.name = sr_str_of("ab\xC2\x85")}, SR_ERR_INVALID, "control");
    refuse(self, (sr_route){.name = sr_str_of("abc\xFF")}, SR_ERR_INVALID, "UTF-8 at byte 3");
    refuse(self, (sr_route){.name = {NULL, 5}}, SR_ERR_INVALID, "no data");
    const sr_str faulty[] = {
        {"", 0}, sr_str_of("\xE2\x80\x83"), sr_str_of("ab\xC3("), {"a\0", 2}, {long_text, 65537}};
    const char *says[] = {"blank", "blank", "byte 2", "NUL", "65536"};
    for (int i = 0; i < 5; i++)
        refuse(self, (sr_route){.name = ok, .utterances = &faulty[i], .utterance_count = 1},
               i == 4 ? SR_ERR_LIMIT : SR_ERR_INVALID, says[i]);
    refuse(self, (sr_route){.name = ok, .utterance_count = 1}, SR_ERR_INVALID, "none are given");
    const sr_threshold thresholds[] = {
        {SR_THRESHOLD_COSINE, NAN},          {SR_THRESHOLD_COSINE, 1.01},
        {SR_THRESHOLD_COSINE, -1.01},        {SR_THRESHOLD_CONFIDENCE, -0.01},
        {SR_THRESHOLD_CONFIDENCE, INFINITY}, {(sr_threshold_kind)7, 0.5}};
    for (int i = 0; i < 6; i++)
        refuse(self, (sr_route){.name = ok, .threshold = &thresholds[i]}, SR_ERR_INVALID,
               i == 5 ? "kind 7" : "from");
    const sr_str metadata[] = {sr_str_of("{"), sr_str_of("[1] x"), sr_str_of("{'a':1}")};
    for (int i = 0; i < 3; i++)
        refuse(self, (sr_route){.name = ok, .metadata = &metadata[i]}, SR_ERR_INVALID, "not JSON");
    refuse(self, (sr_route){.name = ok, .description = &faulty[4]}, SR_ERR_LIMIT, "description");
    static const sr_str json[] = {{"3", 1}, {"\"x\"", 3}, {"null", 4}, {"", 0}};
    for (int i = 0; i < 4; i++) {
        sr_route route = {.size = sizeof route, .name = ok, .metadata = &json[i]};
        assert_int_equal(sr_route_put(self->router, &route, NULL, NULL), SR_OK);
    }
}

/* A length without data is refused everywhere, not read. */
static void strings_without_data_are_refused(void **state) {
    fixture *self = *state;
    sr_str none = {NULL, 5};
    sr_table *table = NULL;
    sr_decisions *decisions = NULL;
    sr_error error;
    put(self, "a", "x|y");
    assert_int_equal(sr_route_remove(self->router, none, NULL, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "no data but length 5"));
    assert_int_equal(sr_utterances_remove(self->router, none, &none, 1, NULL, &error),
                     SR_ERR_INVALID);
    assert_int_equal(sr_utterances_remove(self->router, sr_str_of("a"), &none, 1, NULL, &error),
                     SR_ERR_INVALID);
    assert_int_equal(sr_table_read(self->router, &none, 1, &table, &error), SR_ERR_INVALID);
    assert_int_equal(sr_decide(self->router, &none, 1, NULL, &decisions, &error), SR_ERR_INVALID);
    assert_null(table);
    /* NULL with length 0 is the empty string. */
    none.len = 0;
    assert_int_equal(sr_route_remove(self->router, none, NULL, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_table_read(self->router, &none, 1, &table, &error), SR_ERR_NOT_FOUND);
    toy_assert_table(self->router, "a:x|y;");
}

static void structs_of_other_sizes_are_understood(void **state) {
    fixture *self = *state;
    struct {
        sr_decide_options known;
        uint64_t unknown;
    } newer = {.known = {.size = sizeof newer, .top_k = 1}};
    put(self, "a", "hello");
    put(self, "b", "world");
    sr_decisions *decisions = decide(self->router, "hello", &newer.known);
    assert_int_equal(sr_decisions_get(decisions, 0)->candidate_count, 1);
    sr_decisions_free(&decisions);
    sr_str text = sr_str_of("hello");
    sr_error error;
    newer.unknown = 1;
    assert_int_equal(sr_decide(self->router, &text, 1, &newer.known, &decisions, &error),
                     SR_ERR_UNSUPPORTED);
    sr_decide_options zero = {.top_k = 1};
    assert_int_equal(sr_decide(self->router, &text, 1, &zero, &decisions, &error), SR_ERR_INVALID);
    sr_decide_options older = {.size = offsetof(sr_decide_options, top_k),
                               .top_k = 1}; /* top_k is not read */
    decisions = decide(self->router, "hello", &older);
    assert_int_equal(sr_decisions_get(decisions, 0)->candidate_count, 2);
    sr_decisions_free(&decisions);
    sr_info small = {.size = offsetof(sr_info, models), .models = 77};
    assert_int_equal(sr_router_info(self->router, &small, &error), SR_OK);
    assert_int_equal(small.utterances, 2);
    assert_int_equal(small.models, 77);
    sr_info unset = {0};
    assert_int_equal(sr_router_info(self->router, &unset, &error), SR_ERR_INVALID);
    sr_route route = {.size = 0, .name = sr_str_of("c")};
    assert_int_equal(sr_route_put(self->router, &route, NULL, &error), SR_ERR_INVALID);
}

static void bad_open_options_are_refused(void **state) {
    fixture *self = *state;
    sr_router *router = NULL;
    sr_error error;
    sr_options options = {.size = sizeof options, .encoder = self->encoder, .margin = NAN};
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    options.margin = -0.1;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    options.margin = 0;
    options.threads = -1;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    options.threads = 1;
    options.flags = 1u << 20;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    options.flags = 0;
    options.database = "";
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    assert_null(router);
    sr_router_close(&router);
    sr_router_close(NULL);
}

/* What one router was told is done, the next call of another one on the same file knows, also when that one
 * only reads. */
static void changes_of_other_routers_are_seen(void **state) {
    fixture *self = *state;
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/a.db", directory);
    sr_router *writer = toy_router(path, self->encoder, 0);
    assert_int_equal(toy_put(writer, "gone", "hello there", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(writer, "kept", "good bye", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_router *reader = toy_router(path, self->encoder, SR_OPEN_READ_ONLY);
    sr_router *lazy = toy_router(path, self->encoder, SR_OPEN_READ_ONLY | SR_OPEN_LAZY);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sr_route_remove(writer, sr_str_of("gone"), NULL, NULL), SR_OK);
        sr_decisions *decisions = decide(reader, "hello there", NULL);
        assert_int_equal(sr_decisions_get(decisions, 0)->candidate_count, 1);
        assert_true(toy_is(sr_decisions_get(decisions, 0)->candidates[0].route, "kept"));
        assert_int_equal(sr_decisions_get(decisions, 0)->revision, 3 + 2 * i);
        sr_decisions_free(&decisions);
        assert_int_equal(revision(lazy), 3 + 2 * i);
        assert_int_equal(toy_put(writer, "gone", "hello there", SR_PUT_REPLACE, NULL, NULL), SR_OK);
        toy_assert_table(lazy, "kept:good bye;gone:hello there;");
        decisions = decide(reader, "hello there", NULL);
        assert_true(toy_is(sr_decisions_get(decisions, 0)->route, "gone"));
        sr_decisions_free(&decisions);
    }
    sr_router_close(&lazy);
    sr_router_close(&reader);
    sr_router_close(&writer);
    toy_remove_directory(directory);
}

static void *read_everything(void *user) {
    sr_router *router = user;
    sr_table *table = NULL;
    assert_int_equal(revision(router), 1);
    assert_int_equal(sr_table_read(router, NULL, 1, &table, NULL), SR_OK);
    assert_int_equal(sr_table_count(table), 1);
    sr_table_free(&table);
    return NULL;
}

/* Ends only when the reader has. */
static int read_meanwhile(void *user, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_everything, user), 0);
    return pthread_join(reader, NULL);
}

static void readers_do_not_wait_for_a_mutation(void **state) {
    fixture *self = *state;
    char directory[256], path[300];
    toy_directory(directory);
    snprintf(path, sizeof path, "%s/a.db", directory);
    sr_router *router = toy_router(path, self->encoder, 0);
    assert_int_equal(toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_put_options options = {
        .size = sizeof options, .progress = read_meanwhile, .progress_user = router};
    sr_str text = sr_str_of("y");
    sr_route route = {
        .size = sizeof route, .name = sr_str_of("b"), .utterances = &text, .utterance_count = 1};
    assert_int_equal(sr_routes_put(router, &route, 1, &options, NULL, NULL), SR_OK);
    assert_int_equal(revision(router), 2);
    sr_router_close(&router);
    toy_remove_directory(directory);
}

/* ---- Decisions ------------------------------------------------------------------------------------------------ */

static void a_decision_is_complete(void **state) {
    fixture *self = *state;
    put(self, "greeting", "hello there|good morning");
    put(self, "parting", "good bye|see you later");
    put(self, "thanks", "thank you very much");
    put(self, "weather", "will it rain tomorrow");
    sr_decisions *decisions = decide(self->router, "good morning", NULL);
    assert_int_equal(sr_decisions_count(decisions), 1);
    assert_null(sr_decisions_get(decisions, 1));
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    assert_int_equal(decision->status, SR_MATCHED);
    assert_int_equal(decision->reason, SR_REASON_MATCHED);
    assert_true(toy_is(decision->text, "good morning") && toy_is(decision->route, "greeting"));
    assert_true(decision->score > 0.99999 && decision->score <= 1);
    assert_int_equal(decision->candidate_count, 3);
    assert_true(toy_is(decision->candidates[0].utterance, "good morning"));
    assert_true(decision->candidates[0].score == decision->score);
    assert_true(decision->candidates[0].confidence == decision->confidence);
    assert_true(fabs(decision->margin - (decision->score - decision->candidates[1].score)) < 1e-12);
    assert_true(decision->candidates[1].score >= decision->candidates[2].score);
    assert_int_equal(decision->path, SR_PATH_SLOW);
    assert_int_equal(decision->revision, 4);
    assert_int_equal(decision->truncated, 0);
    sr_decisions_free(&decisions);
    assert_null(decisions);
}

static void blank_texts_and_broken_utf8_are_answers(void **state) {
    fixture *self = *state;
    sr_str texts[] = {
        {NULL, 0}, sr_str_of(" \n\xE2\x80\x83"), sr_str_of("a\xFF\xFEz"), {"n\0l", 3}};
    sr_decisions *decisions;
    assert_int_equal(sr_decide(self->router, texts, 4, NULL, &decisions, NULL), SR_OK);
    assert_int_equal(sr_decisions_get(decisions, 1)->reason, SR_REASON_EMPTY_TEXT);
    assert_int_equal(sr_decisions_get(decisions, 2)->reason, SR_REASON_EMPTY_TABLE);
    assert_int_equal(atomic_load(&self->toy.encoded), 0);
    sr_decisions_free(&decisions);
    put(self, "a", "hello");
    assert_int_equal(sr_decide(self->router, texts, 4, NULL, &decisions, NULL), SR_OK);
    for (size_t i = 0; i < 2; i++) {
        const sr_decision *blank = sr_decisions_get(decisions, i);
        assert_int_equal(blank->status, SR_NONE);
        assert_int_equal(blank->reason, SR_REASON_EMPTY_TEXT);
        assert_true(isnan(blank->score) && isnan(blank->margin) && isnan(blank->confidence));
        assert_int_equal(blank->candidate_count + blank->route.len, 0);
        assert_int_equal(blank->revision, 1);
    }
    assert_true(toy_is(sr_decisions_get(decisions, 2)->text, "a\xEF\xBF\xBD\xEF\xBF\xBDz"));
    assert_true(isnan(sr_decisions_get(decisions, 2)->margin)); /* one route */
    assert_false(isnan(sr_decisions_get(decisions, 2)->confidence));
    assert_int_equal(sr_decisions_get(decisions, 3)->text.len, 3);
    sr_decisions_free(&decisions);
    assert_int_equal(sr_decide(self->router, NULL, 0, NULL, &decisions, NULL), SR_OK);
    assert_int_equal(sr_decisions_count(decisions), 0);
    sr_decisions_free(&decisions);
}

static void options_of_a_decision_are_obeyed(void **state) {
    fixture *self = *state;
    put(self, "a", "alpha");
    put(self, "b", "beta");
    sr_decide_options options = {.size = sizeof options, .top_k = -1};
    sr_decisions *decisions = decide(self->router, "alpha", &options);
    assert_int_equal(sr_decisions_get(decisions, 0)->candidate_count, 0);
    assert_false(isnan(sr_decisions_get(decisions, 0)->margin));
    sr_decisions_free(&decisions);
    options.top_k = 1000;
    decisions = decide(self->router, "zzzzzz", &options);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    assert_int_equal(decision->candidate_count, 2);
    assert_int_equal(decision->reason, SR_REASON_BELOW_THRESHOLD);
    assert_int_equal(decision->route.len, 0);
    sr_decisions_free(&decisions);
    options.no_reject = 1;
    decisions = decide(self->router, "zzzzzz", &options);
    assert_int_equal(sr_decisions_get(decisions, 0)->status, SR_MATCHED);
    assert_int_equal(sr_decisions_get(decisions, 0)->route.len, 1);
    sr_decisions_free(&decisions);
    sr_str text = sr_str_of("x");
    sr_error error;
    const sr_decide_options bad[] = {{.size = sizeof *bad, .path = SR_PATH_FAST},
                                     {.size = sizeof *bad, .path = SR_PATH_RERANK},
                                     {.size = sizeof *bad, .path = (sr_path)9},
                                     {.size = sizeof *bad, .top_k = 1001},
                                     {.size = sizeof *bad, .top_k = -2}};
    for (int i = 0; i < 5; i++)
        assert_int_equal(sr_decide(self->router, &text, 1, &bad[i], &decisions, &error),
                         i < 2 ? SR_ERR_UNSUPPORTED : SR_ERR_INVALID);
    sr_str huge = {"x", SR_MAX_TEXT_BYTES + (size_t)1};
    assert_int_equal(sr_decide(self->router, &huge, 1, NULL, &decisions, &error), SR_ERR_LIMIT);
}

static void the_margin_of_the_router_makes_ambiguity(void **state) {
    fixture *self = *state;
    sr_options options = {.size = sizeof options, .encoder = self->encoder, .margin = 0.05};
    sr_router *router;
    assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK);
    assert_int_equal(toy_put(router, "a", "same text", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "b", "same text", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_decisions *decisions = decide(router, "same text", NULL);
    assert_int_equal(sr_decisions_get(decisions, 0)->reason, SR_REASON_AMBIGUOUS);
    assert_true(
        toy_is(sr_decisions_get(decisions, 0)->candidates[0].route, "a")); /* added earlier */
    sr_decisions_free(&decisions);
    sr_router_close(&router);
}

/* Every decision of a batch is what the text gets alone, whatever the number of threads. */
static void batches_and_threads_do_not_change_decisions(void **state) {
    fixture *self = *state;
    enum { MANY = 2500 };
    static char texts[MANY][24];
    static sr_str strings[MANY];
    for (int i = 0; i < MANY; i++) {
        snprintf(texts[i], sizeof texts[i], "question %d %d", i * 7919 % 1000, i % 13);
        strings[i] = i % 50 == 7 ? sr_str_of("  ") : sr_str_of(texts[i]);
    }
    for (int i = 0; i < 40; i++) {
        char name[16], text[64];
        snprintf(name, sizeof name, "r%d", i);
        snprintf(text, sizeof text, "question %d|question %d 5|ask %d", i * 31, i * 17, i % 6);
        put(self, name, text);
    }
    sr_decisions *all;
    assert_int_equal(sr_decide(self->router, strings, MANY, NULL, &all, NULL), SR_OK);
    for (int i = 0; i < MANY; i += 97) {
        sr_decisions *one;
        assert_int_equal(sr_decide(self->router, &strings[i], 1, NULL, &one, NULL), SR_OK);
        const sr_decision *a = sr_decisions_get(all, (size_t)i), *b = sr_decisions_get(one, 0);
        assert_int_equal(a->reason, b->reason);
        assert_int_equal(a->candidate_count, b->candidate_count);
        for (size_t k = 0; k < a->candidate_count; k++) {
            assert_true(a->candidates[k].score == b->candidates[k].score);
            assert_int_equal(a->candidates[k].route.len, b->candidates[k].route.len);
            assert_memory_equal(a->candidates[k].route.data, b->candidates[k].route.data,
                                a->candidates[k].route.len);
        }
        sr_decisions_free(&one);
    }
    sr_decisions_free(&all);
}

static void names_of_the_contract(void **state) {
    (void)state;
    assert_string_equal(sr_outcome_name(SR_MATCHED), "matched");
    assert_string_equal(sr_outcome_name(SR_NONE), "none");
    assert_string_equal(sr_reason_name(SR_REASON_BELOW_THRESHOLD), "below_threshold");
    assert_string_equal(sr_reason_name(SR_REASON_EMPTY_TEXT), "empty_text");
    assert_string_equal(sr_path_name(SR_PATH_SLOW), "slow");
    assert_string_equal(sr_path_name((sr_path)77), "?");
}

int main(void) {
#define WITH_ROUTER(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_ROUTER(duplicates_are_stored_once),
        WITH_ROUTER(nothing_changed_keeps_the_revision),
        WITH_ROUTER(replacing_makes_the_route_exactly_what_is_given),
        WITH_ROUTER(extending_sets_only_the_fields_given),
        WITH_ROUTER(a_name_given_twice_extends_itself),
        WITH_ROUTER(one_bad_route_of_five_leaves_all_as_it_was),
        WITH_ROUTER(a_failing_encoder_leaves_all_as_it_was),
        WITH_ROUTER(a_text_in_several_routes_is_encoded_once),
        WITH_ROUTER(removing_takes_routes_and_utterances_away),
        WITH_ROUTER(a_route_without_utterances_is_kept_but_never_decided_for),
        WITH_ROUTER(progress_counts_and_can_stop),
        WITH_ROUTER(bad_routes_are_refused_with_a_reason),
        WITH_ROUTER(strings_without_data_are_refused),
        WITH_ROUTER(structs_of_other_sizes_are_understood),
        WITH_ROUTER(bad_open_options_are_refused),
        WITH_ROUTER(changes_of_other_routers_are_seen),
        WITH_ROUTER(readers_do_not_wait_for_a_mutation),
        WITH_ROUTER(a_decision_is_complete),
        WITH_ROUTER(blank_texts_and_broken_utf8_are_answers),
        WITH_ROUTER(options_of_a_decision_are_obeyed),
        WITH_ROUTER(the_margin_of_the_router_makes_ambiguity),
        WITH_ROUTER(batches_and_threads_do_not_change_decisions),
        cmocka_unit_test(names_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
