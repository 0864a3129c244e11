/*
 * report_charts.c - the drawings of the HTML report: reliability, confidences, out-of-scope curve; and what
 * thresholds would do. Beside each drawing stand its numbers as a table.
 */
#include "eval/report_int.h"

#include <math.h>

/* A square of SIDE units, LEFT and TOP from the corner of the drawing. */
#define LEFT 44
#define TOP  12
#define SIDE 300

static double across(double share) { return LEFT + SIDE * share; }
static double down(double share) { return TOP + SIDE * (1 - share); }

static void begin_chart(sri_page *page, const char *id, const char *title, const char *caption) {
    SRI_PAGE(page,
             "<figure id=\"%s\"><h3>%s</h3>\n<figcaption>%s</figcaption>\n"
             "<svg viewBox=\"0 0 360 356\" width=\"400\" role=\"img\" aria-label=\"%s\">\n",
             id, title, caption, title);
}

/* Frame, ticks and names of the axes; `top` is the value at the upper end. */
static void put_axes(sri_page *page, const char *horizontal, const char *vertical, double top) {
    SRI_PAGE(page,
             "<rect class=\"grid\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n<path "
             "class=\"grid\" stroke-width=\".5\" d=\"",
             LEFT, TOP, SIDE, SIDE);
    for (int i = 1; i < 4; i++)
        SRI_PAGE(page, "M%d %gh%dM%g %dv%d", LEFT, down(i / 4.0), SIDE, across(i / 4.0), TOP, SIDE);
    sri_page_put(page, "\"/>\n");
    for (int i = 0; i <= 4; i++) {
        SRI_PAGE(page, "<text x=\"%g\" y=\"%d\" text-anchor=\"middle\">%.2f</text>\n",
                 across(i / 4.0), TOP + SIDE + 15, i / 4.0);
        SRI_PAGE(page, "<text x=\"%d\" y=\"%g\" text-anchor=\"end\">%.*f</text>\n", LEFT - 5,
                 down(i / 4.0) + 4, top > 1 ? 0 : 2, top * i / 4);
    }
    SRI_PAGE(page,
             "<text x=\"%g\" y=\"%d\" text-anchor=\"middle\">%s</text>\n<text "
             "transform=\"translate(10 %g) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
             across(0.5), TOP + SIDE + 32, horizontal, down(0.5), vertical);
}

static void put_diagonal(sri_page *page) {
    SRI_PAGE(page, "<path class=\"guide\" d=\"M%d %dL%d %d\"/>\n", LEFT, TOP + SIDE, LEFT + SIDE,
             TOP);
}

/* ---- Reliability ------------------------------------------------------------------------------- */

static void put_bin_numbers(sri_page *page) {
    const sri_figures *f = &page->eval->figures;
    sri_page_put(page, "</svg>\n<details><summary>Numbers</summary><table id=\"bins\"><thead><tr>"
                       "<th scope=\"col\">Confidence<th scope=\"col\" class=\"n\">Texts"
                       "<th scope=\"col\" class=\"n\">Mean confidence<th scope=\"col\" class=\"n\">"
                       "Right<th scope=\"col\" class=\"n\">Of them out of scope</tr></thead>"
                       "<tbody>\n");
    for (int i = 0; i < SRI_EVAL_BINS; i++) {
        const sri_bin *bin = &f->bins[i];
        if (bin->count == 0) continue;
        SRI_PAGE(page, "<tr><th scope=\"row\">%.2f to %.2f<td class=\"n\">%zu",
                 (double)i / SRI_EVAL_BINS, (i + 1.0) / SRI_EVAL_BINS, bin->count);
        sri_page_number_cell(page, bin->confidence / (double)bin->count);
        sri_page_number_cell(page, (double)bin->right / (double)bin->count);
        SRI_PAGE(page, "<td class=\"n\">%zu</tr>\n", bin->out_of_scope);
    }
    sri_page_put(page, "</tbody></table></details></figure>\n");
}

