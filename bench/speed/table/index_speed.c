/*
 * index_speed.c - times the search index by itself, for the comparison with others' indexes;
 * table.py calls it.
 *
 *     index_speed VECTORS DIMENSION ROWS QUERIES ROUTES SECONDS ANSWERS [exact|hnsw|ivf]
 *
 * Every five rows are a route. One query at a time, then a thousand at once, for the best ROUTES
 * routes each; on one thread, then on two, which share out a single query and take half of the
 * thousand each. The rows count as stored: their fp32 is taken from VECTORS, which is mapped, when
 * the last few candidates want it, and is not in the index's memory. ANSWERS takes the score and
 * row found for each query of the thousand. Prints one line of JSON.
 */
#include "table_input.h"

#include "index/index.h"

#include <string.h>

enum { BATCH = 1000, MOST_TIMES = 200000 };

typedef struct search {
    const sri_index *index;
    const table_rows *queries;
    sri_index_source source;
    size_t routes;
    sri_hit *hits; /* BATCH x routes */
    size_t counts[BATCH];
    sri_index_scratch scratch[2]; /* of each slot of the pool */
    size_t at, n;                 /* the query of one; how many a task takes */
} search;

/* ---- The index ------------------------------------------------------------------------------ */

static void fetch(void *user, const uint64_t *utterances, size_t n, float *rows, uint8_t *found) {
    const table_rows *from = user;
    size_t dimension = (size_t)from->dimension;
    for (size_t i = 0; i < n; i++) {
        memcpy(rows + i * dimension, table_row(from, utterances[i]), dimension * sizeof *rows);
        found[i] = 1;
    }
}

static sri_index_kind kind_of(const char *name) {
    if (strcmp(name, "hnsw") == 0) return SRI_INDEX_HNSW;
    return strcmp(name, "ivf") == 0 ? SRI_INDEX_IVF : SRI_INDEX_EXACT;
}

/* An approximate index is built in the background, over all that are in full chunks. */
static void wait_until_built(const sri_index *index, size_t count) {
    while (sri_index_near_rows(index) + 2048 < count) table_sleep_until(table_now() + 0.01);
}

static sri_index *make(const table_rows *rows, size_t count, sri_epoch *epoch,
                       sri_index_kind kind) {
    sri_index *index = NULL;
    sr_error error;
    sri_index_options options = {
        .dimension = rows->dimension, .epoch = epoch, .exact_bytes = 0, .kind = kind};
    table_must(sri_index_open(&options, &index, &error), &error);
    for (size_t i = 0; i < count; i++) {
        if (i % TABLE_PER_ROUTE == 0) {
            size_t route = i / TABLE_PER_ROUTE;
            table_must(
                sri_index_reserve(index, TABLE_PER_ROUTE, TABLE_PER_ROUTE, route + 1, &error),
                &error);
            sri_index_set_route(index, (uint32_t)route, route);
        }
        sri_index_row row = {.vector = table_row(rows, i),
                             .route = (uint32_t)(i / TABLE_PER_ROUTE),
                             .utterance = i,
                             .owner = (void *)(uintptr_t)i,
                             .born = 1,
                             .durable = true};
        (void)sri_index_add(index, &row);
    }
    if (kind != SRI_INDEX_EXACT) wait_until_built(index, count);
    return index;
}

/* ---- Searching ------------------------------------------------------------------------------ */

static void ask(search *this, size_t from, size_t n, int slot, sri_team *team) {
    sri_index_query query = {.queries = table_row(this->queries, from),
                             .n = n,
                             .k = this->routes,
                             .version = 1,
                             .source = &this->source,
                             .team = team};
    if (!sri_index_search(this->index, &query, &this->scratch[slot],
                          this->hits + from * this->routes, this->counts + from))
        table_fail("no memory");
}

static void lead_one(void *job, sri_team *team, int slot) {
    search *this = job;
    ask(this, this->at, 1, slot, team);
}

