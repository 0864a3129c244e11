/*
 * cmd_table.c - `add`, `remove` and `list`: the route table.
 */
#include "cli.h"

#include "io/answer_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static sr_str *strings_of(char **argv, int argc) {
    sr_str *texts = sri_alloc_array((size_t)argc, sizeof *texts);
    for (int i = 0; texts != NULL && i < argc; i++) texts[i] = sr_str_of(argv[i]);
    return texts;
}

static int put_receipt_json(cli_state *cli, const sr_receipt *receipt) {
    bool done =
        sri_append_receipt_json(&cli->out, receipt) && sri_buffer_append(&cli->out, "\n", 1);
    return done ? EXIT_DONE : cli_fail_memory(cli);
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

static int report_added(cli_state *cli, const sr_receipt *receipt, const sr_route *route) {
    uint64_t added = route == NULL ? receipt->oos_added : receipt->utterances_added;
    if (cli->json) return put_receipt_json(cli, receipt);
    bool done;
    if (route == NULL)
        done = sri_buffer_format(&cli->out, "%llu out-of-scope example%s added",
                                 (unsigned long long)added, plural(added));
    else
        done = sri_buffer_append_str(&cli->out,
                                     receipt->routes_added > 0 ? "added route " : "route ") &&
               cli_put_plain(cli, route->name) &&
               sri_buffer_format(&cli->out, ": %llu utterance%s added", (unsigned long long)added,
                                 plural(added));
    if (done && receipt->duplicates > 0)
        done = sri_buffer_format(&cli->out, ", %llu already there",
                                 (unsigned long long)receipt->duplicates);
    done = done && sri_buffer_format(&cli->out, " (revision %llu)\n",
                                     (unsigned long long)receipt->revision);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

/* A route, or with NULL out-of-scope examples. */
static int put_route(cli_state *cli, const sr_route *route, const sr_str *oos, size_t oos_count) {
    sr_router *router = NULL;
    int status = cli_open(cli, SR_OPEN_LAZY, &router);
    if (status != EXIT_DONE) return status;
    sr_error error;
    sr_receipt receipt = {0};
    sr_put_options options = {
        .size = sizeof options, .mode = SR_PUT_EXTEND, .oos = oos, .oos_count = oos_count};
    sr_status code = sr_routes_put(router, route, route != NULL, &options, &receipt, &error);
    code = cli_close_changed(&router, code, &error);
    return code == SR_OK ? report_added(cli, &receipt, route) : cli_fail(cli, &error);
}

static int add_examples(cli_state *cli, bool with_fields) {
    if (with_fields) return cli_usage(cli, "out-of-scope examples have no settings");
    if (cli->argc == 0) return cli_usage(cli, "give at least one TEXT");
    sr_str *texts = strings_of(cli->argv, cli->argc);
    if (texts == NULL) return cli_fail_memory(cli);
    int status = put_route(cli, NULL, texts, (size_t)cli->argc);
    sri_free(texts);
    return status;
}

int cli_add(cli_state *cli) {
    const char *cosine = NULL, *confidence = NULL, *description = NULL, *metadata = NULL;
    bool oos = false;
    const cli_option options[] = {{"threshold", CLI_STRING, &cosine, NULL},
                                  {"confidence", CLI_STRING, &confidence, NULL},
                                  {"description", CLI_STRING, &description, NULL},
                                  {"metadata", CLI_STRING, &metadata, NULL},
                                  {"oos", CLI_FLAG, &oos, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    sr_threshold threshold;
    bool has_threshold = cosine != NULL || confidence != NULL;
    if (has_threshold) status = parse_threshold(cli, cosine, confidence, &threshold);
    if (status != CLI_PROCEED) return status;
    if (oos) return add_examples(cli, has_threshold || description != NULL || metadata != NULL);
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
    status = put_route(cli, &route, NULL, 0);
    sri_free(texts);
    return status;
}

/* ---- remove ------------------------------------------------------------------------------------ */

static int report_removal(cli_state *cli, const sr_receipt *receipt, sr_str name) {
    bool whole = receipt->routes_removed > 0;
    if (cli->json) return put_receipt_json(cli, receipt);
    if (name.len == 0)
        return sri_buffer_format(&cli->out, "%llu out-of-scope example%s removed (revision %llu)\n",
                                 (unsigned long long)receipt->oos_removed,
                                 plural(receipt->oos_removed),
                                 (unsigned long long)receipt->revision)
                   ? EXIT_DONE
                   : cli_fail_memory(cli);
    bool done = sri_buffer_append_str(&cli->out, whole ? "removed route " : "route ") &&
                cli_put_plain(cli, name) &&
                sri_buffer_format(&cli->out, ": %llu utterance%s removed (revision %llu)\n",
                                  (unsigned long long)receipt->utterances_removed,
                                  plural(receipt->utterances_removed),
                                  (unsigned long long)receipt->revision);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

/* A route or its utterances; with an empty name out-of-scope examples. */
static sr_status remove_from(sr_router *router, sr_str name, const sr_str *texts, size_t n,
                             sr_receipt *receipt, sr_error *error) {
    if (name.len == 0) return sr_oos_remove(router, n == 0 ? NULL : texts, n, receipt, error);
    return n == 0 ? sr_route_remove(router, name, receipt, error)
                  : sr_utterances_remove(router, name, texts, n, receipt, error);
}

int cli_remove(cli_state *cli) {
    bool oos = false;
    const cli_option options[] = {{"oos", CLI_FLAG, &oos, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc == 0 && !oos) return cli_usage(cli, "give a ROUTE");
    if (!oos && cli->argv[0][0] == '\0') return cli_usage(cli, "give a ROUTE that is not empty");
    int named = oos ? 0 : 1;
    sr_str name = oos ? (sr_str){NULL, 0} : sr_str_of(cli->argv[0]);
    sr_str *texts = strings_of(cli->argv + named, cli->argc - named);
    if (texts == NULL) return cli_fail_memory(cli);
    sr_router *router = NULL;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_LAZY, &router);
    if (status == EXIT_DONE) {
        sr_error error;
        sr_receipt receipt = {0};
        sr_status code =
            remove_from(router, name, texts, (size_t)(cli->argc - named), &receipt, &error);
        code = cli_close_changed(&router, code, &error);
        status = code == SR_OK ? report_removal(cli, &receipt, name) : cli_fail(cli, &error);
    }
    sr_router_close(&router);
    sri_free(texts);
    return status;
}

/* ---- list -------------------------------------------------------------------------------------- */

/* `automatic` is what a fit made of it; NaN, or 0 where that is no one number. */
static void threshold_text(sr_threshold threshold, double automatic, char text[32]) {
    if (threshold.kind == SR_THRESHOLD_AUTO && !(automatic > 0))
        snprintf(text, 32, "auto");
    else if (threshold.kind == SR_THRESHOLD_AUTO)
        snprintf(text, 32, "auto (%.3f)", automatic);
    else
        snprintf(text, 32, "%s %.3g",
                 threshold.kind == SR_THRESHOLD_COSINE ? "cosine" : "confidence", threshold.value);
}

static bool put_row(cli_state *cli, const sr_route_view *route, double automatic, size_t width,
                    bool utterances) {
    char threshold[32];
    threshold_text(route->threshold, automatic, threshold);
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

static int put_table(cli_state *cli, const sr_table *table, double automatic, bool utterances) {
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
                         : put_row(cli, route, automatic, width, utterances);
        if (done && cli->out.len > 65536 && cli_flush(cli) != EXIT_DONE) return EXIT_FAILED;
    }
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

static int put_examples(cli_state *cli, const sr_table *table) {
    size_t count;
    const sr_str *texts = sr_table_oos(table, &count);
    bool done = true;
    if (cli->json) {
        sr_route_view examples = {
            .name = sr_str_of(SR_OOS_NAME), .utterances = texts, .utterance_count = count};
        done = count == 0 || (sri_route_append_json(&cli->out, &examples, true) &&
                              sri_buffer_append(&cli->out, "\n", 1));
    }
    for (size_t i = 0; done && !cli->json && i < count; i++)
        done = cli_put_plain(cli, texts[i]) && sri_buffer_append(&cli->out, "\n", 1);
    return done ? EXIT_DONE : cli_fail_memory(cli);
}

int cli_list(cli_state *cli) {
    bool utterances = false, oos = false;
    const cli_option options[] = {{"utterances", CLI_FLAG, &utterances, NULL},
                                  {"oos", CLI_FLAG, &oos, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc > 1) return cli_usage(cli, "give one ROUTE, or none for all");
    if (oos && cli->argc > 0) return cli_usage(cli, "--oos takes no ROUTE");
    sr_router *router = NULL;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_LAZY | SR_OPEN_READ_ONLY, &router);
    if (status != EXIT_DONE) return status;
    sr_error error;
    sr_table *table = NULL;
    sr_info info = {.size = sizeof info};
    sr_str name = {NULL, 0};
    if (cli->argc == 1) name = sr_str_of(cli->argv[0]);
    utterances = utterances || oos || cli->argc == 1;
    sr_status code =
        sr_table_read(router, cli->argc == 1 ? &name : NULL, utterances, &table, &error);
    if (code == SR_OK) code = sr_router_info(router, &info, &error);
    if (code != SR_OK)
        status = cli_fail(cli, &error);
    else
        status =
            oos ? put_examples(cli, table) : put_table(cli, table, info.auto_threshold, utterances);
    sr_table_free(&table);
    sr_router_close(&router);
    return status;
}
