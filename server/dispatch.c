/*
 * dispatch.c - from a request to its handler: path, rights, problems, headers of every answer.
 *
 * Paths are matched segment by segment against the table of endpoints, before anything of the body is read, so that a
 * caller without rights costs no memory. Names in paths are decoded after splitting: a route may have a slash in it.
 *
 * Without keys, everybody who can reach the server may do everything. It then listens on this machine alone, but a
 * browser there can be made to send requests by any page: so bodies must be announced as JSON (or a file's type),
 * which a page cannot do without being asked for its origin first, and the Host must be this machine's own name,
 * which keeps out names that were made to point here.
 */
#include "http_int.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/io.h"
#include "observe.h"

/* ---- What handlers read and write ----------------------------------------------------------------- */

const char *srv_header(const srv_request *request, const char *name) {
    return MHD_lookup_connection_value(srv_exchange_of(request)->connection, MHD_HEADER_KIND, name);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool srv_decode(srv_request *request, const char *text, size_t len, sr_str *decoded) {
    char *out = srv_alloc(request, len + 1);
    size_t used = 0;
    if (out == NULL) return false;
    for (size_t i = 0; i < len; i++, used++) {
        out[used] = text[i];
        if (text[i] != '%') continue;
        if (len - i < 3) return false;
        int first = hex_digit(text[i + 1]), second = hex_digit(text[i + 2]);
        if (first < 0 || second < 0) return false;
        out[used] = (char)(first << 4 | second);
        i += 2;
    }
    *decoded = (sr_str){out, used};
    return true;
}

bool srv_query(srv_request *request, const char *name, sr_str *value) {
    const char *text = MHD_lookup_connection_value(srv_exchange_of(request)->connection,
                                                   MHD_GET_ARGUMENT_KIND, name);
    *value = (sr_str){NULL, 0};
    if (text == NULL) return false;
    /* What is wrongly encoded stands for itself: it will match nothing. */
    if (!srv_decode(request, text, strlen(text), value)) *value = sr_str_of(text);
    return true;
}

void srv_take_body(srv_request *request, sri_buffer *body) {
    srv_exchange *exchange = srv_exchange_of(request);
    *body = exchange->body;
    exchange->body = (sri_buffer){0};
    request->body = (sr_str){NULL, 0};
}

void srv_answer_header(srv_request *request, const char *name, const char *value) {
    srv_exchange *exchange = srv_exchange_of(request);
    char *copy = srv_alloc(request, strlen(value) + 1);
    if (copy == NULL || exchange->header_count == SRV_MAX_HEADERS) return;
    memcpy(copy, value, strlen(value));
    exchange->headers[exchange->header_count++] = (srv_header_line){name, copy};
}

void srv_later(srv_request *request) { srv_exchange_of(request)->later = true; }

void srv_on_gone(srv_request *request, void (*callback)(void *user, srv_gone why), void *user) {
    srv_watch_tell(request->server->http->watch, srv_exchange_of(request), callback, user);
}

srv_gone srv_is_gone(const srv_request *request) {
    return (srv_gone)atomic_load(&srv_exchange_of(request)->gone);
}

bool srv_is_late(const srv_request *request) {
    return srv_is_gone(request) == SRV_LATE || request->deadline_ns < sri_nanoseconds();
}

/* ---- Problems ------------------------------------------------------------------------------------- */

static const char *title_of(int status) {
    const char *reason = MHD_get_reason_phrase_for((unsigned)status);
    return reason == NULL ? "Error" : reason;
}

/* An extension member, as RFC 9457 allows. */
static bool put_openai_error(sri_buffer *body, const char *slug, const char *detail) {
    return sri_buffer_append_str(body, ",\"error\":{\"message\":") &&
           sri_append_json(body, sr_str_of(detail)) &&
           sri_buffer_format(body, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"}", slug, slug);
}

static void put_problem(srv_request *request, int status, const char *slug, const char *detail) {
    const srv_endpoint *endpoint = request->endpoint;
    sri_buffer body = {0};
    bool done =
        sri_buffer_format(
            &body, "{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%d,\"detail\":", slug,
            title_of(status), status) &&
        sri_append_json(&body, sr_str_of(detail)) &&
        (endpoint == NULL || (endpoint->flags & SRV_OPENAI) == 0 ||
         put_openai_error(&body, slug, detail)) &&
        sri_buffer_append_str(&body, "}\n");
    if (!done) sri_buffer_free(&body);
    srv_reply(request, status, "application/problem+json", &body);
}

void srv_problem(srv_request *request, int status, const char *slug, const char *format, ...) {
    char detail[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    put_problem(request, status, slug, detail);
}

void srv_fail_memory(srv_request *request) {
    srv_problem(request, 503, "no-memory", "the server is out of memory; try again later");
}

void srv_busy(srv_request *request, double retry_seconds, const char *what) {
    char seconds[16];
    long whole = (long)(retry_seconds + 0.999);
    snprintf(seconds, sizeof seconds, "%ld", whole < 1 ? 1 : SRI_MIN(whole, 3600L));
    srv_answer_header(request, "Retry-After", seconds);
    srv_problem(request, 503, "busy", "%s; try again in %s s", what, seconds);
}

void srv_fail(srv_request *request, const sr_error *error) {
    static const struct {
        sr_status code;
        int status;
        const char *slug;
    } meanings[] = {{SR_ERR_INVALID, 400, "invalid"},
                    {SR_ERR_NOT_FOUND, 404, "not-found"},
                    {SR_ERR_FORMAT, 400, "format"},
                    {SR_ERR_LIMIT, 413, "too-large"},
                    {SR_ERR_MODEL, 409, "model"},
                    {SR_ERR_READ_ONLY, 403, "read-only"},
                    {SR_ERR_FULL, 507, "disk-full"},
                    {SR_ERR_BUSY, 503, "busy"},
                    {SR_ERR_OVERLOADED, 503, "busy"},
                    {SR_ERR_NO_MEMORY, 503, "no-memory"},
                    {SR_ERR_TIMEOUT, 504, "timeout"},
                    {SR_ERR_CANCELLED, 503, "cancelled"},
                    {SR_ERR_UNSUPPORTED, 422, "unsupported"}};
    for (size_t i = 0; i < SRI_COUNT(meanings); i++) {
        if (meanings[i].code != error->code) continue;
        if (meanings[i].status == 503) srv_answer_header(request, "Retry-After", "1");
        put_problem(request, meanings[i].status, meanings[i].slug, error->message);
        return;
    }
    put_problem(request, 500, "internal", error->message);
}

/* ---- Paths ---------------------------------------------------------------------------------------- */

/* Whether a path is a pattern's; `name` takes the segment at {name}, still encoded. */
static bool is_match(const char *pattern, const char *path, sr_str *name) {
    while (*pattern != '\0') {
        if (*pattern == '{') {
            size_t len = strcspn(path, "/");
            if (len == 0) return false;
            *name = (sr_str){path, len};
            path += len;
            pattern = strchr(pattern, '}') + 1;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0';
}

/* The endpoint of path and method; for another method `allowed` lists those there are. */
static const srv_endpoint *find_endpoint(const srv_request *request, const char *path, sr_str *name,
                                         char *allowed, size_t capacity) {
    size_t count, len = 0;
    const srv_endpoint *all = srv_endpoints(&count);
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    for (size_t i = 0; i < count; i++) {
        if (!is_match(all[i].pattern, path, name)) continue;
        if (strcmp(all[i].method, method) == 0) return &all[i];
        len += (size_t)snprintf(allowed + len, capacity - len, "%s%s", len == 0 ? "" : ", ",
                                all[i].method);
    }
    return NULL;
}

/* ---- Rights --------------------------------------------------------------------------------------- */

static bool is_host(const char *host, const char *name) {
    size_t len = strlen(name);
    return strncasecmp(host, name, len) == 0 && (host[len] == '\0' || host[len] == ':');
}

/* Whether the Host is one of this machine's own names. */
static bool is_own_host(const srv_request *request) {
    const char *host = srv_header(request, "Host");
    return host == NULL || is_host(host, "localhost") || is_host(host, "127.0.0.1") ||
           is_host(host, "[::1]") || is_host(host, srv_settings_of(request->server)->config.host);
}

static srv_role role_named(const char *name) {
    return strcmp(name, "admin") == 0   ? SRV_ADMIN
           : strcmp(name, "write") == 0 ? SRV_WRITE
                                        : SRV_READ;
}

/* Takes the caller's key; false after an answer. */
static bool take_key(srv_request *request, const srv_settings *settings) {
    const char *header = srv_header(request, "Authorization");
    if (header == NULL) return true;
    const sri_api_key *key = NULL;
    if (strncasecmp(header, "Bearer ", 7) == 0)
        key = sri_keys_check(&settings->keys, header + 7 + strspn(header + 7, " "));
    if (key == NULL) {
        srv_answer_header(request, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
        srv_problem(request, 401, "unknown-key", "the API key is not known, or was revoked");
        return false;
    }
    request->role = role_named(key->role);
    request->key = (uint32_t)(key - settings->keys.keys) + 1;
    request->key_name = key->name;
    return true;
}

static bool check_role(srv_request *request) {
    static const char *const names[] = {"open", "read", "write", "admin"};
    srv_role least = request->endpoint->role;
    if (request->role >= least) return true;
    if (request->key == 0) {
        srv_answer_header(request, "WWW-Authenticate", "Bearer");
        srv_problem(request, 401, "no-key",
                    "this needs an API key with the role %s; send it as Authorization: Bearer KEY",
                    names[least]);
    } else {
        srv_problem(request, 403, "role",
                    "this needs an API key with the role %s; %s has the role %s", names[least],
                    request->key_name, names[request->role]);
    }
    return false;
}

static bool check_caller(srv_request *request, const srv_settings *settings) {
    const srv_http *http = request->server->http;
    if (settings->config.keys == NULL) {
        request->role = SRV_ADMIN;
        if (settings->config.insecure || !http->loopback || is_own_host(request)) return true;
        srv_problem(request, 421, "host",
                    "without API keys the server answers to names of this machine alone, such as "
                    "localhost");
        return false;
    }
    bool open = (request->endpoint->flags & SRV_METRICS) != 0 && settings->config.metrics_open;
    if (request->endpoint->role == SRV_OPEN || open) return true;
    return take_key(request, settings) && check_role(request);
}

/* ---- Pages of others ------------------------------------------------------------------------------ */

/* The Origin, if it is one that may call. */
static const char *allowed_origin(const srv_request *request) {
    const char *list = srv_settings_of(request->server)->config.cors_origins;
    const char *origin = list == NULL ? NULL : srv_header(request, "Origin");
    if (origin == NULL) return NULL;
    size_t len = strlen(origin);
    for (const char *at = list; *at != '\0'; at += strspn(at, ", ")) {
        size_t own = strcspn(at, ", ");
        if ((own == 1 && *at == '*') || (own == len && strncmp(at, origin, len) == 0))
            return origin;
        at += own;
    }
    return NULL;
}

static void answer_preflight(srv_request *request) {
    srv_answer_header(request, "Access-Control-Allow-Methods", "GET, POST, PUT, DELETE");
    srv_answer_header(request, "Access-Control-Allow-Headers",
                      "Authorization, Content-Type, If-Match, If-None-Match, traceparent");
    srv_answer_header(request, "Access-Control-Max-Age", "600");
    srv_reply(request, 204, NULL, NULL);
}

void srv_common_headers(srv_exchange *exchange, struct MHD_Response *response) {
    const char *origin = allowed_origin(&exchange->request);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    /* Without it a cache gives the answer to one origin to all others. */
    if (srv_settings_of(exchange->request.server)->config.cors_origins != NULL)
        MHD_add_response_header(response, "Vary", "Origin");
    if (origin == NULL) return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(response, "Access-Control-Expose-Headers", "ETag, Retry-After");
}

/* ---- Dispatch ------------------------------------------------------------------------------------- */

static bool is_json(const char *type) {
    static const char json[] = "application/json";
    size_t len = sizeof json - 1;
    return type != NULL && strncasecmp(type, json, len) == 0 && strchr("; \t", type[len]) != NULL;
}

static bool check_body(srv_exchange *exchange) {
    srv_request *request = &exchange->request;
    const srv_config *config = &srv_settings_of(request->server)->config;
    unsigned flags = request->endpoint->flags;
    exchange->max_body =
        (size_t)((flags & SRV_LARGE_BODY) != 0 ? config->max_import_bytes : config->max_body_bytes);
    const char *type = srv_header(request, "Content-Type");
    bool form = type != NULL && (strncasecmp(type, "application/x-www-form-urlencoded", 33) == 0 ||
                                 strncasecmp(type, "multipart/form-data", 19) == 0);
    if ((flags & SRV_JSON_BODY) != 0 && !is_json(type))
        srv_problem(request, 415, "media-type",
                    "the body must be JSON; send Content-Type: application/json");
    else if ((flags & SRV_LARGE_BODY) != 0 &&
             (type == NULL || form || strncasecmp(type, "text/plain", 10) == 0))
        srv_problem(request, 415, "media-type",
                    "say what the body is: Content-Type text/csv, application/x-ndjson or "
                    "application/yaml");
    else if (atomic_load_explicit(&request->server->router, memory_order_acquire) == NULL &&
             (flags & SRV_NEEDS_ROUTER) != 0)
        srv_busy(request, 1, "the models are being loaded");
    else
        return true;
    return false;
}

/* A name is never mended: that would be another name. */
static bool is_utf8(sr_str text) {
    json_t *string = json_stringn(text.data, text.len);
    json_decref(string);
    return string != NULL;
}

bool srv_admit(srv_exchange *exchange) {
    srv_request *request = &exchange->request;
    const srv_settings *settings = srv_settings_of(request->server);
    char allowed[64] = "";
    sr_str name = {NULL, 0};
    request->traceparent = srv_header(request, "traceparent");
    request->endpoint = find_endpoint(request, request->path.data, &name, allowed, sizeof allowed);
    if (strcmp(request->method, "OPTIONS") == 0 && allowed_origin(request) != NULL) {
        answer_preflight(request);
        return false;
    }
    if (request->endpoint == NULL && allowed[0] != '\0') {
        srv_answer_header(request, "Allow", allowed);
        srv_problem(request, 405, "method", "%s is not for this path; use %s", request->method,
                    allowed);
        return false;
    }
    if (request->endpoint == NULL) {
        srv_problem(request, 404, "path",
                    "there is nothing at this path; /openapi.json lists what there is");
        return false;
    }
    if (name.len > 0 &&
        (!srv_decode(request, name.data, name.len, &request->name) || !is_utf8(request->name))) {
        srv_problem(request, 400, "path", "the path is not encoded as URLs are, in UTF-8");
        return false;
    }
    return check_caller(request, settings) && check_body(exchange);
}

void srv_dispatch(srv_exchange *exchange) {
    srv_observe_begin(&exchange->request);
    exchange->request.endpoint->handle(&exchange->request);
}
