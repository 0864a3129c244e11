/*
 * http.c - libmicrohttpd's side of the server: the daemon, connections, bodies, suspending and resuming.
 *
 * As many threads as cores, each with its own epoll set, accept from one socket. An exchange is made when the headers
 * of a request are there, gets its body in pieces, and runs when it is complete. While its answer is being made
 * elsewhere the connection is suspended; whoever answers resumes it. Which of the two is first is settled by one
 * atomic exchange of the state: RUNNING becomes SUSPENDED by the thread of the connection, or ANSWERED by the
 * one that answers, and who comes second acts.
 *
 * libmicrohttpd cannot take back what it has promised to read, so a request that is refused early is read to its
 * end, unheard, when it is small; a large one is refused at once and its connection closed.
 */
#include "http_int.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "observe.h"
#include "tls.h"

#define DROPPED_BYTES  ((size_t)1 << 20) /* of a refused request, read and forgotten */
#define SPARE_SOCKETS  256               /* connections beyond the bound, which are told so */
#define MOST_SOCKETS   100000000u        /* of libmicrohttpd */
#define LISTEN_BACKLOG 1024
#define TICK_MS        10 /* the longest of the system's ticks */

static uint64_t in_seconds(double seconds) { return sri_nanoseconds() + (uint64_t)(seconds * 1e9); }

/* ---- Exchanges ----------------------------------------------------------------------------------- */

static srv_exchange *make_exchange(srv_http *http, struct MHD_Connection *connection,
                                   srv_socket *socket, const char *method, const char *url) {
    srv_exchange *exchange = sri_alloc_zero(1, sizeof *exchange);
    if (exchange == NULL) return NULL;
    uint64_t now = sri_nanoseconds();
    exchange->connection = connection;
    exchange->socket = socket;
    atomic_init(&exchange->references, 1);
    exchange->request = (srv_request){.server = http->server,
                                      .method = method,
                                      .path = sr_str_of(url),
                                      .id = atomic_fetch_add(&http->requests, 1) + 1,
                                      .began_ns = socket->line_ns == 0 ? now : socket->line_ns,
                                      .came_ns = socket->line_ns == 0 ? now : socket->came_ns};
    atomic_store(&socket->phase, SRV_PHASE_READING);
    atomic_store(&socket->deadline_ns,
                 in_seconds(srv_settings_of(http->server)->config.body_seconds));
    atomic_fetch_add(&http->active, 1);
    return exchange;
}

void srv_exchange_free(srv_exchange *exchange) {
    if (atomic_fetch_sub(&exchange->references, 1) > 1) return;
    if (exchange->stream != NULL) srv_stream_free(exchange);
    sri_buffer_free(&exchange->body);
    sri_buffer_free(&exchange->reply);
    sri_arena_free(&exchange->arena);
    sri_free(exchange);
}

void *srv_alloc(srv_request *request, size_t bytes) {
    void *memory = sri_arena_alloc(&srv_exchange_of(request)->arena, bytes);
    if (memory != NULL) memset(memory, 0, bytes);
    return memory;
}

/* ---- Answers ------------------------------------------------------------------------------------- */

void srv_suspend(srv_exchange *exchange) {
    srv_http *http = exchange->request.server->http;
    atomic_fetch_add(&http->suspended, 1);
    srv_watch_wait(http->watch, exchange);
    MHD_suspend_connection(exchange->connection);
}

void srv_resume(srv_exchange *exchange) {
    srv_http *http = exchange->request.server->http;
    srv_watch_done(http->watch, exchange);
    atomic_fetch_sub(&http->suspended, 1);
    MHD_resume_connection(exchange->connection);
}

static void answered(srv_exchange *exchange) {
    if (atomic_load(&exchange->state) == SRV_READING)
        return; /* refused before the body was there */
    if (atomic_exchange(&exchange->state, SRV_ANSWERED) == SRV_SUSPENDED) srv_resume(exchange);
}

void srv_reply(srv_request *request, int status, const char *type, sri_buffer *body) {
    srv_exchange *exchange = srv_exchange_of(request);
    request->status = status;
    exchange->type = type;
    if (body != NULL) {
        exchange->reply = *body;
        *body = (sri_buffer){.max = body->max};
    }
    answered(exchange);
}

