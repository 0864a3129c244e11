/*
 * api_route.c - POST /v1/route: texts to decisions, by the library's queue.
 *
 * A short request is decided by its fast path here and now, on the thread of the connection; what the fast path does not
 * answer waits in the queue, and the connection is suspended meanwhile. A long list never runs on this thread.
 */
#include "api.h"

#include <string.h>

#include "io/answer_json.h"
#include "observe.h"

#define TEXTS_HERE                                                                                 \
    256 /* a list up to this long may use the thread of the connection: some milliseconds */

typedef struct route_job {
    srv_request *request;
    sr_router *router;
    _Atomic sr_ticket ticket;
    bool list, timings;
} route_job;

static bool append_timings(sri_buffer *out, const sr_timings *t) {
    typedef unsigned long long number;
    return sri_buffer_format(
        out,
        ",\"timings_ns\":{\"queue\":%llu,\"fast\":%llu,\"encode\":%llu,\"search\":%llu,"
        "\"decide\":%llu,\"total\":%llu},\"batch\":{\"texts\":%llu,\"tokens\":%llu}}",
        (number)t->queue_ns, (number)t->fast_ns, (number)t->encode_ns, (number)t->search_ns,
        (number)t->decide_ns, (number)t->total_ns, (number)t->batch_texts, (number)t->batch_tokens);
}

static bool append_answer(const route_job *job, sri_buffer *out, const sr_decisions *decisions) {
    size_t count = sr_decisions_count(decisions);
    bool done = !job->list || sri_buffer_append_str(out, "{\"decisions\":[");
    for (size_t i = 0; done && i < count; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) &&
               sri_append_decision_json(out, sr_decisions_get(decisions, i));
    done = done && (!job->list || sri_buffer_append_str(out, "]}"));
    if (!done || !job->timings) return done;
    out->len--; /* its bracket */
    return append_timings(out, sr_decisions_timings(decisions));
}

static void overloaded(srv_request *request, sr_router *router) {
    srv_busy(request, (double)sr_queue_wait(router, request->key) / 1e9,
             "more texts wait than can be decided in time");
}

/* On a thread of the queue, or of the connection. */
static void on_done(void *user, const sr_completion *completion) {
    route_job *job = user;
    srv_request *request = job->request;
    sr_decisions *decisions = completion->decisions;
    sri_buffer body = {0};
    if (completion->status == SR_ERR_OVERLOADED)
        overloaded(request, job->router);
    else if (srv_is_late(request) &&
             (completion->status == SR_OK || completion->status == SR_ERR_CANCELLED))
        srv_problem(request, 504, "timeout", "the texts were not decided in time");
    else if (completion->status != SR_OK)
        srv_fail(request, completion->error);
    else {
        srv_observe_decisions(request, decisions);
        srv_reply_json(request, 200, append_answer(job, &body, decisions), &body);
    }
    sr_decisions_free(&decisions);
}

static void on_gone(void *user, srv_gone why) {
    (void)why;
    route_job *job = user;
    sr_ticket ticket = atomic_load(&job->ticket);
    sr_error error;
    /* Answered already, or being answered: then there is nothing to cancel. */
    if (ticket != 0 && sr_cancel(job->router, ticket, &error) != SR_OK) return;
}

static bool parse_path(srv_request *request, const json_t *object, sr_path *path) {
    static const char *const names[] = {"auto", "fast", "slow"};
    sr_str name = {"auto", 4};
    if (!srv_take_string(request, object, "path", &name)) return false;
    for (size_t i = 0; i < SRI_COUNT(names); i++) {
        if (!sri_str_equal(name, sr_str_of(names[i]))) continue;
        *path = (sr_path)i;
        return true;
    }
    srv_problem(request, 400, "member", "path must be auto, fast or slow");
    return false;
}

typedef struct route_body {
    sr_str *texts;
    size_t count;
    sr_decide_options decide;
    long timeout_ms;
    bool list, timings;
} route_body;

