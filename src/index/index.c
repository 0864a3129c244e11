/*
 * index.c - fp32 rows in chunks, searched exhaustively.
 *
 * Rows stand in chunks of CHUNK_ROWS, each one block of memory aligned to 64 bytes, with the route and the
 * utterance of each row beside it. A chunk never moves, so pointers to rows stay good and growing copies
 * nothing but the list of chunks. A removed row is marked with route NONE and linked into a list of free
 * slots, through the very field that held its utterance; the next addition takes it. A chunk without live
 * rows is passed over in a search.
 *
 * A search takes queries in blocks of SRI_INDEX_QUERY_BLOCK and rows in blocks that fit the second-level
 * cache together with them, lets the kernel fill a small matrix of dot products, and folds that into the
 * best utterance so far of each route. Ties are broken by the order of adding, never by slot, so that the
 * use of free slots cannot change an answer. Since the kernel's dot product does not depend on the block
 * it is in, neither does the result.
 *
 * Threads: searches may overlap one another and nothing else; the router's lock sees to that.
 *
 * Rejected: one growing array (growing copies hundreds of megabytes while readers wait), rows grouped by
 * route (an utterance added to an early route would move all later ones), and approximate graphs (the
 * decision is about the last percent of recall, and exact search of 10,000 rows takes a small part of the
 * encoder's time).
 */
#include "index/index.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define CHUNK_ROWS  ((size_t)1024)
#define BLOCK_BYTES ((size_t)96 * 1024) /* of rows; with the queries it stays within 128 KiB */

typedef struct chunk {
    float *rows;          /* CHUNK_ROWS x dimension, aligned to 64 bytes */
    uint32_t *routes;     /* SRI_INDEX_NONE: the row is free */
    uint64_t *utterances; /* of a free row: the next free slot */
    size_t live;
} chunk;

struct sri_index {
    size_t dimension;
    size_t block_rows;
    chunk *chunks;
    size_t chunk_count, chunk_capacity;
    size_t used; /* slots ever taken; those above are free without being listed */
    size_t count;
    size_t free_count;
    uint64_t first_free;
    uint64_t *orders; /* by route number */
    size_t route_limit, order_capacity;
};

typedef struct sri_index_best {
    float score;
    uint32_t slot;
} best;

static void free_chunk(chunk *gone) {
    sri_free_aligned(gone->rows);
    sri_free(gone->routes);
    sri_free(gone->utterances);
}

sr_status sri_index_open(int dimension, sri_index **handle, sr_error *error) {
    *handle = NULL;
    if (dimension < 1 || dimension > 65536)
        return sri_fail(error, SR_ERR_INVALID, "dimension",
                        "vectors of %d floats cannot be indexed", dimension);
    sri_index *index = sri_alloc_zero(1, sizeof *index);
    if (index == NULL) return sri_fail_memory(error);
    index->dimension = (size_t)dimension;
    index->block_rows = SRI_MAX(BLOCK_BYTES / (index->dimension * sizeof(float)), (size_t)8);
    *handle = index;
    return SR_OK;
}

void sri_index_close(sri_index **handle) {
    sri_index *index = *handle;
    if (index == NULL) return;
    for (size_t i = 0; i < index->chunk_count; i++) free_chunk(&index->chunks[i]);
    sri_free(index->chunks);
    sri_free(index->orders);
    sri_free(index);
    *handle = NULL;
}

static bool add_chunk(sri_index *index) {
    void *chunks = index->chunks;
    if (!sri_grow(&chunks, &index->chunk_capacity, index->chunk_count + 1, sizeof(chunk)))
        return false;
    index->chunks = chunks;
    chunk added = {.rows = sri_alloc_aligned(CHUNK_ROWS * index->dimension * sizeof(float)),
                   .routes = sri_alloc_array(CHUNK_ROWS, sizeof(uint32_t)),
                   .utterances = sri_alloc_array(CHUNK_ROWS, sizeof(uint64_t))};
    if (added.rows == NULL || added.routes == NULL || added.utterances == NULL) {
        free_chunk(&added);
        return false;
    }
    index->chunks[index->chunk_count++] = added;
    return true;
}

