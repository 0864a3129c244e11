/*
 * metrics.c - figures over decided texts. Plain arithmetic on an array; knows nothing of routers.
 */
#include "eval/eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double share(size_t part, size_t whole) {
    return whole == 0 ? NAN : (double)part / (double)whole;
}

bool sri_eval_right(const sri_eval_row *row) { return row->predicted == row->expected; }

double sri_percentile(const double *sorted, size_t n, double p) {
    if (n == 0) return NAN;
    double place = p * (double)(n - 1);
    size_t below = (size_t)place;
    if (below + 1 >= n) return sorted[n - 1];
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

/* ---- Labels ------------------------------------------------------------------------------------ */

static void finish_label(sri_label_figures *label) {
    label->precision = share(label->right, label->predicted);
    label->recall = share(label->right, label->expected);
    label->f1 = share(2 * label->right, label->expected + label->predicted);
}

static void count_labels(const sri_eval_row *rows, size_t n, sri_figures *figures) {
    sri_label_figures *none = &figures->labels[figures->label_count];
    for (size_t i = 0; i < n; i++) {
        const sri_eval_row *v = &rows[i];
        sri_label_figures *expected = v->expected < 0 ? none : &figures->labels[v->expected];
        sri_label_figures *predicted = v->predicted < 0 ? none : &figures->labels[v->predicted];
        expected->expected++;
        predicted->predicted++;
        expected->right += sri_eval_right(v);
    }
    double sum = 0;
    size_t occurring = 0;
    for (size_t i = 0; i <= figures->label_count; i++) {
        finish_label(&figures->labels[i]);
        if (figures->labels[i].expected == 0) continue;
        sum += figures->labels[i].f1;
        occurring++;
    }
    figures->macro_f1 = occurring == 0 ? NAN : sum / (double)occurring;
}

/* ---- Out of scope ------------------------------------------------------------------------------ */

typedef struct scored {
    double confidence;
    bool in_scope;
} scored;

static int by_confidence_descending(const void *left, const void *right) {
    const scored *a = left, *b = right;
    return (a->confidence < b->confidence) - (a->confidence > b->confidence);
}

/* Texts accepted so far, from the most confident on. */
typedef struct passed {
    size_t in_scope, out_of_scope;
    double confidence;
} passed;

/* Whether `b` is on the straight line from `a` to `c`, in counts. */
static bool on_line(const passed *a, const passed *b, const passed *c) {
    size_t x = b->out_of_scope - a->out_of_scope, y = b->in_scope - a->in_scope;
    size_t u = c->out_of_scope - a->out_of_scope, v = c->in_scope - a->in_scope;
    return (double)x * (double)v == (double)u * (double)y;
}

static void add_point(sri_figures *figures, const passed *at) {
    double in = (double)figures->in_scope, out = (double)figures->out_of_scope;
    figures->roc[figures->roc_count++] =
        (sri_roc_point){at->confidence, (double)at->in_scope / in, (double)at->out_of_scope / out};
}

/* Walks groups of equal confidences from the top; in a group, order is chance. */
static void rank_texts(const scored *sorted, size_t n, sri_figures *figures) {
    size_t positives = figures->in_scope, negatives = figures->out_of_scope;
    passed kept = {0}, last = {0};
    double area = 0;
    bool reached = false;
    for (size_t i = 0; i < n;) {
        passed now = last;
        size_t j = i;
        now.confidence = sorted[i].confidence;
        for (; j < n && !(sorted[j].confidence < sorted[i].confidence); j++) {
            now.in_scope += sorted[j].in_scope;
            now.out_of_scope += !sorted[j].in_scope;
        }
        area += (double)(now.out_of_scope - last.out_of_scope) *
                ((double)last.in_scope + (double)(now.in_scope - last.in_scope) / 2);
        /* In integers: 0.95 is not exact in binary. */
        if (!reached && now.in_scope * 100 >= positives * 95) {
            figures->fpr95 = share(now.out_of_scope, negatives);
            reached = true;
        }
        if (i > 0 && !on_line(&kept, &last, &now)) {
            add_point(figures, &last);
            kept = last;
        }
        last = now;
        i = j;
    }
    add_point(figures, &last);
    figures->oos_auroc = area / ((double)positives * (double)negatives);
}

static bool measure_scope(const sri_eval_row *rows, size_t n, sri_figures *figures) {
    figures->oos_auroc = figures->fpr95 = NAN;
    if (figures->in_scope == 0 || figures->out_of_scope == 0) return true;
    scored *all = sri_alloc_array(n, sizeof *all);
    figures->roc = sri_alloc_array(n, sizeof *figures->roc);
    bool enough = all != NULL && figures->roc != NULL;
    for (size_t i = 0; enough && i < n; i++) {
        bool none = rows[i].best == SRI_EVAL_NONE || isnan(rows[i].confidence);
        all[i] = (scored){none ? 0 : rows[i].confidence, rows[i].expected != SRI_EVAL_NONE};
    }
    if (enough) {
        qsort(all, n, sizeof *all, by_confidence_descending);
        rank_texts(all, n, figures);
    }
    sri_free(all);
    return enough;
}

/* ---- Calibration ------------------------------------------------------------------------------- */

/* Bins are closed above, as is usual: (0, 1/15], (1/15, 2/15], ... */
size_t sri_eval_bin(double confidence) {
    int bin = (int)ceil(fmin(fmax(confidence, 0), 1) * SRI_EVAL_BINS) - 1;
    return bin < 0 ? 0 : (size_t)bin;
}

static void fill_bins(const sri_eval_row *rows, size_t n, sri_figures *figures) {
    size_t counted = 0;
    for (size_t i = 0; i < n; i++) {
        double confidence = rows[i].confidence;
        if (isnan(confidence) || rows[i].best == SRI_EVAL_NONE) continue;
        sri_bin *into = &figures->bins[sri_eval_bin(confidence)];
        into->count++;
        into->right += rows[i].best == rows[i].expected;
        into->out_of_scope += rows[i].expected == SRI_EVAL_NONE;
        into->confidence += fmin(fmax(confidence, 0), 1);
        counted++;
    }
    figures->ece = counted == 0 ? NAN : 0;
    for (int i = 0; i < SRI_EVAL_BINS && counted > 0; i++)
        figures->ece +=
            fabs((double)figures->bins[i].right - figures->bins[i].confidence) / (double)counted;
}

/* ---- All --------------------------------------------------------------------------------------- */

static void count_rows(const sri_eval_row *rows, size_t n, sri_figures *figures) {
    size_t right = 0, right_in_scope = 0, top3 = 0, rejected = 0, fast = 0;
    for (size_t i = 0; i < n; i++) {
        const sri_eval_row *v = &rows[i];
        bool in_scope = v->expected != SRI_EVAL_NONE;
        figures->in_scope += in_scope;
        right += sri_eval_right(v);
        right_in_scope += in_scope && sri_eval_right(v);
        top3 += in_scope && v->in_top3;
        rejected += !in_scope && v->predicted == SRI_EVAL_NONE;
        fast += v->path == SR_PATH_FAST;
    }
    figures->out_of_scope = n - figures->in_scope;
    figures->accuracy = share(right, n);
    figures->in_scope_accuracy = share(right_in_scope, figures->in_scope);
    figures->top3 = share(top3, figures->in_scope);
    figures->oos_recall = share(rejected, figures->out_of_scope);
    figures->fast_share = share(fast, n);
}

sr_status sri_figures_of(const sri_eval_row *rows, size_t n, size_t label_count,
                         sri_figures *figures, sr_error *error) {
    *figures = (sri_figures){.n = n, .label_count = label_count};
    figures->labels = sri_alloc_zero(label_count + 1, sizeof(sri_label_figures));
    if (figures->labels == NULL) return sri_fail_memory(error);
    count_rows(rows, n, figures);
    count_labels(rows, n, figures);
    fill_bins(rows, n, figures);
    if (measure_scope(rows, n, figures)) return SR_OK;
    sri_figures_free(figures);
    return sri_fail_memory(error);
}

void sri_figures_free(sri_figures *figures) {
    sri_free(figures->labels);
    sri_free(figures->roc);
    *figures = (sri_figures){0};
}
