/* test_queue.c - submissions: answered once, as sr_decide() would; bounds, deadlines, cancelling, fairness, closing. */
#include "toy.h"

#include <pthread.h>
#include <time.h>

#include "router/queue_int.h"

/* An encoder whose calls can be held, and which notes what it was asked for. */
typedef struct gate {
    toy toy;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool shut;
    int inside;        /* calls that wait at the gate */
    int calls;         /* in all */
    size_t largest;    /* texts of a call */
    char order[65536]; /* first characters of the texts, as they were encoded */
    size_t order_len;
    const char *poison; /* calls with such a text fail */
    long delay_ns;
} gate;

static int gate_encode(void *user, const sr_str *texts, size_t n, float *out) {
    gate *self = user;
    bool poisoned = false;
    pthread_mutex_lock(&self->mutex);
    self->inside++;
    self->calls++;
    if (n > self->largest) self->largest = n;
    for (size_t i = 0; i < n; i++) {
        poisoned |= self->poison != NULL && toy_is(texts[i], self->poison);
        if (self->order_len < sizeof self->order - 1 && texts[i].len > 0)
            self->order[self->order_len++] = texts[i].data[0];
    }
    pthread_cond_broadcast(&self->changed);
    while (self->shut) pthread_cond_wait(&self->changed, &self->mutex);
    self->inside--;
    pthread_mutex_unlock(&self->mutex);
    struct timespec delay = {0, self->delay_ns};
    if (self->delay_ns > 0) nanosleep(&delay, NULL);
    return poisoned ? 7 : toy_encode(&self->toy, texts, n, out);
}

typedef struct scene {
    gate gate;
    sr_encoder *encoder;
    sr_router *router;
} scene;

