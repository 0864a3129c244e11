/*
 * refit_report.c - what a fit says about thresholds, from the decisions on the texts that it had held out.
 *
 * A trial is the decision of one text by heads that had not seen it. Those that name a route rightly and that its
 * threshold would turn down are what the threshold costs; and a target for one route is met by the lowest confidence from
 * which on it holds for all trials that name the route.
 */
#include <math.h>
#include <stdlib.h>

#include "decide/decide.h"
#include "router/refit_int.h"

#define FEW 4 /* trials that say nothing about a route */

struct owned_report {
    sr_fit_report report; /* the first, so that its pointer is this one's */
    sri_arena arena;
};

void sr_fit_report_free(sr_fit_report **handle) {
    if (handle == NULL || *handle == NULL) return;
    struct owned_report *owner = (struct owned_report *)*handle;
    sri_arena_free(&owner->arena);
    sri_free(owner);
    *handle = NULL;
}

/* ---- Warnings ----------------------------------------------------------------------------------------------------- */

static bool accepts(const sr_threshold *threshold, const sri_fit_trial *trial) {
    sri_rule rule = {*threshold, 0, false};
    sri_fitted_scores evidence = {trial->confidence, trial->accepted, trial->cosine, NAN};
    return sri_decide_fitted(&evidence, &rule).status == SR_MATCHED;
}

/* More than a tenth for a threshold that somebody has set, a quarter for one that was fitted. */
static bool hurts(const sr_fit_warning *found) {
    uint64_t parts = found->threshold.kind == SR_THRESHOLD_AUTO ? 4 : 10;
    return found->texts >= FEW && found->turned_down * parts > found->texts;
}

static bool add_warnings(const snapshot *taken, const sri_fit *fit, struct owned_report *owner) {
    size_t count = 0, kept = 0;
    const sri_fit_trial *trials = sri_fit_trials(fit, &count);
    sr_fit_warning *found = sri_arena_alloc(&owner->arena, taken->route_count * sizeof *found);
    if (found == NULL) return false;
    for (size_t i = 0; i < taken->route_count; i++)
        found[i] =
            (sr_fit_warning){.route = taken->routes[i].name, .threshold = taken->thresholds[i]};
    for (size_t i = 0; i < count; i++) {
        if (trials[i].route != trials[i].best || trials[i].best >= taken->route_count) continue;
        sr_fit_warning *of = &found[trials[i].best];
        of->texts++;
        of->turned_down += !accepts(&of->threshold, &trials[i]);
    }
    for (size_t i = 0; i < taken->route_count; i++) {
        if (!hurts(&found[i])) continue;
        found[kept] = found[i];
        found[kept].route = sri_arena_copy(&owner->arena, found[i].route);
        if (found[kept++].route.data == NULL) return false;
    }
    owner->report.warnings = found;
    owner->report.warning_count = kept;
    return true;
}

sr_status sri_report_make(const snapshot *taken, const sri_fit *fit,
                          const sri_fit_findings *findings, sr_fit_report **report,
                          sr_error *error) {
    *report = NULL;
    struct owned_report *owner = sri_alloc_zero(1, sizeof *owner);
    if (owner == NULL) return sri_fail_memory(error);
    owner->report = (sr_fit_report){.kind = fit == NULL ? SR_FIT_NEIGHBOURS : SR_FIT_HEADS,
                                    .revision = taken->revision,
                                    .routes = taken->route_count,
                                    .utterances = taken->count - taken->oos_count,
                                    .oos_examples = taken->oos_count,
                                    .labelled = taken->labelled_count,
                                    .neighbours_accuracy = findings->neighbours,
                                    .slow_accuracy = findings->slow,
                                    .fast_accuracy = findings->fast,
                                    .auto_accuracy = findings->automatic,
                                    .fast_share = findings->fast_share,
                                    .oos_auroc = findings->oos_auroc,
                                    .ece = findings->ece,
                                    .auto_threshold = findings->auto_threshold,
                                    .oos_accepted = findings->oos_accepted,
                                    .precision = findings->precision,
                                    .seconds = findings->seconds,
                                    .route_threshold = NAN};
    if (fit == NULL) owner->report.no_heads = sri_fit_reach_text(snapshot_reach(taken));
    *report = &owner->report;
    if (fit == NULL || add_warnings(taken, fit, owner)) return SR_OK;
    sr_fit_report_free(report);
    return sri_fail_memory(error);
}

