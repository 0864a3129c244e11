/*
 * forward.c - the BERT forward pass over a batch packed without padding.
 *
 * Tokens of all texts stand one after another as the rows of one matrix; only attention looks at
 * where a text begins and ends. Every row is computed by the same operations in the same order
 * whatever its neighbours, so a text's vector does not depend on its batch. With CLS pooling the
 * last layer computes only the first row of each text beyond the keys and values. Weights that are not
 * packed yet are packed by those who multiply by them, each their own columns. Shapes: M tokens,
 * D hidden, I intermediate. Source: Devlin et al., BERT (2019); post-layer-norm encoder, erf GELU.
 */
#include "model/model_int.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* How fine the work of a team is cut: finer balances better, coarser takes fewer turns. */
#define MOST_CHUNKS  12
#define ROWS_A_CHUNK 8

struct sri_scratch {
    size_t tokens;
    float *x;         /* [M, D] the residual stream */
    float *wide;      /* [M, max(3D, I)] queries, keys and values, or the expanded rows */
    float *narrow;    /* [M, D] what is added to x */
    float *context;   /* [M, D] attention's output */
    float *attention; /* [heads, attention_floats] */
    size_t attention_floats;
    uint8_t *q;    /* [M, max(D, I)] */
    float *scale;  /* [M] */
    int32_t *zero; /* [M] */
    void *packed;  /* a product of a model that is not packed: touched only then */
};

sr_status sri_scratch_open(const sri_model *model, size_t tokens, size_t longest,
                           sri_scratch **handle, sr_error *error) {
    const sri_config *c = &model->config;
    size_t widest = SRI_MAX(3 * c->hidden, c->intermediate), width = c->hidden / c->heads;
    sri_scratch *s = *handle = sri_alloc_zero(1, sizeof *s);
    if (s == NULL) return sri_fail_memory(error);
    s->tokens = tokens;
    s->x = sri_alloc_aligned(tokens * c->hidden * sizeof(float));
    s->wide = sri_alloc_aligned(tokens * widest * sizeof(float));
    s->narrow = sri_alloc_aligned(tokens * c->hidden * sizeof(float));
    s->context = sri_alloc_aligned(tokens * c->hidden * sizeof(float));
    s->attention_floats = sri_attend_scratch(longest, width);
    s->attention = sri_alloc_aligned(c->heads * s->attention_floats * sizeof(float));
    s->q =
        sri_alloc_aligned(tokens * sri_round_up(SRI_MAX(c->hidden, c->intermediate), SRI_K_STEP));
    s->scale = sri_alloc_aligned(tokens * sizeof(float));
    s->zero = sri_alloc_aligned(tokens * sizeof(int32_t));
    s->packed = sri_alloc_aligned(sri_model_runs_unpacked(model) ? sri_largest_product(model) : 0);
    if (s->x && s->wide && s->narrow && s->context && s->attention && s->q && s->scale && s->zero &&
        s->packed)
        return SR_OK;
    sri_scratch_close(handle);
    return sri_fail_memory(error);
}

void sri_scratch_close(sri_scratch **handle) {
    sri_scratch *s = *handle;
    if (s == NULL) return;
    sri_free_aligned(s->x);
    sri_free_aligned(s->wide);
    sri_free_aligned(s->narrow);
    sri_free_aligned(s->context);
    sri_free_aligned(s->attention);
    sri_free_aligned(s->q);
    sri_free_aligned(s->scale);
    sri_free_aligned(s->zero);
    sri_free_aligned(s->packed);
    sri_free(s);
    *handle = NULL;
}

/* One forward pass: what all its steps need. */
typedef struct pass {
    const sri_model *model;
    const sri_batch *batch;
    sri_scratch *scratch;
    sri_team *team; /* NULL: this thread alone */
    bool packed;    /* the model was when the pass began */
} pass;

/* Into how many chunks `units` are cut, of at least `least` each: one without a team. */
static size_t chunks_of(const pass *p, size_t units, size_t least) {
    if (p->team == NULL) return 1;
    return SRI_MIN(SRI_MAX(units / least, 1), (size_t)MOST_CHUNKS);
}

typedef struct linear_step {
    const linear *linear;
    void *packed; /* its weights */
    bool pack;    /* they have yet to be packed */
    const float *x;
    size_t m;
    sri_quantized quantized;
    sri_activation activation;
    float *y;
    size_t chunks;
} linear_step;

/* The scratch memory for quantised rows of k values. */
static sri_quantized quantized_rows(const sri_scratch *s, size_t k) {
    return (sri_quantized){s->q, s->scale, s->zero, sri_round_up(k, SRI_K_STEP)};
}

