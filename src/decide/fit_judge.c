/*
 * fit_judge.c - asks a fit about new texts.
 *
 * Nothing here looks at utterances: the fast path is one pass over a text's tokens and n-grams and a sum of rows
 * for each, and the slow path adds two products of the vector with a matrix of routes. Working memory
 * is the caller's scratch, which stops growing after the first block of texts.
 */
#include <string.h>

#include "decide/fit_int.h"

/* What a scratch holds. */
typedef struct room {
    sri_ngrams_scratch ngrams;
    float *floats;
    size_t float_capacity;
} room;

void sri_fit_scratch_free(sri_fit_scratch *scratch) {
    room *r = scratch->memory;
    if (r != NULL) {
        sri_ngrams_scratch_free(&r->ngrams);
        sri_free(r->floats);
        sri_free(r);
    }
    *scratch = (sri_fit_scratch){0};
}

/* Where in the scratch each part of the work is, for `n` texts. */
typedef struct desk {
    room *room;
    float *fixed;     /* [n, fast_dimension] static vectors */
    float *logits;    /* [n, classes] of the fast head */
    float *lexical;   /* [stride] a text's lexical part */
    float *vector;    /* [classes] of the vector's head */
    float *centres;   /* [routes] cosines */
    float *posterior; /* [routes] */
} desk;

static bool lay_out(const sri_fit *fit, size_t n, sri_fit_scratch *scratch, desk *d) {
    if (scratch->memory == NULL) scratch->memory = sri_alloc_zero(1, sizeof(room));
    d->room = scratch->memory;
    if (d->room == NULL) return false;
    size_t fixed = n * fit->fixed.width, logits = n * fit->classes;
    size_t stride = fit->lexical.stride;
    void *floats = d->room->floats;
    bool enough =
        sri_grow(&floats, &d->room->float_capacity,
                 fixed + logits + stride + fit->classes + 2 * fit->route_count, sizeof(float));
    d->room->floats = floats;
    if (!enough) return false;
    d->fixed = d->room->floats;
    d->logits = d->fixed + fixed;
    d->lexical = d->logits + logits;
    d->vector = d->lexical + stride;
    d->centres = d->vector + fit->classes;
    d->posterior = d->centres + fit->route_count;
    return true;
}

/* ---- Spelling ----------------------------------------------------------------------------------------------- */

/* A word that is one token of the static model's vocabulary is a word, not a slip. */
static bool in_vocabulary(void *user, sr_str word) {
    sr_encoder *fast = user;
    int32_t ids[SRI_SPELLER_MAX + 2];
    size_t count;
    return sr_encoder_tokenize(fast, word, ids, SRI_COUNT(ids), &count, NULL, NULL) == SR_OK &&
           count == 1;
}

bool sri_fit_mend(const sri_fit *fit, sr_str text, sri_buffer *out, bool *mended) {
    return sri_speller_mend(&fit->speller, text, in_vocabulary, fit->fast, out, mended);
}

/* ---- Evidence ----------------------------------------------------------------------------------------------- */

/* Fills the fast head's logits of `n` texts but for their lexical part. */
static bool fixed_logits(const sri_fit *fit, const sr_str *texts, size_t n, desk *d) {
    if (fit->fast == NULL) {
        memset(d->logits, 0, n * fit->classes * sizeof *d->logits);
        return true;
    }
    if (sr_encoder_encode(fit->fast, texts, n, d->fixed, NULL, NULL) != SR_OK) return false;
    sri_dense_head_logits(&fit->fixed, d->fixed, n, d->logits);
    return true;
}

static uint32_t best_usable(const float *logits, size_t routes, const uint8_t *usable) {
    uint32_t best = SRI_FIT_OUT_OF_SCOPE;
    for (size_t r = 0; r < routes; r++)
        if ((usable == NULL || usable[r] != 0) &&
            (best == SRI_FIT_OUT_OF_SCOPE || logits[r] > logits[best]))
            best = (uint32_t)r;
    return best;
}

/* Adds the lexical part of text `i` and fills what the fast path knows of it. */
static bool fast_evidence(const sri_fit *fit, sr_str text, size_t i, const uint8_t *usable, desk *d,
                          sri_evidence *evidence) {
    sri_features features;
    if (!sri_ngrams_features(&fit->ngrams, text, &d->room->ngrams, &features)) return false;
    float *logits = d->logits + i * fit->classes;
    sri_sparse_head_logits(&fit->lexical, d->room->ngrams.list, features.count, d->lexical);
    for (size_t c = 0; c < fit->classes; c++) logits[c] += d->lexical[c];
    *evidence = (sri_evidence){
        .logits = {[SRI_HEAD_FAST] = logits}, .oos_cosine = -1, .coverage = features.coverage};
    uint32_t best = best_usable(logits, fit->route_count, usable);
    if (fit->fast != NULL && best != SRI_FIT_OUT_OF_SCOPE)
        evidence->fast_centre =
            sri_centres_fast(&fit->centres, d->fixed + i * fit->fixed.width, best);
    return true;
}

