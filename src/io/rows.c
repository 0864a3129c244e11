/*
 * rows.c - the content of a file of routes or labelled texts, and the checks that all formats share.
 *
 * The whole file is read before anything is done with it: an import is all or nothing, so a fault in the
 * last line must be known before the first route is stored. CSV texts stay where they are in the file's
 * bytes; what JSON and YAML decode goes to an arena. Not synchronised.
 */
#include "io/io_int.h"

#include "router/route_check.h"
#include "text/text.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

sri_format sri_format_named(const char *name) {
    static const char *const names[] = {"csv", "jsonl", "yaml"};
    for (size_t i = 0; i < SRI_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) return (sri_format)(SRI_FORMAT_CSV + i);
    return SRI_FORMAT_UNKNOWN;
}

sri_format sri_format_of_path(const char *path) {
    static const struct {
        const char *ending;
        sri_format format;
    } endings[] = {{".csv", SRI_FORMAT_CSV},
                   {".jsonl", SRI_FORMAT_JSONL},
                   {".ndjson", SRI_FORMAT_JSONL},
                   {".yaml", SRI_FORMAT_YAML},
                   {".yml", SRI_FORMAT_YAML}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < SRI_COUNT(endings); i++)
        if (strcasecmp(dot, endings[i].ending) == 0) return endings[i].format;
    return SRI_FORMAT_UNKNOWN;
}

/* ---- Checks ------------------------------------------------------------------------------------ */