static void set_up(scene *s) {
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->gate.mutex, NULL);
    pthread_cond_init(&s->gate.changed, NULL);
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = gate_encode,
                                  .user = &s->gate,
                                  .dimension = TOY_DIMENSION,
                                  .identity = "gate"};
    assert_int_equal(sr_encoder_open(&options, &s->encoder, NULL), SR_OK);
    s->router = toy_router(NULL, s->encoder, 0);
    assert_int_equal(toy_put(s->router, "money", "refund my money|where is my money back|no money",
                             SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    assert_int_equal(toy_put(s->router, "parcel", "my parcel is late|where is the parcel",
                             SR_PUT_REPLACE, NULL, NULL),
                     SR_OK);
    s->gate.order_len = 0;
    s->gate.calls = 0;
}

static void tear_down(scene *s) {
    sr_router_close(&s->router);
    sr_encoder_close(&s->encoder);
    pthread_mutex_destroy(&s->gate.mutex);
    pthread_cond_destroy(&s->gate.changed);
}

static void shut(gate *self) {
    pthread_mutex_lock(&self->mutex);
    self->shut = true;
    pthread_mutex_unlock(&self->mutex);
}

static void open_gate(gate *self) {
    pthread_mutex_lock(&self->mutex);
    self->shut = false;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

static void wait_inside(gate *self) {
    pthread_mutex_lock(&self->mutex);
    while (self->inside == 0) pthread_cond_wait(&self->changed, &self->mutex);
    pthread_mutex_unlock(&self->mutex);
}

/* What came back of a submission. */
typedef struct answer {
    atomic_int calls;
    sr_status status;
    char route[32], message[1024];
    double score;
    uint64_t revision;
    size_t count;
    sr_timings timings;
    sr_ticket ticket;
    pthread_t thread;
} answer;

static void take(void *user, const sr_completion *done) {
    answer *self = user;
    sr_decisions *decisions = done->decisions;
    sr_vectors *vectors = done->vectors;
    self->status = done->status;
    self->ticket = done->ticket;
    self->thread = pthread_self();
    if (done->error != NULL)
        snprintf(self->message, sizeof self->message, "%s", done->error->message);
    if (decisions != NULL) {
        self->count = sr_decisions_count(decisions);
        self->timings = *sr_decisions_timings(decisions);
        if (self->count > 0) {
            const sr_decision *first = sr_decisions_get(decisions, 0);
            snprintf(self->route, sizeof self->route, "%.*s", (int)first->route.len,
                     first->route.len == 0 ? "" : first->route.data);
            self->score = first->score;
            self->revision = first->revision;
        }
        sr_decisions_free(&decisions);
    }
    if (vectors != NULL) {
        self->count = vectors->count;
        self->timings = vectors->timings;
        self->score = vectors->values[0];
        sr_vectors_free(&vectors);
    }
    atomic_fetch_add(&self->calls, 1);
}

static sr_ticket submit(scene *s, const char *text, const sr_submit_options *options, answer *a) {
    sr_ticket ticket = 0;
    sr_error error;
    if (sr_submit(s->router, sr_str_of(text), options, take, a, &ticket, &error) != SR_OK)
        fail_msg("%s", error.message);
    return ticket;
}

static void drain(scene *s) { assert_int_equal(sr_queue_drain(s->router, 0, NULL), SR_OK); }

static sr_queue_counts counts(scene *s) {
    sr_queue_counts counts = {.size = sizeof counts};
    assert_int_equal(sr_queue_stats(s->router, &counts, NULL), SR_OK);
    return counts;
}

/* ---- Answers --------------------------------------------------------------------------------------- */

static void an_answer_is_that_of_decide(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    const char *texts[] = {"refund the money", "late parcel", "where is it", "b\xff roken money"};
    for (size_t i = 0; i < 4; i++) {
        answer a = {0};
        sr_decisions *decisions = NULL;
        sr_str text = sr_str_of(texts[i]);
        sr_ticket ticket = submit(&s, texts[i], NULL, &a);
        assert_true(ticket != 0);
        drain(&s);
        assert_int_equal(a.calls, 1);
        assert_int_equal(a.status, SR_OK);
        assert_int_equal(a.ticket, ticket);
        assert_false(pthread_equal(a.thread, pthread_self()));
        assert_int_equal(sr_decide(s.router, &text, 1, NULL, &decisions, NULL), SR_OK);
        const sr_decision *expected = sr_decisions_get(decisions, 0);
        assert_true(toy_is(expected->route, a.route));
        assert_memory_equal(&expected->score, &a.score, sizeof a.score);
        sr_decisions_free(&decisions);
        assert_int_equal(a.timings.batch_texts, 1);
        assert_true(a.timings.encode_ns > 0 && a.timings.search_ns + a.timings.decide_ns > 0);
        assert_true(a.timings.total_ns >= a.timings.queue_ns + a.timings.encode_ns);
    }
    sr_queue_counts c = counts(&s);
    assert_int_equal(c.accepted, 4);
    assert_int_equal(c.answered, 4);
    assert_int_equal(c.batch_texts, 4);
    tear_down(&s);
}

static void what_needs_no_model_is_answered_before_the_call_returns(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a = {0};
    assert_int_equal(submit(&s, "  ", NULL, &a), 0);
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.count, 1);
    assert_true(pthread_equal(a.thread, pthread_self()));
    answer none = {0};
    sr_ticket ticket = 9;
    assert_int_equal(sr_submit_list(s.router, NULL, 0, NULL, take, &none, &ticket, NULL), SR_OK);
    assert_int_equal(none.calls, 1);
    assert_int_equal(ticket, 0);
    assert_int_equal(counts(&s).at_once, 2);
    assert_int_equal(counts(&s).answered, 2);
    tear_down(&s);
}

static void a_list_is_answered_together(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    sr_str texts[700];
    static char store[700][40];
    for (int i = 0; i < 700; i++) {
        snprintf(store[i], sizeof store[i], "%s %d", i % 2 == 0 ? "parcel" : "money", i);
        texts[i] = sr_str_of(store[i]);
    }
    for (unsigned flags = 0; flags <= SR_SUBMIT_AWAY; flags += SR_SUBMIT_AWAY) {
        answer a = {0};
        sr_decide_options decide = {.size = sizeof decide, .no_reject = 1};
        sr_submit_options options = {.size = sizeof options, .decide = &decide, .flags = flags};
        sr_queue_options small = {.size = sizeof small, .batch_tokens = 64};
        assert_int_equal(sr_queue_set(s.router, &small, NULL), SR_OK);
        s.gate.largest = 0;
        assert_int_equal(sr_submit_list(s.router, texts, 700, &options, take, &a, NULL, NULL),
                         SR_OK);
        drain(&s);
        assert_int_equal(a.calls, 1);
        assert_int_equal(a.status, SR_OK);
        assert_int_equal(a.count, 700);
        assert_string_equal(a.route, "parcel");
        assert_true(s.gate.largest < 40); /* in several batches */
        assert_int_equal(a.timings.batch_texts, s.gate.largest);
    }
    tear_down(&s);
}

static void vectors_are_those_of_the_encoder(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a = {0};
    float expected[TOY_DIMENSION];
    sr_str text = sr_str_of("some text");
    sr_submit_options options = {.size = sizeof options, .flags = SR_SUBMIT_VECTORS};
    assert_true(submit(&s, "some text", &options, &a) != 0);
    drain(&s);
    assert_int_equal(a.status, SR_OK);
    assert_int_equal(a.count, 1);
    assert_int_equal(sr_encoder_encode(s.encoder, &text, 1, expected, NULL, NULL), SR_OK);
    assert_true((float)a.score == expected[0]);
    sr_vectors *vectors = NULL;
    assert_int_equal(sr_router_encode(s.router, &text, 1, &vectors, NULL), SR_OK);
    assert_memory_equal(vectors->values, expected, sizeof expected);
    assert_int_equal(vectors->dimension, TOY_DIMENSION);
    sr_vectors_free(&vectors);
    tear_down(&s);
}

static void what_waits_joins_one_batch(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a[40] = {0};
    shut(&s.gate);
    submit(&s, "money 0", NULL, &a[0]);
    wait_inside(&s.gate);
    for (int i = 1; i < 40; i++) submit(&s, "money", NULL, &a[i]);
    sr_queue_counts c = counts(&s);
    assert_int_equal(c.waiting_texts, 39);
    assert_int_equal(c.waiting_bytes, 39 * 5);
    assert_int_equal(c.running_texts, 1);
    open_gate(&s.gate);
    drain(&s);
    for (int i = 0; i < 40; i++) assert_int_equal(a[i].calls, 1);
    assert_int_equal(s.gate.calls, 2);
    assert_int_equal(a[7].timings.batch_texts, 39);
    assert_int_equal(counts(&s).batches, 2);
    tear_down(&s);
}

static void options_of_each_submission_hold_within_a_batch(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer first = {0}, a = {0}, b = {0}, c = {0};
    sr_decide_options strict = {.size = sizeof strict, .path = SR_PATH_SLOW};
    sr_decide_options lenient = {.size = sizeof lenient, .no_reject = 1, .top_k = -1};
    sr_decide_options fast = {.size = sizeof fast, .path = SR_PATH_FAST};
    sr_submit_options with_strict = {.size = sizeof with_strict, .decide = &strict};
    sr_submit_options with_lenient = {.size = sizeof with_lenient, .decide = &lenient};
    sr_submit_options with_fast = {
        .size = sizeof with_fast, .decide = &fast, .flags = SR_SUBMIT_AWAY};
    shut(&s.gate);
    submit(&s, "money 0", NULL, &first);
    wait_inside(&s.gate);
    submit(&s, "zzz qqq", &with_strict, &a);
    submit(&s, "zzz qqq", &with_lenient, &b);
    submit(&s, "zzz qqq", &with_fast, &c);
    open_gate(&s.gate);
    drain(&s);
    assert_string_equal(a.route, "");
    assert_true(b.route[0] != '\0');
    assert_int_equal(c.status, SR_ERR_UNSUPPORTED); /* and nobody else suffers */
    assert_int_equal(a.status, SR_OK);
    assert_int_equal(counts(&s).failed, 1);
    tear_down(&s);
}

/* ---- Saying no ---------------------------------------------------------------------------------------- */

static void past_the_bound_the_answer_is_no_at_once(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    static answer a[12];
    memset(a, 0, sizeof a);
    sr_queue_options bound = {.size = sizeof bound, .max_texts = 8};
    sr_error error;
    assert_int_equal(sr_queue_set(s.router, &bound, NULL), SR_OK);
    shut(&s.gate);
    submit(&s, "money", NULL, &a[0]);
    wait_inside(&s.gate);
    int taken = 1;
    while (sr_submit(s.router, sr_str_of("money"), NULL, take, &a[taken], NULL, &error) == SR_OK)
        assert_true(++taken < 12);
    assert_int_equal(error.code, SR_ERR_OVERLOADED);
    assert_int_equal(counts(&s).shed, 1);
    assert_true(taken > 6 && taken <= 9);
    /* A key that has nothing waiting is let in where the busy one is not. */
    sr_submit_options other = {.size = sizeof other, .key = 7};
    answer late = {0};
    submit(&s, "parcel", &other, &late);
    open_gate(&s.gate);
    drain(&s);
    for (int i = 0; i < 12; i++) assert_int_equal(a[i].calls, i < taken);
    assert_int_equal(late.calls, 1);
    sr_str nine[9];
    for (int i = 0; i < 9; i++) nine[i] = sr_str_of("parcel");
    assert_int_equal(sr_submit_list(s.router, nine, 9, NULL, take, &late, NULL, NULL),
                     SR_ERR_LIMIT);
    assert_int_equal(sr_submit_list(s.router, nine, 8, NULL, take, &late, NULL, NULL), SR_OK);
    drain(&s);
    tear_down(&s);
}

static void bytes_are_bounded_too(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a[3] = {0};
    sr_queue_options bound = {.size = sizeof bound, .max_bytes = 1000};
    static char text[601];
    memset(text, 'x', 600);
    assert_int_equal(sr_queue_set(s.router, &bound, NULL), SR_OK);
    shut(&s.gate);
    submit(&s, "money", NULL, &a[0]);
    wait_inside(&s.gate);
    submit(&s, text, NULL, &a[1]);
    assert_int_equal(sr_submit(s.router, sr_str_of(text), NULL, take, &a[2], NULL, NULL),
                     SR_ERR_OVERLOADED);
    open_gate(&s.gate);
    drain(&s);
    assert_int_equal(a[2].calls, 0);
    tear_down(&s);
}

static void what_is_late_is_not_encoded(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer first = {0}, late = {0}, in_time = {0}, never = {0};
    sr_submit_options options = {.size = sizeof options};
    shut(&s.gate);
    submit(&s, "money", NULL, &first);
    wait_inside(&s.gate);
    uint64_t due = sr_steady_ns() + 20000000;
    options.deadline_ns = due;
    submit(&s, "late", &options, &late);
    options.deadline_ns = sr_steady_ns() + 60000000000u;
    submit(&s, "time", &options, &in_time);
    /* Told at the deadline, though the encoder is busy. */
    while (atomic_load(&late.calls) == 0) sched_yield();
    assert_int_equal(late.status, SR_ERR_TIMEOUT);
    assert_true(sr_steady_ns() < due + 5000000000u);
    open_gate(&s.gate);
    drain(&s);
    assert_int_equal(late.calls, 1);
    assert_int_equal(in_time.status, SR_OK);
    s.gate.order[s.gate.order_len] = '\0';
    assert_string_equal(s.gate.order, "mt");
    assert_int_equal(counts(&s).timed_out, 1);
    options.deadline_ns = 1;
    assert_int_equal(sr_submit(s.router, sr_str_of("x"), &options, take, &never, NULL, NULL),
                     SR_ERR_TIMEOUT);
    assert_int_equal(never.calls, 0);
    tear_down(&s);
}

/* After some batches the queue knows what one takes. */
static void a_deadline_that_cannot_be_met_is_refused(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    static answer a[64];
    memset(a, 0, sizeof a);
    sr_queue_options one = {.size = sizeof one, .batch_tokens = 4};
    assert_int_equal(sr_queue_set(s.router, &one, NULL), SR_OK);
    s.gate.delay_ns = 2000000;
    for (int i = 0; i < 32; i++) submit(&s, "money", NULL, &a[i]);
    drain(&s);
    for (int i = 0; i < 32; i++) submit(&s, "money", NULL, &a[32 + i]);
    uint64_t wait = sr_queue_wait(s.router, 0);
    assert_true(wait > 20000000 && wait < 2000000000);
    sr_submit_options options = {.size = sizeof options, .deadline_ns = sr_steady_ns() + 10000000};
    answer no = {0};
    assert_int_equal(sr_submit(s.router, sr_str_of("x"), &options, take, &no, NULL, NULL),
                     SR_ERR_OVERLOADED);
    /* A key of its own does not wait for all that. */
    options.key = 5;
    options.deadline_ns = sr_steady_ns() + 2000000000;
    assert_true(sr_queue_wait(s.router, 5) < wait);
    submit(&s, "x", &options, &no);
    drain(&s);
    assert_int_equal(no.status, SR_OK);
    tear_down(&s);
}

static void a_cancelled_text_is_not_encoded(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer first = {0}, gone = {0}, running = {0}, last = {0};
    shut(&s.gate);
    sr_ticket held = submit(&s, "running", NULL, &running);
    wait_inside(&s.gate);
    submit(&s, "first", NULL, &first);
    sr_ticket ticket = submit(&s, "gone", NULL, &gone);
    assert_int_equal(sr_cancel(s.router, ticket, NULL), SR_OK);
    assert_int_equal(gone.calls, 1);
    assert_int_equal(gone.status, SR_ERR_CANCELLED);
    assert_int_equal(sr_cancel(s.router, ticket, NULL), SR_ERR_NOT_FOUND);
    /* One that is being encoded: its answer is dropped. */
    assert_int_equal(sr_cancel(s.router, held, NULL), SR_OK);
    sr_ticket next = submit(&s, "last", NULL, &last);
    assert_true(next != ticket && next != held);
    open_gate(&s.gate);
    drain(&s);
    assert_int_equal(running.calls, 1);
    assert_int_equal(running.status, SR_ERR_CANCELLED);
    assert_int_equal(gone.calls, 1);
    assert_int_equal(first.status, SR_OK);
    assert_int_equal(sr_cancel(s.router, next, NULL), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_cancel(s.router, 0, NULL), SR_ERR_NOT_FOUND);
    assert_int_equal(sr_cancel(s.router, UINT64_MAX, NULL), SR_ERR_NOT_FOUND);
    s.gate.order[s.gate.order_len] = '\0';
    assert_string_equal(s.gate.order, "rfl");
    tear_down(&s);
}

static void bad_arguments_are_refused(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a = {0};
    sr_submit_options options = {.size = sizeof options, .flags = 64};
    sr_decide_options decide = {.size = sizeof decide, .top_k = -5};
    sr_queue_options queue = {.size = sizeof queue, .profile = (sr_queue_profile)9};
    assert_int_equal(sr_submit(s.router, sr_str_of("x"), &options, take, &a, NULL, NULL),
                     SR_ERR_INVALID);
    options = (sr_submit_options){.size = sizeof options, .decide = &decide};
    assert_int_equal(sr_submit(s.router, sr_str_of("x"), &options, take, &a, NULL, NULL),
                     SR_ERR_INVALID);
    assert_int_equal(sr_submit(s.router, sr_str_of("x"), NULL, NULL, NULL, NULL, NULL),
                     SR_ERR_INVALID);
    assert_int_equal(sr_submit(s.router, (sr_str){NULL, 4}, NULL, take, &a, NULL, NULL),
                     SR_ERR_INVALID);
    assert_int_equal(sr_queue_set(s.router, &queue, NULL), SR_ERR_INVALID);
    assert_int_equal(a.calls, 0);
    tear_down(&s);
}

static void a_text_that_the_encoder_cannot_take_harms_nobody_else(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer first = {0}, good = {0}, bad = {0}, fine = {0};
    s.gate.poison = "bad";
    shut(&s.gate);
    submit(&s, "money", NULL, &first);
    wait_inside(&s.gate);
    submit(&s, "good", NULL, &good);
    submit(&s, "bad", NULL, &bad);
    submit(&s, "fine", NULL, &fine);
    open_gate(&s.gate);
    drain(&s);
    assert_int_equal(good.status, SR_OK);
    assert_int_equal(bad.status, SR_ERR_CALLBACK);
    assert_non_null(strstr(bad.message, "7"));
    assert_int_equal(fine.status, SR_OK);
    tear_down(&s);
}

/* ---- Fairness ----------------------------------------------------------------------------------------- */

static void keys_take_turns(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    static answer a[220];
    memset(a, 0, sizeof a);
    sr_queue_options small = {.size = sizeof small, .batch_tokens = 40};
    sr_submit_options busy = {.size = sizeof busy, .key = 1},
                      rare = {.size = sizeof rare, .key = 2};
    assert_int_equal(sr_queue_set(s.router, &small, NULL), SR_OK);
    shut(&s.gate);
    submit(&s, "x", NULL, &a[0]);
    wait_inside(&s.gate);
    for (int i = 1; i <= 200; i++) submit(&s, "many texts of one", &busy, &a[i]);
    for (int i = 201; i <= 210; i++) submit(&s, "few texts of other", &rare, &a[i]);
    open_gate(&s.gate);
    drain(&s);
    size_t last = 0;
    for (size_t i = 0; i < s.gate.order_len; i++)
        if (s.gate.order[i] == 'f') last = i;
    assert_int_equal(s.gate.order_len, 211);
    assert_in_range(last, 10, 30); /* ten of each key, and a turn */
    tear_down(&s);
}

static submission *enter(lanes *all, submission *s, uint64_t key, sr_str *text) {
    *s = (submission){.key = key, .texts = text, .count = 1, .texts_left = 1};
    s->bytes_left = text->len;
    s->tokens_left = (text->len + 9) / 4;
    assert_true(sri_lanes_open(all, key));
    sri_lanes_enter(all, s, false);
    return s;
}

static void lanes_share_by_tokens(void **state) {
    (void)state;
    static char longer[200];
    memset(longer, 'l', sizeof longer);
    sr_str big = {longer, 200}, small = {"sm", 2};
    static submission of[400];
    lanes all = {0};
    for (int i = 0; i < 200; i++) {
        enter(&all, &of[2 * i], 1, &big);
        enter(&all, &of[2 * i + 1], 2, &small);
    }
    assert_int_equal(all.count, 2);
    size_t tokens[3] = {0};
    for (int i = 0; i < 100; i++) {
        size_t budget = 1000;
        piece taken;
        assert_true(sri_lanes_take(&all, &budget, 1, true, &taken));
        tokens[taken.of->key] += 1000 - budget;
    }
    /* Large texts pay for themselves. */
    assert_true(tokens[1] > tokens[2] / 2 && tokens[1] < tokens[2] * 2);
    size_t before = all.tokens;
    for (int i = 0; i < 400; i++)
        if (of[i].lane != NULL) sri_lanes_leave(&all, &of[i]);
    assert_true(before > 0);
    assert_int_equal(all.tokens + all.texts + all.bytes + all.count, 0);
    assert_null(all.turn);
    sri_lanes_free(&all);
}

/* ---- When to wait ---------------------------------------------------------------------------------------- */

static void waiting_pays_where_a_batch_has_a_cost_of_its_own(void **state) {
    (void)state;
    service local = {0}, remote = {0};
    for (uint64_t i = 0; i < 200; i++) {
        size_t tokens = 10 + i * 7 % 100;
        sri_service_note(&local, tokens, 200000 + tokens * 100000);
        sri_service_note(&remote, tokens, 20000000 + tokens * 1000);
        sri_service_arrival(&local, 1000000000 + i * 1000000);
        sri_service_arrival(&remote, 1000000000 + i * 1000000);
    }
    service_line line = sri_service_fit(&remote);
    assert_true(line.fixed > 19e6 && line.fixed < 21e6);
    assert_true(line.token > 900 && line.token < 1100);
    assert_int_equal(sri_service_worth(&local, 1, 10), 0);
    size_t worth = sri_service_worth(&remote, 1, 10);
    assert_in_range(worth, 10, 25); /* 20 ms over a text each ms */
    /* On a busy host a batch takes now longer, now shorter. */
    service noisy = {0};
    uint64_t seed = 1;
    for (uint64_t i = 0; i < 200; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t tokens = 10 + i * 7 % 100;
        sri_service_note(&noisy, tokens, tokens * 100000 + (seed >> 38) % 20000000);
        sri_service_arrival(&noisy, 1000000000 + i * 7000000);
    }
    assert_true(sri_service_fit(&noisy).sure < sri_service_fit(&noisy).fixed);
    service same = {0};
    for (int i = 0; i < 200; i++) sri_service_note(&same, 10, 1000000);
    assert_true(sri_service_fit(&same).fixed == 0); /* nothing is known of other sizes */
}

static void throughput_waits_for_a_full_batch(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a[16] = {0};
    sr_queue_options options = {.size = sizeof options,
                                .profile = SR_QUEUE_THROUGHPUT,
                                .batch_tokens = 48,
                                .max_wait_us = 10000000};
    assert_int_equal(sr_queue_set(s.router, &options, NULL), SR_OK);
    for (int i = 0; i < 16; i++) submit(&s, "money", NULL, &a[i]); /* 3 tokens each */
    drain(&s);
    assert_int_equal(s.gate.calls, 1);
    options.max_wait_us = 20000;
    assert_int_equal(sr_queue_set(s.router, &options, NULL), SR_OK);
    uint64_t begun = sr_steady_ns();
    submit(&s, "money", NULL, &a[0]);
    drain(&s);
    assert_true(sr_steady_ns() - begun >= 20000000);
    tear_down(&s);
}

/* ---- Hooks, re-entrancy, closing -------------------------------------------------------------------------- */

static atomic_int batches_told;
static void tell(void *user) { atomic_fetch_add((atomic_int *)user, 1); }

static void a_hook_is_called_once_a_batch(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a[21] = {0};
    sr_queue_options options = {
        .size = sizeof options, .batch_done = tell, .batch_user = &batches_told};
    assert_int_equal(sr_queue_set(s.router, &options, NULL), SR_OK);
    shut(&s.gate);
    submit(&s, "money", NULL, &a[0]);
    wait_inside(&s.gate);
    for (int i = 1; i < 21; i++) submit(&s, "money", NULL, &a[i]);
    open_gate(&s.gate);
    tear_down(&s); /* may cancel what waits, without the hook */
    assert_in_range(atomic_load(&batches_told), 1, 2);
}

typedef struct chain {
    scene *s;
    atomic_int left, refused, calls;
} chain;

static void submit_again(void *user, const sr_completion *done) {
    chain *self = user;
    sr_decisions *decisions = done->decisions;
    sr_decisions_free(&decisions);
    atomic_fetch_add(&self->calls, 1);
    if (atomic_fetch_sub(&self->left, 1) <= 1) return;
    if (sr_submit(self->s->router, sr_str_of("money"), NULL, submit_again, self, NULL, NULL) !=
        SR_OK)
        atomic_fetch_add(&self->refused, 1);
}

static void callbacks_may_submit(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    chain c = {.s = &s, .left = 50};
    assert_int_equal(sr_submit(s.router, sr_str_of("money"), NULL, submit_again, &c, NULL, NULL),
                     SR_OK);
    drain(&s);
    assert_int_equal(c.calls, 50);
    tear_down(&s);
}

static void closing_answers_all_that_was_accepted(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        scene s;
        set_up(&s);
        static answer a[300];
        memset(a, 0, sizeof a);
        chain c = {.s = &s, .left = 1000000};
        sr_queue_options small = {.size = sizeof small, .batch_tokens = 20};
        assert_int_equal(sr_queue_set(s.router, &small, NULL), SR_OK);
        for (int i = 0; i < 300; i++) {
            sr_submit_options options = {.size = sizeof options, .key = (uint64_t)i % 3};
            if (i % 4 == 0) options.deadline_ns = sr_steady_ns() + 50000 * (uint64_t)i;
            if (i % 5 == 0) options.flags = SR_SUBMIT_AWAY;
            if (i % 7 == 0) options.flags |= SR_SUBMIT_VECTORS;
            sr_error error;
            sr_status code = sr_submit(s.router, sr_str_of("money or parcel"), &options, take,
                                       &a[i], NULL, &error);
            if (code != SR_OK) atomic_store(&a[i].calls, 1);
        }
        assert_int_equal(
            sr_submit(s.router, sr_str_of("money"), NULL, submit_again, &c, NULL, NULL), SR_OK);
        tear_down(&s);
        for (int i = 0; i < 300; i++) assert_int_equal(a[i].calls, 1);
        assert_int_equal(c.refused, 1);
    }
}

