/*
 * router.c - opening and closing, loading the model and the table, info and verification.
 *
 * The table in memory answers every question; the store is read when the router opens, when the model comes
 * later (SR_OPEN_LAZY), and when another process has changed the file (reload.c).
 *
 * Searching has a pool of its own beside the encoder's: a callback encoder has no threads at all, and an
 * encoder shared by several routers should not carry their scratch memory. Its workers sleep while the
 * encoder works, since a call first encodes and then searches.
 */
#include <math.h>
#include <string.h>
#include <time.h>

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

/* ---- The model -------------------------------------------------------------------------------------------------- */

static sr_status make_pool(sr_router *router, sr_error *error) {
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
    router->encoder = encoder;
    return SR_OK;
}

sr_status sri_router_ready_locked(sr_router *router, sr_error *error) {
    if (atomic_load(&router->ready)) return SR_OK;
    sr_status code = make_encoder(router, error);
    if (code == SR_OK) code = make_pool(router, error);
    sri_group_settle(router);
    if (atomic_load(&router->ready)) return code; /* by another, meanwhile */
    if (code == SR_OK) code = sri_router_load_table(router, true, error);
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
    if (options->durability < SR_DURABILITY_DEFAULT || options->durability > SR_DURABILITY_DEFERRED)
        return sri_fail(error, SR_ERR_INVALID, "durability", "there is no durability %d",
                        (int)options->durability);
    if (options->index < SR_INDEX_EXACT || options->index > SR_INDEX_IVF)
        return sri_fail(error, SR_ERR_INVALID, "index", "there is no index %d",
                        (int)options->index);
    if ((options->flags & ~(unsigned)KNOWN_FLAGS) != 0)
        return sri_fail(error, SR_ERR_INVALID, "flags", "there are no open flags 0x%x",
                        options->flags & ~(unsigned)KNOWN_FLAGS);
    return SR_OK;
}

