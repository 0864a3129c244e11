/*
 * lint.c - findings from a copy of the table, its vectors, and each utterance's nearest neighbours.
 *
 * Everything that compares utterances follows from two facts of each: the nearest of its own route and the
 * nearest of all others. So one pass over all pairs answers all questions, and the findings are those of
 * the rule that decides where nothing is fitted. Trained heads are better than that rule; but what misleads
 * a neighbour also costs the heads something, and only neighbours can say which utterance is to blame.
 */
#include "eval/lint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/neighbours.h"
#include "text/text.h"

#define AUTO_COSINE 0.60 /* what an automatic threshold means where neighbours decide */
#define ROUNDING    1e-6

static const struct {
    const char *name, *title;
} kinds[SRI_LINT_KINDS] = {
    {"empty_route", "Routes without utterances, which are never decided for"},
    {"few_utterances", "Routes with few utterances"},
    {"duplicate", "The same utterance in two routes"},
    {"near_duplicate", "Nearly the same utterance in two routes"},
    {"unreachable_route", "Routes that none of their own utterances would reach, left out"},
    {"overlap", "Routes that overlap"},
    {"threshold", "Routes whose threshold turns down most of their own utterances, left out"},
    {"oos_near", "Out-of-scope examples near an utterance"},
    {"lost_utterance", "Utterances that another route would win, left out"},
};

const char *sri_lint_name(sri_lint_kind kind) { return kinds[kind].name; }
const char *sri_lint_title(sri_lint_kind kind) { return kinds[kind].title; }

/* The table as rows: utterances by route, then out-of-scope examples, whose group is `routes`. */
typedef struct rows {
    sri_lint *lint;
    const sri_lint_options *options;
    size_t count, routes;
    sr_str *texts;
    uint32_t *groups;
    size_t *starts; /* routes + 2: where a group begins */
    uint32_t *same; /* the first row of the same text but for case, white space and the end */
    float *vectors;
    sri_neighbours *near;
    uint32_t *winners; /* group that a row goes to, left out; `routes` + 1: none */
} rows;

static sr_str route_name(const rows *all, size_t group) {
    if (group >= all->routes) return (sr_str){NULL, 0};
    return sr_table_route(all->lint->table, group)->name;
}

static bool add(rows *all, sri_lint_finding finding) {
    sri_lint *lint = all->lint;
    if (lint->counts[finding.kind]++ >= SRI_LINT_MAX) return true;
    void *findings = lint->findings;
    if (!sri_grow(&findings, &lint->capacity, lint->count + 1, sizeof *lint->findings))
        return false;
    lint->findings = findings;
    lint->findings[lint->count++] = finding;
    return true;
}

/* A finding without numbers. */
static sri_lint_finding about(sri_lint_kind kind, sr_str route) {
    return (sri_lint_finding){.kind = kind,
                              .route = route,
                              .cosine = NAN,
                              .own_cosine = NAN,
                              .share = NAN,
                              .threshold = NAN};
}

/* A finding about two rows. */
static sri_lint_finding about_pair(const rows *all, sri_lint_kind kind, size_t a, size_t b,
                                   double cosine) {
    sri_lint_finding finding = about(kind, route_name(all, all->groups[a]));
    finding.other = route_name(all, all->groups[b]);
    finding.utterance = all->texts[a];
    finding.other_utterance = all->texts[b];
    finding.cosine = fmin(cosine, 1);
    return finding;
}

/* ---- Texts ------------------------------------------------------------------------------------- */

static bool is_end(uint32_t c) { return c < 128 && c != 0 && strchr(" .,;:!?", (int)c) != NULL; }

