/*
 * decide.c - thresholds and margin, for neighbours and for trained heads; and a prior for confidence. Pure
 * functions, no state.
 *
 * The neighbours' rule: the route with the highest cosine is the candidate. It is turned down when it misses its own
 * threshold (`below_threshold`), or else when it leads the next route by less than the margin
 * (`ambiguous`). Only the best route is asked: that the second would have passed a lower threshold does not
 * make it a better answer than the first. An out-of-scope example that is nearer than every route turns the
 * text down, and one that is not counts as another route in the confidence.
 *
 * Confidence is a logistic function of the best cosine and its lead over the second route, with constants
 * fitted once by tools/fit_confidence_prior.py on leave-one-out decisions of the public training data of
 * CLINC150 and Banking77, encoded by bge-small-en-v1.5. It is a prior: NOT calibrated to the table at hand
 * nor to another encoder. It orders decisions well and says roughly how often such a decision is right.
 *
 * The heads' rule (their candidate and confidence come from sri_fit): automatic and confidence thresholds are compared
 * with a calibrated probability, cosine thresholds with the cosine of the candidate's best utterance.
 *
 * A stage still to come, which takes its place here: polarity, opposites told apart before a match is given.
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

double sri_confidence(const double *scores, size_t count, double rival, size_t place) {
    if (count == 0) return NAN;
    double best = clamp(scores[0]), next = count > 1 ? clamp(scores[1]) : rival;
    if (isnan(next)) return logistic(prior.lone_bias + prior.lone_score * best);
    if (rival > next) next = rival;
    double lead = best - next;
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

/* Completes a verdict whose figures are there; an unknown margin is never too small. */
static sri_verdict judge(sri_verdict verdict, bool passed, const sri_rule *rule) {
    verdict.status = SR_NONE;
    verdict.reason = SR_REASON_BELOW_THRESHOLD;
    if (!passed && !rule->no_reject) return verdict;
    verdict.reason = SR_REASON_AMBIGUOUS;
    if (verdict.margin < rule->margin && rule->margin > 0 && !rule->no_reject) return verdict;
    verdict.status = SR_MATCHED;
    verdict.reason = SR_REASON_MATCHED;
    return verdict;
}

sri_verdict sri_decide(const double *scores, size_t count, double rival, const sri_rule *rule) {
    sri_verdict verdict = {SR_NONE, SR_REASON_EMPTY_TABLE, NAN, NAN, NAN};
    if (count == 0) return verdict;
    verdict.score = clamp(scores[0]);
    verdict.confidence = sri_confidence(scores, count, rival, 0);
    if (count > 1) verdict.margin = verdict.score - clamp(scores[1]);
    bool passed =
        !(rival > scores[0]) && passes(&rule->threshold, verdict.score, verdict.confidence);
    return judge(verdict, passed, rule);
}

sri_verdict sri_decide_fitted(const sri_fitted_scores *evidence, const sri_rule *rule) {
    sri_verdict verdict = {.score = isnan(evidence->score) ? NAN : clamp(evidence->score),
                           .margin = evidence->margin,
                           .confidence = evidence->confidence};
    bool automatic = rule->threshold.kind == SR_THRESHOLD_AUTO;
    bool passed = automatic ? evidence->accepted
                            : passes(&rule->threshold, verdict.score, verdict.confidence);
    return judge(verdict, passed, rule);
}
