/*
 * server_config.c - the table of settings, and reading them from flags, environment and file.
 *
 * The file is YAML, one flat mapping of names to single values; lists are written with commas. It is read from
 * libyaml's events, so that messages name the line. Nested sections were rejected: a setting would have three names
 * that follow from one another only by a rule that everybody has to learn.
 */
#include "server_config.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define MAX_FILE ((size_t)1 << 20)

typedef enum setting_kind { TEXT, WHOLE, SIZE, SECONDS, REAL, FLAG } setting_kind;

typedef struct setting {
    const char *name;
    setting_kind kind;
    size_t offset;
    const char *initial;
    double least, most;
    const char *help;
} setting;

#define AT(field) offsetof(srv_config, field)
#define MEBI      1048576.0

static const setting settings[] = {
    {"listen", TEXT, AT(listen), "127.0.0.1:8080", 0, 0,
     "HOST:PORT to listen on; port 0: any free one"},
    {"db", TEXT, AT(db), "synaptoroute.db", 0, 0, "the route table"},
    {"model", TEXT, AT(model), NULL, 0, 0, "a shipped or pulled model, or a directory"},
    {"fast_model", TEXT, AT(fast_model), NULL, 0, 0, "static model of the fast path, or none"},
    {"prefix", TEXT, AT(prefix), NULL, 0, 0, "put before every text"},
    {"durability", TEXT, AT(durability), "normal", 0, 0, "of changes: normal, full or deferred"},
    {"threads", WHOLE, AT(threads), "0", 0, SR_MAX_THREADS, "that encode; 0: one for each core"},
    {"http_threads", WHOLE, AT(http_threads), "0", 0, SR_MAX_THREADS,
     "that serve connections; 0: one for each core"},
    {"cache_bytes", SIZE, AT(cache_bytes), "0", 0, 1099511627776.0,
     "for vectors of texts met before"},
    {"margin", REAL, AT(margin), "0", 0, 2, "a best route that leads by less is ambiguous"},
    {"refit", FLAG, AT(refit), "true", 0, 0,
     "learn again in the background when the table has changed"},
    {"reencode", FLAG, AT(reencode), "false", 0, 0, "add the vectors that this model lacks"},
    {"profile", TEXT, AT(profile), "auto", 0, 0, "of the queue: auto, latency or throughput"},
    {"queue_texts", WHOLE, AT(queue_texts), "0", 0, 10000000,
     "that may wait; 0: the library's own bound"},
    {"queue_bytes", SIZE, AT(queue_bytes), "0", 0, 1099511627776.0,
     "that may wait; 0: the library's own bound"},
    {"keys", TEXT, AT(keys), NULL, 0, 0, "file of API keys (synaptoroute key create)"},
    {"insecure", FLAG, AT(insecure), "false", 0, 0, "listen beyond this machine without keys"},
    {"tls_certificate", TEXT, AT(tls_certificate), NULL, 0, 0,
     "PEM file of the certificate and its chain"},
    {"tls_key", TEXT, AT(tls_key), NULL, 0, 0, "PEM file of its private key"},
    {"cors_origins", TEXT, AT(cors_origins), NULL, 0, 0,
     "pages that may call from a browser, with commas; *: all"},
    {"metrics_open", FLAG, AT(metrics_open), "false", 0, 0, "/metrics needs no key"},
    {"max_body_bytes", SIZE, AT(max_body_bytes), "8MiB", 1024, 4294967296.0, "of a request"},
    {"max_import_bytes", SIZE, AT(max_import_bytes), "256MiB", 1024, 4294967296.0,
     "of a file to import or evaluate"},
    {"max_bodies_bytes", SIZE, AT(max_bodies_bytes), "1GiB", 1024, 1099511627776.0,
     "of all requests at once"},
    {"max_header_bytes", SIZE, AT(max_header_bytes), "16KiB", 2048, MEBI, "of a request's headers"},
    {"max_texts", WHOLE, AT(max_texts), "10000", 1, 10000000, "in one request"},
    {"max_connections", WHOLE, AT(max_connections), "10000", 1, 1000000, "at once"},
    {"max_connections_per_address", WHOLE, AT(max_connections_per_address), "1000", 0, 1000000,
     "of one client; 0: no bound"},
    {"header_seconds", SECONDS, AT(header_seconds), "10", 0.1, 86400,
     "for the headers of a request to arrive"},
    {"body_seconds", SECONDS, AT(body_seconds), "60", 0.1, 86400,
     "for the body of a request to arrive"},
    {"idle_seconds", SECONDS, AT(idle_seconds), "75", 1, 86400, "that a connection may be idle"},
    {"request_seconds", SECONDS, AT(request_seconds), "30", 0.001, 86400,
     "for an answer, unless the request says otherwise"},
    {"drain_seconds", SECONDS, AT(drain_seconds), "30", 0, 86400,
     "for what is accepted to be finished after SIGTERM"},
    {"drain_delay_seconds", SECONDS, AT(drain_delay_seconds), "0", 0, 3600,
     "between SIGTERM and the last accepted connection"},
    {"log_level", TEXT, AT(log_level), "info", 0, 0, "error, warn, info or debug"},
    {"log_format", TEXT, AT(log_format), "text", 0, 0, "text or json"},
    {"log_texts", FLAG, AT(log_texts), "false", 0, 0, "write the texts of requests to the log"},
    {"log_requests", TEXT, AT(log_requests), "errors", 0, 0,
     "lines for requests: none, errors (status 500 and above, but 503) or all"},
    {"metrics_routes", WHOLE, AT(metrics_routes), "200", 0, 10000,
     "with counters of their own; the others share one"},
    {"otlp_endpoint", TEXT, AT(otlp_endpoint), NULL, 0, 0,
     "OpenTelemetry collector for traces and metrics, such as http://127.0.0.1:4318"},
    {"otlp_headers", TEXT, AT(otlp_headers), NULL, 0, 0,
     "name=value, with commas: sent to the collector with everything"},
    {"otlp_metrics_seconds", SECONDS, AT(otlp_metrics_seconds), "60", 0, 86400,
     "between two exports of metrics; 0: none"},
    {"trace_ratio", REAL, AT(trace_ratio), "0.01", 0, 1,
     "share of requests that are traced, where the caller has not decided"},
    {"service_name", TEXT, AT(service_name), "synaptoroute", 0, 0,
     "that traces and metrics are sent under"},
};

