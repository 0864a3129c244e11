/*
 * sqlite_open.c - finding out what a file is before touching it, opening it, and making a new one.
 *
 * SQLite changes files by opening them: it rolls back journals, and moves what a write-ahead log holds into
 * the main file. So the head of the file is read first, and a file that is not ours is never opened for
 * writing. A new database is made in one transaction that also sets application_id and schema version, and
 * turned to WAL after that; so a file with our application_id in its head is always complete, or has a
 * journal from which SQLite restores the empty file it was.
 *
 * Reading needs the -shm file beside a WAL database, which cannot be made in a read-only directory or on a
 * read-only disk. Where the log is empty the file is then opened as immutable, unless a journal tells of a
 * change that was interrupted, of which the file may hold a part; a process that starts writing
 * at that moment, with more rights than we have, is not seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/sqlite_int.h"

/* A reader takes an empty file for one that is being made, for half a second. */
#define EMPTY_LOOKS       50
#define EMPTY_NANOSECONDS 10000000

/* How often a lock is looked at that another has: at first, and when that lasts. */
#define OFTEN_SECONDS      0.5
#define OFTEN_NANOSECONDS  300000
#define SELDOM_NANOSECONDS 2000000

/* ---- The connection ------------------------------------------------------------------------------- */

/* SQLite's own handler soon looks ten times a second only, and so never finds the moment in which a busy writer is
 * between two groups (group.c). A look takes some microseconds. */
static int look_again(void *user, int looks) {
    sqlite_store *store = user;
    double now = sri_seconds();
    if (looks == 0) store->waiting_since = now;
    if (now - store->waiting_since >= store->patience) return 0;
    bool first = now - store->waiting_since < OFTEN_SECONDS;
    nanosleep(&(struct timespec){0, first ? OFTEN_NANOSECONDS : SELDOM_NANOSECONDS}, NULL);
    return 1;
}

static sr_status configure(sqlite_store *store, sr_error *error) {
    store->patience = BUSY_SECONDS;
    sqlite3_busy_handler(store->db, look_again, store);
    /* A hostile file must not run anything of its own. */
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    return sri_sqlite_run(store,
                          "PRAGMA synchronous = EXTRA; PRAGMA cache_size = -8000; PRAGMA "
                          "journal_size_limit = 67108864;"
                          "PRAGMA temp_store = MEMORY",
                          "set up", error);
}

/* `path` so that SQLite takes it for a file's name whatever it begins with; as a URI when `immutable`. */
static bool append_name(sri_buffer *name, const char *path, bool immutable) {
    bool enough = true;
    if (immutable) enough = sri_buffer_append_str(name, "file:");
    if (path[0] != '/') enough = enough && sri_buffer_append_str(name, "./");
    for (const char *c = path; *c != '\0' && enough; c++) {
        if (immutable && strchr("%?#", *c) != NULL)
            enough = sri_buffer_format(name, "%%%02X", (unsigned)*c);
        else
            enough = sri_buffer_append(name, c, 1);
    }
    if (immutable) enough = enough && sri_buffer_append_str(name, "?immutable=1");
    return enough && sri_buffer_append(name, "", 1);
}

static sr_status open_connection(sqlite_store *store, int mode, sr_error *error) {
    sri_buffer name = {0};
    int result = SQLITE_NOMEM;
    if (append_name(&name, store->path, store->immutable))
        result =
            sqlite3_open_v2(name.data, &store->db,
                            mode | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
                                SQLITE_OPEN_PRIVATECACHE | (store->immutable ? SQLITE_OPEN_URI : 0),
                            NULL);
    sri_buffer_free(&name);
    if (result != SQLITE_OK) return sri_sqlite_fail(store, result, "open database", error);
    return configure(store, error);
}

