/*
 * transformer.c - the encoder over a local transformer model.
 *
 * A call's texts are a queue. Each task takes texts off it, tokenises them one after another until
 * it holds about TASK_TOKENS tokens, and runs them through the model as one batch in the scratch
 * memory of its slot. So tokenising is spread over the threads too, weights are read from cache
 * once for many tokens, and nothing is allocated. How texts fall into batches is left to chance:
 * vectors do not depend on it. A text that comes alone is led by one thread, and those that are idle
 * share its steps (SR_PROFILE_LATENCY).
 */
#include "encode/encode_int.h"
#include "model/model.h"
#include "text/text.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Enough rows to make reading a layer's weights from cache cheap beside multiplying them. */
#define TASK_TOKENS ((size_t)128)

typedef struct slot {
    sri_scratch *scratch;
    int32_t *ids;   /* [TASK_TOKENS + max_tokens] */
    size_t *start;  /* [TASK_TOKENS + 1] */
    size_t *index;  /* [TASK_TOKENS] which text each row of `vectors` is */
    float *vectors; /* [TASK_TOKENS, dimension] */
} slot;

typedef struct transformer {
    sri_model *model;
    sri_tokenizer *tokenizer;
    sri_pool *pool;
    slot *slots;
    int slot_count;
    sr_pooling pooling;
    sr_profile profile;
    size_t max_tokens;
    char prefix[256];
    char directory[PATH_MAX];
} transformer;

typedef struct job {
    const sr_encoder *encoder;
    const sr_str *texts;
    size_t n, task_tokens;
    float *out;
    uint8_t *truncated;
    atomic_size_t next;       /* the first text that nobody has taken */
    atomic_size_t not_finite; /* 1 + the number of a text whose vector is not finite; 0: none */
} job;

/* Takes texts off the queue until the batch is full; returns their number. */
static size_t fill_batch(job *j, slot *s) {
    const transformer *t = j->encoder->state;
    size_t texts = 0;
    s->start[0] = 0;
    while (texts < TASK_TOKENS && s->start[texts] < j->task_tokens) {
        size_t i = atomic_fetch_add(&j->next, 1);
        if (i >= j->n) break;
        bool truncated;
        size_t count = sri_tokenize(t->tokenizer, sr_str_of(t->prefix), j->texts[i],
                                    s->ids + s->start[texts], t->max_tokens, &truncated);
        if (j->truncated != NULL) j->truncated[i] = truncated;
        s->index[texts] = i;
        s->start[texts + 1] = s->start[texts] + count;
        texts++;
    }
    return texts;
}

static void run_batch(job *j, sri_team *team, int slot_number) {
    const transformer *t = j->encoder->state;
    slot *s = &t->slots[slot_number];
    size_t dimension = (size_t)j->encoder->dimension, texts = fill_batch(j, s);
    if (texts == 0) return;
    sri_batch batch = {s->ids, s->start, texts};
    sri_model_forward(t->model, &batch, t->pooling, s->scratch, team, s->vectors);
    for (size_t i = 0; i < texts; i++) {
        float *vector = s->vectors + i * dimension;
        if (!sri_normalise(vector, dimension)) atomic_store(&j->not_finite, s->index[i] + 1);
        memcpy(j->out + s->index[i] * dimension, vector, dimension * sizeof *vector);
    }
}

static void run_task(void *argument, size_t task, int slot_number) {
    (void)task;
    run_batch(argument, NULL, slot_number);
}

static void lead_task(void *argument, sri_team *team, int slot_number) {
    run_batch(argument, team, slot_number);
}

/* Splits a small call evenly: 430 tokens on two threads are 4 tasks of 108, not 128 + 128 + 128 +
 * 46. */
static size_t choose_task_tokens(const job *j, int threads) {
    size_t bytes = 0;
    for (size_t i = 0; i < j->n; i++) bytes += SRI_MIN(j->texts[i].len, 4096) + 9;
    size_t share = bytes / 4 / (size_t)threads + 1; /* an English token has some 4 to 5 bytes */
    if (share > 16 * TASK_TOKENS) return TASK_TOKENS;
    size_t tasks = (share + TASK_TOKENS - 1) / TASK_TOKENS;
    return (share + tasks - 1) / tasks;
}

static sr_status encode(sr_encoder *encoder, const sr_str *texts, size_t n, float *out,
                        uint8_t *truncated, sr_error *error) {
    transformer *t = encoder->state;
    job j = {.encoder = encoder, .texts = texts, .n = n, .out = out, .truncated = truncated};
    j.task_tokens = choose_task_tokens(&j, encoder->threads);
    if (n == 1 && t->profile == SR_PROFILE_LATENCY) {
        sri_pool_lead(t->pool, lead_task, &j);
    } else {
        /* At most one task a text; those that find the queue empty return at once. */
        sri_pool_run(t->pool, run_task, &j, n);
    }
    size_t bad = atomic_load(&j.not_finite);
    if (bad == 0) return SR_OK;
    return sri_fail(error, SR_ERR_FORMAT, t->directory,
                    "the model in %s gave a vector that is not finite for text %zu of %zu: its "
                    "weights are damaged",
                    t->directory, bad, n);
}

