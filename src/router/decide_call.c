/*
 * decide_call.c - deciding texts: clean, try the fast path, encode the rest, judge, copy.
 *
 * No lock is taken. Judging (judge.c) and copying what decisions show into the result's arena happen by one view of the table.
 * Both are done in rounds: a round pins the view that is published, lets the fast path answer what it can, and,
 * if a call has the vectors of all its other texts, answers them and is its last; otherwise the view is let go and what is
 * missing is wanted. When table or fit have changed in between, texts are read and the fast path answers anew. So one call sees one
 * state of the table, and a route that is removed while it encodes is not in its answer.
 *
 * Judging goes by SOME texts at a time, so that memory does not grow with texts times candidates. Texts of calls that are decided
 * by the same options are judged together.
 */
#include "router/decide_call.h"

#include <math.h>
#include <string.h>

#include "encode/encode.h"
#include "text/text.h"

#define SOME               ((size_t)1024)
#define DEFAULT_CANDIDATES 3
#define MAX_CANDIDATES     1000
#define NO_ROW             SIZE_MAX
/* Of a table that changes all the time. After these the vectors of all texts are there, so that no state needs more. */
#define ROUNDS 3

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
    size_t bytes;
    if (!sri_size_mul(n, sizeof *call->result->items, &bytes)) return false;
    call->result->items = sri_arena_alloc(&call->result->arena, bytes);
    call->asked = sri_alloc_array(n, sizeof *call->asked);
    call->texts = sri_alloc_array(n, sizeof *call->texts);
    call->settled = sri_alloc_zero(n, 1);
    call->rows = sri_alloc_array(n, sizeof *call->rows);
    return call->result->items != NULL && call->asked != NULL && call->texts != NULL &&
           call->settled != NULL && call->rows != NULL;
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

static void answer_empty(decide_call *call, const table_view *view) {
    call->revision = view->revision;
    for (size_t i = 0; i < call->result->count; i++)
        call->result->items[i].revision = call->revision;
    for (size_t i = 0; i < call->count; i++)
        answer_nothing(&call->result->items[call->asked[i]], SR_REASON_EMPTY_TABLE, call->revision);
}

/* Blank texts, and all texts while there is nothing to compare with, need no model. */
static sr_status load_model(decide_call *call, sr_router *router, sr_error *error) {
    pinned_view pinned = sri_view_pin(router);
    call->answered = call->count == 0 || pinned.view->utterances == 0;
    if (call->answered) answer_empty(call, pinned.view);
    sri_view_unpin(pinned);
    return call->answered ? SR_OK : sri_router_ready(router, error);
}

sr_status sri_call_begin(decide_call *call, sr_router *router, const sr_str *texts, size_t n,
                         const sr_decide_options *given, sr_error *error) {
    sr_decide_options options;
    *call = (decide_call){0};
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_decide_options", error);
    if (code == SR_OK) code = check_options(&options, error);
    if (code == SR_OK) code = sri_check_texts(texts, n, error);
    if (code == SR_OK) code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    call->no_reject = options.no_reject != 0;
    call->as_is = options.as_is != 0;
    call->path = options.path;
    call->candidates = options.top_k == 0  ? DEFAULT_CANDIDATES
                       : options.top_k < 0 ? 0
                                           : (size_t)options.top_k;
    call->result = sri_alloc_zero(1, sizeof *call->result);
    if (call->result == NULL || !copy_texts(call, texts, n)) code = sri_fail_memory(error);
    if (code == SR_OK) code = load_model(call, router, error);
    if (code != SR_OK) {
        sr_decisions *none = sri_call_end(call);
        sr_decisions_free(&none);
    }
    return code;
}

