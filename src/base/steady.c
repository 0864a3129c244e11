/* steady.c - growing and freeing an array that does not move. */
#include "base/steady.h"

bool sri_steady_reserve(sri_steady *array, size_t count) {
    while (array->capacity < count) {
        size_t elements = array->capacity + SRI_STEADY_FIRST;
        int segment = 63 - __builtin_clzll(elements / SRI_STEADY_FIRST);
        void *made = segment < SRI_STEADY_SEGMENTS ? sri_alloc_zero(elements, array->size) : NULL;
        if (made == NULL) return false;
        atomic_store_explicit(&array->segments[segment], made, memory_order_release);
        array->capacity += elements;
    }
    return true;
}

void sri_steady_free(sri_steady *array) {
    for (int i = 0; i < SRI_STEADY_SEGMENTS; i++) {
        sri_free(atomic_load(&array->segments[i]));
        atomic_store(&array->segments[i], NULL);
    }
    array->capacity = 0;
}

size_t sri_steady_bytes(const sri_steady *array) { return array->capacity * array->size; }
