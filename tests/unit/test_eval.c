/* test_eval.c - figures against values computed by hand and by scikit-learn, and the reports. */
#include "unit.h"

#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>

static sri_eval_row row_of(int expected, int predicted, int best, double score, double confidence) {
    return (sri_eval_row){.expected = expected,
                          .predicted = predicted,
                          .best = best,
                          .in_top3 = best == expected,
                          .score = score,
                          .confidence = confidence,
                          .margin = NAN};
}

static void near(double value, double expected) {
    if (fabs(value - expected) > 1e-9) fail_msg("%.12g instead of %.12g", value, expected);
}

static void figures_by_hand(void **state) {
    (void)state;
    /* Routes 0 and 1; the fourth is out of scope and rejected, the fifth out of scope and accepted. */
    const sri_eval_row rows[] = {row_of(0, 0, 0, 0.9, 0.9), row_of(0, 1, 1, 0.8, 0.6),
                                 row_of(1, -1, 1, 0.5, 0.4), row_of(-1, -1, 0, 0.4, 0.2),
                                 row_of(-1, 1, 1, 0.7, 0.6)};
    sri_figures f;
    assert_int_equal(sri_figures_of(rows, 5, 2, &f, NULL), SR_OK);
    assert_int_equal(f.n, 5);
    assert_int_equal(f.in_scope, 3);
    near(f.accuracy, 2.0 / 5);
    near(f.in_scope_accuracy, 1.0 / 3);
    near(f.top3, 2.0 / 3);
    near(f.oos_recall, 1.0 / 2);
    /* F1: route 0: 2*1/(2+1); route 1: 0; none: 2*1/(2+2). */
    near(f.macro_f1, (2.0 / 3 + 0 + 0.5) / 3);
    /* In scope 0.9, 0.6, 0.4 against 0.2, 0.6: four pairs in order, one a tie. */
    near(f.oos_auroc, 4.5 / 6);
    near(f.fpr95, 1.0 / 2); /* at 0.4, where all in-scope texts pass, 0.6 passes too */
    /* Bins: {0.9: right}, {0.6: wrong, 0.6: wrong}, {0.4: right}, {0.2: wrong}. */
    near(f.ece, (0.1 + 1.2 + 0.6 + 0.2) / 5);
    near(f.labels[0].precision, 1);
    near(f.labels[0].recall, 0.5);
    near(f.labels[1].precision, 0);
    assert_true(isnan(f.labels[1].f1) == 0 && f.labels[1].f1 == 0);
    sri_figures_free(&f);
}

static void figures_that_do_not_exist_are_nan(void **state) {
    (void)state;
    const sri_eval_row in_scope = row_of(0, 0, 0, 0.9, 0.9);
    sri_figures f;
    assert_int_equal(sri_figures_of(&in_scope, 1, 1, &f, NULL), SR_OK);
    near(f.accuracy, 1);
    near(f.macro_f1, 1);
    assert_true(isnan(f.oos_recall) && isnan(f.oos_auroc) && isnan(f.fpr95));
    sri_figures_free(&f);
    const sri_eval_row blank = row_of(-1, -1, -1, NAN, NAN);
    assert_int_equal(sri_figures_of(&blank, 1, 0, &f, NULL), SR_OK);
    near(f.accuracy, 1);
    near(f.oos_recall, 1);
    assert_true(isnan(f.in_scope_accuracy) && isnan(f.top3) && isnan(f.ece));
    sri_figures_free(&f);
    assert_int_equal(sri_figures_of(NULL, 0, 0, &f, NULL), SR_OK);
    assert_true(isnan(f.accuracy) && isnan(f.macro_f1) && isnan(f.fast_share));
    sri_figures_free(&f);
}

/* The fast path knows no cosine: scores must not matter. A text without a candidate counts as 0, wherever
 * it stands. */
static void scope_is_told_by_confidence(void **state) {
    (void)state;
    const sri_eval_row rows[] = {row_of(-1, -1, -1, NAN, NAN), row_of(0, 0, 0, NAN, 0.8),
                                 row_of(-1, -1, 0, 0.99, 0.1), row_of(0, 0, 0, -0.5, 0.5),
                                 row_of(-1, -1, -1, NAN, 0.9)};
    sri_figures f;
    assert_int_equal(sri_figures_of(rows, 5, 1, &f, NULL), SR_OK);
    near(f.oos_auroc, 1);
    near(f.fpr95, 0);
    sri_figures_free(&f);
}

