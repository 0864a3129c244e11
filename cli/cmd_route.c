/*
 * cmd_route.c - `route`: decides arguments, or lines of standard input as they come.
 *
 * Lines that wait are decided together, up to a batch, because the encoder is fastest so; a line that is
 * alone is decided at once, because somebody may be waiting for its answer. Reading and deciding do not
 * overlap: the pipe holds the next lines meanwhile.
 */
#include "cli.h"

#include "io/answer_json.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BATCH_LINES ((size_t)512)
#define BATCH_BYTES ((size_t)1 << 20)

/* ---- Answers ----------------------------------------------------------------------------------- */

static bool put_figure(cli_state *cli, const char *name, double value) {
    return isnan(value) || sri_buffer_format(&cli->out, "  %s %.3f", name, value);
}

/* One line: the route (or why there is none), its figures, the text. */
static bool put_line(cli_state *cli, const sr_decision *decision) {
    char why[64];
    snprintf(why, sizeof why, "(%s)", sr_reason_name(decision->reason));
    sr_str first = decision->status == SR_MATCHED ? decision->route : sr_str_of(why);
    return cli_put_column(cli, first, 24) && put_figure(cli, "confidence", decision->confidence) &&
           put_figure(cli, "score", decision->score) &&
           sri_buffer_append_str(&cli->out, decision->truncated ? "  truncated  " : "  ") &&
           cli_put_plain(cli, decision->text) &&
           (decision->read_as.len == 0 ||
            (sri_buffer_append_str(&cli->out, "  (read as: ") &&
             cli_put_plain(cli, decision->read_as) && sri_buffer_append(&cli->out, ")", 1))) &&
           sri_buffer_append(&cli->out, "\n", 1);
}

static bool put_candidates(cli_state *cli, const sr_decision *decision) {
    bool done = true;
    for (size_t i = 0; done && i < decision->candidate_count; i++) {
        const sr_candidate *candidate = &decision->candidates[i];
        done = sri_buffer_format(&cli->out, "  %zu. ", i + 1) &&
               cli_put_column(cli, candidate->route, 24) &&
               put_figure(cli, "confidence", candidate->confidence) &&
               put_figure(cli, "score", candidate->score) &&
               sri_buffer_append_str(&cli->out, "  ") && cli_put_plain(cli, candidate->utterance) &&
               sri_buffer_append(&cli->out, "\n", 1);
    }
    return done;
}

typedef struct route_job {
    cli_state *cli;
    sr_router *router;
    sr_decide_options options;
    bool with_candidates; /* in plain output */
} route_job;

/* Decides and writes; an exit status. */
static int answer(const route_job *job, const sr_str *texts, size_t n) {
    sr_decisions *decisions = NULL;
    sr_error error;
    if (sr_decide(job->router, texts, n, &job->options, &decisions, &error) != SR_OK)
        return cli_fail(job->cli, &error);
    bool done = true;
    for (size_t i = 0; done && i < n; i++) {
        const sr_decision *decision = sr_decisions_get(decisions, i);
        if (job->cli->json)
            done = sri_append_decision_json(&job->cli->out, decision) &&
                   sri_buffer_append(&job->cli->out, "\n", 1);
        else
            done = put_line(job->cli, decision) &&
                   (!job->with_candidates || put_candidates(job->cli, decision));
    }
    sr_decisions_free(&decisions);
    return done ? cli_flush(job->cli) : cli_fail_memory(job->cli);
}

/* ---- Standard input ---------------------------------------------------------------------------- */

typedef struct stream {
    sri_buffer bytes;
    size_t start;   /* of the first line that is not yet in a batch */
    size_t scanned; /* no newline in [start, scanned) */
    bool ended;
    size_t line; /* number of lines taken */
} stream;

/* Reads what there is, waiting for it when there is nothing; false after a message. */
static bool read_more(const cli_state *cli, stream *in) {
    static char chunk[1 << 16];
    ssize_t got;
    do got = read(STDIN_FILENO, chunk, sizeof chunk);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        cli_message(cli, "cannot read standard input: %s", strerror(errno));
        return false;
    }
    in->ended = got == 0;
    if (sri_buffer_append(&in->bytes, chunk, (size_t)got)) return true;
    cli_fail_memory(cli);
    return false;
}

static bool input_waits(void) {
    struct pollfd descriptor = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&descriptor, 1, 0) > 0;
}

