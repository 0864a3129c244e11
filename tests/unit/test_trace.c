/* test_trace.c - protocol buffers as they should be, traces within their bounds, and an exporter without a collector. */
#include "unit.h"

#include "otlp.h"
#include "otlp_encode.h"

#include <pthread.h>
#include <stdlib.h>

static void messages_are_encoded_as_published(void **state) {
    (void)state;
    sri_buffer out = {0};
    srv_proto proto = {.out = &out};
    /* The examples of the encoding's own documentation: {1: 150}, {2: "testing"}, {3: {1: 150}}. */
    srv_proto_uint(&proto, 1, 150);
    srv_proto_text(&proto, 2, "testing");
    size_t mark = srv_proto_begin(&proto, 3);
    srv_proto_uint(&proto, 1, 150);
    srv_proto_end(&proto, mark);
    static const unsigned char expected[] = "\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01";
    assert_int_equal(out.len, sizeof expected - 1);
    assert_memory_equal(out.data, expected, sizeof expected - 1);
    out.len = 0;
    srv_proto_fixed64(&proto, 4, 0x0102030405060708u);
    srv_proto_fixed32(&proto, 16, 1);
    assert_memory_equal(out.data, "\x21\x08\x07\x06\x05\x04\x03\x02\x01\x85\x01\x01\x00\x00\x00",
                        15);
    out.len = 0;
    mark = srv_proto_begin(&proto, 1); /* a length of two bytes */
    static const char filler[300];
    srv_proto_bytes(&proto, 1, filler, sizeof filler);
    srv_proto_end(&proto, mark);
    assert_int_equal(out.len, 3 + 3 + 300);
    assert_memory_equal(out.data, "\x0a\xaf\x02\x0a\xac\x02", 6);
    assert_false(proto.failed);
    sri_buffer_free(&out);
}

static void a_full_buffer_is_left_as_it_was(void **state) {
    (void)state;
    srv_trace trace;
    srv_trace_begin(&trace, NULL, NULL, 1);
    sr_timings timings = {.fast_ns = 5, .encode_ns = 100, .total_ns = 200, .batch_texts = 3};
    srv_trace_timings(&trace, &timings, 1);
    srv_trace_request request = {"POST", "/v1/route", 200, trace.decided_ns - 300,
                                 trace.decided_ns};
    sri_buffer all = {0}, tight = {.max = 64};
    assert_true(srv_trace_append(&trace, &request, &all));
    assert_true(sri_buffer_append(&tight, "before", 6));
    for (tight.max = 6; tight.max < all.len + 6; tight.max++) {
        assert_false(srv_trace_append(&trace, &request, &tight));
        assert_int_equal(tight.len, 6);
    }
    /* While a length is being found, a message needs some bytes more than in the end. */
    tight.max += 16;
    assert_true(srv_trace_append(&trace, &request, &tight));
    assert_int_equal(tight.len, all.len + 6);
    sri_buffer_free(&all);
    sri_buffer_free(&tight);
}

static void parents_are_taken_up_whole_or_not_at_all(void **state) {
    (void)state;
    static const char good[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    srv_trace trace;
    char hex[33];
    srv_trace_begin(&trace, good, "a=1", 0);
    assert_true(trace.sampled && trace.has_parent);
    srv_trace_hex(&trace, hex);
    assert_string_equal(hex, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_string_equal(trace.state, "a=1");
    assert_memory_not_equal(trace.span_id, trace.parent_id, 8);
    for (size_t i = 0; i < sizeof good - 1; i++) {
        char bad[sizeof good];
        memcpy(bad, good, sizeof good);
        bad[i] = 'x';
        srv_trace_begin(&trace, bad, "a=1", 0);
        assert_false(trace.has_parent);
        assert_false(trace.sampled);
        assert_string_equal(trace.state, "");
        memcpy(bad, good, sizeof good);
        bad[i] = '\0';
        srv_trace_begin(&trace, bad, NULL, 0);
        assert_false(trace.has_parent);
    }
}

typedef struct crowd {
    srv_otlp *otlp;
    int traces;
} crowd;

static void *trace_much(void *user) {
    crowd *c = user;
    for (int i = 0; i < c->traces; i++) {
        srv_trace trace;
        srv_trace_begin(&trace, NULL, NULL, 1);
        srv_trace_request request = {"GET", "/healthz", 200, 1, 2};
        srv_otlp_trace(c->otlp, &trace, &request);
    }
    return NULL;
}

static bool visit_nothing(void *user, const srv_visitor *visitor) {
    (void)user, (void)visitor;
    return false;
}

static void without_a_collector_all_is_dropped_and_counted(void **state) {
    (void)state;
    enum { THREADS = 4, TRACES = 5000 };
    /* Nobody listens on port 1. */
    srv_otlp_options options = {.endpoint = "http://127.0.0.1:1/",
                                .service = "test",
                                .trace_seconds = 0.01,
                                .max_bytes = 100000,
                                .visit = visit_nothing};
    crowd c = {NULL, TRACES};
    pthread_t threads[THREADS];
    srv_otlp_counts counts;
    sr_error error;
    sr_status code = srv_otlp_open(&options, &c.otlp, &error);
    if (code == SR_ERR_UNSUPPORTED) skip(); /* no libcurl */
    assert_int_equal(code, SR_OK);
    uint64_t began = sri_nanoseconds();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, trace_much, &c), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    assert_true(sri_nanoseconds() - began < 5000000000u);
    srv_otlp_count(c.otlp, &counts);
    assert_true(counts.dropped > THREADS * TRACES / 2); /* far more than there is room for */
    assert_int_equal(counts.exported, 0);
    srv_otlp_close(&c.otlp); /* soon, though nobody takes what waits */
    assert_true(sri_nanoseconds() - began < 10000000000u);
    assert_null(c.otlp);
}

static void wrong_settings_are_explained(void **state) {
    (void)state;
    static const char *const headers[] = {"novalue", "=x", "a=1,,b=2"};
    srv_otlp *otlp;
    sr_error error;
    for (size_t i = 0; i < SRI_COUNT(headers); i++) {
        srv_otlp_options options = {.endpoint = "http://127.0.0.1:1",
                                    .headers = headers[i],
                                    .service = "test",
                                    .visit = visit_nothing};
        assert_int_equal(srv_otlp_open(&options, &otlp, &error), SR_ERR_INVALID);
        assert_non_null(strstr(error.message, "otlp_headers"));
        assert_null(otlp);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_encoded_as_published),
        cmocka_unit_test(a_full_buffer_is_left_as_it_was),
        cmocka_unit_test(parents_are_taken_up_whole_or_not_at_all),
        cmocka_unit_test(without_a_collector_all_is_dropped_and_counted),
        cmocka_unit_test(wrong_settings_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