/* ---- A table that changes ----------------------------------------------------------------------------------- */

static void a_removed_route_is_not_in_an_answer_that_was_waiting(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    answer a = {0};
    shut(&s.gate);
    submit(&s, "refund my money", NULL, &a);
    wait_inside(&s.gate);
    sr_receipt receipt;
    assert_int_equal(sr_route_remove(s.router, sr_str_of("money"), &receipt, NULL), SR_OK);
    open_gate(&s.gate);
    drain(&s);
    assert_int_equal(a.status, SR_OK);
    assert_int_equal(a.revision, receipt.revision);
    assert_string_not_equal(a.route, "money");
    tear_down(&s);
}

/* ---- The shipped model ------------------------------------------------------------------------------------ */

static char model[600];

enum { MODEL_TEXTS = 60 };

typedef struct kept {
    sr_decisions *decisions;
    sr_vectors *vectors;
} kept;

static void keep(void *user, const sr_completion *done) {
    *(kept *)user = (kept){done->decisions, done->vectors};
}

static void expect_same(const sr_decision *a, const sr_decision *b) {
    assert_true(a->route.len == b->route.len &&
                memcmp(a->route.data, b->route.data, a->route.len) == 0);
    assert_memory_equal(&a->score, &b->score, sizeof a->score);
    assert_memory_equal(&a->confidence, &b->confidence, sizeof a->confidence);
    assert_memory_equal(&a->margin, &b->margin, sizeof a->margin);
    assert_int_equal(a->truncated, b->truncated);
    assert_int_equal(a->reason, b->reason);
    assert_int_equal(a->candidate_count, b->candidate_count);
}

