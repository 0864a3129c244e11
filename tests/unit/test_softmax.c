/*
 * test_softmax.c - the solver finds the optimum, whatever the shape of the problem, with the same bits on any
 * machine; and heads give its logits.
 */
#include "short_memory.h"
#include "unit.h"

#include <math.h>
#include <stdlib.h>

#include "decide/softmax.h"

/* ---- Problems ---------------------------------------------------------------------------------------- */

static uint32_t state_of_random;

static float random_float(void) {
    state_of_random = state_of_random * 1664525u + 1013904223u;
    return (float)(state_of_random >> 16 & 0xFFFF) / 32768.0f - 1.0f;
}

enum { SPARSE_PER_TEXT = 6, BUCKETS = 64 };

static uint32_t buckets_made = BUCKETS;

/* Samples with dense and sparse features that tell something, not all, of their class. */
typedef struct problem {
    size_t n, classes, width;
    float *dense;
    size_t *start;
    sri_weighted_row *entries;
    uint32_t *targets;
    float *weights;
} problem;

static problem make_problem(size_t n, size_t classes, size_t width) {
    problem p = {n, classes, width, NULL, NULL, NULL, NULL, NULL};
    p.dense = malloc(n * width * sizeof *p.dense);
    p.start = malloc((n + 1) * sizeof *p.start);
    p.entries = malloc(n * SPARSE_PER_TEXT * sizeof *p.entries);
    p.targets = malloc(n * sizeof *p.targets);
    p.weights = malloc(n * sizeof *p.weights);
    state_of_random = 7;
    p.start[0] = 0;
    for (size_t i = 0; i < n; i++) {
        p.targets[i] = (uint32_t)(i * i % classes);
        p.weights[i] = 1;
        for (size_t d = 0; d < width; d++)
            p.dense[i * width + d] = random_float() + (d % classes == p.targets[i] ? 0.7f : 0);
        for (size_t e = 0; e < SPARSE_PER_TEXT; e++) {
            uint32_t any =
                (uint32_t)((random_float() + 1) * (float)buckets_made / 2) % buckets_made;
            uint32_t bucket = e < 2 ? p.targets[i] % buckets_made : any;
            p.entries[i * SPARSE_PER_TEXT + e] =
                (sri_weighted_row){bucket, 0.5f + 0.4f * random_float()};
        }
        p.start[i + 1] = (i + 1) * SPARSE_PER_TEXT;
    }
    return p;
}

static void free_problem(problem *p) {
    free(p->dense);
    free(p->start);
    free(p->entries);
    free(p->targets);
    free(p->weights);
}

static sri_softmax_data data_of(const problem *p, bool dense, bool sparse) {
    sri_softmax_data data = {.n = p->n, .classes = p->classes};
    if (dense) data.width = p->width, data.dense = p->dense;
    if (sparse) data.sparse = (sri_sparse_rows){p->start, p->entries, buckets_made, 0, 0};
    return data;
}

static sri_softmax *open_solver(const sri_softmax_data *data, sri_pool *pool,
                                const sri_cpu_level *level) {
    sri_softmax *solver;
    sr_error error;
    assert_int_equal(sri_softmax_open(data, pool, level, &solver, &error), SR_OK);
    return solver;
}

static sri_softmax_head fit_head(const sri_softmax_data *data, const sri_softmax_task *task,
                                 sri_softmax_report *report) {
    sri_softmax *solver = open_solver(data, NULL, NULL);
    sri_softmax_head head;
    sr_error error = {0};
    assert_int_equal(sri_softmax_fit(solver, task, &head, report, &error), SR_OK);
    sri_softmax_close(&solver);
    return head;
}

/* ---- The loss, plainly ---------------------------------------------------------------------------------- */

/* A parameter of a head, numbered: dense, bias, sparse. */
static float *parameter(sri_softmax_head *head, size_t i) {
    size_t dense = head->classes * head->width;
    if (i < dense) return &head->dense[i];
    i -= dense;
    return i < head->classes ? &head->bias[i] : &head->sparse[i - head->classes];
}

