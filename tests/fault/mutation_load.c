/*
 * mutation_load.c - see mutation_load.h.
 */
#include "mutation_load.h"

#include "power_vfs.h"

/* ---- Drawing --------------------------------------------------------------------------------- */

static uint64_t below(uint64_t *random, uint64_t n) { return power_random(random) % n; }

static bool has(const load_list *list, uint8_t text) {
    return memchr(list->texts, text, list->count) != NULL;
}

static void add(load_list *list, uint8_t text) {
    if (!has(list, text)) list->texts[list->count++] = text;
}

static void leave_out(load_list *list, uint8_t text) {
    uint8_t *at = memchr(list->texts, text, list->count);
    if (at == NULL) return;
    memmove(at, at + 1, (size_t)(list->texts + list->count - at) - 1);
    list->count--;
}

/* Mostly a few texts, sometimes many: a transaction of one page, or of many. */
static load_list draw_list(uint64_t *random) {
    load_list list = {0};
    uint64_t n = below(random, 10) == 0 ? LOAD_TEXTS : 1 + below(random, 5);
    for (uint64_t i = 0; i < n; i++) add(&list, (uint8_t)below(random, LOAD_TEXTS));
    return list;
}

static load_list draw_some(const load_list *of, uint64_t *random) {
    load_list list = {0};
    uint64_t n = 1 + below(random, 3);
    for (uint64_t i = 0; i < n; i++) add(&list, of->texts[below(random, of->count)]);
    return list;
}

static void draw_put(load_change *change, uint64_t *random) {
    change->kind = LOAD_PUT;
    change->mode = below(random, 2) == 0 ? SR_PUT_REPLACE : SR_PUT_EXTEND;
    change->count = below(random, 3) == 0 ? 2 + below(random, LOAD_AT_ONCE - 1) : 1;
    change->vectors = below(random, 4) == 0;
    uint8_t first = (uint8_t)below(random, LOAD_ROUTES);
    for (size_t i = 0; i < change->count; i++) {
        change->puts[i].route = (uint8_t)((first + i) % LOAD_ROUTES);
        change->puts[i].list = draw_list(random);
        if (below(random, 3) == 0) change->puts[i].description = (uint8_t)below(random, 200);
        if (below(random, 4) == 0) change->puts[i].threshold = (uint8_t)below(random, 100);
    }
    if (below(random, 12) == 0) change->oos = draw_list(random);
}

static bool draw_removal(load_change *change, const load_table *table, uint64_t *random) {
    if (table->count == 0) return false;
    change->kind = LOAD_REMOVE;
    change->count = 1 + below(random, table->count < 3 ? table->count : 3);
    uint64_t first = below(random, table->count);
    for (size_t i = 0; i < change->count; i++)
        change->puts[i].route = table->order[(first + i) % table->count];
    return true;
}

static bool draw_cut_down(load_change *change, const load_table *table, uint64_t *random) {
    if (table->count == 0) return false;
    uint8_t route = table->order[below(random, table->count)];
    if (table->routes[route].list.count == 0) return false;
    change->kind = LOAD_CUT_DOWN;
    change->count = 1;
    change->puts[0].route = route;
    change->puts[0].list = draw_some(&table->routes[route].list, random);
    return true;
}

static bool draw_oos(load_change *change, const load_table *table, uint64_t *random) {
    change->kind = below(random, 2) == 0 ? LOAD_OOS_PUT : LOAD_OOS_REMOVE;
    if (change->kind == LOAD_OOS_PUT) {
        change->oos = draw_list(random);
        return true;
    }
    if (table->oos.count == 0) return false;
    if (below(random, 3) > 0) change->oos = draw_some(&table->oos, random);
    return true;
}

load_change load_draw(const load_table *table, bool fits, uint64_t *random) {
    static const sr_durability durabilities[] = {SR_DURABILITY_DEFAULT, SR_DURABILITY_NORMAL,
                                                 SR_DURABILITY_FULL, SR_DURABILITY_DEFERRED,
                                                 SR_DURABILITY_DEFERRED};
    load_change change = {.durability = durabilities[below(random, 5)]};
    uint64_t dice = below(random, 100);
    bool drawn = false;
    if (dice < 15)
        drawn = draw_removal(&change, table, random);
    else if (dice < 30)
        drawn = draw_cut_down(&change, table, random);
    else if (dice < 38)
        drawn = draw_oos(&change, table, random);
    else if (dice < 40 && fits)
        drawn = (change.kind = LOAD_FIT) == LOAD_FIT;
    if (!drawn) draw_put(&change, random);
    return change;
}

