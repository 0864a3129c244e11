/*
 * router_int.h - what the router's files share: the table in memory, its locks, and who may touch what.
 *
 *   writer  (mutex)   held by a mutation from its plan to its end, encoding included, and by whatever uses the
 *                     store. Guards the store, the map of texts, `next_id`, and loading the model.
 *   lock    (rwlock)  shared: while a call searches or copies. Exclusive: for the moments in which a mutation,
 *                     already durable, is put into memory, or room is reserved. Taken after `writer`.
 * What readers see is changed under both; so a holder of `writer` alone may read everything.
 */
#ifndef SRI_ROUTER_INT_H
#define SRI_ROUTER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"
#include "index/index.h"
#include "store/store.h"

/* ---- The table in memory (route_table.c) ------------------------------------------------------------ */

typedef struct utterance {
    uint64_t id; /* grows in the order of adding; read and written by the writer only */
    struct live_route *route; /* NULL while it is planned */
    struct utterance *same;   /* the next with the same text, in another route */
    uint32_t slot;            /* in the index; SRI_INDEX_NONE without a vector */
    uint32_t len;
    bool marked; /* scratch of the writer */
    char text[]; /* len bytes and a terminator */
} utterance;

typedef struct live_route {
    uint64_t id;
    uint32_t number; /* small, in the index */
    sr_threshold threshold;
    sr_str name, description, metadata; /* each its own memory */
    utterance **utterances;             /* in the order of their adding */
    size_t count;
    struct live_route *previous, *next; /* in the order of adding */
} live_route;

typedef struct route_table {
    live_route *first, *last;
    size_t routes, utterances;
    sri_map names; /* to live_route */
    sri_map texts; /* to the first utterance of a chain through `same`, whose text is the key */
    live_route **numbers; /* by number; NULL: free */
    uint32_t *free_numbers;
    size_t number_limit, number_capacity, free_capacity, free_count;
    sri_index *index; /* NULL until the model is loaded */
    utterance **by_slot;
    size_t slot_capacity;
    sri_store_state state; /* revision, next_id and models as stored */
} route_table;

static inline sr_str utterance_text(const utterance *each) {
    return (sr_str){each->text, each->len};
}

/* A new utterance without a route; NULL when memory is short. */
utterance *sri_utterance_make(sr_str text);
/* A new route that is in no table; NULL when memory is short. */
live_route *sri_live_route_make(const sri_store_route *fields);
void sri_live_route_free(live_route *route); /* not its utterances; NULL is allowed */

route_table *sri_route_table_make(void); /* empty, without an index; NULL when memory is short */
void sri_route_table_free(route_table **table);

live_route *sri_table_find(const route_table *table, sr_str name);
utterance *sri_table_find_utterance(const route_table *table, const live_route *route, sr_str text);
/* The vector of a text that some route has; NULL when there is none. */
const float *sri_table_find_vector(const route_table *table, sr_str text);

/* Makes room, so that as many of the calls below cannot fail. Readers must be kept out. */
SR_MUST_CHECK sr_status sri_table_reserve(route_table *table, size_t routes, size_t utterances,
                                          sr_error *error);
/* Gives the table an index for vectors of `dimension` floats. */
SR_MUST_CHECK sr_status sri_table_add_index(route_table *table, int dimension, sr_error *error);
void sri_table_link_route(route_table *table, live_route *route);
void sri_table_unlink_route(route_table *table, live_route *route);
/* Enters an utterance; its route's list is the caller's business. `vector` may be NULL. */
void sri_table_link_utterance(route_table *table, utterance *added, live_route *route,
                              const float *vector);
void sri_table_unlink_utterance(route_table *table, utterance *gone);

/* Reads a table from the store, with an index when `model` is not NULL. `*missing` takes the number of
 * utterances that then have no vector. */
SR_MUST_CHECK sr_status sri_table_load(sri_store *store, const sri_store_model *model,
                                       route_table **table, size_t *missing, sr_error *error);

/* ---- The router (router.c) ---------------------------------------------------------------------------- */

struct sr_router {
    char *database; /* as given; ":memory:" when nothing is kept */
    char *model;    /* NULL: the default */
    char *prefix;   /* NULL: the model's */
    size_t cache_bytes;
    int threads;
    sr_profile profile;
    unsigned flags;
    double margin;
    sr_progress_fn *progress;
    void *progress_user;
    pthread_mutex_t writer;
    pthread_rwlock_t lock;
    sri_store *store;
    route_table *table;
    sr_encoder *encoder;
    bool encoder_borrowed;
    sri_pool *pool;             /* for searching; made with the encoder */
    sri_index_scratch *scratch; /* one for each slot of the pool */
    atomic_bool ready;          /* encoder, pool and index are there; never unset */
};

/* Loads the model and the vectors if that is still to be done. */
SR_MUST_CHECK sr_status sri_router_ready(sr_router *router, sr_error *error);
/* The same for a holder of `writer`. */
SR_MUST_CHECK sr_status sri_router_ready_locked(sr_router *router, sr_error *error);
/* Loads the table again if another process has changed it. The caller holds `writer`. */
SR_MUST_CHECK sr_status sri_router_refresh(sr_router *router, sr_error *error);
/* The same for a call that reads, at its beginning: it waits for nobody. While another thread has `writer`
 * (a mutation, or a reader that does just this) the table stays as it is. */
SR_MUST_CHECK sr_status sri_router_look(sr_router *router, sr_error *error);
sri_store_model sri_router_model(const sr_router *router); /* needs the encoder */
/* Encodes texts with progress reported in between; the caller holds `writer`, and the encoder is there. */
SR_MUST_CHECK sr_status sri_router_encode(sr_router *router, const sr_str *texts, size_t count,
                                          float *vectors, sr_progress_fn *progress, void *user,
                                          sr_error *error);

#endif
