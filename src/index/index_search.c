/*
 * index_search.c - the readers' side: the rows of a version that may be among the best k routes of
 * a query.
 *
 * Three scores of a row and a query: an estimate from signs with its deviation (index_bits.c), the
 * dot product of the codes, by integers, and that of the fp32 rows. A narrow search, of few routes
 * among many, makes two passes. The first sums signs for all rows and remembers a few rows with the
 * highest estimates. Their codes tell what a row must reach at least, which is nearly what the k-th
 * best route scores. In the second pass a row whose bound reaches that has its code looked at;
 * codes come from anywhere in memory, so they are asked for some rows ahead. What may still be
 * among the best is a candidate, and the last step (index_rank.c) decides.
 *
 * Several queries go through a chunk one after the other, so it comes from memory once for all of
 * them. One query goes over several threads by parts of the chunks; they share what a row must
 * reach, nothing else.
 *
 * Where most routes are asked for there is little to pass over: a wide search scores every row's
 * code, finds the k-th best route afterwards and takes what reaches that.
 *
 * Measured on a busy machine (250,000 rows of 384 dimensions, AVX-512, time of the processor): 0.28
 * ms at least and 0.5 ms as a rule for the best route, 0.33 and 0.6 ms for the best three; half of
 * it is the sums of the first pass, whose 12 MB come from memory at the rate that it has. The best
 * routes were those of brute force, with the same scores, for all of 200 queries, real and
 * synthetic.
 *
 * Rejected: one pass with what the rows before have shown: it looked at 14,000 codes for the best
 * three routes of 250,000 clustered rows, and took twice the time.
 */
#include "index/index_search_int.h"
#include "index/near.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define BOUND_DEVIATIONS 4.0f /* of an estimate by signs: one row in 30,000 is further below */
#define SEEDS_BASE       8    /* rows whose codes tell what others must reach: so many, */
#define SEEDS_EACH       8    /* and so many for each route asked for, */
#define SEEDS_OF_ROUTE   4    /* of one route at most */
#define CHUNKS_OF_PART   8
#define WIDE_BLOCK       4                 /* queries of a wide search at once */
#define SUM_BYTES        ((size_t)8 << 20) /* of sums, for the queries of a narrow one */

/* ---- The best routes so far ------------------------------------------------------------------ */

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

/* ---- Codes ----------------------------------------------------------------------------------- */

typedef struct look {
    const sri_kernels *kernels;
    size_t dimension;
    uint64_t version;
    const sri_near *near; /* or NULL */
} look;

/* What is known of a row by its code. */
static void judge_row(const look *at, const sri_chunk *home, size_t row, const int32_t dots[2],
                      sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    float scale = home->scales[row], error = p->noise * scale + p->slack;
    float score = sri_code_score(p, scale, dots[0], dots[1]);
    if (!(score + error >= scan->least) || !sri_row_visible(home, row, at->version)) return;
    uint32_t route = home->routes[row], slot = sri_slot_of(home, row);
    sri_scan_keep(scan, (sri_candidate){score - error, score + error, route, slot});
    note(scan, route, score - error);
}

/* All rows of a chunk. */
static void weigh_all(const look *at, const sri_chunk *home, sri_chunk_room *room, sri_scan *scan) {
    size_t n = atomic_load_explicit(&home->used, memory_order_acquire);
    for (size_t i = 0; i < n; i++) room->codes[i] = home->codes + i * at->dimension;
    at->kernels->dots_s8(scan->prepared->halves, 2, room->codes, n, at->dimension, room->dots);
    for (size_t i = 0; i < n; i++)
        judge_row(at, home, i, (int32_t[2]){room->dots[i], room->dots[n + i]}, scan);
}

/* The rows that wait. */
static void weigh_pending(const look *at, sri_chunk_room *room, sri_scan *scan) {
    size_t n = scan->pending;
    for (size_t i = 0; i < n; i++)
        room->codes[i] = scan->homes[i]->codes + scan->rows[i] * at->dimension;
    at->kernels->dots_s8(scan->prepared->halves, 2, room->codes, n, at->dimension, room->dots);
    for (size_t i = 0; i < n; i++)
        judge_row(at, scan->homes[i], scan->rows[i], (int32_t[2]){room->dots[i], room->dots[n + i]},
                  scan);
    scan->pending = 0;
}

