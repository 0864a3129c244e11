/*
 * server_main.c - the program synaptoroute-server, which `synaptoroute serve` becomes: start, signals, end.
 *
 * The main thread opens the listener first, so that probes get an answer while models are loaded, then the router, by
 * a thread of its own, since that may take long and has to end when it is told to, then waits for signals: SIGHUP reads
 * configuration, keys and certificates again, SIGTERM and SIGINT let what was accepted end, and then the program. A second
 * one ends it at once.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "observe.h"
#include "server.h"
#include "server_log.h"
#include "tls.h"
#include "workers.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* What ends the server. */
static void say(const char *text) {
    if (!srv_log_is_json()) {
        fprintf(stderr, "synaptoroute: serve: %s\n", text);
        return;
    }
    srv_line line;
    srv_line_begin(&line, SR_LOG_ERROR, text);
    srv_line_end(&line);
}

static sr_log_level level_named(const char *name) {
    return strcmp(name, "error") == 0   ? SR_LOG_ERROR
           : strcmp(name, "warn") == 0  ? SR_LOG_WARN
           : strcmp(name, "debug") == 0 ? SR_LOG_DEBUG
                                        : SR_LOG_INFO;
}

static sr_log_level level_of(const srv_config *config) {
    return config->quiet ? SR_LOG_ERROR : level_named(config->log_level);
}

/* ---- Settings --------------------------------------------------------------------------------------- */

static sr_status load_settings(int argc, char **argv, const srv_settings *running,
                               srv_settings **settings, bool *usage, sr_error *error) {
    srv_settings *made = sri_alloc_zero(1, sizeof *made);
    if (made == NULL) return sri_fail_memory(error);
    sr_status code = srv_config_load(argc, argv, &made->config, usage, error);
    if (code == SR_OK && running != NULL)
        code = srv_config_follow(&running->config, &made->config, error);
    const srv_config *config = &made->config;
    if (code == SR_OK && config->print_config) {
        *settings = made;
        return SR_OK;
    }
    if (code == SR_OK && config->keys != NULL)
        code = sri_keys_read(config->keys, &made->keys, error);
    if (code == SR_OK && config->tls)
        code = srv_tls_load(config->tls_certificate, config->tls_key, error);
    if (code != SR_OK) {
        sri_keys_free(&made->keys);
        srv_config_free(&made->config);
        sri_free(made);
        return code;
    }
    *settings = made;
    return SR_OK;
}

static void free_settings(srv_server *server) {
    srv_settings *settings = atomic_load(&server->settings);
    while (settings != NULL) {
        srv_settings *before = settings->before;
        sri_keys_free(&settings->keys);
        srv_config_free(&settings->config);
        sri_free(settings);
        settings = before;
    }
}

static void reload(srv_server *server, int argc, char **argv) {
    srv_settings *running = atomic_load(&server->settings), *fresh = NULL;
    bool usage;
    sr_error error;
    if (load_settings(argc, argv, running, &fresh, &usage, &error) != SR_OK) {
        sri_log(SR_LOG_ERROR, "not reloaded, all goes on as before: %s", error.message);
        return;
    }
    fresh->before = running;
    atomic_store_explicit(&server->settings, fresh, memory_order_release);
    srv_log_set_level(level_of(&fresh->config));
    sri_log(SR_LOG_INFO, "reloaded");
}

/* ---- Router ----------------------------------------------------------------------------------------- */

static sr_durability durability_named(const char *name) {
    return strcmp(name, "full") == 0       ? SR_DURABILITY_FULL
           : strcmp(name, "deferred") == 0 ? SR_DURABILITY_DEFERRED
                                           : SR_DURABILITY_NORMAL;
}

static sr_queue_profile profile_named(const char *name) {
    return strcmp(name, "latency") == 0      ? SR_QUEUE_LATENCY
           : strcmp(name, "throughput") == 0 ? SR_QUEUE_THROUGHPUT
                                             : SR_QUEUE_AUTO;
}

static void lost(void *user, uint64_t mutations, const sr_error *error) {
    (void)user;
    sri_log(SR_LOG_ERROR, "%llu deferred changes could not be stored and were taken back: %s",
            (unsigned long long)mutations, error->message);
}

