/* buffer.c - a growing byte string with a stated maximum. */
#include "base/base.h"

#include <stdarg.h>
#include <string.h>

bool sri_buffer_reserve(sri_buffer *buffer, size_t extra) {
    size_t needed;
    if (!sri_size_add(buffer->len, extra, &needed)) return false;
    if (buffer->max != 0 && needed > buffer->max) return false;
    void *data = buffer->data;
    if (!sri_grow(&data, &buffer->capacity, SRI_MAX(needed, 64), 1)) return false;
    buffer->data = data;
    return true;
}

bool sri_buffer_append(sri_buffer *buffer, const void *bytes, size_t len) {
    if (!sri_buffer_reserve(buffer, len)) return false;
    if (len > 0) memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
    return true;
}

bool sri_buffer_append_str(sri_buffer *buffer, const char *terminated) {
    return sri_buffer_append(buffer, terminated, strlen(terminated));
}

bool sri_buffer_format(sri_buffer *buffer, const char *format, ...) {
    char small[256];
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int len = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    bool done = false;
    if (len >= 0 && (size_t)len < sizeof small) {
        done = sri_buffer_append(buffer, small, (size_t)len);
    } else if (len >= 0 && sri_buffer_reserve(buffer, (size_t)len + 1)) {
        vsnprintf(buffer->data + buffer->len, (size_t)len + 1, format, again);
        buffer->len += (size_t)len;
        done = true;
    }
    va_end(again);
    return done;
}

void sri_buffer_free(sri_buffer *buffer) {
    sri_free(buffer->data);
    *buffer = (sri_buffer){.max = buffer->max};
}
