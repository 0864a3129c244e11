/*
 * tap.h - the few things that the kernels' tests need of a test harness, printed as TAP.
 *
 * Not cmocka, as in the other tests: these also run for other CPUs under an emulator, where no
 * library but the C library need be there. A second architecture in dpkg would bring one, but only
 * where both architectures' packages have the same version and every package mirror in use has
 * both, which no build should hang on.
 *
 * A test fails at its first failed check, or by a fault (a signal), and the next test runs.
 */
#ifndef SR_TESTS_TAP_H
#define SR_TESTS_TAP_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { TAP_FAILED = 1, TAP_SKIPPED = 2 };

static sigjmp_buf tap_end;
static int tap_count, tap_failures;

/* Ends the test with a message. */
#define tap_fail(...)                                                                              \
    do {                                                                                           \
        printf("# %s:%d: ", __FILE__, __LINE__);                                                   \
        printf(__VA_ARGS__);                                                                       \
        putchar('\n');                                                                             \
        siglongjmp(tap_end, TAP_FAILED);                                                           \
    } while (0)
#define tap_skip() siglongjmp(tap_end, TAP_SKIPPED)

#define assert_true(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) tap_fail("not true: %s", #condition);                                    \
    } while (0)
#define assert_int_equal(a, b)                                                                     \
    do {                                                                                           \
        long long left = (long long)(a), right = (long long)(b);                                   \
        if (left != right) tap_fail("%s is %lld, not %lld", #a, left, right);                      \
    } while (0)

static void tap_on_fault(int signal) { siglongjmp(tap_end, TAP_FAILED + 256 * signal); }

/* Runs `test` with `argument`; a test that calls tap_skip() is reported as skipped for `reason`. */
static void tap_run(const char *name, const char *reason, void (*test)(const void *),
                    const void *argument) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction catch = {.sa_handler = tap_on_fault}, before[4];
    for (int i = 0; i < 4; i++) sigaction(faults[i], &catch, &before[i]);
    int end = sigsetjmp(tap_end, 1);
    if (end == 0) test(argument);
    for (int i = 0; i < 4; i++) sigaction(faults[i], &before[i], NULL);
    if (end >= 256) printf("# ended by signal %d\n", end / 256);
    bool failed = end % 256 == TAP_FAILED;
    tap_failures += failed;
    printf("%s %d - %s%s%s\n", failed ? "not ok" : "ok", ++tap_count, name,
           end == TAP_SKIPPED ? " # SKIP " : "", end == TAP_SKIPPED ? reason : "");
    fflush(stdout);
}

/* Prints the plan; returns main's result. */
static int tap_done(void) {
    printf("1..%d\n", tap_count);
    return tap_failures == 0 ? 0 : 1;
}

#endif
