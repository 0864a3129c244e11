/*
 * cmd_transfer.c - `import` and `export`: the route table from and to files.
 */
#include "cli.h"

#include "io/answer_json.h"

#include <string.h>

/* ---- import ------------------------------------------------------------------------------------ */

typedef unsigned long long number;

typedef struct import_job {
    const sri_routes *routes;
    bool replace, no_fit;
    sr_receipt receipt;
    sr_fit_report *fit; /* NULL: there was none to make */
    double seconds;
} import_job;

static bool put_json(cli_state *cli, const import_job *job) {
    sri_buffer *out = &cli->out;
    if (!sri_append_receipt_json(out, &job->receipt)) return false;
    out->len--; /* its bracket: what follows belongs before it */
    return sri_buffer_format(out, ",\"seconds\":%.3f,\"fit\":", job->seconds) &&
           (job->fit == NULL ? sri_buffer_append_str(out, "null")
                             : sri_append_fit_json(out, job->fit)) &&
           sri_buffer_append_str(out, "}\n");
}

static bool put_receipt(cli_state *cli, const import_job *job) {
    const sr_receipt *receipt = &job->receipt;
    bool done = sri_buffer_format(
        &cli->out, "imported %zu routes (%llu new, %llu changed): %llu utterances added",
        job->routes->count, (number)receipt->routes_added, (number)receipt->routes_changed,
        (number)receipt->utterances_added);
    if (done && receipt->utterances_removed > 0)
        done = sri_buffer_format(&cli->out, ", %llu removed", (number)receipt->utterances_removed);
    if (done && receipt->oos_added > 0)
        done = sri_buffer_format(&cli->out, ", %llu out-of-scope examples added",
                                 (number)receipt->oos_added);
    if (done && receipt->oos_removed > 0)
        done = sri_buffer_format(&cli->out, ", %llu out-of-scope examples removed",
                                 (number)receipt->oos_removed);
    if (done && receipt->duplicates > 0)
        done = sri_buffer_format(&cli->out, ", %llu duplicates", (number)receipt->duplicates);
    return done && sri_buffer_format(&cli->out, ", in %.1f s (revision %llu)\n", job->seconds,
                                     (number)receipt->revision);
}

