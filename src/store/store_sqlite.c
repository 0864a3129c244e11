/*
 * store_sqlite.c - the store in an SQLite file: its statements, its errors, opening and closing.
 *
 * The tables are in sqlite_schema.c. Out-of-scope examples are the utterances of a route with a name that no other may
 * have. What a start reads and what others changed is read by sqlite_read.c, on the store's own connection,
 * which belongs to the router's writer and makes the changes (sqlite_write.c) too. fp32 rows are fetched on connections of their
 * own (sqlite_reader.c), and so are checkpoints made and the whole verified.
 *
 * WAL with synchronous NORMAL: a commit survives the death of the process; after a power failure the last
 * commits may be missing, but none is ever half there. Where a commit must be on the disk the log is synced after it,
 * rather than by synchronous FULL, which cannot be turned on once the group is open, and what joins a group
 * decides how it ends.
 *
 * While there is no file there is no connection: every call looks first whether somebody has made it, and
 * the first group makes it. To make it at the opening and to remove it after a failure was rejected, as
 * another process may have come to use it in between.
 */
#include <errno.h>
#include <string.h>

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
    [REMOVE_CODES] = "DELETE FROM codes WHERE id BETWEEN ?1 * 64 AND ?1 * 64 + 63",
    [REMOVE_VECTORS] = "DELETE FROM vectors WHERE id BETWEEN ?1 * 64 AND ?1 * 64 + 63",
    [MOVE_UTTERANCE] = "UPDATE utterances SET id = ?2 WHERE id = ?1",
    [MOVE_CODES] =
        "UPDATE codes SET id = id + (?2 - ?1) * 64 WHERE id BETWEEN ?1 * 64 AND ?1 * 64 + 63",
    [MOVE_VECTORS] =
        "UPDATE vectors SET id = id + (?2 - ?1) * 64 WHERE id BETWEEN ?1 * 64 AND ?1 * 64 + 63",
    /* Two processes may encode the same utterances anew at the same time. */
    [ADD_CODE] = "INSERT OR REPLACE INTO codes (id, code) VALUES (?1, ?2)",
    [ADD_VECTOR] = "INSERT OR REPLACE INTO vectors (id, vector) VALUES (?1, ?2)",
    /* Whether it was used last, under this name, and so needs no change. */
    [GET_MODEL] = "SELECT id, name = ?2 AND updated = (SELECT max(updated) FROM models) FROM models"
                  " WHERE fingerprint = ?1",
    [USE_MODEL] = "INSERT INTO models (fingerprint, name, dimension, updated) VALUES"
                  " (?1, ?2, ?3, (SELECT 1 + ifnull(max(updated), 0) FROM models))"
                  " ON CONFLICT (fingerprint) DO UPDATE SET updated = excluded.updated, name = ?2"
                  " RETURNING id",
    [ADD_LOG] = "INSERT INTO log (revision, kind, item, route) VALUES (?1, ?2, ?3, ?4)",
    /* The newest row that is to go, so that ?1 are left. */
    [GET_LOG] = "SELECT id, revision FROM log WHERE id <= (SELECT max(id) FROM log) - ?1"
                " ORDER BY id DESC LIMIT 1",
    [TRIM_LOG] = "DELETE FROM log WHERE id <= ?1",
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
    [BEGIN_READ] = "BEGIN",
    [BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
};

_Static_assert(MODELS == 64, "as in the statements");

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

sr_status sri_sqlite_finish(sqlite_store *store, sqlite3_stmt *statement, int *rows,
                            sr_error *error) {
    int result = sqlite3_step(statement);
    sr_status code = SR_OK;
    if (result != SQLITE_DONE && result != SQLITE_ROW)
        code = sri_sqlite_fail(store, result, "write to database", error);
    if (rows != NULL) *rows = sqlite3_changes(store->db);
    sqlite3_reset(statement);
    return code;
}

