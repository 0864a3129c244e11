/*
 * test_static.c - static models: the layout, hostile files, the vectors, what has no vector.
 *
 * The models are small ones written here over the shipped tokenizer.
 */
#include "short_memory.h"
#include "unit.h"

#include "model/config.h"
#include "model/static_model.h"
#include "text/text.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TOKENS = 30522, DIM = 16 };

static char root[PATH_MAX], tokenizer_path[PATH_MAX];

/* ---- models to test with --------------------------------------------------------------------- */

typedef struct model_files {
    const char *config;  /* NULL: Model2Vec's */
    const char *header;  /* of model.safetensors; NULL: what the rest says */
    const char *dtype;   /* of embeddings */
    const char *mapping; /* its dtype, or NULL */
    size_t rows, width;  /* bytes of an element */
    size_t dim;
    bool weights;
    size_t weight_count;
    int64_t largest_row; /* in the mapping */
    size_t cut;          /* bytes missing at the end */
    float scale;         /* of the weights */
} model_files;

static const model_files plain = {
    .dtype = "I8", .rows = TOKENS, .width = 1, .dim = DIM, .weights = true, .scale = 0.01f};

static char directory[PATH_MAX];

static void make_directory(void) {
    const char *base = getenv("TMPDIR") == NULL ? "/tmp" : getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/sr-static-XXXXXX", base);
    assert_non_null(mkdtemp(directory));
}

static void path_of(const char *name, char path[PATH_MAX]) {
    assert_int_equal(sri_join_path(path, PATH_MAX, directory, name, NULL), SR_OK);
}

