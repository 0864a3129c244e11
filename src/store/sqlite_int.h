/*
 * sqlite_int.h - what the files of the SQLite store share.
 */
#ifndef SRI_SQLITE_INT_H
#define SRI_SQLITE_INT_H

#include <sqlite3.h>

#include "store/store.h"

#define APPLICATION_ID 0x53523031 /* "SR01" */

/* A row of `vectors` or `codes` has the id `utterance * MODELS + model`. */
#define MODELS     64
#define MODEL_BITS 6

/* How long another process's writing is waited for. */
#define BUSY_SECONDS 5.0

/* Rows of `log` that are kept. */
#define LOG_ROWS 65536

/* Statements that are prepared once, by their place in `statement_texts`. */
typedef enum statement_id {
    ADD_ROUTE,
    SET_ROUTE,
    REMOVE_ROUTE,
    ADD_UTTERANCE,
    REMOVE_UTTERANCE,
    REMOVE_CODES,
    REMOVE_VECTORS,
    MOVE_UTTERANCE,
    MOVE_CODES,
    MOVE_VECTORS,
    ADD_CODE,
    ADD_VECTOR,
    GET_MODEL,
    USE_MODEL,
    ADD_LOG,
    GET_LOG,
    TRIM_LOG,
    GET_REVISION,
    GET_REVISION_1, /* of a database of schema 1 */
    SAVE_FIT,
    SET_META,
    BEGIN_READ,
    BEGIN_WRITE,
    COMMIT,
    ROLLBACK,
    STATEMENTS
} statement_id;

/* What a row of `log` tells of its `item`. */
typedef enum log_kind { LOG_UTTERANCE_GONE = 1, LOG_ROUTE_GONE = 2, LOG_ROUTE_SET = 3 } log_kind;

/* The group that is open. */
typedef struct sqlite_group {
    bool open, doomed;
    bool made;    /* the file, by this group's begin() */
    bool written; /* revision and next_id below are to be stored */
    uint64_t revision, next_id;
    uint64_t logged;      /* rows added to `log`; beyond LOG_ROWS none are */
    char fingerprint[65]; /* of the model that `model` is the id of; "": none yet */
    int64_t model;
} sqlite_group;

/* A connection: that of a store, or one beside it, which uses no more than the fields up to `statements`. */
typedef struct sqlite_store {
    sri_store base;
    sqlite3 *db;                    /* NULL while there is no file */
    double patience, waiting_since; /* seconds that a lock is waited for; when that began */
    /* `db` is there and `immutable` is settled: for threads that use connections of their own. */
    atomic_bool connected;
    char *path;
    bool immutable; /* to be opened as such: nobody can write to it */
    sqlite3_stmt *statements[STATEMENTS];
    unsigned flags; /* as opened */
    sqlite_group group;
    uint8_t *code; /* of one vector */
    size_t code_bytes;
    /* Frames in the write-ahead log after this connection's last commit, and when it last checkpointed. */
    atomic_int log_frames;
    int checked_frames;
    struct sqlite_store *checkpointer; /* for checkpoint() alone; NULL until it is needed */
    int passed_frames;                 /* when that was last run; checkpoint()'s own */
} sqlite_store;

/* ---- Errors and statements (store_sqlite.c) ---------------------------------------------------------- */

/* Fills `error` from SQLite's result code; `doing` completes "cannot ... FILE". Pass the code before
 * another call on the connection overwrites its message. */
SR_MUST_CHECK sr_status sri_sqlite_fail(const sqlite_store *store, int result, const char *doing,
                                        sr_error *error);

/* Runs SQL that gives no rows. */
SR_MUST_CHECK sr_status sri_sqlite_run(sqlite_store *store, const char *sql, const char *doing,
                                       sr_error *error);

/* Reads the one integer that a query gives. */
SR_MUST_CHECK sr_status sri_sqlite_integer(sqlite_store *store, const char *sql, int64_t *value,
                                           sr_error *error);

/* The prepared statement, reset, made at its first use. */
SR_MUST_CHECK sr_status sri_sqlite_prepare(sqlite_store *store, statement_id id,
                                           sqlite3_stmt **statement, sr_error *error);

/* Runs a prepared statement to its end; `rows`, when not NULL, takes the number of rows it changed. */
SR_MUST_CHECK sr_status sri_sqlite_finish(sqlite_store *store, sqlite3_stmt *statement, int *rows,
                                          sr_error *error);

/* A prepared statement without parameters. */
SR_MUST_CHECK sr_status sri_sqlite_simple(sqlite_store *store, statement_id id, sr_error *error);

/* One pass over the rows of a query; `take` is called for each. The parameter ?1 is `text` where it is not NULL, and
 * `number` otherwise. */
