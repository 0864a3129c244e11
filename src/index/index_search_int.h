/*
 * index_search_int.h - what the files of the search share: a query made ready, and where the best
 * so far is kept.
 *
 * Three scores of a row and a query: the estimate from signs, whose bound lets most rows be passed
 * over; the dot product of the codes, by integers; and that of the fp32 rows. Every step keeps what
 * could be among the best k routes within the error of the one before, so the last step decides
 * alone.
 */
#ifndef SRI_INDEX_SEARCH_INT_H
#define SRI_INDEX_SEARCH_INT_H

#include "index/index_int.h"
#include "index/near.h"
#include "kernels/kernels.h"

/* A query as the scans want it (index_query.c). */
typedef struct sri_prepared {
    const float *vector;
    float *rotated; /* [dimension]; those of a search's queries one behind the other */
    int8_t *halves; /* [2, dimension]: steps, to 16319, are 128 * the first + the second */
    float step;
    float length;
    float noise;     /* of a code's dot product, in its row's scale */
    float slack;     /* the error of everything else */
    uint8_t *tables; /* for the kernels' `signs`; this and below: sri_prepare_tables() */
    float table_step, table_offset; /* signs . rotated = table_step * sum + table_offset, */
    float table_noise;              /* with an error whose deviation this is */
} sri_prepared;

/* The bytes of tables and halves of one query, a multiple of 64. */
size_t sri_prepared_bytes(size_t dimension);
/* `rotated` has room for `dimension` floats; `memory`, aligned to 64, for sri_prepared_bytes(). */
void sri_prepare(const float *vector, size_t dimension, float *rotated, void *memory,
                 sri_prepared *prepared);
/* What else it takes to read 1-bit codes, which takes longer than all the rest. */
void sri_prepare_tables(sri_prepared *prepared, size_t dimension);

/* The dot product of a code and the query, from those of its two halves. */
static inline float sri_code_score(const sri_prepared *p, float scale, int32_t first,
                                   int32_t second) {
    return (float)(128.0 * first + second) * (p->step * scale);
}

/* A row that may be among the best: its score lies between the bounds. */
typedef struct sri_candidate {
    float lower, upper;
    uint32_t route, slot;
} sri_candidate;

/* What the last step sorts. */
typedef struct sri_scored {
    float score;
    uint32_t route, slot;
    uint64_t utterance, order;
    void *owner;
} sri_scored;

#define SRI_BOARD_MOST 128 /* routes asked for in a search that passes rows over */
#define SRI_SEEDS_MOST 256
#define SRI_PENDING    64
#define SRI_WAITING    8192 /* so many that hardly any query fills it: the bar rises late for some */

/* The chunks of a search, as they were when it began: those without bits first. */
typedef struct sri_planned {
    const sri_chunk *home;
    bool sealed;
} sri_planned;

/* A row by its estimate. */
typedef struct sri_seed {
    float estimate;
    uint32_t row, route;
    const sri_chunk *home;
} sri_seed;

/* A row that is looked at unless it turns out to score too little: at most `upper`. */
typedef struct sri_waiting {
    const sri_chunk *home;
    uint32_t row;
    float upper;
} sri_waiting;

/* The best k routes so far of one query, among the rows that one thread looks at. */
typedef struct sri_scan {
    const sri_prepared *prepared;
    float least; /* no row below it matters: the lowest of k routes' best lower bounds */
    size_t k, count;
    uint32_t routes[SRI_BOARD_MOST];
    float lowers[SRI_BOARD_MOST];
    sri_seed seeds[SRI_SEEDS_MOST]; /* the highest estimates: a heap, the lowest on top */
    size_t seed_count, seed_limit;
    /* Rows whose codes are on their way from memory. */
    const sri_chunk *homes[SRI_PENDING];
    uint32_t rows[SRI_PENDING];
    size_t pending;
    sri_waiting waiting[SRI_WAITING];
    size_t waiting_count;
    sri_candidate *candidates;
    size_t candidate_count, candidate_capacity;
    bool short_memory;
} sri_scan;

#define SRI_SUM_BLOCK 8 /* queries for which signs are summed together */

/* Room for what is computed for one chunk. */
typedef struct sri_chunk_room {
    int32_t dots[2 * SRI_CHUNK_ROWS];
    float bounds[SRI_CHUNK_ROWS];
    uint32_t rows[SRI_CHUNK_ROWS];
    const int8_t *codes[SRI_CHUNK_ROWS];
    _Alignas(64) uint16_t sums[SRI_SUM_BLOCK][SRI_CHUNK_ROWS]; /* of signs */
} sri_chunk_room;

/* How many threads' parts one query has at most. */
#define SRI_SEARCH_PARTS 16 /* not above SRI_INDEX_QUERY_BLOCK */

struct sri_index_work {
    size_t dimension;
    char *prepared_bytes; /* for SRI_INDEX_QUERY_BLOCK queries */
    float *rotated;       /* [SRI_INDEX_QUERY_BLOCK, dimension] */
    sri_prepared prepared[SRI_INDEX_QUERY_BLOCK];
    sri_scan scans[SRI_INDEX_QUERY_BLOCK]; /* by query, or by part of one query */
    sri_chunk_room *rooms[SRI_SEARCH_PARTS];
    sri_planned *plan;
    size_t planned, sealed, plan_capacity; /* chunks; those of them with bits */
    float *wide; /* of each query scores by slot and bounds by route; those of one once more */
    size_t wide_capacity;
    sri_scored *scored;
    size_t scored_capacity;
    float *fetched; /* [SRI_INDEX_FETCH, dimension] */
};

/* What a search looks at. */
typedef struct sri_look {
    const sri_kernels *kernels;
    size_t dimension;
    uint64_t version;
    const sri_planned *plan;
    const sri_near *near;  /* or NULL */
    _Atomic(float) *least; /* what any thread knows a row must reach; NULL: there is one thread */
} sri_look;

void sri_scan_begin(sri_scan *scan, const sri_prepared *prepared, size_t k);
/* Adds a row that may be among the best to the candidates. */
void sri_scan_keep(sri_scan *scan, sri_candidate candidate);

/* Candidates of a narrow search, in the first `n` scans: of n queries, or of one in `parts` parts that
 * the query's team shares. False when memory is short. */
SR_MUST_CHECK bool sri_search_narrow(const sri_look *at, const sri_index *index,
                                     const sri_index_query *query, size_t n, size_t parts,
                                     struct sri_index_work *work);

/* The last step: the best routes among the candidates of a scan by exact scores. False when memory
 * is short. */
SR_MUST_CHECK bool sri_rank(const sri_index *index, const sri_index_query *query,
                            const sri_scan *scan, struct sri_index_work *work, sri_hit *hits,
                            size_t *count);

/* The thread's memory, with what every call needs; NULL when memory is short. */
struct sri_index_work *sri_search_work(const sri_index *index, sri_index_scratch *scratch);
/* Rooms for `parts` threads. */
SR_MUST_CHECK bool sri_search_room(struct sri_index_work *work, size_t parts);

#endif
