/*
 * yaml_read.c - route tables in YAML:
 *
 *     routes:
 *       - name: refund
 *         description: wants money back      # optional, as are the next two
 *         threshold: 0.6                     # a cosine, or "auto"; or confidence: 0.9
 *         metadata: {team: billing}
 *         utterances: [I want a refund, ...]
 *
 * Read from libyaml's events, so that every message has its line and nothing is held twice. Aliases are
 * refused: route tables do not need them, and a few hundred bytes of nested ones expand to gigabytes.
 * Plain scalars in metadata are typed as YAML 1.2's core schema has it (so `no` is a string). Metadata is written
 * as JSON text at once: a tree would take many times its size, and change the digits of numbers.
 */
#include "io/io_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAX_DEPTH 200

typedef struct yaml_reader {
    const sri_reader *reader;
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
} yaml_reader;

static size_t line_of(const yaml_reader *in) { return in->event.start_mark.line + 1; }

static sr_status fail_here(const yaml_reader *in, const char *what) {
    return sri_reader_fail(in->reader, SR_ERR_FORMAT, line_of(in), "%s", what);
}

static sr_status next(yaml_reader *in) {
    if (in->has_event) yaml_event_delete(&in->event);
    in->has_event = yaml_parser_parse(&in->parser, &in->event) != 0;
    if (!in->has_event) {
        const yaml_parser_t *parser = &in->parser;
        if (parser->error == YAML_MEMORY_ERROR) return sri_fail_memory(in->reader->error);
        /* A reader error (not UTF-8) knows the offset only. */
        bool marked = parser->error != YAML_READER_ERROR;
        size_t line = parser->problem_mark.line + 1;
        const sri_buffer *bytes = &in->reader->rows->bytes;
        if (!marked) {
            line = 1;
            for (size_t i = 0; i < parser->problem_offset && i < bytes->len; i++)
                line += bytes->data[i] == '\n';
        }
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, line, "not YAML: %s%s%s",
                               parser->context == NULL ? "" : parser->context,
                               parser->context == NULL ? "" : ", ",
                               parser->problem == NULL ? "unreadable" : parser->problem);
    }
    if (in->event.type == YAML_ALIAS_EVENT)
        return fail_here(in, "aliases (*name) are not read; write the value out");
    return SR_OK;
}

static sr_str scalar_of(const yaml_reader *in) {
    return (sr_str){(const char *)in->event.data.scalar.value, in->event.data.scalar.length};
}

