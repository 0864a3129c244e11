/*
 * faiss_shim.h - the little of Faiss that near.c uses, in C: graphs and inverted lists of 8-bit
 * rows.
 *
 * Faiss is C++ and Debian's package has no C API objects; faiss_shim.cpp is what is compiled as
 * C++, and nothing is thrown out of it. Rows are numbered in the order of adding. An object that is
 * no longer added to may be searched by any number of threads at once. Faiss takes memory from
 * C++'s own allocator. The Faiss Library: M. Douze et al., 2024; HNSW: Malkov and Yashunin, 2018.
 */
#ifndef SRI_FAISS_SHIM_H
#define SRI_FAISS_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sri_faiss sri_faiss;

/* For rows of `dimension` floats, compared by dot product. `lists` 0: an HNSW graph; otherwise so
 * many inverted lists. The first `n` rows of `sample` are what it learns from: ranges of values,
 * and the middles of lists. NULL when memory is short or Faiss refuses. */
sri_faiss *sri_faiss_make(size_t dimension, size_t lists, const float *sample, size_t n);
void sri_faiss_free(sri_faiss *faiss); /* NULL is allowed */

/* Adds `n` rows, on this thread alone. False when memory is short. */
bool sri_faiss_add(sri_faiss *faiss, const float *rows, size_t n);

/* The numbers of at most `n` rows that are probably the nearest to the query, best first; returns
 * how many. `effort` is what is kept in view on the way (HNSW's efSearch), or the lists that are
 * looked at. 0 when memory is short. */
size_t sri_faiss_search(const sri_faiss *faiss, const float *query, size_t n, size_t effort,
                        int64_t *numbers);

#ifdef __cplusplus
}
#endif

#endif
