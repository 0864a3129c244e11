/*
 * test_kernels.c - every entry of the kernel table, at every level that this CPU has, against ref.
 *
 * All levels promise the same bits, so results are compared byte for byte. Inputs end at a page
 * that cannot be read and outputs at one that cannot be written, so that a load or store too far
 * faults; canaries stand before the outputs. Sizes run through the tails of every vector length;
 * values include extremes. A level that the CPU lacks is skipped, and said so. ref itself is
 * compared with double arithmetic, within the error that its order of operations allows.
 *
 * With --bench: times of the entries on a model's shapes (bench_kernels.c).
 */
#include "test_kernels.h"
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- memory that ends at a forbidden page ---------------------------------------------------- */

#define CANARY 0xA5

typedef struct guarded {
    uint8_t *data; /* the bytes asked for; the page after them is forbidden */
    size_t bytes;
    uint8_t *mapping;
    size_t mapped;
} guarded;

static guarded guard(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guarded g = {.bytes = bytes, .mapped = (bytes + 2 * page - 1) / page * page + page};
    g.mapping = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.mapping != MAP_FAILED);
    memset(g.mapping, CANARY, g.mapped - page);
    assert_int_equal(mprotect(g.mapping + g.mapped - page, page, PROT_NONE), 0);
    g.data = g.mapping + g.mapped - page - bytes;
    return g;
}

static void check_canaries(const guarded *g) {
    for (const uint8_t *byte = g->mapping; byte < g->data; byte++) assert_int_equal(*byte, CANARY);
}

static void unguard(guarded *g) { munmap(g->mapping, g->mapped); }

static uint32_t random_state = 1;

static uint32_t random_word(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8;
}

/* From a normal-like middle, with some zeros and some large values. */
static float random_float(void) {
    uint32_t kind = random_word() % 32;
    float value = ((float)(random_word() % 20001) - 10000.0f) / 4000.0f;
    if (kind == 0) return 0.0f;
    if (kind == 1) return -0.0f;
    return kind == 2 ? value * 40.0f : value;
}

static guarded floats(size_t count) {
    guarded g = guard(count * sizeof(float));
    for (size_t i = 0; i < count; i++) ((float *)g.data)[i] = random_float();
    return g;
}

static guarded copy_of(const guarded *from) {
    guarded g = guard(from->bytes);
    memcpy(g.data, from->data, from->bytes);
    return g;
}

/* ---- the levels ------------------------------------------------------------------------------ */

/* The levels above ref of this family of CPUs. */
#if defined(__x86_64__)
enum { FIRST_LEVEL = SRI_CPU_AVX2, LAST_LEVEL = SRI_CPU_AMX };
#elif defined(__aarch64__)
enum { FIRST_LEVEL = SRI_CPU_NEON, LAST_LEVEL = SRI_CPU_I8MM };
#else
enum { FIRST_LEVEL = 1, LAST_LEVEL = 0 };
#endif

/* A level, or something like one, and how to fill a table for it. */
typedef struct variant {
    const char *name;
    sri_cpu_level level; /* that the CPU must have */
    void (*overlay)(sri_kernels *table);
} variant;

static void tables(const void *argument, sri_kernels *ref, sri_kernels *level) {
    const variant *wanted = argument;
    if (!sri_cpu_has(wanted->level)) {
        printf("# SKIPPED: this CPU lacks %s\n", sri_cpu_level_name(wanted->level));
        tap_skip();
    }
    sri_kernels_fill(SRI_CPU_REF, ref);
    sri_kernels_fill(wanted->level, level);
    if (wanted->overlay != NULL) wanted->overlay(level);
}

static void same_bytes(const guarded *a, const guarded *b) {
    check_canaries(a);
    check_canaries(b);
    for (size_t i = 0; i < a->bytes; i++)
        if (a->data[i] != b->data[i])
            tap_fail("byte %zu of %zu is 0x%02x, not 0x%02x", i, a->bytes, b->data[i], a->data[i]);
}

/* ---- int8 product ---------------------------------------------------------------------------- */

typedef struct quantized_rows {
    guarded q, scale, zero;
    sri_quantized view;
} quantized_rows;

/* What inputs hold: anything, or the values whose products are largest, of either sign. */
typedef enum kind { RANDOM, HIGHEST, LOWEST } kind;

