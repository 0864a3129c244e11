/*
 * config.c - reading of config.json and synaptoroute.json.
 */
#include "model/config.h"

#include "model/safetensors.h"

#include <jansson.h>
#include <limits.h>
#include <string.h>

#define MAX_JSON ((size_t)4 * 1024 * 1024)

sr_status sri_join_path(char *path, size_t capacity, const char *directory, const char *name,
                        sr_error *error) {
    int len = snprintf(path, capacity, "%s/%s", directory, name);
    if (len >= 0 && (size_t)len < capacity) return SR_OK;
    return sri_fail(error, SR_ERR_LIMIT, directory, "the path %.100s.../%s is too long", directory,
                    name);
}

static sr_status load_object(const char *path, json_t **object, sr_error *error) {
    *object = NULL;
    sri_buffer text = {0};
    sr_status code = sri_read_file(path, MAX_JSON, &text, error);
    if (code == SR_OK) {
        json_error_t problem;
        *object = json_loadb(text.data == NULL ? "" : text.data, text.len, JSON_REJECT_DUPLICATES,
                             &problem);
        if (*object == NULL)
            code =
                sri_fail(error, SR_ERR_FORMAT, path, "%s:%d: %s", path, problem.line, problem.text);
        else if (!json_is_object(*object))
            code = sri_fail(error, SR_ERR_FORMAT, path, "%s is not a JSON object", path);
    }
    sri_buffer_free(&text);
    if (code != SR_OK) {
        json_decref(*object);
        *object = NULL;
    }
    return code;
}

typedef struct number_rule {
    const char *key;
    size_t offset; /* of a size_t in sri_config */
    json_int_t least, most;
} number_rule;

static const number_rule numbers[] = {
    {"hidden_size", offsetof(sri_config, hidden), 8, 8192},
    {"num_hidden_layers", offsetof(sri_config, layers), 1, 256},
    {"num_attention_heads", offsetof(sri_config, heads), 1, 256},
    {"intermediate_size", offsetof(sri_config, intermediate), 8, 65536},
    {"vocab_size", offsetof(sri_config, vocabulary), 1, 4000000},
    {"max_position_embeddings", offsetof(sri_config, positions), 2, 65536},
    {"type_vocab_size", offsetof(sri_config, types), 1, 256},
};

static sr_status read_numbers(const char *path, const json_t *object, sri_config *config,
                              sr_error *error) {
    for (size_t i = 0; i < SRI_COUNT(numbers); i++) {
        const number_rule *rule = &numbers[i];
        const json_t *value = json_object_get(object, rule->key);
        json_int_t number = json_integer_value(value);
        if (!json_is_integer(value) || number < rule->least || number > rule->most)
            return sri_fail(error, SR_ERR_FORMAT, path,
                            "%s: %s must be a whole number from %lld to %lld", path, rule->key,
                            (long long)rule->least, (long long)rule->most);
        *(size_t *)(void *)((char *)config + rule->offset) = (size_t)number;
    }
    const json_t *epsilon = json_object_get(object, "layer_norm_eps");
    config->epsilon = epsilon == NULL ? 1e-12f : (float)json_number_value(epsilon);
    if (!(config->epsilon >= 0 && config->epsilon < 1))
        return sri_fail(error, SR_ERR_FORMAT, path, "%s: layer_norm_eps must be from 0 to 1", path);
    if (config->hidden % config->heads != 0)
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s: hidden_size %zu is not a multiple of %zu heads", path, config->hidden,
                        config->heads);
    return SR_OK;
}

/* A key that, where it stands, must have one value. */
static sr_status expect(const char *path, const json_t *object, const char *key, const char *wanted,
                        bool required, sr_error *error) {
    const json_t *value = json_object_get(object, key);
    const char *found = json_string_value(value);
    if (value == NULL && !required) return SR_OK;
    if (found != NULL && strcmp(found, wanted) == 0) return SR_OK;
    return sri_fail(error, SR_ERR_UNSUPPORTED, path, "%s: %s is %.60s; only \"%s\" can be run",
                    path, key, found == NULL ? "missing or not a string" : found, wanted);
}

static sr_status check_kind(const char *path, const json_t *object, sr_error *error) {
    sr_status code = expect(path, object, "model_type", "bert", true, error);
    if (code == SR_OK) code = expect(path, object, "hidden_act", "gelu", false, error);
    if (code == SR_OK)
        code = expect(path, object, "position_embedding_type", "absolute", false, error);
    const json_t *quantised = json_object_get(object, "quantization_config");
    if (code == SR_OK && quantised != NULL)
        code = expect(path, quantised, "format", "int-quantized", true, error);
    return code;
}

