/* test_store_groups.c - what a store promises the router: groups, what others changed, rows by id, a bounded log. */
#include "toy.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"
#include "index/index.h"
#include "store/store.h"

#define DIMENSION 16
#define MODEL                                                                                      \
    &(sri_store_model) { fingerprint, "toy", DIMENSION }

static const char fingerprint[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char another_fingerprint[] =
    "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

typedef struct fixture {
    char directory[256];
    char path[300];
    sri_store *store;
} fixture;

static int set_up(void **state) {
    fixture *self = calloc(1, sizeof *self);
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    assert_int_equal(sri_store_open_sqlite(self->path, 0, &self->store, NULL), SR_OK);
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    fixture *self = *state;
    sri_store_close(&self->store);
    toy_remove_directory(self->directory);
    free(self);
    return 0;
}

/* ---- A table of numbers ------------------------------------------------------------------------------------ */

/* The unit vector of an utterance, another for each salt. */
static void vector_of(uint64_t utterance, int salt, float vector[DIMENSION]) {
    double sum = 0;
    for (int i = 0; i < DIMENSION; i++) {
        vector[i] = sinf((float)(utterance % 1000) * 0.37f + (float)(i + salt * 3)) + 0.01f;
        sum += (double)vector[i] * vector[i];
    }
    for (int i = 0; i < DIMENSION; i++) vector[i] = (float)(vector[i] / sqrt(sum));
}

static sri_store *open_another(const fixture *self, unsigned flags) {
    sri_store *store = NULL;
    sr_error error;
    if (sri_store_open_sqlite(self->path, flags, &store, &error) != SR_OK)
        fail_msg("%s", error.message);
    return store;
}

static void begin(sri_store *store, uint64_t expected) {
    uint64_t revision, fit;
    sr_error error;
    if (store->kind->begin(store, &revision, &fit, &error) != SR_OK) fail_msg("%s", error.message);
    assert_int_equal(revision, expected);
}

/* Writes changes as the next revision; text and vector of an added utterance follow from its id. */
static sr_status write_as(sri_store *store, const sri_store_model *model, uint64_t revision,
                          uint64_t next_id, sri_change *changes, size_t count, sr_error *error) {
    static char texts[64][32];
    static float vectors[64][DIMENSION];
    assert_true(count <= 64);
    for (size_t i = 0; i < count; i++) {
        sri_change *change = &changes[i];
        if (change->kind == SRI_ADD_UTTERANCE || change->kind == SRI_ADD_VECTOR) {
            vector_of(change->utterance, model->fingerprint == fingerprint ? 0 : 1, vectors[i]);
            change->vector = vectors[i];
        }
        bool route = change->kind == SRI_ADD_ROUTE || change->kind == SRI_SET_ROUTE;
        snprintf(texts[i], sizeof texts[i], "%s%d", route ? "r" : "u",
                 (int)(route ? change->route : change->utterance));
        change->text = sr_str_of(texts[i]);
        if (change->description.data == NULL) change->description = sr_str_of("");
        if (change->metadata.data == NULL) change->metadata = sr_str_of("");
    }
    sri_commit commit = {.new_revision = revision,
                         .next_id = next_id,
                         .model = model,
                         .changes = changes,
                         .count = count};
    return store->kind->write(store, &commit, error);
}

static void write_ok(sri_store *store, uint64_t revision, uint64_t next_id, sri_change *changes,
                     size_t count) {
    sr_error error = {0};
    if (write_as(store, MODEL, revision, next_id, changes, count, &error) != SR_OK)
        fail_msg("%s", error.message);
}

static void commit(sri_store *store) {
    sr_error error;
    if (store->kind->commit(store, false, &error) != SR_OK) fail_msg("%s", error.message);
}

/* Route 1 with utterances 2 and 3, route 4 with utterance 5. Revision 1, next id 6. */
static void make_table(sri_store *store) {
    sri_change changes[] = {
        {.kind = SRI_ADD_ROUTE, .route = 1, .threshold = {SR_THRESHOLD_COSINE, 0.5}},
        {.kind = SRI_ADD_ROUTE, .route = 4},
        {.kind = SRI_ADD_UTTERANCE, .route = 1, .utterance = 2},
        {.kind = SRI_ADD_UTTERANCE, .route = 1, .utterance = 3},
        {.kind = SRI_ADD_UTTERANCE, .route = 4, .utterance = 5},
    };
    begin(store, 0);
    write_ok(store, 1, 6, changes, SRI_COUNT(changes));
    commit(store);
}

/* ---- Reading it as text ---------------------------------------------------------------------------------------- */

typedef struct reading {
    char text[2048];
    const char *model;
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
    say(user, "%d,%d: ", (int)state->revision, (int)state->next_id);
    return SR_OK;
}

static sr_status on_route(void *user, const sri_store_route *route, sr_error *error) {
    (void)error;
    say(user, "route %d %.*s%s%.*s; ", (int)route->id, (int)route->name.len, route->name.data,
        route->description.len > 0 ? " " : "", (int)route->description.len,
        route->description.data);
    return SR_OK;
}

static sr_status on_route_set(void *user, const sri_store_route *route, sr_error *error) {
    say(user, "set ");
    return on_route(user, route, error);
}

static sr_status on_utterance(void *user, uint64_t id, uint64_t route, sr_str text,
                              sr_error *error) {
    (void)error;
    say(user, "%.*s %d in %d; ", (int)text.len, text.data, (int)id, (int)route);
    return SR_OK;
}

/* Moved utterances keep the vector of their first id; the table in these tests moves 2 to 6. */
static sr_status on_code(void *user, uint64_t utterance, const uint8_t *code, sr_error *error) {
    (void)error;
    reading *self = user;
    float vector[DIMENSION];
    uint8_t expected[4 * DIMENSION + 64];
    vector_of(utterance == 6 ? 2 : utterance, self->model == fingerprint ? 0 : 1, vector);
    sri_index_encode(vector, DIMENSION, expected);
    bool right = memcmp(code, expected, sri_index_code_bytes(DIMENSION)) == 0;
    say(self, "%s %d; ", right ? "code" : "WRONG", (int)utterance);
    return SR_OK;
}

static sr_status on_utterance_gone(void *user, uint64_t id, uint64_t route, sr_error *error) {
    (void)error;
    say(user, "%d of %d gone; ", (int)id, (int)route);
    return SR_OK;
}

static sr_status on_route_gone(void *user, uint64_t id, sr_error *error) {
    (void)error;
    say(user, "route %d gone; ", (int)id);
    return SR_OK;
}

static void assert_loads(sri_store *store, const char *model, const char *expected) {
    reading got = {.model = model};
    sri_store_sink sink = {.user = &got,
                           .begin = on_begin,
                           .route = on_route,
                           .utterance = on_utterance,
                           .code = on_code};
    sr_error error;
    if (store->kind->load(store, model, DIMENSION, &sink, &error) != SR_OK)
        fail_msg("%s", error.message);
    assert_string_equal(got.text, expected);
}

/* NULL: the whole is to be loaded. */
static void assert_news(sri_store *store, uint64_t revision, uint64_t next_id,
                        const char *expected) {
    reading got = {.model = fingerprint};
    sri_store_news news = {.user = &got,
                           .begin = on_begin,
                           .utterance_gone = on_utterance_gone,
                           .route_gone = on_route_gone,
                           .route_set = on_route_set,
                           .route = on_route,
                           .utterance = on_utterance,
                           .code = on_code};
    bool whole;
    sr_error error;
    if (store->kind->changes(store, revision, next_id, fingerprint, DIMENSION, &news, &whole,
                             &error) != SR_OK)
        fail_msg("%s", error.message);
    assert_int_equal(whole, expected == NULL);
    assert_string_equal(got.text, expected == NULL ? "" : expected);
}

static void assert_verifies(sri_store *store) {
    sr_error error;
    if (store->kind->verify(store, &error) != SR_OK) fail_msg("%s", error.message);
}

static const char first_table[] =
    "1,6: route 1 r1; route 4 r4; u2 2 in 1; u3 3 in 1; u5 5 in 4; code 2; code 3; code 5; ";

/* ---- Groups ------------------------------------------------------------------------------------------------------ */

static void a_group_is_seen_by_others_whole_or_not_at_all(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_store *other = open_another(self, SRI_STORE_READ_ONLY);
    sri_change first = {.kind = SRI_ADD_ROUTE, .route = 6};
    sri_change second[] = {{.kind = SRI_REMOVE_UTTERANCE, .utterance = 3},
                           {.kind = SRI_ADD_UTTERANCE, .route = 6, .utterance = 7}};
    begin(self->store, 1);
    write_ok(self->store, 2, 7, &first, 1);
    write_ok(self->store, 3, 8, second, 2);
    assert_loads(other, fingerprint, first_table);
    static const char expected[] = "3,8: route 1 r1; route 4 r4; route 6 r6; u2 2 in 1; u5 5 in 4; "
                                   "u7 7 in 6; code 2; code 5; code 7; ";
    uint64_t revision, fit;
    assert_int_equal(self->store->kind->revision(self->store, &revision, &fit, NULL), SR_OK);
    assert_int_equal(revision, 3); /* the group sees itself */
    assert_loads(self->store, fingerprint, expected);
    commit(self->store);
    assert_loads(other, fingerprint, expected);
    assert_verifies(other);
    sri_store_close(&other);
}

static void a_group_that_is_rolled_back_leaves_nothing(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_change change = {.kind = SRI_REMOVE_UTTERANCE, .utterance = 3};
    begin(self->store, 1);
    write_ok(self->store, 2, 6, &change, 1);
    self->store->kind->rollback(self->store);
    assert_loads(self->store, fingerprint, first_table);
    begin(self->store, 1);
    commit(self->store); /* an empty one */
    assert_loads(self->store, fingerprint, first_table);
    assert_verifies(self->store);
}

static void a_failed_write_dooms_its_group(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_change good = {.kind = SRI_ADD_ROUTE, .route = 6};
    sri_change bad = {.kind = SRI_REMOVE_UTTERANCE, .utterance = 99};
    sr_error error;
    for (int ends = 0; ends < 2; ends++) {
        begin(self->store, 1);
        write_ok(self->store, 2, 7, &good, 1);
        assert_int_equal(write_as(self->store, MODEL, 3, 7, &bad, 1, &error), SR_ERR_FORMAT);
        assert_non_null(strstr(error.message, "a row that should be there is not"));
        assert_int_equal(write_as(self->store, MODEL, 3, 7, &good, 1, &error), SR_ERR_IO);
        if (ends == 0)
            self->store->kind->rollback(self->store);
        else
            assert_int_equal(self->store->kind->commit(self->store, false, &error), SR_ERR_IO);
        assert_loads(self->store, fingerprint, first_table);
    }
}

static int wait_for_a_group(const fixture *self, int pipe) {
    char go;
    uint64_t revision = 0, fit;
    if (read(pipe, &go, 1) != 1) return 1;
    sri_store *store = open_another(self, 0);
    sr_status code = store->kind->begin(store, &revision, &fit, NULL);
    sri_store_close(&store);
    return code == SR_OK && revision == 2 ? 0 : 1;
}

/* A process must not inherit a connection, so the other one is there first. */
static void a_group_keeps_other_writers_out(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_store_close(&self->store);
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) _exit(wait_for_a_group(self, ends[0]));
    self->store = open_another(self, 0);
    sri_change change = {.kind = SRI_ADD_ROUTE, .route = 6};
    begin(self->store, 1);
    write_ok(self->store, 2, 7, &change, 1);
    assert_int_equal(write(ends[1], "", 1), 1);
    usleep(100000);
    commit(self->store);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ends[0]);
    close(ends[1]);
}

