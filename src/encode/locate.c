/*
 * locate.c - finds the directory of a model.
 *
 * A name is looked up among the shipped models: in $SYNAPTOROUTE_MODELS, then upwards from this
 * library's own file in PARENT/models (a build tree) and PARENT/share/synaptoroute/models (an
 * installed prefix), so that neither needs a path compiled in and both can be moved.
 */
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

static sr_status take_directory(const char *model, char *path, size_t capacity, sr_error *error) {
    if (!sri_is_directory(model))
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
