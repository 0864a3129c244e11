/*
 * fit_tune.c - chooses the knobs of a fit on evidence about texts that its heads have not seen.
 *
 * In this order, since each needs the ones before:
 *   1. weights of heads and neighbours, and the sharpness of the fast head (fit_stack.c);
 *   2. means and deviations of the features of being in scope, drawn towards usual ones when texts are few;
 *   3. with out-of-scope examples, or labelled ones, the probability of being in scope;
 *   4. the gate of the fast path: the lowest posterior from which on the answers that it gives are not worse
 *      than the slow path's;
 *   5. the confidence of the answers that the fast path gives by itself;
 *   6. thresholds for targets, if there are any;
 *   7. what all that achieves on the same texts.
 * Five numbers or so are chosen on thousands of texts, so that the last is hardly flattered.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "decide/fit_int.h"

/* How far off strangers are, in deviations: from here on the scale is right, and no nearer than this is believed. */
#define FAR_STRANGER     4.2
#define NEAREST_STRANGER 1.5
#define BOUNDARY         2.5 /* where sri_knobs_prior has it */

#define PRIOR_TEXTS 30.0 /* that usual weights are worth */
#define SCALE_TEXTS 20.0 /* the same for usual deviations */

/* Out-of-scope texts are assumed to be this share of what is asked. */
#define OOS_SHARE 0.18

/* The fast path may cost this share of texts, on held-out ones. */
#define GATE_LOSS 0.0002

typedef struct tuning {
    const sri_fit_table *table;
    const sri_samples *samples;
    const sri_held *held;
    sri_knobs *knobs;
    uint32_t *inside, *outside; /* places in `held`: of texts that have a route, or none */
    uint32_t *rights;           /* of `inside` */
    size_t inside_count, outside_count;
    float *nearest;                         /* [held, routes] cosines above the last hit's */
    float *posterior;                       /* [routes] scratch */
    sri_reading *slow, *fast;               /* [held] */
    float *slow_posterior, *fast_posterior; /* [held] of the best route */
} tuning;

/* ---- Room ------------------------------------------------------------------------------------------------- */

static void close_tuning(tuning *t) {
    sri_free(t->inside);
    sri_free(t->outside);
    sri_free(t->rights);
    sri_free(t->nearest);
    sri_free(t->posterior);
    sri_free(t->slow);
    sri_free(t->fast);
    sri_free(t->slow_posterior);
    sri_free(t->fast_posterior);
}

static uint32_t target_of(const tuning *t, size_t i) {
    return t->samples->targets[t->held->samples[i]];
}

static bool labelled(const tuning *t, size_t i) { return t->held->samples[i] >= t->samples->known; }

/* One of the texts that belong to hardly any table; nothing but the scale is told by them. */
static bool strange(const tuning *t, size_t i) {
    return t->held->samples[i] >= t->samples->named && !labelled(t, i);
}

static bool open_tuning(tuning *t) {
    size_t n = t->held->n, routes = t->samples->routes;
    t->inside = sri_alloc_array(n, sizeof *t->inside);
    t->outside = sri_alloc_array(n, sizeof *t->outside);
    t->rights = sri_alloc_array(n, sizeof *t->rights);
    t->nearest = sri_alloc_zero(n, routes * sizeof *t->nearest);
    t->posterior = sri_alloc_array(routes, sizeof *t->posterior);
    t->slow = sri_alloc_zero(n, sizeof *t->slow);
    t->fast = sri_alloc_zero(n, sizeof *t->fast);
    t->slow_posterior = sri_alloc_zero(n, sizeof *t->slow_posterior);
    t->fast_posterior = sri_alloc_zero(n, sizeof *t->fast_posterior);
    if (!t->inside || !t->outside || !t->rights || !t->nearest || !t->posterior || !t->slow ||
        !t->fast || !t->slow_posterior || !t->fast_posterior)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint32_t target = target_of(t, i);
        if (strange(t, i)) continue;
        if (target == SRI_FIT_OUT_OF_SCOPE) {
            t->outside[t->outside_count++] = (uint32_t)i;
            continue;
        }
        t->rights[t->inside_count] = target;
        t->inside[t->inside_count++] = (uint32_t)i;
    }
    return true;
}

