/*
 * static_model.c - static embeddings: the vector of a text is the mean of its tokens' rows, scaled
 * to length 1 (so that the sum serves as well as the mean).
 *
 * Rows stay in the mapped file; a text touches some ten of them. Weights (and a mapping, which few
 * models have) are copied, being small. int8 rows go through the kernel table. Rows of other types
 * are for models from elsewhere: aligned fp32 is used in place, the rest expanded when opened.
 *
 * A text without any known token gets the unit vector of the last dimension. It must have a vector
 * of length 1, as all texts have, and one that is near to nothing: models are made by PCA, whose
 * last dimension holds the least of every real vector, so that its cosine with real texts is small.
 * The zero vector was rejected because it has no cosine; the mean of all rows because it is near to
 * many texts. Two such texts are equal, which is what is known of them.
 */
#include "model/static_model.h"

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/safetensors.h"

#include <limits.h>
#include <math.h>
#include <string.h>

struct sri_static_model {
    sri_safetensors *file;
    size_t rows, dimension, ids, max_tokens;
    const int8_t *bytes; /* [rows, dimension], or NULL */
    const float *floats; /* [rows, dimension], or NULL */
    float *expanded;     /* what `floats` points to when it is not the file */
    float *weights;      /* [ids], or NULL: all 1 */
    uint32_t *mapping;   /* [ids], or NULL: a token's id is its row */
};

static bool is_float(const sri_tensor *tensor) {
    return tensor->dtype == SRI_F32 || tensor->dtype == SRI_F16 || tensor->dtype == SRI_BF16 ||
           tensor->dtype == SRI_F64;
}

static sr_status wrong(const sri_static_model *model, const char *name, const char *what,
                       sr_error *error) {
    const char *path = sri_safetensors_path(model->file);
    return sri_fail(error, SR_ERR_FORMAT, path, "%s: tensor %s %s", path, name, what);
}

static sr_status expand(sri_static_model *model, const sri_tensor *tensor, sr_error *error) {
    model->expanded = sri_alloc_array(tensor->count, sizeof *model->expanded);
    if (model->expanded == NULL) return sri_fail_memory(error);
    sri_tensor_floats(tensor, 0, tensor->count, model->expanded);
    sri_safetensors_release(model->file, tensor);
    model->floats = model->expanded;
    return SR_OK;
}

static sr_status read_rows(sri_static_model *model, sr_error *error) {
    const sri_tensor *tensor = sri_safetensors_find(model->file, "embeddings");
    if (tensor == NULL) return wrong(model, "embeddings", "is missing", error);
    if (tensor->rank != 2 || tensor->shape[0] == 0 || tensor->shape[0] > INT32_MAX ||
        tensor->shape[1] < 8 || tensor->shape[1] > 4096)
        return wrong(model, "embeddings", "must be [tokens, 8 to 4096]", error);
    model->rows = tensor->shape[0];
    model->dimension = tensor->shape[1];
    if (tensor->dtype == SRI_I8) {
        model->bytes = (const int8_t *)tensor->data;
        return SR_OK;
    }
    if (!is_float(tensor))
        return wrong(model, "embeddings", "has a dtype other than F32, F16, BF16, F64 and I8",
                     error);
    if (tensor->dtype != SRI_F32 || (uintptr_t)tensor->data % sizeof(float) != 0)
        return expand(model, tensor, error);
    model->floats = (const float *)(const void *)tensor->data;
    return SR_OK;
}

static sr_status read_mapping(sri_static_model *model, sr_error *error) {
    const sri_tensor *tensor = sri_safetensors_find(model->file, "mapping");
    model->ids = model->rows;
    if (tensor == NULL) return SR_OK;
    if (tensor->rank != 1 || tensor->count == 0 || tensor->count > INT32_MAX ||
        (tensor->dtype != SRI_I32 && tensor->dtype != SRI_I64))
        return wrong(model, "mapping", "must be one number of I32 or I64 for each token", error);
    model->ids = tensor->count;
    model->mapping = sri_alloc_array(model->ids, sizeof *model->mapping);
    if (model->mapping == NULL) return sri_fail_memory(error);
    for (size_t i = 0; i < model->ids; i++) {
        int64_t row = sri_tensor_integer(tensor, i);
        if (row < 0 || (uint64_t)row >= model->rows)
            return wrong(model, "mapping", "names a row that embeddings does not have", error);
        model->mapping[i] = (uint32_t)row;
    }
    return SR_OK;
}

