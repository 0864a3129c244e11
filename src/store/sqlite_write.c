/*
 * sqlite_write.c - committing changes to the SQLite store, and verifying it.
 */
#include <math.h>
#include <string.h>

#include "store/sqlite_int.h"

/* ---- Commit ------------------------------------------------------------------------------------------ */

/* Runs a prepared statement to its end; `rows`, when not NULL, takes the number of rows it changed. */
static sr_status finish(sqlite_store *store, sqlite3_stmt *statement, int *rows, sr_error *error) {
    int result = sqlite3_step(statement);
    sr_status code = SR_OK;
    if (result != SQLITE_DONE && result != SQLITE_ROW)
        code = sri_sqlite_fail(store, result, "write to database", error);
    if (rows != NULL) *rows = sqlite3_changes(store->db);
    sqlite3_reset(statement);
    return code;
}

static sr_status simple(sqlite_store *store, statement_id id, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, id, &statement, error);
    return code != SR_OK ? code : finish(store, statement, NULL, error);
}

/* Length 0 is the empty text, not NULL. */
static void bind_text(sqlite3_stmt *statement, int place, sr_str text) {
    sqlite3_bind_text64(statement, place, text.len == 0 ? "" : text.data, text.len, SQLITE_STATIC,
                        SQLITE_UTF8);
}

static sr_status write_vector(sqlite_store *store, uint64_t utterance, const float *vector,
                              int64_t model, size_t bytes, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, ADD_VECTOR, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, (int64_t)utterance);
    sqlite3_bind_int64(statement, 2, model);
    sqlite3_bind_blob64(statement, 3, vector, bytes, SQLITE_STATIC);
    return finish(store, statement, NULL, error);
}

static void bind_change(sqlite3_stmt *statement, const sri_change *change) {
    switch (change->kind) {
    case SRI_ADD_ROUTE:
    case SRI_SET_ROUTE:
        sqlite3_bind_int64(statement, 1, (int64_t)change->route);
        bind_text(statement, 2, change->text);
        sqlite3_bind_int(statement, 3, (int)change->threshold.kind);
        sqlite3_bind_double(statement, 4, change->threshold.value);
        bind_text(statement, 5, change->description);
        bind_text(statement, 6, change->metadata);
        break;
    case SRI_REMOVE_ROUTE: sqlite3_bind_int64(statement, 1, (int64_t)change->route); break;
    case SRI_ADD_UTTERANCE:
        sqlite3_bind_int64(statement, 1, (int64_t)change->utterance);
        sqlite3_bind_int64(statement, 2, (int64_t)change->route);
        bind_text(statement, 3, change->text);
        break;
    case SRI_MOVE_UTTERANCE:
        sqlite3_bind_int64(statement, 2, (int64_t)change->to); /* fall through */
    case SRI_REMOVE_UTTERANCE: sqlite3_bind_int64(statement, 1, (int64_t)change->utterance); break;
    case SRI_ADD_VECTOR: break;
    }
}

static sr_status write_change(sqlite_store *store, const sri_change *change, int64_t model,
                              size_t vector_bytes, sr_error *error) {
    static const statement_id ids[] = {
        [SRI_ADD_ROUTE] = ADD_ROUTE,
        [SRI_SET_ROUTE] = SET_ROUTE,
        [SRI_REMOVE_ROUTE] = REMOVE_ROUTE,
        [SRI_ADD_UTTERANCE] = ADD_UTTERANCE,
        [SRI_REMOVE_UTTERANCE] = REMOVE_UTTERANCE,
        [SRI_MOVE_UTTERANCE] = MOVE_UTTERANCE,
    };
    sr_status code = SR_OK;
    if (change->kind != SRI_ADD_VECTOR) {
        sqlite3_stmt *statement;
        int rows = 0;
        code = sri_sqlite_prepare(store, ids[change->kind], &statement, error);
        if (code != SR_OK) return code;
        bind_change(statement, change);
        code = finish(store, statement, &rows, error);
        if (code == SR_OK && rows != 1)
            return sri_fail(
                error, SR_ERR_FORMAT, store->path,
                "database %s was changed by another program: a row that should be there is not",
                store->path);
    }
    if (code == SR_OK && change->vector != NULL)
        code = write_vector(store, change->utterance, change->vector, model, vector_bytes, error);
    return code;
}

