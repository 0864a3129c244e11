/* test_ngrams.c - lexical features: what is equal, what is alike, what is known, and that nothing changes. */
#include "short_memory.h"
#include "unit.h"

#include <math.h>
#include <stdlib.h>

#include "decide/ngrams.h"

static const char *const table[] = {
    "what is my account balance",
    "how do i close my account",
    "i lost my card",
    "where is the nearest branch",
    "what's the exchange rate",
    "play some music please",
    "Überweisung nach Zürich",
    "我想查询余额",
    "رصيد حسابي",
    "погода в москве",
    "👍 thanks",
    "한국어 날씨",
};

static sri_ngrams learn(uint32_t buckets, uint32_t min_texts) {
    sr_str texts[SRI_COUNT(table)];
    for (size_t i = 0; i < SRI_COUNT(table); i++) texts[i] = sr_str_of(table[i]);
    sri_ngrams ngrams;
    sr_error error;
    assert_int_equal(sri_ngrams_learn(texts, SRI_COUNT(table), buckets, min_texts, &ngrams, &error),
                     SR_OK);
    return ngrams;
}

/* Features with memory of their own. */
typedef struct bag {
    sri_features features;
    sri_ngrams_scratch scratch;
} bag;

static bag bag_of(const sri_ngrams *ngrams, sr_str text) {
    bag b = {0};
    assert_true(sri_ngrams_features(ngrams, text, &b.scratch, &b.features));
    return b;
}

static void empty(bag *b) { sri_ngrams_scratch_free(&b->scratch); }

static bool same(const sri_ngrams *ngrams, const char *one, const char *other) {
    bag a = bag_of(ngrams, sr_str_of(one)), b = bag_of(ngrams, sr_str_of(other));
    bool equal = a.features.count == b.features.count &&
                 a.features.characters == b.features.characters &&
                 a.features.coverage == b.features.coverage;
    for (size_t i = 0; equal && i < a.features.count; i++)
        equal = a.features.list[i].row == b.features.list[i].row &&
                a.features.list[i].weight == b.features.list[i].weight;
    empty(&a);
    empty(&b);
    return equal;
}

/* The product of two texts' features of one group. */
static double likeness(const sri_ngrams *ngrams, const char *one, const char *other, bool words) {
    bag a = bag_of(ngrams, sr_str_of(one)), b = bag_of(ngrams, sr_str_of(other));
    double sum = 0;
    for (size_t i = 0; i < a.features.count; i++)
        for (size_t j = 0; j < b.features.count; j++)
            if ((i >= a.features.characters) == words && (j >= b.features.characters) == words &&
                a.features.list[i].row == b.features.list[j].row)
                sum += (double)a.features.list[i].weight * b.features.list[j].weight;
    empty(&a);
    empty(&b);
    return sum;
}

static void each_group_has_length_one(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    assert_int_equal(ngrams.buckets, SRI_NGRAMS_BUCKETS);
    for (size_t t = 0; t < SRI_COUNT(table); t++) {
        bag b = bag_of(&ngrams, sr_str_of(table[t]));
        double characters = 0, words = 0;
        for (size_t i = 0; i < b.features.count; i++) {
            double square = (double)b.features.list[i].weight * b.features.list[i].weight;
            *(i < b.features.characters ? &characters : &words) += square;
        }
        assert_true(fabs(characters - 1) < 1e-6);
        assert_true(fabs(words - 1) < 1e-6);
        assert_true(b.features.coverage == 1.0f);
        empty(&b);
    }
    sri_ngrams_free(&ngrams);
}

/* The hash is part of what is stored: a change here makes stored fits worthless. */
static void the_hash_is_fixed(void **state) {
    (void)state;
    sri_ngrams ngrams = {.buckets = 1u << 16, .texts = 1};
    ngrams.idf = malloc(ngrams.buckets * sizeof *ngrams.idf);
    for (uint32_t i = 0; i < ngrams.buckets; i++) ngrams.idf[i] = 1;
    bag b = bag_of(&ngrams, sr_str_of("Lost card lost"));
    static const struct {
        uint32_t row;
        double weight;
    } golden[] = {
        {61447u, 0.2485600}, {42553u, 0.2485600}, {54682u, 0.2485600}, {51766u, 0.2485600},
        {50591u, 0.2485600}, {9066u, 0.2485600},  {2978u, 0.2485600},  {5029u, 0.2485600},
        {585u, 0.2485600},   {52116u, 0.2485600}, {40318u, 0.2485600}, {25061u, 0.2485600},
        {46878u, 0.1468035}, {50321u, 0.1468035}, {35322u, 0.1468035}, {23389u, 0.1468035},
        {11582u, 0.1468035}, {64742u, 0.1468035}, {11333u, 0.1468035}, {52926u, 0.1468035},
        {20502u, 0.1468035}, {24286u, 0.1468035}, {2685u, 0.1468035},  {27771u, 0.1468035},
        {62215u, 0.6990303}, {23442u, 0.4128586}, {6195u, 0.4128586},  {10063u, 0.4128586}};
    if (b.features.count != SRI_COUNT(golden))
        for (size_t i = 0; i < b.features.count; i++)
            print_message("# {%u, %.6f},\n", b.features.list[i].row,
                          (double)b.features.list[i].weight);
    assert_int_equal(b.features.count, SRI_COUNT(golden));
    for (size_t i = 0; i < SRI_COUNT(golden); i++) {
        assert_int_equal(b.features.list[i].row, golden[i].row);
        assert_true(fabs((double)b.features.list[i].weight - golden[i].weight) < 1e-6);
    }
    empty(&b);
    sri_ngrams_free(&ngrams);
}

