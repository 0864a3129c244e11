/*
 * load_run.c - sends requests over many connections from one thread, and takes down what comes back.
 *
 * OPEN LOOP. With a rate, each request has an intended time, from a Poisson process or at constant distances,
 * which does not depend on the answers; its latency counts from then to the end of its answer. A request whose time
 * has come while all connections are busy waits, and that wait counts too. Were it sent and measured only
 * when a connection is free, a server that stands still for a second would cost one slow request instead of a second's
 * worth of them: "coordinated omission" (Gil Tene, "How not to measure latency"; his wrk2 measures as here).
 *
 * What waits needs no queue: intended times are drawn one after the other, and the next to be sent is drawn when
 * the one before has been sent. So the generator's memory does not grow with a backlog.
 *
 * CLOSED LOOP. Without a rate, a connection sends when it has its answer. That finds the highest rate; its
 * latencies hold for just that many callers, who wait for one another.
 *
 * One thread: a request costs some ten microseconds, most of them the kernel's, and a second thread would take
 * them from the server that runs on the same machine.
 */
#include "load.h"

#include "base/poller.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define TICK         5000000u   /* ns between looks for requests that are late */
#define RETRY        100000000u /* ns of peace after a connection failed, in a closed loop */
#define SECOND       1000000000u
#define EVENTS       256
#define SENT_AT_ONCE 64 /* before answers are looked at again */

enum { FREE, CONNECTING, SENDING, RECEIVING };

typedef struct connection {
    int descriptor; /* -1: closed */
    int state;
    uint64_t due;     /* intended time of the request that is under way */
    uint64_t free_at; /* since when it has none */
    size_t request, sent;
    load_answer answer;
} connection;

typedef struct load {
    const load_plan *plan;
    const load_target *target;
    const load_requests *requests;
    load_result *result;
    sri_poller poller;
    connection *connections;
    uint32_t *free; /* ring of the connections without a request, longest free first */
    size_t count, free_count, free_first;
    size_t next_request;
    uint64_t begin, end;     /* of the measurement */
    uint64_t next_due;       /* of the request to be sent next */
    uint64_t timeout;        /* ns */
    uint64_t no_send_before; /* closed loop, after a failed connection */
    uint64_t second_end, last;
    uint64_t random;
    double exact_due; /* next_due with its fraction */
    double cpu_before;
    sr_error *error;
} load;

uint64_t load_errors(const load_result *result) {
    uint64_t sum = 0;
    for (size_t i = 0; i < LOAD_ERROR_KINDS; i++) sum += result->errors[i];
    for (size_t i = 0; i < SRI_COUNT(result->statuses); i++) sum += result->statuses[i];
    return sum;
}

/* ---- Arrivals ---------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void draw_next(load *l) {
    double gap = 1e9 / l->plan->rate;
    if (!l->plan->constant) {
        double uniform = ((double)(next_random(&l->random) >> 11) + 0.5) * 0x1p-53;
        gap *= -log(uniform);
    }
    l->exact_due += gap;
    l->next_due = (uint64_t)l->exact_due;
}

/* ---- Taking down ------------------------------------------------------------------------------- */

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Closes the seconds that are over at `now`; false when memory is short. */
static bool close_seconds(load *l, uint64_t now) {
    load_result *r = l->result;
    while (now >= l->second_end) {
        if (!sri_grow((void **)&r->seconds, &r->second_capacity, r->second_count + 2,
                      sizeof *r->seconds))
            return false;
        load_second *second = &r->seconds[r->second_count++];
        second->p50 = sri_histogram_quantile(&r->current, 0.50);
        second->p99 = sri_histogram_quantile(&r->current, 0.99);
        second->max = r->current.count == 0 ? NAN : (double)r->current.max;
        r->current = (sri_histogram){0};
        r->seconds[r->second_count] = (load_second){0};
        l->second_end += SECOND;
    }
    return true;
}

static bool is_measured(const load *l, uint64_t due) { return due >= l->begin && due < l->end; }

/* The counts of the second that runs; there is always room for it. */
static load_second *this_second(load *l) { return &l->result->seconds[l->result->second_count]; }

static void count_error(load *l, uint64_t due, uint64_t now, load_error kind) {
    if (!is_measured(l, due)) return;
    l->result->errors[kind]++;
    this_second(l)->errors++;
    l->last = now;
}

static void keep_first_error(load_result *result, const load_answer *answer) {
    if (result->first_status != 0) return;
    result->first_status = answer->status;
    memcpy(result->first_excerpt, answer->excerpt, answer->excerpt_len);
    result->first_excerpt[answer->excerpt_len] = '\0';
}

static void count_answer(load *l, const connection *c, uint64_t now) {
    if (!is_measured(l, c->due)) return;
    int status = c->answer.status;
    load_result *r = l->result;
    if (status >= 200 && status < 300) {
        sri_histogram_add(&r->ok, now - c->due);
        sri_histogram_add(&r->current, now - c->due);
        this_second(l)->ok++;
    } else if (status == 503) {
        sri_histogram_add(&r->shed, now - c->due);
        this_second(l)->shed++;
    } else {
        r->statuses[status]++;
        this_second(l)->errors++;
        keep_first_error(r, &c->answer);
    }
    l->last = now;
}

