/*
 * tokenizer.c - BERT tokenisation: text in, ids out, in one pass and without memory of its own.
 *
 * The reference implementation runs over the text once for each step (added tokens, cleaning,
 * ideographs, accents, case, splitting, pieces) and keeps a string each time. Here each character
 * goes through all steps at once and ends in a buffer of one word, which is cut into pieces where
 * the word ends. Two things look beyond one character. Canonical ordering of marks: those that
 * accent stripping leaves are never white space nor punctuation, so they are put in order inside
 * the word. Words longer than the model's limit: they are [UNK] whatever they hold, so that only
 * their end is looked for.
 *
 * ASCII goes past all that by a table of 256 entries per tokenizer, in which cleaning, case and
 * splitting are settled beforehand.
 *
 * Threads: a tokenizer never changes after open; a call's state lives on its stack.
 */
#include "text/text_int.h"

#include <assert.h>
#include <string.h>

#define WORD_BYTES ((size_t)SRI_WORD_CHARS_MAX * 4)

/* What is left of the string to be read: `at` to `end`, then `next` to `next_end`. */
typedef struct {
    const char *at, *end, *next, *next_end;
} reader;

typedef struct {
    const sri_tokenizer *tokenizer;
    reader input;
    int32_t *ids;
    size_t room; /* for ids before the trailing special token */
    size_t count;
    bool truncated;

    bool too_long;     /* the word has more than max_word_chars */
    size_t len, chars; /* of the word so far */
    size_t run;        /* byte of the word from which marks may be reordered */
    uint32_t previous; /* the character before `at`; known where single_words is set */
    size_t unmatched;  /* bytes before which no added token is looked for */
    char word[WORD_BYTES + SRI_PIECE_SLACK];
} state;

/* ---- Words into pieces --------------------------------------------------------------------------- */

static inline void emit(state *s, int32_t id) {
    if (s->count < s->room)
        s->ids[s->count++] = id;
    else
        s->truncated = true;
}

/* Ids beyond the room are found but not kept: only the last piece tells whether the word is [UNK].
 * */
static void emit_pieces(state *s) {
    const sri_tokenizer *t = s->tokenizer;
    size_t first = s->count;
    for (size_t at = 0, used = 0; at < s->len; at += used) {
        int32_t id = sri_pieces_longest(&t->pieces, s->word + at, s->len - at, at > 0, &used);
        if (id < 0) {
            s->count = first;
            s->truncated = false;
            emit(s, t->unknown);
            return;
        }
        emit(s, id);
    }
}

static inline void end_word(state *s) {
    if (s->len == 0) return;
    memset(s->word + s->len, 0, SRI_PIECE_SLACK);
    int32_t id = s->too_long ? s->tokenizer->unknown
                             : sri_pieces_find(&s->tokenizer->pieces, s->word, s->len, false);
    if (id >= 0)
        emit(s, id);
    else
        emit_pieces(s);
    s->len = s->chars = s->run = 0;
    s->too_long = false;
}

/* ---- Characters into words ------------------------------------------------------------------------ */

/* Where in the word a mark belongs: behind all marks of its run that do not rank above it. */
static size_t place_of_mark(const state *s, uint8_t rank) {
    size_t place = s->len;
    while (place > s->run) {
        size_t before = place - 1;
        while (before > s->run && ((uint8_t)s->word[before] & 0xC0) == 0x80) before--;
        const char *cursor = s->word + before;
        if (sri_char_record(sri_utf8_next(&cursor, s->word + place)).rank <= rank) break;
        place = before;
    }
    return place;
}

