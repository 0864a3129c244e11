/*
 * job_progress.h - long work that tells how far it is, as lines of JSON, and ends when its client leaves.
 *
 * The answer is a stream of {"done", "total"} and a last line with the result. It begins with the first news
 * after a fifth of a second, so that what fails before has its proper status. A client that asks for
 * application/json gets the result alone, when it is there.
 */
#ifndef SRV_PROGRESS_H
#define SRV_PROGRESS_H

#include "http.h"

typedef struct srv_progress {
    srv_request *request;
    bool plain;    /* no stream: one object */
    bool streamed; /* it has begun */
    uint64_t began_ns, told_ns;
} srv_progress;

void srv_progress_begin(srv_progress *progress, srv_request *request);
int srv_progress_step(void *progress, uint64_t done, uint64_t total); /* an sr_progress_fn */
/* Ends with the result, an object that is taken over. The request must not be touched afterwards. */
void srv_progress_done(srv_progress *progress, bool made, sri_buffer *result);
void srv_progress_fail(srv_progress *progress, const sr_error *error);

#endif
