/*
 * decide.h - the rule that turns scores of routes into a decision, apart from how they were found.
 */
#ifndef SRI_DECIDE_H
#define SRI_DECIDE_H

#include "base/base.h"

#define SRI_AUTO_COSINE 0.60 /* what SR_THRESHOLD_AUTO means until something is fitted */

/* What to compare besides the scores. */
typedef struct sri_rule {
    sr_threshold threshold; /* the best route's own */
    double margin;          /* a smaller lead over the next route is ambiguous; 0: never */
    bool no_reject;         /* the best route, whatever threshold and margin say */
} sri_rule;

typedef struct sri_verdict {
    sr_outcome status;
    sr_reason reason;
    double score;      /* of the best route, within -1 to 1; NaN without routes */
    double margin;     /* its lead; NaN with fewer than two routes */
    double confidence; /* that the best route is right; NaN without routes */
} sri_verdict;

/* Decides from the cosines of the best utterances of the best two routes (or of all there are: `count` may
 * be less), best first. `rule` is not read when `count` is 0. */
sri_verdict sri_decide(const double *scores, size_t count, const sri_rule *rule);

/* The probability that the candidate at `place` (from 0) of `count` is right, given all their scores, best
 * first. At place 0 it is the confidence of the verdict; the others share what that leaves. */
double sri_confidence(const double *scores, size_t count, size_t place);

#endif
