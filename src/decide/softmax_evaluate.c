/*
 * softmax_evaluate.c - the loss, its gradient, and logits: one pass over blocks of samples, one over features.
 *
 * Two kinds of tasks, each of which writes only what is its own: a stripe of blocks (logits, residuals, the
 * stripe's part of the dense gradient), then a chunk of sparse features or of dense sums.
 */
#include "decide/softmax_int.h"

#include "decide/logarithm.h"

#include <string.h>

typedef struct pass {
    sri_softmax *solver;
    const sri_softmax_goal *goal; /* NULL: logits only */
    const float *at;
    float *gradient, *logits;
    double *penalties; /* [dense chunks + row chunks] */
    size_t dense_chunks;
} pass;

/* ---- Blocks ------------------------------------------------------------------------------------------- */

/* Adds the logits of the sparse part to z [classes, block]. */
static void add_sparse_logits(const pass *p, size_t b, float *z, float *by_text) {
    const sri_softmax *s = p->solver;
    size_t first = sri_block_first(s, b), count = sri_block_count(s, b);
    for (size_t i = 0; i < count; i++) {
        size_t entry = s->text_start[first + i];
        size_t entries = s->text_start[first + i + 1] - entry;
        if (p->goal != NULL && p->goal->weights[first + i] == 0) entries = 0;
        s->loops.sum_rows(p->at + s->sparse_at, s->wide, s->by_text + entry, entries,
                          by_text + i * s->wide);
    }
    s->loops.transpose_add(by_text, count, s->classes, s->wide, z, s->block);
}

/* z [classes, block] without biases; columns beyond the samples are 0. */
static void logits_of_block(const pass *p, size_t b, float *z, float *by_text) {
    sri_softmax *s = p->solver;
    size_t count = sri_block_count(s, b);
    memset(z, 0, s->classes * s->block * sizeof *z);
    if (s->width > 0) {
        sri_product out = {.y = z, .n = count, .first = 0, .last = count};
        /* Rows of the result are `count` apart; all but the last block are full. */
        s->kernels.gemm_f32.run(p->at, s->classes, s->samples + b * s->samples_size, s->width,
                                &out);
        for (size_t c = s->classes; count < s->block && c-- > 0;) {
            memmove(z + c * s->block, z + c * count, count * sizeof *z);
            memset(z + c * s->block + count, 0, (s->block - count) * sizeof *z);
        }
    }
    if (s->rows > 0) add_sparse_logits(p, b, z, by_text);
}

/* Residuals weight * (p - target) of SRI_SOFTMAX_LANES columns of z from `lane` on; returns their loss. */
static double residuals_of(const pass *p, size_t b, size_t lane, float *z) {
    const sri_softmax *s = p->solver;
    size_t first = sri_block_first(s, b) + lane, count = sri_block_count(s, b);
    count = count > lane ? SRI_MIN(count - lane, (size_t)SRI_SOFTMAX_LANES) : 0;
    float highest[SRI_SOFTMAX_LANES], sums[SRI_SOFTMAX_LANES], own[SRI_SOFTMAX_LANES];
    float weights[SRI_SOFTMAX_LANES] = {0};
    const float *bias = p->at + s->bias_at;
    for (size_t l = 0; l < count; l++) {
        weights[l] = p->goal->weights[first + l];
        uint32_t target = p->goal->targets[first + l];
        own[l] = weights[l] > 0 ? z[target * s->block + l] + bias[target] : 0;
    }
    s->loops.softmax_columns(z, s->classes, s->block, bias, highest, sums);
    s->loops.scale_columns(z, s->classes, s->block, weights);
    double loss = 0;
    for (size_t l = 0; l < count; l++) {
        if (weights[l] == 0) continue;
        z[p->goal->targets[first + l] * s->block + l] -= weights[l];
        double surprise = sri_ln(sums[l]) + ((double)highest[l] - (double)own[l]);
        loss += (double)weights[l] * surprise;
    }
    return loss;
}

/* Adds a block's part of the gradient of dense parameters and biases to a stripe's. */
static void add_gradient(const pass *p, size_t b, const float *z, float *product, float *sums) {
    sri_softmax *s = p->solver;
    size_t count = sri_block_count(s, b);
    for (size_t c = 0; c < s->classes; c++)
        sums[s->bias_at + c] += (float)s->loops.sum(z + c * count, count);
    if (s->width == 0) return;
    sri_product out = {.y = product, .n = s->width, .first = 0, .last = s->width};
    s->kernels.gemm_f32.run(z, s->classes, s->features + b * s->features_size, count, &out);
    s->loops.add(product, s->bias_at, sums);
}

/* The last block's rows, `count` apart, as the product needs them. */
static void close_up(const sri_softmax *s, size_t count, float *z) {
    for (size_t c = 1; count < s->block && c < s->classes; c++)
        memmove(z + c * count, z + c * s->block, count * sizeof *z);
}

