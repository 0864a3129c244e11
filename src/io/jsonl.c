/*
 * jsonl.c - JSON Lines: one object a line, either a labelled text {"text", "route"} or a whole route
 * {"route" (or "name"), "utterances": [...], "threshold", "confidence", "description", "metadata"}.
 *
 * Several lines may name one route, which then has the utterances of all. Metadata is taken from the line as
 * text, not from the parsed object, so that its numbers stay as they are written.
 *
 * A labelled text may have other members, which data sets often do; a route may not, because there an
 * unknown member is a misspelt setting.
 */
#include "io/io_int.h"

#include "router/json_text.h"

#include <jansson.h>
#include <string.h>

typedef struct line_reader {
    const sri_reader *reader;
    json_t *object;
    sr_str text; /* of the object */
    size_t line;
} line_reader;

static sr_str string_of(const json_t *value) {
    return (sr_str){json_string_value(value), json_string_length(value)};
}

static sr_status add_text(const line_reader *in, const json_t *value, uint32_t label) {
    sr_str copy = sri_arena_copy(&in->reader->rows->arena, string_of(value));
    if (copy.data == NULL) return sri_fail_memory(in->reader->error);
    return sri_reader_text(in->reader, copy, in->line, label);
}

static sr_status wrong(const line_reader *in, const char *member, const char *should) {
    return sri_reader_fail(in->reader, SR_ERR_FORMAT, in->line, "\"%s\" must be %s", member,
                           should);
}

static sr_status read_utterances(const line_reader *in, const json_t *list, uint32_t label) {
    size_t i;
    json_t *item;
    if (!json_is_array(list)) return wrong(in, "utterances", "a list of strings");
    json_array_foreach(list, i, item) {
        if (!json_is_string(item)) return wrong(in, "utterances", "a list of strings");
        sr_status code = add_text(in, item, label);
        if (code != SR_OK) return code;
    }
    return SR_OK;
}

static sr_status read_threshold(const line_reader *in, const json_t *value, sr_threshold_kind kind,
                                uint32_t label) {
    const char *member = kind == SR_THRESHOLD_COSINE ? "threshold" : "confidence";
    sr_threshold threshold = {kind, 0};
    if (json_is_number(value))
        threshold.value = json_number_value(value);
    else if (json_is_string(value) && strcmp(json_string_value(value), "auto") == 0)
        threshold.kind = SR_THRESHOLD_AUTO;
    else
        return wrong(in, member, "a number or \"auto\"");
    return sri_reader_threshold(in->reader, label, threshold, in->line);
}

/* The text of the object's member `number`: Jansson hands members out in their order. */
static sr_str member_text(const line_reader *in, size_t number) {
    sr_str rest = in->text, token, value = {NULL, 0};
    for (size_t i = 0; i <= number; i++) {
        sri_json_token(&rest, &token); /* the bracket, or a comma */
        sri_json_token(&rest, &token); /* the name */
        sri_json_token(&rest, &token); /* the colon */
        value = sri_json_value(&rest);
    }
    return value;
}

static sr_status read_member(const line_reader *in, const char *key, const json_t *value,
                             size_t number, uint32_t label) {
    if (strcmp(key, "route") == 0 || strcmp(key, "name") == 0 ||
        strcmp(key, "utterance_count") == 0 || strcmp(key, "revision") == 0)
        return SR_OK;
    if (strcmp(key, "utterances") == 0) return read_utterances(in, value, label);
    if (strcmp(key, "threshold") == 0) return read_threshold(in, value, SR_THRESHOLD_COSINE, label);
    if (strcmp(key, "confidence") == 0)
        return read_threshold(in, value, SR_THRESHOLD_CONFIDENCE, label);
    if (strcmp(key, "metadata") == 0)
        return sri_reader_metadata(in->reader, label, member_text(in, number), in->line);
    if (strcmp(key, "description") != 0)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, in->line,
                               "a route has no \"%s\" (it has route, utterances, threshold, "
                               "confidence, description, metadata)",
                               key);
    if (!json_is_string(value)) return wrong(in, key, "a string");
    return sri_reader_description(in->reader, label, string_of(value), in->line);
}

static sr_status read_route(const line_reader *in) {
    const json_t *name = json_object_get(in->object, "route");
    if (name == NULL) name = json_object_get(in->object, "name");
    if (name == NULL)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, in->line,
                               "neither a labelled text (\"text\" and \"route\") nor a route "
                               "(\"route\" and \"utterances\")");
    if (!json_is_string(name)) return wrong(in, "route", "a string");
    if (json_object_get(in->object, "threshold") != NULL &&
        json_object_get(in->object, "confidence") != NULL)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, in->line,
                               "give \"threshold\" or \"confidence\", not both");
    uint32_t label;
    sr_status code = sri_reader_label(in->reader, string_of(name), in->line, &label);
    const char *key;
    json_t *value;
    size_t number = 0;
    json_object_foreach(in->object, key, value) {
        if (code == SR_OK) code = read_member(in, key, value, number++, label);
    }
    return code;
}

static sr_status read_labelled(const line_reader *in, const json_t *text, const char *text_key) {
    const sri_read_options *options = in->reader->options;
    const char *route_key = options->route_column == NULL ? "route" : options->route_column;
    const json_t *route = json_object_get(in->object, route_key);
    if (!json_is_string(text)) return wrong(in, text_key, "a string");
    if (route == NULL)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, in->line,
                               "there is no \"%s\"; name its member with --route-column",
                               route_key);
    if (!json_is_string(route)) return wrong(in, route_key, "a string");
    uint32_t label;
    sr_status code = sri_reader_label(in->reader, string_of(route), in->line, &label);
    return code == SR_OK ? add_text(in, text, label) : code;
}

static sr_status read_line(const sri_reader *reader, const char *data, size_t len, size_t line) {
    json_error_t fault;
    if (len > SRI_MAX_JSON_LINE_BYTES)
        return sri_reader_fail(reader, SR_ERR_LIMIT, line,
                               "the line is %zu bytes long; the maximum is %zu: give a route's "
                               "utterances in several lines",
                               len, SRI_MAX_JSON_LINE_BYTES);
    line_reader in = {.reader = reader, .text = {data, len}, .line = line};
    in.object = json_loadb(
        data, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &fault);
    if (in.object == NULL)
        return sri_reader_fail(reader, SR_ERR_FORMAT, line, "not JSON, at column %d: %s",
                               fault.column, fault.text);
    sr_status code;
    const char *text_key = reader->options->text_column;
    if (text_key == NULL) text_key = "text";
    if (!json_is_object(in.object)) {
        code = sri_reader_fail(reader, SR_ERR_FORMAT, line,
                               "not a JSON object; each line must be one");
    } else {
        const json_t *text = json_object_get(in.object, text_key);
        code = text != NULL ? read_labelled(&in, text, text_key) : read_route(&in);
    }
    json_decref(in.object);
    return code;
}

static bool is_blank(const char *data, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (data[i] != ' ' && data[i] != '\t' && data[i] != '\r') return false;
    return true;
}

sr_status sri_read_jsonl(const sri_reader *reader, size_t start) {
    const sri_buffer *bytes = &reader->rows->bytes;
    const char *at = bytes->data + start, *end = bytes->data + bytes->len;
    for (size_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        size_t len = (size_t)(stop - at);
        sr_status code = is_blank(at, len) ? SR_OK : read_line(reader, at, len, line);
        if (code != SR_OK) return code;
        at = stop == end ? end : stop + 1;
    }
    return SR_OK;
}