void srv_reply_static(srv_request *request, int status, const char *type, const void *bytes,
                      size_t len) {
    srv_exchange *exchange = srv_exchange_of(request);
    request->status = status;
    exchange->type = type;
    exchange->reply_static = bytes;
    exchange->reply_len = len;
    answered(exchange);
}

static struct MHD_Response *make_response(srv_exchange *exchange) {
    if (exchange->stream != NULL) return srv_stream_response(exchange);
    if (exchange->reply_static != NULL)
        return MHD_create_response_from_buffer(
            exchange->reply_len, (void *)(uintptr_t)exchange->reply_static, MHD_RESPMEM_PERSISTENT);
    if (exchange->reply.len == 0)
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback(
        exchange->reply.len, exchange->reply.data, sri_free);
    if (response != NULL) exchange->reply = (sri_buffer){0};
    return response;
}

static enum MHD_Result send_answer(srv_exchange *exchange) {
    if (exchange->stream == NULL)
        exchange->request.sent_bytes =
            exchange->reply_static != NULL ? exchange->reply_len : exchange->reply.len;
    struct MHD_Response *response = make_response(exchange);
    if (response == NULL) return MHD_NO;
    if (exchange->type != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, exchange->type);
    for (size_t i = 0; i < exchange->header_count; i++)
        MHD_add_response_header(response, exchange->headers[i].name, exchange->headers[i].value);
    srv_common_headers(exchange, response);
    if (exchange->last ||
        atomic_load_explicit(&exchange->request.server->draining, memory_order_relaxed))
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    /* A client that reads slowly is libmicrohttpd's to time out. */
    atomic_store(&exchange->socket->deadline_ns, 0);
    enum MHD_Result result =
        MHD_queue_response(exchange->connection, (unsigned)exchange->request.status, response);
    MHD_destroy_response(response);
    return result;
}

/* ---- Requests ------------------------------------------------------------------------------------ */

static enum MHD_Result suspend(srv_exchange *exchange) {
    int running = SRV_RUNNING;
    srv_suspend(exchange);
    if (!atomic_compare_exchange_strong(&exchange->state, &running, SRV_SUSPENDED))
        srv_resume(exchange);
    return MHD_YES;
}

static enum MHD_Result run(srv_http *http, srv_exchange *exchange) {
    srv_request *request = &exchange->request;
    if (exchange->refused) {
        atomic_store(&exchange->state, SRV_ANSWERED);
        return send_answer(exchange);
    }
    request->body = (sr_str){exchange->body.data, exchange->body.len};
    request->ready_ns = sri_nanoseconds();
    request->deadline_ns =
        request->ready_ns + (uint64_t)(srv_settings_of(http->server)->config.request_seconds * 1e9);
    atomic_store(&exchange->socket->phase, SRV_PHASE_WORKING);
    atomic_store(&exchange->socket->deadline_ns, 0);
    atomic_store(&exchange->state, SRV_RUNNING);
    srv_dispatch(exchange);
    if (atomic_load(&exchange->state) == SRV_ANSWERED) return send_answer(exchange);
    return suspend(exchange);
}

/* Room for `len` more bytes of all bodies together. */
static bool reserve(srv_http *http, srv_exchange *exchange, size_t len) {
    size_t before = atomic_fetch_add(&http->body_bytes, len);
    exchange->reserved += len;
    return before + len <= (size_t)srv_settings_of(http->server)->config.max_bodies_bytes;
}

static void drop_body(srv_http *http, srv_exchange *exchange) {
    sri_buffer_free(&exchange->body);
    atomic_fetch_sub(&http->body_bytes, exchange->reserved);
    exchange->reserved = 0;
    exchange->refused = true;
}

