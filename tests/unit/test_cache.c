/* test_cache.c - the cache of exact texts in front of an encoder: same bits, bounded memory. */
#include "toy.h"

#include "encode/cache.h"

#include <pthread.h>

enum { D = TOY_DIMENSION, MANY = 3000 };

static char model[600]; /* the shipped one */

static sr_encoder *open_cached(toy *self, size_t bytes) {
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = toy_encode,
                                  .user = self,
                                  .dimension = D,
                                  .identity = "toy",
                                  .cache_bytes = bytes};
    sr_encoder *encoder = NULL;
    sr_error error;
    if (sr_encoder_open(&options, &encoder, &error) != SR_OK) fail_msg("%s", error.message);
    return encoder;
}

static sr_encoder_counts count(const sr_encoder *encoder) {
    sr_encoder_counts counts = {.size = sizeof counts};
    assert_int_equal(sr_encoder_stats(encoder, &counts, NULL), SR_OK);
    return counts;
}

static void encode_one(sr_encoder *encoder, sr_str text, float *out) {
    assert_int_equal(sr_encoder_encode(encoder, &text, 1, out, NULL, NULL), SR_OK);
}

/* What an encoder without a cache says. */
static void expect(sr_str text, const float *vector) {
    static toy plain;
    static sr_encoder *encoder;
    float expected[D];
    if (encoder == NULL) encoder = toy_open(&plain, "toy");
    encode_one(encoder, text, expected);
    assert_memory_equal(vector, expected, sizeof expected);
    sr_encoder_close(&encoder);
}

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* ---- What is remembered ---------------------------------------------------------------------- */

static void there_is_no_cache_unless_asked_for(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder = toy_open(&t, "toy");
    float out[D];
    encode_one(encoder, sr_str_of("text"), out);
    encode_one(encoder, sr_str_of("text"), out);
    assert_int_equal(t.encoded, 2);
    sr_encoder_counts counts = count(encoder);
    assert_int_equal(counts.cache_hits + counts.cache_misses + counts.cache_max, 0);
    sr_encoder_close(&encoder);
}

static void the_same_text_is_encoded_once_and_gives_the_same_bits(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder = open_cached(&t, 1 << 20);
    const char *texts[] = {"a text", "a text ", "", "A text", "a\0text"};
    float first[5][D], again[D];
    for (int i = 0; i < 5; i++)
        encode_one(encoder, (sr_str){texts[i], i == 4 ? 6 : strlen(texts[i])}, first[i]);
    assert_int_equal(t.encoded, 5);
    for (int i = 0; i < 5; i++) {
        encode_one(encoder, (sr_str){texts[i], i == 4 ? 6 : strlen(texts[i])}, again);
        assert_memory_equal(again, first[i], sizeof again);
    }
    assert_int_equal(t.encoded, 5);
    sr_encoder_counts counts = count(encoder);
    assert_int_equal(counts.cache_hits, 5);
    assert_int_equal(counts.cache_misses, 5);
    assert_int_equal(counts.cache_entries, 5);
    assert_int_equal(counts.cache_evictions, 0);
    assert_int_equal(counts.cache_max, 1 << 20);
    sr_encoder_close(&encoder);
}

static void equal_texts_of_one_call_are_encoded_once(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder = open_cached(&t, 4 << 20);
    static char names[100][16];
    static sr_str texts[MANY];
    static float out[MANY][D];
    for (int i = 0; i < 100; i++) snprintf(names[i], sizeof names[i], "text %d", i * 7919);
    float warm[D];
    for (int i = 0; i < 10; i++) encode_one(encoder, sr_str_of(names[i * 3]), warm);
    uint32_t random = 1;
    for (int i = 0; i < MANY; i++) texts[i] = sr_str_of(names[next_random(&random) % 100]);
    assert_int_equal(sr_encoder_encode(encoder, texts, MANY, out[0], NULL, NULL), SR_OK);
    assert_int_equal(t.encoded, 100);
    for (int i = 0; i < MANY; i++) expect(texts[i], out[i]);
    assert_int_equal(count(encoder).cache_hits, MANY - 90);
    sr_encoder_close(&encoder);
}