static quantized_rows random_rows(size_t m, size_t k, kind values) {
    quantized_rows rows;
    size_t stride = sri_round_up(k, SRI_K_STEP);
    rows.q = guard(m * stride);
    rows.scale = floats(m);
    rows.zero = guard(m * sizeof(int32_t));
    for (size_t i = 0; i < m * stride; i++)
        rows.q.data[i] = values == RANDOM ? (uint8_t)random_word() : values == HIGHEST ? 255 : 0;
    for (size_t i = 0; i < m; i++)
        ((int32_t *)rows.zero.data)[i] = values == RANDOM    ? (int32_t)(random_word() % 256)
                                         : values == HIGHEST ? 0
                                                             : 255;
    rows.view =
        (sri_quantized){rows.q.data, (float *)rows.scale.data, (int32_t *)rows.zero.data, stride};
    return rows;
}

static void run_gemm_s8(const sri_gemm_s8 *gemm, const sri_weights_s8 *weights,
                        const sri_quantized *x, size_t m, sri_activation activation, guarded *y) {
    void *packed =
        aligned_alloc(64, sri_round_up(gemm->packed_size(weights->n, weights->k) + 1, 64));
    /* In two parts where it can be cut: packed, and run. */
    size_t n = weights->n, k = weights->k, cut = n / 2 / SRI_N_STEP * SRI_N_STEP;
    sri_weights_s8 rest = {weights->w + cut * k, weights->scale + cut, weights->bias + cut, n - cut,
                           k};
    sri_weights_s8 begin = {weights->w, weights->scale, weights->bias, cut, k};
    gemm->pack(&rest, (char *)packed + gemm->packed_size(cut, k));
    gemm->pack(&begin, packed);
    sri_product part = {(float *)y->data, n, cut, n, activation};
    gemm->run(x, m, packed, weights->k, &part);
    part.first = 0, part.last = cut;
    gemm->run(x, m, packed, weights->k, &part);
    free(packed);
}

static void compare_gemm_s8(const sri_kernels *ref, const sri_kernels *level, size_t m, size_t n,
                            size_t k, sri_activation activation, kind values) {
    guarded w = guard(n * k), scale = floats(n), bias = floats(n);
    for (size_t i = 0; i < n * k; i++)
        w.data[i] = values == RANDOM             ? (uint8_t)random_word()
                    : values == HIGHEST && i % 2 ? 127
                                                 : 0x80;
    quantized_rows x = random_rows(m, k, values);
    guarded expected = guard(m * n * sizeof(float)), actual = guard(m * n * sizeof(float));
    sri_weights_s8 weights = {(int8_t *)w.data, (float *)scale.data, (float *)bias.data, n, k};
    run_gemm_s8(&ref->gemm_s8, &weights, &x.view, m, activation, &expected);
    run_gemm_s8(&level->gemm_s8, &weights, &x.view, m, activation, &actual);
    same_bytes(&expected, &actual);
    guarded *all[] = {&w, &scale, &bias, &x.q, &x.scale, &x.zero, &expected, &actual};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void gemm_s8_is_exact(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t m = 0; m <= 14; m++)
        compare_gemm_s8(&ref, &level, m, 1 + random_word() % 140, 1 + random_word() % 70,
                        (sri_activation)(m % 2), RANDOM);
    for (size_t n = 1; n <= 130; n += 3)
        compare_gemm_s8(&ref, &level, 5, n, 37, SRI_LINEAR, RANDOM);
    for (size_t k = 1; k <= 130; k++) compare_gemm_s8(&ref, &level, 3, 17, k, SRI_GELU, RANDOM);
    for (kind values = HIGHEST; values <= LOWEST; values++)
        compare_gemm_s8(&ref, &level, 7, 65, 1536, SRI_LINEAR, values);
    compare_gemm_s8(&ref, &level, 2, 16, 2500, SRI_LINEAR, HIGHEST);
    for (size_t m = 5; m <= 19; m++) /* deep products of few rows may be cut */
        compare_gemm_s8(&ref, &level, m, 70, 1000 + 7 * m, SRI_GELU, RANDOM);
    for (size_t m = 15; m <= 389;
         m += m < 49 ? 17 : 170) /* several tiles, several blocks of rows */
        compare_gemm_s8(&ref, &level, m, 70, 64 + m, SRI_GELU, RANDOM);
}

/* ---- fp32 product ---------------------------------------------------------------------------- */

