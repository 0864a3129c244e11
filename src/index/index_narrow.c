/*
 * index_narrow.c - the rows that may be among the best k routes of some queries, where few routes are
 * asked for among many: nearly all rows are passed over after a look at their signs.
 *
 * First a sample of chunks says what a row must reach: the codes of the rows with the highest
 * estimates there (index_bits.c) are looked at. Then all chunks are gone through once. The kernels sum
 * signs for all queries of the block, and list the rows whose bound reaches what is known by then. A
 * row whose very estimate does may raise the bar, so its code is looked at with the next chunk, when
 * it has come from memory. The others wait; at the end the bar is higher, and most of them are passed
 * over too. What may still be among the best is a candidate.
 *
 * So a chunk's signs come from memory once for all queries, sums never leave the nearest cache, and
 * what is kept of a query is bounded. One query goes over several threads by parts of the chunks; they
 * share the bar, nothing else.
 *
 * Rejected: looking at the code of every row that is listed (14,000 for the best three routes of
 * 250,000 clustered rows, since half of the table is passed before the best is met: twice the time);
 * two passes over all chunks, sums being kept in between (a fifth of the time went into reading them
 * again).
 */
#include "index/index_search_int.h"
#include "index/near.h"

#include <math.h>

#define BOUND_DEVIATIONS 4.0f /* of an estimate by signs: one row in 30,000 is further below */
#define SAMPLE_CHUNKS    4
#define SEEDS_BASE       8   /* rows whose codes tell what others must reach: so many, */
#define SEEDS_EACH       8   /* and so many for each route asked for, */
#define SEEDS_OF_ROUTE   4   /* of one route at most */
#define FIRST_ROWS       128 /* all of which are seeds, for want of a bar */
#define BYTES_AHEAD                                                                                \
    4096 /* of the next chunk's signs: a page, from where on kernels ask themselves */

/* ---- The best routes so far ------------------------------------------------------------------ */

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

