/*
 * sqlite_read.c - reading the table: the whole, what has changed since, and the fit.
 *
 * Each is read in one transaction, so that nobody's commit comes in between; within an open group it is
 * that group's, and what it has written is seen.
 *
 * A database of an older schema that could only be read has no codes: they are made from its vectors as
 * these are read. It has no log of changes either.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite_int.h"

/* ---- Transactions -------------------------------------------------------------------------------------- */

sr_status sri_sqlite_find_schema(sqlite_store *store, sr_error *error) {
    int64_t version = 0;
    if (atomic_load(&store->base.schema) == SRI_STORE_SCHEMA) return SR_OK;
    sr_status code = sri_sqlite_integer(store, "PRAGMA user_version", &version, error);
    if (code == SR_OK && version == SRI_STORE_SCHEMA)
        atomic_store(&store->base.schema, (int)version);
    return code;
}

static sr_status begin_reading(sqlite_store *store, sr_error *error) {
    if (store->group.open) return sri_sqlite_flush(store, error);
    sr_status code = sri_sqlite_run(store, "BEGIN", "read database", error);
    if (code == SR_OK) code = sri_sqlite_find_schema(store, error);
    if (code != SR_OK) sri_sqlite_leave(store);
    return code;
}

static sr_status end_reading(sqlite_store *store, sr_status code, sr_error *error) {
    if (store->group.open) return code;
    sr_status ended =
        sri_sqlite_run(store, "ROLLBACK", "read database", code == SR_OK ? error : NULL);
    return code != SR_OK ? code : ended;
}

/* ---- What is handed over ---------------------------------------------------------------------------------- */

static sr_status take_model(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    (void)store, (void)error;
    sri_store_state *state = user;
    if (state->models++ > 0) return SR_OK; /* the newest comes first */
    const char *name = (const char *)sqlite3_column_text(row, 0);
    const char *fingerprint = (const char *)sqlite3_column_text(row, 1);
    snprintf(state->model_name, sizeof state->model_name, "%s", name == NULL ? "" : name);
    snprintf(state->model_fingerprint, sizeof state->model_fingerprint, "%s",
             fingerprint == NULL ? "" : fingerprint);
    state->model_dimension = sqlite3_column_int(row, 2);
    return SR_OK;
}

static sr_status read_state(sqlite_store *store, bool counted, sri_store_state *state,
                            sr_error *error) {
    static const struct {
        const char *sql;
        size_t offset;
    } counters[] = {
        {"SELECT value FROM meta WHERE key = 'revision'", offsetof(sri_store_state, revision)},
        {"SELECT value FROM meta WHERE key = 'next_id'", offsetof(sri_store_state, next_id)},
        {"SELECT count(*) FROM routes", offsetof(sri_store_state, routes)},
        {"SELECT count(*) FROM utterances", offsetof(sri_store_state, utterances)},
    };
    for (size_t i = 0; i < (counted ? SRI_COUNT(counters) : 2); i++) {
        int64_t value;
        sr_status code = sri_sqlite_integer(store, counters[i].sql, &value, error);
        if (code != SR_OK) return code;
        memcpy((char *)state + counters[i].offset, &value, sizeof value);
    }
    return sri_sqlite_each(store,
                           "SELECT name, fingerprint, dimension FROM models WHERE EXISTS"
                           " (SELECT 1 FROM utterances) ORDER BY updated DESC, id DESC",
                           NULL, 0, take_model, state, error);
}

typedef sr_status route_fn(void *user, const sri_store_route *route, sr_error *error);
typedef sr_status utterance_fn(void *user, uint64_t id, uint64_t route, sr_str text,
                               sr_error *error);
typedef sr_status code_fn(void *user, uint64_t utterance, const uint8_t *code, sr_error *error);

/* Where rows go, and what is needed to check them. */
typedef struct row_sink {
    void *user;
    route_fn *route;
    utterance_fn *utterance;
    code_fn *code;
    int dimension;
    /* Where there are but vectors: one, aligned, and its code. */
    float *floats;
    uint8_t *bytes;
} row_sink;

#define ROUTES "SELECT id, name, threshold_kind, threshold, description, metadata FROM routes"

static sr_status take_route(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    (void)store;
    const row_sink *sink = user;
    sri_store_route route = {
        .id = (uint64_t)sqlite3_column_int64(row, 0),
        .name = sri_sqlite_text(row, 1),
        .threshold = {(sr_threshold_kind)sqlite3_column_int(row, 2), sqlite3_column_double(row, 3)},
        .description = sri_sqlite_text(row, 4),
        .metadata = sri_sqlite_text(row, 5)};
    return sink->route(sink->user, &route, error);
}

