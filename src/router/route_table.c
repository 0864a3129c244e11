/*
 * route_table.c - the table in memory: routes in a list, names and texts in maps, vectors in the index.
 *
 * Routes and utterances are separate pieces of memory that never move, so that lists, maps and the index can
 * point to them, and a mutation can be prepared aside and put in by changing pointers. Utterances of equal
 * text in several routes hang in one chain, headed by the one whose text is the map's key: so a text known
 * anywhere need not be encoded again, and one map serves instead of one per route.
 *
 * Changing the table never allocates: sri_table_reserve() did that before.
 */
#include <assert.h>
#include <string.h>

#include "router/router_int.h"

/* ---- Making and freeing --------------------------------------------------------------------------------- */

utterance *sri_utterance_make(sr_str text) {
    utterance *made = sri_alloc(sizeof *made + text.len + 1);
    if (made == NULL) return NULL;
    *made = (utterance){.slot = SRI_INDEX_NONE, .len = (uint32_t)text.len};
    if (text.len > 0) memcpy(made->text, text.data, text.len);
    made->text[text.len] = '\0';
    return made;
}

static bool copy_string(sr_str *to, sr_str from) {
    *to = (sr_str){sri_strdup(from), from.len};
    return to->data != NULL;
}

void sri_live_route_free(live_route *route) {
    if (route == NULL) return;
    sri_free((void *)(uintptr_t)route->name.data);
    sri_free((void *)(uintptr_t)route->description.data);
    sri_free((void *)(uintptr_t)route->metadata.data);
    sri_free(route->utterances);
    sri_free(atomic_load(&route->fast_rows));
    sri_free(route);
}

live_route *sri_live_route_make(const sri_store_route *fields) {
    live_route *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return NULL;
    made->id = fields->id;
    made->threshold = fields->threshold;
    made->place = NO_PLACE;
    if (copy_string(&made->name, fields->name) &&
        copy_string(&made->description, fields->description) &&
        copy_string(&made->metadata, fields->metadata))
        return made;
    sri_live_route_free(made);
    return NULL;
}

route_table *sri_route_table_make(void) {
    route_table *table = sri_alloc_zero(1, sizeof *table);
    if (table != NULL) table->state.next_id = 1;
    return table;
}

void sri_route_table_free(route_table **handle) {
    route_table *table = *handle;
    if (table == NULL) return;
    for (live_route *route = table->first, *next; route != NULL; route = next) {
        next = route->next;
        for (size_t i = 0; i < route->count; i++) sri_free(route->utterances[i]);
        sri_live_route_free(route);
    }
    sri_map_free(&table->names);
    sri_map_free(&table->texts);
    sri_free(table->numbers);
    sri_free(table->free_numbers);
    sri_free(table->by_slot);
    sri_index_close(&table->index);
    sri_free(table);
    *handle = NULL;
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
    while (each != NULL && each->route != route) each = each->same;
    return each;
}

const float *sri_table_find_vector(const route_table *table, sr_str text) {
    const utterance *each = find_text(table, text);
    while (each != NULL && each->slot == SRI_INDEX_NONE) each = each->same;
    return each == NULL ? NULL : sri_index_vector(table->index, each->slot);
}

/* ---- Changing ----------------------------------------------------------------------------------------------- */

static sr_status reserve_slots(route_table *table, sr_error *error) {
    void *slots = table->by_slot;
    bool enough = sri_grow(&slots, &table->slot_capacity, sri_index_capacity(table->index),
                           sizeof *table->by_slot);
    table->by_slot = slots;
    return enough ? SR_OK : sri_fail_memory(error);
}

sr_status sri_table_reserve(route_table *table, size_t routes, size_t utterances, sr_error *error) {
    size_t limit = table->number_limit + routes;
    void *numbers = table->numbers, *freed = table->free_numbers;
    bool enough = sri_grow(&numbers, &table->number_capacity, limit, sizeof *table->numbers);
    table->numbers = numbers;
    enough = enough && sri_grow(&freed, &table->free_capacity, limit, sizeof *table->free_numbers);
    table->free_numbers = freed;
    enough = enough && sri_map_reserve(&table->names, table->routes + routes) &&
             sri_map_reserve(&table->texts, table->texts.count + utterances);
    if (!enough) return sri_fail_memory(error);
    if (table->index == NULL) return SR_OK;
    sr_status code = sri_index_reserve(table->index, utterances, limit, error);
    return code != SR_OK ? code : reserve_slots(table, error);
}

