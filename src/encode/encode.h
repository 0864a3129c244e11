/*
 * encode.h - what neighbours may ask of an encoder beyond the public header.
 */
#ifndef SRI_ENCODE_H
#define SRI_ENCODE_H

#include "base/base.h"

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
