/*
 * model_int.h - the weights of a BERT model as the forward pass uses them.
 */
#ifndef SRI_MODEL_INT_H
#define SRI_MODEL_INT_H

#include "kernels/kernels.h"
#include "model/model.h"
#include "model/safetensors.h"

#include <pthread.h>
#include <stdatomic.h>

#define SRI_STACKED_MAX 3

/* Where a product's weights come from: up to 3 stored layers, one above the other. */
typedef struct stored {
    const sri_tensor *weight, *bias; /* [rows, k], [rows] */
    const sri_tensor *scale;         /* [rows, 1] of an int8 weight, else NULL */
} stored;

/* y = act(x W^T + b); the packed weights' layout is that of the kernel that runs them. */
typedef struct linear {
    void *packed; /* NULL before sri_model_pack() */
    size_t n, k;
    bool quantised;
    stored parts[SRI_STACKED_MAX];
    size_t rows; /* of each part */
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
    /* Read from the mapped file row by row. */
    const sri_tensor *words;      /* [vocabulary, hidden] */
    const sri_tensor *word_scale; /* [vocabulary, 1] for int8 words, else NULL */
    const sri_tensor *positions;  /* [positions, hidden] */
    float *types;                 /* [types, hidden]: of which the first is used */
    norm after_embedding;
    layer *layers;
    char *products; /* the block in which the packed weights of all layers stand */
    pthread_mutex_t packing;
    atomic_bool packed;
};

/* ---- model_pack.c ---------------------------------------------------------------------------- */

/* Whether int8 weights can be packed from where they stand in the file. */
bool sri_packs_in_place(const linear *product);

/* The bytes of its largest product, packed. */
size_t sri_largest_product(const sri_model *model);

/* Packs channels first to last - 1 (multiples of SRI_N_STEP, or n) into their place in `packed`.
 * `room`: [SRI_N_STEP, k] int8 or floats; NULL where weights are packed in place. */
void sri_pack_channels(const linear *product, size_t first, size_t last, void *packed, void *room);

#endif
