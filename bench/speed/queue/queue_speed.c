/*
 * queue_speed.c - how fast the queue decides, beside sr_decide(); queue.py runs it. One JSON line of figures.
 *
 *     queue_speed DATABASE TEXTS PATH SECONDS decide N              sr_decide() of N texts at once, as `route -` does
 *     queue_speed DATABASE TEXTS PATH SECONDS closed N [TOKENS]     N submissions in flight, each followed by the next
 *     queue_speed DATABASE TEXTS PATH SECONDS open RATE [TOKENS [PROFILE [DEADLINE]]]
 *                                                                   so many submissions a second, at random times;
 *                                                                   each with so many milliseconds, if not 0
 *     queue_speed DATABASE TEXTS PATH SECONDS lists N               lists of N texts, one after another
 *
 * Latencies of `open` count from the time when a text should have been sent, however late the sender was.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/base.h"
#include "base/histogram.h"

typedef struct run {
    sr_router *router;
    sr_decide_options decide;
    sr_str *texts;
    size_t count;
    uint64_t end, deadline, longest_no; /* ns; the last: that a refusal took */
    size_t refused, late;               /* late: answered after the deadline */
    atomic_size_t next, answered, failed;
    atomic_uint_fast64_t batch_tokens, batch_texts;
    atomic_uint_fast64_t queue_ns, fast_ns, encode_ns, search_ns,
        decide_ns; /* each text's part of its batch */
    sri_histogram
        latency; /* open only: one per thread of the queue would be better, but see take_open() */
    pthread_mutex_t mutex;
} run;

static void die(const char *what, const sr_error *error) {
    fprintf(stderr, "queue_speed: %s: %s\n", what, error == NULL ? "" : error->message);
    exit(1);
}

static sr_str next_text(run *self) {
    return self->texts[atomic_fetch_add(&self->next, 1) % self->count];
}

