/*
 * eval_json.c - an evaluation as JSON: its figures, and what went wrong in detail.
 */
#include "eval/eval.h"

#include "text/json_write.h"

#include <math.h>
#include <stdlib.h>

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

/* ---- Details ----------------------------------------------------------------------------------- */

typedef struct cell {
    int32_t expected, predicted;
} cell;

static int by_cell(const void *left, const void *right) {
    const cell *a = left, *b = right;
    if (a->expected != b->expected) return a->expected < b->expected ? -1 : 1;
    return a->predicted < b->predicted ? -1 : a->predicted > b->predicted;
}

/* One entry for each pair that occurs. */
static bool append_confusion(const sri_eval *eval, sri_buffer *out) {
    cell *cells = sri_alloc_array(eval->n, sizeof *cells);
    if (cells == NULL) return false;
    for (size_t i = 0; i < eval->n; i++)
        cells[i] = (cell){eval->rows[i].expected, eval->rows[i].predicted};
    if (eval->n > 0) qsort(cells, eval->n, sizeof *cells, by_cell);
    bool done = sri_buffer_append_str(out, ",\"confusion\":[");
    for (size_t i = 0, next; done && i < eval->n; i = next) {
        for (next = i; next < eval->n && by_cell(&cells[i], &cells[next]) == 0;) next++;
        done = sri_buffer_format(out, "%s[%d,%d,%zu]", i == 0 ? "" : ",", (int)cells[i].expected,
                                 (int)cells[i].predicted, next - i);
    }
    sri_free(cells);
    return done && sri_buffer_append(out, "]", 1);
}

static bool append_label(const sri_eval *eval, sri_buffer *out, const char *name, int32_t label) {
    return sri_buffer_format(out, ",\"%s\":", name) &&
           (label == SRI_EVAL_NONE ? sri_buffer_append_str(out, "null")
                                   : sri_append_json(out, eval->labels[label]));
}

static bool append_candidate(sri_buffer *out, const sr_candidate *candidate) {
    return sri_buffer_append_str(out, "{\"route\":") && sri_append_json(out, candidate->route) &&
           sri_buffer_append_str(out, ",\"confidence\":") &&
           sri_append_number(out, candidate->confidence) &&
           sri_buffer_append_str(out, ",\"score\":") && sri_append_number(out, candidate->score) &&
           sri_buffer_append_str(out, ",\"utterance\":") &&
           sri_append_json(out, candidate->utterance) && sri_buffer_append(out, "}", 1);
}

static bool append_failure(const sri_eval *eval, const sri_failure *failure, sri_buffer *out) {
    const sri_eval_row *row = &eval->rows[failure->index];
    bool done = sri_buffer_append_str(out, "{\"text\":") &&
                sri_append_json(out, eval->cases[failure->index].text) &&
                append_label(eval, out, "expected", row->expected) &&
                append_label(eval, out, "predicted", row->predicted) &&
                sri_buffer_format(out, ",\"reason\":\"%s\",\"path\":\"%s\",\"confidence\":",
                                  sr_reason_name(row->reason), sr_path_name(row->path)) &&
                sri_append_number(out, row->confidence) &&
                sri_buffer_append_str(out, ",\"score\":") && sri_append_number(out, row->score) &&
                sri_buffer_append_str(out, ",\"candidates\":[");
    for (size_t i = 0; done && i < failure->candidate_count; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) &&
               append_candidate(out, &failure->candidates[i]);
    return done && sri_buffer_append_str(out, "]}");
}

bool sri_eval_append_details(const sri_eval *eval, size_t failures, sri_buffer *out) {
    bool done = sri_buffer_append_str(out, ",\"labels\":[");
    for (size_t i = 0; done && i < eval->label_count; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) && sri_append_json(out, eval->labels[i]);
    done = done && sri_buffer_append(out, "]", 1) && append_confusion(eval, out) &&
           sri_buffer_append_str(out, ",\"failures\":[");
    for (size_t i = 0; done && i < eval->failure_count && i < failures; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) &&
               append_failure(eval, &eval->failures[i], out);
    return done && sri_buffer_format(out, "],\"failure_count\":%zu", eval->failure_count);
}
