/*
 * index_search.c - the readers' side: the rows of a version that may be among the best k routes of a query.
 *
 * A scan goes through the chunks in order. It knows the best k routes so far by a lower bound of their scores; the lowest of
 * these is what a row must be able to reach. From a full chunk it takes the rows whose bound by 1-bit codes does
 * (index_bits.c), the most promising first where they are many, then computes their codes' dot products, and keeps those
 * that still may as candidates. The last step, which fetches fp32 rows, decides among them (index_rank.c).
 *
 * Several queries go through a chunk one after the other, so it comes from memory once for all of them. One
 * query goes over several threads by parts of the chunks; they share what a row must reach, nothing else.
 *
 * Where most routes are asked for there is little to pass over: a wide search scores every row's code, finds the k-th best
 * route afterwards and takes what reaches that.
 *
 * Rejected: evaluating nothing before all bounds are known (fewer dot products, but the bounds of all rows have to be
 * kept, and the first chunks already tell nearly as much).
 */
#include "index/index_search_int.h"
#include "index/near.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define BOUND_DEVIATIONS 4.5f /* of an estimate by signs: one row in 300,000 is further off */
#define MANY             48 /* picked rows of a chunk, of which the best FIRST are looked at first */
#define FIRST            16
#define CHUNKS_OF_PART   8
#define WIDE_BLOCK       4 /* queries of a wide search at once */

/* ---- The best routes so far ----------------------------------------------------------------------------- */

void sri_scan_keep(sri_scan *scan, sri_candidate candidate) {
    void *candidates = scan->candidates;
    if (!sri_grow(&candidates, &scan->candidate_capacity, scan->candidate_count + 1,
                  sizeof candidate))
        scan->short_memory = true;
    else
        scan->candidates = candidates, scan->candidates[scan->candidate_count++] = candidate;
}

static void find_least(sri_scan *scan) {
    float least = INFINITY;
    for (size_t i = 0; i < scan->count; i++) least = fminf(least, scan->lowers[i]);
    scan->least = fmaxf(scan->least, least);
}

/* A row of `route` scores `lower` at least. */
static void note(sri_scan *scan, uint32_t route, float lower) {
    size_t place = scan->count, worst = 0;
    for (size_t i = 0; i < scan->count; i++) {
        if (scan->routes[i] == route) place = i;
        if (scan->lowers[i] < scan->lowers[worst]) worst = i;
    }
    if (place < scan->count) {
        if (lower <= scan->lowers[place]) return;
    } else if (scan->count < scan->k) {
        scan->count++;
    } else {
        if (lower <= scan->lowers[worst]) return;
        place = worst;
    }
    scan->routes[place] = route;
    scan->lowers[place] = lower;
    if (scan->count == scan->k) find_least(scan);
}

/* ---- One chunk ------------------------------------------------------------------------------------------- */

typedef struct look {
    const sri_kernels *kernels;
    size_t dimension;
    uint64_t version;
    const sri_near *near;
} look;

/* Scores the codes of `n` rows, those of `list` or the first ones. */
static void weigh(const look *at, const sri_chunk *home, const uint32_t *list, size_t n,
                  sri_chunk_room *room, sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    at->kernels->dots_s8(p->halves, 2, home->codes, list, n, at->dimension, room->dots);
    for (size_t i = 0; i < n; i++) {
        size_t row = list == NULL ? i : list[i];
        float scale = home->scales[row], error = p->noise * scale + p->slack;
        float score = sri_code_score(p, scale, room->dots[i], room->dots[n + i]);
        if (!(score + error >= scan->least) || !sri_row_visible(home, row, at->version)) continue;
        uint32_t slot = home->number * SRI_CHUNK_ROWS + (uint32_t)row;
        sri_scan_keep(scan, (sri_candidate){score - error, score + error, home->routes[row], slot});
        note(scan, home->routes[row], score - error);
    }
}

