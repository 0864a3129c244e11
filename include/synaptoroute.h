/*
 * synaptoroute.h - the public C API of SynaptoRoute, a semantic router.
 *
 * For a text, a router decides which of N routes it belongs to, or that it belongs to none. A route
 * is a name, example utterances and optionally a threshold, a description and metadata. A route
 * table lives in one database file; an encoder turns texts into vectors; sr_decide() compares them.
 *
 *     sr_router *router = NULL;
 *     sr_error error;
 *     sr_options options = {.size = sizeof options, .database = "routes.db"};
 *     if (sr_router_open(&options, &router, &error) != SR_OK) { puts(error.message); ... }
 *
 * CONVENTIONS
 *   Status     Every call that can fail returns an sr_status; SR_OK is 0 and codes never change
 *              their meaning. A failed call changes nothing, in memory or on disk. The optional
 *              sr_error (NULL is allowed) takes code, message and place; it is written only on
 *              failure.
 *   Strings    sr_str is pointer and length in bytes, without a terminator. Strings given to a call
 *              are read during the call only. Strings in results live as long as the result. A NULL
 *              pointer is allowed when the length is 0.
 *   Text       UTF-8. Texts to be decided or encoded may be any bytes: what is not UTF-8 counts as
 *              U+FFFD, as Python's errors="replace" does. What is stored (names, utterances,
 *              descriptions, metadata) must be valid UTF-8 without NUL, or the call fails.
 *   Ownership  sr_x_open(.., &x) gives an object that sr_x_close(&x) releases and sets to NULL;
 *              results are released by sr_x_free(&result). Both accept a pointer to NULL.
 *   Threads    An sr_router or sr_encoder may be used by any number of threads at once, except that
 *              closing it must not overlap any other call on it. A result belongs to its holder.
 *   Processes  Several routers, in one process or in several, may have the same database open. A call
 *              that decides or reads the table begins by asking the database whether another router
 *              has changed it, and then takes over what is new: what one router was told is stored is seen by
 *              the next call of every other, a fit included. Two exceptions: while another thread's call changes or
 *              loads the table of the same router, a call does not wait for that and uses the table
 *              as it was; and a database that is read from a directory that cannot be written, so
 *              that no log can be kept there, is seen as it was when opened. A call fails when the
 *              database cannot be read then, or with SR_ERR_MODEL when another router has added
 *              utterances without vectors of this one's model.
 *   Structs    Structs given to the library begin with `size`: set it to sizeof the struct and zero
 *              the rest ({.size = sizeof x}), so that a program built against an older header goes
 *              on working. Zero always means the default.
 *   Quiet      The library never prints, exits or aborts on bad input; see sr_log_set().
 */
#ifndef SYNAPTOROUTE_H
#define SYNAPTOROUTE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define SR_API
#else
#define SR_API __attribute__((visibility("default")))
#endif
#if defined(__GNUC__)
#define SR_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SR_MUST_CHECK
#endif

#define SR_VERSION "0.1.0"

/* The library's version, such as "0.1.0"; it may differ from the SR_VERSION compiled against. */
SR_API const char *sr_version(void);

/* ---- Limits ---------------------------------------------------------------------------------- */

#define SR_MAX_NAME_BYTES        512   /* a route's name; at least 1, no white space at its ends */
#define SR_MAX_UTTERANCE_BYTES   65536 /* one utterance; it must hold more than white space */
#define SR_MAX_DESCRIPTION_BYTES 65536 /* a route's description */
#define SR_MAX_METADATA_BYTES    1048576  /* a route's metadata, as JSON text */
#define SR_MAX_TEXT_BYTES        67108864 /* a text to be decided or encoded */
#define SR_MAX_THREADS           256

/* No route may have this name: it stands for "no route" in files. */
#define SR_OOS_NAME "oos"

/* ---- Status and errors ----------------------------------------------------------------------- */

typedef enum sr_status {
    SR_OK = 0,
    SR_ERR_INVALID = 1,   /* an argument breaks its contract */
    SR_ERR_NOT_FOUND = 2, /* no such file, model or route */
    SR_ERR_IO = 3,        /* the operating system failed a read or a write */
    SR_ERR_NO_MEMORY = 4,
    SR_ERR_FORMAT = 5,       /* a file is not what it should be, or is damaged */
    SR_ERR_LIMIT = 6,        /* something is larger than its stated maximum (see Limits) */
    SR_ERR_MODEL = 7,        /* the stored vectors are another model's; see SR_OPEN_REENCODE */
    SR_ERR_DATABASE = 8,     /* the database is another program's, or of a newer schema */
    SR_ERR_READ_ONLY = 9,    /* the database cannot be written */
    SR_ERR_FULL = 10,        /* the disk is full */
    SR_ERR_BUSY = 11,        /* another process held the database for longer than the time-out */
    SR_ERR_UNSUPPORTED = 12, /* valid, but not something this build can do */
    SR_ERR_CALLBACK = 13,    /* a callback of the caller reported failure */
    SR_ERR_CANCELLED = 14,   /* a progress callback asked to stop, or sr_cancel() */
    SR_ERR_OVERLOADED = 15,  /* more work waits than may; see sr_queue_wait() */
    SR_ERR_TIMEOUT = 16      /* the deadline passed first */
} sr_status;

/* The constant name of a status, such as "SR_ERR_NOT_FOUND"; "SR_ERR_?" for an unknown code. */
SR_API const char *sr_status_name(sr_status status);

typedef struct sr_error {
    sr_status code;
    char message[1024]; /* what, where and what to do; one line, UTF-8, terminated */
    char place[256];    /* the file, row or argument concerned, or "" */
} sr_error;

/* ---- Strings --------------------------------------------------------------------------------- */

typedef struct sr_str {
    const char *data;
    size_t len; /* bytes */
} sr_str;

/* An sr_str over a terminated string; it stays valid as long as that string. NULL gives length 0.
 * */
SR_API sr_str sr_str_of(const char *terminated);

/* ---- Process-wide settings ------------------------------------------------------------------- */

