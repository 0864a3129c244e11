"""Vectors and texts of tables to be searched; called by table.py with the Python of its environment.

    table_data.py synthetic DIRECTORY
    table_data.py real DIRECTORY --data DIR --library FILE [--rows N] [--threads N]

Writes into DIRECTORY, raw and row by row, and keeps what is there:

    KIND.f32             vectors of the table, float32, Euclidean length 1
    KIND.txt             the text of each, one to a line
    KIND-queries-N.f32   1,000 held-out queries for the table that is the first N vectors

A route is five vectors in a row, so that a table of N utterances has N / 5 routes.

synthetic   1,000,000 vectors of 384 that lie as a text encoder's do: all share a direction (the cosine of two that
            have nothing to do with each other is about 0.45), variance falls off along an arbitrary basis, routes stand
            in groups around 400 subjects. A query is one more utterance of a route of the table.
real        CLINC150's and Banking77's training and validation utterances, each with eight or nine variants
            made by one to three typos, encoded by the default model. A query is an utterance of the test splits.
"""

import argparse
import os
import random
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, os.pardir, os.pardir), os.path.join(HERE, os.pardir, os.pardir, "peers")]
import bench_common as common

DIMENSION, PER_ROUTE, QUERIES, BLOCK = 384, 5, 1000, 1000
SIZES = (1000, 10000, 50000, 250000, 1000000)


def written(path, rows):
    return os.path.exists(path) and os.path.getsize(path) == rows * DIMENSION * 4


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class Synthetic:
    def __init__(self):
        source = np.random.default_rng(6)
        self._basis = np.linalg.qr(source.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)
        spread = np.arange(1, DIMENSION + 1) ** -0.35
        self._spread = (spread / np.linalg.norm(spread)).astype(np.float32)
        self._common = source.standard_normal(DIMENSION) / np.sqrt(DIMENSION)
        self._subjects = self._draw(source, 400)

    def _draw(self, source, count):
        """Vectors of length about 1, spread unevenly."""
        return source.standard_normal((count, DIMENSION), dtype=np.float32) * self._spread @ self._basis

    def centres(self, block):
        """The middles of routes block * BLOCK onwards."""
        source = np.random.default_rng((7, block))
        subject = self._subjects[source.integers(0, len(self._subjects), BLOCK)]
        return 0.66 * self._common + 0.40 * subject + 0.45 * self._draw(source, BLOCK)

    def utterances(self, block):
        source = np.random.default_rng((8, block))
        return unit(np.repeat(self.centres(block), PER_ROUTE, axis=0) + 0.42 * self._draw(source, BLOCK * PER_ROUTE))

    def queries(self, rows):
        source = np.random.default_rng((9, rows))
        routes = np.sort(source.integers(0, rows // PER_ROUTE, QUERIES))
        middles = np.concatenate([self.centres(block)[routes[routes // BLOCK == block] % BLOCK]
                                  for block in np.unique(routes // BLOCK)])
        return source.permutation(unit(middles + 0.42 * self._draw(source, QUERIES)))


def make_synthetic(directory):
    rows, path = max(SIZES), os.path.join(directory, "synthetic.f32")
    made = Synthetic()
    if not written(path, rows):
        with open(path, "wb") as file:
            for block in range(rows // PER_ROUTE // BLOCK):
                made.utterances(block).tofile(file)
        with open(os.path.join(directory, "synthetic.txt"), "w", encoding="utf-8") as file:
            file.writelines(f"what somebody says who wants {i // PER_ROUTE}, in words number {i}\n"
                            for i in range(rows))
    for size in SIZES:
        made.queries(size).tofile(os.path.join(directory, f"synthetic-queries-{size}.f32"))


def typo(text, source):
    """The text after one edit: a letter left out, doubled, replaced, or two swapped."""
    i = source.randrange(len(text))
    kind = source.randrange(4)
    letter = source.choice("abcdefghijklmnopqrstuvwxyz")
    if kind == 0 and len(text) > 1:
        return text[:i] + text[i + 1:]
    if kind == 1:
        return text[:i] + text[i] + text[i:]
    if kind == 2 and i + 1 < len(text):
        return text[:i] + text[i + 1] + text[i] + text[i + 2:]
    return text[:i] + letter + text[i + 1:]


def with_typos(texts, rows):
    """`rows` different texts: each text followed by its variants."""
    source = random.Random(6)
    texts = sorted(set(" ".join(text.split()) for text in texts))
    source.shuffle(texts)
    known, result = set(texts), []
    for i, text in enumerate(texts):
        wanted = rows * (i + 1) // len(texts) - rows * i // len(texts)
        result.append(text)
        while wanted > 1:
            variant = text
            for _ in range(source.randint(1, 3)):
                variant = typo(variant, source)
            variant = variant.strip()
            if variant and variant not in known:
                known.add(variant)
                result.append(variant)
                wanted -= 1
    return result


def make_real(directory, data, library, rows, threads):
    import peer_engines
    path = os.path.join(directory, "real.f32")
    texts = with_typos([text for text, _ in common.banking77(data, "train")
                        + common.clinc150(data, "train", "val")], rows)
    if written(path, rows):
        return
    engine = peer_engines.Ours(library, os.path.join(common.ROOT, "models", "bge-small-en-v1.5"), threads)
    queries = engine.encode(common.sample(data, QUERIES))
    for size in SIZES:
        if size <= rows:
            queries.tofile(os.path.join(directory, f"real-queries-{size}.f32"))
    with open(os.path.join(directory, "real.txt"), "w", encoding="utf-8") as file:
        file.writelines(text + "\n" for text in texts)
    with open(path + ".part", "wb") as file:
        for i in range(0, rows, 5000):
            engine.encode(texts[i:i + 5000]).tofile(file)
            print(f"table_data.py: {min(i + 5000, rows):,} of {rows:,} texts encoded", file=sys.stderr)
    os.replace(path + ".part", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("kind", choices=("synthetic", "real"))
    parser.add_argument("directory")
    parser.add_argument("--data")
    parser.add_argument("--library")
    parser.add_argument("--rows", type=int, default=250000)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    os.makedirs(options.directory, exist_ok=True)
    if options.kind == "synthetic":
        make_synthetic(options.directory)
    else:
        make_real(options.directory, options.data, options.library, options.rows, options.threads)


if __name__ == "__main__":
    main()
