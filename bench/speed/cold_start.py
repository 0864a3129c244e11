#!/usr/bin/env python3
"""Wall time and memory of `synaptoroute route` from a cold start, on the customer-support example.

    bench/speed/cold_start.py [--runs N] [--model NAME|DIR] [--against PROGRAM]

Each run is a new process that opens the model and the table and decides one text, from its start to its end:
once as the fitted table decides it (by the fast path, for which the transformer is not needed), once by the
slow path, for which the transformer's weights are packed. The files are in the page cache, as they are on a
machine that has run the program before. --against runs another build of the program in turns with this one,
since on a busy host only such figures can be compared.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import bench_common as common


TEXT = "My parcel has not arrived"
PATHS = {"auto": [], "slow": ["--path", "slow"]}


def run(command):
    """Milliseconds, of them on a processor, page faults and memory in MB of a process that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = (time.perf_counter() - start) * 1000
    if status != 0:
        common.fail(f"{' '.join(command)} failed with status {status}")
    return wall, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_minflt, usage.ru_maxrss / 1024


def summary(runs):
    wall, processor, faults, memory = zip(*runs)
    return {"median_ms": statistics.median(wall), "min_ms": min(wall), "max_ms": max(wall),
            "cpu_ms": statistics.median(processor), "page_faults": statistics.median(faults), "max_mb": max(memory)}


def measure(programs, options, directory):
    """{(program, path): summary}, all of them in turns."""
    databases = {}
    for number, program in enumerate(programs):
        databases[program] = [program, "--db", os.path.join(directory, f"{number}.db")]
        if options.model:
            databases[program] += ["--model", options.model]
        example = os.path.join(common.ROOT, "examples", "customer-support.yaml")
        subprocess.run(databases[program] + ["import", example], check=True, stdout=subprocess.DEVNULL)
    runs = {(program, path): [] for program in programs for path in PATHS}
    for _ in range(options.runs):
        for program, path in runs:
            runs[program, path].append(run(databases[program] + ["route", *PATHS[path], TEXT]))
    return {key: summary(each) for key, each in runs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "cold_start")
    parser.add_argument("--program", default=common.PROGRAM)
    parser.add_argument("--against", metavar="PROGRAM", help="another build, measured in turns with this one")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--model", help="as the program's own option")
    options = parser.parse_args()
    programs = {"program": options.program}
    if options.against:
        programs["against"] = options.against
    with tempfile.TemporaryDirectory() as directory:
        measured = measure(list(programs.values()), options, directory)
    result = {"benchmark": "cold_start", "machine": common.machine(), "runs": options.runs,
              "model": options.model or "bge-small-en-v1.5"}
    for name, program in programs.items():
        result[name] = {path: measured[program, path] for path in PATHS}
    common.table(("cold start", "median ms", "shortest", "longest", "CPU ms", "page faults", "memory MB"),
                 [(f"{name} --path {path}", *(each[field] for field in (
                     "median_ms", "min_ms", "max_ms", "cpu_ms", "page_faults", "max_mb")))
                  for name in programs for path, each in result[name].items()])
    common.finish(options, result)


if __name__ == "__main__":
    main()
