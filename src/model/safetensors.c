/*
 * safetensors.c - reading of safetensors files.
 *
 * A file is 8 bytes of header length (little-endian), a JSON object of tensors (dtype, shape,
 * data_offsets relative to the header's end), and the data. It is mapped, not read: weights that
 * are packed once and embeddings of which a text touches few rows need no copy in memory. Files
 * come from strangers, so nothing in the header is believed before it is checked.
 */
#include "model/safetensors.h"

#include <jansson.h>
#include <string.h>

/* JSON in memory is some fifty times its text; a model of 10,000 tensors needs 1.5 MB. */
#define MAX_HEADER ((uint64_t)2 * 1024 * 1024)

struct sri_safetensors {
    sri_mapping mapping;
    char *path;
    json_t *header; /* owns the names */
    sri_tensor *tensors;
    size_t count;
    sri_map by_name; /* index into tensors */
};

static const struct {
    const char *name;
    sri_dtype dtype;
    size_t bytes;
} dtypes[] = {
    {"F32", SRI_F32, 4},
    {"F16", SRI_F16, 2},
    {"BF16", SRI_BF16, 2},
    {"I8", SRI_I8, 1},
    {"F64", SRI_F64, 8},
    {"I64", SRI_I64, 8},
    {"U64", SRI_OTHER_DTYPE, 8},
    {"I32", SRI_I32, 4},
    {"U32", SRI_OTHER_DTYPE, 4},
    {"I16", SRI_OTHER_DTYPE, 2},
    {"U16", SRI_OTHER_DTYPE, 2},
    {"U8", SRI_OTHER_DTYPE, 1},
    {"BOOL", SRI_OTHER_DTYPE, 1},
    {"F8_E4M3", SRI_OTHER_DTYPE, 1},
    {"F8_E5M2", SRI_OTHER_DTYPE, 1},
};

static bool read_dtype(const json_t *value, sri_tensor *tensor, size_t *bytes) {
    const char *name = json_string_value(value);
    for (size_t i = 0; name != NULL && i < SRI_COUNT(dtypes); i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            tensor->dtype = dtypes[i].dtype;
            *bytes = dtypes[i].bytes;
            return true;
        }
    return false;
}

static bool read_shape(const json_t *value, sri_tensor *tensor) {
    if (!json_is_array(value) || json_array_size(value) > SRI_MAX_RANK) return false;
    tensor->rank = (int)json_array_size(value);
    tensor->count = 1;
    for (int i = 0; i < tensor->rank; i++) {
        const json_t *extent = json_array_get(value, (size_t)i);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0) return false;
        tensor->shape[i] = (size_t)json_integer_value(extent);
        if (!sri_size_mul(tensor->count, tensor->shape[i], &tensor->count)) return false;
    }
    return true;
}

/* Offsets of a tensor of `bytes` bytes, checked against the `available` bytes of data. */
static bool read_offsets(const json_t *value, size_t bytes, size_t available, size_t *begin) {
    const json_t *first = json_array_get(value, 0), *last = json_array_get(value, 1);
    if (json_array_size(value) != 2 || !json_is_integer(first) || !json_is_integer(last))
        return false;
    json_int_t from = json_integer_value(first), to = json_integer_value(last);
    if (from < 0 || to < from || (uint64_t)to > available || (uint64_t)(to - from) != bytes)
        return false;
    *begin = (size_t)from;
    return true;
}

static sr_status read_tensor(sri_safetensors *file, const char *name, const json_t *value,
                             size_t data_start, sr_error *error) {
    sri_tensor *tensor = &file->tensors[file->count];
    tensor->name = name;
    size_t width, bytes, begin;
    if (!read_dtype(json_object_get(value, "dtype"), tensor, &width))
        return sri_fail(error, SR_ERR_FORMAT, file->path, "%s: tensor %.100s has no known dtype",
                        file->path, name);
    if (!read_shape(json_object_get(value, "shape"), tensor) ||
        !sri_size_mul(tensor->count, width, &bytes))
        return sri_fail(error, SR_ERR_FORMAT, file->path, "%s: tensor %.100s has no valid shape",
                        file->path, name);
    size_t available = file->mapping.size - data_start;
    if (!read_offsets(json_object_get(value, "data_offsets"), bytes, available, &begin))
        return sri_fail(
            error, SR_ERR_FORMAT, file->path,
            "%s: tensor %.100s needs %zu bytes that its offsets and the file's size do not give; "
            "the file is truncated or damaged",
            file->path, name, bytes);
    tensor->data = file->mapping.data + data_start + begin;
    if (!sri_map_put(&file->by_name, sr_str_of(name), file->count)) return sri_fail_memory(error);
    file->count++;
    return SR_OK;
}

