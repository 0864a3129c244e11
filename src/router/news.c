/*
 * news.c - what another process has changed, applied to the table in memory.
 *
 * The store tells what is gone, what has other fields and what was added since the revision at hand. That becomes a plan as a
 * mutation makes it, but that ids are given and codes come instead of vectors, so that it is seen all at once, and the cost is
 * that of the changes; only finding routes by id takes a sorted list of all, some milliseconds for 50,000.
 *
 * What a plan cannot say (a name that was removed and came back as another route) or what does not fit the table at hand is no
 * error: the table is loaded instead.
 */
#include <stdlib.h>
#include <string.h>

#include "router/mutation_int.h"

typedef struct news {
    sr_router *router;
    mutation_plan plan;
    sri_store_state state;
    live_route **routes; /* of the table, by ascending id; made when first wanted */
    size_t route_count;
    route_draft *last; /* that something was added to */
    size_t next_code;  /* where the next code's utterance is likely to be */
    sri_arena arena;   /* strings and codes */
    bool misfit;       /* to be loaded instead */
} news;

/* ---- Finding ----------------------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b) {
    uint64_t first = (*(live_route *const *)a)->id, second = (*(live_route *const *)b)->id;
    return (first > second) - (first < second);
}

static bool list_routes(news *self) {
    const route_table *table = self->router->table;
    if (self->routes != NULL) return true;
    self->routes = sri_alloc_array(table->routes, sizeof(live_route *));
    if (self->routes == NULL) return false;
    for (size_t i = 0; i < atomic_load(&table->number_limit); i++) {
        const route_place *place = sri_steady_at(&table->places, i);
        if (atomic_load(&place->gone) == SRI_INDEX_FOREVER)
            self->routes[self->route_count++] = atomic_load(&place->newest);
    }
    qsort(self->routes, self->route_count, sizeof *self->routes, by_id);
    return true;
}

static uint64_t id_of(const route_draft *draft) {
    return draft->old != NULL ? draft->old->id : draft->id;
}

/* The draft of the route of that id; `*found` NULL, and a misfit, when there is none. */
static sr_status draft_of(news *self, uint64_t id, route_draft **found, sr_error *error) {
    *found = self->last;
    if (*found != NULL && id_of(*found) == id) return SR_OK;
    *found = NULL;
    for (size_t i = self->plan.draft_count; i-- > 0 && *found == NULL;)
        if (self->plan.drafts[i]->old == NULL && self->plan.drafts[i]->id == id)
            *found = self->plan.drafts[i];
    if (*found == NULL && !list_routes(self)) return sri_fail_memory(error);
    live_route key = {.id = id}, *wanted = &key;
    live_route **held = *found != NULL ? NULL
                                       : bsearch(&wanted, self->routes, self->route_count,
                                                 sizeof *self->routes, by_id);
    if (held != NULL) {
        *found = sri_plan_draft(&self->plan, (*held)->name);
        if (*found == NULL) return sri_fail_memory(error);
    }
    self->misfit = self->misfit || *found == NULL || (*found)->removed;
    self->last = *found;
    return SR_OK;
}

/* ---- Hearing ----------------------------------------------------------------------------------------------------- */

static sr_status begin(void *user, const sri_store_state *state, sr_error *error) {
    (void)error;
    ((news *)user)->state = *state;
    return SR_OK;
}

static sr_status utterance_gone(void *user, uint64_t id, uint64_t route, sr_error *error) {
    news *self = user;
    route_draft *draft;
    if (self->misfit) return SR_OK;
    sr_status code = draft_of(self, route, &draft, error);
    if (code != SR_OK || self->misfit) return code;
    size_t at = 0;
    while (at < draft->count && draft->list[at]->id != id) at++;
    if (at == draft->count) {
        self->misfit = true;
        return SR_OK;
    }
    memmove(draft->list + at, draft->list + at + 1, (draft->count - at - 1) * sizeof *draft->list);
    draft->count--;
    draft->replaced = true;
    return SR_OK;
}

static sr_status route_gone(void *user, uint64_t id, sr_error *error) {
    news *self = user;
    route_draft *draft;
    if (self->misfit) return SR_OK;
    sr_status code = draft_of(self, id, &draft, error);
    if (code != SR_OK || self->misfit) return code;
    self->misfit = draft->count > 0;
    draft->removed = draft->replaced = true;
    return SR_OK;
}

