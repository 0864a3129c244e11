/*
 * distill_fit.c - ridge regression of token vectors on sentence vectors.
 *
 * With A [texts, tokens] holding a token's share of a text, Y the targets and E the old rows, the
 * change D minimises |A (s E + D) - Y|^2 + strength |D|^2, that is
 *     (A^T A + strength I) D = A^T (Y - s A E),
 * one system for each of the dimensions, with one sparse matrix. It is solved by conjugate
 * gradients (Hestenes and Stiefel, 1952), preconditioned by the diagonal, for all dimensions at
 * once: a step is two passes over the texts' tokens, and a few dozen steps do. Only tokens that
 * occur take part; D is zero for the rest. A direct solution was rejected: thousands of tokens make
 * it slower, and the ridge makes the system well conditioned. Sums over tokens are in double; all
 * orders are fixed, so the result does not depend on the machine.
 */
#include "encode/distill_fit.h"

#include <string.h>

typedef struct fit {
    const sri_token_lists *lists;
    uint32_t *used;    /* [lists' ids] index among the tokens that occur */
    uint32_t *tokens;  /* [count] the token that each index is */
    size_t count, dim; /* tokens that occur, dimension */
    double strength;
    float *diagonal;                     /* [count] of A^T A, and the strength */
    float *change, *rest, *step, *image; /* [count, dim]: D, residual, direction, its image */
    float *text;                         /* [dim] */
    double *rho, *scale;                 /* [dim] */
} fit;

static void close_fit(fit *f) {
    sri_free(f->used);
    sri_free(f->tokens);
    sri_free(f->diagonal);
    sri_free(f->change);
    sri_free(f->rest);
    sri_free(f->step);
    sri_free(f->image);
    sri_free(f->text);
    sri_free(f->rho);
    sri_free(f->scale);
}

static sr_status number_tokens(fit *f, size_t tokens, sr_error *error) {
    size_t ids = f->lists->start[f->lists->texts];
    uint32_t *index = sri_alloc_zero(tokens, sizeof *index); /* 1 + the token's index; 0: none */
    f->used = sri_alloc_array(ids, sizeof *f->used);
    f->tokens = sri_alloc_array(tokens, sizeof *f->tokens);
    if (index == NULL || f->used == NULL || f->tokens == NULL) {
        sri_free(index);
        return sri_fail_memory(error);
    }
    for (size_t i = 0; i < ids; i++) {
        uint32_t *slot = &index[f->lists->ids[i]];
        if (*slot == 0) {
            f->tokens[f->count++] = (uint32_t)f->lists->ids[i];
            *slot = (uint32_t)f->count;
        }
        f->used[i] = *slot - 1;
    }
    sri_free(index);
    return SR_OK;
}

static sr_status open_fit(fit *f, size_t tokens, sr_error *error) {
    sr_status code = number_tokens(f, tokens, error);
    if (code != SR_OK) return code;
    size_t numbers;
    if (!sri_size_mul(f->count, f->dim, &numbers)) return sri_fail_memory(error);
    f->diagonal = sri_alloc_array(f->count, sizeof *f->diagonal);
    f->change = sri_alloc_zero(numbers, sizeof *f->change);
    f->rest = sri_alloc_zero(numbers, sizeof *f->rest);
    f->step = sri_alloc_zero(numbers, sizeof *f->step);
    f->image = sri_alloc_zero(numbers, sizeof *f->image);
    f->text = sri_alloc_zero(f->dim, sizeof *f->text);
    f->rho = sri_alloc_zero(f->dim, sizeof *f->rho);
    f->scale = sri_alloc_zero(f->dim, sizeof *f->scale);
    return f->diagonal && f->change && f->rest && f->step && f->image && f->text && f->rho &&
                   f->scale
               ? SR_OK
               : sri_fail_memory(error);
}

/* f->text = the mean of the rows of text t's tokens. */
static void mean_of(fit *f, const float *rows, size_t t, size_t *length) {
    const size_t *start = f->lists->start;
    *length = start[t + 1] - start[t];
    memset(f->text, 0, f->dim * sizeof *f->text);
    float share = *length > 0 ? 1.0f / (float)*length : 0.0f;
    for (size_t i = start[t]; i < start[t + 1]; i++) {
        const float *row = rows + f->used[i] * f->dim;
        for (size_t d = 0; d < f->dim; d++) f->text[d] += row[d];
    }
    for (size_t d = 0; d < f->dim; d++) f->text[d] *= share;
}

/* rows += A^T of one text: f->text is shared out among its tokens. */
static void share_out(fit *f, size_t t, size_t length, float *rows) {
    float share = 1.0f / (float)length;
    for (size_t d = 0; d < f->dim; d++) f->text[d] *= share;
    for (size_t i = f->lists->start[t]; i < f->lists->start[t + 1]; i++) {
        float *row = rows + f->used[i] * f->dim;
        for (size_t d = 0; d < f->dim; d++) row[d] += f->text[d];
    }
}

/* image = (A^T A + strength I) step. */
static void apply(fit *f) {
    for (size_t i = 0; i < f->count * f->dim; i++) f->image[i] = (float)f->strength * f->step[i];
    for (size_t t = 0; t < f->lists->texts; t++) {
        size_t length;
        mean_of(f, f->step, t, &length);
        if (length > 0) share_out(f, t, length, f->image);
    }
}

