/*
 * test_fault_writes.c - every write, sync, truncation, deletion and making of a file failing in
 * turn, once or for good, with an error of input and output or a full disk, for changes of all
 * kinds and durabilities. A change that fails leaves the table in memory and the one on disk as
 * they were, and both equal; what was visible before it could be stored is taken back and told; and
 * the next change works.
 *
 * `test_fault_writes changes N [SEED]` makes N changes of each sort instead of the tests.
 */
#include "mutation_load.h"

#include <sys/stat.h>

#include "power_vfs.h"

/* A way to fail. */
typedef struct failure {
    power_change kind;
    bool full, for_good;
} failure;

static const failure failures[] = {
    {POWER_ANY, false, false}, {POWER_ANY, false, true},   {POWER_ANY, true, false},
    {POWER_ANY, true, true},   {POWER_SYNC, false, false},
};

enum { FAILURES = sizeof failures / sizeof failures[0] };

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
    char directory[256], path[300];
    uint64_t random;
    load_table table;
    uint64_t shown;    /* the highest revision of a receipt */
    atomic_ulong lost; /* as the callback was told since the last look */
    char what[200];    /* is being done, for messages */
} scene;

/* Tries with a failure that came about; that failed; of them deferred changes, and those stored but
 * not synced. */
static long tries, refused, taken_back, unsynced;

static void note_lost(void *user, uint64_t mutations, const sr_error *error) {
    scene *self = user;
    atomic_fetch_add(&self->lost, error->code == SR_OK ? 1000000 : (unsigned long)mutations);
}

static sr_router *open_router(scene *self, bool told) {
    sr_options options = {.size = sizeof options,
                          .database = self->path,
                          .encoder = self->encoder,
                          .threads = 1,
                          .fast_model = "",
                          .lost = told ? note_lost : NULL,
                          .lost_user = self};
    sr_router *router = NULL;
    sr_error error;
    if (sr_router_open(&options, &router, &error) != SR_OK)
        fail_msg("%s: cannot be opened: %s", self->what, error.message);
    return router;
}

static void open_scene(scene *self, uint64_t seed) {
    *self = (scene){.random = seed};
    self->encoder = toy_open(&self->toy, "toy");
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    power_on(self->directory);
}

static void close_scene(scene *self) {
    sr_router_close(&self->router);
    sr_encoder_close(&self->encoder);
    power_off();
    toy_remove_directory(self->directory);
}

/* ---- Looking --------------------------------------------------------------------------------- */

static void expect_table(scene *self, sr_router *router, const char *where) {
    char why[256] = "";
    if (!load_compare(&self->table, router, self->encoder, 'r', false, why))
        fail_msg("%s: %s: %s", self->what, where, why);
}

static sr_info info_of(sr_router *router) {
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    return info;
}

/* The table that another router reads is that of this one; so are the counts, and the fit. */
static void expect_same_on_disk(scene *self) {
    sr_router *other = open_router(self, false);
    expect_table(self, other, "on disk");
    sr_info ours = info_of(self->router), theirs = info_of(other);
    assert_int_equal(ours.utterances, theirs.utterances);
    assert_int_equal(ours.fit, theirs.fit);
    assert_int_equal(ours.fit_revision, theirs.fit_revision);
    assert_int_equal(ours.waiting, 0);
    sr_router_close(&other);
}

/* ---- Failing --------------------------------------------------------------------------------- */

static void describe(scene *self, const load_change *change, const failure *way, long n) {
    snprintf(self->what, sizeof self->what,
             "revision %llu, change %d of durability %d, %s fails at the %ld. %s%s",
             (unsigned long long)self->table.revision, (int)change->kind, (int)change->durability,
             way->kind == POWER_SYNC ? "a sync" : "a change", n, way->full ? "(full disk)" : "",
             way->for_good ? " for good" : "");
}

