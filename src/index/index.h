/*
 * index.h - exact search of all utterances: for every query the best utterance of each route, and
 * of those the best routes, as of one version of the table.
 *
 * The interface is narrow on purpose: rows go in with a route and an owner, hits come out. What is
 * inside (1-bit codes, int8 codes, fp32 rows in memory or in the store) is nobody else's business.
 *
 * One writer at a time changes the index; any number of readers search it meanwhile without a lock,
 * each pinned to the epoch (base/epoch.h) and asking for a version that was published before it was
 * pinned. A row is in version v when born <= v < died. What the writer does for versions that are
 * not published yet no reader sees. The writer publishes a version after the changes that make it,
 * then advances the epoch.
 */
#ifndef SRI_INDEX_H
#define SRI_INDEX_H

#include "base/base.h"
#include "base/epoch.h"

typedef struct sri_index sri_index;

#define SRI_INDEX_MAX_ROWS 4294900000u /* slots are 32 bits wide */
#define SRI_INDEX_NONE     UINT32_MAX
#define SRI_INDEX_FOREVER  UINT64_MAX /* no version: where a row that lives has died */

/* How rows are searched. The approximate ones miss a row now and then, and are for tables too
 * large to be scanned: near.c says how they work, and that all else stays as it is. */
typedef enum sri_index_kind {
    SRI_INDEX_EXACT = 0,
    SRI_INDEX_HNSW = 1, /* Faiss's graph; these two need -Dfaiss=enabled */
    SRI_INDEX_IVF = 2   /* Faiss's inverted lists */
} sri_index_kind;

typedef struct sri_index_options {
    int dimension;    /* 1 to 65536 floats make a row */
    sri_epoch *epoch; /* borrowed; what readers may still see is freed through it */
    /* fp32 rows kept in memory, in bytes, beside those that the store does not have yet; others
     * are fetched when wanted. SIZE_MAX: all are kept. */
    size_t exact_bytes;
    sri_index_kind kind; /* SR_ERR_UNSUPPORTED when it is not built in */
} sri_index_options;

SR_MUST_CHECK sr_status sri_index_open(const sri_index_options *options, sri_index **index,
                                       sr_error *error);
/* What the index has retired must have been released: call it after sri_epoch_close(), or from
 * the release of something that was retired after the last change of the index (what is retired
 * is released in that order). */
void sri_index_close(sri_index **index);
/* Ends the thread that an approximate index has; to be called before sri_epoch_close(). */
void sri_index_stop(sri_index *index);

/* ---- Codes: a row as the index computes with it, and as the store keeps it ------------------- */

/* A row, rotated and quantised to int8: sri_index_code_bytes() bytes, the same on every machine:
 * a scale (float, little-endian), then `dimension` signed bytes from -127 to 127. Dot products
 * survive the rotation, which is one for each dimension. sri_index_encode() is for any thread;
 * `vector` has Euclidean length 1, `code` needs no alignment. */
size_t sri_index_code_bytes(int dimension);
void sri_index_encode(const float *vector, int dimension, uint8_t *code);
/* Whether these bytes can be the code of a row of length 1: for what comes from a file. */
bool sri_index_code_valid(const uint8_t *code, int dimension);

/* ---- The writer ------------------------------------------------------------------------------ */

/* Makes room for `rows` additions and copies from now on, of which `vectors` bring fp32 rows
 * (copies do), and for route numbers below `routes`, so that these cannot fail. SR_ERR_NO_MEMORY
 * or SR_ERR_LIMIT; nothing held changes. */
SR_MUST_CHECK sr_status sri_index_reserve(sri_index *index, size_t rows, size_t vectors,
                                          size_t routes, sr_error *error);

/* Says at which place in the order of adding the route numbered `route` stands; needed before
 * its rows are added. A number is used again only after all readers of its last rows are gone. */
void sri_index_set_route(sri_index *index, uint32_t route, uint64_t order);

typedef struct sri_index_row {
    const float *vector; /* Euclidean length 1; NULL: only the code is given, the store has it */
    const uint8_t *code; /* NULL: made from `vector` */
    uint32_t route;
    uint64_t utterance; /* its place in the order of adding, unique, never used again */
    void *owner;        /* given back in hits; never looked at */
    uint64_t born;      /* the version that it appears in */
    bool durable; /* the store has it: it can be fetched, so its fp32 need not stay in memory */
} sri_index_row;

