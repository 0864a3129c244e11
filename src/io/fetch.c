/*
 * fetch.c - one file over HTTP, by libcurl.
 *
 * An attempt asks for the part of the file that is missing (Range), on condition that it is still the same
 * version (If-Range with the strong ETag kept beside the part). A server that answers with the whole file,
 * because it ignores ranges or has another version, makes the part begin anew; one that answers with a wrong
 * range makes the next attempt begin anew. Attempts that fail for reasons that pass are repeated with
 * growing pauses; each received byte restores their number.
 *
 * Redirects are followed here rather than by libcurl, so that it is plain to see where the token goes and that
 * https is never left for http.
 */
#include "io/fetch.h"

#ifndef SRI_CURL

sr_status sri_fetch_open(const sri_fetch_options *options, sri_fetch **fetch, sr_error *error) {
    (void)options;
    *fetch = NULL;
    return sri_fail(error, SR_ERR_UNSUPPORTED, NULL,
                    "this build has no libcurl and cannot download; install its headers (Debian: "
                    "libcurl4-openssl-dev) and build again with -Dcurl=enabled");
}

void sri_fetch_close(sri_fetch **fetch) { (void)fetch; }

sr_status sri_fetch_file(sri_fetch *fetch, const char *url, const char *part, uint64_t max_bytes,
                         sri_fetched *fetched, sr_error *error) {
    (void)fetch, (void)part, (void)max_bytes, (void)fetched;
    return sri_fail(error, SR_ERR_UNSUPPORTED, url, "this build has no libcurl");
}

#else

#include "io/curl_api.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REDIRECTS       10
#define ATTEMPTS        1000 /* in all, for a server that gives a byte at a time */
#define CONNECT_SECONDS 20L
#define LONGEST_PAUSE   8.0
#define LONGEST_ASKED   60.0 /* pause that a server may ask for */

struct sri_fetch {
    const sri_fetch_options *options;
    sri_curl api;
    CURL *curl;
    bool connected; /* a server has answered: there is a network */
};

/* One file, over all its attempts. */
typedef struct transfer {
    sri_fetch *fetch;
    const char *url, *part;
    sri_fetched *fetched;
    sr_error *error;
    uint64_t max_bytes;
    int descriptor;
    uint64_t at;         /* bytes in the part */
    uint64_t total;      /* of the file; 0: not known */
    char kept[256];      /* ETag of what is in the part; "" when there is none to rely on */
    char etag[256];      /* of this response */
    char digest[256];    /* of the file, as this response or a redirect states it */
    uint64_t stated;     /* its size likewise; 0: not stated */
    uint64_t range, all; /* of Content-Range: first byte, whole size; UINT64_MAX: none */
    uint64_t before;     /* bytes received when this attempt began */
    bool begun;          /* this response's body goes to the part */
    bool restart;        /* the part is of no use */
    bool stalled;        /* this request was given up because nothing came */
    curl_off_t came;     /* bytes of this request when something last came, */
    double came_at;      /* and when that was */
    sr_status failed;    /* error is filled: no attempt will help */
    char problem[400];   /* why the last attempt failed */
} transfer;

/* ---- Opening --------------------------------------------------------------------------------- */

sr_status sri_fetch_open(const sri_fetch_options *options, sri_fetch **handle, sr_error *error) {
    *handle = NULL;
    sri_fetch *fetch = sri_alloc_zero(1, sizeof *fetch);
    if (fetch == NULL) return sri_fail_memory(error);
    fetch->options = options;
    sr_status code = sri_curl_load(&fetch->api, "downloading", error);
    if (code == SR_OK && (fetch->curl = fetch->api.init()) == NULL)
        code = sri_fail(error, SR_ERR_UNSUPPORTED, NULL, "libcurl cannot be started");
    if (code == SR_OK)
        *handle = fetch;
    else
        sri_fetch_close(&fetch);
    return code;
}