/* Characters as texts are compared, white space as one space, none at the ends, nor punctuation at the last. */
static bool fold_text(sr_str text, sri_buffer *folded) {
    const char *cursor = text.data, *end = text.data + text.len;
    const uint32_t gap = ' ';
    bool space = false;
    folded->len = 0;
    while (cursor < end) {
        sri_folded parts[SRI_FOLD_MAX];
        size_t count = sri_char_fold(sri_utf8_next(&cursor, end), parts);
        for (size_t i = 0; i < count; i++) {
            space = space || parts[i].kind == SRI_FOLDED_SPACE;
            if (parts[i].kind == SRI_FOLDED_SPACE) continue;
            if ((space && folded->len > 0 && !sri_buffer_append(folded, &gap, sizeof gap)) ||
                !sri_buffer_append(folded, &parts[i].c, sizeof parts[i].c))
                return false;
            space = false;
        }
    }
    size_t kept = folded->len;
    for (uint32_t last; kept > 0; kept -= sizeof last) {
        memcpy(&last, folded->data + kept - sizeof last, sizeof last);
        if (!is_end(last)) break;
    }
    if (kept > 0) folded->len = kept; /* "?" alone stays what it is */
    return true;
}

static bool find_same(rows *all) {
    sri_map seen = {0};
    sri_arena arena = {0};
    sri_buffer folded = {0};
    bool enough = sri_map_reserve(&seen, all->count);
    for (size_t i = 0; enough && i < all->count; i++) {
        uint64_t first = i;
        enough = fold_text(all->texts[i], &folded);
        sr_str key = {folded.data, folded.len};
        if (enough && !sri_map_get(&seen, key, &first)) {
            key = sri_arena_copy(&arena, key);
            enough = key.data != NULL && sri_map_put(&seen, key, i);
        }
        all->same[i] = (uint32_t)first;
    }
    sri_buffer_free(&folded);
    sri_arena_free(&arena);
    sri_map_free(&seen);
    return enough;
}

static bool report_duplicates(rows *all) {
    bool enough = true;
    for (size_t i = 0; enough && i < all->starts[all->routes]; i++) {
        size_t first = all->same[i];
        if (all->groups[first] != all->groups[i])
            enough = add(all, about_pair(all, SRI_LINT_DUPLICATE, first, i, NAN));
    }
    return enough;
}

/* ---- Routes ------------------------------------------------------------------------------------ */

static bool report_sizes(rows *all) {
    bool enough = true;
    for (size_t r = 0; enough && r < all->routes; r++) {
        size_t n = all->starts[r + 1] - all->starts[r];
        if (n >= all->options->few && n > 0) continue;
        sri_lint_finding finding =
            about(n == 0 ? SRI_LINT_EMPTY : SRI_LINT_FEW, route_name(all, r));
        finding.count = n;
        enough = add(all, finding);
    }
    return enough;
}

static void find_winners(rows *all) {
    for (size_t i = 0; i < all->count; i++) {
        const sri_neighbours *near = &all->near[i];
        uint32_t none = (uint32_t)all->routes + 1;
        uint32_t own = near->own == SRI_NEIGHBOUR_NONE ? none : all->groups[i];
        bool lost = near->other != SRI_NEIGHBOUR_NONE && near->other_cosine > near->own_cosine;
        all->winners[i] = lost ? all->groups[near->other] : own;
    }
}

/* A threshold on cosine that the route's utterances can be held against; false where there is none: what a
 * confidence would be without the utterance only a fit of its own could tell. */
static bool cosine_threshold(sr_threshold threshold, bool fitted, double *value) {
    *value = threshold.kind == SR_THRESHOLD_COSINE ? threshold.value : AUTO_COSINE;
    return threshold.kind == SR_THRESHOLD_COSINE ||
           (threshold.kind == SR_THRESHOLD_AUTO && !fitted);
}

static bool report_thresholds(rows *all, bool fitted) {
    bool enough = true;
    for (size_t r = 0; enough && r < all->routes; r++) {
        size_t n = all->starts[r + 1] - all->starts[r], below = 0;
        double threshold;
        if (n < 2 ||
            !cosine_threshold(sr_table_route(all->lint->table, r)->threshold, fitted, &threshold))
            continue;
        for (size_t i = all->starts[r]; i < all->starts[r + 1]; i++)
            below += all->near[i].own_cosine + ROUNDING < threshold;
        if (2 * below <= n) continue;
        sri_lint_finding finding = about(SRI_LINT_THRESHOLD, route_name(all, r));
        finding.threshold = threshold;
        finding.count = below;
        finding.share = (double)below / (double)n;
        enough = add(all, finding);
    }
    return enough;
}