sr_status sri_index_reserve(sri_index *index, size_t rows, size_t routes, sr_error *error) {
    size_t needed = rows > index->free_count ? rows - index->free_count : 0;
    if (needed > SRI_INDEX_MAX_ROWS - index->used || routes >= SRI_INDEX_NONE)
        return sri_fail(error, SR_ERR_LIMIT, NULL, "a table holds at most %u utterances",
                        SRI_INDEX_MAX_ROWS);
    void *orders = index->orders;
    if (!sri_grow(&orders, &index->order_capacity, routes, sizeof(uint64_t)))
        return sri_fail_memory(error);
    index->orders = orders;
    for (; index->route_limit < routes; index->route_limit++) index->orders[index->route_limit] = 0;
    while (index->chunk_count * CHUNK_ROWS < index->used + needed)
        if (!add_chunk(index)) return sri_fail_memory(error);
    return SR_OK;
}

void sri_index_set_route(sri_index *index, uint32_t route, uint64_t order) {
    assert(route < index->route_limit);
    index->orders[route] = order;
}

uint32_t sri_index_add(sri_index *index, const float *vector, uint32_t route, uint64_t utterance) {
    size_t slot = index->used;
    if (index->free_count > 0) {
        slot = (size_t)index->first_free;
        index->first_free = index->chunks[slot / CHUNK_ROWS].utterances[slot % CHUNK_ROWS];
        index->free_count--;
    } else {
        index->used++;
    }
    assert(slot < index->chunk_count * CHUNK_ROWS && route < index->route_limit);
    chunk *home = &index->chunks[slot / CHUNK_ROWS];
    size_t row = slot % CHUNK_ROWS;
    memcpy(home->rows + row * index->dimension, vector, index->dimension * sizeof(float));
    home->routes[row] = route;
    home->utterances[row] = utterance;
    home->live++;
    index->count++;
    return (uint32_t)slot;
}

void sri_index_remove(sri_index *index, uint32_t slot) {
    chunk *home = &index->chunks[slot / CHUNK_ROWS];
    size_t row = slot % CHUNK_ROWS;
    assert(slot < index->used && home->routes[row] != SRI_INDEX_NONE);
    home->routes[row] = SRI_INDEX_NONE;
    home->utterances[row] = index->first_free;
    home->live--;
    index->first_free = slot;
    index->free_count++;
    index->count--;
}

void sri_index_renumber(sri_index *index, uint32_t slot, uint64_t utterance) {
    index->chunks[slot / CHUNK_ROWS].utterances[slot % CHUNK_ROWS] = utterance;
}

size_t sri_index_count(const sri_index *index) { return index->count; }

size_t sri_index_capacity(const sri_index *index) { return index->chunk_count * CHUNK_ROWS; }

const float *sri_index_vector(const sri_index *index, uint32_t slot) {
    return index->chunks[slot / CHUNK_ROWS].rows + slot % CHUNK_ROWS * index->dimension;
}

/* ---- Search ------------------------------------------------------------------------------------ */

void sri_index_scratch_free(sri_index_scratch *scratch) {
    sri_free(scratch->scores);
    sri_free(scratch->best);
    *scratch = (sri_index_scratch){0};
}

static bool prepare(const sri_index *index, sri_index_scratch *scratch) {
    void *scores = scratch->scores, *bests = scratch->best;
    bool enough = sri_grow(&scores, &scratch->score_capacity,
                           SRI_INDEX_QUERY_BLOCK * index->block_rows, sizeof(float));
    scratch->scores = scores;
    enough = enough && sri_grow(&bests, &scratch->best_capacity,
                                SRI_INDEX_QUERY_BLOCK * index->route_limit, sizeof(best));
    scratch->best = bests;
    return enough;
}

