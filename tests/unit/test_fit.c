/*
 * test_fit.c - a fit as its callers see it: it decides what it has not seen, alike on any machine, and
 * survives odd tables and damaged or hostile bytes. The shipped static model is both the fast and the slow encoder.
 */
#include "fit_table.h"

#include <sys/wait.h>
#include <unistd.h>

static sr_encoder *model;
static uint64_t bits_at[2]; /* of level ref, and of the best */

/* ---- Shared ------------------------------------------------------------------------------------------------ */

static struct {
    bench b;
    sri_fit *fit;
    sri_fit_findings findings;
    sri_fit_scratch scratch;
    texts held; /* of all themes */
} shared;

static int set_up(void **state) {
    (void)state;
    shared.b = theme_bench(model, model, THEMES, EACH);
    shared.fit = make_fit(&shared.b, 2, &shared.findings);
    assert_non_null(shared.fit);
    for (uint32_t r = 0; r < THEMES; r++) add_theme(&shared.held, r, true, 99, r);
    encode_texts(&shared.held, model);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    sri_fit_free(&shared.fit);
    sri_fit_scratch_free(&shared.scratch);
    close_bench(&shared.b);
    free_texts(&shared.held);
    sr_encoder_close(&model);
    return 0;
}

/* A text's verdict, slow and fast, of a fit without masks. */
static verdict slow_of(const bench *b, const sri_fit *fit, sr_str text) {
    return judge_slow(b, fit, text, NULL, b->routes, &shared.scratch);
}
static verdict fast_of(const sri_fit *fit, sr_str text) {
    return judge_fast(fit, text, NULL, THEMES, &shared.scratch);
}

static size_t right_of_held(const bench *b, const sri_fit *fit, bool fast) {
    size_t right = 0;
    for (size_t i = 0; i < shared.held.count; i++) {
        sr_str text = shared.held.list[i];
        verdict v = fast ? fast_of(fit, text) : slow_of(b, fit, text);
        right += v.of.count > 0 && v.best[0].route == shared.held.routes[i];
    }
    return right;
}

/* ---- Decisions ----------------------------------------------------------------------------------------------- */

static void unseen_combinations_are_decided(void **state) {
    (void)state;
    size_t n = shared.held.count;
    assert_true(n >= 48);
    assert_true(right_of_held(&shared.b, shared.fit, false) >= n - 1);
    assert_true(right_of_held(&shared.b, shared.fit, true) >= n - 2);
    size_t settled = 0, agree = 0, accepted = 0;
    for (size_t i = 0; i < n; i++) {
        verdict slow = slow_of(&shared.b, shared.fit, shared.held.list[i]);
        verdict fast = fast_of(shared.fit, shared.held.list[i]);
        expect_sound(&slow);
        expect_sound(&fast);
        assert_int_equal(slow.of.count, THEMES);
        assert_false(slow.of.settled);
        accepted += slow.of.accepted;
        settled += fast.of.settled;
        agree += fast.of.settled && fast.best[0].route == slow.best[0].route;
    }
    assert_true(accepted * 10 >= n * 9);
    assert_true(settled * 2 >= n);
    assert_true(agree + 1 >= settled);
}

static void strangers_are_told_apart(void **state) {
    (void)state;
    double inside = 0, outside = 0, fast_inside = 0, fast_outside = 0;
    size_t accepted = 0, settled = 0;
    for (size_t i = 0; i < shared.held.count; i++) {
        inside += slow_of(&shared.b, shared.fit, shared.held.list[i]).of.in_scope;
        fast_inside += fast_of(shared.fit, shared.held.list[i]).of.in_scope;
    }
    for (size_t i = 0; i < STRANGERS; i++) {
        verdict slow = slow_of(&shared.b, shared.fit, sr_str_of(strangers[i]));
        verdict fast = fast_of(shared.fit, sr_str_of(strangers[i]));
        expect_sound(&slow);
        expect_sound(&fast);
        outside += slow.of.in_scope;
        fast_outside += fast.of.in_scope;
        accepted += slow.of.accepted;
        settled += fast.of.settled;
    }
    assert_true(inside / (double)shared.held.count > outside / STRANGERS + 0.5);
    assert_true(fast_inside / (double)shared.held.count > fast_outside / STRANGERS + 0.3);
    assert_true(accepted * 5 <= STRANGERS);
    assert_true(settled * 5 <= STRANGERS);
}

/* A text of two routes is in scope, and yet nothing for the fast path to settle. */
static void what_is_undecided_is_not_settled(void **state) {
    (void)state;
    const sri_knobs *knobs = &shared.fit->knobs;
    size_t undecided = 0;
    for (size_t a = 0; a < THEMES; a++)
        for (size_t b = 0; b < THEMES; b++) {
            char text[200];
            snprintf(text, sizeof text, "%s %s", themes[a].subjects[0], themes[b].predicates[0]);
            verdict fast = fast_of(shared.fit, sr_str_of(text));
            expect_sound(&fast);
            double posterior = fast.best[0].confidence / fast.of.in_scope;
            bool sure = posterior >= knobs->gate_confidence - 1e-6;
            undecided += !sure && fast.of.in_scope > 0.9;
            assert_true(sure || !fast.of.settled);
        }
    assert_true(undecided > 0);
}

/* A sure answer about a text that does not look like the table's is left to the slow path. */
static void the_gate_asks_whether_a_text_is_in_scope(void **state) {
    (void)state;
    sri_knobs *knobs = &shared.fit->knobs;
    double gate = knobs->gate_scope;
    char text[200];
    snprintf(text, sizeof text, "%s %s", themes[0].subjects[0], themes[0].predicates[0]);
    assert_true(fast_of(shared.fit, sr_str_of(text)).of.settled);
    knobs->gate_scope = 1000;
    bool settled = fast_of(shared.fit, sr_str_of(text)).of.settled;
    knobs->gate_scope = gate;
    assert_false(settled);
}

/* Answers of both paths are put into one order by their confidence, so both have to mean the same by it: what the
 * slow path says of texts that it has not seen. */
