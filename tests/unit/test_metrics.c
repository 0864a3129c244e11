/* test_metrics.c - what the server counts: every event once, from any thread, within the bound on labels. */
#include "toy.h"

#include "server_metrics.h"

#include <pthread.h>

static const char *const endpoints[] = {"route", "get_info"};

typedef struct table {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
    srv_metrics *metrics;
} table;

static void put(sr_router *router, const char *name) {
    char text[64];
    snprintf(text, sizeof text, "%s please, at once", name);
    sr_str utterance = sr_str_of(text);
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = &utterance,
                      .utterance_count = 1};
    assert_int_equal(sr_route_put(router, &route, NULL, NULL), SR_OK);
}

static void open_table(table *t, size_t max_routes) {
    srv_metrics_options options = {endpoints, SRI_COUNT(endpoints), max_routes};
    *t = (table){0};
    t->encoder = toy_open(&t->toy, "toy");
    t->router = toy_router(NULL, t->encoder, 0);
    assert_int_equal(srv_metrics_open(&options, &t->metrics, NULL), SR_OK);
}

static void close_table(table *t) {
    srv_metrics_close(&t->metrics);
    sr_router_close(&t->router);
    sr_encoder_close(&t->encoder);
}

static void decide(table *t, const char *name, int times) {
    char text[64];
    snprintf(text, sizeof text, "%s please, at once", name);
    for (int i = 0; i < times; i++) {
        sr_str one = sr_str_of(text);
        sr_decisions *decisions;
        assert_int_equal(sr_decide(t->router, &one, 1, NULL, &decisions, NULL), SR_OK);
        srv_count_decisions(t->metrics, decisions);
        sr_decisions_free(&decisions);
    }
}

/* The exposition, terminated. */
static char *expose(const table *t, sri_buffer *out) {
    srv_gauges gauges = {.router = t->router, .ready = true, .connections = 7, .started = 1e9};
    out->len = 0;
    assert_true(srv_metrics_append(t->metrics, &gauges, out));
    assert_true(sri_buffer_append(out, "", 1));
    return out->data;
}

static void expect_line(const char *text, const char *line) {
    char wanted[512];
    snprintf(wanted, sizeof wanted, "\n%s\n", line);
    if (strstr(text, wanted) == NULL) fail_msg("no line %s in:\n%s", line, text);
}

static void every_event_is_counted_where_it_belongs(void **state) {
    (void)state;
    table t;
    sri_buffer out = {0};
    open_table(&t, 10);
    put(t.router, "billing");
    put(t.router, "a \"quoted\\name");
    assert_int_equal(srv_metrics_name_routes(t.metrics, t.router, NULL), SR_OK);
    decide(&t, "billing", 3);
    sr_str blank = sr_str_of("  ");
    sr_decisions *decisions;
    assert_int_equal(sr_decide(t.router, &blank, 1, NULL, &decisions, NULL), SR_OK);
    srv_count_decisions(t.metrics, decisions);
    sr_decisions_free(&decisions);
    srv_count_request(t.metrics, &(srv_request_counts){0, 200, 30000, 100, 50});
    srv_count_request(t.metrics, &(srv_request_counts){0, 200, 20000000000, 1, 2});
    srv_count_request(t.metrics, &(srv_request_counts){0, 418, 10000, 0, 0});
    srv_count_request(t.metrics, &(srv_request_counts){SRV_NO_ENDPOINT, 404, 5, 0, 0});
    const char *text = expose(&t, &out);
    expect_line(text, "synaptoroute_route_matches_total{route=\"billing\"} 3");
    expect_line(text, "synaptoroute_route_matches_total{route=\"a \\\"quoted\\\\name\"} 0");
    expect_line(text, "synaptoroute_decisions_total{path=\"slow\",reason=\"matched\"} 3");
    expect_line(text, "synaptoroute_decisions_total{path=\"slow\",reason=\"empty_text\"} 1");
    expect_line(text, "synaptoroute_http_requests_total{endpoint=\"route\",code=\"200\"} 2");
    expect_line(text, "synaptoroute_http_requests_total{endpoint=\"route\",code=\"other\"} 1");
    expect_line(text, "synaptoroute_http_requests_total{endpoint=\"none\",code=\"404\"} 1");
    expect_line(
        text,
        "synaptoroute_http_request_duration_seconds_bucket{endpoint=\"route\",le=\"1e-05\"} 1");
    expect_line(
        text,
        "synaptoroute_http_request_duration_seconds_bucket{endpoint=\"route\",le=\"5e-05\"} 2");
    expect_line(
        text, "synaptoroute_http_request_duration_seconds_bucket{endpoint=\"route\",le=\"10\"} 2");
    expect_line(
        text,
        "synaptoroute_http_request_duration_seconds_bucket{endpoint=\"route\",le=\"+Inf\"} 3");
    expect_line(text, "synaptoroute_http_request_duration_seconds_count{endpoint=\"route\"} 3");
    expect_line(text, "synaptoroute_http_received_bytes_total 101");
    expect_line(text, "synaptoroute_http_connections 7");
    expect_line(text, "synaptoroute_decide_duration_seconds_count 4");
    expect_line(text, "synaptoroute_routes 2");
    expect_line(text, "synaptoroute_ready 1");
    assert_null(strstr(text, "endpoint=\"get_info\"")); /* nobody has asked */
    assert_null(strstr(text, "route=\"(other)\""));
    sri_buffer_free(&out);
    close_table(&t);
}

