/*
 * bench_kernels.c - times of every entry of the kernel table, at every level that this CPU has; products
 * beside what the core could do (kernels/kernel_speed.h).
 */
#include "test_kernels.h"

#include "kernels/kernel_speed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(64, sri_round_up(bytes + 1, 64));
    if (memory == NULL) abort();
    memset(memory, 0, sri_round_up(bytes + 1, 64));
    return memory;
}

static void report_peak(const char *level, const char *what, double rate, const char *name) {
    if (rate > 0) printf("%-8s %s peak of %-28s %8.1f Gop/s\n", level, what, name, rate * 1e-9);
}

static void bench_product(const sri_kernels *table, const char *level, sri_product_shape shape,
                          size_t most, double peak) {
    size_t rows[16], count = 0;
    sri_product_speed speeds[16];
    for (size_t m = 1; m <= most; m *= m < 16 ? 2 : 4) rows[count++] = m;
    if (!sri_product_speed_of(table, &shape, peak, rows, count, speeds)) abort();
    for (size_t i = 0; i < count; i++) {
        printf("%-8s gemm_%s m %4zu n %4zu k %4zu%s %9.1f us %8.1f Gop/s", level,
               shape.int8 ? "s8 " : "f32", rows[i], shape.n, shape.k,
               shape.activation == SRI_GELU ? " gelu" : "     ", speeds[i].seconds * 1e6,
               speeds[i].operations * 1e-9);
        if (peak > 0 && shape.activation == SRI_LINEAR)
            printf("  %3.0f %% of min(peak, memory)", 100 * speeds[i].share);
        putchar('\n');
        fflush(stdout);
    }
}

/* ---- the other entries ----------------------------------------------------------------------- */

enum { ROWS = 64, HIDDEN = 384, WIDTH = 32, VECTORS = 4096 };

typedef struct row_work {
    const sri_kernels *table;
    float *x, *y;
    sri_quantized quantized;
    sri_attention attention;
} row_work;

static void run_quantize(void *argument) {
    row_work *w = argument;
    w->table->quantize(w->x, ROWS, HIDDEN, &w->quantized);
}

static void run_add_norm(void *argument) {
    row_work *w = argument;
    w->table->add_norm(w->y, w->x, ROWS, HIDDEN, &(sri_norm){w->x, w->x, 1e-12f}, NULL);
}

static void run_attend(void *argument) {
    row_work *w = argument;
    w->table->attend(&w->attention);
}

static void run_dots(void *argument) {
    row_work *w = argument;
    w->table->dots(w->x, 1, w->x, VECTORS, HIDDEN, w->y);
}

static void report(const char *level, const char *what, double seconds, double elements) {
    printf("%-8s %-34s %9.1f us %8.2f G elements/s\n", level, what, seconds * 1e6,
           elements / seconds * 1e-9);
}

static void bench_rows(const sri_kernels *table, const char *level) {
    size_t floats = VECTORS * HIDDEN;
    row_work w = {table, allocate(floats * 4), allocate(floats * 4), {0}, {0}};
    for (size_t i = 0; i < floats; i++) w.x[i] = (float)(i % 97) / 48.0f - 1;
    w.quantized =
        (sri_quantized){allocate(ROWS * HIDDEN), allocate(ROWS * 4), allocate(ROWS * 4), HIDDEN};
    report(level, "quantize 64 x 384", sri_least_seconds(run_quantize, &w), ROWS * HIDDEN);
    report(level, "add_norm 64 x 384", sri_least_seconds(run_add_norm, &w), ROWS * HIDDEN);
    static const size_t lengths[] = {8, 16, 32, 128};
    for (size_t i = 0; i < SRI_COUNT(lengths); i++) {
        size_t t = lengths[i];
        w.attention = (sri_attention){.q = w.x,
                                      .k = w.x + HIDDEN,
                                      .v = w.x + 2 * HIDDEN,
                                      .stride = 3 * HIDDEN,
                                      .rows = t,
                                      .t = t,
                                      .width = WIDTH,
                                      .scale = 0.2f,
                                      .out = w.y,
                                      .out_stride = HIDDEN,
                                      .scratch = allocate(sri_attend_scratch(t, WIDTH) * 4)};
        char what[40];
        snprintf(what, sizeof what, "attend %zu tokens, width 32", t);
        report(level, what, sri_least_seconds(run_attend, &w), (double)(t * t * WIDTH * 2));
        free(w.attention.scratch);
    }
    report(level, "dots 4096 vectors of 384", sri_least_seconds(run_dots, &w), VECTORS * HIDDEN);
    free(w.x), free(w.y), free(w.quantized.q), free(w.quantized.scale), free(w.quantized.zero);
}

/* ---- the search of an index: a chunk of 1,024 rows of 384 dimensions ------------------------- */

