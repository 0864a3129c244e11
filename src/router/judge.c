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
 * Everything here is read in the view that the caller has pinned, and an answer depends on its own text and the table only, so that it
 * is the same alone, in a batch and at any number of threads.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "decide/decide.h"
#include "kernels/kernels.h"
#include "router/router_int.h"

#define FAST_BLOCK ((size_t)64)
#define LARGE_TABLE                                                                                \
    20000 /* utterances from which it pays to share one search out: some 50 us of work */

/* One run of tasks. A single one runs on the caller's thread, which then asks nobody for anything. */
typedef struct judge_run {
    const judging *job;
    const table_view *view;
    const live_fit *fitted; /* with a fit that is to be used; NULL: neighbours decide */
    size_t tasks, slots;
    size_t dimension, per_task;
    size_t k;                      /* hits, or candidates of the fast path, per text */
    sri_hit *hits;                 /* slow: slots x per_task x k */
    size_t *counts;                /* slow: slots x per_task */
    double *scores;                /* slow: slots x k */
    sri_fit_hit *fit_hits;         /* slow: slots x SRI_FIT_HITS */
    sri_fit_candidate *candidates; /* slots x (slow: 1, fast: FAST_BLOCK) x candidate_k */
    sri_judgement *judgements;     /* fast: slots x FAST_BLOCK */
    size_t candidate_k;            /* asked of the heads */
    atomic_uint_fast64_t search_ns, task_ns;
    atomic_bool failed;
} judge_run;

static void set_tasks(judge_run *run, size_t per_task) {
    run->tasks = (run->job->count + per_task - 1) / per_task;
    run->slots =
        run->tasks == 1 || run->job->here ? 1 : (size_t)sri_pool_threads(run->job->router->pool);
}

static void run_tasks(judge_run *run, sri_task_fn *task) {
    if (run->slots == 1)
        for (size_t i = 0; i < run->tasks; i++) task(run, i, 0);
    else
        sri_pool_run(run->job->router->pool, task, run, run->tasks);
}

static const live_route *route_of(const judge_run *run, const sri_hit *hit) {
    return sri_view_route(run->view, hit->route);
}

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
        if (route_of(run, &hits[i]) == run->view->oos)
            rival = hits[i].score;
        else
            hits[kept++] = hits[i];
    }
    *count = kept;
    return rival;
}

/* What was fitted to a table too large for heads; as it is otherwise. */
static sr_threshold automatic_cosine(const table_view *view) {
    const live_fit *fitted = view->fitted;
    bool told = fitted != NULL && fitted->kind == SR_FIT_NEIGHBOURS && fitted->auto_threshold >= 0;
    return told ? (sr_threshold){SR_THRESHOLD_COSINE, fitted->auto_threshold}
                : (sr_threshold){SR_THRESHOLD_AUTO, 0};
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
    const live_route *best = route_of(run, &hits[0]);
    sri_rule rule = rule_for(run->job, best);
    if (rule.threshold.kind == SR_THRESHOLD_AUTO) rule.threshold = automatic_cosine(run->view);
    sri_verdict verdict = sri_decide(scores, count, rival, &rule);
    set_verdict(answer, &verdict, best);
    answer->count = SRI_MIN(run->job->candidates, count);
    for (size_t i = 0; i < answer->count; i++)
        shown[i] = (shown_candidate){route_of(run, &hits[i]), hits[i].owner,
                                     sri_confidence(scores, count, rival, i), bounded(scores[i])};
}

/* ---- Heads, slow path --------------------------------------------------------------------------------------- */

#define SLOTS_AT_ONCE ((size_t)64)

/* The best utterance of a route that is not among the hits, as the index would have found it. False when memory is
 * short. */
static bool best_of(const judge_run *run, const live_route *route, const float *vector,
                    search_desk *desk, shown_candidate *shown) {
    uint32_t slots[SLOTS_AT_ONCE];
    float cosines[SLOTS_AT_ONCE], top = -INFINITY;
    shown->score = NAN;
    for (size_t next = 0; next < route->limit;) {
        const utterance *owners[SLOTS_AT_ONCE], *each;
        size_t some = 0;
        while (some < SLOTS_AT_ONCE && (each = sri_route_next(route, &next)) != NULL) {
            owners[some] = each;
            slots[some] = utterance_slot(each);
            some += slots[some] != SRI_INDEX_NONE;
        }
        if (!sri_index_scores(run->view->table->index, vector, slots, some, &desk->source,
                              &desk->search, cosines))
            return false;
        for (size_t i = 0; i < some; i++) {
            if (shown->best != NULL && !(cosines[i] > top)) continue;
            shown->best = owners[i];
            shown->score = top = cosines[i];
        }
    }
    return true;
}