static void routes_beyond_the_bound_share_a_label(void **state) {
    (void)state;
    table t;
    sri_buffer out = {0};
    open_table(&t, 2);
    put(t.router, "first");
    assert_int_equal(srv_metrics_name_routes(t.metrics, t.router, NULL), SR_OK);
    put(t.router, "second");
    put(t.router, "third");
    put(t.router, "fourth");
    decide(&t, "third", 1); /* takes the label that was left */
    decide(&t, "second", 2);
    decide(&t, "fourth", 3);
    decide(&t, "first", 4);
    decide(&t, "third", 1);
    const char *text = expose(&t, &out);
    expect_line(text, "synaptoroute_route_matches_total{route=\"first\"} 4");
    expect_line(text, "synaptoroute_route_matches_total{route=\"third\"} 2");
    expect_line(text, "synaptoroute_route_matches_total{route=\"(other)\"} 5");
    assert_null(strstr(text, "route=\"second\""));
    sri_buffer_free(&out);
    close_table(&t);
    open_table(&t, 0); /* no labels at all */
    put(t.router, "first");
    assert_int_equal(srv_metrics_name_routes(t.metrics, t.router, NULL), SR_OK);
    decide(&t, "first", 4);
    expect_line(expose(&t, &out), "synaptoroute_route_matches_total{route=\"(other)\"} 4");
    sri_buffer_free(&out);
    close_table(&t);
}

static void *count_much(void *user) {
    table *t = user;
    char name[32];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "route %d", i % 20);
        decide(t, name, 1);
        srv_count_request(t->metrics, &(srv_request_counts){(size_t)i % 2, 200, 1000, 1, 1});
    }
    return NULL;
}

static void nothing_is_lost_between_threads(void **state) {
    (void)state;
    enum { THREADS = 12 };
    table t;
    sri_buffer out = {0};
    pthread_t threads[THREADS];
    open_table(&t, 15);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "route %d", i);
        put(t.router, name);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_much, &t), 0);
    for (int i = 0; i < 20; i++) (void)expose(&t, &out);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    const char *text = expose(&t, &out);
    double sum = 0;
    int labels = 0;
    for (const char *at = text; (at = strstr(at, "\nsynaptoroute_route_matches_total{")) != NULL;
         labels++) {
        at = strstr(at, "} ") + 2;
        sum += strtod(at, NULL);
    }
    assert_int_equal(labels, 16);
    assert_true(sum == 300 * THREADS);
    expect_line(text, "synaptoroute_http_requests_total{endpoint=\"route\",code=\"200\"} 1800");
    expect_line(text, "synaptoroute_http_requests_total{endpoint=\"get_info\",code=\"200\"} 1800");
    sri_buffer_free(&out);
    close_table(&t);
}

static void charts_get_totals(void **state) {
    (void)state;
    table t;
    sri_buffer out = {0};
    open_table(&t, 15);
    put(t.router, "first");
    decide(&t, "first", 3);
    srv_count_request(t.metrics, &(srv_request_counts){0, 200, 30000, 0, 0});
    srv_count_request(t.metrics, &(srv_request_counts){0, 503, 1, 0, 0});
    srv_count_request(t.metrics, &(srv_request_counts){1, 500, 1, 0, 0});
    srv_gauges gauges = {.router = t.router};
    assert_true(srv_stats_append(t.metrics, &gauges, 0, &out) && sri_buffer_append(&out, "", 1));
    assert_non_null(strstr(
        out.data, "\"requests\":3,\"decisions\":{\"fast\":0,\"slow\":3},\"shed\":1,\"errors\":1,"));
    assert_non_null(strstr(out.data, "\"counts\":[1,0,1,0,"));
    assert_non_null(strstr(out.data, "\"routes\":1,\"utterances\":1,"));
    sri_buffer_free(&out);
    close_table(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_is_counted_where_it_belongs),
        cmocka_unit_test(routes_beyond_the_bound_share_a_label),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(charts_get_totals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
