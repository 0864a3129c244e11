/*
 * softmax_layout.c - samples laid out for the solver's passes.
 *
 * Dense samples are packed twice (see softmax_int.h). Sparse entries are kept twice too: by text for logits,
 * by feature for the gradient, so that either pass writes each of its sums once and can be shared out among
 * threads without changing any order.
 */
#include "decide/softmax_int.h"

#include <math.h>
#include <string.h>

#define SMALL_BLOCK   64
#define LARGE_BLOCK   256
#define LARGE_FROM    4096 /* samples from which blocks are large */
#define MAX_STRIPES   32
#define STRIPE_MEMORY ((size_t)16 << 20) /* floats for the sums of stripes, about */
#define GRAM_SAMPLES  16                 /* times the width: enough to precondition with */

void sri_softmax_run(const sri_softmax *s, sri_task_fn *function, void *job, size_t count) {
    if (s->pool != NULL && count > 1) {
        sri_pool_run(s->pool, function, job, count);
        return;
    }
    for (size_t task = 0; task < count; task++) function(job, task, 0);
}

/* ---- Dense ------------------------------------------------------------------------------------------ */

typedef struct packing {
    sri_softmax *solver;
    const float *dense;
    size_t every;   /* blocks whose number this divides are in the gram */
    float *partial; /* [stripes][(width + 1) * width] their sums */
} packing;

/* Adds the products of a block's features with each other, and their sums, to a stripe's. */
static void add_gram(const packing *job, size_t b, const float *columns, float *product,
                     float *sums) {
    sri_softmax *s = job->solver;
    size_t count = sri_block_count(s, b), width = s->width;
    sri_product out = {.y = product, .n = width, .first = 0, .last = width};
    s->kernels.gemm_f32.run(columns, width, s->features + b * s->features_size, count, &out);
    s->loops.add(product, width * width, sums);
    for (size_t j = 0; j < width; j++)
        sums[width * width + j] += (float)s->loops.sum(columns + j * count, count);
}

static void pack_stripe(void *argument, size_t stripe, int slot) {
    packing *job = argument;
    sri_softmax *s = job->solver;
    size_t width = s->width;
    float *columns = s->tile + (size_t)slot * s->tile_size, *product = columns + s->block * width;
    float *sums = job->partial + stripe * (width + 1) * width;
    memset(sums, 0, (width + 1) * width * sizeof *sums);
    for (size_t b = s->blocks * stripe / s->stripes; b < s->blocks * (stripe + 1) / s->stripes;
         b++) {
        size_t count = sri_block_count(s, b);
        const float *x = job->dense + sri_block_first(s, b) * width;
        sri_weights_f32 samples = {.w = x, .bias = s->zeros, .n = count, .k = width};
        s->kernels.gemm_f32.pack(&samples, s->samples + b * s->samples_size);
        s->loops.transpose(x, count, width, width, columns, count);
        sri_weights_f32 features = {.w = columns, .bias = s->zeros, .n = width, .k = count};
        s->kernels.gemm_f32.pack(&features, s->features + b * s->features_size);
        if (b % job->every == 0) add_gram(job, b, columns, product, sums);
    }
}

/* Brings the stripes' sums together in s->gram, with a last feature that is always 1. */
static void gather_gram(sri_softmax *s, const packing *job) {
    size_t width = s->width, size = width + 1, counted = 0;
    memset(s->gram, 0, size * size * sizeof *s->gram);
    for (size_t stripe = 0; stripe < s->stripes; stripe++) {
        const float *sums = job->partial + stripe * size * width;
        for (size_t i = 0; i < width; i++)
            s->loops.add(sums + i * width, width, s->gram + i * size);
        s->loops.add(sums + width * width, width, s->gram + width * size);
    }
    for (size_t b = 0; b < s->blocks; b += job->every) counted += sri_block_count(s, b);
    for (size_t i = 0; i < width; i++) s->gram[i * size + width] = s->gram[width * size + i];
    s->gram[width * size + width] = (float)counted;
    s->gram_share = (double)s->n / (double)counted;
}

