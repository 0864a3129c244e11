/*
 * test_epoch.c - what readers may see is kept until they have gone on, and arrays that grow under
 * readers (epoch.c, steady.c).
 */
#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/epoch.h"
#include "base/steady.h"
#include "short_memory.h"

typedef struct thing {
    sri_retired retired;
    int value, twice; /* twice = 2 * value as long as nobody has released it */
} thing;

static int released;

static void release_thing(sri_retired *retired) {
    ((thing *)retired)->twice = -1;
    released++;
    free(retired);
}

static thing *make_thing(int value) {
    thing *made = malloc(sizeof *made);
    assert_non_null(made);
    *made = (thing){.value = value, .twice = 2 * value};
    return made;
}

static sri_epoch *open_epoch(void) {
    sri_epoch *epoch;
    released = 0;
    assert_int_equal(sri_epoch_open(&epoch, NULL), SR_OK);
    return epoch;
}

static void what_is_pinned_stays(void **state) {
    (void)state;
    sri_epoch *epoch = open_epoch();
    sri_pin pin = sri_epoch_pin(epoch);
    thing *seen = make_thing(4);
    sri_epoch_retire(epoch, &seen->retired, release_thing);
    for (int i = 0; i < 5; i++) sri_epoch_advance(epoch, SIZE_MAX);
    assert_int_equal(released, 0);
    assert_int_equal(seen->twice, 8);
    assert_int_equal(sri_epoch_waiting(epoch), 1);
    sri_pin later = sri_epoch_pin(epoch); /* cannot see it */
    sri_epoch_unpin(pin);
    sri_epoch_advance(epoch, SIZE_MAX);
    assert_int_equal(released, 1);
    assert_int_equal(sri_epoch_waiting(epoch), 0);
    sri_epoch_unpin(later);
    sri_epoch_close(&epoch);
}

/* A reader that pins between retiring and advancing may still find the old pointer. */
static void nothing_goes_before_the_advance(void **state) {
    (void)state;
    sri_epoch *epoch = open_epoch();
    sri_epoch_retire(epoch, &make_thing(1)->retired, release_thing);
    sri_pin pin = sri_epoch_pin(epoch);
    sri_epoch_advance(epoch, SIZE_MAX);
    assert_int_equal(released, 0);
    sri_epoch_unpin(pin);
    sri_epoch_advance(epoch, SIZE_MAX);
    assert_int_equal(released, 1);
    sri_epoch_close(&epoch);
}

static void the_oldest_go_first_and_a_few_at_a_time(void **state) {
    (void)state;
    sri_epoch *epoch = open_epoch();
    for (int i = 0; i < 10; i++) sri_epoch_retire(epoch, &make_thing(i)->retired, release_thing);
    sri_epoch_advance(epoch, 3);
    assert_int_equal(released, 3);
    assert_int_equal(sri_epoch_waiting(epoch), 7);
    sri_epoch_close(&epoch);
    assert_int_equal(released, 10);
    assert_null(epoch);
}

static void any_number_may_be_pinned(void **state) {
    (void)state;
    enum { MANY = 1000 };
    static sri_pin pins[MANY];
    sri_epoch *epoch = open_epoch();
    for (int i = 0; i < MANY; i++) pins[i] = sri_epoch_pin(epoch);
    sri_epoch_retire(epoch, &make_thing(1)->retired, release_thing);
    for (int i = 0; i < MANY; i++) {
        sri_epoch_advance(epoch, SIZE_MAX);
        assert_int_equal(released, 0);
        sri_epoch_unpin(pins[i]);
    }
    sri_epoch_advance(epoch, SIZE_MAX);
    assert_int_equal(released, 1);
    sri_epoch_close(&epoch);
}

/* ---- Threads --------------------------------------------------------------------------------- */

typedef struct shared {
    sri_epoch *epoch;
    _Atomic(thing *) newest;
    sri_steady numbers; /* of atomic_int; element i is i + 1 once `count` counts it */
    atomic_size_t count;
    atomic_bool stop;
    atomic_long wrong, reads;
} shared;

