/*
 * metrics_text.c - metrics as Prometheus' text format 0.0.4, and as JSON for the console.
 */
#include "metrics_int.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "io/io.h"

/* ---- Prometheus -------------------------------------------------------------------------------------- */

static bool append_escaped(sri_buffer *out, sr_str text) {
    bool done = true;
    for (size_t i = 0; done && i < text.len; i++) {
        char c = text.data[i];
        if (c == '\n')
            done = sri_buffer_append(out, "\\n", 2);
        else if (c == '"' || c == '\\')
            done = sri_buffer_append(out, "\\", 1) && sri_buffer_append(out, &c, 1);
        else
            done = sri_buffer_append(out, &c, 1);
    }
    return done;
}

/* {a="b",le="0.5"}; nothing when there are none. `le` may be NULL. */
static bool append_labels(sri_buffer *out, const srv_sample *sample, const char *le) {
    if (sample->label_count == 0 && le == NULL) return true;
    bool done = sri_buffer_append(out, "{", 1);
    for (size_t i = 0; done && i < sample->label_count; i++)
        done = sri_buffer_format(out, "%s%s=\"", i == 0 ? "" : ",", sample->labels[i].name) &&
               append_escaped(out, sample->labels[i].value) && sri_buffer_append(out, "\"", 1);
    if (done && le != NULL)
        done = sri_buffer_format(out, "%sle=\"%s\"", sample->label_count == 0 ? "" : ",", le);
    return done && sri_buffer_append(out, "}", 1);
}

static bool append_line(sri_buffer *out, const char *name, const char *suffix,
                        const srv_sample *sample, const char *le, double value) {
    return sri_buffer_format(out, "%s%s", name, suffix) && append_labels(out, sample, le) &&
           sri_buffer_append(out, " ", 1) && sri_append_exact(out, value) &&
           sri_buffer_append(out, "\n", 1);
}

static bool append_family(void *user, const srv_family *family) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    return sri_buffer_format(user, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help,
                             family->name, kinds[family->kind]);
}

static bool append_sample(void *user, const srv_family *family, const srv_sample *sample) {
    sri_buffer *out = user;
    if (family->kind != SRV_HISTOGRAM)
        return append_line(out, family->name, "", sample, NULL, sample->value);
    uint64_t below = 0;
    bool done = true;
    for (size_t i = 0; done && i <= sample->bound_count; i++) {
        char le[32] = "+Inf";
        if (i < sample->bound_count) snprintf(le, sizeof le, "%g", sample->bounds[i]);
        below += sample->counts[i];
        done = append_line(out, family->name, "_bucket", sample, le, (double)below);
    }
    return done && append_line(out, family->name, "_sum", sample, NULL, sample->sum) &&
           append_line(out, family->name, "_count", sample, NULL, (double)sample->count);
}

bool srv_metrics_append(const srv_metrics *metrics, const srv_gauges *gauges, sri_buffer *out) {
    srv_visitor visitor = {append_family, append_sample, out};
    return srv_metrics_visit(metrics, gauges, &visitor);
}

/* ---- The console ------------------------------------------------------------------------------------- */

/* What the charts need of all that is told. */
typedef struct stats {
    sri_buffer *out;
    const char *endpoint;
    double requests, errors, shed, fast, slow;
    double latency_sum;
    uint64_t latency[SRV_LATENCY_BOUNDS + 1];
} stats;

static bool is_label(const srv_sample *sample, size_t i, const char *value) {
    return i < sample->label_count && sri_str_equal(sample->labels[i].value, sr_str_of(value));
}

static bool take_family(void *user, const srv_family *family) {
    (void)user, (void)family;
    return true;
}

static bool take_sample(void *user, const srv_family *family, const srv_sample *sample) {
    stats *s = user;
    if (strcmp(family->name, "synaptoroute_http_requests_total") == 0) {
        sr_str code = sample->labels[1].value;
        s->requests += sample->value;
        if (is_label(sample, 1, "503"))
            s->shed += sample->value;
        else if (code.len > 0 && code.data[0] == '5')
            s->errors += sample->value;
    } else if (strcmp(family->name, "synaptoroute_decisions_total") == 0) {
        *(is_label(sample, 0, "fast") ? &s->fast : &s->slow) += sample->value;
    } else if (strcmp(family->name, "synaptoroute_http_request_duration_seconds") == 0 &&
               is_label(sample, 0, s->endpoint)) {
        memcpy(s->latency, sample->counts, sizeof s->latency);
        s->latency_sum = sample->sum;
    }
    return true;
}

static bool append_totals(const stats *s) {
    return sri_buffer_format(s->out,
                             "\"requests\":%.0f,\"decisions\":{\"fast\":%.0f,\"slow\":%.0f},",
                             s->requests, s->fast, s->slow) &&
           sri_buffer_format(s->out, "\"shed\":%.0f,\"errors\":%.0f", s->shed, s->errors);
}

static bool append_histogram(const stats *s) {
    bool done = sri_buffer_append_str(s->out, ",\"latency_ns\":{\"bounds\":[");
    for (size_t i = 0; done && i < SRV_LATENCY_BOUNDS; i++)
        done = sri_buffer_format(s->out, "%s%llu", i == 0 ? "" : ",",
                                 (unsigned long long)srv_latency_bounds[i]);
    done = done && sri_buffer_append_str(s->out, "],\"counts\":[");
    for (size_t i = 0; done && i <= SRV_LATENCY_BOUNDS; i++)
        done = sri_buffer_format(s->out, "%s%llu", i == 0 ? "" : ",",
                                 (unsigned long long)s->latency[i]);
    return done && sri_buffer_format(s->out, "],\"sum\":%.0f}", 1e9 * s->latency_sum);
}

static bool append_router(const stats *s, const srv_gauges *gauges) {
    sr_info info = {.size = sizeof info};
    sr_queue_counts counts = {.size = sizeof counts};
    if (gauges->router != NULL) {
        if (sr_router_info(gauges->router, &info, NULL) != SR_OK) info.revision = 0;
        if (sr_queue_stats(gauges->router, &counts, NULL) != SR_OK) counts.batches = 0;
    }
    return sri_buffer_format(s->out, ",\"queue\":{\"texts\":%llu,\"bytes\":%llu}",
                             (unsigned long long)counts.waiting_texts,
                             (unsigned long long)counts.waiting_bytes) &&
           sri_buffer_format(s->out, ",\"batches\":%llu,\"batch_texts\":%llu",
                             (unsigned long long)counts.batches,
                             (unsigned long long)counts.batch_texts) &&
           sri_buffer_format(s->out, ",\"revision\":%llu,\"routes\":%llu,\"utterances\":%llu",
                             (unsigned long long)info.revision, (unsigned long long)info.routes,
                             (unsigned long long)info.utterances);
}

static double now_unix(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

bool srv_stats_append(const srv_metrics *metrics, const srv_gauges *gauges, size_t endpoint,
                      sri_buffer *out) {
    stats s = {.out = out,
               .endpoint = endpoint < metrics->options.endpoint_count
                               ? metrics->options.endpoints[endpoint]
                               : ""};
    srv_visitor visitor = {take_family, take_sample, &s};
    return srv_metrics_visit(metrics, gauges, &visitor) &&
           sri_buffer_format(out, "{\"uptime_seconds\":%.3f,", now_unix() - gauges->started) &&
           append_totals(&s) && append_histogram(&s) && append_router(&s, gauges) &&
           sri_buffer_format(out, ",\"connections\":%llu}\n",
                             (unsigned long long)gauges->connections);
}
