/*
 * decide.c - nearest utterance, thresholds and a fixed prior for confidence. Pure functions, no state.
 *
 * The rule: the route with the highest cosine is the candidate. It is turned down when it misses its own
 * threshold (`below_threshold`), or else when it leads the next route by less than the margin
 * (`ambiguous`). Only the best route is asked: that the second would have passed a lower threshold does not
 * make it a better answer than the first.
 *
 * Confidence is a logistic function of the best cosine and its lead over the second route, with constants
 * fitted once by tools/fit_confidence_prior.py on leave-one-out decisions of the public training data of
 * CLINC150 and Banking77, encoded by bge-small-en-v1.5. It is a prior: NOT calibrated to the table at hand
 * nor to another encoder. It orders decisions well and says roughly how often such a decision is right.
 *
 * Stages still to come, each of which takes its place here:
 *   1. fast path      a posterior from static vectors and words, final when its margin clears a gate;
 *   2. heads          a trained head and lexical scores, blended with these cosines;
 *   3. calibration    confidence fitted to the table, and AUTO thresholds compared with it;
 *   4. polarity       opposites told apart before a match is given.
 */
#include "decide/decide.h"

#include <math.h>

/* A cosine is a sum of hundreds of rounded products: a text compared with itself may give 0.9999999. */
#define ROUNDING 1e-6

static double clamp(double score) { return score > 1 ? 1 : score < -1 ? -1 : score; }

static double logistic(double x) { return 1 / (1 + exp(-x)); }

/* Printed by tools/fit_confidence_prior.py. */
static const struct {
    double bias, score, lead; /* two routes or more */
    double lone_bias, lone_score;
} prior = {-12.146, 14.281, 32.765, -23.912, 31.984};

double sri_confidence(const double *scores, size_t count, size_t place) {
    if (count == 0) return NAN;
    double best = clamp(scores[0]);
    if (count == 1) return logistic(prior.lone_bias + prior.lone_score * best);
    double lead = best - clamp(scores[1]);
    double first = logistic(prior.bias + prior.score * best + prior.lead * lead);
    if (place == 0) return first;
    double own = clamp(scores[place]);
    double alone = logistic(prior.bias + prior.score * own - prior.lead * (best - own));
    return SRI_MIN(alone, ldexp(1 - first, -(int)place)); /* so that all sum to at most 1 */
}

static bool passes(const sr_threshold *threshold, double score, double confidence) {
    switch (threshold->kind) {
    case SR_THRESHOLD_COSINE: return score + ROUNDING >= threshold->value;
    case SR_THRESHOLD_CONFIDENCE: return confidence >= threshold->value;
    case SR_THRESHOLD_AUTO: break;
    }
    return score + ROUNDING >= SRI_AUTO_COSINE;
}

sri_verdict sri_decide(const double *scores, size_t count, const sri_rule *rule) {
    sri_verdict verdict = {SR_NONE, SR_REASON_EMPTY_TABLE, NAN, NAN, NAN};
    if (count == 0) return verdict;
    verdict.score = clamp(scores[0]);
    verdict.confidence = sri_confidence(scores, count, 0);
    if (count > 1) verdict.margin = verdict.score - clamp(scores[1]);
    if (!rule->no_reject) {
        verdict.reason = SR_REASON_BELOW_THRESHOLD;
        if (!passes(&rule->threshold, verdict.score, verdict.confidence)) return verdict;
        verdict.reason = SR_REASON_AMBIGUOUS;
        if (count > 1 && verdict.margin < rule->margin) return verdict;
    }
    verdict.status = SR_MATCHED;
    verdict.reason = SR_REASON_MATCHED;
    return verdict;
}
