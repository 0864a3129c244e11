/*
 * api_embeddings.c - POST /v1/embeddings, with OpenAI's request and answer, so that its clients work unchanged.
 *
 * Any name of a model is taken, since those clients insist on giving one; the answer names the one that was used. Lists of
 * tokens are refused: they would be another tokenizer's.
 */
#include "api.h"

#include <math.h>
#include <string.h>

#include "io/io.h"
#include "observe.h"

typedef struct embed_job {
    srv_request *request;
    sr_router *router;
    _Atomic sr_ticket ticket;
    bool base64;
} embed_job;

/* ---- Vectors as text ---------------------------------------------------------------------------------- */

/* A number between -10 and 10 with 9 decimals, which give back a float of such vectors. */
static size_t put_value(char *out, float value) {
    size_t len = 0;
    uint64_t scaled = (uint64_t)(fabs((double)value) * 1e9 + 0.5), whole = scaled / 1000000000;
    if (value < 0 && scaled > 0) out[len++] = '-';
    out[len++] = (char)('0' + whole % 10);
    out[len++] = '.';
    for (uint64_t unit = 100000000; unit > 0; unit /= 10)
        out[len++] = (char)('0' + scaled / unit % 10);
    return len;
}

static bool append_floats(sri_buffer *out, const float *values, size_t count) {
    bool done = sri_buffer_append(out, "[", 1);
    for (size_t i = 0; done && i < count; i++) {
        char text[24];
        size_t len = 0;
        if (i > 0) text[len++] = ',';
        len += put_value(text + len, values[i]);
        done = sri_buffer_append(out, text, len);
    }
    return done && sri_buffer_append(out, "]", 1);
}

/* The floats' bytes, little-endian as the client expects them. */
static bool append_base64(sri_buffer *out, const float *values, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *bytes = (const unsigned char *)values;
    size_t n = count * sizeof *values;
    bool done = sri_buffer_append(out, "\"", 1);
    for (size_t i = 0; done && i < n; i += 3) {
        size_t there = SRI_MIN(n - i, (size_t)3);
        unsigned group = (unsigned)bytes[i] << 16;
        if (there > 1) group |= (unsigned)bytes[i + 1] << 8;
        if (there > 2) group |= bytes[i + 2];
        char four[4] = {digits[group >> 18], digits[group >> 12 & 63],
                        there > 1 ? digits[group >> 6 & 63] : '=',
                        there > 2 ? digits[group & 63] : '='};
        done = sri_buffer_append(out, four, sizeof four);
    }
    return done && sri_buffer_append(out, "\"", 1);
}

static bool append_answer(const embed_job *job, sri_buffer *out, const sr_vectors *vectors,
                          const char *model) {
    unsigned long long tokens = 0;
    bool done = sri_buffer_append_str(out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; done && i < vectors->count; i++) {
        const float *row = vectors->values + i * vectors->dimension;
        tokens += vectors->tokens[i];
        done = sri_buffer_format(out, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":",
                                 i == 0 ? "" : ",", i) &&
               (job->base64 ? append_base64(out, row, vectors->dimension)
                            : append_floats(out, row, vectors->dimension)) &&
               sri_buffer_append(out, "}", 1);
    }
    return done && sri_buffer_append_str(out, "],\"model\":") &&
           sri_append_json(out, sr_str_of(model)) &&
           sri_buffer_format(out, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}",
                             tokens, tokens);
}

/* ---- The request -------------------------------------------------------------------------------------- */

static void on_done(void *user, const sr_completion *completion) {
    embed_job *job = user;
    srv_request *request = job->request;
    sr_vectors *vectors = completion->vectors;
    sr_info info = {.size = sizeof info};
    sr_error error;
    sri_buffer body = {0};
    if (srv_is_late(request) &&
        (completion->status == SR_OK || completion->status == SR_ERR_CANCELLED))
        srv_problem(request, 504, "timeout", "the texts were not encoded in time");
    else if (completion->status != SR_OK)
        srv_fail(request, completion->error);
    else if (sr_router_info(job->router, &info, &error) != SR_OK)
        srv_fail(request, &error);
    else {
        srv_observe_vectors(request, vectors);
        srv_reply_json(request, 200, append_answer(job, &body, vectors, info.model), &body);
    }
    sr_vectors_free(&vectors);
}