/* Reads all held-out texts with the knobs as they are. */
static void read_all(tuning *t) {
    size_t routes = t->samples->routes;
    for (size_t i = 0; i < t->held->n; i++) {
        const sri_evidence *evidence = &t->held->evidence[i];
        sri_weigh_slow(t->knobs, evidence, routes, NULL, t->posterior, &t->slow[i]);
        t->slow_posterior[i] = t->posterior[t->slow[i].best];
        sri_weigh_fast(t->knobs, evidence, routes, NULL, t->posterior, &t->fast[i]);
        t->fast_posterior[i] = t->posterior[t->fast[i].best];
    }
}

/* The same where only what tells whether a text is in scope has changed: routes and their posteriors stay. */
static void rescore_all(tuning *t) {
    for (size_t i = 0; i < t->held->n; i++) {
        sri_rescore_slow(t->knobs, &t->slow[i]);
        sri_rescore_fast(t->knobs, &t->fast[i]);
    }
}

static double confidence_of(const tuning *t, size_t i) {
    return t->slow[i].in_scope * t->slow_posterior[i];
}

static bool settled(const tuning *t, size_t i) {
    return sri_settles(t->knobs, &t->fast[i], t->fast_posterior[i]);
}

/* ---- 1. Which route ----------------------------------------------------------------------------------------- */

static void spread_hits(tuning *t) {
    for (size_t i = 0; i < t->held->n; i++) {
        const sri_evidence *evidence = &t->held->evidence[i];
        float *row = t->nearest + i * t->samples->routes;
        for (size_t h = 0; h < evidence->hit_count; h++)
            row[evidence->hits[h].route] =
                evidence->hits[h].cosine - evidence->hits[evidence->hit_count - 1].cosine;
    }
}

static bool weigh_experts(tuning *t) {
    spread_hits(t);
    sri_stack stack = {.n = t->inside_count,
                       .routes = t->samples->routes,
                       .experts = SRI_STACK,
                       .rows = t->inside,
                       .rights = t->rights};
    for (int h = 0; h < SRI_HEADS; h++) {
        stack.scores[h] = t->held->logits[h];
        stack.stride[h] = t->held->classes;
    }
    stack.scores[SRI_STACK_NEAREST] = t->nearest;
    stack.stride[SRI_STACK_NEAREST] = t->samples->routes;
    sri_stack alone = {.n = t->inside_count,
                       .routes = t->samples->routes,
                       .experts = 1,
                       .scores = {t->held->logits[SRI_HEAD_FAST]},
                       .stride = {t->held->classes},
                       .rows = t->inside,
                       .rights = t->rights};
    return sri_stack_fit(&stack, PRIOR_TEXTS, t->knobs->stack) &&
           sri_stack_fit(&alone, PRIOR_TEXTS, &t->knobs->sharpness);
}

/* ---- 2. Scales ------------------------------------------------------------------------------------------------ */

/* Usual deviations; one below 0 is a share of the mean. */
static const double usual_slow[SRI_SCOPE_FEATURES + 1] = {0.05, 0.06, -0.2, 2.5};
static const double usual_fast[SRI_SCOPE_FEATURES + 1] = {-0.2, 0.15, 0.2, 3.1};

/* Of `n` numbers whose sum and sum of squares are given. */
static double deviation_of(double n, double sum, double squares, double usual) {
    double mean = n > 0 ? sum / n : 0, variance = n > 0 ? SRI_MAX(squares / n - mean * mean, 0) : 0;
    double expected = usual < 0 ? -usual * fabs(mean) : usual;
    double deviation = sqrt((n * variance + SCALE_TEXTS * expected * expected) / (n + SCALE_TEXTS));
    return deviation > 1e-9 ? deviation : 1; /* a feature that never varies says nothing */
}

