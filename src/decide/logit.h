/*
 * logit.h - logistic regression on a handful of features: what turns scores into probabilities.
 */
#ifndef SRI_LOGIT_H
#define SRI_LOGIT_H

#include "base/base.h"

#define SRI_LOGIT_MAX 4

/* p = 1 / (1 + exp(-(bias + sum of weight[i] * x[i]))). Doubles only, so that it can be stored as it is. */
typedef struct sri_logit {
    double bias;
    double weight[SRI_LOGIT_MAX];
} sri_logit;

/* Samples: x [n, width] row-major, width at most SRI_LOGIT_MAX, labels 0 or 1, weights. */
typedef struct sri_logit_data {
    size_t n, width;
    const double *x;
    const uint8_t *labels;
    const double *weights;
} sri_logit_data;

/* Minimises the sum of weight * loss + strength / 2 * |w - prior's w|^2 + strength / 8 * (bias - prior's)^2, by
 * Newton's method with step halving. `strength` is above 0, so that any samples, or none, give an answer. */
void sri_logit_fit(const sri_logit_data *data, const sri_logit *prior, double strength,
                   sri_logit *model);

/* The model whose scores are nearest to `scores` [n], instead of to labels, which are not read: minimises the sum of
 * weight / 2 * (score - scores[i])^2 and the same terms of `prior`. */
void sri_logit_match(const sri_logit_data *data, const double *scores, const sri_logit *prior,
                     double strength, sri_logit *model);

/* bias + sum of weight * x over `width` features. */
double sri_logit_score(const sri_logit *model, const double *x, size_t width);
double sri_logistic(double score);

#endif
