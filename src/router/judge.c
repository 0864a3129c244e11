/*
 * judge.c - from a text (and its vector) to the answer: search, neighbours, trained heads. Runs on the router's pool.
 *
 * Slow path: the index gives each route's best utterance, best first. Where the nearest of all belongs to a route
 * that came or changed since the fit, or where there is no fit, neighbours decide; otherwise the heads do, with what
 * they do not know left out. Fast path: the heads of the static encoder alone, in blocks of texts.
 *
 * Best utterances on the fast path are looked for only among those of the candidates to be shown, by vectors of the
 * fast encoder, which each route keeps from the first time on: a race to make them is settled by who comes first.
 * To encode them anew for each text was rejected: it takes a hundred times as long as the decision.
 *
 * Everything here is read under the shared lock, and an answer depends on its own text and the table only, so that it
 * is the same alone, in a batch and at any number of threads.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "decide/decide.h"
#include "kernels/kernels.h"
#include "router/router_int.h"

#define FAST_BLOCK ((size_t)64)

/* One run of tasks. */
typedef struct judge_run {
    const judging *job;
    const route_table *table;
    const live_fit *fitted; /* with a fit that is to be used; NULL: neighbours decide */
    size_t dimension, per_task;
    size_t k;                      /* hits, or candidates of the fast path, per text */
    sri_hit *hits;                 /* slow: slots x per_task x k */
    size_t *counts;                /* slow: slots x per_task */
    double *scores;                /* slow: slots x k */
    sri_fit_hit *fit_hits;         /* slow: slots x SRI_FIT_HITS */
    sri_fit_candidate *candidates; /* slots x (slow: 1, fast: FAST_BLOCK) x candidate_k */
    sri_judgement *judgements;     /* fast: slots x FAST_BLOCK */
    size_t candidate_k;            /* asked of the heads */
    atomic_bool failed;
} judge_run;

static size_t slots(const judging *job) { return (size_t)sri_pool_threads(job->router->pool); }

static void *make(size_t a, size_t b, size_t c, size_t size) {
    size_t ab, count;
    return sri_size_mul(a, b, &ab) && sri_size_mul(ab, c, &count) ? sri_alloc_array(count, size)
                                                                  : NULL;
}

static void set_verdict(text_answer *answer, const sri_verdict *verdict, const live_route *route) {
    answer->status = verdict->status;
    answer->reason = verdict->reason;
    answer->confidence = verdict->confidence;
    answer->score = verdict->score;
    answer->margin = verdict->margin;
    answer->route = route;
}

static sri_rule rule_for(const judging *job, const live_route *route) {
    return (sri_rule){route->threshold, job->router->margin, job->no_reject};
}

static double bounded(double score) { return SRI_MAX(-1.0, SRI_MIN(1.0, score)); }

/* ---- Neighbours --------------------------------------------------------------------------------------------- */

/* Takes the hidden route out of the hits; its score, or NaN. */
static double take_rival(const judge_run *run, sri_hit *hits, size_t *count) {
    double rival = NAN;
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (run->table->numbers[hits[i].route] == run->table->oos)
            rival = hits[i].score;
        else
            hits[kept++] = hits[i];
    }
    *count = kept;
    return rival;
}

static void neighbours(const judge_run *run, sri_hit *hits, size_t count, double *scores,
                       text_answer *answer, shown_candidate *shown) {
    double rival = take_rival(run, hits, &count);
    for (size_t i = 0; i < count; i++) scores[i] = hits[i].score;
    if (count == 0) {
        sri_verdict none = sri_decide(NULL, 0, rival, NULL);
        set_verdict(answer, &none, NULL);
        return;
    }
    const live_route *best = run->table->numbers[hits[0].route];
    sri_rule rule = rule_for(run->job, best);
    sri_verdict verdict = sri_decide(scores, count, rival, &rule);
    set_verdict(answer, &verdict, best);
    answer->count = SRI_MIN(run->job->candidates, count);
    for (size_t i = 0; i < answer->count; i++)
        shown[i] =
            (shown_candidate){run->table->numbers[hits[i].route], run->table->by_slot[hits[i].slot],
                              sri_confidence(scores, count, rival, i), bounded(scores[i])};
}

/* ---- Heads, slow path --------------------------------------------------------------------------------------- */

/* The best utterance of a route that is not among the hits, as the index would have found it. */
static const utterance *best_of(const judge_run *run, const live_route *route, const float *vector,
                                double *score) {
    const utterance *best = NULL;
    float top = -INFINITY;
    sri_dots_fn *dots = sri_kernels_get()->dots;
    for (size_t i = 0; i < route->count; i++) {
        const utterance *each = route->utterances[i];
        float cosine;
        if (each->slot == SRI_INDEX_NONE) continue;
        dots(vector, 1, sri_index_vector(run->table->index, each->slot), 1, run->dimension,
             &cosine);
        if (best == NULL || cosine > top) {
            best = each;
            top = cosine;
        }
    }
    *score = best == NULL ? NAN : top;
    return best;
}

