/*
 * reload.c - the table and the store: loading, and seeing what another process has changed.
 *
 * Every call that reads or changes the table asks the store for its revision first, which costs some microseconds; a thread that watches
 * the file was rejected, as it would leave a time in which a removed route is returned. What has changed is read from the store's log and
 * applied (news.c); where that does not reach back far enough, a whole new table is made aside and put in the old one's
 * place.
 */
#include <string.h>

#include "router/mutation_int.h"

/* Of vectors as they were given that may stay in memory: those of some 30,000 utterances of 384 floats. The others' are read
 * from the store when a search has come down to the last few. */
#define EXACT_BYTES ((size_t)48 << 20)

/* ---- Loading ---------------------------------------------------------------------------------------------- */

/* What readers have seen and the new table does not have was lost. */
static void keep_spent(const sr_router *router, route_table *table) {
    const table_view *shown = atomic_load(&router->view);
    if (shown == NULL) return;
    table->spent_revision = SRI_MAX(router->table->spent_revision, shown->revision);
    table->spent_id = SRI_MAX(router->table->spent_id, shown->state.next_id);
}

/* Takes the table over, on success. */
static sr_status put_in_place(sr_router *router, route_table **table, sr_error *error) {
    sr_status code = sri_fitted_compare(router, router->fit.fitted, *table, error);
    if (code != SR_OK) return code;
    route_table *before = router->table;
    keep_spent(router, *table);
    router->table = *table;
    *table = NULL;
    sri_route_table_retire(&before);
    sri_view_publish(router);
    return SR_OK;
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

/* Of a table that was just loaded. */
static void collect_missing(const route_table *table, sr_str *texts, uint64_t *ids) {
    size_t count = 0;
    for (size_t number = 0; number < table->routes; number++) {
        const route_place *place = sri_steady_at(&table->places, number);
        const live_route *route = atomic_load(&place->newest);
        const utterance *each;
        for (size_t at = 0; (each = sri_route_next(route, &at)) != NULL;) {
            if (utterance_slot(each) != SRI_INDEX_NONE) continue;
            texts[count] = utterance_text(each);
            ids[count++] = each->id;
        }
    }
}

static sr_status store_missing(sr_router *router, const route_table *table, const uint64_t *ids,
                               size_t count, const float *vectors, sri_change *changes,
                               sr_error *error) {
    sri_store_model model = sri_router_model(router);
    for (size_t i = 0; i < count; i++)
        changes[i] = (sri_change){.kind = SRI_ADD_VECTOR,
                                  .utterance = ids[i],
                                  .vector = vectors + i * (size_t)model.dimension};
    sri_commit commit = {.new_revision = table->state.revision,
                         .next_id = table->state.next_id,
                         .model = &model,
                         .changes = changes,
                         .count = count};
    sri_store *store = router->store;
    uint64_t revision = 0, fit;
    sr_status code = store->kind->begin(store, &revision, &fit, error);
    if (code != SR_OK) return code;
    /* Another process was first: the caller's next look at the store finds what is still missing. */
    bool stale = revision != table->state.revision;
    if (!stale) code = store->kind->write(store, &commit, error);
    if (code == SR_OK && !stale) return store->kind->commit(store, false, error);
    store->kind->rollback(store);
    return code;
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

/* All fp32 rows stay in memory where the store keeps none. */
static sri_index_options wanted_index(const sr_router *router) {
    return (sri_index_options){.exact_bytes = router->store->keeps ? EXACT_BYTES : SIZE_MAX,
                               .kind = (sri_index_kind)router->index_kind};
}

static sr_status load_new(sr_router *router, const sri_store_model *model, route_table **table,
                          size_t *missing, sr_error *error) {
    uint64_t version = router->table == NULL ? 1 : router->table->next_version;
    sri_index_options wanted = wanted_index(router);
    return sri_table_load(router->store, model, &wanted, router->epoch, version, table, missing,
                          error);
}

/* A new table with all vectors. The store is asked again after each encoding, since another process may
 * have added utterances meanwhile. */
static sr_status load_complete(sr_router *router, route_table **table, sr_error *error) {
    sri_store_model model = sri_router_model(router);
    for (int attempt = 0; attempt < 5; attempt++) {
        size_t missing;
        sr_status code = load_new(router, &model, table, &missing, error);
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
sr_status sri_router_load_table(sr_router *router, bool complete, sr_error *error) {
    route_table *table = NULL;
    size_t missing;
    sri_index_options wanted = wanted_index(router);
    if (!router->store->keeps && router->table != NULL)
        return router->table->index != NULL
                   ? SR_OK
                   : sri_table_add_index(router->table, sr_encoder_dimension(router->encoder),
                                         &wanted, error);
    sr_status code = complete ? load_complete(router, &table, error)
                              : load_new(router, NULL, &table, &missing, error);
    if (code == SR_OK) code = put_in_place(router, &table, error);
    sri_route_table_free(&table);
    return code;
}

static sr_status catch_up(sr_router *router, bool ready, sr_error *error) {
    bool whole = true;
    sr_status code = sri_news_apply(router, &whole, error);
    if (code != SR_OK || !whole) return code;
    sri_log(SR_LOG_INFO, "%s was changed by another process; loading it again", router->database);
    return sri_router_load_table(router, ready, error);
}

sr_status sri_router_refresh(sr_router *router, sr_error *error) {
    uint64_t revision = 0, fit = 0;
    bool ready = atomic_load(&router->ready);
    sr_status code = sri_group_mend(router, error);
    if (code == SR_OK) code = router->store->kind->revision(router->store, &revision, &fit, error);
    if (code == SR_OK && revision != router->table->state.revision) {
        code = catch_up(router, ready, error);
        sri_refitter_wake(router);
    }
    if (code == SR_OK && fit != router->fit_serial)
        code = sri_router_load_fit(router, ready, error);
    return code;
}

/* A database that is busy counts as unchanged: the next call asks again. */
sr_status sri_router_look(sr_router *router, sr_error *error) {
    if (!router->store->keeps || pthread_mutex_trylock(&router->writer) != 0) return SR_OK;
    sr_status code = router->group.open ? SR_OK : sri_router_refresh(router, error);
    pthread_mutex_unlock(&router->writer);
    return code == SR_ERR_BUSY ? SR_OK : code;
}
