/*
 * test_fault_kill.c - processes killed at random moments of a load of changes. A child changes the
 * table and writes what it was told to a pipe; the parent kills it, follows its load in a model,
 * and compares with what the database then holds: nothing half there, and nothing missing that was
 * acknowledged as `normal` or `full`. Databases go through many kills.
 *
 * `test_fault_kill kills N [SEED]` makes N kills of each sort instead of the tests.
 */
#include "mutation_load.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "power_vfs.h"

enum { MOST_LOADERS = 3, MOST_CHANGES = 20000, KILLS_OF_ONE_DATABASE = 10 };

/* What a child tells: a change was acknowledged. */
typedef struct word {
    uint64_t loader, change; /* the number of the change, from 1 */
    sr_durability durability;
} word;

/* One thread's load, and how far it is known to have come. */
typedef struct loader {
    uint64_t seed;
    load_table base; /* when the load began */
    uint64_t kept;   /* number of the last change acknowledged as normal or full */
    uint64_t told;   /* and at all */
} loader;

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    char directory[256], path[300];
    uint64_t random;
    int processes, threads; /* of each process; every one of them is a loader */
    bool lies;              /* children acknowledge changes before they make them */
    char why[512];          /* what is wrong; "" so far */
    loader loaders[MOST_LOADERS];
} scene;

static long kills, acknowledged, lost; /* deferred changes that went with their process */

static int loaders_of(const scene *self) { return self->processes * self->threads; }

static char prefix_of(int number) { return (char)('a' + number); }

/* ---- The child ------------------------------------------------------------------------------- */

typedef struct worker {
    scene *scene;
    sr_router *router;
    int loader, pipe;
    pthread_t handle;
} worker;

static void tell(int pipe, const word *said) {
    if (write(pipe, said, sizeof *said) != (ssize_t)sizeof *said) _exit(3);
}

/* Out-of-scope examples are not a thread's own. */
static load_change draw(const load_table *table, uint64_t *random, bool alone) {
    load_change change = load_draw(table, alone, random);
    while (!alone && (change.kind == LOAD_OOS_PUT || change.kind == LOAD_OOS_REMOVE))
        change = load_draw(table, alone, random);
    if (!alone) change.oos.count = 0;
    return change;
}

static void *change_on(void *argument) {
    worker *self = argument;
    const loader *of = &self->scene->loaders[self->loader];
    bool alone = loaders_of(self->scene) == 1;
    load_table table = of->base;
    uint64_t random = of->seed;
    for (uint64_t i = 1; i < MOST_CHANGES; i++) {
        load_change change = draw(&table, &random, alone);
        load_apply(&table, &change);
        sr_receipt receipt = {.durability = SR_DURABILITY_NORMAL};
        sr_error error;
        word said = {(uint64_t)self->loader, i, receipt.durability};
        if (self->scene->lies) tell(self->pipe, &said);
        sr_status code = SR_ERR_BUSY; /* other processes may be quicker again and again */
        while (code == SR_ERR_BUSY)
            code = load_run(self->router, self->scene->encoder, &change, prefix_of(self->loader),
                            &receipt, &error);
        if (code != SR_OK) {
            fprintf(stderr, "# %s\n", error.message);
            _exit(2);
        }
        said.durability = receipt.durability;
        if (!self->scene->lies) tell(self->pipe, &said);
    }
    return NULL;
}

/* Opens the database and changes it until it is killed, which may be before that. */
static void run_child(scene *self, int process, int pipe) {
    worker workers[MOST_LOADERS];
    sr_router *router = NULL;
    sr_error error;
    if (load_open(self->path, self->encoder, SR_DURABILITY_NORMAL, &router, &error) != SR_OK) {
        fprintf(stderr, "# %s\n", error.message);
        _exit(1);
    }
    for (int i = 0; i < self->threads; i++) {
        workers[i] = (worker){
            .scene = self, .router = router, .loader = process * self->threads + i, .pipe = pipe};
        if (pthread_create(&workers[i].handle, NULL, change_on, &workers[i]) != 0) _exit(4);
    }
    for (int i = 0; i < self->threads; i++) pthread_join(workers[i].handle, NULL);
    pause();
}

/* ---- The parent ------------------------------------------------------------------------------ */

/* Takes down the next word; false when nobody is left to say any. */
static bool listen_to(scene *self, int pipe) {
    word said;
    if (read(pipe, &said, sizeof said) != (ssize_t)sizeof said) return false;
    loader *of = &self->loaders[said.loader];
    of->told = said.change;
    if (said.durability == SR_DURABILITY_NORMAL || said.durability == SR_DURABILITY_FULL)
        of->kept = said.change;
    acknowledged++;
    return true;
}

static pid_t start_child(scene *self, int process, const int pipe[2]) {
    pid_t child = fork();
    if (child == 0) {
        close(pipe[0]);
        run_child(self, process, pipe[1]);
        _exit(0);
    }
    return child;
}

