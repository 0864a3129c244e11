/*
 * cmd_fit.c - `fit`: what can be learned from the table; and the fit that ends an import.
 */
#include "cli.h"

#include "io/answer_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long number;

/* ---- Reports ----------------------------------------------------------------------------------- */

/* A share in the middle of a line; nothing where it could not be measured. */
static bool put_share(cli_state *cli, const char *before, double share, const char *after) {
    return isnan(share) || sri_buffer_format(&cli->out, "%s%.1f %%%s", before, share * 100, after);
}

static bool put_accuracy(cli_state *cli, const sr_fit_report *report) {
    if (isnan(report->slow_accuracy)) return true;
    return sri_buffer_append_str(&cli->out, "  held-out accuracy ") &&
           put_share(cli, " ", report->slow_accuracy, " slow") &&
           put_share(cli, ", ", report->auto_accuracy, " auto") &&
           put_share(cli, ", ", report->fast_accuracy, " fast") &&
           put_share(cli, "; nearest neighbour ", report->neighbours_accuracy, "") &&
           sri_buffer_append(&cli->out, "\n", 1) &&
           put_share(cli, "  fast path          answers ", report->fast_share, " of the texts\n");
}

static bool put_scope(cli_state *cli, const sr_fit_report *report) {
    char threshold[64] = "accepts what is likelier right than out of scope";
    if (report->auto_threshold > 0)
        snprintf(threshold, sizeof threshold, "confidence %.3f", report->auto_threshold);
    bool done = (isnan(report->auto_threshold) ||
                 sri_buffer_format(&cli->out, "  automatic threshold %s", threshold)) &&
                put_share(cli, ": ", report->oos_accepted, " of out-of-scope texts accepted") &&
                put_share(cli, ", ", report->precision, " of accepted texts right") &&
                (isnan(report->auto_threshold) || sri_buffer_append(&cli->out, "\n", 1));
    if (done && !isnan(report->oos_auroc))
        done = sri_buffer_format(&cli->out, "  out-of-scope AUROC %.3f\n", report->oos_auroc);
    if (done && !isnan(report->ece))
        done = sri_buffer_format(&cli->out, "  calibration error  %.3f\n", report->ece);
    if (done && !isnan(report->route_threshold))
        done = sri_buffer_format(&cli->out, "  the route's threshold is now confidence %.3f\n",
                                 report->route_threshold);
    return done;
}

static bool put_warning(cli_state *cli, const sr_fit_warning *warning) {
    char threshold[48] = "the automatic threshold";
    if (warning->threshold.kind != SR_THRESHOLD_AUTO)
        snprintf(threshold, sizeof threshold, "its %s threshold of %.3g",
                 warning->threshold.kind == SR_THRESHOLD_COSINE ? "cosine" : "confidence",
                 warning->threshold.value);
    return sri_buffer_append_str(&cli->out, "  warning: route ") &&
           cli_put_plain(cli, warning->route) &&
           sri_buffer_format(&cli->out,
                             ": %s turns down %llu of %llu texts that are rightly decided\n",
                             threshold, (number)warning->turned_down, (number)warning->texts);
}

bool cli_put_fit(cli_state *cli, const sr_fit_report *report) {
    bool done =
        sri_buffer_format(&cli->out, "fitted %llu routes with %llu utterances",
                          (number)report->routes, (number)report->utterances) &&
        (report->oos_examples == 0 || sri_buffer_format(&cli->out, ", %llu out-of-scope examples",
                                                        (number)report->oos_examples)) &&
        (report->labelled == 0 ||
         sri_buffer_format(&cli->out, ", %llu labelled texts", (number)report->labelled)) &&
        (isnan(report->seconds) || sri_buffer_format(&cli->out, ", in %.1f s", report->seconds)) &&
        sri_buffer_format(&cli->out, " (revision %llu)\n", (number)report->revision);
    if (done && report->kind == SR_FIT_NEIGHBOURS)
        return sri_buffer_format(&cli->out, "  %s: the nearest neighbour decides\n",
                                 report->no_heads) &&
               (isnan(report->auto_threshold) ||
                sri_buffer_format(&cli->out, "  automatic threshold cosine %.3f\n",
                                  report->auto_threshold));
    done = done && put_accuracy(cli, report) && put_scope(cli, report);
    for (size_t i = 0; done && i < report->warning_count; i++)
        done = put_warning(cli, &report->warnings[i]);
    return done;
}

/* ---- Running ----------------------------------------------------------------------------------- */

sr_status cli_run_fit(const cli_state *cli, sr_router *router, sr_fit_options *options,
                      sr_fit_report **report, sr_error *error) {
    cli_progress progress;
    cli_progress_begin(cli, &progress, "fitting");
    progress.share = true;
    options->progress = cli_progress_step;
    options->progress_user = &progress;
    sr_status code = sr_fit(router, options, report, error);
    cli_progress_end(&progress);
    return code;
}

/* ---- The command ------------------------------------------------------------------------------- */

typedef struct labelled {
    sri_rows rows;
    sr_str *texts, *routes;
} labelled;

static void free_labelled(labelled *given) {
    sri_free(given->texts);
    sri_free(given->routes);
    sri_rows_free(&given->rows);
}