/* Where the next line ends, without its newline; false when it is not complete yet. */
static bool find_line(stream *in, size_t *end) {
    const char *newline = NULL;
    if (in->scanned < in->bytes.len)
        newline = memchr(in->bytes.data + in->scanned, '\n', in->bytes.len - in->scanned);
    *end = newline == NULL ? in->bytes.len : (size_t)(newline - in->bytes.data);
    in->scanned = *end;
    if (newline == NULL && !(in->ended && in->start < in->bytes.len)) return false;
    return true;
}

/* Lines as offsets, because reading moves the bytes. */
typedef struct line_span {
    size_t offset, len;
} line_span;

static void take_line(stream *in, size_t end, line_span *line) {
    *line = (line_span){in->start, end - in->start};
    if (line->len > 0 && in->bytes.data[end - 1] == '\r') line->len--;
    in->start = in->scanned = SRI_MIN(end + 1, in->bytes.len);
    in->line++;
}

/* Collects the lines that wait, at least one unless the input has ended. */
static int gather(const cli_state *cli, stream *in, line_span *lines, size_t *count) {
    size_t first = in->start, end;
    *count = 0;
    while (*count < BATCH_LINES && in->start - first < BATCH_BYTES) {
        bool complete = find_line(in, &end);
        if ((complete ? end : in->bytes.len) - in->start > SR_MAX_TEXT_BYTES + 1) {
            if (*count > 0) break; /* those before it get their answers */
            cli_message(cli, "standard input:%zu: the line is longer than %d bytes, the maximum",
                        in->line + 1, SR_MAX_TEXT_BYTES);
            return EXIT_FAILED;
        }
        if (complete)
            take_line(in, end, &lines[(*count)++]);
        else if (in->ended || (*count > 0 && !input_waits()))
            break;
        else if (!read_more(cli, in))
            return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static void drop_taken(stream *in) {
    size_t rest = in->bytes.len - in->start;
    if (rest > 0) memmove(in->bytes.data, in->bytes.data + in->start, rest);
    in->bytes.len = rest;
    in->scanned -= in->start;
    in->start = 0;
}

static int answer_lines(const route_job *job, stream *in) {
    line_span lines[BATCH_LINES];
    sr_str texts[BATCH_LINES];
    for (;;) {
        size_t count;
        drop_taken(in);
        int status = gather(job->cli, in, lines, &count);
        if (status != EXIT_DONE || count == 0) return status;
        for (size_t i = 0; i < count; i++)
            texts[i] = (sr_str){in->bytes.data + lines[i].offset, lines[i].len};
        status = answer(job, texts, count);
        if (status != EXIT_DONE || job->cli->pipe_closed) return status;
    }
}

/* ---- Command ----------------------------------------------------------------------------------- */

static int answer_arguments(const route_job *job) {
    const cli_state *cli = job->cli;
    sr_str *texts = sri_alloc_array((size_t)cli->argc, sizeof *texts);
    if (texts == NULL) return cli_fail_memory(cli);
    for (int i = 0; i < cli->argc; i++) texts[i] = sr_str_of(cli->argv[i]);
    int status = answer(job, texts, (size_t)cli->argc);
    sri_free(texts);
    return status;
}

int cli_route(cli_state *cli) {
    const char *path = NULL;
    int top = 0;
    bool no_reject = false, as_is = false, top_given = false;
    const cli_option options[] = {{"path", CLI_STRING, &path, NULL},
                                  {"top", CLI_INTEGER, &top, &top_given},
                                  {"margin", CLI_REAL, &cli->margin, NULL},
                                  {"no-reject", CLI_FLAG, &no_reject, NULL},
                                  {"as-is", CLI_FLAG, &as_is, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc == 0) return cli_usage(cli, "give a TEXT, or - for the lines of standard input");
    bool from_input = cli->argc == 1 && strcmp(cli->argv[0], "-") == 0;
    route_job job = {.cli = cli, .with_candidates = top_given || (cli->argc == 1 && !from_input)};
    status = cli_decide_options(cli, path, top, top_given, no_reject, &job.options);
    job.options.as_is = as_is;
    if (status != EXIT_DONE) return status;
    /* Lines for people show no candidates, so that none need to be looked for. */
    if (!cli->json && !job.with_candidates) job.options.top_k = -1;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_READ_ONLY, &job.router);
    if (status != EXIT_DONE) return status;
    stream in = {0};
    status = from_input ? answer_lines(&job, &in) : answer_arguments(&job);
    sri_buffer_free(&in.bytes);
    sr_router_close(&job.router);
    return status;
}
