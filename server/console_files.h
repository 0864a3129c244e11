/*
 * console_files.h - the console's files as console/build.mjs embeds them.
 */
#ifndef SRV_CONSOLE_FILES_H
#define SRV_CONSOLE_FILES_H

#include <stddef.h>

typedef struct srv_console_file {
    const char *path;           /* as requested: "/", "/assets/console.js" */
    const char *type;           /* its media type */
    const char *tag;            /* its entity tag, with quotes */
    const unsigned char *bytes; /* compressed by gzip */
    size_t len;
} srv_console_file;

/* Made by the build; not there without the option `console`. */
extern const srv_console_file srv_console_files[];
extern const size_t srv_console_file_count;

#endif