static bool take_texts(srv_request *request, const json_t *object, route_body *body) {
    size_t most = (size_t)srv_settings_of(request->server)->config.max_texts;
    const json_t *text = json_object_get(object, "text"), *texts = json_object_get(object, "texts");
    if ((text == NULL) == (texts == NULL)) {
        srv_problem(request, 400, "member", "give text, a string, or texts, a list of strings");
        return false;
    }
    body->list = texts != NULL;
    if (body->list)
        return srv_take_strings(request, object, "texts", most, &body->texts, &body->count);
    body->texts = srv_alloc(request, sizeof *body->texts);
    body->count = 1;
    if (body->texts == NULL) {
        srv_fail_memory(request);
        return false;
    }
    if (json_is_null(text)) {
        srv_problem(request, 400, "member", "text must be a string");
        return false;
    }
    return srv_take_string(request, object, "text", body->texts);
}

static bool take_body(srv_request *request, const json_t *object, route_body *body) {
    static const char *const known[] = {"text",  "texts",      "top_k",   "path", "reject",
                                        "as_is", "timeout_ms", "timings", NULL};
    long top_k = 3;
    bool reject = true, as_is = false;
    *body = (route_body){.decide = {.size = sizeof body->decide}};
    if (!srv_check_members(request, object, known) || !take_texts(request, object, body) ||
        !srv_take_integer(request, object, "top_k", 0, 1000, &top_k) ||
        !srv_take_integer(request, object, "timeout_ms", 1, 86400000, &body->timeout_ms) ||
        !srv_take_bool(request, object, "reject", &reject) ||
        !srv_take_bool(request, object, "as_is", &as_is) ||
        !srv_take_bool(request, object, "timings", &body->timings) ||
        !parse_path(request, object, &body->decide.path))
        return false;
    body->decide.top_k = top_k == 0 ? -1 : (int)top_k;
    body->decide.no_reject = !reject;
    body->decide.as_is = as_is;
    return true;
}

static void submit(srv_request *request, const route_body *body) {
    route_job *job = srv_alloc(request, sizeof *job);
    if (job == NULL) {
        srv_fail_memory(request);
        return;
    }
    job->request = request;
    job->router = srv_router(request);
    job->list = body->list;
    job->timings = body->timings;
    sr_submit_options options = {.size = sizeof options,
                                 .decide = &body->decide,
                                 .key = request->key,
                                 .deadline_ns = request->deadline_ns,
                                 .flags = body->count > TEXTS_HERE ? SR_SUBMIT_AWAY : 0};
    sr_ticket ticket = 0;
    sr_error error;
    srv_later(request);
    sr_status code = body->list ? sr_submit_list(job->router, body->texts, body->count, &options,
                                                 on_done, job, &ticket, &error)
                                : sr_submit(job->router, body->texts[0], &options, on_done, job,
                                            &ticket, &error);
    if (code == SR_ERR_OVERLOADED) {
        overloaded(request, job->router);
    } else if (code != SR_OK) {
        srv_fail(request, &error);
    } else if (ticket != 0) {
        /* The request's memory lasts until this handler has returned, answered or not. */
        atomic_store(&job->ticket, ticket);
        srv_on_gone(request, on_gone, job);
    }
}

void srv_post_route(srv_request *request) {
    route_body body;
    json_t *object = srv_parse_object(request);
    if (object == NULL) return;
    if (take_body(request, object, &body)) {
        if (body.timeout_ms > 0)
            request->deadline_ns = request->came_ns + (uint64_t)body.timeout_ms * 1000000;
        if (body.list && body.count == 0) {
            sri_buffer empty = {0};
            srv_reply_json(request, 200, sri_buffer_append_str(&empty, "{\"decisions\":[]}"),
                           &empty);
        } else {
            submit(request, &body);
        }
    }
    json_decref(object);
}