static void measure_scale(const tuning *t, const sri_reading *readings, const double *usual,
                          sri_scale *scale) {
    double n = (double)t->inside_count, squares = 0;
    scale->sum_deviation = 1;
    for (int f = 0; f < SRI_SCOPE_FEATURES; f++) {
        double sum = 0, square = 0;
        for (size_t i = 0; i < t->inside_count; i++) {
            double value = readings[t->inside[i]].features[f];
            sum += value;
            square += value * value;
        }
        scale->mean[f] = n > 0 ? sum / n : 0;
        scale->deviation[f] = deviation_of(n, sum, square, usual[f]);
    }
    for (size_t i = 0; i < t->inside_count; i++) {
        double sum = sri_scaled(scale, readings[t->inside[i]].features);
        squares += sum * sum;
    }
    scale->sum_deviation = deviation_of(n, 0, squares, usual[SRI_SCOPE_FEATURES]);
}

/* ---- 3. Whether any ------------------------------------------------------------------------------------------- */

static const sri_logit usual_oos = {.bias = 5.8, .weight = {1.2, -0.65, -0.4, -0.4}};
#define OOS_STRENGTH      5.0
#define LABELLED_STRENGTH 1.5

/* Samples of a logistic regression: `width` features of each text. */
typedef struct scope_samples {
    double *x, *weights;
    uint8_t *labels;
    size_t n, width, inside;
} scope_samples;

static bool open_scope(size_t capacity, size_t width, scope_samples *s) {
    *s = (scope_samples){.width = width};
    s->x = sri_alloc_array(capacity, width * sizeof *s->x);
    s->weights = sri_alloc_array(capacity, sizeof *s->weights);
    s->labels = sri_alloc_array(capacity, 1);
    return s->x && s->weights && s->labels;
}

static void close_scope(scope_samples *s) {
    sri_free(s->x);
    sri_free(s->weights);
    sri_free(s->labels);
}

static double *add_scope(scope_samples *s, bool inside) {
    s->labels[s->n] = inside;
    s->inside += inside;
    return s->x + s->width * s->n++;
}

/* Weights give out-of-scope texts their assumed share, and all together twice the rarer kind's number. */
static void fit_scope(scope_samples *s, double share, const sri_logit *prior, double strength,
                      sri_logit *model) {
    double inside = (double)s->inside, outside = (double)(s->n - s->inside);
    double total = 2 * SRI_MIN(inside, outside);
    for (size_t i = 0; i < s->n; i++)
        s->weights[i] = total * (s->labels[i] != 0 ? (1 - share) / inside : share / outside);
    sri_logit_data data = {s->n, s->width, s->x, s->labels, s->weights};
    sri_logit_fit(&data, prior, strength, model);
}

static void measure_oos(tuning *t) {
    for (int f = 0; f < SRI_SCOPE_FEATURES; f++) {
        double n = 0, sum = 0, squares = 0;
        for (size_t i = 0; i < t->inside_count; i++) {
            double value = t->slow[t->inside[i]].oos[f];
            if (isnan(value)) continue;
            n++;
            sum += value;
            squares += value * value;
        }
        double variance = n > 0 ? squares / n - sum / n * (sum / n) : 0;
        t->knobs->oos_mean[f] = n > 0 ? sum / n : 0;
        t->knobs->oos_deviation[f] = sqrt(SRI_MAX(variance, 0)) + 1e-6;
    }
}

