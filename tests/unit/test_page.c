/* test_page.c - parts of the table for callers: pages of routes, samples of vectors. */
#include "toy.h"

typedef struct scene {
    toy toy;
    sr_encoder *encoder;
    sr_router *router;
} scene;

static void set_up(scene *s) {
    memset(s, 0, sizeof *s);
    s->encoder = toy_open(&s->toy, "toy");
    s->router = toy_router(NULL, s->encoder, 0);
}

static void tear_down(scene *s) {
    sr_router_close(&s->router);
    sr_encoder_close(&s->encoder);
}

static void put(scene *s, const char *name, const char *utterances) {
    assert_int_equal(toy_put(s->router, name, utterances, SR_PUT_REPLACE, NULL, NULL), SR_OK);
}

/* The names of a page, each followed by a comma; returns the next cursor. */
static uint64_t page(scene *s, sr_page_options options, char names[4096]) {
    sr_table *table = NULL;
    uint64_t next = 99;
    sr_error error;
    options.size = sizeof options;
    if (sr_table_page(s->router, &options, &table, &next, &error) != SR_OK)
        fail_msg("%s", error.message);
    size_t len = 0;
    names[0] = '\0';
    for (size_t i = 0; i < sr_table_count(table); i++)
        len += (size_t)snprintf(names + len, 4096 - len, "%.*s,",
                                (int)sr_table_route(table, i)->name.len,
                                sr_table_route(table, i)->name.data);
    sr_table_free(&table);
    return next;
}

static void pages_follow_one_another(void **state) {
    (void)state;
    scene s;
    char names[4096], all[4096] = "", name[32];
    set_up(&s);
    assert_int_equal(page(&s, (sr_page_options){0}, names), 0);
    assert_string_equal(names, "");
    for (int i = 0; i < 25; i++) {
        snprintf(name, sizeof name, "r%d", i);
        put(&s, name, "one|two");
    }
    uint64_t after = 0;
    int pages = 0;
    do {
        after = page(&s, (sr_page_options){.after = after, .limit = 10}, names);
        strcat(all, names);
        pages++;
        /* What comes, changes and goes in between moves nothing. */
        if (pages == 1) {
            assert_int_equal(sr_route_remove(s.router, sr_str_of("r3"), NULL, NULL), SR_OK);
            put(&s, "r4", "changed");
            put(&s, "r15", "changed");
            put(&s, "new", "last");
        }
    } while (after != 0);
    assert_int_equal(pages, 3);
    assert_string_equal(all, "r0,r1,r2,r3,r4,r5,r6,r7,r8,r9,r10,r11,r12,r13,r14,r15,r16,r17,r18,"
                             "r19,r20,r21,r22,r23,r24,new,");
    /* A page that is just full is the last. */
    assert_int_equal(page(&s, (sr_page_options){.limit = 25}, names), 0);
    assert_true(page(&s, (sr_page_options){.limit = 24}, names) != 0);
    tear_down(&s);
}

static void routes_are_found_by_prefix_and_by_words(void **state) {
    (void)state;
    scene s;
    char names[4096];
    set_up(&s);
    put(&s, "card/lost", "one");
    put(&s, "card/stolen", "two");
    put(&s, "account", "three");
    sr_str texts[] = {sr_str_of("x")}, description = sr_str_of("What to do with a Lost thing");
    sr_route route = {.size = sizeof route,
                      .name = sr_str_of("help"),
                      .utterances = texts,
                      .utterance_count = 1,
                      .description = &description};
    assert_int_equal(sr_route_put(s.router, &route, NULL, NULL), SR_OK);
    assert_int_equal(sr_oos_put(s.router, texts, 1, NULL, NULL), SR_OK);
    page(&s, (sr_page_options){.prefix = sr_str_of("card/")}, names);
    assert_string_equal(names, "card/lost,card/stolen,");
    page(&s, (sr_page_options){.search = sr_str_of("lOST")}, names);
    assert_string_equal(names, "card/lost,help,");
    page(&s, (sr_page_options){.search = sr_str_of("lost"), .prefix = sr_str_of("h")}, names);
    assert_string_equal(names, "help,");
    page(&s, (sr_page_options){.search = sr_str_of("nowhere")}, names);
    assert_string_equal(names, "");
    page(&s, (sr_page_options){0}, names); /* without examples out of scope */
    assert_string_equal(names, "card/lost,card/stolen,account,help,");
    tear_down(&s);
}

