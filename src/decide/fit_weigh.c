/*
 * fit_weigh.c - from evidence to probabilities, the same for a query as for the held-out texts that the knobs
 * are tuned on.
 *
 * Which route. On the slow path the logits of both heads and the cosines of routes' best utterances are added up
 * with weights and go through one softmax: a product of experts. A route that is not among the hits is given
 * the cosine of the last one. On the fast path it is the fast head's logits alone.
 *
 * Whether any. Three features, each standardised by the table's own held-out texts, are added up. Slow: how near the
 * nearest centre of a route is, which alone tells strangers apart better than the best cosine or the largest
 * logit; the cosine of the best route's best utterance, which counts three quarters; the sum of its logits in both
 * heads. Fast: the largest logit, the cosine to the nearest prototype of that route (both: fit_centres.c), which
 * counts twice, and the share of known lexical features. A fixed logistic function of the sum is the probability. It is
 * not fitted to the table: routes left out to play strangers are far nearer than strangers are, and what is fitted to
 * them turns down much too much. The constants were chosen on validation texts of CLINC150, also with tables that lack
 * two of its ten domains, whose texts are the strangers, and on training texts of Banking77; because of the
 * standardisation the same ones serve tables of 5 and of 100 utterances a route. Tried there without gain: bounds on
 * what a feature may be better than usual, the logarithm of the sum of exp(logit), Mahalanobis distances; how near an
 * utterance's own neighbours are usually, taken off the cosine to it, gained .001 and would have to be kept for each.
 * With examples of texts that are out of scope, these are a class of their own in the heads, and how far its
 * logits and the nearest example's cosine stand out joins the score (fit_tune.c).
 *
 * Settled answers. Confidences of the fast path have a scale of their own, and where both paths answer, one list is
 * made of both: a stranger that the fast path lets pass would stand above nearly all that the slow path has answered,
 * and a text of the table near the gate too. So the confidence of what the fast path settles is what the slow path says
 * of such texts: its log-odds are fitted by least squares to the slow path's, on the held-out texts that pass the
 * gate, by the three features and how sure the fast head is. Of the tables that lack two domains, the automatic
 * path's AUROC was .0012 below the slow path's, and is .0003 below with this, the gate that lets 2 % fewer pass, and the
 * prototype's cosine counted twice.
 */
#include <math.h>

#include "decide/fit_int.h"
#include "decide/logarithm.h"

#define UNUSABLE (-1e4F) /* a logit whose probability is next to 0 */
#define DOUBT    0.001   /* added to the posterior's distance from 1: a head is never surer */

const sri_knobs sri_knobs_prior = {
    .stack = {1, 0.7, 6},
    .sharpness = 1,
    .slow_scope = {.deviation = {1, 1, 1}, .weight = {1, 0.75, 1}, .sum_deviation = 1},
    .fast_scope = {.deviation = {1, 1, 1}, .weight = {1, 2, 1}, .sum_deviation = 1},
    .slow_in_scope = {.bias = 6, .weight = {2.4}},
    .fast_in_scope = {.bias = 6, .weight = {2.4}},
    .settled = {.bias = 1.2, .weight = {0, 0.4, 0.2, 0.85}},
    .gate_scope = -0.25,
    .gate_confidence = 0.9,
};

static bool may_use(const uint8_t *usable, size_t route) {
    return usable == NULL || usable[route] != 0;
}

/* Softmax in place over the usable routes; gives the best one. */
static uint32_t normalise(float *posterior, size_t routes, const uint8_t *usable) {
    uint32_t best = SRI_FIT_OUT_OF_SCOPE;
    for (size_t r = 0; r < routes; r++)
        if (may_use(usable, r) && (best == SRI_FIT_OUT_OF_SCOPE || posterior[r] > posterior[best]))
            best = (uint32_t)r;
    if (best == SRI_FIT_OUT_OF_SCOPE) {
        for (size_t r = 0; r < routes; r++) posterior[r] = 0;
        return best;
    }
    float most = posterior[best];
    for (size_t r = 0; r < routes; r++)
        posterior[r] = may_use(usable, r) ? SRI_MAX(posterior[r] - most, UNUSABLE) : UNUSABLE;
    sri_softmax_rows(posterior, 1, routes, 1);
    return best;
}

static double standard(const sri_scale *scale, const double *features, int i) {
    return (features[i] - scale->mean[i]) / scale->deviation[i];
}

double sri_scaled(const sri_scale *scale, const double *features) {
    double sum = 0;
    for (int i = 0; i < SRI_SCOPE_FEATURES; i++)
        sum += scale->weight[i] * standard(scale, features, i);
    return sum / scale->sum_deviation;
}

double sri_auto_threshold(const sri_knobs *knobs, double in_scope) {
    return knobs->auto_threshold > 0 ? knobs->auto_threshold : 1 - in_scope;
}

/* ln of the sum of exp. */
static double log_sum(const float *logits, size_t n) {
    float most = logits[0];
    for (size_t i = 1; i < n; i++) most = SRI_MAX(most, logits[i]);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - most);
    return most + log(sum);
}