/* Memory functions, as malloc, realloc and free, with `user` passed on. */
typedef struct sr_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void *(*resize)(void *user, void *old, size_t bytes);
    void (*release)(void *user, void *memory); /* memory may be NULL */
    void *user;
} sr_allocator;

/* Replaces the library's allocator, NULL restoring the C library's. The table is copied. Must be
 * called while no object of the library exists. SQLite and Jansson keep their own. */
SR_API void sr_allocator_set(const sr_allocator *allocator);

typedef enum sr_log_level {
    SR_LOG_ERROR = 0,
    SR_LOG_WARN = 1,
    SR_LOG_INFO = 2,
    SR_LOG_DEBUG = 3
} sr_log_level;

/* Receives one terminated line without a newline; called on whichever thread has something to say,
 * possibly on several at once. */
typedef void sr_log_fn(void *user, sr_log_level level, const char *line);

/* Sets where log lines up to `level` go; NULL (the initial state) drops them. Set it before the
 * first open: it is not synchronised with running calls. */
SR_API void sr_log_set(sr_log_fn *function, sr_log_level level, void *user);

/* The steady clock in nanoseconds, CLOCK_MONOTONIC where there is one: deadlines are times of it. */
SR_API uint64_t sr_steady_ns(void);

/* The kernel level picked for this CPU, as in the environment variable SR_CPU that can lower it:
 * "ref"; "avx2", "avxvnni", "avx512", "vnni", "amx"; "neon", "dotprod", "i8mm". */
SR_API const char *sr_cpu_level(void);

/* Called during long work with the units done and in all, on the calling thread. A return value
 * other than 0 stops the work, which then fails with SR_ERR_CANCELLED and changes nothing. It must
 * not call the router whose work it reports, which would wait for itself. */
typedef int sr_progress_fn(void *user, uint64_t done, uint64_t total);

/* ---- Encoders -------------------------------------------------------------------------------- */

typedef struct sr_encoder sr_encoder; /* opaque; safe to share between threads */

typedef enum sr_pooling {
    SR_POOLING_MODEL = 0, /* as the model's files say; mean where they say nothing */
    SR_POOLING_CLS = 1,
    SR_POOLING_MEAN = 2
} sr_pooling;

typedef enum sr_encoder_kind {
    SR_ENCODER_MODEL = 0,   /* a local model, by name or directory: a transformer, or a static
                               model in Model2Vec's layout */
    SR_ENCODER_CALLBACK = 1 /* the caller's own function */
} sr_encoder_kind;

typedef enum sr_profile {
    SR_PROFILE_LATENCY = 0,   /* a single text is spread over the threads that are idle */
    SR_PROFILE_THROUGHPUT = 1 /* every text stays on one thread: no turns taken between threads */
} sr_profile;

/* A caller's encoder: writes `n` vectors of `dimension` floats to `out`, row by row. They need not
 * be normalised; the library does that. Returns 0, or another value that makes the call fail with
 * SR_ERR_CALLBACK. Called on the thread that encodes, one call at a time per encoder; it must not
 * change the table of a router that uses it. */
typedef int sr_encode_fn(void *user, const sr_str *texts, size_t n, float *out);

typedef struct sr_encoder_options {
    size_t size;
    sr_encoder_kind kind;
    /* A shipped model's name, a pulled model's (owner/model) or a directory; NULL: the default,
     * bge-small-en-v1.5. */
    const char *model;
    int threads; /* worker threads; 0: one for each core this process may use */
    sr_pooling pooling;
    /* Put before every text; NULL: as the model's files say; "": none. "@NAME" is the prefix of that
     * name in `prefixes` of the model's synaptoroute.json (unknown: SR_ERR_INVALID, which lists
     * them); one that itself begins with @ is written with two. */
    const char *prefix;
    int max_tokens;       /* longer texts are truncated; 0: the model's own maximum */
    sr_encode_fn *encode; /* SR_ENCODER_CALLBACK only, as are the rest */
    void *user;
    int dimension;        /* 8 to 4096 */
    const char *identity; /* names the function's model in the fingerprint; required */
    sr_profile profile;   /* of a model; vectors do not depend on it */
    size_t cache_bytes;   /* at most this much memory for vectors of texts met before; 0: none */
} sr_encoder_options;

/* Opens an encoder. Fails with SR_ERR_NOT_FOUND (no such model; the message lists where it looked),
 * SR_ERR_FORMAT (damaged or hostile files), SR_ERR_UNSUPPORTED (another kind of model). A
 * transformer's weights are read by the calls that encode first, one or two of them, which take some
 * 10 ms longer: a program that serves encodes two texts in one call when it starts. Its files must
 * stay as they are while it is open (to replace a file by a rename is all right). */
SR_API SR_MUST_CHECK sr_status sr_encoder_open(const sr_encoder_options *options,
                                               sr_encoder **encoder, sr_error *error);
SR_API void sr_encoder_close(sr_encoder **encoder);

/* Number of floats in a vector. */
SR_API int sr_encoder_dimension(const sr_encoder *encoder);

/* The model's name: the last part of its directory, or the identity of a callback. Lives with the
 * encoder. */
SR_API const char *sr_encoder_name(const sr_encoder *encoder);

/* 64 hexadecimal digits that change whenever the vectors could: a digest of weights, tokenizer,
 * pooling, prefix and maximum length. Lives with the encoder. */
SR_API const char *sr_encoder_fingerprint(const sr_encoder *encoder);

/* Encodes `n` texts. `out` is the caller's, n x dimension floats, row-major; each row has Euclidean
 * length 1. The vector of a text does not depend on the others, nor on the number of threads.
 * `truncated`, when not NULL, takes n flags: 1 where the text was longer than the model's maximum.
 * With a static model, all texts without any token that it knows have one vector, which is far from
 * those of other texts. */
SR_API SR_MUST_CHECK sr_status sr_encoder_encode(sr_encoder *encoder, const sr_str *texts, size_t n,
                                                 float *out, uint8_t *truncated, sr_error *error);

