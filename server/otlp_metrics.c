/*
 * otlp_metrics.c - metrics as OpenTelemetry's messages: the same families as Prometheus gets, under the same names but for
 * the _total of counters, which is Prometheus' own, with their units beside them.
 */
#include <string.h>

#include "otlp.h"
#include "otlp_encode.h"

enum { CUMULATIVE = 2 };
enum { GAUGE = 5, SUM = 7, HISTOGRAM = 9 }; /* fields of Metric */

typedef struct walk {
    srv_proto proto;
    uint64_t started, now;
    bool open;           /* a Metric is being written */
    size_t metric, data; /* marks of it and of its Gauge, Sum or Histogram */
    srv_kind kind;
} walk;

static void end_metric(walk *w) {
    if (!w->open) return;
    if (w->kind != SRV_GAUGE) srv_proto_uint(&w->proto, 2, CUMULATIVE);
    if (w->kind == SRV_COUNTER) srv_proto_uint(&w->proto, 3, 1); /* monotonic */
    srv_proto_end(&w->proto, w->data);
    srv_proto_end(&w->proto, w->metric);
    w->open = false;
}

static bool begin_metric(void *user, const srv_family *family) {
    static const unsigned fields[] = {SUM, GAUGE, HISTOGRAM};
    static const char total[] = "_total";
    walk *w = user;
    size_t len = strlen(family->name);
    end_metric(w);
    if (family->kind == SRV_COUNTER && len > sizeof total &&
        strcmp(family->name + len - (sizeof total - 1), total) == 0)
        len -= sizeof total - 1;
    w->metric = srv_proto_begin(&w->proto, 2);
    srv_proto_bytes(&w->proto, 1, family->name, len);
    srv_proto_text(&w->proto, 2, family->help);
    srv_proto_text(&w->proto, 3, family->unit);
    w->data = srv_proto_begin(&w->proto, fields[family->kind]);
    w->kind = family->kind;
    w->open = true;
    return !w->proto.failed;
}

static void append_times(walk *w) {
    if (w->kind != SRV_GAUGE) srv_proto_fixed64(&w->proto, 2, w->started);
    srv_proto_fixed64(&w->proto, 3, w->now);
}

static void append_histogram(walk *w, const srv_sample *sample) {
    srv_proto *proto = &w->proto;
    srv_proto_fixed64(proto, 4, sample->count);
    srv_proto_double(proto, 5, sample->sum);
    size_t counts = srv_proto_begin(proto, 6);
    for (size_t i = 0; i <= sample->bound_count; i++) srv_proto_packed(proto, sample->counts[i]);
    srv_proto_end(proto, counts);
    size_t bounds = srv_proto_begin(proto, 7);
    for (size_t i = 0; i < sample->bound_count; i++) {
        uint64_t bits;
        memcpy(&bits, &sample->bounds[i], sizeof bits);
        srv_proto_packed(proto, bits);
    }
    srv_proto_end(proto, bounds);
}

static bool append_point(void *user, const srv_family *family, const srv_sample *sample) {
    walk *w = user;
    bool histogram = family->kind == SRV_HISTOGRAM;
    size_t point = srv_proto_begin(&w->proto, 1);
    append_times(w);
    if (histogram)
        append_histogram(w, sample);
    else
        srv_proto_double(&w->proto, 4, sample->value);
    for (size_t i = 0; i < sample->label_count; i++)
        srv_proto_text_attribute(&w->proto, histogram ? 9 : 7, sample->labels[i].name,
                                 sample->labels[i].value);
    srv_proto_end(&w->proto, point);
    return !w->proto.failed;
}

bool srv_otlp_append_metrics(const srv_otlp_options *options, uint64_t started, uint64_t now,
                             sri_buffer *out) {
    walk w = {.proto = {.out = out}, .started = started, .now = now};
    srv_visitor visitor = {begin_metric, append_point, &w};
    bool done = options->visit(options->user, &visitor);
    end_metric(&w);
    return done && !w.proto.failed;
}
