/*
 * poller.h - many descriptors watched by one thread: epoll on Linux, kqueue elsewhere.
 *
 * Edges, not levels: a descriptor is reported when something has come since it was reported last. So it is
 * registered once, for both directions, and reading it ends at EAGAIN (or at a short read).
 */
#ifndef SRI_POLLER_H
#define SRI_POLLER_H

#include "base/base.h"

typedef struct sri_poller {
    int descriptor;
} sri_poller;

typedef struct sri_poll_event {
    void *user;
    bool readable; /* or the other side has closed, or an error waits to be read */
    bool writable;
    bool closed; /* the other side will send nothing more; what it has sent may still be unread */
} sri_poll_event;

#define SRI_POLL_FOREVER UINT64_MAX

SR_MUST_CHECK sr_status sri_poller_open(sri_poller *poller, sr_error *error);
void sri_poller_close(sri_poller *poller);

/* Watches `descriptor` until it is closed. */
SR_MUST_CHECK sr_status sri_poller_add(sri_poller *poller, int descriptor, void *user,
                                       sr_error *error);

/* Waits at most `nanoseconds` (0: not at all) and writes up to `capacity` events, whose number it returns;
 * 0 also when a signal came. The wait is as exact as the system's timers are, which is some microseconds on
 * Linux after sri_exact_timers(). */
size_t sri_poller_wait(sri_poller *poller, sri_poll_event *events, size_t capacity,
                       uint64_t nanoseconds);

#endif
