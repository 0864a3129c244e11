/*
 * csv.c - CSV as RFC 4180 has it: commas, quotes doubled inside quotes, records ended by CRLF or LF.
 *
 * Fields are cut and unquoted inside the file's own bytes, so that a file of a million rows costs no
 * copies. A quote inside an unquoted field is refused rather than taken literally: it is nearly always
 * the trace of a quote that is missing elsewhere, which would silently swallow rows.
 */
#include "io/io_int.h"

#include <string.h>

#define MAX_COLUMNS ((size_t)1024)

typedef struct csv {
    const sri_reader *reader;
    char *at, *end;
    size_t line; /* of `at` */
    sr_str *fields;
    size_t count, capacity;
} csv;

static sr_status add_field(csv *file, sr_str field) {
    if (file->count == MAX_COLUMNS)
        return sri_reader_fail(file->reader, SR_ERR_LIMIT, file->line,
                               "the row has more than %zu fields", MAX_COLUMNS);
    void *fields = file->fields;
    if (!sri_grow(&fields, &file->capacity, file->count + 1, sizeof(sr_str)))
        return sri_fail_memory(file->reader->error);
    file->fields = fields;
    file->fields[file->count++] = field;
    return SR_OK;
}

static sr_status too_long(const csv *file, size_t line, bool quoted) {
    return sri_reader_fail(file->reader, SR_ERR_LIMIT, line,
                           "a field is longer than %d bytes, the maximum%s", SR_MAX_UTTERANCE_BYTES,
                           quoted ? "; is the closing quote missing?" : "");
}

/* Reads the field at file->at, which is a quote, and stops after its closing quote. */
static sr_status quoted_field(csv *file, sr_str *field) {
    size_t opened = file->line;
    char *out = ++file->at, *start = out;
    for (;;) {
        char *quote = memchr(file->at, '"', (size_t)(file->end - file->at));
        char *stop = quote == NULL ? file->end : quote;
        if ((size_t)(out - start) + (size_t)(stop - file->at) > SR_MAX_UTTERANCE_BYTES)
            return too_long(file, opened, true);
        if (quote == NULL)
            return sri_reader_fail(file->reader, SR_ERR_FORMAT, opened,
                                   "the quote that opens here is never closed");
        for (char *c = file->at; c < stop; c++) file->line += *c == '\n';
        memmove(out, file->at, (size_t)(stop - file->at));
        out += stop - file->at;
        file->at = stop + 1;
        if (file->at == file->end || *file->at != '"') break;
        *out++ = '"';
        file->at++;
    }
    *field = (sr_str){start, (size_t)(out - start)};
    bool ends = file->at == file->end || *file->at == ',' || *file->at == '\n' ||
                (*file->at == '\r' && (file->at + 1 == file->end || file->at[1] == '\n'));
    if (ends) return SR_OK;
    return sri_reader_fail(file->reader, SR_ERR_FORMAT, file->line,
                           "text follows a closing quote; double the quotes inside a quoted field");
}

static sr_status plain_field(csv *file, sr_str *field) {
    char *start = file->at, *c = start;
    while (c < file->end && *c != ',' && *c != '\n' && *c != '"') c++;
    if ((size_t)(c - start) > SR_MAX_UTTERANCE_BYTES) return too_long(file, file->line, false);
    if (c < file->end && *c == '"')
        return sri_reader_fail(
            file->reader, SR_ERR_FORMAT, file->line,
            "a quote inside an unquoted field; put the field in quotes and double those inside");
    bool line_ends = c == file->end || *c == '\n';
    file->at = c;
    if (line_ends && c > start && c[-1] == '\r') c--;
    *field = (sr_str){start, (size_t)(c - start)};
    return SR_OK;
}

/* Reads one record into file->fields; false in `more` at the end of the file. */
static sr_status next_record(csv *file, bool *more) {
    file->count = 0;
    *more = file->at < file->end;
    while (*more) {
        sr_str field = {NULL, 0};
        bool quoted = file->at < file->end && *file->at == '"';
        sr_status code = quoted ? quoted_field(file, &field) : plain_field(file, &field);
        if (code == SR_OK) code = add_field(file, field);
        if (code != SR_OK) return code;
        if (file->at < file->end && *file->at == '\r') file->at++;
        if (file->at == file->end) break;
        if (*file->at++ == '\n') {
            file->line++;
            break;
        }
    }
    return SR_OK;
}

static sr_str trim(sr_str text) {
    while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t'))
        text = (sr_str){text.data + 1, text.len - 1};
    while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static sr_status no_column(const csv *file, const char *wanted, const char *option) {
    char list[400] = "";
    size_t len = 0;
    for (size_t i = 0; i < file->count && len < sizeof list - 1; i++) {
        sr_str name = trim(file->fields[i]);
        int added = snprintf(list + len, sizeof list - len, "%s%.*s", i == 0 ? "" : ", ",
                             (int)SRI_MIN(name.len, 60), name.len == 0 ? "" : name.data);
        len += added > 0 ? (size_t)added : 0;
    }
    return sri_reader_fail(file->reader, SR_ERR_FORMAT, 1,
                           "the header has no column \"%s\" (it has: %s); name one with %s", wanted,
                           list, option);
}

static sr_status find_column(const csv *file, const char *wanted, const char *option,
                             size_t *column) {
    bool found = false;
    for (size_t i = 0; i < file->count; i++) {
        if (!sri_str_equal(trim(file->fields[i]), sr_str_of(wanted))) continue;
        if (found)
            return sri_reader_fail(file->reader, SR_ERR_FORMAT, 1,
                                   "the header has two columns \"%s\"; rename one", wanted);
        *column = i;
        found = true;
    }
    return found ? SR_OK : no_column(file, wanted, option);
}

static sr_status read_rows(csv *file, size_t text_column, size_t route_column, size_t columns) {
    for (;;) {
        bool more;
        size_t line = file->line;
        sr_status code = next_record(file, &more);
        if (code != SR_OK || !more) return code;
        if (file->count == 1 && file->fields[0].len == 0) continue; /* a blank line */
        if (file->count != columns)
            return sri_reader_fail(
                file->reader, SR_ERR_FORMAT, line, "the row has %zu field%s, the header %zu%s",
                file->count, file->count == 1 ? "" : "s", columns,
                file->count > columns ? "; put texts with commas in quotes" : "");
        uint32_t label;
        code = sri_reader_label(file->reader, file->fields[route_column], line, &label);
        if (code == SR_OK)
            code = sri_reader_text(file->reader, file->fields[text_column], line, label);
        if (code != SR_OK) return code;
    }
}

static sr_status read_file(csv *file) {
    const sri_read_options *options = file->reader->options;
    size_t text_column = 0, route_column = 0;
    bool more;
    sr_status code = next_record(file, &more);
    if (code == SR_OK)
        code = find_column(file, options->text_column == NULL ? "text" : options->text_column,
                           "--text-column", &text_column);
    if (code == SR_OK)
        code = find_column(file, options->route_column == NULL ? "route" : options->route_column,
                           "--route-column", &route_column);
    return code == SR_OK ? read_rows(file, text_column, route_column, file->count) : code;
}

sr_status sri_read_csv(const sri_reader *reader, size_t start) {
    sri_buffer *bytes = &reader->rows->bytes;
    csv file = {
        .reader = reader, .at = bytes->data + start, .end = bytes->data + bytes->len, .line = 1};
    sr_status code = read_file(&file);
    sri_free(file.fields);
    return code;
}
