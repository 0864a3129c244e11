/*
 * bench_kernels.c - times of every entry of the kernel table, at every level that this CPU has.
 *
 * A product is compared with what the core could do: the least time is its multiplications at the
 * instruction peak, or its packed weights at the rate at which memory of their size is read,
 * whichever is longer. Both are measured here: the peak with a loop of independent instructions
 * (those that 32 products at that level cannot do without), the rate by summing memory. Weights of
 * LAYERS matrices take turns, as a model's layers do. All times are CPU time of this process, the
 * least of several rounds, so that a loaded machine disturbs them little.
 */
#include "test_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYERS = 12 };

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(64, sri_round_up(bytes + 1, 64));
    if (memory == NULL) abort();
    memset(memory, 0, sri_round_up(bytes + 1, 64));
    return memory;
}

/* Seconds of one call of `run`: the least of some rounds, of at least 10 calls or 20 ms in all. */
typedef void work_fn(void *argument);

static double least_seconds(work_fn *run, void *argument) {
    double least = 1e9, begin = cpu_seconds();
    for (int round = 0; round < 10000 && (round < 3 || cpu_seconds() - begin < 0.03); round++) {
        double start = cpu_seconds();
        run(argument);
        least = fmin(least, cpu_seconds() - start);
    }
    return least;
}

/* ---- the peak of a core ---------------------------------------------------------------------- */

enum { PEAK_ROUNDS = 20000 };

/* Twelve times `body` with registers 0 to 11 as sums; 12 to 15 may hold what it likes. */
#define TWELVE(body)                                                                               \
    body("0") body("1") body("2") body("3") body("4") body("5") body("6") body("7") body("8")      \
        body("9") body("10") body("11")
#define PEAK(name, body, ...)                                                                      \
    static void name(void *unused) {                                                               \
        (void)unused;                                                                              \
        for (int i = 0; i < PEAK_ROUNDS; i++) __asm__ volatile(TWELVE(body)::: __VA_ARGS__);       \
    }

typedef struct peak {
    const char *instructions;
    work_fn *run;
    double operations; /* of each of the twelve: multiplications and additions */
} peak;

#if defined(__x86_64__)
#define YMM                                                                                        \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define MADD_YMM(s)                                                                                \
    "vpmaddwd %%ymm14, %%ymm15, %%ymm12\n\tvpaddd %%ymm12, %%ymm" s ", %%ymm" s "\n\t"
#define MADD_ZMM(s)                                                                                \
    "vpmaddwd %%zmm14, %%zmm15, %%zmm12\n\tvpaddd %%zmm12, %%zmm" s ", %%zmm" s "\n\t"
#define DP_YMM(s)  "%{vex%} vpdpbusd %%ymm14, %%ymm15, %%ymm" s "\n\t"
#define DP_ZMM(s)  "vpdpbusd %%zmm14, %%zmm15, %%zmm" s "\n\t"
#define FMA_YMM(s) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" s "\n\t"
#define FMA_ZMM(s) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" s "\n\t"
#define ZERO(s)    "vpxor %%xmm" s ", %%xmm" s ", %%xmm" s "\n\t"
PEAK(zero_sums, ZERO, YMM)
PEAK(madd_ymm, MADD_YMM, YMM)
PEAK(madd_zmm, MADD_ZMM, YMM)
PEAK(dp_ymm, DP_YMM, YMM)
PEAK(dp_zmm, DP_ZMM, YMM)
PEAK(fma_ymm, FMA_YMM, YMM)
PEAK(fma_zmm, FMA_ZMM, YMM)

static peak int8_peak(sri_cpu_level level) {
    zero_sums(NULL); /* so that no sum is a denormal */
    switch (level) {
    case SRI_CPU_AVX2: return (peak){"vpmaddwd + vpaddd, 256 bits", madd_ymm, 32};
    case SRI_CPU_AVXVNNI: return (peak){"vpdpbusd, 256 bits", dp_ymm, 64};
    case SRI_CPU_AVX512: return (peak){"vpmaddwd + vpaddd, 512 bits", madd_zmm, 64};
    case SRI_CPU_VNNI: return (peak){"vpdpbusd, 512 bits", dp_zmm, 128};
    default: return (peak){NULL, NULL, 0};
    }
}

