/*
 * test_text.c - UTF-8, and the tokenizer's promises beside its ids: what it refuses, what it reads, where
 * it stops. The ids themselves are compared with the `tokenizers` package in tests/golden/test_tokens.c.
 */
#include "unit.h"

#include "text/text_int.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- UTF-8 ------------------------------------------------------------------------------------------ */

/* `len` bytes of `bytes` such that reading one more ends the program. */
static const char *before_a_wall(const char *bytes, size_t len) {
    static char *pages;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (pages == NULL) {
        pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(pages != MAP_FAILED);
        assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    }
    assert_true(len <= page);
    memcpy(pages + page - len, bytes, len);
    return pages + page - len;
}

static void every_character_survives_a_round_trip(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[4];
        size_t len = sri_utf8_put(c, bytes), fault = 99;
        const char *cursor = bytes;
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;
        uint32_t back = sri_utf8_next(&cursor, bytes + len);
        if (back != (surrogate ? SRI_REPLACEMENT : c)) fail_msg("U+%04X became U+%04X", c, back);
        if (!surrogate) assert_ptr_equal(cursor, bytes + len);
        assert_int_equal(sri_utf8_valid((sr_str){bytes, len}, &fault), !surrogate);
        if (surrogate) assert_int_equal(fault, 0);
    }
}

/* What Python gives for bytes.decode('utf-8', errors='replace'); ? stands for U+FFFD. */
static const struct {
    const char *bytes, *replaced;
} broken[] = {
    {"\x80", "?"},
    {"a\x80z", "a?z"},
    {"\xC0\xAF", "??"},
    {"\xC1\xBF", "??"},
    {"\xC2", "?"},
    {"\xC2z", "?z"},
    {"\xC2\xC2\xA9", "?\xC2\xA9"},
    {"\xE0\x80\xAF", "???"},
    {"\xE0\x9F\xBF", "???"},
    {"\xE0\xA0", "?"},
    {"\xE0\xA0z", "?z"},
    {"\xE2\x82", "?"},
    {"\xE2\x82\xE2\x82\xAC", "?\xE2\x82\xAC"},
    {"\xED\xA0\x80", "???"},
    {"\xED\xA0\x80\xED\xB0\x80", "??????"},
    {"\xEF\xBF", "?"},
    {"\xF0\x80\x80\x80", "????"},
    {"\xF0\x8F\xBF\xBF", "????"},
    {"\xF0\x90", "?"},
    {"\xF0\x9F\x98", "?"},
    {"\xF0\x9F\x98z", "?z"},
    {"\xF0\x9F\xF0\x9F\x98\x80", "?\xF0\x9F\x98\x80"},
    {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
    {"\xF4\x90\x80\x80", "????"},
    {"\xF5\x80\x80\x80", "????"},
    {"\xF8\x88\x80\x80\x80", "?????"},
    {"\xFE\xFF", "??"},
    /* The Unicode Standard, tables 3-8 to 3-11 */
    {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "????????A"},
    {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "????????A"},
    {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "?????A??B"},
    {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "????A"},
};

static void what_is_not_utf8_is_replaced_as_python_does(void **state) {
    (void)state;
    for (size_t i = 0; i < SRI_COUNT(broken); i++) {
        sri_buffer wanted = {0}, given = {0};
        for (const char *c = broken[i].replaced; *c != '\0'; c++)
            assert_true(
                sri_buffer_append(&wanted, *c == '?' ? "\xEF\xBF\xBD" : c, *c == '?' ? 3 : 1));
        size_t len = strlen(broken[i].bytes);
        sr_str text = {before_a_wall(broken[i].bytes, len), len};
        assert_true(sri_utf8_append_valid(&given, text));
        if (given.len != wanted.len || memcmp(given.data, wanted.data, given.len) != 0)
            fail_msg("case %zu: %.*s", i, (int)given.len, given.data);
        assert_true(sri_utf8_valid((sr_str){given.data, given.len}, NULL));
        sri_buffer_free(&wanted);
        sri_buffer_free(&given);
    }
}

static void the_first_fault_is_found(void **state) {
    (void)state;
    char text[64];
    for (size_t at = 0; at < sizeof text;
         at++) { /* ASCII is skipped by words: every place in one */
        memset(text, 'a', sizeof text);
        text[at] = (char)0xFF;
        size_t offset = 99;
        assert_false(sri_utf8_valid((sr_str){text, sizeof text}, &offset));
        assert_int_equal(offset, at);
    }
    assert_true(sri_utf8_valid((sr_str){NULL, 0}, NULL));
    size_t offset = 0;
    assert_false(sri_utf8_valid(sr_str_of("caf\xC3\xA9 \xE2\x82"), &offset));
    assert_int_equal(offset, 6);
}

static void appending_stops_at_the_maximum_and_changes_nothing(void **state) {
    (void)state;
    sri_buffer buffer = {.max = 8};
    assert_true(sri_utf8_append_valid(&buffer, (sr_str){NULL, 0}));
    assert_true(sri_utf8_append_valid(&buffer, sr_str_of("ab\xFF")));
    assert_int_equal(buffer.len, 5);
    assert_false(sri_utf8_append_valid(&buffer, sr_str_of("c\xFF")));
    assert_int_equal(buffer.len, 5);
    assert_memory_equal(buffer.data, "ab\xEF\xBF\xBD", 5);
    sri_buffer_free(&buffer);
}

/* The characters for which Python's str.isspace holds. */
static const uint32_t spaces[] = {9,      10,     11,     12,     13,     28,     29,     30,
                                  31,     32,     0x85,   0xA0,   0x1680, 0x2000, 0x2001, 0x2002,
                                  0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A,
                                  0x2028, 0x2029, 0x202F, 0x205F, 0x3000};

static void blank_is_what_python_calls_space(void **state) {
    (void)state;
    size_t found = 0;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        char bytes[4];
        size_t len = sri_utf8_put(c, bytes);
        if (!sri_text_blank((sr_str){bytes, len})) continue;
        if (found == SRI_COUNT(spaces) || spaces[found++] != c) fail_msg("U+%04X", c);
    }
    assert_int_equal(found, SRI_COUNT(spaces));
    assert_true(sri_text_blank((sr_str){NULL, 0}));
    assert_true(sri_text_blank(sr_str_of(" \t\r\n\xE3\x80\x80 ")));
    assert_false(sri_text_blank(sr_str_of("  .  ")));
    assert_false(sri_text_blank(sr_str_of(" \xE3\x80")));
}

