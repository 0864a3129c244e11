/*
 * test_speller.c - misspelt words: which are mended, which are left alone, and that nothing else changes.
 */
#include "unit.h"

#include "decide/speller.h"

static const char *const table[] = {
    "block my Cards",          "my cards were declined", "transfer money to a friend",
    "transfer my salary",      "transfer money",         "what's the exchange rate",
    "exchange Money abroad",   "stone and store",        "a store",
    "over_drawn café au lait",
};

static sri_speller speller;

static int learn(void **state) {
    (void)state;
    sr_str texts[SRI_COUNT(table)];
    for (size_t i = 0; i < SRI_COUNT(table); i++) texts[i] = sr_str_of(table[i]);
    return sri_speller_learn(texts, SRI_COUNT(table), &speller) ? 0 : -1;
}

static int forget(void **state) {
    (void)state;
    sri_speller_free(&speller);
    return 0;
}

static size_t asked;

static bool knows_nothing(void *user, sr_str word) {
    (void)user;
    (void)word;
    asked++;
    return false;
}

/* The vocabulary of a model that has one word. */
static bool knows(void *user, sr_str word) { return sri_str_equal(word, sr_str_of(user)); }

static void expect(const char *text, const char *expected) {
    sri_buffer out = {0};
    bool mended;
    assert_true(sri_speller_mend(&speller, sr_str_of(text), knows_nothing, NULL, &out, &mended));
    if (expected == NULL) {
        if (mended) fail_msg("%s became %.*s", text, (int)out.len, out.data);
        assert_int_equal(out.len, 0);
    } else {
        assert_true(mended);
        assert_int_equal(out.len, strlen(expected));
        assert_memory_equal(out.data, expected, out.len);
    }
    sri_buffer_free(&out);
}

static void one_edit_is_mended(void **state) {
    (void)state;
    expect("transfr money", "transfer money");           /* a letter left out */
    expect("transferr money", "transfer money");         /* one more */
    expect("tronsfer money", "transfer money");          /* another */
    expect("transfre money", "transfer money");          /* two swapped */
    expect("rtansfer mnoey", "transfer money");          /* at the ends, two words */
    expect("Please TRANSFR it!", "Please transfer it!"); /* in any case, with marks around */
    expect("exchnage", "exchange");                      /* the whole text */
    expect("a  tab\tdeclned\n", "a  tab\tdeclined\n");   /* all else stays byte for byte */
}

static void right_words_stay(void **state) {
    (void)state;
    expect("transfer money to my cards", NULL);
    expect("TRANSFER Money", NULL);
    expect("an unrelated sentence about giraffes", NULL);
    expect("", NULL);
    expect("trnasfre", NULL); /* two edits */
}

static void short_and_long_words_stay(void **state) {
    (void)state;
    expect("crds", NULL); /* four letters */
    expect("mi", NULL);
    char text[200];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    expect(text, NULL);
}

static void what_is_no_plain_word_stays(void **state) {
    (void)state;
    expect("transfr2 7transfr", NULL);
    expect("transfr's it's", NULL);
    expect("transfr\xc3\xa9 \xc3\xa9transfr", NULL);
    expect("_transfr transfr_", NULL);
    expect("\xff\xfetransfr", NULL);
    expect("\xf0\x9f\x98\x80 transfr \xf0\x9f\x98\x80",
           "\xf0\x9f\x98\x80 transfer \xf0\x9f\x98\x80"); /* apart from the emoji by spaces */
}

/* "store" stands twice in the table and "stone" once; "stoe" is too short, "stoxe" one edit from both. */
static void the_most_frequent_wins(void **state) {
    (void)state;
    expect("stoxe", "store");
    expect("stoe", NULL);
}

