/*
 * fit_samples.c - the table's texts as samples: vectors of both encoders, lexical features, folds.
 *
 * A fold is a fifth of each route's utterances, dealt out in the order of a hash of their texts, so that folds do not
 * depend on the order of adding. Those that say nearly the same go together: a text whose twin is learned from
 * is no evidence about queries, and made neighbours look better than they are.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "decide/fit_int.h"
#include "decide/logarithm.h"

/* Texts encoded at once. */
#define SOME ((size_t)4096)

static bool upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool sri_fit_name_text(sr_str name, sri_buffer *out) {
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool separates = c == '_' || c == '-' || c == '.' || c == '/' || c == ':';
        if (i > 0 && upper(c) && lower_or_digit(name.data[i - 1]) &&
            !sri_buffer_append(out, " ", 1))
            return false;
        if (!sri_buffer_append(out, separates ? " " : &c, 1)) return false;
    }
    return true;
}

/* ---- Folds -------------------------------------------------------------------------------------------- */

/* Out-of-scope examples are few and all of them are wanted as evidence: they are in the first folds, which are
 * always trained. */
#define OOS_FOLDS 2

/* Texts say nearly the same when their distance (1 less the cosine) is this share of their route's usual one. */
#define SAME 0.3

typedef struct dealt {
    uint32_t target, sample;
    uint64_t hash;
} dealt;

static int by_target_and_hash(const void *left, const void *right) {
    const dealt *a = left, *b = right;
    if (a->target != b->target) return a->target < b->target ? -1 : 1;
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    return a->sample < b->sample ? -1 : a->sample > b->sample;
}

static const float *vector_of(const sri_samples *s, const dealt *text) {
    return s->vectors + text->sample * s->dimension;
}

/* The cosine from which on two of a route's texts say nearly the same; its usual one is the mean over all pairs,
 * which follows from the length of the vectors' sum. */
static float same_cosine(const sri_samples *s, const dealt *order, size_t count) {
    if (count < 2) return INFINITY;
    double squares = 0, n = (double)count;
    for (size_t d = 0; d < s->dimension; d++) {
        double sum = 0;
        for (size_t i = 0; i < count; i++) sum += vector_of(s, &order[i])[d];
        squares += sum * sum;
    }
    return (float)(1 - SAME * (1 - (squares - n) / (n * (n - 1))));
}

/* The text of the same route, dealt before, that is nearest and has `most` for cosine or more; NULL when there is
 * none. */
static const dealt *like(const sri_samples *s, const dealt *order, size_t at, float most) {
    const float *own = vector_of(s, &order[at]);
    const dealt *best = NULL;
    for (size_t i = 0; i < at; i++) {
        float cosine;
        sri_kernels_get()->dots(own, 1, vector_of(s, &order[i]), 1, s->dimension, &cosine);
        if (cosine < most) continue;
        most = cosine;
        best = &order[i];
    }
    return best;
}

/* Each route begins at another fold, so that folds are alike in size when routes are small. */
static void deal_route(sri_samples *s, const dealt *order, size_t count) {
    unsigned folds = order->target == SRI_FIT_OUT_OF_SCOPE ? OOS_FOLDS : SRI_FIT_FOLDS;
    size_t place = order->target % folds;
    float most = same_cosine(s, order, count);
    for (size_t i = 0; i < count; i++) {
        const dealt *same = like(s, order, i, most);
        s->folds[order[i].sample] =
            (uint8_t)(same != NULL ? s->folds[same->sample] : place++ % folds);
    }
}

static bool deal_folds(sri_samples *s) {
    dealt *order = sri_alloc_array(s->table, sizeof *order);
    if (order == NULL) return false;
    for (size_t i = 0; i < s->table; i++)
        order[i] =
            (dealt){s->targets[i], (uint32_t)i, sri_hash(s->texts[i].data, s->texts[i].len, 1)};
    qsort(order, s->table, sizeof *order, by_target_and_hash);
    for (size_t first = 0, end; first < s->table; first = end) {
        for (end = first + 1; end < s->table && order[end].target == order[first].target;) end++;
        deal_route(s, order + first, end - first);
    }
    sri_free(order);
    return true;
}

