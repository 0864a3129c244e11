/*
 * publish.c - views: how readers come to see what the writer has done, all at once.
 *
 * A view names a version of the table; publishing one is the exchange of a pointer, and what came before it is
 * complete in memory by then (release and acquire). After it the epoch advances, and what nobody can see any more
 * is released, a bounded number of things with each publication, so that no change pays for another's.
 *
 * The epoch may only advance when all that was done to the table is published: what was retired before is still
 * reachable from the view before. So it advances here, and once more at the end of a group (group.c), where nothing is
 * unpublished either, for what the group's own pin has held back.
 */
#include <stdlib.h>

#include "router/router_int.h"

#define RELEASES 64 /* things released at least with each view */

/* ---- The writer ----------------------------------------------------------------------------------------- */

sr_status sri_view_reserve(sr_router *router, sr_error *error) {
    if (router->spare == NULL) router->spare = sri_alloc(sizeof *router->spare);
    return router->spare != NULL ? SR_OK : sri_fail_memory(error);
}

static void release_view(sri_retired *retired) { sri_free(retired); }

static void fill(const sr_router *router, table_view *view) {
    const route_table *table = router->table;
    const fit_state *fit = &router->fit;
    size_t hidden = table->oos == NULL ? 0 : table->oos->count;
    *view = (table_view){.version = table->next_version,
                         .revision = table->state.revision,
                         .table = table,
                         .state = table->state,
                         .routes = table->routes - (table->oos != NULL),
                         .utterances = table->utterances - hidden,
                         .oos_count = hidden,
                         .oos = table->oos,
                         .fitted = fit->fitted,
                         .masks = fit->masks,
                         .pending = fit->pending,
                         .stale = sri_fitted_stale(fit, table->oos)};
}

void sri_view_publish(sr_router *router) {
    table_view *made = router->spare;
    router->spare = NULL;
    fill(router, made);
    router->table->next_version++;
    table_view *old = atomic_exchange_explicit(&router->view, made, memory_order_acq_rel);
    if (old != NULL) sri_epoch_retire(router->epoch, &old->retired, release_view);
    /* More than is retired on the whole, so that none pile up. */
    sri_epoch_advance(router->epoch, RELEASES + sri_epoch_waiting(router->epoch) / 16);
}

/* ---- Readers -------------------------------------------------------------------------------------------- */

static size_t numbers_of(const table_view *view) {
    return atomic_load_explicit(&view->table->number_limit, memory_order_acquire);
}

const live_route *sri_view_find(const table_view *view, sr_str name) {
    uint64_t hash = sri_hash(name.data, name.len, 0);
    for (size_t i = 0; i < numbers_of(view); i++) {
        const route_place *place = sri_steady_at(&view->table->places, i);
        if (atomic_load_explicit(&place->hash, memory_order_relaxed) != hash) continue;
        const live_route *route = sri_view_route(view, (uint32_t)i);
        if (route != NULL && sri_str_equal(route->name, name)) return route;
    }
    return NULL;
}

static int by_id(const void *a, const void *b) {
    uint64_t first = (*(const live_route *const *)a)->id,
             second = (*(const live_route *const *)b)->id;
    return (first > second) - (first < second);
}

const live_route **sri_view_routes(const table_view *view, size_t *count) {
    const live_route **routes =
        sri_alloc_array(view->routes + (view->oos != NULL), sizeof(const live_route *));
    *count = 0;
    for (size_t i = 0; routes != NULL && i < numbers_of(view); i++) {
        const live_route *route = sri_view_route(view, (uint32_t)i);
        if (route != NULL) routes[(*count)++] = route;
    }
    if (routes != NULL) qsort(routes, *count, sizeof *routes, by_id);
    return routes;
}

static int against_id(const void *id, const void *route) {
    uint64_t wanted = *(const uint64_t *)id, held = (*(const live_route *const *)route)->id;
    return (wanted > held) - (wanted < held);
}

const live_route *sri_routes_find(const live_route *const *routes, size_t count, uint64_t id) {
    const live_route *const *found = bsearch(&id, routes, count, sizeof *routes, against_id);
    return found == NULL ? NULL : *found;
}