static void words_that_the_model_knows_stay(void **state) {
    (void)state;
    sri_buffer out = {0};
    bool mended;
    char word[] = "carts";
    assert_true(sri_speller_mend(&speller, sr_str_of("my carts"), knows, word, &out, &mended));
    assert_false(mended);
    assert_true(sri_speller_mend(&speller, sr_str_of("my carfs"), knows, word, &out, &mended));
    assert_true(mended);
    assert_memory_equal(out.data, "my cards", 8);
    sri_buffer_free(&out);
}

/* Asking the model costs more than the table does. */
static void only_what_could_be_mended_is_asked_for(void **state) {
    (void)state;
    asked = 0;
    expect("giraffes declined transfer zebras", NULL);
    assert_int_equal(asked, 0);
}

/* Letters, lengths and counts, as they are stored, make the same speller. */
static void it_can_be_rebuilt(void **state) {
    (void)state;
    sri_speller copy = {.count = speller.count};
    copy.words = sri_alloc_zero(copy.count, sizeof *copy.words);
    copy.letters = sri_alloc(1000);
    assert_non_null(copy.words);
    assert_non_null(copy.letters);
    for (size_t i = 0; i < copy.count; i++) {
        const sri_speller_word *word = &speller.words[i];
        copy.words[i] = (sri_speller_word){.len = word->len, .count = word->count};
        memcpy(copy.letters + copy.letter_count, speller.letters + word->start, word->len);
        copy.letter_count += word->len;
    }
    assert_true(sri_speller_index(&copy));
    sri_buffer out = {0};
    bool mended;
    assert_true(
        sri_speller_mend(&copy, sr_str_of("stoxe exchnage"), knows_nothing, NULL, &out, &mended));
    assert_true(mended);
    assert_int_equal(out.len, strlen("store exchange"));
    assert_memory_equal(out.data, "store exchange", out.len);
    sri_buffer_free(&out);
    sri_speller_free(&copy);
}

static bool rebuilds(uint32_t len, const char *letters, size_t letter_count) {
    sri_speller damaged = {.count = 1, .letter_count = letter_count};
    damaged.words = sri_alloc_zero(1, sizeof *damaged.words);
    damaged.letters = sri_alloc(letter_count);
    assert_non_null(damaged.words);
    assert_non_null(damaged.letters);
    damaged.words[0].len = len;
    memcpy(damaged.letters, letters, letter_count);
    bool fine = sri_speller_index(&damaged);
    sri_speller_free(&damaged);
    return fine;
}

static void damaged_words_are_refused(void **state) {
    (void)state;
    assert_true(rebuilds(5, "cards", 5));
    assert_false(rebuilds(6, "cards", 5));  /* beyond the letters */
    assert_false(rebuilds(5, "cardss", 6)); /* letters left over */
    assert_false(rebuilds(5,
                          "c\xff"
                          "rds",
                          5));
    assert_false(rebuilds(5, "CARDS", 5));
    assert_false(rebuilds(4, "card", 4));
    assert_false(rebuilds(0, "", 0));
}

static void an_empty_table_mends_nothing(void **state) {
    (void)state;
    sri_speller empty;
    sri_buffer out = {0};
    bool mended;
    assert_true(sri_speller_learn(NULL, 0, &empty));
    assert_true(sri_speller_mend(&empty, sr_str_of("transfr"), knows_nothing, NULL, &out, &mended));
    assert_false(mended);
    sri_speller_free(&empty);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_edit_is_mended),
        cmocka_unit_test(right_words_stay),
        cmocka_unit_test(short_and_long_words_stay),
        cmocka_unit_test(what_is_no_plain_word_stays),
        cmocka_unit_test(the_most_frequent_wins),
        cmocka_unit_test(words_that_the_model_knows_stay),
        cmocka_unit_test(only_what_could_be_mended_is_asked_for),
        cmocka_unit_test(it_can_be_rebuilt),
        cmocka_unit_test(damaged_words_are_refused),
        cmocka_unit_test(an_empty_table_mends_nothing),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("speller", tests, learn, forget);
}
