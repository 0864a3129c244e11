/*
 * speller.h - mends words that are misspelt beside those of a route table.
 */
#ifndef SRI_SPELLER_H
#define SRI_SPELLER_H

#include "base/base.h"

/* Shorter words have too many neighbours; longer ones are no words. */
#define SRI_SPELLER_MIN 5u
#define SRI_SPELLER_MAX 32u

/* Of a text, this many bytes are looked at. */
#define SRI_SPELLER_BYTES 4096u

typedef struct sri_speller_word {
    uint32_t start;   /* in letters */
    uint32_t count;   /* occurrences in the table */
    uint32_t letters; /* bit i: the letter 'a' + i is in it */
    uint32_t len;
} sri_speller_word;

/* The words of a table in ASCII letters, lower case, in the order of their first occurrence. Plain arrays but for
 * the map, which sri_speller_index() makes from them. */
typedef struct sri_speller {
    char *letters;
    size_t letter_count;
    sri_speller_word *words;
    size_t count;
    sri_map places; /* of words */
} sri_speller;

/* Learns from `n` texts. */
SR_MUST_CHECK bool sri_speller_learn(const sr_str *texts, size_t n, sri_speller *speller);
/* Fills what follows from `letters`, and the words' `len` and `count`. False when memory is short, or when they
 * do not fit together. */
SR_MUST_CHECK bool sri_speller_index(sri_speller *speller);
void sri_speller_free(sri_speller *speller); /* leaves zeros */

/* Whether a word that the table lacks is a word all the same; lower case, lent. */
typedef bool sri_speller_known_fn(void *user, sr_str word);

/* Appends `text` to `out` with each word mended that the table lacks, that `known` does not know, and that is one
 * edit (a letter more, less, another, or two swapped) from a word of the table: it becomes the most frequent
 * of those. Words are runs of ASCII letters of SRI_SPELLER_MIN to SRI_SPELLER_MAX; runs that touch
 * a digit, an apostrophe or a character beyond ASCII are left alone. When nothing is mended, `out` is left as it was
 * and `*mended` is false. False when memory is short. */
SR_MUST_CHECK bool sri_speller_mend(const sri_speller *speller, sr_str text,
                                    sri_speller_known_fn *known, void *user, sri_buffer *out,
                                    bool *mended);

#endif
