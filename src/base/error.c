/* error.c - status names, the filling of sr_error, and the taking of options structs. */
#include "base/base.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const char *const names[] = {
    "SR_OK",
    "SR_ERR_INVALID",
    "SR_ERR_NOT_FOUND",
    "SR_ERR_IO",
    "SR_ERR_NO_MEMORY",
    "SR_ERR_FORMAT",
    "SR_ERR_LIMIT",
    "SR_ERR_MODEL",
    "SR_ERR_DATABASE",
    "SR_ERR_READ_ONLY",
    "SR_ERR_FULL",
    "SR_ERR_BUSY",
    "SR_ERR_UNSUPPORTED",
    "SR_ERR_CALLBACK",
    "SR_ERR_CANCELLED",
    "SR_ERR_OVERLOADED",
    "SR_ERR_TIMEOUT",
};

const char *sr_status_name(sr_status status) {
    return (size_t)status < SRI_COUNT(names) ? names[status] : "SR_ERR_?";
}

const char *sr_version(void) { return SR_VERSION; }

sr_str sr_str_of(const char *terminated) {
    return (sr_str){terminated, terminated == NULL ? 0 : strlen(terminated)};
}

/* Length of the UTF-8 sequence at `c`: 0 when it is none, -1 when the string ends inside it. Overlong
 * forms and surrogates pass: nothing worse than a strange character comes of them here. */
static int sequence_length(const unsigned char *c) {
    if (c[0] < 0x80) return 1;
    int length = c[0] >= 0xF5 || c[0] < 0xC2 ? 0 : c[0] >= 0xF0 ? 4 : c[0] >= 0xE0 ? 3 : 2;
    for (int i = 1; i < length; i++) {
        if (c[i] == '\0') return -1;
        if ((c[i] & 0xC0) != 0x80) return 0;
    }
    return length;
}

/* Makes a line that is safe to print of what may hold a hostile file name: control characters become
 * spaces, what is not UTF-8 becomes '?', and a character that snprintf has cut is dropped. */
static void tidy(char *text) {
    for (unsigned char *c = (unsigned char *)text; *c != '\0';) {
        int length = sequence_length(c);
        bool c1 = length == 2 && c[0] == 0xC2 && c[1] < 0xA0;
        if (length < 0)
            *c = '\0';
        else if (length == 0)
            *c = '?';
        else if (*c < 0x20 || *c == 0x7F || c1)
            memset(c, ' ', (size_t)length);
        c += length < 0 ? 0 : SRI_MAX(length, 1);
    }
}

static void fill(sr_error *error, sr_status code, const char *place, const char *format,
                 va_list arguments) {
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    snprintf(error->place, sizeof error->place, "%s", place == NULL ? "" : place);
    tidy(error->message);
    tidy(error->place);
}

sr_status sri_fail(sr_error *error, sr_status code, const char *place, const char *format, ...) {
    if (error == NULL) return code;
    va_list arguments;
    va_start(arguments, format);
    fill(error, code, place, format, arguments);
    va_end(arguments);
    return code;
}

static sr_status status_of_errno(int system_errno) {
    switch (system_errno) {
    case ENOENT:
    case ENOTDIR: return SR_ERR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT: return SR_ERR_FULL;
    case EROFS: return SR_ERR_READ_ONLY;
    case ENOMEM: return SR_ERR_NO_MEMORY;
    default: return SR_ERR_IO;
    }
}

sr_status sri_fail_errno(sr_error *error, int system_errno, const char *place, const char *format,
                         ...) {
    sr_status code = status_of_errno(system_errno);
    if (error == NULL) return code;
    va_list arguments;
    va_start(arguments, format);
    fill(error, code, place, format, arguments);
    va_end(arguments);
    size_t len = strlen(error->message);
    snprintf(error->message + len, sizeof error->message - len, ": %s", strerror(system_errno));
    return code;
}

sr_status sri_fail_memory(sr_error *error) {
    return sri_fail(error, SR_ERR_NO_MEMORY, NULL, "out of memory; nothing was changed");
}

sr_status sri_take_options(void *full, size_t full_size, const void *given, const char *place,
                           sr_error *error) {
    memset(full, 0, full_size);
    memcpy(full, &full_size, sizeof full_size);
    if (given == NULL) return SR_OK;
    size_t size;
    memcpy(&size, given, sizeof size);
    if (size < sizeof size || size > 65536)
        return sri_fail(error, SR_ERR_INVALID, place,
                        "%s: size is %zu; set it to sizeof the struct", place, size);
    for (size_t i = full_size; i < size; i++)
        if (((const unsigned char *)given)[i] != 0)
            return sri_fail(error, SR_ERR_UNSUPPORTED, place,
                            "%s has a field that library version %s does not know", place,
                            SR_VERSION);
    memcpy((char *)full + sizeof size, (const char *)given + sizeof size,
           SRI_MIN(size, full_size) - sizeof size);
    return SR_OK;
}
