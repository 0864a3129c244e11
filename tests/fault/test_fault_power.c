/*
 * test_fault_power.c - power cuts at random moments of a load of changes (see power_vfs.h).
 * Whatever the disk then holds opens, verifies, and is the table as it was after some change: one
 * that comes no earlier than the last change acknowledged as `full`. The next load goes on from the
 * very files that the cut left, so that a database is cut again and again, in the middle of being
 * made, recovered, checkpointed and closed too.
 *
 * A test that finds nothing must be able to find something: the same loads on a disk whose syncs do
 * nothing must lose what was acknowledged, and SQLite without a journal must leave ruins.
 *
 * `test_fault_power cuts N [SEED]` makes N cuts instead of the tests.
 */
#include "mutation_load.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include "power_vfs.h"

enum { CUTS_OF_ONE_DATABASE = 8, MOST_CHANGES = 80, CHANGES_UNTIL_CUT = 900 };

/* ---- The disk and SQLite alone --------------------------------------------------------------- */

static void run_sql(sqlite3 *db, const char *sql) { sqlite3_exec(db, sql, NULL, NULL, NULL); }

static int one_number(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement = NULL;
    int number = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return number;
}

/* Pairs of rows of 3,000 bytes, each pair a transaction; returns how many were committed before the
 * cut. */
static int insert_pairs(const char *path, const char *pragmas) {
    sqlite3 *db = NULL;
    int pairs = 0;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    run_sql(db, pragmas);
    run_sql(db, "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, pair INTEGER, x BLOB)");
    for (; pairs < 200 && !power_is_cut(); pairs++) {
        char sql[200];
        snprintf(sql, sizeof sql,
                 "BEGIN; INSERT INTO t (pair, x) VALUES (%d, randomblob(3000));"
                 "INSERT INTO t (pair, x) VALUES (%d, randomblob(3000)); COMMIT",
                 pairs, pairs);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) break;
    }
    if (!power_is_cut()) power_cut_now();
    sqlite3_close(db);
    return pairs;
}

/* Runs in which the file was damaged or held half a pair, and in which a pair was missing. */
typedef struct verdict {
    int ruined, lost;
} verdict;

static void judge(const char *path, int pairs, verdict *out) {
    sqlite3 *db = NULL;
    bool ruined = sqlite3_open(path, &db) != SQLITE_OK;
    sqlite3_stmt *statement = NULL;
    ruined = ruined ||
             sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL) != SQLITE_OK ||
             sqlite3_step(statement) != SQLITE_ROW ||
             strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0;
    sqlite3_finalize(statement);
    int rows = one_number(db, "SELECT count(*) FROM t");
    if (rows < 0) rows = 0; /* cut before there was a table */
    ruined = ruined || rows % 2 == 1 ||
             one_number(db, "SELECT count(*) FROM (SELECT 1 FROM t GROUP BY pair HAVING count(*) "
                            "<> 2)") > 0;
    out->ruined += ruined;
    out->lost += rows < pairs * 2;
    sqlite3_close(db);
}

static verdict try_sqlite(const char *pragmas, bool lie) {
    verdict out = {0};
    uint64_t random = 20;
    for (int i = 0; i < 40; i++) {
        char directory[256], path[300];
        toy_directory(directory);
        snprintf(path, sizeof path, "%s/t.db", directory);
        power_on(directory);
        if (lie) power_lie();
        power_cut_after(40 + (long)(power_random(&random) % 200));
        int pairs = insert_pairs(path, pragmas);
        power_off();
        power_restore(directory, power_random(&random));
        judge(path, pairs, &out);
        toy_remove_directory(directory);
    }
    return out;
}

