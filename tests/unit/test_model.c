/*
 * test_model.c - models from strangers: damaged, hostile and foreign files get an error that names
 * them, never a crash; and what a good model's options change.
 *
 * The model is a tiny one written here: hidden 8, 2 heads, 1 layer, a vocabulary of 12.
 */
#include "unit.h"

#include "encode/encode.h"
#include "model/model.h"
#include "model/safetensors.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HIDDEN = 8, WIDE = 16, WORDS = 12, POSITIONS = 16 };

static char directory[64];

static const char *in_directory(const char *name) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(in_directory(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *text) { write_file(name, text, strlen(text)); }

static const char config[] =
    "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"hidden_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"intermediate_size\":16,\"vocab_size\":12,"
    "\"max_position_embeddings\":16,\"type_vocab_size\":2,\"layer_norm_eps\":1e-12}";

static const char tokenizer[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["
    "{\"id\":0,\"content\":\"[PAD]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":false,\"special\":true},"
    "{\"id\":1,\"content\":\"[UNK]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":false,\"special\":true},"
    "{\"id\":2,\"content\":\"[CLS]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":false,\"special\":true},"
    "{\"id\":3,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"normalized\":false,\"special\":true}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
    "\"strip_accents\":null,\"lowercase\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"["
    "CLS]\",\"type_id\":0}},"
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}"
    "}],\"pair\":[],"
    "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},\"[SEP]\":"
    "{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##"
    "\",\"max_input_chars_per_word\":100,"
    "\"vocab\":{\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"good\":4,\"bad\":5,\"day\":6,\"##"
    "s\":7,\"my\":8,\"money\":9,\"back\":10,\"query\":11}}}";

/* ---- writing a safetensors file -------------------------------------------------------------- */

/* How the weights of products are stored: any floats, bytes and their scales, or the floats that
 * these bytes stand for. */
typedef enum stored_as { FLOATS, BYTES, BYTES_AS_FLOATS } stored_as;

typedef struct writer {
    sri_buffer header, data;
    uint32_t random;
    float fill; /* NAN: random values */
    stored_as products;
} writer;

static float next_value(writer *w) {
    w->random = w->random * 1664525u + 1013904223u;
    return isnan(w->fill) ? (float)(w->random >> 8) / 8388608.0f - 1.0f : w->fill;
}

static void put_header(writer *w, const char *name, const char *dtype, const char *shape,
                       size_t bytes) {
    assert_true(sri_buffer_format(
        &w->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
        w->header.len == 0 ? "{" : ",", name, dtype, shape, w->data.len, w->data.len + bytes));
}

/* [rows, columns], each row with a scale of its own. */
static void add_product(writer *w, const char *name, const char *shape, size_t elements) {
    size_t rows, columns;
    assert_int_equal(sscanf(shape, "[%zu,%zu]", &rows, &columns), 2);
    assert_int_equal(rows * columns, elements);
    bool bytes = w->products == BYTES;
    put_header(w, name, bytes ? "I8" : "F32", shape, bytes ? elements : 4 * elements);
    for (size_t i = 0; i < elements; i++) {
        int8_t q = (int8_t)lrintf(next_value(w) * 127);
        float value = (float)q * (float)(1 + i / columns) / 512.0f;
        assert_true(bytes ? sri_buffer_append(&w->data, &q, 1)
                          : sri_buffer_append(&w->data, &value, sizeof value));
    }
    if (!bytes) return;
    char scale_name[160], scale_shape[32];
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    snprintf(scale_shape, sizeof scale_shape, "[%zu,1]", rows);
    put_header(w, scale_name, "F32", scale_shape, 4 * rows);
    for (size_t row = 0; row < rows; row++) {
        float scale = (float)(1 + row) / 512.0f;
        assert_true(sri_buffer_append(&w->data, &scale, sizeof scale));
    }
}

static void add_tensor(writer *w, const char *name, const char *shape, size_t elements) {
    bool product = strstr(name, "encoder") != NULL && strchr(shape, ',') != NULL;
    if (product && w->products != FLOATS) {
        add_product(w, name, shape, elements);
        return;
    }
    put_header(w, name, "F32", shape, 4 * elements);
    for (size_t i = 0; i < elements; i++) {
        float value = next_value(w);
        assert_true(sri_buffer_append(&w->data, &value, sizeof value));
    }
}

static sri_buffer model_bytes_as(const char *prefix, float fill, stored_as products) {
    static const struct {
        const char *name, *shape;
        size_t elements;
    } tensors[] = {
        {"embeddings.word_embeddings.weight", "[12,8]", WORDS * HIDDEN},
        {"embeddings.position_embeddings.weight", "[16,8]", POSITIONS * HIDDEN},
        {"embeddings.token_type_embeddings.weight", "[2,8]", 2 * HIDDEN},
        {"embeddings.LayerNorm.weight", "[8]", HIDDEN},
        {"embeddings.LayerNorm.bias", "[8]", HIDDEN},
        {"encoder.layer.0.attention.self.query.weight", "[8,8]", HIDDEN * HIDDEN},
        {"encoder.layer.0.attention.self.query.bias", "[8]", HIDDEN},
        {"encoder.layer.0.attention.self.key.weight", "[8,8]", HIDDEN * HIDDEN},
        {"encoder.layer.0.attention.self.key.bias", "[8]", HIDDEN},
        {"encoder.layer.0.attention.self.value.weight", "[8,8]", HIDDEN * HIDDEN},
        {"encoder.layer.0.attention.self.value.bias", "[8]", HIDDEN},
        {"encoder.layer.0.attention.output.dense.weight", "[8,8]", HIDDEN * HIDDEN},
        {"encoder.layer.0.attention.output.dense.bias", "[8]", HIDDEN},
        {"encoder.layer.0.attention.output.LayerNorm.weight", "[8]", HIDDEN},
        {"encoder.layer.0.attention.output.LayerNorm.bias", "[8]", HIDDEN},
        {"encoder.layer.0.intermediate.dense.weight", "[16,8]", WIDE * HIDDEN},
        {"encoder.layer.0.intermediate.dense.bias", "[16]", WIDE},
        {"encoder.layer.0.output.dense.weight", "[8,16]", WIDE * HIDDEN},
        {"encoder.layer.0.output.dense.bias", "[8]", HIDDEN},
        {"encoder.layer.0.output.LayerNorm.weight", "[8]", HIDDEN},
        {"encoder.layer.0.output.LayerNorm.bias", "[8]", HIDDEN},
    };
    writer w = {.random = 7, .fill = fill, .products = products};
    for (size_t i = 0; i < SRI_COUNT(tensors); i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", prefix, tensors[i].name);
        add_tensor(&w, name, tensors[i].shape, tensors[i].elements);
    }
    assert_true(sri_buffer_append_str(&w.header, "}"));
    sri_buffer all = {0};
    uint64_t length = w.header.len;
    assert_true(sri_buffer_append(&all, &length, sizeof length));
    assert_true(sri_buffer_append(&all, w.header.data, w.header.len));
    assert_true(sri_buffer_append(&all, w.data.data, w.data.len));
    sri_buffer_free(&w.header);
    sri_buffer_free(&w.data);
    return all;
}

static sri_buffer model_bytes(const char *prefix, float fill) {
    return model_bytes_as(prefix, fill, FLOATS);
}

static void write_model(void) {
    sri_buffer bytes = model_bytes("", NAN);
    write_file("model.safetensors", bytes.data, bytes.len);
    write_text("config.json", config);
    write_text("tokenizer.json", tokenizer);
    sri_buffer_free(&bytes);
}

static int make_directory(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/sr-model-XXXXXX");
    assert_non_null(mkdtemp(directory));
    write_model();
    return 0;
}

static int remove_directory(void **state) {
    (void)state;
    static const char *const names[] = {"model.safetensors", "config.json", "tokenizer.json",
                                        "synaptoroute.json", "1_Pooling/config.json"};
    for (size_t i = 0; i < SRI_COUNT(names); i++) unlink(in_directory(names[i]));
    rmdir(in_directory("1_Pooling"));
    return rmdir(directory);
}

static sr_status open_with(sr_encoder_options options, sr_encoder **encoder, sr_error *error) {
    options.size = sizeof options;
    options.model = directory;
    options.threads = 1;
    return sr_encoder_open(&options, encoder, error);
}

static void expect_refusal(sr_status wanted, const char *words) {
    sr_encoder *encoder;
    sr_error error = {0};
    sr_status code = open_with((sr_encoder_options){0}, &encoder, &error);
    assert_null(encoder);
    if (code != wanted || strstr(error.message, words) == NULL)
        fail_msg("%s: %s (wanted %s with \"%s\")", sr_status_name(code), error.message,
                 sr_status_name(wanted), words);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void good_model_encodes(void **state) {
    (void)state;
    sr_encoder *encoder;
    assert_int_equal(open_with((sr_encoder_options){0}, &encoder, NULL), SR_OK);
    sr_str texts[] = {sr_str_of("good day"), sr_str_of("bad days"),
                      sr_str_of("my my my my my my my my my my my my my my my")};
    float out[3][HIDDEN];
    uint8_t truncated[3];
    assert_int_equal(sr_encoder_encode(encoder, texts, 3, out[0], truncated, NULL), SR_OK);
    for (int t = 0; t < 3; t++) {
        double length = 0;
        for (int i = 0; i < HIDDEN; i++) length += (double)out[t][i] * out[t][i];
        assert_true(fabs(length - 1) < 1e-5);
    }
    assert_int_equal(truncated[0], 0);
    assert_int_equal(truncated[2], 1); /* 17 tokens, 16 positions */
    int32_t ids[8], expected[] = {2, 5, 6, 7, 3};
    size_t count;
    assert_int_equal(sr_encoder_tokenize(encoder, texts[1], ids, 8, &count, truncated, NULL),
                     SR_OK);
    assert_int_equal(count, 5);
    assert_memory_equal(ids, expected, sizeof expected);
    assert_int_equal(sri_encoder_verify(encoder, NULL), SR_OK);
    sr_encoder_close(&encoder);
}

static atomic_size_t allocations;

static void *count_alloc(void *user, size_t bytes) {
    (void)user;
    atomic_fetch_add(&allocations, 1);
    return malloc(bytes);
}

static void *count_resize(void *user, void *old, size_t bytes) {
    (void)user;
    atomic_fetch_add(&allocations, 1);
    return realloc(old, bytes);
}

static void count_release(void *user, void *memory) {
    (void)user;
    free(memory);
}

static void encoding_allocates_nothing_after_two_texts(void **state) {
    (void)state;
    const sr_allocator counting = {count_alloc, count_resize, count_release, NULL};
    sr_allocator_set(&counting);
    sr_encoder *encoder;
    sr_encoder_options options = {.size = sizeof options, .model = directory, .threads = 3};
    assert_int_equal(sr_encoder_open(&options, &encoder, NULL), SR_OK);
    assert_true(allocations > 0);
    enum { TEXTS = 300 };
    sr_str texts[TEXTS];
    static float out[TEXTS * HIDDEN];
    for (int i = 0; i < TEXTS; i++)
        texts[i] = sr_str_of(i % 2 ? "good days" : "my money back query");
    for (int i = 0; i < 2; i++)
        assert_int_equal(sr_encoder_encode(encoder, texts, 1, out, NULL, NULL), SR_OK);
    size_t before = allocations;
    for (size_t n = 1; n <= TEXTS; n += 13)
        assert_int_equal(sr_encoder_encode(encoder, texts, n, out, NULL, NULL), SR_OK);
    assert_int_equal(allocations, before);
    sr_encoder_close(&encoder);
    sr_allocator_set(NULL);
}

static void names_may_carry_the_prefix_bert(void **state) {
    (void)state;
    sr_encoder *plain, *prefixed;
    float a[HIDDEN], b[HIDDEN];
    sr_str text = sr_str_of("my money back");
    assert_int_equal(open_with((sr_encoder_options){0}, &plain, NULL), SR_OK);
    assert_int_equal(sr_encoder_encode(plain, &text, 1, a, NULL, NULL), SR_OK);
    sr_encoder_close(&plain); /* before its mapped file is written over */
    sri_buffer bytes = model_bytes("bert.", NAN);
    write_file("model.safetensors", bytes.data, bytes.len);
    sri_buffer_free(&bytes);
    assert_int_equal(open_with((sr_encoder_options){0}, &prefixed, NULL), SR_OK);
    assert_int_equal(sr_encoder_encode(prefixed, &text, 1, b, NULL, NULL), SR_OK);
    assert_memory_equal(a, b, sizeof a);
    sr_encoder_close(&prefixed);
}

static void encode_stored_as(stored_as products, const sr_str *texts, size_t n, float *out) {
    sri_buffer bytes = model_bytes_as("", NAN, products);
    write_file("model.safetensors", bytes.data, bytes.len);
    sri_buffer_free(&bytes);
    sr_encoder *encoder;
    assert_int_equal(open_with((sr_encoder_options){0}, &encoder, NULL), SR_OK);
    assert_int_equal(sr_encoder_encode(encoder, texts, n, out, NULL, NULL), SR_OK);
    sr_encoder_close(&encoder);
}

/* Queries, keys and values are stacked here from parts that are no multiple of what is packed at a
 * time. */
static void bytes_give_the_vectors_of_the_floats_they_stand_for(void **state) {
    (void)state;
    const sr_str texts[] = {sr_str_of("my money back"), sr_str_of("good days"), sr_str_of("bad")};
    enum { TEXTS = SRI_COUNT(texts) };
    float bytes[TEXTS * HIDDEN], floats[TEXTS * HIDDEN];
    encode_stored_as(BYTES, texts, TEXTS, bytes);
    encode_stored_as(BYTES_AS_FLOATS, texts, TEXTS, floats);
    for (size_t t = 0; t < TEXTS; t++) {
        double cosine = 0;
        for (size_t i = t * HIDDEN; i < (t + 1) * HIDDEN; i++)
            cosine += (double)bytes[i] * floats[i];
        if (!(cosine >= 0.999)) fail_msg("text %zu: cosine %f", t, cosine);
    }
}

typedef struct first_text {
    sr_encoder *encoder;
    pthread_barrier_t *start;
    float out[HIDDEN];
} first_text;

static void *encode_first(void *argument) {
    first_text *own = argument;
    sr_str text = sr_str_of("my money back");
    pthread_barrier_wait(own->start);
    assert_int_equal(sr_encoder_encode(own->encoder, &text, 1, own->out, NULL, NULL), SR_OK);
    return NULL;
}

/* Weights are packed when the first text comes, here from several threads at once. */
static void first_texts_at_once_have_the_vector_of_later_ones(void **state) {
    (void)state;
    enum { THREADS = 4 };
    for (int round = 0; round < 20; round++) {
        sr_encoder *encoder;
        sr_encoder_options options = {.size = sizeof options, .model = directory, .threads = 2};
        assert_int_equal(sr_encoder_open(&options, &encoder, NULL), SR_OK);
        pthread_barrier_t start;
        pthread_barrier_init(&start, NULL, THREADS);
        pthread_t threads[THREADS];
        first_text texts[THREADS];
        for (int i = 0; i < THREADS; i++) {
            texts[i] = (first_text){.encoder = encoder, .start = &start};
            assert_int_equal(pthread_create(&threads[i], NULL, encode_first, &texts[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        float later[HIDDEN];
        sr_str text = sr_str_of("my money back");
        assert_int_equal(sr_encoder_encode(encoder, &text, 1, later, NULL, NULL), SR_OK);
        for (int i = 0; i < THREADS; i++) assert_memory_equal(texts[i].out, later, sizeof later);
        pthread_barrier_destroy(&start);
        sr_encoder_close(&encoder);
    }
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    sri_buffer bytes = model_bytes("", NAN);
    for (size_t size = 0; size < bytes.len; size += size < 64 ? 1 : 61) {
        write_file("model.safetensors", bytes.data, size);
        expect_refusal(SR_ERR_FORMAT, "model.safetensors");
    }
    sri_buffer_free(&bytes);
}

static void a_header_with_flipped_bytes_never_crashes(void **state) {
    (void)state;
    sri_buffer bytes = model_bytes("", NAN);
    uint32_t random = 3;
    for (int round = 0; round < 400; round++) {
        sri_buffer copy = {0};
        assert_true(sri_buffer_append(&copy, bytes.data, bytes.len));
        for (int flip = 0; flip < 3; flip++) {
            random = random * 1664525u + 1013904223u;
            copy.data[(random >> 8) % 2200] ^= (char)(1 << (random & 7));
        }
        write_file("model.safetensors", copy.data, copy.len);
        sri_buffer_free(&copy);
        sr_encoder *encoder;
        sr_error error;
        float out[HIDDEN];
        sr_str text = sr_str_of("my money back");
        if (open_with((sr_encoder_options){0}, &encoder, &error) != SR_OK) {
            assert_true(strlen(error.message) > 10);
            continue;
        }
        if (sr_encoder_encode(encoder, &text, 1, out, NULL, &error) != SR_OK)
            assert_true(strlen(error.message) > 10);
        sr_encoder_close(&encoder);
    }
    sri_buffer_free(&bytes);
}

static void write_header(const char *header) {
    sri_buffer all = {0};
    uint64_t length = strlen(header);
    assert_true(sri_buffer_append(&all, &length, sizeof length));
    assert_true(sri_buffer_append_str(&all, header));
    write_file("model.safetensors", all.data, all.len);
    sri_buffer_free(&all);
}

static void hostile_headers_are_refused(void **state) {
    (void)state;
    sri_buffer long_header = {0};
    while (long_header.len < 3000000) assert_true(sri_buffer_append_str(&long_header, "[],"));
    assert_true(sri_buffer_append(&long_header, "", 1));
    write_header(long_header.data); /* would take a hundred times its size in memory */
    sri_buffer_free(&long_header);
    expect_refusal(SR_ERR_LIMIT, "header");
    static const char huge[] = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}";
    write_file("model.safetensors", huge, sizeof huge - 1);
    expect_refusal(SR_ERR_FORMAT, "truncated");
    write_header("[]");
    expect_refusal(SR_ERR_FORMAT, "not a JSON object");
    write_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\"data_"
                 "offsets\":[0,0]}}");
    expect_refusal(SR_ERR_FORMAT, "shape");
    write_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,0]}}");
    expect_refusal(SR_ERR_FORMAT, "shape");
    write_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
    expect_refusal(SR_ERR_FORMAT, "truncated");
    write_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[9,0]}}");
    expect_refusal(SR_ERR_FORMAT, "offsets");
    write_header("{\"a\":{\"dtype\":\"F3\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    expect_refusal(SR_ERR_FORMAT, "dtype");
    write_header("{\"a\":5}");
    expect_refusal(SR_ERR_FORMAT, "dtype");
    write_header("{}");
    expect_refusal(SR_ERR_FORMAT, "embeddings.word_embeddings.weight");
}

static void a_config_that_cannot_be_run_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *words;
        sr_status code;
    } cases[] = {
        {"", "config.json", SR_ERR_FORMAT},
        {"{", "config.json", SR_ERR_FORMAT},
        {"[1]", "not a JSON object", SR_ERR_FORMAT},
        {"{\"model_type\":\"roberta\"}", "model_type", SR_ERR_UNSUPPORTED},
        {"{\"model_type\":\"bert\",\"hidden_act\":\"relu\"}", "hidden_act", SR_ERR_UNSUPPORTED},
        {"{\"model_type\":\"bert\",\"hidden_size\":99999999999}", "hidden_size", SR_ERR_FORMAT},
        {"{\"model_type\":\"bert\",\"hidden_size\":-8}", "hidden_size", SR_ERR_FORMAT},
        {"{\"model_type\":\"bert\",\"quantization_config\":{\"format\":\"pack-quantized\"}}",
         "format", SR_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        write_text("config.json", cases[i].text);
        expect_refusal(cases[i].code, cases[i].words);
    }
    char odd[sizeof config];
    memcpy(odd, config, sizeof config);
    strstr(odd, "heads\":2")[7] = '3';
    write_text("config.json", odd);
    expect_refusal(SR_ERR_FORMAT, "multiple");
    memcpy(odd, config, sizeof config);
    memcpy(strstr(odd, "vocab_size\":12") + 12, "11", 2);
    write_text("config.json", odd);
    expect_refusal(SR_ERR_FORMAT, "shape");
}

static void weights_that_are_not_finite_are_reported(void **state) {
    (void)state;
    sri_buffer bytes = model_bytes("", INFINITY);
    write_file("model.safetensors", bytes.data, bytes.len);
    sri_buffer_free(&bytes);
    sr_encoder *encoder;
    sr_error error;
    float out[HIDDEN];
    sr_str text = sr_str_of("good day");
    assert_int_equal(open_with((sr_encoder_options){0}, &encoder, NULL), SR_OK);
    assert_int_equal(sr_encoder_encode(encoder, &text, 1, out, NULL, &error), SR_ERR_FORMAT);
    assert_non_null(strstr(error.message, "not finite"));
    sr_encoder_close(&encoder);
}

static void missing_files_are_named(void **state) {
    (void)state;
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (size_t i = 0; i < SRI_COUNT(names); i++) {
        unlink(in_directory(names[i]));
        expect_refusal(SR_ERR_NOT_FOUND, names[i]);
        write_model();
    }
}

static void an_unknown_model_says_where_it_looked(void **state) {
    (void)state;
    sr_encoder *encoder;
    sr_error error;
    sr_encoder_options options = {.size = sizeof options, .model = "no-such-model"};
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "no-such-model"));
    assert_non_null(strstr(error.message, "share/synaptoroute/models"));
    options.model = "/no/such/directory";
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_NOT_FOUND);
    assert_non_null(strstr(error.message, "/no/such/directory"));
}

