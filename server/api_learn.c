/*
 * api_learn.c - what is learned from the table and found out about it: POST /v1/fit, GET /v1/lint, GET /v1/map.
 */
#include "api.h"

#include <math.h>
#include <string.h>

#include "eval/lint.h"
#include "eval/scatter.h"
#include "io/answer_json.h"
#include "io/io.h"
#include "job_progress.h"
#include "workers.h"

/* ---- Fit -------------------------------------------------------------------------------------------- */

typedef struct fit_body {
    sr_fit_options fit;
    sr_str route;
    sr_str *texts, *routes; /* labelled ones */
} fit_body;

/* A target: a share, or null for as many right answers as possible. */
static bool take_share(srv_request *request, const json_t *object, const char *name,
                       double *share) {
    const json_t *member = json_object_get(object, name);
    if (member == NULL) return true;
    *share = json_is_null(member) ? -1 : json_number_value(member);
    if (json_is_null(member) || (json_is_number(member) && *share > 0 && *share <= 1)) return true;
    srv_problem(request, 400, "member", "%s must be a share above 0, up to 1, or null", name);
    return false;
}

/* {"text", "route"}; a route that is null or missing: it belongs to none. */
static bool take_labelled(srv_request *request, const json_t *list, fit_body *body) {
    size_t i, count = json_array_size(list),
              most = (size_t)srv_settings_of(request->server)->config.max_texts;
    const json_t *item;
    if (list == NULL) return true;
    if (count > most) {
        srv_problem(request, 413, "too-many", "texts has %zu entries; send at most %zu at once",
                    count, most);
        return false;
    }
    body->texts = srv_alloc(request, (count + 1) * sizeof *body->texts);
    body->routes = srv_alloc(request, (count + 1) * sizeof *body->routes);
    if (body->texts == NULL || body->routes == NULL) {
        srv_fail_memory(request);
        return false;
    }
    bool good = json_is_array(list);
    json_array_foreach(list, i, item) {
        const json_t *text = json_object_get(item, "text"), *route = json_object_get(item, "route");
        good = good && json_is_string(text) &&
               (route == NULL || json_is_null(route) || json_is_string(route));
        if (!good) break;
        body->texts[i] = srv_json_str(text);
        if (json_is_string(route)) body->routes[i] = srv_json_str(route);
    }
    if (!good)
        srv_problem(request, 400, "member",
                    "texts must be a list of {\"text\": ..., \"route\": ...}");
    body->fit.texts = body->texts;
    body->fit.routes = body->routes;
    body->fit.count = count;
    return good;
}

static bool take_fit(srv_request *request, const json_t *object, fit_body *body) {
    static const char *const known[] = {"max_oos", "min_precision", "route", "texts", NULL};
    *body = (fit_body){.fit = {.size = sizeof body->fit}};
    if (!srv_check_members(request, object, known) ||
        !take_share(request, object, "max_oos", &body->fit.max_oos_accepted) ||
        !take_share(request, object, "min_precision", &body->fit.min_precision) ||
        !srv_take_string(request, object, "route", &body->route) ||
        !take_labelled(request, json_object_get(object, "texts"), body))
        return false;
    if (body->route.data == NULL) return true;
    body->fit.route = &body->route;
    if (body->fit.max_oos_accepted > 0 || body->fit.min_precision > 0) return true;
    srv_problem(request, 400, "member", "route needs max_oos or min_precision");
    return false;
}

static void learn(srv_request *request, fit_body *body) {
    srv_progress progress;
    sr_fit_report *report = NULL;
    sr_error error;
    srv_progress_begin(&progress, request);
    body->fit.progress = srv_progress_step;
    body->fit.progress_user = &progress;
    if (sr_fit(srv_router(request), &body->fit, &report, &error) != SR_OK) {
        srv_progress_fail(&progress, &error);
        return;
    }
    sri_buffer line = {0};
    bool made = sri_buffer_append_str(&line, "{\"report\":") &&
                sri_append_fit_json(&line, report) && sri_buffer_append(&line, "}", 1);
    sr_fit_report_free(&report);
    srv_progress_done(&progress, made, &line);
}

static void fit(srv_request *request) {
    atomic_bool *fitting = &request->server->fitting;
    json_t *object = request->body.len == 0 ? json_object() : srv_parse_object(request);
    fit_body body;
    if (object == NULL) return;
    if (take_fit(request, object, &body)) {
        if (atomic_exchange(fitting, true)) {
            srv_problem(request, 409, "fitting", "a fit is being made; wait for it to end");
        } else {
            learn(request, &body);
            atomic_store(fitting, false);
        }
    }
    json_decref(object);
}

