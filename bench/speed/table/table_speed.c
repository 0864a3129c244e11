/*
 * table_speed.c - times a route table through the public header; table.py calls it. Vectors are
 * given, so that no encoder is measured. Each part prints one line of JSON.
 *
 *     load DATABASE VECTORS TEXTS DIMENSION ROWS      a new table, durable at the end
 *     search DATABASE QUERIES DIMENSION THREADS SECONDS ANSWERS
 *                                                     start, one query, a thousand, memory
 *     mutate DATABASE VECTORS DIMENSION PAIRS         a route added and removed, by durability
 *     extend DATABASE VECTORS DIMENSION PAIRS         an utterance added to a route and one removed, by its size
 *     beside DATABASE QUERIES DIMENSION SECONDS RATE  a reader without and with a writer
 *     rival DATABASE QUERIES DIMENSION SECONDS RATE   a change now and then beside a process that writes all the time
 *     churn DATABASE VECTORS DIMENSION PAIRS          memory and files under endless change
 *     stress DATABASE QUERIES DIMENSION SECONDS RATE READERS
 *                                                     what readers may never see
 *
 * VECTORS and QUERIES are float32, row by row; TEXTS has a text to a line.
 */
#include "table_speed.h"

#include <string.h>

/* ---- Loading --------------------------------------------------------------------------------- */

enum { LOAD_ROUTES = 1000 };

typedef struct load_input {
    table_rows rows;
    sr_str *texts;
    size_t count;
} load_input;

/* Puts routes `first` onwards in one change; the table is synced with the last of them. */
static size_t load_some(sr_router *router, const load_input *in, size_t first, bool last) {
    static char names[LOAD_ROUTES][32];
    static sr_route routes[LOAD_ROUTES];
    size_t n = 0, done = first * TABLE_PER_ROUTE;
    for (; n < LOAD_ROUTES && done < in->count; n++) {
        size_t held = in->count - done < TABLE_PER_ROUTE ? in->count - done : TABLE_PER_ROUTE;
        snprintf(names[n], sizeof names[n], "route-%zu", first + n);
        routes[n] = (sr_route){.size = sizeof(sr_route),
                               .name = sr_str_of(names[n]),
                               .utterances = in->texts + done,
                               .utterance_count = held,
                               .vectors = table_row(&in->rows, done)};
        done += held;
    }
    sr_error error;
    sr_put_options options = {.size = sizeof options,
                              .durability = last ? SR_DURABILITY_FULL : SR_DURABILITY_NORMAL};
    table_must(sr_routes_put(router, routes, n, &options, NULL, &error), &error);
    return n;
}

static int load(int count, char **arguments) {
    if (count != 5) return 2;
    load_input in = {.rows = table_map_rows(arguments[1], (int)table_number(arguments[3])),
                     .count = table_number(arguments[4])};
    if (in.rows.count < in.count) table_fail("%s has fewer than %zu rows", arguments[1], in.count);
    in.texts = table_map_lines(arguments[2], in.count);
    sr_encoder *encoder = table_encoder(&in.rows);
    double start = table_now();
    sr_router *router = table_open(arguments[0], encoder, 0, SR_DURABILITY_DEFAULT);
    size_t routes = (in.count + TABLE_PER_ROUTE - 1) / TABLE_PER_ROUTE;
    for (size_t done = 0; done < routes;)
        done += load_some(router, &in, done, done + LOAD_ROUTES >= routes);
    double seconds = table_now() - start, memory = table_memory("RssAnon");
    sr_router_close(&router);
    printf("{\"seconds\": %.4f, \"close_seconds\": %.4f, \"anonymous_mb\": %.1f, "
           "\"file_mb\": %.1f}\n",
           seconds, table_now() - start - seconds, memory, table_file_mb(arguments[0], ""));
    sr_encoder_close(&encoder);
    return 0;
}

/* ---- Searching ------------------------------------------------------------------------------- */

enum { BATCH = 1000, MOST_TIMES = 200000 };

static const sr_decide_options best_route = {
    .size = sizeof(sr_decide_options), .path = SR_PATH_SLOW, .top_k = 1, .no_reject = 1};

static void decide(sr_router *router, const sr_str *texts, size_t n, sr_decisions **decisions) {
    sr_error error;
    table_must(sr_decide(router, texts, n, &best_route, decisions, &error), &error);
}

