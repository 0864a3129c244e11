/*
 * exponential.h - the one approximation of exp() by which kernels and the solver of heads compute.
 */
#ifndef SRI_EXPONENTIAL_H
#define SRI_EXPONENTIAL_H

/* exp(x) for x <= 0, relative error below 8e-8. x is clamped to EXP_LOWEST; n = rint(x *
 * EXP_LOG2E); r = fma(n, EXP_LN2_LOW, fma(n, EXP_LN2_HIGH, x)); the polynomial 1 + r + r^2 (EXP_0 +
 * EXP_1 r + ..) by fma from the highest power; times 2^n. Cody and Waite's reduction; coefficients
 * fitted by us to least maximal error on |r| <= ln 2 / 2. */
#define EXP_LOWEST   -87.0f
#define EXP_LOG2E    1.44269504f
#define EXP_LN2_HIGH -0.693359375f
#define EXP_LN2_LOW  2.12194440e-4f
#define EXP_0        0.5000000026939202f
#define EXP_1        0.1666657697858637f
#define EXP_2        0.041666375209496426f
#define EXP_3        0.00836317981187358f
#define EXP_4        0.0013941117533369136f

#endif
