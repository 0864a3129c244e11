/*
 * session.c - opening the router, and the options that several commands read.
 */
#include "cli.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *cli_database(const cli_state *cli) {
    return cli->database == NULL ? "synaptoroute.db" : cli->database;
}

static bool parse_durability(const char *name, sr_durability *durability) {
    static const char *const names[] = {[SR_DURABILITY_NORMAL] = "normal",
                                        [SR_DURABILITY_FULL] = "full",
                                        [SR_DURABILITY_DEFERRED] = "deferred"};
    if (name == NULL) return true;
    for (size_t i = SR_DURABILITY_NORMAL; i < SRI_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0) *durability = (sr_durability)i;
    return *durability != SR_DURABILITY_DEFAULT;
}

sr_status cli_close_changed(sr_router **router, sr_status code, sr_error *error) {
    if (code == SR_OK) code = sr_router_flush(*router, error);
    sr_router_close(router);
    return code;
}

int cli_open(const cli_state *cli, unsigned flags, sr_router **router) {
    const char *database = cli_database(cli);
    if ((flags & SR_OPEN_EXISTING) != 0 && strcmp(database, ":memory:") != 0 &&
        access(database, F_OK) != 0) {
        cli_message(cli,
                    "there is no database %s; make one with `synaptoroute import FILE` or "
                    "`synaptoroute add`, or name one with --db",
                    database);
        return EXIT_FAILED;
    }
    if (cli->reencode)
        flags = (flags & ~(unsigned)(SR_OPEN_READ_ONLY | SR_OPEN_LAZY)) | SR_OPEN_REENCODE;
    sr_durability durability = SR_DURABILITY_DEFAULT;
    if (!parse_durability(cli->durability, &durability))
        return cli_usage(cli, "--durability %s: give normal, full or deferred", cli->durability);
    /* The router may have to encode again as long as it is open: when another process adds utterances with
     * another model's vectors. */
    static cli_progress progress;
    cli_progress_begin(cli, &progress, "encoding");
    sr_error error;
    sr_options options = {.size = sizeof options,
                          .database = database,
                          .model = cli->model,
                          .prefix = cli->prefix,
                          .fast_model = cli->fast_model,
                          .threads = cli->threads,
                          .margin = cli->margin,
                          .flags = flags,
                          .durability = durability,
                          .progress = cli_progress_step,
                          .progress_user = &progress};
    if (cli->fast_model != NULL && strcmp(cli->fast_model, "none") == 0) options.fast_model = "";
    sr_status code = sr_router_open(&options, router, &error);
    cli_progress_end(&progress);
    return code == SR_OK ? EXIT_DONE : cli_fail(cli, &error);
}

bool cli_may_name(const cli_state *cli, sr_str name) {
    if (!sri_str_equal(name, sr_str_of(SR_OOS_NAME))) return true;
    cli_message(
        cli,
        "a route cannot be called %s: the name stands for texts that belong nowhere; choose "
        "another name, or use --oos to add or remove such texts",
        SR_OOS_NAME);
    return false;
}

/* Whether `target` is the file called `path` and `suffix`. */
static bool is_file(const struct stat *target, const char *path, const char *suffix) {
    char name[4096];
    struct stat status;
    int len = snprintf(name, sizeof name, "%s%s", path, suffix);
    return len >= 0 && (size_t)len < sizeof name && stat(name, &status) == 0 &&
           status.st_dev == target->st_dev && status.st_ino == target->st_ino;
}

bool cli_may_write(const cli_state *cli, const char *path, const char *input) {
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    struct stat target;
    if (strcmp(path, "-") == 0 || stat(path, &target) != 0) return true;
    for (size_t i = 0; i < SRI_COUNT(suffixes); i++) {
        if (!is_file(&target, cli_database(cli), suffixes[i])) continue;
        cli_message(cli, "%s is the database itself, or a file of it; name another file", path);
        return false;
    }
    if (input == NULL || strcmp(input, "-") == 0 || !is_file(&target, input, "")) return true;
    cli_message(cli, "%s is the file that is read; name another file", path);
    return false;
}

int cli_decide_options(const cli_state *cli, const char *path, int top, bool top_given,
                       bool no_reject, sr_decide_options *options) {
    static const char *const paths[] = {"auto", "fast", "slow"};
    if (!(cli->margin >= 0 && cli->margin <= 2))
        return cli_usage(cli, "--margin %g: give 0 to 2, a difference of cosines", cli->margin);
    *options = (sr_decide_options){.size = sizeof *options, .no_reject = no_reject};
    size_t which = 0;
    while (path != NULL && which < SRI_COUNT(paths) && strcmp(path, paths[which]) != 0) which++;
    if (which == SRI_COUNT(paths))
        return cli_usage(cli, "--path %s: give auto, fast or slow", path);
    options->path = (sr_path)which;
    if (!top_given) return EXIT_DONE;
    if (top < 0 || top > 1000) return cli_usage(cli, "--top %d: give 0 to 1000", top);
    options->top_k = top == 0 ? -1 : top;
    return EXIT_DONE;
}

bool cli_format(const cli_state *cli, const char *name, sri_format *format) {
    *format = name == NULL ? SRI_FORMAT_UNKNOWN : sri_format_named(name);
    if (name == NULL || *format != SRI_FORMAT_UNKNOWN) return true;
    cli_usage(cli, "--format %s: give csv, jsonl or yaml", name);
    return false;
}
