/*
 * table_input.h - what the programs that time tables share: vectors and texts mapped from files, an
 * encoder that only looks vectors up, clocks and memory.
 *
 * These are programs: what goes wrong is told on standard error and ends them.
 */
#ifndef SRI_TABLE_INPUT_H
#define SRI_TABLE_INPUT_H

#include "synaptoroute.h"

#include <stdbool.h>
#include <stdio.h>

enum { TABLE_PER_ROUTE = 5 }; /* utterances of a route */

__attribute__((noreturn, format(printf, 1, 2))) void table_fail(const char *format, ...);
/* Fails with the error's message unless `status` is SR_OK. */
void table_must(sr_status status, const sr_error *error);
void *table_alloc(size_t count, size_t size); /* zeroed, for the whole run */

/* Rows of float32 mapped from a file: pages of it are not the process's own memory. */
typedef struct table_rows {
    const float *rows; /* count x dimension */
    size_t count;
    int dimension;
} table_rows;
table_rows table_map_rows(const char *path, int dimension);
const float *table_row(const table_rows *rows, size_t i);

/* The first `count` lines of a file, mapped likewise. */
sr_str *table_map_lines(const char *path, size_t count);

/* An encoder that takes "?17" as row 17 of `rows`, which outlives it; it knows no other text. */
sr_encoder *table_encoder(const table_rows *rows);
/* "?17" for i = 17, in the caller's room. */
sr_str table_query(char room[32], size_t i);

/* A router over `database` with that encoder; changes are stored with `durability`. */
sr_router *table_open(const char *database, sr_encoder *encoder, int threads,
                      sr_durability durability);
sr_durability table_durability(const char *name); /* "normal", "full" or "deferred" */

double table_now(void);              /* seconds */
void table_sleep_until(double when); /* of table_now() */
/* Sorts and gives the value below which `share` of them lie. */
double table_percentile(double *values, size_t count, double share);
/* "VmRSS", "VmHWM", "RssAnon" ... of this process in MB, of 1e6 bytes. */
double table_memory(const char *field);
double table_file_mb(const char *path, const char *suffix); /* 0 where there is none */
size_t table_number(const char *argument);

#endif
