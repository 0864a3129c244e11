/*
 * cmd_load.c - `load`: puts load on a server and reports how it fared.
 */
#include "load.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct load_options {
    const char *url, *texts, *arrivals, *format;
    load_plan plan;
    load_body body;
    load_target target;
    sri_read_options read;
    int batch, seed;
    bool rate_given, deadline_given, each_second;
} load_options;

static const char *const error_names[LOAD_ERROR_KINDS] = {"connect", "timeout", "closed",
                                                          "no_http"};

/* ---- Figures ----------------------------------------------------------------------------------- */

static const struct {
    const char *name, *json;
    double quantile;
} quantiles[] = {{"p50", "p50", 0.5},
                 {"p90", "p90", 0.9},
                 {"p99", "p99", 0.99},
                 {"p99.9", "p999", 0.999},
                 {"max", "max", 1}};

static bool put_ms(cli_state *cli, const char *name, double nanoseconds, bool first) {
    if (!sri_buffer_format(&cli->out, "%s\"%s\":", first ? "" : ",", name)) return false;
    return isnan(nanoseconds) ? sri_buffer_append_str(&cli->out, "null")
                              : sri_buffer_format(&cli->out, "%.4f", nanoseconds * 1e-6);
}

static bool put_histogram_json(cli_state *cli, const char *name, const sri_histogram *histogram) {
    bool done = sri_buffer_format(&cli->out, ",\"%s\":{", name);
    for (size_t i = 0; done && i < SRI_COUNT(quantiles); i++)
        done = put_ms(cli, quantiles[i].json,
                      sri_histogram_quantile(histogram, quantiles[i].quantile), i == 0);
    double mean = histogram->count == 0 ? NAN : histogram->sum / (double)histogram->count;
    return done && put_ms(cli, "mean", mean, false) && sri_buffer_append_str(&cli->out, "}");
}

static bool put_histogram(cli_state *cli, const char *name, const sri_histogram *histogram) {
    if (histogram->count == 0) return true;
    bool done = sri_buffer_format(&cli->out, "%-10s", name);
    for (size_t i = 0; done && i < SRI_COUNT(quantiles); i++)
        done = sri_buffer_format(&cli->out, "  %s %.3f ms", quantiles[i].name,
                                 1e-6 * sri_histogram_quantile(histogram, quantiles[i].quantile));
    return done && sri_buffer_append_str(&cli->out, "\n");
}

static double per_second(uint64_t count, double seconds) {
    return seconds > 0 ? (double)count / seconds : 0;
}

/* ---- JSON -------------------------------------------------------------------------------------- */

static bool put_errors_json(cli_state *cli, const load_result *r) {
    sri_buffer *out = &cli->out;
    bool done =
        sri_buffer_format(out, ",\"errors\":{\"all\":%llu", (unsigned long long)load_errors(r));
    for (size_t i = 0; done && i < LOAD_ERROR_KINDS; i++)
        done = sri_buffer_format(out, ",\"%s\":%llu", error_names[i],
                                 (unsigned long long)r->errors[i]);
    done = done && sri_buffer_append_str(out, ",\"status\":{");
    bool first = true;
    for (int i = 0; done && i < (int)SRI_COUNT(r->statuses); i++) {
        if (r->statuses[i] == 0) continue;
        done = sri_buffer_format(out, "%s\"%d\":%llu", first ? "" : ",", i,
                                 (unsigned long long)r->statuses[i]);
        first = false;
    }
    return done && sri_buffer_append_str(out, "}}");
}

static bool put_seconds_json(cli_state *cli, const load_result *r) {
    bool done = sri_buffer_append_str(&cli->out, ",\"each_second\":[");
    for (size_t i = 0; done && i < r->second_count; i++) {
        const load_second *s = &r->seconds[i];
        done = sri_buffer_format(&cli->out, "%s{\"ok\":%llu,\"shed\":%llu,\"errors\":%llu,",
                                 i == 0 ? "" : ",", (unsigned long long)s->ok,
                                 (unsigned long long)s->shed, (unsigned long long)s->errors) &&
               put_ms(cli, "p50_ms", s->p50, true) && put_ms(cli, "p99_ms", s->p99, false) &&
               put_ms(cli, "max_ms", s->max, false) && sri_buffer_append_str(&cli->out, "}");
    }
    return done && sri_buffer_append_str(&cli->out, "]}\n");
}

