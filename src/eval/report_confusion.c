/*
 * report_confusion.c - which routes are taken for which: a heat map of the most confused labels with their
 * names, one of all of them, and the pairs as a table.
 *
 * Both maps have one order of labels, in which routes that are confused stand side by side, so that groups
 * of them show as blocks on the diagonal. It comes from joining the most frequent pairs first into chains,
 * each label having at most two neighbours. Only cells that are not empty are drawn, the most frequent
 * MAX_CELLS of them: a page stays below a megabyte or so whatever the table.
 */
#include "eval/report_int.h"

#include <math.h>
#include <stdlib.h>

#define MAX_PAIRS ((size_t)50)
#define MAX_PART  ((size_t)40)  /* labels that are drawn with their names */
#define MAX_WHOLE ((size_t)400) /* and without */
#define MAX_CELLS ((size_t)2500)

typedef struct confusion {
    int32_t expected, predicted; /* the number of labels stands for "none" */
    size_t count;
} confusion;

typedef struct matrix {
    confusion *cells; /* most frequent first */
    size_t cell_count, errors;
    size_t *order; /* of labels: places on the map */
    size_t order_count;
    bool *in_part; /* by label */
} matrix;

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

static bool count_cells(const sri_eval *eval, matrix *made) {
    confusion *cells = made->cells = sri_alloc_array(eval->n, sizeof *cells);
    if (cells == NULL) return false;
    int32_t none = (int32_t)eval->label_count;
    for (size_t i = 0; i < eval->n; i++) {
        int32_t expected = eval->rows[i].expected, predicted = eval->rows[i].predicted;
        cells[i] = (confusion){expected < 0 ? none : expected, predicted < 0 ? none : predicted, 1};
    }
    qsort(cells, eval->n, sizeof *cells, by_labels);
    for (size_t i = 0; i < eval->n; i++) {
        size_t n = made->cell_count;
        if (n > 0 && by_labels(&cells[n - 1], &cells[i]) == 0)
            cells[n - 1].count++;
        else
            cells[made->cell_count++] = cells[i];
    }
    qsort(cells, made->cell_count, sizeof *cells, by_count);
    for (size_t i = 0; i < made->cell_count; i++)
        made->errors += cells[i].expected != cells[i].predicted;
    return true;
}

/* ---- The order of labels ----------------------------------------------------------------------- */

#define END SIZE_MAX

typedef struct chained {
    size_t next[2]; /* neighbours; END: none */
    size_t chain;   /* of a union-find forest */
    bool placed;
} chained;

static size_t chain_of(chained *labels, size_t label) {
    while (labels[label].chain != label)
        label = labels[label].chain = labels[labels[label].chain].chain;
    return label;
}

static void join(chained *labels, size_t a, size_t b) {
    if (labels[a].next[1] != END || labels[b].next[1] != END) return;
    if (chain_of(labels, a) == chain_of(labels, b)) return;
    labels[chain_of(labels, a)].chain = chain_of(labels, b);
    labels[a].next[labels[a].next[0] != END] = b;
    labels[b].next[labels[b].next[0] != END] = a;
}

static size_t beyond(const chained *labels, size_t label, size_t from) {
    return labels[label].next[0] == from ? labels[label].next[1] : labels[label].next[0];
}

/* Appends the chain that `label` is in, from one of its ends. */
static void place_chain(chained *labels, size_t label, matrix *made) {
    size_t from = END, next;
    if (labels[label].next[1] != END)
        while ((next = beyond(labels, label, from)) != END) {
            from = label;
            label = next;
        }
    from = END;
    while (label != END) {
        labels[label].placed = true;
        made->order[made->order_count++] = label;
        next = beyond(labels, label, from);
        from = label;
        label = next;
    }
}