/* What a reload may change. */
static const char *const reloadable[] = {
    "cors_origins",    "max_body_bytes",  "max_import_bytes",    "max_bodies_bytes",
    "max_texts",       "max_connections", "header_seconds",      "body_seconds",
    "request_seconds", "drain_seconds",   "drain_delay_seconds", "log_level",
    "log_requests",    "log_texts",
};

static char **text_at(const srv_config *config, const setting *s) {
    return (char **)((uintptr_t)config + s->offset);
}
static long *whole_at(const srv_config *config, const setting *s) {
    return (long *)((uintptr_t)config + s->offset);
}
static double *real_at(const srv_config *config, const setting *s) {
    return (double *)((uintptr_t)config + s->offset);
}
static bool *flag_at(const srv_config *config, const setting *s) {
    return (bool *)((uintptr_t)config + s->offset);
}

static const setting *find(const char *name, size_t len, char between) {
    for (size_t i = 0; i < SRI_COUNT(settings); i++) {
        const char *own = settings[i].name;
        size_t at = 0;
        while (at < len && own[at] != '\0' && name[at] == (own[at] == '_' ? between : own[at]))
            at++;
        if (at == len && own[at] == '\0') return &settings[i];
    }
    return NULL;
}

/* ---- Values -------------------------------------------------------------------------------------- */

static bool parse_size(const char *text, long *size) {
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    char *end;
    errno = 0;
    double number = strtod(text, &end);
    if (end == text || errno != 0) return false;
    for (size_t i = 0; i < SRI_COUNT(units); i++, number *= 1024)
        if (strcmp(end, units[i]) == 0 && number >= 0 && number < 9e15) {
            *size = (long)number;
            return true;
        }
    return false;
}

static bool parse_flag(const char *text, bool *flag) {
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no",
                                                                                "off", "0"};
    for (size_t i = 0; i < SRI_COUNT(yes); i++) {
        *flag = strcmp(text, yes[i]) == 0;
        if (*flag || strcmp(text, no[i]) == 0) return true;
    }
    return false;
}