sr_status sri_reader_fail(const sri_reader *reader, sr_status code, size_t line, const char *format,
                          ...) {
    char message[900], place[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (line == 0)
        snprintf(place, sizeof place, "%s", reader->name);
    else
        snprintf(place, sizeof place, "%s:%zu", reader->name, line);
    return sri_fail(reader->error, code, place, "%s: %s", place, message);
}

/* What the router's own check says, with its place in the file. */
static sr_status say(const sri_reader *reader, size_t line, sr_status code, const sr_error *fault) {
    return code == SR_OK ? SR_OK : sri_reader_fail(reader, code, line, "%s", fault->message);
}

static sr_status check_string(const sri_reader *reader, sr_str text, size_t max, const char *what,
                              size_t line) {
    sr_error fault;
    return say(reader, line, sri_check_string(text, max, what, NULL, &fault), &fault);
}

sr_status sri_reader_label(const sri_reader *reader, sr_str name, size_t line, uint32_t *label) {
    sri_rows *rows = reader->rows;
    uint64_t found;
    if (sri_map_get(&rows->index, name, &found)) {
        *label = (uint32_t)found;
        return SR_OK;
    }
    sr_error fault;
    sr_status code = sri_check_name(name, NULL, &fault);
    if (code != SR_OK) return say(reader, line, code, &fault);
    if (rows->label_count == UINT32_MAX)
        return sri_reader_fail(reader, SR_ERR_LIMIT, line, "too many routes");
    void *labels = rows->labels;
    if (!sri_grow(&labels, &rows->label_capacity, rows->label_count + 1, sizeof(sri_label)))
        return sri_fail_memory(reader->error);
    rows->labels = labels;
    sr_str copy = sri_arena_copy(&rows->arena, name);
    if (copy.data == NULL || !sri_map_put(&rows->index, copy, rows->label_count))
        return sri_fail_memory(reader->error);
    *label = (uint32_t)rows->label_count++;
    rows->labels[*label] = (sri_label){.name = copy, .line = line};
    return SR_OK;
}

sr_status sri_reader_text(const sri_reader *reader, sr_str text, size_t line, uint32_t label) {
    sri_rows *rows = reader->rows;
    sr_status code = check_string(reader, text, SR_MAX_UTTERANCE_BYTES, "the text", line);
    if (code != SR_OK) return code;
    if (!reader->options->allow_blank && sri_text_blank(text))
        return sri_reader_fail(reader, SR_ERR_FORMAT, line,
                               "the text is empty; write one or remove the row");
    void *array = rows->rows;
    if (!sri_grow(&array, &rows->capacity, rows->count + 1, sizeof(sri_row)))
        return sri_fail_memory(reader->error);
    rows->rows = array;
    rows->rows[rows->count++] = (sri_row){text, line, label};
    rows->labels[label].rows++;
    return SR_OK;
}

static sr_status set_string(const sri_reader *reader, sr_str text, size_t max, const char *what,
                            size_t line, sr_str *field, bool *has) {
    sr_status code = check_string(reader, text, max, what, line);
    if (code != SR_OK) return code;
    *field = sri_arena_copy(&reader->rows->arena, text);
    if (field->data == NULL) return sri_fail_memory(reader->error);
    *has = true;
    return SR_OK;
}

sr_status sri_reader_description(const sri_reader *reader, uint32_t label, sr_str text,
                                 size_t line) {
    sri_label *target = &reader->rows->labels[label];
    return set_string(reader, text, SR_MAX_DESCRIPTION_BYTES, "the description", line,
                      &target->description, &target->has_description);
}

sr_status sri_reader_metadata(const sri_reader *reader, uint32_t label, sr_str json, size_t line) {
    sri_label *target = &reader->rows->labels[label];
    return set_string(reader, json, SR_MAX_METADATA_BYTES, "the metadata", line, &target->metadata,
                      &target->has_metadata);
}

sr_status sri_reader_threshold(const sri_reader *reader, uint32_t label, sr_threshold threshold,
                               size_t line) {
    sr_error fault;
    sr_status code = sri_check_threshold(&threshold, NULL, &fault);
    if (code != SR_OK) return say(reader, line, code, &fault);
    reader->rows->labels[label].threshold = threshold;
    reader->rows->labels[label].has_threshold = true;
    return SR_OK;
}

/* ---- Files ------------------------------------------------------------------------------------- */

static sr_status read_standard_input(sri_buffer *bytes, sr_error *error) {
    static char chunk[65536];
    for (;;) {
        ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return sri_fail_errno(error, errno, "standard input", "cannot read standard input");
        if (got == 0) return SR_OK;
        if (bytes->len > SRI_MAX_INPUT_BYTES - (size_t)got)
            return sri_fail(error, SR_ERR_LIMIT, "standard input",
                            "standard input is larger than the %zu bytes that are read",
                            SRI_MAX_INPUT_BYTES);
        if (!sri_buffer_append(bytes, chunk, (size_t)got)) return sri_fail_memory(error);
    }
}

static sr_status parse(const sri_reader *reader, sri_format format) {
    const sri_buffer *bytes = &reader->rows->bytes;
    size_t start = 0;
    if (bytes->len >= 3 && memcmp(bytes->data, "\xEF\xBB\xBF", 3) == 0) start = 3;
    if (bytes->len >= 2 &&
        (memcmp(bytes->data, "\xFF\xFE", 2) == 0 || memcmp(bytes->data, "\xFE\xFF", 2) == 0))
        return sri_reader_fail(reader, SR_ERR_FORMAT, 1, "the file is UTF-16; save it as UTF-8");
    if (bytes->len == start) return sri_reader_fail(reader, SR_ERR_FORMAT, 0, "the file is empty");
    switch (format) {
    case SRI_FORMAT_CSV: return sri_read_csv(reader, start);
    case SRI_FORMAT_JSONL: return sri_read_jsonl(reader, start);
    case SRI_FORMAT_YAML: return sri_read_yaml(reader, start);
    case SRI_FORMAT_UNKNOWN: break;
    }
    return sri_reader_fail(
        reader, SR_ERR_INVALID, 0,
        "the format is not clear from the name; say --format csv, jsonl or yaml");
}

sr_status sri_rows_parse(const char *name, sri_buffer *bytes, const sri_read_options *options,
                         sri_rows *rows, sr_error *error) {
    *rows = (sri_rows){.bytes = *bytes};
    *bytes = (sri_buffer){0};
    sri_format format = options->format;
    if (format == SRI_FORMAT_UNKNOWN) format = sri_format_of_path(name);
    sri_reader reader = {name, options, rows, error};
    sr_status code = parse(&reader, format);
    if (code != SR_OK) sri_rows_free(rows);
    return code;
}

sr_status sri_rows_read(const char *path, const sri_read_options *options, sri_rows *rows,
                        sr_error *error) {
    *rows = (sri_rows){0};
    sri_buffer bytes = {0};
    bool standard_input = strcmp(path, "-") == 0;
    sr_status code = standard_input ? read_standard_input(&bytes, error)
                                    : sri_read_file(path, SRI_MAX_INPUT_BYTES, &bytes, error);
    if (code == SR_OK)
        code =
            sri_rows_parse(standard_input ? "standard input" : path, &bytes, options, rows, error);
    sri_buffer_free(&bytes);
    return code;
}

void sri_rows_free(sri_rows *rows) {
    sri_free(rows->rows);
    sri_free(rows->labels);
    sri_map_free(&rows->index);
    sri_arena_free(&rows->arena);
    sri_buffer_free(&rows->bytes);
    *rows = (sri_rows){0};
}

/* ---- Grouping ---------------------------------------------------------------------------------- */

static sr_route route_of(const sri_label *label, const sr_str *texts) {
    return (sr_route){.size = sizeof(sr_route),
                      .name = label->name,
                      .utterances = texts,
                      .utterance_count = label->rows,
                      .threshold = label->has_threshold ? &label->threshold : NULL,
                      .description = label->has_description ? &label->description : NULL,
                      .metadata = label->has_metadata ? &label->metadata : NULL};
}

sr_status sri_rows_group(const sri_rows *rows, sr_str except, sri_routes *routes, sr_error *error) {
    *routes = (sri_routes){.routes = sri_alloc_array(rows->label_count, sizeof(sr_route)),
                           .texts = sri_alloc_array(rows->count, sizeof(sr_str))};
    sr_str **next = sri_alloc_array(rows->label_count, sizeof(sr_str *));
    if (routes->routes == NULL || routes->texts == NULL || next == NULL) {
        sri_free(next);
        sri_routes_free(routes);
        return sri_fail_memory(error);
    }
    sr_str *texts = routes->texts;
    for (size_t i = 0; i < rows->label_count; i++) {
        const sri_label *label = &rows->labels[i];
        next[i] = texts;
        texts += label->rows;
        if (sri_str_equal(label->name, except)) {
            routes->excepted = label->rows;
            routes->excepted_texts = next[i];
            continue;
        }
        routes->routes[routes->count++] = route_of(label, next[i]);
        routes->utterances += label->rows;
    }
    for (size_t i = 0; i < rows->count; i++) *next[rows->rows[i].label]++ = rows->rows[i].text;
    sri_free(next);
    return SR_OK;
}

void sri_routes_free(sri_routes *routes) {
    sri_free(routes->routes);
    sri_free(routes->texts);
    *routes = (sri_routes){0};
}
