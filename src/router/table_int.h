/*
 * table_int.h - the table in memory, and the view of it that readers pin.
 *
 * One table holds many versions. The writer adds to it and publishes a table_view, which names a version; a reader
 * sees what was born in that version or before, and has not died by then:
 *
 *   rows of the index   by their `born` and `died`
 *   routes              a number leads to the newest version of its route, each of which leads to the one before
 *   utterances          stand in a list that the versions of a route share (utterance_list.c)
 *
 * What is published never changes, so that readers need no lock: they pin the epoch (base/epoch.h), load the view,
 * and unpin when they are done. What a change has made unreachable is released when the last reader that might
 * see it has gone. Fields marked as the writer's are read and written by the holder of `writer` alone.
 */
#ifndef SRI_TABLE_INT_H
#define SRI_TABLE_INT_H

#include <stdatomic.h>

#include "base/base.h"
#include "base/epoch.h"
#include "base/steady.h"
#include "decide/fit.h"
#include "index/index.h"
#include "store/store.h"

typedef struct utterance {
    uint64_t id;            /* grows in the order of adding */
    struct utterance *same; /* the writer's: the next with the same text, in another route */
    _Atomic(uint32_t) slot; /* in the index; SRI_INDEX_NONE without a vector */
    uint32_t number;        /* the writer's: of its route; SRI_INDEX_NONE while it is planned */
    uint32_t len;
    bool marked, gone; /* the writer's: scratch; no route lists it any more */
    char text[];       /* len bytes and a terminator */
} utterance;

/* Utterances of one route, in the order of their adding, which is that of their ids. */
typedef struct utterance_list {
    /* For readers: the first version without what stands at a place, SRI_INDEX_FOREVER while it lives; NULL: all live. */
    _Atomic(_Atomic(uint64_t) *) died;
    /* The writer's: versions of the route that use it, places taken and those whose utterance is gone. */
    uint32_t versions, used, dead, capacity;
    utterance *entries[];
} utterance_list;

/* One version of a route. */
typedef struct live_route {
    sri_retired retired;
    struct live_route *older; /* the version before; may be released when nobody needs it */
    struct route_table *table;
    uint64_t born;
    uint64_t id, digest; /* the digest is of the utterances' ids, whatever their order */
    uint32_t number;     /* small, in the index */
    bool last;           /* the writer's: the route was removed, and its number is free with this */
    sr_threshold threshold;
    sr_str name, description, metadata; /* in the same piece of memory */
    utterance_list *list;               /* shared; NULL: it has none */
    size_t limit, count; /* places in the list that this version looks at, and utterances there */
    utterance **removed; /* the writer's: what the change after this version took away */
    size_t removed_count;
    _Atomic(float *)
        fast_rows; /* vectors of the utterances by the fast encoder; NULL until wanted */
} live_route;

/* Where a number leads. */
typedef struct route_place {
    _Atomic(live_route *) newest;
    _Atomic(uint64_t) gone; /* the first version that has no such route; SRI_INDEX_FOREVER */
    _Atomic(uint64_t) hash; /* of its name, for readers that look for one */
} route_place;

typedef struct route_table {
    sri_retired retired;
    sri_epoch *epoch;             /* borrowed */
    sri_steady places;            /* of route_place, by number */
    _Atomic(size_t) number_limit; /* every number is below this */
    sri_index *index;             /* NULL until the model is loaded */
    /* The rest is the writer's. */
    uint64_t next_version;     /* that changes made now will appear in */
    size_t routes, utterances; /* with the hidden route */
    const live_route *oos;     /* the hidden route of out-of-scope examples; NULL: there is none */
    sri_map names;             /* to the newest live_route */
    sri_map texts; /* to the first utterance of a chain through `same`, whose text is the key */
    uint32_t *free_numbers;
    size_t free_capacity, free_count;
    sri_store_state state; /* revision, next_id and models as stored, or as they will be */
    /* The last revision and the next id of changes that were shown and lost: not to be given to others. */
    uint64_t spent_revision, spent_id;
} route_table;

#define NO_PLACE (UINT32_MAX - 1) /* UINT32_MAX is SRI_FIT_OUT_OF_SCOPE */

/* ---- What readers see (publish.c) ------------------------------------------------------------------ */

/* For a fit with heads: what has become of its routes, by place. Constant once published. */
typedef struct fit_masks {
    sri_retired retired;
    size_t count;
    uint32_t *numbers;        /* of the routes that exist */
    uint8_t *usable, *exists; /* it is as it was; it has utterances at all */
} fit_masks;

typedef struct table_view {
    sri_retired retired;
    uint64_t
        version; /* grows by one with each view, so that it tells states of table and fit apart */
    uint64_t revision; /* decreases only when deferred changes are lost */
    const route_table *table;
    sri_store_state state;
    size_t routes, utterances, oos_count; /* the first two without the hidden route */
    const live_route *oos;
    const struct live_fit *fitted; /* NULL: none */
    const fit_masks *masks;        /* NULL: `fitted` has no heads that can be used */
    size_t pending; /* routes that have utterances, and not those that the fit was made from */
    bool stale;     /* fitting again would see another table */
} table_view;

/* The route of a number, as the view has it; NULL when it has none. */
static inline const live_route *sri_view_route(const table_view *view, uint32_t number) {
    const route_place *place = sri_steady_at(&view->table->places, number);
    if (atomic_load_explicit(&place->gone, memory_order_acquire) <= view->version) return NULL;
    const live_route *route = atomic_load_explicit(&place->newest, memory_order_acquire);
    while (route != NULL && route->born > view->version) route = route->older;
    return route;
}