static bool put_json(cli_state *cli, const load_options *o, const load_result *r) {
    sri_buffer *out = &cli->out;
    uint64_t errors = load_errors(r);
    double ok = per_second(r->ok.count, r->elapsed);
    bool done =
        sri_buffer_append_str(out, "{\"url\":") && sri_append_json(out, sr_str_of(o->url)) &&
        sri_buffer_format(out, ",\"mode\":\"%s\",\"rate\":", o->rate_given ? "open" : "closed");
    if (done && o->rate_given)
        done = sri_buffer_format(out, "%g,\"arrivals\":\"%s\"", o->plan.rate,
                                 o->plan.constant ? "constant" : "poisson");
    else
        done = done && sri_buffer_append_str(out, "null,\"arrivals\":null");
    return done &&
           sri_buffer_format(out, ",\"connections\":%d,\"batch\":%zu,\"seconds\":%.3f",
                             o->plan.connections, o->body.batch, r->elapsed) &&
           sri_buffer_format(out, ",\"sent\":%llu,\"ok\":%llu,\"shed\":%llu",
                             (unsigned long long)(r->ok.count + r->shed.count + errors),
                             (unsigned long long)r->ok.count, (unsigned long long)r->shed.count) &&
           put_errors_json(cli, r) &&
           sri_buffer_format(out, ",\"requests_per_second\":%.2f,\"texts_per_second\":%.2f", ok,
                             ok * (double)o->body.batch) &&
           put_histogram_json(cli, "latency_ms", &r->ok) &&
           put_histogram_json(cli, "shed_ms", &r->shed) &&
           sri_buffer_format(out, ",\"generator\":{\"cpu_share\":%.3f,\"waited\":%llu",
                             r->cpu_share, (unsigned long long)r->waited) &&
           put_histogram_json(cli, "late_ms", &r->late) && sri_buffer_append_str(out, "}") &&
           put_seconds_json(cli, r);
}

/* ---- Text -------------------------------------------------------------------------------------- */

static bool put_errors(cli_state *cli, const load_result *r) {
    sri_buffer *out = &cli->out;
    bool done = sri_buffer_format(out, "errors      %llu", (unsigned long long)load_errors(r));
    for (size_t i = 0; done && i < LOAD_ERROR_KINDS; i++)
        if (r->errors[i] > 0)
            done = sri_buffer_format(out, "  %s %llu", error_names[i],
                                     (unsigned long long)r->errors[i]);
    for (int i = 0; done && i < (int)SRI_COUNT(r->statuses); i++)
        if (r->statuses[i] > 0)
            done =
                sri_buffer_format(out, "  status %d %llu", i, (unsigned long long)r->statuses[i]);
    return done && sri_buffer_append_str(out, "\n");
}

static bool put_seconds(cli_state *cli, const load_result *r) {
    bool done = sri_buffer_append_str(
        &cli->out, "second        ok      shed    errors    p50 ms    p99 ms    max ms\n");
    for (size_t i = 0; done && i < r->second_count; i++) {
        const load_second *s = &r->seconds[i];
        done =
            sri_buffer_format(&cli->out, "%6zu %9llu %9llu %9llu", i + 1, (unsigned long long)s->ok,
                              (unsigned long long)s->shed, (unsigned long long)s->errors) &&
            (isnan(s->p50) ? sri_buffer_append_str(&cli->out, "\n")
                           : sri_buffer_format(&cli->out, " %9.3f %9.3f %9.3f\n", s->p50 * 1e-6,
                                               s->p99 * 1e-6, s->max * 1e-6));
    }
    return done;
}

static bool put_text(cli_state *cli, const load_options *o, const load_result *r) {
    sri_buffer *out = &cli->out;
    char rate[64] = "closed loop";
    if (o->rate_given)
        snprintf(rate, sizeof rate, "%g requests/s (%s)", o->plan.rate,
                 o->plan.constant ? "constant" : "poisson");
    return cli_put_plain(cli, sr_str_of(o->url)) &&
           sri_buffer_format(out, ": %s, %d connections, %.1f s\n", rate, o->plan.connections,
                             r->elapsed) &&
           sri_buffer_format(out, "answered    %llu  %.1f requests/s",
                             (unsigned long long)r->ok.count,
                             per_second(r->ok.count, r->elapsed)) &&
           (o->body.batch == 1 ||
            sri_buffer_format(out, "  %.1f texts/s",
                              per_second(r->ok.count, r->elapsed) * (double)o->body.batch)) &&
           sri_buffer_format(out, "\nshed        %llu\n", (unsigned long long)r->shed.count) &&
           put_errors(cli, r) && put_histogram(cli, "latency", &r->ok) &&
           put_histogram(cli, "shed after", &r->shed) &&
           sri_buffer_format(out, "generator   %.0f %% of a core", 100 * r->cpu_share) &&
           (r->late.count == 0 ||
            sri_buffer_format(out, ", p99 %.3f ms late",
                              1e-6 * sri_histogram_quantile(&r->late, 0.99))) &&
           sri_buffer_append_str(out, "\n") && (!o->each_second || put_seconds(cli, r));
}

