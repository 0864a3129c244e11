/*
 * cpu.c - feature detection by CPUID, and by XCR0 for what the operating system saves at a switch.
 *
 * A register that the system does not save is lost at the next context switch, however willing the
 * CPU is: both must agree. Levels rather than single flags, because every flag on its own doubles
 * what has to be tested.
 */
#include "cpu/cpu.h"

#include "base/base.h"

#include <stdlib.h>
#include <string.h>

static const char *const level_names[SRI_CPU_LEVELS] = {"ref", "avx2", "avx512", "vnni"};

const char *sri_cpu_level_name(sri_cpu_level level) { return level_names[level]; }

#if defined(__x86_64__)
#include <cpuid.h>

#define ALL(value, mask) (((value) & (mask)) == (mask))

static uint64_t read_xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

sri_cpu_level sri_cpu_best(void) {
    enum { XMM_YMM = 0x6, MASKS_ZMM = 0xE0 };
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !ALL(c, bit_OSXSAVE | bit_AVX | bit_FMA))
        return SRI_CPU_REF;
    uint64_t saved = read_xcr0();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return SRI_CPU_REF;
    if (!ALL(b, bit_AVX2) || !ALL(saved, XMM_YMM)) return SRI_CPU_REF;
    if (!ALL(b, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) || !ALL(saved, MASKS_ZMM))
        return SRI_CPU_AVX2;
    return ALL(c, bit_AVX512VNNI | bit_AVX512VPOPCNTDQ) ? SRI_CPU_VNNI : SRI_CPU_AVX512;
}
#else
sri_cpu_level sri_cpu_best(void) { return SRI_CPU_REF; }
#endif

sri_cpu_level sri_cpu_chosen(void) {
    sri_cpu_level best = sri_cpu_best();
    const char *wanted = getenv("SR_CPU");
    if (wanted == NULL || wanted[0] == '\0') return best;
    for (int level = 0; level < SRI_CPU_LEVELS; level++) {
        if (strcmp(wanted, level_names[level]) != 0) continue;
        if (level <= (int)best) return (sri_cpu_level)level;
        sri_log(SR_LOG_WARN, "SR_CPU=%s: this CPU lacks it; using %s", wanted, level_names[best]);
        return best;
    }
    sri_log(SR_LOG_WARN, "SR_CPU=%s is not a level (ref, avx2, avx512, vnni); using %s", wanted,
            level_names[best]);
    return best;
}
