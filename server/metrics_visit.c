/*
 * metrics_visit.c - walks all metrics, adding up the shards.
 *
 * Names follow Prometheus' conventions: base units, _total for counters, process_... as everywhere. A counter that nothing
 * has reached yet is told only where its labels are few and known; endpoints and statuses appear with their first
 * request.
 */
#include "metrics_int.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "process_stats.h"

typedef struct walk {
    const srv_metrics *metrics;
    const srv_gauges *gauges;
    const srv_visitor *visitor;
} walk;

/* ---- Telling --------------------------------------------------------------------------------------- */

static bool begin(const walk *w, const srv_family *family) {
    return w->visitor->family(w->visitor->user, family);
}

static bool tell(const walk *w, const srv_family *family, const srv_sample *sample) {
    return w->visitor->sample(w->visitor->user, family, sample);
}

static srv_label label_of(const char *name, const char *value) {
    return (srv_label){name, sr_str_of(value)};
}

static bool tell_one(const walk *w, const srv_family *family, double value) {
    return begin(w, family) && tell(w, family, &(srv_sample){.value = value});
}

/* The sum over the shards of the cell `offset` bytes into each. */
static uint64_t sum_at(const walk *w, size_t offset) {
    uint64_t sum = 0;
    for (size_t i = 0; i < SRV_SHARDS; i++) {
        srv_cell *cell = (srv_cell *)(void *)((char *)w->metrics->shards[i] + offset);
        sum += atomic_load_explicit(cell, memory_order_relaxed);
    }
    return sum;
}

#define SUM(w, member) sum_at(w, offsetof(srv_shard, member))

static bool tell_latency(const walk *w, const srv_family *family, size_t offset, srv_label label) {
    double bounds[SRV_LATENCY_BOUNDS];
    uint64_t counts[SRV_LATENCY_BOUNDS + 1];
    srv_sample sample = {.labels = {label},
                         .label_count = label.name == NULL ? 0 : 1,
                         .bounds = bounds,
                         .counts = counts,
                         .bound_count = SRV_LATENCY_BOUNDS};
    for (size_t i = 0; i <= SRV_LATENCY_BOUNDS; i++) {
        counts[i] = sum_at(w, offset + offsetof(srv_latency, counts) + i * sizeof(srv_cell));
        sample.count += counts[i];
        if (i < SRV_LATENCY_BOUNDS) bounds[i] = (double)srv_latency_bounds[i] * 1e-9;
    }
    sample.sum = 1e-9 * (double)sum_at(w, offset + offsetof(srv_latency, sum_ns));
    return tell(w, family, &sample);
}

/* ---- Requests ---------------------------------------------------------------------------------------- */

static const char *endpoint_name(const walk *w, size_t i) {
    return i < w->metrics->options.endpoint_count ? w->metrics->options.endpoints[i] : "none";
}

static uint64_t request_count(const walk *w, size_t endpoint, size_t status) {
    return sum_at(w, offsetof(srv_shard, requests) +
                         (endpoint * SRV_STATUSES + status) * sizeof(srv_cell));
}

static bool tell_requests(const walk *w) {
    static const srv_family family = {"synaptoroute_http_requests_total", SRV_COUNTER, "{request}",
                                      "Requests answered, by endpoint and HTTP status."};
    bool done = begin(w, &family);
    for (size_t i = 0; done && i <= SRV_MAX_ENDPOINTS; i++) {
        for (size_t j = 0; done && j < SRV_STATUSES; j++) {
            uint64_t count = request_count(w, i, j);
            char code[16] = "other";
            if (count == 0) continue;
            if (srv_statuses[j] != 0) snprintf(code, sizeof code, "%d", srv_statuses[j]);
            done = tell(w, &family,
                        &(srv_sample){.labels = {label_of("endpoint", endpoint_name(w, i)),
                                                 label_of("code", code)},
                                      .label_count = 2,
                                      .value = (double)count});
        }
    }
    return done;
}

