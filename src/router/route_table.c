/*
 * route_table.c - the table in memory: versions of routes by number, names and texts in maps, vectors in the index.
 *
 * A route is a chain of versions, newest first. A change makes a new version aside and puts it before the old one,
 * which is retired; the maps of names and texts are the writer's and always know the newest. Utterances of equal
 * text in several routes hang in one chain, headed by the one whose text is the map's key: so a text known
 * anywhere need not be encoded again, and one map serves instead of one per route.
 *
 * What readers may still see is not freed but retired with the version that the change superseded: that version
 * carries the utterances that it took away, and the number of a route that it removed, which is free when
 * no reader can have a hit with it any more.
 *
 * Changing the table never allocates: sri_table_reserve() did that before. Its cost does not depend on the
 * size of the table.
 */
#include <assert.h>
#include <string.h>

#include "router/table_int.h"

#define MOVES 8 /* rows that may be moved for each one that is removed (sri_index_compact()) */

/* ---- Making and freeing --------------------------------------------------------------------------------- */

utterance *sri_utterance_make(sr_str text) {
    utterance *made = sri_alloc(offsetof(utterance, text) + text.len + 1);
    if (made == NULL) return NULL;
    made->id = 0;
    made->same = NULL;
    atomic_init(&made->slot, SRI_INDEX_NONE);
    made->number = SRI_INDEX_NONE;
    made->len = (uint32_t)text.len;
    made->marked = made->gone = false;
    if (text.len > 0) memcpy(made->text, text.data, text.len);
    made->text[text.len] = '\0';
    return made;
}

static sr_str place_string(char **at, sr_str from) {
    sr_str copy = {*at, from.len};
    if (from.len > 0) memcpy(*at, from.data, from.len);
    (*at)[from.len] = '\0';
    *at += from.len + 1;
    return copy;
}

live_route *sri_live_route_make(const sri_store_route *fields) {
    size_t bytes = sizeof(live_route) + 3;
    if (!sri_size_add(bytes, fields->name.len, &bytes) ||
        !sri_size_add(bytes, fields->description.len, &bytes) ||
        !sri_size_add(bytes, fields->metadata.len, &bytes))
        return NULL;
    live_route *made = sri_alloc(bytes);
    if (made == NULL) return NULL;
    char *strings = (char *)(made + 1);
    *made = (live_route){.id = fields->id, .threshold = fields->threshold};
    made->name = place_string(&strings, fields->name);
    made->description = place_string(&strings, fields->description);
    made->metadata = place_string(&strings, fields->metadata);
    atomic_init(&made->fast_rows, NULL);
    return made;
}

void sri_live_route_free(live_route *route) {
    if (route == NULL) return;
    sri_route_leave(route);
    sri_free(route->removed);
    sri_free(atomic_load(&route->fast_rows));
    sri_free(route);
}

route_table *sri_route_table_make(sri_epoch *epoch, uint64_t next_version) {
    route_table *table = sri_alloc_zero(1, sizeof *table);
    if (table == NULL) return NULL;
    table->epoch = epoch;
    table->places.size = sizeof(route_place);
    table->next_version = next_version;
    table->state.next_id = 1;
    return table;
}

static route_place *place_at(const route_table *table, size_t number) {
    return sri_steady_at(&table->places, number);
}

static void free_lists(route_table *table) {
    for (size_t i = 0; i < table->number_limit; i++) {
        route_place *place = place_at(table, i);
        live_route *route = atomic_load(&place->newest);
        if (route == NULL || atomic_load(&place->gone) != SRI_INDEX_FOREVER) continue;
        utterance *each;
        for (size_t at = 0; (each = sri_route_next(route, &at)) != NULL;) sri_free(each);
        sri_live_route_free(route);
    }
}

void sri_route_table_free(route_table **handle) {
    route_table *table = *handle;
    if (table == NULL) return;
    free_lists(table);
    sri_map_free(&table->names);
    sri_map_free(&table->texts);
    sri_steady_free(&table->places);
    sri_free(table->free_numbers);
    sri_index_close(&table->index);
    sri_free(table);
    *handle = NULL;
}

static void release_table(sri_retired *retired) {
    route_table *table = (route_table *)retired;
    sri_route_table_free(&table);
}

void sri_route_table_retire(route_table **handle) {
    route_table *table = *handle;
    *handle = NULL;
    if (table == NULL) return;
    sri_index_stop(table->index);
    sri_epoch_retire(table->epoch, &table->retired, release_table);
}

/* ---- Finding ------------------------------------------------------------------------------------------------ */

live_route *sri_table_find(const route_table *table, sr_str name) {
    uint64_t value;
    return sri_map_get(&table->names, name, &value) ? (live_route *)(uintptr_t)value : NULL;
}

static utterance *find_text(const route_table *table, sr_str text) {
    uint64_t value;
    return sri_map_get(&table->texts, text, &value) ? (utterance *)(uintptr_t)value : NULL;
}

utterance *sri_table_find_utterance(const route_table *table, const live_route *route,
                                    sr_str text) {
    utterance *each = find_text(table, text);
    while (each != NULL && each->number != route->number) each = each->same;
    return each;
}

const utterance *sri_table_find_vector(const route_table *table, sr_str text) {
    const utterance *each = find_text(table, text);
    while (each != NULL && utterance_slot(each) == SRI_INDEX_NONE) each = each->same;
    return each;
}

/* ---- Room ----------------------------------------------------------------------------------------------------- */

