/*
 * queue_lanes.c - whose work comes next: deficit round robin over keys, by tokens.
 *
 * Each key with waiting work has a lane, first come first served; lanes stand in a ring. A lane whose turn comes may take QUANTUM tokens more
 * than it has left, and keeps what it does not use while it has work, so that long texts get their share too (M. Shreedhar and G. Varghese,
 * Efficient fair queueing using deficit round robin, SIGCOMM 1995). All is constant time a text. A turn that a full batch cuts short goes on
 * with the next batch.
 *
 * Rejected: fair shares by weights and virtual times, which sort keys at each step for a delay bound that batches blur in any case.
 */
#include "router/queue_int.h"

#include <assert.h>

#include "encode/encode.h"

/* Some three short texts: a key alone fills a batch in a few turns, and many keys meet in one batch. */
#define QUANTUM ((size_t)32)

static sr_str key_bytes(const uint64_t *key) { return (sr_str){(const char *)key, sizeof *key}; }

static lane *find(const lanes *all, uint64_t key) {
    uint64_t value;
    return sri_map_get(&all->keys, key_bytes(&key), &value) ? (lane *)(uintptr_t)value : NULL;
}

/* ---- Lanes in the ring ----------------------------------------------------------------------------- */

bool sri_lanes_open(lanes *all, uint64_t key) {
    if (!sri_map_reserve(&all->keys, all->count + 1)) return false;
    if (all->unused != NULL || find(all, key) != NULL) return true;
    lane *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return false;
    made->next = all->unused;
    all->unused = made;
    return true;
}

/* At the end of the ring: just before the one whose turn it is. */
static lane *add_lane(lanes *all, uint64_t key) {
    lane *added = all->unused;
    all->unused = added->next;
    *added = (lane){.key = key, .next = added, .previous = added};
    if (all->turn == NULL) {
        all->turn = added;
    } else {
        added->next = all->turn;
        added->previous = all->turn->previous;
        added->next->previous = added->previous->next = added;
    }
    bool put = sri_map_put(&all->keys, key_bytes(&added->key), (uint64_t)(uintptr_t)added);
    assert(put && "room was reserved");
    (void)put;
    all->count++;
    return added;
}

static void drop_lane(lanes *all, lane *dropped) {
    sri_map_remove(&all->keys, key_bytes(&dropped->key));
    if (all->turn == dropped) all->turn = dropped->next == dropped ? NULL : dropped->next;
    dropped->next->previous = dropped->previous;
    dropped->previous->next = dropped->next;
    dropped->next = all->unused;
    all->unused = dropped;
    all->count--;
}

static void end_turn(lanes *all) {
    all->turn->in_turn = false;
    all->turn = all->turn->next;
}

/* ---- Submissions in their lanes --------------------------------------------------------------------- */

void sri_lanes_enter(lanes *all, submission *entered, bool front) {
    lane *into = find(all, entered->key);
    if (into == NULL) into = add_lane(all, entered->key);
    entered->lane = into;
    entered->next = front ? into->first : NULL;
    entered->previous = front ? NULL : into->last;
    if (entered->next != NULL) entered->next->previous = entered;
    if (entered->previous != NULL) entered->previous->next = entered;
    if (entered->next == NULL) into->last = entered;
    if (entered->previous == NULL) into->first = entered;
    into->texts += entered->texts_left;
    into->bytes += entered->bytes_left;
    into->tokens += entered->tokens_left;
    all->texts += entered->texts_left;
    all->bytes += entered->bytes_left;
    all->tokens += entered->tokens_left;
}

static void uncount(lanes *all, submission *from, size_t texts, size_t bytes, size_t tokens) {
    from->texts_left -= texts;
    from->bytes_left -= bytes;
    from->tokens_left -= tokens;
    from->lane->texts -= texts;
    from->lane->bytes -= bytes;
    from->lane->tokens -= tokens;
    all->texts -= texts;
    all->bytes -= bytes;
    all->tokens -= tokens;
}

void sri_lanes_leave(lanes *all, submission *left) {
    lane *from = left->lane;
    uncount(all, left, left->texts_left, left->bytes_left, left->tokens_left);
    if (left->next != NULL) left->next->previous = left->previous;
    if (left->previous != NULL) left->previous->next = left->next;
    if (from->last == left) from->last = left->previous;
    if (from->first == left) from->first = left->next;
    left->lane = NULL;
    left->next = left->previous = NULL;
    if (from->first == NULL) drop_lane(all, from);
}

/* ---- Taking ----------------------------------------------------------------------------------------- */

static size_t cost_of(const submission *of) {
    return of->fresh ? 1 : sri_guess_tokens(of->texts[of->taken].len);
}

/* Goes round until a lane can pay for its next text. Each turn adds to what it has, so this ends. */
static size_t find_turn(lanes *all) {
    for (;;) {
        lane *turn = all->turn;
        if (!turn->in_turn) turn->allowance += QUANTUM;
        turn->in_turn = true;
        size_t cost = cost_of(turn->first);
        if (cost <= turn->allowance) return cost;
        end_turn(all);
    }
}

bool sri_lanes_take(lanes *all, size_t *budget, size_t most, bool must, piece *taken) {
    if (all->turn == NULL || most == 0) return false;
    size_t cost = find_turn(all);
    if (cost > *budget && !must) return false;
    lane *turn = all->turn;
    submission *from = turn->first;
    *taken = (piece){.of = from, .first = from->taken};
    if (from->fresh) {
        turn->allowance -= cost;
        sri_lanes_leave(all, from);
        return true;
    }
    do {
        uncount(all, from, 1, from->texts[from->taken].len, cost);
        turn->allowance -= cost;
        *budget -= SRI_MIN(cost, *budget);
        from->taken++;
        if (++taken->count == most || from->taken == from->count) break;
        cost = cost_of(from);
    } while (cost <= turn->allowance && cost <= *budget);
    if (from->taken == from->count) sri_lanes_leave(all, from);
    return true;
}

const lane *sri_lanes_of(const lanes *all, uint64_t key) { return find(all, key); }

size_t sri_lanes_ahead(const lanes *all, uint64_t key) {
    const lane *own = find(all, key);
    size_t mine = own == NULL ? 0 : own->tokens, others = all->count - (own != NULL), theirs;
    /* While its own work is done, each other key takes as much, and a turn more. */
    if (!sri_size_mul(others, mine + QUANTUM, &theirs)) return all->tokens;
    return SRI_MIN(all->tokens, mine + theirs);
}

void sri_lanes_free(lanes *all) {
    sri_map_free(&all->keys);
    for (lane *each = all->unused, *next; each != NULL; each = next) {
        next = each->next;
        sri_free(each);
    }
    *all = (lanes){0};
}
