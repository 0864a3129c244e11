/*
 * sqlite_adopt.c - a database of the old Python package (synaptoroute up to 0.3) becomes one of ours.
 *
 * It has two tables: routes (name, threshold, metadata) and utterances (id, route_name, utterance, embedding), and
 * nothing to tell it from another program's but them. Names, texts, metadata and thresholds, which are cosines, are taken
 * over, in the order in which they were added. Vectors are not: a row says neither which model made
 * it nor how, and what merely resembles our model's vectors must not be mixed with these. The table has no vectors of
 * any model then, and the router makes them when it opens.
 *
 * First a copy is made beside the file, FILE.old-package (or -2, -3, ...), and synced; then the tables are replaced in
 * one transaction. The write lock is held from before the copy until the end, so that nothing can be
 * written in between and missing in both.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "store/sqlite_int.h"
#include "text/text.h"

static const char doing[] = "take over";

/* ---- Is it one? --------------------------------------------------------------------------------------- */

/* Databases older than 0.2 have no column for vectors. */
sr_status sri_sqlite_is_old_package(sqlite_store *store, bool *is, sr_error *error) {
    int64_t matching = 0;
    sr_status code = sri_sqlite_integer(
        store,
        "SELECT (SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_master WHERE name NOT"
        " LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name)) IS 'routes utterances'"
        " AND (SELECT group_concat(name, ' ') FROM pragma_table_info('routes'))"
        " IS 'name threshold metadata'"
        " AND (SELECT group_concat(name, ' ') FROM pragma_table_info('utterances'))"
        " IN ('id route_name utterance', 'id route_name utterance embedding')",
        &matching, error);
    *is = code == SR_OK && matching == 1;
    return code;
}

/* ---- The copy ------------------------------------------------------------------------------------------- */

static sr_status cannot_copy(const sqlite_store *store, const char *copy, int cause,
                             sr_error *error) {
    return sri_fail_errno(error, cause, store->path,
                          "%s is a database of the old Python package, of which a copy is kept "
                          "before it is taken over, but %s cannot be written",
                          store->path, copy);
}

/* Writes the copy under a name that nobody takes for a whole one. */
static sr_status write_copy(const sqlite_store *store, const char *part, sr_error *error) {
    sqlite_store link = {.path = store->path};
    sqlite3_stmt *statement = NULL;
    if (unlink(part) != 0 && errno != ENOENT) return cannot_copy(store, part, errno, error);
    sr_status code = sri_sqlite_connect_beside(&link, false, error);
    if (code != SR_OK) return code;
    int result = sqlite3_prepare_v2(link.db, "VACUUM INTO ?1", -1, &statement, NULL);
    if (result == SQLITE_OK) {
        sqlite3_bind_text(statement, 1, part, -1, SQLITE_STATIC);
        result = sqlite3_step(statement);
    }
    if (result != SQLITE_DONE) code = sri_sqlite_fail(&link, result, "copy database", error);
    sqlite3_finalize(statement);
    sri_sqlite_disconnect(&link);
    return code;
}

/* A file or a directory; 0 or errno. */
static int sync_path(const char *path) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return errno;
    int cause = fsync(descriptor) == 0 ? 0 : errno;
    close(descriptor);
    return cause;
}

/* A link, as it never replaces a file; where there are no links, a rename after a look. */
static int give_name(const char *part, const char *copy) {
    if (link(part, copy) == 0) {
        unlink(part);
        return 0;
    }
    if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK) return errno;
    if (access(copy, F_OK) == 0) return EEXIST;
    return rename(part, copy) == 0 ? 0 : errno;
}

