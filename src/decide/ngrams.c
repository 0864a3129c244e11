/*
 * ngrams.c - words, pairs of words and runs of characters of a text, hashed, counted and weighted.
 *
 * Normalisation is the tokenizer's: control characters go, canonical decomposition without marks, lower case.
 * A word is what stands between white space, punctuation and symbols; an apostrophe is dropped, so that
 * "what's" and "whats" are one word. A character of punctuation or a symbol (an emoji) is a word for itself, but
 * has no part in pairs and runs. An ideograph is a word too, but a run of them is one piece to the runs of
 * characters, as is a word of any other script. Runs are of 2 to 4 characters of " word ", the mark at either
 * end being a space.
 *
 * The hash: h = seed, then h = (h ^ character) * M for each character; M is 0x9E3779B97F4A7C15. Runs begin
 * with seed 1, so that a run's hash is a step on from that of the run one shorter; words with seed 2; a pair
 * is h = (rotate(first, 31) ^ second) * M of the words' hashes. The bucket is the top bits of (h ^ h >> 32) * M.
 * Fixed, not seeded: fits are stored. A text of colliding features harms its own decision only.
 *
 * Counting goes by a table [buckets] of places in the list; it is cleared by walking the list. A hash table of
 * the text's own size was rejected: clearing and probing it costs more than cache misses in 64 kB.
 */
#include "decide/ngrams.h"

#include "decide/logarithm.h"
#include "text/text.h"

#include <math.h>
#include <string.h>

#define MULTIPLIER 0x9E3779B97F4A7C15u
#define RUN_SEED   1u
#define WORD_SEED  2u
#define MARK       ' ' /* never a character of a word */
#define MAX_COUNT  32  /* of a feature in a text: more count as this many */

_Static_assert(SRI_NGRAMS_MAX_FEATURES < UINT16_MAX, "places are 16 bits");

/* 1 + ln(count). */
static const float count_weight[MAX_COUNT + 1] = {
    0.0f,        1.0f,        1.69314718f, 2.09861229f, 2.38629436f, 2.60943791f, 2.79175947f,
    2.94591015f, 3.07944154f, 3.19722458f, 3.30258509f, 3.39789527f, 3.48490665f, 3.56494936f,
    3.63905733f, 3.70805020f, 3.77258872f, 3.83321334f, 3.89037176f, 3.94443898f, 3.99573227f,
    4.04452244f, 4.09104245f, 4.13549422f, 4.17805383f, 4.21887582f, 4.25809654f, 4.29583687f,
    4.33220451f, 4.36729583f, 4.40119738f, 4.43398720f, 4.46573590f};

/* A text on its way through. Runs are counted as they come; words and pairs wait at the end of the list,
 * since a bucket has one place only. */
typedef struct reading {
    uint16_t *place; /* [buckets] 1 + index in `list` */
    sri_weighted_row *list;
    size_t
        capacity; /* of the list: it cannot run over, being sized by the characters that may be read */
    size_t runs, words;
    int shift;
    size_t left;             /* characters that may still be read */
    uint64_t word, previous; /* hashes of the word so far and of the word before; 0: none */
    size_t length;           /* of the run so far */
    uint32_t run[SRI_NGRAMS_MAX_CHARS + 2];
} reading;

/* ---- Hashing and counting ----------------------------------------------------------------------------- */

static inline uint32_t bucket_of(const reading *r, uint64_t h) {
    return (uint32_t)(((h ^ h >> 32) * MULTIPLIER) >> r->shift);
}

static inline uint64_t advance(uint64_t h, uint32_t c) { return (h ^ c) * MULTIPLIER; }

/* Counts a feature among those from list[first] on, of which there are `*count`. */
static inline void count_feature(reading *r, size_t first, size_t *count, uint32_t bucket) {
    uint16_t at = r->place[bucket];
    if (at != 0) {
        r->list[at - 1].weight += 1;
        return;
    }
    r->list[first + *count] = (sri_weighted_row){bucket, 1};
    ++*count;
    r->place[bucket] = (uint16_t)(first + *count);
}

static inline void note_word(reading *r, uint64_t h) {
    r->list[r->capacity - ++r->words].row = bucket_of(r, h);
}

static void end_word(reading *r) {
    if (r->word == 0) return;
    note_word(r, r->word);
    if (r->previous != 0)
        note_word(r, ((r->previous << 31 | r->previous >> 33) ^ r->word) * MULTIPLIER);
    r->previous = r->word;
    r->word = 0;
}