sr_status sri_table_add_index(route_table *table, int dimension, sr_error *error) {
    sr_status code = sri_index_open(dimension, &table->index, error);
    if (code == SR_OK) code = sri_index_reserve(table->index, 0, table->number_limit, error);
    if (code != SR_OK) sri_index_close(&table->index);
    if (code != SR_OK) return code;
    for (live_route *route = table->first; route != NULL; route = route->next)
        sri_index_set_route(table->index, route->number, route->id);
    return SR_OK;
}

void sri_table_link_route(route_table *table, live_route *route) {
    assert(table->free_count > 0 || table->number_limit < table->number_capacity);
    route->number = table->free_count > 0 ? table->free_numbers[--table->free_count]
                                          : (uint32_t)table->number_limit++;
    table->numbers[route->number] = route;
    route->previous = table->last;
    route->next = NULL;
    if (table->last != NULL)
        table->last->next = route;
    else
        table->first = route;
    table->last = route;
    table->routes++;
    if (sri_is_oos(route->name)) table->oos = route;
    bool put = sri_map_put(&table->names, route->name, (uintptr_t)route);
    assert(put && "room was reserved");
    (void)put;
    if (table->index != NULL) sri_index_set_route(table->index, route->number, route->id);
}

void sri_table_unlink_route(route_table *table, live_route *route) {
    if (route->previous != NULL)
        route->previous->next = route->next;
    else
        table->first = route->next;
    if (route->next != NULL)
        route->next->previous = route->previous;
    else
        table->last = route->previous;
    sri_map_remove(&table->names, route->name);
    if (table->oos == route) table->oos = NULL;
    table->numbers[route->number] = NULL;
    table->free_numbers[table->free_count++] = route->number;
    table->routes--;
}

void sri_table_link_utterance(route_table *table, utterance *added, live_route *route,
                              const float *vector) {
    added->route = route;
    route->digest += sri_digest_of(added->id);
    utterance *head = find_text(table, utterance_text(added));
    added->same = NULL;
    if (head != NULL) {
        added->same = head->same;
        head->same = added;
    } else {
        bool put = sri_map_put(&table->texts, utterance_text(added), (uintptr_t)added);
        assert(put && "room was reserved");
        (void)put;
    }
    table->utterances++;
    if (vector == NULL) return;
    added->slot = sri_index_add(table->index, vector, route->number, added->id);
    table->by_slot[added->slot] = added;
}

void sri_table_unlink_utterance(route_table *table, utterance *gone) {
    gone->route->digest -= sri_digest_of(gone->id);
    utterance *head = find_text(table, utterance_text(gone));
    if (head == gone) {
        /* The key is the head's own text: with the head it goes, and comes again as the next one's. */
        sri_map_remove(&table->texts, utterance_text(gone));
        if (gone->same != NULL) {
            bool put =
                sri_map_put(&table->texts, utterance_text(gone->same), (uintptr_t)gone->same);
            assert(put && "one was just removed");
            (void)put;
        }
    } else {
        while (head->same != gone) head = head->same;
        head->same = gone->same;
    }
    table->utterances--;
    if (gone->slot == SRI_INDEX_NONE) return;
    table->by_slot[gone->slot] = NULL;
    sri_index_remove(table->index, gone->slot);
}

/* ---- Loading -------------------------------------------------------------------------------------------------- */

typedef struct loader {
    route_table *table;
    const sri_store_model *model; /* NULL: no vectors */
    utterance **loaded;           /* in ascending order of ids */
    size_t loaded_count, loaded_capacity;
    size_t hint;            /* where the next vector's utterance is likely to be */
    size_t *list_capacity;  /* of each route's list, by number */
    live_route *last_route; /* of the last utterance */
} loader;

static sr_status load_begin(void *user, const sri_store_state *state, sr_error *error) {
    loader *load = user;
    route_table *table = load->table;
    table->state = *state;
    sr_status code = SR_OK;
    if (load->model != NULL) code = sri_table_add_index(table, load->model->dimension, error);
    if (code == SR_OK)
        code = sri_table_reserve(table, (size_t)state->routes, (size_t)state->utterances, error);
    if (code != SR_OK) return code;
    load->loaded_capacity = (size_t)state->utterances;
    load->loaded = sri_alloc_array(load->loaded_capacity, sizeof *load->loaded);
    load->list_capacity = sri_alloc_zero((size_t)state->routes, sizeof *load->list_capacity);
    return load->loaded == NULL || load->list_capacity == NULL ? sri_fail_memory(error) : SR_OK;
}