static bool pack_dense(sri_softmax *s, const sri_softmax_data *data) {
    size_t size = s->width + 1, numbers, bytes;
    s->samples_size =
        sri_round_up(s->kernels.gemm_f32.packed_size(SRI_MIN(s->block, s->n), s->width), 64);
    s->features_size =
        sri_round_up(s->kernels.gemm_f32.packed_size(s->width, SRI_MIN(s->block, s->n)), 64);
    if (!sri_size_mul(s->blocks, SRI_MAX(s->samples_size, s->features_size), &bytes)) return false;
    s->samples = sri_alloc_aligned(s->blocks * s->samples_size);
    s->features = sri_alloc_aligned(s->blocks * s->features_size);
    if (!sri_size_mul(size, size, &numbers)) return false;
    s->gram = sri_alloc_array(numbers, sizeof *s->gram);
    packing job = {.solver = s, .dense = data->dense};
    job.every = SRI_MAX(s->n / (GRAM_SAMPLES * s->width), (size_t)1);
    job.partial = sri_alloc_array(s->stripes * size, s->width * sizeof *job.partial);
    bool ok = s->samples && s->features && s->gram && job.partial;
    if (ok) {
        sri_softmax_run(s, pack_stripe, &job, s->stripes);
        gather_gram(s, &job);
    }
    sri_free(job.partial);
    return ok;
}

/* ---- Sparse ------------------------------------------------------------------------------------------- */

/* Counts the texts of each bucket; `last` marks the text that a bucket was last seen in. */
static void count_texts(const sri_softmax_data *data, uint32_t *count, uint32_t *last) {
    for (size_t i = 0; i < data->n; i++)
        for (size_t e = data->sparse.start[i]; e < data->sparse.start[i + 1]; e++) {
            uint32_t bucket = data->sparse.entries[e].row;
            if (last[bucket] == (uint32_t)i + 1) continue;
            last[bucket] = (uint32_t)i + 1;
            count[bucket]++;
        }
}

static size_t rows_with(const sri_softmax_data *data, const uint32_t *count, size_t least) {
    size_t rows = 0;
    for (size_t b = 0; b < data->sparse.buckets; b++) rows += count[b] >= least;
    return rows;
}

/* How many texts must have a bucket that takes part. */
static size_t least_texts(const sri_softmax_data *data, const uint32_t *count) {
    size_t least = SRI_MAX(data->sparse.min_texts, (size_t)1), most = data->sparse.max_rows;
    while (most > 0 && rows_with(data, count, least) > most) least += 1 + least / 4;
    return least;
}

/* Numbers the buckets that take part; in `count` their numbers from 1 replace the counts, 0: none. */
static bool number_rows(sri_softmax *s, const sri_softmax_data *data, uint32_t *count) {
    size_t least = least_texts(data, count);
    s->rows = rows_with(data, count, least);
    s->bucket = sri_alloc_array(s->rows, sizeof *s->bucket);
    if (s->bucket == NULL) return false;
    uint32_t row = 0;
    for (size_t b = 0; b < data->sparse.buckets; b++) {
        bool in = count[b] >= least;
        if (in) s->bucket[row] = (uint32_t)b;
        count[b] = in ? ++row : 0;
    }
    return true;
}

static void fill_by_text(sri_softmax *s, const sri_softmax_data *data, const uint32_t *number) {
    size_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->text_start[i] = at;
        for (size_t e = data->sparse.start[i]; e < data->sparse.start[i + 1]; e++) {
            sri_weighted_row entry = data->sparse.entries[e];
            if (number[entry.row] == 0) continue;
            s->by_text[at++] = (sri_weighted_row){number[entry.row] - 1, entry.weight};
        }
    }
    s->text_start[s->n] = at;
}