/* Nothing but what is stored makes the file. */
static void a_file_made_by_a_group_goes_with_it(void **state) {
    fixture *self = *state;
    sri_change change = {.kind = SRI_ADD_ROUTE, .route = 1};
    begin(self->store, 0);
    assert_int_equal(access(self->path, F_OK), 0);
    write_ok(self->store, 1, 2, &change, 1);
    self->store->kind->rollback(self->store);
    self->store->kind->rollback(self->store); /* there is none any more */
    assert_int_not_equal(access(self->path, F_OK), 0);
    assert_loads(self->store, fingerprint, "0,1: ");
    make_table(self->store);
    assert_loads(self->store, fingerprint, first_table);
}

static void a_synced_commit_is_one_like_others(void **state) {
    fixture *self = *state;
    sri_change change = {.kind = SRI_ADD_ROUTE, .route = 1};
    begin(self->store, 0);
    write_ok(self->store, 1, 2, &change, 1);
    assert_int_equal(self->store->kind->commit(self->store, true, NULL), SR_OK);
    assert_loads(self->store, fingerprint, "1,2: route 1 r1; ");
}

static void a_fit_joins_the_group_that_is_open(void **state) {
    fixture *self = *state;
    sri_store *store = self->store;
    make_table(store);
    sri_store_fit fit = {.revision = 1, .kind = SR_FIT_NEIGHBOURS}, got;
    memset(fit.model, 'a', 64);
    for (int kept = 0; kept < 2; kept++) {
        uint64_t serial;
        begin(store, 1);
        assert_int_equal(store->kind->save_fit(store, &fit, &serial, NULL), SR_OK);
        assert_int_equal(serial, 1);
        if (kept == 0) store->kind->rollback(store);
        if (kept == 1) commit(store);
        assert_int_equal(store->kind->load_fit(store, true, &got, NULL), SR_OK);
        assert_int_equal(got.serial, kept);
        sri_store_fit_free(&got);
    }
}

