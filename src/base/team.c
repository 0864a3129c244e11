/*
 * team.c - several threads on one short piece of work, such as the encoding of a single text.
 *
 * The work is a chain of phases, each a number of chunks that may run in any order. The leader
 * publishes a phase and takes chunks itself; helpers, once they have woken, take chunks of whatever
 * phase is current. The leader waits only for chunks that somebody has taken, never for somebody to
 * come: a helper that wakes late or not at all costs nothing. A barrier in which all members must
 * meet was rejected for that reason: waking a sleeping thread takes as long as a tenth of the whole
 * work.
 *
 * All bookkeeping is in one 64-bit word: the phase's number, its count of chunks and the next chunk
 * not yet taken. A chunk is taken by compare-and-swap of that word, so it can only be taken while
 * its phase is current, and while it is taken the phase cannot end: hence `function` and `job` are
 * stable while they are read.
 */
#include "base/base.h"
#include "base/relax.h"

#include <assert.h>
#include <sched.h>
#include <stdatomic.h>

#define SPINS 4096 /* of waiting before the processor is offered to others */

struct sri_team {
    _Alignas(64) atomic_uint_fast64_t word; /* phase << 32 | count << 16 | next */
    _Alignas(64) atomic_size_t done;        /* chunks of this phase that are finished */
    atomic_bool ended;
    sri_chunk_fn *function;
    void *job;
};

typedef struct lead_job {
    sri_team team;
    sri_pool *pool;
    sri_lead_fn *lead;
    void *job;
    atomic_bool led;
} lead_job;

static void relax(unsigned *spins) {
    sri_relax();
    if (++*spins % SPINS == 0) sched_yield();
}

/* Takes and runs one chunk; false when none is left in the current phase. */
static bool run_chunk(sri_team *team) {
    uint_fast64_t word = atomic_load_explicit(&team->word, memory_order_acquire);
    do {
        if ((word & 0xFFFF) >= (word >> 16 & 0xFFFF)) return false;
    } while (!atomic_compare_exchange_weak_explicit(&team->word, &word, word + 1,
                                                    memory_order_acq_rel, memory_order_acquire));
    team->function(team->job, (size_t)(word & 0xFFFF));
    atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    return true;
}

void sri_team_run(sri_team *team, sri_chunk_fn *function, void *job, size_t count) {
    if (team == NULL || count < 2) {
        for (size_t chunk = 0; chunk < count; chunk++) function(job, chunk);
        return;
    }
    assert(count <= 0xFFFF);
    team->function = function;
    team->job = job;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    uint_fast64_t phase = (atomic_load_explicit(&team->word, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&team->word, phase << 32 | (uint_fast64_t)count << 16,
                          memory_order_release);
    while (run_chunk(team)) {
    }
    for (unsigned spins = 0; atomic_load_explicit(&team->done, memory_order_acquire) < count;)
        relax(&spins);
}

static void help(sri_team *team, const sri_pool *pool) {
    unsigned spins = 0;
    while (!atomic_load_explicit(&team->ended, memory_order_acquire)) {
        if (run_chunk(team)) continue;
        if (sri_pool_wanted(pool)) return;
        relax(&spins);
    }
}

/* The first to come leads; the others help. Those that come when all is done return at once. */
static void take_part(void *argument, size_t task, int slot) {
    (void)task;
    lead_job *own = argument;
    if (atomic_exchange(&own->led, true)) {
        help(&own->team, own->pool);
        return;
    }
    own->lead(own->job, &own->team, slot);
    atomic_store_explicit(&own->team.ended, true, memory_order_release);
}

void sri_pool_lead(sri_pool *pool, sri_lead_fn *lead, void *job) {
    lead_job own = {.pool = pool, .lead = lead, .job = job};
    sri_pool_run(pool, take_part, &own, (size_t)sri_pool_threads(pool));
}
