/*
 * lint.h - what is wrong with a route table, found by comparing its utterances with one another.
 */
#ifndef SRI_LINT_H
#define SRI_LINT_H

#include "base/base.h"

/* Kinds of findings, in the order in which they are reported. "Left out": the utterance is taken out of the
 * table and decided by its nearest neighbour among all others. */
typedef enum sri_lint_kind {
    SRI_LINT_EMPTY, /* `route` has no utterances: it is never decided for */
    SRI_LINT_FEW,   /* `route` has `count` utterances, fewer than wanted */
    SRI_LINT_DUPLICATE, /* `utterance` is in `other` too, as `other_utterance`: case, accents, white space
                           and punctuation at the end aside, the same text */
    SRI_LINT_NEAR,      /* the two have nearly the same vector (`cosine`) */
    SRI_LINT_UNREACHED, /* none of the `count` utterances of `route` would be decided for it, left out;
                           most go to `other` */
    SRI_LINT_OVERLAP, /* of the utterances of the two routes, a `share` (`count`) goes to the other one */
    SRI_LINT_THRESHOLD, /* `route` turns down a `share` (`count`) of its own utterances, left out */
    SRI_LINT_OOS, /* `other_utterance`, an out-of-scope example, is near (`cosine`) to `utterance` */
    SRI_LINT_LOST, /* `utterance` goes to `other`, left out, whose `other_utterance` is at `cosine`; the
                      nearest of its own route is at `own_cosine`. `other` has length 0 where an
                      out-of-scope example is the nearest */
    SRI_LINT_KINDS
} sri_lint_kind;

/* The name of the kind in JSON ("empty_route"), and its heading for people. */
const char *sri_lint_name(sri_lint_kind kind);
const char *sri_lint_title(sri_lint_kind kind);

/* Fields that a kind does not speak of are empty, 0 or NaN. */
typedef struct sri_lint_finding {
    sri_lint_kind kind;
    sr_str route, other;
    sr_str utterance, other_utterance;
    double cosine, own_cosine, share, threshold;
    size_t count;
} sri_lint_finding;

typedef struct sri_lint_options {
    double near;              /* cosine from which texts are near-duplicates; 0: 0.95 */
    double overlap;           /* share from which two routes overlap; 0: 0.10 */
    double oos;               /* cosine from which an out-of-scope example is near; 0: 0.90 */
    size_t few;               /* fewer utterances are few; 0: 5 */
    int threads;              /* 0: one for each core */
    sr_progress_fn *progress; /* in utterances */
    void *progress_user;
} sri_lint_options;

typedef struct sri_lint {
    sr_table *table; /* all texts of the findings are its */
    size_t routes, utterances, oos;
    uint64_t revision;
    sri_lint_finding *findings; /* by kind; within a kind the gravest first */
    size_t count, capacity;
    size_t counts[SRI_LINT_KINDS]; /* by kind; more than there are findings where they were cut */
} sri_lint;

/* Of one kind, so many findings are kept. */
#define SRI_LINT_MAX ((size_t)100000)

/* Looks at the whole table, with the router's stored vectors. Findings do not depend on the number of
 * threads. Time grows with the square of the utterances: 15,000 take seconds. SR_ERR_INVALID for options
 * out of range. On failure `lint` is empty. */
SR_MUST_CHECK sr_status sri_lint_run(sr_router *router, const sri_lint_options *options,
                                     sri_lint *lint, sr_error *error);
void sri_lint_free(sri_lint *lint);

/* Appends one object with at most `limit` findings of each kind; false when memory is short. */
bool sri_lint_append_json(const sri_lint *lint, size_t limit, sri_buffer *out);

#endif
