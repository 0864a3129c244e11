/*
 * test_fault_migrate.c - databases of older schemas that are brought up to date while the power is
 * cut at each step, or each write fails in turn. Opening one brings its table, whole, then or at
 * the next try.
 */
#include "mutation_load.h"

#include <sqlite3.h>

#include "power_vfs.h"

enum { OLD_PACKAGE = 0 }; /* and schemas 1 and 2 */

typedef struct scene {
    int schema;
    toy toy;
    sr_encoder *encoder;
    char directory[256], path[300];
    load_table table;
} scene;

/* ---- A database as it used to be ------------------------------------------------------------- */

/* Schema 1, as version 0.1.0 made it. */
static const char first_schema[] =
    "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA application_id = 1397895217;"
    "PRAGMA user_version = 1;"
    "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE routes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    " threshold_kind INTEGER NOT NULL, threshold REAL NOT NULL,"
    " description TEXT NOT NULL, metadata TEXT NOT NULL) STRICT;"
    "CREATE TABLE utterances (id INTEGER PRIMARY KEY,"
    " route INTEGER NOT NULL REFERENCES routes (id) ON DELETE CASCADE,"
    " text TEXT NOT NULL, UNIQUE (route, text)) STRICT;"
    "CREATE TABLE models (id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE,"
    " name TEXT NOT NULL, dimension INTEGER NOT NULL, updated INTEGER NOT NULL) STRICT;"
    "CREATE TABLE vectors (id INTEGER PRIMARY KEY,"
    " utterance INTEGER NOT NULL REFERENCES utterances (id) ON DELETE CASCADE ON UPDATE CASCADE,"
    " model INTEGER NOT NULL REFERENCES models (id), vector BLOB NOT NULL,"
    " UNIQUE (utterance, model)) STRICT;"
    "INSERT INTO meta VALUES ('revision', 0), ('next_id', 1)";

static const char second_schema[] =
    "CREATE TABLE fits (id INTEGER PRIMARY KEY CHECK (id = 1), serial INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, kind INTEGER NOT NULL, model TEXT NOT NULL, fast TEXT NOT NULL,"
    " max_oos_accepted REAL, min_precision REAL, auto_threshold REAL, fast_share REAL,"
    " routes BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;"
    "PRAGMA user_version = 2";

/* What version 0.3.0 of the old Python package makes. */
static const char old_package[] =
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE routes (name TEXT PRIMARY KEY, threshold REAL, metadata TEXT);"
    "CREATE TABLE utterances (id INTEGER PRIMARY KEY AUTOINCREMENT, route_name TEXT,"
    " utterance TEXT, embedding BLOB, FOREIGN KEY(route_name) REFERENCES routes(name) ON DELETE"
    " CASCADE, UNIQUE(route_name, utterance))";

typedef struct writer {
    sqlite3 *db;
    sr_encoder *encoder;
    sqlite3_int64 id; /* the last one used */
} writer;

/* One statement; of `text` and `blob` what is not NULL is bound to ?3 and ?4. */
static void insert(writer *self, const char *sql, sqlite3_int64 first, sqlite3_int64 second,
                   const sr_str *text, const float *blob) {
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(self->db, sql, -1, &statement, NULL), SQLITE_OK);
    sqlite3_bind_int64(statement, 1, first);
    sqlite3_bind_int64(statement, 2, second);
    if (text != NULL)
        sqlite3_bind_text(statement, 3, text->len == 0 ? "" : text->data, (int)text->len,
                          SQLITE_STATIC);
    if (blob != NULL)
        sqlite3_bind_blob(statement, 4, blob, TOY_DIMENSION * sizeof *blob, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
    sqlite3_finalize(statement);
}

static void insert_utterances(writer *self, sqlite3_int64 route, const load_list *list) {
    load_texts texts;
    load_write_texts(list, &texts);
    for (uint8_t i = 0; i < list->count; i++) {
        float vector[TOY_DIMENSION];
        sqlite3_int64 id = ++self->id;
        assert_int_equal(sr_encoder_encode(self->encoder, &texts.texts[i], 1, vector, NULL, NULL),
                         SR_OK);
        insert(self, "INSERT INTO utterances VALUES (?1, ?2, ?3)", id, route, &texts.texts[i],
               NULL);
        insert(self, "INSERT INTO vectors (utterance, model, vector) VALUES (?1, ?2, ?4)", id, 1,
               NULL, vector);
    }
}

