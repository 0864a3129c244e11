/*
 * pieces.c - the vocabulary as a hash table of word beginnings and continuations.
 *
 * Open addressing with linear probing in a power-of-two table at most 5/8 full. Almost every word
 * of real text is at most 8 bytes long and in the vocabulary: it costs one multiplication and,
 * mostly, one cache line. A word that is not there is cut greedily; a bit mask of the lengths that
 * occur after its first byte keeps that from trying each. A trie or double array was rejected: it
 * walks one dependent load a byte, where this does one a word, and takes longer to build than the
 * whole file takes to read.
 */
#include "text/text_int.h"

#include <string.h>

enum { LONG = 9, TAG = 31, CONTINUING = 16, ID_SHIFT = 5 };

typedef struct {
    uint64_t key;
    size_t start;
    uint32_t tag;
} probe;

static uint64_t load8(const char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    return word;
}

/* The first `len` < 8 bytes of a little-endian word, or all of it. */
static uint64_t head_of(uint64_t word, size_t len) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return len >= 8 ? word : word & ~(~(uint64_t)0 >> (8 * len));
#else
    return len >= 8 ? word : word & (((uint64_t)1 << (8 * len)) - 1);
#endif
}

static uint64_t fold(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Of more than 8 bytes; the last step overlaps the one before. */
static uint64_t hash_long(const char *bytes, size_t len, uint64_t seed) {
    uint64_t hash = seed ^ len;
    for (size_t i = 0; i + 8 < len; i += 8)
        hash = fold(hash ^ load8(bytes + i), 0xE7037ED1A0B428DBu);
    return fold(hash ^ load8(bytes + len - 8), 0x8EBC6AF09C88C6E3u);
}

static inline probe probe_of(const sri_pieces *pieces, const char *bytes, size_t len,
                             bool continuing) {
    probe p;
    p.key = len <= 8 ? head_of(load8(bytes), len) : hash_long(bytes, len, pieces->seed);
    p.tag = (uint32_t)SRI_MIN(len, LONG) | (continuing ? CONTINUING : 0);
    p.start = fold(p.key ^ pieces->seed, 0x9E3779B97F4A7C15u + ((uint64_t)p.tag << 1)) &
              (pieces->capacity - 1);
    return p;
}

static bool same_tail(const sri_pieces *pieces, const sri_piece *slot, const char *bytes,
                      size_t len) {
    uint32_t stored;
    memcpy(&stored, pieces->tails.data + slot->tail, sizeof stored);
    return stored == len &&
           memcmp(pieces->tails.data + slot->tail + sizeof stored, bytes, len) == 0;
}

/* The slot that holds the piece, or the free one where it belongs. */
static inline sri_piece *find(const sri_pieces *pieces, probe p, const char *bytes, size_t len) {
    for (size_t i = p.start;; i = (i + 1) & (pieces->capacity - 1)) {
        sri_piece *slot = &pieces->slots[i];
        if (slot->info == 0) return slot;
        if (slot->key == p.key && (slot->info & TAG) == p.tag &&
            (len <= 8 || same_tail(pieces, slot, bytes, len)))
            return slot;
    }
}

/* Moves every piece to a table of `capacity` slots; all differ, so the first free slot is theirs.
 * */
static bool rebuild(sri_pieces *pieces, size_t capacity) {
    sri_piece *old = pieces->slots, *slots = sri_alloc_zero(capacity, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < pieces->capacity; i++) {
        if (old[i].info == 0) continue;
        uint64_t salt = 0x9E3779B97F4A7C15u + ((uint64_t)(old[i].info & TAG) << 1);
        size_t at = fold(old[i].key ^ pieces->seed, salt) & (capacity - 1);
        while (slots[at].info != 0) at = (at + 1) & (capacity - 1);
        slots[at] = old[i];
    }
    sri_free(old);
    pieces->slots = slots;
    pieces->capacity = capacity;
    return true;
}

bool sri_pieces_reserve(sri_pieces *pieces, size_t count) {
    size_t capacity = SRI_MAX(pieces->capacity, 64);
    if (pieces->capacity == 0) pieces->seed = sri_random_seed();
    while (capacity / 8 * 5 < count) {
        if (capacity > SIZE_MAX / 64) return false;
        capacity *= 2;
    }
    return capacity == pieces->capacity || rebuild(pieces, capacity);
}

static bool add_tail(sri_pieces *pieces, const char *bytes, size_t len, uint32_t *offset) {
    uint32_t stored = (uint32_t)len;
    *offset = (uint32_t)pieces->tails.len;
    return sri_buffer_append(&pieces->tails, &stored, sizeof stored) &&
           sri_buffer_append(&pieces->tails, bytes, len);
}

sr_status sri_pieces_add(sri_pieces *pieces, const char *bytes, size_t len, bool continuing,
                         uint32_t id) {
    if (!sri_pieces_reserve(pieces, pieces->count + 1)) return SR_ERR_NO_MEMORY;
    probe p = probe_of(pieces, bytes, len, continuing);
    sri_piece *slot = find(pieces, p, bytes, len);
    if (slot->info != 0) return SR_ERR_INVALID;
    uint32_t tail = 0;
    if (len > 8 && !add_tail(pieces, bytes, len, &tail)) return SR_ERR_NO_MEMORY;
    *slot = (sri_piece){p.key, tail, id << ID_SHIFT | p.tag};
    pieces->count++;
    pieces->lengths[continuing][(uint8_t)bytes[0]] |= (uint64_t)1 << SRI_MIN(len, 63);
    return SR_OK;
}

int32_t sri_pieces_find(const sri_pieces *pieces, const char *bytes, size_t len, bool continuing) {
    if (pieces->count == 0) return -1;
    const sri_piece *slot = find(pieces, probe_of(pieces, bytes, len, continuing), bytes, len);
    return slot->info == 0 ? -1 : (int32_t)(slot->info >> ID_SHIFT);
}

int32_t sri_pieces_longest(const sri_pieces *pieces, const char *bytes, size_t len, bool continuing,
                           size_t *used) {
    uint64_t lengths = pieces->lengths[continuing][(uint8_t)bytes[0]];
    while (lengths != 0 && len > 0) {
        if (len < 63) { /* the longest length that occurs and fits */
            lengths &= ((uint64_t)2 << len) - 1;
            if (lengths == 0) break;
            len = 63 - (size_t)__builtin_clzll(lengths);
        } else if (lengths >> 63 == 0) {
            len = 62;
            continue;
        }
        int32_t id = sri_pieces_find(pieces, bytes, len, continuing);
        if (id >= 0) {
            *used = len;
            return id;
        }
        len--;
    }
    return -1;
}

void sri_pieces_free(sri_pieces *pieces) {
    sri_free(pieces->slots);
    sri_buffer_free(&pieces->tails);
    pieces->slots = NULL;
    pieces->capacity = pieces->count = 0;
}
