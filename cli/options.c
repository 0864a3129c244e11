/*
 * options.c - parses the command line.
 *
 * Written here because getopt_long() knows one table at a time: global options stand before or after the
 * command, and an unknown one gets the nearest name as a hint.
 */
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GLOBALS 9

static void global_options(cli_state *cli, cli_option options[GLOBALS]) {
    const cli_option table[GLOBALS] = {{"db", CLI_STRING, &cli->database, NULL},
                                       {"model", CLI_STRING, &cli->model, NULL},
                                       {"prefix", CLI_STRING, &cli->prefix, NULL},
                                       {"threads", CLI_INTEGER, &cli->threads, NULL},
                                       {"reencode", CLI_FLAG, &cli->reencode, NULL},
                                       {"json", CLI_FLAG, &cli->json, NULL},
                                       {"quiet", CLI_FLAG, &cli->quiet, NULL},
                                       {"fast-model", CLI_STRING, &cli->fast_model, NULL},
                                       {"durability", CLI_STRING, &cli->durability, NULL}};
    memcpy(options, table, sizeof table);
}

/* ---- Hints ------------------------------------------------------------------------------------- */

/* Edits that turn one word into the other, in one row of the usual table. */
static size_t distance(const char *a, const char *b) {
    enum { MAX = 32 };
    size_t row[MAX + 1], m = strlen(a), n = strlen(b);
    if (m > MAX || n > MAX) return SIZE_MAX;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            size_t change = diagonal + (a[i - 1] != b[j - 1]);
            row[j] = SRI_MIN(change, SRI_MIN(above, row[j - 1]) + 1);
            diagonal = above;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    size_t least = SRI_MAX(strlen(word) / 2, 1) + 1;
    for (size_t i = 0; i < count; i++) {
        size_t edits = distance(word, names[i]);
        if (edits >= least) continue;
        least = edits;
        best = names[i];
    }
    return best;
}

static int unknown_option(const cli_state *cli, const char *argument, const cli_option *options,
                          size_t count) {
    const char *names[64];
    char word[64];
    size_t n = 0;
    for (; n < count && n < SRI_COUNT(names) - 2; n++) names[n] = options[n].name;
    names[n++] = "help";
    names[n++] = "version";
    snprintf(word, sizeof word, "%.*s", (int)SRI_MIN(strcspn(argument + 2, "="), sizeof word - 1),
             argument + (argument[1] == '-' ? 2 : 1));
    const char *near = cli_nearest(word, names, n);
    if (near == NULL) return cli_usage(cli, "there is no option %s", argument);
    return cli_usage(cli, "there is no option %s; did you mean --%s?", argument, near);
}

/* ---- Values ------------------------------------------------------------------------------------ */

static int set_integer(const cli_state *cli, const cli_option *option, const char *value) {
    char *end;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0 || number < INT_MIN || number > INT_MAX)
        return cli_usage(cli, "--%s %s: give a whole number", option->name, value);
    *(int *)option->target = (int)number;
    return CLI_PROCEED;
}

static int set_value(const cli_state *cli, const cli_option *option, const char *value) {
    char *end;
    double number;
    switch (option->kind) {
    case CLI_FLAG: *(bool *)option->target = true; break;
    case CLI_STRING: *(const char **)option->target = value; break;
    case CLI_INTEGER: return set_integer(cli, option, value);
    case CLI_REAL:
        number = strtod(value, &end);
        if (end == value || *end != '\0' || !isfinite(number))
            return cli_usage(cli, "--%s %s: give a number", option->name, value);
        *(double *)option->target = number;
        break;
    }
    return CLI_PROCEED;
}

/* ---- Parsing ----------------------------------------------------------------------------------- */

static const cli_option *find_option(const cli_option *options, size_t count, const char *name,
                                     size_t len) {
    for (size_t i = 0; i < count; i++)
        if (strncmp(options[i].name, name, len) == 0 && options[i].name[len] == '\0')
            return &options[i];
    return NULL;
}