static void write_bytes(const char *name, const void *bytes, size_t len) {
    char path[PATH_MAX];
    path_of(name, path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void remove_model(void) {
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors",
                                        "synaptoroute.json"};
    for (size_t i = 0; i < SRI_COUNT(names); i++) {
        char path[PATH_MAX];
        path_of(names[i], path);
        unlink(path);
    }
    rmdir(directory);
}

/* Element `i` of the table, from -127 to 127: different for tokens and for columns. */
static int cell(size_t i) { return (int)((i * 7919 + i / 16 * 31) % 255) - 127; }

static void put_cell(uint8_t *out, const char *dtype, int value) {
    float number = (float)value;
    double wide = value;
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    if (strcmp(dtype, "I8") == 0) *out = (uint8_t)(int8_t)value;
    if (strcmp(dtype, "F32") == 0) memcpy(out, &number, sizeof number);
    if (strcmp(dtype, "F64") == 0) memcpy(out, &wide, sizeof wide);
    if (strcmp(dtype, "BF16") == 0) memcpy(out, (uint8_t *)&bits + 2, 2);
}

static size_t put_mapping(uint8_t *out, const model_files *m) {
    size_t width = strcmp(m->mapping, "I64") == 0 ? 8 : 4;
    for (size_t i = 0; i < TOKENS; i++) {
        int64_t row = i == 5 && m->largest_row != 0 ? m->largest_row : (int64_t)(i % m->rows);
        int32_t small = (int32_t)row;
        if (width == 8)
            memcpy(out + i * 8, &row, 8);
        else
            memcpy(out + i * 4, &small, 4);
    }
    return TOKENS * width;
}

static void write_weights(const model_files *m) {
    size_t cells = m->rows * m->dim, count = m->weight_count > 0 ? m->weight_count : TOKENS;
    size_t map_width = m->mapping == NULL ? 0 : strcmp(m->mapping, "I64") == 0 ? 8 : 4;
    size_t first = cells * m->width, second = first + (m->weights ? count * 4 : 0),
           third = second + TOKENS * map_width;
    char header[1024];
    int len = snprintf(header, sizeof header,
                       "{\"embeddings\":{\"dtype\":\"%s\",\"shape\":[%zu,%zu],\"data_offsets\":[0,"
                       "%zu]}",
                       m->dtype, m->rows, m->dim, first);
    if (m->weights)
        len +=
            snprintf(header + len, sizeof header - (size_t)len,
                     ",\"weights\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}",
                     count, first, second);
    if (m->mapping != NULL)
        len += snprintf(header + len, sizeof header - (size_t)len,
                        ",\"mapping\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[%zu,%zu]}",
                        m->mapping, TOKENS, second, third);
    len += snprintf(header + len, sizeof header - (size_t)len, "}");
    while (len % 8 != 0) header[len++] = ' ';
    const char *used = m->header == NULL ? header : m->header;
    uint64_t used_len = m->header == NULL ? (uint64_t)len : strlen(m->header);
    uint8_t *file = calloc(1, 8 + used_len + third);
    assert_non_null(file);
    memcpy(file, &used_len, 8);
    memcpy(file + 8, used, used_len);
    uint8_t *data = file + 8 + used_len;
    for (size_t i = 0; i < cells; i++) put_cell(data + i * m->width, m->dtype, cell(i));
    for (size_t i = 0; m->weights && i < count; i++) {
        float weight = m->scale * (float)(1 + i % 9);
        memcpy(data + first + i * 4, &weight, 4);
    }
    if (m->mapping != NULL) put_mapping(data + second, m);
    write_bytes("model.safetensors", file, 8 + used_len + third - m->cut);
    free(file);
}

static void write_model(const model_files *m) {
    make_directory();
    const char *config =
        m->config == NULL ? "{\"model_type\": \"model2vec\", \"normalize\": true}" : m->config;
    write_bytes("config.json", config, strlen(config));
    char path[PATH_MAX];
    path_of("tokenizer.json", path);
    assert_int_equal(symlink(tokenizer_path, path), 0);
    write_weights(m);
}

static sr_encoder *open_with(sr_encoder_options options) {
    sr_encoder *encoder;
    sr_error error = {0};
    options.size = sizeof options;
    options.model = directory;
    if (sr_encoder_open(&options, &encoder, &error) != SR_OK) fail_msg("%s", error.message);
    return encoder;
}

static sr_encoder *open_threads(int threads) {
    return open_with((sr_encoder_options){.threads = threads});
}

static void encode(sr_encoder *encoder, const char *text, float *out) {
    sr_str string = sr_str_of(text);
    assert_int_equal(sr_encoder_encode(encoder, &string, 1, out, NULL, NULL), SR_OK);
}

/* What the vector must be, from ids and the formula. */
static void expect(const model_files *m, const int32_t *ids, size_t count, double out[DIM]) {
    double square = 0;
    memset(out, 0, DIM * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        size_t row = (size_t)ids[i] % m->rows;
        double weight = m->weights ? (double)(m->scale * (float)(1 + ids[i] % 9)) : 1;
        for (size_t d = 0; d < DIM; d++) out[d] += weight * cell(row * DIM + d);
    }
    for (size_t d = 0; d < DIM; d++) square += out[d] * out[d];
    for (size_t d = 0; d < DIM; d++) out[d] /= sqrt(square);
}

static void check_vectors(const model_files *m) {
    static const char *const texts[] = {"hello world", "Where is my card? It's late!",
                                        "na\xC3\xAFve caf\xC3\xA9", "a a a a b"};
    write_model(m);
    sr_encoder *encoder = open_threads(1);
    assert_int_equal(sr_encoder_dimension(encoder), DIM);
    for (size_t t = 0; t < SRI_COUNT(texts); t++) {
        int32_t ids[64];
        size_t count;
        float out[DIM];
        double wanted[DIM];
        assert_int_equal(
            sr_encoder_tokenize(encoder, sr_str_of(texts[t]), ids, 64, &count, NULL, NULL), SR_OK);
        expect(m, ids, count, wanted);
        encode(encoder, texts[t], out);
        for (size_t d = 0; d < DIM; d++) assert_true(fabs(out[d] - wanted[d]) < 1e-6);
    }
    sr_encoder_close(&encoder);
    remove_model();
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void a_vector_is_the_scaled_sum_of_weighted_rows(void **state) {
    (void)state;
    check_vectors(&plain);
}

static void rows_of_every_type_are_read(void **state) {
    (void)state;
    static const struct {
        const char *dtype;
        size_t width;
    } types[] = {{"F32", 4}, {"BF16", 2}, {"F64", 8}, {"I8", 1}};
    for (size_t i = 0; i < SRI_COUNT(types); i++) {
        model_files m = plain;
        m.dtype = types[i].dtype;
        m.width = types[i].width;
        m.weights = i % 2 == 1;
        check_vectors(&m);
    }
}

static void a_mapping_sends_tokens_to_shared_rows(void **state) {
    (void)state;
    model_files m = plain;
    m.rows = 100;
    m.mapping = "I64";
    check_vectors(&m);
    m.mapping = "I32";
    check_vectors(&m);
}

static void no_special_tokens_and_no_unknown_ones_count(void **state) {
    (void)state;
    write_model(&plain);
    sr_encoder *encoder = open_threads(1);
    int32_t ids[8];
    size_t count;
    float with[DIM], without[DIM];
    assert_int_equal(sr_encoder_tokenize(encoder, sr_str_of("hello"), ids, 8, &count, NULL, NULL),
                     SR_OK);
    assert_int_equal(count, 1);
    encode(encoder, "hello \xF0\x9F\x9C\x81 world", with); /* an alchemical sign is [UNK] */
    encode(encoder, "hello world", without);
    assert_memory_equal(with, without, sizeof with);
    sr_encoder_close(&encoder);
    remove_model();
}

static void a_text_without_known_tokens_has_a_fixed_vector(void **state) {
    (void)state;
    static const char *const texts[] = {"", "   ", "\xF0\x9F\x9C\x81"};
    write_model(&plain);
    sr_encoder *encoder = open_threads(1);
    for (size_t t = 0; t < SRI_COUNT(texts); t++) {
        float out[DIM];
        encode(encoder, texts[t], out);
        for (size_t d = 0; d < DIM; d++) assert_true(out[d] == (float)(d + 1 == DIM));
    }
    sr_encoder_close(&encoder);
    remove_model();
}

static void long_texts_are_cut_and_flagged(void **state) {
    (void)state;
    model_files m = plain;
    m.config = "{\"model_type\": \"model2vec\", \"max_length\": 6}";
    write_model(&m);
    sr_encoder *encoder = open_threads(1);
    sr_str texts[] = {sr_str_of("one two three four five six"),
                      sr_str_of("one two three four five six seven")};
    float out[2 * DIM];
    uint8_t truncated[2];
    assert_int_equal(sr_encoder_encode(encoder, texts, 2, out, truncated, NULL), SR_OK);
    assert_int_equal(truncated[0], 0);
    assert_int_equal(truncated[1], 1);
    assert_memory_equal(out, out + DIM, DIM * sizeof *out);
    sr_encoder_close(&encoder);
    remove_model();
}

static void a_batch_gives_the_bits_of_single_texts_at_any_thread_count(void **state) {
    (void)state;
    enum { TEXTS = 1500 };
    static char words[TEXTS][48];
    static sr_str texts[TEXTS];
    static float alone[TEXTS * DIM], batch[TEXTS * DIM];
    write_model(&plain);
    sr_encoder *one = open_threads(1), *three = open_threads(3);
    for (size_t i = 0; i < TEXTS; i++) {
        snprintf(words[i], sizeof words[i], "card number %zu is late by %zu days", i, i % 31);
        texts[i] = sr_str_of(words[i]);
        encode(one, words[i], alone + i * DIM);
    }
    assert_int_equal(sr_encoder_encode(three, texts, TEXTS, batch, NULL, NULL), SR_OK);
    assert_memory_equal(alone, batch, sizeof alone);
    assert_string_equal(sr_encoder_fingerprint(one), sr_encoder_fingerprint(three));
    sr_encoder_close(&three);
    sr_encoder_close(&one);
    remove_model();
}

static void the_fingerprint_follows_files_and_settings(void **state) {
    (void)state;
    write_model(&plain);
    sr_encoder *plain_one = open_threads(1),
               *shorter = open_with((sr_encoder_options){.threads = 1, .max_tokens = 9}),
               *prefixed = open_with((sr_encoder_options){.threads = 1, .prefix = "query: "});
    assert_string_not_equal(sr_encoder_fingerprint(plain_one), sr_encoder_fingerprint(shorter));
    assert_string_not_equal(sr_encoder_fingerprint(plain_one), sr_encoder_fingerprint(prefixed));
    float with[DIM], without[DIM];
    encode(plain_one, "query: cards", with);
    encode(prefixed, "cards", without);
    assert_memory_equal(with, without, sizeof with);
    sr_encoder_close(&prefixed);
    sr_encoder_close(&shorter);
    sr_encoder_close(&plain_one);
    remove_model();
}

static void a_model_without_a_type_is_known_by_its_tensor(void **state) {
    (void)state;
    model_files m = plain;
    m.config = "{\"normalize\": true, \"max_length\": null}";
    check_vectors(&m);
}

static void hostile_files_are_errors(void **state) {
    (void)state;
    model_files cases[12];
    for (size_t i = 0; i < SRI_COUNT(cases); i++) cases[i] = plain;
    cases[0].rows = 1000;      /* fewer rows than the tokenizer has ids */
    cases[1].weight_count = 7; /* fewer weights than tokens */
    cases[2].cut = 4;          /* truncated */
    cases[3].dim = 4;          /* too narrow */
    cases[4].mapping = "I64";
    cases[4].largest_row = TOKENS; /* beyond the rows */
    cases[5].mapping = "I64";
    cases[5].largest_row = -1;
    cases[6].scale = INFINITY; /* weights that are not finite */
    cases[7].header = "{}";    /* no table at all */
    cases[8].header = "{\"embeddings\":{\"dtype\":\"I8\",\"shape\":[16],\"data_offsets\":[0,16]}}";
    cases[9].config = "{\"model_type\": \"model2vec\", \"max_length\": \"long\"}";
    cases[10].config = "{\"model_type\": \"model2vec\"";
    cases[11].header =
        "{\"embeddings\":{\"dtype\":\"U8\",\"shape\":[30522,16],\"data_offsets\":[0,488352]}}";
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        write_model(&cases[i]);
        sr_encoder *encoder;
        sr_error error = {0};
        sr_encoder_options options = {.size = sizeof options, .model = directory, .threads = 1};
        if (sr_encoder_open(&options, &encoder, &error) != SR_ERR_FORMAT)
            fail_msg("case %zu: %s", i, error.message);
        assert_null(encoder);
        assert_true(error.message[0] != '\0');
        remove_model();
    }
}

static void options_that_make_no_sense_are_refused(void **state) {
    (void)state;
    write_model(&plain);
    sr_encoder_options cases[] = {{.pooling = SR_POOLING_CLS},
                                  {.max_tokens = 1},
                                  {.profile = (sr_profile)9},
                                  {.max_tokens = (int)SRI_STATIC_TOKENS_MAX + 1}};
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        sr_encoder *encoder;
        cases[i].size = sizeof cases[i];
        cases[i].model = directory;
        assert_int_equal(sr_encoder_open(&cases[i], &encoder, NULL), SR_ERR_INVALID);
    }
    remove_model();
}

