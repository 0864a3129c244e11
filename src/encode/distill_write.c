/*
 * distill_write.c - a static model as files: Model2Vec's layout, and synaptoroute.json beside it.
 *
 * Everything is written into a new directory beside the wanted one, which is renamed at the end, so
 * that nobody ever opens half a model.
 */
#include "encode/distill_write.h"

#include "model/config.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TOKENIZER ((size_t)64 << 20)

static const char *const file_names[] = {"config.json", "tokenizer.json", "model.safetensors",
                                         "synaptoroute.json"};

static sr_status write_file(const char *directory, const char *name, const void *bytes, size_t len,
                            sr_error *error) {
    char path[PATH_MAX];
    sr_status code = sri_join_path(path, sizeof path, directory, name, error);
    if (code != SR_OK) return code;
    FILE *file = fopen(path, "wbe");
    if (file == NULL) return sri_fail_errno(error, errno, path, "cannot write %s", path);
    bool done = fwrite(bytes, 1, len, file) == len && fflush(file) == 0 && fsync(fileno(file)) == 0;
    int saved = errno;
    if (fclose(file) != 0 && done) {
        done = false;
        saved = errno;
    }
    return done ? SR_OK : sri_fail_errno(error, saved, path, "cannot write %s", path);
}

static sr_status write_json(const char *directory, const char *name, const json_t *object,
                            sr_error *error) {
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2));
    if (text == NULL) return sri_fail_memory(error);
    size_t len = strlen(text);
    text[len] = '\n'; /* in the place of the terminator */
    sr_status code = write_file(directory, name, text, len + 1, error);
    free(text);
    return code;
}

static sr_status write_config(const sri_static_output *what, const char *directory,
                              sr_error *error) {
    json_t *config = json_pack("{s:s, s:[s], s:s, s:I, s:f, s:I, s:b, s:i, s:s}", "model_type",
                               "model2vec", "architectures", "StaticModel", "tokenizer_name",
                               what->teacher, "apply_pca", (json_int_t)what->dimension,
                               "sif_coefficient", 1e-4, "hidden_dim", (json_int_t)what->dimension,
                               "normalize", 1, "max_length", 512, "embedding_dtype", "int8");
    sr_status code = write_json(directory, "config.json", config, error);
    json_decref(config);
    return code;
}

static sr_status copy_tokenizer(const sri_static_output *what, const char *directory,
                                sr_error *error) {
    sri_buffer text = {0};
    sr_status code = sri_read_file(what->tokenizer, MAX_TOKENIZER, &text, error);
    if (code == SR_OK) code = write_file(directory, "tokenizer.json", text.data, text.len, error);
    sri_buffer_free(&text);
    return code;
}

/* Symmetric: the largest coordinate becomes 127. */
static float quantise(const float *row, size_t dimension, int8_t *out) {
    float largest = 0;
    for (size_t d = 0; d < dimension; d++) largest = fmaxf(largest, fabsf(row[d]));
    float scale = largest > 0 ? largest / 127.0f : 1.0f;
    for (size_t d = 0; d < dimension; d++)
        out[d] = (int8_t)fminf(fmaxf(rintf(row[d] / scale), -127.0f), 127.0f);
    return scale;
}

static void put_little_endian(float value, char *out) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    for (int i = 0; i < 4; i++) out[i] = (char)(bits >> (8 * i) & 0xFF);
}