static void end_run(reading *r) {
    if (r->length == 0) return;
    const uint32_t *c = r->run;
    size_t last = r->length + 1; /* the mark at the end */
    r->run[0] = r->run[last] = MARK;
    for (size_t i = 0; i < last; i++) {
        uint64_t h = advance(advance(RUN_SEED, c[i]), c[i + 1]);
        count_feature(r, 0, &r->runs, bucket_of(r, h));
        if (i + 2 > last) break;
        h = advance(h, c[i + 2]);
        count_feature(r, 0, &r->runs, bucket_of(r, h));
        if (i + 3 > last) continue;
        h = advance(h, c[i + 3]);
        count_feature(r, 0, &r->runs, bucket_of(r, h));
    }
    r->length = 0;
}

/* ---- Characters ----------------------------------------------------------------------------------------- */

static inline void add_letter(reading *r, uint32_t c) {
    r->word = advance(r->word == 0 ? WORD_SEED : r->word, c);
    r->run[++r->length] = c;
    r->left--;
}

static inline bool is_apostrophe(uint32_t c) {
    return c == '\'' || c == 0x2019 || c == 0x2018 || c == 0x2BC;
}

static void put_folded(reading *r, sri_folded folded) {
    if (is_apostrophe(folded.c) || r->left == 0) return;
    if (folded.kind == SRI_FOLDED_LETTER) {
        add_letter(r, folded.c);
        return;
    }
    end_word(r);
    if (folded.kind == SRI_FOLDED_IDEOGRAPH) {
        add_letter(r, folded.c);
        end_word(r);
        return;
    }
    end_run(r);
    if (folded.kind == SRI_FOLDED_SPACE) return;
    note_word(r, advance(WORD_SEED, folded.c));
    r->left--;
}

static void put(reading *r, uint32_t c) {
    sri_folded folded[SRI_FOLD_MAX];
    size_t count = sri_char_fold(c, folded);
    for (size_t i = 0; i < count; i++) put_folded(r, folded[i]);
}

static void read_text(reading *r, sr_str text) {
    const char *at = text.data, *end = at + text.len;
    while (at < end && r->left > 0) {
        uint8_t byte = (uint8_t)*at;
        if ((unsigned)byte - 'a' < 26u) {
            add_letter(r, byte);
            at++;
        } else if (byte == ' ') {
            end_word(r);
            end_run(r);
            at++;
        } else {
            put(r, sri_utf8_next(&at, end));
        }
    }
    end_word(r);
    end_run(r);
}

/* Counts what waits at the end of the list, in the order of the text. */
static size_t count_words(reading *r) {
    size_t count = 0;
    for (size_t i = 1; i <= r->words; i++)
        count_feature(r, r->runs, &count, r->list[r->capacity - i].row);
    return count;
}

/* ---- A text ---------------------------------------------------------------------------------------------- */

static void clear_places(const reading *r, size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) r->place[r->list[i].row] = 0;
}

/* Makes the scratch large enough. A byte gives at most 4 characters, a character at most 3 runs, a word and a
 * pair; what waits stands beside what is counted. */
static bool make_room(const sri_ngrams *ngrams, size_t bytes, sri_ngrams_scratch *scratch) {
    size_t characters =
        SRI_MIN(4 * SRI_MIN(bytes, (size_t)SRI_NGRAMS_MAX_CHARS), (size_t)SRI_NGRAMS_MAX_CHARS);
    if (!sri_grow((void **)&scratch->list, &scratch->capacity, 7 * characters + 1,
                  sizeof *scratch->list))
        return false;
    if (scratch->places >= ngrams->buckets) return true;
    sri_free(scratch->place);
    scratch->places = 0;
    scratch->place = sri_alloc_zero(ngrams->buckets, sizeof *scratch->place);
    if (scratch->place == NULL) return false;
    scratch->places = ngrams->buckets;
    return true;
}

/* Reads a text into the scratch: `*runs` features from the front, then `*words`, each with its count as
 * weight. */
static bool count_text(const sri_ngrams *ngrams, sr_str text, sri_ngrams_scratch *scratch,
                       size_t *runs, size_t *words) {
    if (!make_room(ngrams, text.len, scratch)) return false;
    reading r; /* not initialised as a whole: the run is large */
    r.place = scratch->place;
    r.list = scratch->list;
    r.capacity = scratch->capacity;
    r.shift = 64 - __builtin_ctz(ngrams->buckets);
    r.left = SRI_NGRAMS_MAX_CHARS;
    r.runs = r.words = r.length = 0;
    r.word = r.previous = 0;
    if (text.len > 0) read_text(&r, text);
    clear_places(&r, 0, r.runs);
    *runs = r.runs;
    *words = count_words(&r);
    clear_places(&r, r.runs, *words);
    return true;
}

