/*
 * power_vfs.h - a VFS of SQLite that can lose its power, and one that can fail at any moment.
 *
 * A kill does not lose what the kernel holds, so what a database promises for a loss of power
 * cannot be tested by killing. This VFS hands everything to SQLite's own and remembers, for each
 * file below one directory, what would be on the disk: the bytes as of its last sync, the writes
 * and truncations since, and the names that the directory had at its last sync. When the power is
 * cut, power_restore() writes the files as they could then be found: each sector of each write that
 * was not synced is there, or not, or holds anything; likewise each truncation and each name. From
 * the cut on every call on a file fails, so that the program under test can be closed without doing
 * anything more.
 *
 * A sector is 512 bytes, and bytes outside a write are never harmed by it (what SQLite calls
 * POWERSAFE_OVERWRITE and takes for granted). Deleting and making a file is on disk when the
 * directory is synced, which SQLite asks for with the deletion, or with the first sync of a journal
 * or log that it has made. Shared memory (-shm) is not on any disk.
 *
 * Only one simulation at a time; any number of threads and connections within it. What other code
 * than SQLite writes is not seen.
 */
#ifndef SR_TESTS_POWER_VFS_H
#define SR_TESTS_POWER_VFS_H

#include <stdbool.h>
#include <stdint.h>

/* Makes this VFS the default one, for connections opened from now on, and takes the files in
 * `directory` as being on disk. Forgets all about earlier ones; no connection of those may be open.
 * */
void power_on(const char *directory);

/* Makes SQLite's own VFS the default again. Connections that are open keep this one. */
void power_off(void);

/* The power is cut just before the n-th change from now on: a write, truncation, sync, deletion, or
 * making of a file. 0: never. */
void power_cut_after(long n);
void power_cut_now(void);
bool power_is_cut(void);

/* Called once, on the thread whose change is cut, before anything fails; NULL: none. */
void power_on_cut(void (*function)(void *user), void *user);

/* From now on syncs do nothing, as with a disk that lies or with `PRAGMA synchronous = OFF`.
 * power_on() ends it. */
void power_lie(void);

/* After a cut, once all connections are closed: replaces what is in `directory` by one possible
 * outcome, picked by `seed`. */
void power_restore(const char *directory, uint64_t seed);

/* ---- Failures -------------------------------------------------------------------------------- */

typedef enum power_change {
    POWER_OPEN, /* that may make the file */
    POWER_WRITE,
    POWER_TRUNCATE,
    POWER_SYNC,
    POWER_DELETE,
    POWER_CHANGES,
    POWER_ANY = POWER_CHANGES
} power_change;

/* The n-th change of this kind from now on fails, and all after it when `for_good`: as on a full
 * disk when `full` (writes and files being made only), with an error of input and output otherwise.
 * A failing write may leave its first half. n = 0: none fails. */
void power_fail(power_change kind, long n, bool full, bool for_good);
/* Whether the failure asked for last has come about. */
bool power_failed(void);
/* Changes of this kind since power_on(). */
long power_count(power_change kind);

/* A generator of random numbers: splitmix64. `state` is any number. */
uint64_t power_random(uint64_t *state);

#endif
