/*
 * router_decide.c - deciding texts: clean, encode, search, judge, copy.
 *
 * Texts are encoded without any lock. Then the shared lock is held while all of them are searched and what
 * their decisions show is copied into the result's arena: so one call sees one state of the table, and a
 * route that is removed while it encodes is not in its answer. Queries are shared out over the router's
 * pool in tasks of up to SRI_INDEX_QUERY_BLOCK; hits are kept for SOME texts at a time, so that memory
 * does not grow with texts times candidates.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "decide/decide.h"
#include "router/router_int.h"
#include "text/text.h"

#define SOME               ((size_t)1024)
#define DEFAULT_CANDIDATES 3
#define MAX_CANDIDATES     1000

struct sr_decisions {
    sri_arena arena;
    sr_decision *items;
    size_t count;
};

/* One call of sr_decide(). */
typedef struct decide_call {
    sr_router *router;
    sr_decisions *result;
    size_t candidates; /* per decision */
    bool no_reject;
    size_t *asked; /* places of the texts that are not blank */
    sr_str *texts; /* those texts */
    size_t count;
    float *vectors; /* count x dimension */
    uint8_t *truncated;
} decide_call;

/* The search of some texts. */
typedef struct search_job {
    const route_table *table;
    sri_index_scratch *scratch;
    const float *queries;
    size_t count, dimension, k, per_task;
    sri_hit *hits;  /* count x k */
    size_t *counts; /* of hits */
    double *scores; /* k, for the rule */
    atomic_bool failed;
} search_job;

static sr_status check_options(const sr_decide_options *options, sr_error *error) {
    if (options->top_k < -1 || options->top_k > MAX_CANDIDATES)
        return sri_fail(error, SR_ERR_INVALID, "top_k", "top_k %d is not from -1 to %d",
                        options->top_k, MAX_CANDIDATES);
    switch (options->path) {
    case SR_PATH_AUTO:
    case SR_PATH_SLOW: return SR_OK;
    case SR_PATH_FAST:
        return sri_fail(error, SR_ERR_UNSUPPORTED, "path",
                        "this table has no fast path yet; use slow or auto");
    case SR_PATH_RERANK:
        return sri_fail(error, SR_ERR_UNSUPPORTED, "path",
                        "there is no reranker yet; use slow or auto");
    }
    return sri_fail(error, SR_ERR_INVALID, "path", "there is no path %d", (int)options->path);
}

static sr_status check_texts(const sr_str *texts, size_t n, sr_error *error) {
    if (texts == NULL && n > 0)
        return sri_fail(error, SR_ERR_INVALID, "texts", "%zu texts, but none are given", n);
    for (size_t i = 0; i < n; i++) {
        if (texts[i].data == NULL && texts[i].len > 0)
            return sri_fail(error, SR_ERR_INVALID, "texts", "text %zu has no data but length %zu",
                            i, texts[i].len);
        if (texts[i].len > SR_MAX_TEXT_BYTES)
            return sri_fail(error, SR_ERR_LIMIT, "texts",
                            "text %zu has %zu bytes; at most %d are read", i, texts[i].len,
                            SR_MAX_TEXT_BYTES);
    }
    return SR_OK;
}

/* ---- Before the search ---------------------------------------------------------------------------------- */

static bool copy_text(sr_decisions *result, sr_str text, sr_str *copy) {
    if (sri_utf8_valid(text, NULL)) {
        *copy = sri_arena_copy(&result->arena, text);
        return copy->data != NULL;
    }
    sri_buffer valid = {0};
    bool enough = sri_utf8_append_valid(&valid, text);
    if (enough) *copy = sri_arena_copy(&result->arena, (sr_str){valid.data, valid.len});
    sri_buffer_free(&valid);
    return enough && copy->data != NULL;
}

static void answer_nothing(sr_decision *decision, sr_reason reason, uint64_t revision) {
    decision->status = SR_NONE;
    decision->reason = reason;
    decision->confidence = decision->score = decision->margin = NAN;
    decision->path = SR_PATH_SLOW;
    decision->revision = revision;
}

