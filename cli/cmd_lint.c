/*
 * cmd_lint.c - `lint`: what in the table makes decisions go wrong.
 */
#include "cli.h"

#include "eval/lint.h"

#include <math.h>
#include <string.h>

#define SHOWN 10 /* findings of each kind in the table, unless told otherwise */

/* ---- For people -------------------------------------------------------------------------------- */

static bool put_side(cli_state *cli, sr_str route, sr_str utterance) {
    return (route.len == 0 ? sri_buffer_append_str(&cli->out, "out of scope")
                           : cli_put_plain(cli, route)) &&
           sri_buffer_append_str(&cli->out, ": ") && cli_put_plain(cli, utterance);
}

static bool put_both(cli_state *cli, const sri_lint_finding *f) {
    return put_side(cli, f->route, f->utterance) && sri_buffer_append_str(&cli->out, "  |  ") &&
           put_side(cli, f->other, f->other_utterance);
}

static bool put_name(cli_state *cli, sr_str route) {
    return route.len == 0 ? sri_buffer_append_str(&cli->out, "out-of-scope examples")
                          : cli_put_plain(cli, route);
}

static bool put_finding(cli_state *cli, const sri_lint_finding *f) {
    sri_buffer *out = &cli->out;
    switch (f->kind) {
    case SRI_LINT_EMPTY: return cli_put_plain(cli, f->route);
    case SRI_LINT_FEW:
        return cli_put_plain(cli, f->route) && sri_buffer_format(out, ": %zu", f->count);
    case SRI_LINT_DUPLICATE: return put_both(cli, f);
    case SRI_LINT_NEAR:
    case SRI_LINT_OOS: return sri_buffer_format(out, "%.3f  ", f->cosine) && put_both(cli, f);
    case SRI_LINT_UNREACHED:
        return cli_put_plain(cli, f->route) &&
               sri_buffer_format(out, ": %zu utterances, most go to ", f->count) &&
               put_name(cli, f->other);
    case SRI_LINT_OVERLAP:
        return sri_buffer_format(out, "%4.1f %%  ", f->share * 100) &&
               cli_put_plain(cli, f->route) && sri_buffer_append_str(out, ", ") &&
               cli_put_plain(cli, f->other) &&
               sri_buffer_format(out, ": %zu utterances are nearest to the other route", f->count);
    case SRI_LINT_THRESHOLD:
        return sri_buffer_format(out, "%4.1f %%  ", f->share * 100) &&
               cli_put_plain(cli, f->route) &&
               sri_buffer_format(out, ": %zu utterances are below cosine %.3g", f->count,
                                 f->threshold);
    case SRI_LINT_LOST:
        return sri_buffer_format(out, "%.3f, own %.3f  ", f->cosine, f->own_cosine) &&
               put_both(cli, f);
    case SRI_LINT_KINDS: break;
    }
    return true;
}

static bool put_kind(cli_state *cli, const sri_lint *lint, sri_lint_kind kind, size_t limit) {
    size_t shown = 0, total = lint->counts[kind];
    if (total == 0) return true;
    bool done = sri_buffer_format(&cli->out, "\n%s: %zu\n", sri_lint_title(kind), total);
    for (size_t i = 0; done && i < lint->count && shown < limit; i++) {
        if (lint->findings[i].kind != kind) continue;
        shown++;
        done = sri_buffer_append_str(&cli->out, "  ") && put_finding(cli, &lint->findings[i]) &&
               sri_buffer_append(&cli->out, "\n", 1);
        if (done && cli->out.len > 65536 && cli_flush(cli) != EXIT_DONE) return false;
    }
    if (done && shown < total)
        done = sri_buffer_format(&cli->out, "  ... and %zu more (--limit 0 shows all)\n",
                                 total - shown);
    return done;
}

static size_t count_findings(const sri_lint *lint) {
    size_t sum = 0;
    for (int kind = 0; kind < SRI_LINT_KINDS; kind++) sum += lint->counts[kind];
    return sum;
}

static bool put_table(cli_state *cli, const sri_lint *lint, size_t limit) {
    size_t sum = count_findings(lint);
    bool done =
        sri_buffer_format(&cli->out, "%zu routes, %zu utterances", lint->routes, lint->utterances);
    if (done && lint->oos > 0)
        done = sri_buffer_format(&cli->out, ", %zu out-of-scope examples", lint->oos);
    done = done &&
           (sum == 0 ? sri_buffer_append_str(&cli->out, ": nothing found\n")
                     : sri_buffer_format(&cli->out, ": %zu finding%s\n", sum, sum == 1 ? "" : "s"));
    for (int kind = 0; done && kind < SRI_LINT_KINDS; kind++)
        done = put_kind(cli, lint, (sri_lint_kind)kind, limit);
    return done;
}

/* ---- The command ------------------------------------------------------------------------------- */

static int lint_router(cli_state *cli, sr_router *router, sri_lint_options *options, size_t limit,
                       bool strict) {
    cli_progress progress;
    cli_progress_begin(cli, &progress, "comparing");
    options->progress = cli_progress_step;
    options->progress_user = &progress;
    sri_lint lint;
    sr_error error;
    sr_status code = sri_lint_run(router, options, &lint, &error);
    cli_progress_end(&progress);
    if (code != SR_OK) return cli_fail(cli, &error);
    bool done = cli->json ? sri_lint_append_json(&lint, limit, &cli->out) &&
                                sri_buffer_append(&cli->out, "\n", 1)
                          : put_table(cli, &lint, limit);
    size_t sum = count_findings(&lint);
    sri_lint_free(&lint);
    if (!done) return cli_fail_memory(cli);
    if (!strict || sum == 0) return EXIT_DONE;
    cli_message(cli, "%zu finding%s", sum, sum == 1 ? "" : "s");
    return EXIT_FAILED;
}

static bool is_share(double value) { return value > 0 && value <= 1; }

int cli_lint(cli_state *cli) {
    sri_lint_options lint = {.near = 0.95, .overlap = 0.10, .oos = 0.90};
    int few = 5, limit = 0;
    bool limit_given = false, strict = false;
    const cli_option options[] = {
        {"near", CLI_REAL, &lint.near, NULL},         {"overlap", CLI_REAL, &lint.overlap, NULL},
        {"oos-near", CLI_REAL, &lint.oos, NULL},      {"few", CLI_INTEGER, &few, NULL},
        {"limit", CLI_INTEGER, &limit, &limit_given}, {"strict", CLI_FLAG, &strict, NULL}};
    int status = cli_parse(cli, options, SRI_COUNT(options));
    if (status != CLI_PROCEED) return status;
    if (cli->argc > 0)
        return cli_usage(cli, "%s is too much: lint looks at the whole table", cli->argv[0]);
    if (!is_share(lint.near) || !is_share(lint.oos))
        return cli_usage(cli, "give --near and --oos-near a cosine above 0, up to 1");
    if (!is_share(lint.overlap)) return cli_usage(cli, "give --overlap a share above 0, up to 1");
    if (few < 1) return cli_usage(cli, "--few %d: give 1 or more", few);
    if (limit < 0) return cli_usage(cli, "--limit %d: give 0 (all) or more", limit);
    size_t most = limit > 0 ? (size_t)limit : limit_given || cli->json ? SIZE_MAX : SHOWN;
    lint.few = (size_t)few;
    lint.threads = cli->threads;
    sr_router *router = NULL;
    status = cli_open(cli, SR_OPEN_EXISTING | SR_OPEN_READ_ONLY, &router);
    if (status == EXIT_DONE) status = lint_router(cli, router, &lint, most, strict);
    sr_router_close(&router);
    return status;
}
