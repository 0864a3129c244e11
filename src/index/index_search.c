/*
 * index_search.c - the readers' side: what a search looks at, and wide searches.
 *
 * Three scores of a row and a query: an estimate from signs with its deviation (index_bits.c), the
 * dot product of the codes, by integers, and that of the fp32 rows. A narrow search, of few routes
 * among many, passes most rows over by the first (index_narrow.c). Where most routes are asked for
 * there is little to pass over: a wide search scores every row's code, finds the k-th best route
 * afterwards and takes what reaches that. The last step (index_rank.c) decides among what is left.
 *
 * Measured on a busy machine (250,000 real rows of 384 dimensions, AVX-512 with VBMI, one core, the
 * best route; the least of repeated times): one query 0.23 ms, of a thousand at once 0.13 ms each, of
 * which half is sums of signs. The best routes were those of brute force for all of them.
 */
#include "index/index_search_int.h"
#include "index/near.h"

#include <math.h>
#include <string.h>

#define CHUNKS_OF_PART 8
#define WIDE_BLOCK     4 /* queries of a wide search at once */

/* ---- Candidates ------------------------------------------------------------------------------ */

void sri_scan_begin(sri_scan *scan, const sri_prepared *prepared, size_t k) {
    scan->prepared = prepared;
    scan->least = -INFINITY;
    scan->k = k;
    scan->candidate_count = 0;
    scan->short_memory = false;
}

void sri_scan_keep(sri_scan *scan, sri_candidate candidate) {
    void *candidates = scan->candidates;
    if (!sri_grow(&candidates, &scan->candidate_capacity, scan->candidate_count + 1,
                  sizeof candidate))
        scan->short_memory = true;
    else
        scan->candidates = candidates, scan->candidates[scan->candidate_count++] = candidate;
}

/* ---- Wide searches: of most routes ----------------------------------------------------------- */

/* The k-th largest of n values, which are moved about; -INFINITY with fewer. */
static float kth_largest(float *values, size_t n, size_t k) {
    if (k > n) return -INFINITY;
    size_t low = 0, high = n;
    while (high - low > 1) {
        float pivot = values[low + (high - low) / 2];
        size_t above = low, equal = low;
        for (size_t i = low; i < high; i++) {
            float value = values[i];
            if (value > pivot) {
                values[i] = values[equal];
                values[equal++] = values[above];
                values[above++] = value;
            } else if (value == pivot) {
                values[i] = values[equal];
                values[equal++] = value;
            }
        }
        if (k - 1 < above)
            high = above;
        else if (k - 1 < equal)
            return pivot;
        else
            low = equal;
    }
    return values[low];
}

/* Scores every row of the version and finds the best lower bound of each route. */
static void score_chunk(const sri_look *at, const sri_chunk *home, sri_chunk_room *room,
                        const sri_prepared *p, float *scores, float *bests) {
    size_t used = atomic_load_explicit(&home->used, memory_order_acquire);
    for (size_t row = used; row < SRI_CHUNK_ROWS; row++) scores[row] = -INFINITY;
    for (size_t i = 0; i < used; i++) room->codes[i] = home->codes + i * at->dimension;
    at->kernels->dots_s8(p->halves, 2, room->codes, used, at->dimension, room->dots);
    for (size_t row = 0; row < used; row++) {
        float scale = home->scales[row], error = p->noise * scale + p->slack;
        scores[row] = -INFINITY;
        if (!sri_row_visible(home, row, at->version)) continue;
        scores[row] = sri_code_score(p, scale, room->dots[row], room->dots[used + row]);
        bests[home->routes[row]] = fmaxf(bests[home->routes[row]], scores[row] - error);
    }
}

static void keep_scored(const sri_chunk *home, const float *scores, const float *bests,
                        sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    for (size_t row = 0; row < SRI_CHUNK_ROWS; row++) {
        if (scores[row] == -INFINITY) continue;
        uint32_t route = home->routes[row], slot = sri_slot_of(home, row);
        float error = p->noise * home->scales[row] + p->slack;
        if (!(scores[row] + error >= scan->least && scores[row] + error >= bests[route])) continue;
        sri_scan_keep(scan, (sri_candidate){scores[row] - error, scores[row] + error, route, slot});
    }
}

