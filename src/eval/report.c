/*
 * report.c - an evaluation as JSON and as a page of HTML.
 *
 * The page needs no other file and no network: style and drawings (SVG) are inside. All texts are
 * escaped: they come from users. What would make the page unreadable is cut and the cut is said: the heat
 * map shows the labels with most errors, failures stop at a stated number.
 */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PAIRS    ((size_t)50)
#define MAX_FAILURES ((size_t)2000)
#define MAX_HEAT     ((size_t)40)

/* ---- JSON -------------------------------------------------------------------------------------- */

static bool append_number(sri_buffer *out, double number) {
    return isnan(number) ? sri_buffer_append_str(out, "null")
                         : sri_buffer_format(out, "%.7g", number);
}

bool sri_eval_append_json(const sri_eval *eval, sri_buffer *out) {
    const sri_figures *f = &eval->figures;
    const struct {
        const char *name;
        double value;
    } members[] = {{"accuracy", f->accuracy},
                   {"in_scope_accuracy", f->in_scope_accuracy},
                   {"top3", f->top3},
                   {"macro_f1", f->macro_f1},
                   {"oos_recall", f->oos_recall},
                   {"oos_auroc", f->oos_auroc},
                   {"fpr95", f->fpr95},
                   {"ece", f->ece},
                   {"fast_share", f->fast_share},
                   {"seconds", eval->seconds},
                   {"queries_per_second", eval->queries_per_second}};
    bool done = sri_buffer_format(out, "{\"n\":%zu", f->n);
    for (size_t i = 0; done && i < SRI_COUNT(members); i++)
        done = sri_buffer_format(out, ",\"%s\":", members[i].name) &&
               append_number(out, members[i].value);
    return done && sri_buffer_append_str(out, ",\"latency_ms\":{\"p50\":") &&
           append_number(out, eval->p50) && sri_buffer_append_str(out, ",\"p99\":") &&
           append_number(out, eval->p99) && sri_buffer_append_str(out, "}}");
}

/* ---- HTML: pieces ------------------------------------------------------------------------------ */

/* The page's writer: after a failure it writes no more, so that callers need not look at each step. */
typedef struct page {
    const sri_eval *eval;
    sri_buffer *out;
    bool failed;
} page;

static void put(page *to, const char *html) {
    to->failed = to->failed || !sri_buffer_append_str(to->out, html);
}

static void put_text(page *to, sr_str text) {
    for (size_t i = 0; i < text.len && !to->failed; i++) {
        switch (text.data[i]) {
        case '&': put(to, "&amp;"); break;
        case '<': put(to, "&lt;"); break;
        case '>': put(to, "&gt;"); break;
        case '"': put(to, "&quot;"); break;
        case '\'': put(to, "&#39;"); break;
        case '\0': put(to, "\xEF\xBF\xBD"); break;
        default: to->failed = !sri_buffer_append(to->out, text.data + i, 1);
        }
    }
}

#define PUT(to, ...) ((to)->failed = (to)->failed || !sri_buffer_format((to)->out, __VA_ARGS__))

static void put_percent(page *to, double part) {
    if (isnan(part))
        put(to, "&ndash;");
    else
        PUT(to, "%.1f&#8239;%%", part * 100);
}

static void put_number(page *to, double number) {
    if (isnan(number))
        put(to, "&ndash;");
    else
        PUT(to, "%.3f", number);
}

static void put_label(page *to, int32_t label) {
    if (label < 0 || (size_t)label == to->eval->label_count)
        put(to, "<i>none</i>");
    else
        put_text(to, to->eval->labels[label]);
}

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<title>SynaptoRoute evaluation</title>\n<style>\n"
    ":root{--ink:#1b1f24;--soft:#5b6570;--line:#d8dde3;--back:#fff;--hue:#2463c2;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b1;--line:#363d46;"
    "--back:#15181c;--hue:#6ea8ff;--bad:#ff8a80}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);"
    "max-width:70rem;margin:2rem auto;padding:0 1rem}\n"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}.soft{color:var(--soft)}\n"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;"
    "border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\n"
    "th{color:var(--soft);font-weight:600}.n{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:.6rem}\n"
    ".figures div{border:1px solid var(--line);border-radius:.4rem;padding:.5rem .8rem}\n"
    ".figures b{display:block;font-size:1.3rem}svg{max-width:100%;height:auto}\n"
    "svg text{fill:var(--ink);font:10px system-ui,sans-serif}\n</style></head><body>\n";

