/*
 * encode.h - what neighbours may ask of an encoder beyond the public header.
 */
#ifndef SRI_ENCODE_H
#define SRI_ENCODE_H

#include "base/base.h"

/* Texts to be encoded, as by sr_encoder_encode(), and what is to be known of them besides. */
typedef struct sri_encoding {
    const sr_str *texts;
    size_t n;
    float *out;         /* n x dimension */
    uint8_t *truncated; /* NULL, or n flags */
    uint32_t *tokens;   /* NULL, or n counts, special ones included; 0 where the encoder has none */
    /* Nothing is shared out to other threads: for callers that are many enough to keep all cores busy. At most `threads` of
     * them compute at once. */
    bool alone;
    size_t computed; /* takes the tokens that were computed, not found in a cache */
} sri_encoding;

/* Texts as the public calls take them: SR_ERR_INVALID or SR_ERR_LIMIT. */
SR_MUST_CHECK sr_status sri_check_texts(const sr_str *texts, size_t n, sr_error *error);

SR_MUST_CHECK sr_status sri_encoder_encode(sr_encoder *encoder, sri_encoding *job, sr_error *error);

/* About as many tokens as a text has, for planning: of English, where a token has four to five bytes. */
static inline size_t sri_guess_tokens(size_t bytes) { return (SRI_MIN(bytes, 4096) + 9) / 4; }

/* Worker threads, 1 for a callback. */
int sri_encoder_threads(const sr_encoder *encoder);

/* Multiplications and additions of a token's matrix products; 0 for an encoder that has none. */
double sri_encoder_operations(const sr_encoder *encoder);

/* Compares the model's files with the digests stored beside them; SR_ERR_FORMAT names the file that
 * differs. Reads every byte: for `info --verify`, not for a start. */
SR_MUST_CHECK sr_status sri_encoder_verify(sr_encoder *encoder, sr_error *error);

/* Where a pulled model "owner/name" is kept: CACHE/models/owner--name, CACHE being
 * $SYNAPTOROUTE_CACHE, else $XDG_CACHE_HOME/synaptoroute, else ~/.cache/synaptoroute.
 * SR_ERR_INVALID when the name is none of a repository, SR_ERR_NOT_FOUND without a home directory. */
SR_MUST_CHECK sr_status sri_pulled_model_path(const char *name, char *path, size_t capacity,
                                              sr_error *error);

#endif
