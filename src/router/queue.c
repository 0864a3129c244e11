/* queue.c - decisions by callback: for now, each on the thread that submits it. */
#include <string.h>

#include "router/router_int.h"

static sr_status answer(sr_router *router, const sr_str *texts, size_t n,
                        const sr_submit_options *options, sr_done_fn *done, void *user,
                        sr_error *error) {
    sr_completion completion = {.status = SR_OK};
    sr_status code =
        (options->flags & SR_SUBMIT_VECTORS) != 0
            ? sr_router_encode(router, texts, n, &completion.vectors, error)
            : sr_decide(router, texts, n, options->decide, &completion.decisions, error);
    if (code == SR_OK) done(user, &completion);
    return code;
}

sr_status sr_submit_list(sr_router *router, const sr_str *texts, size_t n,
                         const sr_submit_options *given, sr_done_fn *done, void *user,
                         sr_ticket *ticket, sr_error *error) {
    sr_submit_options options;
    if (ticket != NULL) *ticket = 0;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_submit_options", error);
    if (code != SR_OK) return code;
    if (options.deadline_ns != 0 && sri_nanoseconds() >= options.deadline_ns)
        return sri_fail(error, SR_ERR_TIMEOUT, "deadline", "the deadline had passed");
    return answer(router, texts, n, &options, done, user, error);
}

sr_status sr_submit(sr_router *router, sr_str text, const sr_submit_options *options,
                    sr_done_fn *done, void *user, sr_ticket *ticket, sr_error *error) {
    return sr_submit_list(router, &text, 1, options, done, user, ticket, error);
}

sr_status sr_queue_set(sr_router *router, const sr_queue_options *given, sr_error *error) {
    (void)router;
    sr_queue_options options;
    return sri_take_options(&options, sizeof options, given, "sr_queue_options", error);
}

sr_status sr_cancel(sr_router *router, sr_ticket ticket, sr_error *error) {
    (void)router;
    return sri_fail(error, SR_ERR_NOT_FOUND, "ticket", "submission %llu is answered",
                    (unsigned long long)ticket);
}

sr_status sr_queue_drain(sr_router *router, uint64_t deadline_ns, sr_error *error) {
    (void)router, (void)deadline_ns, (void)error;
    return SR_OK;
}

uint64_t sr_queue_wait(sr_router *router, uint64_t key) {
    (void)router, (void)key;
    return 0;
}

sr_status sr_queue_stats(sr_router *router, sr_queue_counts *counts, sr_error *error) {
    (void)router;
    if (counts == NULL || counts->size < sizeof counts->size)
        return sri_fail(error, SR_ERR_INVALID, "sr_queue_counts",
                        "set size to sizeof(sr_queue_counts) before the call");
    size_t size = counts->size;
    memset(counts, 0, size);
    counts->size = size;
    return SR_OK;
}