static double one_at_a_time(sr_router *router, const sr_str *texts, double seconds, double *times,
                            size_t *n) {
    double begin = table_now(), stop = begin + seconds, end = begin;
    for (*n = 0; *n < MOST_TIMES && (end < stop || *n < 200); ++*n) {
        sr_decisions *decisions = NULL;
        double start = table_now();
        decide(router, texts + *n % BATCH, 1, &decisions);
        end = table_now();
        times[*n] = end - start;
        sr_decisions_free(&decisions);
    }
    return (double)*n / (end - begin);
}

/* The rate of the best of as many batches as fit into the time, at least three. */
static double in_batches(sr_router *router, const sr_str *texts, double seconds) {
    double best = 0, stop = table_now() + seconds;
    for (int i = 0; i < 3 || table_now() < stop; i++) {
        sr_decisions *decisions = NULL;
        double start = table_now();
        decide(router, texts, BATCH, &decisions);
        double rate = BATCH / (table_now() - start);
        best = rate > best ? rate : best;
        sr_decisions_free(&decisions);
    }
    return best;
}

/* One line for each query: the score and the utterance found. */
static void write_answers(sr_router *router, const sr_str *texts, const char *path) {
    FILE *file = fopen(path, "w");
    sr_decisions *decisions = NULL;
    if (!file) table_fail("%s cannot be written", path);
    decide(router, texts, BATCH, &decisions);
    for (size_t i = 0; i < BATCH; i++) {
        const sr_decision *decision = sr_decisions_get(decisions, i);
        sr_str utterance =
            decision->candidate_count ? decision->candidates[0].utterance : sr_str_of("");
        fprintf(file, "%.9g\t%.*s\n", decision->score, (int)utterance.len, utterance.data);
    }
    sr_decisions_free(&decisions);
    if (fclose(file) != 0) table_fail("%s cannot be written", path);
}

static int search(int count, char **arguments) {
    if (count != 6) return 2;
    table_rows queries = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    double seconds = (double)table_number(arguments[4]);
    static char rooms[BATCH][32];
    static sr_str texts[BATCH];
    for (size_t i = 0; i < BATCH; i++) texts[i] = table_query(rooms[i], i);
    double *times = table_alloc(MOST_TIMES, sizeof *times);
    sr_encoder *encoder = table_encoder(&queries);
    sr_decisions *decisions = NULL;
    size_t n;
    double start = table_now();
    sr_router *router =
        table_open(arguments[0], encoder, (int)table_number(arguments[3]), SR_DURABILITY_DEFAULT);
    decide(router, texts, 1, &decisions);
    double started = table_now() - start, resident = table_memory("VmRSS");
    sr_decisions_free(&decisions);
    write_answers(router, texts, arguments[5]);
    double rate = one_at_a_time(router, texts, seconds, times, &n);
    double batches = in_batches(router, texts, seconds);
    sr_error error;
    sr_info info = {.size = sizeof info};
    table_must(sr_router_info(router, &info, &error), &error);
    printf("{\"start_seconds\": %.4f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"per_second\": %.1f, "
           "\"batch_per_second\": %.1f, \"queries\": %zu, \"index_mb\": %.1f, \"index_fp32_mb\": "
           "%.1f, \"resident_mb\": %.1f, \"peak_mb\": %.1f, \"cpu_level\": \"%s\"}\n",
           started, table_percentile(times, n, 0.5) * 1e3, table_percentile(times, n, 0.99) * 1e3,
           rate, batches, n, (double)info.index_bytes / 1e6, (double)info.index_exact_bytes / 1e6,
           resident, table_memory("VmHWM"), sr_cpu_level());
    sr_router_close(&router);
    sr_encoder_close(&encoder);
    return 0;
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        int (*run)(int, char **);
    } parts[] = {{"load", load},           {"search", search},       {"mutate", table_mutate},
                 {"extend", table_extend}, {"beside", table_beside}, {"rival", table_rival},
                 {"churn", table_churn},   {"stress", table_stress}};
    int status = 2;
    for (size_t i = 0; count > 1 && i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(arguments[1], parts[i].name) == 0)
            status = parts[i].run(count - 2, arguments + 2);
    }
    if (status == 2) fputs("usage: see the head of bench/speed/table/table_speed.c\n", stderr);
    return status;
}
