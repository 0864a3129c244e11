/*
 * kernels.h - the one table of inner loops, filled for the CPU at first use.
 *
 * Every level gives the same bits: integer sums are exact, and every floating-point result has one
 * defined order of operations, stated at each entry. "In 16 lanes" means: lane l sums the elements
 * whose index is l modulo 16, ascending, from +0; then lane l takes lane l + 8, then l + 4, l + 2,
 * l + 1. fma() is the fused multiply-add. So a text has the same vector, and gets the same
 * decision, on every CPU.
 *
 * Matrices are row-major; shapes are [rows, columns]. Pointers need no alignment beyond their
 * type's, except packed weights (64 bytes).
 */
#ifndef SRI_KERNELS_H
#define SRI_KERNELS_H

#include "base/base.h"
#include "cpu/cpu.h"

/* Activations quantised row by row: value = scale * (q - zero). */
typedef struct sri_quantized {
    uint8_t *q;    /* [m, stride]; the bytes from k to stride are never looked at for their value */
    float *scale;  /* [m] */
    int32_t *zero; /* [m], 0 to 255 */
    size_t stride; /* k rounded up to a multiple of SRI_K_STEP */
} sri_quantized;

#define SRI_K_STEP 4

static inline size_t sri_round_up(size_t value, size_t step) {
    return (value + step - 1) / step * step;
}

typedef enum sri_activation { SRI_LINEAR, SRI_GELU } sri_activation;

/* Which part of y [m, n] a product computes: columns first to last - 1. Both are multiples of
 * SRI_N_STEP, or n: so a product can be shared out among threads. Each column is the same however
 * it is cut. */
typedef struct sri_product {
    float *y;
    size_t n, first, last;
    sri_activation activation;
} sri_product;

#define SRI_N_STEP 64

/* The parts of a linear layer y = act(x W^T + b), W being [n, k], before packing. */
typedef struct sri_weights_s8 {
    const int8_t *w;    /* [n, k], -127 to 127 */
    const float *scale; /* [n] */
    const float *bias;  /* [n] */
    size_t n, k;
} sri_weights_s8;

typedef struct sri_weights_f32 {
    const float *w;    /* [n, k] */
    const float *bias; /* [n] */
    size_t n, k;
} sri_weights_f32;

/* A matrix product is {packed_size, pack, run}, so that no layout ever meets the wrong kernel. It may
 * be packed in pieces, at once by several threads: the channels from j on, a multiple of SRI_N_STEP,
 * stand packed_size(j, k) bytes from its beginning. */
typedef struct sri_gemm_s8 {
    size_t (*packed_size)(size_t n, size_t k);
    void (*pack)(const sri_weights_s8 *weights, void *packed);
    /* y[i, j] = act(fma(float(sum_k q[i,k] w[j,k] - zero[i] sum_k w[j,k]) * scale_w[j], scale[i],
     * bias[j])), y [m, n]. k is at most 65536, so that the sums stay below 2^31. */
    void (*run)(const sri_quantized *x, size_t m, const void *packed, size_t k,
                const sri_product *product);
} sri_gemm_s8;

typedef struct sri_gemm_f32 {
    size_t (*packed_size)(size_t n, size_t k);
    void (*pack)(const sri_weights_f32 *weights, void *packed);
    /* y[i, j] = act(s + bias[j]) where s is summed by fma over ascending k from 0; x [m, k], y [m,
     * n]. */
    void (*run)(const float *x, size_t m, const void *packed, size_t k, const sri_product *product);
} sri_gemm_f32;

/* Quantises x [m, k]: lo = min(0, row), hi = max(0, row), scale = (hi - lo) / 255, zero = rint(-lo
 * * inv), q = clamp(rint(x * inv) + zero, 0, 255) with inv = 255 / (hi - lo); a row of zeros has
 * scale 0, q = 0. */
typedef void sri_quantize_fn(const float *x, size_t m, size_t k, const sri_quantized *out);

typedef struct sri_norm {
    const float *gamma, *beta; /* [n] */
    float epsilon;
} sri_norm;

/* x = LayerNorm(x + y) * gamma + beta for each row of x, y [m, n]: s = x + y; mean = sum(s) / n and
 * variance = sum((s - mean)^2) / n by fma, both in 16 lanes; inv = 1 / sqrt(variance + epsilon);
 * x = fma((s - mean) * inv, gamma, beta). Unless `out` is NULL, x is then quantised into it, as
 * sri_quantize_fn does, while its rows are at hand. */
typedef void sri_add_norm_fn(float *x, const float *y, size_t m, size_t n, const sri_norm *norm,
                             const sri_quantized *out);

/* Attention of one head over one text: out[i] = softmax(scale * q[i] . k[j] over j) . v for i <
 * rows. k, v: [t, width] with rows `stride` floats apart, as q [rows, width]; out likewise,
 * `out_stride` apart. Dot products by fma over ascending width from 0; softmax less the maximum,
 * its sum in 16 lanes; values weighted by fma over ascending j from 0, then multiplied by 1 / sum.
 * `scratch`: sri_attend_scratch(t, width) floats. */