typedef struct weighing {
    const float *idf;
    float unseen, known, all;
} weighing;

/* Weights a group and brings it to length 1, leaving what is known from `to` on; returns how many those are. */
static size_t weigh(weighing *w, const sri_weighted_row *from, size_t count, sri_weighted_row *to) {
    size_t known = 0;
    float squares[4] = {0}, sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t row = from[i].row, times = (uint32_t)from[i].weight;
        float idf = w->idf[row], weight = count_weight[SRI_MIN(times, (uint32_t)MAX_COUNT)] * idf;
        to[known] = (sri_weighted_row){row, weight};
        squares[i % 4] += weight * weight;
        known += idf > 0;
        sum += idf;
    }
    w->known += sum;
    w->all += sum + (float)(count - known) * w->unseen;
    float square = (squares[0] + squares[2]) + (squares[1] + squares[3]);
    float inverse = square > 0 ? 1.0f / sqrtf(square) : 0.0f;
    for (size_t i = 0; i < known; i++) to[i].weight *= inverse;
    return known;
}

bool sri_ngrams_features(const sri_ngrams *ngrams, sr_str text, sri_ngrams_scratch *scratch,
                         sri_features *features) {
    size_t runs, words;
    *features = (sri_features){0};
    if (!count_text(ngrams, text, scratch, &runs, &words)) return false;
    weighing w = {.idf = ngrams->idf, .unseen = (float)(sri_ln(1.0 + ngrams->texts) + 1)};
    features->list = scratch->list;
    features->characters = weigh(&w, scratch->list, runs, scratch->list);
    features->count = features->characters +
                      weigh(&w, scratch->list + runs, words, scratch->list + features->characters);
    features->coverage = w.all > 0 ? w.known / w.all : 0;
    return true;
}

void sri_ngrams_scratch_free(sri_ngrams_scratch *scratch) {
    sri_free(scratch->place);
    sri_free(scratch->list);
    *scratch = (sri_ngrams_scratch){0};
}

/* ---- Learning --------------------------------------------------------------------------------------------- */

/* Counts the texts of each bucket; `last` holds 1 + the text that each was last seen in. */
static bool count_texts(const sri_ngrams *ngrams, const sr_str *texts, size_t n, uint32_t *count,
                        uint32_t *last) {
    sri_ngrams_scratch scratch = {0};
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        size_t runs = 0, words = 0;
        ok = count_text(ngrams, texts[i], &scratch, &runs, &words);
        for (size_t f = 0; ok && f < runs + words; f++) {
            uint32_t bucket = scratch.list[f].row;
            count[bucket] += last[bucket] != i + 1;
            last[bucket] = (uint32_t)i + 1;
        }
    }
    sri_ngrams_scratch_free(&scratch);
    return ok;
}

sr_status sri_ngrams_learn(const sr_str *texts, size_t n, uint32_t buckets, uint32_t min_texts,
                           sri_ngrams *ngrams, sr_error *error) {
    *ngrams =
        (sri_ngrams){.buckets = buckets == 0 ? SRI_NGRAMS_BUCKETS : buckets, .texts = (uint32_t)n};
    if (ngrams->buckets < 2 || ngrams->buckets > SRI_NGRAMS_MAX_BUCKETS ||
        (ngrams->buckets & (ngrams->buckets - 1)) != 0 || n > INT32_MAX)
        return sri_fail(error, SR_ERR_INVALID, "n-grams",
                        "%zu texts in %u buckets; use a power of two from 2 to %u", n, buckets,
                        SRI_NGRAMS_MAX_BUCKETS);
    uint32_t *count = sri_alloc_zero(ngrams->buckets, sizeof *count);
    uint32_t *last = sri_alloc_zero(ngrams->buckets, sizeof *last);
    ngrams->idf = sri_alloc_zero(ngrams->buckets, sizeof *ngrams->idf);
    bool ok = count && last && ngrams->idf && count_texts(ngrams, texts, n, count, last);
    for (uint32_t b = 0; ok && b < ngrams->buckets; b++)
        if (count[b] >= SRI_MAX(min_texts, 1u))
            ngrams->idf[b] = (float)(sri_ln((1.0 + (double)n) / (1.0 + count[b])) + 1);
    sri_free(count);
    sri_free(last);
    if (ok) return SR_OK;
    sri_ngrams_free(ngrams);
    return sri_fail_memory(error);
}

void sri_ngrams_free(sri_ngrams *ngrams) {
    sri_free(ngrams->idf);
    *ngrams = (sri_ngrams){0};
}