void sri_fetch_close(sri_fetch **handle) {
    if (*handle == NULL) return;
    if ((*handle)->curl != NULL) (*handle)->api.cleanup((*handle)->curl);
    sri_free(*handle);
    *handle = NULL;
}

/* ---- The part and its version ---------------------------------------------------------------- */

static void etag_path(const transfer *t, char path[PATH_MAX]) {
    snprintf(path, PATH_MAX, "%s.etag", t->part);
}

/* The ETag that was kept for this URL, when the part may be continued. */
static void read_kept(transfer *t) {
    char path[PATH_MAX];
    sri_buffer text = {0};
    t->kept[0] = '\0';
    etag_path(t, path);
    if (sri_read_file(path, 8192, &text, NULL) == SR_OK && sri_buffer_append(&text, "", 1)) {
        char *line = strchr(text.data, '\n');
        size_t len = line == NULL ? 0 : (size_t)(line - text.data);
        if (len > 0 && len < sizeof t->kept && strcmp(line + 1, t->url) == 0) {
            memcpy(t->kept, text.data, len);
            t->kept[len] = '\0';
        }
    }
    sri_buffer_free(&text);
}

/* Best effort: without it a later call begins anew. A weak ETag does not promise the same bytes. */
static void keep_etag(transfer *t) {
    char path[PATH_MAX];
    etag_path(t, path);
    unlink(path);
    t->kept[0] = '\0';
    if (t->etag[0] != '"') return;
    FILE *file = fopen(path, "w");
    if (file == NULL) return;
    bool written = fprintf(file, "%s\n%s", t->etag, t->url) > 0;
    if (fclose(file) == 0 && written)
        memcpy(t->kept, t->etag, sizeof t->kept);
    else
        unlink(path);
}

static sr_status fail_part(transfer *t, int system_errno) {
    if (system_errno == ENOSPC || system_errno == EDQUOT || system_errno == EFBIG)
        return sri_fail(t->error, SR_ERR_FULL, t->part,
                        "cannot write %s: %s; make room and run this again: it goes on after the "
                        "%llu bytes that are there",
                        t->part, strerror(system_errno), (unsigned long long)t->at);
    return sri_fail_errno(t->error, system_errno, t->part, "cannot write %s", t->part);
}

