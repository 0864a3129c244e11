/* test_large_fit.c - a fit of a table that is too large for trained heads: what an automatic threshold means then. */
#include "toy.h"

#include <math.h>

enum { ROUTES = 2200, EACH = 3, QUERIES = 400 };

typedef toy_table fixture;

/* The utterances of a route have most of their letters in common. */
static void text_of(int route, int number, char text[64]) {
    snprintf(text, 64, "please look after number %d in the list %c", route * 7919 % 100000,
             'a' + number);
}

static void put_routes(sr_router *router, int count) {
    static char names[ROUTES][16], texts[ROUTES][EACH][64];
    static sr_str utterances[ROUTES][EACH];
    static sr_route routes[ROUTES];
    for (int i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "route %d", i);
        for (int k = 0; k < EACH; k++) {
            text_of(i, k, texts[i][k]);
            utterances[i][k] = sr_str_of(texts[i][k]);
        }
        routes[i] = (sr_route){.size = sizeof(sr_route),
                               .name = sr_str_of(names[i]),
                               .utterances = utterances[i],
                               .utterance_count = EACH};
    }
    assert_int_equal(sr_routes_put(router, routes, (size_t)count, NULL, NULL, NULL), SR_OK);
}

static double fit(fixture *self, sr_fit_kind expected) {
    sr_fit_options options = {.size = sizeof options};
    sr_fit_report *report = NULL;
    sr_error error;
    if (sr_fit(self->router, &options, &report, &error) != SR_OK) fail_msg("%s", error.message);
    assert_int_equal(report->kind, expected);
    double threshold = report->auto_threshold;
    sr_fit_report_free(&report);
    return threshold;
}

static double threshold_of(sr_router *router) {
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    return info.auto_threshold;
}

/* Decides the beginnings of texts like those of the table; how many were accepted. All cosines on either side of the
 * threshold are decided by it. */
static int accepted(fixture *self, double threshold) {
    static char texts[QUERIES][80];
    static sr_str queries[QUERIES];
    for (int i = 0; i < QUERIES; i++) {
        char own[64];
        text_of(i, EACH, own);
        snprintf(texts[i], sizeof texts[i], "%.*s", 8 + i % 40, own);
        queries[i] = sr_str_of(texts[i]);
    }
    sr_decisions *decisions = NULL;
    assert_int_equal(sr_decide(self->router, queries, QUERIES, NULL, &decisions, NULL), SR_OK);
    int count = 0;
    for (size_t i = 0; i < QUERIES; i++) {
        const sr_decision *decision = sr_decisions_get(decisions, i);
        assert_int_equal(decision->status == SR_MATCHED, decision->score + 1e-6 >= threshold);
        count += decision->status == SR_MATCHED;
    }
    sr_decisions_free(&decisions);
    return count;
}

static void an_automatic_threshold_is_fitted_to_a_large_table(void **state) {
    fixture *self = *state;
    put_routes(self->router, ROUTES);
    int before = accepted(self, 0.60);
    double threshold = fit(self, SR_FIT_NEIGHBOURS);
    assert_true(threshold > 0.62 && threshold < 1);
    assert_true(threshold_of(self->router) == threshold);
    int after = accepted(self, threshold);
    assert_true(after > 0 && after < before);
    sr_router_close(&self->router);
    self->router = toy_router(self->path, self->encoder, 0);
    assert_true(threshold_of(self->router) == threshold);
    assert_int_equal(accepted(self, threshold), after);
}

/* Nearly all of the table's own texts are accepted when they are not in the table themselves. */
static void the_tables_own_texts_pass_it(void **state) {
    fixture *self = *state;
    put_routes(self->router, ROUTES);
    (void)fit(self, SR_FIT_NEIGHBOURS);
    static char texts[QUERIES][64];
    static sr_str queries[QUERIES];
    for (int i = 0; i < QUERIES; i++) {
        text_of(i, EACH, texts[i]); /* one more of each route */
        queries[i] = sr_str_of(texts[i]);
    }
    sr_decisions *decisions = NULL;
    assert_int_equal(sr_decide(self->router, queries, QUERIES, NULL, &decisions, NULL), SR_OK);
    int count = 0;
    for (size_t i = 0; i < QUERIES; i++)
        count += sr_decisions_get(decisions, i)->status == SR_MATCHED;
    sr_decisions_free(&decisions);
    assert_true(count >= QUERIES * 95 / 100);
}

static void a_table_that_is_too_small_keeps_its_cosine(void **state) {
    fixture *self = *state;
    assert_int_equal(toy_put(self->router, "one", "only this", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_true(isnan(fit(self, SR_FIT_NEIGHBOURS)));
    assert_true(isnan(threshold_of(self->router)));
    (void)accepted(self, 0.60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_automatic_threshold_is_fitted_to_a_large_table,
                                        toy_set_up, toy_tear_down),
        cmocka_unit_test_setup_teardown(the_tables_own_texts_pass_it, toy_set_up, toy_tear_down),
        cmocka_unit_test_setup_teardown(a_table_that_is_too_small_keeps_its_cosine, toy_set_up,
                                        toy_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
