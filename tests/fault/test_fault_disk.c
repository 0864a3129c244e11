/*
 * test_fault_disk.c - a full disk, a process killed in the middle, files and directories that cannot be
 * written. What was acknowledged is there afterwards, and what failed left nothing.
 */
#include "toy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/base.h"

typedef struct fixture {
    toy toy;
    sr_encoder *encoder;
    char directory[256];
    char path[300];
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

/* A route of `count` utterances, so that one mutation writes much. */
static sr_status put_many(sr_router *router, const char *name, int count, sr_error *error) {
    char *texts = malloc((size_t)count * 32);
    sr_str *strings = malloc((size_t)count * sizeof *strings);
    for (int i = 0; i < count; i++) {
        snprintf(texts + i * 32, 32, "%s number %d", name, i);
        strings[i] = sr_str_of(texts + i * 32);
    }
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = strings,
                      .utterance_count = (size_t)count};
    sr_status code = sr_route_put(router, &route, NULL, error);
    free(texts);
    free(strings);
    return code;
}

/* Waits for a child whose exit status counts the checks that failed in it. */
static void expect_success(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "# line %d: %s\n", __LINE__, #condition);                              \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* ---- A full disk ----------------------------------------------------------------------------------------------- */

/* Adds routes until the disk is full; then memory must equal disk, and work must go on with space. */
static void fill_up(fixture *self, void (*make_space)(fixture *)) {
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sr_status code = SR_OK;
    sr_error error = {0};
    int added = 0;
    for (char name[16]; added < 500 && code == SR_OK; added += code == SR_OK) {
        snprintf(name, sizeof name, "r%d", added);
        code = put_many(router, name, 200, &error);
    }
    if (code != SR_ERR_FULL)
        fprintf(stderr, "# %d routes, %s: %s\n", added, sr_status_name(code), error.message);
    CHECK(code == SR_ERR_FULL);
    CHECK(strstr(error.message, "free space") != NULL);
    CHECK(added > 0);
    sr_info info = {.size = sizeof info};
    CHECK(sr_router_info(router, &info, NULL) == SR_OK);
    CHECK(info.routes == (uint64_t)added && info.revision == (uint64_t)added);
    make_space(self);
    CHECK(sr_router_verify(router, NULL) == SR_OK);
    CHECK(put_many(router, "after", 200, &error) == SR_OK);
    sr_router_close(&router);
    router = toy_router(self->path, self->encoder, 0);
    CHECK(sr_router_info(router, &info, NULL) == SR_OK);
    CHECK(info.routes == (uint64_t)added + 1 && info.utterances == (uint64_t)(added + 1) * 200);
    CHECK(sr_router_verify(router, NULL) == SR_OK);
    sr_router_close(&router);
}

static void raise_limit(fixture *self) {
    (void)self;
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_file_size_limit_is_a_full_disk(void **state) {
    fixture *self = *state;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit;
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 2 << 20;
        signal(SIGXFSZ, SIG_IGN);
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        fill_up(self, raise_limit);
        _exit(0);
    }
    expect_success(child);
}

static void remove_ballast(fixture *self) {
    char ballast[300];
    snprintf(ballast, sizeof ballast, "%s/ballast", self->directory);
    unlink(ballast);
}

static void a_full_file_system_is_survived(void **state) {
    fixture *self = *state;
    if (mount("tmpfs", self->directory, "tmpfs", 0, "size=6m") != 0) {
        print_message("# SKIPPED: no right to mount a small file system\n");
        skip();
    }
    pid_t child = fork();
    if (child == 0) {
        char ballast[300];
        snprintf(ballast, sizeof ballast, "%s/ballast", self->directory);
        FILE *file = fopen(ballast, "w");
        for (int i = 0; i < 3 << 20; i++) CHECK(fputc('x', file) != EOF);
        fclose(file);
        fill_up(self, remove_ballast);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    umount2(self->directory, MNT_DETACH);
    assert_int_equal(status, 0);
}

static void a_database_cannot_be_made_on_a_full_disk(void **state) {
    fixture *self = *state;
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit;
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 9000;
        signal(SIGXFSZ, SIG_IGN);
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        sr_options options = {
            .size = sizeof options, .database = self->path, .encoder = self->encoder};
        sr_router *router;
        sr_error error = {0};
        CHECK(sr_router_open(&options, &router, &error) == SR_OK); /* nothing is made yet */
        CHECK(toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, &error) == SR_ERR_FULL);
        CHECK(access(self->path, F_OK) != 0); /* nor does an empty file remain */
        /* Room for the tables, but not for what is to be in them. */
        limit.rlim_cur = 150000;
        CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        static char large[240000];
        memset(large, 'x', sizeof large - 1);
        for (int i = 1; i < 4; i++) large[i * 60000] = '|';
        for (int i = 0; i < 4; i++) large[i * 60000 + 1] = (char)('a' + i);
        CHECK(toy_put(router, "a", large, SR_PUT_REPLACE, NULL, &error) == SR_ERR_FULL);
        CHECK(access(self->path, F_OK) != 0);
        raise_limit(self);
        CHECK(toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, &error) == SR_OK);
        CHECK(access(self->path, F_OK) == 0);
        sr_router_close(&router);
        _exit(0);
    }
    expect_success(child);
}

