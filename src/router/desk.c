/*
 * desk.c - working memory for whoever searches, claimed without a lock.
 *
 * Desks stand in a list that only grows, by compare-and-swap at its head; a flag says whether one is taken. There are
 * as many as threads ever searched at once. The one added last is asked first; a desk keeps its memory and its connection
 * to the store from one use to the next.
 *
 * Rejected: a desk for each slot of the pool, as before. A thread that answers one text would have to ask the pool for a slot,
 * which takes its lock, and wait where all are taken.
 */
#include "router/router_int.h"

/* Rows that cannot be had are searched by their codes. */
static void fetch(void *user, const uint64_t *utterances, size_t n, float *rows, uint8_t *found) {
    search_desk *self = user;
    sr_router *router = self->router;
    sri_store_model model = sri_router_model(router);
    for (size_t i = 0; i < n; i++) found[i] = 0;
    if (self->reader == NULL &&
        router->store->kind->open_reader(router->store, model.fingerprint, model.dimension,
                                         &self->reader, NULL) != SR_OK)
        return;
    if (self->reader != NULL) sri_store_reader_fetch(self->reader, utterances, n, rows, found);
}

static search_desk *make_desk(sr_router *router) {
    search_desk *made = sri_alloc_aligned(sizeof *made);
    if (made == NULL) return NULL;
    *made = (search_desk){.router = router};
    atomic_init(&made->taken, true);
    made->source = (sri_index_source){made, fetch};
    return made;
}

search_desk *sri_desk_claim(sr_router *router) {
    search_desk *first = atomic_load_explicit(&router->desks, memory_order_acquire);
    for (search_desk *each = first; each != NULL; each = each->next) {
        bool taken = false;
        if (!atomic_load_explicit(&each->taken, memory_order_relaxed) &&
            atomic_compare_exchange_strong(&each->taken, &taken, true))
            return each;
    }
    search_desk *made = make_desk(router);
    if (made == NULL) return NULL;
    made->next = first;
    while (!atomic_compare_exchange_weak(&router->desks, &made->next, made)) {
    }
    return made;
}

void sri_desk_leave(search_desk *desk) {
    atomic_store_explicit(&desk->taken, false, memory_order_release);
}

void sri_desks_free(sr_router *router) {
    for (search_desk *each = atomic_load(&router->desks), *next; each != NULL; each = next) {
        next = each->next;
        sri_index_scratch_free(&each->search);
        sri_fit_scratch_free(&each->judging);
        sri_store_reader_close(&each->reader);
        sri_free_aligned(each);
    }
    atomic_store(&router->desks, NULL);
}