/* ---- Texts and vectors -------------------------------------------------------------------------------- */

static bool described(const sri_fit_table *table, size_t route) {
    return table->description_vectors != NULL && table->routes[route].description.len > 0;
}

static bool allocate(const sri_fit_table *table, sri_samples *s) {
    size_t floats, fast_floats, more = table->route_count;
    for (size_t r = 0; r < table->route_count; r++) more += described(table, r);
    if (!sri_size_add(table->utterances.count, more, &s->named) ||
        !sri_size_add(s->named, sri_fit_strangers(), &s->known) ||
        !sri_size_add(s->known, table->labelled.count, &s->n) ||
        !sri_size_mul(s->n, s->dimension, &floats) ||
        !sri_size_mul(s->n, s->fast_dimension, &fast_floats))
        return false;
    s->table = table->utterances.count;
    s->texts = sri_alloc_array(s->n, sizeof *s->texts);
    s->targets = sri_alloc_array(s->n, sizeof *s->targets);
    s->folds = sri_alloc_array(s->table, sizeof *s->folds);
    s->counts = sri_alloc_zero(s->routes, sizeof *s->counts);
    s->vectors = sri_alloc_array(floats, sizeof *s->vectors);
    s->fast_vectors = sri_alloc_array(fast_floats, sizeof *s->fast_vectors);
    return s->texts && s->targets && s->folds && s->counts && s->vectors && s->fast_vectors;
}

static void copy_texts(sri_samples *s, size_t at, const sri_fit_texts *from) {
    if (from->count == 0) return;
    memcpy(s->texts + at, from->texts, from->count * sizeof *s->texts);
    memcpy(s->targets + at, from->routes, from->count * sizeof *s->targets);
    memcpy(s->vectors + at * s->dimension, from->vectors,
           from->count * s->dimension * sizeof(float));
}

static void copy_one(sri_samples *s, size_t at, sr_str text, size_t row, const float *vectors) {
    s->texts[at] = text;
    s->targets[at] = (uint32_t)row;
    memcpy(s->vectors + at * s->dimension, vectors + row * s->dimension,
           s->dimension * sizeof(float));
}

static bool copy_names(sri_samples *s, const sri_fit_table *table) {
    for (size_t r = 0; r < s->routes; r++) {
        size_t begin = s->names.len;
        if (!sri_fit_name_text(table->routes[r].name, &s->names)) return false;
        copy_one(s, s->table + r, (sr_str){NULL, s->names.len - begin}, r, table->name_vectors);
    }
    const char *at = s->names.data; /* only now does it stay where it is */
    for (size_t r = 0; r < s->routes; r++) {
        s->texts[s->table + r].data = at;
        at += s->texts[s->table + r].len;
    }
    return true;
}

static void copy_descriptions(sri_samples *s, const sri_fit_table *table) {
    size_t at = s->table + s->routes;
    for (size_t r = 0; r < s->routes; r++)
        if (described(table, r))
            copy_one(s, at++, table->routes[r].description, r, table->description_vectors);
}

static void copy_strangers(sri_samples *s, const sri_fit_table *table) {
    for (size_t i = 0; i < sri_fit_strangers(); i++) {
        copy_one(s, s->named + i, sri_fit_stranger(i), i, table->stranger_vectors);
        s->targets[s->named + i] = SRI_FIT_OUT_OF_SCOPE;
    }
}

/* Fewer out-of-scope examples than this say nothing about where strangers are. */
#define MIN_OOS ((size_t)10)

static void count_routes(sri_samples *s) {
    for (size_t i = 0; i < s->table; i++) {
        if (s->targets[i] == SRI_FIT_OUT_OF_SCOPE)
            s->oos++;
        else
            s->counts[s->targets[i]]++;
    }
    s->classes = s->routes + (s->oos >= MIN_OOS);
}

/* ---- Lexical features --------------------------------------------------------------------------------- */