static void fill_by_row(sri_softmax *s) {
    memset(s->row_start, 0, (s->rows + 1) * sizeof *s->row_start);
    size_t entries = s->text_start[s->n];
    for (size_t e = 0; e < entries; e++) s->row_start[s->by_text[e].row + 1]++;
    for (size_t r = 0; r < s->rows; r++) s->row_start[r + 1] += s->row_start[r];
    for (size_t i = 0; i < s->n; i++)
        for (size_t e = s->text_start[i]; e < s->text_start[i + 1]; e++) {
            sri_weighted_row entry = s->by_text[e];
            s->by_row[s->row_start[entry.row]++] = (sri_weighted_row){(uint32_t)i, entry.weight};
            s->squares[entry.row] += entry.weight * entry.weight;
        }
    memmove(s->row_start + 1, s->row_start, s->rows * sizeof *s->row_start);
    s->row_start[0] = 0;
}

/* Cuts the rows into chunks of about as many entries (a row itself counting as some). */
static void cut_rows(sri_softmax *s) {
    size_t all = s->row_start[s->rows] + 4 * s->rows, done = 0;
    for (size_t r = 0; r < s->rows; r++) {
        if (s->chunks < SRI_SOFTMAX_ROW_CHUNKS && done >= all * s->chunks / SRI_SOFTMAX_ROW_CHUNKS)
            s->chunk[s->chunks++] = r;
        done += s->row_start[r + 1] - s->row_start[r] + 4;
    }
    s->chunk[s->chunks] = s->rows;
}

static bool lay_out_sparse(sri_softmax *s, const sri_softmax_data *data) {
    size_t entries = data->sparse.start[s->n];
    uint32_t *count = sri_alloc_zero(data->sparse.buckets, sizeof *count);
    uint32_t *last = sri_alloc_zero(data->sparse.buckets, sizeof *last);
    bool ok = count != NULL && last != NULL;
    if (ok) {
        count_texts(data, count, last);
        ok = number_rows(s, data, count);
    }
    s->text_start = sri_alloc_array(s->n + 1, sizeof *s->text_start);
    s->row_start = sri_alloc_array(s->rows + 1, sizeof *s->row_start);
    s->by_text = sri_alloc_array(entries, sizeof *s->by_text);
    s->by_row = sri_alloc_array(entries, sizeof *s->by_row);
    s->squares = sri_alloc_zero(s->rows, sizeof *s->squares);
    s->chunk = sri_alloc_array(SRI_SOFTMAX_ROW_CHUNKS + 1, sizeof *s->chunk);
    s->residuals = sri_alloc_zero(s->n, s->wide * sizeof *s->residuals);
    ok = ok && s->text_start && s->row_start && s->by_text && s->by_row && s->squares && s->chunk &&
         s->residuals;
    if (ok) {
        fill_by_text(s, data, count);
        fill_by_row(s);
        cut_rows(s);
    }
    sri_free(count);
    sri_free(last);
    return ok;
}

/* ---- Opening ------------------------------------------------------------------------------------------- */

static void choose_loops(sri_softmax *s, const sri_cpu_level *level) {
    sri_cpu_level used = level != NULL ? *level : sri_cpu_chosen();
    if (level != NULL)
        sri_kernels_fill(used, &s->kernels);
    else
        s->kernels = *sri_kernels_get();
    sri_softmax_loops_fill(used, &s->loops);
}