/* `where` names the source for a message. */
static sr_status set(srv_config *config, const setting *s, const char *value, const char *where,
                     sr_error *error) {
    static const char *const wants[] = {
        "a text",   "a whole number", "a size such as 8MiB", "a number of seconds",
        "a number", "true or false"};
    char *end;
    bool good = true;
    double number = 0;
    errno = 0;
    switch (s->kind) {
    case TEXT: {
        char *copy = sri_strdup(sr_str_of(value));
        if (copy == NULL) return sri_fail_memory(error);
        sri_free(*text_at(config, s));
        *text_at(config, s) = copy;
        return SR_OK;
    }
    case WHOLE:
        *whole_at(config, s) = strtol(value, &end, 10);
        good = end != value && *end == '\0' && errno == 0;
        number = (double)*whole_at(config, s);
        break;
    case SIZE:
        good = parse_size(value, whole_at(config, s));
        number = good ? (double)*whole_at(config, s) : 0;
        break;
    case SECONDS:
    case REAL:
        number = *real_at(config, s) = strtod(value, &end);
        good = end != value && *end == '\0' && isfinite(number);
        break;
    case FLAG: good = parse_flag(value, flag_at(config, s)); break;
    }
    if (!good)
        return sri_fail(error, SR_ERR_INVALID, s->name, "%s: %s is %s; give %s", where, s->name,
                        value, wants[s->kind]);
    if (s->kind != FLAG && (number < s->least || number > s->most))
        return sri_fail(error, SR_ERR_LIMIT, s->name, "%s: %s is %s; give %.10g to %.10g", where,
                        s->name, value, s->least, s->most);
    return SR_OK;
}

static sr_status set_defaults(srv_config *config, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; code == SR_OK && i < SRI_COUNT(settings); i++)
        if (settings[i].initial != NULL)
            code = set(config, &settings[i], settings[i].initial, "the default", error);
    return code;
}

/* ---- File ---------------------------------------------------------------------------------------- */

static sr_status yaml_fail(const yaml_parser_t *parser, const char *path, sr_error *error) {
    return sri_fail(error, SR_ERR_FORMAT, path, "%s:%zu: not YAML: %s", path,
                    parser->problem_mark.line + 1,
                    parser->problem == NULL ? "unreadable" : parser->problem);
}

/* The next event, of which only scalars and the frame of one flat mapping are allowed. */
static sr_status next_event(yaml_parser_t *parser, yaml_event_t *event, const char *path,
                            sr_error *error) {
    if (!yaml_parser_parse(parser, event)) return yaml_fail(parser, path, error);
    switch (event->type) {
    case YAML_SEQUENCE_START_EVENT:
    case YAML_ALIAS_EVENT: break;
    default: return SR_OK;
    }
    size_t line = event->start_mark.line + 1;
    yaml_event_delete(event);
    return sri_fail(error, SR_ERR_FORMAT, path,
                    "%s:%zu: give one value for each name; lists are written with commas", path,
                    line);
}

static sr_status take_pair(srv_config *config, const char *name, const yaml_event_t *value,
                           const char *path, sr_error *error) {
    char where[320];
    snprintf(where, sizeof where, "%.280s:%zu", path, value->start_mark.line + 1);
    const setting *s = find(name, strlen(name), '_');
    if (s == NULL)
        return sri_fail(error, SR_ERR_INVALID, path,
                        "%s: there is no setting %s; see synaptoroute serve --help", where, name);
    return set(config, s, (const char *)value->data.scalar.value, where, error);
}

