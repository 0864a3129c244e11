/*
 * queue.c - submissions: taken in, answered once, cancelled, counted; opening and closing.
 *
 * sr_submit() first does what needs no waiting, on the caller's thread: texts are copied and read, and the fast path answers what
 * it can. What is left is put into a slot. Slots stand in chunks that do not move, and are used again; a ticket is a slot's
 * number with the number of times it was used, so that an old ticket finds nothing. So a submission costs the mutex once, and no memory
 * besides its own texts and the answer.
 *
 * The queue stands with the router from the start, without threads: they start with the first text that waits.
 */
#include "router/queue_int.h"

#include <assert.h>
#include <string.h>

#include "encode/encode.h"

#define CHUNK           ((size_t)64)
#define NOBODY          UINT64_MAX /* a key that hardly anybody has */
#define DEFAULT_WAIT_US 2000
#define DEFAULT_TEXTS   10000
#define DEFAULT_BYTES   ((size_t)64 << 20)
#define FAIR            ((size_t)8)
#define SURELY          1.25 /* of the expected time: what is accepted should meet its deadline */
#define MOST_WAIT_US    10000000
#define KNOWN_FLAGS     ((unsigned)(SR_SUBMIT_VECTORS | SR_SUBMIT_AWAY))

/* ---- Slots. The caller holds the mutex -------------------------------------------------------------------- */

static bool add_chunk(sri_queue *queue) {
    void *chunks = queue->chunks;
    bool enough =
        sri_grow(&chunks, &queue->chunk_capacity, queue->chunk_count + 1, sizeof *queue->chunks);
    queue->chunks = chunks;
    submission *made = enough ? sri_alloc_zero(CHUNK, sizeof *made) : NULL;
    if (made == NULL) return false;
    for (size_t i = CHUNK; i-- > 0;) {
        made[i].number = (uint32_t)(queue->chunk_count * CHUNK + i);
        made[i].answered = true;
        made[i].next = queue->unused;
        queue->unused = &made[i];
    }
    queue->chunks[queue->chunk_count++] = made;
    return true;
}

/* The submission of a ticket; NULL when it is no longer there. */
static submission *find(const sri_queue *queue, sr_ticket ticket) {
    size_t number = (size_t)(ticket & UINT32_MAX);
    if (number >= queue->chunk_count * CHUNK) return NULL;
    submission *found = &queue->chunks[number / CHUNK][number % CHUNK];
    return found->generation == ticket >> 32 ? found : NULL;
}

/* Moves a submission into a slot; there must be an unused one. Its ticket is never 0. */
static submission *settle(sri_queue *queue, const submission *made) {
    submission *slot = queue->unused;
    uint32_t number = slot->number, generation = slot->generation + 1;
    queue->unused = slot->next;
    *slot = *made;
    slot->number = number;
    slot->generation = generation + (generation == 0);
    slot->ticket = (sr_ticket)slot->generation << 32 | number;
    slot->alarm = SRI_NO_ALARM;
    slot->next = slot->previous = NULL;
    return slot;
}

static void discard(submission *gone) {
    sr_decisions *result = sri_call_end(&gone->call);
    sr_decisions_free(&result);
    sr_vectors_free(&gone->vectors);
}

void sri_queue_release(sri_queue *queue, submission *held) {
    if (--held->holders > 0 || !held->answered) return;
    discard(held);
    held->next = queue->unused;
    queue->unused = held;
}

/* ---- Answers ---------------------------------------------------------------------------------------------- */

bool sri_queue_claim(sri_queue *queue, submission *claimed) {
    if (claimed->answered) return false;
    claimed->answered = true;
    claimed->holders++;
    if (claimed->lane != NULL) sri_lanes_leave(&queue->lanes, claimed);
    sri_alarm_clear(queue, claimed);
    return true;
}

/* Of a submission, or of texts that were answered at once. */
static void call_back(submission *answered, sr_status status, const sr_error *error) {
    sr_completion completion = {.ticket = answered->ticket, .status = status, .error = error};
    sr_timings *timings = NULL;
    if (status == SR_OK && answered->vectors != NULL) {
        completion.vectors = answered->vectors;
        answered->vectors = NULL;
        timings = &completion.vectors->timings;
    } else if (status == SR_OK) {
        completion.decisions = sri_call_end(&answered->call);
        timings = &completion.decisions->timings;
    }
    if (timings != NULL) {
        timings->queue_ns = answered->timings.queue_ns;
        timings->encode_ns = answered->timings.encode_ns;
        timings->batch_texts = answered->timings.batch_texts;
        timings->batch_tokens = answered->timings.batch_tokens;
        timings->total_ns = sri_nanoseconds() - answered->begun;
    }
    answered->done(answered->user, &completion);
}

