/*
 * fit_int.h - what the files of a fit share.
 *
 *   fit_samples.c   the table's texts as samples: vectors, lexical features, folds
 *   fit_heads.c     trains heads
 *   fit_centres.c   where routes are: their middles, and what their texts gather around
 *   fit_held.c      evidence about texts that heads and neighbours have not seen
 *   fit_weigh.c     evidence to probabilities: the blend, the out-of-scope score, confidence
 *   fit_stack.c     weights with which experts are added up
 *   fit_tune.c      chooses the blend, the calibration, the thresholds and the gate on held-out evidence
 *   fit_judge.c     asks a fit about new texts
 *   fit_bytes.c     a fit as bytes and back
 *   fit.c           makes one: the order of all that
 */
#ifndef SRI_FIT_INT_H
#define SRI_FIT_INT_H

#include "decide/fit.h"
#include "decide/logit.h"
#include "decide/ngrams.h"
#include "decide/softmax.h"
#include "decide/speller.h"

/* ---- Progress (fit.c) ------------------------------------------------------------------------------ */

/* Steps of the whole, told to the caller. */
typedef struct sri_progress {
    sr_progress_fn *function; /* NULL: nobody asks */
    void *user;
    uint64_t done, total;
} sri_progress;

/* ---- Samples (fit_samples.c) ---------------------------------------------------------------------- */

#define SRI_FIT_FOLDS 5

/* All texts that a fit looks at, in this order: the table's utterances and out-of-scope examples, a name for
 * each route, the descriptions of those that have one, strangers, labelled texts. */
typedef struct sri_samples {
    size_t routes, dimension;
    size_t classes; /* of heads: the routes, and one more with enough out-of-scope examples */
    size_t fast_dimension; /* 0: no static encoder */
    size_t table;          /* the table's own are those below this */
    size_t named;          /* names and descriptions are those from `table` to below this */
    size_t known;          /* strangers are those from `named` to below this */
    size_t n;
    sr_str *texts;       /* [n] */
    uint32_t *targets;   /* [n] a route or SRI_FIT_OUT_OF_SCOPE */
    uint8_t *folds;      /* [table] below SRI_FIT_FOLDS */
    uint32_t *counts;    /* [routes] utterances */
    size_t oos;          /* out-of-scope examples among the table's */
    float *vectors;      /* [n, dimension] */
    float *fast_vectors; /* [n, fast_dimension] */
    sri_ngrams ngrams;
    size_t *start; /* [n + 1] into entries */
    sri_weighted_row *entries;
    float
        *coverage; /* [n] of lexical features, those left out that a text of the table alone has */
    sri_buffer names; /* holds the texts of names */
} sri_samples;

SR_MUST_CHECK sr_status sri_samples_open(const sri_fit_table *table, sri_samples *samples,
                                         sr_error *error);
void sri_samples_close(sri_samples *samples);

/* ---- Heads (fit_heads.c) ------------------------------------------------------------- */

enum { SRI_HEAD_VECTOR, SRI_HEAD_FAST, SRI_HEADS };

typedef struct sri_heads {
    sri_softmax_head of[SRI_HEADS];
} sri_heads;

void sri_heads_free(sri_heads *heads);

/* Samples laid out for training. */
typedef struct sri_trainer {
    const sri_samples *samples; /* borrowed */
    sri_pool *pool;             /* borrowed */
    sri_softmax *solvers[SRI_HEADS];
    uint32_t *targets; /* [n] classes */
    float *weights;    /* [n] scratch */
    float *logits;     /* [n, classes] scratch */
} sri_trainer;

SR_MUST_CHECK sr_status sri_trainer_open(const sri_samples *samples, sri_pool *pool,
                                         sri_trainer *trainer, sr_error *error);
void sri_trainer_close(sri_trainer *trainer);

#define SRI_FIT_NO_FOLD SRI_FIT_FOLDS

/* Trains on what is outside of a fold, or on all, and on the names of routes. `start`, when not NULL, is where
 * to begin: heads that have seen no more than these may. */
SR_MUST_CHECK sr_status sri_trainer_fit(sri_trainer *trainer, unsigned fold, const sri_heads *start,
                                        sri_progress *progress, sri_heads *heads, sr_error *error);

/* ---- Centres (fit_centres.c) -------------------------------------------------------------------------- */

/* Points that a route's static vectors gather around: up to so many, else the first repeats. */
#define SRI_PROTOTYPES 8

