/*
 * fetch.h - one file over HTTP, so that a download that was cut goes on where it stopped.
 */
#ifndef SRI_FETCH_H
#define SRI_FETCH_H

#include "base/base.h"

typedef struct sri_fetch sri_fetch; /* connections that are kept between files; for one thread */

typedef struct sri_fetch_options {
    const char *token;    /* NULL, or sent as a bearer token to the origin of `endpoint` alone */
    const char *endpoint; /* a URL */
    int retries;          /* in a row without a byte received, before giving up */
    double stall_seconds; /* without a byte before a connection counts as dead */
    sr_progress_fn *progress; /* in bytes of the file; `total` is `done` where it is not known */
    void *progress_user;
} sri_fetch_options;

/* Loads libcurl. SR_ERR_UNSUPPORTED when the build or the machine has none. Options are borrowed. */
SR_MUST_CHECK sr_status sri_fetch_open(const sri_fetch_options *options, sri_fetch **fetch,
                                       sr_error *error);
void sri_fetch_close(sri_fetch **fetch);

typedef struct sri_fetched {
    bool missing;      /* the server has no such file (404): nothing was written */
    char sha256[65];   /* as the server states it, or "" */
    char commit[65];   /* of the repository, as the server states it (X-Repo-Commit), or "" */
    uint64_t received; /* bytes of this call; less than the file has after a resumption */
} sri_fetched;

/* Fetches `url` into the file `part`, going on at its end when it was left by an earlier call for the same
 * URL and the server still has the same version (its ETag is kept in PART.etag). More than `max_bytes` is
 * SR_ERR_LIMIT. On failure the part stays, unless it is of no use. */
SR_MUST_CHECK sr_status sri_fetch_file(sri_fetch *fetch, const char *url, const char *part,
                                       uint64_t max_bytes, sri_fetched *fetched, sr_error *error);

#endif