typedef sr_status sri_sqlite_row_fn(sqlite_store *store, sqlite3_stmt *row, void *user,
                                    sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_each(sqlite_store *store, const char *sql, const char *text,
                                        int64_t number, sri_sqlite_row_fn *take, void *user,
                                        sr_error *error);

/* For sri_sqlite_each(): the first column goes to the int64_t that `user` is. */
SR_MUST_CHECK sr_status sri_sqlite_take_number(sqlite_store *store, sqlite3_stmt *row, void *user,
                                               sr_error *error);

/* Ends the transaction that failed, if it is still there. */
void sri_sqlite_leave(sqlite_store *store);

/* Commits, or rolls back what has failed; gives `code`, or the failure to commit. */
SR_MUST_CHECK sr_status sri_sqlite_end(sqlite_store *store, sr_status code, const char *doing,
                                       sr_error *error);

/* Length 0 is the empty text, not NULL. */
static inline void sri_sqlite_bind_text(sqlite3_stmt *statement, int place, sr_str text) {
    sqlite3_bind_text64(statement, place, text.len == 0 ? "" : text.data, text.len, SQLITE_STATIC,
                        SQLITE_UTF8);
}

/* A column as borrowed text. */
static inline sr_str sri_sqlite_text(sqlite3_stmt *statement, int column) {
    const char *data = (const char *)sqlite3_column_text(statement, column);
    return (sr_str){data, (size_t)sqlite3_column_bytes(statement, column)};
}

/* ---- The connection (sqlite_open.c) -------------------------------------------------------------------- */

/* Opens the connection of a store whose path and flags are set. A missing file is made when `make`; otherwise
 * `db` stays NULL, with SR_OK. */
SR_MUST_CHECK sr_status sri_sqlite_connect(sqlite_store *store, bool make, sr_error *error);

/* Connects if somebody has made the file since it was found missing. */
SR_MUST_CHECK sr_status sri_sqlite_wake(sqlite_store *store, sr_error *error);

/* Opens `link`, zeroed but for its path and `immutable`, as another connection to a database that is there and is ours:
 * for reading or, `writable`, for checkpoints. Closed by sri_sqlite_disconnect(). */
SR_MUST_CHECK sr_status sri_sqlite_connect_beside(sqlite_store *link, bool writable,
                                                  sr_error *error);

/* The error about a file that is not ours. */
SR_MUST_CHECK sr_status sri_sqlite_another_program(const char *path, sr_error *error);

/* Removes the file that this connection has made, unless something was stored in it or another process has it
 * open; the connection is closed then. */
void sri_sqlite_unmake(sqlite_store *store);
/* Closes the connection, with its statements. */
void sri_sqlite_disconnect(sqlite_store *store);

/* ---- Schemas (sqlite_schema.c) ------------------------------------------------------------------------- */

/* Makes the tables in an empty database. Two processes may come here with the same one: the second finds it made. */
SR_MUST_CHECK sr_status sri_sqlite_create(sqlite_store *store, sr_error *error);
/* The same within a transaction, where there are no tables of these names. */
SR_MUST_CHECK sr_status sri_sqlite_make_tables(sqlite_store *store, sr_error *error);
/* Brings a database of an older schema to this one. Two processes may do so: the second finds it done. */
SR_MUST_CHECK sr_status sri_sqlite_migrate(sqlite_store *store, sr_error *error);
/* Whether all tables of that schema are there. */
SR_MUST_CHECK sr_status sri_sqlite_check_tables(sqlite_store *store, int64_t version,
                                                sr_error *error);

/* ---- The old Python package (sqlite_adopt.c) ------------------------------------------------------------- */

/* Whether these are its tables, and nothing else. */
SR_MUST_CHECK sr_status sri_sqlite_is_old_package(sqlite_store *store, bool *is, sr_error *error);
/* Keeps a copy of such a database and makes it one of ours. Two processes may do so. */
SR_MUST_CHECK sr_status sri_sqlite_adopt(sqlite_store *store, sr_error *error);

/* ---- Rows (sqlite_write.c) ----------------------------------------------------------------------------- */

/* Stores a vector, which is aligned, and its code: `given`, or NULL, which makes it. `key` is the id of both
 * rows. */
SR_MUST_CHECK sr_status sri_sqlite_put_vector(sqlite_store *store, int64_t key, const float *vector,
                                              int dimension, const uint8_t *given, sr_error *error);

/* ---- What the kind consists of ------------------------------------------------------------------------- */

/* Where it could only be read, an old database may since have been migrated by others. */
SR_MUST_CHECK sr_status sri_sqlite_find_schema(sqlite_store *store, sr_error *error);
/* The id that a model has in the database; 0 when there are no vectors of it. */
SR_MUST_CHECK sr_status sri_sqlite_find_model(sqlite_store *store, const char *fingerprint,
                                              int64_t *id, sr_error *error);
/* Stores what the open group has not yet stored of `meta`, for a query that is to see it. */
SR_MUST_CHECK sr_status sri_sqlite_flush(sqlite_store *store, sr_error *error);

SR_MUST_CHECK sr_status sri_sqlite_load(sri_store *store, const char *fingerprint, int dimension,
                                        const sri_store_sink *sink, sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_changes(sri_store *store, uint64_t revision, uint64_t next_id,
                                           const char *fingerprint, int dimension,
                                           const sri_store_news *news, bool *whole,
                                           sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_revision(sri_store *store, uint64_t *revision, uint64_t *fit,
                                            sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_begin(sri_store *store, uint64_t *revision, uint64_t *fit,
                                         sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_write(sri_store *store, const sri_commit *commit,
                                         sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_commit(sri_store *store, bool synced, sr_error *error);
void sri_sqlite_rollback(sri_store *store);
SR_MUST_CHECK sr_status sri_sqlite_checkpoint(sri_store *store, sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_open_reader(sri_store *store, const char *fingerprint,
                                               int dimension, sri_store_reader **reader,
                                               sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_load_fit(sri_store *store, bool whole, sri_store_fit *fit,
                                            sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_save_fit(sri_store *store, const sri_store_fit *fit,
                                            uint64_t *serial, sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_verify(sri_store *store, sr_error *error);

#endif