static size_t parameters(const sri_softmax_head *head) {
    return head->classes * (head->width + 1 + head->rows);
}

static double logit(const problem *p, const sri_softmax_head *head, size_t i, size_t c) {
    double z = head->bias[c];
    for (size_t d = 0; d < head->width; d++)
        z += (double)head->dense[c * head->width + d] * p->dense[i * p->width + d];
    for (size_t e = p->start[i]; head->rows > 0 && e < p->start[i + 1]; e++)
        for (size_t r = 0; r < head->rows; r++)
            if (head->bucket[r] == p->entries[e].row)
                z += (double)p->entries[e].weight * head->sparse[r * head->classes + c];
    return z;
}

static double square_between(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)a[i] - (b != NULL ? b[i] : 0);
        sum += difference * difference;
    }
    return sum;
}

static double loss_of(const problem *p, const sri_softmax_task *task,
                      const sri_softmax_head *head) {
    double loss = 0, z[256];
    for (size_t i = 0; i < p->n; i++) {
        double highest = -1e300, sum = 0;
        for (size_t c = 0; c < p->classes; c++) {
            z[c] = logit(p, head, i, c);
            highest = fmax(highest, z[c]);
        }
        for (size_t c = 0; c < p->classes; c++) sum += exp(z[c] - highest);
        loss += task->c * p->weights[i] * (highest + log(sum) - z[p->targets[i]]);
    }
    const sri_softmax_head *prior = task->prior;
    loss += 0.5 / (task->dense_scale * task->dense_scale) *
            square_between(head->dense, prior ? prior->dense : NULL, head->classes * head->width);
    loss += 0.5 / (task->sparse_scale * task->sparse_scale) *
            square_between(head->sparse, prior ? prior->sparse : NULL, head->classes * head->rows);
    return loss + 0.5 * task->bias_penalty *
                      square_between(head->bias, prior ? prior->bias : NULL, head->classes);
}

/* At an optimum, the loss is flat in every direction: its differences are the curvature's alone. */
static void expect_optimum(const problem *p, const sri_softmax_task *task, sri_softmax_head *head) {
    double scale = loss_of(p, task, head), largest = 0;
    for (size_t i = 0; i < parameters(head); i++) {
        float *at = parameter(head, i), old = *at;
        *at = old + 1e-2f;
        double above = loss_of(p, task, head);
        *at = old - 1e-2f;
        double slope = (above - loss_of(p, task, head)) / 2e-2;
        *at = old;
        largest = fmax(largest, fabs(slope));
    }
    if (largest > 2e-4 * scale) print_message("# slope %g, loss %g\n", largest, scale);
    assert_true(largest <= 2e-4 * scale);
}

/* ---- The optimum ---------------------------------------------------------------------------------------- */

enum { TOY_N = 60, TOY_WIDTH = 5 };

/* As in tools/make_softmax_goldens.py. */
static void make_toy(float *x, uint32_t *y) {
    uint32_t state = 12345;
    for (size_t i = 0; i < TOY_N; i++) {
        float *row = x + i * TOY_WIDTH;
        for (size_t j = 0; j < TOY_WIDTH; j++) {
            state = state * 1664525u + 1013904223u;
            row[j] = (float)((double)((state >> 16) % 1000) / 500.0 - 1);
        }
        y[i] = row[0] + row[1] > 0.5f ? 0 : row[2] > row[3] ? 1 : 2;
    }
}

static const double golden[3][TOY_WIDTH + 1] = {
    {2.3800973, 2.5484370, 0.0226418, -0.0891643, 0.3491596, -0.4107368},
    {-1.4317779, -0.6371241, 1.4652041, -1.8612541, -0.1108706, 0.1197665},
    {-0.9483194, -1.9113129, -1.4878460, 1.9504184, -0.2382891, 0.2909703},
};

