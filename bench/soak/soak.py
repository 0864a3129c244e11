#!/usr/bin/env python3
"""The long version of the fault tests: power cuts, kills and failing writes by the thousand.

    bench/soak/soak.py [--cuts 1000] [--kills 300] [--changes 200] [--seed N] [--no-save]

Runs the programs tests/fault/test_fault_{power,kill,writes} of a build directory ($SYNAPTOROUTE_BUILD, build/ by default),
which explain what they do; ./check runs the short versions. The same seed makes the same loads, cuts and failures; when a kill
comes is up to the machine. The first fault ends the run with status 1, and is printed with the seed that shows it.
"""

import argparse
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import bench_common as common

PROGRAMS = os.path.join(common.MEASURED, "tests", "fault")

# What the programs print of each run: a name for the row, and its numbers.
LINES = (
    (re.compile(r"# (\d+) cuts of (\d+) changes: (\d+) lost something acknowledged, (\d+) came before there was a "
                r"database, (\d+) lost nothing"), "power cuts",
     ("cuts", "changes", "cuts_that_lost_unsynced", "cuts_before_there_was_a_database", "cuts_that_lost_nothing")),
    (re.compile(r"# (\d+) processes of (\d+) threads: (\d+) kills, (\d+) changes acknowledged, of them (\d+) deferred"),
     "kills", ("processes", "threads", "kills", "acknowledged", "deferred_lost")),
    (re.compile(r"# (\d+) failures: (\d+) changes refused, of them (\d+) deferred ones taken back, (\d+) stored"),
     "failing writes", ("failures", "refused", "deferred_taken_back", "stored_not_synced")),
)


def numbers_of(output):
    """[{"what": ..., numbers}] of the lines that a program printed."""
    found = []
    for line in output.splitlines():
        for pattern, what, names in LINES:
            match = pattern.search(line)
            if match:
                found.append({"what": what, **dict(zip(names, map(int, match.groups())))})
    return found


def run(name, *arguments):
    """Runs a test program to its end; its numbers, with the seconds that it took."""
    program = os.path.join(PROGRAMS, "test_fault_" + name)
    if not os.access(program, os.X_OK):
        common.fail(f"there is no {program}: build the tests first (ninja -C build), or set SYNAPTOROUTE_BUILD")
    started = time.monotonic()
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    output = done.stdout + done.stderr
    if done.returncode != 0:
        sys.stderr.write(output)
        common.fail(f"{' '.join(map(str, done.args))} found a fault (status {done.returncode})")
    rows = numbers_of(output)
    if not rows:
        common.fail(f"{program} printed no numbers: {output}")
    return {"seconds": round(time.monotonic() - started, 1), "rows": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--cuts", type=int, default=1000, help="power cuts")
    parser.add_argument("--kills", type=int, default=300,
                        help="kills of a process, of one with three threads, and of two processes each")
    parser.add_argument("--changes", type=int, default=200, help="changes with each of their writes failing, in each way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default="soak", help="the result is saved as bench/results/NAME.json")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    machine = common.machine()
    runs = [run("power", "cuts", options.cuts, options.seed), run("kill", "kills", options.kills, options.seed),
            run("writes", "changes", options.changes, options.seed)]
    common.table(("what", "numbers", "seconds"),
                 [(row["what"], ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in row.items()
                                          if name != "what"), one["seconds"]) for one in runs for row in one["rows"]])
    common.finish(options, {"benchmark": "soak", "machine": machine, "seed": options.seed, "faults": 0, "runs": runs})


if __name__ == "__main__":
    main()
