/*
 * report_int.h - what the files of the HTML report share: a writer, and the parts of the page.
 */
#ifndef SRI_EVAL_REPORT_INT_H
#define SRI_EVAL_REPORT_INT_H

#include "eval/eval.h"

/* The page's writer: after a failure it writes no more, so that callers need not look at each step. */
typedef struct sri_page {
    const sri_eval *eval;
    sri_buffer *out;
    bool failed;
} sri_page;

void sri_page_put(sri_page *page, const char *html);
void sri_page_text(sri_page *page, sr_str text); /* escaped */
/* A label's name, escaped; that below 0 or past the last is "none". */
void sri_page_label(sri_page *page, int32_t label);
/* The same, cut to `width` characters. */
void sri_page_label_cut(sri_page *page, int32_t label, size_t width);
/* A share as a percentage, and a number with three decimals; a dash where there is none. */
void sri_page_percent(sri_page *page, double share);
void sri_page_number(sri_page *page, double number);
/* Opens a cell that is sorted by `value`, and one of a number with three decimals. */
void sri_page_cell(sri_page *page, double value);
void sri_page_number_cell(sri_page *page, double value);

#define SRI_PAGE(page, ...)                                                                        \
    ((page)->failed = (page)->failed || !sri_buffer_format((page)->out, __VA_ARGS__))

/* Labels (and, last, "none") that occur, by ascending F1 or by descending number of errors. NULL when memory
 * is short. */
size_t *sri_rank_labels(const sri_eval *eval, bool by_errors, size_t *count);

void sri_page_charts(sri_page *page);     /* report_charts.c */
void sri_page_thresholds(sri_page *page); /* report_charts.c */
void sri_page_confusion(sri_page *page);  /* report_confusion.c */

/* Page style and script (report_style.c). */
extern const char sri_page_style[], sri_page_script[];

#endif