static void ask_share(void *job, size_t task, int slot) {
    search *this = job;
    ask(this, task * this->n, this->n, slot, NULL);
}

static size_t one_at_a_time(search *this, sri_pool *pool, double seconds, double *times) {
    size_t n = 0;
    for (double end = table_now(), stop = end + seconds; n < MOST_TIMES && (end < stop || n < 200);
         n++) {
        this->at = n % BATCH;
        double start = table_now();
        sri_pool_lead(pool, lead_one, this);
        end = table_now();
        times[n] = end - start;
    }
    return n;
}

static double in_batches(search *this, sri_pool *pool, size_t threads, double seconds) {
    double best = 0, stop = table_now() + seconds;
    for (int i = 0; i < 3 || table_now() < stop; i++) {
        double start = table_now();
        this->n = BATCH / threads;
        sri_pool_run(pool, ask_share, this, threads);
        double rate = BATCH / (table_now() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

static void measure(search *this, int threads, double seconds, double *times) {
    sri_pool *pool = NULL;
    sr_error error;
    table_must(sri_pool_open(threads, &pool, &error), &error);
    size_t n = one_at_a_time(this, pool, seconds, times);
    double rate = in_batches(this, pool, (size_t)threads, seconds);
    printf("\"threads_%d\": {\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"batch_per_second\": %.1f, "
           "\"queries\": %zu}, ",
           threads, table_percentile(times, n, 0.5) * 1e3, table_percentile(times, n, 0.99) * 1e3,
           rate, n);
    sri_pool_close(&pool);
}

static void write_answers(const search *this, const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) table_fail("%s cannot be written", path);
    for (size_t i = 0; i < BATCH; i++) {
        const sri_hit *hit = this->hits + i * this->routes;
        fprintf(file, "%.9g\t%zu\n", (double)hit->score, (size_t)(uintptr_t)hit->owner);
    }
    if (fclose(file) != 0) table_fail("%s cannot be written", path);
}

int main(int count, char **arguments) {
    if (count != 8 && count != 9)
        table_fail("usage: see the head of bench/speed/table/index_speed.c");
    int dimension = (int)table_number(arguments[2]);
    table_rows rows = table_map_rows(arguments[1], dimension);
    table_rows queries = table_map_rows(arguments[4], dimension);
    double seconds = (double)table_number(arguments[6]);
    size_t routes = table_number(arguments[5]);
    if (queries.count < BATCH || routes < 1 || rows.count < table_number(arguments[3]))
        table_fail("too few rows or queries");
    double *times = table_alloc(MOST_TIMES, sizeof *times);
    sri_hit *hits = table_alloc(BATCH * routes, sizeof *hits);
    sri_epoch *epoch = NULL;
    sr_error error;
    table_must(sri_epoch_open(&epoch, &error), &error);
    double before = table_memory("RssAnon"), start = table_now();
    sri_index *index = make(&rows, table_number(arguments[3]), epoch,
                            kind_of(count == 9 ? arguments[8] : "exact"));
    printf("{\"build_seconds\": %.3f, ", table_now() - start);
    printf("\"memory_mb\": %.1f, ", table_memory("RssAnon") - before);
    static search this;
    this = (search){.index = index,
                    .queries = &queries,
                    .source = {&rows, fetch},
                    .routes = routes,
                    .hits = hits};
    sri_pin pin = sri_epoch_pin(epoch);
    measure(&this, 1, seconds, times);
    measure(&this, 2, seconds, times);
    sri_epoch_unpin(pin);
    write_answers(&this, arguments[7]);
    printf("\"index_mb\": %.1f, \"fp32_mb\": %.1f, \"cpu_level\": \"%s\"}\n",
           (double)sri_index_bytes(index) / 1e6, (double)sri_index_exact_held(index) / 1e6,
           sr_cpu_level());
    sri_index_scratch_free(&this.scratch[0]);
    sri_index_scratch_free(&this.scratch[1]);
    sri_index_stop(index);
    sri_epoch_close(&epoch);
    sri_index_close(&index);
    return 0;
}
