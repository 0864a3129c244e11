/* vectors.c - texts to vectors by the router's encoder, for those who want no decision. */
#include <string.h>

#include "encode/encode.h"
#include "router/queue_int.h"

typedef struct made_vectors {
    sr_vectors shown; /* first: what the caller holds */
    sri_arena arena;
} made_vectors;

static bool fill(made_vectors *self, const sr_str *texts, size_t n, const sr_str **copies) {
    size_t floats, bytes, n_bytes;
    if (!sri_size_mul(n, self->shown.dimension, &floats) ||
        !sri_size_mul(floats, sizeof(float), &bytes) || !sri_size_mul(n, sizeof(sr_str), &n_bytes))
        return false;
    self->shown.count = n;
    self->shown.values = sri_arena_alloc(&self->arena, bytes);
    self->shown.truncated = sri_arena_alloc(&self->arena, n);
    self->shown.tokens = sri_arena_alloc(&self->arena, n * sizeof *self->shown.tokens);
    if (self->shown.values == NULL || self->shown.truncated == NULL || self->shown.tokens == NULL)
        return false;
    if (copies == NULL) return true;
    sr_str *own = sri_arena_alloc(&self->arena, n_bytes);
    for (size_t i = 0; i < n && own != NULL; i++) {
        own[i] = sri_arena_copy(&self->arena, texts[i]);
        if (own[i].data == NULL) return false;
    }
    *copies = own;
    return own != NULL;
}

sr_status sri_vectors_make(sr_router *router, const sr_str *texts, size_t n, const sr_str **copies,
                           sr_vectors **made, sr_error *error) {
    *made = NULL;
    sr_status code = sri_check_texts(texts, n, error);
    if (code == SR_OK) code = sri_router_ready(router, error);
    if (code != SR_OK) return code;
    made_vectors *self = sri_alloc_zero(1, sizeof *self);
    if (self == NULL) return sri_fail_memory(error);
    self->shown.dimension = (size_t)sr_encoder_dimension(router->encoder);
    *made = &self->shown;
    if (fill(self, texts, n, copies)) return SR_OK;
    sr_vectors_free(made);
    return sri_fail_memory(error);
}

sr_status sr_router_encode(sr_router *router, const sr_str *texts, size_t n, sr_vectors **handle,
                           sr_error *error) {
    uint64_t begun = sri_nanoseconds();
    sr_vectors *made = NULL;
    *handle = NULL;
    sr_status code = sri_vectors_make(router, texts, n, NULL, &made, error);
    if (code != SR_OK) return code;
    sri_encoding job = {.texts = texts,
                        .n = n,
                        .out = (float *)(uintptr_t)made->values,
                        .truncated = (uint8_t *)(uintptr_t)made->truncated,
                        .tokens = (uint32_t *)(uintptr_t)made->tokens};
    code = sri_encoder_encode(router->encoder, &job, error);
    if (code != SR_OK) {
        sr_vectors_free(&made);
        return code;
    }
    uint64_t spent = sri_nanoseconds() - begun;
    made->timings = (sr_timings){
        .encode_ns = spent, .total_ns = spent, .batch_texts = n, .batch_tokens = job.computed};
    *handle = made;
    return SR_OK;
}

void sr_vectors_free(sr_vectors **handle) {
    if (handle == NULL || *handle == NULL) return;
    made_vectors *self = (made_vectors *)*handle;
    sri_arena_free(&self->arena);
    sri_free(self);
    *handle = NULL;
}