static shown_candidate candidate_of(const judge_run *run, const sri_fit_candidate *candidate,
                                    const sri_hit *hits, size_t count, const float *vector) {
    shown_candidate shown = {.route = run->fitted->routes[candidate->route],
                             .confidence = candidate->confidence};
    for (size_t i = 0; i < count && shown.best == NULL; i++) {
        if (hits[i].route != shown.route->number) continue;
        shown.best = run->table->by_slot[hits[i].slot];
        shown.score = hits[i].score;
    }
    if (shown.best == NULL) shown.best = best_of(run, shown.route, vector, &shown.score);
    shown.score = bounded(shown.score);
    return shown;
}

/* The lead over the best of the other routes; NaN when there is none. */
static double lead(const judge_run *run, const shown_candidate *best, const sri_hit *hits,
                   size_t count) {
    for (size_t i = 0; i < count; i++) {
        const live_route *route = run->table->numbers[hits[i].route];
        if (route != best->route && route != run->table->oos)
            return best->score - bounded(hits[i].score);
    }
    return NAN;
}

/* What the heads know of the hits. */
static size_t known_hits(const judge_run *run, const sri_hit *hits, size_t count,
                         sri_fit_hit *known) {
    size_t kept = 0;
    for (size_t i = 0; i < count && kept < SRI_FIT_HITS; i++) {
        const live_route *route = run->table->numbers[hits[i].route];
        /* Examples out of scope are evidence as they are now, as long as the heads know what they are. */
        bool known_now = route == run->table->oos ? run->fitted->oos_id != 0
                                                  : !route->pending && route->place != NO_PLACE;
        if (known_now) known[kept++] = (sri_fit_hit){route->place, hits[i].score};
    }
    return kept;
}

/* False when the heads know no route for the text; a failure is noted in the run. */
static bool heads(judge_run *run, size_t text, const sri_hit *hits, size_t count, int slot,
                  text_answer *answer, shown_candidate *shown) {
    const judging *job = run->job;
    const live_fit *fitted = run->fitted;
    const float *vector = job->vectors + text * run->dimension;
    sri_fit_hit *known = run->fit_hits + (size_t)slot * SRI_FIT_HITS;
    sri_fit_candidate *candidates = run->candidates + (size_t)slot * run->candidate_k;
    sri_judgement judgement = {0};
    size_t known_count = known_hits(run, hits, count, known);
    if (!sri_fit_judge_slow(fitted->fit, job->texts[text], vector, known, known_count,
                            fitted->usable, run->candidate_k, &job->router->judging[slot],
                            candidates, &judgement)) {
        atomic_store(&run->failed, true);
        return true;
    }
    if (judgement.count == 0) return false;
    shown_candidate best = candidate_of(run, &candidates[0], hits, count, vector);
    sri_fitted_scores evidence = {best.confidence, judgement.accepted, best.score,
                                  lead(run, &best, hits, count)};
    sri_rule rule = rule_for(job, best.route);
    sri_verdict verdict = sri_decide_fitted(&evidence, &rule);
    set_verdict(answer, &verdict, best.route);
    answer->fitted = true;
    answer->count = SRI_MIN(job->candidates, judgement.count);
    for (size_t i = 0; i < answer->count; i++)
        shown[i] = i == 0 ? best : candidate_of(run, &candidates[i], hits, count, vector);
    return true;
}

static void slow_text(judge_run *run, size_t text, sri_hit *hits, size_t count, int slot) {
    const judging *job = run->job;
    text_answer *answer = &job->answers[text];
    shown_candidate *shown = job->shown + text * job->candidates;
    *answer = (text_answer){.confidence = NAN, .score = NAN, .margin = NAN};
    bool ask = run->fitted != NULL && count > 0 && !run->table->numbers[hits[0].route]->pending;
    /* Too few examples to learn from count like neighbours. */
    if (ask && run->table->numbers[hits[0].route] == run->table->oos)
        ask = sri_fit_knows_oos(run->fitted->fit);
    if (ask && heads(run, text, hits, count, slot, answer, shown)) return;
    neighbours(run, hits, count, run->scores + (size_t)slot * run->k, answer, shown);
}

