/*
 * queue_int.h - what the queue's files share.
 *
 *   queue.c        submissions: taking them in, answering, cancelling, closing
 *   queue_work.c   the threads that encode and decide
 *   queue_lanes.c  whose work comes next
 *   queue_plan.c   what a batch takes, how long work will wait, whether to wait for more
 *   queue_alarm.c  deadlines, and the thread that keeps them
 *
 * One mutex guards all of it. It is held for bookkeeping, never while texts are copied, encoded or decided, nor for callbacks; it is
 * the innermost lock. A submission is in a lane (its next texts wait), or held by those who work on it, or both: it is given back
 * when it is answered and nobody holds it. Who sets `answered`, under the mutex, calls the callback: so it is called once.
 */
#ifndef SRI_QUEUE_INT_H
#define SRI_QUEUE_INT_H

#include <pthread.h>

#include "router/decide_call.h"

#define SRI_NO_ALARM SIZE_MAX
/* What a submission is told when its deadline has passed. */
#define SRI_LATE                                                                                   \
    "the deadline passed before it was the text's turn; give it more time, or send less"

/* Texts of one caller. Those to be encoded are taken from a list of `count`, in pieces. */
typedef struct submission {
    decide_call call;    /* of decisions */
    sr_vectors *vectors; /* or these are wanted; NULL otherwise */
    sr_done_fn *done;
    void *user;
    sr_ticket ticket;
    uint64_t key;
    uint64_t deadline, begun, queued; /* ns; deadline 0: none */
    bool fresh;                       /* nobody has looked at it yet: a round comes first */
    bool answered;
    int holders;
    const sr_str *texts;
    float *rows;
    uint8_t *flags;
    uint32_t *tokens; /* NULL: not asked for */
    size_t count, taken, encoded;
    sr_timings timings;                         /* guarded, until they are put into the result */
    size_t texts_left, bytes_left, tokens_left; /* that wait, as the queue counts them */
    struct lane *lane;                          /* NULL: nothing of it waits */
    struct submission *next, *previous;         /* in the lane; `next` among the free ones */
    size_t alarm;                               /* its place among the deadlines, or SRI_NO_ALARM */
    uint32_t number, generation;                /* together the ticket */
} submission;

/* ---- Whose turn it is (queue_lanes.c) --------------------------------------------------------------- */

/* The waiting submissions of one key. */
typedef struct lane {
    uint64_t key;
    submission *first, *last;
    struct lane *next, *previous; /* in the ring */
    size_t texts, bytes, tokens;  /* that wait */
    size_t allowance;             /* tokens that it may still take in this turn */
    bool in_turn;
} lane;

typedef struct lanes {
    sri_map keys;                       /* to the lane */
    lane *turn;                         /* a ring; NULL: nothing waits */
    lane *unused;                       /* by `next` */
    size_t count, texts, bytes, tokens; /* that wait */
} lanes;

/* Some texts of a submission. */
typedef struct piece {
    submission *of;
    size_t first, count; /* 0: it is fresh */
} piece;

/* Makes the lane of a key, so that entering it cannot fail; false when memory is short. */
SR_MUST_CHECK bool sri_lanes_open(lanes *all, uint64_t key);
/* At the end of its lane, or at the front. */
void sri_lanes_enter(lanes *all, submission *entered, bool front);
/* Takes what is left of it out. */
void sri_lanes_leave(lanes *all, submission *left);
/* Takes the next text, and those after it while it is the same submission's turn, up to a budget of tokens. False when nothing
 * waits, or what is next does not fit in the budget; `must`: it is taken all the same. */
bool sri_lanes_take(lanes *all, size_t *budget, size_t most, bool must, piece *taken);
/* The lane of a key; NULL when nothing of it waits. */
const lane *sri_lanes_of(const lanes *all, uint64_t key);
/* Tokens that come before what this key would enter now. */
size_t sri_lanes_ahead(const lanes *all, uint64_t key);
void sri_lanes_free(lanes *all);

/* ---- What batches take (queue_plan.c) ---------------------------------------------------------------- */

/* Sums of a regression that forgets: nanoseconds of a batch on its tokens. */
typedef struct service {
    double n, x, y, xx, xy, yy;
    double gap; /* ns between submissions that wait, smoothed */
    uint64_t last;
} service;

typedef struct service_line {
    double fixed, token; /* ns */
    double sure;         /* `fixed` less two standard errors, or 0 */
} service_line;

void sri_service_note(service *self, size_t tokens, uint64_t ns);
void sri_service_arrival(service *self, uint64_t now);
service_line sri_service_fit(const service *self);
double sri_service_token_ns(const service *self); /* all in; 0 while nothing was measured */
double sri_service_batch_ns(const service *self); /* of the usual batch */
/* As many texts as it pays to wait for, when `texts` of `tokens` wait. */
size_t sri_service_worth(const service *self, size_t texts, size_t tokens);

