/*
 * softmax_dispatch.c - picks the solver's loops for a level of CPU.
 */
#include "decide/softmax_loops.h"

#include <pthread.h>

static sri_softmax_loops chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void sri_softmax_loops_fill(sri_cpu_level level, sri_softmax_loops *loops) {
    sri_softmax_loops_base(loops);
#if defined(__x86_64__)
    if (level >= SRI_CPU_AVX2) sri_softmax_loops_avx2(loops);
    if (level >= SRI_CPU_AVX512) sri_softmax_loops_avx512(loops);
#else
    (void)level;
#endif
}

static void choose(void) { sri_softmax_loops_fill(sri_cpu_chosen(), &chosen); }

const sri_softmax_loops *sri_softmax_loops_get(void) {
    pthread_once(&once, choose);
    return &chosen;
}
