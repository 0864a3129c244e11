/*
 * model.c - opens a BERT model: reads, checks and packs its weights.
 *
 * Names are those of Hugging Face's BertModel, with or without the prefix "bert.". A weight stored
 * as I8 has its scales beside it as X_scale, one for each output channel (for embeddings: each
 * row), as the compressed-tensors convention has it. Products are packed once for the kernels of
 * this CPU, and the file's pages given back; they stand in one block, in the order in which they are
 * used, so that what a kernel fetches ahead at the end of one is the beginning of the next. Word
 * embeddings stay in the mapped file, since a text touches few rows. Large pages for the block were
 * rejected: a hundredth faster, but where memory is fragmented, opening waits tens of milliseconds.
 */
#include "model/model_int.h"

#include <limits.h>
#include <string.h>

typedef struct loader {
    sri_model *model;
    sri_weights weights;
    const char *prefix;
    sr_error *error;
    char *free, *end; /* of the block of packed products: what is not yet given to one */
} loader;

static sr_status missing(loader *l, const char *name) {
    const char *path = sri_safetensors_path(l->model->file);
    return sri_fail(l->error, SR_ERR_FORMAT, path,
                    "%s has no tensor %s; it is not the model that config.json describes", path,
                    name);
}

static sr_status wrong(loader *l, const sri_tensor *tensor, const char *what) {
    const char *path = sri_safetensors_path(l->model->file);
    return sri_fail(l->error, SR_ERR_FORMAT, path, "%s: tensor %.100s has %s", path, tensor->name,
                    what);
}

static bool is_float(const sri_tensor *tensor) {
    return tensor->dtype == SRI_F32 || tensor->dtype == SRI_F16 || tensor->dtype == SRI_BF16;
}

/* Finds PREFIX + STEM + SUFFIX and checks its shape; columns 0 means a vector of `rows`. */
static sr_status find(loader *l, const char *stem, const char *suffix, size_t rows, size_t columns,
                      const sri_tensor **tensor) {
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", l->prefix, stem, suffix);
    *tensor = sri_safetensors_find(l->model->file, name);
    if (*tensor == NULL) return missing(l, name);
    const sri_tensor *t = *tensor;
    bool fits = columns == 0 ? t->rank == 1 && t->shape[0] == rows
                             : t->rank == 2 && t->shape[0] == rows && t->shape[1] == columns;
    return fits ? SR_OK : wrong(l, t, "a shape that does not fit config.json");
}

/* Reads a vector (or matrix) of floats into memory of its own. */
static sr_status read_floats(loader *l, const char *stem, const char *suffix, size_t rows,
                             size_t columns, float **out) {
    const sri_tensor *tensor;
    sr_status code = find(l, stem, suffix, rows, columns, &tensor);
    if (code != SR_OK) return code;
    if (!is_float(tensor)) return wrong(l, tensor, "a dtype other than F32, F16 and BF16");
    *out = sri_alloc_array(tensor->count, sizeof **out);
    if (*out == NULL) return sri_fail_memory(l->error);
    sri_tensor_floats(tensor, 0, tensor->count, *out);
    return SR_OK;
}

static sr_status read_norm(loader *l, const char *stem, norm *out) {
    sr_status code = read_floats(l, stem, ".weight", l->model->config.hidden, 0, &out->gamma);
    if (code == SR_OK) code = read_floats(l, stem, ".bias", l->model->config.hidden, 0, &out->beta);
    return code;
}

/* ---- linear layers: up to 3 stored ones stacked into one product ----------------------------- */

typedef struct stack {
    const char *const *stems;
    size_t count, rows, k; /* each part is [rows, k] */
    const sri_tensor *parts[3];
    float *bias, *scale; /* [count * rows] */
} stack;

static sr_status read_stack(loader *l, stack *s) {
    size_t n = s->count * s->rows;
    s->bias = sri_alloc_array(n, sizeof *s->bias);
    s->scale = sri_alloc_array(n, sizeof *s->scale);
    if (s->bias == NULL || s->scale == NULL) return sri_fail_memory(l->error);
    for (size_t i = 0; i < s->count; i++) {
        const sri_tensor *bias, *scale;
        sr_status code = find(l, s->stems[i], ".weight", s->rows, s->k, &s->parts[i]);
        if (code == SR_OK) code = find(l, s->stems[i], ".bias", s->rows, 0, &bias);
        if (code != SR_OK) return code;
        if (!is_float(bias)) return wrong(l, bias, "a dtype other than F32, F16 and BF16");
        sri_tensor_floats(bias, 0, s->rows, s->bias + i * s->rows);
        if (s->parts[i]->dtype != s->parts[0]->dtype)
            return wrong(l, s->parts[i], "another dtype than its neighbour");
        if (is_float(s->parts[i])) continue;
        if (s->parts[i]->dtype != SRI_I8)
            return wrong(l, s->parts[i], "a dtype other than F32, F16, BF16 and I8");
        code = find(l, s->stems[i], ".weight_scale", s->rows, 1, &scale);
        if (code != SR_OK) return code;
        if (!is_float(scale)) return wrong(l, scale, "a dtype other than F32, F16 and BF16");
        sri_tensor_floats(scale, 0, s->rows, s->scale + i * s->rows);
    }
    return SR_OK;
}

