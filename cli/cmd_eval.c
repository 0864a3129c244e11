/*
 * cmd_eval.c - `eval`: labelled texts through the router, and what came of it.
 */
#include "cli.h"

#include "eval/eval.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define LATENCY_SAMPLES 200

typedef struct eval_settings {
    const char *oos_label, *html, *predictions, *title;
    sr_decide_options decide;
} eval_settings;

/* ---- Output ------------------------------------------------------------------------------------ */

static bool put_share(cli_state *cli, const char *name, double value) {
    if (isnan(value)) return sri_buffer_format(&cli->out, "%-20s     -\n", name);
    return sri_buffer_format(&cli->out, "%-20s %5.1f %%\n", name, value * 100);
}

static bool put_number(cli_state *cli, const char *name, const char *format, double value) {
    char text[48];
    snprintf(text, sizeof text, format, value);
    return sri_buffer_format(&cli->out, "%-20s %s\n", name, isnan(value) ? "    -" : text);
}

static bool put_figures(cli_state *cli, const sri_eval *eval) {
    const sri_figures *f = &eval->figures;
    return sri_buffer_format(&cli->out, "%-20s %5zu (%zu out of scope)\n", "texts", f->n,
                             f->out_of_scope) &&
           put_share(cli, "accuracy", f->accuracy) &&
           put_share(cli, "in-scope accuracy", f->in_scope_accuracy) &&
           put_share(cli, "top 3", f->top3) && put_number(cli, "macro F1", "%5.3f", f->macro_f1) &&
           put_share(cli, "out-of-scope recall", f->oos_recall) &&
           put_number(cli, "out-of-scope AUROC", "%5.3f", f->oos_auroc) &&
           put_share(cli, "FPR at 95 % recall", f->fpr95) &&
           put_number(cli, "calibration error", "%5.3f", f->ece) &&
           put_share(cli, "fast path", f->fast_share) &&
           put_number(cli, "texts a second", "%5.0f", eval->queries_per_second) &&
           put_number(cli, "latency p50", "%5.2f ms", eval->p50) &&
           put_number(cli, "latency p99", "%5.2f ms", eval->p99);
}

static bool put_csv_number(sri_buffer *out, double number) {
    return sri_buffer_append(out, ",", 1) && (isnan(number) || sri_append_number(out, number));
}

static sr_str label_name(const sri_eval *eval, int32_t label, const char *none) {
    return label == SRI_EVAL_NONE ? sr_str_of(none) : eval->labels[label];
}

static bool put_prediction(sri_buffer *out, const sri_eval *eval, size_t i, const char *oos_label) {
    const sri_eval_row *row = &eval->rows[i];
    return sri_append_csv(out, eval->cases[i].text) && sri_buffer_append(out, ",", 1) &&
           sri_append_csv(out, label_name(eval, row->expected, oos_label)) &&
           sri_buffer_append(out, ",", 1) &&
           sri_append_csv(out, label_name(eval, row->predicted, "")) &&
           sri_buffer_append(out, ",", 1) && sri_append_csv(out, label_name(eval, row->best, "")) &&
           put_csv_number(out, row->confidence) && put_csv_number(out, row->score) &&
           put_csv_number(out, row->margin) &&
           sri_buffer_format(out, ",%s,%s,%d\n", sr_reason_name(row->reason),
                             sr_path_name(row->path), sri_eval_right(row));
}

static sr_status write_predictions(const sri_eval *eval, const char *oos_label, sri_outfile *file,
                                   sr_error *error) {
    static const char header[] =
        "text,expected,predicted,best,confidence,score,margin,reason,path,right\n";
    sri_buffer line = {0};
    sr_status code = sri_outfile_write(file, header, strlen(header), error);
    for (size_t i = 0; code == SR_OK && i < eval->n; i++) {
        line.len = 0;
        code = put_prediction(&line, eval, i, oos_label)
                   ? sri_outfile_write(file, line.data, line.len, error)
                   : sri_fail_memory(error);
    }
    sri_buffer_free(&line);
    return code;
}