static void settled_answers_are_as_sure_as_slow_ones(void **state) {
    (void)state;
    double fast = 0, slow = 0;
    size_t settled = 0, count;
    const sri_fit_trial *trials = sri_fit_trials(shared.fit, &count);
    for (size_t i = 0; i < count; i++)
        slow += log(trials[i].confidence / (1.0 - trials[i].confidence)) / (double)count;
    for (size_t i = 0; i < shared.held.count; i++) {
        verdict v = fast_of(shared.fit, shared.held.list[i]);
        if (!v.of.settled) continue;
        fast += log(v.best[0].confidence / (1.0 - v.best[0].confidence));
        settled++;
    }
    assert_true(settled > 10);
    assert_true(fabs(fast / (double)settled - slow) < 1);
    const sri_logit *learned = &shared.fit->knobs.settled, *usual = &sri_knobs_prior.settled;
    assert_true(memcmp(learned, usual, sizeof *usual) != 0);
}

static void findings_are_plausible(void **state) {
    (void)state;
    const sri_fit_findings *f = &shared.findings;
    assert_memory_equal(f, sri_fit_found(shared.fit), sizeof *f);
    assert_int_equal(f->utterances, THEMES * EACH);
    assert_int_equal(f->oos + f->labelled, 0);
    assert_true(f->slow >= 0.9 && f->slow <= 1 && f->fast >= 0.8 && f->neighbours >= 0.5);
    assert_true(f->automatic >= f->slow - 0.02 && f->fast_share > 0 && f->fast_share <= 1);
    assert_true(isnan(f->oos_auroc) && isnan(f->oos_accepted));
    assert_true(f->ece >= 0 && f->ece < 0.5 && f->seconds > 0);
    size_t count;
    const sri_fit_trial *trials = sri_fit_trials(shared.fit, &count);
    assert_int_equal(count, THEMES * EACH);
    double right = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(trials[i].confidence >= 0 && trials[i].confidence <= 1);
        assert_true(trials[i].cosine < 0.9999f); /* none is its own neighbour */
        right += trials[i].best == trials[i].route;
    }
    assert_true(fabs(right / (double)count - f->slow) < 1e-9);
}

static void a_masked_route_is_no_candidate(void **state) {
    (void)state;
    double with = 0, without = 0;
    for (size_t i = 0; i < shared.held.count; i += 3) {
        sr_str text = shared.held.list[i];
        uint8_t usable[THEMES];
        memset(usable, 1, sizeof usable);
        usable[shared.held.routes[i]] = 0;
        usable[(shared.held.routes[i] + 3) % THEMES] = 0;
        for (int fast = 0; fast < 2; fast++) {
            verdict v =
                fast ? judge_fast(shared.fit, text, usable, 20, &shared.scratch)
                     : judge_slow(&shared.b, shared.fit, text, usable, THEMES, &shared.scratch);
            expect_sound(&v);
            assert_int_equal(v.of.count, THEMES - 2);
            for (size_t c = 0; c < v.of.count; c++) assert_true(usable[v.best[c].route] == 1);
            without += fast ? 0 : v.of.in_scope;
        }
        with += slow_of(&shared.b, shared.fit, text).of.in_scope;
    }
    assert_true(without < 0.5 * with); /* what only a masked route would know is strange */
}

static void with_all_masked_there_is_none(void **state) {
    (void)state;
    uint8_t none[THEMES] = {0};
    sr_str text = shared.held.list[0];
    verdict slow = judge_slow(&shared.b, shared.fit, text, none, 3, &shared.scratch);
    verdict fast = judge_fast(shared.fit, text, none, 3, &shared.scratch);
    assert_int_equal(slow.of.count + fast.of.count, 0);
    assert_false(slow.of.accepted || fast.of.accepted || fast.of.settled);
    expect_sound(&slow);
    expect_sound(&fast);
}

static void any_number_of_candidates_may_be_asked_for(void **state) {
    (void)state;
    for (size_t i = 0; i < shared.held.count; i += 5) {
        sr_str text = shared.held.list[i];
        verdict all = slow_of(&shared.b, shared.fit, text);
        verdict all_fast = fast_of(shared.fit, text);
        for (size_t k = 0; k <= THEMES + 2; k++) {
            verdict slow = judge_slow(&shared.b, shared.fit, text, NULL, k, &shared.scratch);
            verdict fast = judge_fast(shared.fit, text, NULL, k, &shared.scratch);
            assert_int_equal(slow.of.count, SRI_MIN(k, (size_t)THEMES));
            assert_int_equal(fast.of.count, SRI_MIN(k, (size_t)THEMES));
            assert_memory_equal(slow.best, all.best, slow.of.count * sizeof *slow.best);
            assert_memory_equal(fast.best, all_fast.best, fast.of.count * sizeof *fast.best);
            assert_true(slow.of.accepted == all.of.accepted);
            assert_true(fast.of.settled == all_fast.of.settled);
            assert_true(slow.of.in_scope == all.of.in_scope);
        }
    }
}

/* One text or many, in one scratch or another: the same. */
static void a_batch_changes_nothing(void **state) {
    (void)state;
    size_t n = shared.held.count;
    sri_fit_candidate *best = calloc(n * 3, sizeof *best);
    sri_judgement *of = calloc(n, sizeof *of);
    sri_fit_scratch scratch = {0};
    assert_true(sri_fit_judge_fast(shared.fit, shared.held.list, n, NULL, 3, &scratch, best, of));
    for (size_t i = 0; i < n; i++) {
        verdict alone = judge_fast(shared.fit, shared.held.list[i], NULL, 3, &shared.scratch);
        assert_int_equal(of[i].count, 3);
        assert_memory_equal(alone.best, best + i * 3, 3 * sizeof *best);
        assert_true(alone.of.in_scope == of[i].in_scope && alone.of.settled == of[i].settled);
    }
    sri_fit_scratch_free(&scratch);
    free(best);
    free(of);
}

static uint64_t hash_verdict(const verdict *v, uint64_t seed) {
    double in_scope = v->of.in_scope;
    seed = sri_hash(&in_scope, sizeof in_scope, seed + v->of.accepted + 2 * v->of.settled);
    return sri_hash(v->best, v->of.count * sizeof *v->best, seed);
}

typedef struct crowd {
    sri_fit_scratch scratch[4];
    uint64_t *hashes; /* [held] */
} crowd;

