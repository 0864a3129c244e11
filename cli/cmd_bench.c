/*
 * cmd_bench.c - `bench`: how fast this machine encodes, at each CPU level that it has.
 *
 * A process chooses its level once, so each level is measured by a child of its own, which sends its
 * results as one JSON object through a pipe. The parent has used no kernel when it forks.
 */
#include "cli.h"

#include "eval/speed.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct bench {
    const char *level; /* NULL: all */
    double seconds;
} bench;

/* ---- The child --------------------------------------------------------------------------------- */

/* The object of products, with the encoders put before its last brace. */
static sr_status measure(const cli_state *cli, const bench *b, sri_buffer *json, sr_error *error) {
    static const char *const shipped[] = {"bge-small-en-v1.5", "static-en"};
    size_t count = cli->model == NULL ? SRI_COUNT(shipped) : 1;
    double peak;
    sr_status code = sri_speed_of_products(json, &peak, error);
    if (code != SR_OK) return code;
    json->len--;
    if (!sri_buffer_append_str(json, ",\"encoders\":[")) return sri_fail_memory(error);
    for (size_t i = 0; i < count; i++) {
        sri_speed_options options = {.model = cli->model == NULL ? shipped[i] : cli->model,
                                     .threads = cli->threads,
                                     .seconds = b->seconds,
                                     .peak = peak};
        if (i > 0 && !sri_buffer_append_str(json, ",")) return sri_fail_memory(error);
        code = sri_speed_of_encoder(&options, json, error);
        if (code != SR_OK) return code;
    }
    return sri_buffer_append_str(json, "]}") ? SR_OK : sri_fail_memory(error);
}

static bool send_all(int descriptor, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t written = write(descriptor, bytes, len);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes += written;
        len -= (size_t)written;
    }
    return true;
}

static int run_child(const cli_state *cli, const bench *b, const char *level, int descriptor) {
    sri_buffer json = {0};
    sr_error error;
    setenv("SR_CPU", level, 1);
    int status = EXIT_DONE;
    if (measure(cli, b, &json, &error) != SR_OK)
        status = cli_fail(cli, &error);
    else if (!send_all(descriptor, json.data, json.len))
        status = EXIT_FAILED;
    sri_buffer_free(&json);
    return status;
}

/* ---- The parent -------------------------------------------------------------------------------- */

static sr_status receive_all(int descriptor, sri_buffer *json, sr_error *error) {
    char chunk[4096];
    for (;;) {
        ssize_t got = read(descriptor, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sri_fail_errno(error, errno, NULL, "cannot read a child's results");
        if (got == 0) return SR_OK;
        if (!sri_buffer_append(json, chunk, (size_t)got)) return sri_fail_memory(error);
    }
}

/* Appends the level's object to `json`; the child has said what failed. */
static int measure_level(const cli_state *cli, const bench *b, const char *level,
                         sri_buffer *json) {
    int ends[2], status = 0;
    sr_error error;
    if (pipe(ends) != 0) {
        sri_fail_errno(&error, errno, NULL, "cannot make a pipe");
        return cli_fail(cli, &error);
    }
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        _exit(run_child(cli, b, level, ends[1]));
    }
    close(ends[1]);
    sr_status code = child < 0 ? sri_fail_errno(&error, errno, NULL, "cannot start a process")
                               : receive_all(ends[0], json, &error);
    close(ends[0]);
    if (child > 0) waitpid(child, &status, 0);
    if (code != SR_OK) return cli_fail(cli, &error);
    return status == 0 ? EXIT_DONE : EXIT_FAILED;
}

static double number_of(const json_t *object, const char *name) {
    return json_number_value(json_object_get(object, name));
}

