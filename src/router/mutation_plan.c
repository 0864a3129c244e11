/*
 * mutation_plan.c - working out aside what a mutation does, and putting it in at once.
 *
 * A plan holds a draft for each route that is named: the fields it will have and what becomes of its utterances: those that
 * come and those that go; or, of a route that is replaced, the whole list, old ones by pointer. New ones are already made. Everything that can fail happens while
 * planning; applying puts new versions of the routes before the old ones and rows into places that were reserved. A
 * plan that is not applied is freed and leaves no trace.
 *
 * Order: utterances are listed by id, in the order of adding. When a route is replaced by a list in another
 * order, utterances that stay but come after a new or a later one get a new id (a move), so that the route
 * becomes exactly what was given and yet no vector is lost, this model's or another's. To readers, who may still see the
 * old order, a move is a removal and an addition.
 */
#include <assert.h>

#include "router/mutation_int.h"

/* ---- Drafts ------------------------------------------------------------------------------------------------ */

/* What was applied has given its version and its lists away. */
static void free_draft(route_draft *gone) {
    sri_live_route_free(gone->made);
    sri_map_free(&gone->seen);
    sri_free(gone->list);
    sri_free(gone->gone);
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

static bool gone_append(route_draft *draft, utterance *each) {
    void *gone = draft->gone;
    bool enough =
        sri_grow(&gone, &draft->gone_capacity, draft->gone_count + 1, sizeof *draft->gone);
    draft->gone = gone;
    if (enough) draft->gone[draft->gone_count++] = each;
    return enough;
}

static void begin_with_old(route_draft *draft) {
    const live_route *old = draft->old;
    draft->threshold = old->threshold;
    draft->description = old->description;
    draft->metadata = old->metadata;
}

/* The draft of a route, begun from what it has unless it is to be replaced. */
static route_draft *draft_for(mutation_plan *plan, sr_str name, bool replace) {
    route_draft *found = find_draft(plan, name);
    if (found != NULL) return found;
    found = add_draft(plan, name);
    if (found == NULL) return NULL;
    found->replaced = replace || found->old == NULL;
    if (!found->replaced) begin_with_old(found);
    return found;
}

route_draft *sri_plan_draft(mutation_plan *plan, sr_str name) {
    return draft_for(plan, name, false);
}

/* ---- Putting ------------------------------------------------------------------------------------------------- */

/* A new utterance, not yet in a list; NULL when memory is short. */
static utterance *plan_add(mutation_plan *plan, const planned_add *as, sr_str text) {
    void *adds = plan->adds;
    bool enough = sri_grow(&adds, &plan->add_capacity, plan->add_count + 1, sizeof *plan->adds);
    plan->adds = adds;
    utterance *made = enough ? sri_utterance_make(text) : NULL;
    if (made == NULL) return NULL;
    plan->adds[plan->add_count] = *as;
    plan->adds[plan->add_count++].utterance = made;
    return made;
}

static bool add_new(mutation_plan *plan, route_draft *draft, sr_str text, const float *vector) {
    planned_add as = {.owner = draft, .vector = vector};
    utterance *made = plan_add(plan, &as, text);
    return made != NULL && list_append(draft, made);
}

bool sri_plan_add(mutation_plan *plan, route_draft *draft, uint64_t id, sr_str text) {
    if (!add_new(plan, draft, text, NULL)) return false;
    plan->adds[plan->add_count - 1].utterance->id = id;
    return true;
}

static bool put_text(mutation_plan *plan, route_draft *draft, sr_str text, const float *vector) {
    utterance *had =
        draft->old == NULL ? NULL : sri_table_find_utterance(plan->table, draft->old, text);
    if (had != NULL || sri_map_get(&draft->seen, text, NULL)) plan->receipt.duplicates++;
    if (had != NULL && !draft->replaced) return true;
    if (sri_map_get(&draft->seen, text, NULL)) return true;
    if (!sri_map_put(&draft->seen, text, 1)) return false;
    return had != NULL ? list_append(draft, had) : add_new(plan, draft, text, vector);
}

sr_status sri_plan_put(mutation_plan *plan, const sr_route *route, sr_put_mode mode,
                       const float *vectors, size_t dimension, sr_error *error) {
    route_draft *draft = draft_for(plan, route->name, mode == SR_PUT_REPLACE);
    if (draft == NULL) return sri_fail_memory(error);
    if (route->threshold != NULL) {
        draft->threshold = *route->threshold;
        if (draft->threshold.kind == SR_THRESHOLD_AUTO) draft->threshold.value = 0;
    }
    if (route->description != NULL) draft->description = *route->description;
    if (route->metadata != NULL) draft->metadata = *route->metadata;
    for (size_t i = 0; i < route->utterance_count; i++)
        if (!put_text(plan, draft, route->utterances[i],
                      vectors == NULL ? NULL : vectors + i * dimension))
            return sri_fail_memory(error);
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

bool sri_plan_drop(route_draft *draft, utterance *gone) {
    gone->marked = gone_append(draft, gone);
    return gone->marked;
}

static void mark_gone(const route_draft *draft, bool marked) {
    for (size_t i = 0; i < draft->gone_count; i++) draft->gone[i]->marked = marked;
}

void sri_plan_unmark(const mutation_plan *plan) {
    for (size_t i = 0; i < plan->draft_count; i++) mark_gone(plan->drafts[i], false);
}

size_t sri_draft_count(const route_draft *draft) {
    size_t kept = draft->replaced ? 0 : draft->old->count - draft->gone_count;
    return kept + draft->count;
}

sr_status sri_plan_remove_utterances(mutation_plan *plan, sr_str name, const sr_str *texts,
                                     size_t n, sr_error *error) {
    live_route *old = sri_table_find(plan->table, name);
    if (old == NULL) return no_route(name, error);
    route_draft *draft = draft_for(plan, name, false);
    if (draft == NULL) return sri_fail_memory(error);
    sr_status code = SR_OK;
    for (size_t i = 0; i < n && code == SR_OK; i++) {
        utterance *gone = sri_table_find_utterance(plan->table, old, texts[i]);
        if (gone == NULL)
            code = no_utterance(name, texts[i], error);
        else if (!gone->marked && !sri_plan_drop(draft, gone))
            code = sri_fail_memory(error);
    }
    sri_plan_unmark(plan);
    return code;
}

/* ---- Finishing ------------------------------------------------------------------------------------------------- */

static bool remember_removals(route_draft *draft) {
    utterance *each;
    for (size_t at = 0; (each = sri_route_next(draft->old, &at)) != NULL;)
        if (!each->marked && !gone_append(draft, each)) return false;
    return true;
}

/* Old utterances that are not in the list any more. */
static bool find_removals(route_draft *draft) {
    if (draft->old == NULL || !draft->replaced) return true;
    for (size_t i = 0; i < draft->count; i++) draft->list[i]->marked = true;
    bool enough = remember_removals(draft);
    for (size_t i = 0; i < draft->count; i++) draft->list[i]->marked = false;
    return enough;
}

/* Another utterance in the place of one that gets a new id. */
static bool move(mutation_plan *plan, route_draft *draft, utterance **each) {
    planned_add as = {.owner = draft, .from = *each};
    utterance *made = plan_add(plan, &as, utterance_text(*each));
    if (made == NULL || !gone_append(draft, *each)) return false;
    *each = made;
    plan->moves++;
    return true;
}

/* New utterances get ids in the order of the list; old ones that come after a higher id are moved. */
static bool give_ids(mutation_plan *plan, route_draft *draft) {
    uint64_t last = 0;
    for (size_t i = 0; i < draft->count; i++) {
        utterance **each = &draft->list[i];
        bool old = (*each)->number != SRI_INDEX_NONE;
        if (old && (*each)->id > last) {
            last = (*each)->id;
            continue;
        }
        if (old && !move(plan, draft, each)) return false;
        if ((*each)->id == 0) (*each)->id = plan->next_id++;
        last = (*each)->id;
        draft->list_changed = true;
    }
    return true;
}

static bool same_fields(const route_draft *draft) {
    const live_route *old = draft->old;
    return old->threshold.kind == draft->threshold.kind &&
           old->threshold.value == draft->threshold.value &&
           sri_str_equal(old->description, draft->description) &&
           sri_str_equal(old->metadata, draft->metadata);
}

/* Another list, with what the new version keeps of the old one and with what is in the draft. */
static utterance_list *succeed(const route_draft *draft) {
    size_t count = sri_draft_count(draft);
    bool grows = !draft->replaced && draft->count > 0;
    utterance_list *made = sri_list_make(grows ? count + count / 2 : count);
    utterance *each;
    if (made == NULL) return NULL;
    mark_gone(draft, true);
    for (size_t at = 0; !draft->replaced && (each = sri_route_next(draft->old, &at)) != NULL;)
        if (!each->marked) sri_list_append(made, each);
    mark_gone(draft, false);
    for (size_t i = 0; i < draft->count; i++) sri_list_append(made, draft->list[i]);
    return made;
}

/* Gives the new version a list: the old one's, which changes when the plan is applied, or another. */
static bool take_list(route_draft *draft) {
    live_route *made = draft->made;
    utterance_list *list = draft->replaced ? NULL : draft->old->list;
    made->count = sri_draft_count(draft);
    if (made->count == 0) return true;
    if (sri_list_takes(list, draft->count, draft->gone_count)) {
        made->limit = list->used + draft->count;
        if (draft->gone_count > 0 && !sri_list_prepare_removals(list)) return false;
    } else {
        list = succeed(draft);
        made->limit = made->count;
    }
    if (list != NULL) sri_route_use(made, list);
    return list != NULL;
}

static uint64_t digest_of(utterance *const *list, size_t count) {
    uint64_t digest = 0;
    for (size_t i = 0; i < count; i++) digest += sri_digest_of(list[i]->id);
    return digest;
}

static bool make_version(mutation_plan *plan, route_draft *draft) {
    const live_route *old = draft->old;
    draft->fields_changed = old != NULL && !same_fields(draft);
    /* A new route has an id below those of its utterances. */
    uint64_t id = old != NULL ? old->id : draft->id != 0 ? draft->id : plan->next_id++;
    if (!give_ids(plan, draft)) return false;
    if (old != NULL && !draft->fields_changed && !draft->list_changed) return true;
    sri_store_route fields = {id, draft->name, draft->description, draft->metadata,
                              draft->threshold};
    draft->made = sri_live_route_make(&fields);
    if (draft->made == NULL) return false;
    if (old != NULL) draft->made->number = old->number;
    draft->made->digest = digest_of(draft->list, draft->count);
    if (!draft->replaced)
        draft->made->digest += old->digest - digest_of(draft->gone, draft->gone_count);
    return take_list(draft);
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
    if (!find_removals(draft)) return false;
    size_t removals = draft->gone_count;
    draft->list_changed = removals > 0;
    if (!draft->removed && !make_version(plan, draft)) return false;
    plan->removals += removals;
    count_draft(plan, draft, removals);
    return true;
}

sr_status sri_plan_finish(mutation_plan *plan, sr_error *error) {
    if (plan->next_id == 0)
        plan->next_id = SRI_MAX(plan->table->state.next_id, plan->table->spent_id);
    for (size_t i = 0; i < plan->draft_count; i++)
        if (!finish_draft(plan, plan->drafts[i])) return sri_fail_memory(error);
    for (size_t i = 0; i < plan->add_count; i++) {
        if (plan->adds[i].from != NULL) continue;
        if (sri_is_oos(plan->adds[i].owner->name))
            plan->receipt.oos_added++;
        else
            plan->receipt.utterances_added++;
    }
    return SR_OK;
}

bool sri_plan_changes_something(const mutation_plan *plan) {
    const sr_receipt *receipt = &plan->receipt;
    return plan->oos_changed ||
           receipt->routes_added + receipt->routes_changed + receipt->routes_removed > 0;
}

/* ---- Changes for the store ---------------------------------------------------------------------------------------- */

static void put_removals(const route_draft *draft, sri_change **next) {
    for (size_t i = 0; i < draft->gone_count; i++)
        if (!draft->gone[i]->marked) /* a move otherwise */
            *(*next)++ = (sri_change){.kind = SRI_REMOVE_UTTERANCE,
                                      .route = draft->old->id,
                                      .utterance = draft->gone[i]->id};
}

/* The texts of a version live as long as the group that the change is in. */
static void put_route(const route_draft *draft, sri_change **next) {
    const live_route *shown = draft->made != NULL ? draft->made : draft->old;
    sri_change change = {.route = shown->id,
                         .text = shown->name,
                         .description = shown->description,
                         .metadata = shown->metadata,
                         .threshold = shown->threshold};
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

static void put_add(const planned_add *add, sri_change **next) {
    const route_draft *owner = add->owner;
    sri_change change = {.kind = SRI_ADD_UTTERANCE,
                         .route = owner->made->id,
                         .utterance = add->utterance->id,
                         .text = utterance_text(add->utterance),
                         .vector = add->vector};
    if (add->from != NULL)
        change = (sri_change){
            .kind = SRI_MOVE_UTTERANCE, .utterance = add->from->id, .to = add->utterance->id};
    *(*next)++ = change;
}

static void mark_moved(const mutation_plan *plan, bool marked) {
    for (size_t i = 0; i < plan->add_count && plan->moves > 0; i++)
        if (plan->adds[i].from != NULL) plan->adds[i].from->marked = marked;
}

group_record *sri_plan_record(const mutation_plan *plan) {
    group_record *record =
        sri_group_record(plan->draft_count + plan->add_count + plan->removals, plan->add_count);
    if (record == NULL) return NULL;
    sri_change *next = record->changes;
    mark_moved(plan, true);
    for (size_t i = 0; i < plan->draft_count; i++) put_removals(plan->drafts[i], &next);
    mark_moved(plan, false);
    for (size_t i = 0; i < plan->draft_count; i++) put_route(plan->drafts[i], &next);
    for (size_t i = 0; i < plan->add_count; i++) {
        put_add(&plan->adds[i], &next);
        record->adds[i] = plan->adds[i].utterance;
    }
    record->add_count = plan->add_count;
    record->commit.changes = record->changes;
    record->commit.count = (size_t)(next - record->changes);
    return record;
}

/* What is not in the store yet the index holds, and while the group is open releases nothing of it. */
void sri_plan_lend(const mutation_plan *plan, group_record *record, size_t dimension) {
    sri_change *added = record->changes + record->commit.count - plan->add_count;
    for (size_t i = 0; i < plan->add_count; i++) {
        if (added[i].vector == NULL) continue;
        added[i].vector =
            sri_index_held(plan->table->index, utterance_slot(plan->adds[i].utterance));
        assert(added[i].vector != NULL);
        record->bytes += dimension * sizeof(float);
    }
}

/* ---- Applying ------------------------------------------------------------------------------------------------------- */

/* What the new version and the old one have in common: a list that it goes on with. */
static void change_list(const route_table *table, const route_draft *draft) {
    const live_route *old = draft->old, *made = draft->made;
    if (old == NULL || made == NULL || made->list == NULL || made->list != old->list) return;
    for (size_t i = 0; i < draft->gone_count; i++)
        sri_list_remove(old, draft->gone[i], table->next_version);
    for (size_t i = 0; i < draft->count; i++) sri_list_append(made->list, draft->list[i]);
}

static void apply_draft(route_table *table, route_draft *draft) {
    live_route *old = draft->old;
    change_list(table, draft);
    if (old != NULL && (draft->removed || draft->made != NULL)) {
        old->removed = draft->gone;
        old->removed_count = draft->gone_count;
        draft->gone = NULL;
    }
    if (draft->removed)
        sri_table_remove_route(table, old);
    else if (draft->made != NULL)
        sri_table_put_route(table, draft->made, old);
}

static void apply_add(route_table *table, const planned_add *add, bool durable) {
    sri_table_link_utterance(table, add->utterance, add->owner->made);
    bool has = add->from == NULL ? add->vector != NULL || add->code != NULL
                                 : utterance_slot(add->from) != SRI_INDEX_NONE;
    if (has && table->index != NULL)
        sri_table_add_vector(table, add->utterance, add->vector, add->code, add->from, durable);
}

/* Additions come before removals, as a move takes the row of what is removed. */
void sri_plan_apply(mutation_plan *plan, bool durable) {
    route_table *table = plan->table;
    for (size_t i = 0; i < plan->draft_count; i++) apply_draft(table, plan->drafts[i]);
    for (size_t i = 0; i < plan->add_count; i++) apply_add(table, &plan->adds[i], durable);
    for (size_t i = 0; i < plan->draft_count; i++) {
        const route_draft *draft = plan->drafts[i];
        const live_route *old = draft->old;
        bool changed = old != NULL && (draft->removed || draft->made != NULL);
        for (size_t k = 0; changed && k < old->removed_count; k++)
            sri_table_unlink_utterance(table, old->removed[k]);
    }
    for (size_t i = 0; i < plan->draft_count; i++) plan->drafts[i]->made = NULL;
    sri_table_compact(table, plan->removals + plan->moves);
    table->state.next_id = plan->next_id;
    plan->applied = true;
}

void sri_plan_free(mutation_plan *plan) {
    for (size_t i = 0; i < plan->add_count && !plan->applied; i++)
        sri_free(plan->adds[i].utterance);
    for (size_t i = 0; i < plan->draft_count; i++) free_draft(plan->drafts[i]);
    sri_map_free(&plan->names);
    sri_free(plan->drafts);
    sri_free(plan->adds);
    *plan = (mutation_plan){0};
}
