/* curl_api.c - loads libcurl; see curl_api.h. */
#include "base/base.h"

#ifdef SRI_CURL

#include "io/curl_api.h"

#include <dlfcn.h>
#include <string.h>

static bool load(sri_curl *api) {
    static const char *const libraries[] = {"libcurl.so.4", "libcurl-gnutls.so.4",
                                            "libcurl.4.dylib"};
    struct {
        const char *name;
        void *target;
    } functions[] = {
        {"curl_global_init", &api->global_init}, {"curl_easy_init", &api->init},
        {"curl_easy_reset", &api->reset},        {"curl_easy_cleanup", &api->cleanup},
        {"curl_easy_setopt", &api->set},         {"curl_easy_getinfo", &api->get},
        {"curl_easy_perform", &api->perform},    {"curl_easy_strerror", &api->explain},
        {"curl_slist_append", &api->append},     {"curl_slist_free_all", &api->free_list}};
    void *library = NULL;
    for (size_t i = 0; i < SRI_COUNT(libraries) && library == NULL; i++)
        library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return false;
    for (size_t i = 0; i < SRI_COUNT(functions); i++) {
        void *function = dlsym(library, functions[i].name);
        if (function == NULL) return false;
        memcpy(functions[i].target, &function, sizeof function);
    }
    return true;
}

sr_status sri_curl_load(sri_curl *api, const char *what, sr_error *error) {
    if (!load(api))
        return sri_fail(error, SR_ERR_UNSUPPORTED, NULL,
                        "%s needs libcurl, which cannot be loaded; install it (Debian: libcurl4)",
                        what);
    if (api->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return sri_fail(error, SR_ERR_UNSUPPORTED, NULL, "libcurl cannot be started");
    return SR_OK;
}

#endif
