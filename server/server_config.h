/*
 * server_config.h - the settings of a server, from flags, environment and a file.
 *
 * One table (server_config.c) names every setting once: `max_body_bytes` in the file is --max-body-bytes as a flag
 * and SYNAPTOROUTE_MAX_BODY_BYTES in the environment. A flag goes before the environment, that before the file,
 * and that before the default.
 */
#ifndef SRV_SERVER_CONFIG_H
#define SRV_SERVER_CONFIG_H

#include "base/base.h"

/* Strings are the struct's own; NULL where there is none. Seconds are whole or fractions. */
typedef struct srv_config {
    char *config; /* the file it came from */
    char *listen;
    char *db, *model, *fast_model, *prefix, *durability, *profile;
    long threads, http_threads, cache_bytes;
    double margin;
    bool refit, reencode;
    long queue_texts, queue_bytes;
    char *keys, *tls_certificate, *tls_key, *cors_origins;
    bool insecure, metrics_open;
    long max_body_bytes, max_import_bytes, max_bodies_bytes, max_header_bytes, max_texts;
    long max_connections, max_connections_per_address;
    double header_seconds, body_seconds, idle_seconds, request_seconds;
    double drain_seconds, drain_delay_seconds;
    char *log_level, *log_format;
    bool log_texts;
    char *log_requests;
    long metrics_routes;
    char *otlp_endpoint, *otlp_headers, *service_name;
    double trace_ratio, otlp_metrics_seconds;
    /* Not settings: what follows from them. */
    bool tls; /* a certificate is given */
    bool print_config, quiet;
    char host[256]; /* of `listen`, without brackets */
    char port[8];
} srv_config;

/* Reads all sources, in their order, and checks the whole. SR_ERR_INVALID with a message for the user; a flag that is
 * unknown or without its value sets *usage. On failure `config` is empty. */
SR_MUST_CHECK sr_status srv_config_load(int argc, char **argv, srv_config *config, bool *usage,
                                        sr_error *error);
void srv_config_free(srv_config *config);

/* Makes `fresh` what follows `running` in a server that goes on: what cannot change while it runs stays, and the
 * log names it where it differs. */
SR_MUST_CHECK sr_status srv_config_follow(const srv_config *running, srv_config *fresh,
                                          sr_error *error);

/* Appends the settings as a file that gives them back. */
bool srv_config_append(const srv_config *config, sri_buffer *out);
/* Appends one line for each flag, for --help. */
bool srv_config_append_help(sri_buffer *out);

#endif
