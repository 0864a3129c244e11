/*
 * index.h - exact search of all utterances: for every query the best utterance of each route, and of those
 * the best routes.
 *
 * The interface is narrow on purpose: rows go in with a route and an utterance, hits come out. What is
 * inside (fp32 rows now; a 1-bit filter, int8 rows and snapshots later) is nobody else's business.
 */
#ifndef SRI_INDEX_H
#define SRI_INDEX_H

#include "base/base.h"

typedef struct sri_index sri_index;

#define SRI_INDEX_MAX_ROWS 4294967294u /* slots are 32 bits wide; the last number means none */
#define SRI_INDEX_NONE     UINT32_MAX

/* `dimension` floats make a row. */
SR_MUST_CHECK sr_status sri_index_open(int dimension, sri_index **index, sr_error *error);
void sri_index_close(sri_index **index);

/* Makes room for `rows` additions beyond what is held and for route numbers below `routes`, so that these
 * cannot fail. SR_ERR_NO_MEMORY or SR_ERR_LIMIT; nothing held changes. Like every call that is not const,
 * it must not overlap any other call on the index. */
SR_MUST_CHECK sr_status sri_index_reserve(sri_index *index, size_t rows, size_t routes,
                                          sr_error *error);

/* Says at which place in the order of adding the route numbered `route` stands; needed before its rows are
 * added. Numbers are small and may be used again once all rows of the route are gone. */
void sri_index_set_route(sri_index *index, uint32_t route, uint64_t order);

/* Adds a row of Euclidean length 1, copied, and gives its slot, which stays until the row is removed.
 * `utterance` is the place in the order of adding and unique. Room must have been reserved. */
uint32_t sri_index_add(sri_index *index, const float *vector, uint32_t route, uint64_t utterance);
void sri_index_remove(sri_index *index, uint32_t slot);
/* Gives the row another place in the order of adding. */
void sri_index_renumber(sri_index *index, uint32_t slot, uint64_t utterance);

size_t sri_index_count(const sri_index *index);    /* rows held */
size_t sri_index_capacity(const sri_index *index); /* every slot is below this */
/* The row as it was added; it stays where it is until the row is removed. */
const float *sri_index_vector(const sri_index *index, uint32_t slot);

typedef struct sri_hit {
    uint32_t route;
    uint32_t slot; /* of the route's best utterance */
    float score;   /* its dot product with the query */
} sri_hit;

/* Working memory of one thread: zero it before the first use, it grows as needed. */
typedef struct sri_index_scratch {
    float *scores;
    struct sri_index_best *best;
    size_t score_capacity, best_capacity;
} sri_index_scratch;

void sri_index_scratch_free(sri_index_scratch *scratch);

/* The queries that one call answers as fast as it can; more are cut into blocks of this many. */
#define SRI_INDEX_QUERY_BLOCK 16

/* Searches all rows for `n` queries of `dimension` floats, row-major. hits[q * k ..] takes the best `k`
 * routes of query q, best first, and counts[q] their number, below k when fewer routes have rows. Equal
 * scores: the route, or the utterance, that was added earlier comes first. The answer depends neither on
 * `n` nor on what else runs. Any number of threads may search at once, each with its own scratch, so
 * that the caller can share out queries. False when memory for the scratch is short. */
SR_MUST_CHECK bool sri_index_search(const sri_index *index, const float *queries, size_t n,
                                    size_t k, sri_index_scratch *scratch, sri_hit *hits,
                                    size_t *counts);

size_t sri_index_code_bytes(int dimension);
void sri_index_encode(const float *vector, int dimension, uint8_t *code);
bool sri_index_code_valid(const uint8_t *code, int dimension);

#endif