static void read_oos(const sri_evidence *evidence, size_t routes, double *features) {
    for (int h = 0; h < SRI_HEADS; h++)
        features[h] = evidence->logits[h][routes] - log_sum(evidence->logits[h], routes);
    features[SRI_HEADS] = NAN;
    if (evidence->oos_cosine > -1 && evidence->hit_count > 0)
        features[SRI_HEADS] = (double)evidence->oos_cosine - evidence->hits[0].cosine;
}

_Static_assert(1 + SRI_SCOPE_FEATURES <= SRI_LOGIT_MAX, "a regression takes the score and these");

size_t sri_scope_features(const sri_knobs *knobs, const sri_reading *reading,
                          double x[SRI_LOGIT_MAX]) {
    size_t width = 0;
    x[width++] = reading->score;
    for (int i = 0; i < SRI_SCOPE_FEATURES && knobs->has_oos != 0; i++) {
        double away = (reading->oos[i] - knobs->oos_mean[i]) / knobs->oos_deviation[i];
        x[width++] = isnan(away) ? 0 : away;
    }
    return width;
}

void sri_rescore_slow(const sri_knobs *knobs, sri_reading *reading) {
    double x[SRI_LOGIT_MAX];
    reading->score = sri_scaled(&knobs->slow_scope, reading->features);
    size_t width = sri_scope_features(knobs, reading, x);
    reading->in_scope = sri_logistic(sri_logit_score(&knobs->slow_in_scope, x, width));
}

void sri_rescore_fast(const sri_knobs *knobs, sri_reading *reading) {
    reading->score = sri_scaled(&knobs->fast_scope, reading->features);
    reading->in_scope = sri_logistic(sri_logit_score(&knobs->fast_in_scope, &reading->score, 1));
}

void sri_weigh_slow(const sri_knobs *knobs, const sri_evidence *evidence, size_t routes,
                    const uint8_t *usable, float *posterior, sri_reading *reading) {
    const float *vector = evidence->logits[SRI_HEAD_VECTOR],
                *fast = evidence->logits[SRI_HEAD_FAST];
    float a = (float)knobs->stack[SRI_STACK_VECTOR], b = (float)knobs->stack[SRI_STACK_FAST];
    float nearest = (float)knobs->stack[SRI_STACK_NEAREST];
    float last = evidence->hit_count == 0 ? 0 : evidence->hits[evidence->hit_count - 1].cosine;
    for (size_t r = 0; r < routes; r++) posterior[r] = a * vector[r] + b * fast[r];
    for (size_t i = 0; i < evidence->hit_count; i++)
        posterior[evidence->hits[i].route] += nearest * (evidence->hits[i].cosine - last);
    *reading = (sri_reading){.best = normalise(posterior, routes, usable)};
    if (reading->best == SRI_FIT_OUT_OF_SCOPE) return;
    float cosine = last;
    for (size_t i = evidence->hit_count; i-- > 0;)
        if (evidence->hits[i].route == reading->best) cosine = evidence->hits[i].cosine;
    reading->features[0] = evidence->centre;
    reading->features[1] = cosine;
    reading->features[2] = (double)vector[reading->best] + fast[reading->best];
    if (knobs->has_oos != 0) read_oos(evidence, routes, reading->oos);
    sri_rescore_slow(knobs, reading);
}

void sri_weigh_fast(const sri_knobs *knobs, const sri_evidence *evidence, size_t routes,
                    const uint8_t *usable, float *posterior, sri_reading *reading) {
    const float *fast = evidence->logits[SRI_HEAD_FAST];
    for (size_t r = 0; r < routes; r++) posterior[r] = (float)knobs->sharpness * fast[r];
    *reading = (sri_reading){.best = normalise(posterior, routes, usable)};
    if (reading->best == SRI_FIT_OUT_OF_SCOPE) return;
    reading->features[0] = fast[reading->best];
    reading->features[1] = evidence->fast_centre;
    reading->features[2] = evidence->coverage;
    sri_rescore_fast(knobs, reading);
}

/* ---- Settled answers ----------------------------------------------------------------------------------------- */

void sri_settled_features(const sri_knobs *knobs, const sri_reading *reading, double posterior,
                          double x[SRI_SETTLED_FEATURES]) {
    for (int i = 0; i < SRI_SCOPE_FEATURES; i++)
        x[i] = standard(&knobs->fast_scope, reading->features, i);
    x[SRI_SCOPE_FEATURES] = -sri_ln(SRI_MAX(1 - posterior, 0) + DOUBT);
}

bool sri_settles(const sri_knobs *knobs, const sri_reading *reading, double posterior) {
    return reading->best != SRI_FIT_OUT_OF_SCOPE && reading->score >= knobs->gate_scope &&
           posterior >= knobs->gate_confidence;
}

void sri_settle(const sri_knobs *knobs, double posterior, sri_reading *reading) {
    double x[SRI_SETTLED_FEATURES];
    sri_settled_features(knobs, reading, posterior, x);
    double confidence = sri_logistic(sri_logit_score(&knobs->settled, x, SRI_SETTLED_FEATURES));
    reading->in_scope = SRI_MIN(confidence / posterior, 1);
}
