/*
 * sqlite_verify.c - checking everything that a database holds.
 *
 * SQLite checks its pages; queries check that rows agree with each other, as no constraint of the schema does it; and every
 * vector is read, its length measured, and its code computed again. All in one read transaction on a
 * connection of its own, so it takes seconds of a large table without holding up anybody.
 */
#include <math.h>
#include <string.h>

#include "store/sqlite_int.h"

static sr_status fault(const sqlite_store *store, sr_error *error, const char *what) {
    return sri_fail(error, SR_ERR_FORMAT, store->path,
                    "database %s is damaged: %s; restore it from a copy", store->path, what);
}

/* ---- Rows --------------------------------------------------------------------------------------------- */

/* Queries that give no row where all is well, each with what a row would mean, and the schemas it is for. */
static const struct {
    const char *sql, *what;
    int from, to;
} expectations[] = {
    {"SELECT 1 FROM pragma_foreign_key_check", "a row refers to another that is not there", 1, 2},
    {"SELECT 1 FROM utterances WHERE route NOT IN (SELECT id FROM routes)",
     "an utterance refers to a route that is not there", 3, 3},
    {"SELECT 1 FROM codes WHERE id >> 6 NOT IN (SELECT id FROM utterances)"
     " OR (id & 63) NOT IN (SELECT id FROM models)",
     "a code refers to an utterance or a model that is not there", 3, 3},
    {"SELECT 1 FROM vectors WHERE NOT EXISTS (SELECT 1 FROM codes WHERE id = vectors.id)",
     "a vector has no code", 3, 3},
    {"SELECT 1 FROM codes WHERE NOT EXISTS (SELECT 1 FROM vectors WHERE id = codes.id)",
     "a code has no vector", 3, 3},
    {"SELECT 1 WHERE (SELECT count(*) FROM meta WHERE key IN ('revision', 'next_id') AND value >= "
     "0) <> 2",
     "revision or next_id is missing", 1, 3},
    {"SELECT 1 FROM meta WHERE key = 'next_id' AND (value <= (SELECT ifnull(max(id), 0) FROM "
     "routes)"
     " OR value <= (SELECT ifnull(max(id), 0) FROM utterances))",
     "next_id is not above the ids in use", 1, 3},
    {"SELECT 1 FROM routes WHERE id < 1 OR length(CAST(name AS BLOB)) NOT BETWEEN 1 AND 512 OR "
     "threshold_kind NOT BETWEEN 0 AND 2 OR threshold NOT BETWEEN -1 AND 1",
     "a route has an empty name or an impossible threshold", 1, 3},
    {"SELECT 1 FROM routes GROUP BY name HAVING count(*) > 1", "a route is there twice", 3, 3},
    {"SELECT 1 FROM utterances WHERE id < 1", "an utterance has an impossible id", 1, 3},
    {"SELECT 1 FROM utterances GROUP BY route, text HAVING count(*) > 1",
     "an utterance is there twice", 3, 3},
    {"SELECT 1 FROM models WHERE length(fingerprint) <> 64 OR dimension NOT BETWEEN 1 AND 65536",
     "a model has no proper fingerprint or dimension", 1, 3},
    {"SELECT 1 FROM fits WHERE serial < 1 OR kind NOT BETWEEN 1 AND 2 OR length(model) <> 64 OR "
     "length(fast) NOT IN (0, 64) OR length(routes) % 16 <> 0 OR (kind = 2) <> (length(bytes) > 0)"
     " OR revision > (SELECT value FROM meta WHERE key = 'revision')",
     "the fit has an impossible revision, kind or fingerprint, or lacks a part", 2, 3},
    {"SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = 'log_since' AND value BETWEEN 0 AND"
     " (SELECT value FROM meta WHERE key = 'revision'))",
     "log_since is missing or impossible", 3, 3},
    {"SELECT 1 FROM log WHERE kind NOT BETWEEN 1 AND 3 OR revision NOT BETWEEN"
     " (SELECT value FROM meta WHERE key = 'log_since') AND"
     " (SELECT value FROM meta WHERE key = 'revision') OR item NOT BETWEEN 1 AND"
     " (SELECT value FROM meta WHERE key = 'next_id')",
     "the log of changes tells of an impossible one", 3, 3},
    {"SELECT 1 FROM (SELECT revision, lag(revision) OVER (ORDER BY id) AS before FROM log)"
     " WHERE before > revision",
     "the log of changes is out of order", 3, 3},
};

static sr_status found_one(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    (void)row;
    return fault(store, error, user);
}

