/*
 * test_fault_fit.c - allocations that fail while a fit is made, written, read and asked: never a crash, a leak or half
 * a fit; and that asking allocates nothing once it has been done before.
 */
#include "fit_table.h"
#include "short_memory.h"

static struct {
    bench b;
    sri_pool *pool;
    sri_fit *fit;
    sri_buffer bytes;
    float vector[256];
    sri_fit_hit hits[THEMES + 1];
    size_t hit_count;
} shared;

static const char question[] = "sorry but where is my new credit card that I ordered";

/* ---- What may fail ------------------------------------------------------------------------------------------- */

static sr_status do_make(void) {
    sri_fit *fit = (sri_fit *)&fit;
    sri_fit_findings findings;
    sr_status code = sri_fit_make(&shared.b.table, &fit, &findings, NULL);
    assert_true((fit != NULL) == (code == SR_OK));
    sri_fit_free(&fit);
    return code;
}

static sr_status do_write(void) {
    sri_buffer out = {0};
    sr_status code = sri_fit_write(shared.fit, &out, NULL);
    assert_int_equal(out.len, code == SR_OK ? shared.bytes.len : 0);
    sri_buffer_free(&out);
    return code;
}

static sr_status do_read(void) {
    sri_fit *fit = (sri_fit *)&fit;
    sr_status code =
        sri_fit_read(shared.bytes.data, shared.bytes.len, 256, shared.b.fast, &fit, NULL);
    assert_true((fit != NULL) == (code == SR_OK));
    sri_fit_free(&fit);
    return code;
}

static bool ask(sri_fit_scratch *scratch, size_t n) {
    sr_str list[40];
    sri_fit_candidate best[3 * 40];
    sri_judgement of[40];
    for (size_t i = 0; i < n; i++) list[i] = sr_str_of(i % 2 == 0 ? question : strangers[i % 20]);
    return sri_fit_judge_fast(shared.fit, list, n, NULL, 3, scratch, best, of) &&
           sri_fit_judge_slow(shared.fit, list[0], shared.vector, shared.hits, shared.hit_count,
                              NULL, 3, scratch, best, of);
}

static sr_status do_ask(void) {
    sri_fit_scratch scratch = {0};
    bool enough = ask(&scratch, 40);
    if (!enough) { /* what is half grown may be used again */
        atomic_store(&memory.countdown, 0);
        assert_true(ask(&scratch, 40));
    }
    sri_fit_scratch_free(&scratch);
    return enough ? SR_OK : SR_ERR_NO_MEMORY;
}

/* Fails one allocation after another of `step`, ever fewer of them. */
static long fail_each(sr_status (*step)(void), bool all) {
    sr_status code = SR_ERR_NO_MEMORY;
    long n = 1;
    for (; code != SR_OK; n += all ? 1 : 1 + n / 16) {
        assert_true(n < 1000000);
        long held = atomic_load(&memory.held);
        atomic_store(&memory.countdown, n);
        code = step();
        atomic_store(&memory.countdown, 0);
        if (code != SR_OK) assert_int_equal(code, SR_ERR_NO_MEMORY);
        assert_int_equal(atomic_load(&memory.held), held);
    }
    return n;
}

static void making_survives_short_memory(void **state) {
    (void)state;
    assert_true(fail_each(do_make, false) > 200);
}

static void bytes_survive_short_memory(void **state) {
    (void)state;
    fail_each(do_write, true);
    assert_true(fail_each(do_read, true) > 12);
}

static void asking_survives_short_memory(void **state) {
    (void)state;
    assert_true(fail_each(do_ask, true) > 4);
}

static void asking_again_allocates_nothing(void **state) {
    (void)state;
    sri_fit_scratch scratch = {0};
    assert_true(ask(&scratch, 40));
    long taken = atomic_load(&memory.taken);
    for (size_t n = 1; n <= 40; n++) assert_true(ask(&scratch, n));
    assert_int_equal(atomic_load(&memory.taken), taken);
    sri_fit_scratch_free(&scratch);
}

/* ---- Set-up --------------------------------------------------------------------------------------------------- */

static int set_up(void **state) {
    (void)state;
    static const sr_allocator counting = {take, change, release, NULL};
    bench *b = &shared.b;
    for (size_t i = 0; i < 10; i++) add_text(&b->utterances, strangers[i], NO_ROUTE);
    for (uint32_t r = 0; r < 3; r++) add_theme(&b->labelled, r, true, 2, r);
    add_text(&b->labelled, strangers[20], NO_ROUTE);
    ready_bench(b, shared.pool);
    sri_fit_findings findings;
    assert_int_equal(sri_fit_make(&b->table, &shared.fit, &findings, NULL), SR_OK);
    assert_int_equal(sri_fit_write(shared.fit, &shared.bytes, NULL), SR_OK);
    sr_str text = sr_str_of(question);
    assert_int_equal(sr_encoder_encode(b->encoder, &text, 1, shared.vector, NULL, NULL), SR_OK);
    shared.hit_count = find_hits(b, shared.vector, shared.hits);
    /* What encoders keep for themselves is there by now. */
    sri_fit_scratch scratch = {0};
    assert_true(ask(&scratch, 40));
    sri_fit_scratch_free(&scratch);
    sr_allocator_set(&counting);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    sr_allocator_set(NULL);
    sri_fit_free(&shared.fit);
    sri_buffer_free(&shared.bytes);
    sri_pool_close(&shared.pool);
    sr_encoder_close(&shared.b.encoder);
    close_bench(&shared.b);
    return 0;
}

int main(int argc, char **argv) {
    sr_encoder *model = open_static(argc > 1 ? argv[1] : ".");
    assert_int_equal(sri_pool_open(1, &shared.pool, NULL), SR_OK);
    shared.b = theme_bench(model, model, 3, 5);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_survives_short_memory),
        cmocka_unit_test(bytes_survive_short_memory),
        cmocka_unit_test(asking_survives_short_memory),
        cmocka_unit_test(asking_again_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
