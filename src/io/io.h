/*
 * io.h - route tables and labelled texts in files: CSV, JSON Lines and YAML, in and out.
 */
#ifndef SRI_IO_H
#define SRI_IO_H

#include "base/base.h"
#include "text/json_write.h"

typedef enum sri_format {
    SRI_FORMAT_UNKNOWN,
    SRI_FORMAT_CSV,
    SRI_FORMAT_JSONL,
    SRI_FORMAT_YAML
} sri_format;

sri_format sri_format_named(const char *name); /* "csv", "jsonl" or "yaml" */
sri_format
sri_format_of_path(const char *path); /* by its ending: .csv, .jsonl, .ndjson, .yaml, .yml */

/* ---- Reading (rows.c, csv.c, jsonl.c, yaml_read.c) --------------------------------------------- */

/* What a file says about a route, whether it lists routes or labelled texts. */
typedef struct sri_label {
    sr_str name, description, metadata; /* metadata: JSON text */
    sr_threshold threshold;
    bool has_description, has_metadata, has_threshold;
    size_t rows; /* texts with this label */
    size_t line; /* of its first mention */
} sri_label;

typedef struct sri_row {
    sr_str text;
    size_t line;
    uint32_t label; /* index into labels */
} sri_row;

/* A file's content: its texts in their order, its labels in the order of their first mention. */
typedef struct sri_rows {
    sri_row *rows;
    size_t count, capacity;
    sri_label *labels;
    size_t label_count, label_capacity;
    sri_map index;    /* label name -> position */
    sri_arena arena;  /* names and texts that are not in `bytes` */
    sri_buffer bytes; /* the file */
} sri_rows;

typedef struct sri_read_options {
    sri_format format;        /* UNKNOWN: by the path's ending */
    const char *text_column;  /* NULL: "text" */
    const char *route_column; /* NULL: "route" */
    bool allow_blank; /* blank texts are rows, not errors: they can be decided, not stored */
} sri_read_options;

#define SRI_MAX_INPUT_BYTES ((size_t)1 << 32)
/* A line of JSON Lines. As a tree of objects it needs some 40 times its size in memory. A route that is
 * larger is written as several lines, which are read as one route. */
#define SRI_MAX_JSON_LINE_BYTES ((size_t)4 << 20)

/* Reads a file ("-": standard input) into `rows`, which is zeroed first. Everything that is kept is
 * checked (UTF-8 without NUL, lengths, ranges), so that a row can be stored. Messages begin with
 * "FILE:LINE: ". On failure `rows` is empty. */
SR_MUST_CHECK sr_status sri_rows_read(const char *path, const sri_read_options *options,
                                      sri_rows *rows, sr_error *error);
/* The same for bytes in memory, called `name` in messages; `bytes` is taken over and left empty. */
SR_MUST_CHECK sr_status sri_rows_parse(const char *name, sri_buffer *bytes,
                                       const sri_read_options *options, sri_rows *rows,
                                       sr_error *error);
void sri_rows_free(sri_rows *rows);

/* Labels as routes for sr_routes_put(), all but the one called `except`, whose texts are `excepted_texts`.
 * Points into `rows`. */
typedef struct sri_routes {
    sr_route *routes;
    size_t count;
    size_t utterances;
    size_t excepted;
    const sr_str *excepted_texts;
    sr_str *texts;
} sri_routes;

SR_MUST_CHECK sr_status sri_rows_group(const sri_rows *rows, sr_str except, sri_routes *routes,
                                       sr_error *error);
void sri_routes_free(sri_routes *routes);

/* ---- Writing (outfile.c, export.c, escape.c) --------------------------------------------------- */

/* A file being written. A regular file is written beside its place and renamed over it by commit, so
 * that a failure keeps what was there; a pipe or a device is written directly. */
typedef struct sri_outfile {
    int descriptor;
    char *path, *temporary; /* temporary is NULL when written directly */
    sri_buffer pending;
    bool (*sink)(void *user, const void *bytes, size_t len); /* NULL: a file */
    void *sink_user;
} sri_outfile;

SR_MUST_CHECK sr_status sri_outfile_open(const char *path, sri_outfile *file, sr_error *error);
/* Bytes go to a function instead, which returns false when they are not wanted any more: SR_ERR_CANCELLED. */
void sri_outfile_to(sri_outfile *file, bool (*sink)(void *user, const void *bytes, size_t len),
                    void *user);
SR_MUST_CHECK sr_status sri_outfile_write(sri_outfile *file, const void *bytes, size_t len,
                                          sr_error *error);
SR_MUST_CHECK sr_status sri_outfile_commit(sri_outfile *file, sr_error *error); /* closes it too */
void sri_outfile_abandon(sri_outfile *file); /* nothing after a commit */

/* What a format could not hold. */
typedef struct sri_export_loss {
    size_t settings; /* routes whose threshold, description or metadata was left out */
    size_t empty;    /* routes left out because they have no utterance */
} sri_export_loss;

/* Writes a table that was read with its utterances, and its out-of-scope examples with the label
 * `oos_label`. SR_ERR_INVALID when a route has that name. */
SR_MUST_CHECK sr_status sri_export(const sr_table *table, sri_format format, sr_str oos_label,
                                   sri_outfile *file, sri_export_loss *loss, sr_error *error);

/* One route as one JSON object without a newline, as export writes it; `utterances` 0 leaves them out.
 * Metadata that is not JSON is written as a string. */
bool sri_route_append_json(sri_buffer *buffer, const sr_route_view *route, bool utterances);

/* Append `text` so that a reader of the format gives it back. False when memory is short. */
bool sri_append_csv(sri_buffer *buffer, sr_str text);
bool sri_append_yaml(sri_buffer *buffer, sr_str text); /* double-quoted */

#endif