static bool take_rows(labelled *given, const char *oos_label) {
    const sri_rows *rows = &given->rows;
    given->texts = sri_alloc_array(rows->count, sizeof *given->texts);
    given->routes = sri_alloc_array(rows->count, sizeof *given->routes);
    if (given->texts == NULL || given->routes == NULL) return false;
    for (size_t i = 0; i < rows->count; i++) {
        sr_str name = rows->labels[rows->rows[i].label].name;
        given->texts[i] = rows->rows[i].text;
        given->routes[i] = sri_str_equal(name, sr_str_of(oos_label)) ? (sr_str){NULL, 0} : name;
    }
    return true;
}

/* The library names the text by its number; here it has a line. */
static int check_names(const cli_state *cli, sr_router *router, const labelled *given,
                       const char *oos_label) {
    sr_error error;
    for (size_t i = 0; i < given->rows.label_count; i++) {
        const sri_label *label = &given->rows.labels[i];
        sr_table *found = NULL;
        if (sri_str_equal(label->name, sr_str_of(oos_label))) continue;
        sr_status code = sr_table_read(router, &label->name, 0, &found, &error);
        sr_table_free(&found);
        if (code == SR_OK) continue;
        if (code != SR_ERR_NOT_FOUND) return cli_fail(cli, &error);
        cli_message(
            cli,
            "%s:%zu: the table has no route \"%.*s\"; import it first, leave its texts out, "
            "or say with --oos-label that they belong nowhere",
            cli->argv[0], label->line, (int)SRI_MIN(label->name.len, (size_t)120),
            label->name.data);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int fit_table(cli_state *cli, sr_fit_options *options, const labelled *given,
                     const char *oos_label) {
    sr_router *router = NULL;
    sr_fit_report *report = NULL;
    sr_error error;
    int status = cli_open(cli, SR_OPEN_EXISTING, &router);
    if (status == EXIT_DONE) status = check_names(cli, router, given, oos_label);
    if (status == EXIT_DONE) {
        sr_status code = cli_run_fit(cli, router, options, &report, &error);
        if (code == SR_ERR_CANCELLED)
            cli_message(cli, "stopped; what was fitted before stays");
        else if (code != SR_OK)
            cli_fail(cli, &error);
        status = code == SR_OK ? EXIT_DONE : EXIT_FAILED;
    }
    sr_router_close(&router);
    if (status != EXIT_DONE) return status;
    bool done =
        cli->json ? sri_append_fit_json(&cli->out, report) && sri_buffer_append(&cli->out, "\n", 1)
                  : cli_put_fit(cli, report);
    sr_fit_report_free(&report);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int check_share(const cli_state *cli, const char *name, double value) {
    if (value > 0 && value <= 1) return EXIT_DONE;
    return cli_usage(cli, "--%s %g: give a share above 0, up to 1, or none", name, value);
}

/* "none" takes back what an earlier fit was told. */
static int parse_target(const cli_state *cli, const char *name, const char *text, double *value) {
    char *end;
    *value = 0;
    if (text == NULL) return EXIT_DONE;
    *value = -1;
    if (strcmp(text, "none") == 0) return EXIT_DONE;
    *value = strtod(text, &end);
    if (end == text || *end != '\0') return cli_usage(cli, "--%s %s: give a number", name, text);
    return check_share(cli, name, *value);
}

static int read_labelled(cli_state *cli, const sri_read_options *read, const char *oos_label,
                         labelled *given, sr_fit_options *options) {
    sr_error error;
    if (cli->argc == 0) return EXIT_DONE;
    if (sri_rows_read(cli->argv[0], read, &given->rows, &error) != SR_OK)
        return cli_fail(cli, &error);
    if (!take_rows(given, oos_label)) return cli_fail_memory(cli);
    options->texts = given->texts;
    options->routes = given->routes;
    options->count = given->rows.count;
    return EXIT_DONE;
}

int cli_fit(cli_state *cli) {
    const char *format = NULL, *oos_label = SR_OOS_NAME, *route = NULL, *max_oos = NULL,
               *precision = NULL;
    sri_read_options read = {0};
    sr_fit_options fit = {.size = sizeof fit};
    const cli_option options[] = {{"format", CLI_STRING, &format, NULL},
                                  {"text-column", CLI_STRING, &read.text_column, NULL},
                                  {"route-column", CLI_STRING, &read.route_column, NULL},
                                  {"oos-label", CLI_STRING, &oos_label, NULL},
                                  {"max-oos", CLI_STRING, &max_oos, NULL},
                                  {"min-precision", CLI_STRING, &precision, NULL},
                                  {"route", CLI_STRING, &route, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc > 1) return cli_usage(cli, "give one FILE, - for standard input, or none");
    if (!cli_format(cli, format, &read.format)) return EXIT_USAGE;
    if (cli->argc == 1 && strcmp(cli->argv[0], "-") == 0 && format == NULL)
        return cli_usage(cli, "say --format csv, jsonl or yaml for standard input");
    status = parse_target(cli, "max-oos", max_oos, &fit.max_oos_accepted);
    if (status == EXIT_DONE)
        status = parse_target(cli, "min-precision", precision, &fit.min_precision);
    if (status != EXIT_DONE) return status;
    if (route != NULL && !(fit.max_oos_accepted > 0) && !(fit.min_precision > 0))
        return cli_usage(cli, "--route needs --max-oos or --min-precision");
    sr_str name = sr_str_of(route);
    if (route != NULL) fit.route = &name;
    labelled given = {0};
    status = read_labelled(cli, &read, oos_label, &given, &fit);
    if (status == EXIT_DONE) status = fit_table(cli, &fit, &given, oos_label);
    free_labelled(&given);
    return status;
}
