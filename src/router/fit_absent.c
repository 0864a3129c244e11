/*
 * fit_absent.c - stands for src/decide/fit.c until that is there: nothing is ever learned, neighbours decide.
 */
#include <math.h>

#include "decide/fit.h"

bool sri_fit_name_text(sr_str name, sri_buffer *out) {
    return sri_buffer_append(out, name.data, name.len);
}

sr_status sri_fit_make(const sri_fit_table *table, sri_fit **fit, sri_fit_findings *findings,
                       sr_error *error) {
    (void)table, (void)error;
    *fit = NULL;
    *findings = (sri_fit_findings){.neighbours = NAN,
                                   .slow = NAN,
                                   .fast = NAN,
                                   .automatic = NAN,
                                   .fast_share = NAN,
                                   .oos_auroc = NAN,
                                   .ece = NAN,
                                   .auto_threshold = NAN,
                                   .oos_accepted = NAN,
                                   .precision = NAN};
    return SR_OK;
}

void sri_fit_free(sri_fit **fit) { *fit = NULL; }

sr_status sri_fit_write(const sri_fit *fit, sri_buffer *out, sr_error *error) {
    (void)fit, (void)out;
    return sri_fail(error, SR_ERR_UNSUPPORTED, NULL, "there are no fits");
}

sr_status sri_fit_read(const void *bytes, size_t size, size_t dimension, sr_encoder *fast,
                       sri_fit **fit, sr_error *error) {
    (void)bytes, (void)size, (void)dimension, (void)fast;
    *fit = NULL;
    return sri_fail(error, SR_ERR_MODEL, NULL, "there are no fits");
}

const sri_fit_trial *sri_fit_trials(const sri_fit *fit, size_t *count) {
    (void)fit;
    *count = 0;
    return NULL;
}

size_t sri_fit_routes(const sri_fit *fit) { return fit == NULL; }
const sri_fit_route *sri_fit_route_at(const sri_fit *fit, size_t place) {
    (void)fit, (void)place;
    return NULL;
}
const sri_fit_findings *sri_fit_found(const sri_fit *fit) { return (const void *)fit; }
bool sri_fit_has_fast(const sri_fit *fit) { return fit == NULL; }
void sri_fit_scratch_free(sri_fit_scratch *scratch) { (void)scratch; }

bool sri_fit_judge_fast(const sri_fit *fit, const sr_str *texts, size_t n, const uint8_t *usable,
                        size_t k, sri_fit_scratch *scratch, sri_fit_candidate *candidates,
                        sri_judgement *judgements) {
    (void)fit, (void)texts, (void)n, (void)usable, (void)k, (void)scratch, (void)candidates;
    return judgements == NULL;
}

bool sri_fit_judge_slow(const sri_fit *fit, sr_str text, const float *vector,
                        const sri_fit_hit *hits, size_t hit_count, const uint8_t *usable, size_t k,
                        sri_fit_scratch *scratch, sri_fit_candidate *candidates,
                        sri_judgement *judgement) {
    (void)fit, (void)text, (void)vector, (void)hits, (void)hit_count, (void)usable, (void)k;
    (void)scratch, (void)candidates;
    return judgement == NULL;
}