/* Texts of all lengths, a few longer than the model reads. */
static void make_texts(sr_str *texts, char (*store)[6000]) {
    for (int i = 0; i < MODEL_TEXTS; i++) {
        size_t len = 0, words = i % 20 == 19 ? 700 : (size_t)(i * 7 % 23 + 1);
        for (size_t k = 0; k < words; k++)
            len += (size_t)snprintf(store[i] + len, 6000 - len, "%s ",
                                    (i + (int)k) % 3 == 0 ? "refund" : "parcel");
        texts[i] = (sr_str){store[i], len};
    }
}

static void with_a_model_all_is_as_by_decide(void **state) {
    (void)state;
    static char store[MODEL_TEXTS][6000];
    sr_str texts[MODEL_TEXTS];
    kept each[MODEL_TEXTS] = {{0}}, list = {0}, vectors = {0};
    sr_decisions *expected = NULL;
    sr_options options = {
        .size = sizeof options, .model = model, .threads = 2, .cache_bytes = 1 << 20};
    sr_submit_options wants = {.size = sizeof wants, .flags = SR_SUBMIT_VECTORS};
    sr_router *router = NULL;
    assert_int_equal(sr_router_open(&options, &router, NULL), SR_OK);
    assert_int_equal(toy_put(router, "money", "refund my money|no money", 0, NULL, NULL), SR_OK);
    assert_int_equal(toy_put(router, "parcel", "where is my parcel|late", 0, NULL, NULL), SR_OK);
    make_texts(texts, store);
    for (int i = 0; i < MODEL_TEXTS; i++)
        assert_int_equal(sr_submit(router, texts[i], NULL, keep, &each[i], NULL, NULL), SR_OK);
    assert_int_equal(sr_submit_list(router, texts, MODEL_TEXTS, NULL, keep, &list, NULL, NULL),
                     SR_OK);
    assert_int_equal(sr_submit_list(router, texts, MODEL_TEXTS, &wants, keep, &vectors, NULL, NULL),
                     SR_OK);
    assert_int_equal(sr_queue_drain(router, 0, NULL), SR_OK);
    assert_int_equal(sr_decide(router, texts, MODEL_TEXTS, NULL, &expected, NULL), SR_OK);
    sr_encoder *encoder = NULL;
    sr_encoder_options plain = {.size = sizeof plain, .model = model, .threads = 1};
    assert_int_equal(sr_encoder_open(&plain, &encoder, NULL), SR_OK);
    for (int i = 0; i < MODEL_TEXTS; i++) {
        size_t at = (size_t)i, count;
        int32_t ids[512];
        uint8_t cut;
        expect_same(sr_decisions_get(each[i].decisions, 0), sr_decisions_get(expected, at));
        expect_same(sr_decisions_get(list.decisions, at), sr_decisions_get(expected, at));
        assert_true(sr_decisions_timings(each[i].decisions)->batch_texts > 0);
        assert_int_equal(
            sr_encoder_tokenize(encoder, texts[i], ids, SRI_COUNT(ids), &count, &cut, NULL), SR_OK);
        assert_int_equal(vectors.vectors->tokens[i], count);
        assert_int_equal(vectors.vectors->truncated[i], cut);
        sr_decisions_free(&each[i].decisions);
    }
    sr_encoder_close(&encoder);
    sr_decisions_free(&list.decisions);
    sr_decisions_free(&expected);
    sr_vectors_free(&vectors.vectors);
    sr_router_close(&router);
}

