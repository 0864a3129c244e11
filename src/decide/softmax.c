/*
 * softmax.c - the fit: preconditioned L-BFGS (Nocedal, 1980; Liu and Nocedal, 1989).
 *
 * The loss is convex, so that every step's curvature is positive and a line search that only asks for
 * sufficient decrease (Armijo) will do: nearly every step is taken at full length, one evaluation each. A
 * step's direction comes from two loops over the remembered pairs, in which a subtraction and the next dot
 * product are one pass. Vectors are cut into chunks of fixed length, whose sums are added in order.
 */
#include "decide/softmax_int.h"

#include "decide/logarithm.h"

#include <math.h>
#include <string.h>

#define PART        ((size_t)65536) /* floats of a vector that a task takes */
#define PIECE       ((size_t)4096) /* that are added to and multiplied while in the nearest cache */
#define MAX_PAIRS   64
#define PAIRS       10
#define PAIRS_LARGE 5 /* where vectors fit no cache: passes over more cost more than they save */
#define LARGE       ((size_t)1 << 20)
#define BACKTRACKS  20
#define DECREASE    1e-4
#define SPREAD      0.2  /* of p (1 - p), against that of equal odds: near the end most are sure */
#define STALE       5    /* steps that gain no more than that: rounding is all that is left */
#define NOISE       1e-9 /* of the loss: what rounding may add to it */

typedef struct search {
    sri_softmax *solver;
    const sri_softmax_task *task;
    sri_softmax_goal goal;
    sri_preconditioner inverse;
    size_t size, parts;
    float *arena; /* all vectors */
    float *at, *gradient, *direction, *next_at, *next_gradient, *prior, *weights;
    size_t memory, pairs, newest; /* places, used, place of the newest */
    float *steps[MAX_PAIRS], *changes[MAX_PAIRS];
    double inverse_curvature[MAX_PAIRS];
    double factor;   /* of the preconditioner: newest curvature */
    double *partial; /* [parts] */
    double loss, scale;
    sri_softmax_report report;
} search;

/* ---- Vectors ------------------------------------------------------------------------------------------- */

typedef enum vector_op { DOT, ADD_DOT, SCALE, STEP, SUBTRACT } vector_op;

typedef struct vector_job {
    search *search;
    vector_op op;
    const float *a, *b;
    float factor;
    float *y;
} vector_job;

/* The job for floats [at, at + n); returns its part of a sum. */
static double run_piece(const vector_job *job, size_t at, size_t n) {
    const sri_softmax_loops *loops = &job->search->solver->loops;
    switch (job->op) {
    case DOT: return loops->dot(job->a + at, job->b + at, n);
    case ADD_DOT:
        loops->add_scaled(job->a + at, job->factor, n, job->y + at);
        return job->b != NULL ? loops->dot(job->y + at, job->b + at, n) : 0;
    case SCALE:
        for (size_t i = at; i < at + n; i++) job->y[i] *= job->factor;
        break;
    case STEP: loops->step(job->a + at, job->b + at, job->factor, n, job->y + at); break;
    case SUBTRACT: loops->subtract(job->a + at, job->b + at, n, job->y + at); break;
    }
    return 0;
}

static void run_part(void *argument, size_t part, int slot) {
    (void)slot;
    const vector_job *job = argument;
    size_t end = SRI_MIN((part + 1) * PART, job->search->size);
    double sum = 0;
    for (size_t at = part * PART; at < end; at += PIECE)
        sum += run_piece(job, at, SRI_MIN(PIECE, end - at));
    job->search->partial[part] = sum;
}

static double run_vectors(search *f, vector_job job) {
    job.search = f;
    if (f->parts < 3)
        for (size_t part = 0; part < f->parts; part++) run_part(&job, part, 0);
    else
        sri_softmax_run(f->solver, run_part, &job, f->parts);
    double sum = 0;
    if (job.op == DOT || job.op == ADD_DOT)
        for (size_t part = 0; part < f->parts; part++) sum += f->partial[part];
    return sum;
}

static double dot(search *f, const float *a, const float *b) {
    return run_vectors(f, (vector_job){.op = DOT, .a = a, .b = b});
}

/* y += factor * a; returns y . b (b may be NULL). */
static double add_dot(search *f, const float *a, double factor, const float *b, float *y) {
    vector_job job = {.op = ADD_DOT, .a = a, .b = b, .factor = (float)factor, .y = y};
    return run_vectors(f, job);
}

