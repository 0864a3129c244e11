/*
 * pull.c - a model from a Hugging Face repository into the cache.
 *
 * Everything is received into a directory beside the model's place (".owner--model.partial"), in files that
 * end in .part until all are there. Only when the digests agree and the model has been opened does the
 * directory take its place by one rename, so that whoever opens a model finds it complete. A lock file,
 * whose lock ends with the process, makes a second pull of the same model wait; it then finds the work done.
 *
 * Files are named in a table, never by the server: nothing can be written elsewhere, and cleaning up needs no
 * recursion.
 */
#include "io/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "encode/encode.h"
#include "io/fetch.h"
#include "io/io.h"
#include "model/config.h"

#define DESCRIPTION "synaptoroute.json"
#define POOLING     "1_Pooling"

typedef struct pulled_file {
    const char *name;
    bool required;
    uint64_t max_bytes;
} pulled_file;

static const pulled_file files[] = {
    {"config.json", true, 4u << 20},
    {"tokenizer.json", true, 64u << 20},
    {POOLING "/config.json", false, 1u << 20},
    {"sentence_bert_config.json", false, 1u << 20},
    {"model.safetensors", true, (uint64_t)32 << 30},
};
enum { FILES = SRI_COUNT(files) };

typedef struct pull {
    const sri_pull_options *options;
    const char *endpoint, *revision;
    char target[PATH_MAX], staging[PATH_MAX], lock_path[PATH_MAX];
    int lock;
    sri_fetch *fetch;
    sri_pulled *pulled;
    bool got[FILES];
    char commit[65]; /* of the first file whose server says; "" */
    char sha256[FILES][65];
    uint64_t bytes[FILES];
    sr_error *error;
} pull;

bool sri_pull_knows(const char *file) {
    for (size_t i = 0; i < FILES; i++)
        if (strcmp(files[i].name, file) == 0) return true;
    return false;
}

/* ---- Paths ----------------------------------------------------------------------------------- */

/* DIRECTORY/NAME SUFFIX; paths were made with room for these. */
static void path_of(const char *directory, const char *name, const char *suffix,
                    char path[PATH_MAX]) {
    int len = snprintf(path, PATH_MAX, "%s/%s%s", directory, name, suffix);
    if (len < 0 || len >= PATH_MAX) path[0] = '\0';
}

static sr_status make_directories(const char *path, sr_error *error) {
    char part[PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = part; slash != NULL;) {
        slash = strchr(slash + 1, '/');
        if (slash != NULL) *slash = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST && !sri_is_directory(part))
            return sri_fail_errno(error, errno, part, "cannot make the directory %s", part);
        if (slash != NULL) *slash = '/';
    }
    return SR_OK;
}

static sr_status choose_places(pull *p) {
    char parent[PATH_MAX];
    const sri_pull_options *options = p->options;
    sr_status code = sri_pulled_model_path(options->name, p->target, sizeof p->target, p->error);
    if (code == SR_ERR_INVALID || (code != SR_OK && options->to == NULL)) return code;
    if (options->to != NULL) {
        size_t len = strlen(options->to);
        while (len > 1 && options->to[len - 1] == '/') len--;
        bool relative = options->to[0] != '/';
        snprintf(p->target, sizeof p->target, "%s%.*s", relative ? "./" : "",
                 (int)SRI_MIN(len, PATH_MAX), options->to);
    }
    const char *slash = strrchr(p->target, '/');
    if (strlen(p->target) + 64 >= PATH_MAX || slash[1] == '\0')
        return sri_fail(p->error, SR_ERR_INVALID, "to", "%.100s cannot be a model's directory",
                        p->target);
    snprintf(parent, sizeof parent, "%.*s", (int)SRI_MAX(slash - p->target, 1), p->target);
    snprintf(p->staging, sizeof p->staging, "%.*s/.%s.partial", (int)(slash - p->target), p->target,
             slash + 1);
    snprintf(p->lock_path, sizeof p->lock_path, "%.*s/.%s.lock", (int)(slash - p->target),
             p->target, slash + 1);
    snprintf(p->pulled->directory, sizeof p->pulled->directory, "%s", p->target);
    return options->offline ? SR_OK : make_directories(parent, p->error);
}

