/*
 * table_page.c - parts of the table for callers: pages of routes, and samples of utterances with their vectors.
 *
 * Both walk over all numbers of routes in the view, and copy no more than what was asked for. A page is ordered by the ids of routes,
 * which grow in the order of adding and are its cursor; those that match are put through a heap of `limit`.
 */
#include <string.h>

#include "router/router_int.h"

#define DEFAULT_ROUTES 100
#define MAX_ROUTES     10000
#define MAX_SAMPLE     100000

/* ---- Pages ------------------------------------------------------------------------------------- */

/* The matching routes of the least ids above the cursor: a heap with the greatest on top. */
typedef struct page {
    const live_route **routes;
    size_t count, limit;
    bool more; /* others were left out, all of greater ids */
} page;

static void sift_down(page *self) {
    const live_route *moved = self->routes[0];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < self->count; i = child) {
        if (child + 1 < self->count && self->routes[child + 1]->id > self->routes[child]->id)
            child++;
        if (self->routes[child]->id <= moved->id) break;
        self->routes[i] = self->routes[child];
    }
    self->routes[i] = moved;
}

static void sift_up(page *self, size_t i) {
    const live_route *moved = self->routes[i];
    for (; i > 0 && self->routes[(i - 1) / 2]->id < moved->id; i = (i - 1) / 2)
        self->routes[i] = self->routes[(i - 1) / 2];
    self->routes[i] = moved;
}

static void offer(page *self, const live_route *route) {
    if (self->count < self->limit) {
        self->routes[self->count++] = route;
        sift_up(self, self->count - 1);
        return;
    }
    self->more = true;
    if (route->id > self->routes[0]->id) return;
    self->routes[0] = route;
    sift_down(self);
}