static bool is_deferred(const load_change *change) {
    return (change->kind == LOAD_PUT || change->kind == LOAD_REMOVE) &&
           change->durability == SR_DURABILITY_DEFERRED;
}

/* The change with all it brings about; its status, or that of storing it behind. */
static sr_status change_and_flush(scene *self, const load_change *change, sr_error *error) {
    sr_receipt receipt = {0};
    sr_status code = load_run(self->router, self->encoder, change, 'r', &receipt, error),
              later = SR_OK;
    self->shown = receipt.revision > self->shown ? receipt.revision : self->shown;
    if (is_deferred(change)) later = sr_router_flush(self->router, error);
    if (code != SR_OK && is_deferred(change) && later != SR_OK)
        fail_msg("%s: fails twice: %s", self->what, error->message);
    return code != SR_OK ? code : later;
}

static void expect_status(scene *self, const failure *way, const sr_error *error) {
    bool right = error->code == SR_ERR_IO || (way->full && error->code == SR_ERR_FULL);
    if (!right) fail_msg("%s: %s: %s", self->what, sr_status_name(error->code), error->message);
}

/* The next changes work: a route that the model does not know comes and goes. The first receipt
 * tells of deferred changes that were taken back, as the callback has done; their revisions are not
 * given again. */
static void go_on(scene *self, const load_change *change, bool refusal) {
    sr_receipt first = {0};
    sr_error error = {0};
    if (toy_put(self->router, "probe", "a text|of its own", SR_PUT_REPLACE, NULL, &error) !=
            SR_OK ||
        sr_route_remove(self->router, sr_str_of("probe"), &first, &error) != SR_OK)
        fail_msg("%s: then the next change fails: %s", self->what, error.message);
    if (first.revision < self->table.revision + 2 || first.revision < self->shown + 2)
        fail_msg("%s: the revision %llu was there before", self->what,
                 (unsigned long long)first.revision);
    self->table.revision = self->shown = first.revision;
    unsigned long expected = refusal && is_deferred(change), told = atomic_exchange(&self->lost, 0);
    if (told > expected || first.lost != told)
        fail_msg("%s: the callback tells of %lu changes lost, the next receipt of %llu", self->what,
                 told, (unsigned long long)first.lost);
    taken_back += (long)told;
    expect_same_on_disk(self);
}

/* The one call that fails and leaves its change in place: it is stored, and what has failed is the
 * sync. */
static bool was_stored(scene *self, const load_change *change, const load_table *after) {
    return change->durability == SR_DURABILITY_FULL && after->revision != self->table.revision &&
           info_of(self->router).revision == after->revision;
}

/* Tries a change with the n-th step of it failing. False when it is done, with or without a
 * failure. */
static bool fail_at(scene *self, const load_change *change, const failure *way, long n) {
    load_table after = self->table;
    sr_error error = {0};
    load_apply(&after, change);
    describe(self, change, way, n);
    power_fail(way->kind, n, way->full, way->for_good);
    sr_status code = change_and_flush(self, change, &error);
    bool failed = power_failed();
    if (code != SR_OK && !failed) fail_msg("%s: fails by itself: %s", self->what, error.message);
    bool stored = code == SR_OK || was_stored(self, change, &after);
    if (stored) self->table = after;
    expect_table(self, self->router, "in memory, while it fails");
    power_fail(way->kind, 0, false, false);
    if (code != SR_OK) expect_status(self, way, &error);
    expect_table(self, self->router, "in memory");
    expect_same_on_disk(self);
    go_on(self, change, code != SR_OK);
    tries += failed;
    refused += code != SR_OK;
    unsynced += code != SR_OK && stored;
    return !stored;
}

