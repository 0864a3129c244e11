/*
 * test_tokens.c - ids against those of the `tokenizers` package.
 *
 * tokens.jsonl holds texts for the shipped model's tokenizer, tokens_variants.jsonl small tokenizers with
 * their own texts; tools/make_token_fixture.py explains their form. Each text is also given in two parts
 * at every place, and cut at several lengths: neither may change the ids.
 */
#include "../unit/unit.h"

#include "text/text.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

enum { IDS_MAX = 1 << 18, FILE_MAX = 4 << 20 };

static const char *source_root;
static int32_t expected[IDS_MAX], ids[IDS_MAX];

/* ---- Reading the fixtures -------------------------------------------------------------------------- */

static void append_hex(sri_buffer *text, const char *hex) {
    for (; hex[0] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        char byte = (char)strtol(digits, NULL, 16);
        assert_true(sri_buffer_append(text, &byte, 1));
    }
}

static void append_json(sri_buffer *text, const json_t *string) {
    assert_true(sri_buffer_append(text, json_string_value(string), json_string_length(string)));
}

static sri_buffer text_of(const json_t *entry) {
    sri_buffer text = {0};
    const json_t *plain = json_object_get(entry, "t"), *hex = json_object_get(entry, "x");
    const json_t *parts = json_object_get(entry, "p");
    if (plain != NULL) append_json(&text, plain);
    if (hex != NULL) append_hex(&text, json_string_value(hex));
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        for (json_int_t n = json_integer_value(json_array_get(part, 1)); n > 0; n--)
            append_json(&text, json_array_get(part, 0));
    }
    return text;
}

static size_t read_ids(const json_t *list) {
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t value = json_integer_value(json_array_get(list, i));
        for (json_int_t n = value; n < 0; n++, count++) expected[count] = expected[count - 1];
        if (value >= 0) expected[count++] = (int32_t)value;
        assert_true(count < IDS_MAX);
    }
    return count;
}

/* ---- Comparing -------------------------------------------------------------------------------------- */

typedef struct {
    const sri_tokenizer *tokenizer;
    size_t around; /* special tokens that the tokenizer puts around */
    bool trailing;
} subject;

static void assert_ids(size_t count, size_t want, const char *where, size_t line) {
    bool same = count == want && memcmp(ids, expected, count * sizeof *ids) == 0;
    if (!same)
        print_error("%s, line %zu: %zu ids rather than %zu, or others\n", where, line, count, want);
    assert_true(same);
}

/* The text in two parts, at every byte of a short one. */
static void compare_parts(subject s, sr_str text, size_t want, size_t line) {
    size_t step = text.len <= 200 ? 1 : text.len / 3 + 1;
    for (size_t at = 0; at <= text.len; at += step) {
        sr_str first = {text.data, at},
               second = {text.data == NULL ? NULL : text.data + at, text.len - at};
        bool truncated = true;
        size_t count = sri_tokenize(s.tokenizer, first, second, ids, IDS_MAX, &truncated);
        assert_ids(count, want, "in two parts", line);
        assert_false(truncated);
    }
}

static void compare_cut(subject s, sr_str text, size_t want, size_t line) {
    size_t capacities[] = {2, 3, 5, want > 2 ? want - 1 : 2, SRI_MAX(want, 2)};
    int32_t last = want > 0 ? expected[want - 1] : 0;
    for (size_t i = 0; i < SRI_COUNT(capacities); i++) {
        size_t capacity = capacities[i], kept = SRI_MIN(want, capacity);
        int32_t saved = kept > 0 ? expected[kept - 1] : 0;
        if (kept > 0 && s.trailing) expected[kept - 1] = last;
        bool truncated = kept == want;
        ids[capacity] = -7;
        size_t count =
            sri_tokenize(s.tokenizer, (sr_str){NULL, 0}, text, ids, capacity, &truncated);
        assert_ids(count, kept, "cut", line);
        assert_int_equal(truncated, kept < want);
        assert_int_equal(ids[capacity], -7);
        if (kept > 0) expected[kept - 1] = saved;
    }
}

