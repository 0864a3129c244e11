/* api_keys.c - the file of API keys; see api_keys.h. */
#include "io/api_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILE ((size_t)16 << 20)

static bool is_role(const char *role) {
    return strcmp(role, "read") == 0 || strcmp(role, "write") == 0 || strcmp(role, "admin") == 0;
}

static bool is_hex(const char *text, size_t len) {
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

static bool is_name(const char *name) {
    size_t len = strlen(name);
    return len > 0 && len < sizeof((sri_api_key *)0)->name &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == len;
}

static sri_api_key *find(const sri_api_keys *keys, const char *name) {
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->keys[i].name, name) == 0) return &keys->keys[i];
    return NULL;
}

static sr_status append(sri_api_keys *keys, const sri_api_key *key, sr_error *error) {
    void *array = keys->keys;
    if (!sri_grow(&array, &keys->capacity, keys->count + 1, sizeof *key))
        return sri_fail_memory(error);
    keys->keys = array;
    keys->keys[keys->count++] = *key;
    return SR_OK;
}

/* ---- Reading and writing ------------------------------------------------------------------------- */

static bool take_member(const json_t *object, const char *name, char *out, size_t capacity) {
    const char *text = json_string_value(json_object_get(object, name));
    if (text == NULL || strlen(text) >= capacity) return false;
    snprintf(out, capacity, "%s", text);
    return true;
}

static sr_status take_line(sri_api_keys *keys, const char *path, size_t line, sr_str text,
                           sr_error *error) {
    sri_api_key key = {0};
    json_t *object = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(object) && take_member(object, "name", key.name, sizeof key.name) &&
                take_member(object, "role", key.role, sizeof key.role) &&
                take_member(object, "id", key.id, sizeof key.id) &&
                take_member(object, "salt", key.salt, sizeof key.salt) &&
                take_member(object, "hash", key.hash, sizeof key.hash) && is_name(key.name) &&
                is_role(key.role) && is_hex(key.id, 12) && is_hex(key.salt, 32) &&
                is_hex(key.hash, 64);
    if (good) (void)take_member(object, "created", key.created, sizeof key.created);
    json_decref(object);
    if (!good)
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s:%zu: not a key as `synaptoroute key create` writes it", path, line);
    if (find(keys, key.name) != NULL)
        return sri_fail(error, SR_ERR_FORMAT, path, "%s:%zu: there are two keys called %s", path,
                        line, key.name);
    return append(keys, &key, error);
}

sr_status sri_keys_read(const char *path, sri_api_keys *keys, sr_error *error) {
    *keys = (sri_api_keys){0};
    sri_buffer bytes = {0};
    sr_status code = sri_read_file(path, MAX_FILE, &bytes, error);
    size_t line = 1;
    for (size_t at = 0; code == SR_OK && at < bytes.len; line++) {
        const char *end = memchr(bytes.data + at, '\n', bytes.len - at);
        size_t len = end == NULL ? bytes.len - at : (size_t)(end - bytes.data) - at;
        if (len > 0) code = take_line(keys, path, line, (sr_str){bytes.data + at, len}, error);
        at += len + 1;
    }
    sri_buffer_free(&bytes);
    if (code != SR_OK) sri_keys_free(keys);
    return code;
}

static bool append_lines(sri_buffer *out, const sri_api_keys *keys) {
    bool done = true;
    for (size_t i = 0; done && i < keys->count; i++) {
        const sri_api_key *key = &keys->keys[i];
        done = sri_buffer_format(out,
                                 "{\"name\":\"%s\",\"role\":\"%s\",\"id\":\"%s\",\"salt\":\"%s\",",
                                 key->name, key->role, key->id, key->salt) &&
               sri_buffer_format(out, "\"hash\":\"%s\",\"created\":\"%s\"}\n", key->hash,
                                 key->created);
    }
    return done;
}

static bool write_all(int descriptor, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t wrote = write(descriptor, bytes, len);
        if (wrote < 0 && errno != EINTR) return false;
        if (wrote > 0) bytes += wrote, len -= (size_t)wrote;
    }
    return true;
}

/* Gives a file that takes another's place its owner and mode, so that a server that could read it still can. Where the owner
 * may not be given away, the mode is left as it is: the group would be another one. */
static bool keep_access(const char *path, int descriptor) {
    struct stat before, own;
    if (stat(path, &before) != 0) return errno == ENOENT;
    if (fstat(descriptor, &own) != 0) return false;
    if ((own.st_uid != before.st_uid || own.st_gid != before.st_gid) &&
        fchown(descriptor, before.st_uid, before.st_gid) != 0)
        return true;
    return fchmod(descriptor, before.st_mode & 0777) == 0;
}