static void the_fingerprint_follows_all_that_changes_vectors(void **state) {
    (void)state;
    const sr_encoder_options variants[] = {
        {0},
        {.pooling = SR_POOLING_CLS},
        {.prefix = "query: "},
        {.max_tokens = 8},
    };
    char prints[SRI_COUNT(variants)][65];
    for (size_t i = 0; i < SRI_COUNT(variants); i++) {
        sr_encoder *encoder;
        assert_int_equal(open_with(variants[i], &encoder, NULL), SR_OK);
        snprintf(prints[i], 65, "%s", sr_encoder_fingerprint(encoder));
        assert_int_equal(strlen(prints[i]), 64);
        for (size_t j = 0; j < i; j++) assert_string_not_equal(prints[i], prints[j]);
        sr_encoder_close(&encoder);
    }
    sri_buffer bytes = model_bytes("", NAN);
    bytes.data[bytes.len - 1] ^= 1; /* one weight */
    write_file("model.safetensors", bytes.data, bytes.len);
    sri_buffer_free(&bytes);
    sr_encoder *encoder;
    assert_int_equal(open_with((sr_encoder_options){0}, &encoder, NULL), SR_OK);
    assert_string_not_equal(sr_encoder_fingerprint(encoder), prints[0]);
    sr_encoder_close(&encoder);
}