/* Models touch their memory and caches at the first texts: those should not be a caller's. */
static sr_status warm(sr_router *router, sr_error *error) {
    static const char *const texts[] = {
        "where is my parcel", "a somewhat longer text, as a caller might send it, to warm up"};
    static const sr_path paths[] = {SR_PATH_AUTO, SR_PATH_SLOW};
    sr_status code = SR_OK;
    for (size_t i = 0; code == SR_OK && i < SRI_COUNT(paths); i++) {
        sr_decide_options options = {.size = sizeof options, .path = paths[i]};
        sr_decisions *decisions = NULL;
        sr_str both[] = {sr_str_of(texts[0]), sr_str_of(texts[1])};
        code = sr_decide(router, both, SRI_COUNT(both), &options, &decisions, error);
        sr_decisions_free(&decisions);
    }
    return code;
}

static sr_status open_router(const srv_config *config, sr_router **router, sr_error *error) {
    sr_options options = {.size = sizeof options,
                          .database = config->db,
                          .model = config->model,
                          .prefix = config->prefix,
                          .fast_model = config->fast_model,
                          .threads = (int)config->threads,
                          .margin = config->margin,
                          .cache_bytes = (size_t)config->cache_bytes,
                          .durability = durability_named(config->durability),
                          .lost = lost};
    if (config->refit) options.flags |= SR_OPEN_REFIT;
    if (config->reencode) options.flags |= SR_OPEN_REENCODE;
    if (config->fast_model != NULL && strcmp(config->fast_model, "none") == 0)
        options.fast_model = "";
    sr_queue_options queue = {.size = sizeof queue,
                              .profile = profile_named(config->profile),
                              .max_texts = (size_t)config->queue_texts,
                              .max_bytes = (size_t)config->queue_bytes};
    sr_status code = sr_router_open(&options, router, error);
    if (code == SR_OK) code = sr_queue_set(*router, &queue, error);
    if (code == SR_OK) code = warm(*router, error);
    if (code != SR_OK) sr_router_close(router);
    return code;
}

/* ---- Signals ---------------------------------------------------------------------------------------- */

static void block_signals(sigset_t *ours) {
    sigemptyset(ours);
    sigaddset(ours, SIGTERM);
    sigaddset(ours, SIGINT);
    sigaddset(ours, SIGHUP);
    pthread_sigmask(SIG_BLOCK, ours, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* Waits for a signal that ends the server, at most so long; false when none came. */
static bool ended_within(const sigset_t *ours, double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    int number = sigtimedwait(ours, NULL, &time);
    return number == SIGTERM || number == SIGINT;
}

static void wait_for_end(srv_server *server, const sigset_t *ours, int argc, char **argv) {
    for (;;) {
        int number = sigwaitinfo(ours, NULL);
        if (number == SIGHUP) reload(server, argc, argv);
        if (number == SIGTERM || number == SIGINT) return;
    }
}

typedef struct loading {
    const srv_config *config;
    sr_router *router;
    sr_status code;
    sr_error error;
    atomic_bool done;
} loading;

static void *load(void *user) {
    loading *l = user;
    l->code = open_router(l->config, &l->router, &l->error);
    atomic_store(&l->done, true);
    return NULL;
}

/* Opens the router. A signal that ends the server does so at once: nothing has been accepted yet, and what the database has
 * got is whole. */
static sr_status load_router(const srv_config *config, sr_router **router, sr_error *error) {
    loading l = {.config = config};
    sigset_t ends;
    pthread_t thread;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    if (pthread_create(&thread, NULL, load, &l) != 0) return sri_fail_memory(error);
    while (!atomic_load(&l.done)) {
        if (!ended_within(&ends, 0.01)) continue;
        sri_log(SR_LOG_INFO, "stopped before the models were loaded");
        srv_log_close();
        _Exit(EXIT_DONE);
    }
    pthread_join(thread, NULL);
    *router = l.router;
    if (l.code != SR_OK) *error = l.error;
    return l.code;
}

/* Lets what was accepted end. A second signal cuts that short. */
static void drain(srv_server *server, const sigset_t *ours) {
    const srv_config *config = &srv_settings_of(server)->config;
    atomic_store(&server->draining, true);
    sri_log(SR_LOG_INFO, "stopping: %zu requests are being worked on",
            srv_http_active(server->http));
    bool hurried =
        config->drain_delay_seconds > 0 && ended_within(ours, config->drain_delay_seconds);
    srv_http_quiesce(server->http);
    double end = sri_seconds() + config->drain_seconds;
    while (!hurried && srv_http_active(server->http) > 0 && sri_seconds() < end)
        hurried = ended_within(ours, 0.02);
    if (srv_http_active(server->http) == 0) return;
    sri_log(SR_LOG_WARN, "%zu requests are cut off", srv_http_active(server->http));
}

/* ---- Main ------------------------------------------------------------------------------------------- */

static void raise_file_limit(const srv_config *config) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    rlim_t needed = (rlim_t)config->max_connections + 512;
    if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < needed)
        sri_log(SR_LOG_WARN,
                "the system allows %llu open files, fewer than max_connections needs: raise its "
                "limit (ulimit -n)",
                (unsigned long long)limit.rlim_cur);
}