/* Tokenises one text as the encoder does: prefix and special tokens (which a static model does not
 * use) included, cut to `capacity` (at
 * least 2; not to the model's maximum) by leaving out tokens before the last special one. Writes
 * the ids to `ids`, their number to `count` and, when not NULL, whether some were left out to
 * `truncated`. SR_ERR_UNSUPPORTED for a callback encoder. */
SR_API SR_MUST_CHECK sr_status sr_encoder_tokenize(sr_encoder *encoder, sr_str text, int32_t *ids,
                                                   size_t capacity, size_t *count,
                                                   uint8_t *truncated, sr_error *error);

/* What an encoder has done so far. All zero where it has no cache. */
typedef struct sr_encoder_counts {
    size_t size;
    uint64_t cache_hits;      /* texts answered from the cache, or by an equal text of the call */
    uint64_t cache_misses;    /* texts that were encoded */
    uint64_t cache_evictions; /* texts that made room for others */
    uint64_t cache_entries;   /* texts held now */
    uint64_t cache_used;      /* bytes held now: vectors, texts and what the cache itself needs */
    uint64_t cache_max;       /* bytes that cache_used never passes: the option's */
} sr_encoder_counts;

/* Fills `counts`, whose `size` the caller has set. */
SR_API SR_MUST_CHECK sr_status sr_encoder_stats(const sr_encoder *encoder,
                                                sr_encoder_counts *counts, sr_error *error);

typedef struct sr_distill_options {
    size_t size;
    const char *model;   /* the transformer to distil from; as in sr_encoder_options */
    const char *output;  /* the directory to make; it must not exist */
    int dimension;       /* 8 to the transformer's; 0: 256, or the transformer's if that is less */
    int threads;         /* as in sr_encoder_options */
    const sr_str *texts; /* texts of the kind that will be encoded; none: NULL and 0 */
    size_t text_count;
    sr_progress_fn *progress; /* in tokens of the vocabulary, texts and steps of the fit */
    void *progress_user;
} sr_distill_options;

/* Makes a static model, a thousand times as fast as the transformer it is made from and less exact:
 * one vector for each token of the vocabulary, int8 with a scale for each, in Model2Vec's layout.
 * With texts, the vectors are fitted so that means over tokens come near to the transformer's
 * vectors of these texts; some thousands are worth the while. The result does not depend on the
 * machine or the number of threads. Takes seconds for the vocabulary, and as long as encoding the
 * texts takes. The directory appears complete or not at all. Fails with SR_ERR_INVALID (`output`
 * exists), SR_ERR_UNSUPPORTED (the model is static itself) or as sr_encoder_open() does. */
SR_API SR_MUST_CHECK sr_status sr_distill(const sr_distill_options *options, sr_error *error);

/* ---- Router ---------------------------------------------------------------------------------- */

typedef struct sr_router sr_router; /* opaque; safe to share between threads */

typedef enum sr_open_flags {
    SR_OPEN_REENCODE =
        1,            /* add the vectors that this model lacks; other models' vectors are kept */
    SR_OPEN_LAZY = 2, /* load the model at its first use: for calls that need no vectors */
    SR_OPEN_READ_ONLY = 4, /* never write; mutations fail with SR_ERR_READ_ONLY */
    SR_OPEN_EXISTING = 8,  /* fail with SR_ERR_NOT_FOUND rather than create the database */
    /* Fit again in the background, on a thread of the router's own, when the table has changed and
     * then been quiet for half a second (or ten seconds after the first change). A failure is
     * logged, and the fit before goes on. */
    SR_OPEN_REFIT = 16
} sr_open_flags;

/* When a change is stored. It is always visible to every later call when its own call has returned,
 * and always stored whole or not at all. */
typedef enum sr_durability {
    SR_DURABILITY_DEFAULT = 0, /* the router's, see sr_options */
    /* Stored when the call returns: survives a kill of the process; the last moments may go with the
     * power. */
    SR_DURABILITY_NORMAL = 1,
    /* Synced to the disk before the call returns. A call that fails in nothing but the syncing leaves the
     * change in place, stored as NORMAL. */
    SR_DURABILITY_FULL = 2,
    /* Stored behind, by a thread of the router's own, within some milliseconds as a rule. What cannot
     * be stored is taken back: the table becomes again what the database holds, with its revision; the
     * revisions of what was taken back are not given to later changes. */
    SR_DURABILITY_DEFERRED = 3
} sr_durability;

/* Tells that `mutations` deferred changes could not be stored and were taken back, and why. Called on
 * the thread that tried to store them, with no lock held that a call on the router would need; the
 * router must not be closed by it. When sr_router_close() calls it, the router takes no more changes
 * (SR_ERR_INVALID). */
typedef void sr_lost_fn(void *user, uint64_t mutations, const sr_error *error);

/* How utterances are searched. The approximate kinds are for tables of many millions, which take too long to be
 * scanned: they miss the best utterance now and then; changes count at once as ever. They are part of builds with
 * -Dfaiss=enabled, and SR_ERR_UNSUPPORTED in others. */
typedef enum sr_index_kind {
    SR_INDEX_EXACT = 0,
    SR_INDEX_HNSW = 1, /* a graph: faster, and slower to build */
    SR_INDEX_IVF = 2   /* inverted lists */
} sr_index_kind;

typedef struct sr_options {
    size_t size;
    /* A file, created by the first change when missing; NULL or ":memory:": nothing is kept. */
    const char *database;
    const char *model; /* as in sr_encoder_options */
    int threads;       /* as in sr_encoder_options */
    unsigned flags;    /* of sr_open_flags */
    double margin; /* a best route that leads the next by less than this cosine is `ambiguous` */
    sr_encoder *encoder;      /* used instead of `model`; borrowed: close it after the router */
    sr_progress_fn *progress; /* of re-encoding, in utterances; by any call, until the close */
    void *progress_user;
    sr_profile profile; /* as in sr_encoder_options */
    size_t cache_bytes; /* as in sr_encoder_options */
    const char *prefix; /* as in sr_encoder_options */
    /* The static model of the fast path, as in sr_encoder_options; NULL: static-en, where it is
     * there; "": none. Loaded when a fit needs it. Not used where the model is static itself. */
    const char *fast_model;
    sr_durability durability; /* of changes that do not name another; DEFAULT: NORMAL */
    sr_lost_fn *lost;         /* told of deferred changes that could not be stored; may be NULL */
    void *lost_user;
    sr_index_kind index;
} sr_options;