/* Moves the FIRST highest bounds to the front, in any order. */
static void best_to_front(sri_chunk_room *room, size_t n) {
    size_t lowest = 0;
    for (size_t i = 1; i < FIRST; i++)
        if (room->bounds[i] < room->bounds[lowest]) lowest = i;
    for (size_t i = FIRST; i < n; i++) {
        if (room->bounds[i] <= room->bounds[lowest]) continue;
        float bound = room->bounds[i];
        uint32_t row = room->rows[i];
        room->bounds[i] = room->bounds[lowest], room->rows[i] = room->rows[lowest];
        room->bounds[lowest] = bound, room->rows[lowest] = row;
        for (size_t j = 0; j < FIRST; j++)
            if (room->bounds[j] < room->bounds[lowest]) lowest = j;
    }
}

/* Those from FIRST on that reach `least`, to the front. */
static size_t drop_first(sri_chunk_room *room, size_t n, float least) {
    size_t left = 0;
    for (size_t i = FIRST; i < n; i++) {
        if (!(room->bounds[i] >= least)) continue;
        room->rows[left++] = room->rows[i];
    }
    return left;
}

static void scan_sealed(const look *at, const sri_chunk *home, sri_chunk_room *room,
                        sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    const sri_bits *bits = &home->bits;
    float with_centre;
    at->kernels->dots(p->rotated, 1, bits->centre, 1, at->dimension, &with_centre);
    float apart = fmaxf(p->length * p->length - 2 * with_centre + bits->centre_square, 0.0f);
    float deviation = sqrtf(bits->doubt * bits->doubt * apart + p->table_noise * p->table_noise);
    float margin = with_centre + p->noise * bits->largest_scale + 4 * p->slack;
    sri_bounds bounds = {room->sums,          bits->weights,
                         bits->bases,         SRI_CHUNK_ROWS,
                         p->table_step,       p->table_offset + BOUND_DEVIATIONS * deviation,
                         scan->least - margin};
    at->kernels->sum_bits(bits->signs, SRI_CHUNK_ROWS / SRI_BIT_ROWS, (at->dimension + 3) / 4,
                          p->tables, room->sums);
    size_t n = at->kernels->pick(&bounds, room->rows, room->bounds);
    if (n > MANY) {
        best_to_front(room, n);
        weigh(at, home, room->rows, FIRST, room, scan);
        n = drop_first(room, n, scan->least - margin);
    }
    weigh(at, home, room->rows, n, room, scan);
}

static void scan_chunk(const look *at, const sri_chunk *home, sri_chunk_room *room,
                       sri_scan *scan) {
    if (atomic_load_explicit(&home->sealed, memory_order_acquire))
        scan_sealed(at, home, room, scan);
    else
        weigh(at, home, NULL, atomic_load_explicit(&home->used, memory_order_acquire), room, scan);
}

/* ---- Narrow searches: of few routes among many --------------------------------------------------------------- */

static void begin(sri_scan *scan, const sri_prepared *prepared, size_t k) {
    scan->prepared = prepared;
    scan->least = -INFINITY;
    scan->k = k;
    scan->count = scan->candidate_count = 0;
    scan->short_memory = false;
}

/* Takes all candidates of the parts into the first scan. */
static bool merge(sri_scan *scans, size_t parts) {
    sri_scan *all = &scans[0];
    for (size_t i = 1; i < parts; i++) {
        all->least = fmaxf(all->least, scans[i].least);
        all->short_memory = all->short_memory || scans[i].short_memory;
    }
    for (size_t i = 1; i < parts; i++)
        for (size_t c = 0; c < scans[i].candidate_count; c++)
            if (scans[i].candidates[c].upper >= all->least) {
                sri_scan_keep(all, scans[i].candidates[c]);
                note(all, scans[i].candidates[c].route, scans[i].candidates[c].lower);
            }
    return !all->short_memory;
}

/* Leaves the candidates that reach `least` and the best of their own route, as far as it is known. */
static size_t thin_out(sri_scan *scan) {
    size_t left = 0;
    for (size_t c = 0; c < scan->candidate_count; c++) {
        sri_candidate candidate = scan->candidates[c];
        bool enough = candidate.upper >= scan->least;
        for (size_t i = 0; i < scan->count && enough; i++)
            enough = scan->routes[i] != candidate.route || candidate.upper >= scan->lowers[i];
        if (enough) scan->candidates[left++] = candidate;
    }
    return left;
}