typedef struct sri_centres {
    size_t routes, dimension, fast_dimension;
    float *slow;  /* [routes, dimension] the sum of a route's vectors and its name's, of length 1 */
    float *usual; /* [routes] mean cosine of these to it */
    float *mean;  /* [fast_dimension] of the routes' own mean static vectors */
    float *fast;  /* [routes, SRI_PROTOTYPES, fast_dimension] less `mean`, of length 1 */
} sri_centres;

/* From the utterances outside of `fold` and all names. */
SR_MUST_CHECK bool sri_centres_make(const sri_samples *samples, unsigned fold,
                                    sri_centres *centres);
void sri_centres_free(sri_centres *centres);
/* Of a vector's cosines to the centres of the `n` routes from `first` on, the largest, each less its part of what is
 * usual in the route; at least -1. `usable` (one flag a route, NULL: all) leaves routes out. */
float sri_centres_slow(const sri_centres *centres, const float *cosines, size_t first, size_t n,
                       const uint8_t *usable);
/* The cosine of a static vector, less the mean, to the nearest prototype of `route`; 0 when there is none. */
float sri_centres_fast(const sri_centres *centres, const float *vector, uint32_t route);

/* ---- Evidence (fit_held.c) --------------------------------------------------------------------------- */

/* What is known about a text before it is weighed. */
typedef struct sri_evidence {
    const float *logits[SRI_HEADS]; /* [classes]; that of the vector is NULL on the fast path */
    const sri_fit_hit *hits;        /* of the slow path: best routes by cosine, best first */
    size_t hit_count;
    float
        oos_cosine; /* to the nearest out-of-scope example, or what it is below; -1: there is none */
    float centre;   /* of the slow path: how near the nearest centre of a route is */
    float
        fast_centre; /* of the static vector to the nearest prototype of the fast head's best route */
    float coverage; /* share of lexical features that the table knows */
} sri_evidence;

/* Evidence about texts by heads and neighbours that have not seen them. */
typedef struct sri_held {
    size_t classes, n, capacity;
    uint32_t *samples;        /* [n] */
    float *logits[SRI_HEADS]; /* [n, classes] */
    sri_fit_hit *hits;        /* [n, SRI_FIT_HITS] */
    sri_evidence *evidence;   /* [n] points into the others */
} sri_held;

/* Makes room for `capacity` texts. */
SR_MUST_CHECK sr_status sri_held_open(size_t classes, size_t capacity, sri_held *held,
                                      sr_error *error);
void sri_held_close(sri_held *held);

/* Adds what `heads`, trained without `fold`, and the neighbours outside of it say of the samples that
 * `wanted` names. */
SR_MUST_CHECK sr_status sri_held_add(sri_held *held, sri_trainer *trainer, const sri_heads *heads,
                                     unsigned fold, const uint32_t *wanted, size_t count,
                                     sr_error *error);

/* ---- Weighing (fit_weigh.c) ----------------------------------------------------------------------- */

#define SRI_SCOPE_FEATURES 3

/* Features of a score, each less its mean and divided by its deviation, added up with weights and divided by the
 * sum's deviation; means and deviations are of the table's own texts. */
typedef struct sri_scale {
    double mean[SRI_SCOPE_FEATURES], deviation[SRI_SCOPE_FEATURES], weight[SRI_SCOPE_FEATURES];
    double sum_deviation;
} sri_scale;

enum { SRI_STACK_VECTOR, SRI_STACK_FAST, SRI_STACK_NEAREST, SRI_STACK };

/* All that is tuned. Doubles only: it is stored as it is. */
typedef struct sri_knobs {
    double stack[SRI_STACK]; /* of logits and cosines on the slow path */
    double sharpness;        /* of the fast head's logits on the fast path */
    sri_scale slow_scope, fast_scope;
    /* Probability of being in scope. Slow: of the score and, with an out-of-scope class, how much its logits and
     * the nearest example's cosine stand out, standardised by `oos_mean` and `oos_deviation`. */
    double has_oos;
    double oos_mean[SRI_SCOPE_FEATURES], oos_deviation[SRI_SCOPE_FEATURES];
    sri_logit slow_in_scope, fast_in_scope;
    sri_logit settled;     /* confidence of what the fast path answers by itself (fit_weigh.c) */
    double auto_threshold; /* on confidence; 0: whichever is likelier, right or out of scope */
    double gate_scope,
        gate_confidence; /* of the fast path, on its score and its posterior; 2: never */
} sri_knobs;

