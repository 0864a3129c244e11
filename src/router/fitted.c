/*
 * fitted.c - the fit in use: taking it from the store, and comparing it with the table as that changes.
 *
 * What was learned numbers routes by their place in the table that it was learned from. Beside it stand the ids of
 * those routes and a digest of their utterances' ids, from which sri_fitted_assess() tells after every
 * change, in time that does not depend on the number of utterances, which routes are gone, which are as
 * they were, and which came or changed (`pending`). A change therefore never makes the fit wrong, only less of use.
 *
 * Threads: a fit is swapped and assessed with readers kept out, so whoever holds the shared lock may use it without
 * counting references.
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
    sri_free(gone->routes);
    sri_free(gone->usable);
    sri_free(gone->exists);
    sri_free(gone);
    *handle = NULL;
}

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
    made->routes = sri_alloc_zero(count, sizeof(live_route *));
    made->usable = sri_alloc_zero(count, 1);
    made->exists = sri_alloc_zero(count, 1);
    if (made->ids == NULL || made->digests == NULL || made->routes == NULL ||
        made->usable == NULL || made->exists == NULL)
        return false;
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

static void assess_route(live_fit *fitted, live_route *route) {
    uint32_t place = place_of(fitted, route->id);
    bool same = place != NO_PLACE && fitted->digests[place] == route->digest;
    route->place = place;
    route->pending = route->count > 0 && !same;
    if (route->pending) fitted->pending++;
    if (place == NO_PLACE) return;
    fitted->routes[place] = route;
    fitted->exists[place] = route->count > 0;
    fitted->usable[place] = route->count > 0 && same;
}

/* Examples that are gone leave nothing pending, but another fit would come of it. */
static void assess_oos(live_fit *fitted, live_route *oos) {
    bool any = oos != NULL && oos->count > 0, had = fitted->oos_id != 0;
    bool same = any && had && oos->id == fitted->oos_id && oos->digest == fitted->oos_digest;
    if (any != had || (any && !same)) fitted->stale = true;
    if (oos == NULL) return;
    oos->place = SRI_FIT_OUT_OF_SCOPE;
    oos->pending = any && !same;
    fitted->pending += oos->pending;
}

void sri_fitted_assess(live_fit *fitted, route_table *table) {
    if (fitted == NULL || table == NULL) return;
    memset(fitted->routes, 0, fitted->count * sizeof *fitted->routes);
    memset(fitted->usable, 0, fitted->count);
    memset(fitted->exists, 0, fitted->count);
    fitted->pending = 0;
    fitted->stale = false;
    for (live_route *route = table->first; route != NULL; route = route->next)
        if (route != table->oos) assess_route(fitted, route);
    for (size_t i = 0; i < fitted->count; i++)
        if (!fitted->usable[i]) fitted->stale = true;
    assess_oos(fitted, table->oos);
    if (fitted->pending > 0) fitted->stale = true;
}

/* ---- In the router ------------------------------------------------------------------------------------------ */

void sri_router_put_fit(sr_router *router, live_fit *made) {
    pthread_rwlock_wrlock(&router->lock);
    live_fit *old = router->fitted;
    router->fitted = made;
    sri_fitted_assess(made, router->table);
    pthread_rwlock_unlock(&router->lock);
    sri_fitted_free(&old);
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
    pthread_rwlock_wrlock(&router->lock);
    router->fast = fast;
    pthread_rwlock_unlock(&router->lock);
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
    router->fit_serial = stored.serial;
    if (stored.serial != 0) {
        if (ready) code = read_fit(router, &stored, &fit, &reason);
        if (code == SR_OK) code = sri_fitted_make(&stored, &fit, &made, &reason);
        if (code != SR_OK) ignore_fit(router, &stored, &reason);
    }
    sri_fit_free(&fit);
    sri_store_fit_free(&stored);
    /* A fit that is in use stays right, by its digests, when another model's is stored over it. */
    bool in_use = router->fitted != NULL && router->fitted->fit != NULL;
    if (!in_use || (code != SR_ERR_MODEL && code != SR_ERR_NO_MEMORY))
        sri_router_put_fit(router, made);
    return SR_OK;
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
