/*
 * tokenizer_scan.c - finds and reads the vocabulary in a tokenizer.json.
 *
 * The vocabulary is nearly all of the file: 30,522 of BERT's entries in 700 kB. As a tree of
 * Jansson's it costs more time and memory than all else at start, and a hostile file could make it
 * cost a hundred times its own size. So the file is split first: the arrays and
 * objects of `model` are cut out, Jansson reads the little that is left, and the vocabulary is read
 * here, in place, by a reader that knows only objects of strings and whole numbers. What is cut out
 * and not the vocabulary belongs to models that are refused.
 */
#include "text/text_int.h"

#include <string.h>

#define REST_MAX ((size_t)2 << 20) /* without the vocabulary; bounds what Jansson can allocate */

typedef struct {
    const char *path, *start, *at, *end;
    sr_error *error;
} scan;

/* ---- Splitting ------------------------------------------------------------------------------------- */

static sr_status damaged(scan *s, const char *what) {
    return sri_fail(s->error, SR_ERR_FORMAT, s->path,
                    "%s is damaged at byte %zu: %s; fetch the file again", s->path,
                    (size_t)(s->at - s->start), what);
}

static void skip_white(scan *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

/* Takes one character after white space. */
static bool take(scan *s, char c) {
    skip_white(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

/* Takes a string and gives what stands between its quotes, escapes and all. */
static bool take_raw_string(scan *s, sr_str *raw) {
    if (!take(s, '"')) return false;
    const char *first = s->at;
    for (; s->at < s->end && *s->at != '"'; s->at++)
        if (*s->at == '\\' && ++s->at == s->end) return false;
    if (s->at == s->end) return false;
    *raw = (sr_str){first, (size_t)(s->at - first)};
    s->at++;
    return true;
}

/* Skips an array or object by its brackets. */
static bool skip_nested(scan *s) {
    size_t depth = 0;
    sr_str unused;
    do {
        skip_white(s);
        if (s->at == s->end) return false;
        char c = *s->at;
        if (c == '"') {
            if (!take_raw_string(s, &unused)) return false;
            continue;
        }
        s->at++;
        if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
    } while (depth > 0);
    return true;
}

static bool nested_here(const scan *s) {
    return s->at < s->end && (*s->at == '{' || *s->at == '[');
}

/* Skips any value; what a scalar is, is left to Jansson. */
static bool skip_value(scan *s) {
    sr_str unused;
    skip_white(s);
    if (nested_here(s)) return skip_nested(s);
    if (s->at < s->end && *s->at == '"') return take_raw_string(s, &unused);
    const char *first = s->at;
    while (s->at < s->end && strchr(",}] \n\r\t", *s->at) == NULL) s->at++;
    return s->at > first;
}

static bool is(sr_str raw, const char *name) { return sri_str_equal(raw, sr_str_of(name)); }

/* Copies a part of the file that Jansson is to read. */
static sr_status keep(scan *s, sri_buffer *rest, const char *bytes, size_t len) {
    if (len > REST_MAX - rest->len)
        return sri_fail(s->error, SR_ERR_LIMIT, s->path,
                        "%s holds more than %zu bytes beside its vocabulary", s->path, REST_MAX);
    return sri_buffer_append(rest, bytes, len) ? SR_OK : sri_fail_memory(s->error);
}

/* Copies the file from `*kept` to the value here, and an empty one in its stead. */
static sr_status cut_out(scan *s, const char **kept, sri_buffer *rest) {
    const char *first = s->at;
    if (!skip_nested(s)) return damaged(s, "an array or object does not end");
    sr_status status = keep(s, rest, *kept, (size_t)(first - *kept));
    if (status == SR_OK) status = keep(s, rest, *first == '{' ? "{}" : "[]", 2);
    *kept = s->at;
    return status;
}

static sr_status split_model(scan *s, sri_tokenizer_parts *parts, const char **kept) {
    if (!take(s, '{')) return damaged(s, "the model is no object");
    if (take(s, '}')) return SR_OK;
    do {
        sr_str key;
        if (!take_raw_string(s, &key) || !take(s, ':'))
            return damaged(s, "a key and a colon are expected");
        skip_white(s);
        const char *first = s->at;
        if (!nested_here(s)) {
            if (!skip_value(s)) return damaged(s, "a value is expected");
            continue;
        }
        sr_status status = cut_out(s, kept, &parts->rest);
        if (status != SR_OK) return status;
        if (*first == '{' && is(key, "vocab"))
            parts->vocabulary = first, parts->vocabulary_end = s->at;
    } while (take(s, ','));
    return take(s, '}') ? SR_OK : damaged(s, "a comma or brace is expected");
}

static sr_status split(scan *s, sri_tokenizer_parts *parts) {
    const char *kept = s->at;
    if (!take(s, '{')) return damaged(s, "a JSON object is expected");
    if (!take(s, '}')) {
        do {
            sr_str key;
            if (!take_raw_string(s, &key) || !take(s, ':'))
                return damaged(s, "a key and a colon are expected");
            skip_white(s);
            sr_status status = SR_OK;
            if (is(key, "model") && nested_here(s))
                status = split_model(s, parts, &kept);
            else if (!skip_value(s))
                return damaged(s, "a value is expected");
            if (status != SR_OK) return status;
        } while (take(s, ','));
        if (!take(s, '}')) return damaged(s, "a comma or brace is expected");
    }
    return keep(s, &parts->rest, kept, (size_t)(s->end - kept));
}

sr_status sri_tokenizer_split(const char *path, sr_str text, sri_tokenizer_parts *parts,
                              sr_error *error) {
    *parts = (sri_tokenizer_parts){0};
    const char *start = text.len > 0 ? text.data : "";
    scan s = {path, start, start, start + text.len, error};
    sr_status status = split(&s, parts);
    if (status != SR_OK) sri_buffer_free(&parts->rest);
    return status;
}

/* ---- The vocabulary -------------------------------------------------------------------------------- */

/* One entry's string. Where it has no escapes it is read where it stands. */
typedef struct {
    scan scan;
    sr_str prefix; /* of continuing pieces */
    sri_pieces *pieces;
    uint8_t *ids_seen; /* a bit for each id below 8 * ids_bytes: as many as ids have needed */
    size_t ids_bytes;
    uint32_t largest;
    sri_buffer decoded; /* a string with escapes, and slack */
} vocabulary;

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits at `at`, or -1. */
static int32_t hex4(const char *at, const char *end) {
    if (end - at < 4) return -1;
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* The character of the \u escape whose digits begin at `*at`, which moves past it; 0 for a wrong
 * one, which NUL and half a surrogate pair are too. */
static uint32_t take_unicode_escape(const char **at, const char *end) {
    int32_t first = hex4(*at, end);
    if (first < 0) return 0;
    *at += 4;
    if (first < 0xD800 || first > 0xDFFF) return (uint32_t)first;
    if (first > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') return 0;
    int32_t second = hex4(*at + 2, end);
    if (second < 0xDC00 || second > 0xDFFF) return 0;
    *at += 6;
    return 0x10000u + ((uint32_t)(first - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
}

static uint32_t take_escape(const char **at, const char *end) {
    static const char names[] = "\"\\/bfnrt", characters[] = "\"\\/\b\f\n\r\t";
    char name = *(*at)++;
    if (name == 'u') return take_unicode_escape(at, end);
    const char *found = name == '\0' ? NULL : strchr(names, name);
    return found == NULL ? 0 : (uint32_t)characters[found - names];
}

static sr_status decode(vocabulary *v, sr_str raw, sr_str *text) {
    v->decoded.len = 0;
    bool fits = true;
    for (const char *at = raw.data, *end = raw.data + raw.len; at < end;) {
        char bytes[4] = {*at++};
        size_t length = 1;
        if (bytes[0] == '\\') {
            uint32_t c = take_escape(&at, end);
            if (c == 0)
                return damaged(&v->scan, "a wrong escape, or NUL, in a string of the vocabulary");
            length = sri_utf8_put(c, bytes);
        }
        fits = fits && sri_buffer_append(&v->decoded, bytes, length);
    }
    size_t len = v->decoded.len;
    fits = fits && sri_buffer_append(&v->decoded, "\0\0\0\0\0\0\0", SRI_PIECE_SLACK);
    if (!fits) return sri_fail_memory(v->scan.error);
    *text = (sr_str){v->decoded.data, len};
    return SR_OK;
}

/* Nearly every string is made of such bytes. */
static bool plain(uint8_t byte) {
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

static bool take_plain_text(scan *s, sr_str *text) {
    skip_white(s);
    if (s->at == s->end || *s->at != '"') return false;
    const char *first = s->at + 1, *at = first;
    while (at < s->end && plain((uint8_t)*at)) at++;
    if (at == s->end || *at != '"') return false;
    *text = (sr_str){first, (size_t)(at - first)};
    s->at = at + 1;
    return true;
}

static sr_status take_text(vocabulary *v, sr_str *text) {
    scan *s = &v->scan;
    if (take_plain_text(s, text)) return SR_OK;
    if (!take_raw_string(s, text)) return damaged(s, "a string is expected in the vocabulary");
    bool escapes = false, high = false;
    for (size_t i = 0; i < text->len; i++) {
        uint8_t byte = (uint8_t)text->data[i];
        if (byte < 0x20) return damaged(s, "a control character in a string of the vocabulary");
        escapes |= byte == '\\';
        high |= byte >= 0x80;
    }
    if (high && !sri_utf8_valid(*text, NULL))
        return damaged(s, "a string of the vocabulary is not UTF-8");
    return escapes ? decode(v, *text, text) : SR_OK;
}

/* Makes sure that there is a bit for the id; false when memory is short. */
static bool cover_id(vocabulary *v, uint32_t id) {
    if (id / 8 < v->ids_bytes) return true;
    size_t before = v->ids_bytes;
    void *seen = v->ids_seen;
    if (!sri_grow(&seen, &v->ids_bytes, SRI_MAX(id / 8 + 1, (size_t)4096), 1)) return false;
    v->ids_seen = seen;
    memset(v->ids_seen + before, 0, v->ids_bytes - before);
    return true;
}

static sr_status take_id(vocabulary *v, uint32_t *id) {
    scan *s = &v->scan;
    skip_white(s);
    const char *first = s->at;
    uint32_t value = 0;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9' && value <= SRI_TOKEN_ID_MAX; s->at++)
        value = value * 10 + (uint32_t)(*s->at - '0');
    bool whole = s->at > first && (s->at == s->end || strchr(",} \n\r\t", *s->at) != NULL);
    if (whole && *first == '0' && s->at - first > 1) whole = false; /* not JSON */
    if (!whole || value > SRI_TOKEN_ID_MAX)
        return damaged(s, "an id of the vocabulary is no whole number from 0 to 4194303");
    if (!cover_id(v, value)) return sri_fail_memory(s->error);
    uint8_t *seen = &v->ids_seen[value / 8], bit = (uint8_t)(1u << value % 8);
    if ((*seen & bit) != 0) return damaged(s, "two strings of the vocabulary have the same id");
    *seen |= bit;
    v->largest = SRI_MAX(v->largest, value);
    *id = value;
    return SR_OK;
}

/* A piece that begins with the prefix may still begin a word too, where the prefix is such that
 * words can. */
static sr_status add(vocabulary *v, sr_str text, uint32_t id) {
    if (v->pieces->count >= 2 * SRI_VOCABULARY_MAX)
        return sri_fail(v->scan.error, SR_ERR_LIMIT, v->scan.path,
                        "%s has a vocabulary of more than %zu strings", v->scan.path,
                        SRI_VOCABULARY_MAX);
    sr_status status =
        text.len == 0 ? SR_OK : sri_pieces_add(v->pieces, text.data, text.len, false, id);
    size_t skip = v->prefix.len;
    if (status == SR_OK && text.len > skip &&
        (skip == 0 || memcmp(text.data, v->prefix.data, skip) == 0))
        status = sri_pieces_add(v->pieces, text.data + skip, text.len - skip, true, id);
    if (status == SR_ERR_INVALID)
        return damaged(&v->scan, "a string stands in the vocabulary twice");
    return status == SR_OK ? SR_OK : sri_fail_memory(v->scan.error);
}

static sr_status read_entries(vocabulary *v) {
    scan *s = &v->scan;
    take(s, '{');
    if (take(s, '}')) return damaged(s, "the vocabulary is empty");
    do {
        sr_str text;
        uint32_t id = 0;
        sr_status status = take_text(v, &text);
        if (status == SR_OK && !take(s, ':'))
            status = damaged(s, "a colon is expected in the vocabulary");
        if (status == SR_OK) status = take_id(v, &id);
        if (status == SR_OK) status = add(v, text, id);
        if (status != SR_OK) return status;
    } while (take(s, ','));
    return take(s, '}') ? SR_OK : damaged(s, "a comma or brace is expected in the vocabulary");
}

/* Entries that the text may hold: each has two quotes. */
static size_t count_entries(const char *at, const char *end) {
    size_t quotes = 0;
    for (; at < end; at++) quotes += *at == '"';
    return SRI_MIN(quotes / 2, SRI_VOCABULARY_MAX);
}

sr_status sri_tokenizer_read_vocabulary(const char *path, const sri_tokenizer_parts *parts,
                                        sr_str continuing_prefix, sri_pieces *pieces,
                                        uint32_t *largest, sr_error *error) {
    const char *start = parts->vocabulary, *end = parts->vocabulary_end;
    vocabulary v = {
        .scan = {path, start, start, end, error}, .prefix = continuing_prefix, .pieces = pieces};
    sr_status status = SR_OK;
    if (!sri_pieces_reserve(pieces, count_entries(start, end))) status = sri_fail_memory(error);
    if (status == SR_OK) status = read_entries(&v);
    *largest = v.largest;
    sri_buffer_free(&v.decoded);
    sri_free(v.ids_seen);
    return status;
}
