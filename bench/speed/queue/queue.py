#!/usr/bin/env python3
"""The queue beside sr_decide(), which `route -` is made of, on CLINC150.

    bench/speed/queue/queue.py [--data DIR] [--seconds S] [--rounds N] [--name NAME] [--no-save]

Fits a table to the training texts. Then, in turns, so that a busy host harms all alike: sr_decide() of 512 texts at once;
64 and 256 submissions in flight; lists of 100 on the fast path; and submissions at random times at 70 % of the highest
rate and at twice that, with deadlines. Rates are the best of the rounds, processor times the least. `p50 of one text` is
its time alone by sr_submit().
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir))
import bench_common as common

SPEED = os.path.join(common.MEASURED, "bench", "speed", "queue", "queue_speed")
RUNS = (("decide 512", "slow", "decide", 512), ("64 in flight", "slow", "closed", 64),
        ("256 in flight", "slow", "closed", 256), ("decide 100, fast", "fast", "decide", 100),
        ("lists of 100, fast", "fast", "lists", 100), ("one after another, fast", "fast", "closed", 1))


def run(files, options, path, mode, number, *more):
    command = [SPEED, *files, path, str(options.seconds), mode, str(number), *map(str, more)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def closed_loops(files, options):
    runs = {name: [] for name, *_ in RUNS}
    for _ in range(options.rounds):
        for name, *what in RUNS:
            runs[name].append(run(files, options, *what))
    return {name: {"texts_per_second": max(each["texts_per_second"] for each in found),
                   "cpu_us_per_text": min(each["cpu_us_per_text"] for each in found),
                   "batch_texts": found[-1]["batch_texts"]} for name, found in runs.items()}


def open_loops(files, options, highest):
    """At 70 % of the highest rate, and at twice that rate with a deadline of half a second."""
    alone = run(files, options, "slow", "open", 20)
    steady = min((run(files, options, "slow", "open", 0.7 * highest) for _ in range(options.rounds)),
                 key=lambda each: each["p99_ms"])
    over = run(files, options, "slow", "open", 2 * highest, 0, 0, 500)
    return {"alone": alone, "at 70 %": steady, "at 200 %": over}


def show(result):
    base = {"slow": result["closed"]["decide 512"], "fast": result["closed"]["decide 100, fast"]}
    rows = []
    for name, path, *_ in RUNS:
        found = result["closed"][name]
        rows.append((name, found["texts_per_second"], found["texts_per_second"] / base[path]["texts_per_second"],
                     found["cpu_us_per_text"], found["cpu_us_per_text"] / base[path]["cpu_us_per_text"]))
    common.table(("", "texts/s", "of sr_decide", "CPU us a text", "of sr_decide"), rows)
    print()
    rows = [(name, found["texts_per_second"], found["p50_ms"], found["p99_ms"], found["cpu_us_per_text"],
             found.get("refused"), found["failed"], found.get("late"), found.get("longest_refusal_ms"))
            for name, found in result["open"].items()]
    common.table(("", "answers/s", "p50 ms", "p99 ms", "CPU us a text", "refused", "timed out", "late",
                  "longest refusal ms"), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_options(parser, "queue")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = common.data_directory(options)
    result = {"machine": common.machine()}
    with tempfile.TemporaryDirectory() as directory:
        rows, database, texts = (os.path.join(directory, name) for name in ("train.csv", "routes.db", "texts"))
        common.write_csv(rows, common.clinc150(data, "train"))
        with open(texts, "w", encoding="utf-8") as file:
            file.writelines(text + "\n" for text, _ in common.clinc150(data, "test"))
        subprocess.run([common.PROGRAM, "--db", database, "import", rows], check=True, capture_output=True)
        subprocess.run([common.PROGRAM, "--db", database, "fit"], check=True, capture_output=True)
        files = (database, texts)
        result["closed"] = closed_loops(files, options)
        highest = result["closed"]["256 in flight"]["texts_per_second"]
        result["open"] = open_loops(files, options, highest)
    show(result)
    common.finish(options, result)


if __name__ == "__main__":
    main()
