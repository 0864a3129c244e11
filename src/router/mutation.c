/*
 * mutation.c - adding, changing and removing routes: the public calls and the order of their steps.
 *
 *   check arguments, plan, reserve, open a group, apply, show or store.
 *
 * All before applying can fail and leaves everything as it was. Texts that need a vector are encoded without `writer`, then the
 * mutation is planned anew with what was encoded; so others go on, and two calls may encode the same text. When the
 * store turns out to hold a newer revision, the table is brought up to date and the mutation planned anew, too.
 * A deferred change is shown at once; others when their group has been stored (group.c).
 */
#include <math.h>
#include <string.h>

#include "router/json_text.h"
#include "router/mutation_int.h"
#include "router/route_check.h"

#define MAX_ATTEMPTS 20

/* One public call; `plan` is made by `make` once for each attempt. */
typedef struct mutation_call {
    sr_router *router;
    const sr_route *routes; /* each of `stride` bytes */
    size_t stride, count;
    sr_put_mode mode;
    const sr_str *oos; /* out-of-scope examples to be put */
    size_t oos_count;
    sr_progress_fn *progress;
    void *progress_user;
    sr_str name;         /* of the route that loses utterances */
    const sr_str *texts; /* `text_count` utterances to be removed */
    size_t text_count;
    sr_status (*make)(struct mutation_call *mutation, mutation_plan *plan, sr_error *error);
    sri_arena
        kept; /* texts that were encoded, metadata of the routes as it will be stored, vectors at their length */
    const float **given;           /* vectors of each route's utterances; NULL: of none */
    uint64_t route_id;             /* of the route that gets another threshold */
    const sr_threshold *threshold; /* its own */
    const sr_str *names;           /* `name_count` routes to be removed */
    size_t name_count;
    sr_durability durability;
    sri_map encoded; /* texts, to their row in `vectors` */
    float *vectors;
    size_t vector_count;
    sr_str *missing; /* texts to be encoded, which the map has already */
    size_t missing_count, missing_capacity;
} mutation_call;

/* ---- Vectors of new utterances ------------------------------------------------------------------------------------ */

/* Notes a text to be encoded; its row is the next. */
static bool miss(mutation_call *mutation, sr_str text) {
    void *missing = mutation->missing;
    bool enough = sri_grow(&missing, &mutation->missing_capacity, mutation->missing_count + 1,
                           sizeof *mutation->missing);
    mutation->missing = missing;
    if (!enough) return false;
    sr_str copy = sri_arena_copy(&mutation->kept, text);
    if (copy.data == NULL ||
        !sri_map_put(&mutation->encoded, copy, mutation->vector_count + mutation->missing_count))
        return false;
    mutation->missing[mutation->missing_count++] = copy;
    return true;
}

/* The vector of a text that some route has; NULL when there is none, or it cannot be had. */
static const float *known_vector(mutation_call *mutation, const mutation_plan *plan, sr_str text,
                                 const search_desk *desk, size_t dimension) {
    const utterance *same = sri_table_find_vector(plan->table, text);
    float *row = same == NULL ? NULL : sri_arena_alloc(&mutation->kept, dimension * sizeof *row);
    if (row == NULL) return NULL;
    uint32_t slot = utterance_slot(same);
    bool found = sri_index_vectors(plan->table->index, &slot, 1, &desk->source, row, NULL);
    return found ? row : NULL;
}

/* Finds the vectors of all that is added, or notes what must be encoded. */
static bool find_vectors(mutation_call *mutation, mutation_plan *plan) {
    size_t dimension = (size_t)sr_encoder_dimension(mutation->router->encoder);
    search_desk *desk = sri_desk_claim(mutation->router);
    bool enough = desk != NULL;
    for (size_t i = 0; i < plan->add_count && enough; i++) {
        planned_add *add = &plan->adds[i];
        sr_str text = utterance_text(add->utterance);
        uint64_t row = 0;
        if (add->vector != NULL || add->from != NULL) continue;
        if (sri_map_get(&mutation->encoded, text, &row)) {
            if (row < mutation->vector_count) add->vector = mutation->vectors + row * dimension;
            continue;
        }
        add->vector = known_vector(mutation, plan, text, desk, dimension);
        if (add->vector == NULL) enough = miss(mutation, text);
    }
    if (desk != NULL) sri_desk_leave(desk);
    return enough;
}

