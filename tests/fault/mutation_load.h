/*
 * mutation_load.h - random changes of a route table, and a model that says what the table must be
 * after each.
 *
 * The model knows nothing of the library: routes are numbers, utterances are numbers, and a table
 * is a struct that can be copied, so that a test keeps one for each revision and finds out which of
 * them a database holds. Changes are drawn from a seed and the table as it is, so that a parent can
 * follow what its killed child has done.
 */
#ifndef SR_TESTS_MUTATION_LOAD_H
#define SR_TESTS_MUTATION_LOAD_H

#include "toy.h"

enum { LOAD_ROUTES = 8, LOAD_TEXTS = 40, LOAD_AT_ONCE = 4 };

typedef struct load_list {
    uint8_t count, texts[LOAD_TEXTS]; /* numbers of texts, each once */
} load_list;

typedef struct load_route {
    bool there;
    uint8_t description; /* 0: none; larger ones are longer */
    uint8_t threshold;   /* 0: automatic; otherwise hundredths of a cosine */
    load_list list;
} load_route;

typedef struct load_table {
    uint64_t revision;
    load_route routes[LOAD_ROUTES];
    uint8_t order[LOAD_ROUTES], count; /* of the routes that are there, as they were added */
    load_list oos;
} load_table;

typedef enum load_kind {
    LOAD_PUT,
    LOAD_REMOVE,   /* the routes in `puts` */
    LOAD_CUT_DOWN, /* utterances of one route are removed */
    LOAD_OOS_PUT,
    LOAD_OOS_REMOVE, /* those in `oos`; all when it is empty */
    LOAD_FIT
} load_kind;

typedef struct load_change {
    load_kind kind;
    sr_put_mode mode;
    sr_durability durability;
    bool vectors; /* given with the routes */
    size_t count;
    struct {
        uint8_t route, description, threshold; /* 0: not given */
        load_list list;
    } puts[LOAD_AT_ONCE];
    load_list oos;
} load_change;

/* Draws a change that is possible for this table. Fits come with `fits` only. */
load_change load_draw(const load_table *table, bool fits, uint64_t *random);

/* Makes the change in the model; the revision grows when something has changed. */
void load_apply(load_table *table, const load_change *change);

/* Makes the change in a router. Routes are called `prefix` and a number. `encoder` makes the
 * vectors that are given. */
sr_status load_run(sr_router *router, sr_encoder *encoder, const load_change *change, char prefix,
                   sr_receipt *receipt, sr_error *error);

/* Whether the routes with this prefix are as the model says, their vectors those of their texts,
 * and, unless `others` may have changed the rest, revision and out-of-scope examples too. Writes
 * what differs to `why`. */
bool load_compare(const load_table *expected, sr_router *router, sr_encoder *encoder, char prefix,
                  bool others, char why[256]);

/* What a model's numbers mean: texts of a list, the name of a route, a description of up to 6,000
 * bytes, some of which need pages of their own. Strings lie in `out`. */
typedef char load_text[24];
typedef struct load_texts {
    load_text bytes[LOAD_TEXTS];
    sr_str texts[LOAD_TEXTS];
} load_texts;
void load_write_texts(const load_list *list, load_texts *out);
sr_str load_name(char prefix, uint8_t number, load_text out);
sr_str load_description(uint8_t number, char out[6001]);

/* Opens a router of one thread on the database, without a fast path, which would load a model. */
sr_status load_open(const char *database, sr_encoder *encoder, sr_durability durability,
                    sr_router **router, sr_error *error);

#endif
