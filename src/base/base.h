/*
 * base.h - what every part of the library stands on: errors, memory, buffers, arena, hash map, log,
 * files, SHA-256 and the thread pool. Depends on nothing but the C library and the public header.
 */
#ifndef SRI_BASE_H
#define SRI_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "synaptoroute.h"

#define SRI_MIN(a, b)             ((a) < (b) ? (a) : (b))
#define SRI_MAX(a, b)             ((a) > (b) ? (a) : (b))
#define SRI_COUNT(array)          (sizeof(array) / sizeof((array)[0]))
#define SRI_PRINTF(string, first) __attribute__((format(printf, string, first)))

/* ---- Errors (error.c) ------------------------------------------------------------------------ */

/* Fills `error` (NULL is allowed) and returns `code`, so that a failing path is one statement.
 * `place` may be NULL. Messages say what, where and what to do, in one line. */
sr_status sri_fail(sr_error *error, sr_status code, const char *place, const char *format, ...)
    SRI_PRINTF(4, 5);

/* The same for a failed system call: appends the text of `system_errno`, and picks the code from it
 * (ENOENT: NOT_FOUND, ENOSPC and EDQUOT: FULL, EROFS, EACCES: READ_ONLY or IO, ENOMEM: NO_MEMORY).
 * */
sr_status sri_fail_errno(sr_error *error, int system_errno, const char *place, const char *format,
                         ...) SRI_PRINTF(4, 5);

sr_status sri_fail_memory(sr_error *error);

/* Copies a caller's options struct, whose first member is its size, into the library's own of
 * `full_size` bytes: an older, smaller struct leaves zeros (the defaults) behind it; a newer,
 * larger one is accepted when what this library does not know is zero. `given` may be NULL: all
 * defaults. */
SR_MUST_CHECK sr_status sri_take_options(void *full, size_t full_size, const void *given,
                                         const char *place, sr_error *error);

/* ---- Log (log.c) ----------------------------------------------------------------------------- */

void sri_log(sr_log_level level, const char *format, ...) SRI_PRINTF(2, 3);

/* ---- Strings --------------------------------------------------------------------------------- */

static inline bool sri_str_equal(sr_str a, sr_str b) {
    return a.len == b.len && (a.len == 0 || __builtin_memcmp(a.data, b.data, a.len) == 0);
}

/* ---- Memory (memory.c) ----------------------------------------------------------------------- */

/* `a * b` and `a + b`; false on overflow. */
static inline bool sri_size_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool sri_size_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

/* NULL when memory is short or count * size overflows; zeroed where the name says so. A size of 0
 * gives a pointer that may be freed. */
SR_MUST_CHECK void *sri_alloc(size_t bytes);
SR_MUST_CHECK void *sri_alloc_array(size_t count, size_t size);
SR_MUST_CHECK void *sri_alloc_zero(size_t count, size_t size);
SR_MUST_CHECK void *sri_resize_array(void *old, size_t count,
                                     size_t size); /* old stays valid on NULL */
void sri_free(void *memory);                       /* NULL is allowed */
/* `bytes` aligned to 64; freed by sri_free_aligned. */
SR_MUST_CHECK void *sri_alloc_aligned(size_t bytes);
void sri_free_aligned(void *memory);
SR_MUST_CHECK char *sri_strdup(sr_str text); /* terminated copy */

/* Makes room for `count` elements of `size` bytes in `*array`, whose capacity is `*capacity`,
 * growing by half. False, nothing changed, when memory is short. */
SR_MUST_CHECK bool sri_grow(void **array, size_t *capacity, size_t count, size_t size);

/* ---- Buffer (buffer.c): a growing byte string with a stated maximum -------------------------- */

typedef struct sri_buffer {
    char *data; /* NULL while empty; not terminated */
    size_t len;
    size_t capacity;
    size_t max; /* 0: no maximum but memory */
} sri_buffer;

/* False, nothing appended, when memory is short or `max` would be passed. */
SR_MUST_CHECK bool sri_buffer_append(sri_buffer *buffer, const void *bytes, size_t len);
SR_MUST_CHECK bool sri_buffer_append_str(sri_buffer *buffer, const char *terminated);
/* Makes room for `extra` bytes, so that appending them cannot fail; false as above. */
SR_MUST_CHECK bool sri_buffer_reserve(sri_buffer *buffer, size_t extra);
SR_MUST_CHECK bool sri_buffer_format(sri_buffer *buffer, const char *format, ...) SRI_PRINTF(2, 3);
void sri_buffer_free(sri_buffer *buffer); /* leaves it empty and usable */

/* ---- Arena (arena.c): memory freed all at once ----------------------------------------------- */

typedef struct sri_arena {
    struct sri_arena_block *block; /* newest */
} sri_arena;

SR_MUST_CHECK void *sri_arena_alloc(sri_arena *arena,
                                    size_t bytes); /* aligned to 16; NULL when memory is short */
/* Terminated copy; the returned data is NULL when memory is short. */
SR_MUST_CHECK sr_str sri_arena_copy(sri_arena *arena, sr_str text);
void sri_arena_free(sri_arena *arena);

