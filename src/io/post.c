/* post.c - see post.h. */
#include "io/post.h"

#ifndef SRI_CURL

sr_status sri_post_open(const char *what, sri_post **post, sr_error *error) {
    *post = NULL;
    return sri_fail(error, SR_ERR_UNSUPPORTED, NULL,
                    "%s needs libcurl, which this build lacks; install its headers (Debian: "
                    "libcurl4-openssl-dev) and build again with -Dcurl=enabled",
                    what);
}

void sri_post_close(sri_post **post) { (void)post; }

sr_status sri_post_send(sri_post *post, const sri_post_request *request, sri_post_answer *answer,
                        sr_error *error) {
    (void)post, (void)answer;
    return sri_fail(error, SR_ERR_UNSUPPORTED, request->url, "this build has no libcurl");
}

#else

#include "io/curl_api.h"

struct sri_post {
    sri_curl api;
    CURL *curl;
};

sr_status sri_post_open(const char *what, sri_post **opened, sr_error *error) {
    *opened = NULL;
    sri_post *post = sri_alloc_zero(1, sizeof *post);
    if (post == NULL) return sri_fail_memory(error);
    sr_status code = sri_curl_load(&post->api, what, error);
    if (code == SR_OK && (post->curl = post->api.init()) == NULL)
        code = sri_fail(error, SR_ERR_UNSUPPORTED, NULL, "libcurl cannot be started");
    if (code == SR_OK)
        *opened = post;
    else
        sri_free(post);
    return code;
}

void sri_post_close(sri_post **post) {
    if (*post == NULL) return;
    (*post)->api.cleanup((*post)->curl);
    sri_free(*post);
    *post = NULL;
}

static size_t forget(char *bytes, size_t size, size_t count, void *user) {
    (void)bytes, (void)user;
    return size * count;
}

static bool make_headers(const sri_post *post, const sri_post_request *request,
                         struct curl_slist **list) {
    /* libcurl would wait for 100 Continue before it sends a large body. */
    *list = post->api.append(NULL, "Expect:");
    for (size_t i = 0; *list != NULL && i < request->header_count; i++) {
        struct curl_slist *longer = post->api.append(*list, request->headers[i]);
        if (longer == NULL) post->api.free_list(*list);
        *list = longer;
    }
    return *list != NULL;
}

sr_status sri_post_send(sri_post *post, const sri_post_request *request, sri_post_answer *answer,
                        sr_error *error) {
    const sri_curl *api = &post->api;
    struct curl_slist *headers = NULL;
    if (!make_headers(post, request, &headers)) return sri_fail_memory(error);
    api->reset(post->curl);
    api->set(post->curl, CURLOPT_URL, request->url);
    api->set(post->curl, CURLOPT_HTTPHEADER, headers);
    api->set(post->curl, CURLOPT_NOSIGNAL, 1L);
    api->set(post->curl, CURLOPT_USERAGENT, "synaptoroute/" SR_VERSION);
    api->set(post->curl, CURLOPT_POST, 1L);
    api->set(post->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    api->set(post->curl, CURLOPT_POSTFIELDS, request->body);
    api->set(post->curl, CURLOPT_TIMEOUT_MS, (long)(request->timeout_seconds * 1000));
    api->set(post->curl, CURLOPT_WRITEFUNCTION, forget);
    CURLcode result = api->perform(post->curl);
    api->free_list(headers);
    if (result != CURLE_OK)
        return sri_fail(error, SR_ERR_IO, request->url, "cannot send to %s: %s", request->url,
                        api->explain(result));
    long status = 0;
    curl_off_t after = 0;
    api->get(post->curl, CURLINFO_RESPONSE_CODE, &status);
    api->get(post->curl, CURLINFO_RETRY_AFTER, &after);
    *answer = (sri_post_answer){.status = (int)status, .retry_after = (double)after};
    return SR_OK;
}

#endif
