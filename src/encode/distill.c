/*
 * distill.c - a static model from a transformer.
 *
 * 1. Each token of the vocabulary goes through the teacher by itself, between the special tokens;
 *    the mean of the states, scaled to length 1, is its vector. (That length 1 helps was measured.)
 * 2. Principal components reduce the vectors (pca.c).
 * 3. Rows are multiplied by a / (a + p), p being the token's probability by Zipf's law, as ids
 *    rise with falling frequency: smooth inverse frequency of Arora et al. (2017). Steps 1 to 3 are
 *    those of Model2Vec (Tulkens and van Dongen, 2024).
 * 4. With texts: the rows are fitted so that the means of the texts come near to the teacher's
 *    vectors of them, centred, in the same components (distill_fit.c).
 *
 * What step 4 gains and its strength were chosen on held-out parts of training texts: see
 * models/static-en/README.md.
 */
#include "encode/distill_fit.h"
#include "encode/distill_write.h"
#include "encode/encode_int.h"
#include "encode/local_files.h"
#include "model/config.h"
#include "model/model.h"
#include "model/pca.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_DIMENSION 256
#define SIF               1e-4 /* a of step 3 */
#define FIT_STRENGTH      0.2
#define PASS_TOKENS       ((size_t)64)  /* vocabulary tokens of one forward pass */
#define PASSES            ((size_t)16)  /* between two calls of progress */
#define TEXTS             ((size_t)512) /* texts encoded between two calls of progress */
#define TEXT_TOKENS       ((size_t)512)

typedef struct distillation {
    const sr_distill_options *options;
    local_files files;
    sri_model *model;
    sri_tokenizer *tokenizer;
    sri_pool *pool;
    sri_scratch **scratch; /* one a slot */
    int threads;
    size_t tokens, hidden, dimension;
    float *vectors; /* [tokens, hidden] */
    sri_pca pca;
    float *rows; /* [tokens, dimension] */
    char output[PATH_MAX];
    char fingerprint[65], name[128];
    uint64_t done, total;
} distillation;

static void close_distillation(distillation *d) {
    sri_pool_close(&d->pool);
    for (int i = 0; d->scratch != NULL && i < d->threads; i++) sri_scratch_close(&d->scratch[i]);
    sri_free(d->scratch);
    sri_tokenizer_close(&d->tokenizer);
    sri_model_close(&d->model);
    sri_free(d->vectors);
    sri_pca_free(&d->pca);
    sri_free(d->rows);
}

static sr_status report(distillation *d, uint64_t units, sr_error *error) {
    const sr_distill_options *o = d->options;
    d->done += units;
    if (o->progress == NULL || o->progress(o->progress_user, d->done, d->total) == 0) return SR_OK;
    return sri_fail(error, SR_ERR_CANCELLED, NULL, "distilling was stopped; nothing was written");
}

/* ---- opening --------------------------------------------------------------------------------- */

static sr_status open_teacher(distillation *d, sr_error *error) {
    bool is_static = false;
    sr_status code = sri_local_open(d->options->model, &d->files, error);
    if (code == SR_OK) code = sri_model_is_static(d->files.directory, &is_static, error);
    if (code == SR_OK && is_static)
        code = sri_fail(error, SR_ERR_UNSUPPORTED, d->files.directory,
                        "%s is a static model already; a transformer is needed to make one from",
                        d->files.directory);
    if (code == SR_OK)
        code = sri_model_open(d->files.directory, SRI_WEIGHTS_AS_STORED, &d->model, error);
    if (code != SR_OK) return code;
    d->hidden = sri_model_config(d->model)->hidden;
    code = sri_local_tokenizer(&d->files, sri_model_config(d->model)->vocabulary, &d->tokenizer,
                               error);
    if (code == SR_OK) d->tokens = sri_tokenizer_vocabulary(d->tokenizer);
    sri_local_name(d->files.directory, d->name, sizeof d->name);
    return code;
}

