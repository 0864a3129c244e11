/*
 * server.h - what there is once in a server: configuration, router, keys, HTTP layer.
 *
 * The router is NULL until its models are loaded and warm; readers load it atomically and keep it for the
 * request at hand. It is closed when no request is left.
 */
#ifndef SRV_SERVER_H
#define SRV_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "http.h"
#include "io/api_keys.h"
#include "server_config.h"

typedef struct srv_http srv_http;       /* http_int.h */
typedef struct srv_observe srv_observe; /* observe.h */

/* What a reload replaces at once. Those before are kept to the end, since a request may be reading them; they
 * are small, and reloads are rare. */
typedef struct srv_settings {
    srv_config config;
    sri_api_keys keys;
    struct srv_settings *before;
} srv_settings;

struct srv_server {
    _Atomic(srv_settings *) settings;
    srv_http *http;
    srv_observe *observe;
    struct srv_workers *workers;
    pthread_rwlock_t
        changes; /* held alone by changes of the table with a condition, shared by others */
    atomic_bool fitting;
    _Atomic(sr_router *) router;
    atomic_bool draining; /* ready no more: it finishes what it has */
    uint64_t started_ns;
};

static inline const srv_settings *srv_settings_of(const srv_server *server) {
    return atomic_load_explicit(&((srv_server *)(uintptr_t)server)->settings, memory_order_acquire);
}

static inline sr_router *srv_router(const srv_request *request) {
    return atomic_load_explicit(&request->server->router, memory_order_acquire);
}

/* ---- The HTTP layer (http.c) --------------------------------------------------------------------- */

/* Listens and serves. */
SR_MUST_CHECK sr_status srv_http_open(srv_server *server, srv_http **http, sr_error *error);
/* The port it listens on, which the system picks when 0 is asked for. */
unsigned srv_http_port(const srv_http *http);
/* Takes no new connections; those that are there go on, each for one more answer. */
void srv_http_quiesce(srv_http *http);
/* Requests that are being read, worked on or answered. */
size_t srv_http_active(const srv_http *http);
size_t srv_http_connections(const srv_http *http);
/* Tells every request that waits that its time is over. True when none waits any more. */
bool srv_http_hurry(srv_http *http);
/* No request may wait for a handler any more. */
void srv_http_close(srv_http **http);

#endif
