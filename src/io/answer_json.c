/* answer_json.c - what the library answers, as JSON; see answer_json.h. */
#include "io/answer_json.h"

#include <math.h>

#include "io/io.h"

typedef unsigned long long number;

/* ---- Decisions --------------------------------------------------------------------------------- */

static bool put_candidate_json(sri_buffer *out, const sr_candidate *candidate) {
    return sri_buffer_append_str(out, "{\"route\":") && sri_append_json(out, candidate->route) &&
           sri_buffer_append_str(out, ",\"confidence\":") &&
           sri_append_number(out, candidate->confidence) &&
           sri_buffer_append_str(out, ",\"score\":") && sri_append_number(out, candidate->score) &&
           sri_buffer_append_str(out, ",\"utterance\":") &&
           sri_append_json(out, candidate->utterance) && sri_buffer_append(out, "}", 1);
}

bool sri_append_decision_json(sri_buffer *out, const sr_decision *decision) {
    bool done =
        sri_buffer_append_str(out, "{\"text\":") && sri_append_json(out, decision->text) &&
        sri_buffer_format(out,
                          ",\"status\":\"%s\",\"route\":", sr_outcome_name(decision->status)) &&
        (decision->status == SR_MATCHED ? sri_append_json(out, decision->route)
                                        : sri_buffer_append_str(out, "null")) &&
        sri_buffer_append_str(out, ",\"confidence\":") &&
        sri_append_number(out, decision->confidence) && sri_buffer_append_str(out, ",\"score\":") &&
        sri_append_number(out, decision->score) && sri_buffer_append_str(out, ",\"margin\":") &&
        sri_append_number(out, decision->margin) &&
        sri_buffer_format(out,
                          ",\"reason\":\"%s\",\"path\":\"%s\",\"truncated\":%s,"
                          "\"revision\":%llu,\"fitted\":%s,\"candidates\":[",
                          sr_reason_name(decision->reason), sr_path_name(decision->path),
                          decision->truncated ? "true" : "false",
                          (unsigned long long)decision->revision,
                          decision->fitted ? "true" : "false");
    for (size_t i = 0; done && i < decision->candidate_count; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) &&
               put_candidate_json(out, &decision->candidates[i]);
    if (done && decision->read_as.len > 0)
        done = sri_buffer_append_str(out, "],\"read_as\":") &&
               sri_append_json(out, decision->read_as) && sri_buffer_append_str(out, "}");
    else
        done = done && sri_buffer_append_str(out, "]}");
    return done;
}

/* ---- Receipts ---------------------------------------------------------------------------------- */

bool sri_append_receipt_json(sri_buffer *out, const sr_receipt *receipt) {
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {{"routes_added", receipt->routes_added},
                   {"routes_changed", receipt->routes_changed},
                   {"routes_removed", receipt->routes_removed},
                   {"utterances_added", receipt->utterances_added},
                   {"utterances_removed", receipt->utterances_removed},
                   {"duplicates", receipt->duplicates},
                   {"oos_added", receipt->oos_added},
                   {"oos_removed", receipt->oos_removed}};
    bool done = sri_buffer_format(out, "{\"revision\":%llu", (unsigned long long)receipt->revision);
    for (size_t i = 0; done && i < SRI_COUNT(members); i++)
        done = sri_buffer_format(out, ",\"%s\":%llu", members[i].name,
                                 (unsigned long long)members[i].value);
    static const char *const durabilities[] = {"default", "normal", "full", "deferred"};
    return done &&
           sri_buffer_format(out, ",\"durability\":\"%s\",\"lost\":%llu}",
                             durabilities[receipt->durability], (unsigned long long)receipt->lost);
}

/* ---- Fits -------------------------------------------------------------------------------------- */

const char *sri_fit_name(sr_fit_kind kind) {
    return kind == SR_FIT_HEADS ? "heads" : kind == SR_FIT_NEIGHBOURS ? "neighbours" : "none";
}

static bool put_member(sri_buffer *out, const char *name, double value) {
    return sri_buffer_format(out, ",\"%s\":", name) && sri_append_number(out, value);
}

