/*
 * cmd_table.c - `add`, `remove` and `list`: the route table.
 */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static sr_str *strings_of(char **argv, int argc) {
    sr_str *texts = sri_alloc_array((size_t)argc, sizeof *texts);
    for (int i = 0; texts != NULL && i < argc; i++) texts[i] = sr_str_of(argv[i]);
    return texts;
}

static const char *plural(uint64_t n) { return n == 1 ? "" : "s"; }

/* ---- add --------------------------------------------------------------------------------------- */

static int parse_threshold(const cli_state *cli, const char *cosine, const char *confidence,
                           sr_threshold *threshold) {
    bool is_cosine = cosine != NULL;
    const char *text = is_cosine ? cosine : confidence,
               *name = is_cosine ? "threshold" : "confidence";
    double low = is_cosine ? -1 : 0;
    char *end;
    if (cosine != NULL && confidence != NULL)
        return cli_usage(cli, "give --threshold or --confidence, not both");
    *threshold = (sr_threshold){is_cosine ? SR_THRESHOLD_COSINE : SR_THRESHOLD_CONFIDENCE, 0};
    if (strcmp(text, "auto") == 0) {
        threshold->kind = SR_THRESHOLD_AUTO;
        return CLI_PROCEED;
    }
    threshold->value = strtod(text, &end);
    if (end == text || *end != '\0' || !(threshold->value >= low && threshold->value <= 1))
        return cli_usage(cli, "--%s %s: give a number from %g to 1, or auto", name, text, low);
    return CLI_PROCEED;
}

