/*
 * router.c - opening and closing, loading the model and the table, info and verification.
 *
 * The table in memory answers every question; the store is read when the router opens, when the model comes
 * later (SR_OPEN_LAZY), and when another process has changed the file. Every call that reads or changes the
 * table asks the store for its revision first, which costs some microseconds; a thread that watches the file
 * was rejected, as it would leave a time in which a removed route is returned. Each time a whole new table is made aside and put in the old one's place. Reading only the changes would be faster
 * for large tables with several writers; that is left for later.
 *
 * Searching has a pool of its own beside the encoder's: a callback encoder has no threads at all, and an
 * encoder shared by several routers should not carry their scratch memory. Its workers sleep while the
 * encoder works, since a call first encodes and then searches.
 */
#include <math.h>
#include <string.h>

#include "encode/encode.h"
#include "router/router_int.h"

#define ENCODE_PIECE 256 /* texts between two reports of progress */
#define KNOWN_FLAGS                                                                                \
    (SR_OPEN_REENCODE | SR_OPEN_LAZY | SR_OPEN_READ_ONLY | SR_OPEN_EXISTING | SR_OPEN_REFIT)

sri_store_model sri_router_model(const sr_router *router) {
    return (sri_store_model){sr_encoder_fingerprint(router->encoder),
                             sr_encoder_name(router->encoder),
                             sr_encoder_dimension(router->encoder)};
}

/* ---- Loading ---------------------------------------------------------------------------------------------- */

static void put_in_place(sr_router *router, route_table *table) {
    pthread_rwlock_wrlock(&router->lock);
    route_table *old = router->table;
    router->table = table;
    sri_fitted_assess(router->fitted, table);
    pthread_rwlock_unlock(&router->lock);
    sri_route_table_free(&old);
}

static sr_status wrong_model(const sr_router *router, const route_table *table, size_t missing,
                             sr_error *error) {
    const sri_store_state *state = &table->state;
    const char *fingerprint = sr_encoder_fingerprint(router->encoder);
    if (sri_index_count(table->index) > 0)
        return sri_fail(error, SR_ERR_MODEL, router->database,
                        "%zu of %zu utterances in %s have no vector of the model %s (%.12s); run "
                        "again with --reencode, "
                        "which adds vectors and keeps the old",
                        missing, table->utterances, router->database,
                        sr_encoder_name(router->encoder), fingerprint);
    return sri_fail(error, SR_ERR_MODEL, router->database,
                    "%s holds vectors of the model %s (%.12s), but %s (%.12s) was opened; name the "
                    "other model, or run "
                    "again with --reencode, which adds vectors and keeps the old",
                    router->database, state->models == 0 ? "(none)" : state->model_name,
                    state->model_fingerprint, sr_encoder_name(router->encoder), fingerprint);
}

static void collect_missing(const route_table *table, sr_str *texts, uint64_t *ids) {
    size_t count = 0;
    for (const live_route *route = table->first; route != NULL; route = route->next)
        for (size_t i = 0; i < route->count; i++) {
            if (route->utterances[i]->slot != SRI_INDEX_NONE) continue;
            texts[count] = utterance_text(route->utterances[i]);
            ids[count++] = route->utterances[i]->id;
        }
}

sr_status sri_router_encode(sr_router *router, const sr_str *texts, size_t count, float *vectors,
                            sr_progress_fn *progress, void *user, sr_error *error) {
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder);
    sr_status code = SR_OK;
    for (size_t done = 0; done < count && code == SR_OK;) {
        size_t piece = SRI_MIN(count - done, (size_t)ENCODE_PIECE);
        code = sr_encoder_encode(router->encoder, texts + done, piece, vectors + done * dimension,
                                 NULL, error);
        done += piece;
        if (code == SR_OK && progress != NULL && progress(user, done, count) != 0)
            code = sri_fail(error, SR_ERR_CANCELLED, router->database,
                            "encoding was stopped after %zu of %zu utterances; nothing was changed",
                            done, count);
    }
    return code;
}