/* Fills what the slow path knows besides; `room` takes the hits of routes. */
static void slow_evidence(const sri_fit *fit, const float *vector, const sri_fit_hit *hits,
                          size_t hit_count, const uint8_t *usable, desk *d, sri_fit_hit *room_for,
                          sri_evidence *evidence) {
    sri_dense_head_logits(&fit->vector, vector, 1, d->vector);
    evidence->logits[SRI_HEAD_VECTOR] = d->vector;
    evidence->hits = room_for;
    if (hit_count >= SRI_FIT_HITS) evidence->oos_cosine = hits[hit_count - 1].cosine;
    for (size_t i = 0; i < hit_count && evidence->hit_count < SRI_FIT_HITS; i++) {
        if (hits[i].route == SRI_FIT_OUT_OF_SCOPE)
            evidence->oos_cosine = SRI_MAX(evidence->oos_cosine, hits[i].cosine);
        else
            room_for[evidence->hit_count++] = hits[i];
    }
    sri_kernels_get()->dots(vector, 1, fit->centres.slow, fit->route_count, fit->dimension,
                            d->centres);
    evidence->centre = sri_centres_slow(&fit->centres, d->centres, 0, fit->route_count, usable);
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

/* The best `k` by insertion; equal probabilities: the route that comes earlier. */
static size_t select_best(const sri_fit *fit, const float *posterior, double in_scope,
                          const uint8_t *usable, size_t k, sri_fit_candidate *candidates) {
    size_t count = 0;
    for (size_t r = 0; r < fit->route_count && k > 0; r++) {
        float confidence = (float)(in_scope * posterior[r]);
        if (usable != NULL && usable[r] == 0) continue;
        if (count == k && !(confidence > candidates[k - 1].confidence)) continue;
        size_t place = count < k ? count++ : k - 1;
        for (; place > 0 && confidence > candidates[place - 1].confidence; place--)
            candidates[place] = candidates[place - 1];
        candidates[place] = (sri_fit_candidate){(uint32_t)r, confidence};
    }
    return count;
}

static void answer(const sri_fit *fit, const sri_reading *reading, const float *posterior,
                   const uint8_t *usable, size_t k, sri_fit_candidate *candidates,
                   sri_judgement *judgement) {
    /* A fit from hostile bytes may overflow into NaN, which is no probability. */
    double in_scope = reading->in_scope >= 0 ? reading->in_scope : 0;
    *judgement = (sri_judgement){.in_scope = in_scope};
    if (reading->best == SRI_FIT_OUT_OF_SCOPE) return;
    judgement->count = select_best(fit, posterior, in_scope, usable, k, candidates);
    judgement->accepted =
        in_scope * posterior[reading->best] >= sri_auto_threshold(&fit->knobs, in_scope);
}

bool sri_fit_judge_fast(const sri_fit *fit, const sr_str *texts, size_t n, const uint8_t *usable,
                        size_t k, sri_fit_scratch *scratch, sri_fit_candidate *candidates,
                        sri_judgement *judgements) {
    desk d;
    if (!lay_out(fit, n, scratch, &d) || !fixed_logits(fit, texts, n, &d)) return false;
    for (size_t i = 0; i < n; i++) {
        sri_evidence evidence;
        sri_reading reading;
        if (!fast_evidence(fit, texts[i], i, usable, &d, &evidence)) return false;
        sri_weigh_fast(&fit->knobs, &evidence, fit->route_count, usable, d.posterior, &reading);
        bool settled = reading.best != SRI_FIT_OUT_OF_SCOPE &&
                       sri_settles(&fit->knobs, &reading, d.posterior[reading.best]);
        if (settled) sri_settle(&fit->knobs, d.posterior[reading.best], &reading);
        answer(fit, &reading, d.posterior, usable, k, candidates + i * k, &judgements[i]);
        judgements[i].settled = settled;
    }
    return true;
}

bool sri_fit_judge_slow(const sri_fit *fit, sr_str text, const float *vector,
                        const sri_fit_hit *hits, size_t hit_count, const uint8_t *usable, size_t k,
                        sri_fit_scratch *scratch, sri_fit_candidate *candidates,
                        sri_judgement *judgement) {
    desk d;
    sri_evidence evidence;
    sri_reading reading;
    sri_fit_hit kept[SRI_FIT_HITS];
    if (!lay_out(fit, 1, scratch, &d) || !fixed_logits(fit, &text, 1, &d) ||
        !fast_evidence(fit, text, 0, usable, &d, &evidence))
        return false;
    slow_evidence(fit, vector, hits, hit_count, usable, &d, kept, &evidence);
    sri_weigh_slow(&fit->knobs, &evidence, fit->route_count, usable, d.posterior, &reading);
    answer(fit, &reading, d.posterior, usable, k, candidates, judgement);
    return true;
}
