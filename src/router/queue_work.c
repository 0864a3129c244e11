/*
 * queue_work.c - the queue's threads: each takes a batch, encodes it, decides what is complete, and calls back.
 *
 * As many threads as the encoder has, each with a batch of its own, computed on that thread alone while there is work for the others: no
 * thread waits for another at the end of a batch, and callers that are answered can send more while the other threads go on. When
 * nothing else waits or runs, the batch is shared out over all the encoder's threads instead, so that a single text is answered as fast as
 * by sr_decide().
 *
 * Rejected: one thread that gathers everything waiting and has the pool encode it. All its callers are answered at once, and the
 * cores are idle until the first of them come back, with small batches. Sorting by length, which saves padding elsewhere: there is none.
 *
 * A batch whose encoding fails is tried again submission by submission, so that a text that a caller's encoder cannot take harms nobody else.
 */
#include <string.h>

#include "encode/encode.h"
#include "router/queue_int.h"

#define MOST_TEXTS ((size_t)1024) /* of a batch */
/* Between two batches a search drives the model's weights out of the cache. Measured (bench/speed/queue, CLINC150, one core): a text
 * costs 8 % more than in batches of thousands of tokens with 128, 5 % with 256, 1 % with 384, nothing with 512. Only work that has
 * gathered makes batches so large. */
#define MODEL_TOKENS 384
/* Other encoders: a call may cost much, whatever is in it. */
#define OTHER_TOKENS 2048

size_t sri_queue_batch_tokens(const sri_queue *queue) {
    if (queue->options.batch_tokens != 0) return queue->options.batch_tokens;
    const sr_encoder *encoder = queue->router->encoder;
    return sri_encoder_operations(encoder) > 0 ? MODEL_TOKENS : OTHER_TOKENS;
}

/* ---- Taking a batch. The caller holds the mutex -------------------------------------------------------- */

/* Room for one more piece. */
static bool reserve_piece(queue_worker *self) {
    void *pieces = self->pieces, *ready = self->ready, *late = self->late, *calls = self->calls;
    size_t count = self->piece_count + self->late_count + 1;
    bool enough = sri_grow(&pieces, &self->piece_capacity, count, sizeof *self->pieces);
    self->pieces = pieces;
    enough = enough && sri_grow(&ready, &self->ready_capacity, count, sizeof *self->ready);
    self->ready = ready;
    enough = enough && sri_grow(&late, &self->late_capacity, count, sizeof *self->late);
    self->late = late;
    enough = enough && sri_grow(&calls, &self->call_capacity, count, sizeof *self->calls);
    self->calls = calls;
    return enough;
}

/* When a batch that begins now will probably end. */
static uint64_t expected_end(const sri_queue *queue, uint64_t now) {
    size_t tokens = SRI_MIN(sri_queue_batch_tokens(queue), queue->lanes.tokens);
    return now + (uint64_t)(sri_service_token_ns(&queue->service) * (double)tokens);
}

/* Takes until the batch is full. Short memory makes it smaller; the first texts have room from the start. What would
 * come too late is not done; but one text is, so that a measure that is wrong is put right. */
static void take_batch(sri_queue *queue, queue_worker *self) {
    size_t budget = sri_queue_batch_tokens(queue), most = MOST_TEXTS;
    uint64_t now = sri_nanoseconds(), end = expected_end(queue, now);
    self->piece_count = self->text_count = self->late_count = 0;
    while (most > 0 && budget > 0 && reserve_piece(self)) {
        piece taken;
        if (!sri_lanes_take(&queue->lanes, &budget, most, self->piece_count == 0, &taken)) break;
        submission *of = taken.of;
        of->timings.queue_ns = now - of->queued;
        most -= SRI_MAX(taken.count, (size_t)1);
        bool late = of->deadline != 0 && of->deadline <= (self->piece_count == 0 ? now : end);
        if (late && sri_queue_claim(queue, of)) {
            self->late[self->late_count++] = of;
            continue;
        }
        of->holders++;
        self->pieces[self->piece_count++] = taken;
        self->text_count += taken.count;
    }
    self->alone = queue->busy > 0 || queue->lanes.turn != NULL;
}

