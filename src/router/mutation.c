/*
 * mutation.c - adding, changing and removing routes: the public calls and the order of their steps.
 *
 *   check arguments, plan, encode new texts, reserve, store, apply.
 *
 * All but the last can fail and leave everything as it was. Encoding, the slow part, runs under `writer`
 * alone, so readers go on. When the store turns out to hold a newer revision, the table is loaded again and
 * the mutation planned anew; vectors already made are kept for that. Storing comes before applying: a
 * reader can never have seen what a crash then takes back.
 */
#include <assert.h>
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
    sr_str name;         /* of the route that is removed or loses utterances */
    const sr_str *texts; /* `text_count` utterances to be removed */
    size_t text_count;
    sr_status (*make)(struct mutation_call *mutation, mutation_plan *plan, sr_error *error);
    sri_arena metadata; /* of the routes, as it will be stored */
    sri_map encoded;    /* texts, to their row in `vectors`; both survive an attempt */
    float *vectors;
    size_t vector_count;
} mutation_call;

/* ---- Encoding ------------------------------------------------------------------------------------------------- */

/* Texts that neither the table nor an earlier attempt has a vector for, each once. */
static bool find_new_texts(mutation_call *mutation, const mutation_plan *plan, sr_str *texts,
                           size_t *count) {
    *count = 0;
    for (size_t i = 0; i < plan->add_count; i++) {
        sr_str text = utterance_text(plan->adds[i].utterance);
        if (sri_table_find_vector(plan->table, text) != NULL ||
            sri_map_get(&mutation->encoded, text, NULL))
            continue;
        if (!sri_map_put(&mutation->encoded, text, mutation->vector_count + *count)) return false;
        texts[(*count)++] = text;
    }
    return true;
}

/* The map's keys lie in the plan's utterances, which do not survive the plan: keys move to the caller's own
 * texts, which do. */
static bool adopt_some(const mutation_call *mutation, sri_map *kept, const sr_str *texts,
                       size_t count) {
    bool enough = true;
    for (size_t i = 0; i < count && enough; i++) {
        uint64_t row;
        if (sri_map_get(&mutation->encoded, texts[i], &row))
            enough = sri_map_put(kept, texts[i], row);
    }
    return enough;
}

static bool adopt_keys(mutation_call *mutation) {
    sri_map kept = {0};
    bool enough = sri_map_reserve(&kept, mutation->encoded.count) &&
                  adopt_some(mutation, &kept, mutation->oos, mutation->oos_count);
    for (size_t i = 0; i < mutation->count && enough; i++) {
        const sr_route *route =
            (const sr_route *)((const char *)mutation->routes + i * mutation->stride);
        enough = adopt_some(mutation, &kept, route->utterances, route->utterance_count);
    }
    sri_map_free(&mutation->encoded);
    mutation->encoded = kept;
    return enough;
}

static sr_status encode_texts(mutation_call *mutation, const sr_str *texts, size_t count,
                              sr_error *error) {
    sr_encoder *encoder = mutation->router->encoder;
    size_t dimension = (size_t)sr_encoder_dimension(encoder), row;
    float *vectors = NULL;
    if (sri_size_mul(dimension, sizeof(float), &row))
        vectors = sri_resize_array(mutation->vectors, mutation->vector_count + count, row);
    if (vectors == NULL) return sri_fail_memory(error);
    mutation->vectors = vectors;
    sr_status code = sri_router_encode(mutation->router, texts, count,
                                       vectors + mutation->vector_count * dimension,
                                       mutation->progress, mutation->progress_user, error);
    if (code == SR_OK) mutation->vector_count += count;
    return code;
}

static void find_vectors(const mutation_call *mutation, mutation_plan *plan) {
    size_t dimension = (size_t)sr_encoder_dimension(mutation->router->encoder);
    for (size_t i = 0; i < plan->add_count; i++) {
        planned_add *add = &plan->adds[i];
        sr_str text = utterance_text(add->utterance);
        uint64_t row = 0;
        add->vector = sri_table_find_vector(plan->table, text);
        if (add->vector != NULL) continue;
        bool found = sri_map_get(&mutation->encoded, text, &row);
        assert(found);
        (void)found;
        add->vector = mutation->vectors + row * dimension;
    }
}

static sr_status encode(mutation_call *mutation, mutation_plan *plan, sr_error *error) {
    if (plan->add_count == 0) return SR_OK;
    sr_str *texts = sri_alloc_array(plan->add_count, sizeof *texts);
    size_t count = 0;
    if (texts == NULL) return sri_fail_memory(error);
    sr_status code = SR_OK;
    if (!find_new_texts(mutation, plan, texts, &count)) code = sri_fail_memory(error);
    if (code == SR_OK && count > 0) code = encode_texts(mutation, texts, count, error);
    sri_free(texts);
    if (code == SR_OK && !adopt_keys(mutation)) code = sri_fail_memory(error);
    if (code == SR_OK) find_vectors(mutation, plan);
    return code;
}

/* ---- One attempt -------------------------------------------------------------------------------------------------- */

static sr_status reserve(sr_router *router, const mutation_plan *plan, sr_error *error) {
    pthread_rwlock_wrlock(&router->lock);
    sr_status code = sri_table_reserve(router->table, plan->draft_count, plan->add_count, error);
    pthread_rwlock_unlock(&router->lock);
    return code;
}