static void append(state *s, uint32_t c, uint8_t rank) {
    if (s->len == 0 && s->count == s->room) s->truncated = true;
    if (s->chars == s->tokenizer->max_word_chars) {
        s->too_long = true;
        s->len = SRI_MAX(s->len, 1); /* a limit of 0 characters makes every word too long */
        return;
    }
    s->chars++;
    if (rank == 0) {
        s->len += sri_utf8_put(c, s->word + s->len);
        return;
    }
    char bytes[4];
    size_t length = sri_utf8_put(c, bytes), place = place_of_mark(s, rank);
    memmove(s->word + place + length, s->word + place, s->len - place);
    memcpy(s->word + place, bytes, length);
    s->len += length;
}

static void split(state *s, uint32_t c, uint8_t rank) {
    uint8_t flags = sri_char_record(c).flags;
    if ((flags & SRI_CHAR_WHITE) != 0) {
        end_word(s);
    } else if ((flags & SRI_CHAR_PUNCT) != 0) {
        end_word(s);
        append(s, c, 0);
        end_word(s);
    } else {
        append(s, c, rank);
    }
}

/* A character of decomposed text: accents, case. */
static void put(state *s, uint32_t c) {
    sri_unicode_record record = sri_char_record(c);
    if (!s->tokenizer->strip_accents)
        record.rank = 0;
    else if ((record.flags & SRI_CHAR_MARK) != 0) {
        if (record.rank == 0) s->run = s->len; /* gone, but marks do not move past it */
        return;
    }
    uint32_t lower[2] = {c};
    size_t count = 1;
    if (s->tokenizer->lowercase && (record.flags & SRI_CHAR_LOWERS) != 0)
        count = sri_char_lower(c, lower);
    for (size_t i = 0; i < count; i++) split(s, lower[i], record.rank);
}

static void decompose(state *s, uint32_t c, uint8_t flags) {
    if (!s->tokenizer->strip_accents || (flags & SRI_CHAR_DECOMPOSES) == 0) {
        put(s, c);
        return;
    }
    uint32_t parts[SRI_DECOMPOSITION_MAX];
    size_t count = sri_char_decompose(c, parts);
    for (size_t i = 0; i < count; i++) put(s, parts[i]);
}

/* A character of the text as it stands: cleaning, ideographs. */
static void feed(state *s, uint32_t c) {
    const sri_tokenizer *t = s->tokenizer;
    uint8_t flags = sri_char_record(c).flags;
    if (t->clean_text && (flags & SRI_CHAR_OTHER) != 0) return;
    bool apart = t->ideographs && (flags & SRI_CHAR_IDEOGRAPH) != 0;
    if (apart || (flags & SRI_CHAR_WHITE) != 0) end_word(s);
    if ((flags & SRI_CHAR_WHITE) != 0) return;
    decompose(s, c, flags);
    if (apart) end_word(s);
}

/* ---- The string into characters -------------------------------------------------------------------- */

static void skip(reader *input, size_t bytes) {
    size_t here = (size_t)(input->end - input->at);
    if (bytes < here || input->next == NULL) {
        input->at += bytes;
        return;
    }
    *input = (reader){input->next + (bytes - here), input->next_end, NULL, NULL};
}

/* Copies up to `max` bytes ahead, across the border, and returns their number. */
static size_t look_ahead(const reader *input, char *bytes, size_t max) {
    size_t here = SRI_MIN((size_t)(input->end - input->at), max);
    memcpy(bytes, input->at, here);
    size_t there =
        input->next == NULL ? 0 : SRI_MIN((size_t)(input->next_end - input->next), max - here);
    if (there > 0) memcpy(bytes + here, input->next, there);
    return here + there;
}

/* The next character, and by `*bytes` its length; -1 at the end. */
static int32_t peek(const reader *input, size_t *bytes) {
    char ahead[4];
    const char *first = input->at, *end = input->end;
    if (input->next != NULL && end - first < 4) {
        first = ahead;
        end = ahead + look_ahead(input, ahead, sizeof ahead);
    }
    if (first == end) return -1;
    const char *cursor = first;
    int32_t c = (int32_t)sri_utf8_next(&cursor, end);
    *bytes = (size_t)(cursor - first);
    return c;
}