static sr_status check_rows(sqlite_store *store, int64_t schema, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; i < SRI_COUNT(expectations) && code == SR_OK; i++)
        if (schema >= expectations[i].from && schema <= expectations[i].to)
            code = sri_sqlite_each(store, expectations[i].sql, NULL, 0, found_one,
                                   (void *)(uintptr_t)expectations[i].what, error);
    return code;
}

/* ---- Vectors ------------------------------------------------------------------------------------------- */

/* One vector, aligned, and its code. */
typedef struct vector_check {
    float *vector;
    uint8_t *code;
} vector_check;

/* Every vector has length 1 within what rounding allows; NaN and infinity fail that too. */
static sr_status check_length(const sqlite_store *store, const float *vector, int dimension,
                              int64_t utterance, sr_error *error) {
    double sum = 0;
    for (int i = 0; i < dimension; i++) sum += (double)vector[i] * vector[i];
    if (fabs(sum - 1) < 1e-3) return SR_OK;
    char what[96];
    snprintf(what, sizeof what, "the vector of utterance %lld has length %g instead of 1",
             (long long)utterance, sqrt(sum));
    return fault(store, error, what);
}

/* utterance, vector, dimension, and the code in schema 3. */
static sr_status check_vector(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    const vector_check *check = user;
    char what[96];
    int64_t utterance = sqlite3_column_int64(row, 0);
    int dimension = sqlite3_column_int(row, 2);
    if (sqlite3_column_bytes(row, 1) != dimension * (int)sizeof(float)) {
        snprintf(what, sizeof what,
                 "the vector of utterance %lld has another length than its model's",
                 (long long)utterance);
        return fault(store, error, what);
    }
    memcpy(check->vector, sqlite3_column_blob(row, 1), (size_t)dimension * sizeof(float));
    sr_status code = check_length(store, check->vector, dimension, utterance, error);
    if (code != SR_OK || sqlite3_column_count(row) < 4) return code;
    size_t bytes = sri_index_code_bytes(dimension);
    sri_index_encode(check->vector, dimension, check->code);
    if ((size_t)sqlite3_column_bytes(row, 3) == bytes &&
        memcmp(sqlite3_column_blob(row, 3), check->code, bytes) == 0)
        return SR_OK;
    snprintf(what, sizeof what, "the code of utterance %lld is not that of its vector",
             (long long)utterance);
    return fault(store, error, what);
}

static sr_status check_vectors(sqlite_store *store, int64_t schema, sr_error *error) {
    int64_t most = 0;
    sr_status code =
        sri_sqlite_integer(store, "SELECT ifnull(max(dimension), 0) FROM models", &most, error);
    if (code != SR_OK) return code;
    vector_check check = {sri_alloc_array((size_t)most, sizeof(float)),
                          sri_alloc(sri_index_code_bytes((int)most))};
    if (check.vector == NULL || check.code == NULL)
        code = sri_fail_memory(error);
    else
        code = sri_sqlite_each(
            store,
            schema < 3
                ? "SELECT utterance, vector, dimension FROM vectors JOIN models ON models.id = "
                  "model"
                : "SELECT vectors.id >> 6, vector, dimension, code FROM vectors CROSS JOIN codes ON"
                  " codes.id = vectors.id CROSS JOIN models ON models.id = (vectors.id & 63)",
            NULL, 0, check_vector, &check, error);
    sri_free(check.vector);
    sri_free(check.code);
    return code;
}

/* ---- All ------------------------------------------------------------------------------------------------- */

static sr_status check_pages_row(sqlite_store *store, sqlite3_stmt *row, void *user,
                                 sr_error *error) {
    (void)user;
    sr_str text = sri_sqlite_text(row, 0);
    if (sri_str_equal(text, sr_str_of("ok"))) return SR_OK;
    return fault(store, error, text.data);
}

static sr_status check_all(sqlite_store *store, sr_error *error) {
    int64_t schema = 0;
    sr_status code = sri_sqlite_simple(store, BEGIN_READ, error);
    if (code == SR_OK) code = sri_sqlite_integer(store, "PRAGMA user_version", &schema, error);
    if (code == SR_OK)
        code = sri_sqlite_each(store, "PRAGMA integrity_check(1)", NULL, 0, check_pages_row, NULL,
                               error);
    if (code == SR_OK) code = check_rows(store, schema, error);
    return code == SR_OK ? check_vectors(store, schema, error) : code;
}

sr_status sri_sqlite_verify(sri_store *base, sr_error *error) {
    const sqlite_store *store = (sqlite_store *)base;
    if (!atomic_load(&store->connected)) return SR_OK;
    sqlite_store link = {.path = store->path, .immutable = store->immutable};
    sr_status code = sri_sqlite_connect_beside(&link, false, error);
    if (code == SR_OK) code = check_all(&link, error);
    sri_sqlite_disconnect(&link);
    return code;
}
