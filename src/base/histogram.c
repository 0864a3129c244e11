/* histogram.c - see histogram.h. */
#include "base/histogram.h"

#include <math.h>

/* The first 128 cells are single nanoseconds; each power of two after them has 128 cells. */
static size_t cell_of(uint64_t value) {
    uint64_t most = ((uint64_t)1 << SRI_HISTOGRAM_BITS) - 1;
    if (value > most) value = most;
    if (value < SRI_HISTOGRAM_PARTS) return (size_t)value;
    int shift = 63 - __builtin_clzll(value) - 7;
    return (size_t)(shift + 1) * SRI_HISTOGRAM_PARTS +
           (size_t)((value >> shift) - SRI_HISTOGRAM_PARTS);
}

static uint64_t upper_end(size_t cell) {
    if (cell < SRI_HISTOGRAM_PARTS) return cell;
    size_t shift = cell / SRI_HISTOGRAM_PARTS - 1, part = cell % SRI_HISTOGRAM_PARTS;
    return ((uint64_t)(SRI_HISTOGRAM_PARTS + part + 1) << shift) - 1;
}

void sri_histogram_add(sri_histogram *histogram, uint64_t nanoseconds) {
    histogram->cells[cell_of(nanoseconds)]++;
    histogram->count++;
    histogram->sum += (double)nanoseconds;
    if (nanoseconds > histogram->max) histogram->max = nanoseconds;
}

void sri_histogram_merge(sri_histogram *into, const sri_histogram *from) {
    for (size_t i = 0; i < SRI_HISTOGRAM_CELLS; i++) into->cells[i] += from->cells[i];
    into->count += from->count;
    into->sum += from->sum;
    into->max = SRI_MAX(into->max, from->max);
}

double sri_histogram_quantile(const sri_histogram *histogram, double quantile) {
    if (histogram->count == 0) return NAN;
    uint64_t seen = 0, wanted = (uint64_t)ceil(quantile * (double)histogram->count);
    wanted = SRI_MAX(wanted, 1);
    for (size_t i = 0; i < SRI_HISTOGRAM_CELLS; i++) {
        seen += histogram->cells[i];
        if (seen >= wanted) return (double)SRI_MIN(upper_end(i), histogram->max);
    }
    return (double)histogram->max;
}
