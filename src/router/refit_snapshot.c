/*
 * refit_snapshot.c - the copy of the table that a fit learns from, so that decisions and changes go on meanwhile.
 *
 * Texts and vectors are copied from one view of the table, which is pinned meanwhile. Routes without
 * utterances are left out, as nothing can be learned of them. Names of routes are encoded as texts; their
 * vectors are kept in the router from one fit to the next, since names seldom change.
 */
#include <stdlib.h>
#include <string.h>

#include "router/refit_int.h"
#include "text/text.h"

void sri_snapshot_free(snapshot *taken) {
    sri_arena_free(&taken->arena);
    sri_map_free(&taken->names);
    sri_free(taken->vectors);
    sri_free(taken->name_vectors);
    sri_free(taken->description_vectors);
    sri_free(taken->stranger_vectors);
    sri_free(taken->labelled_vectors);
    *taken = (snapshot){0};
}

/* ---- The table ------------------------------------------------------------------------------------------------ */

typedef struct entry {
    const utterance *utterance;
    uint32_t place;
} entry;

static int by_id(const void *a, const void *b) {
    uint64_t first = ((const entry *)a)->utterance->id, second = ((const entry *)b)->utterance->id;
    return (first > second) - (first < second);
}

static void collect(const live_route *route, uint32_t place, entry *entries, size_t *count) {
    const utterance *each;
    for (size_t at = 0; (each = sri_route_next(route, &at)) != NULL;)
        if (utterance_slot(each) != SRI_INDEX_NONE) entries[(*count)++] = (entry){each, place};
}

static bool copy_route(snapshot *taken, const live_route *route) {
    sri_fit_route *copy = &taken->routes[taken->route_count];
    *copy = (sri_fit_route){.id = route->id, .digest = route->digest, .count = route->count};
    copy->name = sri_arena_copy(&taken->arena, route->name);
    copy->description = sri_arena_copy(&taken->arena, route->description);
    taken->thresholds[taken->route_count] = route->threshold;
    return copy->name.data != NULL && copy->description.data != NULL &&
           sri_map_put(&taken->names, copy->name, taken->route_count++);
}

static bool copy_routes(snapshot *taken, const table_view *view, entry *entries) {
    size_t count;
    const live_route **routes = sri_view_routes(view, &count);
    taken->routes = sri_arena_alloc(&taken->arena, count * sizeof *taken->routes);
    taken->thresholds = sri_arena_alloc(&taken->arena, count * sizeof *taken->thresholds);
    bool enough = routes != NULL && taken->routes != NULL && taken->thresholds != NULL;
    for (size_t i = 0; i < count && enough; i++) {
        const live_route *route = routes[i];
        if (route->count == 0) continue;
        if (route == view->oos) {
            taken->oos_id = route->id;
            taken->oos_digest = route->digest;
            taken->oos_count = route->count;
            collect(route, SRI_FIT_OUT_OF_SCOPE, entries, &taken->count);
            continue;
        }
        collect(route, (uint32_t)taken->route_count, entries, &taken->count);
        enough = copy_route(taken, route);
    }
    sri_free(routes);
    return enough;
}

static sr_status copy_vectors(sr_router *router, snapshot *taken, const table_view *view,
                              const entry *entries, sr_error *error) {
    size_t floats;
    uint32_t *slots = sri_arena_alloc(&taken->arena, taken->count * sizeof *slots);
    taken->found = sri_arena_alloc(&taken->arena, taken->count);
    if (sri_size_mul(taken->count, (size_t)sr_encoder_dimension(router->encoder), &floats))
        taken->vectors = sri_alloc_array(floats, sizeof *taken->vectors);
    search_desk *desk = sri_desk_claim(router);
    bool enough = slots != NULL && taken->found != NULL && taken->vectors != NULL && desk != NULL;
    for (size_t i = 0; i < taken->count && enough; i++)
        slots[i] = utterance_slot(entries[i].utterance);
    if (enough)
        sri_index_vectors(view->table->index, slots, taken->count, &desk->source, taken->vectors,
                          taken->found);
    if (desk != NULL) sri_desk_leave(desk);
    return enough ? SR_OK : sri_fail_memory(error);
}