/* Opens a route table. Fails with SR_ERR_MODEL when utterances have no vectors of this model
 * (unless SR_OPEN_REENCODE), SR_ERR_DATABASE when the file is another program's; both leave the
 * file as it was. With SR_OPEN_LAZY the model is not compared until a call needs it. */
SR_API SR_MUST_CHECK sr_status sr_router_open(const sr_options *options, sr_router **router,
                                              sr_error *error);
SR_API void sr_router_close(sr_router **router);

/* ---- Mutations ------------------------------------------------------------------------------- */

typedef enum sr_threshold_kind {
    /* Fitted by sr_fit(); where neighbours decide, cosine 0.60, or what was fitted to a table too large for heads. */
    SR_THRESHOLD_AUTO = 0,
    SR_THRESHOLD_COSINE = 1,    /* -1 to 1: the best utterance's cosine, give or take 1e-6 */
    SR_THRESHOLD_CONFIDENCE = 2 /* 0 to 1: the confidence of the decision */
} sr_threshold_kind;

typedef struct sr_threshold {
    sr_threshold_kind kind;
    double value; /* not read for SR_THRESHOLD_AUTO */
} sr_threshold;

typedef struct sr_route {
    size_t size;
    sr_str name;
    const sr_str *utterances; /* may be empty: the route is then never decided for */
    size_t utterance_count;
    const sr_threshold *threshold; /* NULL: the default (AUTO), or as it is with SR_PUT_EXTEND */
    const sr_str *description;     /* NULL: empty, or as it is with SR_PUT_EXTEND */
    /* Any JSON value as text, or empty; NULL as for the description. No name may stand in an object
     * twice. White space around its tokens is not kept; numbers are, digit for digit. */
    const sr_str *metadata;
    /* NULL, or the utterances' vectors: utterance_count x the encoder's dimension, row by row, each
     * of Euclidean length 1 within 1e-3 (SR_ERR_INVALID otherwise). They are taken instead of
     * encoding; they must be what the encoder would give, as nothing compares them. */
    const float *vectors;
} sr_route;

typedef enum sr_put_mode {
    SR_PUT_REPLACE = 0, /* each named route becomes exactly what is given */
    SR_PUT_EXTEND = 1 /* utterances are added to what is there; fields that are not NULL are set */
} sr_put_mode;

typedef struct sr_put_options {
    size_t size;
    sr_put_mode mode;
    sr_progress_fn *progress; /* in utterances to be encoded */
    void *progress_user;
    /* Out-of-scope examples to be put by the same change (see sr_oos_put); with SR_PUT_REPLACE and
     * at least one they replace those that are there. */
    const sr_str *oos;
    size_t oos_count;
    sr_durability durability;
} sr_put_options;

typedef struct sr_remove_options {
    size_t size;
    sr_durability durability;
} sr_remove_options;

/* What a mutation did. It is visible to every later call of this router when the call has returned,
 * and stored as `durability` says. */
typedef struct sr_receipt {
    uint64_t revision; /* of the table after the call; unchanged when nothing changed */
    uint64_t routes_added;
    uint64_t routes_changed;
    uint64_t routes_removed;
    uint64_t utterances_added;
    uint64_t utterances_removed;
    uint64_t duplicates; /* utterances given that their route already had, stored once */
    uint64_t oos_added;  /* out-of-scope examples; among them, too, duplicates are counted above */
    uint64_t oos_removed;
    sr_durability durability; /* that this change has now; never DEFAULT */
    uint64_t lost; /* deferred changes that were taken back since the receipt before this one */
} sr_receipt;

/* Adds or changes `n` routes: all, or none on failure. A name may stand in `routes` more than once;
 * the entries apply in order, with SR_PUT_REPLACE only the first replacing. Within one route the
 * same utterance is stored once. `options` and `receipt` may be NULL. */
SR_API SR_MUST_CHECK sr_status sr_routes_put(sr_router *router, const sr_route *routes, size_t n,
                                             const sr_put_options *options, sr_receipt *receipt,
                                             sr_error *error);

/* Adds or replaces one route: sr_routes_put() with n = 1 and SR_PUT_REPLACE. */
SR_API SR_MUST_CHECK sr_status sr_route_put(sr_router *router, const sr_route *route,
                                            sr_receipt *receipt, sr_error *error);

/* Removes a route with its utterances; SR_ERR_NOT_FOUND when there is none. It is never returned by
 * a call of this router that begins after this one has returned, nor by one of another router on the
 * same database (see Processes). */
SR_API SR_MUST_CHECK sr_status sr_route_remove(sr_router *router, sr_str name, sr_receipt *receipt,
                                               sr_error *error);

/* Removes `n` routes as one change: all, or none on failure. A name may stand there more than once.
 * `options` and `receipt` may be NULL. */
SR_API SR_MUST_CHECK sr_status sr_routes_remove(sr_router *router, const sr_str *names, size_t n,
                                                const sr_remove_options *options,
                                                sr_receipt *receipt, sr_error *error);

/* Removes utterances of a route; SR_ERR_NOT_FOUND, changing nothing, when one of them is not there.
 * */
SR_API SR_MUST_CHECK sr_status sr_utterances_remove(sr_router *router, sr_str name,
                                                    const sr_str *utterances, size_t n,
                                                    sr_receipt *receipt, sr_error *error);

/* Adds examples of texts that belong to no route: sr_routes_put() without routes, with SR_PUT_EXTEND.
 * They are never returned and in no count of routes or utterances. sr_fit() learns from them; where
 * neighbours decide, a text that is nearer to one of them than to every route is turned down. */
