/*
 * power_vfs.c - see power_vfs.h. The real files always have what was written last, as the kernel's
 * cache has; what is on the disk exists only here, in memory: a `node` for each file with its bytes
 * at the last sync and a list of the changes since, and an `entry` for each name with the node that
 * it means now and the one it means on disk.
 *
 * One mutex guards all of it, and is held while a change is made to the real file too, so that the
 * order of changes here is the order there. Reads, locks and shared memory pass by it.
 */
#include "power_vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECTOR = 512, MAX_NAMES = 64 };

typedef struct bytes {
    uint8_t *data;
    size_t len, capacity;
} bytes;

typedef struct change {
    bool truncation; /* to `at` bytes; otherwise `data` is written at `at` */
    size_t at;
    bytes data;
} change;

typedef struct node {
    bytes stored;
    change *pending;
    size_t count, capacity;
    struct node *next; /* in the list of all */
} node;

typedef struct entry {
    char name[256];
    node *now, *stored; /* NULL: no such file */
} entry;

typedef struct power_file {
    sqlite3_file base;
    node *node;     /* NULL: not one that is watched */
    bool sync_name; /* its first sync syncs the directory too */
    int generation; /* of power_on() */
    sqlite3_file *real;
} power_file;

static struct {
    pthread_mutex_t mutex;
    sqlite3_vfs vfs, *real;
    char directory[512];
    node *nodes;
    entry entries[MAX_NAMES];
    size_t entry_count;
    atomic_int generation;
    atomic_bool cut;
    bool lies;
    long countdown; /* to the cut; 0: none */
    void (*on_cut)(void *user);
    void *on_cut_user;
    power_change fail_kind;
    long fail_countdown;
    bool fail_full, fail_for_good;
    atomic_bool failed;
    atomic_long counts[POWER_CHANGES + 1];
} power = {.mutex = PTHREAD_MUTEX_INITIALIZER};

uint64_t power_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* ---- Bytes ----------------------------------------------------------------------------------- */

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

static void set_length(bytes *self, size_t len) {
    if (len > self->capacity) {
        self->capacity = len + len / 2;
        self->data = must(realloc(self->data, self->capacity));
    }
    if (len > self->len) memset(self->data + self->len, 0, len - self->len);
    self->len = len;
}

static void write_at(bytes *self, size_t at, const uint8_t *data, size_t len) {
    if (at + len > self->len) set_length(self, at + len);
    if (len > 0) memcpy(self->data + at, data, len);
}

static void free_bytes(bytes *self) {
    free(self->data);
    *self = (bytes){0};
}

/* ---- Nodes and names ------------------------------------------------------------------------- */

static node *new_node(void) {
    node *self = must(calloc(1, sizeof *self));
    self->next = power.nodes;
    power.nodes = self;
    return self;
}

static void forget_pending(node *self) {
    for (size_t i = 0; i < self->count; i++) free_bytes(&self->pending[i].data);
    self->count = 0;
}

static void free_nodes(void) {
    for (node *self = power.nodes, *next; self != NULL; self = next) {
        next = self->next;
        forget_pending(self);
        free(self->pending);
        free_bytes(&self->stored);
        free(self);
    }
    power.nodes = NULL;
    power.entry_count = 0;
}

static change *add_change(node *self) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity * 2 + 16;
        self->pending = must(realloc(self->pending, self->capacity * sizeof *self->pending));
    }
    self->pending[self->count] = (change){0};
    return &self->pending[self->count++];
}

static void sync_node(node *self) {
    for (size_t i = 0; i < self->count; i++) {
        const change *made = &self->pending[i];
        if (made->truncation)
            set_length(&self->stored, made->at);
        else
            write_at(&self->stored, made->at, made->data.data, made->data.len);
    }
    forget_pending(self);
}

static void sync_names(void) {
    for (size_t i = 0; i < power.entry_count; i++) power.entries[i].stored = power.entries[i].now;
}

/* The entry of a file below the watched directory, made when there is none; NULL for other files.
 * */
