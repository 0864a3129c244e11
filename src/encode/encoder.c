/*
 * encoder.c - the public encoder: a thin front of argument checks over the kinds of encoder.
 *
 * An encoder is immutable once open and safe to share; whatever a kind must guard, it guards
 * itself.
 */
#include "encode/encode.h"

#include "encode/encode_int.h"
#include "model/config.h"

#include <limits.h>
#include <math.h>
#include <string.h>

bool sri_normalise(float *vector, size_t dimension) {
    double sum = 0;
    for (size_t i = 0; i < dimension; i++) sum += (double)vector[i] * vector[i];
    double length = sqrt(sum);
    if (!(length > 0) || !isfinite(length)) return false;
    for (size_t i = 0; i < dimension; i++) vector[i] = (float)(vector[i] / length);
    return true;
}

sr_status sri_check_texts(const sr_str *texts, size_t n, sr_error *error) {
    if (texts == NULL && n > 0)
        return sri_fail(error, SR_ERR_INVALID, "texts", "%zu texts, but none are given", n);
    for (size_t i = 0; i < n; i++) {
        if (texts[i].data == NULL && texts[i].len > 0)
            return sri_fail(error, SR_ERR_INVALID, "texts", "text %zu has no data but length %zu",
                            i, texts[i].len);
        if (texts[i].len > SR_MAX_TEXT_BYTES)
            return sri_fail(error, SR_ERR_LIMIT, "texts",
                            "text %zu has %zu bytes; at most %d are read", i, texts[i].len,
                            SR_MAX_TEXT_BYTES);
    }
    return SR_OK;
}

static sr_status open_model(const sr_encoder_options *options, sr_encoder *encoder,
                            sr_error *error) {
    char directory[PATH_MAX];
    bool is_static = false;
    sr_status code = sri_locate_model(options->model, directory, sizeof directory, error);
    if (code == SR_OK) code = sri_model_is_static(directory, &is_static, error);
    if (code != SR_OK) return code;
    return is_static ? sri_static_encoder_open(options, encoder, error)
                     : sri_transformer_encoder_open(options, encoder, error);
}

static sr_status open_kind(const sr_encoder_options *options, sr_encoder *encoder,
                           sr_error *error) {
    switch (options->kind) {
    case SR_ENCODER_MODEL: return open_model(options, encoder, error);
    case SR_ENCODER_CALLBACK: return sri_callback_encoder_open(options, encoder, error);
    }
    return sri_fail(error, SR_ERR_INVALID, "kind", "there is no encoder kind %d",
                    (int)options->kind);
}

sr_status sr_encoder_open(const sr_encoder_options *given, sr_encoder **handle, sr_error *error) {
    *handle = NULL;
    sr_encoder_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_encoder_options", error);
    if (code != SR_OK) return code;
    if (options.threads < 0 || options.threads > SR_MAX_THREADS)
        return sri_fail(error, SR_ERR_INVALID, "threads",
                        "%d threads were asked for; use 0 (all cores) to %d", options.threads,
                        SR_MAX_THREADS);
    sr_encoder *encoder = sri_alloc_zero(1, sizeof *encoder);
    if (encoder == NULL) return sri_fail_memory(error);
    code = open_kind(&options, encoder, error);
    if (code != SR_OK) {
        sri_free(encoder);
        return code;
    }
    if (options.cache_bytes > 0)
        code =
            sri_cache_open(options.cache_bytes, (size_t)encoder->dimension, &encoder->cache, error);
    if (code == SR_OK)
        *handle = encoder;
    else
        sr_encoder_close(&encoder);
    return code;
}

void sr_encoder_close(sr_encoder **handle) {
    if (handle == NULL || *handle == NULL) return;
    (*handle)->kind->close((*handle)->state);
    sri_cache_close(&(*handle)->cache);
    sri_free(*handle);
    *handle = NULL;
}

int sr_encoder_dimension(const sr_encoder *encoder) { return encoder->dimension; }

const char *sr_encoder_name(const sr_encoder *encoder) { return encoder->name; }

const char *sr_encoder_fingerprint(const sr_encoder *encoder) { return encoder->fingerprint; }

double sri_encoder_operations(const sr_encoder *encoder) { return encoder->operations; }

int sri_encoder_threads(const sr_encoder *encoder) { return encoder->threads; }

sr_status sri_encoder_encode(sr_encoder *encoder, sri_encoding *job, sr_error *error) {
    sr_status code = sri_check_texts(job->texts, job->n, error);
    job->computed = 0;
    if (code != SR_OK || job->n == 0) return code;
    if (encoder->cache != NULL) return sri_cache_encode(encoder->cache, encoder, job, error);
    return encoder->kind->encode(encoder, job, error);
}

sr_status sr_encoder_encode(sr_encoder *encoder, const sr_str *texts, size_t n, float *out,
                            uint8_t *truncated, sr_error *error) {
    sri_encoding job = {.texts = texts, .n = n, .out = out, .truncated = truncated};
    return sri_encoder_encode(encoder, &job, error);
}

sr_status sr_encoder_tokenize(sr_encoder *encoder, sr_str text, int32_t *ids, size_t capacity,
                              size_t *count, uint8_t *truncated, sr_error *error) {
    if (encoder->kind->tokenize == NULL)
        return sri_fail(error, SR_ERR_UNSUPPORTED, encoder->name, "encoder %s has no tokens",
                        encoder->name);
    if (capacity < 2)
        return sri_fail(error, SR_ERR_INVALID, "capacity",
                        "room for %zu ids was given; at least 2 are needed", capacity);
    sr_status code = sri_check_texts(&text, 1, error);
    if (code != SR_OK) return code;
    return encoder->kind->tokenize(encoder, text, ids, capacity, count, truncated, error);
}

sr_status sr_encoder_stats(const sr_encoder *encoder, sr_encoder_counts *counts, sr_error *error) {
    if (counts == NULL || counts->size < sizeof counts->size)
        return sri_fail(error, SR_ERR_INVALID, "sr_encoder_counts",
                        "set size to sizeof(sr_encoder_counts) before the call");
    sr_encoder_counts full = {0};
    sri_cache_counts found = {0};
    if (encoder->cache != NULL) sri_cache_count(encoder->cache, &found);
    full.cache_hits = found.hits;
    full.cache_misses = found.misses;
    full.cache_evictions = found.evictions;
    full.cache_entries = found.entries;
    full.cache_used = found.used;
    full.cache_max = found.max;
    size_t size = counts->size;
    memset(counts, 0, size);
    memcpy(counts, &full, SRI_MIN(size, sizeof full));
    counts->size = size;
    return SR_OK;
}

sr_status sri_encoder_verify(sr_encoder *encoder, sr_error *error) {
    return encoder->kind->verify == NULL ? SR_OK : encoder->kind->verify(encoder, error);
}