/* ---- What others changed --------------------------------------------------------------------------------------- */

static void another_process_reads_what_changed_alone(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_store *other = open_another(self, SRI_STORE_READ_ONLY);
    assert_news(other, 1, 6, "1,6: ");
    sri_change changes[] = {
        {.kind = SRI_MOVE_UTTERANCE, .route = 1, .utterance = 2, .to = 6},
        {.kind = SRI_SET_ROUTE, .route = 1, .description = sr_str_of("once")},
    };
    sri_change more[] = {
        {.kind = SRI_SET_ROUTE, .route = 1, .description = sr_str_of("twice")},
        {.kind = SRI_SET_ROUTE, .route = 4, .description = sr_str_of("in vain")},
        {.kind = SRI_REMOVE_UTTERANCE, .route = 4, .utterance = 5},
        {.kind = SRI_REMOVE_ROUTE, .route = 4},
        {.kind = SRI_ADD_ROUTE, .route = 7},
        {.kind = SRI_ADD_UTTERANCE, .route = 7, .utterance = 8},
        {.kind = SRI_ADD_UTTERANCE, .route = 1, .utterance = 9},
    };
    sri_change last[] = {{.kind = SRI_REMOVE_UTTERANCE, .route = 7, .utterance = 8}};
    begin(self->store, 1);
    write_ok(self->store, 2, 7, changes, SRI_COUNT(changes));
    assert_news(self->store, 1, 6,
                "2,7: 2 of 1 gone; set route 1 r1 once; u2 6 in 1; code 6; "); /* in the group */
    write_ok(self->store, 3, 10, more, SRI_COUNT(more));
    /* Codes of another model are not for us. */
    sri_store_model foreign = {another_fingerprint, "other", DIMENSION};
    sri_change vector = {.kind = SRI_ADD_VECTOR, .utterance = 9};
    assert_int_equal(write_as(self->store, &foreign, 3, 10, &vector, 1, NULL), SR_OK);
    commit(self->store);
    begin(self->store, 3);
    write_ok(self->store, 4, 10, last, SRI_COUNT(last));
    commit(self->store);
    assert_news(other, 1, 6,
                "4,10: 2 of 1 gone; 5 of 4 gone; route 4 gone; set route 1 r1 twice; route 7 r7; "
                "u2 6 in 1; u9 9 in 1; code 6; code 9; ");
    assert_news(other, 3, 10, "4,10: 8 of 7 gone; ");
    assert_news(other, 4, 10, "4,10: ");
    assert_verifies(other);
    /* A file that knows less than we do was restored from a copy. */
    assert_news(other, 5, 10, NULL);
    assert_news(other, 4, 11, NULL);
    sri_store_close(&other);
}

