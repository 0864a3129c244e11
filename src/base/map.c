/*
 * map.c - hash map from byte strings to 64-bit values.
 *
 * Open addressing with linear probing in a power-of-two table at most 7/8 full, entries of 24 bytes
 * with their hash, so that a miss seldom touches a key. Deletion shifts the rest of the run back
 * instead of leaving tombstones: a table under endless churn stays as fast as a new one. Not
 * synchronised.
 */
#include "base/base.h"

#include <pthread.h>
#include <string.h>

static uint64_t seed;
static pthread_once_t seeded = PTHREAD_ONCE_INIT;
static void make_seed(void) { seed = sri_random_seed(); }

static uint64_t load(const uint8_t *bytes, size_t len) {
    uint64_t word = 0;
    memcpy(&word, bytes, len);
    return word;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Folded 64 x 64 -> 128 multiplications, 8 bytes a step, in the manner of wyhash (Wang Yi, 2019).
 * */
uint64_t sri_hash(const void *data, size_t len, uint64_t start) {
    const uint8_t *bytes = data;
    uint64_t hash = start ^ 0x9E3779B97F4A7C15u ^ (uint64_t)len;
    for (; len > 8; bytes += 8, len -= 8) hash = mix(hash ^ load(bytes, 8), 0xE7037ED1A0B428DBu);
    uint64_t tail = len > 0 ? load(bytes, len) : 0;
    return mix(hash ^ tail ^ 0x8EBC6AF09C88C6E3u, 0x589965CC75374CC3u ^ hash);
}

static uint32_t hash_key(sr_str key) {
    pthread_once(&seeded, make_seed);
    uint32_t hash = (uint32_t)(sri_hash(key.data, key.len, seed) >> 32);
    return hash == 0 ? 1 : hash;
}

static sri_map_entry *find(const sri_map *map, sr_str key, uint32_t hash) {
    for (size_t i = hash & (map->capacity - 1);; i = (i + 1) & (map->capacity - 1)) {
        sri_map_entry *entry = &map->slots[i];
        if (entry->hash == 0) return entry;
        if (entry->hash == hash && sri_str_equal((sr_str){entry->key, entry->len}, key))
            return entry;
    }
}

bool sri_map_reserve(sri_map *map, size_t count) {
    size_t capacity = SRI_MAX(map->capacity, 16);
    while (capacity - capacity / 8 < count) {
        if (capacity > SIZE_MAX / 2) return false;
        capacity *= 2;
    }
    if (capacity == map->capacity) return true;
    sri_map larger = {sri_alloc_zero(capacity, sizeof(sri_map_entry)), capacity, map->count};
    if (larger.slots == NULL) return false;
    for (size_t i = 0; i < map->capacity; i++) {
        sri_map_entry *entry = &map->slots[i];
        if (entry->hash != 0)
            *find(&larger, (sr_str){entry->key, entry->len}, entry->hash) = *entry;
    }
    sri_free(map->slots);
    *map = larger;
    return true;
}

bool sri_map_put(sri_map *map, sr_str key, uint64_t value) {
    if (key.len > UINT32_MAX || !sri_map_reserve(map, map->count + 1)) return false;
    uint32_t hash = hash_key(key);
    sri_map_entry *entry = find(map, key, hash);
    if (entry->hash == 0) {
        map->count++;
        *entry = (sri_map_entry){key.data, (uint32_t)key.len, hash, value};
    } else {
        entry->value = value;
    }
    return true;
}

bool sri_map_get(const sri_map *map, sr_str key, uint64_t *value) {
    if (map->count == 0) return false;
    const sri_map_entry *entry = find(map, key, hash_key(key));
    if (entry->hash == 0) return false;
    if (value != NULL) *value = entry->value;
    return true;
}

bool sri_map_remove(sri_map *map, sr_str key) {
    if (map->count == 0) return false;
    sri_map_entry *entry = find(map, key, hash_key(key));
    if (entry->hash == 0) return false;
    size_t mask = map->capacity - 1, hole = (size_t)(entry - map->slots);
    for (size_t i = (hole + 1) & mask; map->slots[i].hash != 0; i = (i + 1) & mask) {
        size_t home = map->slots[i].hash & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue; /* its home lies after the hole */
        map->slots[hole] = map->slots[i];
        hole = i;
    }
    map->slots[hole] = (sri_map_entry){0};
    map->count--;
    return true;
}

void sri_map_free(sri_map *map) {
    sri_free(map->slots);
    *map = (sri_map){0};
}