static sr_status read_mapping(srv_config *config, yaml_parser_t *parser, const char *path,
                              sr_error *error) {
    char name[128] = "";
    int depth = 0;
    sr_status code = SR_OK;
    for (bool ended = false; code == SR_OK && !ended;) {
        yaml_event_t event;
        code = next_event(parser, &event, path, error);
        if (code != SR_OK) return code;
        ended = event.type == YAML_STREAM_END_EVENT;
        depth += event.type == YAML_MAPPING_START_EVENT;
        if (event.type == YAML_SCALAR_EVENT && name[0] == '\0' && depth == 1) {
            snprintf(name, sizeof name, "%s", (const char *)event.data.scalar.value);
        } else if (event.type == YAML_SCALAR_EVENT && depth == 1) {
            code = take_pair(config, name, &event, path, error);
            name[0] = '\0';
        } else if (depth > 1 || event.type == YAML_SCALAR_EVENT) {
            code = sri_fail(error, SR_ERR_FORMAT, path,
                            "%s:%zu: write lines such as `max_texts: 1000`", path,
                            event.start_mark.line + 1);
        }
        yaml_event_delete(&event);
    }
    return code;
}

static sr_status read_config_file(srv_config *config, const char *path, sr_error *error) {
    sri_buffer bytes = {0};
    yaml_parser_t parser;
    sr_status code = sri_read_file(path, MAX_FILE, &bytes, error);
    if (code == SR_OK && !yaml_parser_initialize(&parser)) code = sri_fail_memory(error);
    if (code == SR_OK) {
        yaml_parser_set_input_string(&parser, (const unsigned char *)bytes.data, bytes.len);
        code = read_mapping(config, &parser, path, error);
        yaml_parser_delete(&parser);
    }
    sri_buffer_free(&bytes);
    return code;
}

/* ---- Environment and flags ----------------------------------------------------------------------- */

static const char *environment_of(const char *name) {
    char variable[96] = "SYNAPTOROUTE_";
    size_t len = strlen(variable);
    for (; *name != '\0' && len + 1 < sizeof variable; name++)
        variable[len++] = (char)toupper((unsigned char)*name);
    variable[len] = '\0';
    const char *value = getenv(variable);
    return value == NULL || *value == '\0' ? NULL : value;
}

static sr_status read_environment(srv_config *config, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; code == SR_OK && i < SRI_COUNT(settings); i++) {
        const char *value = environment_of(settings[i].name);
        if (value != NULL) code = set(config, &settings[i], value, "the environment", error);
    }
    return code;
}

/* Whether argv[*i] is the flag `name`; then *value is what follows it, or NULL, and *i stands on the last one taken. */
static bool is_flag(int argc, char **argv, int *i, const char *name, const char **value) {
    const char *argument = argv[*i];
    size_t len = strlen(name);
    if (strncmp(argument, name, len) != 0 || (argument[len] != '\0' && argument[len] != '='))
        return false;
    *value = argument[len] == '=' ? argument + len + 1 : NULL;
    if (*value == NULL && *i + 1 < argc) *value = argv[++*i];
    return true;
}

static const char *config_path(int argc, char **argv) {
    const char *path = environment_of("config"), *value;
    for (int i = 0; i < argc; i++)
        if (is_flag(argc, argv, &i, "--config", &value)) path = value;
    return path;
}

static sr_status bad_flag(const char *argument, bool *usage, sr_error *error) {
    *usage = true;
    return sri_fail(error, SR_ERR_INVALID, NULL, "there is no option %s", argument);
}

static sr_status take_flag(srv_config *config, int argc, char **argv, int *i, bool *usage,
                           sr_error *error) {
    const char *argument = argv[*i];
    size_t len = strcspn(argument, "=");
    if (strcmp(argument, "--print-config") == 0) {
        config->print_config = true;
        return SR_OK;
    }
    if (strcmp(argument, "--quiet") == 0) {
        config->quiet = true;
        return SR_OK;
    }
    if (strcmp(argument, "--json") == 0)
        return SR_OK; /* of all commands; answers are JSON anyway */
    const setting *s =
        strncmp(argument, "--", 2) == 0 && len > 2 ? find(argument + 2, len - 2, '-') : NULL;
    bool is_config = len == 8 && strncmp(argument, "--config", 8) == 0;
    if (s == NULL && !is_config) return bad_flag(argument, usage, error);
    const char *value = argument[len] == '=' ? argument + len + 1 : NULL;
    if (s != NULL && s->kind == FLAG && value == NULL) value = "true";
    if (value == NULL && *i + 1 < argc) value = argv[++*i];
    *usage = value == NULL;
    if (value == NULL)
        return sri_fail(error, SR_ERR_INVALID, NULL, "%.*s needs a value", (int)len, argument);
    if (is_config) return SR_OK; /* read before */
    sr_status code = set(config, s, value, "the command line", error);
    *usage = code == SR_ERR_INVALID || code == SR_ERR_LIMIT;
    return code;
}