static void run_gemm_f32(const sri_gemm_f32 *gemm, const sri_weights_f32 *weights, const float *x,
                         size_t m, sri_activation activation, guarded *y) {
    void *packed =
        aligned_alloc(64, sri_round_up(gemm->packed_size(weights->n, weights->k) + 1, 64));
    /* In two parts where it can be cut: packed, and run. */
    size_t n = weights->n, k = weights->k, cut = n / 2 / SRI_N_STEP * SRI_N_STEP;
    sri_weights_f32 rest = {weights->w + cut * k, weights->bias + cut, n - cut, k};
    sri_weights_f32 begin = {weights->w, weights->bias, cut, k};
    gemm->pack(&rest, (char *)packed + gemm->packed_size(cut, k));
    gemm->pack(&begin, packed);
    sri_product part = {(float *)y->data, n, cut, n, activation};
    gemm->run(x, m, packed, weights->k, &part);
    part.first = 0, part.last = cut;
    gemm->run(x, m, packed, weights->k, &part);
    free(packed);
}

static void compare_gemm_f32(const sri_kernels *ref, const sri_kernels *level, size_t m, size_t n,
                             size_t k, sri_activation activation) {
    guarded w = floats(n * k), bias = floats(n), x = floats(m * k);
    guarded expected = guard(m * n * sizeof(float)), actual = guard(m * n * sizeof(float));
    sri_weights_f32 weights = {(float *)w.data, (float *)bias.data, n, k};
    run_gemm_f32(&ref->gemm_f32, &weights, (float *)x.data, m, activation, &expected);
    run_gemm_f32(&level->gemm_f32, &weights, (float *)x.data, m, activation, &actual);
    same_bytes(&expected, &actual);
    guarded *all[] = {&w, &bias, &x, &expected, &actual};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void gemm_f32_gives_the_bits_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t m = 0; m <= 14; m++)
        compare_gemm_f32(&ref, &level, m, 1 + random_word() % 140, 1 + random_word() % 70,
                         (sri_activation)(m % 2));
    for (size_t n = 1; n <= 130; n++) compare_gemm_f32(&ref, &level, 5, n, 19, SRI_LINEAR);
}

/* ---- rows ------------------------------------------------------------------------------------ */

typedef struct quantised {
    guarded q, scale, zero;
    sri_quantized view;
} quantised;

static quantised room_for_quantised(size_t m, size_t k) {
    size_t stride = sri_round_up(k, SRI_K_STEP);
    quantised out = {guard(m * stride), guard(m * sizeof(float)), guard(m * sizeof(int32_t)), {0}};
    out.view =
        (sri_quantized){out.q.data, (float *)out.scale.data, (int32_t *)out.zero.data, stride};
    return out;
}

static void same_quantised(quantised *a, quantised *b, size_t m, size_t k) {
    quantised *both[] = {a, b};
    for (int i = 0; i < 2; i++) /* what lies between k and stride may differ */
        for (size_t r = 0; r < m; r++)
            memset(both[i]->q.data + r * a->view.stride + k, 0, a->view.stride - k);
    same_bytes(&a->q, &b->q);
    same_bytes(&a->scale, &b->scale);
    same_bytes(&a->zero, &b->zero);
}

static void release_quantised(quantised *each) {
    unguard(&each->q);
    unguard(&each->scale);
    unguard(&each->zero);
}

static void compare_quantize(const sri_kernels *ref, const sri_kernels *level, size_t m, size_t k,
                             int sign) {
    guarded x = floats(m * k);
    for (size_t i = 0; sign != 0 && i < m * k; i++)
        ((float *)x.data)[i] = copysignf(((float *)x.data)[i], (float)sign);
    quantised a = room_for_quantised(m, k), b = room_for_quantised(m, k);
    ref->quantize((float *)x.data, m, k, &a.view);
    level->quantize((float *)x.data, m, k, &b.view);
    same_quantised(&a, &b, m, k);
    unguard(&x);
    release_quantised(&a);
    release_quantised(&b);
}

static void quantize_gives_the_bits_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t k = 1; k <= 70; k++)
        for (int sign = -1; sign <= 1; sign++) compare_quantize(&ref, &level, 1 + k % 6, k, sign);
    compare_quantize(&ref, &level, 3, 1536, 0);
}

