/*
 * test_distill.c - distillation: principal components and the fit against known answers; what is
 * refused, and what a stop leaves behind.
 *
 * A whole distillation of the shipped transformer takes too long here; tests/e2e/test_distill.py
 * does one.
 */
#include "short_memory.h"
#include "unit.h"

#include "encode/distill_fit.h"
#include "model/config.h"
#include "model/pca.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static uint32_t random_state = 1;

/* From -1 to 1, evenly. */
static float random_float(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1.0f;
}

/* ---- principal components -------------------------------------------------------------------- */

enum { POINTS = 500, N = 12, KEPT = 4 };

/* Points whose variances along known, orthogonal axes fall by a factor of 4 each. */
static void make_points(float *points, double axes[N][N]) {
    for (int i = 0; i < N; i++) /* a Householder reflection is an orthogonal matrix */
        for (int j = 0; j < N; j++) axes[i][j] = (i == j) - 2.0 / N;
    for (int p = 0; p < POINTS; p++) {
        float *point = points + p * N;
        for (int j = 0; j < N; j++) point[j] = 3.0f + (float)j;
        for (int i = 0; i < N; i++) {
            double length = random_float() * pow(0.5, i);
            for (int j = 0; j < N; j++) point[j] += (float)(length * axes[i][j]);
        }
    }
}

static void components_are_the_axes_of_variance(void **state) {
    (void)state;
    static float points[POINTS * N];
    static double axes[N][N];
    sri_pca pca;
    make_points(points, axes);
    assert_int_equal(sri_pca_compute(points, POINTS, N, KEPT, &pca, NULL), SR_OK);
    for (int i = 0; i < N; i++) {
        double along = 0;
        for (int j = 0; j < N; j++) along += pca.basis[i * N + j] * axes[i][j];
        assert_true(fabs(along) > 0.98);
        double expected = pow(0.25, i) / 3; /* of an even spread from -1 to 1 */
        assert_true(fabs(pca.variance[i] - expected) < 0.15 * expected);
    }
    sri_pca_free(&pca);
}

static void components_are_orthogonal_and_explain_the_covariance(void **state) {
    (void)state;
    static float points[POINTS * N];
    sri_pca pca;
    for (int i = 0; i < POINTS * N; i++) points[i] = random_float();
    assert_int_equal(sri_pca_compute(points, POINTS, N, N, &pca, NULL), SR_OK);
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++) {
            double product = 0, covariance = 0, explained = 0;
            for (int j = 0; j < N; j++) product += pca.basis[a * N + j] * pca.basis[b * N + j];
            for (int p = 0; p < POINTS; p++)
                covariance += (points[p * N + a] - pca.mean[a]) * (points[p * N + b] - pca.mean[b]);
            for (int k = 0; k < N; k++)
                explained += pca.variance[k] * pca.basis[k * N + a] * pca.basis[k * N + b];
            assert_true(fabs(product - (a == b)) < 1e-9);
            assert_true(fabs(covariance / POINTS - explained) < 1e-9);
        }
    sri_pca_free(&pca);
}

static void projection_of_the_mean_is_zero_and_keeps_distances(void **state) {
    (void)state;
    static float points[POINTS * N];
    float mean[N], out[2][N];
    sri_pca pca;
    for (int i = 0; i < POINTS * N; i++) points[i] = random_float();
    assert_int_equal(sri_pca_compute(points, POINTS, N, N, &pca, NULL), SR_OK);
    for (int j = 0; j < N; j++) mean[j] = (float)pca.mean[j];
    sri_pca_project(&pca, mean, NULL, out[0]);
    for (int j = 0; j < N; j++) assert_true(fabsf(out[0][j]) < 1e-6f);
    sri_pca_project(&pca, points, NULL, out[0]);
    sri_pca_project(&pca, points + N, NULL, out[1]);
    double before = 0, after = 0;
    for (int j = 0; j < N; j++) {
        before += pow(points[j] - points[N + j], 2);
        after += pow(out[0][j] - out[1][j], 2);
    }
    assert_true(fabs(before - after) < 1e-5 * before);
    sri_pca_free(&pca);
}

static void equal_vectors_have_no_components(void **state) {
    (void)state;
    static float points[POINTS * N];
    sri_pca pca;
    for (int i = 0; i < POINTS * N; i++) points[i] = 0.5f;
    assert_int_equal(sri_pca_compute(points, POINTS, N, KEPT, &pca, NULL), SR_OK);
    float out[KEPT];
    sri_pca_project(&pca, points, NULL, out);
    for (int k = 0; k < KEPT; k++) assert_true(out[k] == 0);
    sri_pca_free(&pca);
}

/* ---- the fit --------------------------------------------------------------------------------- */

enum { TOKENS = 40, DIM = 3, TEXTS = 400, LENGTH = 5 };

static int32_t ids[TEXTS * LENGTH];
static size_t start[TEXTS + 1];
static float targets[TEXTS * DIM], truth[TOKENS * DIM], rows[TOKENS * DIM];