static sr_status store(sr_router *router, const mutation_plan *plan, bool *stale, sr_error *error) {
    sri_commit commit = {.base_revision = router->table->state.revision,
                         .new_revision = router->table->state.revision + 1,
                         .next_id = plan->next_id};
    sri_change *changes = sri_plan_changes(plan, &commit.count);
    if (changes == NULL) return sri_fail_memory(error);
    commit.changes = changes;
    sri_store_model model;
    if (plan->add_count > 0) {
        model = sri_router_model(router);
        commit.model = &model;
    }
    sr_status code = sri_store_commit(router->store, &commit, stale, error);
    sri_free(changes);
    return code;
}

/* What the store now says about models, as far as it can be known without asking it. */
static void note_models(sr_router *router, const mutation_plan *plan, bool was_empty) {
    sri_store_state *state = &router->table->state;
    if (router->table->utterances == 0)
        state->models = 0;
    else if (was_empty)
        state->models = 1;
    if (plan->add_count == 0) return;
    sri_store_model model = sri_router_model(router);
    snprintf(state->model_name, sizeof state->model_name, "%s", model.name);
    snprintf(state->model_fingerprint, sizeof state->model_fingerprint, "%s", model.fingerprint);
    state->model_dimension = model.dimension;
}

static void apply(sr_router *router, mutation_plan *plan) {
    pthread_rwlock_wrlock(&router->lock);
    bool was_empty = router->table->utterances == 0;
    sri_plan_apply(plan);
    router->table->state.revision++;
    note_models(router, plan, was_empty);
    sri_fitted_assess(router->fitted, router->table);
    pthread_rwlock_unlock(&router->lock);
    sri_refitter_wake(router);
}

/* `*again` is set when the table was loaded anew, so that the plan has to be made once more. */
static sr_status attempt(mutation_call *mutation, mutation_plan *plan, bool *again,
                         sr_error *error) {
    sr_router *router = mutation->router;
    *again = false;
    sr_status code = sri_router_refresh(router, error);
    plan->table = router->table;
    if (code == SR_OK) code = mutation->make(mutation, plan, error);
    if (code == SR_OK) code = sri_plan_finish(plan, error);
    if (code != SR_OK || !sri_plan_changes_something(plan)) return code;
    if (plan->add_count > 0 && !atomic_load(&router->ready)) {
        *again = true;
        return sri_router_ready_locked(router, error);
    }
    code = encode(mutation, plan, error);
    if (code == SR_OK) code = reserve(router, plan, error);
    if (code == SR_OK) code = store(router, plan, again, error);
    if (code == SR_OK && !*again) apply(router, plan);
    return code;
}

static sr_status run(mutation_call *mutation, sr_receipt *receipt, sr_error *error) {
    sr_router *router = mutation->router;
    if (atomic_load(&router->store->read_only))
        return sri_fail(error, SR_ERR_READ_ONLY, router->database,
                        "%s is open for reading only; check its permissions and its directory's",
                        router->database);
    bool again = true;
    sr_status code = SR_OK;
    pthread_mutex_lock(&router->writer);
    for (int i = 0; i < MAX_ATTEMPTS && again && code == SR_OK; i++) {
        mutation_plan plan = {0};
        code = attempt(mutation, &plan, &again, error);
        if (code == SR_OK && !again && receipt != NULL) {
            *receipt = plan.receipt;
            receipt->revision = router->table->state.revision;
        }
        sri_plan_free(&plan);
    }
    pthread_mutex_unlock(&router->writer);
    sri_arena_free(&mutation->metadata);
    sri_map_free(&mutation->encoded);
    sri_free(mutation->vectors);
    if (code == SR_OK && again)
        return sri_fail(
            error, SR_ERR_BUSY, router->database,
            "other processes changed %s each of %d times that this change was tried; try again",
            router->database, MAX_ATTEMPTS);
    return code;
}

/* ---- The public calls ----------------------------------------------------------------------------------------------- */

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

/* Equal metadata must be equal text, or storing the same table again would change it. */
static sr_status compact_metadata(mutation_call *mutation, const sr_route *route, sr_str *compact,
                                  sr_error *error) {
    sri_buffer text = {0};
    bool enough = sri_json_compact(&text, *route->metadata);
    if (enough) *compact = sri_arena_copy(&mutation->metadata, (sr_str){text.data, text.len});
    sri_buffer_free(&text);
    return enough && compact->data != NULL ? SR_OK : sri_fail_memory(error);
}

static sr_status make_put(mutation_call *mutation, mutation_plan *plan, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; i < mutation->count && code == SR_OK; i++) {
        sr_route route;
        code = take_route(mutation, i, &route, error);
        sr_str compact;
        if (code == SR_OK && route.metadata != NULL) {
            code = compact_metadata(mutation, &route, &compact, error);
            route.metadata = &compact;
        }
        if (code == SR_OK) code = sri_plan_put(plan, &route, mutation->mode, error);
    }
    sr_route oos = {.name = sr_str_of(SR_OOS_NAME),
                    .utterances = mutation->oos,
                    .utterance_count = mutation->oos_count};
    if (code == SR_OK && mutation->oos_count > 0)
        code = sri_plan_put(plan, &oos, mutation->mode, error);
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
    return sri_plan_remove_route(plan, mutation->name, error);
}

sr_status sr_route_remove(sr_router *router, sr_str name, sr_receipt *receipt, sr_error *error) {
    sr_status code = check_name(name, error);
    if (code != SR_OK) return code;
    mutation_call mutation = {.router = router, .name = name, .make = make_removal};
    return run(&mutation, receipt, error);
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
    mutation_call mutation = {.router = router, .name = name, .make = make_removal};
    return run(&mutation, receipt, error);
}