static sr_status encode_missing(mutation_call *mutation, sr_error *error) {
    sr_encoder *encoder = mutation->router->encoder;
    size_t dimension = (size_t)sr_encoder_dimension(encoder), row;
    float *vectors = NULL;
    if (sri_size_mul(dimension, sizeof(float), &row))
        vectors = sri_resize_array(mutation->vectors,
                                   mutation->vector_count + mutation->missing_count, row);
    if (vectors == NULL) return sri_fail_memory(error);
    mutation->vectors = vectors;
    sr_status code = sri_router_encode(mutation->router, mutation->missing, mutation->missing_count,
                                       vectors + mutation->vector_count * dimension,
                                       mutation->progress, mutation->progress_user, error);
    mutation->vector_count += mutation->missing_count;
    mutation->missing_count = 0;
    return code;
}

/* ---- One attempt -------------------------------------------------------------------------------------------------- */

/* How an attempt ended that did not fail. */
typedef enum outcome {
    NOTHING, /* there was nothing to change */
    PUSHED,  /* the change is made, and in the group */
    AGAIN,   /* the table is another now */
    ENCODE   /* texts must be encoded first */
} outcome;

/* Whether a change of this draft changes the masks of the fit. */
static bool touches_masks(const sr_router *router, const route_draft *draft) {
    if (router->fit.masks == NULL || draft->old == NULL) return false;
    return !sri_is_oos(draft->name) &&
           sri_fitted_relation(router->fit.fitted, draft->old).place != NO_PLACE;
}

sr_status sri_mutation_reserve(sr_router *router, const mutation_plan *plan, size_t vectors,
                               fit_masks **masks, sr_error *error) {
    bool touched = false;
    sr_status code = sri_view_reserve(router, error);
    if (code == SR_OK)
        code = sri_table_reserve(router->table, plan->draft_count, plan->add_count, vectors, error);
    for (size_t i = 0; i < plan->draft_count && !touched; i++)
        touched = touches_masks(router, plan->drafts[i]);
    if (code == SR_OK && touched && !sri_fitted_copy_masks(&router->fit, masks))
        code = sri_fail_memory(error);
    return code;
}

/* What the store will say about models, as far as it can be known without asking it. */
static void note_models(sr_router *router, bool added, bool was_empty) {
    sri_store_state *state = &router->table->state;
    if (router->table->utterances == 0)
        state->models = 0;
    else if (was_empty)
        state->models = 1;
    if (!added) return;
    sri_store_model model = sri_router_model(router);
    snprintf(state->model_name, sizeof state->model_name, "%s", model.name);
    snprintf(state->model_fingerprint, sizeof state->model_fingerprint, "%s", model.fingerprint);
    state->model_dimension = model.dimension;
}

/* The versions before are still there, as the epoch has not advanced. */
void sri_mutation_apply(sr_router *router, mutation_plan *plan, fit_masks *masks, bool durable) {
    uint64_t revision = router->table->state.revision + 1; /* or later: what others have done */
    for (size_t i = 0; i < plan->draft_count; i++) {
        const route_draft *draft = plan->drafts[i];
        if (!draft->removed && draft->made == NULL) continue;
        sri_fitted_note(&router->fit, draft->old, draft->made, revision, masks);
    }
    if (masks != NULL) sri_fitted_replace_masks(router->epoch, &router->fit, masks);
    sri_plan_apply(plan, durable);
}