/* ---- The command ------------------------------------------------------------------------------- */

/* What the reader should know about the figures before believing them. */
static void put_notes(const cli_state *cli, const load_options *o, const load_result *r) {
    if (r->interrupted) cli_message(cli, "stopped early");
    if (cli->quiet) return;
    if (r->cpu_share > 0.9)
        cli_message(cli,
                    "warning: the generator used %.0f %% of a core: it may have been what "
                    "limited the rate",
                    100 * r->cpu_share);
    uint64_t sent = r->ok.count + r->shed.count + load_errors(r);
    if (r->waited > sent / 100)
        cli_message(cli,
                    "warning: %llu of %llu requests waited until one of the %d connections was "
                    "free, which counts as latency; more --connections would send them in time",
                    (unsigned long long)r->waited, (unsigned long long)sent, o->plan.connections);
    if (o->rate_given && sri_histogram_quantile(&r->late, 0.99) > 1e6)
        cli_message(cli,
                    "warning: the generator itself was late by more than a millisecond (p99 "
                    "%.1f ms), which counts as latency",
                    1e-6 * sri_histogram_quantile(&r->late, 0.99));
}

static int report(cli_state *cli, const load_options *o, const load_result *r) {
    bool done = cli->json ? put_json(cli, o, r) : put_text(cli, o, r);
    if (!done) return cli_fail_memory(cli);
    put_notes(cli, o, r);
    if (r->first_status != 0) cli_message(cli, "status %d: %s", r->first_status, r->first_excerpt);
    if (r->ok.count > 0) return EXIT_DONE;
    cli_message(cli, "no request was answered well");
    return EXIT_FAILED;
}

static int raise_descriptors(const cli_state *cli, int connections) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + 16;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return EXIT_DONE;
    if (limit.rlim_max >= wanted) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return EXIT_DONE;
    }
    return cli_usage(cli, "--connections %d: this process may open %llu files; see ulimit -n",
                     connections, (unsigned long long)limit.rlim_max);
}

static int run(cli_state *cli, load_options *o, const load_requests *requests) {
    sr_error error;
    cli_progress progress;
    load_result *result = sri_alloc_zero(1, sizeof *result);
    if (result == NULL) return cli_fail_memory(cli);
    cli_progress_begin(cli, &progress, "loading");
    progress.share = true;
    sr_status code = load_reach(&o->target, o->plan.timeout, &error);
    if (code == SR_OK)
        code =
            load_run(&o->plan, &o->target, requests, cli_progress_step, &progress, result, &error);
    cli_progress_end(&progress);
    int status = code == SR_OK ? report(cli, o, result) : cli_fail(cli, &error);
    sri_free(result->seconds);
    sri_free(result);
    return status;
}

static int prepare_and_run(cli_state *cli, load_options *o) {
    cli_texts texts = {0};
    load_requests requests = {0};
    sr_error error;
    int status = cli_read_texts(cli, o->texts, &o->read, &texts);
    if (status == EXIT_DONE &&
        load_make_requests(&o->target, &o->body, &texts, &requests, &error) != SR_OK)
        status = cli_fail(cli, &error);
    if (status == EXIT_DONE) status = run(cli, o, &requests);
    load_free_requests(&requests);
    cli_free_texts(&texts);
    return status;
}

static int check_times(const cli_state *cli, const load_options *o) {
    const load_plan *plan = &o->plan;
    if (o->rate_given && (plan->rate <= 0 || plan->rate > 1e6))
        return cli_usage(cli, "--rate %g: give more than 0, at most 1000000", plan->rate);
    if (plan->duration <= 0 || plan->duration > 86400)
        return cli_usage(cli, "--duration %g: give more than 0, at most 86400 seconds",
                         plan->duration);
    if (plan->warmup < 0 || plan->warmup > 3600)
        return cli_usage(cli, "--warmup %g: give 0 to 3600 seconds", plan->warmup);
    if (plan->timeout <= 0 || plan->timeout > 3600)
        return cli_usage(cli, "--timeout %g: give more than 0, at most 3600 seconds",
                         plan->timeout);
    return EXIT_DONE;
}

