/*
 * test_vectors.c - vectors against ONNX Runtime's (tools/make_vector_goldens.py), and against
 * themselves: the same bits at every CPU level, in any batch and on any number of threads.
 */
#include "../unit/unit.h"

#include "encode/encode.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "text/text.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIMENSION = 384, MAX_TEXTS = 200, MAX_TOKENS = 512 };

static const char *root;
static size_t count;
static sr_str texts[MAX_TEXTS];
static int mean_row[MAX_TEXTS]; /* -1: none */

static const char *at_root(const char *name) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static int read_texts(void **state) {
    (void)state;
    FILE *file = fopen(at_root("tests/golden/vectors.jsonl"), "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        json_t *row = json_loads(line, 0, NULL);
        const json_t *mean = json_object_get(row, "mean");
        texts[count] = sr_str_of(strdup(json_string_value(json_object_get(row, "text"))));
        mean_row[count++] = json_is_integer(mean) ? (int)json_integer_value(mean) : -1;
        json_decref(row);
    }
    free(line);
    fclose(file);
    assert_in_range(count, 50, MAX_TEXTS);
    return 0;
}

static int free_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < count; i++) free((char *)(uintptr_t)texts[i].data);
    return 0;
}

static float *read_vectors(const char *name, size_t rows) {
    float *vectors = malloc(rows * DIMENSION * sizeof *vectors);
    FILE *file = fopen(at_root(name), "rb");
    assert_non_null(file);
    assert_int_equal(fread(vectors, DIMENSION * sizeof *vectors, rows, file), rows);
    fclose(file);
    return vectors;
}

