/*
 * mutation_plan.c - working out aside what a mutation does, and putting it in at once.
 *
 * A plan holds a draft for each route that is named: the fields it will have and the whole list of its
 * utterances, old ones by pointer and new ones already made. Everything that can fail happens while
 * planning; applying is the exchange of pointers and additions to places that were reserved. A plan that is
 * not applied is freed and leaves no trace.
 *
 * Order: utterances are listed by id, in the order of adding. When a route is replaced by a list in another
 * order, utterances that stay but come after a new or a later one get a new id (a move), so that the route
 * becomes exactly what was given and yet no vector is lost, this model's or another's.
 */
#include <assert.h>

#include "router/mutation_int.h"

/* ---- Drafts ------------------------------------------------------------------------------------------------ */

static void free_draft(route_draft *gone, bool applied) {
    if (!applied) sri_live_route_free(gone->made);
    sri_free(gone->new_description);
    sri_free(gone->new_metadata);
    sri_map_free(&gone->seen);
    sri_free(gone->list);
    sri_free(gone);
}

static route_draft *find_draft(const mutation_plan *plan, sr_str name) {
    uint64_t place;
    return sri_map_get(&plan->names, name, &place) ? plan->drafts[place] : NULL;
}

static route_draft *add_draft(mutation_plan *plan, sr_str name) {
    void *drafts = plan->drafts;
    bool enough =
        sri_grow(&drafts, &plan->draft_capacity, plan->draft_count + 1, sizeof(route_draft *));
    plan->drafts = drafts;
    route_draft *made = enough ? sri_alloc_zero(1, sizeof *made) : NULL;
    if (made == NULL) return NULL;
    if (!sri_map_put(&plan->names, name, plan->draft_count)) {
        sri_free(made);
        return NULL;
    }
    made->name = name;
    made->old = sri_table_find(plan->table, name);
    plan->drafts[plan->draft_count++] = made;
    return made;
}

static bool list_append(route_draft *draft, utterance *each) {
    void *list = draft->list;
    bool enough = sri_grow(&list, &draft->capacity, draft->count + 1, sizeof *draft->list);
    draft->list = list;
    if (enough) draft->list[draft->count++] = each;
    return enough;
}

static bool begin_with_old(route_draft *draft) {
    const live_route *old = draft->old;
    draft->threshold = old->threshold;
    draft->description = old->description;
    draft->metadata = old->metadata;
    for (size_t i = 0; i < old->count; i++)
        if (!list_append(draft, old->utterances[i])) return false;
    return true;
}

/* The draft of a route, begun from what it has unless it is to be replaced. */
static route_draft *draft_for(mutation_plan *plan, sr_str name, bool replace) {
    route_draft *found = find_draft(plan, name);
    if (found != NULL) return found;
    found = add_draft(plan, name);
    if (found == NULL) return NULL;
    found->replaced = replace || found->old == NULL;
    return found->replaced || begin_with_old(found) ? found : NULL;
}

/* ---- Putting ------------------------------------------------------------------------------------------------- */

static bool add_new(mutation_plan *plan, route_draft *draft, sr_str text) {
    void *adds = plan->adds;
    bool enough = sri_grow(&adds, &plan->add_capacity, plan->add_count + 1, sizeof *plan->adds);
    plan->adds = adds;
    utterance *made = enough ? sri_utterance_make(text) : NULL;
    if (made == NULL) return false;
    plan->adds[plan->add_count++] = (planned_add){made, draft, NULL};
    return list_append(draft, made);
}

static bool put_text(mutation_plan *plan, route_draft *draft, sr_str text) {
    utterance *had =
        draft->old == NULL ? NULL : sri_table_find_utterance(plan->table, draft->old, text);
    if (had != NULL || sri_map_get(&draft->seen, text, NULL)) plan->receipt.duplicates++;
    if (had != NULL && !draft->replaced) return true;
    if (sri_map_get(&draft->seen, text, NULL)) return true;
    if (!sri_map_put(&draft->seen, text, 1)) return false;
    return had != NULL ? list_append(draft, had) : add_new(plan, draft, text);
}

