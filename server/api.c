/*
 * api.c - what handlers share: bodies that are JSON, and their members.
 *
 * Members that nobody knows are refused: a misspelt option would be ignored for years.
 */
#include "api.h"

#include <string.h>

sr_str srv_json_str(const json_t *string) {
    return (sr_str){json_string_value(string), json_string_length(string)};
}

json_t *srv_parse_object(srv_request *request) {
    json_error_t error;
    /* Texts may hold any character, NUL among them; names are checked by the library. */
    json_t *value = json_loadb(request->body.len == 0 ? "" : request->body.data, request->body.len,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (value == NULL)
        srv_problem(request, 400, "json", "the body is not JSON: line %d, column %d: %s",
                    error.line, error.column, error.text);
    else if (!json_is_object(value))
        srv_problem(request, 400, "json", "the body must be a JSON object, as {\"text\": \"...\"}");
    else
        return value;
    json_decref(value);
    return NULL;
}

bool srv_check_members(srv_request *request, const json_t *object, const char *const *known) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        size_t i = 0;
        while (known[i] != NULL && strcmp(known[i], name) != 0) i++;
        if (known[i] != NULL) continue;
        srv_problem(request, 400, "member",
                    "there is no member %.64s; /openapi.json says what there is", name);
        return false;
    }
    return true;
}

static bool wrong(srv_request *request, const char *name, const char *wanted) {
    srv_problem(request, 400, "member", "%s must be %s", name, wanted);
    return false;
}

bool srv_take_integer(srv_request *request, const json_t *object, const char *name, long least,
                      long most, long *value) {
    const json_t *member = json_object_get(object, name);
    if (member == NULL || json_is_null(member)) return true;
    char wanted[96];
    snprintf(wanted, sizeof wanted, "a whole number from %ld to %ld", least, most);
    if (!json_is_integer(member) || json_integer_value(member) < least ||
        json_integer_value(member) > most)
        return wrong(request, name, wanted);
    *value = (long)json_integer_value(member);
    return true;
}

bool srv_take_bool(srv_request *request, const json_t *object, const char *name, bool *value) {
    const json_t *member = json_object_get(object, name);
    if (member == NULL || json_is_null(member)) return true;
    if (!json_is_boolean(member)) return wrong(request, name, "true or false");
    *value = json_is_true(member);
    return true;
}

bool srv_take_string(srv_request *request, const json_t *object, const char *name, sr_str *value) {
    const json_t *member = json_object_get(object, name);
    if (member == NULL || json_is_null(member)) return true;
    if (!json_is_string(member)) return wrong(request, name, "a string");
    *value = srv_json_str(member);
    return true;
}

bool srv_take_strings(srv_request *request, const json_t *object, const char *name, size_t most,
                      sr_str **values, size_t *count) {
    const json_t *member = json_object_get(object, name), *item;
    *count = 0;
    if (member == NULL || json_is_null(member)) return true;
    size_t i, n = json_array_size(member);
    if (!json_is_array(member)) return wrong(request, name, "a list of strings");
    if (n > most) {
        srv_problem(request, 413, "too-many", "%s has %zu entries; send at most %zu at once", name,
                    n, most);
        return false;
    }
    *values = srv_alloc(request, SRI_MAX(n, 1) * sizeof **values);
    if (*values == NULL) {
        srv_fail_memory(request);
        return false;
    }
    json_array_foreach(member, i, item) {
        if (!json_is_string(item)) return wrong(request, name, "a list of strings");
        (*values)[i] = srv_json_str(item);
    }
    *count = n;
    return true;
}

void srv_reply_json(srv_request *request, int status, bool made, sri_buffer *body) {
    if (made && sri_buffer_append(body, "\n", 1)) {
        srv_reply(request, status, "application/json", body);
        return;
    }
    sri_buffer_free(body);
    srv_fail_memory(request);
}