/* ---- What follows ---------------------------------------------------------------------------------- */

static sr_status split_listen(srv_config *config, sr_error *error) {
    const char *listen = config->listen, *colon = strrchr(listen, ':');
    char *end = NULL;
    long port = colon == NULL ? -1 : strtol(colon + 1, &end, 10);
    size_t len = colon == NULL ? 0 : (size_t)(colon - listen);
    bool bracket = len >= 2 && listen[0] == '[' && listen[len - 1] == ']';
    if (colon == NULL || end == colon + 1 || *end != '\0' || port < 0 || port > 65535 ||
        len - 2 * bracket >= sizeof config->host)
        return sri_fail(error, SR_ERR_INVALID, "listen",
                        "listen is %s; give HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
                        listen);
    snprintf(config->host, sizeof config->host, "%.*s", (int)(len - 2 * (size_t)bracket),
             listen + bracket);
    snprintf(config->port, sizeof config->port, "%ld", port);
    return SR_OK;
}

static sr_status one_of(const char *name, const char *value, const char *const *allowed,
                        sr_error *error) {
    for (size_t i = 0; allowed[i] != NULL; i++)
        if (strcmp(value, allowed[i]) == 0) return SR_OK;
    return sri_fail(error, SR_ERR_INVALID, name, "%s is %s; see synaptoroute serve --help", name,
                    value);
}

static sr_status check(srv_config *config, sr_error *error) {
    static const char *const durabilities[] = {"normal", "full", "deferred", NULL};
    static const char *const profiles[] = {"auto", "latency", "throughput", NULL};
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const formats[] = {"text", "json", NULL};
    static const char *const requests[] = {"none", "errors", "all", NULL};
    sr_status code = split_listen(config, error);
    if (code == SR_OK) code = one_of("durability", config->durability, durabilities, error);
    if (code == SR_OK) code = one_of("profile", config->profile, profiles, error);
    if (code == SR_OK) code = one_of("log_level", config->log_level, levels, error);
    if (code == SR_OK) code = one_of("log_format", config->log_format, formats, error);
    if (code == SR_OK) code = one_of("log_requests", config->log_requests, requests, error);
    if (code != SR_OK) return code;
    if ((config->tls_certificate == NULL) != (config->tls_key == NULL))
        return sri_fail(error, SR_ERR_INVALID, "tls_certificate",
                        "give tls_certificate and tls_key, or neither");
    config->tls = config->tls_certificate != NULL;
    return SR_OK;
}

sr_status srv_config_load(int argc, char **argv, srv_config *config, bool *usage, sr_error *error) {
    *config = (srv_config){0};
    *usage = false;
    const char *path = config_path(argc, argv);
    sr_status code = set_defaults(config, error);
    if (code == SR_OK && path != NULL) {
        config->config = sri_strdup(sr_str_of(path));
        code =
            config->config == NULL ? sri_fail_memory(error) : read_config_file(config, path, error);
    }
    if (code == SR_OK) code = read_environment(config, error);
    for (int i = 0; code == SR_OK && i < argc; i++)
        code = take_flag(config, argc, argv, &i, usage, error);
    if (code == SR_OK) code = check(config, error);
    if (code != SR_OK) srv_config_free(config);
    return code;
}

void srv_config_free(srv_config *config) {
    for (size_t i = 0; i < SRI_COUNT(settings); i++)
        if (settings[i].kind == TEXT) sri_free(*text_at(config, &settings[i]));
    sri_free(config->config);
    *config = (srv_config){0};
}

/* ---- Reload ---------------------------------------------------------------------------------------- */

static bool is_reloadable(const char *name) {
    for (size_t i = 0; i < SRI_COUNT(reloadable); i++)
        if (strcmp(name, reloadable[i]) == 0) return true;
    return false;
}