static entry *find_entry(const char *path) {
    size_t len = strlen(power.directory);
    if (path == NULL || len == 0 || strncmp(path, power.directory, len) != 0 || path[len] != '/')
        return NULL;
    const char *name = path + len + 1;
    for (size_t i = 0; i < power.entry_count; i++)
        if (strcmp(power.entries[i].name, name) == 0) return &power.entries[i];
    if (power.entry_count == MAX_NAMES || strlen(name) >= sizeof power.entries[0].name) abort();
    entry *self = &power.entries[power.entry_count++];
    *self = (entry){0};
    snprintf(self->name, sizeof self->name, "%s", name);
    return self;
}

/* ---- The cut and the failures ---------------------------------------------------------------- */

static void cut(void) {
    if (atomic_exchange(&power.cut, true)) return;
    if (power.on_cut != NULL) power.on_cut(power.on_cut_user);
}

/* Whether a change may be made; under the mutex. */
static bool may_change(const power_file *file) {
    if (file != NULL && file->generation != atomic_load(&power.generation)) return false;
    if (!atomic_load(&power.cut) && power.countdown > 0 && --power.countdown == 0) cut();
    return !atomic_load(&power.cut);
}

/* Counts a change; true when it is to fail. */
static bool must_fail(power_change kind) {
    atomic_fetch_add(&power.counts[kind], 1);
    atomic_fetch_add(&power.counts[POWER_ANY], 1);
    bool concerns = power.fail_kind == POWER_ANY || power.fail_kind == kind;
    if (power.fail_full && kind != POWER_WRITE && kind != POWER_OPEN) concerns = false;
    if (!concerns || power.fail_countdown <= 0) return false;
    if (power.fail_countdown > 1) {
        power.fail_countdown--;
        return false;
    }
    if (!power.fail_for_good) power.fail_countdown = 0;
    atomic_store(&power.failed, true);
    return true;
}

static int error_of(int otherwise) { return power.fail_full ? SQLITE_FULL : otherwise; }

/* ---- Files ----------------------------------------------------------------------------------- */

static sqlite3_file *real_of(sqlite3_file *file) { return ((power_file *)file)->real; }

static int close_file(sqlite3_file *base) { return real_of(base)->pMethods->xClose(real_of(base)); }

static int read_file(sqlite3_file *base, void *out, int count, sqlite3_int64 at) {
    if (atomic_load(&power.cut)) return SQLITE_IOERR_READ;
    return real_of(base)->pMethods->xRead(real_of(base), out, count, at);
}

static int write_real(power_file *file, const void *data, int count, sqlite3_int64 at) {
    int result = count == 0 ? SQLITE_OK : file->real->pMethods->xWrite(file->real, data, count, at);
    if (result == SQLITE_OK && file->node != NULL && count > 0) {
        change *made = add_change(file->node);
        made->at = (size_t)at;
        write_at(&made->data, 0, data, (size_t)count);
    }
    return result;
}

static int write_file(sqlite3_file *base, const void *data, int count, sqlite3_int64 at) {
    power_file *file = (power_file *)base;
    int result = SQLITE_IOERR_WRITE;
    pthread_mutex_lock(&power.mutex);
    if (may_change(file)) {
        if (must_fail(POWER_WRITE)) {
            int half = write_real(file, data, count / 2, at);
            result = half != SQLITE_OK ? half : error_of(SQLITE_IOERR_WRITE);
        } else {
            result = write_real(file, data, count, at);
        }
    }
    pthread_mutex_unlock(&power.mutex);
    return result;
}

static int truncate_file(sqlite3_file *base, sqlite3_int64 size) {
    power_file *file = (power_file *)base;
    int result = SQLITE_IOERR_TRUNCATE;
    pthread_mutex_lock(&power.mutex);
    if (may_change(file) && !must_fail(POWER_TRUNCATE)) {
        result = file->real->pMethods->xTruncate(file->real, size);
        if (result == SQLITE_OK && file->node != NULL) {
            change *made = add_change(file->node);
            made->truncation = true;
            made->at = (size_t)size;
        }
    }
    pthread_mutex_unlock(&power.mutex);
    return result;
}

