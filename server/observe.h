/*
 * observe.h - where the server tells what it does: one call at each place where something happens, from which metrics,
 * traces and the log of requests are made.
 */
#ifndef SRV_OBSERVE_H
#define SRV_OBSERVE_H

#include "server.h"

/* Opens what the configuration asks for. The server's router may come later. */
SR_MUST_CHECK sr_status srv_observe_open(srv_server *server, srv_observe **observe,
                                         sr_error *error);
/* After the last request. Waits for what is to be exported, for a bounded time. */
void srv_observe_close(srv_observe **observe);
/* The router is there. */
void srv_observe_ready(srv_server *server);
/* The router and the HTTP layer are about to be closed: nothing is looked up in them any more. */
void srv_observe_quiet(srv_server *server);

/* ---- A request, in this order ----------------------------------------------------------------------- */

/* Its endpoint is known. */
void srv_observe_begin(srv_request *request);
/* It has decisions, or vectors, and no answer yet. On any thread. */
void srv_observe_decisions(srv_request *request, const sr_decisions *decisions);
void srv_observe_vectors(srv_request *request, const sr_vectors *vectors);
/* It is over: answered, or its client has gone. */
void srv_observe_end(srv_request *request);

/* ---- Handlers (observe.c) --------------------------------------------------------------------------- */

void srv_get_metrics(srv_request *request);
void srv_get_stats(srv_request *request);

#endif
