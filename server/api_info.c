/*
 * api_info.c - what the server is and how it does: /healthz, /readyz, /v1/info.
 */
#include "api.h"

#include <string.h>

#include "io/answer_json.h"
#include "io/io.h"

/* The process runs and answers. */
void srv_get_health(srv_request *request) {
    static const char body[] = "{\"status\":\"ok\"}\n";
    srv_reply_static(request, 200, "application/json", body, sizeof body - 1);
}

/* It has its models, and is not about to stop. */
void srv_get_ready(srv_request *request) {
    static const char body[] = "{\"status\":\"ready\"}\n";
    if (srv_router(request) == NULL)
        srv_busy(request, 1, "the models are being loaded");
    else if (atomic_load(&request->server->draining))
        srv_busy(request, 1, "the server is about to stop");
    else
        srv_reply_static(request, 200, "application/json", body, sizeof body - 1);
}

static bool append_caller(sri_buffer *out, const srv_request *request) {
    static const char *const roles[] = {"open", "read", "write", "admin"};
    return sri_buffer_append_str(out, ",\"caller\":{\"key\":") &&
           (request->key_name == NULL ? sri_buffer_append_str(out, "null")
                                      : sri_append_json(out, sr_str_of(request->key_name))) &&
           sri_buffer_format(out, ",\"role\":\"%s\"}}", roles[request->role]);
}

void srv_get_info(srv_request *request) {
    sr_info info = {.size = sizeof info};
    sr_error error;
    if (sr_router_info(srv_router(request), &info, &error) != SR_OK) {
        srv_fail(request, &error);
        return;
    }
    sri_buffer body = {0};
    bool done = sri_append_info_json(&body, &info);
    body.len -= done; /* its bracket */
    srv_reply_json(request, 200, done && append_caller(&body, request), &body);
}
