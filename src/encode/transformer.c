/*
 * transformer.c - the encoder over a local transformer model.
 *
 * A call's texts are a queue. Each task takes texts off it, tokenises them one after another until
 * it holds about TASK_TOKENS tokens, and runs them through the model as one batch in the scratch
 * memory of its slot. So tokenising is spread over the threads too, weights are read from cache
 * once for many tokens, and nothing is allocated. How texts fall into batches is left to chance:
 * vectors do not depend on it. A text that comes alone is led by one thread, and those that are idle
 * share its steps (SR_PROFILE_LATENCY). Callers that are as many as the cores (the router's queue) each run
 * their own batch (`alone`), so that nobody waits at the end of a batch for others.
 */
#include "encode/encode_int.h"
#include "encode/local_files.h"
#include "model/model.h"
#include "text/text.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Enough rows to make reading a layer's weights from cache cheap beside multiplying them. */
#define TASK_TOKENS ((size_t)128)
/* Of a caller that keeps to its thread: it has cut its texts into batches by itself. */
#define LONE_TOKENS ((size_t)256)

typedef struct slot {
    sri_scratch *scratch;
    int32_t *ids;   /* [LONE_TOKENS + max_tokens] */
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
    local_files files;
    atomic_bool begun; /* a call has come */
} transformer;

typedef struct job {
    const sr_encoder *encoder;
    const sri_encoding *of;
    size_t task_tokens;
    atomic_size_t computed;   /* tokens */
    atomic_size_t next;       /* the first text that nobody has taken */
    atomic_size_t not_finite; /* 1 + the number of a text whose vector is not finite; 0: none */
} job;

/* Takes texts off the queue until the batch is full; returns their number. */
static size_t fill_batch(job *j, slot *s) {
    const transformer *t = j->encoder->state;
    const sri_encoding *of = j->of;
    size_t texts = 0;
    s->start[0] = 0;
    while (texts < TASK_TOKENS && s->start[texts] < j->task_tokens) {
        size_t i = atomic_fetch_add(&j->next, 1);
        if (i >= of->n) break;
        bool truncated;
        size_t count = sri_tokenize(t->tokenizer, sr_str_of(t->prefix), of->texts[i],
                                    s->ids + s->start[texts], t->max_tokens, &truncated);
        if (of->truncated != NULL) of->truncated[i] = truncated;
        if (of->tokens != NULL) of->tokens[i] = (uint32_t)count;
        s->index[texts] = i;
        s->start[texts + 1] = s->start[texts] + count;
        texts++;
    }
    return texts;
}

/* False when there was none left. */
static bool run_batch(job *j, sri_team *team, int slot_number) {
    const transformer *t = j->encoder->state;
    slot *s = &t->slots[slot_number];
    size_t dimension = (size_t)j->encoder->dimension, texts = fill_batch(j, s);
    if (texts == 0) return false;
    atomic_fetch_add(&j->computed, s->start[texts]);
    sri_batch batch = {s->ids, s->start, texts};
    sri_model_forward(t->model, &batch, t->pooling, s->scratch, team, s->vectors);
    for (size_t i = 0; i < texts; i++) {
        float *vector = s->vectors + i * dimension;
        if (!sri_normalise(vector, dimension)) atomic_store(&j->not_finite, s->index[i] + 1);
        memcpy(j->of->out + s->index[i] * dimension, vector, dimension * sizeof *vector);
    }
    return true;
}

static void run_task(void *argument, size_t task, int slot_number) {
    (void)task;
    (void)run_batch(argument, NULL, slot_number);
}

static void run_alone(void *argument, size_t task, int slot_number) {
    (void)task;
    while (run_batch(argument, NULL, slot_number)) {
    }
}

static void lead_task(void *argument, sri_team *team, int slot_number) {
    (void)run_batch(argument, team, slot_number);
}

static size_t guess_tokens(const job *j) {
    size_t guess = 0;
    for (size_t i = 0; i < j->of->n; i++) guess += sri_guess_tokens(j->of->texts[i].len);
    return guess;
}

/* Splits a small call evenly: 430 tokens on two threads are 4 tasks of 108, not 128 + 128 + 128 +
 * 46. */
static size_t choose_task_tokens(const job *j, int threads) {
    size_t share = guess_tokens(j) / (size_t)threads + 1;
    if (share > 16 * TASK_TOKENS) return TASK_TOKENS;
    size_t tasks = (share + TASK_TOKENS - 1) / TASK_TOKENS;
    return (share + tasks - 1) / tasks;
}

/* Weights are packed for all texts to come, unless this may be the only one. */
static sr_status prepare(transformer *t, const sri_encoding *of, sr_error *error) {
    bool first = !atomic_load(&t->begun) && !atomic_exchange(&t->begun, true);
    if (first && of->n == 1 && !of->alone && sri_model_runs_unpacked(t->model)) return SR_OK;
    return sri_model_pack(t->model, t->pool, error);
}

