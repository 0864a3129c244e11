/*
 * otlp.c - see otlp.h.
 *
 * The buffer holds spans as they go over the wire. The sender takes all of it at once, puts the frame around (who sends,
 * in what scope), and posts. What was taken is tried again until it is RETRY_SECONDS old, where the specification says
 * that it may be (429, 502, 503, 504, or no answer), after pauses that grow and are not the same for all servers.
 */
#include "otlp.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/post.h"
#include "otlp_encode.h"

#define MAX_HEADERS   16
#define RETRY_SECONDS 120.0
#define FIRST_PAUSE   1.0
#define LONGEST_PAUSE 30.0
#define SEND_SECONDS  10.0
#define CLOSE_SECONDS 2.0

struct srv_otlp {
    srv_otlp_options options;
    char *traces_url, *metrics_url, *service;
    char *headers[MAX_HEADERS];
    size_t header_count;
    char instance[17];
    sri_post *post;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    sri_buffer pending; /* spans */
    uint64_t pending_traces;
    bool stopping;
    /* The sender's own. */
    uint64_t started; /* Unix time, ns */
    bool silent;      /* the last request failed, and that was said */
    _Atomic uint64_t exported, dropped, failures;
};

/* ---- Opening ---------------------------------------------------------------------------------------- */

static uint64_t unix_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static char *join(const char *endpoint, const char *path) {
    size_t len = strlen(endpoint);
    while (len > 0 && endpoint[len - 1] == '/') len--;
    sri_buffer url = {0};
    if (!sri_buffer_append(&url, endpoint, len) || !sri_buffer_append_str(&url, path) ||
        !sri_buffer_append(&url, "", 1))
        sri_buffer_free(&url);
    return url.data;
}

static char *header_line(const char *name, size_t name_len, const char *value, size_t value_len) {
    sri_buffer line = {0};
    if (!sri_buffer_append(&line, name, name_len) || !sri_buffer_append_str(&line, ": ") ||
        !sri_buffer_append(&line, value, value_len) || !sri_buffer_append(&line, "", 1))
        sri_buffer_free(&line);
    return line.data;
}

static sr_status add_header(srv_otlp *otlp, char *line, sr_error *error) {
    if (line == NULL) return sri_fail_memory(error);
    otlp->headers[otlp->header_count++] = line;
    return SR_OK;
}

static sr_status take_headers(srv_otlp *otlp, const char *list, sr_error *error) {
    sr_status code =
        add_header(otlp, header_line("Content-Type", 12, "application/x-protobuf", 22), error);
    for (const char *at = list; code == SR_OK && at != NULL && *at != '\0';) {
        size_t len = strcspn(at, ","), name = strcspn(at, "=");
        if (name == 0 || name >= len || otlp->header_count == MAX_HEADERS)
            return sri_fail(error, SR_ERR_INVALID, "otlp_headers",
                            "otlp_headers: give name=value, with commas between, at most %d",
                            MAX_HEADERS - 1);
        code = add_header(otlp, header_line(at, name, at + name + 1, len - name - 1), error);
        at += len + (at[len] == ',');
    }
    return code;
}

static void *run(void *user);

static sr_status start(srv_otlp *otlp, sr_error *error) {
    const srv_otlp_options *options = &otlp->options;
    otlp->traces_url = join(options->endpoint, "/v1/traces");
    otlp->metrics_url = join(options->endpoint, "/v1/metrics");
    otlp->service = sri_strdup(sr_str_of(options->service));
    if (otlp->traces_url == NULL || otlp->metrics_url == NULL || otlp->service == NULL)
        return sri_fail_memory(error);
    if (strncmp(options->endpoint, "http://", 7) != 0 &&
        strncmp(options->endpoint, "https://", 8) != 0)
        return sri_fail(error, SR_ERR_INVALID, "otlp_endpoint",
                        "otlp_endpoint is %s; give the collector's address, such as "
                        "http://127.0.0.1:4318",
                        options->endpoint);
    sr_status code = take_headers(otlp, options->headers, error);
    if (code == SR_OK) code = sri_post_open("exporting to OpenTelemetry", &otlp->post, error);
    if (code != SR_OK) return code;
    otlp->running = pthread_create(&otlp->thread, NULL, run, otlp) == 0;
    return otlp->running ? SR_OK : sri_fail(error, SR_ERR_LIMIT, NULL, "cannot start a thread");
}