sr_status sri_config_read(const char *directory, sri_config *config, sr_error *error) {
    char path[PATH_MAX];
    json_t *object = NULL;
    sr_status code = sri_join_path(path, sizeof path, directory, "config.json", error);
    if (code == SR_OK) code = load_object(path, &object, error);
    if (code == SR_OK) code = check_kind(path, object, error);
    if (code == SR_OK) code = read_numbers(path, object, config, error);
    json_decref(object);
    return code;
}

/* ---- static models --------------------------------------------------------------------------- */

static bool has_embeddings(const char *directory) {
    char path[PATH_MAX];
    sri_safetensors *file;
    if (sri_join_path(path, sizeof path, directory, "model.safetensors", NULL) != SR_OK ||
        sri_safetensors_open(path, &file, NULL) != SR_OK)
        return false;
    bool found = sri_safetensors_find(file, "embeddings") != NULL;
    sri_safetensors_close(&file);
    return found;
}

static sr_status load_config(const char *directory, json_t **object, sr_error *error) {
    char path[PATH_MAX];
    sr_status code = sri_join_path(path, sizeof path, directory, "config.json", error);
    return code == SR_OK ? load_object(path, object, error) : code;
}

sr_status sri_model_is_static(const char *directory, bool *is_static, sr_error *error) {
    json_t *object = NULL;
    sr_status code = load_config(directory, &object, error);
    if (code != SR_OK) return code;
    const json_t *type = json_object_get(object, "model_type");
    const char *name = json_string_value(type);
    *is_static =
        type == NULL ? has_embeddings(directory) : name != NULL && strcmp(name, "model2vec") == 0;
    json_decref(object);
    return SR_OK;
}

sr_status sri_static_config_read(const char *directory, size_t *max_length, sr_error *error) {
    json_t *object = NULL;
    sr_status code = load_config(directory, &object, error);
    if (code != SR_OK) return code;
    const json_t *most = json_object_get(object, "max_length");
    if (most == NULL)
        *max_length = 512;
    else if (json_is_null(most))
        *max_length = SIZE_MAX;
    else if (json_is_integer(most) && json_integer_value(most) >= 1)
        *max_length = (size_t)json_integer_value(most);
    else
        code =
            sri_fail(error, SR_ERR_FORMAT, directory,
                     "%s/config.json: max_length must be null or a whole number from 1", directory);
    json_decref(object);
    return code;
}

/* ---- the description ------------------------------------------------------------------------- */

static bool is_sha256(const char *text) {
    return text != NULL && strspn(text, "0123456789abcdef") == 64 && text[64] == '\0';
}

/* Takes the digest of one file, after comparing the size that was recorded with it. */
static sr_status read_digest(const char *directory, const json_t *files, const char *name,
                             char sha256[65], sr_error *error) {
    const json_t *file = json_object_get(files, name), *bytes = json_object_get(file, "bytes");
    const char *digest = json_string_value(json_object_get(file, "sha256"));
    char path[PATH_MAX];
    sri_mapping mapping;
    sr_status code = sri_join_path(path, sizeof path, directory, name, error);
    if (file == NULL || code != SR_OK) return code;
    if (!is_sha256(digest) || !json_is_integer(bytes))
        return sri_fail(
            error, SR_ERR_FORMAT, directory,
            "%s/synaptoroute.json: %s must have bytes and a sha256 of 64 lower-case digits",
            directory, name);
    code = sri_map_file(path, &mapping, error);
    if (code != SR_OK) return code;
    size_t size = mapping.size;
    sri_unmap_file(&mapping);
    if ((json_int_t)size != json_integer_value(bytes))
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s has %zu bytes, but synaptoroute.json records %lld: the file is "
                        "truncated or was replaced; "
                        "fetch the model again",
                        path, size, (long long)json_integer_value(bytes));
    snprintf(sha256, 65, "%s", digest);
    return SR_OK;
}

static sr_status read_pooling(const char *path, const json_t *value, sr_pooling *pooling,
                              sr_error *error) {
    const char *name = json_string_value(value);
    if (name != NULL && strcmp(name, "cls") == 0)
        *pooling = SR_POOLING_CLS;
    else if (name != NULL && strcmp(name, "mean") == 0)
        *pooling = SR_POOLING_MEAN;
    else
        return sri_fail(error, SR_ERR_FORMAT, path, "%s: pooling must be \"cls\" or \"mean\"",
                        path);
    return SR_OK;
}

