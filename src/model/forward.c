/*
 * forward.c - the BERT forward pass over a batch packed without padding.
 *
 * Tokens of all texts stand one after another as the rows of one matrix; only attention looks at
 * where a text begins and ends. Every row is computed by the same operations in the same order
 * whatever its neighbours, so a text's vector does not depend on its batch. With CLS pooling the
 * last layer computes only the first row of each text beyond the keys and values. Shapes: M tokens,
 * D hidden, I intermediate. Source: Devlin et al., BERT (2019); post-layer-norm encoder, erf GELU.
 */
#include "model/model_int.h"

#include <math.h>
#include <string.h>

struct sri_scratch {
    size_t tokens;
    float *x;       /* [M, D] the residual stream */
    float *wide;    /* [M, max(3D, I)] queries, keys and values, or the expanded rows */
    float *narrow;  /* [M, D] what is added to x */
    float *context; /* [M, D] attention's output */
    float *attention;
    uint8_t *q;    /* [M, max(D, I)] */
    float *scale;  /* [M] */
    int32_t *zero; /* [M] */
};

sr_status sri_scratch_open(const sri_model *model, size_t tokens, size_t longest,
                           sri_scratch **handle, sr_error *error) {
    const sri_config *c = &model->config;
    size_t widest = SRI_MAX(3 * c->hidden, c->intermediate), width = c->hidden / c->heads;
    sri_scratch *s = *handle = sri_alloc_zero(1, sizeof *s);
    if (s == NULL) return sri_fail_memory(error);
    s->tokens = tokens;
    s->x = sri_alloc_aligned(tokens * c->hidden * sizeof(float));
    s->wide = sri_alloc_aligned(tokens * widest * sizeof(float));
    s->narrow = sri_alloc_aligned(tokens * c->hidden * sizeof(float));
    s->context = sri_alloc_aligned(tokens * c->hidden * sizeof(float));
    s->attention = sri_alloc_aligned(sri_attend_scratch(longest, width) * sizeof(float));
    s->q =
        sri_alloc_aligned(tokens * sri_round_up(SRI_MAX(c->hidden, c->intermediate), SRI_K_STEP));
    s->scale = sri_alloc_aligned(tokens * sizeof(float));
    s->zero = sri_alloc_aligned(tokens * sizeof(int32_t));
    if (s->x && s->wide && s->narrow && s->context && s->attention && s->q && s->scale && s->zero)
        return SR_OK;
    sri_scratch_close(handle);
    return sri_fail_memory(error);
}

void sri_scratch_close(sri_scratch **handle) {
    sri_scratch *s = *handle;
    if (s == NULL) return;
    sri_free_aligned(s->x);
    sri_free_aligned(s->wide);
    sri_free_aligned(s->narrow);
    sri_free_aligned(s->context);
    sri_free_aligned(s->attention);
    sri_free_aligned(s->q);
    sri_free_aligned(s->scale);
    sri_free_aligned(s->zero);
    sri_free(s);
    *handle = NULL;
}

/* y [m, n] = act(x [m, k] W^T + b). */
static void run_linear(const linear *l, const float *x, size_t m, sri_activation activation,
                       float *y, sri_scratch *s) {
    const sri_kernels *kernels = sri_kernels_get();
    sri_product product = {y, l->n, 0, l->n, activation};
    if (!l->quantised) {
        kernels->gemm_f32.run(x, m, l->packed, l->k, &product);
        return;
    }
    sri_quantized quantized = {s->q, s->scale, s->zero, sri_round_up(l->k, SRI_K_STEP)};
    kernels->quantize(x, m, l->k, &quantized);
    kernels->gemm_s8.run(&quantized, m, l->packed, l->k, &product);
}

static void run_norm(const sri_model *model, const norm *n, float *x, const float *y, size_t m) {
    sri_kernels_get()->add_norm(x, y, m, model->config.hidden, n->gamma, n->beta,
                                model->config.epsilon);
}