/* ---- Figures ----------------------------------------------------------------------------------- */

static void put_figure(page *to, const char *name, const char *title, double value, char kind) {
    PUT(to, "<div title=\"%s\"><span class=\"soft\">%s</span><b>", title, name);
    if (kind == '%')
        put_percent(to, value);
    else if (isnan(value))
        put(to, "&ndash;");
    else
        PUT(to, kind == 'm' ? "%.2f&#8239;ms" : kind == 'r' ? "%.0f" : "%.3f", value);
    put(to, "</b></div>\n");
}

static void put_figures(page *to) {
    const sri_eval *eval = to->eval;
    const sri_figures *f = &eval->figures;
    put(to, "<h2>Figures</h2>\n<div class=\"figures\">\n");
    put_figure(to, "Accuracy", "right answers; a rejected out-of-scope text is right", f->accuracy,
               '%');
    put_figure(to, "In-scope accuracy", "over the texts that have a route", f->in_scope_accuracy,
               '%');
    put_figure(to, "Top 3", "the right route is among the first three candidates", f->top3, '%');
    put_figure(to, "Macro F1", "mean F1 of the labels in the file", f->macro_f1, 'f');
    put_figure(to, "Out-of-scope recall", "out-of-scope texts that were rejected", f->oos_recall,
               '%');
    put_figure(to, "Out-of-scope AUROC", "how well the score tells in scope from out", f->oos_auroc,
               'f');
    put_figure(to, "FPR at 95 %", "out-of-scope texts accepted where 95 % of in-scope texts are",
               f->fpr95, '%');
    put_figure(to, "Calibration error", "expected calibration error, 15 bins", f->ece, 'f');
    put_figure(to, "Fast path", "texts that the fast path answered", f->fast_share, '%');
    put_figure(to, "Texts a second", "decided in batches", eval->queries_per_second, 'r');
    put_figure(to, "Latency, median", "one text at a time", eval->p50, 'm');
    put_figure(to, "Latency, 99th percentile", "one text at a time", eval->p99, 'm');
    put(to, "</div>\n");
}

/* ---- Reliability diagram ----------------------------------------------------------------------- */

static void put_reliability(page *to) {
    const sri_figures *f = &to->eval->figures;
    const int left = 40, size = 300, width = size / SRI_EVAL_BINS;
    if (isnan(f->ece)) return;
    put(to, "<h2>Reliability</h2>\n<p class=\"soft\">How often the best candidate is right, by its "
            "confidence. On the line, a confidence means what it says.</p>\n");
    PUT(to,
        "<svg viewBox=\"0 0 360 350\" width=\"420\" role=\"img\" aria-label=\"Reliability "
        "diagram\">\n"
        "<rect x=\"%d\" y=\"10\" width=\"%d\" height=\"%d\" fill=\"none\" "
        "stroke=\"var(--line)\"/>\n",
        left, size, size);
    for (int i = 0; i < SRI_EVAL_BINS; i++) {
        if (f->bins[i].count == 0) continue;
        double right = (double)f->bins[i].right / (double)f->bins[i].count;
        PUT(to,
            "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"var(--hue)\" "
            "fill-opacity=\"%.2f\"><title>confidence %.2f to %.2f: %zu texts, %.1f %% right</title>"
            "</rect>\n",
            left + i * width + 1, 10 + size * (1 - right), width - 2, size * right,
            0.25 + 0.75 * sqrt((double)f->bins[i].count / (double)f->n), (double)i / SRI_EVAL_BINS,
            (double)(i + 1) / SRI_EVAL_BINS, f->bins[i].count, right * 100);
    }
    PUT(to,
        "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"10\" stroke=\"var(--soft)\" "
        "stroke-dasharray=\"4 3\"/>\n",
        left, 10 + size, left + size);
    for (int tick = 0; tick <= 4; tick++) {
        PUT(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%.2f</text>\n",
            left + tick * size / 4, 25 + size, tick / 4.0);
        PUT(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.2f</text>\n", left - 5,
            14 + size - tick * size / 4, tick / 4.0);
    }
    PUT(to, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">confidence</text>\n</svg>\n",
        left + size / 2, 40 + size);
}