/* ---- Direction ------------------------------------------------------------------------------------------- */

/* The place of the pair that is `age` steps old. */
static size_t place(const search *f, size_t age) {
    return (f->newest + f->memory - age) % f->memory;
}

/* direction = approximate inverse * gradient: to be walked against. */
static void find_direction(search *f) {
    double shares[MAX_PAIRS], product = 0;
    float *q = f->direction;
    memcpy(q, f->gradient, f->size * sizeof *q);
    if (f->pairs > 0) product = dot(f, f->steps[f->newest], q);
    for (size_t age = 0; age < f->pairs; age++) {
        size_t i = place(f, age);
        shares[age] = f->inverse_curvature[i] * product;
        const float *older = age + 1 < f->pairs ? f->steps[place(f, age + 1)] : NULL;
        product = add_dot(f, f->changes[i], -shares[age], older, q);
    }
    sri_preconditioner_apply(f->solver, &f->inverse, q);
    if (f->pairs == 0) return;
    run_vectors(f, (vector_job){.op = SCALE, .factor = (float)f->factor, .y = q});
    product = dot(f, f->changes[place(f, f->pairs - 1)], q);
    for (size_t age = f->pairs; age-- > 0;) {
        size_t i = place(f, age);
        double share = shares[age] - f->inverse_curvature[i] * product;
        const float *newer = age > 0 ? f->changes[place(f, age - 1)] : NULL;
        product = add_dot(f, f->steps[i], share, newer, q);
    }
}

/* Remembers the step just made, from at and gradient to next_at and next_gradient. */
static void remember(search *f) {
    size_t i = f->pairs == 0 ? 0 : (f->newest + 1) % f->memory;
    float *step = f->steps[i], *change = f->changes[i];
    run_vectors(f, (vector_job){.op = SUBTRACT, .a = f->next_at, .b = f->at, .y = step});
    run_vectors(f,
                (vector_job){.op = SUBTRACT, .a = f->next_gradient, .b = f->gradient, .y = change});
    double curvature = dot(f, step, change);
    if (!(curvature > 0)) return; /* rounding is all that is left */
    f->newest = i;
    f->pairs = SRI_MIN(f->pairs + 1, f->memory);
    f->inverse_curvature[i] = 1 / curvature;
    memcpy(f->direction, change, f->size * sizeof *change);
    sri_preconditioner_apply(f->solver, &f->inverse, f->direction);
    f->factor = curvature / dot(f, change, f->direction);
}

/* ---- Steps ------------------------------------------------------------------------------------------------- */

static double evaluate(search *f, const float *at, float *gradient) {
    f->report.evaluations++;
    return sri_softmax_evaluate(f->solver, &f->goal, at, gradient);
}

static void swap(float **a, float **b) {
    float *old = *a;
    *a = *b;
    *b = old;
}

/* Walks against the direction, whose product with the gradient is `slope`. False when no length of step
 * lowers the loss: it is as low as rounding lets it be. */
static bool walk(search *f, double slope) {
    /* The first step is made where odds are equal, and the curvature that much greater. */
    double length = f->pairs == 0 ? SPREAD : 1;
    for (int i = 0; i < BACKTRACKS; i++) {
        run_vectors(f, (vector_job){.op = STEP,
                                    .a = f->at,
                                    .b = f->direction,
                                    .factor = (float)-length,
                                    .y = f->next_at});
        double loss = evaluate(f, f->next_at, f->next_gradient);
        if (loss <= f->loss - DECREASE * length * slope + NOISE * fabs(f->loss)) {
            remember(f);
            swap(&f->at, &f->next_at);
            swap(&f->gradient, &f->next_gradient);
            f->loss = loss;
            return true;
        }
        /* Where the parabola through both losses and the slope is lowest. */
        double lowest = 0.5 * slope * length * length / (loss - f->loss + slope * length);
        length = lowest > 0.1 * length ? fmin(lowest, 0.5 * length) : 0.1 * length;
    }
    return false;
}

