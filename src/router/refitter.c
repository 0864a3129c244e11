/*
 * refitter.c - fitting again in the background: one thread of the router's own, with SR_OPEN_REFIT.
 *
 * A change sets the time when the thread is to look again: half a second after the last one, but at most ten after the
 * first, so that an import is fitted once, at its end, and a table that changes all the time is fitted too. Looking, it fits
 * only where another fit would come of it. It leaves half of the cores to those who decide. The mutex
 * here is the innermost lock: it may be taken under any other, and none is taken under it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "router/refit_int.h"

#define QUIET_SECONDS   0.5
#define LONGEST_SECONDS 10.0

struct refitter {
    sr_router *router;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool dirty;
    double first, last; /* changes that were not looked at */
    atomic_bool stop;
};

static int stopped(void *user, uint64_t done, uint64_t total) {
    const struct refitter *self = user;
    (void)done, (void)total;
    return atomic_load(&self->stop);
}

static bool would_change(sr_router *router) {
    pinned_view pinned = sri_view_pin(router);
    const table_view *view = pinned.view;
    bool some = view->utterances + view->oos_count > 0;
    bool stale = view->fitted == NULL ? some : view->stale;
    /* Neighbours go on deciding where nothing can be learned. */
    if (view->fitted != NULL && view->fitted->kind == SR_FIT_NEIGHBOURS &&
        sri_fit_reach_of(view->routes, view->utterances) != SRI_FIT_LEARNS)
        stale = false;
    sri_view_unpin(pinned);
    return stale;
}

static void fit(struct refitter *self) {
    sr_router *router = self->router;
    sr_error error;
    sr_fit_options options = {.size = sizeof options, .progress = stopped, .progress_user = self};
    if (!would_change(router)) return;
    sr_status code = sri_router_fit(router, &options, (router->threads + 1) / 2, NULL, &error);
    if (code != SR_OK && !atomic_load(&self->stop))
        sri_log(SR_LOG_WARN, "%s could not be fitted again: %s", router->database, error.message);
}

/* Until all is quiet; false when it is time to stop. The caller holds the mutex. */
static bool wait_for_quiet(struct refitter *self) {
    while (!atomic_load(&self->stop)) {
        double until = SRI_MIN(self->last + QUIET_SECONDS, self->first + LONGEST_SECONDS);
        if (!self->dirty) {
            pthread_cond_wait(&self->changed, &self->mutex);
        } else if (sri_seconds() >= until) {
            self->dirty = false;
            return true;
        } else {
            time_t seconds = (time_t)until;
            struct timespec time = {seconds, (long)((until - (double)seconds) * 1e9)};
            pthread_cond_timedwait(&self->changed, &self->mutex, &time);
        }
    }
    return false;
}

static void *work(void *user) {
    struct refitter *self = user;
    pthread_mutex_lock(&self->mutex);
    while (wait_for_quiet(self)) {
        pthread_mutex_unlock(&self->mutex);
        fit(self);
        pthread_mutex_lock(&self->mutex);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

void sri_refitter_wake(sr_router *router) {
    struct refitter *self = router->refitter;
    if (self == NULL) return;
    pthread_mutex_lock(&self->mutex);
    self->last = sri_seconds();
    if (!self->dirty) self->first = self->last;
    self->dirty = true;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
}

static void free_refitter(struct refitter *self) {
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->mutex);
    sri_free(self);
}

/* The clock is that of sri_seconds(). What changed before counts as a change: the stored fit may be an old one. */
sr_status sri_refitter_start(sr_router *router, sr_error *error) {
    if (atomic_load(&router->store->read_only)) return SR_OK;
    struct refitter *self = sri_alloc_zero(1, sizeof *self);
    if (self == NULL) return sri_fail_memory(error);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&self->mutex, NULL);
    self->router = router;
    router->refitter = self;
    sri_refitter_wake(router);
    int failed = pthread_create(&self->thread, NULL, work, self);
    if (failed == 0) return SR_OK;
    router->refitter = NULL;
    free_refitter(self);
    return sri_fail_errno(error, failed, "refit", "cannot start the thread that fits again");
}

void sri_refitter_stop(sr_router *router) {
    struct refitter *self = router->refitter;
    if (self == NULL) return;
    pthread_mutex_lock(&self->mutex);
    atomic_store(&self->stop, true);
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->mutex);
    pthread_join(self->thread, NULL);
    router->refitter = NULL;
    free_refitter(self);
}
