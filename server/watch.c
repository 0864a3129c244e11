/*
 * watch.c - sees that a client has left while its request waits, and closes connections that take too long.
 *
 * libmicrohttpd takes a suspended connection out of its own polling, so that nobody would notice its client
 * leaving; its time-out is for inactivity alone, so that a byte now and then holds a connection for ever.
 * And where a client's last bytes and its leaving come together, its edge-triggered polling sees the bytes alone, so
 * that the connection stays.
 *
 * One thread does all that: an epoll set of all connections, asked for nothing but EPOLLRDHUP (with errors, which always
 * come), and a walk over them ten times a second that compares deadlines. The walk was preferred to a heap of deadlines:
 * these change several times with each request, which here is one atomic store, and ten thousand comparisons are some
 * microseconds. A client that shuts down its sending side counts as one that has left, as with nginx: whether it still
 * reads cannot be told before something is written. If nobody works for it, its connection is shut down for reading
 * once more with each walk, which loses nothing and makes libmicrohttpd look.
 *
 * Connections lie in an array that does not move, and events name them by index and generation, so that an event
 * for one that has closed meanwhile finds that out. A connection is shut down (never closed) from here, under the
 * lock that its removal takes before libmicrohttpd closes the descriptor: it cannot be another's by then.
 */
#include "http_int.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/steady.h"

#define TURN_MS  100
#define NO_INDEX UINT32_MAX

struct srv_watch {
    srv_http *http;
    pthread_mutex_t lock;
    pthread_cond_t told;
    sri_steady sockets; /* of srv_socket */
    uint32_t count, first_free;
    int epoll, wake;
    pthread_t thread;
    atomic_bool stop;
};

static srv_socket *socket_at(srv_watch *watch, uint32_t index) {
    return sri_steady_at(&watch->sockets, index);
}

/* ---- Telling ------------------------------------------------------------------------------------- */

/* With the lock held, which is given up while the callback runs. */
static void tell(srv_watch *watch, srv_exchange *exchange, srv_gone why) {
    int expected = SRV_STAYED;
    atomic_compare_exchange_strong(&exchange->gone, &expected, (int)why);
    void (*callback)(void *, srv_gone) = exchange->on_gone;
    exchange->on_gone = NULL;
    exchange->telling++;
    pthread_mutex_unlock(&watch->lock);
    if (callback != NULL) callback(exchange->gone_user, why);
    if (exchange->stream != NULL) srv_stream_wake(exchange);
    pthread_mutex_lock(&watch->lock);
    exchange->telling--;
    pthread_cond_broadcast(&watch->told);
}

void srv_watch_tell(srv_watch *watch, srv_exchange *exchange, void (*callback)(void *, srv_gone),
                    void *user) {
    pthread_mutex_lock(&watch->lock);
    exchange->on_gone = callback;
    exchange->gone_user = user;
    int gone = atomic_load(&exchange->gone);
    if (gone != SRV_STAYED) tell(watch, exchange, (srv_gone)gone);
    pthread_mutex_unlock(&watch->lock);
}

void srv_watch_settle(srv_watch *watch, srv_exchange *exchange) {
    pthread_mutex_lock(&watch->lock);
    exchange->on_gone = NULL;
    while (exchange->telling > 0) pthread_cond_wait(&watch->told, &watch->lock);
    pthread_mutex_unlock(&watch->lock);
}

/* ---- Connections --------------------------------------------------------------------------------- */

srv_socket *srv_watch_add(srv_watch *watch, int descriptor) {
    pthread_mutex_lock(&watch->lock);
    uint32_t index = watch->first_free;
    srv_socket *socket = NULL;
    if (index != NO_INDEX) {
        socket = socket_at(watch, index);
        watch->first_free = socket->next_free;
    } else if (sri_steady_reserve(&watch->sockets, (size_t)watch->count + 1)) {
        socket = socket_at(watch, watch->count);
        socket->index = watch->count++;
    }
    if (socket != NULL) {
        socket->descriptor = descriptor;
        socket->waiting = NULL;
        socket->left = false;
        socket->line_ns = 0;
        atomic_store(&socket->phase, SRV_PHASE_IDLE);
        atomic_store(&socket->deadline_ns, 0);
        struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET,
                                    .data.u64 = (uint64_t)socket->generation << 32 | socket->index};
        if (epoll_ctl(watch->epoll, EPOLL_CTL_ADD, descriptor, &event) != 0)
            sri_log(SR_LOG_WARN, "a connection cannot be watched: errno %d", errno);
    }
    pthread_mutex_unlock(&watch->lock);
    return socket;
}

void srv_watch_remove(srv_watch *watch, srv_socket *socket) {
    pthread_mutex_lock(&watch->lock);
    socket->waiting = NULL;
    socket->descriptor = -1; /* which leaves the epoll set when it is closed */
    socket->generation++;
    socket->next_free = watch->first_free;
    watch->first_free = socket->index;
    pthread_mutex_unlock(&watch->lock);
}