static void expect_golden(double found, double wanted) {
    if (fabs(found - wanted) > 2e-3) print_message("# %g instead of %g\n", found, wanted);
    assert_true(fabs(found - wanted) <= 2e-3);
}

static void it_agrees_with_scikit_learn(void **state) {
    (void)state;
    float x[TOY_N * TOY_WIDTH];
    uint32_t y[TOY_N];
    make_toy(x, y);
    sri_softmax_data data = {.n = TOY_N, .classes = 3, .width = TOY_WIDTH, .dense = x};
    sri_softmax_task task = {.targets = y, .c = 2, .bias_penalty = 1e-6, .tolerance = 1e-9};
    sri_softmax_head head = fit_head(&data, &task, NULL);
    double shift = (head.bias[0] + head.bias[1] + head.bias[2]) / 3.0;
    for (size_t c = 0; c < 3; c++) {
        for (size_t d = 0; d < TOY_WIDTH; d++)
            expect_golden(head.dense[c * TOY_WIDTH + d], golden[c][d]);
        expect_golden(head.bias[c] - shift, golden[c][TOY_WIDTH]);
    }
    sri_softmax_head_free(&head);
}

static void sparse_features_are_features_too(void **state) {
    (void)state;
    float x[TOY_N * TOY_WIDTH];
    uint32_t y[TOY_N];
    make_toy(x, y);
    size_t start[TOY_N + 1] = {0};
    sri_weighted_row entries[TOY_N * TOY_WIDTH];
    for (size_t i = 0; i < TOY_N; i++) {
        start[i + 1] = (i + 1) * TOY_WIDTH;
        for (size_t d = 0; d < TOY_WIDTH; d++) /* in no order, in buckets far apart */
            entries[i * TOY_WIDTH + (d + i) % TOY_WIDTH] =
                (sri_weighted_row){(uint32_t)(90 - 7 * d), x[i * TOY_WIDTH + d]};
    }
    sri_softmax_data data = {.n = TOY_N, .classes = 3, .sparse = {start, entries, 100, 0, 0}};
    sri_softmax_task task = {.targets = y, .c = 2, .bias_penalty = 1e-6, .tolerance = 1e-9};
    sri_softmax_head head = fit_head(&data, &task, NULL);
    assert_int_equal(head.width, 0);
    assert_int_equal(head.rows, TOY_WIDTH);
    for (size_t r = 0; r < TOY_WIDTH; r++) {
        assert_int_equal(head.bucket[r], 90 - 7 * (TOY_WIDTH - 1 - r));
        for (size_t c = 0; c < 3; c++)
            expect_golden(head.sparse[r * 3 + c], golden[c][TOY_WIDTH - 1 - r]);
    }
    sri_softmax_head_free(&head);
}

static void the_gradient_is_zero_at_the_end(void **state) {
    (void)state;
    static const struct {
        size_t n, classes, width;
        bool dense, sparse;
    } cases[] = {{70, 2, 5, true, false},
                 {130, 5, 7, true, true},
                 {64, 17, 3, false, true},
                 {3, 6, 4, true, true},
                 {200, 3, 24, true, false}};
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        problem p = make_problem(cases[i].n, cases[i].classes, cases[i].width);
        for (size_t s = 0; s < p.n; s++) p.weights[s] = 0.25f * (float)(s % 4 + 1);
        sri_softmax_data data = data_of(&p, cases[i].dense, cases[i].sparse);
        sri_softmax_task task = {.targets = p.targets,
                                 .sample_weights = p.weights,
                                 .c = 3,
                                 .dense_scale = 0.8,
                                 .sparse_scale = 1.5,
                                 .bias_penalty = 0.1,
                                 .tolerance = 1e-9};
        sri_softmax_report report;
        sri_softmax_head head = fit_head(&data, &task, &report);
        assert_true(report.converged);
        assert_true(fabs(report.loss / loss_of(&p, &task, &head) - 1) < 1e-5);
        expect_optimum(&p, &task, &head);
        sri_softmax_head_free(&head);
        free_problem(&p);
    }
}