static bool put_encoder(cli_state *cli, const json_t *encoder) {
    size_t i;
    const json_t *run;
    bool done = true;
    json_array_foreach(json_object_get(encoder, "runs"), i, run) {
        done = done &&
               sri_buffer_format(&cli->out, "  %-20s %2.0f at a time %12.0f texts/s",
                                 json_string_value(json_object_get(encoder, "model")),
                                 number_of(run, "texts"), number_of(run, "texts_per_second")) &&
               sri_buffer_format(&cli->out, " %10.0f tokens/s  p50 %9.4f ms  p99 %9.4f ms",
                                 number_of(run, "tokens_per_second"), number_of(run, "p50_ms"),
                                 number_of(run, "p99_ms"));
        if (done && json_is_number(json_object_get(run, "peak_share")))
            done = sri_buffer_format(&cli->out, "  %3.0f %% of the peak",
                                     100 * number_of(run, "peak_share"));
        done = done && sri_buffer_append_str(&cli->out, "\n");
    }
    return done;
}

static bool put_level(cli_state *cli, const json_t *level) {
    const json_t *products = json_object_get(level, "products");
    const char *instruction = json_string_value(json_object_get(level, "int8_instruction"));
    bool done =
        sri_buffer_format(&cli->out, "%s\n", json_string_value(json_object_get(level, "level")));
    if (done && instruction != NULL)
        done = sri_buffer_format(&cli->out, "  peak of a core: %.0f Gop/s int8 (%s), %.0f fp32\n",
                                 number_of(level, "int8_peak_gops"), instruction,
                                 number_of(level, "fp32_peak_gops"));
    size_t i;
    const json_t *each;
    json_array_foreach(products, i, each) {
        done = done &&
               sri_buffer_format(&cli->out, "  product of %4.0f x %4.0f by %4.0f rows %8.1f Gop/s",
                                 number_of(each, "n"), number_of(each, "k"), number_of(each, "m"),
                                 number_of(each, "gops"));
        if (done && json_is_number(json_object_get(each, "share")))
            done = sri_buffer_format(&cli->out, " %4.0f %% of what the core can do",
                                     100 * number_of(each, "share"));
        done = done && sri_buffer_append_str(&cli->out, "\n");
    }
    json_array_foreach(json_object_get(level, "encoders"), i, each) {
        done = done && put_encoder(cli, each);
    }
    return done;
}

static bool put_table(cli_state *cli, const sri_buffer *json) {
    json_t *level = json_loadb(json->data, json->len, 0, NULL);
    bool done = level != NULL && put_level(cli, level);
    json_decref(level);
    return done;
}

static int run_levels(cli_state *cli, const bench *b) {
    size_t measured = 0;
    if (cli->json &&
        !sri_buffer_format(&cli->out, "{\"version\":\"%s\",\"levels\":[", sr_version()))
        return cli_fail_memory(cli);
    const char *name;
    for (size_t i = 0; (name = sri_speed_level(i)) != NULL; i++) {
        if (b->level != NULL && strcmp(b->level, name) != 0) continue;
        sri_buffer json = {0};
        int status = measure_level(cli, b, name, &json);
        bool done = status == EXIT_DONE;
        if (done && cli->json)
            done = sri_buffer_append_str(&cli->out, measured == 0 ? "" : ",") &&
                   sri_buffer_append(&cli->out, json.data, json.len);
        else if (done)
            done = put_table(cli, &json);
        sri_buffer_free(&json);
        if (status != EXIT_DONE) return status;
        if (!done) return cli_fail_memory(cli);
        if (!cli->json && cli_flush(cli) != EXIT_DONE) return EXIT_FAILED;
        measured++;
    }
    if (measured == 0) return cli_usage(cli, "--level %s: this CPU has no such level", b->level);
    return !cli->json || sri_buffer_append_str(&cli->out, "]}\n") ? EXIT_DONE
                                                                  : cli_fail_memory(cli);
}

int cli_bench(cli_state *cli) {
    bench b = {.seconds = 1};
    const cli_option options[] = {{"level", CLI_STRING, &b.level, NULL},
                                  {"seconds", CLI_REAL, &b.seconds, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc > 0) return cli_usage(cli, "bench takes no arguments");
    if (b.seconds <= 0 || b.seconds > 3600)
        return cli_usage(cli, "--seconds %g: give more than 0, at most 3600", b.seconds);
    return run_levels(cli, &b);
}