void srv_watch_wait(srv_watch *watch, srv_exchange *exchange) {
    pthread_mutex_lock(&watch->lock);
    exchange->socket->waiting = exchange;
    pthread_mutex_unlock(&watch->lock);
}

void srv_watch_done(srv_watch *watch, srv_exchange *exchange) {
    pthread_mutex_lock(&watch->lock);
    if (exchange->socket->waiting == exchange) exchange->socket->waiting = NULL;
    pthread_mutex_unlock(&watch->lock);
}

void srv_watch_hurry(srv_watch *watch) {
    pthread_mutex_lock(&watch->lock);
    for (uint32_t i = 0; i < watch->count; i++) {
        srv_exchange *exchange = socket_at(watch, i)->waiting;
        if (exchange != NULL && exchange->telling == 0) tell(watch, exchange, SRV_LATE);
    }
    pthread_mutex_unlock(&watch->lock);
}

/* ---- The thread ---------------------------------------------------------------------------------- */

static void client_left(srv_watch *watch, uint64_t name) {
    uint32_t index = (uint32_t)name, generation = (uint32_t)(name >> 32);
    srv_socket *socket = socket_at(watch, index);
    if (socket->generation != generation || socket->descriptor < 0) return;
    socket->left = true;
    if (socket->waiting != NULL && socket->waiting->telling == 0)
        tell(watch, socket->waiting, SRV_LEFT);
}

/* A request that does not come to its end. Nothing of an answer is on its way then, so that the client can be told. */
static void cut_off(const srv_watch *watch, srv_socket *socket) {
    static const char answer[] = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                                 "Content-Length: 0\r\n\r\n";
    bool reading = atomic_load(&socket->phase) == SRV_PHASE_READING;
    if (reading && !srv_settings_of(watch->http->server)->config.tls)
        (void)!send(socket->descriptor, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(socket->descriptor, SHUT_RDWR);
    atomic_store(&socket->deadline_ns, 0);
}

static void look_at(srv_watch *watch, srv_socket *socket, uint64_t now) {
    srv_exchange *exchange = socket->waiting;
    uint64_t deadline = atomic_load_explicit(&socket->deadline_ns, memory_order_relaxed);
    if (exchange != NULL) {
        bool stayed = atomic_load(&exchange->gone) == SRV_STAYED && exchange->telling == 0;
        if (stayed && (socket->left || exchange->request.deadline_ns < now))
            tell(watch, exchange, socket->left ? SRV_LEFT : SRV_LATE);
    } else if (deadline != 0 && deadline < now) {
        cut_off(watch, socket);
    } else if (socket->left) {
        shutdown(socket->descriptor, SHUT_RD);
    }
}

static void walk(srv_watch *watch, uint64_t now) {
    for (uint32_t i = 0; i < watch->count; i++) {
        srv_socket *socket = socket_at(watch, i);
        if (socket->descriptor >= 0) look_at(watch, socket, now);
    }
}

static void *run(void *user) {
    srv_watch *watch = user;
    struct epoll_event events[64];
    uint64_t walked = 0;
    while (!atomic_load(&watch->stop)) {
        int count = epoll_wait(watch->epoll, events, (int)SRI_COUNT(events), TURN_MS);
        pthread_mutex_lock(&watch->lock);
        for (int i = 0; i < count; i++)
            if (events[i].data.u64 != UINT64_MAX) client_left(watch, events[i].data.u64);
        uint64_t now = sri_nanoseconds();
        if (now - walked > TURN_MS * 900000ULL) {
            walk(watch, now);
            walked = now;
        }
        pthread_mutex_unlock(&watch->lock);
    }
    return NULL;
}

static void release(srv_watch *watch) {
    if (watch->epoll >= 0) close(watch->epoll);
    if (watch->wake >= 0) close(watch->wake);
    pthread_cond_destroy(&watch->told);
    pthread_mutex_destroy(&watch->lock);
    sri_steady_free(&watch->sockets);
    sri_free(watch);
}

sr_status srv_watch_open(srv_http *http, srv_watch **watch, sr_error *error) {
    srv_watch *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return sri_fail_memory(error);
    made->http = http;
    made->sockets.size = sizeof(srv_socket);
    made->first_free = NO_INDEX;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->told, NULL);
    made->epoll = epoll_create1(EPOLL_CLOEXEC);
    made->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    sr_status code = SR_OK;
    if (made->epoll < 0 || made->wake < 0 ||
        epoll_ctl(made->epoll, EPOLL_CTL_ADD, made->wake, &event) != 0)
        code = sri_fail_errno(error, errno, NULL, "cannot watch connections");
    else if (pthread_create(&made->thread, NULL, run, made) != 0)
        code = sri_fail_memory(error);
    if (code != SR_OK) {
        release(made);
        return code;
    }
    *watch = made;
    return SR_OK;
}

void srv_watch_close(srv_watch **watch) {
    if (*watch == NULL) return;
    atomic_store(&(*watch)->stop, true);
    (void)!write((*watch)->wake, &(uint64_t){1}, sizeof(uint64_t));
    pthread_join((*watch)->thread, NULL);
    release(*watch);
    *watch = NULL;
}