static bool starts_with(const reader *input, sr_str content) {
    size_t here = SRI_MIN((size_t)(input->end - input->at), content.len), left = content.len - here;
    if (memcmp(input->at, content.data, here) != 0) return false;
    if (left == 0) return true;
    return input->next != NULL && (size_t)(input->next_end - input->next) >= left &&
           memcmp(input->next, content.data + here, left) == 0;
}

static bool is_word(int32_t c) {
    return c >= 0 && (sri_char_record((uint32_t)c).flags & SRI_CHAR_WORD) != 0;
}

/* Takes an added token that begins here. One that stands in a word where it must not is text, and
 * no other is looked for within it. */
static bool take_added(state *s, bool at_start) {
    const sri_tokenizer *t = s->tokenizer;
    for (size_t i = 0; i < t->added_count; i++) {
        const sri_added_token *token = &t->added[i];
        if (!starts_with(&s->input, token->content)) continue;
        reader after = s->input;
        size_t unused;
        skip(&after, token->content.len);
        if (token->single_word &&
            ((!at_start && is_word((int32_t)s->previous)) || is_word(peek(&after, &unused)))) {
            s->unmatched = token->content.len;
            return false;
        }
        const char *last = token->content.data + token->content.len;
        do last--;
        while (((uint8_t)*last & 0xC0) == 0x80);
        s->previous = sri_utf8_next(&last, token->content.data + token->content.len);
        end_word(s);
        emit(s, token->id);
        s->input = after;
        return true;
    }
    return false;
}

static void read_slowly(state *s, bool at_start) {
    uint8_t first = (uint8_t)*s->input.at;
    if (s->unmatched == 0 && s->tokenizer->added_at[first] && take_added(s, at_start)) return;
    size_t bytes = 1;
    int32_t c = peek(&s->input, &bytes);
    skip(&s->input, bytes);
    s->unmatched -= SRI_MIN(s->unmatched, bytes);
    s->previous = (uint32_t)c;
    feed(s, (uint32_t)c);
}

/* Reads bytes that are part of a word as they are; the first is known to be one. */
static const char *read_plain(state *s, const char *at, const char *end) {
    const uint8_t *classes = s->tokenizer->bytes;
    size_t max = s->tokenizer->max_word_chars;
    if (s->len == 0 && s->count == s->room) {
        s->truncated = true;
        return at;
    }
    size_t fits = SRI_MIN((size_t)(end - at), max - s->chars), n = 0;
    char *out = s->word + s->len;
    uint8_t class = 0;
    while (n < fits && (class = classes[(uint8_t)at[n]]) < SRI_BYTE_OTHER) out[n++] = (char)class;
    s->len += n;
    s->chars += n;
    at += n;
    if (s->chars < max || at == end || classes[(uint8_t)*at] >= SRI_BYTE_OTHER) return at;
    append(s, 0, 0); /* notes that the word is too long */
    while (at < end && classes[(uint8_t)*at] < SRI_BYTE_OTHER) at++;
    return at;
}

/* Reads ASCII up to the first byte that needs more, the end of the part, or the end of the room. */
static void read_fast(state *s) {
    const sri_tokenizer *t = s->tokenizer;
    const char *at = s->input.at, *end = s->input.end;
    while (at < end && !s->truncated) {
        uint8_t class = t->bytes[(uint8_t)*at];
        if (class < SRI_BYTE_OTHER) {
            at = read_plain(s, at, end);
        } else if (class == SRI_BYTE_SLOW) {
            break;
        } else {
            if (class != SRI_BYTE_OTHER) end_word(s);
            if (class == SRI_BYTE_PUNCT) emit(s, t->punctuation[(uint8_t)*at]);
            at++;
        }
    }
    s->input.at = at;
}