static bool is_plain(const yaml_reader *in) {
    return in->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static sr_status expect_scalar(yaml_reader *in, const char *what) {
    sr_status code = next(in);
    if (code != SR_OK || in->event.type == YAML_SCALAR_EVENT) return code;
    return sri_reader_fail(in->reader, SR_ERR_FORMAT, line_of(in), "%s must be a single value",
                           what);
}

/* ---- Metadata: any value, as JSON text -------------------------------------------------------------- */

/* Whether `text` is a number as JSON writes it, so that strtod() and JSON agree on it. */
static bool is_json_number(const char *text) {
    const char *c = text + (*text == '-');
    size_t digits = strspn(c, "0123456789");
    if (digits == 0 || (digits > 1 && *c == '0')) return false;
    c += digits;
    if (*c == '.') {
        digits = strspn(++c, "0123456789");
        if (digits == 0) return false;
        c += digits;
    }
    if (*c == 'e' || *c == 'E') {
        c++;
        c += *c == '+' || *c == '-';
        digits = strspn(c, "0123456789");
        if (digits == 0) return false;
        c += digits;
    }
    return *c == '\0';
}

static sr_status check_length(const yaml_reader *in, size_t len) {
    if (len <= SR_MAX_METADATA_BYTES) return SR_OK;
    return sri_reader_fail(in->reader, SR_ERR_LIMIT, line_of(in),
                           "the metadata is longer than %d bytes, the maximum",
                           SR_MAX_METADATA_BYTES);
}

static sr_status put(const yaml_reader *in, sri_buffer *json, const char *text) {
    return sri_buffer_append_str(json, text) ? check_length(in, json->len)
                                             : sri_fail_memory(in->reader->error);
}

static sr_status put_string(const yaml_reader *in, sri_buffer *json) {
    sr_str text = scalar_of(in);
    sr_status code = check_length(in, json->len + text.len);
    if (code != SR_OK) return code;
    if (memchr(text.data, '\0', text.len) != NULL)
        return fail_here(in, "a NUL character; remove it");
    return sri_append_json(json, text) ? check_length(in, json->len)
                                       : sri_fail_memory(in->reader->error);
}

static sr_status put_scalar(const yaml_reader *in, sri_buffer *json) {
    sr_str text = scalar_of(in);
    if (!is_plain(in)) return put_string(in, json);
    if (text.len == 0 || strcmp(text.data, "null") == 0 || strcmp(text.data, "~") == 0)
        return put(in, json, "null");
    if (strcmp(text.data, "true") == 0 || strcmp(text.data, "false") == 0)
        return put(in, json, text.data);
    if (strlen(text.data) != text.len || !is_json_number(text.data)) return put_string(in, json);
    if (isinf(strtod(text.data, NULL)))
        return fail_here(in, "a number is too large to be kept; put it in quotes");
    return put(in, json, text.data);
}

static sr_status put_value(yaml_reader *in, int depth, sri_buffer *json);

static sr_status put_list(yaml_reader *in, int depth, sri_buffer *json) {
    sr_status code = put(in, json, "[");
    for (const char *comma = "";; comma = ",") {
        if (code == SR_OK) code = next(in);
        if (code != SR_OK) return code;
        if (in->event.type == YAML_SEQUENCE_END_EVENT) return put(in, json, "]");
        code = put(in, json, comma);
        if (code == SR_OK) code = put_value(in, depth, json);
    }
}

/* Enters the current event as a key; `seen` holds those of the same object. */
static sr_status put_key(yaml_reader *in, sri_map *seen, sri_buffer *json) {
    if (in->event.type != YAML_SCALAR_EVENT) return fail_here(in, "a key must be a single value");
    sr_str key = scalar_of(in);
    if (sri_map_get(seen, key, NULL))
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, line_of(in),
                               "the key \"%.60s\" stands here twice", key.data);
    sr_status code = put_string(in, json);
    if (code != SR_OK) return code;
    sr_str copy = sri_arena_copy(&in->reader->rows->arena, key);
    if (copy.data == NULL || !sri_map_put(seen, copy, 1)) return sri_fail_memory(in->reader->error);
    return put(in, json, ":");
}

static sr_status put_members(yaml_reader *in, int depth, sri_map *seen, sri_buffer *json) {
    sr_status code = put(in, json, "{");
    for (const char *comma = "";; comma = ",") {
        if (code == SR_OK) code = next(in);
        if (code != SR_OK) return code;
        if (in->event.type == YAML_MAPPING_END_EVENT) return put(in, json, "}");
        code = put(in, json, comma);
        if (code == SR_OK) code = put_key(in, seen, json);
        if (code == SR_OK) code = next(in);
        if (code == SR_OK) code = put_value(in, depth, json);
    }
}

/* Appends the value that begins with the current event. */
static sr_status put_value(yaml_reader *in, int depth, sri_buffer *json) {
    if (in->event.type == YAML_SCALAR_EVENT) return put_scalar(in, json);
    if (depth == MAX_DEPTH) return fail_here(in, "nested too deeply");
    if (in->event.type == YAML_SEQUENCE_START_EVENT) return put_list(in, depth + 1, json);
    sri_map seen = {0};
    sr_status code = put_members(in, depth + 1, &seen, json);
    sri_map_free(&seen);
    return code;
}

/* ---- Routes ------------------------------------------------------------------------------------ */

enum field { NAME, DESCRIPTION, THRESHOLD, CONFIDENCE, METADATA, UTTERANCES, FIELDS };
static const char *const field_names[FIELDS] = {"name",       "description", "threshold",
                                                "confidence", "metadata",    "utterances"};

/* A route before its name is known: keys may stand in any order. */
typedef struct draft {
    size_t line;
    size_t lines[FIELDS]; /* 0: not given */
    char *name, *description;
    size_t name_len, description_len;
    sri_buffer metadata; /* as JSON */
    sr_threshold threshold;
    sr_str *texts;
    size_t *text_lines;
    size_t count, capacity, line_capacity;
} draft;

static void free_draft(draft *route) {
    sri_free(route->name);
    sri_free(route->description);
    sri_buffer_free(&route->metadata);
    sri_free(route->texts);
    sri_free(route->text_lines);
}