static sr_status write_html(const cli_state *cli, const sri_eval *eval, sr_router *router,
                            const eval_settings *settings, sri_outfile *file, sr_error *error) {
    sr_info info = {.size = sizeof info};
    sr_status code = sr_router_info(router, &info, error);
    if (code != SR_OK) return code;
    char date[64] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL) strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &utc);
    sri_report_info about = {.title = settings->title,
                             .database = cli_database(cli),
                             .revision = info.revision,
                             .routes = info.routes,
                             .utterances = info.utterances,
                             .model = info.model,
                             .fingerprint = info.fingerprint,
                             .version = info.version,
                             .cpu = info.cpu,
                             .date = date,
                             .path = sr_path_name(settings->decide.path),
                             .margin = cli->margin,
                             .no_reject = settings->decide.no_reject != 0};
    sri_buffer page = {0};
    code = sri_eval_append_html(eval, &about, &page)
               ? sri_outfile_write(file, page.data, page.len, error)
               : sri_fail_memory(error);
    sri_buffer_free(&page);
    return code;
}

/* ---- Run --------------------------------------------------------------------------------------- */

/* Labels that no route has make every of their texts wrong: nearly always a mistake. */
static sr_status warn_of_unknown(const cli_state *cli, const sri_rows *rows, sr_router *router,
                                 const char *oos_label, sr_error *error) {
    sr_table *table = NULL;
    sri_map known = {0};
    sr_status code = sr_table_read(router, NULL, 0, &table, error);
    for (size_t i = 0; code == SR_OK && i < sr_table_count(table); i++)
        if (!sri_map_put(&known, sr_table_route(table, i)->name, i)) code = sri_fail_memory(error);
    sri_buffer list = {.max = 300};
    size_t unknown = 0;
    for (size_t i = 0; code == SR_OK && i < rows->label_count; i++) {
        sr_str name = rows->labels[i].name;
        if (rows->labels[i].rows == 0 || sri_str_equal(name, sr_str_of(oos_label)) ||
            sri_map_get(&known, name, NULL))
            continue;
        if (unknown++ < 5 && !sri_buffer_format(&list, "%s%.*s", list.len == 0 ? "" : ", ",
                                                (int)SRI_MIN(name.len, 50), name.data))
            code = sri_fail_memory(error);
    }
    if (unknown > 0 && !cli->quiet)
        cli_message(
            cli,
            "warning: %zu labels are not routes of the table, so their texts count as wrong: "
            "%.*s%s",
            unknown, (int)list.len, list.len == 0 ? "" : list.data, unknown > 5 ? ", ..." : "");
    sri_buffer_free(&list);
    sri_map_free(&known);
    sr_table_free(&table);
    return code;
}

static sri_case *cases_of(const sri_rows *rows, const char *oos_label) {
    sri_case *cases = sri_alloc_array(rows->count, sizeof *cases);
    for (size_t i = 0; cases != NULL && i < rows->count; i++) {
        sr_str label = rows->labels[rows->rows[i].label].name;
        if (sri_str_equal(label, sr_str_of(oos_label))) label.len = 0;
        cases[i] = (sri_case){rows->rows[i].text, label};
    }
    return cases;
}

/* The files to write are opened before the long work, which a wrong name should not cost. */
typedef struct outputs {
    sri_outfile html, predictions;
} outputs;

static bool may_write(const cli_state *cli, const eval_settings *settings) {
    const char *input = cli->argv[0];
    return (settings->html == NULL || cli_may_write(cli, settings->html, input)) &&
           (settings->predictions == NULL || cli_may_write(cli, settings->predictions, input));
}

static sr_status open_outputs(const eval_settings *settings, outputs *out, sr_error *error) {
    out->html.descriptor = out->predictions.descriptor = -1;
    sr_status code = SR_OK;
    if (settings->html != NULL) code = sri_outfile_open(settings->html, &out->html, error);
    if (code == SR_OK && settings->predictions != NULL)
        code = sri_outfile_open(settings->predictions, &out->predictions, error);
    return code;
}

static sr_status write_outputs(cli_state *cli, const sri_eval *eval, sr_router *router,
                               const eval_settings *settings, outputs *out, sr_error *error) {
    sr_status code = SR_OK;
    if (settings->html != NULL) {
        code = write_html(cli, eval, router, settings, &out->html, error);
        if (code == SR_OK) code = sri_outfile_commit(&out->html, error);
    }
    if (code == SR_OK && settings->predictions != NULL) {
        code = write_predictions(eval, settings->oos_label, &out->predictions, error);
        if (code == SR_OK) code = sri_outfile_commit(&out->predictions, error);
    }
    return code;
}

