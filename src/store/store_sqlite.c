/*
 * store_sqlite.c - the store in an SQLite file: loading, errors, and what its other files share.
 *
 * Six tables: `meta` (revision, next_id), `routes`, `utterances`, `models` (a fingerprint each),
 * `vectors`, a blob of little-endian floats for each pair of utterance and model, and `fits`, one row at
 * most. Out-of-scope examples are the utterances of a route with a name that no other may have. Deleting an utterance takes
 * the vectors of all models with it. Vectors have a rowid and an index rather than a clustered key: a row
 * of an index may use only a quarter of a page, and vectors of 768 floats would each waste a page.
 *
 * WAL with synchronous NORMAL: a commit survives the death of the process; after a power failure the last
 * commits may be missing, but none is ever half there. The connection belongs to the router's writer.
 *
 * While there is no file there is no connection: every call looks first whether somebody has made it, and
 * the first commit makes it. To make it at the opening and to remove it after a failure was rejected, as
 * another process may have come to use it in between.
 */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "store/sqlite_int.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "vectors are stored as they lie in memory");

/* ---- Errors ----------------------------------------------------------------------------------------- */

/* What the system said to the last failed call on the database or its log: SQLite itself recognises ENOSPC
 * only, not a quota or a limit on the size of files. */
static bool disk_is_full(const sqlite_store *store) {
    static const int pointers[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};
    for (size_t i = 0; i < SRI_COUNT(pointers) && store->db != NULL; i++) {
        sqlite3_file *file = NULL;
        int cause = 0;
        if (sqlite3_file_control(store->db, "main", pointers[i], &file) != SQLITE_OK ||
            file == NULL)
            continue;
        if (file->pMethods == NULL) continue;
        file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &cause);
        if (cause == ENOSPC || cause == EDQUOT || cause == EFBIG) return true;
    }
    return false;
}

static sr_status status_of(const sqlite_store *store, int result) {
    switch (result & 0xFF) {
    case SQLITE_FULL: return SR_ERR_FULL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: return SR_ERR_BUSY;
    case SQLITE_READONLY: return SR_ERR_READ_ONLY;
    case SQLITE_NOMEM: return SR_ERR_NO_MEMORY;
    case SQLITE_TOOBIG: return SR_ERR_LIMIT;
    case SQLITE_IOERR:
        if (result == SQLITE_IOERR_NOMEM) return SR_ERR_NO_MEMORY;
        return disk_is_full(store) ? SR_ERR_FULL : SR_ERR_IO;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_NOLFS: return SR_ERR_IO;
    default: return SR_ERR_FORMAT;
    }
}

static const char *advice(sr_status code) {
    switch (code) {
    case SR_ERR_FULL: return "; free space on its disk: nothing was changed";
    case SR_ERR_BUSY: return "; another process is writing to it: try again";
    case SR_ERR_READ_ONLY:
        return "; it cannot be written: check its permissions and its directory's";
    case SR_ERR_FORMAT:
        return "; the file is damaged or was changed by another program: restore it from a copy";
    default: return "";
    }
}

sr_status sri_sqlite_fail(const sqlite_store *store, int result, const char *doing,
                          sr_error *error) {
    sr_status code = status_of(store, result);
    const char *message = store->db == NULL ? sqlite3_errstr(result) : sqlite3_errmsg(store->db);
    return sri_fail(error, code, store->path, "cannot %s %s: %s%s", doing, store->path, message,
                    advice(code));
}

/* ---- Statements ------------------------------------------------------------------------------------- */

