/*
 * escape.c - texts as CSV and YAML write them; JSON is text/json_write.c's.
 */
#include "io/io.h"

#include "text/text.h"

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
            done = sri_append_escaped(buffer, (unsigned char)c);
        else
            done = sri_buffer_format(buffer, "\\u%04X", (unsigned)c);
    }
    return done && sri_buffer_append(buffer, "\"", 1);
}