static sr_status copy_texts(snapshot *taken, const entry *entries, sr_error *error) {
    taken->texts = sri_arena_alloc(&taken->arena, taken->count * sizeof *taken->texts);
    taken->places = sri_arena_alloc(&taken->arena, taken->count * sizeof *taken->places);
    if (taken->texts == NULL || taken->places == NULL) return sri_fail_memory(error);
    for (size_t i = 0; i < taken->count; i++) {
        taken->texts[i] = sri_arena_copy(&taken->arena, utterance_text(entries[i].utterance));
        if (taken->texts[i].data == NULL) return sri_fail_memory(error);
        taken->places[i] = entries[i].place;
    }
    return SR_OK;
}

static sr_status copy_table(sr_router *router, snapshot *taken, const table_view *view,
                            sr_error *error) {
    entry *entries = sri_alloc_array(view->utterances + view->oos_count, sizeof *entries);
    bool enough = entries != NULL && copy_routes(taken, view, entries);
    taken->revision = view->state.revision;
    if (enough) qsort(entries, taken->count, sizeof *entries, by_id);
    sr_status code = enough ? copy_texts(taken, entries, error) : sri_fail_memory(error);
    if (code == SR_OK && snapshot_reach(taken) == SRI_FIT_LEARNS)
        code = copy_vectors(router, taken, view, entries, error);
    sri_free(entries);
    return code;
}

/* Rows that could not be had, encoded anew. That takes as long as it takes: nothing is pinned by now. */
static sr_status encode_lost(sr_router *router, snapshot *taken, sr_error *error) {
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder);
    sr_status code = SR_OK;
    for (size_t i = 0; i < taken->count && taken->vectors != NULL && code == SR_OK; i++)
        if (taken->found[i] == 0)
            code = sr_encoder_encode(router->encoder, &taken->texts[i], 1,
                                     taken->vectors + i * dimension, NULL, error);
    return code;
}

sr_status sri_snapshot_take(sr_router *router, snapshot *taken, sr_error *error) {
    *taken = (snapshot){0};
    pinned_view pinned = sri_view_pin(router);
    sr_status code = copy_table(router, taken, pinned.view, error);
    sri_view_unpin(pinned);
    if (code == SR_OK) code = encode_lost(router, taken, error);
    if (code != SR_OK) sri_snapshot_free(taken);
    return code;
}

/* ---- Labelled texts --------------------------------------------------------------------------------------------- */

static sr_status check_label(const snapshot *taken, sr_str text, sr_str route, size_t number,
                             uint32_t *label, sr_error *error) {
    uint64_t place;
    *label = SRI_FIT_OUT_OF_SCOPE;
    if ((text.data == NULL && text.len > 0) || (route.data == NULL && route.len > 0))
        return sri_fail(error, SR_ERR_INVALID, "texts",
                        "labelled text %zu or its route has no data but a length", number);
    if (text.len > SR_MAX_TEXT_BYTES)
        return sri_fail(error, SR_ERR_LIMIT, "texts",
                        "labelled text %zu has %zu bytes; at most %d are read", number, text.len,
                        SR_MAX_TEXT_BYTES);
    if (route.len == 0) return SR_OK;
    if (!sri_map_get(&taken->names, route, &place))
        return sri_fail(error, SR_ERR_INVALID, "routes",
                        "labelled text %zu belongs to the route \"%.*s\", which the table does not "
                        "have, or has without utterances; add it, or leave the text out",
                        number, (int)SRI_MIN(route.len, (size_t)120), route.data);
    *label = (uint32_t)place;
    return SR_OK;
}

/* As texts are cleaned before they are decided. */
static bool copy_clean(snapshot *taken, sr_str text, sr_str *copy) {
    sri_buffer valid = {0};
    bool enough = true, dirty = !sri_utf8_valid(text, NULL);
    if (dirty) enough = sri_utf8_append_valid(&valid, text);
    if (enough)
        *copy = sri_arena_copy(&taken->arena, dirty ? (sr_str){valid.data, valid.len} : text);
    sri_buffer_free(&valid);
    return enough && copy->data != NULL;
}