static void the_disk_is_as_kind_as_sqlite_expects_and_no_kinder(void **state) {
    (void)state;
    verdict found = try_sqlite("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                               "PRAGMA wal_autocheckpoint = 7",
                               false);
    assert_true(found.ruined == 0 && found.lost == 0);
    /* FULL does not sync the directory when the journal is deleted: the last commit may be undone.
     * */
    found = try_sqlite("PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL", false);
    assert_true(found.ruined == 0 && found.lost > 0);
    found = try_sqlite("PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA", false);
    assert_true(found.ruined == 0 && found.lost == 0);
    found = try_sqlite("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", false);
    assert_true(found.ruined == 0 && found.lost > 10);
    found = try_sqlite("PRAGMA journal_mode = OFF; PRAGMA synchronous = FULL", false);
    assert_true(found.ruined > 0);
    found = try_sqlite("PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF", false);
    assert_true(found.ruined > 0 && found.lost > 10);
    found = try_sqlite("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL", true);
    assert_true(found.lost > 10);
}

/* ---- One database, cut again and again ------------------------------------------------------- */

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    char live[256], look[256]; /* directories: of the load; a copy of what the cut left */
    char path[300], look_path[300];
    uint64_t random;
    load_table base;      /* what the database held when the power came back */
    load_table *history;  /* by revision - base.revision: up to the last change that was tried */
    size_t tried;         /* entries of it beyond the first */
    atomic_ullong full;   /* the last revision acknowledged as `full` */
    uint64_t full_at_cut; /* before the cut */
    uint64_t acknowledged;
    char why[400]; /* what is wrong; "" so far */
} scene;

typedef struct tally {
    long cuts, changes;
    long lost, whole; /* cuts that lost something acknowledged, and that did not */
    long making;      /* cuts before there was a database */
    long full_kept;   /* cuts after which a `full` change was the newest one there */
} tally;

static void note_cut(void *user) {
    scene *self = user;
    self->full_at_cut = atomic_load(&self->full);
}

static load_table *last_table(scene *self) { return &self->history[self->tried]; }

/* The router, on the disk that may be cut at any moment; NULL when it was. */
static sr_router *open_live(scene *self) {
    static const sr_durability durabilities[] = {SR_DURABILITY_NORMAL, SR_DURABILITY_FULL,
                                                 SR_DURABILITY_DEFERRED};
    sr_durability durability = durabilities[power_random(&self->random) % 3];
    sr_router *router = NULL;
    sr_error error;
    if (load_open(self->path, self->encoder, durability, &router, &error) != SR_OK &&
        !power_is_cut())
        snprintf(self->why, sizeof self->why, "cannot be opened: %.300s", error.message);
    return router;
}

/* One change, in the router and in the model; false when the load is over. */
static bool change_once(scene *self, sr_router *router) {
    load_change change = load_draw(last_table(self), true, &self->random);
    load_table next = *last_table(self);
    load_apply(&next, &change);
    bool changes = next.revision != last_table(self)->revision;
    if (changes) self->history[++self->tried] = next;
    sr_receipt receipt = {0};
    sr_error error = {0};
    sr_status code = load_run(router, self->encoder, &change, 'r', &receipt, &error);
    if (code != SR_OK) {
        if (!power_is_cut())
            snprintf(self->why, sizeof self->why, "change %d fails: %.300s", (int)change.kind,
                     error.message);
        return false;
    }
    if (change.kind == LOAD_FIT || power_is_cut()) return !power_is_cut();
    if (receipt.revision != next.revision) {
        snprintf(self->why, sizeof self->why, "the receipt says revision %llu instead of %llu",
                 (unsigned long long)receipt.revision, (unsigned long long)next.revision);
        return false;
    }
    self->acknowledged = next.revision;
    if (receipt.durability == SR_DURABILITY_FULL) atomic_store(&self->full, next.revision);
    return true;
}

/* Often while a database is being made, if there is none. */
static long draw_moment(scene *self) {
    bool early = self->base.revision == 0 && power_random(&self->random) % 2 == 0;
    return 1 + (long)(power_random(&self->random) % (early ? 80 : CHANGES_UNTIL_CUT));
}

