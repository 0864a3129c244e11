/* lint_json.c - findings as JSON, for the program and the server. */
#include "eval/lint.h"

#include "text/json_write.h"

static bool put_string(sri_buffer *out, const char *name, sr_str text) {
    return sri_buffer_format(out, ",\"%s\":", name) &&
           (text.len == 0 ? sri_buffer_append_str(out, "null") : sri_append_json(out, text));
}

static bool put_number(sri_buffer *out, const char *name, double number) {
    return sri_buffer_format(out, ",\"%s\":", name) && sri_append_number(out, number);
}

static bool put_object(sri_buffer *out, const sri_lint_finding *f) {
    return sri_buffer_format(out, "{\"kind\":\"%s\"", sri_lint_name(f->kind)) &&
           put_string(out, "route", f->route) && put_string(out, "other_route", f->other) &&
           put_string(out, "utterance", f->utterance) &&
           put_string(out, "other_utterance", f->other_utterance) &&
           put_number(out, "cosine", f->cosine) && put_number(out, "own_cosine", f->own_cosine) &&
           put_number(out, "share", f->share) &&
           sri_buffer_format(out, ",\"count\":%zu", f->count) &&
           put_number(out, "threshold", f->threshold) && sri_buffer_append(out, "}", 1);
}

bool sri_lint_append_json(const sri_lint *lint, size_t limit, sri_buffer *out) {
    size_t shown[SRI_LINT_KINDS] = {0};
    bool done = sri_buffer_format(out,
                                  "{\"revision\":%llu,\"routes\":%zu,\"utterances\":%zu,"
                                  "\"oos_examples\":%zu,\"counts\":{",
                                  (unsigned long long)lint->revision, lint->routes,
                                  lint->utterances, lint->oos);
    for (int kind = 0; done && kind < SRI_LINT_KINDS; kind++)
        done = sri_buffer_format(out, "%s\"%s\":%zu", kind == 0 ? "" : ",",
                                 sri_lint_name((sri_lint_kind)kind), lint->counts[kind]);
    done = done && sri_buffer_append_str(out, "},\"findings\":[");
    for (size_t i = 0, n = 0; done && i < lint->count; i++) {
        if (shown[lint->findings[i].kind]++ >= limit) continue;
        done = (n++ == 0 || sri_buffer_append(out, ",", 1)) && put_object(out, &lint->findings[i]);
    }
    return done && sri_buffer_append_str(out, "]}");
}
