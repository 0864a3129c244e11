/*
 * pull.h - fetching a model of a Hugging Face repository into the cache, complete or not at all.
 */
#ifndef SRI_PULL_H
#define SRI_PULL_H

#include <limits.h>

#include "base/base.h"

/* A digest that the caller demands of a file. */
typedef struct sri_pull_digest {
    char file[64];
    char sha256[65];
} sri_pull_digest;

typedef struct sri_pull_options {
    const char *name;     /* "owner/model" */
    const char *to;       /* directory of the model; NULL: the cache */
    const char *revision; /* NULL: "main" */
    const char *endpoint; /* NULL: the public hub */
    const char *token;    /* NULL, or for repositories that are not public */
    const char *prefix;   /* put before every text from now on; NULL: none */
    const sri_pull_digest *digests;
    size_t digest_count;
    bool offline; /* only check what is there */
    bool force;   /* fetch, though it is there */
    bool keep;    /* keep files that turn out to be no model that can be run */
    int retries;
    double stall_seconds;
    void (*begin_file)(void *user, const char *file); /* before each file */
    sr_progress_fn *progress;                         /* in bytes of the file */
    void *progress_user;                              /* of both */
} sri_pull_options;

typedef struct sri_pulled {
    char directory[PATH_MAX];
    bool present;      /* it was there already; nothing was fetched */
    uint64_t received; /* bytes */
    int dimension;     /* of the model's vectors; 0 when it was there already */
} sri_pulled;

#define SRI_PULL_ENDPOINT "https://huggingface.co"

/* Whether `file` is one that can be pulled. */
bool sri_pull_knows(const char *file);

/* Fetches config.json, tokenizer.json and model.safetensors, and what sentence-transformers keeps about
 * pooling; checks their digests; opens the model to see that it runs; puts it in place with a
 * synaptoroute.json. What was there is replaced at once or not at all. A second call for the same
 * model waits for the first. After a failure, what has been received is kept for the next call. */
SR_MUST_CHECK sr_status sri_pull(const sri_pull_options *options, sri_pulled *pulled,
                                 sr_error *error);

#endif
