/*
 * main.c - the program `synaptoroute`: finds the command and runs it.
 *
 * Starting must be quick, so nothing is read or loaded before the command needs it.
 */
#include "cli.h"

#include <signal.h>
#include <string.h>

static const cli_command commands[] = {
    {"route", cli_route, "TEXT... | -", "decide which route each text belongs to",
     "\nEach TEXT gets an answer. With - as the only TEXT, each line of standard input gets one, "
     "in the order\n"
     "of the lines and as soon as it is decided; a blank line answers `empty_text`.\n\n"
     "Options:\n"
     "  --top K         candidates to show, 0 to 1000 (default: 3)\n"
     "  --margin X      a best route that leads the next by less than this cosine, 0 to 2, is\n"
     "                  `ambiguous`: no route is answered (default: 0)\n"
     "  --no-reject     answer the best route, whatever thresholds and margin say\n"
     "  --as-is         do not mend misspelt words\n"
     "  --path PATH     fast, slow or auto (default: auto)\n\n"
     "With --json, one object a line: text, status (matched or none), route, confidence, score, "
     "margin,\n"
     "reason (matched, below_threshold, ambiguous, empty_table, empty_text), path, truncated, "
     "revision,\n"
     "fitted and candidates (route, confidence, score, utterance).\n"},
    {"add", cli_add, "ROUTE TEXT... | --oos TEXT...",
     "add utterances to a route, which is made when missing",
     "\nOptions:\n"
     "  --threshold X   accept from this cosine on, -1 to 1, or auto\n"
     "  --confidence P  accept from this confidence on, 0 to 1\n"
     "  --description D what the route is for\n"
     "  --metadata JSON any JSON value\n"
     "  --oos           add examples of texts that belong to no route\n\n"
     "With one of the first four, TEXT may be left out. What is added counts at once, by its "
     "neighbours; run\n"
     "`synaptoroute fit` to learn from it.\n"},
    {"remove", cli_remove, "ROUTE [TEXT...] | --oos [TEXT...]",
     "remove a route, or only these utterances of it",
     "\nOptions:\n"
     "  --oos           remove out-of-scope examples: these, or all\n"},
    {"list", cli_list, "[ROUTE]", "show the routes, or one with its utterances",
     "\nOptions:\n"
     "  --utterances    show the utterances of all routes\n"
     "  --oos           show the out-of-scope examples instead\n"},
    {"info", cli_info, "", "show the table's size, model, versions and the CPU level",
     "\nOptions:\n"
     "  --verify        check the whole database and the model's files too\n"},
    {"import", cli_import, "FILE | -", "add the routes and utterances of a file, all or none",
     "\nFILE is CSV with a header, JSON Lines or YAML, by its ending; - is standard input, with "
     "--format.\n"
     "Routes that exist get the new utterances. Rows labelled oos become examples of texts that "
     "belong to no\n"
     "route. The table is fitted afterwards, as by `synaptoroute fit`.\n\n"
     "Options:\n"
     "  --format F      csv, jsonl or yaml\n"
     "  --text-column N, --route-column N\n"
     "                  names of the columns (default: text and route)\n"
     "  --replace       a route of the file becomes exactly what the file says; others stay\n"
     "  --oos-label L   the label of texts that belong nowhere (default: oos)\n"
     "  --no-fit        leave the fit as it is: neighbours decide for what is new\n"},
    {"fit", cli_fit, "[FILE | -]", "learn from the table: trained heads, thresholds, the fast path",
     "\nLearns from the utterances and out-of-scope examples, and says how well that went on texts "
     "held out.\n"
     "FILE, as for import, holds labelled texts beside them, to which thresholds are fitted; they "
     "are not\n"
     "stored. Too small a table is no failure: the nearest neighbour goes on deciding.\n\n"
     "Options:\n"
     "  --max-oos P     accept at most this share of out-of-scope texts, 0 to 1\n"
     "  --min-precision P\n"
     "                  at least this share of the accepted texts is right, 0 to 1\n"
     "  --route NAME    these targets are for this route alone and set its threshold\n"
     "  --format F, --text-column N, --route-column N, --oos-label L\n"
     "                  as for import\n\n"
     "Targets hold for later fits too, until others are given or `none`. With --json: kind (heads "
     "or\n"
     "neighbours), revision, routes, utterances, oos_examples, labelled, accuracy (neighbours, "
     "slow, "
     "fast,\n"
     "auto), fast_share, oos_auroc, ece, auto_threshold, oos_accepted, precision, route_threshold, "
     "seconds and\n"
     "warnings (route, kind, threshold, texts, turned_down).\n"},
    {"export", cli_export, "FILE | -", "write the table to a file",
     "\nThe format is that of FILE's ending; - is standard output, as YAML unless --format says "
     "otherwise. JSON\n"
     "Lines and YAML hold everything; CSV holds texts and names. An existing FILE is replaced only "
     "by a\n"
     "complete one.\n\n"
     "Options:\n"
     "  --format F      csv, jsonl or yaml\n"
     "  --oos-label L   the label of out-of-scope examples (default: oos)\n"},
    {"eval", cli_eval, "FILE | -", "measure how well labelled texts are decided",
     "\nFILE is as for import; texts labelled oos belong to no route, and rejecting them is "
     "right.\n\n"
     "Options:\n"
     "  --format F, --text-column N, --route-column N, --oos-label L\n"
     "                  as for import\n"
     "  --margin X      a best route that leads the next by less than this cosine, 0 to 2, is\n"
     "                  `ambiguous`: no route is answered (default: 0)\n"
     "  --no-reject     answer the best route, whatever thresholds and margin say\n"
     "  --as-is         do not mend misspelt words\n"
     "  --path PATH     fast, slow or auto (default: auto)\n"
     "  --top K         candidates in the report (default and least: 3)\n"
     "  --html OUT      write a report: figures, routes, confusions, reliability, failures\n"
     "  --predictions OUT\n"
     "                  write every answer as CSV\n\n"
     "With --json: n, accuracy, in_scope_accuracy, top3, macro_f1, oos_recall, oos_auroc, fpr95, "
     "ece,\n"
     "fast_share, seconds, queries_per_second and latency_ms (p50, p99); null where nothing can be "
     "measured.\n"},
    {"lint", cli_lint, "", "find utterances and routes that make decisions go wrong",
     "\nCompares all utterances with one another and reports, grouped by kind: routes without "
     "utterances or\n"
     "with few, the same or nearly the same utterance in two routes, routes that none of their "
     "own\n"
     "utterances would reach, routes that overlap, thresholds that turn down most of a route's "
     "own\n"
     "utterances, out-of-scope examples near an utterance, and utterances that another route would "
     "win when\n"
     "they are left out. Findings are no failure.\n\n"
     "Options:\n"
     "  --near X        cosine from which two utterances are nearly the same (default: 0.95)\n"
     "  --oos-near X    cosine from which an out-of-scope example is near (default: 0.90)\n"
     "  --overlap S     share of utterances from which two routes overlap (default: 0.10)\n"
     "  --few N         fewer utterances are few (default: 5)\n"
     "  --limit N       findings to show of each kind; 0: all (default: 10, with --json all)\n"
     "  --strict        exit status 1 when there are findings\n"},
    {"serve", cli_serve, "[--listen HOST:PORT]",
     "answer over HTTP: decisions, the table, metrics, a console",
     "\nListens on 127.0.0.1:8080, for this machine alone, until SIGTERM. docs/server.md describes "
     "the "
     "API and all\n"
     "settings; each is a flag, a line of the file and a variable of the environment, as\n"
     "--max-texts, max_texts and SYNAPTOROUTE_MAX_TEXTS; a flag goes before the environment, that "
     "before the file.\n\n"
     "Options:\n"
     "  --listen HOST:PORT\n"
     "                  the address; beyond this machine it needs --keys or --insecure\n"
     "  --config FILE   settings, as YAML\n"
     "  --print-config  print all settings as such a file, and leave\n"
     "  --options       list all settings, and leave\n"
     "  --keys FILE     API keys, as `synaptoroute key` makes them\n"
     "  --tls-certificate FILE, --tls-key FILE\n"
     "                  PEM files; answer over TLS\n"
     "  --insecure      listen beyond this machine without keys\n"},
    {"key", cli_key, "create NAME | list | revoke NAME", "API keys of the server",
     "\nA key is printed once, when it is made; the file holds its digest. Roles: read (decide, "
     "read the "
     "table),\n"
     "write (change it too), admin (everything).\n\n"
     "Options:\n"
     "  --keys FILE     the file of keys (default: synaptoroute.keys in this directory)\n"
     "  --role R        of the new key: read (default), write or admin\n"},
    {"bench", cli_bench, "", "measure how fast this machine encodes, at each CPU level it has",
     "\nFor every level: the peak of a core, the products of a model beside it, and for each "
     "encoder (the\nshipped ones, or that of --model) texts and tokens a second and the time of a "
     "call, with 1, 8 and 32\ntexts at a time.\n\n"
     "Options:\n"
     "  --level L       only this level (ref, avx2, avxvnni, avx512, vnni, amx, neon, dotprod, "
     "i8mm)\n"
     "  --seconds S     of each measurement (default: 1)\n"},
    {"distill", cli_distill, "DIRECTORY", "make a static model from a transformer",
     "\nMakes DIRECTORY, which must not exist, with a model that encodes a thousand times as fast "
     "as the\n"
     "transformer that --model names, less exactly: one vector for each token of the "
     "vocabulary.\n"
     "Use it afterwards by --model DIRECTORY.\n\n"
     "Options:\n"
     "  --dimension N   of the vectors (default: 256, or the transformer's if that is less)\n"
     "  --texts FILE    fit the vectors to the transformer's of these texts: one text a line, or "
     "a file\n"
     "                  as for import\n"
     "  --format F, --text-column N, --route-column N\n"
     "                  as for import\n"},
    {"load", cli_load, "[URL] --texts FILE", "put load on a server, and measure what it does",
     "\nURL is http://HOST:PORT of a server (default: http://127.0.0.1:8080), and may end in the "
     "path "
     "of\n"
     "what is asked (default: /v1/route). FILE holds the texts that are sent over and over: one a "
     "line, or a\n"
     "file as for import.\n\n"
     "Options:\n"
     "  --rate R        requests to send each second, whatever the server does; their times are "
     "counted\n"
     "                  from when they should have been sent. Without it, each connection sends "
     "when it\n"
     "                  has its answer\n"
     "  --arrivals A    poisson (default) or constant: how requests are spread at that rate\n"
     "  --connections N (default: 64)\n"
     "  --duration S    seconds that are measured (default: 10)\n"
     "  --warmup S      seconds before that (default: 1)\n"
     "  --timeout S     seconds after which a request has failed (default: 10)\n"
     "  --batch N       texts in each request (default: 1)\n"
     "  --path PATH     fast, slow or auto, of the decisions\n"
     "  --deadline MS   milliseconds that the server is given for each request\n"
     "  --key KEY       API key (default: SYNAPTOROUTE_KEY)\n"
     "  --seed N        of the arrivals (default: 1)\n"
     "  --each-second   show what came in each second\n\n"
     "With --json: url, mode, rate, connections, batch, seconds, sent, ok, shed (answered 503), "
     "errors by\n"
     "kind, requests_per_second, texts_per_second, latency_ms and shed_ms (p50, p90, p99, p999, "
     "max, "
     "mean),\n"
     "generator (cpu_share, waited, late_ms) and each_second. Exit status 1 when no request was "
     "answered "
     "well.\n"},
    {"pull", cli_pull, "NAME", "fetch a model from a Hugging Face repository into the cache",
     "\nNAME is OWNER/MODEL, and later the value of --model. What is needed of the repository is "
     "config.json,\n"
     "tokenizer.json and model.safetensors of a BERT encoder. A pull that was stopped goes on "
     "where "
     "it stopped.\n\n"
     "Options:\n"
     "  --to DIR        the model's directory (default: in the cache)\n"
     "  --revision REV  a branch, tag or commit (default: main)\n"
     "  --endpoint URL  where repositories are (default: HF_ENDPOINT, or the public hub)\n"
     "  --sha256 FILE=HEX\n"
     "                  refuse a file with another digest; may be given for each file\n"
     "  --offline       only check what is there already\n"
     "  --force         fetch it, though it is there\n"
     "  --keep          keep the files even if the model cannot be run\n"
     "  --retries N     failures in a row before giving up (default: 5)\n"
     "  --stall N       seconds without data before a connection counts as dead (default: 30)\n\n"
     "HF_TOKEN is sent to the endpoint, and nowhere else, for repositories that are not public. "
     "With "
     "--prefix,\n"
     "that prefix becomes the model's default (e5: \"query: \").\n"},
};

