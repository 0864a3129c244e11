/*
 * index.c - the writer's side: rows are added and removed, copied out of sparse chunks, and what
 * nobody can see any more is freed.
 *
 * Adding writes the next slot of the last chunk, removing writes one number: both take the same
 * time at any size. What is removed stays where it is until its chunk goes as a whole
 * (index_int.h). When more than a sixteenth of all slots are dead, the emptiest chunk is emptied, a
 * few rows with every change, by adding its live rows again at the end. So there is no pause, no
 * thread, and memory is at most some sixteenths more than what lives takes.
 *
 * Rejected: lists of free slots (a slot written again while a reader of an older version looks at
 * it, and nothing could be said about a chunk as a whole, as 1-bit codes do), and a thread that
 * compacts (it would have to wait for the writer, or the writer for it).
 */
#include "index/index_int.h"
#include "index/near.h"

#include <assert.h>
#include <string.h>

#define DEAD_SHARE 16 /* one in so many slots may be dead */

static void free_chunk(sri_chunk *gone) {
    if (gone == NULL) return;
    for (size_t row = 0; row < atomic_load(&gone->used); row++) {
        sri_exact *exact = atomic_load(&gone->exact[row]);
        if (exact == NULL) continue;
        sri_free(exact);
        atomic_fetch_sub(&gone->index->exact_count, 1);
    }
    sri_free_aligned(gone);
}

sr_status sri_index_open(const sri_index_options *options, sri_index **handle, sr_error *error) {
    *handle = NULL;
    if (options->dimension < 1 || options->dimension > 65536)
        return sri_fail(error, SR_ERR_INVALID, "dimension",
                        "vectors of %d floats cannot be indexed", options->dimension);
    sri_index *index = sri_alloc_zero(1, sizeof *index);
    if (index == NULL) return sri_fail_memory(error);
    index->dimension = (size_t)options->dimension;
    index->epoch = options->epoch;
    index->exact_limit = options->exact_bytes / (index->dimension * sizeof(float));
    index->directory.size = sizeof(_Atomic(sri_chunk *));
    index->orders.size = sizeof(uint64_t);
    index->victim = SRI_INDEX_NONE;
    index->kind = options->kind;
    *handle = index;
    if (options->kind == SRI_INDEX_EXACT) return SR_OK;
    sr_status status = sri_near_open(index, error);
    if (status != SR_OK) sri_index_close(handle);
    return status;
}

static void free_spares(sri_index *index) {
    for (sri_chunk *spare = index->spare, *next; spare != NULL; spare = next) {
        next = spare->next;
        free_chunk(spare);
    }
    for (sri_exact *spare = index->spare_exact, *next; spare != NULL; spare = next) {
        next = spare->next;
        sri_free(spare);
    }
}

void sri_index_close(sri_index **handle) {
    sri_index *index = *handle;
    if (index == NULL) return;
    sri_near_close(index);
    for (size_t i = 0; i < atomic_load(&index->limit); i++) free_chunk(sri_chunk_at(index, i));
    free_spares(index);
    sri_steady_free(&index->directory);
    sri_steady_free(&index->orders);
    sri_free(index->free_numbers);
    sri_free(index);
    *handle = NULL;
}

void sri_index_stop(sri_index *index) {
    if (index != NULL) sri_near_stop(index);
}

/* ---- Chunks that go -------------------------------------------------------------------------- */

/* The second wait is over. */
static void release_chunk(sri_retired *retired) {
    sri_chunk *gone = (sri_chunk *)retired;
    sri_index *index = gone->index;
    index->free_numbers[index->free_count++] = gone->number; /* as many as there are numbers fit */
    index->chunks--;
    index->leaving -= SRI_CHUNK_ROWS;
    free_chunk(gone);
}

/* The first wait is over: the writer takes it out of the directory when it comes by next. */
static void pass_chunk(sri_retired *retired) {
    sri_chunk *passed = (sri_chunk *)retired;
    passed->next = passed->index->passed;
    passed->index->passed = passed;
}

static void take_out_passed(sri_index *index) {
    while (index->passed != NULL) {
        sri_chunk *gone = index->passed;
        index->passed = gone->next;
        _Atomic(sri_chunk *) *place = sri_steady_at(&index->directory, gone->number);
        atomic_store_explicit(place, NULL, memory_order_release);
        sri_epoch_retire(index->epoch, &gone->retired, release_chunk);
    }
}

