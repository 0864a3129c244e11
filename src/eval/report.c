/*
 * report.c - an evaluation as a page of HTML.
 *
 * The page needs no other file and no network: style and drawings (SVG) are inside. All texts are
 * escaped: they come from users; and should one escape that, the page's own policy lets no script run but
 * the one whose digest it names. What would make the page unreadable is cut and the cut is said. Tables carry
 * exact values in data-v, by which the script sorts.
 */
#include "eval/report_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FAILURES ((size_t)2000)

/* ---- HTML: pieces ------------------------------------------------------------------------------ */

void sri_page_put(sri_page *page, const char *html) {
    page->failed = page->failed || !sri_buffer_append_str(page->out, html);
}

/* Control characters have no place in HTML; what is no UTF-8 was replaced when it was decided. */
void sri_page_text(sri_page *page, sr_str text) {
    for (size_t i = 0; i < text.len && !page->failed; i++) {
        unsigned char c = (unsigned char)text.data[i];
        switch (c) {
        case '&': sri_page_put(page, "&amp;"); break;
        case '<': sri_page_put(page, "&lt;"); break;
        case '>': sri_page_put(page, "&gt;"); break;
        case '"': sri_page_put(page, "&quot;"); break;
        case '\'': sri_page_put(page, "&#39;"); break;
        case '\t':
        case '\n': sri_page_put(page, " "); break;
        default:
            if (c < 0x20 || c == 0x7F)
                sri_page_put(page, "\xEF\xBF\xBD");
            else
                page->failed = !sri_buffer_append(page->out, text.data + i, 1);
        }
    }
}

void sri_page_percent(sri_page *page, double share) {
    if (isnan(share))
        sri_page_put(page, "&ndash;");
    else
        SRI_PAGE(page, "%.1f&#8239;%%", share * 100);
}

void sri_page_number(sri_page *page, double number) {
    if (isnan(number))
        sri_page_put(page, "&ndash;");
    else
        SRI_PAGE(page, "%.3f", number);
}

void sri_page_cell(sri_page *page, double value) {
    if (isnan(value))
        sri_page_put(page, "<td class=\"n\" data-v=\"\">");
    else
        SRI_PAGE(page, "<td class=\"n\" data-v=\"%.7g\">", value);
}

void sri_page_number_cell(sri_page *page, double value) {
    sri_page_cell(page, value);
    sri_page_number(page, value);
}

static bool is_none(const sri_page *page, int32_t label) {
    return label < 0 || (size_t)label >= page->eval->label_count;
}

void sri_page_label(sri_page *page, int32_t label) {
    if (is_none(page, label))
        sri_page_put(page, "(none)");
    else
        sri_page_text(page, page->eval->labels[label]);
}

void sri_page_label_cut(sri_page *page, int32_t label, size_t width) {
    if (is_none(page, label)) {
        sri_page_label(page, label);
        return;
    }
    sr_str name = page->eval->labels[label];
    size_t cut = 0;
    for (size_t characters = 0; cut < name.len; cut++) {
        bool begins = ((unsigned char)name.data[cut] & 0xC0) != 0x80;
        if (begins && characters++ == width) break;
    }
    sri_page_text(page, (sr_str){name.data, cut});
    if (cut < name.len) sri_page_put(page, "&hellip;");
}

/* ---- Head -------------------------------------------------------------------------------------- */

