/*
 * fuzz_tokenizer.c - hostile tokenizer.json files and hostile texts.
 *
 * An input is a tokenizer.json, a NUL byte and a text. Without the NUL it is a text for a tokenizer that
 * is built in. Whatever the file, opening it ends in a tokenizer or an error, and a tokenizer keeps its
 * promises: ids below its vocabulary, within the room, the same however the text is split or cut.
 *
 * LLVMFuzzerTestOneInput is libFuzzer's entry (build with -DSR_LIBFUZZER -fsanitize=fuzzer). The main()
 * here needs no fuzzer: it mutates the fixtures' tokenizers and texts from a fixed seed for some seconds,
 * so that any compiler with sanitizers can run it as a test.
 *
 * usage: fuzz_tokenizer SOURCE_ROOT [SECONDS [SEED]]
 */
#include "base/base.h"
#include "text/text.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "broken promise: %s\n", what);
    abort();
}

/* ---- The target --------------------------------------------------------------------------------------- */

static const char builtin[] =
    "{\"added_tokens\":[{\"id\":2,\"content\":\"[SEP]\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,"
    "\"normalized\":false,\"special\":true}],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_"
    "text\":true,"
    "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{"
    "\"type\":"
    "\"BertPreTokenizer\"},\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1],"
    "\"sep\":[\"[SEP]\",2]},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##"
    "\","
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3,\"##"
    "a\":4,\"hello\":5,"
    "\"##internationalisation\":6,\"\\u302e\":7,\"##\\u302e\":8,\"##\\u302a\":9,\".\":10}}}";

/* Opens a file of these bytes, which lives in memory. */
static sri_tokenizer *open_bytes(const void *bytes, size_t size) {
    static int descriptor = -1;
    char path[64];
    if (descriptor < 0) descriptor = memfd_create("tokenizer.json", 0);
    require(descriptor >= 0 && ftruncate(descriptor, 0) == 0, "a file in memory");
    require(pwrite(descriptor, bytes, size, 0) == (ssize_t)size, "writing it");
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    sri_tokenizer *tokenizer;
    sr_error error = {0};
    sr_status status = sri_tokenizer_open(path, &tokenizer, &error);
    require((status == SR_OK) == (tokenizer != NULL), "a tokenizer or an error");
    require(status == SR_OK || error.message[0] != '\0', "a message");
    return tokenizer;
}

enum { ROOM = 4096 };

static void check_text(const sri_tokenizer *tokenizer, sr_str text) {
    static int32_t all[ROOM], again[ROOM];
    const sr_str none = {NULL, 0};
    bool cut, cut_again;
    size_t count = sri_tokenize(tokenizer, none, text, all, ROOM, &cut);
    require(count <= ROOM, "no more ids than room");
    for (size_t i = 0; i < count; i++)
        require(all[i] >= 0 && (size_t)all[i] < sri_tokenizer_vocabulary(tokenizer),
                "ids of the vocabulary");
    size_t middle = text.len / 2;
    size_t split =
        sri_tokenize(tokenizer, (sr_str){text.data, middle},
                     (sr_str){text.len == 0 ? NULL : text.data + middle, text.len - middle}, again,
                     ROOM, &cut_again);
    require(split == count && cut == cut_again && memcmp(all, again, count * sizeof *all) == 0,
            "one string");
    size_t room = SRI_MAX(count / 2, 2),
           less = sri_tokenize(tokenizer, none, text, again, room, &cut_again);
    require(less == SRI_MIN(count, room) && cut_again == (cut || less < count),
            "cut where there is no more room");
    require(less == 0 || memcmp(all, again, (less - 1) * sizeof *all) == 0,
            "the same ids before the cut");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *border = size == 0 ? NULL : memchr(data, 0, size);
    size_t file = border == NULL ? 0 : (size_t)(border - data),
           start = border == NULL ? 0 : file + 1;
    sri_tokenizer *tokenizer =
        border == NULL ? open_bytes(builtin, sizeof builtin - 1) : open_bytes(data, file);
    require(border != NULL || tokenizer != NULL, "the tokenizer that is built in");
    /* A block of its own, so that a sanitizer sees a byte read before or behind it. */
    char *text = malloc(size - start + 1);
    require(text != NULL, "memory");
    if (size > start) memcpy(text, data + start, size - start);
    if (tokenizer != NULL) check_text(tokenizer, (sr_str){text, size - start});
    free(text);
    sri_tokenizer_close(&tokenizer);
    return 0;
}

/* ---- The driver ---------------------------------------------------------------------------------------- */

