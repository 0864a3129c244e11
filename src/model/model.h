/*
 * model.h - a BERT encoder: weights ready to run, and the forward pass.
 */
#ifndef SRI_MODEL_H
#define SRI_MODEL_H

#include "base/base.h"
#include "model/config.h"

typedef struct sri_model sri_model; /* safe to share between threads */

typedef enum sri_weights {
    SRI_WEIGHTS_AS_STORED, /* int8 or fp32 products, as each tensor is stored */
    SRI_WEIGHTS_FLOAT      /* int8 tensors are expanded: the reference for tests */
} sri_weights;

/* Opens DIRECTORY/config.json and model.safetensors and checks every tensor that is needed. */
SR_MUST_CHECK sr_status sri_model_open(const char *directory, sri_weights weights,
                                       sri_model **model, sr_error *error);
void sri_model_close(sri_model **model);
const sri_config *sri_model_config(const sri_model *model);

/* Packs the weights for this CPU on the threads of `pool` (NULL: here). The first call does, and
 * those that come meanwhile wait; later ones return at once. SR_ERR_NO_MEMORY leaves it to the next
 * call. */
SR_MUST_CHECK sr_status sri_model_pack(sri_model *model, sri_pool *pool, sr_error *error);

/* Whether a forward pass may be run before: it then packs what it needs and forgets it, which is
 * quicker for a single text, and gives the same bits. False where weights are not int8. */
bool sri_model_runs_unpacked(const sri_model *model);

/* Memory for one forward pass at a time of at most `tokens` tokens, in texts of at most `longest`.
 * */
typedef struct sri_scratch sri_scratch;
SR_MUST_CHECK sr_status sri_scratch_open(const sri_model *model, size_t tokens, size_t longest,
                                         sri_scratch **scratch, sr_error *error);
void sri_scratch_close(sri_scratch **scratch);

/* A batch of texts without padding: text t is ids[start[t]] to ids[start[t + 1] - 1]. */
typedef struct sri_batch {
    const int32_t *ids;
    const size_t *start; /* [texts + 1] */
    size_t texts;
} sri_batch;

/* Writes [texts, hidden] pooled vectors, not yet normalised. The model must have been packed, unless
 * it runs unpacked. Row t is the same whatever else is in
 * the batch. `pooling` is CLS or MEAN. */
void sri_model_forward(const sri_model *model, const sri_batch *batch, sr_pooling pooling,
                       sri_scratch *scratch, sri_team *team, float *out);

#endif
