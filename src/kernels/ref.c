/* ref.c - the plain kernels, the ground truth of the others. */
#include "kernels/kernels.h"

#include <math.h>

static void dots(const float *queries, size_t query_count, const float *vectors, size_t n, size_t dim, float *out) {
    for (size_t q = 0; q < query_count; q++)
        for (size_t i = 0; i < n; i++) {
            const float *a = queries + q * dim, *b = vectors + i * dim;
            float lanes[16] = {0};
            for (size_t k = 0; k < dim; k++) lanes[k % 16] = fmaf(a[k], b[k], lanes[k % 16]);
            for (int width = 8; width > 0; width /= 2)
                for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
            out[q * n + i] = lanes[0];
        }
}

static const sri_kernels table = {.dots = dots};

const sri_kernels *sri_kernels_get(void) { return &table; }