/* 70,000 changes: the log forgets the first of them, and says so. */
static void the_log_of_changes_is_bounded(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_change changes[64];
    uint64_t revision = 1;
    for (int i = 0; i < 70000 / 64; i++) {
        for (int j = 0; j < 64; j++) changes[j] = (sri_change){.kind = SRI_SET_ROUTE, .route = 1};
        if (i % 100 == 0) begin(self->store, revision);
        write_ok(self->store, ++revision, 6, changes, 64);
        if (i % 100 == 99) commit(self->store);
    }
    commit(self->store);
    assert_news(self->store, 1, 6, NULL);
    assert_news(self->store, revision - 1, 6, "1094,6: set route 1 r1; ");
    assert_news(self->store, revision - 1023, 6, "1094,6: set route 1 r1; ");
    assert_news(self->store, revision - 1025, 6, NULL);
    assert_verifies(self->store);
}

/* ---- Models ------------------------------------------------------------------------------------------------------- */

static void models_are_kept_apart(void **state) {
    fixture *self = *state;
    make_table(self->store);
    sri_store_model other = {another_fingerprint, "other", DIMENSION};
    sri_change changes[] = {{.kind = SRI_ADD_VECTOR, .utterance = 3},
                            {.kind = SRI_ADD_VECTOR, .utterance = 5}};
    begin(self->store, 1);
    assert_int_equal(write_as(self->store, &other, 1, 6, changes, 2, NULL), SR_OK);
    assert_int_equal(write_as(self->store, &other, 1, 6, changes, 2, NULL), SR_OK); /* again */
    commit(self->store);
    static const char rows[] = "1,6: route 1 r1; route 4 r4; u2 2 in 1; u3 3 in 1; u5 5 in 4; ";
    char expected[200];
    snprintf(expected, sizeof expected, "%scode 3; code 5; ", rows);
    assert_loads(self->store, another_fingerprint, expected);
    assert_loads(self->store, fingerprint, first_table);
    sri_store_reader *reader;
    assert_int_equal(
        self->store->kind->open_reader(self->store, another_fingerprint, DIMENSION, &reader, NULL),
        SR_OK);
    float row[3][DIMENSION], wanted[DIMENSION];
    uint8_t found[3];
    sri_store_reader_fetch(reader, (uint64_t[]){5, 2, 3}, 3, row[0], found);
    assert_memory_equal(found, ((uint8_t[]){1, 0, 1}), 3);
    vector_of(5, 1, wanted);
    assert_memory_equal(row[0], wanted, sizeof wanted);
    sri_store_reader_close(&reader);
    /* An utterance goes with its vectors of all models. */
    sri_change gone = {.kind = SRI_REMOVE_UTTERANCE, .route = 1, .utterance = 3};
    begin(self->store, 1);
    write_ok(self->store, 2, 6, &gone, 1);
    commit(self->store);
    assert_verifies(self->store);
}

