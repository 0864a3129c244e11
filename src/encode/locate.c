/*
 * locate.c - finds the directory of a model.
 *
 * A name is looked up among the shipped models: in $SYNAPTOROUTE_MODELS, then upwards from this
 * library's own file in PARENT/models (a build tree) and PARENT/share/synaptoroute/models (an
 * installed prefix), so that neither needs a path compiled in and both can be moved. A name with one
 * slash that is no directory is a pulled model, in the user's cache.
 */
#include "encode/encode.h"
#include "encode/encode_int.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MODEL "bge-small-en-v1.5"
#define PARENTS       5

typedef struct search {
    const char *name;
    char *path;
    size_t capacity;
    char tried[600]; /* for the message: the places looked at */
} search;

static bool try_base(search *s, const char *base, const char *below) {
    int len = snprintf(s->path, s->capacity, "%s%s/%s", base, below, s->name);
    if (len < 0 || (size_t)len >= s->capacity) return false;
    char config[PATH_MAX];
    int config_len = snprintf(config, sizeof config, "%s/config.json", s->path);
    if (config_len > 0 && (size_t)config_len < sizeof config && sri_is_file(config)) return true;
    size_t used = strlen(s->tried);
    snprintf(s->tried + used, sizeof s->tried - used, "%s%s%s", used == 0 ? "" : ", ", base, below);
    return false;
}

static bool try_parents(search *s) {
    char base[PATH_MAX];
    if (!sri_self_path(base, sizeof base)) return false;
    for (int i = 0; i < PARENTS; i++) {
        char *slash = strrchr(base, '/');
        if (slash == NULL) return false;
        *slash = '\0';
        if (try_base(s, base, "/share/synaptoroute/models") || try_base(s, base, "/models"))
            return true;
        if (base[0] == '\0') return false;
    }
    return false;
}

/* One half of "owner/name": what could leave the directory, or be taken for the separator, is none. */
static bool is_repository_part(const char *text, size_t len) {
    if (len == 0 || len > 96 || text[0] == '.' || text[0] == '-') return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '-') return false;
        if (c == '-' && i + 1 < len && text[i + 1] == '-') return false;
    }
    return true;
}

sr_status sri_pulled_model_path(const char *name, char *path, size_t capacity, sr_error *error) {
    size_t owner = strcspn(name, "/");
    const char *model = name[owner] == '/' ? name + owner + 1 : "";
    if (!is_repository_part(name, owner) || !is_repository_part(model, strlen(model)))
        return sri_fail(error, SR_ERR_INVALID, name,
                        "%.200s is no name of a repository, such as owner/model", name);
    static const struct {
        const char *variable, *below;
    } places[] = {{"SYNAPTOROUTE_CACHE", ""},
                  {"XDG_CACHE_HOME", "/synaptoroute"},
                  {"HOME", "/.cache/synaptoroute"}};
    for (size_t i = 0; i < SRI_COUNT(places); i++) {
        const char *base = getenv(places[i].variable);
        if (base == NULL || base[0] == '\0') continue;
        int len = snprintf(path, capacity, "%s%s/models/%.*s--%s", base, places[i].below,
                           (int)owner, name, model);
        if (len > 0 && (size_t)len < capacity) return SR_OK;
        return sri_fail(error, SR_ERR_LIMIT, base, "the path %.100s... is too long", base);
    }
    return sri_fail(error, SR_ERR_NOT_FOUND, name,
                    "there is no place for models: set HOME, or SYNAPTOROUTE_CACHE to a directory");
}

/* False when the name is none of a repository; else the model's directory, or why there is none. */
static bool take_pulled(const char *name, char *path, size_t capacity, sr_status *code,
                        sr_error *error) {
    *code = sri_pulled_model_path(name, path, capacity, error);
    if (*code == SR_ERR_INVALID) return false;
    if (*code == SR_OK && !sri_is_directory(path))
        *code = sri_fail(
            error, SR_ERR_NOT_FOUND, name,
            "there is no model %s, neither as a directory nor in the cache (%s); fetch it with "
            "`synaptoroute pull %s`",
            name, path, name);
    return true;
}

static sr_status take_directory(const char *model, char *path, size_t capacity, sr_error *error) {
    sr_status code;
    bool exists = sri_is_directory(model);
    if (!exists && take_pulled(model, path, capacity, &code, error)) return code;
    if (!exists)
        return sri_fail(
            error, SR_ERR_NOT_FOUND, model,
            "there is no model directory %s; give a directory with config.json, tokenizer.json and "
            "model.safetensors, or the name of a shipped model (%s)",
            model, DEFAULT_MODEL);
    int len = snprintf(path, capacity, "%s", model);
    if (len > 0 && (size_t)len < capacity) return SR_OK;
    return sri_fail(error, SR_ERR_LIMIT, model, "the path %.100s... is too long", model);
}

sr_status sri_locate_model(const char *model, char *path, size_t capacity, sr_error *error) {
    search s = {.name = model == NULL || model[0] == '\0' ? DEFAULT_MODEL : model,
                .path = path,
                .capacity = capacity};
    if (strchr(s.name, '/') != NULL || strcmp(s.name, ".") == 0 || strcmp(s.name, "..") == 0)
        return take_directory(s.name, path, capacity, error);
    const char *given = getenv("SYNAPTOROUTE_MODELS");
    if (given != NULL && given[0] != '\0' && try_base(&s, given, "")) return SR_OK;
    if (try_parents(&s)) return SR_OK;
    if (sri_is_directory(s.name)) return take_directory(s.name, path, capacity, error);
    return sri_fail(error, SR_ERR_NOT_FOUND, s.name,
                    "there is no model %s (looked in %s); give a directory, or set "
                    "SYNAPTOROUTE_MODELS to where the "
                    "models are",
                    s.name, s.tried);
}
