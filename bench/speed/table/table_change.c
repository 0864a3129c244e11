/* table_change.c - what changes of a table cost, by themselves and for those who read it meanwhile.
 */
#include "table_speed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void table_put(sr_router *router, const char *name, const table_rows *rows, size_t first,
               sr_durability durability) {
    static _Thread_local float vectors[TABLE_PER_ROUTE * 4096];
    char texts[TABLE_PER_ROUTE][64];
    sr_str utterances[TABLE_PER_ROUTE];
    size_t dimension = (size_t)rows->dimension;
    for (size_t i = 0; i < TABLE_PER_ROUTE; i++) {
        snprintf(texts[i], sizeof texts[i], "one of the ways to ask for %s, %zu", name, i);
        utterances[i] = sr_str_of(texts[i]);
        memcpy(vectors + i * dimension, table_row(rows, first + i), dimension * sizeof *vectors);
    }
    sr_error error;
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = utterances,
                      .utterance_count = TABLE_PER_ROUTE,
                      .vectors = vectors};
    sr_put_options options = {.size = sizeof options, .durability = durability};
    table_must(sr_routes_put(router, &route, 1, &options, NULL, &error), &error);
}

void table_remove(sr_router *router, const char *name, sr_durability durability) {
    sr_error error;
    sr_str names[1] = {sr_str_of(name)};
    sr_remove_options options = {.size = sizeof options, .durability = durability};
    table_must(sr_routes_remove(router, names, 1, &options, NULL, &error), &error);
}

/* The first decision loads what is not loaded yet. */
static void decide_one(sr_router *router, size_t query) {
    static const sr_decide_options best = {
        .size = sizeof best, .path = SR_PATH_SLOW, .top_k = 1, .no_reject = 1};
    char room[32];
    sr_str text = table_query(room, query);
    sr_decisions *decisions = NULL;
    sr_error error;
    table_must(sr_decide(router, &text, 1, &best, &decisions, &error), &error);
    sr_decisions_free(&decisions);
}

/* ---- One change at a time -------------------------------------------------------------------- */

static void time_pairs(sr_router *router, const table_rows *rows, const char *durability,
                       size_t pairs) {
    double *add = table_alloc(pairs, sizeof *add), *removal = table_alloc(pairs, sizeof *removal);
    sr_durability kind = table_durability(durability);
    sr_error error;
    char name[64];
    double begin = table_now();
    for (size_t i = 0; i < pairs; i++) {
        snprintf(name, sizeof name, "new-%zu", i);
        double start = table_now();
        table_put(router, name, rows, i * TABLE_PER_ROUTE, kind);
        double middle = table_now();
        table_remove(router, name, kind);
        add[i] = middle - start;
        removal[i] = table_now() - middle;
    }
    double apply = table_now() - begin;
    table_must(sr_router_flush(router, &error), &error);
    printf("\"%s\": {\"add_median_us\": %.2f, \"add_p99_us\": %.2f, \"remove_median_us\": %.2f, "
           "\"remove_p99_us\": %.2f, \"changes_per_second\": %.0f, \"stored_per_second\": %.0f}",
           durability, table_percentile(add, pairs, 0.5) * 1e6,
           table_percentile(add, pairs, 0.99) * 1e6, table_percentile(removal, pairs, 0.5) * 1e6,
           table_percentile(removal, pairs, 0.99) * 1e6, 2 * (double)pairs / apply,
           2 * (double)pairs / (table_now() - begin));
}

/* One utterance more and one less, of a route that has `size` of them. */
static void time_extension(sr_router *router, const table_rows *rows, size_t size, size_t pairs) {
    double *add = table_alloc(pairs, sizeof *add), *removal = table_alloc(pairs, sizeof *removal);
    char text[64];
    sr_str utterance, name = sr_str_of("extended");
    sr_error error;
    sr_route route = {
        .size = sizeof route, .name = name, .utterances = &utterance, .utterance_count = 1};
    sr_put_options options = {
        .size = sizeof options, .mode = SR_PUT_EXTEND, .durability = SR_DURABILITY_DEFERRED};
    for (size_t i = 0; i < size + pairs; i++) {
        snprintf(text, sizeof text, "one more way to ask, %zu", i);
        utterance = sr_str_of(text);
        route.vectors = table_row(rows, i);
        double start = table_now();
        table_must(sr_routes_put(router, &route, 1, &options, NULL, &error), &error);
        double middle = table_now();
        if (i < size) continue;
        snprintf(text, sizeof text, "one more way to ask, %zu", i - size);
        utterance = sr_str_of(text);
        table_must(sr_utterances_remove(router, name, &utterance, 1, NULL, &error), &error);
        add[i - size] = middle - start;
        removal[i - size] = table_now() - middle;
    }
    printf("\"%zu\": {\"add_median_us\": %.2f, \"add_p99_us\": %.2f, \"remove_median_us\": %.2f, "
           "\"remove_p99_us\": %.2f}",
           size, table_percentile(add, pairs, 0.5) * 1e6, table_percentile(add, pairs, 0.99) * 1e6,
           table_percentile(removal, pairs, 0.5) * 1e6,
           table_percentile(removal, pairs, 0.99) * 1e6);
    table_remove(router, "extended", SR_DURABILITY_DEFERRED);
    table_must(sr_router_flush(router, &error), &error);
}