static void whether_a_text_was_truncated_is_remembered(void **state) {
    (void)state;
    sr_encoder_options options = {.size = sizeof options,
                                  .model = model,
                                  .threads = 1,
                                  .max_tokens = 6,
                                  .cache_bytes = 1 << 20};
    sr_encoder *encoder;
    assert_int_equal(sr_encoder_open(&options, &encoder, NULL), SR_OK);
    sr_str texts[] = {sr_str_of("one two three four five six"), sr_str_of("one"),
                      sr_str_of("one two three four five six")};
    float out[3][384], again[3][384];
    uint8_t cut[3] = {9, 9, 9};
    assert_int_equal(sr_encoder_encode(encoder, texts, 3, out[0], cut, NULL), SR_OK);
    assert_int_equal(cut[0] * 100 + cut[1] * 10 + cut[2], 101);
    assert_int_equal(sr_encoder_encode(encoder, texts, 3, again[0], cut, NULL), SR_OK);
    assert_int_equal(cut[0] * 100 + cut[1] * 10 + cut[2], 101);
    assert_memory_equal(out, again, sizeof out);
    assert_int_equal(count(encoder).cache_misses, 2);
    sr_encoder_close(&encoder);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static struct {
    size_t held, most, calls;
    size_t countdown;
} memory;

static void *take(void *user, size_t bytes) {
    (void)user;
    memory.calls++;
    if (memory.countdown > 0 && --memory.countdown == 0) return NULL;
    size_t *block = malloc(bytes + 16);
    assert_non_null(block);
    block[0] = bytes;
    memory.held += bytes;
    if (memory.held > memory.most) memory.most = memory.held;
    return block + 2;
}

static void release(void *user, void *old) {
    (void)user;
    if (old == NULL) return;
    memory.held -= ((size_t *)old)[-2];
    free((size_t *)old - 2);
}

static void *change(void *user, void *old, size_t bytes) {
    void *new = take(user, bytes);
    if (new == NULL) return NULL;
    if (old != NULL) {
        size_t before = ((size_t *)old)[-2];
        memcpy(new, old, before < bytes ? before : bytes);
    }
    release(user, old);
    return new;
}

static const sr_allocator counting = {take, change, release, NULL};

/* Texts of all lengths through a small cache, so that records wrap around its end and are evicted and spared
 * in every position. */
static void any_mix_of_texts_gives_right_vectors_in_bounded_memory(void **state) {
    (void)state;
    for (size_t bytes = 20000; bytes < 60000; bytes += 13333) {
        memset(&memory, 0, sizeof memory);
        sr_allocator_set(&counting);
        toy t = {0};
        sr_encoder *encoder = open_cached(&t, 0);
        size_t without = memory.held;
        sr_encoder_close(&encoder);
        encoder = open_cached(&t, bytes);
        assert_true(memory.held - without <= bytes);
        size_t calls = memory.calls;
        static char text[400];
        float out[8][D];
        uint32_t random = (uint32_t)bytes;
        for (int i = 0; i < 4000; i++) {
            sr_str texts[8];
            size_t n = 1 + next_random(&random) % 8;
            memset(text, 'x', sizeof text);
            for (size_t j = 0; j < n; j++) {
                /* Some texts come often, most seldom. */
                uint32_t which = next_random(&random) % (1u << (1 + next_random(&random) % 9));
                texts[j] = (sr_str){text + which % 100, which * 37 % 300};
            }
            assert_int_equal(sr_encoder_encode(encoder, texts, n, out[0], NULL, NULL), SR_OK);
            assert_int_equal(memory.calls, calls);
            if (i % 8 == 0) {
                toy plain = {0};
                float expected[D];
                for (size_t j = 0; j < n; j++) {
                    toy_encode(&plain, &texts[j], 1, expected);
                    double cosine = 0, length = 0;
                    for (int d = 0; d < D; d++) {
                        cosine += (double)expected[d] * out[j][d];
                        length += (double)expected[d] * expected[d];
                    }
                    assert_true(cosine * cosine > length * 0.99999);
                }
            }
        }
        sr_encoder_counts counts = count(encoder);
        assert_true(counts.cache_used <= bytes);
        assert_true(counts.cache_used > bytes * 3 / 4);
        assert_true(counts.cache_evictions > 100);
        assert_true(counts.cache_hits > 1000);
        sr_encoder_close(&encoder);
        sr_allocator_set(NULL);
        assert_int_equal(memory.held, 0);
    }
}

static void texts_in_use_outlive_a_flood_of_others(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder = open_cached(&t, 64 << 10);
    float out[D];
    char text[32];
    encode_one(encoder, sr_str_of("a favourite"), out);
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "asked for once: %d", i);
        encode_one(encoder, sr_str_of(text), out);
        if (i % 50 == 0) encode_one(encoder, sr_str_of("a favourite"), out);
    }
    assert_int_equal(t.encoded, 5001);
    expect(sr_str_of("asked for once: 4999"), out);
    sr_encoder_close(&encoder);
}

