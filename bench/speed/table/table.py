#!/usr/bin/env python3
"""Route tables from 1,000 to 1,000,000 utterances: search, changes, start and memory, beside others' indexes.

    bench/speed/table/table.py --data DIR [--sizes N,...] [--kinds synthetic,real] [--only PART,...] [--old]
    bench/speed/table/table.py stress [--seconds 60] [--rate 5000] [--readers 4] [--rows 250000]

index    the index alone: one query and a thousand at once, on one and two threads, and recall@1 against brute force;
         beside faiss (flat, RaBitQ, HNSW) and usearch (int8 HNSW). Flat, RaBitQ and ours take turns, round by
         round, and the round with the least p50 counts; graphs, which take minutes to build, run once.
router   a database as a program uses it: loaded with vectors given and synced, opened again in a new process,
         and asked, through the public header
changes  a route of five added and removed, by durability; one utterance of a route, by its size; a reader beside a writer of 5,000
          changes a second; two processes that write
churn    a million routes added and removed: memory and files (minutes; --pairs)
--old    the old Python package too, up to 250,000 (minutes)
stress   four readers at full speed beside a writer of 5,000 changes a second: whether a reader ever sees half a change, what
         is gone, or the past. Exit status 1 when one does.

The vectors are made, or encoded by the default model (ten minutes, once), by table_data.py, which says what they are, under
build/table. A result is added to bench/results/NAME.json part by part, so that parts may run one after the other, and
docs/table_cost.svg is drawn from it. Makes its virtual environment under build/ (pinned packages, by pip).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, os.pardir, os.pardir), os.path.join(HERE, os.pardir, os.pardir, "peers")]
import bench_common as common
import peers

VECTORS = os.path.join(common.BUILD, "table")
SPEED = os.path.join(common.MEASURED, "bench", "speed", "table", "table_speed")
INDEX = os.path.join(common.MEASURED, "bench", "speed", "table", "index_speed")
SIZES = (1000, 10000, 50000, 250000, 1000000)
MOST_REAL = MOST_OLD = 250000
QUICK = ("faiss flat", "faiss RaBitQ", "faiss RaBitQ, refined", "faiss RaBitQ FastScan, refined")
GRAPHS = ("faiss HNSW ef 256", "usearch int8 HNSW", "usearch int8 HNSW ef 512")
# Ours, by how the index is searched; the last two are built with -Dfaiss=enabled.
OURS = {"ours": "exact", "ours, graph by faiss": "hnsw", "ours, lists by faiss": "ivf"}


def run_json(*command, environment=None):
    run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True,
                         env={**os.environ, **(environment or {})})
    if run.returncode != 0:
        common.fail(f"{' '.join(map(str, command))} failed")
    return json.loads(run.stdout.splitlines()[-1])


def vectors_of(kind):
    return os.path.join(VECTORS, kind + ".f32")


def queries_of(kind, rows):
    return os.path.join(VECTORS, f"{kind}-queries-{rows}.f32")


def make_vectors(python, kinds, options):
    for kind in kinds:
        more = []
        if kind == "real":
            more = ["--data", common.data_directory(options), "--library", common.LIBRARY]
        subprocess.run([python, os.path.join(HERE, "table_data.py"), kind, VECTORS, *more], check=True,
                       stdout=sys.stderr)


def sizes_of(kind, options):
    return [rows for rows in options.sizes if kind != "real" or rows <= MOST_REAL]


# ---- The index alone ------------------------------------------------------------------------------


def our_index(python, kind, rows, options, how):
    with tempfile.NamedTemporaryFile() as answers:
        found = run_json(INDEX, vectors_of(kind), 384, rows, queries_of(kind, rows), 1, options.seconds, answers.name,
                         how)
        right = run_json(python, os.path.join(HERE, "peer_index.py"), "recall", VECTORS, kind, rows, answers.name)
    return {**found, **right}


def one_engine(python, engine, kind, rows, options):
    if engine in OURS:
        return our_index(python, kind, rows, options, OURS[engine])
    return run_json(python, os.path.join(HERE, "peer_index.py"), "measure", VECTORS, kind, rows, engine,
                    options.seconds)


def best_of(runs):
    best = dict(min(runs, key=lambda run: run["threads_1"]["p50_ms"]))
    for threads in ("threads_1", "threads_2"):
        best[threads] = dict(min((run[threads] for run in runs), key=lambda run: run["p50_ms"]), batch_per_second=max(run[threads]["batch_per_second"] for run in runs))
    best["rounds_p50_ms"] = [round(run["threads_1"]["p50_ms"], 4) for run in runs]
    return best


def measure_index(python, kind, rows, options):
    runs = {}
    once = GRAPHS * (not options.no_graphs) + tuple(name for name in OURS if name != "ours") * options.faiss
    for turn in range(options.rounds):
        for engine in ("ours", *QUICK, *once * (turn == 0)):
            print(f"table.py: {kind} {rows:,}: {engine}", file=sys.stderr)
            runs.setdefault(engine, []).append(one_engine(python, engine, kind, rows, options))
    result = {engine: best_of(found) for engine, found in runs.items()}
    print(f"\n{kind}, {rows:,} vectors: the index alone")
    common.table(("index", "p50 ms", "p99 ms", "p50, 2 threads", "1,000 at once/s", "2 threads", "recall@1", "build s",
                  "MB"),
                 [(engine, r["threads_1"]["p50_ms"], r["threads_1"]["p99_ms"], r["threads_2"]["p50_ms"],
                   r["threads_1"]["batch_per_second"], r["threads_2"]["batch_per_second"],
                   f"{r['recall_at_1']:.4f}", r["build_seconds"], r["memory_mb"])
                  for engine, r in result.items()])
    return result


# ---- The router -----------------------------------------------------------------------------------


def loaded(kind, rows, directory):
    """A database of that table, made once and copied for each measurement that changes it."""
    path = os.path.join(directory, f"{kind}-{rows}.db")
    load = run_json(SPEED, "load", path, vectors_of(kind), os.path.join(VECTORS, kind + ".txt"), 384, rows)
    return path, load


def copy_of(database, directory):
    path = os.path.join(directory, "copy.db")
    for suffix in ("", "-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    shutil.copyfile(database, path)
    return path


def measure_router(python, kind, rows, options, directory):
    database, load = loaded(kind, rows, directory)
    result = {"load": load}
    answers = os.path.join(directory, "answers")
    for threads in (1, 2):
        runs = [run_json(SPEED, "search", database, queries_of(kind, rows), 384, threads, options.seconds, answers)
                for _ in range(options.rounds)]
        best = dict(min(runs, key=lambda run: run["p50_ms"]),
                    batch_per_second=max(run["batch_per_second"] for run in runs),
                    start_seconds=min(run["start_seconds"] for run in runs))
        best.update(run_json(python, os.path.join(HERE, "peer_index.py"), "recall-of-texts", VECTORS, kind, rows,
                             answers))
        result[f"threads_{threads}"] = best
    print(f"\n{kind}, {rows:,} utterances: the router; loaded in {load['seconds']:.2f} s, "
          f"database {load['file_mb']:,.0f} MB")
    common.table(("threads", "p50 ms", "p99 ms", "1,000 at once/s", "recall@1", "start s", "index MB", "process MB",
                  "at most"),
                 [(threads, r["p50_ms"], r["p99_ms"], r["batch_per_second"], f"{r['recall_at_1']:.4f}",
                   r["start_seconds"], r["index_mb"], r["resident_mb"], r["peak_mb"])
                  for threads, r in ((t, result[f"threads_{t}"]) for t in (1, 2))])
    return result, database


def measure_changes(kind, rows, options, database, directory):
    queries = queries_of(kind, rows)
    result = run_json(SPEED, "mutate", copy_of(database, directory), queries, 384, options.changes)
    print(f"\n{kind}, {rows:,} utterances: a route of five")
    common.table(("durability", "add, median us", "p99", "remove, median us", "p99", "changes/s", "stored/s"),
                 [(name, r["add_median_us"], r["add_p99_us"], r["remove_median_us"], r["remove_p99_us"],
                   r["changes_per_second"], r["stored_per_second"]) for name, r in result.items()])
    extend = run_json(SPEED, "extend", copy_of(database, directory), queries, 384, options.changes)
    common.table(("one utterance of", "add, median us", "p99", "remove, median us", "p99"),
                 [(f"{int(size):,}", r["add_median_us"], r["add_p99_us"], r["remove_median_us"], r["remove_p99_us"])
                  for size, r in extend.items()])
    beside = run_json(SPEED, "beside", copy_of(database, directory), queries, 384, max(3, int(options.seconds)),
                      options.rate)
    common.table(("a reader", "p50 ms", "p99 ms", "longest ms"),
                 [(name.replace("_", " "), r["p50_ms"], r["p99_ms"], r["longest_ms"])
                  for name, r in beside.items() if isinstance(r, dict)])
    print(f"p99 beside {beside['changes_per_second']:,.0f} changes a second / alone: {beside['p99_ratio']:.2f}")
    rival = run_json(SPEED, "rival", copy_of(database, directory), queries, 384, max(10, int(options.seconds)),
                     options.rate)
    print(f"a second process that changes it now and then beside {rival['beside_per_second']:,.0f} changes a second "
          f"({rival['alone_per_second']:,.0f} without): waits {rival['mean_ms']:.1f} ms on average, "
          f"{rival['longest_ms']:.0f} ms at most")
    return dict(result, extend=extend, beside=beside, rival=rival)


def measure_churn(kind, rows, options, database, directory):
    result = run_json(SPEED, "churn", copy_of(database, directory), queries_of(kind, rows), 384, options.pairs)
    print(f"\n{kind}, {rows:,} utterances: {options.pairs:,} routes added and removed at "
          f"{result['changes_per_second']:,.0f} changes a second; memory {result['memory_ratio']:.3f} of the start's")
    common.table(("pairs", "memory MB", "database MB", "log MB"),
                 [(f"{s['pairs']:,}", s["anonymous_mb"], s["file_mb"], s["log_mb"]) for s in result["states"]])
    return result


def measure_old(kind, rows, options):
    python = peers.environment("venv-peers-old", "requirements-old.txt")
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    result = run_json(python, os.path.join(HERE, "peer_old_table.py"), VECTORS, kind, rows, options.seconds,
                      environment=one)
    print(f"\n{kind}, {rows:,} utterances: the old package: built in {result['build_seconds']:,.0f} s, start "
          f"{result['start_seconds']:.1f} s, p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms, "
          f"{result['memory_mb']:,.0f} MB, a route added in {result['add_median_us']:,.0f} us")
    return result


# ---- Results --------------------------------------------------------------------------------------


def result_path(options):
    return os.path.join(common.ROOT, "bench", "results", options.name + ".json")


def read_result(options):
    if not os.path.exists(result_path(options)):
        return {"benchmark": "table", "runs": {}}
    with open(result_path(options), encoding="utf-8") as file:
        return json.load(file)


def keep(options, result, kind, rows, part, found):
    """Puts a part into the saved result, with the machine and the commit that it was measured with."""
    place = result["runs"].setdefault(kind, {}).setdefault(str(rows), {})
    place[part] = found
    place.setdefault("measured", {})[part] = options.machine
    if not options.no_save:
        with open(result_path(options), "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.write("\n")


def ratios(result):
    """What the figures come to, where both sides of a ratio were measured."""
    print()
    for kind, tables in result["runs"].items():
        for rows, parts in tables.items():
            index = parts.get("index")
            if not index:
                continue
            ours, flat = index["ours"], index["faiss flat"]
            print(f"{kind} {int(rows):,}: one query, times as fast as " + ", ".join(
                f"{name} {index[name]['threads_1']['p50_ms'] / ours['threads_1']['p50_ms']:.1f}" for name in QUICK)
                + "; 1,000 at once on two threads, times faiss flat: "
                f"{ours['threads_2']['batch_per_second'] / flat['threads_2']['batch_per_second']:.1f}")


def measure(options):
    common_python = environment()
    kinds = options.kinds.split(",")
    make_vectors(common_python, kinds, options)
    parts, result = options.only.split(","), read_result(options)
    for kind in kinds:
        for rows in sizes_of(kind, options):
            measure_table(common_python, kind, rows, parts, options, result)
    ratios(result)
    if not options.no_save:
        subprocess.run([common_python, os.path.join(HERE, "table_plot.py"), result_path(options),
                        os.path.join(common.ROOT, "docs", "table_cost.svg")], check=True)


def measure_table(python, kind, rows, parts, options, result):
    if "index" in parts:
        keep(options, result, kind, rows, "index", measure_index(python, kind, rows, options))
    with tempfile.TemporaryDirectory(dir=options.work) as directory:
        database = None
        if "router" in parts:
            found, database = measure_router(python, kind, rows, options, directory)
            keep(options, result, kind, rows, "router", found)
        elif "changes" in parts or "churn" in parts:
            database = loaded(kind, rows, directory)[0]
        if "changes" in parts:
            keep(options, result, kind, rows, "changes", measure_changes(kind, rows, options, database, directory))
        if "churn" in parts:
            keep(options, result, kind, rows, "churn", measure_churn(kind, rows, options, database, directory))
    if options.old and rows <= MOST_OLD:
        keep(options, result, kind, rows, "old", measure_old(kind, rows, options))


def environment():
    """The Python that has the peers and matplotlib."""
    return peers.environment("venv-table", os.path.join(HERE, "requirements-table.txt"))


def stress(options):
    make_vectors(environment(), ["synthetic"], options)
    with tempfile.TemporaryDirectory(dir=options.work) as directory:
        database, _ = loaded("synthetic", options.rows, directory)
        run = subprocess.run([SPEED, "stress", database, queries_of("synthetic", options.rows), "384",
                              str(int(options.seconds)), str(options.rate), str(options.readers)],
                             stdout=subprocess.PIPE, text=True)
    for name, value in (json.loads(run.stdout) if run.stdout else {}).items():
        print(f"{name.replace('_', ' '):24} {value:>14,}")
    print("no fault" if run.returncode == 0 else f"FAILED, status {run.returncode}")
    return run.returncode


def options_of(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.add_options(parser, "table")
    parser.add_argument("command", nargs="?", choices=("measure", "stress"), default="measure")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="utterances, of " + ", ".join(map(str, SIZES)))
    parser.add_argument("--kinds", default="synthetic,real")
    parser.add_argument("--only", default="index,router,changes", help="parts: index, router, changes, churn")
    parser.add_argument("--old", action="store_true", help="the old package too")
    parser.add_argument("--faiss", action="store_true", help="our own graph and lists too (-Dfaiss=enabled)")
    parser.add_argument("--no-graphs", action="store_true", help="leave out the others' graphs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each measurement (default: 3; stress: 60)")
    parser.add_argument("--changes", type=int, default=5000, help="routes added and removed to time it")
    parser.add_argument("--pairs", type=int, default=1000000, help="of churn")
    parser.add_argument("--rate", type=int, default=5000, help="changes a second beside readers")
    parser.add_argument("--readers", type=int, default=4, help="of stress")
    parser.add_argument("--rows", type=int, default=250000, help="of stress")
    parser.add_argument("--work", metavar="DIR", help="where databases are made (default: $TMPDIR)")
    options = parser.parse_args(arguments)
    options.seconds = int(options.seconds or (60 if options.command == "stress" else 3))
    options.sizes = [int(size) for size in options.sizes.split(",")]
    for rows in [*options.sizes, options.rows]:
        if rows not in SIZES:
            common.fail(f"there are no held-out queries for {rows} rows; sizes: {', '.join(map(str, SIZES))}")
    return options


def main():
    options = options_of(sys.argv[1:])
    for path in (SPEED, INDEX) if options.command == "measure" and "index" in options.only else (SPEED,):
        if not os.path.exists(path):
            common.fail(f"{path} is not built; run ninja -C build first")
    if options.command == "stress":
        return stress(options)
    options.machine = common.machine()
    measure(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
