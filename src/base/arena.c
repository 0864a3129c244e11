/* arena.c - blocks of memory that are freed all at once, newest first in a list. */
#include "base/base.h"

#include <string.h>

#define BLOCK_BYTES ((size_t)32 * 1024)

typedef struct sri_arena_block {
    struct sri_arena_block *older;
    size_t used, capacity;
    _Alignas(16) char bytes[];
} block;

void *sri_arena_alloc(sri_arena *arena, size_t bytes) {
    size_t rounded;
    if (!sri_size_add(bytes, 15, &rounded)) return NULL;
    rounded &= ~(size_t)15;
    block *newest = arena->block;
    if (newest == NULL || newest->capacity - newest->used < rounded) {
        size_t capacity = SRI_MAX(rounded, BLOCK_BYTES), whole;
        if (!sri_size_add(capacity, sizeof(block), &whole)) return NULL;
        newest = sri_alloc(whole);
        if (newest == NULL) return NULL;
        *newest = (block){.older = arena->block, .capacity = capacity};
        arena->block = newest;
    }
    void *memory = newest->bytes + newest->used;
    newest->used += rounded;
    return memory;
}

sr_str sri_arena_copy(sri_arena *arena, sr_str text) {
    size_t bytes;
    char *copy = sri_size_add(text.len, 1, &bytes) ? sri_arena_alloc(arena, bytes) : NULL;
    if (copy == NULL) return (sr_str){NULL, 0};
    if (text.len > 0) memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return (sr_str){copy, text.len};
}

void sri_arena_free(sri_arena *arena) {
    while (arena->block != NULL) {
        block *older = arena->block->older;
        sri_free(arena->block);
        arena->block = older;
    }
}
