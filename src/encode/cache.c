/*
 * cache.c - vectors of exact texts, remembered in a fixed amount of memory.
 *
 * DATA     One ring of bytes holds the records (header, vector, text), the newest at `head`, the
 *          oldest at `tail`; a table with linear probing maps a text's hash to its record. Positions
 *          only grow; a position modulo the ring's size is a place in memory, and a record may
 *          continue at the ring's start. So texts of any length fit without fragments, every byte
 *          is counted, and nothing is allocated after open.
 * EVICTION CLOCK. The oldest record goes, unless it was asked for since it was written or last
 *          spared: then it moves to the head and loses its mark. A hit only sets that mark, where LRU
 *          would relink lists; texts asked for once leave in the order they came. An insertion
 *          spares at most SPARED records, so that it never has to move the whole ring.
 * THREADS  One mutex, held while one record is compared and copied, well under a microsecond; the
 *          encoder runs outside it. Shards were rejected: encoding takes many times longer, and
 *          shards fill unevenly. Two threads that miss the same text at once both encode it; the
 *          vectors are equal, and the second is dropped.
 */
#include "encode/cache.h"

#include "encode/encode_int.h"

#include <pthread.h>
#include <string.h>

#define SPARED          8
#define LONGEST_PART    64
#define LEAST           16  /* vectors that must fit */
#define ALIGNMENT_BYTES 128 /* at most, that aligned memory takes besides */

typedef struct record {
    uint64_t hash;
    uint32_t len;
    uint8_t truncated, asked;
    uint16_t tokens;
} record; /* then the vector, then the text, filled up to ALIGN bytes */

/* Records begin at multiples of this, and the ring's size is one: no header is split. */
#define ALIGN ((size_t)16)
_Static_assert(sizeof(record) == ALIGN, "a record's header has no padding");

typedef struct cache_slot {
    uint64_t hash;
    uint64_t position; /* 0: free */
} cache_slot;

struct sri_cache {
    pthread_mutex_t mutex;
    uint8_t *ring;
    cache_slot *slots;
    size_t size, mask; /* of the ring; of the table */
    size_t max, fixed; /* bytes: given at open; all but the records */
    size_t vector_bytes, entries, entry_limit, longest;
    uint64_t head, tail, seed;
    uint64_t hits, misses, evictions;
};

/* ---- The ring -------------------------------------------------------------------------------- */

static size_t round_up(size_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static size_t record_bytes(const sri_cache *cache, size_t len) {
    return round_up(sizeof(record) + cache->vector_bytes + len);
}

static record *record_at(const sri_cache *cache, uint64_t position) {
    return (record *)(void *)(cache->ring + position % cache->size);
}

static void ring_write(sri_cache *cache, uint64_t position, const void *from, size_t bytes) {
    size_t at = (size_t)(position % cache->size), first = SRI_MIN(bytes, cache->size - at);
    if (first > 0) memcpy(cache->ring + at, from, first);
    if (bytes > first) memcpy(cache->ring, (const uint8_t *)from + first, bytes - first);
}

static void ring_read(const sri_cache *cache, uint64_t position, void *to, size_t bytes) {
    size_t at = (size_t)(position % cache->size), first = SRI_MIN(bytes, cache->size - at);
    memcpy(to, cache->ring + at, first);
    memcpy((uint8_t *)to + first, cache->ring, bytes - first);
}

static bool ring_equals(const sri_cache *cache, uint64_t position, sr_str text) {
    size_t at = (size_t)(position % cache->size), first = SRI_MIN(text.len, cache->size - at);
    return (first == 0 || memcmp(cache->ring + at, text.data, first) == 0) &&
           (first == text.len || memcmp(cache->ring, text.data + first, text.len - first) == 0);
}

/* Moves the record at the tail to the head. The two may overlap, but in ascending order no piece
 * overwrites what a later one reads. */
static void move_to_head(sri_cache *cache, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        size_t from = (size_t)((cache->tail + done) % cache->size);
        size_t to = (size_t)((cache->head + done) % cache->size);
        size_t piece = SRI_MIN(bytes - done, cache->size - SRI_MAX(from, to));
        memmove(cache->ring + to, cache->ring + from, piece);
        done += piece;
    }
    cache->head += bytes;
    cache->tail += bytes;
}