static void damaged_weights_are_noticed_when_they_tell(void **state) {
    (void)state;
    model_files m = plain;
    m.scale = 3e36f; /* finite, but sums are not */
    write_model(&m);
    sr_encoder *encoder = open_threads(1);
    sr_str text = sr_str_of("one two three four five six seven eight nine ten");
    float out[DIM];
    sr_error error;
    assert_int_equal(sr_encoder_encode(encoder, &text, 1, out, NULL, &error), SR_ERR_FORMAT);
    assert_non_null(strstr(error.message, "not finite"));
    sr_encoder_close(&encoder);
    remove_model();
}

/* The first numbers of what the model2vec package (0.10.0) gives for the shipped model, normalised;
 * bench/peers/static_peers.py compares thousands of texts whole. */
static const struct {
    const char *text;
    float numbers[8];
} package_vectors[] = {
    {"Where is my card?",
     {0.0418531f, 0.2295350f, -0.0064938f, -0.0083633f, 0.0487104f, -0.0198864f, -0.0789150f,
      0.0751686f}},
    {"I'd like to cancel the transfer I made yesterday.",
     {0.0267327f, -0.2201691f, 0.0687843f, 0.0975830f, 0.1132149f, 0.0500241f, 0.2155958f,
      -0.0591636f}},
    {"na\xC3\xAFve caf\xC3\xA9 \xF0\x9F\x99\x82 r\xC3\xA9sum\xC3\xA9",
     {-0.1538261f, -0.0243262f, 0.0119594f, -0.0297300f, 0.0353523f, -0.1529209f, -0.0467342f,
      -0.1831286f}},
    {"book a table for 4 people at 19:30",
     {0.0041728f, 0.1935496f, 0.1408682f, 0.0415898f, 0.0453795f, -0.1600448f, 0.0761134f,
      0.1095689f}},
};

