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
    live_route *old;  /* NULL: there is none yet */
    live_route *made; /* a new route, made by sri_plan_finish() */
    bool removed;
    bool replaced; /* `list` began empty, not with what the route had */
    bool fields_changed, list_changed;
    sr_threshold threshold;
    sr_str description, metadata;
    char *new_description, *new_metadata; /* copies for the table, where fields changed */
    sri_map seen;     /* texts in `list` beyond what the route had when it began */
    utterance **list; /* the utterances after the mutation; new ones have no route */
    size_t count, capacity;
} route_draft;

typedef struct planned_add {
    utterance *utterance;
    route_draft *owner;
    const float *vector; /* NULL until it is known */
} planned_add;

typedef struct planned_move {
    utterance *utterance;
    uint64_t id;
} planned_move;

typedef struct mutation_plan {
    route_table *table;
    sri_map names; /* of drafts, to their place in `drafts` */
    route_draft **drafts;
    size_t draft_count, draft_capacity;
    planned_add *adds;
    size_t add_count, add_capacity;
    utterance **removals; /* from routes that stay as well as with their route */
    size_t removal_count, removal_capacity;
    planned_move *moves;
    size_t move_count, move_capacity;
    uint64_t next_id;
    sr_receipt receipt;
    bool oos_changed; /* which the receipt counts otherwise than routes */
    bool applied;     /* the table owns what was made; what it had is to be freed with the plan */
} mutation_plan;

/* Each reads the table and changes nothing but the plan. The caller holds `writer`. `vectors` (NULL: to be
 * found) are those of the route's utterances, `dimension` floats each; lent until the plan is freed. */
SR_MUST_CHECK sr_status sri_plan_put(mutation_plan *plan, const sr_route *route, sr_put_mode mode,
                                     const float *vectors, size_t dimension, sr_error *error);
SR_MUST_CHECK sr_status sri_plan_remove_route(mutation_plan *plan, sr_str name, sr_error *error);
SR_MUST_CHECK sr_status sri_plan_remove_utterances(mutation_plan *plan, sr_str name,
                                                   const sr_str *texts, size_t n, sr_error *error);

/* Gives ids and collects adds, removals and moves. */
SR_MUST_CHECK sr_status sri_plan_finish(mutation_plan *plan, sr_error *error);
bool sri_plan_changes_something(const mutation_plan *plan);
/* The changes for the store; freed by sri_free. NULL when memory is short. */
sri_change *sri_plan_changes(const mutation_plan *plan, size_t *count);
/* Puts the plan into memory; cannot fail after a reservation. The caller holds both locks. */
void sri_plan_apply(mutation_plan *plan);
void sri_plan_free(mutation_plan *plan); /* leaves it empty */

#endif
