/*
 * mutation_int.h - the plan of a mutation: what will become of each route it names (mutation_plan.c), and
 * how that is carried out (mutation.c).
 */
#ifndef SRI_MUTATION_INT_H
#define SRI_MUTATION_INT_H

#include "router/router_int.h"

/* What becomes of one route. Strings are borrowed from the table or from the caller. */
typedef struct route_draft {
    sr_str name;
    uint64_t id;      /* of a new route, where it is known; 0: to be given */
    live_route *old;  /* NULL: there is none yet */
    live_route *made; /* the version to be; NULL when the route is removed, or nothing changes */
    bool removed;
    bool replaced; /* `list` is all that it will have, not what is added to the old version's */
    bool fields_changed, list_changed;
    sr_threshold threshold;
    sr_str description, metadata;
    sri_map seen;     /* texts in `list` */
    utterance **list; /* new utterances have no number */
    size_t count, capacity;
    utterance **gone; /* of the old version: what is removed, and what is moved */
    size_t gone_count, gone_capacity;
} route_draft;

typedef struct planned_add {
    utterance *utterance;
    route_draft *owner;
    const float *vector; /* NULL until it is known */
    const uint8_t *code; /* instead of a vector: of what another process has added */
    utterance *from;     /* of equal text, which gets this place in the order; NULL: it is new */
} planned_add;

typedef struct mutation_plan {
    route_table *table;
    sri_map names; /* of drafts, to their place in `drafts` */
    route_draft **drafts;
    size_t draft_count, draft_capacity;
    planned_add *adds; /* moves too */
    size_t add_count, add_capacity;
    size_t removals; /* utterances, with their route or without; not moves */
    size_t moves;
    uint64_t next_id;
    sr_receipt receipt;
    bool oos_changed; /* which the receipt counts otherwise than routes */
    bool applied;     /* the table owns what was made */
} mutation_plan;

/* Each reads the table and changes nothing but the plan. The caller holds `writer`. `vectors` (NULL: to be
 * found) are those of the route's utterances, `dimension` floats each; lent until the plan is freed. */
SR_MUST_CHECK sr_status sri_plan_put(mutation_plan *plan, const sr_route *route, sr_put_mode mode,
                                     const float *vectors, size_t dimension, sr_error *error);
SR_MUST_CHECK sr_status sri_plan_remove_route(mutation_plan *plan, sr_str name, sr_error *error);
SR_MUST_CHECK sr_status sri_plan_remove_utterances(mutation_plan *plan, sr_str name,
                                                   const sr_str *texts, size_t n, sr_error *error);

/* For what another process has changed (news.c). The draft of a route, begun from what it has; NULL when memory is
 * short. */
route_draft *sri_plan_draft(mutation_plan *plan, sr_str name);
/* Another utterance, with an id, at the end of a draft's list. */
SR_MUST_CHECK bool sri_plan_add(mutation_plan *plan, route_draft *draft, uint64_t id, sr_str text);
/* An utterance of the old version is to go; it is marked until sri_plan_unmark(). */
SR_MUST_CHECK bool sri_plan_drop(route_draft *draft, utterance *gone);
void sri_plan_unmark(const mutation_plan *plan);
/* Utterances that the route will have. */
size_t sri_draft_count(const route_draft *draft);

/* Gives ids, collects what is removed and moved, makes the versions to be. */
SR_MUST_CHECK sr_status sri_plan_finish(mutation_plan *plan, sr_error *error);
bool sri_plan_changes_something(const mutation_plan *plan);
/* A record of the changes for the store, with additions and vectors, which are the plan's. NULL when memory is short. */
group_record *sri_plan_record(const mutation_plan *plan);
/* Puts the plan into memory; cannot fail after a reservation. What it adds is in the store when `durable`. */
void sri_plan_apply(mutation_plan *plan, bool durable);
/* Lets the record have the vectors that the index holds, for a caller who does not wait. After applying, with a group open. */
void sri_plan_lend(const mutation_plan *plan, group_record *record, size_t dimension);
void sri_plan_free(mutation_plan *plan); /* leaves it empty */

/* ---- In the router (mutation.c) ---------------------------------------------------------------------------------- */

/* Makes room for a plan, `vectors` of whose additions bring one, and for the view after it; `*masks` takes a copy of the
 * fit's, if the plan changes them. */
SR_MUST_CHECK sr_status sri_mutation_reserve(sr_router *router, const mutation_plan *plan,
                                             size_t vectors, fit_masks **masks, sr_error *error);
/* Puts a plan into memory, where it is not yet shown. Cannot fail. */
void sri_mutation_apply(sr_router *router, mutation_plan *plan, fit_masks *masks, bool durable);

/* ---- What another process has changed (news.c) -------------------------------------------------------------------- */

/* Brings the table to what is stored by the changes alone. `*whole`: that cannot be done, and the table is as it was; it
 * is to be loaded. The caller holds `writer`, and no group is open. */
SR_MUST_CHECK sr_status sri_news_apply(sr_router *router, bool *whole, sr_error *error);

#endif
