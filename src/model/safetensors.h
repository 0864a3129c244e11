/*
 * safetensors.h - reading of safetensors files: a mapped file and a table of its tensors.
 */
#ifndef SRI_SAFETENSORS_H
#define SRI_SAFETENSORS_H

#include "base/base.h"

typedef enum sri_dtype {
    SRI_F32,
    SRI_F16,
    SRI_BF16,
    SRI_F64,
    SRI_I8,
    SRI_I32,
    SRI_I64,
    SRI_OTHER_DTYPE
} sri_dtype;

#define SRI_MAX_RANK 4

typedef struct sri_tensor {
    const char *name; /* lives with the file, as data */
    sri_dtype dtype;
    int rank;
    size_t shape[SRI_MAX_RANK];
    size_t count; /* elements */
    const uint8_t *data;
} sri_tensor;

typedef struct sri_safetensors sri_safetensors;

/* Maps the file and checks the whole header: every tensor lies inside the file and has as many
 * bytes as its shape says. SR_ERR_FORMAT otherwise. */
SR_MUST_CHECK sr_status sri_safetensors_open(const char *path, sri_safetensors **file,
                                             sr_error *error);
void sri_safetensors_close(sri_safetensors **file);
const char *sri_safetensors_path(const sri_safetensors *file);

/* NULL when there is none. */
const sri_tensor *sri_safetensors_find(const sri_safetensors *file, const char *name);

/* Tells the system that this tensor's pages will not be read again soon. */
void sri_safetensors_release(const sri_safetensors *file, const sri_tensor *tensor);

/* Copies elements [first, first + count) as floats; the tensor must be of a floating-point type. */
void sri_tensor_floats(const sri_tensor *tensor, size_t first, size_t count, float *out);

/* One element of a tensor of I32 or I64. */
int64_t sri_tensor_integer(const sri_tensor *tensor, size_t index);

#endif
