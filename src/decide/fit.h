/*
 * fit.h - what is learned from a route table: heads, blend, out-of-scope score, calibration, gate.
 *
 * An sri_fit is made from a copy of the table, never changes afterwards, and any number of threads may ask it
 * at once. It numbers routes by their place in the table that it was made from; which of them are still
 * as they were then is the router's to know, and it says so by a mask.
 */
#ifndef SRI_FIT_H
#define SRI_FIT_H

#include "base/base.h"

typedef struct sri_fit sri_fit;

/* ---- Making one --------------------------------------------------------------------------------- */

typedef struct sri_fit_route {
    uint64_t id;     /* as stored */
    uint64_t digest; /* of the ids of its utterances: tells whether the route is still the same */
    sr_str name, description;
    size_t count; /* of its utterances */
} sri_fit_route;

#define SRI_FIT_OUT_OF_SCOPE UINT32_MAX

/* Texts with the route (a place in `routes`) that each belongs to, or SRI_FIT_OUT_OF_SCOPE. */
typedef struct sri_fit_texts {
    size_t count;
    const sr_str *texts;
    const uint32_t *routes;
    const float *vectors; /* count x dimension, Euclidean length 1 */
} sri_fit_texts;

/* The table to learn from, and with what; all is lent for the call. */
typedef struct sri_fit_table {
    size_t dimension;
    size_t route_count;
    const sri_fit_route *routes;
    const float *name_vectors; /* route_count x dimension: names as texts (sri_fit_name_text) */
    const float
        *description_vectors; /* likewise; rows of routes without one are not read; NULL: none */
    const float *stranger_vectors; /* sri_fit_strangers() x dimension */
    sri_fit_texts
        utterances; /* in ascending order of their adding; of no route: out-of-scope examples */
    sri_fit_texts labelled; /* more texts, for calibration and thresholds only; may be empty */
    sr_encoder *fast; /* static encoder of the fast path, borrowed for good; NULL: no fast path */
    sri_pool *pool;
    double max_oos_accepted; /* target for AUTO thresholds; 0: the best accuracy */
    double min_precision;    /* the same; 0: none */
    sr_progress_fn *progress;
    void *progress_user;
} sri_fit_table;

/* Texts that belong to hardly any table: they show how far off such texts are from this one. */
size_t sri_fit_strangers(void);
sr_str sri_fit_stranger(size_t i);

/* Whether heads can be learned from a table of so many routes and utterances (without out-of-scope examples). Where
 * they cannot, neighbours decide. */
typedef enum sri_fit_reach {
    SRI_FIT_LEARNS = 0,
    SRI_FIT_TOO_SMALL = 1, /* what is held out would leave its route empty */
    SRI_FIT_TOO_LARGE = 2  /* the fit would take minutes and gigabytes */
} sri_fit_reach;

sri_fit_reach sri_fit_reach_of(size_t routes, size_t utterances);
const char *sri_fit_reach_text(sri_fit_reach reach); /* a phrase that says why, for people */

/* What the fit found out about itself on held-out folds; shares from 0 to 1, NaN where there is nothing to
 * measure. */
typedef struct sri_fit_findings {
    double neighbours, slow, fast, automatic; /* in-scope accuracy without rejection */
    double fast_share;                        /* of in-scope texts */
    double oos_auroc, ece;
    double auto_threshold; /* on confidence */
    double oos_accepted;   /* at that threshold */
    double precision;      /* at that threshold */
    size_t utterances, oos, labelled;
    double seconds;
    sri_fit_reach reach;
} sri_fit_findings;

/* Of a fit that measured nothing: no counts, no shares. */
extern const sri_fit_findings sri_fit_nothing;

/* A route's name as a text: "card_arrival" and "cardArrival" become "card arrival". Appends to `out`. */
SR_MUST_CHECK bool sri_fit_name_text(sr_str name, sri_buffer *out);

/* Fits. `*fit` stays NULL, with SR_OK, when findings->reach is not SRI_FIT_LEARNS: neighbours decide then, and nothing
 * but the counts of `table` has been read. The same table gives the same bits at any number of threads. SR_ERR_CANCELLED when `progress` says
 * so. */
