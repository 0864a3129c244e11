/*
 * run.c - decides labelled texts through the public API and keeps what the figures and the report need.
 *
 * Texts are decided in batches, as a busy caller would; latency is measured apart, one text at a time,
 * on a sample spread evenly over the file. Candidates are kept for wrong answers only.
 */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>

#define BATCH          ((size_t)256)
#define LATENCY_WARMUP 5

static bool label_of(sri_eval *eval, sr_str name, int32_t *label) {
    uint64_t found;
    if (sri_map_get(&eval->label_index, name, &found)) {
        *label = (int32_t)found;
        return true;
    }
    void *labels = eval->labels;
    if (eval->label_count >= INT32_MAX ||
        !sri_grow(&labels, &eval->label_capacity, eval->label_count + 1, sizeof(sr_str)))
        return false;
    eval->labels = labels;
    sr_str copy = sri_arena_copy(&eval->arena, name);
    if (copy.data == NULL || !sri_map_put(&eval->label_index, copy, eval->label_count))
        return false;
    *label = (int32_t)eval->label_count;
    eval->labels[eval->label_count++] = copy;
    return true;
}

static bool keep_failure(sri_eval *eval, size_t index, const sr_decision *decision) {
    void *failures = eval->failures;
    if (!sri_grow(&failures, &eval->failure_capacity, eval->failure_count + 1, sizeof(sri_failure)))
        return false;
    eval->failures = failures;
    size_t bytes;
    if (!sri_size_mul(decision->candidate_count, sizeof(sr_candidate), &bytes)) return false;
    sr_candidate *copies = sri_arena_alloc(&eval->arena, bytes);
    if (copies == NULL) return false;
    for (size_t i = 0; i < decision->candidate_count; i++) {
        copies[i] = decision->candidates[i];
        copies[i].route = sri_arena_copy(&eval->arena, decision->candidates[i].route);
        copies[i].utterance = sri_arena_copy(&eval->arena, decision->candidates[i].utterance);
        if (copies[i].route.data == NULL || copies[i].utterance.data == NULL) return false;
    }
    eval->failures[eval->failure_count++] = (sri_failure){index, copies, decision->candidate_count};
    return true;
}

static bool keep_decision(sri_eval *eval, size_t index, const sr_decision *decision) {
    sri_eval_row *row = &eval->rows[index];
    sr_str expected = eval->cases[index].expected;
    row->predicted = row->best = SRI_EVAL_NONE;
    if (decision->status == SR_MATCHED && !label_of(eval, decision->route, &row->predicted))
        return false;
    if (decision->candidate_count > 0 && !label_of(eval, decision->candidates[0].route, &row->best))
        return false;
    for (size_t i = 0; i < SRI_MIN(decision->candidate_count, 3); i++)
        if (expected.len > 0 && sri_str_equal(decision->candidates[i].route, expected))
            row->in_top3 = true;
    row->reason = decision->reason;
    row->path = decision->path;
    row->score = decision->score;
    row->confidence = decision->confidence;
    row->margin = decision->margin;
    return sri_eval_right(row) || keep_failure(eval, index, decision);
}

static sr_status decide_batch(sr_router *router, sri_eval *eval, size_t start, size_t n,
                              const sr_decide_options *options, sr_error *error) {
    sr_str texts[BATCH];
    for (size_t i = 0; i < n; i++) texts[i] = eval->cases[start + i].text;
    sr_decisions *decisions = NULL;
    double began = sri_seconds();
    sr_status code = sr_decide(router, texts, n, options, &decisions, error);
    eval->seconds += sri_seconds() - began;
    for (size_t i = 0; code == SR_OK && i < n; i++)
        if (!keep_decision(eval, start + i, sr_decisions_get(decisions, i)))
            code = sri_fail_memory(error);
    sr_decisions_free(&decisions);
    return code;
}