static double cosine(const float *a, const float *b) {
    double sum = 0, aa = 0, bb = 0;
    for (int i = 0; i < DIMENSION; i++) {
        sum += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return sum / sqrt(aa * bb);
}

static sr_encoder *open_shipped(int threads) {
    sr_encoder *encoder;
    sr_error error;
    sr_encoder_options options = {
        .size = sizeof options, .model = at_root("models/bge-small-en-v1.5"), .threads = threads};
    if (sr_encoder_open(&options, &encoder, &error) != SR_OK) fail_msg("%s", error.message);
    return encoder;
}

static void shipped_model_is_faithful_to_fp32(void **state) {
    (void)state;
    float *expected = read_vectors("tests/golden/vectors_fp32.f32", count),
          *actual = malloc(count * DIMENSION * 4);
    sr_encoder *encoder = open_shipped(2);
    assert_int_equal(sr_encoder_dimension(encoder), DIMENSION);
    assert_int_equal(sr_encoder_encode(encoder, texts, count, actual, NULL, NULL), SR_OK);
    double sum = 0;
    size_t low = 0;
    for (size_t i = 0; i < count; i++) {
        double c = cosine(expected + i * DIMENSION, actual + i * DIMENSION);
        if (c < 0.99) fail_msg("text %zu (%.60s): cosine %f", i, texts[i].data, c);
        low += c < 0.997;
        sum += c;
    }
    assert_true(sum / (double)count >= 0.999);
    assert_true(low <=
                2); /* a lone full stop, and a script that the vocabulary has only as letters */
    sr_encoder_close(&encoder);
    free(expected);
    free(actual);
}

/* The forward pass in fp32 over dequantised weights, one text at a time. */
static void forward(const sri_model *model, const sri_tokenizer *tokenizer, sr_str text,
                    sr_pooling pooling, float *out) {
    static int32_t ids[MAX_TOKENS];
    size_t start[2] = {0, sri_tokenize(tokenizer, (sr_str){NULL, 0}, text, ids, MAX_TOKENS, NULL)};
    sri_scratch *scratch;
    assert_int_equal(sri_scratch_open(model, MAX_TOKENS, MAX_TOKENS, &scratch, NULL), SR_OK);
    sri_batch batch = {ids, start, 1};
    sri_model_forward(model, &batch, pooling, scratch, NULL, out);
    sri_scratch_close(&scratch);
}

static void forward_pass_in_fp32_equals_onnx_runtime(void **state) {
    (void)state;
    sri_model *model;
    sri_tokenizer *tokenizer;
    assert_int_equal(
        sri_model_open(at_root("models/bge-small-en-v1.5"), SRI_WEIGHTS_FLOAT, &model, NULL),
        SR_OK);
    assert_int_equal(sri_model_pack(model, NULL, NULL), SR_OK);
    assert_int_equal(
        sri_tokenizer_open(at_root("models/bge-small-en-v1.5/tokenizer.json"), &tokenizer, NULL),
        SR_OK);
    size_t means = 0;
    for (size_t i = 0; i < count; i++) means += mean_row[i] >= 0;
    float *cls = read_vectors("tests/golden/vectors_dequantised.f32", count);
    float *mean = read_vectors("tests/golden/vectors_mean.f32", means), actual[DIMENSION];
    for (size_t i = 0; i < count; i++) {
        forward(model, tokenizer, texts[i], SR_POOLING_CLS, actual);
        double c = cosine(cls + i * DIMENSION, actual);
        if (!(c >= 0.99999)) fail_msg("text %zu (%.60s): cosine %.8f", i, texts[i].data, c);
        if (mean_row[i] < 0) continue;
        forward(model, tokenizer, texts[i], SR_POOLING_MEAN, actual);
        c = cosine(mean + (size_t)mean_row[i] * DIMENSION, actual);
        if (!(c >= 0.99999)) fail_msg("mean of text %zu (%.60s): cosine %.8f", i, texts[i].data, c);
    }
    free(cls);
    free(mean);
    sri_tokenizer_close(&tokenizer);
    sri_model_close(&model);
}

static void vectors_do_not_depend_on_batch_or_threads(void **state) {
    (void)state;
    float *alone = malloc(count * DIMENSION * 4), *together = malloc(count * DIMENSION * 4);
    sr_encoder *one = open_shipped(1), *many = open_shipped(5);
    assert_string_equal(sr_encoder_fingerprint(one), sr_encoder_fingerprint(many));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(sr_encoder_encode(one, &texts[i], 1, alone + i * DIMENSION, NULL, NULL),
                         SR_OK);
    assert_int_equal(sr_encoder_encode(one, texts, count, together, NULL, NULL), SR_OK);
    assert_memory_equal(alone, together, count * DIMENSION * 4);
    memset(together, 0, count * DIMENSION * 4);
    assert_int_equal(sr_encoder_encode(many, texts, count, together, NULL, NULL), SR_OK);
    assert_memory_equal(alone, together, count * DIMENSION * 4);
    for (size_t i = 0; i < count; i++) { /* each text shared out among threads */
        assert_int_equal(sr_encoder_encode(many, &texts[i], 1, together, NULL, NULL), SR_OK);
        assert_memory_equal(alone + i * DIMENSION, together, DIMENSION * 4);
    }
    sr_encoder_close(&one);
    sr_encoder_close(&many);
    free(alone);
    free(together);
}

/* Encodes the first text alone with an encoder just opened, whose weights are not packed yet, and then
 * all of them; false where the vectors of the first differ. */
static bool encode_afresh(int threads, const sr_str *given, size_t n, float *out) {
    float first[DIMENSION];
    sr_encoder *encoder = open_shipped(threads);
    bool same = sr_encoder_encode(encoder, given, 1, first, NULL, NULL) == SR_OK &&
                sr_encoder_encode(encoder, given, n, out, NULL, NULL) == SR_OK &&
                memcmp(first, out, sizeof first) == 0;
    sr_encoder_close(&encoder);
    return same;
}

static void the_first_text_has_the_bits_of_later_ones(void **state) {
    (void)state;
    float later[2 * DIMENSION];
    for (size_t i = 0; i + 2 < count; i += count / 8)
        for (int threads = 1; threads <= 3; threads++)
            assert_true(encode_afresh(threads, texts + i, 2, later));
}

/* In a process of its own, since the level is chosen once in a process. */
static void encode_at_level(const char *level, size_t n, float *out) {
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    size_t bytes = n * DIMENSION * sizeof *out;
    if (child == 0) {
        setenv("SR_CPU", level, 1);
        bool done = strcmp(sr_cpu_level(), level) == 0 && encode_afresh(1, texts, n, out);
        for (size_t sent = 0; done && sent < bytes;) {
            ssize_t written = write(pipe_ends[1], (char *)out + sent, bytes - sent);
            if (written <= 0)
                done = false;
            else
                sent += (size_t)written;
        }
        _exit(done ? 0 : 1);
    }
    close(pipe_ends[1]);
    FILE *file = fdopen(pipe_ends[0], "rb");
    assert_int_equal(fread(out, 1, bytes, file), bytes);
    fclose(file);
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

static void every_cpu_level_gives_the_same_bits(void **state) {
    (void)state;
    size_t n = SRI_MIN(count, 24);
    float *ref = malloc(n * DIMENSION * 4), *other = malloc(n * DIMENSION * 4);
    encode_at_level("ref", n, ref);
    for (int level = SRI_CPU_REF + 1; level <= (int)sri_cpu_best(); level++) {
        if (!sri_cpu_has((sri_cpu_level)level)) continue;
        encode_at_level(sri_cpu_level_name((sri_cpu_level)level), n, other);
        assert_memory_equal(ref, other, n * DIMENSION * 4);
    }
    free(ref);
    free(other);
}

int main(int argc, char **argv) {
    root = argc > 1 ? argv[1] : ".";
    const struct CMUnitTest tests[] = {
        /* First: its children choose their level, which this process must not have done yet. */
        cmocka_unit_test(every_cpu_level_gives_the_same_bits),
        cmocka_unit_test(shipped_model_is_faithful_to_fp32),
        cmocka_unit_test(forward_pass_in_fp32_equals_onnx_runtime),
        cmocka_unit_test(vectors_do_not_depend_on_batch_or_threads),
        cmocka_unit_test(the_first_text_has_the_bits_of_later_ones),
    };
    return cmocka_run_group_tests(tests, read_texts, free_texts);
}
