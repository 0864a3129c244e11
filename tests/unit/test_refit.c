/* test_refit.c - fitting through the public header: what it keeps, what changes do to it, and examples of texts
 * that belong nowhere. How good it is, is not asked here. */
#include "toy.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <time.h>

#define ROUTES    4
#define EACH      12
#define TEXT_SIZE 64

typedef toy_table fixture;

static const char *const names[ROUTES] = {"refund", "delivery", "account", "weather"};

/* Utterance `i` of route `route`: its own words in the frames that all share. */
static void make_text(int route, int i, char text[TEXT_SIZE]) {
    static const char *const nouns[ROUTES][3] = {{"money back", "a refund", "my payment returned"},
                                                 {"my parcel", "the package", "the courier"},
                                                 {"the password", "my login", "my account"},
                                                 {"the forecast", "rain today", "the temperature"}};
    static const char *const frames[] = {"please %s", "i ask about %s", "%s now", "tell me of %s",
                                         "what about %s then"};
    snprintf(text, TEXT_SIZE, frames[i % 5], nouns[route][i / 5 % 3]);
}

static void put_routes(sr_router *router) {
    static char texts[EACH][TEXT_SIZE];
    sr_str list[EACH];
    for (int r = 0; r < ROUTES; r++) {
        for (int i = 0; i < EACH; i++) {
            make_text(r, i, texts[i]);
            list[i] = sr_str_of(texts[i]);
        }
        sr_route route = {.size = sizeof route,
                          .name = sr_str_of(names[r]),
                          .utterances = list,
                          .utterance_count = EACH};
        sr_error error;
        if (sr_route_put(router, &route, NULL, &error) != SR_OK) fail_msg("%s", error.message);
    }
}

static void fit(sr_router *router, const sr_fit_options *options, sr_fit_report **report) {
    sr_error error;
    if (sr_fit(router, options, report, &error) != SR_OK) fail_msg("%s", error.message);
}

static sr_info info_of(sr_router *router) {
    sr_info info = {.size = sizeof info};
    sr_error error;
    if (sr_router_info(router, &info, &error) != SR_OK) fail_msg("%s", error.message);
    return info;
}

static sr_decisions *decide(sr_router *router, const char *text, sr_path path, int no_reject) {
    sr_str texts[1] = {sr_str_of(text)};
    sr_decide_options options = {
        .size = sizeof options, .path = path, .top_k = 10, .no_reject = no_reject};
    sr_decisions *decisions = NULL;
    sr_error error;
    if (sr_decide(router, texts, 1, &options, &decisions, &error) != SR_OK)
        fail_msg("%s", error.message);
    return decisions;
}

/* The route of a text with nothing rejected, "" for none; and whether heads decided. */
static bool goes_to(sr_router *router, const char *text, sr_path path, const char *route,
                    int *fitted) {
    sr_decisions *decisions = decide(router, text, path, 1);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    bool same = toy_is(decision->route, route);
    if (fitted != NULL) *fitted = decision->fitted;
    sr_decisions_free(&decisions);
    return same;
}

static int set_up(void **state) {
    int failed = toy_set_up(state);
    put_routes(((fixture *)*state)->router);
    return failed;
}

