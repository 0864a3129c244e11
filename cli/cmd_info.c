/*
 * cmd_info.c - `info`: what the table holds and what it would be decided with.
 */
#include "cli.h"

#include "io/answer_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long number;

static bool put_json(cli_state *cli, const sr_info *info, bool verified) {
    if (!sri_append_info_json(&cli->out, info)) return false;
    cli->out.len--; /* its bracket: one more member comes before it */
    return sri_buffer_append_str(&cli->out, verified ? ",\"verified\":true}\n" : "}\n");
}

static bool put_line(cli_state *cli, const char *name, const char *value) {
    return value[0] == '\0' ||
           (sri_buffer_format(&cli->out, "%-15s", name) && cli_put_plain(cli, sr_str_of(value)) &&
            sri_buffer_append(&cli->out, "\n", 1));
}

static bool put_fit(cli_state *cli, const sr_info *info) {
    char text[256];
    static const char *const kinds[] = {"none: the nearest neighbour decides",
                                        "the nearest neighbour decides", "trained heads"};
    int len = 0;
    if (info->fit == SR_FIT_NEIGHBOURS && info->no_heads[0] != '\0')
        len = snprintf(text, sizeof text, "%s: ", info->no_heads);
    len += snprintf(text + len, sizeof text - (size_t)len, "%s", kinds[info->fit]);
    if (info->fit != SR_FIT_NONE)
        len += snprintf(text + len, sizeof text - (size_t)len, ", of revision %llu",
                        (number)info->fit_revision);
    if (info->fit_pending > 0)
        snprintf(text + len, sizeof text - (size_t)len,
                 "; %llu changed since: run `synaptoroute fit`", (number)info->fit_pending);
    bool done = put_line(cli, "fit", text);
    if (!isnan(info->auto_threshold)) {
        bool heads = info->fit == SR_FIT_HEADS;
        snprintf(text, sizeof text, "%s %.3f", heads ? "confidence" : "cosine",
                 info->auto_threshold);
        if (heads && info->auto_threshold == 0)
            snprintf(text, sizeof text, "likelier right than out of scope");
        done = done && put_line(cli, "auto threshold", text);
    }
    if (info->fit != SR_FIT_HEADS) return done;
    snprintf(text, sizeof text, "none");
    if (info->fast_path)
        snprintf(text, sizeof text, "%.1f %% of the texts", info->fast_share * 100);
    return done && put_line(cli, "fast path", text);
}

static bool put_text(cli_state *cli, const sr_info *info, bool verified) {
    char text[256];
    snprintf(text, sizeof text, "%llu, with %llu utterances", (number)info->routes,
             (number)info->utterances);
    bool done = put_line(cli, "database", info->database) && put_line(cli, "routes", text);
    snprintf(text, sizeof text, "%llu examples", (number)info->oos_examples);
    if (info->oos_examples > 0) done = done && put_line(cli, "out of scope", text);
    snprintf(text, sizeof text, "%llu, schema %d%s", (number)info->revision, info->schema,
             info->read_only ? ", read-only" : "");
    done = done && put_line(cli, "revision", text) &&
           put_line(cli, "stored model", info->stored_model);
    if (info->dimension > 0) {
        snprintf(text, sizeof text, "%s, %d dimensions, %d threads", info->model, info->dimension,
                 info->threads);
        done =
            done && put_line(cli, "model", text) && put_line(cli, "fingerprint", info->fingerprint);
    }
    done = done && put_fit(cli, info);
    if (info->index_bytes > 0) {
        snprintf(text, sizeof text, "%.1f MB, of which %.1f MB vectors in full; %llu rows removed",
                 (double)info->index_bytes / 1e6, (double)info->index_exact_bytes / 1e6,
                 (number)info->rows_dead);
        done = done && put_line(cli, "index", text);
    }
    done = done && put_line(cli, "cpu level", info->cpu) && put_line(cli, "version", info->version);
    return done &&
           (!verified || put_line(cli, "verified", "the whole database and the model's files"));
}

/* Whether a command that changes the table could: its log stands beside the file itself. */
static bool can_be_written(const char *database) {
    char *real = realpath(database, NULL);
    if (real == NULL) return true; /* nothing is kept */
    bool file = access(real, W_OK) == 0;
    char *slash = strrchr(real, '/');
    slash[slash == real] = '\0';
    bool directory = access(real, W_OK) == 0;
    free(real);
    return file && directory;
}

int cli_info(cli_state *cli) {
    bool verify = false;
    const cli_option options[] = {{"verify", CLI_FLAG, &verify, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc > 0) return cli_usage(cli, "info takes no arguments");
    sr_router *router = NULL;
    /* Without --verify the model is not loaded: info answers for a table of another model too. */
    unsigned lazy = verify ? 0 : SR_OPEN_LAZY;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_READ_ONLY | lazy, &router);
    if (status != EXIT_DONE) return status;
    sr_error error;
    sr_info info = {.size = sizeof info};
    sr_status code = verify ? sr_router_verify(router, &error) : SR_OK;
    if (code == SR_OK) code = sr_router_info(router, &info, &error);
    sr_router_close(&router);
    if (code != SR_OK) return cli_fail(cli, &error);
    /* The table was opened for reading only; what counts is whether it could be written. */
    info.read_only = !can_be_written(cli_database(cli));
    bool done = cli->json ? put_json(cli, &info, verify) : put_text(cli, &info, verify);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}
