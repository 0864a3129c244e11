/*
 * softmax.h - multinomial logistic regression with an L2 penalty, on dense features, sparse features, or both
 * joined; and the heads that it gives.
 *
 * With logits z[i, c] = bias[c] + dense[c] . x[i] + sum over the sparse entries of text i of weight *
 * sparse[bucket, c], a fit minimises
 *     c * sum over i of sample_weight[i] * -ln softmax(z[i])[target[i]]
 *       + 1/2 |dense - prior|^2 / dense_scale^2 + 1/2 |sparse - prior|^2 / sparse_scale^2
 *       + 1/2 bias_penalty |bias - prior|^2
 * which is scikit-learn's LogisticRegression(C=c) on features multiplied by those scales (its intercept has no
 * penalty; a small one here keeps the bias of a class without samples finite).
 * Everything gives the same bits at any number of threads and on every level of CPU.
 */
#ifndef SRI_SOFTMAX_H
#define SRI_SOFTMAX_H

#include "kernels/kernels.h"

/* ---- Heads ---------------------------------------------------------------------------------------- */

/* What a fit gives; plain arrays. The scales of features are settled in it: it takes features as
 * given to the solver. */
typedef struct sri_softmax_head {
    size_t classes;
    float *bias;      /* [classes] */
    size_t width;     /* 0: no dense part */
    float *dense;     /* [classes, width] */
    size_t rows;      /* buckets that the sparse part knows; 0: no sparse part */
    uint32_t *bucket; /* [rows] ascending */
    float *sparse;    /* [rows, classes] */
} sri_softmax_head;

void sri_softmax_head_free(sri_softmax_head *head); /* leaves zeros */

/* ---- Solver --------------------------------------------------------------------------------------- */

/* Texts as lists of features: those of text i are entries[start[i]] to entries[start[i + 1] - 1]. */
typedef struct sri_sparse_rows {
    const size_t *start;             /* [n + 1]; NULL: no sparse features */
    const sri_weighted_row *entries; /* row: bucket, below `buckets`; may repeat within a text */
    size_t buckets;
    size_t min_texts; /* buckets that fewer texts have are left out of the fit; 0 and 1: none */
    size_t
        max_rows; /* and of the others those that the fewest have, until there are no more; 0: any number */
} sri_sparse_rows;

/* Samples to learn from; at least one of dense and sparse. Lent for sri_softmax_open() only. */
typedef struct sri_softmax_data {
    size_t n;           /* 1 to 2^31 - 1 */
    size_t classes;     /* 1 to 2^20 */
    size_t width;       /* of dense features, at most 65536; 0: none */
    const float *dense; /* [n, width] */
    sri_sparse_rows sparse;
} sri_softmax_data;

typedef struct sri_softmax sri_softmax; /* samples, laid out for speed; one fit at a time */

/* `pool` is borrowed until the close; NULL: the caller computes alone. `level`: NULL but in tests, the kernels
 * to use. SR_ERR_INVALID for data out of the bounds above. Costs about what two steps of a fit do. */
SR_MUST_CHECK sr_status sri_softmax_open(const sri_softmax_data *data, sri_pool *pool,
                                         const sri_cpu_level *level, sri_softmax **solver,
                                         sr_error *error);
void sri_softmax_close(sri_softmax **solver);

/* On CLINC150 no prediction that matters changes below this; 1e-4 takes half the steps and costs some 0.1
 * point, which will do for folds. */
#define SRI_SOFTMAX_TOLERANCE 1e-5