sr_status srv_otlp_open(const srv_otlp_options *options, srv_otlp **opened, sr_error *error) {
    srv_otlp *otlp = sri_alloc_zero(1, sizeof *otlp);
    *opened = NULL;
    if (otlp == NULL) return sri_fail_memory(error);
    otlp->options = *options;
    if (otlp->options.max_bytes == 0) otlp->options.max_bytes = (size_t)4 << 20;
    if (otlp->options.trace_seconds <= 0) otlp->options.trace_seconds = 1;
    otlp->pending.max = otlp->options.max_bytes;
    otlp->started = unix_ns();
    snprintf(otlp->instance, sizeof otlp->instance, "%016llx",
             (unsigned long long)sri_random_seed());
    pthread_mutex_init(&otlp->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#if defined(__linux__)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&otlp->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    sr_status code = start(otlp, error);
    if (code != SR_OK) srv_otlp_close(&otlp);
    *opened = otlp;
    return code;
}

void srv_otlp_close(srv_otlp **closed) {
    srv_otlp *otlp = *closed;
    if (otlp == NULL) return;
    pthread_mutex_lock(&otlp->lock);
    otlp->stopping = true;
    pthread_cond_broadcast(&otlp->changed);
    pthread_mutex_unlock(&otlp->lock);
    if (otlp->running) pthread_join(otlp->thread, NULL);
    sri_post_close(&otlp->post);
    for (size_t i = 0; i < otlp->header_count; i++) sri_free(otlp->headers[i]);
    sri_free(otlp->traces_url);
    sri_free(otlp->metrics_url);
    sri_free(otlp->service);
    sri_buffer_free(&otlp->pending);
    pthread_cond_destroy(&otlp->changed);
    pthread_mutex_destroy(&otlp->lock);
    sri_free(otlp);
    *closed = NULL;
}

/* ---- Taking ------------------------------------------------------------------------------------------ */

void srv_otlp_trace(srv_otlp *otlp, const srv_trace *trace, const srv_trace_request *request) {
    pthread_mutex_lock(&otlp->lock);
    bool taken = !otlp->stopping && srv_trace_append(trace, request, &otlp->pending);
    otlp->pending_traces += taken;
    /* Early, when half of the room is used. */
    if (taken && otlp->pending.len > otlp->options.max_bytes / 2)
        pthread_cond_signal(&otlp->changed);
    pthread_mutex_unlock(&otlp->lock);
    if (!taken) atomic_fetch_add(&otlp->dropped, 1);
}

void srv_otlp_count(srv_otlp *otlp, srv_otlp_counts *counts) {
    *counts = (srv_otlp_counts){.exported = atomic_load(&otlp->exported),
                                .dropped = atomic_load(&otlp->dropped),
                                .failures = atomic_load(&otlp->failures)};
}

/* ---- Sending ----------------------------------------------------------------------------------------- */

/* Waits on the lock, which the caller holds, until then or a signal. */
static void wait_until(srv_otlp *otlp, double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
#if !defined(__linux__)
    /* The condition's clock is the time of day there. */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double left = SRI_MAX(seconds - sri_seconds(), 0);
    time = (struct timespec){.tv_sec = now.tv_sec + (time_t)left + 1};
#endif
    pthread_cond_timedwait(&otlp->changed, &otlp->lock, &time);
}

static bool is_stopping(srv_otlp *otlp) {
    pthread_mutex_lock(&otlp->lock);
    bool stopping = otlp->stopping;
    pthread_mutex_unlock(&otlp->lock);
    return stopping;
}

/* Says once that it fails, and once that it works again. */
static void tell(srv_otlp *otlp, const char *problem) {
    if (problem != NULL && !otlp->silent)
        sri_log(SR_LOG_WARN, "OpenTelemetry: %s; what cannot be sent is dropped and counted",
                problem);
    if (problem == NULL && otlp->silent)
        sri_log(SR_LOG_INFO, "OpenTelemetry: the collector answers again");
    otlp->silent = problem != NULL;
}

typedef enum outcome { SENT, REFUSED, LATER } outcome;

static outcome send_once(srv_otlp *otlp, const char *url, const sri_buffer *body, double seconds,
                         double *retry_after) {
    sri_post_request request = {.url = url,
                                .headers = (const char *const *)otlp->headers,
                                .header_count = otlp->header_count,
                                .body = body->data,
                                .body_len = body->len,
                                .timeout_seconds = seconds};
    sri_post_answer answer = {0};
    sr_error error;
    char problem[640];
    *retry_after = 0;
    sr_status code = sri_post_send(otlp->post, &request, &answer, &error);
    if (code == SR_OK && answer.status >= 200 && answer.status < 300) {
        tell(otlp, NULL);
        return SENT;
    }
    atomic_fetch_add(&otlp->failures, 1);
    snprintf(problem, sizeof problem, "%s answers with status %d", url, answer.status);
    tell(otlp, code == SR_OK ? problem : error.message);
    *retry_after = answer.retry_after;
    bool passes =
        code != SR_OK || answer.status == 429 || (answer.status >= 502 && answer.status <= 504);
    return passes ? LATER : REFUSED;
}

/* Sends with pauses, until it has succeeded, cannot, or is too old. */
static bool send_all(srv_otlp *otlp, const char *url, const sri_buffer *body) {
    double end = sri_seconds() + RETRY_SECONDS, pause = FIRST_PAUSE, asked;
    for (;;) {
        bool last = is_stopping(otlp);
        outcome result = send_once(otlp, url, body, last ? CLOSE_SECONDS : SEND_SECONDS, &asked);
        if (result != LATER || last || sri_seconds() > end) return result == SENT;
        double jitter = 0.5 + (double)(sri_random_seed() % 1024) / 1024;
        double until = sri_seconds() + SRI_MAX(pause * jitter, SRI_MIN(asked, LONGEST_PAUSE));
        pause = SRI_MIN(2 * pause, LONGEST_PAUSE);
        pthread_mutex_lock(&otlp->lock);
        while (!otlp->stopping && sri_seconds() < until) wait_until(otlp, until);
        pthread_mutex_unlock(&otlp->lock);
    }
}

/* ResourceSpans or ResourceMetrics: both have resource = 1, and what a scope tells = 2. */
static bool append_frame(const srv_otlp *otlp, const sri_buffer *inner, sri_buffer *out) {
    srv_proto proto = {.out = out};
    size_t all = srv_proto_begin(&proto, 1);
    size_t resource = srv_proto_begin(&proto, 1);
    srv_proto_text_attribute(&proto, 1, "service.name", sr_str_of(otlp->service));
    srv_proto_text_attribute(&proto, 1, "service.version", sr_str_of(sr_version()));
    srv_proto_text_attribute(&proto, 1, "service.instance.id", sr_str_of(otlp->instance));
    srv_proto_end(&proto, resource);
    size_t scope_data = srv_proto_begin(&proto, 2);
    size_t scope = srv_proto_begin(&proto, 1);
    srv_proto_text(&proto, 1, "synaptoroute");
    srv_proto_text(&proto, 2, sr_version());
    srv_proto_end(&proto, scope);
    if (!proto.failed) proto.failed = !sri_buffer_append(out, inner->data, inner->len);
    srv_proto_end(&proto, scope_data);
    srv_proto_end(&proto, all);
    return !proto.failed;
}

static bool send_framed(srv_otlp *otlp, const char *url, const sri_buffer *inner) {
    sri_buffer body = {0};
    bool sent = append_frame(otlp, inner, &body) && send_all(otlp, url, &body);
    sri_buffer_free(&body);
    return sent;
}

static void send_traces(srv_otlp *otlp) {
    pthread_mutex_lock(&otlp->lock);
    sri_buffer spans = otlp->pending;
    uint64_t count = otlp->pending_traces;
    otlp->pending = (sri_buffer){.max = spans.max};
    otlp->pending_traces = 0;
    pthread_mutex_unlock(&otlp->lock);
    if (count > 0)
        atomic_fetch_add(
            send_framed(otlp, otlp->traces_url, &spans) ? &otlp->exported : &otlp->dropped, count);
    sri_buffer_free(&spans);
}

static void send_metrics(srv_otlp *otlp) {
    sri_buffer metrics = {0};
    if (srv_otlp_append_metrics(&otlp->options, otlp->started, unix_ns(), &metrics) &&
        metrics.len > 0)
        (void)!send_framed(otlp, otlp->metrics_url, &metrics);
    sri_buffer_free(&metrics);
}

static void *run(void *user) {
    srv_otlp *otlp = user;
    const srv_otlp_options *options = &otlp->options;
    double next_metrics = sri_seconds() + options->metrics_seconds;
    for (bool stopping = false; !stopping;) {
        double until = sri_seconds() + options->trace_seconds;
        if (options->metrics_seconds > 0) until = SRI_MIN(until, next_metrics);
        pthread_mutex_lock(&otlp->lock);
        while (!otlp->stopping && otlp->pending.len <= options->max_bytes / 2 &&
               sri_seconds() < until)
            wait_until(otlp, until);
        stopping = otlp->stopping;
        pthread_mutex_unlock(&otlp->lock);
        send_traces(otlp);
        bool due = sri_seconds() >= next_metrics || stopping;
        if (options->metrics_seconds <= 0 || !due) continue;
        send_metrics(otlp);
        next_metrics = sri_seconds() + options->metrics_seconds;
    }
    return NULL;
}