/* ---- Hash map (map.c): byte string -> uint64 ------------------------------------------------- */

/* Open addressing, linear probing, deletion by backward shift. Keys are borrowed: they must outlive
 * their entry. The hash is seeded per process, so that chosen keys cannot make it slow. */
typedef struct sri_map_entry {
    const char *key;
    uint32_t len;
    uint32_t hash; /* 0 marks a free slot */
    uint64_t value;
} sri_map_entry;

typedef struct sri_map {
    sri_map_entry *slots;
    size_t capacity; /* power of two, or 0 */
    size_t count;
} sri_map;

SR_MUST_CHECK bool sri_map_reserve(sri_map *map, size_t count); /* false when memory is short */
/* Adds or overwrites; false when memory is short (never after a sufficient reserve). */
SR_MUST_CHECK bool sri_map_put(sri_map *map, sr_str key, uint64_t value);
bool sri_map_get(const sri_map *map, sr_str key, uint64_t *value); /* value may be NULL */
bool sri_map_remove(sri_map *map, sr_str key);                     /* false when absent */
void sri_map_free(sri_map *map);
uint64_t sri_hash(const void *bytes, size_t len, uint64_t seed);

/* ---- Files (file.c, platform.c) -------------------------------------------------------------- */

/* A file's bytes, mapped read-only; empty files have size 0 and data NULL. */
typedef struct sri_mapping {
    const uint8_t *data;
    size_t size;
} sri_mapping;

/* Refuses what is not a regular file. */
SR_MUST_CHECK sr_status sri_map_file(const char *path, sri_mapping *mapping, sr_error *error);
void sri_unmap_file(sri_mapping *mapping);
/* Tells the system that the pages of [offset, offset + size) are not needed soon. */
void sri_mapping_release(const sri_mapping *mapping, size_t offset, size_t size);

/* Reads a whole regular file (or a pipe) into `buffer`, up to `max` bytes; more is SR_ERR_LIMIT. */
SR_MUST_CHECK sr_status sri_read_file(const char *path, size_t max, sri_buffer *buffer,
                                      sr_error *error);

bool sri_is_directory(const char *path);
bool sri_is_file(const char *path);

/* The file that holds this code: the shared library, or the program. False when the system cannot
 * say. */
SR_MUST_CHECK bool sri_self_path(char *path, size_t capacity);
int sri_cpu_count(void);        /* cores that this process may use, at least 1 */
double sri_seconds(void);       /* monotonic clock */
uint64_t sri_nanoseconds(void); /* the same clock */
/* Waits of this thread end when they should, and not up to 50 microseconds later as the system likes it for the
 * sake of the battery (Linux). */
void sri_exact_timers(void);
uint64_t sri_random_seed(void);

/* ---- SHA-256 (sha256.c), FIPS 180-4 ---------------------------------------------------------- */

typedef struct sri_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} sri_sha256;

void sri_sha256_init(sri_sha256 *sha);
void sri_sha256_update(sri_sha256 *sha, const void *bytes, size_t len);
void sri_sha256_hex(sri_sha256 *sha, char hex[65]); /* ends the digest */
SR_MUST_CHECK sr_status sri_sha256_file(const char *path, char hex[65], sr_error *error);

/* ---- Thread pool (pool.c) -------------------------------------------------------------------- */

typedef struct sri_pool sri_pool;

/* Runs task `task` of a job on slot `slot` (0 to threads - 1); no two running tasks of a pool share
 * a slot, so scratch memory can be kept per slot. */
typedef void sri_task_fn(void *job, size_t task, int slot);

SR_MUST_CHECK sr_status sri_pool_open(int threads, sri_pool **pool, sr_error *error);
void sri_pool_close(sri_pool **pool);
int sri_pool_threads(const sri_pool *pool);
/* Runs tasks 0 to count - 1 and returns when all are done. The caller computes too. Any number of
 * threads may call it at once; together they never occupy more than `threads` cores. Must not be
 * called by a task. */
void sri_pool_run(sri_pool *pool, sri_task_fn *function, void *job, size_t count);

/* ---- Team (team.c): several threads on one short piece of work ------------------------------- */

typedef struct sri_team sri_team;

/* Runs chunk `chunk` of a phase. */
typedef void sri_chunk_fn(void *job, size_t chunk);
/* Leads a piece of work on slot `slot` of the pool; its phases go through sri_team_run(). */
typedef void sri_lead_fn(void *job, sri_team *team, int slot);

/* Calls `lead` once and returns when it has returned. Workers of the pool that are idle meanwhile
 * help with its phases; where none is, the leader does all alone and loses next to nothing. Helpers
 * spin between phases, so the work should be short (below some milliseconds), and they leave when
 * another caller wants their slot. */
void sri_pool_lead(sri_pool *pool, sri_lead_fn *lead, void *job);

/* Runs chunks 0 to count - 1, at most 65535, on whoever is there, and returns when all are done.
 * `team` may be NULL: they run here, in order. */
void sri_team_run(sri_team *team, sri_chunk_fn *function, void *job, size_t count);

/* Whether a caller waits for a slot of the pool. */
bool sri_pool_wanted(const sri_pool *pool);

#endif
