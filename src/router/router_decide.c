/*
 * router_decide.c - deciding texts: clean, try the fast path, encode the rest, judge, copy.
 *
 * No lock is taken. Judging (judge.c) and copying what decisions show into the result's arena happen by one view of the table.
 * Both are done in rounds: a round pins the view that is published, lets the fast path answer what it can, and,
 * if it has the vectors of all other texts, answers them and is the last; otherwise it lets the view go and encodes what is
 * missing. When table or fit have changed in between, texts are read and the fast path answers anew. So one call sees one state of the
 * table, and a route that is removed while it encodes is not in its answer.
 *
 * Judging goes by SOME texts at a time, so that memory does not grow with texts times candidates.
 */
#include <math.h>
#include <string.h>

#include "router/router_int.h"
#include "text/text.h"

#define SOME               ((size_t)1024)
#define DEFAULT_CANDIDATES 3
#define MAX_CANDIDATES     1000
#define NO_ROW             SIZE_MAX
/* Of a table that changes all the time. After these the vectors of all texts are there, so that no state needs more. */
#define ROUNDS 3

struct sr_decisions {
    sri_arena arena;
    sr_decision *items;
    size_t count;
    sr_timings timings;
};

/* One call of sr_decide(). */
typedef struct decide_call {
    sr_router *router;
    sr_decisions *result;
    size_t candidates; /* per decision */
    bool no_reject, as_is;
    sr_path path;
    size_t *asked; /* places of the texts that are not blank */
    sr_str *texts; /* those texts, as they are read in this state */
    size_t count;
    uint8_t *settled; /* of each: answered by the fast path in this state */
    size_t *rows;     /* of each: its row in `vectors`, or NO_ROW */
    float *vectors;   /* vector_count x dimension */
    uint8_t *truncated;
    size_t vector_count, vector_capacity, flag_capacity;
    text_answer *answers; /* SOME */
    shown_candidate *shown;
    const table_view *view;     /* of the round */
    uint64_t version, revision; /* the state that the fast path last answered by */
} decide_call;