static sr_status take_utterance(sqlite_store *store, sqlite3_stmt *row, void *user,
                                sr_error *error) {
    (void)store;
    const row_sink *sink = user;
    return sink->utterance(sink->user, (uint64_t)sqlite3_column_int64(row, 0),
                           (uint64_t)sqlite3_column_int64(row, 1), sri_sqlite_text(row, 2), error);
}

static sr_status wrong_bytes(const sqlite_store *store, const char *what, int64_t utterance,
                             size_t bytes, size_t expected, sr_error *error) {
    return sri_fail(error, SR_ERR_FORMAT, store->path,
                    "database %s: the %s of utterance %lld has %zu bytes instead of %zu",
                    store->path, what, (long long)utterance, bytes, expected);
}

static sr_status take_code(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    const row_sink *sink = user;
    int64_t utterance = sqlite3_column_int64(row, 0);
    const uint8_t *blob = sqlite3_column_blob(row, 1);
    size_t bytes = (size_t)sqlite3_column_bytes(row, 1);
    size_t expected = sri_index_code_bytes(sink->dimension);
    if (blob == NULL || bytes != expected)
        return wrong_bytes(store, "code", utterance, bytes, expected, error);
    if (!sri_index_code_valid(blob, sink->dimension))
        return sri_fail(error, SR_ERR_FORMAT, store->path,
                        "database %s is damaged: the code of utterance %lld is impossible; restore "
                        "it from a copy",
                        store->path, (long long)utterance);
    return sink->code(sink->user, (uint64_t)utterance, blob, error);
}

static sr_status take_vector(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    const row_sink *sink = user;
    int64_t utterance = sqlite3_column_int64(row, 0);
    const void *blob = sqlite3_column_blob(row, 1);
    size_t bytes = (size_t)sqlite3_column_bytes(row, 1);
    size_t expected = (size_t)sink->dimension * sizeof(float);
    if (blob == NULL || bytes != expected)
        return wrong_bytes(store, "vector", utterance, bytes, expected, error);
    memcpy(sink->floats, blob, bytes);
    sri_index_encode(sink->floats, sink->dimension, sink->bytes);
    return sink->code(sink->user, (uint64_t)utterance, sink->bytes, error);
}

sr_status sri_sqlite_find_model(sqlite_store *store, const char *fingerprint, int64_t *id,
                                sr_error *error) {
    *id = 0;
    return sri_sqlite_each(store,
                           "SELECT id FROM models WHERE fingerprint = ?1 AND id BETWEEN 1 AND 63",
                           fingerprint, 0, sri_sqlite_take_number, id, error);
}

/* ---- Rows from an id on, and the whole ---------------------------------------------------------------------- */

/* Of a database of an older schema. */
static sr_status make_codes(sqlite_store *store, int64_t model, row_sink *sink, sr_error *error) {
    sr_status code = SR_OK;
    sink->floats = sri_alloc((size_t)sink->dimension * sizeof(float));
    sink->bytes = sri_alloc(sri_index_code_bytes(sink->dimension));
    if (sink->floats == NULL || sink->bytes == NULL)
        code = sri_fail_memory(error);
    else
        code = sri_sqlite_each(
            store, "SELECT utterance, vector FROM vectors WHERE model = ?1 ORDER BY utterance",
            NULL, model, take_vector, sink, error);
    sri_free(sink->floats);
    sri_free(sink->bytes);
    return code;
}

/* Of a database of schema 3. */
static sr_status read_codes(sqlite_store *store, int64_t model, int64_t from, row_sink *sink,
                            sr_error *error) {
    int64_t first = from < 0 ? INT64_MIN : from * MODELS;
    return sri_sqlite_each(store,
                           "SELECT id >> 6, code FROM codes WHERE id >= (?1 & ~63) AND (id & 63) ="
                           " (?1 & 63)",
                           NULL, first + model, take_code, sink, error);
}

/* Routes, utterances and, unless `fingerprint` is NULL, codes with ids not below `from`. */
static sr_status read_rows(sqlite_store *store, int64_t from, const char *fingerprint,
                           row_sink *sink, sr_error *error) {
    int64_t model = 0;
    sr_status code = sri_sqlite_each(store, ROUTES " WHERE id >= ?1 ORDER BY id", NULL, from,
                                     take_route, sink, error);
    if (code == SR_OK)
        code = sri_sqlite_each(store,
                               "SELECT id, route, text FROM utterances WHERE id >= ?1 ORDER BY id",
                               NULL, from, take_utterance, sink, error);
    if (code == SR_OK && fingerprint != NULL && sink->code != NULL)
        code = sri_sqlite_find_model(store, fingerprint, &model, error);
    if (code != SR_OK || model == 0) return code;
    return atomic_load(&store->base.schema) < 3 ? make_codes(store, model, sink, error)
                                                : read_codes(store, model, from, sink, error);
}