/* Bars reach up to the share that is right; a mark stands at the mean confidence of the bin. */
static void put_reliability(sri_page *page) {
    const sri_figures *f = &page->eval->figures;
    begin_chart(
        page, "reliability", "Reliability",
        "How often the best candidate is right (bars), by its confidence (marks). Where bars "
        "end at the line, a confidence means what it says. Pale bars hold few texts.");
    put_axes(page, "confidence", "right", 1);
    for (int i = 0; i < SRI_EVAL_BINS; i++) {
        const sri_bin *bin = &f->bins[i];
        if (bin->count == 0) continue;
        double right = (double)bin->right / (double)bin->count;
        double mean = bin->confidence / (double)bin->count;
        SRI_PAGE(page,
                 "<rect class=\"r\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                 "fill-opacity=\"%.2f\"><title>confidence %.2f to %.2f, mean %.3f: %zu texts, "
                 "%.1f %% right</title></rect>\n<path stroke=\"var(--wrong)\" stroke-width=\"2\" "
                 "d=\"M%.1f %.1fh%.1f\"/>\n",
                 across((double)i / SRI_EVAL_BINS) + 1, down(right), SIDE / 15.0 - 2, SIDE * right,
                 0.25 + 0.75 * sqrt((double)bin->count / (double)f->n), (double)i / SRI_EVAL_BINS,
                 (i + 1.0) / SRI_EVAL_BINS, mean, bin->count, right * 100,
                 across((double)i / SRI_EVAL_BINS) + 1, down(mean), SIDE / 15.0 - 2);
    }
    put_diagonal(page);
    put_bin_numbers(page);
}

/* ---- Confidences ------------------------------------------------------------------------------- */

/* A level at which an axis of counts may end: 1, 2 or 5 times a power of ten, at least 4. */
static double round_top(size_t most) {
    double step = 1;
    while (step * 10 < (double)most) step *= 10;
    double top = step * ((double)most <= step       ? 1
                         : (double)most <= step * 2 ? 2
                         : (double)most <= step * 5 ? 5
                                                    : 10);
    return fmax(top, 4);
}

static void put_histogram(sri_page *page) {
    const sri_figures *f = &page->eval->figures;
    size_t most = 0;
    for (int i = 0; i < SRI_EVAL_BINS; i++) most = SRI_MAX(most, f->bins[i].count);
    double top = round_top(most);
    begin_chart(page, "confidences", "Confidences",
                "How many texts have which confidence: <span class=\"key r\"></span>best candidate "
                "right, <span class=\"key w\"></span>wrong, <span class=\"key o\"></span>out of "
                "scope (from below).");
    put_axes(page, "confidence", "texts", top);
    static const char *const names[] = {"right", "wrong", "out of scope"}, kinds[] = "rwo";
    for (int i = 0; i < SRI_EVAL_BINS; i++) {
        const sri_bin *bin = &f->bins[i];
        size_t counts[] = {bin->right, bin->count - bin->right - bin->out_of_scope,
                           bin->out_of_scope};
        double below = 0;
        for (int kind = 0; kind < 3; kind++) {
            if (counts[kind] == 0) continue;
            double part = (double)counts[kind] / top;
            below += part;
            SRI_PAGE(page,
                     "<rect class=\"%c\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">"
                     "<title>confidence %.2f to %.2f: %zu %s</title></rect>\n",
                     kinds[kind], across((double)i / SRI_EVAL_BINS) + 1, down(below),
                     SIDE / 15.0 - 2, SIDE * part, (double)i / SRI_EVAL_BINS,
                     (i + 1.0) / SRI_EVAL_BINS, counts[kind], names[kind]);
        }
    }
    sri_page_put(page, "</svg></figure>\n");
}

/* ---- Out of scope ------------------------------------------------------------------------------ */

/* Points that are not visibly apart are left out. */
static void put_curve(sri_page *page) {
    const sri_figures *f = &page->eval->figures;
    double x = 0, y = 0;
    SRI_PAGE(page, "<polyline class=\"curve\" points=\"%g,%g", across(0), down(0));
    for (size_t i = 0; i < f->roc_count; i++) {
        const sri_roc_point *at = &f->roc[i];
        bool last = i + 1 == f->roc_count;
        if (!last && at->out_of_scope - x < 0.002 && at->in_scope - y < 0.002) continue;
        x = at->out_of_scope, y = at->in_scope;
        SRI_PAGE(page, " %.1f,%.1f", across(x), down(y));
    }
    sri_page_put(page, "\"/>\n");
}

