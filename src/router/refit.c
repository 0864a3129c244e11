/*
 * refit.c - sr_fit(): learning from a copy of the table, and putting the result in place.
 *
 *   copy, encode and learn (no lock but `fitting`), store and publish (writer).
 *
 * So readers wait for nothing, and changes for the store. What changes meanwhile is found by comparing digests
 * when the fit is put in place: those routes are pending, and neighbours decide for them. A fit that another process
 * has made from a newer table wins: it is loaded instead.
 */
#include <math.h>
#include <string.h>

#include "router/refit_int.h"
#include "router/route_check.h"

/* One call. */
typedef struct refit {
    sr_router *router;
    const sr_fit_options *options;
    int threads;
    snapshot table;
    double max_oos_accepted, min_precision; /* of automatic thresholds */
    uint32_t place;                         /* of the option `route`; NO_PLACE without it */
    sri_fit *fit;
    sri_fit_findings findings;
    sri_store_fit stored;
    uint64_t before,
        share; /* of progress, in thousandths: where a part begins, and how much it is */
} refit;

/* ---- Options ---------------------------------------------------------------------------------------------------- */

static sr_status check_target(double value, const char *name, sr_error *error) {
    if (value <= 1) return SR_OK; /* not NaN */
    return sri_fail(error, SR_ERR_INVALID, name, "%s %g is not a share from 0 to 1", name, value);
}

static sr_status check_options(const sr_router *router, const sr_fit_options *options,
                               sr_error *error) {
    sr_status code = check_target(options->max_oos_accepted, "max_oos_accepted", error);
    if (code == SR_OK) code = check_target(options->min_precision, "min_precision", error);
    if (code == SR_OK && options->route != NULL)
        code = sri_check_given(*options->route, "route", error);
    if (code == SR_OK && options->route != NULL && !(options->max_oos_accepted > 0) &&
        !(options->min_precision > 0))
        return sri_fail(error, SR_ERR_INVALID, "route",
                        "a route needs a target: max_oos_accepted or min_precision");
    if (code == SR_OK && atomic_load(&router->store->read_only))
        return sri_fail(error, SR_ERR_READ_ONLY, router->database,
                        "%s is open for reading only, so that no fit can be stored; check its "
                        "permissions and its directory's",
                        router->database);
    return code;
}

static double settle_target(double given, double before) {
    if (given > 0) return given;
    return given == 0 && before > 0 ? before : 0;
}

/* Targets of automatic thresholds are kept from fit to fit; those for one route are not for the others. */
static void settle_targets(refit *call) {
    const sr_fit_options *options = call->options;
    double max_oos = 0, min_precision = 0;
    pinned_view pinned = sri_view_pin(call->router);
    if (pinned.view->fitted != NULL) {
        max_oos = pinned.view->fitted->max_oos_accepted;
        min_precision = pinned.view->fitted->min_precision;
    }
    sri_view_unpin(pinned);
    bool one = options->route != NULL;
    call->max_oos_accepted = settle_target(one ? 0 : options->max_oos_accepted, max_oos);
    call->min_precision = settle_target(one ? 0 : options->min_precision, min_precision);
}

static sr_status find_route(refit *call, sr_error *error) {
    const sr_str *name = call->options->route;
    uint64_t place;
    call->place = NO_PLACE;
    if (name == NULL) return SR_OK;
    if (!sri_map_get(&call->table.names, *name, &place))
        return sri_fail(error, SR_ERR_NOT_FOUND, "route",
                        "there is no route \"%.*s\" with utterances",
                        (int)SRI_MIN(name->len, (size_t)120), name->data);
    call->place = (uint32_t)place;
    return SR_OK;
}

/* ---- Progress --------------------------------------------------------------------------------------------------- */

static int report_part(void *user, uint64_t done, uint64_t total) {
    refit *call = user;
    if (call->options->progress == NULL) return 0;
    double part = total == 0 ? 1 : (double)done / (double)total;
    uint64_t thousandths = call->before + (uint64_t)(part * (double)call->share);
    return call->options->progress(call->options->progress_user, SRI_MIN(thousandths, 1000u), 1000);
}

