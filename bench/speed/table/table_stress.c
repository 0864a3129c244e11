/*
 * table_stress.c - readers at full speed beside a writer that changes the table thousands of times
 * a second, and what they may never see:
 *
 *   half a change    Pairs of routes are put, replaced and removed by one call for both. A reader
 *                    whose query is nearest to a pair sees both or neither, of one generation.
 *   what is gone     Utterances carry the generation that they were put with. A call that began
 *                    after a removal or a replacement had returned never sees that generation
 *                    again; nor one that was not put yet.
 *   what is missing  While no change of a pair runs, it is as the last change left it.
 *   the past         The revision of a reader's answers never falls, and is never below the one
 *                    that a change had returned before the call began. Two texts of one call are
 *                    of one revision.
 *
 * The writer tells what it does by atomics of its own, around the calls, not within the library.
 * Ends with status 1 when any of these was seen, or when the writer could not keep its rate.
 */
#include "table_speed.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { PAIRS = 64, PAIR_UTTERANCES = 2, MOST_READERS = 64 };

typedef struct pair {
    atomic_uint_fast64_t operations; /* odd while a change runs */
    atomic_uint_fast64_t lowest;     /* generations below it are gone */
    atomic_uint_fast64_t highest;    /* generations above it were not put yet */
    atomic_bool present;             /* what holds while `operations` is even */
} pair;

typedef struct stress {
    sr_router *router;
    const table_rows *queries; /* rows 0 .. PAIRS - 1 lie at the pairs */
    float *pair_vectors;       /* PAIRS x 2 x PAIR_UTTERANCES x dimension */
    pair pairs[PAIRS];
    atomic_uint_fast64_t revision; /* of the last change that has returned */
    atomic_bool stop;
    double rate, behind;
    uint64_t changes, puts, removals;
} stress;

typedef struct reader {
    pthread_t thread;
    stress *of;
    uint64_t seed, calls, answers, absent, waits;
    uint64_t halves, returned, unborn, missing, falls, stale, mixed; /* faults */
} reader;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/* ---- The writer ------------------------------------------------------------------------------ */

/* Both routes of a pair at the given generation, by one call. */
static uint64_t put_pair(stress *this, size_t which, uint64_t generation) {
    static const char sides[2] = {'a', 'b'};
    size_t dimension = (size_t)this->queries->dimension;
    char names[2][32], texts[2][PAIR_UTTERANCES][64];
    sr_str utterances[2][PAIR_UTTERANCES];
    sr_route routes[2];
    for (size_t side = 0; side < 2; side++) {
        snprintf(names[side], sizeof names[side], "pair-%zu-%c", which, sides[side]);
        for (size_t i = 0; i < PAIR_UTTERANCES; i++) {
            snprintf(texts[side][i], sizeof texts[side][i], "pair %zu %llu %zu%c", which,
                     (unsigned long long)generation, i, sides[side]);
            utterances[side][i] = sr_str_of(texts[side][i]);
        }
        routes[side] = (sr_route){.size = sizeof(sr_route),
                                  .name = sr_str_of(names[side]),
                                  .utterances = utterances[side],
                                  .utterance_count = PAIR_UTTERANCES,
                                  .vectors = this->pair_vectors +
                                             (which * 2 + side) * PAIR_UTTERANCES * dimension};
    }
    sr_error error;
    sr_receipt receipt = {0};
    table_must(sr_routes_put(this->router, routes, 2, NULL, &receipt, &error), &error);
    return receipt.revision;
}

static uint64_t remove_pair(stress *this, size_t which) {
    char names[2][32];
    snprintf(names[0], sizeof names[0], "pair-%zu-a", which);
    snprintf(names[1], sizeof names[1], "pair-%zu-b", which);
    sr_str both[2] = {sr_str_of(names[0]), sr_str_of(names[1])};
    sr_error error;
    sr_receipt receipt = {0};
    table_must(sr_routes_remove(this->router, both, 2, NULL, &receipt, &error), &error);
    return receipt.revision;
}

/* Puts the pair, replaces it, or removes it. */
static void change_pair(stress *this, size_t which, bool removal) {
    pair *of = &this->pairs[which];
    uint64_t generation = atomic_load(&of->highest), revision;
    bool present = atomic_load(&of->present);
    atomic_fetch_add(&of->operations, 1);
    if (removal && present) {
        revision = remove_pair(this, which);
        atomic_store(&of->lowest, generation + 1);
        this->removals++;
    } else {
        atomic_store(&of->highest, ++generation);
        revision = put_pair(this, which, generation);
        atomic_store(&of->lowest, generation);
        this->puts++;
    }
    atomic_store(&of->present, !(removal && present));
    atomic_store(&this->revision, revision);
    atomic_fetch_add(&of->operations, 1);
    this->changes++;
}