static enum MHD_Result take_body(srv_http *http, srv_exchange *exchange, const char *bytes,
                                 size_t *len) {
    size_t taken = *len;
    *len = 0;
    exchange->max_body -= exchange->refused ? SRI_MIN(taken, exchange->max_body) : 0;
    if (exchange->refused) return exchange->max_body > 0 ? MHD_YES : MHD_NO;
    if (exchange->body.len + taken > exchange->max_body) {
        srv_problem(&exchange->request, 413, "body-too-large",
                    "the body is larger than %zu bytes; send less at once", exchange->max_body);
    } else if (!reserve(http, exchange, taken)) {
        srv_busy(&exchange->request, 1, "there is no memory left for bodies of requests");
    } else if (!sri_buffer_append(&exchange->body, bytes, taken)) {
        srv_fail_memory(&exchange->request);
    } else {
        return MHD_YES;
    }
    drop_body(http, exchange);
    exchange->last = true;
    exchange->max_body = DROPPED_BYTES;
    return MHD_YES;
}

/* The length that the client announces; 0 where it does not. */
static size_t announced(struct MHD_Connection *connection) {
    const char *text =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return text == NULL ? 0 : (size_t)strtoull(text, NULL, 10);
}

typedef struct framing {
    unsigned lengths, encodings, hosts;
    bool other; /* encoding than chunked */
} framing;

static enum MHD_Result look_at_header(void *user, enum MHD_ValueKind kind, const char *name,
                                      const char *value) {
    (void)kind;
    framing *f = user;
    if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) f->lengths++;
    if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) f->hosts++;
    if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        f->encodings++;
        f->other |= value == NULL || strcasecmp(value, "chunked") != 0;
    }
    return MHD_YES;
}

/* Whether the headers say in one way alone where the request ends and whom it is for. Otherwise a proxy may have seen
 * another end, and what follows be somebody else's request (RFC 9112, 6.3 and 11.2). */
static bool is_clear(struct MHD_Connection *connection) {
    framing f = {0};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, look_at_header, &f);
    return f.lengths + f.encodings <= 1 && f.hosts <= 1 && !f.other;
}

static enum MHD_Result begin(srv_http *http, struct MHD_Connection *connection, const char *url,
                             const char *method, void **context) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info == NULL || info->socket_context == NULL) return MHD_NO;
    srv_exchange *exchange = make_exchange(http, connection, info->socket_context, method, url);
    if (exchange == NULL) return MHD_NO;
    *context = exchange;
    size_t length = announced(connection);
    if (!is_clear(connection)) {
        srv_problem(&exchange->request, 400, "framing",
                    "send one Content-Length, or Transfer-Encoding: chunked, and one Host");
        exchange->refused = exchange->last = true;
        return send_answer(exchange);
    }
    if (atomic_load(&http->connections) >
        (size_t)srv_settings_of(http->server)->config.max_connections) {
        exchange->last = true;
        srv_busy(&exchange->request, 1, "there are too many connections");
        exchange->refused = true;
    } else if (!srv_admit(exchange)) {
        exchange->refused = true;
    } else if (length > exchange->max_body) {
        srv_problem(&exchange->request, 413, "body-too-large",
                    "the body has %zu bytes, more than the %zu that are taken; send less at once",
                    length, exchange->max_body);
        exchange->refused = true;
    } else {
        return MHD_YES;
    }
    exchange->max_body = DROPPED_BYTES;
    if (length <= DROPPED_BYTES) return MHD_YES;
    exchange->last = true;
    return send_answer(exchange);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *len, void **context) {
    (void)version;
    srv_http *http = user;
    srv_exchange *exchange = *context;
    if (exchange == NULL) return begin(http, connection, url, method, context);
    if (*len > 0) return take_body(http, exchange, bytes, len);
    switch (atomic_load(&exchange->state)) {
    case SRV_READING: return run(http, exchange);
    case SRV_ANSWERED: return send_answer(exchange);
    default: return MHD_YES;
    }
}

/* ---- Connections --------------------------------------------------------------------------------- */

/* When the last bytes of a connection came to this machine, at the latest. Where there is more to do than can be
 * done they wait in the system for a thread to read them, which is part of the time that a caller gives. The system
 * counts in ticks: the longest one is left out, so that no caller gets less than asked for. */