static void run_sql(const char *path, const char *sql) {
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

/* ---- What a fit is ------------------------------------------------------------------------------------ */

static void a_fit_decides_and_says_so(void **state) {
    fixture *self = *state;
    int fitted;
    assert_true(goes_to(self->router, "my parcel please", SR_PATH_AUTO, "delivery", &fitted));
    assert_int_equal(fitted, 0);
    assert_int_equal(info_of(self->router).fit, SR_FIT_NONE);
    sr_fit_report *report = NULL;
    fit(self->router, NULL, &report);
    assert_int_equal(report->kind, SR_FIT_HEADS);
    assert_int_equal(report->revision, ROUTES);
    assert_int_equal(report->routes, ROUTES);
    assert_int_equal(report->utterances, ROUTES * EACH);
    assert_int_equal(report->oos_examples + report->labelled, 0);
    assert_true(isnan(report->route_threshold));
    sr_fit_report_free(&report);
    assert_null(report);
    sr_info info = info_of(self->router);
    assert_int_equal(info.fit, SR_FIT_HEADS);
    assert_int_equal(info.fit_revision, info.revision);
    assert_int_equal(info.fit_pending, 0);
    assert_true(info.auto_threshold >= 0 && info.auto_threshold <= 1);
    assert_true(goes_to(self->router, "my parcel please", SR_PATH_SLOW, "delivery", &fitted));
    assert_int_equal(fitted, 1);
}

static void a_small_table_goes_on_with_neighbours(void **state) {
    fixture *self = *state;
    sr_router *router = toy_router(NULL, self->encoder, 0);
    sr_fit_report *report = NULL;
    fit(router, NULL, &report); /* nothing at all */
    assert_int_equal(report->kind, SR_FIT_NEIGHBOURS);
    sr_fit_report_free(&report);
    assert_int_equal(toy_put(router, "a", "hello there", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    fit(router, NULL, &report);
    assert_int_equal(report->kind, SR_FIT_NEIGHBOURS);
    sr_fit_report_free(&report);
    sr_info info = info_of(router);
    assert_int_equal(info.fit, SR_FIT_NEIGHBOURS);
    assert_true(isnan(info.auto_threshold) && isnan(info.fast_share) && info.fast_path == 0);
    int fitted;
    assert_true(goes_to(router, "hello there", SR_PATH_AUTO, "a", &fitted));
    assert_int_equal(fitted, 0);
    sr_str text = sr_str_of("x");
    sr_decisions *decisions = NULL;
    sr_error error;
    sr_decide_options fast = {.size = sizeof fast, .path = SR_PATH_FAST};
    assert_int_equal(sr_decide(router, &text, 1, &fast, &decisions, &error), SR_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "synaptoroute fit"));
    sr_router_close(&router);
}

/* A text's decision as bytes that must not change. */
typedef struct outcome {
    char route[32];
    double confidence, score, margin;
    int path, status, fitted;
} outcome;

static outcome outcome_of(const sr_decision *decision) {
    outcome of;
    memset(&of, 0, sizeof of);
    snprintf(of.route, sizeof of.route, "%.*s", (int)decision->route.len, decision->route.data);
    of.confidence = decision->confidence;
    of.score = isnan(decision->score) ? -9 : decision->score;
    of.margin = isnan(decision->margin) ? -9 : decision->margin;
    of.path = (int)decision->path;
    of.status = (int)decision->status;
    of.fitted = decision->fitted;
    return of;
}

static void decide_all(sr_router *router, sr_path path, outcome out[ROUTES * EACH]) {
    static char texts[ROUTES * EACH][TEXT_SIZE];
    sr_str list[ROUTES * EACH];
    for (int i = 0; i < ROUTES * EACH; i++) {
        make_text(i % ROUTES, i / ROUTES + 3, texts[i]);
        list[i] = sr_str_of(texts[i]);
    }
    sr_decide_options options = {.size = sizeof options, .path = path};
    sr_decisions *decisions = NULL;
    sr_error error;
    if (sr_decide(router, list, ROUTES * EACH, &options, &decisions, &error) != SR_OK)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < ROUTES * EACH; i++) out[i] = outcome_of(sr_decisions_get(decisions, i));
    sr_decisions_free(&decisions);
}

static void a_fit_is_kept_and_not_made_again(void **state) {
    fixture *self = *state;
    static outcome before[ROUTES * EACH], after[ROUTES * EACH];
    fit(self->router, NULL, NULL);
    decide_all(self->router, SR_PATH_SLOW, before);
    assert_int_equal(sr_router_verify(self->router, NULL), SR_OK);
    sr_router_close(&self->router);
    int encoded = atomic_load(&self->toy.encoded);
    self->router = toy_router(self->path, self->encoder, SR_OPEN_EXISTING | SR_OPEN_READ_ONLY);
    assert_int_equal(info_of(self->router).fit, SR_FIT_HEADS);
    assert_int_equal(atomic_load(&self->toy.encoded), encoded);
    decide_all(self->router, SR_PATH_SLOW, after);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(sr_router_verify(self->router, NULL), SR_OK);
    sr_error error;
    assert_int_equal(sr_fit(self->router, NULL, NULL, &error), SR_ERR_READ_ONLY);
    /* Before a model is loaded the table says as much. */
    sr_router *lazy = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY | SR_OPEN_LAZY);
    sr_info info = info_of(lazy);
    assert_int_equal(info.fit, SR_FIT_HEADS);
    assert_int_equal(info.fit_revision, ROUTES);
    assert_true(info.auto_threshold == info_of(self->router).auto_threshold);
    assert_int_equal(sr_router_verify(lazy, NULL), SR_OK);
    sr_router_close(&lazy);
}

static void a_batch_and_threads_change_nothing(void **state) {
    fixture *self = *state;
    static outcome batch[ROUTES * EACH], more[ROUTES * EACH];
    fit(self->router, NULL, NULL);
    sr_options options = {
        .size = sizeof options, .database = self->path, .encoder = self->encoder, .threads = 7};
    sr_router *other = NULL;
    assert_int_equal(sr_router_open(&options, &other, NULL), SR_OK);
    static const sr_path paths[] = {SR_PATH_AUTO, SR_PATH_SLOW, SR_PATH_FAST};
    bool fast = info_of(self->router).fast_path;
    for (int p = 0; p < (fast ? 3 : 2); p++) {
        decide_all(self->router, paths[p], batch);
        decide_all(other, paths[p], more);
        assert_memory_equal(batch, more, sizeof batch);
        for (int i = 0; i < ROUTES * EACH; i++) {
            char text[TEXT_SIZE];
            make_text(i % ROUTES, i / ROUTES + 3, text);
            sr_str one = sr_str_of(text);
            sr_decide_options single = {.size = sizeof single, .path = paths[p], .top_k = -1};
            sr_decisions *decisions = NULL;
            assert_int_equal(sr_decide(other, &one, 1, &single, &decisions, NULL), SR_OK);
            outcome alone = outcome_of(sr_decisions_get(decisions, 0));
            assert_memory_equal(&alone, &batch[i], sizeof alone);
            sr_decisions_free(&decisions);
        }
    }
    sr_router_close(&other);
}