static void *write_on(void *user) {
    stress *this = user;
    uint64_t seed = 88172645463325252u;
    double start = table_now();
    while (!atomic_load(&this->stop)) {
        double when = start + (double)this->changes / this->rate, late = table_now() - when;
        this->behind = late > this->behind ? late : this->behind;
        if (late < 0) table_sleep_until(when);
        uint64_t random = next_random(&seed);
        change_pair(this, random % PAIRS, (random >> 32) % 3 == 0);
    }
    return NULL;
}

/* ---- Readers --------------------------------------------------------------------------------- */

/* What the writer had told before a call began. */
typedef struct known {
    uint64_t operations, lowest;
    bool present;
} known;

static known look(pair *of) {
    known result = {.operations = atomic_load(&of->operations)};
    result.lowest = atomic_load(&of->lowest);
    result.present = atomic_load(&of->present);
    return result;
}

/* The generation of an utterance of the pair; 0 when it is not of it. */
static uint64_t generation_of(sr_str utterance, size_t which) {
    char text[64];
    unsigned long long generation;
    size_t number;
    if (utterance.len >= sizeof text) return 0;
    memcpy(text, utterance.data, utterance.len);
    text[utterance.len] = '\0';
    return sscanf(text, "pair %zu %llu", &number, &generation) == 2 && number == which ? generation
                                                                                       : 0;
}

static void judge(reader *this, size_t which, known before, const sr_decision *decision) {
    pair *of = &this->of->pairs[which];
    uint64_t seen[2] = {0, 0};
    size_t n = 0;
    for (size_t c = 0; c < decision->candidate_count; c++) {
        uint64_t generation = generation_of(decision->candidates[c].utterance, which);
        if (generation && n < 2) seen[n++] = generation;
    }
    this->answers++;
    this->absent += n == 0;
    this->halves += n == 1 || (n == 2 && seen[0] != seen[1]);
    uint64_t highest = atomic_load(&of->highest);
    for (size_t i = 0; i < n; i++) {
        this->returned += seen[i] < before.lowest;
        this->unborn += seen[i] > highest;
    }
    bool quiet = before.operations % 2 == 0 && atomic_load(&of->operations) == before.operations;
    this->missing += quiet && before.present != (n == 2);
}

static void *read_on(void *user) {
    static const sr_decide_options both = {
        .size = sizeof both, .path = SR_PATH_SLOW, .top_k = 3, .no_reject = 1};
    reader *this = user;
    uint64_t last = 0;
    for (; !atomic_load(&this->of->stop); this->calls++) {
        size_t which[2], n = 1 + next_random(&this->seed) % 2;
        char rooms[2][32];
        sr_str texts[2];
        known before[2];
        uint64_t revision = atomic_load(&this->of->revision);
        for (size_t i = 0; i < n; i++) {
            which[i] = next_random(&this->seed) % PAIRS;
            texts[i] = table_query(rooms[i], which[i]);
            before[i] = look(&this->of->pairs[which[i]]);
        }
        sr_decisions *decisions = NULL;
        sr_error error;
        table_must(sr_decide(this->of->router, texts, n, &both, &decisions, &error), &error);
        for (size_t i = 0; i < n; i++) {
            const sr_decision *decision = sr_decisions_get(decisions, i);
            judge(this, which[i], before[i], decision);
            this->falls += decision->revision < last;
            this->stale += decision->revision < revision;
            this->mixed += i && decision->revision != last;
            last = decision->revision;
        }
        sr_decisions_free(&decisions);
    }
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    this->waits = (uint64_t)usage.ru_nvcsw;
    return NULL;
}

/* ---- Setting up and judging ------------------------------------------------------------------ */

static void normalise(float *row, size_t dimension) {
    double sum = 0;
    for (size_t d = 0; d < dimension; d++) sum += (double)row[d] * row[d];
    for (size_t d = 0; d < dimension; d++) row[d] = (float)(row[d] / sqrt(sum));
}

/* A pair's vectors lie close around a query, side b a little further, where nothing else of the
 * table is. */
