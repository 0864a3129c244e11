/*
 * workers.h - a few threads for what takes longer than a thread of the HTTP layer may be kept: changes of the table,
 * imports, fits, evaluations.
 */
#ifndef SRV_WORKERS_H
#define SRV_WORKERS_H

#include "http.h"

typedef struct srv_workers srv_workers;

SR_MUST_CHECK sr_status srv_workers_open(srv_workers **workers, sr_error *error);
/* What waits is done first. */
void srv_workers_close(srv_workers **workers);

/* Has `run` answer the request on a thread of the workers; answers that the server is busy when too many wait. For
 * handlers, as the last thing they do. */
void srv_work(srv_request *request, void (*run)(srv_request *request));

#endif
