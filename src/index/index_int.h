/*
 * index_int.h - what the files of index share: the chunk, and how a slot leads to its row.
 *
 * Rows stand in chunks of SRI_CHUNK_ROWS slots, taken in order and never twice. A chunk never
 * moves; the directory is a steady array (base/steady.h) of atomic pointers. What a reader may look
 * at of a row is written before `used` counts it (release, acquire) and stays as it is, but for
 * `died`, an atomic that only ever changes from FOREVER to a version which no reader at hand has,
 * and the pointer to the fp32 row, which may come and go.
 *
 * Why a chunk goes in two steps. Readers of older versions still need the rows of a chunk whose
 * last row has died, so it stays in the directory until all of them are gone (first wait); but a
 * newer reader may have found it there and be looking at its dead rows when it is taken out (second
 * wait).
 */
#ifndef SRI_INDEX_INT_H
#define SRI_INDEX_INT_H

#include <stdatomic.h>

#include "base/steady.h"
#include "index/index.h"

#define SRI_CHUNK_ROWS 1024

/* An fp32 row in memory. */
typedef struct sri_exact {
    sri_retired retired;
    struct sri_exact *next; /* among the spare ones */
    float row[];
} sri_exact;

/* 1-bit codes of a chunk (index_bits.c). */
typedef struct sri_bits {
    uint8_t *signs;         /* as the kernels' `signs` packs them; NULL: the chunk will have none */
    float *weights, *bases; /* [SRI_CHUNK_ROWS] */
    float *centre;          /* [dimension] */
    float centre_square;    /* of its length */
    float doubt;            /* the largest ratio of a row's error to its weight */
    float largest_scale;
} sri_bits;

typedef struct sri_chunk {
    sri_retired retired;
    struct sri_index *index;
    struct sri_chunk *next; /* among those whose first wait is over */
    uint32_t number;        /* its place in the directory */
    uint32_t live;          /* the writer's */
    bool leaving;           /* the writer's: its last row is dead and it waits */
    atomic_uint used;       /* rows 0 to used - 1 are there */

    _Atomic(uint64_t) died[SRI_CHUNK_ROWS];
    uint64_t born[SRI_CHUNK_ROWS];
    uint64_t utterances[SRI_CHUNK_ROWS];
    void *owners[SRI_CHUNK_ROWS];
    _Atomic(sri_exact *) exact[SRI_CHUNK_ROWS]; /* NULL: only in the store */
    uint32_t routes[SRI_CHUNK_ROWS];
    float scales[SRI_CHUNK_ROWS];
    uint8_t durable[SRI_CHUNK_ROWS]; /* the writer's */

    _Atomic(uint64_t) covered[2]; /* by which approximate index (near.c); 0: none */

    /* Of a full chunk, where the dimension is worth it; written once, before `sealed` (release). */
    atomic_bool sealed;
    sri_bits bits;

    _Alignas(64) int8_t codes[]; /* [SRI_CHUNK_ROWS, dimension], then what `bits` points to */
} sri_chunk;

struct sri_index {
    size_t dimension;
    sri_epoch *epoch;
    size_t exact_limit;
    sri_index_kind kind;
    _Atomic(struct sri_near *) near; /* NULL: every chunk is scanned */
    struct sri_near_builder *builder;

    sri_steady directory; /* of _Atomic(sri_chunk *), by number; NULL: none */
    atomic_size_t limit;  /* every number is below this */
    sri_steady orders;    /* of uint64_t, by route */
    atomic_size_t routes; /* every route number is below this */

    /* The writer's. */
    sri_chunk *tail;        /* takes the next row; may be NULL or full */
    sri_chunk *spare;       /* empty, for when the tail is full, by `next` */
    size_t spare_rows;      /* room in them */
    sri_exact *spare_exact; /* by `next` */
    size_t spare_exact_count;
    size_t promised; /* rows for which room is reserved */
    size_t promised_exact;
    sri_chunk *passed;      /* their first wait is over, by `next` */
    uint32_t *free_numbers; /* below `limit`, without a chunk */
    size_t free_count, free_capacity;
    size_t count, chunks;
    size_t dead, leaving;      /* dead rows in chunks that stay, and in those that go */
    uint32_t victim;           /* the chunk that is being emptied, or NONE */
    uint32_t victim_row;       /* rows before it are dead */
    atomic_size_t exact_count; /* fp32 rows in memory, the spare ones not */
};

static inline sri_chunk *sri_chunk_at(const sri_index *index, size_t number) {
    _Atomic(sri_chunk *) *place = sri_steady_at(&index->directory, number);
    return atomic_load_explicit(place, memory_order_acquire);
}

/* The chunk of a slot, or NULL when it has gone; its row there is slot % SRI_CHUNK_ROWS. */
static inline sri_chunk *sri_home_of(const sri_index *index, uint32_t slot) {
    return sri_chunk_at(index, slot / SRI_CHUNK_ROWS);
}

static inline uint32_t sri_slot_of(const sri_chunk *home, size_t row) {
    return home->number * SRI_CHUNK_ROWS + (uint32_t)row;
}

static inline bool sri_row_visible(const sri_chunk *home, size_t row, uint64_t version) {
    return home->born[row] <= version &&
           atomic_load_explicit(&home->died[row], memory_order_relaxed) > version;
}

static inline sri_exact *sri_exact_at(const sri_chunk *home, size_t row) {
    return atomic_load_explicit(&((sri_chunk *)(uintptr_t)home)->exact[row], memory_order_acquire);
}

/* With room for a row; NULL when memory is short. */
static inline sri_exact *sri_exact_make(const sri_index *index) {
    return sri_alloc(sizeof(sri_exact) + index->dimension * sizeof(float));
}

static inline uint64_t sri_order_of(const sri_index *index, uint32_t route) {
    return *(const uint64_t *)sri_steady_at(&index->orders, route);
}

/* rotated[0 .. dimension - 1]: the vector turned as codes are. */
void sri_index_rotate(const float *vector, size_t dimension, float *rotated);
/* values[0 .. dimension - 1]: the rotated vector in steps of the scale that is returned. */
float sri_index_quantize(const float *vector, size_t dimension, int8_t *values);

/* The bytes of a chunk's 1-bit codes, 0 where there are none; lets `bits` point to them, behind
 * the codes; and fills them, when the chunk is full. */
size_t sri_bits_bytes(size_t dimension);
void sri_bits_place(sri_bits *bits, void *memory, size_t dimension);
void sri_bits_seal(sri_chunk *chunk, size_t dimension);

#endif