static sr_status read_header(sri_safetensors *file, sr_error *error) {
    uint64_t length = 0;
    if (file->mapping.size < 8)
        return sri_fail(error, SR_ERR_FORMAT, file->path,
                        "%s has %zu bytes; it is not a safetensors file", file->path,
                        file->mapping.size);
    for (int i = 7; i >= 0; i--) length = length << 8 | file->mapping.data[i];
    if (length > MAX_HEADER && length <= file->mapping.size - 8)
        return sri_fail(error, SR_ERR_LIMIT, file->path,
                        "%s has a header of %llu bytes; at most %llu are read", file->path,
                        (unsigned long long)length, (unsigned long long)MAX_HEADER);
    if (length > file->mapping.size - 8)
        return sri_fail(error, SR_ERR_FORMAT, file->path,
                        "%s says that its header has %llu bytes, but the file has %zu; it is "
                        "truncated or not a "
                        "safetensors file",
                        file->path, (unsigned long long)length, file->mapping.size);
    json_error_t problem;
    file->header = json_loadb((const char *)file->mapping.data + 8, (size_t)length,
                              JSON_REJECT_DUPLICATES, &problem);
    if (!json_is_object(file->header))
        return sri_fail(error, SR_ERR_FORMAT, file->path, "%s: the header is not a JSON object: %s",
                        file->path, file->header == NULL ? problem.text : "another type");
    file->tensors = sri_alloc_zero(json_object_size(file->header), sizeof *file->tensors);
    if (file->tensors == NULL) return sri_fail_memory(error);
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value) {
        if (strcmp(name, "__metadata__") == 0) continue;
        sr_status code = read_tensor(file, name, value, (size_t)length + 8, error);
        if (code != SR_OK) return code;
    }
    return SR_OK;
}

sr_status sri_safetensors_open(const char *path, sri_safetensors **handle, sr_error *error) {
    *handle = NULL;
    sri_safetensors *file = sri_alloc_zero(1, sizeof *file);
    if (file == NULL) return sri_fail_memory(error);
    file->path = sri_strdup(sr_str_of(path));
    sr_status code =
        file->path == NULL ? sri_fail_memory(error) : sri_map_file(path, &file->mapping, error);
    if (code == SR_OK) code = read_header(file, error);
    *handle = file;
    if (code != SR_OK) sri_safetensors_close(handle);
    return code;
}

void sri_safetensors_close(sri_safetensors **handle) {
    sri_safetensors *file = *handle;
    if (file == NULL) return;
    json_decref(file->header);
    sri_map_free(&file->by_name);
    sri_free(file->tensors);
    sri_free(file->path);
    sri_unmap_file(&file->mapping);
    sri_free(file);
    *handle = NULL;
}

const char *sri_safetensors_path(const sri_safetensors *file) { return file->path; }

const sri_tensor *sri_safetensors_find(const sri_safetensors *file, const char *name) {
    uint64_t index;
    return sri_map_get(&file->by_name, sr_str_of(name), &index) ? &file->tensors[index] : NULL;
}

void sri_safetensors_release(const sri_safetensors *file, const sri_tensor *tensor) {
    size_t bytes = tensor->count;
    if (tensor->dtype == SRI_F64 || tensor->dtype == SRI_I64) bytes *= 8;
    if (tensor->dtype == SRI_F32 || tensor->dtype == SRI_I32) bytes *= 4;
    if (tensor->dtype == SRI_F16 || tensor->dtype == SRI_BF16) bytes *= 2;
    sri_mapping_release(&file->mapping, (size_t)(tensor->data - file->mapping.data), bytes);
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31,
             mantissa = half & 1023;
    if (exponent == 31) return from_bits(sign | 0x7F800000 | mantissa << 13);
    if (exponent > 0) return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float small = (float)mantissa * 0x1p-24f; /* a subnormal half */
    return sign != 0 ? -small : small;
}

void sri_tensor_floats(const sri_tensor *tensor, size_t first, size_t count, float *out) {
    if (tensor->dtype == SRI_F32) {
        memcpy(out, tensor->data + first * sizeof *out, count * sizeof *out);
        return;
    }
    for (size_t i = 0; tensor->dtype == SRI_F64 && i < count; i++) {
        double number;
        memcpy(&number, tensor->data + (first + i) * sizeof number, sizeof number);
        out[i] = (float)number;
    }
    if (tensor->dtype == SRI_F64) return;
    for (size_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, tensor->data + (first + i) * sizeof half, sizeof half);
        out[i] = tensor->dtype == SRI_BF16 ? from_bits((uint32_t)half << 16) : from_half(half);
    }
}

int64_t sri_tensor_integer(const sri_tensor *tensor, size_t index) {
    if (tensor->dtype == SRI_I64) {
        int64_t number;
        memcpy(&number, tensor->data + index * sizeof number, sizeof number);
        return number;
    }
    int32_t number;
    memcpy(&number, tensor->data + index * sizeof number, sizeof number);
    return number;
}