/* False when memory is short. */
static bool candidate_of(const judge_run *run, const sri_fit_candidate *candidate,
                         const sri_hit *hits, size_t count, const float *vector, search_desk *desk,
                         shown_candidate *made) {
    uint32_t number = run->view->masks->numbers[candidate->route];
    shown_candidate shown = {.route = sri_view_route(run->view, number),
                             .confidence = candidate->confidence};
    for (size_t i = 0; i < count && shown.best == NULL; i++) {
        if (hits[i].route != number) continue;
        shown.best = hits[i].owner;
        shown.score = hits[i].score;
    }
    if (shown.best == NULL && !best_of(run, shown.route, vector, desk, &shown)) return false;
    shown.score = bounded(shown.score);
    *made = shown;
    return true;
}

/* The lead over the best of the other routes; NaN when there is none. */
static double lead(const judge_run *run, const shown_candidate *best, const sri_hit *hits,
                   size_t count) {
    for (size_t i = 0; i < count; i++) {
        const live_route *route = route_of(run, &hits[i]);
        if (route != best->route && route != run->view->oos)
            return best->score - bounded(hits[i].score);
    }
    return NAN;
}

/* What the heads know of the hits. */
static size_t known_hits(const judge_run *run, const sri_hit *hits, size_t count,
                         sri_fit_hit *known) {
    size_t kept = 0;
    for (size_t i = 0; i < count && kept < SRI_FIT_HITS; i++) {
        const live_route *route = route_of(run, &hits[i]);
        fit_relation relation = sri_fitted_relation(run->fitted, route);
        /* Examples out of scope are evidence as they are now, as long as the heads know what they are. */
        bool known_now = route == run->view->oos ? run->fitted->oos_id != 0 : relation.usable;
        if (known_now) known[kept++] = (sri_fit_hit){relation.place, hits[i].score};
    }
    return kept;
}

/* False when the heads know no route for the text; a failure is noted in the run. */
static bool heads(judge_run *run, size_t text, const sri_hit *hits, size_t count, int slot,
                  search_desk *desk, text_answer *answer, shown_candidate *shown) {
    const judging *job = run->job;
    const live_fit *fitted = run->fitted;
    const float *vector = job->vectors + text * run->dimension;
    sri_fit_hit *known = run->fit_hits + (size_t)slot * SRI_FIT_HITS;
    sri_fit_candidate *candidates = run->candidates + (size_t)slot * run->candidate_k;
    sri_judgement judgement = {0};
    shown_candidate best;
    size_t known_count = known_hits(run, hits, count, known);
    bool enough = sri_fit_judge_slow(fitted->fit, job->texts[text], vector, known, known_count,
                                     run->view->masks->usable, run->candidate_k, &desk->judging,
                                     candidates, &judgement);
    if (enough && judgement.count == 0) return false;
    enough = enough && candidate_of(run, &candidates[0], hits, count, vector, desk, &best);
    answer->count = SRI_MIN(job->candidates, judgement.count);
    for (size_t i = 0; i < answer->count && enough; i++)
        enough = candidate_of(run, &candidates[i], hits, count, vector, desk, &shown[i]);
    if (!enough) {
        atomic_store(&run->failed, true);
        return true;
    }
    sri_fitted_scores evidence = {best.confidence, judgement.accepted, best.score,
                                  lead(run, &best, hits, count)};
    sri_rule rule = rule_for(job, best.route);
    sri_verdict verdict = sri_decide_fitted(&evidence, &rule);
    set_verdict(answer, &verdict, best.route);
    answer->fitted = true;
    return true;
}

