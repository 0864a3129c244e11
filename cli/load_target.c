/*
 * load_target.c - the URL, the address behind it, and the requests as bytes.
 *
 * Requests are made once, before the clock runs, so that sending one is a single write.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_REQUEST_BYTES ((size_t)2 << 30) /* of all of them */

/* ---- The URL ----------------------------------------------------------------------------------- */

static bool copy_part(char *to, size_t capacity, const char *from, size_t len) {
    if (len == 0 || len >= capacity) return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)from[i] <= ' ' || from[i] == 0x7F) return false;
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

static bool is_port(const char *text) {
    long port = strtol(text, NULL, 10);
    return text[strspn(text, "0123456789")] == '\0' && port >= 1 && port <= 65535;
}

/* HOST[:PORT], where an IPv6 address stands in brackets. */
static bool take_authority(load_target *target, const char *text, size_t len) {
    const char *host = text, *rest = NULL, *end = text + len;
    size_t host_len = len;
    if (len > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', len);
        if (close == NULL) return false;
        host = text + 1;
        host_len = (size_t)(close - host);
        rest = close + 1;
    } else {
        rest = memchr(text, ':', len);
        if (rest != NULL) host_len = (size_t)(rest - host);
    }
    if (!copy_part(target->host, sizeof target->host, host, host_len)) return false;
    if (rest == NULL || rest == end) return copy_part(target->port, sizeof target->port, "80", 2);
    return *rest == ':' &&
           copy_part(target->port, sizeof target->port, rest + 1, (size_t)(end - rest) - 1) &&
           is_port(target->port);
}

int load_take_url(const cli_state *cli, const char *url, load_target *target) {
    static const char scheme[] = "http://", path[] = "/v1/route";
    if (strncmp(url, "https://", 8) == 0)
        return cli_usage(
            cli, "%s: load speaks no TLS; let the server listen on a loopback port too", url);
    const char *authority = url + (strncmp(url, scheme, 7) == 0 ? 7 : 0);
    size_t len = strcspn(authority, "/?#");
    const char *rest = authority + len;
    bool whole = strcmp(rest, "") != 0 && strcmp(rest, "/") != 0;
    if (strchr(rest, '#') != NULL || *rest == '?' || strchr(authority, '@') != NULL ||
        !take_authority(target, authority, len) ||
        !copy_part(target->path, sizeof target->path, whole ? rest : path,
                   strlen(whole ? rest : path)))
        return cli_usage(cli, "%s: give http://HOST:PORT, or http://HOST:PORT/PATH", url);
    return EXIT_DONE;
}

/* ---- The address ------------------------------------------------------------------------------- */

/* 0, or the error number. */
static int try_address(const struct addrinfo *address, double seconds) {
    int descriptor = socket(address->ai_family, SOCK_STREAM, 0), problem = 0;
    if (descriptor < 0) return errno;
    fcntl(descriptor, F_SETFL, O_NONBLOCK);
    if (connect(descriptor, address->ai_addr, address->ai_addrlen) != 0) {
        struct pollfd one = {.fd = descriptor, .events = POLLOUT};
        socklen_t len = sizeof problem;
        problem = errno;
        if (problem == EINPROGRESS) {
            if (poll(&one, 1, (int)(seconds * 1000)) <= 0)
                problem = ETIMEDOUT;
            else if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &len) != 0)
                problem = errno;
        }
    }
    close(descriptor);
    return problem;
}

sr_status load_reach(load_target *target, double seconds, sr_error *error) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int found = getaddrinfo(target->host, target->port, &hints, &list), problem = 0;
    if (found != 0)
        return sri_fail(error, SR_ERR_NOT_FOUND, target->host, "cannot find the host %s: %s",
                        target->host, gai_strerror(found));
    target->address_len = 0;
    for (struct addrinfo *each = list; each != NULL && target->address_len == 0;
         each = each->ai_next) {
        problem = try_address(each, seconds);
        if (problem != 0) continue;
        memcpy(&target->address, each->ai_addr, each->ai_addrlen);
        target->address_len = each->ai_addrlen;
    }
    freeaddrinfo(list);
    if (target->address_len > 0) return SR_OK;
    return sri_fail(error, SR_ERR_IO, target->host,
                    "cannot connect to port %s of %s: %s; is a server running there?", target->port,
                    target->host, strerror(problem));
}

/* ---- Requests ---------------------------------------------------------------------------------- */

static bool put_body(sri_buffer *body, const load_body *options, const cli_texts *texts,
                     size_t first) {
    bool one = options->batch == 1;
    bool done = sri_buffer_append_str(body, one ? "{\"text\":" : "{\"texts\":[");
    for (size_t i = 0; done && i < options->batch; i++)
        done = (i == 0 || sri_buffer_append_str(body, ",")) &&
               sri_append_json(body, texts->items[(first + i) % texts->count]);
    if (done && !one) done = sri_buffer_append_str(body, "]");
    if (done && options->path != NULL)
        done = sri_buffer_format(body, ",\"path\":\"%s\"", options->path);
    if (done && options->deadline_ms > 0)
        done = sri_buffer_format(body, ",\"timeout_ms\":%d", options->deadline_ms);
    return done && sri_buffer_append_str(body, "}");
}

static bool put_request(sri_buffer *bytes, const load_target *target, const load_body *options,
                        const sri_buffer *body) {
    bool brackets = strchr(target->host, ':') != NULL;
    bool done =
        sri_buffer_format(bytes, "POST %s HTTP/1.1\r\nHost: %s%s%s:%s\r\n", target->path,
                          brackets ? "[" : "", target->host, brackets ? "]" : "", target->port);
    if (done && options->key != NULL)
        done = sri_buffer_format(bytes, "Authorization: Bearer %s\r\n", options->key);
    return done &&
           sri_buffer_format(bytes, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                             body->len) &&
           sri_buffer_append(bytes, body->data, body->len);
}

sr_status load_make_requests(const load_target *target, const load_body *options,
                             const cli_texts *texts, load_requests *requests, sr_error *error) {
    sri_buffer body = {0};
    *requests = (load_requests){.bytes.max = MAX_REQUEST_BYTES};
    size_t count = (texts->count + options->batch - 1) / options->batch;
    requests->starts = sri_alloc_array(count + 1, sizeof *requests->starts);
    bool done = requests->starts != NULL;
    for (size_t i = 0; done && i < count; i++) {
        body.len = 0;
        requests->starts[i] = requests->bytes.len;
        done = put_body(&body, options, texts, i * options->batch) &&
               put_request(&requests->bytes, target, options, &body);
    }
    sri_buffer_free(&body);
    if (!done) {
        load_free_requests(requests);
        return sri_fail(error, SR_ERR_NO_MEMORY, NULL,
                        "the requests do not fit into memory (at most 2 GiB); give fewer texts");
    }
    requests->starts[count] = requests->bytes.len;
    requests->count = count;
    return SR_OK;
}

void load_free_requests(load_requests *requests) {
    sri_buffer_free(&requests->bytes);
    sri_free(requests->starts);
    *requests = (load_requests){0};
}