static bool put_help(cli_state *cli) {
    static const char globals[] =
        "\nGlobal options, before or after the command:\n"
        "  --db FILE       the route table (default: synaptoroute.db in this directory)\n"
        "  --model NAME    a shipped or pulled model, or a directory (default: bge-small-en-v1.5)\n"
        "  --fast-model NAME\n"
        "                  the static model of the fast path, or none (default: static-en)\n"
        "  --prefix TEXT   put before every text, or @NAME for one that the model's files name\n"
        "  --threads N     worker threads (default: one for each core)\n"
        "  --reencode      add the vectors that this model lacks; those of others are kept\n"
        "  --durability D  of changes: normal (default), full (synced to the disk) or deferred\n"
        "  --json          print JSON\n"
        "  --quiet         no notes, warnings or progress on standard error\n"
        "  --help          this text\n"
        "  --version       the version\n";
    const cli_command *command = cli->command;
    if (command != NULL)
        return sri_buffer_format(&cli->out, "Usage: synaptoroute %s %s\n\n%s\n%s%s", command->name,
                                 command->arguments, command->summary, command->help, globals);
    size_t count;
    const cli_command *commands = cli_commands(&count);
    bool done = sri_buffer_append_str(&cli->out,
                                      "Usage: synaptoroute [OPTIONS] COMMAND ...\n\n"
                                      "Decides which of your routes a text belongs to, or none.\n\n"
                                      "Commands (synaptoroute COMMAND --help says more):\n");
    for (size_t i = 0; done && i < count; i++)
        done = sri_buffer_format(&cli->out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    return done && sri_buffer_append_str(&cli->out, globals) &&
           sri_buffer_append_str(&cli->out,
                                 "\nExit status: 0 done, 1 the work failed, 2 wrong usage.\n");
}

/* Takes the option at argv[*i] and its value, moving *i to the last argument taken. */
static int take_option(cli_state *cli, int *i, const cli_option *options, size_t count) {
    const char *argument = cli->argv[*i];
    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        return put_help(cli) ? EXIT_DONE : cli_fail_memory(cli);
    }
    if (strcmp(argument, "--version") == 0) {
        bool done = sri_buffer_format(&cli->out, "synaptoroute %s\n", sr_version());
        return done ? EXIT_DONE : cli_fail_memory(cli);
    }
    const char *name = argument + 2;
    size_t len = strcspn(argument, "=");
    const cli_option *option = NULL;
    if (argument[1] == '-' && len > 2) option = find_option(options, count, name, len - 2);
    if (option == NULL) return unknown_option(cli, argument, options, count);
    const char *value = argument[len] == '=' ? argument + len + 1 : NULL;
    if (option->kind == CLI_FLAG && value != NULL)
        return cli_usage(cli, "--%s takes no value", option->name);
    if (option->kind != CLI_FLAG && value == NULL) {
        if (*i + 1 == cli->argc) return cli_usage(cli, "--%s needs a value", option->name);
        value = cli->argv[++*i];
    }
    if (option->given != NULL) *option->given = true;
    return set_value(cli, option, value);
}

static int check_globals(const cli_state *cli) {
    if (cli->threads < 0 || cli->threads > SR_MAX_THREADS)
        return cli_usage(cli, "--threads %d: give 1 to %d", cli->threads, SR_MAX_THREADS);
    if (cli->database != NULL && *cli->database == '\0')
        return cli_usage(cli, "--db needs a file name");
    return CLI_PROCEED;
}

static bool is_option(const char *argument) { return argument[0] == '-' && argument[1] != '\0'; }

int cli_parse(cli_state *cli, const cli_option *own, size_t count) {
    cli_option options[64];
    global_options(cli, options);
    if (count > 0) memcpy(options + GLOBALS, own, count * sizeof *own);
    int kept = 0, i = 0;
    for (; i < cli->argc; i++) {
        if (strcmp(cli->argv[i], "--") == 0) {
            i++;
            break;
        }
        if (!is_option(cli->argv[i])) {
            cli->argv[kept++] = cli->argv[i];
            continue;
        }
        int status = take_option(cli, &i, options, GLOBALS + count);
        if (status != CLI_PROCEED) return status;
    }
    while (i < cli->argc) cli->argv[kept++] = cli->argv[i++];
    cli->argc = kept;
    return check_globals(cli);
}

int cli_parse_leading(cli_state *cli) {
    cli_option options[GLOBALS];
    global_options(cli, options);
    int i = 0;
    for (; i < cli->argc && is_option(cli->argv[i]); i++) {
        int status = take_option(cli, &i, options, GLOBALS);
        if (status != CLI_PROCEED) return status;
    }
    cli->argc -= i;
    cli->argv += i;
    return check_globals(cli);
}