/* ---- The queue ----------------------------------------------------------------------------------------- */

typedef struct queue_worker {
    struct sri_queue *queue;
    pthread_t thread;
    piece *pieces;
    sr_str *texts;
    float *vectors;
    uint8_t *flags;
    uint32_t *tokens;
    size_t piece_count, piece_capacity, text_count, text_capacity;
    size_t vector_capacity, flag_capacity, token_capacity;
    submission **ready; /* to be decided, then to be called back */
    submission **late;  /* claimed: their deadlines had passed */
    size_t ready_count, late_count, ready_capacity, late_capacity;
    decide_call **calls; /* of those ready */
    size_t call_capacity;
    bool alone; /* others work meanwhile */
} queue_worker;

typedef struct sri_queue {
    sr_router *router;
    pthread_mutex_t mutex;
    pthread_cond_t work; /* idle workers: something waits, or the queue closes */
    pthread_cond_t
        more; /* workers that wait for a fuller batch: it is full enough, or the queue closes */
    pthread_cond_t quiet;   /* drainers: nothing is pending */
    pthread_cond_t alarmed; /* the keeper: an earlier deadline than it knows, or the queue closes */
    sr_queue_options options; /* with defaults filled in, but batch_tokens */
    lanes lanes;
    service service;
    submission **chunks; /* of CHUNK submissions each, which do not move */
    size_t chunk_count, chunk_capacity;
    submission *unused;  /* by `next` */
    submission **alarms; /* a heap by deadline */
    size_t alarm_count, alarm_capacity;
    queue_worker *workers;
    int worker_count, idle, gathering, busy;
    size_t enough_texts, enough_tokens; /* that wake who gathers */
    uint64_t waiting_since;             /* something waits */
    pthread_t keeper;
    bool keeping, closing;
    size_t pending, drainers, running; /* submissions accepted, not answered; texts being encoded */
    sr_queue_counts counts;            /* what only grows, but: */
    _Atomic(uint64_t) at_once, shed;
} sri_queue;

/* Full batches have so many tokens. */
size_t sri_queue_batch_tokens(const sri_queue *queue);
/* Nanoseconds until work of that key would begin. The caller holds the mutex. */
uint64_t sri_queue_wait_ns(const sri_queue *queue, uint64_t key);

/* Starts the workers, where that is still to be done; the caller holds the mutex. */
SR_MUST_CHECK sr_status sri_queue_start(sri_queue *queue, sr_error *error);
/* Waits for all threads; `closing` has been set and told to them. */
void sri_queue_join(sri_queue *queue);
/* Wakes who is needed for what has come to wait. The caller holds the mutex. */
void sri_queue_wake(sri_queue *queue);

/* Puts it into its lane, which is open. `again`: at the front, for what is wanted after a round. The caller holds the mutex. */
void sri_queue_enter(sri_queue *queue, submission *entered, bool again);
/* Takes the right to answer; false when another has it. The caller holds the mutex, and the submission from now on. */
bool sri_queue_claim(sri_queue *queue, submission *claimed);
/* Calls back one that was claimed: with its result, or why there is none. The mutex is not held. */
void sri_queue_answer(submission *answered, sr_status status, const sr_error *error);
/* Gives back what a holder held. The caller holds the mutex. */
void sri_queue_release(sri_queue *queue, submission *held);
/* Counts one that was claimed and called back, and gives it back. The caller holds the mutex. */
void sri_queue_finish(sri_queue *queue, submission *finished, sr_status status);
/* Calls the hook that follows callbacks; the caller holds the mutex, which is released meanwhile. */
void sri_queue_tell(sri_queue *queue);
/* Claims, answers with that status, and finishes; the mutex is not held. */
void sri_queue_fail(sri_queue *queue, submission *failed, sr_status status, const sr_error *error);

/* ---- Deadlines (queue_alarm.c). The caller holds the mutex ------------------------------------------------ */

SR_MUST_CHECK bool sri_alarm_reserve(sri_queue *queue);
/* Enters its deadline, for which there is room. */
void sri_alarm_set(sri_queue *queue, submission *watched);
void sri_alarm_clear(sri_queue *queue, submission *watched); /* also where there is none */
SR_MUST_CHECK sr_status sri_alarm_start(sri_queue *queue, sr_error *error);

/* ---- Vectors (vectors.c) ------------------------------------------------------------------------------------ */

/* With room for the vectors of n texts; `copies`, when not NULL, takes copies of the texts, which live as long. */
SR_MUST_CHECK sr_status sri_vectors_make(sr_router *router, const sr_str *texts, size_t n,
                                         const sr_str **copies, sr_vectors **made, sr_error *error);

#endif