static sr_status name_copy(const sqlite_store *store, const char *part, sri_buffer *copy,
                           sr_error *error) {
    int cause = sync_path(part);
    for (int i = 1; i < 1000 && cause == 0; i++) {
        char number[16] = "";
        copy->len = 0;
        if (i > 1) snprintf(number, sizeof number, "-%d", i);
        if (!sri_buffer_format(copy, "%s.old-package%s%c", store->path, number, '\0'))
            return sri_fail_memory(error);
        cause = give_name(part, copy->data);
        if (cause == 0) break;
        if (cause == EEXIST && i < 999) cause = 0;
    }
    if (cause == 0) {
        char *slash = strrchr(copy->data, '/');
        char kept = slash == NULL ? 0 : slash[1];
        if (slash != NULL) slash[1] = '\0';
        cause = sync_path(slash == NULL ? "." : copy->data);
        if (slash != NULL) slash[1] = kept;
    }
    return cause == 0 ? SR_OK : cannot_copy(store, copy->data, cause, error);
}

static sr_status keep_copy(const sqlite_store *store, sri_buffer *copy, sr_error *error) {
    sri_buffer part = {0};
    sr_status code = sri_buffer_format(&part, "%s.old-package.part%c", store->path, '\0')
                         ? write_copy(store, part.data, error)
                         : sri_fail_memory(error);
    if (code == SR_OK) code = name_copy(store, part.data, copy, error);
    if (code != SR_OK && part.data != NULL) unlink(part.data);
    sri_buffer_free(&part);
    return code;
}

/* ---- Taking over ------------------------------------------------------------------------------------------ */

typedef struct adoption {
    int64_t next_id;
    int64_t left_out; /* rows that cannot be routes or utterances */
} adoption;

/* The old package itself let nobody add what is empty, and had no limits. */
static bool can_be_taken(sqlite3_stmt *row, int column, size_t most) {
    size_t offset;
    if (sqlite3_column_type(row, column) != SQLITE_TEXT) return false;
    sr_str text = sri_sqlite_text(row, column);
    return text.len > 0 && text.len <= most && memchr(text.data, '\0', text.len) == NULL &&
           sri_utf8_valid(text, &offset) && !sri_text_blank(text);
}

/* name, threshold (NULL: none), metadata. */
static sr_status take_route(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    adoption *self = user;
    sqlite3_stmt *statement = NULL;
    if (!can_be_taken(row, 0, SR_MAX_NAME_BYTES)) {
        self->left_out++;
        return SR_OK;
    }
    bool has = sqlite3_column_type(row, 1) != SQLITE_NULL;
    double cosine = has ? sqlite3_column_double(row, 1) : 0;
    sr_str metadata = sri_sqlite_text(row, 2);
    if (metadata.len > SR_MAX_METADATA_BYTES) metadata.len = 0;
    sr_status code = sri_sqlite_prepare(store, ADD_ROUTE, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, self->next_id++);
    sri_sqlite_bind_text(statement, 2, sri_sqlite_text(row, 0));
    sqlite3_bind_int(statement, 3, has ? SR_THRESHOLD_COSINE : SR_THRESHOLD_AUTO);
    sqlite3_bind_double(statement, 4, SRI_MAX(-1.0, SRI_MIN(1.0, cosine)));
    sri_sqlite_bind_text(statement, 5, sr_str_of(""));
    sri_sqlite_bind_text(statement, 6, metadata);
    return sri_sqlite_finish(store, statement, NULL, error);
}

/* route, text. */
static sr_status take_utterance(sqlite_store *store, sqlite3_stmt *row, void *user,
                                sr_error *error) {
    adoption *self = user;
    sqlite3_stmt *statement = NULL;
    if (!can_be_taken(row, 1, SR_MAX_UTTERANCE_BYTES)) {
        self->left_out++;
        return SR_OK;
    }
    sr_status code = sri_sqlite_prepare(store, ADD_UTTERANCE, &statement, error);
    if (code != SR_OK) return code;
    sqlite3_bind_int64(statement, 1, self->next_id++);
    sqlite3_bind_int64(statement, 2, sqlite3_column_int64(row, 0));
    sri_sqlite_bind_text(statement, 3, sri_sqlite_text(row, 1));
    return sri_sqlite_finish(store, statement, NULL, error);
}

