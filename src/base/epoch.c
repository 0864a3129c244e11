/*
 * epoch.c - pins in slots of their own cache lines, retired items in a queue.
 *
 * A pin is the number of the epoch in which it began, written to a free slot; 0 marks a free one. A
 * thread looks for a slot from where its stack lies on, so that threads seldom meet; with all slots
 * of a block taken it adds a block, and only without memory for that does it try again until one is
 * free.
 *
 * Why it is right: the writer publishes, then advances the epoch to g; what it retired before
 * carries g. A reader writes its pin, then looks whether the epoch is still the one that it wrote
 * (both sequentially consistent). If it is g or later, its loads of pointers come after the
 * publication. If it is older, the writer's look at the slots after advancing sees it, or the
 * reader sees the new epoch and writes its pin again.
 */
#include "base/epoch.h"

#include <sched.h>
#include <stdatomic.h>

#define BLOCK_SLOTS 64

typedef struct sri_pin_slot {
    _Alignas(64) atomic_uint_fast64_t epoch; /* 0: free */
} pin_slot;

typedef struct pin_block {
    pin_slot slots[BLOCK_SLOTS];
    struct pin_block *_Atomic next;
} pin_block;

struct sri_epoch {
    pin_block *first;
    atomic_uint_fast64_t current; /* from 1 */
    sri_retired *oldest, *newest; /* the writer's */
    size_t waiting;
};

static pin_block *make_block(void) {
    pin_block *made = sri_alloc_aligned(sizeof *made);
    if (made == NULL) return NULL;
    for (size_t i = 0; i < BLOCK_SLOTS; i++) atomic_init(&made->slots[i].epoch, 0);
    atomic_init(&made->next, NULL);
    return made;
}

sr_status sri_epoch_open(sri_epoch **handle, sr_error *error) {
    sri_epoch *epoch = sri_alloc_zero(1, sizeof *epoch);
    *handle = NULL;
    if (epoch != NULL) epoch->first = make_block();
    if (epoch == NULL || epoch->first == NULL) {
        sri_free(epoch);
        return sri_fail_memory(error);
    }
    atomic_init(&epoch->current, 1);
    *handle = epoch;
    return SR_OK;
}

static void release_oldest(sri_epoch *epoch) {
    sri_retired *gone = epoch->oldest;
    epoch->oldest = gone->next;
    if (epoch->oldest == NULL) epoch->newest = NULL;
    epoch->waiting--;
    gone->release(gone);
}

void sri_epoch_close(sri_epoch **handle) {
    sri_epoch *epoch = *handle;
    if (epoch == NULL) return;
    while (epoch->oldest != NULL) release_oldest(epoch);
    for (pin_block *block = epoch->first, *next; block != NULL; block = next) {
        next = atomic_load(&block->next);
        sri_free_aligned(block);
    }
    sri_free(epoch);
    *handle = NULL;
}

/* ---- Pins ------------------------------------------------------------------------------------ */

/* The block after `block`, made when there is none; NULL when memory is short. */
static pin_block *next_block(pin_block *block) {
    pin_block *next = atomic_load(&block->next), *made;
    if (next != NULL || (made = make_block()) == NULL) return next;
    if (atomic_compare_exchange_strong(&block->next, &next, made)) return made;
    sri_free_aligned(made);
    return next;
}

/* A slot that was free, with `now` in it. */
static pin_slot *claim(sri_epoch *epoch, uint_fast64_t now) {
    size_t start = ((uintptr_t)&now >> 12) * 0x9E3779B1u >> 4; /* each thread has its own stack */
    for (pin_block *block = epoch->first;;) {
        for (size_t i = 0; i < BLOCK_SLOTS; i++) {
            pin_slot *slot = &block->slots[(start + i) % BLOCK_SLOTS];
            uint_fast64_t empty = 0;
            if (atomic_load_explicit(&slot->epoch, memory_order_relaxed) == 0 &&
                atomic_compare_exchange_strong(&slot->epoch, &empty, now))
                return slot;
        }
        block = next_block(block);
        if (block != NULL) continue;
        sched_yield();
        block = epoch->first;
    }
}

sri_pin sri_epoch_pin(sri_epoch *epoch) {
    uint_fast64_t now = atomic_load(&epoch->current), then = now;
    pin_slot *slot = claim(epoch, now);
    while ((now = atomic_load(&epoch->current)) != then) {
        atomic_store(&slot->epoch, now);
        then = now;
    }
    return (sri_pin){slot};
}

void sri_epoch_unpin(sri_pin pin) {
    atomic_store_explicit(&pin.slot->epoch, 0, memory_order_release);
}

/* ---- The writer ------------------------------------------------------------------------------ */

void sri_epoch_retire(sri_epoch *epoch, sri_retired *item, void (*release)(sri_retired *retired)) {
    *item = (sri_retired){NULL, atomic_load(&epoch->current) + 1, release};
    if (epoch->newest != NULL)
        epoch->newest->next = item;
    else
        epoch->oldest = item;
    epoch->newest = item;
    epoch->waiting++;
}

static uint64_t oldest_pin(const sri_epoch *epoch) {
    uint64_t oldest = UINT64_MAX;
    for (pin_block *block = epoch->first; block != NULL; block = atomic_load(&block->next))
        for (size_t i = 0; i < BLOCK_SLOTS; i++) {
            uint64_t pinned = atomic_load(&block->slots[i].epoch);
            if (pinned != 0) oldest = SRI_MIN(oldest, pinned);
        }
    return oldest;
}

void sri_epoch_advance(sri_epoch *epoch, size_t most) {
    atomic_fetch_add(&epoch->current, 1);
    if (epoch->oldest == NULL) return;
    uint64_t oldest = oldest_pin(epoch);
    for (; most > 0 && epoch->oldest != NULL && epoch->oldest->epoch <= oldest; most--)
        release_oldest(epoch);
}

size_t sri_epoch_waiting(const sri_epoch *epoch) { return epoch->waiting; }