/* Batches of about TASK_TOKENS, none with a few texts left over: a guess that is somewhat too low must not make one
 * more. */
static size_t choose_lone_tokens(const job *j) {
    size_t guess = guess_tokens(j), tasks = (guess + TASK_TOKENS / 2) / TASK_TOKENS;
    if (tasks < 2) return LONE_TOKENS;
    return SRI_MIN(guess / tasks + TASK_TOKENS / 4, LONE_TOKENS);
}

static sr_status encode(sr_encoder *encoder, sri_encoding *of, sr_error *error) {
    transformer *t = encoder->state;
    job j = {.encoder = encoder, .of = of};
    size_t n = of->n;
    sr_status code = prepare(t, of, error);
    if (code != SR_OK) return code;
    j.task_tokens = of->alone ? choose_lone_tokens(&j) : choose_task_tokens(&j, encoder->threads);
    if (of->alone) {
        sri_pool_run(t->pool, run_alone, &j, 1);
    } else if (n == 1 && t->profile == SR_PROFILE_LATENCY) {
        sri_pool_lead(t->pool, lead_task, &j);
    } else {
        /* At most one task a text; those that find the queue empty return at once. */
        sri_pool_run(t->pool, run_task, &j, n);
    }
    of->computed = atomic_load(&j.computed);
    size_t bad = atomic_load(&j.not_finite);
    if (bad == 0) return SR_OK;
    return sri_fail(error, SR_ERR_FORMAT, t->files.directory,
                    "the model in %s gave a vector that is not finite for text %zu of %zu: its "
                    "weights are damaged",
                    t->files.directory, bad, n);
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
    size_t tokens = LONE_TOKENS + t->max_tokens, dimension = sri_model_config(t->model)->hidden;
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

static sr_status make_fingerprint(const transformer *t, char hex[65], sr_error *error) {
    char settings[320];
    snprintf(settings, sizeof settings, "%d\n%zu\n%s", (int)t->pooling, t->max_tokens, t->prefix);
    return sri_local_fingerprint(&t->files, "synaptoroute transformer 2", settings, hex, error);
}

/* Pooling, prefix and length: the caller's word first, then the model's. */
static sr_status settle(transformer *t, const sr_encoder_options *options, sr_error *error) {
    const sri_description *description = &t->files.description;
    size_t positions = sri_model_config(t->model)->positions;
    t->pooling = options->pooling == SR_POOLING_MODEL ? description->pooling : options->pooling;
    if (t->pooling != SR_POOLING_CLS && t->pooling != SR_POOLING_MEAN)
        return sri_fail(error, SR_ERR_INVALID, "pooling", "there is no pooling %d",
                        (int)t->pooling);
    t->profile = options->profile;
    if (t->profile != SR_PROFILE_LATENCY && t->profile != SR_PROFILE_THROUGHPUT)
        return sri_fail(error, SR_ERR_INVALID, "profile", "there is no profile %d",
                        (int)t->profile);
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

static sr_status open_files(transformer *t, const sr_encoder_options *options, sr_error *error) {
    sr_status code = sri_local_open(options->model, &t->files, error);
    if (code == SR_OK)
        code = sri_model_open(t->files.directory, SRI_WEIGHTS_AS_STORED, &t->model, error);
    if (code == SR_OK)
        code = sri_local_tokenizer(&t->files, sri_model_config(t->model)->vocabulary, &t->tokenizer,
                                   error);
    return code;
}

static sr_status verify(sr_encoder *encoder, sr_error *error) {
    const transformer *t = encoder->state;
    return sri_local_verify(t->files.directory, error);
}

/* Of queries, keys, values, attention's output and the two products of the feed-forward layers. */
static double operations_a_token(const sri_config *c) {
    return 2.0 *
           (double)(c->layers * (4 * c->hidden * c->hidden + 2 * c->hidden * c->intermediate));
}

sr_status sri_transformer_encoder_open(const sr_encoder_options *options, sr_encoder *encoder,
                                       sr_error *error) {
    static const encoder_kind kind = {encode, tokenize, verify, close_transformer};
    transformer *t = sri_alloc_zero(1, sizeof *t);
    if (t == NULL) return sri_fail_memory(error);
    int threads =
        options->threads == 0 ? SRI_MIN(sri_cpu_count(), SR_MAX_THREADS) : options->threads;
    sr_status code = open_files(t, options, error);
    if (code == SR_OK) code = settle(t, options, error);
    if (code == SR_OK)
        code = sri_local_prefix(&t->files, options->prefix, t->prefix, sizeof t->prefix, error);
    if (code == SR_OK) code = make_fingerprint(t, encoder->fingerprint, error);
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
    encoder->operations = operations_a_token(sri_model_config(t->model));
    sri_local_name(t->files.directory, encoder->name, sizeof encoder->name);
    return SR_OK;
}