/* The row of the model, made when it is new, marked as the newest. */
static sr_status use_model(sqlite_store *store, const sri_store_model *model, int64_t *id,
                           sr_error *error) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(
        store->db,
        "INSERT INTO models (fingerprint, name, dimension, updated) VALUES"
        " (?1, ?2, ?3, (SELECT 1 + ifnull(max(updated), 0) FROM models))"
        " ON CONFLICT (fingerprint) DO UPDATE SET updated = excluded.updated, name = ?2"
        " RETURNING id",
        -1, &statement, NULL);
    if (result == SQLITE_OK) {
        bind_text(statement, 1, sr_str_of(model->fingerprint));
        bind_text(statement, 2, sr_str_of(model->name));
        sqlite3_bind_int(statement, 3, model->dimension);
        result = sqlite3_step(statement);
    }
    if (result == SQLITE_ROW) {
        *id = sqlite3_column_int64(statement, 0);
        result = sqlite3_step(statement);
    }
    sr_status code =
        result == SQLITE_DONE ? SR_OK : sri_sqlite_fail(store, result, "write to database", error);
    sqlite3_finalize(statement);
    return code;
}

static sr_status set_meta(sqlite_store *store, const char *key, uint64_t value, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, SET_META, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, (int64_t)value);
    return finish(store, statement, NULL, error);
}

static sr_status write_all(sqlite_store *store, const sri_commit *commit, sr_error *error) {
    int64_t model = 0;
    size_t bytes = 0;
    sr_status code = SR_OK;
    if (commit->model != NULL) {
        bytes = (size_t)commit->model->dimension * sizeof(float);
        code = use_model(store, commit->model, &model, error);
    }
    for (size_t i = 0; i < commit->count && code == SR_OK; i++)
        code = write_change(store, &commit->changes[i], model, bytes, error);
    if (code == SR_OK) code = set_meta(store, "revision", commit->new_revision, error);
    if (code == SR_OK) code = set_meta(store, "next_id", commit->next_id, error);
    return code;
}

/* Bound strings and vectors belong to the caller and are gone after the call. */
static void forget_bindings(sqlite_store *store) {
    for (int i = 0; i < STATEMENTS; i++) {
        if (store->statements[i] == NULL) continue;
        sqlite3_reset(store->statements[i]);
        sqlite3_clear_bindings(store->statements[i]);
    }
}

/* Ends the transaction if it is still there. */
static void leave(sqlite_store *store) {
    forget_bindings(store);
    if (sqlite3_get_autocommit(store->db)) return;
    sr_status ended = simple(store, ROLLBACK, NULL);
    if (ended != SR_OK)
        sri_log(SR_LOG_WARN, "database %s: a transaction could not be rolled back", store->path);
}

sr_status sri_sqlite_commit(sri_store *base, const sri_commit *commit, bool *stale,
                            sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    uint64_t stored = 0, fit;
    bool made = store->db == NULL;
    *stale = false;
    sr_status code = made ? sri_sqlite_connect(store, true, error) : SR_OK;
    if (code == SR_OK) code = simple(store, BEGIN_WRITE, error);
    if (code != SR_OK) return code;
    code = base->kind->revision(base, &stored, &fit, error);
    if (code == SR_OK && stored != commit->base_revision) *stale = true;
    if (code == SR_OK && !*stale) code = write_all(store, commit, error);
    if (code == SR_OK && !*stale) code = simple(store, COMMIT, error);
    leave(store);
    if (made && code != SR_OK) sri_sqlite_unmake(store);
    return code;
}

/* ---- The fit ------------------------------------------------------------------------------------------ */

static void bind_number(sqlite3_stmt *statement, int place, double number) {
    if (isnan(number))
        sqlite3_bind_null(statement, place);
    else
        sqlite3_bind_double(statement, place, number);
}

static void bind_blob(sqlite3_stmt *statement, int place, const sri_buffer *blob) {
    sqlite3_bind_blob64(statement, place, blob->len == 0 ? "" : blob->data, blob->len,
                        SQLITE_STATIC);
}

/* One statement is a transaction of its own. */
sr_status sri_sqlite_save_fit(sri_store *base, const sri_store_fit *fit, uint64_t *serial,
                              sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sqlite3_stmt *statement = NULL;
    *serial = 0;
    sr_status code = store->db == NULL ? sri_sqlite_connect(store, true, error) : SR_OK;
    if (code == SR_OK) code = sri_sqlite_prepare(store, SAVE_FIT, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, (int64_t)fit->revision);
    sqlite3_bind_int(statement, 2, (int)fit->kind);
    bind_text(statement, 3, sr_str_of(fit->model));
    bind_text(statement, 4, sr_str_of(fit->fast));
    bind_number(statement, 5, fit->max_oos_accepted);
    bind_number(statement, 6, fit->min_precision);
    bind_number(statement, 7, fit->auto_threshold);
    bind_number(statement, 8, fit->fast_share);
    bind_blob(statement, 9, &fit->routes);
    bind_blob(statement, 10, &fit->bytes);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *serial = (uint64_t)sqlite3_column_int64(statement, 0);
        result = sqlite3_step(statement);
    }
    if (result != SQLITE_DONE) code = sri_sqlite_fail(store, result, "write to database", error);
    if (code != SR_OK) *serial = 0;
    leave(store);
    return code;
}

/* ---- Verification ------------------------------------------------------------------------------------- */

