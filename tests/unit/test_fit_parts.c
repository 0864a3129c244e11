/*
 * test_fit_parts.c - what a fit is put together from: names as texts, folds, centres, logistic regression,
 * stacking, weighing.
 */
#include "fit_table.h"

static sr_encoder *model;
static uint32_t state_of_random;

static double random_number(void) { /* from -1 to 1 */
    state_of_random = state_of_random * 1664525u + 1013904223u;
    return (double)(state_of_random >> 8) / 8388608.0 - 1;
}

/* ---- Names ------------------------------------------------------------------------------------------------- */

static void names_become_texts(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"card_arrival", "card arrival"},
        {"cardArrival", "card Arrival"},
        {"a-b.c/d:e", "a b c d e"},
        {"order66Executed", "order66 Executed"},
        {"ABC", "ABC"},
        {"HTTPServer", "HTTPServer"},
        {"plain text", "plain text"},
        {"_x_", " x "},
        {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9"},
        {"", ""},
        {"a", "a"},
    };
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        sri_buffer out = {0};
        assert_true(sri_buffer_append(&out, ">", 1));
        assert_true(sri_fit_name_text(sr_str_of(cases[i][0]), &out));
        assert_int_equal(out.len, 1 + strlen(cases[i][1]));
        assert_memory_equal(out.data + 1, cases[i][1], out.len - 1);
        sri_buffer_free(&out);
    }
}

/* ---- Samples ----------------------------------------------------------------------------------------------- */

static sri_samples open_samples(bench *b) {
    sri_samples s;
    sr_error error;
    ready_bench(b, NULL);
    if (sri_samples_open(&b->table, &s, &error) != SR_OK) fail_msg("%s", error.message);
    return s;
}

/* What says nearly the same is in one fold; so folds are only roughly alike. */
static void expect_even_folds(const sri_samples *s) {
    size_t all[SRI_FIT_FOLDS] = {0};
    for (uint32_t r = 0; r < s->routes; r++) {
        size_t of[SRI_FIT_FOLDS] = {0}, used = 0;
        for (size_t i = 0; i < s->table; i++)
            if (s->targets[i] == r) of[s->folds[i]]++, all[s->folds[i]]++;
        for (size_t f = 0; f < SRI_FIT_FOLDS; f++) used += of[f] > 0;
        assert_true(used >= SRI_MIN((size_t)s->counts[r], (size_t)3));
    }
    for (size_t f = 0; f < SRI_FIT_FOLDS;
         f++) /* also where routes are smaller than folds are many */
        assert_true(all[f] * SRI_FIT_FOLDS * 2 >= s->table - s->oos);
}

static void twins_share_a_fold(void **state) {
    (void)state;
    bench b = theme_bench(model, NULL, 4, 10);
    size_t n = b.utterances.count;
    for (size_t i = 0; i < n; i++) {
        char loud[200];
        snprintf(loud, sizeof loud, "%.*s!", (int)b.utterances.list[i].len,
                 b.utterances.list[i].data);
        for (char *c = loud; *c != 0; c++) *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        add_bytes(&b.utterances, loud, strlen(loud), b.utterances.routes[i]);
    }
    sri_samples s = open_samples(&b);
    size_t together = 0;
    for (size_t i = 0; i < n; i++) together += s.folds[i] == s.folds[n + i];
    assert_true(together * 10 >= n * 9); /* chance would give a fifth */
    sri_samples_close(&s);
    close_bench(&b);
}

static void folds_are_even(void **state) {
    (void)state;
    for (size_t each = 3; each <= EACH; each += 2) {
        bench b = theme_bench(model, NULL, THEMES, each);
        for (size_t i = 0; i < 7; i++) add_text(&b.utterances, strangers[i], NO_ROUTE);
        sri_samples s = open_samples(&b);
        assert_int_equal(s.oos, 7);
        assert_int_equal(s.classes, THEMES);
        expect_even_folds(&s);
        size_t oos[SRI_FIT_FOLDS] = {0};
        for (size_t i = 0; i < s.table; i++)
            if (s.targets[i] == NO_ROUTE) oos[s.folds[i]]++;
        for (size_t f = 0; f < SRI_FIT_FOLDS; f++) assert_true(oos[f] < 7);
        sri_samples_close(&s);
        close_bench(&b);
    }
}

