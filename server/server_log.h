/*
 * server_log.h - the server's log: lines on standard error, as text or as JSON, each with its time, level and fields.
 *
 * A line is made on the stack and handed to one writer thread through a bounded buffer, so that nobody waits for
 * whoever reads standard error: lines that find it full are dropped, and counted. One log in a process.
 */
#ifndef SRV_SERVER_LOG_H
#define SRV_SERVER_LOG_H

#include "base/base.h"

/* Starts the writer, and takes what the library has to say (sr_log_set). Until then, and where the thread cannot be
 * started, lines are written at once. */
void srv_log_open(sr_log_level level, bool json);
void srv_log_set_level(sr_log_level level); /* at any time */
/* Writes what waits, for at most a second. */
void srv_log_close(void);

bool srv_log_wants(sr_log_level level);
bool srv_log_is_json(void);
uint64_t srv_log_dropped(void); /* lines, so far */

/* A line being made. A field that does not fit is left out, and the line says so. */
typedef struct srv_line {
    size_t len;
    bool json, cut;
    char bytes[4096];
} srv_line;

/* `message` is one short sentence that does not vary; what varies goes into fields. Names of fields are words. */
void srv_line_begin(srv_line *line, sr_log_level level, const char *message);
void srv_line_text(srv_line *line, const char *name, sr_str value);
void srv_line_number(srv_line *line, const char *name, double value);
void srv_line_end(srv_line *line); /* writes it, whatever its level */

#endif
