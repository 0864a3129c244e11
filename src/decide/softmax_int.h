/*
 * softmax_int.h - what the files of the solver share: the layout of samples and parameters.
 *
 * Samples come in blocks. Logits and residuals of a block stand transposed, [classes, samples]: so both the
 * product that gives logits and the one that gives the gradient have packed samples on one side, packed once
 * for all, and the small parameters or residuals on the other as they are. Sums over samples go block by
 * block within a stripe, then stripe by stripe; how many stripes there are depends on the data alone, never on
 * the threads. The gradient of a sparse feature is one sum over its texts, in their order.
 *
 * Parameters are one vector: dense [classes, width], bias [wide], sparse [rows, wide], where wide is
 * classes rounded up to 16; what is beyond `classes` is zero always.
 */
#ifndef SRI_SOFTMAX_INT_H
#define SRI_SOFTMAX_INT_H

#include "decide/softmax.h"
#include "decide/softmax_loops.h"

#define SRI_SOFTMAX_CHUNK      ((size_t)8192) /* dense parameters of a task */
#define SRI_SOFTMAX_ROW_CHUNKS 256            /* tasks that sparse features are cut into, at most */

struct sri_softmax {
    sri_pool *pool; /* NULL: none */
    sri_kernels kernels;
    sri_softmax_loops loops;
    size_t n, classes, wide, width;

    size_t block, blocks; /* samples in a block, a multiple of SRI_SOFTMAX_LANES; blocks */
    size_t stripes;       /* blocks of stripe s: blocks * s / stripes on */
    size_t samples_size, features_size; /* of a packed block */
    uint8_t *samples;  /* [blocks][samples_size]: block samples as outputs, width as depth */
    uint8_t *features; /* [blocks][features_size]: width as outputs, block samples as depth */
    float *zeros;      /* biases for packing, and for the softmax */
    float *
        gram; /* [width + 1, width + 1] of sum of x x^T over a part of the samples, x ending in 1 */
    double gram_share; /* samples over samples in `gram` */

    size_t rows; /* sparse features */
    uint32_t *bucket;
    size_t *text_start, *row_start; /* [n + 1], [rows + 1] */
    sri_weighted_row *by_text;      /* row: sparse feature */
    sri_weighted_row *by_row;       /* row: text */
    float *squares;                 /* [rows] sum of squared weights */
    size_t *chunk;                  /* [chunks + 1] ranges of rows for tasks */
    size_t chunks;

    size_t bias_at, sparse_at, parameters; /* offsets in the vector, and its length */
    size_t slots;
    float *tile;      /* [slots][tile_size]: working memory of a task */
    size_t tile_size; /* logits [classes, block], by text [block, wide], product [classes, width] */
    float *sums;      /* [stripes][classes * width + wide] */
    double *losses;   /* [blocks] */
    double *penalties; /* [dense chunks + row chunks + 1] */
    float *residuals;  /* [n, wide]; only with sparse features */
};

/* What a fit minimises, settled from its task. */
typedef struct sri_softmax_goal {
    const uint32_t *targets;
    const float *weights; /* [n] c times the sample's weight */
    double dense_penalty, sparse_penalty, bias_penalty;
    const float *prior; /* parameters; NULL: zeros */
} sri_softmax_goal;

static inline size_t sri_block_first(const sri_softmax *s, size_t block) {
    return block * s->block;
}

static inline size_t sri_block_count(const sri_softmax *s, size_t block) {
    return SRI_MIN(s->block, s->n - block * s->block);
}

/* Runs tasks on the pool, or here. */
void sri_softmax_run(const sri_softmax *s, sri_task_fn *function, void *job, size_t count);

/* ---- softmax_evaluate.c ---- */

/* The loss at `at`, and its gradient. */
double sri_softmax_evaluate(sri_softmax *s, const sri_softmax_goal *goal, const float *at,
                            float *gradient);

/* logits [n, classes]. */
void sri_softmax_all_logits(sri_softmax *s, const float *at, float *logits);

/* ---- softmax_precondition.c ---- */

/* An approximation of the inverse of the loss's second derivative, the same for each class. */
typedef struct sri_preconditioner {
    size_t size;         /* width + 1; 0: no dense part */
    uint8_t *packed;     /* inverse of the dense block and the bias, symmetric [size, size] */
    double *matrix;      /* [size, size] the same while it is computed */
    float *zeros;        /* [size] */
    float *rows, *image; /* [max(classes, size), size] */
    float *diagonal;     /* [rows] its inverse for sparse features */
    float bias;          /* its inverse for the bias, without a dense part */
} sri_preconditioner;

SR_MUST_CHECK bool sri_preconditioner_open(const sri_softmax *s, sri_preconditioner *p);
/* `weight`: the sum of sample weights times c; `spread`: the mean of p (1 - p). */
void sri_preconditioner_set(const sri_softmax *s, const sri_softmax_goal *goal, double weight,
                            double spread, sri_preconditioner *p);
void sri_preconditioner_apply(const sri_softmax *s, const sri_preconditioner *p, float *vector);
void sri_preconditioner_close(sri_preconditioner *p);

#endif