static void ask_one(void *argument, size_t task, int slot) {
    crowd *c = argument;
    size_t i = task % shared.held.count;
    verdict slow, fast;
    memset(&slow, 0, sizeof slow);
    memset(&fast, 0, sizeof fast);
    sri_fit_hit hit = {shared.held.routes[i], 0.7f};
    bool answered =
        sri_fit_judge_slow(shared.fit, shared.held.list[i], shared.held.vectors + i * 256, &hit, 1,
                           NULL, 4, &c->scratch[slot], slow.best, &slow.of) &&
        sri_fit_judge_fast(shared.fit, &shared.held.list[i], 1, NULL, 4, &c->scratch[slot],
                           fast.best, &fast.of);
    c->hashes[task] = answered ? hash_verdict(&slow, hash_verdict(&fast, 1)) : 0;
}

static void any_number_of_threads_may_ask(void **state) {
    (void)state;
    size_t n = shared.held.count, rounds = 8;
    crowd c = {.hashes = calloc(n * rounds, sizeof(uint64_t))};
    sri_pool *pool;
    assert_int_equal(sri_pool_open(4, &pool, NULL), SR_OK);
    sri_pool_run(pool, ask_one, &c, n * rounds);
    sri_pool_close(&pool);
    for (size_t i = 0; i < n * rounds; i++) {
        assert_true(c.hashes[i] != 0);
        assert_true(c.hashes[i] == c.hashes[i % n]);
    }
    for (size_t slot = 0; slot < 4; slot++) sri_fit_scratch_free(&c.scratch[slot]);
    free(c.hashes);
}

/* ---- The same bits ------------------------------------------------------------------------------------------- */

static sri_buffer bytes_of(const sri_fit *fit) {
    sri_buffer out = {0};
    sr_error error;
    if (sri_fit_write(fit, &out, &error) != SR_OK) fail_msg("%s", error.message);
    return out;
}

/* Of a fit made anew, out-of-scope examples and labelled texts included, and of what it says. */
static uint64_t hash_of_a_fit(sr_encoder *encoder, int threads) {
    bench b = theme_bench(encoder, encoder, 6, 9);
    for (size_t i = 0; i < 12; i++) add_text(&b.utterances, strangers[i], NO_ROUTE);
    for (uint32_t r = 0; r < 6; r++) add_theme(&b.labelled, r, true, 3, r);
    add_text(&b.labelled, strangers[12], NO_ROUTE);
    add_text(&b.labelled, strangers[13], NO_ROUTE);
    sri_fit *fit = make_fit(&b, threads, NULL);
    assert_non_null(fit);
    fit->findings.seconds = 0;
    sri_buffer bytes = bytes_of(fit);
    uint64_t hash = sri_hash(bytes.data, bytes.len, 3);
    sri_fit_scratch scratch = {0};
    for (uint32_t r = 0; r < THEMES; r++) {
        texts asked = {0};
        add_theme(&asked, r, true, 4, r);
        add_text(&asked, strangers[STRANGERS - 1 - r], NO_ROUTE);
        for (size_t i = 0; i < asked.count; i++) {
            verdict slow = judge_slow(&b, fit, asked.list[i], NULL, 6, &scratch);
            verdict fast = judge_fast(fit, asked.list[i], NULL, 6, &scratch);
            hash = hash_verdict(&fast, hash_verdict(&slow, hash));
        }
        free_texts(&asked);
    }
    sri_fit_scratch_free(&scratch);
    sri_buffer_free(&bytes);
    sri_fit_free(&fit);
    close_bench(&b);
    return hash;
}

/* In a process of its own, since kernels are chosen once. 0 when it fails. */
static uint64_t hash_at_level(const char *root, const char *level) {
    int ends[2];
    uint64_t hash = 0;
    if (pipe(ends) != 0) return 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (level != NULL) setenv("SR_CPU", level, 1);
        sr_encoder *own = open_static(root);
        hash = hash_of_a_fit(own, 2);
        sr_encoder_close(&own);
        _exit(write(ends[1], &hash, sizeof hash) == sizeof hash ? 0 : 1);
    }
    close(ends[1]);
    int status = 1;
    if (read(ends[0], &hash, sizeof hash) != sizeof hash) hash = 0;
    close(ends[0]);
    if (waitpid(child, &status, 0) != child || status != 0) hash = 0;
    return hash;
}

static void threads_and_levels_give_the_same_bits(void **state) {
    (void)state;
    uint64_t wanted = hash_of_a_fit(model, 1);
    assert_true(wanted == hash_of_a_fit(model, 2));
    assert_true(wanted == hash_of_a_fit(model, 5));
    assert_true(wanted == bits_at[0]);
    assert_true(wanted == bits_at[1]);
}

/* ---- Bytes --------------------------------------------------------------------------------------------------- */

static void expect_refused(const void *bytes, size_t size, size_t dimension, sr_encoder *fast,
                           sr_status wanted) {
    /* A copy of its own, so that a byte read beyond the end is seen. */
    void *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, bytes, size);
    sri_fit *fit = (sri_fit *)&fit;
    sr_error error = {0};
    sr_status code = sri_fit_read(copy, size, dimension, fast, &fit, &error);
    free(copy);
    assert_null(fit);
    assert_int_equal(code, wanted);
    assert_true(strlen(error.message) > 0);
}

static void a_fit_comes_back_as_it_was(void **state) {
    (void)state;
    sri_buffer bytes = {0};
    assert_true(sri_buffer_append(&bytes, "before", 6)); /* writing appends */
    assert_int_equal(sri_fit_write(shared.fit, &bytes, NULL), SR_OK);
    assert_memory_equal(bytes.data, "before", 6);
    sri_fit *back;
    assert_int_equal(sri_fit_read(bytes.data + 6, bytes.len - 6, 256, model, &back, NULL), SR_OK);
    assert_int_equal(sri_fit_routes(back), THEMES);
    assert_true(sri_fit_has_fast(back));
    for (size_t r = 0; r < THEMES; r++) {
        assert_int_equal(sri_fit_route_at(back, r)->id, 100 + r);
        assert_int_equal(sri_fit_route_at(back, r)->digest, 7 * r);
        assert_int_equal(sri_fit_route_at(back, r)->count, EACH);
        assert_int_equal(sri_fit_route_at(back, r)->name.len, 0);
    }
    assert_memory_equal(sri_fit_found(back), sri_fit_found(shared.fit), sizeof(sri_fit_findings));
    size_t count;
    sri_fit_trials(back, &count);
    assert_int_equal(count, 0);
    for (size_t i = 0; i < shared.held.count + STRANGERS; i++) {
        sr_str text = i < shared.held.count ? shared.held.list[i]
                                            : sr_str_of(strangers[i - shared.held.count]);
        verdict a = slow_of(&shared.b, shared.fit, text), b = slow_of(&shared.b, back, text);
        assert_true(hash_verdict(&a, 1) == hash_verdict(&b, 1));
        a = fast_of(shared.fit, text), b = fast_of(back, text);
        assert_true(hash_verdict(&a, 1) == hash_verdict(&b, 1));
    }
    sri_buffer again = bytes_of(back);
    assert_int_equal(again.len, bytes.len - 6);
    assert_memory_equal(again.data, bytes.data + 6, again.len);
    sri_buffer_free(&again);
    sri_fit_free(&back);
    sri_buffer_free(&bytes);
}

