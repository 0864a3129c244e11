/*
 * index_search.c - the readers' side.
 */
#include "index/index_int.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

typedef struct best {
    float score;
    uint32_t slot; /* NONE: no row of the route yet */
    uint64_t utterance;
    void *owner;
} best;

struct sri_index_work {
    best *bests; /* by route */
    size_t best_capacity;
    float *row; /* a row that is fetched */
    size_t row_capacity;
};

void sri_index_scratch_free(sri_index_scratch *scratch) {
    if (scratch->work == NULL) return;
    sri_free(scratch->work->bests);
    sri_free(scratch->work->row);
    sri_free(scratch->work);
    scratch->work = NULL;
}

static struct sri_index_work *prepare(const sri_index *index, sri_index_scratch *scratch) {
    if (scratch->work == NULL) scratch->work = sri_alloc_zero(1, sizeof *scratch->work);
    struct sri_index_work *work = scratch->work;
    if (work == NULL) return NULL;
    void *row = work->row;
    if (!sri_grow(&row, &work->row_capacity, index->dimension, sizeof(float))) return NULL;
    work->row = row;
    return work;
}

/* The fp32 row, from memory or, in `room`, from the store; NULL when it cannot be had. */
static const float *exact_row(const sri_chunk *home, size_t row, const sri_index_source *source,
                              float *room) {
    const sri_exact *held = sri_exact_at(home, row);
    if (held != NULL) return held->row;
    uint8_t found = 0;
    if (source != NULL) source->fetch(source->user, &home->utterances[row], 1, room, &found);
    return found ? room : NULL;
}

static float code_score(const sri_index *index, const sri_chunk *home, size_t row,
                        const float *query, float *room) {
    sri_index_rotate(query, index->dimension, room);
    const int8_t *values = home->codes + row * index->dimension;
    double sum = 0;
    for (size_t i = 0; i < index->dimension; i++) sum += (double)room[i] * values[i];
    return (float)(sum * (double)home->scales[row]);
}

static float row_score(const sri_index *index, const sri_chunk *home, size_t row,
                       const float *query, const sri_index_source *source, float *room) {
    const float *exact = exact_row(home, row, source, room);
    if (exact == NULL) return code_score(index, home, row, query, room);
    float score;
    sri_kernels_get()->dots(query, 1, exact, 1, index->dimension, &score);
    return score;
}

static bool fold(struct sri_index_work *work, size_t *routes, uint32_t route, best row) {
    void *bests = work->bests;
    if (!sri_grow(&bests, &work->best_capacity, (size_t)route + 1, sizeof(best))) return false;
    work->bests = bests;
    for (; *routes <= route; ++*routes)
        work->bests[*routes] = (best){-INFINITY, SRI_INDEX_NONE, 0, NULL};
    best *held = &work->bests[route];
    if (isnan(row.score)) return true;
    if (held->slot == SRI_INDEX_NONE || row.score > held->score ||
        (row.score == held->score && row.utterance < held->utterance))
        *held = row;
    return true;
}

static bool precedes(const sri_index *index, const sri_hit *a, const sri_hit *b) {
    if (a->score != b->score) return a->score > b->score;
    return sri_order_of(index, a->route) < sri_order_of(index, b->route);
}

static size_t select_best(const sri_index *index, const best *bests, size_t routes, size_t k,
                          sri_hit *hits) {
    size_t count = 0;
    for (size_t route = 0; route < routes && k > 0; route++) {
        if (bests[route].slot == SRI_INDEX_NONE) continue;
        sri_hit hit = {(uint32_t)route, bests[route].slot, bests[route].score, bests[route].owner};
        if (count == k && !precedes(index, &hit, &hits[k - 1])) continue;
        size_t place = count < k ? count++ : k - 1;
        for (; place > 0 && precedes(index, &hit, &hits[place - 1]); place--)
            hits[place] = hits[place - 1];
        hits[place] = hit;
    }
    return count;
}

static bool search_one(const sri_index *index, const sri_index_query *query, const float *vector,
                       struct sri_index_work *work, sri_hit *hits, size_t *count) {
    size_t limit = atomic_load_explicit(&index->limit, memory_order_acquire), routes = 0;
    for (size_t c = 0; c < limit; c++) {
        const sri_chunk *home = sri_chunk_at(index, c);
        if (home == NULL) continue;
        size_t used = atomic_load_explicit(&home->used, memory_order_acquire);
        for (size_t row = 0; row < used; row++) {
            if (!sri_row_visible(home, row, query->version)) continue;
            float score = row_score(index, home, row, vector, query->source, work->row);
            best found = {score, (uint32_t)(c * SRI_CHUNK_ROWS + row), home->utterances[row],
                          home->owners[row]};
            if (!fold(work, &routes, home->routes[row], found)) return false;
        }
    }
    *count = select_best(index, work->bests, routes, query->k, hits);
    return true;
}

bool sri_index_search(const sri_index *index, const sri_index_query *query,
                      sri_index_scratch *scratch, sri_hit *hits, size_t *counts) {
    struct sri_index_work *work = prepare(index, scratch);
    if (work == NULL) return false;
    for (size_t q = 0; q < query->n; q++)
        if (!search_one(index, query, query->queries + q * index->dimension, work,
                        hits + q * query->k, &counts[q]))
            return false;
    return true;
}

bool sri_index_scores(const sri_index *index, const float *query, const uint32_t *slots, size_t n,
                      const sri_index_source *source, sri_index_scratch *scratch, float *scores) {
    struct sri_index_work *work = prepare(index, scratch);
    if (work == NULL) return false;
    for (size_t i = 0; i < n; i++)
        scores[i] = row_score(index, sri_chunk_at(index, slots[i] / SRI_CHUNK_ROWS),
                              slots[i] % SRI_CHUNK_ROWS, query, source, work->row);
    return true;
}

bool sri_index_vectors(const sri_index *index, const uint32_t *slots, size_t n,
                       const sri_index_source *source, float *rows, uint8_t *found) {
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        float *to = rows + i * index->dimension;
        const float *exact = exact_row(sri_chunk_at(index, slots[i] / SRI_CHUNK_ROWS),
                                       slots[i] % SRI_CHUNK_ROWS, source, to);
        if (exact != NULL && exact != to) memcpy(to, exact, index->dimension * sizeof *to);
        if (found != NULL) found[i] = exact != NULL;
        all = all && exact != NULL;
    }
    return all;
}