/* Texts over the tokens 0 to TOKENS - 2, their targets the means of `truth`. */
static sri_token_lists make_texts(void) {
    for (int i = 0; i < TOKENS * DIM; i++) truth[i] = random_float();
    memset(targets, 0, sizeof targets);
    for (int t = 0; t < TEXTS; t++) {
        start[t + 1] = start[t] + LENGTH;
        for (int i = 0; i < LENGTH; i++) {
            int32_t id = (int32_t)((random_float() + 1) * 0.5f * (TOKENS - 1));
            ids[t * LENGTH + i] = id < TOKENS - 1 ? id : 0;
            for (int d = 0; d < DIM; d++)
                targets[t * DIM + d] += truth[ids[t * LENGTH + i] * DIM + d] / LENGTH;
        }
    }
    return (sri_token_lists){ids, start, TEXTS};
}

static double distance_to_targets(void) {
    double sum = 0;
    for (int t = 0; t < TEXTS; t++)
        for (int d = 0; d < DIM; d++) {
            double mean = 0;
            for (int i = 0; i < LENGTH; i++) mean += rows[ids[t * LENGTH + i] * DIM + d] / LENGTH;
            sum += pow(mean - targets[t * DIM + d], 2);
        }
    return sum;
}

static void fit(const sri_token_lists *lists, double strength) {
    assert_int_equal(
        sri_distill_fit(lists, targets, TOKENS, DIM, strength, rows, NULL, NULL, 0, 0, NULL),
        SR_OK);
}

static void a_weak_fit_finds_the_rows_behind_the_targets(void **state) {
    (void)state;
    sri_token_lists lists = make_texts();
    for (int i = 0; i < TOKENS * DIM; i++) rows[i] = truth[i] * 0.5f + 0.4f * random_float();
    fit(&lists, 1e-4);
    assert_true(distance_to_targets() < 1e-4);
    for (int i = 0; i < (TOKENS - 1) * DIM; i++) assert_true(fabsf(rows[i] - truth[i]) < 0.02f);
}

static void a_strong_fit_keeps_the_rows_in_proportion(void **state) {
    (void)state;
    float before[TOKENS * DIM];
    sri_token_lists lists = make_texts();
    for (int i = 0; i < TOKENS * DIM; i++) before[i] = rows[i] = truth[i] + 0.5f * random_float();
    fit(&lists, 1e9);
    float factor = rows[0] / before[0];
    assert_true(factor > 0);
    for (int i = 0; i < TOKENS * DIM; i++) assert_true(fabsf(rows[i] - factor * before[i]) < 1e-5f);
}

static void a_token_without_texts_is_only_scaled(void **state) {
    (void)state;
    enum { LAST = (TOKENS - 1) * DIM };
    float before[DIM];
    sri_token_lists lists = make_texts();
    for (int i = 0; i < TOKENS * DIM; i++) rows[i] = truth[i] * 0.5f;
    memcpy(before, rows + LAST, sizeof before);
    fit(&lists, 0.2);
    for (int d = 0; d < DIM; d++) /* the truth is twice the rows */
        assert_true(fabsf(rows[LAST + d] - 2 * before[d]) < 1e-4f);
}

static void the_solution_is_the_minimum(void **state) {
    (void)state;
    sri_token_lists lists = make_texts();
    static float old[TOKENS * DIM], best[TOKENS * DIM];
    for (int i = 0; i < TOKENS * DIM; i++) old[i] = rows[i] = truth[i] + 0.3f * random_float();
    fit(&lists, 0.5);
    memcpy(best, rows, sizeof best);
    float factor = rows[(TOKENS - 1) * DIM] / old[(TOKENS - 1) * DIM];
    double least = distance_to_targets();
    for (int i = 0; i < TOKENS * DIM; i++) least += 0.5 * pow(rows[i] - factor * old[i], 2);
    for (int i = 0; i < (TOKENS - 1) * DIM; i++)
        for (int sign = -1; sign <= 1; sign += 2) {
            rows[i] = best[i] + 0.02f * (float)sign;
            double other = distance_to_targets();
            for (int j = 0; j < TOKENS * DIM; j++) other += 0.5 * pow(rows[j] - factor * old[j], 2);
            assert_true(other > least);
            rows[i] = best[i];
        }
}

static void texts_without_tokens_are_passed_over(void **state) {
    (void)state;
    size_t none[TEXTS + 1] = {0};
    sri_token_lists lists = {ids, none, TEXTS};
    for (int i = 0; i < TOKENS * DIM; i++) rows[i] = truth[i] = random_float();
    fit(&lists, 0.2);
    assert_memory_equal(rows, truth, sizeof rows);
}