static sr_status set_fields(news *self, route_draft *draft, const sri_store_route *fields,
                            sr_error *error) {
    draft->threshold = fields->threshold;
    draft->description = sri_arena_copy(&self->arena, fields->description);
    draft->metadata = sri_arena_copy(&self->arena, fields->metadata);
    bool enough = draft->description.data != NULL && draft->metadata.data != NULL;
    return enough ? SR_OK : sri_fail_memory(error);
}

static sr_status route_set(void *user, const sri_store_route *fields, sr_error *error) {
    news *self = user;
    route_draft *draft;
    if (self->misfit) return SR_OK;
    sr_status code = draft_of(self, fields->id, &draft, error);
    if (code != SR_OK || self->misfit) return code;
    return set_fields(self, draft, fields, error);
}

static sr_status route_added(void *user, const sri_store_route *fields, sr_error *error) {
    news *self = user;
    if (self->misfit) return SR_OK;
    sr_str name = sri_arena_copy(&self->arena, fields->name);
    size_t before = self->plan.draft_count;
    route_draft *draft = name.data == NULL ? NULL : sri_plan_draft(&self->plan, name);
    if (draft == NULL) return sri_fail_memory(error);
    self->misfit = draft->old != NULL || self->plan.draft_count == before;
    if (self->misfit) return SR_OK;
    draft->id = fields->id;
    self->last = draft;
    return set_fields(self, draft, fields, error);
}

static sr_status utterance_added(void *user, uint64_t id, uint64_t route, sr_str text,
                                 sr_error *error) {
    news *self = user;
    route_draft *draft;
    if (self->misfit) return SR_OK;
    sr_status code = draft_of(self, route, &draft, error);
    if (code != SR_OK || self->misfit) return code;
    self->misfit = text.len > SR_MAX_UTTERANCE_BYTES ||
                   (draft->count > 0 && draft->list[draft->count - 1]->id >= id);
    if (self->misfit || sri_plan_add(&self->plan, draft, id, text)) return SR_OK;
    return sri_fail_memory(error);
}

static sr_status code_added(void *user, uint64_t id, const uint8_t *code, sr_error *error) {
    news *self = user;
    if (self->misfit) return SR_OK;
    size_t at = self->next_code;
    while (at < self->plan.add_count && self->plan.adds[at].utterance->id != id) at++;
    self->misfit = at == self->plan.add_count;
    if (self->misfit) return SR_OK;
    size_t bytes = sri_index_code_bytes(sr_encoder_dimension(self->router->encoder));
    uint8_t *copy = sri_arena_alloc(&self->arena, bytes);
    if (copy == NULL) return sri_fail_memory(error);
    memcpy(copy, code, bytes);
    self->plan.adds[at].code = copy;
    self->next_code = at + 1;
    return SR_OK;
}

/* ---- Applying ---------------------------------------------------------------------------------------------------- */

/* Without its vector an utterance of another model is for those who load the table. */
static bool complete(const news *self) {
    for (size_t i = 0; i < self->plan.add_count; i++)
        if (self->plan.adds[i].code == NULL) return false;
    return true;
}

static sr_status apply(news *self, sr_error *error) {
    sr_router *router = self->router;
    fit_masks *masks = NULL;
    self->plan.next_id = self->state.next_id;
    sr_status code = sri_plan_finish(&self->plan, error);
    if (code == SR_OK) code = sri_mutation_reserve(router, &self->plan, 0, &masks, error);
    if (code != SR_OK) {
        sri_free(masks);
        return code;
    }
    sri_mutation_apply(router, &self->plan, masks, true);
    router->table->state = self->state;
    sri_view_publish(router);
    return SR_OK;
}

sr_status sri_news_apply(sr_router *router, bool *whole, sr_error *error) {
    const sri_store_state *state = &router->table->state;
    news self = {.router = router, .plan = {.table = router->table}};
    sri_store_news hear = {&self,     begin,       utterance_gone,  route_gone,
                           route_set, route_added, utterance_added, code_added};
    bool ready = atomic_load(&router->ready);
    sri_store_model model = {0};
    if (ready) model = sri_router_model(router);
    sr_status code =
        router->store->kind->changes(router->store, state->revision, state->next_id,
                                     model.fingerprint, model.dimension, &hear, whole, error);
    if (code == SR_OK && !*whole) *whole = self.misfit || (ready && !complete(&self));
    if (code == SR_OK && !*whole) code = apply(&self, error);
    sri_plan_free(&self.plan);
    sri_free(self.routes);
    sri_arena_free(&self.arena);
    return code;
}
