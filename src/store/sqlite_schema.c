/*
 * sqlite_schema.c - the tables of a database, making them, and bringing older ones up to date.
 *
 * meta        key, value: `revision`; `next_id`; `log_since`, see below
 * routes      id, name, threshold_kind, threshold, description, metadata
 * utterances  id, route, text
 * models      id (1 to 63), fingerprint, name, dimension, updated (the highest: used last)
 * vectors     id (utterance * 64 + model), vector: little-endian floats
 * codes       id (the same), code: what src/index searches with
 * fits        one row at most
 * log         id, revision, kind, item, route: which utterances and routes went, and which routes changed. It
 *             knows all that happened after the revision `log_since`. What was added is found by its id.
 *
 * There is no index beside the ids: names and texts are unique because the table in memory, which is there
 * before anything is written, sees to it, and verification checks it. Nor are there foreign keys: a change names all rows
 * that go. So adding a route appends to four tables, and removing one touches its rows alone. Vectors
 * and codes are tables of their own, since a start reads the codes and a query a few vectors.
 *
 * A migration is one transaction. It holds one vector in memory at a time, beside SQLite's cache; what does not
 * fit into that waits in the write-ahead log.
 */
#include <string.h>

#include "store/sqlite_int.h"

#define STRINGS(...)     #__VA_ARGS__
#define STRING_OF(value) STRINGS(value)

