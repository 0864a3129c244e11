/* log.c - hands log lines to the caller's function, or drops them. */
#include "base/base.h"

#include <stdarg.h>

static struct {
    sr_log_fn *function;
    sr_log_level level;
    void *user;
} sink;

void sr_log_set(sr_log_fn *function, sr_log_level level, void *user) {
    sink.function = function;
    sink.level = level;
    sink.user = user;
}

void sri_log(sr_log_level level, const char *format, ...) {
    if (sink.function == NULL || level > sink.level) return;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    sink.function(sink.user, level, line);
}