static void folds_do_not_depend_on_order(void **state) {
    (void)state;
    bench one = theme_bench(model, NULL, THEMES, EACH), other = open_bench(model, NULL, THEMES);
    size_t n = one.utterances.count;
    for (size_t i = 0; i < n; i++) {
        size_t at = i * 37 % n; /* n is 104 */
        add_bytes(&other.utterances, one.utterances.list[at].data, one.utterances.list[at].len,
                  one.utterances.routes[at]);
    }
    sri_samples a = open_samples(&one), b = open_samples(&other);
    for (size_t i = 0; i < n; i++) assert_int_equal(a.folds[i * 37 % n], b.folds[i]);
    sri_samples_close(&a);
    sri_samples_close(&b);
    close_bench(&one);
    close_bench(&other);
}

static void samples_are_in_order(void **state) {
    (void)state;
    bench b = theme_bench(model, model, 3, 6);
    for (size_t i = 0; i < 10; i++) add_text(&b.utterances, strangers[i], NO_ROUTE);
    add_theme(&b.labelled, 1, true, 2, 1);
    add_text(&b.labelled, strangers[11], NO_ROUTE);
    sri_samples s = open_samples(&b);
    assert_int_equal(s.table, 28);
    assert_int_equal(s.named, 31);
    size_t labelled = 31 + sri_fit_strangers();
    assert_int_equal(s.known, labelled);
    assert_int_equal(s.n, labelled + 3);
    assert_int_equal(s.classes, 4); /* ten examples are enough for a class of their own */
    assert_int_equal(s.counts[2], 6);
    assert_true(sri_str_equal(s.texts[29], sr_str_of("exchange Rate")));
    assert_int_equal(s.targets[29], 1);
    assert_int_equal(s.targets[31], NO_ROUTE); /* a stranger */
    assert_int_equal(s.targets[labelled + 2], NO_ROUTE);
    assert_memory_equal(s.vectors + labelled * 256, b.labelled.vectors, 256 * sizeof(float));
    assert_memory_equal(s.fast_vectors + labelled * 256, b.labelled.vectors, 256 * sizeof(float));
    for (size_t i = 0; i < s.n; i++) {
        assert_true(s.coverage[i] >= 0 && s.coverage[i] <= 1);
        assert_true(s.start[i + 1] > s.start[i]);
    }
    assert_true(s.coverage[labelled] > s.coverage[labelled + 2]);
    sri_samples_close(&s);
    close_bench(&b);
}

/* A text is not its own evidence: neither is it among the hits, nor are others of its fold. */
static void held_out_texts_do_not_see_their_fold(void **state) {
    (void)state;
    bench b = theme_bench(model, NULL, 4, 10);
    for (size_t i = 0; i < 40; i++) { /* each text twice */
        sr_str text = b.utterances.list[i];
        if (i % 2 == 0) add_bytes(&b.utterances, text.data, text.len, b.utterances.routes[i]);
    }
    sri_pool *pool;
    assert_int_equal(sri_pool_open(2, &pool, NULL), SR_OK);
    sri_samples s = open_samples(&b);
    sri_trainer trainer;
    sri_held held;
    sri_heads heads;
    sri_progress progress = {0};
    assert_int_equal(sri_trainer_open(&s, pool, &trainer, NULL), SR_OK);
    assert_int_equal(sri_trainer_fit(&trainer, 2, NULL, &progress, &heads, NULL), SR_OK);
    uint32_t wanted[60];
    size_t count = 0;
    for (uint32_t i = 0; i < s.table; i++)
        if (s.folds[i] == 2) wanted[count++] = i;
    assert_true(count >= 8);
    assert_int_equal(sri_held_open(s.classes, count, &held, NULL), SR_OK);
    assert_int_equal(sri_held_add(&held, &trainer, &heads, 2, wanted, count, NULL), SR_OK);
    assert_int_equal(held.n, count);
    for (size_t i = 0; i < count; i++) {
        float best[4] = {-2, -2, -2, -2};
        for (size_t j = 0; j < s.table; j++) {
            float cosine;
            if (s.folds[j] == 2) continue;
            sri_kernels_get()->dots(s.vectors + wanted[i] * 256, 1, s.vectors + j * 256, 1, 256,
                                    &cosine);
            best[s.targets[j]] = SRI_MAX(best[s.targets[j]], cosine);
        }
        const sri_evidence *evidence = &held.evidence[i];
        assert_int_equal(evidence->hit_count, 4);
        for (size_t h = 0; h < 4; h++) {
            assert_true(evidence->hits[h].cosine == best[evidence->hits[h].route]);
            if (h > 0) assert_true(evidence->hits[h].cosine <= evidence->hits[h - 1].cosine);
        }
        assert_true(evidence->oos_cosine == -1);
    }
    /* Nor do the heads: other labels in the fold change nothing. */
    sri_heads others;
    for (size_t i = 0; i < count; i++) trainer.targets[wanted[i]] ^= 1;
    assert_int_equal(sri_trainer_fit(&trainer, 2, NULL, &progress, &others, NULL), SR_OK);
    assert_memory_equal(heads.of[SRI_HEAD_VECTOR].dense, others.of[SRI_HEAD_VECTOR].dense,
                        256 * 4 * sizeof(float));
    assert_int_equal(heads.of[SRI_HEAD_FAST].rows, others.of[SRI_HEAD_FAST].rows);
    assert_memory_equal(heads.of[SRI_HEAD_FAST].sparse, others.of[SRI_HEAD_FAST].sparse,
                        heads.of[SRI_HEAD_FAST].rows * 4 * sizeof(float));
    sri_heads_free(&others);
    sri_heads_free(&heads);
    sri_held_close(&held);
    sri_trainer_close(&trainer);
    sri_samples_close(&s);
    sri_pool_close(&pool);
    close_bench(&b);
}

