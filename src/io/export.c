/*
 * export.c - a route table as CSV, JSON Lines or YAML.
 *
 * JSON Lines and YAML hold everything and give the same table back; CSV holds texts and names only, and
 * the caller learns what it left out.
 */
#include "io/io.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_YAML_DEPTH 200 /* as deep as yaml_read.c reads */

static bool append_threshold(sri_buffer *buffer, sr_threshold threshold, const char *cosine,
                             const char *confidence) {
    if (threshold.kind == SR_THRESHOLD_AUTO) return true;
    return sri_buffer_append_str(buffer,
                                 threshold.kind == SR_THRESHOLD_COSINE ? cosine : confidence) &&
           sri_append_exact(buffer, threshold.value);
}

/* ---- JSON -------------------------------------------------------------------------------------- */

/* Metadata on one line: as stored it may hold newlines between its values. */
static bool append_metadata_json(sri_buffer *buffer, sr_str metadata) {
    json_t *value = json_loadb(metadata.data, metadata.len, JSON_DECODE_ANY, NULL);
    char *text = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    bool done =
        text != NULL ? sri_buffer_append_str(buffer, text) : sri_append_json(buffer, metadata);
    free(text);
    json_decref(value);
    return done;
}

static bool append_utterances_json(sri_buffer *buffer, const sr_route_view *route) {
    bool done = sri_buffer_append_str(buffer, ",\"utterances\":[");
    for (size_t i = 0; done && i < route->utterance_count; i++)
        done = (i == 0 || sri_buffer_append(buffer, ",", 1)) &&
               sri_append_json(buffer, route->utterances[i]);
    return done && sri_buffer_append(buffer, "]", 1);
}

bool sri_route_append_json(sri_buffer *buffer, const sr_route_view *route, bool utterances) {
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
    if (done && utterances && (route->utterances != NULL || route->utterance_count == 0))
        done = append_utterances_json(buffer, route);
    else
        done =
            done && sri_buffer_format(buffer, ",\"utterance_count\":%zu", route->utterance_count);
    return done && sri_buffer_append(buffer, "}", 1);
}

/* ---- YAML -------------------------------------------------------------------------------------- */

static bool append_value_yaml(sri_buffer *buffer, json_t *value, int depth);

/* libyaml gives up on a key of more than 1,024 bytes that is not announced by a question mark. */
static const char *key_mark(const char *key) { return strlen(key) > 128 ? "? " : ""; }

static bool append_members_yaml(sri_buffer *buffer, json_t *object, int depth) {
    const char *key, *comma = "";
    json_t *value;
    bool done = sri_buffer_append(buffer, "{", 1);
    json_object_foreach(object, key, value) {
        done = done && sri_buffer_append_str(buffer, comma) &&
               sri_buffer_append_str(buffer, key_mark(key)) &&
               sri_append_yaml(buffer, sr_str_of(key)) && sri_buffer_append_str(buffer, ": ") &&
               append_value_yaml(buffer, value, depth);
        comma = ", ";
    }
    return done && sri_buffer_append(buffer, "}", 1);
}

static bool append_items_yaml(sri_buffer *buffer, json_t *list, int depth) {
    bool done = sri_buffer_append(buffer, "[", 1);
    for (size_t i = 0; done && i < json_array_size(list); i++)
        done = sri_buffer_append_str(buffer, i == 0 ? "" : ", ") &&
               append_value_yaml(buffer, json_array_get(list, i), depth);
    return done && sri_buffer_append(buffer, "]", 1);
}

static bool append_value_yaml(sri_buffer *buffer, json_t *value, int depth) {
    if (depth > MAX_YAML_DEPTH) return false;
    if (json_is_object(value)) return append_members_yaml(buffer, value, depth + 1);
    if (json_is_array(value)) return append_items_yaml(buffer, value, depth + 1);
    if (json_is_string(value))
        return sri_append_yaml(buffer,
                               (sr_str){json_string_value(value), json_string_length(value)});
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    bool done = text != NULL && sri_buffer_append_str(buffer, text);
    free(text);
    return done;
}

static bool append_metadata_yaml(sri_buffer *buffer, sr_str metadata) {
    json_t *value = json_loadb(metadata.data, metadata.len, JSON_DECODE_ANY, NULL);
    bool done = sri_buffer_append_str(buffer, "    metadata: ");
    if (value == NULL)
        done = done && sri_append_yaml(buffer, metadata);
    else
        done = done && append_value_yaml(buffer, value, 0);
    json_decref(value);
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
    default:
        return sri_route_append_json(buffer, route, true) && sri_buffer_append(buffer, "\n", 1);
    }
}

static int depth_of(const json_t *value, int depth) {
    int deepest = depth;
    const char *key;
    json_t *item;
    size_t i;
    if (depth > MAX_YAML_DEPTH) return depth;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, item) {
            int below = depth_of(item, depth + 1);
            deepest = SRI_MAX(deepest, below);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, item) {
            int below = depth_of(item, depth + 1);
            deepest = SRI_MAX(deepest, below);
        }
    }
    return deepest;
}

static sr_status check_depth(const sr_route_view *route, sr_error *error) {
    json_t *value = json_loadb(route->metadata.data, route->metadata.len, JSON_DECODE_ANY, NULL);
    int depth = depth_of(value, 0);
    json_decref(value);
    if (depth <= MAX_YAML_DEPTH) return SR_OK;
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

sr_status sri_export(const sr_table *table, sri_format format, sri_outfile *file,
                     sri_export_loss *loss, sr_error *error) {
    *loss = (sri_export_loss){0};
    size_t count = sr_table_count(table);
    const char *head = "";
    if (format == SRI_FORMAT_CSV) head = "text,route\n";
    if (format == SRI_FORMAT_YAML) head = count == 0 ? "routes: []\n" : "routes:\n";
    sri_buffer buffer = {0};
    sr_status code = sri_outfile_write(file, head, strlen(head), error);
    for (size_t i = 0; code == SR_OK && i < count; i++)
        code = export_route(sr_table_route(table, i), format, file, &buffer, loss, error);
    sri_buffer_free(&buffer);
    return code;
}
