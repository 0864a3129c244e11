/* test_lint.c - planted problems are found, and nothing in a table without any. */
#include "unit.h"

#include "eval/lint.h"
#include "eval/neighbours.h"

#include <math.h>
#include <stdlib.h>

#define DIMENSION 16

/* "words #P A": the unit vector at A degrees in the plane of the axes 2P and 2P + 1. So cosines are those of
 * differences of angles, and 0 between planes. */
static int encode(void *user, const sr_str *texts, size_t n, float *out) {
    (void)user;
    for (size_t i = 0; i < n; i++) {
        char text[128];
        snprintf(text, sizeof text, "%.*s", (int)texts[i].len, texts[i].data);
        const char *at = strchr(text, '#');
        if (at == NULL) return 1;
        char *rest;
        long plane = strtol(at + 1, &rest, 10);
        double angle = strtod(rest, NULL) * 3.14159265358979323846 / 180;
        float *row = out + i * DIMENSION;
        memset(row, 0, DIMENSION * sizeof *row);
        row[2 * plane] = (float)cos(angle);
        row[2 * plane + 1] = (float)sin(angle);
    }
    return 0;
}

static sr_encoder *encoder;
static sr_router *router;

static int set_up(void **state) {
    (void)state;
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = encode,
                                  .dimension = DIMENSION,
                                  .identity = "planes"};
    assert_int_equal(sr_encoder_open(&options, &encoder, NULL), SR_OK);
    sr_options open = {.size = sizeof open, .encoder = encoder, .threads = 2};
    return sr_router_open(&open, &router, NULL) != SR_OK;
}

static int tear_down(void **state) {
    (void)state;
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

/* Utterances are separated by '|'. `cosine` NaN: an automatic threshold. */
static void put(const char *name, const char *utterances, double cosine) {
    sr_str texts[16];
    size_t count = 0;
    for (const char *at = utterances; *at != '\0'; at += *at == '|') {
        size_t len = strcspn(at, "|");
        texts[count++] = (sr_str){at, len};
        at += len;
    }
    sr_threshold threshold = {isnan(cosine) ? SR_THRESHOLD_AUTO : SR_THRESHOLD_COSINE, cosine};
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = texts,
                      .utterance_count = count,
                      .threshold = &threshold};
    sr_error error;
    if (sr_route_put(router, &route, NULL, &error) != SR_OK) fail_msg("%s", error.message);
}

static sri_lint run(const sri_lint_options *given) {
    sri_lint_options options = given == NULL ? (sri_lint_options){0} : *given;
    sri_lint lint;
    sr_error error;
    if (sri_lint_run(router, &options, &lint, &error) != SR_OK) fail_msg("%s", error.message);
    return lint;
}

static bool is(sr_str text, const char *expected) {
    return sri_str_equal(text, sr_str_of(expected));
}

/* The only finding of a kind. */
static const sri_lint_finding *only(const sri_lint *lint, sri_lint_kind kind) {
    const sri_lint_finding *found = NULL;
    assert_int_equal(lint->counts[kind], 1);
    for (size_t i = 0; i < lint->count; i++)
        if (lint->findings[i].kind == kind) found = &lint->findings[i];
    assert_non_null(found);
    return found;
}

static void near(double value, double expected) {
    if (fabs(value - expected) > 1e-6) fail_msg("%.9g instead of %.9g", value, expected);
}

static void put_clean(void) {
    put("a", "one #0 0|two #0 2|three #0 4|four #0 6|five #0 8", NAN);
    put("b", "one more #1 0|two #1 2|three #1 4|four #1 6|five #1 8", NAN);
}

/* ---- Kinds ------------------------------------------------------------------------------------- */

static void a_clean_table_has_no_findings(void **state) {
    (void)state;
    put_clean();
    sri_lint lint = run(NULL);
    assert_int_equal(lint.count, 0);
    assert_int_equal(lint.routes, 2);
    assert_int_equal(lint.utterances, 10);
    for (int kind = 0; kind < SRI_LINT_KINDS; kind++) assert_int_equal(lint.counts[kind], 0);
    sri_lint_free(&lint);
}

static void an_empty_table_has_no_findings(void **state) {
    (void)state;
    sri_lint lint = run(NULL);
    assert_int_equal(lint.count + lint.routes + lint.utterances, 0);
    sri_lint_free(&lint);
}

