/*
 * table_vectors.c - the stored vectors of a table that was read before.
 *
 * The copy of the table and the router's table are the same as long as the revision is; then utterances
 * stand at the same places, and their vectors are copied under the shared lock. After a change the texts are
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

/* False when the route is not what was read. */
static bool copy_route(const route_table *live, sr_str name, size_t count, size_t dimension,
                       float *out) {
    const live_route *route = count == 0 ? NULL : sri_table_find(live, name);
    if (count == 0) return true;
    if (route == NULL || route->count != count) return false;
    for (size_t i = 0; i < count; i++) {
        uint32_t slot = route->utterances[i]->slot;
        if (slot == SRI_INDEX_NONE) return false;
        memcpy(out + i * dimension, sri_index_vector(live->index, slot), dimension * sizeof(float));
    }
    return true;
}

/* The caller holds the shared lock. */
static bool copy_stored(const route_table *live, const texts *all, size_t dimension, float *out) {
    if (live->index == NULL || live->state.revision != sr_table_revision(all->table)) return false;
    for (size_t i = 0; i < sr_table_count(all->table); i++) {
        const sr_route_view *route = sr_table_route(all->table, i);
        if (!copy_route(live, route->name, route->utterance_count, dimension, out)) return false;
        out += route->utterance_count * dimension;
    }
    return copy_route(live, sr_str_of(SR_OOS_NAME), all->oos_count, dimension, out);
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
    pthread_rwlock_rdlock(&router->lock);
    bool copied = copy_stored(router->table, &all, dimension, out);
    pthread_rwlock_unlock(&router->lock);
    return copied ? SR_OK : encode_texts(router, &all, out, error);
}