/* SHA-256 in base64, as a content security policy names a script. */
static void script_digest(char text[45]) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    sri_sha256 sha;
    char hex[65];
    uint8_t bytes[33] = {0};
    sri_sha256_init(&sha);
    sri_sha256_update(&sha, sri_page_script, strlen(sri_page_script));
    sri_sha256_hex(&sha, hex);
    for (int i = 0; i < 32; i++) {
        const char pair[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    for (int i = 0; i < 11; i++) {
        uint32_t three =
            (uint32_t)bytes[3 * i] << 16 | (uint32_t)bytes[3 * i + 1] << 8 | bytes[3 * i + 2];
        for (int j = 0; j < 4; j++) text[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    text[43] = '='; /* 32 bytes leave two over */
    text[44] = '\0';
}

static void put_head(sri_page *page, const sri_report_info *info) {
    char digest[45];
    script_digest(digest);
    SRI_PAGE(page,
             "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
             "'unsafe-inline'; script-src 'sha256-%s'; base-uri 'none'; form-action 'none'\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
             "<title>Evaluation of ",
             digest);
    sri_page_text(page, sr_str_of(info->title));
    sri_page_put(page, "</title>\n<style>\n");
    sri_page_put(page, sri_page_style);
    sri_page_put(page, "</style></head><body>\n");
}

static void put_about_text(sri_page *page, const char *name, const char *text) {
    SRI_PAGE(page, "<dt>%s<dd>", name);
    sri_page_text(page, sr_str_of(text));
}

static void put_about(sri_page *page, const sri_report_info *info) {
    typedef unsigned long long number;
    sri_page_put(page, "<header><h1>Evaluation of ");
    sri_page_text(page, sr_str_of(info->title));
    SRI_PAGE(page, "</h1>\n<dl class=\"about\"><dt>Texts<dd>%zu, %zu of them out of scope",
             page->eval->n, page->eval->figures.out_of_scope);
    put_about_text(page, "Table", info->database);
    SRI_PAGE(page, " (revision %llu: %llu routes, %llu utterances)", (number)info->revision,
             (number)info->routes, (number)info->utterances);
    put_about_text(page, "Model", info->model);
    sri_page_put(page, " <span class=\"soft\">");
    sri_page_text(page, (sr_str){info->fingerprint, SRI_MIN(strlen(info->fingerprint), 12)});
    sri_page_put(page, "</span>");
    put_about_text(page, "Decided by", "path ");
    sri_page_text(page, sr_str_of(info->path));
    if (info->no_reject) sri_page_put(page, ", nothing rejected");
    if (info->margin > 0) SRI_PAGE(page, ", margin %g", info->margin);
    put_about_text(page, "Date", info->date);
    put_about_text(page, "Program", "synaptoroute ");
    sri_page_text(page, sr_str_of(info->version));
    put_about_text(page, "CPU level", info->cpu);
    sri_page_put(page, "</dl></header>\n<nav aria-label=\"Parts of the page\">"
                       "<a href=\"#figures\">Figures</a>"
                       "<a href=\"#charts\">Confidence</a><a href=\"#routes\">Routes</a>"
                       "<a href=\"#confusion\">Confusion matrix</a>"
                       "<a href=\"#failures\">Failures</a></nav>\n<main>\n");
}

/* ---- Figures ----------------------------------------------------------------------------------- */

static void put_figure(sri_page *page, const char *name, const char *meaning, double value,
                       char kind) {
    SRI_PAGE(page, "<div><dt>%s<dd>", name);
    if (isnan(value)) {
        sri_page_put(page, "<data value=\"\">&ndash;</data>");
    } else {
        SRI_PAGE(page, "<data value=\"%.7g\">", value);
        if (kind == '%')
            sri_page_percent(page, value);
        else
            SRI_PAGE(page, kind == 'm' ? "%.2f&#8239;ms" : kind == 'r' ? "%.0f" : "%.3f", value);
        sri_page_put(page, "</data>");
    }
    SRI_PAGE(page, "<small>%s</small></div>\n", meaning);
}

static void put_figures(sri_page *page) {
    const sri_eval *eval = page->eval;
    const sri_figures *f = &eval->figures;
    sri_page_put(page, "<section id=\"figures\"><h2>Figures</h2>\n<dl class=\"figures\">\n");
    put_figure(page, "Accuracy", "right; to reject an out-of-scope text is right", f->accuracy,
               '%');
    put_figure(page, "In-scope accuracy", "of the texts that have a route", f->in_scope_accuracy,
               '%');
    put_figure(page, "Top 3", "the route is among three candidates", f->top3, '%');
    put_figure(page, "Macro F1", "mean over the labels of the file", f->macro_f1, 'f');
    put_figure(page, "Out-of-scope recall", "out-of-scope texts rejected", f->oos_recall, '%');
    put_figure(page, "Out-of-scope AUROC", "in scope told from out by confidence", f->oos_auroc,
               'f');
    put_figure(page, "FPR at 95 %", "out of scope accepted where 95 % in scope are", f->fpr95, '%');
    put_figure(page, "Calibration error", "expected, 15 bins", f->ece, 'f');
    put_figure(page, "Fast path", "texts that it answered", f->fast_share, '%');
    put_figure(page, "Texts a second", "decided in batches", eval->queries_per_second, 'r');
    put_figure(page, "Latency, median", "one text at a time", eval->p50, 'm');
    put_figure(page, "Latency, 99th percentile", "one text at a time", eval->p99, 'm');
    sri_page_put(page, "</dl></section>\n");
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

size_t *sri_rank_labels(const sri_eval *eval, bool by_errors, size_t *count) {
    const sri_figures *f = &eval->figures;
    ranked *order = sri_alloc_array(f->label_count + 1, sizeof *order);
    size_t *labels = sri_alloc_array(f->label_count + 1, sizeof *labels);
    *count = 0;
    if (order == NULL || labels == NULL) {
        sri_free(order);
        sri_free(labels);
        return NULL;
    }
    for (size_t i = 0; i <= f->label_count; i++) {
        const sri_label_figures *label = &f->labels[i];
        if (label->expected + label->predicted == 0) continue;
        double errors = (double)(label->expected + label->predicted - 2 * label->right);
        order[(*count)++] = (ranked){by_errors ? -errors : label->f1, i};
    }
    qsort(order, *count, sizeof *order, by_key);
    for (size_t i = 0; i < *count; i++) labels[i] = order[i].label;
    sri_free(order);
    return labels;
}

static void put_routes(sri_page *page) {
    size_t count;
    size_t *order = sri_rank_labels(page->eval, false, &count);
    if (order == NULL) page->failed = true;
    sri_page_put(page,
                 "<section><h2 id=\"routes\">Routes</h2>\n<div class=\"tall\" tabindex=\"0\" "
                 "role=\"region\" aria-label=\"Routes\"><table id=\"labels\" class=\"sort\">"
                 "<caption>Worst F1 first. Precision: how many of the texts answered so belong "
                 "there; recall: how many of its texts were answered so.</caption><thead><tr>"
                 "<th scope=\"col\">Route<th scope=\"col\" class=\"n\">Texts<th scope=\"col\" "
                 "class=\"n\">Answered<th scope=\"col\" class=\"n\">Right<th scope=\"col\" "
                 "class=\"n\">Precision<th scope=\"col\" class=\"n\">Recall<th scope=\"col\" "
                 "class=\"n\">F1</tr></thead><tbody>\n");
    for (size_t i = 0; !page->failed && i < count; i++) {
        const sri_label_figures *label = &page->eval->figures.labels[order[i]];
        const size_t counts[] = {label->expected, label->predicted, label->right};
        sri_page_put(page, "<tr><th scope=\"row\">");
        sri_page_label(page, (int32_t)order[i]);
        for (int k = 0; k < 3; k++)
            SRI_PAGE(page, "<td class=\"n\" data-v=\"%zu\">%zu", counts[k], counts[k]);
        sri_page_cell(page, label->precision);
        sri_page_percent(page, label->precision);
        sri_page_cell(page, label->recall);
        sri_page_percent(page, label->recall);
        sri_page_number_cell(page, label->f1);
        sri_page_put(page, "</tr>\n");
    }
    sri_page_put(page, "</tbody></table></div></section>\n");
    sri_free(order);
}

/* ---- Failures ---------------------------------------------------------------------------------- */

static void put_candidates(sri_page *page, const sri_failure *failure) {
    sri_page_put(page, "<td><ol>");
    for (size_t i = 0; i < failure->candidate_count; i++) {
        const sr_candidate *candidate = &failure->candidates[i];
        sri_page_put(page, "<li>");
        sri_page_text(page, candidate->route);
        sri_page_put(page, " ");
        sri_page_number(page, candidate->confidence);
        if (!isnan(candidate->score)) SRI_PAGE(page, ", cosine %.3f", candidate->score);
        if (candidate->utterance.len > 0) {
            sri_page_put(page, " <span class=\"soft\">");
            sri_page_text(page, candidate->utterance);
            sri_page_put(page, "</span>");
        }
        sri_page_put(page, "</li>");
    }
    sri_page_put(page, "</ol>");
}

static void put_failure(sri_page *page, const sri_failure *failure) {
    const sri_eval_row *row = &page->eval->rows[failure->index];
    int32_t none = (int32_t)page->eval->label_count;
    SRI_PAGE(page, "<tr data-e=\"%d\" data-p=\"%d\"><td class=\"n\" data-v=\"%zu\">%zu<td>",
             row->expected < 0 ? none : row->expected, row->predicted < 0 ? none : row->predicted,
             failure->index + 1, failure->index + 1);
    sri_page_text(page, page->eval->cases[failure->index].text);
    sri_page_put(page, "<td>");
    sri_page_label(page, row->expected);
    sri_page_put(page, "<td>");
    sri_page_label(page, row->predicted);
    SRI_PAGE(page, "<td>%s", sr_reason_name(row->reason));
    sri_page_number_cell(page, row->confidence);
    sri_page_number_cell(page, row->score);
    sri_page_number_cell(page, row->margin);
    SRI_PAGE(page, "<td>%s", sr_path_name(row->path));
    put_candidates(page, failure);
    sri_page_put(page, "</tr>\n");
}

/* Places in eval->failures, most confident first: those are the mistakes that no threshold catches. */
static ranked *rank_failures(const sri_eval *eval) {
    ranked *order = sri_alloc_array(eval->failure_count, sizeof *order);
    for (size_t i = 0; order != NULL && i < eval->failure_count; i++) {
        double confidence = eval->rows[eval->failures[i].index].confidence;
        order[i] = (ranked){isnan(confidence) ? 1 : -confidence, i};
    }
    if (order != NULL) qsort(order, eval->failure_count, sizeof *order, by_key);
    return order;
}

static void put_failure_table(sri_page *page, size_t shown) {
    ranked *order = rank_failures(page->eval);
    if (order == NULL) page->failed = true;
    sri_page_put(page,
                 "<p class=\"only-script\" hidden><label>Show those with <input type=\"search\" "
                 "id=\"find\"></label> <output id=\"said\"></output></p>\n<div class=\"scroll\">"
                 "<table id=\"failing\" class=\"sort\"><caption>The most confident mistakes first."
                 "</caption><thead><tr><th scope=\"col\" class=\"n\">No<th scope=\"col\">Text<th "
                 "scope=\"col\">Expected<th scope=\"col\">Answered<th scope=\"col\">Reason<th "
                 "scope=\"col\" class=\"n\">Confidence<th scope=\"col\" class=\"n\">Score<th "
                 "scope=\"col\" class=\"n\">Margin<th scope=\"col\">Path<th scope=\"col\">"
                 "Candidates: confidence, cosine, utterance</tr></thead><tbody>\n");
    for (size_t i = 0; i < shown && !page->failed; i++)
        put_failure(page, &page->eval->failures[order[i].label]);
    sri_page_put(page, "</tbody></table></div>\n");
    sri_free(order);
}

static void put_failures(sri_page *page) {
    const sri_eval *eval = page->eval;
    size_t shown = SRI_MIN(eval->failure_count, MAX_FAILURES);
    SRI_PAGE(page,
             "<section id=\"failures\"><h2>Failures</h2>\n<p class=\"soft\">%zu of %zu texts were "
             "decided wrongly%s.</p>\n",
             eval->failure_count, eval->n,
             shown < eval->failure_count ? "; the 2,000 with most confidence follow" : "");
    if (shown > 0) put_failure_table(page, shown);
    sri_page_put(page, "</section>\n");
}

/* ---- All --------------------------------------------------------------------------------------- */

bool sri_eval_append_html(const sri_eval *eval, const sri_report_info *info, sri_buffer *out) {
    sri_page page = {.eval = eval, .out = out};
    put_head(&page, info);
    put_about(&page, info);
    put_figures(&page);
    sri_page_charts(&page);
    sri_page_thresholds(&page);
    put_routes(&page);
    sri_page_confusion(&page);
    put_failures(&page);
    sri_page_put(&page, "</main>\n<script>");
    sri_page_put(&page, sri_page_script);
    sri_page_put(&page, "</script></body></html>\n");
    return !page.failed;
}