int table_extend(int count, char **arguments) {
    static const size_t sizes[] = {5, 100, 10000};
    if (count != 4) return 2;
    table_rows rows = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    size_t pairs = table_number(arguments[3]);
    sr_encoder *encoder = table_encoder(&rows);
    sr_router *router = table_open(arguments[0], encoder, 1, SR_DURABILITY_DEFERRED);
    decide_one(router, 0);
    printf("{");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (i > 0) printf(", ");
        time_extension(router, &rows, sizes[i], pairs);
    }
    printf("}\n");
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

int table_mutate(int count, char **arguments) {
    if (count != 4) return 2;
    table_rows rows = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    size_t pairs = table_number(arguments[3]);
    sr_encoder *encoder = table_encoder(&rows);
    sr_router *router = table_open(arguments[0], encoder, 1, SR_DURABILITY_DEFAULT);
    decide_one(router, 0);
    printf("{");
    time_pairs(router, &rows, "deferred", pairs);
    printf(", ");
    time_pairs(router, &rows, "normal", pairs / 2);
    printf(", ");
    time_pairs(router, &rows, "full", pairs / 20);
    printf("}\n");
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

/* ---- A reader beside a writer ---------------------------------------------------------------- */

typedef struct writer {
    pthread_t thread;
    sr_router *router;
    const table_rows *rows;
    double rate; /* changes a second */
    atomic_bool stop;
    size_t made;
    double behind; /* seconds at most that it was late */
} writer;

enum { WRITER_ROUTES = 200 };

static void *write_on(void *user) {
    writer *this = user;
    char name[64];
    double start = table_now();
    for (; !atomic_load(&this->stop); this->made++) {
        double when = start + (double)this->made / this->rate, late = table_now() - when;
        this->behind = late > this->behind ? late : this->behind;
        if (late < 0) table_sleep_until(when);
        snprintf(name, sizeof name, "beside-%zu", this->made / 2 % WRITER_ROUTES);
        if (this->made % 2 == 0)
            table_put(this->router, name, this->rows, this->made, SR_DURABILITY_DEFERRED);
        else
            table_remove(this->router, name, SR_DURABILITY_DEFERRED);
    }
    return NULL;
}

typedef struct latency {
    double p50, p99, longest, mean;
    size_t n;
} latency;

static latency read_for(sr_router *router, double seconds, double *times, size_t most) {
    latency result = {0};
    double start = table_now(), stop = start + seconds;
    for (double end = start; end < stop && result.n < most; start = end) {
        decide_one(router, result.n % 1000);
        end = table_now();
        times[result.n++] = end - start;
    }
    result.p50 = table_percentile(times, result.n, 0.5);
    result.p99 = table_percentile(times, result.n, 0.99);
    result.longest = times[result.n - 1];
    return result;
}

static void print_latency(const char *name, latency of) {
    printf("\"%s\": {\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"longest_ms\": %.3f, \"queries\": %zu}, ",
           name, of.p50 * 1e3, of.p99 * 1e3, of.longest * 1e3, of.n);
}

int table_beside(int count, char **arguments) {
    enum { MOST = 4000000 };
    if (count != 5) return 2;
    table_rows rows = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    double seconds = (double)table_number(arguments[3]), *times = table_alloc(MOST, sizeof *times);
    sr_encoder *encoder = table_encoder(&rows);
    sr_router *router = table_open(arguments[0], encoder, 1, SR_DURABILITY_DEFAULT);
    writer beside = {.router = router, .rows = &rows, .rate = (double)table_number(arguments[4])};
    (void)read_for(router, 1, times, MOST);
    latency alone = read_for(router, seconds, times, MOST);
    double start = table_now();
    if (pthread_create(&beside.thread, NULL, write_on, &beside) != 0)
        table_fail("no thread can be started");
    latency together = read_for(router, seconds, times, MOST);
    atomic_store(&beside.stop, true);
    pthread_join(beside.thread, NULL);
    double rate = (double)beside.made / (table_now() - start);
    latency after = read_for(router, seconds, times, MOST);
    printf("{");
    print_latency("alone", alone);
    print_latency("beside_writer", together);
    print_latency("alone_again", after);
    printf("\"changes_per_second\": %.0f, \"writer_late_ms\": %.2f, \"p99_ratio\": %.3f}\n", rate,
           beside.behind * 1e3, together.p99 / (alone.p99 > after.p99 ? alone.p99 : after.p99));
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

/* ---- Two processes that write ---------------------------------------------------------------- */

enum { RIVAL_EVERY_MS = 20 };

/* The one that hardly ever rests; gives its rate. */
static double write_alone(const char *database, const table_rows *rows, double seconds,
                          double rate) {
    sr_encoder *encoder = table_encoder(rows);
    sr_router *router = table_open(database, encoder, 1, SR_DURABILITY_DEFERRED);
    writer beside = {.router = router, .rows = rows, .rate = rate};
    double start = table_now();
    if (pthread_create(&beside.thread, NULL, write_on, &beside) != 0)
        table_fail("no thread can be started");
    table_sleep_until(start + seconds);
    atomic_store(&beside.stop, true);
    pthread_join(beside.thread, NULL);
    double done = (double)beside.made / (table_now() - start);
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return done;
}

/* The other: a change now and then, stored when its call returns. */
static void write_now_and_then(const char *database, const table_rows *rows, double seconds,
                               latency *waited, double *times, size_t most) {
    sr_encoder *encoder = table_encoder(rows);
    sr_router *router = table_open(database, encoder, 1, SR_DURABILITY_NORMAL);
    char name[64];
    double stop = table_now() + seconds;
    for (double next = table_now(); next < stop && waited->n < most;) {
        snprintf(name, sizeof name, "rival-%zu", waited->n % 50);
        double start = table_now();
        table_put(router, name, rows, waited->n, SR_DURABILITY_NORMAL);
        times[waited->n++] = table_now() - start;
        next = table_now() + RIVAL_EVERY_MS * 1e-3;
        table_sleep_until(next);
    }
    for (size_t i = 0; i < waited->n; i++) waited->mean += times[i] / (double)waited->n;
    waited->p50 = table_percentile(times, waited->n, 0.5);
    waited->longest = times[waited->n - 1];
    sr_router_close(&router);
    sr_encoder_close(&encoder);
}

int table_rival(int count, char **arguments) {
    enum { MOST = 100000 };
    if (count != 5) return 2;
    table_rows rows = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    double seconds = (double)table_number(arguments[3]), rate = (double)table_number(arguments[4]);
    double *times = table_alloc(MOST, sizeof *times), together = 0;
    latency waited = {0};
    double alone = write_alone(arguments[0], &rows, seconds, rate);
    int ends[2];
    pid_t child = pipe(ends) == 0 ? fork() : -1;
    if (child < 0) table_fail("no process can be started");
    if (child == 0) {
        together = write_alone(arguments[0], &rows, seconds + 1, rate);
        _exit(write(ends[1], &together, sizeof together) != sizeof together);
    }
    table_sleep_until(table_now() + 0.5);
    write_now_and_then(arguments[0], &rows, seconds, &waited, times, MOST);
    if (read(ends[0], &together, sizeof together) != sizeof together)
        table_fail("the other process has failed");
    waitpid(child, NULL, 0);
    printf("{\"alone_per_second\": %.0f, \"beside_per_second\": %.0f, \"rivals_changes\": %zu, "
           "\"mean_ms\": %.1f, \"p50_ms\": %.1f, \"longest_ms\": %.1f}\n",
           alone, together, waited.n, waited.mean * 1e3, waited.p50 * 1e3, waited.longest * 1e3);
    return 0;
}

/* ---- Endless change -------------------------------------------------------------------------- */

static void print_state(const char *database, size_t pairs) {
    printf("{\"pairs\": %zu, \"anonymous_mb\": %.2f, \"file_mb\": %.2f, \"log_mb\": %.2f}", pairs,
           table_memory("RssAnon"), table_file_mb(database, ""), table_file_mb(database, "-wal"));
}

/* Routes are added at one end and removed at the other, so that what is there moves through all of
 * memory. */
int table_churn(int count, char **arguments) {
    enum { STEPS = 10, ALIVE = 1000 };
    if (count != 4) return 2;
    table_rows rows = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    size_t pairs = table_number(arguments[3]);
    sr_encoder *encoder = table_encoder(&rows);
    sr_router *router = table_open(arguments[0], encoder, 1, SR_DURABILITY_DEFERRED);
    sr_error error;
    char name[64];
    decide_one(router, 0);
    for (size_t i = 0; i < ALIVE; i++) {
        snprintf(name, sizeof name, "churn-%zu", i);
        table_put(router, name, &rows, i * TABLE_PER_ROUTE, SR_DURABILITY_DEFERRED);
    }
    table_must(sr_router_flush(router, &error), &error);
    printf("{\"states\": [");
    print_state(arguments[0], 0);
    double start = table_now(), before = table_memory("RssAnon");
    for (size_t i = 0; i < pairs; i++) {
        snprintf(name, sizeof name, "churn-%zu", i + ALIVE);
        table_put(router, name, &rows, i * TABLE_PER_ROUTE, SR_DURABILITY_DEFERRED);
        snprintf(name, sizeof name, "churn-%zu", i);
        table_remove(router, name, SR_DURABILITY_DEFERRED);
        if ((i + 1) * STEPS / pairs != i * STEPS / pairs) {
            printf(", ");
            print_state(arguments[0], i + 1);
        }
    }
    table_must(sr_router_flush(router, &error), &error);
    double seconds = table_now() - start;
    printf("], \"seconds\": %.1f, \"changes_per_second\": %.0f, \"memory_ratio\": %.4f, "
           "\"peak_mb\": %.1f}\n",
           seconds, 2 * (double)pairs / seconds, table_memory("RssAnon") / before,
           table_memory("VmHWM"));
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}