static void the_fast_path_alone_knows_no_cosines(void **state) {
    fixture *self = *state;
    fit(self->router, NULL, NULL);
    if (!info_of(self->router).fast_path) skip();
    sr_decisions *decisions = decide(self->router, "my parcel please", SR_PATH_FAST, 1);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    assert_int_equal(decision->path, SR_PATH_FAST);
    assert_int_equal(decision->fitted, 1);
    assert_true(isnan(decision->score) && isnan(decision->margin));
    assert_true(decision->candidate_count > 0);
    for (size_t i = 0; i < decision->candidate_count; i++) {
        assert_true(isnan(decision->candidates[i].score));
        assert_true(decision->candidates[i].utterance.len > 0);
        assert_true(decision->candidates[i].confidence >= 0);
    }
    char route[32];
    snprintf(route, sizeof route, "%.*s", (int)decision->route.len, decision->route.data);
    sr_decisions_free(&decisions);
    /* A cosine threshold, however low, is nothing that the fast path can pass. */
    sr_threshold threshold = {SR_THRESHOLD_COSINE, -1};
    sr_route change = {.size = sizeof change, .name = sr_str_of(route), .threshold = &threshold};
    sr_put_options extend = {.size = sizeof extend, .mode = SR_PUT_EXTEND};
    assert_int_equal(sr_routes_put(self->router, &change, 1, &extend, NULL, NULL), SR_OK);
    decisions = decide(self->router, "my parcel please", SR_PATH_FAST, 0);
    assert_int_equal(sr_decisions_get(decisions, 0)->reason, SR_REASON_BELOW_THRESHOLD);
    sr_decisions_free(&decisions);
    decisions = decide(self->router, "my parcel please", SR_PATH_AUTO, 0);
    assert_int_equal(sr_decisions_get(decisions, 0)->path, SR_PATH_SLOW);
    assert_int_equal(sr_decisions_get(decisions, 0)->status, SR_MATCHED);
    assert_int_equal(sr_decisions_get(decisions, 0)->fitted, 1);
    sr_decisions_free(&decisions);
}

static void without_a_fast_model_there_is_no_fast_path(void **state) {
    fixture *self = *state;
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = self->encoder,
                          .threads = 1,
                          .fast_model = ""};
    sr_router *router = NULL;
    sr_error error;
    assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK);
    fit(self->router, NULL, NULL); /* with one */
    static outcome slow[ROUTES * EACH], other[ROUTES * EACH];
    decide_all(router, SR_PATH_AUTO, other);
    for (int i = 0; i < ROUTES * EACH; i++) assert_int_equal(other[i].path, SR_PATH_SLOW);
    assert_int_equal(info_of(router).fast_path, 0);
    fit(router, NULL, NULL);
    assert_int_equal(info_of(router).fit, SR_FIT_HEADS);
    decide_all(router, SR_PATH_AUTO, other);
    decide_all(self->router, SR_PATH_SLOW, slow);
    assert_memory_equal(slow, other, sizeof slow);
    assert_int_equal(info_of(router).fast_path, 0);
    assert_int_equal(info_of(self->router).fast_path, 0);
    sr_router_close(&router);
    options.fast_model = "./no-such-model";
    assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK); /* not needed yet */
    assert_int_equal(sr_fit(router, NULL, NULL, &error), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "no-such-model"));
    sr_router_close(&router);
}

/* ---- Changes -------------------------------------------------------------------------------------------- */

static void refuse_route(sr_router *router, const char *text, sr_path path, const char *gone) {
    sr_decisions *decisions = decide(router, text, path, 1);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    assert_false(toy_is(decision->route, gone));
    for (size_t i = 0; i < decision->candidate_count; i++)
        assert_false(toy_is(decision->candidates[i].route, gone));
    sr_decisions_free(&decisions);
}

static void a_removed_route_is_never_returned(void **state) {
    fixture *self = *state;
    fit(self->router, NULL, NULL);
    sr_router *other = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    bool fast = info_of(self->router).fast_path;
    assert_int_equal(sr_route_remove(self->router, sr_str_of("delivery"), NULL, NULL), SR_OK);
    for (int reopened = 0; reopened < 2; reopened++) {
        for (int i = 0; i < EACH; i++) {
            char text[TEXT_SIZE];
            make_text(1, i, text);
            sr_router *routers[] = {self->router, other};
            for (int r = 0; r < 2; r++) {
                refuse_route(routers[r], text, SR_PATH_AUTO, "delivery");
                refuse_route(routers[r], text, SR_PATH_SLOW, "delivery");
                if (fast) refuse_route(routers[r], text, SR_PATH_FAST, "delivery");
            }
        }
        sr_router_close(&self->router);
        self->router = toy_router(self->path, self->encoder, 0);
        assert_int_equal(info_of(self->router).fit, SR_FIT_HEADS);
        assert_int_equal(info_of(self->router).fit_pending, 0); /* what is gone waits for nothing */
    }
    /* Coming back under its name it is another one. */
    assert_int_equal(
        toy_put(self->router, "delivery", "quite another thing", SR_PUT_REPLACE, NULL, NULL),
        SR_OK);
    int fitted;
    assert_true(goes_to(self->router, "quite another thing", SR_PATH_AUTO, "delivery", &fitted));
    assert_int_equal(fitted, 0);
    sr_router_close(&other);
}