static sr_status run_cases(cli_state *cli, const sri_rows *rows, const sri_case *cases,
                           sr_router *router, const eval_settings *settings, outputs *out,
                           sr_error *error) {
    cli_progress progress;
    cli_progress_begin(cli, &progress, "deciding");
    sri_eval eval;
    sri_eval_options options = {.decide = settings->decide,
                                .latency_samples = LATENCY_SAMPLES,
                                .progress = cli_progress_step,
                                .progress_user = &progress};
    sr_status code = sri_eval_run(router, cases, rows->count, &options, &eval, error);
    cli_progress_end(&progress);
    if (code != SR_OK) return code;
    code = write_outputs(cli, &eval, router, settings, out, error);
    if (code == SR_OK) {
        bool done = cli->json ? sri_eval_append_json(&eval, &cli->out) &&
                                    sri_buffer_append(&cli->out, "\n", 1)
                              : put_figures(cli, &eval);
        if (!done) code = sri_fail_memory(error);
    }
    sri_eval_free(&eval);
    return code;
}

static int eval_rows(cli_state *cli, const sri_rows *rows, const eval_settings *settings) {
    if (rows->count == 0) {
        cli_message(cli, "%s holds no texts; give at least one", settings->title);
        return EXIT_FAILED;
    }
    sr_router *router = NULL;
    int status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_READ_ONLY, &router);
    if (status != EXIT_DONE) return status;
    if (!may_write(cli, settings)) {
        sr_router_close(&router);
        return EXIT_FAILED;
    }
    outputs out = {0};
    sr_error error;
    sri_case *cases = cases_of(rows, settings->oos_label);
    sr_status code = open_outputs(settings, &out, &error);
    if (code == SR_OK && cases == NULL) code = sri_fail_memory(&error);
    if (code == SR_OK) code = warn_of_unknown(cli, rows, router, settings->oos_label, &error);
    if (code == SR_OK) code = run_cases(cli, rows, cases, router, settings, &out, &error);
    sri_outfile_abandon(&out.html);
    sri_outfile_abandon(&out.predictions);
    sri_free(cases);
    sr_router_close(&router);
    return code == SR_OK ? EXIT_DONE : cli_fail(cli, &error);
}

int cli_eval(cli_state *cli) {
    const char *format = NULL, *path = NULL;
    int top = 0;
    bool top_given = false, no_reject = false, as_is = false;
    eval_settings settings = {.oos_label = "oos"};
    sri_read_options read = {.allow_blank = true};
    const cli_option options[] = {{"format", CLI_STRING, &format, NULL},
                                  {"text-column", CLI_STRING, &read.text_column, NULL},
                                  {"route-column", CLI_STRING, &read.route_column, NULL},
                                  {"oos-label", CLI_STRING, &settings.oos_label, NULL},
                                  {"path", CLI_STRING, &path, NULL},
                                  {"top", CLI_INTEGER, &top, &top_given},
                                  {"margin", CLI_REAL, &cli->margin, NULL},
                                  {"no-reject", CLI_FLAG, &no_reject, NULL},
                                  {"as-is", CLI_FLAG, &as_is, NULL},
                                  {"html", CLI_STRING, &settings.html, NULL},
                                  {"predictions", CLI_STRING, &settings.predictions, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc != 1) return cli_usage(cli, "give one FILE, or - for standard input");
    if (!cli_format(cli, format, &read.format)) return EXIT_USAGE;
    if (strcmp(cli->argv[0], "-") == 0 && format == NULL)
        return cli_usage(cli, "say --format csv, jsonl or yaml for standard input");
    status = cli_decide_options(cli, path, top, top_given, no_reject, &settings.decide);
    settings.decide.as_is = as_is;
    if (status != EXIT_DONE) return status;
    settings.title = strcmp(cli->argv[0], "-") == 0 ? "standard input" : cli->argv[0];
    sri_rows rows;
    sr_error error;
    if (sri_rows_read(cli->argv[0], &read, &rows, &error) != SR_OK) return cli_fail(cli, &error);
    status = eval_rows(cli, &rows, &settings);
    sri_rows_free(&rows);
    return status;
}
