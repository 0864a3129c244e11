/*
 * distill_fit.h - fits token vectors so that the means of texts come near to given vectors.
 */
#ifndef SRI_DISTILL_FIT_H
#define SRI_DISTILL_FIT_H

#include "base/base.h"

/* Texts as lists of token ids: text t is ids[start[t]] to ids[start[t + 1] - 1]. */
typedef struct sri_token_lists {
    const int32_t *ids;
    const size_t *start; /* [texts + 1] */
    size_t texts;
} sri_token_lists;

#define SRI_FIT_STEPS 40

/* Changes `rows` [tokens, dimension] so as to minimise
 *     sum over texts |mean of rows - target|^2 + strength * sum over tokens |row - s * old row|^2
 * where s is the factor that brings the old rows' means nearest to the targets [texts, dimension].
 * All rows are multiplied by s, so that tokens that no text has stay in proportion. `progress` is
 * called SRI_FIT_STEPS times, with `done` counting on from `begun`. */
sr_status sri_distill_fit(const sri_token_lists *lists, const float *targets, size_t tokens,
                          size_t dimension, double strength, float *rows, sr_progress_fn *progress,
                          void *user, uint64_t begun, uint64_t total, sr_error *error);

#endif
