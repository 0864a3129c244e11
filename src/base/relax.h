/*
 * relax.h - one turn of a loop that waits for another thread: tells the processor so.
 */
#ifndef SRI_RELAX_H
#define SRI_RELAX_H

static inline void sri_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