sr_status sri_sqlite_simple(sqlite_store *store, statement_id id, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, id, &statement, error);
    return code != SR_OK ? code : sri_sqlite_finish(store, statement, NULL, error);
}

sr_status sri_sqlite_each(sqlite_store *store, const char *sql, const char *text, int64_t number,
                          sri_sqlite_row_fn *take, void *user, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = SR_OK;
    int result = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK && sqlite3_bind_parameter_count(statement) > 0)
        result = text != NULL ? sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC)
                              : sqlite3_bind_int64(statement, 1, number);
    if (result == SQLITE_OK) {
        while ((result = sqlite3_step(statement)) == SQLITE_ROW && code == SR_OK)
            code = take(store, statement, user, error);
    }
    if (code == SR_OK && result != SQLITE_DONE)
        code = sri_sqlite_fail(store, result, "read database", error);
    sqlite3_finalize(statement);
    return code;
}

sr_status sri_sqlite_take_number(sqlite_store *store, sqlite3_stmt *row, void *user,
                                 sr_error *error) {
    (void)store, (void)error;
    *(int64_t *)user = sqlite3_column_int64(row, 0);
    return SR_OK;
}

/* Bound strings and vectors belong to the caller and are gone after the call; a statement that is still
 * running would keep its transaction open. */
static void forget_bindings(sqlite_store *store) {
    for (int i = 0; i < STATEMENTS; i++) {
        if (store->statements[i] == NULL) continue;
        sqlite3_reset(store->statements[i]);
        sqlite3_clear_bindings(store->statements[i]);
    }
}

void sri_sqlite_leave(sqlite_store *store) {
    forget_bindings(store);
    if (sqlite3_get_autocommit(store->db)) return;
    sr_status ended = sri_sqlite_simple(store, ROLLBACK, NULL);
    if (ended != SR_OK)
        sri_log(SR_LOG_WARN, "database %s: a transaction could not be rolled back", store->path);
}

sr_status sri_sqlite_end(sqlite_store *store, sr_status code, const char *doing, sr_error *error) {
    if (code == SR_OK) code = sri_sqlite_run(store, "COMMIT", doing, error);
    if (code != SR_OK) sri_sqlite_leave(store);
    return code;
}

/* ---- Opening and closing ---------------------------------------------------------------------------- */

static void close_store(sri_store *base) {
    sqlite_store *store = (sqlite_store *)base;
    if (store->group.open) sri_sqlite_rollback(base);
    if (store->checkpointer != NULL) sri_sqlite_disconnect(store->checkpointer);
    sri_free(store->checkpointer);
    sri_sqlite_disconnect(store);
    sri_free(store->code);
    sri_free(store->path);
    sri_free(store);
}

sr_status sri_store_open_sqlite(const char *path, unsigned flags, sri_store **handle,
                                sr_error *error) {
    static const sri_store_kind kind = {.load = sri_sqlite_load,
                                        .changes = sri_sqlite_changes,
                                        .revision = sri_sqlite_revision,
                                        .begin = sri_sqlite_begin,
                                        .write = sri_sqlite_write,
                                        .commit = sri_sqlite_commit,
                                        .rollback = sri_sqlite_rollback,
                                        .checkpoint = sri_sqlite_checkpoint,
                                        .open_reader = sri_sqlite_open_reader,
                                        .load_fit = sri_sqlite_load_fit,
                                        .save_fit = sri_sqlite_save_fit,
                                        .verify = sri_sqlite_verify,
                                        .close = close_store};
    *handle = NULL;
    if (path[0] == '\0')
        return sri_fail(error, SR_ERR_INVALID, "database", "the name of the database is empty");
    sqlite_store *store = sri_alloc_zero(1, sizeof *store);
    if (store == NULL) return sri_fail_memory(error);
    store->base.kind = &kind;
    store->base.keeps = true;
    atomic_init(&store->base.read_only, false);
    atomic_init(&store->base.schema, SRI_STORE_SCHEMA);
    atomic_init(&store->log_frames, 0);
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