static sr_status store_missing(sr_router *router, const route_table *table, const uint64_t *ids,
                               size_t count, const float *vectors, sri_change *changes,
                               sr_error *error) {
    sri_store_model model = sri_router_model(router);
    for (size_t i = 0; i < count; i++)
        changes[i] = (sri_change){.kind = SRI_ADD_VECTOR,
                                  .utterance = ids[i],
                                  .vector = vectors + i * (size_t)model.dimension};
    /* The table stays as it is, and so does its revision. When it is stale, the caller's next look at the
     * store finds what is still missing. */
    sri_commit commit = {
        table->state.revision, table->state.revision, table->state.next_id, &model, changes, count};
    bool stale;
    return sri_store_commit(router->store, &commit, &stale, error);
}

/* Encodes what has no vector and stores it in one transaction. */
static sr_status reencode(sr_router *router, const route_table *table, size_t missing,
                          sr_error *error) {
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder), floats;
    sr_str *texts = sri_alloc_array(missing, sizeof *texts);
    uint64_t *ids = sri_alloc_array(missing, sizeof *ids);
    sri_change *changes = sri_alloc_array(missing, sizeof *changes);
    float *vectors =
        sri_size_mul(missing, dimension, &floats) ? sri_alloc_array(floats, sizeof *vectors) : NULL;
    sr_status code = SR_OK;
    if (texts == NULL || ids == NULL || changes == NULL || vectors == NULL)
        code = sri_fail_memory(error);
    if (code == SR_OK) {
        collect_missing(table, texts, ids);
        code = sri_router_encode(router, texts, missing, vectors, router->progress,
                                 router->progress_user, error);
    }
    if (code == SR_OK) code = store_missing(router, table, ids, missing, vectors, changes, error);
    sri_free(texts);
    sri_free(ids);
    sri_free(changes);
    sri_free(vectors);
    return code;
}

/* A new table with all vectors. The store is asked again after each encoding, since another process may
 * have added utterances meanwhile. */
static sr_status load_complete(sr_router *router, route_table **table, sr_error *error) {
    sri_store_model model = sri_router_model(router);
    for (int attempt = 0; attempt < 5; attempt++) {
        size_t missing;
        sr_status code = sri_table_load(router->store, &model, table, &missing, error);
        if (code != SR_OK || missing == 0) return code;
        /* Where there are no vectors at all, none can be mixed up. */
        if ((router->flags & SR_OPEN_REENCODE) == 0 && (*table)->state.models > 0)
            code = wrong_model(router, *table, missing, error);
        else if (atomic_load(&router->store->read_only))
            code = sri_fail(error, SR_ERR_READ_ONLY, router->database,
                            "%zu utterances have to be encoded anew, but %s cannot be written",
                            missing, router->database);
        else
            code = reencode(router, *table, missing, error);
        sri_route_table_free(table);
        if (code != SR_OK) return code;
    }
    return sri_fail(
        error, SR_ERR_BUSY, router->database,
        "other processes add utterances to %s faster than they can be encoded; try again",
        router->database);
}

/* Memory keeps no rows to load: there the table is, and its index is new. */
static sr_status load_table(sr_router *router, bool complete, sr_error *error) {
    route_table *table = NULL;
    size_t missing;
    if (!router->store->keeps && router->table != NULL) {
        pthread_rwlock_wrlock(&router->lock);
        sr_status added =
            sri_table_add_index(router->table, sr_encoder_dimension(router->encoder), error);
        pthread_rwlock_unlock(&router->lock);
        return added;
    }
    sr_status code = complete ? load_complete(router, &table, error)
                              : sri_table_load(router->store, NULL, &table, &missing, error);
    if (code == SR_OK) put_in_place(router, table);
    return code;
}

