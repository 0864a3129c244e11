/*
 * softmax_precondition.c - what makes the steps of a fit long: an approximate inverse of the second derivative.
 *
 * The second derivative for class c is penalty + sum of p (1 - p) x x^T. Boehning's bound ("Multinomial
 * logistic regression algorithm", 1992) puts 1/2 for p (1 - p), which with many classes is a hundred times
 * too much; the mean at equal odds, 1 / classes, is near the truth where it matters, and L-BFGS learns the
 * rest. So one matrix serves all classes: the features' second moments, with a feature that is always 1 for
 * the bias. Of sparse features only the diagonal is taken. Vectors of one model lie in a narrow cone, so
 * that without the full matrix of the dense part a fit takes several times the steps.
 */
#include "decide/softmax_int.h"

#include <string.h>

/* By how much the diagonal alone falls short for sparse features, which come in bundles: a word is in a dozen
 * runs of characters. Tried: from 1 to 100; and second derivatives taken anew on the way, for each class,
 * which saved no step. */
#define BUNDLE   30
#define FULL_MAX 1100 /* above, inverting takes longer than it saves: the diagonal does */

bool sri_preconditioner_open(const sri_softmax *s, sri_preconditioner *p) {
    *p = (sri_preconditioner){0};
    p->diagonal = sri_alloc_array(s->rows, sizeof *p->diagonal);
    if (p->diagonal == NULL) return false;
    if (s->width == 0) return true;
    size_t size = p->size = s->width + 1;
    p->packed = sri_alloc_aligned(s->kernels.gemm_f32.packed_size(size, size));
    p->matrix = sri_alloc_array(size, size * sizeof *p->matrix);
    p->zeros = sri_alloc_zero(size, sizeof *p->zeros);
    p->rows = sri_alloc_array(SRI_MAX(s->classes, size), size * sizeof *p->rows);
    p->image = sri_alloc_array(s->classes, size * sizeof *p->image);
    return p->packed && p->matrix && p->zeros && p->rows && p->image;
}

void sri_preconditioner_close(sri_preconditioner *p) {
    sri_free_aligned(p->packed);
    sri_free(p->matrix);
    sri_free(p->zeros);
    sri_free(p->rows);
    sri_free(p->image);
    sri_free(p->diagonal);
    *p = (sri_preconditioner){0};
}

/* Inverts in place by Gauss and Jordan's elimination, which needs no pivots for a positive definite matrix and
 * runs along rows. */
static void invert(const sri_softmax *s, double *a, size_t n) {
    for (size_t k = 0; k < n; k++) {
        double *row = a + k * n, pivot = 1 / row[k];
        row[k] = 1;
        for (size_t j = 0; j < n; j++) row[j] *= pivot;
        for (size_t i = 0; i < n; i++) {
            if (i == k) continue;
            double factor = a[i * n + k];
            a[i * n + k] = 0;
            s->loops.add_scaled_double(row, -factor, n, a + i * n);
        }
    }
}

static void set_dense(const sri_softmax *s, const sri_softmax_goal *goal, double curvature,
                      sri_preconditioner *p) {
    size_t size = p->size;
    double scale = curvature / (double)s->n * s->gram_share;
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < size; j++)
            p->matrix[i * size + j] =
                i == j || size <= FULL_MAX ? scale * (double)s->gram[i * size + j] : 0;
    for (size_t i = 0; i < size; i++)
        p->matrix[i * size + i] += i < s->width ? goal->dense_penalty : goal->bias_penalty;
    if (size <= FULL_MAX)
        invert(s, p->matrix, size);
    else
        for (size_t i = 0; i < size; i++) p->matrix[i * size + i] = 1 / p->matrix[i * size + i];
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < size; j++)
            p->rows[i * size + j] =
                (float)(0.5 * (p->matrix[i * size + j] + p->matrix[j * size + i]));
    sri_weights_f32 weights = {.w = p->rows, .bias = p->zeros, .n = size, .k = size};
    s->kernels.gemm_f32.pack(&weights, p->packed);
}

void sri_preconditioner_set(const sri_softmax *s, const sri_softmax_goal *goal, double weight,
                            double spread, sri_preconditioner *p) {
    double curvature = weight * spread;
    p->bias = (float)(1 / (goal->bias_penalty + curvature));
    if (p->size > 0) set_dense(s, goal, curvature, p);
    double each = BUNDLE * curvature / (double)s->n;
    for (size_t r = 0; r < s->rows; r++)
        p->diagonal[r] = (float)(1 / (goal->sparse_penalty + each * (double)s->squares[r]));
}

typedef struct application {
    const sri_softmax *solver;
    const sri_preconditioner *p;
    float *vector;
} application;

static void multiply(void *argument, size_t task, int slot) {
    (void)slot;
    const application *job = argument;
    const sri_preconditioner *p = job->p;
    size_t first = task * SRI_N_STEP, last = SRI_MIN(first + SRI_N_STEP, p->size);
    sri_product out = {.y = p->image, .n = p->size, .first = first, .last = last};
    job->solver->kernels.gemm_f32.run(p->rows, job->solver->classes, p->packed, p->size, &out);
}

static void apply_dense(const sri_softmax *s, const sri_preconditioner *p, float *vector) {
    application job = {s, p, vector};
    float *bias = vector + s->bias_at;
    for (size_t c = 0; c < s->classes; c++) {
        memcpy(p->rows + c * p->size, vector + c * s->width, s->width * sizeof *vector);
        p->rows[c * p->size + s->width] = bias[c];
    }
    sri_softmax_run(s, multiply, &job, (p->size + SRI_N_STEP - 1) / SRI_N_STEP);
    for (size_t c = 0; c < s->classes; c++) {
        memcpy(vector + c * s->width, p->image + c * p->size, s->width * sizeof *vector);
        bias[c] = p->image[c * p->size + s->width];
    }
}

static void apply_rows(void *argument, size_t chunk, int slot) {
    (void)slot;
    const application *job = argument;
    const sri_softmax *s = job->solver;
    for (size_t r = s->chunk[chunk]; r < s->chunk[chunk + 1]; r++) {
        float *row = job->vector + s->sparse_at + r * s->wide, factor = job->p->diagonal[r];
        for (size_t c = 0; c < s->wide; c++) row[c] *= factor;
    }
}

void sri_preconditioner_apply(const sri_softmax *s, const sri_preconditioner *p, float *vector) {
    if (p->size > 0)
        apply_dense(s, p, vector);
    else
        for (size_t c = 0; c < s->classes; c++) vector[s->bias_at + c] *= p->bias;
    application job = {s, p, vector};
    sri_softmax_run(s, apply_rows, &job, s->chunks);
}