/* What is written by the way must be what quantize makes of the result. */
static void compare_add_norm(const sri_kernels *ref, const sri_kernels *level, size_t m, size_t n) {
    guarded x = floats(m * n), y = floats(m * n), gamma = floats(n), beta = floats(n),
            again = copy_of(&x), alone = copy_of(&x);
    sri_norm norm = {(float *)gamma.data, (float *)beta.data, 1e-12f};
    quantised a = room_for_quantised(m, n), b = room_for_quantised(m, n);
    ref->add_norm((float *)x.data, (float *)y.data, m, n, &norm, NULL);
    ref->quantize((float *)x.data, m, n, &a.view);
    level->add_norm((float *)again.data, (float *)y.data, m, n, &norm, &b.view);
    level->add_norm((float *)alone.data, (float *)y.data, m, n, &norm, NULL);
    same_bytes(&x, &again);
    same_bytes(&x, &alone);
    same_quantised(&a, &b, m, n);
    guarded *all[] = {&x, &y, &gamma, &beta, &again, &alone};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
    release_quantised(&a);
    release_quantised(&b);
}

static void add_norm_gives_the_bits_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t n = 2; n <= 70; n++) compare_add_norm(&ref, &level, 1 + n % 6, n);
    compare_add_norm(&ref, &level, 4, 384);
}

/* ---- attention ------------------------------------------------------------------------------- */

static void compare_attend(const sri_kernels *ref, const sri_kernels *level, size_t t, size_t rows,
                           size_t width) {
    guarded q = floats(rows * width), k = floats(t * width), v = floats(t * width), out[2];
    size_t scratch_floats = sri_attend_scratch(t, width);
    float *scratch = aligned_alloc(64, sri_round_up(scratch_floats * sizeof(float), 64));
    const sri_kernels *both[] = {ref, level};
    for (int i = 0; i < 2; i++) {
        out[i] = guard(rows * width * sizeof(float));
        sri_attention a = {.q = (float *)q.data,
                           .k = (float *)k.data,
                           .v = (float *)v.data,
                           .stride = width,
                           .rows = rows,
                           .t = t,
                           .width = width,
                           .scale = 0.25f,
                           .out = (float *)out[i].data,
                           .out_stride = width,
                           .scratch = scratch};
        both[i]->attend(&a);
    }
    same_bytes(&out[0], &out[1]);
    free(scratch);
    guarded *all[] = {&q, &k, &v, &out[0], &out[1]};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void attend_gives_the_bits_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t t = 1; t <= 35; t++)
        for (size_t width = 4; width <= 36; width += 7) compare_attend(&ref, &level, t, t, width);
    compare_attend(&ref, &level, 50, 1, 32);
    compare_attend(&ref, &level, 129, 129, 32);
}

/* ---- vector search --------------------------------------------------------------------------- */

static void compare_dots(const sri_kernels *ref, const sri_kernels *level, size_t queries, size_t n,
                         size_t dim) {
    guarded a = floats(queries * dim), b = floats(n * dim);
    guarded expected = guard(queries * n * sizeof(float)),
            actual = guard(queries * n * sizeof(float));
    ref->dots((float *)a.data, queries, (float *)b.data, n, dim, (float *)expected.data);
    level->dots((float *)a.data, queries, (float *)b.data, n, dim, (float *)actual.data);
    same_bytes(&expected, &actual);
    guarded *all[] = {&a, &b, &expected, &actual};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void dots_give_the_bits_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t dim = 1; dim <= 66; dim++) compare_dots(&ref, &level, dim % 6, dim % 7, dim);
    for (size_t queries = 0; queries <= 9; queries++)
        for (size_t n = 0; n <= 9; n++) compare_dots(&ref, &level, queries, n, 384);
}

/* Bytes from -127 to 127, or all of them the ends. */
static guarded signed_bytes(size_t count, kind values) {
    guarded g = guard(count);
    for (size_t i = 0; i < count; i++)
        g.data[i] = (uint8_t)(values == RANDOM    ? (int)(random_word() % 255) - 127
                              : values == HIGHEST ? 127
                                                  : (i % 2 ? 127 : -127));
    return g;
}