static sr_status tokenize(sr_encoder *encoder, sr_str text, int32_t *ids, size_t capacity,
                          size_t *count, uint8_t *truncated, sr_error *error) {
    (void)error;
    const transformer *t = encoder->state;
    bool cut;
    *count = sri_tokenize(t->tokenizer, sr_str_of(t->prefix), text, ids, capacity, &cut);
    if (truncated != NULL) *truncated = cut;
    return SR_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static void close_slot(slot *s) {
    sri_scratch_close(&s->scratch);
    sri_free(s->ids);
    sri_free(s->start);
    sri_free(s->index);
    sri_free(s->vectors);
}

static void close_transformer(void *argument) {
    transformer *t = argument;
    sri_pool_close(&t->pool);
    for (int i = 0; t->slots != NULL && i < t->slot_count; i++) close_slot(&t->slots[i]);
    sri_free(t->slots);
    sri_tokenizer_close(&t->tokenizer);
    sri_model_close(&t->model);
    sri_free(t);
}

static sr_status open_slots(transformer *t, int threads, sr_error *error) {
    size_t tokens = TASK_TOKENS + t->max_tokens, dimension = sri_model_config(t->model)->hidden;
    t->slots = sri_alloc_zero((size_t)threads, sizeof *t->slots);
    if (t->slots == NULL) return sri_fail_memory(error);
    t->slot_count = threads;
    for (int i = 0; i < threads; i++) {
        slot *s = &t->slots[i];
        sr_status code = sri_scratch_open(t->model, tokens, t->max_tokens, &s->scratch, error);
        if (code != SR_OK) return code;
        s->ids = sri_alloc_array(tokens, sizeof *s->ids);
        s->start = sri_alloc_array(TASK_TOKENS + 1, sizeof *s->start);
        s->index = sri_alloc_array(TASK_TOKENS, sizeof *s->index);
        s->vectors = sri_alloc_array(TASK_TOKENS * dimension, sizeof *s->vectors);
        if (!s->ids || !s->start || !s->index || !s->vectors) return sri_fail_memory(error);
    }
    return SR_OK;
}

static sr_status file_digest(const transformer *t, const char *name, const char *stored,
                             char hex[65], sr_error *error) {
    char path[PATH_MAX];
    if (stored[0] != '\0') {
        snprintf(hex, 65, "%s", stored);
        return SR_OK;
    }
    sri_log(SR_LOG_INFO, "%s has no stored digest of %s; computing it", t->directory, name);
    sr_status code = sri_join_path(path, sizeof path, t->directory, name, error);
    return code == SR_OK ? sri_sha256_file(path, hex, error) : code;
}

/* Digest of all that the vectors depend on. The first line changes when our own computation does.
 * */
static sr_status make_fingerprint(const transformer *t, const sri_description *description,
                                  char hex[65], sr_error *error) {
    char weights[65], tokenizer[65], config[65], text[1024];
    sr_status code =
        file_digest(t, "model.safetensors", description->weights_sha256, weights, error);
    if (code == SR_OK)
        code = file_digest(t, "tokenizer.json", description->tokenizer_sha256, tokenizer, error);
    if (code == SR_OK)
        code = file_digest(t, "config.json", description->config_sha256, config, error);
    if (code != SR_OK) return code;
    int len = snprintf(text, sizeof text, "synaptoroute transformer 1\n%s\n%s\n%s\n%d\n%zu\n%s",
                       weights, tokenizer, config, (int)t->pooling, t->max_tokens, t->prefix);
    sri_sha256 sha;
    sri_sha256_init(&sha);
    sri_sha256_update(&sha, text, (size_t)len);
    sri_sha256_hex(&sha, hex);
    return SR_OK;
}

/* Pooling, prefix and length: the caller's word first, then the model's. */
static sr_status settle(transformer *t, const sr_encoder_options *options,
                        const sri_description *description, sr_error *error) {
    size_t positions = sri_model_config(t->model)->positions;
    t->pooling = options->pooling == SR_POOLING_MODEL ? description->pooling : options->pooling;
    if (t->pooling != SR_POOLING_CLS && t->pooling != SR_POOLING_MEAN)
        return sri_fail(error, SR_ERR_INVALID, "pooling", "there is no pooling %d",
                        (int)t->pooling);
    t->profile = options->profile;
    if (t->profile != SR_PROFILE_LATENCY && t->profile != SR_PROFILE_THROUGHPUT)
        return sri_fail(error, SR_ERR_INVALID, "profile", "there is no profile %d",
                        (int)t->profile);
    const char *prefix = options->prefix == NULL ? description->prefix : options->prefix;
    if (strlen(prefix) >= sizeof t->prefix)
        return sri_fail(error, SR_ERR_LIMIT, "prefix", "the prefix has %zu bytes; at most %zu",
                        strlen(prefix), sizeof t->prefix - 1);
    snprintf(t->prefix, sizeof t->prefix, "%s", prefix);
    if (options->max_tokens != 0 &&
        (options->max_tokens < 2 || (size_t)options->max_tokens > positions))
        return sri_fail(error, SR_ERR_INVALID, "max_tokens",
                        "max_tokens %d is not from 2 to the model's %zu", options->max_tokens,
                        positions);
    size_t wanted =
        options->max_tokens != 0 ? (size_t)options->max_tokens : description->max_tokens;
    t->max_tokens = wanted == 0 ? positions : SRI_MIN(wanted, positions);
    return SR_OK;
}

static sr_status open_files(transformer *t, const sr_encoder_options *options,
                            sri_description *description, sr_error *error) {
    char path[PATH_MAX];
    sr_status code = sri_locate_model(options->model, t->directory, sizeof t->directory, error);
    if (code == SR_OK) code = sri_description_read(t->directory, description, error);
    if (code == SR_OK)
        code = sri_join_path(path, sizeof path, t->directory, "tokenizer.json", error);
    if (code == SR_OK) code = sri_tokenizer_open(path, &t->tokenizer, error);
    if (code == SR_OK) code = sri_model_open(t->directory, SRI_WEIGHTS_AS_STORED, &t->model, error);
    if (code != SR_OK) return code;
    size_t ids = sri_tokenizer_vocabulary(t->tokenizer),
           words = sri_model_config(t->model)->vocabulary;
    if (ids <= words) return SR_OK;
    return sri_fail(error, SR_ERR_FORMAT, t->directory,
                    "%s: tokenizer.json has ids up to %zu, but the model has %zu embeddings; the "
                    "files do not belong "
                    "together",
                    t->directory, ids - 1, words);
}

static void name_after_directory(const char *directory, char *name, size_t capacity) {
    char real[PATH_MAX];
    const char *path = realpath(directory, real) == NULL ? directory : real;
    const char *slash = strrchr(path, '/');
    const char *last = slash == NULL || slash[1] == '\0' ? path : slash + 1;
    snprintf(name, capacity, "%.*s", (int)capacity - 1, last);
}

static sr_status verify(sr_encoder *encoder, sr_error *error) {
    static const char *const names[] = {"model.safetensors", "tokenizer.json", "config.json"};
    const transformer *t = encoder->state;
    sri_description description;
    sr_status code = sri_description_read(t->directory, &description, error);
    const char *stored[] = {description.weights_sha256, description.tokenizer_sha256,
                            description.config_sha256};
    for (size_t i = 0; code == SR_OK && i < SRI_COUNT(names); i++) {
        char path[PATH_MAX], actual[65];
        if (stored[i][0] == '\0') continue;
        code = sri_join_path(path, sizeof path, t->directory, names[i], error);
        if (code == SR_OK) code = sri_sha256_file(path, actual, error);
        if (code == SR_OK && strcmp(actual, stored[i]) != 0)
            code = sri_fail(
                error, SR_ERR_FORMAT, path,
                "%s has sha256 %s, but synaptoroute.json records %s: fetch the model again", path,
                actual, stored[i]);
    }
    return code;
}

sr_status sri_transformer_encoder_open(const sr_encoder_options *options, sr_encoder *encoder,
                                       sr_error *error) {
    static const encoder_kind kind = {encode, tokenize, verify, close_transformer};
    transformer *t = sri_alloc_zero(1, sizeof *t);
    if (t == NULL) return sri_fail_memory(error);
    int threads =
        options->threads == 0 ? SRI_MIN(sri_cpu_count(), SR_MAX_THREADS) : options->threads;
    sri_description description;
    sr_status code = open_files(t, options, &description, error);
    if (code == SR_OK) code = settle(t, options, &description, error);
    if (code == SR_OK) code = make_fingerprint(t, &description, encoder->fingerprint, error);
    if (code == SR_OK) code = open_slots(t, threads, error);
    if (code == SR_OK) code = sri_pool_open(threads, &t->pool, error);
    if (code != SR_OK) {
        close_transformer(t);
        return code;
    }
    encoder->kind = &kind;
    encoder->state = t;
    encoder->dimension = (int)sri_model_config(t->model)->hidden;
    encoder->threads = threads;
    name_after_directory(t->directory, encoder->name, sizeof encoder->name);
    return SR_OK;
}