sr_status sri_router_refresh(sr_router *router, sr_error *error) {
    uint64_t revision = 0, fit = 0;
    bool ready = atomic_load(&router->ready);
    sr_status code = router->store->kind->revision(router->store, &revision, &fit, error);
    if (code == SR_OK && revision != router->table->state.revision) {
        sri_log(SR_LOG_INFO, "%s was changed by another process; loading it again",
                router->database);
        code = load_table(router, ready, error);
        sri_refitter_wake(router);
    }
    if (code == SR_OK && fit != router->fit_serial)
        code = sri_router_load_fit(router, ready, error);
    return code;
}

/* A database that is busy counts as unchanged: the next call asks again. */
sr_status sri_router_look(sr_router *router, sr_error *error) {
    if (!router->store->keeps || pthread_mutex_trylock(&router->writer) != 0) return SR_OK;
    sr_status code = sri_router_refresh(router, error);
    pthread_mutex_unlock(&router->writer);
    return code == SR_ERR_BUSY ? SR_OK : code;
}

/* ---- The model -------------------------------------------------------------------------------------------------- */

static sr_status make_pool(sr_router *router, sr_error *error) {
    if (router->scratch == NULL)
        router->scratch = sri_alloc_zero((size_t)router->threads, sizeof *router->scratch);
    if (router->judging == NULL)
        router->judging = sri_alloc_zero((size_t)router->threads, sizeof *router->judging);
    if (router->scratch == NULL || router->judging == NULL) return sri_fail_memory(error);
    return router->pool != NULL ? SR_OK : sri_pool_open(router->threads, &router->pool, error);
}

static sr_status make_encoder(sr_router *router, sr_error *error) {
    if (router->encoder != NULL) return SR_OK;
    sr_encoder_options options = {.size = sizeof options,
                                  .model = router->model,
                                  .threads = router->threads,
                                  .profile = router->profile,
                                  .cache_bytes = router->cache_bytes,
                                  .prefix = router->prefix};
    sr_encoder *encoder = NULL;
    sr_status code = sr_encoder_open(&options, &encoder, error);
    if (code != SR_OK) return code;
    pthread_rwlock_wrlock(&router->lock);
    router->encoder = encoder;
    pthread_rwlock_unlock(&router->lock);
    return SR_OK;
}

sr_status sri_router_ready_locked(sr_router *router, sr_error *error) {
    if (atomic_load(&router->ready)) return SR_OK;
    sr_status code = make_encoder(router, error);
    if (code == SR_OK) code = make_pool(router, error);
    if (code == SR_OK) code = load_table(router, true, error);
    if (code == SR_OK) code = sri_router_load_fit(router, true, error);
    if (code == SR_OK) atomic_store(&router->ready, true);
    return code;
}

sr_status sri_router_ready(sr_router *router, sr_error *error) {
    if (atomic_load(&router->ready)) return SR_OK;
    pthread_mutex_lock(&router->writer);
    sr_status code = sri_router_ready_locked(router, error);
    pthread_mutex_unlock(&router->writer);
    return code;
}

/* ---- Opening and closing ------------------------------------------------------------------------------------------ */

static sr_status check_options(const sr_options *options, sr_error *error) {
    if (options->threads < 0 || options->threads > SR_MAX_THREADS)
        return sri_fail(error, SR_ERR_INVALID, "threads",
                        "%d threads were asked for; use 0 (all cores) to %d", options->threads,
                        SR_MAX_THREADS);
    if (!(options->margin >= 0 && options->margin <= 2))
        return sri_fail(error, SR_ERR_INVALID, "margin",
                        "margin %g is not a difference of cosines from 0 to 2", options->margin);
    if ((options->flags & ~(unsigned)KNOWN_FLAGS) != 0)
        return sri_fail(error, SR_ERR_INVALID, "flags", "there are no open flags 0x%x",
                        options->flags & ~(unsigned)KNOWN_FLAGS);
    return SR_OK;
}

/* Writers first: under a steady stream of decisions a mutation must not wait for ever. */
static void make_locks(sr_router *router) {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
#if defined(__GLIBC__)
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&router->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&router->writer, NULL);
    pthread_mutex_init(&router->fitting, NULL);
}

