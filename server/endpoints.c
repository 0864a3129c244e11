/*
 * endpoints.c - the one table of what the server answers.
 *
 * Dispatch, metrics and /openapi.json are made from it. What is called most stands first, as the table is searched from
 * its beginning.
 */
#include "api.h"
#include "observe.h"

static const srv_endpoint endpoints[] = {
    {"POST", "/v1/route", srv_post_route, SRV_READ, SRV_NEEDS_ROUTER | SRV_JSON_BODY, "route",
     "Decide which route each text belongs to, or that it belongs to none.", "RouteRequest",
     "RouteAnswer", NULL},
    {"GET", "/healthz", srv_get_health, SRV_OPEN, 0, "healthz", "Whether the process answers.",
     NULL, "Status", NULL},
    {"GET", "/readyz", srv_get_ready, SRV_OPEN, 0, "readyz",
     "Whether models are loaded and requests are taken.", NULL, "Status", NULL},
    {"GET", "/v1/info", srv_get_info, SRV_READ, SRV_NEEDS_ROUTER, "info",
     "The table's size, models and versions, and the caller's role.", NULL, "Info", NULL},
    {"GET", "/", srv_get_console, SRV_OPEN, 0, "console", "The console, a page for people.", NULL,
     "text/html", NULL},
    {"GET", "/assets/{name}", srv_get_console, SRV_OPEN, 0, "console_file",
     "Script, style and icon of the console.", NULL, "application/octet-stream", NULL},
    {"GET", "/v1/stats", srv_get_stats, SRV_READ, 0, "stats",
     "Totals since the start, for live charts.", NULL, "Stats", NULL},
    {"GET", "/metrics", srv_get_metrics, SRV_ADMIN, SRV_METRICS, "metrics",
     "Metrics in the text format of Prometheus.", NULL, "text/plain", NULL},
};

const srv_endpoint *srv_endpoints(size_t *count) {
    *count = SRI_COUNT(endpoints);
    return endpoints;
}