static void compare_dots_s8(const sri_kernels *ref, const sri_kernels *level, size_t queries,
                            size_t n, size_t dim, kind values) {
    guarded a = signed_bytes(queries * dim, values), b = signed_bytes((n + 1) * dim, values);
    guarded rows = guard(n * sizeof(int8_t *));
    for (size_t i = 0; i < n; i++) /* the last ends at the guard */
        ((int8_t **)rows.data)[i] = (int8_t *)b.data + (n - random_word() % (n + 1)) * dim;
    guarded expected = guard(queries * n * sizeof(int32_t));
    guarded actual = guard(queries * n * sizeof(int32_t));
    const int8_t *const *which = (const int8_t *const *)rows.data;
    ref->dots_s8((int8_t *)a.data, queries, which, n, dim, (int32_t *)expected.data);
    level->dots_s8((int8_t *)a.data, queries, which, n, dim, (int32_t *)actual.data);
    same_bytes(&expected, &actual);
    guarded *all[] = {&a, &b, &rows, &expected, &actual};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void dots_s8_are_exact(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t dim = 1; dim <= 130; dim++)
        compare_dots_s8(&ref, &level, dim % 4, dim % 7, dim, RANDOM);
    for (size_t queries = 0; queries <= 5; queries++)
        for (size_t n = 0; n <= 9; n++) compare_dots_s8(&ref, &level, queries, n, 384, RANDOM);
    for (kind values = RANDOM; values <= LOWEST; values++)
        compare_dots_s8(&ref, &level, 3, 2, 65536, values);
}

/* What the sums of a level must be, from patterns [rows, groups] as they were packed. */
static void expect_sums(const sri_signs *signs, const guarded *patterns, size_t groups,
                        const uint8_t *table, guarded *sums) {
    size_t rows = sums->bytes / sizeof(uint16_t);
    for (size_t row = 0; row < rows; row++) {
        unsigned sum = 0;
        for (size_t g = 0; g < groups; g++)
            sum += table[(g << signs->group) + patterns->data[row * groups + g]];
        ((uint16_t *)sums->data)[row] = (uint16_t)sum;
    }
}

static void check_signs(const sri_signs *signs, size_t blocks, size_t dim, size_t queries,
                        bool highest) {
    enum { MOST_QUERIES = 9 };
    size_t groups = sri_sign_groups(signs, dim), rows = blocks * SRI_SIGN_ROWS;
    size_t block_bytes = sri_sign_bytes(signs, groups);
    guarded patterns = guard(rows * groups), packed = guard(blocks * block_bytes);
    guarded tables[MOST_QUERIES], expected[MOST_QUERIES], actual[MOST_QUERIES];
    const uint8_t *table_of[MOST_QUERIES];
    uint16_t *sums_of[MOST_QUERIES];
    memset(packed.data, 0, packed.bytes);
    for (size_t i = 0; i < patterns.bytes; i++)
        patterns.data[i] = (uint8_t)(random_word() % (1u << signs->group));
    for (size_t row = 0; row < rows; row++)
        signs->pack(patterns.data + row * groups, groups, row % SRI_SIGN_ROWS,
                    packed.data + row / SRI_SIGN_ROWS * block_bytes);
    for (size_t q = 0; q < queries; q++) {
        tables[q] = guard(groups << signs->group);
        expected[q] = guard(rows * sizeof(uint16_t)), actual[q] = guard(rows * sizeof(uint16_t));
        for (size_t i = 0; i < tables[q].bytes; i++)
            tables[q].data[i] =
                (uint8_t)(highest ? signs->most : random_word() % (signs->most + 1));
        expect_sums(signs, &patterns, groups, tables[q].data, &expected[q]);
        table_of[q] = tables[q].data, sums_of[q] = (uint16_t *)actual[q].data;
    }
    signs->sum(packed.data, blocks, groups, table_of, queries, sums_of);
    for (size_t q = 0; q < queries; q++) {
        same_bytes(&expected[q], &actual[q]);
        guarded *all[] = {&tables[q], &expected[q], &actual[q]};
        for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
    }
    unguard(&patterns), unguard(&packed);
}

static void sums_of_signs_are_exact(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t dim = 1; dim <= 80; dim += dim < 30 ? 1 : 5)
        for (size_t blocks = 0; blocks <= 2; blocks++)
            check_signs(&level.signs, blocks, dim, dim % 3, dim % 2);
    for (size_t queries = 0; queries <= 9; queries++)
        check_signs(&level.signs, 2, 384, queries, queries == 5);
    check_signs(&level.signs, 8, 384, 8, false);
    check_signs(&ref.signs, 2, 383, 3, true);
    check_signs(&level.signs, 1, 4160, 3, true);
    check_signs(&level.signs, 1, 65536, 1, true); /* passes 65535: modulo */
}