static sr_status open_scratch(distillation *d, sr_error *error) {
    d->threads =
        d->options->threads == 0 ? SRI_MIN(sri_cpu_count(), SR_MAX_THREADS) : d->options->threads;
    d->scratch = sri_alloc_zero((size_t)d->threads, sizeof(sri_scratch *));
    d->vectors = sri_alloc_array(d->tokens * d->hidden, sizeof *d->vectors);
    d->rows = sri_alloc_array(d->tokens * d->dimension, sizeof *d->rows);
    if (d->scratch == NULL || d->vectors == NULL || d->rows == NULL) return sri_fail_memory(error);
    sr_status code = SR_OK;
    for (int i = 0; code == SR_OK && i < d->threads; i++)
        code = sri_scratch_open(d->model, 3 * PASS_TOKENS, 3, &d->scratch[i], error);
    if (code == SR_OK) code = sri_pool_open(d->threads, &d->pool, error);
    return code == SR_OK ? sri_model_pack(d->model, d->pool, error) : code;
}

/* Whether the directory can be made is asked before the work, not after it. */
static sr_status settle_output(distillation *d, sr_error *error) {
    const char *given = d->options->output;
    struct stat status;
    if (given == NULL || given[0] == '\0')
        return sri_fail(error, SR_ERR_INVALID, "output", "name the directory to write");
    size_t len = strlen(given);
    if (len >= sizeof d->output)
        return sri_fail(error, SR_ERR_LIMIT, "output", "the path %.100s... is too long", given);
    memcpy(d->output, given, len + 1);
    while (len > 1 && d->output[len - 1] == '/') d->output[--len] = '\0';
    if (stat(d->output, &status) == 0)
        return sri_fail(error, SR_ERR_INVALID, d->output, "%s exists already; name a new directory",
                        d->output);
    char parent[PATH_MAX];
    memcpy(parent, d->output, len + 1);
    char *slash = strrchr(parent, '/');
    if (slash != NULL) slash[slash == parent] = '\0';
    if (access(slash == NULL ? "." : parent, W_OK) != 0)
        return sri_fail_errno(error, errno, d->output, "cannot make a directory %s", d->output);
    return SR_OK;
}

static sr_status check_options(const sr_distill_options *o, sr_error *error) {
    if (o->threads < 0 || o->threads > SR_MAX_THREADS)
        return sri_fail(error, SR_ERR_INVALID, "threads",
                        "%d threads were asked for; use 0 (all cores) to %d", o->threads,
                        SR_MAX_THREADS);
    for (size_t i = 0; i < o->text_count; i++)
        if (o->texts[i].len > SR_MAX_TEXT_BYTES ||
            (o->texts[i].len > 0 && o->texts[i].data == NULL))
            return sri_fail(error, SR_ERR_INVALID, "texts",
                            "text %zu has no data, or more than %d bytes", i, SR_MAX_TEXT_BYTES);
    return SR_OK;
}

static sr_status settle_dimension(distillation *d, sr_error *error) {
    int wanted = d->options->dimension;
    d->dimension = wanted == 0 ? SRI_MIN((size_t)DEFAULT_DIMENSION, d->hidden) : (size_t)wanted;
    if (wanted == 0 || (wanted >= 8 && (size_t)wanted <= d->hidden)) return SR_OK;
    return sri_fail(error, SR_ERR_INVALID, "dimension",
                    "dimension %d is not from 8 to the %zu of %s", wanted, d->hidden, d->name);
}

/* ---- token vectors --------------------------------------------------------------------------- */

typedef struct pass_job {
    distillation *d;
    size_t first; /* vocabulary token of task 0 */
    atomic_bool not_finite;
} pass_job;