static int put_route(cli_state *cli, const sr_route *route) {
    sr_router *router = NULL;
    unsigned flags = route->utterance_count == 0 ? SR_OPEN_LAZY : cli_lazy(cli);
    int status = cli_open(cli, flags, &router);
    if (status != EXIT_DONE) return status;
    sr_error error;
    sr_receipt receipt = {0};
    sr_put_options options = {.size = sizeof options, .mode = SR_PUT_EXTEND};
    sr_status code = sr_routes_put(router, route, 1, &options, &receipt, &error);
    sr_router_close(&router);
    if (code != SR_OK) return cli_fail(cli, &error);
    if (cli->json)
        return cli_put_receipt_json(cli, &receipt, "") ? EXIT_DONE : cli_fail_memory(cli);
    bool done =
        sri_buffer_append_str(&cli->out, receipt.routes_added > 0 ? "added route " : "route ") &&
        cli_put_plain(cli, route->name) &&
        sri_buffer_format(&cli->out, ": %llu utterance%s added",
                          (unsigned long long)receipt.utterances_added,
                          plural(receipt.utterances_added));
    if (done && receipt.duplicates > 0)
        done = sri_buffer_format(&cli->out, ", %llu already there",
                                 (unsigned long long)receipt.duplicates);
    done = done &&
           sri_buffer_format(&cli->out, " (revision %llu)\n", (unsigned long long)receipt.revision);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

int cli_add(cli_state *cli) {
    const char *cosine = NULL, *confidence = NULL, *description = NULL, *metadata = NULL;
    const cli_option options[] = {{"threshold", CLI_STRING, &cosine, NULL},
                                  {"confidence", CLI_STRING, &confidence, NULL},
                                  {"description", CLI_STRING, &description, NULL},
                                  {"metadata", CLI_STRING, &metadata, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    sr_threshold threshold;
    bool has_threshold = cosine != NULL || confidence != NULL;
    if (has_threshold) status = parse_threshold(cli, cosine, confidence, &threshold);
    if (status != CLI_PROCEED) return status;
    if (cli->argc == 0) return cli_usage(cli, "give a ROUTE and at least one TEXT");
    if (cli->argc == 1 && !has_threshold && description == NULL && metadata == NULL)
        return cli_usage(cli, "give at least one TEXT for the route %s", cli->argv[0]);
    if (!cli_may_name(cli, sr_str_of(cli->argv[0]))) return EXIT_FAILED;
    sr_str description_text = sr_str_of(description), metadata_text = sr_str_of(metadata);
    sr_str *texts = strings_of(cli->argv + 1, cli->argc - 1);
    if (texts == NULL) return cli_fail_memory(cli);
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(cli->argv[0]),
                      .utterances = texts,
                      .utterance_count = (size_t)cli->argc - 1,
                      .threshold = has_threshold ? &threshold : NULL,
                      .description = description == NULL ? NULL : &description_text,
                      .metadata = metadata == NULL ? NULL : &metadata_text};
    status = put_route(cli, &route);
    sri_free(texts);
    return status;
}

/* ---- remove ------------------------------------------------------------------------------------ */

static int report_removal(cli_state *cli, const sr_receipt *receipt, sr_str name) {
    bool whole = receipt->routes_removed > 0;
    if (cli->json) return cli_put_receipt_json(cli, receipt, "") ? EXIT_DONE : cli_fail_memory(cli);
    bool done = sri_buffer_append_str(&cli->out, whole ? "removed route " : "route ") &&
                cli_put_plain(cli, name) &&
                sri_buffer_format(&cli->out, ": %llu utterance%s removed (revision %llu)\n",
                                  (unsigned long long)receipt->utterances_removed,
                                  plural(receipt->utterances_removed),
                                  (unsigned long long)receipt->revision);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

int cli_remove(cli_state *cli) {
    int status = cli_parse(cli, NULL, 0);
    if (status != CLI_PROCEED) return status;
    if (cli->argc == 0) return cli_usage(cli, "give a ROUTE");
    sr_str *texts = strings_of(cli->argv + 1, cli->argc - 1);
    if (texts == NULL) return cli_fail_memory(cli);
    sr_router *router = NULL;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_LAZY, &router);
    if (status == EXIT_DONE) {
        sr_error error;
        sr_receipt receipt = {0};
        sr_str name = sr_str_of(cli->argv[0]);
        sr_status code = cli->argc == 1
                             ? sr_route_remove(router, name, &receipt, &error)
                             : sr_utterances_remove(router, name, texts, (size_t)cli->argc - 1,
                                                    &receipt, &error);
        status = code == SR_OK ? report_removal(cli, &receipt, name) : cli_fail(cli, &error);
    }
    sr_router_close(&router);
    sri_free(texts);
    return status;
}

/* ---- list -------------------------------------------------------------------------------------- */

static void threshold_text(sr_threshold threshold, char text[32]) {
    if (threshold.kind == SR_THRESHOLD_AUTO)
        snprintf(text, 32, "auto");
    else
        snprintf(text, 32, "%s %.3g",
                 threshold.kind == SR_THRESHOLD_COSINE ? "cosine" : "confidence", threshold.value);
}

static bool put_row(cli_state *cli, const sr_route_view *route, size_t width, bool utterances) {
    char threshold[32];
    threshold_text(route->threshold, threshold);
    bool done = cli_put_column(cli, route->name, width) &&
                sri_buffer_format(&cli->out, "  %10zu  %-16s", route->utterance_count, threshold);
    if (done && route->description.len > 0)
        done = sri_buffer_append_str(&cli->out, "  ") && cli_put_plain(cli, route->description);
    while (done && cli->out.data[cli->out.len - 1] == ' ') cli->out.len--;
    done = done && sri_buffer_append(&cli->out, "\n", 1);
    if (done && utterances && route->metadata.len > 0)
        done = sri_buffer_append_str(&cli->out, "  metadata: ") &&
               cli_put_plain(cli, route->metadata) && sri_buffer_append(&cli->out, "\n", 1);
    for (size_t i = 0; done && utterances && i < route->utterance_count; i++)
        done = sri_buffer_append_str(&cli->out, "  - ") &&
               cli_put_plain(cli, route->utterances[i]) && sri_buffer_append(&cli->out, "\n", 1);
    return done;
}

static int put_table(cli_state *cli, const sr_table *table, bool utterances) {
    size_t count = sr_table_count(table), width = strlen("ROUTE");
    for (size_t i = 0; i < count; i++)
        width = SRI_MAX(width, SRI_MIN(cli_width(sr_table_route(table, i)->name), 40));
    bool done = true;
    if (!cli->json && count > 0)
        done = cli_put_column(cli, sr_str_of("ROUTE"), width) &&
               sri_buffer_append_str(&cli->out, "  UTTERANCES  THRESHOLD         DESCRIPTION\n");
    for (size_t i = 0; done && i < count && !cli->pipe_closed; i++) {
        const sr_route_view *route = sr_table_route(table, i);
        done = cli->json ? sri_route_append_json(&cli->out, route, utterances) &&
                               sri_buffer_append(&cli->out, "\n", 1)
                         : put_row(cli, route, width, utterances);
        if (done && cli->out.len > 65536 && cli_flush(cli) != EXIT_DONE) return EXIT_FAILED;
    }
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

int cli_list(cli_state *cli) {
    bool utterances = false;
    const cli_option options[] = {{"utterances", CLI_FLAG, &utterances, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc > 1) return cli_usage(cli, "give one ROUTE, or none for all");
    sr_router *router = NULL;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_LAZY | SR_OPEN_READ_ONLY, &router);
    if (status != EXIT_DONE) return status;
    sr_error error;
    sr_table *table = NULL;
    sr_str name = {NULL, 0};
    if (cli->argc == 1) name = sr_str_of(cli->argv[0]);
    utterances = utterances || cli->argc == 1;
    sr_status code =
        sr_table_read(router, cli->argc == 1 ? &name : NULL, utterances, &table, &error);
    status = code == SR_OK ? put_table(cli, table, utterances) : cli_fail(cli, &error);
    sr_table_free(&table);
    sr_router_close(&router);
    return status;
}
