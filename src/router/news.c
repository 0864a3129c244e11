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
#include <string.h>

#include "router/mutation_int.h"

typedef struct news {
    sr_router *router;
    mutation_plan plan;
    sri_store_state state;
    const live_route **routes; /* of the table, by ascending id; made when first wanted */
    size_t route_count;
    sri_map added;     /* ids of new routes, to their drafts */
    route_draft *last; /* that something was added to */
    size_t next_code;  /* where the next code's utterance is likely to be */
    sri_arena arena;   /* strings and codes */
    bool misfit;       /* to be loaded instead */
} news;

/* ---- Finding ----------------------------------------------------------------------------------------------------- */

static uint64_t id_of(const route_draft *draft) {
    return draft->old != NULL ? draft->old->id : draft->id;
}

/* The id lies in a draft, or with the caller, as long as it is asked for. */
static sr_str key_of(const uint64_t *id) { return (sr_str){(const char *)id, sizeof *id}; }

/* The table has nothing that is not published, as no group is open. */
static const live_route *live_of(news *self, uint64_t id, bool *enough) {
    if (self->routes == NULL)
        self->routes = sri_view_routes(atomic_load(&self->router->view), &self->route_count);
    *enough = self->routes != NULL;
    return *enough ? sri_routes_find(self->routes, self->route_count, id) : NULL;
}

/* The draft of the route of that id; `*found` NULL, and a misfit, when there is none. */
static sr_status draft_of(news *self, uint64_t id, route_draft **found, sr_error *error) {
    uint64_t added;
    *found = self->last;
    if (*found != NULL && id_of(*found) == id) return SR_OK;
    *found = NULL;
    if (sri_map_get(&self->added, key_of(&id), &added)) {
        *found = (route_draft *)(uintptr_t)added;
    } else {
        bool enough;
        const live_route *held = live_of(self, id, &enough);
        if (held != NULL) *found = sri_plan_draft(&self->plan, held->name);
        if (!enough || (held != NULL && *found == NULL)) return sri_fail_memory(error);
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
    utterance *gone = draft->old == NULL ? NULL : sri_route_utterance(draft->old, id);
    self->misfit = gone == NULL || gone->marked;
    return self->misfit || sri_plan_drop(draft, gone) ? SR_OK : sri_fail_memory(error);
}

static sr_status route_gone(void *user, uint64_t id, sr_error *error) {
    news *self = user;
    route_draft *draft;
    if (self->misfit) return SR_OK;
    sr_status code = draft_of(self, id, &draft, error);
    if (code != SR_OK || self->misfit) return code;
    self->misfit = sri_draft_count(draft) > 0;
    draft->removed = true;
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
    if (!sri_map_put(&self->added, key_of(&draft->id), (uintptr_t)draft))
        return sri_fail_memory(error);
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
    self->misfit = text.len > SR_MAX_UTTERANCE_BYTES || id < self->plan.table->state.next_id ||
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
    sri_plan_unmark(&self.plan);
    if (code == SR_OK && !*whole) *whole = self.misfit || (ready && !complete(&self));
    if (code == SR_OK && !*whole) code = apply(&self, error);
    sri_map_free(&self.added);
    sri_plan_free(&self.plan);
    sri_free(self.routes);
    sri_arena_free(&self.arena);
    return code;
}