typedef struct shared_search {
    look at;
    const sri_index *index;
    struct sri_index_work *work;
    size_t limit, parts;
    _Atomic(float) least;
} shared_search;

/* The highest of what any part found a row must reach. */
static void share_least(shared_search *shared, sri_scan *scan) {
    float known = atomic_load_explicit(&shared->least, memory_order_relaxed);
    while (known < scan->least &&
           !atomic_compare_exchange_weak(&shared->least, &known, scan->least)) {
    }
    scan->least = fmaxf(scan->least, known);
}

static void scan_part(void *job, size_t part) {
    shared_search *shared = job;
    sri_scan *scan = &shared->work->scans[part];
    for (size_t c = shared->limit * part / shared->parts;
         c < shared->limit * (part + 1) / shared->parts; c++) {
        const sri_chunk *home = sri_chunk_at(shared->index, c);
        if (home == NULL) continue;
        scan_chunk(&shared->at, home, shared->work->rooms[part], scan);
        share_least(shared, scan);
    }
}

static bool search_in_parts(const look *at, const sri_index *index, const sri_index_query *query,
                            struct sri_index_work *work, size_t limit, size_t parts) {
    shared_search shared = {*at, index, work, limit, parts, -INFINITY};
    for (size_t part = 0; part < parts; part++)
        begin(&work->scans[part], &work->prepared[0], query->k);
    sri_team_run(query->team, scan_part, &shared, parts);
    return merge(work->scans, parts);
}

/* Looks at what the approximate index suggests, instead of the chunks that it covers. */
static void look_near(const look *at, const sri_index *index, struct sri_index_work *work,
                      sri_scan *scan) {
    uint32_t slots[SRI_NEAR_MOST];
    size_t n = sri_near_find(at->near, scan->prepared->rotated, scan->k, slots);
    for (size_t i = 0; i < n; i++) {
        const sri_chunk *home = sri_chunk_at(index, slots[i] / SRI_CHUNK_ROWS);
        uint32_t row = slots[i] % SRI_CHUNK_ROWS;
        if (home != NULL && sri_near_covers(at->near, home))
            weigh(at, home, &row, 1, work->rooms[0], scan);
    }
}

static bool search_block(const look *at, const sri_index *index, const sri_index_query *query,
                         size_t n, struct sri_index_work *work, size_t limit) {
    for (size_t q = 0; q < n; q++) begin(&work->scans[q], &work->prepared[q], query->k);
    for (size_t q = 0; q < n && at->near != NULL; q++) look_near(at, index, work, &work->scans[q]);
    for (size_t c = 0; c < limit; c++) {
        const sri_chunk *home = sri_chunk_at(index, c);
        if (home == NULL || sri_near_covers(at->near, home)) continue;
        for (size_t q = 0; q < n; q++) scan_chunk(at, home, work->rooms[0], &work->scans[q]);
    }
    for (size_t q = 0; q < n; q++)
        if (work->scans[q].short_memory) return false;
    return true;
}

/* ---- Wide searches: of most routes ------------------------------------------------------------------------------ */

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
static void score_chunk(const look *at, const sri_chunk *home, sri_chunk_room *room,
                        const sri_prepared *p, float *scores, float *bests) {
    size_t used = atomic_load_explicit(&home->used, memory_order_acquire);
    for (size_t row = used; row < SRI_CHUNK_ROWS; row++) scores[row] = -INFINITY;
    at->kernels->dots_s8(p->halves, 2, home->codes, NULL, used, at->dimension, room->dots);
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
        uint32_t route = home->routes[row], slot = home->number * SRI_CHUNK_ROWS + (uint32_t)row;
        float error = p->noise * home->scales[row] + p->slack;
        if (!(scores[row] + error >= scan->least && scores[row] + error >= bests[route])) continue;
        sri_scan_keep(scan, (sri_candidate){scores[row] - error, scores[row] + error, route, slot});
    }
}

