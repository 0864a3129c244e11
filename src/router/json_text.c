/* json_text.c - a scanner of JSON text; see json_text.h. */
#include "router/json_text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t string_length(sr_str text) {
    size_t len = 1;
    while (len < text.len && text.data[len] != '"') len += text.data[len] == '\\' ? 2 : 1;
    return SRI_MIN(len + 1, text.len);
}

bool sri_json_token(sr_str *rest, sr_str *token) {
    while (rest->len > 0 && is_space(*rest->data)) *rest = (sr_str){rest->data + 1, rest->len - 1};
    if (rest->len == 0) return false;
    size_t len = 1;
    if (*rest->data == '"')
        len = string_length(*rest);
    else if (memchr("{}[],:", *rest->data, 6) == NULL)
        while (len < rest->len && !is_space(rest->data[len]) &&
               memchr("{}[],:\"", rest->data[len], 7) == NULL)
            len++;
    *token = (sr_str){rest->data, len};
    *rest = (sr_str){rest->data + len, rest->len - len};
    return true;
}

sr_str sri_json_value(sr_str *rest) {
    sr_str token, value = {rest->data, 0};
    size_t depth = 0;
    while (sri_json_token(rest, &token)) {
        if (value.len == 0) value.data = token.data;
        value.len = (size_t)(rest->data - value.data);
        depth += *token.data == '{' || *token.data == '[';
        depth -= depth > 0 && (*token.data == '}' || *token.data == ']');
        if (depth == 0) break;
    }
    return value;
}

/* The same character can be escaped in several ways; Jansson writes one. */
static bool append_string(sri_buffer *buffer, sr_str token) {
    if (memchr(token.data, '\\', token.len) == NULL)
        return sri_buffer_append(buffer, token.data, token.len);
    json_t *value = json_loadb(token.data, token.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY);
    bool done = text != NULL && sri_buffer_append_str(buffer, text);
    free(text);
    json_decref(value);
    return done;
}

bool sri_json_compact(sri_buffer *buffer, sr_str json) {
    sr_str token;
    bool done = true;
    while (done && sri_json_token(&json, &token))
        done = *token.data == '"' ? append_string(buffer, token)
                                  : sri_buffer_append(buffer, token.data, token.len);
    return done;
}
