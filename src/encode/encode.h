/*
 * encode.h - what neighbours may ask of an encoder beyond the public header.
 */
#ifndef SRI_ENCODE_H
#define SRI_ENCODE_H

#include "base/base.h"

/* Worker threads, 1 for a callback. */
int sri_encoder_threads(const sr_encoder *encoder);

/* Compares the model's files with the digests stored beside them; SR_ERR_FORMAT names the file that
 * differs. Reads every byte: for `info --verify`, not for a start. */
SR_MUST_CHECK sr_status sri_encoder_verify(sr_encoder *encoder, sr_error *error);

#endif
