/*
 * fit_centres.c - where the middle of a route is, and where its texts gather.
 *
 * Slow: a vector's cosine to the centre of every route, less half of what is usual among that route's own texts. A
 * route whose texts say all the same thing has none that are far from its centre; one whose texts vary has
 * many, and a stranger is not told by the same cosine from both. Without that half, strangers of the kind that
 * asks for something next to a table's routes (routes of CLINC150 left out: AUROC .929, with it .932) or for anything
 * (tables of 5 to 20 utterances a route: .980 to .987, with it .981 to .988) are told less well; with the whole,
 * those that are far from a large table.
 *
 * Fast: the static vector is compared with one route alone, and that can afford more: a route's static vectors
 * are brought together around up to SRI_PROTOTYPES points (spherical k-means: Dhillon and Modha, 2001), since what is
 * asked of a route comes in several ways and the middle between them is none. The mean of all routes is taken off
 * first, as what all texts of a table have in common says nothing. The first prototype is the text nearest to
 * the middle, the next ones are those farthest from all before (Gonzalez, 1985): nothing is random, and the
 * same texts give the same bits. The middle alone told strangers less well (the fast score's AUROC on routes left out:
 * CLINC150 .900, with prototypes .902; Banking77 .858 and .868). 16 prototypes, or all utterances, gained nothing
 * more; taking off what is usual in a route did neither.
 */
#include <math.h>
#include <string.h>

#include "decide/fit_int.h"

#define ROUNDS   5    /* of k-means; most routes are settled by then */
#define RELATIVE 0.5f /* share of its own texts' cosine that is taken off the cosine to a centre */

static float *row(float *matrix, size_t i, size_t width) { return matrix + i * width; }

static void add(float *sum, const float *vector, size_t width) {
    for (size_t d = 0; d < width; d++) sum[d] += vector[d];
}

/* To length 1; a vector of zeros stays. Gives the length that it had. */
static double normalise(float *vector, size_t width) {
    double squares = 0;
    for (size_t d = 0; d < width; d++) squares += (double)vector[d] * vector[d];
    if (!(squares > 0)) return 0;
    double length = sqrt(squares);
    float scale = (float)(1 / length);
    for (size_t d = 0; d < width; d++) vector[d] *= scale;
    return length;
}

/* Whether sample `i` is one of a route's that count. */
static bool counts(const sri_samples *s, unsigned fold, size_t i) {
    return s->targets[i] != SRI_FIT_OUT_OF_SCOPE && (i >= s->table || s->folds[i] != fold);
}

/* ---- Prototypes --------------------------------------------------------------------------------------------- */

/* Working memory for one route. */
typedef struct gathering {
    size_t width, n;
    float *members; /* [n, width] of length 1 */
    float *nearest; /* [n] cosine to the nearest prototype so far */
    float *cosines; /* [max(n, SRI_PROTOTYPES)] */
} gathering;

static size_t least(const float *values, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] < values[at]) at = i;
    return at;
}

static size_t most(const float *values, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] > values[at]) at = i;
    return at;
}

static void cosines_to(const gathering *g, const float *vector) {
    sri_kernels_get()->dots(vector, 1, g->members, g->n, g->width, g->cosines);
}

/* Chooses `k` members far from each other; the first is nearest to `middle`. */
static void choose(const gathering *g, const float *middle, size_t k, float *prototypes) {
    cosines_to(g, middle);
    size_t next = most(g->cosines, g->n);
    for (size_t i = 0; i < g->n; i++) g->nearest[i] = -INFINITY;
    for (size_t p = 0; p < k; p++) {
        memcpy(row(prototypes, p, g->width), row(g->members, next, g->width),
               g->width * sizeof *prototypes);
        cosines_to(g, row(prototypes, p, g->width));
        for (size_t i = 0; i < g->n; i++) g->nearest[i] = SRI_MAX(g->nearest[i], g->cosines[i]);
        next = least(g->nearest, g->n);
    }
}

