/*
 * speed.c - measures encoders and products for `synaptoroute bench`.
 *
 * Latency is wall time, since that is what a caller waits; the rates of products are of CPU time
 * (kernels/kernel_speed.h). The level is the one that the process uses: to compare levels, run one
 * process for each.
 */
#include "eval/speed.h"

#include <math.h>
#include <stdlib.h>

#include "encode/encode.h"
#include "kernels/kernel_speed.h"

/* Of about 12 tokens each, as people write to an assistant. */
static const char *const sample[] = {
    "How do I get my money back for the shoes I ordered last week?",
    "what's the weather going to be like in Lisbon on Saturday",
    "Turn off the lights in the kitchen, please.",
    "I was charged twice for the same subscription",
    "set an alarm for half past six tomorrow morning",
    "My parcel says delivered but nothing has arrived here",
    "can you book a table for four at seven tonight",
    "Why was my card declined at the petrol station?",
    "translate good evening into Italian for me",
    "I forgot my password and the reset mail never comes",
    "play something quiet while I cook",
    "How long does a transfer to another bank take?",
    "add oat milk and two lemons to my shopping list",
    "The app closes itself whenever I open my orders",
    "is my flight to Vienna still on time",
    "Please cancel my order, I chose the wrong size.",
    "what is the exchange rate between pounds and euros today",
    "I would like to change the address on my account",
    "remind me to call the dentist after lunch",
    "Do you ship to Norway, and what does it cost?",
    "who won the match last night",
    "make the living room a little warmer",
    "The invoice shows a discount that I never got",
    "how many calories are there in a bowl of rice",
};

const char *sri_speed_level(size_t index) {
    for (int level = 0; level < SRI_CPU_LEVELS; level++)
        if (sri_cpu_has((sri_cpu_level)level) && index-- == 0)
            return sri_cpu_level_name((sri_cpu_level)level);
    return NULL;
}

