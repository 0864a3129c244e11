/*
 * trace.c - see trace.h.
 *
 * The library tells how long each phase took, not when it began: phases are laid one after the other from the
 * submission on, in the order in which they happen, and none beyond the moment of the decision. Where a list was
 * encoded in several batches at once, that is a picture, whose lengths are right.
 */
#include "trace.h"

#include <string.h>
#include <time.h>

#include "otlp_encode.h"

enum { KIND_INTERNAL = 1, KIND_SERVER = 2, STATUS_ERROR = 2 };

/* ---- Identifiers ------------------------------------------------------------------------------------ */

/* splitmix64, seeded by the system for each thread. */
static uint64_t next_random(void) {
    static _Thread_local uint64_t state;
    if (state == 0) state = sri_random_seed();
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void make_id(uint8_t *id, size_t len) {
    for (size_t i = 0; i < len; i += 8) {
        uint64_t random;
        do random = next_random();
        while (random == 0); /* all zero means none */
        memcpy(id + i, &random, 8);
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; /* capitals are not allowed */
}

/* False when it is not hexadecimal, or all zero. */
static bool take_id(const char *text, uint8_t *id, size_t len) {
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]), low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) return false;
        id[i] = (uint8_t)(high << 4 | low);
        any |= id[i];
    }
    return any != 0;
}

/* "00-<32 digits>-<16 digits>-<2 digits>"; later versions may have more behind it. */
static bool take_parent(srv_trace *trace, const char *text) {
    size_t len = strlen(text);
    uint8_t version, flags = 0;
    bool zero = len >= 2 && memcmp(text, "00", 2) == 0;
    if (len < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
    if (!zero && (!take_id(text, &version, 1) || version == 0xFF)) return false;
    if (zero ? len != 55 : len > 55 && text[55] != '-') return false;
    if (!take_id(text + 3, trace->trace_id, 16) || !take_id(text + 36, trace->parent_id, 8))
        return false;
    if (memcmp(text + 53, "00", 2) != 0 && !take_id(text + 53, &flags, 1)) return false;
    trace->sampled = (flags & 1) != 0;
    return true;
}

void srv_trace_begin(srv_trace *trace, const char *traceparent, const char *tracestate,
                     double ratio) {
    *trace = (srv_trace){0};
    trace->has_parent = traceparent != NULL && take_parent(trace, traceparent);
    if (!trace->has_parent) {
        trace->sampled = (double)(next_random() >> 11) * 0x1p-53 < ratio;
        make_id(trace->trace_id, sizeof trace->trace_id);
    } else if (tracestate != NULL && strlen(tracestate) < sizeof trace->state) {
        memcpy(trace->state, tracestate, strlen(tracestate) + 1);
    }
    make_id(trace->span_id, sizeof trace->span_id);
}

void srv_trace_timings(srv_trace *trace, const sr_timings *timings, uint64_t texts) {
    trace->timings = *timings;
    trace->decided_ns = sri_nanoseconds();
    trace->texts = texts;
}

void srv_trace_hex(const srv_trace *trace, char hex[33]) {
    for (size_t i = 0; i < sizeof trace->trace_id; i++)
        snprintf(hex + 2 * i, 3, "%02x", trace->trace_id[i]);
}

/* ---- Spans ------------------------------------------------------------------------------------------- */

/* What is added to steady time to make it Unix time. */
static uint64_t unix_offset(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec - sri_nanoseconds();
}

typedef struct span {
    const uint8_t *id, *parent; /* parent may be NULL */
    const char *name;
    unsigned kind;
    uint64_t begin, end; /* Unix time, ns */
} span;

/* The fields that every span has, in a message that the caller ends. */
static size_t begin_span(srv_proto *proto, const srv_trace *trace, const span *s) {
    size_t mark = srv_proto_begin(proto, 2);
    srv_proto_bytes(proto, 1, trace->trace_id, sizeof trace->trace_id);
    srv_proto_bytes(proto, 2, s->id, 8);
    if (trace->state[0] != '\0') srv_proto_text(proto, 3, trace->state);
    if (s->parent != NULL) srv_proto_bytes(proto, 4, s->parent, 8);
    srv_proto_text(proto, 5, s->name);
    srv_proto_uint(proto, 6, s->kind);
    srv_proto_fixed64(proto, 7, s->begin);
    srv_proto_fixed64(proto, 8, s->end);
    return mark;
}

static void append_server(srv_proto *proto, const srv_trace *trace, const srv_trace_request *r,
                          uint64_t offset) {
    char name[128];
    snprintf(name, sizeof name, r->pattern == NULL ? "%s" : "%s %s", r->method, r->pattern);
    span s = {.id = trace->span_id,
              .parent = trace->has_parent ? trace->parent_id : NULL,
              .name = name,
              .kind = KIND_SERVER,
              .begin = r->began_ns + offset,
              .end = r->ended_ns + offset};
    size_t mark = begin_span(proto, trace, &s);
    srv_proto_text_attribute(proto, 9, "http.request.method", sr_str_of(r->method));
    if (r->pattern != NULL) srv_proto_text_attribute(proto, 9, "http.route", sr_str_of(r->pattern));
    srv_proto_int_attribute(proto, 9, "http.response.status_code", r->status);
    if (trace->decided_ns != 0)
        srv_proto_int_attribute(proto, 9, "synaptoroute.texts", (int64_t)trace->texts);
    if (r->status >= 500) {
        size_t status = srv_proto_begin(proto, 15);
        srv_proto_uint(proto, 3, STATUS_ERROR);
        srv_proto_end(proto, status);
    }
    srv_proto_fixed32(proto, 16, trace->sampled ? 1 : 0);
    srv_proto_end(proto, mark);
}

static void append_phases(srv_proto *proto, const srv_trace *trace, uint64_t offset) {
    const sr_timings *t = &trace->timings;
    const struct {
        const char *name;
        uint64_t length;
    } phases[] = {{"fast", t->fast_ns},
                  {"queue", t->queue_ns},
                  {"encode", t->encode_ns},
                  {"search", t->search_ns},
                  {"decide", t->decide_ns}};
    uint64_t end = trace->decided_ns + offset, at = end - SRI_MIN(t->total_ns, end);
    for (size_t i = 0; i < SRI_COUNT(phases); i++) {
        uint8_t id[8];
        if (phases[i].length == 0) continue;
        make_id(id, sizeof id);
        uint64_t until = SRI_MIN(at + phases[i].length, end);
        span s = {id, trace->span_id, phases[i].name, KIND_INTERNAL, at, until};
        size_t mark = begin_span(proto, trace, &s);
        if (strcmp(s.name, "encode") == 0) {
            srv_proto_int_attribute(proto, 9, "synaptoroute.batch.texts", (int64_t)t->batch_texts);
            srv_proto_int_attribute(proto, 9, "synaptoroute.batch.tokens",
                                    (int64_t)t->batch_tokens);
        }
        srv_proto_end(proto, mark);
        at = until;
    }
}

bool srv_trace_append(const srv_trace *trace, const srv_trace_request *request, sri_buffer *out) {
    srv_proto proto = {.out = out};
    size_t before = out->len;
    uint64_t offset = unix_offset();
    append_server(&proto, trace, request, offset);
    if (trace->decided_ns != 0) append_phases(&proto, trace, offset);
    if (proto.failed) out->len = before;
    return !proto.failed;
}