static void push(mutation_call *mutation, const mutation_plan *plan, group_record *record) {
    sr_router *router = mutation->router;
    record->durability = mutation->durability;
    record->commit.new_revision = router->table->state.revision;
    record->commit.next_id = plan->next_id;
    if (plan->add_count > plan->moves) {
        record->model = sri_router_model(router);
        record->commit.model = &record->model;
    }
    sri_group_push(router, record);
    if (mutation->durability == SR_DURABILITY_DEFERRED) sri_group_show(router);
    sri_refitter_wake(router);
}

/* A plan that failed, or changes nothing, may have been made on a table that another process has changed. */
static sr_status look_again(sr_router *router, sr_status planned, outcome *what, sr_error *error) {
    uint64_t before = router->table->state.revision;
    *what = NOTHING;
    if (router->group.open) return planned;
    sr_error reason;
    sr_status code = sri_router_refresh(router, &reason);
    if (code != SR_OK && error != NULL) *error = reason;
    if (code != SR_OK) return code;
    if (router->table->state.revision == before) return planned;
    *what = AGAIN;
    return SR_OK;
}

/* What is there already may have been stored without being synced: where nothing has to change either, an
 * empty group does that. */
static sr_status open_empty(const mutation_call *mutation, outcome *what, sr_error *error) {
    sr_router *router = mutation->router;
    bool changed = false, kept = router->store->keeps && router->table->state.revision > 0;
    if (!kept || mutation->durability != SR_DURABILITY_FULL) return SR_OK;
    sr_status code = sri_group_begin(router, &changed, error);
    if (changed) *what = AGAIN;
    return code;
}

/* Opens a group and makes the change. */
static sr_status carry_out(mutation_call *mutation, mutation_plan *plan, outcome *what,
                           sr_error *error) {
    sr_router *router = mutation->router;
    fit_masks *masks = NULL;
    bool changed = false;
    sr_status code = sri_mutation_reserve(router, plan, plan->add_count, &masks, error);
    group_record *record = NULL;
    if (code == SR_OK) {
        record = sri_plan_record(plan);
        code = record == NULL ? sri_fail_memory(error) : sri_group_begin(router, &changed, error);
    }
    if (code == SR_OK && !changed) {
        bool was_empty = router->table->utterances == 0;
        sri_mutation_apply(router, plan, masks, false);
        router->table->state.revision =
            SRI_MAX(router->table->state.revision, router->table->spent_revision) + 1;
        note_models(router, plan->add_count > plan->moves, was_empty);
        if (mutation->durability == SR_DURABILITY_DEFERRED && plan->add_count > 0)
            sri_plan_lend(plan, record, (size_t)sr_encoder_dimension(router->encoder));
        push(mutation, plan, record);
        *what = PUSHED;
        return SR_OK;
    }
    sri_free(record);
    sri_free(masks);
    *what = AGAIN;
    return code;
}

static sr_status attempt(mutation_call *mutation, mutation_plan *plan, outcome *what,
                         sr_error *error) {
    sr_router *router = mutation->router;
    bool deferred = mutation->durability == SR_DURABILITY_DEFERRED;
    *what = NOTHING;
    if (router->group.stop)
        return sri_fail(error, SR_ERR_INVALID, "router",
                        "the router is being closed and takes no more changes");
    sr_status code = deferred ? sri_group_admit(router, error) : SR_OK;
    if (code == SR_OK) code = sri_group_mend(router, error);
    if (code != SR_OK) return code;
    plan->table = router->table;
    code = mutation->make(mutation, plan, error);
    if (code == SR_OK) code = sri_plan_finish(plan, error);
    if (code != SR_OK || !sri_plan_changes_something(plan)) {
        code = look_again(router, code, what, error);
        return code == SR_OK && *what == NOTHING ? open_empty(mutation, what, error) : code;
    }
    if (plan->add_count > 0 && !atomic_load(&router->ready)) {
        *what = AGAIN;
        return sri_router_ready_locked(router, error);
    }
    if (plan->add_count > 0 && !find_vectors(mutation, plan)) return sri_fail_memory(error);
    if (mutation->missing_count > 0) {
        *what = ENCODE;
        return SR_OK;
    }
    return carry_out(mutation, plan, what, error);
}