static sr_status read_weights(sri_static_model *model, sr_error *error) {
    const sri_tensor *tensor = sri_safetensors_find(model->file, "weights");
    if (tensor == NULL) return SR_OK;
    if (!is_float(tensor) || tensor->count != model->ids || tensor->rank < 1)
        return wrong(model, "weights", "must be one floating-point number for each token", error);
    model->weights = sri_alloc_array(model->ids, sizeof *model->weights);
    if (model->weights == NULL) return sri_fail_memory(error);
    sri_tensor_floats(tensor, 0, model->ids, model->weights);
    for (size_t i = 0; i < model->ids; i++)
        if (!isfinite(model->weights[i]))
            return wrong(model, "weights", "holds a number that is not finite", error);
    return SR_OK;
}

static sr_status read_model(const char *directory, sri_static_model *model, sr_error *error) {
    char path[PATH_MAX];
    sr_status code = sri_static_config_read(directory, &model->max_tokens, error);
    if (code == SR_OK)
        code = sri_join_path(path, sizeof path, directory, "model.safetensors", error);
    if (code == SR_OK) code = sri_safetensors_open(path, &model->file, error);
    if (code == SR_OK) code = read_rows(model, error);
    if (code == SR_OK) code = read_mapping(model, error);
    if (code == SR_OK) code = read_weights(model, error);
    model->max_tokens = SRI_MIN(model->max_tokens, SRI_STATIC_TOKENS_MAX);
    return code;
}

sr_status sri_static_model_open(const char *directory, sri_static_model **handle, sr_error *error) {
    *handle = sri_alloc_zero(1, sizeof **handle);
    if (*handle == NULL) return sri_fail_memory(error);
    sr_status code = read_model(directory, *handle, error);
    if (code != SR_OK) sri_static_model_close(handle);
    return code;
}

void sri_static_model_close(sri_static_model **handle) {
    sri_static_model *model = *handle;
    if (model == NULL) return;
    sri_free(model->mapping);
    sri_free(model->weights);
    sri_free(model->expanded);
    sri_safetensors_close(&model->file);
    sri_free(model);
    *handle = NULL;
}

size_t sri_static_model_dimension(const sri_static_model *model) { return model->dimension; }

size_t sri_static_model_ids(const sri_static_model *model) { return model->ids; }

size_t sri_static_model_max_tokens(const sri_static_model *model) { return model->max_tokens; }

/* ---- vectors --------------------------------------------------------------------------------- */

#define CACHE_LINE ((size_t)64)

/* Lists the rows of the known tokens and calls them into the cache: they lie far apart. */
static size_t list_rows(const sri_static_model *model, const int32_t *ids, size_t count,
                        int32_t unknown, sri_weighted_row *list) {
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == unknown) continue;
        size_t id = (size_t)ids[i];
        uint32_t row = model->mapping == NULL ? (uint32_t)id : model->mapping[id];
        list[known++] = (sri_weighted_row){row, model->weights == NULL ? 1.0f : model->weights[id]};
        if (model->bytes == NULL) continue;
        const int8_t *first = model->bytes + row * model->dimension;
        for (size_t at = 0; at < model->dimension; at += CACHE_LINE) __builtin_prefetch(first + at);
    }
    return known;
}

/* Products and sums are rounded each by itself, in the order of the tokens. */
static float sum_floats(const sri_static_model *model, const sri_weighted_row *list, size_t count,
                        float *out) {
    size_t dimension = model->dimension;
    memset(out, 0, dimension * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        const float *row = model->floats + list[i].row * dimension, weight = list[i].weight;
        for (size_t d = 0; d < dimension; d++) out[d] += weight * row[d];
    }
    float square;
    sri_kernels_get()->dots(out, 1, out, 1, dimension, &square);
    return square;
}

static void scale(float *out, size_t dimension, float factor) {
    for (size_t d = 0; d < dimension; d++) out[d] *= factor;
}

/* The rare ends: nothing known, sums whose square leaves the range of a float, damage. */
static bool normalise_carefully(float *out, size_t dimension) {
    double square = 0;
    for (size_t d = 0; d < dimension; d++) square += (double)out[d] * out[d];
    if (!isfinite(square)) return false;
    double length = sqrt(square);
    for (size_t d = 0; d < dimension; d++)
        out[d] = length > 0 ? (float)(out[d] / length) : (float)(d + 1 == dimension);
    return true;
}

bool sri_static_model_embed(const sri_static_model *model, const int32_t *ids, size_t count,
                            int32_t unknown, float *out) {
    sri_weighted_row list[SRI_STATIC_TOKENS_MAX];
    size_t known = list_rows(model, ids, count, unknown, list);
    float square =
        model->bytes != NULL
            ? sri_kernels_get()->sum_rows(model->bytes, model->dimension, list, known, out)
            : sum_floats(model, list, known, out);
    if (!(square > 1e-30f && square < 1e30f)) return normalise_carefully(out, model->dimension);
    scale(out, model->dimension, 1.0f / sqrtf(square));
    return true;
}