static void the_shipped_model_gives_the_packages_vectors(void **state) {
    (void)state;
    enum { SHIPPED_DIM = 256 };
    assert_int_equal(sri_join_path(directory, sizeof directory, root, "models/static-en", NULL),
                     SR_OK);
    sr_encoder *encoder = open_threads(1);
    assert_int_equal(sr_encoder_dimension(encoder), SHIPPED_DIM);
    for (size_t t = 0; t < SRI_COUNT(package_vectors); t++) {
        float out[SHIPPED_DIM];
        encode(encoder, package_vectors[t].text, out);
        for (size_t d = 0; d < 8; d++)
            assert_true(fabsf(out[d] - package_vectors[t].numbers[d]) < 1e-6f);
    }
    sr_encoder_close(&encoder);
}

static size_t allocations;

static void *count_alloc(void *user, size_t bytes) {
    (void)user;
    allocations++;
    return malloc(bytes);
}

static void *count_resize(void *user, void *old, size_t bytes) {
    (void)user;
    allocations++;
    return realloc(old, bytes);
}

static void count_release(void *user, void *block) {
    (void)user;
    free(block);
}

static void encoding_allocates_nothing(void **state) {
    (void)state;
    enum { TEXTS = 600 };
    sr_str texts[TEXTS];
    static float out[TEXTS * DIM];
    for (size_t i = 0; i < TEXTS; i++) texts[i] = sr_str_of("where is my card, it is late");
    sr_allocator_set(&(sr_allocator){count_alloc, count_resize, count_release, NULL});
    write_model(&plain);
    sr_encoder *encoder = open_threads(2);
    size_t before = allocations;
    assert_true(before > 0);
    for (size_t n = 1; n <= TEXTS; n += 599)
        assert_int_equal(sr_encoder_encode(encoder, texts, n, out, NULL, NULL), SR_OK);
    assert_int_equal(allocations, before);
    sr_encoder_close(&encoder);
    remove_model();
    sr_allocator_set(NULL);
}