/* Changes until the power fails, closing and opening in between now and then. */
static void run_load(scene *self, tally *count, bool lie) {
    power_on(self->live);
    if (lie) power_lie();
    power_on_cut(note_cut, self);
    power_cut_after(draw_moment(self));
    sr_router *router = open_live(self);
    for (int i = 0; i < MOST_CHANGES && router != NULL && change_once(self, router); i++) {
        count->changes++;
        if (power_random(&self->random) % 20 != 0) continue;
        sr_router_close(&router);
        router = open_live(self);
    }
    if (!power_is_cut()) power_cut_now();
    sr_router_close(&router);
    power_off();
}

/* Copies with the times and names that SQLite does not look at. */
static void copy_file(const char *from, const char *to) {
    static uint8_t piece[1 << 16];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (in == NULL || out == NULL) fail_msg("cannot copy %s", from);
    for (size_t got; (got = fread(piece, 1, sizeof piece, in)) > 0;) fwrite(piece, 1, got, out);
    fclose(in);
    fclose(out);
}

static void copy_directory(const char *from, const char *to) {
    DIR *directory = opendir(from);
    assert_non_null(directory);
    for (struct dirent *found; (found = readdir(directory)) != NULL;) {
        char source[600], target[600];
        if (found->d_name[0] == '.') continue;
        snprintf(source, sizeof source, "%s/%s", from, found->d_name);
        snprintf(target, sizeof target, "%s/%s", to, found->d_name);
        copy_file(source, target);
    }
    closedir(directory);
}

/* Which table of the history the database holds, read by an ordinary router; -1 when something is
 * wrong. */
static long find_table(scene *self, sr_router *router) {
    sr_error error;
    sr_info info = {.size = sizeof info};
    char why[256] = "";
    if (sr_router_verify(router, &error) != SR_OK ||
        sr_router_info(router, &info, &error) != SR_OK) {
        snprintf(self->why, sizeof self->why, "does not verify: %.300s", error.message);
        return -1;
    }
    uint64_t first = self->base.revision;
    if (info.revision < self->full_at_cut || info.revision < first ||
        info.revision > first + self->tried) {
        snprintf(self->why, sizeof self->why,
                 "has revision %llu; %llu is acknowledged as full, %llu was the last tried",
                 (unsigned long long)info.revision, (unsigned long long)self->full_at_cut,
                 (unsigned long long)(first + self->tried));
        return -1;
    }
    const load_table *expected = &self->history[info.revision - first];
    if (!load_compare(expected, router, self->encoder, 'r', false, why)) {
        snprintf(self->why, sizeof self->why, "at revision %llu: %s",
                 (unsigned long long)info.revision, why);
        return -1;
    }
    return (long)(info.revision - first);
}

/* The database is not only read, but goes on: changed, closed and read again. */
static void go_on(scene *self, sr_router **router, load_table table) {
    char why[256] = "";
    sr_error error = {0};
    load_change change = load_draw(&table, false, &self->random);
    load_apply(&table, &change);
    bool fine = load_run(*router, self->encoder, &change, 'r', NULL, &error) == SR_OK;
    sr_router_close(router);
    fine = fine &&
           load_open(self->look_path, self->encoder, SR_DURABILITY_NORMAL, router, &error) == SR_OK;
    fine = fine && load_compare(&table, *router, self->encoder, 'r', false, why);
    if (!fine)
        snprintf(self->why, sizeof self->why, "does not go on: %.200s%s", error.message, why);
}