static void insert_route(writer *self, const load_route *route, sr_str name) {
    static char bytes[6001];
    char sql[200];
    sr_str description = load_description(route->description, bytes);
    sqlite3_int64 id = ++self->id;
    snprintf(sql, sizeof sql, "INSERT INTO routes VALUES (?1, '%.*s', ?2, %g, ?3, '')",
             (int)name.len, name.data, (double)route->threshold / 100);
    insert(self, sql, id, route->threshold == 0 ? SR_THRESHOLD_AUTO : SR_THRESHOLD_COSINE,
           &description, NULL);
    insert_utterances(self, id, &route->list);
}

/* Of the old package: its vectors are another model's. */
static void insert_old_route(writer *self, const load_route *route, sr_str name) {
    static const float vector[TOY_DIMENSION] = {1};
    char sql[200];
    load_texts texts;
    load_write_texts(&route->list, &texts);
    snprintf(sql, sizeof sql, "INSERT INTO routes SELECT '%.*s', ?1 / 100.0, NULL WHERE ?2 = 0",
             (int)name.len, name.data);
    insert(self, sql, route->threshold, 0, NULL, NULL);
    snprintf(sql, sizeof sql, "INSERT INTO utterances VALUES (?1 + ?2, '%.*s', ?3, ?4)",
             (int)name.len, name.data);
    for (uint8_t i = 0; i < route->list.count; i++)
        insert(self, sql, ++self->id, 0, &texts.texts[i], vector);
}