static void compare_pick(const sri_kernels *ref, const sri_kernels *level, size_t n, float least) {
    guarded sums = guard(n * sizeof(uint16_t)), weights = floats(n), bases = floats(n);
    for (size_t i = 0; i < n; i++) ((uint16_t *)sums.data)[i] = (uint16_t)random_word();
    if (n > 3) ((float *)weights.data)[3] = NAN;
    sri_bounds bounds = {(uint16_t *)sums.data,
                         (float *)weights.data,
                         (float *)bases.data,
                         n,
                         1.0f / 32768,
                         -1.0f,
                         least};
    guarded rows[2], found[2];
    size_t counts[2];
    const sri_kernels *both[] = {ref, level};
    for (int i = 0; i < 2; i++) {
        rows[i] = guard(n * sizeof(uint32_t)), found[i] = guard(n * sizeof(float));
        counts[i] = both[i]->pick(&bounds, (uint32_t *)rows[i].data, (float *)found[i].data);
        memset(rows[i].data + counts[i] * sizeof(uint32_t), 0, (n - counts[i]) * sizeof(uint32_t));
        memset(found[i].data + counts[i] * sizeof(float), 0, (n - counts[i]) * sizeof(float));
    }
    assert_int_equal(counts[0], counts[1]);
    same_bytes(&rows[0], &rows[1]);
    same_bytes(&found[0], &found[1]);
    guarded *all[] = {&sums, &weights, &bases, &rows[0], &rows[1], &found[0], &found[1]};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void pick_gives_the_rows_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t n = 0; n <= 70; n++) compare_pick(&ref, &level, n, 0.5f);
    compare_pick(&ref, &level, 1024, 2.0f);
    compare_pick(&ref, &level, 1024, -INFINITY);
}

static void compare_sum_rows(const sri_kernels *ref, const sri_kernels *level, size_t count,
                             size_t dim) {
    enum { TABLE_ROWS = 9 };
    guarded rows = guard(TABLE_ROWS * dim), list = guard(count * sizeof(sri_weighted_row));
    for (size_t i = 0; i < rows.bytes; i++) rows.data[i] = (uint8_t)random_word();
    for (size_t i = 0; i < count; i++)
        ((sri_weighted_row *)list.data)[i] =
            (sri_weighted_row){random_word() % TABLE_ROWS, random_float()};
    guarded expected = guard(dim * sizeof(float)), actual = guard(dim * sizeof(float));
    float squares[2] = {ref->sum_rows((int8_t *)rows.data, dim, (sri_weighted_row *)list.data,
                                      count, (float *)expected.data),
                        level->sum_rows((int8_t *)rows.data, dim, (sri_weighted_row *)list.data,
                                        count, (float *)actual.data)};
    same_bytes(&expected, &actual);
    assert_true(memcmp(&squares[0], &squares[1], sizeof squares[0]) == 0);
    guarded *all[] = {&rows, &list, &expected, &actual};
    for (size_t i = 0; i < SRI_COUNT(all); i++) unguard(all[i]);
}

static void sum_rows_gives_the_bits_of_ref(const void *argument) {
    sri_kernels ref, level;
    tables(argument, &ref, &level);
    for (size_t dim = 1; dim <= 130; dim++) compare_sum_rows(&ref, &level, dim % 8, dim);
    for (size_t count = 0; count <= 20; count++) compare_sum_rows(&ref, &level, count, 256);
}

/* ---- ref against double ---------------------------------------------------------------------- */

/* gelu(x), by way of a product of one element. */
static float gelu_of(const sri_kernels *table, float x) {
    static _Alignas(64) char packed[4096];
    float one = 1, zero = 0, y;
    assert_true(table->gemm_f32.packed_size(1, 1) <= sizeof packed);
    table->gemm_f32.pack(&(sri_weights_f32){&one, &zero, 1, 1}, packed);
    table->gemm_f32.run(&x, 1, packed, 1, &(sri_product){&y, 1, 0, 1, SRI_GELU});
    return y;
}

static void gelu_is_within_a_millionth_everywhere(const void *argument) {
    (void)argument;
    sri_kernels ref;
    sri_kernels_fill(SRI_CPU_REF, &ref);
    for (float x = -30; x <= 30; x += 0.00137f) {
        double exact = (double)x * 0.5 * (1 + erf((double)x / sqrt(2.0)));
        assert_true(fabs(gelu_of(&ref, x) - exact) <= 1e-6 + 2e-7 * fabs(exact));
    }
    assert_true(gelu_of(&ref, 1e30f) == 1e30f);
    assert_true(fabsf(gelu_of(&ref, -1e4f)) < 1e-3f);
}