static uint64_t utterance_of(const sri_index *index, uint32_t slot) {
    return index->chunks[slot / CHUNK_ROWS].utterances[slot % CHUNK_ROWS];
}

/* Folds the scores of `n` rows, the first of which has slot `first`, into the best of each route. */
static void fold(const sri_index *index, const float *scores, size_t first, size_t n, best *bests) {
    const chunk *home = &index->chunks[first / CHUNK_ROWS];
    const uint32_t *routes = home->routes + first % CHUNK_ROWS;
    const uint64_t *utterances = home->utterances + first % CHUNK_ROWS;
    for (size_t i = 0; i < n; i++) {
        if (routes[i] == SRI_INDEX_NONE) continue;
        best *held = &bests[routes[i]];
        if (scores[i] < held->score) continue;
        if (scores[i] == held->score && held->slot != SRI_INDEX_NONE &&
            utterance_of(index, held->slot) < utterances[i])
            continue;
        if (isnan(scores[i])) continue;
        *held = (best){scores[i], (uint32_t)(first + i)};
    }
}

/* Whether a comes before b among routes. */
static bool precedes(const sri_index *index, const sri_hit *a, const sri_hit *b) {
    if (a->score != b->score) return a->score > b->score;
    return index->orders[a->route] < index->orders[b->route];
}

/* The best k of all routes by insertion: k is 3 as a rule. */
static size_t select_best(const sri_index *index, const best *bests, size_t k, sri_hit *hits) {
    size_t count = 0;
    for (size_t route = 0; route < index->route_limit; route++) {
        if (bests[route].slot == SRI_INDEX_NONE) continue;
        sri_hit hit = {(uint32_t)route, bests[route].slot, bests[route].score};
        if (count == k && !precedes(index, &hit, &hits[k - 1])) continue;
        size_t place = count < k ? count++ : k - 1;
        for (; place > 0 && precedes(index, &hit, &hits[place - 1]); place--)
            hits[place] = hits[place - 1];
        hits[place] = hit;
    }
    return count;
}

static void search_block(const sri_index *index, const float *queries, size_t n,
                         sri_index_scratch *scratch) {
    const sri_kernels *kernels = sri_kernels_get();
    for (size_t i = 0; i < n * index->route_limit; i++)
        scratch->best[i] = (best){-INFINITY, SRI_INDEX_NONE};
    for (size_t c = 0; c * CHUNK_ROWS < index->used; c++) {
        if (index->chunks[c].live == 0) continue;
        size_t end = SRI_MIN(CHUNK_ROWS, index->used - c * CHUNK_ROWS);
        for (size_t row = 0; row < end; row += index->block_rows) {
            size_t rows = SRI_MIN(index->block_rows, end - row);
            kernels->dots(queries, n, index->chunks[c].rows + row * index->dimension, rows,
                          index->dimension, scratch->scores);
            for (size_t q = 0; q < n; q++)
                fold(index, scratch->scores + q * rows, c * CHUNK_ROWS + row, rows,
                     scratch->best + q * index->route_limit);
        }
    }
}

bool sri_index_search(const sri_index *index, const float *queries, size_t n, size_t k,
                      sri_index_scratch *scratch, sri_hit *hits, size_t *counts) {
    if (!prepare(index, scratch)) return false;
    for (size_t done = 0; done < n; done += SRI_INDEX_QUERY_BLOCK) {
        size_t some = SRI_MIN((size_t)SRI_INDEX_QUERY_BLOCK, n - done);
        search_block(index, queries + done * index->dimension, some, scratch);
        for (size_t q = 0; q < some; q++)
            counts[done + q] = k == 0 ? 0
                                      : select_best(index, scratch->best + q * index->route_limit,
                                                    k, hits + (done + q) * k);
    }
    return true;
}