static void run_stripe(void *argument, size_t stripe, int slot) {
    pass *p = argument;
    sri_softmax *s = p->solver;
    float *z = s->tile + (size_t)slot * s->tile_size, *by_text = z + s->block * s->wide;
    float *product = s->tile + (size_t)(slot + 1) * s->tile_size - s->bias_at;
    float *sums = s->sums + stripe * s->sparse_at;
    memset(sums, 0, s->sparse_at * sizeof *sums);
    for (size_t b = s->blocks * stripe / s->stripes; b < s->blocks * (stripe + 1) / s->stripes;
         b++) {
        size_t count = sri_block_count(s, b);
        logits_of_block(p, b, z, by_text);
        double loss = 0;
        for (size_t lane = 0; lane < s->block; lane += SRI_SOFTMAX_LANES)
            loss += residuals_of(p, b, lane, z + lane);
        s->losses[b] = loss;
        if (s->rows > 0)
            s->loops.transpose(z, s->classes, count, s->block,
                               s->residuals + sri_block_first(s, b) * s->wide, s->wide);
        close_up(s, count, z);
        add_gradient(p, b, z, product, sums);
    }
}

/* ---- Features ----------------------------------------------------------------------------------------- */

/* Adds the penalty's part for parameters [first, end) and returns the penalty. */
static double penalise(const pass *p, double penalty, size_t first, size_t end) {
    const sri_softmax *s = p->solver;
    const float *prior = p->goal->prior;
    const float *at = p->at + first;
    float *gradient = p->gradient + first;
    size_t count = end - first;
    s->loops.add_scaled(at, (float)penalty, count, gradient);
    if (prior == NULL) return 0.5 * penalty * s->loops.dot(at, at, count);
    prior += first;
    s->loops.add_scaled(prior, -(float)penalty, count, gradient);
    return 0.5 * penalty *
           (s->loops.dot(at, at, count) - 2 * s->loops.dot(at, prior, count) +
            s->loops.dot(prior, prior, count));
}

static double finish_dense(const pass *p, size_t first, size_t end, double penalty) {
    const sri_softmax *s = p->solver;
    memset(p->gradient + first, 0, (end - first) * sizeof *p->gradient);
    for (size_t stripe = 0; stripe < s->stripes; stripe++)
        s->loops.add(s->sums + stripe * s->sparse_at + first, end - first, p->gradient + first);
    return penalise(p, penalty, first, end);
}

static double finish_rows(const pass *p, size_t chunk) {
    const sri_softmax *s = p->solver;
    size_t first = s->chunk[chunk], end = s->chunk[chunk + 1];
    for (size_t r = first; r < end; r++)
        s->loops.sum_rows(s->residuals, s->wide, s->by_row + s->row_start[r],
                          s->row_start[r + 1] - s->row_start[r],
                          p->gradient + s->sparse_at + r * s->wide);
    return penalise(p, p->goal->sparse_penalty, s->sparse_at + first * s->wide,
                    s->sparse_at + end * s->wide);
}

static void run_finish(void *argument, size_t task, int slot) {
    (void)slot;
    pass *p = argument;
    const sri_softmax *s = p->solver;
    if (task == 0) {
        p->penalties[0] = finish_dense(p, s->bias_at, s->sparse_at, p->goal->bias_penalty);
    } else if (task <= p->dense_chunks) {
        size_t first = (task - 1) * SRI_SOFTMAX_CHUNK;
        p->penalties[task] = finish_dense(p, first, SRI_MIN(first + SRI_SOFTMAX_CHUNK, s->bias_at),
                                          p->goal->dense_penalty);
    } else {
        p->penalties[task] = finish_rows(p, task - 1 - p->dense_chunks);
    }
}

double sri_softmax_evaluate(sri_softmax *s, const sri_softmax_goal *goal, const float *at,
                            float *gradient) {
    pass p = {.solver = s, .goal = goal, .at = at, .gradient = gradient};
    p.dense_chunks = (s->bias_at + SRI_SOFTMAX_CHUNK - 1) / SRI_SOFTMAX_CHUNK;
    p.penalties = s->penalties;
    sri_softmax_run(s, run_stripe, &p, s->stripes);
    size_t tasks = 1 + p.dense_chunks + s->chunks;
    sri_softmax_run(s, run_finish, &p, tasks);
    double loss = 0;
    for (size_t b = 0; b < s->blocks; b++) loss += s->losses[b];
    for (size_t task = 0; task < tasks; task++) loss += p.penalties[task];
    return loss;
}

/* ---- Logits ------------------------------------------------------------------------------------------- */

static void run_logits(void *argument, size_t b, int slot) {
    pass *p = argument;
    sri_softmax *s = p->solver;
    float *z = s->tile + (size_t)slot * s->tile_size, *by_text = z + s->block * s->wide;
    size_t count = sri_block_count(s, b);
    float *out = p->logits + sri_block_first(s, b) * s->classes;
    logits_of_block(p, b, z, by_text);
    s->loops.transpose(z, s->classes, count, s->block, out, s->classes);
    for (size_t i = 0; i < count; i++)
        s->loops.add(p->at + s->bias_at, s->classes, out + i * s->classes);
}

void sri_softmax_all_logits(sri_softmax *s, const float *at, float *logits) {
    pass p = {.solver = s, .at = at, .logits = logits};
    sri_softmax_run(s, run_logits, &p, s->blocks);
}
