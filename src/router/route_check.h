/*
 * route_check.h - what may be stored, for the router and for those who read routes from files.
 *
 * Each fails with a message that names `what` and says what is allowed; `place` is the sr_error's.
 */
#ifndef SRI_ROUTE_CHECK_H
#define SRI_ROUTE_CHECK_H

#include "base/base.h"

/* That a string has data where it has a length. */
SR_MUST_CHECK sr_status sri_check_given(sr_str text, const char *what, sr_error *error);

/* At most `max` bytes of UTF-8 without NUL. */
SR_MUST_CHECK sr_status sri_check_string(sr_str text, size_t max, const char *what,
                                         const char *place, sr_error *error);

/* A route's name: 1 to SR_MAX_NAME_BYTES, no control character, no white space at its ends. */
SR_MUST_CHECK sr_status sri_check_name(sr_str name, const char *place, sr_error *error);
SR_MUST_CHECK sr_status sri_check_utterance(sr_str text, sr_str route, const char *place,
                                            sr_error *error);
SR_MUST_CHECK sr_status sri_check_threshold(const sr_threshold *threshold, const char *place,
                                            sr_error *error);
/* All of a route; `number` is its place in the call. */
SR_MUST_CHECK sr_status sri_check_route(const sr_route *route, size_t number, sr_error *error);

#endif