static void damaged_bytes_are_refused(void **state) {
    (void)state;
    sri_buffer bytes = bytes_of(shared.fit);
    char *data = bytes.data;
    for (size_t size = 0; size < 400; size++) expect_refused(data, size, 256, model, SR_ERR_FORMAT);
    for (size_t size = 401; size < bytes.len; size += bytes.len / 60)
        expect_refused(data, size, 256, model, SR_ERR_FORMAT);
    expect_refused(data, bytes.len - 1, 256, model, SR_ERR_FORMAT);
    for (size_t i = 0; i < 300; i++) {
        size_t at = i < 160 ? i : (i * 7919 * 131) % bytes.len;
        if (at >= 12 && at < 16) continue; /* reserved */
        data[at] = (char)(data[at] ^ (1 << i % 8));
        expect_refused(data, bytes.len, 256, model, SR_ERR_FORMAT);
        data[at] = (char)(data[at] ^ (1 << i % 8));
    }
    char *longer = malloc(bytes.len + 1);
    memcpy(longer, data, bytes.len);
    longer[bytes.len] = 0;
    expect_refused(longer, bytes.len + 1, 256, model, SR_ERR_FORMAT);
    free(longer);
    sri_buffer_free(&bytes);
}

static void another_model_is_refused(void **state) {
    (void)state;
    sri_buffer bytes = bytes_of(shared.fit);
    bench b = theme_bench(model, NULL, THEMES, 4);
    sri_fit *slow_only = make_fit(&b, 1, NULL);
    assert_false(sri_fit_has_fast(slow_only));
    sri_buffer without = bytes_of(slow_only);
    expect_refused(bytes.data, bytes.len, 384, model, SR_ERR_MODEL);
    expect_refused(bytes.data, bytes.len, 0, model, SR_ERR_MODEL);
    expect_refused(bytes.data, bytes.len, 256, NULL, SR_ERR_MODEL);
    expect_refused(without.data, without.len, 256, model, SR_ERR_MODEL);
    sri_fit *back;
    assert_int_equal(sri_fit_read(without.data, without.len, 256, NULL, &back, NULL), SR_OK);
    sri_fit_free(&back);
    sri_buffer_free(&without);
    sri_buffer_free(&bytes);
    sri_fit_free(&slow_only);
    close_bench(&b);
}

/* What a hostile writer can do: any bytes with a hash that fits them. A header {magic, version and reserved, size,
 * hash} of 32 bytes comes first, then numbers of 8 bytes each, among them `texts`, and a fingerprint. */
enum { NUMBERS_AT = 32, TEXTS_AT = NUMBERS_AT + 5 * 8 };

static size_t place_of(const sri_buffer *bytes, const void *part, size_t size) {
    const char *at = memmem(bytes->data, bytes->len, part, size);
    assert_non_null(at);
    return (size_t)(at - bytes->data);
}

static size_t fingerprint_at(const sri_buffer *bytes) {
    return place_of(bytes, sr_encoder_fingerprint(model), strlen(sr_encoder_fingerprint(model)));
}

static size_t knobs_at(const sri_buffer *bytes, const sri_fit *fit) {
    return place_of(bytes, &fit->knobs, sizeof fit->knobs);
}

static void sign(char *data, size_t size) {
    uint64_t of[2] = {size, sri_hash(data + NUMBERS_AT, size - NUMBERS_AT, 0x5f1d7a2bULL)};
    memcpy(data + 16, of, sizeof of);
}

/* Reads signed bytes. When they are taken, whatever they hold, a fit must answer soundly. */
static bool taken(char *data, size_t size, sr_encoder *fast) {
    sri_fit *fit = (sri_fit *)&fit;
    sri_fit_scratch scratch = {0};
    char *copy = malloc(size);
    sign(data, size);
    memcpy(copy, data, size);
    sr_status code = sri_fit_read(copy, size, 256, fast, &fit, NULL);
    free(copy);
    if (code != SR_OK) {
        assert_true(code == SR_ERR_FORMAT || code == SR_ERR_MODEL);
        assert_null(fit);
        return false;
    }
    for (size_t i = 0; i < 6 && fit->route_count == THEMES; i++) {
        sr_str text = i < 3 ? shared.held.list[11 * i] : sr_str_of(strangers[i]);
        verdict slow = judge_slow(&shared.b, fit, text, NULL, 5, &scratch);
        verdict fast_one = judge_fast(fit, text, NULL, 5, &scratch);
        expect_sound(&slow);
        expect_sound(&fast_one);
    }
    sri_buffer better = {0};
    bool mended;
    assert_true(sri_fit_mend(fit, sr_str_of("a chep flihgt, my pasword"), &better, &mended));
    assert_true(mended == (better.len > 0));
    sri_buffer_free(&better);
    sri_fit_scratch_free(&scratch);
    sri_fit_free(&fit);
    return true;
}

