/*
 * observe.c - metrics of requests and decisions, and the two endpoints that tell them.
 */
#include "observe.h"

#include <string.h>
#include <time.h>

#include "log.h"
#include "metrics.h"

struct srv_observe {
    srv_metrics *metrics;
    double started;
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

sr_status srv_observe_open(srv_server *server, srv_observe **opened, sr_error *error) {
    srv_observe *observe = sri_alloc_zero(1, sizeof *observe);
    if (observe == NULL) return sri_fail_memory(error);
    observe->started = unix_time();
    sr_status code = open_metrics(&srv_settings_of(server)->config, &observe->metrics, error);
    if (code != SR_OK) srv_observe_close(&observe);
    *opened = observe;
    return code;
}

void srv_observe_close(srv_observe **observe) {
    if (*observe == NULL) return;
    srv_metrics_close(&(*observe)->metrics);
    sri_free(*observe);
    *observe = NULL;
}

void srv_observe_ready(srv_server *server) {
    sr_error error;
    if (srv_metrics_name_routes(server->observe->metrics, atomic_load(&server->router), &error) !=
        SR_OK)
        sri_log(SR_LOG_WARN, "counters of routes are given as they come: %s", error.message);
}

/* ---- Requests --------------------------------------------------------------------------------------- */

static size_t endpoint_number(const srv_request *request) {
    size_t count;
    return request->endpoint == NULL ? SRV_NO_ENDPOINT
                                     : (size_t)(request->endpoint - srv_endpoints(&count));
}

void srv_observe_begin(srv_request *request) { (void)request; }

void srv_observe_decisions(srv_request *request, const sr_decisions *decisions) {
    srv_count_decisions(request->server->observe->metrics, decisions);
}

void srv_observe_vectors(srv_request *request, const sr_vectors *vectors) {
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
    if (config->log_texts) srv_line_text(&line, "body", request->body);
    srv_line_end(&line);
}

void srv_observe_end(srv_request *request) {
    srv_request_counts counts = {.endpoint = endpoint_number(request),
                                 .status = request->status == 0 ? 499 : request->status,
                                 .duration_ns = sri_nanoseconds() - request->began_ns,
                                 .received_bytes = request->body.len,
                                 .sent_bytes = request->sent_bytes};
    srv_count_request(request->server->observe->metrics, &counts);
    log_request(request, counts.status, counts.duration_ns);
}

/* ---- Endpoints -------------------------------------------------------------------------------------- */

static srv_gauges gauges_of(srv_server *server) {
    sr_router *router = atomic_load_explicit(&server->router, memory_order_acquire);
    return (srv_gauges){.router = router,
                        .ready = router != NULL && !atomic_load(&server->draining),
                        .connections = srv_http_connections(server->http),
                        .active_requests = srv_http_active(server->http),
                        .log_dropped = srv_log_dropped(),
                        .started = server->observe->started};
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
