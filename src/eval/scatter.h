/*
 * scatter.h - vectors as points of a plane, so that people see which lie near one another.
 */
#ifndef SRI_SCATTER_H
#define SRI_SCATTER_H

#include "base/base.h"

/* Writes `n` points (x, y) to `points`: the first two principal components of n x dimension values, row-major, within -1
 * to 1 on one scale for both. `explained` takes the share of the variance along each. The result is always the same for
 * the same vectors. */
SR_MUST_CHECK sr_status sri_scatter(const float *vectors, size_t n, size_t dimension, float *points,
                                    double explained[2], sr_error *error);

#endif