/* What is known of a row by its code. */
static void judge_row(const sri_look *at, const sri_chunk *home, size_t row, const int32_t dots[2],
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
static void weigh_all(const sri_look *at, const sri_chunk *home, sri_chunk_room *room,
                      sri_scan *scan) {
    size_t n = atomic_load_explicit(&home->used, memory_order_acquire);
    for (size_t i = 0; i < n; i++) room->codes[i] = home->codes + i * at->dimension;
    at->kernels->dots_s8(scan->prepared->halves, 2, room->codes, n, at->dimension, room->dots);
    for (size_t i = 0; i < n; i++)
        judge_row(at, home, i, (int32_t[2]){room->dots[i], room->dots[n + i]}, scan);
}

/* The rows that wait. */
static void weigh_pending(const sri_look *at, sri_chunk_room *room, sri_scan *scan) {
    size_t n = scan->pending;
    if (n == 0) return;
    for (size_t i = 0; i < n; i++)
        room->codes[i] = scan->homes[i]->codes + scan->rows[i] * at->dimension;
    at->kernels->dots_s8(scan->prepared->halves, 2, room->codes, n, at->dimension, room->dots);
    for (size_t i = 0; i < n; i++)
        judge_row(at, scan->homes[i], scan->rows[i], (int32_t[2]){room->dots[i], room->dots[n + i]},
                  scan);
    scan->pending = 0;
}

/* Asks for the row's code, to be looked at when some more have been. */
static void queue_row(const sri_look *at, const sri_chunk *home, uint32_t row, sri_chunk_room *room,
                      sri_scan *scan) {
    const int8_t *code = home->codes + row * at->dimension;
    for (size_t i = 0; i < at->dimension; i += 64) __builtin_prefetch(code + i);
    scan->homes[scan->pending] = home;
    scan->rows[scan->pending++] = row;
    if (scan->pending == SRI_PENDING) weigh_pending(at, room, scan);
}

/* Looks at the rows that wait, as far as they still matter. */
static void settle(const sri_look *at, sri_chunk_room *room, sri_scan *scan) {
    weigh_pending(at, room, scan);
    for (size_t i = 0; i < scan->waiting_count; i++) {
        const sri_waiting *row = &scan->waiting[i];
        if (row->upper >= scan->least) queue_row(at, row->home, row->row, room, scan);
    }
    weigh_pending(at, room, scan);
    scan->waiting_count = 0;
}

/* ---- Signs ----------------------------------------------------------------------------------- */

/* The estimate of row i is with_centre + fma(weight, fma(sum, step, offset), base). */
typedef struct estimate {
    float with_centre, deviation; /* for a weight of 1 */
} estimate;

static estimate estimate_for(const sri_bits *bits, const sri_prepared *p, float with_centre) {
    float apart = fmaxf(p->length * p->length - 2 * with_centre + bits->centre_square, 0.0f);
    return (estimate){with_centre,
                      sqrtf(bits->doubt * bits->doubt * apart + p->table_noise * p->table_noise)};
}

/* Sums of a chunk's signs for each scan into room->sums, and what makes estimates of them. */
static void sum_chunk(const sri_look *at, const sri_chunk *home, const sri_scan *scans, size_t n,
                      sri_chunk_room *room, estimate *estimates) {
    const sri_signs *signs = &at->kernels->signs;
    const uint8_t *tables[SRI_SUM_BLOCK];
    uint16_t *sums[SRI_SUM_BLOCK];
    float with_centre[SRI_SUM_BLOCK];
    for (size_t q = 0; q < n; q++) {
        tables[q] = scans[q].prepared->tables;
        sums[q] = room->sums[q];
    }
    signs->sum(home->bits.signs, SRI_CHUNK_ROWS / SRI_SIGN_ROWS,
               sri_sign_groups(signs, at->dimension), tables, n, sums);
    at->kernels->dots(home->bits.centre, 1, scans[0].prepared->rotated, n, at->dimension,
                      with_centre);
    for (size_t q = 0; q < n; q++)
        estimates[q] = estimate_for(&home->bits, scans[q].prepared, with_centre[q]);
}

/* Rows of a chunk. */
typedef struct stretch {
    const sri_chunk *home;
    const uint16_t *sums;
    size_t from, to;
} stretch;

/* Lists those that reach `least`, with so many deviations to their favour: in room->rows, counted
 * from the first one's place on, and room->bounds, both without the centre. */
static size_t pick_rows(const sri_look *at, const stretch *some, const sri_prepared *p,
                        const estimate *e, float deviations, float least, sri_chunk_room *room) {
    sri_bounds bounds = {.sums = some->sums + some->from,
                         .weights = some->home->bits.weights + some->from,
                         .bases = some->home->bits.bases + some->from,
                         .n = some->to - some->from,
                         .step = p->table_step,
                         .offset = p->table_offset + deviations * e->deviation,
                         .least = least - e->with_centre};
    return at->kernels->pick(&bounds, room->rows, room->bounds);
}

/* ---- The sample ------------------------------------------------------------------------------ */

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
static bool may_seed(const sri_look *at, const sri_scan *scan, const sri_seed *row) {
    size_t same = 0;
    for (size_t i = 0; i < scan->seed_count; i++) same += scan->seeds[i].route == row->route;
    return same < SEEDS_OF_ROUTE && sri_row_visible(row->home, row->row, at->version);
}

static bool is_seed(const sri_scan *scan, const sri_chunk *home, uint32_t row) {
    for (size_t i = 0; i < scan->seed_count; i++)
        if (scan->seeds[i].row == row && scan->seeds[i].home == home) return true;
    return false;
}

/* Remembers a chunk's rows with the highest estimates. */
static void seed_from(const sri_look *at, const sri_chunk *home, const uint16_t *sums,
                      const estimate *e, sri_chunk_room *room, sri_scan *scan) {
    stretch some = {home, sums, 0, 0};
    for (; some.to < SRI_CHUNK_ROWS; some.from = some.to) {
        bool full = scan->seed_count == scan->seed_limit;
        some.to = full ? SRI_CHUNK_ROWS : some.from + FIRST_ROWS;
        size_t n = pick_rows(at, &some, scan->prepared, e, 0,
                             full ? scan->seeds[0].estimate : -INFINITY, room);
        for (size_t i = 0; i < n; i++) {
            uint32_t place = (uint32_t)some.from + room->rows[i];
            sri_seed row = {room->bounds[i] + e->with_centre, place, home->routes[place], home};
            full = scan->seed_count == scan->seed_limit;
            if (full && row.estimate <= scan->seeds[0].estimate) continue;
            if (may_seed(at, scan, &row)) seed(scan, row);
        }
    }
}

static void seed_some(const sri_look *at, const sri_chunk *home, sri_chunk_room *room,
                      sri_scan *scans, size_t n) {
    estimate estimates[SRI_SUM_BLOCK];
    sum_chunk(at, home, scans, n, room, estimates);
    for (size_t q = 0; q < n; q++)
        seed_from(at, home, room->sums[q], &estimates[q], room, &scans[q]);
}

/* What a row must reach, as far as some of the chunks tell. Gives the number of the first chunk that
 * was not looked at. */
static size_t take_sample(const sri_look *at, size_t from, size_t to, sri_chunk_room *room,
                          sri_scan *scans, size_t n) {
    for (size_t left = SAMPLE_CHUNKS; from < to && left > 0; from++) {
        if (!at->plan[from].sealed) continue;
        left--;
        for (size_t q = 0; q < n; q += SRI_SUM_BLOCK)
            seed_some(at, at->plan[from].home, room, scans + q,
                      SRI_MIN(n - q, (size_t)SRI_SUM_BLOCK));
    }
    for (size_t q = 0; q < n; q++) {
        for (size_t i = 0; i < scans[q].seed_count; i++)
            queue_row(at, scans[q].seeds[i].home, scans[q].seeds[i].row, room, &scans[q]);
        weigh_pending(at, room, &scans[q]);
    }
    return from;
}

/* ---- All chunks ------------------------------------------------------------------------------ */

/* Takes down the rows whose bound reaches what is known; not the seeds, which have had their say. */
static void list_rows(const sri_look *at, const sri_chunk *home, const uint16_t *sums,
                      const estimate *e, bool sampled, sri_chunk_room *room, sri_scan *scan) {
    const sri_prepared *p = scan->prepared;
    float margin = p->noise * home->bits.largest_scale + 4 * p->slack;
    float deviation = BOUND_DEVIATIONS * e->deviation;
    stretch all = {home, sums, 0, SRI_CHUNK_ROWS};
    size_t n = pick_rows(at, &all, p, e, BOUND_DEVIATIONS, scan->least - margin, room);
    for (size_t i = 0; i < n; i++) {
        uint32_t row = room->rows[i];
        float bound = room->bounds[i] + e->with_centre;
        if (sampled && is_seed(scan, home, row)) continue;
        if (!(bound - home->bits.weights[row] * deviation < scan->least)) {
            queue_row(at, home, row, room, scan);
            continue;
        }
        scan->waiting[scan->waiting_count++] = (sri_waiting){home, row, bound + margin};
        if (scan->waiting_count == SRI_WAITING) settle(at, room, scan);
    }
}

/* Takes what other threads know of what a row must reach, and tells them. */
static void share_least(const sri_look *at, sri_scan *scan) {
    if (at->least == NULL) return;
    float known = atomic_load_explicit(at->least, memory_order_relaxed);
    while (known < scan->least && !atomic_compare_exchange_weak(at->least, &known, scan->least)) {
    }
    scan->least = fmaxf(scan->least, known);
}

static void look_at_chunk(const sri_look *at, const sri_planned *chunk, bool sampled,
                          sri_chunk_room *room, sri_scan *scans, size_t n) {
    estimate estimates[SRI_SUM_BLOCK];
    if (chunk->sealed) sum_chunk(at, chunk->home, scans, n, room, estimates);
    for (size_t q = 0; q < n; q++) {
        weigh_pending(at, room, &scans[q]);
        share_least(at, &scans[q]);
        if (chunk->sealed)
            list_rows(at, chunk->home, room->sums[q], &estimates[q], sampled, room, &scans[q]);
        else
            weigh_all(at, chunk->home, room, &scans[q]);
    }
}

static void prefetch(const void *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)from + i);
}

