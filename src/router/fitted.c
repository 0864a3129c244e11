/*
 * fitted.c - the fit in use: taking it from the store, and comparing it with the table as that changes.
 *
 * What was learned numbers routes by their place in the table that it was learned from. Beside it stand the ids of
 * those routes and a digest of their utterances' ids, from which it can be told of any version of a route whether it
 * is as it was, or came or changed since (`pending`). A change therefore never makes the fit wrong, only less of use.
 *
 * What the heads need to know of all routes at once, which of them may be used, are masks by place. A change of
 * one of those routes makes a copy of them, which costs little as heads are for some thousands of routes at most; all else
 * is counted, so that no change costs as much as there are routes.
 *
 * Threads: a fit and its masks are constant once published with a view, and released when no reader sees them any more.
 */
#include <string.h>

#include "encode/encode.h"
#include "router/router_int.h"

#define DEFAULT_FAST_MODEL "static-en"

/* ---- Making and freeing --------------------------------------------------------------------------------- */

void sri_fitted_free(live_fit **handle) {
    live_fit *gone = *handle;
    if (gone == NULL) return;
    sri_fit_free(&gone->fit);
    sri_free(gone->ids);
    sri_free(gone->digests);
    sri_free(gone);
    *handle = NULL;
}

static void release_fit(sri_retired *retired) {
    live_fit *gone = (live_fit *)retired;
    sri_fitted_free(&gone);
}

static void release_masks(sri_retired *retired) { sri_free(retired); }

typedef struct pair {
    uint64_t id, digest;
} pair;

bool sri_fitted_put_route(sri_buffer *routes, uint64_t id, uint64_t digest) {
    pair entry = {id, digest};
    return sri_buffer_append(routes, &entry, sizeof entry);
}

static pair pair_at(const sri_buffer *routes, size_t i) {
    pair entry;
    memcpy(&entry, routes->data + i * sizeof entry, sizeof entry);
    return entry;
}

/* Whether the list of routes is one, and that of the fit. */
static bool routes_agree(const live_fit *made, const sri_fit *fit) {
    for (size_t i = 1; i < made->count; i++)
        if (made->ids[i] <= made->ids[i - 1]) return false;
    if (fit == NULL) return true;
    if (sri_fit_routes(fit) != made->count) return false;
    for (size_t i = 0; i < made->count; i++)
        if (sri_fit_route_at(fit, i)->id != made->ids[i]) return false;
    return true;
}

static bool take_routes(live_fit *made, const sri_buffer *routes) {
    size_t count = routes->len / sizeof(pair) - 1;
    made->ids = sri_alloc_array(count, sizeof *made->ids);
    made->digests = sri_alloc_array(count, sizeof *made->digests);
    if (made->ids == NULL || made->digests == NULL) return false;
    pair oos = pair_at(routes, 0);
    made->oos_id = oos.id;
    made->oos_digest = oos.digest;
    made->count = count;
    for (size_t i = 0; i < count; i++) {
        pair entry = pair_at(routes, i + 1);
        made->ids[i] = entry.id;
        made->digests[i] = entry.digest;
    }
    return true;
}

sr_status sri_fitted_make(const sri_store_fit *stored, sri_fit **fit, live_fit **handle,
                          sr_error *error) {
    *handle = NULL;
    if (stored->routes.len < sizeof(pair) || stored->routes.len % sizeof(pair) != 0)
        return sri_fail(error, SR_ERR_FORMAT, NULL, "its list of routes is damaged");
    live_fit *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL || !take_routes(made, &stored->routes)) {
        sri_fitted_free(&made);
        return sri_fail_memory(error);
    }
    if (!routes_agree(made, *fit)) {
        sri_fitted_free(&made);
        return sri_fail(error, SR_ERR_FORMAT, NULL, "its routes are not those of its list");
    }
    made->serial = stored->serial;
    made->revision = stored->revision;
    made->kind = stored->kind;
    made->max_oos_accepted = stored->max_oos_accepted;
    made->min_precision = stored->min_precision;
    made->auto_threshold = stored->auto_threshold;
    made->fast_share = stored->fast_share;
    memcpy(made->fast, stored->fast, sizeof made->fast);
    made->fit = *fit;
    made->has_fast = *fit != NULL && sri_fit_has_fast(*fit);
    *fit = NULL;
    *handle = made;
    return SR_OK;
}