/* ---- The table ------------------------------------------------------------------------------- */

/* The slot of a text, or the free one where its search ends. */
static cache_slot *find_text(const sri_cache *cache, sr_str text, uint64_t hash) {
    for (size_t i = (size_t)hash & cache->mask;; i = (i + 1) & cache->mask) {
        cache_slot *slot = &cache->slots[i];
        if (slot->position == 0) return slot;
        if (slot->hash != hash || record_at(cache, slot->position)->len != text.len) continue;
        if (ring_equals(cache, slot->position + sizeof(record) + cache->vector_bytes, text))
            return slot;
    }
}

static cache_slot *find_position(const sri_cache *cache, uint64_t hash, uint64_t position) {
    size_t i = (size_t)hash & cache->mask;
    while (cache->slots[i].position != position) i = (i + 1) & cache->mask;
    return &cache->slots[i];
}

/* Frees a slot and moves back those that were put further along because of it. */
static void remove_slot(sri_cache *cache, cache_slot *slot) {
    size_t hole = (size_t)(slot - cache->slots);
    for (size_t i = (hole + 1) & cache->mask; cache->slots[i].position != 0;
         i = (i + 1) & cache->mask) {
        size_t home = (size_t)cache->slots[i].hash & cache->mask;
        if (((i - home) & cache->mask) < ((i - hole) & cache->mask)) continue;
        cache->slots[hole] = cache->slots[i];
        hole = i;
    }
    cache->slots[hole].position = 0;
}

/* ---- Getting and putting: the caller holds the mutex ------------------------------------------ */

/* What is known of a text besides its vector. */
typedef struct trait {
    uint16_t tokens;
    uint8_t truncated;
} trait;

static bool get(sri_cache *cache, sr_str text, uint64_t hash, float *vector, trait *traits) {
    const cache_slot *slot = find_text(cache, text, hash);
    if (slot->position == 0) return false;
    record *found = record_at(cache, slot->position);
    found->asked = 1;
    *traits = (trait){found->tokens, found->truncated};
    ring_read(cache, slot->position + sizeof(record), vector, cache->vector_bytes);
    return true;
}

/* Gives the oldest record another round, or drops it. */
static void pass_oldest(sri_cache *cache, int *spared) {
    record *oldest = record_at(cache, cache->tail);
    cache_slot *slot = find_position(cache, oldest->hash, cache->tail);
    size_t bytes = record_bytes(cache, oldest->len);
    if (oldest->asked && *spared < SPARED) {
        ++*spared;
        oldest->asked = 0;
        slot->position = cache->head;
        move_to_head(cache, bytes);
        return;
    }
    remove_slot(cache, slot);
    cache->tail += bytes;
    cache->entries--;
    cache->evictions++;
}

static void put(sri_cache *cache, sr_str text, uint64_t hash, const float *vector, trait traits) {
    size_t bytes = record_bytes(cache, text.len);
    int spared = 0;
    if (text.len > cache->longest || find_text(cache, text, hash)->position != 0) return;
    while (cache->size - (size_t)(cache->head - cache->tail) < bytes ||
           cache->entries == cache->entry_limit)
        pass_oldest(cache, &spared);
    *find_text(cache, text, hash) = (cache_slot){hash, cache->head};
    *record_at(cache, cache->head) = (record){.hash = hash,
                                              .len = (uint32_t)text.len,
                                              .tokens = traits.tokens,
                                              .truncated = traits.truncated};
    ring_write(cache, cache->head + sizeof(record), vector, cache->vector_bytes);
    ring_write(cache, cache->head + sizeof(record) + cache->vector_bytes, text.data, text.len);
    cache->head += bytes;
    cache->entries++;
}

/* ---- Encoding -------------------------------------------------------------------------------- */

/* At most SRI_CACHE_PIECE texts of a call. Rows are first filled in this order: what is to be
 * encoded from the front, so that the encoder can write there directly, the rest from the back; then
 * they are put in the texts' order. */
