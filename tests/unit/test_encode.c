/* test_encode.c - the encoder's front, and the callback kind. */
#include "unit.h"

#include "synaptoroute.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum { DIMENSION = 8 };

typedef struct toy {
    int result;
    float first; /* of every vector; the rest is the text's length */
    atomic_int inside, most;
} toy;

static int toy_encode(void *user, const sr_str *texts, size_t n, float *out) {
    toy *t = user;
    int inside = atomic_fetch_add(&t->inside, 1) + 1;
    if (inside > atomic_load(&t->most)) atomic_store(&t->most, inside);
    for (size_t i = 0; i < n; i++)
        for (int d = 0; d < DIMENSION; d++)
            out[i * DIMENSION + (size_t)d] = d == 0 ? t->first : (float)texts[i].len;
    atomic_fetch_sub(&t->inside, 1);
    return t->result;
}

static sr_encoder *open_toy(toy *t) {
    sr_encoder *encoder;
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = toy_encode,
                                  .user = t,
                                  .dimension = DIMENSION,
                                  .identity = "toy"};
    assert_int_equal(sr_encoder_open(&options, &encoder, NULL), SR_OK);
    return encoder;
}

static void callback_vectors_are_normalised(void **state) {
    (void)state;
    toy t = {.first = 3};
    sr_encoder *encoder = open_toy(&t);
    assert_int_equal(sr_encoder_dimension(encoder), DIMENSION);
    assert_string_equal(sr_encoder_name(encoder), "toy");
    sr_str texts[] = {sr_str_of("four"), sr_str_of("sixsix")};
    float out[2 * DIMENSION];
    uint8_t truncated[] = {9, 9};
    assert_int_equal(sr_encoder_encode(encoder, texts, 2, out, truncated, NULL), SR_OK);
    assert_true(fabsf(out[0] - 3 / sqrtf(9 + 7 * 16)) < 1e-6f);
    assert_int_equal(truncated[0] + truncated[1], 0);
    sr_encoder_close(&encoder);
    assert_null(encoder);
    sr_encoder_close(&encoder);
}

static void callback_failures_are_reported(void **state) {
    (void)state;
    toy t = {.first = 1, .result = 42};
    sr_encoder *encoder = open_toy(&t);
    sr_str text = sr_str_of("a");
    sr_error error;
    float out[DIMENSION];
    assert_int_equal(sr_encoder_encode(encoder, &text, 1, out, NULL, &error), SR_ERR_CALLBACK);
    assert_non_null(strstr(error.message, "42"));
    t.result = 0;
    t.first = NAN;
    assert_int_equal(sr_encoder_encode(encoder, &text, 1, out, NULL, &error), SR_ERR_CALLBACK);
    assert_non_null(strstr(error.message, "not finite"));
    t.first = 0;
    assert_int_equal(sr_encoder_encode(encoder, &(sr_str){NULL, 0}, 1, out, NULL, &error),
                     SR_ERR_CALLBACK);
    sr_encoder_close(&encoder);
}

static void *encode_often(void *argument) {
    sr_str text = sr_str_of("text");
    float out[DIMENSION];
    for (int i = 0; i < 2000; i++)
        assert_int_equal(sr_encoder_encode(argument, &text, 1, out, NULL, NULL), SR_OK);
    return NULL;
}

static void callback_is_called_one_at_a_time(void **state) {
    (void)state;
    toy t = {.first = 1};
    sr_encoder *encoder = open_toy(&t);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, encoder), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(t.most, 1);
    sr_encoder_close(&encoder);
}

static void callback_options_are_checked(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *encoder;
    sr_error error;
    const sr_encoder_options good = {.size = sizeof good,
                                     .kind = SR_ENCODER_CALLBACK,
                                     .encode = toy_encode,
                                     .user = &t,
                                     .dimension = DIMENSION,
                                     .identity = "toy"};
    sr_encoder_options options = good;
    options.encode = NULL;
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_INVALID);
    options = good;
    options.dimension = 5000;
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "5000"));
    options = good;
    options.identity = NULL;
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_INVALID);
    assert_null(encoder);
}

static void identity_and_dimension_make_the_fingerprint(void **state) {
    (void)state;
    toy t = {0};
    sr_encoder *a = open_toy(&t), *b;
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = toy_encode,
                                  .user = &t,
                                  .dimension = DIMENSION,
                                  .identity = "toy 2"};
    assert_int_equal(sr_encoder_open(&options, &b, NULL), SR_OK);
    assert_int_equal(strlen(sr_encoder_fingerprint(a)), 64);
    assert_string_not_equal(sr_encoder_fingerprint(a), sr_encoder_fingerprint(b));
    sr_encoder_close(&b);
    sr_encoder_close(&a);
}

static void bad_texts_are_refused_before_work(void **state) {
    (void)state;
    toy t = {.first = 1};
    sr_encoder *encoder = open_toy(&t);
    sr_error error;
    float out[DIMENSION];
    assert_int_equal(sr_encoder_encode(encoder, NULL, 0, NULL, NULL, &error), SR_OK);
    assert_int_equal(sr_encoder_encode(encoder, NULL, 1, out, NULL, &error), SR_ERR_INVALID);
    assert_int_equal(sr_encoder_encode(encoder, &(sr_str){NULL, 5}, 1, out, NULL, &error),
                     SR_ERR_INVALID);
    assert_int_equal(sr_encoder_encode(encoder, &(sr_str){"x", (size_t)SR_MAX_TEXT_BYTES + 1}, 1,
                                       out, NULL, &error),
                     SR_ERR_LIMIT);
    int32_t ids[4];
    size_t count;
    assert_int_equal(sr_encoder_tokenize(encoder, sr_str_of("x"), ids, 4, &count, NULL, &error),
                     SR_ERR_UNSUPPORTED);
    sr_encoder_close(&encoder);
}

static void a_newer_options_struct_is_understood_or_refused(void **state) {
    (void)state;
    toy t = {.first = 1};
    struct {
        sr_encoder_options known;
        long later;
    } newer = {.known = {.kind = SR_ENCODER_CALLBACK,
                         .encode = toy_encode,
                         .user = &t,
                         .dimension = DIMENSION,
                         .identity = "toy"}};
    newer.known.size = sizeof newer;
    sr_encoder *encoder;
    sr_error error;
    assert_int_equal(sr_encoder_open(&newer.known, &encoder, &error), SR_OK);
    sr_encoder_close(&encoder);
    newer.later = 1;
    assert_int_equal(sr_encoder_open(&newer.known, &encoder, &error), SR_ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callback_vectors_are_normalised),
        cmocka_unit_test(callback_failures_are_reported),
        cmocka_unit_test(callback_is_called_one_at_a_time),
        cmocka_unit_test(callback_options_are_checked),
        cmocka_unit_test(identity_and_dimension_make_the_fingerprint),
        cmocka_unit_test(bad_texts_are_refused_before_work),
        cmocka_unit_test(a_newer_options_struct_is_understood_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
