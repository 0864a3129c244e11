/* test_load.c - the reader of answers that `synaptoroute load` has: whole, in pieces, and no answer at all. */
#include "unit.h"

#include "load.h"

/* What comes of an answer that arrives in pieces of `size` bytes. */
static load_progress read_in_pieces(const char *bytes, size_t size, load_answer *answer) {
    load_progress progress = LOAD_MORE;
    load_answer_begin(answer);
    for (size_t at = 0, len = strlen(bytes); at < len && progress == LOAD_MORE; at += size)
        progress = load_answer_take(answer, bytes + at, SRI_MIN(size, len - at));
    return progress;
}

static void expect(const char *bytes, load_progress wanted, int status, bool keep) {
    load_answer answer;
    for (size_t size = 1; size <= strlen(bytes); size++) {
        assert_int_equal(read_in_pieces(bytes, size, &answer), wanted);
        if (wanted == LOAD_MALFORMED) continue;
        assert_int_equal(answer.status, status);
        assert_int_equal(answer.keep, keep);
    }
}

static void answers_are_whole_in_whatever_pieces_they_come(void **state) {
    (void)state;
    expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", LOAD_WHOLE, 200, true);
    expect("HTTP/1.1 200 OK\ncontent-length:5\n\nhello", LOAD_WHOLE, 200, true);
    expect("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", LOAD_WHOLE, 200,
           false);
    expect("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", LOAD_WHOLE, 200, false);
    expect("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", LOAD_WHOLE,
           200, true);
    expect("HTTP/1.1 204 No Content\r\n\r\n", LOAD_WHOLE, 204, true);
    expect("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}",
           LOAD_WHOLE, 503, true);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1A;x=1\r\n"
           "abcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: 1\r\n\r\n",
           LOAD_WHOLE, 200, true);
    expect("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", LOAD_MORE, 200, true);
}

static void what_is_no_answer_is_refused(void **state) {
    (void)state;
    expect("SSH-2.0-OpenSSH_9.2\r\n", LOAD_MALFORMED, 0, false);
    expect("HTTP/1.1 2x0 OK\r\n\r\n", LOAD_MALFORMED, 0, false);
    expect("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", LOAD_MALFORMED, 0, false);
    expect("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", LOAD_MALFORMED, 0,
           false);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", LOAD_MALFORMED, 0, false);
    expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", LOAD_MALFORMED, 0, false);
    load_answer answer;
    load_answer_begin(&answer);
    const char *two = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n";
    assert_int_equal(load_answer_take(&answer, two, strlen(two)), LOAD_MALFORMED);
}

static void heads_without_end_are_refused(void **state) {
    (void)state;
    load_answer answer;
    load_answer_begin(&answer);
    const char *field = "X-Filler: 01234567890123456789012345678901234567890123456789\r\n";
    load_progress progress = load_answer_take(&answer, "HTTP/1.1 200 OK\r\n", 17);
    for (int i = 0; i < 10000 && progress == LOAD_MORE; i++)
        progress = load_answer_take(&answer, field, strlen(field));
    assert_int_equal(progress, LOAD_MALFORMED);
}

static void a_body_without_length_ends_with_the_connection(void **state) {
    (void)state;
    load_answer answer;
    const char *open_end = "HTTP/1.1 500 Oh\r\n\r\nsomething broke";
    assert_int_equal(read_in_pieces(open_end, 7, &answer), LOAD_MORE);
    assert_int_equal(load_answer_end(&answer), LOAD_WHOLE);
    assert_false(answer.keep);
    assert_int_equal(answer.excerpt_len, 15);
    assert_memory_equal(answer.excerpt, "something broke", 15);
    assert_int_equal(read_in_pieces("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 3, &answer),
                     LOAD_MORE);
    assert_int_equal(load_answer_end(&answer), LOAD_MALFORMED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_whole_in_whatever_pieces_they_come),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(heads_without_end_are_refused),
        cmocka_unit_test(a_body_without_length_ends_with_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