/* Adds a row, copied, and gives its slot. Room must have been reserved. */
uint32_t sri_index_add(sri_index *index, const sri_index_row *row);
/* From version `died` on the row is not there. */
void sri_index_remove(sri_index *index, uint32_t slot, uint64_t died);
/* Adds a row with the code of the one at `slot`, which may be removed already by the same
 * version: another utterance of the same text. row->code is not looked at; row->vector NULL: the
 * fp32 row of `slot`, if it is in memory. Room must have been reserved. */
uint32_t sri_index_copy(sri_index *index, uint32_t slot, const sri_index_row *row);
/* The store has the row now (sri_index_row.durable). */
void sri_index_set_durable(sri_index *index, uint32_t slot);

/* Tells the owner of a row where it has moved. */
typedef void sri_index_moved_fn(void *user, void *owner, uint32_t slot);
/* Moves up to `most` live rows out of places where most rows are dead, to appear at `born`, the
 * version that will be published next, so that memory stays in proportion to what lives. For
 * every change to call, after it, with `most` 8 times the rows that it removed, at least: it
 * does nothing while little is dead. Takes no room that was reserved. Cannot fail: without
 * memory it leaves things as they are. */
void sri_index_compact(sri_index *index, size_t most, uint64_t born, sri_index_moved_fn *moved,
                       void *user);

size_t sri_index_count(const sri_index *index);      /* rows that live in the newest version */
size_t sri_index_dead(const sri_index *index);       /* rows that do not, but take memory */
size_t sri_index_bytes(const sri_index *index);      /* of memory, without fp32 rows */
size_t sri_index_near_rows(const sri_index *index);  /* rows in the approximate index, if any */
size_t sri_index_exact_held(const sri_index *index); /* bytes of fp32 rows in memory */

/* ---- Readers --------------------------------------------------------------------------------- */

/* Gets fp32 rows from the store: rows[i * dimension ..] takes that of utterances[i] and found[i]
 * becomes 1, or 0 when it cannot be had. Called on the thread that searches, never with more
 * than SRI_INDEX_FETCH at once. */
typedef struct sri_index_source {
    void *user;
    void (*fetch)(void *user, const uint64_t *utterances, size_t n, float *rows, uint8_t *found);
} sri_index_source;

#define SRI_INDEX_FETCH 64

typedef struct sri_hit {
    uint32_t route;
    uint32_t slot; /* of the route's best utterance */
    float score;   /* its dot product with the query */
    void *owner;   /* of the row */
} sri_hit;

/* Working memory of one thread: zero it before the first use, it grows as needed. */
typedef struct sri_index_scratch {
    struct sri_index_work *work;
} sri_index_scratch;

void sri_index_scratch_free(sri_index_scratch *scratch);

/* What to search for. */
typedef struct sri_index_query {
    const float *queries; /* n x dimension, row-major */
    size_t n, k;
    uint64_t version;
    const sri_index_source
        *source;    /* NULL: none; where every fp32 row is in memory none is needed */
    sri_team *team; /* shares the work of a single query out; NULL: the caller does all */
} sri_index_query;

/* The queries that one call answers as fast as it can; more are cut into blocks of this many. */
#define SRI_INDEX_QUERY_BLOCK 64

/* hits[q * k ..] takes the best `k` routes of query q, best first, and counts[q] their number,
 * below k when fewer routes have rows. Scores are exact dot products of the fp32 rows (kernels'
 * `dots`); where one cannot be had, that of its code. Equal scores: the route, or the utterance,
 * that was added earlier comes first. The answer depends neither on `n` nor on the threads nor
 * on the order in which rows came. False when memory for the scratch is short. */
SR_MUST_CHECK bool sri_index_search(const sri_index *index, const sri_index_query *query,
                                    sri_index_scratch *scratch, sri_hit *hits, size_t *counts);

/* scores[i] = dot product of `query` with the row at slots[i] (any order; each was given to the
 * caller by what a pinned reader sees), as exact as in a search. False when memory for the
 * scratch is short. */
SR_MUST_CHECK bool sri_index_scores(const sri_index *index, const float *query,
                                    const uint32_t *slots, size_t n, const sri_index_source *source,
                                    sri_index_scratch *scratch, float *scores);
/* Copies fp32 rows: rows[i * dimension ..] takes that of slots[i], and found[i] says whether it
 * could be had. `found` may be NULL. True when all were found. */
bool sri_index_vectors(const sri_index *index, const uint32_t *slots, size_t n,
                       const sri_index_source *source, float *rows, uint8_t *found);
/* Whether the row is in that version. */
bool sri_index_visible(const sri_index *index, uint32_t slot, uint64_t version);
/* The fp32 row as it was given; NULL when it is not in memory, which it is until it is durable.
 * Stays good as long as a pin that was there at the call. */
const float *sri_index_held(const sri_index *index, uint32_t slot);

#endif
