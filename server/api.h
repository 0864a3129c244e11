/*
 * api.h - the handlers of the API, and what they share.
 *
 * Handlers run on threads of the HTTP layer and leave work that takes longer than a page of the table to the
 * queue of the library or to the server's workers (workers.h).
 */
#ifndef SRV_API_H
#define SRV_API_H

#include <jansson.h>

#include "server.h"

void srv_get_health(srv_request *request);
void srv_get_ready(srv_request *request);
void srv_get_info(srv_request *request);
void srv_post_route(srv_request *request);
void srv_get_console(srv_request *request);
void srv_post_embeddings(srv_request *request);
void srv_get_routes(srv_request *request);
void srv_get_route(srv_request *request);
void srv_put_route(srv_request *request);
void srv_delete_route(srv_request *request);
void srv_post_utterances(srv_request *request);
void srv_delete_utterances(srv_request *request);
void srv_get_oos(srv_request *request);
void srv_post_oos(srv_request *request);
void srv_delete_oos(srv_request *request);
void srv_post_import(srv_request *request);
void srv_get_export(srv_request *request);
void srv_post_fit(srv_request *request);
void srv_post_eval(srv_request *request);
void srv_get_lint(srv_request *request);
void srv_get_map(srv_request *request);
void srv_get_openapi(srv_request *request);

/* ---- Bodies and answers (api.c) -------------------------------------------------------------------- */

/* Parses a body that must be one JSON object; NULL after an answer. */
json_t *srv_parse_object(srv_request *request);
/* False after an answer that names the member, when the object has one that is not in `known` (NULL ends it). */
bool srv_check_members(srv_request *request, const json_t *object, const char *const *known);
/* Reads a member when it is there; false after an answer when it is of another kind or out of range. */
bool srv_take_integer(srv_request *request, const json_t *object, const char *name, long least,
                      long most, long *value);
bool srv_take_bool(srv_request *request, const json_t *object, const char *name, bool *value);
bool srv_take_string(srv_request *request, const json_t *object, const char *name, sr_str *value);
/* A member that is a list of strings, as views into `object`, in memory of the request. */
bool srv_take_strings(srv_request *request, const json_t *object, const char *name, size_t most,
                      sr_str **values, size_t *count);
sr_str srv_json_str(const json_t *string);

/* Around a change of the table: checks If-Match and If-None-Match, and keeps the table's revision between that and the end.
 * False after an answer, and then nothing is to be ended (api_table.c). */
bool srv_begin_change(srv_request *request);
void srv_end_change(srv_request *request);
/* Answers with a receipt, or with the failure. */
void srv_reply_receipt(srv_request *request, sr_status code, const sr_receipt *receipt,
                       const sr_error *error);

/* Answers with `body` and a newline, or with a problem when it could not be made. */
void srv_reply_json(srv_request *request, int status, bool made, sri_buffer *body);

#endif