/* The diagonal of A^T A, taking a token that occurs twice in a text as two. */
static void fill_diagonal(fit *f) {
    for (size_t i = 0; i < f->count; i++) f->diagonal[i] = (float)f->strength;
    for (size_t t = 0; t < f->lists->texts; t++) {
        size_t first = f->lists->start[t], end = f->lists->start[t + 1];
        float share = 1.0f / (float)SRI_MAX(end - first, 1);
        for (size_t i = first; i < end; i++) f->diagonal[f->used[i]] += share * share;
    }
}

/* out[d] = sum over tokens of a * b / divisor. */
static void column_products(const fit *f, const float *a, const float *b, const float *divisor,
                            double *out) {
    memset(out, 0, f->dim * sizeof *out);
    for (size_t i = 0; i < f->count; i++) {
        double factor = divisor == NULL ? 1 : 1 / (double)divisor[i];
        for (size_t d = 0; d < f->dim; d++)
            out[d] += factor * a[i * f->dim + d] * b[i * f->dim + d];
    }
}

/* The factor that brings the means of `rows` nearest to the targets. */
static double best_factor(fit *f, const float *rows, const float *targets) {
    double with_target = 0, square = 0;
    for (size_t t = 0; t < f->lists->texts; t++) {
        size_t length;
        mean_of(f, rows, t, &length);
        for (size_t d = 0; d < f->dim; d++) {
            with_target += (double)f->text[d] * targets[t * f->dim + d];
            square += (double)f->text[d] * f->text[d];
        }
    }
    return square > 0 && with_target > 0 ? with_target / square : 1;
}

/* rest = A^T (Y - A rows), the first direction being its preconditioned self. */
static void begin(fit *f, const float *rows, const float *targets) {
    for (size_t t = 0; t < f->lists->texts; t++) {
        size_t length;
        mean_of(f, rows, t, &length);
        if (length == 0) continue;
        for (size_t d = 0; d < f->dim; d++) f->text[d] = targets[t * f->dim + d] - f->text[d];
        share_out(f, t, length, f->rest);
    }
    fill_diagonal(f);
    for (size_t i = 0; i < f->count * f->dim; i++)
        f->step[i] = f->rest[i] / f->diagonal[i / f->dim];
    column_products(f, f->rest, f->rest, f->diagonal, f->rho);
}

static void advance(fit *f) {
    apply(f);
    column_products(f, f->step, f->image, NULL, f->scale);
    for (size_t d = 0; d < f->dim; d++) f->scale[d] = f->scale[d] > 0 ? f->rho[d] / f->scale[d] : 0;
    for (size_t i = 0; i < f->count * f->dim; i++) {
        f->change[i] += (float)f->scale[i % f->dim] * f->step[i];
        f->rest[i] -= (float)f->scale[i % f->dim] * f->image[i];
    }
    memcpy(f->scale, f->rho, f->dim * sizeof *f->rho);
    column_products(f, f->rest, f->rest, f->diagonal, f->rho);
    for (size_t d = 0; d < f->dim; d++) f->scale[d] = f->scale[d] > 0 ? f->rho[d] / f->scale[d] : 0;
    for (size_t i = 0; i < f->count * f->dim; i++)
        f->step[i] =
            f->rest[i] / f->diagonal[i / f->dim] + (float)f->scale[i % f->dim] * f->step[i];
}

static sr_status solve(fit *f, float *rows, size_t tokens, const float *targets,
                       sr_progress_fn *progress, void *user, uint64_t begun, uint64_t total,
                       sr_error *error) {
    /* The old rows of the tokens that occur, borrowed from what is not in use yet. */
    float *old = f->image;
    for (size_t i = 0; i < f->count; i++)
        memcpy(old + i * f->dim, rows + f->tokens[i] * f->dim, f->dim * sizeof *old);
    float factor = (float)best_factor(f, old, targets);
    for (size_t i = 0; i < f->count * f->dim; i++) old[i] *= factor;
    begin(f, old, targets);
    for (uint64_t step = 0; step < SRI_FIT_STEPS; step++) {
        advance(f);
        if (progress != NULL && progress(user, begun + step + 1, total) != 0)
            return sri_fail(error, SR_ERR_CANCELLED, NULL, "the fit was stopped");
    }
    for (size_t i = 0; i < tokens * f->dim; i++) rows[i] *= factor;
    for (size_t i = 0; i < f->count; i++)
        for (size_t d = 0; d < f->dim; d++)
            rows[f->tokens[i] * f->dim + d] += f->change[i * f->dim + d];
    return SR_OK;
}

sr_status sri_distill_fit(const sri_token_lists *lists, const float *targets, size_t tokens,
                          size_t dimension, double strength, float *rows, sr_progress_fn *progress,
                          void *user, uint64_t begun, uint64_t total, sr_error *error) {
    fit f = {.lists = lists, .dim = dimension, .strength = strength};
    sr_status code = open_fit(&f, tokens, error);
    if (code == SR_OK) code = solve(&f, rows, tokens, targets, progress, user, begun, total, error);
    close_fit(&f);
    return code;
}
