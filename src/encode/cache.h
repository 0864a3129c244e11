/*
 * cache.h - remembers the vectors of exact texts, in front of any kind of encoder.
 */
#ifndef SRI_CACHE_H
#define SRI_CACHE_H

#include "base/base.h"

typedef struct sri_cache sri_cache; /* safe to share between threads */

typedef struct sri_cache_counts {
    uint64_t hits, misses, evictions;
    size_t entries;
    size_t used; /* bytes: vectors, texts, and all that the cache needs besides */
    size_t max;  /* bytes that `used` never passes */
} sri_cache_counts;

/* Takes all its memory, at most `max_bytes`, at once; the system gives the pages when they are first
 * written. SR_ERR_INVALID when a few vectors of `dimension` floats would not fit. */
SR_MUST_CHECK sr_status sri_cache_open(size_t max_bytes, size_t dimension, sri_cache **cache,
                                       sr_error *error);
void sri_cache_close(sri_cache **cache);

/* Does the job, asking the encoder's kind only for texts that are not remembered, and for equal
 * ones once (among SRI_CACHE_PIECE texts in a row). Allocates nothing. */
#define SRI_CACHE_PIECE 1024
struct sri_encoding;
SR_MUST_CHECK sr_status sri_cache_encode(sri_cache *cache, sr_encoder *encoder,
                                         struct sri_encoding *job, sr_error *error);

/* Longest text, in bytes, that is remembered: a 64th of the memory. Longer ones are encoded every
 * time, so that a few of them cannot push out everything else. */
size_t sri_cache_longest(const sri_cache *cache);

void sri_cache_count(sri_cache *cache, sri_cache_counts *counts);

#endif