/* ---- Utterances -------------------------------------------------------------------------------- */

static bool report_lost(rows *all) {
    bool enough = true;
    for (size_t i = 0; enough && i < all->starts[all->routes]; i++) {
        const sri_neighbours *near = &all->near[i];
        /* A lone utterance has no route to win it: that it is alone is said elsewhere. */
        if (near->own == SRI_NEIGHBOUR_NONE || all->winners[i] == all->groups[i]) continue;
        sri_lint_finding finding =
            about_pair(all, SRI_LINT_LOST, i, near->other, near->other_cosine);
        finding.own_cosine = near->own_cosine;
        enough = add(all, finding);
    }
    return enough;
}

static bool report_near(rows *all, const sri_near_pair *pairs, size_t count, size_t seen) {
    bool enough = true;
    for (size_t i = 0; enough && i < count; i++) {
        const sri_near_pair *pair = &pairs[i];
        if (all->groups[pair->b] == all->routes || all->same[pair->a] == all->same[pair->b])
            continue;
        enough = add(all, about_pair(all, SRI_LINT_NEAR, pair->a, pair->b, pair->cosine));
    }
    all->lint->counts[SRI_LINT_NEAR] += seen - count;
    return enough;
}

static bool report_oos(rows *all) {
    bool enough = true;
    for (size_t i = all->starts[all->routes]; enough && i < all->count; i++) {
        const sri_neighbours *near = &all->near[i];
        if (near->other == SRI_NEIGHBOUR_NONE || near->other_cosine < all->options->oos) continue;
        enough = add(all, about_pair(all, SRI_LINT_OOS, near->other, i, near->other_cosine));
    }
    return enough;
}

/* ---- Pairs of routes --------------------------------------------------------------------------- */

/* An utterance that goes from one route to another. */
typedef struct crossing {
    uint32_t low, high; /* routes */
} crossing;

static int by_routes(const void *left, const void *right) {
    const crossing *a = left, *b = right;
    if (a->low != b->low) return a->low < b->low ? -1 : 1;
    return (a->high > b->high) - (a->high < b->high);
}

static size_t size_of(const rows *all, uint32_t route) {
    return all->starts[route + 1] - all->starts[route];
}

/* One utterance that strays is no overlap: two are the least. */
static bool report_overlap(rows *all, const crossing *first, size_t n) {
    size_t both = size_of(all, first->low) + size_of(all, first->high);
    double share = (double)n / (double)both;
    if (n < 2 || share < all->options->overlap) return true;
    sri_lint_finding finding = about(SRI_LINT_OVERLAP, route_name(all, first->low));
    finding.other = route_name(all, first->high);
    finding.count = n;
    finding.share = share;
    return add(all, finding);
}

static bool report_unreached(rows *all, uint32_t route) {
    size_t n = size_of(all, route), other = 0, most = 0;
    for (size_t i = all->starts[route]; i < all->starts[route + 1]; i++) {
        size_t same = 0;
        if (all->winners[i] == route) return true;
        for (size_t j = all->starts[route]; j < all->starts[route + 1]; j++)
            same += all->winners[j] == all->winners[i];
        if (same > most) most = same, other = all->winners[i];
    }
    if (n < 2) return true;
    sri_lint_finding finding = about(SRI_LINT_UNREACHED, route_name(all, route));
    finding.other = route_name(all, other);
    finding.count = n;
    return add(all, finding);
}