/* Moves each prototype to the middle of the members nearest to it; one without any stays. */
static void move(const gathering *g, size_t k, float *prototypes, float *sums) {
    size_t counts_of[SRI_PROTOTYPES] = {0};
    memset(sums, 0, k * g->width * sizeof *sums);
    for (size_t i = 0; i < g->n; i++) {
        const float *member = row(g->members, i, g->width);
        sri_kernels_get()->dots(member, 1, prototypes, k, g->width, g->cosines);
        size_t p = most(g->cosines, k);
        counts_of[p]++;
        add(row(sums, p, g->width), member, g->width);
    }
    for (size_t p = 0; p < k; p++) {
        if (counts_of[p] == 0) continue;
        (void)normalise(row(sums, p, g->width), g->width);
        memcpy(row(prototypes, p, g->width), row(sums, p, g->width), g->width * sizeof *prototypes);
    }
}

/* A route's prototypes; those that it has no texts for repeat the first. */
static void gather(const gathering *g, const float *middle, float *prototypes, float *sums) {
    if (g->n == 0) return;
    size_t k = SRI_MIN(g->n, (size_t)SRI_PROTOTYPES);
    choose(g, middle, k, prototypes);
    for (int round = 0; round < ROUNDS && g->n > k; round++) move(g, k, prototypes, sums);
    for (size_t p = k; p < SRI_PROTOTYPES; p++)
        memcpy(row(prototypes, p, g->width), prototypes, g->width * sizeof *prototypes);
}

/* ---- Centres -------------------------------------------------------------------------------------------------- */

/* Samples by route: those of route r are list[start[r]] to list[start[r + 1] - 1]. */
typedef struct members {
    size_t *start; /* [routes + 1] */
    uint32_t *list;
    size_t largest; /* of a route */
} members;

static bool list_members(const sri_samples *s, unsigned fold, members *m) {
    m->start = sri_alloc_zero(s->routes + 2, sizeof *m->start);
    m->list = sri_alloc_array(s->named, sizeof *m->list);
    if (m->start == NULL || m->list == NULL) return false;
    for (size_t i = 0; i < s->named; i++)
        if (counts(s, fold, i)) m->start[s->targets[i] + 2]++;
    for (size_t r = 0; r < s->routes; r++) {
        m->largest = SRI_MAX(m->largest, m->start[r + 2]);
        m->start[r + 2] += m->start[r + 1];
    }
    for (size_t i = 0; i < s->named; i++)
        if (counts(s, fold, i)) m->list[m->start[s->targets[i] + 1]++] = (uint32_t)i;
    return true;
}

/* Centres of the slow path, and how near to them their own texts are. */
static void add_slow(const sri_samples *s, const members *m, sri_centres *c) {
    for (size_t r = 0; r < s->routes; r++) {
        float *centre = row(c->slow, r, s->dimension);
        for (size_t at = m->start[r]; at < m->start[r + 1]; at++)
            add(centre, row(s->vectors, m->list[at], s->dimension), s->dimension);
        /* Members of length 1 have for their mean cosine to their centre the sum's length by their number. */
        size_t n = m->start[r + 1] - m->start[r];
        c->usual[r] = (float)(normalise(centre, s->dimension) / (double)SRI_MAX(n, (size_t)1));
    }
}

/* The mean of each route's static vectors, and that of the means; none with so few that it says nothing. */
static void add_means(const sri_samples *s, const members *m, sri_centres *c, float *means) {
    size_t width = s->fast_dimension;
    for (size_t r = 0; r < s->routes; r++) {
        float *mean = row(means, r, width);
        for (size_t at = m->start[r]; at < m->start[r + 1]; at++)
            add(mean, row(s->fast_vectors, m->list[at], width), width);
        for (size_t d = 0; d < width; d++)
            mean[d] /= (float)SRI_MAX(m->start[r + 1] - m->start[r], 1u);
        add(c->mean, mean, width);
    }
    for (size_t d = 0; d < width; d++)
        c->mean[d] = s->routes > 4 ? c->mean[d] / (float)s->routes : 0;
}

