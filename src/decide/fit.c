/*
 * fit.c - makes a fit: folds to tune on, heads of all texts, and the two put together.
 *
 * A fold's heads are trained on the other four; what they say of the fold is evidence about texts that they
 * have not seen. Some thousands of such texts are enough to tune on, so with a large table only as many folds
 * are trained as give them. Labelled texts are judged by the heads of all utterances.
 */
#include <math.h>
#include <string.h>

#include "decide/fit_int.h"

/* So many held-out texts are enough. */
#define ENOUGH_HELD ((size_t)5000)

/* A table with fewer utterances than this, or fewer than two a route, teaches nothing: what is held out would
 * leave its route empty. */
#define MIN_UTTERANCES ((size_t)6)

/* Beyond these, neighbours decide. A fit costs 3 to 6 us of one core for each route and utterance together, and
 * memory for both: 500 routes of 5 utterances took 11 s of one core and 0.7 GB, 1,000 routes 35 s and 0.9 GB, 2,000
 * routes 71 s and 1.2 GB, 150 routes of 100 and 300 utterances 12 and 40 s and 0.55 and 0.9 GB; a question to 2,000
 * routes costs some 0.1 ms on the slow path beside encoding and search. Heads do not gain less where there are more
 * routes (10 utterances of each, those of Banking77 and CLINC150 cut into 226, 444 and 826 kinds: 5.7, 6.3 and 8.2
 * points more than the nearest neighbour), so that cost alone sets the limit. */
#define MAX_ROUTES     ((size_t)2000)
#define MAX_UTTERANCES ((size_t)100000)
#define MAX_WORK       ((size_t)1 << 25) /* routes x utterances: two to three minutes of one core */

typedef struct making {
    const sri_fit_table *table;
    sri_samples samples;
    sri_trainer trainer;
    sri_held held;
    uint32_t *wanted; /* [n] scratch */
    unsigned folds;   /* to be trained */
    sri_heads last;   /* of the last fold: near to those of all texts */
    sri_progress progress;
} making;

sri_fit_reach sri_fit_reach_of(size_t routes, size_t utterances) {
    if (routes < 1 || utterances < MIN_UTTERANCES || utterances / routes < 2)
        return SRI_FIT_TOO_SMALL;
    if (routes > MAX_ROUTES || utterances > SRI_MIN(MAX_UTTERANCES, MAX_WORK / routes))
        return SRI_FIT_TOO_LARGE;
    return SRI_FIT_LEARNS;
}

const char *sri_fit_reach_text(sri_fit_reach reach) {
    switch (reach) {
    case SRI_FIT_TOO_SMALL: return "too few utterances to learn from";
    case SRI_FIT_TOO_LARGE: return "too many routes and utterances to learn from";
    case SRI_FIT_LEARNS: break;
    }
    return "enough to learn from";
}

static sr_status advance(sri_progress *progress, sr_error *error) {
    progress->done++;
    if (progress->function == NULL ||
        progress->function(progress->user, progress->done, progress->total) == 0)
        return SR_OK;
    return sri_fail(error, SR_ERR_CANCELLED, "fit", "the fit was cancelled; the one before stays");
}

/* ---- Evidence --------------------------------------------------------------------------------------------- */

static size_t list_fold(making *m, unsigned fold) {
    size_t count = 0;
    for (size_t i = 0; i < m->samples.table; i++)
        if (m->samples.folds[i] == fold) m->wanted[count++] = (uint32_t)i;
    return count;
}

/* Strangers and labelled texts: what the heads of all utterances have not seen. */
static size_t list_others(making *m) {
    size_t count = 0;
    for (size_t i = m->samples.named; i < m->samples.n; i++) m->wanted[count++] = (uint32_t)i;
    return count;
}

static sr_status open_held(making *m, sr_error *error) {
    m->wanted = sri_alloc_array(m->samples.n, sizeof *m->wanted);
    if (m->wanted == NULL) return sri_fail_memory(error);
    size_t held = 0;
    while (m->folds < SRI_FIT_FOLDS && held < ENOUGH_HELD) held += list_fold(m, m->folds++);
    m->progress.total = m->folds + 2;
    return sri_held_open(m->samples.classes, held + list_others(m), &m->held, error);
}

/* Trains without `fold` and keeps what is said of it. */
static sr_status hold_out(making *m, unsigned fold, sr_error *error) {
    sri_heads heads;
    sr_status code = sri_trainer_fit(&m->trainer, fold, NULL, &m->progress, &heads, error);
    if (code != SR_OK) return code;
    size_t count = list_fold(m, fold);
    code = sri_held_add(&m->held, &m->trainer, &heads, fold, m->wanted, count, error);
    sri_heads_free(&m->last);
    m->last = heads;
    return code == SR_OK ? advance(&m->progress, error) : code;
}

/* ---- The fit ---------------------------------------------------------------------------------------------- */

static bool copy_routes(const sri_fit_table *table, sri_fit *fit) {
    fit->routes = sri_alloc_zero(table->route_count, sizeof *fit->routes);
    if (fit->routes == NULL) return false;
    fit->route_count = table->route_count;
    for (size_t r = 0; r < table->route_count; r++) {
        fit->routes[r].id = table->routes[r].id;
        fit->routes[r].digest = table->routes[r].digest;
        fit->routes[r].count = table->routes[r].count;
    }
    return true;
}