SR_API SR_MUST_CHECK sr_status sr_oos_put(sr_router *router, const sr_str *texts, size_t n,
                                          sr_receipt *receipt, sr_error *error);

/* Removes out-of-scope examples, or all with NULL and 0; SR_ERR_NOT_FOUND, changing nothing, when
 * one of them, or any, is not there. */
SR_API SR_MUST_CHECK sr_status sr_oos_remove(sr_router *router, const sr_str *texts, size_t n,
                                             sr_receipt *receipt, sr_error *error);

/* Waits until every deferred change made before this call is stored; fails as the first of them that
 * was lost since the flush before this one. Closing a router does the same first. */
SR_API SR_MUST_CHECK sr_status sr_router_flush(sr_router *router, sr_error *error);

/* ---- Reading the table ----------------------------------------------------------------------- */

/* A route as stored. Strings live as long as the sr_table they came in. */
typedef struct sr_route_view {
    sr_str name;
    sr_str description;
    sr_str metadata; /* JSON text, or empty */
    sr_threshold threshold;
    const sr_str *utterances; /* in the order of their adding; NULL where they were not asked for */
    size_t utterance_count;
} sr_route_view;

typedef struct sr_table sr_table; /* a copy of the table at one revision; opaque */

/* Copies the routes, in the order of their adding. `name` restricts it to one route,
 * SR_ERR_NOT_FOUND when there is none; a NULL `name` means all. `with_utterances` 0 leaves out the
 * utterances' texts. */
SR_API SR_MUST_CHECK sr_status sr_table_read(sr_router *router, const sr_str *name,
                                             int with_utterances, sr_table **table,
                                             sr_error *error);
SR_API size_t sr_table_count(const sr_table *table);
SR_API uint64_t sr_table_revision(const sr_table *table);
SR_API const sr_route_view *sr_table_route(const sr_table *table,
                                           size_t index); /* NULL past the end */
/* The out-of-scope examples of a table that was read whole, in the order of their adding; NULL
 * where their texts were not asked for. `count` takes their number. */
SR_API const sr_str *sr_table_oos(const sr_table *table, size_t *count);
/* Writes the vectors of a table that was read whole with its texts: one row of
 * sr_encoder_dimension() floats (`dimension` of sr_info) for each utterance, routes and utterances in the
 * table's order, then one for each out-of-scope example; each row has length 1. `out` is the caller's,
 * with room for `capacity` floats; with NULL, only the model is loaded, so that sr_router_info() can
 * tell the dimension. Stored vectors are copied; where the router's table has changed since, the
 * texts are encoded. SR_ERR_INVALID when texts were not asked for, or too little room. */
SR_API SR_MUST_CHECK sr_status sr_table_vectors(sr_router *router, const sr_table *table,
                                                float *out, size_t capacity, sr_error *error);
SR_API void sr_table_free(sr_table **table);

/* Which routes a page of the table holds. */
typedef struct sr_page_options {
    size_t size;
    uint64_t after;      /* the cursor of the page before; 0: the first page */
    size_t limit;        /* routes; 0: 100; at most 10,000 */
    sr_str prefix;       /* of the name, byte by byte; empty: any */
    sr_str search;       /* in the name or description, without regard to ASCII case; empty: any */
    int with_utterances; /* 1: with the utterances' texts */
} sr_page_options;

/* Copies at most `limit` routes that match, in the order of their adding, and nothing of the others. `options` may
 * be NULL. `*next` takes the cursor of the next page, 0 where this is the last: routes that come or go in between
 * do not make others appear twice or be left out. Out-of-scope examples are not part of a page. */
SR_API SR_MUST_CHECK sr_status sr_table_page(sr_router *router, const sr_page_options *options,
                                             sr_table **table, uint64_t *next, sr_error *error);

/* Some utterances with their vectors. All lives as long as the sample. */
typedef struct sr_sample {
    uint64_t revision;
    size_t count, total;  /* utterances here; in the table */
    size_t dimension;     /* floats of a vector */
    const float *vectors; /* count x dimension, each of length 1 */
    const sr_str *routes; /* of each, its route's name */
    const sr_str *texts;
} sr_sample;

/* Copies the stored vectors of at most `limit` utterances (1 to 100,000), evenly spaced in the table's order, so that
 * each route has its share; all where there are no more. Out-of-scope examples are left out. */
SR_API SR_MUST_CHECK sr_status sr_utterance_vectors(sr_router *router, size_t limit,
                                                    sr_sample **sample, sr_error *error);
SR_API void sr_sample_free(sr_sample **sample);

typedef enum sr_fit_kind {
    SR_FIT_NONE = 0,       /* never fitted: the nearest neighbour decides */
    SR_FIT_NEIGHBOURS = 1, /* fitted, but too small or too large a table to learn from: the same */
    SR_FIT_HEADS = 2       /* trained heads decide */
} sr_fit_kind;

typedef struct sr_info {
    size_t size;
    uint64_t revision;
    uint64_t routes;
    uint64_t utterances;
    uint64_t models; /* of which the database holds vectors */
    int schema;      /* the database's schema version */
    int dimension;   /* 0 while no model is loaded */
    int threads;     /* 0 while no model is loaded, or with a borrowed encoder */
    int read_only;
    char database[1024];
    char model[128]; /* "" while no model is loaded, as fingerprint and weights */
    char fingerprint[65];
    char stored_model[128]; /* the model of the newest vectors in the database, or "" */
    char cpu[16];
    char version[16];
    uint64_t oos_examples;
    sr_fit_kind fit;       /* of the fit in use, or, while no model is loaded, stored */
    uint64_t fit_revision; /* of the table that it was made from */
    uint64_t fit_pending;  /* routes that came or changed since: neighbours decide for them */
    int fast_path;         /* 1: the fit has one */
    double fast_share;     /* of texts that the fast path answers; NaN without one */
    /* What SR_THRESHOLD_AUTO means, as confidence; 0: the text is likelier to be routed rightly than
     * to be out of scope; NaN: cosine 0.60. Where `fit` is SR_FIT_NEIGHBOURS, as the table is too large for heads:
     * as cosine. */
    double auto_threshold;
    char fast_model[128]; /* of the fast path while it is loaded, or "" */
    /* Memory of the search index, and of it the part that holds vectors in full; 0 while no model is
     * loaded. */
    uint64_t index_bytes, index_exact_bytes;
    uint64_t rows_dead;       /* of the index: removed, and not yet given back */
    uint64_t waiting;         /* deferred changes that are not stored yet */
    uint64_t lost;            /* deferred changes taken back since the opening */
    sr_durability durability; /* of changes that do not name another */
    /* Why nothing but neighbours could decide, whatever is fitted: too few utterances to learn from, or too
     * many; "" where trained heads can be learned. */
    char no_heads[96];
    /* Of the encoder's cache, as in sr_encoder_counts; 0 without one, and while no model is loaded. */
    uint64_t cache_hits, cache_misses, cache_entries, cache_used;
} sr_info;