static void run_pass(void *argument, size_t task, int slot) {
    pass_job *job = argument;
    distillation *d = job->d;
    size_t first = job->first + task * PASS_TOKENS, end = SRI_MIN(first + PASS_TOKENS, d->tokens);
    int32_t ids[3 * PASS_TOKENS],
        around[2] = {sri_tokenizer_leading(d->tokenizer), sri_tokenizer_trailing(d->tokenizer)};
    size_t start[PASS_TOKENS + 1] = {0}, count = 0;
    for (size_t token = first; token < end; token++) {
        if (around[0] >= 0) ids[count++] = around[0];
        ids[count++] = (int32_t)token;
        if (around[1] >= 0) ids[count++] = around[1];
        start[token - first + 1] = count;
    }
    sri_batch batch = {ids, start, end - first};
    float *out = d->vectors + first * d->hidden;
    sri_model_forward(d->model, &batch, SR_POOLING_MEAN, d->scratch[slot], NULL, out);
    for (size_t i = 0; i < end - first; i++)
        if (!sri_normalise(out + i * d->hidden, d->hidden)) atomic_store(&job->not_finite, true);
}

static sr_status make_vectors(distillation *d, sr_error *error) {
    pass_job job = {.d = d};
    for (; job.first < d->tokens; job.first += PASSES * PASS_TOKENS) {
        size_t left = SRI_MIN(d->tokens - job.first, PASSES * PASS_TOKENS);
        sri_pool_run(d->pool, run_pass, &job, (left + PASS_TOKENS - 1) / PASS_TOKENS);
        if (atomic_load(&job.not_finite))
            return sri_fail(error, SR_ERR_FORMAT, d->files.directory,
                            "the model in %s gave a vector that is not finite: its weights are "
                            "damaged",
                            d->files.directory);
        sr_status code = report(d, left, error);
        if (code != SR_OK) return code;
    }
    return SR_OK;
}

