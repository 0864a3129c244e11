/*
 * speed.h - how fast this machine encodes, and how near its products are to what a core can do.
 */
#ifndef SRI_SPEED_H
#define SRI_SPEED_H

#include "base/base.h"

/* The names of the levels that this CPU has, lowest first: the one at `index`, NULL past the last. */
const char *sri_speed_level(size_t index);

/* Appends one JSON object without a newline:
 *   {"level","int8_peak_gops","int8_instruction","fp32_peak_gops",
 *    "products":[{"n","k","m","gops","share"}]}
 * for the level that this process uses: rates of one core, products of bge-small's shapes in int8.
 * `peak` takes the int8 peak in operations a second, 0 where there is none. */
SR_MUST_CHECK sr_status sri_speed_of_products(sri_buffer *json, double *peak, sr_error *error);

typedef struct sri_speed_options {
    const char *model; /* as in sr_encoder_options */
    int threads;
    double seconds;      /* of each measurement */
    double peak;         /* operations a second of a core, as measured; 0: not known */
    const sr_str *texts; /* NULL: a sample of short ones of our own */
    size_t text_count;
} sri_speed_options;

/* Appends {"model","dimension","threads","open_ms",
 *          "runs":[{"texts","texts_per_second","tokens_per_second","peak_share","p50_ms","p99_ms"}]},
 * a run for 1, 8 and 32 texts at a time; times are of one call. tokens_per_second is null for a model
 * without tokens; peak_share is what its products alone take of the peak of all threads' cores. */
SR_MUST_CHECK sr_status sri_speed_of_encoder(const sri_speed_options *options, sri_buffer *json,
                                             sr_error *error);

#endif
