/*
 * queue_plan.c - what batches take, as measured, and what follows: whether it pays to wait for more texts.
 *
 * A batch of x tokens takes about fixed + x * token nanoseconds of its thread. Both are found by least squares over the batches of late, older
 * ones counting less and less.
 *
 * WAITING  A thread is free, and k texts wait. One that begins at once makes the next text, which comes after a gap of g on average, wait for
 *          the batch to end and pay `fixed` once more. One that waits for it makes all k, and the thread, lose g, and each of the k
 *          the time t that the newcomer adds to the batch. Counted over all texts (a newcomer ends sooner by fixed - g, each of the others
 *          later by g + t), waiting pays where
 *
 *              fixed > g * (k + 1) + t * k,      so until    k = (fixed - g) / (g + t)
 *
 *          That is a threshold on the number of texts, which is the form that the best rule has for batches with a cost of their own (R. K. Deb
 *          and R. F. Serfozo, Optimal control of batch service queues, Advances in Applied Probability 5, 1973). For a model on
 *          this machine `fixed` is less than one text's time, so k is below 1 and nobody waits: work that comes meanwhile makes the
 *          next batch fuller by itself. For an encoder behind a network `fixed` is nearly all, and waiting pays. What was hoped for may not
 *          come: the oldest text waits `fixed` at most, so that no more is lost than could have been gained. On a busy host batches take now longer,
 *          now shorter, and `fixed` may seem large by chance: what counts is what it is at least, by two standard errors.
 */
#include <math.h>

#include "router/queue_int.h"

#define FORGET     (1 - 1.0 / 64) /* of a batch, with each that follows */
#define GAP_FORGET (1.0 / 32)
#define LONG_GAP   1e8 /* ns; more is idleness, which says nothing of the load that follows */

void sri_service_note(service *self, size_t tokens, uint64_t ns) {
    double x = (double)tokens, y = (double)ns;
    self->n = self->n * FORGET + 1;
    self->x = self->x * FORGET + x;
    self->y = self->y * FORGET + y;
    self->xx = self->xx * FORGET + x * x;
    self->xy = self->xy * FORGET + x * y;
    self->yy = self->yy * FORGET + y * y;
}

void sri_service_arrival(service *self, uint64_t now) {
    double gap = SRI_MIN((double)(now - self->last), LONG_GAP);
    if (self->last != 0)
        self->gap = self->gap == 0 ? gap : self->gap + (gap - self->gap) * GAP_FORGET;
    self->last = now;
}

double sri_service_token_ns(const service *self) { return self->x > 0 ? self->y / self->x : 0; }

double sri_service_batch_ns(const service *self) { return self->n > 0 ? self->y / self->n : 0; }

/* Batches of nearly one size tell nothing of what a batch of none would take. */
service_line sri_service_fit(const service *self) {
    double spread = self->n * self->xx - self->x * self->x;
    service_line line = {0, sri_service_token_ns(self), 0};
    if (self->n < 8 || spread < 0.01 * self->x * self->x) return line;
    line.token = (self->n * self->xy - self->x * self->y) / spread;
    if (line.token < 0) line.token = 0;
    line.fixed = (self->y - line.token * self->x) / self->n;
    if (line.fixed < 0) return (service_line){0, sri_service_token_ns(self), 0};
    double rest = self->yy - line.fixed * self->y - line.token * self->xy;
    double error = sqrt(SRI_MAX(rest, 0.0) / (self->n - 2) * self->xx / spread);
    line.sure = SRI_MAX(line.fixed - 2 * error, 0.0);
    return line;
}

size_t sri_service_worth(const service *self, size_t texts, size_t tokens) {
    service_line line = sri_service_fit(self);
    if (texts == 0 || self->gap <= 0 || line.sure <= self->gap) return 0;
    double text = line.token * (double)tokens / (double)texts;
    double worth = (line.sure - self->gap) / (self->gap + text);
    return worth < 1e6 ? (size_t)worth : 1000000;
}
