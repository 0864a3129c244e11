/*
 * server_metrics.h - what the server counts, and how it is told: to Prometheus, to OpenTelemetry, to the console.
 *
 * Counting takes no lock and allocates nothing (server_metrics.c). Reading walks all families once (metrics_visit.c) and
 * hands each sample to a visitor, of which there is one for each format, so that all formats tell the same.
 */
#ifndef SRV_SERVER_METRICS_H
#define SRV_SERVER_METRICS_H

#include "base/base.h"

typedef struct srv_metrics srv_metrics;

/* Latencies: upper bounds of the buckets, in ns; 10 microseconds to 10 seconds. */
#define SRV_LATENCY_BOUNDS 19
extern const uint64_t srv_latency_bounds[SRV_LATENCY_BOUNDS];
#define SRV_BATCH_BOUNDS 11 /* 1 to 1024 texts */

typedef struct srv_metrics_options {
    const char *const *endpoints; /* names, each of which lives as long as the metrics */
    size_t endpoint_count;        /* at most SRV_MAX_ENDPOINTS */
    size_t
        max_routes; /* routes with a counter of their own; the others share one, "(other)". At most 10,000 */
} srv_metrics_options;

#define SRV_MAX_ENDPOINTS 64
#define SRV_NO_ENDPOINT   SIZE_MAX /* of requests for what does not exist */

SR_MUST_CHECK sr_status srv_metrics_open(const srv_metrics_options *options, srv_metrics **metrics,
                                         sr_error *error);
void srv_metrics_close(srv_metrics **metrics);

/* ---- Counting, from any thread -------------------------------------------------------------------- */

/* The first routes of the table, in its order, get counters of their own; those that come later get what is left, in the
 * order in which they are first decided for. So servers of one table agree on which routes are told apart. */
SR_MUST_CHECK sr_status srv_metrics_name_routes(srv_metrics *metrics, sr_router *router,
                                                sr_error *error);

typedef struct srv_request_counts {
    size_t endpoint; /* number in the options' list */
    int status;
    uint64_t duration_ns;
    uint64_t received_bytes, sent_bytes; /* of the bodies */
} srv_request_counts;

void srv_count_request(srv_metrics *metrics, const srv_request_counts *request);
/* All decisions of one submission, and where their time went. */
void srv_count_decisions(srv_metrics *metrics, const sr_decisions *decisions);
void srv_count_vectors(srv_metrics *metrics, const sr_vectors *vectors);

/* ---- Reading ------------------------------------------------------------------------------------- */

/* What is not counted but looked up when it is asked for. */
typedef struct srv_gauges {
    sr_router *router; /* NULL until it is ready; counters of its queue are told too */
    bool ready;
    uint64_t connections, active_requests;
    double started;       /* Unix time */
    uint64_t log_dropped; /* lines */
    uint64_t traces_exported, traces_dropped, exports_failed;
} srv_gauges;

typedef enum srv_kind { SRV_COUNTER, SRV_GAUGE, SRV_HISTOGRAM } srv_kind;

typedef struct srv_family {
    const char *name; /* as Prometheus wants it: with unit, and _total for counters */
    srv_kind kind;
    const char *unit; /* of UCUM, for OpenTelemetry: "s", "By", "1", "{request}" */
    const char *help;
} srv_family;

typedef struct srv_label {
    const char *name;
    sr_str value;
} srv_label;

/* A histogram's counts are of single buckets, one more than bounds. */
typedef struct srv_sample {
    srv_label labels[3];
    size_t label_count;
    double value; /* unless a histogram */
    const double *bounds;
    const uint64_t *counts;
    size_t bound_count;
    uint64_t count;
    double sum;
} srv_sample;

/* A family is followed by its samples, and only by those. False stops the walk. */
typedef struct srv_visitor {
    bool (*family)(void *user, const srv_family *family);
    bool (*sample)(void *user, const srv_family *family, const srv_sample *sample);
    void *user;
} srv_visitor;

/* False when a visitor stopped it. */
bool srv_metrics_visit(const srv_metrics *metrics, const srv_gauges *gauges,
                       const srv_visitor *visitor);

#define SRV_PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"
/* Appends the text format of Prometheus. False when memory is short. */
bool srv_metrics_append(const srv_metrics *metrics, const srv_gauges *gauges, sri_buffer *out);
/* Appends one JSON object for live charts: totals since the start. `endpoint` is the one whose latencies it
 * holds. False when memory is short. */
bool srv_stats_append(const srv_metrics *metrics, const srv_gauges *gauges, size_t endpoint,
                      sri_buffer *out);

#endif