enum { CHUNK = 1024, QUERIES = 8 };

typedef struct scan_work {
    const sri_kernels *table;
    size_t queries;
    uint8_t *packed;
    const uint8_t *tables[QUERIES];
    uint16_t *sums[QUERIES];
    const int8_t *codes[CHUNK];
    sri_bounds bounds;
    uint32_t *rows;
    float *found;
    int32_t *dots;
} scan_work;

static void run_sum_signs(void *argument) {
    scan_work *w = argument;
    const sri_signs *signs = &w->table->signs;
    signs->sum(w->packed, CHUNK / SRI_SIGN_ROWS, sri_sign_groups(signs, HIDDEN), w->tables,
               w->queries, w->sums);
}

static void run_pick(void *argument) {
    scan_work *w = argument;
    w->table->pick(&w->bounds, w->rows, w->found);
}

static void run_dots_s8(void *argument) {
    scan_work *w = argument;
    w->table->dots_s8((const int8_t *)w->packed, 2, w->codes, CHUNK, HIDDEN, w->dots);
}

static void bench_scan(const sri_kernels *table, const char *level) {
    const sri_signs *signs = &table->signs;
    size_t groups = sri_sign_groups(signs, HIDDEN), entries = groups << signs->group;
    int8_t *codes = allocate(CHUNK * HIDDEN);
    uint8_t *tables = allocate(entries);
    uint16_t *sums = allocate(QUERIES * CHUNK * sizeof *sums);
    float *floats = allocate(CHUNK * sizeof *floats);
    scan_work w = {.table = table,
                   .packed = allocate(CHUNK / SRI_SIGN_ROWS * sri_sign_bytes(signs, groups)),
                   .rows = allocate(CHUNK * 4),
                   .found = allocate(CHUNK * 4),
                   .dots = allocate(2 * CHUNK * 4),
                   .bounds = {sums, floats, floats, CHUNK, 1, 0, 1}};
    for (size_t q = 0; q < QUERIES; q++) w.tables[q] = tables, w.sums[q] = sums + q * CHUNK;
    for (size_t i = 0; i < CHUNK; i++) w.codes[i] = codes + i * HIDDEN;
    for (w.queries = 1; w.queries <= QUERIES; w.queries *= QUERIES)
        report(level, w.queries == 1 ? "signs of 1024 x 384" : "signs of 1024 x 384, 8 queries",
               sri_least_seconds(run_sum_signs, &w), (double)(w.queries * CHUNK * HIDDEN));
    report(level, "pick from 1024, none", sri_least_seconds(run_pick, &w), CHUNK);
    report(level, "dots_s8 1024 x 384, 2 queries", sri_least_seconds(run_dots_s8, &w),
           2 * CHUNK * HIDDEN);
    free(codes), free(tables), free(sums), free(floats);
    free(w.packed), free(w.rows), free(w.found), free(w.dots);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void bench_level(sri_cpu_level level) {
    /* A model's four products: queries, keys and values; attention's output; out (without gelu, too,
     * to be compared with the peak) and in again. */
    static const struct {
        size_t n, k;
        sri_activation activation;
    } shapes[] = {{1152, 384, SRI_LINEAR},
                  {384, 384, SRI_LINEAR},
                  {1536, 384, SRI_LINEAR},
                  {1536, 384, SRI_GELU},
                  {384, 1536, SRI_LINEAR}};
    const char *name = sri_cpu_level_name(level);
    sri_kernels table;
    sri_kernels_fill(level, &table);
    const char *instruction;
    double int8 = sri_peak_int8(level, &instruction);
    report_peak(name, "int8", int8, instruction);
    double fp32 = sri_peak_fp32(level, &instruction);
    report_peak(name, "fp32", fp32, instruction);
    size_t most = level == SRI_CPU_REF ? 16 : 4096;
    for (size_t i = 0; i < SRI_COUNT(shapes); i++)
        bench_product(&table, name,
                      (sri_product_shape){true, shapes[i].n, shapes[i].k, shapes[i].activation},
                      most, int8);
    bench_product(&table, name, (sri_product_shape){false, shapes[0].n, shapes[0].k, SRI_LINEAR},
                  SRI_MIN(most, 256u), fp32);
    bench_rows(&table, name);
    bench_scan(&table, name);
}

int bench_kernels(const char *wanted) {
    for (int level = 0; level < SRI_CPU_LEVELS; level++) {
        const char *name = sri_cpu_level_name((sri_cpu_level)level);
        if (wanted[0] != '\0' && strcmp(wanted, name) != 0) continue;
        if (sri_cpu_has((sri_cpu_level)level))
            bench_level((sri_cpu_level)level);
        else
            printf("%-8s SKIPPED: this CPU lacks it\n", name);
    }
    return 0;
}
