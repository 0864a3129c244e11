/*
 * otlp_encode.h - writes protocol buffers, as much of them as OpenTelemetry's messages need.
 *
 * Binary, not JSON: every receiver takes it, it is a third as long, and a writer of it is these few functions. A library
 * and a compiler of schemas were rejected for a dozen messages that are only ever written.
 */
#ifndef SRV_OTLP_ENCODE_H
#define SRV_OTLP_ENCODE_H

#include "base/base.h"

/* Once memory is short, `failed` stays set and nothing more is appended. */
typedef struct srv_proto {
    sri_buffer *out;
    bool failed;
} srv_proto;

void srv_proto_uint(srv_proto *proto, unsigned field, uint64_t value);
void srv_proto_fixed64(srv_proto *proto, unsigned field, uint64_t value);
void srv_proto_fixed32(srv_proto *proto, unsigned field, uint32_t value);
void srv_proto_double(srv_proto *proto, unsigned field, double value);
void srv_proto_bytes(srv_proto *proto, unsigned field, const void *bytes, size_t len);
void srv_proto_text(srv_proto *proto, unsigned field, const char *text);

/* A nested message, or packed numbers: what is appended between the two calls. `begin` returns what `end` takes. */
size_t srv_proto_begin(srv_proto *proto, unsigned field);
void srv_proto_end(srv_proto *proto, size_t mark);
/* Numbers of a packed field, between begin and end. */
void srv_proto_packed(srv_proto *proto, uint64_t bits);

/* A KeyValue of OpenTelemetry in field `field`. */
void srv_proto_text_attribute(srv_proto *proto, unsigned field, const char *key, sr_str value);
void srv_proto_int_attribute(srv_proto *proto, unsigned field, const char *key, int64_t value);

#endif
