/*
 * cmd_transfer.c - `import` and `export`: the route table from and to files.
 */
#include "cli.h"

#include <string.h>

/* ---- import ------------------------------------------------------------------------------------ */

static int report_import(cli_state *cli, const sr_receipt *receipt, const sri_routes *routes,
                         double seconds) {
    typedef unsigned long long number;
    if (cli->json) {
        char more[96];
        snprintf(more, sizeof more, ",\"oos_skipped\":%zu,\"seconds\":%.3f", routes->excepted,
                 seconds);
        return cli_put_receipt_json(cli, receipt, more) ? EXIT_DONE : cli_fail_memory(cli);
    }
    bool done = sri_buffer_format(
        &cli->out, "imported %zu routes (%llu new, %llu changed): %llu utterances added",
        routes->count, (number)receipt->routes_added, (number)receipt->routes_changed,
        (number)receipt->utterances_added);
    if (done && receipt->utterances_removed > 0)
        done = sri_buffer_format(&cli->out, ", %llu removed", (number)receipt->utterances_removed);
    if (done && receipt->duplicates > 0)
        done = sri_buffer_format(&cli->out, ", %llu duplicates", (number)receipt->duplicates);
    done = done && sri_buffer_format(&cli->out, ", in %.1f s (revision %llu)\n", seconds,
                                     (number)receipt->revision);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int put_routes(cli_state *cli, const sri_routes *routes, bool replace) {
    double began = sri_seconds();
    sr_router *router = NULL;
    int status = cli_open(cli, cli_lazy(cli), &router);
    if (status != EXIT_DONE) return status;
    sr_error error;
    sr_receipt receipt = {0};
    cli_progress progress;
    cli_progress_begin(cli, &progress, "encoding");
    sr_put_options options = {.size = sizeof options,
                              .mode = replace ? SR_PUT_REPLACE : SR_PUT_EXTEND,
                              .progress = cli_progress_step,
                              .progress_user = &progress};
    sr_status code =
        sr_routes_put(router, routes->routes, routes->count, &options, &receipt, &error);
    cli_progress_end(&progress);
    sr_router_close(&router);
    if (code == SR_ERR_CANCELLED) {
        cli_message(cli, "stopped; the table is as it was");
        return EXIT_FAILED;
    }
    if (code != SR_OK) return cli_fail(cli, &error);
    return report_import(cli, &receipt, routes, sri_seconds() - began);
}

static int import_rows(cli_state *cli, const sri_rows *rows, const char *oos_label, bool replace) {
    sri_routes routes;
    sr_error error;
    if (sri_rows_group(rows, sr_str_of(oos_label), &routes, &error) != SR_OK)
        return cli_fail(cli, &error);
    if (routes.excepted > 0 && !cli->quiet)
        cli_message(cli, "note: %zu texts labelled %s were left out; a later version uses them",
                    routes.excepted, oos_label);
    bool named = true;
    for (size_t i = 0; named && i < routes.count; i++)
        named = cli_may_name(cli, routes.routes[i].name);
    int status = named ? put_routes(cli, &routes, replace) : EXIT_FAILED;
    sri_routes_free(&routes);
    return status;
}

int cli_import(cli_state *cli) {
    const char *format = NULL, *oos_label = "oos";
    bool replace = false;
    sri_read_options read = {0};
    const cli_option options[] = {{"format", CLI_STRING, &format, NULL},
                                  {"text-column", CLI_STRING, &read.text_column, NULL},
                                  {"route-column", CLI_STRING, &read.route_column, NULL},
                                  {"oos-label", CLI_STRING, &oos_label, NULL},
                                  {"replace", CLI_FLAG, &replace, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc != 1) return cli_usage(cli, "give one FILE, or - for standard input");
    if (!cli_format(cli, format, &read.format)) return EXIT_USAGE;
    if (strcmp(cli->argv[0], "-") == 0 && format == NULL)
        return cli_usage(cli, "say --format csv, jsonl or yaml for standard input");
    sri_rows rows;
    sr_error error;
    if (sri_rows_read(cli->argv[0], &read, &rows, &error) != SR_OK) return cli_fail(cli, &error);
    status = import_rows(cli, &rows, oos_label, replace);
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

static int write_table(cli_state *cli, const sr_table *table, sri_format format, const char *path) {
    sri_outfile file;
    sri_export_loss loss;
    sr_error error;
    sr_status code = sri_outfile_open(path, &file, &error);
    if (code == SR_OK) {
        code = sri_export(table, format, &file, &loss, &error);
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

static int export_to(cli_state *cli, sri_format format, const char *path) {
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
        status = write_table(cli, table, format, path);
    sr_table_free(&table);
    sr_router_close(&router);
    return status;
}

int cli_export(cli_state *cli) {
    const char *name = NULL;
    sri_format format;
    const cli_option options[] = {{"format", CLI_STRING, &name, NULL}};
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
    return export_to(cli, format, path);
}
