/*
 * kernels_int.h - what the files of kernels share: the tables of the levels and the constants of
 * the functions that every level computes alike.
 */
#ifndef SRI_KERNELS_INT_H
#define SRI_KERNELS_INT_H

#include "kernels/exponential.h"
#include "kernels/kernels.h"

#include <math.h>

void sri_kernels_ref(sri_kernels *table);
#if defined(__x86_64__)
/* Each overlays what its level has. */
void sri_kernels_gemm_s8_avx2(sri_kernels *table);
void sri_kernels_gemm_f32_avx2(sri_kernels *table);
void sri_kernels_rows_avx2(sri_kernels *table);
void sri_kernels_attend_avx2(sri_kernels *table);
void sri_kernels_dots_avx2(sri_kernels *table);
void sri_kernels_static_avx2(sri_kernels *table);
void sri_kernels_scan_avx2(sri_kernels *table);
void sri_kernels_gemm_s8_avxvnni(sri_kernels *table);
void sri_kernels_scan_avxvnni(sri_kernels *table);
void sri_kernels_gemm_s8_avx512(sri_kernels *table);
void sri_kernels_gemm_f32_avx512(sri_kernels *table);
void sri_kernels_rows_avx512(sri_kernels *table);
void sri_kernels_attend_avx512(sri_kernels *table);
void sri_kernels_dots_avx512(sri_kernels *table);
void sri_kernels_static_avx512(sri_kernels *table);
void sri_kernels_scan_avx512(sri_kernels *table);
void sri_kernels_gemm_s8_vnni(sri_kernels *table);
void sri_kernels_scan_vnni(sri_kernels *table);
void sri_kernels_gemm_s8_amx(sri_kernels *table);
#elif defined(__aarch64__)
void sri_kernels_gemm_s8_neon(sri_kernels *table);
void sri_kernels_gemm_f32_neon(sri_kernels *table);
void sri_kernels_rows_neon(sri_kernels *table);
void sri_kernels_attend_neon(sri_kernels *table);
void sri_kernels_dots_neon(sri_kernels *table);
void sri_kernels_static_neon(sri_kernels *table);
void sri_kernels_scan_neon(sri_kernels *table);
void sri_kernels_gemm_s8_dotprod(sri_kernels *table);
void sri_kernels_scan_dotprod(sri_kernels *table);
void sri_kernels_gemm_s8_i8mm(sri_kernels *table);
#endif

/* rint() of a value that may be NaN or huge when weights are damaged: no undefined conversion. */
static inline int32_t sri_round_within(float value) {
    return (int32_t)rintf(fminf(fmaxf(value, -1000.0f), 1000.0f));
}

/* The quantisation of a row whose extremes, 0 among them, are given; returns what values are
 * multiplied by. */
static inline float sri_quantize_range(float low, float high, float *scale, int32_t *zero) {
    float range = high - low + 0.0f; /* never -0, whichever zero the extremes are */
    float inverse = range > 0 ? 255.0f / range : 0.0f;
    *scale = range / 255.0f;
    *zero = SRI_MIN(SRI_MAX(sri_round_within(-low * inverse), 0), 255);
    return inverse;
}

/* gelu(x) = x Phi(x) = max(x, 0) - |x| Phi(-|x|), absolute error below 9e-7. a = min(|x|,
 * GELU_CLAMP); Phi(-a) = P(a)^16, P being of degree 5, by fma from the highest power, squared four
 * times; result fma(-|x|, Phi, max(x, 0)). The 16th root of Phi falls from 0.96 to 0.30 so evenly
 * that a low degree does; coefficients fitted by us to least maximal error of gelu. No division, no
 * exponential, and no cancellation in the tail. */
#define GELU_CLAMP 5.75f
#define GELU_0     0.9576057195663452f
#define GELU_1     -0.04777984693646431f
#define GELU_2     -0.017767151817679405f
#define GELU_3     -0.0013962486991658807f
#define GELU_4     0.0006922381580807269f
#define GELU_5     -4.552055543172173e-05f

#endif