static sr_status make_router(const sr_options *options, sr_router **handle, sr_error *error) {
    sr_router *router = sri_alloc_zero(1, sizeof *router);
    if (router == NULL) return sri_fail_memory(error);
    pthread_mutex_init(&router->writer, NULL);
    pthread_mutex_init(&router->fitting, NULL);
    sri_group_init(&router->group);
    *handle = router;
    /* Settled here, as the number of cores may change before the pool is made. */
    router->threads =
        options->threads != 0 ? options->threads : SRI_MIN(sri_cpu_count(), SR_MAX_THREADS);
    router->profile = options->profile;
    router->cache_bytes = options->cache_bytes;
    router->flags = options->flags;
    router->margin = options->margin;
    router->durability =
        options->durability == SR_DURABILITY_DEFAULT ? SR_DURABILITY_NORMAL : options->durability;
    router->index_kind = options->index;
    router->lost = options->lost;
    router->lost_user = options->lost_user;
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
    if (!enough) return sri_fail_memory(error);
    sr_status code = sri_epoch_open(&router->epoch, error);
    return code == SR_OK ? sri_queue_open(router, error) : code;
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
    if (lazy || !router->store->keeps) code = sri_router_load_table(router, false, error);
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
    sri_queue_close(router);
    sri_refitter_stop(router);
    if (router->store != NULL) sri_group_close(router);
    sri_desks_free(router);
    sri_pool_close(&router->pool);
    sri_names_free(&router->names);
    /* What was retired goes first, as it may point to the table. */
    if (router->table != NULL) sri_index_stop(router->table->index);
    if (router->epoch != NULL) sri_epoch_close(&router->epoch);
    sri_free(atomic_load(&router->view));
    sri_free(router->spare);
    sri_free(router->fit.masks);
    sri_fitted_free(&router->fit.fitted);
    sri_route_table_free(&router->table);
    sri_store_close(&router->store);
    sr_encoder *encoder = router->encoder, *fast = router->fast;
    if (!router->encoder_borrowed) sr_encoder_close(&encoder);
    sr_encoder_close(&fast);
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

static void fill_fit(const sr_router *router, const table_view *view, sr_info *info) {
    const live_fit *fitted = view->fitted;
    const sr_encoder *fast = router->fast;
    sri_fit_reach reach = sri_fit_reach_of(view->routes, view->utterances);
    if (reach != SRI_FIT_LEARNS)
        snprintf(info->no_heads, sizeof info->no_heads, "%s", sri_fit_reach_text(reach));
    info->fast_share = info->auto_threshold = NAN;
    if (fast != NULL)
        snprintf(info->fast_model, sizeof info->fast_model, "%s", sr_encoder_name(fast));
    if (fitted == NULL) return;
    info->fit = fitted->kind;
    info->fit_revision = fitted->revision;
    info->fit_pending = view->pending;
    info->auto_threshold = fitted->auto_threshold;
    if (fitted->kind != SR_FIT_HEADS) return;
    info->fast_path = fitted->fit != NULL ? fitted->has_fast : fitted->fast[0] != '\0';
    if (info->fast_path) info->fast_share = fitted->fast_share;
}

static void fill_model(const sr_router *router, sr_info *info) {
    sr_encoder *encoder = router->encoder;
    if (encoder == NULL) return;
    info->dimension = sr_encoder_dimension(encoder);
    info->threads = router->encoder_borrowed ? 0 : sri_encoder_threads(encoder);
    snprintf(info->model, sizeof info->model, "%s", sr_encoder_name(encoder));
    snprintf(info->fingerprint, sizeof info->fingerprint, "%s", sr_encoder_fingerprint(encoder));
    sr_encoder_counts counts = {.size = sizeof counts};
    if (sr_encoder_stats(encoder, &counts, NULL) != SR_OK) return;
    info->cache_hits = counts.cache_hits;
    info->cache_misses = counts.cache_misses;
    info->cache_entries = counts.cache_entries;
    info->cache_used = counts.cache_used;
}

static void fill_info(const sr_router *router, const table_view *view, sr_info *info) {
    const sri_store_state *state = &view->state;
    info->revision = view->revision;
    info->routes = view->routes;
    info->utterances = view->utterances;
    info->oos_examples = view->oos_count;
    info->models = state->models;
    info->schema = atomic_load(&router->store->schema);
    info->durability = router->durability;
    info->read_only = atomic_load(&router->store->read_only);
    fill_fit(router, view, info);
    snprintf(info->database, sizeof info->database, "%s", router->database);
    snprintf(info->stored_model, sizeof info->stored_model, "%s",
             state->models == 0 ? "" : state->model_name);
    snprintf(info->cpu, sizeof info->cpu, "%s", sr_cpu_level());
    snprintf(info->version, sizeof info->version, "%s", sr_version());
    fill_model(router, info);
}

/* Some milliseconds: those who ask watch a router that others use, and must not wait for an import. */
static bool lock_soon(pthread_mutex_t *lock) {
    for (int tries = 0; tries < 50; tries++) {
        if (pthread_mutex_trylock(lock) == 0) return true;
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    return false;
}

static void look_at_writers(sr_router *router) {
    router_figures *figures = &router->figures;
    const sri_index *index = router->table->index;
    size_t exact = index == NULL ? 0 : sri_index_exact_held(index);
    atomic_store(&figures->index_exact_bytes, exact);
    atomic_store(&figures->index_bytes, index == NULL ? 0 : sri_index_bytes(index) + exact);
    atomic_store(&figures->rows_dead, index == NULL ? 0 : sri_index_dead(index));
    atomic_store(&figures->waiting, router->group.deferred);
    atomic_store(&figures->lost, router->group.lost);
}

/* What only the writer knows. */
static void fill_writers(sr_router *router, sr_info *info) {
    if (lock_soon(&router->writer)) {
        look_at_writers(router);
        pthread_mutex_unlock(&router->writer);
    }
    const router_figures *figures = &router->figures;
    info->index_exact_bytes = atomic_load(&figures->index_exact_bytes);
    info->index_bytes = atomic_load(&figures->index_bytes);
    info->rows_dead = atomic_load(&figures->rows_dead);
    info->waiting = atomic_load(&figures->waiting);
    info->lost = atomic_load(&figures->lost);
}

sr_status sr_router_info(sr_router *router, sr_info *info, sr_error *error) {
    if (info == NULL || info->size < offsetof(sr_info, routes))
        return sri_fail(error, SR_ERR_INVALID, "sr_info",
                        "set size to sizeof(sr_info) before the call");
    sr_info full = {0};
    sr_status code = sri_router_look(router, error);
    if (code != SR_OK) return code;
    pinned_view pinned = sri_view_pin(router);
    fill_info(router, pinned.view, &full);
    sri_view_unpin(pinned);
    fill_writers(router, &full);
    size_t size = info->size, known = SRI_MIN(size, sizeof full);
    memset(info, 0, size);
    memcpy(info, &full, known);
    info->size = size;
    return SR_OK;
}

/* What is stored is read on a connection of its own, while others change it: 250,000 utterances take seconds. */
sr_status sr_router_verify(sr_router *router, sr_error *error) {
    pthread_mutex_lock(&router->writer);
    sri_group_settle(router);
    sr_status code = sri_router_verify_fit(router, error);
    pthread_mutex_unlock(&router->writer);
    sr_error reason;
    sr_status stored = router->store->kind->verify(router->store, &reason);
    if (stored != SR_OK && error != NULL) *error = reason;
    if (stored != SR_OK) code = stored;
    if (code != SR_OK) return code;
    sr_encoder *encoder = router->encoder, *fast = router->fast;
    if (encoder != NULL) code = sri_encoder_verify(encoder, error);
    return code == SR_OK && fast != NULL ? sri_encoder_verify(fast, error) : code;
}