static sr_status decide_all(sr_router *router, sri_eval *eval, const sri_eval_options *options,
                            sr_error *error) {
    sr_decide_options decide = options->decide;
    if (decide.top_k < 3) decide.top_k = 3;
    for (size_t start = 0; start < eval->n; start += BATCH) {
        size_t n = SRI_MIN(BATCH, eval->n - start);
        sr_status code = decide_batch(router, eval, start, n, &decide, error);
        if (code != SR_OK) return code;
        if (options->progress != NULL &&
            options->progress(options->progress_user, start + n, eval->n) != 0)
            return sri_fail(error, SR_ERR_CANCELLED, NULL, "stopped before the end");
    }
    eval->queries_per_second = eval->seconds > 0 ? (double)eval->n / eval->seconds : NAN;
    return SR_OK;
}

/* ---- Latency ----------------------------------------------------------------------------------- */

static int ascending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static sr_status decide_one(sr_router *router, sr_str text, const sr_decide_options *options,
                            double *milliseconds, sr_error *error) {
    sr_decisions *decisions = NULL;
    double began = sri_seconds();
    sr_status code = sr_decide(router, &text, 1, options, &decisions, error);
    *milliseconds = (sri_seconds() - began) * 1000;
    sr_decisions_free(&decisions);
    return code;
}

static sr_status measure_latency(sr_router *router, sri_eval *eval, const sri_eval_options *options,
                                 sr_error *error) {
    eval->p50 = eval->p99 = NAN;
    size_t samples = SRI_MIN(options->latency_samples, eval->n);
    if (samples == 0) return SR_OK;
    double *times = sri_alloc_array(samples, sizeof *times);
    if (times == NULL) return sri_fail_memory(error);
    sr_status code = SR_OK;
    for (int i = 0; code == SR_OK && i < LATENCY_WARMUP; i++)
        code = decide_one(router, eval->cases[0].text, &options->decide, &times[0], error);
    for (size_t i = 0; code == SR_OK && i < samples; i++)
        code = decide_one(router, eval->cases[i * eval->n / samples].text, &options->decide,
                          &times[i], error);
    if (code == SR_OK) {
        qsort(times, samples, sizeof *times, ascending);
        eval->p50 = sri_percentile(times, samples, 0.5);
        eval->p99 = sri_percentile(times, samples, 0.99);
    }
    sri_free(times);
    return code;
}

/* ---- All --------------------------------------------------------------------------------------- */

static sr_status prepare(sri_eval *eval, sr_error *error) {
    eval->rows = sri_alloc_zero(eval->n, sizeof(sri_eval_row));
    if (eval->rows == NULL) return sri_fail_memory(error);
    for (size_t i = 0; i < eval->n; i++) {
        eval->rows[i].expected = SRI_EVAL_NONE;
        if (eval->cases[i].expected.len > 0 &&
            !label_of(eval, eval->cases[i].expected, &eval->rows[i].expected))
            return sri_fail_memory(error);
    }
    return SR_OK;
}

sr_status sri_eval_run(sr_router *router, const sri_case *cases, size_t n,
                       const sri_eval_options *options, sri_eval *eval, sr_error *error) {
    *eval = (sri_eval){.cases = cases, .n = n};
    sr_status code = prepare(eval, error);
    if (code == SR_OK) code = decide_all(router, eval, options, error);
    if (code == SR_OK) code = measure_latency(router, eval, options, error);
    if (code == SR_OK)
        code = sri_figures_of(eval->rows, n, eval->label_count, &eval->figures, error);
    if (code != SR_OK) sri_eval_free(eval);
    return code;
}

void sri_eval_free(sri_eval *eval) {
    sri_figures_free(&eval->figures);
    sri_free(eval->rows);
    sri_free(eval->labels);
    sri_free(eval->failures);
    sri_map_free(&eval->label_index);
    sri_arena_free(&eval->arena);
    *eval = (sri_eval){0};
}