static void read_texts(run *self, const char *path) {
    sri_buffer buffer = {0};
    sr_error error;
    if (sri_read_file(path, (size_t)1 << 30, &buffer, &error) != SR_OK) die(path, &error);
    size_t capacity = 0;
    for (size_t start = 0; start < buffer.len;) {
        const char *newline = memchr(buffer.data + start, '\n', buffer.len - start);
        size_t end = newline == NULL ? buffer.len : (size_t)(newline - buffer.data);
        void *texts = self->texts;
        if (!sri_grow(&texts, &capacity, self->count + 1, sizeof *self->texts))
            die("no memory", NULL);
        self->texts = texts;
        if (end > start) self->texts[self->count++] = (sr_str){buffer.data + start, end - start};
        start = end + 1;
    }
    if (self->count == 0) die("no texts", NULL);
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

/* A batch's time is told in full to each text in it. */
static void add_timings(run *self, const sr_decisions *decisions) {
    const sr_timings *t = sr_decisions_timings(decisions);
    size_t n = sr_decisions_count(decisions), shared = SRI_MAX(t->batch_texts, n);
    atomic_fetch_add(&self->answered, n);
    atomic_fetch_add(&self->batch_tokens, t->batch_tokens * n);
    atomic_fetch_add(&self->batch_texts, t->batch_texts * n);
    atomic_fetch_add(&self->queue_ns, t->queue_ns * n);
    atomic_fetch_add(&self->fast_ns, t->fast_ns);
    atomic_fetch_add(&self->encode_ns, t->encode_ns * n / shared);
    atomic_fetch_add(&self->search_ns, t->search_ns * n / shared);
    atomic_fetch_add(&self->decide_ns, t->decide_ns * n / shared);
}

/* ---- sr_decide() ----------------------------------------------------------------------------------- */

static void decide_until(run *self, size_t at_once) {
    sr_str *batch = calloc(at_once, sizeof *batch);
    sr_error error;
    while (batch != NULL && sr_steady_ns() < self->end) {
        sr_decisions *decisions;
        for (size_t i = 0; i < at_once; i++) batch[i] = next_text(self);
        if (sr_decide(self->router, batch, at_once, &self->decide, &decisions, &error) != SR_OK)
            die("sr_decide", &error);
        add_timings(self, decisions);
        sr_decisions_free(&decisions);
    }
    free(batch);
}

/* ---- Submissions ----------------------------------------------------------------------------------- */

static bool count_answer(run *self, const sr_completion *done) {
    sr_decisions *decisions = done->decisions;
    if (decisions == NULL) {
        atomic_fetch_add(&self->failed, 1);
        return false;
    }
    add_timings(self, decisions);
    sr_decisions_free(&decisions);
    return true;
}

/* Answers that come before sr_submit() returns are followed by a loop, not by calls within calls. */
static _Thread_local bool submitting, again;

static void take_closed(void *user, const sr_completion *done) {
    run *self = user;
    sr_error error;
    count_answer(self, done);
    if (submitting) {
        again = true;
        return;
    }
    submitting = true;
    do {
        again = false;
        if (sr_steady_ns() >= self->end) break;
        sr_submit_options options = {.size = sizeof options, .decide = &self->decide};
        if (sr_submit(self->router, next_text(self), &options, take_closed, self, NULL, &error) !=
            SR_OK)
            die("sr_submit", &error);
    } while (again);
    submitting = false;
}

static void closed_until(run *self, size_t in_flight) {
    sr_error error;
    sr_submit_options options = {.size = sizeof options, .decide = &self->decide};
    for (size_t i = 0; i < in_flight; i++)
        if (sr_submit(self->router, next_text(self), &options, take_closed, self, NULL, &error) !=
            SR_OK)
            die("sr_submit", &error);
    if (sr_queue_drain(self->router, 0, &error) != SR_OK) die("drain", &error);
}

static void take_list(void *user, const sr_completion *done) { count_answer(user, done); }

static void lists_until(run *self, size_t n) {
    sr_str *list = calloc(n, sizeof *list);
    sr_error error;
    sr_submit_options options = {.size = sizeof options, .decide = &self->decide};
    while (list != NULL && sr_steady_ns() < self->end) {
        for (size_t i = 0; i < n; i++) list[i] = next_text(self);
        if (sr_submit_list(self->router, list, n, &options, take_list, self, NULL, &error) != SR_OK)
            die("sr_submit_list", &error);
        if (sr_queue_drain(self->router, 0, &error) != SR_OK) die("drain", &error);
    }
    free(list);
}

typedef struct sent {
    run *of;
    uint64_t due, deadline;
} sent;

static void take_open(void *user, const sr_completion *done) {
    sent *self = user;
    run *of = self->of;
    uint64_t now = sr_steady_ns();
    if (count_answer(of, done)) {
        pthread_mutex_lock(&of->mutex);
        sri_histogram_add(&of->latency, now - self->due);
        of->late += self->deadline != 0 && now > self->deadline;
        pthread_mutex_unlock(&of->mutex);
    }
    free(self);
}

static void open_until(run *self, double rate) {
    sr_submit_options options = {.size = sizeof options, .decide = &self->decide};
    sr_error error;
    srand48(7);
    double due = (double)sr_steady_ns();
    while (due < (double)self->end) {
        due += -log(1 - drand48()) / rate * 1e9;
        double now = (double)sr_steady_ns();
        struct timespec pause = {0, (long)SRI_MIN(due - now, 9e8)};
        if (due > now) nanosleep(&pause, NULL);
        sent *one = malloc(sizeof *one);
        if (one == NULL) die("no memory", NULL);
        uint64_t begun = sr_steady_ns();
        options.deadline_ns = self->deadline == 0 ? 0 : begun + self->deadline;
        *one = (sent){self, (uint64_t)due, options.deadline_ns};
        if (sr_submit(self->router, next_text(self), &options, take_open, one, NULL, &error) !=
            SR_OK) {
            self->longest_no = SRI_MAX(self->longest_no, sr_steady_ns() - begun);
            self->refused++;
            free(one);
        }
    }
    if (sr_queue_drain(self->router, 0, &error) != SR_OK) die("drain", &error);
}

/* ---- Figures ---------------------------------------------------------------------------------------- */

static void print(run *self, double seconds, double cpu) {
    size_t answered = atomic_load(&self->answered), failed = atomic_load(&self->failed);
    double n = (double)SRI_MAX(answered, (size_t)1);
    printf("{\"texts\":%zu,\"failed\":%zu,\"seconds\":%.4f,\"texts_per_second\":%.1f,"
           "\"cpu_us_per_text\":%.2f,\"batch_tokens\":%.1f,\"batch_texts\":%.1f",
           answered, failed, seconds, n / seconds, cpu / n * 1e6,
           (double)atomic_load(&self->batch_tokens) / n,
           (double)atomic_load(&self->batch_texts) / n);
    printf(",\"queue_us\":%.1f,\"fast_us\":%.2f,\"encode_us\":%.1f,\"search_us\":%.2f,\"decide_"
           "us\":%.2f",
           (double)atomic_load(&self->queue_ns) / n / 1e3,
           (double)atomic_load(&self->fast_ns) / n / 1e3,
           (double)atomic_load(&self->encode_ns) / n / 1e3,
           (double)atomic_load(&self->search_ns) / n / 1e3,
           (double)atomic_load(&self->decide_ns) / n / 1e3);
    if (self->latency.count > 0)
        printf(",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f",
               sri_histogram_quantile(&self->latency, 0.5) / 1e6,
               sri_histogram_quantile(&self->latency, 0.99) / 1e6,
               sri_histogram_quantile(&self->latency, 0.999) / 1e6);
    if (self->deadline != 0)
        printf(",\"refused\":%zu,\"late\":%zu,\"longest_refusal_ms\":%.3f", self->refused,
               self->late, (double)self->longest_no / 1e6);
    sr_queue_counts counts = {.size = sizeof counts};
    if (sr_queue_stats(self->router, &counts, NULL) == SR_OK)
        printf(",\"fixed_us\":%.1f,\"token_us\":%.3f", counts.batch_fixed_ns / 1e3,
               counts.batch_token_ns / 1e3);
    printf("}\n");
}

static void work(run *self, const char *mode, double number) {
    if (strcmp(mode, "decide") == 0)
        decide_until(self, (size_t)number);
    else if (strcmp(mode, "closed") == 0)
        closed_until(self, (size_t)number);
    else if (strcmp(mode, "lists") == 0)
        lists_until(self, (size_t)number);
    else
        open_until(self, number);
}

int main(int argc, char **argv) {
    static run self;
    sr_error error;
    if (argc < 7) die("usage: DATABASE TEXTS PATH SECONDS MODE NUMBER [TOKENS [PROFILE]]", NULL);
    double seconds = atof(argv[4]), number = atof(argv[6]);
    sr_options options = {.size = sizeof options, .database = argv[1], .flags = SR_OPEN_READ_ONLY};
    sr_queue_options queue = {.size = sizeof queue};
    self.decide = (sr_decide_options){.size = sizeof self.decide};
    if (strcmp(argv[3], "slow") == 0) self.decide.path = SR_PATH_SLOW;
    if (strcmp(argv[3], "fast") == 0) self.decide.path = SR_PATH_FAST;
    if (argc > 7) queue.batch_tokens = (size_t)atol(argv[7]);
    if (argc > 8) queue.profile = (sr_queue_profile)atoi(argv[8]);
    if (argc > 9) self.deadline = (uint64_t)(atof(argv[9]) * 1e6);
    pthread_mutex_init(&self.mutex, NULL);
    read_texts(&self, argv[2]);
    if (sr_router_open(&options, &self.router, &error) != SR_OK) die("open", &error);
    if (sr_queue_set(self.router, &queue, &error) != SR_OK) die("queue", &error);
    self.end = sr_steady_ns() + 300000000;
    work(&self, "decide", 64); /* warm */
    self.answered = self.batch_tokens = self.batch_texts = 0;
    self.queue_ns = self.fast_ns = self.encode_ns = self.search_ns = self.decide_ns = 0;
    double cpu = cpu_seconds();
    uint64_t begun = sr_steady_ns();
    self.end = begun + (uint64_t)(seconds * 1e9);
    work(&self, argv[5], number);
    print(&self, (double)(sr_steady_ns() - begun) * 1e-9, cpu_seconds() - cpu);
    sr_router_close(&self.router);
    return 0;
}
