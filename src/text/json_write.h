/* json_write.h - texts and numbers as JSON writes them. All return false when memory is short. */
#ifndef SRI_JSON_WRITE_H
#define SRI_JSON_WRITE_H

#include "base/base.h"

bool sri_append_json(sri_buffer *buffer, sr_str text); /* what is not UTF-8 becomes U+FFFD */
/* Appends a number with at most 7 decimals (the accuracy of a float below 1), "null" for NaN. */
bool sri_append_number(sri_buffer *buffer, double number);
/* Appends a number with as many digits as give it back exactly. */
bool sri_append_exact(sri_buffer *buffer, double number);
/* Appends the escape of an ASCII character that may not stand for itself in JSON, nor in YAML's double quotes. */
bool sri_append_escaped(sri_buffer *buffer, unsigned char c);

#endif