static peak fp32_peak(sri_cpu_level level) {
    zero_sums(NULL);
    if (level == SRI_CPU_AVX2 || level == SRI_CPU_AVXVNNI)
        return (peak){"vfmadd231ps, 256 bits", fma_ymm, 16};
    if (level >= SRI_CPU_AVX512) return (peak){"vfmadd231ps, 512 bits", fma_zmm, 32};
    return (peak){NULL, NULL, 0};
}
#elif defined(__aarch64__)
#define V                                                                                          \
    "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", \
        "v15"
#define MULL(s)                                                                                    \
    "smull v12.8h, v14.8b, v15.8b\n\tsmlal2 v12.8h, v14.16b, v15.16b\n\tsadalp v" s                \
    ".4s, v12.8h\n\t"
#define DOT(s)  ".arch armv8.2-a+dotprod\n\tsdot v" s ".4s, v14.16b, v15.16b\n\t"
#define MMLA(s) ".arch armv8.2-a+i8mm\n\tusmmla v" s ".4s, v14.16b, v15.16b\n\t"
#define FMLA(s) "fmla v" s ".4s, v14.4s, v15.4s\n\t"
PEAK(mull, MULL, V)
PEAK(dot, DOT, V)
PEAK(mmla, MMLA, V)
PEAK(fmla, FMLA, V)

static peak int8_peak(sri_cpu_level level) {
    switch (level) {
    case SRI_CPU_NEON: return (peak){"smull + smlal2 + sadalp", mull, 32};
    case SRI_CPU_DOTPROD: return (peak){"sdot", dot, 32};
    case SRI_CPU_I8MM: return (peak){"usmmla", mmla, 64};
    default: return (peak){NULL, NULL, 0};
    }
}

static peak fp32_peak(sri_cpu_level level) {
    return level >= SRI_CPU_NEON ? (peak){"fmla", fmla, 8} : (peak){NULL, NULL, 0};
}
#else
static peak int8_peak(sri_cpu_level level) {
    (void)level;
    return (peak){NULL, NULL, 0};
}
static peak fp32_peak(sri_cpu_level level) { return int8_peak(level); }
#endif

/* Operations a second, 0 where the level has no peak of its own. */
static double measure_peak(const char *level, const char *what, peak p) {
    if (p.run == NULL) return 0;
    double rate = p.operations * 12 * PEAK_ROUNDS / least_seconds(p.run, NULL);
    printf("%-8s %s peak of %-28s %8.1f Gop/s\n", level, what, p.instructions, rate * 1e-9);
    return rate;
}

typedef struct memory {
    const uint64_t *words;
    size_t count;
} memory;

/* Loads only, eight at a time of what the compiler's widest vectors hold. */
typedef uint64_t wide __attribute__((vector_size(64), aligned(64), may_alias));
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static void
read_memory(void *argument) {
    const memory *m = argument;
    const wide *at = (const wide *)m->words, *end = at + m->count / 8;
    wide a = {0}, b = a, c = a, d = a;
    for (; at + 4 <= end; at += 4) a |= at[0], b |= at[1], c |= at[2], d |= at[3];
    a |= b | (c | d);
    __asm__ volatile("" ::"m"(a));
}