static sr_status make_router(const sr_options *options, sr_router **handle, sr_error *error) {
    sr_router *router = sri_alloc_zero(1, sizeof *router);
    if (router == NULL) return sri_fail_memory(error);
    make_locks(router);
    *handle = router;
    /* Settled here, as the number of cores may change before the pool is made. */
    router->threads =
        options->threads != 0 ? options->threads : SRI_MIN(sri_cpu_count(), SR_MAX_THREADS);
    router->profile = options->profile;
    router->cache_bytes = options->cache_bytes;
    router->flags = options->flags;
    router->margin = options->margin;
    router->progress = options->progress;
    router->progress_user = options->progress_user;
    router->encoder = options->encoder;
    router->encoder_borrowed = options->encoder != NULL;
    router->database =
        sri_strdup(sr_str_of(options->database == NULL ? ":memory:" : options->database));
    if (options->model != NULL) router->model = sri_strdup(sr_str_of(options->model));
    if (options->prefix != NULL) router->prefix = sri_strdup(sr_str_of(options->prefix));
    if (options->fast_model != NULL)
        router->fast_model = sri_strdup(sr_str_of(options->fast_model));
    bool enough = router->database != NULL && (options->model == NULL || router->model != NULL) &&
                  (options->prefix == NULL || router->prefix != NULL) &&
                  (options->fast_model == NULL || router->fast_model != NULL);
    return enough ? SR_OK : sri_fail_memory(error);
}

static sr_status open_store(sr_router *router, sr_error *error) {
    unsigned flags = 0;
    if ((router->flags & SR_OPEN_READ_ONLY) != 0) flags |= SRI_STORE_READ_ONLY;
    if ((router->flags & SR_OPEN_EXISTING) != 0) flags |= SRI_STORE_EXISTING;
    if (strcmp(router->database, ":memory:") != 0)
        return sri_store_open_sqlite(router->database, flags, &router->store, error);
    sr_status code = sri_store_open_memory(&router->store, error);
    if (code == SR_OK)
        atomic_store(&router->store->read_only, (router->flags & SR_OPEN_READ_ONLY) != 0);
    return code;
}

static sr_status start(sr_router *router, sr_error *error) {
    bool lazy = (router->flags & SR_OPEN_LAZY) != 0;
    sr_status code = lazy ? SR_OK : make_encoder(router, error);
    if (code == SR_OK) code = open_store(router, error);
    if (code != SR_OK) return code;
    if (lazy || !router->store->keeps) code = load_table(router, false, error);
    if (code == SR_OK && lazy) code = sri_router_load_fit(router, false, error);
    return code;
}

sr_status sr_router_open(const sr_options *given, sr_router **handle, sr_error *error) {
    if (handle == NULL)
        return sri_fail(error, SR_ERR_INVALID, "router", "there is no place for the router");
    *handle = NULL;
    sr_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_options", error);
    if (code == SR_OK) code = check_options(&options, error);
    sr_router *router = NULL;
    if (code == SR_OK) code = make_router(&options, &router, error);
    if (code == SR_OK) code = start(router, error);
    if (code == SR_OK && (options.flags & SR_OPEN_LAZY) == 0)
        code = sri_router_ready(router, error);
    if (code == SR_OK && (options.flags & SR_OPEN_REFIT) != 0)
        code = sri_refitter_start(router, error);
    if (code == SR_OK)
        *handle = router;
    else
        sr_router_close(&router);
    return code;
}

void sr_router_close(sr_router **handle) {
    if (handle == NULL || *handle == NULL) return;
    sr_router *router = *handle;
    sri_refitter_stop(router);
    for (int i = 0; router->pool != NULL && i < sri_pool_threads(router->pool); i++) {
        sri_index_scratch_free(&router->scratch[i]);
        sri_fit_scratch_free(&router->judging[i]);
    }
    sri_pool_close(&router->pool);
    sri_free(router->scratch);
    sri_free(router->judging);
    sri_fitted_free(&router->fitted);
    sri_names_free(&router->names);
    sri_route_table_free(&router->table);
    sri_store_close(&router->store);
    if (!router->encoder_borrowed) sr_encoder_close(&router->encoder);
    sr_encoder_close(&router->fast);
    pthread_rwlock_destroy(&router->lock);
    pthread_mutex_destroy(&router->writer);
    pthread_mutex_destroy(&router->fitting);
    sri_free(router->database);
    sri_free(router->model);
    sri_free(router->prefix);
    sri_free(router->fast_model);
    sri_free(router);
    *handle = NULL;
}

