/*
 * console_files.c - the console at "/": a page, its script and its style, embedded as gzip made them.
 *
 * They are sent as they lie in the program, so whoever does not accept gzip is turned away; every browser
 * does. A browser asks again each time (the entity tag is a digest, so the answer is 304 until the program is
 * another one). The policy in the headers lets the page run its own script, talk to its own server and nothing
 * else. The files are no secret and need no key; what they show is asked for through the API, with one.
 */
#include "console_files.h"

#include <string.h>
#include <strings.h>

#include "api.h"

#ifdef SRV_CONSOLE
static const srv_console_file *find(sr_str path) {
    for (size_t i = 0; i < srv_console_file_count; i++) {
        const srv_console_file *file = &srv_console_files[i];
        if (strlen(file->path) == path.len && memcmp(file->path, path.data, path.len) == 0)
            return file;
    }
    return NULL;
}

/* Whether gzip stands among the encodings, and not with the weight 0. */
static bool accepts_gzip(const char *encodings) {
    const char *found = encodings == NULL ? NULL : strcasestr(encodings, "gzip");
    if (found == NULL) return false;
    const char *weight = found + strlen("gzip");
    weight += strspn(weight, " \t");
    if (*weight != ';') return true;
    weight += 1 + strspn(weight + 1, " \t");
    return strncasecmp(weight, "q=0", 3) != 0 ||
           strspn(weight + 3, ".0") != strcspn(weight + 3, ", \t");
}

void srv_get_console(srv_request *request) {
    static const struct {
        const char *name, *value;
    } headers[] = {{"Content-Security-Policy",
                    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                    "connect-src 'self'; "
                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Cache-Control", "no-cache"},
                   {"Vary", "Accept-Encoding"}};
    const srv_console_file *file = find(request->path);
    if (file == NULL) {
        srv_problem(request, 404, "not-found",
                    "there is nothing at this path; the console is at /");
        return;
    }
    if (!accepts_gzip(srv_header(request, "Accept-Encoding"))) {
        srv_problem(request, 406, "needs-gzip",
                    "the console's files are sent compressed; send Accept-Encoding: gzip");
        return;
    }
    for (size_t i = 0; i < SRI_COUNT(headers); i++)
        srv_answer_header(request, headers[i].name, headers[i].value);
    srv_answer_header(request, "ETag", file->tag);
    const char *known = srv_header(request, "If-None-Match");
    if (known != NULL && strstr(known, file->tag) != NULL) {
        srv_reply(request, 304, NULL, NULL);
        return;
    }
    srv_answer_header(request, "Content-Encoding", "gzip");
    srv_reply_static(request, 200, file->type, file->bytes, file->len);
}
#else
void srv_get_console(srv_request *request) {
    srv_problem(request, 404, "no-console",
                "this build has no console (Meson option `console`); the API is described by "
                "/openapi.json");
}
#endif