static sr_status descend(search *f, sr_error *error) {
    const sri_softmax_task *task = f->task;
    size_t most = task->max_steps > 0 ? task->max_steps : 200;
    double tolerance = task->tolerance > 0 ? task->tolerance : SRI_SOFTMAX_TOLERANCE;
    f->loss = evaluate(f, f->at, f->gradient);
    for (size_t stale = 0;;) {
        if (!isfinite(f->loss))
            return sri_fail(
                error, SR_ERR_INVALID, "softmax",
                "the loss is not finite: features or weights are too large, or no numbers");
        find_direction(f);
        double slope = dot(f, f->direction, f->gradient);
        f->report.gap = 0.5 * slope / f->scale;
        f->report.converged = f->report.gap <= tolerance;
        if (f->report.converged || f->report.steps == most) return SR_OK;
        double before = f->loss;
        bool moved = walk(f, slope);
        stale = moved && before - f->loss > NOISE * fabs(before) ? 0 : stale + 1;
        f->report.converged = !moved || stale == STALE;
        if (f->report.converged) return SR_OK;
        f->report.steps++;
        if (task->progress != NULL && task->progress(task->progress_user, f->report.steps, most))
            return sri_fail(error, SR_ERR_CANCELLED, "softmax", "the fit was stopped");
    }
}

/* ---- Heads and parameters ------------------------------------------------------------------------------------ */

/* Writes the parts that `head` has over `at`. */
static void put_head(const sri_softmax *s, const sri_softmax_head *head, float *at) {
    memcpy(at + s->bias_at, head->bias, s->classes * sizeof *at);
    if (head->width > 0) memcpy(at, head->dense, s->bias_at * sizeof *at);
    for (size_t mine = 0, theirs = 0; mine < s->rows && theirs < head->rows;) {
        if (s->bucket[mine] == head->bucket[theirs])
            memcpy(at + s->sparse_at + mine * s->wide, head->sparse + theirs * s->classes,
                   s->classes * sizeof *at);
        bool behind = s->bucket[mine] < head->bucket[theirs];
        theirs += s->bucket[mine] >= head->bucket[theirs];
        mine += behind;
    }
}

static bool fits(const sri_softmax *s, const sri_softmax_head *head) {
    return head == NULL ||
           (head->classes == s->classes && (head->width == 0 || head->width == s->width));
}

static sr_status take_head(const sri_softmax *s, const float *at, sri_softmax_head *head,
                           sr_error *error) {
    *head = (sri_softmax_head){.classes = s->classes, .width = s->width, .rows = s->rows};
    head->bias = sri_alloc_array(s->classes, sizeof *head->bias);
    head->dense = sri_alloc_array(s->bias_at, sizeof *head->dense);
    head->bucket = sri_alloc_array(s->rows, sizeof *head->bucket);
    head->sparse = sri_alloc_array(s->rows, s->classes * sizeof *head->sparse);
    if (!head->bias || !head->dense || !head->bucket || !head->sparse) {
        sri_softmax_head_free(head);
        return sri_fail_memory(error);
    }
    memcpy(head->bias, at + s->bias_at, s->classes * sizeof *at);
    memcpy(head->dense, at, s->bias_at * sizeof *at);
    if (s->rows > 0) memcpy(head->bucket, s->bucket, s->rows * sizeof *head->bucket);
    for (size_t r = 0; r < s->rows; r++)
        memcpy(head->sparse + r * s->classes, at + s->sparse_at + r * s->wide,
               s->classes * sizeof *at);
    return SR_OK;
}

void sri_softmax_head_free(sri_softmax_head *head) {
    sri_free(head->bias);
    sri_free(head->dense);
    sri_free(head->bucket);
    sri_free(head->sparse);
    *head = (sri_softmax_head){0};
}

sr_status sri_softmax_logits(sri_softmax *s, const sri_softmax_head *head, float *logits,
                             sr_error *error) {
    if (!fits(s, head))
        return sri_fail(error, SR_ERR_INVALID, "softmax", "the head is of another shape");
    float *at = sri_alloc_zero(s->parameters, sizeof *at);
    if (at == NULL) return sri_fail_memory(error);
    put_head(s, head, at);
    sri_softmax_all_logits(s, at, logits);
    sri_free(at);
    return SR_OK;
}

/* ---- Fitting --------------------------------------------------------------------------------------------- */

static double or_default(double value, double standard) { return value > 0 ? value : standard; }