static sr_status read_string(yaml_reader *in, const char *what, char **text, size_t *len) {
    sr_status code = expect_scalar(in, what);
    if (code != SR_OK) return code;
    *text = sri_strdup(scalar_of(in));
    *len = scalar_of(in).len;
    return *text == NULL ? sri_fail_memory(in->reader->error) : SR_OK;
}

static sr_status read_threshold(yaml_reader *in, enum field field, sr_threshold *threshold) {
    sr_status code = expect_scalar(in, field_names[field]);
    if (code != SR_OK) return code;
    sr_str text = scalar_of(in);
    *threshold =
        (sr_threshold){field == THRESHOLD ? SR_THRESHOLD_COSINE : SR_THRESHOLD_CONFIDENCE, 0};
    if (strcmp(text.data, "auto") == 0) {
        threshold->kind = SR_THRESHOLD_AUTO;
        return SR_OK;
    }
    char *end;
    threshold->value = strtod(text.data, &end);
    if (text.len > 0 && end == text.data + text.len) return SR_OK;
    return sri_reader_fail(in->reader, SR_ERR_FORMAT, line_of(in),
                           "%s must be a number or \"auto\", not \"%.60s\"", field_names[field],
                           text.data);
}

static sr_status read_metadata(yaml_reader *in, draft *route) {
    sr_status code = next(in);
    return code == SR_OK ? put_value(in, 0, &route->metadata) : code;
}

static sr_status add_utterance(yaml_reader *in, draft *route) {
    if (in->event.type != YAML_SCALAR_EVENT)
        return fail_here(in, "an utterance must be a text; put texts with \": \" in quotes");
    void *texts = route->texts, *lines = route->text_lines;
    bool room = sri_grow(&texts, &route->capacity, route->count + 1, sizeof(sr_str));
    route->texts = texts;
    room = room && sri_grow(&lines, &route->line_capacity, route->count + 1, sizeof(size_t));
    route->text_lines = lines;
    sr_str copy = {NULL, 0};
    if (room) copy = sri_arena_copy(&in->reader->rows->arena, scalar_of(in));
    if (copy.data == NULL) return sri_fail_memory(in->reader->error);
    route->texts[route->count] = copy;
    route->text_lines[route->count++] = line_of(in);
    return SR_OK;
}

static sr_status read_utterances(yaml_reader *in, draft *route) {
    sr_status code = next(in);
    if (code != SR_OK) return code;
    if (in->event.type != YAML_SEQUENCE_START_EVENT)
        return fail_here(in, "utterances must be a list of texts");
    for (;;) {
        code = next(in);
        if (code != SR_OK || in->event.type == YAML_SEQUENCE_END_EVENT) return code;
        code = add_utterance(in, route);
        if (code != SR_OK) return code;
    }
}

static sr_status read_field(yaml_reader *in, enum field field, draft *route) {
    switch (field) {
    case NAME: return read_string(in, "name", &route->name, &route->name_len);
    case DESCRIPTION:
        return read_string(in, "description", &route->description, &route->description_len);
    case THRESHOLD:
    case CONFIDENCE: return read_threshold(in, field, &route->threshold);
    case METADATA: return read_metadata(in, route);
    default: return read_utterances(in, route);
    }
}

/* Reads the key at the current event and its value. */
static sr_status read_member(yaml_reader *in, draft *route) {
    if (in->event.type != YAML_SCALAR_EVENT) return fail_here(in, "a key must be a single value");
    enum field field = NAME;
    while (field < FIELDS && !sri_str_equal(scalar_of(in), sr_str_of(field_names[field]))) field++;
    if (field == FIELDS)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, line_of(in),
                               "a route has no \"%.60s\" (it has name, description, threshold, "
                               "confidence, metadata, utterances)",
                               scalar_of(in).data);
    if (route->lines[field] != 0)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, line_of(in),
                               "the key \"%s\" stands here twice", field_names[field]);
    route->lines[field] = line_of(in);
    if (route->lines[THRESHOLD] != 0 && route->lines[CONFIDENCE] != 0)
        return fail_here(in, "give threshold or confidence, not both");
    return read_field(in, field, route);
}

