/*
 * encode_int.h - what the kinds of encoder share among themselves.
 */
#ifndef SRI_ENCODE_INT_H
#define SRI_ENCODE_INT_H

#include "base/base.h"
#include "encode/cache.h"
#include "encode/encode.h"

/* What a kind of encoder can do. `encode` fills what the job asks for, rows normalised; n is at least 1. */
typedef struct encoder_kind {
    sr_status (*encode)(sr_encoder *encoder, sri_encoding *job, sr_error *error);
    sr_status (*tokenize)(sr_encoder *encoder, sr_str text, int32_t *ids, size_t capacity,
                          size_t *count, uint8_t *truncated,
                          sr_error *error);                    /* NULL: has no tokens */
    sr_status (*verify)(sr_encoder *encoder, sr_error *error); /* NULL: nothing to verify */
    void (*close)(void *state);
} encoder_kind;

struct sr_encoder {
    const encoder_kind *kind;
    void *state;      /* the kind's own */
    sri_cache *cache; /* NULL: none */
    int dimension;
    int threads;
    double operations; /* of a token's matrix products */
    char name[128];
    char fingerprint[65];
};

/* Each fills kind, state, dimension, threads, name and fingerprint of a zeroed encoder. */
SR_MUST_CHECK sr_status sri_callback_encoder_open(const sr_encoder_options *options,
                                                  sr_encoder *encoder, sr_error *error);
SR_MUST_CHECK sr_status sri_transformer_encoder_open(const sr_encoder_options *options,
                                                     sr_encoder *encoder, sr_error *error);

SR_MUST_CHECK sr_status sri_static_encoder_open(const sr_encoder_options *options,
                                                sr_encoder *encoder, sr_error *error);

/* Scales a vector to length 1; false, and the vector unchanged, when it is zero or not finite. */
SR_MUST_CHECK bool sri_normalise(float *vector, size_t dimension);

/* Writes to `path` the directory of a model given as a name, a directory or NULL (the default). A
 * name is looked up among the shipped models (locate.c). */
SR_MUST_CHECK sr_status sri_locate_model(const char *model, char *path, size_t capacity,
                                         sr_error *error);

#endif