static sr_status load_all(sqlite_store *store, const char *fingerprint, int dimension,
                          const sri_store_sink *given, sr_error *error) {
    sri_store_state state = {0};
    row_sink sink = {.user = given->user,
                     .route = given->route,
                     .utterance = given->utterance,
                     .code = given->code,
                     .dimension = dimension};
    sr_status code = read_state(store, true, &state, error);
    if (code == SR_OK) code = given->begin(given->user, &state, error);
    return code == SR_OK ? read_rows(store, INT64_MIN, fingerprint, &sink, error) : code;
}

sr_status sri_sqlite_load(sri_store *base, const char *fingerprint, int dimension,
                          const sri_store_sink *sink, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sr_status code = sri_sqlite_wake(store, error);
    if (code == SR_OK && store->db == NULL)
        return sink->begin(sink->user, &(sri_store_state){.next_id = 1}, error);
    if (code == SR_OK) code = begin_reading(store, error);
    if (code != SR_OK) return code;
    code = load_all(store, fingerprint, dimension, sink, error);
    return end_reading(store, code, error);
}

/* ---- What has changed ------------------------------------------------------------------------------------ */

typedef struct log_row {
    log_kind kind;
    uint64_t item, route;
} log_row;

typedef struct log_rows {
    log_row *rows; /* newest first */
    size_t count, capacity;
    uint64_t since, next_id;
} log_rows;

/* Reads the log backwards as far as need be. What came and went since then was never known. */
static sr_status read_log(sqlite_store *store, log_rows *log, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->db,
                                    "SELECT revision, kind, item, route FROM log ORDER BY id DESC",
                                    -1, &statement, NULL);
    bool enough = true;
    while (result == SQLITE_OK && enough && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        result = SQLITE_OK;
        if ((uint64_t)sqlite3_column_int64(statement, 0) <= log->since) break;
        log_row row = {(log_kind)sqlite3_column_int(statement, 1),
                       (uint64_t)sqlite3_column_int64(statement, 2),
                       (uint64_t)sqlite3_column_int64(statement, 3)};
        if (row.item >= log->next_id) continue;
        void *rows = log->rows;
        enough = sri_grow(&rows, &log->capacity, log->count + 1, sizeof row);
        log->rows = rows;
        if (enough) log->rows[log->count++] = row;
    }
    sr_status code = enough ? SR_OK : sri_fail_memory(error);
    if (enough && result != SQLITE_OK && result != SQLITE_DONE)
        code = sri_sqlite_fail(store, result, "read database", error);
    sqlite3_finalize(statement);
    return code;
}

static int by_item(const void *a, const void *b) {
    const log_row *one = a, *other = b;
    return (one->item > other->item) - (one->item < other->item);
}

static sr_status tell_gone(const log_rows *log, const sri_store_news *news, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = log->count; i-- > 0 && code == SR_OK;)
        if (log->rows[i].kind == LOG_UTTERANCE_GONE)
            code = news->utterance_gone(news->user, log->rows[i].item, log->rows[i].route, error);
    for (size_t i = log->count; i-- > 0 && code == SR_OK;)
        if (log->rows[i].kind == LOG_ROUTE_GONE)
            code = news->route_gone(news->user, log->rows[i].item, error);
    return code;
}

/* Each route once, however often it changed; one that went is not there any more. */
static sr_status tell_set(sqlite_store *store, log_rows *log, const sri_store_news *news,
                          sr_error *error) {
    row_sink sink = {.user = news->user, .route = news->route_set};
    uint64_t last = 0;
    sr_status code = SR_OK;
    if (log->count > 0) qsort(log->rows, log->count, sizeof *log->rows, by_item);
    for (size_t i = 0; i < log->count && code == SR_OK; i++) {
        if (log->rows[i].kind != LOG_ROUTE_SET || log->rows[i].item == last) continue;
        last = log->rows[i].item;
        code = sri_sqlite_each(store, ROUTES " WHERE id = ?1", NULL, (int64_t)last, take_route,
                               &sink, error);
    }
    return code;
}

static sr_status tell_added(sqlite_store *store, uint64_t next_id, const char *fingerprint,
                            int dimension, const sri_store_news *news, sr_error *error) {
    row_sink sink = {.user = news->user,
                     .route = news->route,
                     .utterance = news->utterance,
                     .code = news->code,
                     .dimension = dimension};
    return read_rows(store, (int64_t)next_id, fingerprint, &sink, error);
}

/* The log must reach back to `since`, of which this process may know more than the file when that was restored from a
 * copy. */
static sr_status log_reaches(sqlite_store *store, uint64_t since, const sri_store_state *state,
                             bool *reaches, sr_error *error) {
    int64_t start = 0;
    *reaches = false;
    if (atomic_load(&store->base.schema) < 3 || state->revision < since) return SR_OK;
    sr_status code =
        sri_sqlite_integer(store, "SELECT value FROM meta WHERE key = 'log_since'", &start, error);
    *reaches = code == SR_OK && (uint64_t)start <= since;
    return code;
}