static bool is_header_value(const char *text) {
    for (; *text != '\0'; text++)
        if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 0x7F) return false;
    return true;
}

static int check_request(const cli_state *cli, load_options *o) {
    const char *path = o->body.path;
    if (path != NULL && strcmp(path, "fast") != 0 && strcmp(path, "slow") != 0 &&
        strcmp(path, "auto") != 0)
        return cli_usage(cli, "--path %s: give fast, slow or auto", path);
    if (o->batch < 1 || o->batch > 1000000)
        return cli_usage(cli, "--batch %d: give 1 to 1000000", o->batch);
    if (o->deadline_given && o->body.deadline_ms < 1)
        return cli_usage(cli, "--deadline %d: give at least 1 millisecond", o->body.deadline_ms);
    if (o->body.key == NULL) o->body.key = getenv("SYNAPTOROUTE_KEY");
    if (o->body.key != NULL && *o->body.key == '\0') o->body.key = NULL;
    if (o->body.key != NULL && !is_header_value(o->body.key))
        return cli_usage(cli, "the API key has characters that no key has");
    o->body.batch = (size_t)o->batch;
    return load_take_url(cli, o->url, &o->target);
}

static int check(const cli_state *cli, load_options *o) {
    if (cli->argc > 1) return cli_usage(cli, "give one URL");
    if (cli->argc == 1) o->url = cli->argv[0];
    if (o->texts == NULL) return cli_usage(cli, "name a file of texts to send: --texts FILE");
    if (!cli_format(cli, o->format, &o->read.format)) return EXIT_USAGE;
    if (o->arrivals != NULL && !o->rate_given)
        return cli_usage(cli, "--arrivals goes with --rate: without it, answers set the pace");
    o->plan.constant = o->arrivals != NULL && strcmp(o->arrivals, "constant") == 0;
    if (o->arrivals != NULL && !o->plan.constant && strcmp(o->arrivals, "poisson") != 0)
        return cli_usage(cli, "--arrivals %s: give poisson or constant", o->arrivals);
    if (o->plan.connections < 1 || o->plan.connections > 60000)
        return cli_usage(cli, "--connections %d: give 1 to 60000", o->plan.connections);
    o->plan.seed = (uint64_t)o->seed;
    int status = check_times(cli, o);
    if (status == EXIT_DONE) status = check_request(cli, o);
    return status == EXIT_DONE ? raise_descriptors(cli, o->plan.connections) : status;
}

int cli_load(cli_state *cli) {
    load_options o = {.url = "http://127.0.0.1:8080",
                      .plan = {.connections = 64, .duration = 10, .warmup = 1, .timeout = 10},
                      .batch = 1,
                      .seed = 1};
    const cli_option options[] = {{"texts", CLI_STRING, &o.texts, NULL},
                                  {"rate", CLI_REAL, &o.plan.rate, &o.rate_given},
                                  {"arrivals", CLI_STRING, &o.arrivals, NULL},
                                  {"connections", CLI_INTEGER, &o.plan.connections, NULL},
                                  {"duration", CLI_REAL, &o.plan.duration, NULL},
                                  {"warmup", CLI_REAL, &o.plan.warmup, NULL},
                                  {"timeout", CLI_REAL, &o.plan.timeout, NULL},
                                  {"batch", CLI_INTEGER, &o.batch, NULL},
                                  {"path", CLI_STRING, &o.body.path, NULL},
                                  {"deadline", CLI_INTEGER, &o.body.deadline_ms, &o.deadline_given},
                                  {"key", CLI_STRING, &o.body.key, NULL},
                                  {"seed", CLI_INTEGER, &o.seed, NULL},
                                  {"each-second", CLI_FLAG, &o.each_second, NULL},
                                  {"format", CLI_STRING, &o.format, NULL},
                                  {"text-column", CLI_STRING, &o.read.text_column, NULL},
                                  {"route-column", CLI_STRING, &o.read.route_column, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    status = check(cli, &o);
    return status == EXIT_DONE ? prepare_and_run(cli, &o) : status;
}