/* A route of the caller's, whose struct may be an older or a newer one. */
static sr_status take_route(const mutation_call *mutation, size_t i, sr_route *route,
                            sr_error *error) {
    const char *given = (const char *)mutation->routes + i * mutation->stride;
    size_t size;
    memcpy(&size, given, sizeof size);
    if (size != mutation->stride)
        return sri_fail(error, SR_ERR_INVALID, "routes",
                        "routes[%zu] has size %zu, but routes[0] has %zu", i, size,
                        mutation->stride);
    return sri_take_options(route, sizeof *route, given, "sr_route", error);
}

/* ---- Vectors that the caller gives ---------------------------------------------------------------------------- */

#define UNIT_WITHIN    1e-3 /* what is refused otherwise */
#define EXACTLY_WITHIN 1e-6 /* what is taken as it is */

static double length_of(const float *row, size_t dimension) {
    double sum = 0;
    for (size_t i = 0; i < dimension; i++) sum += (double)row[i] * row[i];
    return sqrt(sum);
}

/* The rows themselves, or copies of length 1. */
static sr_status take_rows(mutation_call *mutation, const float *rows, size_t count,
                           size_t dimension, size_t number, sr_error *error) {
    double furthest = 0;
    for (size_t i = 0; i < count; i++) {
        double off = fabs(length_of(rows + i * dimension, dimension) - 1);
        if (!(off <= UNIT_WITHIN))
            return sri_fail(error, SR_ERR_INVALID, "vectors",
                            "vector %zu of routes[%zu] does not have length 1", i, number);
        furthest = SRI_MAX(furthest, off);
    }
    mutation->given[number] = rows;
    if (furthest <= EXACTLY_WITHIN) return SR_OK;
    size_t floats, bytes;
    float *copies = NULL;
    if (sri_size_mul(count, dimension, &floats) && sri_size_mul(floats, sizeof(float), &bytes))
        copies = sri_arena_alloc(&mutation->kept, bytes);
    if (copies == NULL) return sri_fail_memory(error);
    for (size_t i = 0; i < floats; i++) copies[i] = rows[i];
    for (size_t i = 0; i < count; i++) {
        double length = length_of(rows + i * dimension, dimension);
        for (size_t k = 0; k < dimension; k++)
            copies[i * dimension + k] = (float)(rows[i * dimension + k] / length);
    }
    mutation->given[number] = copies;
    return SR_OK;
}

/* The model is needed to know the dimension. */
static sr_status take_vectors(mutation_call *mutation, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; i < mutation->count && code == SR_OK; i++) {
        sr_route route;
        code = take_route(mutation, i, &route, error);
        if (code != SR_OK || route.vectors == NULL || route.utterance_count == 0) continue;
        if (mutation->given == NULL) {
            mutation->given = sri_alloc_zero(mutation->count, sizeof *mutation->given);
            code = mutation->given == NULL ? sri_fail_memory(error)
                                           : sri_router_ready(mutation->router, error);
        }
        if (code == SR_OK)
            code = take_rows(mutation, route.vectors, route.utterance_count,
                             (size_t)sr_encoder_dimension(mutation->router->encoder), i, error);
    }
    return code;
}

/* ---- Running --------------------------------------------------------------------------------------------------- */

static sr_status begin(mutation_call *mutation, sr_error *error) {
    sr_router *router = mutation->router;
    if (mutation->durability < SR_DURABILITY_DEFAULT ||
        mutation->durability > SR_DURABILITY_DEFERRED)
        return sri_fail(error, SR_ERR_INVALID, "durability", "there is no durability %d",
                        (int)mutation->durability);
    if (mutation->durability == SR_DURABILITY_DEFAULT) mutation->durability = router->durability;
    if (atomic_load(&router->store->read_only))
        return sri_fail(error, SR_ERR_READ_ONLY, router->database,
                        "%s is open for reading only; check its permissions and its directory's",
                        router->database);
    return take_vectors(mutation, error);
}

