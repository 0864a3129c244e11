/*
 * route.c - SynaptoRoute from C: a table in memory, three routes, a few decisions.
 *
 *     cc route.c -o route $(pkg-config --cflags --libs synaptoroute)
 *     ./route "it is freezing in here"
 */
#include <stdio.h>
#include <synaptoroute.h>

static int failed(const char *doing, const sr_error *error) {
    fprintf(stderr, "%s: %s\n", doing, error->message);
    return 1;
}

/* Fills the table. A call that fails changes nothing, so there is never half a table. */
static sr_status put_routes(sr_router *router, sr_error *error) {
    const sr_str lights[] = {sr_str_of("turn on the lights"), sr_str_of("switch the lamp off"),
                             sr_str_of("make it brighter in the kitchen")};
    const sr_str heating[] = {sr_str_of("set the heating to 21 degrees"), sr_str_of("I am cold"),
                              sr_str_of("make the bedroom warmer")};
    const sr_str music[] = {sr_str_of("play some jazz"), sr_str_of("next song please"),
                            sr_str_of("turn the volume down")};
    /* Of music we want to be surer: a cosine of 0.7 to one of its utterances instead of the default. */
    const sr_threshold strict = {SR_THRESHOLD_COSINE, 0.7};
    const sr_route routes[] = {{.size = sizeof(sr_route),
                                .name = sr_str_of("lights"),
                                .utterances = lights,
                                .utterance_count = 3},
                               {.size = sizeof(sr_route),
                                .name = sr_str_of("heating"),
                                .utterances = heating,
                                .utterance_count = 3},
                               {.size = sizeof(sr_route),
                                .name = sr_str_of("music"),
                                .utterances = music,
                                .utterance_count = 3,
                                .threshold = &strict}};
    return sr_routes_put(router, routes, 3, NULL, NULL, error);
}

/* Strings are pointer and length; "%.*s" prints them. Everything lives as long as the sr_decisions. */
static void print_decision(const sr_decision *decision) {
    printf("%.*s\n", (int)decision->text.len, decision->text.data);
    if (decision->status == SR_MATCHED)
        printf("  -> %.*s (confidence %.2f, cosine %.2f)\n", (int)decision->route.len,
               decision->route.data, decision->confidence, decision->score);
    else
        printf("  -> none: %s\n", sr_reason_name(decision->reason));
    for (size_t i = 0; i < decision->candidate_count; i++) {
        const sr_candidate *candidate = &decision->candidates[i];
        printf("     %.*s %.2f, by \"%.*s\"\n", (int)candidate->route.len, candidate->route.data,
               candidate->score, (int)candidate->utterance.len, candidate->utterance.data);
    }
}

static sr_status decide(sr_router *router, const sr_str *texts, size_t n, sr_error *error) {
    sr_decisions *decisions = NULL;
    sr_decide_options options = {.size = sizeof options, .top_k = 2};
    sr_status status = sr_decide(router, texts, n, &options, &decisions, error);
    for (size_t i = 0; i < sr_decisions_count(decisions); i++)
        print_decision(sr_decisions_get(decisions, i));
    sr_decisions_free(&decisions);
    return status;
}

int main(int argc, char **argv) {
    sr_str texts[64];
    size_t n = 0;
    for (int i = 1; i < argc && n < 64; i++) texts[n++] = sr_str_of(argv[i]);
    if (n == 0) {
        texts[n++] = sr_str_of("it is freezing in here");
        texts[n++] = sr_str_of("put on something by Miles Davis");
        texts[n++] = sr_str_of("what is the capital of France?");
    }
    sr_error error;
    sr_router *router = NULL;
    sr_options options = {.size = sizeof options, .database = ":memory:"};
    if (sr_router_open(&options, &router, &error) != SR_OK) return failed("opening", &error);
    int result = 0;
    if (put_routes(router, &error) != SR_OK)
        result = failed("adding routes", &error);
    else if (decide(router, texts, n, &error) != SR_OK)
        result = failed("deciding", &error);
    sr_router_close(&router);
    return result;
}