/* The object `prefixes`: a text for each name. */
static sr_status read_prefixes(const char *path, json_t *object, sri_named_prefix *prefixes,
                               sr_error *error) {
    const char *name;
    json_t *text;
    if (object == NULL) return SR_OK;
    if (!json_is_object(object) || json_object_size(object) > SRI_PREFIXES_MAX)
        return sri_fail(error, SR_ERR_FORMAT, path,
                        "%s: prefixes must be an object of at most %d names", path,
                        SRI_PREFIXES_MAX);
    json_object_foreach(object, name, text) {
        size_t len = strlen(name);
        if (len == 0 || len >= sizeof prefixes->name || name[0] == '@' || !json_is_string(text) ||
            json_string_length(text) >= sizeof prefixes->text)
            return sri_fail(error, SR_ERR_FORMAT, path,
                            "%s: each of prefixes must be a name below %zu bytes, not beginning "
                            "with @, and a string below %zu bytes",
                            path, sizeof prefixes->name, sizeof prefixes->text);
        snprintf(prefixes->name, sizeof prefixes->name, "%s", name);
        snprintf(prefixes->text, sizeof prefixes->text, "%s", json_string_value(text));
        prefixes++;
    }
    return SR_OK;
}

static sr_status read_own(const char *directory, const char *path, const json_t *object,
                          sri_description *description, sr_error *error) {
    sr_status code =
        read_pooling(path, json_object_get(object, "pooling"), &description->pooling, error);
    if (code != SR_OK) return code;
    const json_t *most = json_object_get(object, "max_tokens"),
                 *prefix = json_object_get(object, "prefix");
    if (most != NULL && (!json_is_integer(most) || json_integer_value(most) < 2 ||
                         json_integer_value(most) > 65536))
        return sri_fail(error, SR_ERR_FORMAT, path, "%s: max_tokens must be from 2 to 65536", path);
    if (prefix != NULL &&
        (!json_is_string(prefix) || json_string_length(prefix) >= sizeof description->prefix))
        return sri_fail(error, SR_ERR_FORMAT, path, "%s: prefix must be a string below %zu bytes",
                        path, sizeof description->prefix);
    description->max_tokens = (size_t)json_integer_value(most);
    if (prefix != NULL)
        snprintf(description->prefix, sizeof description->prefix, "%s", json_string_value(prefix));
    code = read_prefixes(path, json_object_get(object, "prefixes"), description->prefixes, error);
    const json_t *files = json_object_get(object, "files");
    if (code == SR_OK)
        code =
            read_digest(directory, files, "model.safetensors", description->weights_sha256, error);
    if (code == SR_OK)
        code =
            read_digest(directory, files, "tokenizer.json", description->tokenizer_sha256, error);
    if (code == SR_OK)
        code = read_digest(directory, files, "config.json", description->config_sha256, error);
    return code;
}

/* sentence-transformers keeps these beside the model; each may be missing. */
static sr_status read_sentence_transformers(const char *directory, sri_description *description,
                                            sr_error *error) {
    char path[PATH_MAX];
    json_t *object;
    description->pooling = SR_POOLING_MEAN;
    sr_status code = sri_join_path(path, sizeof path, directory, "1_Pooling/config.json", error);
    if (code == SR_OK && sri_is_file(path)) {
        code = load_object(path, &object, error);
        if (code != SR_OK) return code;
        bool cls = json_is_true(json_object_get(object, "pooling_mode_cls_token"));
        bool mean = json_is_true(json_object_get(object, "pooling_mode_mean_tokens"));
        json_decref(object);
        if (cls == mean)
            return sri_fail(error, SR_ERR_UNSUPPORTED, path,
                            "%s: only cls or mean pooling can be run", path);
        description->pooling = cls ? SR_POOLING_CLS : SR_POOLING_MEAN;
    }
    if (code == SR_OK)
        code = sri_join_path(path, sizeof path, directory, "sentence_bert_config.json", error);
    if (code == SR_OK && sri_is_file(path)) {
        code = load_object(path, &object, error);
        if (code != SR_OK) return code;
        json_int_t most = json_integer_value(json_object_get(object, "max_seq_length"));
        if (most >= 2 && most <= 65536) description->max_tokens = (size_t)most;
        json_decref(object);
    }
    return code;
}

sr_status sri_description_read(const char *directory, sri_description *description,
                               sr_error *error) {
    memset(description, 0, sizeof *description);
    char path[PATH_MAX];
    json_t *object = NULL;
    sr_status code = sri_join_path(path, sizeof path, directory, "synaptoroute.json", error);
    if (code != SR_OK) return code;
    if (!sri_is_file(path)) return read_sentence_transformers(directory, description, error);
    code = load_object(path, &object, error);
    if (code == SR_OK) code = read_own(directory, path, object, description, error);
    json_decref(object);
    return code;
}