sr_status sri_table_reserve(route_table *table, size_t routes, size_t utterances, size_t vectors,
                            sr_error *error) {
    size_t limit = table->number_limit + routes;
    void *freed = table->free_numbers;
    bool enough = sri_steady_reserve(&table->places, limit) &&
                  sri_grow(&freed, &table->free_capacity, limit, sizeof *table->free_numbers);
    table->free_numbers = freed;
    enough = enough && sri_map_reserve(&table->names, table->routes + routes) &&
             sri_map_reserve(&table->texts, table->texts.count + utterances);
    if (!enough) return sri_fail_memory(error);
    return table->index == NULL
               ? SR_OK
               : sri_index_reserve(table->index, utterances, vectors, limit, error);
}

sr_status sri_table_add_index(route_table *table, int dimension, const sri_index_options *wanted,
                              sr_error *error) {
    sri_index_options options = *wanted;
    options.dimension = dimension;
    options.epoch = table->epoch;
    sri_index *index = NULL;
    sr_status code = sri_index_open(&options, &index, error);
    if (code == SR_OK) code = sri_index_reserve(index, 0, 0, table->number_limit, error);
    if (code != SR_OK) {
        sri_index_close(&index);
        return code;
    }
    for (size_t i = 0; i < table->number_limit; i++) {
        const live_route *route = atomic_load(&place_at(table, i)->newest);
        if (route != NULL) sri_index_set_route(index, (uint32_t)i, route->id);
    }
    table->index = index;
    return SR_OK;
}

/* ---- Routes --------------------------------------------------------------------------------------------------- */

static void put(sri_map *map, sr_str key, const void *value) {
    /* The key in the map is to be the newest one, as the older may be freed. */
    sri_map_remove(map, key);
    bool done = sri_map_put(map, key, (uintptr_t)value);
    assert(done && "room was reserved");
    (void)done;
}

/* A version that no reader can see any more, with what was removed when it was superseded. */
static void release_route(sri_retired *retired) {
    live_route *route = (live_route *)retired;
    route_table *table = route->table;
    for (size_t i = 0; i < route->removed_count; i++) sri_free(route->removed[i]);
    if (route->last) {
        atomic_store_explicit(&place_at(table, route->number)->newest, NULL, memory_order_release);
        table->free_numbers[table->free_count++] = route->number;
    }
    sri_live_route_free(route);
}

static void take_number(route_table *table, live_route *route) {
    bool fresh = table->free_count == 0;
    route->number =
        fresh ? (uint32_t)table->number_limit++ : table->free_numbers[--table->free_count];
    route_place *place = place_at(table, route->number);
    atomic_store_explicit(&place->hash, sri_hash(route->name.data, route->name.len, 0),
                          memory_order_relaxed);
    if (table->index != NULL) sri_index_set_route(table->index, route->number, route->id);
    table->routes++;
}

void sri_table_put_route(route_table *table, live_route *route, live_route *old) {
    route->table = table;
    route->born = table->next_version;
    route->older = old;
    if (old == NULL) take_number(table, route);
    route_place *place = place_at(table, route->number);
    atomic_store_explicit(&place->newest, route, memory_order_release);
    atomic_store_explicit(&place->gone, SRI_INDEX_FOREVER, memory_order_release);
    put(&table->names, route->name, route);
    if (sri_is_oos(route->name)) table->oos = route;
    if (old != NULL) sri_epoch_retire(table->epoch, &old->retired, release_route);
}

void sri_table_remove_route(route_table *table, live_route *route) {
    atomic_store_explicit(&place_at(table, route->number)->gone, table->next_version,
                          memory_order_release);
    sri_map_remove(&table->names, route->name);
    if (table->oos == route) table->oos = NULL;
    route->last = true;
    table->routes--;
    sri_epoch_retire(table->epoch, &route->retired, release_route);
}

/* ---- Utterances ------------------------------------------------------------------------------------------------- */

void sri_table_link_utterance(route_table *table, utterance *added, const live_route *route) {
    added->number = route->number;
    utterance *head = find_text(table, utterance_text(added));
    added->same = NULL;
    if (head != NULL) {
        added->same = head->same;
        head->same = added;
    } else {
        put(&table->texts, utterance_text(added), added);
    }
    table->utterances++;
}

void sri_table_add_vector(route_table *table, utterance *owner, const float *vector,
                          const uint8_t *code, const utterance *from, bool durable) {
    sri_index_row row = {.vector = vector,
                         .code = code,
                         .route = owner->number,
                         .utterance = owner->id,
                         .owner = owner,
                         .born = table->next_version,
                         .durable = durable};
    uint32_t slot = from == NULL ? sri_index_add(table->index, &row)
                                 : sri_index_copy(table->index, utterance_slot(from), &row);
    atomic_store_explicit(&owner->slot, slot, memory_order_release);
}

void sri_table_unlink_utterance(route_table *table, utterance *gone) {
    utterance *head = find_text(table, utterance_text(gone));
    if (head == gone) {
        /* The key is the head's own text: with the head it goes, and comes again as the next one's. */
        sri_map_remove(&table->texts, utterance_text(gone));
        if (gone->same != NULL) put(&table->texts, utterance_text(gone->same), gone->same);
    } else {
        while (head->same != gone) head = head->same;
        head->same = gone->same;
    }
    gone->gone = true;
    table->utterances--;
    if (utterance_slot(gone) != SRI_INDEX_NONE)
        sri_index_remove(table->index, utterance_slot(gone), table->next_version);
}

static void moved(void *user, void *owner, uint32_t slot) {
    (void)user;
    atomic_store_explicit(&((utterance *)owner)->slot, slot, memory_order_release);
}

void sri_table_compact(route_table *table, size_t removed) {
    if (table->index != NULL && removed > 0)
        sri_index_compact(table->index, removed * MOVES, table->next_version, moved, NULL);
}