static int sync_file(sqlite3_file *base, int flags) {
    (void)flags;
    power_file *file = (power_file *)base;
    int result = SQLITE_IOERR_FSYNC;
    pthread_mutex_lock(&power.mutex);
    if (may_change(file) && !must_fail(POWER_SYNC)) {
        result = SQLITE_OK;
        if (file->node != NULL && !power.lies) {
            sync_node(file->node);
            if (file->sync_name) sync_names();
            file->sync_name = false;
        }
    }
    pthread_mutex_unlock(&power.mutex);
    return result;
}

static int size_of_file(sqlite3_file *base, sqlite3_int64 *size) {
    if (atomic_load(&power.cut)) return SQLITE_IOERR_FSTAT;
    return real_of(base)->pMethods->xFileSize(real_of(base), size);
}

static int lock_file(sqlite3_file *base, int level) {
    return real_of(base)->pMethods->xLock(real_of(base), level);
}

static int unlock_file(sqlite3_file *base, int level) {
    return real_of(base)->pMethods->xUnlock(real_of(base), level);
}

static int check_reserved(sqlite3_file *base, int *out) {
    return real_of(base)->pMethods->xCheckReservedLock(real_of(base), out);
}

static int control(sqlite3_file *base, int operation, void *argument) {
    return real_of(base)->pMethods->xFileControl(real_of(base), operation, argument);
}

static int sector_size(sqlite3_file *base) {
    return real_of(base)->pMethods->xSectorSize(real_of(base));
}

static int characteristics(sqlite3_file *base) {
    return real_of(base)->pMethods->xDeviceCharacteristics(real_of(base));
}

static int map_shared(sqlite3_file *base, int region, int size, int extend, void volatile **out) {
    return real_of(base)->pMethods->xShmMap(real_of(base), region, size, extend, out);
}

static int lock_shared(sqlite3_file *base, int offset, int count, int flags) {
    return real_of(base)->pMethods->xShmLock(real_of(base), offset, count, flags);
}

static void order_shared(sqlite3_file *base) {
    real_of(base)->pMethods->xShmBarrier(real_of(base));
}

static int unmap_shared(sqlite3_file *base, int deletes) {
    return real_of(base)->pMethods->xShmUnmap(real_of(base), deletes);
}

/* Version 2: without mapping of the file itself. */
static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = close_file,
    .xRead = read_file,
    .xWrite = write_file,
    .xTruncate = truncate_file,
    .xSync = sync_file,
    .xFileSize = size_of_file,
    .xLock = lock_file,
    .xUnlock = unlock_file,
    .xCheckReservedLock = check_reserved,
    .xFileControl = control,
    .xSectorSize = sector_size,
    .xDeviceCharacteristics = characteristics,
    .xShmMap = map_shared,
    .xShmLock = lock_shared,
    .xShmBarrier = order_shared,
    .xShmUnmap = unmap_shared,
};

/* ---- The VFS --------------------------------------------------------------------------------- */

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* Gives an opened file its node. A file that others have removed or made is a new one. */
static void watch(power_file *file, entry *name, bool made, int flags) {
    if (name->now == NULL || made) name->now = new_node();
    file->node = name->now;
    file->sync_name = (flags & SQLITE_OPEN_CREATE) != 0 &&
                      (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL)) != 0;
}

static int open_watched(power_file *file, const char *path, int flags, int *out_flags,
                        entry *name) {
    bool made = (flags & SQLITE_OPEN_CREATE) != 0 && !exists(path);
    if (atomic_load(&power.cut) || (made && !may_change(NULL))) return SQLITE_CANTOPEN;
    if ((flags & SQLITE_OPEN_CREATE) != 0 && must_fail(POWER_OPEN))
        return error_of(SQLITE_CANTOPEN);
    int result = power.real->xOpen(power.real, path, file->real, flags, out_flags);
    if (result == SQLITE_OK) watch(file, name, made, flags);
    return result;
}

