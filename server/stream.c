/*
 * stream.c - answers of many parts, made by one thread and sent by another.
 *
 * Between the two lies one bounded buffer. The writer waits while it is full; the reader, which is a thread of
 * libmicrohttpd and must not wait, suspends its connection while it is empty. The exchange is held by both, since
 * the client may leave while the writer goes on.
 */
#include "http_int.h"

#include <string.h>

#define BOUND ((size_t)256 << 10)
#define BLOCK ((size_t)32 << 10) /* that libmicrohttpd takes at a time */

struct srv_stream {
    pthread_mutex_t lock;
    pthread_cond_t room;
    sri_buffer bytes;
    size_t taken; /* of bytes, by the reader */
    bool suspended, ended, complete, gone;
};

/* With the lock held: lets the reader go on, if it waits. */
static void resume(srv_exchange *exchange) {
    srv_stream *stream = exchange->stream;
    if (!stream->suspended) return;
    stream->suspended = false;
    srv_resume(exchange);
}

static ssize_t read_some(void *user, uint64_t position, char *out, size_t max) {
    (void)position;
    srv_exchange *exchange = user;
    srv_stream *stream = exchange->stream;
    ssize_t count = 0;
    pthread_mutex_lock(&stream->lock);
    size_t there = stream->bytes.len - stream->taken;
    if (there > 0 && !stream->gone) {
        count = (ssize_t)SRI_MIN(there, max);
        memcpy(out, stream->bytes.data + stream->taken, (size_t)count);
        stream->taken += (size_t)count;
        if (stream->taken == stream->bytes.len) stream->taken = stream->bytes.len = 0;
        pthread_cond_signal(&stream->room);
    } else if (stream->gone || (stream->ended && !stream->complete)) {
        count = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (stream->ended) {
        count = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        stream->suspended = true;
        srv_suspend(exchange);
    }
    pthread_mutex_unlock(&stream->lock);
    return count;
}

struct MHD_Response *srv_stream_response(srv_exchange *exchange) {
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_some, exchange, NULL);
}

/* A client that has left, or a deadline that has passed. */
void srv_stream_wake(srv_exchange *exchange) {
    srv_stream *stream = exchange->stream;
    pthread_mutex_lock(&stream->lock);
    stream->gone = true;
    pthread_cond_signal(&stream->room);
    resume(exchange);
    pthread_mutex_unlock(&stream->lock);
}

void srv_stream_release(srv_exchange *exchange) {
    srv_stream *stream = exchange->stream;
    pthread_mutex_lock(&stream->lock);
    stream->gone = true;
    stream->suspended = false;
    pthread_cond_signal(&stream->room);
    pthread_mutex_unlock(&stream->lock);
}

void srv_stream_free(srv_exchange *exchange) {
    srv_stream *stream = exchange->stream;
    sri_buffer_free(&stream->bytes);
    pthread_cond_destroy(&stream->room);
    pthread_mutex_destroy(&stream->lock);
}

void srv_stream_begin(srv_request *request, int status, const char *type) {
    srv_exchange *exchange = srv_exchange_of(request);
    srv_stream *stream = srv_alloc(request, sizeof *stream);
    if (stream != NULL) {
        pthread_mutex_init(&stream->lock, NULL);
        pthread_cond_init(&stream->room, NULL);
        atomic_fetch_add(&exchange->references, 1);
        exchange->stream = stream;
        /* The deadline was for the beginning. */
        request->deadline_ns = UINT64_MAX;
    }
    srv_reply(request, stream == NULL ? 503 : status, type, NULL);
}

bool srv_stream_write(srv_request *request, const void *bytes, size_t len) {
    srv_exchange *exchange = srv_exchange_of(request);
    srv_stream *stream = exchange->stream;
    if (stream == NULL) return false;
    pthread_mutex_lock(&stream->lock);
    while (stream->bytes.len - stream->taken > BOUND && !stream->gone)
        pthread_cond_wait(&stream->room, &stream->lock);
    if (stream->taken > 0 && !stream->gone) {
        memmove(stream->bytes.data, stream->bytes.data + stream->taken,
                stream->bytes.len - stream->taken);
        stream->bytes.len -= stream->taken;
        stream->taken = 0;
    }
    bool done = !stream->gone && sri_buffer_append(&stream->bytes, bytes, len);
    if (done) {
        request->sent_bytes += len;
        resume(exchange);
    }
    pthread_mutex_unlock(&stream->lock);
    return done;
}

void srv_stream_end(srv_request *request, bool complete) {
    srv_exchange *exchange = srv_exchange_of(request);
    srv_stream *stream = exchange->stream;
    if (stream == NULL) return;
    pthread_mutex_lock(&stream->lock);
    stream->ended = true;
    stream->complete = complete;
    resume(exchange);
    pthread_mutex_unlock(&stream->lock);
    srv_exchange_free(exchange);
}
