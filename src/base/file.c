/* file.c - reading and mapping whole files. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static sr_status open_regular(const char *path, int *descriptor, struct stat *status,
                              sr_error *error) {
    *descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (*descriptor < 0) return sri_fail_errno(error, errno, path, "cannot open %s", path);
    if (fstat(*descriptor, status) == 0 && S_ISREG(status->st_mode)) return SR_OK;
    close(*descriptor);
    return sri_fail(error, SR_ERR_FORMAT, path, "%s is not a regular file", path);
}

sr_status sri_map_file(const char *path, sri_mapping *mapping, sr_error *error) {
    *mapping = (sri_mapping){0};
    int descriptor;
    struct stat status;
    sr_status code = open_regular(path, &descriptor, &status, error);
    if (code != SR_OK) return code;
    size_t size = (size_t)status.st_size;
    void *data = size == 0 ? NULL : mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    int saved = errno;
    close(descriptor);
    if (data == MAP_FAILED) return sri_fail_errno(error, saved, path, "cannot map %s", path);
    *mapping = (sri_mapping){data, size};
    return SR_OK;
}

void sri_unmap_file(sri_mapping *mapping) {
    if (mapping->data != NULL) munmap((void *)(uintptr_t)mapping->data, mapping->size);
    *mapping = (sri_mapping){0};
}

void sri_mapping_release(const sri_mapping *mapping, size_t offset, size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (offset + page - 1) / page * page;
    size_t end = (offset + size) / page * page;
    if (end > first)
        madvise((void *)((uintptr_t)mapping->data + first), end - first, MADV_DONTNEED);
}

#define READ_BYTES ((size_t)65536) /* at a time, where a file does not say its size */

/* Reads to the end. Where there are `expected` bytes, they and some that the caller appends take one
 * allocation. */
static sr_status read_all(int descriptor, const char *path, size_t max, size_t expected,
                          sri_buffer *buffer, sr_error *error) {
    size_t room = SRI_MAX(SRI_MIN(expected, max) + 64, READ_BYTES);
    for (;;) {
        if (room > 0 && !sri_buffer_reserve(buffer, room)) return sri_fail_memory(error);
        ssize_t got = read(descriptor, buffer->data + buffer->len, buffer->capacity - buffer->len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sri_fail_errno(error, errno, path, "cannot read %s", path);
        if (got == 0) return SR_OK;
        if ((size_t)got > max - SRI_MIN(buffer->len, max))
            return sri_fail(error, SR_ERR_LIMIT, path,
                            "%s is larger than the %zu bytes that are read", path, max);
        buffer->len += (size_t)got;
        room = buffer->len == buffer->capacity ? READ_BYTES : 0;
    }
}

sr_status sri_read_file(const char *path, size_t max, sri_buffer *buffer, sr_error *error) {
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return sri_fail_errno(error, errno, path, "cannot open %s", path);
    struct stat status;
    sr_status code = SR_OK;
    bool known = fstat(descriptor, &status) == 0;
    if (known && S_ISDIR(status.st_mode))
        code = sri_fail(error, SR_ERR_FORMAT, path, "%s is a directory, not a file", path);
    else
        code = read_all(descriptor, path, max, known ? (size_t)status.st_size : 0, buffer, error);
    close(descriptor);
    return code;
}

bool sri_is_directory(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool sri_is_file(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}
