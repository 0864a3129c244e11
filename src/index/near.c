/*
 * near.c - an approximate index (Faiss's HNSW or IVF) over the full chunks, for tables that are too
 * large to be scanned.
 *
 * It is never changed once searched, and knows nothing of versions. It gives slots of rows that
 * probably are near; the search looks whether they are there in its version, scores them as it
 * scores any row, and scans the chunks that are not covered: the tail, and all that was filled
 * since. So an addition or a removal counts from the next query on, and scores and order are the
 * exact search's; only a row of a covered chunk may be missed.
 *
 * When the chunks filled since are a quarter of those that are covered, a thread builds the next
 * one, over all full chunks. It reads a chunk's codes under a pin of its own and lets go before it
 * adds them, so a build of minutes holds nothing back. Chunks move away and their numbers are used
 * again meanwhile. So a chunk itself says by which state it is covered: its generation, in one of
 * two places, that the state in use and the one that is being built do not write over each other.
 *
 * Rejected: adding to the graph as rows come (Faiss does not search while it adds, and an addition
 * takes milliseconds instead of microseconds), and removing from it (its graphs cannot).
 */
#include "index/near.h"

#include <math.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "index/faiss/faiss_shim.h"

#define FIRST_CHUNKS     16     /* fewer are scanned faster */
#define LEAST_CHUNKS     4      /* more, for another build */
#define QUIET_MS         200    /* without a full chunk, after which a build begins, */
#define PATIENCE         50     /* or so many times that */
#define SAMPLE_ROWS      16384  /* for the ranges of values */
#define ROWS_OF_LIST     40     /* for the middle of a list, and */
#define MOST_SAMPLE_ROWS 131072 /* so many in all */
#define PROBED_SHARE     32     /* one in so many lists is looked at */

struct sri_near {
    sri_retired retired;
    sri_near *next; /* among the replaced ones */
    uint64_t generation;
    sri_faiss *faiss;
    uint32_t *slots; /* by Faiss's number */
    size_t rows, capacity, lists, chunks;
};

struct sri_near_builder {
    sri_index *index;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stop, running;           /* by the mutex, as is */
    size_t full;                  /* chunks that were filled so far */
    size_t built_at;              /* the builder's: `full` when the last build began */
    _Atomic(sri_near *) replaced; /* to be retired by the writer */
    float *rows;                  /* the builder's: one chunk's */
};

static void free_near(sri_near *near) {
    if (near == NULL) return;
    sri_faiss_free(near->faiss);
    sri_free(near->slots);
    sri_free(near);
}

static void release_near(sri_retired *retired) { free_near((sri_near *)retired); }

/* ---- Building -------------------------------------------------------------------------------- */

/* Writes the rows of a full chunk that live now, and their places; returns how many. */
static size_t copy_rows(const sri_chunk *chunk, size_t dimension, float *rows, uint32_t *places) {
    size_t n = 0;
    for (uint32_t row = 0; row < SRI_CHUNK_ROWS; row++) {
        if (atomic_load_explicit(&chunk->died[row], memory_order_relaxed) != SRI_INDEX_FOREVER)
            continue;
        const int8_t *code = chunk->codes + row * dimension;
        for (size_t d = 0; d < dimension; d++)
            rows[n * dimension + d] = chunk->scales[row] * (float)code[d];
        places[n++] = row;
    }
    return n;
}

/* Reads chunk `number`, if it is there and full, under a pin. */
static size_t read_chunk(const sri_near_builder *builder, size_t number, uint64_t generation,
                         float *rows, uint32_t *places) {
    sri_index *index = builder->index;
    size_t n = 0;
    sri_pin pin = sri_epoch_pin(index->epoch);
    sri_chunk *chunk = sri_chunk_at(index, number);
    if (chunk != NULL &&
        atomic_load_explicit(&chunk->used, memory_order_acquire) == SRI_CHUNK_ROWS) {
        n = copy_rows(chunk, index->dimension, rows, places);
        if (generation > 0 && n > 0)
            atomic_store_explicit(&chunk->covered[generation % 2], generation,
                                  memory_order_release);
    }
    sri_epoch_unpin(pin);
    return n;
}

