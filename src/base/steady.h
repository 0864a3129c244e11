/*
 * steady.h - an array that grows without moving: elements stay where they are, so that readers
 * index it without a lock while the one writer lets it grow.
 *
 * Segments of doubling size hang on a small array of atomic pointers. Element i of a new segment is
 * zero bytes. What readers may see of the elements' contents is the owner's business (atomics, or
 * publication after writing).
 */
#ifndef SRI_STEADY_H
#define SRI_STEADY_H

#include <stdatomic.h>

#include "base/base.h"

#define SRI_STEADY_FIRST    64 /* elements of the first segment; a power of two */
#define SRI_STEADY_SEGMENTS 40

typedef struct sri_steady {
    size_t size; /* of an element */
    _Atomic(void *) segments[SRI_STEADY_SEGMENTS];
    size_t capacity; /* the writer's */
} sri_steady;

/* Zero the struct and set `size` before the first use. Makes room for elements 0 to count - 1;
 * false, with what there was, when memory is short. */
SR_MUST_CHECK bool sri_steady_reserve(sri_steady *array, size_t count);
void sri_steady_free(sri_steady *array);
size_t sri_steady_bytes(const sri_steady *array);

/* Element `i`, for which there must be room. */
static inline void *sri_steady_at(const sri_steady *array, size_t i) {
    size_t shifted = i / SRI_STEADY_FIRST + 1;
    int segment = 63 - __builtin_clzll(shifted);
    size_t start = (((size_t)1 << segment) - 1) * SRI_STEADY_FIRST;
    char *elements = atomic_load_explicit(&((sri_steady *)(uintptr_t)array)->segments[segment],
                                          memory_order_acquire);
    return elements + (i - start) * array->size;
}

#endif