static void attention_is_within_rounding_of_double(const void *argument) {
    (void)argument;
    enum { T = 40, WIDTH = 32 };
    sri_kernels ref;
    sri_kernels_fill(SRI_CPU_REF, &ref);
    static float q[T * WIDTH], k[T * WIDTH], v[T * WIDTH], out[T * WIDTH],
        scratch[48 * (WIDTH + SRI_ATTEND_ROWS)];
    for (int i = 0; i < T * WIDTH; i++) {
        q[i] = (float)(random_word() % 2001) / 1000 - 1;
        k[i] = (float)(random_word() % 2001) / 1000 - 1;
        v[i] = (float)(random_word() % 2001) / 1000 - 1;
    }
    sri_attention a = {.q = q,
                       .k = k,
                       .v = v,
                       .stride = WIDTH,
                       .rows = T,
                       .t = T,
                       .width = WIDTH,
                       .scale = 0.2f,
                       .out = out,
                       .out_stride = WIDTH,
                       .scratch = scratch};
    ref.attend(&a);
    for (int i = 0; i < T; i++) {
        double weights[T], sum = 0, highest = -1e300;
        for (int j = 0; j < T; j++) {
            weights[j] = 0;
            for (int d = 0; d < WIDTH; d++)
                weights[j] += 0.2f * (double)q[i * WIDTH + d] * k[j * WIDTH + d];
            highest = fmax(highest, weights[j]);
        }
        for (int j = 0; j < T; j++) sum += weights[j] = exp(weights[j] - highest);
        for (int d = 0; d < WIDTH; d++) {
            double exact = 0, size = 0;
            for (int j = 0; j < T; j++) {
                exact += weights[j] / sum * v[j * WIDTH + d];
                size += weights[j] / sum * fabs(v[j * WIDTH + d]);
            }
            assert_true(fabs(out[i * WIDTH + d] - exact) <= 2e-6 * size);
        }
    }
}

static void quantised_values_are_within_half_a_step(const void *argument) {
    (void)argument;
    sri_kernels ref;
    sri_kernels_fill(SRI_CPU_REF, &ref);
    float x[100], scale;
    uint8_t q[100];
    int32_t zero;
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 100; i++) x[i] = random_float();
        ref.quantize(x, 1, 100, &(sri_quantized){q, &scale, &zero, 100});
        for (int i = 0; i < 100; i++)
            assert_true(fabsf(scale * (float)(q[i] - zero) - x[i]) <= scale * 1.001f);
    }
    memset(x, 0, sizeof x);
    ref.quantize(x, 1, 100, &(sri_quantized){q, &scale, &zero, 100});
    assert_true(scale == 0 && q[0] == zero);
}

static void damaged_values_do_not_crash(const void *argument) {
    (void)argument;
    sri_kernels table;
    float x[48], y[48], gamma[48], beta[48], scale;
    uint8_t q[48];
    int32_t zero;
    for (int level = 0; level < SRI_CPU_LEVELS; level++) {
        if (!sri_cpu_has((sri_cpu_level)level)) continue;
        sri_kernels_fill((sri_cpu_level)level, &table);
        for (int i = 0; i < 48; i++) {
            x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
            y[i] = gamma[i] = beta[i] = 1e38f;
        }
        table.quantize(x, 1, 48, &(sri_quantized){q, &scale, &zero, 48});
        assert_true(zero >= 0 && zero <= 255);
        table.add_norm(x, y, 1, 48, &(sri_norm){gamma, beta, 0},
                       &(sri_quantized){q, &scale, &zero, 48});
        gelu_of(&table, NAN);
    }
}

/* ---- ref on every family of CPUs ------------------------------------------------------------- */

static uint64_t add_to_hash(uint64_t hash, const void *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) /* FNV-1a */
        hash = (hash ^ ((const uint8_t *)bytes)[i]) * 0x100000001B3u;
    return hash;
}

#define HASH_OF_REF 0x7542E8F6C1E81901u

