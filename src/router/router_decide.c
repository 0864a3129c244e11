/* router_decide.c - the public call that decides, and its result. */
#include "router/decide_call.h"

sr_status sr_decide(sr_router *router, const sr_str *texts, size_t n,
                    const sr_decide_options *options, sr_decisions **handle, sr_error *error) {
    *handle = NULL;
    uint64_t begun = sri_nanoseconds();
    decide_call call, *calls[] = {&call};
    sr_status code = sri_call_begin(&call, router, texts, n, options, error);
    if (code != SR_OK) return code;
    do {
        sri_calls_round(router, calls, 1, false);
        code = sri_call_failure(&call, router, error);
        if (code == SR_OK && call.wanted_count > 0) code = sri_call_encode(&call, router, error);
    } while (code == SR_OK && call.wanted_count > 0);
    sr_decisions *result = sri_call_end(&call);
    if (code == SR_OK) {
        result->timings.total_ns = sri_nanoseconds() - begun;
        *handle = result;
    } else {
        sr_decisions_free(&result);
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