/* ---- A killed process ---------------------------------------------------------------------------------------------- */

/* Mutates for ever, writing the revision of each acknowledged step to `pipe`. */
static void mutate_until_killed(fixture *self, int pipe) {
    sr_router *router = toy_router(self->path, self->encoder, 0);
    for (uint64_t i = 0;; i++) {
        char name[16], texts[96];
        snprintf(name, sizeof name, "r%d", (int)(i % 5));
        snprintf(texts, sizeof texts, "step %d|again %d|more %d", (int)i, (int)i / 2, (int)i / 3);
        sr_receipt receipt;
        sr_status code = i % 7 == 6
                             ? sr_route_remove(router, sr_str_of("r1"), &receipt, NULL)
                             : toy_put(router, name, texts,
                                       i % 3 == 0 ? SR_PUT_REPLACE : SR_PUT_EXTEND, &receipt, NULL);
        if (code == SR_ERR_NOT_FOUND) continue;
        if (code != SR_OK ||
            write(pipe, &receipt.revision, sizeof receipt.revision) != sizeof receipt.revision)
            _exit(1);
    }
}

static void a_killed_process_loses_nothing_acknowledged(void **state) {
    fixture *self = *state;
    uint64_t acknowledged = 0;
    for (int round = 0; round < 12; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            mutate_until_killed(self, ends[1]);
        }
        close(ends[1]);
        usleep(5000 + (useconds_t)round * 7000);
        kill(child, SIGKILL);
        uint64_t seen;
        while (read(ends[0], &seen, sizeof seen) == sizeof seen) acknowledged = seen;
        close(ends[0]);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        sr_router *router = toy_router(self->path, self->encoder, 0);
        sr_info info = {.size = sizeof info};
        assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
        assert_true(info.revision >= acknowledged && info.revision <= acknowledged + 1);
        assert_int_equal(sr_router_verify(router, NULL), SR_OK);
        sr_router_close(&router);
    }
    assert_true(acknowledged > 0);
}

/* The same at the very beginning, when the file is made. */
static void a_process_killed_while_making_the_database_leaves_no_ruin(void **state) {
    fixture *self = *state;
    for (int round = 0; round < 40; round++) {
        pid_t child = fork();
        if (child == 0) {
            sr_router *router = toy_router(self->path, self->encoder, 0);
            sr_router_close(&router);
            _exit(0);
        }
        usleep((useconds_t)round * 100);
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        sr_router *router = toy_router(self->path, self->encoder, 0);
        assert_int_equal(sr_router_verify(router, NULL), SR_OK);
        sr_router_close(&router);
        unlink(self->path);
    }
}

/* Leaves a database of which a loss of power has kept nothing but the length, with the journal that was synced before it. */
static void interrupt_the_making(const fixture *self) {
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db;
        sqlite3_open(self->path, &db);
        sqlite3_exec(db,
                     "PRAGMA page_size = 8192; PRAGMA cache_size = 1; BEGIN;"
                     "PRAGMA application_id = 1397895217; CREATE TABLE t (x);"
                     "INSERT INTO t VALUES (zeroblob(200000)); INSERT INTO t VALUES (zeroblob(9))",
                     NULL, NULL, NULL);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    struct stat status;
    assert_int_equal(stat(self->path, &status), 0);
    assert_true(status.st_size > 0);
    assert_int_equal(truncate(self->path, 0), 0);
    assert_int_equal(truncate(self->path, status.st_size), 0);
}

static void a_loss_of_power_while_the_database_is_made_is_survived(void **state) {
    fixture *self = *state;
    interrupt_the_making(self);
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = self->encoder,
                          .flags = SR_OPEN_READ_ONLY};
    sr_router *router;
    sr_error error;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_READ_ONLY);
    assert_non_null(strstr(error.message, "was interrupted"));
    router = toy_router(self->path, self->encoder, 0);
    toy_assert_table(router, "");
    assert_int_equal(toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
}