static bool search_wide(const sri_look *at, const sri_index *index, const sri_index_query *query,
                        size_t n, struct sri_index_work *work) {
    size_t routes = atomic_load(&index->routes), rows = work->planned * SRI_CHUNK_ROWS,
           each = rows + routes;
    void *wide = work->wide;
    bool enough = sri_grow(&wide, &work->wide_capacity, n * each + routes, sizeof(float));
    work->wide = wide;
    if (!enough) return false;
    for (size_t q = 0; q < n; q++) {
        sri_scan_begin(&work->scans[q], &work->prepared[q], query->k);
        for (size_t r = 0; r < routes; r++) work->wide[q * each + rows + r] = -INFINITY;
    }
    for (size_t c = 0; c < work->planned; c++)
        for (size_t q = 0; q < n; q++)
            score_chunk(at, work->plan[c].home, work->rooms[0], &work->prepared[q],
                        work->wide + q * each + c * SRI_CHUNK_ROWS, work->wide + q * each + rows);
    for (size_t q = 0; q < n; q++) {
        float *scores = work->wide + q * each, *bests = scores + rows,
              *copy = work->wide + n * each;
        if (routes > 0) memcpy(copy, bests, routes * sizeof *copy);
        work->scans[q].least = kth_largest(copy, routes, query->k);
        for (size_t c = 0; c < work->planned; c++)
            keep_scored(work->plan[c].home, scores + c * SRI_CHUNK_ROWS, bests, &work->scans[q]);
        enough = enough && !work->scans[q].short_memory;
    }
    return enough;
}

/* ---- All of it ------------------------------------------------------------------------------- */

static bool is_narrow(const sri_index *index, size_t k) {
    return k <= SRI_BOARD_MOST && 3 * k <= atomic_load(&index->routes) + 2;
}

/* Lists the chunks that are scanned; false when memory is short. */
static bool make_plan(const sri_index *index, const sri_near *near, struct sri_index_work *work) {
    size_t limit = atomic_load_explicit(&index->limit, memory_order_acquire);
    void *plan = work->plan;
    bool enough = sri_grow(&plan, &work->plan_capacity, limit, sizeof *work->plan);
    work->plan = plan;
    size_t open = 0;
    work->planned = 0;
    if (!enough) return false;
    for (size_t i = 0; i < limit; i++) {
        const sri_chunk *home = sri_chunk_at(index, i);
        if (home == NULL || sri_near_covers(near, home)) continue;
        bool sealed = atomic_load_explicit(&home->sealed, memory_order_acquire);
        work->plan[work->planned++] = (sri_planned){home, sealed};
        if (sealed) continue;
        sri_planned front = work->plan[open]; /* without bits: to the front */
        work->plan[open++] = work->plan[work->planned - 1];
        work->plan[work->planned - 1] = front;
    }
    work->sealed = work->planned - open;
    return true;
}

typedef struct shape {
    bool narrow;
    size_t block, parts; /* queries at once; threads' parts of one */
    const sri_near *near;
} shape;

/* The parts that a single query is cut into. */
static size_t parts_for(const struct sri_index_work *work) {
    return SRI_MAX(SRI_MIN(work->planned / CHUNKS_OF_PART, (size_t)SRI_SEARCH_PARTS), (size_t)1);
}

static bool find_candidates(const sri_index *index, const sri_index_query *query, size_t n,
                            const shape *form, struct sri_index_work *work) {
    sri_look at = {.kernels = sri_kernels_get(),
                   .dimension = index->dimension,
                   .version = query->version,
                   .plan = work->plan,
                   .near = form->near};
    if (!form->narrow) return search_wide(&at, index, query, n, work);
    return sri_search_narrow(&at, index, query, n, form->parts, work);
}

static bool search_some(const sri_index *index, const sri_index_query *query, const float *queries,
                        size_t n, const shape *form, struct sri_index_work *work, sri_hit *hits,
                        size_t *counts) {
    size_t d = index->dimension;
    for (size_t q = 0; q < n; q++) {
        sri_prepare(queries + q * d, d, work->rotated + q * d,
                    work->prepared_bytes + q * sri_prepared_bytes(d), &work->prepared[q]);
        if (form->narrow && work->sealed > 0) sri_prepare_tables(&work->prepared[q], d);
    }
    if (!find_candidates(index, query, n, form, work)) return false;
    for (size_t q = 0; q < n; q++) {
        if (!sri_rank(index, query, &work->scans[q], work, hits + q * query->k, &counts[q]))
            return false;
    }
    return true;
}

bool sri_index_search(const sri_index *index, const sri_index_query *query,
                      sri_index_scratch *scratch, sri_hit *hits, size_t *counts) {
    struct sri_index_work *work = sri_search_work(index, scratch);
    shape form = {is_narrow(index, query->k), WIDE_BLOCK, 1, NULL};
    if (form.narrow) form.near = sri_near_of(index), form.block = SRI_INDEX_QUERY_BLOCK;
    memset(counts, 0, query->n * sizeof *counts);
    if (work == NULL || !make_plan(index, form.near, work)) return false;
    if (form.narrow && form.near == NULL && query->n == 1 && query->team != NULL)
        form.parts = parts_for(work);
    if (!sri_search_room(work, form.parts)) return false;
    for (size_t done = 0; done < query->n && query->k > 0; done += form.block) {
        size_t n = SRI_MIN(form.block, query->n - done);
        if (!search_some(index, query, query->queries + done * index->dimension, n, &form, work,
                         hits + done * query->k, counts + done))
            return false;
    }
    return true;
}