/* ---- Centres ----------------------------------------------------------------------------------------------- */

#define AXES ((size_t)8)

/* Samples of routes whose vectors point along an axis or between two; static vectors are the same. */
typedef struct points {
    uint32_t targets[40];
    uint8_t folds[40];
    float vectors[40 * AXES];
    sri_samples s;
} points;

static void add_point(points *p, uint32_t route, uint8_t fold, float x, float y, size_t axis) {
    size_t i = p->s.table++;
    float *v = p->vectors + i * AXES, length = sqrtf(x * x + y * y);
    memset(v, 0, AXES * sizeof *v);
    v[axis] = x / length;
    v[axis + 1] = y / length;
    p->targets[i] = route;
    p->folds[i] = fold;
}

static sri_centres centres_of(points *p, size_t routes, unsigned fold) {
    p->s.routes = routes;
    p->s.dimension = p->s.fast_dimension = AXES;
    p->s.named = p->s.table;
    p->s.targets = p->targets;
    p->s.folds = p->folds;
    p->s.vectors = p->s.fast_vectors = p->vectors;
    sri_centres centres;
    assert_true(sri_centres_make(&p->s, fold, &centres));
    return centres;
}

static float fast_cosine(const sri_centres *c, uint32_t route, float x, float y, size_t axis) {
    points one = {0};
    add_point(&one, 0, 0, x, y, axis);
    return sri_centres_fast(c, one.vectors, route);
}

/* A route that is asked for in several ways: all are near, and what lies between is not. */
static void texts_gather_around_prototypes(void **state) {
    (void)state;
    points p = {0};
    for (int i = -9; i < 9; i++) {
        float off = 0.02f * (float)i;
        if (i % 2 == 0)
            add_point(&p, 0, 1, 1, off, 0);
        else
            add_point(&p, 0, 1, off, 1, 0);
    }
    add_point(&p, 0, 1, 0.02f, 1, 1);
    for (int i = 0; i < 3; i++) add_point(&p, 1, 1, 1, 0.01f * (float)i, 4);
    sri_centres c = centres_of(&p, 2, 0);
    assert_true(fast_cosine(&c, 0, 1, 0.01f, 0) > 0.99f);
    assert_true(fast_cosine(&c, 0, 0.01f, 1, 1) > 0.99f); /* asked for once */
    assert_true(fast_cosine(&c, 0, 0.01f, 1, 0) > 0.99f);
    assert_true(fast_cosine(&c, 0, 1, 1, 0) < 0.85f);
    assert_true(fast_cosine(&c, 0, 1, 0, 4) < 0.01f);
    assert_true(fast_cosine(&c, 1, 1, 0, 4) > 0.99f);
    assert_true(fast_cosine(&c, 1, 1, 0, 0) < 0.01f);
    sri_centres_free(&c);
}

static void a_fold_left_out_is_not_gathered_around(void **state) {
    (void)state;
    points p = {0};
    for (int i = 0; i < 12; i++) add_point(&p, 0, 1, 1, 0.01f * (float)i, 0);
    add_point(&p, 0, 3, 1, 0, 4);
    sri_centres with = centres_of(&p, 1, 0), without = centres_of(&p, 1, 3);
    assert_true(fast_cosine(&with, 0, 1, 0, 4) > 0.99f);
    assert_true(fast_cosine(&without, 0, 1, 0, 4) < 0.01f);
    sri_centres_free(&with);
    sri_centres_free(&without);
}

