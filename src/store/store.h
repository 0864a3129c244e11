/*
 * store.h - where a route table is kept: an interface with two kinds, memory (keeps nothing) and SQLite.
 *
 * The table itself lives in the router; a store loads it and makes changes durable. Every route and
 * utterance has an id that grows in the order of adding and is never used again, picked by the router from
 * the `next_id` it loaded. The store keeps each vector twice: the fp32 row, and its code (index/index.h), which is all
 * that a start reads. fp32 rows are fetched by id, on connections of their own.
 *
 * Changes are made in groups. begin() takes the database's write lock and says which revision is stored: from then until
 * commit() or rollback() no other process can change the table, so what was planned on that revision stays
 * right. Any number of write() go into one group, which is stored whole or not at all.
 *
 * Beside the table a store keeps one fit, what was learned from it: a mutation leaves it as it is, and it
 * names the revision that it was made from. Its `serial` grows with each one stored, so that another
 * process sees that there is a new one.
 *
 * A store must be used by one thread at a time; the router's writer mutex sees to that. Free of that are checkpoint(),
 * verify(), open_reader() and the readers, which have connections of their own: each by one thread at a time, beside
 * anything but close().
 */
#ifndef SRI_STORE_H
#define SRI_STORE_H

#include <stdatomic.h>

#include "base/base.h"
#include "index/index.h"

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
    uint64_t models;      /* whose vectors were stored; 0 where there is no utterance */
    char model_name[128]; /* of the newest vectors, or "" */
    char model_fingerprint[65];
    int model_dimension;
} sri_store_state;

typedef struct sri_store_route {
    uint64_t id;
    sr_str name, description, metadata;
    sr_threshold threshold;
} sri_store_route;

/* Receives a table being loaded; strings and codes are lent for the call. `begin` comes first, then all
 * routes, all utterances and all codes, each in ascending order of ids. A status other than SR_OK stops. */
typedef struct sri_store_sink {
    void *user;
    SR_MUST_CHECK sr_status (*begin)(void *user, const sri_store_state *state, sr_error *error);
    SR_MUST_CHECK sr_status (*route)(void *user, const sri_store_route *route, sr_error *error);
    SR_MUST_CHECK sr_status (*utterance)(void *user, uint64_t id, uint64_t route, sr_str text,
                                         sr_error *error);
    /* sri_index_code_bytes(dimension) bytes that sri_index_code_valid() accepts. NULL: codes are not wanted. */
    SR_MUST_CHECK sr_status (*code)(void *user, uint64_t utterance, const uint8_t *code,
                                    sr_error *error);
} sri_store_sink;

/* Receives what another process has changed, in an order in which it can be applied: utterances that are
 * gone, routes that are gone (empty by then), routes whose fields are others, and what was added, in
 * ascending order of ids. An utterance that was moved is gone and added again. */
typedef struct sri_store_news {
    void *user;
    /* `routes` and `utterances` of the state are not counted. */
    SR_MUST_CHECK sr_status (*begin)(void *user, const sri_store_state *state, sr_error *error);
    /* `route` as the change that removed it named it; 0 when it did not. */
    SR_MUST_CHECK sr_status (*utterance_gone)(void *user, uint64_t id, uint64_t route,
                                              sr_error *error);
    SR_MUST_CHECK sr_status (*route_gone)(void *user, uint64_t id, sr_error *error);
    SR_MUST_CHECK sr_status (*route_set)(void *user, const sri_store_route *route, sr_error *error);
    SR_MUST_CHECK sr_status (*route)(void *user, const sri_store_route *route, sr_error *error);
    SR_MUST_CHECK sr_status (*utterance)(void *user, uint64_t id, uint64_t route, sr_str text,
                                         sr_error *error);
    SR_MUST_CHECK sr_status (*code)(void *user, uint64_t utterance, const uint8_t *code,
                                    sr_error *error);
} sri_store_news;

typedef enum sri_change_kind {
    SRI_ADD_ROUTE,     /* route, text (its name), description, metadata, threshold */
    SRI_SET_ROUTE,     /* the same: all but the name is overwritten */
    SRI_REMOVE_ROUTE,  /* route; that its utterances go too is said of each */
    SRI_ADD_UTTERANCE, /* route, utterance, text, vector */
    SRI_REMOVE_UTTERANCE, /* utterance; its vectors of all models go with it. route, for other processes' sake */
    SRI_MOVE_UTTERANCE, /* utterance, to: gives it the id `to`; its vectors stay with it. route, as above */
    SRI_ADD_VECTOR /* utterance, vector */
} sri_change_kind;

