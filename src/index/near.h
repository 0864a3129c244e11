/*
 * near.h - candidates from an approximate index over part of the rows, for the search to judge.
 *
 * Built where Meson's option `faiss` is enabled (SRI_FAISS); without it nothing ever covers a
 * chunk. See near.c.
 */
#ifndef SRI_INDEX_NEAR_H
#define SRI_INDEX_NEAR_H

#include "index/index_int.h"

/* One state of the approximate index: immutable, found through index->near, kept by the epoch. */
typedef struct sri_near sri_near;
/* What makes the next one. */
typedef struct sri_near_builder sri_near_builder;

#define SRI_NEAR_MOST 1024 /* candidates of one query */

#if SRI_FAISS

SR_MUST_CHECK sr_status sri_near_open(sri_index *index, sr_error *error);
/* Ends the thread that builds; nothing is built from then on. */
void sri_near_stop(sri_index *index);
void sri_near_close(sri_index *index);

/* For the writer: a chunk is full. */
void sri_near_chunk_is_full(sri_index *index);
/* For the writer, with every change: retires what was replaced. */
void sri_near_retire(sri_index *index);

/* Rows in the state in use. */
size_t sri_near_rows(const sri_index *index);

/* What a search uses; NULL: there is none. The reader is pinned. */
const sri_near *sri_near_of(const sri_index *index);
/* Whether the rows of a chunk are left to it. */
bool sri_near_covers(const sri_near *near, const sri_chunk *chunk);
/* Slots that probably are the best for a rotated query which asks for `k` routes, at most
 * SRI_NEAR_MOST, of chunks that were covered when it was built; dead ones among them. Returns how
 * many. */
size_t sri_near_find(const sri_near *near, const float *rotated, size_t k, uint32_t *slots);

#else

static inline sr_status sri_near_open(sri_index *index, sr_error *error) {
    (void)index;
    return sri_fail(error, SR_ERR_UNSUPPORTED, "index",
                    "approximate search is not built in (configure with -Dfaiss=enabled)");
}
static inline void sri_near_stop(sri_index *index) { (void)index; }
static inline void sri_near_close(sri_index *index) { (void)index; }
static inline void sri_near_chunk_is_full(sri_index *index) { (void)index; }
static inline void sri_near_retire(sri_index *index) { (void)index; }
static inline size_t sri_near_rows(const sri_index *index) {
    (void)index;
    return 0;
}
static inline const sri_near *sri_near_of(const sri_index *index) {
    (void)index;
    return NULL;
}
static inline bool sri_near_covers(const sri_near *near, const sri_chunk *chunk) {
    (void)near, (void)chunk;
    return false;
}
static inline size_t sri_near_find(const sri_near *near, const float *rotated, size_t k,
                                   uint32_t *slots) {
    (void)near, (void)rotated, (void)k, (void)slots;
    return 0;
}

#endif
#endif