static void hostile_sizes_are_refused(void **state) {
    (void)state;
    sri_buffer bytes = bytes_of(shared.fit);
    static const uint64_t values[] = {0,          1,          2,          3,          15,
                                      16,         17,         255,        65536,      65537,
                                      1u << 22,   UINT32_MAX, 1ull << 32, 1ull << 33, 1ull << 40,
                                      1ull << 61, 1ull << 62, 1ull << 63, UINT64_MAX};
    for (size_t n = NUMBERS_AT; n < fingerprint_at(&bytes); n += 8) {
        char *at = bytes.data + n;
        uint64_t own;
        memcpy(&own, at, 8);
        for (size_t v = 0; v < SRI_COUNT(values) + 8; v++) {
            const uint64_t near[] = {
                own - 1,           own + 1, own * 2, own / 2, own + 8, own * 3, own + (1ull << 32),
                own + (1ull << 62)};
            uint64_t value = v < SRI_COUNT(values) ? values[v] : near[v - SRI_COUNT(values)];
            if (value == own) continue;
            memcpy(at, &value, 8);
            bool of_texts = n == TEXTS_AT; /* any number of texts is one; it is no size */
            if (taken(bytes.data, bytes.len, model) && !of_texts)
                fail_msg("the number at %zu as %llu is taken", n, (unsigned long long)value);
        }
        memcpy(at, &own, 8);
    }
    for (size_t size = NUMBERS_AT; size < bytes.len; size += 1 + bytes.len / 97) {
        char *copy = malloc(size);
        memcpy(copy, bytes.data, size);
        assert_false(taken(copy, size, model));
        free(copy);
    }
    assert_true(taken(bytes.data, bytes.len, model));
    sri_buffer_free(&bytes);
}

/* A fit of one static model under the name of another, whose vectors are longer: the fast path would write beyond
 * its room. */
static void hostile_fingerprints_are_refused(void **state) {
    (void)state;
    sri_fit *fit = shared.fit;
    sri_dense_head fixed = fit->fixed;
    sri_centres centres = fit->centres;
    static const size_t widths[] = {0, 8, 255};
    for (size_t i = 0; i < SRI_COUNT(widths); i++) {
        fit->fixed.width = fit->centres.fast_dimension = widths[i];
        fit->fixed.classes = widths[i] == 0 ? 0 : fixed.classes;
        sri_buffer bytes = bytes_of(fit);
        assert_false(taken(bytes.data, bytes.len, model));
        sri_buffer_free(&bytes);
    }
    fit->fixed = fixed;
    fit->centres = centres;
    /* Words to mend by, and no model to ask. */
    bench b = theme_bench(model, NULL, 3, 4);
    sri_fit *slow_only = make_fit(&b, 1, NULL);
    sri_speller none = slow_only->speller;
    slow_only->speller = fit->speller;
    sri_buffer spelling = bytes_of(slow_only);
    assert_false(taken(spelling.data, spelling.len, NULL));
    sri_buffer_free(&spelling);
    slow_only->speller = none;
    sri_fit_free(&slow_only);
    close_bench(&b);
    sri_buffer bytes = bytes_of(fit);
    char *fingerprint = bytes.data + fingerprint_at(&bytes);
    memset(fingerprint, 0, 72);
    assert_false(taken(bytes.data, bytes.len, NULL));
    memset(fingerprint, 'a', 72); /* without an end */
    assert_false(taken(bytes.data, bytes.len, model));
    sri_buffer_free(&bytes);
}

/* Contents that no fit has: what is taken must still answer soundly. */
static void hostile_contents_do_no_harm(void **state) {
    (void)state;
    sri_buffer bytes = bytes_of(shared.fit);
    size_t knobs = knobs_at(&bytes, shared.fit);
    const double wild[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0, -1, 1e-320, 2};
    for (size_t k = 0; k < sizeof(sri_knobs) / 8; k++) {
        char *at = bytes.data + knobs + 8 * k, own[8];
        memcpy(own, at, 8);
        for (size_t w = 0; w < SRI_COUNT(wild); w++) {
            memcpy(at, &wild[w], 8);
            bool read = taken(bytes.data, bytes.len, model);
            if (!isfinite(wild[w])) assert_false(read);
        }
        memcpy(at, own, 8);
    }
    size_t first = knobs + sizeof(sri_knobs) + sizeof(sri_fit_findings) + THEMES * 24;
    const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-42f};
    for (size_t i = 0; i < 180; i++) {
        size_t at = first + (bytes.len - first - 4) / 180 / 4 * 4 * i;
        size_t run = SRI_MIN(i % 3 == 0 ? (size_t)4 : 4000, (bytes.len - at) / 4 * 4);
        char *own = malloc(run);
        memcpy(own, bytes.data + at, run);
        for (size_t b = 0; b < run; b += 4) memcpy(bytes.data + at + b, &odd[i % 6], 4);
        taken(bytes.data, bytes.len, model);
        memset(bytes.data + at, 0x80, run); /* -128 in rows of int8 */
        taken(bytes.data, bytes.len, model);
        memcpy(bytes.data + at, own, run);
        free(own);
    }
    for (size_t at = bytes.len - 1500; at < bytes.len; at += 5) { /* words to mend by */
        char own = bytes.data[at];
        bytes.data[at] = at % 3 == 0 ? (char)(own + 1) : at % 3 == 1 ? 'A' : (char)0xff;
        taken(bytes.data, bytes.len, model);
        bytes.data[at] = own;
    }
    assert_true(taken(bytes.data, bytes.len, model));
    sri_buffer_free(&bytes);
}

/* ---- Odd tables ------------------------------------------------------------------------------------------------ */

static void too_small_tables_teach_nothing(void **state) {
    (void)state;
    static const size_t shapes[][2] = {{0, 0}, {1, 0}, {1, 1}, {1, 5}, {5, 1}, {8, 1}};
    for (size_t s = 0; s < SRI_COUNT(shapes); s++) {
        bench b = theme_bench(model, model, shapes[s][0], shapes[s][1]);
        add_text(&b.utterances, strangers[0], NO_ROUTE);
        sri_fit_findings findings;
        assert_null(make_fit(&b, 1, &findings));
        assert_int_equal(findings.utterances, shapes[s][0] * shapes[s][1]);
        assert_int_equal(findings.oos, 1);
        assert_int_equal(findings.reach, SRI_FIT_TOO_SMALL);
        assert_true(isnan(findings.slow) && isnan(findings.auto_threshold));
        close_bench(&b);
    }
}