/* What this run accepted, by whatever thresholds the routes have. */
static void put_operating_point(sri_page *page) {
    const sri_eval *eval = page->eval;
    size_t in = 0, out = 0;
    for (size_t i = 0; i < eval->n; i++) {
        if (eval->rows[i].predicted == SRI_EVAL_NONE) continue;
        in += eval->rows[i].expected != SRI_EVAL_NONE;
        out += eval->rows[i].expected == SRI_EVAL_NONE;
    }
    double x = (double)out / (double)eval->figures.out_of_scope;
    double y = (double)in / (double)eval->figures.in_scope;
    SRI_PAGE(page,
             "<circle id=\"operating\" class=\"w\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\" data-x=\"%.7g\" "
             "data-y=\"%.7g\"><title>this run: %.1f %% of in-scope and %.1f %% of out-of-scope "
             "texts accepted</title></circle>\n",
             across(x), down(y), x, y, y * 100, x * 100);
}

static void put_roc(sri_page *page) {
    const sri_figures *f = &page->eval->figures;
    if (f->roc_count == 0) return;
    begin_chart(page, "roc", "Out-of-scope ROC",
                "Texts accepted as a threshold on confidence falls: the nearer to the upper left "
                "corner, the better texts that belong nowhere are told apart. The dot is this run, "
                "with the thresholds that the routes have.");
    put_axes(page, "out-of-scope texts accepted", "in-scope texts accepted", 1);
    put_diagonal(page);
    put_curve(page);
    put_operating_point(page);
    SRI_PAGE(page,
             "<text x=\"%g\" y=\"%g\" text-anchor=\"end\">AUROC %.4f, FPR at 95 %%: %.3f</text>",
             across(0.98), down(0.03), f->oos_auroc, f->fpr95);
    sri_page_put(page, "</svg></figure>\n");
}

void sri_page_charts(sri_page *page) {
    if (isnan(page->eval->figures.ece)) return;
    sri_page_put(page, "<section id=\"charts\"><h2>Confidence</h2>\n<div class=\"charts\">\n");
    put_reliability(page);
    put_histogram(page);
    put_roc(page);
    sri_page_put(page, "</div></section>\n");
}

/* ---- Thresholds -------------------------------------------------------------------------------- */

static void put_threshold(sri_page *page, double threshold) {
    const sri_eval *eval = page->eval;
    size_t in = 0, out = 0, right = 0;
    for (size_t i = 0; i < eval->n; i++) {
        const sri_eval_row *row = &eval->rows[i];
        if (row->best == SRI_EVAL_NONE || !(row->confidence >= threshold)) continue;
        in += row->expected != SRI_EVAL_NONE;
        out += row->expected == SRI_EVAL_NONE;
        right += row->best == row->expected;
    }
    size_t rejected = eval->figures.out_of_scope - out;
    const double shares[] = {(double)in / (double)eval->figures.in_scope,
                             (double)right / (double)(in + out),
                             (double)out / (double)eval->figures.out_of_scope,
                             (double)(right + rejected) / (double)eval->n};
    SRI_PAGE(page, "<tr><th scope=\"row\">%.2f", threshold);
    for (size_t i = 0; i < SRI_COUNT(shares); i++) {
        sri_page_cell(page, shares[i]);
        sri_page_percent(page, shares[i]);
    }
    sri_page_put(page, "</tr>\n");
}

void sri_page_thresholds(sri_page *page) {
    static const double thresholds[] = {0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99};
    if (page->eval->n == 0 || isnan(page->eval->figures.ece)) return;
    sri_page_put(
        page, "<section><h2>Thresholds</h2>\n<p class=\"soft\">What one confidence threshold for "
              "all routes would do on these texts.</p>\n<table id=\"thresholds\"><thead><tr>"
              "<th scope=\"col\">Threshold<th scope=\"col\" class=\"n\">In scope accepted"
              "<th scope=\"col\" class=\"n\">Right among the accepted<th scope=\"col\" "
              "class=\"n\">Out of scope accepted<th scope=\"col\" class=\"n\">Accuracy"
              "</tr></thead><tbody>\n");
    for (size_t i = 0; i < SRI_COUNT(thresholds); i++) put_threshold(page, thresholds[i]);
    sri_page_put(page, "</tbody></table></section>\n");
}
