/*
 * workers.c - threads for work that is long or waits for the disk; see workers.h.
 *
 * Short work (changes of the table, pages of it) and long work (what reports progress) have threads of their own, so
 * that four evaluations do not keep a change waiting. One queue each, in order of coming, with a bound.
 */
#include "workers.h"

#include <pthread.h>

#include "server.h"

#define SHORT_THREADS 4
#define LONG_THREADS  2
#define MOST_WAITING  1024 /* of each kind */

typedef struct job {
    struct job *next;
    srv_request *request;
    void (*run)(srv_request *request);
} job;

typedef struct lane {
    pthread_mutex_t lock;
    pthread_cond_t more;
    job *first, **last;
    size_t waiting;
    bool closing;
    pthread_t threads[SHORT_THREADS];
    size_t thread_count;
} lane;

struct srv_workers {
    lane lanes[2]; /* short, long */
};

/* What has lost its caller, or its time, while it waited is not done. */
static void run_job(const job *next) {
    srv_request *request = next->request;
    if (srv_is_late(request))
        srv_problem(request, 504, "timeout",
                    "the request waited for its turn until its time was over");
    else if (srv_is_gone(request) == SRV_LEFT)
        srv_problem(request, 503, "cancelled", "the client has left");
    else
        next->run(request);
}

static void *work(void *user) {
    lane *l = user;
    pthread_mutex_lock(&l->lock);
    while (l->first != NULL || !l->closing) {
        job *next = l->first;
        if (next == NULL) {
            pthread_cond_wait(&l->more, &l->lock);
            continue;
        }
        l->first = next->next;
        if (l->first == NULL) l->last = &l->first;
        l->waiting--;
        pthread_mutex_unlock(&l->lock);
        /* The job is the request's, and goes with its answer. */
        run_job(next);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static bool open_lane(lane *l, size_t threads) {
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->more, NULL);
    l->last = &l->first;
    while (l->thread_count < threads &&
           pthread_create(&l->threads[l->thread_count], NULL, work, l) == 0)
        l->thread_count++;
    return l->thread_count == threads;
}

static void close_lane(lane *l) {
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_broadcast(&l->more);
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < l->thread_count; i++) pthread_join(l->threads[i], NULL);
    pthread_cond_destroy(&l->more);
    pthread_mutex_destroy(&l->lock);
}

sr_status srv_workers_open(srv_workers **workers, sr_error *error) {
    srv_workers *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return sri_fail_memory(error);
    bool done = open_lane(&made->lanes[0], SHORT_THREADS);
    done = open_lane(&made->lanes[1], LONG_THREADS) && done;
    *workers = made;
    if (done) return SR_OK;
    srv_workers_close(workers);
    return sri_fail(error, SR_ERR_NO_MEMORY, NULL, "the system gives no more threads");
}

void srv_workers_close(srv_workers **workers) {
    if (*workers == NULL) return;
    for (size_t i = 0; i < SRI_COUNT((*workers)->lanes); i++) close_lane(&(*workers)->lanes[i]);
    sri_free(*workers);
    *workers = NULL;
}

void srv_work(srv_request *request, void (*run)(srv_request *request)) {
    bool lasting = (request->endpoint->flags & SRV_LASTING) != 0;
    lane *l = &request->server->workers->lanes[lasting];
    job *made = srv_alloc(request, sizeof *made);
    if (made == NULL) {
        srv_fail_memory(request);
        return;
    }
    *made = (job){.request = request, .run = run};
    if (lasting) request->deadline_ns = UINT64_MAX;
    srv_later(request);
    pthread_mutex_lock(&l->lock);
    bool room = l->waiting < MOST_WAITING;
    if (room) {
        *l->last = made;
        l->last = &made->next;
        l->waiting++;
        pthread_cond_signal(&l->more);
    }
    pthread_mutex_unlock(&l->lock);
    if (!room) srv_busy(request, 5, "too much of this kind of work waits");
}