static void on_gone(void *user, srv_gone why) {
    (void)why;
    embed_job *job = user;
    sr_error error;
    /* Answered already, or being answered: then there is nothing to cancel. */
    if (sr_cancel(job->router, atomic_load(&job->ticket), &error) != SR_OK) return;
}

static bool take_input(srv_request *request, const json_t *object, sr_str **texts, size_t *count) {
    const json_t *input = json_object_get(object, "input");
    size_t most = (size_t)srv_settings_of(request->server)->config.max_texts;
    if (json_is_array(input) &&
        (json_is_integer(json_array_get(input, 0)) || json_is_array(json_array_get(input, 0)))) {
        srv_problem(request, 400, "tokens",
                    "input holds numbers of tokens, which are another tokenizer's; send texts");
        return false;
    }
    if (json_is_array(input)) {
        if (!srv_take_strings(request, object, "input", most, texts, count)) return false;
        if (*count > 0) return true;
        srv_problem(request, 400, "member", "input must hold at least one text");
        return false;
    }
    *texts = srv_alloc(request, sizeof **texts);
    *count = 1;
    if (*texts != NULL && json_is_string(input))
        return srv_take_string(request, object, "input", *texts);
    if (*texts == NULL)
        srv_fail_memory(request);
    else
        srv_problem(request, 400, "member", "give input, a string or a list of strings");
    return false;
}

static bool take_settings(srv_request *request, const json_t *object, bool *base64) {
    static const char *const known[] = {"input",      "model", "encoding_format",
                                        "dimensions", "user",  NULL};
    sr_str format = sr_str_of("float"), text;
    long dimensions = 0;
    sr_info info = {.size = sizeof info};
    sr_error error;
    if (!srv_check_members(request, object, known) ||
        !srv_take_string(request, object, "model", &text) ||
        !srv_take_string(request, object, "user", &text) ||
        !srv_take_string(request, object, "encoding_format", &format) ||
        !srv_take_integer(request, object, "dimensions", 1, 65536, &dimensions))
        return false;
    *base64 = sri_str_equal(format, sr_str_of("base64"));
    if (!*base64 && !sri_str_equal(format, sr_str_of("float"))) {
        srv_problem(request, 400, "member", "encoding_format must be float or base64");
        return false;
    }
    if (dimensions == 0) return true;
    if (sr_router_info(srv_router(request), &info, &error) == SR_OK && info.dimension == dimensions)
        return true;
    srv_problem(request, 400, "member",
                "the model's vectors have %d dimensions; leave dimensions out", info.dimension);
    return false;
}

static void submit(srv_request *request, const sr_str *texts, size_t count, bool base64) {
    embed_job *job = srv_alloc(request, sizeof *job);
    if (job == NULL) {
        srv_fail_memory(request);
        return;
    }
    job->request = request;
    job->router = srv_router(request);
    job->base64 = base64;
    sr_submit_options options = {.size = sizeof options,
                                 .key = request->key,
                                 .deadline_ns = request->deadline_ns,
                                 .flags = SR_SUBMIT_VECTORS | SR_SUBMIT_AWAY};
    sr_ticket ticket = 0;
    sr_error error;
    srv_later(request);
    sr_status code =
        sr_submit_list(job->router, texts, count, &options, on_done, job, &ticket, &error);
    if (code == SR_ERR_OVERLOADED)
        srv_busy(request, (double)sr_queue_wait(job->router, request->key) / 1e9,
                 "more texts wait than can be encoded in time");
    else if (code != SR_OK)
        srv_fail(request, &error);
    else if (ticket != 0) {
        atomic_store(&job->ticket, ticket);
        srv_on_gone(request, on_gone, job);
    }
}

void srv_post_embeddings(srv_request *request) {
    json_t *object = srv_parse_object(request);
    sr_str *texts = NULL;
    size_t count = 0;
    bool base64 = false;
    if (object == NULL) return;
    if (take_settings(request, object, &base64) && take_input(request, object, &texts, &count))
        submit(request, texts, count, base64);
    json_decref(object);
}
