/*
 * api_table.c - the route table: /v1/routes, /v1/routes/NAME and its utterances, and out-of-scope examples.
 *
 * Every change answers with its receipt, and can be sent again: what is there already is not added twice, and to
 * remove what is not there is no failure, but a receipt with zeros. The ETag of all that is read is the table's
 * revision; a change with If-Match is made only while that is the revision. Such a change excludes others of this
 * server from the comparison to its end, by a lock that changes without a condition share; another process that
 * changes the same database in this moment is not held off.
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "io/answer_json.h"
#include "io/io.h"
#include "workers.h"

/* ---- Conditions ----------------------------------------------------------------------------------- */

static void put_etag(srv_request *request, uint64_t revision) {
    char tag[32];
    snprintf(tag, sizeof tag, "\"%llu\"", (unsigned long long)revision);
    srv_answer_header(request, "ETag", tag);
}

/* Whether a list of tags, as in If-Match, has the one of `revision`. */
static bool has_tag(const char *list, uint64_t revision) {
    char tag[32];
    size_t len = (size_t)snprintf(tag, sizeof tag, "\"%llu\"", (unsigned long long)revision);
    for (const char *at = list; (at = strstr(at, tag)) != NULL; at += len)
        if (at == list || at[-1] != '/') return true; /* W/"12" is a weak one */
    return false;
}

static sr_status route_exists(sr_router *router, sr_str name, bool *exists, sr_error *error) {
    sr_table *table = NULL;
    sr_status code = sr_table_read(router, &name, 0, &table, error);
    *exists = code == SR_OK;
    sr_table_free(&table);
    return code == SR_ERR_NOT_FOUND ? SR_OK : code;
}

static bool fail_condition(srv_request *request, const char *what) {
    srv_problem(request, 412, "revision",
                "%s; read it again, and send the change with the new ETag", what);
    return false;
}

static bool check_condition(srv_request *request) {
    const char *match = srv_header(request, "If-Match"),
               *none = srv_header(request, "If-None-Match");
    bool star = match != NULL && strcmp(match, "*") == 0,
         new_only = none != NULL && strcmp(none, "*") == 0;
    bool exists = false;
    sr_info info = {.size = sizeof info};
    sr_error error;
    sr_status code = sr_router_info(srv_router(request), &info, &error);
    if (code == SR_OK && (star || new_only)) {
        /* The table and the out-of-scope examples are always there. */
        exists = request->name.data == NULL;
        if (!exists) code = route_exists(srv_router(request), request->name, &exists, &error);
    }
    if (code != SR_OK) {
        srv_fail(request, &error);
        return false;
    }
    if (match != NULL && !star && !has_tag(match, info.revision)) {
        put_etag(request, info.revision);
        return fail_condition(request, "the table has changed since it was read");
    }
    if (star && !exists) return fail_condition(request, "there is no such route");
    if (new_only && exists) return fail_condition(request, "it is there already");
    return true;
}

bool srv_begin_change(srv_request *request) {
    pthread_rwlock_t *lock = &request->server->changes;
    if (srv_header(request, "If-Match") == NULL && srv_header(request, "If-None-Match") == NULL) {
        pthread_rwlock_rdlock(lock);
        return true;
    }
    pthread_rwlock_wrlock(lock);
    if (check_condition(request)) return true;
    pthread_rwlock_unlock(lock);
    return false;
}

void srv_end_change(srv_request *request) { pthread_rwlock_unlock(&request->server->changes); }

/* ---- Reading ------------------------------------------------------------------------------------------ */

/* Answers 304 when the client has this revision already. */
static bool is_known(srv_request *request, uint64_t revision) {
    const char *none = srv_header(request, "If-None-Match");
    put_etag(request, revision);
    if (none == NULL || !has_tag(none, revision)) return false;
    srv_reply(request, 304, NULL, NULL);
    return true;
}

static bool query_number(srv_request *request, const char *name, uint64_t most, uint64_t *value) {
    sr_str text;
    if (!srv_query(request, name, &text) || text.len == 0) return true;
    char digits[24], *end;
    snprintf(digits, sizeof digits, "%.*s", (int)SRI_MIN(text.len, sizeof digits - 1), text.data);
    unsigned long long number = strtoull(digits, &end, 10);
    if (*end != '\0' || digits[0] == '-' || number > most) {
        srv_problem(request, 400, "query", "%s must be a whole number up to %llu", name,
                    (unsigned long long)most);
        return false;
    }
    *value = number;
    return true;
}