/* ---- A small tokenizer ------------------------------------------------------------------------------- */

/* The parts of a tokenizer.json, each of which a test may replace. */
typedef struct {
    const char *added, *normalizer, *splitter, *processor, *model, *vocabulary;
} parts;

#define FLAGS                                                                                      \
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":"    \
    "true}"
#define MODEL                                                                                      \
    "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","         \
    "\"max_input_chars_per_word\":100"
#define SPECIAL(name, ids)                                                                         \
    "\"" name "\":{\"id\":\"" name "\",\"ids\":" ids ",\"tokens\":[\"" name "\"]}"
#define SINGLE                                                                                     \
    "[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_"     \
    "id\":0}},"                                                                                    \
    "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}]"
#define TEMPLATE(single, cls)                                                                      \
    "{\"type\":\"TemplateProcessing\",\"single\":" single                                          \
    ",\"special_tokens\":{" SPECIAL("[CLS]", cls) "," SPECIAL("[SEP]", "[2]") "}}"
#define NORMALIZER                                                                                 \
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"              \
    "\"strip_accents\":null,\"lowercase\":true}"
#define VOCABULARY                                                                                 \
    "{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"hello\":3,\"world\":4,\"wor\":5,\"##ld\":6,\"##s\":7," \
    "\",\":8,"                                                                                     \
    "\"a\":9,\"##a\":10,\"\\u00e4\\n\\\\\":11,\"\\ud83d\\ude00\":12,\"internationalisation\":13}"

static const parts whole = {"[{\"id\":2,\"content\":\"[SEP]\"," FLAGS "]",
                            NORMALIZER,
                            "{\"type\":\"BertPreTokenizer\"}",
                            TEMPLATE(SINGLE, "[1]"),
                            MODEL,
                            VOCABULARY};

static sr_status open_text(sr_str text, sri_tokenizer **tokenizer, sr_error *error) {
    char path[] = "/tmp/sr-text-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, text.data, text.len), (ssize_t)text.len);
    close(descriptor);
    sr_status status = sri_tokenizer_open(path, tokenizer, error);
    unlink(path);
    assert_true((status == SR_OK) == (*tokenizer != NULL));
    if (status != SR_OK) assert_non_null(strstr(error->message, "sr-text-")); /* says where */
    return status;
}