static void texts_beyond_their_share_are_not_kept(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder = open_cached(&t, 1 << 20);
    sri_cache *same;
    assert_int_equal(sri_cache_open(1 << 20, D, &same, NULL), SR_OK);
    size_t longest = sri_cache_longest(same);
    sri_cache_close(&same);
    assert_true(longest > 14000 && longest <= (1 << 20) / 64);
    char *text = malloc(longest + 1);
    assert_non_null(text);
    memset(text, 'a', longest + 1);
    float out[D];
    for (int i = 0; i < 3; i++) encode_one(encoder, (sr_str){text, longest + 1}, out);
    assert_int_equal(t.encoded, 3);
    assert_int_equal(count(encoder).cache_entries, 0);
    for (int i = 0; i < 3; i++) encode_one(encoder, (sr_str){text, longest}, out);
    assert_int_equal(t.encoded, 4);
    expect((sr_str){text, longest}, out);
    free(text);
    sr_encoder_close(&encoder);
}

static void an_encoder_survives_each_allocation_failing(void **state) {
    (void)state;
    sr_status code = SR_ERR_NO_MEMORY;
    for (size_t n = 1; code != SR_OK; n++) {
        memset(&memory, 0, sizeof memory);
        memory.countdown = n;
        sr_allocator_set(&counting);
        toy t = {0};
        sr_encoder_options options = {.size = sizeof options,
                                      .kind = SR_ENCODER_CALLBACK,
                                      .encode = toy_encode,
                                      .user = &t,
                                      .dimension = D,
                                      .identity = "toy",
                                      .cache_bytes = 1 << 16};
        sr_encoder *encoder;
        code = sr_encoder_open(&options, &encoder, NULL);
        assert_true(code == SR_OK || code == SR_ERR_NO_MEMORY);
        assert_true((encoder != NULL) == (code == SR_OK));
        sr_encoder_close(&encoder);
        sr_allocator_set(NULL);
        assert_int_equal(memory.held, 0);
        assert_true(n < 20);
    }
}

/* ---- Failures and options -------------------------------------------------------------------- */

static void a_failed_call_leaves_nothing_wrong_behind(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder = open_cached(&t, 1 << 16);
    sr_str texts[] = {sr_str_of("one"), sr_str_of("two"), sr_str_of("one")};
    float out[3][D];
    encode_one(encoder, texts[1], out[0]);
    atomic_store(&t.fail, 7);
    assert_int_equal(sr_encoder_encode(encoder, texts, 3, out[0], NULL, NULL), SR_ERR_CALLBACK);
    assert_int_equal(count(encoder).cache_entries, 1);
    encode_one(encoder, texts[1], out[0]); /* needs no encoding */
    expect(texts[1], out[0]);
    atomic_store(&t.fail, 0);
    assert_int_equal(sr_encoder_encode(encoder, texts, 3, out[0], NULL, NULL), SR_OK);
    for (int i = 0; i < 3; i++) expect(texts[i], out[i]);
    sr_encoder_close(&encoder);
}

static void a_cache_too_small_to_help_is_refused(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = toy_encode,
                                  .user = &t,
                                  .dimension = 4096,
                                  .identity = "toy",
                                  .cache_bytes = 10000};
    sr_encoder *encoder;
    sr_error error;
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_INVALID);
    assert_string_equal(error.place, "cache_bytes");
    assert_null(encoder);
    sr_encoder_counts none = {0};
    encoder = open_cached(&t, 1 << 16);
    assert_int_equal(sr_encoder_stats(encoder, &none, &error), SR_ERR_INVALID);
    assert_int_equal(sr_encoder_stats(encoder, NULL, &error), SR_ERR_INVALID);
    sr_encoder_close(&encoder);
}