static double bytes_a_second(const void *from, size_t bytes) {
    memory m = {from, bytes / sizeof(uint64_t)};
    return (double)bytes / least_seconds(read_memory, &m);
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct product_work {
    const sri_kernels *table;
    bool int8;
    size_t m, k, packed_size;
    char *packed; /* of LAYERS matrices */
    sri_quantized quantized;
    float *x;
    sri_product product;
} product_work;

/* All layers once. */
static void run_product(void *argument) {
    product_work *w = argument;
    for (int layer = 0; layer < LAYERS; layer++) {
        const void *packed = w->packed + (size_t)layer * w->packed_size;
        if (w->int8)
            w->table->gemm_s8.run(&w->quantized, w->m, packed, w->k, &w->product);
        else
            w->table->gemm_f32.run(w->x, w->m, packed, w->k, &w->product);
    }
}

static void pack_layers(product_work *w, size_t n, size_t k) {
    size_t size =
        w->int8 ? w->table->gemm_s8.packed_size(n, k) : w->table->gemm_f32.packed_size(n, k);
    w->packed_size = sri_round_up(size, 64);
    w->packed = allocate(w->packed_size * LAYERS);
    float *parameters = allocate(n * 4);
    void *weights = allocate(n * k * (w->int8 ? 1 : 4));
    for (int layer = 0; layer < LAYERS; layer++) {
        void *packed = w->packed + (size_t)layer * w->packed_size;
        if (w->int8)
            w->table->gemm_s8.pack(&(sri_weights_s8){weights, parameters, parameters, n, k},
                                   packed);
        else
            w->table->gemm_f32.pack(&(sri_weights_f32){weights, parameters, n, k}, packed);
    }
    free(parameters);
    free(weights);
}

static void bench_product(const sri_kernels *table, const char *level, bool int8, size_t n,
                          size_t k, sri_activation activation, size_t most, double peak_rate) {
    product_work w = {.table = table, .int8 = int8, .k = k};
    pack_layers(&w, n, k);
    double bandwidth = bytes_a_second(w.packed, w.packed_size * LAYERS);
    w.quantized = (sri_quantized){allocate(most * k), allocate(most * 4), allocate(most * 4), k};
    w.x = allocate(most * k * 4);
    w.product = (sri_product){allocate(most * n * 4), n, 0, n, activation};
    for (w.m = 1; w.m <= most; w.m *= w.m < 16 ? 2 : 4) {
        double seconds = least_seconds(run_product, &w) / LAYERS;
        double operations = 2.0 * (double)(w.m * n * k);
        double ideal =
            fmax(peak_rate > 0 ? operations / peak_rate : 0, (double)w.packed_size / bandwidth);
        printf("%-8s gemm_%s m %4zu n %4zu k %4zu%s %9.1f us %8.1f Gop/s", level,
               int8 ? "s8 " : "f32", w.m, n, k, activation == SRI_GELU ? " gelu" : "     ",
               seconds * 1e6, operations / seconds * 1e-9);
        if (peak_rate > 0 && activation == SRI_LINEAR)
            printf("  %3.0f %% of min(peak, memory)", 100 * ideal / seconds);
        putchar('\n');
        fflush(stdout);
    }
    free(w.packed), free(w.quantized.q), free(w.quantized.scale), free(w.quantized.zero);
    free(w.x), free(w.product.y);
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
    w->table->add_norm(w->y, w->x, ROWS, HIDDEN, w->x, w->x, 1e-12f);
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
    report(level, "quantize 64 x 384", least_seconds(run_quantize, &w), ROWS * HIDDEN);
    report(level, "add_norm 64 x 384", least_seconds(run_add_norm, &w), ROWS * HIDDEN);
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
        report(level, what, least_seconds(run_attend, &w), (double)(t * t * WIDTH * 2));
        free(w.attention.scratch);
    }
    report(level, "dots 4096 vectors of 384", least_seconds(run_dots, &w), VECTORS * HIDDEN);
    free(w.x), free(w.y), free(w.quantized.q), free(w.quantized.scale), free(w.quantized.zero);
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
    double int8 = measure_peak(name, "int8", int8_peak(level));
    double fp32 = measure_peak(name, "fp32", fp32_peak(level));
    size_t most = level == SRI_CPU_REF ? 16 : 4096;
    for (size_t i = 0; i < SRI_COUNT(shapes); i++)
        bench_product(&table, name, true, shapes[i].n, shapes[i].k, shapes[i].activation, most,
                      int8);
    bench_product(&table, name, false, shapes[0].n, shapes[0].k, SRI_LINEAR, SRI_MIN(most, 256u),
                  fp32);
    bench_rows(&table, name);
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
