/*
 * router_int.h - what the router's files share: the table in memory, its locks, and who may touch what.
 *
 *   writer  (mutex)   held by a mutation from its plan to its end, encoding included, and by whatever uses the
 *                     store. Guards the store, the map of texts, `next_id`, and loading the model.
 *   lock    (rwlock)  shared: while a call searches or copies. Exclusive: for the moments in which a mutation,
 *                     already durable, is put into memory, or room is reserved. Taken after `writer`.
 * What readers see is changed under both; so a holder of `writer` alone may read everything.
 *   fitting (mutex)   held by the one call that fits, encoding and learning included. Taken before `writer`.
 *                     Guards the vectors of routes' names.
 */
#ifndef SRI_ROUTER_INT_H
#define SRI_ROUTER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/base.h"
#include "decide/fit.h"
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
    uint64_t digest; /* of the ids of the utterances, whatever their order */
    uint32_t place;  /* in the fit in use; NO_PLACE */
    bool pending;    /* it has utterances, and not those that the fit in use was made from */
    _Atomic(float *)
        fast_rows; /* vectors of the utterances by the fast encoder; NULL until wanted */
    struct live_route *previous, *next; /* in the order of adding */
} live_route;

typedef struct route_table {
    live_route *first, *last;
    size_t routes, utterances; /* with the hidden route */
    live_route *oos;           /* the hidden route of out-of-scope examples; NULL: there is none */
    sri_map names;             /* to live_route */
    sri_map texts; /* to the first utterance of a chain through `same`, whose text is the key */
    live_route **numbers; /* by number; NULL: free */
    uint32_t *free_numbers;
    size_t number_limit, number_capacity, free_capacity, free_count;
    sri_index *index; /* NULL until the model is loaded */
    utterance **by_slot;
    size_t slot_capacity;
    sri_store_state state; /* revision, next_id and models as stored */
} route_table;

#define NO_PLACE (UINT32_MAX - 1) /* UINT32_MAX is SRI_FIT_OUT_OF_SCOPE */

/* What the table counts for others. */
static inline size_t sri_table_routes(const route_table *table) {
    return table->routes - (table->oos != NULL);
}
static inline size_t sri_table_oos(const route_table *table) {
    return table->oos == NULL ? 0 : table->oos->count;
}
static inline size_t sri_table_utterances(const route_table *table) {
    return table->utterances - sri_table_oos(table);
}

static inline bool sri_is_oos(sr_str name) { return sri_str_equal(name, sr_str_of(SR_OOS_NAME)); }

/* The contribution of an utterance to its route's digest, which is their sum: splitmix64. */
static inline uint64_t sri_digest_of(uint64_t id) {
    id += 0x9E3779B97F4A7C15u;
    id = (id ^ (id >> 30)) * 0xBF58476D1CE4E5B9u;
    id = (id ^ (id >> 27)) * 0x94D049BB133111EBu;
    return id ^ (id >> 31);
}

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

/* The hidden route is found too. */
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

/* ---- The fit in use (fitted.c) -------------------------------------------------------------------------- */

/* A fit, and how the table has changed since it was made. All but what sri_fitted_assess() writes is
 * constant. */
typedef struct live_fit {
    uint64_t serial, revision; /* as stored */
    sr_fit_kind kind;
    sri_fit *fit; /* NULL: neighbours decide, or no model is loaded */
    double max_oos_accepted, min_precision, auto_threshold, fast_share;
    bool has_fast; /* of `fit` */
    char fast[65];
    uint64_t oos_id, oos_digest; /* 0: there were no examples */
    uint64_t *ids, *digests;     /* of routes by place; ids ascend */
    size_t count;
    live_route **routes;      /* by place; NULL: it is gone */
    uint8_t *usable, *exists; /* by place: it is as it was; it has utterances at all */
    size_t pending;           /* routes */
    bool stale;               /* fitting again would see another table */
} live_fit;

void sri_fitted_free(live_fit **gone);
/* From what is stored or will be; `*fit` (NULL: none, or not read) is taken over on success. SR_ERR_FORMAT when the
 * routes are no list or not those of the fit. */
