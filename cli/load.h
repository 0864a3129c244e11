/*
 * load.h - what the parts of `synaptoroute load` share: the target and its requests, the reader of answers,
 * the run.
 */
#ifndef SR_CLI_LOAD_H
#define SR_CLI_LOAD_H

#include "base/histogram.h"
#include "cli.h"

#include <sys/socket.h>

/* ---- The target and what is sent to it (load_target.c) ----------------------------------------- */

typedef struct load_target {
    char host[256], port[6], path[1024];
    struct sockaddr_storage address; /* one that has accepted a connection */
    socklen_t address_len;
} load_target;

typedef struct load_body {
    size_t batch;     /* texts in a request */
    const char *path; /* NULL: the server's choice */
    const char *key;  /* NULL: none */
    int deadline_ms;  /* 0: none */
} load_body;

/* Requests as they go over the wire, one after the other; request i is bytes starts[i] to starts[i + 1]. */
typedef struct load_requests {
    sri_buffer bytes;
    size_t *starts;
    size_t count;
} load_requests;

/* Takes http://HOST[:PORT][/PATH] apart. EXIT_DONE, or EXIT_USAGE after a message. */
int load_take_url(const cli_state *cli, const char *url, load_target *target);
/* Finds the address by connecting, for at most `seconds`. SR_ERR_IO or SR_ERR_NOT_FOUND when nobody answers. */
SR_MUST_CHECK sr_status load_reach(load_target *target, double seconds, sr_error *error);
SR_MUST_CHECK sr_status load_make_requests(const load_target *target, const load_body *body,
                                           const cli_texts *texts, load_requests *requests,
                                           sr_error *error);
void load_free_requests(load_requests *requests);

/* ---- Answers (load_answer.c) ------------------------------------------------------------------- */

#define LOAD_EXCERPT 160

/* Reads one HTTP/1.x response in whatever pieces it comes; bodies are counted and not kept. */
typedef struct load_answer {
    int state;
    int status;
    bool keep; /* the connection may be used again */
    bool chunked, has_length;
    uint64_t left; /* bytes of the body, or of its chunk */
    size_t head;   /* bytes of the status line and the fields */
    size_t line_len;
    char line[256];             /* the beginning of a line that has not come whole */
    char excerpt[LOAD_EXCERPT]; /* the beginning of the body of an error; not terminated */
    size_t excerpt_len;
} load_answer;

typedef enum load_progress { LOAD_MORE, LOAD_WHOLE, LOAD_MALFORMED } load_progress;

void load_answer_begin(load_answer *answer);
load_progress load_answer_take(load_answer *answer, const char *bytes, size_t len);
/* The server has closed the connection. */
load_progress load_answer_end(load_answer *answer);

/* ---- The run (load_run.c) ---------------------------------------------------------------------- */

typedef struct load_plan {
    double rate; /* requests a second; 0: closed loop */
    bool constant;
    int connections;
    double duration, warmup, timeout; /* seconds */
    uint64_t seed;
} load_plan;

typedef enum load_error {
    LOAD_CONNECT,     /* no connection */
    LOAD_TIMEOUT,     /* no whole answer in time, or no connection free to ask */
    LOAD_CLOSED,      /* the connection ended before the answer did */
    LOAD_NO_HTTP,     /* what came is no answer */
    LOAD_ERROR_KINDS, /* and statuses, counted beside */
} load_error;

/* What came in one second of the measurement. */
typedef struct load_second {
    uint64_t ok, shed, errors;
    double p50, p99, max; /* ns, of `ok`; NaN when there are none */
} load_second;

typedef struct load_result {
    sri_histogram ok, shed; /* from the intended time of sending to the end of the answer */
    sri_histogram late;     /* what the generator itself was late */
    sri_histogram current;  /* of the second that runs */
    uint64_t errors[LOAD_ERROR_KINDS];
    uint64_t waited;        /* requests that were sent later, or never, as no connection was free */
    uint64_t statuses[600]; /* answers that are neither 2xx nor 503 */
    load_second *seconds;
    size_t second_count, second_capacity;
    double elapsed;   /* from the begin of the measurement to its end or the last answer */
    double cpu_share; /* of one core, what this process used meanwhile */
    int first_status; /* of the first error answered; 0: none */
    char first_excerpt[LOAD_EXCERPT + 1];
    bool interrupted;
} load_result; /* large: on the heap, zeroed */

uint64_t load_errors(const load_result *result); /* of all kinds */

SR_MUST_CHECK sr_status load_run(const load_plan *plan, const load_target *target,
                                 const load_requests *requests, sr_progress_fn *progress,
                                 void *user, load_result *result, sr_error *error);

#endif