/* The route of that name, the hidden one too; NULL when there is none. Looks at all numbers. */
const live_route *sri_view_find(const table_view *view, sr_str name);
/* All routes in the order of adding, the hidden one too; freed by sri_free. NULL when memory is short. */
const live_route **sri_view_routes(const table_view *view, size_t *count);
/* The one of that id among such a list; NULL when there is none. */
const live_route *sri_routes_find(const live_route *const *routes, size_t count, uint64_t id);

/* The utterance of a version of a route at `*place` or, where none is there, at the next one that has one; `*place` becomes
 * the place after it. NULL at the end. Begin with 0. */
static inline utterance *sri_route_next(const live_route *route, size_t *place) {
    if (route->list == NULL) return NULL;
    _Atomic(uint64_t) *died = atomic_load_explicit(&route->list->died, memory_order_acquire);
    for (; *place < route->limit; (*place)++) {
        if (died != NULL &&
            atomic_load_explicit(&died[*place], memory_order_relaxed) <= route->born)
            continue;
        return route->list->entries[(*place)++];
    }
    return NULL;
}

/* ---- Utterances and versions of routes (route_table.c) -------------------------------------------------- */

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
static inline uint32_t utterance_slot(const utterance *each) {
    return atomic_load_explicit(&each->slot, memory_order_acquire);
}

/* A new utterance without a route; NULL when memory is short. */
utterance *sri_utterance_make(sr_str text);
/* A new version of a route that is in no table; NULL when memory is short. */
live_route *sri_live_route_make(const sri_store_route *fields);
/* With its lists, not with the utterances in them; NULL is allowed. */
void sri_live_route_free(live_route *route);

/* ---- Lists of utterances (utterance_list.c). For the writer --------------------------------------------------- */

/* Empty, used by no version; NULL when memory is short. */
utterance_list *sri_list_make(size_t capacity);
/* Takes the next place, which must be there. No version sees it that does not count it. */
void sri_list_append(utterance_list *list, utterance *added);
/* Whether the next version should go on with this list (NULL: there is none). */
bool sri_list_takes(const utterance_list *list, size_t adds, size_t removals);
/* Makes room, so that sri_list_remove() cannot fail. */
SR_MUST_CHECK bool sri_list_prepare_removals(utterance_list *list);
/* From `version` on the route is without one of its utterances, whose list stays in use. */
void sri_list_remove(const live_route *route, const utterance *gone, uint64_t version);
/* The utterance of that id; NULL when this version has none. */
utterance *sri_route_utterance(const live_route *route, uint64_t id);
/* A version begins to use a list, and ceases to, when the last one frees it. */
void sri_route_use(live_route *route, utterance_list *list);
void sri_route_leave(live_route *route);

/* ---- The table. All for the writer ------------------------------------------------------------------------ */

/* Empty, without an index; NULL when memory is short. */
route_table *sri_route_table_make(sri_epoch *epoch, uint64_t next_version);
/* With all that lives in it; nobody may see it any more. */
void sri_route_table_free(route_table **table);
/* The same once nobody sees it. */
void sri_route_table_retire(route_table **table);

/* The newest version, published or not; the hidden route is found too. */
live_route *sri_table_find(const route_table *table, sr_str name);
utterance *sri_table_find_utterance(const route_table *table, const live_route *route, sr_str text);
/* An utterance of that text with a vector, whatever its route; NULL when there is none. */
const utterance *sri_table_find_vector(const route_table *table, sr_str text);

/* Makes room, so that as many of the calls below cannot fail; `vectors` of the utterances come with more than a code. */
SR_MUST_CHECK sr_status sri_table_reserve(route_table *table, size_t routes, size_t utterances,
                                          size_t vectors, sr_error *error);
/* Gives the table an index for vectors of `dimension` floats, otherwise as `wanted` says. */
SR_MUST_CHECK sr_status sri_table_add_index(route_table *table, int dimension,
                                            const sri_index_options *wanted, sr_error *error);
/* Puts a new route, or a new version of one (`old`, which is retired and has the same number), in its place. */
void sri_table_put_route(route_table *table, live_route *route, live_route *old);
/* From the next version on the route is not there; its utterances are to be unlinked by the caller. */
void sri_table_remove_route(route_table *table, live_route *route);
/* Enters an utterance that a version of `route` lists. */
void sri_table_link_utterance(route_table *table, utterance *added, const live_route *route);
/* Puts its vector, or its code, or what `from` has, into the index. */
void sri_table_add_vector(route_table *table, utterance *owner, const float *vector,
                          const uint8_t *code, const utterance *from, bool durable);
void sri_table_unlink_utterance(route_table *table, utterance *gone);
/* Lets the index move some rows out of places that are mostly dead, after `removed` more have died. */
void sri_table_compact(route_table *table, size_t removed);

/* Reads a table from the store, with an index when `model` is not NULL. `*missing` takes the number of
 * utterances that then have no vector (table_load.c). */
SR_MUST_CHECK sr_status sri_table_load(sri_store *store, const sri_store_model *model,
                                       const sri_index_options *wanted, sri_epoch *epoch,
                                       uint64_t version, route_table **table, size_t *missing,
                                       sr_error *error);

#endif