static sr_status check_options(const sr_decide_options *options, sr_error *error) {
    if (options->top_k < -1 || options->top_k > MAX_CANDIDATES)
        return sri_fail(error, SR_ERR_INVALID, "top_k", "top_k %d is not from -1 to %d",
                        options->top_k, MAX_CANDIDATES);
    switch (options->path) {
    case SR_PATH_AUTO:
    case SR_PATH_FAST:
    case SR_PATH_SLOW: return SR_OK;
    case SR_PATH_RERANK:
        return sri_fail(error, SR_ERR_UNSUPPORTED, "path",
                        "there is no reranker yet; use fast, slow or auto");
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

/* ---- Before the rounds ---------------------------------------------------------------------------------- */

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
    decision->route = (sr_str){0};
    decision->candidates = NULL;
    decision->candidate_count = 0;
    decision->fitted = decision->truncated = 0;
}

static bool make_room(decide_call *call, size_t n) {
    size_t bytes, some = SRI_MIN(SOME, n);
    if (!sri_size_mul(n, sizeof *call->result->items, &bytes)) return false;
    call->result->items = sri_arena_alloc(&call->result->arena, bytes);
    call->asked = sri_alloc_array(n, sizeof *call->asked);
    call->texts = sri_alloc_array(n, sizeof *call->texts);
    call->settled = sri_alloc_zero(n, 1);
    call->rows = sri_alloc_array(n, sizeof *call->rows);
    call->answers = sri_alloc_array(some, sizeof *call->answers);
    call->shown = sri_alloc_array(some * call->candidates, sizeof *call->shown);
    return call->result->items != NULL && call->asked != NULL && call->texts != NULL &&
           call->settled != NULL && call->rows != NULL && call->answers != NULL &&
           call->shown != NULL;
}

static bool copy_texts(decide_call *call, const sr_str *texts, size_t n) {
    sr_decisions *result = call->result;
    if (!make_room(call, n)) return false;
    for (size_t i = 0; i < n; i++) {
        result->items[i] = (sr_decision){0};
        if (!copy_text(result, texts[i], &result->items[i].text)) return false;
        result->count++;
        answer_nothing(&result->items[i], SR_REASON_EMPTY_TEXT, 0);
        if (sri_text_blank(texts[i])) continue;
        call->asked[call->count] = i;
        call->rows[call->count] = NO_ROW;
        call->texts[call->count++] = result->items[i].text;
    }
    return true;
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

static bool copy_candidates(const decide_call *call, const text_answer *answer,
                            const shown_candidate *shown, sr_decision *decision) {
    sri_arena *arena = &call->result->arena;
    if (answer->count == 0) return true;
    sr_candidate *candidates = sri_arena_alloc(arena, answer->count * sizeof *candidates);
    if (candidates == NULL) return false;
    for (size_t i = 0; i < answer->count; i++) {
        sr_str best = {0};
        if (shown[i].best != NULL) best = utterance_text(shown[i].best);
        candidates[i] = (sr_candidate){.route = sri_arena_copy(arena, shown[i].route->name),
                                       .confidence = shown[i].confidence,
                                       .score = shown[i].score,
                                       .utterance = sri_arena_copy(arena, best)};
        if (candidates[i].route.data == NULL || candidates[i].utterance.data == NULL) return false;
    }
    decision->candidates = candidates;
    decision->candidate_count = answer->count;
    return true;
}

static bool copy_answer(const decide_call *call, size_t asked, const text_answer *answer,
                        const shown_candidate *shown, sr_path path) {
    sr_decision *decision = &call->result->items[call->asked[asked]];
    answer_nothing(decision, answer->reason, call->revision);
    decision->status = answer->status;
    decision->confidence = answer->confidence;
    decision->score = answer->score;
    decision->margin = answer->margin;
    decision->path = path;
    decision->fitted = answer->fitted;
    decision->truncated =
        path == SR_PATH_SLOW ? call->truncated[call->rows[asked]] != 0 : answer->truncated;
    if (answer->status == SR_MATCHED) {
        decision->route = sri_arena_copy(&call->result->arena, answer->route->name);
        if (decision->route.data == NULL) return false;
    }
    return copy_candidates(call, answer, shown, decision);
}

static judging make_judging(const decide_call *call) {
    return (judging){.router = call->router,
                     .view = call->view,
                     .candidates = call->candidates,
                     .no_reject = call->no_reject,
                     .alone = call->path == SR_PATH_FAST,
                     .answers = call->answers,
                     .shown = call->shown};
}

/* ---- A round. The caller has pinned the view -------------------------------------------------------------------- */

/* Whether the fast path may answer in this state of the table. */
static bool fast_allowed(const decide_call *call) {
    const live_fit *fitted = call->view->fitted;
    if (fitted == NULL || fitted->fit == NULL || !fitted->has_fast) return false;
    if (call->path == SR_PATH_FAST) return true;
    /* Too few examples out of scope to learn from count by their vectors alone. */
    const live_route *oos = call->view->oos;
    if (oos != NULL && oos->count > 0 && !sri_fit_knows_oos(fitted->fit)) return false;
    return call->path == SR_PATH_AUTO && call->view->pending == 0 && call->router->margin == 0;
}

static bool answer_fast(decide_call *call) {
    judging job = make_judging(call);
    bool enough = true;
    for (size_t done = 0; done < call->count && enough; done += job.count) {
        job.count = SRI_MIN(SOME, call->count - done);
        job.texts = call->texts + done;
        enough = sri_judge_fast(&job);
        for (size_t i = 0; i < job.count && enough; i++) {
            call->settled[done + i] = call->answers[i].settled;
            if (call->answers[i].settled)
                enough = copy_answer(call, done + i, &call->answers[i],
                                     call->shown + i * call->candidates, SR_PATH_FAST);
        }
    }
    return enough;
}

/* The texts that are not settled, some at a time, with their vectors side by side. */
static bool answer_slow(decide_call *call) {
    judging job = make_judging(call);
    size_t dimension = (size_t)sr_encoder_dimension(call->router->encoder);
    size_t some = SRI_MIN(SOME, call->count);
    size_t *places = sri_alloc_array(some, sizeof *places);
    sr_str *texts = sri_alloc_array(some, sizeof *texts);
    float *vectors = sri_alloc_array(some * dimension, sizeof *vectors);
    bool enough = places != NULL && texts != NULL && vectors != NULL;
    job.texts = texts;
    job.vectors = vectors;
    for (size_t next = 0; next < call->count && enough;) {
        job.count = 0;
        for (; next < call->count && job.count < SOME; next++) {
            if (call->settled[next]) continue;
            memcpy(vectors + job.count * dimension, call->vectors + call->rows[next] * dimension,
                   dimension * sizeof *vectors);
            texts[job.count] = call->texts[next];
            places[job.count++] = next;
        }
        enough = job.count == 0 || sri_judge_slow(&job);
        for (size_t i = 0; i < job.count && enough; i++)
            enough = copy_answer(call, places[i], &call->answers[i],
                                 call->shown + i * call->candidates, SR_PATH_SLOW);
    }
    sri_free(places);
    sri_free(texts);
    sri_free(vectors);
    return enough;
}

static void answer_empty(decide_call *call) {
    for (size_t i = 0; i < call->result->count; i++)
        call->result->items[i].revision = call->revision;
    for (size_t i = 0; i < call->count; i++)
        answer_nothing(&call->result->items[call->asked[i]], SR_REASON_EMPTY_TABLE, call->revision);
}

/* Settles how each text is read in this state: misspelt words are mended while the fit knows all routes. */
static bool read_texts(decide_call *call) {
    const live_fit *fitted = call->view->fitted;
    bool mends = fitted != NULL && fitted->fit != NULL && call->view->pending == 0 && !call->as_is;
    sri_buffer buffer = {0};
    bool enough = true;
    for (size_t i = 0; i < call->count && enough; i++) {
        sr_decision *decision = &call->result->items[call->asked[i]];
        sr_str read = decision->text;
        bool mended = false;
        buffer.len = 0;
        if (mends) enough = sri_fit_mend(fitted->fit, read, &buffer, &mended);
        if (mended) {
            read = sri_arena_copy(&call->result->arena, (sr_str){buffer.data, buffer.len});
            enough = read.data != NULL;
        }
        if (!sri_str_equal(read, call->texts[i])) call->rows[i] = NO_ROW; /* encoded otherwise */
        call->texts[i] = read;
        decision->read_as = mended ? read : (sr_str){0};
    }
    sri_buffer_free(&buffer);
    return enough;
}

/* Brings readings and the fast path's answers to the state at hand. */
static sr_status look(decide_call *call, bool first, sr_error *error) {
    const sr_router *router = call->router;
    uint64_t revision = call->view->revision;
    if (!first && call->view->version == call->version) return SR_OK;
    call->version = call->view->version;
    call->revision = revision;
    for (size_t i = 0; i < call->result->count; i++) call->result->items[i].revision = revision;
    memset(call->settled, 0, call->count);
    if (!read_texts(call)) return sri_fail_memory(error);
    if (fast_allowed(call)) return answer_fast(call) ? SR_OK : sri_fail_memory(error);
    if (call->path != SR_PATH_FAST) return SR_OK;
    return sri_fail(error, SR_ERR_UNSUPPORTED, "path",
                    "the table %s has no fast path; make it with `synaptoroute fit`, or use slow "
                    "or auto",
                    router->database);
}

/* One round; `*missing` takes the number of texts that must be encoded before the next. */
static sr_status round_of(decide_call *call, bool first, size_t *missing, sr_error *error) {
    *missing = 0;
    if (call->view->utterances == 0) {
        call->revision = call->view->revision;
        answer_empty(call);
        return SR_OK;
    }
    sr_status code = look(call, first, error);
    size_t open = 0;
    for (size_t i = 0; i < call->count && code == SR_OK; i++) {
        if (call->settled[i]) continue;
        open++;
        *missing += call->rows[i] == NO_ROW;
    }
    if (code != SR_OK || *missing > 0 || open == 0) return code;
    return answer_slow(call) ? SR_OK : sri_fail_memory(error);
}

/* ---- Between rounds, with nothing pinned ------------------------------------------------------------------------------ */

static bool reserve_rows(decide_call *call, size_t count, size_t dimension) {
    size_t row;
    void *vectors = call->vectors, *flags = call->truncated;
    bool enough = sri_size_mul(dimension, sizeof(float), &row) &&
                  sri_grow(&vectors, &call->vector_capacity, call->vector_count + count, row);
    call->vectors = vectors;
    enough = enough && sri_grow(&flags, &call->flag_capacity, call->vector_count + count, 1);
    call->truncated = flags;
    return enough;
}

/* Encodes `missing` texts that are not settled and have no vector; `all`: settled ones too. */
static sr_status encode(decide_call *call, size_t missing, bool all, sr_error *error) {
    size_t dimension = (size_t)sr_encoder_dimension(call->router->encoder), count = 0;
    if (all) missing = call->count;
    sr_str *texts = sri_alloc_array(missing, sizeof *texts);
    if (texts == NULL || !reserve_rows(call, missing, dimension)) {
        sri_free(texts);
        return sri_fail_memory(error);
    }
    size_t base = call->vector_count;
    for (size_t i = 0; i < call->count; i++) {
        if (call->rows[i] != NO_ROW || (call->settled[i] && !all)) continue;
        call->rows[i] = base + count;
        texts[count++] = call->texts[i];
    }
    sr_status code =
        sr_encoder_encode(call->router->encoder, texts, count, call->vectors + base * dimension,
                          call->truncated + base, error);
    call->vector_count += count;
    sri_free(texts);
    return code;
}

/* What needs no model: blank texts, and all texts while there is nothing to compare with. */
static bool answer_without_model(decide_call *call) {
    pinned_view pinned = sri_view_pin(call->router);
    call->revision = pinned.view->revision;
    bool empty = pinned.view->utterances == 0;
    sri_view_unpin(pinned);
    if (empty || call->count == 0) answer_empty(call);
    return empty || call->count == 0;
}

static sr_status run(decide_call *call, sr_error *error) {
    if (answer_without_model(call)) return SR_OK;
    sr_status code = sri_router_ready(call->router, error);
    size_t missing = 1;
    for (int round = 0; code == SR_OK && missing > 0; round++) {
        pinned_view pinned = sri_view_pin(call->router);
        call->view = pinned.view;
        code = round_of(call, round == 0, &missing, error);
        sri_view_unpin(pinned);
        if (code == SR_OK && missing > 0) code = encode(call, missing, round >= ROUNDS, error);
    }
    return code;
}

static void free_call(decide_call *call) {
    sri_free(call->asked);
    sri_free(call->texts);
    sri_free(call->settled);
    sri_free(call->rows);
    sri_free(call->vectors);
    sri_free(call->truncated);
    sri_free(call->answers);
    sri_free(call->shown);
}

sr_status sr_decide(sr_router *router, const sr_str *texts, size_t n,
                    const sr_decide_options *given, sr_decisions **handle, sr_error *error) {
    *handle = NULL;
    uint64_t begun = sri_nanoseconds();
    sr_decide_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_decide_options", error);
    if (code == SR_OK) code = check_options(&options, error);
    if (code == SR_OK) code = check_texts(texts, n, error);
    if (code == SR_OK) code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    decide_call call = {.router = router,
                        .no_reject = options.no_reject != 0,
                        .as_is = options.as_is != 0,
                        .path = options.path};
    call.candidates = options.top_k == 0  ? DEFAULT_CANDIDATES
                      : options.top_k < 0 ? 0
                                          : (size_t)options.top_k;
    call.result = sri_alloc_zero(1, sizeof *call.result);
    if (call.result == NULL || !copy_texts(&call, texts, n)) code = sri_fail_memory(error);
    if (code == SR_OK) code = run(&call, error);
    free_call(&call);
    if (code == SR_OK) {
        call.result->timings.total_ns = sri_nanoseconds() - begun;
        *handle = call.result;
    } else {
        sr_decisions_free(&call.result);
    }
    return code;
}

const sr_timings *sr_decisions_timings(const sr_decisions *decisions) {
    return &decisions->timings;
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