static sr_status keep_route(const yaml_reader *in, const draft *route) {
    const sri_reader *reader = in->reader;
    uint32_t label;
    if (route->name == NULL)
        return sri_reader_fail(reader, SR_ERR_FORMAT, route->line, "the route has no name");
    sr_str name = {route->name, route->name_len};
    uint64_t found;
    if (sri_map_get(&reader->rows->index, name, &found))
        return sri_reader_fail(reader, SR_ERR_FORMAT, route->lines[NAME],
                               "the route \"%s\" stands already in line %zu", route->name,
                               reader->rows->labels[found].line);
    sr_status code = sri_reader_label(reader, name, route->lines[NAME], &label);
    if (code == SR_OK && route->description != NULL)
        code = sri_reader_description(reader, label,
                                      (sr_str){route->description, route->description_len},
                                      route->lines[DESCRIPTION]);
    if (code == SR_OK && route->lines[METADATA] != 0)
        code =
            sri_reader_metadata(reader, label, (sr_str){route->metadata.data, route->metadata.len},
                                route->lines[METADATA]);
    size_t line = SRI_MAX(route->lines[THRESHOLD], route->lines[CONFIDENCE]);
    if (code == SR_OK && line != 0)
        code = sri_reader_threshold(reader, label, route->threshold, line);
    for (size_t i = 0; code == SR_OK && i < route->count; i++)
        code = sri_reader_text(reader, route->texts[i], route->text_lines[i], label);
    return code;
}

static sr_status read_route(yaml_reader *in) {
    if (in->event.type != YAML_MAPPING_START_EVENT)
        return fail_here(in, "a route must be a mapping with name and utterances");
    draft route = {.line = line_of(in)};
    sr_status code;
    while ((code = next(in)) == SR_OK && in->event.type != YAML_MAPPING_END_EVENT) {
        code = read_member(in, &route);
        if (code != SR_OK) break;
    }
    if (code == SR_OK) code = keep_route(in, &route);
    free_draft(&route);
    return code;
}

static sr_status read_routes(yaml_reader *in) {
    sr_status code = next(in);
    if (code != SR_OK) return code;
    if (in->event.type != YAML_SEQUENCE_START_EVENT)
        return fail_here(in, "routes must be a list of routes");
    for (;;) {
        code = next(in);
        if (code != SR_OK || in->event.type == YAML_SEQUENCE_END_EVENT) return code;
        code = read_route(in);
        if (code != SR_OK) return code;
    }
}

static sr_status read_top(yaml_reader *in) {
    static const char *const hint = "the file must be a mapping with the one key \"routes\"";
    bool seen = false;
    if (in->event.type != YAML_MAPPING_START_EVENT) return fail_here(in, hint);
    for (;;) {
        sr_status code = next(in);
        if (code != SR_OK) return code;
        if (in->event.type == YAML_MAPPING_END_EVENT) return seen ? SR_OK : fail_here(in, hint);
        if (in->event.type != YAML_SCALAR_EVENT ||
            !sri_str_equal(scalar_of(in), sr_str_of("routes")))
            return fail_here(in, hint);
        if (seen) return fail_here(in, "the key \"routes\" stands here twice");
        seen = true;
        code = read_routes(in);
        if (code != SR_OK) return code;
    }
}

static sr_status read_stream(yaml_reader *in) {
    sr_status code = next(in);          /* the stream begins */
    if (code == SR_OK) code = next(in); /* a document */
    if (code != SR_OK) return code;
    if (in->event.type == YAML_STREAM_END_EVENT)
        return sri_reader_fail(in->reader, SR_ERR_FORMAT, 0, "the file is empty");
    code = next(in);
    if (code == SR_OK) code = read_top(in);
    if (code == SR_OK) code = next(in); /* the document ends */
    if (code == SR_OK) code = next(in);
    if (code != SR_OK || in->event.type == YAML_STREAM_END_EVENT) return code;
    return fail_here(in, "a second document begins here; put all routes in one");
}

sr_status sri_read_yaml(const sri_reader *reader, size_t start) {
    const sri_buffer *bytes = &reader->rows->bytes;
    yaml_reader in = {.reader = reader};
    if (yaml_parser_initialize(&in.parser) == 0) return sri_fail_memory(reader->error);
    yaml_parser_set_encoding(&in.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&in.parser, (const unsigned char *)bytes->data + start,
                                 bytes->len - start);
    sr_status code = read_stream(&in);
    if (in.has_event) yaml_event_delete(&in.event);
    yaml_parser_delete(&in.parser);
    return code;
}