static void case_accents_and_spacing_do_not_matter(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    assert_true(same(&ngrams, "What IS my\taccount   balance ", "what is my account balance"));
    assert_true(same(&ngrams, "Überweisung nach Zürich", "uberweisung NACH zurich"));
    assert_true(same(&ngrams,
                     "u\xCC\x88"
                     "berweisung",
                     "überweisung"));
    assert_true(same(&ngrams, "what’s the rate", "whats the rate"));
    assert_true(same(&ngrams, "ПОГОДА", "погода"));
    assert_true(same(&ngrams,
                     "a\xE2\x80\x8D"
                     "b",
                     "ab")); /* a joiner is no character */
    assert_false(same(&ngrams, "my account", "account my"));
    sri_ngrams_free(&ngrams);
}

static void a_typo_leaves_most_characters(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    assert_true(likeness(&ngrams, "what is my accuont balance", table[0], false) > 0.7);
    assert_true(likeness(&ngrams, "wat is my acount balance", table[0], false) > 0.7);
    assert_true(likeness(&ngrams, "play some music please", table[0], false) < 0.1);
    assert_true(likeness(&ngrams, "balance account my is what", table[0], true) > 0.3);
    assert_true(likeness(&ngrams, "balance account my is what", table[0], true) < 0.9);
    sri_ngrams_free(&ngrams);
}

static void every_script_has_features(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    assert_true(likeness(&ngrams, "查询余额", "我想查询余额", false) > 0.3);
    assert_true(likeness(&ngrams, "查询余额", "我想查询余额", true) > 0.3);
    assert_true(likeness(&ngrams, "رصيد", "رصيد حسابي", false) > 0.3);
    assert_true(likeness(&ngrams, "날씨", "한국어 날씨", false) > 0.3);
    assert_true(likeness(&ngrams, "👍", "👍 thanks", true) > 0.3);
    assert_true(likeness(&ngrams, "thanks👍", "👍 thanks", false) > 0.99);
    sri_ngrams_free(&ngrams);
}

static void coverage_says_how_much_is_known(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(1u << 20, 1);
    bag known = bag_of(&ngrams, sr_str_of("i lost my card"));
    bag half = bag_of(&ngrams, sr_str_of("i lost my xylophone quartet"));
    bag none = bag_of(&ngrams, sr_str_of("qqq"));
    assert_true(known.features.coverage == 1.0f);
    assert_true(half.features.coverage > 0.1f && half.features.coverage < 0.6f);
    assert_true(none.features.coverage == 0.0f);
    assert_int_equal(none.features.count, 0);
    empty(&known);
    empty(&half);
    empty(&none);
    sri_ngrams_free(&ngrams);
    ngrams = learn(1u << 20, 2); /* what one text alone has is unknown now */
    known = bag_of(&ngrams, sr_str_of("i lost my card"));
    assert_true(known.features.coverage < 0.6f && known.features.coverage > 0.0f);
    empty(&known);
    sri_ngrams_free(&ngrams);
}

static void rare_features_weigh_more(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(1u << 20, 1);
    bag b = bag_of(&ngrams, sr_str_of("my")), c = bag_of(&ngrams, sr_str_of("exchange"));
    float my = ngrams.idf[b.features.list[b.features.characters].row];
    float exchange = ngrams.idf[c.features.list[c.features.characters].row];
    assert_true(fabsf(my - (logf(13.0f / 4) + 1)) < 1e-6f); /* in 3 of 12 texts */
    assert_true(fabsf(exchange - (logf(13.0f / 2) + 1)) < 1e-6f);
    empty(&b);
    empty(&c);
    sri_ngrams_free(&ngrams);
}

static void nothing_gives_nothing(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    static const char *const texts[] = {"", "   \t\n", "\x01\x02", "'"};
    for (size_t i = 0; i < SRI_COUNT(texts); i++) {
        bag b = bag_of(&ngrams, sr_str_of(texts[i]));
        assert_int_equal(b.features.count, 0);
        assert_true(b.features.coverage == 0.0f);
        empty(&b);
    }
    bag b = bag_of(&ngrams, (sr_str){NULL, 0});
    assert_int_equal(b.features.count, 0);
    empty(&b);
    sri_ngrams_free(&ngrams);
    assert_int_equal(sri_ngrams_learn(NULL, 0, 0, 1, &ngrams, NULL), SR_OK);
    b = bag_of(&ngrams, sr_str_of("anything"));
    assert_int_equal(b.features.count, 0);
    empty(&b);
    sri_ngrams_free(&ngrams);
}