/* ---- Info and verification -------------------------------------------------------------------------------------------- */

static void fill_fit(const sr_router *router, sr_info *info) {
    const live_fit *fitted = router->fitted;
    info->fast_share = info->auto_threshold = NAN;
    if (router->fast != NULL)
        snprintf(info->fast_model, sizeof info->fast_model, "%s", sr_encoder_name(router->fast));
    if (fitted == NULL) return;
    info->fit = fitted->kind;
    info->fit_revision = fitted->revision;
    info->fit_pending = fitted->pending;
    if (fitted->kind != SR_FIT_HEADS) return;
    info->auto_threshold = fitted->auto_threshold;
    info->fast_path = fitted->fit != NULL ? fitted->has_fast : fitted->fast[0] != '\0';
    if (info->fast_path) info->fast_share = fitted->fast_share;
}

static void fill_info(const sr_router *router, sr_info *info) {
    const sri_store_state *state = &router->table->state;
    info->revision = state->revision;
    info->routes = sri_table_routes(router->table);
    info->utterances = sri_table_utterances(router->table);
    info->oos_examples = sri_table_oos(router->table);
    info->models = state->models;
    info->schema = atomic_load(&router->store->schema);
    info->read_only = atomic_load(&router->store->read_only);
    fill_fit(router, info);
    snprintf(info->database, sizeof info->database, "%s", router->database);
    snprintf(info->stored_model, sizeof info->stored_model, "%s",
             state->models == 0 ? "" : state->model_name);
    snprintf(info->cpu, sizeof info->cpu, "%s", sr_cpu_level());
    snprintf(info->version, sizeof info->version, "%s", sr_version());
    if (router->encoder == NULL) return;
    info->dimension = sr_encoder_dimension(router->encoder);
    info->threads = router->encoder_borrowed ? 0 : sri_encoder_threads(router->encoder);
    snprintf(info->model, sizeof info->model, "%s", sr_encoder_name(router->encoder));
    snprintf(info->fingerprint, sizeof info->fingerprint, "%s",
             sr_encoder_fingerprint(router->encoder));
}

sr_status sr_router_info(sr_router *router, sr_info *info, sr_error *error) {
    if (info == NULL || info->size < offsetof(sr_info, routes))
        return sri_fail(error, SR_ERR_INVALID, "sr_info",
                        "set size to sizeof(sr_info) before the call");
    sr_info full = {0};
    sr_status code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    pthread_rwlock_rdlock(&router->lock);
    fill_info(router, &full);
    pthread_rwlock_unlock(&router->lock);
    size_t size = info->size, known = SRI_MIN(size, sizeof full);
    memset(info, 0, size);
    memcpy(info, &full, known);
    info->size = size;
    return SR_OK;
}

/* Under `writer`, so that the store is read between two mutations. */
sr_status sr_router_verify(sr_router *router, sr_error *error) {
    pthread_mutex_lock(&router->writer);
    sr_status code = router->store->kind->verify(router->store, error);
    if (code == SR_OK) code = sri_router_verify_fit(router, error);
    pthread_mutex_unlock(&router->writer);
    if (code != SR_OK) return code;
    pthread_rwlock_rdlock(&router->lock);
    sr_encoder *encoder = router->encoder, *fast = router->fast;
    pthread_rwlock_unlock(&router->lock);
    if (encoder != NULL) code = sri_encoder_verify(encoder, error);
    return code == SR_OK && fast != NULL ? sri_encoder_verify(fast, error) : code;
}