static void memory_may_end_at_any_point_of_opening(void **state) {
    (void)state;
    model_files m = plain;
    m.mapping = "I32";
    m.rows = 500;
    m.dtype = "BF16";
    m.width = 2;
    sr_allocator_set(&(sr_allocator){take, change, release, NULL});
    memory.for_good = true;
    memory.countdown = 0;
    write_model(&m);
    sr_status code = SR_ERR_NO_MEMORY;
    for (size_t allowed = 0; code != SR_OK; allowed++) {
        assert_true(allowed < 10000);
        sr_encoder *encoder;
        sr_encoder_options options = {.size = sizeof options, .model = directory, .threads = 2};
        memory.countdown = (long)allowed + 1;
        memory.held = 0;
        code = sr_encoder_open(&options, &encoder, NULL);
        memory.countdown = 0;
        if (code != SR_OK) assert_int_equal(code, SR_ERR_NO_MEMORY);
        sr_encoder_close(&encoder);
        assert_int_equal(memory.held, 0);
    }
    remove_model();
    sr_allocator_set(NULL);
}

static void tiny_weights_do_not_vanish(void **state) {
    (void)state;
    model_files m = plain;
    m.scale = 1e-25f; /* squares of the sums leave the range of a float */
    check_vectors(&m);
}

int main(int argc, char **argv) {
    snprintf(root, sizeof root, "%s", argc > 1 ? argv[1] : ".");
    if (sri_join_path(tokenizer_path, sizeof tokenizer_path, root,
                      "models/bge-small-en-v1.5/tokenizer.json", NULL) != SR_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vector_is_the_scaled_sum_of_weighted_rows),
        cmocka_unit_test(rows_of_every_type_are_read),
        cmocka_unit_test(a_mapping_sends_tokens_to_shared_rows),
        cmocka_unit_test(no_special_tokens_and_no_unknown_ones_count),
        cmocka_unit_test(a_text_without_known_tokens_has_a_fixed_vector),
        cmocka_unit_test(long_texts_are_cut_and_flagged),
        cmocka_unit_test(a_batch_gives_the_bits_of_single_texts_at_any_thread_count),
        cmocka_unit_test(the_fingerprint_follows_files_and_settings),
        cmocka_unit_test(a_model_without_a_type_is_known_by_its_tensor),
        cmocka_unit_test(hostile_files_are_errors),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
        cmocka_unit_test(damaged_weights_are_noticed_when_they_tell),
        cmocka_unit_test(tiny_weights_do_not_vanish),
        cmocka_unit_test(the_shipped_model_gives_the_packages_vectors),
        cmocka_unit_test(encoding_allocates_nothing),
        cmocka_unit_test(memory_may_end_at_any_point_of_opening),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