static void a_router_passes_cache_and_prefix_to_its_encoder(void **state) {
    (void)state;
    sr_options options = {.size = sizeof options, .model = model, .threads = 1, .cache_bytes = 1};
    sr_router *router;
    sr_error error;
    assert_int_equal(sr_router_open(&options, &router, &error), SR_ERR_INVALID);
    assert_string_equal(error.place, "cache_bytes");
    sr_info plain = {.size = sizeof plain}, prefixed = {.size = sizeof prefixed};
    options.cache_bytes = 1 << 20;
    assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK);
    assert_int_equal(sr_router_info(router, &plain, NULL), SR_OK);
    sr_router_close(&router);
    options.prefix = "query: ";
    assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK);
    assert_int_equal(sr_router_info(router, &prefixed, NULL), SR_OK);
    sr_router_close(&router);
    assert_string_not_equal(plain.fingerprint, prefixed.fingerprint);
}

/* ---- Threads --------------------------------------------------------------------------------- */

enum { SHARED = 300 };

static struct {
    sr_encoder *encoder;
    char text[SHARED][8];
    float expected[SHARED][D];
    atomic_int wrong;
} shared;

static void *encode_many(void *argument) {
    uint32_t random = (uint32_t)(uintptr_t)argument;
    for (int i = 0; i < 1500; i++) {
        size_t which[5];
        sr_str texts[5];
        float out[5][D];
        for (int j = 0; j < 5; j++) {
            which[j] = next_random(&random) % SHARED;
            texts[j] = sr_str_of(shared.text[which[j]]);
        }
        sr_status code = sr_encoder_encode(shared.encoder, texts, 5, out[0], NULL, NULL);
        bool right = code == SR_OK;
        for (int j = 0; j < 5; j++)
            right = right && memcmp(out[j], shared.expected[which[j]], sizeof out[j]) == 0;
        sr_encoder_counts counts = {.size = sizeof counts};
        right = sr_encoder_stats(shared.encoder, &counts, NULL) == SR_OK && right;
        if (!right || counts.cache_used > counts.cache_max) atomic_fetch_add(&shared.wrong, 1);
    }
    return NULL;
}

static void threads_share_a_cache(void **state) {
    (void)state;
    toy t = {0};
    shared.encoder = toy_open(&t, "toy");
    for (int i = 0; i < SHARED; i++) {
        snprintf(shared.text[i], sizeof shared.text[i], "%d", i);
        encode_one(shared.encoder, sr_str_of(shared.text[i]), shared.expected[i]);
    }
    sr_encoder_close(&shared.encoder);
    shared.encoder = open_cached(&t, 40000); /* a third of the texts fit */
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, (void *)i), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(shared.wrong, 0);
    sr_encoder_counts counts = count(shared.encoder);
    assert_int_equal(counts.cache_hits + counts.cache_misses, 4 * 1500 * 5);
    assert_true(counts.cache_hits > 0 && counts.cache_evictions > 0);
    sr_encoder_close(&shared.encoder);
}

int main(int argc, char **argv) {
    (void)argc;
    snprintf(model, sizeof model, "%s/models/bge-small-en-v1.5", argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_no_cache_unless_asked_for),
        cmocka_unit_test(the_same_text_is_encoded_once_and_gives_the_same_bits),
        cmocka_unit_test(equal_texts_of_one_call_are_encoded_once),
        cmocka_unit_test(whether_a_text_was_truncated_is_remembered),
        cmocka_unit_test(any_mix_of_texts_gives_right_vectors_in_bounded_memory),
        cmocka_unit_test(texts_in_use_outlive_a_flood_of_others),
        cmocka_unit_test(texts_beyond_their_share_are_not_kept),
        cmocka_unit_test(an_encoder_survives_each_allocation_failing),
        cmocka_unit_test(a_failed_call_leaves_nothing_wrong_behind),
        cmocka_unit_test(a_cache_too_small_to_help_is_refused),
        cmocka_unit_test(a_router_passes_cache_and_prefix_to_its_encoder),
        cmocka_unit_test(threads_share_a_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