static int open_file(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags,
                     int *out_flags) {
    (void)vfs;
    power_file *file = (power_file *)base;
    *file = (power_file){.real = (sqlite3_file *)(file + 1)};
    file->real->pMethods = NULL;
    pthread_mutex_lock(&power.mutex);
    file->generation = atomic_load(&power.generation);
    entry *name = find_entry(path);
    int result = name != NULL ? open_watched(file, path, flags, out_flags, name)
                              : power.real->xOpen(power.real, path, file->real, flags, out_flags);
    pthread_mutex_unlock(&power.mutex);
    base->pMethods = file->real->pMethods != NULL ? &methods : NULL;
    return result;
}

static int delete_file(sqlite3_vfs *vfs, const char *path, int sync) {
    (void)vfs;
    int result = SQLITE_IOERR_DELETE;
    pthread_mutex_lock(&power.mutex);
    entry *name = find_entry(path);
    if (name == NULL) {
        result = power.real->xDelete(power.real, path, sync);
    } else if (may_change(NULL) && !must_fail(POWER_DELETE)) {
        result = power.real->xDelete(power.real, path, 0);
        if (result == SQLITE_OK) name->now = NULL;
        if (result == SQLITE_OK && sync && !power.lies) sync_names();
    }
    pthread_mutex_unlock(&power.mutex);
    return result;
}

static int access_file(sqlite3_vfs *vfs, const char *path, int flags, int *out) {
    (void)vfs;
    return power.real->xAccess(power.real, path, flags, out);
}

static int full_path(sqlite3_vfs *vfs, const char *path, int size, char *out) {
    (void)vfs;
    return power.real->xFullPathname(power.real, path, size, out);
}

static void make_vfs(void) {
    if (power.real != NULL) return;
    power.real = sqlite3_vfs_find(NULL);
    power.vfs = *power.real;
    power.vfs.zName = "power";
    power.vfs.pNext = NULL;
    power.vfs.szOsFile = (int)sizeof(power_file) + power.real->szOsFile;
    power.vfs.xOpen = open_file;
    power.vfs.xDelete = delete_file;
    power.vfs.xAccess = access_file;
    power.vfs.xFullPathname = full_path;
}

/* ---- On and off ------------------------------------------------------------------------------ */

static bool is_volatile(const char *name) {
    size_t len = strlen(name);
    return name[0] == '.' || (len > 4 && strcmp(name + len - 4, "-shm") == 0);
}

static void take_file(const char *path, bytes *out) {
    FILE *file = must(fopen(path, "rb"));
    uint8_t piece[65536];
    for (size_t got; (got = fread(piece, 1, sizeof piece, file)) > 0;)
        write_at(out, out->len, piece, got);
    fclose(file);
}

static void take_directory(void) {
    DIR *directory = must(opendir(power.directory));
    for (struct dirent *found; (found = readdir(directory)) != NULL;) {
        char path[800];
        if (is_volatile(found->d_name)) continue;
        snprintf(path, sizeof path, "%s/%s", power.directory, found->d_name);
        entry *name = find_entry(path);
        name->now = name->stored = new_node();
        take_file(path, &name->now->stored);
    }
    closedir(directory);
}

void power_on(const char *directory) {
    make_vfs();
    pthread_mutex_lock(&power.mutex);
    free_nodes();
    snprintf(power.directory, sizeof power.directory, "%s", directory);
    take_directory();
    atomic_fetch_add(&power.generation, 1);
    atomic_store(&power.cut, false);
    atomic_store(&power.failed, false);
    power.lies = false;
    power.countdown = power.fail_countdown = 0;
    power.on_cut = NULL;
    for (int i = 0; i <= POWER_CHANGES; i++) atomic_store(&power.counts[i], 0);
    pthread_mutex_unlock(&power.mutex);
    sqlite3_vfs_register(&power.vfs, 1);
}

void power_off(void) {
    if (power.real != NULL) sqlite3_vfs_register(power.real, 1);
}

void power_cut_after(long n) {
    pthread_mutex_lock(&power.mutex);
    power.countdown = n;
    pthread_mutex_unlock(&power.mutex);
}

void power_cut_now(void) {
    pthread_mutex_lock(&power.mutex);
    cut();
    pthread_mutex_unlock(&power.mutex);
}

bool power_is_cut(void) { return atomic_load(&power.cut); }