/* ---- Routes ------------------------------------------------------------------------------------ */

typedef struct ranked {
    double key;
    size_t label;
} ranked;

static int by_key(const void *left, const void *right) {
    const ranked *a = left, *b = right;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return (a->label > b->label) - (a->label < b->label);
}

/* Labels (and, last, "none") that occur, by ascending F1 or by descending number of errors. */
static ranked *rank_labels(const sri_eval *eval, bool by_errors, size_t *count) {
    const sri_figures *f = &eval->figures;
    ranked *order = sri_alloc_array(f->label_count + 1, sizeof *order);
    *count = 0;
    for (size_t i = 0; order != NULL && i <= f->label_count; i++) {
        const sri_label_figures *label = &f->labels[i];
        if (label->expected + label->predicted == 0) continue;
        double errors = (double)(label->expected + label->predicted - 2 * label->right);
        order[(*count)++] = (ranked){by_errors ? -errors : label->f1, i};
    }
    if (order != NULL) qsort(order, *count, sizeof *order, by_key);
    return order;
}

static void put_routes(page *to) {
    size_t count;
    ranked *order = rank_labels(to->eval, false, &count);
    if (order == NULL) to->failed = true;
    put(to,
        "<h2>Routes, worst first</h2>\n<table><tr><th>Route<th class=\"n\">Texts<th class=\"n\">"
        "Predicted<th class=\"n\">Precision<th class=\"n\">Recall<th class=\"n\">F1</tr>\n");
    for (size_t i = 0; !to->failed && i < count; i++) {
        const sri_label_figures *label = &to->eval->figures.labels[order[i].label];
        put(to, "<tr><td>");
        put_label(to, (int32_t)order[i].label);
        PUT(to, "<td class=\"n\">%zu<td class=\"n\">%zu<td class=\"n\">", label->expected,
            label->predicted);
        put_percent(to, label->precision);
        put(to, "<td class=\"n\">");
        put_percent(to, label->recall);
        put(to, "<td class=\"n\">");
        put_number(to, label->f1);
        put(to, "</tr>\n");
    }
    put(to, "</table>\n");
    sri_free(order);
}

/* ---- Confusions -------------------------------------------------------------------------------- */

typedef struct confusion {
    int32_t expected, predicted;
    size_t count;
} confusion;

static int by_labels(const void *left, const void *right) {
    const confusion *a = left, *b = right;
    if (a->expected != b->expected) return a->expected < b->expected ? -1 : 1;
    return (a->predicted > b->predicted) - (a->predicted < b->predicted);
}

static int by_count(const void *left, const void *right) {
    const confusion *a = left, *b = right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return by_labels(left, right);
}

/* The pairs of failures, most frequent first. */
static confusion *count_pairs(const sri_eval *eval, size_t *count) {
    confusion *pairs = sri_alloc_array(eval->failure_count, sizeof *pairs);
    *count = 0;
    if (pairs == NULL) return NULL;
    for (size_t i = 0; i < eval->failure_count; i++) {
        const sri_verdict *v = &eval->verdicts[eval->failures[i].index];
        pairs[i] = (confusion){v->expected, v->predicted, 1};
    }
    qsort(pairs, eval->failure_count, sizeof *pairs, by_labels);
    for (size_t i = 0; i < eval->failure_count; i++) {
        if (*count > 0 && by_labels(&pairs[*count - 1], &pairs[i]) == 0)
            pairs[*count - 1].count++;
        else
            pairs[(*count)++] = pairs[i];
    }
    qsort(pairs, *count, sizeof *pairs, by_count);
    return pairs;
}

