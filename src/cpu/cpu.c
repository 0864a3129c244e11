/*
 * cpu.c - the levels of this CPU, and the choice of one.
 *
 * A level is a set of features: asked of the CPU (x86: CPUID; arm64: what the system reports), and
 * of the operating system, since a register that it does not save is lost at the next switch of
 * threads, however willing the CPU is (x86: XCR0, and for AMX a permission). Levels rather than
 * single flags, because every flag on its own doubles what has to be tested. The sets are found
 * once.
 */
#include "cpu/cpu.h"

#include "base/base.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[SRI_CPU_LEVELS] = {
    [SRI_CPU_REF] = "ref",       [SRI_CPU_AVX2] = "avx2",       [SRI_CPU_AVXVNNI] = "avxvnni",
    [SRI_CPU_AVX512] = "avx512", [SRI_CPU_VNNI] = "vnni",       [SRI_CPU_AMX] = "amx",
    [SRI_CPU_NEON] = "neon",     [SRI_CPU_DOTPROD] = "dotprod", [SRI_CPU_I8MM] = "i8mm"};

static unsigned levels; /* bit i: level i */
static pthread_once_t once = PTHREAD_ONCE_INIT;

const char *sri_cpu_level_name(sri_cpu_level level) { return level_names[level]; }

#define BIT(level)       (1u << (level))
#define ALL(value, mask) (((value) & (mask)) == (mask))

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux gives a process the 8 KiB of tile registers when it asks; threads started later have them
 * too. */
static bool may_use_tiles(void) {
#if defined(__linux__)
    enum { GET_PERMISSION = 0x1022, ASK_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned long allowed = 0;
    if (syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA) != 0) return false;
    return syscall(SYS_arch_prctl, GET_PERMISSION, &allowed) == 0 && (allowed >> TILE_DATA & 1);
#else
    return false;
#endif
}

static unsigned find_levels(void) {
    enum { XMM_YMM = 0x6, MASKS_ZMM = 0xE0, TILES = 0x60000 };
    enum { AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25, AVX_VNNI = 1 << 4 };
    uint32_t a, b, c, d, a1, b1, c1, d1;
    unsigned found = BIT(SRI_CPU_REF);
    if (!__get_cpuid(1, &a, &b, &c, &d) || !ALL(c, bit_OSXSAVE | bit_AVX | bit_FMA)) return found;
    uint64_t saved = read_xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    if (!ALL(b, bit_AVX2) || !ALL(saved, XMM_YMM)) return found;
    found |= BIT(SRI_CPU_AVX2);
    if (a >= 1 && __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) && ALL(a1, AVX_VNNI))
        found |= BIT(SRI_CPU_AVXVNNI);
    if (!ALL(b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) || !ALL(saved, MASKS_ZMM))
        return found;
    found |= BIT(SRI_CPU_AVX512);
    if (!ALL(c, bit_AVX512VNNI | bit_AVX512VPOPCNTDQ | bit_AVX512VBMI)) return found;
    found |= BIT(SRI_CPU_VNNI);
    if (ALL(d, AMX_TILE | AMX_INT8) && ALL(saved, TILES) && may_use_tiles())
        found |= BIT(SRI_CPU_AMX);
    return found;
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>

static void read_features(bool *dot_product, bool *matrices) {
    enum { ASIMDDP = 1 << 20, I8MM = 1 << 13 };
    *dot_product = ALL(getauxval(AT_HWCAP), ASIMDDP);
    *matrices = ALL(getauxval(AT_HWCAP2), I8MM);
}
#elif defined(__APPLE__)
#include <sys/sysctl.h>

static bool has_feature(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

static void read_features(bool *dot_product, bool *matrices) {
    *dot_product = has_feature("hw.optional.arm.FEAT_DotProd");
    *matrices = has_feature("hw.optional.arm.FEAT_I8MM");
}
#else
static void read_features(bool *dot_product, bool *matrices) { *dot_product = *matrices = false; }
#endif

static unsigned find_levels(void) {
    bool dot_product, matrices;
    read_features(&dot_product, &matrices);
    unsigned found = BIT(SRI_CPU_REF) | BIT(SRI_CPU_NEON);
    if (dot_product) found |= BIT(SRI_CPU_DOTPROD);
    if (dot_product && matrices) found |= BIT(SRI_CPU_I8MM);
    return found;
}
#else
static unsigned find_levels(void) { return BIT(SRI_CPU_REF); }
#endif

static void find_once(void) { levels = find_levels(); }

bool sri_cpu_has(sri_cpu_level level) {
    pthread_once(&once, find_once);
    return (levels & BIT(level)) != 0;
}

/* The highest level up to `level` that this CPU has; `ref` at least. */
static sri_cpu_level best_up_to(sri_cpu_level level) {
    while (level > SRI_CPU_REF && !sri_cpu_has(level)) level--;
    return level;
}

sri_cpu_level sri_cpu_best(void) { return best_up_to(SRI_CPU_LEVELS - 1); }

/* Whether a CPU of our family may have the level. */
static bool is_ours(sri_cpu_level level) {
#if defined(__x86_64__)
    return level < SRI_CPU_NEON;
#elif defined(__aarch64__)
    return level == SRI_CPU_REF || level >= SRI_CPU_NEON;
#else
    return level == SRI_CPU_REF;
#endif
}

sri_cpu_level sri_cpu_chosen(void) {
    sri_cpu_level best = sri_cpu_best();
    const char *wanted = getenv("SR_CPU");
    if (wanted == NULL || wanted[0] == '\0') return best;
    int level = 0;
    while (level < SRI_CPU_LEVELS &&
           (!is_ours((sri_cpu_level)level) || strcmp(wanted, level_names[level]) != 0))
        level++;
    if (level == SRI_CPU_LEVELS) {
        sri_log(SR_LOG_WARN, "SR_CPU=%s is not a level of this family of CPUs; using %s", wanted,
                level_names[best]);
        return best;
    }
    sri_cpu_level chosen = best_up_to((sri_cpu_level)level);
    if ((int)chosen != level)
        sri_log(SR_LOG_WARN, "SR_CPU=%s: this CPU lacks it; using %s", wanted, level_names[chosen]);
    return chosen;
}