static bool size_up(sri_softmax *s) {
    size_t dense, sparse, sums, tile, product;
    s->wide = sri_round_up(s->classes, 16);
    s->block = s->n < LARGE_FROM ? SMALL_BLOCK : LARGE_BLOCK;
    s->blocks = (s->n + s->block - 1) / s->block;
    if (!sri_size_mul(s->classes, s->width, &dense)) return false;
    sums = dense + s->wide;
    s->stripes = SRI_MIN(SRI_MAX(STRIPE_MEMORY / sums, (size_t)1), (size_t)MAX_STRIPES);
    s->stripes = SRI_MIN(s->stripes, s->blocks);
    s->slots = s->pool != NULL ? (size_t)sri_pool_threads(s->pool) : 1;
    /* Packing uses it for transposed samples and a gram. */
    if (!sri_size_mul(SRI_MAX(s->classes, s->width), s->width, &product)) return false;
    tile = 2 * s->block * s->wide;
    s->tile_size = sri_round_up(SRI_MAX(tile, s->block * s->width) + product, 16);
    if (!sri_size_mul(s->slots * sizeof(float), s->tile_size, &sparse)) return false;
    s->bias_at = dense;
    s->sparse_at = dense + s->wide;
    size_t zeros = SRI_MAX(SRI_MAX(s->block, s->width), s->wide);
    s->tile = sri_alloc_aligned(sparse);
    s->sums = sri_alloc_array(s->stripes, sums * sizeof *s->sums);
    s->losses = sri_alloc_array(s->blocks, sizeof *s->losses);
    s->zeros = sri_alloc_zero(zeros, sizeof *s->zeros);
    size_t chunks = dense / SRI_SOFTMAX_CHUNK + 2 + SRI_SOFTMAX_ROW_CHUNKS;
    s->penalties = sri_alloc_array(chunks, sizeof *s->penalties);
    return s->tile && s->sums && s->losses && s->zeros && s->penalties;
}

static sr_status check(const sri_softmax_data *data, sr_error *error) {
    const char *wrong = NULL;
    if (data->n == 0 || data->n > INT32_MAX) wrong = "from 1 to 2^31 - 1 samples can be fitted";
    if (data->classes == 0 || data->classes > 1u << 20) wrong = "from 1 to 2^20 classes can be";
    if (data->width > 65536) wrong = "vectors of at most 65536 numbers can be fitted";
    if (data->width == 0 && data->sparse.start == NULL) wrong = "there are no features to fit";
    if (wrong != NULL) return sri_fail(error, SR_ERR_INVALID, "softmax", "%s", wrong);
    if (data->sparse.start == NULL) return SR_OK;
    for (size_t e = data->sparse.start[0]; e < data->sparse.start[data->n]; e++)
        if (data->sparse.entries[e].row >= data->sparse.buckets)
            return sri_fail(error, SR_ERR_INVALID, "softmax", "bucket %u of %zu does not exist",
                            data->sparse.entries[e].row, data->sparse.buckets);
    return SR_OK;
}

sr_status sri_softmax_open(const sri_softmax_data *data, sri_pool *pool, const sri_cpu_level *level,
                           sri_softmax **solver, sr_error *error) {
    *solver = NULL;
    sr_status code = check(data, error);
    if (code != SR_OK) return code;
    sri_softmax *s = sri_alloc_zero(1, sizeof *s);
    if (s == NULL) return sri_fail_memory(error);
    s->pool = pool;
    s->n = data->n;
    s->classes = data->classes;
    s->width = data->width;
    choose_loops(s, level);
    bool ok = size_up(s);
    if (ok && s->width > 0) ok = pack_dense(s, data);
    if (ok && data->sparse.start != NULL) ok = lay_out_sparse(s, data);
    size_t sparse;
    ok = ok && sri_size_mul(s->rows, s->wide, &sparse) &&
         sri_size_add(s->sparse_at, sparse, &s->parameters);
    *solver = s;
    if (ok) return SR_OK;
    sri_softmax_close(solver);
    return sri_fail_memory(error);
}

void sri_softmax_close(sri_softmax **solver) {
    sri_softmax *s = *solver;
    if (s == NULL) return;
    sri_free_aligned(s->samples);
    sri_free_aligned(s->features);
    sri_free_aligned(s->tile);
    void *arrays[] = {s->zeros,   s->gram,      s->bucket,   s->text_start, s->row_start,
                      s->by_text, s->by_row,    s->squares,  s->chunk,      s->sums,
                      s->losses,  s->penalties, s->residuals};
    for (size_t i = 0; i < SRI_COUNT(arrays); i++) sri_free(arrays[i]);
    sri_free(s);
    *solver = NULL;
}