void sri_queue_answer(submission *answered, sr_status status, const sr_error *error) {
    call_back(answered, status, error);
}

void sri_queue_finish(sri_queue *queue, submission *finished, sr_status status) {
    sr_queue_counts *counts = &queue->counts;
    counts->answered++;
    if (status == SR_ERR_TIMEOUT)
        counts->timed_out++;
    else if (status == SR_ERR_CANCELLED)
        counts->cancelled++;
    else if (status != SR_OK)
        counts->failed++;
    if (--queue->pending == 0 && queue->drainers > 0) pthread_cond_broadcast(&queue->quiet);
    sri_queue_release(queue, finished);
}

void sri_queue_fail(sri_queue *queue, submission *failed, sr_status status, const sr_error *error) {
    pthread_mutex_lock(&queue->mutex);
    bool own = sri_queue_claim(queue, failed);
    pthread_mutex_unlock(&queue->mutex);
    if (!own) return;
    sri_queue_answer(failed, status, error);
    pthread_mutex_lock(&queue->mutex);
    sri_queue_finish(queue, failed, status);
    pthread_mutex_unlock(&queue->mutex);
}

void sri_queue_tell(sri_queue *queue) {
    void (*batch_done)(void *) = queue->options.batch_done;
    void *user = queue->options.batch_user;
    if (batch_done == NULL) return;
    pthread_mutex_unlock(&queue->mutex);
    batch_done(user);
    pthread_mutex_lock(&queue->mutex);
}

/* ---- Taking in -------------------------------------------------------------------------------------------- */

static void count_texts(submission *self, const sr_str *texts, size_t n) {
    self->texts_left = n;
    self->bytes_left = self->tokens_left = 0;
    for (size_t i = 0; i < n; i++) {
        self->bytes_left += texts[i].len;
        self->tokens_left += sri_guess_tokens(texts[i].len);
    }
}

/* What is to be encoded of it. */
static void plan(submission *self) {
    self->taken = self->encoded = 0;
    if (self->vectors != NULL) {
        self->rows = (float *)(uintptr_t)self->vectors->values;
        self->flags = (uint8_t *)(uintptr_t)self->vectors->truncated;
        self->tokens = (uint32_t *)(uintptr_t)self->vectors->tokens;
        self->count = self->vectors->count;
    } else if (self->fresh) {
        count_texts(self, self->call.texts, self->call.count);
        return;
    } else {
        self->texts = self->call.wanted;
        self->rows = self->call.wanted_rows;
        self->flags = self->call.wanted_flags;
        self->count = self->call.wanted_count;
    }
    count_texts(self, self->texts, self->count);
}

void sri_queue_enter(sri_queue *queue, submission *entered, bool again) {
    if (again) {
        entered->fresh = false;
        plan(entered);
    }
    entered->queued = sri_nanoseconds();
    if (queue->lanes.turn == NULL) queue->waiting_since = entered->queued;
    sri_lanes_enter(&queue->lanes, entered, again);
}

uint64_t sri_queue_wait_ns(const sri_queue *queue, uint64_t key) {
    if (queue->worker_count == 0) return 0;
    double ahead = (double)sri_lanes_ahead(&queue->lanes, key), workers = queue->worker_count;
    double wait = ahead * sri_service_token_ns(&queue->service) / workers;
    /* Of batches that run, the first ends after its share of one. */
    if (queue->busy == queue->worker_count)
        wait += sri_service_batch_ns(&queue->service) / (workers + 1);
    return wait < 1e18 ? (uint64_t)wait : (uint64_t)1e18;
}

static sr_status shed(const sri_queue *queue, const submission *self, sr_error *error) {
    return sri_fail(error, SR_ERR_OVERLOADED, "queue",
                    "%zu texts wait already, for some %.0f ms; try again later", queue->lanes.texts,
                    (double)sri_queue_wait_ns(queue, self->key) / 1e6);
}

/* Room for `more` beside what waits of a key and of all: of the bound `most`, a key gets no more than FAIR times what
 * it leaves free. So a busy key cannot keep others out, few that are busy share the room evenly, and nobody has to say how many there
 * are (A. K. Choudhury and E. L. Hahne, Dynamic queue length thresholds for shared-memory packet switches, IEEE/ACM Transactions on
 * Networking 6, 1998). */