static sr_status check_arguments(pull *p) {
    const sri_pull_options *options = p->options;
    p->endpoint = options->endpoint == NULL ? SRI_PULL_ENDPOINT : options->endpoint;
    p->revision = options->revision == NULL ? "main" : options->revision;
    if (strncasecmp(p->endpoint, "https://", 8) != 0 && strncasecmp(p->endpoint, "http://", 7) != 0)
        return sri_fail(p->error, SR_ERR_INVALID, "endpoint",
                        "the endpoint %s is no address that begins with https:// or http://",
                        p->endpoint);
    size_t len =
        strspn(p->revision, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                            "._-/");
    if (len == 0 || len > 200 || p->revision[len] != '\0' || strstr(p->revision, "..") != NULL)
        return sri_fail(p->error, SR_ERR_INVALID, "revision",
                        "%.100s is no revision: give a branch, a tag or a commit", p->revision);
    return SR_OK;
}

/* ---- Removing -------------------------------------------------------------------------------- */

static void remove_file(const char *directory, const char *name, const char *suffix) {
    char path[PATH_MAX];
    path_of(directory, name, suffix, path);
    unlink(path);
}

/* All that a pull ever puts into a directory; other files keep it in being. */
static void remove_model(const char *directory) {
    char path[PATH_MAX];
    for (size_t i = 0; i < FILES; i++) {
        remove_file(directory, files[i].name, "");
        remove_file(directory, files[i].name, ".part");
        remove_file(directory, files[i].name, ".part.etag");
    }
    remove_file(directory, DESCRIPTION, "");
    path_of(directory, POOLING, "", path);
    rmdir(path);
    rmdir(directory);
}

static void remove_part(const pull *p, size_t file) {
    remove_file(p->staging, files[file].name, ".part");
    remove_file(p->staging, files[file].name, ".part.etag");
}

/* ---- What is there already ------------------------------------------------------------------- */

static json_t *read_description(const char *directory) {
    char path[PATH_MAX];
    sri_buffer text = {0};
    json_t *object = NULL;
    path_of(directory, DESCRIPTION, "", path);
    if (sri_is_file(path) && sri_read_file(path, 1u << 20, &text, NULL) == SR_OK && text.len > 0)
        object = json_loadb(text.data, text.len, 0, NULL);
    sri_buffer_free(&text);
    return object;
}

static bool has_string(const json_t *object, const char *key, const char *wanted) {
    const char *found = json_string_value(json_object_get(object, key));
    return found != NULL && strcmp(found, wanted) == 0;
}

static sr_status wrong_digest(const pull *p, const char *file, const char *wanted,
                              const char *actual, const char *who) {
    return sri_fail(p->error, SR_ERR_FORMAT, file,
                    "%s of %s has sha256 %s, but %s %s; nothing was installed", file,
                    p->options->name, actual, who, wanted);
}

static sr_status compare_digest(const pull *p, size_t file, const char *actual,
                                const char *stated) {
    if (stated[0] != '\0' && strcmp(stated, actual) != 0)
        return wrong_digest(p, files[file].name, stated, actual, "the server states");
    for (size_t i = 0; i < p->options->digest_count; i++) {
        const sri_pull_digest *digest = &p->options->digests[i];
        if (strcmp(digest->file, files[file].name) == 0 && strcasecmp(digest->sha256, actual) != 0)
            return wrong_digest(p, files[file].name, digest->sha256, actual, "you expect");
    }
    return SR_OK;
}

/* Hashes the installed files: with the recorded digests, and with those that are demanded. */
static sr_status check_installed(const pull *p) {
    json_t *object = read_description(p->target);
    const json_t *recorded = json_object_get(object, "files");
    sr_status code = SR_OK;
    for (size_t i = 0; i < FILES && code == SR_OK; i++) {
        char path[PATH_MAX], actual[65];
        const char *wanted =
            json_string_value(json_object_get(json_object_get(recorded, files[i].name), "sha256"));
        path_of(p->target, files[i].name, "", path);
        if (wanted == NULL && !files[i].required && !sri_is_file(path)) continue;
        code = sri_sha256_file(path, actual, p->error);
        if (code == SR_OK && (wanted == NULL || strcmp(wanted, actual) != 0))
            code = sri_fail(p->error, SR_ERR_FORMAT, path,
                            "%s is not as it was pulled; pull it again with --force", path);
        if (code == SR_OK) code = compare_digest(p, i, actual, "");
    }
    json_decref(object);
    return code;
}

