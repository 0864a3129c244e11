/*
 * logarithm.h - the natural logarithm with one defined order of operations.
 *
 * libm's log() differs in its last bit between C libraries, and between CPUs with and without fused
 * multiplication; stored weights and fits must not.
 */
#ifndef SRI_LOGARITHM_H
#define SRI_LOGARITHM_H

#include <math.h>

/* ln(x) for a normal x > 0, relative error below 1e-14 away from 1: x = m * 2^e with m from sqrt(1/2) to
 * sqrt(2); ln m = 2 atanh((m - 1) / (m + 1)) by its series. */
static inline double sri_ln(double x) {
    int exponent;
    double m = frexp(x, &exponent);
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    double s = (m - 1) / (m + 1), square = s * s, series = 0;
    for (int k = 21; k > 0; k -= 2) series = series * square + 1.0 / k;
    return 2 * s * series + exponent * 0.69314718055994531;
}

#endif