static bool add_prototypes(const sri_samples *s, const members *m, sri_centres *c) {
    size_t width = s->fast_dimension, block = SRI_PROTOTYPES * width;
    if (width == 0) return true;
    size_t longest = SRI_MAX(m->largest, (size_t)SRI_PROTOTYPES);
    float *means = sri_alloc_zero(s->routes, width * sizeof *means);
    float *sums = sri_alloc_array(block, sizeof *sums);
    gathering g = {width, 0, sri_alloc_array(longest, width * sizeof(float)),
                   sri_alloc_array(longest, sizeof(float)),
                   sri_alloc_array(longest, sizeof(float))};
    bool enough = means && sums && g.members && g.nearest && g.cosines;
    if (enough) add_means(s, m, c, means);
    for (size_t r = 0; r < s->routes && enough; r++) {
        g.n = m->start[r + 1] - m->start[r];
        for (size_t i = 0; i < g.n; i++) {
            const float *from = row(s->fast_vectors, m->list[m->start[r] + i], width);
            float *to = row(g.members, i, width);
            for (size_t d = 0; d < width; d++) to[d] = from[d] - c->mean[d];
            (void)normalise(to, width);
        }
        for (size_t d = 0; d < width; d++) row(means, r, width)[d] -= c->mean[d];
        gather(&g, row(means, r, width), c->fast + r * block, sums);
    }
    sri_free(means);
    sri_free(sums);
    sri_free(g.members);
    sri_free(g.nearest);
    sri_free(g.cosines);
    return enough;
}

bool sri_centres_make(const sri_samples *s, unsigned fold, sri_centres *c) {
    *c = (sri_centres){s->routes, s->dimension, s->fast_dimension, NULL, NULL, NULL, NULL};
    c->slow = sri_alloc_zero(s->routes, s->dimension * sizeof *c->slow);
    c->usual = sri_alloc_array(s->routes, sizeof *c->usual);
    c->mean = sri_alloc_zero(s->fast_dimension, sizeof *c->mean);
    c->fast = sri_alloc_zero(s->routes, SRI_PROTOTYPES * s->fast_dimension * sizeof *c->fast);
    members m = {0};
    bool enough = c->slow && c->usual && c->mean && c->fast && list_members(s, fold, &m);
    if (enough) add_slow(s, &m, c);
    enough = enough && add_prototypes(s, &m, c);
    sri_free(m.start);
    sri_free(m.list);
    if (!enough) sri_centres_free(c);
    return enough;
}

void sri_centres_free(sri_centres *c) {
    sri_free(c->slow);
    sri_free(c->usual);
    sri_free(c->mean);
    sri_free(c->fast);
    *c = (sri_centres){0};
}

float sri_centres_slow(const sri_centres *c, const float *cosines, size_t first, size_t n,
                       const uint8_t *usable) {
    float nearest = -1;
    for (size_t i = 0; i < n; i++)
        if (usable == NULL || usable[first + i] != 0)
            nearest = SRI_MAX(nearest, cosines[i] - RELATIVE * c->usual[first + i]);
    return nearest;
}

float sri_centres_fast(const sri_centres *c, const float *vector, uint32_t route) {
    const float *prototypes = c->fast + (size_t)route * SRI_PROTOTYPES * c->fast_dimension;
    float whole[SRI_PROTOTYPES], common[SRI_PROTOTYPES], squares = 0, nearest = -INFINITY;
    if (c->fast_dimension == 0) return 0;
    sri_dots_fn *dots = sri_kernels_get()->dots;
    dots(vector, 1, prototypes, SRI_PROTOTYPES, c->fast_dimension, whole);
    dots(c->mean, 1, prototypes, SRI_PROTOTYPES, c->fast_dimension, common);
    for (size_t d = 0; d < c->fast_dimension; d++) {
        float away = vector[d] - c->mean[d];
        squares += away * away;
    }
    for (size_t p = 0; p < SRI_PROTOTYPES; p++) nearest = SRI_MAX(nearest, whole[p] - common[p]);
    return squares > 0 ? nearest / sqrtf(squares) : 0;
}