static void pooling_and_prefix_come_from_the_description(void **state) {
    (void)state;
    sr_encoder *described, *asked;
    sr_str text = sr_str_of("good day");
    float a[HIDDEN], b[HIDDEN];
    write_text("synaptoroute.json", "{\"pooling\":\"cls\",\"prefix\":\"query \",\"max_tokens\":9}");
    assert_int_equal(open_with((sr_encoder_options){0}, &described, NULL), SR_OK);
    unlink(in_directory("synaptoroute.json"));
    assert_int_equal(mkdir(in_directory("1_Pooling"), 0700), 0);
    write_text("1_Pooling/config.json",
               "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}");
    assert_int_equal(
        open_with((sr_encoder_options){.prefix = "query ", .max_tokens = 9}, &asked, NULL), SR_OK);
    assert_string_equal(sr_encoder_fingerprint(described), sr_encoder_fingerprint(asked));
    assert_int_equal(sr_encoder_encode(described, &text, 1, a, NULL, NULL), SR_OK);
    assert_int_equal(sr_encoder_encode(asked, &text, 1, b, NULL, NULL), SR_OK);
    assert_memory_equal(a, b, sizeof a);
    sr_encoder_close(&described);
    sr_encoder_close(&asked);
}

static void prefixes_go_by_their_names(void **state) {
    (void)state;
    static const struct {
        const char *asked, *meant;
    } cases[] = {{"@query", "query: "}, {"@passage", "passage: "}, {"@plain", ""}};
    write_text("synaptoroute.json",
               "{\"pooling\":\"mean\",\"prefix\":\"query: \",\"prefixes\":{\"query\":\"query: \","
               "\"passage\":\"passage: \",\"plain\":\"\"}}");
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        sr_encoder *asked, *meant;
        assert_int_equal(open_with((sr_encoder_options){.prefix = cases[i].asked}, &asked, NULL),
                         SR_OK);
        assert_int_equal(open_with((sr_encoder_options){.prefix = cases[i].meant}, &meant, NULL),
                         SR_OK);
        assert_string_equal(sr_encoder_fingerprint(asked), sr_encoder_fingerprint(meant));
        sr_encoder_close(&asked);
        sr_encoder_close(&meant);
    }
}