static bool was_asked(const walk *w, size_t endpoint) {
    for (size_t i = 0; i < SRV_STATUSES; i++)
        if (request_count(w, endpoint, i) > 0) return true;
    return false;
}

static bool tell_durations(const walk *w) {
    static const srv_family family = {
        "synaptoroute_http_request_duration_seconds", SRV_HISTOGRAM, "s",
        "From the first line of a request to the end of its answer, by endpoint."};
    bool done = begin(w, &family);
    for (size_t i = 0; done && i <= SRV_MAX_ENDPOINTS; i++)
        if (was_asked(w, i))
            done =
                tell_latency(w, &family, offsetof(srv_shard, durations) + i * sizeof(srv_latency),
                             label_of("endpoint", endpoint_name(w, i)));
    return done;
}

static bool tell_http(const walk *w) {
    static const srv_family received = {"synaptoroute_http_received_bytes_total", SRV_COUNTER, "By",
                                        "Bytes of the bodies of requests."},
                            sent = {"synaptoroute_http_sent_bytes_total", SRV_COUNTER, "By",
                                    "Bytes of the bodies of answers."},
                            active = {"synaptoroute_http_active_requests", SRV_GAUGE, "{request}",
                                      "Requests that are being read, worked on or answered."},
                            connections = {"synaptoroute_http_connections", SRV_GAUGE,
                                           "{connection}", "Open connections."};
    return tell_requests(w) && tell_durations(w) &&
           tell_one(w, &received, (double)SUM(w, received_bytes)) &&
           tell_one(w, &sent, (double)SUM(w, sent_bytes)) &&
           tell_one(w, &active, (double)w->gauges->active_requests) &&
           tell_one(w, &connections, (double)w->gauges->connections);
}

/* ---- Decisions --------------------------------------------------------------------------------------- */

static bool tell_decisions(const walk *w) {
    static const srv_family family = {"synaptoroute_decisions_total", SRV_COUNTER, "{text}",
                                      "Texts decided, by path and reason."};
    static const sr_path paths[] = {SR_PATH_FAST, SR_PATH_SLOW};
    bool done = begin(w, &family);
    for (size_t i = 0; done && i < SRI_COUNT(paths); i++) {
        for (size_t reason = 0; done && reason < SRV_REASONS; reason++) {
            size_t cell = (size_t)paths[i] * SRV_REASONS + reason;
            uint64_t count = sum_at(w, offsetof(srv_shard, decisions) + cell * sizeof(srv_cell));
            done = tell(
                w, &family,
                &(srv_sample){.labels = {label_of("path", sr_path_name(paths[i])),
                                         label_of("reason", sr_reason_name((sr_reason)reason))},
                              .label_count = 2,
                              .value = (double)count});
        }
    }
    return done;
}

static bool tell_routes(const walk *w) {
    static const srv_family family = {"synaptoroute_route_matches_total", SRV_COUNTER, "{text}",
                                      "Texts that were decided to belong to a route; \"(other)\" "
                                      "stands for all routes beyond the "
                                      "bound on labels."};
    bool done = begin(w, &family);
    size_t most = w->metrics->options.max_routes;
    size_t count = atomic_load_explicit(&w->metrics->name_count, memory_order_acquire);
    for (size_t i = 0; done && i <= count; i++) {
        size_t cell = i < count ? i : most;
        uint64_t matches = sum_at(w, offsetof(srv_shard, routes) + cell * sizeof(srv_cell));
        srv_label label = label_of("route", "(other)");
        if (i == count && matches == 0) break;
        if (i < count) {
            const srv_route_name *name = w->metrics->by_index[i];
            label.value = (sr_str){name->name, name->len};
        }
        done = tell(w, &family,
                    &(srv_sample){.labels = {label}, .label_count = 1, .value = (double)matches});
    }
    return done;
}