static void a_prior_is_what_little_data_stays_near(void **state) {
    (void)state;
    problem p = make_problem(90, 4, 6);
    sri_softmax_data data = data_of(&p, true, true);
    sri_softmax_task task = {.targets = p.targets,
                             .c = 1,
                             .dense_scale = 1,
                             .sparse_scale = 1,
                             .bias_penalty = 0.1,
                             .tolerance = 1e-9};
    sri_softmax_head prior = fit_head(&data, &task, NULL);
    for (size_t i = 0; i < parameters(&prior); i++) *parameter(&prior, i) += 0.3f * random_float();
    task.prior = &prior;
    sri_softmax_head head = fit_head(&data, &task, NULL);
    expect_optimum(&p, &task, &head);
    sri_softmax_head_free(&head);
    task.c = 1e-9;
    head = fit_head(&data, &task, NULL);
    for (size_t i = 0; i < parameters(&head); i++)
        assert_true(fabsf(*parameter(&head, i) - *parameter(&prior, i)) < 1e-5f);
    sri_softmax_head_free(&head);
    sri_softmax_head_free(&prior);
    free_problem(&p);
}

static void a_good_start_saves_steps(void **state) {
    (void)state;
    problem p = make_problem(500, 5, 20);
    sri_softmax_data data = data_of(&p, true, true);
    sri_softmax_task task = {.targets = p.targets, .c = 5, .tolerance = 1e-6};
    sri_softmax_report cold, warm;
    sri_softmax_head first = fit_head(&data, &task, &cold);
    task.start = &first;
    task.c = 6;
    sri_softmax_head second = fit_head(&data, &task, &warm);
    assert_true(warm.converged && warm.steps < cold.steps);
    sri_softmax_head_free(&first);
    sri_softmax_head_free(&second);
    free_problem(&p);
}

static void weight_zero_leaves_a_sample_out(void **state) {
    (void)state;
    problem p = make_problem(160, 4, 8), part = make_problem(160, 4, 8);
    sri_softmax_data data = data_of(&p, true, true);
    size_t kept = 0;
    for (size_t i = 0; i < p.n; i++) {
        p.weights[i] = i % 5 != 2;
        if (i % 5 == 2) {
            p.targets[i] = 999; /* is not looked at */
            continue;
        }
        memcpy(part.dense + kept * 8, p.dense + i * 8, 8 * sizeof(float));
        memcpy(part.entries + kept * SPARSE_PER_TEXT, p.entries + i * SPARSE_PER_TEXT,
               SPARSE_PER_TEXT * sizeof *p.entries);
        part.targets[kept++] = p.targets[i];
    }
    part.n = kept;
    sri_softmax_data part_data = data_of(&part, true, true);
    sri_softmax_task task = {
        .targets = p.targets, .sample_weights = p.weights, .c = 2, .tolerance = 1e-10};
    sri_softmax_head folded = fit_head(&data, &task, NULL);
    task.targets = part.targets;
    task.sample_weights = NULL;
    sri_softmax_head apart = fit_head(&part_data, &task, NULL);
    assert_int_equal(parameters(&folded), parameters(&apart));
    for (size_t i = 0; i < parameters(&folded); i++)
        assert_true(fabsf(*parameter(&folded, i) - *parameter(&apart, i)) < 5e-3f);
    sri_softmax_head_free(&folded);
    sri_softmax_head_free(&apart);
    free_problem(&p);
    free_problem(&part);
}

/* ---- The same bits ------------------------------------------------------------------------------------------ */

static void expect_same_head(const sri_softmax_head *a, const sri_softmax_head *b) {
    assert_memory_equal(a->bias, b->bias, a->classes * sizeof(float));
    assert_memory_equal(a->dense, b->dense, a->classes * a->width * sizeof(float));
    assert_int_equal(a->rows, b->rows);
    assert_memory_equal(a->sparse, b->sparse, a->rows * a->classes * sizeof(float));
}

