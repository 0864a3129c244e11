/*
 * ref.c - the plain kernels: the ground truth of the others, and what runs on a CPU without any of
 * them.
 *
 * Written for clearness, but for the integer product, whose inner loop compilers vectorise. fmaf()
 * is a call here, one instruction on the higher levels.
 */
#include "kernels/kernels_int.h"

#include <string.h>

static float sum_lanes(float lanes[16]) {
    for (int width = 8; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

static float exp_ref(float x) {
    x = fmaxf(x, EXP_LOWEST);
    float n = rintf(x * EXP_LOG2E);
    float r = fmaf(n, EXP_LN2_LOW, fmaf(n, EXP_LN2_HIGH, x));
    float p = fmaf(fmaf(fmaf(fmaf(EXP_4, r, EXP_3), r, EXP_2), r, EXP_1), r, EXP_0);
    p = fmaf(fmaf(p, r, 1.0f), r, 1.0f);
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static float gelu_ref(float x) {
    static const float coefficients[] = {GELU_4, GELU_3, GELU_2, GELU_1, GELU_0};
    float a = fminf(fabsf(x), GELU_CLAMP), p = GELU_5;
    for (size_t i = 0; i < SRI_COUNT(coefficients); i++) p = fmaf(p, a, coefficients[i]);
    for (int i = 0; i < 4; i++) p *= p;
    return fmaf(-fabsf(x), p, fmaxf(x, 0.0f));
}

/* ---- int8 product: packed by channel as a head and w [k], rounded up to a whole float -------- */

typedef struct channel_head {
    float scale, bias;
    int32_t sum; /* of the weights */
} channel_head;

static size_t gemm_s8_size(size_t n, size_t k) {
    return n * (sizeof(channel_head) + sri_round_up(k, sizeof(float)));
}

static void gemm_s8_pack(const sri_weights_s8 *weights, void *packed) {
    size_t k = weights->k;
    for (size_t j = 0; j < weights->n; j++) {
        channel_head *head = (channel_head *)((char *)packed + gemm_s8_size(j, k));
        const int8_t *w = weights->w + j * k;
        *head = (channel_head){weights->scale[j], weights->bias[j], 0};
        for (size_t i = 0; i < k; i++) head->sum += w[i];
        memcpy(head + 1, w, k);
    }
}

static int32_t dot_u8s8(const uint8_t *a, const int8_t *b, size_t k) {
    int32_t sum = 0;
    for (size_t i = 0; i < k; i++) sum += (int16_t)a[i] * (int16_t)b[i];
    return sum;
}

static void gemm_s8_run(const sri_quantized *x, size_t m, const void *packed, size_t k,
                        const sri_product *product) {
    float *y = product->y;
    size_t n = product->n;
    for (size_t j = product->first; j < product->last; j++) {
        const channel_head *head =
            (const channel_head *)((const char *)packed + gemm_s8_size(j, k));
        const int8_t *w = (const int8_t *)(head + 1);
        for (size_t i = 0; i < m; i++) {
            int32_t sum = dot_u8s8(x->q + i * x->stride, w, k) - x->zero[i] * head->sum;
            float value = fmaf((float)sum * head->scale, x->scale[i], head->bias);
            y[i * n + j] = product->activation == SRI_GELU ? gelu_ref(value) : value;
        }
    }
}

/* ---- fp32 product: packed by channel as bias and w [k] --------------------------------------- */

static size_t gemm_f32_size(size_t n, size_t k) { return n * (1 + k) * sizeof(float); }

static void gemm_f32_pack(const sri_weights_f32 *weights, void *packed) {
    size_t k = weights->k;
    float *channel = packed;
    for (size_t j = 0; j < weights->n; j++, channel += 1 + k) {
        channel[0] = weights->bias[j];
        memcpy(channel + 1, weights->w + j * k, k * sizeof *channel);
    }
}

static void gemm_f32_run(const float *x, size_t m, const void *packed, size_t k,
                         const sri_product *product) {
    float *y = product->y;
    size_t n = product->n;
    for (size_t i = 0; i < m; i++)
        for (size_t j = product->first; j < product->last; j++) {
            const float *channel = (const float *)packed + j * (1 + k), *w = channel + 1;
            float sum = 0;
            for (size_t l = 0; l < k; l++) sum = fmaf(x[i * k + l], w[l], sum);
            sum += channel[0];
            y[i * n + j] = product->activation == SRI_GELU ? gelu_ref(sum) : sum;
        }
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void quantize_row(const float *x, size_t k, uint8_t *q, float *scale, int32_t *zero) {
    float low = 0, high = 0;
    for (size_t i = 0; i < k; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    float inverse = sri_quantize_range(low, high, scale, zero);
    for (size_t i = 0; i < k; i++) {
        int32_t value = sri_round_within(x[i] * inverse) + *zero;
        q[i] = (uint8_t)SRI_MIN(SRI_MAX(value, 0), 255);
    }
}

static void quantize(const float *x, size_t m, size_t k, const sri_quantized *out) {
    for (size_t i = 0; i < m; i++)
        quantize_row(x + i * k, k, out->q + i * out->stride, &out->scale[i], &out->zero[i]);
}

static void add_norm_row(float *x, const float *y, size_t n, const sri_norm *norm) {
    float lanes[16] = {0};
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
        lanes[i % 16] += x[i];
    }
    float mean = sum_lanes(lanes) / (float)n;
    memset(lanes, 0, sizeof lanes);
    for (size_t i = 0; i < n; i++) {
        x[i] -= mean;
        lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
    }
    float inverse = 1.0f / sqrtf(sum_lanes(lanes) / (float)n + norm->epsilon);
    for (size_t i = 0; i < n; i++) x[i] = fmaf(x[i] * inverse, norm->gamma[i], norm->beta[i]);
}

static void add_norm(float *x, const float *y, size_t m, size_t n, const sri_norm *norm,
                     const sri_quantized *out) {
    for (size_t i = 0; i < m; i++) {
        add_norm_row(x + i * n, y + i * n, n, norm);
        if (out != NULL)
            quantize_row(x + i * n, n, out->q + i * out->stride, &out->scale[i], &out->zero[i]);
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

static void softmax(float *scores, size_t t, float *inverse_sum) {
    float highest = scores[0], lanes[16] = {0};
    for (size_t j = 1; j < t; j++) highest = fmaxf(highest, scores[j]);
    for (size_t j = 0; j < t; j++) {
        scores[j] = exp_ref(scores[j] - highest);
        lanes[j % 16] += scores[j];
    }
    *inverse_sum = 1.0f / sum_lanes(lanes);
}

static void attend(const sri_attention *a) {
    float *scores = a->scratch;
    for (size_t i = 0; i < a->rows; i++) {
        for (size_t j = 0; j < a->t; j++) {
            float sum = 0;
            for (size_t d = 0; d < a->width; d++)
                sum = fmaf(a->q[i * a->stride + d], a->k[j * a->stride + d], sum);
            scores[j] = sum * a->scale;
        }
        float inverse_sum;
        softmax(scores, a->t, &inverse_sum);
        for (size_t d = 0; d < a->width; d++) {
            float sum = 0;
            for (size_t j = 0; j < a->t; j++) sum = fmaf(scores[j], a->v[j * a->stride + d], sum);
            a->out[i * a->out_stride + d] = sum * inverse_sum;
        }
    }
}

/* ---- vector search --------------------------------------------------------------------------- */

static void dots(const float *queries, size_t query_count, const float *vectors, size_t n,
                 size_t dim, float *out) {
    for (size_t q = 0; q < query_count; q++)
        for (size_t i = 0; i < n; i++) {
            const float *a = queries + q * dim, *b = vectors + i * dim;
            float lanes[16] = {0};
            for (size_t k = 0; k < dim; k++) lanes[k % 16] = fmaf(a[k], b[k], lanes[k % 16]);
            out[q * n + i] = sum_lanes(lanes);
        }
}

static void dots_s8(const int8_t *queries, size_t query_count, const int8_t *const *rows, size_t n,
                    size_t dim, int32_t *out) {
    for (size_t q = 0; q < query_count; q++)
        for (size_t i = 0; i < n; i++) {
            const int8_t *a = queries + q * dim, *b = rows[i];
            int32_t sum = 0;
            for (size_t k = 0; k < dim; k++) sum += (int16_t)a[k] * (int16_t)b[k];
            out[q * n + i] = sum;
        }
}

/* Patterns of four: byte j of a group is of row j in its lower half and of row j + HALF in its
 * upper half; [groups, HALF]. Every level without lookups of its own has the layout. */
enum { HALF = SRI_SIGN_ROWS / 2 };

static void pack_signs(const uint8_t *patterns, size_t groups, size_t row, uint8_t *block) {
    uint8_t *byte = block + row % HALF;
    unsigned shift = row < HALF ? 0 : 4;
    for (size_t g = 0; g < groups; g++, byte += HALF)
        *byte = (uint8_t)(*byte | patterns[g] << shift);
}

static void sum_signs_of_one(const uint8_t *packed, size_t blocks, size_t groups,
                             const uint8_t *tables, uint16_t *sums) {
    memset(sums, 0, blocks * SRI_SIGN_ROWS * sizeof *sums);
    for (size_t b = 0; b < blocks; b++, sums += SRI_SIGN_ROWS)
        for (size_t g = 0; g < groups; g++, packed += HALF) {
            const uint8_t *table = tables + g * 16;
            for (size_t j = 0; j < HALF; j++) {
                sums[j] = (uint16_t)(sums[j] + table[packed[j] & 15]);
                sums[j + HALF] = (uint16_t)(sums[j + HALF] + table[packed[j] >> 4]);
            }
        }
}

static void sum_signs(const uint8_t *packed, size_t blocks, size_t groups,
                      const uint8_t *const *tables, size_t queries, uint16_t *const *sums) {
    for (size_t q = 0; q < queries; q++)
        sum_signs_of_one(packed, blocks, groups, tables[q], sums[q]);
}

static size_t pick(const sri_bounds *b, uint32_t *rows, float *found) {
    size_t count = 0;
    for (size_t i = 0; i < b->n; i++) {
        float bound = fmaf(b->weights[i], fmaf((float)b->sums[i], b->step, b->offset), b->bases[i]);
        if (!(bound >= b->least)) continue;
        rows[count] = (uint32_t)i;
        found[count++] = bound;
    }
    return count;
}

/* ---- static embeddings ----------------------------------------------------------------------- */

static float sum_rows(const int8_t *rows, size_t dim, const sri_weighted_row *list, size_t count,
                      float *out) {
    float lanes[16] = {0};
    for (size_t d = 0; d < dim; d++) {
        float sum = 0;
        for (size_t i = 0; i < count; i++)
            sum = fmaf((float)rows[list[i].row * dim + d], list[i].weight, sum);
        out[d] = sum;
        lanes[d % 16] = fmaf(sum, sum, lanes[d % 16]);
    }
    return sum_lanes(lanes);
}

void sri_kernels_ref(sri_kernels *table) {
    *table = (sri_kernels){
        .gemm_s8 = {gemm_s8_size, gemm_s8_pack, gemm_s8_run},
        .gemm_f32 = {gemm_f32_size, gemm_f32_pack, gemm_f32_run},
        .quantize = quantize,
        .add_norm = add_norm,
        .attend = attend,
        .dots = dots,
        .sum_rows = sum_rows,
        .dots_s8 = dots_s8,
        .signs = {.group = 4, .step = 1, .most = 63, .pack = pack_signs, .sum = sum_signs},
        .pick = pick,
    };
}