/* Kills a child some moments after it, or another one, has told of some changes, or while it
 * begins. The next child goes on meanwhile. */
static void kill_child(scene *self, pid_t child, int pipe) {
    int status;
    uint64_t words = power_random(&self->random) % 50;
    if (power_random(&self->random) % 5 == 0) words = 0;
    for (uint64_t i = 0; i < words && listen_to(self, pipe); i++) continue;
    usleep((useconds_t)(power_random(&self->random) % (words == 0 ? 15000 : 3000)));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status)) fail_msg("the child ended by itself, with status %d", status);
    kills++;
}

static void run_and_kill(scene *self) {
    int ends[2];
    pid_t children[MOST_LOADERS];
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < self->processes; i++) children[i] = start_child(self, i, ends);
    close(ends[1]);
    for (int i = 0; i < self->processes; i++) kill_child(self, children[i], ends[0]);
    while (listen_to(self, ends[0])) continue;
    close(ends[0]);
}

/* Moves a loader's model to the state that the database holds: after the last change that must be
 * there, or one of those after it. What was tried last may be there without being acknowledged, and
 * deferred changes may not. */
static void find_state(scene *self, int number, sr_router *router) {
    loader *of = &self->loaders[number];
    bool alone = loaders_of(self) == 1, found = false;
    load_table table = of->base;
    uint64_t random = of->seed, change = 0;
    char why[256] = "", first[256] = "";
    for (;; change++) {
        found = change >= of->kept &&
                load_compare(&table, router, self->encoder, prefix_of(number), !alone, why);
        if (change == of->kept) memcpy(first, why, sizeof first);
        if (found || change > of->told) break;
        load_change next = draw(&table, &random, alone);
        load_apply(&table, &next);
    }
    if (!found)
        snprintf(self->why, sizeof self->why,
                 "seed %llu, loader %d: the table is that after none of the changes %llu to %llu: "
                 "at the first of them, %s",
                 (unsigned long long)of->seed, number, (unsigned long long)of->kept,
                 (unsigned long long)of->told + 1, first);
    lost += change < of->told ? (long)(of->told - change) : 0;
    of->base = table;
}

static void look_at_rest(scene *self) {
    sr_router *router = NULL;
    sr_error error;
    if (load_open(self->path, self->encoder, SR_DURABILITY_NORMAL, &router, &error) != SR_OK)
        snprintf(self->why, sizeof self->why, "cannot be opened: %.400s", error.message);
    else if (sr_router_verify(router, &error) != SR_OK)
        snprintf(self->why, sizeof self->why, "does not verify: %.400s", error.message);
    for (int i = 0; i < loaders_of(self) && self->why[0] == '\0'; i++) find_state(self, i, router);
    sr_router_close(&router);
}

static void open_scene(scene *self, uint64_t seed, int processes, int threads) {
    *self = (scene){.random = seed, .processes = processes, .threads = threads};
    self->encoder = toy_open(&self->toy, "toy");
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
}

static void close_scene(scene *self) {
    sr_encoder_close(&self->encoder);
    toy_remove_directory(self->directory);
}

/* Kills one database's processes up to `times` times; false when something was wrong, which `why`
 * then tells. */
static bool kill_database(uint64_t seed, int processes, int threads, bool lies, int times,
                          char why[512]) {
    scene self;
    open_scene(&self, seed, processes, threads);
    self.lies = lies;
    for (int i = 0; i < times && self.why[0] == '\0'; i++) {
        for (int k = 0; k < loaders_of(&self); k++) {
            self.loaders[k].seed = power_random(&self.random);
            self.loaders[k].kept = self.loaders[k].told = 0;
        }
        run_and_kill(&self);
        look_at_rest(&self);
    }
    memcpy(why, self.why, sizeof self.why);
    close_scene(&self);
    return why[0] == '\0';
}

static void make_kills(int times, uint64_t seed, int processes, int threads) {
    kills = acknowledged = lost = 0;
    char why[512];
    for (; kills < times; seed++)
        if (!kill_database(seed, processes, threads, false, KILLS_OF_ONE_DATABASE, why))
            fail_msg("%s", why);
    print_message("# %d processes of %d threads: %ld kills, %ld changes acknowledged, of them %ld "
                  "deferred ones lost\n",
                  processes, threads, kills, acknowledged, lost);
    assert_true(acknowledged > kills);
}

static void kills_lose_nothing_and_leave_nothing_half(void **state) {
    (void)state;
    make_kills(25, 1, 1, 1);
}

/* Several threads, whose changes are stored in common groups. */
static void kills_lose_nothing_of_several_threads(void **state) {
    (void)state;
    make_kills(15, 100, 1, 3);
}

