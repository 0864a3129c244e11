/*
 * neighbours.h - of every row of a matrix, the nearest of its own group and of all others; and pairs of rows
 * of different groups that are nearly the same.
 */
#ifndef SRI_NEIGHBOURS_H
#define SRI_NEIGHBOURS_H

#include "base/base.h"

#define SRI_NEIGHBOUR_NONE UINT32_MAX

typedef struct sri_neighbours {
    uint32_t own, other; /* rows; SRI_NEIGHBOUR_NONE: there is none. Equally near: the first */
    float own_cosine, other_cosine;
} sri_neighbours;

typedef struct sri_near_pair {
    uint32_t a, b; /* a < b */
    float cosine;
} sri_near_pair;

typedef struct sri_neighbour_job {
    const float *vectors;    /* count x dimension, each of length 1 */
    const uint32_t *groups;  /* of each row, ascending or not */
    size_t count, dimension; /* count below 2^32 - 1 */
    float near;              /* pairs at least this near are listed */
    size_t max_pairs;        /* and no more than these, the nearest */
    int threads;
    sr_progress_fn *progress; /* in rows */
    void *progress_user;
} sri_neighbour_job;

/* Compares each row with all others. `found` takes `count` entries; `*pairs` is allocated, nearest first, and
 * `*seen` takes how many there were. The result does not depend on the number of threads. */
SR_MUST_CHECK sr_status sri_neighbours_find(const sri_neighbour_job *job, sri_neighbours *found,
                                            sri_near_pair **pairs, size_t *pair_count, size_t *seen,
                                            sr_error *error);

#endif