static sr_status fault(const sqlite_store *store, sr_error *error, const char *what) {
    return sri_fail(error, SR_ERR_FORMAT, store->path,
                    "database %s is damaged: %s; restore it from a copy", store->path, what);
}

/* Queries that give no row where all is well, each with what a row would mean. */
static const struct {
    const char *sql, *what;
} expectations[] = {
    {"SELECT 1 FROM pragma_foreign_key_check", "a row refers to another that is not there"},
    {"SELECT 1 WHERE (SELECT count(*) FROM meta WHERE key IN ('revision', 'next_id') AND value >= "
     "0) <> 2",
     "revision or next_id is missing"},
    {"SELECT 1 FROM meta WHERE key = 'next_id' AND (value <= (SELECT ifnull(max(id), 0) FROM "
     "routes)"
     " OR value <= (SELECT ifnull(max(id), 0) FROM utterances))",
     "next_id is not above the ids in use"},
    {"SELECT 1 FROM routes WHERE length(CAST(name AS BLOB)) NOT BETWEEN 1 AND 512 OR "
     "threshold_kind NOT BETWEEN 0"
     " AND 2 OR threshold NOT BETWEEN -1 AND 1",
     "a route has an empty name or an impossible threshold"},
    {"SELECT 1 FROM models WHERE length(fingerprint) <> 64 OR dimension NOT BETWEEN 1 AND 65536",
     "a model has no proper fingerprint or dimension"},
    {"SELECT 1 FROM vectors JOIN models ON models.id = vectors.model WHERE length(vector) <> "
     "dimension * 4",
     "a vector has another length than its model's"},
    {"SELECT 1 FROM fits WHERE serial < 1 OR kind NOT BETWEEN 1 AND 2 OR length(model) <> 64 OR "
     "length(fast) NOT IN (0, 64) OR length(routes) % 16 <> 0 OR (kind = 2) <> (length(bytes) > 0)"
     " OR revision > (SELECT value FROM meta WHERE key = 'revision')",
     "the fit has an impossible revision, kind or fingerprint, or lacks a part"},
};

#define EXPECTATIONS_OF_SCHEMA_1 (SRI_COUNT(expectations) - 1)

static sr_status check_expectation(sqlite_store *store, size_t i, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->db, expectations[i].sql, -1, &statement, NULL);
    if (result == SQLITE_OK) result = sqlite3_step(statement);
    sr_status code = SR_OK;
    if (result == SQLITE_ROW)
        code = fault(store, error, expectations[i].what);
    else if (result != SQLITE_DONE)
        code = sri_sqlite_fail(store, result, "verify database", error);
    sqlite3_finalize(statement);
    return code;
}

/* Every vector has length 1 within what rounding allows; NaN and infinity fail that too. */
static sr_status check_vector(const sqlite_store *store, sqlite3_stmt *row, sr_error *error) {
    const char *blob = sqlite3_column_blob(row, 1);
    size_t count = (size_t)sqlite3_column_bytes(row, 1) / sizeof(float);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, blob + i * sizeof value, sizeof value);
        sum += (double)value * value;
    }
    if (fabs(sum - 1) < 1e-3) return SR_OK;
    char what[96];
    snprintf(what, sizeof what, "the vector of utterance %lld has length %g instead of 1",
             (long long)sqlite3_column_int64(row, 0), sqrt(sum));
    return fault(store, error, what);
}

static sr_status check_vectors(sqlite_store *store, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = SR_OK;
    int result = sqlite3_prepare_v2(store->db, "SELECT utterance, vector FROM vectors", -1,
                                    &statement, NULL);
    if (result == SQLITE_OK)
        while ((result = sqlite3_step(statement)) == SQLITE_ROW && code == SR_OK)
            code = check_vector(store, statement, error);
    if (code == SR_OK && result != SQLITE_DONE)
        code = sri_sqlite_fail(store, result, "verify database", error);
    sqlite3_finalize(statement);
    return code;
}

static sr_status check_pages(sqlite_store *store, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(1)", -1, &statement, NULL);
    if (result == SQLITE_OK) result = sqlite3_step(statement);
    sr_status code = SR_OK;
    if (result != SQLITE_ROW)
        code = sri_sqlite_fail(store, result == SQLITE_DONE ? SQLITE_CORRUPT : result,
                               "verify database", error);
    else if (!sri_str_equal(sri_sqlite_text(statement, 0), sr_str_of("ok")))
        code = fault(store, error, (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    return code;
}

sr_status sri_sqlite_verify(sri_store *base, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    if (store->db == NULL) return SR_OK;
    size_t count =
        atomic_load(&base->schema) < 2 ? EXPECTATIONS_OF_SCHEMA_1 : SRI_COUNT(expectations);
    sr_status code = check_pages(store, error);
    for (size_t i = 0; i < count && code == SR_OK; i++) code = check_expectation(store, i, error);
    return code != SR_OK ? code : check_vectors(store, error);
}