/* Texts of the table: their score, and what out-of-scope examples say. */
static bool learn_oos(tuning *t) {
    scope_samples s;
    measure_oos(t);
    bool enough = open_scope(t->held->n, 1 + SRI_SCOPE_FEATURES, &s);
    for (size_t i = 0; i < t->held->n && enough; i++) {
        if (labelled(t, i) || strange(t, i)) continue;
        double *x = add_scope(&s, target_of(t, i) != SRI_FIT_OUT_OF_SCOPE);
        sri_scope_features(t->knobs, &t->slow[i], x);
    }
    if (enough && s.inside > 0 && s.inside < s.n)
        fit_scope(&s, OOS_SHARE, &usual_oos, OOS_STRENGTH, &t->knobs->slow_in_scope);
    close_scope(&s);
    return enough;
}

static void rescale(sri_logit *model, const sri_logit *by) {
    model->bias = by->weight[0] * model->bias + by->bias;
    for (int i = 0; i < SRI_LOGIT_MAX; i++) model->weight[i] *= by->weight[0];
}

static double log_odds(double p) {
    double safe = SRI_MAX(1e-12, SRI_MIN(1 - 1e-12, p));
    return log(safe / (1 - safe));
}

/* Labelled texts: slope and offset anew, of both paths. */
static bool learn_labelled(tuning *t, const sri_reading *readings, sri_logit *model) {
    static const sri_logit same = {.bias = 0, .weight = {1}};
    scope_samples s;
    bool enough = open_scope(t->held->n, 1, &s);
    for (size_t i = 0; i < t->held->n && enough; i++)
        if (labelled(t, i))
            *add_scope(&s, target_of(t, i) != SRI_FIT_OUT_OF_SCOPE) =
                log_odds(readings[i].in_scope);
    if (enough && s.inside > 0 && s.inside < s.n) {
        double share = SRI_MAX(OOS_SHARE, (double)(s.n - s.inside) / (double)s.n);
        sri_logit by;
        fit_scope(&s, share, &same, LABELLED_STRENGTH, &by);
        if (by.weight[0] > 0) rescale(model, &by);
    }
    close_scope(&s);
    return enough;
}

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

/* Where strangers stand on the scale: the median score of texts that belong to hardly any table. */
static bool median_stranger(const tuning *t, const sri_reading *readings, double *median) {
    double *scores = sri_alloc_array(t->held->n, sizeof *scores);
    if (scores == NULL) return false;
    size_t n = 0;
    for (size_t i = 0; i < t->held->n; i++)
        if (strange(t, i)) scores[n++] = readings[i].score;
    qsort(scores, n, sizeof *scores, ascending);
    *median = n == 0 ? -INFINITY : scores[n / 2];
    sri_free(scores);
    return true;
}

/* The boundary lies at 2.5 deviations below the table's own texts, where the table is so dense that strangers are
 * well beyond it. In a small table of varied utterances they are not: there the scale is stretched until the boundary
 * is at six tenths of the way to them, or, when they are very near, at half. */
static bool stretch(const tuning *t, const sri_reading *readings, sri_scale *scale) {
    double median;
    if (!median_stranger(t, readings, &median)) return false;
    double away = SRI_MAX(-median, NEAREST_STRANGER);
    if (away >= FAR_STRANGER) return true;
    double far = (away - NEAREST_STRANGER) / (FAR_STRANGER - NEAREST_STRANGER);
    scale->sum_deviation *= away * (0.5 + (BOUNDARY / FAR_STRANGER - 0.5) * far) / BOUNDARY;
    return true;
}

static bool tell_scope(tuning *t) {
    t->knobs->has_oos = t->samples->classes > t->samples->routes;
    read_all(t);
    measure_scale(t, t->slow, usual_slow, &t->knobs->slow_scope);
    measure_scale(t, t->fast, usual_fast, &t->knobs->fast_scope);
    rescore_all(t);
    if (!stretch(t, t->slow, &t->knobs->slow_scope) || !stretch(t, t->fast, &t->knobs->fast_scope))
        return false;
    rescore_all(t);
    if (t->knobs->has_oos != 0 && !learn_oos(t)) return false;
    rescore_all(t);
    if (!learn_labelled(t, t->slow, &t->knobs->slow_in_scope) ||
        !learn_labelled(t, t->fast, &t->knobs->fast_in_scope))
        return false;
    rescore_all(t);
    return true;
}

