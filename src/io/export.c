/*
 * export.c - a route table as CSV, JSON Lines or YAML.
 *
 * JSON Lines and YAML hold everything and give the same table back; CSV holds texts and names only, and
 * the caller learns what it left out.
 */
#include "io/io.h"

#include "router/json_text.h"

#include <jansson.h>
#include <string.h>

#define MAX_YAML_DEPTH 200 /* as deep as yaml_read.c reads */

static bool append_threshold(sri_buffer *buffer, sr_threshold threshold, const char *cosine,
                             const char *confidence) {
    if (threshold.kind == SR_THRESHOLD_AUTO) return true;
    return sri_buffer_append_str(buffer,
                                 threshold.kind == SR_THRESHOLD_COSINE ? cosine : confidence) &&
           sri_append_exact(buffer, threshold.value);
}

static bool is_json(sr_str metadata) {
    json_t *value =
        json_loadb(metadata.data, metadata.len, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(value);
    return value != NULL;
}

/* ---- JSON -------------------------------------------------------------------------------------- */

/* Metadata as it is stored; a database that others have written may hold what is not JSON, or is on
 * several lines. */
static bool append_metadata_json(sri_buffer *buffer, sr_str metadata) {
    return is_json(metadata) ? sri_json_compact(buffer, metadata)
                             : sri_append_json(buffer, metadata);
}

static bool append_utterances_json(sri_buffer *buffer, const sr_route_view *route) {
    bool done = sri_buffer_append_str(buffer, ",\"utterances\":[");
    for (size_t i = 0; done && i < route->utterance_count; i++)
        done = (i == 0 || sri_buffer_append(buffer, ",", 1)) &&
               sri_append_json(buffer, route->utterances[i]);
    return done && sri_buffer_append(buffer, "]", 1);
}

/* All but the utterances, and the closing bracket. */
static bool append_settings_json(sri_buffer *buffer, const sr_route_view *route) {
    bool done =
        sri_buffer_append_str(buffer, "{\"route\":") && sri_append_json(buffer, route->name);
    if (done && route->description.len > 0)
        done = sri_buffer_append_str(buffer, ",\"description\":") &&
               sri_append_json(buffer, route->description);
    done =
        done && append_threshold(buffer, route->threshold, ",\"threshold\":", ",\"confidence\":");
    if (done && route->metadata.len > 0)
        done = sri_buffer_append_str(buffer, ",\"metadata\":") &&
               append_metadata_json(buffer, route->metadata);
    return done;
}

bool sri_route_append_json(sri_buffer *buffer, const sr_route_view *route, bool utterances) {
    bool done = append_settings_json(buffer, route);
    if (done && utterances && (route->utterances != NULL || route->utterance_count == 0))
        done = append_utterances_json(buffer, route);
    else
        done =
            done && sri_buffer_format(buffer, ",\"utterance_count\":%zu", route->utterance_count);
    return done && sri_buffer_append(buffer, "}", 1);
}

/* The route in as many lines as it needs, so that none is longer than what is read. Six bytes are the most
 * that an escaped byte takes. */
static bool append_lines_json(sri_buffer *buffer, const sr_route_view *route) {
    static const char list[] = ",\"utterances\":[", end[] = "]}\n";
    size_t start = buffer->len;
    bool done = append_settings_json(buffer, route) && sri_buffer_append_str(buffer, list);
    const char *comma = "";
    for (size_t i = 0; done && i < route->utterance_count; i++) {
        size_t most = 6 * route->utterances[i].len + sizeof end + 3;
        if (buffer->len - start + most > SRI_MAX_JSON_LINE_BYTES) {
            done = sri_buffer_append_str(buffer, end);
            start = buffer->len;
            done = done && sri_buffer_append_str(buffer, "{\"route\":") &&
                   sri_append_json(buffer, route->name) && sri_buffer_append_str(buffer, list);
            comma = "";
        }
        done = done && sri_buffer_append_str(buffer, comma) &&
               sri_append_json(buffer, route->utterances[i]);
        comma = ",";
    }
    return done && sri_buffer_append_str(buffer, end);
}

/* ---- YAML -------------------------------------------------------------------------------------- */

/* libyaml gives up on a key of more than 1,024 bytes that is not announced by a question mark. */
static const char *key_mark(sr_str string, sr_str rest) {
    sr_str after;
    bool key = sri_json_token(&rest, &after) && *after.data == ':';
    return key && string.len > 128 ? "? " : "";
}

static bool append_string_yaml(sri_buffer *buffer, sr_str token, sr_str rest) {
    json_t *value = json_loadb(token.data, token.len, JSON_DECODE_ANY, NULL);
    sr_str string = {json_string_value(value), json_string_length(value)};
    bool done = value != NULL && sri_buffer_append_str(buffer, key_mark(string, rest)) &&
                sri_append_yaml(buffer, string);
    json_decref(value);
    return done;
}

/* JSON is YAML but for the escapes in strings and the space that a colon needs. */
static bool append_metadata_yaml(sri_buffer *buffer, sr_str metadata) {
    bool done = sri_buffer_append_str(buffer, "    metadata: ");
    if (!is_json(metadata))
        return done && sri_append_yaml(buffer, metadata) && sri_buffer_append(buffer, "\n", 1);
    sr_str token;
    while (done && sri_json_token(&metadata, &token)) {
        bool space = *token.data == ':' || *token.data == ',';
        done = *token.data == '"' ? append_string_yaml(buffer, token, metadata)
                                  : sri_buffer_append(buffer, token.data, token.len) &&
                                        sri_buffer_append_str(buffer, space ? " " : "");
    }
    return done && sri_buffer_append(buffer, "\n", 1);
}

static bool append_route_yaml(sri_buffer *buffer, const sr_route_view *route) {
    bool done = sri_buffer_append_str(buffer, "  - name: ") &&
                sri_append_yaml(buffer, route->name) && sri_buffer_append(buffer, "\n", 1);
    if (done && route->description.len > 0)
        done = sri_buffer_append_str(buffer, "    description: ") &&
               sri_append_yaml(buffer, route->description) && sri_buffer_append(buffer, "\n", 1);
    if (done && route->threshold.kind != SR_THRESHOLD_AUTO)
        done = append_threshold(buffer, route->threshold, "    threshold: ", "    confidence: ") &&
               sri_buffer_append(buffer, "\n", 1);
    if (done && route->metadata.len > 0) done = append_metadata_yaml(buffer, route->metadata);
    done =
        done && sri_buffer_append_str(buffer, route->utterance_count == 0 ? "    utterances: []\n"
                                                                          : "    utterances:\n");
    for (size_t i = 0; done && i < route->utterance_count; i++)
        done = sri_buffer_append_str(buffer, "      - ") &&
               sri_append_yaml(buffer, route->utterances[i]) && sri_buffer_append(buffer, "\n", 1);
    return done;
}

/* ---- Any --------------------------------------------------------------------------------------- */

static bool append_route_csv(sri_buffer *buffer, const sr_route_view *route,
                             sri_export_loss *loss) {
    loss->settings += route->threshold.kind != SR_THRESHOLD_AUTO || route->description.len > 0 ||
                      route->metadata.len > 0;
    loss->empty += route->utterance_count == 0;
    bool done = true;
    for (size_t i = 0; done && i < route->utterance_count; i++)
        done = sri_append_csv(buffer, route->utterances[i]) && sri_buffer_append(buffer, ",", 1) &&
               sri_append_csv(buffer, route->name) && sri_buffer_append(buffer, "\n", 1);
    return done;
}

static bool append_route(sri_buffer *buffer, const sr_route_view *route, sri_format format,
                         sri_export_loss *loss) {
    switch (format) {
    case SRI_FORMAT_CSV: return append_route_csv(buffer, route, loss);
    case SRI_FORMAT_YAML: return append_route_yaml(buffer, route);
    default: return append_lines_json(buffer, route);
    }
}

static sr_status check_depth(const sr_route_view *route, sr_error *error) {
    sr_str rest = route->metadata, token;
    int depth = 0, deepest = 0;
    while (sri_json_token(&rest, &token)) {
        depth += *token.data == '{' || *token.data == '[';
        depth -= *token.data == '}' || *token.data == ']';
        deepest = SRI_MAX(deepest, depth);
    }
    if (deepest <= MAX_YAML_DEPTH) return SR_OK;
    return sri_fail(error, SR_ERR_LIMIT, NULL,
                    "the metadata of \"%.*s\" is nested too deeply for YAML; export as JSON Lines",
                    (int)SRI_MIN(route->name.len, 200), route->name.data);
}

static sr_status export_route(const sr_route_view *route, sri_format format, sri_outfile *file,
                              sri_buffer *buffer, sri_export_loss *loss, sr_error *error) {
    sr_status code = SR_OK;
    if (format == SRI_FORMAT_YAML && route->metadata.len > 0) code = check_depth(route, error);
    if (code != SR_OK) return code;
    buffer->len = 0;
    if (!append_route(buffer, route, format, loss)) return sri_fail_memory(error);
    return sri_outfile_write(file, buffer->data, buffer->len, error);
}

static sr_status check_label(const sr_table *table, sr_str label, sr_error *error) {
    for (size_t i = 0; i < sr_table_count(table); i++)
        if (sri_str_equal(sr_table_route(table, i)->name, label))
            return sri_fail(error, SR_ERR_INVALID, "oos_label",
                            "the table has a route called \"%.*s\", so that it cannot be the label "
                            "of out-of-scope examples",
                            (int)SRI_MIN(label.len, (size_t)120), label.data);
    return SR_OK;
}

sr_status sri_export(const sr_table *table, sri_format format, sr_str oos_label, sri_outfile *file,
                     sri_export_loss *loss, sr_error *error) {
    *loss = (sri_export_loss){0};
    size_t count = sr_table_count(table);
    sr_route_view oos = {.name = oos_label};
    oos.utterances = sr_table_oos(table, &oos.utterance_count);
    bool empty = count == 0 && oos.utterance_count == 0;
    const char *head = "";
    if (format == SRI_FORMAT_CSV) head = "text,route\n";
    if (format == SRI_FORMAT_YAML) head = empty ? "routes: []\n" : "routes:\n";
    sri_buffer buffer = {0};
    sr_status code = oos.utterance_count > 0 ? check_label(table, oos_label, error) : SR_OK;
    if (code == SR_OK) code = sri_outfile_write(file, head, strlen(head), error);
    for (size_t i = 0; code == SR_OK && i < count; i++)
        code = export_route(sr_table_route(table, i), format, file, &buffer, loss, error);
    if (code == SR_OK && oos.utterance_count > 0)
        code = export_route(&oos, format, file, &buffer, loss, error);
    sri_buffer_free(&buffer);
    return code;
}