/* Whether it pays to wait for more; `*until` takes for how long. */
static bool gather_more(sri_queue *queue, uint64_t *until) {
    const lanes *all = &queue->lanes;
    uint64_t limit = queue->options.max_wait_us * 1000, now = sri_nanoseconds();
    queue->enough_tokens = sri_queue_batch_tokens(queue);
    queue->enough_texts = SIZE_MAX;
    if (queue->options.profile == SR_QUEUE_LATENCY || all->tokens >= queue->enough_tokens)
        return false;
    if (queue->options.profile == SR_QUEUE_AUTO) {
        if (queue->idle > 0) return false; /* what comes has a thread waiting for it */
        double sure = sri_service_fit(&queue->service).sure;
        queue->enough_texts = sri_service_worth(&queue->service, all->texts, all->tokens);
        limit = SRI_MIN(limit, (uint64_t)sure);
    }
    *until = queue->waiting_since + limit;
    return all->texts < queue->enough_texts && now < *until;
}

/* ---- Encoding ------------------------------------------------------------------------------------------- */

static bool reserve_texts(queue_worker *self) {
    void *texts = self->texts, *flags = self->flags, *tokens = self->tokens,
         *vectors = self->vectors;
    size_t count = self->text_count, row;
    size_t dimension = (size_t)sr_encoder_dimension(self->queue->router->encoder);
    bool enough = sri_grow(&texts, &self->text_capacity, count, sizeof *self->texts);
    self->texts = texts;
    enough = enough && sri_grow(&flags, &self->flag_capacity, count, 1);
    self->flags = flags;
    enough = enough && sri_grow(&tokens, &self->token_capacity, count, sizeof *self->tokens);
    self->tokens = tokens;
    enough = enough && sri_size_mul(dimension, sizeof *self->vectors, &row) &&
             sri_grow(&vectors, &self->vector_capacity, count, row);
    self->vectors = vectors;
    return enough;
}

/* Encodes texts of some pieces, whose rows are then filled. `*computed` takes the tokens. */
static sr_status encode(queue_worker *self, const piece *pieces, size_t n, size_t *computed,
                        sr_error *error) {
    sr_encoder *encoder = self->queue->router->encoder;
    size_t dimension = (size_t)sr_encoder_dimension(encoder), row = 0;
    sri_encoding job = {.texts = self->texts,
                        .out = self->vectors,
                        .truncated = self->flags,
                        .tokens = self->tokens,
                        .alone = self->alone};
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < pieces[i].count; k++)
            self->texts[job.n++] = pieces[i].of->texts[pieces[i].first + k];
    sr_status code = sri_encoder_encode(encoder, &job, error);
    *computed = job.computed;
    for (size_t i = 0; i < n && code == SR_OK; row += pieces[i++].count) {
        const submission *of = pieces[i].of;
        size_t first = pieces[i].first, count = pieces[i].count;
        if (count == 0) continue;
        memcpy(of->rows + first * dimension, self->vectors + row * dimension,
               count * dimension * sizeof *of->rows);
        memcpy(of->flags + first, self->flags + row, count);
        if (of->tokens != NULL)
            memcpy(of->tokens + first, self->tokens + row, count * sizeof *of->tokens);
    }
    return code;
}

/* What the pieces' submissions are told of the batch. Those that are complete become ready; others are let go. */
static void note_pieces(queue_worker *self, const piece *pieces, size_t n, uint64_t spent,
                        size_t computed) {
    sri_queue *queue = self->queue;
    pthread_mutex_lock(&queue->mutex);
    for (size_t i = 0; i < n; i++) {
        submission *of = pieces[i].of;
        if (pieces[i].count > 0) {
            of->timings.encode_ns += spent;
            of->timings.batch_texts = SRI_MAX(of->timings.batch_texts, self->text_count);
            of->timings.batch_tokens = SRI_MAX(of->timings.batch_tokens, computed);
        }
        of->encoded += pieces[i].count;
        if (!of->answered && of->encoded == of->count)
            self->ready[self->ready_count++] = of;
        else
            sri_queue_release(queue, of);
    }
    pthread_mutex_unlock(&queue->mutex);
}

/* Tells the submission why, and lets it go. */
static void fail_piece(queue_worker *self, const piece *failed, const sr_error *error) {
    sri_queue *queue = self->queue;
    sri_queue_fail(queue, failed->of, error->code, error);
    pthread_mutex_lock(&queue->mutex);
    sri_queue_release(queue, failed->of);
    pthread_mutex_unlock(&queue->mutex);
}

