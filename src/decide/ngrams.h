/*
 * ngrams.h - lexical features of a text: words and pairs of words, and runs of 2 to 4 characters, hashed into
 * buckets and weighted by how rare they are in a table of texts (TF-IDF).
 *
 * The list of a text is what the sum_rows kernel and softmax.h take. It depends on the text and the
 * sri_ngrams alone: same bits on every machine, in every process. The hash is fixed (ngrams.c states it): a
 * stored fit relies on it.
 */
#ifndef SRI_NGRAMS_H
#define SRI_NGRAMS_H

#include "kernels/kernels.h"

#define SRI_NGRAMS_BUCKETS     32768u /* unless asked otherwise */
#define SRI_NGRAMS_MAX_BUCKETS (1u << 22)

/* Of a text, the first 4096 characters (after normalisation, without separators) are read. */
#define SRI_NGRAMS_MAX_CHARS 4096u
/* No list is longer: per character at most 3 runs that end at it or at the mark behind it, a word, a pair. */
#define SRI_NGRAMS_MAX_FEATURES (5u * SRI_NGRAMS_MAX_CHARS)

/* What is learned from a table. A plain array, so that it can be stored: whoever reads it back fills the
 * struct, with `idf` from sri_alloc_array. */
typedef struct sri_ngrams {
    uint32_t buckets; /* power of two, at least 2 */
    uint32_t texts;   /* that it was learned from */
    float *idf;       /* [buckets] ln((1 + texts) / (1 + texts with the bucket)) + 1; 0: unknown */
} sri_ngrams;

/* Learns from `n` texts (fewer than 2^31); a bucket that fewer than `min_texts` of them have stays unknown (0
 * and 1: every bucket seen is known). Note that of a held-out text's own features all are known when
 * it was learned from too and `min_texts` is 1. `buckets` is 0 for SRI_NGRAMS_BUCKETS, or a power of two up
 * to SRI_NGRAMS_MAX_BUCKETS. */
SR_MUST_CHECK sr_status sri_ngrams_learn(const sr_str *texts, size_t n, uint32_t buckets,
                                         uint32_t min_texts, sri_ngrams *ngrams, sr_error *error);
void sri_ngrams_free(sri_ngrams *ngrams); /* leaves zeros */

/* Working memory of one thread: zero before the first use. It grows to what the longest text so far and
 * `buckets` need. */
typedef struct sri_ngrams_scratch {
    uint16_t *place; /* [buckets] all zero between calls */
    size_t places;
    sri_weighted_row *list;
    size_t capacity;
} sri_ngrams_scratch;

void sri_ngrams_scratch_free(sri_ngrams_scratch *scratch);

/* The features of a text that are known: first runs of characters, then words; within each group weights are
 * (1 + ln count) * idf, brought to Euclidean length 1. */
typedef struct sri_features {
    const sri_weighted_row
        *list; /* in the scratch, until the next call; row: bucket. A bucket may stand
                                     twice, once in each group */
    size_t count;
    size_t characters; /* of `count`, how many belong to the group of characters */
    float coverage; /* share of the features, weighted by idf, that are known; 0 without features */
} sri_features;

/* Fills `features`; a text without any has count 0. What is not UTF-8 counts as U+FFFD. False when memory
 * is short. No allocation once the scratch has grown. */
SR_MUST_CHECK bool sri_ngrams_features(const sri_ngrams *ngrams, sr_str text,
                                       sri_ngrams_scratch *scratch, sri_features *features);

#endif
