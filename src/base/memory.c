/*
 * memory.c - the one place that calls malloc.
 *
 * The allocator is process-wide rather than per object: a table handed down through every buffer
 * and map costs a pointer and a parameter everywhere, and nobody runs two routers on two heaps.
 */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

static void *default_alloc(void *user, size_t bytes) {
    (void)user;
    return malloc(bytes);
}

static void *default_resize(void *user, void *old, size_t bytes) {
    (void)user;
    return realloc(old, bytes);
}

static void default_release(void *user, void *memory) {
    (void)user;
    free(memory);
}

static const sr_allocator standard = {default_alloc, default_resize, default_release, NULL};
static sr_allocator current = {default_alloc, default_resize, default_release, NULL};

void sr_allocator_set(const sr_allocator *allocator) {
    current = allocator == NULL ? standard : *allocator;
}

void *sri_alloc(size_t bytes) { return current.alloc(current.user, bytes == 0 ? 1 : bytes); }

void *sri_alloc_array(size_t count, size_t size) {
    size_t bytes;
    return sri_size_mul(count, size, &bytes) ? sri_alloc(bytes) : NULL;
}

void *sri_alloc_zero(size_t count, size_t size) {
    void *memory = sri_alloc_array(count, size);
    if (memory != NULL) memset(memory, 0, count * size);
    return memory;
}

void *sri_resize_array(void *old, size_t count, size_t size) {
    size_t bytes;
    if (!sri_size_mul(count, size, &bytes)) return NULL;
    return current.resize(current.user, old, bytes == 0 ? 1 : bytes);
}

void sri_free(void *memory) { current.release(current.user, memory); }

/* The allocator's own pointer stands just before the aligned block. */
void *sri_alloc_aligned(size_t bytes) {
    size_t whole;
    if (!sri_size_add(bytes, 64 + sizeof(void *), &whole)) return NULL;
    char *raw = sri_alloc(whole);
    if (raw == NULL) return NULL;
    uintptr_t aligned = ((uintptr_t)raw + sizeof(void *) + 63) & ~(uintptr_t)63;
    memcpy((void *)(aligned - sizeof(void *)), &raw, sizeof raw);
    return (void *)aligned;
}

void sri_free_aligned(void *memory) {
    if (memory == NULL) return;
    void *raw;
    memcpy(&raw, (char *)memory - sizeof(void *), sizeof raw);
    sri_free(raw);
}

char *sri_strdup(sr_str text) {
    size_t bytes;
    if (!sri_size_add(text.len, 1, &bytes)) return NULL;
    char *copy = sri_alloc(bytes);
    if (copy == NULL) return NULL;
    if (text.len > 0) memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

bool sri_grow(void **array, size_t *capacity, size_t count, size_t size) {
    if (count <= *capacity) return true;
    size_t wanted = SRI_MAX(count, *capacity + *capacity / 2);
    void *larger = sri_resize_array(*array, wanted, size);
    if (larger == NULL) return false;
    *array = larger;
    *capacity = wanted;
    return true;
}
