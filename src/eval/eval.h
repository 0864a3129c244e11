/*
 * eval.h - how well a router decides labelled texts: the run, the figures, the report.
 */
#ifndef SRI_EVAL_H
#define SRI_EVAL_H

#include "base/base.h"

/* ---- Figures (metrics.c) ----------------------------------------------------------------------- */

#define SRI_EVAL_NONE (-1)
#define SRI_EVAL_BINS 15

/* One decided text. Labels are numbers from 0; SRI_EVAL_NONE is "belongs nowhere". */
typedef struct sri_eval_row {
    int32_t expected;  /* SRI_EVAL_NONE: out of scope */
    int32_t predicted; /* SRI_EVAL_NONE: rejected */
    int32_t best;      /* the best candidate, accepted or not; SRI_EVAL_NONE: there was none */
    bool in_top3;      /* `expected` is among the best three candidates */
    sr_reason reason;
    sr_path path;                     /* that answered */
    double score, confidence, margin; /* NaN where there is none */
} sri_eval_row;

/* Of one label (the last one stands for "out of scope"). */
typedef struct sri_label_figures {
    size_t expected, predicted, right;
    double precision, recall, f1; /* NaN where undefined; f1 is 0 when nothing was right */
} sri_label_figures;

typedef struct sri_bin {
    size_t count, right;
    size_t out_of_scope; /* of `count` */
    double confidence;   /* sum */
} sri_bin;

/* What accepting from a confidence on would do: shares of the in-scope and of the out-of-scope texts. */
typedef struct sri_roc_point {
    double confidence;
    double in_scope, out_of_scope; /* accepted */
} sri_roc_point;

/* Shares from 0 to 1; NaN where there is nothing to measure.
 *   accuracy           right: the expected route, or a rejection of an out-of-scope text
 *   in_scope_accuracy  the same over the in-scope texts
 *   top3               in-scope texts whose route is among the three best candidates
 *   macro_f1           mean F1 of the labels that occur in the texts, "out of scope" being one
 *   oos_recall         out-of-scope texts that were rejected
 *   oos_auroc          chance that an in-scope text has more confidence than an out-of-scope one. The
 *                      confidence is that of the best candidate, which both paths give; it counts as 0
 *                      where there is no candidate
 *   fpr95              out-of-scope texts whose confidence is at least what 95 % of the in-scope texts reach
 *   ece                expected calibration error: 15 bins over the confidence that the best candidate
 *                      is right (it never is for an out-of-scope text)
 *   fast_share         texts that the fast path answered */
typedef struct sri_figures {
    size_t n, in_scope, out_of_scope;
    double accuracy, in_scope_accuracy, top3, macro_f1;
    double oos_recall, oos_auroc, fpr95, ece, fast_share;
    sri_bin bins[SRI_EVAL_BINS]; /* bin i: confidences above i / 15, up to (i + 1) / 15 */
    sri_roc_point
        *roc; /* by descending confidence, from the first that accepts anything; points on a
                           straight line between others are left out. NULL without both kinds of texts */
    size_t roc_count;
    sri_label_figures *labels; /* label_count + 1 */
    size_t label_count;
} sri_figures;

bool sri_eval_right(const sri_eval_row *row);

/* The bin of a confidence. */
size_t sri_eval_bin(double confidence);

/* Labels in `rows` are below `label_count`. */
SR_MUST_CHECK sr_status sri_figures_of(const sri_eval_row *rows, size_t n, size_t label_count,
                                       sri_figures *figures, sr_error *error);
void sri_figures_free(sri_figures *figures);

/* The value below which the share `p` of the sorted values lies, interpolated; NaN when n is 0. */
double sri_percentile(const double *sorted, size_t n, double p);

/* ---- Run (run.c) ------------------------------------------------------------------------------- */

typedef struct sri_case {
    sr_str text;
    sr_str expected; /* length 0: out of scope */
} sri_case;

typedef struct sri_eval_options {
    sr_decide_options decide; /* top_k below 3 is raised to 3, which top3 needs */
    size_t latency_samples;   /* texts that are decided once more, one at a time; 0: none */
    sr_progress_fn *progress;
    void *progress_user;
} sri_eval_options;

/* A text that was decided wrongly, with its candidates. */
typedef struct sri_failure {
    size_t index; /* of the case */
    const sr_candidate *candidates;
    size_t candidate_count;
} sri_failure;

typedef struct sri_eval {
    const sri_case *cases; /* the caller's */
    size_t n;
    sri_eval_row *rows;
    sr_str *
        labels; /* first those expected, in the order of their first mention, then others predicted */
    size_t label_count, label_capacity;
    sri_map label_index;
    sri_failure *failures;
    size_t failure_count, failure_capacity;
    sri_arena arena;
    sri_figures figures;
    double seconds, queries_per_second; /* of deciding in batches */
    double p50, p99; /* milliseconds, one text at a time; NaN when not measured */
} sri_eval;

/* Decides every case and measures. `cases` must outlive `eval`. On failure `eval` is empty. */
SR_MUST_CHECK sr_status sri_eval_run(sr_router *router, const sri_case *cases, size_t n,
                                     const sri_eval_options *options, sri_eval *eval,
                                     sr_error *error);
void sri_eval_free(sri_eval *eval);

/* ---- Report (eval_json.c, report.c) ------------------------------------------------------------------------- */

/* Appends the figures as one JSON object. False when memory is short. */
bool sri_eval_append_json(const sri_eval *eval, sri_buffer *out);
/* Appends, as members that follow others, `labels`, `confusion` ([expected, predicted, number], each a label's number or
 * -1, where it is not 0), at most so many `failures` with their candidates, and `failure_count`. */
bool sri_eval_append_details(const sri_eval *eval, size_t failures, sri_buffer *out);

typedef struct sri_report_info {
    const char *title;    /* the file of labelled texts */
    const char *database; /* and what it held */
    uint64_t revision, routes, utterances;
    const char *model, *fingerprint, *version, *cpu;
    const char *date; /* of the run, as it is to be shown */
    const char *path; /* asked for: auto, fast or slow */
    double margin;    /* asked for */
    bool no_reject;
} sri_report_info;

/* Appends a page of HTML that needs no other file and no network: figures, what thresholds would do, routes,
 * confusions, reliability, confidences, out-of-scope curve and failures. Every text in it is escaped, and a
 * policy in the page keeps any script but its own from running. */
bool sri_eval_append_html(const sri_eval *eval, const sri_report_info *info, sri_buffer *out);

#endif