static sr_status open_parts(parts p, sri_tokenizer **tokenizer, sr_error *error) {
    sri_buffer text = {0};
    assert_true(sri_buffer_format(
        &text,
        "{\"version\":\"1.0\",\"truncation\":null,\"added_tokens\":%s,\"normalizer\":%s,"
        "\"pre_tokenizer\":%s,\"post_processor\":%s,\"model\":{%s,\"vocab\":%s}}",
        p.added, p.normalizer, p.splitter, p.processor, p.model, p.vocabulary));
    sr_status status = open_text((sr_str){text.data, text.len}, tokenizer, error);
    sri_buffer_free(&text);
    return status;
}

static sri_tokenizer *open_whole(void) {
    sri_tokenizer *tokenizer;
    sr_error error;
    if (open_parts(whole, &tokenizer, &error) != SR_OK) fail_msg("%s", error.message);
    return tokenizer;
}

static void assert_tokens(const sri_tokenizer *tokenizer, const char *text, size_t count,
                          const int32_t *wanted) {
    int32_t ids[64];
    bool truncated = true;
    size_t got = sri_tokenize(tokenizer, (sr_str){NULL, 0}, sr_str_of(text), ids, SRI_COUNT(ids),
                              &truncated);
    assert_int_equal(got, count);
    assert_memory_equal(ids, wanted, count * sizeof *ids);
    assert_false(truncated);
}

#define ASSERT_TOKENS(tokenizer, text, ...)                                                        \
    assert_tokens(tokenizer, text, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t),             \
                  (int32_t[]){__VA_ARGS__})

static void words_become_the_longest_pieces(void **state) {
    (void)state;
    sri_tokenizer *tokenizer = open_whole();
    assert_int_equal(sri_tokenizer_vocabulary(tokenizer), 14);
    ASSERT_TOKENS(tokenizer, "", 1, 2);
    ASSERT_TOKENS(tokenizer, " \t\n", 1, 2);
    ASSERT_TOKENS(tokenizer, "Hello, WORLDS wor", 1, 3, 8, 4, 7, 5, 2);
    ASSERT_TOKENS(tokenizer, "h\xC3\xA9llo w\xCC\x81orld", 1, 3, 4, 2);
    ASSERT_TOKENS(tokenizer, "helloa hellob", 1, 3, 10, 0, 2);
    ASSERT_TOKENS(tokenizer, "internationalisations internationalisationx", 1, 13, 7, 0, 2);
    ASSERT_TOKENS(tokenizer, "a[SEP]a[sep]", 1, 9, 2, 9, 0, 0, 0, 2);
    ASSERT_TOKENS(tokenizer, "\xF0\x9F\x98\x80 \xF0\x9F\x98", 1, 12, 2);
    sri_tokenizer_close(&tokenizer);
    assert_null(tokenizer);
    sri_tokenizer_close(&tokenizer);
}

static void files_of_the_same_bytes_share_a_tokenizer(void **state) {
    (void)state;
    sri_tokenizer *first = open_whole(), *second = open_whole(), *other;
    parts changed = whole;
    changed.vocabulary =
        "{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"hello\":4,\"world\":3,\"[x]\":9,\"[xyz]\":13}";
    sr_error error;
    if (open_parts(changed, &other, &error) != SR_OK) fail_msg("%s", error.message);
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    sri_tokenizer_close(&first);
    ASSERT_TOKENS(second, "hello world", 1, 3, 4, 2);
    ASSERT_TOKENS(other, "hello world", 1, 4, 3, 2);
    sri_tokenizer_close(&second);
    ASSERT_TOKENS(other, "hello world", 1, 4, 3, 2);
    sri_tokenizer_close(&other);
    first = open_whole();
    ASSERT_TOKENS(first, "hello world", 1, 3, 4, 2);
    sri_tokenizer_close(&first);
}

static void the_prefix_and_the_text_are_one_string(void **state) {
    (void)state;
    sri_tokenizer *tokenizer = open_whole();
    static const struct {
        const char *prefix, *text;
        int32_t ids[6];
        size_t count;
    } cases[] = {
        {"hello ", "world", {1, 3, 4, 2}, 4},
        {"hel", "lo", {1, 3, 2}, 3},
        {"[SE", "P]", {1, 2, 2}, 3},
        {"\xF0\x9F", "\x98\x80", {1, 12, 2}, 3},
        {"hello\xF0\x9F", "a", {1, 3, 10, 2}, 4},
        {"", "", {1, 2}, 2},
    };
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        int32_t ids[8];
        size_t count = sri_tokenize(tokenizer, sr_str_of(cases[i].prefix), sr_str_of(cases[i].text),
                                    ids, 8, NULL);
        assert_int_equal(count, cases[i].count);
        assert_memory_equal(ids, cases[i].ids, count * sizeof *ids);
    }
    sri_tokenizer_close(&tokenizer);
}

