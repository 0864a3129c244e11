/*
 * decide.h - the rules that turn scores of routes into a decision, apart from how they were found.
 */
#ifndef SRI_DECIDE_H
#define SRI_DECIDE_H

#include "base/base.h"

#define SRI_AUTO_COSINE 0.60 /* what SR_THRESHOLD_AUTO means where neighbours decide */

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

/* The neighbours' rule: decides from the cosines of the best utterances of the best two routes (or of all
 * there are: `count` may be less), best first. `rival` is the cosine of the best out-of-scope example, NaN
 * without one: a nearer one turns the text down. `rule` is not read when `count` is 0. */
sri_verdict sri_decide(const double *scores, size_t count, double rival, const sri_rule *rule);

/* The probability that the candidate at `place` (from 0) of `count` is right, given all their scores, best
 * first. At place 0 it is the confidence of the verdict; the others share what that leaves. */
double sri_confidence(const double *scores, size_t count, double rival, size_t place);

/* What trained heads say of their best candidate. */
typedef struct sri_fitted_scores {
    double confidence;
    bool accepted; /* it passes an automatic threshold */
    double score;  /* cosine of its best utterance; NaN by the fast path, which knows none */
    double
        margin; /* its lead over the other routes, below 0 where another is nearer; NaN: unknown */
} sri_fitted_scores;

/* The heads' rule. A cosine threshold is not passed where there is no score; a margin that is unknown is not
 * compared. */
sri_verdict sri_decide_fitted(const sri_fitted_scores *evidence, const sri_rule *rule);

#endif