/* One process goes on while the other is killed: it finds half a transaction in the common log. */
static void kills_harm_no_other_process(void **state) {
    (void)state;
    make_kills(20, 200, 2, 1);
}

/* Children that acknowledge too early must be caught. */
static void a_child_that_lies_is_found_out(void **state) {
    (void)state;
    int caught = 0;
    char why[512];
    for (uint64_t seed = 1; seed <= 4; seed++)
        caught += !kill_database(seed, 1, 1, true, KILLS_OF_ONE_DATABASE, why);
    assert_true(caught > 0);
}

/* A route is put deferred, and then again as durably as said, which changes nothing. */
static void put_twice_and_die(scene *self, sr_durability durability) {
    sr_router *router = NULL;
    sr_str text = sr_str_of("y");
    sr_route route = {
        .size = sizeof route, .name = sr_str_of("b"), .utterances = &text, .utterance_count = 1};
    sr_put_options options = {.size = sizeof options, .durability = SR_DURABILITY_DEFERRED};
    sr_receipt receipt;
    if (load_open(self->path, self->encoder, SR_DURABILITY_NORMAL, &router, NULL) != SR_OK ||
        toy_put(router, "a", "x", SR_PUT_REPLACE, NULL, NULL) != SR_OK ||
        sr_routes_put(router, &route, 1, &options, NULL, NULL) != SR_OK)
        _exit(1);
    options.durability = durability;
    if (sr_routes_put(router, &route, 1, &options, &receipt, NULL) != SR_OK) _exit(2);
    if (receipt.durability != durability || receipt.routes_added != 0) _exit(3);
    kill(getpid(), SIGKILL);
}

/* What finds nothing to change vouches for what it has found. */
static void what_is_acknowledged_again_is_stored(void **state) {
    (void)state;
    for (int i = 0; i < 10; i++) {
        scene self;
        int status;
        open_scene(&self, 1, 1, 1);
        pid_t child = fork();
        if (child == 0) {
            put_twice_and_die(&self, i % 2 == 0 ? SR_DURABILITY_NORMAL : SR_DURABILITY_FULL);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        sr_router *router = toy_router(self.path, self.encoder, 0);
        toy_assert_table(router, "a:x;b:y;");
        sr_router_close(&router);
        close_scene(&self);
    }
}

/* ---- Several routers of one process ---------------------------------------------------------- */

/* POSIX takes a process's locks on a file when it closes any descriptor of it. If a second router
 * did that to the first, another process would think itself alone, and remove the log that the
 * first goes on writing to. */
static void open_twice_and_change(scene *self, const char *program) {
    sr_router *one = toy_router(self->path, self->encoder, 0);
    if (toy_put(one, "first", "x", SR_PUT_REPLACE, NULL, NULL) != SR_OK) _exit(1);
    sr_router *two = toy_router(self->path, self->encoder, 0);
    sr_router_close(&two);
    two = toy_router(self->path, self->encoder, SR_OPEN_READ_ONLY);
    pid_t other = fork();
    if (other == 0) {
        execl("/proc/self/exe", program, "open", self->path, (char *)NULL);
        _exit(127);
    }
    int status;
    if (waitpid(other, &status, 0) != other || status != 0) _exit(2);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "r%d", i);
        if (toy_put(one, name, "y", SR_PUT_REPLACE, NULL, NULL) != SR_OK) _exit(3);
    }
    kill(getpid(), SIGKILL);
}

static void routers_of_one_process_keep_each_others_locks(void **state) {
    (void)state;
    scene self;
    open_scene(&self, 1, 1, 1);
    pid_t child = fork();
    if (child == 0) {
        open_twice_and_change(&self, "test_fault_kill");
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    sr_router *router = toy_router(self.path, self.encoder, 0);
    sr_info info = {.size = sizeof info};
    assert_int_equal(sr_router_info(router, &info, NULL), SR_OK);
    assert_int_equal(info.routes, 21);
    sr_router_close(&router);
    close_scene(&self);
}

/* Another process: opens the database and closes it. */
static int open_and_close(const char *path) {
    toy own = {0};
    sr_encoder *encoder = toy_open(&own, "toy");
    sr_router *router = toy_router(path, encoder, 0);
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "open") == 0) return open_and_close(argv[2]);
    if (argc > 2 && strcmp(argv[1], "kills") == 0) {
        uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
        make_kills(atoi(argv[2]), seed, 1, 1);
        make_kills(atoi(argv[2]), seed, 1, 3);
        make_kills(atoi(argv[2]), seed, 2, 1);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_lose_nothing_and_leave_nothing_half),
        cmocka_unit_test(kills_lose_nothing_of_several_threads),
        cmocka_unit_test(kills_harm_no_other_process),
        cmocka_unit_test(a_child_that_lies_is_found_out),
        cmocka_unit_test(what_is_acknowledged_again_is_stored),
        cmocka_unit_test(routers_of_one_process_keep_each_others_locks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