/* ---- Many threads -------------------------------------------------------------------------------------------- */

enum { THREADS = 8, EACH = 400 };

typedef struct crowd {
    scene *s;
    uint64_t seed;
    atomic_int called, accepted;
    atomic_int not_once;
} crowd;

typedef struct one {
    crowd *of;
    atomic_int calls;
} one;

static void count_one(void *user, const sr_completion *done) {
    one *self = user;
    sr_decisions *decisions = done->decisions;
    sr_vectors *vectors = done->vectors;
    sr_decisions_free(&decisions);
    sr_vectors_free(&vectors);
    if (atomic_fetch_add(&self->calls, 1) != 0) atomic_fetch_add(&self->of->not_once, 1);
    atomic_fetch_add(&self->of->called, 1);
}

static one crowd_slots[THREADS][EACH];

static void *crowd_work(void *user) {
    void **arguments = user;
    crowd *self = arguments[0];
    one *slots = arguments[1];
    uint64_t seed = (uint64_t)(uintptr_t)slots;
    for (int i = 0; i < EACH; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned dice = (unsigned)(seed >> 33);
        sr_submit_options options = {.size = sizeof options, .key = dice % 5};
        if (dice % 3 == 0) options.deadline_ns = sr_steady_ns() + dice % 3000000;
        if (dice % 11 == 0) options.flags = SR_SUBMIT_AWAY;
        if (dice % 13 == 0) options.flags = SR_SUBMIT_VECTORS;
        sr_str texts[] = {sr_str_of("my money"), sr_str_of(" "), sr_str_of("a parcel of mine")};
        sr_ticket ticket;
        slots[i].of = self;
        if (sr_submit_list(self->s->router, texts, 1 + dice % 3, &options, count_one, &slots[i],
                           &ticket, NULL) != SR_OK)
            continue;
        atomic_fetch_add(&self->accepted, 1);
        if (dice % 7 == 0) (void)!sr_cancel(self->s->router, ticket, NULL);
        if (dice % 29 == 0)
            (void)!toy_put(self->s->router, "changing", dice % 2 ? "one|two" : "three",
                           SR_PUT_REPLACE, NULL, NULL);
    }
    return NULL;
}

