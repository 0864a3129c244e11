/* test_store.c - what is kept in the database, which files are refused, models, and other processes. */
#include "toy.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "store/store.h"

typedef struct fixture {
    toy toy;
    sr_encoder *encoder;
    char directory[256];
    char path[300]; /* of a database that is not there yet */
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    self->encoder = toy_open(&self->toy, "toy");
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
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

static sr_status try_open(const fixture *self, unsigned flags, sr_router **router,
                          sr_error *error) {
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = self->encoder,
                          .flags = flags,
                          .threads = 1};
    *router = NULL;
    return sr_router_open(&options, router, error);
}

static void refuse(const fixture *self, unsigned flags, sr_status expected, const char *says) {
    sr_router *router;
    sr_error error = {0};
    sr_status code = try_open(self, flags, &router, &error);
    if (code != expected)
        fail_msg("%s instead of %s: %s", sr_status_name(code), sr_status_name(expected),
                 error.message);
    if (strstr(error.message, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.message, says);
    assert_null(router);
}

static void run_sql(const char *path, const char *sql) {
    sqlite3 *db;
    char *message = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static void write_file(const char *path, const void *bytes, size_t len) {
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_int_equal(write(descriptor, bytes, len), len);
    close(descriptor);
}

static void digest(const char *path, char hex[65]) {
    assert_int_equal(sri_sha256_file(path, hex, NULL), SR_OK);
}

static int files_in(const char *path) {
    int count = 0;
    DIR *directory = opendir(path);
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count - 2;
}

/* Opening must fail so and leave the file as it was, with nothing beside it. */
static void refuse_and_leave_alone(const fixture *self, sr_status expected, const char *says) {
    char before[65], after[65];
    static const unsigned flags[] = {0, SR_OPEN_LAZY, SR_OPEN_READ_ONLY | SR_OPEN_LAZY,
                                     SR_OPEN_REENCODE};
    digest(self->path, before);
    for (size_t i = 0; i < SRI_COUNT(flags); i++) {
        refuse(self, flags[i], expected, says);
        digest(self->path, after);
        assert_string_equal(before, after);
        assert_int_equal(files_in(self->directory), 1);
    }
}

static void make_table(const fixture *self) {
    sr_router *router = toy_router(self->path, self->encoder, 0);
    assert_int_equal(toy_put(router, "greeting", "hello|good morning", SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    assert_int_equal(toy_put(router, "parting", "good bye", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_router_close(&router);
}

/* ---- Keeping ------------------------------------------------------------------------------------------------ */

static void a_table_comes_back_as_it_was(void **state) {
    fixture *self = *state;
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sr_str text = sr_str_of("na\xC3\xAFve \xF0\x9F\x91\x8B"), description = sr_str_of("d"),
           metadata = sr_str_of("[1]");
    sr_threshold threshold = {SR_THRESHOLD_CONFIDENCE, 0.3};
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of("r\xC3\xA9sum\xC3\xA9"),
                      .utterances = &text,
                      .utterance_count = 1,
                      .threshold = &threshold,
                      .description = &description,
                      .metadata = &metadata};
    assert_int_equal(sr_route_put(router, &route, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "b", "z|y|x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "c", "gone", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "b", "x|new|z", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "empty", "", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(sr_route_remove(router, sr_str_of("c"), NULL, NULL), SR_OK);
    char before[4096], after[4096];
    toy_dump(router, before, sizeof before);
    assert_non_null(strstr(before, "b:x|new|z;empty;"));
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
    int encoded = atomic_load(&self->toy.encoded);
    router = toy_router(self->path, self->encoder, SR_OPEN_EXISTING);
    toy_dump(router, after, sizeof after);
    assert_string_equal(before, after);
    sr_decisions *decisions;
    assert_int_equal(sr_decide(router, &text, 1, NULL, &decisions, NULL), SR_OK);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->candidates[0].utterance, text.data));
    assert_true(sr_decisions_get(decisions, 0)->score > 0.99999);
    assert_int_equal(sr_decisions_get(decisions, 0)->revision, 6);
    sr_decisions_free(&decisions);
    assert_int_equal(atomic_load(&self->toy.encoded),
                     encoded + 1); /* stored vectors, not new ones */
    sr_table *table;
    assert_int_equal(sr_table_read(router, &route.name, 1, &table, NULL), SR_OK);
    assert_true(toy_is(sr_table_route(table, 0)->metadata, "[1]"));
    assert_int_equal(sr_table_route(table, 0)->threshold.kind, SR_THRESHOLD_CONFIDENCE);
    sr_table_free(&table);
    sr_router_close(&router);
    assert_int_equal(files_in(self->directory), 1); /* the log is gone after the last close */
}

static void the_file_says_whose_it_is(void **state) {
    fixture *self = *state;
    make_table(self);
    sri_buffer file = {0};
    assert_int_equal(sri_read_file(self->path, 1 << 24, &file, NULL), SR_OK);
    assert_memory_equal(file.data + 68, "SR01", 4);
    assert_int_equal(file.data[63], 3);
    sri_buffer_free(&file);
}

static void info_describes_the_database(void **state) {
    fixture *self = *state;
    make_table(self);
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.routes, 2);
    assert_int_equal(info.utterances, 3);
    assert_int_equal(info.models, 1);
    assert_int_equal(info.revision, 2);
    assert_int_equal(info.schema, 3);
    assert_int_equal(info.dimension, TOY_DIMENSION);
    assert_int_equal(info.read_only, 0);
    assert_string_equal(info.stored_model, "toy");
    assert_string_equal(info.fingerprint, sr_encoder_fingerprint(self->encoder));
    assert_string_equal(info.database, self->path);
    sr_router_close(&router);
}

static void an_empty_file_becomes_a_database(void **state) {
    fixture *self = *state;
    write_file(self->path, "", 0);
    refuse(self, SR_OPEN_READ_ONLY, SR_ERR_FORMAT, "empty");
    make_table(self);
    sr_router *router = toy_router(self->path, self->encoder, 0);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;");
    sr_router_close(&router);
}

static void odd_file_names_work(void **state) {
    fixture *self = *state;
    char here[1024];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(self->directory), 0);
    static const char *const names[] = {"file:x?mode=memory.db", "a b%41#?.db", ":odd:"};
    for (size_t i = 0; i < SRI_COUNT(names); i++) {
        sr_router *router = toy_router(names[i], self->encoder, 0);
        assert_int_equal(toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
        sr_router_close(&router);
        assert_int_equal(access(names[i], F_OK), 0);
    }
    assert_int_equal(chdir(here), 0);
}

/* ---- Refusing ------------------------------------------------------------------------------------------------- */

static void files_that_are_no_database_are_left_alone(void **state) {
    fixture *self = *state;
    static const char text[] =
        "this is a text file, and a long enough one to be mistaken for a database if nobody "
        "looked at its first bytes\n";
    write_file(self->path, text, sizeof text - 1);
    refuse_and_leave_alone(self, SR_ERR_FORMAT, "not a database");
    write_file(self->path, "SQLite format 3", 16);
    refuse_and_leave_alone(self, SR_ERR_FORMAT, "not a database");
    unlink(self->path);
    assert_int_equal(mkdir(self->path, 0755), 0);
    refuse(self, 0, SR_ERR_FORMAT, "directory");
    rmdir(self->path);
    assert_int_equal(mkfifo(self->path, 0644), 0);
    refuse(self, 0, SR_ERR_FORMAT, "regular");
    unlink(self->path);
    refuse(self, SR_OPEN_EXISTING, SR_ERR_NOT_FOUND, "no database");
    refuse(self, SR_OPEN_READ_ONLY, SR_ERR_NOT_FOUND, "no database");
    assert_int_equal(files_in(self->directory), 0);
    snprintf(self->path, sizeof self->path, "%s/no/such/routes.db", self->directory);
    refuse(self, 0, SR_ERR_NOT_FOUND, "no directory");
}

static void databases_of_other_programs_are_left_alone(void **state) {
    fixture *self = *state;
    run_sql(self->path, "CREATE TABLE bookmarks (url TEXT); INSERT INTO bookmarks VALUES ('x')");
    refuse_and_leave_alone(self, SR_ERR_DATABASE, "another program");
    unlink(self->path);
    run_sql(self->path, "PRAGMA journal_mode = WAL; CREATE TABLE routes (id)");
    refuse_and_leave_alone(self, SR_ERR_DATABASE, "another program");
    unlink(self->path);
    run_sql(self->path, "PRAGMA application_id = 77; VACUUM");
    refuse_and_leave_alone(self, SR_ERR_DATABASE, "another program");
    unlink(self->path);
    run_sql(self->path, "PRAGMA user_version = 3; VACUUM");
    refuse_and_leave_alone(self, SR_ERR_DATABASE, "another program");
    unlink(self->path);
    run_sql(self->path, "VACUUM"); /* a database without anything in it may be had */
    make_table(self);
}

static void a_newer_schema_is_left_alone(void **state) {
    fixture *self = *state;
    make_table(self);
    run_sql(self->path, "PRAGMA user_version = 4");
    refuse_and_leave_alone(self, SR_ERR_DATABASE, "newer version");
}

static void truncated_databases_are_left_alone(void **state) {
    fixture *self = *state;
    make_table(self);
    sri_buffer file = {0};
    assert_int_equal(sri_read_file(self->path, 1 << 24, &file, NULL), SR_OK);
    for (size_t len = 100; len < file.len; len += file.len / 7) {
        write_file(self->path, file.data, len);
        refuse_and_leave_alone(self, SR_ERR_FORMAT, "truncated");
    }
    sri_buffer_free(&file);
}

/* Whatever bytes are overwritten, there is an answer, never a crash. */
static void damaged_databases_give_errors(void **state) {
    fixture *self = *state;
    make_table(self);
    sri_buffer file = {0};
    assert_int_equal(sri_read_file(self->path, 1 << 24, &file, NULL), SR_OK);
    uint32_t random = 7;
    for (int round = 0; round < 150; round++) {
        char *copy = malloc(file.len);
        memcpy(copy, file.data, file.len);
        for (int i = 0; i < 24; i++) {
            random = random * 1664525u + 1013904223u;
            copy[100 + (random >> 7) % (file.len - 100)] = (char)(random >> 3);
        }
        write_file(self->path, copy, file.len);
        free(copy);
        sr_router *router;
        sr_error error = {0};
        sr_status code = try_open(self, 0, &router, &error);
        if (code == SR_OK) {
            sr_status verified = sr_router_verify(router, &error);
            assert_true(verified == SR_OK || verified == SR_ERR_FORMAT);
        } else if (code != SR_ERR_FORMAT && code != SR_ERR_DATABASE && code != SR_ERR_MODEL) {
            fail_msg("%s: %s", sr_status_name(code), error.message);
        }
        sr_router_close(&router);
    }
    sri_buffer_free(&file);
}

static void verify_finds_what_is_wrong(void **state) {
    fixture *self = *state;
    static const char *const damages[][2] = {
        {"UPDATE vectors SET vector = zeroblob(length(vector)) WHERE id = 3 * 64 + 1", "length 0"},
        {"UPDATE vectors SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB) WHERE id = "
         "129",
         "length nan"},
        {"UPDATE vectors SET vector = x'00' WHERE id = 129", "another length than its model's"},
        {"DELETE FROM vectors WHERE id = 129", "a code has no vector"},
        {"DELETE FROM codes WHERE id = 129", "a vector has no code"},
        {"UPDATE codes SET code = (SELECT code FROM codes WHERE id = 193) WHERE id = 129",
         "the code of utterance 2 is not that of its vector"},
        {"UPDATE meta SET value = 1 WHERE key = 'next_id'", "next_id"},
        {"DELETE FROM meta WHERE key = 'revision'", "revision or next_id is missing"},
        {"UPDATE meta SET value = 99 WHERE key = 'log_since'", "log_since"},
        {"DELETE FROM routes WHERE id = 1", "refers to a route that is not there"},
        {"DELETE FROM utterances WHERE id = 2", "refers to an utterance"},
        {"DELETE FROM models", "or a model that is not there"},
        {"UPDATE routes SET name = 'greeting'", "a route is there twice"},
        {"UPDATE utterances SET route = 1, text = 'hello'", "an utterance is there twice"},
        {"UPDATE routes SET threshold = 7", "impossible threshold"},
        {"INSERT INTO log VALUES (1, 1, 4, 1, 1)", "impossible one"},
        {"INSERT INTO log VALUES (1, 2, 1, 1, 1), (2, 1, 1, 1, 1)", "out of order"},
    };
    for (size_t i = 0; i < SRI_COUNT(damages); i++) {
        make_table(self);
        sr_router *router = toy_router(self->path, self->encoder, SR_OPEN_LAZY);
        sr_error error = {0};
        assert_int_equal(sr_router_verify(router, &error), SR_OK);
        run_sql(self->path, damages[i][0]);
        assert_int_equal(sr_router_verify(router, &error), SR_ERR_FORMAT);
        if (strcasestr(error.message, damages[i][1]) == NULL) fail_msg("%s", error.message);
        sr_router_close(&router);
        unlink(self->path);
    }
}

static void a_vector_of_another_length_is_refused(void **state) {
    fixture *self = *state;
    make_table(self);
    run_sql(self->path, "UPDATE codes SET code = x'0000803f' WHERE id = 129");
    refuse(self, 0, SR_ERR_FORMAT, "4 bytes instead of 68");
}

static int stop_at_once(void *user, uint64_t done, uint64_t total) {
    (void)user, (void)done, (void)total;
    return 1;
}

/* ---- The fit ------------------------------------------------------------------------------------------------------ */

static void save(sri_store *store, uint64_t revision, const char *bytes, uint64_t expected) {
    sri_store_fit fit = {.revision = revision,
                         .kind = SR_FIT_HEADS,
                         .max_oos_accepted = 0.02,
                         .min_precision = NAN,
                         .auto_threshold = 0.5,
                         .fast_share = NAN};
    uint64_t serial = 99;
    memset(fit.model, 'a', 64);
    assert_true(sri_buffer_append(&fit.routes, "0123456789abcdef", 16));
    assert_true(sri_buffer_append_str(&fit.bytes, bytes));
    assert_int_equal(store->kind->save_fit(store, &fit, &serial, NULL), SR_OK);
    assert_int_equal(serial, expected);
    sri_store_fit_free(&fit);
}

static void assert_fit(sri_store *store, bool whole, uint64_t revision, const char *bytes) {
    sri_store_fit fit;
    assert_int_equal(store->kind->load_fit(store, whole, &fit, NULL), SR_OK);
    assert_int_equal(fit.revision, revision);
    assert_int_equal(fit.kind, SR_FIT_HEADS);
    assert_int_equal(strlen(fit.model), 64);
    assert_string_equal(fit.fast, "");
    assert_true(fit.max_oos_accepted == 0.02 && fit.auto_threshold == 0.5);
    assert_true(isnan(fit.min_precision) && isnan(fit.fast_share));
    assert_int_equal(fit.routes.len, 16);
    assert_int_equal(fit.bytes.len, whole ? strlen(bytes) : 0);
    if (whole) assert_memory_equal(fit.bytes.data, bytes, strlen(bytes));
    sri_store_fit_free(&fit);
}

static void a_fit_of_an_older_table_does_not_replace_a_newer_one(void **state) {
    fixture *self = *state;
    make_table(self);
    sri_store *store = NULL, *other = NULL;
    uint64_t revision, serial;
    assert_int_equal(sri_store_open_sqlite(self->path, 0, &store, NULL), SR_OK);
    assert_int_equal(sri_store_open_sqlite(self->path, SRI_STORE_READ_ONLY, &other, NULL), SR_OK);
    assert_int_equal(other->kind->revision(other, &revision, &serial, NULL), SR_OK);
    assert_int_equal(serial, 0);
    save(store, 1, "first", 1);
    assert_fit(other, true, 1, "first");
    save(store, 2, "second", 2);
    save(store, 1, "late", 0);
    assert_fit(other, true, 2, "second");
    save(store, 2, "again", 3); /* of the same table, with other labelled texts perhaps */
    assert_fit(other, true, 2, "again");
    assert_fit(other, false, 2, "again");
    assert_int_equal(other->kind->revision(other, &revision, &serial, NULL), SR_OK);
    assert_int_equal(revision, 2);
    assert_int_equal(serial, 3);
    assert_int_equal(store->kind->verify(store, NULL), SR_OK);
    sri_store_close(&store);
    sri_store_close(&other);
    /* A change of the table leaves it. */
    sr_router *router = toy_router(self->path, self->encoder, 0);
    assert_int_equal(sr_route_remove(router, sr_str_of("parting"), NULL, NULL), SR_OK);
    sr_router_close(&router);
    assert_int_equal(sri_store_open_sqlite(self->path, 0, &store, NULL), SR_OK);
    assert_fit(store, true, 2, "again");
    run_sql(self->path, "UPDATE fits SET revision = 77");
    sr_error error;
    assert_int_equal(store->kind->verify(store, &error), SR_ERR_FORMAT);
    assert_non_null(strstr(error.message, "the fit has an impossible revision"));
    sri_store_close(&store);
}

/* ---- A database that is still to be made ---------------------------------------------------------------------- */

/* Nothing but a change that is stored makes the file. */
static void what_fails_leaves_no_database(void **state) {
    fixture *self = *state;
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sr_error error;
    sr_fit_report *report = NULL;
    toy_assert_table(router, "");
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    assert_int_equal(sr_fit(router, NULL, &report, NULL), SR_OK);
    sr_fit_report_free(&report);
    assert_int_equal(sr_route_remove(router, sr_str_of("a"), NULL, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(toy_put(router, "a", " ", SR_PUT_REPLACE, NULL, &error), SR_ERR_INVALID);
    atomic_store(&self->toy.fail, 1);
    assert_int_equal(toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, &error), SR_ERR_CALLBACK);
    atomic_store(&self->toy.fail, 0);
    sr_put_options stopped = {.size = sizeof stopped, .progress = stop_at_once};
    sr_str text = sr_str_of("x");
    sr_route route = {
        .size = sizeof route, .name = text, .utterances = &text, .utterance_count = 1};
    assert_int_equal(sr_routes_put(router, &route, 1, &stopped, NULL, &error), SR_ERR_CANCELLED);
    assert_int_equal(files_in(self->directory), 0);
    /* What another makes meanwhile is seen, and not made again. */
    make_table(self);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;");
    assert_int_equal(sr_route_put(router, &route, NULL, NULL), SR_OK);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;x:x;");
    sr_router_close(&router);
}

static void two_routers_make_one_database(void **state) {
    fixture *self = *state;
    sr_router *first = toy_router(self->path, self->encoder, 0);
    sr_router *second = toy_router(self->path, self->encoder, SR_OPEN_LAZY);
    assert_int_equal(toy_put(first, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(second, "b", "y", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    toy_assert_table(first, "a:x;b:y;");
    toy_assert_table(second, "a:x;b:y;");
    sr_router_close(&first);
    sr_router_close(&second);
}

/* ---- Models ------------------------------------------------------------------------------------------------------ */

static int count_progress(void *user, uint64_t done, uint64_t total) {
    uint64_t *seen = user;
    seen[0] = done;
    seen[1] = total;
    return 0;
}

static void another_model_is_never_mixed_in(void **state) {
    fixture *self = *state;
    make_table(self);
    toy other_toy = {.salt = 5};
    sr_encoder *first = self->encoder, *other = toy_open(&other_toy, "other");
    self->encoder = other;
    refuse(self, 0, SR_ERR_MODEL, "--reencode");
    refuse(self, 0, SR_ERR_MODEL, "toy");
    refuse(self, SR_OPEN_REENCODE | SR_OPEN_READ_ONLY, SR_ERR_READ_ONLY, "cannot be written");
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = other,
                          .flags = SR_OPEN_REENCODE,
                          .progress = stop_at_once};
    sr_router *router;
    sr_error error;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_CANCELLED);
    refuse(self, 0, SR_ERR_MODEL, "toy");
    uint64_t seen[2] = {0};
    options.progress = count_progress;
    options.progress_user = seen;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_OK);
    assert_int_equal(seen[0], 3);
    assert_int_equal(seen[1], 3);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.models, 2);
    assert_string_equal(info.stored_model, "other");
    assert_int_equal(info.revision, 2);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;");
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
    /* The first model's vectors are still there: nothing is encoded. */
    int encoded = atomic_load(&self->toy.encoded);
    self->encoder = first;
    router = toy_router(self->path, first, 0);
    assert_int_equal(atomic_load(&self->toy.encoded), encoded);
    /* What one model adds, the other lacks, and says so. */
    assert_int_equal(toy_put(router, "parting", "farewell", SR_PUT_EXTEND, NULL, NULL), SR_OK);
    sr_router_close(&router);
    self->encoder = other;
    refuse(self, 0, SR_ERR_MODEL, "1 of 4");
    encoded = atomic_load(&other_toy.encoded);
    router = toy_router(self->path, other, SR_OPEN_REENCODE);
    assert_int_equal(atomic_load(&other_toy.encoded), encoded + 1);
    /* A new order of a route keeps both models' vectors. */
    assert_int_equal(toy_put(router, "greeting", "good morning|hello", SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    sr_router_close(&router);
    self->encoder = first;
    router = toy_router(self->path, first, 0);
    toy_assert_table(router, "greeting:good morning|hello;parting:good bye|farewell;");
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
    sr_encoder_close(&other);
}

static int reencode_too(void *user, uint64_t done, uint64_t total) {
    (void)done, (void)total;
    fixture *self = user;
    toy own = {.salt = 5};
    sr_encoder *encoder = toy_open(&own, "other");
    sr_router *router = toy_router(self->path, encoder, SR_OPEN_REENCODE);
    assert_int_equal(toy_put(router, "late", "arrival", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

/* While one process encodes anew, another does the same and adds a route. */
static void encoding_anew_in_two_processes_ends_well(void **state) {
    fixture *self = *state;
    make_table(self);
    toy other_toy = {.salt = 5};
    sr_encoder *other = toy_open(&other_toy, "other");
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = other,
                          .flags = SR_OPEN_REENCODE,
                          .progress = reencode_too,
                          .progress_user = self};
    sr_router *router;
    sr_error error = {0};
    if (sr_router_open(&options, &router, &error) != SR_OK) fail_msg("%s", error.message);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;late:arrival;");
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
    sr_encoder_close(&other);
}

static void a_lazy_router_needs_no_model_for_what_needs_no_vectors(void **state) {
    fixture *self = *state;
    make_table(self);
    /* A model that cannot be opened: every attempt to load it would fail. */
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .model = "/nonexistent/model",
                          .flags = SR_OPEN_LAZY};
    sr_router *router;
    sr_error error;
    sr_str text = sr_str_of("hello"), blank = sr_str_of(" ");
    sr_decisions *decisions;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_OK);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;");
    assert_int_equal(sr_decide(router, &text, 1, NULL, &decisions, &error), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_decide(router, &blank, 1, NULL, &decisions, &error), SR_OK);
    sr_decisions_free(&decisions);
    assert_int_equal(toy_put(router, "new", "text", SR_PUT_REPLACE, NULL, &error),
                     SR_ERR_NOT_FOUND);
    sr_threshold threshold = {SR_THRESHOLD_COSINE, 0.8};
    sr_route change = {
        .size = sizeof change, .name = sr_str_of("parting"), .threshold = &threshold};
    sr_put_options extend = {.size = sizeof extend, .mode = SR_PUT_EXTEND};
    assert_int_equal(sr_routes_put(router, &change, 1, &extend, NULL, &error), SR_OK);
    assert_int_equal(sr_utterances_remove(router, sr_str_of("greeting"), &text, 1, NULL, &error),
                     SR_OK);
    assert_int_equal(sr_route_remove(router, sr_str_of("greeting"), NULL, &error), SR_OK);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.dimension, 0);
    assert_int_equal(info.threads, 0);
    assert_string_equal(info.model, "");
    assert_string_equal(info.stored_model, "toy");
    sr_router_close(&router);
    router = toy_router(self->path, self->encoder, SR_OPEN_LAZY);
    assert_int_equal(sr_decide(router, &text, 1, NULL, &decisions, &error), SR_OK);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->candidates[0].route, "parting"));
    sr_decisions_free(&decisions);
    sr_router_close(&router);
}

static void a_lazy_router_in_memory_keeps_what_came_before_the_model(void **state) {
    fixture *self = *state;
    sr_router *router = toy_router(NULL, self->encoder, SR_OPEN_LAZY);
    assert_int_equal(toy_put(router, "early", "", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "late", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "early", "x", SR_PUT_EXTEND, NULL, NULL), SR_OK);
    toy_assert_table(router, "early:x;late:x;");
    sr_str text = sr_str_of("x");
    sr_decisions *decisions;
    assert_int_equal(sr_decide(router, &text, 1, NULL, &decisions, NULL), SR_OK);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->route, "early"));
    sr_decisions_free(&decisions);
    sr_router_close(&router);
}

/* ---- Others on the same file --------------------------------------------------------------------------------------- */

static void a_router_sees_what_another_wrote_before_it_writes(void **state) {
    fixture *self = *state;
    sr_router *one = toy_router(self->path, self->encoder, 0),
              *two = toy_router(self->path, self->encoder, 0);
    assert_int_equal(toy_put(one, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_receipt receipt;
    assert_int_equal(toy_put(two, "a", "x|y", SR_PUT_EXTEND, &receipt, NULL), SR_OK);
    assert_int_equal(receipt.duplicates, 1);
    assert_int_equal(receipt.revision, 2);
    toy_assert_table(two, "a:x|y;");
    assert_int_equal(sr_route_remove(one, sr_str_of("a"), &receipt, NULL), SR_OK);
    assert_int_equal(receipt.utterances_removed, 2);
    sr_error error;
    assert_int_equal(sr_route_remove(two, sr_str_of("a"), NULL, &error), SR_ERR_NOT_FOUND);
    toy_assert_table(two, "");
    assert_int_equal(sr_router_verify(two, NULL), SR_OK);
    sr_router_close(&one);
    sr_router_close(&two);
}

/* A router whose model lacks what another one added says so; it answers again when that is gone. */
static void utterances_of_another_model_stop_a_reader(void **state) {
    fixture *self = *state;
    make_table(self);
    sr_router *reader = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    toy other = {.salt = 3};
    sr_encoder *encoder = toy_open(&other, "other");
    sr_router *writer = toy_router(self->path, encoder, SR_OPEN_REENCODE);
    assert_int_equal(toy_put(writer, "new", "something else", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_str text = sr_str_of("hello");
    sr_decisions *decisions;
    sr_error error;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sr_decide(reader, &text, 1, NULL, &decisions, &error), SR_ERR_MODEL);
        assert_non_null(strstr(error.message, "1 of 4 utterances"));
    }
    assert_int_equal(sr_route_remove(writer, sr_str_of("new"), NULL, NULL), SR_OK);
    assert_int_equal(sr_decide(reader, &text, 1, NULL, &decisions, &error), SR_OK);
    assert_true(toy_is(sr_decisions_get(decisions, 0)->route, "greeting"));
    sr_decisions_free(&decisions);
    sr_router_close(&reader);
    sr_router_close(&writer);
    sr_encoder_close(&encoder);
}

static int write_many(const fixture *self, char who) {
    toy own = {0};
    sr_encoder *encoder = toy_open(&own, "toy");
    sr_router *router = toy_router(self->path, encoder, 0);
    int failures = 0;
    for (int i = 0; i < 40; i++) {
        char name[16], text[48];
        snprintf(name, sizeof name, "shared%d", i % 4);
        snprintf(text, sizeof text, "%c %d|both %d", who, i, i);
        failures += toy_put(router, name, text, SR_PUT_EXTEND, NULL, NULL) != SR_OK;
    }
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return failures;
}

static void two_processes_write_one_file(void **state) {
    fixture *self = *state;
    make_table(self);
    pid_t child = fork();
    if (child == 0) _exit(write_many(self, 'c'));
    assert_int_equal(write_many(self, 'p'), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.routes, 2 + 4);
    assert_int_equal(info.utterances, 3 + 120); /* 40 of each and 40 that both added, once */
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
}

/* Reads the database as a file without a log beside it. */
static void read_whole(const fixture *self, sri_buffer *file) {
    run_sql(self->path, "PRAGMA journal_mode = DELETE");
    assert_int_equal(sri_read_file(self->path, 1 << 24, file, NULL), SR_OK);
}

/* Lets the file grow from `small` to `large` again and again, as SQLite does: the pages before the head that
 * counts them. */
static void grow_for_ever(const fixture *self, const sri_buffer *small, const sri_buffer *large) {
    char aside[320];
    snprintf(aside, sizeof aside, "%s.aside", self->path);
    for (;;) {
        write_file(aside, small->data, small->len);
        if (rename(aside, self->path) != 0) _exit(1);
        int file = open(self->path, O_RDWR);
        size_t tail = large->len - 8192;
        if (pwrite(file, large->data + 8192, tail, 8192) != (ssize_t)tail) _exit(1);
        if (pwrite(file, large->data, 8192, 0) != 8192) _exit(1);
        close(file);
    }
}

static void a_database_that_grows_is_not_called_truncated(void **state) {
    fixture *self = *state;
    sri_buffer small = {0}, large = {0};
    make_table(self);
    read_whole(self, &small);
    run_sql(self->path, "UPDATE routes SET description = hex(randomblob(30000))");
    read_whole(self, &large);
    assert_true(large.len > small.len);
    pid_t child = fork();
    if (child == 0) grow_for_ever(self, &small, &large);
    bool truncated = false;
    for (int i = 0; i < 1500 && !truncated; i++) {
        sr_router *router;
        sr_error error = {0};
        sr_status code = try_open(self, SR_OPEN_READ_ONLY | SR_OPEN_LAZY, &router, &error);
        truncated = code != SR_OK && strstr(error.message, "truncated") != NULL;
        sr_router_close(&router);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    sri_buffer_free(&small);
    sri_buffer_free(&large);
    assert_false(truncated);
}

/* Leaves a journal that has to be rolled back, as a kill in the moment of making the database does. */
static void interrupt_a_change(const char *path) {
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db;
        sqlite3_open(path, &db);
        sqlite3_exec(db,
                     "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN;"
                     "UPDATE routes SET description = hex(randomblob(200000));"
                     "UPDATE routes SET description = hex(randomblob(200000))",
                     NULL, NULL, NULL);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
}

static void an_interrupted_change_is_not_called_damage(void **state) {
    fixture *self = *state;
    char journal[320];
    struct stat status;
    make_table(self);
    interrupt_a_change(self->path);
    snprintf(journal, sizeof journal, "%s-journal", self->path);
    assert_int_equal(stat(journal, &status), 0);
    refuse(self, SR_OPEN_READ_ONLY, SR_ERR_READ_ONLY,
           "a change to it was interrupted; open it once");
    sr_router *router = toy_router(self->path, self->encoder, 0);
    toy_assert_table(router, "greeting:hello|good morning;parting:good bye;");
    sr_router_close(&router);
    router = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    sr_router_close(&router);
}

/* The first moment of a database is an empty file. */
static void a_reader_waits_for_a_database_that_is_being_made(void **state) {
    fixture *self = *state;
    write_file(self->path, "", 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(30000);
        sr_router *router = toy_router(self->path, self->encoder, 0);
        sr_router_close(&router);
        _exit(0);
    }
    sr_router *reader = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    toy_assert_table(reader, "");
    sr_router_close(&reader);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void) {
#define WITH_FILES(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FILES(a_table_comes_back_as_it_was),
        WITH_FILES(the_file_says_whose_it_is),
        WITH_FILES(info_describes_the_database),
        WITH_FILES(an_empty_file_becomes_a_database),
        WITH_FILES(odd_file_names_work),
        WITH_FILES(files_that_are_no_database_are_left_alone),
        WITH_FILES(databases_of_other_programs_are_left_alone),
        WITH_FILES(a_newer_schema_is_left_alone),
        WITH_FILES(truncated_databases_are_left_alone),
        WITH_FILES(damaged_databases_give_errors),
        WITH_FILES(verify_finds_what_is_wrong),
        WITH_FILES(a_vector_of_another_length_is_refused),
        WITH_FILES(a_fit_of_an_older_table_does_not_replace_a_newer_one),
        WITH_FILES(what_fails_leaves_no_database),
        WITH_FILES(two_routers_make_one_database),
        WITH_FILES(another_model_is_never_mixed_in),
        WITH_FILES(encoding_anew_in_two_processes_ends_well),
        WITH_FILES(a_lazy_router_needs_no_model_for_what_needs_no_vectors),
        WITH_FILES(a_lazy_router_in_memory_keeps_what_came_before_the_model),
        WITH_FILES(a_router_sees_what_another_wrote_before_it_writes),
        WITH_FILES(utterances_of_another_model_stop_a_reader),
        WITH_FILES(two_processes_write_one_file),
        WITH_FILES(a_database_that_grows_is_not_called_truncated),
        WITH_FILES(an_interrupted_change_is_not_called_damage),
        WITH_FILES(a_reader_waits_for_a_database_that_is_being_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
