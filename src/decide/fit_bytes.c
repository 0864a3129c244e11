/*
 * fit_bytes.c - a fit as bytes and back.
 *
 * Layout: a header {magic, version, size, hash of all that follows}, then the parts of the struct in order, raw
 * and little-endian, as every CPU that this library runs on has them. Arrays are preceded by nothing: their
 * sizes follow from the numbers before them. Of the lexical head only buckets that are known are
 * stored. Bytes are hostile until the hash has matched, and sizes are checked even then.
 */
#include <math.h>
#include <string.h>

#include "decide/fit_int.h"

#define MAGIC   "SynFit\r\n"
#define VERSION 3u

/* A fit for this many routes is not made in the first place; nor read. */
#define MAX_ROUTES (1u << 22)
#define MAX_WIDTH  65536u
#define HASH_SEED  0x5f1d7a2bULL

typedef struct header {
    char magic[8];
    uint32_t version, reserved;
    uint64_t size; /* of all bytes */
    uint64_t hash; /* of what follows */
} header;

typedef struct numbers {
    uint64_t dimension, routes, classes, fast_dimension, buckets, texts, known, words;
    char fast_fingerprint[72];
} numbers;

typedef struct stored_route {
    uint64_t id, digest, count;
} stored_route;

/* ---- Writing --------------------------------------------------------------------------------------------- */

static bool put(sri_buffer *out, const void *bytes, size_t count, size_t size) {
    return count == 0 || sri_buffer_append(out, bytes, count * size);
}

static bool put_routes(sri_buffer *out, const sri_fit *fit) {
    for (size_t r = 0; r < fit->route_count; r++) {
        const sri_fit_route *route = &fit->routes[r];
        stored_route stored = {route->id, route->digest, route->count};
        if (!put(out, &stored, 1, sizeof stored)) return false;
    }
    return true;
}

static bool put_dense(sri_buffer *out, const sri_dense_head *head) {
    return put(out, head->w, head->classes * head->width, sizeof *head->w) &&
           put(out, head->bias, head->classes, sizeof *head->bias);
}

static bool known(const sri_fit *fit, size_t bucket) { return fit->lexical.scale[bucket] != 0; }

static bool put_lexical(sri_buffer *out, const sri_fit *fit) {
    const sri_sparse_head *head = &fit->lexical;
    bool enough = put(out, fit->ngrams.idf, fit->ngrams.buckets, sizeof *fit->ngrams.idf) &&
                  put(out, head->scale, head->buckets, sizeof *head->scale) &&
                  put(out, head->bias, head->stride, sizeof *head->bias);
    for (size_t b = 0; b < head->buckets && enough; b++)
        enough = !known(fit, b) || put(out, head->rows + b * head->stride, head->stride, 1);
    return enough;
}

static bool put_centres(sri_buffer *out, const sri_centres *c) {
    return put(out, c->slow, c->routes * c->dimension, sizeof *c->slow) &&
           put(out, c->usual, c->routes, sizeof *c->usual) &&
           put(out, c->mean, c->fast_dimension, sizeof *c->mean) &&
           put(out, c->fast, c->routes * SRI_PROTOTYPES * c->fast_dimension, sizeof *c->fast);
}

/* Lengths and counts of all words, then their letters. */
static bool put_words(sri_buffer *out, const sri_speller *speller) {
    for (size_t i = 0; i < speller->count; i++) {
        uint32_t stored[2] = {speller->words[i].len, speller->words[i].count};
        if (!put(out, stored, 2, sizeof *stored)) return false;
    }
    for (size_t i = 0; i < speller->count; i++)
        if (!put(out, speller->letters + speller->words[i].start, speller->words[i].len, 1))
            return false;
    return true;
}

sr_status sri_fit_write(const sri_fit *fit, sri_buffer *out, sr_error *error) {
    size_t begin = out->len;
    header head = {MAGIC, VERSION, 0, 0, 0};
    numbers n = {.dimension = fit->dimension,
                 .routes = fit->route_count,
                 .classes = fit->classes,
                 .fast_dimension = fit->fixed.width,
                 .buckets = fit->ngrams.buckets,
                 .texts = fit->ngrams.texts,
                 .words = fit->speller.count};
    memcpy(n.fast_fingerprint, fit->fast_fingerprint, sizeof fit->fast_fingerprint);
    for (size_t b = 0; b < fit->ngrams.buckets; b++) n.known += known(fit, b);
    if (!put(out, &head, 1, sizeof head) || !put(out, &n, 1, sizeof n) ||
        !put(out, &fit->knobs, 1, sizeof fit->knobs) ||
        !put(out, &fit->findings, 1, sizeof fit->findings) || !put_routes(out, fit) ||
        !put_dense(out, &fit->vector) || !put_dense(out, &fit->fixed) || !put_lexical(out, fit) ||
        !put_centres(out, &fit->centres) || !put_words(out, &fit->speller)) {
        out->len = begin;
        return sri_fail_memory(error);
    }
    head.size = out->len - begin;
    head.hash = sri_hash(out->data + begin + sizeof head, head.size - sizeof head, HASH_SEED);
    memcpy(out->data + begin, &head, sizeof head);
    return SR_OK;
}

