/*
 * cmd_distill.c - `distill`: a static model from a transformer.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

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

static int distill(cli_state *cli, const char *output, int dimension, const cli_texts *t) {
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
    cli_texts t = {0};
    status = path == NULL ? EXIT_DONE : cli_read_texts(cli, path, &read, &t);
    if (status == EXIT_DONE) status = distill(cli, cli->argv[0], dimension, &t);
    cli_free_texts(&t);
    return status;
}