/* Takes the heap apart from its end: ascending ids. */
static void sort(page *self) {
    size_t all = self->count;
    while (self->count > 1) {
        const live_route *greatest = self->routes[0];
        self->routes[0] = self->routes[--self->count];
        sift_down(self);
        self->routes[self->count] = greatest;
    }
    self->count = all;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool holds(sr_str text, sr_str wanted) {
    for (size_t start = 0; start + wanted.len <= text.len; start++) {
        size_t i = 0;
        while (i < wanted.len && lower(text.data[start + i]) == lower(wanted.data[i])) i++;
        if (i == wanted.len) return true;
    }
    return false;
}

static bool matches(const live_route *route, const sr_page_options *options) {
    sr_str prefix = options->prefix;
    if (route->id <= options->after || prefix.len > route->name.len) return false;
    if (prefix.len > 0 && memcmp(route->name.data, prefix.data, prefix.len) != 0) return false;
    return holds(route->name, options->search) || holds(route->description, options->search);
}

static void collect(page *self, const table_view *view, const sr_page_options *options) {
    size_t numbers = atomic_load_explicit(&view->table->number_limit, memory_order_acquire);
    for (size_t i = 0; i < numbers; i++) {
        const live_route *route = sri_view_route(view, (uint32_t)i);
        if (route != NULL && route != view->oos && matches(route, options)) offer(self, route);
    }
    sort(self);
}

static sr_status check_page(sr_page_options *options, sr_error *error) {
    if (options->limit == 0) options->limit = DEFAULT_ROUTES;
    if (options->limit > MAX_ROUTES)
        return sri_fail(error, SR_ERR_INVALID, "limit", "a page of %zu routes is more than %d",
                        options->limit, MAX_ROUTES);
    if ((options->prefix.data == NULL && options->prefix.len > 0) ||
        (options->search.data == NULL && options->search.len > 0))
        return sri_fail(error, SR_ERR_INVALID, "sr_page_options",
                        "prefix or search has no data but a length");
    return SR_OK;
}

sr_status sr_table_page(sr_router *router, const sr_page_options *given, sr_table **table,
                        uint64_t *next, sr_error *error) {
    *table = NULL;
    *next = 0;
    sr_page_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_page_options", error);
    if (code == SR_OK) code = check_page(&options, error);
    if (code == SR_OK) code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    page self = {.limit = options.limit};
    self.routes = sri_alloc_array(self.limit, sizeof(const live_route *));
    if (self.routes == NULL) return sri_fail_memory(error);
    pinned_view pinned = sri_view_pin(router);
    collect(&self, pinned.view, &options);
    *table = sri_table_copy(pinned.view, self.routes, self.count, options.with_utterances != 0);
    if (*table != NULL && self.more) *next = self.routes[self.count - 1]->id;
    sri_view_unpin(pinned);
    sri_free(self.routes);
    return *table != NULL ? SR_OK : sri_fail_memory(error);
}

/* ---- Samples ----------------------------------------------------------------------------------- */

typedef struct sample {
    sr_sample shown; /* first: what the caller holds */
    sri_arena arena;
} sample;

/* The places, counted over all routes, that are taken: the i-th is floor(i * total / count). */
static bool fill(sample *self, const table_view *view, const live_route *const *routes,
                 size_t route_count, uint32_t *slots) {
    sr_str *names = (sr_str *)(uintptr_t)self->shown.routes;
    sr_str *texts = (sr_str *)(uintptr_t)self->shown.texts;
    size_t before = 0, taken = 0;
    for (size_t i = 0; i < route_count && taken < self->shown.count; i++) {
        const live_route *route = routes[i];
        if (route == view->oos) continue;
        sr_str name = {0};
        for (size_t place, at = 0, seen = 0; taken < self->shown.count; taken++) {
            place = (size_t)((__uint128_t)taken * self->shown.total / self->shown.count);
            if (place >= before + route->count) break;
            const utterance *each;
            do {
                each = sri_route_next(route, &at);
            } while (seen++ < place - before);
            if (name.data == NULL) name = sri_arena_copy(&self->arena, route->name);
            names[taken] = name;
            texts[taken] = sri_arena_copy(&self->arena, utterance_text(each));
            slots[taken] = utterance_slot(each);
            if (name.data == NULL || texts[taken].data == NULL) return false;
        }
        before += route->count;
    }
    return true;
}

/* False where a vector cannot be had. */
static bool copy_vectors(sr_router *router, const table_view *view, const uint32_t *slots,
                         sample *self) {
    search_desk *desk = sri_desk_claim(router);
    float *out = (float *)(uintptr_t)self->shown.vectors;
    bool copied = desk != NULL;
    for (size_t done = 0, some; copied && done < self->shown.count; done += some) {
        some = SRI_MIN((size_t)SRI_INDEX_FETCH, self->shown.count - done);
        copied = sri_index_vectors(view->table->index, slots + done, some, &desk->source,
                                   out + done * self->shown.dimension, NULL);
    }
    if (desk != NULL) sri_desk_leave(desk);
    return copied;
}

static sr_status take_sample(sr_router *router, const table_view *view, size_t limit, sample *self,
                             sr_error *error) {
    sr_sample *shown = &self->shown;
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder), found = 0;
    shown->revision = view->revision;
    shown->total = view->utterances;
    shown->count = SRI_MIN(limit, shown->total);
    shown->dimension = dimension;
    shown->vectors = sri_arena_alloc(&self->arena, shown->count * dimension * sizeof(float));
    shown->routes = sri_arena_alloc(&self->arena, shown->count * sizeof(sr_str));
    shown->texts = sri_arena_alloc(&self->arena, shown->count * sizeof(sr_str));
    uint32_t *slots = sri_alloc_array(shown->count, sizeof *slots);
    const live_route **routes = sri_view_routes(view, &found);
    bool enough = shown->vectors != NULL && shown->routes != NULL && shown->texts != NULL &&
                  slots != NULL && routes != NULL && fill(self, view, routes, found, slots);
    sr_status code = enough ? SR_OK : sri_fail_memory(error);
    if (code == SR_OK && !copy_vectors(router, view, slots, self))
        code =
            sri_fail(error, SR_ERR_IO, router->database, "vectors of utterances could not be read");
    sri_free(slots);
    sri_free(routes);
    return code;
}

sr_status sr_utterance_vectors(sr_router *router, size_t limit, sr_sample **handle,
                               sr_error *error) {
    *handle = NULL;
    if (limit < 1 || limit > MAX_SAMPLE)
        return sri_fail(error, SR_ERR_INVALID, "limit", "%zu utterances are not from 1 to %d",
                        limit, MAX_SAMPLE);
    sr_status code = sri_router_look(router, error);
    if (code == SR_OK) code = sri_router_ready(router, error);
    if (code != SR_OK) return code;
    sample *self = sri_alloc_zero(1, sizeof *self);
    if (self == NULL) return sri_fail_memory(error);
    pinned_view pinned = sri_view_pin(router);
    code = take_sample(router, pinned.view, limit, self, error);
    sri_view_unpin(pinned);
    *handle = &self->shown;
    if (code != SR_OK) sr_sample_free(handle);
    return code;
}

void sr_sample_free(sr_sample **handle) {
    if (handle == NULL || *handle == NULL) return;
    sample *self = (sample *)*handle;
    sri_arena_free(&self->arena);
    sri_free(self);
    *handle = NULL;
}
