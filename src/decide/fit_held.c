/*
 * fit_held.c - evidence about texts that heads and neighbours have not seen: what is tuned on it holds for
 * queries.
 *
 * Nearest utterances are found by comparing each held-out text with the whole table, a block of texts and a
 * block of rows at a time; rows of the text's own fold do not count. Lexical coverage of a text of the
 * table leaves out the features that it alone has.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "decide/fit_int.h"

/* ---- Room --------------------------------------------------------------------------------------------------- */

sr_status sri_held_open(size_t classes, size_t capacity, sri_held *held, sr_error *error) {
    *held = (sri_held){.classes = classes, .capacity = capacity};
    size_t floats, hits;
    if (!sri_size_mul(capacity, classes, &floats) || !sri_size_mul(capacity, SRI_FIT_HITS, &hits))
        return sri_fail_memory(error);
    held->samples = sri_alloc_array(capacity, sizeof *held->samples);
    held->hits = sri_alloc_array(hits, sizeof *held->hits);
    held->evidence = sri_alloc_zero(capacity, sizeof *held->evidence);
    bool enough = held->samples && held->hits && held->evidence;
    for (int h = 0; h < SRI_HEADS; h++) {
        held->logits[h] = sri_alloc_array(floats, sizeof(float));
        enough = enough && held->logits[h] != NULL;
    }
    if (enough) return SR_OK;
    sri_held_close(held);
    return sri_fail_memory(error);
}

void sri_held_close(sri_held *held) {
    sri_free(held->samples);
    sri_free(held->hits);
    sri_free(held->evidence);
    for (int h = 0; h < SRI_HEADS; h++) sri_free(held->logits[h]);
    *held = (sri_held){0};
}

/* ---- Nearest utterances and centres ------------------------------------------------------------------------- */

#define QUERIES ((size_t)16)  /* that a task compares */
#define ROWS    ((size_t)256) /* with so many at once: they stay in the nearest cache */

typedef struct nearest {
    const sri_samples *s;
    const sri_centres *centres;
    sri_held *held;
    size_t first; /* of `held` */
    unsigned fold;
    atomic_bool failed;
} nearest;

/* Working memory of a task. */
typedef struct bench {
    float *queries; /* [QUERIES, dimension] */
    float *scores;  /* [QUERIES, ROWS] */
    float *best;    /* [QUERIES, routes + 1]; the last is of out-of-scope examples */
} bench;

/* The best SRI_FIT_HITS by insertion; equal cosines: the route that comes earlier. */
static size_t select_hits(const float *best, size_t routes, sri_fit_hit *hits) {
    size_t count = 0;
    for (size_t r = 0; r < routes; r++) {
        if (best[r] == -INFINITY) continue;
        if (count == SRI_FIT_HITS && !(best[r] > hits[count - 1].cosine)) continue;
        size_t place = count < SRI_FIT_HITS ? count++ : count - 1;
        for (; place > 0 && best[r] > hits[place - 1].cosine; place--)
            hits[place] = hits[place - 1];
        hits[place] = (sri_fit_hit){(uint32_t)r, best[r]};
    }
    return count;
}

/* A query learns of the nearest out-of-scope example only when it is among the hits; otherwise it takes the
 * last hit for it, and so must what is held out. */
static float oos_cosine(float best, const sri_fit_hit *hits, size_t count) {
    float least = count < SRI_FIT_HITS ? -1 : hits[count - 1].cosine;
    return SRI_MAX(best, least);
}

static void compare_utterances(const nearest *job, const uint32_t *own, size_t n, bench *b) {
    const sri_samples *s = job->s;
    size_t width = s->routes + 1;
    for (size_t i = 0; i < n * width; i++) b->best[i] = -INFINITY;
    for (size_t first = 0; first < s->table; first += ROWS) {
        size_t rows = SRI_MIN(ROWS, s->table - first);
        sri_kernels_get()->dots(b->queries, n, s->vectors + first * s->dimension, rows,
                                s->dimension, b->scores);
        for (size_t q = 0; q < n; q++) {
            for (size_t i = first; i < first + rows; i++) {
                if (s->folds[i] == job->fold || i == own[q]) continue;
                float *best = &b->best[q * width + SRI_MIN(s->targets[i], (uint32_t)s->routes)];
                *best = SRI_MAX(*best, b->scores[q * rows + i - first]);
            }
        }
    }
}