sr_status sri_snapshot_label(snapshot *taken, const sr_str *texts, const sr_str *routes,
                             size_t count, sr_error *error) {
    if (count == 0) return SR_OK;
    if (texts == NULL || routes == NULL)
        return sri_fail(error, SR_ERR_INVALID, "texts",
                        "%zu labelled texts, but texts or routes are not given", count);
    size_t bytes, labels;
    if (sri_size_mul(count, sizeof *taken->labelled, &bytes) &&
        sri_size_mul(count, sizeof *taken->labels, &labels)) {
        taken->labelled = sri_arena_alloc(&taken->arena, bytes);
        taken->labels = sri_arena_alloc(&taken->arena, labels);
    }
    if (taken->labelled == NULL || taken->labels == NULL) return sri_fail_memory(error);
    sr_status code = SR_OK;
    for (size_t i = 0; i < count && code == SR_OK; i++) {
        size_t at = taken->labelled_count;
        code = check_label(taken, texts[i], routes[i], i, &taken->labels[at], error);
        if (code != SR_OK || sri_text_blank(texts[i])) continue; /* answered without a model */
        if (!copy_clean(taken, texts[i], &taken->labelled[at])) code = sri_fail_memory(error);
        taken->labelled_count++;
    }
    return code;
}

/* ---- Encoding --------------------------------------------------------------------------------------------------- */

/* Texts of names that were encoded, with their rows. */
struct name_vectors {
    sri_arena arena;
    sri_map rows_of;
    float *rows;
    size_t count, capacity;
};

void sri_names_free(struct name_vectors **handle) {
    if (*handle == NULL) return;
    sri_arena_free(&(*handle)->arena);
    sri_map_free(&(*handle)->rows_of);
    sri_free((*handle)->rows);
    sri_free(*handle);
    *handle = NULL;
}

static bool name_texts(snapshot *taken, sr_str *texts) {
    bool enough = true;
    for (size_t i = 0; i < taken->route_count && enough; i++) {
        sri_buffer text = {0};
        enough = sri_fit_name_text(taken->routes[i].name, &text);
        sr_str found = {text.data, text.len};
        if (sri_text_blank(found)) found = taken->routes[i].name;
        if (enough) texts[i] = sri_arena_copy(&taken->arena, found);
        enough = enough && texts[i].data != NULL;
        sri_buffer_free(&text);
    }
    return enough;
}

/* Names of routes that are gone would pile up. */
static bool begin_names(sr_router *router, size_t route_count) {
    if (router->names != NULL && router->names->count > 2 * route_count + 1000)
        sri_names_free(&router->names);
    if (router->names == NULL) router->names = sri_alloc_zero(1, sizeof *router->names);
    return router->names != NULL;
}

/* Adds a row for each text that has none, encoding `fresh`, which takes these texts. */
static sr_status add_names(sr_router *router, const sr_str *texts, size_t count, sr_str *fresh,
                           sr_progress_fn *progress, void *user, sr_error *error) {
    struct name_vectors *names = router->names;
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder), missing = 0;
    sri_map seen = {0};
    bool enough = true;
    for (size_t i = 0; i < count && enough; i++) {
        if (sri_map_get(&names->rows_of, texts[i], NULL) || sri_map_get(&seen, texts[i], NULL))
            continue;
        fresh[missing++] = texts[i];
        enough = sri_map_put(&seen, texts[i], 1);
    }
    sri_map_free(&seen);
    void *rows = names->rows;
    enough = enough && sri_grow(&rows, &names->capacity, names->count + missing,
                                dimension * sizeof *names->rows);
    names->rows = rows;
    if (!enough) return sri_fail_memory(error);
    sr_status code = sri_router_encode(
        router, fresh, missing, names->rows + names->count * dimension, progress, user, error);
    for (size_t i = 0; i < missing && code == SR_OK; i++) {
        sr_str key = sri_arena_copy(&names->arena, fresh[i]);
        if (key.data == NULL || !sri_map_put(&names->rows_of, key, names->count))
            return sri_fail_memory(error);
        names->count++;
    }
    return code;
}

