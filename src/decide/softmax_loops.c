/*
 * softmax_loops.c - the solver's inner loops, compiled once per level with SRI_LOOPS_NAME set.
 *
 * Written so that GCC and Clang vectorise them at -O3: lanes are arrays of fixed length, or vectors of 16
 * floats, which a level without such registers takes in parts. Multiplications and additions are separate
 * (the build turns contraction off): no fmaf() is called where there is no instruction for it, and bits
 * agree. A version in intrinsics for each level was rejected: three times the code for a
 * few per cent.
 */
#include "decide/softmax_loops.h"
#include "kernels/exponential.h"

#include <string.h>

#ifndef SRI_LOOPS_NAME
#define SRI_LOOPS_NAME sri_softmax_loops_base
#endif

#define LANES SRI_SOFTMAX_LANES
#define AHEAD 4 /* rows fetched ahead */

typedef float lanes16 __attribute__((vector_size(64), aligned(4), may_alias));

/* ---- Weighted sums of rows -------------------------------------------------------------------------- */

/* Named sums, not an array, which GCC would keep in memory. */
static void sum_columns_64(const float *rows, size_t width, const sri_weighted_row *list,
                           size_t count, float *out) {
    lanes16 s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < count; i++) {
        const float *row = rows + (size_t)list[i].row * width;
        if (i + AHEAD < count) {
            const char *next = (const char *)(rows + (size_t)list[i + AHEAD].row * width);
            for (int line = 0; line < 4; line++) __builtin_prefetch(next + 64 * line);
        }
        float w = list[i].weight;
        const lanes16 *v = (const lanes16 *)(const void *)row;
        s0 += v[0] * w;
        s1 += v[1] * w;
        s2 += v[2] * w;
        s3 += v[3] * w;
    }
    lanes16 *to = (lanes16 *)(void *)out;
    to[0] = s0, to[1] = s1, to[2] = s2, to[3] = s3;
}

static void sum_columns_16(const float *rows, size_t width, const sri_weighted_row *list,
                           size_t count, float *out) {
    lanes16 s0 = {0};
    for (size_t i = 0; i < count; i++)
        s0 += *(const lanes16 *)(const void *)(rows + (size_t)list[i].row * width) * list[i].weight;
    *(lanes16 *)(void *)out = s0;
}

static void sum_columns_32(const float *rows, size_t width, const sri_weighted_row *list,
                           size_t count, float *out) {
    lanes16 s0 = {0}, s1 = s0;
    for (size_t i = 0; i < count; i++) {
        const lanes16 *v = (const lanes16 *)(const void *)(rows + (size_t)list[i].row * width);
        s0 += v[0] * list[i].weight;
        s1 += v[1] * list[i].weight;
    }
    lanes16 *to = (lanes16 *)(void *)out;
    to[0] = s0, to[1] = s1;
}

static void sum_rows(const float *rows, size_t width, const sri_weighted_row *list, size_t count,
                     float *out) {
    size_t column = 0;
    for (; column + 64 <= width; column += 64)
        sum_columns_64(rows + column, width, list, count, out + column);
    for (; column + 32 <= width; column += 32)
        sum_columns_32(rows + column, width, list, count, out + column);
    for (; column < width; column += 16)
        sum_columns_16(rows + column, width, list, count, out + column);
}

/* ---- Transposition ---------------------------------------------------------------------------------- */

static void transpose(const float *from, size_t rows, size_t columns, size_t from_stride, float *to,
                      size_t to_stride) {
    for (size_t r = 0; r < rows; r += 16)
        for (size_t c = 0; c < columns; c += 16) {
            size_t r_end = SRI_MIN(r + 16, rows), c_end = SRI_MIN(c + 16, columns);
            for (size_t j = c; j < c_end; j++)
                for (size_t i = r; i < r_end; i++)
                    to[j * to_stride + i] = from[i * from_stride + j];
        }
}

static void transpose_add(const float *from, size_t rows, size_t columns, size_t from_stride,
                          float *to, size_t to_stride) {
    for (size_t r = 0; r < rows; r += 16)
        for (size_t c = 0; c < columns; c += 16) {
            size_t r_end = SRI_MIN(r + 16, rows), c_end = SRI_MIN(c + 16, columns);
            for (size_t j = c; j < c_end; j++)
                for (size_t i = r; i < r_end; i++)
                    to[j * to_stride + i] += from[i * from_stride + j];
        }
}

/* ---- Softmax of columns ------------------------------------------------------------------------------- */