/* A scratch that has seen a huge text must still be right for a short one. */
static void huge_and_broken_texts_are_survived(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    size_t size = (size_t)1 << 21;
    char *bytes = malloc(size);
    uint32_t random = 1;
    sri_ngrams_scratch scratch = {0};
    sri_features features;
    for (int kind = 0; kind < 5; kind++) {
        for (size_t i = 0; i < size; i++) {
            random = random * 1664525u + 1013904223u;
            static const char *const repeated[] = {"a", "\xEA\xB0\x81", "! ", "\xE4\xBD\xA0"};
            bytes[i] = kind < 4 ? repeated[kind][i % strlen(repeated[kind])] : (char)(random >> 24);
        }
        assert_true(sri_ngrams_features(&ngrams, (sr_str){bytes, size}, &scratch, &features));
        assert_true(features.count <= SRI_NGRAMS_MAX_FEATURES);
        for (size_t i = 0; i < features.count; i++)
            assert_true(features.list[i].row < ngrams.buckets && isfinite(features.list[i].weight));
    }
    assert_true(sri_ngrams_features(&ngrams, sr_str_of(table[0]), &scratch, &features));
    bag fresh = bag_of(&ngrams, sr_str_of(table[0]));
    assert_int_equal(features.count, fresh.features.count);
    assert_memory_equal(features.list, fresh.features.list, features.count * sizeof *features.list);
    empty(&fresh);
    sri_ngrams_scratch_free(&scratch);
    free(bytes);
    sri_ngrams_free(&ngrams);
}

static void what_is_behind_the_cap_is_not_read(void **state) {
    (void)state;
    sri_ngrams ngrams = learn(0, 1);
    char *text = malloc(3 * SRI_NGRAMS_MAX_CHARS);
    memset(text, 'a', 3 * SRI_NGRAMS_MAX_CHARS);
    memcpy(text, "i lost my card ", 15);
    size_t len = SRI_NGRAMS_MAX_CHARS + 5;
    bag a = bag_of(&ngrams, (sr_str){text, len + 100});
    memcpy(text + len, " where is the nearest branch", 27);
    bag b = bag_of(&ngrams, (sr_str){text, len + 100});
    assert_int_equal(a.features.count, b.features.count);
    assert_memory_equal(a.features.list, b.features.list,
                        a.features.count * sizeof *a.features.list);
    empty(&a);
    empty(&b);
    free(text);
    sri_ngrams_free(&ngrams);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    sr_str text = sr_str_of("one");
    sri_ngrams ngrams;
    sr_error error;
    assert_int_equal(sri_ngrams_learn(&text, 1, 1000, 1, &ngrams, &error), SR_ERR_INVALID);
    assert_non_null(strstr(error.message, "power of two"));
    assert_int_equal(sri_ngrams_learn(&text, 1, 1, 1, &ngrams, &error), SR_ERR_INVALID);
    assert_int_equal(sri_ngrams_learn(&text, 1, SRI_NGRAMS_MAX_BUCKETS * 2, 1, &ngrams, &error),
                     SR_ERR_INVALID);
}

static void short_memory_is_survived(void **state) {
    (void)state;
    sr_allocator failing = {take, change, release, NULL};
    sr_allocator_set(&failing);
    long ordeal = 1;
    for (bool done = false; !done; ordeal++) {
        memory.countdown = ordeal;
        sri_ngrams ngrams;
        sri_ngrams_scratch scratch = {0};
        sri_features features;
        sr_str texts[] = {sr_str_of("one two"), sr_str_of("a longer text than that before")};
        sr_status code = sri_ngrams_learn(texts, 2, 64, 1, &ngrams, NULL);
        assert_true(code == SR_OK || code == SR_ERR_NO_MEMORY);
        if (code == SR_OK) {
            done = sri_ngrams_features(&ngrams, texts[0], &scratch, &features) &&
                   sri_ngrams_features(&ngrams, texts[1], &scratch, &features);
            sri_ngrams_free(&ngrams);
        }
        sri_ngrams_scratch_free(&scratch);
        assert_int_equal(memory.held, 0);
    }
    sr_allocator_set(NULL);
    assert_true(ordeal > 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_group_has_length_one),
        cmocka_unit_test(the_hash_is_fixed),
        cmocka_unit_test(case_accents_and_spacing_do_not_matter),
        cmocka_unit_test(a_typo_leaves_most_characters),
        cmocka_unit_test(every_script_has_features),
        cmocka_unit_test(coverage_says_how_much_is_known),
        cmocka_unit_test(rare_features_weigh_more),
        cmocka_unit_test(nothing_gives_nothing),
        cmocka_unit_test(huge_and_broken_texts_are_survived),
        cmocka_unit_test(what_is_behind_the_cap_is_not_read),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(short_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
