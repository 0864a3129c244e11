/*
 * panels_s8.h - packing of int8 weights into panels, alike in every int8 product.
 *
 * A panel is a head and the weights of PANEL output channels, in the order that the product's
 * instructions want. Included once by the file of a product, after it has defined
 *     PANEL                          output channels of a panel
 *     GROUP                          inputs that stand together; k is rounded up to a multiple
 *     panel_head                     a struct with scale[PANEL] and bias[PANEL]
 *     place(column, i)               where, from the end of the head, input i of a channel stands
 *     NOTE_WEIGHT(head, column, w)   what the head keeps of each weight besides
 * Rejected: one inline function with these as arguments, which needs as many lines at each use.
 */
#ifndef SRI_PANELS_S8_H
#define SRI_PANELS_S8_H

#include "kernels/kernels.h"

#include <string.h>

static size_t panel_size(size_t k) { return sizeof(panel_head) + sri_round_up(k, GROUP) * PANEL; }

static size_t packed_size(size_t n, size_t k) {
    return sri_round_up(n, PANEL) / PANEL * panel_size(k);
}

/* Inputs beyond k and channels beyond n are zeros. */
static void pack(const sri_weights_s8 *weights, void *packed) {
    memset(packed, 0, packed_size(weights->n, weights->k));
    for (size_t j = 0; j < weights->n; j++) {
        panel_head *head = (panel_head *)((char *)packed + j / PANEL * panel_size(weights->k));
        const int8_t *w = weights->w + j * weights->k;
        size_t column = j % PANEL;
        int8_t *panel = (int8_t *)(head + 1);
        for (size_t i = 0; i < weights->k; i++) {
            panel[place(column, i)] = w[i];
            NOTE_WEIGHT(head, column, w[i])
        }
        head->scale[column] = weights->scale[j];
        head->bias[column] = weights->bias[j];
    }
}

#endif
