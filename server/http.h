/*
 * http.h - the contract between the HTTP layer and the handlers of the API.
 *
 * A handler gets a complete request (method, path, body within its bound, the caller's role) on a thread
 * of the HTTP layer and answers it exactly once:
 *   - at once, by srv_reply() or srv_problem(), or
 *   - later, from any thread: it calls srv_later() before it returns, and srv_reply(), srv_problem() or a
 *     stream answers. Nothing but a computation of some tens of microseconds may be done on the thread of
 *     the HTTP layer, which serves thousands of connections.
 * Memory of srv_alloc() lives as long as the request, which is at least until it has been answered; after
 * the answer a handler touches neither.
 */
#ifndef SRV_HTTP_H
#define SRV_HTTP_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct srv_server srv_server; /* server.h */
typedef struct srv_request srv_request;

/* What a key permits; each role permits what those before it do. */
typedef enum srv_role { SRV_OPEN, SRV_READ, SRV_WRITE, SRV_ADMIN } srv_role;

enum {
    SRV_NEEDS_ROUTER = 1, /* 503 until the models are loaded */
    SRV_LARGE_BODY = 2,   /* the body may be as large as an import */
    SRV_JSON_BODY = 4,    /* 415 unless the body is application/json */
    SRV_METRICS = 8,      /* needs no key where metrics_open says so */
    SRV_LASTING = 16,     /* long work, without a deadline of its own; it tells its progress */
    SRV_OPENAI = 32       /* problems have the `error` that OpenAI's clients look for, too */
};

/* An endpoint of the API: the one table of them (endpoints.c) serves dispatch, metrics and OpenAPI. */
typedef struct srv_endpoint {
    const char *method, *pattern; /* {name} stands for one decoded segment */
    void (*handle)(srv_request *request);
    srv_role role;
    unsigned flags;
    const char *name;     /* in metrics, logs and as operationId */
    const char *summary;  /* one sentence */
    const char *request;  /* name of the body's schema, or NULL */
    const char *response; /* name of the answer's schema, or a media type, or NULL */
    const char *query;    /* names of query parameters, separated by spaces, or NULL */
} srv_endpoint;

const srv_endpoint *srv_endpoints(size_t *count);

struct srv_request {
    srv_server *server;
    const srv_endpoint *endpoint; /* NULL: no such path or method */
    const char *method;
    sr_str path;          /* as sent, without the query */
    sr_str name;          /* {name} of the pattern, decoded; length 0: there is none */
    sr_str body;          /* complete */
    srv_role role;        /* that the caller's key gives */
    uint32_t key;         /* number of the key, for fairness between keys and in logs; 0: none */
    const char *key_name; /* or NULL */
    uint64_t id;          /* counts requests */
    uint64_t came_ns;     /* when its first bytes had come to this machine, at the latest: what the
                             caller's own deadline counts from; sri_nanoseconds(), as all times */
    uint64_t began_ns;    /* when its first line had been read */
    uint64_t ready_ns;    /* when its body was complete */
    _Atomic uint64_t deadline_ns; /* to be answered by then */
    const char *traceparent;      /* the W3C trace context header, or NULL */
    int status;                   /* once it is answered */
    uint64_t sent_bytes;          /* of the answer's body, so far */
    void *trace;                  /* of the tracing, which frees it when the request is over */
};

/* Zeroed; NULL when memory is short. */
SR_MUST_CHECK void *srv_alloc(srv_request *request, size_t bytes);

/* A query parameter, decoded; false when it is not there. Not after the answer has begun. */
bool srv_query(srv_request *request, const char *name, sr_str *value);
/* A header of the request, or NULL; lives as long as the request has no answer. */
const char *srv_header(const srv_request *request, const char *name);

/* Moves the body into `body`, which is empty. */
void srv_take_body(srv_request *request, sri_buffer *body);

/* ---- Answers: exactly one of these -------------------------------------------------------------- */

/* A header of the answer, before it begins. `name` is a literal, `value` is copied. At most 8. */
void srv_answer_header(srv_request *request, const char *name, const char *value);

/* Takes `body` over and leaves it empty (NULL: there is none). */
void srv_reply(srv_request *request, int status, const char *type, sri_buffer *body);
/* The same for bytes that live as long as the program. */
void srv_reply_static(srv_request *request, int status, const char *type, const void *bytes,
                      size_t len);
/* Problem details as RFC 9457 has them. `slug` names the kind of problem: its type is
 * "/problems/SLUG". The text says what, where and what to do. */
void srv_problem(srv_request *request, int status, const char *slug, const char *format, ...)
    SRI_PRINTF(4, 5);
/* The problem that a status of the library means. */
void srv_fail(srv_request *request, const sr_error *error);
void srv_fail_memory(srv_request *request);
/* 503 with Retry-After: the server has more to do than it can. */
void srv_busy(srv_request *request, double retry_seconds, const char *what);

/* The answer comes after the handler has returned. */
void srv_later(srv_request *request);

typedef enum srv_gone { SRV_STAYED = 0, SRV_LEFT, SRV_LATE } srv_gone;

/* After srv_later(): `callback` is called once when the client has left or the deadline has passed, on
 * a thread of the HTTP layer, which it must not keep; at once if that is so already. It may come while
 * the request is being answered, or right after: what it touches must be of srv_alloc(). The request
 * must still be answered. */
void srv_on_gone(srv_request *request, void (*callback)(void *user, srv_gone why), void *user);
srv_gone srv_is_gone(const srv_request *request);
/* Whether its time is over: the watch notices that a little later. */
bool srv_is_late(const srv_request *request);

/* ---- Streams: an answer of many parts ----------------------------------------------------------- */

/* From a thread of the handler's own, after srv_later(). */
void srv_stream_begin(srv_request *request, int status, const char *type);
/* Waits while more than a bounded number of bytes are unsent. False when the client has gone: the work
 * need not go on, and srv_stream_end() is still to be called. */
bool srv_stream_write(srv_request *request, const void *bytes, size_t len);
/* The request must not be touched afterwards. `complete` false cuts the connection, so that the client
 * sees that something is missing. */
void srv_stream_end(srv_request *request, bool complete);

#endif