static void routes_with_few_utterances_or_none(void **state) {
    (void)state;
    put_clean();
    put("empty", "", NAN);
    put("lone", "x #2 0", NAN);
    sri_lint lint = run(NULL);
    assert_true(is(only(&lint, SRI_LINT_EMPTY)->route, "empty"));
    const sri_lint_finding *few = only(&lint, SRI_LINT_FEW);
    assert_true(is(few->route, "lone"));
    assert_int_equal(few->count, 1);
    assert_int_equal(lint.count, 2); /* a lone utterance is not said to be lost as well */
    sri_lint_free(&lint);
    lint = run(&(sri_lint_options){.few = 6});
    assert_int_equal(lint.counts[SRI_LINT_FEW], 3);
    assert_int_equal(lint.findings[1].count, 1); /* the fewest first, after the empty one */
    sri_lint_free(&lint);
}

static void duplicates_whatever_case_space_and_end(void **state) {
    (void)state;
    put_clean();
    put("c", "  FO\xC3\x9CR\xC2\xA0#1  6 ?!|two #2 2|three #2 4|four #2 6|five #2 8", NAN);
    sri_lint lint = run(NULL);
    const sri_lint_finding *found = only(&lint, SRI_LINT_DUPLICATE);
    assert_true(is(found->route, "b") && is(found->other, "c"));
    assert_true(is(found->utterance, "four #1 6"));
    assert_true(is(found->other_utterance, "  FO\xC3\x9CR\xC2\xA0#1  6 ?!"));
    /* Not a near-duplicate of itself; but those beside it are. */
    for (size_t i = 0; i < lint.count; i++)
        assert_false(lint.findings[i].kind == SRI_LINT_NEAR &&
                     is(lint.findings[i].utterance, "four #1 6"));
    assert_true(lint.counts[SRI_LINT_NEAR] > 0);
    sri_lint_free(&lint);
}

static void near_duplicates_from_the_threshold_on(void **state) {
    (void)state;
    put_clean();
    put("c", "near #0 25|two #2 2|three #2 4|four #2 6|five #2 8", NAN);
    sri_lint lint = run(NULL); /* 17 degrees from "five" (0.956), 19 from "four" (0.946) */
    const sri_lint_finding *found = only(&lint, SRI_LINT_NEAR);
    assert_true(is(found->utterance, "five #0 8") && is(found->other_utterance, "near #0 25"));
    assert_true(is(found->route, "a") && is(found->other, "c"));
    near(found->cosine, cos(17 * 3.14159265358979323846 / 180));
    sri_lint_free(&lint);
    lint = run(&(sri_lint_options){.near = 0.94});
    assert_int_equal(lint.counts[SRI_LINT_NEAR], 2);
    assert_true(lint.findings[0].cosine > lint.findings[1].cosine);
    sri_lint_free(&lint);
    lint = run(&(sri_lint_options){.near = 0.96});
    assert_int_equal(lint.counts[SRI_LINT_NEAR], 0);
    sri_lint_free(&lint);
}

static void utterances_that_another_route_would_win(void **state) {
    (void)state;
    put_clean();
    put("c", "lost #0 40|two #2 2|three #2 4|four #2 6|five #2 8", NAN);
    sri_lint lint = run(NULL);
    const sri_lint_finding *found = only(&lint, SRI_LINT_LOST);
    assert_true(is(found->route, "c") && is(found->other, "a"));
    assert_true(is(found->utterance, "lost #0 40") && is(found->other_utterance, "five #0 8"));
    near(found->cosine, cos(32 * 3.14159265358979323846 / 180));
    near(found->own_cosine, 0);
    assert_int_equal(lint.count, 1);
    sri_lint_free(&lint);
}

static void overlapping_and_unreachable_routes(void **state) {
    (void)state;
    put_clean();
    put("u", "near one #4 0|near five #4 20", NAN);
    put("v", "v1 #4 1|v2 #4 2|v3 #4 3|v4 #4 18|v5 #4 19", NAN);
    sri_lint lint = run(NULL);
    const sri_lint_finding *overlap = only(&lint, SRI_LINT_OVERLAP);
    assert_true(is(overlap->route, "u") && is(overlap->other, "v"));
    assert_int_equal(overlap->count, 2);
    near(overlap->share, 2.0 / 7);
    const sri_lint_finding *unreached = only(&lint, SRI_LINT_UNREACHED);
    assert_true(is(unreached->route, "u") && is(unreached->other, "v"));
    assert_int_equal(unreached->count, 2);
    assert_int_equal(lint.counts[SRI_LINT_LOST], 2);
    sri_lint_free(&lint);
    lint = run(&(sri_lint_options){.overlap = 0.3});
    assert_int_equal(lint.counts[SRI_LINT_OVERLAP], 0);
    sri_lint_free(&lint);
}