/* Asks for the row's code, to be looked at when some more have been. */
static void queue_row(const look *at, const sri_chunk *home, uint32_t row, sri_chunk_room *room,
                      sri_scan *scan) {
    const int8_t *code = home->codes + row * at->dimension;
    for (size_t i = 0; i < at->dimension; i += 64) __builtin_prefetch(code + i);
    scan->homes[scan->pending] = home;
    scan->rows[scan->pending++] = row;
    if (scan->pending == SRI_PENDING) weigh_pending(at, room, scan);
}

/* ---- Bits: two passes ------------------------------------------------------------------------ */

/* The estimate of row i is with_centre + fma(weight, fma(sum, step, offset), base). */
typedef struct estimate {
    float with_centre, deviation; /* for a weight of 1 */
} estimate;

static estimate estimate_for(const look *at, const sri_bits *bits, const sri_prepared *p) {
    float with_centre;
    at->kernels->dots(p->rotated, 1, bits->centre, 1, at->dimension, &with_centre);
    float apart = fmaxf(p->length * p->length - 2 * with_centre + bits->centre_square, 0.0f);
    return (estimate){with_centre,
                      sqrtf(bits->doubt * bits->doubt * apart + p->table_noise * p->table_noise)};
}

/* Rows of the chunk that reach `least`, with so many deviations to their favour. */
static size_t pick_rows(const look *at, const sri_chunk *home, const uint16_t *sums,
                        const sri_prepared *p, const estimate *e, float deviations, float least,
                        sri_chunk_room *room) {
    sri_bounds bounds = {.sums = sums,
                         .weights = home->bits.weights,
                         .bases = home->bits.bases,
                         .n = SRI_CHUNK_ROWS,
                         .step = p->table_step,
                         .offset = p->table_offset + deviations * e->deviation,
                         .least = least - e->with_centre};
    return at->kernels->pick(&bounds, room->rows, room->bounds);
}

/* Puts a row among the seeds: a heap with the lowest estimate on top. */
static void seed(sri_scan *scan, sri_seed row) {
    sri_seed *heap = scan->seeds;
    size_t place;
    if (scan->seed_count < scan->seed_limit) {
        for (place = scan->seed_count++; place > 0; place = (place - 1) / 2) {
            if (heap[(place - 1) / 2].estimate <= row.estimate) break;
            heap[place] = heap[(place - 1) / 2];
        }
    } else {
        if (row.estimate <= heap[0].estimate) return;
        for (place = 0; 2 * place + 1 < scan->seed_count;) {
            size_t child = 2 * place + 1;
            if (child + 1 < scan->seed_count && heap[child + 1].estimate < heap[child].estimate)
                child++;
            if (heap[child].estimate >= row.estimate) break;
            heap[place] = heap[child];
            place = child;
        }
    }
    heap[place] = row;
}

/* Whether the row may tell what others must reach: it is in the version, and its route has not had
 * its say. */
static bool may_seed(const look *at, const sri_scan *scan, const sri_seed *row) {
    size_t same = 0;
    for (size_t i = 0; i < scan->seed_count; i++) same += scan->seeds[i].route == row->route;
    return same < SEEDS_OF_ROUTE && sri_row_visible(row->home, row->row, at->version);
}

/* First pass: sums of signs, and the rows with the highest estimates. */
static void first_pass(const look *at, const sri_chunk *home, uint16_t *sums, sri_chunk_room *room,
                       sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    at->kernels->sum_bits(home->bits.signs, SRI_CHUNK_ROWS / SRI_BIT_ROWS,
                          sri_bits_groups(at->dimension), p->tables, sums);
    estimate e = estimate_for(at, &home->bits, p);
    float least = scan->seed_count < scan->seed_limit ? -INFINITY : scan->seeds[0].estimate;
    size_t n = pick_rows(at, home, sums, p, &e, 0, least, room);
    for (size_t i = 0; i < n; i++) {
        uint32_t place = room->rows[i];
        sri_seed row = {room->bounds[i] + e.with_centre, place, home->routes[place], home,
                        &sums[place]};
        bool full = scan->seed_count == scan->seed_limit;
        if (full && row.estimate <= scan->seeds[0].estimate) continue;
        if (may_seed(at, scan, &row)) seed(scan, row);
    }
}

