/*
 * short_memory.h - an allocator that fails when told to, and counts what is held: for the programs
 * that test short memory. Threads may share it.
 */
#ifndef SR_TESTS_SHORT_MEMORY_H
#define SR_TESTS_SHORT_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

static struct {
    atomic_long countdown; /* the allocation that fails; 0 and less: none */
    atomic_bool for_good;  /* all later ones fail too */
    atomic_long held;      /* blocks not yet released */
    atomic_long taken;     /* allocations in all, failed ones too */
} memory;

static inline bool memory_fails(void) {
    atomic_fetch_add(&memory.taken, 1);
    if (atomic_load(&memory.countdown) <= 0) return false;
    if (atomic_load(&memory.for_good) && atomic_load(&memory.countdown) == 1) return true;
    return atomic_fetch_sub(&memory.countdown, 1) == 1;
}

static inline void *take(void *user, size_t bytes) {
    (void)user;
    if (memory_fails()) return NULL;
    atomic_fetch_add(&memory.held, 1);
    return malloc(bytes);
}

static inline void *change(void *user, void *old, size_t bytes) {
    (void)user;
    if (memory_fails()) return NULL;
    atomic_fetch_add(&memory.held, old == NULL);
    return realloc(old, bytes);
}

static inline void release(void *user, void *old) {
    (void)user;
    atomic_fetch_sub(&memory.held, old != NULL);
    free(old);
}

#endif