static void expect_same_bits(size_t n, size_t classes, size_t width, bool dense, bool sparse) {
    problem p = make_problem(n, classes, width);
    sri_softmax_data data = data_of(&p, dense, sparse);
    sri_softmax_task task = {.targets = p.targets, .c = 3, .max_steps = 12, .tolerance = 1e-9};
    const sri_cpu_level levels[] = {SRI_CPU_REF, SRI_CPU_AVX2, sri_cpu_best()};
    static const int threads[] = {1, 2, 5};
    sri_softmax_head first = {0};
    float *logits = malloc(2 * n * classes * sizeof *logits);
    for (size_t l = 0; l < 3; l++)
        for (size_t t = 0; t < 3; t++) {
            if (!sri_cpu_has(levels[l])) {
                print_message("# SKIPPED: no %s\n", sri_cpu_level_name(levels[l]));
                continue;
            }
            sri_pool *pool;
            assert_int_equal(sri_pool_open(threads[t], &pool, NULL), SR_OK);
            sri_softmax *solver = open_solver(&data, pool, &levels[l]);
            sri_softmax_head head;
            assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, NULL), SR_OK);
            bool begun = first.classes > 0;
            assert_int_equal(sri_softmax_logits(solver, begun ? &first : &head,
                                                logits + (begun ? n * classes : 0), NULL),
                             SR_OK);
            if (begun) {
                expect_same_head(&first, &head);
                assert_memory_equal(logits, logits + n * classes, n * classes * sizeof *logits);
                sri_softmax_head_free(&head);
            } else {
                first = head;
            }
            sri_softmax_close(&solver);
            sri_pool_close(&pool);
        }
    sri_softmax_head_free(&first);
    free(logits);
    free_problem(&p);
}

static void threads_and_levels_give_the_same_bits(void **state) {
    (void)state;
    expect_same_bits(300, 7, 21, true, true);
    expect_same_bits(4161, 5, 19, true, true); /* large blocks, the last nearly empty */
    expect_same_bits(150, 33, 5, false, true);
    expect_same_bits(130, 2, 24, true, false);
    buckets_made = 512; /* so many parameters that threads share each vector */
    expect_same_bits(300, 700, 3, true, true);
    buckets_made = BUCKETS;
}

/* ---- Shapes ------------------------------------------------------------------------------------------------- */

static void odd_tables_are_fitted(void **state) {
    (void)state;
    problem p = make_problem(40, 4, 6);
    sri_softmax_task task = {.targets = p.targets, .sample_weights = p.weights, .c = 10};
    sri_softmax_data data = data_of(&p, true, true);
    sri_softmax_report report;

    for (size_t i = 0; i < p.n; i++) p.weights[i] = 0;
    sri_softmax_head head = fit_head(&data, &task, &report);
    for (size_t i = 0; i < parameters(&head); i++) assert_true(*parameter(&head, i) == 0);
    sri_softmax_head_free(&head);

    for (size_t i = 0; i < p.n; i++) p.weights[i] = p.targets[i] != 1; /* a class without samples */
    head = fit_head(&data, &task, &report);
    assert_true(report.converged);
    for (size_t c = 0; c < 4; c++) assert_true(isfinite(head.bias[c]));
    assert_true(head.bias[1] < head.bias[0]);
    sri_softmax_head_free(&head);

    for (size_t i = 0; i < p.n; i++) { /* 39 of one, 1 of another */
        p.weights[i] = 1;
        p.targets[i] = i == 5 ? 3 : 2;
    }
    head = fit_head(&data, &task, &report);
    assert_true(report.converged);
    assert_true(logit(&p, &head, 5, 3) > logit(&p, &head, 5, 2));
    sri_softmax_head_free(&head);

    data.classes = 1;
    memset(p.targets, 0, p.n * sizeof *p.targets);
    head = fit_head(&data, &task, &report);
    assert_true(report.converged);
    assert_int_equal(head.classes, 1);
    sri_softmax_head_free(&head);

    data.n = 1;
    data.classes = 3;
    head = fit_head(&data, &task, &report);
    assert_true(logit(&p, &head, 0, 0) > logit(&p, &head, 0, 1));
    sri_softmax_head_free(&head);
    free_problem(&p);
}