const cli_command *cli_commands(size_t *count) {
    *count = SRI_COUNT(commands);
    return commands;
}

static int unknown_command(const cli_state *cli, const char *word) {
    const char *names[SRI_COUNT(commands)];
    for (size_t i = 0; i < SRI_COUNT(commands); i++) names[i] = commands[i].name;
    const char *near = cli_nearest(word, names, SRI_COUNT(names));
    if (near == NULL) return cli_usage(cli, "there is no command %s", word);
    return cli_usage(cli, "there is no command %s; did you mean %s?", word, near);
}

static int run(cli_state *cli) {
    int status = cli_parse_leading(cli);
    if (status != CLI_PROCEED) return status;
    if (cli->argc == 0) return cli_usage(cli, "give a command");
    const char *word = cli->argv[0];
    for (size_t i = 0; i < SRI_COUNT(commands); i++) {
        if (strcmp(word, commands[i].name) != 0) continue;
        cli->command = &commands[i];
        cli->argc--;
        cli->argv++;
        return commands[i].run(cli);
    }
    return unknown_command(cli, word);
}

static void log_line(void *user, sr_log_level level, const char *line) {
    const cli_state *cli = user;
    if (!cli->quiet) cli_message(cli, "%s%s", level == SR_LOG_WARN ? "warning: " : "", line);
}

int main(int argc, char **argv) {
    cli_state cli = {.argc = argc - 1, .argv = argv + 1};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is seen by write(), */
    signal(SIGXFSZ, SIG_IGN); /* as is a file that reaches its limit */
    sr_log_set(log_line, SR_LOG_WARN, &cli);
    int status = run(&cli);
    int flushed = cli_flush(&cli);
    sri_buffer_free(&cli.out);
    return status == EXIT_DONE ? flushed : status;
}