sr_decisions *sri_call_end(decide_call *call) {
    sr_decisions *result = call->result;
    sri_free(call->asked);
    sri_free(call->texts);
    sri_free(call->settled);
    sri_free(call->rows);
    sri_free(call->vectors);
    sri_free(call->truncated);
    sri_free(call->wanted);
    *call = (decide_call){0};
    return result;
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/* A round, in a view that it has pinned. */
typedef struct decide_round {
    sr_router *router;
    const table_view *view;
    bool here;
    text_answer *answers; /* at most SOME */
    shown_candidate *shown;
} decide_round;

static bool make_answers(decide_round *round, size_t count, size_t candidates) {
    round->answers = sri_alloc_array(count, sizeof *round->answers);
    round->shown = sri_alloc_array(count * candidates, sizeof *round->shown);
    return round->answers != NULL && round->shown != NULL;
}

static void free_answers(decide_round *round) {
    sri_free(round->answers);
    sri_free(round->shown);
    round->answers = NULL;
    round->shown = NULL;
}

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

static judging make_judging(const decide_round *round, const decide_call *call) {
    return (judging){.router = round->router,
                     .view = round->view,
                     .candidates = call->candidates,
                     .no_reject = call->no_reject,
                     .alone = call->path == SR_PATH_FAST,
                     .here = round->here,
                     .answers = round->answers,
                     .shown = round->shown};
}

/* ---- The fast path ------------------------------------------------------------------------------------------ */

/* Whether the fast path may answer in this state of the table. */
static bool fast_allowed(const decide_round *round, const decide_call *call) {
    const table_view *view = round->view;
    const live_fit *fitted = view->fitted;
    if (fitted == NULL || fitted->fit == NULL || !fitted->has_fast) return false;
    if (call->path == SR_PATH_FAST) return true;
    /* Too few examples out of scope to learn from count by their vectors alone. */
    const live_route *oos = view->oos;
    if (oos != NULL && oos->count > 0 && !sri_fit_knows_oos(fitted->fit)) return false;
    return call->path == SR_PATH_AUTO && view->pending == 0 && round->router->margin == 0;
}

static bool answer_fast(decide_round *round, decide_call *call) {
    bool enough = make_answers(round, SRI_MIN(SOME, call->count), call->candidates);
    judging job = make_judging(round, call);
    for (size_t done = 0; done < call->count && enough; done += job.count) {
        job.count = SRI_MIN(SOME, call->count - done);
        job.texts = call->texts + done;
        enough = sri_judge_fast(&job);
        for (size_t i = 0; i < job.count && enough; i++) {
            call->settled[done + i] = job.answers[i].settled;
            if (job.answers[i].settled)
                enough = copy_answer(call, done + i, &job.answers[i],
                                     job.shown + i * call->candidates, SR_PATH_FAST);
        }
    }
    free_answers(round);
    return enough;
}

/* Settles how each text is read in this state: misspelt words are mended while the fit knows all routes. */
static bool read_texts(const table_view *view, decide_call *call) {
    const live_fit *fitted = view->fitted;
    bool mends = fitted != NULL && fitted->fit != NULL && view->pending == 0 && !call->as_is;
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
static sr_status look(decide_round *round, decide_call *call) {
    const table_view *view = round->view;
    if (call->rounds > 0 && view->version == call->version) return SR_OK;
    call->version = view->version;
    call->revision = view->revision;
    for (size_t i = 0; i < call->result->count; i++)
        call->result->items[i].revision = view->revision;
    memset(call->settled, 0, call->count);
    if (!read_texts(view, call)) return SR_ERR_NO_MEMORY;
    if (fast_allowed(round, call)) return answer_fast(round, call) ? SR_OK : SR_ERR_NO_MEMORY;
    return call->path == SR_PATH_FAST ? SR_ERR_UNSUPPORTED : SR_OK;
}

/* ---- What is missing ---------------------------------------------------------------------------------------- */

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

/* Gives a row to each text that has none and is not settled; after many rounds to settled ones too. */
static sr_status want(decide_call *call, size_t dimension) {
    bool all = call->rounds > ROUNDS;
    size_t missing = 0, base = call->vector_count;
    for (size_t i = 0; i < call->count; i++)
        missing += call->rows[i] == NO_ROW && (!call->settled[i] || all);
    if (missing == 0) return SR_OK;
    if (call->wanted == NULL) call->wanted = sri_alloc_array(call->count, sizeof *call->wanted);
    if (call->wanted == NULL || !reserve_rows(call, missing, dimension)) return SR_ERR_NO_MEMORY;
    for (size_t i = 0; i < call->count; i++) {
        if (call->rows[i] != NO_ROW || (call->settled[i] && !all)) continue;
        call->rows[i] = base + call->wanted_count;
        call->wanted[call->wanted_count++] = call->texts[i];
    }
    call->vector_count += missing;
    call->wanted_rows = call->vectors + base * dimension;
    call->wanted_flags = call->truncated + base;
    return SR_OK;
}

sr_status sri_call_encode(decide_call *call, sr_router *router, sr_error *error) {
    sr_timings *timings = &call->result->timings;
    uint64_t begun = sri_nanoseconds();
    sri_encoding job = {.texts = call->wanted,
                        .n = call->wanted_count,
                        .out = call->wanted_rows,
                        .truncated = call->wanted_flags};
    sr_status code = sri_encoder_encode(router->encoder, &job, error);
    timings->encode_ns += sri_nanoseconds() - begun;
    timings->batch_texts = SRI_MAX(timings->batch_texts, job.n);
    timings->batch_tokens = SRI_MAX(timings->batch_tokens, job.computed);
    return code;
}

/* ---- The slow path ------------------------------------------------------------------------------------------ */

/* Texts of calls with the same options, their vectors side by side. */
typedef struct slow_run {
    decide_round *round;
    decide_call **owners; /* of each text */
    size_t *places;
    sr_str *texts;
    float *vectors;
    size_t count, dimension;
} slow_run;

/* Judges what has gathered. */
static bool flush(slow_run *run) {
    if (run->count == 0) return true;
    judging job = make_judging(run->round, run->owners[0]);
    job.count = run->count;
    job.texts = run->texts;
    job.vectors = run->vectors;
    uint64_t begun = sri_nanoseconds();
    bool enough = sri_judge_slow(&job);
    for (size_t i = 0; i < run->count && enough; i++)
        enough = copy_answer(run->owners[i], run->places[i], &job.answers[i],
                             job.shown + i * job.candidates, SR_PATH_SLOW);
    /* The time of all threads is known in parts; the clock's is split as they are. */
    uint64_t spent = sri_nanoseconds() - begun, search = job.search_ns, all = job.task_ns;
    search = all == 0 ? 0 : (uint64_t)((double)spent * (double)search / (double)all);
    const decide_call *last = NULL;
    for (size_t i = 0; i < run->count; i++) {
        sr_timings *timings = &run->owners[i]->result->timings;
        if (run->owners[i] == last) continue;
        last = run->owners[i];
        timings->search_ns += search;
        timings->decide_ns += spent - search;
    }
    run->count = 0;
    return enough;
}

static bool gather(slow_run *run, decide_call *call) {
    size_t dimension = run->dimension;
    bool enough = true;
    for (size_t i = 0; i < call->count && enough; i++) {
        if (call->settled[i]) continue;
        memcpy(run->vectors + run->count * dimension, call->vectors + call->rows[i] * dimension,
               dimension * sizeof *run->vectors);
        run->owners[run->count] = call;
        run->texts[run->count] = call->texts[i];
        run->places[run->count++] = i;
        if (run->count == SOME) enough = flush(run);
    }
    return enough;
}

static size_t open_texts(const decide_call *call) {
    size_t count = 0;
    for (size_t i = 0; i < call->count; i++) count += !call->settled[i];
    return count;
}

static bool judged_alike(const decide_call *a, const decide_call *b) {
    return a->candidates == b->candidates && a->no_reject == b->no_reject && a->path == b->path;
}

static bool slow_calls(decide_round *round, decide_call *const *calls, size_t n, size_t texts) {
    size_t dimension = (size_t)sr_encoder_dimension(round->router->encoder);
    size_t some = SRI_MIN(SOME, texts);
    slow_run run = {.round = round, .dimension = dimension};
    run.owners = sri_alloc_array(some, sizeof *run.owners);
    run.places = sri_alloc_array(some, sizeof *run.places);
    run.texts = sri_alloc_array(some, sizeof *run.texts);
    run.vectors = sri_alloc_array(some * dimension, sizeof *run.vectors);
    bool enough = run.owners != NULL && run.places != NULL && run.texts != NULL &&
                  run.vectors != NULL && make_answers(round, some, calls[0]->candidates);
    for (size_t i = 0; i < n && enough; i++) enough = gather(&run, calls[i]);
    enough = enough && flush(&run);
    free_answers(round);
    sri_free(run.owners);
    sri_free(run.places);
    sri_free(run.texts);
    sri_free(run.vectors);
    return enough;
}

/* Answers calls that have all vectors, those with the same options together. Reorders `calls`. */
static void answer_slow(decide_round *round, decide_call **calls, size_t n) {
    for (size_t first = 0, end; first < n; first = end) {
        size_t texts = open_texts(calls[first]);
        end = first + 1;
        for (size_t i = end; i < n; i++) {
            if (!judged_alike(calls[i], calls[first])) continue;
            decide_call *moved = calls[i];
            calls[i] = calls[end];
            calls[end++] = moved;
            texts += open_texts(moved);
        }
        bool enough = slow_calls(round, calls + first, end - first, texts);
        for (size_t i = first; i < end; i++) {
            if (enough)
                memset(calls[i]->settled, 1, calls[i]->count);
            else
                calls[i]->code = SR_ERR_NO_MEMORY;
        }
    }
}

/* ---- A round ------------------------------------------------------------------------------------------------ */

/* All up to the slow path; true when that is what is left to do. */
static bool prepare(decide_round *round, decide_call *call) {
    uint64_t begun = sri_nanoseconds();
    call->wanted_count = 0;
    if (call->answered) return false;
    if (round->view->utterances == 0) {
        answer_empty(call, round->view);
        call->code = SR_OK;
        return false;
    }
    call->code = look(round, call);
    call->rounds++;
    size_t dimension = (size_t)sr_encoder_dimension(round->router->encoder);
    if (call->code == SR_OK) call->code = want(call, dimension);
    call->result->timings.fast_ns += sri_nanoseconds() - begun;
    return call->code == SR_OK && call->wanted_count == 0 && open_texts(call) > 0;
}

#define CALLS_ON_STACK 64

void sri_calls_round(sr_router *router, decide_call *const *calls, size_t n, bool here) {
    decide_call *few[CALLS_ON_STACK], **ready = few;
    if (n > CALLS_ON_STACK) ready = sri_alloc_array(n, sizeof *ready);
    size_t count = 0;
    pinned_view pinned = sri_view_pin(router);
    decide_round round = {.router = router, .view = pinned.view, .here = here};
    for (size_t i = 0; i < n; i++) {
        if (ready == NULL)
            calls[i]->code = SR_ERR_NO_MEMORY;
        else if (prepare(&round, calls[i]))
            ready[count++] = calls[i];
    }
    answer_slow(&round, ready, count);
    sri_view_unpin(pinned);
    if (ready != few) sri_free(ready);
}

sr_status sri_call_failure(const decide_call *call, const sr_router *router, sr_error *error) {
    if (call->code == SR_OK) return SR_OK;
    if (call->code == SR_ERR_NO_MEMORY) return sri_fail_memory(error);
    return sri_fail(error, call->code, "path",
                    "the table %s has no fast path; make it with `synaptoroute fit`, or use slow "
                    "or auto",
                    router->database);
}