static void read_all(state *s) {
    bool at_start = true;
    for (;;) {
        read_fast(s);
        if (s->truncated) return;
        if (s->input.at == s->input.end) {
            if (s->input.next == NULL) break;
            s->input = (reader){s->input.next, s->input.next_end, NULL, NULL};
            continue;
        }
        read_slowly(s, at_start);
        at_start = false;
        if (s->truncated) return;
    }
    end_word(s);
}

static inline size_t tokenize(const sri_tokenizer *tokenizer, sr_str prefix, sr_str text,
                              int32_t leading, int32_t trailing, int32_t *ids, size_t capacity,
                              bool *truncated) {
    state s; /* not initialised as a whole: the word is large */
    s.tokenizer = tokenizer;
    const char *first = prefix.len > 0 ? prefix.data : "", *second = text.len > 0 ? text.data : "";
    s.input = (reader){first, first + prefix.len, second, second + text.len};
    s.ids = ids;
    s.room = capacity - (trailing >= 0);
    s.count = s.len = s.chars = s.run = s.unmatched = 0;
    s.truncated = s.too_long = false;
    s.previous = 0;
    if (leading >= 0) ids[s.count++] = leading;
    read_all(&s);
    if (trailing >= 0) ids[s.count++] = trailing;
    if (truncated != NULL) *truncated = s.truncated;
    return s.count;
}

size_t sri_tokenize(const sri_tokenizer *tokenizer, sr_str prefix, sr_str text, int32_t *ids,
                    size_t capacity, bool *truncated) {
    assert(capacity >= 2);
    return tokenize(tokenizer, prefix, text, tokenizer->leading, tokenizer->trailing, ids, capacity,
                    truncated);
}

size_t sri_tokenize_bare(const sri_tokenizer *tokenizer, sr_str prefix, sr_str text, int32_t *ids,
                         size_t capacity, bool *truncated) {
    assert(capacity >= 1);
    return tokenize(tokenizer, prefix, text, -1, -1, ids, capacity, truncated);
}

size_t sri_tokenizer_vocabulary(const sri_tokenizer *tokenizer) { return tokenizer->vocabulary; }

int32_t sri_tokenizer_unknown(const sri_tokenizer *tokenizer) { return tokenizer->unknown; }

int32_t sri_tokenizer_leading(const sri_tokenizer *tokenizer) { return tokenizer->leading; }

int32_t sri_tokenizer_trailing(const sri_tokenizer *tokenizer) { return tokenizer->trailing; }

/* ---- The table of bytes ----------------------------------------------------------------------------- */

static uint8_t class_of(const sri_tokenizer *t, uint8_t byte) {
    if (byte >= 0x80 || t->added_at[byte] || t->single_words) return SRI_BYTE_SLOW;
    uint8_t flags = sri_char_record(byte).flags;
    if (t->clean_text && (flags & SRI_CHAR_OTHER) != 0) return SRI_BYTE_OTHER;
    if ((flags & SRI_CHAR_WHITE) != 0) return SRI_BYTE_WHITE;
    if ((flags & SRI_CHAR_PUNCT) != 0) return SRI_BYTE_PUNCT;
    uint32_t lower[2] = {byte};
    if (t->lowercase && (flags & SRI_CHAR_LOWERS) != 0) sri_char_lower(byte, lower);
    return (uint8_t)lower[0];
}

void sri_tokenizer_prepare(sri_tokenizer *t) {
    for (size_t i = 0; i < t->added_count; i++) {
        t->added_at[(uint8_t)t->added[i].content.data[0]] = true;
        t->single_words = t->single_words || t->added[i].single_word;
    }
    for (unsigned byte = 0; byte < 256; byte++) t->bytes[byte] = class_of(t, (uint8_t)byte);
    for (unsigned byte = 0; byte < 128; byte++) {
        char piece[1 + SRI_PIECE_SLACK] = {(char)byte};
        int32_t id = t->max_word_chars == 0 ? -1 : sri_pieces_find(&t->pieces, piece, 1, false);
        t->punctuation[byte] = id >= 0 ? id : t->unknown;
    }
}