static sri_quantized rows_from(const sri_quantized *all, size_t first) {
    return (sri_quantized){all->q + first * all->stride, all->scale + first, all->zero + first,
                           all->stride};
}

static void quantize_chunk(void *argument, size_t chunk) {
    linear_step *step = argument;
    size_t first = step->m * chunk / step->chunks, last = step->m * (chunk + 1) / step->chunks;
    sri_quantized part = rows_from(&step->quantized, first);
    sri_kernels_get()->quantize(step->x + first * step->linear->k, last - first, step->linear->k,
                                &part);
}

static void product_chunk(void *argument, size_t chunk) {
    linear_step *step = argument;
    const linear *l = step->linear;
    size_t steps = (l->n + SRI_N_STEP - 1) / SRI_N_STEP;
    size_t first = steps * chunk / step->chunks * SRI_N_STEP;
    size_t last = SRI_MIN(steps * (chunk + 1) / step->chunks * SRI_N_STEP, l->n);
    sri_product product = {step->y, l->n, first, last, step->activation};
    if (step->pack) sri_pack_channels(l, first, last, step->packed, NULL);
    if (l->quantised)
        sri_kernels_get()->gemm_s8.run(&step->quantized, step->m, step->packed, l->k, &product);
    else
        sri_kernels_get()->gemm_f32.run(step->x, step->m, step->packed, l->k, &product);
}

/* y [m, n] = act(x [m, k] W^T + b), x [m, k] having been quantised by run_norm(). */
static void run_product(const pass *p, const linear *l, const float *x, size_t m,
                        sri_activation activation, float *y) {
    linear_step step = {.linear = l, .x = x, .m = m, .activation = activation, .y = y};
    step.quantized = quantized_rows(p->scratch, l->k);
    step.pack = !p->packed;
    step.packed = p->packed ? l->packed : p->scratch->packed;
    step.chunks = chunks_of(p, (l->n + SRI_N_STEP - 1) / SRI_N_STEP, 1);
    sri_team_run(p->team, product_chunk, &step, step.chunks);
}

/* The same, of x as it is. */
static void run_linear(const pass *p, const linear *l, const float *x, size_t m,
                       sri_activation activation, float *y) {
    linear_step step = {.linear = l, .x = x, .m = m};
    step.quantized = quantized_rows(p->scratch, l->k);
    step.chunks = chunks_of(p, m, ROWS_A_CHUNK);
    if (l->quantised) sri_team_run(p->team, quantize_chunk, &step, step.chunks);
    run_product(p, l, x, m, activation, y);
}

typedef struct norm_step {
    size_t hidden;
    sri_norm norm;
    float *x;
    const float *y;
    size_t m, chunks;
    bool quantise;
    sri_quantized quantized;
} norm_step;

static void norm_chunk(void *argument, size_t chunk) {
    const norm_step *step = argument;
    size_t first = step->m * chunk / step->chunks, last = step->m * (chunk + 1) / step->chunks;
    sri_quantized part = rows_from(&step->quantized, first);
    sri_kernels_get()->add_norm(step->x + first * step->hidden, step->y + first * step->hidden,
                                last - first, step->hidden, &step->norm,
                                step->quantise ? &part : NULL);
}

/* x = LayerNorm(x + y), both [m, D]; quantised as well where `next`, which reads it, is an int8
 * product. */
static void run_norm(const pass *p, const norm *n, float *x, const float *y, size_t m,
                     const linear *next) {
    const sri_config *config = &p->model->config;
    norm_step step = {.hidden = config->hidden,
                      .norm = {n->gamma, n->beta, config->epsilon},
                      .x = x,
                      .y = y,
                      .m = m,
                      .chunks = chunks_of(p, m, ROWS_A_CHUNK),
                      .quantise = next != NULL && next->quantised,
                      .quantized = quantized_rows(p->scratch, config->hidden)};
    sri_team_run(p->team, norm_chunk, &step, step.chunks);
}

static void read_word(const sri_model *model, size_t id, float *out) {
    size_t hidden = model->config.hidden;
    if (model->word_scale == NULL) {
        sri_tensor_floats(model->words, id * hidden, hidden, out);
        return;
    }
    const int8_t *q = (const int8_t *)model->words->data + id * hidden;
    float scale;
    sri_tensor_floats(model->word_scale, id, 1, &scale);
    for (size_t i = 0; i < hidden; i++) out[i] = (float)q[i] * scale;
}

/* What stands beside the word: its position, and type 0. */
static void read_position(const sri_model *model, size_t position, float *out) {
    size_t hidden = model->config.hidden;
    sri_tensor_floats(model->positions, position * hidden, hidden, out);
    for (size_t i = 0; i < hidden; i++) out[i] += model->types[i];
}