static void thresholds_that_turn_down_their_own(void **state) {
    (void)state;
    put_clean();
    put("strict", "s1 #3 0|s2 #3 40|s3 #3 80|s4 #3 120|s5 #3 125", 0.9);
    put("wide", "w1 #5 0|w2 #5 60|w3 #5 120|w4 #5 180|w5 #5 240", NAN);
    sri_lint lint = run(NULL);
    assert_int_equal(lint.counts[SRI_LINT_THRESHOLD], 2);
    const sri_lint_finding *wide = &lint.findings[0], *strict = &lint.findings[1];
    assert_true(is(wide->route, "wide") && is(strict->route, "strict"));
    near(wide->threshold, 0.6); /* what automatic means where nothing is fitted */
    assert_int_equal(wide->count, 5);
    near(strict->threshold, 0.9);
    assert_int_equal(strict->count, 3); /* s4 and s5 have each other */
    near(strict->share, 0.6);
    sri_lint_free(&lint);
}

static void out_of_scope_examples_near_utterances(void **state) {
    (void)state;
    put_clean();
    const sr_str examples[] = {sr_str_of("none of it #0 20"), sr_str_of("far #7 0")};
    assert_int_equal(sr_oos_put(router, examples, 2, NULL, NULL), SR_OK);
    put("c", "c1 #2 0|c2 #2 1|c3 #2 2|c4 #2 3|c5 #7 10", NAN);
    sri_lint lint = run(&(sri_lint_options){.oos = 0.98});
    assert_int_equal(lint.oos, 2);
    const sri_lint_finding *found = only(&lint, SRI_LINT_OOS);
    assert_true(is(found->route, "a") == 0 && is(found->route, "c"));
    assert_true(is(found->utterance, "c5 #7 10") && is(found->other_utterance, "far #7 0"));
    assert_int_equal(found->other.len, 0);
    near(found->cosine, cos(10 * 3.14159265358979323846 / 180));
    /* Left out, c5 would be turned down. */
    const sri_lint_finding *lost = only(&lint, SRI_LINT_LOST);
    assert_true(is(lost->utterance, "c5 #7 10") && lost->other.len == 0);
    assert_int_equal(lint.counts[SRI_LINT_OVERLAP] + lint.counts[SRI_LINT_NEAR], 0);
    sri_lint_free(&lint);
    lint = run(NULL);
    assert_int_equal(lint.counts[SRI_LINT_OOS], 2); /* "none of it" is 12 degrees from "five" */
    sri_lint_free(&lint);
}

/* ---- As a whole -------------------------------------------------------------------------------- */

static int stop(void *user, uint64_t done, uint64_t total) {
    (void)total;
    *(uint64_t *)user = done;
    return 1;
}

static void progress_may_stop_it(void **state) {
    (void)state;
    put_clean();
    uint64_t done = 0;
    sri_lint_options options = {.progress = stop, .progress_user = &done};
    sri_lint lint;
    sr_error error;
    assert_int_equal(sri_lint_run(router, &options, &lint, &error), SR_ERR_CANCELLED);
    assert_int_equal(done, 10);
    assert_null(lint.findings);
    assert_null(lint.table);
}

static void options_out_of_range_are_refused(void **state) {
    (void)state;
    sri_lint lint;
    const sri_lint_options wrong[] = {{.near = 1.5},    {.near = -1},    {.oos = 2},
                                      {.overlap = 1.1}, {.threads = -1}, {.near = NAN}};
    for (size_t i = 0; i < SRI_COUNT(wrong); i++)
        assert_int_equal(sri_lint_run(router, &wrong[i], &lint, NULL), SR_ERR_INVALID);
}