SR_MUST_CHECK sr_status sri_fit_make(const sri_fit_table *table, sri_fit **fit,
                                     sri_fit_findings *findings, sr_error *error);
void sri_fit_free(sri_fit **fit);

/* A fit as bytes (little-endian, versioned, with a checksum), for the store. */
SR_MUST_CHECK sr_status sri_fit_write(const sri_fit *fit, sri_buffer *out, sr_error *error);
/* `fast` as in sri_fit_table. SR_ERR_FORMAT when the bytes are damaged, SR_ERR_MODEL when they were
 * made with other models; the caller then does without, and fits anew. */
SR_MUST_CHECK sr_status sri_fit_read(const void *bytes, size_t size, size_t dimension,
                                     sr_encoder *fast, sri_fit **fit, sr_error *error);

/* What the slow path said of a text that it had not seen, without thresholds. */
typedef struct sri_fit_trial {
    uint32_t route; /* that the text belongs to, or SRI_FIT_OUT_OF_SCOPE */
    uint32_t best;  /* of the best candidate */
    float confidence;
    float cosine;  /* of the best candidate's best utterance */
    bool accepted; /* the best one passes an AUTO threshold */
} sri_fit_trial;

/* Of a fit that was just made; none after sri_fit_read(). They live with the fit. */
const sri_fit_trial *sri_fit_trials(const sri_fit *fit, size_t *count);

/* ---- Asking it ---------------------------------------------------------------------------------- */

size_t sri_fit_routes(const sri_fit *fit);
const sri_fit_route *sri_fit_route_at(const sri_fit *fit,
                                      size_t place); /* name and description empty */
const sri_fit_findings *sri_fit_found(const sri_fit *fit);
bool sri_fit_has_fast(const sri_fit *fit);
/* Whether it has learned from out-of-scope examples; it takes ten. */
bool sri_fit_knows_oos(const sri_fit *fit);

/* Working memory of one thread: zero it before the first use, it grows as needed. */
typedef struct sri_fit_scratch {
    void *memory;
    size_t capacity;
} sri_fit_scratch;

void sri_fit_scratch_free(sri_fit_scratch *scratch);

/* Appends to `out` what the fit would rather read: `text` with words mended that are misspelt beside the
 * table's (speller.h). `*mended` is false, and `out` left as it was, when that is `text` itself. False when memory
 * is short. */
SR_MUST_CHECK bool sri_fit_mend(const sri_fit *fit, sr_str text, sri_buffer *out, bool *mended);

typedef struct sri_fit_candidate {
    uint32_t route; /* place */
    float confidence;
} sri_fit_candidate;

typedef struct sri_judgement {
    size_t count;    /* of candidates filled in */
    double in_scope; /* probability that the text belongs to any route */
    bool accepted;   /* the best one passes an AUTO threshold */
    bool settled;    /* of the fast path: its answer may stand */
} sri_judgement;

/* How many of a text's best routes the slow path looks at. */
#define SRI_FIT_HITS 64

/* A route's best utterance by cosine; `route` is a place, or SRI_FIT_OUT_OF_SCOPE for an example of that. */
typedef struct sri_fit_hit {
    uint32_t route;
    float cosine;
} sri_fit_hit;

/* Judges `n` texts by the fast path. candidates[i * k ..] takes the best `k` routes of text i, best first;
 * confidences are probabilities that the route is right. `usable` (one flag a route, NULL: all) leaves routes
 * out. False when memory is short, or the fast encoder failed. */
SR_MUST_CHECK bool sri_fit_judge_fast(const sri_fit *fit, const sr_str *texts, size_t n,
                                      const uint8_t *usable, size_t k, sri_fit_scratch *scratch,
                                      sri_fit_candidate *candidates, sri_judgement *judgements);

/* The same by the slow path for one text with its vector and the best SRI_FIT_HITS routes by cosine (fewer
 * when there are fewer), best first. */
SR_MUST_CHECK bool sri_fit_judge_slow(const sri_fit *fit, sr_str text, const float *vector,
                                      const sri_fit_hit *hits, size_t hit_count,
                                      const uint8_t *usable, size_t k, sri_fit_scratch *scratch,
                                      sri_fit_candidate *candidates, sri_judgement *judgement);

#endif
