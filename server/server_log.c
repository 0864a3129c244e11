/*
 * server_log.c - see server_log.h.
 *
 * A text line is "TIME LEVEL message name=value name="a value"", as people and logfmt's readers take it; a JSON line is one
 * object. Control characters and what is not UTF-8 are escaped or replaced in both, as values may come from
 * anybody.
 */
#include "server_log.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/io.h"

#define MAX_PENDING ((size_t)1 << 20)
#define TAIL        32 /* bytes of a line kept for its end */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    sri_buffer pending;
    bool running, stopping, json;
    atomic_int level;
    _Atomic uint64_t dropped;
} sink = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .changed = PTHREAD_COND_INITIALIZER,
          .level = SR_LOG_WARN,
          .pending.max = MAX_PENDING};

/* ---- Writing -------------------------------------------------------------------------------------- */

static void write_all(const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t wrote = write(STDERR_FILENO, bytes, len);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return; /* there is nowhere to complain */
        bytes += wrote;
        len -= (size_t)wrote;
    }
}

static void *write_pending(void *unused) {
    (void)unused;
    sri_buffer taken = {.max = MAX_PENDING};
    pthread_mutex_lock(&sink.lock);
    while (!sink.stopping || sink.pending.len > 0) {
        if (sink.pending.len == 0) {
            pthread_cond_wait(&sink.changed, &sink.lock);
            continue;
        }
        sri_buffer full = sink.pending;
        sink.pending = taken;
        pthread_mutex_unlock(&sink.lock);
        write_all(full.data, full.len);
        full.len = 0;
        taken = full;
        pthread_mutex_lock(&sink.lock);
    }
    sink.running = false;
    pthread_cond_broadcast(&sink.changed);
    pthread_mutex_unlock(&sink.lock);
    sri_buffer_free(&taken);
    return NULL;
}

static void put(const char *bytes, size_t len) {
    pthread_mutex_lock(&sink.lock);
    bool running = sink.running, kept = running && sri_buffer_append(&sink.pending, bytes, len);
    /* The writer waits only when there is nothing. */
    if (kept && sink.pending.len == len) pthread_cond_signal(&sink.changed);
    pthread_mutex_unlock(&sink.lock);
    if (!running)
        write_all(bytes, len);
    else if (!kept)
        atomic_fetch_add(&sink.dropped, 1);
}

/* ---- Lines ---------------------------------------------------------------------------------------- */

static void append(srv_line *line, const char *bytes, size_t len) {
    if (line->cut || line->len + len + TAIL > sizeof line->bytes) {
        line->cut = true;
        return;
    }
    memcpy(line->bytes + line->len, bytes, len);
    line->len += len;
}

static void append_word(srv_line *line, const char *word) { append(line, word, strlen(word)); }

/* A JSON string, of which at most `most` bytes of the value are kept, so that one field cannot take the whole line. */
static void append_string(srv_line *line, sr_str value, size_t most) {
    sri_buffer quoted = {.max = sizeof line->bytes};
    bool longer = value.len > most;
    if (longer) value.len = most;
    while (longer && value.len > 0 && ((unsigned char)value.data[value.len] & 0xC0) == 0x80)
        value.len--;
    if (sri_append_json(&quoted, value) && longer) {
        quoted.len--;
        longer = sri_buffer_append_str(&quoted, "...\"");
    }
    append(line, quoted.data, quoted.len);
    sri_buffer_free(&quoted);
}

static bool is_plain(sr_str value) {
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c <= ' ' || c >= 0x7F || c == '"' || c == '=' || c == '\\') return false;
    }
    return value.len > 0 && value.len <= 1024;
}

static void append_time(srv_line *line) {
    struct timespec now;
    struct tm parts;
    char text[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t len = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + len, sizeof text - len, ".%03ldZ", now.tv_nsec / 1000000);
    append_word(line, text);
}

void srv_line_begin(srv_line *line, sr_log_level level, const char *message) {
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    line->len = 0;
    line->cut = false;
    line->json = sink.json;
    append_word(line, line->json ? "{\"time\":\"" : "");
    append_time(line);
    append_word(line, line->json ? "\",\"level\":\"" : " ");
    append_word(line, levels[level]);
    append_word(line, line->json ? "\",\"message\":" : " ");
    if (line->json)
        append_string(line, sr_str_of(message), 2048);
    else
        append(line, message, SRI_MIN(strlen(message), (size_t)2048));
}

static void append_name(srv_line *line, const char *name) {
    append_word(line, line->json ? ",\"" : " ");
    append_word(line, name);
    append_word(line, line->json ? "\":" : "=");
}

/* A field that did not fit is left out whole. */
static void end_field(srv_line *line, size_t before) {
    if (line->cut) line->len = SRI_MIN(line->len, before);
}

void srv_line_text(srv_line *line, const char *name, sr_str value) {
    size_t before = line->len;
    append_name(line, name);
    if (!line->json && is_plain(value))
        append(line, value.data, value.len);
    else
        append_string(line, value, 1024);
    end_field(line, before);
}

void srv_line_number(srv_line *line, const char *name, double value) {
    char text[40];
    size_t before = line->len;
    snprintf(text, sizeof text, isfinite(value) ? "%.10g" : "null", value);
    append_name(line, name);
    append_word(line, text);
    end_field(line, before);
}

void srv_line_end(srv_line *line) {
    const char *end =
        line->cut ? (line->json ? ",\"cut\":true}\n" : " cut=true\n") : (line->json ? "}\n" : "\n");
    memcpy(line->bytes + line->len, end, strlen(end)); /* TAIL has room for it */
    put(line->bytes, line->len + strlen(end));
}

/* ---- The log -------------------------------------------------------------------------------------- */

bool srv_log_wants(sr_log_level level) {
    return (int)level <= atomic_load_explicit(&sink.level, memory_order_relaxed);
}

bool srv_log_is_json(void) { return sink.json; }

void srv_log_set_level(sr_log_level level) { atomic_store(&sink.level, (int)level); }

uint64_t srv_log_dropped(void) { return atomic_load(&sink.dropped); }

static void take_library_line(void *user, sr_log_level level, const char *text) {
    (void)user;
    srv_line line;
    if (!srv_log_wants(level)) return;
    srv_line_begin(&line, level, text);
    srv_line_end(&line);
}

void srv_log_open(sr_log_level level, bool json) {
    srv_log_set_level(level);
    pthread_mutex_lock(&sink.lock);
    sink.json = json;
    sink.stopping = false;
    sink.running = pthread_create(&sink.thread, NULL, write_pending, NULL) == 0;
    pthread_mutex_unlock(&sink.lock);
    sr_log_set(take_library_line, SR_LOG_DEBUG, NULL);
}

/* The thread may be stuck in a write that nobody reads: then it is left behind. */
void srv_log_close(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    pthread_mutex_lock(&sink.lock);
    bool running = sink.running;
    sink.stopping = true;
    pthread_cond_broadcast(&sink.changed);
    int waited = 0;
    while (sink.running && waited == 0)
        waited = pthread_cond_timedwait(&sink.changed, &sink.lock, &until);
    bool ended = running && !sink.running;
    pthread_mutex_unlock(&sink.lock);
    if (ended) {
        pthread_join(sink.thread, NULL);
        sri_buffer_free(&sink.pending);
    } else if (running) {
        pthread_detach(sink.thread);
    }
}