/* Asks for what the chunks after number `c` are looked at first, which is nowhere near it. */
static void look_ahead(const sri_look *at, size_t c, size_t to) {
    if (c + 2 < to) prefetch(&at->plan[c + 2].home->bits, sizeof(sri_bits));
    if (c + 1 >= to || !at->plan[c + 1].sealed) return;
    const sri_bits *bits = &at->plan[c + 1].home->bits;
    prefetch(bits->signs, BYTES_AHEAD);
    prefetch(bits->centre, at->dimension * sizeof *bits->centre);
}

/* A range of the plan for some queries, whose rotated vectors stand one behind the other. */
static void scan_range(const sri_look *at, size_t from, size_t to, sri_chunk_room *room,
                       sri_scan *scans, size_t n) {
    bool known = true;
    for (size_t q = 0; q < n; q++) {
        share_least(at, &scans[q]);
        known = known && scans[q].least > -INFINITY;
    }
    size_t sampled = known ? from : take_sample(at, from, to, room, scans, n);
    for (size_t c = from; c < to; c++) {
        look_ahead(at, c, to);
        for (size_t q = 0; q < n; q += SRI_SUM_BLOCK)
            look_at_chunk(at, &at->plan[c], c < sampled, room, scans + q,
                          SRI_MIN(n - q, (size_t)SRI_SUM_BLOCK));
    }
    for (size_t q = 0; q < n; q++) {
        share_least(at, &scans[q]);
        settle(at, room, &scans[q]);
    }
}