static void *take(loader *l, size_t bytes) {
    bytes = sri_round_up(bytes, 64);
    if (bytes > (size_t)(l->end - l->free)) return NULL;
    l->free += bytes;
    return l->free - bytes;
}

static sr_status pack_s8(loader *l, const stack *s, linear *out) {
    const sri_gemm_s8 *gemm = &sri_kernels_get()->gemm_s8;
    size_t part = s->rows * s->k;
    int8_t *w = sri_alloc_array(s->count, part);
    out->packed = take(l, gemm->packed_size(out->n, out->k));
    if (w != NULL && out->packed != NULL) {
        for (size_t i = 0; i < s->count; i++) memcpy(w + i * part, s->parts[i]->data, part);
        gemm->pack(&(sri_weights_s8){w, s->scale, s->bias, out->n, out->k}, out->packed);
    }
    sri_free(w);
    return w == NULL || out->packed == NULL ? sri_fail_memory(l->error) : SR_OK;
}

static void expand(const stack *s, float *w) {
    for (size_t i = 0; i < s->count; i++)
        for (size_t r = 0; r < s->rows; r++) {
            size_t row = i * s->rows + r;
            if (is_float(s->parts[i])) {
                sri_tensor_floats(s->parts[i], r * s->k, s->k, w + row * s->k);
                continue;
            }
            const int8_t *q = (const int8_t *)s->parts[i]->data + r * s->k;
            for (size_t c = 0; c < s->k; c++) w[row * s->k + c] = (float)q[c] * s->scale[row];
        }
}

static sr_status pack_f32(loader *l, const stack *s, linear *out) {
    const sri_gemm_f32 *gemm = &sri_kernels_get()->gemm_f32;
    float *w = sri_alloc_array(out->n * out->k, sizeof *w);
    out->packed = take(l, gemm->packed_size(out->n, out->k));
    if (w != NULL && out->packed != NULL) {
        expand(s, w);
        gemm->pack(&(sri_weights_f32){w, s->bias, out->n, out->k}, out->packed);
    }
    sri_free(w);
    return w == NULL || out->packed == NULL ? sri_fail_memory(l->error) : SR_OK;
}

static sr_status read_linear(loader *l, const char *const *stems, size_t count, size_t rows,
                             size_t k, linear *out) {
    stack s = {.stems = stems, .count = count, .rows = rows, .k = k};
    sr_status code = read_stack(l, &s);
    if (code == SR_OK) {
        out->n = count * rows;
        out->k = k;
        out->quantised = s.parts[0]->dtype == SRI_I8 && l->weights == SRI_WEIGHTS_AS_STORED;
        code = out->quantised ? pack_s8(l, &s, out) : pack_f32(l, &s, out);
        for (size_t i = 0; i < count; i++) sri_safetensors_release(l->model->file, s.parts[i]);
    }
    sri_free(s.bias);
    sri_free(s.scale);
    return code;
}

/* ---- the whole model ------------------------------------------------------------------------- */

static sr_status read_one_linear(loader *l, const char *stem, size_t n, size_t k, linear *out) {
    return read_linear(l, &stem, 1, n, k, out);
}

/* The linear layers of a layer, in the order of their use. */
static sr_status read_linears(loader *l, const char *base, layer *out) {
    const sri_config *c = &l->model->config;
    char names[3][128], stem[128];
    snprintf(names[0], sizeof names[0], "%sattention.self.query", base);
    snprintf(names[1], sizeof names[1], "%sattention.self.key", base);
    snprintf(names[2], sizeof names[2], "%sattention.self.value", base);
    const char *stems[3] = {names[0], names[1], names[2]};
    sr_status code = read_linear(l, stems, 3, c->hidden, c->hidden, &out->attention_in);
    snprintf(stem, sizeof stem, "%sattention.output.dense", base);
    if (code == SR_OK) code = read_one_linear(l, stem, c->hidden, c->hidden, &out->attention_out);
    snprintf(stem, sizeof stem, "%sintermediate.dense", base);
    if (code == SR_OK) code = read_one_linear(l, stem, c->intermediate, c->hidden, &out->expand);
    snprintf(stem, sizeof stem, "%soutput.dense", base);
    if (code == SR_OK) code = read_one_linear(l, stem, c->hidden, c->intermediate, &out->contract);
    return code;
}

static sr_status read_layer(loader *l, size_t index, layer *out) {
    char base[64], stem[128];
    snprintf(base, sizeof base, "encoder.layer.%zu.", index);
    sr_status code = read_linears(l, base, out);
    snprintf(stem, sizeof stem, "%sattention.output.LayerNorm", base);
    if (code == SR_OK) code = read_norm(l, stem, &out->after_attention);
    snprintf(stem, sizeof stem, "%soutput.LayerNorm", base);
    if (code == SR_OK) code = read_norm(l, stem, &out->after_feed_forward);
    return code;
}

/* Bytes of the packed product [count * rows, k] of a layer; 0 where its tensor is not as it should be,
 * which is found out when that is read. */