static void rare_buckets_can_be_left_out(void **state) {
    (void)state;
    size_t start[] = {0, 2, 4, 6};
    sri_weighted_row entries[] = {{5, 1}, {9, 1}, {5, 1}, {2, 0.5f}, {9, 1}, {9, 1}};
    uint32_t targets[] = {0, 1, 0};
    sri_softmax_data data = {.n = 3, .classes = 2, .sparse = {start, entries, 16, 2, 0}};
    sri_softmax_task task = {.targets = targets};
    sri_softmax_head head = fit_head(&data, &task, NULL);
    assert_int_equal(head.rows, 2); /* 2 is in one text; 9 is in two, though three times */
    assert_int_equal(head.bucket[0], 5);
    assert_int_equal(head.bucket[1], 9);
    sri_softmax_head_free(&head);
}

/* Room for so many: those that the fewest texts have go first, and of equals all or none. */
static void a_head_has_room_for_so_many_buckets(void **state) {
    (void)state;
    size_t start[] = {0, 3, 5, 7, 8};
    sri_weighted_row entries[] = {{5, 1}, {9, 1}, {2, 1}, {5, 1}, {7, 1}, {5, 1}, {7, 1}, {5, 1}};
    uint32_t targets[] = {0, 1, 0, 1};
    static const size_t rooms[][2] = {{0, 4}, {4, 4}, {3, 2}, {2, 2}, {1, 1}};
    sri_softmax_task task = {.targets = targets};
    for (size_t i = 0; i < SRI_COUNT(rooms); i++) {
        sri_softmax_data data = {
            .n = 4, .classes = 2, .sparse = {start, entries, 16, 1, rooms[i][0]}};
        sri_softmax_head head = fit_head(&data, &task, NULL);
        assert_int_equal(head.rows, rooms[i][1]);
        bool most = false; /* 5, which all texts have, stays the longest */
        for (size_t r = 0; r < head.rows; r++) most = most || head.bucket[r] == 5;
        assert_true(most);
        sri_softmax_head_free(&head);
    }
    size_t pairs[] = {0, 2, 4, 5, 6};
    sri_weighted_row alike[] = {{5, 1}, {9, 1}, {5, 1}, {9, 1}, {2, 1}, {3, 1}};
    sri_softmax_data data = {.n = 4, .classes = 2, .sparse = {pairs, alike, 16, 2, 1}};
    sri_softmax_head head = fit_head(&data, &task, NULL);
    assert_int_equal(head.rows, 0); /* nothing but the bias is learned */
    assert_true(isfinite(head.bias[0]) && isfinite(head.bias[1]));
    sri_softmax_head_free(&head);
}