static void prefixes_that_have_no_such_name_are_listed(void **state) {
    (void)state;
    sr_encoder *encoder;
    sr_error error;
    const sr_encoder_options wrong = {.prefix = "@document"};
    assert_int_equal(open_with(wrong, &encoder, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "it has none with a name"));
    write_text("synaptoroute.json", "{\"pooling\":\"mean\",\"prefixes\":{\"query\":\"query: \","
                                    "\"passage\":\"passage: \"}}");
    assert_int_equal(open_with(wrong, &encoder, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "\"document\"; it has @query, @passage"));
    assert_int_equal(open_with((sr_encoder_options){.prefix = "@"}, &encoder, &error),
                     SR_ERR_INVALID);
}

static void two_at_signs_are_one_of_the_text(void **state) {
    (void)state;
    sr_encoder *doubled, *described;
    write_text("synaptoroute.json",
               "{\"pooling\":\"mean\",\"prefix\":\"@query\",\"prefixes\":{\"query\":\"q\"}}");
    assert_int_equal(open_with((sr_encoder_options){0}, &described, NULL), SR_OK);
    assert_int_equal(open_with((sr_encoder_options){.prefix = "@@query"}, &doubled, NULL), SR_OK);
    assert_string_equal(sr_encoder_fingerprint(doubled), sr_encoder_fingerprint(described));
    sr_encoder_close(&doubled);
    sr_encoder_close(&described);
}

