/*
 * distill_write.h - writes a static model's directory.
 */
#ifndef SRI_DISTILL_WRITE_H
#define SRI_DISTILL_WRITE_H

#include "base/base.h"

typedef struct sri_static_output {
    const char *output;    /* the directory to make */
    const char *tokenizer; /* the tokenizer.json to copy */
    const char *teacher;   /* its name and fingerprint */
    const char *fingerprint;
    const float *rows; /* [tokens, dimension] */
    size_t tokens, dimension, texts;
} sri_static_output;

/* Writes config.json, tokenizer.json, model.safetensors (int8 rows, their scales in `weights`) and
 * synaptoroute.json. The directory appears complete or not at all: it is written beside its place
 * and renamed. SR_ERR_INVALID when `output` exists. */
sr_status sri_static_write(const sri_static_output *what, sr_error *error);

#endif
