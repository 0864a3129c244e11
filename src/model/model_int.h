/*
 * model_int.h - the weights of a BERT model as the forward pass uses them.
 */
#ifndef SRI_MODEL_INT_H
#define SRI_MODEL_INT_H

#include "kernels/kernels.h"
#include "model/model.h"
#include "model/safetensors.h"

/* y = act(x W^T + b); the packed weights' layout is that of the kernel that runs them. */
typedef struct linear {
    void *packed;
    size_t n, k;
    bool quantised;
} linear;

typedef struct norm {
    float *gamma, *beta; /* [hidden] */
} norm;

typedef struct layer {
    linear attention_in;  /* [3 hidden, hidden]: queries, keys, values */
    linear attention_out; /* [hidden, hidden] */
    linear expand;        /* [intermediate, hidden] */
    linear contract;      /* [hidden, intermediate] */
    norm after_attention, after_feed_forward;
} layer;

struct sri_model {
    sri_config config;
    sri_safetensors *file;
    const sri_tensor *words; /* [vocabulary, hidden], read from the mapped file row by row */
    float *word_scale;       /* [vocabulary] for int8 words, else NULL */
    float *positions;        /* [positions, hidden], the embedding of type 0 added */
    norm after_embedding;
    layer *layers;
    char *products; /* the block in which the packed weights of all layers stand */
};

#endif