/* Vectors of the table come as stored, and as encoded once the table has changed. */
static void vectors_follow_the_table_that_was_read(void **state) {
    (void)state;
    put_clean();
    sr_table *table = NULL;
    assert_int_equal(sr_table_read(router, NULL, 1, &table, NULL), SR_OK);
    float stored[10 * DIMENSION], later[10 * DIMENSION];
    assert_int_equal(sr_table_vectors(router, table, stored, 10 * DIMENSION, NULL), SR_OK);
    near(stored[2 * DIMENSION], cos(4 * 3.14159265358979323846 / 180));
    near(stored[5 * DIMENSION + 2], 1);
    put("a", "other #6 0", NAN);
    assert_int_equal(sr_table_vectors(router, table, later, 10 * DIMENSION, NULL), SR_OK);
    assert_memory_equal(stored, later, sizeof stored);
    sr_error error;
    assert_int_equal(sr_table_vectors(router, table, later, 10 * DIMENSION - 1, &error),
                     SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "10 vectors"));
    sr_table_free(&table);
    assert_int_equal(sr_table_read(router, NULL, 0, &table, NULL), SR_OK);
    assert_int_equal(sr_table_vectors(router, table, later, 10 * DIMENSION, &error),
                     SR_ERR_INVALID);
    sr_table_free(&table);
}

/* Against a loop without blocks or threads, at sizes around those of the blocks. */
static void neighbours_agree_with_plain_loops(void **state) {
    (void)state;
    enum { MOST = 700, D = 24 };
    static float vectors[MOST * D];
    static uint32_t groups[MOST];
    static sri_neighbours found[MOST], again[MOST];
    uint32_t seed = 7;
    for (size_t i = 0; i < MOST; i++) {
        double sum = 0;
        for (size_t d = 0; d < D; d++) {
            seed = seed * 1664525u + 1013904223u;
            float value = (float)(seed >> 8) / (1 << 24) - 0.5f + (d == i % 3 ? 1.5f : 0);
            vectors[i * D + d] = value;
            sum += value * value;
        }
        for (size_t d = 0; d < D; d++) vectors[i * D + d] /= (float)sqrt(sum);
        groups[i] = (uint32_t)(i * 7 % 31);
    }
    const size_t sizes[] = {0, 1, 2, 15, 16, 17, 699, 700};
    for (size_t s = 0; s < SRI_COUNT(sizes); s++) {
        size_t n = sizes[s], count, seen, expected = 0;
        sri_neighbour_job job = {.vectors = vectors,
                                 .groups = groups,
                                 .count = n,
                                 .dimension = D,
                                 .near = 0.8f,
                                 .max_pairs = 1000000,
                                 .threads = 2};
        sri_near_pair *pairs;
        assert_int_equal(sri_neighbours_find(&job, found, &pairs, &count, &seen, NULL), SR_OK);
        for (size_t i = 0; i < n; i++) {
            double own = -2, other = -2;
            for (size_t j = 0; j < n; j++) {
                double dot = 0;
                for (size_t d = 0; d < D; d++)
                    dot += (double)vectors[i * D + d] * vectors[j * D + d];
                double *best = groups[i] == groups[j] ? &own : &other;
                if (i != j && dot > *best) *best = dot;
                expected += i < j && groups[i] != groups[j] && dot >= 0.8;
            }
            near(found[i].own_cosine, own);
            near(found[i].other_cosine, other);
            assert_true((own < -1) == (found[i].own == SRI_NEIGHBOUR_NONE));
        }
        assert_int_equal(count, expected);
        assert_int_equal(seen, expected);
        for (size_t i = 1; i < count; i++) assert_true(pairs[i - 1].cosine >= pairs[i].cosine);
        float least = count < 10 ? 0 : pairs[9].cosine;
        sri_free(pairs);
        job.threads = 1;
        job.max_pairs = 10;
        assert_int_equal(sri_neighbours_find(&job, again, &pairs, &count, &seen, NULL), SR_OK);
        assert_memory_equal(found, again, n * sizeof *found);
        assert_int_equal(seen, expected); /* though fewer are kept: the nearest */
        assert_int_equal(count, SRI_MIN(expected, 10));
        if (count == 10) near(pairs[9].cosine, least);
        sri_free(pairs);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_clean_table_has_no_findings),
        TEST(an_empty_table_has_no_findings),
        TEST(routes_with_few_utterances_or_none),
        TEST(duplicates_whatever_case_space_and_end),
        TEST(near_duplicates_from_the_threshold_on),
        TEST(utterances_that_another_route_would_win),
        TEST(overlapping_and_unreachable_routes),
        TEST(thresholds_that_turn_down_their_own),
        TEST(out_of_scope_examples_near_utterances),
        TEST(progress_may_stop_it),
        TEST(options_out_of_range_are_refused),
        TEST(vectors_follow_the_table_that_was_read),
        cmocka_unit_test(neighbours_agree_with_plain_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