static bool tell_phases(const walk *w) {
    static const char *const names[SRV_PHASES] = {"queue", "fast", "encode", "search", "decide"};
    static const srv_family phases = {"synaptoroute_phase_duration_seconds", SRV_HISTOGRAM, "s",
                                      "Where the time of decisions went: waiting for a batch "
                                      "(queue), the fast path, the encoder, the index, and the "
                                      "rest; one observation for each request that had the phase."},
                            totals = {
                                "synaptoroute_decide_duration_seconds", SRV_HISTOGRAM, "s",
                                "From a request's submission to the router to its decisions."};
    bool done = begin(w, &phases);
    for (size_t i = 0; done && i < SRV_PHASES; i++)
        done = tell_latency(w, &phases, offsetof(srv_shard, phases) + i * sizeof(srv_latency),
                            label_of("phase", names[i]));
    return done && begin(w, &totals) &&
           tell_latency(w, &totals, offsetof(srv_shard, totals), (srv_label){0});
}

static bool tell_batches(const walk *w) {
    static const srv_family family = {"synaptoroute_batch_texts", SRV_HISTOGRAM, "{text}",
                                      "Texts in the largest batch that a request was encoded in; "
                                      "one observation for each request."};
    double bounds[SRV_BATCH_BOUNDS];
    uint64_t counts[SRV_BATCH_BOUNDS + 1];
    srv_sample sample = {.bounds = bounds, .counts = counts, .bound_count = SRV_BATCH_BOUNDS};
    for (size_t i = 0; i <= SRV_BATCH_BOUNDS; i++) {
        counts[i] = sum_at(w, offsetof(srv_shard, batches) + i * sizeof(srv_cell));
        sample.count += counts[i];
        if (i < SRV_BATCH_BOUNDS) bounds[i] = (double)((uint64_t)1 << i);
    }
    sample.sum = (double)SUM(w, batch_sum);
    return begin(w, &family) && tell(w, &family, &sample);
}

static bool tell_texts(const walk *w) {
    static const srv_family truncated = {"synaptoroute_truncated_texts_total", SRV_COUNTER,
                                         "{text}", "Texts that were longer than the model reads."},
                            mended = {"synaptoroute_mended_texts_total", SRV_COUNTER, "{text}",
                                      "Texts in which a misspelt word was mended."},
                            unfitted = {"synaptoroute_unfitted_decisions_total", SRV_COUNTER,
                                        "{text}",
                                        "Texts decided by neighbours alone, without "
                                        "trained heads."},
                            vectors = {"synaptoroute_embeddings_total", SRV_COUNTER, "{text}",
                                       "Texts answered with their vectors."},
                            tokens = {"synaptoroute_embedding_tokens_total", SRV_COUNTER, "{token}",
                                      "Tokens of these texts."};
    return tell_decisions(w) && tell_routes(w) && tell_phases(w) && tell_batches(w) &&
           tell_one(w, &truncated, (double)SUM(w, truncated)) &&
           tell_one(w, &mended, (double)SUM(w, mended)) &&
           tell_one(w, &unfitted, (double)SUM(w, unfitted)) &&
           tell_one(w, &vectors, (double)SUM(w, vectors)) &&
           tell_one(w, &tokens, (double)SUM(w, vector_tokens));
}

/* ---- The router -------------------------------------------------------------------------------------- */

/* A number of a struct of the library's, told as it is. */
typedef struct field {
    srv_family family;
    size_t offset; /* of a uint64_t */
} field;

static bool tell_fields(const walk *w, const field *fields, size_t count, const void *from) {
    bool done = true;
    for (size_t i = 0; done && i < count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)from + fields[i].offset, sizeof value);
        done = tell_one(w, &fields[i].family, (double)value);
    }
    return done;
}

#define QUEUE(member) offsetof(sr_queue_counts, member)
#define INFO(member)  offsetof(sr_info, member)