/* scikit-learn: roc_curve([1,1,0,1,0,1,0,0], [.9,.8,.8,.7,.6,.6,.3,.2]) without its first, empty point. */
static void curve_holds_the_corners(void **state) {
    (void)state;
    const double confidences[] = {0.6, 0.9, 0.2, 0.8, 0.8, 0.7, 0.3, 0.6};
    const int expected[] = {-1, 0, -1, -1, 0, 0, -1, 0};
    sri_eval_row rows[8];
    for (int i = 0; i < 8; i++) rows[i] = row_of(expected[i], 0, 0, NAN, confidences[i]);
    sri_figures f;
    assert_int_equal(sri_figures_of(rows, 8, 1, &f, NULL), SR_OK);
    const sri_roc_point points[] = {
        {0.9, 0.25, 0}, {0.8, 0.5, 0.25}, {0.7, 0.75, 0.25}, {0.6, 1, 0.5}, {0.2, 1, 1}};
    assert_int_equal(f.roc_count, 5);
    for (int i = 0; i < 5; i++) {
        near(f.roc[i].confidence, points[i].confidence);
        near(f.roc[i].in_scope, points[i].in_scope);
        near(f.roc[i].out_of_scope, points[i].out_of_scope);
    }
    near(f.oos_auroc, 13.0 / 16);
    near(f.fpr95, 0.5);
    sri_figures_free(&f);
}

static uint32_t seed;

static int draw(void) {
    seed = seed * 1664525u + 1013904223u;
    return (int)((seed >> 8) % 1000);
}

/* The same 400 rows, with many equal scores, went through scikit-learn 1.x: accuracy_score, f1_score
 * (macro, labels that occur), roc_auc_score, roc_curve. */
static void figures_agree_with_scikit_learn(void **state) {
    (void)state;
    enum { N = 400 };
    static sri_eval_row rows[N];
    seed = 12345;
    for (int i = 0; i < N; i++) {
        int expected = draw() % 6 - 1, best = expected;
        if (expected < 0 || draw() % 10 >= 7) best = draw() % 5;
        double score = (expected < 0 ? draw() * 50 / 1000 : (draw() + 400) * 50 / 1400) / 50.0;
        double confidence = draw() / 1000.0 * 0.5 + score * 0.5;
        rows[i] = row_of(expected, score >= 0.5 ? best : -1, best, score, confidence);
    }
    sri_figures f;
    assert_int_equal(sri_figures_of(rows, N, 5, &f, NULL), SR_OK);
    assert_int_equal(f.in_scope, 329);
    near(f.accuracy, 0.53);
    near(f.in_scope_accuracy, 0.5349544072948328);
    near(f.macro_f1, 0.5481818495737251);
    near(f.oos_recall, 0.5070422535211268);
    near(f.oos_auroc, 0.6545870970503874);
    near(f.fpr95, 0.7746478873239436);
    near(f.ece, 0.14049);
    sri_figures_free(&f);
}

static void percentiles_interpolate(void **state) {
    (void)state;
    const double values[] = {1, 2, 3, 4, 10};
    near(sri_percentile(values, 5, 0.5), 3); /* as numpy.percentile */
    near(sri_percentile(values, 5, 0.99), 9.76);
    near(sri_percentile(values, 5, 1), 10);
    near(sri_percentile(values, 1, 0.99), 1);
    assert_true(isnan(sri_percentile(values, 0, 0.5)));
}

static void percentile_of_the_first_value(void **state) {
    (void)state;
    const double values[] = {5, 6};
    near(sri_percentile(values, 2, 0), 5);
}

/* An evaluation as a run leaves it. */
static sri_eval example_eval(void) {
    static const sri_case cases[] = {
        {{"good", 4}, {"refund", 6}}, {{"<script>&\"'", 11}, {"<b>", 3}}, {{"out", 3}, {NULL, 0}}};
    static sr_str labels[] = {{"refund", 6}, {"<b>", 3}};
    static const sr_candidate candidates[] = {{{"refund", 6}, 0.7, 0.8, {"a</td>", 6}}};
    static sri_failure failures[] = {{1, candidates, 1}, {2, NULL, 0}};
    static sri_eval_row rows[3];
    rows[0] = row_of(0, 0, 0, 0.9, 0.9);
    rows[1] = row_of(1, 0, 0, 0.8, 0.7);
    rows[2] = row_of(-1, 0, 0, 0.7, 0.6);
    sri_eval eval = {.cases = cases,
                     .n = 3,
                     .rows = rows,
                     .labels = labels,
                     .label_count = 2,
                     .failures = failures,
                     .failure_count = 2,
                     .seconds = 0.5,
                     .queries_per_second = 6,
                     .p50 = 1.25,
                     .p99 = NAN};
    assert_int_equal(sri_figures_of(rows, 3, 2, &eval.figures, NULL), SR_OK);
    return eval;
}

static void json_has_the_contract_s_members_in_order(void **state) {
    (void)state;
    sri_eval eval = example_eval();
    sri_buffer out = {0};
    assert_true(sri_eval_append_json(&eval, &out));
    assert_true(sri_buffer_append(&out, "", 1));
    assert_string_equal(
        out.data,
        "{\"n\":3,\"accuracy\":0.3333333,\"in_scope_accuracy\":0.5,\"top3\":0.5,\"macro_f1\":0."
        "1666667,"
        "\"oos_recall\":0,\"oos_auroc\":1,\"fpr95\":0,\"ece\":0.4666667,\"fast_share\":0,"
        "\"seconds\":0.5,\"queries_per_second\":6,\"latency_ms\":{\"p50\":1.25,\"p99\":null}}");
    sri_buffer_free(&out);
    sri_figures_free(&eval.figures);
}