sr_status sri_keys_write(const char *path, const sri_api_keys *keys, sr_error *error) {
    sri_buffer lines = {0}, beside = {0};
    sr_status code = SR_OK;
    int descriptor = -1;
    if (!append_lines(&lines, keys) ||
        !sri_buffer_format(&beside, "%s.%ld.tmp", path, (long)getpid()) ||
        !sri_buffer_append(&beside, "", 1))
        code = sri_fail_memory(error);
    if (code == SR_OK) {
        descriptor = open(beside.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (descriptor < 0)
            code = sri_fail_errno(error, errno, path, "cannot write %s", beside.data);
    }
    if (code == SR_OK &&
        (!keep_access(path, descriptor) || !write_all(descriptor, lines.data, lines.len) ||
         fsync(descriptor) != 0 || rename(beside.data, path) != 0)) {
        code = sri_fail_errno(error, errno, path, "cannot write %s", path);
        unlink(beside.data);
    }
    if (descriptor >= 0) close(descriptor);
    sri_buffer_free(&lines);
    sri_buffer_free(&beside);
    return code;
}

void sri_keys_free(sri_api_keys *keys) {
    sri_free(keys->keys);
    *keys = (sri_api_keys){0};
}

/* ---- Making, revoking, checking ------------------------------------------------------------------ */

static void to_hex(const unsigned char *bytes, size_t count, char *out) {
    for (size_t i = 0; i < count; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* 6 bits a character, of the alphabet for URLs. */
static void to_text(const unsigned char *bytes, size_t count, char *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned held = 0, bits = 0;
    for (size_t i = 0; i < count; i++) {
        held = held << 8 | bytes[i];
        for (bits += 8; bits >= 6; bits -= 6) *out++ = digits[held >> (bits - 6) & 63];
    }
    if (bits > 0) *out++ = digits[held << (6 - bits) & 63];
    *out = '\0';
}

static void hash_key(const char *salt, const char *text, char hex[65]) {
    sri_sha256 sha;
    sri_sha256_init(&sha);
    sri_sha256_update(&sha, salt, strlen(salt));
    sri_sha256_update(&sha, text, strlen(text));
    sri_sha256_hex(&sha, hex);
}

sr_status sri_keys_create(sri_api_keys *keys, const char *name, const char *role,
                          char text[SRI_KEY_TEXT], sr_error *error) {
    sri_api_key key = {0};
    unsigned char random[6 + 16 + 32];
    char secret[48];
    if (!is_name(name))
        return sri_fail(error, SR_ERR_INVALID, "name",
                        "%s is no name of a key; give 1 to 64 letters, digits, '.', '-' or '_'",
                        name);
    if (!is_role(role))
        return sri_fail(error, SR_ERR_INVALID, "role", "%s is no role; give read, write or admin",
                        role);
    if (find(keys, name) != NULL)
        return sri_fail(error, SR_ERR_INVALID, "name",
                        "there is a key called %s; choose another name", name);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return sri_fail_errno(error, errno, NULL, "the system gives no random numbers");
    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(key.role, sizeof key.role, "%s", role);
    to_hex(random, 6, key.id);
    to_hex(random + 6, 16, key.salt);
    to_text(random + 22, 32, secret);
    snprintf(text, SRI_KEY_TEXT, "sr_%s_%s", key.id, secret);
    hash_key(key.salt, text, key.hash);
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL)
        strftime(key.created, sizeof key.created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return append(keys, &key, error);
}

sr_status sri_keys_revoke(sri_api_keys *keys, const char *name, sr_error *error) {
    sri_api_key *key = find(keys, name);
    if (key == NULL)
        return sri_fail(error, SR_ERR_NOT_FOUND, "name", "there is no key called %s", name);
    size_t after = keys->count - (size_t)(key - keys->keys) - 1;
    memmove(key, key + 1, after * sizeof *key);
    keys->count--;
    return SR_OK;
}

const sri_api_key *sri_keys_check(const sri_api_keys *keys, const char *text) {
    if (strncmp(text, "sr_", 3) != 0 || strlen(text) >= SRI_KEY_TEXT || strlen(text) < 16)
        return NULL;
    /* The id is no secret: it may be looked for as fast as one can. */
    for (size_t i = 0; i < keys->count; i++) {
        const sri_api_key *key = &keys->keys[i];
        if (memcmp(text + 3, key->id, 12) != 0) continue;
        char hash[65];
        unsigned different = 0;
        hash_key(key->salt, text, hash);
        for (size_t j = 0; j < 64; j++) different |= (unsigned)(hash[j] ^ key->hash[j]);
        return different == 0 ? key : NULL;
    }
    return NULL;
}
