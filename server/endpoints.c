/*
 * endpoints.c - the one table of what the server answers.
 *
 * Dispatch, metrics and /openapi.json are made from it. What is called most stands first, as the table is searched from
 * its beginning.
 */
#include "api.h"
#include "observe.h"

#define TABLE (SRV_NEEDS_ROUTER | SRV_JSON_BODY)
#define FILES (SRV_NEEDS_ROUTER | SRV_LARGE_BODY | SRV_LASTING)

static const srv_endpoint endpoints[] = {
    {"POST", "/v1/route", srv_post_route, SRV_READ, TABLE, "route",
     "Decide which route each text belongs to, or that it belongs to none.", "RouteRequest",
     "RouteAnswer", NULL},
    {"POST", "/v1/embeddings", srv_post_embeddings, SRV_READ, TABLE | SRV_OPENAI, "embeddings",
     "Vectors of texts, with OpenAI's request and answer.", "EmbeddingsRequest", "Embeddings",
     NULL},
    {"GET", "/healthz", srv_get_health, SRV_OPEN, 0, "healthz", "Whether the process answers.",
     NULL, "Status", NULL},
    {"GET", "/readyz", srv_get_ready, SRV_OPEN, 0, "readyz",
     "Whether models are loaded and requests are taken.", NULL, "Status", NULL},
    {"GET", "/v1/info", srv_get_info, SRV_READ, SRV_NEEDS_ROUTER, "info",
     "The table's size, models and versions, and the caller's role.", NULL, "Info", NULL},
    {"GET", "/v1/routes", srv_get_routes, SRV_READ, SRV_NEEDS_ROUTER, "list_routes",
     "Routes, page by page.", NULL, "RoutePage", "prefix search limit cursor utterances"},
    {"GET", "/v1/routes/{name}", srv_get_route, SRV_READ, SRV_NEEDS_ROUTER, "get_route",
     "One route with its utterances.", NULL, "Route", NULL},
    {"PUT", "/v1/routes/{name}", srv_put_route, SRV_WRITE, TABLE, "put_route",
     "Make a route exactly what is given.", "RouteInput", "Receipt", NULL},
    {"DELETE", "/v1/routes/{name}", srv_delete_route, SRV_WRITE, SRV_NEEDS_ROUTER, "delete_route",
     "Remove a route.", NULL, "Receipt", NULL},
    {"POST", "/v1/routes/{name}/utterances", srv_post_utterances, SRV_WRITE, TABLE,
     "add_utterances", "Add utterances to a route, which is made when missing.", "Utterances",
     "Receipt", NULL},
    {"DELETE", "/v1/routes/{name}/utterances", srv_delete_utterances, SRV_WRITE, TABLE,
     "remove_utterances", "Remove utterances of a route.", "Utterances", "Receipt", NULL},
    {"GET", "/v1/oos", srv_get_oos, SRV_READ, SRV_NEEDS_ROUTER, "list_oos",
     "Examples of texts that belong to no route.", NULL, "OosExamples", NULL},
    {"POST", "/v1/oos", srv_post_oos, SRV_WRITE, TABLE, "add_oos",
     "Add examples of texts that belong to no route.", "Utterances", "Receipt", NULL},
    {"DELETE", "/v1/oos", srv_delete_oos, SRV_WRITE, TABLE, "remove_oos", "Remove such examples.",
     "Utterances", "Receipt", NULL},
    {"POST", "/v1/import", srv_post_import, SRV_WRITE, FILES, "import",
     "Add the routes of a file, all or none.", "File", "ImportProgress",
     "format text_column route_column oos_label replace fit"},
    {"GET", "/v1/export", srv_get_export, SRV_READ, SRV_NEEDS_ROUTER | SRV_LASTING, "export",
     "The table as a file.", NULL, "File", "format oos_label"},
    {"POST", "/v1/fit", srv_post_fit, SRV_ADMIN, TABLE | SRV_LASTING, "fit",
     "Learn from the table: heads, thresholds, the fast path.", "FitRequest", "FitProgress", NULL},
    {"POST", "/v1/eval", srv_post_eval, SRV_ADMIN, FILES, "eval",
     "Measure how well labelled texts are decided.", "File", "EvalProgress",
     "format text_column route_column oos_label path reject"},
    {"GET", "/v1/lint", srv_get_lint, SRV_READ, SRV_NEEDS_ROUTER | SRV_LASTING, "lint",
     "What in the table makes decisions go wrong.", NULL, "Lint", "limit"},
    {"GET", "/v1/map", srv_get_map, SRV_READ, SRV_NEEDS_ROUTER | SRV_LASTING, "map",
     "Utterances as points of a plane.", NULL, "Map", "limit"},
    {"GET", "/openapi.json", srv_get_openapi, SRV_OPEN, 0, "openapi", "This description.", NULL,
     "OpenApi", NULL},
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