static void what_is_added_is_found_at_once(void **state) {
    fixture *self = *state;
    fit(self->router, NULL, NULL);
    sr_router *other = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    assert_int_equal(
        toy_put(self->router, "greeting", "bonjour monsieur", SR_PUT_EXTEND, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(self->router, "account", "zwiebelkuchen", SR_PUT_EXTEND, NULL, NULL),
                     SR_OK);
    sr_router *routers[] = {self->router, other};
    for (int i = 0; i < 2; i++) {
        int fitted;
        assert_true(goes_to(routers[i], "bonjour monsieur", SR_PATH_AUTO, "greeting", &fitted));
        assert_int_equal(fitted, 0);
        assert_true(goes_to(routers[i], "zwiebelkuchen", SR_PATH_AUTO, "account", &fitted));
        assert_int_equal(fitted, 0);
        assert_true(goes_to(routers[i], "please money back", SR_PATH_AUTO, "refund", &fitted));
        assert_int_equal(fitted, 1);
        sr_info info = info_of(routers[i]);
        assert_int_equal(info.fit_pending, 2);
        assert_int_equal(info.fit_revision, ROUTES);
    }
    /* Taken back, the route is again what was fitted. */
    sr_str text = sr_str_of("zwiebelkuchen");
    assert_int_equal(sr_utterances_remove(self->router, sr_str_of("account"), &text, 1, NULL, NULL),
                     SR_OK);
    assert_int_equal(info_of(self->router).fit_pending, 1);
    fit(self->router, NULL, NULL);
    assert_int_equal(info_of(other).fit_pending, 0);
    assert_int_equal(info_of(other).fit_revision, info_of(self->router).revision);
    sr_router_close(&other);
}

static void the_fit_of_another_router_is_taken_up(void **state) {
    fixture *self = *state;
    sr_router *other = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    sr_router *lazy = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY | SR_OPEN_LAZY);
    int fitted;
    assert_true(goes_to(other, "my parcel please", SR_PATH_SLOW, "delivery", &fitted));
    assert_int_equal(fitted, 0);
    assert_int_equal(info_of(lazy).fit, SR_FIT_NONE);
    fit(self->router, NULL, NULL);
    assert_true(goes_to(other, "my parcel please", SR_PATH_SLOW, "delivery", &fitted));
    assert_int_equal(fitted, 1);
    assert_int_equal(info_of(lazy).fit, SR_FIT_HEADS);
    assert_true(goes_to(lazy, "my parcel please", SR_PATH_SLOW, "delivery", &fitted));
    assert_int_equal(fitted, 1);
    sr_router_close(&lazy);
    sr_router_close(&other);
}

/* Ends before the router is closed, as a crash would. */
static void a_killed_process_leaves_its_fit(void **state) {
    fixture *self = *state;
    sr_router_close(&self->router);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sr_options options = {
            .size = sizeof options, .database = self->path, .encoder = self->encoder, .threads = 1};
        sr_router *router = NULL;
        if (sr_router_open(&options, &router, NULL) != SR_OK ||
            sr_fit(router, NULL, NULL, NULL) != SR_OK)
            _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    self->router = toy_router(self->path, self->encoder, 0);
    assert_int_equal(info_of(self->router).fit, SR_FIT_HEADS);
    assert_int_equal(info_of(self->router).fit_pending, 0);
    assert_int_equal(sr_router_verify(self->router, NULL), SR_OK);
}

static void a_damaged_or_foreign_fit_is_left_alone(void **state) {
    fixture *self = *state;
    fit(self->router, NULL, NULL);
    static const char *const damages[] = {
        "UPDATE fits SET serial = serial + 1, bytes = CAST(substr(bytes, 1, length(bytes) / 2) || "
        "x'5a5a5a5a' || substr(bytes, length(bytes) / 2 + 5) AS BLOB)",
        "UPDATE fits SET serial = serial + 1, bytes = CAST(substr(bytes, 1, 100) AS BLOB)",
        "UPDATE fits SET serial = serial + 1, bytes = x'00'",
        "UPDATE fits SET serial = serial + 1, routes = CAST(substr(routes, 1, 32) AS BLOB)",
    };
    int fitted;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        fit(self->router, NULL, NULL);
        run_sql(self->path, damages[i]);
        assert_true(goes_to(self->router, "my parcel please", SR_PATH_AUTO, "delivery", &fitted));
        assert_int_equal(fitted, 0);
        assert_int_equal(info_of(self->router).fit, SR_FIT_NONE);
        sr_error error;
        assert_int_equal(sr_router_verify(self->router, &error), SR_ERR_FORMAT);
        assert_non_null(strstr(error.message, "fit"));
        sr_router_close(&self->router);
        self->router = toy_router(self->path, self->encoder, 0); /* a start is not refused */
        assert_int_equal(info_of(self->router).fit, SR_FIT_NONE);
    }
    fit(self->router, NULL, NULL);
    toy other = {.salt = 5};
    sr_encoder *encoder = toy_open(&other, "another");
    sr_router *router = toy_router(self->path, encoder, SR_OPEN_REENCODE);
    assert_true(goes_to(router, "my parcel please", SR_PATH_AUTO, "delivery", &fitted));
    assert_int_equal(fitted, 0);
    assert_int_equal(info_of(router).fit, SR_FIT_NONE);
    assert_int_equal(sr_router_verify(router, NULL), SR_OK); /* nothing is wrong with it */
    assert_int_equal(info_of(self->router).fit, SR_FIT_HEADS);
    fit(router, NULL, NULL); /* stored over that of the first router, which goes on with its own */
    assert_true(goes_to(router, "my parcel please", SR_PATH_AUTO, "delivery", &fitted));
    assert_int_equal(fitted, 1);
    assert_true(goes_to(self->router, "my parcel please", SR_PATH_AUTO, "delivery", &fitted));
    assert_int_equal(fitted, 1);
    sr_router_close(&router);
    sr_encoder_close(&encoder);
}

/* ---- While a fit runs ------------------------------------------------------------------------------------- */

static void *change_table(void *user) {
    sr_router *router = user;
    int fitted;
    assert_int_equal(toy_put(router, "greeting", "bonjour monsieur", SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    assert_true(goes_to(router, "bonjour monsieur", SR_PATH_AUTO, "greeting", &fitted));
    return NULL;
}

typedef struct meanwhile {
    sr_router *router;
    int calls, stop_at;
    uint64_t last, total;
    bool backwards;
} meanwhile;

static int change_meanwhile(void *user, uint64_t done, uint64_t total) {
    meanwhile *self = user;
    self->backwards = self->backwards || done < self->last || done > total;
    self->last = done;
    self->total = total;
    if (self->calls++ > 0) return 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, change_table, self->router), 0);
    return pthread_join(thread, NULL);
}

