/*
 * static.c - the encoder over static embeddings: tokenise, add up rows, scale to length 1.
 *
 * A text takes less than a microsecond, which decides everything here. Few texts are encoded on the
 * calling thread without touching the pool, whose mutex alone would cost as much as a text; many
 * are cut into tasks of CHUNK texts. What a text needs lies on the stack, so that nothing is
 * allocated and any number of threads may encode at once.
 */
#include "encode/encode_int.h"
#include "encode/local_files.h"
#include "model/static_model.h"
#include "text/text.h"

#include <stdatomic.h>
#include <string.h>

/* Long enough that handing out a task is nothing beside it: some 150 microseconds. */
#define CHUNK ((size_t)256)

typedef struct static_encoder {
    sri_static_model *model;
    sri_tokenizer *tokenizer;
    sri_pool *pool; /* NULL with one thread */
    int32_t unknown;
    size_t max_tokens;
    char prefix[256];
    local_files files;
} static_encoder;

typedef struct job {
    const sr_encoder *encoder;
    const sri_encoding *of;
    atomic_size_t computed;   /* tokens */
    atomic_size_t not_finite; /* 1 + the number of a text whose vector is not finite; 0: none */
} job;

static void encode_range(job *j, size_t first, size_t end) {
    const static_encoder *s = j->encoder->state;
    size_t dimension = (size_t)j->encoder->dimension;
    sr_str prefix = sr_str_of(s->prefix);
    const sri_encoding *of = j->of;
    size_t sum = 0;
    int32_t ids[SRI_STATIC_TOKENS_MAX];
    for (size_t i = first; i < end; i++) {
        bool cut;
        size_t count =
            sri_tokenize_bare(s->tokenizer, prefix, of->texts[i], ids, s->max_tokens, &cut);
        if (!sri_static_model_embed(s->model, ids, count, s->unknown, of->out + i * dimension))
            atomic_store(&j->not_finite, i + 1);
        if (of->truncated != NULL) of->truncated[i] = cut;
        if (of->tokens != NULL) of->tokens[i] = (uint32_t)count;
        sum += count;
    }
    atomic_fetch_add(&j->computed, sum);
}

static void run_task(void *argument, size_t task, int slot) {
    (void)slot;
    job *j = argument;
    encode_range(j, task * CHUNK, SRI_MIN((task + 1) * CHUNK, j->of->n));
}

static sr_status encode(sr_encoder *encoder, sri_encoding *of, sr_error *error) {
    static_encoder *s = encoder->state;
    job j = {.encoder = encoder, .of = of};
    size_t n = of->n;
    if (s->pool == NULL || n <= CHUNK || of->alone)
        encode_range(&j, 0, n);
    else
        sri_pool_run(s->pool, run_task, &j, (n + CHUNK - 1) / CHUNK);
    of->computed = atomic_load(&j.computed);
    size_t bad = atomic_load(&j.not_finite);
    if (bad == 0) return SR_OK;
    return sri_fail(error, SR_ERR_FORMAT, s->files.directory,
                    "the model in %s gave a vector that is not finite for text %zu of %zu: its "
                    "weights are damaged",
                    s->files.directory, bad, n);
}

static sr_status tokenize(sr_encoder *encoder, sr_str text, int32_t *ids, size_t capacity,
                          size_t *count, uint8_t *truncated, sr_error *error) {
    (void)error;
    const static_encoder *s = encoder->state;
    bool cut;
    *count = sri_tokenize_bare(s->tokenizer, sr_str_of(s->prefix), text, ids, capacity, &cut);
    if (truncated != NULL) *truncated = cut;
    return SR_OK;
}

static sr_status verify(sr_encoder *encoder, sr_error *error) {
    const static_encoder *s = encoder->state;
    return sri_local_verify(s->files.directory, error);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void close_static(void *argument) {
    static_encoder *s = argument;
    sri_pool_close(&s->pool);
    sri_tokenizer_close(&s->tokenizer);
    sri_static_model_close(&s->model);
    sri_free(s);
}

static sr_status open_files(static_encoder *s, const sr_encoder_options *options, sr_error *error) {
    sr_status code = sri_local_open(options->model, &s->files, error);
    if (code == SR_OK) code = sri_static_model_open(s->files.directory, &s->model, error);
    if (code == SR_OK)
        code = sri_local_tokenizer(&s->files, sri_static_model_ids(s->model), &s->tokenizer, error);
    if (code == SR_OK)
        code = sri_local_prefix(&s->files, options->prefix, s->prefix, sizeof s->prefix, error);
    return code;
}

static sr_status settle(static_encoder *s, const sr_encoder_options *options, sr_error *error) {
    if (options->pooling != SR_POOLING_MODEL && options->pooling != SR_POOLING_MEAN)
        return sri_fail(error, SR_ERR_INVALID, "pooling",
                        "%s is a static model: the mean is its only pooling", s->files.directory);
    if (options->profile != SR_PROFILE_LATENCY && options->profile != SR_PROFILE_THROUGHPUT)
        return sri_fail(error, SR_ERR_INVALID, "profile", "there is no profile %d",
                        (int)options->profile);
    if (options->max_tokens != 0 &&
        (options->max_tokens < 2 || (size_t)options->max_tokens > SRI_STATIC_TOKENS_MAX))
        return sri_fail(error, SR_ERR_INVALID, "max_tokens", "max_tokens %d is not from 2 to %zu",
                        options->max_tokens, SRI_STATIC_TOKENS_MAX);
    size_t wanted =
        options->max_tokens != 0 ? (size_t)options->max_tokens : s->files.description.max_tokens;
    s->max_tokens = SRI_MIN(wanted == 0 ? sri_static_model_max_tokens(s->model) : wanted,
                            SRI_STATIC_TOKENS_MAX);
    s->unknown = sri_tokenizer_unknown(s->tokenizer);
    return SR_OK;
}

static sr_status make_fingerprint(const static_encoder *s, char hex[65], sr_error *error) {
    char settings[320];
    snprintf(settings, sizeof settings, "%zu\n%s", s->max_tokens, s->prefix);
    return sri_local_fingerprint(&s->files, "synaptoroute static 1", settings, hex, error);
}

sr_status sri_static_encoder_open(const sr_encoder_options *options, sr_encoder *encoder,
                                  sr_error *error) {
    static const encoder_kind kind = {encode, tokenize, verify, close_static};
    static_encoder *s = sri_alloc_zero(1, sizeof *s);
    if (s == NULL) return sri_fail_memory(error);
    int threads =
        options->threads == 0 ? SRI_MIN(sri_cpu_count(), SR_MAX_THREADS) : options->threads;
    sr_status code = open_files(s, options, error);
    if (code == SR_OK) code = settle(s, options, error);
    if (code == SR_OK) code = make_fingerprint(s, encoder->fingerprint, error);
    if (code == SR_OK && threads > 1) code = sri_pool_open(threads, &s->pool, error);
    if (code != SR_OK) {
        close_static(s);
        return code;
    }
    encoder->kind = &kind;
    encoder->state = s;
    encoder->dimension = (int)sri_static_model_dimension(s->model);
    encoder->threads = threads;
    sri_local_name(s->files.directory, encoder->name, sizeof encoder->name);
    return SR_OK;
}