typedef struct piece {
    sr_str missed[SRI_CACHE_PIECE]; /* to be encoded */
    uint64_t hash[SRI_CACHE_PIECE];
    uint16_t owner[SRI_CACHE_PIECE];     /* which text a row belongs to */
    uint16_t first[SRI_CACHE_PIECE];     /* the first text that equals text i, often i itself */
    uint16_t seen[2 * SRI_CACHE_PIECE];  /* table of missed texts: 1 + number; 0: free */
    trait traits[SRI_CACHE_PIECE];       /* by text */
    uint8_t missed_cut[SRI_CACHE_PIECE]; /* by row, as the next */
    uint32_t missed_tokens[SRI_CACHE_PIECE];
    size_t missed_count, others;
} piece;

/* The number of an equal text that is to be encoded already, or SIZE_MAX after noting this one. */
static size_t find_or_note(piece *p, sr_str text, uint64_t hash) {
    size_t i = (size_t)(hash >> 32) % SRI_COUNT(p->seen);
    for (; p->seen[i] != 0; i = (i + 1) % SRI_COUNT(p->seen)) {
        size_t row = p->seen[i] - 1u;
        if (p->hash[row] == hash && sri_str_equal(p->missed[row], text)) return row;
    }
    p->missed[p->missed_count] = text;
    p->hash[p->missed_count] = hash;
    p->seen[i] = (uint16_t)++p->missed_count;
    return SIZE_MAX;
}

static void look_up(sri_cache *cache, piece *p, const sr_str *texts, size_t n, float *out) {
    size_t dimension = cache->vector_bytes / sizeof(float);
    p->missed_count = p->others = 0;
    memset(p->seen, 0, sizeof p->seen);
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = sri_hash(texts[i].data, texts[i].len, cache->seed);
        size_t row = n - 1 - p->others;
        pthread_mutex_lock(&cache->mutex);
        bool found = get(cache, texts[i], hash, out + row * dimension, &p->traits[i]);
        pthread_mutex_unlock(&cache->mutex);
        size_t same = found ? SIZE_MAX : find_or_note(p, texts[i], hash);
        p->first[i] = (uint16_t)(same == SIZE_MAX ? i : p->owner[same]);
        if (found || same != SIZE_MAX)
            p->others++;
        else
            row = p->missed_count - 1;
        p->owner[row] = (uint16_t)i;
    }
}

static void swap_rows(float *a, float *b, size_t dimension) {
    for (size_t i = 0; i < dimension; i++) {
        float value = a[i];
        a[i] = b[i];
        b[i] = value;
    }
}

static void put_in_order(piece *p, size_t n, float *out, size_t dimension) {
    for (size_t row = 0; row < n; row++)
        while (p->owner[row] != row) {
            size_t home = p->owner[row];
            swap_rows(out + row * dimension, out + home * dimension, dimension);
            p->owner[row] = p->owner[home];
            p->owner[home] = (uint16_t)home;
        }
    for (size_t i = 0; i < n; i++) {
        size_t first = p->first[i];
        if (first == i) continue;
        memcpy(out + i * dimension, out + first * dimension, dimension * sizeof *out);
        p->traits[i] = p->traits[first];
    }
}

static sr_status encode_piece(sri_cache *cache, piece *p, sr_encoder *encoder, sri_encoding *job,
                              size_t done, size_t n, sr_error *error) {
    size_t dimension = cache->vector_bytes / sizeof(float);
    float *out = job->out + done * dimension;
    look_up(cache, p, job->texts + done, n, out);
    pthread_mutex_lock(&cache->mutex);
    cache->hits += p->others;
    cache->misses += p->missed_count;
    pthread_mutex_unlock(&cache->mutex);
    sr_status code = SR_OK;
    sri_encoding missed = {.texts = p->missed,
                           .n = p->missed_count,
                           .out = out,
                           .truncated = p->missed_cut,
                           .tokens = p->missed_tokens,
                           .alone = job->alone};
    if (p->missed_count > 0) code = encoder->kind->encode(encoder, &missed, error);
    if (code != SR_OK) return code;
    job->computed += missed.computed;
    for (size_t row = 0; row < p->missed_count; row++) {
        trait traits = {(uint16_t)p->missed_tokens[row], p->missed_cut[row]};
        p->traits[p->owner[row]] = traits;
        pthread_mutex_lock(&cache->mutex);
        put(cache, p->missed[row], p->hash[row], out + row * dimension, traits);
        pthread_mutex_unlock(&cache->mutex);
    }
    put_in_order(p, n, out, dimension);
    return SR_OK;
}

