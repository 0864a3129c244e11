/*
 * load_answer.c - reads HTTP/1.x responses.
 *
 * A machine over lines and counted bytes. A line that lies whole in what has come is read where it lies; only one
 * that is cut is copied together, and only as much of it as any field of interest has. A full HTTP parser was
 * rejected: a generator asks one server for one thing, and has thirty microseconds for each request.
 */
#include "load.h"

#include <string.h>
#include <strings.h>

#define MAX_HEAD 65536

enum { STATUS, FIELDS, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, TO_THE_END, WHOLE };

void load_answer_begin(load_answer *answer) {
    answer->state = STATUS;
    answer->status = 0;
    answer->keep = true;
    answer->chunked = answer->has_length = false;
    answer->left = 0;
    answer->head = answer->line_len = answer->excerpt_len = 0;
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : -1; }

/* "HTTP/1.1 200 OK" */
static bool take_status(load_answer *answer, sr_str line) {
    if (line.len < 12 || memcmp(line.data, "HTTP/1.", 7) != 0 || line.data[8] != ' ') return false;
    int hundreds = digit(line.data[9]), tens = digit(line.data[10]), ones = digit(line.data[11]);
    if (hundreds < 1 || hundreds > 5 || tens < 0 || ones < 0) return false;
    answer->status = 100 * hundreds + 10 * tens + ones;
    answer->keep = line.data[7] != '0';
    answer->state = FIELDS;
    return true;
}

static bool is_field(sr_str line, const char *name, sr_str *value) {
    size_t len = strlen(name);
    if (line.len <= len || line.data[len] != ':' || strncasecmp(line.data, name, len) != 0)
        return false;
    for (len++; len < line.len && (line.data[len] == ' ' || line.data[len] == '\t');) len++;
    *value = (sr_str){line.data + len, line.len - len};
    while (value->len > 0 && value->data[value->len - 1] <= ' ') value->len--;
    return true;
}

static bool is_word(sr_str value, const char *word) {
    return value.len == strlen(word) && strncasecmp(value.data, word, value.len) == 0;
}

static bool take_number(sr_str text, unsigned base, uint64_t *number) {
    *number = 0;
    if (text.len == 0 || text.len > 15) return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];
        int value = digit(c);
        if (value < 0 && base == 16 && (c | 32) >= 'a' && (c | 32) <= 'f')
            value = (c | 32) - 'a' + 10;
        if (value < 0) return false;
        *number = *number * base + (unsigned)value;
    }
    return true;
}

/* After the empty line. */
static void begin_body(load_answer *answer) {
    if (answer->status < 200)
        load_answer_begin(answer); /* 100 Continue: the answer comes yet */
    else if (answer->status == 204 || answer->status == 304)
        answer->state = WHOLE;
    else if (answer->chunked)
        answer->state = CHUNK_SIZE;
    else if (answer->has_length)
        answer->state = answer->left == 0 ? WHOLE : BODY;
    else
        answer->state = TO_THE_END;
}

static bool take_field(load_answer *answer, sr_str line) {
    sr_str value;
    if (is_field(line, "Content-Length", &value)) {
        answer->has_length = true;
        return take_number(value, 10, &answer->left);
    }
    if (is_field(line, "Transfer-Encoding", &value)) {
        answer->chunked = is_word(value, "chunked");
        return answer->chunked;
    }
    if (is_field(line, "Connection", &value)) {
        if (is_word(value, "close")) answer->keep = false;
        if (is_word(value, "keep-alive")) answer->keep = true;
    }
    return true;
}

static bool take_chunk_size(load_answer *answer, sr_str line) {
    const char *extension = memchr(line.data, ';', line.len);
    if (extension != NULL) line.len = (size_t)(extension - line.data);
    while (line.len > 0 && line.data[line.len - 1] <= ' ') line.len--;
    if (!take_number(line, 16, &answer->left)) return false;
    answer->state = answer->left == 0 ? TRAILER : CHUNK;
    return true;
}

static bool take_line(load_answer *answer, sr_str line) {
    if (line.len > 0 && line.data[line.len - 1] == '\r') line.len--;
    switch (answer->state) {
    case STATUS: return take_status(answer, line);
    case FIELDS:
        if (line.len > 0) return take_field(answer, line);
        begin_body(answer);
        return true;
    case CHUNK_SIZE: return take_chunk_size(answer, line);
    case CHUNK_END: answer->state = CHUNK_SIZE; return line.len == 0;
    default: /* TRAILER */
        if (line.len == 0) answer->state = WHOLE;
        return true;
    }
}

/* Takes a line, or the part of it that is there; returns its bytes, 0 when it is malformed. */
static size_t take_line_of(load_answer *answer, const char *bytes, size_t len) {
    const char *end = memchr(bytes, '\n', len);
    size_t used = end == NULL ? len : (size_t)(end - bytes) + 1;
    answer->head += used;
    if (answer->head > MAX_HEAD) return 0;
    sr_str line = {bytes, used - 1};
    if (end == NULL || answer->line_len > 0) {
        size_t room = sizeof answer->line - answer->line_len;
        size_t part = end == NULL ? used : used - 1;
        memcpy(answer->line + answer->line_len, bytes, SRI_MIN(part, room));
        answer->line_len += SRI_MIN(part, room);
        if (end == NULL) return used;
        line = (sr_str){answer->line, answer->line_len};
        answer->line_len = 0;
    }
    return take_line(answer, line) ? used : 0;
}

static size_t take_body_of(load_answer *answer, const char *bytes, size_t len) {
    size_t used = answer->state == TO_THE_END ? len : (size_t)SRI_MIN((uint64_t)len, answer->left);
    if (answer->status >= 400 && answer->excerpt_len < LOAD_EXCERPT) {
        size_t part = SRI_MIN(used, LOAD_EXCERPT - answer->excerpt_len);
        memcpy(answer->excerpt + answer->excerpt_len, bytes, part);
        answer->excerpt_len += part;
    }
    if (answer->state == TO_THE_END) return used;
    answer->left -= used;
    if (answer->left == 0) {
        answer->state = answer->state == BODY ? WHOLE : CHUNK_END;
        answer->head = 0; /* a chunk's own lines are counted from here */
    }
    return used;
}

load_progress load_answer_take(load_answer *answer, const char *bytes, size_t len) {
    size_t at = 0;
    while (at < len) {
        size_t used = 0;
        switch (answer->state) {
        case BODY:
        case CHUNK:
        case TO_THE_END: used = take_body_of(answer, bytes + at, len - at); break;
        case WHOLE: break; /* nothing was asked for that this could answer */
        default: used = take_line_of(answer, bytes + at, len - at); break;
        }
        if (used == 0) return LOAD_MALFORMED;
        at += used;
    }
    return answer->state == WHOLE ? LOAD_WHOLE : LOAD_MORE;
}

load_progress load_answer_end(load_answer *answer) {
    answer->keep = false;
    return answer->state == TO_THE_END || answer->state == WHOLE ? LOAD_WHOLE : LOAD_MALFORMED;
}