static void there_is_a_limit_to_models(void **state) {
    fixture *self = *state;
    make_table(self->store);
    for (int i = 2; i < 66; i++) {
        char name[65];
        snprintf(name, sizeof name, "%064d", i);
        sri_store_model model = {name, "toy", DIMENSION};
        sri_change change = {.kind = SRI_ADD_VECTOR, .utterance = 2};
        sr_error error;
        begin(self->store, 1);
        sr_status code = write_as(self->store, &model, 1, 6, &change, 1, &error);
        assert_int_equal(code, i < 64 ? SR_OK : SR_ERR_LIMIT);
        if (code == SR_OK)
            commit(self->store);
        else
            self->store->kind->rollback(self->store);
    }
    assert_loads(self->store, fingerprint, first_table);
    assert_verifies(self->store);
}

/* ---- Rows by id ----------------------------------------------------------------------------------------------------- */

static void assert_row(sri_store_reader *reader, uint64_t id, bool there) {
    float row[DIMENSION], expected[DIMENSION];
    uint8_t found;
    sri_store_reader_fetch(reader, &id, 1, row, &found);
    assert_int_equal(found, there);
    vector_of(id, 0, expected);
    if (there) assert_memory_equal(row, expected, sizeof row);
}

static void a_reader_sees_what_is_committed(void **state) {
    fixture *self = *state;
    sri_store_reader *reader;
    assert_int_equal(
        self->store->kind->open_reader(self->store, fingerprint, DIMENSION, &reader, NULL), SR_OK);
    assert_row(reader, 2, false); /* there is no file */
    make_table(self->store);
    assert_row(reader, 2, true);
    sri_change changes[] = {{.kind = SRI_REMOVE_UTTERANCE, .route = 1, .utterance = 2},
                            {.kind = SRI_ADD_UTTERANCE, .route = 1, .utterance = 6}};
    begin(self->store, 1);
    write_ok(self->store, 2, 7, changes, 2);
    assert_row(reader, 2, true);
    assert_row(reader, 6, false);
    commit(self->store);
    assert_row(reader, 2, false);
    assert_row(reader, 6, true);
    assert_row(reader, UINT64_MAX, false);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(self->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE vectors SET vector = x'00' WHERE id = 6 * 64 + 1",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_row(reader, 6, false);
    sri_store_reader_close(&reader);
    sri_store_reader *nothing = NULL;
    uint8_t found = 1;
    sri_store_reader_fetch(nothing, &(uint64_t){2}, 1, (float[DIMENSION]){0}, &found);
    assert_int_equal(found, 0);
}

/* ---- The write-ahead log ---------------------------------------------------------------------------------------- */

static int64_t log_bytes(const fixture *self) {
    char name[320];
    struct stat status;
    snprintf(name, sizeof name, "%s-wal", self->path);
    return stat(name, &status) == 0 ? status.st_size : 0;
}

/* Commits 50 MB and more; gives the largest size that the write-ahead log had. */
static int64_t churn(fixture *self, bool checkpoints, int commits) {
    sri_change changes[64];
    int64_t most = 0;
    static char long_text[20000];
    uint64_t revision, fit;
    for (int i = 0; i < commits; i++) {
        memset(long_text, 'a' + i % 26, sizeof long_text); /* what stays as it is is not written */
        for (int j = 0; j < 2; j++)
            changes[j] = (sri_change){.kind = SRI_SET_ROUTE,
                                      .route = j == 0 ? 1 : 4,
                                      .description = {long_text, sizeof long_text}};
        assert_int_equal(self->store->kind->begin(self->store, &revision, &fit, NULL), SR_OK);
        write_ok(self->store, revision + 1, 6, changes, 2);
        commit(self->store);
        if (checkpoints) assert_int_equal(self->store->kind->checkpoint(self->store, NULL), SR_OK);
        most = SRI_MAX(most, log_bytes(self));
    }
    return most;
}

static void the_write_ahead_log_is_bounded(void **state) {
    fixture *self = *state;
    make_table(self->store);
    /* Others that have the file open, and look at it now and then, are no hindrance. */
    sri_store *other = open_another(self, SRI_STORE_READ_ONLY);
    sri_store_reader *reader;
    assert_int_equal(
        self->store->kind->open_reader(self->store, fingerprint, DIMENSION, &reader, NULL), SR_OK);
    assert_row(reader, 2, true);
    assert_true(churn(self, true, 1500) < 16 << 20); /* commits need not copy anything */
    assert_row(reader, 2, true);
    assert_true(churn(self, false, 1500) < 48 << 20);
    uint64_t revision, fit;
    assert_int_equal(other->kind->revision(other, &revision, &fit, NULL), SR_OK);
    assert_int_equal(revision, 3001);
    sri_store_reader_close(&reader);
    sri_store_close(&other);
    assert_verifies(self->store);
}

/* ---- Several threads -------------------------------------------------------------------------------------------- */

typedef struct threads {
    sri_store *store;
    atomic_bool stop;
    atomic_int fetched, missed;
} threads;

/* Utterance 2 is always there; what the fetch gives is its vector and never part of another. */
static void *fetch_on(void *user) {
    threads *self = user;
    float row[DIMENSION], expected[DIMENSION];
    uint8_t found;
    sri_store_reader *reader;
    vector_of(2, 0, expected);
    if (self->store->kind->open_reader(self->store, fingerprint, DIMENSION, &reader, NULL) != SR_OK)
        return NULL;
    while (!atomic_load(&self->stop)) {
        sri_store_reader_fetch(reader, &(uint64_t){2}, 1, row, &found);
        bool right = found == 1 && memcmp(row, expected, sizeof row) == 0;
        atomic_fetch_add(right ? &self->fetched : &self->missed, 1);
    }
    sri_store_reader_close(&reader);
    return NULL;
}

static void *checkpoint_on(void *user) {
    threads *self = user;
    bool right = true;
    while (!atomic_load(&self->stop) && right) {
        right = self->store->kind->checkpoint(self->store, NULL) == SR_OK &&
                self->store->kind->verify(self->store, NULL) == SR_OK;
        usleep(1000);
    }
    if (!right) atomic_fetch_add(&self->missed, 1);
    return NULL;
}

static void others_read_and_verify_while_one_writes(void **state) {
    fixture *self = *state;
    threads shared = {.store = self->store};
    pthread_t ids[3];
    make_table(self->store);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, i < 2 ? fetch_on : checkpoint_on, &shared),
                         0);
    int64_t most = churn(self, false, 600);
    while (atomic_load(&shared.fetched) < 100 && atomic_load(&shared.missed) == 0) usleep(1000);
    atomic_store(&shared.stop, true);
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_join(ids[i], NULL), 0);
    assert_int_equal(atomic_load(&shared.missed), 0);
    assert_true(most < 64 << 20);
}

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