static sr_status read_changes(sqlite_store *store, log_rows *log, const char *fingerprint,
                              int dimension, const sri_store_news *news, bool *whole,
                              sr_error *error) {
    sri_store_state state = {0};
    bool reaches = false;
    sr_status code = read_state(store, false, &state, error);
    if (code == SR_OK) code = log_reaches(store, log->since, &state, &reaches, error);
    *whole = !reaches || state.next_id < log->next_id;
    if (code != SR_OK || *whole) return code;
    code = read_log(store, log, error);
    if (code == SR_OK) code = news->begin(news->user, &state, error);
    if (code == SR_OK) code = tell_gone(log, news, error);
    if (code == SR_OK) code = tell_set(store, log, news, error);
    if (code == SR_OK) code = tell_added(store, log->next_id, fingerprint, dimension, news, error);
    return code;
}

sr_status sri_sqlite_changes(sri_store *base, uint64_t revision, uint64_t next_id,
                             const char *fingerprint, int dimension, const sri_store_news *news,
                             bool *whole, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    log_rows log = {.since = revision, .next_id = next_id};
    *whole = true;
    sr_status code = sri_sqlite_wake(store, error);
    if (code != SR_OK || store->db == NULL) return code;
    code = begin_reading(store, error);
    if (code != SR_OK) return code;
    code = read_changes(store, &log, fingerprint, dimension, news, whole, error);
    sri_free(log.rows);
    return end_reading(store, code, error);
}

/* ---- Revision and fit --------------------------------------------------------------------------------------- */

sr_status sri_sqlite_revision(sri_store *base, uint64_t *value, uint64_t *fit, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sqlite3_stmt *statement = NULL;
    *value = *fit = 0;
    sr_status code = sri_sqlite_wake(store, error);
    if (code == SR_OK && store->db == NULL) return SR_OK;
    if (code == SR_OK) code = sri_sqlite_find_schema(store, error);
    bool old = atomic_load(&base->schema) < 2;
    if (code == SR_OK)
        code = sri_sqlite_prepare(store, old ? GET_REVISION_1 : GET_REVISION, &statement, error);
    if (code != SR_OK) return code;
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *value = (uint64_t)sqlite3_column_int64(statement, 0);
        *fit = (uint64_t)sqlite3_column_int64(statement, 1);
    } else {
        code = sri_sqlite_fail(store, result == SQLITE_DONE ? SQLITE_CORRUPT : result,
                               "read database", error);
    }
    sqlite3_reset(statement);
    if (store->group.written) *value = store->group.revision;
    return code;
}

static double number_or_nan(sqlite3_stmt *row, int column) {
    return sqlite3_column_type(row, column) == SQLITE_NULL ? NAN
                                                           : sqlite3_column_double(row, column);
}

static sr_status take_fit(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    (void)store;
    sri_store_fit *fit = user;
    fit->serial = (uint64_t)sqlite3_column_int64(row, 0);
    fit->revision = (uint64_t)sqlite3_column_int64(row, 1);
    fit->kind = (sr_fit_kind)sqlite3_column_int(row, 2);
    snprintf(fit->model, sizeof fit->model, "%s", (const char *)sqlite3_column_text(row, 3));
    snprintf(fit->fast, sizeof fit->fast, "%s", (const char *)sqlite3_column_text(row, 4));
    fit->max_oos_accepted = number_or_nan(row, 5);
    fit->min_precision = number_or_nan(row, 6);
    fit->auto_threshold = number_or_nan(row, 7);
    fit->fast_share = number_or_nan(row, 8);
    bool enough = sri_buffer_append(&fit->routes, sqlite3_column_blob(row, 9),
                                    (size_t)sqlite3_column_bytes(row, 9)) &&
                  sri_buffer_append(&fit->bytes, sqlite3_column_blob(row, 10),
                                    (size_t)sqlite3_column_bytes(row, 10));
    return enough ? SR_OK : sri_fail_memory(error);
}

sr_status sri_sqlite_load_fit(sri_store *base, bool whole, sri_store_fit *fit, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    *fit = (sri_store_fit){0};
    if (store->db == NULL || atomic_load(&base->schema) < 2) return SR_OK;
    sr_status code = sri_sqlite_each(
        store,
        whole ? "SELECT serial, revision, kind, model, fast, max_oos_accepted, min_precision,"
                " auto_threshold, fast_share, routes, bytes FROM fits WHERE id = 1"
              : "SELECT serial, revision, kind, model, fast, max_oos_accepted, min_precision,"
                " auto_threshold, fast_share, routes, x'' FROM fits WHERE id = 1",
        NULL, 0, take_fit, fit, error);
    if (code != SR_OK) sri_store_fit_free(fit);
    return code;
}