typedef struct lexical {
    sri_samples *samples;
    sri_ngrams_scratch scratch;
    size_t capacity;
    float unseen, lone; /* idf of what no text has, and of what one text has */
} lexical;

/* The share of features that the table knows. Of its own texts (`own`) what only they have does not count. */
static float coverage_of(const lexical *l, const sri_features *features, bool own) {
    if (!own) return features->coverage;
    float known = 0, all = 0;
    for (size_t i = 0; i < features->count; i++) {
        float idf = l->samples->ngrams.idf[features->list[i].row];
        bool elsewhere = idf < l->lone;
        known += elsewhere ? idf : 0;
        all += elsewhere ? idf : l->unseen;
    }
    return all > 0 ? known / all : 0;
}

static bool add_features(lexical *l, size_t i) {
    sri_samples *s = l->samples;
    sri_features features;
    if (!sri_ngrams_features(&s->ngrams, s->texts[i], &l->scratch, &features)) return false;
    void *entries = s->entries;
    size_t needed = s->start[i] + features.count;
    if (!sri_grow(&entries, &l->capacity, needed, sizeof *s->entries)) return false;
    s->entries = entries;
    if (features.count > 0)
        memcpy(s->entries + s->start[i], features.list, features.count * sizeof *s->entries);
    s->start[i + 1] = needed;
    s->coverage[i] = coverage_of(l, &features, i < s->named);
    return true;
}

/* The idf is of the table's own texts and names. */
static sr_status find_features(sri_samples *s, sr_error *error) {
    sr_status code = sri_ngrams_learn(s->texts, s->named, SRI_NGRAMS_BUCKETS, 1, &s->ngrams, error);
    if (code != SR_OK) return code;
    double texts = (double)s->named;
    lexical l = {.samples = s,
                 .unseen = (float)(sri_ln(1 + texts) + 1),
                 .lone = (float)(sri_ln((1 + texts) / 2) + 1 - 1e-4)};
    s->start = sri_alloc_array(s->n + 1, sizeof *s->start);
    s->coverage = sri_alloc_array(s->n, sizeof *s->coverage);
    bool enough = s->start != NULL && s->coverage != NULL;
    if (enough) s->start[0] = 0;
    for (size_t i = 0; i < s->n && enough; i++) enough = add_features(&l, i);
    sri_ngrams_scratch_free(&l.scratch);
    return enough ? SR_OK : sri_fail_memory(error);
}

/* ---- All ------------------------------------------------------------------------------------------------ */

sr_status sri_samples_open(const sri_fit_table *table, sri_samples *s, sr_error *error) {
    *s = (sri_samples){.routes = table->route_count, .dimension = table->dimension};
    if (table->fast != NULL) s->fast_dimension = (size_t)sr_encoder_dimension(table->fast);
    sr_status code = allocate(table, s) ? SR_OK : sri_fail_memory(error);
    if (code == SR_OK) {
        copy_texts(s, 0, &table->utterances);
        copy_texts(s, s->known, &table->labelled);
        copy_strangers(s, table);
        copy_descriptions(s, table);
        count_routes(s);
        if (!copy_names(s, table) || !deal_folds(s)) code = sri_fail_memory(error);
    }
    if (code == SR_OK) code = find_features(s, error);
    for (size_t i = 0; i < s->n && code == SR_OK && table->fast != NULL; i += SOME)
        code = sr_encoder_encode(table->fast, s->texts + i, SRI_MIN(SOME, s->n - i),
                                 s->fast_vectors + i * s->fast_dimension, NULL, error);
    if (code != SR_OK) sri_samples_close(s);
    return code;
}

void sri_samples_close(sri_samples *s) {
    sri_free(s->texts);
    sri_free(s->targets);
    sri_free(s->folds);
    sri_free(s->counts);
    sri_free(s->vectors);
    sri_free(s->fast_vectors);
    sri_ngrams_free(&s->ngrams);
    sri_free(s->start);
    sri_free(s->entries);
    sri_free(s->coverage);
    sri_buffer_free(&s->names);
    *s = (sri_samples){0};
}