static sr_status write_weights(const sri_static_output *what, const char *directory,
                               sr_error *error) {
    size_t cells = what->tokens * what->dimension, bytes = cells + what->tokens * sizeof(float);
    char header[512];
    int len = snprintf(header, sizeof header,
                       "{\"embeddings\":{\"dtype\":\"I8\",\"shape\":[%zu,%zu],\"data_offsets\":[0,"
                       "%zu]},\"weights\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,"
                       "%zu]}}",
                       what->tokens, what->dimension, cells, what->tokens, cells, bytes);
    /* Padded, so that rows begin at a cache line. */
    size_t start = ((size_t)len + 8 + 63) / 64 * 64;
    char *file = sri_alloc(start + bytes);
    if (file == NULL) return sri_fail_memory(error);
    memset(file, ' ', start);
    for (size_t i = 0; i < 8; i++) file[i] = (char)((uint64_t)(start - 8) >> (8 * i) & 0xFF);
    memcpy(file + 8, header, (size_t)len);
    for (size_t t = 0; t < what->tokens; t++) {
        int8_t *row = (int8_t *)file + start + t * what->dimension;
        float scale = quantise(what->rows + t * what->dimension, what->dimension, row);
        put_little_endian(scale, file + start + cells + t * sizeof scale);
    }
    sr_status code = write_file(directory, "model.safetensors", file, start + bytes, error);
    sri_free(file);
    return code;
}

static sr_status describe_file(const char *directory, const char *name, json_t *files,
                               sr_error *error) {
    char path[PATH_MAX], digest[65];
    struct stat status;
    sr_status code = sri_join_path(path, sizeof path, directory, name, error);
    if (code == SR_OK) code = sri_sha256_file(path, digest, error);
    if (code != SR_OK) return code;
    if (stat(path, &status) != 0) return sri_fail_errno(error, errno, path, "cannot read %s", path);
    json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)status.st_size, "sha256", digest);
    return json_object_set_new(files, name, entry) == 0 ? SR_OK : sri_fail_memory(error);
}

static sr_status write_description(const sri_static_output *what, const char *directory,
                                   sr_error *error) {
    char source[512];
    const char *slash = strrchr(what->output, '/');
    snprintf(source, sizeof source, "distilled from %s (fingerprint %s)%s", what->teacher,
             what->fingerprint, what->texts > 0 ? ", fitted to its vectors of texts" : "");
    json_t *files = json_object();
    json_t *object = json_pack("{s:i, s:s, s:s, s:b, s:s, s:i, s:s, s:I, s:o}", "format", 1, "name",
                               slash == NULL ? what->output : slash + 1, "pooling", "mean",
                               "normalize", 1, "prefix", "", "max_tokens", 512, "source", source,
                               "texts", (json_int_t)what->texts, "files", files);
    sr_status code = object == NULL ? sri_fail_memory(error) : SR_OK;
    for (size_t i = 0; code == SR_OK && i + 1 < SRI_COUNT(file_names); i++)
        code = describe_file(directory, file_names[i], files, error);
    if (code == SR_OK) code = write_json(directory, "synaptoroute.json", object, error);
    json_decref(object);
    return code;
}

static void remove_directory(const char *directory) {
    char path[PATH_MAX];
    for (size_t i = 0; i < SRI_COUNT(file_names); i++)
        if (sri_join_path(path, sizeof path, directory, file_names[i], NULL) == SR_OK) unlink(path);
    rmdir(directory);
}

static sr_status write_files(const sri_static_output *what, const char *directory,
                             sr_error *error) {
    sr_status code = write_config(what, directory, error);
    if (code == SR_OK) code = copy_tokenizer(what, directory, error);
    if (code == SR_OK) code = write_weights(what, directory, error);
    if (code == SR_OK) code = write_description(what, directory, error);
    if (code == SR_OK && rename(directory, what->output) != 0)
        code = sri_fail_errno(error, errno, what->output, "cannot make the directory %s",
                              what->output);
    return code;
}

sr_status sri_static_write(const sri_static_output *what, sr_error *error) {
    char directory[PATH_MAX];
    int len = snprintf(directory, sizeof directory, "%s.%08x.tmp", what->output,
                       (unsigned)sri_random_seed());
    if (len < 0 || (size_t)len >= sizeof directory)
        return sri_fail(error, SR_ERR_LIMIT, "output", "the path %.100s... is too long",
                        what->output);
    if (mkdir(directory, 0777) != 0)
        return sri_fail_errno(error, errno, what->output, "cannot make a directory beside %s",
                              what->output);
    sr_status code = write_files(what, directory, error);
    if (code != SR_OK) remove_directory(directory);
    return code;
}