static void slow_text(judge_run *run, size_t text, sri_hit *hits, size_t count, int slot,
                      search_desk *desk) {
    const judging *job = run->job;
    text_answer *answer = &job->answers[text];
    shown_candidate *shown = job->shown + text * job->candidates;
    *answer = (text_answer){.confidence = NAN, .score = NAN, .margin = NAN};
    bool ask = run->fitted != NULL && count > 0;
    if (ask) {
        const live_route *nearest = route_of(run, &hits[0]);
        ask = !sri_fitted_relation(run->fitted, nearest).pending;
        /* Too few examples to learn from count like neighbours. */
        if (nearest == run->view->oos) ask = ask && sri_fit_knows_oos(run->fitted->fit);
    }
    if (ask && heads(run, text, hits, count, slot, desk, answer, shown)) return;
    neighbours(run, hits, count, run->scores + (size_t)slot * run->k, answer, shown);
}

/* A single text is shared out over threads that are idle. */
typedef struct team_search {
    const judge_run *run;
    search_desk *desk;
    sri_index_query query;
    sri_hit *hits;
    size_t *counts;
    bool enough;
} team_search;

static void search(void *job, sri_team *team, int slot) {
    team_search *self = job;
    (void)slot;
    self->query.team = team;
    self->enough = sri_index_search(self->run->view->table->index, &self->query,
                                    &self->desk->search, self->hits, self->counts);
}

static bool run_search(const judge_run *run, size_t first, size_t n, search_desk *desk,
                       sri_hit *hits, size_t *counts) {
    const judging *job = run->job;
    const sr_router *router = job->router;
    team_search self = {.run = run,
                        .desk = desk,
                        .query = {.queries = job->vectors + first * run->dimension,
                                  .n = n,
                                  .k = run->k,
                                  .version = run->view->version,
                                  .source = &desk->source},
                        .hits = hits,
                        .counts = counts};
    bool shared = job->count == 1 && !job->here && router->threads > 1 &&
                  router->profile == SR_PROFILE_LATENCY && run->view->utterances >= LARGE_TABLE;
    if (shared)
        sri_pool_lead(router->pool, search, &self);
    else
        search(&self, NULL, 0);
    return self.enough;
}

static void slow_task(void *argument, size_t task, int slot) {
    judge_run *run = argument;
    const judging *job = run->job;
    size_t first = task * run->per_task, n = SRI_MIN(run->per_task, job->count - first);
    sri_hit *hits = run->hits + (size_t)slot * run->per_task * run->k;
    size_t *counts = run->counts + (size_t)slot * run->per_task;
    uint64_t begun = sri_nanoseconds();
    search_desk *desk = sri_desk_claim(job->router);
    if (desk == NULL || !run_search(run, first, n, desk, hits, counts))
        atomic_store(&run->failed, true);
    atomic_fetch_add(&run->search_ns, sri_nanoseconds() - begun);
    for (size_t i = 0; i < n && !atomic_load(&run->failed); i++)
        slow_text(run, first + i, hits + i * run->k, counts[i], slot, desk);
    if (desk != NULL) sri_desk_leave(desk);
    atomic_fetch_add(&run->task_ns, sri_nanoseconds() - begun);
}

static const live_fit *fit_of(const table_view *view) {
    return view->fitted != NULL && view->fitted->fit != NULL ? view->fitted : NULL;
}