/* The index on names is needed for the join alone. What is not JSON the old package took for nothing, too. */
static sr_status take_rows(sqlite_store *store, adoption *self, sr_error *error) {
    sr_status code = sri_sqlite_each(
        store,
        "SELECT name, threshold, CASE WHEN json_valid(metadata) AND json_type(metadata) <> 'null'"
        " THEN json(metadata) ELSE '' END FROM old_routes ORDER BY rowid",
        NULL, 0, take_route, self, error);
    if (code == SR_OK)
        code = sri_sqlite_run(store, "CREATE INDEX names ON routes (name)", doing, error);
    if (code == SR_OK)
        code = sri_sqlite_each(
            store,
            "SELECT routes.id, utterance FROM old_utterances CROSS JOIN routes INDEXED BY names"
            " ON name = route_name ORDER BY old_utterances.id",
            NULL, 0, take_utterance, self, error);
    return code == SR_OK ? sri_sqlite_run(store, "DROP INDEX names", doing, error) : code;
}

static sr_status store_state(sqlite_store *store, const adoption *self, sr_error *error) {
    char sql[160];
    snprintf(sql, sizeof sql,
             "UPDATE meta SET value = 1 WHERE key IN ('revision', 'log_since');"
             "UPDATE meta SET value = %lld WHERE key = 'next_id'",
             (long long)self->next_id);
    return sri_sqlite_run(store, sql, doing, error);
}

static sr_status replace_tables(sqlite_store *store, adoption *self, sr_error *error) {
    sr_status code = sri_sqlite_run(store,
                                    "ALTER TABLE routes RENAME TO old_routes;"
                                    "ALTER TABLE utterances RENAME TO old_utterances",
                                    doing, error);
    if (code == SR_OK) code = sri_sqlite_make_tables(store, error);
    if (code == SR_OK) code = take_rows(store, self, error);
    if (code == SR_OK)
        code =
            sri_sqlite_run(store, "DROP TABLE old_utterances; DROP TABLE old_routes", doing, error);
    return code == SR_OK ? store_state(store, self, error) : code;
}

static void tell(const sqlite_store *store, const adoption *self, const char *copy) {
    sri_log(SR_LOG_INFO,
            "%s was a database of the old Python package; it is taken over, and %s is a copy of "
            "what it was. It does not say which model made its vectors, so they are made anew",
            store->path, copy);
    if (self->left_out > 0)
        sri_log(SR_LOG_WARN,
                "%s: %lld rows were left out, whose name or text is blank, too long or no text",
                store->path, (long long)self->left_out);
}

/* Two processes may come here: the second finds it done. */
static sr_status adopt_locked(sqlite_store *store, adoption *self, sri_buffer *copy,
                              sr_error *error) {
    int64_t application = 0;
    bool is = false;
    sr_status code = sri_sqlite_integer(store, "PRAGMA application_id", &application, error);
    if (code != SR_OK || application == APPLICATION_ID) return code;
    code = sri_sqlite_is_old_package(store, &is, error);
    if (code == SR_OK && !is) code = sri_sqlite_another_program(store->path, error);
    if (code == SR_OK) code = keep_copy(store, copy, error);
    return code == SR_OK ? replace_tables(store, self, error) : code;
}

sr_status sri_sqlite_adopt(sqlite_store *store, sr_error *error) {
    adoption self = {.next_id = 1};
    sri_buffer copy = {0};
    sr_status code = sri_sqlite_run(store, "BEGIN IMMEDIATE", doing, error);
    if (code != SR_OK) return code;
    code = adopt_locked(store, &self, &copy, error);
    code = sri_sqlite_end(store, code, doing, error);
    if (code == SR_OK && copy.len > 0) tell(store, &self, copy.data);
    sri_buffer_free(&copy);
    return code;
}