/* Whether the wanted revision of the wanted repository is in place, with the wanted prefix. */
static bool is_installed(const pull *p, bool any_revision) {
    json_t *object = read_description(p->target);
    bool found =
        has_string(object, "repository", p->options->name) &&
        (any_revision ||
         (has_string(object, "revision", p->revision) &&
          (p->options->prefix == NULL || has_string(object, "prefix", p->options->prefix))));
    json_decref(object);
    return found;
}

static sr_status use_offline(pull *p) {
    if (!is_installed(p, p->options->revision == NULL))
        return sri_fail(p->error, SR_ERR_NOT_FOUND, p->target,
                        "%s%s%s is not in %s; pull it without --offline", p->options->name,
                        p->options->revision == NULL ? "" : " at revision ",
                        p->options->revision == NULL ? "" : p->revision, p->target);
    p->pulled->present = true;
    return check_installed(p);
}

/* A directory that no pull has made is not replaced. */
static sr_status check_target(const pull *p) {
    if (is_installed(p, true)) return SR_OK;
    struct stat status;
    if (lstat(p->target, &status) != 0) return SR_OK;
    if (S_ISDIR(status.st_mode) && rmdir(p->target) == 0) return SR_OK; /* it was empty */
    return sri_fail(
        p->error, SR_ERR_INVALID, p->target,
        "%s is there already, and no pull of %s has made it; remove it, or name another "
        "directory with --to",
        p->target, p->options->name);
}

/* ---- Lock ------------------------------------------------------------------------------------ */

