/*
 * router_int.h - what the router's files share: who may touch what.
 *
 *   readers           take no lock: they pin the epoch and use the view that is published (table_int.h).
 *   writer  (mutex)   held by whoever changes the table or uses the store's connection, from plan to publication.
 *                     Not held while texts are encoded, nor while changes of a group are written (group_int.h).
 *   fitting (mutex)   held by the one call that fits, encoding and learning included. Taken before `writer`.
 *                     Guards the vectors of routes' names.
 */
#ifndef SRI_ROUTER_INT_H
#define SRI_ROUTER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "router/group_int.h"
#include "router/table_int.h"

/* ---- The fit in use (fitted.c) -------------------------------------------------------------------------- */

/* A fit as stored or made. Constant once published; how the table has changed since stands in views. */
typedef struct live_fit {
    sri_retired retired;
    uint64_t serial, revision; /* as stored */
    sr_fit_kind kind;
    sri_fit *fit; /* NULL: neighbours decide, or no model is loaded */
    double max_oos_accepted, min_precision, auto_threshold, fast_share;
    bool has_fast; /* of `fit` */
    char fast[65];
    uint64_t oos_id, oos_digest; /* 0: there were no examples */
    uint64_t *ids, *digests;     /* of routes by place; ids ascend */
    size_t count;
} live_fit;

/* Of a route, seen from a fit. */
typedef struct fit_relation {
    uint32_t place; /* SRI_FIT_OUT_OF_SCOPE for the hidden one */
    bool usable;    /* it has utterances, just those that the fit was made from */
    bool pending;   /* it has utterances, and others */
} fit_relation;

void sri_fitted_free(live_fit **gone);
/* From what is stored or will be; `*fit` (NULL: none, or not read) is taken over on success. SR_ERR_FORMAT when the
 * routes are no list or not those of the fit. */
SR_MUST_CHECK sr_status sri_fitted_make(const sri_store_fit *stored, sri_fit **fit, live_fit **made,
                                        sr_error *error);
/* The routes of a fit for the store: the hidden one's id and digest (0 and 0: none), then those of each place. */
SR_MUST_CHECK bool sri_fitted_put_route(sri_buffer *routes, uint64_t id, uint64_t digest);
/* NULL for a route gives one that is nowhere. */
fit_relation sri_fitted_relation(const live_fit *fitted, const live_route *route);

/* How the newest version of the table differs from the fit; the writer's. */
typedef struct fit_state {
    live_fit *fitted; /* NULL: none */
    fit_masks *masks; /* NULL without heads; replaced, not changed */
    size_t pending, usable;
    uint64_t
        reworded; /* the last revision in which a description changed that a fit learns from; 0: none */
} fit_state;

/* Makes the router's state that of a fit (NULL: none) and a whole table, and room for the view that shows it; the
 * caller publishes that. On failure all is as it was. */
SR_MUST_CHECK sr_status sri_fitted_compare(sr_router *router, live_fit *fitted,
                                           const route_table *table, sr_error *error);
/* Masks that a change may make its own; `*copy` stays NULL when none are needed. False when memory is short. */
SR_MUST_CHECK bool sri_fitted_copy_masks(const fit_state *state, fit_masks **copy);
/* A route became `now` (NULL: it is gone) in `revision`. `copy` takes what changes of the masks. */
void sri_fitted_note(fit_state *state, const live_route *before, const live_route *now,
                     uint64_t revision, fit_masks *copy);
bool sri_fitted_stale(const fit_state *state, const live_route *oos);
/* Puts a copy in the place of the masks, which are retired. */
void sri_fitted_replace_masks(sri_epoch *epoch, fit_state *state, fit_masks *masks);

/* ---- Working memory of a thread (desk.c) ------------------------------------------------------------------ */

/* Claimed for the time of a search, by compare-and-swap, from a list that only grows. */
typedef struct search_desk {
    _Alignas(64) atomic_bool taken;
    struct search_desk *next;
    struct sr_router *router;
    sri_index_scratch search;
    sri_fit_scratch judging;
    sri_index_source source;  /* gets vectors from the store through `reader` */
    sri_store_reader *reader; /* NULL until wanted */
} search_desk;

/* Waits for nobody; NULL when memory is short. */
search_desk *sri_desk_claim(struct sr_router *router);
void sri_desk_leave(search_desk *desk);
void sri_desks_free(struct sr_router *router);

/* ---- The router (router.c) ---------------------------------------------------------------------------- */

/* What only the holder of `writer` knows, as it was when somebody looked last. */
typedef struct router_figures {
    _Atomic uint64_t index_bytes, index_exact_bytes, rows_dead, waiting, lost;
} router_figures;

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
    sr_index_kind index_kind;
    sr_lost_fn *lost;
    void *lost_user;
    sr_progress_fn *progress;
    void *progress_user;

    sri_epoch *epoch;
    _Atomic(table_view *) view; /* what readers see; never NULL once open */
    _Atomic(search_desk *) desks;
    sri_pool *pool;                /* for searching; made with the encoder */
    _Atomic(sr_encoder *) encoder; /* set once */
    bool encoder_borrowed;
    _Atomic(sr_encoder *) fast; /* of the fast path; NULL until it is needed. Set once */
    atomic_bool ready;          /* encoder, pool and index are there; never unset */

    router_figures figures;

    pthread_mutex_t writer;
    sri_store *store;   /* its connection is the writer's; the leader's while a group is written */
    route_table *table; /* the newest, published or not */
    fit_state fit;      /* of `table` */
    table_view *spare;  /* the next view */
    sri_group group;
    uint64_t fit_serial; /* of the stored fit last looked at */
    char *fast_model;    /* as in the options */
    bool fast_failed;    /* it could not be opened */

    pthread_mutex_t fitting;
    struct name_vectors *names; /* of routes, from the last fit; guarded by `fitting` */
    struct refitter *refitter;  /* NULL without SR_OPEN_REFIT */
    struct sri_queue *queue;    /* made with the router */
};

