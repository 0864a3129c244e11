/* platform.c - calls that differ between systems, one function each. */
#include "base/base.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/prctl.h>
#include <sys/random.h>
#endif

bool sri_self_path(char *path, size_t capacity) {
    Dl_info info;
    char real[PATH_MAX];
    const char *found = NULL;
    if (dladdr((const void *)(uintptr_t)&sri_self_path, &info) != 0 && info.dli_fname != NULL)
        found = realpath(info.dli_fname, real);
#if defined(__linux__)
    /* For a program the loader gives argv[0], which need not be a path. A shared library's name is
     * one, and holds ".so". */
    if (found == NULL || strstr(found, ".so") == NULL) found = realpath("/proc/self/exe", real);
#endif
    if (found == NULL || strlen(found) >= capacity) return false;
    memcpy(path, found, strlen(found) + 1);
    return true;
}

int sri_cpu_count(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

double sri_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

uint64_t sri_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sr_steady_ns(void) { return sri_nanoseconds(); }

void sri_exact_timers(void) {
#if defined(__linux__)
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
#endif
}

uint64_t sri_random_seed(void) {
    uint64_t seed = 0;
#if defined(__linux__)
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == sizeof seed) return seed;
#endif
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_nsec * 0x9E3779B97F4A7C15u ^ (uint64_t)now.tv_sec ^
           (uint64_t)(uintptr_t)&seed;
}
