#!/usr/bin/env python3
"""Models besides the default, against ONNX Runtime fp32 on the original files: cosines of vectors, and tokens.

    bench/accuracy/models.py [--data DIR] [--models NAME,...] [--texts N]

For each model of tools/fetch_model, which is fetched and converted where that has not been done, and each prefix
that it knows: N diverse texts, one at a time by ONNX Runtime, all at once by the library. With --data (or
SYNAPTOROUTE_DATA) half of them are test texts of Banking77 and CLINC150. fp32 must reach a cosine of 0.99999 for
every text, or the exit status is 1; int8 weights are shown beside it. Prints a table and JSON, and saves the
JSON to bench/results/.
"""

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, os.pardir), os.path.join(HERE, os.pardir, "peers")]
import bench_common as common

sys.path.insert(0, os.path.join(common.ROOT, "tools"))

LEAST = 0.99999
# The first prefix of each is the one that its files name: it is not given as an option.
PREFIXES = {"bge-small-en-v1.5": [""], "all-MiniLM-L6-v2": [""], "e5-small-v2": ["query: ", "passage: "]}
PYTHON = os.path.join(common.BUILD, "venv-tools", "bin", "python")


def weights(kind, name):
    return os.path.join(common.BUILD, f"models-{kind}", name)


def original(name):
    directory = os.path.join(common.BUILD, "fetch", name)
    found = [file for file in os.listdir(directory) if file.endswith(".onnx")]
    return os.path.join(directory, found[0])


def fetch(name):
    """Both kinds of weights. int8 is not verified at once: how near it comes is what is measured here."""
    for kind, more in (("fp32", []), ("int8", ["--no-verify"])):
        if not os.path.exists(os.path.join(weights(kind, name), "synaptoroute.json")):
            subprocess.run([os.path.join(common.ROOT, "tools", "fetch_model"), name, "--" + kind, weights(kind, name),
                            *more], check=True, stdout=sys.stderr)


def choose_texts(data, count):
    """Sample texts of many scripts and lengths, pairs of them, and test texts where there are some."""
    from sample_texts import TEXTS
    pairs = [TEXTS[i % len(TEXTS)] + " " + TEXTS[(7 * i + 3) % len(TEXTS)] for i in range(2 * count)]
    texts = list(TEXTS[:count])
    if data and os.path.isdir(data):
        texts = texts[:count // 2]
        texts += common.sample(data, (count - len(texts)) // 2 * 2)
    return (texts + pairs)[:count]


def measure(name, prefix, texts):
    """Cosines of both kinds of weights, and how many texts have other tokens than the tokenizers package's."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    import bert_onnx
    import peer_engines

    with open(os.path.join(weights("fp32", name), "synaptoroute.json"), encoding="utf-8") as file:
        about = json.load(file)
    tokenizer = Tokenizer.from_file(os.path.join(weights("fp32", name), "tokenizer.json"))
    session = onnxruntime.InferenceSession(original(name), providers=["CPUExecutionProvider"])
    expected = bert_onnx.onnx_vectors(session, tokenizer, texts, about["pooling"], about["max_tokens"], prefix)
    tokenizer.no_truncation()
    result = {"model": name, "prefix": prefix, "pooling": about["pooling"], "max_tokens": about["max_tokens"],
              "texts": len(texts), "cut": sum(len(tokenizer.encode(prefix + t).ids) > about["max_tokens"] for t in texts)}
    for kind in ("fp32", "int8"):
        given = None if prefix == PREFIXES[name][0] else prefix
        engine = peer_engines.Ours(common.LIBRARY, weights(kind, name), 0, prefix=given)
        cosines = (engine.encode(texts).astype(np.float64) * expected).sum(1)
        result[kind] = {"mean": float(cosines.mean()), "least": float(cosines.min())}
        result["other_tokens"] = sum(engine.tokenize(t) != tokenizer.encode(prefix + t).ids for t in texts)
        result["cpu_level"] = engine.level
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "models")
    parser.add_argument("--models", default=",".join(PREFIXES), metavar="NAME,...")
    parser.add_argument("--texts", type=int, default=200, metavar="N")
    options = parser.parse_args()
    names = options.models.split(",")
    for name in names:
        if name not in PREFIXES:
            common.fail(f"{name} is unknown; known are {', '.join(PREFIXES)}")
        fetch(name)
    if sys.prefix != os.path.dirname(os.path.dirname(PYTHON)):
        # The packages for this are in the environment that fetch_model makes.
        if not os.path.exists(PYTHON):
            common.fail("build/venv-tools is missing: run tools/fetch_model once")
        os.execv(PYTHON, [PYTHON, os.path.abspath(__file__), *sys.argv[1:]])
    texts, machine = choose_texts(options.data, options.texts), common.machine()
    runs = [measure(name, prefix, texts) for name in names for prefix in PREFIXES[name]]
    common.table(("model", "prefix", "pooling", "texts", "cut", "other tokens", "fp32 mean", "fp32 least", "int8 mean",
                  "int8 least"),
                 [(r["model"], repr(r["prefix"]), r["pooling"], r["texts"], r["cut"], r["other_tokens"],
                   *(f"{r[kind][which]:.7f}" for kind in ("fp32", "int8") for which in ("mean", "least")))
                  for r in runs])
    common.finish(options, {"benchmark": "models", "machine": machine, "least": LEAST, "runs": runs})
    return int(any(r["fp32"]["least"] < LEAST or r["other_tokens"] for r in runs))


if __name__ == "__main__":
    sys.exit(main())
