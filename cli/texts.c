/*
 * texts.c - the texts of a file, for commands that need nothing else of it.
 */
#include "cli.h"

#include <string.h>

void cli_free_texts(cli_texts *texts) {
    sri_free(texts->items);
    sri_rows_free(&texts->rows);
    sri_buffer_free(&texts->bytes);
}

static bool add_text(cli_texts *texts, sr_str text) {
    if (!sri_grow((void **)&texts->items, &texts->capacity, texts->count + 1, sizeof *texts->items))
        return false;
    texts->items[texts->count++] = text;
    return true;
}

static sr_status read_lines(const char *path, cli_texts *texts, sr_error *error) {
    sr_status code = sri_read_file(path, SRI_MAX_INPUT_BYTES, &texts->bytes, error);
    const char *at = texts->bytes.data, *end = at + texts->bytes.len;
    while (code == SR_OK && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (stop == NULL) stop = end;
        sr_str line = {at, (size_t)(stop - at)};
        while (line.len > 0 && strchr(" \t\r", line.data[line.len - 1]) != NULL) line.len--;
        if (line.len > 0 && !add_text(texts, line)) code = sri_fail_memory(error);
        at = stop + 1;
    }
    return code;
}

static sr_status read_columns(const char *path, const sri_read_options *options, cli_texts *texts,
                              sr_error *error) {
    sr_status code = sri_rows_read(path, options, &texts->rows, error);
    for (size_t i = 0; code == SR_OK && i < texts->rows.count; i++)
        if (!add_text(texts, texts->rows.rows[i].text)) code = sri_fail_memory(error);
    return code;
}

int cli_read_texts(const cli_state *cli, const char *path, const sri_read_options *options,
                   cli_texts *texts) {
    sr_error error;
    bool columns =
        options->format != SRI_FORMAT_UNKNOWN || sri_format_of_path(path) != SRI_FORMAT_UNKNOWN;
    sr_status code =
        columns ? read_columns(path, options, texts, &error) : read_lines(path, texts, &error);
    if (code != SR_OK) return cli_fail(cli, &error);
    if (texts->count > 0) return EXIT_DONE;
    cli_message(cli, "%s has no texts; give one text a line", path);
    return EXIT_FAILED;
}
