/*
 * store.h - where a route table is kept: an interface with two kinds, memory (keeps nothing) and SQLite.
 *
 * The table itself lives in the router; a store loads it and makes changes durable. Every route and
 * utterance has an id that grows in the order of adding and is never used again, picked by the router from
 * the `next_id` it loaded. A commit names the revision it was planned on, and the store refuses it
 * (`*stale`) when another process has changed the table since.
 *
 * Beside the table a store keeps one fit, what was learned from it: a mutation leaves it as it is, and it
 * names the revision that it was made from. Its `serial` grows with each one stored, so that another
 * process sees that there is a new one.
 *
 * A store must be used by one thread at a time; the router's writer mutex sees to that.
 */
#ifndef SRI_STORE_H
#define SRI_STORE_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct sri_store sri_store;

/* Which model made a vector. */
typedef struct sri_store_model {
    const char *fingerprint; /* 64 hexadecimal digits */
    const char *name;
    int dimension;
} sri_store_model;

/* What the store holds beside the rows. */
typedef struct sri_store_state {
    uint64_t revision; /* 0: nothing was ever stored */
    uint64_t next_id;  /* above every id in use; at least 1 */
    uint64_t routes;
    uint64_t utterances;
    uint64_t models;      /* that have vectors */
    char model_name[128]; /* of the newest vectors, or "" */
    char model_fingerprint[65];
    int model_dimension;
} sri_store_state;

typedef struct sri_store_route {
    uint64_t id;
    sr_str name, description, metadata;
    sr_threshold threshold;
} sri_store_route;

/* Receives a table being loaded; strings and vectors are lent for the call. `begin` comes first, then all
 * routes, all utterances in ascending order of ids, and the vectors. A status other than SR_OK stops. */
typedef struct sri_store_sink {
    void *user;
    SR_MUST_CHECK sr_status (*begin)(void *user, const sri_store_state *state, sr_error *error);
    SR_MUST_CHECK sr_status (*route)(void *user, const sri_store_route *route, sr_error *error);
    SR_MUST_CHECK sr_status (*utterance)(void *user, uint64_t id, uint64_t route, sr_str text,
                                         sr_error *error);
    SR_MUST_CHECK sr_status (*vector)(void *user, uint64_t utterance, const float *vector,
                                      sr_error *error);
} sri_store_sink;

typedef enum sri_change_kind {
    SRI_ADD_ROUTE,        /* route, name, description, metadata, threshold */
    SRI_SET_ROUTE,        /* the same: all but the name is overwritten */
    SRI_REMOVE_ROUTE,     /* route; its utterances and their vectors go with it */
    SRI_ADD_UTTERANCE,    /* route, utterance, text, vector */
    SRI_REMOVE_UTTERANCE, /* utterance; its vectors of all models go with it */
    SRI_MOVE_UTTERANCE,   /* utterance, to: gives it the id `to`; its vectors stay with it */
    SRI_ADD_VECTOR        /* utterance, vector */
} sri_change_kind;

typedef struct sri_change {
    sri_change_kind kind;
    uint64_t route, utterance, to; /* ids */
    sr_str text;                   /* of an utterance, or the name of a route */
    sr_str description, metadata;
    sr_threshold threshold;
    const float *vector;
} sri_change;

typedef struct sri_commit {
    uint64_t base_revision;       /* that the changes were planned on */
    uint64_t new_revision;        /* to be stored */
    uint64_t next_id;             /* to be stored */
    const sri_store_model *model; /* of the vectors; NULL when there are none */
    const sri_change *changes;
    size_t count;
} sri_commit;

/* A fit as stored; what is in the buffers is the router's business. */
typedef struct sri_store_fit {
    uint64_t serial;   /* 0: there is none, or not yet */
    uint64_t revision; /* of the table that it was made from */
    sr_fit_kind kind;
    char model[65], fast[65]; /* fingerprints; `fast` is "" without a fast path */
    /* What it was told, and found out; NaN: nothing. */
    double max_oos_accepted, min_precision, auto_threshold, fast_share;
    sri_buffer routes, bytes;
} sri_store_fit;

static inline void sri_store_fit_free(sri_store_fit *fit) {
    sri_buffer_free(&fit->routes);
    sri_buffer_free(&fit->bytes);
    *fit = (sri_store_fit){0};
}

typedef struct sri_store_kind {
    /* Hands over the whole table as it is at one moment; the vectors only when `fingerprint` is not NULL, and
     * then those of that model. A vector of another length than `dimension` is SR_ERR_FORMAT. */
    SR_MUST_CHECK sr_status (*load)(sri_store *store, const char *fingerprint, int dimension,
                                    const sri_store_sink *sink, sr_error *error);
    /* The revision stored now, and the serial of the fit. */
    SR_MUST_CHECK sr_status (*revision)(sri_store *store, uint64_t *revision, uint64_t *fit,
                                        sr_error *error);
    /* Makes all changes durable, or none. When the stored revision is not the base revision nothing is
     * done, `*stale` is true and the status SR_OK. */
    SR_MUST_CHECK sr_status (*commit)(sri_store *store, const sri_commit *commit, bool *stale,
                                      sr_error *error);
    /* Hands over the fit, without its `bytes` unless `whole`; `fit` is zeroed first, and its buffers are
     * the caller's to free. */
    SR_MUST_CHECK sr_status (*load_fit)(sri_store *store, bool whole, sri_store_fit *fit,
                                        sr_error *error);
    /* Puts a fit in the place of the one before, in a transaction of its own, and gives its serial. One
     * that was made from a newer table stays: then nothing is done and `*serial` is 0. */
    SR_MUST_CHECK sr_status (*save_fit)(sri_store *store, const sri_store_fit *fit,
                                        uint64_t *serial, sr_error *error);
    /* Checks everything that is stored; SR_ERR_FORMAT names the first fault. */
    SR_MUST_CHECK sr_status (*verify)(sri_store *store, sr_error *error);
    void (*close)(sri_store *store);
} sri_store_kind;

/* Each kind's own struct begins with this. */
struct sri_store {
    const sri_store_kind *kind;
    bool keeps; /* false: what is committed is gone when the store is closed */
    /* May change when another process makes or migrates the file, so that others may look meanwhile. */
    atomic_bool read_only;
    atomic_int schema;
};

SR_MUST_CHECK sr_status sri_store_open_memory(sri_store **store, sr_error *error);

#define SRI_STORE_READ_ONLY 1u /* never write */
#define SRI_STORE_EXISTING  2u /* SR_ERR_NOT_FOUND rather than create the file */

/* Opens the database `path`; one that is missing is made by the first commit, so that a failure before
 * that leaves none behind. One of an older schema is brought to this one, in one transaction, unless it is
 * opened for reading only. When the file or its directory cannot be written, `read_only` of
 * the store says so. What is not a route table is left byte for byte as it was: SR_ERR_FORMAT (no database,
 * damaged), SR_ERR_DATABASE (another program's, or a newer schema). */
SR_MUST_CHECK sr_status sri_store_open_sqlite(const char *path, unsigned flags, sri_store **store,
                                              sr_error *error);

/* 1: the five tables of store_sqlite.c without `fits`; read as it is where it cannot be written.
 * 2: `fits`; the route called SR_OOS_NAME holds the out-of-scope examples. */
#define SRI_STORE_SCHEMA 2

static inline void sri_store_close(sri_store **store) {
    if (*store != NULL) (*store)->kind->close(*store);
    *store = NULL;
}

#endif