static void embed(const pass *p) {
    const sri_model *model = p->model;
    const sri_batch *batch = p->batch;
    sri_scratch *s = p->scratch;
    size_t hidden = model->config.hidden;
    for (size_t t = 0; t < batch->texts; t++)
        for (size_t i = batch->start[t]; i < batch->start[t + 1]; i++) {
            read_word(model, (size_t)batch->ids[i], s->x + i * hidden);
            read_position(model, i - batch->start[t], s->narrow + i * hidden);
        }
    run_norm(p, &model->after_embedding, s->x, s->narrow, batch->start[batch->texts],
             &model->layers[0].attention_in);
}

typedef struct attention_step {
    const pass *pass;
    size_t text;
    bool first_only; /* one row a text goes to the context */
} attention_step;

/* One head of one text, in the scratch memory of that head: with a team, heads run at once. */
static void attend_chunk(void *argument, size_t head) {
    const attention_step *step = argument;
    const pass *p = step->pass;
    sri_scratch *s = p->scratch;
    size_t hidden = p->model->config.hidden, width = hidden / p->model->config.heads;
    size_t first = p->batch->start[step->text], t = p->batch->start[step->text + 1] - first;
    const float *q = s->wide + first * 3 * hidden + head * width;
    sri_attention attention = {
        .q = q,
        .k = q + hidden,
        .v = q + 2 * hidden,
        .stride = 3 * hidden,
        .rows = step->first_only ? 1 : t,
        .t = t,
        .width = width,
        .scale = 1.0f / sqrtf((float)width),
        .out = s->context + (step->first_only ? step->text : first) * hidden + head * width,
        .out_stride = hidden,
        .scratch = s->attention + (p->team == NULL ? 0 : head * s->attention_floats),
    };
    sri_kernels_get()->attend(&attention);
}

static void run_attention(const pass *p, bool first_only) {
    size_t hidden = p->model->config.hidden;
    for (size_t text = 0; text < p->batch->texts; text++) {
        attention_step step = {p, text, first_only};
        sri_team_run(p->team, attend_chunk, &step, p->model->config.heads);
        if (!first_only) continue;
        float *x = p->scratch->x;
        memmove(x + text * hidden, x + p->batch->start[text] * hidden, hidden * sizeof *x);
    }
}

/* From the residual stream, normalised by what came before, through attention and feed-forward. With `first_only`, x holds afterwards one row a text. */
static void run_layer(const pass *p, size_t index, bool first_only) {
    sri_scratch *s = p->scratch;
    const layer *l = &p->model->layers[index];
    const linear *next = index + 1 < p->model->config.layers ? &l[1].attention_in : NULL;
    size_t m = p->batch->start[p->batch->texts];
    run_product(p, &l->attention_in, s->x, m, SRI_LINEAR, s->wide);
    run_attention(p, first_only);
    if (first_only) m = p->batch->texts;
    run_linear(p, &l->attention_out, s->context, m, SRI_LINEAR, s->narrow);
    run_norm(p, &l->after_attention, s->x, s->narrow, m, &l->expand);
    run_product(p, &l->expand, s->x, m, SRI_GELU, s->wide);
    run_linear(p, &l->contract, s->wide, m, SRI_LINEAR, s->narrow);
    run_norm(p, &l->after_feed_forward, s->x, s->narrow, m, next);
}

static void mean_rows(const float *x, size_t rows, size_t hidden, float *out) {
    memcpy(out, x, hidden * sizeof *out);
    for (size_t i = 1; i < rows; i++)
        for (size_t d = 0; d < hidden; d++) out[d] += x[i * hidden + d];
    for (size_t d = 0; d < hidden; d++) out[d] /= (float)rows;
}

void sri_model_forward(const sri_model *model, const sri_batch *batch, sr_pooling pooling,
                       sri_scratch *scratch, sri_team *team, float *out) {
    size_t hidden = model->config.hidden, layers = model->config.layers;
    bool cls = pooling == SR_POOLING_CLS;
    pass p = {model, batch, scratch, team,
              atomic_load_explicit(&model->packed, memory_order_acquire)};
    assert(p.packed || sri_model_runs_unpacked(model));
    embed(&p);
    for (size_t i = 0; i < layers; i++) run_layer(&p, i, cls && i + 1 == layers);
    for (size_t t = 0; t < batch->texts; t++) {
        const float *x = scratch->x + (cls ? t : batch->start[t]) * hidden;
        size_t rows = cls ? 1 : batch->start[t + 1] - batch->start[t];
        mean_rows(x, rows, hidden, out + t * hidden);
    }
}