static void read_word(const sri_model *model, size_t id, float *out) {
    size_t hidden = model->config.hidden;
    if (model->word_scale == NULL) {
        sri_tensor_floats(model->words, id * hidden, hidden, out);
        return;
    }
    const int8_t *q = (const int8_t *)model->words->data + id * hidden;
    for (size_t i = 0; i < hidden; i++) out[i] = (float)q[i] * model->word_scale[id];
}

static void embed(const sri_model *model, const sri_batch *batch, sri_scratch *s) {
    size_t hidden = model->config.hidden;
    for (size_t t = 0; t < batch->texts; t++)
        for (size_t i = batch->start[t]; i < batch->start[t + 1]; i++) {
            read_word(model, (size_t)batch->ids[i], s->x + i * hidden);
            memcpy(s->narrow + i * hidden, model->positions + (i - batch->start[t]) * hidden,
                   hidden * sizeof(float));
        }
    run_norm(model, &model->after_embedding, s->x, s->narrow, batch->start[batch->texts]);
}

/* Attention of every head of one text: its first `rows` rows go to `out` [rows, D]. */
static void attend_text(const sri_model *model, const float *qkv, size_t t, size_t rows, float *out,
                        float *scratch) {
    size_t hidden = model->config.hidden, width = hidden / model->config.heads;
    for (size_t head = 0; head < model->config.heads; head++) {
        const float *q = qkv + head * width;
        sri_attention attention = {
            .q = q,
            .k = q + hidden,
            .v = q + 2 * hidden,
            .stride = 3 * hidden,
            .rows = rows,
            .t = t,
            .width = width,
            .scale = 1.0f / sqrtf((float)width),
            .out = out + head * width,
            .out_stride = hidden,
            .scratch = scratch,
        };
        sri_kernels_get()->attend(&attention);
    }
}

/* From the residual stream through attention and feed-forward. With `first_only`, s->x holds
 * afterwards one row a text. */
static void run_layer(const sri_model *model, const layer *l, const sri_batch *batch,
                      bool first_only, sri_scratch *s) {
    size_t hidden = model->config.hidden, m = batch->start[batch->texts];
    run_linear(&l->attention_in, s->x, m, SRI_LINEAR, s->wide, s);
    for (size_t t = 0; t < batch->texts; t++) {
        size_t first = batch->start[t], length = batch->start[t + 1] - first;
        float *out = s->context + (first_only ? t : first) * hidden;
        attend_text(model, s->wide + first * 3 * hidden, length, first_only ? 1 : length, out,
                    s->attention);
        if (first_only) memmove(s->x + t * hidden, s->x + first * hidden, hidden * sizeof(float));
    }
    if (first_only) m = batch->texts;
    run_linear(&l->attention_out, s->context, m, SRI_LINEAR, s->narrow, s);
    run_norm(model, &l->after_attention, s->x, s->narrow, m);
    run_linear(&l->expand, s->x, m, SRI_GELU, s->wide, s);
    run_linear(&l->contract, s->wide, m, SRI_LINEAR, s->narrow, s);
    run_norm(model, &l->after_feed_forward, s->x, s->narrow, m);
}

static void mean_rows(const float *x, size_t rows, size_t hidden, float *out) {
    memcpy(out, x, hidden * sizeof *out);
    for (size_t i = 1; i < rows; i++)
        for (size_t d = 0; d < hidden; d++) out[d] += x[i * hidden + d];
    for (size_t d = 0; d < hidden; d++) out[d] /= (float)rows;
}

void sri_model_forward(const sri_model *model, const sri_batch *batch, sr_pooling pooling,
                       sri_scratch *s, float *out) {
    size_t hidden = model->config.hidden, layers = model->config.layers;
    bool cls = pooling == SR_POOLING_CLS;
    embed(model, batch, s);
    for (size_t i = 0; i < layers; i++)
        run_layer(model, &model->layers[i], batch, cls && i + 1 == layers, s);
    for (size_t t = 0; t < batch->texts; t++) {
        float *vector = out + t * hidden;
        size_t first = batch->start[t];
        if (cls)
            memcpy(vector, s->x + t * hidden, hidden * sizeof *vector);
        else
            mean_rows(s->x + first * hidden, batch->start[t + 1] - first, hidden, vector);
    }
}