static void what_does_not_fit_is_left_out_and_told(void **state) {
    (void)state;
    sri_tokenizer *tokenizer = open_whole();
    int32_t ids[8];
    bool truncated = false;
    sr_str text = sr_str_of("hello worlds, a"), none = {NULL, 0};
    assert_int_equal(sri_tokenize(tokenizer, none, text, ids, 2, &truncated), 2);
    assert_true(truncated && ids[0] == 1 && ids[1] == 2);
    assert_int_equal(sri_tokenize(tokenizer, none, text, ids, 4, &truncated), 4);
    assert_true(truncated && ids[1] == 3 && ids[2] == 4 && ids[3] == 2); /* cut inside a word */
    assert_int_equal(sri_tokenize(tokenizer, none, text, ids, 7, &truncated), 7);
    assert_false(truncated);
    assert_int_equal(sri_tokenize(tokenizer, none, sr_str_of("hello  \n "), ids, 3, &truncated), 3);
    assert_false(truncated); /* white space is no loss */
    /* a word that proves to be [UNK] behind the room for its pieces is one token */
    assert_int_equal(sri_tokenize(tokenizer, none, sr_str_of("aaaab"), ids, 3, &truncated), 3);
    assert_true(!truncated && ids[1] == 0);
    sri_tokenizer_close(&tokenizer);
}

static void no_byte_is_read_past_the_end_or_the_room(void **state) {
    (void)state;
    sri_tokenizer *tokenizer = open_whole();
    static const char *const endings[] = {
        "hello",        "hello ", "hello,",   "hello[", "hello[SEP",    "hello[SEP]", "\xC3",
        "hell\xC3\xB6", "\xE2",   "\xE2\x82", "\xF0",   "\xF0\x9F\x98", "a\xCC\x81",  ""};
    int32_t ids[16];
    for (size_t i = 0; i < SRI_COUNT(endings); i++) {
        size_t len = strlen(endings[i]);
        sr_str text = {before_a_wall(endings[i], len), len};
        sri_tokenize(tokenizer, (sr_str){NULL, 0}, text, ids, 16, NULL);
        for (size_t room = 2; room < 6; room++) /* a prefix of another kind of memory */
            sri_tokenize(tokenizer, sr_str_of("a "), text, ids, room, NULL);
    }
    /* The text is said to go on for 64 MB, but all that is needed to know the answer is here. */
    const char *start = before_a_wall("a a a", 5);
    bool truncated = false;
    assert_int_equal(
        sri_tokenize(tokenizer, (sr_str){NULL, 0}, (sr_str){start, 64 << 20}, ids, 4, &truncated),
        4);
    assert_true(truncated);
    sri_tokenizer_close(&tokenizer);
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
static void count_release(void *user, void *memory) {
    (void)user;
    free(memory);
}

static void a_long_word_is_unknown_and_nothing_is_allocated(void **state) {
    (void)state;
    sr_allocator counting = {count_alloc, count_resize, count_release, NULL};
    sr_allocator_set(&counting);
    sri_tokenizer *tokenizer = open_whole();
    size_t len = (size_t)8 << 20, before = allocations;
    assert_true(before > 0);
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    int32_t ids[200];
    sr_str none = {NULL, 0};
    assert_int_equal(sri_tokenize(tokenizer, none, (sr_str){text, 100}, ids, 200, NULL),
                     102); /* a ##a ... */
    assert_int_equal(sri_tokenize(tokenizer, none, (sr_str){text, 101}, ids, 200, NULL), 3);
    assert_int_equal(ids[1], 0);
    text[len - 2] = ' ';
    bool truncated = true;
    assert_int_equal(sri_tokenize(tokenizer, none, (sr_str){text, len}, ids, 4, &truncated), 4);
    assert_true(!truncated && ids[1] == 0 && ids[2] == 9);
    assert_int_equal(allocations, before);
    free(text);
    sri_tokenizer_close(&tokenizer);
    sr_allocator_set(NULL);
}

static size_t allocations_left;
static void *scarce_alloc(void *user, size_t bytes) {
    (void)user;
    return allocations_left == 0 ? NULL : (allocations_left--, malloc(bytes));
}
static void *scarce_resize(void *user, void *old, size_t bytes) {
    (void)user;
    return allocations_left == 0 ? NULL : (allocations_left--, realloc(old, bytes));
}

static void every_shortage_of_memory_at_open_is_an_error(void **state) {
    (void)state;
    char path[] = "/tmp/sr-text-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    dprintf(descriptor,
            "{\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,"
            "\"model\":{%s,"
            "\"vocab\":%s}}",
            whole.added, whole.normalizer, whole.splitter, whole.processor, whole.model,
            whole.vocabulary);
    close(descriptor);
    sr_allocator scarce = {scarce_alloc, scarce_resize, count_release, NULL};
    sr_allocator_set(&scarce);
    size_t failures = 0;
    for (sri_tokenizer *tokenizer = NULL; tokenizer == NULL; failures++) {
        sr_error error;
        allocations_left = failures;
        sr_status status = sri_tokenizer_open(path, &tokenizer, &error);
        if (tokenizer == NULL)
            assert_int_equal(status, SR_ERR_NO_MEMORY);
        else
            sri_tokenizer_close(&tokenizer);
        if (status == SR_OK) break;
        assert_true(failures < 1000);
    }
    sr_allocator_set(NULL);
    unlink(path);
    assert_true(failures >= 5);
}