/* ---- Lint ------------------------------------------------------------------------------------------- */

static bool query_limit(srv_request *request, size_t initial, size_t most, size_t *limit) {
    sr_str text;
    *limit = initial;
    if (!srv_query(request, "limit", &text)) return true;
    size_t number = 0, i = 0;
    for (; i < text.len && i < 9 && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        number = number * 10 + (size_t)(text.data[i] - '0');
    *limit = number;
    if (i > 0 && i == text.len && number > 0 && number <= most) return true;
    srv_problem(request, 400, "query", "limit must be a whole number from 1 to %zu", most);
    return false;
}

static void lint(srv_request *request) {
    size_t limit;
    sri_lint found;
    sr_error error;
    srv_progress progress;
    if (!query_limit(request, 100, SRI_LINT_MAX, &limit)) return;
    srv_progress_begin(&progress, request);
    progress.plain = true;
    sri_lint_options options = {
        .threads = 1, .progress = srv_progress_step, .progress_user = &progress};
    if (sri_lint_run(srv_router(request), &options, &found, &error) != SR_OK) {
        srv_fail(request, &error);
        return;
    }
    sri_buffer body = {0};
    srv_reply_json(request, 200, sri_lint_append_json(&found, limit, &body), &body);
    sri_lint_free(&found);
}

/* ---- Map -------------------------------------------------------------------------------------------- */

/* Numbers of routes in the order of their first utterance. */
static bool append_names(sri_buffer *out, const sr_sample *sample, sri_map *numbers) {
    bool done = sri_buffer_append_str(out, ",\"routes\":[");
    for (size_t i = 0; done && i < sample->count; i++) {
        if (sri_map_get(numbers, sample->routes[i], NULL)) continue;
        done = (numbers->count == 0 || sri_buffer_append(out, ",", 1)) &&
               sri_append_json(out, sample->routes[i]) &&
               sri_map_put(numbers, sample->routes[i], numbers->count);
    }
    return done && sri_buffer_append(out, "]", 1);
}

static bool append_points(sri_buffer *out, const sr_sample *sample, const float *points,
                          const double explained[2]) {
    sri_map numbers = {0};
    bool done = sri_buffer_format(out, "{\"revision\":%llu,\"total\":%zu,\"explained\":[%.4f,%.4f]",
                                  (unsigned long long)sample->revision, sample->total, explained[0],
                                  explained[1]) &&
                append_names(out, sample, &numbers) && sri_buffer_append_str(out, ",\"points\":[");
    for (size_t i = 0; done && i < sample->count; i++) {
        uint64_t number = 0;
        sri_map_get(&numbers, sample->routes[i], &number);
        done = sri_buffer_format(
                   out, "%s{\"x\":%.5f,\"y\":%.5f,\"route\":%llu,\"utterance\":", i == 0 ? "" : ",",
                   points[2 * i], points[2 * i + 1], (unsigned long long)number) &&
               sri_append_json(out, sample->texts[i]) && sri_buffer_append(out, "}", 1);
    }
    sri_map_free(&numbers);
    return done && sri_buffer_append_str(out, "]}");
}

static void map(srv_request *request) {
    size_t limit;
    sr_sample *sample = NULL;
    sr_error error;
    double explained[2];
    sri_buffer body = {0};
    if (!query_limit(request, 5000, 50000, &limit)) return;
    sr_status code = sr_utterance_vectors(srv_router(request), limit, &sample, &error);
    float *points = code == SR_OK ? sri_alloc_array(2 * sample->count + 1, sizeof *points) : NULL;
    if (code == SR_OK && points == NULL) code = sri_fail_memory(&error);
    if (code == SR_OK)
        code = sri_scatter(sample->vectors, sample->count, sample->dimension, points, explained,
                           &error);
    if (code == SR_OK)
        srv_reply_json(request, 200, append_points(&body, sample, points, explained), &body);
    else
        srv_fail(request, &error);
    sri_free(points);
    sr_sample_free(&sample);
}

void srv_post_fit(srv_request *request) { srv_work(request, fit); }
void srv_get_lint(srv_request *request) { srv_work(request, lint); }
void srv_get_map(srv_request *request) { srv_work(request, map); }