void sri_sqlite_disconnect(sqlite_store *store) {
    atomic_store(&store->connected, false);
    for (int i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
}

/* ---- What the file is --------------------------------------------------------------------------- */

typedef enum file_kind {
    FILE_MISSING,
    FILE_EMPTY,
    FILE_OURS,
    FILE_BLANK_DATABASE,
    FILE_OLD_PACKAGE /* of the old Python package */
} file_kind;

typedef struct file_head {
    uint8_t bytes[100];
    size_t count;
    uint64_t size;
} file_head;

static uint32_t big_endian(const uint8_t *bytes) {
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The size of the file with this suffix; 0 when there is none. */
static uint64_t side_file_size(const char *path, const char *suffix) {
    sri_buffer name = {0};
    struct stat status = {0};
    if (sri_buffer_format(&name, "%s%s%c", path, suffix, '\0') && stat(name.data, &status) != 0)
        status.st_size = 0;
    sri_buffer_free(&name);
    return (uint64_t)status.st_size;
}

sr_status sri_sqlite_another_program(const char *path, sr_error *error) {
    return sri_fail(error, SR_ERR_DATABASE, path,
                    "%s is a database of another program; name another file with --db", path);
}

static void parent_of(const char *path, char *parent, size_t capacity) {
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (len == 0 || len >= capacity)
        snprintf(parent, capacity, ".");
    else
        snprintf(parent, capacity, "%.*s", (int)len, path);
}

static sr_status check_missing(const char *path, unsigned flags, sr_error *error) {
    char parent[4096];
    if ((flags & (SRI_STORE_EXISTING | SRI_STORE_READ_ONLY)) != 0)
        return sri_fail(error, SR_ERR_NOT_FOUND, path, "there is no database %s", path);
    parent_of(path, parent, sizeof parent);
    if (!sri_is_directory(parent))
        return sri_fail(
            error, SR_ERR_NOT_FOUND, path,
            "cannot create %s: there is no directory %s; create it or name another file", path,
            parent);
    if (access(parent, W_OK) != 0)
        return sri_fail(error, SR_ERR_READ_ONLY, path,
                        "cannot create %s: directory %s cannot be written; name another file", path,
                        parent);
    return SR_OK;
}

/* Through SQLite's own file system: a descriptor of ours, when it is closed, would take with it the locks that
 * this process has on the file, and another process would think that it is the last one and remove our log. */
static sr_status open_plainly(const char *path, sqlite3_file **file, char **name, sr_error *error) {
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    size_t room = (size_t)vfs->mxPathname + 2; /* SQLite's names have something behind their end */
    *file = sri_alloc_zero(1, (size_t)vfs->szOsFile);
    *name = sri_alloc_zero(1, room);
    if (*file == NULL || *name == NULL) return sri_fail_memory(error);
    int result = vfs->xFullPathname(vfs, path, vfs->mxPathname, *name) & 0xFF;
    if (result == SQLITE_OK)
        result = vfs->xOpen(vfs, *name, *file, SQLITE_OPEN_READONLY | SQLITE_OPEN_MAIN_DB, NULL);
    if (result == SQLITE_OK) return SR_OK;
    int cause = access(path, R_OK) == 0 ? EIO : errno;
    return sri_fail_errno(error, cause, path, "cannot read database %s", path);
}

/* The size comes after the bytes: of a file that grows meanwhile it is then rather too large. */
static sr_status read_open_head(sqlite3_file *file, const char *path, file_head *head,
                                sr_error *error) {
    sqlite3_int64 size = 0;
    int result = file->pMethods->xRead(file, head->bytes, sizeof head->bytes, 0);
    bool whole = result == SQLITE_OK;
    if (whole || result == SQLITE_IOERR_SHORT_READ) result = file->pMethods->xFileSize(file, &size);
    if (result != SQLITE_OK)
        return sri_fail(error, SR_ERR_IO, path, "cannot read database %s: %s", path,
                        sqlite3_errstr(result));
    head->size = (uint64_t)size;
    head->count = whole ? sizeof head->bytes : SRI_MIN((size_t)size, sizeof head->bytes - 1);
    return SR_OK;
}

static sr_status read_head(const char *path, file_head *head, sr_error *error) {
    sqlite3_file *file = NULL;
    char *name = NULL;
    sr_status code = open_plainly(path, &file, &name, error);
    if (code == SR_OK) code = read_open_head(file, path, head, error);
    if (file != NULL && file->pMethods != NULL) file->pMethods->xClose(file);
    sri_free(file);
    sri_free(name);
    return code;
}

/* Makes the first access to the file. */
static sr_status read_application(sqlite_store *store, int64_t *application, sr_error *error) {
    return sri_sqlite_integer(store, "PRAGMA application_id", application, error);
}

/* Whether the first bytes of the file with this suffix can be read. Nobody locks such a file. */
static bool read_side_file(const char *path, const char *suffix, uint8_t *bytes, size_t count) {
    sri_buffer name = {0};
    int file = -1;
    if (sri_buffer_format(&name, "%s%s%c", path, suffix, '\0'))
        file = open(name.data, O_RDONLY | O_CLOEXEC);
    sri_buffer_free(&name);
    if (file < 0) return false;
    bool whole = pread(file, bytes, count, 0) == (ssize_t)count;
    close(file);
    return whole;
}

static bool has_log(const char *path) {
    uint8_t magic[4];
    return read_side_file(path, "-wal", magic, sizeof magic) &&
           (big_endian(magic) & ~1u) == 0x377f0682;
}

/* Whether SQLite would put right a file that does not look like a database, as a loss of power can leave it: by a
 * journal that says that it was empty before, or by a log. Its bytes mean nothing until then. */
static bool can_be_put_right(const char *path) {
    static const uint8_t journal_magic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
    uint8_t bytes[20] = {0};
    if (read_side_file(path, "-journal", bytes, sizeof bytes) &&
        memcmp(bytes, journal_magic, sizeof journal_magic) == 0 && big_endian(bytes + 16) == 0)
        return true;
    return has_log(path);
}

/* Asks SQLite what a database is whose head does not say so, without the right to change it. One that
 * is FILE_BLANK_DATABASE may have tables. */
static sr_status probe(const char *path, bool immutable, file_kind *kind, int64_t *tables,
                       sr_error *error) {
    sqlite_store store = {.path = (char *)(uintptr_t)path, .immutable = immutable};
    int64_t application = 0;
    bool old = false;
    *tables = 0;
    sr_status code = open_connection(&store, SQLITE_OPEN_READONLY, error);
    if (code == SR_OK) code = read_application(&store, &application, error);
    if (code == SR_OK)
        code = sri_sqlite_integer(&store, "SELECT count(*) FROM sqlite_master", tables, error);
    if (code == SR_OK && *tables > 0) code = sri_sqlite_is_old_package(&store, &old, error);
    sri_sqlite_disconnect(&store);
    bool ours = application == APPLICATION_ID;
    *kind = ours ? FILE_OURS : old ? FILE_OLD_PACKAGE : FILE_BLANK_DATABASE;
    return code;
}

/* What a database without application_id is. One in WAL mode cannot be opened without leaving something
 * beside it, unless as one that nobody writes to. But what waits in a log counts: of a database that
 * was just taken over the head says nothing yet, and one whose log was being copied into it when its
 * process was killed looks damaged without. */
static sr_status check_unsigned(const char *path, const file_head *head, file_kind *kind,
                                sr_error *error) {
    bool logged = head->bytes[18] != 1;
    int64_t tables;
    if (side_file_size(path, "-journal") > 0) return sri_sqlite_another_program(path, error);
    sr_status code = probe(path, logged && !has_log(path), kind, &tables, error);
    bool blank = *kind == FILE_BLANK_DATABASE;
    bool another = code == SR_OK ? blank && (tables > 0 || logged) : logged;
    return another ? sri_sqlite_another_program(path, error) : code;
}

/* SQLite would notice some truncations only when it comes to a page that is not there. While a log or a
 * journal is there to be replayed, the size may rightly differ. */
static sr_status check_size(const char *path, const file_head *head, sr_error *error) {
    uint32_t page = (uint32_t)head->bytes[16] << 8 | head->bytes[17];
    if (page == 1) page = 65536;
    bool valid = big_endian(head->bytes + 24) == big_endian(head->bytes + 92);
    uint64_t expected = (uint64_t)big_endian(head->bytes + 28) * page;
    if (!valid || head->size >= expected) return SR_OK;
    if (side_file_size(path, "-wal") > 0 || side_file_size(path, "-journal") > 0) return SR_OK;
    return sri_fail(error, SR_ERR_FORMAT, path,
                    "database %s is truncated: it has %llu of %llu bytes; restore it from a copy",
                    path, (unsigned long long)head->size, (unsigned long long)expected);
}

static sr_status check_head(const char *path, const file_head *head, file_kind *kind,
                            sr_error *error) {
    if (head->count < sizeof head->bytes || memcmp(head->bytes, "SQLite format 3", 16) != 0)
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s is not a database; name another file with --db", path);
    uint32_t application = big_endian(head->bytes + 68), version = big_endian(head->bytes + 60);
    if (application == 0 && version == 0) return check_unsigned(path, head, kind, error);
    if (application != APPLICATION_ID) return sri_sqlite_another_program(path, error);
    if (version > SRI_STORE_SCHEMA)
        return sri_fail(
            error, SR_ERR_DATABASE, path,
            "database %s has schema %u, written by a newer version; this one knows %d: upgrade",
            path, version, SRI_STORE_SCHEMA);
    *kind = FILE_OURS;
    return check_size(path, head, error);
}

/* What a log held may have come into the file between two looks at it, so a fault must be seen twice. */
static sr_status examine_head(const char *path, file_kind *kind, sr_error *error) {
    sr_status code = SR_OK;
    for (int attempt = 0; attempt < 2; attempt++) {
        file_head head = {0};
        *kind = FILE_EMPTY;
        code = read_head(path, &head, error);
        if (code == SR_OK && head.count > 0) code = check_head(path, &head, kind, error);
        if (code != SR_ERR_FORMAT) break;
    }
    if (code != SR_ERR_FORMAT || !can_be_put_right(path)) return code;
    *kind = FILE_BLANK_DATABASE; /* until it says otherwise */
    return SR_OK;
}

static sr_status examine(const char *path, unsigned flags, file_kind *kind, sr_error *error) {
    struct stat status;
    *kind = FILE_MISSING;
    if (stat(path, &status) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return check_missing(path, flags, error);
        return sri_fail_errno(error, errno, path, "cannot open database %s", path);
    }
    if (S_ISDIR(status.st_mode))
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s is a directory, not a database; name a file with --db", path);
    if (!S_ISREG(status.st_mode))
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s is not a regular file; name another with --db", path);
    sr_status code = examine_head(path, kind, error);
    if ((flags & SRI_STORE_READ_ONLY) == 0) return code;
    for (int i = 0; code == SR_OK && *kind == FILE_EMPTY && i < EMPTY_LOOKS; i++) {
        nanosleep(&(struct timespec){0, EMPTY_NANOSECONDS}, NULL);
        code = examine_head(path, kind, error);
    }
    if (code == SR_OK && *kind == FILE_EMPTY)
        code = sri_fail(error, SR_ERR_FORMAT, path, "%s is empty; open it once for writing", path);
    return code;
}

/* ---- An existing database ------------------------------------------------------------------------- */

/* SQLite opens a file that may be written in a directory that may not, and finds out at the first write that
 * it cannot make a log. So in such a directory writing is tried, with nothing to write. */
static bool log_cannot_be_made(sqlite_store *store) {
    char parent[4096];
    parent_of(store->path, parent, sizeof parent);
    if (access(parent, W_OK) == 0) return false;
    sr_status code = sri_sqlite_run(store, "BEGIN IMMEDIATE", "write to", NULL);
    if (code == SR_OK) code = sri_sqlite_run(store, "ROLLBACK", "write to", NULL);
    return code != SR_OK && code != SR_ERR_BUSY;
}

/* Opens an existing file as far as its rights allow. */
static sr_status open_existing(sqlite_store *store, unsigned flags, sr_error *error) {
    bool wanted_read_only = (flags & SRI_STORE_READ_ONLY) != 0;
    int64_t application;
    sr_error first;
    sr_status code = open_connection(
        store, wanted_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE, &first);
    if (code == SR_OK) code = read_application(store, &application, &first);
    if (code == SR_OK) {
        atomic_store(&store->base.read_only, wanted_read_only ||
                                                 sqlite3_db_readonly(store->db, "main") == 1 ||
                                                 log_cannot_be_made(store));
        return SR_OK;
    }
    /* The connection reports extended codes; the kind is in the low byte. */
    int result = store->db == NULL ? SQLITE_NOMEM : sqlite3_errcode(store->db) & 0xFF;
    sri_sqlite_disconnect(store);
    if (result != SQLITE_CANTOPEN && result != SQLITE_READONLY) {
        if (error != NULL) *error = first;
        return code;
    }
    if (side_file_size(store->path, "-wal") > 0)
        return sri_fail(error, SR_ERR_READ_ONLY, store->path,
                        "cannot read database %s: changes wait in %s-wal and its directory cannot "
                        "be written; open "
                        "it once from an account that may write",
                        store->path, store->path);
    if (side_file_size(store->path, "-journal") > 0)
        return sri_fail(error, SR_ERR_READ_ONLY, store->path,
                        "cannot read database %s: a change to it was interrupted; open it once for "
                        "writing, as `add` and `import` do, so that it is undone",
                        store->path);
    atomic_store(&store->base.read_only, true);
    store->immutable = true;
    code = open_connection(store, SQLITE_OPEN_READONLY, error);
    return code != SR_OK ? code : read_application(store, &application, error);
}

/* ---- Opening and making -------------------------------------------------------------------------------- */

static sr_status check_opened(sqlite_store *store, sr_error *error) {
    int64_t application = 0, version = 0;
    sr_status code = read_application(store, &application, error);
    if (code == SR_OK) code = sri_sqlite_integer(store, "PRAGMA user_version", &version, error);
    if (code != SR_OK) return code;
    if (application != APPLICATION_ID) return sri_sqlite_another_program(store->path, error);
    if (version < 1 || version > SRI_STORE_SCHEMA)
        return sri_fail(error, SR_ERR_DATABASE, store->path,
                        "database %s has schema %lld; this version knows 1 to %d", store->path,
                        (long long)version, SRI_STORE_SCHEMA);
    code = sri_sqlite_check_tables(store, version, error);
    if (code == SR_OK && version < SRI_STORE_SCHEMA && !atomic_load(&store->base.read_only)) {
        code = sri_sqlite_migrate(store, error);
        version = SRI_STORE_SCHEMA;
    }
    atomic_store(&store->base.schema, (int)version);
    return code;
}

/* A database that could not be made leaves no empty file. Its lock keeps others from making theirs in it
 * meanwhile; who waits for the lock finds the file gone (see check_moved()). */
static void remove_empty(sqlite_store *store) {
    struct stat status;
    sr_status code = sri_sqlite_run(store, "BEGIN EXCLUSIVE", "make database", NULL);
    if (code == SR_OK && stat(store->path, &status) == 0 && status.st_size == 0)
        unlink(store->path);
}

/* Whether the file that was just made is still there under its name. */
static sr_status check_moved(sqlite_store *store, sr_error *error) {
    int moved = 0;
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return moved == 0
               ? SR_OK
               : sri_fail(error, SR_ERR_BUSY, store->path,
                          "another process removed %s while it was made; try again", store->path);
}

static sr_status take_log(sqlite_store *store, sqlite3_stmt *row, void *user, sr_error *error) {
    (void)store, (void)error;
    *(bool *)user = sri_str_equal(sri_sqlite_text(row, 0), sr_str_of("wal"));
    return SR_OK;
}

/* Syncing at checkpoints is enough where there is a log, and there alone: on a file system that cannot have one (it needs
 * shared memory), a journal must be synced step by step, its directory included. */
static sr_status use_log(sqlite_store *store, sr_error *error) {
    bool logged = false;
    sr_status code =
        sri_sqlite_each(store, "PRAGMA journal_mode = WAL", NULL, 0, take_log, &logged, error);
    if (code != SR_OK || !logged) return code;
    return sri_sqlite_run(store, "PRAGMA synchronous = NORMAL", "use a log for database", error);
}

/* Whether the connection, which holds the exclusive lock, has the file to itself: a log is another's by then. */
static bool is_unused(sqlite_store *store) {
    int64_t revision = -1;
    bool logged = true;
    sr_status code =
        sri_sqlite_each(store, "PRAGMA journal_mode", NULL, 0, take_log, &logged, NULL);
    if (code == SR_OK)
        code = sri_sqlite_integer(store, "SELECT value FROM meta WHERE key = 'revision'", &revision,
                                  NULL);
    return !logged && code == SR_OK && revision == 0;
}

/* Leaving the log behind succeeds only while nobody else has the file open. Who opens it from then on turns it to a
 * log again, which is seen under the lock, or waits for the lock and finds the file moved. */
void sri_sqlite_unmake(sqlite_store *store) {
    store->patience = 0;
    sr_status code = sri_sqlite_run(store, "PRAGMA journal_mode = DELETE", "leave", NULL);
    if (code == SR_OK) code = sri_sqlite_run(store, "BEGIN EXCLUSIVE", "leave", NULL);
    if (code == SR_OK && is_unused(store)) unlink(store->path);
    sri_sqlite_disconnect(store);
}

static sr_status cannot_be_made(const sqlite_store *store, file_kind kind, sr_error *error) {
    if (kind == FILE_OLD_PACKAGE)
        return sri_fail(error, SR_ERR_READ_ONLY, store->path,
                        "%s is a database of the old Python package; %s, so that it is taken over",
                        store->path,
                        (store->flags & SRI_STORE_READ_ONLY) != 0
                            ? "open it once for writing, as `fit` and `add` do"
                            : "check its permissions and its directory's");
    return sri_fail(error, SR_ERR_READ_ONLY, store->path,
                    "%s holds no route table and cannot be written; name another file with --db",
                    store->path);
}

static sr_status open_or_make(sqlite_store *store, file_kind kind, unsigned flags,
                              sr_error *error) {
    sr_status code;
    if (kind == FILE_MISSING)
        code = open_connection(store, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, error);
    else
        code = open_existing(store, flags, error);
    if (code != SR_OK) return code;
    int64_t application = 0;
    code = read_application(store, &application, error);
    if (code == SR_OK && application == 0) {
        if (atomic_load(&store->base.read_only)) return cannot_be_made(store, kind, error);
        code = kind == FILE_OLD_PACKAGE ? sri_sqlite_adopt(store, error)
                                        : sri_sqlite_create(store, error);
    }
    if (code == SR_OK) code = check_opened(store, error);
    if (code == SR_OK && !store->base.read_only) code = use_log(store, error);
    return code == SR_OK ? check_moved(store, error) : code;
}

sr_status sri_sqlite_connect(sqlite_store *store, bool make, sr_error *error) {
    file_kind kind;
    store->immutable = false;
    sr_status code = examine(store->path, store->flags, &kind, error);
    if (code != SR_OK || (kind == FILE_MISSING && !make)) return code;
    /* A log might tell that it is ours by now. */
    if (kind == FILE_OLD_PACKAGE && (store->flags & SRI_STORE_READ_ONLY) != 0 &&
        side_file_size(store->path, "-wal") == 0)
        return cannot_be_made(store, kind, error);
    code = open_or_make(store, kind, store->flags, error);
    if (code == SR_OK) {
        atomic_store(&store->connected, true);
        return SR_OK;
    }
    if (kind == FILE_MISSING && store->db != NULL) remove_empty(store);
    sri_sqlite_disconnect(store); /* the next call may have more luck */
    return code;
}

sr_status sri_sqlite_wake(sqlite_store *store, sr_error *error) {
    if (store->db != NULL || access(store->path, F_OK) != 0) return SR_OK;
    return sri_sqlite_connect(store, false, error);
}

/* A small cache does: what is read again and again are the few pages at the top of a tree. */
sr_status sri_sqlite_connect_beside(sqlite_store *link, bool writable, sr_error *error) {
    sr_status code =
        open_connection(link, writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, error);
    if (code == SR_OK)
        code = sri_sqlite_run(link, "PRAGMA cache_size = -2000; PRAGMA synchronous = NORMAL",
                              "set up", error);
    if (code != SR_OK) sri_sqlite_disconnect(link);
    return code;
}
