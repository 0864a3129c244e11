/*
 * curl_api.h - the functions of libcurl, which is loaded when somebody needs it: with the two dozen libraries behind it, it
 * would otherwise double the time that every start of the program takes.
 *
 * Only for files of io that are built with SRI_CURL. Options are set through a pointer to a variadic function, so
 * libcurl's macros over those functions are taken away.
 */
#ifndef SRI_CURL_API_H
#define SRI_CURL_API_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo

#include "base/base.h"

typedef struct sri_curl {
    CURLcode (*global_init)(long flags);
    CURL *(*init)(void);
    void (*reset)(CURL *curl);
    void (*cleanup)(CURL *curl);
    CURLcode (*set)(CURL *curl, CURLoption option, ...);
    CURLcode (*get)(CURL *curl, CURLINFO info, ...);
    CURLcode (*perform)(CURL *curl);
    const char *(*explain)(CURLcode code);
    struct curl_slist *(*append)(struct curl_slist *list, const char *text);
    void (*free_list)(struct curl_slist *list);
} sri_curl;

/* Loads the library, which stays loaded: what it registers with the process must not go away. SR_ERR_UNSUPPORTED where
 * there is none; `what` begins the message: "downloading". */
SR_MUST_CHECK sr_status sri_curl_load(sri_curl *api, const char *what, sr_error *error);

#endif