static void fail_changes(uint64_t seed, int changes, const failure *way) {
    scene self;
    open_scene(&self, seed);
    self.router = open_router(&self, true);
    for (int i = 0; i < changes; i++) {
        load_change change = load_draw(&self.table, true, &self.random);
        for (long n = 1; fail_at(&self, &change, way, n); n++) continue;
        if (power_random(&self.random) % 10 != 0) continue;
        sr_router_close(&self.router);
        self.router = open_router(&self, true);
    }
    if (sr_router_verify(self.router, NULL) != SR_OK) fail_msg("%s: does not verify", self.what);
    close_scene(&self);
}

static void fail_in_all_ways(int changes, uint64_t seed) {
    tries = refused = taken_back = unsynced = 0;
    for (size_t i = 0; i < FAILURES; i++) fail_changes(seed + i, changes, &failures[i]);
    print_message("# %ld failures: %ld changes refused, of them %ld deferred ones taken back, %ld "
                  "stored but not "
                  "synced\n",
                  tries, refused, taken_back, unsynced);
}

static void memory_equals_disk_whatever_fails(void **state) {
    (void)state;
    fail_in_all_ways(20, 1);
    assert_true(refused > 300);
}

/* ---- The first change, and the end ----------------------------------------------------------- */

/* Making the database fails at each step in turn: there is none then, or an empty one, and the next
 * try makes it. */
static void fail_making(const failure *way) {
    bool failed = true;
    for (long n = 1; failed; n++) {
        scene self;
        sr_error error = {0};
        load_change change = {.kind = LOAD_PUT, .count = 1};
        change.puts[0].list = (load_list){2, {3, 4}};
        open_scene(&self, 1);
        self.router = open_router(&self, true);
        describe(&self, &change, way, n);
        power_fail(way->kind, n, way->full, way->for_good);
        sr_status code = change_and_flush(&self, &change, &error);
        failed = power_failed();
        power_fail(way->kind, 0, false, false);
        if (code != SR_OK) expect_status(&self, way, &error);
        if (code == SR_OK) load_apply(&self.table, &change);
        expect_table(&self, self.router, "in memory");
        expect_same_on_disk(&self);
        go_on(&self, &change, false);
        close_scene(&self);
    }
}

static void a_database_that_cannot_be_made_is_made_later(void **state) {
    (void)state;
    for (size_t i = 0; i < FAILURES; i++) fail_making(&failures[i]);
}

/* Closing writes what waits, and moves the log into the database; what fails then is told, and what
 * was stored stays. */
static void fail_closing(const failure *way) {
    bool failed = true;
    for (long n = 1; failed; n++) {
        scene self;
        sr_receipt receipt = {0};
        sr_error error;
        load_change change = {.kind = LOAD_PUT, .count = 1, .durability = SR_DURABILITY_DEFERRED};
        change.puts[0].list = (load_list){2, {3, 4}};
        open_scene(&self, 1);
        self.router = open_router(&self, true);
        assert_int_equal(toy_put(self.router, "r7", "text 0 of 0", SR_PUT_REPLACE, NULL, NULL),
                         SR_OK);
        self.table = (load_table){.revision = 1, .order = {7}, .count = 1};
        self.table.routes[7] = (load_route){.there = true, .list = {1, {0}}};
        describe(&self, &change, way, n);
        power_fail(way->kind, n, way->full, way->for_good);
        sr_status code = load_run(self.router, self.encoder, &change, 'r', &receipt, &error);
        sr_router_close(&self.router);
        failed = power_failed();
        power_fail(way->kind, 0, false, false);
        if (code == SR_OK && atomic_load(&self.lost) == 0) load_apply(&self.table, &change);
        assert_true(atomic_load(&self.lost) <= 1);
        self.router = open_router(&self, true);
        expect_table(&self, self.router, "after closing");
        assert_int_equal(sr_router_verify(self.router, NULL), SR_OK);
        close_scene(&self);
    }
}

static void closing_stores_what_waits_or_tells_of_it(void **state) {
    (void)state;
    for (size_t i = 0; i < FAILURES; i++) fail_closing(&failures[i]);
}

