/* table_view.c - copies of the route table for callers, each in one arena. */
#include <string.h>

#include "router/route_check.h"
#include "router/router_int.h"

struct sr_table {
    sri_arena arena;
    sr_route_view *views;
    size_t count;
    const sr_str *oos;
    size_t oos_count;
    uint64_t revision;
    uint64_t version; /* of the view that was copied */
};

static bool copy(sr_table *table, sr_str *to, sr_str from) {
    *to = sri_arena_copy(&table->arena, from);
    return to->data != NULL;
}

static bool copy_utterances(sr_table *table, const live_route *route, const sr_str **copies) {
    sr_str *texts = sri_arena_alloc(&table->arena, route->count * sizeof *texts);
    if (texts == NULL) return false;
    for (size_t i = 0, at = 0; i < route->count; i++)
        if (!copy(table, &texts[i], utterance_text(sri_route_next(route, &at)))) return false;
    *copies = texts;
    return true;
}

static bool copy_route(sr_table *table, const live_route *route, bool with_utterances) {
    sr_route_view *view = &table->views[table->count++];
    *view = (sr_route_view){.threshold = route->threshold, .utterance_count = route->count};
    return copy(table, &view->name, route->name) &&
           copy(table, &view->description, route->description) &&
           copy(table, &view->metadata, route->metadata) &&
           (!with_utterances || copy_utterances(table, route, &view->utterances));
}

sr_table *sri_table_copy(const table_view *view, const live_route *const *routes, size_t count,
                         bool with_utterances) {
    sr_table *table = sri_alloc_zero(1, sizeof *table);
    if (table == NULL) return NULL;
    table->revision = view->revision;
    table->version = view->version;
    table->views = sri_arena_alloc(&table->arena, count * sizeof *table->views);
    bool enough = table->views != NULL;
    for (size_t i = 0; i < count && enough; i++)
        enough = routes[i] == view->oos || copy_route(table, routes[i], with_utterances);
    if (!enough) sr_table_free(&table);
    return table;
}

/* The caller has pinned the view. */
static sr_table *copy_all(const table_view *view, bool with_utterances) {
    size_t count = 0;
    const live_route **routes = sri_view_routes(view, &count);
    sr_table *table = routes == NULL ? NULL : sri_table_copy(view, routes, count, with_utterances);
    sri_free(routes);
    if (table == NULL) return NULL;
    table->oos_count = view->oos_count;
    if (table->oos_count > 0 && with_utterances && !copy_utterances(table, view->oos, &table->oos))
        sr_table_free(&table);
    return table;
}

sr_status sr_table_read(sr_router *router, const sr_str *name, int with_utterances,
                        sr_table **handle, sr_error *error) {
    *handle = NULL;
    sr_status code = name == NULL ? SR_OK : sri_check_given(*name, "name", error);
    if (code == SR_OK) code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    pinned_view pinned = sri_view_pin(router);
    const live_route *only =
        name == NULL || sri_is_oos(*name) ? NULL : sri_view_find(pinned.view, *name);
    bool found = name == NULL || only != NULL;
    if (name == NULL)
        *handle = copy_all(pinned.view, with_utterances != 0);
    else if (found)
        *handle = sri_table_copy(pinned.view, &only, 1, with_utterances != 0);
    sri_view_unpin(pinned);
    if (*handle != NULL) return SR_OK;
    if (found) return sri_fail_memory(error);
    return sri_fail(error, SR_ERR_NOT_FOUND, "name", "there is no route \"%.*s\"",
                    (int)SRI_MIN(name->len, (size_t)200), name->data);
}

size_t sr_table_count(const sr_table *table) { return table->count; }

uint64_t sr_table_revision(const sr_table *table) { return table->revision; }

uint64_t sri_table_version(const sr_table *table) { return table->version; }

const sr_route_view *sr_table_route(const sr_table *table, size_t index) {
    return index < table->count ? &table->views[index] : NULL;
}

const sr_str *sr_table_oos(const sr_table *table, size_t *count) {
    *count = table->oos_count;
    return table->oos;
}

void sr_table_free(sr_table **handle) {
    if (handle == NULL || *handle == NULL) return;
    sri_arena_free(&(*handle)->arena);
    sri_free(*handle);
    *handle = NULL;
}