static void put_pairs(page *to) {
    size_t count;
    confusion *pairs = count_pairs(to->eval, &count);
    if (pairs == NULL) to->failed = true;
    if (count > 0) {
        PUT(to,
            "<h2>Most confused</h2>\n<p class=\"soft\">%zu of %zu pairs.</p>\n<table><tr>"
            "<th>Expected<th>Answered<th class=\"n\">Times</tr>\n",
            SRI_MIN(count, MAX_PAIRS), count);
        for (size_t i = 0; i < SRI_MIN(count, MAX_PAIRS); i++) {
            put(to, "<tr><td>");
            put_label(to, pairs[i].expected);
            put(to, "<td>");
            put_label(to, pairs[i].predicted);
            PUT(to, "<td class=\"n\">%zu</tr>\n", pairs[i].count);
        }
        put(to, "</table>\n");
    }
    sri_free(pairs);
}

/* Position of every label on the heat map, or -1. */
static size_t place_labels(const sri_eval *eval, int32_t *places, int32_t *shown) {
    size_t count;
    ranked *order = rank_labels(eval, true, &count);
    if (order == NULL) return 0;
    count = SRI_MIN(count, MAX_HEAT);
    for (size_t i = 0; i <= eval->label_count; i++) places[i] = -1;
    for (size_t i = 0; i < count; i++) {
        places[order[i].label] = (int32_t)i;
        shown[i] = (int32_t)order[i].label;
    }
    sri_free(order);
    return count;
}

static void put_cells(page *to, const size_t *cells, const int32_t *shown, size_t side) {
    const sri_figures *f = &to->eval->figures;
    for (size_t i = 0; i < side * side; i++) {
        if (cells[i] == 0) continue;
        size_t row = i / side, column = i % side;
        double part = (double)cells[i] / (double)f->labels[shown[row]].expected;
        PUT(to,
            "<rect x=\"%zu\" y=\"%zu\" width=\"13\" height=\"13\" fill=\"var(%s)\" "
            "fill-opacity=\"%.2f\"><title>",
            150 + 14 * column, 20 + 14 * row, row == column ? "--hue" : "--bad",
            0.12 + 0.88 * part);
        put_label(to, shown[row]);
        put(to, " &rarr; ");
        put_label(to, shown[column]);
        PUT(to, ": %zu</title></rect>\n", cells[i]);
    }
}

static void put_heat_names(page *to, const int32_t *shown, size_t side) {
    for (size_t i = 0; i < side; i++) {
        PUT(to, "<text x=\"145\" y=\"%zu\" text-anchor=\"end\">", 30 + 14 * i);
        sr_str name = {"none", 4};
        if ((size_t)shown[i] < to->eval->label_count) name = to->eval->labels[shown[i]];
        size_t cut = SRI_MIN(name.len, 26);
        while (cut < name.len && cut > 0 && ((unsigned char)name.data[cut] & 0xC0) == 0x80) cut--;
        put_text(to, (sr_str){name.data, cut});
        PUT(to, "%s</text>\n", cut < name.len ? "&hellip;" : "");
    }
}

