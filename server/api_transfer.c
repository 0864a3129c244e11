/*
 * api_transfer.c - files in and out: POST /v1/import, GET /v1/export, and labelled texts for POST /v1/eval.
 */
#include "api.h"

#include <string.h>
#include <strings.h>

#include "eval/eval.h"
#include "io/answer_json.h"
#include "io/io.h"
#include "job_progress.h"
#include "workers.h"

#define FAILURES_TOLD   ((size_t)2000)
#define LATENCY_SAMPLES 100

/* ---- Files ------------------------------------------------------------------------------------------ */

static const struct {
    sri_format format;
    const char *type, *extension;
} formats[] = {{SRI_FORMAT_CSV, "text/csv", "csv"},
               {SRI_FORMAT_JSONL, "application/x-ndjson", "jsonl"},
               {SRI_FORMAT_JSONL, "application/jsonl", "jsonl"},
               {SRI_FORMAT_YAML, "application/yaml", "yaml"},
               {SRI_FORMAT_YAML, "application/x-yaml", "yaml"},
               {SRI_FORMAT_YAML, "text/yaml", "yaml"}};

/* A query parameter as a terminated string, or NULL. */
static const char *query_text(srv_request *request, const char *name) {
    sr_str value;
    if (!srv_query(request, name, &value) || value.len == 0) return NULL;
    char *text = srv_alloc(request, value.len + 1);
    if (text != NULL) memcpy(text, value.data, value.len);
    return text;
}

static bool query_flag(srv_request *request, const char *name) {
    sr_str value;
    return srv_query(request, name, &value) && sri_str_equal(value, sr_str_of("true"));
}

/* By ?format=, or by the type of the body; UNKNOWN after an answer. */
static sri_format take_format(srv_request *request) {
    const char *name = query_text(request, "format"), *type = srv_header(request, "Content-Type");
    sri_format format = name == NULL ? SRI_FORMAT_UNKNOWN : sri_format_named(name);
    for (size_t i = 0;
         name == NULL && type != NULL && format == SRI_FORMAT_UNKNOWN && i < SRI_COUNT(formats);
         i++)
        if (strncasecmp(type, formats[i].type, strlen(formats[i].type)) == 0)
            format = formats[i].format;
    if (format == SRI_FORMAT_UNKNOWN)
        srv_problem(request, name == NULL ? 415 : 400, "format",
                    "say what the file is: ?format=csv, jsonl or yaml, or Content-Type text/csv, "
                    "application/x-ndjson or "
                    "application/yaml");
    return format;
}

/* Reads the body as a file; false after an answer. */
static bool read_rows(srv_request *request, bool allow_blank, sri_rows *rows) {
    sri_read_options options = {.text_column = query_text(request, "text_column"),
                                .route_column = query_text(request, "route_column"),
                                .allow_blank = allow_blank};
    sri_buffer bytes = {0};
    sr_error error;
    options.format = take_format(request);
    if (options.format == SRI_FORMAT_UNKNOWN) return false;
    srv_take_body(request, &bytes);
    sr_status code = sri_rows_parse("the body", &bytes, &options, rows, &error);
    sri_buffer_free(&bytes);
    if (code != SR_OK) srv_fail(request, &error);
    return code == SR_OK;
}

static const char *oos_label(srv_request *request) {
    const char *label = query_text(request, "oos_label");
    return label == NULL ? SR_OOS_NAME : label;
}

/* ---- Import ----------------------------------------------------------------------------------------- */

/* The receipt as the last line, with the fit when there was one. */
static void end_import(srv_progress *progress, const sr_receipt *receipt,
                       const sr_fit_report *fit) {
    sri_buffer line = {0};
    bool made = sri_append_receipt_json(&line, receipt);
    line.len -= made; /* its bracket */
    made = made && sri_buffer_append_str(&line, ",\"fit\":") &&
           (fit == NULL ? sri_buffer_append_str(&line, "null") : sri_append_fit_json(&line, fit)) &&
           sri_buffer_append(&line, "}", 1);
    srv_progress_done(progress, made, &line);
}

static void put_routes(srv_request *request, const sri_routes *routes) {
    srv_progress progress;
    sr_receipt receipt;
    sr_fit_report *fit = NULL;
    sr_error error;
    sr_router *router = srv_router(request);
    bool wants_fit = query_flag(request, "fit");
    if (!srv_begin_change(request)) return;
    srv_progress_begin(&progress, request);
    sr_put_options options = {.size = sizeof options,
                              .mode =
                                  query_flag(request, "replace") ? SR_PUT_REPLACE : SR_PUT_EXTEND,
                              .progress = srv_progress_step,
                              .progress_user = &progress,
                              .oos = routes->excepted_texts,
                              .oos_count = routes->excepted};
    sr_status code =
        sr_routes_put(router, routes->routes, routes->count, &options, &receipt, &error);
    srv_end_change(request);
    sr_fit_options learn = {
        .size = sizeof learn, .progress = srv_progress_step, .progress_user = &progress};
    if (code == SR_OK && wants_fit) code = sr_fit(router, &learn, &fit, &error);
    if (code == SR_OK)
        end_import(&progress, &receipt, fit);
    else
        srv_progress_fail(&progress, &error);
    sr_fit_report_free(&fit);
}