/* What all texts of a table have in common is no nearness to any of its routes. */
static void what_routes_share_says_nothing(void **state) {
    (void)state;
    points p = {0};
    for (uint32_t r = 0; r < 6; r++) {
        add_point(&p, r, 1, 1, 0, 0);
        p.vectors[r * AXES + 1 + r] = 0.1f + 0.05f * (float)r;
    }
    sri_centres c = centres_of(&p, 6, 0);
    for (uint32_t r = 0; r < 6; r++) {
        assert_true(fabsf(sri_centres_fast(&c, p.vectors + r * AXES, r) - 1) < 1e-5f);
        /* Their cosine is 0.9 and more. */
        assert_true(sri_centres_fast(&c, p.vectors + r * AXES, (r + 1) % 6) < 0.5f);
    }
    sri_centres_free(&c);
}

/* The same cosine says more of a route whose texts vary than of one whose texts are all alike. */
static void a_varied_route_is_near_from_farther_off(void **state) {
    (void)state;
    points p = {0};
    for (int i = 0; i < 4; i++) add_point(&p, 0, 1, 1, 0, 0);
    for (int i = 0; i < 4; i++) add_point(&p, 1, 1, 1, i % 2 == 0 ? 1.0f : -1.0f, 4);
    sri_centres c = centres_of(&p, 2, 0);
    const float alike[2] = {0.8f, 0.1f}, varied[2] = {0.1f, 0.8f};
    assert_true(fabsf(c.usual[0] - 1) < 1e-6f && fabsf(c.usual[1] - 0.70710678f) < 1e-6f);
    assert_true(sri_centres_slow(&c, varied, 0, 2, NULL) >
                sri_centres_slow(&c, alike, 0, 2, NULL) + 0.1f);
    const uint8_t first[2] = {1, 0};
    assert_true(sri_centres_slow(&c, varied, 0, 2, first) <
                sri_centres_slow(&c, alike, 0, 2, first));
    /* A part of the routes is compared with its own. */
    assert_true(sri_centres_slow(&c, varied + 1, 1, 1, NULL) ==
                sri_centres_slow(&c, varied, 0, 2, NULL));
    sri_centres_free(&c);
}

/* Fewer routes than prototypes, and none: nothing but numbers comes out. */
static void a_route_without_texts_has_no_centre(void **state) {
    (void)state;
    points p = {0};
    add_point(&p, 0, 1, 1, 0, 0);
    sri_centres c = centres_of(&p, 2, 0);
    const float cosines[2] = {0.5f, 0};
    assert_true(fast_cosine(&c, 1, 1, 0, 0) == 0);
    assert_true(fast_cosine(&c, 0, 1, 0, 0) > 0.99f);
    assert_true(c.usual[1] == 0 && isfinite(sri_centres_slow(&c, cosines, 0, 2, NULL)));
    sri_centres_free(&c);
}

/* ---- Logistic regression ----------------------------------------------------------------------------------- */

#define N     60
#define WIDTH 4

typedef struct regression {
    double x[N * WIDTH], weights[N];
    uint8_t labels[N];
    sri_logit prior;
    double strength;
} regression;

static regression make_regression(void) {
    regression r = {.prior = {.bias = 0.5, .weight = {1, -1, 0.25, 0}}, .strength = 0.7};
    state_of_random = 5;
    for (size_t i = 0; i < N; i++) {
        double score = 0.4;
        for (size_t j = 0; j < WIDTH; j++) {
            r.x[i * WIDTH + j] = 2 * random_number();
            score += (double)(j + 1) * 0.5 * r.x[i * WIDTH + j];
        }
        r.labels[i] = score + 2 * random_number() > 0;
        r.weights[i] = 1 + random_number();
    }
    return r;
}

static double loss_of(const regression *r, const sri_logit *model_of) {
    double away = model_of->bias - r->prior.bias, loss = r->strength / 8 * away * away;
    for (size_t j = 0; j < WIDTH; j++) {
        away = model_of->weight[j] - r->prior.weight[j];
        loss += r->strength / 2 * away * away;
    }
    for (size_t i = 0; i < N; i++) {
        double p = 1 / (1 + exp(-sri_logit_score(model_of, r->x + i * WIDTH, WIDTH)));
        loss -= r->weights[i] * log(r->labels[i] ? p : 1 - p);
    }
    return loss;
}

static void a_regression_ends_at_the_least_loss(void **state) {
    (void)state;
    regression r = make_regression();
    sri_logit_data data = {N, WIDTH, r.x, r.labels, r.weights};
    sri_logit found;
    sri_logit_fit(&data, &r.prior, r.strength, &found);
    double least = loss_of(&r, &found);
    assert_true(least < loss_of(&r, &r.prior));
    for (size_t j = 0; j <= WIDTH; j++)
        for (int sign = -1; sign <= 1; sign += 2) {
            sri_logit other = found;
            *(j == WIDTH ? &other.bias : &other.weight[j]) += sign * 1e-3;
            assert_true(loss_of(&r, &other) > least);
        }
}

