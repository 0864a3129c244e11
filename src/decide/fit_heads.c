/*
 * fit_heads.c - trains heads on samples.
 *
 * Two heads: one on the transformer's vectors, one on static vectors and lexical features joined, which is all
 * that the fast path needs. A fold is left out by weights of 0, so the samples are laid out for
 * the solver once. A route's name stands beside its utterances as one more of them.
 */
#include <math.h>

#include "decide/fit_int.h"

static const struct plan {
    double c, sparse_scale, tolerance;
} plans[SRI_HEADS] = {[SRI_HEAD_VECTOR] = {33, 1, 1e-5}, [SRI_HEAD_FAST] = {20, 0.7, 3e-5}};

/* Lexical features that one text alone has teach nothing that its other features do not. The solver keeps sixteen
 * vectors as long as the head: with so many numbers in its lexical part at most they take half a gigabyte. Tables of
 * a few hundred routes lose no feature by it, and with 826 routes half of it was as good as all of it. */
#define MIN_TEXTS   2
#define MAX_LEXICAL ((size_t)1 << 23)

/* A sample's weight, when its route has 1 / `rarity` of the mean utterances a route. To the power of 0 large routes
 * swallow small ones, worse than the nearest neighbour would; to that of 1 it is forgotten that large ones are
 * asked for more; this is the power of 3/4, by square roots, which are the same bits everywhere. */
static float balanced(double rarity) { return (float)(sqrt(rarity) * sqrt(sqrt(rarity))); }

void sri_heads_free(sri_heads *heads) {
    for (int h = 0; h < SRI_HEADS; h++) sri_softmax_head_free(&heads->of[h]);
}

/* ---- Training ------------------------------------------------------------------------------------------- */

static sri_softmax_data data_of(const sri_samples *s, int head) {
    sri_softmax_data data = {.n = s->n, .classes = s->classes};
    if (head == SRI_HEAD_VECTOR) {
        data.width = s->dimension;
        data.dense = s->vectors;
        return data;
    }
    data.width = s->fast_dimension;
    data.dense = s->fast_dimension == 0 ? NULL : s->fast_vectors;
    data.sparse = (sri_sparse_rows){s->start, s->entries, s->ngrams.buckets, MIN_TEXTS,
                                    SRI_MAX(MAX_LEXICAL / s->classes, (size_t)1)};
    return data;
}

/* Out-of-scope examples are the class after the routes', where there is one. */
static void set_targets(sri_trainer *t) {
    const sri_samples *s = t->samples;
    for (size_t i = 0; i < s->n; i++)
        t->targets[i] = s->targets[i] == SRI_FIT_OUT_OF_SCOPE ? (uint32_t)s->routes : s->targets[i];
}

sr_status sri_trainer_open(const sri_samples *samples, sri_pool *pool, sri_trainer *t,
                           sr_error *error) {
    *t = (sri_trainer){.samples = samples, .pool = pool};
    sr_status code = SR_OK;
    size_t floats;
    t->weights = sri_alloc_array(samples->n, sizeof *t->weights);
    t->targets = sri_alloc_array(samples->n, sizeof *t->targets);
    if (sri_size_mul(samples->n, samples->classes, &floats))
        t->logits = sri_alloc_array(floats, sizeof *t->logits);
    if (t->weights == NULL || t->targets == NULL || t->logits == NULL)
        code = sri_fail_memory(error);
    else
        set_targets(t);
    for (int h = 0; h < SRI_HEADS && code == SR_OK; h++) {
        sri_softmax_data data = data_of(samples, h);
        code = sri_softmax_open(&data, pool, NULL, &t->solvers[h], error);
    }
    if (code != SR_OK) sri_trainer_close(t);
    return code;
}

void sri_trainer_close(sri_trainer *t) {
    for (int h = 0; h < SRI_HEADS; h++) sri_softmax_close(&t->solvers[h]);
    sri_free(t->targets);
    sri_free(t->weights);
    sri_free(t->logits);
    *t = (sri_trainer){0};
}

static void leave_out(sri_trainer *t, unsigned fold) {
    const sri_samples *s = t->samples;
    double mean = (double)(s->table - s->oos) / (double)s->routes;
    for (size_t i = 0; i < s->n; i++) {
        bool learned =
            i < s->table ? s->folds[i] != fold && t->targets[i] < s->classes : i < s->named;
        t->weights[i] = learned ? 1 : 0;
        if (learned && i < s->table && t->targets[i] < s->routes)
            t->weights[i] = balanced(mean / s->counts[t->targets[i]]);
    }
}

static int ask_whether_to_stop(void *user, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    sri_progress *progress = user;
    return progress->function == NULL
               ? 0
               : progress->function(progress->user, progress->done, progress->total);
}

sr_status sri_trainer_fit(sri_trainer *t, unsigned fold, const sri_heads *start,
                          sri_progress *progress, sri_heads *heads, sr_error *error) {
    *heads = (sri_heads){0};
    leave_out(t, fold);
    sr_status code = SR_OK;
    for (int h = 0; h < SRI_HEADS && code == SR_OK; h++) {
        sri_softmax_task task = {.targets = t->targets,
                                 .sample_weights = t->weights,
                                 .c = plans[h].c,
                                 .sparse_scale = plans[h].sparse_scale,
                                 .tolerance = plans[h].tolerance,
                                 .start = start == NULL ? NULL : &start->of[h],
                                 .progress = ask_whether_to_stop,
                                 .progress_user = progress};
        code = sri_softmax_fit(t->solvers[h], &task, &heads->of[h], NULL, error);
    }
    if (code != SR_OK) sri_heads_free(heads);
    return code;
}
