"""What the benchmarks share: test data, the machine, tables and results."""

import csv
import datetime
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
# What is measured may be built elsewhere; what is fetched and installed stays under build/.
MEASURED = os.environ.get("SYNAPTOROUTE_BUILD", BUILD)
PROGRAM = os.path.join(MEASURED, "cli", "synaptoroute")
LIBRARY = os.path.join(MEASURED, "src", "libsynaptoroute.so")


def fail(message):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {message}")


def add_options(parser, name):
    parser.add_argument("--data", default=os.environ.get("SYNAPTOROUTE_DATA"), metavar="DIR",
                        help="holds banking77/{train,test}.csv and clinc150/data_full.json "
                             "(default: $SYNAPTOROUTE_DATA)")
    parser.add_argument("--name", default=name, help="the result is saved as bench/results/NAME.json")
    parser.add_argument("--no-save", action="store_true", help="print only")


def data_directory(options):
    if options.data is None or not os.path.isdir(options.data):
        fail("no test data: name their directory by --data or SYNAPTOROUTE_DATA; it holds banking77/train.csv, "
             "banking77/test.csv (PolyAI's Banking77) and clinc150/data_full.json (CLINC150)")
    return options.data


def banking77(directory, split):
    """[(text, route)] of "train" or "test"."""
    with open(os.path.join(directory, "banking77", split + ".csv"), encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def clinc150(directory, *splits):
    """[(text, route)] of the splits: "train", "val", "test", "oos_test", ..."""
    with open(os.path.join(directory, "clinc150", "data_full.json"), encoding="utf-8") as file:
        data = json.load(file)
    return [(text, route) for split in splits for text, route in data[split]]


def all_texts(directory):
    """Every text of both data sets."""
    clinc = ("train", "val", "test", "oos_train", "oos_val", "oos_test")
    return [text for text, _ in banking77(directory, "train") + banking77(directory, "test")
            + clinc150(directory, *clinc)]


def sample(directory, count):
    """`count` texts of the test splits, half of each data set, evenly spaced."""
    result = []
    for rows in (banking77(directory, "test"), clinc150(directory, "test")):
        step = len(rows) / (count // 2)
        result += [rows[int(i * step)][0] for i in range(count // 2)]
    return result


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "route"))
        writer.writerows(rows)


def _git(*arguments):
    run = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""


def machine():
    """Where and with what a figure was measured."""
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(("model name", "Model")):
                cpu = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def table(headings, rows):
    """Prints rows of strings and numbers as aligned columns."""
    shown = [[f"{cell:,.4g}" if isinstance(cell, float) and abs(cell) < 1000 else
              f"{cell:,.0f}" if isinstance(cell, float) else "" if cell is None else str(cell) for cell in row]
             for row in rows]
    widths = [max(len(row[i]) for row in [list(headings), *shown]) for i in range(len(headings))]
    for row in [list(headings), ["-" * width for width in widths], *shown]:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))


def finish(options, result):
    """Prints the result as JSON and saves it."""
    text = json.dumps(result, indent=2)
    print(text)
    if not options.no_save:
        path = os.path.join(ROOT, "bench", "results", options.name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