sr_status sri_cache_encode(sri_cache *cache, sr_encoder *encoder, sri_encoding *job,
                           sr_error *error) {
    piece p; /* some 50 KB */
    sr_status code = SR_OK;
    for (size_t done = 0; done < job->n && code == SR_OK; done += SRI_CACHE_PIECE) {
        size_t count = SRI_MIN(job->n - done, (size_t)SRI_CACHE_PIECE);
        code = encode_piece(cache, &p, encoder, job, done, count, error);
        for (size_t i = 0; i < count && code == SR_OK; i++) {
            if (job->truncated != NULL) job->truncated[done + i] = p.traits[i].truncated;
            if (job->tokens != NULL) job->tokens[done + i] = p.traits[i].tokens;
        }
    }
    return code;
}

/* ---- Opening --------------------------------------------------------------------------------- */

/* Shares the memory between table and ring. The table has a slot and a half for each record without
 * a text: the entries' limit keeps it from filling up. */
static sr_status take_memory(sri_cache *cache, size_t max_bytes, sr_error *error) {
    size_t least = record_bytes(cache, 0), slots = LEAST;
    while (slots < max_bytes / (least + 2 * sizeof(cache_slot)) * 3 / 2) slots *= 2;
    if (slots * sizeof(cache_slot) > max_bytes / 8) slots /= 2;
    cache->mask = slots - 1;
    cache->entry_limit = slots / 4 * 3;
    cache->fixed = sizeof *cache + slots * sizeof(cache_slot) + ALIGNMENT_BYTES;
    cache->size = (max_bytes - cache->fixed) / ALIGN * ALIGN;
    cache->longest = cache->size / LONGEST_PART;
    cache->slots = sri_alloc_zero(slots, sizeof *cache->slots);
    cache->ring = sri_alloc_aligned(cache->size);
    if (cache->slots == NULL || cache->ring == NULL) return sri_fail_memory(error);
    /* From here on a position is never 0. */
    cache->head = cache->tail = cache->size;
    return SR_OK;
}

sr_status sri_cache_open(size_t max_bytes, size_t dimension, sri_cache **handle, sr_error *error) {
    size_t least = sizeof(sri_cache) + LEAST * (dimension * sizeof(float) + 8 * ALIGN);
    *handle = NULL;
    if (max_bytes < least || max_bytes > SIZE_MAX / 4)
        return sri_fail(error, SR_ERR_INVALID, "cache_bytes",
                        "a cache of %zu bytes cannot be made for vectors of %zu floats; give at "
                        "least %zu, or 0 for no cache",
                        max_bytes, dimension, least);
    sri_cache *cache = sri_alloc_zero(1, sizeof *cache);
    if (cache == NULL) return sri_fail_memory(error);
    pthread_mutex_init(&cache->mutex, NULL);
    cache->max = max_bytes;
    cache->vector_bytes = dimension * sizeof(float);
    cache->seed = sri_random_seed();
    sr_status code = take_memory(cache, max_bytes, error);
    if (code == SR_OK)
        *handle = cache;
    else
        sri_cache_close(&cache);
    return code;
}

void sri_cache_close(sri_cache **handle) {
    if (*handle == NULL) return;
    pthread_mutex_destroy(&(*handle)->mutex);
    sri_free_aligned((*handle)->ring);
    sri_free((*handle)->slots);
    sri_free(*handle);
    *handle = NULL;
}

size_t sri_cache_longest(const sri_cache *cache) { return cache->longest; }

void sri_cache_count(sri_cache *cache, sri_cache_counts *counts) {
    pthread_mutex_lock(&cache->mutex);
    *counts = (sri_cache_counts){.hits = cache->hits,
                                 .misses = cache->misses,
                                 .evictions = cache->evictions,
                                 .entries = cache->entries,
                                 .used = cache->fixed + (size_t)(cache->head - cache->tail),
                                 .max = cache->max};
    pthread_mutex_unlock(&cache->mutex);
}
