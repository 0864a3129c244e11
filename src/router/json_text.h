/*
 * json_text.h - JSON text cut into tokens, so that it can be rewritten without touching its numbers.
 *
 * All take text that a parser has accepted; other bytes give nonsense, but are never read past.
 */
#ifndef SRI_JSON_TEXT_H
#define SRI_JSON_TEXT_H

#include "base/base.h"

/* Takes the next token (a bracket, comma or colon, a string with its quotes, a number, a literal) from the
 * front of `rest`; false at its end. */
bool sri_json_token(sr_str *rest, sr_str *token);

/* Takes the next whole value from the front of `rest`. */
sr_str sri_json_value(sr_str *rest);

/* Appends `json` without white space between its tokens and with its strings escaped in one way only;
 * numbers stay as they are written. Never longer than `json`. False when memory is short. */
SR_MUST_CHECK bool sri_json_compact(sri_buffer *buffer, sr_str json);

#endif