/* ---- One query on several threads ------------------------------------------------------------ */

typedef struct shared_search {
    sri_look at;
    struct sri_index_work *work;
    size_t parts;
} shared_search;

static void search_part(void *job, size_t part) {
    shared_search *shared = job;
    size_t planned = shared->work->planned, parts = shared->parts;
    scan_range(&shared->at, planned * part / parts, planned * (part + 1) / parts,
               shared->work->rooms[part], &shared->work->scans[part], 1);
}

/* Takes all that the parts know into the first scan. */
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

static void begin(sri_scan *scan, const sri_prepared *prepared, size_t k) {
    sri_scan_begin(scan, prepared, k);
    scan->seed_limit = SRI_MIN(SEEDS_BASE + SEEDS_EACH * k, (size_t)SRI_SEEDS_MOST);
    scan->count = scan->seed_count = scan->pending = scan->waiting_count = 0;
}

static void search_in_parts(const sri_look *at, const sri_index_query *query,
                            struct sri_index_work *work, size_t parts) {
    _Atomic(float) least = -INFINITY;
    shared_search shared = {*at, work, parts};
    shared.at.least = &least;
    for (size_t part = 0; part < parts; part++)
        begin(&work->scans[part], &work->prepared[0], query->k);
    sri_team_run(query->team, search_part, &shared, parts);
    merge(work->scans, parts);
}

/* ---- Some queries on one --------------------------------------------------------------------- */

/* Looks at what the approximate index suggests, instead of the chunks that it covers. */
static void look_near(const sri_look *at, const sri_index *index, sri_chunk_room *room,
                      sri_scan *scan) {
    uint32_t slots[SRI_NEAR_MOST];
    size_t n = sri_near_find(at->near, scan->prepared->rotated, scan->k, slots);
    for (size_t i = 0; i < n; i++) {
        const sri_chunk *home = sri_home_of(index, slots[i]);
        if (home != NULL && sri_near_covers(at->near, home))
            queue_row(at, home, slots[i] % SRI_CHUNK_ROWS, room, scan);
    }
    weigh_pending(at, room, scan);
}

/* Leaves the candidates that reach `least` and the best of their own route, as far as it is
 * known. */
static void thin_out(sri_scan *scan) {
    size_t left = 0;
    for (size_t c = 0; c < scan->candidate_count; c++) {
        sri_candidate candidate = scan->candidates[c];
        bool enough = candidate.upper >= scan->least;
        for (size_t i = 0; i < scan->count && enough; i++)
            enough = scan->routes[i] != candidate.route || candidate.upper >= scan->lowers[i];
        if (enough) scan->candidates[left++] = candidate;
    }
    scan->candidate_count = left;
}

bool sri_search_narrow(const sri_look *at, const sri_index *index, const sri_index_query *query,
                       size_t n, size_t parts, struct sri_index_work *work) {
    bool enough = true;
    if (parts > 1) {
        search_in_parts(at, query, work, parts);
    } else {
        for (size_t q = 0; q < n; q++) {
            begin(&work->scans[q], &work->prepared[q], query->k);
            if (at->near != NULL) look_near(at, index, work->rooms[0], &work->scans[q]);
        }
        scan_range(at, 0, work->planned, work->rooms[0], work->scans, n);
    }
    for (size_t q = 0; q < n; q++) {
        thin_out(&work->scans[q]);
        enough = enough && !work->scans[q].short_memory;
    }
    return enough;
}