static void encode_each(queue_worker *self) {
    sr_error error;
    size_t computed;
    for (size_t i = 0; i < self->piece_count; i++) {
        uint64_t begun = sri_nanoseconds();
        const piece *each = &self->pieces[i];
        if (encode(self, each, 1, &computed, &error) == SR_OK)
            note_pieces(self, each, 1, sri_nanoseconds() - begun, computed);
        else
            fail_piece(self, each, &error);
    }
}

/* Before anybody has an answer, so that who has one finds it counted. */
static void count_batch(queue_worker *self, size_t computed) {
    sri_queue *queue = self->queue;
    pthread_mutex_lock(&queue->mutex);
    queue->running -= self->text_count;
    queue->counts.batches += self->text_count > 0;
    queue->counts.batch_texts += self->text_count;
    queue->counts.batch_tokens += computed;
    pthread_mutex_unlock(&queue->mutex);
}

static void encode_batch(queue_worker *self) {
    sr_error error = {0};
    uint64_t begun = sri_nanoseconds();
    size_t computed = 0;
    sr_status code = reserve_texts(self) ? SR_OK : sri_fail_memory(&error);
    bool room = code == SR_OK;
    self->ready_count = 0;
    if (room) code = encode(self, self->pieces, self->piece_count, &computed, &error);
    count_batch(self, computed);
    if (code == SR_OK)
        note_pieces(self, self->pieces, self->piece_count, sri_nanoseconds() - begun, computed);
    else if (room && self->piece_count > 1)
        encode_each(self);
    else
        for (size_t i = 0; i < self->piece_count; i++) fail_piece(self, &self->pieces[i], &error);
}

/* ---- Deciding and answering ------------------------------------------------------------------------------ */

/* A round for all that are ready and want decisions. */
static void decide(queue_worker *self) {
    size_t count = 0;
    for (size_t i = 0; i < self->ready_count; i++)
        if (self->ready[i]->vectors == NULL) self->calls[count++] = &self->ready[i]->call;
    sri_calls_round(self->queue->router, self->calls, count, self->alone);
}

/* Puts back what must be encoded, since the table has changed or nobody had looked; false when memory is short. */
static bool put_back(sri_queue *queue, submission *again) {
    pthread_mutex_lock(&queue->mutex);
    bool enough = sri_lanes_open(&queue->lanes, again->key);
    if (enough && !again->answered) {
        sri_queue_enter(queue, again, true);
        sri_queue_wake(queue);
    }
    if (enough) sri_queue_release(queue, again);
    pthread_mutex_unlock(&queue->mutex);
    return enough;
}

/* Answers one that is ready, unless another has; true when that was done here. */
static bool answer(queue_worker *self, submission *ready) {
    sri_queue *queue = self->queue;
    sr_error error;
    sr_status code = SR_OK;
    if (ready->vectors == NULL) code = sri_call_failure(&ready->call, queue->router, &error);
    if (code == SR_OK && ready->vectors == NULL && ready->call.wanted_count > 0) {
        if (put_back(queue, ready)) return false;
        code = sri_fail_memory(&error);
    }
    pthread_mutex_lock(&queue->mutex);
    bool own = sri_queue_claim(queue, ready);
    pthread_mutex_unlock(&queue->mutex);
    if (own) sri_queue_answer(ready, code, code == SR_OK ? NULL : &error);
    pthread_mutex_lock(&queue->mutex);
    if (own) sri_queue_finish(queue, ready, code);
    sri_queue_release(queue, ready);
    pthread_mutex_unlock(&queue->mutex);
    return own;
}

static void answer_late(queue_worker *self) {
    sri_queue *queue = self->queue;
    sr_error error;
    sri_fail(&error, SR_ERR_TIMEOUT, "deadline", "%s", SRI_LATE);
    for (size_t i = 0; i < self->late_count; i++) {
        sri_queue_answer(self->late[i], SR_ERR_TIMEOUT, &error);
        pthread_mutex_lock(&queue->mutex);
        sri_queue_finish(queue, self->late[i], SR_ERR_TIMEOUT);
        pthread_mutex_unlock(&queue->mutex);
    }
}

static size_t guess(const queue_worker *self) {
    size_t tokens = 0;
    for (size_t i = 0; i < self->piece_count; i++)
        for (size_t k = 0; k < self->pieces[i].count; k++)
            tokens += sri_guess_tokens(self->pieces[i].of->texts[self->pieces[i].first + k].len);
    return tokens;
}