/* exp(x) for x <= 0, as exponential.h has it but for fused operations: relative error below 2e-7. Rounded
 * by adding 1.5 * 2^23. */
static inline float exp_plain(float x) {
    x = x > EXP_LOWEST ? x : EXP_LOWEST;
    float n = (x * EXP_LOG2E + 12582912.0f) - 12582912.0f;
    float r = (x + n * EXP_LN2_HIGH) + n * EXP_LN2_LOW;
    float p = (((EXP_4 * r + EXP_3) * r + EXP_2) * r + EXP_1) * r + EXP_0;
    p = (p * r + 1.0f) * r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static void softmax_columns(float *z, size_t classes, size_t stride, const float *bias,
                            float *highest, float *sums) {
    float top[LANES], total[LANES];
    for (int l = 0; l < LANES; l++) top[l] = -3.0e38f, total[l] = 0;
    for (size_t c = 0; c < classes; c++) {
        float *row = z + c * stride, b = bias[c];
        for (int l = 0; l < LANES; l++) {
            float value = row[l] + b;
            row[l] = value;
            top[l] = value > top[l] ? value : top[l];
        }
    }
    for (size_t c = 0; c < classes; c++) {
        float *row = z + c * stride;
        for (int l = 0; l < LANES; l++) {
            float value = exp_plain(row[l] - top[l]);
            row[l] = value;
            total[l] += value;
        }
    }
    memcpy(highest, top, sizeof top);
    memcpy(sums, total, sizeof total);
    for (int l = 0; l < LANES; l++) total[l] = 1.0f / total[l];
    for (size_t c = 0; c < classes; c++) {
        float *row = z + c * stride;
        for (int l = 0; l < LANES; l++) row[l] *= total[l];
    }
}

static void softmax_row(float *z, size_t n, float factor) {
    float highest = -3.0e38f, lanes[16] = {0};
    for (size_t c = 0; c < n; c++) {
        z[c] *= factor;
        highest = z[c] > highest ? z[c] : highest;
    }
    for (size_t c = 0; c < n; c++) z[c] = exp_plain(z[c] - highest);
    size_t c = 0;
    for (; c + 16 <= n; c += 16)
        for (size_t l = 0; l < 16; l++) lanes[l] += z[c + l];
    for (; c < n; c++) lanes[c % 16] += z[c];
    for (int width = 8; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    float inverse = 1.0f / lanes[0];
    for (c = 0; c < n; c++) z[c] *= inverse;
}

static void scale_columns(float *z, size_t classes, size_t stride, const float *factors) {
    float by[LANES];
    memcpy(by, factors, sizeof by);
    for (size_t c = 0; c < classes; c++) {
        float *row = z + c * stride;
        for (int l = 0; l < LANES; l++) row[l] *= by[l];
    }
}

/* ---- Vectors -------------------------------------------------------------------------------------------- */

static double sum_lanes_double(double lanes[16]) {
    for (int width = 8; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
    return lanes[0];
}

static double dot(const float *a, const float *b, size_t n) {
    double lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lanes[l] += (double)a[i + (size_t)l] * (double)b[i + (size_t)l];
    for (; i < n; i++) lanes[i % 16] += (double)a[i] * (double)b[i];
    return sum_lanes_double(lanes);
}

static double sum(const float *a, size_t n) {
    double lanes[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) lanes[l] += (double)a[i + (size_t)l];
    for (; i < n; i++) lanes[i % 16] += (double)a[i];
    return sum_lanes_double(lanes);
}

static void add(const float *restrict a, size_t n, float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] += a[i];
}

static void add_scaled(const float *restrict a, float factor, size_t n, float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] += factor * a[i];
}

static void add_scaled_double(const double *restrict a, double factor, size_t n,
                              double *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] += factor * a[i];
}

static void step(const float *restrict x, const float *restrict a, float factor, size_t n,
                 float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] + factor * a[i];
}

static void subtract(const float *restrict a, const float *restrict b, size_t n,
                     float *restrict y) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] - b[i];
}

void SRI_LOOPS_NAME(sri_softmax_loops *loops) {
    *loops = (sri_softmax_loops){
        .sum_rows = sum_rows,
        .transpose = transpose,
        .transpose_add = transpose_add,
        .softmax_columns = softmax_columns,
        .softmax_row = softmax_row,
        .scale_columns = scale_columns,
        .dot = dot,
        .sum = sum,
        .add = add,
        .add_scaled = add_scaled,
        .add_scaled_double = add_scaled_double,
        .step = step,
        .subtract = subtract,
    };
}