sr_status sri_plan_put(mutation_plan *plan, const sr_route *route, sr_put_mode mode,
                       sr_error *error) {
    route_draft *draft = draft_for(plan, route->name, mode == SR_PUT_REPLACE);
    if (draft == NULL) return sri_fail_memory(error);
    if (route->threshold != NULL) {
        draft->threshold = *route->threshold;
        if (draft->threshold.kind == SR_THRESHOLD_AUTO) draft->threshold.value = 0;
    }
    if (route->description != NULL) draft->description = *route->description;
    if (route->metadata != NULL) draft->metadata = *route->metadata;
    for (size_t i = 0; i < route->utterance_count; i++)
        if (!put_text(plan, draft, route->utterances[i])) return sri_fail_memory(error);
    return SR_OK;
}

/* ---- Removing ------------------------------------------------------------------------------------------------ */

static int shown(sr_str text) { return (int)SRI_MIN(text.len, (size_t)120); }

static sr_status no_route(sr_str name, sr_error *error) {
    if (sri_is_oos(name))
        return sri_fail(error, SR_ERR_NOT_FOUND, "texts", "there are no out-of-scope examples");
    return sri_fail(error, SR_ERR_NOT_FOUND, "name", "there is no route \"%.*s\"", shown(name),
                    name.data);
}

sr_status sri_plan_remove_route(mutation_plan *plan, sr_str name, sr_error *error) {
    if (sri_table_find(plan->table, name) == NULL) return no_route(name, error);
    route_draft *draft = draft_for(plan, name, true);
    if (draft == NULL) return sri_fail_memory(error);
    draft->removed = true;
    return SR_OK;
}

static sr_status no_utterance(sr_str name, sr_str text, sr_error *error) {
    if (sri_is_oos(name))
        return sri_fail(error, SR_ERR_NOT_FOUND, "texts",
                        "there is no out-of-scope example \"%.*s\"; nothing was removed",
                        shown(text), text.data);
    return sri_fail(error, SR_ERR_NOT_FOUND, "utterances",
                    "route \"%.*s\" has no utterance \"%.*s\"; nothing was removed", shown(name),
                    name.data, shown(text), text.data);
}

static bool keep_unmarked(route_draft *draft) {
    for (size_t i = 0; i < draft->old->count; i++)
        if (!draft->old->utterances[i]->marked && !list_append(draft, draft->old->utterances[i]))
            return false;
    return true;
}

sr_status sri_plan_remove_utterances(mutation_plan *plan, sr_str name, const sr_str *texts,
                                     size_t n, sr_error *error) {
    live_route *old = sri_table_find(plan->table, name);
    if (old == NULL) return no_route(name, error);
    route_draft *draft = draft_for(plan, name, true);
    if (draft == NULL) return sri_fail_memory(error);
    draft->threshold = old->threshold;
    draft->description = old->description;
    draft->metadata = old->metadata;
    sr_status code = SR_OK;
    for (size_t i = 0; i < n && code == SR_OK; i++) {
        utterance *gone = sri_table_find_utterance(plan->table, old, texts[i]);
        if (gone != NULL)
            gone->marked = true;
        else
            code = no_utterance(name, texts[i], error);
    }
    if (code == SR_OK && !keep_unmarked(draft)) code = sri_fail_memory(error);
    for (size_t i = 0; i < old->count; i++) old->utterances[i]->marked = false;
    return code;
}

/* ---- Finishing ------------------------------------------------------------------------------------------------- */

static bool remember_removals(mutation_plan *plan, const live_route *old) {
    for (size_t i = 0; i < old->count; i++) {
        if (old->utterances[i]->marked) continue;
        void *removals = plan->removals;
        bool enough = sri_grow(&removals, &plan->removal_capacity, plan->removal_count + 1,
                               sizeof *plan->removals);
        plan->removals = removals;
        if (!enough) return false;
        plan->removals[plan->removal_count++] = old->utterances[i];
    }
    return true;
}

/* Old utterances that are not in the list any more. */
static bool find_removals(mutation_plan *plan, const route_draft *draft) {
    if (draft->old == NULL || !draft->replaced) return true;
    for (size_t i = 0; i < draft->count; i++) draft->list[i]->marked = true;
    bool enough = remember_removals(plan, draft->old);
    for (size_t i = 0; i < draft->count; i++) draft->list[i]->marked = false;
    return enough;
}