void power_on_cut(void (*function)(void *user), void *user) {
    pthread_mutex_lock(&power.mutex);
    power.on_cut = function;
    power.on_cut_user = user;
    pthread_mutex_unlock(&power.mutex);
}

void power_lie(void) {
    pthread_mutex_lock(&power.mutex);
    power.lies = true;
    pthread_mutex_unlock(&power.mutex);
}

void power_fail(power_change kind, long n, bool full, bool for_good) {
    pthread_mutex_lock(&power.mutex);
    power.fail_kind = kind;
    power.fail_countdown = n;
    power.fail_full = full;
    power.fail_for_good = for_good;
    atomic_store(&power.failed, false);
    pthread_mutex_unlock(&power.mutex);
}

bool power_failed(void) { return atomic_load(&power.failed); }

long power_count(power_change kind) { return atomic_load(&power.counts[kind]); }

/* ---- What is found afterwards ---------------------------------------------------------------- */

/* How much of what was not synced survives, in percent, the same for a whole outcome: a cut soon
 * after a sync differs from one long after. */
typedef struct outcome {
    uint64_t random;
    unsigned kept, spoilt; /* of sectors: as written; as anything, or zeros */
    bool whole;            /* writes are kept or dropped whole */
} outcome;

static unsigned percent(outcome *self) { return (unsigned)(power_random(&self->random) % 100); }

static outcome pick_outcome(uint64_t seed) {
    static const unsigned kept[] = {0, 10, 50, 50, 90, 100};
    outcome self = {.random = seed};
    self.kept = kept[power_random(&self.random) % 6];
    self.spoilt = percent(&self) < 30 ? 10 : 0;
    self.whole = percent(&self) < 30;
    return self;
}

static void spoil(outcome *self, uint8_t *data, size_t len) {
    bool zeros = percent(self) < 50;
    for (size_t i = 0; i < len; i++)
        data[i] = zeros ? 0 : (uint8_t)(power_random(&self->random) >> 17);
}

/* A write, sector by sector. */
static void write_some(outcome *self, bytes *found, const change *made) {
    uint8_t sector[SECTOR];
    for (size_t done = 0, len; done < made->data.len; done += len) {
        size_t at = made->at + done;
        len = SECTOR - at % SECTOR;
        if (len > made->data.len - done) len = made->data.len - done;
        memcpy(sector, made->data.data + done, len);
        bool spoilt = percent(self) < self->spoilt;
        if (spoilt) spoil(self, sector, len);
        if (spoilt || self->whole || percent(self) < self->kept) write_at(found, at, sector, len);
    }
}

static void find_bytes(outcome *self, const node *of, bytes *found) {
    write_at(found, 0, of->stored.data, of->stored.len);
    for (size_t i = 0; i < of->count; i++) {
        const change *made = &of->pending[i];
        if ((made->truncation || self->whole) && percent(self) >= self->kept) continue;
        if (made->truncation)
            set_length(found, made->at);
        else
            write_some(self, found, made);
    }
}

static void clear_directory(const char *path) {
    DIR *directory = must(opendir(path));
    for (struct dirent *found; (found = readdir(directory)) != NULL;) {
        char name[800];
        snprintf(name, sizeof name, "%s/%s", path, found->d_name);
        if (found->d_name[0] != '.') unlink(name);
    }
    closedir(directory);
}

static void put_file(const char *directory, const char *name, const bytes *content) {
    char path[800];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = must(fopen(path, "wb"));
    bool written =
        content->len == 0 || fwrite(content->data, 1, content->len, file) == content->len;
    if (fclose(file) != 0 || !written) abort();
}

void power_restore(const char *directory, uint64_t seed) {
    outcome self = pick_outcome(seed);
    pthread_mutex_lock(&power.mutex);
    clear_directory(directory);
    for (size_t i = 0; i < power.entry_count; i++) {
        const entry *name = &power.entries[i];
        const node *of = percent(&self) < self.kept ? name->now : name->stored;
        if (of == NULL) continue;
        bytes found = {0};
        find_bytes(&self, of, &found);
        put_file(directory, name->name, &found);
        free_bytes(&found);
    }
    pthread_mutex_unlock(&power.mutex);
}
