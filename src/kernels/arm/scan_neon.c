/*
 * scan_neon.c - the search of an index with NEON: tables of 16 sums looked up by tbl, 16 rows at a
 * time; products of bytes in words, added up in pairs.
 */
#include "kernels/arm/math_neon.h"

enum { HALF = SRI_SIGN_ROWS / 2, LANES = 16 };

/* ---- Signs: sums of up to four groups in bytes, of all groups in words ----------------------- */

/* The sums of 16 rows and of those 64 further on. */
static void sum_part(const uint8_t *packed, size_t groups, const uint8_t *tables, uint16_t *sums) {
    uint16x8_t s0 = vdupq_n_u16(0), s1 = s0, s2 = s0, s3 = s0;
    for (size_t g = 0; g < groups;) {
        uint8x16_t low = vdupq_n_u8(0), high = low;
        for (size_t end = SRI_MIN(g + 4, groups); g < end; g++) {
            uint8x16_t codes = vld1q_u8(packed + g * HALF);
            uint8x16_t table = vld1q_u8(tables + g * 16);
            low = vaddq_u8(low, vqtbl1q_u8(table, vandq_u8(codes, vdupq_n_u8(15))));
            high = vaddq_u8(high, vqtbl1q_u8(table, vshrq_n_u8(codes, 4)));
        }
        s0 = vaddw_u8(s0, vget_low_u8(low));
        s1 = vaddw_high_u8(s1, low);
        s2 = vaddw_u8(s2, vget_low_u8(high));
        s3 = vaddw_high_u8(s3, high);
    }
    vst1q_u16(sums, s0);
    vst1q_u16(sums + 8, s1);
    vst1q_u16(sums + HALF, s2);
    vst1q_u16(sums + HALF + 8, s3);
}

static void sum_signs(const uint8_t *packed, size_t blocks, size_t groups,
                      const uint8_t *const *tables, size_t queries, uint16_t *const *sums) {
    for (size_t b = 0; b < blocks; b++, packed += groups * HALF)
        for (size_t q = 0; q < queries; q++)
            for (size_t part = 0; part < HALF; part += LANES)
                sum_part(packed + part, groups, tables[q], sums[q] + b * SRI_SIGN_ROWS + part);
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

SRI_INLINE float bound_of(const sri_bounds *b, size_t i) {
    return fmaf(b->weights[i], fmaf((float)b->sums[i], b->step, b->offset), b->bases[i]);
}

static size_t pick(const sri_bounds *b, uint32_t *rows, float *found) {
    size_t count = 0, i = 0;
    const float32x4_t step = vdupq_n_f32(b->step), offset = vdupq_n_f32(b->offset);
    const float32x4_t least = vdupq_n_f32(b->least);
    for (; i + 4 <= b->n; i += 4) {
        float32x4_t sums = vcvtq_f32_u32(vmovl_u16(vld1_u16(b->sums + i)));
        float32x4_t bound = vfmaq_f32(vld1q_f32(b->bases + i), vld1q_f32(b->weights + i),
                                      vfmaq_f32(offset, sums, step));
        uint32x4_t enough = vcgeq_f32(bound, least);
        if (vmaxvq_u32(enough) == 0) continue;
        float bounds[4];
        vst1q_f32(bounds, bound);
        for (size_t lane = 0; lane < 4; lane++) {
            if (!(bounds[lane] >= b->least)) continue;
            rows[count] = (uint32_t)(i + lane);
            found[count++] = bounds[lane];
        }
    }
    for (; i < b->n; i++) {
        float bound = bound_of(b, i);
        if (!(bound >= b->least)) continue;
        rows[count] = (uint32_t)i;
        found[count++] = bound;
    }
    return count;
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static int32_t dot_row(const int8_t *query, const int8_t *row, size_t dim) {
    int32x4_t sums = vdupq_n_s32(0);
    size_t k = 0;
    for (; k + 16 <= dim; k += 16) {
        int8x16_t a = vld1q_s8(query + k), b = vld1q_s8(row + k);
        sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
        sums = vpadalq_s16(sums, vmull_high_s8(a, b));
    }
    int32_t sum = vaddvq_s32(sums);
    for (; k < dim; k++) sum += query[k] * row[k];
    return sum;
}

static void dots_s8(const int8_t *queries, size_t query_count, const int8_t *const *rows, size_t n,
                    size_t dim, int32_t *out) {
    for (size_t i = 0; i < n; i++) {
        for (size_t q = 0; q < query_count; q++)
            out[q * n + i] = dot_row(queries + q * dim, rows[i], dim);
    }
}

void sri_kernels_scan_neon(sri_kernels *table) {
    table->signs.sum = sum_signs;
    table->pick = pick;
    table->dots_s8 = dots_s8;
}