static bool copy_texts(decide_call *call, const sr_str *texts, size_t n) {
    sr_decisions *result = call->result;
    size_t bytes;
    if (!sri_size_mul(n, sizeof *result->items, &bytes)) return false;
    result->items = sri_arena_alloc(&result->arena, bytes);
    call->asked = sri_alloc_array(n, sizeof *call->asked);
    call->texts = sri_alloc_array(n, sizeof *call->texts);
    call->truncated = sri_alloc_zero(n, 1);
    if (result->items == NULL || call->asked == NULL || call->texts == NULL ||
        call->truncated == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        result->items[i] = (sr_decision){0};
        if (!copy_text(result, texts[i], &result->items[i].text)) return false;
        result->count++;
        answer_nothing(&result->items[i], SR_REASON_EMPTY_TEXT, 0);
        if (sri_text_blank(texts[i])) continue;
        call->asked[call->count] = i;
        call->texts[call->count++] = result->items[i].text;
    }
    return true;
}

static sr_status encode(decide_call *call, sr_error *error) {
    sr_status code = sri_router_ready(call->router, error);
    if (code != SR_OK) return code;
    size_t dimension = (size_t)sr_encoder_dimension(call->router->encoder), floats;
    if (sri_size_mul(call->count, dimension, &floats))
        call->vectors = sri_alloc_array(floats, sizeof(float));
    if (call->vectors == NULL) return sri_fail_memory(error);
    return sr_encoder_encode(call->router->encoder, call->texts, call->count, call->vectors,
                             call->truncated, error);
}

/* ---- The search -------------------------------------------------------------------------------------------- */

static void search_task(void *argument, size_t task, int slot) {
    search_job *job = argument;
    size_t first = task * job->per_task;
    size_t n = SRI_MIN(job->per_task, job->count - first);
    if (!sri_index_search(job->table->index, job->queries + first * job->dimension, n, job->k,
                          &job->scratch[slot], job->hits + first * job->k, job->counts + first))
        atomic_store(&job->failed, true);
}

static void share_out(search_job *job, sri_pool *pool) {
    size_t threads = (size_t)sri_pool_threads(pool);
    size_t share = (job->count + threads - 1) / threads;
    job->per_task = SRI_MIN(share, (size_t)SRI_INDEX_QUERY_BLOCK);
    sri_pool_run(pool, search_task, job, (job->count + job->per_task - 1) / job->per_task);
}

/* ---- The decision -------------------------------------------------------------------------------------------- */

static bool copy_candidates(const decide_call *call, const search_job *job, const sri_hit *hits,
                            size_t count, sr_decision *decision) {
    sri_arena *arena = &call->result->arena;
    size_t shown = SRI_MIN(call->candidates, count);
    sr_candidate *candidates = sri_arena_alloc(arena, shown * sizeof *candidates);
    if (candidates == NULL) return false;
    for (size_t i = 0; i < shown; i++) {
        const utterance *best = job->table->by_slot[hits[i].slot];
        candidates[i] = (sr_candidate){.route = sri_arena_copy(arena, best->route->name),
                                       .confidence = sri_confidence(job->scores, count, i),
                                       .score = SRI_MAX(-1.0, SRI_MIN(1.0, job->scores[i])),
                                       .utterance = sri_arena_copy(arena, utterance_text(best))};
        if (candidates[i].route.data == NULL || candidates[i].utterance.data == NULL) return false;
    }
    decision->candidates = shown == 0 ? NULL : candidates;
    decision->candidate_count = shown;
    return true;
}

static bool decide_one(const decide_call *call, const search_job *job, size_t at,
                       sr_decision *decision) {
    const sri_hit *hits = job->hits + at * job->k;
    size_t count = job->counts[at];
    answer_nothing(decision, SR_REASON_EMPTY_TABLE, job->table->state.revision);
    if (count == 0) return true;
    for (size_t i = 0; i < count; i++) job->scores[i] = hits[i].score;
    const live_route *best = job->table->numbers[hits[0].route];
    sri_rule rule = {best->threshold, call->router->margin, call->no_reject};
    sri_verdict verdict = sri_decide(job->scores, count, &rule);
    decision->status = verdict.status;
    decision->reason = verdict.reason;
    decision->score = verdict.score;
    decision->margin = verdict.margin;
    decision->confidence = verdict.confidence;
    if (verdict.status == SR_MATCHED) {
        decision->route = sri_arena_copy(&call->result->arena, best->name);
        if (decision->route.data == NULL) return false;
    }
    return copy_candidates(call, job, hits, count, decision);
}

static bool make_job(const decide_call *call, const route_table *table, search_job *job) {
    size_t some = SRI_MIN(SOME, call->count);
    job->table = table;
    job->scratch = call->router->scratch;
    job->dimension = (size_t)sr_encoder_dimension(call->router->encoder);
    job->k = SRI_MIN(SRI_MAX(call->candidates, (size_t)2), SRI_MAX(table->routes, (size_t)1));
    job->hits = sri_alloc_array(some * job->k, sizeof *job->hits);
    job->counts = sri_alloc_array(some, sizeof *job->counts);
    job->scores = sri_alloc_array(job->k, sizeof *job->scores);
    return job->hits != NULL && job->counts != NULL && job->scores != NULL;
}