static void compare(subject s, const json_t *entry, size_t want, size_t line) {
    sri_buffer text = text_of(entry);
    /* A block of exactly its size, so that a sanitizer sees a byte read too far. */
    char *exact = malloc(text.len + (text.len == 0));
    assert_non_null(exact);
    if (text.len > 0) memcpy(exact, text.data, text.len);
    compare_parts(s, (sr_str){exact, text.len}, want, line);
    compare_cut(s, (sr_str){exact, text.len}, want, line);
    free(exact);
    sri_buffer_free(&text);
}

/* ---- Files ------------------------------------------------------------------------------------------ */

typedef void line_fn(const json_t *entry, size_t line, void *user);

static size_t for_each_line(const char *name, line_fn *function, void *user) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", source_root, name);
    sri_buffer file = {0};
    assert_int_equal(sri_read_file(path, FILE_MAX, &file, NULL), SR_OK);
    size_t lines = 0;
    for (char *at = file.data, *end = file.data + file.len; at < end; lines++) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        assert_non_null(stop);
        json_t *entry = json_loadb(at, (size_t)(stop - at), JSON_ALLOW_NUL, NULL);
        assert_non_null(entry);
        function(entry, lines + 1, user);
        json_decref(entry);
        at = stop + 1;
    }
    sri_buffer_free(&file);
    return lines;
}

enum { CLS = 101, SEP = 102 }; /* of the shipped model */

static void compare_shipped(const json_t *entry, size_t line, void *user) {
    size_t count = read_ids(json_object_get(entry, "i"));
    memmove(expected + 1, expected, count * sizeof *expected);
    expected[0] = CLS;
    expected[count + 1] = SEP;
    compare(*(subject *)user, entry, count + 2, line);
}

static void the_shipped_tokenizer_gives_the_packages_ids(void **state) {
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s/models/bge-small-en-v1.5/tokenizer.json", source_root);
    sri_tokenizer *tokenizer;
    sr_error error = {0};
    if (sri_tokenizer_open(path, &tokenizer, &error) != SR_OK) fail_msg("%s", error.message);
    assert_int_equal(sri_tokenizer_vocabulary(tokenizer), 30522);
    subject s = {tokenizer, 2, true};
    assert_true(for_each_line("tokens.jsonl", compare_shipped, &s) >= 5000);
    sri_tokenizer_close(&tokenizer);
}

static sri_tokenizer *open_json(const json_t *json) {
    char path[] = "/tmp/sr-tokens-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(json_dumpfd(json, descriptor, JSON_ENSURE_ASCII), 0);
    close(descriptor);
    sri_tokenizer *tokenizer;
    sr_error error = {0};
    sr_status status = sri_tokenizer_open(path, &tokenizer, &error);
    unlink(path);
    if (status != SR_OK) fail_msg("%s", error.message);
    return tokenizer;
}

static void compare_variant(const json_t *entry, size_t line, void *user) {
    (void)user;
    sri_tokenizer *tokenizer = open_json(json_object_get(entry, "tokenizer"));
    bool unused;
    subject s = {.tokenizer = tokenizer};
    s.around = sri_tokenize(tokenizer, (sr_str){NULL, 0}, (sr_str){NULL, 0}, ids, IDS_MAX, &unused);
    s.trailing = s.around > 0 && ids[s.around - 1] == 3;
    const json_t *cases = json_object_get(entry, "cases");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *each = json_array_get(cases, i);
        compare(s, each, read_ids(json_object_get(each, "i")), line * 1000 + i);
    }
    sri_tokenizer_close(&tokenizer);
}

static void variants_give_the_packages_ids(void **state) {
    (void)state;
    assert_true(for_each_line("tokens_variants.jsonl", compare_variant, NULL) >= 30);
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    source_root = arguments[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_tokenizer_gives_the_packages_ids),
        cmocka_unit_test(variants_give_the_packages_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
