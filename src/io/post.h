/* post.h - one body to one address over HTTP, by libcurl. */
#ifndef SRI_POST_H
#define SRI_POST_H

#include "base/base.h"

typedef struct sri_post sri_post; /* a connection that is kept; for one thread at a time */

/* Loads libcurl. SR_ERR_UNSUPPORTED when the build or the machine has none. `what` begins that message. */
SR_MUST_CHECK sr_status sri_post_open(const char *what, sri_post **post, sr_error *error);
void sri_post_close(sri_post **post);

typedef struct sri_post_request {
    const char *url;            /* http or https */
    const char *const *headers; /* "Name: value", `header_count` of them */
    size_t header_count;
    const void *body;
    size_t body_len;
    double timeout_seconds; /* of the whole */
} sri_post_request;

typedef struct sri_post_answer {
    int status;
    double retry_after; /* seconds that the server asks for; 0: does not say */
} sri_post_answer;

/* Sends, and forgets the body of the answer. SR_ERR_IO when there is none; redirects are answers. */
SR_MUST_CHECK sr_status sri_post_send(sri_post *post, const sri_post_request *request,
                                      sri_post_answer *answer, sr_error *error);

#endif