static void slow_task(void *argument, size_t task, int slot) {
    judge_run *run = argument;
    const judging *job = run->job;
    size_t first = task * run->per_task, n = SRI_MIN(run->per_task, job->count - first);
    sri_hit *hits = run->hits + (size_t)slot * run->per_task * run->k;
    size_t *counts = run->counts + (size_t)slot * run->per_task;
    if (!sri_index_search(run->table->index, job->vectors + first * run->dimension, n, run->k,
                          &job->router->scratch[slot], hits, counts)) {
        atomic_store(&run->failed, true);
        return;
    }
    for (size_t i = 0; i < n && !atomic_load(&run->failed); i++)
        slow_text(run, first + i, hits + i * run->k, counts[i], slot);
}

static const live_fit *fit_of(const sr_router *router) {
    return router->fitted != NULL && router->fitted->fit != NULL ? router->fitted : NULL;
}

bool sri_judge_slow(const judging *job) {
    const sr_router *router = job->router;
    judge_run run = {.job = job, .table = router->table, .fitted = fit_of(router)};
    run.dimension = (size_t)sr_encoder_dimension(router->encoder);
    /* Two for a margin, and one for the hidden route. */
    run.k = SRI_MAX(job->candidates, (size_t)2) + (run.table->oos != NULL);
    /* As many that the heads know as they ask for: those of pending routes are left out. */
    if (run.fitted != NULL) run.k = SRI_MAX(run.k, SRI_FIT_HITS + run.fitted->pending);
    run.k = SRI_MIN(run.k, SRI_MAX(run.table->routes, (size_t)1));
    run.candidate_k = SRI_MAX(job->candidates, (size_t)1);
    if (run.fitted != NULL) run.candidate_k = SRI_MIN(run.candidate_k, run.fitted->count);
    size_t share = (job->count + slots(job) - 1) / slots(job);
    run.per_task = SRI_MAX(SRI_MIN(share, (size_t)SRI_INDEX_QUERY_BLOCK), (size_t)1);
    run.hits = make(slots(job), run.per_task, run.k, sizeof *run.hits);
    run.counts = make(slots(job), run.per_task, 1, sizeof *run.counts);
    run.scores = make(slots(job), run.k, 1, sizeof *run.scores);
    run.fit_hits = make(slots(job), SRI_FIT_HITS, 1, sizeof *run.fit_hits);
    run.candidates = make(slots(job), run.candidate_k, 1, sizeof *run.candidates);
    bool enough = run.hits != NULL && run.counts != NULL && run.scores != NULL &&
                  run.fit_hits != NULL && run.candidates != NULL;
    if (enough)
        sri_pool_run(router->pool, slow_task, &run, (job->count + run.per_task - 1) / run.per_task);
    sri_free(run.hits);
    sri_free(run.counts);
    sri_free(run.scores);
    sri_free(run.fit_hits);
    sri_free(run.candidates);
    return enough && !atomic_load(&run.failed);
}

/* ---- Heads, fast path --------------------------------------------------------------------------------------- */

/* Vectors of a route's utterances by the fast encoder, made when first wanted. The route is of the table that
 * the shared lock protects; only its cache is written. */
static const float *fast_rows(const sr_router *router, const live_route *given) {
    live_route *route = (live_route *)(uintptr_t)given;
    float *rows = atomic_load(&route->fast_rows), *none = NULL;
    if (rows != NULL || route->count == 0) return rows;
    rows = make(route->count, (size_t)sr_encoder_dimension(router->fast), 1, sizeof *rows);
    sr_str *texts = sri_alloc_array(route->count, sizeof *texts);
    sr_status code = rows == NULL || texts == NULL ? SR_ERR_NO_MEMORY : SR_OK;
    for (size_t i = 0; i < route->count && code == SR_OK; i++)
        texts[i] = utterance_text(route->utterances[i]);
    if (code == SR_OK)
        code = sr_encoder_encode(router->fast, texts, route->count, rows, NULL, NULL);
    sri_free(texts);
    if (code == SR_OK && atomic_compare_exchange_strong(&route->fast_rows, &none, rows))
        return rows;
    sri_free(rows);
    return none; /* another thread's */
}

/* Up to this many dimensions of a fast vector lie on the stack. */
#define FAST_DIMENSION 1024

/* Whether the fast encoder leaves out the end of a text, which has at least one byte for each token. */
#define SURELY_WHOLE 512

static bool is_truncated(const sr_router *router, sr_str text) {
    uint8_t truncated = 0;
    float vector[FAST_DIMENSION];
    if (text.len <= SURELY_WHOLE || router->fast == NULL ||
        sr_encoder_dimension(router->fast) > FAST_DIMENSION)
        return false;
    return sr_encoder_encode(router->fast, &text, 1, vector, &truncated, NULL) == SR_OK &&
           truncated;
}

#define ROWS_AT_ONCE ((size_t)64)