/* Loads the model and the vectors if that is still to be done. */
SR_MUST_CHECK sr_status sri_router_ready(sr_router *router, sr_error *error);
/* The same for a holder of `writer`, which is released meanwhile when a group has to be ended first. */
SR_MUST_CHECK sr_status sri_router_ready_locked(sr_router *router, sr_error *error);
sri_store_model sri_router_model(const sr_router *router); /* needs the encoder */
/* Encodes texts with progress reported in between; the encoder is there. */
SR_MUST_CHECK sr_status sri_router_encode(sr_router *router, const sr_str *texts, size_t count,
                                          float *vectors, sr_progress_fn *progress, void *user,
                                          sr_error *error);

/* ---- Views (publish.c) ------------------------------------------------------------------------------------ */

/* What a reader holds between these two is good; it should be short, as nothing is released meanwhile. */
typedef struct pinned_view {
    const table_view *view;
    sri_pin pin;
} pinned_view;

static inline pinned_view sri_view_pin(const sr_router *router) {
    sri_pin pin = sri_epoch_pin(router->epoch);
    return (pinned_view){atomic_load_explicit(&router->view, memory_order_acquire), pin};
}
static inline void sri_view_unpin(pinned_view pinned) { sri_epoch_unpin(pinned.pin); }

/* Makes room for the next view. The caller holds `writer`, here and below. */
SR_MUST_CHECK sr_status sri_view_reserve(sr_router *router, sr_error *error);
/* Shows readers table and fit as they are now; room must have been reserved. Releases what nobody sees. */
void sri_view_publish(sr_router *router);

/* Of the view that a copy was made of. */
uint64_t sri_table_version(const sr_table *table);
/* A copy of some routes (the hidden one is left out) of a view that the caller has pinned; NULL when memory is short. */
sr_table *sri_table_copy(const table_view *view, const live_route *const *routes, size_t count,
                         bool with_utterances);

/* ---- The table and the store (reload.c). The caller holds `writer`, and no group is open ---------------------- */

/* Loads the table: with vectors when `complete`. */
SR_MUST_CHECK sr_status sri_router_load_table(sr_router *router, bool complete, sr_error *error);
/* Brings the table to what is stored if another process has changed it. */
SR_MUST_CHECK sr_status sri_router_refresh(sr_router *router, sr_error *error);
/* The same for a call that reads, at its beginning, without `writer`: it waits for nobody. While another thread
 * changes the table, or has a group open (so that nobody else can write), the table stays as it is. */
SR_MUST_CHECK sr_status sri_router_look(sr_router *router, sr_error *error);

/* ---- The fit in the router (fitted.c). The caller holds `writer`, and no group is open ------------------------- */

/* Puts a fit (NULL: none) in the place of the one in use; it is taken over, on success. */
SR_MUST_CHECK sr_status sri_router_put_fit(sr_router *router, live_fit **made, sr_error *error);
/* Takes the stored fit if it is another than the one in use; as much of it as can be had before the model is loaded.
 * One that cannot be used is logged and left. */
SR_MUST_CHECK sr_status sri_router_load_fit(sr_router *router, bool ready, sr_error *error);
/* Opens the fast encoder, if there is to be one: `router->fast`. SR_OK without one; fails when it was named by
 * the caller and cannot be had. */
SR_MUST_CHECK sr_status sri_router_open_fast(sr_router *router, sr_error *error);
/* Checks what is stored of the fit with the model at hand. */
SR_MUST_CHECK sr_status sri_router_verify_fit(sr_router *router, sr_error *error);

/* ---- Fitting again (refit.c, refitter.c) ------------------------------------------------------------------ */

/* Sets the threshold of a route that was seen with this id; SR_ERR_NOT_FOUND when it has gone since (mutation.c). */
SR_MUST_CHECK sr_status sri_router_set_threshold(sr_router *router, sr_str name, uint64_t id,
                                                 const sr_threshold *threshold, sr_error *error);

struct name_vectors;
void sri_names_free(struct name_vectors **names);

SR_MUST_CHECK sr_status sri_refitter_start(sr_router *router, sr_error *error);
void sri_refitter_stop(
    sr_router *router); /* waits for it, which takes no longer than one step of a fit */
/* Says that the table has changed: by any thread, holding any lock. */
void sri_refitter_wake(sr_router *router);

/* ---- The queue (queue.c) ---------------------------------------------------------------------------------- */

SR_MUST_CHECK sr_status sri_queue_open(sr_router *router, sr_error *error);
/* Answers all that was accepted, and ends the queue's threads. */
void sri_queue_close(sr_router *router);

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

/* Texts to be judged in one go, by one view that the caller has pinned. */
typedef struct judging {
    sr_router *router;
    const table_view *view;
    size_t count;
    const sr_str *texts;
    const float *vectors; /* count x dimension; the slow path only */
    size_t candidates;    /* to show */
    bool no_reject;
    bool alone; /* the fast path answers all */
    bool here;  /* nothing is shared out to other threads */
    text_answer *answers;
    shown_candidate *shown; /* count x candidates */
    uint64_t search_ns;     /* takes the time that threads spent in the index, on the slow path */
    uint64_t task_ns;       /* and in all, added up */
} judging;

/* False when memory is short, or the fast encoder failed. */
SR_MUST_CHECK bool sri_judge_slow(judging *job);
SR_MUST_CHECK bool sri_judge_fast(const judging *job);

#endif
