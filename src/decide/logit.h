/*
 * logit.h - logistic regression on a handful of features: what turns scores into probabilities.
 */
#ifndef SRI_LOGIT_H
#define SRI_LOGIT_H

#include "base/base.h"

#define SRI_LOGIT_MAX 16

/* p = 1 / (1 + exp(-(bias + sum of weight[i] * x[i]))). A plain struct, so that it can be stored. */
typedef struct sri_logit {
    uint32_t width;
    double bias;
    double weight[SRI_LOGIT_MAX];
} sri_logit;

/* Samples: x [n, width] row-major, labels 0 or 1, weights (NULL: 1). */
typedef struct sri_logit_data {
    size_t n, width;
    const double *x;
    const uint8_t *labels;
    const double *weights;
} sri_logit_data;

/* Fits by Newton's method with step halving. Features are standardised inside; `ridge` is the strength of the
 * penalty on their squared standardised weights, beside the sum of the samples' losses. False when a label does
 * not occur (with a weight above 0), or with more features than SRI_LOGIT_MAX. */
SR_MUST_CHECK bool sri_logit_fit(const sri_logit_data *data, double ridge, sri_logit *model);

/* bias + sum of weight * x. */
double sri_logit_score(const sri_logit *model, const double *x);
double sri_logistic(double score);

#endif
