/*
 * sqlite_write.c - groups of changes, what becomes of the write-ahead log, and the fit.
 *
 * A group is a transaction. Rows are written by statements that are prepared once; `meta`, `models` and `log` are
 * brought up to date at most once a group.
 *
 * The log. A commit appends the pages that it changed. A checkpoint copies pages from the log into the database,
 * and once all are copied and nobody reads them there any more, the next commit begins the log
 * anew. To copy takes long, so checkpoint() does it on another connection, beside the commits; but as these go on
 * it never comes to the end. So a commit that finds the log to be long copies what is left, which is little then.
 * Where nobody calls checkpoint() it is all, a pause of some hundredths of a second for each 32 MB. Nobody waits
 * for readers: while one holds on to an old state the log grows, and shrinks after that.
 */
#include <math.h>
#include <string.h>

#include "store/sqlite_int.h"

/* In frames of the log, a page each (8 KB). */
#define LOG_WORTH_A_CHECKPOINT 1024
#define LOG_LONG               4096
#define PAUSE_SECONDS          0.5

/* ---- Rows ---------------------------------------------------------------------------------------------- */

/* Binds id and blob. */
static sr_status put_blob(sqlite_store *store, statement_id id, int64_t key, const void *bytes,
                          size_t len, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, id, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, key);
    sqlite3_bind_blob64(statement, 2, bytes, len, SQLITE_STATIC);
    return sri_sqlite_finish(store, statement, NULL, error);
}

/* Makes room for the code of one vector. */
static sr_status reserve_code(sqlite_store *store, int dimension, sr_error *error) {
    size_t bytes = sri_index_code_bytes(dimension);
    if (bytes <= store->code_bytes) return SR_OK;
    uint8_t *code = sri_resize_array(store->code, bytes, 1);
    if (code == NULL) return sri_fail_memory(error);
    store->code = code;
    store->code_bytes = bytes;
    return SR_OK;
}

sr_status sri_sqlite_put_vector(sqlite_store *store, int64_t key, const float *vector,
                                int dimension, const uint8_t *given, sr_error *error) {
    sr_status code =
        put_blob(store, ADD_VECTOR, key, vector, (size_t)dimension * sizeof(float), error);
    if (code == SR_OK && given == NULL) code = reserve_code(store, dimension, error);
    if (code != SR_OK) return code;
    if (given == NULL) {
        sri_index_encode(vector, dimension, store->code);
        given = store->code;
    }
    return put_blob(store, ADD_CODE, key, given, sri_index_code_bytes(dimension), error);
}

static sr_status write_vector(sqlite_store *store, const sri_change *change, int dimension,
                              sr_error *error) {
    int64_t key = (int64_t)change->utterance * MODELS + store->group.model;
    return sri_sqlite_put_vector(store, key, change->vector, dimension, change->code, error);
}

/* Tells other processes. Beyond LOG_ROWS they load the whole table in any case. */
static sr_status write_log(sqlite_store *store, uint64_t revision, log_kind kind, uint64_t item,
                           uint64_t route, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    if (store->group.logged++ >= LOG_ROWS) return SR_OK;
    sr_status code = sri_sqlite_prepare(store, ADD_LOG, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, (int64_t)revision);
    sqlite3_bind_int(statement, 2, (int)kind);
    sqlite3_bind_int64(statement, 3, (int64_t)item);
    sqlite3_bind_int64(statement, 4, (int64_t)route);
    return sri_sqlite_finish(store, statement, NULL, error);
}

static void bind_change(sqlite3_stmt *statement, const sri_change *change) {
    switch (change->kind) {
    case SRI_ADD_ROUTE:
    case SRI_SET_ROUTE:
        sqlite3_bind_int64(statement, 1, (int64_t)change->route);
        sri_sqlite_bind_text(statement, 2, change->text);
        sqlite3_bind_int(statement, 3, (int)change->threshold.kind);
        sqlite3_bind_double(statement, 4, change->threshold.value);
        sri_sqlite_bind_text(statement, 5, change->description);
        sri_sqlite_bind_text(statement, 6, change->metadata);
        break;
    case SRI_REMOVE_ROUTE: sqlite3_bind_int64(statement, 1, (int64_t)change->route); break;
    case SRI_ADD_UTTERANCE:
        sqlite3_bind_int64(statement, 1, (int64_t)change->utterance);
        sqlite3_bind_int64(statement, 2, (int64_t)change->route);
        sri_sqlite_bind_text(statement, 3, change->text);
        break;
    case SRI_MOVE_UTTERANCE:
        sqlite3_bind_int64(statement, 2, (int64_t)change->to); /* fall through */
    case SRI_REMOVE_UTTERANCE: sqlite3_bind_int64(statement, 1, (int64_t)change->utterance); break;
    case SRI_ADD_VECTOR: break;
    }
}

