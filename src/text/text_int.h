/*
 * text_int.h - what the files of src/text share: character tables, pieces and the tokenizer's
 * inside.
 */
#ifndef SRI_TEXT_INT_H
#define SRI_TEXT_INT_H

#include "text/text.h"

/* ---- Characters (unicode.c, unicode_tables.c) ----------------------------------------------------- */

/* As tools/make_tokenizer_tables.py numbers them. */
enum {
    SRI_CHAR_OTHER = 1,     /* removed by clean_text */
    SRI_CHAR_WHITE = 2,     /* separates words */
    SRI_CHAR_PUNCT = 4,     /* a word of its own */
    SRI_CHAR_IDEOGRAPH = 8, /* set apart by handle_chinese_chars */
    SRI_CHAR_MARK = 16,     /* removed by strip_accents */
    SRI_CHAR_WORD = 32,     /* forbids a single_word token beside it */
    SRI_CHAR_DECOMPOSES = 64,
    SRI_CHAR_LOWERS = 128
};

/* `rank` orders combining marks as canonical ordering does; 0 is a starter. */
typedef struct sri_unicode_record {
    uint8_t flags, rank;
} sri_unicode_record;

/* `first`, `first + step`, ... `last` have their lower case `delta` further on. */
typedef struct sri_unicode_lower_range {
    uint32_t first, last, step;
    int32_t delta;
} sri_unicode_lower_range;

extern const sri_unicode_record sri_unicode_records[];
extern const uint8_t sri_unicode_top[];
extern const uint16_t sri_unicode_blocks[];
extern const uint8_t sri_unicode_pages[];
extern const size_t sri_unicode_decomposition_count;
extern const uint32_t sri_unicode_decomposed[];
extern const uint16_t sri_unicode_decomposition_at[];
extern const uint32_t sri_unicode_pool[];
extern const size_t sri_unicode_lower_count;
extern const sri_unicode_lower_range sri_unicode_lower_ranges[];

/* `c` is at most U+10FFFF. */
static inline sri_unicode_record sri_char_record(uint32_t c) {
    uint32_t page = sri_unicode_blocks[sri_unicode_top[c >> 12] * 64u + (c >> 6 & 63)];
    return sri_unicode_records[sri_unicode_pages[page * 64 + (c & 63)]];
}

#define SRI_DECOMPOSITION_MAX 4

/* Writes the canonical decomposition of a character that has SRI_CHAR_DECOMPOSES, without those
 * marks that strip_accents removes and that are no starters. Returns its length, which may be 0. */
size_t sri_char_decompose(uint32_t c, uint32_t out[SRI_DECOMPOSITION_MAX]);

/* Writes the lower case of a character that has SRI_CHAR_LOWERS. Returns its length, 1 or 2. */
size_t sri_char_lower(uint32_t c, uint32_t out[2]);

/* Writes `c` as UTF-8 and returns the number of bytes, 1 to 4. */
size_t sri_utf8_put(uint32_t c, char *out);

/* ---- Pieces (pieces.c): the vocabulary as a hash table --------------------------------------------- */

/* 16 bytes, so that four share a cache line. A piece of up to 8 bytes is its own key, compared
 * without another memory access; a longer one is found by its hash and compared with its copy in
 * `tails`. */
typedef struct sri_piece {
    uint64_t key;  /* the bytes, padded with zeros; or the hash */
    uint32_t tail; /* offset in `tails` of length (4 bytes) and bytes; short pieces: unused */
    uint32_t
        info; /* id << 5 | continuing << 4 | length, 9 standing for more than 8; 0: a free slot */
} sri_piece;

typedef struct sri_pieces {
    sri_piece *slots;
    size_t capacity; /* power of two */
    size_t count;
    sri_buffer tails;
    uint64_t seed; /* of this process: a vocabulary cannot be made to collide */
    /* By continuing and first byte: the lengths that occur, one bit each, bit 63 for all from 63.
     * */
    uint64_t lengths[2][256];
} sri_pieces;

#define SRI_PIECE_SLACK 8 /* bytes behind a piece that may be read */