/* ---- The model ------------------------------------------------------------------------------- */

static void put_list(load_list *list, const load_list *given, sr_put_mode mode) {
    if (mode == SR_PUT_REPLACE) list->count = 0;
    for (uint8_t i = 0; i < given->count; i++) add(list, given->texts[i]);
}

static void apply_put(load_table *table, const load_change *change) {
    for (size_t i = 0; i < change->count; i++) {
        uint8_t number = change->puts[i].route;
        load_route *route = &table->routes[number];
        if (!route->there) {
            *route = (load_route){.there = true};
            table->order[table->count++] = number;
        }
        put_list(&route->list, &change->puts[i].list, change->mode);
        bool replaces = change->mode == SR_PUT_REPLACE;
        if (replaces || change->puts[i].description != 0)
            route->description = change->puts[i].description;
        if (replaces || change->puts[i].threshold != 0)
            route->threshold = change->puts[i].threshold;
    }
    if (change->oos.count > 0) put_list(&table->oos, &change->oos, change->mode);
}

static void apply_removal(load_table *table, const load_change *change) {
    for (size_t i = 0; i < change->count; i++) {
        uint8_t number = change->puts[i].route;
        uint8_t *at = memchr(table->order, number, table->count);
        memmove(at, at + 1, (size_t)(table->order + table->count - at) - 1);
        table->order[--table->count] = 0;
        table->routes[number] = (load_route){0};
    }
}

static void apply_oos_removal(load_table *table, const load_change *change) {
    if (change->oos.count == 0) table->oos.count = 0;
    for (uint8_t i = 0; i < change->oos.count; i++) leave_out(&table->oos, change->oos.texts[i]);
}

static bool same_list(const load_list *a, const load_list *b) {
    return a->count == b->count && memcmp(a->texts, b->texts, a->count) == 0;
}

static bool same_route(const load_route *a, const load_route *b) {
    return a->there == b->there && a->description == b->description &&
           a->threshold == b->threshold && same_list(&a->list, &b->list);
}

static bool same_table(const load_table *a, const load_table *b) {
    bool same = a->count == b->count && memcmp(a->order, b->order, a->count) == 0 &&
                same_list(&a->oos, &b->oos);
    for (int i = 0; i < LOAD_ROUTES && same; i++) same = same_route(&a->routes[i], &b->routes[i]);
    return same;
}

void load_apply(load_table *table, const load_change *change) {
    load_table before = *table;
    switch (change->kind) {
    case LOAD_PUT: apply_put(table, change); break;
    case LOAD_REMOVE: apply_removal(table, change); break;
    case LOAD_CUT_DOWN:
        for (uint8_t i = 0; i < change->puts[0].list.count; i++)
            leave_out(&table->routes[change->puts[0].route].list, change->puts[0].list.texts[i]);
        break;
    case LOAD_OOS_PUT: put_list(&table->oos, &change->oos, SR_PUT_EXTEND); break;
    case LOAD_OOS_REMOVE: apply_oos_removal(table, change); break;
    case LOAD_FIT: break;
    }
    if (!same_table(&before, table)) table->revision++;
}

/* ---- Texts ----------------------------------------------------------------------------------- */

static sr_str text_of(uint8_t number, load_text out) {
    snprintf(out, sizeof(load_text), "text %d of %d", number, number * 7919 % 1000);
    return sr_str_of(out);
}

sr_str load_name(char prefix, uint8_t number, load_text out) {
    snprintf(out, sizeof(load_text), "%c%d", prefix, number);
    return sr_str_of(out);
}

sr_str load_description(uint8_t number, char out[6001]) {
    size_t len = (size_t)number * 30;
    for (size_t i = 0; i < len; i++) out[i] = (char)('a' + (number + i / 30) % 26);
    return (sr_str){out, len};
}

void load_write_texts(const load_list *list, load_texts *out) {
    for (uint8_t i = 0; i < list->count; i++)
        out->texts[i] = text_of(list->texts[i], out->bytes[i]);
}

/* ---- Running --------------------------------------------------------------------------------- */

typedef struct put_call {
    sr_route routes[LOAD_AT_ONCE];
    load_text names[LOAD_AT_ONCE];
    char descriptions[LOAD_AT_ONCE][6001];
    sr_str description[LOAD_AT_ONCE];
    sr_threshold thresholds[LOAD_AT_ONCE];
    load_texts texts[LOAD_AT_ONCE], oos;
    float vectors[LOAD_AT_ONCE][LOAD_TEXTS * TOY_DIMENSION];
} put_call;