static sr_status run_change(sqlite_store *store, statement_id id, const sri_change *change,
                            int *rows, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, id, &statement, error);
    if (code != SR_OK) return code;
    bind_change(statement, change);
    return sri_sqlite_finish(store, statement, rows, error);
}

/* The statements of each kind of change, the one first that changes exactly one row. */
typedef struct change_statements {
    statement_id first, vectors, codes;
    bool all;      /* three statements, not one */
    log_kind logs; /* 0: nothing */
} change_statements;

static const change_statements statements_of[] = {
    [SRI_ADD_ROUTE] = {.first = ADD_ROUTE},
    [SRI_SET_ROUTE] = {.first = SET_ROUTE, .logs = LOG_ROUTE_SET},
    [SRI_REMOVE_ROUTE] = {.first = REMOVE_ROUTE, .logs = LOG_ROUTE_GONE},
    [SRI_ADD_UTTERANCE] = {.first = ADD_UTTERANCE},
    [SRI_REMOVE_UTTERANCE] = {REMOVE_UTTERANCE, REMOVE_VECTORS, REMOVE_CODES, true,
                              LOG_UTTERANCE_GONE},
    [SRI_MOVE_UTTERANCE] = {MOVE_UTTERANCE, MOVE_VECTORS, MOVE_CODES, true, LOG_UTTERANCE_GONE},
};

static sr_status write_row(sqlite_store *store, const sri_change *change, uint64_t revision,
                           sr_error *error) {
    const change_statements *of = &statements_of[change->kind];
    int rows = 0;
    sr_status code = run_change(store, of->first, change, &rows, error);
    if (code == SR_OK && rows != 1)
        return sri_fail(
            error, SR_ERR_FORMAT, store->path,
            "database %s was changed by another program: a row that should be there is not",
            store->path);
    if (code == SR_OK && of->all) code = run_change(store, of->vectors, change, NULL, error);
    if (code == SR_OK && of->all) code = run_change(store, of->codes, change, NULL, error);
    if (code != SR_OK || of->logs == 0) return code;
    bool utterance = of->logs == LOG_UTTERANCE_GONE;
    return write_log(store, revision, of->logs, utterance ? change->utterance : change->route,
                     utterance ? change->route : 0, error);
}

/* ---- The model ---------------------------------------------------------------------------------------------- */

static sr_status step_model(sqlite_store *store, statement_id id, const sri_store_model *model,
                            int64_t *number, bool *current, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, id, &statement, error);
    if (code != SR_OK) return code;
    sri_sqlite_bind_text(statement, 1, sr_str_of(model->fingerprint));
    sri_sqlite_bind_text(statement, 2, sr_str_of(model->name));
    if (id == USE_MODEL) sqlite3_bind_int(statement, 3, model->dimension);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *number = sqlite3_column_int64(statement, 0);
        *current = id == USE_MODEL || sqlite3_column_int(statement, 1) == 1;
        result = sqlite3_step(statement);
    }
    if (result != SQLITE_DONE) code = sri_sqlite_fail(store, result, "write to database", error);
    sqlite3_reset(statement);
    return code;
}

/* Finds the row of the model, makes it when it is new, and marks it as the newest. */
static sr_status use_model(sqlite_store *store, const sri_store_model *model, sr_error *error) {
    sqlite_group *group = &store->group;
    bool current = false;
    if (strcmp(group->fingerprint, model->fingerprint) == 0) return SR_OK;
    sr_status code = step_model(store, GET_MODEL, model, &group->model, &current, error);
    if (code == SR_OK && !current)
        code = step_model(store, USE_MODEL, model, &group->model, &current, error);
    if (code != SR_OK) return code;
    if (group->model < 1 || group->model >= MODELS)
        return sri_fail(error, SR_ERR_LIMIT, store->path,
                        "database %s has vectors of %d models already; export its table and import "
                        "it into a new one",
                        store->path, MODELS - 1);
    snprintf(group->fingerprint, sizeof group->fingerprint, "%s", model->fingerprint);
    return SR_OK;
}

/* ---- `meta` and `log` ------------------------------------------------------------------------------------ */