static void leave_when_dead(sri_index *index, sri_chunk *home) {
    if (home->live > 0 || home == index->tail || home->leaving) return;
    home->leaving = true;
    index->dead -= SRI_CHUNK_ROWS; /* only the tail is not full */
    index->leaving += SRI_CHUNK_ROWS;
    if (index->victim == home->number) index->victim = SRI_INDEX_NONE;
    sri_epoch_retire(index->epoch, &home->retired, pass_chunk);
}

/* ---- Room ------------------------------------------------------------------------------------ */

static size_t chunk_bytes(const sri_index *index) {
    return offsetof(sri_chunk, codes) + SRI_CHUNK_ROWS * index->dimension +
           sri_bits_bytes(index->dimension);
}

static sri_chunk *make_chunk(sri_index *index) {
    sri_chunk *made = sri_alloc_aligned(chunk_bytes(index));
    if (made == NULL) return NULL;
    made->index = index;
    made->next = NULL;
    made->number = SRI_INDEX_NONE;
    made->live = 0;
    made->leaving = false;
    atomic_init(&made->used, 0);
    atomic_init(&made->sealed, false);
    atomic_init(&made->covered[0], 0);
    atomic_init(&made->covered[1], 0);
    sri_bits_place(&made->bits, made->codes + SRI_CHUNK_ROWS * index->dimension, index->dimension);
    return made;
}

/* A number that is free in the directory, or there will be one when it is needed. */
static bool have_numbers(sri_index *index, size_t count) {
    size_t limit = atomic_load(&index->limit),
           more = count > index->free_count ? count - index->free_count : 0;
    void *numbers = index->free_numbers;
    bool enough = sri_grow(&numbers, &index->free_capacity, limit + more, sizeof(uint32_t));
    index->free_numbers = numbers;
    return enough && sri_steady_reserve(&index->directory, limit + more);
}

static size_t tail_room(const sri_index *index) {
    return index->tail == NULL ? 0 : SRI_CHUNK_ROWS - atomic_load(&index->tail->used);
}

/* Makes room for so many rows in all. */
static bool make_room(sri_index *index, size_t rows) {
    size_t room = tail_room(index) + index->spare_rows;
    if (rows <= room) return true;
    size_t more = (rows - room + SRI_CHUNK_ROWS - 1) / SRI_CHUNK_ROWS;
    if (!have_numbers(index, index->spare_rows / SRI_CHUNK_ROWS + more)) return false;
    for (; more > 0; more--) {
        sri_chunk *made = make_chunk(index);
        if (made == NULL) return false;
        made->next = index->spare;
        index->spare = made;
        index->spare_rows += SRI_CHUNK_ROWS;
        index->chunks++;
    }
    return true;
}

static bool make_exact_room(sri_index *index, size_t vectors) {
    while (index->spare_exact_count < vectors) {
        sri_exact *made = sri_exact_make(index);
        if (made == NULL) return false;
        made->next = index->spare_exact;
        index->spare_exact = made;
        index->spare_exact_count++;
    }
    return true;
}

sr_status sri_index_reserve(sri_index *index, size_t rows, size_t vectors, size_t routes,
                            sr_error *error) {
    take_out_passed(index);
    size_t held = atomic_load(&index->limit) * SRI_CHUNK_ROWS + index->spare_rows;
    if (rows > SRI_INDEX_MAX_ROWS || held > SRI_INDEX_MAX_ROWS - rows || routes >= SRI_INDEX_NONE)
        return sri_fail(error, SR_ERR_LIMIT, NULL, "a table holds at most %u utterances",
                        SRI_INDEX_MAX_ROWS);
    if (!sri_steady_reserve(&index->orders, routes) || !make_room(index, rows) ||
        !make_exact_room(index, vectors))
        return sri_fail_memory(error);
    if (routes > atomic_load(&index->routes)) atomic_store(&index->routes, routes);
    index->promised = SRI_MAX(index->promised, rows);
    index->promised_exact = SRI_MAX(index->promised_exact, vectors);
    return SR_OK;
}