static void put_heat_map(page *to) {
    const sri_eval *eval = to->eval;
    int32_t shown[MAX_HEAT];
    int32_t *places = sri_alloc_array(eval->label_count + 1, sizeof *places);
    size_t *cells = sri_alloc_zero(MAX_HEAT * MAX_HEAT, sizeof *cells);
    size_t side = places == NULL ? 0 : place_labels(eval, places, shown);
    to->failed = to->failed || places == NULL || cells == NULL;
    for (size_t i = 0; !to->failed && side > 0 && i < eval->n; i++) {
        const sri_verdict *v = &eval->verdicts[i];
        int32_t row = places[v->expected < 0 ? (int32_t)eval->label_count : v->expected];
        int32_t column = places[v->predicted < 0 ? (int32_t)eval->label_count : v->predicted];
        if (row >= 0 && column >= 0) cells[(size_t)row * side + (size_t)column]++;
    }
    if (!to->failed && side > 0) {
        PUT(to,
            "<h2>Confusion matrix</h2>\n<p class=\"soft\">Rows: expected; columns: answered, in "
            "the "
            "same order; the %zu labels with most errors of %zu.</p>\n<svg viewBox=\"0 0 %zu %zu\" "
            "width=\"%zu\" role=\"img\" aria-label=\"Confusion matrix\">\n",
            side, eval->label_count + 1, 160 + 14 * side, 30 + 14 * side, 160 + 14 * side);
        put_heat_names(to, shown, side);
        put_cells(to, cells, shown, side);
        put(to, "</svg>\n");
    }
    sri_free(places);
    sri_free(cells);
}

/* ---- Failures ---------------------------------------------------------------------------------- */

static void put_candidates(page *to, const sri_failure *failure) {
    for (size_t i = 0; i < failure->candidate_count; i++) {
        const sr_candidate *candidate = &failure->candidates[i];
        put(to, i == 0 ? "" : "<br>");
        put_text(to, candidate->route);
        put(to, " ");
        put_number(to, candidate->score);
        if (candidate->utterance.len > 0) {
            put(to, " <span class=\"soft\">");
            put_text(to, candidate->utterance);
            put(to, "</span>");
        }
    }
}

static void put_failure(page *to, const sri_failure *failure) {
    const sri_verdict *verdict = &to->eval->verdicts[failure->index];
    put(to, "<tr><td>");
    put_text(to, to->eval->cases[failure->index].text);
    put(to, "<td>");
    put_label(to, verdict->expected);
    put(to, "<td>");
    put_label(to, verdict->predicted);
    PUT(to, "<br><span class=\"soft\">%s</span><td class=\"n\">",
        sr_reason_name(to->eval->reasons[failure->index]));
    put_number(to, verdict->confidence);
    put(to, "<td>");
    put_candidates(to, failure);
    put(to, "</tr>\n");
}

static void put_failures(page *to) {
    const sri_eval *eval = to->eval;
    size_t shown = SRI_MIN(eval->failure_count, MAX_FAILURES);
    PUT(to, "<h2>Failures</h2>\n<p class=\"soft\">%zu of %zu texts were decided wrongly%s.</p>\n",
        eval->failure_count, eval->n,
        shown < eval->failure_count ? "; the first 2,000 follow" : "");
    if (shown == 0) return;
    put(to,
        "<table><tr><th>Text<th>Expected<th>Answered<th class=\"n\">Confidence<th>Candidates, with "
        "score and utterance</tr>\n");
    for (size_t i = 0; i < shown && !to->failed; i++) put_failure(to, &eval->failures[i]);
    put(to, "</table>\n");
}

/* ---- All --------------------------------------------------------------------------------------- */

bool sri_eval_append_html(const sri_eval *eval, const sri_report_info *info, sri_buffer *out) {
    page to = {.eval = eval, .out = out};
    put(&to, head);
    put(&to, "<h1>Evaluation of ");
    put_text(&to, sr_str_of(info->title));
    PUT(&to, "</h1>\n<p class=\"soft\">%zu texts, %zu of them out of scope; table ", eval->n,
        eval->figures.out_of_scope);
    put_text(&to, sr_str_of(info->database));
    put(&to, "; model ");
    put_text(&to, sr_str_of(info->model));
    put(&to, "; synaptoroute ");
    put_text(&to, sr_str_of(info->version));
    put(&to, "</p>\n");
    put_figures(&to);
    put_reliability(&to);
    put_routes(&to);
    put_heat_map(&to);
    put_pairs(&to);
    put_failures(&to);
    put(&to, "</body></html>\n");
    return !to.failed;
}
