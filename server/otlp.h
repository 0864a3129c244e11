/*
 * otlp.h - hands traces and metrics to an OpenTelemetry collector, by OTLP over HTTP with binary bodies.
 *
 * Requests only append what they have to a bounded buffer; one thread sends. When the collector is slow or away, that
 * thread tries again with growing pauses, the buffer fills, and what comes then is dropped and counted: the server
 * itself never waits for it.
 */
#ifndef SRV_OTLP_H
#define SRV_OTLP_H

#include "server_metrics.h"
#include "trace.h"

typedef struct srv_otlp srv_otlp;

typedef struct srv_otlp_options {
    const char *endpoint;   /* http://HOST:PORT; /v1/traces and /v1/metrics are appended */
    const char *headers;    /* "name=value,name=value" for each request, or NULL */
    const char *service;    /* service.name */
    double metrics_seconds; /* between two exports of metrics; 0: none */
    double trace_seconds;   /* that a trace may wait for others; 0: 1 */
    size_t max_bytes;       /* of traces that wait; 0: 4 MiB */
    /* Walks the metrics; false when they cannot be had. Called on the exporter's thread. */
    bool (*visit)(void *user, const srv_visitor *visitor);
    void *user;
} srv_otlp_options;

typedef struct srv_otlp_counts {
    uint64_t exported, dropped; /* traces */
    uint64_t failures;          /* requests to the collector */
} srv_otlp_counts;

/* Options are copied, but for `user`. SR_ERR_UNSUPPORTED where there is no libcurl. */
SR_MUST_CHECK sr_status srv_otlp_open(const srv_otlp_options *options, srv_otlp **otlp,
                                      sr_error *error);
/* Sends what waits, once, for at most two seconds. */
void srv_otlp_close(srv_otlp **otlp);

/* Takes a trace, or drops it; never waits. From any thread. */
void srv_otlp_trace(srv_otlp *otlp, const srv_trace *trace, const srv_trace_request *request);
void srv_otlp_count(srv_otlp *otlp, srv_otlp_counts *counts);

/* Appends an ExportMetricsServiceRequest's field `metrics` of ScopeMetrics for all that `visit` tells (otlp_metrics.c).
 * Unix times in ns. */
bool srv_otlp_append_metrics(const srv_otlp_options *options, uint64_t started, uint64_t now,
                             sri_buffer *out);

#endif