static sr_status prepare_route(put_call *call, const load_change *change, size_t i, char prefix,
                               sr_encoder *encoder, sr_error *error) {
    const load_list *list = &change->puts[i].list;
    sr_route *route = &call->routes[i];
    load_write_texts(list, &call->texts[i]);
    *route = (sr_route){.size = sizeof *route,
                        .name = load_name(prefix, change->puts[i].route, call->names[i]),
                        .utterances = call->texts[i].texts,
                        .utterance_count = list->count};
    if (change->puts[i].description != 0) {
        call->description[i] = load_description(change->puts[i].description, call->descriptions[i]);
        route->description = &call->description[i];
    }
    call->thresholds[i] =
        (sr_threshold){SR_THRESHOLD_COSINE, (double)change->puts[i].threshold / 100};
    if (change->puts[i].threshold != 0) route->threshold = &call->thresholds[i];
    if (!change->vectors) return SR_OK;
    route->vectors = call->vectors[i];
    return sr_encoder_encode(encoder, route->utterances, list->count, call->vectors[i], NULL,
                             error);
}

static sr_status run_put(sr_router *router, sr_encoder *encoder, const load_change *change,
                         char prefix, sr_receipt *receipt, sr_error *error) {
    put_call *call = calloc(1, sizeof *call);
    sr_status code = call == NULL ? SR_ERR_NO_MEMORY : SR_OK;
    for (size_t i = 0; i < change->count && code == SR_OK; i++)
        code = prepare_route(call, change, i, prefix, encoder, error);
    if (code == SR_OK) {
        load_write_texts(&change->oos, &call->oos);
        sr_put_options options = {.size = sizeof options,
                                  .mode = change->mode,
                                  .oos = call->oos.texts,
                                  .oos_count = change->oos.count,
                                  .durability = change->durability};
        code = sr_routes_put(router, call->routes, change->count, &options, receipt, error);
    }
    free(call);
    return code;
}

static sr_status run_removal(sr_router *router, const load_change *change, char prefix,
                             sr_receipt *receipt, sr_error *error) {
    load_text bytes[LOAD_AT_ONCE];
    sr_str names[LOAD_AT_ONCE];
    for (size_t i = 0; i < change->count; i++)
        names[i] = load_name(prefix, change->puts[i].route, bytes[i]);
    sr_remove_options options = {.size = sizeof options, .durability = change->durability};
    return sr_routes_remove(router, names, change->count, &options, receipt, error);
}

sr_status load_run(sr_router *router, sr_encoder *encoder, const load_change *change, char prefix,
                   sr_receipt *receipt, sr_error *error) {
    load_texts texts;
    load_text name;
    switch (change->kind) {
    case LOAD_PUT: return run_put(router, encoder, change, prefix, receipt, error);
    case LOAD_REMOVE: return run_removal(router, change, prefix, receipt, error);
    case LOAD_CUT_DOWN:
        load_write_texts(&change->puts[0].list, &texts);
        return sr_utterances_remove(router, load_name(prefix, change->puts[0].route, name),
                                    texts.texts, change->puts[0].list.count, receipt, error);
    case LOAD_OOS_PUT:
        load_write_texts(&change->oos, &texts);
        return sr_oos_put(router, texts.texts, change->oos.count, receipt, error);
    case LOAD_OOS_REMOVE:
        load_write_texts(&change->oos, &texts);
        return sr_oos_remove(router, change->oos.count == 0 ? NULL : texts.texts, change->oos.count,
                             receipt, error);
    case LOAD_FIT: return sr_fit(router, NULL, NULL, error);
    }
    return SR_ERR_INVALID;
}

sr_status load_open(const char *database, sr_encoder *encoder, sr_durability durability,
                    sr_router **router, sr_error *error) {
    sr_options options = {.size = sizeof options,
                          .database = database,
                          .encoder = encoder,
                          .threads = 1,
                          .fast_model = "",
                          .durability = durability};
    return sr_router_open(&options, router, error);
}

/* ---- Comparing ------------------------------------------------------------------------------- */