static const char *const statement_texts[STATEMENTS] = {
    [ADD_ROUTE] = "INSERT INTO routes (id, name, threshold_kind, threshold, description, metadata)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [SET_ROUTE] =
        "UPDATE routes SET threshold_kind = ?3, threshold = ?4, description = ?5, metadata = ?6"
        " WHERE id = ?1 AND name = ?2",
    [REMOVE_ROUTE] = "DELETE FROM routes WHERE id = ?1",
    [ADD_UTTERANCE] = "INSERT INTO utterances (id, route, text) VALUES (?1, ?2, ?3)",
    [REMOVE_UTTERANCE] = "DELETE FROM utterances WHERE id = ?1",
    [MOVE_UTTERANCE] = "UPDATE utterances SET id = ?2 WHERE id = ?1",
    /* Two processes may encode the same utterances anew at the same time. */
    [ADD_VECTOR] = "INSERT INTO vectors (utterance, model, vector) VALUES (?1, ?2, ?3)"
                   " ON CONFLICT (utterance, model) DO UPDATE SET vector = excluded.vector",
    [GET_REVISION] = "SELECT value, ifnull((SELECT serial FROM fits WHERE id = 1), 0) FROM meta"
                     " WHERE key = 'revision'",
    [GET_REVISION_1] = "SELECT value, 0 FROM meta WHERE key = 'revision'",
    [SAVE_FIT] =
        "INSERT INTO fits (id, serial, revision, kind, model, fast, max_oos_accepted,"
        " min_precision, auto_threshold, fast_share, routes, bytes)"
        " VALUES (1, 1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        " ON CONFLICT (id) DO UPDATE SET serial = serial + 1, revision = excluded.revision,"
        " kind = excluded.kind, model = excluded.model, fast = excluded.fast,"
        " max_oos_accepted = excluded.max_oos_accepted, min_precision = excluded.min_precision,"
        " auto_threshold = excluded.auto_threshold, fast_share = excluded.fast_share,"
        " routes = excluded.routes, bytes = excluded.bytes WHERE revision <= excluded.revision"
        " RETURNING serial",
    [SET_META] = "UPDATE meta SET value = ?2 WHERE key = ?1",
    [BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};

sr_status sri_sqlite_prepare(sqlite_store *store, statement_id id, sqlite3_stmt **statement,
                             sr_error *error) {
    if (store->statements[id] == NULL) {
        int result = sqlite3_prepare_v3(store->db, statement_texts[id], -1,
                                        SQLITE_PREPARE_PERSISTENT, &store->statements[id], NULL);
        if (result != SQLITE_OK) return sri_sqlite_fail(store, result, "read database", error);
    }
    *statement = store->statements[id];
    sqlite3_reset(*statement);
    return SR_OK;
}

sr_status sri_sqlite_run(sqlite_store *store, const char *sql, const char *doing, sr_error *error) {
    int result = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? SR_OK : sri_sqlite_fail(store, result, doing, error);
}

sr_status sri_sqlite_integer(sqlite_store *store, const char *sql, int64_t *value,
                             sr_error *error) {
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK) result = sqlite3_step(statement);
    *value = result == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    sr_status code = SR_OK;
    if (result != SQLITE_ROW)
        code = sri_sqlite_fail(store, result == SQLITE_DONE ? SQLITE_CORRUPT : result,
                               "read database", error);
    sqlite3_finalize(statement);
    return code;
}

/* ---- Loading ---------------------------------------------------------------------------------------- */

/* Connects if somebody has made the file since it was found missing. */
static sr_status wake(sqlite_store *store, sr_error *error) {
    if (store->db != NULL || access(store->path, F_OK) != 0) return SR_OK;
    return sri_sqlite_connect(store, false, error);
}

/* One pass over the rows of a query; `take` is called for each. */
typedef sr_status row_fn(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error);

static sr_status each_row(sqlite_store *store, const char *sql, const char *parameter, row_fn *take,
                          void *user, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = SR_OK;
    int result = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK && parameter != NULL)
        result = sqlite3_bind_text(statement, 1, parameter, -1, SQLITE_STATIC);
    if (result == SQLITE_OK) {
        while ((result = sqlite3_step(statement)) == SQLITE_ROW && code == SR_OK)
            code = take(store, statement, user, error);
    }
    if (code == SR_OK && result != SQLITE_DONE)
        code = sri_sqlite_fail(store, result, "read database", error);
    sqlite3_finalize(statement);
    return code;
}

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

static sr_status read_state(sqlite_store *store, sri_store_state *state, sr_error *error) {
    static const struct {
        const char *sql;
        size_t offset;
    } counters[] = {
        {"SELECT value FROM meta WHERE key = 'revision'", offsetof(sri_store_state, revision)},
        {"SELECT value FROM meta WHERE key = 'next_id'", offsetof(sri_store_state, next_id)},
        {"SELECT count(*) FROM routes", offsetof(sri_store_state, routes)},
        {"SELECT count(*) FROM utterances", offsetof(sri_store_state, utterances)},
    };
    for (size_t i = 0; i < SRI_COUNT(counters); i++) {
        int64_t value;
        sr_status code = sri_sqlite_integer(store, counters[i].sql, &value, error);
        if (code != SR_OK) return code;
        memcpy((char *)state + counters[i].offset, &value, sizeof value);
    }
    return each_row(
        store,
        "SELECT name, fingerprint, dimension FROM models WHERE EXISTS"
        " (SELECT 1 FROM vectors WHERE model = models.id) ORDER BY updated DESC, id DESC",
        NULL, take_model, state, error);
}

static sr_status take_route(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    (void)store;
    const sri_store_sink *sink = user;
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
    const sri_store_sink *sink = user;
    return sink->utterance(sink->user, (uint64_t)sqlite3_column_int64(row, 0),
                           (uint64_t)sqlite3_column_int64(row, 1), sri_sqlite_text(row, 2), error);
}

typedef struct vector_sink {
    const sri_store_sink *sink;
    float *aligned;
    size_t bytes;
} vector_sink;

static sr_status take_vector(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    vector_sink *vectors = user;
    int64_t utterance = sqlite3_column_int64(row, 0);
    const void *blob = sqlite3_column_blob(row, 1);
    size_t bytes = (size_t)sqlite3_column_bytes(row, 1);
    if (blob == NULL || bytes != vectors->bytes)
        return sri_fail(error, SR_ERR_FORMAT, store->path,
                        "database %s: the vector of utterance %lld has %zu bytes instead of %zu",
                        store->path, (long long)utterance, bytes, vectors->bytes);
    memcpy(vectors->aligned, blob, bytes);
    return vectors->sink->vector(vectors->sink->user, (uint64_t)utterance, vectors->aligned, error);
}