static bool is_equal(const srv_config *a, const srv_config *b, const setting *s) {
    switch (s->kind) {
    case TEXT: {
        const char *first = *text_at(a, s), *second = *text_at(b, s);
        return first == second || (first != NULL && second != NULL && strcmp(first, second) == 0);
    }
    case WHOLE:
    case SIZE: return *whole_at(a, s) == *whole_at(b, s);
    case SECONDS:
    case REAL: return *real_at(a, s) == *real_at(b, s);
    case FLAG: return *flag_at(a, s) == *flag_at(b, s);
    }
    return true;
}

static sr_status keep(const srv_config *running, srv_config *fresh, const setting *s,
                      sr_error *error) {
    sri_log(SR_LOG_WARN, "%s has changed: that takes effect when the server is started again",
            s->name);
    switch (s->kind) {
    case TEXT: {
        const char *value = *text_at(running, s);
        char *copy = value == NULL ? NULL : sri_strdup(sr_str_of(value));
        if (value != NULL && copy == NULL) return sri_fail_memory(error);
        sri_free(*text_at(fresh, s));
        *text_at(fresh, s) = copy;
        break;
    }
    case WHOLE:
    case SIZE: *whole_at(fresh, s) = *whole_at(running, s); break;
    case SECONDS:
    case REAL: *real_at(fresh, s) = *real_at(running, s); break;
    case FLAG: *flag_at(fresh, s) = *flag_at(running, s); break;
    }
    return SR_OK;
}

sr_status srv_config_follow(const srv_config *running, srv_config *fresh, sr_error *error) {
    sr_status code = SR_OK;
    for (size_t i = 0; code == SR_OK && i < SRI_COUNT(settings); i++)
        if (!is_reloadable(settings[i].name) && !is_equal(running, fresh, &settings[i]))
            code = keep(running, fresh, &settings[i], error);
    return code == SR_OK ? check(fresh, error) : code;
}

/* ---- Printing -------------------------------------------------------------------------------------- */

/* A JSON string is a YAML one. */
static bool append_text(sri_buffer *out, const char *text) {
    bool done = sri_buffer_append(out, "\"", 1);
    for (; done && *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') done = sri_buffer_append(out, "\\", 1);
        done =
            done && ((unsigned char)*text < 32 ? sri_buffer_format(out, "\\u%04x", (unsigned)*text)
                                               : sri_buffer_append(out, text, 1));
    }
    return done && sri_buffer_append(out, "\"", 1);
}

bool srv_config_append(const srv_config *config, sri_buffer *out) {
    bool done = true;
    for (size_t i = 0; done && i < SRI_COUNT(settings); i++) {
        const setting *s = &settings[i];
        const char *text = s->kind == TEXT ? *text_at(config, s) : NULL;
        if (s->kind == TEXT && text == NULL) {
            done = sri_buffer_format(out, "# %s:\n", s->name);
            continue;
        }
        done = sri_buffer_format(out, "%s: ", s->name);
        switch (s->kind) {
        case TEXT: done = done && append_text(out, text); break;
        case WHOLE:
        case SIZE: done = done && sri_buffer_format(out, "%ld", *whole_at(config, s)); break;
        case SECONDS:
        case REAL: done = done && sri_buffer_format(out, "%.15g", *real_at(config, s)); break;
        case FLAG:
            done = done && sri_buffer_append_str(out, *flag_at(config, s) ? "true" : "false");
            break;
        }
        done = done && sri_buffer_append(out, "\n", 1);
    }
    return done;
}

bool srv_config_append_help(sri_buffer *out) {
    static const char *const shapes[] = {" TEXT", " N", " SIZE", " SECONDS", " X", ""};
    bool done = true;
    for (size_t i = 0; done && i < SRI_COUNT(settings); i++) {
        const setting *s = &settings[i];
        char flag[96];
        int len = snprintf(flag, sizeof flag, "--%s%s", s->name, shapes[s->kind]);
        for (int at = 2; at < len; at++)
            if (flag[at] == '_') flag[at] = '-';
        done = sri_buffer_format(
            out, "  %-38s %s%s%s%s\n", flag, s->help, s->initial == NULL ? "" : " (",
            s->initial == NULL ? "" : s->initial, s->initial == NULL ? "" : ")");
    }
    return done;
}