static int report_import(cli_state *cli, const import_job *job) {
    bool done = cli->json
                    ? put_json(cli, job)
                    : put_receipt(cli, job) && (job->fit == NULL || cli_put_fit(cli, job->fit));
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int put_routes(cli_state *cli, sr_router *router, import_job *job) {
    const sri_routes *routes = job->routes;
    double began = sri_seconds();
    sr_error error;
    cli_progress progress;
    cli_progress_begin(cli, &progress, "encoding");
    sr_put_options options = {.size = sizeof options,
                              .mode = job->replace ? SR_PUT_REPLACE : SR_PUT_EXTEND,
                              .progress = cli_progress_step,
                              .progress_user = &progress,
                              .oos = routes->excepted_texts,
                              .oos_count = routes->excepted};
    sr_status code =
        sr_routes_put(router, routes->routes, routes->count, &options, &job->receipt, &error);
    if (code == SR_OK) code = sr_router_flush(router, &error);
    cli_progress_end(&progress);
    job->seconds = sri_seconds() - began;
    if (code == SR_OK) return EXIT_DONE;
    if (code != SR_ERR_CANCELLED) return cli_fail(cli, &error);
    cli_message(cli, "stopped; the table is as it was");
    return EXIT_FAILED;
}

static sr_status ask_whether_fresh(sr_router *router, bool *fresh, sr_error *error) {
    sr_info info = {.size = sizeof info};
    sr_status code = sr_router_info(router, &info, error);
    *fresh = code == SR_OK && info.fit != SR_FIT_NONE && info.fit_revision == info.revision;
    return code;
}

/* Whether the stored fit is of the table as it is, made with this model and by this version. That is known when
 * the model is loaded, as it is by encoding no text at all. */
static sr_status find_fresh(sr_router *router, bool *fresh, sr_error *error) {
    sr_vectors *none = NULL;
    sr_status code = ask_whether_fresh(router, fresh, error);
    if (code != SR_OK || !*fresh) return code;
    code = sr_router_encode(router, NULL, 0, &none, error);
    sr_vectors_free(&none);
    return code == SR_OK ? ask_whether_fresh(router, fresh, error) : code;
}

/* The import is done by then, and stays done. */
static int fit_routes(const cli_state *cli, sr_router *router, import_job *job) {
    if (job->no_fit) return EXIT_DONE;
    sr_error error;
    bool fresh;
    sr_status code = find_fresh(router, &fresh, &error);
    if (code == SR_OK && fresh) return EXIT_DONE;
    sr_fit_options options = {.size = sizeof options};
    if (code == SR_OK) code = cli_run_fit(cli, router, &options, &job->fit, &error);
    if (code == SR_OK) return EXIT_DONE;
    cli_message(cli, "the table is imported, but not fitted: %s; run `synaptoroute fit`",
                code == SR_ERR_CANCELLED ? "stopped" : error.message);
    return EXIT_FAILED;
}

static int import_routes(cli_state *cli, import_job *job) {
    sr_router *router = NULL;
    int status = cli_open(cli, SR_OPEN_LAZY, &router);
    if (status == EXIT_DONE) status = put_routes(cli, router, job);
    int fitted = status == EXIT_DONE ? fit_routes(cli, router, job) : status;
    sr_router_close(&router);
    if (status == EXIT_DONE) status = report_import(cli, job);
    sr_fit_report_free(&job->fit);
    return status == EXIT_DONE ? fitted : status;
}

static int import_rows(cli_state *cli, const sri_rows *rows, const char *oos_label,
                       import_job *job) {
    sri_routes routes;
    sr_error error;
    if (sri_rows_group(rows, sr_str_of(oos_label), &routes, &error) != SR_OK)
        return cli_fail(cli, &error);
    bool named = true;
    for (size_t i = 0; named && i < routes.count; i++)
        named = cli_may_name(cli, routes.routes[i].name);
    job->routes = &routes;
    int status = named ? import_routes(cli, job) : EXIT_FAILED;
    sri_routes_free(&routes);
    return status;
}

int cli_import(cli_state *cli) {
    const char *format = NULL, *oos_label = SR_OOS_NAME;
    import_job job = {0};
    sri_read_options read = {0};
    const cli_option options[] = {{"format", CLI_STRING, &format, NULL},
                                  {"text-column", CLI_STRING, &read.text_column, NULL},
                                  {"route-column", CLI_STRING, &read.route_column, NULL},
                                  {"oos-label", CLI_STRING, &oos_label, NULL},
                                  {"replace", CLI_FLAG, &job.replace, NULL},
                                  {"no-fit", CLI_FLAG, &job.no_fit, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc != 1) return cli_usage(cli, "give one FILE, or - for standard input");
    if (!cli_format(cli, format, &read.format)) return EXIT_USAGE;
    if (strcmp(cli->argv[0], "-") == 0 && format == NULL)
        return cli_usage(cli, "say --format csv, jsonl or yaml for standard input");
    sri_rows rows;
    sr_error error;
    if (sri_rows_read(cli->argv[0], &read, &rows, &error) != SR_OK) return cli_fail(cli, &error);
    status = import_rows(cli, &rows, oos_label, &job);
    sri_rows_free(&rows);
    return status;
}

/* ---- export ------------------------------------------------------------------------------------ */

static void report_loss(const cli_state *cli, const sri_export_loss *loss) {
    if (cli->quiet) return;
    if (loss->settings > 0)
        cli_message(
            cli,
            "note: CSV has no place for the threshold, description or metadata of %zu routes; "
            "export as JSON Lines or YAML to keep them",
            loss->settings);
    if (loss->empty > 0)
        cli_message(cli, "note: CSV has no place for %zu routes without utterances", loss->empty);
}

static int write_table(cli_state *cli, const sr_table *table, sri_format format,
                       const char *oos_label, const char *path) {
    sri_outfile file;
    sri_export_loss loss;
    sr_error error;
    sr_status code = sri_outfile_open(path, &file, &error);
    if (code == SR_OK) {
        code = sri_export(table, format, sr_str_of(oos_label), &file, &loss, &error);
        if (code == SR_OK) code = sri_outfile_commit(&file, &error);
        sri_outfile_abandon(&file);
    }
    if (code != SR_OK) return cli_fail(cli, &error);
    report_loss(cli, &loss);
    if (strcmp(path, "-") == 0) return EXIT_DONE;
    bool done = true;
    if (cli->json)
        done =
            sri_buffer_format(&cli->out,
                              "{\"routes\":%zu,\"revision\":%llu,\"file\":", sr_table_count(table),
                              (unsigned long long)sr_table_revision(table)) &&
            sri_append_json(&cli->out, sr_str_of(path)) && sri_buffer_append_str(&cli->out, "}\n");
    else
        done = sri_buffer_format(&cli->out, "exported %zu routes to ", sr_table_count(table)) &&
               cli_put_plain(cli, sr_str_of(path)) && sri_buffer_append(&cli->out, "\n", 1);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int export_to(cli_state *cli, sri_format format, const char *oos_label, const char *path) {
    sr_router *router = NULL;
    sr_table *table = NULL;
    sr_error error;
    int status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_LAZY | SR_OPEN_READ_ONLY, &router);
    if (status != EXIT_DONE) return status;
    if (!cli_may_write(cli, path, NULL))
        status = EXIT_FAILED;
    else if (sr_table_read(router, NULL, 1, &table, &error) != SR_OK)
        status = cli_fail(cli, &error);
    else
        status = write_table(cli, table, format, oos_label, path);
    sr_table_free(&table);
    sr_router_close(&router);
    return status;
}

int cli_export(cli_state *cli) {
    const char *name = NULL, *oos_label = SR_OOS_NAME;
    sri_format format;
    const cli_option options[] = {{"format", CLI_STRING, &name, NULL},
                                  {"oos-label", CLI_STRING, &oos_label, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc != 1) return cli_usage(cli, "give one FILE, or - for standard output");
    if (!cli_format(cli, name, &format)) return EXIT_USAGE;
    const char *path = cli->argv[0];
    if (format == SRI_FORMAT_UNKNOWN) format = sri_format_of_path(path);
    if (format == SRI_FORMAT_UNKNOWN && strcmp(path, "-") == 0) format = SRI_FORMAT_YAML;
    if (format == SRI_FORMAT_UNKNOWN)
        return cli_usage(cli, "the format is not clear from %s; say --format csv, jsonl or yaml",
                         path);
    return export_to(cli, format, oos_label, path);
}
