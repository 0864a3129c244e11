/*
 * outfile.c - writing a file so that a failure keeps the one that was there.
 *
 * The bytes go to a new file beside the target, are forced to disk, and the new file is renamed over the
 * old one. What is not a regular file (a pipe, /dev/stdout) is written directly. A temporary file in
 * /tmp was rejected: a rename works only within one file system.
 */
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PENDING_BYTES ((size_t)65536)

/* Creates a file beside file->path with the permissions of the one that it will replace. */
static sr_status create_temporary(sri_outfile *file, mode_t mode, sr_error *error) {
    size_t bytes = strlen(file->path) + 32;
    file->temporary = sri_alloc(bytes);
    if (file->temporary == NULL) return sri_fail_memory(error);
    for (int attempt = 0; attempt < 100; attempt++) {
        snprintf(file->temporary, bytes, "%s.%08x.tmp", file->path, (unsigned)sri_random_seed());
        file->descriptor = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->descriptor >= 0 || errno != EEXIST) break;
    }
    int saved = errno;
    if (file->descriptor >= 0) {
        /* Best effort: a file system without permissions is no reason to fail. */
        if (mode != 0) (void)!fchmod(file->descriptor, mode);
        return SR_OK;
    }
    sri_free(file->temporary);
    file->temporary = NULL;
    return sri_fail_errno(error, saved, file->path, "cannot create a file beside %s", file->path);
}

static sr_status open_path(const char *path, sri_outfile *file, sr_error *error) {
    struct stat status;
    bool exists = stat(path, &status) == 0;
    if (exists && S_ISDIR(status.st_mode))
        return sri_fail(error, SR_ERR_INVALID, path, "%s is a directory; name a file", path);
    /* Behind a symbolic link the file itself is replaced, not the link. */
    char *real = exists ? realpath(path, NULL) : NULL;
    file->path = sri_strdup(sr_str_of(real != NULL ? real : path));
    free(real);
    if (file->path == NULL) return sri_fail_memory(error);
    if (!exists || S_ISREG(status.st_mode))
        return create_temporary(file, exists ? status.st_mode & 07777 : 0, error);
    file->descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (file->descriptor < 0) return sri_fail_errno(error, errno, path, "cannot write %s", path);
    return SR_OK;
}

sr_status sri_outfile_open(const char *path, sri_outfile *file, sr_error *error) {
    *file = (sri_outfile){.descriptor = -1};
    if (strcmp(path, "-") != 0) {
        sr_status code = open_path(path, file, error);
        if (code != SR_OK) sri_outfile_abandon(file);
        return code;
    }
    file->path = sri_strdup(sr_str_of("standard output"));
    file->descriptor = dup(STDOUT_FILENO);
    if (file->path != NULL && file->descriptor >= 0) return SR_OK;
    sr_status code = file->path == NULL
                         ? sri_fail_memory(error)
                         : sri_fail_errno(error, errno, file->path, "cannot write standard output");
    sri_outfile_abandon(file);
    return code;
}

void sri_outfile_to(sri_outfile *file, bool (*sink)(void *user, const void *bytes, size_t len),
                    void *user) {
    *file = (sri_outfile){.descriptor = -1, .sink = sink, .sink_user = user};
}

static sr_status flush(sri_outfile *file, sr_error *error) {
    size_t done = 0;
    if (file->sink != NULL) {
        bool taken = file->sink(file->sink_user, file->pending.data, file->pending.len);
        file->pending.len = 0;
        return taken ? SR_OK : sri_fail(error, SR_ERR_CANCELLED, NULL, "nobody reads the answer");
    }
    while (done < file->pending.len) {
        ssize_t wrote =
            write(file->descriptor, file->pending.data + done, file->pending.len - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0 && errno == EAGAIN) { /* whoever shares the pipe made it non-blocking */
            poll(&(struct pollfd){.fd = file->descriptor, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (wrote < 0)
            return sri_fail_errno(error, errno, file->path, "cannot write %s%s", file->path,
                                  file->temporary == NULL ? "" : "; what was there is unchanged");
        done += (size_t)wrote;
    }
    file->pending.len = 0;
    return SR_OK;
}

sr_status sri_outfile_write(sri_outfile *file, const void *bytes, size_t len, sr_error *error) {
    if (!sri_buffer_append(&file->pending, bytes, len)) return sri_fail_memory(error);
    return file->pending.len < PENDING_BYTES ? SR_OK : flush(file, error);
}

static void sync_directory(const char *path) {
    char *copy = sri_strdup(sr_str_of(path));
    if (copy == NULL) return;
    char *slash = strrchr(copy, '/');
    if (slash != NULL) slash[slash == copy] = '\0';
    int directory = open(slash == NULL ? "." : copy, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    sri_free(copy);
    if (directory < 0) return;
    /* Best effort: the file is complete either way, and some file systems refuse this. */
    (void)!fsync(directory);
    close(directory);
}

sr_status sri_outfile_commit(sri_outfile *file, sr_error *error) {
    sr_status code = flush(file, error);
    if (code == SR_OK && file->temporary != NULL) {
        if (fsync(file->descriptor) != 0 || rename(file->temporary, file->path) != 0) {
            code = sri_fail_errno(error, errno, file->path,
                                  "cannot write %s; what was there is unchanged", file->path);
        } else {
            sync_directory(file->path);
            sri_free(file->temporary);
            file->temporary = NULL;
        }
    }
    sri_outfile_abandon(file);
    return code;
}

void sri_outfile_abandon(sri_outfile *file) {
    if (file->temporary != NULL) unlink(file->temporary);
    if (file->descriptor >= 0) close(file->descriptor);
    sri_free(file->temporary);
    sri_free(file->path);
    sri_buffer_free(&file->pending);
    *file = (sri_outfile){.descriptor = -1};
}