bool sri_judge_slow(judging *job) {
    const sr_router *router = job->router;
    const table_view *view = job->view;
    judge_run run = {.job = job, .view = view, .fitted = fit_of(view)};
    size_t routes = view->routes + (view->oos != NULL), threads = (size_t)router->threads;
    run.dimension = (size_t)sr_encoder_dimension(router->encoder);
    /* Two for a margin, and one for the hidden route. */
    run.k = SRI_MAX(job->candidates, (size_t)2) + (view->oos != NULL);
    /* As many that the heads know as they ask for: those of pending routes are left out. */
    if (run.fitted != NULL) run.k = SRI_MAX(run.k, SRI_FIT_HITS + view->pending);
    run.k = SRI_MIN(run.k, SRI_MAX(routes, (size_t)1));
    run.candidate_k = SRI_MAX(job->candidates, (size_t)1);
    if (run.fitted != NULL) run.candidate_k = SRI_MIN(run.candidate_k, run.fitted->count);
    size_t share = job->here ? job->count : (job->count + threads - 1) / threads;
    run.per_task = SRI_MAX(SRI_MIN(share, (size_t)SRI_INDEX_QUERY_BLOCK), (size_t)1);
    set_tasks(&run, run.per_task);
    run.hits = make(run.slots, run.per_task, run.k, sizeof *run.hits);
    run.counts = make(run.slots, run.per_task, 1, sizeof *run.counts);
    run.scores = make(run.slots, run.k, 1, sizeof *run.scores);
    run.fit_hits = make(run.slots, SRI_FIT_HITS, 1, sizeof *run.fit_hits);
    run.candidates = make(run.slots, run.candidate_k, 1, sizeof *run.candidates);
    bool enough = run.hits != NULL && run.counts != NULL && run.scores != NULL &&
                  run.fit_hits != NULL && run.candidates != NULL;
    if (enough) run_tasks(&run, slow_task);
    job->search_ns = atomic_load(&run.search_ns);
    job->task_ns = atomic_load(&run.task_ns);
    sri_free(run.hits);
    sri_free(run.counts);
    sri_free(run.scores);
    sri_free(run.fit_hits);
    sri_free(run.candidates);
    return enough && !atomic_load(&run.failed);
}

/* ---- Heads, fast path --------------------------------------------------------------------------------------- */

/* Vectors of a route's utterances by the fast encoder, made when first wanted. Only this cache of a version is ever
 * written by readers. */
static const float *fast_rows(const sr_router *router, const live_route *given) {
    live_route *route = (live_route *)(uintptr_t)given;
    float *rows = atomic_load(&route->fast_rows), *none = NULL;
    if (rows != NULL || route->count == 0) return rows;
    rows = make(route->count, (size_t)sr_encoder_dimension(router->fast), 1, sizeof *rows);
    sr_str *texts = sri_alloc_array(route->count, sizeof *texts);
    sr_status code = rows == NULL || texts == NULL ? SR_ERR_NO_MEMORY : SR_OK;
    for (size_t i = 0, at = 0; i < route->count && code == SR_OK; i++)
        texts[i] = utterance_text(sri_route_next(route, &at));
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
    for (size_t done = 0, at = 0; rows != NULL && done < count; done += ROWS_AT_ONCE) {
        size_t some = SRI_MIN(ROWS_AT_ONCE, count - done);
        dots(vector, 1, rows + done * dimension, some, dimension, cosines);
        for (size_t i = 0; i < some; i++) {
            const utterance *each = sri_route_next(shown->route, &at);
            if (shown->best != NULL && !(cosines[i] > top)) continue;
            shown->best = each;
            top = cosines[i];
        }
    }
}

static const live_route *route_at_place(const judge_run *run, uint32_t place) {
    return sri_view_route(run->view, run->view->masks->numbers[place]);
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
        shown[i] = (shown_candidate){.route = route_at_place(run, candidates[i].route),
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
    const live_route *best = route_at_place(run, candidates[0].route);
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
    const fit_masks *masks = run->view->masks;
    const uint8_t *usable = job->alone ? masks->exists : masks->usable;
    search_desk *desk = sri_desk_claim(job->router);
    if (desk == NULL ||
        !sri_fit_judge_fast(fitted->fit, job->texts + first, n, usable, run->candidate_k,
                            &desk->judging, candidates, judgements))
        atomic_store(&run->failed, true);
    if (desk != NULL) sri_desk_leave(desk);
    for (size_t i = 0; i < n && !atomic_load(&run->failed); i++)
        fast_text(run, first + i, candidates + i * run->candidate_k, &judgements[i]);
}

bool sri_judge_fast(const judging *job) {
    judge_run run = {.job = job, .view = job->view, .fitted = fit_of(job->view)};
    set_tasks(&run, FAST_BLOCK);
    run.candidate_k = SRI_MAX(SRI_MIN(job->candidates, run.fitted->count), (size_t)1);
    run.candidates = make(run.slots, FAST_BLOCK, run.candidate_k, sizeof *run.candidates);
    run.judgements = make(run.slots, FAST_BLOCK, 1, sizeof *run.judgements);
    bool enough = run.candidates != NULL && run.judgements != NULL;
    if (enough) run_tasks(&run, fast_task);
    sri_free(run.candidates);
    sri_free(run.judgements);
    return enough && !atomic_load(&run.failed);
}