static sr_status set_meta(sqlite_store *store, const char *key, uint64_t value, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_prepare(store, SET_META, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, (int64_t)value);
    return sri_sqlite_finish(store, statement, NULL, error);
}

sr_status sri_sqlite_flush(sqlite_store *store, sr_error *error) {
    sqlite_group *group = &store->group;
    if (!group->written) return SR_OK;
    sr_status code = set_meta(store, "revision", group->revision, error);
    return code == SR_OK ? set_meta(store, "next_id", group->next_id, error) : code;
}

/* The newest row that has to go, and its revision; 0 when none has. */
static sr_status find_cut(sqlite_store *store, int64_t *cut, int64_t *revision, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    *cut = *revision = 0;
    sr_status code = sri_sqlite_prepare(store, GET_LOG, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, LOG_ROWS);
    int result = sqlite3_step(statement);
    if (result == SQLITE_ROW) {
        *cut = sqlite3_column_int64(statement, 0);
        *revision = sqlite3_column_int64(statement, 1);
    } else if (result != SQLITE_DONE) {
        code = sri_sqlite_fail(store, result, "write to database", error);
    }
    sqlite3_reset(statement);
    return code;
}

/* Keeps the log to its length: what is added to its end goes from its beginning. */
static sr_status trim_log(sqlite_store *store, sr_error *error) {
    sqlite_group *group = &store->group;
    sqlite3_stmt *statement = NULL;
    int64_t cut = INT64_MAX, revision = (int64_t)group->revision;
    sr_status code = SR_OK;
    if (group->logged == 0) return SR_OK;
    if (group->logged <= LOG_ROWS) code = find_cut(store, &cut, &revision, error);
    if (code != SR_OK || cut == 0) return code;
    code = set_meta(store, "log_since", (uint64_t)revision, error);
    if (code == SR_OK) code = sri_sqlite_prepare(store, TRIM_LOG, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, cut);
    return sri_sqlite_finish(store, statement, NULL, error);
}

/* ---- Groups ------------------------------------------------------------------------------------------------ */

static int note_frames(void *user, sqlite3 *db, const char *name, int frames) {
    (void)db, (void)name;
    atomic_store(&((sqlite_store *)user)->log_frames, frames);
    return SQLITE_OK;
}

static sr_status connect_and_lock(sqlite_store *store, sr_error *error) {
    sqlite3_stmt *statement = NULL;
    sr_status code = sri_sqlite_wake(store, error);
    if (code == SR_OK && store->db == NULL) {
        store->group.made = true;
        code = sri_sqlite_connect(store, true, error);
    }
    if (code == SR_OK && atomic_load(&store->base.read_only))
        code = sri_fail(error, SR_ERR_READ_ONLY, store->path, "database %s cannot be written",
                        store->path);
    /* This one must not lack memory when it is needed. */
    if (code == SR_OK) code = sri_sqlite_prepare(store, ROLLBACK, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_wal_hook(store->db, note_frames, store);
    return sri_sqlite_simple(store, BEGIN_WRITE, error);
}

sr_status sri_sqlite_begin(sri_store *base, uint64_t *revision, uint64_t *fit, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    store->group = (sqlite_group){0};
    sr_status code = connect_and_lock(store, error);
    if (code == SR_OK) {
        store->group.open = true;
        code = sri_sqlite_revision(base, revision, fit, error);
    }
    if (code != SR_OK) sri_sqlite_rollback(base);
    return code;
}

static sr_status doomed(const sqlite_store *store, sr_error *error) {
    return sri_fail(error, SR_ERR_IO, store->path,
                    "database %s: a change of this group has failed, so that none can be stored",
                    store->path);
}

static sr_status write_all(sqlite_store *store, const sri_commit *commit, sr_error *error) {
    sr_status code = commit->model == NULL ? SR_OK : use_model(store, commit->model, error);
    for (size_t i = 0; i < commit->count && code == SR_OK; i++) {
        const sri_change *change = &commit->changes[i];
        if (change->kind != SRI_ADD_VECTOR)
            code = write_row(store, change, commit->new_revision, error);
        if (code == SR_OK && change->vector != NULL)
            code = write_vector(store, change, commit->model->dimension, error);
    }
    return code;
}

sr_status sri_sqlite_write(sri_store *base, const sri_commit *commit, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sqlite_group *group = &store->group;
    if (group->doomed) return doomed(store, error);
    sr_status code = write_all(store, commit, error);
    group->doomed = code != SR_OK;
    group->written = true;
    group->revision = commit->new_revision;
    group->next_id = commit->next_id;
    return code;
}

void sri_sqlite_rollback(sri_store *base) {
    sqlite_store *store = (sqlite_store *)base;
    bool made = store->group.made;
    if (store->db == NULL) return;
    sri_sqlite_leave(store);
    store->group = (sqlite_group){0};
    if (made) sri_sqlite_unmake(store);
}

/* What synchronous FULL would do within the commit. Where another process has begun the log anew meanwhile, the
 * group is in the database, and that was synced before. */
static sr_status sync_log(sqlite_store *store, sr_error *error) {
    sqlite3_file *log = NULL;
    int result =
        sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, (void *)&log);
    if (result == SQLITE_OK && log != NULL && log->pMethods != NULL)
        result = log->pMethods->xSync(log, SQLITE_SYNC_NORMAL);
    if (result == SQLITE_OK) return SR_OK;
    sr_status code = sri_sqlite_fail(store, result, "sync database", NULL);
    return sri_fail(error, code, store->path,
                    "database %s: changes were stored, but could not be synced to the disk (%s), "
                    "and might not survive a loss of power",
                    store->path, sqlite3_errstr(result));
}