static bool order_labels(const sri_eval *eval, matrix *made) {
    size_t none = eval->label_count, count;
    size_t *ranked = sri_rank_labels(eval, true, &count);
    chained *labels = sri_alloc_array(none + 1, sizeof *labels);
    made->order = sri_alloc_array(none + 1, sizeof *made->order);
    made->in_part = sri_alloc_zero(none + 1, sizeof *made->in_part);
    bool enough = ranked != NULL && labels != NULL && made->order != NULL && made->in_part != NULL;
    for (size_t i = 0; enough && i <= none; i++) labels[i] = (chained){{END, END}, i, false};
    for (size_t i = 0; enough && i < made->cell_count; i++) {
        size_t a = (size_t)made->cells[i].expected, b = (size_t)made->cells[i].predicted;
        if (a != b && a != none && b != none) join(labels, a, b);
    }
    for (size_t i = 0; enough && i < count; i++) {
        if (i < MAX_PART) made->in_part[ranked[i]] = true;
        if (!labels[ranked[i]].placed && ranked[i] != none) place_chain(labels, ranked[i], made);
    }
    /* "None" is taken for everything: it stands at the end. */
    if (enough && eval->figures.labels[none].expected + eval->figures.labels[none].predicted > 0)
        made->order[made->order_count++] = none;
    sri_free(ranked);
    sri_free(labels);
    return enough;
}

static void free_matrix(matrix *made) {
    sri_free(made->cells);
    sri_free(made->order);
    sri_free(made->in_part);
}

/* ---- Maps -------------------------------------------------------------------------------------- */

typedef struct map {
    const char *id, *name;
    int32_t *places; /* by label; -1: not on the map */
    size_t *labels;  /* by place */
    size_t side;
    double cell, margin; /* units of the drawing */
} map;

