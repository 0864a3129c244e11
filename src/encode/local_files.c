/*
 * local_files.c - what the encoders over a model directory share.
 *
 * Digests come from synaptoroute.json, so that a start need not read all weights; only where there
 * is none are the files themselves read.
 */
#include "encode/local_files.h"

#include "encode/encode_int.h"

#include <stdlib.h>
#include <string.h>

static const char *const file_names[] = {"model.safetensors", "tokenizer.json", "config.json"};

sr_status sri_local_open(const char *model, local_files *files, sr_error *error) {
    sr_status code = sri_locate_model(model, files->directory, sizeof files->directory, error);
    if (code == SR_OK) code = sri_description_read(files->directory, &files->description, error);
    return code;
}

sr_status sri_local_tokenizer(const local_files *files, size_t rows, sri_tokenizer **tokenizer,
                              sr_error *error) {
    char path[PATH_MAX];
    sr_status code = sri_join_path(path, sizeof path, files->directory, "tokenizer.json", error);
    if (code == SR_OK) code = sri_tokenizer_open(path, tokenizer, error);
    if (code != SR_OK) return code;
    size_t ids = sri_tokenizer_vocabulary(*tokenizer);
    if (ids <= rows) return SR_OK;
    return sri_fail(error, SR_ERR_FORMAT, files->directory,
                    "%s: tokenizer.json has ids up to %zu, but the model has %zu embeddings; the "
                    "files do not belong together",
                    files->directory, ids - 1, rows);
}

static sr_status unknown_prefix(const local_files *files, const char *name, sr_error *error) {
    const sri_named_prefix *prefixes = files->description.prefixes;
    char known[SRI_PREFIXES_MAX * (sizeof prefixes->name + 3) + 1] = "";
    size_t len = 0;
    for (int i = 0; i < SRI_PREFIXES_MAX && prefixes[i].name[0] != '\0'; i++)
        len += (size_t)snprintf(known + len, sizeof known - len, "%s@%s", i == 0 ? "" : ", ",
                                prefixes[i].name);
    return sri_fail(error, SR_ERR_INVALID, "prefix",
                    "%s has no prefix named \"%.60s\"; it has %s. A prefix that itself begins with "
                    "@ is written with two",
                    files->directory, name, len == 0 ? "none with a name" : known);
}

/* Points `chosen` to what `given` stands for. */
static sr_status choose_prefix(const local_files *files, const char *given, const char **chosen,
                               sr_error *error) {
    const sri_named_prefix *prefixes = files->description.prefixes;
    *chosen = given == NULL ? files->description.prefix : given;
    if (given == NULL || given[0] != '@') return SR_OK;
    *chosen = given + 1;
    if (given[1] == '@') return SR_OK;
    for (int i = 0; given[1] != '\0' && i < SRI_PREFIXES_MAX; i++)
        if (strcmp(prefixes[i].name, given + 1) == 0) {
            *chosen = prefixes[i].text;
            return SR_OK;
        }
    return unknown_prefix(files, given + 1, error);
}

sr_status sri_local_prefix(const local_files *files, const char *given, char *prefix,
                           size_t capacity, sr_error *error) {
    const char *chosen;
    sr_status code = choose_prefix(files, given, &chosen, error);
    if (code != SR_OK) return code;
    if (strlen(chosen) >= capacity)
        return sri_fail(error, SR_ERR_LIMIT, "prefix", "the prefix has %zu bytes; at most %zu",
                        strlen(chosen), capacity - 1);
    snprintf(prefix, capacity, "%s", chosen);
    return SR_OK;
}

static sr_status file_digest(const char *directory, const char *name, const char *stored,
                             char hex[65], sr_error *error) {
    char path[PATH_MAX];
    if (stored[0] != '\0') {
        snprintf(hex, 65, "%s", stored);
        return SR_OK;
    }
    sri_log(SR_LOG_INFO, "%s has no stored digest of %s; computing it", directory, name);
    sr_status code = sri_join_path(path, sizeof path, directory, name, error);
    return code == SR_OK ? sri_sha256_file(path, hex, error) : code;
}

sr_status sri_local_fingerprint(const local_files *files, const char *computation,
                                const char *settings, char hex[65], sr_error *error) {
    const sri_description *d = &files->description;
    const char *stored[] = {d->weights_sha256, d->tokenizer_sha256, d->config_sha256};
    sri_sha256 sha;
    sri_sha256_init(&sha);
    sri_sha256_update(&sha, computation, strlen(computation));
    for (size_t i = 0; i < SRI_COUNT(file_names); i++) {
        char digest[65];
        sr_status code = file_digest(files->directory, file_names[i], stored[i], digest, error);
        if (code != SR_OK) return code;
        sri_sha256_update(&sha, "\n", 1);
        sri_sha256_update(&sha, digest, 64);
    }
    sri_sha256_update(&sha, "\n", 1);
    sri_sha256_update(&sha, settings, strlen(settings));
    sri_sha256_hex(&sha, hex);
    return SR_OK;
}

sr_status sri_local_verify(const char *directory, sr_error *error) {
    sri_description description;
    sr_status code = sri_description_read(directory, &description, error);
    const char *stored[] = {description.weights_sha256, description.tokenizer_sha256,
                            description.config_sha256};
    for (size_t i = 0; code == SR_OK && i < SRI_COUNT(file_names); i++) {
        char path[PATH_MAX], actual[65];
        if (stored[i][0] == '\0') continue;
        code = sri_join_path(path, sizeof path, directory, file_names[i], error);
        if (code == SR_OK) code = sri_sha256_file(path, actual, error);
        if (code == SR_OK && strcmp(actual, stored[i]) != 0)
            code = sri_fail(
                error, SR_ERR_FORMAT, path,
                "%s has sha256 %s, but synaptoroute.json records %s: fetch the model again", path,
                actual, stored[i]);
    }
    return code;
}

void sri_local_name(const char *directory, char *name, size_t capacity) {
    char real[PATH_MAX];
    const char *path = realpath(directory, real) == NULL ? directory : real;
    const char *slash = strrchr(path, '/');
    const char *last = slash == NULL || slash[1] == '\0' ? path : slash + 1;
    snprintf(name, capacity, "%.*s", (int)capacity - 1, last);
}