/* ---- What goes wrong ---------------------------------------------------------------------------------------- */

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    problem p = make_problem(20, 3, 4);
    sri_softmax_data data = data_of(&p, true, true), wrong = data;
    sri_softmax *solver;
    sr_error error;
    wrong.n = 0;
    assert_int_equal(sri_softmax_open(&wrong, NULL, NULL, &solver, &error), SR_ERR_INVALID);
    wrong = data;
    wrong.sparse.buckets = 3;
    assert_int_equal(sri_softmax_open(&wrong, NULL, NULL, &solver, &error), SR_ERR_INVALID);
    wrong = (sri_softmax_data){.n = 5, .classes = 2};
    assert_int_equal(sri_softmax_open(&wrong, NULL, NULL, &solver, &error), SR_ERR_INVALID);
    assert_null(solver);

    solver = open_solver(&data, NULL, NULL);
    sri_softmax_task task = {.targets = p.targets, .sample_weights = p.weights};
    sri_softmax_head head, other = {.classes = 2};
    p.targets[7] = 3;
    assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "sample 7"));
    p.targets[7] = 0;
    p.weights[2] = NAN;
    assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, &error), SR_ERR_INVALID);
    p.weights[2] = 1;
    task.start = &other;
    assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, &error), SR_ERR_INVALID);
    sri_softmax_close(&solver);

    task.start = NULL;
    p.dense[3] = NAN;
    solver = open_solver(&data, NULL, NULL);
    assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, &error), SR_ERR_INVALID);
    assert_null(head.dense);
    sri_softmax_close(&solver);
    free_problem(&p);
}

static int stop_at_third(void *user, uint64_t done, uint64_t total) {
    assert_int_equal(total, 50);
    *(uint64_t *)user = done;
    return done == 3;
}

static void a_fit_can_be_stopped(void **state) {
    (void)state;
    problem p = make_problem(300, 5, 10);
    sri_softmax_data data = data_of(&p, true, true);
    sri_softmax *solver = open_solver(&data, NULL, NULL);
    uint64_t last = 0;
    sri_softmax_task task = {.targets = p.targets,
                             .max_steps = 50,
                             .tolerance = 1e-9,
                             .progress = stop_at_third,
                             .progress_user = &last};
    sri_softmax_head head;
    assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, NULL), SR_ERR_CANCELLED);
    assert_int_equal(last, 3);
    assert_null(head.bias);
    sri_softmax_close(&solver);
    free_problem(&p);
}

static bool all_at_once(const problem *p) {
    sri_softmax_data data = data_of(p, true, true);
    sri_softmax_task task = {.targets = p->targets, .max_steps = 2};
    sri_softmax *solver = NULL;
    sri_softmax_head head = {0};
    sri_dense_head dense = {0};
    sri_sparse_head sparse = {0};
    float logits[100 * 3];
    bool ok = sri_softmax_open(&data, NULL, NULL, &solver, NULL) == SR_OK &&
              sri_softmax_fit(solver, &task, &head, NULL, NULL) == SR_OK &&
              sri_softmax_logits(solver, &head, logits, NULL) == SR_OK &&
              sri_dense_head_make(&head, &dense) &&
              sri_sparse_head_make(&head, BUCKETS, false, &sparse);
    sri_dense_head_free(&dense);
    sri_sparse_head_free(&sparse);
    sri_softmax_head_free(&head);
    sri_softmax_close(&solver);
    return ok;
}

static void short_memory_is_survived(void **state) {
    (void)state;
    problem p = make_problem(100, 3, 5);
    sr_allocator failing = {take, change, release, NULL};
    sr_allocator_set(&failing);
    long ordeal = 0;
    for (bool done = false; !done;) {
        memory.countdown = ++ordeal;
        done = all_at_once(&p);
        assert_int_equal(memory.held, 0);
    }
    sr_allocator_set(NULL);
    assert_true(ordeal > 30);
    free_problem(&p);
}

/* ---- Heads ---------------------------------------------------------------------------------------------------- */