/* Neither minutes nor gigabytes for a table that is left to neighbours: nothing but its counts is looked at. */
static void too_large_tables_are_left_to_neighbours(void **state) {
    (void)state;
    static const struct {
        size_t routes, utterances;
        sri_fit_reach reach;
    } cases[] = {{150, 15000, SRI_FIT_LEARNS},
                 {2000, 10000, SRI_FIT_LEARNS},
                 {2000, 16777, SRI_FIT_LEARNS},
                 {2000, 16778, SRI_FIT_TOO_LARGE},
                 {2001, 10005, SRI_FIT_TOO_LARGE},
                 {1, 100000, SRI_FIT_LEARNS},
                 {1, 100001, SRI_FIT_TOO_LARGE},
                 {50000, 250000, SRI_FIT_TOO_LARGE},
                 {50000, 99999, SRI_FIT_TOO_SMALL},
                 {0, 0, SRI_FIT_TOO_SMALL},
                 {3, 6, SRI_FIT_LEARNS},
                 {3, 5, SRI_FIT_TOO_SMALL},
                 {SIZE_MAX, SIZE_MAX, SRI_FIT_TOO_SMALL}};
    for (size_t i = 0; i < SRI_COUNT(cases); i++) {
        sri_fit_reach reach = sri_fit_reach_of(cases[i].routes, cases[i].utterances);
        assert_int_equal(reach, cases[i].reach);
        assert_true(strlen(sri_fit_reach_text(reach)) > 10);
    }
    uint32_t *of = calloc(250000, sizeof *of);
    sri_fit_table table = {.dimension = 384, .route_count = 50000};
    table.utterances = (sri_fit_texts){.count = 250000, .routes = of};
    sri_fit *fit;
    sri_fit_findings findings;
    sr_error error;
    assert_int_equal(sri_fit_make(&table, &fit, &findings, &error), SR_OK);
    assert_null(fit);
    assert_int_equal(findings.reach, SRI_FIT_TOO_LARGE);
    assert_int_equal(findings.utterances, 250000);
    assert_true(isnan(findings.slow) && findings.oos == 0);
    free(of);
}

static void one_route_tells_strangers_apart(void **state) {
    (void)state;
    bench b = theme_bench(model, model, 1, 12);
    sri_fit *fit = make_fit(&b, 1, NULL);
    assert_non_null(fit);
    double inside = 0, outside = 0, fast_inside = 0, fast_outside = 0;
    for (size_t i = 0; i < 7; i++) {
        verdict own = slow_of(&b, fit, shared.held.list[i]);
        verdict fast = fast_of(fit, shared.held.list[i]);
        expect_sound(&own);
        assert_int_equal(own.of.count, 1);
        assert_int_equal(own.best[0].route, 0);
        inside += own.of.in_scope;
        fast_inside += fast.of.in_scope;
    }
    for (size_t i = 0; i < STRANGERS; i++) {
        outside += slow_of(&b, fit, sr_str_of(strangers[i])).of.in_scope;
        fast_outside += fast_of(fit, sr_str_of(strangers[i])).of.in_scope;
    }
    assert_true(inside / 7 > outside / STRANGERS + 0.3);
    assert_true(fast_inside / 7 > fast_outside / STRANGERS + 0.2);
    sri_fit_free(&fit);
    close_bench(&b);
}

static void two_routes_of_three_are_enough(void **state) {
    (void)state;
    bench b = theme_bench(model, model, 2, 3);
    sri_fit *fit = make_fit(&b, 1, NULL);
    assert_non_null(fit);
    size_t right = 0;
    for (size_t i = 0; i < 14; i++) {
        verdict v = slow_of(&b, fit, shared.held.list[i]);
        expect_sound(&v);
        right += v.best[0].route == shared.held.routes[i];
    }
    assert_true(right >= 13);
    sri_fit_free(&fit);
    close_bench(&b);
}

/* One route of 200 beside five of 3 that share its words: not worse than the nearest neighbour. */
static void a_large_route_does_not_swallow_small_ones(void **state) {
    (void)state;
    /* Three that are learned, three that are asked. */
    static const char *const small[5][6] = {
        {"my card was stolen", "I lost the credit card", "somebody took my debit card",
         "a thief has my card", "cannot find my debit card, it is lost",
         "the card got stolen in town"},
        {"change the pin of my card", "I forgot the card pin", "the pin code is blocked",
         "what is my pin", "set a new pin for the debit card", "unblock the card pin please"},
        {"raise my card limit", "how much can I spend with the card",
         "the spending limit is too low", "a higher limit for my credit card",
         "what limit has the debit card", "my limit is too low"},
        {"the card was declined in a shop", "my payment by card failed",
         "the terminal refused my card", "why was my card payment declined",
         "the shop refused my debit card", "card payment failed"},
        {"cancel my credit card", "I want to close the card", "please end my debit card contract",
         "close my debit card", "cancel the card contract", "I want to cancel the plastic card"}};
    bench b = open_bench(model, model, 6);
    texts asked = {0};
    char text[300];
    for (size_t i = 0; i < 200; i++) {
        const theme *of = &themes[0];
        snprintf(text, sizeof text, "%s%s %s, %s", prefixes[i % 5], of->subjects[i / 5 % 5],
                 of->predicates[i / 25 % 4], i >= 100 ? "what now" : "thanks");
        add_text(&b.utterances, text, 0);
    }
    for (uint32_t r = 0; r < 5; r++)
        for (size_t i = 0; i < 6; i++) add_text(i < 3 ? &b.utterances : &asked, small[r][i], r + 1);
    add_text(&asked, "my card is not here yet", 0);
    add_text(&asked, "did you post the credit card, it is late", 0);
    add_text(&asked, "the new card never came", 0);
    encode_texts(&asked, model);
    sri_fit *fit = make_fit(&b, 2, NULL);
    assert_non_null(fit);
    size_t right = 0, nearest = 0;
    for (size_t i = 0; i < asked.count; i++) {
        sri_fit_hit hits[THEMES + 1];
        find_hits(&b, asked.vectors + i * 256, hits);
        nearest += hits[0].route == asked.routes[i];
        right += slow_of(&b, fit, asked.list[i]).best[0].route == asked.routes[i];
    }
    if (right < nearest) fail_msg("%zu right, %zu by the nearest neighbour", right, nearest);
    assert_true(right * 3 >= asked.count * 2);
    sri_fit_free(&fit);
    free_texts(&asked);
    close_bench(&b);
}