static int compare_doubles(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static bool append_number(sri_buffer *json, const char *name, double value, int digits) {
    if (!isfinite(value)) return sri_buffer_format(json, "\"%s\":null", name);
    return sri_buffer_format(json, "\"%s\":%.*f", name, digits, value);
}

/* ---- Encoders ---------------------------------------------------------------------------------- */

#define MOST_CALLS ((size_t)20000)

typedef struct encoder_run {
    sr_encoder *encoder;
    const sr_str *texts;
    size_t text_count, at_once;
    double seconds;
    double peak;   /* of all cores used; 0: not known */
    float *out;    /* [at_once, dimension] */
    double *calls; /* [MOST_CALLS] seconds of each */
    size_t call_count;
    double spent; /* in all calls */
} encoder_run;

/* Calls with the next `at_once` texts, round and round. */
static sr_status repeat_calls(encoder_run *run, double seconds, bool keep, sr_error *error) {
    sr_str batch[64];
    size_t next = 0;
    run->call_count = 0;
    run->spent = 0;
    while ((run->call_count < 3 || run->spent < seconds) && run->call_count < MOST_CALLS) {
        for (size_t i = 0; i < run->at_once; i++) batch[i] = run->texts[next++ % run->text_count];
        double start = sri_seconds();
        sr_status code =
            sr_encoder_encode(run->encoder, batch, run->at_once, run->out, NULL, error);
        double took = sri_seconds() - start;
        if (code != SR_OK) return code;
        if (keep) run->calls[run->call_count] = took;
        run->call_count++;
        run->spent += took;
    }
    return SR_OK;
}

/* Mean tokens of a text; NaN where the encoder has none. */
static double tokens_a_text(sr_encoder *encoder, const sr_str *texts, size_t count) {
    int32_t ids[512];
    size_t sum = 0, tokens;
    for (size_t i = 0; i < count; i++) {
        if (sr_encoder_tokenize(encoder, texts[i], ids, SRI_COUNT(ids), &tokens, NULL, NULL) !=
            SR_OK)
            return NAN;
        sum += tokens;
    }
    return (double)sum / (double)count;
}

static sr_status measure_run(encoder_run *run, double tokens, sri_buffer *json, sr_error *error) {
    double operations = sri_encoder_operations(run->encoder);
    sr_status code = repeat_calls(run, run->seconds / 5, false, error); /* warm */
    if (code == SR_OK) code = repeat_calls(run, run->seconds, true, error);
    if (code != SR_OK) return code;
    qsort(run->calls, run->call_count, sizeof *run->calls, compare_doubles);
    double rate = (double)(run->call_count * run->at_once) / run->spent;
    double p50 = run->calls[run->call_count / 2], p99 = run->calls[run->call_count * 99 / 100];
    bool done =
        sri_buffer_format(json, "{\"texts\":%zu,", run->at_once) &&
        append_number(json, "texts_per_second", rate, 1) && sri_buffer_append_str(json, ",") &&
        append_number(json, "tokens_per_second", rate * tokens, 0) &&
        sri_buffer_append_str(json, ",") &&
        append_number(
            json, "peak_share",
            operations > 0 && run->peak > 0 ? rate * tokens * operations / run->peak : NAN, 3) &&
        sri_buffer_append_str(json, ",") && append_number(json, "p50_ms", p50 * 1e3, 4) &&
        sri_buffer_append_str(json, ",") && append_number(json, "p99_ms", p99 * 1e3, 4) &&
        sri_buffer_append_str(json, "}");
    return done ? SR_OK : sri_fail_memory(error);
}

static sr_status measure_encoder(encoder_run *run, sri_buffer *json, sr_error *error) {
    static const size_t sizes[] = {1, 8, 32};
    double tokens = tokens_a_text(run->encoder, run->texts, run->text_count);
    for (size_t i = 0; i < SRI_COUNT(sizes); i++) {
        run->at_once = sizes[i];
        if (i > 0 && !sri_buffer_append_str(json, ",")) return sri_fail_memory(error);
        sr_status code = measure_run(run, tokens, json, error);
        if (code != SR_OK) return code;
    }
    return sri_buffer_append_str(json, "]}") ? SR_OK : sri_fail_memory(error);
}

static sr_status run_encoder(const sri_speed_options *options, const sr_str *texts, size_t count,
                             sri_buffer *json, sr_error *error) {
    encoder_run run = {.texts = texts, .text_count = count, .seconds = options->seconds};
    sr_encoder_options open = {
        .size = sizeof open, .model = options->model, .threads = options->threads};
    double start = sri_seconds();
    sr_status code = sr_encoder_open(&open, &run.encoder, error);
    double took = sri_seconds() - start;
    if (code != SR_OK) return code;
    size_t dimension = (size_t)sr_encoder_dimension(run.encoder);
    run.out = sri_alloc_array(32 * dimension, sizeof(float));
    run.calls = sri_alloc_array(MOST_CALLS, sizeof(double));
    int threads = options->threads == 0 ? sri_cpu_count() : options->threads;
    run.peak = options->peak * threads;
    bool done = run.out != NULL && run.calls != NULL &&
                sri_buffer_format(json, "{\"model\":\"%s\",\"dimension\":%zu,\"threads\":%d,",
                                  sr_encoder_name(run.encoder), dimension, threads) &&
                append_number(json, "open_ms", took * 1e3, 1) &&
                sri_buffer_append_str(json, ",\"runs\":[");
    code = done ? measure_encoder(&run, json, error) : sri_fail_memory(error);
    sri_free(run.out);
    sri_free(run.calls);
    sr_encoder_close(&run.encoder);
    return code;
}

sr_status sri_speed_of_encoder(const sri_speed_options *options, sri_buffer *json,
                               sr_error *error) {
    if (options->texts != NULL)
        return run_encoder(options, options->texts, options->text_count, json, error);
    sr_str own[SRI_COUNT(sample)];
    for (size_t i = 0; i < SRI_COUNT(sample); i++) own[i] = sr_str_of(sample[i]);
    return run_encoder(options, own, SRI_COUNT(sample), json, error);
}

/* ---- Products ---------------------------------------------------------------------------------- */

static bool append_peak(sri_buffer *json, sri_cpu_level level, double *int8) {
    const char *instruction, *unused;
    *int8 = sri_peak_int8(level, &instruction);
    double fp32 = sri_peak_fp32(level, &unused);
    return sri_buffer_format(json, "{\"level\":\"%s\",", sri_cpu_level_name(level)) &&
           append_number(json, "int8_peak_gops", *int8 > 0 ? *int8 * 1e-9 : NAN, 1) &&
           sri_buffer_format(json, ",\"int8_instruction\":%s%s%s,", *int8 > 0 ? "\"" : "",
                             *int8 > 0 ? instruction : "null", *int8 > 0 ? "\"" : "") &&
           append_number(json, "fp32_peak_gops", fp32 > 0 ? fp32 * 1e-9 : NAN, 1) &&
           sri_buffer_append_str(json, ",\"products\":[");
}

static bool append_products(sri_buffer *json, const sri_product_shape *shape, double peak,
                            bool first) {
    static const size_t rows[] = {1, 4, 16, 64, 256, 1024, 4096};
    sri_product_speed speeds[SRI_COUNT(rows)];
    size_t count = peak > 0 ? SRI_COUNT(rows) : 3; /* the plain level is slow */
    if (!sri_product_speed_of(sri_kernels_get(), shape, peak, rows, count, speeds)) return false;
    bool done = true;
    for (size_t i = 0; done && i < count; i++)
        done = sri_buffer_format(json, "%s{\"n\":%zu,\"k\":%zu,\"m\":%zu,",
                                 first && i == 0 ? "" : ",", shape->n, shape->k, rows[i]) &&
               append_number(json, "gops", speeds[i].operations * 1e-9, 1) &&
               sri_buffer_append_str(json, ",") &&
               append_number(json, "share", speeds[i].share, 3) && sri_buffer_append_str(json, "}");
    return done;
}

sr_status sri_speed_of_products(sri_buffer *json, double *peak, sr_error *error) {
    static const sri_product_shape shapes[] = {{true, 1152, 384, SRI_LINEAR},
                                               {true, 384, 384, SRI_LINEAR},
                                               {true, 1536, 384, SRI_LINEAR},
                                               {true, 384, 1536, SRI_LINEAR}};
    bool done = append_peak(json, sri_cpu_chosen(), peak);
    for (size_t i = 0; done && i < SRI_COUNT(shapes); i++)
        done = append_products(json, &shapes[i], *peak, i == 0);
    return done && sri_buffer_append_str(json, "]}") ? SR_OK : sri_fail_memory(error);
}
