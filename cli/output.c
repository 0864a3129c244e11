/*
 * output.c - messages on standard error, and standard output through one buffer.
 */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static void message(const cli_state *cli, const char *format, va_list arguments) {
    sr_error line; /* for its tidying: one line, no control characters */
    char text[sizeof line.message];
    vsnprintf(text, sizeof text, format, arguments);
    (void)sri_fail(&line, SR_ERR_INVALID, NULL, "%s", text);
    const char *command = cli->command == NULL ? "" : cli->command->name;
    fprintf(stderr, "synaptoroute: %s%s%s\n", command, *command == '\0' ? "" : ": ", line.message);
}

void cli_message(const cli_state *cli, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    message(cli, format, arguments);
    va_end(arguments);
}

int cli_fail(const cli_state *cli, const sr_error *error) {
    cli_message(cli, "%s", error->message);
    return EXIT_FAILED;
}

int cli_fail_memory(const cli_state *cli) {
    cli_message(cli, "out of memory");
    return EXIT_FAILED;
}

int cli_usage(const cli_state *cli, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    message(cli, format, arguments);
    va_end(arguments);
    fprintf(stderr, "Try: synaptoroute %s%s--help\n",
            cli->command == NULL ? "" : cli->command->name, cli->command == NULL ? "" : " ");
    return EXIT_USAGE;
}

int cli_flush(cli_state *cli) {
    size_t done = 0;
    while (done < cli->out.len && !cli->pipe_closed) {
        ssize_t wrote = write(STDOUT_FILENO, cli->out.data + done, cli->out.len - done);
        if (wrote >= 0) {
            done += (size_t)wrote;
        } else if (errno == EPIPE) {
            cli->pipe_closed = true; /* the reader has what it wanted */
        } else if (errno == EAGAIN) {
            /* Whoever shares the descriptor may have made it non-blocking. */
            poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            cli_message(cli, "cannot write standard output: %s", strerror(errno));
            cli->out.len = 0;
            return EXIT_FAILED;
        }
    }
    cli->out.len = 0;
    return EXIT_DONE;
}

size_t cli_width(sr_str text) {
    size_t width = 0;
    for (size_t i = 0; i < text.len; i++) width += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    return width;
}

bool cli_put_plain(cli_state *cli, sr_str text) {
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool c1 = c == 0xC2 && i + 1 < text.len && (unsigned char)text.data[i + 1] < 0xA0;
        if (c >= 0x20 && c != 0x7F && !c1) continue;
        if (!sri_buffer_append(&cli->out, text.data + from, i - from) ||
            !sri_buffer_append(&cli->out, " ", 1))
            return false;
        i += c1;
        from = i + 1;
    }
    return from >= text.len || sri_buffer_append(&cli->out, text.data + from, text.len - from);
}

bool cli_put_column(cli_state *cli, sr_str text, size_t width) {
    bool done = cli_put_plain(cli, text);
    for (size_t at = cli_width(text); done && at < width; at++)
        done = sri_buffer_append(&cli->out, " ", 1);
    return done;
}
