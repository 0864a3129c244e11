/* test_store_migrate.c - databases of older schemas, and those of the old Python package. */
#include "toy.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "index/index.h"
#include "store/store.h"

typedef struct fixture {
    toy toy;
    sr_encoder *encoder;
    char directory[256];
    char path[300];
    char copy[320];
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    self->encoder = toy_open(&self->toy, "toy");
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    snprintf(self->copy, sizeof self->copy, "%s.old-package", self->path);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    sr_encoder_close(&self->encoder);
    toy_remove_directory(self->directory);
    free(self);
    return 0;
}

static void run_sql(const char *path, const char *sql) {
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

/* The one value that a query gives. */
static int64_t number_of(const char *path, const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

static int files_in(const char *path) {
    int count = 0;
    DIR *directory = opendir(path);
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count - 2;
}

/* ---- Schema 1 --------------------------------------------------------------------------------------------------- */

/* As the first version of the program made it. */
static const char first_schema[] =
    "PRAGMA page_size = 8192; PRAGMA application_id = 1397895217; PRAGMA user_version = 1;"
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
    "INSERT INTO meta VALUES ('revision', 7), ('next_id', 20);"
    "INSERT INTO routes VALUES (3, 'greeting', 1, 0.25, 'd', '[1]'), (9, 'parting', 0, 0, '', '');"
    "INSERT INTO utterances VALUES (4, 3, 'hello'), (5, 3, 'good morning'), (10, 9, 'good bye');"
    "PRAGMA journal_mode = WAL;";

static void bind_vector(const fixture *self, sqlite3 *db, int id, const char *text) {
    static float vector[TOY_DIMENSION];
    sqlite3_stmt *statement;
    sr_str texts[1] = {sr_str_of(text)};
    assert_int_equal(sr_encoder_encode(self->encoder, texts, 1, vector, NULL, NULL), SR_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "INSERT INTO vectors VALUES (NULL, ?1, 1, ?2)", -1,
                                        &statement, NULL),
                     SQLITE_OK);
    sqlite3_bind_int(statement, 1, id);
    sqlite3_bind_blob(statement, 2, vector, sizeof vector, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
    sqlite3_finalize(statement);
}

static void make_first_schema(const fixture *self) {
    sqlite3 *db;
    char model[200];
    run_sql(self->path, first_schema);
    snprintf(model, sizeof model, "INSERT INTO models VALUES (1, '%s', 'toy', %d, 1)",
             sr_encoder_fingerprint(self->encoder), TOY_DIMENSION);
    run_sql(self->path, model);
    assert_int_equal(sqlite3_open(self->path, &db), SQLITE_OK);
    bind_vector(self, db, 4, "hello");
    bind_vector(self, db, 5, "good morning");
    bind_vector(self, db, 10, "good bye");
    sqlite3_close(db);
}

static void refuse(const fixture *self, const char *says) {
    sr_options options = {
        .size = sizeof options, .database = self->path, .encoder = self->encoder, .threads = 1};
    sr_router *router;
    sr_error error;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_FORMAT);
    if (strstr(error.message, says) == NULL) fail_msg("%s", error.message);
}

static int schema_of(sr_router *router) {
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.utterances, 3);
    return info.schema;
}

static const char first_table[] = "greeting[1 0.25]:hello|good morning;parting:good bye;";

