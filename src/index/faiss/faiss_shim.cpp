/* faiss_shim.cpp - see faiss_shim.h. */
#include "index/faiss/faiss_shim.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexScalarQuantizer.h>
#include <omp.h>

struct sri_faiss {
    std::unique_ptr<faiss::IndexFlatIP> middles; /* of lists, which it outlives */
    std::unique_ptr<faiss::Index> index;
    bool lists;
};

namespace {

const int LINKS = 32;        /* of a row of the graph, to each side */
const int ROUNDS = 10;       /* of finding the middles of lists */
const int BUILD_EFFORT = 80; /* HNSW's efConstruction */

/* Others' threads stay as they are: the setting is one for each calling thread. */
struct OneThread {
    int before = omp_get_max_threads();
    OneThread() { omp_set_num_threads(1); }
    ~OneThread() { omp_set_num_threads(before); }
};

} // namespace

sri_faiss *sri_faiss_make(size_t dimension, size_t lists, const float *sample, size_t n) try {
    OneThread one;
    auto made = std::make_unique<sri_faiss>();
    made->lists = lists > 0;
    if (lists > 0) {
        made->middles = std::make_unique<faiss::IndexFlatIP>(dimension);
        made->index = std::make_unique<faiss::IndexIVFScalarQuantizer>(
            made->middles.get(), dimension, lists, faiss::ScalarQuantizer::QT_8bit,
            faiss::METRIC_INNER_PRODUCT, false);
        static_cast<faiss::IndexIVF *>(made->index.get())->cp.niter = ROUNDS;
    } else {
        auto graph = std::make_unique<faiss::IndexHNSWSQ>(
            (int)dimension, faiss::ScalarQuantizer::QT_8bit, LINKS, faiss::METRIC_INNER_PRODUCT);
        graph->hnsw.efConstruction = BUILD_EFFORT;
        made->index = std::move(graph);
    }
    made->index->train((faiss::Index::idx_t)n, sample);
    return made.release();
} catch (...) {
    return nullptr;
}

void sri_faiss_free(sri_faiss *faiss) { delete faiss; }

bool sri_faiss_add(sri_faiss *faiss, const float *rows, size_t n) try {
    OneThread one;
    faiss->index->add((faiss::Index::idx_t)n, rows);
    return true;
} catch (...) {
    return false;
}

size_t sri_faiss_search(const sri_faiss *faiss, const float *query, size_t n, size_t effort,
                        int64_t *numbers) try {
    OneThread one;
    std::vector<float> scores(n);
    std::vector<faiss::Index::idx_t> found(n, -1);
    faiss::SearchParametersHNSW graph;
    faiss::SearchParametersIVF lists;
    graph.efSearch = (int)effort;
    lists.nprobe = effort;
    const faiss::SearchParameters *parameters = &graph;
    if (faiss->lists) parameters = &lists;
    faiss->index->search(1, query, (faiss::Index::idx_t)n, scores.data(), found.data(), parameters);
    size_t count = 0;
    for (auto number : found)
        if (number >= 0) numbers[count++] = number;
    return count;
} catch (...) {
    return 0;
}