/* Of a table about which nothing is known yet. */
extern const sri_knobs sri_knobs_prior;

typedef struct sri_reading {
    uint32_t best;                       /* route; SRI_FIT_OUT_OF_SCOPE when none is usable */
    double features[SRI_SCOPE_FEATURES]; /* of the score */
    double oos[SRI_SCOPE_FEATURES];      /* of out-of-scope examples */
    double score; /* standardised: about 0 for a text like the table's, lower the stranger it is */
    double in_scope; /* probability */
} sri_reading;

/* Fills posterior [routes] with the probabilities of routes, given that one of them is right. `classes` is
 * `routes`, or one more. */
void sri_weigh_slow(const sri_knobs *knobs, const sri_evidence *evidence, size_t routes,
                    const uint8_t *usable, float *posterior, sri_reading *reading);
void sri_weigh_fast(const sri_knobs *knobs, const sri_evidence *evidence, size_t routes,
                    const uint8_t *usable, float *posterior, sri_reading *reading);
double sri_scaled(const sri_scale *scale, const double *features);

/* What the confidence of a settled answer is a logistic function of. */
#define SRI_SETTLED_FEATURES (SRI_SCOPE_FEATURES + 1)
void sri_settled_features(const sri_knobs *knobs, const sri_reading *reading, double posterior,
                          double x[SRI_SETTLED_FEATURES]);
/* Whether the fast path's answer may stand, by the posterior of its best route. */
bool sri_settles(const sri_knobs *knobs, const sri_reading *reading, double posterior);
/* Brings in_scope of such an answer to the slow path's scale. */
void sri_settle(const sri_knobs *knobs, double posterior, sri_reading *reading);

/* Settles score and in_scope of a reading by its features, when knobs that they depend on have changed. */
void sri_rescore_slow(const sri_knobs *knobs, sri_reading *reading);
void sri_rescore_fast(const sri_knobs *knobs, sri_reading *reading);

/* What the slow path's in_scope is a logistic function of: the score and, with an out-of-scope class, the features
 * of its examples, standardised; one that is unknown is taken as usual. Returns how many there are. */
size_t sri_scope_features(const sri_knobs *knobs, const sri_reading *reading,
                          double x[SRI_LOGIT_MAX]);

/* The confidence at which AUTO accepts a text whose probability of being in scope is given. */
double sri_auto_threshold(const sri_knobs *knobs, double in_scope);

/* ---- Stacking (fit_stack.c) ----------------------------------------------------------------------- */

/* Scores of routes by several experts: of text i, `routes` floats in row rows[i]. */
typedef struct sri_stack {
    size_t n, routes, experts; /* at most SRI_STACK */
    const float *scores[SRI_STACK];
    size_t stride[SRI_STACK]; /* from row to row, in floats */
    const uint32_t *rows;     /* [n] */
    const uint32_t *rights;   /* [n] the right routes */
} sri_stack;

/* Finds the weights, 0 or more, with which the experts' sum predicts the right routes best (the least sum of
 * -ln softmax), pulled towards those given by as much as `prior_texts` more texts would. */
SR_MUST_CHECK bool sri_stack_fit(const sri_stack *stack, double prior_texts, double *weights);

/* ---- Tuning (fit_tune.c) -------------------------------------------------------------------------- */

/* Chooses the knobs on held-out evidence and says what they achieve; `*trials` takes new memory, one for each
 * text of `held`. */
SR_MUST_CHECK sr_status sri_tune(const sri_fit_table *table, const sri_samples *samples,
                                 const sri_held *held, sri_knobs *knobs, sri_fit_findings *findings,
                                 sri_fit_trial **trials, sr_error *error);

/* ---- A fit (fit.c) -------------------------------------------------------------------------------- */

struct sri_fit {
    size_t dimension, route_count, classes;
    sri_fit_route *routes; /* names and descriptions are empty */
    sri_knobs knobs;
    sri_fit_findings findings;
    sri_dense_head vector;   /* on the transformer's vectors */
    sri_dense_head fixed;    /* the fast head's part on static vectors, with its bias */
    sri_sparse_head lexical; /* its part on lexical features, without */
    sri_ngrams ngrams;
    sri_centres centres;
    sri_speller speller; /* of the table's words; empty without a fast encoder to ask for others */
    sr_encoder *fast;    /* borrowed; NULL: no fast path */
    char fast_fingerprint[65];
    sri_fit_trial *trials;
    size_t trial_count;
};

#endif