/* Settles what is minimised; f->scale takes the loss at equal odds. */
static sr_status set_goal(search *f, sr_error *error) {
    const sri_softmax_task *task = f->task;
    const sri_softmax *s = f->solver;
    double c = or_default(task->c, 1), all = 0;
    double dense = or_default(task->dense_scale, 1), sparse = or_default(task->sparse_scale, 1);
    for (size_t i = 0; i < s->n; i++) {
        float weight = task->sample_weights != NULL ? task->sample_weights[i] : 1.0f;
        if (!(weight >= 0) || !isfinite(weight))
            return sri_fail(error, SR_ERR_INVALID, "softmax", "the weight of sample %zu is %g", i,
                            (double)weight);
        if (weight > 0 && task->targets[i] >= s->classes)
            return sri_fail(error, SR_ERR_INVALID, "softmax", "sample %zu is of class %u of %zu", i,
                            task->targets[i], s->classes);
        f->weights[i] = (float)(c * (double)weight);
        all += (double)f->weights[i];
    }
    f->goal = (sri_softmax_goal){.targets = task->targets,
                                 .weights = f->weights,
                                 .dense_penalty = 1 / (dense * dense),
                                 .sparse_penalty = 1 / (sparse * sparse),
                                 .bias_penalty = or_default(task->bias_penalty, 0.01)};
    f->scale = all * sri_ln((double)s->classes);
    double share = 1 / (double)s->classes, spread = SPREAD * share * (1 - share);
    if (f->scale > 0) sri_preconditioner_set(s, &f->goal, all, spread, &f->inverse);
    return SR_OK;
}

static bool take_vectors(search *f) {
    const sri_softmax *s = f->solver;
    size_t usual = s->parameters > LARGE ? PAIRS_LARGE : PAIRS, vectors, numbers;
    f->memory = SRI_MIN(f->task->memory > 0 ? f->task->memory : usual, (size_t)MAX_PAIRS);
    f->size = s->parameters;
    f->parts = (f->size + PART - 1) / PART;
    vectors = 6 + 2 * f->memory;
    f->partial = sri_alloc_array(f->parts, sizeof *f->partial);
    f->weights = sri_alloc_array(s->n, sizeof *f->weights);
    if (f->partial == NULL || f->weights == NULL || !sri_size_mul(vectors, f->size, &numbers))
        return false;
    f->arena = sri_alloc_array(numbers, sizeof *f->arena);
    if (f->arena == NULL) return false;
    float *next = f->arena;
    float **each[] = {&f->at,      &f->gradient,      &f->direction,
                      &f->next_at, &f->next_gradient, &f->prior};
    for (size_t i = 0; i < SRI_COUNT(each); i++, next += f->size) *each[i] = next;
    for (size_t i = 0; i < f->memory; i++, next += 2 * f->size) {
        f->steps[i] = next;
        f->changes[i] = next + f->size;
    }
    /* Padding must be zero, and the place of what nobody writes. */
    memset(f->arena, 0, 6 * f->size * sizeof *f->arena);
    return true;
}

static void begin(search *f) {
    const sri_softmax_task *task = f->task;
    if (task->prior != NULL) {
        put_head(f->solver, task->prior, f->prior);
        f->goal.prior = f->prior;
        memcpy(f->at, f->prior, f->size * sizeof *f->at);
    }
    if (task->start != NULL && f->scale > 0) put_head(f->solver, task->start, f->at);
}

static sr_status fit(search *f, sri_softmax_head *head, sr_error *error) {
    if (!sri_preconditioner_open(f->solver, &f->inverse) || !take_vectors(f))
        return sri_fail_memory(error);
    sr_status code = set_goal(f, error);
    if (code != SR_OK) return code;
    begin(f);
    f->report.converged = true;
    if (f->scale > 0) code = descend(f, error); /* else there is nothing to tell apart */
    f->report.loss = f->loss;
    return code == SR_OK ? take_head(f->solver, f->at, head, error) : code;
}

sr_status sri_softmax_fit(sri_softmax *solver, const sri_softmax_task *task, sri_softmax_head *head,
                          sri_softmax_report *report, sr_error *error) {
    *head = (sri_softmax_head){0};
    if (!fits(solver, task->start) || !fits(solver, task->prior))
        return sri_fail(error, SR_ERR_INVALID, "softmax", "start or prior is of another shape");
    double begun = sri_seconds();
    search f = {.solver = solver, .task = task};
    sr_status code = fit(&f, head, error);
    sri_preconditioner_close(&f.inverse);
    sri_free(f.arena);
    sri_free(f.partial);
    sri_free(f.weights);
    f.report.seconds = sri_seconds() - begun;
    if (report != NULL) *report = f.report;
    return code;
}
