/*
 * cli.h - what the commands of the program share: options, messages, output, progress, opening.
 *
 * A command is a function over a `cli_state`; it parses its own options, prints through cli->out and returns
 * the exit status. Nothing here is used by two threads.
 */
#ifndef SR_CLI_H
#define SR_CLI_H

#include "base/base.h"
#include "io/io.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct cli_state cli_state;

typedef struct cli_command {
    const char *name;
    int (*run)(cli_state *cli);
    const char *arguments; /* of the usage line */
    const char *summary;   /* one line */
    const char *help;      /* the rest of --help, with the command's own options */
} cli_command;

struct cli_state {
    const cli_command *command; /* NULL until it is known */
    const char *database, *model, *prefix, *fast_model, *durability;
    int threads;
    double margin; /* --margin of `route` and `eval` */
    bool reencode, json, quiet;
    int argc; /* what follows the command; after cli_parse() its positional arguments */
    char **argv;
    sri_buffer out; /* of standard output, not yet written */
    bool pipe_closed;
};

/* ---- Options (options.c) ----------------------------------------------------------------------- */

typedef enum cli_kind { CLI_FLAG, CLI_STRING, CLI_INTEGER, CLI_REAL } cli_kind;

/* An option `--name`; `target` is a bool, const char *, int or double. Reals must be finite. */
typedef struct cli_option {
    const char *name;
    cli_kind kind;
    void *target;
    bool *given; /* NULL, or set when the option was given */
} cli_option;

#define CLI_PROCEED (-1)

/* Parses cli->argv: global options and the given ones, in any order; "--" ends them. The rest becomes
 * cli->argv. Returns CLI_PROCEED, or the status to exit with (after --help or a message). */
int cli_parse(cli_state *cli, const cli_option *options, size_t count);

/* Parses options up to the first argument that is none, leaving that and the rest in cli->argv. */
int cli_parse_leading(cli_state *cli);

/* The one of `names` that is nearest to `word`, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *names, size_t count);

/* ---- Commands (main.c) ------------------------------------------------------------------------- */

const cli_command *cli_commands(size_t *count);
int cli_route(cli_state *cli);
int cli_add(cli_state *cli);
int cli_remove(cli_state *cli);
int cli_list(cli_state *cli);
int cli_info(cli_state *cli);
int cli_import(cli_state *cli);
int cli_export(cli_state *cli);
int cli_eval(cli_state *cli);
int cli_bench(cli_state *cli);
int cli_lint(cli_state *cli);
int cli_load(cli_state *cli);
int cli_pull(cli_state *cli);
int cli_distill(cli_state *cli);
int cli_fit(cli_state *cli);
int cli_serve(cli_state *cli);
int cli_key(cli_state *cli);

/* ---- Messages and output (output.c) ------------------------------------------------------------ */

/* "synaptoroute: COMMAND: ..." on standard error, in one line. */
void cli_message(const cli_state *cli, const char *format, ...) SRI_PRINTF(2, 3);
/* A message; EXIT_FAILED. */
int cli_fail(const cli_state *cli, const sr_error *error);
int cli_fail_memory(const cli_state *cli);
/* A message and where help is; EXIT_USAGE. */
int cli_usage(const cli_state *cli, const char *format, ...) SRI_PRINTF(2, 3);

/* Writes cli->out; a reader that is gone is no failure, but sets pipe_closed. EXIT_DONE or EXIT_FAILED. */
int cli_flush(cli_state *cli);

/* Appends `text` for people: control characters, which could play with a terminal, become spaces. */
bool cli_put_plain(cli_state *cli, sr_str text);
/* The same, filled with spaces to `width` characters. */
bool cli_put_column(cli_state *cli, sr_str text, size_t width);
size_t cli_width(sr_str text); /* characters */

/* ---- Progress (progress.c) --------------------------------------------------------------------- */

typedef struct cli_progress {
    const char *what; /* "encoding" */
    bool shown;       /* standard error is a terminal, and not --quiet */
    bool drawn;
    bool share; /* the numbers mean nothing but their share */
    double began, drawn_at;
} cli_progress;

/* Also lets Ctrl-C stop the work in an orderly way until cli_progress_end(). */
void cli_progress_begin(const cli_state *cli, cli_progress *progress, const char *what);
int cli_progress_step(void *progress, uint64_t done, uint64_t total); /* an sr_progress_fn */
void cli_progress_end(cli_progress *progress);

/* ---- Fitting (cmd_fit.c) ----------------------------------------------------------------------- */

/* sr_fit() with progress, which the options take. */
SR_MUST_CHECK sr_status cli_run_fit(const cli_state *cli, sr_router *router,
                                    sr_fit_options *options, sr_fit_report **report,
                                    sr_error *error);
bool cli_put_fit(cli_state *cli, const sr_fit_report *report);

/* ---- Session (session.c) ----------------------------------------------------------------------- */

/* Opens the router that the global options name; on failure says so and returns EXIT_FAILED, else
 * EXIT_DONE. `flags` of sr_open_flags. */
int cli_open(const cli_state *cli, unsigned flags, sr_router **router);
const char *cli_database(const cli_state *cli);
/* Closes a router that changed its table: deferred changes are stored first. `code` as it is so far, and `error`
 * with it. */
sr_status cli_close_changed(sr_router **router, sr_status code, sr_error *error);

/* Whether `path` may be written: not when it is the database, one of its side files or `input` (NULL or "-":
 * none), by whatever name. False after a message. The database must be open, so that its side files are
 * there. */
bool cli_may_write(const cli_state *cli, const char *path, const char *input);

/* Whether a route may be called `name`; false after a message. */
bool cli_may_name(const cli_state *cli, sr_str name);

/* Checks --margin, and parses --path and --top into `options`; EXIT_DONE or EXIT_USAGE after a message. */
int cli_decide_options(const cli_state *cli, const char *path, int top, bool top_given,
                       bool no_reject, sr_decide_options *options);

/* Parses --format; NULL is SRI_FORMAT_UNKNOWN. False after a message. */
bool cli_format(const cli_state *cli, const char *name, sri_format *format);

/* ---- Texts (texts.c) --------------------------------------------------------------------------- */

/* The texts of a file, in its order. Zero it first. */
typedef struct cli_texts {
    sr_str *items;
    size_t count, capacity;
    sri_rows rows; /* of a file with columns */
    sri_buffer bytes;
} cli_texts;

/* Reads a file with one text a line, blank ones left out, or one as for `import` when its ending or
 * `options` names a format. EXIT_DONE, or EXIT_FAILED after a message: it cannot be read, or has no texts. */
int cli_read_texts(const cli_state *cli, const char *path, const sri_read_options *options,
                   cli_texts *texts);
void cli_free_texts(cli_texts *texts);

#endif