/* Fills `info`, whose `size` the caller has set. Loads no model, and never waits long: while a change is made, what only
 * its maker knows (index_bytes, index_exact_bytes, rows_dead, waiting, lost) may be as it was at the call before. */
SR_API SR_MUST_CHECK sr_status sr_router_info(sr_router *router, sr_info *info, sr_error *error);

/* Checks the whole database: its pages, keys, every vector's length and values, the fit as far as
 * the loaded model can read it, and the files of the loaded models against their stored digests. SR_ERR_FORMAT with the first fault found. */
SR_API SR_MUST_CHECK sr_status sr_router_verify(sr_router *router, sr_error *error);

/* ---- Fitting --------------------------------------------------------------------------------- */

typedef struct sr_fit_options {
    size_t size;
    /* Labelled texts beside the table's own, which thresholds and calibration are fitted to; they
     * are not stored. Of each its route's name; length 0: it belongs to none. */
    const sr_str *texts;
    const sr_str *routes;
    size_t count;
    /* What automatic thresholds aim at: at most this share of out-of-scope texts accepted, at least
     * this share of the accepted texts right. 0: as at the last fit; negative, or where no fit was
     * told: as many right answers as possible, rejections included. */
    double max_oos_accepted;
    double min_precision;
    /* One route that the targets are for: fitted to it, they become its threshold, of the kind
     * SR_THRESHOLD_CONFIDENCE. NULL: all that are SR_THRESHOLD_AUTO. */
    const sr_str *route;
    sr_progress_fn *progress; /* in parts of a thousand */
    void *progress_user;
} sr_fit_options;

/* A route whose threshold costs right answers. */
typedef struct sr_fit_warning {
    sr_str route;
    sr_threshold threshold;
    uint64_t texts;       /* held-out texts of the route that are decided rightly without it */
    uint64_t turned_down; /* of these, by the threshold */
} sr_fit_warning;

/* What a fit found out about itself on texts that it had held out. Shares from 0 to 1; NaN where
 * there was nothing to measure. Accuracies are of texts that have a route, without rejection. */
typedef struct sr_fit_report {
    sr_fit_kind kind;  /* never SR_FIT_NONE */
    uint64_t revision; /* of the table that was fitted */
    uint64_t routes, utterances, oos_examples, labelled;
    double neighbours_accuracy, slow_accuracy, fast_accuracy, auto_accuracy;
    double fast_share;              /* of texts that the fast path answers */
    double oos_auroc, ece;          /* ece: expected calibration error */
    double auto_threshold;          /* as in sr_info */
    double oos_accepted, precision; /* at that threshold */
    double seconds;
    double route_threshold; /* given to the option `route`, on confidence; NaN without one */
    const sr_fit_warning *warnings;
    size_t warning_count;
    const char *no_heads; /* as in sr_info: why neighbours decide; NULL where heads do */
} sr_fit_report;

/* Learns from the table: heads, calibration, automatic thresholds and the fast path, on a copy, while
 * decisions and changes go on; then puts them in place at once and stores them. Routes that changed
 * meanwhile, or change later, are decided by their neighbours until the next fit. Too small a table
 * is no failure: neighbours go on deciding. `options` may be NULL; `report`, NULL or a place for one,
 * is released by sr_fit_report_free(). Fails with SR_ERR_INVALID (a labelled text's route is not
 * there), SR_ERR_NOT_FOUND (the option `route` is not there, or the fast model named at the
 * opening), SR_ERR_UNSUPPORTED (no threshold of the option `route` meets its target),
 * SR_ERR_READ_ONLY or SR_ERR_CANCELLED, and leaves the fit before in place. Only one call fits at a
 * time; others wait. */
SR_API SR_MUST_CHECK sr_status sr_fit(sr_router *router, const sr_fit_options *options,
                                      sr_fit_report **report, sr_error *error);
SR_API void sr_fit_report_free(sr_fit_report **report);

/* ---- Decisions ------------------------------------------------------------------------------- */

typedef enum sr_path {
    SR_PATH_AUTO = 0,
    SR_PATH_FAST = 1,
    SR_PATH_SLOW = 2,
    SR_PATH_RERANK = 3
} sr_path;
typedef enum sr_outcome { SR_NONE = 0, SR_MATCHED = 1 } sr_outcome;
typedef enum sr_reason {
    SR_REASON_MATCHED = 0,
    SR_REASON_BELOW_THRESHOLD = 1,
    SR_REASON_AMBIGUOUS = 2,
    SR_REASON_EMPTY_TABLE = 3,
    SR_REASON_EMPTY_TEXT = 4
} sr_reason;

/* The names of the contract in JSON: "matched", "none"; "below_threshold", ...; "slow", ... */
SR_API const char *sr_outcome_name(sr_outcome outcome);
SR_API const char *sr_reason_name(sr_reason reason);
SR_API const char *sr_path_name(sr_path path);

