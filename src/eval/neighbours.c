/*
 * neighbours.c - all pairs of rows, in blocks.
 *
 * A task takes QUERIES rows and walks all rows in blocks of as many as fit the second-level cache beside them;
 * the kernel fills a small matrix of dot products, of which nearly all fall to one comparison with the least
 * cosine that could still matter. Each pair is computed twice, once from either side: half the work could be
 * saved by writing to both rows, at the price of tasks that share memory. Pairs are listed by the side of
 * the smaller row, in a list for each slot of the pool, and sorted at the end: so neither threads nor
 * blocks show in the result.
 */
#include "eval/neighbours.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

#define QUERIES     ((size_t)16)
#define BLOCK_BYTES ((size_t)96 * 1024)
#define STEP_TASKS  ((size_t)64) /* between two calls of progress */

typedef struct pair_list {
    sri_near_pair *items;
    size_t count, capacity;
} pair_list;

typedef struct worker {
    pair_list pairs;
    float *scores; /* QUERIES x block_rows */
} worker;

typedef struct run {
    const sri_neighbour_job *job;
    const sri_kernels *kernels;
    sri_neighbours *found;
    worker *workers; /* by slot */
    size_t block_rows, first_task;
    float below_near; /* the next float */
    atomic_size_t seen;
    atomic_bool short_of_memory;
} run;

static int nearest_first(const void *left, const void *right) {
    const sri_near_pair *x = left, *y = right;
    if (x->cosine != y->cosine) return x->cosine > y->cosine ? -1 : 1;
    if (x->a != y->a) return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

/* A list that has grown to twice what is wanted is cut to the nearest. */
static bool add_pair(run *all, pair_list *pairs, size_t a, size_t b, float cosine) {
    atomic_fetch_add(&all->seen, 1);
    if (pairs->count >= 2 * all->job->max_pairs) {
        qsort(pairs->items, pairs->count, sizeof *pairs->items, nearest_first);
        pairs->count = all->job->max_pairs;
    }
    void *items = pairs->items;
    if (!sri_grow(&items, &pairs->capacity, pairs->count + 1, sizeof *pairs->items)) return false;
    pairs->items = items;
    pairs->items[pairs->count++] = (sri_near_pair){(uint32_t)a, (uint32_t)b, cosine};
    return true;
}

/* Folds the cosines of row `i` with rows `first` on into what is known of it. */
static bool fold(run *all, pair_list *pairs, size_t i, size_t first, size_t n,
                 const float *cosines) {
    const uint32_t *groups = all->job->groups;
    sri_neighbours *best = &all->found[i];
    float near = all->job->near;
    float least = SRI_MIN(SRI_MIN(best->own_cosine, best->other_cosine), all->below_near);
    for (size_t k = 0; k < n; k++) {
        float cosine = cosines[k];
        size_t j = first + k;
        if (cosine <= least || j == i) continue;
        if (groups[j] == groups[i]) {
            if (cosine > best->own_cosine) best->own = (uint32_t)j, best->own_cosine = cosine;
        } else {
            if (cosine > best->other_cosine) best->other = (uint32_t)j, best->other_cosine = cosine;
            if (cosine >= near && i < j && !add_pair(all, pairs, i, j, cosine)) return false;
        }
    }
    return true;
}

static void compare(void *argument, size_t task, int slot) {
    run *all = argument;
    const sri_neighbour_job *job = all->job;
    worker *self = &all->workers[slot];
    size_t from = (all->first_task + task) * QUERIES, dimension = job->dimension;
    size_t queries = SRI_MIN(QUERIES, job->count - from);
    for (size_t first = 0; first < job->count; first += all->block_rows) {
        size_t n = SRI_MIN(all->block_rows, job->count - first);
        all->kernels->dots(job->vectors + from * dimension, queries,
                           job->vectors + first * dimension, n, dimension, self->scores);
        for (size_t q = 0; q < queries; q++)
            if (!fold(all, &self->pairs, from + q, first, n, self->scores + q * n))
                atomic_store(&all->short_of_memory, true);
    }
}

static sr_status compare_all(run *all, sri_pool *pool, sr_error *error) {
    const sri_neighbour_job *job = all->job;
    size_t tasks = (job->count + QUERIES - 1) / QUERIES;
    for (size_t done = 0; done < tasks;) {
        size_t now = SRI_MIN(STEP_TASKS, tasks - done);
        all->first_task = done;
        sri_pool_run(pool, compare, all, now);
        if (atomic_load(&all->short_of_memory)) return sri_fail_memory(error);
        done += now;
        if (job->progress != NULL &&
            job->progress(job->progress_user, SRI_MIN(done * QUERIES, job->count), job->count) != 0)
            return sri_fail(error, SR_ERR_CANCELLED, NULL, "stopped before the end");
    }
    return SR_OK;
}

/* ---- Around it --------------------------------------------------------------------------------- */

static bool gather(run *all, size_t threads, sri_near_pair **pairs, size_t *count) {
    size_t sum = 0;
    for (size_t i = 0; i < threads; i++) sum += all->workers[i].pairs.count;
    *pairs = sri_alloc_array(sum, sizeof **pairs);
    if (*pairs == NULL) return false;
    *count = 0;
    for (size_t i = 0; i < threads; i++) {
        const pair_list *list = &all->workers[i].pairs;
        if (list->count > 0) memcpy(*pairs + *count, list->items, list->count * sizeof **pairs);
        *count += list->count;
    }
    qsort(*pairs, *count, sizeof **pairs, nearest_first);
    *count = SRI_MIN(*count, all->job->max_pairs);
    return true;
}

static bool prepare(run *all, size_t threads) {
    all->workers = sri_alloc_zero(threads, sizeof *all->workers);
    if (all->workers == NULL) return false;
    for (size_t i = 0; i < threads; i++) {
        all->workers[i].scores = sri_alloc_array(QUERIES * all->block_rows, sizeof(float));
        if (all->workers[i].scores == NULL) return false;
    }
    for (size_t i = 0; i < all->job->count; i++)
        all->found[i] = (sri_neighbours){SRI_NEIGHBOUR_NONE, SRI_NEIGHBOUR_NONE, -2, -2};
    return true;
}

static void clean_up(run *all, size_t threads) {
    for (size_t i = 0; all->workers != NULL && i < threads; i++) {
        sri_free(all->workers[i].pairs.items);
        sri_free(all->workers[i].scores);
    }
    sri_free(all->workers);
}

sr_status sri_neighbours_find(const sri_neighbour_job *job, sri_neighbours *found,
                              sri_near_pair **pairs, size_t *pair_count, size_t *seen,
                              sr_error *error) {
    *pairs = NULL;
    *pair_count = *seen = 0;
    sri_pool *pool = NULL;
    sr_status code = sri_pool_open(job->threads, &pool, error);
    if (code != SR_OK) return code;
    size_t threads = (size_t)sri_pool_threads(pool);
    run all = {.job = job, .kernels = sri_kernels_get(), .found = found};
    all.below_near = nextafterf(job->near, -2);
    all.block_rows = SRI_MAX(BLOCK_BYTES / (job->dimension * sizeof(float)), (size_t)8);
    code = prepare(&all, threads) ? compare_all(&all, pool, error) : sri_fail_memory(error);
    if (code == SR_OK && !gather(&all, threads, pairs, pair_count)) code = sri_fail_memory(error);
    *seen = atomic_load(&all.seen);
    clean_up(&all, threads);
    sri_pool_close(&pool);
    return code;
}