static void a_bias_alone_is_the_log_odds(void **state) {
    (void)state;
    uint8_t labels[10] = {1, 1, 1, 1, 1, 1, 1, 0, 0, 1};
    double weights[10] = {1, 1, 1, 1, 1, 1, 1, 1, 3, 4}; /* 11 against 4 */
    sri_logit prior = {0}, found;
    sri_logit_data data = {10, 0, weights, labels, weights}; /* no features: any address */
    sri_logit_fit(&data, &prior, 1e-9, &found);
    assert_true(fabs(found.bias - log(11.0 / 4)) < 1e-4);
    assert_true(fabs(sri_logistic(found.bias) - 11.0 / 15) < 1e-4);
}

static void without_evidence_the_prior_stays(void **state) {
    (void)state;
    regression r = make_regression();
    sri_logit_data none = {0, WIDTH, NULL, NULL, NULL}, all = {N, WIDTH, r.x, r.labels, r.weights};
    sri_logit found;
    sri_logit_fit(&none, &r.prior, 1, &found);
    assert_memory_equal(&found, &r.prior, sizeof found);
    sri_logit_fit(&all, &r.prior, 1e9, &found);
    for (size_t j = 0; j < WIDTH; j++)
        assert_true(fabs(found.weight[j] - r.prior.weight[j]) < 1e-5);
    assert_true(fabs(found.bias - r.prior.bias) < 1e-5);
}

static void separable_samples_stay_finite(void **state) {
    (void)state;
    double x[6] = {-1e3, -2, -1, 1, 2, 1e3}, weights[6] = {1, 1, 1, 1, 1, 1};
    uint8_t labels[6] = {0, 0, 0, 1, 1, 1};
    sri_logit prior = {0}, found;
    sri_logit_data data = {6, 1, x, labels, weights};
    sri_logit_fit(&data, &prior, 0.1, &found);
    assert_true(found.weight[0] > 1 && found.weight[0] < 20 && fabs(found.bias) < 1);
    assert_true(sri_logistic(800) == 1 && sri_logistic(-800) >= 0 && sri_logistic(0) == 0.5);
}

/* Scores that a model gives are matched by that model; without samples the prior stays. */
static void scores_are_matched(void **state) {
    (void)state;
    regression r = make_regression();
    sri_logit wanted = {.bias = -1.5}, found;
    for (size_t j = 0; j < WIDTH; j++) wanted.weight[j] = 0.25 * (double)j - 0.3;
    double scores[N];
    for (size_t i = 0; i < N; i++) scores[i] = sri_logit_score(&wanted, r.x + i * WIDTH, WIDTH);
    sri_logit_data data = {N, WIDTH, r.x, r.labels, r.weights}, none = {.width = WIDTH};
    sri_logit_match(&data, scores, &r.prior, 1e-6, &found);
    for (size_t j = 0; j < WIDTH; j++) assert_true(fabs(found.weight[j] - wanted.weight[j]) < 1e-5);
    assert_true(fabs(found.bias - wanted.bias) < 1e-5);
    sri_logit_match(&data, scores, &r.prior, 1e9, &found);
    assert_true(fabs(found.weight[0] - r.prior.weight[0]) < 1e-3);
    sri_logit_match(&none, NULL, &r.prior, 1, &found);
    assert_memory_equal(&found, &r.prior, sizeof found);
}

/* ---- Stacking ---------------------------------------------------------------------------------------------- */

#define ROUTES 5
#define TEXTS  300

typedef struct experts {
    float scores[SRI_STACK][TEXTS * (ROUTES + 2)];
    uint32_t rows[TEXTS], rights[TEXTS];
    sri_stack stack;
} experts;

/* One knows much, one a little, one nothing. */
static void make_experts(experts *e, size_t n) {
    static const double known[SRI_STACK] = {2, 0.4, 0};
    state_of_random = 77;
    e->stack = (sri_stack){
        .n = n, .routes = ROUTES, .experts = SRI_STACK, .rows = e->rows, .rights = e->rights};
    for (size_t i = 0; i < TEXTS; i++) {
        e->rows[i] = (uint32_t)(TEXTS - 1 - i);
        e->rights[i] = (uint32_t)((random_number() + 1) * ROUTES / 2) % ROUTES;
    }
    for (size_t x = 0; x < SRI_STACK; x++) {
        size_t stride = ROUTES + x;
        e->stack.scores[x] = e->scores[x];
        e->stack.stride[x] = stride;
        for (size_t i = 0; i < TEXTS; i++)
            for (size_t r = 0; r < stride; r++)
                e->scores[x][e->rows[i] * stride + r] =
                    (float)(1.5 * random_number() + (r == e->rights[i] ? known[x] : 0));
    }
}

