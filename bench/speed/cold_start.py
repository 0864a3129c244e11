#!/usr/bin/env python3
"""Wall time and memory of `synaptoroute route` from a cold start, on the customer-support example.

    bench/speed/cold_start.py [--runs N] [--model NAME|DIR]

Each run is a new process that maps the model, packs its weights, opens the table and decides one text. The
files are in the page cache, as they are on a machine that has run the program before.
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "cold_start")
    parser.add_argument("--program", default=common.PROGRAM)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--model", help="as the program's own option")
    options = parser.parse_args()
    machine = common.machine()
    example = os.path.join(common.ROOT, "examples", "customer-support.yaml")
    with tempfile.TemporaryDirectory() as directory:
        command = [options.program, "--db", os.path.join(directory, "routes.db")]
        if options.model:
            command += ["--model", options.model]
        subprocess.run(command + ["import", example], check=True, stdout=subprocess.DEVNULL)
        # Children's peak is the largest of all: ask for that of the decisions, not of the import.
        importing = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        times, memory = [], 0
        for _ in range(options.runs):
            start = time.perf_counter()
            process = subprocess.Popen(command + ["route", "My parcel has not arrived"], stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            times.append((time.perf_counter() - start) * 1000)
            if status != 0:
                common.fail(f"route failed with status {status}")
            memory = max(memory, usage.ru_maxrss)
    result = {"benchmark": "cold_start", "machine": machine, "runs": options.runs,
              "model": options.model or "bge-small-en-v1.5", "median_ms": statistics.median(times), "max_ms": max(times), "max_mb": memory / 1024,
              "import_max_mb": importing / 1024}
    common.table(("cold start", "median ms", "longest ms", "memory MB"),
                 [("route TEXT", result["median_ms"], result["max_ms"], result["max_mb"])])
    common.finish(options, result)


if __name__ == "__main__":
    main()
