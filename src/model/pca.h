/*
 * pca.h - principal components of a set of vectors.
 */
#ifndef SRI_PCA_H
#define SRI_PCA_H

#include "base/base.h"

typedef struct sri_pca {
    size_t n, kept;   /* of components: in all, and wanted */
    double *mean;     /* [n] */
    double *basis;    /* [n, n] rows of length 1, by falling variance; the first `kept` are used */
    double *variance; /* [n] */
} sri_pca;

/* Computes the components of `count` vectors of `n` floats; `kept` is at most n. The result depends
 * on nothing but the arguments, on every machine: the sign of a component is such that its largest
 * coordinate is positive. */
sr_status sri_pca_compute(const float *vectors, size_t count, size_t n, size_t kept, sri_pca *pca,
                          sr_error *error);
void sri_pca_free(sri_pca *pca);

/* out [kept] = basis (vector - centre); `centre` NULL: the mean of the vectors. */
void sri_pca_project(const sri_pca *pca, const float *vector, const double *centre, float *out);

#endif