static void find_best(const sr_router *router, const float *vector, shown_candidate *shown) {
    size_t dimension = (size_t)sr_encoder_dimension(router->fast), count = shown->route->count;
    const float *rows = fast_rows(router, shown->route);
    float cosines[ROWS_AT_ONCE], top = -INFINITY;
    sri_dots_fn *dots = sri_kernels_get()->dots;
    for (size_t done = 0; rows != NULL && done < count; done += ROWS_AT_ONCE) {
        size_t some = SRI_MIN(ROWS_AT_ONCE, count - done);
        dots(vector, 1, rows + done * dimension, some, dimension, cosines);
        for (size_t i = 0; i < some; i++) {
            if (shown->best != NULL && !(cosines[i] > top)) continue;
            shown->best = shown->route->utterances[done + i];
            top = cosines[i];
        }
    }
}

static void show_fast(const judge_run *run, size_t text, const sri_fit_candidate *candidates) {
    const judging *job = run->job;
    const sr_router *router = job->router;
    text_answer *answer = &job->answers[text];
    shown_candidate *shown = job->shown + text * job->candidates;
    float vector[FAST_DIMENSION];
    bool encoded =
        router->fast != NULL && sr_encoder_dimension(router->fast) <= FAST_DIMENSION &&
        sr_encoder_encode(router->fast, &job->texts[text], 1, vector, NULL, NULL) == SR_OK;
    for (size_t i = 0; i < answer->count; i++) {
        shown[i] = (shown_candidate){.route = run->fitted->routes[candidates[i].route],
                                     .confidence = candidates[i].confidence,
                                     .score = NAN};
        if (encoded) find_best(router, vector, &shown[i]);
    }
}

static void fast_text(const judge_run *run, size_t text, const sri_fit_candidate *candidates,
                      const sri_judgement *judgement) {
    const judging *job = run->job;
    text_answer *answer = &job->answers[text];
    *answer = (text_answer){.reason = SR_REASON_BELOW_THRESHOLD,
                            .confidence = NAN,
                            .score = NAN,
                            .margin = NAN,
                            .fitted = true,
                            .settled = job->alone};
    if (judgement->count == 0) return;
    const live_route *best = run->fitted->routes[candidates[0].route];
    bool cosine = best->threshold.kind == SR_THRESHOLD_COSINE;
    if (!job->alone) answer->settled = judgement->settled && (!cosine || job->no_reject);
    if (!answer->settled) return;
    sri_fitted_scores evidence = {candidates[0].confidence, judgement->accepted, NAN, NAN};
    sri_rule rule = rule_for(job, best);
    sri_verdict verdict = sri_decide_fitted(&evidence, &rule);
    set_verdict(answer, &verdict, best);
    answer->truncated = is_truncated(job->router, job->texts[text]);
    answer->count = SRI_MIN(job->candidates, judgement->count);
    if (answer->count > 0) show_fast(run, text, candidates);
}

static void fast_task(void *argument, size_t task, int slot) {
    judge_run *run = argument;
    const judging *job = run->job;
    const live_fit *fitted = run->fitted;
    size_t first = task * FAST_BLOCK, n = SRI_MIN(FAST_BLOCK, job->count - first);
    sri_fit_candidate *candidates = run->candidates + (size_t)slot * FAST_BLOCK * run->candidate_k;
    sri_judgement *judgements = run->judgements + (size_t)slot * FAST_BLOCK;
    /* The fast path alone has no neighbours to turn to: a route that changed is judged as it was. */
    const uint8_t *usable = job->alone ? fitted->exists : fitted->usable;
    if (!sri_fit_judge_fast(fitted->fit, job->texts + first, n, usable, run->candidate_k,
                            &job->router->judging[slot], candidates, judgements)) {
        atomic_store(&run->failed, true);
        return;
    }
    for (size_t i = 0; i < n; i++)
        fast_text(run, first + i, candidates + i * run->candidate_k, &judgements[i]);
}

bool sri_judge_fast(const judging *job) {
    judge_run run = {.job = job, .table = job->router->table, .fitted = fit_of(job->router)};
    run.candidate_k = SRI_MAX(SRI_MIN(job->candidates, run.fitted->count), (size_t)1);
    run.candidates = make(slots(job), FAST_BLOCK, run.candidate_k, sizeof *run.candidates);
    run.judgements = make(slots(job), FAST_BLOCK, 1, sizeof *run.judgements);
    bool enough = run.candidates != NULL && run.judgements != NULL;
    if (enough)
        sri_pool_run(job->router->pool, fast_task, &run,
                     (job->count + FAST_BLOCK - 1) / FAST_BLOCK);
    sri_free(run.candidates);
    sri_free(run.judgements);
    return enough && !atomic_load(&run.failed);
}