static void prefixes_that_cannot_be_kept_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "[]",
        "\"query: \"",
        "{\"query\":1}",
        "{\"\":\"query: \"}",
        "{\"@query\":\"query: \"}",
        "{\"a name that has more than thirty-two bytes\":\"\"}",
        "{\"1\":\"\",\"2\":\"\",\"3\":\"\",\"4\":\"\",\"5\":\"\",\"6\":\"\",\"7\":\"\",\"8\":\"\","
        "\"9\":\"\"}"};
    for (size_t i = 0; i < SRI_COUNT(bad); i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"pooling\":\"mean\",\"prefixes\":%s}", bad[i]);
        write_text("synaptoroute.json", text);
        expect_refusal(SR_ERR_FORMAT, "prefixes");
    }
}

static void a_replaced_file_is_noticed(void **state) {
    (void)state;
    sr_encoder *encoder;
    sr_error error;
    char digest[65], text[1024];
    struct stat status;
    assert_int_equal(sri_sha256_file(in_directory("model.safetensors"), digest, NULL), SR_OK);
    assert_int_equal(stat(in_directory("model.safetensors"), &status), 0);
    snprintf(text, sizeof text,
             "{\"pooling\":\"mean\",\"files\":{\"model.safetensors\":{\"bytes\":%lld,\"sha256\":\"%"
             "s\"}}}",
             (long long)status.st_size, digest);
    write_text("synaptoroute.json", text);
    assert_int_equal(open_with((sr_encoder_options){0}, &encoder, NULL), SR_OK);
    assert_int_equal(sri_encoder_verify(encoder, NULL), SR_OK);
    sri_buffer bytes = model_bytes("", 0.5f); /* of the same size */
    write_file("model.safetensors", bytes.data, bytes.len);
    assert_int_equal(sri_encoder_verify(encoder, &error), SR_ERR_FORMAT);
    assert_non_null(strstr(error.message, "sha256"));
    sr_encoder_close(&encoder);
    write_file("model.safetensors", bytes.data, bytes.len - 4); /* of another */
    expect_refusal(SR_ERR_FORMAT, "synaptoroute.json records");
    sri_buffer_free(&bytes);
    write_text("synaptoroute.json", "{\"pooling\":\"max\"}");
    expect_refusal(SR_ERR_FORMAT, "pooling");
}

