/*
 * pca.c - principal components by way of the covariance matrix, in double.
 *
 * The eigenvectors of the covariance C come from one-sided Jacobi rotations (Hestenes, "Inversion of
 * matrices by biorthogonalization and related results", 1958; de Rijk, "A one-sided Jacobi
 * algorithm", 1989): rows of C are rotated in pairs until all are orthogonal. As C = V^T L V, that
 * leaves the rows L V: their lengths are the eigenvalues, their directions the eigenvectors. It
 * touches whole rows only, so that plain loops are fast enough (some seconds for 384 dimensions),
 * and it is short. Tridiagonal QL was rejected: faster, three times the code, and nothing waits for
 * it.
 */
#include "model/pca.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SWEEPS 60
#define TOLERANCE  1e-13

static double dot(const double *a, const double *b, size_t n) {
    double sums[8] = {0}; /* independent, so that they overlap */
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t l = 0; l < 8; l++) sums[l] += a[i + l] * b[i + l];
    for (; i < n; i++) sums[0] += a[i] * b[i];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) +
           ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* Makes two rows orthogonal; false when they are already. */
static bool rotate(double *p, double *q, size_t n) {
    double pp = dot(p, p, n), qq = dot(q, q, n), pq = dot(p, q, n);
    if (fabs(pq) <= TOLERANCE * sqrt(pp) * sqrt(qq)) return false;
    double zeta = (qq - pp) / (2 * pq);
    double t = copysign(1.0, zeta) / (fabs(zeta) + sqrt(1 + zeta * zeta));
    double c = 1 / sqrt(1 + t * t), s = c * t;
    for (size_t i = 0; i < n; i++) {
        double a = p[i], b = q[i];
        p[i] = c * a - s * b;
        q[i] = s * a + c * b;
    }
    return true;
}

static void diagonalise(double *rows, size_t n) {
    bool moved = true;
    for (int sweep = 0; moved && sweep < MAX_SWEEPS; sweep++) {
        moved = false;
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++)
                if (rotate(rows + p * n, rows + q * n, n)) moved = true;
    }
}

/* Adds the upper triangle of (x - mean)^T (x - mean) for some vectors, which are centred in
 * `block`. */
static void add_covariance(const double *block, size_t count, size_t n, double *sums) {
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < count; r++) {
            const double *x = block + r * n;
            double factor = x[i];
            for (size_t j = i; j < n; j++) sums[i * n + j] += factor * x[j];
        }
}

#define BLOCK ((size_t)32)

static sr_status covariance(const float *vectors, size_t count, size_t n, const double *mean,
                            double *out, sr_error *error) {
    double *block = sri_alloc_array(BLOCK * n, sizeof *block);
    if (block == NULL) return sri_fail_memory(error);
    for (size_t first = 0; first < count; first += BLOCK) {
        size_t rows = SRI_MIN(BLOCK, count - first);
        for (size_t i = 0; i < rows * n; i++) block[i] = vectors[first * n + i] - mean[i % n];
        add_covariance(block, rows, n, out);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) out[j * n + i] = out[i * n + j] /= (double)count;
    sri_free(block);
    return SR_OK;
}

/* The row of greatest length; those that were taken have a negative one. */
static size_t longest(const double *lengths, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (lengths[i] > lengths[best]) best = i;
    return best;
}

/* Rows L V to directions and lengths, by falling length. `lengths` is scratch [n]. */
static void finish(sri_pca *pca, const double *rows, double *lengths) {
    size_t n = pca->n;
    for (size_t i = 0; i < n; i++) lengths[i] = sqrt(dot(rows + i * n, rows + i * n, n));
    for (size_t k = 0; k < n; k++) {
        size_t best = longest(lengths, n), largest = 0;
        const double *row = rows + best * n;
        double length = pca->variance[k] = lengths[best], *out = pca->basis + k * n;
        lengths[best] = -1;
        for (size_t j = 1; j < n; j++)
            if (fabs(row[j]) > fabs(row[largest])) largest = j;
        if (row[largest] < 0) length = -length;
        for (size_t j = 0; j < n; j++) out[j] = length != 0 ? row[j] / length : 0;
    }
}

sr_status sri_pca_compute(const float *vectors, size_t count, size_t n, size_t kept, sri_pca *pca,
                          sr_error *error) {
    *pca = (sri_pca){.n = n, .kept = kept};
    double *rows = sri_alloc_zero(n * n + n, sizeof *rows); /* and lengths behind them */
    pca->mean = sri_alloc_zero(n, sizeof *pca->mean);
    pca->basis = sri_alloc_array(n * n, sizeof *pca->basis);
    pca->variance = sri_alloc_array(n, sizeof *pca->variance);
    sr_status code =
        rows != NULL && pca->mean != NULL && pca->basis != NULL && pca->variance != NULL
            ? SR_OK
            : sri_fail_memory(error);
    if (code == SR_OK) {
        for (size_t i = 0; i < count * n; i++) pca->mean[i % n] += vectors[i];
        for (size_t i = 0; i < n; i++) pca->mean[i] /= (double)count;
        code = covariance(vectors, count, n, pca->mean, rows, error);
    }
    if (code == SR_OK) {
        diagonalise(rows, n);
        finish(pca, rows, rows + n * n);
    } else {
        sri_pca_free(pca);
    }
    sri_free(rows);
    return code;
}

void sri_pca_free(sri_pca *pca) {
    sri_free(pca->mean);
    sri_free(pca->basis);
    sri_free(pca->variance);
    *pca = (sri_pca){0};
}

void sri_pca_project(const sri_pca *pca, const float *vector, const double *centre, float *out) {
    const double *from = centre == NULL ? pca->mean : centre;
    for (size_t k = 0; k < pca->kept; k++) {
        const double *axis = pca->basis + k * pca->n;
        double sum = 0;
        for (size_t i = 0; i < pca->n; i++) sum += axis[i] * (vector[i] - from[i]);
        out[k] = (float)sum;
    }
}