static void the_store_in_memory_counts_revisions(void **state) {
    (void)state;
    sri_store *store;
    sri_store_reader *reader;
    assert_int_equal(sri_store_open_memory(&store, NULL), SR_OK);
    sri_change change = {.kind = SRI_ADD_ROUTE, .route = 1};
    begin(store, 0);
    write_ok(store, 1, 2, &change, 1);
    store->kind->rollback(store);
    begin(store, 0);
    write_ok(store, 1, 2, &change, 1);
    commit(store);
    begin(store, 1);
    commit(store);
    assert_news(store, 1, 2, "1,2: ");
    assert_int_equal(store->kind->open_reader(store, fingerprint, DIMENSION, &reader, NULL), SR_OK);
    assert_null(reader);
    assert_int_equal(store->kind->checkpoint(store, NULL), SR_OK);
    sri_store_close(&store);
}

int main(void) {
#define WITH_FILES(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FILES(a_group_is_seen_by_others_whole_or_not_at_all),
        WITH_FILES(a_group_that_is_rolled_back_leaves_nothing),
        WITH_FILES(a_failed_write_dooms_its_group),
        WITH_FILES(a_group_keeps_other_writers_out),
        WITH_FILES(a_file_made_by_a_group_goes_with_it),
        WITH_FILES(a_synced_commit_is_one_like_others),
        WITH_FILES(a_fit_joins_the_group_that_is_open),
        WITH_FILES(another_process_reads_what_changed_alone),
        WITH_FILES(the_log_of_changes_is_bounded),
        WITH_FILES(models_are_kept_apart),
        WITH_FILES(there_is_a_limit_to_models),
        WITH_FILES(a_reader_sees_what_is_committed),
        WITH_FILES(the_write_ahead_log_is_bounded),
        WITH_FILES(others_read_and_verify_while_one_writes),
        cmocka_unit_test(the_store_in_memory_counts_revisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