/* Between the passes: what a row must reach, as far as the seeds tell. The second pass finds them
 * again: by their sums, which are raised so that no error of an estimate can hide who set the
 * bar. */
static void weigh_seeds(const look *at, sri_chunk_room *room, sri_scan *scan) {
    for (size_t i = 0; i < scan->seed_count; i++) {
        queue_row(at, scan->seeds[i].home, scan->seeds[i].row, room, scan);
        *scan->seeds[i].sum = UINT16_MAX;
    }
    weigh_pending(at, room, scan);
    scan->candidate_count = 0;
}

/* Second pass: the rows whose bound reaches that. */
static void second_pass(const look *at, const sri_chunk *home, const uint16_t *sums,
                        sri_chunk_room *room, sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    estimate e = estimate_for(at, &home->bits, p);
    float margin = p->noise * home->bits.largest_scale + 4 * p->slack;
    size_t n = pick_rows(at, home, sums, p, &e, BOUND_DEVIATIONS, scan->least - margin, room);
    for (size_t i = 0; i < n; i++) queue_row(at, home, room->rows[i], room, scan);
}

/* ---- Narrow searches: of few routes among many ----------------------------------------------- */

static void begin(sri_scan *scan, const sri_prepared *prepared, size_t k, uint16_t *sums) {
    scan->prepared = prepared;
    scan->least = -INFINITY;
    scan->k = k;
    scan->seed_limit = SRI_MIN(SEEDS_BASE + SEEDS_EACH * k, (size_t)SRI_SEEDS_MOST);
    scan->count = scan->candidate_count = scan->seed_count = scan->pending = 0;
    scan->sums = sums;
    scan->short_memory = false;
}

/* A range of the plan for one query, in either pass. */
static void first_range(const look *at, const sri_planned *plan, size_t from, size_t to,
                        sri_chunk_room *room, sri_scan *scan) {
    for (size_t c = from; c < to; c++)
        if (plan[c].sealed)
            first_pass(at, plan[c].home, scan->sums + c * SRI_CHUNK_ROWS, room, scan);
}

static void second_range(const look *at, const sri_planned *plan, size_t from, size_t to,
                         sri_chunk_room *room, sri_scan *scan) {
    for (size_t c = from; c < to; c++)
        if (plan[c].sealed)
            second_pass(at, plan[c].home, scan->sums + c * SRI_CHUNK_ROWS, room, scan);
        else
            weigh_all(at, plan[c].home, room, scan);
}

typedef struct shared_search {
    look at;
    struct sri_index_work *work;
    size_t parts;
    _Atomic(float) least;
} shared_search;

static size_t part_start(const shared_search *shared, size_t part) {
    return shared->work->planned * part / shared->parts;
}

static void first_part(void *job, size_t part) {
    shared_search *shared = job;
    sri_scan *scan = &shared->work->scans[part];
    first_range(&shared->at, shared->work->plan, part_start(shared, part),
                part_start(shared, part + 1), shared->work->rooms[part], scan);
    weigh_seeds(&shared->at, shared->work->rooms[part], scan);
}

/* The highest of what any part found a row must reach. */
static void share_least(shared_search *shared, sri_scan *scan) {
    float known = atomic_load_explicit(&shared->least, memory_order_relaxed);
    while (known < scan->least &&
           !atomic_compare_exchange_weak(&shared->least, &known, scan->least)) {
    }
    scan->least = fmaxf(scan->least, known);
}

static void second_part(void *job, size_t part) {
    shared_search *shared = job;
    sri_scan *scan = &shared->work->scans[part];
    for (size_t c = part_start(shared, part); c < part_start(shared, part + 1); c++) {
        share_least(shared, scan);
        second_range(&shared->at, shared->work->plan, c, c + 1, shared->work->rooms[part], scan);
    }
    weigh_pending(&shared->at, shared->work->rooms[part], scan);
}