static void options_out_of_range_are_refused(void **state) {
    (void)state;
    sr_encoder *encoder;
    sr_error error;
    assert_int_equal(open_with((sr_encoder_options){.max_tokens = 17}, &encoder, &error),
                     SR_ERR_INVALID);
    assert_int_equal(open_with((sr_encoder_options){.max_tokens = 1}, &encoder, &error),
                     SR_ERR_INVALID);
    assert_int_equal(open_with((sr_encoder_options){.pooling = (sr_pooling)9}, &encoder, &error),
                     SR_ERR_INVALID);
    assert_int_equal(open_with((sr_encoder_options){.kind = (sr_encoder_kind)9}, &encoder, &error),
                     SR_ERR_INVALID);
    sr_encoder_options options = {.size = 3};
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_INVALID);
    options = (sr_encoder_options){.size = sizeof options, .model = directory, .threads = -1};
    assert_int_equal(sr_encoder_open(&options, &encoder, &error), SR_ERR_INVALID);
}

int main(void) {
#define MODEL_TEST(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        MODEL_TEST(good_model_encodes),
        MODEL_TEST(encoding_allocates_nothing_after_two_texts),
        MODEL_TEST(bytes_give_the_vectors_of_the_floats_they_stand_for),
        MODEL_TEST(first_texts_at_once_have_the_vector_of_later_ones),
        MODEL_TEST(names_may_carry_the_prefix_bert),
        MODEL_TEST(a_file_cut_anywhere_is_refused),
        MODEL_TEST(a_header_with_flipped_bytes_never_crashes),
        MODEL_TEST(hostile_headers_are_refused),
        MODEL_TEST(a_config_that_cannot_be_run_is_refused),
        MODEL_TEST(weights_that_are_not_finite_are_reported),
        MODEL_TEST(missing_files_are_named),
        MODEL_TEST(an_unknown_model_says_where_it_looked),
        MODEL_TEST(the_fingerprint_follows_all_that_changes_vectors),
        MODEL_TEST(pooling_and_prefix_come_from_the_description),
        MODEL_TEST(prefixes_go_by_their_names),
        MODEL_TEST(prefixes_that_have_no_such_name_are_listed),
        MODEL_TEST(two_at_signs_are_one_of_the_text),
        MODEL_TEST(prefixes_that_cannot_be_kept_are_refused),
        MODEL_TEST(a_replaced_file_is_noticed),
        MODEL_TEST(options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
