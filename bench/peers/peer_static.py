"""Measures one static encoder in a process of its own; called by static_peers.py. Prints one JSON object.

Modes: `speed` (all texts in one call, then one at a time), `vectors` (saves them).
"""

import argparse
import ctypes
import json
import logging
import os
import time

import numpy as np

import peer_engines


class OursPrepared(peer_engines.Ours):
    """Through the C API as a C program calls it: the array of strings and the memory for vectors exist already."""

    def prepare(self, texts):
        raw = [text.encode() for text in texts]
        strings = (peer_engines.SrStr * len(raw))(*[peer_engines.SrStr(text, len(text)) for text in raw])
        return strings, len(raw), np.empty((len(raw), self.dimension), dtype=np.float32), raw

    def run(self, prepared):
        strings, count, out, _ = prepared
        self._must(self._library.sr_encoder_encode(
            self._encoder, strings, ctypes.c_size_t(count), out.ctypes.data_as(ctypes.c_void_p), None,
            ctypes.byref(self._error)))


class OursFromPython(peer_engines.Ours):
    """From Python's strings, by ctypes."""

    def prepare(self, texts):
        return texts

    def run(self, prepared):
        self.encode(prepared)


class Model2Vec:
    level = "model2vec's own"

    def __init__(self, model):
        from model2vec import StaticModel
        logging.disable(logging.WARNING)  # it misses metadata in README.md, which it does not need
        self._model = StaticModel.from_pretrained(model, force_download=False, normalize=True)

    def encode(self, texts):
        return self._model.encode(texts, use_multiprocessing=False)

    def prepare(self, texts):
        return texts

    def run(self, prepared):
        self.encode(prepared)


def rate(engine, jobs, texts, seconds):
    """Texts a second of the processor's time: other processes on the machine do not count."""
    engine.run(jobs[0])
    runs, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for job in jobs:
            engine.run(job)
        runs += 1
    return runs * texts / (time.process_time() - start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("speed", "vectors"))
    parser.add_argument("kind", choices=("c", "python", "model2vec"))
    parser.add_argument("model")
    parser.add_argument("--library")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out")
    options = parser.parse_args()
    # One core for all: the Rust tokenizer has a pool of its own.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    with open(options.texts, encoding="utf-8") as file:
        texts = json.load(file)
    if options.kind == "model2vec":
        engine = Model2Vec(options.model)
    else:
        engine = (OursPrepared if options.kind == "c" else OursFromPython)(options.library, options.model, 1)
    if options.mode == "vectors":
        np.save(options.out, engine.encode(texts))
        print("{}")
        return
    single = texts[:2000]
    print(json.dumps({
        "texts_per_second": rate(engine, [engine.prepare(texts)], len(texts), options.seconds),
        "single_texts_per_second": rate(engine, [engine.prepare([text]) for text in single], len(single),
                                        options.seconds),
        "cpu_level": engine.level}))


if __name__ == "__main__":
    main()
