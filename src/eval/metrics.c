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

bool sri_verdict_right(const sri_verdict *verdict) {
    return verdict->predicted == verdict->expected;
}

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

static void count_labels(const sri_verdict *verdicts, size_t n, sri_figures *figures) {
    sri_label_figures *none = &figures->labels[figures->label_count];
    for (size_t i = 0; i < n; i++) {
        const sri_verdict *v = &verdicts[i];
        sri_label_figures *expected = v->expected < 0 ? none : &figures->labels[v->expected];
        sri_label_figures *predicted = v->predicted < 0 ? none : &figures->labels[v->predicted];
        expected->expected++;
        predicted->predicted++;
        expected->right += sri_verdict_right(v);
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
    double score;
    bool in_scope;
} scored;

static int by_score_descending(const void *left, const void *right) {
    const scored *a = left, *b = right;
    return (a->score < b->score) - (a->score > b->score);
}

/* Walks groups of equal scores from the top; in a group, order is chance. */
static void rank_scores(const scored *sorted, size_t n, sri_figures *figures) {
    size_t positives = figures->in_scope, negatives = figures->out_of_scope;
    size_t passed_in = 0, passed_out = 0;
    double area = 0;
    bool reached = false;
    for (size_t i = 0; i < n;) {
        size_t in = 0, out = 0, j = i;
        for (; j < n && !(sorted[j].score < sorted[i].score); j++) {
            in += sorted[j].in_scope;
            out += !sorted[j].in_scope;
        }
        area += (double)out * ((double)passed_in + (double)in / 2);
        passed_in += in;
        passed_out += out;
        /* In integers: 0.95 is not exact in binary. */
        if (!reached && passed_in * 100 >= positives * 95) {
            figures->fpr95 = share(passed_out, negatives);
            reached = true;
        }
        i = j;
    }
    figures->oos_auroc = area / ((double)positives * (double)negatives);
}

static bool measure_scores(const sri_verdict *verdicts, size_t n, sri_figures *figures) {
    figures->oos_auroc = figures->fpr95 = NAN;
    if (figures->in_scope == 0 || figures->out_of_scope == 0) return true;
    scored *all = sri_alloc_array(n, sizeof *all);
    if (all == NULL) return false;
    for (size_t i = 0; i < n; i++) {
        double score = isnan(verdicts[i].score) ? -INFINITY : verdicts[i].score;
        all[i] = (scored){score, verdicts[i].expected != SRI_EVAL_NONE};
    }
    qsort(all, n, sizeof *all, by_score_descending);
    rank_scores(all, n, figures);
    sri_free(all);
    return true;
}

/* ---- Calibration ------------------------------------------------------------------------------- */

static void fill_bins(const sri_verdict *verdicts, size_t n, sri_figures *figures) {
    size_t counted = 0;
    for (size_t i = 0; i < n; i++) {
        double confidence = verdicts[i].confidence;
        if (isnan(confidence) || verdicts[i].best == SRI_EVAL_NONE) continue;
        confidence = fmin(fmax(confidence, 0), 1);
        /* Bins are closed above, as is usual: (0, 1/15], (1/15, 2/15], ... */
        int bin = (int)ceil(confidence * SRI_EVAL_BINS) - 1;
        sri_bin *into = &figures->bins[bin < 0 ? 0 : bin];
        into->count++;
        into->right += verdicts[i].best == verdicts[i].expected;
        into->confidence += confidence;
        counted++;
    }
    figures->ece = counted == 0 ? NAN : 0;
    for (int i = 0; i < SRI_EVAL_BINS && counted > 0; i++)
        figures->ece +=
            fabs((double)figures->bins[i].right - figures->bins[i].confidence) / (double)counted;
}

/* ---- All --------------------------------------------------------------------------------------- */

static void count_verdicts(const sri_verdict *verdicts, size_t n, sri_figures *figures) {
    size_t right = 0, right_in_scope = 0, top3 = 0, rejected = 0, fast = 0;
    for (size_t i = 0; i < n; i++) {
        const sri_verdict *v = &verdicts[i];
        bool in_scope = v->expected != SRI_EVAL_NONE;
        figures->in_scope += in_scope;
        right += sri_verdict_right(v);
        right_in_scope += in_scope && sri_verdict_right(v);
        top3 += in_scope && v->in_top3;
        rejected += !in_scope && v->predicted == SRI_EVAL_NONE;
        fast += v->fast;
    }
    figures->out_of_scope = n - figures->in_scope;
    figures->accuracy = share(right, n);
    figures->in_scope_accuracy = share(right_in_scope, figures->in_scope);
    figures->top3 = share(top3, figures->in_scope);
    figures->oos_recall = share(rejected, figures->out_of_scope);
    figures->fast_share = share(fast, n);
}

sr_status sri_figures_of(const sri_verdict *verdicts, size_t n, size_t label_count,
                         sri_figures *figures, sr_error *error) {
    *figures = (sri_figures){.n = n, .label_count = label_count};
    figures->labels = sri_alloc_zero(label_count + 1, sizeof(sri_label_figures));
    if (figures->labels == NULL) return sri_fail_memory(error);
    count_verdicts(verdicts, n, figures);
    count_labels(verdicts, n, figures);
    fill_bins(verdicts, n, figures);
    if (measure_scores(verdicts, n, figures)) return SR_OK;
    sri_figures_free(figures);
    return sri_fail_memory(error);
}

void sri_figures_free(sri_figures *figures) {
    sri_free(figures->labels);
    *figures = (sri_figures){0};
}