/* ---- Learning --------------------------------------------------------------------------------------------------- */

static sr_status learn(refit *call, sri_pool *pool, sr_error *error) {
    snapshot *from = &call->table;
    sri_fit_table table = {
        .dimension = (size_t)sr_encoder_dimension(call->router->encoder),
        .route_count = from->route_count,
        .routes = from->routes,
        .name_vectors = from->name_vectors,
        .description_vectors = from->description_vectors,
        .stranger_vectors = from->stranger_vectors,
        .utterances = {from->count, from->texts, from->places, from->vectors},
        .labelled = {from->labelled_count, from->labelled, from->labels, from->labelled_vectors},
        .fast = call->router->fast,
        .pool = pool,
        .max_oos_accepted = call->max_oos_accepted,
        .min_precision = call->min_precision,
        .progress = report_part,
        .progress_user = call};
    return sri_fit_make(&table, &call->fit, &call->findings, error);
}

/* Where no heads can be learned. */
static sr_status make_none(refit *call, sr_error *error) {
    sr_status code = learn(call, NULL, error);
    if (code != SR_OK || call->findings.reach != SRI_FIT_TOO_LARGE) return code;
    call->share = 1000;
    return sri_neighbour_threshold(call->router, report_part, call, &call->findings.auto_threshold,
                                   error);
}

/* A pool of its own, which does not stand in the way of decisions on the router's. */
static sr_status make_fit(refit *call, sr_error *error) {
    sri_pool *pool = NULL;
    call->findings = sri_fit_nothing;
    if (call->table.route_count == 0) return SR_OK;
    if (snapshot_reach(&call->table) != SRI_FIT_LEARNS) return make_none(call, error);
    call->share = call->table.labelled_count > 0 ? 300 : 100;
    sr_status code = sri_snapshot_encode(call->router, &call->table, report_part, call, error);
    if (code == SR_OK) code = sri_pool_open(call->threads, &pool, error);
    call->before = call->share;
    call->share = 1000 - call->before;
    if (code == SR_OK) code = learn(call, pool, error);
    sri_pool_close(&pool);
    return code;
}

/* ---- Putting in place --------------------------------------------------------------------------------------------- */

static sr_status write_fit(refit *call, sr_error *error) {
    sri_store_fit *stored = &call->stored;
    const snapshot *from = &call->table;
    stored->revision = from->revision;
    stored->kind = call->fit == NULL ? SR_FIT_NEIGHBOURS : SR_FIT_HEADS;
    stored->max_oos_accepted = call->max_oos_accepted;
    stored->min_precision = call->min_precision;
    stored->auto_threshold = call->findings.auto_threshold;
    stored->fast_share = call->findings.fast_share;
    snprintf(stored->model, sizeof stored->model, "%s",
             sr_encoder_fingerprint(call->router->encoder));
    if (call->fit != NULL && sri_fit_has_fast(call->fit))
        snprintf(stored->fast, sizeof stored->fast, "%s",
                 sr_encoder_fingerprint(call->router->fast));
    bool enough = sri_fitted_put_route(&stored->routes, from->oos_id, from->oos_digest);
    for (size_t i = 0; i < from->route_count && enough; i++)
        enough = sri_fitted_put_route(&stored->routes, from->routes[i].id, from->routes[i].digest);
    if (!enough) return sri_fail_memory(error);
    if (call->fit == NULL || !call->router->store->keeps) return SR_OK;
    return sri_fit_write(call->fit, &stored->bytes, error);
}