/* Steps 2 and 3. */
static sr_status make_rows(distillation *d, sr_error *error) {
    sr_status code =
        sri_pca_compute(d->vectors, d->tokens, d->hidden, d->dimension, &d->pca, error);
    if (code != SR_OK) return code;
    double harmonic = 0;
    for (size_t i = 0; i < d->tokens; i++) harmonic += 1 / (double)(i + 2);
    for (size_t i = 0; i < d->tokens; i++) {
        float *row = d->rows + i * d->dimension;
        double probability = 1 / ((double)(i + 2) * harmonic);
        float weight = (float)(SIF / (SIF + probability));
        sri_pca_project(&d->pca, d->vectors + i * d->hidden, NULL, row);
        for (size_t k = 0; k < d->dimension; k++) row[k] *= weight;
    }
    return SR_OK;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static sr_status encode_texts(distillation *d, sr_encoder *teacher, float *out, sr_error *error) {
    const sr_distill_options *o = d->options;
    for (size_t i = 0; i < o->text_count; i += TEXTS) {
        size_t count = SRI_MIN(o->text_count - i, TEXTS);
        sr_status code =
            sr_encoder_encode(teacher, o->texts + i, count, out + i * d->hidden, NULL, error);
        if (code == SR_OK) code = report(d, count, error);
        if (code != SR_OK) return code;
    }
    return SR_OK;
}

/* The teacher's vectors in the components of the tokens, centred: [texts, dimension]. */
static sr_status make_targets(distillation *d, float **targets, sr_error *error) {
    size_t texts = d->options->text_count;
    sr_encoder *teacher = NULL;
    sr_encoder_options options = {
        .size = sizeof options, .model = d->options->model, .threads = d->options->threads};
    sr_status code = sr_encoder_open(&options, &teacher, error);
    if (code != SR_OK) return code;
    snprintf(d->fingerprint, sizeof d->fingerprint, "%s", sr_encoder_fingerprint(teacher));
    if (texts == 0) {
        sr_encoder_close(&teacher);
        return SR_OK;
    }
    float *vectors = sri_alloc_array(texts, d->hidden * sizeof *vectors);
    double *centre = sri_alloc_zero(d->hidden, sizeof *centre);
    *targets = sri_alloc_array(texts, d->dimension * sizeof **targets);
    code = vectors == NULL || centre == NULL || *targets == NULL
               ? sri_fail_memory(error)
               : encode_texts(d, teacher, vectors, error);
    sr_encoder_close(&teacher);
    if (code == SR_OK) {
        for (size_t i = 0; i < texts * d->hidden; i++)
            centre[i % d->hidden] += vectors[i] / (double)texts;
        for (size_t i = 0; i < texts; i++)
            sri_pca_project(&d->pca, vectors + i * d->hidden, centre, *targets + i * d->dimension);
    }
    sri_free(vectors);
    sri_free(centre);
    return code;
}

/* Appends the known tokens of a text. */
static bool append_tokens(const distillation *d, sr_str text, int32_t **ids, size_t *capacity,
                          size_t *count) {
    int32_t unknown = sri_tokenizer_unknown(d->tokenizer);
    if (!sri_grow((void **)ids, capacity, *count + TEXT_TOKENS, sizeof **ids)) return false;
    int32_t *own = *ids + *count;
    size_t found = sri_tokenize_bare(d->tokenizer, (sr_str){0}, text, own, TEXT_TOKENS, NULL);
    for (size_t i = 0; i < found; i++)
        if (own[i] != unknown) (*ids)[(*count)++] = own[i];
    return true;
}

static sr_status fit_texts(distillation *d, const float *targets, sr_error *error) {
    const sr_distill_options *o = d->options;
    int32_t *ids = NULL;
    size_t capacity = 0, count = 0;
    size_t *start = sri_alloc_zero(o->text_count + 1, sizeof *start);
    bool done = start != NULL;
    for (size_t i = 0; done && i < o->text_count; i++) {
        done = append_tokens(d, o->texts[i], &ids, &capacity, &count);
        start[i + 1] = count;
    }
    sri_token_lists lists = {ids, start, o->text_count};
    sr_status code =
        done ? sri_distill_fit(&lists, targets, d->tokens, d->dimension, FIT_STRENGTH, d->rows,
                               o->progress, o->progress_user, d->done, d->total, error)
             : sri_fail_memory(error);
    sri_free(start);
    sri_free(ids);
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static sr_status write_model(distillation *d, sr_error *error) {
    char tokenizer[PATH_MAX];
    sr_status code =
        sri_join_path(tokenizer, sizeof tokenizer, d->files.directory, "tokenizer.json", error);
    sri_static_output output = {.output = d->output,
                                .tokenizer = tokenizer,
                                .teacher = d->name,
                                .fingerprint = d->fingerprint,
                                .rows = d->rows,
                                .tokens = d->tokens,
                                .dimension = d->dimension,
                                .texts = d->options->text_count};
    return code == SR_OK ? sri_static_write(&output, error) : code;
}

static sr_status distill(distillation *d, sr_error *error) {
    float *targets = NULL;
    sr_status code = settle_output(d, error);
    if (code == SR_OK) code = open_teacher(d, error);
    if (code == SR_OK) code = settle_dimension(d, error);
    if (code == SR_OK) code = open_scratch(d, error);
    d->total = d->tokens + d->options->text_count;
    if (d->options->text_count > 0) d->total += SRI_FIT_STEPS;
    if (code == SR_OK) code = make_vectors(d, error);
    if (code == SR_OK) code = make_rows(d, error);
    if (code == SR_OK) code = make_targets(d, &targets, error);
    if (code == SR_OK && targets != NULL) code = fit_texts(d, targets, error);
    sri_free(targets);
    return code == SR_OK ? write_model(d, error) : code;
}

sr_status sr_distill(const sr_distill_options *given, sr_error *error) {
    sr_distill_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_distill_options", error);
    if (code == SR_OK) code = check_options(&options, error);
    if (code != SR_OK) return code;
    distillation d = {.options = &options};
    code = distill(&d, error);
    close_distillation(&d);
    return code;
}