static const sri_report_info about = {.title = "<file>",
                                      .database = "t.db",
                                      .model = "m",
                                      .fingerprint = "f",
                                      .version = "0",
                                      .cpu = "ref",
                                      .date = "today",
                                      .path = "slow"};

static char *page_of(const sri_eval *eval) {
    sri_buffer out = {0};
    assert_true(sri_eval_append_html(eval, &about, &out));
    assert_true(sri_buffer_append(&out, "", 1));
    return out.data;
}

/* Texts come from users: none of them may become markup. */
static void page_escapes_texts_and_needs_no_network(void **state) {
    (void)state;
    sri_eval eval = example_eval();
    char *page = page_of(&eval);
    assert_non_null(strstr(page, "Evaluation of &lt;file&gt;"));
    assert_non_null(strstr(page, "&lt;script&gt;&amp;&quot;&#39;"));
    assert_non_null(strstr(page, "a&lt;/td&gt;"));
    assert_null(strstr(page, "<script>&"));
    assert_null(strstr(page, "<b>"));
    assert_null(strstr(page, "http:"));
    assert_null(strstr(page, "https:"));
    assert_non_null(strstr(page, "default-src 'none'"));
    assert_non_null(strstr(page, "2 of 3 texts were decided wrongly"));
    assert_non_null(strstr(page, "</html>"));
    sri_free(page);
    sri_figures_free(&eval.figures);
}

/* The wrong answer that was most confident stands first. */
static void failures_stand_by_confidence(void **state) {
    (void)state;
    sri_eval eval = example_eval();
    eval.rows[2].confidence = 0.95;
    char *page = page_of(&eval);
    const char *list = strstr(page, "id=\"failing\"");
    assert_non_null(list);
    const char *first = strstr(list, "data-v=\"0.95\""), *second = strstr(list, "data-v=\"0.7\"");
    assert_true(first != NULL && second != NULL && first < second);
    sri_free(page);
    sri_figures_free(&eval.figures);
}

static void page_without_texts_or_failures_is_whole(void **state) {
    (void)state;
    sri_eval eval = {.p50 = NAN, .p99 = NAN, .queries_per_second = NAN};
    assert_int_equal(sri_figures_of(NULL, 0, 0, &eval.figures, NULL), SR_OK);
    char *page = page_of(&eval);
    assert_non_null(strstr(page, "0 of 0 texts were decided wrongly"));
    assert_null(strstr(page, "nan"));
    assert_non_null(strstr(page, "</html>"));
    sri_free(page);
    sri_figures_free(&eval.figures);
}

static void page_of_many_labels_stays_small(void **state) {
    (void)state;
    enum { LABELS = 1000, N = 20000 };
    sri_eval_row *rows = calloc(N, sizeof *rows);
    sri_case *cases = calloc(N, sizeof *cases);
    sri_failure *failures = calloc(N, sizeof *failures);
    sr_str *labels = calloc(LABELS, sizeof *labels);
    for (int i = 0; i < LABELS; i++)
        labels[i] = sr_str_of("a route with quite a long name, longer than the map");
    for (int i = 0; i < N; i++) {
        cases[i] = (sri_case){{"text", 4}, labels[i % LABELS]};
        rows[i] = row_of(i % LABELS, (i + 1 + i / LABELS) % LABELS, (i + 1) % LABELS, 0.5, 0.5);
        failures[i].index = (size_t)i;
    }
    sri_eval eval = {.cases = cases,
                     .n = N,
                     .rows = rows,
                     .labels = labels,
                     .label_count = LABELS,
                     .failures = failures,
                     .failure_count = N,
                     .p50 = NAN,
                     .p99 = NAN};
    assert_int_equal(sri_figures_of(rows, N, LABELS, &eval.figures, NULL), SR_OK);
    sri_buffer out = {0};
    assert_true(sri_eval_append_html(&eval, &about, &out));
    assert_true(out.len < 2000000);
    sri_buffer_free(&out);
    sri_figures_free(&eval.figures);
    free(rows), free(cases), free(failures), free(labels);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_by_hand),
        cmocka_unit_test(figures_that_do_not_exist_are_nan),
        cmocka_unit_test(scope_is_told_by_confidence),
        cmocka_unit_test(curve_holds_the_corners),
        cmocka_unit_test(figures_agree_with_scikit_learn),
        cmocka_unit_test(percentiles_interpolate),
        cmocka_unit_test(percentile_of_the_first_value),
        cmocka_unit_test(json_has_the_contract_s_members_in_order),
        cmocka_unit_test(page_escapes_texts_and_needs_no_network),
        cmocka_unit_test(failures_stand_by_confidence),
        cmocka_unit_test(page_without_texts_or_failures_is_whole),
        cmocka_unit_test(page_of_many_labels_stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
