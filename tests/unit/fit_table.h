/*
 * fit_table.h - tables for tests of fits: themes whose utterances are combinations of words, so that held-out
 * combinations say what the learned ones say; strangers; and what a router does around a fit.
 */
#ifndef SR_TESTS_FIT_TABLE_H
#define SR_TESTS_FIT_TABLE_H

#include "unit.h"

#include <math.h>
#include <stdlib.h>

#include "decide/fit_int.h"

#define THEMES     8
#define SUBJECTS   5
#define PREDICATES 4
#define EACH       13 /* combinations of a theme that are learned; the other 7 are held out */
#define NO_ROUTE   SRI_FIT_OUT_OF_SCOPE

typedef struct theme {
    const char *name, *subjects[SUBJECTS], *predicates[PREDICATES];
} theme;

static const theme themes[THEMES] = {
    {"card_arrival",
     {"my new card", "the debit card", "the credit card I ordered", "my replacement card",
      "the plastic card"},
     {"has not arrived", "is late in the post", "was never delivered", "is still on its way"}},
    {"exchangeRate",
     {"the rate for euros", "the conversion to dollars", "the currency rate", "my foreign exchange",
      "the pound to yen rate"},
     {"looks wrong", "changed overnight", "is too low today", "should be better"}},
    {"lost-password",
     {"my password", "the login code", "my sign in secret", "the account passphrase",
      "my login password"},
     {"does not work", "has to be reset", "was forgotten", "is rejected at login"}},
    {"weather",
     {"the rain tomorrow", "the weather in Paris", "the temperature outside",
      "the weekend forecast", "the snow on Sunday"},
     {"will be how bad", "how will it be", "tell me about it", "is it going to stay"}},
    {"book flight",
     {"a flight to Rome", "two plane tickets", "a seat on the airline", "the cheapest flight",
      "a plane to Boston"},
     {"should be booked", "I want to reserve", "for next Monday", "leaving in the morning"}},
    {"play_music",
     {"some jazz music", "my favourite song", "the new album", "a piano playlist",
      "the rock radio"},
     {"please play it", "turn up the volume", "put on repeat", "start listening"}},
    {"refund",
     {"my money", "the purchase price", "the returned shoes", "the cancelled order",
      "the faulty product"},
     {"refund it please", "I want paid back", "was not reimbursed", "return and refund"}},
    {"restaurant",
     {"a table for two", "dinner at the Italian restaurant", "a good sushi place", "lunch nearby",
      "the steak house"},
     {"reserve for tonight", "where can I eat", "is there a free table", "recommend a menu"}},
};

static const char *const prefixes[] = {"", "hello, ", "please help: ", "sorry but ", "question: "};

static const char *const strangers[] = {
    "how many moons does Jupiter have",
    "prune the roses before winter",
    "who painted the Mona Lisa",
    "the square root of two is irrational",
    "explain the french revolution",
    "my dog is afraid of the vacuum cleaner",
    "knit a sweater with merino wool",
    "what does photosynthesis produce",
    "translate this poem into Latin",
    "the goalkeeper saved a penalty",
    "compile the kernel with debug symbols",
    "chess opening with the queen's gambit",
    "do penguins have knees",
    "tighten the bolts of a bicycle",
    "the philosopher wrote about ethics",
    "soak the beans over night",
    "how tall is the tallest giraffe",
    "what is the boiling point of helium",
    "when did the roman empire fall",
    "the dentist removed a wisdom tooth",
    "polish the marble floor",
    "which vitamins are in kale",
    "a novel about a lighthouse keeper",
    "my baby will not fall asleep",
};
#define STRANGERS SRI_COUNT(strangers)

/* ---- Texts ------------------------------------------------------------------------------------------------ */

typedef struct texts {
    size_t count;
    sr_str *list; /* each owned */
    uint32_t *routes;
    float *vectors;
} texts;

static inline void add_bytes(texts *t, const char *bytes, size_t len, uint32_t route) {
    t->list = realloc(t->list, (t->count + 1) * sizeof *t->list);
    t->routes = realloc(t->routes, (t->count + 1) * sizeof *t->routes);
    char *copy = malloc(len + 1);
    memcpy(copy, bytes, len);
    t->list[t->count] = (sr_str){copy, len};
    t->routes[t->count++] = route;
}