static void the_same_texts_in_two_routes_share(void **state) {
    (void)state;
    bench b = theme_bench(model, model, 3, 8);
    for (size_t i = 0; i < 8; i++) {
        sr_str text = b.utterances.list[i];
        add_bytes(&b.utterances, text.data, text.len, 3);
    }
    b.routes = 4;
    b.route[3] = (sri_fit_route){.id = 103, .digest = 1, .name = b.route[0].name};
    sri_fit *fit = make_fit(&b, 1, NULL);
    assert_non_null(fit);
    verdict v = slow_of(&b, fit, b.utterances.list[2]);
    expect_sound(&v);
    assert_true(v.best[0].route % 3 == 0 && v.best[1].route % 3 == 0);
    assert_true(v.best[0].confidence < 0.7f && v.best[1].confidence > 0.2f);
    sri_fit_free(&fit);
    close_bench(&b);
}

static void any_bytes_are_texts(void **state) {
    (void)state;
    static char huge[100000];
    for (size_t i = 0; i < sizeof huge; i++)
        huge[i] = i % 7 == 6 ? ' ' : (char)('a' + i * i / 11 % 26);
    const sr_str odd[] = {
        {"", 0},
        {NULL, 0},
        {" \t\n", 3},
        {"\0\0", 2},
        {"\xff\xfe\xc0 card \xe2\x82", 12},
        sr_str_of("\xf0\x9f\x98\x80\xf0\x9f\x92\xb3 \xf0\x9f\x9a\x80"),
        sr_str_of("\xe6\x88\x91\xe7\x9a\x84\xe5\x8d\xa1\xe8\xbf\x98\xe6\xb2\xa1\xe5\x88\xb0"),
        sr_str_of("?!...;;"),
        {huge, sizeof huge},
    };
    bench b = theme_bench(model, model, 4, 6);
    for (size_t i = 0; i < SRI_COUNT(odd); i++)
        if (odd[i].data != NULL) add_bytes(&b.utterances, odd[i].data, odd[i].len, i % 4);
    sri_fit *fit = make_fit(&b, 2, NULL);
    assert_non_null(fit);
    for (size_t i = 0; i < SRI_COUNT(odd); i++) {
        verdict slow = slow_of(&b, fit, odd[i]), fast = fast_of(fit, odd[i]);
        expect_sound(&slow);
        expect_sound(&fast);
        slow = slow_of(&shared.b, shared.fit, odd[i]), fast = fast_of(shared.fit, odd[i]);
        expect_sound(&slow);
        expect_sound(&fast);
        assert_true(i == 4 || !fast.of.settled); /* that one is about a card */
    }
    size_t right = 0;
    for (size_t i = 0; i < 28; i++)
        right += slow_of(&b, fit, shared.held.list[i]).best[0].route == shared.held.routes[i];
    assert_true(right >= 25);
    sri_fit_free(&fit);
    close_bench(&b);
}

/* Routes of a name alone are allowed beside others; so is a long list of labelled strangers. */
static void a_route_may_be_empty(void **state) {
    (void)state;
    bench b = theme_bench(model, model, 5, 8);
    b.routes = 6;
    b.route[5] = (sri_fit_route){.id = 105, .digest = 9, .name = sr_str_of(themes[5].name)};
    for (size_t i = 0; i < STRANGERS; i++) add_text(&b.labelled, strangers[i], NO_ROUTE);
    sri_fit_findings findings;
    sri_fit *fit = make_fit(&b, 2, &findings);
    assert_non_null(fit);
    assert_int_equal(findings.labelled, STRANGERS);
    assert_true(findings.oos_auroc > 0.8);
    verdict v = slow_of(&b, fit, shared.held.list[0]);
    expect_sound(&v);
    assert_int_equal(v.best[0].route, 0);
    sri_fit_free(&fit);
    close_bench(&b);
}

/* ---- Out of scope, targets ------------------------------------------------------------------------------------- */

static void examples_turn_down_what_is_like_them(void **state) {
    (void)state;
    bench b = theme_bench(model, model, THEMES, EACH);
    for (size_t i = 0; i < STRANGERS; i += 2) add_text(&b.utterances, strangers[i], NO_ROUTE);
    /* Near to routes, and yet none of theirs. */
    static const char *const like[] = {"who invented the debit card", "who composed jazz music",
                                       "who built the first airline", "who invented the password",
                                       "who founded the Italian restaurant"};
    for (size_t i = 0; i < 4; i++) add_text(&b.utterances, like[i], NO_ROUTE);
    sri_fit_findings findings;
    sri_fit *fit = make_fit(&b, 2, &findings);
    assert_non_null(fit);
    assert_int_equal(findings.oos, STRANGERS / 2 + 4);
    assert_true(findings.oos_auroc > 0.9);
    assert_int_equal(fit->classes, THEMES + 1);
    verdict before = slow_of(&shared.b, shared.fit, sr_str_of(like[4]));
    verdict after = slow_of(&b, fit, sr_str_of(like[4]));
    if (!(after.of.in_scope < before.of.in_scope))
        fail_msg("in scope: %g before, %g after", before.of.in_scope, after.of.in_scope);
    assert_true(right_of_held(&b, fit, false) >= shared.held.count - 2);
    sri_buffer bytes = bytes_of(fit); /* with that class, there and back */
    assert_true(taken(bytes.data, bytes.len, model));
    /* Its classes and its knobs have to agree. */
    double none = 0;
    memcpy(bytes.data + knobs_at(&bytes, fit) + offsetof(sri_knobs, has_oos), &none, 8);
    assert_false(taken(bytes.data, bytes.len, model));
    sri_buffer_free(&bytes);
    sri_fit_free(&fit);
    close_bench(&b);
}

static void a_few_examples_do_no_harm(void **state) {
    (void)state;
    bench b = theme_bench(model, model, THEMES, EACH);
    for (size_t i = 0; i < 9; i++) add_text(&b.utterances, strangers[i], NO_ROUTE);
    sri_fit *fit = make_fit(&b, 2, NULL);
    assert_non_null(fit);
    assert_int_equal(fit->classes, THEMES);
    assert_true(right_of_held(&b, fit, false) + 1 >= right_of_held(&shared.b, shared.fit, false));
    assert_true(right_of_held(&b, fit, true) + 1 >= right_of_held(&shared.b, shared.fit, true));
    sri_fit_free(&fit);
    close_bench(&b);
}

