/* job_progress.c - long work that tells how far it is; see job_progress.h. */
#include "job_progress.h"

#include <string.h>

#include "api.h"
#include "io/io.h"

#define NEWS_NS 100000000ULL /* between two lines */

static const char type[] = "application/x-ndjson";

void srv_progress_begin(srv_progress *progress, srv_request *request) {
    const char *accept = srv_header(request, "Accept");
    *progress = (srv_progress){.request = request, .began_ns = sri_nanoseconds()};
    progress->told_ns = progress->began_ns + NEWS_NS;
    progress->plain = accept != NULL && strstr(accept, "application/json") != NULL;
}

int srv_progress_step(void *user, uint64_t done, uint64_t total) {
    srv_progress *progress = user;
    uint64_t now = sri_nanoseconds();
    if (srv_is_gone(progress->request) != SRV_STAYED) return 1;
    if (progress->plain || now < progress->told_ns + NEWS_NS) return 0;
    progress->told_ns = now;
    if (!progress->streamed) {
        progress->streamed = true;
        srv_stream_begin(progress->request, 200, type);
    }
    char line[96];
    int len = snprintf(line, sizeof line, "{\"done\":%llu,\"total\":%llu}\n",
                       (unsigned long long)done, (unsigned long long)total);
    return !srv_stream_write(progress->request, line, (size_t)len);
}

static void end_stream(srv_progress *progress, bool made, sri_buffer *line) {
    bool written = made && sri_buffer_append(line, "\n", 1) &&
                   srv_stream_write(progress->request, line->data, line->len);
    sri_buffer_free(line);
    srv_stream_end(progress->request, written);
}

void srv_progress_done(srv_progress *progress, bool made, sri_buffer *result) {
    if (progress->streamed) {
        end_stream(progress, made, result);
        return;
    }
    if (made && sri_buffer_append(result, "\n", 1)) {
        srv_reply(progress->request, 200, progress->plain ? "application/json" : type, result);
        return;
    }
    sri_buffer_free(result);
    srv_fail_memory(progress->request);
}

void srv_progress_fail(srv_progress *progress, const sr_error *error) {
    if (!progress->streamed) {
        srv_fail(progress->request, error);
        return;
    }
    sri_buffer line = {0};
    bool made = sri_buffer_format(
                    &line,
                    "{\"problem\":{\"type\":\"/problems/failed\",\"title\":\"%s\",\"status\":500,"
                    "\"detail\":",
                    "The work failed") &&
                sri_append_json(&line, sr_str_of(error->message)) &&
                sri_buffer_append_str(&line, "}}");
    end_stream(progress, made, &line);
}
