/*
 * io_int.h - what the readers of src/io share.
 */
#ifndef SRI_IO_INT_H
#define SRI_IO_INT_H

#include "io/io.h"

typedef struct sri_reader {
    const char *name; /* of the file, for messages */
    const sri_read_options *options;
    sri_rows *rows;
    sr_error *error;
} sri_reader;

/* Fails with "FILE:LINE: ..." (without a line when it is 0). */
sr_status sri_reader_fail(const sri_reader *reader, sr_status code, size_t line, const char *format,
                          ...) SRI_PRINTF(4, 5);

/* Finds or adds a label after checking its name. */
SR_MUST_CHECK sr_status sri_reader_label(const sri_reader *reader, sr_str name, size_t line,
                                         uint32_t *label);
/* Adds a text, which must live as long as the rows, after checking it. */
SR_MUST_CHECK sr_status sri_reader_text(const sri_reader *reader, sr_str text, size_t line,
                                        uint32_t label);
/* Check and set a field of a label; the text is copied. */
SR_MUST_CHECK sr_status sri_reader_description(const sri_reader *reader, uint32_t label,
                                               sr_str text, size_t line);
SR_MUST_CHECK sr_status sri_reader_metadata(const sri_reader *reader, uint32_t label, sr_str json,
                                            size_t line);
SR_MUST_CHECK sr_status sri_reader_threshold(const sri_reader *reader, uint32_t label,
                                             sr_threshold threshold, size_t line);

/* Each reads all of rows->bytes from `start` (past a byte order mark). */
sr_status sri_read_csv(const sri_reader *reader, size_t start);
sr_status sri_read_jsonl(const sri_reader *reader, size_t start);
sr_status sri_read_yaml(const sri_reader *reader, size_t start);

#endif
