"""Others' indexes over the vectors that table_data.py made, and what the right answers are; called by table.py.

    peer_index.py measure DIRECTORY KIND ROWS ENGINE SECONDS   one query at a time and a thousand at once, one and two threads
    peer_index.py recall DIRECTORY KIND ROWS ANSWERS           recall@1 of answers that another program wrote

Each engine is built by two threads, in a process of its own, over vectors that are mapped from their file, so that its memory is
what the process needs beyond that. recall@1 is the share of queries for which the answer's exact score is the
best of all within 1e-6: what ties is as right.
"""

import json
import os
import sys
import time

import numpy as np

DIMENSION = 384


def rows_of(path, count=None):
    rows = np.memmap(path, dtype=np.float32, mode="r").reshape(-1, DIMENSION)
    return rows if count is None else rows[:count]


def anonymous_mb():
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) * 1024 / 1e6


def exact(vectors, queries, ids):
    return np.einsum("qd,qd->q", queries.astype(np.float64), np.asarray(vectors[ids], dtype=np.float64))


def best_scores(directory, kind, count, vectors, queries):
    """The best exact score for each query, by brute force; kept beside the vectors."""
    path = os.path.join(directory, f"{kind}-best-{count}.npy")
    if os.path.exists(path) and os.path.getmtime(path) > os.path.getmtime(os.path.join(directory, kind + ".f32")):
        return np.load(path)
    best, ids = np.full(len(queries), -2, dtype=np.float32), np.zeros(len(queries), dtype=np.int64)
    for first in range(0, count, 20000):
        scores = queries @ np.asarray(vectors[first:first + 20000]).T
        place = scores.argmax(axis=1)
        score = scores[np.arange(len(queries)), place]
        better = score > best
        best[better], ids[better] = score[better], place[better] + first
    result = exact(vectors, queries, ids)
    np.save(path, result)
    return result


def recall(directory, kind, count, ids):
    vectors = rows_of(os.path.join(directory, kind + ".f32"), count)
    queries = np.asarray(rows_of(os.path.join(directory, f"{kind}-queries-{count}.f32")))
    best = best_scores(directory, kind, count, vectors, queries)
    ids = np.asarray(ids)
    known = ids >= 0
    return float(np.mean(known & (exact(vectors, queries, np.where(known, ids, 0)) >= best - 1e-6)))


class Faiss:
    def __init__(self, description, refine=0, ef=0):
        self._description, self._refine, self._ef = description, refine, ef

    def build(self, vectors):
        import faiss
        self._faiss = faiss
        faiss.omp_set_num_threads(2)
        index = faiss.index_factory(DIMENSION, self._description, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
        if self._refine:  # by the vectors where they lie, which are not copied
            self._first = index
            index = faiss.IndexRefineFlat(index, faiss.swig_ptr(vectors))
            index.k_factor = self._refine
        if self._ef:
            index.hnsw.efSearch = self._ef
        self._index = index
        self.version = f"faiss {faiss.__version__}"

    def threads(self, count):
        self._faiss.omp_set_num_threads(count)

    def search(self, queries):
        return self._index.search(queries, 1)[1][:, 0]


class Usearch:
    def __init__(self, expansion):
        self._expansion = expansion

    def build(self, vectors):
        import usearch
        from usearch.index import Index
        self._index = Index(ndim=DIMENSION, metric="ip", dtype="i8", expansion_search=self._expansion)
        self._index.add(np.arange(len(vectors)), vectors, threads=2)
        self.version = f"usearch {usearch.__version__}"

    def threads(self, count):
        self._threads = count

    def search(self, queries):
        found = self._index.search(queries, 1, threads=self._threads)
        return np.asarray(found.keys).reshape(len(queries), -1)[:, 0].astype(np.int64)


ENGINES = {
    "faiss flat": Faiss("Flat"),
    "faiss RaBitQ": Faiss("RaBitQ"),
    "faiss RaBitQ, refined": Faiss("RaBitQ", refine=100),
    "faiss RaBitQ FastScan, refined": Faiss("RaBitQfs", refine=100),
    "faiss HNSW ef 256": Faiss("HNSW32", ef=256),
    "usearch int8 HNSW": Usearch(64),
    "usearch int8 HNSW ef 512": Usearch(512),
}


def measure(engine, queries, seconds):
    times, stop, i = [], time.perf_counter() + seconds, 0
    while i < 200 or (time.perf_counter() < stop and i < 20000):
        query = queries[i % len(queries)][None]
        start = time.perf_counter()
        engine.search(query)
        times.append(time.perf_counter() - start)
        i += 1
    batches, stop = [], time.perf_counter() + seconds
    while len(batches) < 2 or time.perf_counter() < stop:
        start = time.perf_counter()
        engine.search(queries)
        batches.append(time.perf_counter() - start)
    return {"p50_ms": float(np.median(times)) * 1000, "p99_ms": float(np.quantile(times, 0.99)) * 1000,
            "batch_per_second": len(queries) / min(batches), "queries": len(times)}


def run(directory, kind, count, name, seconds):
    vectors = rows_of(os.path.join(directory, kind + ".f32"), count)
    queries = np.array(rows_of(os.path.join(directory, f"{kind}-queries-{count}.f32")))
    engine = ENGINES[name]
    __import__(name.split()[0])
    before, start = anonymous_mb(), time.perf_counter()
    engine.build(vectors)
    built, memory = time.perf_counter() - start, anonymous_mb() - before
    result = {"build_seconds": built, "memory_mb": memory, "version": engine.version}
    for threads in (1, 2):
        engine.threads(threads)
        engine.search(queries[:50])
        result[f"threads_{threads}"] = measure(engine, queries, seconds)
    result["recall_at_1"] = recall(directory, kind, count, engine.search(queries))
    return result


def row_of(line, texts):
    """The row that a line of answers names: by its number, or by its text."""
    answer = line.rstrip("\n").split("\t", 1)[1]
    return texts.get(answer, -1) if texts else int(answer)


def recall_of_file(directory, kind, count, path, by_text):
    texts = {}
    if by_text:
        with open(os.path.join(directory, kind + ".txt"), encoding="utf-8") as file:
            texts = {line.rstrip("\n"): i for i, line in zip(range(count), file)}
    with open(path, encoding="utf-8") as file:
        return {"recall_at_1": recall(directory, kind, count, [row_of(line, texts) for line in file])}


def main():
    mode, directory, kind, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if mode == "measure":
        result = run(directory, kind, count, sys.argv[5], float(sys.argv[6]))
    else:
        result = recall_of_file(directory, kind, count, sys.argv[5], mode == "recall-of-texts")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