static void fill_receipt(mutation_call *mutation, const mutation_plan *plan, sr_receipt *receipt) {
    sr_router *router = mutation->router;
    *receipt = plan->receipt;
    receipt->revision = router->table->state.revision;
    receipt->durability = mutation->durability;
}

static void free_call(mutation_call *mutation) {
    sri_arena_free(&mutation->kept);
    sri_map_free(&mutation->encoded);
    sri_free(mutation->given);
    sri_free(mutation->vectors);
    sri_free(mutation->missing);
}

static bool unfinished(outcome what) { return what == AGAIN || what == ENCODE; }

/* Until the change is in a group, or failed. The caller holds `writer`. */
static sr_status make_change(mutation_call *mutation, sr_receipt *receipt, outcome *what,
                             sr_error *error) {
    sr_router *router = mutation->router;
    sr_status code = SR_OK;
    *what = AGAIN;
    for (int i = 0; i < MAX_ATTEMPTS && code == SR_OK && unfinished(*what); i++) {
        mutation_plan plan = {0};
        code = attempt(mutation, &plan, what, error);
        if (code == SR_OK && !unfinished(*what)) fill_receipt(mutation, &plan, receipt);
        sri_plan_free(&plan);
        if (code != SR_OK || *what != ENCODE) continue;
        sri_group_let_go(router);
        sri_group_leave(router);
        pthread_mutex_unlock(&router->writer);
        code = encode_missing(mutation, error);
        atomic_fetch_add(&router->group.joining, 1);
        pthread_mutex_lock(&router->writer);
    }
    if (code == SR_OK && unfinished(*what))
        return sri_fail(
            error, SR_ERR_BUSY, router->database,
            "other processes changed %s each of %d times that this change was tried; try again",
            router->database, MAX_ATTEMPTS);
    return code;
}

/* Until the change has the durability that it is to have. What a call found to be so already may be another's change,
 * which is not yet stored. */
static sr_status conclude(const mutation_call *mutation, sr_error *error) {
    sr_router *router = mutation->router;
    group_waiter own = {.synced = mutation->durability == SR_DURABILITY_FULL};
    bool waits = router->group.open && mutation->durability != SR_DURABILITY_DEFERRED;
    return waits ? sri_group_finish(router, &own, error) : SR_OK;
}

static sr_status run(mutation_call *mutation, sr_receipt *given, sr_error *error) {
    sr_router *router = mutation->router;
    sri_group *group = &router->group;
    sr_receipt receipt = {0};
    outcome what = NOTHING;
    sr_status code = begin(mutation, error);
    atomic_fetch_add(&group->joining, 1);
    pthread_mutex_lock(&router->writer);
    if (code == SR_OK) code = make_change(mutation, &receipt, &what, error);
    sri_group_leave(router);
    if (code == SR_OK)
        code = conclude(mutation, error);
    else
        sri_group_let_go(router);
    if (code == SR_OK && given != NULL) receipt.lost = sri_group_lost(router);
    bool tell = group->lost_uncalled > 0;
    pthread_mutex_unlock(&router->writer);
    if (tell) sri_group_tell(router);
    free_call(mutation);
    if (code == SR_OK && given != NULL) *given = receipt;
    return code;
}

/* ---- The public calls ----------------------------------------------------------------------------------------------- */

/* Equal metadata must be equal text, or storing the same table again would change it. */
static sr_status compact_metadata(mutation_call *mutation, const sr_route *route, sr_str *compact,
                                  sr_error *error) {
    sri_buffer text = {0};
    bool enough = sri_json_compact(&text, *route->metadata);
    if (enough) *compact = sri_arena_copy(&mutation->kept, (sr_str){text.data, text.len});
    sri_buffer_free(&text);
    return enough && compact->data != NULL ? SR_OK : sri_fail_memory(error);
}

