/*
 * json_write.c - texts and numbers as JSON writes them.
 *
 * Written here rather than left to Jansson: every answer of `route` passes through, and a tree of objects
 * per answer would cost more than the answer.
 */
#include "text/json_write.h"

#include "text/text.h"

#include <math.h>
#include <stdlib.h>

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

bool sri_append_escaped(sri_buffer *buffer, unsigned char c) {
    const char *escape = short_escape(c);
    return escape != NULL ? sri_buffer_append_str(buffer, escape)
                          : sri_buffer_format(buffer, "\\u%04x", c);
}

static bool append_json_body(sri_buffer *buffer, sr_str text) {
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) continue;
        if (!sri_buffer_append(buffer, text.data + from, i - from) ||
            !sri_append_escaped(buffer, c))
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
