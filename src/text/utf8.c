/*
 * utf8.c - decoding and checking UTF-8.
 *
 * One decoder serves all: it reads the longest prefix of a well-formed sequence, and where that
 * prefix is not a whole character it stands for one U+FFFD. That is Unicode's "maximal subpart"
 * practice, and what Python does. Runs of ASCII are skipped 8 bytes at a time.
 */
#include "text/text_int.h"

#include <string.h>

/* The second byte's range is what tells overlong forms, surrogates and what lies above U+10FFFF. */
static bool lead(uint8_t byte, int *length, uint8_t *low, uint8_t *high) {
    *low = 0x80, *high = 0xBF;
    if (byte < 0xC2 || byte > 0xF4) return false;
    *length = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    if (byte == 0xE0) *low = 0xA0;
    if (byte == 0xED) *high = 0x9F;
    if (byte == 0xF0) *low = 0x90;
    if (byte == 0xF4) *high = 0x8F;
    return true;
}

/* As sri_utf8_next; `*whole` says whether the bytes were a character. */
static uint32_t next(const char **cursor, const char *end, bool *whole) {
    const uint8_t *at = (const uint8_t *)*cursor, *stop = (const uint8_t *)end;
    uint8_t first = *at++, low, high;
    int length;
    *whole = first < 0x80;
    uint32_t c = first;
    if (!*whole && lead(first, &length, &low, &high)) {
        c &= 0xFFu >> (length + 1);
        int missing = length - 1;
        for (; missing > 0 && at < stop && *at >= low && *at <= high; missing--) {
            c = c << 6 | (*at++ & 0x3F);
            low = 0x80, high = 0xBF;
        }
        *whole = missing == 0;
    }
    *cursor = (const char *)at;
    return *whole ? c : SRI_REPLACEMENT;
}

uint32_t sri_utf8_next(const char **cursor, const char *end) {
    bool whole;
    return next(cursor, end, &whole);
}

static const char *skip_ascii(const char *at, const char *end) {
    for (uint64_t word; end - at >= 8; at += 8) {
        memcpy(&word, at, 8);
        if ((word & 0x8080808080808080u) != 0) break;
    }
    while (at < end && (uint8_t)*at < 0x80) at++;
    return at;
}

/* The first byte from `at` that belongs to no character, or `end`. */
static const char *first_fault(const char *at, const char *end) {
    while ((at = skip_ascii(at, end)) < end) {
        const char *start = at;
        bool whole;
        next(&at, end, &whole);
        if (!whole) return start;
    }
    return end;
}

bool sri_utf8_valid(sr_str text, size_t *offset) {
    if (text.len == 0) return true;
    const char *end = text.data + text.len, *fault = first_fault(text.data, end);
    if (fault == end) return true;
    if (offset != NULL) *offset = (size_t)(fault - text.data);
    return false;
}

bool sri_utf8_append_valid(sri_buffer *buffer, sr_str text) {
    if (text.len == 0) return true;
    const char *at = text.data, *end = text.data + text.len;
    size_t before = buffer->len;
    while (at < end) {
        const char *fault = first_fault(at, end);
        bool fits = sri_buffer_append(buffer, at, (size_t)(fault - at));
        if (fault < end) {
            sri_utf8_next(&fault, end);
            fits = fits && sri_buffer_append(buffer, "\xEF\xBF\xBD", 3);
        }
        if (!fits) {
            buffer->len = before;
            return false;
        }
        at = fault;
    }
    return true;
}

/* Not the tokenizer's white space: str.isspace counts the separators U+001C to U+001F too. */
static bool is_space(uint32_t c) {
    return c == ' ' || (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x1F) || c == 0x85 ||
           c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool sri_text_blank(sr_str text) {
    const char *at = text.data;
    for (size_t left = text.len; left > 0; left = text.len - (size_t)(at - text.data))
        if (!is_space(sri_utf8_next(&at, text.data + text.len))) return false;
    return true;
}

size_t sri_utf8_put(uint32_t c, char *out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00u >> length) | c);
    return length;
}