static void put_names(sri_page *page, const map *drawn) {
    for (size_t i = 0; i < drawn->side; i++) {
        double at = drawn->margin + drawn->cell * ((double)i + 0.7);
        SRI_PAGE(page, "<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">", drawn->margin - 5, at);
        sri_page_label_cut(page, (int32_t)drawn->labels[i], 28);
        SRI_PAGE(page, "</text><text transform=\"translate(%.1f %g) rotate(-60)\">", at + 1,
                 drawn->margin - 5);
        sri_page_label_cut(page, (int32_t)drawn->labels[i], 28);
        sri_page_put(page, "</text>\n");
    }
}

/* Opacity is the share of the row's texts, so that rows of different size compare. */
static void put_cells(sri_page *page, const matrix *made, const map *drawn) {
    const sri_figures *f = &page->eval->figures;
    size_t shown = 0;
    for (size_t i = 0; i < made->cell_count && shown < MAX_CELLS && !page->failed; i++) {
        const confusion *cell = &made->cells[i];
        int32_t row = drawn->places[cell->expected], column = drawn->places[cell->predicted];
        if (row < 0 || column < 0) continue;
        shown++;
        double part = (double)cell->count / (double)f->labels[cell->expected].expected;
        SRI_PAGE(page,
                 "<rect class=\"%c\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" "
                 "fill-opacity=\"%.2f\"><title>",
                 row == column ? 'r' : 'w', drawn->margin + drawn->cell * column,
                 drawn->margin + drawn->cell * row, drawn->cell * 0.92, drawn->cell * 0.92,
                 row == column ? 0.1 + 0.9 * part : 0.3 + 0.7 * sqrt(part));
        sri_page_label(page, cell->expected);
        sri_page_put(page, " &rarr; ");
        sri_page_label(page, cell->predicted);
        SRI_PAGE(page, ": %zu</title></rect>\n", cell->count);
    }
}

static void put_map(sri_page *page, const matrix *made, const map *drawn) {
    double size = drawn->margin + drawn->cell * (double)drawn->side;
    SRI_PAGE(page,
             "<div class=\"scroll\"><svg id=\"%s\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
             "role=\"img\" aria-label=\"%s; rows expected, columns answered\">\n<rect "
             "class=\"grid\" x=\"%g\" y=\"%g\" width=\"%.1f\" height=\"%.1f\"/>\n",
             drawn->id, size + 60, size + 2, size + 60, drawn->name, drawn->margin, drawn->margin,
             size - drawn->margin, size - drawn->margin);
    if (drawn->margin > 20) put_names(page, drawn);
    put_cells(page, made, drawn);
    sri_page_put(page, "</svg></div>\n");
}

/* Fills the map with the labels of the part, or with the first `most` of all. */
static bool choose_labels(const sri_eval *eval, const matrix *made, bool part, size_t most,
                          map *drawn) {
    drawn->places = sri_alloc_array(eval->label_count + 1, sizeof *drawn->places);
    drawn->labels = sri_alloc_array(eval->label_count + 1, sizeof *drawn->labels);
    if (drawn->places == NULL || drawn->labels == NULL) return false;
    for (size_t i = 0; i <= eval->label_count; i++) drawn->places[i] = -1;
    for (size_t i = 0; i < made->order_count && drawn->side < most; i++) {
        if (part && !made->in_part[made->order[i]]) continue;
        drawn->places[made->order[i]] = (int32_t)drawn->side;
        drawn->labels[drawn->side++] = made->order[i];
    }
    return true;
}

static void free_map(map *drawn) {
    sri_free(drawn->places);
    sri_free(drawn->labels);
}

static void put_part(sri_page *page, const matrix *made) {
    map drawn = {
        .id = "confused", .name = "Confusion matrix of the most confused labels", .cell = 15};
    drawn.margin = 160;
    if (!choose_labels(page->eval, made, true, MAX_PART, &drawn)) page->failed = true;
    SRI_PAGE(page,
             "<p class=\"soft\">Rows: expected; columns: answered, in the same order, in which "
             "labels that are confused stand side by side. The stronger, the larger the share of "
             "the row's texts: <span class=\"key r\"></span>right, <span class=\"key w\"></span>"
             "wrong. %s%zu of %zu labels.</p>\n",
             drawn.side < made->order_count ? "Those with most errors: " : "", drawn.side,
             made->order_count);
    put_map(page, made, &drawn);
    free_map(&drawn);
}

static void put_whole(sri_page *page, const matrix *made) {
    size_t side = SRI_MIN(made->order_count, MAX_WHOLE);
    map drawn = {.id = "whole", .name = "Confusion matrix of all labels", .margin = 2};
    drawn.cell = fmax(900 / (double)side, 2.5);
    if (!choose_labels(page->eval, made, false, MAX_WHOLE, &drawn)) page->failed = true;
    SRI_PAGE(
        page,
        "<h3>The whole</h3>\n<p class=\"soft\">%s%zu labels in the same order; point at a cell "
        "to see its routes.%s</p>\n",
        drawn.side < made->order_count ? "The first " : "All ", drawn.side,
        made->cell_count > MAX_CELLS ? " The most frequent 2,500 cells are drawn." : "");
    put_map(page, made, &drawn);
    free_map(&drawn);
}

static void put_pairs(sri_page *page, const matrix *made) {
    size_t shown = 0;
    SRI_PAGE(
        page,
        "<h3>Most confused pairs</h3>\n<div class=\"tall\" tabindex=\"0\" role=\"region\" "
        "aria-label=\"Most confused pairs\"><table id=\"pairs\" class=\"sort\"><caption>%zu of %zu "
        "pairs</caption><thead><tr><th scope=\"col\">Expected<th scope=\"col\">Answered<th "
        "scope=\"col\" class=\"n\">Times</tr></thead><tbody>\n",
        SRI_MIN(made->errors, MAX_PAIRS), made->errors);
    for (size_t i = 0; i < made->cell_count && shown < MAX_PAIRS; i++) {
        const confusion *cell = &made->cells[i];
        if (cell->expected == cell->predicted) continue;
        shown++;
        SRI_PAGE(page, "<tr data-e=\"%d\" data-p=\"%d\"><td>", cell->expected, cell->predicted);
        sri_page_label(page, cell->expected);
        sri_page_put(page, "<td>");
        sri_page_label(page, cell->predicted);
        sri_page_cell(page, (double)cell->count);
        SRI_PAGE(page, "%zu</tr>\n", cell->count);
    }
    sri_page_put(page, "</tbody></table></div>\n");
}

void sri_page_confusion(sri_page *page) {
    matrix made = {0};
    if (!count_cells(page->eval, &made) || !order_labels(page->eval, &made)) page->failed = true;
    if (!page->failed && made.order_count > 0) {
        sri_page_put(page, "<section id=\"confusion\"><h2>Confusion matrix</h2>\n");
        put_part(page, &made);
        if (made.errors > 0) put_pairs(page, &made);
        if (made.order_count > MAX_PART) put_whole(page, &made);
        sri_page_put(page, "</section>\n");
    }
    free_matrix(&made);
}