#ifndef SR_LIBFUZZER

enum { SEEDS = 512, INPUT_MAX = 1 << 14 };

static uint64_t random_state;
static uint8_t input[INPUT_MAX + 64];
static size_t input_len;

static uint32_t random_below(uint32_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % bound);
}

static const char *const fragments[] = {
    "\"",
    "\\",
    "\\u",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "-1",
    "4194303",
    "4194304",
    "1e9",
    "0",
    "true",
    "\"vocab\"",
    "\"model\"",
    "{}",
    "[[[[[[[[",
    "\\ud83d",
    "\\u0000",
    "##",
    "[SEP]",
    "[MASK]",
    "\xFF",
    "\xE2\x82",
    "\xF0\x9F",
    "\xCC\x81",
    "\xE3\x80\xAE",
    "\xC4\xB0",
    "\xEA\xB0\x81",
    "\xE4\xB8\xAD",
    "\t",
    " ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static void insert(size_t at, const void *bytes, size_t len) {
    if (input_len + len > INPUT_MAX) return;
    memmove(input + at + len, input + at, input_len - at);
    memmove(input + at, bytes, len);
    input_len += len;
}

static void mutate(void) {
    size_t at = random_below((uint32_t)input_len + 1), len = 1 + random_below(16);
    len = SRI_MIN(len, input_len - at);
    const char *fragment = fragments[random_below(SRI_COUNT(fragments))];
    uint8_t copy[16];
    switch (random_below(6)) {
    case 0: /* another bit */
        if (len > 0) input[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1: /* another byte */
        if (len > 0) input[at] = (uint8_t)random_below(256);
        break;
    case 2: /* something left out */
        memmove(input + at, input + at + len, input_len - at - len);
        input_len -= len;
        break;
    case 3: /* something twice, elsewhere */
        memcpy(copy, input + at, len);
        insert(random_below((uint32_t)input_len + 1), copy, len);
        break;
    case 4: insert(at, fragment, strlen(fragment)); break;
    default: /* the end cut off, seldom */
        if (random_below(8) == 0) input_len = at;
    }
}

/* Takes the lines of a fixture as seeds: of a variant, its tokenizer, a NUL and the line as a text. */
static size_t read_seeds(const char *root, const char *name, sri_buffer *file, sr_str *seeds,
                         size_t count, size_t step) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", root, name);
    require(sri_read_file(path, 8 << 20, file, NULL) == SR_OK, "the fixtures");
    size_t line = 0;
    for (char *at = file->data, *end = file->data + file->len; at < end && count < SEEDS; line++) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        require(stop != NULL, "whole lines");
        if (line % step == 0) seeds[count++] = (sr_str){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    return count;
}

static void take_seed(sr_str seed) {
    static const char key[] = "\"tokenizer\":";
    const char *tokenizer = memmem(seed.data, seed.len, key, sizeof key - 1);
    const char *cases = memmem(seed.data, seed.len, ",\"cases\":", 9);
    input_len = 0;
    if (tokenizer == NULL || cases == NULL) {
        insert(0, seed.data, SRI_MIN(seed.len, 2000));
        return;
    }
    tokenizer += sizeof key - 1;
    insert(0, tokenizer, (size_t)(cases - tokenizer));
    insert(input_len, "", 1);
    size_t left = (size_t)(seed.data + seed.len - cases), at = random_below((uint32_t)left);
    insert(input_len, cases + at, SRI_MIN(left - at, 300));
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    double seconds = count > 2 ? atof(arguments[2]) : 5;
    random_state = count > 3 ? strtoull(arguments[3], NULL, 10) : 1;
    static sr_str seeds[SEEDS];
    sri_buffer variants = {0}, texts = {0};
    size_t seed_count = read_seeds(arguments[1], "tokens_variants.jsonl", &variants, seeds, 0, 1);
    seed_count = read_seeds(arguments[1], "tokens.jsonl", &texts, seeds, seed_count, 61);
    double end = sri_seconds() + seconds;
    uint64_t runs = 0;
    for (; sri_seconds() < end; runs++) {
        take_seed(seeds[random_below((uint32_t)seed_count)]);
        for (uint32_t n = random_below(6); n > 0; n--) mutate();
        LLVMFuzzerTestOneInput(input, input_len);
    }
    sri_buffer_free(&variants);
    sri_buffer_free(&texts);
    printf("1..1\nok 1 - %llu mutated tokenizers and texts\n", (unsigned long long)runs);
    return 0;
}

#endif