static void a_page_holds_what_it_was_asked_for(void **state) {
    (void)state;
    scene s;
    set_up(&s);
    put(&s, "a", "one|two");
    sr_table *table = NULL;
    uint64_t next;
    for (int with = 0; with < 2; with++) {
        sr_page_options options = {.size = sizeof options, .with_utterances = with};
        assert_int_equal(sr_table_page(s.router, &options, &table, &next, NULL), SR_OK);
        const sr_route_view *route = sr_table_route(table, 0);
        assert_int_equal(route->utterance_count, 2);
        assert_int_equal(route->utterances != NULL, with);
        if (with) assert_true(toy_is(route->utterances[1], "two"));
        sr_table_free(&table);
    }
    sr_page_options large = {.size = sizeof large, .limit = 10001};
    assert_int_equal(sr_table_page(s.router, &large, &table, &next, NULL), SR_ERR_INVALID);
    assert_null(table);
    tear_down(&s);
}

/* ---- Samples ---------------------------------------------------------------------------------------- */

static void a_sample_is_spread_over_the_table(void **state) {
    (void)state;
    scene s;
    char utterances[512], name[32];
    set_up(&s);
    sr_sample *sample = NULL;
    sr_str texts[] = {sr_str_of("nowhere"), sr_str_of("no place")};
    assert_int_equal(sr_utterance_vectors(s.router, 10, &sample, NULL), SR_OK);
    assert_int_equal(sample->count, 0);
    sr_sample_free(&sample);
    for (int i = 0; i < 10; i++) {
        size_t len = 0;
        for (int k = 0; k < 8; k++)
            len += (size_t)snprintf(utterances + len, sizeof utterances - len, "%s%d of %d",
                                    k == 0 ? "" : "|", k, i);
        snprintf(name, sizeof name, "r%d", i);
        put(&s, name, utterances);
    }
    assert_int_equal(sr_oos_put(s.router, texts, 2, NULL, NULL), SR_OK);
    for (size_t limit = 1; limit < 100; limit += 7) {
        size_t of[10] = {0};
        assert_int_equal(sr_utterance_vectors(s.router, limit, &sample, NULL), SR_OK);
        assert_int_equal(sample->total, 80);
        assert_int_equal(sample->count, limit < 80 ? limit : 80);
        assert_int_equal(sample->dimension, TOY_DIMENSION);
        for (size_t i = 0; i < sample->count; i++) {
            float expected[TOY_DIMENSION];
            assert_int_equal(
                sr_encoder_encode(s.encoder, &sample->texts[i], 1, expected, NULL, NULL), SR_OK);
            assert_memory_equal(expected, sample->vectors + i * TOY_DIMENSION, sizeof expected);
            assert_int_equal(sample->routes[i].len, 2);
            size_t route = (size_t)(sample->routes[i].data[1] - '0');
            assert_int_equal(sample->texts[i].data[sample->texts[i].len - 1] - '0', (int)route);
            of[route]++;
        }
        for (int i = 0; i < 10; i++)
            assert_in_range(of[i], sample->count / 10, (sample->count + 9) / 10);
        sr_sample_free(&sample);
        assert_null(sample);
    }
    assert_int_equal(sr_utterance_vectors(s.router, 0, &sample, NULL), SR_ERR_INVALID);
    tear_down(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_follow_one_another),
        cmocka_unit_test(routes_are_found_by_prefix_and_by_words),
        cmocka_unit_test(a_page_holds_what_it_was_asked_for),
        cmocka_unit_test(a_sample_is_spread_over_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