/* What to fit. Zero means the default, everywhere. */
typedef struct sri_softmax_task {
    const uint32_t *targets; /* [n] below classes; not looked at where the sample's weight is 0 */
    const float
        *sample_weights; /* [n] 0 or more; NULL: 1. With 0 a sample has no part, as if left out */
    double c;            /* 1 */
    double dense_scale, sparse_scale; /* 1 */
    double bias_penalty;              /* 0.01 */
    /* Where to begin: parts and buckets that it lacks at the prior. NULL: at the prior. */
    const sri_softmax_head *start;
    const sri_softmax_head *prior; /* NULL: zeros; parts that it lacks are zeros too */
    double tolerance;              /* SRI_SOFTMAX_TOLERANCE: on `gap` below */
    size_t max_steps;              /* 200 */
    size_t memory;                 /* pairs of L-BFGS; 0: 10, or 5 from 2^20 parameters on */
    sr_progress_fn *progress; /* after each step, in steps of max_steps; not 0: SR_ERR_CANCELLED */
    void *progress_user;
} sri_softmax_task;

typedef struct sri_softmax_report {
    size_t steps, evaluations;
    double loss; /* the sum that is minimised */
    double
        gap; /* by how much the loss may still fall (1/2 g H^-1 g), as a share of that of equal odds */
    bool converged;
    double seconds;
} sri_softmax_report;

/* Fits. `head` takes new arrays (the caller frees them), nothing on failure; `report` may be NULL. */
SR_MUST_CHECK sr_status sri_softmax_fit(sri_softmax *solver, const sri_softmax_task *task,
                                        sri_softmax_head *head, sri_softmax_report *report,
                                        sr_error *error);

/* logits [n, classes] of all samples of the solver, those of weight 0 too: for held-out folds. Rows of `head`
 * for buckets that the solver lacks have no effect. */
SR_MUST_CHECK sr_status sri_softmax_logits(sri_softmax *solver, const sri_softmax_head *head,
                                           float *logits, sr_error *error);

/* Turns each of `n` rows of `classes` logits into probabilities, multiplying by `inverse_temperature` first. */
void sri_softmax_rows(float *logits, size_t n, size_t classes, float inverse_temperature);

/* ---- Heads for queries ---------------------------------------------------------------------------- */

/* A dense head, packed for the product of the chosen kernels. `w` and `bias` are to be stored. */
typedef struct sri_dense_head {
    size_t classes, width;
    float *w;     /* [classes, width] */
    float *bias;  /* [classes] */
    void *packed; /* by sri_dense_head_pack() */
} sri_dense_head;

/* Copies the dense part of `head`, with its bias, and packs it. */
SR_MUST_CHECK bool sri_dense_head_make(const sri_softmax_head *head, sri_dense_head *out);
/* Packs what was read back: `w` and `bias` from sri_alloc_array. False when memory is short. */
SR_MUST_CHECK bool sri_dense_head_pack(sri_dense_head *head);
void sri_dense_head_free(sri_dense_head *head);
/* logits [n, classes] of x [n, width]; the same for one text as for many. */
void sri_dense_head_logits(const sri_dense_head *head, const float *x, size_t n, float *logits);

/* A sparse head in int8: weight [bucket, c] = scale[bucket] * rows[bucket * stride + c]. */
typedef struct sri_sparse_head {
    size_t buckets, classes;
    size_t stride; /* classes rounded up to a multiple of 16 */
    int8_t *rows;  /* [buckets, stride]; zeros beyond `classes` */
    float *scale;  /* [buckets]; 0: unknown */
    float *bias;   /* [stride] */
} sri_sparse_head;

/* Quantises the sparse part of `head`: scale = largest magnitude / 127, rows = rint(w / scale). With a dense
 * part beside it, `with_bias` says where the bias goes: false leaves it to the dense head. */
SR_MUST_CHECK bool sri_sparse_head_make(const sri_softmax_head *head, size_t buckets,
                                        bool with_bias, sri_sparse_head *out);
void sri_sparse_head_free(sri_sparse_head *head);
/* logits [stride] (of which `classes` count) of one text; `list` is overwritten. */
void sri_sparse_head_logits(const sri_sparse_head *head, sri_weighted_row *list, size_t count,
                            float *logits);

#endif