/* Makes room for `count` pieces; false when memory is short. */
SR_MUST_CHECK bool sri_pieces_reserve(sri_pieces *pieces, size_t count);

/* Adds a piece that begins a word, or continues one. `bytes` has `len` > 0 bytes and
 * SRI_PIECE_SLACK readable ones behind them. SR_ERR_INVALID (and no message) when it is there
 * already. */
SR_MUST_CHECK sr_status sri_pieces_add(sri_pieces *pieces, const char *bytes, size_t len,
                                       bool continuing, uint32_t id);

/* The piece's id, or -1. The same slack is read. */
int32_t sri_pieces_find(const sri_pieces *pieces, const char *bytes, size_t len, bool continuing);

/* The longest piece that begins `bytes`, or -1; `*used` takes its length. The same slack is read.
 * */
int32_t sri_pieces_longest(const sri_pieces *pieces, const char *bytes, size_t len, bool continuing,
                           size_t *used);

void sri_pieces_free(sri_pieces *pieces);

/* ---- tokenizer.json (tokenizer_scan.c, tokenizer_file.c) -------------------------------------------- */

#define SRI_TOKENIZER_FILE_MAX ((size_t)64 << 20)
#define SRI_TOKEN_ID_MAX       ((1u << 22) - 1) /* largest id: what a file says must not size anything */
#define SRI_VOCABULARY_MAX     ((size_t)1 << 20)
#define SRI_WORD_CHARS_MAX     1000 /* largest max_input_chars_per_word */
#define SRI_ADDED_TOKENS_MAX   1024

/* A token that is found in the text as it stands, before normalisation. */
typedef struct sri_added_token {
    sr_str content;
    int32_t id;
    bool single_word;
} sri_added_token;

/* Of the bytes of a file: their number, and their hash with a seed of this process. */
typedef struct sri_file_digest {
    size_t len;
    uint64_t hash;
} sri_file_digest;

/* What a byte of the text is to the fast path; below SRI_BYTE_OTHER it is part of a word as that
 * byte. */
enum {
    SRI_BYTE_OTHER = 0x80, /* dropped */
    SRI_BYTE_WHITE,
    SRI_BYTE_PUNCT,
    SRI_BYTE_SLOW, /* not ASCII, or an added token may begin here */
};

struct sri_tokenizer {
    /* Under the mutex of tokenizer_file.c, which has a list of those that are open. */
    struct sri_tokenizer *next;
    size_t users;
    sri_file_digest file;
    uint8_t bytes[256];
    int32_t punctuation[128]; /* ids of ASCII punctuation */
    bool clean_text, ideographs, strip_accents, lowercase;
    bool single_words;  /* an added token is single_word: the fast path is off */
    bool added_at[256]; /* bytes that an added token begins with */
    int32_t unknown;
    int32_t leading, trailing; /* special tokens around, -1: none */
    size_t max_word_chars;
    size_t vocabulary;
    sri_added_token *added; /* longest first */
    size_t added_count;
    sri_arena strings;
    sri_pieces pieces;
};

/* Where the vocabulary lies in a tokenizer.json, and all the rest of it as JSON. */
typedef struct sri_tokenizer_parts {
    const char *vocabulary; /* at its opening brace; NULL when model.vocab is no object */
    const char *vocabulary_end;
    sri_buffer rest; /* the file with arrays and objects of `model` emptied */
} sri_tokenizer_parts;

/* Splits the file's `text`, which has SRI_PIECE_SLACK readable bytes behind it. The caller frees
 * `rest`. */
SR_MUST_CHECK sr_status sri_tokenizer_split(const char *path, sr_str text,
                                            sri_tokenizer_parts *parts, sr_error *error);

/* Reads the vocabulary of `parts` into `pieces`; `*largest` takes its largest id. */
SR_MUST_CHECK sr_status sri_tokenizer_read_vocabulary(const char *path,
                                                      const sri_tokenizer_parts *parts,
                                                      sr_str continuing_prefix, sri_pieces *pieces,
                                                      uint32_t *largest, sr_error *error);

/* Fills `bytes`, `punctuation` and `added_at` from the rest. */
void sri_tokenizer_prepare(sri_tokenizer *tokenizer);

#endif
