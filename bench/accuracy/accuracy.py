#!/usr/bin/env python3
"""Accuracy of the nearest utterance on Banking77 and CLINC150, by the program: import the training texts without a
fit, evaluate the test texts. compare.py measures fitted tables.

    bench/accuracy/accuracy.py --data DIR [--model NAME|DIR] [--threads N] [--levels ref,avx2,vnni]

Figures: Banking77 and CLINC150 in scope with --no-reject, and all 5,500 test texts of CLINC150, of which
1,000 belong nowhere, with each route's threshold at cosine 0.60. With --levels also how many routes of
Banking77's test texts differ between kernel levels (SR_CPU). Prints a table and JSON, and saves the JSON to
bench/results/.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import bench_common as common


def run(options, database, *arguments, level=None):
    command = [options.program, "--db", database]
    if options.model:
        command += ["--model", options.model]
    if options.threads:
        command += ["--threads", str(options.threads)]
    done = subprocess.run(command + list(arguments), capture_output=True, text=True,
                          env={**os.environ, "SR_CPU": level} if level else None)
    if done.returncode != 0:
        common.fail(f"{' '.join(command + list(arguments))} failed: {done.stderr.strip()}")
    return done.stdout


def write_routes(path, rows, threshold):
    """A table as JSON Lines: one route a line, each with the threshold."""
    routes = {}
    for text, route in rows:
        routes.setdefault(route, []).append(text)
    with open(path, "w", encoding="utf-8") as file:
        for route, texts in routes.items():
            file.write(json.dumps({"name": route, "threshold": threshold, "utterances": texts}) + "\n")


def evaluate(options, name, train, test, no_reject):
    with tempfile.TemporaryDirectory() as directory:
        path = lambda file: os.path.join(directory, file)
        write_routes(path("train.jsonl"), train, 0.60)
        common.write_csv(path("test.csv"), test)
        start = time.monotonic()
        run(options, path("routes.db"), "import", "--no-fit", path("train.jsonl"))
        seconds = time.monotonic() - start
        extra = ["--no-reject"] if no_reject else []
        report = json.loads(run(options, path("routes.db"), "--json", "eval", path("test.csv"), *extra))
    return {"name": name, "utterances": len(train), "import_seconds": round(seconds, 3), **report}


def compare_levels(options, data, levels):
    """How many test texts get another route than at the first level."""
    with tempfile.TemporaryDirectory() as directory:
        path = lambda file: os.path.join(directory, file)
        common.write_csv(path("train.csv"), common.banking77(data, "train"))
        common.write_csv(path("test.csv"), common.banking77(data, "test"))
        run(options, path("routes.db"), "import", "--no-fit", path("train.csv"))
        predictions = {}
        for level in levels:
            run(options, path("routes.db"), "eval", path("test.csv"), "--no-reject", "--predictions",
                path(level + ".csv"), level=level)
            with open(path(level + ".csv"), encoding="utf-8", newline="") as file:
                predictions[level] = [row["predicted"] for row in csv.DictReader(file)]
    first = predictions[levels[0]]
    return {level: sum(a != b for a, b in zip(first, predictions[level], strict=True)) for level in levels}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "accuracy")
    parser.add_argument("--program", default=common.PROGRAM)
    parser.add_argument("--model", help="as the program's own option")
    parser.add_argument("--threads", type=int, help="as the program's own option")
    parser.add_argument("--levels", default="", metavar="LEVEL,...",
                        help="also compare the routes that these values of SR_CPU give (ref takes minutes)")
    options = parser.parse_args()
    data = common.data_directory(options)
    if not os.path.exists(options.program):
        common.fail(f"{options.program} is not built; run ninja -C build first")
    clinc = common.clinc150(data, "train")
    machine = common.machine()
    runs = [
        evaluate(options, "Banking77, no rejection", common.banking77(data, "train"),
                 common.banking77(data, "test"), True),
        evaluate(options, "CLINC150 in scope, no rejection", clinc, common.clinc150(data, "test"), True),
        evaluate(options, "CLINC150 all, cosine 0.60", clinc, common.clinc150(data, "test", "oos_test"), False),
    ]
    common.table(
        ("", "texts", "accuracy", "in scope", "top 3", "macro F1", "oos recall", "AUROC", "queries/s", "import s"),
        [(r["name"], r["n"], r["accuracy"], r["in_scope_accuracy"], r["top3"], r["macro_f1"], r["oos_recall"],
          r["oos_auroc"], r["queries_per_second"], r["import_seconds"]) for r in runs])
    result = {"benchmark": "accuracy", "machine": machine, "model": options.model or "bge-small-en-v1.5", "runs": runs}
    if options.levels:
        result["routes_that_differ"] = compare_levels(options, data, options.levels.split(","))
        print("\nroutes of Banking77 that differ from the first level: "
              + ", ".join(f"{level} {count}" for level, count in result["routes_that_differ"].items()))
    common.finish(options, result)


if __name__ == "__main__":
    main()
