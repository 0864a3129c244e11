/*
 * cmd_serve.c - `serve`: becomes the program synaptoroute-server.
 *
 * The server is a program of its own, so that this one starts without the server's libraries. It takes the place of
 * this process, so that whoever started it (systemd, a container) signals the server itself. All options are the
 * server's, whose table of settings serves its file and environment too.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define MAX_ARGUMENTS 256

/* Where the server may be, seen from this program's directory: the build tree, then the installed one. */
static const char *const places[] = {"/../server/synaptoroute-server",
                                     "/../libexec/synaptoroute/synaptoroute-server"};

static bool find_server(char *path, size_t capacity) {
    char self[PATH_MAX];
    if (!sri_self_path(self, sizeof self)) return false;
    char *slash = strrchr(self, '/');
    if (slash == NULL) return false;
    *slash = '\0';
    for (size_t i = 0; i < SRI_COUNT(places); i++) {
        int len = snprintf(path, capacity, "%s%s", self, places[i]);
        if (len > 0 && (size_t)len < capacity && access(path, X_OK) == 0) return true;
    }
    return false;
}

/* Options that stood before the command. */
static void put_leading(const cli_state *cli, char **argv, size_t *count, char threads[32]) {
    const struct {
        const char *flag, *value;
    } strings[] = {
        {"--db", cli->database},           {"--model", cli->model},
        {"--prefix", cli->prefix},         {"--fast-model", cli->fast_model},
        {"--durability", cli->durability}, {"--threads", cli->threads > 0 ? threads : NULL}};
    snprintf(threads, 32, "%d", cli->threads);
    for (size_t i = 0; i < SRI_COUNT(strings); i++) {
        if (strings[i].value == NULL) continue;
        argv[(*count)++] = (char *)(uintptr_t)strings[i].flag;
        argv[(*count)++] = (char *)(uintptr_t)strings[i].value;
    }
    if (cli->reencode) argv[(*count)++] = (char *)(uintptr_t) "--reencode";
    if (cli->quiet) argv[(*count)++] = (char *)(uintptr_t) "--quiet";
}

static bool asks_for_help(const cli_state *cli) {
    for (int i = 0; i < cli->argc; i++)
        if (strcmp(cli->argv[i], "--help") == 0 || strcmp(cli->argv[i], "-h") == 0 ||
            strcmp(cli->argv[i], "--version") == 0)
            return true;
    return false;
}

int cli_serve(cli_state *cli) {
    char path[PATH_MAX], threads[32], *argv[MAX_ARGUMENTS];
    size_t count = 0;
    if (asks_for_help(cli)) return cli_parse(cli, NULL, 0);
    if (!find_server(path, sizeof path)) {
        cli_message(cli, "this build has no server: install libmicrohttpd-dev and libgnutls28-dev "
                         "(Debian's names) and "
                         "build again with -Dserver=enabled");
        return EXIT_FAILED;
    }
    argv[count++] = path;
    put_leading(cli, argv, &count, threads);
    if ((size_t)cli->argc + count >= MAX_ARGUMENTS)
        return cli_usage(cli, "there are too many arguments");
    for (int i = 0; i < cli->argc; i++) argv[count++] = cli->argv[i];
    argv[count] = NULL;
    execv(path, argv);
    cli_message(cli, "cannot start %s: %s", path, strerror(errno));
    return EXIT_FAILED;
}