static inline void add_text(texts *t, const char *text, uint32_t route) {
    add_bytes(t, text, strlen(text), route);
}

static inline void encode_texts(texts *t, sr_encoder *encoder) {
    free(t->vectors);
    t->vectors = calloc(t->count + 1, (size_t)sr_encoder_dimension(encoder) * sizeof(float));
    if (t->count == 0) return;
    assert_int_equal(sr_encoder_encode(encoder, t->list, t->count, t->vectors, NULL, NULL), SR_OK);
}

static inline void free_texts(texts *t) {
    for (size_t i = 0; i < t->count; i++) free((char *)t->list[i].data);
    free(t->list);
    free(t->routes);
    free(t->vectors);
    *t = (texts){0};
}

/* Adds up to `most` combinations of a theme: those learned, or those held out. */
static inline void add_theme(texts *t, uint32_t theme_at, bool held_out, size_t most,
                             uint32_t route) {
    char text[200];
    const theme *of = &themes[theme_at];
    for (size_t s = 0; s < SUBJECTS; s++)
        for (size_t p = 0; p < PREDICATES && most > 0; p++) {
            if (((s + p) % 3 == 0) != held_out) continue;
            snprintf(text, sizeof text, "%s%s %s", prefixes[(s + 2 * p + theme_at) % 5],
                     of->subjects[s], of->predicates[p]);
            add_text(t, text, route);
            most--;
        }
}

/* ---- Tables ----------------------------------------------------------------------------------------------- */

typedef struct bench {
    sr_encoder *encoder, *fast;
    size_t routes;
    sri_fit_route route[THEMES + 1];
    texts utterances, labelled, names, far;
    sri_fit_table table; /* targets and progress are set here */
} bench;

static inline sr_encoder *open_static(const char *root) {
    char path[1100];
    snprintf(path, sizeof path, "%s/models/static-en", root);
    sr_encoder_options options = {.size = sizeof options, .model = path, .threads = 1};
    sr_encoder *encoder = NULL;
    sr_error error;
    if (sr_encoder_open(&options, &encoder, &error) != SR_OK) fail_msg("%s", error.message);
    return encoder;
}

/* Routes without utterances; each theme's name. */
static inline bench open_bench(sr_encoder *encoder, sr_encoder *fast, size_t routes) {
    bench b = {.encoder = encoder, .fast = fast, .routes = routes};
    for (size_t r = 0; r < routes; r++)
        b.route[r] =
            (sri_fit_route){.id = 100 + r, .digest = 7 * r, .name = sr_str_of(themes[r].name)};
    return b;
}

/* A table of themes, `each` utterances a route. */
static inline bench theme_bench(sr_encoder *encoder, sr_encoder *fast, size_t routes, size_t each) {
    bench b = open_bench(encoder, fast, routes);
    for (uint32_t r = 0; r < routes; r++) add_theme(&b.utterances, r, false, each, r);
    return b;
}

static inline void close_bench(bench *b) {
    free_texts(&b->utterances);
    free_texts(&b->labelled);
    free_texts(&b->names);
    free_texts(&b->far);
}

static inline sri_fit_texts lend(const texts *t) {
    return (sri_fit_texts){t->count, t->list, t->routes, t->vectors};
}

/* Encodes what has to be and fills `table`. */
static inline void ready_bench(bench *b, sri_pool *pool) {
    free_texts(&b->names);
    for (size_t r = 0; r < b->routes; r++) {
        sri_buffer name = {0};
        assert_true(sri_fit_name_text(b->route[r].name, &name));
        add_bytes(&b->names, name.data, name.len, (uint32_t)r);
        sri_buffer_free(&name);
        b->route[r].count = 0;
    }
    free_texts(&b->far);
    for (size_t i = 0; i < sri_fit_strangers(); i++)
        add_bytes(&b->far, sri_fit_stranger(i).data, sri_fit_stranger(i).len, NO_ROUTE);
    encode_texts(&b->far, b->encoder);
    encode_texts(&b->names, b->encoder);
    encode_texts(&b->utterances, b->encoder);
    encode_texts(&b->labelled, b->encoder);
    for (size_t i = 0; i < b->utterances.count; i++)
        if (b->utterances.routes[i] != NO_ROUTE) b->route[b->utterances.routes[i]].count++;
    b->table.dimension = (size_t)sr_encoder_dimension(b->encoder);
    b->table.route_count = b->routes;
    b->table.routes = b->route;
    b->table.name_vectors = b->names.vectors;
    b->table.stranger_vectors = b->far.vectors;
    b->table.utterances = lend(&b->utterances);
    b->table.labelled = lend(&b->labelled);
    b->table.fast = b->fast;
    b->table.pool = pool;
}