static const char first_part[] =
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE models (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE,"
    " name TEXT NOT NULL, dimension INTEGER NOT NULL, updated INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES ('revision', 0), ('next_id', 1);";

/* New in schema 2. The model's fingerprint has 64 characters, `fast` has them or none. */
static const char second_part[] =
    "CREATE TABLE fits (id INTEGER PRIMARY KEY CHECK (id = 1), serial INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, kind INTEGER NOT NULL, model TEXT NOT NULL, fast TEXT NOT NULL,"
    " max_oos_accepted REAL, min_precision REAL, auto_threshold REAL, fast_share REAL,"
    " routes BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;";

/* Other than before in schema 3. */
#define ROUTE_COLUMNS                                                                              \
    "(id INTEGER PRIMARY KEY, name TEXT NOT NULL, threshold_kind INTEGER NOT NULL,"                \
    " threshold REAL NOT NULL, description TEXT NOT NULL, metadata TEXT NOT NULL) STRICT;"
#define UTTERANCE_COLUMNS                                                                          \
    "(id INTEGER PRIMARY KEY, route INTEGER NOT NULL, text TEXT NOT NULL) STRICT;"

static const char third_part[] =
    "CREATE TABLE routes " ROUTE_COLUMNS "CREATE TABLE utterances " UTTERANCE_COLUMNS
    "CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;"
    "CREATE TABLE codes (id INTEGER PRIMARY KEY, code BLOB NOT NULL) STRICT;"
    "CREATE TABLE log (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " item INTEGER NOT NULL, route INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta SELECT 'log_since', value FROM meta WHERE key = 'revision';";

static const char signature[] = "PRAGMA application_id = " STRING_OF(
    APPLICATION_ID) ";"
                    "PRAGMA user_version = " STRING_OF(SRI_STORE_SCHEMA) ";";

/* ---- A new database ----------------------------------------------------------------------------------- */

sr_status sri_sqlite_make_tables(sqlite_store *store, sr_error *error) {
    const char *const parts[] = {first_part, second_part, third_part, signature};
    sr_status code = SR_OK;
    for (size_t i = 0; i < SRI_COUNT(parts) && code == SR_OK; i++)
        code = sri_sqlite_run(store, parts[i], "create database", error);
    return code;
}

sr_status sri_sqlite_create(sqlite_store *store, sr_error *error) {
    static const char doing[] = "create database";
    int64_t application = 0, tables = 0;
    sr_status code =
        sri_sqlite_run(store, "PRAGMA page_size = 8192; BEGIN EXCLUSIVE", doing, error);
    if (code != SR_OK) return code;
    code = sri_sqlite_integer(store, "PRAGMA application_id", &application, error);
    if (code == SR_OK && application == 0)
        code = sri_sqlite_integer(store, "SELECT count(*) FROM sqlite_master", &tables, error);
    if (tables > 0) code = sri_sqlite_another_program(store->path, error);
    if (code == SR_OK && application == 0) code = sri_sqlite_make_tables(store, error);
    return sri_sqlite_end(store, code, doing, error);
}

sr_status sri_sqlite_check_tables(sqlite_store *store, int64_t version, sr_error *error) {
    static const int expected[] = {0, 5, 6, 8};
    int64_t tables = 0;
    sr_status code = sri_sqlite_integer(
        store,
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('meta',"
        " 'routes', 'utterances', 'models', 'vectors', 'fits', 'codes', 'log')",
        &tables, error);
    if (code == SR_OK && tables < expected[version])
        return sri_fail(error, SR_ERR_FORMAT, store->path,
                        "database %s lacks %d of its %d tables; restore it from a copy",
                        store->path, expected[version] - (int)tables, expected[version]);
    return code;
}

/* ---- From 1 or 2 to 3 ----------------------------------------------------------------------------------- */

static const char doing_migration[] = "bring to this version's schema";

/* `user` is the dimension of each model, by its id; 0: there is none. */
static sr_status take_dimension(sqlite_store *store, sqlite3_stmt *row, void *user,
                                sr_error *error) {
    int *dimensions = user;
    int64_t id = sqlite3_column_int64(row, 0), dimension = sqlite3_column_int64(row, 1);
    if (id < 1 || id >= MODELS)
        return sri_fail(error, SR_ERR_LIMIT, store->path,
                        "database %s has vectors of more than %d models; export the table with the "
                        "version that wrote it",
                        store->path, MODELS - 1);
    if (dimension < 1 || dimension > 65536)
        return sri_fail(
            error, SR_ERR_FORMAT, store->path,
            "database %s is damaged: a model has %lld dimensions; restore it from a copy",
            store->path, (long long)dimension);
    dimensions[id] = (int)dimension;
    return SR_OK;
}

/* utterance, model, vector. The blob lies in a page at any address. */
static sr_status take_vector(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    const int *dimensions = user;
    int64_t utterance = sqlite3_column_int64(row, 0), model = sqlite3_column_int64(row, 1);
    const void *blob = sqlite3_column_blob(row, 2);
    size_t bytes = (size_t)sqlite3_column_bytes(row, 2);
    int dimension = model < 1 || model >= MODELS ? 0 : dimensions[model];
    if (dimension == 0 || blob == NULL || bytes != (size_t)dimension * sizeof(float) ||
        utterance < 1 || utterance >= INT64_MAX / MODELS)
        return sri_fail(error, SR_ERR_FORMAT, store->path,
                        "database %s: the vector of utterance %lld has %zu bytes instead of %zu",
                        store->path, (long long)utterance, bytes,
                        (size_t)dimension * sizeof(float));
    float *vector = sri_alloc(bytes);
    if (vector == NULL) return sri_fail_memory(error);
    memcpy(vector, blob, bytes);
    sr_status code =
        sri_sqlite_put_vector(store, utterance * MODELS + model, vector, dimension, NULL, error);
    sri_free(vector);
    return code;
}

/* In the order of ids, so that the new tables are filled from their beginning to their end. What was copied is
 * deleted piece by piece, so that the pages of the old table become those of the new ones. */
#define PIECE "(SELECT id FROM utterances WHERE id > ?1 ORDER BY id LIMIT 1000)"

static sr_status copy_pieces(sqlite_store *store, int dimensions[MODELS], sr_error *error) {
    sr_status code = SR_OK;
    for (int64_t from = 0, upto = 0; code == SR_OK; from = upto) {
        code = sri_sqlite_each(store, "SELECT ifnull(max(id), 0) FROM " PIECE, NULL, from,
                               sri_sqlite_take_number, &upto, error);
        if (code != SR_OK || upto == 0) return code;
        code = sri_sqlite_each(store,
                               "SELECT utterance, model, vector FROM old_vectors WHERE utterance IN"
                               " " PIECE " ORDER BY utterance, model",
                               NULL, from, take_vector, dimensions, error);
        if (code == SR_OK)
            code = sri_sqlite_each(store, "DELETE FROM old_vectors WHERE utterance IN " PIECE, NULL,
                                   from, sri_sqlite_take_number, &upto, error);
    }
    return code;
}

static sr_status copy_vectors(sqlite_store *store, sr_error *error) {
    int dimensions[MODELS] = {0};
    sr_status code = sri_sqlite_each(store, "SELECT id, dimension FROM models", NULL, 0,
                                     take_dimension, dimensions, error);
    return code == SR_OK ? copy_pieces(store, dimensions, error) : code;
}

/* Old tables step aside with their indices, and go when the new ones are full. */
static sr_status to_third(sqlite_store *store, int64_t version, sr_error *error) {
    static const char before[] = "ALTER TABLE routes RENAME TO old_routes;"
                                 "ALTER TABLE utterances RENAME TO old_utterances;"
                                 "ALTER TABLE vectors RENAME TO old_vectors;";
    static const char rows[] =
        "INSERT INTO routes SELECT id, name, threshold_kind, threshold, description, metadata"
        " FROM old_routes ORDER BY id;"
        "INSERT INTO utterances SELECT id, route, text FROM old_utterances ORDER BY id;";
    static const char after[] =
        "DROP TABLE old_vectors; DROP TABLE old_utterances; DROP TABLE old_routes;";
    sr_status code = SR_OK;
    if (version == 1) code = sri_sqlite_run(store, second_part, doing_migration, error);
    if (code == SR_OK) code = sri_sqlite_run(store, before, doing_migration, error);
    if (code == SR_OK) code = sri_sqlite_run(store, third_part, doing_migration, error);
    if (code == SR_OK) code = sri_sqlite_run(store, rows, doing_migration, error);
    if (code == SR_OK) code = copy_vectors(store, error);
    if (code == SR_OK) code = sri_sqlite_run(store, after, doing_migration, error);
    return code == SR_OK ? sri_sqlite_run(store, signature, doing_migration, error) : code;
}

sr_status sri_sqlite_migrate(sqlite_store *store, sr_error *error) {
    int64_t version = 0;
    sr_status code = sri_sqlite_run(store, "BEGIN IMMEDIATE", doing_migration, error);
    if (code != SR_OK) return code;
    code = sri_sqlite_integer(store, "PRAGMA user_version", &version, error);
    if (code == SR_OK && version < SRI_STORE_SCHEMA) {
        sri_log(SR_LOG_INFO, "database %s: schema %d becomes %d", store->path, (int)version,
                SRI_STORE_SCHEMA);
        code = to_third(store, version, error);
    }
    return sri_sqlite_end(store, code, doing_migration, error);
}