static size_t packed_bytes(const loader *l, size_t index, const char *stem, size_t count,
                           size_t rows, size_t k) {
    char name[256];
    snprintf(name, sizeof name, "%sencoder.layer.%zu.%s.weight", l->prefix, index, stem);
    const sri_tensor *t = sri_safetensors_find(l->model->file, name);
    if (t == NULL || t->rank != 2 || t->shape[0] != rows || t->shape[1] != k) return 0;
    const sri_kernels *kernels = sri_kernels_get();
    bool quantised = t->dtype == SRI_I8 && l->weights == SRI_WEIGHTS_AS_STORED;
    size_t bytes = quantised ? kernels->gemm_s8.packed_size(count * rows, k)
                             : kernels->gemm_f32.packed_size(count * rows, k);
    return sri_round_up(bytes, 64);
}

/* The block that holds all packed products. */
static sr_status allocate_products(loader *l) {
    const sri_config *c = &l->model->config;
    size_t bytes = 64;
    for (size_t i = 0; i < c->layers; i++)
        bytes += packed_bytes(l, i, "attention.self.query", 3, c->hidden, c->hidden) +
                 packed_bytes(l, i, "attention.output.dense", 1, c->hidden, c->hidden) +
                 packed_bytes(l, i, "intermediate.dense", 1, c->intermediate, c->hidden) +
                 packed_bytes(l, i, "output.dense", 1, c->hidden, c->intermediate);
    l->free = l->model->products = sri_alloc_aligned(bytes);
    if (l->free == NULL) return sri_fail_memory(l->error);
    l->end = l->free + bytes;
    return SR_OK;
}

static sr_status read_words(loader *l) {
    sri_model *m = l->model;
    sr_status code = find(l, "embeddings.word_embeddings", ".weight", m->config.vocabulary,
                          m->config.hidden, &m->words);
    if (code != SR_OK || is_float(m->words)) return code;
    if (m->words->dtype != SRI_I8)
        return wrong(l, m->words, "a dtype other than F32, F16, BF16 and I8");
    return read_floats(l, "embeddings.word_embeddings", ".weight_scale", m->config.vocabulary, 1,
                       &m->word_scale);
}

static sr_status read_embeddings(loader *l) {
    sri_model *m = l->model;
    const sri_config *c = &m->config;
    float *types = NULL;
    sr_status code = read_words(l);
    if (code == SR_OK)
        code = read_floats(l, "embeddings.position_embeddings", ".weight", c->positions, c->hidden,
                           &m->positions);
    if (code == SR_OK)
        code = read_floats(l, "embeddings.token_type_embeddings", ".weight", c->types, c->hidden,
                           &types);
    if (code == SR_OK) code = read_norm(l, "embeddings.LayerNorm", &m->after_embedding);
    for (size_t i = 0; code == SR_OK && i < c->positions * c->hidden; i++)
        m->positions[i] += types[i % c->hidden];
    sri_free(types);
    return code;
}

static sr_status read_model(sri_model *model, const char *directory, sri_weights weights,
                            sr_error *error) {
    char path[PATH_MAX];
    sr_status code = sri_config_read(directory, &model->config, error);
    if (code == SR_OK)
        code = sri_join_path(path, sizeof path, directory, "model.safetensors", error);
    if (code == SR_OK) code = sri_safetensors_open(path, &model->file, error);
    if (code != SR_OK) return code;
    bool prefixed =
        sri_safetensors_find(model->file, "bert.embeddings.word_embeddings.weight") != NULL;
    loader l = {model, weights, prefixed ? "bert." : "", error, NULL, NULL};
    model->layers = sri_alloc_zero(model->config.layers, sizeof *model->layers);
    if (model->layers == NULL) return sri_fail_memory(error);
    code = read_embeddings(&l);
    if (code == SR_OK) code = allocate_products(&l);
    for (size_t i = 0; code == SR_OK && i < model->config.layers; i++)
        code = read_layer(&l, i, &model->layers[i]);
    return code;
}

sr_status sri_model_open(const char *directory, sri_weights weights, sri_model **handle,
                         sr_error *error) {
    *handle = sri_alloc_zero(1, sizeof **handle);
    if (*handle == NULL) return sri_fail_memory(error);
    sr_status code = read_model(*handle, directory, weights, error);
    if (code != SR_OK) sri_model_close(handle);
    return code;
}

static void free_norm(norm *n) {
    sri_free(n->gamma);
    sri_free(n->beta);
}

void sri_model_close(sri_model **handle) {
    sri_model *model = *handle;
    if (model == NULL) return;
    for (size_t i = 0; model->layers != NULL && i < model->config.layers; i++) {
        layer *each = &model->layers[i];
        free_norm(&each->after_attention);
        free_norm(&each->after_feed_forward);
    }
    free_norm(&model->after_embedding);
    sri_free_aligned(model->products);
    sri_free(model->layers);
    sri_free(model->positions);
    sri_free(model->word_scale);
    sri_safetensors_close(&model->file);
    sri_free(model);
    *handle = NULL;
}

const sri_config *sri_model_config(const sri_model *model) { return &model->config; }
