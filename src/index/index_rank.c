/*
 * index_rank.c - the last step of a search: exact scores of the few candidates, and their order;
 * fp32 rows for it, from memory or from the store.
 *
 * A row that had to be fetched stays in memory while the budget lasts: whoever fetches it hangs it
 * on its chunk, if nobody has done so meanwhile. So readers warm the index without a lock, and what
 * they hung there goes with the chunk.
 */
#include "index/index_search_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

/* ---- Working memory -------------------------------------------------------------------------- */

void sri_index_scratch_free(sri_index_scratch *scratch) {
    struct sri_index_work *work = scratch->work;
    if (work == NULL) return;
    for (size_t i = 0; i < SRI_COUNT(work->scans); i++) sri_free(work->scans[i].candidates);
    for (size_t i = 0; i < SRI_COUNT(work->rooms); i++) sri_free_aligned(work->rooms[i]);
    sri_free_aligned(work->prepared_bytes);
    sri_free_aligned(work->rotated);
    sri_free(work->plan);
    sri_free(work->wide);
    sri_free(work->scored);
    sri_free(work->fetched);
    sri_free(work);
    scratch->work = NULL;
}

struct sri_index_work *sri_search_work(const sri_index *index, sri_index_scratch *scratch) {
    if (scratch->work == NULL) scratch->work = sri_alloc_zero(1, sizeof *scratch->work);
    struct sri_index_work *work = scratch->work;
    if (work == NULL) return NULL;
    if (work->dimension != index->dimension) { /* another index than before */
        sri_free_aligned(work->prepared_bytes);
        sri_free_aligned(work->rotated);
        sri_free(work->fetched);
        work->prepared_bytes = NULL;
        work->rotated = NULL;
        work->fetched = NULL;
        work->dimension = index->dimension;
    }
    if (work->prepared_bytes == NULL)
        work->prepared_bytes =
            sri_alloc_aligned(SRI_INDEX_QUERY_BLOCK * sri_prepared_bytes(index->dimension));
    if (work->rotated == NULL)
        work->rotated = sri_alloc_aligned(SRI_INDEX_QUERY_BLOCK * index->dimension * sizeof(float));
    if (work->fetched == NULL)
        work->fetched = sri_alloc_array(SRI_INDEX_FETCH * index->dimension, sizeof(float));
    bool enough = work->prepared_bytes != NULL && work->rotated != NULL && work->fetched != NULL;
    return enough ? work : NULL;
}

bool sri_search_room(struct sri_index_work *work, size_t parts) {
    for (size_t i = 0; i < parts; i++) {
        if (work->rooms[i] == NULL) work->rooms[i] = sri_alloc_aligned(sizeof *work->rooms[i]);
        if (work->rooms[i] == NULL) return false;
    }
    return true;
}

/* ---- fp32 rows ------------------------------------------------------------------------------- */

/* Keeps a fetched row while the budget lasts. */
static void remember(const sri_index *index, sri_chunk *home, size_t row, const float *vector) {
    sri_index *counter = home->index;
    if (atomic_load(&counter->exact_count) >= index->exact_limit) return;
    sri_exact *made = sri_exact_make(index), *none = NULL;
    if (made == NULL) return;
    memcpy(made->row, vector, index->dimension * sizeof(float));
    if (atomic_compare_exchange_strong(&home->exact[row], &none, made))
        atomic_fetch_add(&counter->exact_count, 1);
    else
        sri_free(made);
}

/* The fp32 rows of up to SRI_INDEX_FETCH slots, those in memory where they are, and others in
 * `room`, of as many rows, in order from the front; NULL where one cannot be had. */
static void find_rows(const sri_index *index, const uint32_t *slots, size_t n,
                      const sri_index_source *source, float *room, const float **rows) {
    uint64_t utterances[SRI_INDEX_FETCH];
    uint8_t found[SRI_INDEX_FETCH] = {0};
    size_t missing[SRI_INDEX_FETCH], count = 0;
    for (size_t i = 0; i < n; i++) {
        const sri_chunk *home = sri_home_of(index, slots[i]);
        const sri_exact *held = sri_exact_at(home, slots[i] % SRI_CHUNK_ROWS);
        rows[i] = held == NULL ? NULL : held->row;
        if (held != NULL) continue;
        utterances[count] = home->utterances[slots[i] % SRI_CHUNK_ROWS];
        missing[count++] = i;
    }
    if (count > 0 && source != NULL) source->fetch(source->user, utterances, count, room, found);
    for (size_t j = 0; j < count; j++) {
        uint32_t slot = slots[missing[j]];
        if (!found[j]) continue;
        rows[missing[j]] = room + j * index->dimension;
        remember(index, sri_home_of(index, slot), slot % SRI_CHUNK_ROWS, rows[missing[j]]);
    }
}

