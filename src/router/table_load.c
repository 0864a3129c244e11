/*
 * table_load.c - reading a whole table from the store into memory.
 *
 * What comes is checked, as a file may say anything: ids ascend, routes and utterances are there once, thresholds are
 * possible. Lists of routes' utterances are made at the end, when their lengths are known, so that they take no more
 * memory than they need.
 */
#include "router/table_int.h"

typedef struct loader {
    route_table *table;
    const sri_store_model *model; /* NULL: no vectors */
    const sri_index_options *wanted;
    utterance **loaded;  /* in ascending order of ids */
    live_route **owners; /* of each, its route */
    size_t loaded_count, loaded_capacity;
    size_t hint;            /* where the next code's utterance is likely to be */
    live_route *last_route; /* of the last utterance */
} loader;

static sr_status load_begin(void *user, const sri_store_state *state, sr_error *error) {
    loader *load = user;
    route_table *table = load->table;
    table->state = *state;
    sr_status code = SR_OK;
    if (load->model != NULL)
        code = sri_table_add_index(table, load->model->dimension, load->wanted, error);
    if (code == SR_OK)
        code = sri_table_reserve(table, (size_t)state->routes, (size_t)state->utterances, 0, error);
    if (code != SR_OK) return code;
    load->loaded_capacity = (size_t)state->utterances;
    load->loaded = sri_alloc_array(load->loaded_capacity, sizeof *load->loaded);
    load->owners = sri_alloc_array(load->loaded_capacity, sizeof *load->owners);
    return load->loaded == NULL || load->owners == NULL ? sri_fail_memory(error) : SR_OK;
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
    sri_table_put_route(table, made, NULL);
    return SR_OK;
}

static live_route *route_at(const route_table *table, size_t number) {
    const route_place *place = sri_steady_at(&table->places, number);
    return atomic_load_explicit(&place->newest, memory_order_relaxed);
}

/* Numbers were given in the order of loading, which is that of ids. */
static live_route *route_by_id(const loader *load, uint64_t id) {
    if (load->last_route != NULL && load->last_route->id == id) return load->last_route;
    size_t low = 0, high = load->table->routes;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (route_at(load->table, middle)->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == load->table->routes) return NULL;
    live_route *found = route_at(load->table, low);
    return found->id == id ? found : NULL;
}

static sr_status load_utterance(void *user, uint64_t id, uint64_t route_id, sr_str text,
                                sr_error *error) {
    loader *load = user;
    live_route *route = route_by_id(load, route_id);
    if (route == NULL) return damaged(error, "an utterance has no route", id);
    if (text.len > SR_MAX_UTTERANCE_BYTES || load->loaded_count == load->loaded_capacity)
        return damaged(error, "an utterance is too long or there twice", id);
    load->last_route = route;
    utterance *made = sri_utterance_make(text);
    if (made == NULL) return sri_fail_memory(error);
    made->id = id;
    route->count++;
    route->digest += sri_digest_of(id);
    load->owners[load->loaded_count] = route;
    load->loaded[load->loaded_count++] = made;
    sri_table_link_utterance(load->table, made, route);
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

static sr_status load_code(void *user, uint64_t id, const uint8_t *code, sr_error *error) {
    loader *load = user;
    utterance *owner = utterance_by_id(load, id);
    if (owner == NULL || utterance_slot(owner) != SRI_INDEX_NONE)
        return damaged(error, "a vector has no utterance or is there twice", id);
    sri_table_add_vector(load->table, owner, NULL, code, NULL, true);
    return SR_OK;
}

/* Counts become lists. */
static bool make_lists(loader *load) {
    for (size_t i = 0; i < load->table->routes; i++) {
        live_route *route = route_at(load->table, i);
        if (route->count == 0) continue;
        utterance_list *list = sri_list_make(route->count);
        if (list == NULL) return false;
        sri_route_use(route, list);
    }
    for (size_t i = 0; i < load->loaded_count; i++) {
        live_route *owner = load->owners[i];
        sri_list_append(owner->list, load->loaded[i]);
        owner->limit++;
    }
    return true;
}

/* What no list has yet. */
static void free_loaded(loader *load) {
    for (size_t i = 0; i < load->table->routes; i++) route_at(load->table, i)->limit = 0;
    for (size_t i = 0; i < load->loaded_count; i++) sri_free(load->loaded[i]);
}

sr_status sri_table_load(sri_store *store, const sri_store_model *model,
                         const sri_index_options *wanted, sri_epoch *epoch, uint64_t version,
                         route_table **handle, size_t *missing, sr_error *error) {
    loader load = {.table = sri_route_table_make(epoch, version), .model = model, .wanted = wanted};
    sri_store_sink sink = {&load, load_begin, load_route, load_utterance, load_code};
    *handle = NULL;
    if (load.table == NULL) return sri_fail_memory(error);
    sr_status code = store->kind->load(store, model == NULL ? NULL : model->fingerprint,
                                       model == NULL ? 0 : model->dimension, &sink, error);
    if (code == SR_OK && !make_lists(&load)) code = sri_fail_memory(error);
    if (code != SR_OK) free_loaded(&load);
    sri_free(load.loaded);
    sri_free(load.owners);
    if (code != SR_OK) {
        sri_route_table_free(&load.table);
        return code;
    }
    *missing = model == NULL ? 0 : load.table->utterances - sri_index_count(load.table->index);
    *handle = load.table;
    return SR_OK;
}
