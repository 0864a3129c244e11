/*
 * model_pack.c - packs the weights of a model's products for the kernels of this CPU.
 *
 * Weights are packed on all threads, since most of the time goes to the first touch of memory. They
 * stand in one block, in the order in which they are used, so that what a kernel fetches ahead at
 * the end of one is the beginning of the next. A thread packs one product, by SRI_N_STEP channels
 * at a time, and gives the file's pages back.
 *
 * Before that, a pass packs what it needs as it goes, and forgets it (forward.c): packing takes as
 * long as a few passes, touching 20 MB of memory for the first time three times as long, and many a
 * process has only one text.
 *
 * Large pages for the block were rejected: a hundredth faster, but where memory is fragmented,
 * packing waits tens of milliseconds.
 */
#include "model/model_int.h"

#include <string.h>

#define PRODUCTS 4 /* of a layer */

/* In the order of their use. */
static linear *product_of(const sri_model *model, size_t index) {
    layer *l = &model->layers[index / PRODUCTS];
    linear *const all[PRODUCTS] = {&l->attention_in, &l->attention_out, &l->expand, &l->contract};
    return all[index % PRODUCTS];
}

/* Of the first n channels. */
static size_t packed_size(const linear *product, size_t n) {
    const sri_kernels *kernels = sri_kernels_get();
    return product->quantised ? kernels->gemm_s8.packed_size(n, product->k)
                              : kernels->gemm_f32.packed_size(n, product->k);
}

static sr_status allocate(sri_model *model, sr_error *error) {
    size_t count = model->config.layers * PRODUCTS, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const linear *product = product_of(model, i);
        bytes += sri_round_up(packed_size(product, product->n), 64);
    }
    char *end = model->products = sri_alloc_aligned(bytes);
    if (end == NULL) return sri_fail_memory(error);
    for (size_t i = 0; i < count; i++) {
        linear *product = product_of(model, i);
        product->packed = end;
        end += sri_round_up(packed_size(product, product->n), 64);
    }
    return SR_OK;
}

/* Some channels of a product, and room for SRI_N_STEP of them. */
typedef struct channels {
    const linear *product;
    size_t first, count;
    float scale[SRI_N_STEP], bias[SRI_N_STEP];
    void *room; /* [SRI_N_STEP, k] int8 or floats; NULL where int8 weights can be read in place */
} channels;

static void read_parameters(channels *c) {
    size_t rows = c->product->rows;
    for (size_t i = 0; i < c->count; i++) {
        const stored *part = &c->product->parts[(c->first + i) / rows];
        size_t row = (c->first + i) % rows;
        sri_tensor_floats(part->bias, row, 1, &c->bias[i]);
        if (part->scale != NULL) sri_tensor_floats(part->scale, row, 1, &c->scale[i]);
    }
}

static const int8_t *bytes_of(const linear *product, size_t channel) {
    const stored *part = &product->parts[channel / product->rows];
    return (const int8_t *)part->weight->data + channel % product->rows * product->k;
}

static void pack_s8(const channels *c, void *packed) {
    size_t k = c->product->k;
    const int8_t *w = bytes_of(c->product, c->first);
    if (c->room != NULL) {
        for (size_t i = 0; i < c->count; i++)
            memcpy((int8_t *)c->room + i * k, bytes_of(c->product, c->first + i), k);
        w = c->room;
    }
    sri_kernels_get()->gemm_s8.pack(&(sri_weights_s8){w, c->scale, c->bias, c->count, k}, packed);
}

static void pack_f32(const channels *c, void *packed) {
    size_t k = c->product->k, rows = c->product->rows;
    for (size_t i = 0; i < c->count; i++) {
        const stored *part = &c->product->parts[(c->first + i) / rows];
        float *w = (float *)c->room + i * k;
        if (part->scale == NULL) {
            sri_tensor_floats(part->weight, (c->first + i) % rows * k, k, w);
            continue;
        }
        const int8_t *q = bytes_of(c->product, c->first + i);
        for (size_t j = 0; j < k; j++) w[j] = (float)q[j] * c->scale[i];
    }
    sri_kernels_get()->gemm_f32.pack(&(sri_weights_f32){c->room, c->bias, c->count, k}, packed);
}

bool sri_packs_in_place(const linear *product) {
    return product->quantised && (product->rows == product->n || product->rows % SRI_N_STEP == 0);
}

size_t sri_largest_product(const sri_model *model) {
    size_t largest = 0;
    for (size_t i = 0; i < model->config.layers * PRODUCTS; i++) {
        const linear *product = product_of(model, i);
        largest = SRI_MAX(largest, packed_size(product, product->n));
    }
    return largest;
}

void sri_pack_channels(const linear *product, size_t first, size_t last, void *packed, void *room) {
    channels c = {.product = product, .room = room};
    for (c.first = first; c.first < last; c.first += SRI_N_STEP) {
        c.count = SRI_MIN(last - c.first, (size_t)SRI_N_STEP);
        read_parameters(&c);
        char *place = (char *)packed + packed_size(product, c.first);
        if (product->quantised)
            pack_s8(&c, place);
        else
            pack_f32(&c, place);
    }
}

/* False when memory is short. */
static bool pack_product(const linear *product) {
    void *room = NULL;
    if (!sri_packs_in_place(product)) {
        size_t width = product->quantised ? sizeof(int8_t) : sizeof(float);
        room = sri_alloc_array(product->k, SRI_N_STEP * width);
        if (room == NULL) return false;
    }
    sri_pack_channels(product, 0, product->n, product->packed, room);
    sri_free(room);
    return true;
}

typedef struct packing {
    const sri_model *model;
    atomic_bool failed;
} packing;

static void pack_task(void *argument, size_t task, int slot) {
    (void)slot;
    packing *p = argument;
    const linear *product = product_of(p->model, task);
    if (!pack_product(product)) atomic_store(&p->failed, true);
    for (size_t i = 0; i < product->n / product->rows; i++)
        sri_safetensors_release(p->model->file, product->parts[i].weight);
}

static sr_status pack_all(sri_model *model, sri_pool *pool, sr_error *error) {
    size_t count = model->config.layers * PRODUCTS;
    if (model->products == NULL) {
        sr_status code = allocate(model, error);
        if (code != SR_OK) return code;
    }
    packing p = {.model = model};
    if (pool != NULL) sri_pool_run(pool, pack_task, &p, count);
    for (size_t i = 0; pool == NULL && i < count; i++) pack_task(&p, i, 0);
    return atomic_load(&p.failed) ? sri_fail_memory(error) : SR_OK;
}

bool sri_model_runs_unpacked(const sri_model *model) {
    bool runs = true;
    for (size_t i = 0; i < model->config.layers * PRODUCTS; i++)
        runs = runs && sri_packs_in_place(product_of(model, i));
    return runs;
}

sr_status sri_model_pack(sri_model *model, sri_pool *pool, sr_error *error) {
    if (atomic_load_explicit(&model->packed, memory_order_acquire)) return SR_OK;
    pthread_mutex_lock(&model->packing);
    sr_status code = SR_OK;
    if (!atomic_load_explicit(&model->packed, memory_order_relaxed)) {
        code = pack_all(model, pool, error);
        atomic_store_explicit(&model->packed, code == SR_OK, memory_order_release);
    }
    pthread_mutex_unlock(&model->packing);
    return code;
}