static void make_pairs(stress *this) {
    size_t dimension = (size_t)this->queries->dimension;
    uint64_t seed = 2463534242u;
    this->pair_vectors =
        table_alloc((size_t)PAIRS * 2 * PAIR_UTTERANCES * dimension, sizeof(float));
    for (size_t r = 0; r < (size_t)PAIRS * 2 * PAIR_UTTERANCES; r++) {
        float *row = this->pair_vectors + r * dimension;
        float away = r / PAIR_UTTERANCES % 2 ? 0.010f : 0.004f;
        memcpy(row, table_row(this->queries, r / (2 * (size_t)PAIR_UTTERANCES)),
               dimension * sizeof *row);
        for (size_t d = 0; d < dimension; d++)
            row[d] += away * ((float)(next_random(&seed) >> 40) / 16777216.0f - 0.5f);
        normalise(row, dimension);
    }
}

static uint64_t faults_of(const reader *r) {
    return r->halves + r->returned + r->unborn + r->missing + r->falls + r->stale + r->mixed;
}

static uint64_t report(const stress *this, const reader *readers, size_t n, double seconds) {
    reader all = {0};
    for (size_t i = 0; i < n; i++) {
        const reader *r = &readers[i];
        all.calls += r->calls, all.answers += r->answers, all.absent += r->absent;
        all.waits += r->waits, all.halves += r->halves, all.returned += r->returned;
        all.unborn += r->unborn, all.missing += r->missing, all.falls += r->falls;
        all.stale += r->stale, all.mixed += r->mixed;
    }
    printf("{\"seconds\": %.1f, \"changes\": %llu, \"changes_per_second\": %.0f, \"puts\": %llu, "
           "\"removals\": %llu, \"writer_late_ms\": %.1f, \"readers\": %zu, \"calls\": %llu, "
           "\"answers\": %llu, \"pair_absent\": %llu, \"reader_waits\": %llu, ",
           seconds, (unsigned long long)this->changes, (double)this->changes / seconds,
           (unsigned long long)this->puts, (unsigned long long)this->removals, this->behind * 1e3,
           n, (unsigned long long)all.calls, (unsigned long long)all.answers,
           (unsigned long long)all.absent, (unsigned long long)all.waits);
    printf("\"half_applied\": %llu, \"returned_after_removal\": %llu, \"seen_before_put\": %llu, "
           "\"missing\": %llu, \"revision_fell\": %llu, \"revision_stale\": %llu, "
           "\"revisions_mixed\": %llu, \"faults\": %llu}\n",
           (unsigned long long)all.halves, (unsigned long long)all.returned,
           (unsigned long long)all.unborn, (unsigned long long)all.missing,
           (unsigned long long)all.falls, (unsigned long long)all.stale,
           (unsigned long long)all.mixed, (unsigned long long)faults_of(&all));
    return faults_of(&all);
}

static double run(stress *this, reader *readers, size_t n, double seconds) {
    pthread_t writer;
    double start = table_now();
    if (pthread_create(&writer, NULL, write_on, this) != 0) table_fail("no thread can be started");
    for (size_t i = 0; i < n; i++) {
        readers[i] = (reader){.of = this, .seed = 362436069u + i * 521288629u};
        if (pthread_create(&readers[i].thread, NULL, read_on, &readers[i]) != 0)
            table_fail("no thread can be started");
    }
    table_sleep_until(start + seconds);
    atomic_store(&this->stop, true);
    pthread_join(writer, NULL);
    double taken = table_now() - start;
    for (size_t i = 0; i < n; i++) pthread_join(readers[i].thread, NULL);
    return taken;
}

int table_stress(int count, char **arguments) {
    if (count != 6) return 2;
    table_rows queries = table_map_rows(arguments[1], (int)table_number(arguments[2]));
    size_t n = table_number(arguments[5]);
    static reader readers[MOST_READERS];
    static stress this;
    if (queries.count < PAIRS || n < 1 || n > MOST_READERS) return 2;
    sr_encoder *encoder = table_encoder(&queries);
    this.router = table_open(arguments[0], encoder, 1, SR_DURABILITY_DEFERRED);
    this.queries = &queries;
    this.rate = (double)table_number(arguments[4]);
    make_pairs(&this);
    double seconds = run(&this, readers, n, (double)table_number(arguments[3]));
    sr_error error;
    table_must(sr_router_flush(this.router, &error), &error);
    uint64_t faults = report(&this, readers, n, seconds);
    bool slow = (double)this.changes < 0.98 * this.rate * seconds;
    if (slow) fprintf(stderr, "the writer fell behind its %.0f changes a second\n", this.rate);
    table_must(sr_router_verify(this.router, &error), &error);
    sr_router_close(&this.router);
    sr_encoder_close(&encoder);
    free(this.pair_vectors);
    return faults || slow;
}
