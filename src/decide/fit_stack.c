/*
 * fit_stack.c - weights with which experts' scores are added up (stacking: Wolpert, 1992).
 *
 * The loss, -ln softmax of the weighted sum at the right route, is convex in the weights; with at most three of
 * them Newton's method on a 3 x 3 system ends in a few steps. A weight that would turn negative is held at 0.
 * The prior is the curvature that `prior_texts` texts like these have at its weights: so it fades in
 * step with the texts there are, in whatever units the scores are.
 */
#include <math.h>
#include <string.h>

#include "decide/fit_int.h"

#define MAX_STEPS 30
#define CONVERGED 1e-4

typedef struct curve {
    double gradient[SRI_STACK], hessian[SRI_STACK][SRI_STACK];
} curve;

static const float *scores_of(const sri_stack *stack, size_t expert, size_t i) {
    return stack->scores[expert] + stack->rows[i] * stack->stride[expert];
}

/* Adds a text's part: the mean and covariance of the experts' scores under the softmax. */
static void add_text(const sri_stack *stack, const double *weights, size_t i, float *sums,
                     curve *c) {
    float most = -INFINITY;
    for (size_t r = 0; r < stack->routes; r++) {
        float sum = 0;
        for (size_t e = 0; e < stack->experts; e++)
            sum += (float)weights[e] * scores_of(stack, e, i)[r];
        sums[r] = sum;
        most = SRI_MAX(most, sum);
    }
    double total = 0, first[SRI_STACK] = {0}, second[SRI_STACK][SRI_STACK] = {{0}};
    for (size_t r = 0; r < stack->routes; r++) {
        if (sums[r] < most - 20) continue; /* no part worth the name */
        double p = exp((double)sums[r] - most);
        total += p;
        for (size_t e = 0; e < stack->experts; e++) {
            double score = scores_of(stack, e, i)[r];
            first[e] += p * score;
            for (size_t f = 0; f <= e; f++) second[e][f] += p * score * scores_of(stack, f, i)[r];
        }
    }
    for (size_t e = 0; e < stack->experts; e++) {
        c->gradient[e] += first[e] / total - scores_of(stack, e, i)[stack->rights[i]];
        for (size_t f = 0; f <= e; f++)
            c->hessian[e][f] += second[e][f] / total - first[e] * first[f] / (total * total);
    }
}

static void differentiate(const sri_stack *stack, const double *weights, float *sums, curve *c) {
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < stack->n; i++) add_text(stack, weights, i, sums, c);
    for (size_t e = 0; e < stack->experts; e++)
        for (size_t f = 0; f < e; f++) c->hessian[f][e] = c->hessian[e][f];
}

/* Solves hessian * step = gradient over the experts that are not held, by elimination. */
static void solve(curve *c, size_t experts, const bool *held) {
    for (size_t e = 0; e < experts; e++) {
        if (!held[e]) continue;
        for (size_t f = 0; f < experts; f++) c->hessian[e][f] = c->hessian[f][e] = 0;
        c->hessian[e][e] = 1;
        c->gradient[e] = 0;
    }
    for (size_t e = 0; e < experts; e++) {
        double pivot = SRI_MAX(c->hessian[e][e], 1e-12);
        for (size_t r = e + 1; r < experts; r++) {
            double factor = c->hessian[r][e] / pivot;
            for (size_t f = e; f < experts; f++) c->hessian[r][f] -= factor * c->hessian[e][f];
            c->gradient[r] -= factor * c->gradient[e];
        }
    }
    for (size_t e = experts; e-- > 0;) {
        for (size_t f = e + 1; f < experts; f++)
            c->gradient[e] -= c->hessian[e][f] * c->gradient[f];
        c->gradient[e] /= SRI_MAX(c->hessian[e][e], 1e-12);
    }
}

/* Adds the pull towards the prior. */
static void add_prior(const curve *prior, const double *centre, const double *weights,
                      size_t experts, curve *c) {
    for (size_t e = 0; e < experts; e++)
        for (size_t f = 0; f < experts; f++) {
            c->gradient[e] += prior->hessian[e][f] * (weights[f] - centre[f]);
            c->hessian[e][f] += prior->hessian[e][f];
        }
}

bool sri_stack_fit(const sri_stack *stack, double prior_texts, double *weights) {
    float *sums = sri_alloc_array(stack->routes, sizeof *sums);
    if (sums == NULL) return false;
    double centre[SRI_STACK];
    memcpy(centre, weights, stack->experts * sizeof *weights);
    curve prior, now;
    differentiate(stack, centre, sums, &prior);
    for (size_t e = 0; e < stack->experts; e++)
        for (size_t f = 0; f < stack->experts; f++)
            prior.hessian[e][f] *= stack->n == 0 ? 0 : prior_texts / (double)stack->n;
    bool held[SRI_STACK] = {false};
    double moved = INFINITY;
    for (int step = 0; step < MAX_STEPS && moved > CONVERGED; step++) {
        differentiate(stack, weights, sums, &now);
        add_prior(&prior, centre, weights, stack->experts, &now);
        solve(&now, stack->experts, held);
        moved = 0;
        for (size_t e = 0; e < stack->experts; e++) {
            /* A step beyond twice or half of a weight is cut: far out the curvature is gone. */
            double limit = SRI_MAX(0.5 * weights[e], 0.05 * centre[e]);
            double change = SRI_MAX(-limit, SRI_MIN(limit, now.gradient[e]));
            double next = weights[e] - change;
            if (next < 0.02 * centre[e]) {
                next = 0;
                held[e] = true;
            }
            moved = SRI_MAX(moved, fabs(next - weights[e]) / SRI_MAX(centre[e], 1e-9));
            weights[e] = next;
        }
    }
    sri_free(sums);
    return true;
}