typedef struct sri_change {
    sri_change_kind kind;
    uint64_t route, utterance, to; /* ids */
    sr_str text;                   /* of an utterance, or the name of a route */
    sr_str description, metadata;
    sr_threshold threshold;
    const float *vector;
    const uint8_t *code; /* of the vector; NULL: the store makes it */
} sri_change;

typedef struct sri_commit {
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

/* Fetches fp32 rows while others write. */
typedef struct sri_store_reader sri_store_reader;

typedef struct sri_store_kind {
    /* Hands over the whole table as it is at one moment, or as it is within the group that is open; codes only
     * when `fingerprint` is not NULL, and then those of that model. One of another length than
     * `dimension` asks for is SR_ERR_FORMAT. */
    SR_MUST_CHECK sr_status (*load)(sri_store *store, const char *fingerprint, int dimension,
                                    const sri_store_sink *sink, sr_error *error);
    /* What has changed since `revision`, when `next_id` was the next; codes as in load(). `*whole`: that is not known,
     * and nothing was handed over; load() tells all. */
    SR_MUST_CHECK sr_status (*changes)(sri_store *store, uint64_t revision, uint64_t next_id,
                                       const char *fingerprint, int dimension,
                                       const sri_store_news *news, bool *whole, sr_error *error);
    /* The revision stored now, or within the group, and the serial of the fit. */
    SR_MUST_CHECK sr_status (*revision)(sri_store *store, uint64_t *revision, uint64_t *fit,
                                        sr_error *error);
    /* Opens a group: takes the write lock, waiting up to the busy timeout (SR_ERR_BUSY), makes the file when
     * it is missing, and tells what revision() does. On failure no group is open. */
    SR_MUST_CHECK sr_status (*begin)(sri_store *store, uint64_t *revision, uint64_t *fit,
                                     sr_error *error);
    /* Makes the changes of one commit within the group. The first failure dooms the group: write() and commit() fail from
     * then on, and only rollback() ends it. */
    SR_MUST_CHECK sr_status (*write)(sri_store *store, const sri_commit *commit, sr_error *error);
    /* Ends the group. It survives the death of the process; with `synced` it is on the disk, and survives a
     * loss of power. On failure the group is rolled back; save when nothing but the syncing failed (SR_ERR_IO):
     * then others may have seen it already, and it stays. So after a failure the table is to be loaded. */
    SR_MUST_CHECK sr_status (*commit)(sri_store *store, bool synced, sr_error *error);
    /* Ends the group as if it had never been; a file that it made is gone again. Nothing where none is open. */
    void (*rollback)(sri_store *store);
    /* Copies what waits in the write-ahead log into the database, when it is worth while; beside an open group, if need be.
     * For a thread that nobody waits for: what it does, commit() need not do. */
    SR_MUST_CHECK sr_status (*checkpoint)(sri_store *store, sr_error *error);
    /* A reader of the rows of one model. NULL where there is nothing to fetch: the memory store. */
    SR_MUST_CHECK sr_status (*open_reader)(sri_store *store, const char *fingerprint, int dimension,
                                           sri_store_reader **reader, sr_error *error);
    /* Hands over the fit, without its `bytes` unless `whole`; `fit` is zeroed first, and its buffers are
     * the caller's to free. */
    SR_MUST_CHECK sr_status (*load_fit)(sri_store *store, bool whole, sri_store_fit *fit,
                                        sr_error *error);
    /* Puts a fit in the place of the one before, in the group that is open or a transaction of its own, and gives its
     * serial. One that was made from a newer table stays: then nothing is done and `*serial` is 0. */
    SR_MUST_CHECK sr_status (*save_fit)(sri_store *store, const sri_store_fit *fit,
                                        uint64_t *serial, sr_error *error);
    /* Checks everything that is stored, a group that is open left out; SR_ERR_FORMAT names the first fault. */
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

/* 1: no `fits`. 2: `fits`; the route called SR_OOS_NAME holds the out-of-scope examples. 3: as sqlite_schema.c says.
 * Older ones are read as they are where they cannot be written. */
#define SRI_STORE_SCHEMA 3

/* ---- Readers ------------------------------------------------------------------------------------------ */

/* rows[i * dimension ..] takes the row of utterance ids[i], and found[i] is 1; or 0 when it is not there or
 * cannot be read (which is logged once). What was committed before the call is seen. Any order; ascending is fastest. For one
 * thread at a time. A NULL reader finds nothing. */
void sri_store_reader_fetch(sri_store_reader *reader, const uint64_t *ids, size_t n, float *rows,
                            uint8_t *found);
void sri_store_reader_close(sri_store_reader **reader); /* before its store */

/* ---- Closing ---------------------------------------------------------------------------------------------- */

static inline void sri_store_close(sri_store **store) {
    if (*store != NULL) (*store)->kind->close(*store);
    *store = NULL;
}

#endif