/* Takes over what queries need of the heads and the samples. */
static sr_status keep(making *m, const sri_heads *heads, sri_fit *fit, sr_error *error) {
    bool has_fast = m->table->fast != NULL;
    fit->dimension = m->samples.dimension;
    fit->classes = m->samples.classes;
    fit->fast = m->table->fast;
    if (has_fast)
        memcpy(fit->fast_fingerprint, sr_encoder_fingerprint(fit->fast),
               sizeof fit->fast_fingerprint);
    bool enough =
        copy_routes(m->table, fit) &&
        sri_dense_head_make(&heads->of[SRI_HEAD_VECTOR], &fit->vector) &&
        (!has_fast || sri_dense_head_make(&heads->of[SRI_HEAD_FAST], &fit->fixed)) &&
        sri_sparse_head_make(&heads->of[SRI_HEAD_FAST], m->samples.ngrams.buckets, !has_fast,
                             &fit->lexical) &&
        sri_centres_make(&m->samples, SRI_FIT_NO_FOLD, &fit->centres) &&
        (!has_fast || sri_speller_learn(m->samples.texts, m->samples.named, &fit->speller));
    if (!enough) return sri_fail_memory(error);
    fit->ngrams = m->samples.ngrams;
    m->samples.ngrams = (sri_ngrams){0};
    return SR_OK;
}

static sr_status finish(making *m, sri_fit *fit, sri_fit_findings *findings, sr_error *error) {
    sri_heads heads;
    sr_status code =
        sri_trainer_fit(&m->trainer, SRI_FIT_NO_FOLD, &m->last, &m->progress, &heads, error);
    if (code != SR_OK) return code;
    size_t count = list_others(m);
    code = sri_held_add(&m->held, &m->trainer, &heads, SRI_FIT_NO_FOLD, m->wanted, count, error);
    if (code == SR_OK) code = advance(&m->progress, error);
    if (code == SR_OK)
        code =
            sri_tune(m->table, &m->samples, &m->held, &fit->knobs, findings, &fit->trials, error);
    if (code == SR_OK) {
        fit->trial_count = m->held.n - sri_fit_strangers();
        code = keep(m, &heads, fit, error);
    }
    sri_heads_free(&heads);
    return code == SR_OK ? advance(&m->progress, error) : code;
}

static sr_status make(making *m, sri_fit *fit, sri_fit_findings *findings, sr_error *error) {
    sr_status code = sri_samples_open(m->table, &m->samples, error);
    if (code == SR_OK) code = sri_trainer_open(&m->samples, m->table->pool, &m->trainer, error);
    if (code == SR_OK) code = open_held(m, error);
    for (unsigned fold = 0; fold < m->folds && code == SR_OK; fold++)
        code = hold_out(m, fold, error);
    if (code == SR_OK) code = finish(m, fit, findings, error);
    return code;
}

const sri_fit_findings sri_fit_nothing = {.neighbours = NAN,
                                          .slow = NAN,
                                          .fast = NAN,
                                          .automatic = NAN,
                                          .fast_share = NAN,
                                          .oos_auroc = NAN,
                                          .ece = NAN,
                                          .auto_threshold = NAN,
                                          .oos_accepted = NAN,
                                          .precision = NAN};

static void nothing_found(const sri_fit_table *table, sri_fit_findings *findings) {
    *findings = sri_fit_nothing;
    findings->labelled = table->labelled.count;
    for (size_t i = 0; i < table->utterances.count; i++) {
        if (table->utterances.routes[i] == SRI_FIT_OUT_OF_SCOPE)
            findings->oos++;
        else
            findings->utterances++;
    }
}

sr_status sri_fit_make(const sri_fit_table *table, sri_fit **handle, sri_fit_findings *findings,
                       sr_error *error) {
    *handle = NULL;
    double begin = sri_seconds();
    nothing_found(table, findings);
    findings->reach = sri_fit_reach_of(table->route_count, findings->utterances);
    if (findings->reach != SRI_FIT_LEARNS) return SR_OK;
    making m = {.table = table,
                .progress = {.function = table->progress, .user = table->progress_user}};
    sri_fit *fit = sri_alloc_zero(1, sizeof *fit);
    sr_status code = fit == NULL ? sri_fail_memory(error) : make(&m, fit, findings, error);
    sri_heads_free(&m.last);
    sri_held_close(&m.held);
    sri_trainer_close(&m.trainer);
    sri_samples_close(&m.samples);
    sri_free(m.wanted);
    findings->seconds = sri_seconds() - begin;
    if (code == SR_OK) {
        fit->findings = *findings;
        *handle = fit;
    } else {
        sri_fit_free(&fit);
    }
    return code;
}

void sri_fit_free(sri_fit **handle) {
    sri_fit *fit = *handle;
    if (fit == NULL) return;
    sri_free(fit->routes);
    sri_dense_head_free(&fit->vector);
    sri_dense_head_free(&fit->fixed);
    sri_sparse_head_free(&fit->lexical);
    sri_ngrams_free(&fit->ngrams);
    sri_centres_free(&fit->centres);
    sri_speller_free(&fit->speller);
    sri_free(fit->trials);
    sri_free(fit);
    *handle = NULL;
}

size_t sri_fit_routes(const sri_fit *fit) { return fit->route_count; }

const sri_fit_route *sri_fit_route_at(const sri_fit *fit, size_t place) {
    return &fit->routes[place];
}

const sri_fit_findings *sri_fit_found(const sri_fit *fit) { return &fit->findings; }

bool sri_fit_has_fast(const sri_fit *fit) { return fit->fast != NULL; }

bool sri_fit_knows_oos(const sri_fit *fit) { return fit->classes > fit->route_count; }

const sri_fit_trial *sri_fit_trials(const sri_fit *fit, size_t *count) {
    *count = fit->trial_count;
    return fit->trials;
}
