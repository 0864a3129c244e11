/*
 * cmd_distill.c - `distill`: a static model from a transformer.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

typedef struct texts {
    sr_str *items;
    size_t count, capacity;
    sri_rows rows; /* of a file with columns */
    sri_buffer bytes;
} texts;

static void free_texts(texts *t) {
    sri_free(t->items);
    sri_rows_free(&t->rows);
    sri_buffer_free(&t->bytes);
}

static bool add_text(texts *t, sr_str text) {
    if (!sri_grow((void **)&t->items, &t->capacity, t->count + 1, sizeof *t->items)) return false;
    t->items[t->count++] = text;
    return true;
}

/* One text a line; blank lines are left out. */
static sr_status read_lines(const char *path, texts *t, sr_error *error) {
    sr_status code = sri_read_file(path, SRI_MAX_INPUT_BYTES, &t->bytes, error);
    const char *at = t->bytes.data, *end = at + t->bytes.len;
    while (code == SR_OK && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        sr_str line = {at, (size_t)(stop - at)};
        while (line.len > 0 && strchr(" \t\r", line.data[line.len - 1]) != NULL) line.len--;
        if (line.len > 0 && !add_text(t, line)) code = sri_fail_memory(error);
        at = stop + 1;
    }
    return code;
}

static sr_status read_columns(const char *path, const sri_read_options *options, texts *t,
                              sr_error *error) {
    sr_status code = sri_rows_read(path, options, &t->rows, error);
    for (size_t i = 0; code == SR_OK && i < t->rows.count; i++)
        if (!add_text(t, t->rows.rows[i].text)) code = sri_fail_memory(error);
    return code;
}

static int read_texts(const cli_state *cli, const char *path, const sri_read_options *options,
                      texts *t) {
    sr_error error;
    bool columns =
        options->format != SRI_FORMAT_UNKNOWN || sri_format_of_path(path) != SRI_FORMAT_UNKNOWN;
    sr_status code = columns ? read_columns(path, options, t, &error) : read_lines(path, t, &error);
    if (code != SR_OK) return cli_fail(cli, &error);
    if (t->count > 0) return EXIT_DONE;
    cli_message(cli, "%s has no texts; give one text a line", path);
    return EXIT_FAILED;
}

static int report_model(cli_state *cli, const char *output, size_t count, double seconds) {
    sr_encoder *encoder = NULL;
    sr_error error;
    char path[4096]; /* a name without a slash would be looked up among the shipped models */
    snprintf(path, sizeof path, "%s%s", strchr(output, '/') == NULL ? "./" : "", output);
    sr_encoder_options options = {.size = sizeof options, .model = path, .threads = 1};
    if (sr_encoder_open(&options, &encoder, &error) != SR_OK) return cli_fail(cli, &error);
    int dimension = sr_encoder_dimension(encoder);
    bool done;
    if (cli->json) {
        done = sri_buffer_append_str(&cli->out, "{\"model\":") &&
               sri_append_json(&cli->out, sr_str_of(output)) &&
               sri_buffer_format(
                   &cli->out,
                   ",\"dimension\":%d,\"texts\":%zu,\"fingerprint\":\"%s\",\"seconds\":%.3f}\n",
                   dimension, count, sr_encoder_fingerprint(encoder), seconds);
    } else {
        done = sri_buffer_append_str(&cli->out, "made ") && cli_put_plain(cli, sr_str_of(output)) &&
               sri_buffer_format(&cli->out,
                                 ": a static model of %d dimensions, fitted to %zu texts, in %.1f "
                                 "s\n",
                                 dimension, count, seconds);
    }
    sr_encoder_close(&encoder);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int distill(cli_state *cli, const char *output, int dimension, const texts *t) {
    sr_error error;
    cli_progress progress;
    double began = sri_seconds();
    cli_progress_begin(cli, &progress, "distilling");
    sr_distill_options options = {.size = sizeof options,
                                  .model = cli->model,
                                  .output = output,
                                  .dimension = dimension,
                                  .threads = cli->threads,
                                  .texts = t->items,
                                  .text_count = t->count,
                                  .progress = cli_progress_step,
                                  .progress_user = &progress};
    sr_status code = sr_distill(&options, &error);
    cli_progress_end(&progress);
    if (code == SR_ERR_CANCELLED) {
        cli_message(cli, "stopped; nothing was written");
        return EXIT_FAILED;
    }
    if (code != SR_OK) return cli_fail(cli, &error);
    return report_model(cli, output, t->count, sri_seconds() - began);
}

int cli_distill(cli_state *cli) {
    const char *path = NULL, *format = NULL;
    int dimension = 0;
    bool dimension_given = false;
    sri_read_options read = {0};
    const cli_option options[] = {{"dimension", CLI_INTEGER, &dimension, &dimension_given},
                                  {"texts", CLI_STRING, &path, NULL},
                                  {"format", CLI_STRING, &format, NULL},
                                  {"text-column", CLI_STRING, &read.text_column, NULL},
                                  {"route-column", CLI_STRING, &read.route_column, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc != 1) return cli_usage(cli, "name one directory to make");
    if (!cli_format(cli, format, &read.format)) return EXIT_USAGE;
    if (dimension_given && dimension < 8)
        return cli_usage(cli, "--dimension %d: give 8 to the transformer's own", dimension);
    texts t = {0};
    status = path == NULL ? EXIT_DONE : read_texts(cli, path, &read, &t);
    if (status == EXIT_DONE) status = distill(cli, cli->argv[0], dimension, &t);
    free_texts(&t);
    return status;
}