static sr_status make_put(mutation_call *mutation, mutation_plan *plan, sr_error *error) {
    sr_status code = SR_OK;
    size_t dimension = 0;
    if (mutation->given != NULL)
        dimension = (size_t)sr_encoder_dimension(mutation->router->encoder);
    for (size_t i = 0; i < mutation->count && code == SR_OK; i++) {
        sr_route route;
        code = take_route(mutation, i, &route, error);
        sr_str compact;
        if (code == SR_OK && route.metadata != NULL) {
            code = compact_metadata(mutation, &route, &compact, error);
            route.metadata = &compact;
        }
        if (code == SR_OK)
            code =
                sri_plan_put(plan, &route, mutation->mode,
                             mutation->given == NULL ? NULL : mutation->given[i], dimension, error);
    }
    sr_route oos = {.name = sr_str_of(SR_OOS_NAME),
                    .utterances = mutation->oos,
                    .utterance_count = mutation->oos_count};
    if (code == SR_OK && mutation->oos_count > 0)
        code = sri_plan_put(plan, &oos, mutation->mode, NULL, 0, error);
    return code;
}

static sr_status check_routes(const mutation_call *mutation, sr_error *error) {
    for (size_t i = 0; i < mutation->count; i++) {
        sr_route route;
        sr_status code = take_route(mutation, i, &route, error);
        if (code == SR_OK) code = sri_check_route(&route, i, error);
        if (code != SR_OK) return code;
        if (sri_is_oos(route.name))
            return sri_fail(error, SR_ERR_INVALID, "routes",
                            "a route cannot be called %s: the name stands for texts that belong "
                            "nowhere; choose another name, or add them as out-of-scope examples",
                            SR_OOS_NAME);
    }
    return SR_OK;
}

static sr_status check_oos(const sr_str *texts, size_t n, sr_error *error) {
    if (texts == NULL && n > 0)
        return sri_fail(error, SR_ERR_INVALID, "oos", "%zu examples, but none are given", n);
    sr_status code = SR_OK;
    for (size_t i = 0; i < n && code == SR_OK; i++) {
        char place[64];
        snprintf(place, sizeof place, "oos[%zu]", i);
        code = sri_check_utterance(texts[i], sr_str_of(SR_OOS_NAME), place, error);
    }
    return code;
}

sr_status sr_routes_put(sr_router *router, const sr_route *routes, size_t n,
                        const sr_put_options *given, sr_receipt *receipt, sr_error *error) {
    sr_put_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_put_options", error);
    if (code != SR_OK) return code;
    if (options.mode != SR_PUT_REPLACE && options.mode != SR_PUT_EXTEND)
        return sri_fail(error, SR_ERR_INVALID, "mode", "there is no put mode %d",
                        (int)options.mode);
    if (routes == NULL && n > 0)
        return sri_fail(error, SR_ERR_INVALID, "routes", "%zu routes, but none are given", n);
    mutation_call mutation = {.router = router,
                              .routes = routes,
                              .stride = n == 0 ? 0 : routes[0].size,
                              .count = n,
                              .mode = options.mode,
                              .oos = options.oos,
                              .oos_count = options.oos_count,
                              .durability = options.durability,
                              .progress = options.progress,
                              .progress_user = options.progress_user,
                              .make = make_put};
    code = check_routes(&mutation, error);
    if (code == SR_OK) code = check_oos(options.oos, options.oos_count, error);
    return code != SR_OK ? code : run(&mutation, receipt, error);
}

sr_status sr_route_put(sr_router *router, const sr_route *route, sr_receipt *receipt,
                       sr_error *error) {
    return sr_routes_put(router, route, 1, NULL, receipt, error);
}

sr_status sr_oos_put(sr_router *router, const sr_str *texts, size_t n, sr_receipt *receipt,
                     sr_error *error) {
    sr_put_options options = {
        .size = sizeof options, .mode = SR_PUT_EXTEND, .oos = texts, .oos_count = n};
    return sr_routes_put(router, NULL, 0, &options, receipt, error);
}

/* To those who name routes the hidden one is not there. */
static sr_status check_name(sr_str name, sr_error *error) {
    sr_status code = sri_check_given(name, "name", error);
    if (code != SR_OK || !sri_is_oos(name)) return code;
    return sri_fail(error, SR_ERR_NOT_FOUND, "name", "there is no route \"%s\"", SR_OOS_NAME);
}