static bool has_room(size_t more, size_t own, size_t all, size_t most) {
    if (more > most || all > most - more) return false;
    return all == 0 || own <= FAIR * (most - more - all);
}

/* Whether there is room, and, where something waits already, time. */
static sr_status admit(const sri_queue *queue, const submission *self, sr_error *error) {
    const sr_queue_options *options = &queue->options;
    const lanes *all = &queue->lanes;
    if (queue->closing)
        return sri_fail(error, SR_ERR_CANCELLED, "router", "the router is being closed");
    if (self->texts_left > options->max_texts || self->bytes_left > options->max_bytes)
        return sri_fail(error, SR_ERR_LIMIT, "texts",
                        "%zu texts of %zu bytes are more than may wait at once (%zu, %zu)",
                        self->texts_left, self->bytes_left, options->max_texts, options->max_bytes);
    const lane *own = sri_lanes_of(all, self->key);
    if (!has_room(self->texts_left, own == NULL ? 0 : own->texts, all->texts, options->max_texts) ||
        !has_room(self->bytes_left, own == NULL ? 0 : own->bytes, all->bytes, options->max_bytes))
        return shed(queue, self, error);
    if (self->deadline == 0 || all->turn == NULL) return SR_OK;
    double work = (double)self->tokens_left * sri_service_token_ns(&queue->service);
    work = SRI_MAX(work, sri_service_batch_ns(&queue->service));
    double end = ((double)sri_queue_wait_ns(queue, self->key) + work) * SURELY;
    return (double)sri_nanoseconds() + end > (double)self->deadline ? shed(queue, self, error)
                                                                    : SR_OK;
}

/* All that could fail. The caller holds the mutex. */
static sr_status make_ready(sri_queue *queue, const submission *self, sr_error *error) {
    sr_status code = admit(queue, self, error);
    if (code == SR_OK) code = sri_queue_start(queue, error);
    if (code == SR_OK && self->deadline != 0) code = sri_alarm_start(queue, error);
    if (code != SR_OK) return code;
    bool enough = sri_lanes_open(&queue->lanes, self->key) &&
                  (self->deadline == 0 || sri_alarm_reserve(queue)) &&
                  (queue->unused != NULL || add_chunk(queue));
    return enough ? SR_OK : sri_fail_memory(error);
}

static sr_status enqueue(sri_queue *queue, submission *made, sr_ticket *ticket, sr_error *error) {
    plan(made);
    pthread_mutex_lock(&queue->mutex);
    sr_status code = make_ready(queue, made, error);
    if (code == SR_OK) {
        submission *slot = settle(queue, made);
        if (ticket != NULL) *ticket = slot->ticket;
        sri_queue_enter(queue, slot, false);
        if (slot->deadline != 0) sri_alarm_set(queue, slot);
        sri_service_arrival(&queue->service, slot->queued);
        queue->pending++;
        queue->counts.accepted++;
        sri_queue_wake(queue);
    }
    pthread_mutex_unlock(&queue->mutex);
    if (code == SR_ERR_OVERLOADED) atomic_fetch_add(&queue->shed, 1);
    return code;
}

/* ---- Submitting -------------------------------------------------------------------------------------------- */

/* Copies, and decides what can be decided now; `*now` takes whether all is answered. */
static sr_status begin(sr_router *router, const sr_str *texts, size_t n,
                       const sr_submit_options *options, submission *made, bool *now,
                       sr_error *error) {
    *now = false;
    if ((options->flags & SR_SUBMIT_VECTORS) != 0) {
        sr_status code = sri_vectors_make(router, texts, n, &made->texts, &made->vectors, error);
        *now = code == SR_OK && n == 0;
        return code;
    }
    decide_call *calls[] = {&made->call};
    sr_status code = sri_call_begin(&made->call, router, texts, n, options->decide, error);
    if (code != SR_OK) return code;
    made->fresh = (options->flags & SR_SUBMIT_AWAY) != 0 && !made->call.answered;
    if (made->fresh) return SR_OK;
    sri_calls_round(router, calls, 1, true);
    *now = made->call.wanted_count == 0;
    return sri_call_failure(&made->call, router, error);
}

static sr_status check(const sr_submit_options *options, sr_done_fn *done, sr_error *error) {
    if (done == NULL)
        return sri_fail(error, SR_ERR_INVALID, "done", "a submission needs its callback");
    if ((options->flags & ~KNOWN_FLAGS) != 0)
        return sri_fail(error, SR_ERR_INVALID, "flags", "there are no submit flags 0x%x",
                        options->flags & ~KNOWN_FLAGS);
    if (options->deadline_ns != 0 && options->deadline_ns <= sri_nanoseconds())
        return sri_fail(error, SR_ERR_TIMEOUT, "deadline", "the deadline had passed already");
    return SR_OK;
}

