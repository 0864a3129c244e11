/*
 * http_int.h - what the files of the HTTP layer share: connections, exchanges, the watch.
 *
 * A connection (srv_socket) lives from accept to close and carries one exchange after the other. An
 * exchange is one request with its answer. Its memory goes when both the HTTP layer and, for streams, the
 * handler have let go of it.
 */
#ifndef SRV_HTTP_INT_H
#define SRV_HTTP_INT_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "server.h"

typedef struct srv_exchange srv_exchange;
typedef struct srv_watch srv_watch;

/* What a connection is doing, for its deadline. */
typedef enum srv_phase {
    SRV_PHASE_IDLE,    /* before the first line of a request */
    SRV_PHASE_READING, /* a request is coming in */
    SRV_PHASE_WORKING  /* it is complete: the exchange's own deadline holds */
} srv_phase;

/* A connection. The memory of one that has closed serves the next, under another generation. */
typedef struct srv_socket {
    uint32_t index, generation;
    int descriptor; /* -1: closed */
    atomic_int phase;
    _Atomic uint64_t
        deadline_ns;       /* of the phase; the watch shuts the connection down then. 0: none */
    uint64_t line_ns;      /* when the first line of the request that is read was there */
    uint64_t came_ns;      /* when the system had it, at the latest */
    bool left;             /* the client sends no more; the lock of the watch */
    srv_exchange *waiting; /* whose client the watch looks after; its lock */
    uint32_t next_free;
} srv_socket;

/* RUNNING -> ANSWERED, or RUNNING -> SUSPENDED -> ANSWERED; then the answer is sent. */
typedef enum srv_state { SRV_READING, SRV_RUNNING, SRV_SUSPENDED, SRV_ANSWERED } srv_state;

typedef struct srv_stream srv_stream;

typedef struct srv_header_line {
    const char *name;
    char *value;
} srv_header_line;

#define SRV_MAX_HEADERS 8

struct srv_exchange {
    srv_request request; /* first: a handler's pointer is the exchange's */
    struct MHD_Connection *connection;
    srv_socket *socket;
    sri_arena arena;
    sri_buffer body;
    size_t max_body;
    size_t reserved; /* of the server's budget for bodies */
    atomic_int state;
    atomic_int gone;
    atomic_int references;
    bool refused; /* answered before the body was there, which is read and dropped */
    bool last;    /* the connection closes after the answer */
    bool later;   /* the handler called srv_later() */
    bool counted; /* among the active ones */
    /* The answer. */
    const char *type;
    sri_buffer reply;
    const void *reply_static;
    size_t reply_len;
    srv_header_line headers[SRV_MAX_HEADERS];
    size_t header_count;
    srv_stream *stream;
    /* Who is told that the client has gone; the watch's lock. */
    void (*on_gone)(void *user, srv_gone why);
    void *gone_user;
    int telling; /* how many threads are in that call */
};

struct srv_http {
    srv_server *server;
    struct MHD_Daemon *daemon;
    srv_watch *watch;
    atomic_size_t active, suspended, connections, body_bytes;
    _Atomic uint64_t requests;
    unsigned port;
    int listener;  /* -1 once quiet */
    bool loopback; /* nobody else can reach it */
};

static inline srv_exchange *srv_exchange_of(const srv_request *request) {
    return (srv_exchange *)(uintptr_t)request;
}

/* ---- Dispatch (dispatch.c) ----------------------------------------------------------------------- */

/* After the headers: finds the endpoint, checks the caller's rights and what the headers promise. Answers when
 * there is something wrong; true when the body should be read. */
bool srv_admit(srv_exchange *exchange);
/* Calls the handler of a request that is complete. */
void srv_dispatch(srv_exchange *exchange);
/* Adds the headers of every answer. */
void srv_common_headers(srv_exchange *exchange, struct MHD_Response *response);
/* Decodes %XX into the request's memory; false when it is wrong. */
bool srv_decode(srv_request *request, const char *text, size_t len, sr_str *decoded);

/* ---- Exchanges (http.c) -------------------------------------------------------------------------- */

void srv_exchange_free(srv_exchange *exchange); /* gives back one reference */
/* Takes the connection out of service, with its client watched, and back; the first only on its own thread. */
void srv_suspend(srv_exchange *exchange);
void srv_resume(srv_exchange *exchange);

/* ---- Streams (stream.c) -------------------------------------------------------------------------- */

struct MHD_Response *srv_stream_response(srv_exchange *exchange);
void srv_stream_release(srv_exchange *exchange); /* the HTTP layer is through with it */
void srv_stream_free(srv_exchange *exchange);
/* Lets a reader that waits see that the client has gone. */
void srv_stream_wake(srv_exchange *exchange);

/* ---- The watch (watch.c): connections with their deadlines, and clients that leave ----------------- */

SR_MUST_CHECK sr_status srv_watch_open(srv_http *http, srv_watch **watch, sr_error *error);
void srv_watch_close(srv_watch **watch);
/* NULL when memory is short. */
srv_socket *srv_watch_add(srv_watch *watch, int descriptor);
void srv_watch_remove(srv_watch *watch, srv_socket *socket);
/* From now on the exchange's handler is told when its client leaves. To be called before its connection is suspended. */
void srv_watch_wait(srv_watch *watch, srv_exchange *exchange);
/* No longer. To be called before its connection is resumed; any number of times. */
void srv_watch_done(srv_watch *watch, srv_exchange *exchange);
/* Returns when nobody is being told about this exchange any more. */
void srv_watch_settle(srv_watch *watch, srv_exchange *exchange);
void srv_watch_tell(srv_watch *watch, srv_exchange *exchange, void (*callback)(void *, srv_gone),
                    void *user);
/* All requests that wait are late now. */
void srv_watch_hurry(srv_watch *watch);

#endif
