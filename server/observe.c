/*
 * observe.c - metrics, traces and log lines of requests and decisions, and the two endpoints that tell metrics.
 */
#include "observe.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "otlp.h"
#include "server_log.h"
#include "server_metrics.h"

struct srv_observe {
    srv_server *server;
    srv_metrics *metrics;
    srv_otlp *otlp; /* NULL: nothing is exported */
    double trace_ratio;
    double started;
    /* Held while metrics are looked up for an export; what they are looked up in goes away when `quiet`. */
    pthread_mutex_t looking;
    bool quiet;
};

static double unix_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- Opening ---------------------------------------------------------------------------------------- */

static sr_status open_metrics(const srv_config *config, srv_metrics **metrics, sr_error *error) {
    const char *names[SRV_MAX_ENDPOINTS];
    size_t count;
    const srv_endpoint *endpoints = srv_endpoints(&count);
    for (size_t i = 0; i < count && i < SRV_MAX_ENDPOINTS; i++) names[i] = endpoints[i].name;
    srv_metrics_options options = {names, count, (size_t)config->metrics_routes};
    return srv_metrics_open(&options, metrics, error);
}

static bool visit_for_export(void *user, const srv_visitor *visitor);

static sr_status open_export(srv_observe *observe, const srv_config *config, sr_error *error) {
    if (config->otlp_endpoint == NULL || config->otlp_endpoint[0] == '\0') return SR_OK;
    srv_otlp_options options = {.endpoint = config->otlp_endpoint,
                                .headers = config->otlp_headers,
                                .service = config->service_name,
                                .metrics_seconds = config->otlp_metrics_seconds,
                                .visit = visit_for_export,
                                .user = observe};
    observe->trace_ratio = config->trace_ratio;
    return srv_otlp_open(&options, &observe->otlp, error);
}

sr_status srv_observe_open(srv_server *server, srv_observe **opened, sr_error *error) {
    const srv_config *config = &srv_settings_of(server)->config;
    srv_observe *observe = sri_alloc_zero(1, sizeof *observe);
    if (observe == NULL) return sri_fail_memory(error);
    observe->server = server;
    observe->started = unix_time();
    observe->quiet = true;
    pthread_mutex_init(&observe->looking, NULL);
    sr_status code = open_metrics(config, &observe->metrics, error);
    if (code == SR_OK) code = open_export(observe, config, error);
    if (code != SR_OK) srv_observe_close(&observe);
    *opened = observe;
    return code;
}

void srv_observe_close(srv_observe **observe) {
    if (*observe == NULL) return;
    srv_otlp_close(&(*observe)->otlp);
    pthread_mutex_destroy(&(*observe)->looking);
    srv_metrics_close(&(*observe)->metrics);
    sri_free(*observe);
    *observe = NULL;
}

static void set_quiet(srv_observe *observe, bool quiet) {
    pthread_mutex_lock(&observe->looking);
    observe->quiet = quiet;
    pthread_mutex_unlock(&observe->looking);
}

void srv_observe_ready(srv_server *server) {
    sr_error error;
    set_quiet(server->observe, false);
    if (srv_metrics_name_routes(server->observe->metrics, atomic_load(&server->router), &error) !=
        SR_OK)
        sri_log(SR_LOG_WARN, "counters of routes are given as they come: %s", error.message);
}

/* ---- Requests --------------------------------------------------------------------------------------- */

void srv_observe_quiet(srv_server *server) {
    if (server->observe != NULL) set_quiet(server->observe, true);
}

static size_t endpoint_number(const srv_request *request) {
    size_t count;
    return request->endpoint == NULL ? SRV_NO_ENDPOINT
                                     : (size_t)(request->endpoint - srv_endpoints(&count));
}

/* Without memory for a trace the request goes on without one. */
void srv_observe_begin(srv_request *request) {
    const srv_observe *observe = request->server->observe;
    if (observe->otlp == NULL) return;
    srv_trace *trace = srv_alloc(request, sizeof *trace);
    if (trace == NULL) return;
    srv_trace_begin(trace, request->traceparent, srv_header(request, "tracestate"),
                    observe->trace_ratio);
    if (trace->sampled) request->trace = trace;
}

static void add_timings(srv_request *request, const sr_timings *timings, size_t texts) {
    if (request->trace != NULL) srv_trace_timings(request->trace, timings, texts);
}

void srv_observe_decisions(srv_request *request, const sr_decisions *decisions) {
    add_timings(request, sr_decisions_timings(decisions), sr_decisions_count(decisions));
    srv_count_decisions(request->server->observe->metrics, decisions);
}

void srv_observe_vectors(srv_request *request, const sr_vectors *vectors) {
    add_timings(request, &vectors->timings, vectors->count);
    srv_count_vectors(request->server->observe->metrics, vectors);
}

