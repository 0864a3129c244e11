"""The old Python package with vectors given, as table.py asks; run by the Python that has it.

    peer_old_table.py DIRECTORY KIND ROWS SECONDS

Its own router, storage and index, as `pip install` gives them; the encoder only looks vectors up.
"""

import contextlib
import itertools
import json
import os
import sys
import tempfile
import time

import numpy as np

DIMENSION, PER_ROUTE = 384, 5


def rows_of(path, count=None):
    rows = np.memmap(path, dtype=np.float32, mode="r").reshape(-1, DIMENSION)
    return rows if count is None else rows[:count]


def anonymous_mb():
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) * 1024 / 1e6


def main():
    directory, kind, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    from synaptoroute import AdaptiveRouter, Route, SQLiteStorage
    from synaptoroute.encoder import BaseEncoder
    vectors = rows_of(os.path.join(directory, kind + ".f32"), count)
    queries = np.array(rows_of(os.path.join(directory, f"{kind}-queries-{count}.f32")))
    with open(os.path.join(directory, kind + ".txt"), encoding="utf-8") as file:
        texts = [line.strip() for line in itertools.islice(file, count)]
    place = {text: i for i, text in enumerate(texts)}

    class Known(BaseEncoder):
        requires_lock, dim = False, DIMENSION

        def encode(self, text):
            return queries[int(text[1:])] if text.startswith("?") else np.array(vectors[place[text]])

        def encode_batch(self, wanted):
            return np.stack([self.encode(text) for text in wanted])

    def opened(path):
        # What is added takes twice its room, and what is removed goes on taking it.
        return AdaptiveRouter(encoder=Known(), storage=SQLiteStorage(path), max_capacity=2 * (count + 60 * PER_ROUTE))

    def timed(work):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    before = anonymous_mb()
    with tempfile.TemporaryDirectory() as place_of_files, contextlib.redirect_stdout(sys.stderr):
        database = os.path.join(place_of_files, "old.db")
        router = opened(database)

        def build():
            for first in range(0, count, PER_ROUTE):
                router.add_route(Route(name=f"route-{first // PER_ROUTE}", utterances=texts[first:first + PER_ROUTE]))

        built, memory = timed(build), anonymous_mb() - before
        router("?0")
        times, stop = [], time.perf_counter() + seconds
        while len(times) < 50 or time.perf_counter() < stop:
            times.append(timed(lambda: router(f"?{len(times) % len(queries)}")))
        route = Route(name="one-more", utterances=texts[:PER_ROUTE])
        pairs = [(timed(lambda: router.add_route(route)), timed(lambda: router.delete_route("one-more")))
                 for _ in range(50)]
        del router

        def start():
            opened(database)("?0")

        started = timed(start)
    print(json.dumps({
        "build_seconds": built, "start_seconds": started, "memory_mb": memory,
        "p50_ms": float(np.median(times)) * 1000, "p99_ms": float(np.quantile(times, 0.99)) * 1000,
        "queries": len(times), "add_median_us": float(np.median([add for add, _ in pairs])) * 1e6,
        "remove_median_us": float(np.median([remove for _, remove in pairs])) * 1e6}))


if __name__ == "__main__":
    main()