static sr_status open_part(transfer *t) {
    struct stat status;
    t->descriptor = open(t->part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (t->descriptor < 0 || fstat(t->descriptor, &status) != 0) return fail_part(t, errno);
    t->at = (uint64_t)status.st_size;
    read_kept(t);
    return SR_OK;
}

static bool empty_part(transfer *t) {
    t->at = 0;
    if (ftruncate(t->descriptor, 0) == 0) return true;
    t->failed = fail_part(t, errno);
    return false;
}

/* ---- A response ------------------------------------------------------------------------------ */

static bool is_header(const char *line, size_t len, const char *name, sr_str *value) {
    size_t skip = strlen(name);
    if (len <= skip || line[skip] != ':' || strncasecmp(line, name, skip) != 0) return false;
    for (skip++; skip < len && (line[skip] == ' ' || line[skip] == '\t');) skip++;
    while (len > skip && (unsigned char)line[len - 1] <= ' ') len--;
    *value = (sr_str){line + skip, len - skip};
    return true;
}

static void copy_header(sr_str value, char *to, size_t capacity) {
    size_t len = value.len < capacity ? value.len : 0;
    if (len > 0) memcpy(to, value.data, len);
    to[len] = '\0';
}

static uint64_t header_number(sr_str value) {
    char text[32], *end;
    copy_header(value, text, sizeof text);
    unsigned long long number = strtoull(text, &end, 10);
    return end == text || *end != '\0' ? 0 : number;
}

static void read_content_range(transfer *t, sr_str value) {
    char text[96];
    unsigned long long first, last, all;
    copy_header(value, text, sizeof text);
    if (sscanf(text, "bytes %llu-%llu/%llu", &first, &last, &all) == 3) {
        t->range = first;
        t->all = all;
    } else if (sscanf(text, "bytes */%llu", &all) == 1) {
        t->all = all;
    }
}

/* What a redirect states about the file (the hub's X-Linked-...) holds for what it leads to. */
static size_t take_header(char *line, size_t size, size_t count, void *user) {
    transfer *t = user;
    sr_str value;
    size_t len = size * count;
    if (len > 5 && strncmp(line, "HTTP/", 5) == 0) {
        t->etag[0] = '\0';
        t->range = t->all = UINT64_MAX;
        t->fetch->connected = true;
    } else if (is_header(line, len, "ETag", &value)) {
        copy_header(value, t->etag, sizeof t->etag);
    } else if (is_header(line, len, "X-Linked-ETag", &value)) {
        copy_header(value, t->digest, sizeof t->digest);
    } else if (is_header(line, len, "X-Linked-Size", &value)) {
        t->stated = header_number(value);
    } else if (is_header(line, len, "X-Repo-Commit", &value)) {
        copy_header(value, t->fetched->commit, sizeof t->fetched->commit);
    } else if (is_header(line, len, "Content-Range", &value)) {
        read_content_range(t, value);
    }
    return len;
}

static long response_status(const transfer *t) {
    long status = 0;
    t->fetch->api.get(t->fetch->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static bool same_version(const transfer *t) {
    return t->etag[0] == '\0' || strcmp(t->etag, t->kept) == 0;
}

static bool within_maximum(transfer *t, uint64_t bytes) {
    if (bytes <= t->max_bytes) return true;
    t->failed = sri_fail(t->error, SR_ERR_LIMIT, t->url,
                         "%s is larger than the %llu bytes that such a file may have", t->url,
                         (unsigned long long)t->max_bytes);
    t->restart = true;
    return false;
}

/* At the first byte of a body that is (part of) the file; false stops the transfer. */
static bool begin_body(transfer *t, long status) {
    curl_off_t length = -1;
    t->fetch->api.get(t->fetch->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->begun = true;
    if (status == 206) {
        t->restart = t->range != t->at || !same_version(t);
        if (t->restart) {
            snprintf(t->problem, sizeof t->problem, "the server answered with another range");
            return false;
        }
    } else {
        if (!empty_part(t)) return false;
        keep_etag(t);
    }
    if (lseek(t->descriptor, (off_t)t->at, SEEK_SET) < 0) {
        t->failed = fail_part(t, errno);
        return false;
    }
    t->total = length < 0 ? 0 : t->at + (uint64_t)length;
    return within_maximum(t, t->total);
}

static size_t take_body(char *bytes, size_t size, size_t count, void *user) {
    transfer *t = user;
    size_t len = size * count, done = 0;
    long status = response_status(t);
    if (status != 200 && status != 206) return len; /* a page for people */
    if (!t->begun && !begin_body(t, status)) return 0;
    if (!within_maximum(t, t->at + len)) return 0;
    while (done < len) {
        ssize_t wrote = write(t->descriptor, bytes + done, len - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            t->failed = fail_part(t, errno);
            return 0;
        }
        done += (size_t)wrote;
        t->at += (uint64_t)wrote;
        t->fetched->received += (uint64_t)wrote;
    }
    return len;
}

static bool stopped(const transfer *t) {
    const sri_fetch_options *options = t->fetch->options;
    return options->progress != NULL &&
           options->progress(options->progress_user, t->at, SRI_MAX(t->total, t->at)) != 0;
}

/* Called at least once a second. libcurl's own limit was rejected: it looks at an average. */
static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now) {
    (void)total, (void)up_total, (void)up_now;
    transfer *t = user;
    double time = sri_seconds();
    if (now != t->came) {
        t->came = now;
        t->came_at = time;
    }
    t->stalled = time - t->came_at >= t->fetch->options->stall_seconds;
    return t->stalled || stopped(t);
}

/* ---- A request ------------------------------------------------------------------------------- */

/* Length of scheme, host and port. */
static size_t origin_length(const char *url) {
    const char *host = strstr(url, "://");
    return host == NULL ? strlen(url) : (size_t)(host - url) + 3 + strcspn(host + 3, "/?#");
}

static bool same_origin(const char *a, const char *b) {
    size_t len = origin_length(a);
    return len == origin_length(b) && strncasecmp(a, b, len) == 0;
}

static bool add_header(sri_fetch *fetch, struct curl_slist **list, const char *name,
                       const char *value) {
    sri_buffer line = {0};
    struct curl_slist *longer = NULL;
    if (sri_buffer_format(&line, "%s: %s", name, value) && sri_buffer_append(&line, "", 1))
        longer = fetch->api.append(*list, line.data);
    sri_buffer_free(&line);
    if (longer != NULL) *list = longer;
    return longer != NULL;
}

static bool request_headers(transfer *t, const char *url, struct curl_slist **list) {
    const sri_fetch_options *options = t->fetch->options;
    char text[64];
    bool done = true;
    if (options->token != NULL && same_origin(url, options->endpoint)) {
        sri_buffer value = {0};
        done = sri_buffer_format(&value, "Bearer %s", options->token) &&
               sri_buffer_append(&value, "", 1) &&
               add_header(t->fetch, list, "Authorization", value.data);
        sri_buffer_free(&value);
    }
    if (t->at == 0) return done;
    snprintf(text, sizeof text, "bytes=%llu-", (unsigned long long)t->at);
    return done && add_header(t->fetch, list, "Range", text) &&
           add_header(t->fetch, list, "If-Range", t->kept);
}

static CURLcode request(transfer *t, const char *url) {
    sri_fetch *fetch = t->fetch;
    const sri_curl *api = &fetch->api;
    struct curl_slist *headers = NULL;
    if (!request_headers(t, url, &headers)) {
        api->free_list(headers);
        return CURLE_OUT_OF_MEMORY;
    }
    t->begun = t->stalled = false;
    t->came = 0;
    t->came_at = sri_seconds();
    api->reset(fetch->curl);
    api->set(fetch->curl, CURLOPT_URL, url);
    api->set(fetch->curl, CURLOPT_HTTPHEADER, headers);
    api->set(fetch->curl, CURLOPT_NOSIGNAL, 1L);
    api->set(fetch->curl, CURLOPT_USERAGENT, "synaptoroute/" SR_VERSION);
    api->set(fetch->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    api->set(fetch->curl, CURLOPT_HEADERFUNCTION, take_header);
    api->set(fetch->curl, CURLOPT_HEADERDATA, t);
    api->set(fetch->curl, CURLOPT_WRITEFUNCTION, take_body);
    api->set(fetch->curl, CURLOPT_WRITEDATA, t);
    api->set(fetch->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    api->set(fetch->curl, CURLOPT_XFERINFODATA, t);
    api->set(fetch->curl, CURLOPT_NOPROGRESS, 0L);
    CURLcode result = api->perform(fetch->curl);
    api->free_list(headers);
    return result;
}

static bool is_https(const char *url) { return strncasecmp(url, "https://", 8) == 0; }

/* Why a redirect is not followed, or NULL. */
static const char *bad_redirect(const char *url, const char *next, int hop) {
    if (next == NULL) return "without saying where to";
    if (hop == REDIRECTS) return "in circles";
    if (is_https(next)) return NULL;
    if (is_https(url)) return "from https to an address without encryption; that is not followed";
    return strncasecmp(next, "http://", 7) == 0 ? NULL : "to something that is no web address";
}

/* Follows redirects; the result and status are the last request's. */
static CURLcode request_through(transfer *t) {
    char *url = sri_strdup(sr_str_of(t->url));
    CURLcode result = CURLE_OUT_OF_MEMORY;
    for (int hop = 0; url != NULL && hop <= REDIRECTS; hop++) {
        char *next = NULL;
        result = request(t, url);
        long status = response_status(t);
        if (result != CURLE_OK || status < 300 || status > 399) break;
        t->fetch->api.get(t->fetch->curl, CURLINFO_REDIRECT_URL, &next);
        const char *wrong = bad_redirect(url, next, hop);
        if (wrong != NULL) {
            t->failed =
                sri_fail(t->error, SR_ERR_IO, t->url, "%s: the server redirects %s", t->url, wrong);
            break;
        }
        char *copy = sri_strdup(sr_str_of(next));
        sri_free(url);
        url = copy;
    }
    if (url == NULL) t->failed = sri_fail_memory(t->error);
    sri_free(url);
    return result;
}

/* ---- Attempts -------------------------------------------------------------------------------- */

typedef enum outcome { DONE, AGAIN, FAILED } outcome;

static outcome fail_transfer(transfer *t, CURLcode result) {
    const char *why = t->fetch->api.explain(result);
    bool unreachable = result == CURLE_COULDNT_RESOLVE_HOST || result == CURLE_COULDNT_CONNECT ||
                       result == CURLE_COULDNT_RESOLVE_PROXY;
    if (t->failed != SR_OK) return FAILED;
    if (t->restart) return AGAIN;
    if (t->stalled || result == CURLE_OPERATION_TIMEDOUT) {
        snprintf(t->problem, sizeof t->problem, "no data came for %.0f seconds",
                 t->stalled ? t->fetch->options->stall_seconds : (double)CONNECT_SECONDS);
        return AGAIN;
    }
    switch (result) {
    case CURLE_ABORTED_BY_CALLBACK:
        t->failed = sri_fail(t->error, SR_ERR_CANCELLED, t->url,
                             "stopped; run this again to go on where it stopped");
        return FAILED;
    case CURLE_OUT_OF_MEMORY: t->failed = sri_fail_memory(t->error); return FAILED;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        snprintf(t->problem, sizeof t->problem, "the connection was cut (%s)", why);
        return AGAIN;
    default: break;
    }
    snprintf(t->problem, sizeof t->problem, "%s", why);
    if (unreachable && t->fetch->connected) return AGAIN;
    t->failed = sri_fail(t->error, SR_ERR_IO, t->url, "cannot fetch %s: %s%s", t->url, why,
                         unreachable ? "; is there a network? What is in the cache can be used "
                                       "without one: see --offline"
                                     : "");
    return FAILED;
}

static outcome refuse(transfer *t, long status) {
    const char *hint = "";
    if (status == 401)
        hint = ": there is no such repository, or it is not public; check the name, or set "
               "HF_TOKEN to a "
               "token that may read it";
    if (status == 403)
        hint = ": the server does not let you have it; accept its terms in a browser, and set "
               "HF_TOKEN to "
               "a token that may read it";
    t->failed =
        sri_fail(t->error, SR_ERR_IO, t->url, "%s: the server answers %ld%s", t->url, status, hint);
    return FAILED;
}

static outcome finish(transfer *t) {
    if (t->stated != 0 && t->stated != t->at) {
        t->restart = true;
        t->failed = sri_fail(t->error, SR_ERR_IO, t->url,
                             "%s: %llu bytes came, but the server says that the file has %llu; run "
                             "this again",
                             t->url, (unsigned long long)t->at, (unsigned long long)t->stated);
        return FAILED;
    }
    if (fsync(t->descriptor) == 0) return DONE;
    t->failed = fail_part(t, errno);
    return FAILED;
}

static outcome attempt(transfer *t) {
    t->etag[0] = t->digest[0] = '\0';
    t->stated = 0;
    t->restart = false;
    t->before = t->fetched->received;
    if (t->at > 0 && t->kept[0] == '\0' && !empty_part(t)) return FAILED;
    CURLcode result = request_through(t);
    if (t->failed != SR_OK || result != CURLE_OK) return fail_transfer(t, result);
    long status = response_status(t);
    if (status == 200 || status == 206) {
        if (!t->begun && !begin_body(t, status)) return t->failed == SR_OK ? AGAIN : FAILED;
        return finish(t);
    }
    if (status == 416 && t->at > 0 && t->all == t->at && same_version(t)) return finish(t);
    if (status == 404 || status == 410) {
        t->fetched->missing = t->restart = true;
        return DONE;
    }
    snprintf(t->problem, sizeof t->problem, "the server answers %ld", status);
    t->restart = status == 416;
    if (status == 408 || status == 416 || status == 429 || status >= 500) return AGAIN;
    return refuse(t, status);
}

/* False when the user asks to stop meanwhile. */
static bool pause_before(transfer *t, int failures) {
    curl_off_t asked = 0;
    double seconds = SRI_MIN(0.25 * (double)(1u << SRI_MIN(failures, 8)), LONGEST_PAUSE);
    t->fetch->api.get(t->fetch->curl, CURLINFO_RETRY_AFTER, &asked);
    if (asked > 0) seconds = SRI_MAX(seconds, SRI_MIN((double)asked, LONGEST_ASKED));
    double until = sri_seconds() + seconds;
    sri_log(SR_LOG_INFO, "%s: %s; trying again in %.1f s", t->url, t->problem, seconds);
    while (sri_seconds() < until) {
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        if (stopped(t)) return false;
    }
    return true;
}

static sr_status attempts(transfer *t) {
    int failures = 0;
    for (int all = 0; all < ATTEMPTS; all++) {
        outcome result = attempt(t);
        if (result == DONE) return SR_OK;
        if (result == FAILED) return t->failed;
        if (t->restart && !empty_part(t)) return t->failed;
        failures = t->fetched->received > t->before ? 1 : failures + 1;
        if (failures > t->fetch->options->retries) break;
        if (!pause_before(t, failures))
            return fail_transfer(t, CURLE_ABORTED_BY_CALLBACK), t->failed;
    }
    return sri_fail(
        t->error, SR_ERR_IO, t->url,
        "cannot fetch %s: %s, after %d attempts; run this again later: it goes on after the "
        "%llu bytes that are there",
        t->url, t->problem, failures, (unsigned long long)t->at);
}

/* The SHA-256 that the headers state: 64 digits, mostly in quotes. */
static void take_digest(transfer *t) {
    const char *sources[] = {t->digest, t->etag};
    for (size_t i = 0; i < SRI_COUNT(sources) && t->fetched->sha256[0] == '\0'; i++) {
        const char *text = sources[i];
        text += strncmp(text, "W/", 2) == 0 ? 2 : 0;
        text += *text == '"';
        size_t len = strspn(text, "0123456789abcdef");
        if (len == 64 && (text[64] == '\0' || text[64] == '"'))
            snprintf(t->fetched->sha256, sizeof t->fetched->sha256, "%.64s", text);
    }
}

sr_status sri_fetch_file(sri_fetch *fetch, const char *url, const char *part, uint64_t max_bytes,
                         sri_fetched *fetched, sr_error *error) {
    transfer t = {.fetch = fetch,
                  .url = url,
                  .part = part,
                  .fetched = fetched,
                  .error = error,
                  .max_bytes = max_bytes};
    *fetched = (sri_fetched){0};
    sr_status code = open_part(&t);
    if (code == SR_OK) code = attempts(&t);
    if (code == SR_OK) take_digest(&t);
    if (t.descriptor >= 0) close(t.descriptor);
    bool useless = t.restart || t.at == 0;
    if (useless && t.descriptor >= 0 && (fetched->missing || code != SR_OK)) {
        char path[PATH_MAX];
        etag_path(&t, path);
        unlink(path);
        unlink(part);
    }
    return code;
}

#endif