/* NULL when the table is too small. */
static inline sri_fit *make_fit(bench *b, int threads, sri_fit_findings *findings) {
    sri_pool *pool;
    sri_fit *fit = NULL;
    sri_fit_findings own;
    sr_error error;
    assert_int_equal(sri_pool_open(threads, &pool, NULL), SR_OK);
    ready_bench(b, pool);
    if (sri_fit_make(&b->table, &fit, findings == NULL ? &own : findings, &error) != SR_OK)
        fail_msg("%s", error.message);
    sri_pool_close(&pool);
    return fit;
}

/* ---- Asking ----------------------------------------------------------------------------------------------- */

/* The routes' best utterances, best first, as the router gives them. */
static inline size_t find_hits(const bench *b, const float *vector, sri_fit_hit *hits) {
    float best[THEMES + 2];
    size_t dimension = b->table.dimension, count = 0;
    for (size_t r = 0; r <= b->routes; r++) best[r] = -2;
    for (size_t i = 0; i < b->utterances.count; i++) {
        float cosine;
        uint32_t r = SRI_MIN(b->utterances.routes[i], (uint32_t)b->routes);
        sri_kernels_get()->dots(vector, 1, b->utterances.vectors + i * dimension, 1, dimension,
                                &cosine);
        best[r] = SRI_MAX(best[r], cosine);
    }
    for (uint32_t r = 0; r <= b->routes; r++) {
        if (best[r] == -2) continue;
        size_t place = count++;
        for (; place > 0 && hits[place - 1].cosine < best[r]; place--)
            hits[place] = hits[place - 1];
        hits[place] = (sri_fit_hit){r == b->routes ? NO_ROUTE : r, best[r]};
    }
    return count;
}

typedef struct verdict {
    sri_judgement of;
    sri_fit_candidate best[THEMES + 3];
} verdict;

static inline verdict judge_slow(const bench *b, const sri_fit *fit, sr_str text,
                                 const uint8_t *usable, size_t k, sri_fit_scratch *scratch) {
    verdict v;
    memset(&v, 0, sizeof v);
    sri_fit_hit hits[THEMES + 1];
    float vector[512];
    assert_int_equal(sr_encoder_encode(b->encoder, &text, 1, vector, NULL, NULL), SR_OK);
    size_t count = find_hits(b, vector, hits);
    assert_true(
        sri_fit_judge_slow(fit, text, vector, hits, count, usable, k, scratch, v.best, &v.of));
    return v;
}

static inline verdict judge_fast(const sri_fit *fit, sr_str text, const uint8_t *usable, size_t k,
                                 sri_fit_scratch *scratch) {
    verdict v;
    memset(&v, 0, sizeof v);
    assert_true(sri_fit_judge_fast(fit, &text, 1, usable, k, scratch, v.best, &v.of));
    return v;
}

/* What holds of any answer. */
static inline void expect_sound(const verdict *v) {
    double sum = 0;
    assert_true(v->of.in_scope >= 0 && v->of.in_scope <= 1);
    for (size_t i = 0; i < v->of.count; i++) {
        assert_true(v->best[i].confidence >= 0 && v->best[i].confidence <= 1);
        if (i > 0) assert_true(v->best[i].confidence <= v->best[i - 1].confidence);
        for (size_t j = 0; j < i; j++) assert_true(v->best[j].route != v->best[i].route);
        sum += v->best[i].confidence;
    }
    assert_true(sum <= v->of.in_scope + 1e-5);
}

#endif