/* The mutex is not held, but before and after. */
static void run_batch(queue_worker *self) {
    sri_queue *queue = self->queue;
    uint64_t begun = sri_nanoseconds();
    size_t tokens = guess(self);
    answer_late(self);
    encode_batch(self);
    decide(self);
    bool some = self->late_count > 0;
    for (size_t i = 0; i < self->ready_count; i++) some |= answer(self, self->ready[i]);
    uint64_t spent = sri_nanoseconds() - begun;
    pthread_mutex_lock(&queue->mutex);
    if (some) sri_queue_tell(queue);
    if (self->text_count == 0) return;
    /* What was shared out would have taken one thread about as much longer. */
    if (!self->alone) spent *= (uint64_t)queue->worker_count;
    sri_service_note(&queue->service, tokens, spent);
}

static void wait_for_more(sri_queue *queue, uint64_t until) {
    struct timespec time = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    queue->gathering++;
    pthread_cond_timedwait(&queue->more, &queue->mutex, &time);
    queue->gathering--;
}

static void *work(void *argument) {
    queue_worker *self = argument;
    sri_queue *queue = self->queue;
    uint64_t until;
    pthread_mutex_lock(&queue->mutex);
    for (;;) {
        if (queue->lanes.turn == NULL) {
            if (queue->closing) break;
            queue->idle++;
            pthread_cond_wait(&queue->work, &queue->mutex);
            queue->idle--;
        } else if (!queue->closing && gather_more(queue, &until)) {
            wait_for_more(queue, until);
        } else {
            take_batch(queue, self);
            sri_queue_wake(queue);
            queue->busy++;
            queue->running += self->text_count;
            pthread_mutex_unlock(&queue->mutex);
            run_batch(self);
            queue->busy--;
        }
    }
    pthread_mutex_unlock(&queue->mutex);
    return NULL;
}

/* ---- Threads --------------------------------------------------------------------------------------------- */

void sri_queue_wake(sri_queue *queue) {
    const lanes *all = &queue->lanes;
    if (all->turn == NULL) return;
    if (queue->gathering > 0) {
        if (all->texts >= queue->enough_texts || all->tokens >= queue->enough_tokens)
            pthread_cond_signal(&queue->more);
    } else if (queue->idle > 0) {
        pthread_cond_signal(&queue->work);
    }
}

static void free_worker(queue_worker *gone) {
    sri_free(gone->pieces);
    sri_free(gone->texts);
    sri_free(gone->vectors);
    sri_free(gone->flags);
    sri_free(gone->tokens);
    sri_free(gone->ready);
    sri_free(gone->late);
    sri_free(gone->calls);
}

/* A batch of one piece must not fail for want of memory. */
static sr_status start_worker(sri_queue *queue, queue_worker *made, sr_error *error) {
    *made = (queue_worker){.queue = queue};
    if (!reserve_piece(made)) {
        free_worker(made);
        return sri_fail_memory(error);
    }
    int failed = pthread_create(&made->thread, NULL, work, made);
    if (failed == 0) return SR_OK;
    free_worker(made);
    return sri_fail_errno(error, failed, "queue", "cannot start a thread of the queue");
}

sr_status sri_queue_start(sri_queue *queue, sr_error *error) {
    int threads = sri_encoder_threads(queue->router->encoder);
    if (queue->worker_count == threads) return SR_OK;
    if (queue->workers == NULL)
        queue->workers = sri_alloc_zero((size_t)threads, sizeof *queue->workers);
    if (queue->workers == NULL) return sri_fail_memory(error);
    sr_status code = SR_OK;
    while (queue->worker_count < threads && code == SR_OK) {
        code = start_worker(queue, &queue->workers[queue->worker_count], error);
        queue->worker_count += code == SR_OK;
    }
    /* One is enough to go on with. */
    return queue->worker_count > 0 ? SR_OK : code;
}

void sri_queue_join(sri_queue *queue) {
    for (int i = 0; i < queue->worker_count; i++) {
        pthread_join(queue->workers[i].thread, NULL);
        free_worker(&queue->workers[i]);
    }
    sri_free(queue->workers);
    if (queue->keeping) pthread_join(queue->keeper, NULL);
}