/* Without examples of strangers, routes that are left out play them. */
static void a_target_needs_no_strangers(void **state) {
    (void)state;
    bench b = theme_bench(model, model, THEMES, EACH);
    b.table.max_oos_accepted = 0.05;
    sri_fit_findings findings;
    sri_fit *fit = make_fit(&b, 1, &findings);
    assert_non_null(fit);
    assert_true(findings.auto_threshold > 0 && findings.auto_threshold < 1.02);
    size_t accepted = 0, outside = 0;
    for (size_t i = 0; i < shared.held.count; i++)
        accepted += slow_of(&b, fit, shared.held.list[i]).of.accepted;
    for (size_t i = 0; i < STRANGERS; i++)
        outside += slow_of(&b, fit, sr_str_of(strangers[i])).of.accepted;
    assert_true(accepted * 2 > shared.held.count);
    assert_true(outside <= 2);
    sri_fit_free(&fit);
    close_bench(&b);
}

static void targets_are_met(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        bench b = theme_bench(model, model, THEMES, 9);
        for (size_t i = 0; i < STRANGERS; i++) add_text(&b.utterances, strangers[i], NO_ROUTE);
        b.table.max_oos_accepted = kind == 1 ? 0 : 0.05;
        b.table.min_precision = kind == 0 ? 0 : 0.99;
        sri_fit_findings findings;
        sri_fit *fit = make_fit(&b, 1, &findings);
        assert_non_null(fit);
        size_t count, accepted = 0, right = 0, outside = 0;
        const sri_fit_trial *trials = sri_fit_trials(fit, &count);
        for (size_t i = 0; i < count; i++) {
            if (!(trials[i].confidence >= findings.auto_threshold)) continue;
            accepted++;
            right += trials[i].route == trials[i].best;
            outside += trials[i].route == NO_ROUTE;
        }
        assert_int_equal(count, THEMES * 9 + STRANGERS);
        assert_true(accepted > THEMES * 9 / 2);
        if (kind != 1) assert_true((double)outside <= 0.05 * STRANGERS);
        if (kind != 0) assert_true((double)right >= 0.99 * (double)accepted - 1);
        if (kind != 1) assert_true(findings.oos_accepted <= 0.05);
        if (kind != 0) assert_true(findings.precision >= 0.99);
        sri_fit_free(&fit);
        close_bench(&b);
    }
}

/* ---- Stopping ---------------------------------------------------------------------------------------------------- */

typedef struct stop_at {
    uint64_t calls, stop, last, total;
} stop_at;

static int stop(void *user, uint64_t done, uint64_t total) {
    stop_at *s = user;
    assert_true(done >= s->last && done <= total);
    s->last = done;
    s->total = total;
    return ++s->calls == s->stop;
}

static void a_fit_can_be_stopped_anywhere(void **state) {
    (void)state;
    bench b = theme_bench(model, model, 3, 5);
    ready_bench(&b, NULL);
    sri_pool *pool;
    assert_int_equal(sri_pool_open(1, &pool, NULL), SR_OK);
    b.table.pool = pool;
    b.table.progress = stop;
    stop_at s = {0};
    b.table.progress_user = &s;
    sri_fit *fit;
    sri_fit_findings findings;
    assert_int_equal(sri_fit_make(&b.table, &fit, &findings, NULL), SR_OK);
    assert_true(s.last == s.total && s.calls > 7);
    sri_fit_free(&fit);
    uint64_t calls = s.calls;
    for (uint64_t at = 1; at <= calls; at += at < 4 || at + 12 > calls ? 1 : calls / 12) {
        s = (stop_at){.stop = at};
        fit = (sri_fit *)&fit;
        assert_int_equal(sri_fit_make(&b.table, &fit, &findings, NULL), SR_ERR_CANCELLED);
        assert_null(fit);
        assert_int_equal(s.calls, at);
    }
    sri_pool_close(&pool);
    close_bench(&b);
}

int main(int argc, char **argv) {
    const char *root = argc > 1 ? argv[1] : ".";
    bits_at[0] = hash_at_level(root, "ref"); /* before kernels are chosen here */
    bits_at[1] = hash_at_level(root, NULL);
    model = open_static(root);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unseen_combinations_are_decided),
        cmocka_unit_test(strangers_are_told_apart),
        cmocka_unit_test(what_is_undecided_is_not_settled),
        cmocka_unit_test(the_gate_asks_whether_a_text_is_in_scope),
        cmocka_unit_test(settled_answers_are_as_sure_as_slow_ones),
        cmocka_unit_test(findings_are_plausible),
        cmocka_unit_test(a_masked_route_is_no_candidate),
        cmocka_unit_test(with_all_masked_there_is_none),
        cmocka_unit_test(any_number_of_candidates_may_be_asked_for),
        cmocka_unit_test(a_batch_changes_nothing),
        cmocka_unit_test(any_number_of_threads_may_ask),
        cmocka_unit_test(threads_and_levels_give_the_same_bits),
        cmocka_unit_test(a_fit_comes_back_as_it_was),
        cmocka_unit_test(damaged_bytes_are_refused),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(hostile_sizes_are_refused),
        cmocka_unit_test(hostile_fingerprints_are_refused),
        cmocka_unit_test(hostile_contents_do_no_harm),
        cmocka_unit_test(too_small_tables_teach_nothing),
        cmocka_unit_test(too_large_tables_are_left_to_neighbours),
        cmocka_unit_test(one_route_tells_strangers_apart),
        cmocka_unit_test(two_routes_of_three_are_enough),
        cmocka_unit_test(a_large_route_does_not_swallow_small_ones),
        cmocka_unit_test(the_same_texts_in_two_routes_share),
        cmocka_unit_test(any_bytes_are_texts),
        cmocka_unit_test(a_route_may_be_empty),
        cmocka_unit_test(examples_turn_down_what_is_like_them),
        cmocka_unit_test(a_few_examples_do_no_harm),
        cmocka_unit_test(targets_are_met),
        cmocka_unit_test(a_target_needs_no_strangers),
        cmocka_unit_test(a_fit_can_be_stopped_anywhere),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
