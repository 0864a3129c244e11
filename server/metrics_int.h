/*
 * metrics_int.h - the cells, for the files that count and read them.
 *
 * A shard is a whole set of cells; each thread adds to one of SHARDS and reading adds them up. So threads do not write
 * to one another's cache lines, unless there are more threads than shards, which is slower and no less right.
 */
#ifndef SRV_METRICS_INT_H
#define SRV_METRICS_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "server_metrics.h"

#define SRV_SHARDS   8
#define SRV_STATUSES 28 /* the last one is of all others */
#define SRV_PATHS    4
#define SRV_REASONS  5

enum { SRV_QUEUE, SRV_FAST, SRV_ENCODE, SRV_SEARCH, SRV_DECIDE, SRV_PHASES };

typedef _Atomic uint64_t srv_cell;

typedef struct srv_latency {
    srv_cell counts[SRV_LATENCY_BOUNDS + 1], sum_ns;
} srv_latency;

typedef struct srv_shard {
    srv_cell requests[SRV_MAX_ENDPOINTS + 1][SRV_STATUSES]; /* the last is of no endpoint */
    srv_latency durations[SRV_MAX_ENDPOINTS + 1];
    srv_cell received_bytes, sent_bytes;
    srv_cell decisions[SRV_PATHS][SRV_REASONS];
    srv_cell truncated, mended, unfitted;
    srv_latency phases[SRV_PHASES], totals;
    srv_cell batches[SRV_BATCH_BOUNDS + 1], batch_sum;
    srv_cell vectors, vector_tokens;
    srv_cell routes[]; /* max_routes + 1 */
} srv_shard;

/* A route with a counter: entry i counts in routes[i]. Entries are only ever added. */
typedef struct srv_route_name {
    uint64_t hash;
    uint32_t index, len;
    char name[];
} srv_route_name;

struct srv_metrics {
    srv_metrics_options options; /* `endpoints` is the array that follows */
    const char *endpoints[SRV_MAX_ENDPOINTS];
    srv_shard *shards[SRV_SHARDS];
    _Atomic(srv_route_name *) *names; /* open addressing; name_slots is a power of two */
    srv_route_name **by_index;
    size_t name_slots;
    atomic_size_t name_count;
    pthread_mutex_t naming; /* for adding a name */
};

extern const int srv_statuses[SRV_STATUSES]; /* 0: all others */

#endif
