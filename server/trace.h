/*
 * trace.h - the spans of a request, as OpenTelemetry has them.
 *
 * A request that is sampled has a server span, whose parent is what `traceparent` names (W3C Trace Context), and below it
 * one span for each phase that the library timed: queue, fast, encode, search, decide. They are written as protocol
 * buffers when the request is over.
 */
#ifndef SRV_TRACE_H
#define SRV_TRACE_H

#include "base/base.h"

typedef struct srv_trace {
    uint8_t trace_id[16], span_id[8], parent_id[8];
    bool has_parent, sampled;
    char state[256]; /* tracestate of the parent, or "" */
    /* Set by srv_trace_timings(). */
    sr_timings timings;
    uint64_t decided_ns; /* when; 0: nothing was decided */
    uint64_t texts;
} srv_trace;

/* Takes up the parent's context where it is a valid one, whose decision to sample is kept; otherwise a new trace begins,
 * sampled at the given ratio. Both headers may be NULL. */
void srv_trace_begin(srv_trace *trace, const char *traceparent, const char *tracestate,
                     double ratio);
void srv_trace_timings(srv_trace *trace, const sr_timings *timings, uint64_t texts);
/* 32 hexadecimal digits. */
void srv_trace_hex(const srv_trace *trace, char hex[33]);

/* What the server span tells beside the trace. */
typedef struct srv_trace_request {
    const char *method, *pattern; /* pattern may be NULL: no such endpoint */
    int status;
    uint64_t began_ns, ended_ns; /* sri_nanoseconds() */
} srv_trace_request;

/* Appends the spans, each as a field `spans` of ScopeSpans. False when memory is short, or the buffer full: then it is
 * as it was. */
bool srv_trace_append(const srv_trace *trace, const srv_trace_request *request, sri_buffer *out);

#endif
