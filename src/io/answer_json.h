/*
 * answer_json.h - what the library answers, as JSON: the one place that writes it, for the program and the server.
 *
 * Each appends one object without a newline; false when memory is short.
 */
#ifndef SRI_ANSWER_JSON_H
#define SRI_ANSWER_JSON_H

#include "base/base.h"

bool sri_append_decision_json(sri_buffer *out, const sr_decision *decision);
bool sri_append_receipt_json(sri_buffer *out, const sr_receipt *receipt);
bool sri_append_fit_json(sri_buffer *out, const sr_fit_report *report);
/* Of `info`, with members that are not the library's own added by the caller before the closing bracket, which it
 * writes. */
bool sri_append_info_json(sri_buffer *out, const sr_info *info);

const char *sri_fit_name(sr_fit_kind kind); /* "none", "neighbours" or "heads" */

#endif