/* ---- Reading --------------------------------------------------------------------------------------------- */

typedef struct reader {
    const uint8_t *at;
    size_t left;
    bool short_of_memory;
} reader;

static bool get(reader *r, void *to, size_t bytes) {
    if (bytes > r->left) return false;
    if (bytes > 0) memcpy(to, r->at, bytes);
    r->at += bytes;
    r->left -= bytes;
    return true;
}

/* A new array read from the bytes; NULL when they end too early, or memory is short. */
static void *get_array(reader *r, size_t count, size_t size) {
    size_t bytes;
    if (!sri_size_mul(count, size, &bytes) || bytes > r->left) return NULL;
    void *array = sri_alloc(bytes);
    r->short_of_memory = array == NULL;
    if (array != NULL && !get(r, array, bytes)) return NULL; /* cannot be: it was compared */
    return array;
}

static bool get_routes(reader *r, sri_fit *fit) {
    fit->routes = sri_alloc_zero(fit->route_count, sizeof *fit->routes);
    r->short_of_memory = fit->routes == NULL;
    for (size_t i = 0; i < fit->route_count && fit->routes != NULL; i++) {
        stored_route stored;
        if (!get(r, &stored, sizeof stored)) return false;
        fit->routes[i].id = stored.id;
        fit->routes[i].digest = stored.digest;
        fit->routes[i].count = (size_t)stored.count;
    }
    return fit->routes != NULL;
}

static bool get_dense(reader *r, size_t classes, size_t width, sri_dense_head *head) {
    size_t floats;
    if (!sri_size_mul(classes, width, &floats)) return false;
    *head = (sri_dense_head){.classes = classes, .width = width};
    head->w = get_array(r, floats, sizeof *head->w);
    head->bias = head->w == NULL ? NULL : get_array(r, classes, sizeof *head->bias);
    if (head->bias == NULL) return false;
    r->short_of_memory = !sri_dense_head_pack(head);
    return !r->short_of_memory;
}

static bool get_lexical(reader *r, const numbers *n, sri_fit *fit) {
    sri_sparse_head *head = &fit->lexical;
    *head = (sri_sparse_head){.buckets = n->buckets, .classes = n->classes};
    head->stride = sri_round_up(n->classes, 16);
    fit->ngrams = (sri_ngrams){.buckets = (uint32_t)n->buckets, .texts = (uint32_t)n->texts};
    size_t bytes;
    if (!sri_size_mul(n->known, head->stride, &bytes) || bytes > r->left) return false;
    if ((fit->ngrams.idf = get_array(r, n->buckets, sizeof *fit->ngrams.idf)) == NULL ||
        (head->scale = get_array(r, n->buckets, sizeof *head->scale)) == NULL ||
        (head->bias = get_array(r, head->stride, sizeof *head->bias)) == NULL)
        return false;
    size_t rows = 0;
    for (size_t b = 0; b < n->buckets; b++) rows += known(fit, b);
    if (rows != n->known) return false;
    head->rows = sri_alloc_zero(n->buckets, head->stride);
    r->short_of_memory = head->rows == NULL;
    for (size_t b = 0; b < n->buckets && head->rows != NULL; b++)
        if (known(fit, b) && !get(r, head->rows + b * head->stride, head->stride)) return false;
    return head->rows != NULL;
}

static bool get_centres(reader *r, const numbers *n, sri_centres *c) {
    size_t slow, fast;
    if (!sri_size_mul(n->routes, n->dimension, &slow) ||
        !sri_size_mul(n->routes, SRI_PROTOTYPES * n->fast_dimension, &fast))
        return false;
    *c = (sri_centres){n->routes, n->dimension, n->fast_dimension, NULL, NULL, NULL, NULL};
    return (c->slow = get_array(r, slow, sizeof *c->slow)) != NULL &&
           (c->usual = get_array(r, n->routes, sizeof *c->usual)) != NULL &&
           (c->mean = get_array(r, n->fast_dimension, sizeof *c->mean)) != NULL &&
           (c->fast = get_array(r, fast, sizeof *c->fast)) != NULL;
}

/* Numbers in doubles, none of them NaN or infinite: what is weighed with those has no order. */
static bool finite_knobs(const sri_knobs *knobs, bool has_oos) {
    double values[sizeof *knobs / sizeof(double)];
    memcpy(values, knobs, sizeof *knobs);
    for (size_t i = 0; i < SRI_COUNT(values); i++)
        if (!isfinite(values[i])) return false;
    return (knobs->has_oos != 0) == has_oos;
}

