/*
 * toy.h - an encoder for tests without a model: hashed character trigrams, so that similar texts have similar
 * vectors, always the same ones; and helpers around routers and files.
 */
#ifndef SR_TESTS_TOY_H
#define SR_TESTS_TOY_H

#include "unit.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "synaptoroute.h"

#define TOY_DIMENSION 64

/* What a toy encoder was asked for, and how it should behave. */
typedef struct toy {
    atomic_int encoded; /* texts in all */
    atomic_int fail;    /* calls from now on return this */
    int salt;           /* another salt gives another model's vectors */
} toy;

static inline int toy_encode(void *user, const sr_str *texts, size_t n, float *out) {
    toy *self = user;
    int failure = atomic_load(&self->fail);
    if (failure != 0) return failure;
    atomic_fetch_add(&self->encoded, (int)n);
    for (size_t i = 0; i < n; i++) {
        float *row = out + i * TOY_DIMENSION;
        for (int j = 0; j < TOY_DIMENSION; j++) row[j] = 0.001f;
        for (size_t at = 0; at + 2 < texts[i].len + 2; at++) {
            uint32_t hash = 2166136261u + (uint32_t)self->salt;
            for (size_t k = at; k < at + 3; k++)
                hash =
                    (hash ^ (k < texts[i].len ? (unsigned char)texts[i].data[k] : ' ')) * 16777619u;
            row[(hash >> 8) % TOY_DIMENSION] += (hash & 1) != 0 ? 1.0f : -1.0f;
        }
    }
    return 0;
}

static inline sr_encoder *toy_open(toy *self, const char *identity) {
    sr_encoder_options options = {.size = sizeof options,
                                  .kind = SR_ENCODER_CALLBACK,
                                  .encode = toy_encode,
                                  .user = self,
                                  .dimension = TOY_DIMENSION,
                                  .identity = identity};
    sr_encoder *encoder = NULL;
    sr_error error;
    if (sr_encoder_open(&options, &encoder, &error) != SR_OK) fail_msg("%s", error.message);
    return encoder;
}

/* A directory of its own below TMPDIR, removed by toy_remove_directory(). */
static inline void toy_directory(char path[256]) {
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/sr-test-XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(path));
}

static inline void toy_remove_directory(const char *path) {
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        char name[600];
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        unlink(name);
    }
    if (directory != NULL) closedir(directory);
    rmdir(path);
}

/* A router on `database` (NULL: memory) with a borrowed encoder; fails the test when it cannot be opened. */
static inline sr_router *toy_router(const char *database, sr_encoder *encoder, unsigned flags) {
    sr_options options = {.size = sizeof options,
                          .database = database,
                          .encoder = encoder,
                          .flags = flags,
                          .threads = 2};
    sr_router *router = NULL;
    sr_error error = {0};
    if (sr_router_open(&options, &router, &error) != SR_OK) fail_msg("%s", error.message);
    return router;
}

/* Puts one route whose utterances are separated by '|'. */
static inline sr_status toy_put(sr_router *router, const char *name, const char *utterances,
                                sr_put_mode mode, sr_receipt *receipt, sr_error *error) {
    sr_str texts[64];
    size_t count = 0;
    for (const char *at = utterances; *at != '\0' && count < 64;) {
        size_t len = strcspn(at, "|");
        texts[count++] = (sr_str){at, len};
        at += len + (at[len] == '|');
    }
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of(name),
                      .utterances = texts,
                      .utterance_count = count};
    sr_put_options options = {.size = sizeof options, .mode = mode};
    return sr_routes_put(router, &route, 1, &options, receipt, error);
}

/* A router on a database of its own, with the toy encoder: what a test starts with, as its setup and teardown. */
typedef struct toy_table {
    toy toy;
    sr_encoder *encoder;
    char directory[256], path[300];
    sr_router *router; /* on `path` */
} toy_table;

static inline int toy_set_up(void **state) {
    toy_table *self = calloc(1, sizeof *self);
    toy_directory(self->directory);
    snprintf(self->path, sizeof self->path, "%s/routes.db", self->directory);
    self->encoder = toy_open(&self->toy, "toy");
    self->router = toy_router(self->path, self->encoder, 0);
    *state = self;
    return 0;
}

static inline int toy_tear_down(void **state) {
    toy_table *self = *state;
    sr_router_close(&self->router);
    sr_encoder_close(&self->encoder);
    toy_remove_directory(self->directory);
    free(self);
    return 0;
}

static inline bool toy_is(sr_str text, const char *expected) {
    return text.len == strlen(expected) &&
           (text.len == 0 || memcmp(text.data, expected, text.len) == 0);
}

/* The whole table as one string: "name[threshold]:utterance|utterance;...". */
static inline void toy_dump(sr_router *router, char *out, size_t capacity) {
    sr_table *table = NULL;
    assert_int_equal(sr_table_read(router, NULL, 1, &table, NULL), SR_OK);
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sr_table_count(table); i++) {
        const sr_route_view *view = sr_table_route(table, i);
        len += (size_t)snprintf(out + len, capacity - len, "%.*s", (int)view->name.len,
                                view->name.data);
        if (view->threshold.kind != SR_THRESHOLD_AUTO)
            len += (size_t)snprintf(out + len, capacity - len, "[%d %g]", (int)view->threshold.kind,
                                    view->threshold.value);
        for (size_t j = 0; j < view->utterance_count; j++)
            len += (size_t)snprintf(out + len, capacity - len, "%c%.*s", j == 0 ? ':' : '|',
                                    (int)view->utterances[j].len, view->utterances[j].data);
        len += (size_t)snprintf(out + len, capacity - len, ";");
        assert_true(len < capacity);
    }
    sr_table_free(&table);
}

static inline void toy_assert_table(sr_router *router, const char *expected) {
    static char dump[1 << 16];
    toy_dump(router, dump, sizeof dump);
    assert_string_equal(dump, expected);
}

#endif