/* ---- Assessing -------------------------------------------------------------------------------------------- */

static uint32_t place_of(const live_fit *fitted, uint64_t id) {
    size_t low = 0, high = fitted->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (fitted->ids[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < fitted->count && fitted->ids[low] == id ? (uint32_t)low : NO_PLACE;
}

fit_relation sri_fitted_relation(const live_fit *fitted, const live_route *route) {
    if (route == NULL) return (fit_relation){.place = NO_PLACE};
    bool any = route->count > 0, same;
    uint32_t place = SRI_FIT_OUT_OF_SCOPE;
    if (sri_is_oos(route->name)) {
        same = route->id == fitted->oos_id && route->digest == fitted->oos_digest;
    } else {
        place = place_of(fitted, route->id);
        same = place != NO_PLACE && fitted->digests[place] == route->digest;
    }
    return (fit_relation){place, any && same, any && !same};
}

static bool is_place(uint32_t place) { return place != NO_PLACE && place != SRI_FIT_OUT_OF_SCOPE; }

/* All in one piece of memory. */
static fit_masks *make_masks(size_t count) {
    size_t bytes;
    if (!sri_size_mul(count, sizeof(uint32_t) + 2, &bytes) ||
        !sri_size_add(bytes, sizeof(fit_masks), &bytes))
        return NULL;
    fit_masks *made = sri_alloc_zero(1, bytes);
    if (made == NULL) return NULL;
    made->count = count;
    made->numbers = (uint32_t *)(made + 1);
    made->usable = (uint8_t *)(made->numbers + count);
    made->exists = made->usable + count;
    return made;
}

bool sri_fitted_copy_masks(const fit_state *state, fit_masks **copy) {
    const fit_masks *from = state->masks;
    *copy = from == NULL ? NULL : make_masks(from->count);
    if (*copy == NULL) return from == NULL;
    memcpy((*copy)->numbers, from->numbers, from->count * sizeof *from->numbers);
    memcpy((*copy)->usable, from->usable, from->count);
    memcpy((*copy)->exists, from->exists, from->count);
    return true;
}

static void set_mask(fit_masks *masks, uint32_t place, bool usable, const live_route *now) {
    masks->usable[place] = usable;
    masks->exists[place] = now != NULL && now->count > 0;
    if (now != NULL) masks->numbers[place] = now->number;
}

/* A description is one more example of its route. What was learned stays right without it, so nothing is pending. */
static bool rewords(const live_route *before, const live_route *now) {
    return before != NULL && now != NULL && now->count > 0 &&
           !sri_str_equal(before->description, now->description);
}

void sri_fitted_note(fit_state *state, const live_route *before, const live_route *now,
                     uint64_t revision, fit_masks *copy) {
    if (rewords(before, now)) state->reworded = revision;
    if (state->fitted == NULL) return;
    fit_relation was = sri_fitted_relation(state->fitted, before),
                 is = sri_fitted_relation(state->fitted, now);
    state->pending += (size_t)is.pending - (size_t)was.pending;
    uint32_t place = before != NULL ? was.place : is.place;
    if (!is_place(place)) return;
    state->usable += (size_t)is.usable - (size_t)was.usable;
    if (copy != NULL) set_mask(copy, place, is.usable, now);
}

/* Compares a fit (NULL: none) with a table. False when memory is short. */
static bool assess(live_fit *fitted, const route_table *table, fit_state *state) {
    fit_state made = {.fitted = fitted};
    if (fitted != NULL && fitted->fit != NULL) {
        made.masks = make_masks(fitted->count);
        if (made.masks == NULL) return false;
    }
    for (size_t i = 0; fitted != NULL && i < atomic_load(&table->number_limit); i++) {
        const route_place *place = sri_steady_at(&table->places, i);
        if (atomic_load(&place->gone) == SRI_INDEX_FOREVER)
            sri_fitted_note(&made, NULL, atomic_load(&place->newest), 0, made.masks);
    }
    *state = made;
    return true;
}

void sri_fitted_replace_masks(sri_epoch *epoch, fit_state *state, fit_masks *masks) {
    if (state->masks != NULL) sri_epoch_retire(epoch, &state->masks->retired, release_masks);
    state->masks = masks;
}

sr_status sri_fitted_compare(sr_router *router, live_fit *fitted, const route_table *table,
                             sr_error *error) {
    fit_state state;
    sr_status code = sri_view_reserve(router, error);
    if (code == SR_OK && !assess(fitted, table, &state)) code = sri_fail_memory(error);
    if (code != SR_OK) return code;
    sri_fitted_replace_masks(router->epoch, &router->fit, NULL);
    state.reworded = router->fit.reworded;
    router->fit = state;
    return SR_OK;
}

/* Examples that are gone and other descriptions leave nothing pending, but another fit would come of it. */
bool sri_fitted_stale(const fit_state *state, const live_route *oos) {
    const live_fit *fitted = state->fitted;
    bool any = oos != NULL && oos->count > 0;
    return fitted != NULL && (state->pending > 0 || state->usable != fitted->count ||
                              any != (fitted->oos_id != 0) || state->reworded > fitted->revision);
}

/* ---- In the router ------------------------------------------------------------------------------------------ */

sr_status sri_router_put_fit(sr_router *router, live_fit **made, sr_error *error) {
    live_fit *old = router->fit.fitted;
    sr_status code = sri_fitted_compare(router, *made, router->table, error);
    if (code != SR_OK) return code;
    *made = NULL;
    if (old != NULL) sri_epoch_retire(router->epoch, &old->retired, release_fit);
    sri_view_publish(router);
    return SR_OK;
}

static bool own_model_is_static(const sr_router *router) {
    return !router->encoder_borrowed && router->encoder != NULL &&
           sri_encoder_operations(router->encoder) == 0;
}

static sr_status open_fast(sr_router *router, sr_encoder **fast, sr_error *error) {
    const char *model = router->fast_model == NULL ? DEFAULT_FAST_MODEL : router->fast_model;
    /* One thread: it works inside tasks of the router's own pool. */
    sr_encoder_options options = {.size = sizeof options, .model = model, .threads = 1};
    sr_status code = sr_encoder_open(&options, fast, error);
    if (code != SR_OK || sri_encoder_operations(*fast) == 0) return code;
    sr_encoder_close(fast);
    return sri_fail(error, SR_ERR_INVALID, "fast_model",
                    "%s is no static model, so it cannot serve the fast path; make one of it with "
                    "`synaptoroute distill`",
                    model);
}

sr_status sri_router_open_fast(sr_router *router, sr_error *error) {
    bool named = router->fast_model != NULL;
    if (router->fast != NULL || (router->fast_failed && !named)) return SR_OK;
    if ((named && router->fast_model[0] == '\0') || own_model_is_static(router)) return SR_OK;
    sr_encoder *fast = NULL;
    sr_error reason;
    sr_status code = open_fast(router, &fast, &reason);
    if (code != SR_OK) {
        router->fast_failed = true;
        if (named && error != NULL) *error = reason;
        if (!named) sri_log(SR_LOG_INFO, "there will be no fast path: %s", reason.message);
        return named ? code : SR_OK;
    }
    if (strcmp(sr_encoder_fingerprint(fast), sr_encoder_fingerprint(router->encoder)) == 0)
        sr_encoder_close(&fast);
    router->fast = fast;
    router->fast_failed = fast == NULL;
    return SR_OK;
}

/* The encoder of a stored fit's fast path; NULL where there is none like it. */
static sr_encoder *fast_of(sr_router *router, const sri_store_fit *stored) {
    sr_error reason;
    if (stored->fast[0] == '\0') return NULL;
    if (sri_router_open_fast(router, &reason) != SR_OK)
        sri_log(SR_LOG_WARN, "%s is decided without the fast path: %s", router->database,
                reason.message);
    bool same =
        router->fast != NULL && strcmp(sr_encoder_fingerprint(router->fast), stored->fast) == 0;
    return same ? router->fast : NULL;
}

static sr_status read_fit(sr_router *router, const sri_store_fit *stored, sri_fit **fit,
                          sr_error *error) {
    *fit = NULL;
    if (strcmp(stored->model, sr_encoder_fingerprint(router->encoder)) != 0)
        return sri_fail(error, SR_ERR_MODEL, router->database, "it was made with another model");
    if (stored->kind != SR_FIT_HEADS) return SR_OK;
    return sri_fit_read(stored->bytes.data, stored->bytes.len,
                        (size_t)sr_encoder_dimension(router->encoder), fast_of(router, stored), fit,
                        error);
}

/* A table may well hold vectors of several models, but only one of them has a fit. */
static void ignore_fit(const sr_router *router, const sri_store_fit *stored,
                       const sr_error *reason) {
    bool same = router->encoder == NULL ||
                strcmp(stored->model, sr_encoder_fingerprint(router->encoder)) == 0;
    sri_log(same ? SR_LOG_WARN : SR_LOG_INFO,
            "the fit in %s is not used, neighbours decide: %s; run `synaptoroute fit`",
            router->database, reason->message);
}

sr_status sri_router_load_fit(sr_router *router, bool ready, sr_error *error) {
    if (!router->store->keeps) return SR_OK;
    sri_store_fit stored;
    sr_status code = router->store->kind->load_fit(router->store, ready, &stored, error);
    if (code != SR_OK) return code;
    sri_fit *fit = NULL;
    live_fit *made = NULL;
    sr_error reason;
    if (stored.serial != 0) {
        if (ready) code = read_fit(router, &stored, &fit, &reason);
        if (code == SR_OK) code = sri_fitted_make(&stored, &fit, &made, &reason);
        if (code != SR_OK) ignore_fit(router, &stored, &reason);
    }
    sri_fit_free(&fit);
    /* A fit that is in use stays right, by its digests, when another model's is stored over it. */
    bool in_use = router->fit.fitted != NULL && router->fit.fitted->fit != NULL;
    bool put = !in_use || (code != SR_ERR_MODEL && code != SR_ERR_NO_MEMORY);
    code = put ? sri_router_put_fit(router, &made, error) : SR_OK;
    if (code == SR_OK) router->fit_serial = stored.serial;
    sri_fitted_free(&made);
    sri_store_fit_free(&stored);
    return code;
}

sr_status sri_router_verify_fit(sr_router *router, sr_error *error) {
    if (!router->store->keeps) return SR_OK;
    sri_store_fit stored;
    sr_status code = router->store->kind->load_fit(router->store, true, &stored, error);
    if (code != SR_OK) return code;
    sri_fit *fit = NULL;
    live_fit *made = NULL;
    sr_error reason;
    if (stored.serial != 0) {
        if (atomic_load(&router->ready)) code = read_fit(router, &stored, &fit, &reason);
        if (code == SR_OK) code = sri_fitted_make(&stored, &fit, &made, &reason);
    }
    sri_fit_free(&fit);
    sri_fitted_free(&made);
    sri_store_fit_free(&stored);
    if (code == SR_OK || code == SR_ERR_MODEL) return SR_OK;
    return sri_fail(error, code, router->database,
                    "the fit in database %s is damaged: %s; run `synaptoroute fit`",
                    router->database, reason.message);
}
