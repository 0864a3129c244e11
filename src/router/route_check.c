/*
 * route_check.c - what names, utterances, thresholds and metadata must be like to be stored.
 *
 * Messages name the route, show a piece of the text and say what is allowed.
 */
#include <jansson.h>
#include <string.h>

#include "router/route_check.h"
#include "text/text.h"

#define SHOWN 48 /* bytes of a faulty text in a message */

static int shown(sr_str text) { return (int)SRI_MIN(text.len, (size_t)SHOWN); }

static const char *dots(sr_str text) { return text.len > SHOWN ? "..." : ""; }

sr_status sri_check_given(sr_str text, const char *what, sr_error *error) {
    if (text.data != NULL || text.len == 0) return SR_OK;
    return sri_fail(error, SR_ERR_INVALID, what, "the %s has no data but length %zu", what,
                    text.len);
}

sr_status sri_check_string(sr_str text, size_t max, const char *what, const char *place,
                           sr_error *error) {
    size_t offset;
    if (text.data == NULL && text.len > 0)
        return sri_fail(error, SR_ERR_INVALID, place, "%s has no data but length %zu", what,
                        text.len);
    if (text.len > max)
        return sri_fail(error, SR_ERR_LIMIT, place, "%s has %zu bytes; at most %zu are allowed",
                        what, text.len, max);
    const char *nul = text.len == 0 ? NULL : memchr(text.data, '\0', text.len);
    if (nul != NULL)
        return sri_fail(error, SR_ERR_INVALID, place, "%s holds a NUL at byte %zu; remove it", what,
                        (size_t)(nul - text.data));
    if (!sri_utf8_valid(text, &offset))
        return sri_fail(error, SR_ERR_INVALID, place,
                        "%s is not valid UTF-8 at byte %zu; convert it to UTF-8", what, offset);
    return SR_OK;
}

/* The offset of the first control character (C0, DEL, C1) of valid UTF-8, or its length. */
static size_t find_control(sr_str text) {
    const char *cursor = text.data, *end = text.data + text.len;
    while (cursor < end) {
        const char *here = cursor;
        uint32_t character = sri_utf8_next(&cursor, end);
        if (character < 0x20 || (character >= 0x7F && character < 0xA0))
            return (size_t)(here - text.data);
    }
    return text.len;
}

/* Names that differ in nothing else look the same wherever they are shown. The name is not blank. */
static bool ends_in_space(sr_str name) {
    const char *cursor = name.data;
    (void)sri_utf8_next(&cursor, name.data + name.len);
    if (sri_text_blank((sr_str){name.data, (size_t)(cursor - name.data)})) return true;
    size_t last = name.len - 1;
    while (last > 0 && ((unsigned char)name.data[last] & 0xC0) == 0x80) last--;
    return sri_text_blank((sr_str){name.data + last, name.len - last});
}

sr_status sri_check_name(sr_str name, const char *place, sr_error *error) {
    if (name.len == 0)
        return sri_fail(error, SR_ERR_INVALID, place, "the route's name is empty; give it one");
    sr_status code = sri_check_string(name, SR_MAX_NAME_BYTES, "the route's name", place, error);
    if (code != SR_OK) return code;
    if (sri_text_blank(name))
        return sri_fail(error, SR_ERR_INVALID, place,
                        "the route's name is nothing but white space; give it one");
    size_t control = find_control(name);
    if (control < name.len)
        return sri_fail(
            error, SR_ERR_INVALID, place,
            "the route's name \"%.*s%s\" holds a control character at byte %zu; remove it",
            shown(name), name.data, dots(name), control);
    if (ends_in_space(name))
        return sri_fail(error, SR_ERR_INVALID, place,
                        "the route's name \"%.*s%s\" begins or ends with white space; remove it",
                        shown(name), name.data, dots(name));
    return SR_OK;
}

sr_status sri_check_utterance(sr_str text, sr_str route, const char *place, sr_error *error) {
    char what[SHOWN + 64];
    snprintf(what, sizeof what, "an utterance of route \"%.*s%s\"", shown(route), route.data,
             dots(route));
    sr_status code = sri_check_string(text, SR_MAX_UTTERANCE_BYTES, what, place, error);
    if (code == SR_OK && sri_text_blank(text))
        return sri_fail(error, SR_ERR_INVALID, place, "%s is blank; remove it or write a text",
                        what);
    return code;
}

sr_status sri_check_threshold(const sr_threshold *threshold, const char *place, sr_error *error) {
    double value = threshold->value;
    switch (threshold->kind) {
    case SR_THRESHOLD_AUTO: return SR_OK;
    case SR_THRESHOLD_COSINE:
        if (value >= -1 && value <= 1) return SR_OK;
        return sri_fail(error, SR_ERR_INVALID, place, "threshold %g is not a cosine from -1 to 1",
                        value);
    case SR_THRESHOLD_CONFIDENCE:
        if (value >= 0 && value <= 1) return SR_OK;
        return sri_fail(error, SR_ERR_INVALID, place, "confidence %g is not a number from 0 to 1",
                        value);
    }
    return sri_fail(error, SR_ERR_INVALID, place, "there is no kind %d of threshold",
                    (int)threshold->kind);
}

static sr_status check_metadata(sr_str metadata, const char *place, sr_error *error) {
    sr_status code =
        sri_check_string(metadata, SR_MAX_METADATA_BYTES, "the route's metadata", place, error);
    if (code != SR_OK || metadata.len == 0) return code;
    json_error_t fault;
    /* Integers of any length: they are kept as they are written, so Jansson need not hold them. */
    json_t *value =
        json_loadb(metadata.data, metadata.len,
                   JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &fault);
    if (value == NULL)
        return sri_fail(error, SR_ERR_INVALID, place,
                        "the route's metadata is not JSON, line %d column %d: %s", fault.line,
                        fault.column, fault.text);
    json_decref(value);
    return SR_OK;
}

sr_status sri_check_route(const sr_route *route, size_t number, sr_error *error) {
    char place[64];
    snprintf(place, sizeof place, "routes[%zu]", number);
    sr_status code = sri_check_name(route->name, place, error);
    if (code == SR_OK && route->utterances == NULL && route->utterance_count > 0)
        code = sri_fail(error, SR_ERR_INVALID, place,
                        "%zu utterances were announced but none are given", route->utterance_count);
    if (code == SR_OK && route->threshold != NULL)
        code = sri_check_threshold(route->threshold, place, error);
    if (code == SR_OK && route->description != NULL)
        code = sri_check_string(*route->description, SR_MAX_DESCRIPTION_BYTES,
                                "the route's description", place, error);
    if (code == SR_OK && route->metadata != NULL)
        code = check_metadata(*route->metadata, place, error);
    for (size_t i = 0; i < route->utterance_count && code == SR_OK; i++) {
        snprintf(place, sizeof place, "routes[%zu].utterances[%zu]", number, i);
        code = sri_check_utterance(route->utterances[i], route->name, place, error);
    }
    return code;
}
