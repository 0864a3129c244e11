/*
 * config.h - what a model directory says about its model: Hugging Face's config.json, and our own
 * small synaptoroute.json beside it.
 */
#ifndef SRI_CONFIG_H
#define SRI_CONFIG_H

#include "base/base.h"

/* config.json of a BERT model, every number checked against what the code can hold. */
typedef struct sri_config {
    size_t hidden, layers, heads, intermediate;
    size_t vocabulary, positions, types;
    float epsilon;
} sri_config;

SR_MUST_CHECK sr_status sri_config_read(const char *directory, sri_config *config, sr_error *error);

/* A prefix that is asked for by its name: e5 has "query" and "passage". */
typedef struct sri_named_prefix {
    char name[32]; /* "": no more of them */
    char text[256];
} sri_named_prefix;

#define SRI_PREFIXES_MAX 8

/* What the transformer's own files leave open. Read from synaptoroute.json; where that is missing,
 * from 1_Pooling/config.json and sentence_bert_config.json of sentence-transformers; else mean
 * pooling, no prefix, all positions. */
typedef struct sri_description {
    sr_pooling pooling;
    size_t max_tokens; /* 0: as many as there are positions */
    char prefix[256];
    sri_named_prefix prefixes[SRI_PREFIXES_MAX];
    char weights_sha256[65], tokenizer_sha256[65],
        config_sha256[65]; /* "" where no digest is stored */
} sri_description;

/* Checks the sizes of the described files too: SR_ERR_FORMAT when one has been replaced or cut. */
SR_MUST_CHECK sr_status sri_description_read(const char *directory, sri_description *description,
                                             sr_error *error);

/* What kind of model a directory holds: by `model_type` of config.json, "model2vec" being a static
 * one; where that is missing, by the tensor `embeddings` of model.safetensors. Everything else is
 * left to the transformer's own checks. */
sr_status sri_model_is_static(const char *directory, bool *is_static, sr_error *error);

/* `max_length` of a static model's config.json: 512 where it is missing, SIZE_MAX where it is null
 * (no limit). */
sr_status sri_static_config_read(const char *directory, size_t *max_length, sr_error *error);

/* Joins with a slash; SR_ERR_LIMIT when it does not fit. */
SR_MUST_CHECK sr_status sri_join_path(char *path, size_t capacity, const char *directory,
                                      const char *name, sr_error *error);

#endif
