/*
 * logit.c - logistic regression by Newton's method (iteratively reweighted least squares; e.g. Hastie, Tibshirani
 * and Friedman, The Elements of Statistical Learning, 4.4), with a Gaussian prior. Pure functions.
 *
 * With at most 4 features a Newton step is a 5 x 5 system, solved by Cholesky; ten steps suffice, so nothing
 * faster is needed. The prior keeps few or separable samples from giving extreme weights.
 */
#include "decide/logit.h"

#include <math.h>
#include <string.h>

#define SIZE (SRI_LOGIT_MAX + 1) /* the bias is the last unknown */

#define MAX_STEPS    50
#define MAX_HALVINGS 20
#define CONVERGED    1e-10

typedef struct problem {
    const sri_logit_data *data;
    double prior[SIZE], strength[SIZE]; /* of each unknown */
} problem;

double sri_logistic(double score) { return 1 / (1 + exp(-score)); }

double sri_logit_score(const sri_logit *model, const double *x, size_t width) {
    double sum = model->bias;
    for (size_t i = 0; i < width; i++) sum += model->weight[i] * x[i];
    return sum;
}

/* ln(1 + exp(z)) without overflow. */
static double softplus(double z) { return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z)); }

static double score_at(const problem *p, const double *beta, size_t i) {
    size_t width = p->data->width;
    double z = beta[width];
    for (size_t j = 0; j < width; j++) z += beta[j] * p->data->x[i * width + j];
    return z;
}

static double loss_at(const problem *p, const double *beta) {
    double loss = 0;
    for (size_t r = 0; r <= p->data->width; r++) {
        double away = beta[r] - p->prior[r];
        loss += p->strength[r] / 2 * away * away;
    }
    for (size_t i = 0; i < p->data->n; i++) {
        double z = score_at(p, beta, i);
        loss += p->data->weights[i] * (softplus(z) - (p->data->labels[i] != 0 ? z : 0));
    }
    return loss;
}

static void derivatives(const problem *p, const double *beta, double gradient[SIZE],
                        double hessian[SIZE][SIZE]) {
    size_t width = p->data->width, n = width + 1;
    memset(hessian, 0, SIZE * sizeof *hessian);
    for (size_t r = 0; r < n; r++) {
        gradient[r] = p->strength[r] * (beta[r] - p->prior[r]);
        hessian[r][r] = p->strength[r];
    }
    double x[SIZE];
    x[width] = 1;
    for (size_t i = 0; i < p->data->n; i++) {
        memcpy(x, p->data->x + i * width, width * sizeof *x);
        double w = p->data->weights[i], q = sri_logistic(score_at(p, beta, i));
        double pull = w * (q - (p->data->labels[i] != 0 ? 1 : 0)), curve = w * q * (1 - q);
        for (size_t r = 0; r < n; r++) {
            gradient[r] += pull * x[r];
            for (size_t c = 0; c <= r; c++) hessian[r][c] += curve * x[r] * x[c];
        }
    }
}

/* Solves hessian * step = gradient in place, by Cholesky; the lower triangle is read. */
static void solve(double hessian[SIZE][SIZE], double *step, size_t n) {
    for (size_t r = 0; r < n; r++) {
        for (size_t c = 0; c <= r; c++) {
            double sum = hessian[r][c];
            for (size_t k = 0; k < c; k++) sum -= hessian[r][k] * hessian[c][k];
            hessian[r][c] = r == c ? sqrt(SRI_MAX(sum, 1e-12)) : sum / hessian[c][c];
        }
    }
    for (size_t r = 0; r < n; r++) {
        for (size_t k = 0; k < r; k++) step[r] -= hessian[r][k] * step[k];
        step[r] /= hessian[r][r];
    }
    for (size_t r = n; r-- > 0;) {
        for (size_t k = r + 1; k < n; k++) step[r] -= hessian[k][r] * step[k];
        step[r] /= hessian[r][r];
    }
}

/* Moves beta along -step, halved until the loss falls. False when it does not: the end is reached. */
static bool descend(const problem *p, double *beta, const double *step, double *loss) {
    size_t n = p->data->width + 1;
    double share = 1, trial[SIZE];
    for (int halving = 0; halving < MAX_HALVINGS; halving++, share /= 2) {
        for (size_t r = 0; r < n; r++) trial[r] = beta[r] - share * step[r];
        double now = loss_at(p, trial);
        if (!(now < *loss)) continue;
        bool more = *loss - now > CONVERGED * (fabs(*loss) + 1);
        memcpy(beta, trial, n * sizeof *beta);
        *loss = now;
        return more;
    }
    return false;
}

static problem problem_of(const sri_logit_data *data, const sri_logit *prior, double strength) {
    problem p = {.data = data};
    for (size_t r = 0; r < data->width; r++) {
        p.prior[r] = prior->weight[r];
        p.strength[r] = strength;
    }
    p.prior[data->width] = prior->bias;
    p.strength[data->width] = strength / 4;
    return p;
}

static void take_over(const double *beta, size_t width, sri_logit *model) {
    *model = (sri_logit){.bias = beta[width]};
    for (size_t j = 0; j < width; j++) model->weight[j] = beta[j];
}

void sri_logit_fit(const sri_logit_data *data, const sri_logit *prior, double strength,
                   sri_logit *model) {
    problem p = problem_of(data, prior, strength);
    double beta[SIZE], step[SIZE], hessian[SIZE][SIZE];
    memcpy(beta, p.prior, sizeof beta);
    double loss = loss_at(&p, beta);
    for (int i = 0; i < MAX_STEPS; i++) {
        derivatives(&p, beta, step, hessian);
        solve(hessian, step, data->width + 1);
        if (!descend(&p, beta, step, &loss)) break;
    }
    take_over(beta, data->width, model);
}

void sri_logit_match(const sri_logit_data *data, const double *scores, const sri_logit *prior,
                     double strength, sri_logit *model) {
    problem p = problem_of(data, prior, strength);
    size_t n = data->width + 1;
    double hessian[SIZE][SIZE] = {{0}}, beta[SIZE] = {0}, x[SIZE];
    for (size_t r = 0; r < n; r++) hessian[r][r] = p.strength[r];
    x[data->width] = 1;
    for (size_t i = 0; i < data->n; i++) {
        memcpy(x, data->x + i * data->width, data->width * sizeof *x);
        double away = data->weights[i] * (scores[i] - score_at(&p, p.prior, i));
        for (size_t r = 0; r < n; r++) {
            beta[r] += away * x[r];
            for (size_t c = 0; c <= r; c++) hessian[r][c] += data->weights[i] * x[r] * x[c];
        }
    }
    solve(hessian, beta, n);
    for (size_t r = 0; r < n; r++) beta[r] += p.prior[r];
    take_over(beta, data->width, model);
}