static sr_status damaged(sr_error *error, const char *what, uint64_t id) {
    return sri_fail(error, SR_ERR_FORMAT, NULL,
                    "the database is damaged: %s (id %llu); restore it from a copy", what,
                    (unsigned long long)id);
}

static sr_status load_route(void *user, const sri_store_route *fields, sr_error *error) {
    loader *load = user;
    route_table *table = load->table;
    double value = fields->threshold.value;
    if (fields->threshold.kind < SR_THRESHOLD_AUTO ||
        fields->threshold.kind > SR_THRESHOLD_CONFIDENCE || !(value >= -1 && value <= 1))
        return damaged(error, "a route has an impossible threshold", fields->id);
    if (table->routes == table->state.routes || sri_table_find(table, fields->name) != NULL)
        return damaged(error, "a route is there twice", fields->id);
    live_route *made = sri_live_route_make(fields);
    if (made == NULL) return sri_fail_memory(error);
    sri_table_link_route(table, made);
    return SR_OK;
}

/* Numbers were given in the order of loading, which is that of ids. */
static live_route *route_by_id(const loader *load, uint64_t id) {
    if (load->last_route != NULL && load->last_route->id == id) return load->last_route;
    size_t low = 0, high = load->table->number_limit;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (load->table->numbers[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < load->table->number_limit && load->table->numbers[low]->id == id;
    return found ? load->table->numbers[low] : NULL;
}

static sr_status load_utterance(void *user, uint64_t id, uint64_t route_id, sr_str text,
                                sr_error *error) {
    loader *load = user;
    live_route *route = route_by_id(load, route_id);
    if (route == NULL) return damaged(error, "an utterance has no route", id);
    if (text.len > SR_MAX_UTTERANCE_BYTES || load->loaded_count == load->loaded_capacity)
        return damaged(error, "an utterance is too long or there twice", id);
    load->last_route = route;
    void *list = route->utterances;
    bool grown = sri_grow(&list, &load->list_capacity[route->number], route->count + 1,
                          sizeof *route->utterances);
    route->utterances = list;
    utterance *made = grown ? sri_utterance_make(text) : NULL;
    if (made == NULL) return sri_fail_memory(error);
    made->id = id;
    route->utterances[route->count++] = made;
    load->loaded[load->loaded_count++] = made;
    sri_table_link_utterance(load->table, made, route, NULL);
    return SR_OK;
}

static utterance *utterance_by_id(loader *load, uint64_t id) {
    if (load->hint < load->loaded_count && load->loaded[load->hint]->id == id)
        return load->loaded[load->hint++];
    size_t low = 0, high = load->loaded_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (load->loaded[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == load->loaded_count || load->loaded[low]->id != id) return NULL;
    load->hint = low + 1;
    return load->loaded[low];
}

static sr_status load_vector(void *user, uint64_t id, const float *vector, sr_error *error) {
    loader *load = user;
    route_table *table = load->table;
    utterance *owner = utterance_by_id(load, id);
    if (owner == NULL || owner->slot != SRI_INDEX_NONE)
        return damaged(error, "a vector has no utterance or is there twice", id);
    owner->slot = sri_index_add(table->index, vector, owner->route->number, id);
    table->by_slot[owner->slot] = owner;
    return SR_OK;
}

sr_status sri_table_load(sri_store *store, const sri_store_model *model, route_table **handle,
                         size_t *missing, sr_error *error) {
    loader load = {.table = sri_route_table_make(), .model = model};
    sri_store_sink sink = {.user = &load,
                           .begin = load_begin,
                           .route = load_route,
                           .utterance = load_utterance,
                           .vector = load_vector};
    *handle = NULL;
    if (load.table == NULL) return sri_fail_memory(error);
    sr_status code = store->kind->load(store, model == NULL ? NULL : model->fingerprint,
                                       model == NULL ? 0 : model->dimension, &sink, error);
    sri_free(load.loaded);
    sri_free(load.list_capacity);
    if (code != SR_OK) {
        sri_route_table_free(&load.table);
        return code;
    }
    *missing = model == NULL ? 0 : load.table->utterances - sri_index_count(load.table->index);
    *handle = load.table;
    return SR_OK;
}
