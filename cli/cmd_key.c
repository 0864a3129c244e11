/*
 * cmd_key.c - `key`: API keys of the server. A key is shown once, when it is made; the file keeps a digest of it.
 */
#include "cli.h"

#include "io/api_keys.h"

#include <string.h>
#include <unistd.h>

typedef struct key_state {
    const char *path, *role;
    sri_api_keys keys;
} key_state;

/* A file that is not there holds no keys yet. */
static sr_status read_keys(key_state *state, sr_error *error) {
    if (access(state->path, F_OK) != 0) return SR_OK;
    return sri_keys_read(state->path, &state->keys, error);
}

static bool put_key(cli_state *cli, const sri_api_key *key, const char *text) {
    sri_buffer *out = &cli->out;
    if (!cli->json) return sri_buffer_format(out, "%s\n", text);
    return sri_buffer_format(out, "{\"name\":\"%s\",\"role\":\"%s\",\"key\":\"%s\"}\n", key->name,
                             key->role, text);
}

static int create_key(cli_state *cli, key_state *state) {
    char text[SRI_KEY_TEXT];
    sr_error error;
    if (cli->argc != 2) return cli_usage(cli, "give a NAME for the key");
    sr_status code = sri_keys_create(&state->keys, cli->argv[1], state->role, text, &error);
    if (code == SR_OK) code = sri_keys_write(state->path, &state->keys, &error);
    if (code != SR_OK) return cli_fail(cli, &error);
    if (!cli->json && !cli->quiet)
        cli_message(cli,
                    "keep the key: it is not shown again. A running server reads %s after SIGHUP",
                    state->path);
    return put_key(cli, &state->keys.keys[state->keys.count - 1], text) ? EXIT_DONE
                                                                        : cli_fail_memory(cli);
}

static int list_keys(cli_state *cli, const key_state *state) {
    bool done = true;
    if (cli->argc != 1) return cli_usage(cli, "list takes no arguments");
    for (size_t i = 0; done && i < state->keys.count; i++) {
        const sri_api_key *key = &state->keys.keys[i];
        done =
            sri_buffer_format(&cli->out,
                              cli->json ? "{\"name\":\"%s\",\"role\":\"%s\",\"created\":\"%s\"}\n"
                                        : "%-24s %-6s %s\n",
                              key->name, key->role, key->created);
    }
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int revoke_key(cli_state *cli, key_state *state) {
    sr_error error;
    if (cli->argc != 2) return cli_usage(cli, "give the NAME of the key");
    sr_status code = sri_keys_revoke(&state->keys, cli->argv[1], &error);
    if (code == SR_OK) code = sri_keys_write(state->path, &state->keys, &error);
    if (code != SR_OK) return cli_fail(cli, &error);
    if (!cli->quiet)
        cli_message(cli, "a running server takes the key until it reads %s again, after SIGHUP",
                    state->path);
    return EXIT_DONE;
}

int cli_key(cli_state *cli) {
    key_state state = {.path = "synaptoroute.keys", .role = "read"};
    const cli_option options[] = {{"keys", CLI_STRING, &state.path, NULL},
                                  {"role", CLI_STRING, &state.role, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    sr_error error;
    const char *word = cli->argc == 0 ? "" : cli->argv[0];
    bool known =
        strcmp(word, "create") == 0 || strcmp(word, "list") == 0 || strcmp(word, "revoke") == 0;
    if (!known) return cli_usage(cli, "give create, list or revoke");
    if (read_keys(&state, &error) != SR_OK) return cli_fail(cli, &error);
    status = *word == 'c'   ? create_key(cli, &state)
             : *word == 'l' ? list_keys(cli, &state)
                            : revoke_key(cli, &state);
    sri_keys_free(&state.keys);
    return status;
}