/* ---- One route's threshold ------------------------------------------------------------------------------------------ */

typedef struct vote {
    double confidence;
    bool right, oos;
} vote;

static int by_confidence(const void *a, const void *b) {
    double first = ((const vote *)a)->confidence, second = ((const vote *)b)->confidence;
    return (first < second) - (first > second);
}

/* The trials that name the route, the surest first; `oos` takes the number of all out-of-scope ones. */
static vote *collect_votes(const sri_fit_trial *trials, size_t trial_count, uint32_t place,
                           size_t *count, size_t *oos) {
    vote *votes = sri_alloc_array(trial_count, sizeof *votes);
    *count = *oos = 0;
    for (size_t i = 0; votes != NULL && i < trial_count; i++) {
        bool outside = trials[i].route == SRI_FIT_OUT_OF_SCOPE;
        *oos += outside;
        if (trials[i].best != place) continue;
        votes[(*count)++] =
            (vote){trials[i].confidence, !outside && trials[i].route == place, outside};
    }
    if (votes != NULL) qsort(votes, *count, sizeof *votes, by_confidence);
    return votes;
}

/* Where the lowest threshold lies that meets the targets; NaN: nowhere. `best` takes the highest precision, and
 * `least` the smallest share of out-of-scope texts, that a threshold accepting at least FEW texts reaches. */
static double lowest(const vote *votes, size_t count, size_t oos, double max_oos_accepted,
                     double min_precision, double *best, double *least) {
    double found = NAN;
    size_t right = 0, accepted_oos = 0;
    *best = 0;
    *least = 1;
    for (size_t i = 0; i < count; i++) {
        right += votes[i].right;
        accepted_oos += votes[i].oos;
        if (i + 1 < count && votes[i + 1].confidence == votes[i].confidence) continue;
        double precision = (double)right / (double)(i + 1);
        double share = oos == 0 ? 0 : (double)accepted_oos / (double)oos;
        if (i + 1 >= FEW) *best = fmax(*best, precision);
        if (i + 1 >= FEW) *least = fmin(*least, share);
        bool met =
            precision >= min_precision && (max_oos_accepted <= 0 || share <= max_oos_accepted);
        if (!met || i + 1 < SRI_MIN((size_t)FEW, count)) continue;
        found = i + 1 < count ? (votes[i].confidence + votes[i + 1].confidence) / 2
                              : votes[i].confidence;
    }
    return found;
}

sr_status sri_report_threshold(const snapshot *taken, const sri_fit *fit, uint32_t place,
                               double max_oos_accepted, double min_precision, double *threshold,
                               sr_error *error) {
    size_t trial_count = 0, count, oos;
    sr_str name = taken->routes[place].name;
    int shown = (int)SRI_MIN(name.len, (size_t)120);
    const sri_fit_trial *trials = fit == NULL ? NULL : sri_fit_trials(fit, &trial_count);
    vote *votes = collect_votes(trials, trial_count, place, &count, &oos);
    if (votes == NULL) return sri_fail_memory(error);
    double best, least;
    *threshold = lowest(votes, count, oos, max_oos_accepted, min_precision, &best, &least);
    sri_free(votes);
    if (count < FEW || (max_oos_accepted > 0 && oos == 0))
        return sri_fail(
            error, SR_ERR_UNSUPPORTED, "route",
            "there are too few texts held out to fit a threshold of route \"%.*s\" (%zu "
            "that name it, %zu out of scope); give more labelled texts",
            shown, name.data, count, oos);
    if (!isnan(*threshold)) return SR_OK;
    return sri_fail(
        error, SR_ERR_UNSUPPORTED, "route",
        "no threshold of route \"%.*s\" meets the target: at best %.3f of what it accepts "
        "is right and %.3f of out-of-scope texts are accepted",
        shown, name.data, best, least);
}