typedef struct sri_attention {
    const float *q, *k, *v;
    size_t stride;
    size_t rows, t, width;
    float scale;
    float *out;
    size_t out_stride;
    float *scratch;
} sri_attention;

#define SRI_ATTEND_ROWS 8

/* Keys transposed [width, t16], then scores of SRI_ATTEND_ROWS rows [t16], t16 = t rounded up to
 * 16. */
static inline size_t sri_attend_scratch(size_t t, size_t width) {
    return sri_round_up(t, 16) * (sri_round_up(width, 16) + SRI_ATTEND_ROWS);
}

typedef void sri_attend_fn(const sri_attention *attention);

/* out[q * n + i] = queries[q] . vectors[i]: dot products of fp32 rows of `dim` floats, by fma in 16
 * lanes. */
typedef void sri_dots_fn(const float *queries, size_t query_count, const float *vectors, size_t n,
                         size_t dim, float *out);

/* out[q * n + i] = queries[q] . rows[i]: exact dot products of `dim` signed bytes from -127 to
 * 127, the rows being anywhere. dim is at most 65536. */
typedef void sri_dots_s8_fn(const int8_t *queries, size_t query_count, const int8_t *const *rows,
                            size_t n, size_t dim, int32_t *out);

/* Signs of rows, and sums of what a query's tables say to them (FastScan: F. Andre, A.-M. Kermarrec,
 * N. Le Scouarnec, 2017). The signs of `group` neighbouring dimensions are a pattern: bit j is set
 * where the j-th is not negative. A table has an entry for each of the 2^group patterns. How
 * patterns lie in memory is for each level to say, as its lookups want them; so what packs and what
 * sums come together, and tables follow `group` and `most`. */
typedef struct sri_signs {
    size_t group;  /* at most SRI_SIGN_GROUP */
    size_t step;   /* a row's groups are a multiple of this; those that fill up have pattern 0 */
    unsigned most; /* the largest entry */
    /* Adds the patterns of one row, 0 to SRI_SIGN_ROWS - 1, to a block that was zeroed before the
     * first: sri_sign_bytes(groups) bytes. */
    void (*pack)(const uint8_t *patterns, size_t groups, size_t row, uint8_t *block);
    /* sums[q][row] = sum over groups g of tables[q][g * 2^group + pattern of row and g], modulo
     * 65536; for all rows of all blocks, which stand one behind the other. */
    void (*sum)(const uint8_t *packed, size_t blocks, size_t groups, const uint8_t *const *tables,
                size_t queries, uint16_t *const *sums);
} sri_signs;

#define SRI_SIGN_ROWS  128 /* of a block */
#define SRI_SIGN_GROUP 6

static inline size_t sri_sign_groups(const sri_signs *signs, size_t dim) {
    return sri_round_up((dim + signs->group - 1) / signs->group, signs->step);
}

static inline size_t sri_sign_bytes(const sri_signs *signs, size_t groups) {
    return groups * signs->group * (SRI_SIGN_ROWS / 8);
}

/* The bound of row i is fma(weights[i], fma((float)sums[i], step, offset), bases[i]). */
typedef struct sri_bounds {
    const uint16_t *sums;
    const float *weights, *bases;
    size_t n;
    float step, offset, least;
} sri_bounds;

/* Lists the rows whose bound is at least `least`, ascending, with their bounds, and returns
 * their number. `rows` and `found` have room for n. */
typedef size_t sri_pick_fn(const sri_bounds *bounds, uint32_t *rows, float *found);

/* A row of a table and what it is multiplied by. */
typedef struct sri_weighted_row {
    uint32_t row;
    float weight;
} sri_weighted_row;

/* out[d] = sum over the listed rows of weight * rows[row, d], by fma in the order of the list from
 * +0; rows [.., dim] of int8. Returns the sum of out[d] * out[d], by fma in 16 lanes. */
typedef float sri_sum_rows_fn(const int8_t *rows, size_t dim, const sri_weighted_row *list,
                              size_t count, float *out);

typedef struct sri_kernels {
    sri_gemm_s8 gemm_s8;
    sri_gemm_f32 gemm_f32;
    sri_quantize_fn *quantize;
    sri_add_norm_fn *add_norm;
    sri_attend_fn *attend;
    sri_dots_fn *dots;
    sri_sum_rows_fn *sum_rows;
    sri_dots_s8_fn *dots_s8;
    sri_signs signs;
    sri_pick_fn *pick;
} sri_kernels;

/* The table for the level that sri_cpu_chosen() gives; constant after the first call, from any
 * thread. */
const sri_kernels *sri_kernels_get(void);

/* Fills `table` for a level, which the CPU must have: for tests and benchmarks. */
void sri_kernels_fill(sri_cpu_level level, sri_kernels *table);

#endif