static bool append_page(sri_buffer *out, const sr_table *table, uint64_t total,
                        const sr_page_options *options, uint64_t next) {
    size_t count = sr_table_count(table);
    bool all = options->prefix.len == 0 && options->search.len == 0,
         whole = options->after == 0 && next == 0;
    bool done =
        sri_buffer_format(out, "{\"revision\":%llu,\"total\":%llu,\"matching\":",
                          (unsigned long long)sr_table_revision(table),
                          (unsigned long long)total) &&
        (all || whole ? sri_buffer_format(out, "%llu", (unsigned long long)(all ? total : count))
                      : sri_buffer_append_str(out, "null")) &&
        sri_buffer_append_str(out, ",\"routes\":[");
    for (size_t i = 0; done && i < count; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) &&
               sri_route_append_json(out, sr_table_route(table, i), options->with_utterances != 0);
    done = done && sri_buffer_append_str(out, "],\"cursor\":");
    return done && (next == 0 ? sri_buffer_append_str(out, "null}")
                              : sri_buffer_format(out, "\"%llu\"}", (unsigned long long)next));
}

static void list_routes(srv_request *request) {
    sr_page_options options = {.size = sizeof options};
    uint64_t limit = 100, next = 0;
    sr_str utterances;
    if (!query_number(request, "limit", 10000, &limit) ||
        !query_number(request, "cursor", UINT64_MAX, &options.after))
        return;
    options.limit = (size_t)SRI_MAX(limit, (uint64_t)1);
    srv_query(request, "prefix", &options.prefix);
    srv_query(request, "search", &options.search);
    options.with_utterances = srv_query(request, "utterances", &utterances) &&
                              sri_str_equal(utterances, sr_str_of("true"));
    sr_table *table = NULL;
    sr_info info = {.size = sizeof info};
    sr_error error;
    sr_status code = sr_table_page(srv_router(request), &options, &table, &next, &error);
    if (code == SR_OK) code = sr_router_info(srv_router(request), &info, &error);
    sri_buffer body = {0};
    if (code != SR_OK)
        srv_fail(request, &error);
    else if (!is_known(request, sr_table_revision(table)))
        srv_reply_json(request, 200, append_page(&body, table, info.routes, &options, next), &body);
    sr_table_free(&table);
}

static void read_route(srv_request *request) {
    sr_table *table = NULL;
    sr_error error;
    sri_buffer body = {0};
    if (sr_table_read(srv_router(request), &request->name, 1, &table, &error) != SR_OK) {
        srv_fail(request, &error);
    } else if (!is_known(request, sr_table_revision(table))) {
        bool done = sri_route_append_json(&body, sr_table_route(table, 0), true);
        body.len -= done; /* its bracket */
        done = done && sri_buffer_format(&body, ",\"revision\":%llu}",
                                         (unsigned long long)sr_table_revision(table));
        srv_reply_json(request, 200, done, &body);
    }
    sr_table_free(&table);
}

static void read_oos(srv_request *request) {
    sr_table *table = NULL;
    sr_error error;
    sri_buffer body = {0};
    size_t count = 0;
    if (sr_table_read(srv_router(request), NULL, 1, &table, &error) != SR_OK) {
        srv_fail(request, &error);
    } else if (!is_known(request, sr_table_revision(table))) {
        const sr_str *texts = sr_table_oos(table, &count);
        bool done = sri_buffer_format(&body, "{\"revision\":%llu,\"utterances\":[",
                                      (unsigned long long)sr_table_revision(table));
        for (size_t i = 0; done && i < count; i++)
            done = (i == 0 || sri_buffer_append(&body, ",", 1)) && sri_append_json(&body, texts[i]);
        srv_reply_json(request, 200, done && sri_buffer_append_str(&body, "]}"), &body);
    }
    sr_table_free(&table);
}

/* ---- Changes ------------------------------------------------------------------------------------------ */

void srv_reply_receipt(srv_request *request, sr_status code, const sr_receipt *receipt,
                       const sr_error *error) {
    sri_buffer body = {0};
    if (code != SR_OK) {
        srv_fail(request, error);
        return;
    }
    put_etag(request, receipt->revision);
    srv_reply_json(request, receipt->routes_added > 0 ? 201 : 200,
                   sri_append_receipt_json(&body, receipt), &body);
}