static uint64_t came_at(int descriptor, uint64_t now) {
#if defined(__linux__)
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
        info.tcpi_last_data_recv > TICK_MS)
        return now - SRI_MIN((uint64_t)(info.tcpi_last_data_recv - TICK_MS) * 1000000, now);
#else
    (void)descriptor;
#endif
    return now;
}

/* The first line of a request is there. */
static void *on_line(void *user, const char *uri, struct MHD_Connection *connection) {
    (void)uri;
    srv_http *http = user;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info == NULL || info->socket_context == NULL) return NULL;
    srv_socket *socket = info->socket_context;
    socket->line_ns = sri_nanoseconds();
    socket->came_ns = came_at(socket->descriptor, socket->line_ns);
    atomic_store(&socket->phase, SRV_PHASE_READING);
    atomic_store(&socket->deadline_ns,
                 in_seconds(srv_settings_of(http->server)->config.header_seconds));
    return NULL;
}

static void on_completed(void *user, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why) {
    (void)connection, (void)why;
    srv_http *http = user;
    srv_exchange *exchange = *context;
    if (exchange == NULL) return;
    *context = NULL;
    srv_socket *socket = exchange->socket;
    srv_watch_done(http->watch, exchange);
    srv_watch_settle(http->watch, exchange);
    atomic_fetch_sub(&http->body_bytes, exchange->reserved);
    srv_observe_end(&exchange->request);
    if (exchange->stream != NULL) srv_stream_release(exchange);
    srv_exchange_free(exchange);
    socket->line_ns = 0;
    atomic_store(&socket->phase, SRV_PHASE_IDLE);
    atomic_store(&socket->deadline_ns,
                 in_seconds(srv_settings_of(http->server)->config.idle_seconds +
                            srv_settings_of(http->server)->config.header_seconds));
    atomic_fetch_sub(&http->active, 1);
}

static void on_connection(void *user, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    srv_http *http = user;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (*context != NULL) srv_watch_remove(http->watch, *context);
        *context = NULL;
        atomic_fetch_sub(&http->connections, 1);
        return;
    }
    atomic_fetch_add(&http->connections, 1);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    srv_socket *socket = info == NULL ? NULL : srv_watch_add(http->watch, info->connect_fd);
    if (socket != NULL)
        atomic_store(&socket->deadline_ns,
                     in_seconds(srv_settings_of(http->server)->config.header_seconds));
    *context = socket;
}

static enum MHD_Result on_accept(void *user, const struct sockaddr *address, socklen_t len) {
    (void)address, (void)len;
    srv_http *http = user;
    return atomic_load(&http->connections) <=
                   (size_t)srv_settings_of(http->server)->config.max_connections + SPARE_SOCKETS
               ? MHD_YES
               : MHD_NO;
}

static void on_log(void *user, const char *format, va_list arguments) {
    (void)user;
    char line[512];
    int len = vsnprintf(line, sizeof line, format, arguments);
    while (len > 0 && (size_t)len < sizeof line && line[len - 1] == '\n') line[--len] = '\0';
    sri_log(SR_LOG_DEBUG, "libmicrohttpd: %s", line);
}

/* Names in paths may hold encoded slashes: we decode what we have split. */
static size_t leave_encoded(void *user, struct MHD_Connection *connection, char *text) {
    (void)user, (void)connection;
    return strlen(text);
}

/* ---- Listening ----------------------------------------------------------------------------------- */

static int try_listen(const struct addrinfo *address) {
    int on = 1, descriptor = socket(address->ai_family,
                                    address->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Taken over by accepted connections: answers are written whole. */
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(descriptor, address->ai_addr, address->ai_addrlen) == 0 &&
        listen(descriptor, LISTEN_BACKLOG) == 0)
        return descriptor;
    int failure = errno;
    close(descriptor);
    errno = failure;
    return -1;
}

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >>
                24) == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