static sr_status make_removal(mutation_call *mutation, mutation_plan *plan, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; i < mutation->name_count && code == SR_OK; i++)
        code = sri_plan_remove_route(plan, mutation->names[i], error);
    return code;
}

sr_status sr_routes_remove(sr_router *router, const sr_str *names, size_t n,
                           const sr_remove_options *given, sr_receipt *receipt, sr_error *error) {
    sr_remove_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_remove_options", error);
    if (code == SR_OK && names == NULL && n > 0)
        code = sri_fail(error, SR_ERR_INVALID, "names", "%zu names, but none are given", n);
    for (size_t i = 0; i < n && code == SR_OK; i++) code = check_name(names[i], error);
    if (code != SR_OK) return code;
    mutation_call mutation = {.router = router,
                              .names = names,
                              .name_count = n,
                              .durability = options.durability,
                              .make = make_removal};
    return run(&mutation, receipt, error);
}

sr_status sr_route_remove(sr_router *router, sr_str name, sr_receipt *receipt, sr_error *error) {
    return sr_routes_remove(router, &name, 1, NULL, receipt, error);
}

static sr_status make_utterance_removal(mutation_call *mutation, mutation_plan *plan,
                                        sr_error *error) {
    return sri_plan_remove_utterances(plan, mutation->name, mutation->texts, mutation->text_count,
                                      error);
}

static sr_status remove_texts(sr_router *router, sr_str name, const sr_str *texts, size_t n,
                              sr_receipt *receipt, sr_error *error) {
    if (texts == NULL && n > 0)
        return sri_fail(error, SR_ERR_INVALID, "utterances", "%zu utterances, but none are given",
                        n);
    sr_status code = SR_OK;
    for (size_t i = 0; i < n && code == SR_OK; i++)
        code = sri_check_given(texts[i], "utterance", error);
    if (code != SR_OK) return code;
    mutation_call mutation = {.router = router,
                              .name = name,
                              .texts = texts,
                              .text_count = n,
                              .make = make_utterance_removal};
    return run(&mutation, receipt, error);
}

sr_status sr_utterances_remove(sr_router *router, sr_str name, const sr_str *utterances, size_t n,
                               sr_receipt *receipt, sr_error *error) {
    sr_status code = check_name(name, error);
    return code != SR_OK ? code : remove_texts(router, name, utterances, n, receipt, error);
}

sr_status sr_oos_remove(sr_router *router, const sr_str *texts, size_t n, sr_receipt *receipt,
                        sr_error *error) {
    sr_str name = sr_str_of(SR_OOS_NAME);
    if (texts != NULL || n > 0) return remove_texts(router, name, texts, n, receipt, error);
    mutation_call mutation = {
        .router = router, .names = &name, .name_count = 1, .make = make_removal};
    return run(&mutation, receipt, error);
}

/* ---- For sr_fit() ------------------------------------------------------------------------------------------------------- */

static sr_status make_threshold(mutation_call *mutation, mutation_plan *plan, sr_error *error) {
    const live_route *route = sri_table_find(plan->table, mutation->name);
    if (route == NULL || route->id != mutation->route_id)
        return sri_fail(error, SR_ERR_NOT_FOUND, "route",
                        "the route \"%.*s\" was removed while its threshold was worked out",
                        (int)SRI_MIN(mutation->name.len, (size_t)120), mutation->name.data);
    sr_route changed = {
        .size = sizeof changed, .name = mutation->name, .threshold = mutation->threshold};
    return sri_plan_put(plan, &changed, SR_PUT_EXTEND, NULL, 0, error);
}

sr_status sri_router_set_threshold(sr_router *router, sr_str name, uint64_t id,
                                   const sr_threshold *threshold, sr_error *error) {
    mutation_call mutation = {.router = router,
                              .name = name,
                              .route_id = id,
                              .threshold = threshold,
                              .make = make_threshold};
    return run(&mutation, NULL, error);
}
