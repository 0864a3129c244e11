/*
 * sqlite_reader.c - fetching fp32 rows by id, while others write.
 *
 * A reader is a connection of its own, for one thread at a time, so it takes no lock of ours and waits for
 * no writer: the write-ahead log shows it the last commit. It is connected at its first fetch, since the file may be
 * made later than the reader. A fetch is one read transaction; none is open between fetches, or the log could not be
 * begun anew.
 *
 * A row that cannot be read is one that is not found: the caller has the row's code to go on with.
 */
#include <string.h>

#include "store/sqlite_int.h"

/* For a search that waits, a missing row is better than a late one. */
#define READER_BUSY_SECONDS 0.25

struct sri_store_reader {
    sqlite_store link;
    sqlite3_stmt *get;
    int64_t model; /* the id that it has in the database; 0: not there yet */
    int dimension;
    char fingerprint[65];
    bool told; /* of a failure */
};

sr_status sri_sqlite_open_reader(sri_store *base, const char *fingerprint, int dimension,
                                 sri_store_reader **handle, sr_error *error) {
    const sqlite_store *store = (sqlite_store *)base;
    sri_store_reader *reader = sri_alloc_zero(1, sizeof *reader);
    *handle = NULL;
    if (reader == NULL) return sri_fail_memory(error);
    reader->link.path = sri_strdup(sr_str_of(store->path));
    reader->link.immutable = atomic_load(&store->connected) && store->immutable;
    reader->dimension = dimension;
    snprintf(reader->fingerprint, sizeof reader->fingerprint, "%s", fingerprint);
    if (reader->link.path == NULL) {
        sri_free(reader);
        return sri_fail_memory(error);
    }
    *handle = reader;
    return SR_OK;
}

void sri_store_reader_close(sri_store_reader **handle) {
    sri_store_reader *reader = *handle;
    if (reader == NULL) return;
    sqlite3_finalize(reader->get);
    sri_sqlite_disconnect(&reader->link);
    sri_free(reader->link.path);
    sri_free(reader);
    *handle = NULL;
}

/* ---- Fetching -------------------------------------------------------------------------------------------- */

static sr_status connect_reader(sri_store_reader *reader, sr_error *error) {
    if (reader->link.db != NULL) return SR_OK;
    sr_status code = sri_sqlite_connect_beside(&reader->link, false, error);
    if (code == SR_OK) reader->link.patience = READER_BUSY_SECONDS;
    return code;
}

/* The statement asks by the same number in every schema. */
static sr_status prepare_get(sri_store_reader *reader, sr_error *error) {
    int64_t version = 0;
    if (reader->get != NULL) return SR_OK;
    sr_status code = sri_sqlite_integer(&reader->link, "PRAGMA user_version", &version, error);
    if (code != SR_OK) return code;
    int result = sqlite3_prepare_v3(
        reader->link.db,
        version < 3 ? "SELECT vector FROM vectors WHERE utterance = ?1 / 64 AND model = ?1 & 63"
                    : "SELECT vector FROM vectors WHERE id = ?1",
        -1, SQLITE_PREPARE_PERSISTENT, &reader->get, NULL);
    return result == SQLITE_OK ? SR_OK
                               : sri_sqlite_fail(&reader->link, result, "read database", error);
}

static sr_status prepare_reader(sri_store_reader *reader, sr_error *error) {
    sr_status code = prepare_get(reader, error);
    if (code != SR_OK || reader->model != 0) return code;
    return sri_sqlite_find_model(&reader->link, reader->fingerprint, &reader->model, error);
}

static sr_status fetch_row(sri_store_reader *reader, uint64_t id, float *row, uint8_t *found,
                           sr_error *error) {
    size_t bytes = (size_t)reader->dimension * sizeof *row;
    sr_status code = SR_OK;
    *found = 0;
    if (id >= INT64_MAX / MODELS) return SR_OK;
    sqlite3_bind_int64(reader->get, 1, (int64_t)id * MODELS + reader->model);
    int result = sqlite3_step(reader->get);
    if (result == SQLITE_ROW && sqlite3_column_bytes(reader->get, 0) == (int)bytes) {
        memcpy(row, sqlite3_column_blob(reader->get, 0), bytes);
        *found = 1;
    } else if (result != SQLITE_ROW && result != SQLITE_DONE) {
        code = sri_sqlite_fail(&reader->link, result, "read database", error);
    }
    sqlite3_reset(reader->get);
    return code;
}

static sr_status fetch_rows(sri_store_reader *reader, const uint64_t *ids, size_t n, float *rows,
                            uint8_t *found, sr_error *error) {
    sr_status code = connect_reader(reader, error);
    if (code != SR_OK) return code;
    code = sri_sqlite_simple(&reader->link, BEGIN_READ, error);
    if (code == SR_OK) code = prepare_reader(reader, error);
    for (size_t i = 0; i < n && code == SR_OK && reader->model != 0; i++)
        code = fetch_row(reader, ids[i], rows + i * (size_t)reader->dimension, &found[i], error);
    sr_status ended = code == SR_OK ? sri_sqlite_simple(&reader->link, COMMIT, error) : SR_ERR_IO;
    if (ended != SR_OK) sri_sqlite_leave(&reader->link);
    return code == SR_OK ? ended : code;
}

/* A statement of an older schema fails when another process has migrated the file: the second attempt prepares
 * it anew. */
void sri_store_reader_fetch(sri_store_reader *reader, const uint64_t *ids, size_t n, float *rows,
                            uint8_t *found) {
    sr_error error;
    memset(found, 0, n);
    if (reader == NULL || n == 0) return;
    sr_status code = SR_OK;
    for (int attempt = 0; attempt < 2; attempt++) {
        code = fetch_rows(reader, ids, n, rows, found, &error);
        if (code == SR_OK || reader->get == NULL) break;
        sqlite3_finalize(reader->get);
        reader->get = NULL;
    }
    if (code != SR_OK && !reader->told)
        sri_log(SR_LOG_WARN, "%s; searching goes on with quantised vectors", error.message);
    reader->told = code != SR_OK;
}