SR_MUST_CHECK sr_status sri_fitted_make(const sri_store_fit *stored, sri_fit **fit, live_fit **made,
                                        sr_error *error);
/* The routes of a fit for the store: the hidden one's id and digest (0 and 0: none), then those of each place. */
SR_MUST_CHECK bool sri_fitted_put_route(sri_buffer *routes, uint64_t id, uint64_t digest);
/* Compares `fitted` (NULL: none) with the table; readers must be kept out. */
void sri_fitted_assess(live_fit *fitted, route_table *table);

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
    sr_durability durability; /* of changes that name none */
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
    sri_fit_scratch *judging;   /* the same */
    live_fit *fitted;           /* NULL: none; read and written as the table */
    uint64_t fit_serial;        /* of the stored fit last looked at; guarded by `writer` */
    char *fast_model;           /* as in the options */
    sr_encoder *fast; /* of the fast path; NULL until it is needed. Set once, under both locks */
    bool fast_failed; /* it could not be opened; guarded by `writer` */
    pthread_mutex_t fitting;
    struct name_vectors *names; /* of routes, from the last fit; guarded by `fitting` */
    struct refitter *refitter;  /* NULL without SR_OPEN_REFIT */
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
/* Puts a fit (NULL: none) in the place of the one in use, which is freed. The caller holds `writer`. */
void sri_router_put_fit(sr_router *router, live_fit *made);
/* Takes the stored fit if it is another than the one in use; as much of it as can be had before the model is loaded.
 * One that cannot be used is logged and left. The caller holds `writer`. */
SR_MUST_CHECK sr_status sri_router_load_fit(sr_router *router, bool ready, sr_error *error);
/* Opens the fast encoder, if there is to be one: `router->fast`. SR_OK without one; fails when it was named by
 * the caller and cannot be had. The caller holds `writer`. */
SR_MUST_CHECK sr_status sri_router_open_fast(sr_router *router, sr_error *error);
/* Checks what is stored of the fit with the model at hand. The caller holds `writer`. */
SR_MUST_CHECK sr_status sri_router_verify_fit(sr_router *router, sr_error *error);
/* Encodes texts with progress reported in between; the caller holds `writer`, and the encoder is there. */
SR_MUST_CHECK sr_status sri_router_encode(sr_router *router, const sr_str *texts, size_t count,
                                          float *vectors, sr_progress_fn *progress, void *user,
                                          sr_error *error);

/* ---- Fitting again (refit.c, refitter.c) ------------------------------------------------------------------ */

struct name_vectors;
void sri_names_free(struct name_vectors **names);

SR_MUST_CHECK sr_status sri_refitter_start(sr_router *router, sr_error *error);
void sri_refitter_stop(
    sr_router *router); /* waits for it, which takes no longer than one step of a fit */
/* Says that the table has changed: by any thread, holding any lock. */
void sri_refitter_wake(sr_router *router);

/* ---- Judging (judge.c) -------------------------------------------------------------------------------------- */

typedef struct shown_candidate {
    const live_route *route;
    const utterance *best; /* NULL: not looked for */
    double confidence, score;
} shown_candidate;

/* What came of a text. Points into the table. */
typedef struct text_answer {
    sr_outcome status;
    sr_reason reason;
    double confidence, score, margin;
    const live_route *route; /* the best candidate, if any */
    size_t count;            /* of candidates to show */
    bool fitted;
    bool settled;   /* by the fast path: the answer stands */
    bool truncated; /* by the fast path: it did not read all of the text */
} text_answer;

/* Texts to be judged in one go on the router's pool; the caller holds the shared lock. */
typedef struct judging {
    sr_router *router;
    size_t count;
    const sr_str *texts;
    const float *vectors; /* count x dimension; the slow path only */
    size_t candidates;    /* to show */
    bool no_reject;
    bool alone; /* the fast path answers all */
    text_answer *answers;
    shown_candidate *shown; /* count x candidates */
} judging;

/* False when memory is short, or the fast encoder failed. */
SR_MUST_CHECK bool sri_judge_slow(const judging *job);
SR_MUST_CHECK bool sri_judge_fast(const judging *job);

#endif