/* ---- 4. The gate ---------------------------------------------------------------------------------------------- */

typedef struct ranked {
    float posterior;
    uint32_t place;
    int32_t change; /* wrong answers more than the slow path gives */
} ranked;

static int most_sure_first(const void *left, const void *right) {
    const ranked *a = left, *b = right;
    if (a->posterior != b->posterior) return a->posterior > b->posterior ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

static bool set_gate(tuning *t) {
    t->knobs->gate_confidence = 2;
    if (t->table->fast == NULL) return true;
    ranked *order = sri_alloc_array(t->inside_count, sizeof *order);
    if (order == NULL) return false;
    size_t n = 0;
    for (size_t i = 0; i < t->inside_count; i++) {
        uint32_t at = t->inside[i], right = t->rights[i];
        if (t->fast[at].score < t->knobs->gate_scope) continue;
        order[n++] = (ranked){t->fast_posterior[at], at,
                              (t->fast[at].best != right) - (t->slow[at].best != right)};
    }
    qsort(order, n, sizeof *order, most_sure_first);
    double lost = 0, allowed = GATE_LOSS * (double)t->inside_count;
    for (size_t i = 0; i < n; i++) {
        lost += order[i].change;
        bool last = i + 1 == n || order[i + 1].posterior < order[i].posterior;
        if (last && lost <= allowed)
            t->knobs->gate_confidence =
                SRI_MAX((double)order[i].posterior, sri_knobs_prior.gate_confidence);
    }
    sri_free(order);
    return true;
}

/* ---- 5. Settled answers --------------------------------------------------------------------------------------- */

#define SETTLED_TEXTS 20.0 /* that the usual function is worth */

/* On the held-out texts that pass the gate and belong to a route. */
static bool match_settled(tuning *t) {
    scope_samples s;
    double *scores = sri_alloc_array(t->inside_count, sizeof *scores);
    bool enough = open_scope(t->inside_count, SRI_SETTLED_FEATURES, &s) && scores != NULL;
    for (size_t i = 0; i < t->inside_count && enough; i++) {
        uint32_t at = t->inside[i];
        if (!settled(t, at)) continue;
        scores[s.n] = log_odds(confidence_of(t, at));
        s.weights[s.n] = 1;
        sri_settled_features(t->knobs, &t->fast[at], t->fast_posterior[at], add_scope(&s, true));
    }
    if (enough) {
        sri_logit_data data = {s.n, s.width, s.x, s.labels, s.weights};
        sri_logit_match(&data, scores, &sri_knobs_prior.settled, SETTLED_TEXTS, &t->knobs->settled);
    }
    close_scope(&s);
    sri_free(scores);
    return enough;
}

/* ---- 6. Targets ----------------------------------------------------------------------------------------------- */

typedef struct judged {
    double confidence;
    bool right, outside;
} judged;

static int most_confident_first(const void *left, const void *right) {
    const judged *a = left, *b = right;
    return a->confidence > b->confidence ? -1 : a->confidence < b->confidence;
}

/* Strangers are played by texts whose own route is left out, where there are none: they are nearer than
 * strangers, so that a target is rather met than missed. */
static size_t judge_strangers(const tuning *t, judged *out) {
    size_t n = 0, routes = t->samples->routes;
    if (t->outside_count > 0) {
        for (size_t i = 0; i < t->outside_count; i++)
            out[n++] = (judged){confidence_of(t, t->outside[i]), false, true};
        return n;
    }
    uint8_t *usable = sri_alloc(routes);
    if (usable == NULL) return SIZE_MAX;
    memset(usable, 1, routes);
    for (size_t i = 0; i < t->inside_count; i++) {
        sri_reading reading;
        usable[t->rights[i]] = 0;
        sri_weigh_slow(t->knobs, &t->held->evidence[t->inside[i]], routes, usable, t->posterior,
                       &reading);
        usable[t->rights[i]] = 1;
        if (reading.best != SRI_FIT_OUT_OF_SCOPE)
            out[n++] = (judged){reading.in_scope * t->posterior[reading.best], false, true};
    }
    sri_free(usable);
    return n;
}

/* The lowest confidence from which on a target holds; above 1 when none does. Sorts. */
static double lowest_meeting(judged *texts, size_t n, double max_oos, double min_precision) {
    qsort(texts, n, sizeof *texts, most_confident_first);
    double strangers = 0, accepted = 0, right = 0, outside = 0, lowest = 1.01;
    for (size_t i = 0; i < n; i++) strangers += texts[i].outside;
    for (size_t i = 0; i < n; i++) {
        outside += texts[i].outside;
        accepted++;
        right += texts[i].right;
        if (i + 1 < n && texts[i + 1].confidence == texts[i].confidence) continue;
        bool meets = (max_oos <= 0 || outside <= max_oos * strangers) &&
                     (min_precision <= 0 || right >= min_precision * accepted);
        if (meets) lowest = texts[i].confidence;
        if (max_oos > 0 && outside > max_oos * strangers) break;
    }
    return lowest;
}

static bool set_threshold(tuning *t) {
    double max_oos = t->table->max_oos_accepted, min_precision = t->table->min_precision;
    if (!(max_oos > 0) && !(min_precision > 0)) return true;
    judged *texts = sri_alloc_array(2 * t->held->n, sizeof *texts);
    if (texts == NULL) return false;
    size_t n = 0;
    for (size_t i = 0; i < t->inside_count; i++) {
        uint32_t at = t->inside[i];
        texts[n++] = (judged){confidence_of(t, at), t->slow[at].best == t->rights[i], false};
    }
    if (max_oos > 0 || t->outside_count > 0) {
        size_t more = judge_strangers(t, texts + n);
        if (more == SIZE_MAX) {
            sri_free(texts);
            return false;
        }
        n += more;
    }
    /* Each on its own: strangers that are played must not count against precision. */
    double first = max_oos > 0 ? lowest_meeting(texts, n, max_oos, 0) : 0;
    double second = 0;
    if (min_precision > 0) {
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (!texts[i].outside || t->outside_count > 0) texts[kept++] = texts[i];
        second = lowest_meeting(texts, kept, 0, min_precision);
    }
    t->knobs->auto_threshold = SRI_MAX(first, second);
    sri_free(texts);
    return true;
}

/* ---- 7. Findings ---------------------------------------------------------------------------------------------- */

#define BINS 15

static double share(double part, double whole) { return whole > 0 ? part / whole : NAN; }

static void count_right(const tuning *t, sri_fit_findings *f) {
    double neighbours = 0, slow = 0, fast = 0, automatic = 0, answered = 0;
    for (size_t i = 0; i < t->inside_count; i++) {
        uint32_t at = t->inside[i], right = t->rights[i];
        const sri_evidence *evidence = &t->held->evidence[at];
        bool quick = settled(t, at);
        neighbours += evidence->hit_count > 0 && evidence->hits[0].route == right;
        slow += t->slow[at].best == right;
        fast += t->fast[at].best == right;
        automatic += (quick ? t->fast[at].best : t->slow[at].best) == right;
        answered += quick;
    }
    double n = (double)t->inside_count;
    f->neighbours = share(neighbours, n);
    f->slow = share(slow, n);
    f->automatic = t->table->fast == NULL ? NAN : share(automatic, n);
    f->fast = t->table->fast == NULL ? NAN : share(fast, n);
    f->fast_share = t->table->fast == NULL ? NAN : share(answered, n);
}

/* Chance that a text with a route has more confidence than one without, from the sum of the ranks of the latter;
 * equal ones share their ranks. False when memory is short. */
static bool auroc(const tuning *t, double *chance) {
    judged *texts = sri_alloc_array(t->held->n, sizeof *texts);
    if (texts == NULL) return false;
    size_t n = 0;
    for (size_t i = 0; i < t->held->n; i++)
        if (!strange(t, i))
            texts[n++] = (judged){.confidence = confidence_of(t, i),
                                  .outside = target_of(t, i) == SRI_FIT_OUT_OF_SCOPE};
    qsort(texts, n, sizeof *texts, most_confident_first);
    double wins = 0, above = 0;
    for (size_t first = 0, next; first < n; first = next) {
        double inside = 0, outside = 0;
        for (next = first; next < n && texts[next].confidence == texts[first].confidence; next++) {
            inside += !texts[next].outside;
            outside += texts[next].outside;
        }
        wins += outside * (above + inside / 2);
        above += inside;
    }
    sri_free(texts);
    *chance = share(wins, (double)t->inside_count * (double)t->outside_count);
    return true;
}

static double calibration_error(const tuning *t) {
    double count[BINS] = {0}, right[BINS] = {0}, sum[BINS] = {0}, error = 0;
    for (size_t i = 0; i < t->held->n; i++) {
        if (strange(t, i)) continue;
        double confidence = confidence_of(t, i);
        int bin = SRI_MIN((int)(confidence * BINS), BINS - 1);
        count[bin]++;
        sum[bin] += confidence;
        right[bin] += t->slow[i].best == target_of(t, i);
    }
    for (int b = 0; b < BINS; b++) error += fabs(sum[b] - right[b]);
    return share(error, (double)(t->inside_count + t->outside_count));
}

static void count_accepted(const tuning *t, sri_fit_findings *f) {
    double accepted = 0, right = 0, strangers = 0;
    for (size_t i = 0; i < t->held->n; i++) {
        if (strange(t, i) ||
            confidence_of(t, i) < sri_auto_threshold(t->knobs, t->slow[i].in_scope))
            continue;
        accepted++;
        right += t->slow[i].best == target_of(t, i);
        strangers += target_of(t, i) == SRI_FIT_OUT_OF_SCOPE;
    }
    f->oos_accepted = share(strangers, (double)t->outside_count);
    f->precision = share(right, accepted);
}

static bool copy_trials(const tuning *t, sri_fit_trial **trials) {
    *trials = sri_alloc_array(t->held->n, sizeof **trials);
    if (*trials == NULL) return false;
    size_t n = 0;
    for (size_t i = 0; i < t->held->n; i++) {
        if (strange(t, i)) continue;
        double confidence = confidence_of(t, i);
        bool accepted = confidence >= sri_auto_threshold(t->knobs, t->slow[i].in_scope);
        (*trials)[n++] = (sri_fit_trial){target_of(t, i), t->slow[i].best, (float)confidence,
                                         (float)t->slow[i].features[1], accepted};
    }
    return true;
}

static bool find_out(const tuning *t, sri_fit_findings *f) {
    count_right(t, f);
    f->ece = calibration_error(t);
    f->auto_threshold = t->knobs->auto_threshold;
    count_accepted(t, f);
    f->oos = t->samples->oos;
    f->utterances = t->samples->table - t->samples->oos;
    f->labelled = t->samples->n - t->samples->known;
    return auroc(t, &f->oos_auroc);
}

sr_status sri_tune(const sri_fit_table *table, const sri_samples *samples, const sri_held *held,
                   sri_knobs *knobs, sri_fit_findings *findings, sri_fit_trial **trials,
                   sr_error *error) {
    tuning t = {.table = table, .samples = samples, .held = held, .knobs = knobs};
    *knobs = sri_knobs_prior;
    *trials = NULL;
    bool enough = open_tuning(&t) && weigh_experts(&t) && tell_scope(&t) && set_gate(&t) &&
                  match_settled(&t) && set_threshold(&t) && copy_trials(&t, trials) &&
                  find_out(&t, findings);
    close_tuning(&t);
    return enough ? SR_OK : sri_fail_memory(error);
}
