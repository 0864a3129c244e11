/*
 * refit_int.h - what the files of fitting share: the copy of the table that is learned from (refit_snapshot.c), and
 * what the fit says about thresholds (refit_report.c).
 */
#ifndef SRI_REFIT_INT_H
#define SRI_REFIT_INT_H

#include "router/router_int.h"

/* A copy of the table at one revision; everything lies in the arena but the vectors. */
typedef struct snapshot {
    sri_arena arena;
    uint64_t revision;
    sri_fit_route *routes; /* those with utterances, by ascending id */
    sr_threshold *thresholds;
    size_t route_count;
    sri_map names; /* of routes, to their place */
    uint64_t oos_id, oos_digest;
    size_t oos_count; /* of `count` */
    sr_str *texts;    /* by ascending id */
    uint32_t *places;
    float *
        vectors; /* count x dimension; NULL where nothing is to be learned (see sri_fit_reach_of) */
    uint8_t *found; /* which of them were stored */
    size_t count;
    float *name_vectors;        /* route_count x dimension */
    float *stranger_vectors;    /* of sri_fit_stranger() */
    float *description_vectors; /* the same; NULL when no route has one */
    sr_str *labelled;
    uint32_t *labels;
    float *labelled_vectors;
    size_t labelled_count;
} snapshot;

/* Whether heads can be learned from it. */
static inline sri_fit_reach snapshot_reach(const snapshot *taken) {
    return sri_fit_reach_of(taken->route_count, taken->count - taken->oos_count);
}

/* Copies the table as it is published. The model must be loaded. */
SR_MUST_CHECK sr_status sri_snapshot_take(sr_router *router, snapshot *taken, sr_error *error);
/* Copies the labelled texts of the caller; SR_ERR_INVALID names a route that is not there. */
SR_MUST_CHECK sr_status sri_snapshot_label(snapshot *taken, const sr_str *texts,
                                           const sr_str *routes, size_t count, sr_error *error);
/* Finds the vectors of routes' names and of labelled texts. The caller holds `fitting`. */
SR_MUST_CHECK sr_status sri_snapshot_encode(sr_router *router, snapshot *taken,
                                            sr_progress_fn *progress, void *user, sr_error *error);
void sri_snapshot_free(snapshot *taken);

/* The cosine that an automatic threshold is to mean where neighbours decide (refit_neighbours.c); NaN where the table is too
 * small to tell. */
SR_MUST_CHECK sr_status sri_neighbour_threshold(sr_router *router, sr_progress_fn *progress,
                                                void *user, double *cosine, sr_error *error);

/* The report of a fit (NULL: neighbours decide), with a warning for each route whose threshold costs much. */
SR_MUST_CHECK sr_status sri_report_make(const snapshot *taken, const sri_fit *fit,
                                        const sri_fit_findings *findings, sr_fit_report **report,
                                        sr_error *error);
/* The lowest confidence from which on the route at `place` meets both targets (0: none) on held-out texts;
 * SR_ERR_UNSUPPORTED, with what can be reached, when there is none. */
SR_MUST_CHECK sr_status sri_report_threshold(const snapshot *taken, const sri_fit *fit,
                                             uint32_t place, double max_oos_accepted,
                                             double min_precision, double *threshold,
                                             sr_error *error);

/* sr_fit(), but for a progress that may stop it although the caller gave none. */
SR_MUST_CHECK sr_status sri_router_fit(sr_router *router, const sr_fit_options *options,
                                       int threads, sr_fit_report **report, sr_error *error);

#endif