static sr_status open_listener(srv_http *http, sr_error *error) {
    const srv_config *config = &srv_settings_of(http->server)->config;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    int status =
        getaddrinfo(config->host[0] == '\0' || strcmp(config->host, "*") == 0 ? NULL : config->host,
                    config->port, &hints, &found);
    if (status != 0)
        return sri_fail(error, SR_ERR_INVALID, "listen", "listen is %s: %s", config->listen,
                        gai_strerror(status));
    http->loopback = is_loopback(found->ai_addr);
    sr_status code = SR_OK;
    if (!http->loopback && !config->insecure && config->keys == NULL)
        code = sri_fail(
            error, SR_ERR_INVALID, "listen",
            "listen is %s, which others can reach, and there are no API keys: make some with "
            "`synaptoroute "
            "key create` and name their file with --keys, listen on 127.0.0.1, or say --insecure",
            config->listen);
    if (code == SR_OK && (http->listener = try_listen(found)) < 0)
        code = sri_fail_errno(error, errno, "listen", "cannot listen on %s", config->listen);
    freeaddrinfo(found);
    if (code != SR_OK) return code;
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char port[8] = "0";
    if (getsockname(http->listener, (struct sockaddr *)&bound, &len) == 0)
        getnameinfo((struct sockaddr *)&bound, len, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    http->port = (unsigned)strtoul(port, NULL, 10);
    return SR_OK;
}

static sr_status start_daemon(srv_http *http, sr_error *error) {
    const srv_config *config = &srv_settings_of(http->server)->config;
    unsigned threads =
        config->http_threads > 0 ? (unsigned)config->http_threads : (unsigned)sri_cpu_count();
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_ITC;
    if (config->tls) flags |= MHD_USE_TLS;
    /* The bounds are on_accept's and begin()'s: a reload may raise them. */
    unsigned bound = MOST_SOCKETS;
    struct MHD_OptionItem more[8];
    size_t count = 0;
    if (threads > 1)
        more[count++] =
            (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL};
    if (config->max_connections_per_address > 0)
        more[count++] =
            (struct MHD_OptionItem){MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                                    (intptr_t)config->max_connections_per_address, NULL};
    if (config->tls) more[count++] = srv_tls_option();
    if (config->tls) more[count++] = srv_tls_versions();
    more[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    http->daemon = MHD_start_daemon(
        flags, 0, on_accept, http, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, http,
        MHD_OPTION_LISTEN_SOCKET, http->listener, MHD_OPTION_CONNECTION_LIMIT, bound,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)config->max_header_bytes,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)config->idle_seconds, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, http, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http,
        MHD_OPTION_URI_LOG_CALLBACK, on_line, http, MHD_OPTION_UNESCAPE_CALLBACK, leave_encoded,
        http, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (http->daemon != NULL) return SR_OK;
    return sri_fail(error, SR_ERR_IO, "listen", "cannot serve on %s; --log-level debug says more",
                    config->listen);
}

sr_status srv_http_open(srv_server *server, srv_http **http, sr_error *error) {
    srv_http *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return sri_fail_memory(error);
    made->server = server;
    made->listener = -1;
    /* Before there are threads that look at it. */
    server->http = *http = made;
    sr_status code = open_listener(made, error);
    if (code == SR_OK) code = srv_watch_open(made, &made->watch, error);
    if (code == SR_OK) code = start_daemon(made, error);
    if (code != SR_OK) srv_http_close(http);
    return code;
}

unsigned srv_http_port(const srv_http *http) { return http->port; }

void srv_http_quiesce(srv_http *http) {
    if (http->listener < 0) return;
    if (http->daemon != NULL) MHD_quiesce_daemon(http->daemon);
    close(http->listener);
    http->listener = -1;
}

size_t srv_http_connections(const srv_http *http) {
    return atomic_load(&((srv_http *)(uintptr_t)http)->connections);
}

size_t srv_http_active(const srv_http *http) {
    return atomic_load(&((srv_http *)(uintptr_t)http)->active);
}

bool srv_http_hurry(srv_http *http) {
    srv_watch_hurry(http->watch);
    return atomic_load(&http->suspended) == 0;
}

void srv_http_close(srv_http **http) {
    srv_http *closing = *http;
    if (closing == NULL) return;
    srv_http_quiesce(closing);
    if (closing->daemon != NULL) MHD_stop_daemon(closing->daemon);
    srv_watch_close(&closing->watch);
    closing->server->http = NULL;
    sri_free(closing);
    *http = NULL;
}