typedef struct sr_decide_options {
    size_t size;
    /* SR_PATH_FAST: the fast path alone, however unsure it is; it knows no cosines, so a route with
     * a cosine threshold is never accepted and the margin not looked at. SR_ERR_UNSUPPORTED until a
     * fit has made it. SR_PATH_AUTO: the fast path where it is sure, and the slow one otherwise;
     * always the slow one while routes are pending (see sr_info) or with a margin. */
    sr_path path;
    int top_k;     /* candidates per decision; 0: 3; -1: none; at most 1000 */
    int no_reject; /* 1: the best route, whatever thresholds and margin say */
    int as_is;     /* 1: misspelt words are not mended (see read_as) */
} sr_decide_options;

typedef struct sr_candidate {
    sr_str route;
    double confidence;
    double score;     /* cosine of the route's best utterance; NaN by the fast path */
    sr_str utterance; /* that utterance; by the fast path, the best by its own vectors */
} sr_candidate;

/* Numbers that do not exist are NaN: score, confidence and margin of an empty table or text, score
 * and margin by the fast path, margin where there is one route. */
typedef struct sr_decision {
    sr_str text; /* as decided: what was not UTF-8 is replaced */
    sr_outcome status;
    sr_reason reason;
    sr_str route;      /* length 0 when status is SR_NONE */
    double confidence; /* 0 to 1: that the best candidate is right, given when rejected too */
    double score;      /* cosine of the best utterance, -1 to 1 */
    double margin;     /* the score less the best of the other routes'; below 0 where the heads
                          prefer another route than the nearest */
    sr_path path;      /* never SR_PATH_AUTO */
    int truncated;     /* 1: the text was longer than the model reads */
    uint64_t revision; /* of the table that decided */
    const sr_candidate *candidates; /* best first */
    size_t candidate_count;
    int fitted; /* 1: trained heads decided; 0: the nearest neighbour */
    /* The text that was decided, where it was not `text` itself; length 0 otherwise. A fit reads a
     * word of five ASCII letters or more that neither the table nor the fast model's vocabulary has
     * as the table's own word, where one is a single edit away: a letter missing, added, replaced, or
     * two swapped. Nothing is mended while routes are pending. */
    sr_str read_as;
} sr_decision;

typedef struct sr_decisions sr_decisions; /* opaque; holds all that its decisions point to */

/* Decides `n` texts against one state of the table; `options` may be NULL. Blank texts and an empty
 * table are answers (SR_REASON_EMPTY_TEXT, SR_REASON_EMPTY_TABLE), not failures. Blocks until done,
 * computing on up to the router's `threads` threads. */
SR_API SR_MUST_CHECK sr_status sr_decide(sr_router *router, const sr_str *texts, size_t n,
                                         const sr_decide_options *options, sr_decisions **decisions,
                                         sr_error *error);
SR_API size_t sr_decisions_count(const sr_decisions *decisions);
SR_API const sr_decision *sr_decisions_get(const sr_decisions *decisions,
                                           size_t index); /* NULL past the end */
SR_API void sr_decisions_free(sr_decisions **decisions);

/* Where the time of a call of sr_decide(), or of a submission, went: nanoseconds of wall clock. A batch's time is told in
 * full to each text in it. */
typedef struct sr_timings {
    uint64_t queue_ns;  /* it waited for its batches to begin */
    uint64_t fast_ns;   /* the fast path, reading and mending of the texts included */
    uint64_t encode_ns; /* the encoder */
    uint64_t search_ns; /* the index */
    uint64_t decide_ns; /* from scores to decisions */
    uint64_t total_ns;  /* from the call to the answer, all else included */
    /* Of the largest batch that it was encoded in, texts of other submissions included. 0: nothing was encoded; no tokens
     * where the encoder has none, or all came from its cache. */
    uint64_t batch_texts, batch_tokens;
} sr_timings;

/* Lives with the decisions. */
SR_API const sr_timings *sr_decisions_timings(const sr_decisions *decisions);

/* ---- Vectors of texts ------------------------------------------------------------------------- */

/* All lives as long as the vectors. */
typedef struct sr_vectors {
    size_t count, dimension;
    const float *values;      /* count x dimension, each of length 1 */
    const uint8_t *truncated; /* of each: 1 where the text was longer than the model reads */
    const uint32_t *tokens;   /* of each, special ones included; 0 where the encoder has none */
    sr_timings timings;
} sr_vectors;

/* Encodes texts with the router's encoder, on up to its number of threads; as sr_encoder_encode(). */
SR_API SR_MUST_CHECK sr_status sr_router_encode(sr_router *router, const sr_str *texts, size_t n,
                                                sr_vectors **vectors, sr_error *error);
SR_API void sr_vectors_free(sr_vectors **vectors);

/* ---- Queue: texts of many callers, decided in batches ------------------------------------------ */
/*
 * sr_submit() gives a text to the router's queue and returns; a callback gets the decision, with the same bits as by
 * sr_decide(). What the fast path answers (or needs no model: blank texts, an empty table) does not
 * wait: it is decided by sr_submit() itself, on its caller's thread. The other texts of all submissions
 * join batches, cut by tokens, which threads of the queue's own encode and decide, as many as the encoder has
 * threads; idle ones take no time of the processor.
 *
 *   Exactly once   A submission that was accepted (SR_OK) gets its callback once: the answer, or SR_ERR_TIMEOUT,
 *                  SR_ERR_CANCELLED, or another failure. One that was not accepted gets none.
 *   Callbacks      are called with no lock held, by the submitting thread before sr_submit() returns (see there), by a
 *                  thread of the queue, by the thread that calls sr_cancel(), or by the one that closes the
 *                  router; calls for different submissions may overlap. They may submit, cancel and call all else of the
 *                  library but sr_router_close() and sr_queue_drain() of this router, and should be short.
 *   Fairness       Waiting texts are taken key by key, in turn, by tokens: a key with much waiting delays
 *                  others by its share and no more. Within a key the order is that of submission.
 *   Bounds         Past the bounds on texts and bytes, or where what waits would take longer than the
 *                  deadline leaves, sr_submit() fails with SR_ERR_OVERLOADED at once.
 *   Closing        sr_router_close() lets running batches end and cancels what waits, each callback called
 *                  before it returns. A program that may simply end (exit) need not close. After a fork() the child
 *                  must not use the parent's router, as with any other call: threads do not survive it.
 */