/* Rows from all over the table, for Faiss to learn from. */
static size_t read_sample(const sri_near_builder *builder, size_t limit, size_t room, float *rows) {
    uint32_t places[SRI_CHUNK_ROWS];
    size_t n = 0, chunks = room / SRI_CHUNK_ROWS, step = limit / chunks + 1;
    for (size_t c = 0; c < limit && n + SRI_CHUNK_ROWS <= room; c += step)
        n += read_chunk(builder, c, 0, rows + n * builder->index->dimension, places);
    return n;
}

static bool add_chunk(const sri_near_builder *builder, sri_near *near, size_t number) {
    uint32_t places[SRI_CHUNK_ROWS];
    size_t n = read_chunk(builder, number, near->generation, builder->rows, places);
    void *slots = near->slots;
    bool enough = sri_grow(&slots, &near->capacity, near->rows + n, sizeof *near->slots);
    near->slots = slots;
    if (!enough || (n > 0 && !sri_faiss_add(near->faiss, builder->rows, n))) return false;
    for (size_t i = 0; i < n; i++)
        near->slots[near->rows++] = (uint32_t)number * SRI_CHUNK_ROWS + places[i];
    near->chunks += n > 0;
    return true;
}

static bool stopped(sri_near_builder *builder) {
    pthread_mutex_lock(&builder->mutex);
    bool stop = builder->stop;
    pthread_mutex_unlock(&builder->mutex);
    return stop;
}

/* Makes Faiss's object, trained on a sample of the rows. */
static sri_faiss *make_faiss(const sri_near_builder *builder, sri_near *near, size_t limit) {
    size_t dimension = builder->index->dimension, room = SAMPLE_ROWS;
    if (builder->index->kind == SRI_INDEX_IVF) {
        near->lists = (size_t)(4 * sqrt((double)limit * SRI_CHUNK_ROWS));
        room = SRI_MIN(near->lists * ROWS_OF_LIST, (size_t)MOST_SAMPLE_ROWS);
    }
    float *sample = sri_alloc(room * dimension * sizeof *sample);
    if (sample == NULL) return NULL;
    size_t n = read_sample(builder, limit, room, sample);
    near->lists = SRI_MIN(near->lists, n / ROWS_OF_LIST + 1);
    if (builder->index->kind == SRI_INDEX_HNSW) near->lists = 0;
    sri_faiss *made = n > 0 ? sri_faiss_make(dimension, near->lists, sample, n) : NULL;
    sri_free(sample);
    return made;
}

static sri_near *build(sri_near_builder *builder, uint64_t generation) {
    size_t limit = atomic_load_explicit(&builder->index->limit, memory_order_acquire);
    sri_near *near = sri_alloc_zero(1, sizeof *near);
    if (near == NULL) return NULL;
    near->generation = generation;
    near->faiss = make_faiss(builder, near, limit);
    bool good = near->faiss != NULL;
    for (size_t c = 0; c < limit && good; c++)
        good = !stopped(builder) && add_chunk(builder, near, c);
    if (good) return near;
    free_near(near);
    return NULL;
}

/* What it replaces waits for the writer, which alone may retire. */
static void publish(sri_near_builder *builder, sri_near *near) {
    sri_near *before = atomic_exchange_explicit(&builder->index->near, near, memory_order_acq_rel);
    if (before == NULL) return;
    before->next = atomic_load(&builder->replaced);
    while (!atomic_compare_exchange_weak(&builder->replaced, &before->next, before)) {
    }
}

/* Waits for so many chunks that a build is due, and then until no more come. False: to stop. */
static bool wait_until_due(sri_near_builder *builder, size_t covered) {
    pthread_mutex_lock(&builder->mutex);
    size_t more = covered > 0 ? SRI_MAX(covered / 4, (size_t)LEAST_CHUNKS) : FIRST_CHUNKS;
    size_t due = builder->built_at + more;
    while (!builder->stop && builder->full < due)
        pthread_cond_wait(&builder->changed, &builder->mutex);
    for (size_t turn = 0, seen = 0; !builder->stop && turn < PATIENCE && seen != builder->full;
         turn++) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += QUIET_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        seen = builder->full;
        while (!builder->stop &&
               pthread_cond_timedwait(&builder->changed, &builder->mutex, &until) == 0) {
        }
    }
    builder->built_at = builder->full;
    bool go_on = !builder->stop;
    pthread_mutex_unlock(&builder->mutex);
    return go_on;
}