static void memory_may_end_at_any_point(void **state) {
    (void)state;
    static float points[POINTS * N];
    sri_token_lists lists = make_texts();
    sr_allocator_set(&(sr_allocator){take, change, release, NULL});
    memory.for_good = true;
    for (int i = 0; i < POINTS * N; i++) points[i] = random_float();
    for (size_t allowed = 0; allowed < 20; allowed++) {
        sri_pca pca;
        float before[TOKENS * DIM];
        memcpy(before, rows, sizeof before);
        memory.held = 0;
        memory.countdown = (long)allowed + 1;
        sr_status components = sri_pca_compute(points, POINTS, N, KEPT, &pca, NULL);
        memory.countdown = (long)allowed + 1;
        sr_status fitted =
            sri_distill_fit(&lists, targets, TOKENS, DIM, 0.2, rows, NULL, NULL, 0, 0, NULL);
        memory.countdown = 0;
        sri_pca_free(&pca);
        assert_int_equal(memory.held, 0);
        assert_true(components == SR_OK || (components == SR_ERR_NO_MEMORY && allowed < 19));
        assert_true(fitted == SR_OK || (fitted == SR_ERR_NO_MEMORY && allowed < 19));
        assert_true(allowed > 0 || (components != SR_OK && fitted != SR_OK));
        if (fitted != SR_OK) assert_memory_equal(rows, before, sizeof before);
    }
    sr_allocator_set(NULL);
}

static int stop_at_once(void *user, uint64_t done, uint64_t total) {
    (void)total;
    *(uint64_t *)user = done;
    return 1;
}

static void a_fit_can_be_stopped(void **state) {
    (void)state;
    sri_token_lists lists = make_texts();
    uint64_t done = 0;
    sr_error error;
    assert_int_equal(sri_distill_fit(&lists, targets, TOKENS, DIM, 0.2, rows, stop_at_once, &done,
                                     100, 200, &error),
                     SR_ERR_CANCELLED);
    assert_int_equal(done, 101);
}

/* ---- the public function --------------------------------------------------------------------- */

static sr_status distill(const char *model, const char *output, int dimension) {
    sr_error error = {0};
    sr_distill_options options = {.size = sizeof options,
                                  .model = model,
                                  .output = output,
                                  .dimension = dimension,
                                  .threads = 1};
    sr_status code = sr_distill(&options, &error);
    assert_true((code == SR_OK) == (error.message[0] == '\0'));
    return code;
}

static char models[PATH_MAX];

static void what_cannot_be_distilled_is_refused_before_work(void **state) {
    (void)state;
    char teacher[PATH_MAX], fixed[PATH_MAX];
    assert_int_equal(sri_join_path(teacher, sizeof teacher, models, "bge-small-en-v1.5", NULL), 0);
    assert_int_equal(sri_join_path(fixed, sizeof fixed, models, "static-en", NULL), 0);
    const char *free_name = "/tmp/sr-distill-is-never-made";
    assert_int_equal(distill(teacher, NULL, 0), SR_ERR_INVALID);
    assert_int_equal(distill(teacher, models, 0), SR_ERR_INVALID); /* exists */
    assert_int_equal(distill(teacher, free_name, 7), SR_ERR_INVALID);
    assert_int_equal(distill(teacher, free_name, 385), SR_ERR_INVALID);
    assert_int_equal(distill(fixed, free_name, 0), SR_ERR_UNSUPPORTED);
    assert_int_equal(distill("/tmp/sr-there-is-no-such-model", free_name, 0), SR_ERR_NOT_FOUND);
    assert_false(sri_is_directory(free_name));
}

static void a_stopped_distillation_leaves_nothing(void **state) {
    (void)state;
    char teacher[PATH_MAX];
    assert_int_equal(sri_join_path(teacher, sizeof teacher, models, "bge-small-en-v1.5", NULL), 0);
    uint64_t done = 0;
    sr_error error;
    sr_distill_options options = {.size = sizeof options,
                                  .model = teacher,
                                  .output = "/tmp/sr-distill-is-never-made",
                                  .threads = 1,
                                  .progress = stop_at_once,
                                  .progress_user = &done};
    assert_int_equal(sr_distill(&options, &error), SR_ERR_CANCELLED);
    assert_true(done > 0 && done < 30522);
    assert_false(sri_is_directory(options.output));
}

int main(int argc, char **argv) {
    if (sri_join_path(models, sizeof models, argc > 1 ? argv[1] : ".", "models", NULL) != SR_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(components_are_the_axes_of_variance),
        cmocka_unit_test(components_are_orthogonal_and_explain_the_covariance),
        cmocka_unit_test(projection_of_the_mean_is_zero_and_keeps_distances),
        cmocka_unit_test(equal_vectors_have_no_components),
        cmocka_unit_test(a_weak_fit_finds_the_rows_behind_the_targets),
        cmocka_unit_test(a_strong_fit_keeps_the_rows_in_proportion),
        cmocka_unit_test(a_token_without_texts_is_only_scaled),
        cmocka_unit_test(the_solution_is_the_minimum),
        cmocka_unit_test(texts_without_tokens_are_passed_over),
        cmocka_unit_test(memory_may_end_at_any_point),
        cmocka_unit_test(a_fit_can_be_stopped),
        cmocka_unit_test(what_cannot_be_distilled_is_refused_before_work),
        cmocka_unit_test(a_stopped_distillation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
