/*
 * utterance_list.c - the utterances of a route, in a list that its versions share.
 *
 * Places are taken in the order of adding and never twice. A version knows how many of them were taken when it was made, and
 * what has died since bears the number of the version from which on it is gone: so each version finds its own utterances in
 * the same list, and adding or removing one costs the same in a route of any size. A list that is full, or dead for the
 * most part, is succeeded by another with what lives, which costs nothing on average; versions before it keep the old one
 * until they are released.
 *
 * Few routes ever lose one utterance, so that the numbers of versions have memory of their own, when they are wanted.
 *
 * Rejected: a list for each version (a change of a route of 10,000 utterances copies 80 KB), and chunks in a tree (every
 * reader would have to climb it).
 */
#include <assert.h>

#include "router/table_int.h"

#define FEW 16 /* a list of so many places is not worth its succession */

utterance_list *sri_list_make(size_t capacity) {
    size_t bytes;
    if (capacity > UINT32_MAX || !sri_size_mul(capacity, sizeof(utterance *), &bytes) ||
        !sri_size_add(bytes, sizeof(utterance_list), &bytes))
        return NULL;
    utterance_list *made = sri_alloc(bytes);
    if (made == NULL) return NULL;
    made->versions = made->used = made->dead = 0;
    made->capacity = (uint32_t)capacity;
    atomic_init(&made->died, NULL);
    return made;
}

void sri_list_append(utterance_list *list, utterance *added) {
    assert(list->used < list->capacity);
    list->entries[list->used++] = added;
}

bool sri_list_takes(const utterance_list *list, size_t adds, size_t removals) {
    if (list == NULL || adds > list->capacity - list->used) return false;
    size_t places = list->used + adds, dead = list->dead + removals;
    return dead <= FEW || dead <= places / 2;
}

bool sri_list_prepare_removals(utterance_list *list) {
    if (atomic_load(&list->died) != NULL) return true;
    _Atomic(uint64_t) *died = sri_alloc_array(list->capacity, sizeof *died);
    if (died == NULL) return false;
    for (size_t i = 0; i < list->capacity; i++) atomic_init(&died[i], SRI_INDEX_FOREVER);
    atomic_store_explicit(&list->died, died, memory_order_release);
    return true;
}

/* Halving, over places in the order of ids; those of the dead, whose utterances may be gone, are passed over. */
static size_t place_of(const live_route *route, uint64_t id) {
    size_t low = 0, high = route->limit;
    while (low < high) {
        size_t middle = low + (high - low) / 2, next = middle;
        const utterance *each = sri_route_next(route, &next);
        if (each == NULL || next > high)
            high = middle;
        else if (each->id == id)
            return next - 1;
        else if (each->id < id)
            low = next;
        else
            high = middle;
    }
    return SIZE_MAX;
}

utterance *sri_route_utterance(const live_route *route, uint64_t id) {
    size_t place = place_of(route, id);
    return place == SIZE_MAX ? NULL : route->list->entries[place];
}

void sri_list_remove(const live_route *route, const utterance *gone, uint64_t version) {
    size_t place = place_of(route, gone->id);
    assert(place != SIZE_MAX);
    _Atomic(uint64_t) *died = atomic_load_explicit(&route->list->died, memory_order_relaxed);
    atomic_store_explicit(&died[place], version, memory_order_release);
    route->list->dead++;
}

void sri_route_use(live_route *route, utterance_list *list) {
    route->list = list;
    list->versions++;
}

void sri_route_leave(live_route *route) {
    utterance_list *list = route->list;
    route->list = NULL;
    if (list == NULL || --list->versions > 0) return;
    sri_free((void *)atomic_load(&list->died));
    sri_free(list);
}