static sr_status take_lock(pull *p) {
    bool told = false;
    p->lock = open(p->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (p->lock < 0)
        return sri_fail_errno(p->error, errno, p->lock_path, "cannot write %s", p->lock_path);
    while (flock(p->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return sri_fail_errno(p->error, errno, p->lock_path, "cannot lock %s", p->lock_path);
        if (!told)
            sri_log(SR_LOG_WARN, "another process is pulling %s; waiting for it", p->options->name);
        told = true;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
        if (p->options->progress != NULL && p->options->progress(p->options->progress_user, 0, 1))
            return sri_fail(p->error, SR_ERR_CANCELLED, NULL, "stopped while waiting");
    }
    return SR_OK;
}

/* ---- Fetching -------------------------------------------------------------------------------- */

/* ENDPOINT/NAME/resolve/REVISION/FILE, slashes of the revision being %2F. */
static bool make_url(const pull *p, const char *file, sri_buffer *url) {
    size_t len = strlen(p->endpoint);
    while (len > 0 && p->endpoint[len - 1] == '/') len--;
    bool done = sri_buffer_append(url, p->endpoint, len) &&
                sri_buffer_format(url, "/%s/resolve/", p->options->name);
    for (const char *at = p->revision; done && *at != '\0'; at++)
        done = *at == '/' ? sri_buffer_append_str(url, "%2F") : sri_buffer_append(url, at, 1);
    return done && sri_buffer_format(url, "/%s", file) && sri_buffer_append(url, "", 1);
}

static sr_status missing_file(const pull *p, const char *url, const char *file) {
    const char *hint = "check the name and the revision";
    if (strcmp(file, "model.safetensors") == 0)
        hint = "only models with their weights in that one file can be used";
    if (strcmp(file, "tokenizer.json") == 0) hint = "only models with that file can be used";
    return sri_fail(p->error, SR_ERR_NOT_FOUND, url,
                    "%s has no %s at revision %s (the server answers 404 for %s); %s",
                    p->options->name, file, p->revision, url, hint);
}

static sr_status check_part(pull *p, size_t file, const char *part, const char *stated) {
    struct stat status;
    sr_status code = sri_sha256_file(part, p->sha256[file], p->error);
    if (code == SR_OK) code = compare_digest(p, file, p->sha256[file], stated);
    if (code == SR_ERR_FORMAT) remove_part(p, file);
    if (code == SR_OK && stat(part, &status) == 0) p->bytes[file] = (uint64_t)status.st_size;
    return code;
}

/* A branch may move between two files, which then need not belong together. */
static sr_status check_commit(pull *p, const char *commit) {
    if (p->commit[0] == '\0') memcpy(p->commit, commit, sizeof p->commit);
    if (commit[0] == '\0' || strcmp(p->commit, commit) == 0) return SR_OK;
    return sri_fail(p->error, SR_ERR_IO, p->options->name,
                    "%s changed while it was pulled (from commit %.12s to %.12s); run this again",
                    p->options->name, p->commit, commit);
}

static sr_status fetch_file(pull *p, size_t file) {
    char part[PATH_MAX], done[PATH_MAX];
    sri_buffer url = {0};
    sri_fetched fetched = {0};
    const sri_pull_options *options = p->options;
    path_of(p->staging, files[file].name, "", done);
    path_of(p->staging, files[file].name, ".part", part);
    if (rename(done, part) != 0 && errno != ENOENT) /* of a pull that ended before its rename */
        return sri_fail_errno(p->error, errno, done, "cannot rename %s", done);
    if (options->begin_file != NULL) options->begin_file(options->progress_user, files[file].name);
    sr_status code = SR_OK;
    if (!make_url(p, files[file].name, &url)) code = sri_fail_memory(p->error);
    if (code == SR_OK)
        code = sri_fetch_file(p->fetch, url.data, part, files[file].max_bytes, &fetched, p->error);
    p->pulled->received += fetched.received;
    if (code == SR_OK && fetched.missing && files[file].required)
        code = missing_file(p, url.data, files[file].name);
    p->got[file] = code == SR_OK && !fetched.missing;
    if (p->got[file]) code = check_part(p, file, part, fetched.sha256);
    if (code == SR_OK && p->got[file]) code = check_commit(p, fetched.commit);
    sri_buffer_free(&url);
    return code;
}

/* A token goes over the network encrypted, or not at all. */
static const char *safe_token(const pull *p) {
    static const char *const here[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};
    const char *token = p->options->token;
    if (token == NULL || strncasecmp(p->endpoint, "https://", 8) == 0) return token;
    for (size_t i = 0; i < SRI_COUNT(here); i++) {
        size_t len = strlen(here[i]);
        if (strncasecmp(p->endpoint, here[i], len) == 0 && strchr("/:", p->endpoint[len]) != NULL)
            return token;
    }
    sri_log(SR_LOG_WARN, "the token is not sent, since %s is without encryption", p->endpoint);
    return NULL;
}

static sr_status fetch_files(pull *p) {
    const sri_pull_options *options = p->options;
    sri_fetch_options how = {.token = safe_token(p),
                             .endpoint = p->endpoint,
                             .retries = options->retries,
                             .stall_seconds = options->stall_seconds,
                             .progress = options->progress,
                             .progress_user = options->progress_user};
    char path[PATH_MAX];
    path_of(p->staging, POOLING, "", path);
    sr_status code = sri_fetch_open(&how, &p->fetch, p->error);
    if (code == SR_OK) code = make_directories(path, p->error);
    for (size_t i = 0; i < FILES && code == SR_OK; i++) code = fetch_file(p, i);
    sri_fetch_close(&p->fetch);
    /* Without anything to go on with, nothing is left behind. */
    rmdir(path);
    rmdir(p->staging);
    return code;
}

/* ---- Putting in place ------------------------------------------------------------------------ */

static sr_status name_parts(const pull *p) {
    for (size_t i = 0; i < FILES; i++) {
        char part[PATH_MAX], done[PATH_MAX];
        path_of(p->staging, files[i].name, ".part", part);
        path_of(p->staging, files[i].name, "", done);
        if (p->got[i] && rename(part, done) != 0)
            return sri_fail_errno(p->error, errno, part, "cannot rename %s", part);
    }
    return SR_OK;
}

static json_t *describe(const pull *p, const sri_description *description) {
    json_t *recorded = json_object();
    for (size_t i = 0; i < FILES; i++)
        if (p->got[i])
            json_object_set_new(
                recorded, files[i].name,
                json_pack("{s:I, s:s}", "bytes", (json_int_t)p->bytes[i], "sha256", p->sha256[i]));
    const char *prefix = p->options->prefix == NULL ? "" : p->options->prefix;
    json_t *object = json_pack("{s:i, s:s, s:s, s:b, s:s, s:s, s:s, s:s}", "format", 1, "name",
                               strchr(p->options->name, '/') + 1, "pooling",
                               description->pooling == SR_POOLING_CLS ? "cls" : "mean", "normalize",
                               1, "prefix", prefix, "source", p->endpoint, "repository",
                               p->options->name, "revision", p->revision);
    if (object != NULL && description->max_tokens != 0)
        json_object_set_new(object, "max_tokens",
                            json_integer((json_int_t)description->max_tokens));
    if (object != NULL && p->commit[0] != '\0')
        json_object_set_new(object, "commit", json_string(p->commit));
    if (json_object_set_new(object, "files", recorded) == 0) return object;
    json_decref(object);
    return NULL;
}

/* So that a start need not hash the weights. */
static sr_status write_description(const pull *p) {
    sri_description description;
    char path[PATH_MAX];
    remove_file(p->staging, DESCRIPTION, "");
    sr_status code = sri_description_read(p->staging, &description, p->error);
    if (code != SR_OK) return code;
    json_t *object = describe(p, &description);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(2));
    json_decref(object);
    if (text == NULL)
        return sri_fail(p->error, SR_ERR_INVALID, "prefix",
                        "%s cannot be described: the prefix is not UTF-8, or memory is short",
                        p->options->name);
    sri_outfile file;
    path_of(p->staging, DESCRIPTION, "", path);
    code = sri_outfile_open(path, &file, p->error);
    if (code == SR_OK) {
        code = sri_outfile_write(&file, text, strlen(text), p->error);
        if (code == SR_OK) code = sri_outfile_write(&file, "\n", 1, p->error);
        if (code == SR_OK) code = sri_outfile_commit(&file, p->error);
        sri_outfile_abandon(&file);
    }
    free(text);
    return code;
}

/* Opens the model, as whoever uses it will, and encodes a word. */
static sr_status try_model(pull *p) {
    sr_encoder_options options = {.size = sizeof options, .model = p->staging, .threads = 1};
    sr_encoder *encoder = NULL;
    sr_error reason;
    sr_status code = sr_encoder_open(&options, &encoder, &reason);
    if (code == SR_OK) {
        sr_str text = sr_str_of("hello");
        p->pulled->dimension = sr_encoder_dimension(encoder);
        float *vector = sri_alloc_array((size_t)p->pulled->dimension, sizeof *vector);
        if (vector == NULL)
            code = sri_fail_memory(&reason);
        else
            code = sr_encoder_encode(encoder, &text, 1, vector, NULL, &reason);
        sri_free(vector);
    }
    sr_encoder_close(&encoder);
    if (code == SR_OK) return SR_OK;
    return sri_fail(p->error, code, p->options->name,
                    "%s was fetched, but is no model that can be run: %s (%s %s)", p->options->name,
                    reason.message, p->options->keep ? "its files are in" : "removed",
                    p->options->keep ? p->staging : "its files");
}

/* Where there is a model, the two change places, so that at no moment there is none. */
static sr_status put_in_place(const pull *p) {
    for (size_t i = 0; i < FILES; i++) remove_file(p->staging, files[i].name, ".part.etag");
    if (rename(p->staging, p->target) == 0) return SR_OK;
    bool swapped = false;
#if defined(RENAME_EXCHANGE)
    swapped = renameat2(AT_FDCWD, p->staging, AT_FDCWD, p->target, RENAME_EXCHANGE) == 0;
#endif
    if (!swapped) {
        remove_model(p->target);
        if (rename(p->staging, p->target) != 0)
            return sri_fail_errno(p->error, errno, p->target, "cannot rename %s to %s", p->staging,
                                  p->target);
    } else {
        remove_model(p->staging);
    }
    return SR_OK;
}

static sr_status install(pull *p) {
    sr_status code = name_parts(p);
    if (code == SR_OK) code = write_description(p);
    if (code == SR_OK) code = try_model(p);
    if (code == SR_OK) return put_in_place(p);
    if (code != SR_ERR_NO_MEMORY && code != SR_ERR_FULL && !p->options->keep)
        remove_model(p->staging);
    return code;
}

static sr_status pull_locked(pull *p) {
    if (!p->options->force && is_installed(p, false)) {
        p->pulled->present = true;
        return check_installed(p);
    }
    sr_status code = check_target(p);
    if (code == SR_OK) code = fetch_files(p);
    return code == SR_OK ? install(p) : code;
}

sr_status sri_pull(const sri_pull_options *options, sri_pulled *pulled, sr_error *error) {
    pull p = {.options = options, .pulled = pulled, .error = error, .lock = -1};
    *pulled = (sri_pulled){0};
    sr_status code = check_arguments(&p);
    if (code == SR_OK) code = choose_places(&p);
    if (code == SR_OK && options->offline) return use_offline(&p);
    if (code == SR_OK) code = take_lock(&p);
    if (code == SR_OK) code = pull_locked(&p);
    if (p.lock >= 0) close(p.lock); /* the file stays: removing it would let two hold a lock */
    return code;
}
