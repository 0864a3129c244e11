/*
 * poller.c - see poller.h.
 *
 * epoll_wait() counts in milliseconds, within which a generator of load has thirty requests to send, and
 * epoll_pwait2() is younger than the systems this runs on; so the epoll descriptor itself is waited for by ppoll(),
 * which counts in nanoseconds.
 */
#include "base/poller.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BATCH 256

static struct timespec span(uint64_t nanoseconds) {
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000u),
                             .tv_nsec = (long)(nanoseconds % 1000000000u)};
}

#if defined(__linux__)

#include <poll.h>
#include <sys/epoll.h>

sr_status sri_poller_open(sri_poller *poller, sr_error *error) {
    poller->descriptor = epoll_create1(EPOLL_CLOEXEC);
    if (poller->descriptor >= 0) return SR_OK;
    return sri_fail_errno(error, errno, NULL, "cannot watch descriptors");
}

sr_status sri_poller_add(sri_poller *poller, int descriptor, void *user, sr_error *error) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = user};
    if (epoll_ctl(poller->descriptor, EPOLL_CTL_ADD, descriptor, &event) == 0) return SR_OK;
    return sri_fail_errno(error, errno, NULL, "cannot watch a descriptor");
}

size_t sri_poller_wait(sri_poller *poller, sri_poll_event *events, size_t capacity,
                       uint64_t nanoseconds) {
    struct epoll_event native[BATCH];
    int most = (int)SRI_MIN(capacity, (size_t)BATCH);
    if (nanoseconds != 0 && nanoseconds != SRI_POLL_FOREVER) {
        struct timespec time = span(nanoseconds);
        struct pollfd self = {.fd = poller->descriptor, .events = POLLIN};
        if (ppoll(&self, 1, &time, NULL) <= 0) return 0;
    }
    int timeout = nanoseconds == SRI_POLL_FOREVER ? -1 : 0;
    int count = epoll_wait(poller->descriptor, native, most, timeout);
    for (int i = 0; i < count; i++) {
        uint32_t seen = native[i].events;
        events[i] =
            (sri_poll_event){.user = native[i].data.ptr,
                             .readable = (seen & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0,
                             .writable = (seen & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0,
                             .closed = (seen & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0};
    }
    return count < 0 ? 0 : (size_t)count;
}

#else

#include <sys/event.h>

sr_status sri_poller_open(sri_poller *poller, sr_error *error) {
    poller->descriptor = kqueue();
    if (poller->descriptor >= 0) return SR_OK;
    return sri_fail_errno(error, errno, NULL, "cannot watch descriptors");
}

sr_status sri_poller_add(sri_poller *poller, int descriptor, void *user, sr_error *error) {
    struct kevent changes[2];
    EV_SET(&changes[0], descriptor, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, user);
    EV_SET(&changes[1], descriptor, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, user);
    if (kevent(poller->descriptor, changes, 2, NULL, 0, NULL) == 0) return SR_OK;
    return sri_fail_errno(error, errno, NULL, "cannot watch a descriptor");
}

/* Both directions of one descriptor are two events here. */
size_t sri_poller_wait(sri_poller *poller, sri_poll_event *events, size_t capacity,
                       uint64_t nanoseconds) {
    struct kevent native[BATCH];
    struct timespec time = span(nanoseconds == SRI_POLL_FOREVER ? 0 : nanoseconds);
    int most = (int)SRI_MIN(capacity, (size_t)BATCH);
    int count = kevent(poller->descriptor, NULL, 0, native, most,
                       nanoseconds == SRI_POLL_FOREVER ? NULL : &time);
    for (int i = 0; i < count; i++) {
        bool ended = (native[i].flags & (EV_EOF | EV_ERROR)) != 0;
        events[i] = (sri_poll_event){.user = native[i].udata,
                                     .readable = native[i].filter == EVFILT_READ || ended,
                                     .writable = native[i].filter == EVFILT_WRITE,
                                     .closed = ended};
    }
    return count < 0 ? 0 : (size_t)count;
}

#endif

void sri_poller_close(sri_poller *poller) {
    if (poller->descriptor >= 0) close(poller->descriptor);
    poller->descriptor = -1;
}