/* 503 is left out of the errors: a server that sheds has better to do than to write about it, and counts it. */
static bool is_logged(const srv_config *config, int status) {
    if (strcmp(config->log_requests, "errors") == 0) return status >= 500 && status != 503;
    return strcmp(config->log_requests, "all") == 0;
}

/* Never the query, nor a header: keys may be there. */
static void log_request(const srv_request *request, int status, uint64_t duration_ns) {
    const srv_config *config = &srv_settings_of(request->server)->config;
    if (!is_logged(config, status)) return;
    srv_line line;
    srv_line_begin(&line, status >= 500 ? SR_LOG_WARN : SR_LOG_INFO, "request");
    srv_line_text(&line, "method", sr_str_of(request->method));
    srv_line_text(&line, "path", request->path);
    srv_line_number(&line, "status", status);
    srv_line_number(&line, "ms", (double)duration_ns * 1e-6);
    srv_line_number(&line, "received", (double)request->body.len);
    srv_line_number(&line, "sent", (double)request->sent_bytes);
    if (request->key_name != NULL) srv_line_text(&line, "key", sr_str_of(request->key_name));
    srv_line_number(&line, "id", (double)request->id);
    if (request->trace != NULL) {
        char hex[33];
        srv_trace_hex(request->trace, hex);
        srv_line_text(&line, "trace_id", sr_str_of(hex));
    }
    if (config->log_texts) srv_line_text(&line, "body", request->body);
    srv_line_end(&line);
}

static void export_trace(const srv_request *request, const srv_request_counts *counts) {
    if (request->trace == NULL) return;
    srv_trace_request told = {.method = request->method,
                              .pattern =
                                  request->endpoint == NULL ? NULL : request->endpoint->pattern,
                              .status = counts->status,
                              .began_ns = request->began_ns,
                              .ended_ns = request->began_ns + counts->duration_ns};
    srv_otlp_trace(request->server->observe->otlp, request->trace, &told);
}

void srv_observe_end(srv_request *request) {
    srv_request_counts counts = {.endpoint = endpoint_number(request),
                                 .status = request->status == 0 ? 499 : request->status,
                                 .duration_ns = sri_nanoseconds() - request->began_ns,
                                 .received_bytes = request->body.len,
                                 .sent_bytes = request->sent_bytes};
    srv_count_request(request->server->observe->metrics, &counts);
    log_request(request, counts.status, counts.duration_ns);
    export_trace(request, &counts);
}

/* ---- Endpoints -------------------------------------------------------------------------------------- */

static srv_gauges gauges_of(srv_server *server) {
    sr_router *router = atomic_load_explicit(&server->router, memory_order_acquire);
    srv_otlp_counts exports = {0};
    if (server->observe->otlp != NULL) srv_otlp_count(server->observe->otlp, &exports);
    return (srv_gauges){.router = router,
                        .traces_exported = exports.exported,
                        .traces_dropped = exports.dropped,
                        .exports_failed = exports.failures,
                        .ready = router != NULL && !atomic_load(&server->draining),
                        .connections = srv_http_connections(server->http),
                        .active_requests = srv_http_active(server->http),
                        .log_dropped = srv_log_dropped(),
                        .started = server->observe->started};
}

/* Before the router is there, and once the server stops, there is nothing to tell. */
static bool visit_for_export(void *user, const srv_visitor *visitor) {
    srv_observe *observe = user;
    pthread_mutex_lock(&observe->looking);
    bool done = !observe->quiet;
    if (done) {
        srv_gauges gauges = gauges_of(observe->server);
        done = srv_metrics_visit(observe->metrics, &gauges, visitor);
    }
    pthread_mutex_unlock(&observe->looking);
    return done;
}

static void reply(srv_request *request, const char *type, bool made, sri_buffer *body) {
    if (made) {
        srv_reply(request, 200, type, body);
        return;
    }
    sri_buffer_free(body);
    srv_fail_memory(request);
}

void srv_get_metrics(srv_request *request) {
    srv_gauges gauges = gauges_of(request->server);
    sri_buffer body = {0};
    bool made = srv_metrics_append(request->server->observe->metrics, &gauges, &body);
    reply(request, SRV_PROMETHEUS_TYPE, made, &body);
}

void srv_get_stats(srv_request *request) {
    srv_gauges gauges = gauges_of(request->server);
    size_t count, route = 0;
    const srv_endpoint *endpoints = srv_endpoints(&count);
    while (route < count && strcmp(endpoints[route].name, "route") != 0) route++;
    sri_buffer body = {0};
    bool made = srv_stats_append(request->server->observe->metrics, &gauges, route, &body);
    reply(request, "application/json", made, &body);
}
