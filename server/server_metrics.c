/*
 * server_metrics.c - counting.
 *
 * Cells are atomic integers without order: a reader may see one event's count and not yet its duration, which no
 * scrape can tell. Names of routes are found in a table that only grows, published by release and read without a
 * lock; the first decision for a route that has no name yet takes a lock, at most max_routes times.
 *
 * Client libraries of Prometheus were rejected: the one for C is no longer kept, and all it would do is this.
 */
#include "metrics_int.h"

#include <string.h>

const uint64_t srv_latency_bounds[SRV_LATENCY_BOUNDS] = {
    10000,     25000,      50000,      100000,     250000,     500000,    1000000,
    2500000,   5000000,    10000000,   25000000,   50000000,   100000000, 250000000,
    500000000, 1000000000, 2500000000, 5000000000, 10000000000};

const int srv_statuses[SRV_STATUSES] = {200, 201, 202, 204, 206, 304, 400, 401, 403, 404,
                                        405, 406, 408, 409, 411, 412, 413, 414, 415, 421,
                                        422, 429, 431, 499, 500, 503, 504, 0};

/* ---- Opening -------------------------------------------------------------------------------------- */

sr_status srv_metrics_open(const srv_metrics_options *options, srv_metrics **opened,
                           sr_error *error) {
    *opened = NULL;
    srv_metrics *m = sri_alloc_zero(1, sizeof *m);
    if (m == NULL) return sri_fail_memory(error);
    m->options = *options;
    m->options.endpoint_count = SRI_MIN(options->endpoint_count, (size_t)SRV_MAX_ENDPOINTS);
    for (size_t i = 0; i < m->options.endpoint_count; i++) m->endpoints[i] = options->endpoints[i];
    m->options.endpoints = m->endpoints;
    m->options.max_routes = SRI_MIN(options->max_routes, (size_t)10000);
    m->name_slots = 16;
    while (m->name_slots < 2 * m->options.max_routes) m->name_slots *= 2;
    pthread_mutex_init(&m->naming, NULL);
    m->names = sri_alloc_zero(m->name_slots, sizeof *m->names);
    m->by_index = sri_alloc_zero(m->options.max_routes + 1, sizeof *m->by_index);
    bool done = m->names != NULL && m->by_index != NULL;
    size_t bytes = sizeof(srv_shard) + (m->options.max_routes + 1) * sizeof(srv_cell);
    for (size_t i = 0; i < SRV_SHARDS && done; i++) {
        m->shards[i] = sri_alloc_aligned(bytes);
        if (m->shards[i] != NULL) memset((void *)m->shards[i], 0, bytes);
        done = m->shards[i] != NULL;
    }
    if (!done) {
        srv_metrics_close(&m);
        return sri_fail_memory(error);
    }
    *opened = m;
    return SR_OK;
}

void srv_metrics_close(srv_metrics **metrics) {
    srv_metrics *m = *metrics;
    if (m == NULL) return;
    for (size_t i = 0; i < SRV_SHARDS; i++) sri_free_aligned(m->shards[i]);
    for (size_t i = 0; m->by_index != NULL && i < m->options.max_routes; i++)
        sri_free(m->by_index[i]);
    sri_free(m->by_index);
    sri_free((void *)m->names);
    pthread_mutex_destroy(&m->naming);
    sri_free(m);
    *metrics = NULL;
}

/* ---- Cells ---------------------------------------------------------------------------------------- */

static srv_shard *my_shard(const srv_metrics *metrics) {
    static atomic_uint threads;
    static _Thread_local unsigned mine; /* 0: not given yet */
    if (mine == 0) mine = 1 + atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
    return metrics->shards[mine % SRV_SHARDS];
}

static void add(srv_cell *cell, uint64_t value) {
    atomic_fetch_add_explicit(cell, value, memory_order_relaxed);
}

static void add_latency(srv_latency *latency, uint64_t nanoseconds) {
    size_t i = 0;
    while (i < SRV_LATENCY_BOUNDS && nanoseconds > srv_latency_bounds[i]) i++;
    add(&latency->counts[i], 1);
    add(&latency->sum_ns, nanoseconds);
}

static void add_batch(srv_shard *shard, uint64_t texts) {
    size_t i = 0;
    while (i < SRV_BATCH_BOUNDS && texts > (uint64_t)1 << i) i++;
    add(&shard->batches[i], 1);
    add(&shard->batch_sum, texts);
}

/* ---- Names of routes -------------------------------------------------------------------------------- */

/* The name's entry, or NULL with the slot where it would stand. */
static srv_route_name *find_name(const srv_metrics *metrics, sr_str name, uint64_t hash,
                                 size_t *slot) {
    size_t mask = metrics->name_slots - 1;
    for (*slot = hash & mask;; *slot = (*slot + 1) & mask) {
        srv_route_name *entry = atomic_load_explicit(&metrics->names[*slot], memory_order_acquire);
        if (entry == NULL) return NULL;
        if (entry->hash == hash && sri_str_equal((sr_str){entry->name, entry->len}, name))
            return entry;
    }
}

