/*
 * escape.c - texts and numbers as CSV, JSON and YAML write them.
 *
 * Written here rather than left to Jansson and libyaml: every answer of `route` passes through, and a
 * tree of objects per answer would cost more than the answer.
 */
#include "io/io.h"

#include "text/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sri_append_csv(sri_buffer *buffer, sr_str text) {
    bool quoted = text.len > 0 && (text.data[0] == ' ' || text.data[text.len - 1] == ' ' ||
                                   text.data[0] == '\t' || text.data[text.len - 1] == '\t');
    for (size_t i = 0; i < text.len && !quoted; i++)
        quoted = strchr(",\"\r\n", text.data[i]) != NULL;
    if (!quoted) return sri_buffer_append(buffer, text.data, text.len);
    bool done = sri_buffer_append(buffer, "\"", 1);
    const char *at = text.data, *end = text.data + text.len;
    while (done && at < end) {
        const char *quote = memchr(at, '"', (size_t)(end - at));
        const char *stop = quote == NULL ? end : quote + 1;
        done = sri_buffer_append(buffer, at, (size_t)(stop - at)) &&
               (quote == NULL || sri_buffer_append(buffer, "\"", 1));
        at = stop;
    }
    return done && sri_buffer_append(buffer, "\"", 1);
}

/* The escape of an ASCII character in JSON and in YAML's double quotes, or NULL when it stands for itself. */
static const char *short_escape(unsigned char c) {
    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: return NULL;
    }
}

static bool append_ascii(sri_buffer *buffer, unsigned char c) {
    const char *escape = short_escape(c);
    return escape != NULL ? sri_buffer_append_str(buffer, escape)
                          : sri_buffer_format(buffer, "\\u%04x", c);
}

static bool append_json_body(sri_buffer *buffer, sr_str text) {
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) continue;
        if (!sri_buffer_append(buffer, text.data + from, i - from) || !append_ascii(buffer, c))
            return false;
        from = i + 1;
    }
    return from == text.len || sri_buffer_append(buffer, text.data + from, text.len - from);
}

bool sri_append_json(sri_buffer *buffer, sr_str text) {
    sri_buffer valid = {0};
    bool done = sri_buffer_append(buffer, "\"", 1);
    if (!sri_utf8_valid(text, NULL)) {
        done = done && sri_utf8_append_valid(&valid, text);
        text = (sr_str){valid.data, valid.len};
    }
    done = done && append_json_body(buffer, text) && sri_buffer_append(buffer, "\"", 1);
    sri_buffer_free(&valid);
    return done;
}

/* Whether libyaml would refuse the character as it is, or take it for a line break. */
static bool yaml_needs_escape(uint32_t c) {
    return c < 0x20 || c == '"' || c == '\\' || (c >= 0x7F && c < 0xA0) || c == 0x2028 ||
           c == 0x2029 || c == 0xFEFF || c == 0xFFFE || c == 0xFFFF;
}

bool sri_append_yaml(sri_buffer *buffer, sr_str text) {
    bool done = sri_buffer_append(buffer, "\"", 1);
    const char *at = text.data, *end = text.data + text.len;
    while (done && at < end) {
        const char *start = at;
        uint32_t c = sri_utf8_next(&at, end);
        if (!yaml_needs_escape(c))
            done = sri_buffer_append(buffer, start, (size_t)(at - start));
        else if (c < 0x7F)
            done = append_ascii(buffer, (unsigned char)c);
        else
            done = sri_buffer_format(buffer, "\\u%04X", (unsigned)c);
    }
    return done && sri_buffer_append(buffer, "\"", 1);
}

bool sri_append_number(sri_buffer *buffer, double number) {
    if (isnan(number)) return sri_buffer_append_str(buffer, "null");
    if (!(fabs(number) < 1e9)) return sri_append_exact(buffer, number);
    char text[32], *end = text + sizeof text, *at = end;
    bool negative = number < 0;
    uint64_t scaled = (uint64_t)(fabs(number) * 1e7 + 0.5), whole = scaled / 10000000;
    uint64_t fraction = scaled % 10000000;
    negative = negative && scaled > 0;
    if (fraction > 0) {
        int digits = 7;
        for (; fraction % 10 == 0; fraction /= 10) digits--;
        for (; digits > 0; digits--, fraction /= 10) *--at = (char)('0' + fraction % 10);
        *--at = '.';
    }
    do *--at = (char)('0' + whole % 10);
    while ((whole /= 10) > 0);
    if (negative) *--at = '-';
    return sri_buffer_append(buffer, at, (size_t)(end - at));
}

bool sri_append_exact(sri_buffer *buffer, double number) {
    if (!isfinite(number)) return sri_buffer_append_str(buffer, "null");
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    return sri_buffer_append_str(buffer, text);
}