sr_status sr_submit_list(sr_router *router, const sr_str *texts, size_t n,
                         const sr_submit_options *given, sr_done_fn *done, void *user,
                         sr_ticket *ticket, sr_error *error) {
    sr_submit_options options;
    submission made = {.begun = sri_nanoseconds(), .done = done, .user = user};
    bool now = false;
    if (ticket != NULL) *ticket = 0;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_submit_options", error);
    if (code == SR_OK) code = check(&options, done, error);
    made.key = options.key;
    made.deadline = options.deadline_ns;
    if (code == SR_OK) code = begin(router, texts, n, &options, &made, &now, error);
    if (code == SR_OK && now) {
        atomic_fetch_add(&router->queue->at_once, 1);
        call_back(&made, SR_OK, NULL);
        return SR_OK;
    }
    if (code == SR_OK) code = enqueue(router->queue, &made, ticket, error);
    if (code != SR_OK) discard(&made);
    return code;
}

sr_status sr_submit(sr_router *router, sr_str text, const sr_submit_options *options,
                    sr_done_fn *done, void *user, sr_ticket *ticket, sr_error *error) {
    return sr_submit_list(router, &text, 1, options, done, user, ticket, error);
}

sr_status sr_cancel(sr_router *router, sr_ticket ticket, sr_error *error) {
    sri_queue *queue = router->queue;
    sr_error why;
    pthread_mutex_lock(&queue->mutex);
    submission *found = find(queue, ticket);
    bool own = found != NULL && sri_queue_claim(queue, found);
    pthread_mutex_unlock(&queue->mutex);
    if (!own)
        return sri_fail(error, SR_ERR_NOT_FOUND, "ticket", "submission %llu has its answer",
                        (unsigned long long)ticket);
    sri_fail(&why, SR_ERR_CANCELLED, "ticket", "the submission was cancelled");
    sri_queue_answer(found, SR_ERR_CANCELLED, &why);
    pthread_mutex_lock(&queue->mutex);
    sri_queue_finish(queue, found, SR_ERR_CANCELLED);
    pthread_mutex_unlock(&queue->mutex);
    return SR_OK;
}

/* ---- Settings and counts ----------------------------------------------------------------------------------- */

static sr_status fill_options(sr_queue_options *options, sr_error *error) {
    if (options->profile < SR_QUEUE_AUTO || options->profile > SR_QUEUE_THROUGHPUT)
        return sri_fail(error, SR_ERR_INVALID, "profile", "there is no queue profile %d",
                        (int)options->profile);
    if (options->max_wait_us > MOST_WAIT_US)
        return sri_fail(error, SR_ERR_INVALID, "max_wait_us",
                        "a wait of %llu us for more texts is longer than %d",
                        (unsigned long long)options->max_wait_us, MOST_WAIT_US);
    if (options->max_wait_us == 0) options->max_wait_us = DEFAULT_WAIT_US;
    if (options->max_texts == 0) options->max_texts = DEFAULT_TEXTS;
    if (options->max_bytes == 0) options->max_bytes = DEFAULT_BYTES;
    return SR_OK;
}

sr_status sr_queue_set(sr_router *router, const sr_queue_options *given, sr_error *error) {
    sri_queue *queue = router->queue;
    sr_queue_options options;
    sr_status code = sri_take_options(&options, sizeof options, given, "sr_queue_options", error);
    if (code == SR_OK) code = fill_options(&options, error);
    if (code != SR_OK) return code;
    pthread_mutex_lock(&queue->mutex);
    queue->options = options;
    pthread_cond_broadcast(&queue->more);
    pthread_mutex_unlock(&queue->mutex);
    return SR_OK;
}

uint64_t sr_queue_wait(sr_router *router, uint64_t key) {
    sri_queue *queue = router->queue;
    pthread_mutex_lock(&queue->mutex);
    uint64_t wait = sri_queue_wait_ns(queue, key);
    pthread_mutex_unlock(&queue->mutex);
    return wait;
}