/* A receipt of nothing done. */
static sr_status empty_receipt(sr_router *router, sr_receipt *receipt, sr_error *error) {
    sr_info info = {.size = sizeof info};
    sr_status code = sr_router_info(router, &info, error);
    *receipt = (sr_receipt){.revision = info.revision, .durability = info.durability};
    return code;
}

/* The body as a line of JSON Lines with the path's name, which has the reader of files do all its checks. Line breaks
 * stand between tokens alone, as the body is JSON. */
static bool make_line(const srv_request *request, bool named, sri_buffer *line) {
    sr_str body = request->body;
    const char *bracket = memchr(body.data, '{', body.len);
    size_t start = (size_t)(bracket - body.data) + 1, at = start;
    while (at < body.len && strchr(" \t\r\n", body.data[at]) != NULL) at++;
    bool empty = body.data[at] == '}';
    bool done = sri_buffer_append(line, "{", 1);
    if (!named)
        done = done && sri_buffer_append_str(line, "\"route\":") &&
               sri_append_json(line, request->name) && (empty || sri_buffer_append(line, ",", 1));
    done = done && sri_buffer_append(line, body.data + start, body.len - start);
    for (size_t i = 0; done && i < line->len; i++)
        if (line->data[i] == '\n' || line->data[i] == '\r') line->data[i] = ' ';
    return done;
}

static bool check_name(srv_request *request, const json_t *object) {
    const json_t *name = json_object_get(object, "route");
    if (name == NULL || (json_is_string(name) && sri_str_equal(srv_json_str(name), request->name)))
        return true;
    srv_problem(request, 400, "member", "route must be the name in the path, or be left out");
    return false;
}

static bool parse_route(srv_request *request, sri_rows *rows, sri_routes *routes) {
    static const char *const known[] = {"route",      "utterances",      "threshold",
                                        "confidence", "description",     "metadata",
                                        "revision",   "utterance_count", NULL};
    const sri_read_options options = {.format = SRI_FORMAT_JSONL};
    json_t *object = srv_parse_object(request);
    if (object == NULL) return false;
    sri_buffer line = {0};
    sr_error error;
    bool good = srv_check_members(request, object, known) && check_name(request, object);
    bool named = json_object_get(object, "route") != NULL;
    json_decref(object);
    if (!good) return false;
    sr_status code = make_line(request, named, &line)
                         ? sri_rows_parse("the body", &line, &options, rows, &error)
                         : sri_fail_memory(&error);
    if (code == SR_OK && (code = sri_rows_group(rows, (sr_str){NULL, 0}, routes, &error)) != SR_OK)
        sri_rows_free(rows);
    sri_buffer_free(&line);
    if (code != SR_OK) srv_fail(request, &error);
    return code == SR_OK;
}

static void put_route(srv_request *request) {
    sri_rows rows;
    sri_routes routes;
    if (!parse_route(request, &rows, &routes)) return;
    if (srv_begin_change(request)) {
        sr_put_options options = {.size = sizeof options, .mode = SR_PUT_REPLACE};
        sr_receipt receipt;
        sr_error error;
        sr_status code = sr_routes_put(srv_router(request), routes.routes, routes.count, &options,
                                       &receipt, &error);
        srv_end_change(request);
        srv_reply_receipt(request, code, &receipt, &error);
    }
    sri_routes_free(&routes);
    sri_rows_free(&rows);
}

static void remove_route(srv_request *request) {
    if (!srv_begin_change(request)) return;
    sr_receipt receipt;
    sr_error error;
    sr_router *router = srv_router(request);
    sr_status code = sr_route_remove(router, request->name, &receipt, &error);
    if (code == SR_ERR_NOT_FOUND) code = empty_receipt(router, &receipt, &error);
    srv_end_change(request);
    srv_reply_receipt(request, code, &receipt, &error);
}

typedef struct text_list {
    json_t *object;
    sr_str *texts;
    size_t count;
} text_list;

static bool parse_texts(srv_request *request, bool required, text_list *list) {
    static const char *const known[] = {"utterances", NULL};
    size_t most = (size_t)srv_settings_of(request->server)->config.max_texts;
    *list = (text_list){.object = srv_parse_object(request)};
    if (list->object == NULL) return false;
    bool good =
        srv_check_members(request, list->object, known) &&
        srv_take_strings(request, list->object, "utterances", most, &list->texts, &list->count);
    if (good && required && list->texts == NULL) {
        srv_problem(request, 400, "member", "give utterances, a list of strings");
        good = false;
    }
    if (!good) json_decref(list->object);
    return good;
}

