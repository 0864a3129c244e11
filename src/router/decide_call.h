/*
 * decide_call.h - a call's texts on their way to decisions: what sr_decide() and the queue (queue.h) do alike.
 *
 *     begin -> round -> (encode what is wanted -> round)* -> result
 *
 * A round is one state of the table. It takes any number of calls, so that texts of many submissions are searched together.
 * A call is one thread's at a time; it may be moved in memory between these functions.
 */
#ifndef SRI_DECIDE_CALL_H
#define SRI_DECIDE_CALL_H

#include "router/router_int.h"

struct sr_decisions {
    sri_arena arena;
    sr_decision *items;
    size_t count;
    sr_timings timings;
};

typedef struct decide_call {
    sr_decisions *result;
    size_t candidates; /* per decision */
    bool no_reject, as_is;
    bool answered; /* without any round */
    sr_path path;
    size_t *asked; /* places of the texts that are not blank */
    sr_str *texts; /* those texts, as they are read in this state */
    size_t count;
    uint8_t *settled; /* of each: answered in this state */
    size_t *rows;     /* of each: its row in `vectors`, or NO_ROW */
    float *vectors;   /* vector_count x dimension */
    uint8_t *truncated;
    size_t vector_count, vector_capacity, flag_capacity;
    uint64_t version, revision; /* the state that it was last looked at in */
    int rounds;
    /* After a round: SR_OK with nothing wanted means answered. */
    sr_status code;
    sr_str
        *wanted; /* texts to be encoded into wanted_rows and wanted_flags before the next round */
    size_t wanted_count;
    float *wanted_rows; /* wanted_count x dimension */
    uint8_t *wanted_flags;
} decide_call;

/* Checks and copies; looks whether another process has changed the table; loads the model if it is needed. On failure the
 * call holds nothing. */
SR_MUST_CHECK sr_status sri_call_begin(decide_call *call, sr_router *router, const sr_str *texts,
                                       size_t n, const sr_decide_options *given, sr_error *error);
/* One round. `here`: all is computed on this thread. A call that fails (its code) needs nobody's help: others go on. */
void sri_calls_round(sr_router *router, decide_call *const *calls, size_t n, bool here);
/* Why a round failed. */
sr_status sri_call_failure(const decide_call *call, const sr_router *router, sr_error *error);
/* Encodes what is wanted, on the router's threads. */
SR_MUST_CHECK sr_status sri_call_encode(decide_call *call, sr_router *router, sr_error *error);
/* Releases all but the result, which is then the caller's, or NULL. */
sr_decisions *sri_call_end(decide_call *call);

#endif
