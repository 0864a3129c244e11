/*
 * scatter.c - the first two principal components by orthogonal iteration (Golub and Van Loan, Matrix Computations,
 * 8.2.4).
 *
 * Two directions are multiplied by the covariance, by way of the rows, and made orthogonal, again and again. Each
 * round reads all vectors once, and some dozens of rounds are enough for a picture. All components at once
 * (model/pca.c) take seconds, and need the whole covariance.
 */
#include "eval/scatter.h"

#include <math.h>
#include <string.h>

#define ROUNDS  60
#define SETTLED 1e-6

typedef struct scatter {
    const float *vectors;
    size_t n, dimension;
    double *mean;        /* dimension */
    double *axes, *next; /* 2 x dimension */
} scatter;

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void project(const scatter *s, const float *row, double out[2]) {
    double x = 0, y = 0;
    for (size_t j = 0; j < s->dimension; j++) {
        double value = row[j] - s->mean[j];
        x += value * s->axes[j];
        y += value * s->axes[s->dimension + j];
    }
    out[0] = x;
    out[1] = y;
}

/* next = covariance x axes, times n. */
static void multiply(scatter *s) {
    memset(s->next, 0, 2 * s->dimension * sizeof *s->next);
    for (size_t i = 0; i < s->n; i++) {
        const float *row = s->vectors + i * s->dimension;
        double at[2];
        project(s, row, at);
        for (size_t j = 0; j < s->dimension; j++) {
            double value = row[j] - s->mean[j];
            s->next[j] += at[0] * value;
            s->next[s->dimension + j] += at[1] * value;
        }
    }
}

/* Length 1, or 0 where nothing is left. */
static void normalise(double *axis, size_t n) {
    double length = sqrt(dot(axis, axis, n));
    for (size_t i = 0; i < n; i++) axis[i] = length > 1e-12 ? axis[i] / length : 0;
}

/* Makes the next directions the current ones; how far they have turned. */
static double take_next(scatter *s) {
    size_t n = s->dimension;
    double *first = s->next, *second = s->next + n;
    normalise(first, n);
    double shared = dot(first, second, n);
    for (size_t i = 0; i < n; i++) second[i] -= shared * first[i];
    normalise(second, n);
    double turned = 2 - fabs(dot(first, s->axes, n)) - fabs(dot(second, s->axes + n, n));
    memcpy(s->axes, s->next, 2 * n * sizeof *s->axes);
    return turned;
}

static void find_axes(scatter *s) {
    size_t n = s->dimension;
    for (size_t i = 0; i < s->n * n; i++) s->mean[i % n] += s->vectors[i];
    for (size_t j = 0; j < n; j++) s->mean[j] /= (double)SRI_MAX(s->n, (size_t)1);
    /* Any start does that is not orthogonal to the result. */
    for (size_t j = 0; j < 2 * n; j++) s->next[j] = cos((double)(j + 1) * 1.7 + (double)(j / n));
    take_next(s);
    for (int round = 0; round < ROUNDS; round++) {
        multiply(s);
        if (take_next(s) < SETTLED) break;
    }
    /* Either sign would do: the largest part is positive. */
    for (size_t k = 0; k < 2; k++) {
        double *axis = s->axes + k * n;
        size_t largest = 0;
        for (size_t j = 1; j < n; j++)
            if (fabs(axis[j]) > fabs(axis[largest])) largest = j;
        double sign = n > 0 && axis[largest] < 0 ? -1 : 1;
        for (size_t j = 0; j < n; j++) axis[j] *= sign;
    }
}

static void place(const scatter *s, float *points, double explained[2]) {
    double all = 0, own[2] = {0, 0}, largest = 0;
    for (size_t i = 0; i < s->n; i++) {
        const float *row = s->vectors + i * s->dimension;
        double at[2];
        project(s, row, at);
        for (size_t j = 0; j < s->dimension; j++)
            all += (row[j] - s->mean[j]) * (row[j] - s->mean[j]);
        for (size_t k = 0; k < 2; k++) {
            own[k] += at[k] * at[k];
            largest = fmax(largest, fabs(at[k]));
            points[2 * i + k] = (float)at[k];
        }
    }
    for (size_t i = 0; i < 2 * s->n && largest > 0; i++) points[i] = (float)(points[i] / largest);
    for (size_t k = 0; k < 2; k++) explained[k] = all > 0 ? own[k] / all : 0;
}

sr_status sri_scatter(const float *vectors, size_t n, size_t dimension, float *points,
                      double explained[2], sr_error *error) {
    scatter s = {.vectors = vectors, .n = n, .dimension = dimension};
    s.mean = sri_alloc_zero(5 * dimension + 1, sizeof *s.mean);
    if (s.mean == NULL) return sri_fail_memory(error);
    s.axes = s.mean + dimension;
    s.next = s.axes + 2 * dimension;
    find_axes(&s);
    place(&s, points, explained);
    sri_free(s.mean);
    return SR_OK;
}