/* Of a submission: no router gives one twice. 0: none. */
typedef uint64_t sr_ticket;

typedef enum sr_queue_profile {
    /* Waits for more texts only where that pays, by what batches were measured to take: where the part of a batch's
     * time that does not depend on its size is more than the waiting costs all who wait. That
     * happens with remote encoders; it does not with a model on this machine. */
    SR_QUEUE_AUTO = 0,
    SR_QUEUE_LATENCY = 1,   /* never waits: a thread that is free takes what there is */
    SR_QUEUE_THROUGHPUT = 2 /* waits for a full batch, up to max_wait_us */
} sr_queue_profile;

typedef struct sr_queue_options {
    size_t size;
    sr_queue_profile profile;
    size_t batch_tokens;  /* a batch is full with so many; 0: what was measured to be best */
    uint64_t max_wait_us; /* 0: 2000 */
    /* Bounds on what waits: 0: 10,000 texts, 64 MiB. What waits of one key never is more than eight times the room that is left, so
     * that a busy key does not keep others out: alone, it fills eight ninths. */
    size_t max_texts, max_bytes;
    /* Called after the callbacks of a batch, on the same thread: here an event loop is woken once for all of them. Not
     * called for callbacks that a submitting, cancelling or closing thread makes. NULL: none. */
    void (*batch_done)(void *user);
    void *batch_user;
} sr_queue_options;

/* Sets the queue's options, at any time; they hold for what comes later. NULL: the defaults. */
SR_API SR_MUST_CHECK sr_status sr_queue_set(sr_router *router, const sr_queue_options *options,
                                            sr_error *error);

/* What became of a submission. */
typedef struct sr_completion {
    sr_ticket ticket; /* 0: it was answered by sr_submit() itself */
    sr_status status;
    const sr_error *error; /* unless SR_OK; lives during the callback */
    /* The callee's, to be released by sr_decisions_free(); NULL unless SR_OK. */
    sr_decisions *decisions;
    sr_vectors *vectors; /* the same for SR_SUBMIT_VECTORS, by sr_vectors_free() */
} sr_completion;

typedef void sr_done_fn(void *user, const sr_completion *completion);

typedef enum sr_submit_flags {
    SR_SUBMIT_VECTORS = 1, /* vectors of the texts instead of decisions */
    SR_SUBMIT_AWAY = 2 /* nothing is decided on the submitting thread: long lists, event loops */
} sr_submit_flags;

typedef struct sr_submit_options {
    size_t size;
    const sr_decide_options *decide; /* NULL: the defaults */
    uint64_t key;                    /* whose work it is, for fairness; any number */
    uint64_t deadline_ns; /* of sr_steady_ns(); 0: none. What has not begun by then is not done */
    unsigned flags;       /* of sr_submit_flags */
} sr_submit_options;

/* Submits one text, which is copied; `options` may be NULL. `*ticket` (NULL is allowed) is written before a thread of the
 * queue can call `done`; when it is 0 afterwards, `done` has been called already. Fails, without `done` being called, as
 * sr_decide() does for its arguments, and with SR_ERR_OVERLOADED, SR_ERR_TIMEOUT (the deadline has
 * passed) and SR_ERR_CANCELLED (the router is being closed). */
SR_API SR_MUST_CHECK sr_status sr_submit(sr_router *router, sr_str text,
                                         const sr_submit_options *options, sr_done_fn *done,
                                         void *user, sr_ticket *ticket, sr_error *error);

/* Submits a list of texts, answered together, against one state of the table as by sr_decide(). Its texts may be encoded in
 * several batches. A list that holds more than the bounds allow at all fails with SR_ERR_LIMIT. */
SR_API SR_MUST_CHECK sr_status sr_submit_list(sr_router *router, const sr_str *texts, size_t n,
                                              const sr_submit_options *options, sr_done_fn *done,
                                              void *user, sr_ticket *ticket, sr_error *error);

/* Cancels a submission: its callback is called with SR_ERR_CANCELLED before this returns, on this thread. What has not begun
 * is not done. SR_ERR_NOT_FOUND when it has been answered, or is being answered now by another thread. */
SR_API SR_MUST_CHECK sr_status sr_cancel(sr_router *router, sr_ticket ticket, sr_error *error);

/* Waits until all that was accepted is answered; SR_ERR_TIMEOUT when that is not so at `deadline_ns` of sr_steady_ns()
 * (0: waits for good). Submissions go on being accepted. */
SR_API SR_MUST_CHECK sr_status sr_queue_drain(sr_router *router, uint64_t deadline_ns,
                                              sr_error *error);

/* How long, in nanoseconds, what is submitted now with that key would probably wait before it begins. */
SR_API uint64_t sr_queue_wait(sr_router *router, uint64_t key);

/* What a queue holds, and has done so far. */
typedef struct sr_queue_counts {
    size_t size;
    /* Now; tokens are estimated. */
    uint64_t waiting_texts, waiting_bytes, waiting_tokens, waiting_keys;
    uint64_t running_texts;      /* being encoded now */
    uint64_t wait_ns;            /* sr_queue_wait() of a key that has nothing waiting */
    uint64_t accepted, answered; /* submissions; answered in whatever way */
    uint64_t at_once;            /* of the answered, by sr_submit() itself */
    uint64_t shed, timed_out, cancelled, failed; /* submissions; shed ones were not accepted */
    uint64_t batches, batch_texts, batch_tokens; /* encoded in all */
    double batch_fixed_ns, batch_token_ns; /* measured: a batch takes fixed + tokens x token */
} sr_queue_counts;

/* Fills `counts`, whose `size` the caller has set. */
SR_API SR_MUST_CHECK sr_status sr_queue_stats(sr_router *router, sr_queue_counts *counts,
                                              sr_error *error);

#ifdef __cplusplus
}
#endif
#endif