static double stack_loss(const experts *e, const double *weights) {
    double loss = 0;
    for (size_t i = 0; i < e->stack.n; i++) {
        double total = 0, right = 0;
        for (size_t r = 0; r < ROUTES; r++) {
            double sum = 0;
            for (size_t x = 0; x < SRI_STACK; x++)
                sum += weights[x] * e->scores[x][e->rows[i] * (ROUTES + x) + r];
            total += exp(sum);
            if (r == e->rights[i]) right = sum;
        }
        loss += log(total) - right;
    }
    return loss;
}

/* The loss and what the prior adds: its curvature is that of the loss at its weights. */
static double stack_objective(const experts *e, const double *centre, double prior_texts,
                              const double *weights) {
    double h = 1e-3, at[4], sum = stack_loss(e, weights);
    for (size_t x = 0; x < SRI_STACK; x++)
        for (size_t y = 0; y < SRI_STACK; y++) {
            for (int corner = 0; corner < 4; corner++) {
                double moved[SRI_STACK];
                memcpy(moved, centre, sizeof moved);
                moved[x] += corner & 1 ? h : -h;
                moved[y] += corner & 2 ? h : -h;
                at[corner] = stack_loss(e, moved);
            }
            double curve = (at[3] - at[2] - at[1] + at[0]) / (4 * h * h);
            sum += prior_texts / (double)e->stack.n / 2 * curve * (weights[x] - centre[x]) *
                   (weights[y] - centre[y]);
        }
    return sum;
}

static void the_expert_who_knows_is_heard(void **state) {
    (void)state;
    static experts e;
    make_experts(&e, TEXTS);
    double weights[SRI_STACK] = {1, 1, 1};
    assert_true(sri_stack_fit(&e.stack, 1e-6, weights));
    assert_true(weights[0] > 0.7 && weights[0] < 4);
    assert_true(weights[1] > 0.05 && weights[1] < 0.6 * weights[0]);
    assert_true(weights[2] >= 0 && weights[2] < 0.15);
}

/* Some experts say what others say, or the opposite. */
static void mix_experts(experts *e) {
    for (size_t x = 1; x < SRI_STACK; x++) {
        float copied = (float)random_number(), scale = (float)(1 + 0.9 * random_number());
        for (size_t i = 0; i < TEXTS; i++)
            for (size_t r = 0; r < ROUTES; r++) {
                float *score = &e->scores[x][i * (ROUTES + x) + r];
                *score =
                    scale * (*score + 1.5f * copied * e->scores[x - 1][i * (ROUTES + x - 1) + r]);
            }
    }
}

static void stacking_ends_at_the_least_loss(void **state) {
    (void)state;
    static experts e;
    static const double priors[] = {1e-6, 3, 30, 3000};
    uint32_t seed = 1;
    size_t silent = 0;
    for (size_t p = 0; p < 40; p++) {
        double prior = priors[p % SRI_COUNT(priors)], weights[SRI_STACK];
        make_experts(&e, 120);
        state_of_random = seed = seed * 69069 + 1;
        double centre[SRI_STACK] = {0.6 + 0.5 * random_number(), 1, 0.5 + 0.4 * random_number()};
        mix_experts(&e);
        memcpy(weights, centre, sizeof weights);
        assert_true(sri_stack_fit(&e.stack, prior, weights));
        double least = stack_objective(&e, centre, prior, weights);
        for (size_t x = 0; x < SRI_STACK; x++) silent += weights[x] == 0;
        for (size_t x = 0; x < SRI_STACK; x++)
            for (int sign = -1; sign <= 1; sign += 2) {
                double other[SRI_STACK];
                memcpy(other, weights, sizeof other);
                other[x] += sign * 0.05;
                if (other[x] < 0) continue;
                double loss = stack_objective(&e, centre, prior, other);
                if (!(loss > least - 1e-6))
                    fail_msg("problem %zu, prior %g: expert %zu of %g %g %g: %.9g, moved %d: %.9g",
                             p, prior, x, weights[0], weights[1], weights[2], least, sign, loss);
            }
    }
    assert_true(silent > 3 && silent < 60); /* both kinds of end were met */
}