static void compare_centres(const nearest *job, sri_evidence *evidence, size_t n, bench *b) {
    const sri_centres *c = job->centres;
    for (size_t q = 0; q < n; q++) evidence[q].centre = -1;
    for (size_t first = 0; first < c->routes; first += ROWS) {
        size_t rows = SRI_MIN(ROWS, c->routes - first);
        sri_kernels_get()->dots(b->queries, n, c->slow + first * c->dimension, rows, c->dimension,
                                b->scores);
        for (size_t q = 0; q < n; q++)
            evidence[q].centre = SRI_MAX(
                evidence[q].centre, sri_centres_slow(c, b->scores + q * rows, first, rows, NULL));
    }
}

static void nearest_task(void *argument, size_t task, int slot) {
    (void)slot;
    nearest *job = argument;
    const sri_samples *s = job->s;
    size_t first = job->first + task * QUERIES, n = SRI_MIN(QUERIES, job->held->n - first);
    const uint32_t *own = job->held->samples + first;
    bench b = {sri_alloc_array(n * s->dimension, sizeof(float)),
               sri_alloc_array(n * ROWS, sizeof(float)),
               sri_alloc_array(n * (s->routes + 1), sizeof(float))};
    if (b.queries != NULL && b.scores != NULL && b.best != NULL) {
        for (size_t q = 0; q < n; q++)
            memcpy(b.queries + q * s->dimension, s->vectors + own[q] * s->dimension,
                   s->dimension * sizeof(float));
        compare_utterances(job, own, n, &b);
        compare_centres(job, job->held->evidence + first, n, &b);
        for (size_t q = 0; q < n; q++) {
            sri_evidence *evidence = &job->held->evidence[first + q];
            const float *best = b.best + q * (s->routes + 1);
            evidence->hit_count =
                select_hits(best, s->routes, job->held->hits + (first + q) * SRI_FIT_HITS);
            evidence->oos_cosine = oos_cosine(
                best[s->routes], job->held->hits + (first + q) * SRI_FIT_HITS, evidence->hit_count);
        }
    } else {
        atomic_store(&job->failed, true);
    }
    sri_free(b.queries);
    sri_free(b.scores);
    sri_free(b.best);
}

/* ---- Adding --------------------------------------------------------------------------------------------------- */

static uint32_t largest(const float *values, size_t n) {
    uint32_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] > values[best]) best = (uint32_t)i;
    return best;
}

static void add_one(sri_held *held, const sri_samples *s, const sri_centres *centres, size_t i) {
    sri_evidence *evidence = &held->evidence[i];
    uint32_t sample = held->samples[i];
    for (int h = 0; h < SRI_HEADS; h++) evidence->logits[h] = held->logits[h] + i * held->classes;
    evidence->hits = held->hits + i * SRI_FIT_HITS;
    evidence->coverage = s->coverage[sample];
    evidence->fast_centre = sri_centres_fast(centres, s->fast_vectors + sample * s->fast_dimension,
                                             largest(evidence->logits[SRI_HEAD_FAST], s->routes));
}

static sr_status add_logits(sri_held *held, sri_trainer *t, const sri_heads *heads, size_t first,
                            sr_error *error) {
    for (int h = 0; h < SRI_HEADS; h++) {
        sr_status code = sri_softmax_logits(t->solvers[h], &heads->of[h], t->logits, error);
        if (code != SR_OK) return code;
        for (size_t i = first; i < held->n; i++)
            memcpy(held->logits[h] + i * held->classes,
                   t->logits + held->samples[i] * held->classes, held->classes * sizeof(float));
    }
    return SR_OK;
}

sr_status sri_held_add(sri_held *held, sri_trainer *t, const sri_heads *heads, unsigned fold,
                       const uint32_t *wanted, size_t count, sr_error *error) {
    if (count == 0) return SR_OK;
    if (count > held->capacity - held->n) return sri_fail_memory(error);
    size_t first = held->n;
    memcpy(held->samples + first, wanted, count * sizeof *wanted);
    held->n += count;
    sri_centres centres;
    if (!sri_centres_make(t->samples, fold, &centres)) return sri_fail_memory(error);
    sr_status code = add_logits(held, t, heads, first, error);
    nearest job = {t->samples, &centres, held, first, fold, false};
    if (code == SR_OK) {
        sri_pool_run(t->pool, nearest_task, &job, (count + QUERIES - 1) / QUERIES);
        if (atomic_load(&job.failed)) code = sri_fail_memory(error);
    }
    for (size_t i = first; i < held->n && code == SR_OK; i++)
        add_one(held, t->samples, &centres, i);
    sri_centres_free(&centres);
    return code;
}