/* Takes all that the parts know into the first scan; after the first pass none has candidates. */
static void merge(sri_scan *scans, size_t parts) {
    sri_scan *all = &scans[0];
    for (size_t i = 1; i < parts; i++) {
        all->short_memory = all->short_memory || scans[i].short_memory;
        for (size_t r = 0; r < scans[i].count; r++)
            note(all, scans[i].routes[r], scans[i].lowers[r]);
    }
    for (size_t i = 1; i < parts; i++)
        for (size_t c = 0; c < scans[i].candidate_count; c++)
            if (scans[i].candidates[c].upper >= all->least)
                sri_scan_keep(all, scans[i].candidates[c]);
}

static bool search_in_parts(const look *at, const sri_index_query *query,
                            struct sri_index_work *work, size_t parts) {
    shared_search shared = {*at, work, parts, -INFINITY};
    for (size_t part = 0; part < parts; part++)
        begin(&work->scans[part], &work->prepared[0], query->k, work->sums);
    sri_team_run(query->team, first_part, &shared, parts);
    merge(work->scans, parts);
    atomic_store(&shared.least, work->scans[0].least);
    sri_team_run(query->team, second_part, &shared, parts);
    merge(work->scans, parts);
    return !work->scans[0].short_memory;
}

/* Looks at what the approximate index suggests, instead of the chunks that it covers. */
static void look_near(const look *at, const sri_index *index, sri_chunk_room *room,
                      sri_scan *scan) {
    uint32_t slots[SRI_NEAR_MOST];
    size_t n = sri_near_find(at->near, scan->prepared->rotated, scan->k, slots);
    for (size_t i = 0; i < n; i++) {
        const sri_chunk *home = sri_home_of(index, slots[i]);
        if (home != NULL && sri_near_covers(at->near, home))
            queue_row(at, home, slots[i] % SRI_CHUNK_ROWS, room, scan);
    }
}

/* Several queries go through a chunk one after the other. */
static bool search_block(const look *at, const sri_index *index, const sri_index_query *query,
                         size_t n, struct sri_index_work *work) {
    sri_chunk_room *room = work->rooms[0];
    size_t planned = work->planned;
    for (size_t q = 0; q < n; q++)
        begin(&work->scans[q], &work->prepared[q], query->k,
              work->sums + q * planned * SRI_CHUNK_ROWS);
    for (size_t c = 0; c < planned; c++)
        for (size_t q = 0; q < n; q++) first_range(at, work->plan, c, c + 1, room, &work->scans[q]);
    for (size_t q = 0; q < n; q++) {
        weigh_seeds(at, room, &work->scans[q]);
        if (at->near != NULL) look_near(at, index, room, &work->scans[q]);
    }
    for (size_t c = 0; c < planned; c++)
        for (size_t q = 0; q < n; q++)
            second_range(at, work->plan, c, c + 1, room, &work->scans[q]);
    bool enough = true;
    for (size_t q = 0; q < n; q++) {
        weigh_pending(at, room, &work->scans[q]);
        enough = enough && !work->scans[q].short_memory;
    }
    return enough;
}