static bool add_move(mutation_plan *plan, utterance *each) {
    void *moves = plan->moves;
    bool enough = sri_grow(&moves, &plan->move_capacity, plan->move_count + 1, sizeof *plan->moves);
    plan->moves = moves;
    if (enough) plan->moves[plan->move_count++] = (planned_move){each, plan->next_id++};
    return enough;
}

/* New utterances get ids in the order of the list; old ones that come after a higher id are moved. */
static bool give_ids(mutation_plan *plan, route_draft *draft) {
    uint64_t last = 0;
    for (size_t i = 0; i < draft->count; i++) {
        utterance *each = draft->list[i];
        if (each->route == NULL) {
            each->id = plan->next_id++;
            last = each->id;
            draft->list_changed = true;
        } else if (each->id > last) {
            last = each->id;
        } else {
            last = plan->next_id;
            draft->list_changed = true;
            if (!add_move(plan, each)) return false;
        }
    }
    return true;
}

static bool make_fields(mutation_plan *plan, route_draft *draft) {
    if (draft->old == NULL) {
        sri_store_route fields = {plan->next_id++, draft->name, draft->description, draft->metadata,
                                  draft->threshold};
        draft->made = sri_live_route_make(&fields);
        return draft->made != NULL;
    }
    const live_route *old = draft->old;
    draft->fields_changed = old->threshold.kind != draft->threshold.kind ||
                            old->threshold.value != draft->threshold.value ||
                            !sri_str_equal(old->description, draft->description) ||
                            !sri_str_equal(old->metadata, draft->metadata);
    if (!draft->fields_changed) return true;
    draft->new_description = sri_strdup(draft->description);
    draft->new_metadata = sri_strdup(draft->metadata);
    return draft->new_description != NULL && draft->new_metadata != NULL;
}

/* Out-of-scope examples are no route to those who count. */
static void count_draft(mutation_plan *plan, const route_draft *draft, size_t removals) {
    sr_receipt *receipt = &plan->receipt;
    bool changed = draft->fields_changed || draft->list_changed;
    if (sri_is_oos(draft->name)) {
        receipt->oos_removed += removals;
        plan->oos_changed = draft->removed || draft->old == NULL || changed;
        return;
    }
    receipt->utterances_removed += removals;
    if (draft->removed)
        receipt->routes_removed++;
    else if (draft->old == NULL)
        receipt->routes_added++;
    else if (changed)
        receipt->routes_changed++;
}

static bool finish_draft(mutation_plan *plan, route_draft *draft) {
    size_t removals = plan->removal_count;
    if (!find_removals(plan, draft)) return false;
    removals = plan->removal_count - removals;
    if (!draft->removed) {
        draft->list_changed = removals > 0;
        if (!make_fields(plan, draft) || !give_ids(plan, draft)) return false;
    }
    count_draft(plan, draft, removals);
    return true;
}

sr_status sri_plan_finish(mutation_plan *plan, sr_error *error) {
    plan->next_id = plan->table->state.next_id;
    for (size_t i = 0; i < plan->draft_count; i++)
        if (!finish_draft(plan, plan->drafts[i])) return sri_fail_memory(error);
    for (size_t i = 0; i < plan->add_count; i++)
        if (sri_is_oos(plan->adds[i].owner->name))
            plan->receipt.oos_added++;
        else
            plan->receipt.utterances_added++;
    return SR_OK;
}

bool sri_plan_changes_something(const mutation_plan *plan) {
    const sr_receipt *receipt = &plan->receipt;
    return plan->oos_changed ||
           receipt->routes_added + receipt->routes_changed + receipt->routes_removed > 0;
}

/* ---- Changes for the store ---------------------------------------------------------------------------------------- */

static void route_change(const route_draft *draft, sri_change **next) {
    sri_change change = {.route = draft->old != NULL ? draft->old->id : draft->made->id,
                         .text = draft->name,
                         .description = draft->description,
                         .metadata = draft->metadata,
                         .threshold = draft->threshold};
    if (draft->removed)
        change.kind = SRI_REMOVE_ROUTE;
    else if (draft->old == NULL)
        change.kind = SRI_ADD_ROUTE;
    else if (draft->fields_changed)
        change.kind = SRI_SET_ROUTE;
    else
        return;
    *(*next)++ = change;
}