static void a_file_that_cannot_be_read_is_an_error(void **state) {
    (void)state;
    sri_tokenizer *tokenizer;
    sr_error error;
    assert_int_equal(sri_tokenizer_open("/nonexistent/tokenizer.json", &tokenizer, &error),
                     SR_ERR_NOT_FOUND);
    assert_null(tokenizer);
    assert_int_equal(sri_tokenizer_open("/tmp", &tokenizer, &error), SR_ERR_FORMAT);
    assert_int_equal(sri_tokenizer_open("/dev/zero", &tokenizer, &error), SR_ERR_LIMIT);
}

/* ---- Files that are refused --------------------------------------------------------------------------- */

#define ADDED(content, flags) "[{\"id\":14,\"content\":\"" content "\"," flags "}]"
#define ONE(id)               "{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"x\":" id "}"
#define MODEL_BUT(unknown, prefix, limit)                                                          \
    "\"type\":\"WordPiece\",\"unk_token\":" unknown ",\"continuing_subword_prefix\":" prefix       \
    ",\"max_input_chars_per_word\":" limit

static const struct {
    parts changed; /* NULL: as it is in `whole` */
    sr_status status;
    const char *says;
} refused[] = {
    /* of another kind */
    {{.model = "\"type\":\"BPE\",\"merges\":[[\"a\",\"b\"]]"}, SR_ERR_UNSUPPORTED, "BPE"},
    {{.model = "\"type\":\"Unigram\",\"unk_id\":0", .vocabulary = "[[\"a\",0.5]]"},
     SR_ERR_UNSUPPORTED,
     "Unigram"},
    {{.normalizer = "null"}, SR_ERR_UNSUPPORTED, "normalizer"},
    {{.normalizer = "{\"type\":\"NFC\"}"}, SR_ERR_UNSUPPORTED, "NFC"},
    {{.normalizer = "{\"type\":\"Sequence\",\"normalizers\":[]}"}, SR_ERR_UNSUPPORTED, "Sequence"},
    {{.splitter = "{\"type\":\"Whitespace\"}"}, SR_ERR_UNSUPPORTED, "Whitespace"},
    {{.splitter = "null"}, SR_ERR_UNSUPPORTED, "pre_tokenizer"},
    {{.processor = "{\"type\":\"RobertaProcessing\"}"}, SR_ERR_UNSUPPORTED, "RobertaProcessing"},
    {{.processor = TEMPLATE(SINGLE, "[1,1]")}, SR_ERR_UNSUPPORTED, "[CLS]"},
    {{.processor = TEMPLATE("[{\"Sequence\":{\"id\":\"B\"}}]", "[1]")},
     SR_ERR_UNSUPPORTED,
     "template"},
    {{.processor = TEMPLATE("[]", "[1]")}, SR_ERR_UNSUPPORTED, "template"},
    {{.added = ADDED("foo",
                     "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":true,"
                     "\"special\":false")},
     SR_ERR_UNSUPPORTED,
     "foo"},
    {{.added = ADDED(" foo",
                     "\"single_word\":false,\"lstrip\":true,\"rstrip\":false,\"normalized\":false,"
                     "\"special\":false")},
     SR_ERR_UNSUPPORTED,
     "lstrip"},
    {{.model = MODEL_BUT("\"[UNK]\"", "\"##\"", "1001")},
     SR_ERR_UNSUPPORTED,
     "max_input_chars_per_word"},
    /* damaged */
    {{.vocabulary = "{}"}, SR_ERR_FORMAT, "empty"},
    {{.vocabulary = "[]"}, SR_ERR_FORMAT, "vocabulary"},
    {{.vocabulary = "null"}, SR_ERR_FORMAT, "vocabulary"},
    {{.vocabulary = "{\"[CLS]\":1,\"[SEP]\":2}"}, SR_ERR_FORMAT, "unknown token"},
    {{.vocabulary = ONE("-1")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("1.5")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("3e1")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("007")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("4194304")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("99999999999999999999999")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("\"3\"")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("null")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("{\"y\":3}")}, SR_ERR_FORMAT, "whole number"},
    {{.vocabulary = ONE("2")}, SR_ERR_FORMAT, "same id"},
    {{.vocabulary = ONE("3,\"x\":4")}, SR_ERR_FORMAT, "twice"},
    {{.vocabulary = ONE("3,\"\\u0078\":4")}, SR_ERR_FORMAT, "twice"},
    {{.vocabulary = ONE("3,")}, SR_ERR_FORMAT, "string"},
    {{.vocabulary = ONE("3 4")}, SR_ERR_FORMAT, "comma"},
    {{.vocabulary = ONE("3,5:4")}, SR_ERR_FORMAT, "string"},
    {{.vocabulary = ONE("3,\"y\" 4")}, SR_ERR_FORMAT, "colon"},
    {{.vocabulary = ONE("3,\"\\q\":4")}, SR_ERR_FORMAT, "escape"},
    {{.vocabulary = ONE("3,\"\\u00\":4")}, SR_ERR_FORMAT, "escape"},
    {{.vocabulary = ONE("3,\"\\u0000\":4")}, SR_ERR_FORMAT, "NUL"},
    {{.vocabulary = ONE("3,\"\\ud83d\":4")}, SR_ERR_FORMAT, "escape"},
    {{.vocabulary = ONE("3,\"\\ude00\":4")}, SR_ERR_FORMAT, "escape"},
    {{.vocabulary = ONE("3,\"\\ud83d\\u0041\":4")}, SR_ERR_FORMAT, "escape"},
    {{.vocabulary = ONE("3,\"\xFF\":4")}, SR_ERR_FORMAT, "UTF-8"},
    {{.vocabulary = ONE("3,\"\n\":4")}, SR_ERR_FORMAT, "control"},
    {{.model = MODEL_BUT("7", "\"##\"", "100")}, SR_ERR_FORMAT, "unk_token"},
    {{.model = MODEL_BUT("\"\"", "\"##\"", "100")}, SR_ERR_FORMAT, "unknown token"},
    {{.model = MODEL_BUT("\"[UNK]\"", "null", "100")}, SR_ERR_FORMAT, "prefix"},
    {{.model = MODEL_BUT("\"[UNK]\"", "\"##\"", "-1")}, SR_ERR_FORMAT, "max_input_chars_per_word"},
    {{.model = MODEL ",\"type\":\"BPE\""}, SR_ERR_FORMAT, "duplicate"},
    {{.model = MODEL ",\"vocab\":{\"[UNK]\":0}"}, SR_ERR_FORMAT, "duplicate"},
    {{.normalizer = "{\"type\":\"BertNormalizer\",\"clean_text\":1,\"handle_chinese_chars\":true,"
                    "\"lowercase\":true}"},
     SR_ERR_FORMAT,
     "normalizer"},
    {{.processor = TEMPLATE(SINGLE, "[]")}, SR_ERR_FORMAT, "no id"},
    {{.processor = TEMPLATE(SINGLE, "[4194304]")}, SR_ERR_FORMAT, "no id"},
    {{.processor = TEMPLATE("{}", "[1]")}, SR_ERR_FORMAT, "template"},
    {{.processor = "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",-2],\"cls\":[\"[CLS]\",1]}"},
     SR_ERR_FORMAT,
     "sep"},
    {{.processor = "{\"type\":\"BertProcessing\"}"}, SR_ERR_FORMAT, "cls"},
    {{.added = "{}"}, SR_ERR_FORMAT, "added_tokens"},
    {{.added = "[7]"}, SR_ERR_FORMAT, "added token"},
    {{.added = "[{\"id\":99,\"content\":\"[SEP]\"," FLAGS "]"}, SR_ERR_FORMAT, "differs"},
    {{.added = "[{\"id\":-1,\"content\":\"foo\"," FLAGS "]"}, SR_ERR_FORMAT, "added token"},
    {{.added =
          "[{\"id\":20,\"content\":\"foo\"," FLAGS ",{\"id\":21,\"content\":\"foo\"," FLAGS "]"},
     SR_ERR_FORMAT,
     "twice"},
};

