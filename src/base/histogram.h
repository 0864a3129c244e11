/*
 * histogram.h - how often each duration occurred, to within one part in 128, in constant memory.
 *
 * The layout of HdrHistogram (Gil Tene, hdrhistogram.org): powers of two, each cut into equal parts, so that
 * a quantile of microseconds and one of minutes have the same relative error, and nothing has to be known
 * beforehand. One owner at a time; histograms of several threads are added up.
 */
#ifndef SRI_HISTOGRAM_H
#define SRI_HISTOGRAM_H

#include "base/base.h"

#define SRI_HISTOGRAM_PARTS 128
#define SRI_HISTOGRAM_BITS  42 /* durations from 2^42 ns (73 minutes) on count as that */
#define SRI_HISTOGRAM_CELLS ((SRI_HISTOGRAM_BITS - 6) * SRI_HISTOGRAM_PARTS)

typedef struct sri_histogram {
    uint64_t cells[SRI_HISTOGRAM_CELLS];
    uint64_t count;
    uint64_t max; /* ns, exact */
    double sum;   /* ns */
} sri_histogram;  /* zero it before the first use */

void sri_histogram_add(sri_histogram *histogram, uint64_t nanoseconds);
void sri_histogram_merge(sri_histogram *into, const sri_histogram *from);
/* Nanoseconds that a share `quantile` (0 to 1) of the durations does not exceed; the cell's upper end, and never
 * above the maximum. NaN when there are none. */
double sri_histogram_quantile(const sri_histogram *histogram, double quantile);

#endif