static void *build_on(void *user) {
    sri_near_builder *builder = user;
    uint64_t generation = 1;
    size_t covered = 0;
    while (wait_until_due(builder, covered)) {
        sri_near *near = build(builder, generation);
        if (near == NULL) {
            if (!stopped(builder))
                sri_log(SR_LOG_WARN,
                        "no memory for an approximate index; what is not in one is scanned");
            generation += 2; /* what it has marked is covered by nothing */
            continue;
        }
        covered = near->chunks;
        publish(builder, near);
        generation++;
    }
    return NULL;
}

/* ---- Opening and closing --------------------------------------------------------------------- */

sr_status sri_near_open(sri_index *index, sr_error *error) {
    sri_near_builder *builder = sri_alloc_zero(1, sizeof *builder);
    if (builder == NULL) return sri_fail_memory(error);
    builder->index = index;
    builder->rows = sri_alloc(SRI_CHUNK_ROWS * index->dimension * sizeof(float));
    pthread_mutex_init(&builder->mutex, NULL);
    pthread_cond_init(&builder->changed, NULL);
    index->builder = builder;
    if (builder->rows == NULL) return sri_fail_memory(error);
    if (pthread_create(&builder->thread, NULL, build_on, builder) != 0)
        return sri_fail(error, SR_ERR_NO_MEMORY, "index", "a thread cannot be started");
    builder->running = true;
    return SR_OK;
}

void sri_near_stop(sri_index *index) {
    sri_near_builder *builder = index->builder;
    if (builder == NULL || !builder->running) return;
    pthread_mutex_lock(&builder->mutex);
    builder->stop = true;
    pthread_cond_signal(&builder->changed);
    pthread_mutex_unlock(&builder->mutex);
    pthread_join(builder->thread, NULL);
    builder->running = false;
}

void sri_near_close(sri_index *index) {
    sri_near_builder *builder = index->builder;
    if (builder == NULL) return;
    sri_near_stop(index);
    free_near(atomic_load(&index->near));
    for (sri_near *gone = atomic_load(&builder->replaced), *next; gone != NULL; gone = next) {
        next = gone->next;
        free_near(gone);
    }
    pthread_mutex_destroy(&builder->mutex);
    pthread_cond_destroy(&builder->changed);
    sri_free(builder->rows);
    sri_free(builder);
    index->builder = NULL;
}

/* ---- The writer ------------------------------------------------------------------------------ */

void sri_near_chunk_is_full(sri_index *index) {
    sri_near_builder *builder = index->builder;
    if (builder == NULL) return;
    pthread_mutex_lock(&builder->mutex);
    builder->full++;
    pthread_cond_signal(&builder->changed);
    pthread_mutex_unlock(&builder->mutex);
}

void sri_near_retire(sri_index *index) {
    sri_near_builder *builder = index->builder;
    if (builder == NULL || atomic_load_explicit(&builder->replaced, memory_order_relaxed) == NULL)
        return;
    for (sri_near *gone = atomic_exchange(&builder->replaced, NULL), *next; gone != NULL;
         gone = next) {
        next = gone->next;
        sri_epoch_retire(index->epoch, &gone->retired, release_near);
    }
}

size_t sri_near_rows(const sri_index *index) {
    sri_pin pin = sri_epoch_pin(index->epoch);
    const sri_near *near = sri_near_of(index);
    size_t rows = near == NULL ? 0 : near->rows;
    sri_epoch_unpin(pin);
    return rows;
}

/* ---- Readers --------------------------------------------------------------------------------- */

const sri_near *sri_near_of(const sri_index *index) {
    return atomic_load_explicit(&((sri_index *)(uintptr_t)index)->near, memory_order_acquire);
}

bool sri_near_covers(const sri_near *near, const sri_chunk *chunk) {
    return near != NULL &&
           atomic_load_explicit(&((sri_chunk *)(uintptr_t)chunk)->covered[near->generation % 2],
                                memory_order_acquire) == near->generation;
}

size_t sri_near_find(const sri_near *near, const float *rotated, size_t k, uint32_t *slots) {
    int64_t numbers[SRI_NEAR_MOST];
    size_t wanted = SRI_MIN(SRI_MIN(32 + 8 * k, near->rows), (size_t)SRI_NEAR_MOST);
    size_t effort =
        near->lists > 0 ? near->lists / PROBED_SHARE + 8 : SRI_MAX(2 * wanted, (size_t)192);
    size_t n = wanted > 0 ? sri_faiss_search(near->faiss, rotated, wanted, effort, numbers) : 0;
    for (size_t i = 0; i < n; i++) slots[i] = near->slots[numbers[i]];
    return n;
}