static bool put_warning_json(sri_buffer *out, const sr_fit_warning *warning) {
    static const char *const kinds[] = {"auto", "cosine", "confidence"};
    const sr_threshold *threshold = &warning->threshold;
    bool set = threshold->kind != SR_THRESHOLD_AUTO;
    return sri_buffer_append_str(out, "{\"route\":") && sri_append_json(out, warning->route) &&
           sri_buffer_format(out, ",\"kind\":\"%s\"", kinds[threshold->kind]) &&
           put_member(out, "threshold", set ? threshold->value : NAN) &&
           sri_buffer_format(out, ",\"texts\":%llu,\"turned_down\":%llu}", (number)warning->texts,
                             (number)warning->turned_down);
}

bool sri_append_fit_json(sri_buffer *out, const sr_fit_report *report) {
    bool done =
        sri_buffer_format(out,
                          "{\"kind\":\"%s\",\"revision\":%llu,\"routes\":%llu,\"utterances\":%llu,"
                          "\"oos_examples\":%llu,\"labelled\":%llu,\"accuracy\":{\"neighbours\":",
                          sri_fit_name(report->kind), (number)report->revision,
                          (number)report->routes, (number)report->utterances,
                          (number)report->oos_examples, (number)report->labelled) &&
        sri_append_number(out, report->neighbours_accuracy) &&
        put_member(out, "slow", report->slow_accuracy) &&
        put_member(out, "fast", report->fast_accuracy) &&
        put_member(out, "auto", report->auto_accuracy) && sri_buffer_append(out, "}", 1) &&
        put_member(out, "fast_share", report->fast_share) &&
        put_member(out, "oos_auroc", report->oos_auroc) && put_member(out, "ece", report->ece) &&
        put_member(out, "auto_threshold", report->auto_threshold) &&
        put_member(out, "oos_accepted", report->oos_accepted) &&
        put_member(out, "precision", report->precision) &&
        put_member(out, "route_threshold", report->route_threshold) &&
        put_member(out, "seconds", report->seconds) &&
        sri_buffer_append_str(out, ",\"warnings\":[");
    for (size_t i = 0; done && i < report->warning_count; i++)
        done = (i == 0 || sri_buffer_append(out, ",", 1)) &&
               put_warning_json(out, &report->warnings[i]);
    return done && sri_buffer_append_str(out, "]}");
}

/* ---- What there is ----------------------------------------------------------------------------- */

/* How it is searched, and why by neighbours alone. */
static bool put_search(sri_buffer *out, const sr_info *info) {
    return sri_buffer_format(
               out,
               ",\"index_bytes\":%llu,\"index_exact_bytes\":%llu,\"rows_dead\":%llu,\"no_heads\":",
               (number)info->index_bytes, (number)info->index_exact_bytes,
               (number)info->rows_dead) &&
           (info->no_heads[0] == '\0' ? sri_buffer_append_str(out, "null")
                                      : sri_append_json(out, sr_str_of(info->no_heads)));
}

bool sri_append_info_json(sri_buffer *out, const sr_info *info) {
    const struct {
        const char *name, *value;
    } strings[] = {{"database", info->database},
                   {"version", info->version},
                   {"cpu", info->cpu},
                   {"model", info->model},
                   {"fingerprint", info->fingerprint},
                   {"stored_model", info->stored_model}};
    bool done = sri_buffer_append(out, "{", 1);
    for (size_t i = 0; done && i < SRI_COUNT(strings); i++)
        done = sri_buffer_format(out, "%s\"%s\":", i == 0 ? "" : ",", strings[i].name) &&
               (strings[i].value[0] == '\0' ? sri_buffer_append_str(out, "null")
                                            : sri_append_json(out, sr_str_of(strings[i].value)));
    return done &&
           sri_buffer_format(
               out,
               ",\"revision\":%llu,\"routes\":%llu,\"utterances\":%llu,\"models\":%llu,"
               "\"schema\":%d,\"dimension\":%d,\"threads\":%d,\"read_only\":%s,"
               "\"oos_examples\":%llu,\"fit\":\"%s\",\"fit_revision\":%llu,\"fit_pending\":%llu,"
               "\"auto_threshold\":",
               (number)info->revision, (number)info->routes, (number)info->utterances,
               (number)info->models, info->schema, info->dimension, info->threads,
               info->read_only ? "true" : "false", (number)info->oos_examples,
               sri_fit_name(info->fit), (number)info->fit_revision, (number)info->fit_pending) &&
           sri_append_number(out, info->auto_threshold) &&
           sri_buffer_format(
               out, ",\"fast_path\":%s,\"fast_share\":", info->fast_path ? "true" : "false") &&
           sri_append_number(out, info->fast_share) && put_search(out, info) &&
           sri_buffer_append(out, "}", 1);
}