static const field queue_fields[] = {
    {{"synaptoroute_queue_texts", SRV_GAUGE, "{text}", "Texts that wait to be encoded."},
     QUEUE(waiting_texts)},
    {{"synaptoroute_queue_bytes", SRV_GAUGE, "By", "Bytes of the texts that wait."},
     QUEUE(waiting_bytes)},
    {{"synaptoroute_queue_keys", SRV_GAUGE, "{key}", "API keys that have texts waiting."},
     QUEUE(waiting_keys)},
    {{"synaptoroute_queue_running_texts", SRV_GAUGE, "{text}", "Texts that are being encoded."},
     QUEUE(running_texts)},
    {{"synaptoroute_queue_accepted_total", SRV_COUNTER, "{submission}",
      "Submissions that the queue accepted, or answered at once."},
     QUEUE(accepted)},
    {{"synaptoroute_queue_at_once_total", SRV_COUNTER, "{submission}",
      "Submissions that were answered without waiting."},
     QUEUE(at_once)},
    {{"synaptoroute_queue_shed_total", SRV_COUNTER, "{submission}",
      "Submissions that were turned away, because too much waited already."},
     QUEUE(shed)},
    {{"synaptoroute_queue_timed_out_total", SRV_COUNTER, "{submission}",
      "Submissions whose deadline passed before they began."},
     QUEUE(timed_out)},
    {{"synaptoroute_queue_cancelled_total", SRV_COUNTER, "{submission}",
      "Submissions whose caller left."},
     QUEUE(cancelled)},
    {{"synaptoroute_queue_failed_total", SRV_COUNTER, "{submission}", "Submissions that failed."},
     QUEUE(failed)},
    {{"synaptoroute_batches_total", SRV_COUNTER, "{batch}", "Batches that were encoded."},
     QUEUE(batches)},
    {{"synaptoroute_batched_texts_total", SRV_COUNTER, "{text}", "Texts in these batches."},
     QUEUE(batch_texts)},
    {{"synaptoroute_batched_tokens_total", SRV_COUNTER, "{token}", "Tokens in these batches."},
     QUEUE(batch_tokens)}};

static const field info_fields[] = {
    {{"synaptoroute_table_revision", SRV_GAUGE, "1", "Revision of the route table."},
     INFO(revision)},
    {{"synaptoroute_routes", SRV_GAUGE, "{route}", "Routes in the table."}, INFO(routes)},
    {{"synaptoroute_utterances", SRV_GAUGE, "{utterance}", "Utterances in the table."},
     INFO(utterances)},
    {{"synaptoroute_oos_examples", SRV_GAUGE, "{example}", "Out-of-scope examples in the table."},
     INFO(oos_examples)},
    {{"synaptoroute_fit_revision", SRV_GAUGE, "1", "Revision that the fit was made from."},
     INFO(fit_revision)},
    {{"synaptoroute_fit_pending_routes", SRV_GAUGE, "{route}",
      "Routes that changed since the fit, for which neighbours decide."},
     INFO(fit_pending)},
    {{"synaptoroute_index_bytes", SRV_GAUGE, "By", "Memory of the search index."},
     INFO(index_bytes)},
    {{"synaptoroute_cache_hits_total", SRV_COUNTER, "{text}",
      "Texts whose vectors were in the encoder's cache."},
     INFO(cache_hits)},
    {{"synaptoroute_cache_misses_total", SRV_COUNTER, "{text}", "Texts whose vectors were not."},
     INFO(cache_misses)},
    {{"synaptoroute_cache_texts", SRV_GAUGE, "{text}", "Texts in the encoder's cache."},
     INFO(cache_entries)},
    {{"synaptoroute_cache_bytes", SRV_GAUGE, "By", "Memory of the encoder's cache."},
     INFO(cache_used)},
    {{"synaptoroute_changes_waiting", SRV_GAUGE, "{change}",
      "Deferred changes that are not stored yet."},
     INFO(waiting)},
    {{"synaptoroute_changes_lost_total", SRV_COUNTER, "{change}",
      "Deferred changes that could not be stored and were taken back."},
     INFO(lost)}};

static bool tell_build(const walk *w, const sr_info *info) {
    static const srv_family family = {"synaptoroute_build_info", SRV_GAUGE, "1",
                                      "Always 1; the labels tell what runs."};
    srv_sample sample = {.labels = {label_of("version", sr_version()),
                                    label_of("cpu", sr_cpu_level()),
                                    label_of("model", info == NULL ? "" : info->model)},
                         .label_count = 3,
                         .value = 1};
    return begin(w, &family) && tell(w, &family, &sample);
}

