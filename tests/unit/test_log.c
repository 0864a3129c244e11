/* test_log.c - lines of the server's log: whole, safe to read, and never in anybody's way. */
#include "unit.h"

#include "server_log.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static int ends[2], saved;

/* Standard error becomes a pipe. */
static void redirect(void) {
    fflush(stderr);
    assert_int_equal(pipe(ends), 0);
    saved = dup(2);
    assert_true(dup2(ends[1], 2) == 2);
    close(ends[1]);
}

static void restore(void) {
    assert_true(dup2(saved, 2) == 2);
    close(saved);
}

/* What was written since, terminated. */
static char *collect(void) {
    static char text[1 << 22];
    size_t len = 0;
    ssize_t got;
    restore();
    while ((got = read(ends[0], text + len, sizeof text - 1 - len)) > 0) len += (size_t)got;
    text[len] = '\0';
    close(ends[0]);
    return text;
}

static void fields_are_safe_in_both_formats(void **state) {
    (void)state;
    static char large[5000];
    memset(large, 'x', sizeof large - 1);
    for (int json = 0; json < 2; json++) {
        srv_line line;
        redirect();
        srv_log_open(SR_LOG_INFO, json != 0);
        srv_line_begin(&line, SR_LOG_WARN, "request");
        srv_line_text(&line, "path", sr_str_of("/v1/route"));
        srv_line_text(&line, "hostile", sr_str_of("a\nfake=\"line\" \x1b[2J \xff"));
        srv_line_number(&line, "ms", 1.25);
        srv_line_end(&line);
        srv_line_begin(&line, SR_LOG_INFO, "large");
        for (int i = 0; i < 6; i++) srv_line_text(&line, "text", sr_str_of(large));
        srv_line_end(&line);
        sri_log(SR_LOG_INFO, "%s", "of the library");
        sri_log(SR_LOG_DEBUG, "%s", "not wanted");
        srv_log_close();
        char *text = collect(), *next = strchr(text, '\n') + 1;
        if (json != 0) {
            json_error_t error;
            json_t *object = json_loads(text, JSON_DISABLE_EOF_CHECK, &error);
            assert_string_equal(json_string_value(json_object_get(object, "level")), "warn");
            assert_string_equal(json_string_value(json_object_get(object, "message")), "request");
            assert_string_equal(json_string_value(json_object_get(object, "hostile")),
                                "a\nfake=\"line\" \x1b[2J \xEF\xBF\xBD");
            assert_true(json_real_value(json_object_get(object, "ms")) == 1.25);
            json_decref(object);
            object = json_loads(next, JSON_DISABLE_EOF_CHECK, &error);
            assert_true(json_is_true(json_object_get(object, "cut")));
            json_decref(object);
        } else {
            assert_non_null(
                strstr(text, " warn request path=/v1/route hostile=\"a\\nfake=\\\"line\\\" "));
            assert_non_null(strstr(text, " ms=1.25\n"));
            assert_non_null(strstr(next, " cut=true\n"));
        }
        assert_true(strchr(next, '\n') - next < 4096);
        assert_non_null(strstr(text, "of the library"));
        assert_null(strstr(text, "not wanted"));
        assert_null(strchr(text, '\x1b'));
    }
}

static void *write_lines(void *unused) {
    (void)unused;
    for (int i = 0; i < 500; i++) sri_log(SR_LOG_INFO, "line %d of one thread", i);
    return NULL;
}

static void lines_of_many_threads_stay_whole(void **state) {
    (void)state;
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    redirect();
    fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    srv_log_open(SR_LOG_INFO, true);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, NULL), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    srv_log_close();
    int count = 0;
    for (char *at = collect(); *at != '\0'; at = strchr(at, '\n') + 1, count++) {
        json_t *object = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);
        assert_non_null(object);
        json_decref(object);
    }
    assert_int_equal(count + (int)srv_log_dropped(), 500 * THREADS);
}

static void nobody_waits_for_who_does_not_read(void **state) {
    (void)state;
    uint64_t before = srv_log_dropped(), began = sri_nanoseconds();
    signal(SIGPIPE, SIG_IGN);
    redirect();
    srv_log_open(SR_LOG_INFO, false);
    for (int i = 0; i < 60000; i++) sri_log(SR_LOG_INFO, "a line that nobody reads, number %d", i);
    assert_true(srv_log_dropped() > before);
    assert_true(sri_nanoseconds() - began < 5000000000u);
    srv_log_close(); /* gives up after a second */
    assert_true(sri_nanoseconds() - began < 7000000000u);
    close(ends[0]); /* now the writer sees that there is no reader, and ends */
    usleep(200000);
    restore();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_safe_in_both_formats),
        cmocka_unit_test(lines_of_many_threads_stay_whole),
        cmocka_unit_test(nobody_waits_for_who_does_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