/* Leaves the candidates that reach `least` and the best of their own route, as far as it is
 * known. */
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
static void score_chunk(const look *at, const sri_chunk *home, sri_chunk_room *room,
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

static bool search_wide(const look *at, const sri_index *index, const sri_index_query *query,
                        size_t n, struct sri_index_work *work) {
    size_t routes = atomic_load(&index->routes), rows = work->planned * SRI_CHUNK_ROWS,
           each = rows + routes;
    void *wide = work->wide;
    bool enough = sri_grow(&wide, &work->wide_capacity, n * each + routes, sizeof(float));
    work->wide = wide;
    if (!enough) return false;
    for (size_t q = 0; q < n; q++) {
        begin(&work->scans[q], &work->prepared[q], query->k, NULL);
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
    work->planned = work->sealed = 0;
    if (!enough) return false;
    for (size_t i = 0; i < limit; i++) {
        const sri_chunk *home = sri_chunk_at(index, i);
        if (home == NULL || sri_near_covers(near, home)) continue;
        bool sealed = atomic_load_explicit(&home->sealed, memory_order_acquire);
        work->plan[work->planned++] = (sri_planned){home, sealed};
        work->sealed += sealed;
        if (sealed) continue;
        sri_planned front = work->plan[0]; /* without bits: to the front */
        work->plan[0] = work->plan[work->planned - 1];
        work->plan[work->planned - 1] = front;
    }
    return true;
}

typedef struct shape {
    bool narrow;
    size_t block, parts; /* queries at once; threads' parts of one */
    const sri_near *near;
} shape;

/* Sets what depends on the number of chunks. */
static void shape_narrow(const sri_index_query *query, const struct sri_index_work *work,
                         shape *form) {
    size_t sums = SRI_MAX(work->planned, (size_t)1) * SRI_CHUNK_ROWS * sizeof(uint16_t);
    form->block = SRI_MAX(SRI_MIN(SUM_BYTES / sums, (size_t)SRI_INDEX_QUERY_BLOCK), (size_t)1);
    if (query->team != NULL && query->n == 1 && form->near == NULL)
        form->parts =
            SRI_MAX(SRI_MIN(work->planned / CHUNKS_OF_PART, (size_t)SRI_SEARCH_PARTS), (size_t)1);
}

static bool make_room(const shape *form, size_t n, struct sri_index_work *work) {
    void *sums = work->sums;
    size_t count = form->narrow ? SRI_MIN(n, form->block) * work->planned * SRI_CHUNK_ROWS : 0;
    bool enough = sri_grow(&sums, &work->sum_capacity, count, sizeof *work->sums);
    work->sums = sums;
    return enough && sri_search_room(work, form->parts);
}

static bool find_candidates(const sri_index *index, const sri_index_query *query, size_t n,
                            const shape *form, struct sri_index_work *work) {
    look at = {sri_kernels_get(), index->dimension, query->version, form->near};
    if (!form->narrow) return search_wide(&at, index, query, n, work);
    if (form->parts > 1) return search_in_parts(&at, query, work, form->parts);
    return search_block(&at, index, query, n, work);
}

static bool search_some(const sri_index *index, const sri_index_query *query, const float *queries,
                        size_t n, const shape *form, struct sri_index_work *work, sri_hit *hits,
                        size_t *counts) {
    size_t d = index->dimension;
    for (size_t q = 0; q < n; q++) {
        sri_prepare(queries + q * d, d, work->prepared_bytes + q * sri_prepared_bytes(d),
                    &work->prepared[q]);
        if (form->narrow && work->sealed > 0) sri_prepare_tables(&work->prepared[q], d);
    }
    if (!find_candidates(index, query, n, form, work)) return false;
    for (size_t q = 0; q < n; q++) {
        sri_scan *scan = &work->scans[q];
        size_t left = form->narrow ? thin_out(scan) : scan->candidate_count;
        if (!sri_rank(index, query, scan, left, work, hits + q * query->k, &counts[q]))
            return false;
    }
    return true;
}

bool sri_index_search(const sri_index *index, const sri_index_query *query,
                      sri_index_scratch *scratch, sri_hit *hits, size_t *counts) {
    struct sri_index_work *work = sri_search_work(index, scratch);
    shape form = {is_narrow(index, query->k), WIDE_BLOCK, 1, NULL};
    if (form.narrow) form.near = sri_near_of(index);
    memset(counts, 0, query->n * sizeof *counts);
    if (work == NULL || !make_plan(index, form.near, work)) return false;
    if (form.narrow) shape_narrow(query, work, &form);
    if (!make_room(&form, query->n, work)) return false;
    for (size_t done = 0; done < query->n && query->k > 0; done += form.block) {
        size_t n = SRI_MIN(form.block, query->n - done);
        if (!search_some(index, query, query->queries + done * index->dimension, n, &form, work,
                         hits + done * query->k, counts + done))
            return false;
    }
    return true;
}