/* Fills a row for each of `count` texts, from those encoded before where they are there. */
static sr_status rows_for(sr_router *router, const sr_str *texts, size_t count, float *rows,
                          sr_progress_fn *progress, void *user, sr_error *error) {
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder);
    sr_str *fresh = sri_alloc_array(count, sizeof *fresh);
    sr_status code = fresh == NULL ? sri_fail_memory(error)
                                   : add_names(router, texts, count, fresh, progress, user, error);
    for (size_t i = 0; i < count && code == SR_OK; i++) {
        uint64_t row = 0;
        (void)sri_map_get(&router->names->rows_of, texts[i], &row);
        memcpy(rows + i * dimension, router->names->rows + row * dimension,
               dimension * sizeof *rows);
    }
    sri_free(fresh);
    return code;
}

static float *make_rows(const sr_router *router, size_t count) {
    size_t floats;
    return sri_size_mul(count, (size_t)sr_encoder_dimension(router->encoder), &floats)
               ? sri_alloc_array(floats, sizeof(float))
               : NULL;
}

static sr_status encode_names(sr_router *router, snapshot *taken, sr_str *texts,
                              sr_progress_fn *progress, void *user, sr_error *error) {
    size_t count = taken->route_count;
    taken->name_vectors = make_rows(router, count);
    if (taken->name_vectors == NULL || !begin_names(router, 2 * count) || !name_texts(taken, texts))
        return sri_fail_memory(error);
    return rows_for(router, texts, count, taken->name_vectors, progress, user, error);
}

/* A route without a description has its name's row, which nobody reads. */
static sr_status encode_descriptions(sr_router *router, snapshot *taken, sr_str *texts,
                                     sr_error *error) {
    size_t described = 0;
    for (size_t i = 0; i < taken->route_count; i++) {
        if (taken->routes[i].description.len == 0) continue;
        texts[i] = taken->routes[i].description;
        described++;
    }
    if (described == 0) return SR_OK;
    taken->description_vectors = make_rows(router, taken->route_count);
    if (taken->description_vectors == NULL) return sri_fail_memory(error);
    return rows_for(router, texts, taken->route_count, taken->description_vectors, NULL, NULL,
                    error);
}

static sr_status encode_strangers(sr_router *router, snapshot *taken, sr_error *error) {
    size_t count = sri_fit_strangers();
    sr_str *texts = sri_alloc_array(count, sizeof *texts);
    taken->stranger_vectors = make_rows(router, count);
    sr_status code = SR_OK;
    if (texts == NULL || taken->stranger_vectors == NULL) code = sri_fail_memory(error);
    for (size_t i = 0; i < count && code == SR_OK; i++) texts[i] = sri_fit_stranger(i);
    if (code == SR_OK)
        code = rows_for(router, texts, count, taken->stranger_vectors, NULL, NULL, error);
    sri_free(texts);
    return code;
}

static sr_status encode_routes(sr_router *router, snapshot *taken, sr_progress_fn *progress,
                               void *user, sr_error *error) {
    sr_str *texts = sri_alloc_array(taken->route_count, sizeof *texts);
    sr_status code = texts == NULL ? sri_fail_memory(error)
                                   : encode_names(router, taken, texts, progress, user, error);
    if (code == SR_OK) code = encode_descriptions(router, taken, texts, error);
    if (code == SR_OK) code = encode_strangers(router, taken, error);
    sri_free(texts);
    return code;
}

/* Two pieces of work with one progress. */
typedef struct joined {
    sr_progress_fn *progress;
    void *user;
    uint64_t before, all;
} joined;

static int report_joined(void *user, uint64_t done, uint64_t total) {
    joined *both = user;
    (void)total;
    if (both->progress == NULL) return 0;
    return both->progress(both->user, both->before + done, both->all);
}

sr_status sri_snapshot_encode(sr_router *router, snapshot *taken, sr_progress_fn *progress,
                              void *user, sr_error *error) {
    joined both = {progress, user, 0, taken->route_count + taken->labelled_count};
    sr_status code = encode_routes(router, taken, report_joined, &both, error);
    if (code != SR_OK || taken->labelled_count == 0) return code;
    size_t floats;
    both.before = taken->route_count;
    if (sri_size_mul(taken->labelled_count, (size_t)sr_encoder_dimension(router->encoder), &floats))
        taken->labelled_vectors = sri_alloc_array(floats, sizeof *taken->labelled_vectors);
    if (taken->labelled_vectors == NULL) return sri_fail_memory(error);
    return sri_router_encode(router, taken->labelled, taken->labelled_count,
                             taken->labelled_vectors, report_joined, &both, error);
}