static bool search_wide(const look *at, const sri_index *index, const sri_index_query *query,
                        size_t n, struct sri_index_work *work, size_t limit) {
    size_t routes = atomic_load(&index->routes), slots = limit * SRI_CHUNK_ROWS,
           each = slots + routes;
    void *wide = work->wide;
    bool enough = sri_grow(&wide, &work->wide_capacity, n * each + routes, sizeof(float));
    work->wide = wide;
    if (!enough) return false;
    for (size_t q = 0; q < n; q++) {
        begin(&work->scans[q], &work->prepared[q], query->k);
        for (size_t r = 0; r < routes; r++) work->wide[q * each + slots + r] = -INFINITY;
    }
    for (size_t c = 0; c < limit; c++) {
        const sri_chunk *home = sri_chunk_at(index, c);
        for (size_t q = 0; q < n && home != NULL; q++)
            score_chunk(at, home, work->rooms[0], &work->prepared[q],
                        work->wide + q * each + c * SRI_CHUNK_ROWS, work->wide + q * each + slots);
    }
    for (size_t q = 0; q < n; q++) {
        float *scores = work->wide + q * each, *bests = scores + slots,
              *copy = work->wide + n * each;
        memcpy(copy, bests, routes * sizeof *copy);
        work->scans[q].least = kth_largest(copy, routes, query->k);
        for (size_t c = 0; c < limit; c++) {
            const sri_chunk *home = sri_chunk_at(index, c);
            if (home != NULL)
                keep_scored(home, scores + c * SRI_CHUNK_ROWS, bests, &work->scans[q]);
        }
        if (work->scans[q].short_memory) return false;
    }
    return true;
}

/* ---- All of it ------------------------------------------------------------------------------------------------------ */

static bool is_narrow(const sri_index *index, size_t k) {
    return k <= SRI_BOARD_MOST && 3 * k <= atomic_load(&index->routes) + 2;
}

static size_t parts_of(const sri_index_query *query, size_t limit) {
    if (query->team == NULL || query->n != 1) return 1;
    return SRI_MAX(SRI_MIN(limit / CHUNKS_OF_PART, (size_t)SRI_SEARCH_PARTS), (size_t)1);
}

static bool find_candidates(const sri_index *index, const sri_index_query *query, size_t n,
                            struct sri_index_work *work, size_t limit, size_t parts, bool narrow) {
    look at = {sri_kernels_get(), index->dimension, query->version,
               narrow ? sri_near_of(index) : NULL};
    if (!narrow) return search_wide(&at, index, query, n, work, limit);
    if (parts > 1 && at.near == NULL) return search_in_parts(&at, index, query, work, limit, parts);
    return search_block(&at, index, query, n, work, limit);
}

bool sri_index_search(const sri_index *index, const sri_index_query *query,
                      sri_index_scratch *scratch, sri_hit *hits, size_t *counts) {
    size_t limit = atomic_load_explicit(&index->limit, memory_order_acquire), d = index->dimension;
    size_t parts = parts_of(query, limit);
    bool narrow = is_narrow(index, query->k);
    size_t block = narrow ? SRI_INDEX_QUERY_BLOCK : WIDE_BLOCK;
    struct sri_index_work *work = sri_search_room(index, scratch, parts);
    if (work == NULL) return false;
    memset(counts, 0, query->n * sizeof *counts);
    for (size_t done = 0; done < query->n && query->k > 0; done += block) {
        size_t n = SRI_MIN(block, query->n - done);
        for (size_t q = 0; q < n; q++)
            sri_prepare(query->queries + (done + q) * d, d,
                        work->prepared_bytes + q * sri_prepared_bytes(d), &work->prepared[q]);
        if (!find_candidates(index, query, n, work, limit, parts, narrow)) return false;
        for (size_t q = 0; q < n; q++) {
            sri_scan *scan = &work->scans[q];
            size_t left = thin_out(scan);
            if (!sri_rank(index, query, &work->prepared[q], scan->candidates, left, work,
                          hits + (done + q) * query->k, &counts[done + q]))
                return false;
        }
    }
    return true;
}