static void make_old_package(scene *self) {
    writer out = {.encoder = self->encoder};
    assert_int_equal(sqlite3_open(self->path, &out.db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(out.db, old_package, NULL, NULL, NULL), SQLITE_OK);
    for (uint8_t i = 0; i < self->table.count; i++) {
        load_text name;
        insert_old_route(&out, &self->table.routes[self->table.order[i]],
                         load_name('r', self->table.order[i], name));
    }
    assert_int_equal(sqlite3_close(out.db), SQLITE_OK);
}

/* Writes the scene's table as a database of schema 1 or 2. */
static void make_old(scene *self, int schema) {
    writer out = {.encoder = self->encoder};
    sr_str fingerprint = sr_str_of(sr_encoder_fingerprint(self->encoder));
    assert_int_equal(sqlite3_open(self->path, &out.db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(out.db, first_schema, NULL, NULL, NULL), SQLITE_OK);
    if (schema == 2)
        assert_int_equal(sqlite3_exec(out.db, second_schema, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_exec(out.db, "BEGIN", NULL, NULL, NULL);
    insert(&out, "INSERT INTO models VALUES (?1, ?3, 'toy', ?2, 1)", 1, TOY_DIMENSION, &fingerprint,
           NULL);
    for (uint8_t i = 0; i < self->table.count; i++) {
        load_text name;
        insert_route(&out, &self->table.routes[self->table.order[i]],
                     load_name('r', self->table.order[i], name));
    }
    load_route oos = {.there = true, .list = self->table.oos};
    if (schema == 2) insert_route(&out, &oos, sr_str_of(SR_OOS_NAME));
    insert(&out, "UPDATE meta SET value = iif(key = 'revision', ?1, ?2)",
           (sqlite3_int64)self->table.revision, out.id + 1, NULL, NULL);
    sqlite3_exec(out.db, "COMMIT", NULL, NULL, NULL);
    assert_int_equal(sqlite3_close(out.db), SQLITE_OK);
}

/* ---- One attempt ----------------------------------------------------------------------------- */

/* What a database of the schema can hold: out-of-scope examples since 2; the old package knows no
 * descriptions, and each of its routes has a threshold. */
static void fit_to_schema(load_table *table, int schema) {
    if (schema < 2) table->oos.count = 0;
    for (int i = 0; i < LOAD_ROUTES && schema == OLD_PACKAGE; i++) {
        table->routes[i].description = 0;
        table->routes[i].threshold |= 1;
    }
}

static void open_scene(scene *self, int schema) {
    uint64_t random = 7;
    *self = (scene){.schema = schema};
    self->encoder = toy_open(&self->toy, "toy");
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    for (int i = 0; i < 20; i++) {
        load_change change = load_draw(&self->table, false, &random);
        load_apply(&self->table, &change);
    }
    fit_to_schema(&self->table, schema);
    power_on(self->directory); /* nothing has to be synced but in the model of the disk */
    if (schema == OLD_PACKAGE)
        make_old_package(self);
    else
        make_old(self, schema);
    power_on(self->directory);
}

static void close_scene(scene *self) {
    power_off();
    sr_encoder_close(&self->encoder);
    toy_remove_directory(self->directory);
}

static void expect_whole(scene *self, const char *what, long n) {
    sr_router *router = NULL;
    sr_error error;
    char why[256] = "";
    if (load_open(self->path, self->encoder, SR_DURABILITY_NORMAL, &router, &error) != SR_OK)
        fail_msg("%s at %ld: cannot be opened: %s", what, n, error.message);
    if (sr_router_verify(router, &error) != SR_OK)
        fail_msg("%s at %ld: does not verify: %s", what, n, error.message);
    /* Revisions are counted anew for what the old package has made. */
    if (!load_compare(&self->table, router, self->encoder, 'r', self->schema == OLD_PACKAGE, why))
        fail_msg("%s at %ld: %s", what, n, why);
    sr_router_close(&router);
}

/* Opens the database and closes it; the status of opening. */
static sr_status open_once(scene *self, sr_error *error) {
    sr_router *router = NULL;
    sr_status code = load_open(self->path, self->encoder, SR_DURABILITY_NORMAL, &router, error);
    sr_router_close(&router);
    return code;
}

/* False when opening and closing takes fewer than `n` changes. */
static bool cut_at(int schema, long n, uint64_t outcome) {
    scene self;
    sr_error error;
    open_scene(&self, schema);
    power_cut_after(n);
    sr_status code = open_once(&self, &error);
    bool was_cut = power_is_cut();
    power_cut_after(0);
    if (!was_cut && code != SR_OK) fail_msg("cannot be opened: %s", error.message);
    if (was_cut) {
        power_restore(self.directory, (uint64_t)n * 31 + outcome);
        power_on(self.directory);
    }
    expect_whole(&self, "a power cut", n);
    close_scene(&self);
    return was_cut;
}

static bool fail_at(int schema, long n, bool full, bool for_good) {
    scene self;
    sr_error error;
    open_scene(&self, schema);
    power_fail(POWER_ANY, n, full, for_good);
    sr_status code = open_once(&self, &error);
    bool failed = power_failed();
    if (code != SR_OK && !failed) fail_msg("cannot be opened: %s", error.message);
    /* Without a log it counts as one that cannot be written. */
    bool right = code == SR_OK || code == SR_ERR_IO || code == SR_ERR_FULL ||
                 (schema == OLD_PACKAGE && code == SR_ERR_READ_ONLY);
    if (!right) fail_msg("a failure at %ld: %s: %s", n, sr_status_name(code), error.message);
    power_fail(POWER_ANY, 0, false, false);
    expect_whole(&self, "a failure", n);
    close_scene(&self);
    return failed;
}

/* ---- All of them ----------------------------------------------------------------------------- */

static void old_databases_are_read(void **state) {
    (void)state;
    for (int schema = OLD_PACKAGE; schema <= 2; schema++) {
        scene self;
        open_scene(&self, schema);
        assert_true(self.table.count > 3);
        expect_whole(&self, "no failure", 0);
        close_scene(&self);
    }
}

static void a_power_cut_loses_no_old_database(void **state) {
    (void)state;
    long cuts = 0;
    for (uint64_t outcome = 0; outcome < 3; outcome++)
        for (long n = 1; cut_at((int)outcome, n, outcome); n++) cuts++;
    print_message("# %ld cuts\n", cuts);
    assert_true(cuts > 20);
}

static void a_failing_write_loses_no_old_database(void **state) {
    (void)state;
    for (int way = 0; way < 4; way++)
        for (long n = 1; fail_at(way & 1 ? 2 : OLD_PACKAGE, n, way & 2, way & 2); n++) continue;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_databases_are_read),
        cmocka_unit_test(a_power_cut_loses_no_old_database),
        cmocka_unit_test(a_failing_write_loses_no_old_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
