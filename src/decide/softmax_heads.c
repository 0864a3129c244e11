/*
 * softmax_heads.c - heads as queries use them.
 *
 * A dense head is a linear layer: the fp32 product takes one text or many, with the same bits. A sparse head
 * has one row of int8 a bucket: a quarter of the memory, which is what adding up some hundred rows
 * waits for; the row's scale goes into the text's weight, so that the sum_rows kernel does the rest.
 */
#include "decide/softmax.h"

#include "decide/softmax_loops.h"

#include <math.h>
#include <string.h>

/* ---- Dense ------------------------------------------------------------------------------------------- */

bool sri_dense_head_make(const sri_softmax_head *head, sri_dense_head *out) {
    size_t numbers = head->classes * head->width;
    *out = (sri_dense_head){.classes = head->classes, .width = head->width};
    out->w = sri_alloc_array(numbers, sizeof *out->w);
    out->bias = sri_alloc_array(head->classes, sizeof *out->bias);
    if (out->w != NULL && out->bias != NULL) {
        memcpy(out->w, head->dense, numbers * sizeof *out->w);
        memcpy(out->bias, head->bias, head->classes * sizeof *out->bias);
        if (sri_dense_head_pack(out)) return true;
    }
    sri_dense_head_free(out);
    return false;
}

bool sri_dense_head_pack(sri_dense_head *head) {
    const sri_gemm_f32 *gemm = &sri_kernels_get()->gemm_f32;
    sri_free_aligned(head->packed);
    head->packed = sri_alloc_aligned(gemm->packed_size(head->classes, head->width));
    if (head->packed == NULL) return false;
    sri_weights_f32 weights = {
        .w = head->w, .bias = head->bias, .n = head->classes, .k = head->width};
    gemm->pack(&weights, head->packed);
    return true;
}

void sri_dense_head_free(sri_dense_head *head) {
    sri_free(head->w);
    sri_free(head->bias);
    sri_free_aligned(head->packed);
    *head = (sri_dense_head){0};
}

void sri_dense_head_logits(const sri_dense_head *head, const float *x, size_t n, float *logits) {
    sri_product out = {.y = logits, .n = head->classes, .first = 0, .last = head->classes};
    sri_kernels_get()->gemm_f32.run(x, n, head->packed, head->width, &out);
}

/* ---- Sparse -------------------------------------------------------------------------------------------- */

static void quantize_row(const float *w, size_t n, int8_t *row, float *scale) {
    float largest = 0;
    for (size_t c = 0; c < n; c++) largest = fmaxf(largest, fabsf(w[c]));
    *scale = largest / 127.0f;
    float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    if (!isfinite(inverse)) *scale = inverse = 0; /* too small to matter */
    for (size_t c = 0; c < n; c++)
        row[c] = (int8_t)fmaxf(fminf(rintf(w[c] * inverse), 127.0f), -127.0f);
}

bool sri_sparse_head_make(const sri_softmax_head *head, size_t buckets, bool with_bias,
                          sri_sparse_head *out) {
    *out = (sri_sparse_head){
        .buckets = buckets, .classes = head->classes, .stride = sri_round_up(head->classes, 16)};
    out->rows = sri_alloc_zero(buckets, out->stride);
    out->scale = sri_alloc_zero(buckets, sizeof *out->scale);
    out->bias = sri_alloc_zero(out->stride, sizeof *out->bias);
    if (out->rows == NULL || out->scale == NULL || out->bias == NULL) {
        sri_sparse_head_free(out);
        return false;
    }
    for (size_t r = 0; r < head->rows; r++) {
        size_t bucket = head->bucket[r];
        if (bucket < buckets)
            quantize_row(head->sparse + r * head->classes, head->classes,
                         out->rows + bucket * out->stride, &out->scale[bucket]);
    }
    if (with_bias) memcpy(out->bias, head->bias, head->classes * sizeof *out->bias);
    return true;
}

void sri_sparse_head_free(sri_sparse_head *head) {
    sri_free(head->rows);
    sri_free(head->scale);
    sri_free(head->bias);
    *head = (sri_sparse_head){0};
}

void sri_sparse_head_logits(const sri_sparse_head *head, sri_weighted_row *list, size_t count,
                            float *logits) {
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        float scale = head->scale[list[i].row];
        list[known] = (sri_weighted_row){list[i].row, list[i].weight * scale};
        known += scale > 0;
    }
    sri_kernels_get()->sum_rows(head->rows, head->stride, list, known, logits);
    for (size_t c = 0; c < head->stride; c++) logits[c] += head->bias[c];
}

/* ---- Probabilities --------------------------------------------------------------------------------------- */

void sri_softmax_rows(float *logits, size_t n, size_t classes, float inverse_temperature) {
    const sri_softmax_loops *loops = sri_softmax_loops_get();
    for (size_t i = 0; i < n; i++)
        loops->softmax_row(logits + i * classes, classes, inverse_temperature);
}
