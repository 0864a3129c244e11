#!/usr/bin/env python3
"""The server under load on this machine, its generator included, with CLINC150's table and in-scope test texts.

    bench/speed/serve.py --data DIR [--seconds 10] [--overload 60]

slow path   processor time of the server for each text with 64 connections, against `route -` for the same texts (start
            taken off); decisions a second
fast path   requests a second with 64 connections; texts a second in batches of 100
at 70 %     of the slow path's highest rate, open loop: p99 against the p50 of one text at a time
at twice    that rate with a deadline: latency of what is answered, of what is shed, what met its deadline, the
            server's memory; and one text at a time as soon as the load has ended

Latency counts from when a request should have been sent (see `synaptoroute load --help`). Prints a table and JSON, and saves
the JSON to bench/results/.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir))
import bench_common as common

DEADLINE_MS = 500


def processor_time(command, text):
    """Seconds of user and system time of a program that reads `text`, and seconds on the clock."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, input=text, text=True, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def route_stream(database, texts):
    """Microseconds of a processor, and of the clock, for each text of `route -`, least of three."""
    command = [common.PROGRAM, "--db", database, "--json", "route", "--path", "slow", "-"]
    # Two texts: one alone would not pack the weights for good.
    start = [min(times) for times in zip(*(processor_time(command, "one\ntwo\n") for _ in range(3)))]
    whole = [min(times) for times in zip(*(processor_time(command, "\n".join(texts) + "\n") for _ in range(3)))]
    return [(all_of - none) / (len(texts) - 2) * 1e6 for all_of, none in zip(whole, start)]


class Server:
    def __init__(self, database):
        self.process = subprocess.Popen([common.PROGRAM, "--db", database, "serve", "--listen", "127.0.0.1:0"],
                                        stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "http://" in line:
                self.url = "http://" + line.split("http://", 1)[1].split()[0].rstrip(",/.")
                break
        else:
            common.fail("the server did not start")

    def seconds(self):
        """Of a processor, so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS"))

    def load(self, texts, *arguments):
        before = self.seconds()
        run = subprocess.run([common.PROGRAM, "--json", "load", self.url, "--texts", texts, *map(str, arguments)],
                             stdout=subprocess.PIPE, text=True)
        if run.returncode != 0:
            common.fail("no request was answered: " + run.stdout)
        return json.loads(run.stdout), self.seconds() - before

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(60) != 0:
            common.fail(f"the server ended with status {self.process.returncode}")


def overload(server, file, rate, seconds):
    before = server.megabytes()
    hard, _ = server.load(file, "--path", "slow", "--rate", 2 * rate, "--connections", 900, "--duration", seconds,
                          "--deadline", DEADLINE_MS)
    after = server.megabytes()
    calm, _ = server.load(file, "--path", "slow", "--connections", 1, "--duration", 1, "--warmup", 0)
    return {"rate": 2 * rate, "seconds": seconds, "deadline_ms": DEADLINE_MS, "ok": hard["ok"], "shed": hard["shed"],
            "errors": hard["errors"], "latency_ms": hard["latency_ms"], "shed_ms": hard["shed_ms"],
            "generator": hard["generator"], "megabytes": [before, after], "afterwards_ms": calm["latency_ms"]}


def measure(server, file, database, texts, options):
    seconds = options.seconds
    stream_cpu, stream_wall = route_stream(database, texts)
    slow, cpu = server.load(file, "--path", "slow", "--duration", seconds, "--warmup", 0)
    fast, fast_cpu = server.load(file, "--path", "fast", "--duration", seconds, "--warmup", 0)
    many, many_cpu = server.load(file, "--path", "fast", "--batch", 100, "--duration", seconds, "--warmup", 0)
    alone, _ = server.load(file, "--path", "slow", "--connections", 1, "--duration", 3)
    rate = slow["requests_per_second"]
    most, _ = server.load(file, "--path", "slow", "--rate", 0.7 * rate, "--connections", 256, "--duration", 2 * seconds)
    return {
        "route_stream": {"cpu_us": stream_cpu, "decisions_per_second": 1e6 / stream_wall},
        "slow": {"requests_per_second": rate, "cpu_us": cpu / slow["ok"] * 1e6, "latency_ms": slow["latency_ms"],
                 "cpu_of_route_stream": cpu / slow["ok"] * 1e6 / stream_cpu},
        "fast": {"requests_per_second": fast["requests_per_second"], "cpu_us": fast_cpu / fast["ok"] * 1e6},
        "fast_batches": {"texts_per_second": many["texts_per_second"], "cpu_us": many_cpu / many["ok"] * 1e4},
        "alone_ms": alone["latency_ms"],
        "at_70_percent": {"rate": 0.7 * rate, "latency_ms": most["latency_ms"], "errors": most["errors"],
                          "p99_of_alone": most["latency_ms"]["p99"] / alone["latency_ms"]["p50"]},
        "overload": overload(server, file, rate, options.overload),
    }


def show(result):
    slow, hard, half = result["slow"], result["overload"], result["at_70_percent"]
    common.table(("server", "figure"), [
        ("`route -`, slow path, decisions/s", result["route_stream"]["decisions_per_second"]),
        ("slow path, 64 connections, requests/s", slow["requests_per_second"]),
        ("  the server's processor time, of `route -`'s", slow["cpu_of_route_stream"]),
        ("fast path, 64 connections, requests/s", result["fast"]["requests_per_second"]),
        ("  batches of 100, texts/s", result["fast_batches"]["texts_per_second"]),
        ("slow path, one at a time, p50 ms", result["alone_ms"]["p50"]),
        ("at 70 % of the highest rate, p99 ms", half["latency_ms"]["p99"]),
        ("  of the p50 of one at a time", half["p99_of_alone"]),
        ("at twice the highest rate: answered", hard["ok"]),
        ("  shed", hard["shed"]),
        ("  errors", hard["errors"]["all"]),
        ("  p99 ms of what is answered (deadline 500)", hard["latency_ms"]["p99"]),
        ("  p50 ms of what is shed", (hard["shed_ms"] or {}).get("p50")),
        ("  p99 ms of what is shed", (hard["shed_ms"] or {}).get("p99")),
        ("  memory before, MB", hard["megabytes"][0]),
        ("  memory after, MB", hard["megabytes"][1]),
        ("at once afterwards, one at a time, p50 ms", hard["afterwards_ms"]["p50"]),
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    common.add_options(parser, "serve")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--overload", type=float, default=60, help="seconds at twice the highest rate")
    options = parser.parse_args()
    data = common.data_directory(options)
    texts = [text for text, _ in common.clinc150(data, "test")]
    with tempfile.TemporaryDirectory() as work:
        database, rows, file = (os.path.join(work, name) for name in ("clinc.db", "train.csv", "texts.txt"))
        common.write_csv(rows, common.clinc150(data, "train"))
        with open(file, "w", encoding="utf-8") as out:
            out.write("\n".join(texts) + "\n")
        subprocess.run([common.PROGRAM, "--quiet", "--db", database, "import", rows], check=True,
                       stdout=subprocess.DEVNULL)
        result = {"benchmark": "serve", "machine": common.machine()}
        server = Server(database)
        result.update(measure(server, file, database, texts, options))
        server.stop()
    show(result)
    common.finish(options, result)


if __name__ == "__main__":
    main()