/* Searches and decides all that was asked. The caller holds the shared lock. */
static bool decide_all(decide_call *call) {
    search_job job = {0};
    bool enough = make_job(call, call->router->table, &job);
    for (size_t done = 0; done < call->count && enough; done += job.count) {
        job.count = SRI_MIN(SOME, call->count - done);
        job.queries = call->vectors + done * job.dimension;
        share_out(&job, call->router->pool);
        enough = !atomic_load(&job.failed);
        for (size_t i = 0; i < job.count && enough; i++) {
            sr_decision *decision = &call->result->items[call->asked[done + i]];
            enough = decide_one(call, &job, i, decision);
            decision->truncated = call->truncated[done + i] != 0;
        }
    }
    sri_free(job.hits);
    sri_free(job.counts);
    sri_free(job.scores);
    return enough;
}

/* What needs no model: blank texts, and all texts while there is nothing to compare with. */
static bool answer_without_model(decide_call *call) {
    pthread_rwlock_rdlock(&call->router->lock);
    uint64_t revision = call->router->table->state.revision;
    bool empty = call->router->table->utterances == 0;
    pthread_rwlock_unlock(&call->router->lock);
    for (size_t i = 0; i < call->result->count; i++) call->result->items[i].revision = revision;
    if (!empty) return call->count == 0;
    for (size_t i = 0; i < call->count; i++)
        call->result->items[call->asked[i]].reason = SR_REASON_EMPTY_TABLE;
    return true;
}

static sr_status run(decide_call *call, sr_error *error) {
    if (answer_without_model(call)) return SR_OK;
    sr_status code = encode(call, error);
    if (code != SR_OK) return code;
    pthread_rwlock_rdlock(&call->router->lock);
    uint64_t revision = call->router->table->state.revision;
    for (size_t i = 0; i < call->result->count; i++) call->result->items[i].revision = revision;
    bool enough = decide_all(call);
    pthread_rwlock_unlock(&call->router->lock);
    return enough ? SR_OK : sri_fail_memory(error);
}

sr_status sr_decide(sr_router *router, const sr_str *texts, size_t n,
                    const sr_decide_options *given, sr_decisions **handle, sr_error *error) {
    *handle = NULL;
    sr_decide_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_decide_options", error);
    if (code == SR_OK) code = check_options(&options, error);
    if (code == SR_OK) code = check_texts(texts, n, error);
    if (code == SR_OK) code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    decide_call call = {.router = router, .no_reject = options.no_reject != 0};
    call.candidates = options.top_k == 0  ? DEFAULT_CANDIDATES
                      : options.top_k < 0 ? 0
                                          : (size_t)options.top_k;
    call.result = sri_alloc_zero(1, sizeof *call.result);
    if (call.result == NULL || !copy_texts(&call, texts, n)) code = sri_fail_memory(error);
    if (code == SR_OK) code = run(&call, error);
    sri_free(call.asked);
    sri_free(call.texts);
    sri_free(call.vectors);
    sri_free(call.truncated);
    if (code == SR_OK)
        *handle = call.result;
    else
        sr_decisions_free(&call.result);
    return code;
}

size_t sr_decisions_count(const sr_decisions *decisions) { return decisions->count; }

const sr_decision *sr_decisions_get(const sr_decisions *decisions, size_t index) {
    return index < decisions->count ? &decisions->items[index] : NULL;
}

void sr_decisions_free(sr_decisions **handle) {
    if (handle == NULL || *handle == NULL) return;
    sri_arena_free(&(*handle)->arena);
    sri_free(*handle);
    *handle = NULL;
}

const char *sr_outcome_name(sr_outcome outcome) {
    return outcome == SR_MATCHED ? "matched" : "none";
}

const char *sr_reason_name(sr_reason reason) {
    static const char *const names[] = {"matched", "below_threshold", "ambiguous", "empty_table",
                                        "empty_text"};
    return (size_t)reason < SRI_COUNT(names) ? names[reason] : "?";
}

const char *sr_path_name(sr_path path) {
    static const char *const names[] = {"auto", "fast", "slow", "rerank"};
    return (size_t)path < SRI_COUNT(names) ? names[path] : "?";
}