static void changes_and_decisions_do_not_wait_for_a_fit(void **state) {
    fixture *self = *state;
    meanwhile during = {.router = self->router};
    sr_fit_options options = {
        .size = sizeof options, .progress = change_meanwhile, .progress_user = &during};
    sr_fit_report *report = NULL;
    fit(self->router, &options, &report);
    assert_true(during.calls > 1);
    assert_false(during.backwards);
    assert_int_equal(during.last, during.total);
    assert_int_equal(report->revision, ROUTES);
    sr_fit_report_free(&report);
    sr_info info = info_of(self->router);
    assert_int_equal(info.revision, ROUTES + 1);
    assert_int_equal(info.fit_revision, ROUTES);
    assert_int_equal(info.fit_pending, 1);
    int fitted;
    assert_true(goes_to(self->router, "bonjour monsieur", SR_PATH_AUTO, "greeting", &fitted));
    assert_int_equal(fitted, 0);
}

static int stop_later(void *user, uint64_t done, uint64_t total) {
    meanwhile *self = user;
    (void)done, (void)total;
    return self->calls++ >= self->stop_at;
}

static void a_stopped_fit_leaves_the_one_before(void **state) {
    fixture *self = *state;
    meanwhile during = {0};
    sr_fit_options options = {
        .size = sizeof options, .progress = stop_later, .progress_user = &during};
    sr_error error;
    assert_int_equal(sr_fit(self->router, &options, NULL, &error), SR_ERR_CANCELLED);
    assert_int_equal(info_of(self->router).fit, SR_FIT_NONE);
    fit(self->router, NULL, NULL);
    assert_int_equal(toy_put(self->router, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    during = (meanwhile){.stop_at = 3};
    assert_int_equal(sr_fit(self->router, &options, NULL, &error), SR_ERR_CANCELLED);
    assert_int_equal(info_of(self->router).fit_revision, ROUTES);
    atomic_store(&self->toy.fail, 3); /* the names of routes cannot be encoded */
    assert_int_equal(toy_put(self->router, "b", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(sr_fit(self->router, NULL, NULL, &error), SR_ERR_CALLBACK);
    atomic_store(&self->toy.fail, 0);
    assert_int_equal(info_of(self->router).fit_revision, ROUTES);
}

static void wait_for_fit(sr_router *router, uint64_t revision) {
    for (int i = 0; i < 6000; i++) {
        sr_info info = info_of(router);
        if (info.fit == SR_FIT_HEADS && info.fit_revision >= revision && info.fit_pending == 0)
            return;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    fail_msg("nobody fitted revision %llu", (unsigned long long)revision);
}

static void a_changed_table_is_fitted_in_the_background(void **state) {
    fixture *self = *state;
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, SR_OPEN_REFIT);
    wait_for_fit(self->router, ROUTES); /* what was there when it was opened */
    sr_router *other = toy_router(self->path, self->encoder, 0);
    assert_int_equal(toy_put(self->router, "a", "one|two|three", SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    wait_for_fit(self->router, ROUTES + 1);
    assert_int_equal(sr_route_remove(other, sr_str_of("a"), NULL, NULL), SR_OK);
    assert_int_equal(info_of(self->router).revision, ROUTES + 2); /* so that it looks */
    wait_for_fit(self->router, ROUTES + 2);
    wait_for_fit(other, ROUTES + 2);
    sr_router_close(&other);
    /* Closing waits for no fit to end, and a fit that is up to date is not made again. */
    assert_int_equal(toy_put(self->router, "a", "one|two|three", SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, 0);
    fit(self->router, NULL, NULL);
    int encoded = atomic_load(&self->toy.encoded);
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, SR_OPEN_REFIT);
    nanosleep(&(struct timespec){0, 800000000}, NULL);
    assert_int_equal(atomic_load(&self->toy.encoded), encoded);
}

/* A description is learned from; it leaves nothing pending meanwhile. */
static void a_changed_description_is_fitted_in_the_background(void **state) {
    fixture *self = *state;
    fit(self->router, NULL, NULL);
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, SR_OPEN_REFIT);
    sr_str name, said = sr_str_of("what the sky will be like");
    sr_table *table = NULL;
    assert_int_equal(sr_table_read(self->router, NULL, 1, &table, NULL), SR_OK);
    name = sr_table_route(table, 0)->name;
    sr_route route = {.size = sizeof route, .name = name, .description = &said};
    sr_put_options options = {.size = sizeof options, .mode = SR_PUT_EXTEND};
    assert_int_equal(sr_routes_put(self->router, &route, 1, &options, NULL, NULL), SR_OK);
    assert_int_equal(info_of(self->router).fit_pending, 0);
    wait_for_fit(self->router, ROUTES + 1);
    /* Metadata are not. */
    int encoded = atomic_load(&self->toy.encoded);
    sr_str tag = sr_str_of("{\"owner\":\"us\"}");
    route = (sr_route){.size = sizeof route, .name = name, .metadata = &tag};
    assert_int_equal(sr_routes_put(self->router, &route, 1, &options, NULL, NULL), SR_OK);
    nanosleep(&(struct timespec){0, 800000000}, NULL);
    assert_int_equal(atomic_load(&self->toy.encoded), encoded);
    assert_int_equal(info_of(self->router).fit_revision, ROUTES + 1);
    sr_table_free(&table);
}

typedef struct crowd {
    sr_router *router;
    atomic_bool stop;
} crowd;

static void *decide_all_the_time(void *user) {
    crowd *self = user;
    static outcome ignored[2][ROUTES * EACH];
    static atomic_int threads;
    outcome *mine = ignored[atomic_fetch_add(&threads, 1) % 2];
    while (!atomic_load(&self->stop)) decide_all(self->router, SR_PATH_AUTO, mine);
    return NULL;
}

/* For the thread sanitizer above all. */
static void everything_at_once(void **state) {
    fixture *self = *state;
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, SR_OPEN_REFIT);
    crowd all = {.router = self->router};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, decide_all_the_time, &all), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(toy_put(self->router, "busy", i % 2 == 0 ? "one|two" : "three",
                                 SR_PUT_REPLACE, NULL, NULL),
                         SR_OK);
        if (i % 4 == 3) fit(self->router, NULL, NULL);
        info_of(self->router);
    }
    sr_str text = sr_str_of("some other matter");
    assert_int_equal(sr_oos_put(self->router, &text, 1, NULL, NULL), SR_OK);
    nanosleep(&(struct timespec){0, 700000000}, NULL);
    atomic_store(&all.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(info_of(self->router).oos_examples, 1);
}

/* ---- Options ---------------------------------------------------------------------------------------------- */

static void refuse_fit(sr_router *router, sr_fit_options options, sr_status expected,
                       const char *says) {
    sr_error error = {0};
    sr_fit_report *report = NULL;
    options.size = sizeof options;
    assert_int_equal(sr_fit(router, &options, &report, &error), expected);
    assert_null(report);
    if (strstr(error.message, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
}

static void bad_options_are_refused(void **state) {
    fixture *self = *state;
    sr_str text = sr_str_of("x"), unknown = sr_str_of("nowhere"), none = {NULL, 3};
    refuse_fit(self->router, (sr_fit_options){.texts = &text, .routes = &unknown, .count = 1},
               SR_ERR_INVALID, "\"nowhere\"");
    refuse_fit(self->router, (sr_fit_options){.texts = &none, .routes = &unknown, .count = 1},
               SR_ERR_INVALID, "no data");
    refuse_fit(self->router, (sr_fit_options){.count = 1}, SR_ERR_INVALID, "not given");
    refuse_fit(self->router, (sr_fit_options){.max_oos_accepted = 1.5}, SR_ERR_INVALID, "1.5");
    refuse_fit(self->router, (sr_fit_options){.min_precision = NAN}, SR_ERR_INVALID, "nan");
    refuse_fit(self->router, (sr_fit_options){.route = &unknown, .min_precision = 0.9},
               SR_ERR_NOT_FOUND, "\"nowhere\"");
    refuse_fit(self->router, (sr_fit_options){.route = &text}, SR_ERR_INVALID, "needs a target");
    assert_int_equal(info_of(self->router).fit, SR_FIT_NONE);
}

static void labelled_texts_are_counted_and_not_stored(void **state) {
    fixture *self = *state;
    sr_str texts[] = {sr_str_of("please the courier"), sr_str_of("who wrote hamlet"),
                      sr_str_of("  "), sr_str_of("broken \xFF bytes")};
    sr_str routes[] = {sr_str_of("delivery"), {NULL, 0}, {NULL, 0}, {NULL, 0}};
    sr_fit_options options = {.size = sizeof options, .texts = texts, .routes = routes, .count = 4};
    sr_fit_report *report = NULL;
    fit(self->router, &options, &report);
    assert_int_equal(report->labelled, 3); /* a blank one is decided without heads */
    sr_fit_report_free(&report);
    sr_info info = info_of(self->router);
    assert_int_equal(info.utterances, ROUTES * EACH);
    assert_int_equal(info.oos_examples, 0);
}

static void a_target_for_one_route_becomes_its_threshold(void **state) {
    fixture *self = *state;
    sr_str name = sr_str_of("delivery");
    sr_fit_options options = {.size = sizeof options, .route = &name, .min_precision = 0.5};
    sr_fit_report *report = NULL;
    fit(self->router, &options, &report);
    assert_true(report->route_threshold >= 0 && report->route_threshold <= 1);
    sr_table *table = NULL;
    assert_int_equal(sr_table_read(self->router, NULL, 0, &table, NULL), SR_OK);
    for (size_t i = 0; i < ROUTES; i++) {
        const sr_route_view *view = sr_table_route(table, i);
        bool meant = toy_is(view->name, "delivery");
        assert_int_equal(view->threshold.kind, meant ? SR_THRESHOLD_CONFIDENCE : SR_THRESHOLD_AUTO);
        if (meant) assert_true(view->threshold.value == report->route_threshold);
        assert_int_equal(view->utterance_count, EACH);
    }
    sr_table_free(&table);
    sr_fit_report_free(&report);
    assert_int_equal(info_of(self->router).fit_pending, 0);
    sr_fit_options impossible = {.route = &name, .max_oos_accepted = 0.01};
    refuse_fit(self->router, impossible, SR_ERR_UNSUPPORTED, "more labelled texts");
}

static int remove_meanwhile(void *user, uint64_t done, uint64_t total) {
    meanwhile *self = user;
    (void)done, (void)total;
    if (self->calls++ == 0)
        assert_int_equal(sr_route_remove(self->router, sr_str_of("delivery"), NULL, NULL), SR_OK);
    return 0;
}

static void a_route_that_is_removed_while_fitted_does_not_come_back(void **state) {
    fixture *self = *state;
    sr_str name = sr_str_of("delivery");
    meanwhile during = {.router = self->router};
    sr_fit_options options = {.size = sizeof options,
                              .route = &name,
                              .min_precision = 0.5,
                              .progress = remove_meanwhile,
                              .progress_user = &during};
    sr_error error;
    assert_int_equal(sr_fit(self->router, &options, NULL, &error), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "was removed"));
    assert_int_equal(info_of(self->router).routes, ROUTES - 1);
}

static void a_threshold_that_costs_much_is_named(void **state) {
    fixture *self = *state;
    sr_threshold high = {SR_THRESHOLD_COSINE, 1};
    sr_route change = {.size = sizeof change, .name = sr_str_of("weather"), .threshold = &high};
    sr_put_options extend = {.size = sizeof extend, .mode = SR_PUT_EXTEND};
    assert_int_equal(sr_routes_put(self->router, &change, 1, &extend, NULL, NULL), SR_OK);
    sr_fit_report *report = NULL;
    fit(self->router, NULL, &report);
    bool named = false;
    for (size_t i = 0; i < report->warning_count; i++) {
        const sr_fit_warning *warning = &report->warnings[i];
        assert_true(warning->turned_down <= warning->texts);
        if (!toy_is(warning->route, "weather")) continue;
        named = true;
        assert_int_equal(warning->threshold.kind, SR_THRESHOLD_COSINE);
        assert_true(warning->turned_down > 0);
    }
    assert_true(named);
    sr_fit_report_free(&report);
}

/* ---- Out of scope ------------------------------------------------------------------------------------------- */

static void oos_examples_are_no_route(void **state) {
    fixture *self = *state;
    sr_str texts[] = {sr_str_of("who wrote hamlet"), sr_str_of("how tall is a giraffe"),
                      sr_str_of("who wrote hamlet")};
    sr_receipt receipt;
    sr_error error;
    assert_int_equal(sr_oos_put(self->router, texts, 3, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.oos_added, 2);
    assert_int_equal(receipt.duplicates, 1);
    assert_int_equal(receipt.routes_added + receipt.utterances_added, 0);
    assert_int_equal(receipt.revision, ROUTES + 1);
    assert_int_equal(sr_oos_put(self->router, texts, 2, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.revision, ROUTES + 1); /* nothing new */
    for (int reopened = 0; reopened < 2; reopened++) {
        sr_info info = info_of(self->router);
        assert_int_equal(info.routes, ROUTES);
        assert_int_equal(info.utterances, ROUTES * EACH);
        assert_int_equal(info.oos_examples, 2);
        sr_table *table = NULL;
        size_t count;
        assert_int_equal(sr_table_read(self->router, NULL, 1, &table, NULL), SR_OK);
        assert_int_equal(sr_table_count(table), ROUTES);
        const sr_str *oos = sr_table_oos(table, &count);
        assert_int_equal(count, 2);
        assert_true(toy_is(oos[0], "who wrote hamlet") && toy_is(oos[1], "how tall is a giraffe"));
        sr_table_free(&table);
        sr_router_close(&self->router);
        self->router = toy_router(self->path, self->encoder, 0);
    }
    sr_str name = sr_str_of(SR_OOS_NAME);
    sr_table *table = NULL;
    assert_int_equal(sr_table_read(self->router, &name, 1, &table, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_route_remove(self->router, name, NULL, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_utterances_remove(self->router, name, texts, 1, NULL, &error),
                     SR_ERR_NOT_FOUND);
    assert_int_equal(toy_put(self->router, SR_OOS_NAME, "x", SR_PUT_REPLACE, NULL, &error),
                     SR_ERR_INVALID);
    assert_int_equal(sr_router_verify(self->router, NULL), SR_OK);
}

static void refuse_oos_texts(sr_router *router, sr_path path) {
    static const char *const texts[] = {"who wrote hamlet", "how tall is a giraffe", "my parcel"};
    for (int i = 0; i < 3; i++) {
        sr_decisions *decisions = decide(router, texts[i], path, 1);
        const sr_decision *decision = sr_decisions_get(decisions, 0);
        assert_int_equal(decision->status, SR_MATCHED);
        assert_false(toy_is(decision->route, SR_OOS_NAME));
        for (size_t j = 0; j < decision->candidate_count; j++)
            assert_false(toy_is(decision->candidates[j].route, SR_OOS_NAME));
        sr_decisions_free(&decisions);
    }
}

static void a_nearer_example_turns_a_text_down(void **state) {
    fixture *self = *state;
    sr_threshold low = {SR_THRESHOLD_COSINE, -1};
    for (int i = 0; i < ROUTES; i++) {
        sr_route change = {.size = sizeof change, .name = sr_str_of(names[i]), .threshold = &low};
        sr_put_options extend = {.size = sizeof extend, .mode = SR_PUT_EXTEND};
        assert_int_equal(sr_routes_put(self->router, &change, 1, &extend, NULL, NULL), SR_OK);
    }
    sr_decisions *decisions = decide(self->router, "who wrote hamlet", SR_PATH_AUTO, 0);
    assert_int_equal(sr_decisions_get(decisions, 0)->status, SR_MATCHED);
    double before = sr_decisions_get(decisions, 0)->confidence;
    sr_decisions_free(&decisions);
    sr_str texts[] = {sr_str_of("who wrote hamlet"), sr_str_of("how tall is a giraffe")};
    assert_int_equal(sr_oos_put(self->router, texts, 2, NULL, NULL), SR_OK);
    decisions = decide(self->router, "who wrote hamlet", SR_PATH_AUTO, 0);
    const sr_decision *decision = sr_decisions_get(decisions, 0);
    assert_int_equal(decision->reason, SR_REASON_BELOW_THRESHOLD);
    assert_true(decision->candidate_count == ROUTES && decision->confidence <= before);
    sr_decisions_free(&decisions);
    refuse_oos_texts(self->router, SR_PATH_AUTO);
    fit(self->router, NULL, NULL);
    refuse_oos_texts(self->router, SR_PATH_AUTO);
    refuse_oos_texts(self->router, SR_PATH_SLOW);
    /* A new example counts at once, fit or no fit. */
    sr_str third = sr_str_of("quorum of zebras");
    assert_int_equal(sr_oos_put(self->router, &third, 1, NULL, NULL), SR_OK);
    decisions = decide(self->router, "quorum of zebras", SR_PATH_AUTO, 0);
    assert_int_equal(sr_decisions_get(decisions, 0)->reason, SR_REASON_BELOW_THRESHOLD);
    sr_decisions_free(&decisions);
}

static void oos_examples_are_removed(void **state) {
    fixture *self = *state;
    sr_str texts[] = {sr_str_of("one thing"), sr_str_of("another"), sr_str_of("a third")};
    sr_str missing[] = {sr_str_of("another"), sr_str_of("not there")};
    sr_error error;
    sr_receipt receipt;
    assert_int_equal(sr_oos_remove(self->router, NULL, 0, NULL, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_oos_put(self->router, texts, 3, NULL, NULL), SR_OK);
    assert_int_equal(sr_oos_remove(self->router, missing, 2, NULL, &error), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "not there"));
    assert_int_equal(info_of(self->router).oos_examples, 3);
    assert_int_equal(sr_oos_remove(self->router, missing, 1, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.oos_removed, 1);
    assert_int_equal(receipt.utterances_removed + receipt.routes_removed + receipt.routes_changed,
                     0);
    assert_int_equal(sr_oos_remove(self->router, NULL, 0, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.oos_removed, 2);
    assert_int_equal(info_of(self->router).oos_examples, 0);
    /* With routes in one change, replacing; and none of either when one is bad. */
    sr_put_options options = {
        .size = sizeof options, .mode = SR_PUT_REPLACE, .oos = texts, .oos_count = 2};
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of("new"),
                      .utterances = texts + 2,
                      .utterance_count = 1};
    assert_int_equal(sr_routes_put(self->router, &route, 1, &options, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.oos_added, 2);
    assert_int_equal(receipt.utterances_added, 1);
    options.oos = texts + 1;
    assert_int_equal(sr_routes_put(self->router, NULL, 0, &options, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.oos_added, 1);
    assert_int_equal(receipt.oos_removed, 1);
    texts[1] = sr_str_of(" ");
    assert_int_equal(sr_routes_put(self->router, &route, 1, &options, &receipt, &error),
                     SR_ERR_INVALID);
    assert_string_equal(error.place, "oos[0]");
    assert_int_equal(info_of(self->router).oos_examples, 2);
}

static void a_table_of_examples_alone_is_empty(void **state) {
    fixture *self = *state;
    sr_router *router = toy_router(NULL, self->encoder, 0);
    sr_str text = sr_str_of("who wrote hamlet");
    assert_int_equal(sr_oos_put(router, &text, 1, NULL, NULL), SR_OK);
    sr_decisions *decisions = decide(router, "hello", SR_PATH_AUTO, 1);
    assert_int_equal(sr_decisions_get(decisions, 0)->reason, SR_REASON_EMPTY_TABLE);
    sr_decisions_free(&decisions);
    sr_fit_report *report = NULL;
    fit(router, NULL, &report);
    assert_int_equal(report->kind, SR_FIT_NEIGHBOURS);
    assert_int_equal(report->oos_examples, 1);
    assert_int_equal(report->utterances, 0);
    sr_fit_report_free(&report);
    sr_router_close(&router);
}

#define WITH_TABLE(test) cmocka_unit_test_setup_teardown(test, set_up, toy_tear_down)

int main(int argc, char **argv) {
    char models[1024];
    if (argc > 1) {
        snprintf(models, sizeof models, "%s/models", argv[1]);
        setenv("SYNAPTOROUTE_MODELS", models, 0);
    }
    const struct CMUnitTest tests[] = {
        WITH_TABLE(a_fit_decides_and_says_so),
        WITH_TABLE(a_small_table_goes_on_with_neighbours),
        WITH_TABLE(a_fit_is_kept_and_not_made_again),
        WITH_TABLE(a_batch_and_threads_change_nothing),
        WITH_TABLE(the_fast_path_alone_knows_no_cosines),
        WITH_TABLE(without_a_fast_model_there_is_no_fast_path),
        WITH_TABLE(a_removed_route_is_never_returned),
        WITH_TABLE(what_is_added_is_found_at_once),
        WITH_TABLE(the_fit_of_another_router_is_taken_up),
        WITH_TABLE(a_killed_process_leaves_its_fit),
        WITH_TABLE(a_damaged_or_foreign_fit_is_left_alone),
        WITH_TABLE(changes_and_decisions_do_not_wait_for_a_fit),
        WITH_TABLE(a_stopped_fit_leaves_the_one_before),
        WITH_TABLE(a_changed_table_is_fitted_in_the_background),
        WITH_TABLE(a_changed_description_is_fitted_in_the_background),
        WITH_TABLE(everything_at_once),
        WITH_TABLE(bad_options_are_refused),
        WITH_TABLE(labelled_texts_are_counted_and_not_stored),
        WITH_TABLE(a_target_for_one_route_becomes_its_threshold),
        WITH_TABLE(a_route_that_is_removed_while_fitted_does_not_come_back),
        WITH_TABLE(a_threshold_that_costs_much_is_named),
        WITH_TABLE(oos_examples_are_no_route),
        WITH_TABLE(a_nearer_example_turns_a_text_down),
        WITH_TABLE(oos_examples_are_removed),
        WITH_TABLE(a_table_of_examples_alone_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