static void files_that_would_give_wrong_ids_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < SRI_COUNT(refused); i++) {
        parts p = whole;
        const parts *c = &refused[i].changed;
        if (c->added != NULL) p.added = c->added;
        if (c->normalizer != NULL) p.normalizer = c->normalizer;
        if (c->splitter != NULL) p.splitter = c->splitter;
        if (c->processor != NULL) p.processor = c->processor;
        if (c->model != NULL) p.model = c->model;
        if (c->vocabulary != NULL) p.vocabulary = c->vocabulary;
        sri_tokenizer *tokenizer;
        sr_error error = {0};
        sr_status status = open_parts(p, &tokenizer, &error);
        if (status != refused[i].status || strstr(error.message, refused[i].says) == NULL)
            fail_msg("case %zu: %s, not %s about '%s': %s", i, sr_status_name(status),
                     sr_status_name(refused[i].status), refused[i].says, error.message);
    }
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    static const char text[] =
        "{\"added_tokens\":[],\"normalizer\":" NORMALIZER
        ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":null,"
        "\"model\":{" MODEL ",\"vocab\":" VOCABULARY "}}";
    sri_tokenizer *tokenizer;
    sr_error error;
    assert_int_equal(open_text(sr_str_of(text), &tokenizer, &error), SR_OK);
    sri_tokenizer_close(&tokenizer);
    for (size_t len = 0; len < sizeof text - 1; len++)
        assert_int_equal(open_text((sr_str){text, len}, &tokenizer, &error), SR_ERR_FORMAT);
}