bool sri_index_vectors(const sri_index *index, const uint32_t *slots, size_t n,
                       const sri_index_source *source, float *rows, uint8_t *found) {
    size_t bytes = index->dimension * sizeof(float);
    bool all = true;
    for (size_t from = 0; from < n; from += SRI_INDEX_FETCH) {
        const float *at[SRI_INDEX_FETCH];
        size_t some = SRI_MIN(n - from, (size_t)SRI_INDEX_FETCH);
        float *to = rows + from * index->dimension;
        find_rows(index, slots + from, some, source, to, at);
        /* Fetched rows stand at the front, none behind its place: from the last on, nothing is
         * overwritten. */
        for (size_t i = some; i-- > 0;) {
            if (at[i] != NULL) memmove(to + i * index->dimension, at[i], bytes);
            if (found != NULL) found[from + i] = at[i] != NULL;
            all = all && at[i] != NULL;
        }
    }
    return all;
}

/* ---- Scores ---------------------------------------------------------------------------------- */

static float code_score(const sri_index *index, const sri_prepared *p, uint32_t slot) {
    const sri_chunk *home = sri_home_of(index, slot);
    uint32_t row = slot % SRI_CHUNK_ROWS;
    int32_t dots[2];
    const int8_t *code = home->codes + row * index->dimension;
    sri_kernels_get()->dots_s8(p->halves, 2, &code, 1, index->dimension, dots);
    return sri_code_score(p, home->scales[row], dots[0], dots[1]);
}

/* Up to SRI_INDEX_FETCH exact scores. */
static void score_slots(const sri_index *index, const sri_prepared *p, const uint32_t *slots,
                        size_t n, const sri_index_source *source, float *room, float *scores) {
    const float *rows[SRI_INDEX_FETCH];
    find_rows(index, slots, n, source, room, rows);
    for (size_t i = 0; i < n; i++) {
        if (rows[i] == NULL)
            scores[i] = code_score(index, p, slots[i]);
        else
            sri_kernels_get()->dots(p->vector, 1, rows[i], 1, index->dimension, &scores[i]);
    }
}

bool sri_index_scores(const sri_index *index, const float *query, const uint32_t *slots, size_t n,
                      const sri_index_source *source, sri_index_scratch *scratch, float *scores) {
    struct sri_index_work *work = sri_search_work(index, scratch);
    if (work == NULL) return false;
    sri_prepare(query, index->dimension, work->rotated, work->prepared_bytes, &work->prepared[0]);
    for (size_t i = 0; i < n; i += SRI_INDEX_FETCH)
        score_slots(index, &work->prepared[0], slots + i, SRI_MIN(n - i, (size_t)SRI_INDEX_FETCH),
                    source, work->fetched, scores + i);
    return true;
}

/* ---- Order ----------------------------------------------------------------------------------- */

/* By route; of a route the best first. */
static int by_route(const void *a, const void *b) {
    const sri_scored *x = a, *y = b;
    if (x->route != y->route) return x->route < y->route ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->utterance < y->utterance ? -1 : 1;
}

static int by_score(const void *a, const void *b) {
    const sri_scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static size_t one_of_each_route(sri_scored *scored, size_t n) {
    size_t left = 0;
    if (n > 1) qsort(scored, n, sizeof *scored, by_route);
    for (size_t i = 0; i < n; i++)
        if (left == 0 || scored[left - 1].route != scored[i].route) scored[left++] = scored[i];
    return left;
}

/* Fills work->scored; a score that is not a number is left out. */
static size_t score_candidates(const sri_index *index, const sri_index_query *query,
                               const sri_scan *scan, struct sri_index_work *work) {
    const sri_candidate *candidates = scan->candidates;
    const sri_prepared *prepared = scan->prepared;
    size_t count = 0;
    for (size_t from = 0, n = scan->candidate_count; from < n; from += SRI_INDEX_FETCH) {
        uint32_t slots[SRI_INDEX_FETCH];
        float scores[SRI_INDEX_FETCH] = {0};
        size_t some = SRI_MIN(n - from, (size_t)SRI_INDEX_FETCH);
        for (size_t i = 0; i < some; i++) slots[i] = candidates[from + i].slot;
        if (prepared->length != 0) /* or every score is 0 */
            score_slots(index, prepared, slots, some, query->source, work->fetched, scores);
        for (size_t i = 0; i < some; i++) {
            const sri_chunk *home = sri_home_of(index, slots[i]);
            uint32_t row = slots[i] % SRI_CHUNK_ROWS, route = candidates[from + i].route;
            if (isnan(scores[i])) continue;
            work->scored[count++] = (sri_scored){scores[i],
                                                 route,
                                                 slots[i],
                                                 home->utterances[row],
                                                 sri_order_of(index, route),
                                                 home->owners[row]};
        }
    }
    return count;
}

bool sri_rank(const sri_index *index, const sri_index_query *query, const sri_scan *scan,
              struct sri_index_work *work, sri_hit *hits, size_t *count) {
    void *scored = work->scored;
    if (!sri_grow(&scored, &work->scored_capacity, scan->candidate_count, sizeof(sri_scored)))
        return false;
    work->scored = scored;
    size_t n = score_candidates(index, query, scan, work);
    n = one_of_each_route(work->scored, n);
    if (n > 0) qsort(work->scored, n, sizeof(sri_scored), by_score);
    *count = SRI_MIN(n, query->k);
    for (size_t i = 0; i < *count; i++) {
        const sri_scored *best = &work->scored[i];
        hits[i] = (sri_hit){best->route, best->slot, best->score, best->owner};
    }
    return true;
}
