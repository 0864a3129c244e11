/*
 * cmd_pull.c - `pull`: a model from a Hugging Face repository into the cache.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

#include "io/pull.h"

#define MAX_DIGESTS 8

typedef struct pull_state {
    cli_progress progress;
    char what[96];
} pull_state;

static void begin_file(void *user, const char *file) {
    pull_state *state = user;
    snprintf(state->what, sizeof state->what, "%s, kB:", file);
    state->progress.began = sri_seconds();
}

static int step(void *user, uint64_t done, uint64_t total) {
    return cli_progress_step(&((pull_state *)user)->progress, done / 1000, total / 1000);
}

/* FILE=HEX */
static int take_digest(const cli_state *cli, const char *value, sri_pull_digest *digest) {
    size_t len = strcspn(value, "=");
    const char *hex = value[len] == '=' ? value + len + 1 : "";
    snprintf(digest->file, sizeof digest->file, "%.*s", (int)SRI_MIN(len, sizeof digest->file),
             value);
    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdefABCDEF") != 64)
        return cli_usage(cli, "--sha256 %s: give FILE=HEX with 64 hexadecimal digits", value);
    if (!sri_pull_knows(digest->file))
        return cli_usage(cli, "--sha256 %s: %s is no file that is pulled", value, digest->file);
    memcpy(digest->sha256, hex, sizeof digest->sha256);
    return CLI_PROCEED;
}

/* Takes every --sha256 off the arguments: it is the one option that may be given more than once. */
static int take_digests(cli_state *cli, sri_pull_digest digests[MAX_DIGESTS], size_t *count) {
    static const char name[] = "--sha256";
    int kept = 0, i = 0;
    for (; i < cli->argc && strcmp(cli->argv[i], "--") != 0; i++) {
        char *argument = cli->argv[i];
        size_t len = sizeof name - 1;
        bool ours =
            strncmp(argument, name, len) == 0 && (argument[len] == '\0' || argument[len] == '=');
        if (!ours) {
            cli->argv[kept++] = argument;
            continue;
        }
        const char *value = argument[len] == '=' ? argument + len + 1 : NULL;
        if (value == NULL && i + 1 < cli->argc) value = cli->argv[++i];
        if (value == NULL) return cli_usage(cli, "--sha256 needs a value");
        if (*count == MAX_DIGESTS) return cli_usage(cli, "--sha256 is given too often");
        int status = take_digest(cli, value, &digests[(*count)++]);
        if (status != CLI_PROCEED) return status;
    }
    while (i < cli->argc) cli->argv[kept++] = cli->argv[i++];
    cli->argc = kept;
    return CLI_PROCEED;
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

static int report(cli_state *cli, const char *name, const sri_pulled *pulled) {
    sri_buffer *out = &cli->out;
    bool done;
    if (cli->json)
        done = sri_buffer_append_str(out, "{\"model\":") && sri_append_json(out, sr_str_of(name)) &&
               sri_buffer_append_str(out, ",\"directory\":") &&
               sri_append_json(out, sr_str_of(pulled->directory)) &&
               sri_buffer_format(out, ",\"present\":%s,\"received\":%llu}\n",
                                 pulled->present ? "true" : "false",
                                 (unsigned long long)pulled->received);
    else
        done = sri_buffer_format(out, pulled->present ? "%s is in " : "pulled %s to ", name) &&
               cli_put_plain(cli, sr_str_of(pulled->directory)) && sri_buffer_append_str(out, "\n");
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int run(cli_state *cli, sri_pull_options *options) {
    sri_pulled pulled;
    sr_error error;
    pull_state state;
    options->name = cli->argv[0];
    options->prefix = cli->prefix;
    options->token = environment("HF_TOKEN");
    if (options->endpoint == NULL) options->endpoint = environment("HF_ENDPOINT");
    options->begin_file = begin_file;
    options->progress = step;
    options->progress_user = &state;
    cli_progress_begin(cli, &state.progress, state.what);
    sr_status code = sri_pull(options, &pulled, &error);
    cli_progress_end(&state.progress);
    if (code != SR_OK) return cli_fail(cli, &error);
    return report(cli, options->name, &pulled);
}

int cli_pull(cli_state *cli) {
    sri_pull_digest digests[MAX_DIGESTS];
    sri_pull_options pull = {.digests = digests, .retries = 5, .stall_seconds = 30};
    int stall = 30;
    const cli_option options[] = {{"to", CLI_STRING, &pull.to, NULL},
                                  {"revision", CLI_STRING, &pull.revision, NULL},
                                  {"endpoint", CLI_STRING, &pull.endpoint, NULL},
                                  {"offline", CLI_FLAG, &pull.offline, NULL},
                                  {"force", CLI_FLAG, &pull.force, NULL},
                                  {"keep", CLI_FLAG, &pull.keep, NULL},
                                  {"retries", CLI_INTEGER, &pull.retries, NULL},
                                  {"stall", CLI_INTEGER, &stall, NULL}};
    int status = take_digests(cli, digests, &pull.digest_count);
    if (status == CLI_PROCEED) status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc != 1) return cli_usage(cli, "give one NAME, such as owner/model");
    if (pull.retries < 0 || pull.retries > 100)
        return cli_usage(cli, "--retries %d: give 0 to 100", pull.retries);
    if (stall < 1 || stall > 3600) return cli_usage(cli, "--stall %d: give 1 to 3600", stall);
    if (pull.to != NULL && pull.to[0] == '\0') return cli_usage(cli, "--to needs a directory");
    if (pull.offline && pull.force) return cli_usage(cli, "--offline or --force, not both");
    if (cli->prefix != NULL && cli->prefix[0] == '@')
        return cli_usage(cli,
                         "--prefix %s: a model that is pulled has no named prefixes yet; give "
                         "the text itself",
                         cli->prefix);
    pull.stall_seconds = stall;
    return run(cli, &pull);
}