/* Levels are compared with the ref of their own family; this compares the families. */
static void ref_gives_the_bits_that_it_gives_on_x86(const void *argument) {
    (void)argument;
    enum { T = 21, WIDTH = 37 };
    static float x[T * WIDTH], y[T * WIDTH], scale[T], scratch[32 * (48 + SRI_ATTEND_ROWS)];
    static uint8_t q[T * 40];
    static int32_t zero[T];
    sri_kernels ref;
    sri_kernels_fill(SRI_CPU_REF, &ref);
    random_state = 7;
    for (size_t i = 0; i < SRI_COUNT(x); i++) x[i] = random_float();
    ref.attend(&(sri_attention){x, x, x, WIDTH, T, T, WIDTH, 0.1f, y, WIDTH, scratch});
    uint64_t hash = add_to_hash(0xCBF29CE484222325u, y, sizeof y);
    ref.add_norm(y, x, T, WIDTH, &(sri_norm){x, x, 1e-12f}, NULL);
    hash = add_to_hash(hash, y, sizeof y);
    for (size_t i = 0; i < SRI_COUNT(x); i++) y[i] = gelu_of(&ref, x[i]);
    hash = add_to_hash(hash, y, sizeof y);
    ref.quantize(x, T, WIDTH, &(sri_quantized){q, scale, zero, 40});
    hash = add_to_hash(add_to_hash(hash, scale, sizeof scale), zero, sizeof zero);
    for (size_t i = 0; i < T; i++) hash = add_to_hash(hash, q + i * 40, WIDTH);
    ref.dots(x, 4, x, T, WIDTH, y);
    hash = add_to_hash(hash, y, 4 * T * sizeof *y);
    if (hash != HASH_OF_REF) tap_fail("hash is 0x%016llX", (unsigned long long)hash);
}

/* ---- the choice of a level ------------------------------------------------------------------- */

static void a_level_that_is_lacking_falls_back(const void *argument) {
    (void)argument;
    const char *before = getenv("SR_CPU");
    char *saved = before == NULL ? NULL : strdup(before);
    sri_cpu_level below = SRI_CPU_REF;
    for (int i = 0; i <= (int)sri_cpu_best(); i++) {
        sri_cpu_level level = (sri_cpu_level)i;
        bool ours =
            level == SRI_CPU_REF || (level >= SRI_CPU_NEON) == (sri_cpu_best() >= SRI_CPU_NEON);
        if (sri_cpu_has(level)) below = level;
        setenv("SR_CPU", sri_cpu_level_name(level), 1);
        assert_int_equal(sri_cpu_chosen(), ours ? below : sri_cpu_best());
    }
    setenv("SR_CPU", "no such level", 1);
    assert_int_equal(sri_cpu_chosen(), sri_cpu_best());
    unsetenv("SR_CPU");
    assert_int_equal(sri_cpu_chosen(), sri_cpu_best());
    if (saved != NULL) setenv("SR_CPU", saved, 1);
    free(saved);
}

/* ---- main ------------------------------------------------------------------------------------ */

typedef void test_fn(const void *argument);

#define TEST(name)                                                                                 \
    { #name, name }
typedef struct test {
    const char *name;
    test_fn *run;
} test;

static void run_at_every_level(const test *tests, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (int level = FIRST_LEVEL; level <= LAST_LEVEL; level++) {
            variant v = {sri_cpu_level_name((sri_cpu_level)level), (sri_cpu_level)level, NULL};
            char name[100], reason[100];
            snprintf(name, sizeof name, "%s (%s)", tests[i].name, v.name);
            snprintf(reason, sizeof reason, "this CPU lacks %s", v.name);
            tap_run(name, reason, tests[i].run, &v);
        }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) return bench_kernels(argc > 2 ? argv[2] : "");
    static const test at_levels[] = {
        TEST(gemm_s8_is_exact),
        TEST(gemm_f32_gives_the_bits_of_ref),
        TEST(quantize_gives_the_bits_of_ref),
        TEST(add_norm_gives_the_bits_of_ref),
        TEST(attend_gives_the_bits_of_ref),
        TEST(dots_give_the_bits_of_ref),
        TEST(sum_rows_gives_the_bits_of_ref),
        TEST(dots_s8_are_exact),
        TEST(sums_of_signs_are_exact),
        TEST(pick_gives_the_rows_of_ref),
    };
    run_at_every_level(at_levels, SRI_COUNT(at_levels));
#if defined(__x86_64__)
    variant emulated = {"amx, emulated", SRI_CPU_AVX512, amx_emulated_fill};
    tap_run("gemm_s8_is_exact (amx, emulated)", "this CPU lacks avx512", gemm_s8_is_exact,
            &emulated);
#endif
    static const test once[] = {
        TEST(gelu_is_within_a_millionth_everywhere),   TEST(attention_is_within_rounding_of_double),
        TEST(quantised_values_are_within_half_a_step), TEST(damaged_values_do_not_crash),
        TEST(ref_gives_the_bits_that_it_gives_on_x86), TEST(a_level_that_is_lacking_falls_back),
    };
    for (size_t i = 0; i < SRI_COUNT(once); i++) tap_run(once[i].name, "", once[i].run, NULL);
    return tap_done();
}