/* Adds the name where there is room, and returns the number of its counter: max_routes where there is none. */
static size_t add_name(srv_metrics *metrics, sr_str name, uint64_t hash) {
    size_t slot, index = metrics->options.max_routes;
    pthread_mutex_lock(&metrics->naming);
    size_t count = atomic_load_explicit(&metrics->name_count, memory_order_relaxed);
    srv_route_name *entry = find_name(metrics, name, hash, &slot);
    if (entry == NULL && count < metrics->options.max_routes &&
        (entry = sri_alloc(sizeof *entry + name.len)) != NULL) {
        entry->hash = hash;
        entry->index = (uint32_t)count;
        entry->len = (uint32_t)name.len;
        memcpy(entry->name, name.data, name.len);
        metrics->by_index[count] = entry;
        atomic_store_explicit(&metrics->names[slot], entry, memory_order_release);
        atomic_store_explicit(&metrics->name_count, count + 1, memory_order_release);
    }
    if (entry != NULL) index = entry->index;
    pthread_mutex_unlock(&metrics->naming);
    return index;
}

static size_t counter_of(srv_metrics *metrics, sr_str name) {
    size_t slot, most = metrics->options.max_routes;
    if (most == 0) return 0;
    uint64_t hash = sri_hash(name.data, name.len, 0);
    const srv_route_name *entry = find_name(metrics, name, hash, &slot);
    if (entry != NULL) return entry->index;
    if (atomic_load_explicit(&metrics->name_count, memory_order_relaxed) == most) return most;
    return add_name(metrics, name, hash);
}

sr_status srv_metrics_name_routes(srv_metrics *metrics, sr_router *router, sr_error *error) {
    sr_page_options options = {.size = sizeof options, .limit = metrics->options.max_routes};
    sr_table *table = NULL;
    uint64_t next;
    if (options.limit == 0) return SR_OK;
    sr_status code = sr_table_page(router, &options, &table, &next, error);
    for (size_t i = 0; code == SR_OK && i < sr_table_count(table); i++)
        (void)counter_of(metrics, sr_table_route(table, i)->name);
    sr_table_free(&table);
    return code;
}

/* ---- Events ------------------------------------------------------------------------------------------ */

void srv_count_request(srv_metrics *metrics, const srv_request_counts *request) {
    srv_shard *shard = my_shard(metrics);
    size_t endpoint = SRI_MIN(request->endpoint, (size_t)SRV_MAX_ENDPOINTS), status = 0;
    while (status < SRV_STATUSES - 1 && srv_statuses[status] != request->status) status++;
    add(&shard->requests[endpoint][status], 1);
    add_latency(&shard->durations[endpoint], request->duration_ns);
    add(&shard->received_bytes, request->received_bytes);
    add(&shard->sent_bytes, request->sent_bytes);
}

static void count_timings(srv_shard *shard, const sr_timings *timings) {
    const uint64_t phases[SRV_PHASES] = {timings->queue_ns, timings->fast_ns, timings->encode_ns,
                                         timings->search_ns, timings->decide_ns};
    for (size_t i = 0; i < SRV_PHASES; i++)
        if (phases[i] > 0) add_latency(&shard->phases[i], phases[i]);
    add_latency(&shard->totals, timings->total_ns);
    if (timings->batch_texts > 0) add_batch(shard, timings->batch_texts);
}

void srv_count_decisions(srv_metrics *metrics, const sr_decisions *decisions) {
    srv_shard *shard = my_shard(metrics);
    size_t count = sr_decisions_count(decisions);
    for (size_t i = 0; i < count; i++) {
        const sr_decision *d = sr_decisions_get(decisions, i);
        if ((unsigned)d->path < SRV_PATHS && (unsigned)d->reason < SRV_REASONS)
            add(&shard->decisions[d->path][d->reason], 1);
        if (d->truncated) add(&shard->truncated, 1);
        if (d->read_as.len > 0) add(&shard->mended, 1);
        if (!d->fitted) add(&shard->unfitted, 1);
        if (d->route.len > 0) add(&shard->routes[counter_of(metrics, d->route)], 1);
    }
    count_timings(shard, sr_decisions_timings(decisions));
}

void srv_count_vectors(srv_metrics *metrics, const sr_vectors *vectors) {
    srv_shard *shard = my_shard(metrics);
    uint64_t tokens = 0;
    for (size_t i = 0; i < vectors->count; i++) tokens += vectors->tokens[i];
    add(&shard->vectors, vectors->count);
    add(&shard->vector_tokens, tokens);
    count_timings(shard, &vectors->timings);
}
