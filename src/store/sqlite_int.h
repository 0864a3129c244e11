/*
 * sqlite_int.h - what the files of the SQLite store share.
 */
#ifndef SRI_SQLITE_INT_H
#define SRI_SQLITE_INT_H

#include <sqlite3.h>

#include "store/store.h"

#define APPLICATION_ID 0x53523031 /* "SR01" */

/* Statements that are prepared once, by their place in `statement_texts`. */
typedef enum statement_id {
    ADD_ROUTE,
    SET_ROUTE,
    REMOVE_ROUTE,
    ADD_UTTERANCE,
    REMOVE_UTTERANCE,
    MOVE_UTTERANCE,
    ADD_VECTOR,
    GET_REVISION,
    GET_REVISION_1, /* of a database of schema 1 */
    SAVE_FIT,
    SET_META,
    BEGIN_WRITE,
    COMMIT,
    ROLLBACK,
    STATEMENTS
} statement_id;

typedef struct sqlite_store {
    sri_store base;
    sqlite3 *db; /* NULL while there is no file */
    char *path;
    unsigned flags; /* as opened */
    sqlite3_stmt *statements[STATEMENTS];
} sqlite_store;

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

/* Opens the connection of a store whose path and flags are set (sqlite_open.c). A missing file is made when
 * `make`; otherwise `db` stays NULL, with SR_OK. */
SR_MUST_CHECK sr_status sri_sqlite_connect(sqlite_store *store, bool make, sr_error *error);

/* Removes the file that this connection has made, unless something was stored in it or another process has it
 * open; the connection is closed then. */
void sri_sqlite_unmake(sqlite_store *store);
/* Closes the connection, with its statements. */
void sri_sqlite_disconnect(sqlite_store *store);

SR_MUST_CHECK sr_status sri_sqlite_load(sri_store *store, const char *fingerprint, int dimension,
                                        const sri_store_sink *sink, sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_commit(sri_store *store, const sri_commit *commit, bool *stale,
                                          sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_load_fit(sri_store *store, bool whole, sri_store_fit *fit,
                                            sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_save_fit(sri_store *store, const sri_store_fit *fit,
                                            uint64_t *serial, sr_error *error);
SR_MUST_CHECK sr_status sri_sqlite_verify(sri_store *store, sr_error *error);

/* A column as borrowed text. */
static inline sr_str sri_sqlite_text(sqlite3_stmt *statement, int column) {
    const char *data = (const char *)sqlite3_column_text(statement, column);
    return (sr_str){data, (size_t)sqlite3_column_bytes(statement, column)};
}

#endif