/* A checkpoint that lost its power has left page 1 of the database in pieces; the log has it whole. */
static void a_loss_of_power_in_a_checkpoint_is_survived(void **state) {
    fixture *self = *state;
    pid_t child = fork();
    if (child == 0) {
        sr_router *router = toy_router(self->path, self->encoder, 0);
        CHECK(put_many(router, "many", 500, NULL) == SR_OK);
        kill(getpid(), SIGKILL);
    }
    waitpid(child, NULL, 0);
    static const char nothing[512];
    int file = open(self->path, O_WRONLY);
    assert_int_equal(pwrite(file, nothing, sizeof nothing, 0), sizeof nothing);
    close(file);
    sr_router *router = toy_router(self->path, self->encoder, SR_OPEN_EXISTING);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.utterances, 500);
    assert_int_equal(sr_router_verify(router, NULL), SR_OK);
    sr_router_close(&router);
}

/* Opens and closes the database when told to, and as the last one there would remove the log. */
static void pass_by(fixture *self, int pipe) {
    char go;
    CHECK(read(pipe, &go, 1) == 1);
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sr_router_close(&router);
    _exit(0);
}

/* A second router in this process must not make other processes believe that there is none. */
static void another_process_that_passes_by_takes_no_log_away(void **state) {
    fixture *self = *state;
    char log[320];
    int ends[2];
    struct stat before, after;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) pass_by(self, ends[0]);
    sr_router *one = toy_router(self->path, self->encoder, 0);
    assert_int_equal(toy_put(one, "a", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_router *two = toy_router(self->path, self->encoder, 0);
    snprintf(log, sizeof log, "%s-wal", self->path);
    assert_int_equal(stat(log, &before), 0);
    assert_int_equal(write(ends[1], "", 1), 1);
    expect_success(child);
    assert_int_equal(stat(log, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    sr_router_close(&one);
    sr_router_close(&two);
    close(ends[0]);
    close(ends[1]);
}

/* ---- No right to write ------------------------------------------------------------------------------------------------ */

/* Root may write everywhere: give that up. */
static void become_nobody(void) {
    if (geteuid() == 0) CHECK(setgid(65534) == 0 && setuid(65534) == 0);
}

static void check_reading_only(fixture *self, unsigned flags) {
    sr_router *router = toy_router(self->path, self->encoder, flags);
    sr_info info = {.size = sizeof info};
    CHECK(sr_router_info(router, &info, NULL) == SR_OK);
    if (info.read_only != 1) fprintf(stderr, "# open flags %u: not read-only\n", flags);
    CHECK(info.read_only == 1 && info.routes == 1);
    sr_str text = sr_str_of("hello");
    sr_decisions *decisions;
    CHECK(sr_decide(router, &text, 1, NULL, &decisions, NULL) == SR_OK);
    CHECK(toy_is(sr_decisions_get(decisions, 0)->route, "a"));
    sr_decisions_free(&decisions);
    sr_error error = {0};
    CHECK(toy_put(router, "b", "x", SR_PUT_REPLACE, NULL, &error) == SR_ERR_READ_ONLY);
    CHECK(strstr(error.message, self->path) != NULL);
    CHECK(sr_route_remove(router, sr_str_of("a"), NULL, &error) == SR_ERR_READ_ONLY);
    CHECK(sr_utterances_remove(router, sr_str_of("a"), &text, 1, NULL, &error) == SR_ERR_READ_ONLY);
    CHECK(sr_router_info(router, &info, NULL) == SR_OK && info.routes == 1);
    CHECK(sr_router_verify(router, NULL) == SR_OK);
    sr_router_close(&router);
}

static void make_table(fixture *self) {
    sr_router *router = toy_router(self->path, self->encoder, 0);
    assert_int_equal(toy_put(router, "a", "hello", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    sr_router_close(&router);
}

static void in_child_without_rights(fixture *self, mode_t file, mode_t directory, unsigned flags) {
    char before[65], after[65];
    assert_int_equal(sri_sha256_file(self->path, before, NULL), SR_OK);
    assert_int_equal(chmod(self->path, file), 0);
    assert_int_equal(chmod(self->directory, directory), 0);
    pid_t child = fork();
    if (child == 0) {
        become_nobody();
        check_reading_only(self, flags);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    chmod(self->path, 0644);
    chmod(self->directory, 0755);
    assert_int_equal(status, 0);
    assert_int_equal(sri_sha256_file(self->path, after, NULL), SR_OK);
    assert_string_equal(before, after);
}

static void what_cannot_be_written_can_be_read(void **state) {
    fixture *self = *state;
    make_table(self);
    in_child_without_rights(self, 0444, 0777, 0); /* the file */
    in_child_without_rights(self, 0444, 0555, 0); /* both */
    in_child_without_rights(self, 0666, 0555, 0); /* the directory: no log can be made */
    in_child_without_rights(self, 0666, 0777, SR_OPEN_READ_ONLY);
    in_child_without_rights(self, 0444, 0555, SR_OPEN_READ_ONLY | SR_OPEN_LAZY);
}

static void what_cannot_be_read_or_made_is_explained(void **state) {
    fixture *self = *state;
    make_table(self);
    assert_int_equal(chmod(self->path, 0), 0);
    assert_int_equal(chmod(self->directory, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        become_nobody();
        sr_router *router;
        sr_error error = {0};
        sr_options options = {
            .size = sizeof options, .database = self->path, .encoder = self->encoder};
        CHECK(sr_router_open(&options, &router, &error) == SR_ERR_IO);
        CHECK(strstr(error.message, "Permission denied") != NULL);
        char missing[400];
        snprintf(missing, sizeof missing, "%s.new", self->path);
        options.database = missing;
        CHECK(sr_router_open(&options, &router, &error) == SR_ERR_READ_ONLY);
        CHECK(strstr(error.message, self->directory) != NULL);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    chmod(self->directory, 0755);
    assert_int_equal(status, 0);
}

/* Changes that wait in a log, beside a directory that cannot be written, must not be silently left out. */
static void a_log_that_cannot_be_replayed_is_an_error_or_is_read(void **state) {
    fixture *self = *state;
    pid_t writer = fork();
    if (writer == 0) {
        sr_router *router = toy_router(self->path, self->encoder, 0);
        CHECK(toy_put(router, "a", "hello", SR_PUT_REPLACE, NULL, NULL) == SR_OK);
        kill(getpid(), SIGKILL); /* leaves the log */
    }
    int status;
    waitpid(writer, &status, 0);
    char shared[400];
    snprintf(shared, sizeof shared, "%s-shm", self->path);
    unlink(shared);
    assert_int_equal(chmod(self->path, 0644), 0);
    assert_int_equal(chmod(self->directory, 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        become_nobody();
        sr_options options = {
            .size = sizeof options, .database = self->path, .encoder = self->encoder};
        sr_router *router;
        sr_error error = {0};
        sr_status code = sr_router_open(&options, &router, &error);
        CHECK(code == SR_ERR_READ_ONLY);
        CHECK(strstr(error.message, "-wal") != NULL);
        _exit(0);
    }
    waitpid(child, &status, 0);
    chmod(self->directory, 0755);
    assert_int_equal(status, 0);
}

/* ---- A locked database ---------------------------------------------------------------------------------------------------- */

static void a_database_held_by_another_is_busy(void **state) {
    fixture *self = *state;
    make_table(self);
    sr_router *router = toy_router(self->path, self->encoder, 0);
    sqlite3 *holder;
    assert_int_equal(sqlite3_open(self->path, &holder), SQLITE_OK);
    assert_int_equal(sqlite3_exec(holder, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    sr_error error = {0};
    assert_int_equal(toy_put(router, "b", "x", SR_PUT_REPLACE, NULL, &error), SR_ERR_BUSY);
    assert_non_null(strstr(error.message, "another process"));
    toy_assert_table(router, "a:hello;");
    sr_router *reader = toy_router(self->path, self->encoder, 0); /* reading does not wait */
    toy_assert_table(reader, "a:hello;");
    sr_router_close(&reader);
    sqlite3_close(holder);
    assert_int_equal(toy_put(router, "b", "x", SR_PUT_REPLACE, NULL, &error), SR_OK);
    sr_router_close(&router);
}

int main(void) {
#define WITH_FILES(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_FILES(a_file_size_limit_is_a_full_disk),
        WITH_FILES(a_full_file_system_is_survived),
        WITH_FILES(a_database_cannot_be_made_on_a_full_disk),
        WITH_FILES(a_killed_process_loses_nothing_acknowledged),
        WITH_FILES(a_process_killed_while_making_the_database_leaves_no_ruin),
        WITH_FILES(a_loss_of_power_while_the_database_is_made_is_survived),
        WITH_FILES(a_loss_of_power_in_a_checkpoint_is_survived),
        WITH_FILES(another_process_that_passes_by_takes_no_log_away),
        WITH_FILES(what_cannot_be_written_can_be_read),
        WITH_FILES(what_cannot_be_read_or_made_is_explained),
        WITH_FILES(a_log_that_cannot_be_replayed_is_an_error_or_is_read),
        WITH_FILES(a_database_held_by_another_is_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
