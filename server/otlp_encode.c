/*
 * otlp_encode.c - see otlp_encode.h.
 *
 * A nested message's length stands before it and is known after it: room for five bytes is left, and what is not
 * needed of it is closed up. Messages are small, so that moving them costs less than making each twice.
 */
#include "otlp_encode.h"

#include <string.h>

enum { VARINT = 0, BITS64 = 1, BYTES = 2, BITS32 = 5 };

#define LENGTH_ROOM 5

static void append(srv_proto *proto, const void *bytes, size_t len) {
    if (!proto->failed) proto->failed = !sri_buffer_append(proto->out, bytes, len);
}

static size_t make_varint(unsigned char bytes[10], uint64_t value) {
    size_t len = 0;
    for (; value >= 0x80; value >>= 7) bytes[len++] = (unsigned char)(value | 0x80);
    bytes[len++] = (unsigned char)value;
    return len;
}

static void append_varint(srv_proto *proto, uint64_t value) {
    unsigned char bytes[10];
    append(proto, bytes, make_varint(bytes, value));
}

static void append_tag(srv_proto *proto, unsigned field, unsigned kind) {
    append_varint(proto, (uint64_t)field << 3 | kind);
}

/* Little-endian, on whatever machine. */
static void append_bits(srv_proto *proto, uint64_t bits, size_t len) {
    unsigned char bytes[8];
    for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)(bits >> 8 * i);
    append(proto, bytes, len);
}

void srv_proto_uint(srv_proto *proto, unsigned field, uint64_t value) {
    append_tag(proto, field, VARINT);
    append_varint(proto, value);
}

void srv_proto_fixed64(srv_proto *proto, unsigned field, uint64_t value) {
    append_tag(proto, field, BITS64);
    append_bits(proto, value, 8);
}

void srv_proto_fixed32(srv_proto *proto, unsigned field, uint32_t value) {
    append_tag(proto, field, BITS32);
    append_bits(proto, value, 4);
}

void srv_proto_double(srv_proto *proto, unsigned field, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    srv_proto_fixed64(proto, field, bits);
}

void srv_proto_bytes(srv_proto *proto, unsigned field, const void *bytes, size_t len) {
    append_tag(proto, field, BYTES);
    append_varint(proto, len);
    append(proto, bytes, len);
}

void srv_proto_text(srv_proto *proto, unsigned field, const char *text) {
    srv_proto_bytes(proto, field, text, strlen(text));
}

size_t srv_proto_begin(srv_proto *proto, unsigned field) {
    static const unsigned char room[LENGTH_ROOM];
    append_tag(proto, field, BYTES);
    append(proto, room, sizeof room);
    return proto->out->len;
}

void srv_proto_end(srv_proto *proto, size_t mark) {
    unsigned char length[10];
    if (proto->failed) return;
    size_t len = proto->out->len - mark, used = make_varint(length, len);
    char *start = proto->out->data + mark - LENGTH_ROOM;
    memcpy(start, length, used);
    memmove(start + used, start + LENGTH_ROOM, len);
    proto->out->len -= LENGTH_ROOM - used;
}

void srv_proto_packed(srv_proto *proto, uint64_t bits) { append_bits(proto, bits, 8); }

/* KeyValue { key = 1; AnyValue value = 2 }, AnyValue { string_value = 1 ... int_value = 3 } */
void srv_proto_text_attribute(srv_proto *proto, unsigned field, const char *key, sr_str value) {
    size_t pair = srv_proto_begin(proto, field);
    srv_proto_text(proto, 1, key);
    size_t any = srv_proto_begin(proto, 2);
    srv_proto_bytes(proto, 1, value.data, value.len);
    srv_proto_end(proto, any);
    srv_proto_end(proto, pair);
}

void srv_proto_int_attribute(srv_proto *proto, unsigned field, const char *key, int64_t value) {
    size_t pair = srv_proto_begin(proto, field);
    srv_proto_text(proto, 1, key);
    size_t any = srv_proto_begin(proto, 2);
    srv_proto_uint(proto, 3, (uint64_t)value);
    srv_proto_end(proto, any);
    srv_proto_end(proto, pair);
}