/* ---- Connections ------------------------------------------------------------------------------- */

static void drop(connection *c) {
    if (c->descriptor >= 0) close(c->descriptor);
    c->descriptor = -1;
}

static void release(load *l, connection *c, uint64_t now) {
    c->state = FREE;
    c->free_at = now;
    l->free[(l->free_first + l->free_count++) % l->count] = (uint32_t)(c - l->connections);
}

static void fail(load *l, connection *c, uint64_t now, load_error kind) {
    count_error(l, c->due, now, kind);
    drop(c);
    if (kind == LOAD_CONNECT) l->no_send_before = now + RETRY;
    release(l, c, now);
}

static void finish(load *l, connection *c, uint64_t now) {
    count_answer(l, c, now);
    /* An answer to a request that was not sent whole leaves nothing to go on with. */
    if (!c->answer.keep || c->state == SENDING) drop(c);
    release(l, c, now);
}

static void send_rest(const load *l, connection *c) {
    const load_requests *requests = l->requests;
    const char *bytes = requests->bytes.data + requests->starts[c->request];
    size_t len = requests->starts[c->request + 1] - requests->starts[c->request];
    while (c->sent < len) {
        ssize_t wrote = send(c->descriptor, bytes + c->sent, len - c->sent, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        /* An error here is no failure yet: the server may have answered before it closed. */
        if (wrote < 0) break;
        c->sent += (size_t)wrote;
    }
    c->state = RECEIVING;
}

static void open_connection(load *l, connection *c, uint64_t now) {
    int one = 1;
    sr_error error;
    c->state = CONNECTING;
    c->descriptor = socket(l->target->address.ss_family, SOCK_STREAM, 0);
    if (c->descriptor < 0 || fcntl(c->descriptor, F_SETFL, O_NONBLOCK) != 0) {
        fail(l, c, now, LOAD_CONNECT);
        return;
    }
    setsockopt(c->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int done = connect(c->descriptor, (const struct sockaddr *)&l->target->address,
                       l->target->address_len);
    if ((done != 0 && errno != EINPROGRESS) ||
        sri_poller_add(&l->poller, c->descriptor, c, &error) != SR_OK)
        fail(l, c, now, LOAD_CONNECT);
}

/* Sends the next request on the connection that has been free for longest. */
static void send_next(load *l, uint64_t now) {
    connection *c = &l->connections[l->free[l->free_first]];
    l->free_first = (l->free_first + 1) % l->count;
    l->free_count--;
    c->due = l->next_due;
    c->request = l->next_request;
    c->sent = 0;
    l->next_request = (l->next_request + 1) % l->requests->count;
    load_answer_begin(&c->answer);
    if (is_measured(l, c->due)) {
        if (c->free_at <= c->due)
            sri_histogram_add(&l->result->late, now - c->due);
        else
            l->result->waited++;
    }
    if (c->descriptor < 0) {
        open_connection(l, c, now);
        return;
    }
    c->state = SENDING;
    send_rest(l, c);
}

/* Reads what has come, until nothing has or the answer is whole. */
static void receive(load *l, connection *c) {
    char bytes[65536];
    for (;;) {
        ssize_t got = recv(c->descriptor, bytes, sizeof bytes, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        load_progress progress = LOAD_MALFORMED;
        if (got > 0) progress = load_answer_take(&c->answer, bytes, (size_t)got);
        if (got == 0) progress = load_answer_end(&c->answer);
        uint64_t now = sri_nanoseconds();
        if (progress == LOAD_WHOLE)
            finish(l, c, now);
        else if (got <= 0)
            fail(l, c, now, LOAD_CLOSED);
        else if (progress == LOAD_MALFORMED)
            fail(l, c, now, LOAD_NO_HTTP);
        else
            continue;
        return;
    }
}

static void finish_connecting(load *l, connection *c, uint64_t now) {
    int problem = 0;
    socklen_t len = sizeof problem;
    if (getsockopt(c->descriptor, SOL_SOCKET, SO_ERROR, &problem, &len) != 0 || problem != 0) {
        fail(l, c, now, LOAD_CONNECT);
        return;
    }
    c->state = SENDING;
    send_rest(l, c);
}

static void take_event(load *l, const sri_poll_event *event) {
    connection *c = event->user;
    if (c->descriptor < 0) return;
    if (c->state == FREE) {
        if (event->closed || event->readable) drop(c); /* nothing was asked for */
        return;
    }
    if (c->state == CONNECTING && (event->writable || event->closed))
        finish_connecting(l, c, sri_nanoseconds());
    else if (c->state == SENDING && event->writable)
        send_rest(l, c);
    if ((c->state == SENDING || c->state == RECEIVING) && event->readable) receive(l, c);
}

/* ---- The loop ---------------------------------------------------------------------------------- */

static bool is_open_loop(const load *l) { return l->plan->rate > 0; }

/* Sends what is due. Requests that have waited for a connection for the whole of their time fail unsent. */
static void send_due(load *l, uint64_t now) {
    if (!is_open_loop(l)) {
        if (now < l->no_send_before) return;
        for (size_t i = l->free_count; i > 0 && now < l->end; i--) {
            l->next_due = sri_nanoseconds();
            send_next(l, l->next_due);
        }
        return;
    }
    while (l->next_due < l->end && l->next_due + l->timeout <= now) {
        count_error(l, l->next_due, now, LOAD_TIMEOUT);
        l->result->waited += is_measured(l, l->next_due);
        draw_next(l);
    }
    for (int i = 0; i < SENT_AT_ONCE && l->free_count > 0 && l->next_due < l->end; i++) {
        if (l->next_due > now) now = sri_nanoseconds();
        if (l->next_due > now) return;
        send_next(l, now);
        draw_next(l);
    }
}

static void fail_late(load *l, uint64_t now) {
    for (size_t i = 0; i < l->count; i++) {
        connection *c = &l->connections[i];
        if (c->state != FREE && c->due + l->timeout <= now) fail(l, c, now, LOAD_TIMEOUT);
    }
}

static uint64_t time_to_wait(const load *l, uint64_t now) {
    if (!is_open_loop(l) || l->free_count == 0 || l->next_due >= l->end) return TICK;
    return l->next_due <= now ? 0 : SRI_MIN(l->next_due - now, (uint64_t)TICK);
}

static bool is_over(const load *l, uint64_t now) {
    bool all_sent = is_open_loop(l) ? l->next_due >= l->end : now >= l->end;
    return now >= l->end && all_sent && l->free_count == l->count;
}

static sr_status run(load *l, sr_progress_fn *progress, void *user) {
    sri_poll_event events[EVENTS];
    uint64_t looked = 0, began = sri_nanoseconds();
    for (;;) {
        uint64_t now = sri_nanoseconds();
        if (!close_seconds(l, now)) return sri_fail_memory(l->error);
        if (now < l->begin) l->cpu_before = cpu_seconds();
        if (is_over(l, now)) return SR_OK;
        send_due(l, now);
        if (now - looked >= TICK) {
            fail_late(l, now);
            looked = now;
            if (progress(user, SRI_MIN(now, l->end) - began, l->end - began) != 0) {
                l->result->interrupted = true;
                return SR_OK;
            }
        }
        size_t count =
            sri_poller_wait(&l->poller, events, EVENTS, time_to_wait(l, sri_nanoseconds()));
        for (size_t i = 0; i < count; i++) take_event(l, &events[i]);
    }
}

static sr_status prepare(load *l) {
    l->count = (size_t)l->plan->connections;
    l->connections = sri_alloc_zero(l->count, sizeof *l->connections);
    l->free = sri_alloc_array(l->count, sizeof *l->free);
    load_result *r = l->result;
    if (l->connections == NULL || l->free == NULL ||
        !sri_grow((void **)&r->seconds, &r->second_capacity, 1, sizeof *r->seconds))
        return sri_fail_memory(l->error);
    r->seconds[0] = (load_second){0};
    uint64_t now = sri_nanoseconds();
    for (size_t i = 0; i < l->count; i++) {
        l->connections[i].descriptor = -1;
        release(l, &l->connections[i], now);
    }
    l->timeout = (uint64_t)(l->plan->timeout * 1e9);
    l->begin = now + (uint64_t)(l->plan->warmup * 1e9);
    l->end = l->begin + (uint64_t)(l->plan->duration * 1e9);
    l->second_end = l->begin + SECOND;
    l->random = l->plan->seed;
    l->exact_due = (double)now;
    if (is_open_loop(l)) draw_next(l);
    return sri_poller_open(&l->poller, l->error);
}

/* The last second is a whole one only when it was cut by nothing. */
static void conclude(load *l) {
    uint64_t now = sri_nanoseconds(), last = SRI_MAX(l->last, SRI_MIN(now, l->end));
    load_result *r = l->result;
    r->elapsed = last > l->begin ? (double)(last - l->begin) * 1e-9 : 0;
    double span = now > l->begin ? (double)(now - l->begin) * 1e-9 : 0;
    r->cpu_share = span > 0 ? (cpu_seconds() - l->cpu_before) / span : 0;
    const load_second *rest = this_second(l);
    if (rest->ok + rest->shed + rest->errors > 0 && !close_seconds(l, l->second_end))
        r->second_count = 0;
}

sr_status load_run(const load_plan *plan, const load_target *target, const load_requests *requests,
                   sr_progress_fn *progress, void *user, load_result *result, sr_error *error) {
    load l = {.plan = plan,
              .target = target,
              .requests = requests,
              .result = result,
              .poller = {-1},
              .cpu_before = cpu_seconds(),
              .error = error};
    sri_exact_timers();
    sr_status code = prepare(&l);
    if (code == SR_OK) code = run(&l, progress, user);
    if (code == SR_OK) conclude(&l);
    for (size_t i = 0; l.connections != NULL && i < l.count; i++) drop(&l.connections[i]);
    sri_poller_close(&l.poller);
    sri_free(l.connections);
    sri_free(l.free);
    return code;
}