static void few_texts_leave_usual_weights(void **state) {
    (void)state;
    static experts e;
    make_experts(&e, 3);
    double usual[SRI_STACK] = {1, 0.7, 0.6}, weights[SRI_STACK];
    memcpy(weights, usual, sizeof weights);
    assert_true(sri_stack_fit(&e.stack, 30, weights));
    for (size_t x = 0; x < SRI_STACK; x++) assert_true(fabs(weights[x] - usual[x]) < 0.3);
    e.stack.n = 0;
    memcpy(weights, usual, sizeof weights);
    assert_true(sri_stack_fit(&e.stack, 30, weights));
    assert_memory_equal(weights, usual, sizeof weights);
    make_experts(&e, TEXTS); /* a hundred times as many have their way */
    assert_true(sri_stack_fit(&e.stack, 30, weights));
    assert_true(weights[2] < 0.2);
}

/* ---- Weighing ------------------------------------------------------------------------------------------------ */

static sri_knobs plain_knobs(void) {
    sri_knobs knobs = sri_knobs_prior;
    sri_scale scale = {{0.7, 0.7, 3}, {0.1, 0.1, 2}, {1, 1, 1}, 2};
    knobs.slow_scope = knobs.fast_scope = scale;
    return knobs;
}

static void experts_are_added_up(void **state) {
    (void)state;
    static const float vector[4] = {1, 0.5f, -1, 0}, fast[4] = {0, 2, -1, 0.3f};
    sri_fit_hit hits[2] = {{0, 0.9f}, {3, 0.6f}};
    sri_evidence evidence = {
        .logits = {vector, fast}, .hits = hits, .hit_count = 2, .oos_cosine = -1, .centre = 0.8f};
    sri_knobs knobs = plain_knobs();
    const double sums[4] = {1 + 0 + 6 * 0.3, 0.5 + 1.4, -1 - 0.7, 0.21};
    double total = 0;
    for (size_t r = 0; r < 4; r++) total += exp(sums[r]);
    float posterior[4];
    sri_reading reading;
    sri_weigh_slow(&knobs, &evidence, 4, NULL, posterior, &reading);
    for (size_t r = 0; r < 4; r++) assert_true(fabs(posterior[r] - exp(sums[r]) / total) < 1e-5);
    assert_int_equal(reading.best, 0);
    assert_true(fabs(reading.features[0] - 0.8) < 1e-6 && fabs(reading.features[1] - 0.9) < 1e-6);
    assert_true(fabs(reading.features[2] - 1) < 1e-6);
    assert_true(fabs(reading.score - (1 + 2 - 1) / 2.0) < 1e-5);
    assert_true(fabs(reading.in_scope - 1 / (1 + exp(-(6 + 2.4 * reading.score)))) < 1e-9);
    /* Without the best one: the next, whose cosine is not known and so the last one's. */
    uint8_t usable[4] = {0, 1, 1, 0};
    sri_weigh_slow(&knobs, &evidence, 4, usable, posterior, &reading);
    assert_int_equal(reading.best, 1);
    assert_true(posterior[0] < 1e-30f && posterior[3] < 1e-30f);
    assert_true(fabs(posterior[1] + posterior[2] - 1) < 1e-6);
    assert_true(fabs(reading.features[1] - 0.6) < 1e-6);
}

static void nearer_texts_are_likelier_in_scope(void **state) {
    (void)state;
    static const float vector[3] = {1, 0, 0}, fast[3] = {1, 0, 0};
    sri_knobs knobs = plain_knobs();
    float posterior[3];
    sri_reading reading;
    double last = -1;
    for (float cosine = -1; cosine < 1.01f; cosine += 0.25f) {
        sri_fit_hit hit = {0, cosine};
        sri_evidence evidence = {.logits = {vector, fast},
                                 .hits = &hit,
                                 .hit_count = 1,
                                 .oos_cosine = -1,
                                 .centre = cosine,
                                 .fast_centre = cosine,
                                 .coverage = 0.5f};
        sri_weigh_slow(&knobs, &evidence, 3, NULL, posterior, &reading);
        assert_true(reading.in_scope > last || last > 0.999999);
        last = reading.in_scope;
        double slow = reading.in_scope;
        sri_weigh_fast(&knobs, &evidence, 3, NULL, posterior, &reading);
        assert_true(reading.in_scope >= 0 && reading.in_scope <= 1 && slow <= 1);
        assert_int_equal(reading.best, 0);
    }
    assert_true(last > 0.99);
    assert_true(sri_auto_threshold(&knobs, 0.8) == 1 - 0.8);
    knobs.auto_threshold = 0.4;
    assert_true(sri_auto_threshold(&knobs, 0.8) == 0.4);
}