static bool report_pairs(rows *all) {
    size_t count = 0;
    crossing *crossings = sri_alloc_array(all->count, sizeof *crossings);
    bool enough = crossings != NULL;
    for (size_t i = 0; enough && i < all->starts[all->routes]; i++) {
        uint32_t from = all->groups[i], to = all->winners[i];
        if (to == from || to >= all->routes) continue;
        crossings[count++] = (crossing){SRI_MIN(from, to), SRI_MAX(from, to)};
    }
    if (enough) qsort(crossings, count, sizeof *crossings, by_routes);
    for (size_t i = 0, end; enough && i < count; i = end) {
        for (end = i; end < count && by_routes(&crossings[i], &crossings[end]) == 0;) end++;
        enough = report_overlap(all, &crossings[i], end - i);
    }
    for (size_t r = 0; enough && r < all->routes; r++) enough = report_unreached(all, (uint32_t)r);
    sri_free(crossings);
    return enough;
}

/* ---- Order ------------------------------------------------------------------------------------- */

static double gravity(const sri_lint_finding *finding) {
    switch (finding->kind) {
    case SRI_LINT_NEAR:
    case SRI_LINT_OOS: return finding->cosine;
    case SRI_LINT_LOST: return finding->cosine - finding->own_cosine;
    case SRI_LINT_OVERLAP:
    case SRI_LINT_THRESHOLD: return finding->share;
    case SRI_LINT_FEW: return -(double)finding->count;
    case SRI_LINT_UNREACHED: return (double)finding->count;
    default: return 0;
    }
}