sri_change *sri_plan_changes(const mutation_plan *plan, size_t *count) {
    size_t most = plan->draft_count + plan->add_count + plan->removal_count + plan->move_count;
    sri_change *changes = sri_alloc_array(most, sizeof *changes), *next = changes;
    if (changes == NULL) return NULL;
    for (size_t i = 0; i < plan->draft_count; i++) route_change(plan->drafts[i], &next);
    for (size_t i = 0; i < plan->removal_count; i++)
        *next++ = (sri_change){.kind = SRI_REMOVE_UTTERANCE,
                               .route = plan->removals[i]->route->id,
                               .utterance = plan->removals[i]->id};
    for (size_t i = 0; i < plan->move_count; i++)
        *next++ = (sri_change){.kind = SRI_MOVE_UTTERANCE,
                               .route = plan->moves[i].utterance->route->id,
                               .utterance = plan->moves[i].utterance->id,
                               .to = plan->moves[i].id};
    for (size_t i = 0; i < plan->add_count; i++) {
        const planned_add *add = &plan->adds[i];
        const live_route *route = add->owner->old != NULL ? add->owner->old : add->owner->made;
        *next++ = (sri_change){.kind = SRI_ADD_UTTERANCE,
                               .route = route->id,
                               .utterance = add->utterance->id,
                               .text = utterance_text(add->utterance),
                               .vector = add->vector};
    }
    *count = (size_t)(next - changes);
    return changes;
}

/* ---- Applying ------------------------------------------------------------------------------------------------------- */

static void swap_text(sr_str *text, char **copy, size_t len) {
    char *old = (char *)(uintptr_t)text->data;
    *text = (sr_str){*copy, len};
    *copy = old;
}

static void apply_draft(route_table *table, route_draft *draft) {
    live_route *route = draft->old;
    if (draft->removed) return;
    if (route == NULL) {
        route = draft->made;
        sri_table_link_route(table, route);
    }
    if (draft->fields_changed) {
        route->threshold = draft->threshold;
        size_t description = draft->description.len, metadata = draft->metadata.len;
        swap_text(&route->description, &draft->new_description, description);
        swap_text(&route->metadata, &draft->new_metadata, metadata);
    }
    if (draft->list_changed) sri_free(atomic_exchange(&route->fast_rows, NULL));
    utterance **old_list = route->utterances;
    route->utterances = draft->list;
    route->count = draft->count;
    draft->list = old_list;
}

/* Additions come before removals: their vectors may be rows that a removal sets free. */
void sri_plan_apply(mutation_plan *plan) {
    route_table *table = plan->table;
    for (size_t i = 0; i < plan->draft_count; i++) apply_draft(table, plan->drafts[i]);
    for (size_t i = 0; i < plan->add_count; i++) {
        const planned_add *add = &plan->adds[i];
        const route_draft *owner = add->owner;
        sri_table_link_utterance(table, add->utterance,
                                 owner->old != NULL ? owner->old : owner->made, add->vector);
    }
    for (size_t i = 0; i < plan->move_count; i++) {
        utterance *moved = plan->moves[i].utterance;
        moved->route->digest += sri_digest_of(plan->moves[i].id) - sri_digest_of(moved->id);
        moved->id = plan->moves[i].id;
        if (moved->slot != SRI_INDEX_NONE) sri_index_renumber(table->index, moved->slot, moved->id);
    }
    for (size_t i = 0; i < plan->removal_count; i++)
        sri_table_unlink_utterance(table, plan->removals[i]);
    for (size_t i = 0; i < plan->draft_count; i++)
        if (plan->drafts[i]->removed) sri_table_unlink_route(table, plan->drafts[i]->old);
    table->state.next_id = plan->next_id;
    plan->applied = true;
}

void sri_plan_free(mutation_plan *plan) {
    for (size_t i = 0; i < plan->add_count && !plan->applied; i++)
        sri_free(plan->adds[i].utterance);
    for (size_t i = 0; i < plan->removal_count && plan->applied; i++) sri_free(plan->removals[i]);
    for (size_t i = 0; i < plan->draft_count; i++) {
        if (plan->applied && plan->drafts[i]->removed) sri_live_route_free(plan->drafts[i]->old);
        free_draft(plan->drafts[i], plan->applied);
    }
    sri_map_free(&plan->names);
    sri_free(plan->drafts);
    sri_free(plan->adds);
    sri_free(plan->removals);
    sri_free(plan->moves);
    *plan = (mutation_plan){0};
}