static bool tell_router(const walk *w) {
    static const srv_family wait = {"synaptoroute_queue_wait_seconds", SRV_GAUGE, "s",
                                    "How long a text that comes now would probably wait."},
                            ready = {"synaptoroute_ready", SRV_GAUGE, "1",
                                     "1 when models are loaded and requests are taken."};
    sr_info info = {.size = sizeof info};
    sr_queue_counts counts = {.size = sizeof counts};
    sr_router *router = w->gauges->router;
    bool known = router != NULL && sr_router_info(router, &info, NULL) == SR_OK;
    bool done =
        tell_build(w, known ? &info : NULL) && tell_one(w, &ready, w->gauges->ready ? 1 : 0);
    if (done && known) done = tell_fields(w, info_fields, SRI_COUNT(info_fields), &info);
    if (!done || router == NULL || sr_queue_stats(router, &counts, NULL) != SR_OK) return done;
    return tell_fields(w, queue_fields, SRI_COUNT(queue_fields), &counts) &&
           tell_one(w, &wait, 1e-9 * (double)counts.wait_ns);
}

/* ---- The process ------------------------------------------------------------------------------------- */

static bool tell_process(const walk *w) {
    static const srv_family cpu = {"process_cpu_seconds_total", SRV_COUNTER, "s",
                                   "Total user and system CPU time spent in seconds."},
                            resident = {"process_resident_memory_bytes", SRV_GAUGE, "By",
                                        "Resident memory size in bytes."},
                            virtual = {"process_virtual_memory_bytes", SRV_GAUGE, "By",
                                       "Virtual memory size in bytes."},
                            open = {"process_open_fds", SRV_GAUGE, "{descriptor}",
                                    "Number of open file descriptors."},
                            max = {"process_max_fds", SRV_GAUGE, "{descriptor}",
                                   "Maximum number of open file descriptors."},
                            threads = {"process_threads", SRV_GAUGE, "{thread}",
                                       "Number of threads."},
                            started = {"process_start_time_seconds", SRV_GAUGE, "s",
                                       "Start time of the process since unix epoch in seconds."};
    srv_process process;
    srv_process_read(&process);
    return tell_one(w, &cpu, process.cpu_seconds) &&
           tell_one(w, &resident, (double)process.resident_bytes) &&
           tell_one(w, &virtual, (double)process.virtual_bytes) &&
           tell_one(w, &open, (double)process.open_descriptors) &&
           tell_one(w, &max, (double)process.max_descriptors) &&
           tell_one(w, &threads, (double)process.threads) &&
           tell_one(w, &started, w->gauges->started);
}

static bool tell_exports(const walk *w) {
    static const srv_family exported = {"synaptoroute_traces_exported_total", SRV_COUNTER,
                                        "{trace}", "Traces that were taken by the collector."},
                            dropped = {"synaptoroute_traces_dropped_total", SRV_COUNTER, "{trace}",
                                       "Traces that were not: the collector was slow or away."},
                            failed = {"synaptoroute_export_failures_total", SRV_COUNTER,
                                      "{request}", "Requests to the collector that failed."};
    static const srv_family lines = {"synaptoroute_log_dropped_total", SRV_COUNTER, "{line}",
                                     "Lines of the log that were left out: nobody read it."};
    return tell_one(w, &lines, (double)w->gauges->log_dropped) &&
           tell_one(w, &exported, (double)w->gauges->traces_exported) &&
           tell_one(w, &dropped, (double)w->gauges->traces_dropped) &&
           tell_one(w, &failed, (double)w->gauges->exports_failed);
}

bool srv_metrics_visit(const srv_metrics *metrics, const srv_gauges *gauges,
                       const srv_visitor *visitor) {
    walk w = {metrics, gauges, visitor};
    return tell_http(&w) && tell_texts(&w) && tell_router(&w) && tell_exports(&w) &&
           tell_process(&w);
}