/* ---- Many deferred changes ------------------------------------------------------------------- */

static sr_status put_deferred(scene *self, int number, sr_receipt *receipt) {
    char name[16];
    snprintf(name, sizeof name, "burst %d", number);
    sr_str text = sr_str_of("a text of them all");
    sr_route route = {
        .size = sizeof route, .name = sr_str_of(name), .utterances = &text, .utterance_count = 1};
    sr_put_options options = {.size = sizeof options, .durability = SR_DURABILITY_DEFERRED};
    return sr_routes_put(self->router, &route, 1, &options, receipt, NULL);
}

/* Of all changes that were acknowledged, those that are not there were told as lost, by the
 * callback and by receipts alike. */
static void expect_all_accounted_for(scene *self, uint64_t acknowledged, uint64_t in_receipts) {
    static char ours[1 << 14], theirs[1 << 14];
    sr_receipt receipt = {0};
    sr_error error = {0};
    toy_dump(self->router, ours, sizeof ours);
    sr_router *other = open_router(self, false);
    toy_dump(other, theirs, sizeof theirs);
    sr_router_close(&other);
    assert_string_equal(ours, theirs);
    unsigned long told = atomic_load(&self->lost);
    uint64_t there = info_of(self->router).routes;
    if (toy_put(self->router, "after", "x", SR_PUT_REPLACE, &receipt, &error) != SR_OK)
        fail_msg("%s: then the next change fails: %s", self->what, error.message);
    if (there + told != acknowledged || in_receipts + receipt.lost != told)
        fail_msg("%s: %llu changes acknowledged, %llu there, %lu told as lost, %llu in receipts",
                 self->what, (unsigned long long)acknowledged, (unsigned long long)there, told,
                 (unsigned long long)(in_receipts + receipt.lost));
    assert_int_equal(sr_router_flush(self->router, NULL), SR_OK);
    taken_back += (long)told;
}

static void fail_burst(const failure *way, long n) {
    scene self;
    uint64_t acknowledged = 1, in_receipts = 0;
    open_scene(&self, 1);
    self.router = open_router(&self, true);
    assert_int_equal(toy_put(self.router, "first", "x", SR_PUT_REPLACE, NULL, NULL), SR_OK);
    snprintf(self.what, sizeof self.what, "a burst, change %ld fails%s%s", n,
             way->full ? " (full disk)" : "", way->for_good ? " for good" : "");
    power_fail(way->kind, n, way->full, way->for_good);
    for (int i = 0; i < 25; i++) {
        sr_receipt receipt = {0};
        bool taken = put_deferred(&self, i, &receipt) == SR_OK;
        acknowledged += taken;
        in_receipts += taken ? receipt.lost : 0;
        if (i % 8 == 7) usleep(1000); /* several groups */
    }
    sr_status code = sr_router_flush(self.router, NULL);
    power_fail(way->kind, 0, false, false);
    if ((code != SR_OK) != (atomic_load(&self.lost) > 0))
        fail_msg("%s: the flush says %s, but %lu changes are lost", self.what, sr_status_name(code),
                 atomic_load(&self.lost));
    expect_all_accounted_for(&self, acknowledged, in_receipts);
    close_scene(&self);
}

static void deferred_changes_are_stored_or_told_as_lost(void **state) {
    (void)state;
    taken_back = 0;
    for (size_t i = 0; i < FAILURES; i++)
        for (long n = 1; n <= 40; n += 3) fail_burst(&failures[i], n);
    assert_true(taken_back > 0);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "changes") == 0) {
        fail_in_all_ways(atoi(argv[2]), argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_equals_disk_whatever_fails),
        cmocka_unit_test(a_database_that_cannot_be_made_is_made_later),
        cmocka_unit_test(deferred_changes_are_stored_or_told_as_lost),
        cmocka_unit_test(closing_stores_what_waits_or_tells_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
