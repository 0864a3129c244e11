/*
 * table_vectors.c - the stored vectors of a table that was read before.
 *
 * The copy of the table and the router's table are the same as long as no other view is published; then utterances
 * stand at the same places, and their vectors are copied, from memory or from the store. After a change the texts are
 * encoded instead, which is slow and right, where matching them up one by one would be a third way to go wrong.
 */
#include <string.h>

#include "router/router_int.h"

/* A table's texts, in the order of their vectors. */
typedef struct texts {
    const sr_table *table;
    const sr_str *oos;
    size_t oos_count, count;
} texts;

static sr_status count_texts(const sr_table *table, texts *all, sr_error *error) {
    *all = (texts){.table = table};
    all->oos = sr_table_oos(table, &all->oos_count);
    bool missing = all->oos == NULL && all->oos_count > 0;
    all->count = all->oos_count;
    for (size_t i = 0; i < sr_table_count(table); i++) {
        const sr_route_view *route = sr_table_route(table, i);
        missing = missing || (route->utterances == NULL && route->utterance_count > 0);
        all->count += route->utterance_count;
    }
    if (!missing) return SR_OK;
    return sri_fail(error, SR_ERR_INVALID, "table",
                    "the table was read without the texts of its utterances; ask for them");
}

/* ---- From the table ---------------------------------------------------------------------------- */

/* False when the route is not what was read, or a vector cannot be had. */
static bool copy_route(const table_view *live, const live_route *route, size_t count,
                       size_t dimension, const search_desk *desk, float *out) {
    uint32_t slots[SRI_INDEX_FETCH];
    if (count == 0) return true;
    if (route == NULL || route->count != count) return false;
    for (size_t done = 0, at = 0; done < count; done += SRI_INDEX_FETCH) {
        size_t some = SRI_MIN((size_t)SRI_INDEX_FETCH, count - done);
        for (size_t i = 0; i < some; i++) {
            slots[i] = utterance_slot(sri_route_next(route, &at));
            if (slots[i] == SRI_INDEX_NONE) return false;
        }
        if (!sri_index_vectors(live->table->index, slots, some, &desk->source,
                               out + done * dimension, NULL))
            return false;
    }
    return true;
}

/* The caller has pinned the view, whose routes are given. */
static bool copy_routes(const table_view *live, const live_route *const *routes, size_t count,
                        const texts *all, size_t dimension, const search_desk *desk, float *out) {
    size_t i = 0;
    for (size_t k = 0; k < count; k++) {
        if (routes[k] == live->oos) continue;
        const sr_route_view *read = sr_table_route(all->table, i++);
        if (read == NULL || !sri_str_equal(read->name, routes[k]->name) ||
            !copy_route(live, routes[k], read->utterance_count, dimension, desk, out))
            return false;
        out += read->utterance_count * dimension;
    }
    return i == sr_table_count(all->table) &&
           copy_route(live, live->oos, all->oos_count, dimension, desk, out);
}

static bool copy_stored(sr_router *router, const texts *all, size_t dimension, float *out) {
    search_desk *desk = sri_desk_claim(router);
    if (desk == NULL) return false;
    pinned_view pinned = sri_view_pin(router);
    const table_view *live = pinned.view;
    size_t count;
    bool copied = false;
    if (live->table->index != NULL && live->version == sri_table_version(all->table)) {
        const live_route **routes = sri_view_routes(live, &count);
        copied = routes != NULL && copy_routes(live, routes, count, all, dimension, desk, out);
        sri_free(routes);
    }
    sri_view_unpin(pinned);
    sri_desk_leave(desk);
    return copied;
}

/* ---- Anew -------------------------------------------------------------------------------------- */

static sr_status encode_texts(sr_router *router, const texts *all, float *out, sr_error *error) {
    sr_str *list = sri_alloc_array(all->count, sizeof *list);
    if (list == NULL) return sri_fail_memory(error);
    size_t n = 0;
    for (size_t i = 0; i < sr_table_count(all->table); i++) {
        const sr_route_view *route = sr_table_route(all->table, i);
        for (size_t j = 0; j < route->utterance_count; j++) list[n++] = route->utterances[j];
    }
    for (size_t i = 0; i < all->oos_count; i++) list[n++] = all->oos[i];
    sr_status code = sr_encoder_encode(router->encoder, list, n, out, NULL, error);
    sri_free(list);
    return code;
}

sr_status sr_table_vectors(sr_router *router, const sr_table *table, float *out, size_t capacity,
                           sr_error *error) {
    texts all;
    sr_status code = count_texts(table, &all, error);
    if (code == SR_OK) code = sri_router_ready(router, error);
    if (code != SR_OK || out == NULL) return code;
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder), floats;
    if (!sri_size_mul(all.count, dimension, &floats) || floats > capacity)
        return sri_fail(error, SR_ERR_INVALID, "capacity",
                        "room for %zu floats is too little for %zu vectors of %zu", capacity,
                        all.count, dimension);
    return copy_stored(router, &all, dimension, out) ? SR_OK
                                                     : encode_texts(router, &all, out, error);
}