static void a_database_of_the_first_schema_is_brought_up_to_date(void **state) {
    fixture *self = *state;
    make_first_schema(self);
    /* A reader takes it as it is. */
    sr_router *reader = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    assert_int_equal(schema_of(reader), 1);
    toy_assert_table(reader, first_table);
    assert_int_equal(sr_router_verify(reader, NULL), SR_OK);
    int encoded = atomic_load(&self->toy.encoded);
    sr_router *writer = toy_router(self->path, self->encoder, 0);
    assert_int_equal(atomic_load(&self->toy.encoded), encoded); /* its vectors are what they were */
    assert_int_equal(schema_of(writer), 3);
    toy_assert_table(writer, first_table);
    assert_int_equal(sr_router_verify(writer, NULL), SR_OK);
    sr_receipt receipt;
    assert_int_equal(sr_fit(writer, NULL, NULL, NULL), SR_OK);
    sr_str text = sr_str_of("who wrote hamlet");
    assert_int_equal(sr_oos_put(writer, &text, 1, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.revision, 8);
    assert_int_equal(sr_oos_remove(writer, NULL, 0, NULL, NULL), SR_OK);
    /* The reader sees that, and what is new about the file. */
    toy_assert_table(reader, first_table);
    assert_int_equal(schema_of(reader), 3);
    sr_router_close(&writer);
    sr_router_close(&reader);
    writer = toy_router(self->path, self->encoder, SR_OPEN_EXISTING);
    assert_int_equal(schema_of(writer), 3);
    sr_router_close(&writer);
}

static void an_incomplete_schema_is_damage(void **state) {
    fixture *self = *state;
    make_first_schema(self);
    run_sql(self->path, "PRAGMA user_version = 2"); /* without what makes it so */
    refuse(self, "lacks 1 of its 6 tables");
    run_sql(self->path, "PRAGMA user_version = 1; DROP TABLE vectors");
    refuse(self, "lacks 1 of its 5 tables");
}

/* ---- Schema 2 --------------------------------------------------------------------------------------------------- */

#define DIMENSION 8

static const char first_model[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char second_model[] =
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

static const char second_schema[] =
    "PRAGMA page_size = 8192; PRAGMA application_id = 1397895217; PRAGMA user_version = 2;"
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
    "CREATE TABLE fits (id INTEGER PRIMARY KEY CHECK (id = 1), serial INTEGER NOT NULL,"
    " revision INTEGER NOT NULL, kind INTEGER NOT NULL, model TEXT NOT NULL, fast TEXT NOT NULL,"
    " max_oos_accepted REAL, min_precision REAL, auto_threshold REAL, fast_share REAL,"
    " routes BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;"
    "INSERT INTO meta VALUES ('revision', 7), ('next_id', 20);"
    "INSERT INTO routes VALUES (3, 'greeting', 1, 0.25, 'd', '[1]'), (9, 'parting', 0, 0, '', '');"
    "INSERT INTO utterances VALUES (4, 3, 'hello'), (5, 3, 'good morning'), (10, 9, 'good bye');"
    "INSERT INTO models VALUES"
    " (1, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', 'one', 8, 2),"
    " (2, 'fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210', 'two', 8, 1);"
    "INSERT INTO fits VALUES (1, 4, 6, 1, '0123456789abcdef0123456789abcdef0123456789abcdef"
    "0123456789abcdef', '', NULL, NULL, NULL, NULL, x'', x'');"
    "PRAGMA journal_mode = WAL;";

/* Of length 1, another for each utterance and model. */
static void vector_of(int utterance, int model, float vector[DIMENSION]) {
    double sum = 0;
    for (int i = 0; i < DIMENSION; i++) {
        vector[i] = sinf((float)(utterance * 3 + model + i * i)) + 0.1f;
        sum += (double)vector[i] * vector[i];
    }
    for (int i = 0; i < DIMENSION; i++) vector[i] = (float)(vector[i] / sqrt(sum));
}

static void make_second_schema(const fixture *self) {
    static const int rows[][2] = {{10, 1}, {4, 2}, {4, 1}, {5, 1}, {10, 2}};
    sqlite3 *db;
    sqlite3_stmt *statement;
    run_sql(self->path, second_schema);
    assert_int_equal(sqlite3_open(self->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "INSERT INTO vectors VALUES (NULL, ?1, ?2, ?3)", -1,
                                        &statement, NULL),
                     SQLITE_OK);
    for (size_t i = 0; i < SRI_COUNT(rows); i++) {
        float vector[DIMENSION];
        vector_of(rows[i][0], rows[i][1], vector);
        sqlite3_bind_int(statement, 1, rows[i][0]);
        sqlite3_bind_int(statement, 2, rows[i][1]);
        sqlite3_bind_blob(statement, 3, vector, sizeof vector, SQLITE_STATIC);
        assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

typedef struct reading {
    char text[1024];
    int model; /* of which codes are to be */
} reading;

static void SRI_PRINTF(2, 3) say(reading *self, const char *format, ...) {
    size_t len = strlen(self->text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->text + len, sizeof self->text - len, format, arguments);
    va_end(arguments);
}

static sr_status on_begin(void *user, const sri_store_state *state, sr_error *error) {
    (void)error;
    say(user, "%d,%d %s: ", (int)state->revision, (int)state->next_id, state->model_name);
    return SR_OK;
}

static sr_status on_route(void *user, const sri_store_route *route, sr_error *error) {
    (void)error;
    say(user, "%d %.*s[%d %g]%.*s; ", (int)route->id, (int)route->name.len, route->name.data,
        (int)route->threshold.kind, route->threshold.value, (int)route->metadata.len,
        route->metadata.data);
    return SR_OK;
}

static sr_status on_utterance(void *user, uint64_t id, uint64_t route, sr_str text,
                              sr_error *error) {
    (void)error;
    say(user, "%d/%d %.*s; ", (int)route, (int)id, (int)text.len, text.data);
    return SR_OK;
}

static sr_status on_code(void *user, uint64_t utterance, const uint8_t *code, sr_error *error) {
    (void)error;
    reading *self = user;
    float vector[DIMENSION];
    uint8_t expected[256];
    vector_of((int)utterance, self->model, vector);
    sri_index_encode(vector, DIMENSION, expected);
    bool right = memcmp(code, expected, sri_index_code_bytes(DIMENSION)) == 0;
    say(self, "%s %d; ", right ? "code" : "WRONG", (int)utterance);
    return SR_OK;
}

static void assert_loads(sri_store *store, int model, const char *expected) {
    reading got = {.model = model};
    sri_store_sink sink = {&got, on_begin, on_route, on_utterance, on_code};
    sr_error error;
    const char *fingerprint = model == 0 ? NULL : model == 1 ? first_model : second_model;
    if (store->kind->load(store, fingerprint, DIMENSION, &sink, &error) != SR_OK)
        fail_msg("%s", error.message);
    assert_string_equal(got.text, expected);
}

static sri_store *open_store(const fixture *self, unsigned flags) {
    sri_store *store;
    sr_error error;
    if (sri_store_open_sqlite(self->path, flags, &store, &error) != SR_OK)
        fail_msg("%s", error.message);
    return store;
}

#define ROWS                                                                                       \
    "7,20 one: 3 greeting[1 0.25][1]; 9 parting[0 0]; 3/4 hello; 3/5 good morning; 9/10 good "     \
    "bye; "

static void a_database_of_the_second_schema_keeps_all_it_has(void **state) {
    fixture *self = *state;
    make_second_schema(self);
    sri_store *store = open_store(self, 0);
    assert_int_equal(atomic_load(&store->schema), 3);
    assert_loads(store, 1, ROWS "code 4; code 5; code 10; ");
    assert_loads(store, 2, ROWS "code 4; code 10; ");
    assert_int_equal(store->kind->verify(store, NULL), SR_OK);
    uint64_t revision, fit;
    assert_int_equal(store->kind->revision(store, &revision, &fit, NULL), SR_OK);
    assert_int_equal(fit, 4);
    sri_store_close(&store);
    store = open_store(self, 0); /* once is enough */
    assert_loads(store, 1, ROWS "code 4; code 5; code 10; ");
    sri_store_close(&store);
    assert_int_equal(files_in(self->directory), 1);
}

static void fetch(sri_store_reader *reader, bool both) {
    float rows[3][DIMENSION], expected[DIMENSION];
    uint8_t found[3];
    sri_store_reader_fetch(reader, (uint64_t[]){10, 5, 4}, 3, rows[0], found);
    assert_memory_equal(found, ((uint8_t[]){1, both, 1}), 3);
    vector_of(10, both ? 1 : 2, expected);
    assert_memory_equal(rows[0], expected, sizeof expected);
}

/* What may not be written is read as it is; when another migrates it meanwhile, that is noticed. */
static void a_reader_of_an_old_schema_goes_on_when_it_is_migrated(void **state) {
    fixture *self = *state;
    make_second_schema(self);
    sri_store *store = open_store(self, SRI_STORE_READ_ONLY);
    sri_store_reader *one, *two;
    assert_int_equal(store->kind->open_reader(store, first_model, DIMENSION, &one, NULL), SR_OK);
    assert_int_equal(store->kind->open_reader(store, second_model, DIMENSION, &two, NULL), SR_OK);
    assert_int_equal(atomic_load(&store->schema), 2);
    assert_loads(store, 1, ROWS "code 4; code 5; code 10; ");
    assert_loads(store, 2, ROWS "code 4; code 10; ");
    assert_int_equal(store->kind->verify(store, NULL), SR_OK);
    fetch(one, true);
    fetch(two, false);
    sri_store *writer = open_store(self, 0);
    fetch(one, true);
    fetch(two, false);
    assert_loads(store, 1, ROWS "code 4; code 5; code 10; ");
    assert_int_equal(atomic_load(&store->schema), 3);
    assert_int_equal(store->kind->verify(store, NULL), SR_OK);
    sri_store_reader_close(&one);
    sri_store_reader_close(&two);
    sri_store_close(&writer);
    sri_store_close(&store);
}

static void what_cannot_be_migrated_stays_as_it_was(void **state) {
    fixture *self = *state;
    static const struct {
        const char *damage, *says;
        sr_status code;
    } cases[] = {
        {"UPDATE vectors SET vector = x'00' WHERE utterance = 10 AND model = 2",
         "1 bytes instead of 32", SR_ERR_FORMAT},
        {"UPDATE models SET id = 64 WHERE id = 2", "more than 63 models", SR_ERR_LIMIT},
        {"UPDATE models SET dimension = -3", "dimensions", SR_ERR_FORMAT},
        {"DROP TABLE fits", "lacks 1 of its 6 tables", SR_ERR_FORMAT},
    };
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        make_second_schema(self);
        run_sql(self->path, cases[i].damage);
        sri_store *store = NULL;
        sr_error error;
        assert_int_equal(sri_store_open_sqlite(self->path, 0, &store, &error), cases[i].code);
        if (strstr(error.message, cases[i].says) == NULL) fail_msg("%s", error.message);
        assert_int_equal(number_of(self->path, "PRAGMA user_version"), 2);
        assert_int_equal(number_of(self->path, "SELECT count(*) FROM vectors"), 5);
        assert_int_equal(unlink(self->path), 0);
    }
}

/* ---- The old Python package ------------------------------------------------------------------------------------- */

/* As its version 0.3.0 writes them. */
static const char old_package[] =
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE IF NOT EXISTS routes (name TEXT PRIMARY KEY, threshold REAL, metadata TEXT);"
    "CREATE TABLE IF NOT EXISTS utterances (id INTEGER PRIMARY KEY AUTOINCREMENT, route_name TEXT,"
    " utterance TEXT, FOREIGN KEY(route_name) REFERENCES routes(name) ON DELETE CASCADE,"
    " UNIQUE(route_name, utterance));"
    "ALTER TABLE utterances ADD COLUMN embedding BLOB;"
    "INSERT INTO routes VALUES ('parting', 0.5, '{\"a\": 1, \"b\": \"x y\"}'),"
    " ('greeting', 0.7, NULL), ('odd', 7, 'not JSON');"
    "INSERT INTO utterances VALUES (2, 'greeting', 'hello', randomblob(256)),"
    " (4, 'parting', 'good bye', randomblob(256)), (7, 'greeting', 'good morning', NULL),"
    " (8, 'nobody', 'of no route', NULL);";

static const char adopted[] = "1,7 : 1 parting[1 0.5]{\"a\":1,\"b\":\"x y\"}; 2 greeting[1 0.7]; 3 "
                              "odd[1 1]; 2/4 hello; 1/5 good bye; 2/6 good morning; ";

static void a_database_of_the_old_package_is_taken_over(void **state) {
    fixture *self = *state;
    run_sql(self->path, old_package);
    sri_store *store = open_store(self, 0);
    assert_loads(store, 0, adopted);
    assert_int_equal(store->kind->verify(store, NULL), SR_OK);
    sri_store_close(&store);
    store = open_store(self, 0);
    assert_loads(store, 0, adopted);
    sri_store_close(&store);
    assert_int_equal(files_in(self->directory), 2);
    /* The copy has everything. */
    assert_int_equal(number_of(self->copy, "SELECT count(*) FROM utterances"), 4);
    assert_int_equal(number_of(self->copy, "SELECT sum(length(embedding)) FROM utterances"), 512);
    assert_int_equal(number_of(self->copy, "SELECT threshold = 0.7 FROM routes WHERE name ="
                                           " 'greeting'"),
                     1);
    assert_int_equal(number_of(self->copy, "PRAGMA application_id"), 0);
}

/* Vectors of a model that nobody knows are not mixed with ours. */
static void its_vectors_are_made_anew(void **state) {
    fixture *self = *state;
    run_sql(self->path, old_package);
    sr_router *router = toy_router(self->path, self->encoder, 0);
    assert_int_equal(atomic_load(&self->toy.encoded), 3);
    toy_assert_table(router,
                     "parting[1 0.5]:good bye;greeting[1 0.7]:hello|good morning;odd[1 1];");
    sr_str text = sr_str_of("hello");
    sr_decisions *decisions;
    assert_int_equal(sr_decide(router, &text, 1, NULL, &decisions, NULL), SR_OK);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->route, "greeting"));
    assert_true(sr_decisions_get(decisions, 0)->score > 0.99999);
    sr_decisions_free(&decisions);
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
    router = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    assert_int_equal(atomic_load(&self->toy.encoded), 4);
    sr_router_close(&router);
}

static void a_copy_never_replaces_a_file(void **state) {
    fixture *self = *state;
    char second[340];
    snprintf(second, sizeof second, "%s-2", self->copy);
    for (int i = 0; i < 2; i++) {
        run_sql(self->path, old_package);
        sri_store *store = open_store(self, 0);
        sri_store_close(&store);
        assert_int_equal(unlink(self->path), 0);
        run_sql(self->copy, i == 0 ? "UPDATE routes SET threshold = 0.1" : "SELECT 1");
    }
    assert_int_equal(number_of(self->copy, "SELECT threshold = 0.1 FROM routes"), 1);
    assert_int_equal(number_of(second, "SELECT threshold = 0.5 FROM routes"), 1);
}

/* A process that was killed leaves a log, and rows in it. */
static void a_log_that_the_old_package_left_is_read(void **state) {
    fixture *self = *state;
    run_sql(self->path, old_package);
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db;
        sqlite3_open(self->path, &db);
        sqlite3_exec(db, "INSERT INTO utterances VALUES (9, 'odd', 'late', NULL)", NULL, NULL,
                     NULL);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    sri_store *store = open_store(self, 0);
    char expected[400];
    snprintf(expected, sizeof expected, "%s3/7 late; ", adopted);
    expected[2] = '8'; /* next_id */
    assert_loads(store, 0, expected);
    sri_store_close(&store);
    assert_int_equal(number_of(self->copy, "SELECT count(*) FROM utterances"), 5);
}

/* Killed right after it has taken the database over: the log has our tables, the head of the file not yet. */
static void what_was_just_taken_over_is_ours(void **state) {
    fixture *self = *state;
    run_sql(self->path, old_package);
    pid_t child = fork();
    if (child == 0) {
        sri_store *store;
        if (sri_store_open_sqlite(self->path, 0, &store, NULL) != SR_OK) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    static const unsigned flags[] = {SRI_STORE_READ_ONLY, 0};
    for (size_t i = 0; i < SRI_COUNT(flags); i++) {
        sri_store *store = open_store(self, flags[i]);
        assert_loads(store, 0, adopted);
        sri_store_close(&store);
    }
}

static void assert_left_alone(const fixture *self, unsigned flags, sr_status expected,
                              const char *says, int files) {
    char before[65], after[65];
    sri_store *store;
    sr_error error;
    assert_int_equal(sri_sha256_file(self->path, before, NULL), SR_OK);
    assert_int_equal(sri_store_open_sqlite(self->path, flags, &store, &error), expected);
    if (strstr(error.message, says) == NULL) fail_msg("%s", error.message);
    assert_int_equal(sri_sha256_file(self->path, after, NULL), SR_OK);
    assert_string_equal(before, after);
    assert_int_equal(files_in(self->directory), files);
}

static void it_is_not_taken_over_by_a_reader_or_without_a_copy(void **state) {
    fixture *self = *state;
    char part[340], inside[360];
    run_sql(self->path, old_package);
    assert_left_alone(self, SRI_STORE_READ_ONLY, SR_ERR_READ_ONLY, "old Python package", 1);
    snprintf(part, sizeof part, "%s.part", self->copy);
    snprintf(inside, sizeof inside, "%s/x", part);
    assert_int_equal(mkdir(part, 0755), 0);
    assert_int_equal(mkdir(inside, 0755), 0);
    sri_store *store;
    sr_error error;
    assert_int_not_equal(sri_store_open_sqlite(self->path, 0, &store, &error), SR_OK);
    assert_non_null(strstr(error.message, "of which a copy is kept"));
    assert_int_equal(number_of(self->path, "SELECT count(*) FROM utterances WHERE embedding IS NOT"
                                           " NULL"),
                     2);
    rmdir(inside);
    rmdir(part);
    store = open_store(self, 0);
    assert_loads(store, 0, adopted);
    sri_store_close(&store);
}

static void what_merely_looks_like_it_is_left_alone(void **state) {
    fixture *self = *state;
    static const char *const others[] = {
        "CREATE TABLE notes (text)",
        "ALTER TABLE routes ADD COLUMN colour",
        "ALTER TABLE utterances RENAME COLUMN embedding TO vector",
        "CREATE VIEW v AS SELECT * FROM routes",
        "CREATE TRIGGER t AFTER INSERT ON routes BEGIN DELETE FROM routes; END",
        "PRAGMA user_version = 1",
        "DROP TABLE utterances",
    };
    for (size_t i = 0; i < SRI_COUNT(others); i++) {
        run_sql(self->path, old_package);
        run_sql(self->path, others[i]);
        assert_left_alone(self, 0, SR_ERR_DATABASE, "another program", 1);
        assert_int_equal(unlink(self->path), 0);
    }
}

/* Rows that the old package would not have written. */
static void rows_that_cannot_be_are_left_out(void **state) {
    fixture *self = *state;
    run_sql(self->path, old_package);
    run_sql(self->path,
            "INSERT INTO routes VALUES (' ', 0, NULL), (NULL, 0, NULL), (x'6161', 0, NULL),"
            " (CAST(x'ff' AS TEXT), 0, NULL), (hex(zeroblob(300)), 0, NULL), ('unset', NULL, "
            "'null');"
            "INSERT INTO utterances (route_name, utterance) VALUES ('greeting', ' '),"
            " ('greeting', NULL), ('greeting', x'61'), ('greeting', hex(zeroblob(40000)))");
    sri_store *store = open_store(self, 0);
    assert_loads(store, 0,
                 "1,8 : 1 parting[1 0.5]{\"a\":1,\"b\":\"x y\"}; 2 greeting[1 0.7]; 3 odd[1 1]; 4 "
                 "unset[0 0]; 2/5 hello; 1/6 good bye; 2/7 good morning; ");
    assert_int_equal(store->kind->verify(store, NULL), SR_OK);
    sri_store_close(&store);
}

int main(void) {
#define WITH_FILES(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FILES(a_database_of_the_first_schema_is_brought_up_to_date),
        WITH_FILES(an_incomplete_schema_is_damage),
        WITH_FILES(a_database_of_the_second_schema_keeps_all_it_has),
        WITH_FILES(a_reader_of_an_old_schema_goes_on_when_it_is_migrated),
        WITH_FILES(what_cannot_be_migrated_stays_as_it_was),
        WITH_FILES(a_database_of_the_old_package_is_taken_over),
        WITH_FILES(its_vectors_are_made_anew),
        WITH_FILES(a_copy_never_replaces_a_file),
        WITH_FILES(a_log_that_the_old_package_left_is_read),
        WITH_FILES(what_was_just_taken_over_is_ours),
        WITH_FILES(it_is_not_taken_over_by_a_reader_or_without_a_copy),
        WITH_FILES(what_merely_looks_like_it_is_left_alone),
        WITH_FILES(rows_that_cannot_be_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