static bool same_text(sr_str a, sr_str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool same_texts(const load_list *list, const sr_str *texts, size_t count) {
    load_texts expected;
    load_write_texts(list, &expected);
    bool same = list->count == count;
    for (size_t i = 0; i < count && same; i++) same = same_text(texts[i], expected.texts[i]);
    return same;
}

static bool same_view(const load_route *expected, const sr_route_view *view) {
    char bytes[6001];
    bool automatic = view->threshold.kind == SR_THRESHOLD_AUTO;
    return same_text(view->description, load_description(expected->description, bytes)) &&
           automatic == (expected->threshold == 0) &&
           (automatic || view->threshold.value == (double)expected->threshold / 100) &&
           same_texts(&expected->list, view->utterances, view->utterance_count);
}

static bool compare_routes(const load_table *expected, const sr_table *table, char prefix,
                           char why[256]) {
    size_t seen = 0;
    for (size_t i = 0; i < sr_table_count(table); i++) {
        const sr_route_view *view = sr_table_route(table, i);
        load_text name;
        if (view->name.data[0] != prefix) continue;
        if (seen == expected->count ||
            !same_text(view->name, load_name(prefix, expected->order[seen], name))) {
            snprintf(why, 256, "route %.*s is there, or at another place than it should be",
                     (int)view->name.len, view->name.data);
            return false;
        }
        if (!same_view(&expected->routes[expected->order[seen]], view)) {
            snprintf(why, 256, "route %.*s is not as it should be: it has %zu of %d utterances",
                     (int)view->name.len, view->name.data, view->utterance_count,
                     expected->routes[expected->order[seen]].list.count);
            return false;
        }
        seen++;
    }
    if (seen < expected->count)
        snprintf(why, 256, "%zu of %d routes are there", seen, expected->count);
    return seen == expected->count;
}

static size_t collect_texts(const sr_table *table, sr_str *out) {
    size_t count = 0, oos;
    for (size_t i = 0; i < sr_table_count(table); i++) {
        const sr_route_view *view = sr_table_route(table, i);
        for (size_t j = 0; j < view->utterance_count; j++, count++)
            if (out != NULL) out[count] = view->utterances[j];
    }
    const sr_str *examples = sr_table_oos(table, &oos);
    for (size_t j = 0; j < oos; j++, count++)
        if (out != NULL) out[count] = examples[j];
    return count;
}

/* The stored vectors are bit for bit what the encoder makes of the texts. */
static bool compare_vectors(sr_router *router, const sr_table *table, sr_encoder *encoder,
                            char why[256]) {
    size_t count = collect_texts(table, NULL), floats = count * TOY_DIMENSION;
    if (count == 0) return true;
    sr_str *texts = calloc(count, sizeof *texts);
    float *stored = calloc(floats, sizeof *stored), *made = calloc(floats, sizeof *made);
    sr_error error = {0};
    collect_texts(table, texts);
    bool same = sr_table_vectors(router, table, stored, floats, &error) == SR_OK &&
                sr_encoder_encode(encoder, texts, count, made, NULL, &error) == SR_OK;
    if (!same) snprintf(why, 256, "no vectors: %.200s", error.message);
    for (size_t i = 0; i < count && same; i++) {
        same = memcmp(stored + i * TOY_DIMENSION, made + i * TOY_DIMENSION,
                      TOY_DIMENSION * sizeof *made) == 0;
        if (!same)
            snprintf(why, 256, "\"%.*s\" has another text's vector", (int)texts[i].len,
                     texts[i].data);
    }
    free(texts);
    free(stored);
    free(made);
    return same;
}

static bool compare_rest(const load_table *expected, const sr_table *table, char why[256]) {
    size_t count;
    const sr_str *oos = sr_table_oos(table, &count);
    if (sr_table_revision(table) != expected->revision) {
        snprintf(why, 256, "the revision is %llu instead of %llu",
                 (unsigned long long)sr_table_revision(table),
                 (unsigned long long)expected->revision);
        return false;
    }
    if (same_texts(&expected->oos, oos, count)) return true;
    snprintf(why, 256, "there are %zu out-of-scope examples instead of %d, or others", count,
             expected->oos.count);
    return false;
}

bool load_compare(const load_table *expected, sr_router *router, sr_encoder *encoder, char prefix,
                  bool others, char why[256]) {
    sr_table *table = NULL;
    sr_error error;
    if (sr_table_read(router, NULL, 1, &table, &error) != SR_OK) {
        snprintf(why, 256, "no table: %.200s", error.message);
        return false;
    }
    bool same = (others || compare_rest(expected, table, why)) &&
                compare_routes(expected, table, prefix, why) &&
                compare_vectors(router, table, encoder, why);
    sr_table_free(&table);
    return same;
}