/* Looks at a copy of what the cut has left; the load goes on with the files themselves. */
static void look_at_rest(scene *self, tally *count) {
    sr_router *router = NULL;
    sr_error error;
    toy_directory(self->look);
    snprintf(self->look_path, sizeof self->look_path, "%s/routes.db", self->look);
    copy_directory(self->live, self->look);
    long found = -1;
    if (load_open(self->look_path, self->encoder, SR_DURABILITY_NORMAL, &router, &error) != SR_OK)
        snprintf(self->why, sizeof self->why, "cannot be opened: %.300s", error.message);
    else
        found = find_table(self, router);
    if (found >= 0) {
        self->base = self->history[found];
        count->making += self->base.revision == 0;
        count->lost += self->base.revision < self->acknowledged;
        count->whole += self->base.revision >= self->acknowledged;
        count->full_kept += self->base.revision > 0 && self->base.revision == self->full_at_cut;
        go_on(self, &router, self->base);
    }
    sr_router_close(&router);
    toy_remove_directory(self->look);
}

static void cut_once(scene *self, tally *count, bool lie) {
    self->history[0] = self->base;
    self->tried = 0;
    self->acknowledged = self->full_at_cut = self->base.revision;
    atomic_store(&self->full, self->base.revision);
    run_load(self, count, lie);
    count->cuts++;
    if (self->why[0] != '\0') return;
    power_restore(self->live, power_random(&self->random));
    look_at_rest(self, count);
}

/* Cuts one database up to `cuts` times; false when something was wrong, which `why` then tells. */
static bool cut_database(uint64_t seed, int cuts, bool lie, tally *count, char why[400]) {
    scene *self = calloc(1, sizeof *self);
    self->random = seed;
    self->encoder = toy_open(&self->toy, "toy");
    self->history = calloc(MOST_CHANGES + 2, sizeof *self->history);
    toy_directory(self->live);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->live);
    for (int i = 0; i < cuts && self->why[0] == '\0'; i++) cut_once(self, count, lie);
    snprintf(why, 400, "%s", self->why);
    bool fine = self->why[0] == '\0';
    if (fine || lie || getenv("SR_TEST_KEEP") == NULL)
        toy_remove_directory(self->live);
    else
        print_message("# kept: %s\n", self->live);
    sr_encoder_close(&self->encoder);
    free(self->history);
    free(self);
    return fine;
}

static void print_tally(const tally *count) {
    print_message(
        "# %ld cuts of %ld changes: %ld lost something acknowledged, %ld came before there was a "
        "database, %ld lost nothing, %ld kept a full change as the last\n",
        count->cuts, count->changes, count->lost, count->making, count->whole, count->full_kept);
}

/* The tally of `cuts` cuts; fails the test at the first fault. */
static tally make_cuts(long cuts, uint64_t seed) {
    tally count = {0};
    char why[400];
    while (count.cuts < cuts) {
        if (!cut_database(seed, CUTS_OF_ONE_DATABASE, false, &count, why)) {
            print_tally(&count);
            fail_msg("seed %llu: %s", (unsigned long long)seed, why);
        }
        seed++;
    }
    print_tally(&count);
    return count;
}

static void power_cuts_leave_nothing_half_and_lose_nothing_full(void **state) {
    (void)state;
    tally count = make_cuts(100, 1000);
    /* The loads are such that they could go wrong. */
    assert_true(count.lost > count.cuts / 5);
    assert_true(count.whole > count.cuts / 5 && count.making > 0);
    assert_true(count.full_kept > 0);
}

/* On a disk that lies, the same test must fail. */
static void a_disk_that_lies_is_found_out(void **state) {
    (void)state;
    int caught = 0;
    char why[400];
    for (uint64_t seed = 1; seed <= 10; seed++) {
        tally count = {0};
        if (!cut_database(seed, CUTS_OF_ONE_DATABASE, true, &count, why)) caught++;
    }
    assert_true(caught >= 8);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "cuts") == 0) {
        make_cuts(atol(argv[2]), argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_disk_is_as_kind_as_sqlite_expects_and_no_kinder),
        cmocka_unit_test(power_cuts_leave_nothing_half_and_lose_nothing_full),
        cmocka_unit_test(a_disk_that_lies_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