static void fill_counts(const sri_queue *queue, sr_queue_counts *counts) {
    const lanes *all = &queue->lanes;
    uint64_t at_once = atomic_load(&queue->at_once);
    *counts = queue->counts;
    counts->waiting_texts = all->texts;
    counts->waiting_bytes = all->bytes;
    counts->waiting_tokens = all->tokens;
    counts->waiting_keys = all->count;
    counts->running_texts = queue->running;
    counts->accepted += at_once;
    counts->answered += at_once;
    counts->at_once = at_once;
    counts->shed = atomic_load(&queue->shed);
    service_line line = sri_service_fit(&queue->service);
    counts->batch_fixed_ns = line.fixed;
    counts->batch_token_ns = line.token;
    counts->wait_ns = sri_queue_wait_ns(queue, NOBODY);
}

sr_status sr_queue_stats(sr_router *router, sr_queue_counts *counts, sr_error *error) {
    sri_queue *queue = router->queue;
    sr_queue_counts full;
    if (counts == NULL || counts->size < sizeof counts->size)
        return sri_fail(error, SR_ERR_INVALID, "sr_queue_counts",
                        "set size to sizeof(sr_queue_counts) before the call");
    size_t size = counts->size;
    pthread_mutex_lock(&queue->mutex);
    fill_counts(queue, &full);
    pthread_mutex_unlock(&queue->mutex);
    memset(counts, 0, size);
    memcpy(counts, &full, SRI_MIN(size, sizeof full));
    counts->size = size;
    return SR_OK;
}

sr_status sr_queue_drain(sr_router *router, uint64_t deadline, sr_error *error) {
    sri_queue *queue = router->queue;
    struct timespec until = {(time_t)(deadline / 1000000000u), (long)(deadline % 1000000000u)};
    pthread_mutex_lock(&queue->mutex);
    queue->drainers++;
    while (queue->pending > 0 && (deadline == 0 || sri_nanoseconds() < deadline)) {
        if (deadline == 0)
            pthread_cond_wait(&queue->quiet, &queue->mutex);
        else
            pthread_cond_timedwait(&queue->quiet, &queue->mutex, &until);
    }
    queue->drainers--;
    size_t pending = queue->pending;
    pthread_mutex_unlock(&queue->mutex);
    if (pending == 0) return SR_OK;
    return sri_fail(error, SR_ERR_TIMEOUT, "deadline", "%zu submissions have no answer yet",
                    pending);
}

/* ---- Opening and closing ------------------------------------------------------------------------------------ */

sr_status sri_queue_open(sr_router *router, sr_error *error) {
    sri_queue *queue = sri_alloc_zero(1, sizeof *queue);
    if (queue == NULL) return sri_fail_memory(error);
    queue->router = router;
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->work, NULL);
    pthread_cond_init(&queue->more, &steady);
    pthread_cond_init(&queue->quiet, &steady);
    pthread_cond_init(&queue->alarmed, &steady);
    pthread_condattr_destroy(&steady);
    pthread_mutex_init(&queue->mutex, NULL);
    router->queue = queue;
    return fill_options(&queue->options, error);
}

/* Answers what waits; callbacks may submit, and are refused. The caller holds the mutex. */
static void cancel_all(sri_queue *queue) {
    sr_error why;
    sri_fail(&why, SR_ERR_CANCELLED, "router", "the router was closed before the text's turn came");
    while (queue->lanes.turn != NULL) {
        submission *first = queue->lanes.turn->first;
        bool own = sri_queue_claim(queue, first);
        assert(own && "what waits is not answered");
        (void)own;
        pthread_mutex_unlock(&queue->mutex);
        sri_queue_answer(first, SR_ERR_CANCELLED, &why);
        pthread_mutex_lock(&queue->mutex);
        sri_queue_finish(queue, first, SR_ERR_CANCELLED);
    }
}

void sri_queue_close(sr_router *router) {
    sri_queue *queue = router->queue;
    if (queue == NULL) return;
    pthread_mutex_lock(&queue->mutex);
    queue->closing = true;
    cancel_all(queue);
    pthread_cond_broadcast(&queue->work);
    pthread_cond_broadcast(&queue->more);
    pthread_cond_broadcast(&queue->alarmed);
    pthread_mutex_unlock(&queue->mutex);
    sri_queue_join(queue);
    assert(queue->pending == 0);
    for (size_t i = 0; i < queue->chunk_count; i++) sri_free(queue->chunks[i]);
    sri_free(queue->chunks);
    sri_free(queue->alarms);
    sri_lanes_free(&queue->lanes);
    pthread_cond_destroy(&queue->work);
    pthread_cond_destroy(&queue->more);
    pthread_cond_destroy(&queue->quiet);
    pthread_cond_destroy(&queue->alarmed);
    pthread_mutex_destroy(&queue->mutex);
    sri_free(queue);
    router->queue = NULL;
}