static void each_is_answered_once_whatever_happens(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    crowd c = {.s = &s};
    pthread_t threads[THREADS];
    void *arguments[THREADS][2];
    memset(crowd_slots, 0, sizeof crowd_slots);
    sr_queue_options small = {.size = sizeof small, .batch_tokens = 40, .max_texts = 64};
    assert_int_equal(sr_queue_set(s.router, &small, NULL), SR_OK);
    for (int i = 0; i < THREADS; i++) {
        arguments[i][0] = &c;
        arguments[i][1] = crowd_slots[i];
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_work, arguments[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    drain(&s);
    sr_queue_counts end = counts(&s);
    assert_int_equal(end.accepted, c.accepted);
    assert_int_equal(end.answered, c.accepted);
    assert_int_equal(end.waiting_texts + end.waiting_bytes + end.waiting_tokens + end.waiting_keys +
                         end.running_texts,
                     0);
    tear_down(&s);
    assert_int_equal(c.called, c.accepted);
    assert_int_equal(c.not_once, 0);
    assert_true(c.accepted > 0);
}

int main(int argc, char **argv) {
    (void)argc;
    snprintf(model, sizeof model, "%s/models/bge-small-en-v1.5", argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_that_of_decide),
        cmocka_unit_test(what_needs_no_model_is_answered_before_the_call_returns),
        cmocka_unit_test(a_list_is_answered_together),
        cmocka_unit_test(vectors_are_those_of_the_encoder),
        cmocka_unit_test(what_waits_joins_one_batch),
        cmocka_unit_test(options_of_each_submission_hold_within_a_batch),
        cmocka_unit_test(past_the_bound_the_answer_is_no_at_once),
        cmocka_unit_test(bytes_are_bounded_too),
        cmocka_unit_test(what_is_late_is_not_encoded),
        cmocka_unit_test(a_deadline_that_cannot_be_met_is_refused),
        cmocka_unit_test(a_cancelled_text_is_not_encoded),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(a_text_that_the_encoder_cannot_take_harms_nobody_else),
        cmocka_unit_test(keys_take_turns),
        cmocka_unit_test(lanes_share_by_tokens),
        cmocka_unit_test(waiting_pays_where_a_batch_has_a_cost_of_its_own),
        cmocka_unit_test(throughput_waits_for_a_full_batch),
        cmocka_unit_test(a_hook_is_called_once_a_batch),
        cmocka_unit_test(callbacks_may_submit),
        cmocka_unit_test(closing_answers_all_that_was_accepted),
        cmocka_unit_test(a_removed_route_is_not_in_an_answer_that_was_waiting),
        cmocka_unit_test(with_a_model_all_is_as_by_decide),
        cmocka_unit_test(each_is_answered_once_whatever_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