static void nothing_known_is_no_trouble(void **state) {
    (void)state;
    static const float vector[2] = {0, 0}, fast[2] = {0, 0};
    sri_evidence evidence = {.logits = {vector, fast}, .oos_cosine = -1, .centre = -1};
    sri_knobs knobs = plain_knobs();
    float posterior[2];
    sri_reading reading;
    sri_weigh_slow(&knobs, &evidence, 2, NULL, posterior, &reading);
    assert_int_equal(reading.best, 0);
    assert_true(posterior[0] == 0.5f && posterior[1] == 0.5f);
    assert_true(reading.in_scope < 0.01);
    uint8_t none[2] = {0, 0};
    sri_weigh_slow(&knobs, &evidence, 2, none, posterior, &reading);
    assert_true(reading.best == NO_ROUTE && reading.in_scope == 0 && posterior[0] == 0);
    sri_weigh_fast(&knobs, &evidence, 2, none, posterior, &reading);
    assert_true(reading.best == NO_ROUTE && reading.in_scope == 0 && posterior[1] == 0);
}

/* A weight counts a feature so many times. */
static void weights_count_features(void **state) {
    (void)state;
    sri_scale scale = {{0, 0, 0}, {1, 1, 1}, {1, 2, 0.5}, 2};
    const double features[3] = {1, 10, 100};
    assert_true(fabs(sri_scaled(&scale, features) - (1 + 20 + 50) / 2.0) < 1e-12);
}

static void settled_answers_have_a_scale_of_their_own(void **state) {
    (void)state;
    sri_knobs knobs = plain_knobs();
    knobs.settled = (sri_logit){.bias = 0.5, .weight = {0, 0.5, 0, 0.25}};
    sri_reading reading = {.best = 1, .features = {0.7, 0.8, 3}, .score = 0.1, .in_scope = 0.2};
    double posterior = 0.95;
    sri_settle(&knobs, posterior, &reading);
    double wanted = 0.5 + 0.5 * 1 - 0.25 * log(0.05 + 0.001);
    assert_true(fabs(reading.in_scope * posterior - 1 / (1 + exp(-wanted))) < 1e-9);
    knobs.settled.bias = 50; /* never more than certain */
    sri_settle(&knobs, posterior, &reading);
    assert_true(reading.in_scope == 1);
    assert_true(sri_settles(&knobs, &reading, 0.95));
    assert_false(sri_settles(&knobs, &reading, knobs.gate_confidence - 0.01));
    reading.score = knobs.gate_scope - 0.01;
    assert_false(sri_settles(&knobs, &reading, 0.95));
    reading = (sri_reading){.best = NO_ROUTE, .score = 9};
    assert_false(sri_settles(&knobs, &reading, 1));
}

int main(int argc, char **argv) {
    model = open_static(argc > 1 ? argv[1] : ".");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_become_texts),
        cmocka_unit_test(folds_are_even),
        cmocka_unit_test(twins_share_a_fold),
        cmocka_unit_test(folds_do_not_depend_on_order),
        cmocka_unit_test(samples_are_in_order),
        cmocka_unit_test(held_out_texts_do_not_see_their_fold),
        cmocka_unit_test(texts_gather_around_prototypes),
        cmocka_unit_test(a_fold_left_out_is_not_gathered_around),
        cmocka_unit_test(what_routes_share_says_nothing),
        cmocka_unit_test(a_varied_route_is_near_from_farther_off),
        cmocka_unit_test(a_route_without_texts_has_no_centre),
        cmocka_unit_test(a_regression_ends_at_the_least_loss),
        cmocka_unit_test(a_bias_alone_is_the_log_odds),
        cmocka_unit_test(without_evidence_the_prior_stays),
        cmocka_unit_test(separable_samples_stay_finite),
        cmocka_unit_test(scores_are_matched),
        cmocka_unit_test(the_expert_who_knows_is_heard),
        cmocka_unit_test(stacking_ends_at_the_least_loss),
        cmocka_unit_test(few_texts_leave_usual_weights),
        cmocka_unit_test(experts_are_added_up),
        cmocka_unit_test(nearer_texts_are_likelier_in_scope),
        cmocka_unit_test(nothing_known_is_no_trouble),
        cmocka_unit_test(weights_count_features),
        cmocka_unit_test(settled_answers_have_a_scale_of_their_own),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sr_encoder_close(&model);
    return failed;
}
