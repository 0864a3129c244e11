/* test_kernels.h - what the files of the kernels' tests share. */
#ifndef SR_TEST_KERNELS_H
#define SR_TEST_KERNELS_H

#include "kernels/kernels.h"

/* Prints times of one level, or of all where `level` is empty; returns main's result. */
int bench_kernels(const char *level);

#if defined(__x86_64__)
/* Overlays the AMX product with its instructions emulated (amx_emulated.c); needs AVX-512. */
void amx_emulated_fill(sri_kernels *table);
#endif

#endif