static sr_status load_vectors(sqlite_store *store, const char *fingerprint, int dimension,
                              const sri_store_sink *sink, sr_error *error) {
    vector_sink vectors = {sink, NULL, (size_t)dimension * sizeof(float)};
    vectors.aligned = sri_alloc(vectors.bytes);
    if (vectors.aligned == NULL) return sri_fail_memory(error);
    sr_status code = each_row(store,
                              "SELECT utterance, vector FROM vectors NOT INDEXED WHERE model ="
                              " (SELECT id FROM models WHERE fingerprint = ?1)",
                              fingerprint, take_vector, &vectors, error);
    sri_free(vectors.aligned);
    return code;
}

static sr_status load_all(sqlite_store *store, const char *fingerprint, int dimension,
                          const sri_store_sink *sink, sr_error *error) {
    sri_store_state state = {0};
    sr_status code = read_state(store, &state, error);
    if (code == SR_OK) code = sink->begin(sink->user, &state, error);
    void *user = (void *)(uintptr_t)sink;
    if (code == SR_OK)
        code = each_row(store,
                        "SELECT id, name, threshold_kind, threshold, description, metadata FROM "
                        "routes ORDER BY id",
                        NULL, take_route, user, error);
    if (code == SR_OK)
        code = each_row(store, "SELECT id, route, text FROM utterances ORDER BY id", NULL,
                        take_utterance, user, error);
    if (code == SR_OK && fingerprint != NULL)
        code = load_vectors(store, fingerprint, dimension, sink, error);
    return code;
}

/* In one read transaction, so that nobody's commit comes in between. */
sr_status sri_sqlite_load(sri_store *base, const char *fingerprint, int dimension,
                          const sri_store_sink *sink, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sr_status code = wake(store, error);
    if (code == SR_OK && store->db == NULL)
        return sink->begin(sink->user, &(sri_store_state){.next_id = 1}, error);
    if (code == SR_OK) code = sri_sqlite_run(store, "BEGIN", "read database", error);
    if (code != SR_OK) return code;
    code = load_all(store, fingerprint, dimension, sink, error);
    sr_status ended =
        sri_sqlite_run(store, "ROLLBACK", "read database", code == SR_OK ? error : NULL);
    return code != SR_OK ? code : ended;
}

/* ---- Opening and closing ---------------------------------------------------------------------------- */

/* Where it could only be read, an old database may since have been migrated by others. */
static sr_status find_schema(sqlite_store *store, sr_error *error) {
    int64_t version = 0;
    if (atomic_load(&store->base.schema) == SRI_STORE_SCHEMA) return SR_OK;
    sr_status code = sri_sqlite_integer(store, "PRAGMA user_version", &version, error);
    if (code == SR_OK && version == SRI_STORE_SCHEMA)
        atomic_store(&store->base.schema, (int)version);
    return code;
}

static sr_status revision(sri_store *base, uint64_t *value, uint64_t *fit, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sqlite3_stmt *statement = NULL;
    *value = *fit = 0;
    sr_status code = wake(store, error);
    if (code == SR_OK && store->db == NULL) return SR_OK;
    if (code == SR_OK) code = find_schema(store, error);
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
    sr_status code = each_row(
        store,
        whole ? "SELECT serial, revision, kind, model, fast, max_oos_accepted, min_precision,"
                " auto_threshold, fast_share, routes, bytes FROM fits WHERE id = 1"
              : "SELECT serial, revision, kind, model, fast, max_oos_accepted, min_precision,"
                " auto_threshold, fast_share, routes, x'' FROM fits WHERE id = 1",
        NULL, take_fit, fit, error);
    if (code != SR_OK) sri_store_fit_free(fit);
    return code;
}

void sri_sqlite_disconnect(sqlite_store *store) {
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
}

static void close_store(sri_store *base) {
    sqlite_store *store = (sqlite_store *)base;
    sri_sqlite_disconnect(store);
    sri_free(store->path);
    sri_free(store);
}

sr_status sri_store_open_sqlite(const char *path, unsigned flags, sri_store **handle,
                                sr_error *error) {
    static const sri_store_kind kind = {
        sri_sqlite_load,     revision,          sri_sqlite_commit, sri_sqlite_load_fit,
        sri_sqlite_save_fit, sri_sqlite_verify, close_store};
    *handle = NULL;
    if (path[0] == '\0')
        return sri_fail(error, SR_ERR_INVALID, "database", "the name of the database is empty");
    sqlite_store *store = sri_alloc_zero(1, sizeof *store);
    if (store == NULL) return sri_fail_memory(error);
    store->base.kind = &kind;
    store->base.keeps = true;
    atomic_init(&store->base.read_only, false);
    atomic_init(&store->base.schema, SRI_STORE_SCHEMA);
    store->flags = flags;
    store->path = sri_strdup(sr_str_of(path));
    sr_status code =
        store->path == NULL ? sri_fail_memory(error) : sri_sqlite_connect(store, false, error);
    if (code == SR_OK)
        *handle = &store->base;
    else
        close_store(&store->base);
    return code;
}