/* Nothing to be learned from nothing: no database is made for that. */
static sr_status store_fit(refit *call, sr_error *error) {
    sr_router *router = call->router;
    if (call->table.count == 0) return SR_OK;
    sr_status code = write_fit(call, error);
    if (code != SR_OK) return code;
    live_fit *made = NULL;
    pthread_mutex_lock(&router->writer);
    sri_group_settle(router);
    code = sri_group_mend(router, error);
    /* Deferred changes that it was made from may have been taken back since. */
    call->stored.revision = SRI_MIN(call->stored.revision, router->table->state.revision);
    if (code == SR_OK) code = sri_fitted_make(&call->stored, &call->fit, &made, error);
    uint64_t serial = 0;
    if (code == SR_OK)
        code = router->store->kind->save_fit(router->store, &call->stored, &serial, error);
    if (code == SR_OK && serial == 0) {
        sri_log(SR_LOG_INFO, "%s has a fit of a newer table, which is used", router->database);
        live_fit *none = NULL;
        code = sri_router_put_fit(router, &none, error);
        if (code == SR_OK) code = sri_router_load_fit(router, true, error);
        const live_fit *loaded = router->fit.fitted;
        if (code == SR_OK && (loaded == NULL || loaded->fit == NULL))
            code = sri_router_put_fit(router, &made, error); /* that one is of another model */
    } else if (code == SR_OK) {
        made->serial = router->fit_serial = serial;
        code = sri_router_put_fit(router, &made, error);
    }
    pthread_mutex_unlock(&router->writer);
    sri_fitted_free(&made);
    return code;
}

static sr_status open_fast(sr_router *router, sr_error *error) {
    pthread_mutex_lock(&router->writer);
    sr_status code = sri_router_open_fast(router, error);
    pthread_mutex_unlock(&router->writer);
    return code;
}

/* The threshold is worked out before the fit is given away, and set after it is in place. */
static sr_status finish(refit *call, sr_fit_report **report, sr_error *error) {
    const sr_fit_options *options = call->options;
    sr_threshold threshold = {SR_THRESHOLD_CONFIDENCE, NAN};
    sr_status code = sri_report_make(&call->table, call->fit, &call->findings, report, error);
    if (code == SR_OK && call->place != NO_PLACE)
        code = sri_report_threshold(&call->table, call->fit, call->place,
                                    SRI_MAX(options->max_oos_accepted, 0),
                                    SRI_MAX(options->min_precision, 0), &threshold.value, error);
    if (code == SR_OK) code = store_fit(call, error);
    if (code != SR_OK || call->place == NO_PLACE) return code;
    (*report)->route_threshold = threshold.value;
    const sri_fit_route *route = &call->table.routes[call->place];
    return sri_router_set_threshold(call->router, route->name, route->id, &threshold, error);
}

static sr_status run(refit *call, sr_fit_report **report, sr_error *error) {
    const sr_fit_options *options = call->options;
    sr_status code = sri_snapshot_take(call->router, &call->table, error);
    if (code == SR_OK)
        code = sri_snapshot_label(&call->table, options->texts, options->routes, options->count,
                                  error);
    if (code == SR_OK) code = find_route(call, error);
    if (code != SR_OK) return code;
    settle_targets(call);
    code = make_fit(call, error);
    return code != SR_OK ? code : finish(call, report, error);
}

sr_status sri_router_fit(sr_router *router, const sr_fit_options *options, int threads,
                         sr_fit_report **report, sr_error *error) {
    refit call = {.router = router, .options = options, .threads = threads};
    sr_fit_report *made = NULL;
    pthread_mutex_lock(&router->fitting);
    sr_status code = sri_router_ready(router, error);
    if (code == SR_OK) code = sri_router_look(router, error);
    if (code == SR_OK) code = open_fast(router, error);
    if (code == SR_OK) code = run(&call, &made, error);
    pthread_mutex_unlock(&router->fitting);
    sri_fit_free(&call.fit);
    sri_store_fit_free(&call.stored);
    sri_snapshot_free(&call.table);
    if (code == SR_OK && report != NULL)
        *report = made;
    else
        sr_fit_report_free(&made);
    return code;
}

sr_status sr_fit(sr_router *router, const sr_fit_options *given, sr_fit_report **report,
                 sr_error *error) {
    if (report != NULL) *report = NULL;
    sr_fit_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_fit_options", error);
    if (code == SR_OK) code = check_options(router, &options, error);
    return code != SR_OK ? code : sri_router_fit(router, &options, router->threads, report, error);
}