static void heads_give_the_solvers_logits(void **state) {
    (void)state;
    problem p = make_problem(120, 21, 24);
    sri_softmax_data data = data_of(&p, true, true);
    sri_softmax_task task = {.targets = p.targets, .c = 10};
    sri_softmax *solver = open_solver(&data, NULL, NULL);
    sri_softmax_head head;
    assert_int_equal(sri_softmax_fit(solver, &task, &head, NULL, NULL), SR_OK);
    float *own = malloc(p.n * 21 * sizeof *own), *dense = malloc(p.n * 21 * sizeof *dense);
    assert_int_equal(sri_softmax_logits(solver, &head, own, NULL), SR_OK);
    sri_dense_head for_dense;
    sri_sparse_head for_sparse;
    assert_true(sri_dense_head_make(&head, &for_dense));
    assert_true(sri_sparse_head_make(&head, BUCKETS, false, &for_sparse));
    assert_int_equal(for_sparse.stride, 32);
    sri_dense_head_logits(&for_dense, p.dense, p.n, dense);
    for (size_t i = 0; i < p.n; i++) {
        float alone[21], sparse[32];
        sri_dense_head_logits(&for_dense, p.dense + i * p.width, 1, alone);
        assert_memory_equal(alone, dense + i * 21, sizeof alone);
        sri_sparse_head_logits(&for_sparse, p.entries + p.start[i], SPARSE_PER_TEXT, sparse);
        for (size_t c = 0; c < 21; c++)
            assert_true(fabsf(alone[c] + sparse[c] - own[i * 21 + c]) < 0.05f);
    }
    sri_dense_head_free(&for_dense);
    sri_sparse_head_free(&for_sparse);
    sri_softmax_head_free(&head);
    sri_softmax_close(&solver);
    free(own);
    free(dense);
    free_problem(&p);
}

static void a_sparse_head_knows_only_its_buckets(void **state) {
    (void)state;
    float bias[2] = {0.5f, -0.5f}, rows[4] = {2.0f, -1.0f, 0.0f, 0.0f};
    uint32_t buckets[2] = {3, 5};
    sri_softmax_head head = {
        .classes = 2, .bias = bias, .rows = 2, .bucket = buckets, .sparse = rows};
    sri_sparse_head sparse;
    assert_true(sri_sparse_head_make(&head, 8, true, &sparse));
    sri_weighted_row list[] = {{1, 9.0f}, {3, 0.5f}, {5, 4.0f}, {7, 1.0f}};
    float logits[16];
    sri_sparse_head_logits(&sparse, list, 4, logits);
    assert_true(fabsf(logits[0] - 1.5f) < 1e-6f);
    assert_true(fabsf(logits[1] + 1.0f) < 0.01f);
    sri_sparse_head_free(&sparse);
}

static void probabilities_are_probabilities(void **state) {
    (void)state;
    float logits[2 * 19], old[2 * 19];
    for (size_t i = 0; i < SRI_COUNT(logits); i++) old[i] = logits[i] = 40 * random_float();
    logits[19 + 4] = old[19 + 4] = 500;
    sri_softmax_rows(logits, 2, 19, 0.5f);
    for (size_t i = 0; i < 2; i++) {
        double sum = 0, wanted = 0;
        for (size_t c = 0; c < 19; c++) {
            sum += logits[i * 19 + c];
            wanted += exp(0.5 * ((double)old[i * 19 + c] - old[i * 19 + 4]));
        }
        assert_true(fabs(sum - 1) < 1e-6);
        assert_true(fabs(logits[i * 19 + 4] * wanted - 1) < 1e-5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees_with_scikit_learn),
        cmocka_unit_test(sparse_features_are_features_too),
        cmocka_unit_test(the_gradient_is_zero_at_the_end),
        cmocka_unit_test(a_prior_is_what_little_data_stays_near),
        cmocka_unit_test(a_good_start_saves_steps),
        cmocka_unit_test(weight_zero_leaves_a_sample_out),
        cmocka_unit_test(threads_and_levels_give_the_same_bits),
        cmocka_unit_test(odd_tables_are_fitted),
        cmocka_unit_test(rare_buckets_can_be_left_out),
        cmocka_unit_test(a_head_has_room_for_so_many_buckets),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(a_fit_can_be_stopped),
        cmocka_unit_test(short_memory_is_survived),
        cmocka_unit_test(heads_give_the_solvers_logits),
        cmocka_unit_test(a_sparse_head_knows_only_its_buckets),
        cmocka_unit_test(probabilities_are_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
