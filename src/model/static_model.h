/*
 * static_model.h - static embeddings in Model2Vec's layout: a table of one vector a token.
 */
#ifndef SRI_STATIC_MODEL_H
#define SRI_STATIC_MODEL_H

#include "base/base.h"

/* Tokens of one text at most: the callers' arrays of ids lie on their stack. */
#define SRI_STATIC_TOKENS_MAX ((size_t)4096)

typedef struct sri_static_model sri_static_model; /* immutable after open: safe to share */

/* Opens DIRECTORY/config.json and model.safetensors: `embeddings` [rows, dimension] of F32, F16,
 * BF16, F64 or I8; optionally `mapping` [ids] of I32 or I64, from a token's id to its row (without
 * it they are the same); optionally `weights` [ids] of a floating-point type, by which a token's
 * row is multiplied (for I8 rows the place of their scales). */
sr_status sri_static_model_open(const char *directory, sri_static_model **model, sr_error *error);
void sri_static_model_close(sri_static_model **model);

size_t sri_static_model_dimension(const sri_static_model *model);
size_t sri_static_model_ids(const sri_static_model *model); /* tokens that have a vector */
size_t sri_static_model_max_tokens(const sri_static_model *model);

/* Writes the sum of the weighted rows of `count` tokens, but for those whose id is `unknown`, scaled
 * to length 1. A sum of nothing, or of length 0, gives the vector of "no known token" (see
 * static_model.c). False when the sum is not finite: the weights are damaged. */
bool sri_static_model_embed(const sri_static_model *model, const int32_t *ids, size_t count,
                            int32_t unknown, float *out);

#endif