static void *read_things(void *argument) {
    shared *s = argument;
    int last = 0;
    while (!atomic_load(&s->stop)) {
        sri_pin pin = sri_epoch_pin(s->epoch);
        const thing *seen = atomic_load_explicit(&s->newest, memory_order_acquire);
        if (seen->twice != 2 * seen->value || seen->value < last) atomic_fetch_add(&s->wrong, 1);
        last = seen->value;
        size_t count = atomic_load_explicit(&s->count, memory_order_acquire);
        if (count > 0 && *(int *)sri_steady_at(&s->numbers, count - 1) != (int)count)
            atomic_fetch_add(&s->wrong, 1);
        sri_epoch_unpin(pin);
        atomic_fetch_add(&s->reads, 1);
    }
    return NULL;
}

static void readers_beside_a_writer_see_whole_things(void **state) {
    (void)state;
    enum { READERS = 3, CHANGES = 20000 };
    shared s = {.epoch = open_epoch(), .numbers = {.size = sizeof(int)}};
    atomic_store(&s.newest, make_thing(0));
    pthread_t readers[READERS];
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_things, &s), 0);
    for (int i = 1; i <= CHANGES || atomic_load(&s.reads) < 1000; i++) {
        assert_true(sri_steady_reserve(&s.numbers, (size_t)i));
        *(int *)sri_steady_at(&s.numbers, (size_t)i - 1) = i;
        atomic_store_explicit(&s.count, (size_t)i, memory_order_release);
        thing *old = atomic_exchange(&s.newest, make_thing(i));
        sri_epoch_retire(s.epoch, &old->retired, release_thing);
        sri_epoch_advance(s.epoch, 16);
    }
    atomic_store(&s.stop, true);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&s.wrong), 0);
    sri_epoch_advance(s.epoch, SIZE_MAX);
    assert_int_equal(sri_epoch_waiting(s.epoch), 0);
    sri_epoch_close(&s.epoch);
    sri_steady_free(&s.numbers);
    free(atomic_load(&s.newest));
}

/* ---- Steady arrays --------------------------------------------------------------------------- */

static void elements_stay_where_they_are(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static uint64_t *places[COUNT];
    sri_steady array = {.size = sizeof(uint64_t)};
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(sri_steady_reserve(&array, i + 1));
        places[i] = sri_steady_at(&array, i);
        assert_int_equal(*places[i], 0);
        *places[i] = i * i;
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(sri_steady_at(&array, i), places[i]);
        assert_int_equal(*places[i], i * i);
    }
    assert_true(sri_steady_bytes(&array) < 2 * (COUNT + SRI_STEADY_FIRST) * sizeof(uint64_t));
    sri_steady_free(&array);
    assert_int_equal(sri_steady_bytes(&array), 0);
}

static void short_memory_changes_nothing(void **state) {
    (void)state;
    sr_allocator failing = {take, change, release, NULL};
    sri_steady array = {.size = sizeof(int)};
    sri_epoch *epoch = NULL;
    sr_allocator_set(&failing);
    assert_true(sri_steady_reserve(&array, 64));
    *(int *)sri_steady_at(&array, 63) = 7;
    atomic_store(&memory.countdown, 1);
    assert_false(sri_steady_reserve(&array, 65));
    assert_int_equal(*(int *)sri_steady_at(&array, 63), 7);
    assert_true(sri_steady_reserve(&array, 65));
    for (int at = 1; at <= 2; at++) {
        atomic_store(&memory.countdown, at);
        assert_int_equal(sri_epoch_open(&epoch, NULL), SR_ERR_NO_MEMORY);
        assert_null(epoch);
    }
    sri_steady_free(&array);
    assert_int_equal(atomic_load(&memory.held), 0);
    sr_allocator_set(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_pinned_stays),
        cmocka_unit_test(nothing_goes_before_the_advance),
        cmocka_unit_test(the_oldest_go_first_and_a_few_at_a_time),
        cmocka_unit_test(any_number_may_be_pinned),
        cmocka_unit_test(readers_beside_a_writer_see_whole_things),
        cmocka_unit_test(elements_stay_where_they_are),
        cmocka_unit_test(short_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