/* Copies what is left to copy when the log is long. Where checkpoint() is at it, that is left to it, and looked at again
 * after the next commit, until the log is far too long: then it is waited for, and readers are, for a moment. What
 * fails here is tried again, and nothing is lost by it. */
static void shorten_log(sqlite_store *store) {
    int frames = atomic_load(&store->log_frames);
    if (frames < store->checked_frames) store->checked_frames = 0;
    if (frames < LOG_LONG || frames - store->checked_frames < LOG_WORTH_A_CHECKPOINT) return;
    int result = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if ((result & 0xFF) == SQLITE_BUSY && frames < 2 * LOG_LONG) return;
    store->checked_frames = frames;
    if ((result & 0xFF) != SQLITE_BUSY) return;
    store->patience = PAUSE_SECONDS;
    sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL);
    store->patience = BUSY_SECONDS;
}

sr_status sri_sqlite_commit(sri_store *base, bool synced, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    sr_status code = store->group.doomed ? doomed(store, error) : SR_OK;
    if (code == SR_OK) code = trim_log(store, error);
    if (code == SR_OK) code = sri_sqlite_flush(store, error);
    if (code == SR_OK) code = sri_sqlite_simple(store, COMMIT, error);
    if (code != SR_OK) {
        sri_sqlite_rollback(base);
        return code;
    }
    store->group = (sqlite_group){0};
    if (synced) code = sync_log(store, error);
    shorten_log(store);
    return code;
}

/* ---- Checkpoints ---------------------------------------------------------------------------------------------- */

static sr_status open_checkpointer(sqlite_store *store, sr_error *error) {
    if (store->checkpointer != NULL) return SR_OK;
    sqlite_store *link = sri_alloc_zero(1, sizeof *link);
    if (link == NULL) return sri_fail_memory(error);
    link->path = store->path;
    sr_status code = sri_sqlite_connect_beside(link, true, error);
    if (code == SR_OK)
        store->checkpointer = link;
    else
        sri_free(link);
    return code;
}

sr_status sri_sqlite_checkpoint(sri_store *base, sr_error *error) {
    sqlite_store *store = (sqlite_store *)base;
    int frames = atomic_load(&store->log_frames);
    if (frames < store->passed_frames) store->passed_frames = 0;
    if (frames - store->passed_frames < LOG_WORTH_A_CHECKPOINT) return SR_OK;
    sr_status code = open_checkpointer(store, error);
    if (code != SR_OK) return code;
    store->passed_frames = frames;
    int result = sqlite3_wal_checkpoint_v2(store->checkpointer->db, NULL, SQLITE_CHECKPOINT_PASSIVE,
                                           NULL, NULL);
    if (result == SQLITE_OK || (result & 0xFF) == SQLITE_BUSY) return SR_OK;
    return sri_sqlite_fail(store->checkpointer, result, "copy the log into", error);
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

/* One statement is a transaction of its own, unless a group is open. */
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
    sri_sqlite_bind_text(statement, 3, sr_str_of(fit->model));
    sri_sqlite_bind_text(statement, 4, sr_str_of(fit->fast));
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
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    if (code != SR_OK && store->group.open) store->group.doomed = true;
    if (code != SR_OK && !store->group.open) sri_sqlite_leave(store);
    return code;
}
