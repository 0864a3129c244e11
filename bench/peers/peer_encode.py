"""Measures one encoder in a process of its own; called by peers.py. Prints one JSON object.

Modes: `speed` (batches of 32 after sorting by length, then texts one at a time), `vectors` (saves them), `tokens`
(compares our ids with the tokenizers package's).
"""

import argparse
import json
import os
import time

import numpy as np

import peer_engines

BATCH = 32


def batches(engine, texts):
    ordered = sorted(texts, key=len)
    return [engine.encode(ordered[i:i + BATCH]) for i in range(0, len(ordered), BATCH)]


def speed(engine, texts, seconds):
    batches(engine, texts[:2 * BATCH])
    done, start = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - start < seconds:
        batches(engine, texts)
        done += len(texts)
    rate = done / (time.perf_counter() - start)
    latencies, start = [], time.perf_counter()
    while len(latencies) < 100 or time.perf_counter() - start < seconds:
        text = [texts[len(latencies) % len(texts)]]
        before = time.perf_counter()
        engine.encode(text)
        latencies.append(time.perf_counter() - before)
    p50, p99 = np.percentile(latencies, (50, 99)) * 1000
    return {"texts_per_second": rate, "p50_ms": float(p50), "p99_ms": float(p99), "cpu_level": engine.level}


def tokens(engine, tokenizer, texts):
    from tokenizers import Tokenizer
    peer = Tokenizer.from_file(tokenizer)
    expected = [encoding.ids for encoding in peer.encode_batch(texts)]
    different = [text for text, ids in zip(texts, expected) if engine.tokenize(text) != ids]
    return {"texts": len(texts), "different": len(different), "first": different[:3]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("speed", "vectors", "tokens"))
    parser.add_argument("kind", choices=("ours", *peer_engines.KINDS))
    parser.add_argument("model")
    parser.add_argument("--library")
    parser.add_argument("--tokenizer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out")
    options = parser.parse_args()
    # The Rust tokenizer has a pool of its own: as many threads as the encoder, or none.
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if options.threads > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)
    with open(options.texts, encoding="utf-8") as file:
        texts = json.load(file)
    if options.kind == "ours":
        engine = peer_engines.Ours(options.library, options.model, options.threads)
    else:
        engine = peer_engines.KINDS[options.kind](options.model, options.tokenizer, options.threads)
    if options.mode == "tokens":
        print(json.dumps(tokens(engine, options.tokenizer, texts)))
    elif options.mode == "vectors":
        # One at a time: dynamic quantisation has one scale for a whole batch, so padding would tell.
        np.save(options.out, np.concatenate([engine.encode([text]) for text in texts]))
        print("{}")
    else:
        print(json.dumps(speed(engine, texts, options.seconds)))


if __name__ == "__main__":
    main()