static void extend_route(srv_request *request) {
    text_list list;
    if (!parse_texts(request, true, &list)) return;
    if (srv_begin_change(request)) {
        sr_route route = {.size = sizeof route,
                          .name = request->name,
                          .utterances = list.texts,
                          .utterance_count = list.count};
        sr_put_options options = {.size = sizeof options, .mode = SR_PUT_EXTEND};
        sr_receipt receipt;
        sr_error error;
        sr_status code = sr_routes_put(srv_router(request), &route, 1, &options, &receipt, &error);
        srv_end_change(request);
        srv_reply_receipt(request, code, &receipt, &error);
    }
    json_decref(list.object);
}

/* Keeps of `texts` those that are among `stored`; how many. */
static size_t keep_stored(sr_str *texts, size_t count, const sr_str *stored, size_t stored_count) {
    sri_map there = {0};
    size_t kept = 0;
    for (size_t i = 0; i < stored_count; i++)
        if (!sri_map_put(&there, stored[i], i)) break;
    for (size_t i = 0; i < count; i++)
        if (sri_map_get(&there, texts[i], NULL)) texts[kept++] = texts[i];
    sri_map_free(&there);
    return kept;
}

/* Removes those of the texts that are there. Another change in between is seen by NOT_FOUND, and looked at again. */
static sr_status remove_texts(srv_request *request, bool oos, text_list *list, sr_receipt *receipt,
                              sr_error *error) {
    sr_router *router = srv_router(request);
    sr_status code = SR_ERR_NOT_FOUND;
    for (int turn = 0; turn < 3 && code == SR_ERR_NOT_FOUND; turn++) {
        sr_table *table = NULL;
        code = sr_table_read(router, oos ? NULL : &request->name, 1, &table, error);
        if (code != SR_OK) break;
        const sr_route_view *route = oos ? NULL : sr_table_route(table, 0);
        size_t stored = 0;
        const sr_str *texts = oos ? sr_table_oos(table, &stored) : route->utterances;
        if (!oos) stored = route->utterance_count;
        list->count = keep_stored(list->texts, list->count, texts, stored);
        sr_table_free(&table);
        if (list->count == 0) break;
        code = oos ? sr_oos_remove(router, list->texts, list->count, receipt, error)
                   : sr_utterances_remove(router, request->name, list->texts, list->count, receipt,
                                          error);
        if (code == SR_OK) return code;
    }
    return code == SR_OK || code == SR_ERR_NOT_FOUND ? empty_receipt(router, receipt, error) : code;
}

static void remove_list(srv_request *request, bool oos) {
    text_list list;
    if (!parse_texts(request, true, &list)) return;
    if (srv_begin_change(request)) {
        sr_receipt receipt;
        sr_error error;
        sr_status code = remove_texts(request, oos, &list, &receipt, &error);
        srv_end_change(request);
        srv_reply_receipt(request, code, &receipt, &error);
    }
    json_decref(list.object);
}

static void shorten_route(srv_request *request) { remove_list(request, false); }
static void shorten_oos(srv_request *request) { remove_list(request, true); }

static void extend_oos(srv_request *request) {
    text_list list;
    if (!parse_texts(request, true, &list)) return;
    if (srv_begin_change(request)) {
        sr_receipt receipt;
        sr_error error;
        sr_status code = sr_oos_put(srv_router(request), list.texts, list.count, &receipt, &error);
        srv_end_change(request);
        srv_reply_receipt(request, code, &receipt, &error);
    }
    json_decref(list.object);
}

void srv_get_routes(srv_request *request) { srv_work(request, list_routes); }
void srv_get_route(srv_request *request) { srv_work(request, read_route); }
void srv_put_route(srv_request *request) { srv_work(request, put_route); }
void srv_delete_route(srv_request *request) { srv_work(request, remove_route); }
void srv_post_utterances(srv_request *request) { srv_work(request, extend_route); }
void srv_delete_utterances(srv_request *request) { srv_work(request, shorten_route); }
void srv_get_oos(srv_request *request) { srv_work(request, read_oos); }
void srv_post_oos(srv_request *request) { srv_work(request, extend_oos); }
void srv_delete_oos(srv_request *request) { srv_work(request, shorten_oos); }
