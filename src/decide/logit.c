/*
 * logit.c - logistic regression by Newton's method (iteratively reweighted least squares; e.g. Hastie, Tibshirani
 * and Friedman, The Elements of Statistical Learning, 4.4). Pure functions.
 *
 * With at most 16 features a Newton step is a 17 x 17 system, solved by Cholesky; ten steps suffice, so
 * nothing faster is needed. The penalty keeps separable samples finite.
 */
#include "decide/logit.h"

#include <math.h>
#include <string.h>

#define SIZE (SRI_LOGIT_MAX + 1) /* the bias is the last unknown */

#define MAX_STEPS    50
#define MAX_HALVINGS 20
#define CONVERGED    1e-9

double sri_logistic(double score) { return 1 / (1 + exp(-score)); }

double sri_logit_score(const sri_logit *model, const double *x) {
    double sum = model->bias;
    for (uint32_t i = 0; i < model->width; i++) sum += model->weight[i] * x[i];
    return sum;
}

typedef struct problem {
    const sri_logit_data *data;
    double mean[SRI_LOGIT_MAX], scale[SRI_LOGIT_MAX];
    double ridge;
} problem;

static double weight_of(const sri_logit_data *data, size_t i) {
    return data->weights == NULL ? 1 : data->weights[i];
}

/* False when one of the labels does not occur. */
static bool standardise(problem *p) {
    const sri_logit_data *data = p->data;
    double total = 0, ones = 0;
    double sum[SRI_LOGIT_MAX] = {0}, squares[SRI_LOGIT_MAX] = {0};
    for (size_t i = 0; i < data->n; i++) {
        double w = weight_of(data, i);
        total += w;
        ones += data->labels[i] != 0 ? w : 0;
        for (size_t j = 0; j < data->width; j++) sum[j] += w * data->x[i * data->width + j];
    }
    if (!(ones > 0) || !(total - ones > 0)) return false;
    for (size_t j = 0; j < data->width; j++) p->mean[j] = sum[j] / total;
    for (size_t i = 0; i < data->n; i++)
        for (size_t j = 0; j < data->width; j++) {
            double away = data->x[i * data->width + j] - p->mean[j];
            squares[j] += weight_of(data, i) * away * away;
        }
    for (size_t j = 0; j < data->width; j++) {
        double deviation = sqrt(squares[j] / total);
        p->scale[j] = deviation > 1e-12 ? 1 / deviation : 0;
    }
    return true;
}

static void features_of(const problem *p, size_t i, double *x) {
    size_t width = p->data->width;
    for (size_t j = 0; j < width; j++)
        x[j] = (p->data->x[i * width + j] - p->mean[j]) * p->scale[j];
    x[width] = 1;
}

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* ln(1 + exp(z)) without overflow. */
static double softplus(double z) { return z > 0 ? z + log1p(exp(-z)) : log1p(exp(z)); }

static double loss_at(const problem *p, const double *beta) {
    size_t width = p->data->width;
    double x[SIZE], loss = p->ridge / 2 * dot(beta, beta, width);
    for (size_t i = 0; i < p->data->n; i++) {
        features_of(p, i, x);
        double z = dot(x, beta, width + 1);
        loss += weight_of(p->data, i) * (softplus(z) - (p->data->labels[i] != 0 ? z : 0));
    }
    return loss;
}

static void derivatives(const problem *p, const double *beta, double gradient[SIZE],
                        double hessian[SIZE][SIZE]) {
    size_t width = p->data->width, n = width + 1;
    memset(gradient, 0, SIZE * sizeof *gradient);
    memset(hessian, 0, SIZE * sizeof *hessian);
    double x[SIZE];
    for (size_t i = 0; i < p->data->n; i++) {
        features_of(p, i, x);
        double w = weight_of(p->data, i), q = sri_logistic(dot(x, beta, n));
        double pull = w * (q - (p->data->labels[i] != 0 ? 1 : 0)), curve = w * q * (1 - q);
        for (size_t r = 0; r < n; r++) {
            gradient[r] += pull * x[r];
            for (size_t c = 0; c <= r; c++) hessian[r][c] += curve * x[r] * x[c];
        }
    }
    for (size_t r = 0; r < width; r++) {
        gradient[r] += p->ridge * beta[r];
        hessian[r][r] += p->ridge;
    }
    for (size_t r = 0; r < n; r++) hessian[r][r] += 1e-9; /* a feature that never varies */
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

bool sri_logit_fit(const sri_logit_data *data, double ridge, sri_logit *model) {
    problem p = {.data = data, .ridge = ridge};
    if (data->width > SRI_LOGIT_MAX || !standardise(&p)) return false;
    double beta[SIZE] = {0}, step[SIZE], hessian[SIZE][SIZE];
    double loss = loss_at(&p, beta);
    for (int i = 0; i < MAX_STEPS; i++) {
        derivatives(&p, beta, step, hessian);
        solve(hessian, step, data->width + 1);
        if (!descend(&p, beta, step, &loss)) break;
    }
    *model = (sri_logit){.width = (uint32_t)data->width, .bias = beta[data->width]};
    for (size_t j = 0; j < data->width; j++) {
        model->weight[j] = beta[j] * p.scale[j];
        model->bias -= model->weight[j] * p.mean[j];
    }
    return true;
}