static void import_file(srv_request *request) {
    sri_rows rows;
    sri_routes routes;
    sr_error error;
    if (!read_rows(request, false, &rows)) return;
    if (sri_rows_group(&rows, sr_str_of(oos_label(request)), &routes, &error) == SR_OK) {
        put_routes(request, &routes);
        sri_routes_free(&routes);
    } else {
        srv_fail(request, &error);
    }
    sri_rows_free(&rows);
}

/* ---- Export ----------------------------------------------------------------------------------------- */

static bool send_part(void *user, const void *bytes, size_t len) {
    return srv_stream_write(user, bytes, len);
}

static void send_table(srv_request *request, const sr_table *table, size_t format, sr_str label) {
    char value[64];
    sri_outfile file;
    sri_export_loss loss;
    sr_error error;
    snprintf(value, sizeof value, "\"%llu\"", (unsigned long long)sr_table_revision(table));
    srv_answer_header(request, "ETag", value);
    snprintf(value, sizeof value, "attachment; filename=\"routes.%s\"", formats[format].extension);
    srv_answer_header(request, "Content-Disposition", value);
    srv_stream_begin(request, 200, formats[format].type);
    sri_outfile_to(&file, send_part, request);
    sr_status code = sri_export(table, formats[format].format, label, &file, &loss, &error);
    if (code == SR_OK) code = sri_outfile_commit(&file, &error);
    sri_outfile_abandon(&file);
    /* What fails now shows as an answer that is cut. */
    srv_stream_end(request, code == SR_OK);
}

static void export_table(srv_request *request) {
    const char *name = query_text(request, "format");
    sri_format wanted = name == NULL ? SRI_FORMAT_YAML : sri_format_named(name);
    size_t format = 0;
    sr_table *table = NULL;
    sr_error error;
    while (format < SRI_COUNT(formats) && formats[format].format != wanted) format++;
    if (format == SRI_COUNT(formats))
        srv_problem(request, 400, "query", "format must be csv, jsonl or yaml");
    else if (sr_table_read(srv_router(request), NULL, 1, &table, &error) != SR_OK)
        srv_fail(request, &error);
    else
        send_table(request, table, format, sr_str_of(oos_label(request)));
    sr_table_free(&table);
}

/* ---- Evaluation ------------------------------------------------------------------------------------- */

static bool take_decide(srv_request *request, sr_decide_options *decide) {
    const char *path = query_text(request, "path"), *reject = query_text(request, "reject");
    *decide = (sr_decide_options){.size = sizeof *decide,
                                  .no_reject = reject != NULL && strcmp(reject, "false") == 0};
    if (path == NULL || strcmp(path, "auto") == 0) return true;
    decide->path = strcmp(path, "fast") == 0 ? SR_PATH_FAST : SR_PATH_SLOW;
    if (decide->path == SR_PATH_FAST || strcmp(path, "slow") == 0) return true;
    srv_problem(request, 400, "query", "path must be auto, fast or slow");
    return false;
}

static void run_cases(srv_request *request, const sri_case *cases, size_t count,
                      const sr_decide_options *decide) {
    srv_progress progress;
    sri_eval eval;
    sr_error error;
    srv_progress_begin(&progress, request);
    sri_eval_options options = {.decide = *decide,
                                .latency_samples = LATENCY_SAMPLES,
                                .progress = srv_progress_step,
                                .progress_user = &progress};
    if (sri_eval_run(srv_router(request), cases, count, &options, &eval, &error) != SR_OK) {
        srv_progress_fail(&progress, &error);
        return;
    }
    sri_buffer line = {0};
    bool made =
        sri_buffer_append_str(&line, "{\"report\":") && sri_eval_append_json(&eval, &line) &&
        sri_eval_append_details(&eval, FAILURES_TOLD, &line) && sri_buffer_append(&line, "}", 1);
    sri_eval_free(&eval);
    srv_progress_done(&progress, made, &line);
}

static void evaluate_rows(srv_request *request, const sri_rows *rows) {
    sr_decide_options decide;
    sr_str oos = sr_str_of(oos_label(request));
    sri_case *cases = sri_alloc_array(rows->count, sizeof *cases);
    for (size_t i = 0; cases != NULL && i < rows->count; i++) {
        sr_str label = rows->labels[rows->rows[i].label].name;
        if (sri_str_equal(label, oos)) label.len = 0;
        cases[i] = (sri_case){rows->rows[i].text, label};
    }
    if (cases == NULL)
        srv_fail_memory(request);
    else if (rows->count == 0)
        srv_problem(request, 400, "empty", "the file holds no texts; give at least one");
    else if (take_decide(request, &decide))
        run_cases(request, cases, rows->count, &decide);
    sri_free(cases);
}

static void evaluate(srv_request *request) {
    sri_rows rows;
    if (!read_rows(request, true, &rows)) return;
    evaluate_rows(request, &rows);
    sri_rows_free(&rows);
}

void srv_post_import(srv_request *request) { srv_work(request, import_file); }
void srv_get_export(srv_request *request) { srv_work(request, export_table); }
void srv_post_eval(srv_request *request) { srv_work(request, evaluate); }
