/*
 * model.c - opens a BERT model: finds and checks its tensors.
 *
 * Names are those of Hugging Face's BertModel, with or without the prefix "bert.". A weight stored
 * as I8 has its scales beside it as X_scale, one for each output channel (for embeddings: each
 * row), as the compressed-tensors convention has it. Embeddings stay in the mapped file, since a
 * text touches few rows; so do the weights of products until the first text needs them
 * (model_pack.c), and a process whose texts need no transformer never reads them.
 */
#include "model/model_int.h"

#include <limits.h>
#include <string.h>

typedef struct loader {
    sri_model *model;
    sri_weights weights;
    const char *prefix;
    sr_error *error;
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

/* The same for a tensor of floats. */
static sr_status find_floats(loader *l, const char *stem, const char *suffix, size_t rows,
                             size_t columns, const sri_tensor **tensor) {
    sr_status code = find(l, stem, suffix, rows, columns, tensor);
    if (code != SR_OK || is_float(*tensor)) return code;
    return wrong(l, *tensor, "a dtype other than F32, F16 and BF16");
}

/* Reads a vector (or matrix) of floats into memory of its own. */
static sr_status read_floats(loader *l, const char *stem, const char *suffix, size_t rows,
                             size_t columns, float **out) {
    const sri_tensor *tensor;
    sr_status code = find_floats(l, stem, suffix, rows, columns, &tensor);
    if (code != SR_OK) return code;
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

static sr_status find_part(loader *l, const char *stem, const linear *out, stored *part) {
    sr_status code = find(l, stem, ".weight", out->rows, out->k, &part->weight);
    if (code == SR_OK) code = find_floats(l, stem, ".bias", out->rows, 0, &part->bias);
    if (code != SR_OK || is_float(part->weight)) return code;
    if (part->weight->dtype != SRI_I8)
        return wrong(l, part->weight, "a dtype other than F32, F16, BF16 and I8");
    return find_floats(l, stem, ".weight_scale", out->rows, 1, &part->scale);
}

static sr_status find_linear(loader *l, const char *const *stems, size_t count, size_t rows,
                             size_t k, linear *out) {
    *out = (linear){.n = count * rows, .k = k, .rows = rows};
    for (size_t i = 0; i < count; i++) {
        sr_status code = find_part(l, stems[i], out, &out->parts[i]);
        if (code != SR_OK) return code;
        const sri_tensor *weight = out->parts[i].weight;
        if (weight->dtype != out->parts[0].weight->dtype)
            return wrong(l, weight, "another dtype than its neighbour");
    }
    out->quantised = out->parts[0].scale != NULL && l->weights == SRI_WEIGHTS_AS_STORED;
    return SR_OK;
}

/* ---- the whole model ------------------------------------------------------------------------- */

static sr_status find_one_linear(loader *l, const char *stem, size_t n, size_t k, linear *out) {
    return find_linear(l, &stem, 1, n, k, out);
}

static sr_status find_linears(loader *l, const char *base, layer *out) {
    const sri_config *c = &l->model->config;
    char names[3][128], stem[128];
    snprintf(names[0], sizeof names[0], "%sattention.self.query", base);
    snprintf(names[1], sizeof names[1], "%sattention.self.key", base);
    snprintf(names[2], sizeof names[2], "%sattention.self.value", base);
    const char *stems[3] = {names[0], names[1], names[2]};
    sr_status code = find_linear(l, stems, 3, c->hidden, c->hidden, &out->attention_in);
    snprintf(stem, sizeof stem, "%sattention.output.dense", base);
    if (code == SR_OK) code = find_one_linear(l, stem, c->hidden, c->hidden, &out->attention_out);
    snprintf(stem, sizeof stem, "%sintermediate.dense", base);
    if (code == SR_OK) code = find_one_linear(l, stem, c->intermediate, c->hidden, &out->expand);
    snprintf(stem, sizeof stem, "%soutput.dense", base);
    if (code == SR_OK) code = find_one_linear(l, stem, c->hidden, c->intermediate, &out->contract);
    return code;
}

static sr_status read_layer(loader *l, size_t index, layer *out) {
    char base[64], stem[128];
    snprintf(base, sizeof base, "encoder.layer.%zu.", index);
    sr_status code = find_linears(l, base, out);
    snprintf(stem, sizeof stem, "%sattention.output.LayerNorm", base);
    if (code == SR_OK) code = read_norm(l, stem, &out->after_attention);
    snprintf(stem, sizeof stem, "%soutput.LayerNorm", base);
    if (code == SR_OK) code = read_norm(l, stem, &out->after_feed_forward);
    return code;
}

static sr_status find_words(loader *l) {
    sri_model *m = l->model;
    const char *stem = "embeddings.word_embeddings";
    size_t rows = m->config.vocabulary;
    sr_status code = find(l, stem, ".weight", rows, m->config.hidden, &m->words);
    if (code != SR_OK || is_float(m->words)) return code;
    if (m->words->dtype != SRI_I8)
        return wrong(l, m->words, "a dtype other than F32, F16, BF16 and I8");
    return find_floats(l, stem, ".weight_scale", rows, 1, &m->word_scale);
}

static sr_status read_embeddings(loader *l) {
    sri_model *m = l->model;
    const sri_config *c = &m->config;
    sr_status code = find_words(l);
    if (code == SR_OK)
        code = find_floats(l, "embeddings.position_embeddings", ".weight", c->positions, c->hidden,
                           &m->positions);
    if (code == SR_OK)
        code = read_floats(l, "embeddings.token_type_embeddings", ".weight", c->types, c->hidden,
                           &m->types);
    if (code == SR_OK) code = read_norm(l, "embeddings.LayerNorm", &m->after_embedding);
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
    loader l = {model, weights, prefixed ? "bert." : "", error};
    model->layers = sri_alloc_zero(model->config.layers, sizeof *model->layers);
    if (model->layers == NULL) return sri_fail_memory(error);
    code = read_embeddings(&l);
    for (size_t i = 0; code == SR_OK && i < model->config.layers; i++)
        code = read_layer(&l, i, &model->layers[i]);
    return code;
}

sr_status sri_model_open(const char *directory, sri_weights weights, sri_model **handle,
                         sr_error *error) {
    *handle = sri_alloc_zero(1, sizeof **handle);
    if (*handle == NULL) return sri_fail_memory(error);
    pthread_mutex_init(&(*handle)->packing, NULL);
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
    sri_free(model->types);
    sri_safetensors_close(&model->file);
    pthread_mutex_destroy(&model->packing);
    sri_free(model);
    *handle = NULL;
}

const sri_config *sri_model_config(const sri_model *model) { return &model->config; }
