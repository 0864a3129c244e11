/*
 * pool.c - a fixed set of compute slots shared by all callers.
 *
 * A pool of T threads has T slots and T - 1 workers. sri_pool_run() queues a job; its caller and
 * idle workers each take a free slot and then tasks of the oldest unfinished job until none is
 * left. So a job of one task never changes threads, callers on many threads share the slots fairly,
 * and never more than T threads compute. Idle workers sleep on a condition variable. Only a thread
 * that has just worked looks out for LINGER before it sleeps, a worker for the next job and a caller
 * for the end of its own: texts that come one after another find the workers awake, since waking one
 * takes as long as a tenth of a text; a pool without jobs takes no time of the processor.
 * Tasks are meant to take tens of microseconds or more, so one mutex for all bookkeeping is cheap;
 * a work-stealing queue was not needed.
 */
#include "base/base.h"
#include "base/relax.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define LINGER 50e-6 /* seconds */

typedef struct job {
    sri_task_fn *function;
    void *argument;
    size_t next, count;
    atomic_size_t done; /* changed by holders of the mutex only */
    struct job *later;
} job;

struct sri_pool {
    pthread_mutex_t mutex;
    pthread_cond_t work;     /* workers: a job has tasks, or the pool closes */
    pthread_cond_t progress; /* callers: a slot came free, or a job ended */
    job *oldest, *newest;    /* jobs with tasks not yet begun */
    int threads, workers, free_count;
    bool closing;
    atomic_int waiting; /* callers that found no free slot */
    atomic_size_t news; /* counts jobs that came, and the closing */
    int *free_slots;
    pthread_t *handles;
};

static void append_job(sri_pool *pool, job *added) {
    if (pool->newest != NULL)
        pool->newest->later = added;
    else
        pool->oldest = added;
    pool->newest = added;
    atomic_fetch_add(&pool->news, 1);
}

static void remove_job(sri_pool *pool, job *removed) {
    job *before = NULL;
    for (job *each = pool->oldest; each != removed; each = each->later) before = each;
    if (before != NULL)
        before->later = removed->later;
    else
        pool->oldest = removed->later;
    if (pool->newest == removed) pool->newest = before;
}

/* Runs the job's next task in a free slot; the mutex is held before and after. */
static void run_next(sri_pool *pool, job *current) {
    int slot = pool->free_slots[--pool->free_count];
    size_t task = current->next++;
    if (current->next == current->count) remove_job(pool, current);
    pthread_mutex_unlock(&pool->mutex);
    current->function(current->argument, task, slot);
    pthread_mutex_lock(&pool->mutex);
    pool->free_slots[pool->free_count++] = slot;
    atomic_fetch_add(&current->done, 1);
}

/* Waits for `value` to be no longer `old`, without the mutex that is held before and after; not for
 * long. */
static void linger(sri_pool *pool, const atomic_size_t *value, size_t old) {
    pthread_mutex_unlock(&pool->mutex);
    double end = sri_seconds() + LINGER;
    for (unsigned turns = 1; atomic_load_explicit(value, memory_order_acquire) == old; turns++) {
        if (turns % 16 == 0 && sri_seconds() > end) break;
        sri_relax();
    }
    pthread_mutex_lock(&pool->mutex);
}

/* Lets a caller that waits for a slot have the one just given back, which the holder of the mutex would
 * otherwise take again at once. */
static void give_way(sri_pool *pool) {
    if (atomic_load(&pool->waiting) == 0) return;
    pthread_cond_broadcast(&pool->progress);
    pthread_mutex_unlock(&pool->mutex);
    sched_yield();
    pthread_mutex_lock(&pool->mutex);
}

static void *work(void *argument) {
    sri_pool *pool = argument;
    bool worked = false;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->closing) {
        if (pool->oldest != NULL && pool->free_count > 0) {
            run_next(pool, pool->oldest);
            pthread_cond_broadcast(&pool->progress);
            give_way(pool);
            worked = true;
        } else if (worked) {
            linger(pool, &pool->news, atomic_load(&pool->news));
            worked = false;
        } else {
            pthread_cond_wait(&pool->work, &pool->mutex);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

void sri_pool_run(sri_pool *pool, sri_task_fn *function, void *argument, size_t count) {
    if (count == 0) return;
    job own = {.function = function, .argument = argument, .count = count};
    pthread_mutex_lock(&pool->mutex);
    append_job(pool, &own);
    if (count > 1) pthread_cond_broadcast(&pool->work);
    bool lingered = false;
    for (size_t done; (done = atomic_load(&own.done)) < count;) {
        if (own.next < count && pool->free_count > 0) {
            run_next(pool, &own);
            give_way(pool);
            continue;
        }
        bool starved = own.next < count;
        if (!starved && !lingered) {
            linger(pool, &own.done, done);
            lingered = true;
            continue;
        }
        if (starved) atomic_fetch_add(&pool->waiting, 1);
        pthread_cond_wait(&pool->progress, &pool->mutex);
        if (starved) atomic_fetch_sub(&pool->waiting, 1);
    }
    /* The slot just given back may be what another caller, or a worker with another's job, waits
     * for. */
    pthread_cond_broadcast(&pool->progress);
    if (pool->oldest != NULL) pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
}

bool sri_pool_wanted(const sri_pool *pool) {
    return atomic_load_explicit(&pool->waiting, memory_order_relaxed) > 0;
}

int sri_pool_threads(const sri_pool *pool) { return pool->threads; }

void sri_pool_close(sri_pool **handle) {
    sri_pool *pool = *handle;
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->mutex);
    assert(pool->oldest == NULL && "a pool is closed while in use");
    pool->closing = true;
    atomic_fetch_add(&pool->news, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->workers; i++) pthread_join(pool->handles[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->progress);
    pthread_mutex_destroy(&pool->mutex);
    sri_free(pool->free_slots);
    sri_free(pool->handles);
    sri_free(pool);
    *handle = NULL;
}

sr_status sri_pool_open(int threads, sri_pool **handle, sr_error *error) {
    *handle = NULL;
    if (threads < 1 || threads > SR_MAX_THREADS)
        return sri_fail(error, SR_ERR_INVALID, "threads", "%d threads were asked for; use 1 to %d",
                        threads, SR_MAX_THREADS);
    sri_pool *pool = sri_alloc_zero(1, sizeof *pool);
    if (pool == NULL) return sri_fail_memory(error);
    pool->threads = pool->free_count = threads;
    pool->free_slots = sri_alloc_array((size_t)threads, sizeof *pool->free_slots);
    pool->handles = sri_alloc_array((size_t)threads, sizeof *pool->handles);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->progress, NULL);
    *handle = pool;
    if (pool->free_slots == NULL || pool->handles == NULL) {
        sri_pool_close(handle);
        return sri_fail_memory(error);
    }
    for (int i = 0; i < threads; i++) pool->free_slots[i] = threads - 1 - i;
    for (; pool->workers < threads - 1; pool->workers++) {
        int failure = pthread_create(&pool->handles[pool->workers], NULL, work, pool);
        if (failure != 0) {
            sri_pool_close(handle);
            return sri_fail_errno(error, failure, "threads", "cannot start thread %d of %d",
                                  pool->workers + 2, threads);
        }
    }
    return SR_OK;
}
