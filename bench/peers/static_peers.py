#!/usr/bin/env python3
"""Compares the static encoder with the `model2vec` package, on the same model and texts in the same run.

    bench/peers/static_peers.py --data DIR [--model DIR] [--rounds N]

speed      texts a second on one core, tokenising included: all texts in one call, and one at a time. Ours through
           the C API, and from Python's strings by ctypes. Each engine runs in a process of its own; they take
           turns, round by round, and the median of the rounds is given. Rates are by the time of the processor.
agreement  cosine of the vectors of all texts

Texts are the test texts of Banking77 and, in scope, of CLINC150. Makes its virtual environment under build/ (pinned
packages, by pip). Prints tables and JSON, and saves the JSON to bench/results/.
"""

import argparse
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, os.pardir)]
import bench_common as common
from peers import environment, run_json

WORK = os.path.join(common.BUILD, "peers")
ENGINES = {"ours, C API": "c", "ours, from Python": "python", "model2vec": "model2vec"}
COSINES = ("import json, sys; import numpy as np; a, b = (np.load(p).astype(float) for p in sys.argv[1:]); "
           "c = (a * b).sum(1)[np.linalg.norm(b, axis=1) > 0]; print(json.dumps({'mean': c.mean(), 'least': c.min(), "
           "'texts': len(c)}))")


def command(python, mode, engine, options, texts, *more):
    return [python, os.path.join(HERE, "peer_static.py"), mode, ENGINES[engine], options.model, "--library",
            common.LIBRARY, "--texts", texts, *more]


def measure_speed(python, options, texts):
    runs = {}
    for _ in range(options.rounds):
        for engine in ENGINES:
            runs.setdefault(engine, []).append(
                run_json(*command(python, "speed", engine, options, texts, "--seconds", str(options.seconds))))
    results = [{"engine": engine, **{key: statistics.median(run[key] for run in measured)
                                     for key in ("texts_per_second", "single_texts_per_second")},
                "rounds": [round(run["texts_per_second"]) for run in measured],
                "cpu_level": measured[0]["cpu_level"]} for engine, measured in runs.items()]
    common.table(("static encoder, one core", "texts/s", "one at a time, texts/s"),
                 [(r["engine"], r["texts_per_second"], r["single_texts_per_second"]) for r in results])
    of = {r["engine"]: r["texts_per_second"] for r in results}
    ratios = {engine: of[engine] / of["model2vec"] for engine in list(ENGINES)[:2]}
    print("times model2vec: " + ", ".join(f"{engine} {ratio:.1f}" for engine, ratio in ratios.items()) + "\n")
    return {"speed": results, "times_model2vec": ratios}


def measure_agreement(python, options, texts):
    paths = {engine: os.path.join(WORK, f"static-{ENGINES[engine]}.npy") for engine in ENGINES}
    for engine in ("ours, from Python", "model2vec"):
        run_json(*command(python, "vectors", engine, options, texts, "--out", paths[engine]))
    result = run_json(python, "-c", COSINES, paths["ours, from Python"], paths["model2vec"])
    print(f"cosine with model2vec, {result['texts']} texts: mean {result['mean']:.8f}, least {result['least']:.8f}\n")
    return {"agreement": result}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "static_peers")
    parser.add_argument("--model", default=os.path.join(common.ROOT, "models", "static-en"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each measurement")
    options = parser.parse_args()
    data = common.data_directory(options)
    if not os.path.exists(common.LIBRARY):
        common.fail(f"{common.LIBRARY} is not built; run ninja -C build first")
    os.makedirs(WORK, exist_ok=True)
    python = environment("venv-peers-static", "requirements-static.txt")
    texts = os.path.join(WORK, "static-texts.json")
    rows = common.banking77(data, "test") + common.clinc150(data, "test")
    with open(texts, "w", encoding="utf-8") as file:
        json.dump([text for text, _ in rows], file)
    result = {"benchmark": "static peers", "machine": common.machine(), "texts": len(rows),
              "model": os.path.basename(os.path.normpath(options.model))}
    result.update(measure_speed(python, options, texts))
    result.update(measure_agreement(python, options, texts))
    common.finish(options, result)


if __name__ == "__main__":
    main()