static int compare_strings(sr_str a, sr_str b) {
    size_t len = SRI_MIN(a.len, b.len);
    int order = len == 0 ? 0 : memcmp(a.data, b.data, len);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int gravest_first(const void *left, const void *right) {
    const sri_lint_finding *a = left, *b = right;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    double x = gravity(a), y = gravity(b);
    if (x != y) return x > y ? -1 : 1;
    int order = compare_strings(a->route, b->route);
    if (order == 0) order = compare_strings(a->other, b->other);
    if (order == 0) order = compare_strings(a->utterance, b->utterance);
    return order != 0 ? order : compare_strings(a->other_utterance, b->other_utterance);
}

/* ---- All --------------------------------------------------------------------------------------- */

static bool make_rows(rows *all, size_t dimension) {
    sr_table *table = all->lint->table;
    const sr_str *oos = sr_table_oos(table, &all->lint->oos);
    size_t n = all->lint->oos, floats;
    all->routes = sr_table_count(table);
    for (size_t r = 0; r < all->routes; r++) n += sr_table_route(table, r)->utterance_count;
    if (n >= SRI_NEIGHBOUR_NONE || !sri_size_mul(n, dimension, &floats)) return false;
    all->texts = sri_alloc_array(n, sizeof *all->texts);
    all->groups = sri_alloc_array(n, sizeof *all->groups);
    all->same = sri_alloc_array(n, sizeof *all->same);
    all->winners = sri_alloc_array(n, sizeof *all->winners);
    all->near = sri_alloc_array(n, sizeof *all->near);
    all->starts = sri_alloc_array(all->routes + 2, sizeof *all->starts);
    all->vectors = sri_alloc_array(floats, sizeof *all->vectors);
    if (all->texts == NULL || all->groups == NULL || all->same == NULL || all->winners == NULL ||
        all->near == NULL || all->starts == NULL || all->vectors == NULL)
        return false;
    for (size_t r = 0; r <= all->routes; r++) {
        const sr_route_view *route = sr_table_route(table, r); /* NULL: the examples */
        size_t count = route == NULL ? all->lint->oos : route->utterance_count;
        all->starts[r] = all->count;
        for (size_t i = 0; i < count; i++) {
            all->groups[all->count] = (uint32_t)r;
            all->texts[all->count++] = route == NULL ? oos[i] : route->utterances[i];
        }
    }
    all->starts[all->routes + 1] = all->count;
    all->lint->routes = all->routes;
    all->lint->utterances = all->starts[all->routes];
    return true;
}

static void free_rows(rows *all) {
    sri_free(all->texts);
    sri_free(all->groups);
    sri_free(all->same);
    sri_free(all->winners);
    sri_free(all->near);
    sri_free(all->starts);
    sri_free(all->vectors);
}

static sr_status compare_rows(rows *all, size_t dimension, bool fitted, sr_error *error) {
    const sri_lint_options *options = all->options;
    const sri_neighbour_job job = {.vectors = all->vectors,
                                   .groups = all->groups,
                                   .count = all->count,
                                   .dimension = dimension,
                                   .near = (float)options->near,
                                   .max_pairs = SRI_LINT_MAX,
                                   .threads = options->threads,
                                   .progress = options->progress,
                                   .progress_user = options->progress_user};
    sri_near_pair *pairs;
    size_t pair_count, seen;
    sr_status code = sri_neighbours_find(&job, all->near, &pairs, &pair_count, &seen, error);
    if (code != SR_OK) return code;
    find_winners(all);
    bool enough = find_same(all) && report_sizes(all) && report_duplicates(all) &&
                  report_near(all, pairs, pair_count, seen) && report_thresholds(all, fitted) &&
                  report_pairs(all) && report_oos(all) && report_lost(all);
    sri_free(pairs);
    return enough ? SR_OK : sri_fail_memory(error);
}

static sr_status lint_table(sr_router *router, rows *all, sr_error *error) {
    sr_info info = {.size = sizeof info};
    sr_status code = sr_table_vectors(router, all->lint->table, NULL, 0, error);
    if (code == SR_OK) code = sr_router_info(router, &info, error);
    if (code != SR_OK) return code;
    size_t dimension = (size_t)info.dimension;
    if (!make_rows(all, dimension)) return sri_fail_memory(error);
    code = sr_table_vectors(router, all->lint->table, all->vectors, all->count * dimension, error);
    if (code == SR_OK) code = compare_rows(all, dimension, info.fit == SR_FIT_HEADS, error);
    if (code == SR_OK && all->lint->count > 1)
        qsort(all->lint->findings, all->lint->count, sizeof *all->lint->findings, gravest_first);
    return code;
}

static sr_status check_options(const sri_lint_options *given, sri_lint_options *options,
                               sr_error *error) {
    *options = *given;
    if (options->near == 0) options->near = 0.95;
    if (options->overlap == 0) options->overlap = 0.10;
    if (options->oos == 0) options->oos = 0.90;
    if (options->few == 0) options->few = 5;
    if (options->threads == 0) options->threads = sri_cpu_count();
    if (!(options->near > 0 && options->near <= 1) || !(options->oos > 0 && options->oos <= 1))
        return sri_fail(error, SR_ERR_INVALID, "near",
                        "a cosine for what is near is above 0, up to 1");
    if (!(options->overlap > 0 && options->overlap <= 1))
        return sri_fail(error, SR_ERR_INVALID, "overlap", "a share is above 0, up to 1");
    if (options->threads < 1 || options->threads > SR_MAX_THREADS)
        return sri_fail(error, SR_ERR_INVALID, "threads", "%d threads are not from 1 to %d",
                        options->threads, SR_MAX_THREADS);
    return SR_OK;
}

sr_status sri_lint_run(sr_router *router, const sri_lint_options *given, sri_lint *lint,
                       sr_error *error) {
    *lint = (sri_lint){0};
    sri_lint_options options;
    sr_status code = check_options(given, &options, error);
    if (code == SR_OK) code = sr_table_read(router, NULL, 1, &lint->table, error);
    if (code != SR_OK) return code;
    lint->revision = sr_table_revision(lint->table);
    rows all = {.lint = lint, .options = &options};
    code = lint_table(router, &all, error);
    free_rows(&all);
    if (code != SR_OK) sri_lint_free(lint);
    return code;
}

void sri_lint_free(sri_lint *lint) {
    sr_table_free(&lint->table);
    sri_free(lint->findings);
    *lint = (sri_lint){0};
}
