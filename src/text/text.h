/*
 * text.h - UTF-8 and BERT tokenisation, for neighbours.
 */
#ifndef SRI_TEXT_H
#define SRI_TEXT_H

#include "base/base.h"

/* ---- UTF-8 (utf8.c) ------------------------------------------------------------------------------ */

#define SRI_REPLACEMENT 0xFFFDu

/* Decodes the character at `*cursor` (which must be below `end`) and moves `*cursor` past it. What
 * is not UTF-8 gives U+FFFD and moves by as many bytes as Python's errors="replace" replaces by
 * one. */
uint32_t sri_utf8_next(const char **cursor, const char *end);

/* Whether `text` is UTF-8 (no surrogates, no overlong forms, at most U+10FFFF); when not, `*offset`
 * (NULL is allowed) takes the byte offset of the first fault. */
bool sri_utf8_valid(sr_str text, size_t *offset);

/* Appends `text` with what is not UTF-8 replaced by U+FFFD; false when the buffer cannot grow. */
SR_MUST_CHECK bool sri_utf8_append_valid(sri_buffer *buffer, sr_str text);

/* Whether `text` holds nothing but white space (as Python's str.isspace), or nothing. */
bool sri_text_blank(sr_str text);

/* ---- Folding (fold.c) ------------------------------------------------------------------------------- */

typedef enum sri_folded_kind {
    SRI_FOLDED_LETTER, /* letters, digits and what else words are made of */
    SRI_FOLDED_IDEOGRAPH,
    SRI_FOLDED_SYMBOL, /* punctuation, emoji, other symbols */
    SRI_FOLDED_SPACE
} sri_folded_kind;

typedef struct sri_folded {
    uint32_t c;
    sri_folded_kind kind;
} sri_folded;

#define SRI_FOLD_MAX 8

/* Writes `c` (at most U+10FFFF) as texts are compared: decomposed, without marks, in lower case; control
 * characters give nothing. Returns the number of characters, which may be 0. */
size_t sri_char_fold(uint32_t c, sri_folded out[SRI_FOLD_MAX]);

/* ---- Tokenizer (tokenizer.c, tokenizer_file.c) --------------------------------------------------------------------- */

/* Immutable after open: safe to share between threads. Files of the same bytes give the same one. */
typedef struct sri_tokenizer sri_tokenizer;

/* Reads a Hugging Face tokenizer.json with a BertNormalizer, BertPreTokenizer and WordPiece model,
 * at most one special token before and one after the text (either may be missing), and added tokens
 * that are matched before normalisation. SR_ERR_FORMAT for what is damaged, SR_ERR_UNSUPPORTED for
 * another kind, naming what it found, SR_ERR_LIMIT for a file above 64 MB or with more than 2 MB
 * beside its vocabulary. The file's own truncation and padding are not read: lengths are the
 * caller's. */
SR_MUST_CHECK sr_status sri_tokenizer_open(const char *path, sri_tokenizer **tokenizer,
                                           sr_error *error);
void sri_tokenizer_close(sri_tokenizer **tokenizer);

/* One more than the largest id that sri_tokenize() can give. */
size_t sri_tokenizer_vocabulary(const sri_tokenizer *tokenizer);

/* The id of what the vocabulary does not know; those of the special tokens before and after a text,
 * -1 where there is none. */
int32_t sri_tokenizer_unknown(const sri_tokenizer *tokenizer);
int32_t sri_tokenizer_leading(const sri_tokenizer *tokenizer);
int32_t sri_tokenizer_trailing(const sri_tokenizer *tokenizer);

/* Tokenises `prefix` and `text` as the one string they make (a word, a character or a special token
 * may span the border), with the special tokens around, writing at most `capacity` (>= 2) ids. What
 * is not UTF-8 counts as U+FFFD. The ids are those of the `tokenizers` package. What does not fit
 * is left out before the last special token, and `*truncated` (NULL is allowed) says whether
 * something was. Reads no further than it must, allocates nothing and cannot fail. Returns the
 * number of ids. */
size_t sri_tokenize(const sri_tokenizer *tokenizer, sr_str prefix, sr_str text, int32_t *ids,
                    size_t capacity, bool *truncated);

/* The same without special tokens around: `capacity` >= 1. */
size_t sri_tokenize_bare(const sri_tokenizer *tokenizer, sr_str prefix, sr_str text, int32_t *ids,
                         size_t capacity, bool *truncated);

#endif
