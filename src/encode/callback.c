/*
 * callback.c - the encoder whose vectors a function of the caller makes.
 *
 * Calls are serialised by a mutex, so that the function need not be thread-safe. What it returns is
 * checked (a NaN would poison every comparison) and normalised.
 */
#include "encode/encode_int.h"

#include <pthread.h>
#include <string.h>

typedef struct callback_state {
    sr_encode_fn *function;
    void *user;
    pthread_mutex_t mutex;
} callback_state;

static sr_status encode(sr_encoder *encoder, sri_encoding *job, sr_error *error) {
    callback_state *state = encoder->state;
    size_t n = job->n, dimension = (size_t)encoder->dimension;
    pthread_mutex_lock(&state->mutex);
    int result = state->function(state->user, job->texts, n, job->out);
    pthread_mutex_unlock(&state->mutex);
    if (result != 0)
        return sri_fail(error, SR_ERR_CALLBACK, encoder->name,
                        "encoder %s failed with %d on %zu texts", encoder->name, result, n);
    for (size_t i = 0; i < n; i++)
        if (!sri_normalise(job->out + i * dimension, dimension))
            return sri_fail(
                error, SR_ERR_CALLBACK, encoder->name,
                "encoder %s gave a vector that is zero or not finite for text %zu of %zu",
                encoder->name, i + 1, n);
    if (job->truncated != NULL) memset(job->truncated, 0, n);
    if (job->tokens != NULL) memset(job->tokens, 0, n * sizeof *job->tokens);
    return SR_OK;
}

static void close_callback(void *argument) {
    callback_state *state = argument;
    pthread_mutex_destroy(&state->mutex);
    sri_free(state);
}

static void fingerprint(const sr_encoder *encoder, char hex[65]) {
    char text[192];
    int len = snprintf(text, sizeof text, "callback\n%s\n%d", encoder->name, encoder->dimension);
    sri_sha256 sha;
    sri_sha256_init(&sha);
    sri_sha256_update(&sha, text, (size_t)len);
    sri_sha256_hex(&sha, hex);
}

sr_status sri_callback_encoder_open(const sr_encoder_options *options, sr_encoder *encoder,
                                    sr_error *error) {
    static const encoder_kind kind = {.encode = encode, .close = close_callback};
    if (options->encode == NULL)
        return sri_fail(error, SR_ERR_INVALID, "encode", "a callback encoder needs its function");
    if (options->dimension < 8 || options->dimension > 4096)
        return sri_fail(error, SR_ERR_INVALID, "dimension", "dimension %d is not from 8 to 4096",
                        options->dimension);
    if (options->identity == NULL || options->identity[0] == '\0' ||
        strlen(options->identity) >= sizeof encoder->name)
        return sri_fail(error, SR_ERR_INVALID, "identity",
                        "a callback encoder needs an identity of 1 to %zu bytes, so that its "
                        "vectors are never mixed "
                        "with another model's",
                        sizeof encoder->name - 1);
    callback_state *state = sri_alloc_zero(1, sizeof *state);
    if (state == NULL) return sri_fail_memory(error);
    state->function = options->encode;
    state->user = options->user;
    pthread_mutex_init(&state->mutex, NULL);
    encoder->kind = &kind;
    encoder->state = state;
    encoder->dimension = options->dimension;
    encoder->threads = 1;
    snprintf(encoder->name, sizeof encoder->name, "%s", options->identity);
    fingerprint(encoder, encoder->fingerprint);
    return SR_OK;
}
