/* vectors.c - texts to vectors by the router's encoder, for those who want no decision. */
#include <string.h>

#include "encode/encode.h"
#include "router/router_int.h"

sr_status sr_router_encode(sr_router *router, const sr_str *texts, size_t n, sr_vectors **handle,
                           sr_error *error) {
    *handle = NULL;
    uint64_t begun = sri_nanoseconds();
    sr_status code = sri_router_ready(router, error);
    if (code != SR_OK) return code;
    size_t dimension = (size_t)sr_encoder_dimension(router->encoder), floats;
    sr_vectors *made = sri_alloc_zero(1, sizeof *made);
    float *values =
        sri_size_mul(n, dimension, &floats) ? sri_alloc_array(floats, sizeof *values) : NULL;
    uint8_t *truncated = sri_alloc_zero(n, 1);
    uint32_t *tokens = sri_alloc_zero(n, sizeof *tokens);
    if (made == NULL || values == NULL || truncated == NULL || tokens == NULL)
        code = sri_fail_memory(error);
    sri_encoding job = {
        .texts = texts, .n = n, .out = values, .truncated = truncated, .tokens = tokens};
    if (code == SR_OK) code = sri_encoder_encode(router->encoder, &job, error);
    if (code != SR_OK) {
        sri_free(made);
        sri_free(values);
        sri_free(truncated);
        sri_free(tokens);
        return code;
    }
    *made = (sr_vectors){.count = n,
                         .dimension = dimension,
                         .values = values,
                         .truncated = truncated,
                         .tokens = tokens};
    made->timings.encode_ns = made->timings.total_ns = sri_nanoseconds() - begun;
    *handle = made;
    return SR_OK;
}

void sr_vectors_free(sr_vectors **handle) {
    if (handle == NULL || *handle == NULL) return;
    sri_free((float *)(uintptr_t)(*handle)->values);
    sri_free((uint8_t *)(uintptr_t)(*handle)->truncated);
    sri_free((uint32_t *)(uintptr_t)(*handle)->tokens);
    sri_free(*handle);
    *handle = NULL;
}
