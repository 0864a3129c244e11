/* table_input.c - see table_input.h. */
#include "table_input.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void table_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void table_must(sr_status status, const sr_error *error) {
    if (status != SR_OK) table_fail("%s: %s", sr_status_name(status), error->message);
}

void *table_alloc(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) table_fail("no memory for %zu times %zu bytes", count, size);
    return memory;
}

static const char *map_file(const char *path, size_t *bytes) {
    struct stat about;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &about) != 0) table_fail("%s cannot be read", path);
    *bytes = (size_t)about.st_size;
    void *mapped = *bytes ? mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    if (mapped == MAP_FAILED) table_fail("%s is empty, or cannot be mapped", path);
    close(file);
    return mapped;
}

table_rows table_map_rows(const char *path, int dimension) {
    size_t bytes;
    const float *rows = (const float *)map_file(path, &bytes);
    return (table_rows){rows, bytes / sizeof(float) / (size_t)dimension, dimension};
}

const float *table_row(const table_rows *rows, size_t i) {
    return rows->rows + i % rows->count * (size_t)rows->dimension;
}

sr_str *table_map_lines(const char *path, size_t count) {
    size_t bytes;
    const char *at = map_file(path, &bytes), *end = at + bytes;
    sr_str *lines = table_alloc(count, sizeof *lines);
    for (size_t i = 0; i < count; i++) {
        const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        if (!stop) table_fail("%s has fewer than %zu lines", path, count);
        lines[i] = (sr_str){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    return lines;
}

static int look_up(void *user, const sr_str *texts, size_t n, float *out) {
    const table_rows *rows = user;
    size_t dimension = (size_t)rows->dimension;
    for (size_t i = 0; i < n; i++) {
        if (texts[i].len < 2 || texts[i].data[0] != '?') return 1;
        size_t row = 0;
        for (size_t c = 1; c < texts[i].len; c++) row = row * 10 + (size_t)(texts[i].data[c] - '0');
        memcpy(out + i * dimension, table_row(rows, row), dimension * sizeof *out);
    }
    return 0;
}

sr_encoder *table_encoder(const table_rows *rows) {
    sr_encoder *encoder = NULL;
    sr_error error;
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = look_up,
                                  .user = (void *)(uintptr_t)rows,
                                  .dimension = rows->dimension,
                                  .identity = "bench/speed/table"};
    table_must(sr_encoder_open(&options, &encoder, &error), &error);
    return encoder;
}

sr_str table_query(char room[32], size_t i) {
    return (sr_str){room, (size_t)snprintf(room, 32, "?%zu", i)};
}

sr_router *table_open(const char *database, sr_encoder *encoder, int threads,
                      sr_durability durability) {
    sr_router *router = NULL;
    sr_error error;
    sr_options options = {.size = sizeof options,
                          .database = database,
                          .encoder = encoder,
                          .threads = threads,
                          .fast_model = "",
                          .durability = durability};
    table_must(sr_router_open(&options, &router, &error), &error);
    return router;
}

sr_durability table_durability(const char *name) {
    if (strcmp(name, "normal") == 0) return SR_DURABILITY_NORMAL;
    if (strcmp(name, "full") == 0) return SR_DURABILITY_FULL;
    if (strcmp(name, "deferred") == 0) return SR_DURABILITY_DEFERRED;
    table_fail("%s is no durability", name);
}

double table_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void table_sleep_until(double when) {
    struct timespec at = {.tv_sec = (time_t)when};
    at.tv_nsec = (long)((when - (double)at.tv_sec) * 1e9);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double table_percentile(double *values, size_t count, double share) {
    qsort(values, count, sizeof *values, by_value);
    size_t place = (size_t)(share * (double)count);
    return count ? values[place < count ? place : count - 1] : 0;
}

double table_memory(const char *field) {
    char line[256];
    double kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    if (!file) table_fail("/proc/self/status cannot be read");
    while (fgets(line, sizeof line, file)) {
        size_t len = strlen(field);
        if (strncmp(line, field, len) == 0 && line[len] == ':') kb = strtod(line + len + 1, NULL);
    }
    fclose(file);
    return kb * 1024 / 1e6;
}

double table_file_mb(const char *path, const char *suffix) {
    char name[1024];
    struct stat about;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return stat(name, &about) == 0 ? (double)about.st_size / 1e6 : 0;
}

size_t table_number(const char *argument) {
    char *end;
    unsigned long long number = strtoull(argument, &end, 10);
    if (*end || end == argument) table_fail("%s is no number", argument);
    return (size_t)number;
}
