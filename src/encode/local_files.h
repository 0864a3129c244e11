/*
 * local_files.h - what the encoders over a model directory share: finding it, its description and
 * digests, its tokenizer, its name.
 */
#ifndef SRI_LOCAL_FILES_H
#define SRI_LOCAL_FILES_H

#include "base/base.h"
#include "model/config.h"
#include "text/text.h"

#include <limits.h>

typedef struct local_files {
    char directory[PATH_MAX];
    sri_description description;
} local_files;

/* Finds the directory of a model (as sri_locate_model() does) and reads its description. */
SR_MUST_CHECK sr_status sri_local_open(const char *model, local_files *files, sr_error *error);

/* Opens its tokenizer, whose ids must lie below `rows`. */
SR_MUST_CHECK sr_status sri_local_tokenizer(const local_files *files, size_t rows,
                                            sri_tokenizer **tokenizer, sr_error *error);

/* Copies the prefix to be used: the model's own when `given` is NULL; the one of that name in the
 * model's description when it is "@NAME" (SR_ERR_INVALID lists those that exist); "@TEXT" when it is
 * "@@TEXT"; else `given` itself. */
SR_MUST_CHECK sr_status sri_local_prefix(const local_files *files, const char *given, char *prefix,
                                         size_t capacity, sr_error *error);

/* Digest of all that the vectors depend on: `computation` (a name that changes when our own
 * computation does), the files, and `settings`. Digests that the description lacks are computed. */
SR_MUST_CHECK sr_status sri_local_fingerprint(const local_files *files, const char *computation,
                                              const char *settings, char hex[65], sr_error *error);

/* Compares the files with the digests stored beside them, which are read anew. */
SR_MUST_CHECK sr_status sri_local_verify(const char *directory, sr_error *error);

/* The last part of the real directory's path. */
void sri_local_name(const char *directory, char *name, size_t capacity);

#endif