static void a_hostile_file_costs_little(void **state) {
    (void)state;
    size_t len = (size_t)8 << 20;
    char *text = malloc(len);
    assert_non_null(text);
    sri_tokenizer *tokenizer;
    sr_error error;
    memset(text, '[', len);
    assert_int_equal(open_text((sr_str){text, len}, &tokenizer, &error), SR_ERR_FORMAT);
    memcpy(text, "{\"x\":", 5); /* never closed, and too deep for a reader that calls itself */
    assert_int_equal(open_text((sr_str){text, len}, &tokenizer, &error), SR_ERR_FORMAT);
    for (size_t i = 0; i + 1 < len; i += 2) memcpy(text + i, "0,", 2);
    memcpy(text, "{\"xy\":[", 7);
    memcpy(text + len - 3, "0]}", 3);
    assert_int_equal(open_text((sr_str){text, len}, &tokenizer, &error), SR_ERR_LIMIT);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_survives_a_round_trip),
        cmocka_unit_test(what_is_not_utf8_is_replaced_as_python_does),
        cmocka_unit_test(the_first_fault_is_found),
        cmocka_unit_test(appending_stops_at_the_maximum_and_changes_nothing),
        cmocka_unit_test(blank_is_what_python_calls_space),
        cmocka_unit_test(words_become_the_longest_pieces),
        cmocka_unit_test(files_of_the_same_bytes_share_a_tokenizer),
        cmocka_unit_test(the_prefix_and_the_text_are_one_string),
        cmocka_unit_test(what_does_not_fit_is_left_out_and_told),
        cmocka_unit_test(no_byte_is_read_past_the_end_or_the_room),
        cmocka_unit_test(a_long_word_is_unknown_and_nothing_is_allocated),
        cmocka_unit_test(every_shortage_of_memory_at_open_is_an_error),
        cmocka_unit_test(a_file_that_cannot_be_read_is_an_error),
        cmocka_unit_test(files_that_would_give_wrong_ids_are_refused),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_hostile_file_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