static void announce(const srv_server *server) {
    const srv_config *config = &srv_settings_of(server)->config;
    bool v6 = strchr(config->host, ':') != NULL;
    const char *host =
        config->host[0] == '\0' || strcmp(config->host, "*") == 0 ? "0.0.0.0" : config->host;
    char address[320];
    snprintf(address, sizeof address, "%s://%s%s%s:%u", config->tls ? "https" : "http",
             v6 ? "[" : "", host, v6 ? "]" : "", srv_http_port(server->http));
    if (!srv_log_is_json()) {
        fprintf(stderr, "synaptoroute: serve: listening on %s\n", address);
        return;
    }
    srv_line line;
    srv_line_begin(&line, SR_LOG_INFO, "listening");
    srv_line_text(&line, "address", sr_str_of(address));
    srv_line_end(&line);
}

static void stop(srv_server *server) {
    sr_router *router = atomic_load(&server->router);
    srv_observe_quiet(server);
    srv_http_close(&server->http);
    srv_workers_close(&server->workers);
    sr_router_close(&router);
    srv_observe_close(&server->observe);
}

static int serve(srv_server *server, const sigset_t *ours, int argc, char **argv) {
    const srv_config *config = &srv_settings_of(server)->config;
    sr_error error;
    sr_router *router = NULL;
    raise_file_limit(config);
    server->started_ns = sri_nanoseconds();
    pthread_rwlock_init(&server->changes, NULL);
    sr_status code = srv_workers_open(&server->workers, &error);
    if (code == SR_OK) code = srv_observe_open(server, &server->observe, &error);
    if (code == SR_OK) code = srv_http_open(server, &server->http, &error);
    if (code == SR_OK) {
        announce(server);
        code = load_router(config, &router, &error);
    }
    if (code != SR_OK) {
        say(error.message);
        stop(server);
        return EXIT_FAILED;
    }
    atomic_store_explicit(&server->router, router, memory_order_release);
    srv_observe_ready(server);
    sri_log(SR_LOG_INFO, "ready");
    wait_for_end(server, ours, argc, argv);
    drain(server, ours);
    /* Requests that still wait get an answer, since a connection cannot be closed while it is suspended. */
    while (!srv_http_hurry(server->http)) (void)ended_within(ours, 0.01);
    stop(server);
    sri_log(SR_LOG_INFO, "stopped");
    return EXIT_DONE;
}

static int put_out(const sri_buffer *out, bool made) {
    bool done = made && fwrite(out->data, 1, out->len, stdout) == out->len && fflush(stdout) == 0;
    if (!done) say("cannot write standard output");
    return done ? EXIT_DONE : EXIT_FAILED;
}

static int print(bool (*append)(const void *, sri_buffer *), const void *what) {
    sri_buffer out = {0};
    int status = put_out(&out, append(what, &out));
    sri_buffer_free(&out);
    return status;
}

static bool append_config(const void *config, sri_buffer *out) {
    return srv_config_append(config, out);
}
static bool append_help(const void *unused, sri_buffer *out) {
    (void)unused;
    return srv_config_append_help(out);
}

int main(int argc, char **argv) {
    srv_server server = {0};
    srv_settings *settings = NULL;
    sigset_t ours;
    sr_error error;
    bool usage;
    argc--;
    argv++;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--options") == 0) return print(append_help, NULL);
    block_signals(&ours);
    if (load_settings(argc, argv, NULL, &settings, &usage, &error) != SR_OK) {
        say(error.message);
        if (usage) fputs("Try: synaptoroute serve --help\n", stderr);
        return usage ? EXIT_USAGE : EXIT_FAILED;
    }
    atomic_store(&server.settings, settings);
    srv_log_open(level_of(&settings->config), strcmp(settings->config.log_format, "json") == 0);
    int status = settings->config.print_config ? print(append_config, &settings->config)
                                               : serve(&server, &ours, argc, argv);
    srv_log_close();
    free_settings(&server);
    srv_tls_unload();
    return status;
}