static bool get_words(reader *r, size_t count, sri_speller *speller) {
    if (count > r->left / (2 * sizeof(uint32_t))) return false;
    speller->words = sri_alloc_zero(count, sizeof *speller->words);
    r->short_of_memory = speller->words == NULL;
    if (speller->words == NULL) return false;
    speller->count = count;
    for (size_t i = 0; i < count; i++) {
        uint32_t stored[2];
        if (!get(r, stored, sizeof stored) || stored[0] > SRI_SPELLER_MAX) return false;
        speller->words[i].len = stored[0];
        speller->words[i].count = stored[1];
        speller->letter_count += stored[0];
    }
    speller->letters = get_array(r, speller->letter_count, 1);
    if (speller->letters == NULL) return false;
    /* With room for all, an index fails on damage alone. */
    r->short_of_memory = !sri_map_reserve(&speller->places, count);
    return !r->short_of_memory && sri_speller_index(speller);
}

static bool plausible(const numbers *n, const reader *r) {
    return n->routes >= 1 && n->routes <= MAX_ROUTES &&
           (n->classes == n->routes || n->classes == n->routes + 1) && n->dimension <= MAX_WIDTH &&
           n->fast_dimension <= MAX_WIDTH && n->buckets == SRI_NGRAMS_BUCKETS &&
           n->known <= n->buckets && (n->fast_dimension > 0 || n->words == 0) &&
           n->routes <= r->left / sizeof(stored_route) &&
           memchr(n->fast_fingerprint, 0, sizeof n->fast_fingerprint) != NULL;
}

static bool get_parts(reader *r, const numbers *n, sri_fit *fit) {
    fit->dimension = n->dimension;
    fit->route_count = n->routes;
    fit->classes = n->classes;
    return get(r, &fit->knobs, sizeof fit->knobs) &&
           finite_knobs(&fit->knobs, n->classes > n->routes) &&
           get(r, &fit->findings, sizeof fit->findings) && get_routes(r, fit) &&
           get_dense(r, n->classes, n->dimension, &fit->vector) &&
           (n->fast_dimension == 0 || get_dense(r, n->classes, n->fast_dimension, &fit->fixed)) &&
           get_lexical(r, n, fit) && get_centres(r, n, &fit->centres) &&
           get_words(r, n->words, &fit->speller) && r->left == 0;
}

static sr_status check_models(const numbers *n, size_t dimension, sr_encoder *fast,
                              sr_error *error) {
    if (n->dimension != dimension)
        return sri_fail(error, SR_ERR_MODEL, "fit",
                        "the fit was made for vectors of %zu floats, the model has %zu; fit again",
                        (size_t)n->dimension, dimension);
    const char *fingerprint = fast == NULL ? "" : sr_encoder_fingerprint(fast);
    if (strcmp(fingerprint, n->fast_fingerprint) != 0)
        return sri_fail(error, SR_ERR_MODEL, "fit",
                        "the fit was made with another static model for the fast path; fit again");
    /* The fast path's room is laid out by the fit, and filled by the model. */
    size_t floats = fast == NULL ? 0 : (size_t)sr_encoder_dimension(fast);
    if (n->fast_dimension != floats)
        return sri_fail(error, SR_ERR_FORMAT, "fit",
                        "the stored fit has static vectors of %zu floats, the model has %zu; fit "
                        "again",
                        (size_t)n->fast_dimension, floats);
    return SR_OK;
}

static sr_status damaged(sr_error *error) {
    return sri_fail(error, SR_ERR_FORMAT, "fit", "the stored fit is damaged; fit again");
}

sr_status sri_fit_read(const void *bytes, size_t size, size_t dimension, sr_encoder *fast,
                       sri_fit **handle, sr_error *error) {
    *handle = NULL;
    reader r = {.at = bytes, .left = size};
    header head;
    numbers n;
    if (!get(&r, &head, sizeof head) || memcmp(head.magic, MAGIC, sizeof head.magic) != 0)
        return damaged(error);
    if (head.version != VERSION)
        return sri_fail(error, SR_ERR_FORMAT, "fit",
                        "the stored fit has version %u, this program reads %u; fit again",
                        (unsigned)head.version, VERSION);
    if (head.size != size || head.hash != sri_hash(r.at, r.left, HASH_SEED) ||
        !get(&r, &n, sizeof n) || !plausible(&n, &r))
        return damaged(error);
    sr_status code = check_models(&n, dimension, fast, error);
    if (code != SR_OK) return code;
    sri_fit *fit = sri_alloc_zero(1, sizeof *fit);
    if (fit == NULL) return sri_fail_memory(error);
    fit->fast = fast;
    memcpy(fit->fast_fingerprint, n.fast_fingerprint, sizeof fit->fast_fingerprint);
    if (get_parts(&r, &n, fit)) {
        *handle = fit;
        return SR_OK;
    }
    sri_fit_free(&fit);
    return r.short_of_memory ? sri_fail_memory(error) : damaged(error);
}
