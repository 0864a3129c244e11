/*
 * static_neon.c - the weighted sum of int8 rows with NEON: 32 columns of the sum are kept in eight
 * registers while all rows of the list go by; what is left goes by 16 columns, then one by one.
 */
#include "kernels/arm/math_neon.h"

/* `parts` times 16 columns from `column` on; adds their squares to `squares`. */
SRI_INLINE void sum_columns(const int8_t *rows, size_t dim, const sri_weighted_row *list,
                            size_t count, size_t column, const int parts, float *out,
                            sri_lanes *squares) {
    sri_lanes sums[2] = {sri_zero_lanes(), sri_zero_lanes()};
    for (size_t i = 0; i < count; i++) {
        const int8_t *row = rows + list[i].row * dim + column;
        for (int p = 0; p < parts; p++) {
            int8x16_t bytes = vld1q_s8(row + 16 * p);
            int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
            int32x4_t fours[4] = {vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low),
                                  vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)};
            for (int part = 0; part < 4; part++)
                sums[p].v[part] =
                    vfmaq_n_f32(sums[p].v[part], vcvtq_f32_s32(fours[part]), list[i].weight);
        }
    }
    for (int p = 0; p < parts; p++) {
        sri_store_lanes(out + column + 16 * (size_t)p, 16, sums[p]);
        for (int part = 0; part < 4; part++)
            squares->v[part] = vfmaq_f32(squares->v[part], sums[p].v[part], sums[p].v[part]);
    }
}

/* The last columns, fewer than 16. */
static void sum_tail(const int8_t *rows, size_t dim, const sri_weighted_row *list, size_t count,
                     size_t column, float *out, sri_lanes *squares) {
    for (size_t d = column; d < dim; d++) {
        float sum = 0;
        for (size_t i = 0; i < count; i++)
            sum = __builtin_fmaf((float)rows[list[i].row * dim + d], list[i].weight, sum);
        out[d] = sum;
    }
    sri_lanes tail = sri_load_lanes(out + column, dim - column);
    for (int part = 0; part < 4; part++)
        squares->v[part] = vfmaq_f32(squares->v[part], tail.v[part], tail.v[part]);
}

static float sum_rows(const int8_t *rows, size_t dim, const sri_weighted_row *list, size_t count,
                      float *out) {
    sri_lanes squares = sri_zero_lanes();
    size_t column = 0;
    for (; column + 32 <= dim; column += 32)
        sum_columns(rows, dim, list, count, column, 2, out, &squares);
    for (; column + 16 <= dim; column += 16)
        sum_columns(rows, dim, list, count, column, 1, out, &squares);
    if (column < dim) sum_tail(rows, dim, list, count, column, out, &squares);
    return sri_sum_lanes(squares);
}

void sri_kernels_static_neon(sri_kernels *table) { table->sum_rows = sum_rows; }