void sri_index_set_route(sri_index *index, uint32_t route, uint64_t order) {
    *(uint64_t *)sri_steady_at(&index->orders, route) = order;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* The next spare chunk becomes the tail. */
static void next_tail(sri_index *index) {
    sri_chunk *full = index->tail, *tail = index->spare;
    index->spare = tail->next;
    index->spare_rows -= SRI_CHUNK_ROWS;
    size_t limit = atomic_load(&index->limit);
    tail->number =
        index->free_count > 0 ? index->free_numbers[--index->free_count] : (uint32_t)limit;
    _Atomic(sri_chunk *) *place = sri_steady_at(&index->directory, tail->number);
    atomic_store_explicit(place, tail, memory_order_release);
    if (tail->number == limit)
        atomic_store_explicit(&index->limit, limit + 1, memory_order_release);
    index->tail = tail;
    if (full != NULL) leave_when_dead(index, full);
}

static sri_exact *keep_exact(sri_index *index, const float *vector) {
    sri_exact *exact = index->spare_exact;
    index->spare_exact = exact->next;
    index->spare_exact_count--;
    if (index->promised_exact > 0) index->promised_exact--;
    memcpy(exact->row, vector, index->dimension * sizeof *vector);
    atomic_fetch_add(&index->exact_count, 1);
    return exact;
}

/* Whether there is memory for the fp32 rows of all that lives. Where there is not, only rows that
 * queries ask for are worth their place: of those that come and go hardly one is ever asked for. */
static bool all_fit(const sri_index *index) {
    return index->count <= index->exact_limit &&
           atomic_load(&index->exact_count) <= index->exact_limit;
}

static bool exact_is_wanted(const sri_index *index, bool durable) {
    return !durable || all_fit(index);
}

/* The tail, with room for a row. */
static sri_chunk *open_tail(sri_index *index) {
    if (tail_room(index) == 0) next_tail(index);
    return index->tail;
}

/* Writes what stands beside the code of the tail's next row, and lets it be seen. */
static uint32_t append(sri_index *index, const sri_index_row *row) {
    sri_chunk *home = index->tail;
    uint32_t place = atomic_load_explicit(&home->used, memory_order_relaxed);
    home->routes[place] = row->route;
    home->utterances[place] = row->utterance;
    home->owners[place] = row->owner;
    home->born[place] = row->born;
    home->durable[place] = row->durable;
    atomic_store_explicit(&home->died[place], SRI_INDEX_FOREVER, memory_order_relaxed);
    bool keep = row->vector != NULL && exact_is_wanted(index, row->durable);
    atomic_store_explicit(&home->exact[place], keep ? keep_exact(index, row->vector) : NULL,
                          memory_order_relaxed);
    atomic_store_explicit(&home->used, place + 1, memory_order_release);
    if (place + 1 == SRI_CHUNK_ROWS) {
        sri_bits_seal(home, index->dimension);
        sri_near_chunk_is_full(index);
    }
    home->live++;
    index->count++;
    if (index->promised > 0) index->promised--;
    return sri_slot_of(home, place);
}

uint32_t sri_index_add(sri_index *index, const sri_index_row *row) {
    sri_chunk *home = open_tail(index);
    size_t place = atomic_load_explicit(&home->used, memory_order_relaxed);
    int8_t *values = home->codes + place * index->dimension;
    if (row->code != NULL) {
        memcpy(&home->scales[place], row->code, sizeof(float));
        memcpy(values, row->code + sizeof(float), index->dimension);
    } else {
        home->scales[place] = sri_index_quantize(row->vector, index->dimension, values);
    }
    return append(index, row);
}

/* A row like the one at `slot`, with the vector that is given. */
static uint32_t copy_code(sri_index *index, uint32_t slot, const sri_index_row *row) {
    const sri_chunk *from = sri_home_of(index, slot);
    size_t at = slot % SRI_CHUNK_ROWS;
    sri_chunk *home = open_tail(index);
    size_t place = atomic_load_explicit(&home->used, memory_order_relaxed);
    home->scales[place] = from->scales[at];
    memcpy(home->codes + place * index->dimension, from->codes + at * index->dimension,
           index->dimension);
    return append(index, row);
}

uint32_t sri_index_copy(sri_index *index, uint32_t slot, const sri_index_row *row) {
    const sri_exact *held = sri_exact_at(sri_home_of(index, slot), slot % SRI_CHUNK_ROWS);
    sri_index_row copy = *row;
    if (copy.vector == NULL && held != NULL) copy.vector = held->row;
    return copy_code(index, slot, &copy);
}

void sri_index_remove(sri_index *index, uint32_t slot, uint64_t died) {
    sri_chunk *home = sri_home_of(index, slot);
    _Atomic(uint64_t) *mark = &home->died[slot % SRI_CHUNK_ROWS];
    assert(atomic_load_explicit(mark, memory_order_relaxed) == SRI_INDEX_FOREVER);
    atomic_store_explicit(mark, died,
                          memory_order_relaxed); /* the version's publication orders it */
    home->live--;
    index->count--;
    index->dead++;
    leave_when_dead(index, home);
}

static void release_exact(sri_retired *retired) { sri_free(retired); }

void sri_index_set_durable(sri_index *index, uint32_t slot) {
    sri_chunk *home = sri_home_of(index, slot);
    size_t row = slot % SRI_CHUNK_ROWS;
    home->durable[row] = 1;
    if (all_fit(index)) return;
    sri_exact *gone = atomic_exchange(&home->exact[row], NULL);
    if (gone == NULL) return;
    atomic_fetch_sub(&index->exact_count, 1);
    sri_epoch_retire(index->epoch, &gone->retired, release_exact);
}

/* ---- Compaction ------------------------------------------------------------------------------ */

/* The chunk with the fewest live rows, if it is worth its emptying. */
static uint32_t find_victim(const sri_index *index) {
    uint32_t found = SRI_INDEX_NONE, least = SRI_CHUNK_ROWS - SRI_CHUNK_ROWS / DEAD_SHARE;
    for (size_t i = 0; i < atomic_load(&index->limit); i++) {
        const sri_chunk *chunk = sri_chunk_at(index, i);
        if (chunk == NULL || chunk == index->tail || chunk->leaving || chunk->live > least)
            continue;
        found = (uint32_t)i;
        least = chunk->live;
    }
    return found;
}

/* Room for one row that nobody was promised. */
static bool room_to_move(sri_index *index, bool exact) {
    return make_room(index, index->promised + 1) &&
           (!exact || make_exact_room(index, index->promised_exact + 1));
}

static bool move_row(sri_index *index, sri_chunk *home, size_t row, uint64_t born,
                     sri_index_moved_fn *moved, void *user) {
    /* Looked at once: a reader may hang a row there at any moment, for which there would be no
     * room. */
    const sri_exact *held = sri_exact_at(home, row);
    if (!room_to_move(index, held != NULL)) return false;
    size_t promised = index->promised, promised_exact = index->promised_exact;
    uint32_t slot = sri_slot_of(home, row);
    sri_index_row again = {.vector = held == NULL ? NULL : held->row,
                           .route = home->routes[row],
                           .utterance = home->utterances[row],
                           .owner = home->owners[row],
                           .born = born,
                           .durable = home->durable[row]};
    uint32_t now = copy_code(index, slot, &again);
    index->promised = promised;
    index->promised_exact = promised_exact;
    sri_index_remove(index, slot, born);
    moved(user, again.owner, now);
    return true;
}

void sri_index_compact(sri_index *index, size_t most, uint64_t born, sri_index_moved_fn *moved,
                       void *user) {
    take_out_passed(index);
    sri_near_retire(index);
    while (most > 0) {
        if (index->victim == SRI_INDEX_NONE) {
            if (index->dead < SRI_CHUNK_ROWS || index->dead < index->count / (DEAD_SHARE - 1))
                return;
            index->victim = find_victim(index);
            index->victim_row = 0;
            if (index->victim == SRI_INDEX_NONE) return;
        }
        sri_chunk *home = sri_chunk_at(index, index->victim);
        size_t row = index->victim_row++; /* its last live row makes it leave: a row is there */
        if (atomic_load_explicit(&home->died[row], memory_order_relaxed) != SRI_INDEX_FOREVER)
            continue;
        if (!move_row(index, home, row, born, moved, user)) {
            index->victim_row--;
            return;
        }
        most--;
    }
}

/* ---- Figures --------------------------------------------------------------------------------- */

size_t sri_index_near_rows(const sri_index *index) { return sri_near_rows(index); }

size_t sri_index_count(const sri_index *index) { return index->count; }

size_t sri_index_dead(const sri_index *index) { return index->dead + index->leaving; }

size_t sri_index_bytes(const sri_index *index) {
    return sizeof *index + index->chunks * chunk_bytes(index) +
           sri_steady_bytes(&index->directory) + sri_steady_bytes(&index->orders) +
           index->free_capacity * sizeof(uint32_t);
}

size_t sri_index_exact_held(const sri_index *index) {
    return atomic_load(&index->exact_count) * index->dimension * sizeof(float);
}

const float *sri_index_held(const sri_index *index, uint32_t slot) {
    const sri_exact *held = sri_exact_at(sri_home_of(index, slot), slot % SRI_CHUNK_ROWS);
    return held == NULL ? NULL : held->row;
}

bool sri_index_visible(const sri_index *index, uint32_t slot, uint64_t version) {
    const sri_chunk *home = sri_home_of(index, slot);
    return home != NULL && sri_row_visible(home, slot % SRI_CHUNK_ROWS, version);
}
