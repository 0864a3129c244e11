#!/usr/bin/env python3
"""Compares with ONNX Runtime, OpenVINO and the old Python package, on the same texts in the same run.

    bench/peers/peers.py --data DIR [--rounds N] [--only speed,tokens,fidelity,import]

speed      texts a second in batches of 32, and milliseconds for one text, with 1 and 2 threads; tokenising
           included. Texts are sorted by length before they are cut into batches, which spares ONNX Runtime most
           of its padding. Each engine runs in a process of its own; the engines take turns, round by
           round, and the median of the rounds is given.
           Peers: ONNX Runtime fp32 and int8, each on the exporter's graph and on one with fused attention,
           GELU and norms; int8 by its dynamic quantisation. OpenVINO fp32.
tokens     ids of every text of both data sets with the tokenizers package's
fidelity   cosine of vectors with ONNX Runtime's fp32, one at a time
import     Banking77's 10,003 training utterances into a database: the program's whole run, against the old
           package from the start of its imports (and, separately, once it has loaded its model)

Makes its virtual environments under build/ (pinned packages, by pip) and fetches the fp32 model by
tools/fetch_model.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir))
import bench_common as common

WORK = os.path.join(common.BUILD, "peers")
FETCHED = os.path.join(common.BUILD, "fetch", "bge-small-en-v1.5")
ONNX = os.path.join(FETCHED, "bge-small-en-v1.5.onnx")
TOKENIZER = os.path.join(FETCHED, "bge-small-en-v1.5-tokenizer.json")
INT8 = os.path.join(common.ROOT, "models", "bge-small-en-v1.5")
FP32 = os.path.join(common.BUILD, "models-fp32", "bge-small-en-v1.5")
ENGINES = {
    "ours int8": ("ours", INT8),
    "ours fp32": ("ours", FP32),
    "ONNX Runtime int8": ("onnxruntime", os.path.join(WORK, "int8_plain.onnx")),
    "ONNX Runtime int8, fused": ("onnxruntime", os.path.join(WORK, "int8.onnx")),
    "ONNX Runtime fp32": ("onnxruntime", ONNX),
    "ONNX Runtime fp32, fused": ("onnxruntime", os.path.join(WORK, "fused.onnx")),
    "OpenVINO fp32": ("openvino", ONNX),
}


def environment(name, requirements):
    """The Python of a virtual environment under build/ that holds what the file requires."""
    directory = os.path.join(common.BUILD, name)
    wanted, installed = os.path.join(HERE, requirements), os.path.join(directory, "installed.txt")
    read = lambda path: open(path, encoding="utf-8").read() if os.path.exists(path) else None
    if read(installed) != read(wanted):
        print(f"peers.py: installing {requirements} into build/{name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([os.path.join(directory, "bin", "pip"), "install", "-q", "--disable-pip-version-check",
                        "-r", wanted], check=True)
        shutil.copyfile(wanted, installed)
    return os.path.join(directory, "bin", "python")


def run_json(*command):
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        common.fail(f"{' '.join(command)} failed")
    return json.loads(run.stdout.splitlines()[-1])


def encoder_command(python, mode, engine, texts, *more):
    kind, model = ENGINES[engine]
    return [python, os.path.join(HERE, "peer_encode.py"), mode, kind, model, "--library", common.LIBRARY,
            "--tokenizer", TOKENIZER, "--texts", texts, *more]


def measure_speed(python, texts, rounds, seconds):
    runs = {}
    for _ in range(rounds):
        for threads in (1, 2):
            for engine in ENGINES:
                runs.setdefault((engine, threads), []).append(run_json(*encoder_command(
                    python, "speed", engine, texts, "--threads", str(threads), "--seconds", str(seconds))))
    results = []
    for (engine, threads), measured in runs.items():
        median = {key: statistics.median(run[key] for run in measured)
                  for key in ("texts_per_second", "p50_ms", "p99_ms")}
        results.append({"engine": engine, "threads": threads, **median,
                        "rounds": [round(run["texts_per_second"], 1) for run in measured],
                        "cpu_level": measured[0]["cpu_level"]})
    common.table(("encoding", "threads", "texts/s", "p50 ms", "p99 ms"),
                 [(r["engine"], r["threads"], r["texts_per_second"], r["p50_ms"], r["p99_ms"]) for r in results])
    figure = lambda engine, threads, key: next(
        r[key] for r in results if (r["engine"], r["threads"]) == (engine, threads))
    peers = ("ONNX Runtime int8", "ONNX Runtime int8, fused")
    ratios = {}
    for threads in (1, 2):
        rate = max(figure(peer, threads, "texts_per_second") for peer in peers)
        p50 = min(figure(peer, threads, "p50_ms") for peer in peers)
        ratios[f"batches_{threads}"] = figure("ours int8", threads, "texts_per_second") / rate
        ratios[f"p50_{threads}"] = figure("ours int8", threads, "p50_ms") / p50
        print(f"ours int8 / the faster ONNX Runtime int8, {threads} threads: "
              f"{ratios[f'batches_{threads}']:.2f} the texts a second, {ratios[f'p50_{threads}']:.2f} the p50")
    print()
    return {"speed": results, "ratios_to_onnx_runtime_int8": ratios}


def measure_tokens(python, data):
    texts = os.path.join(WORK, "all-texts.json")
    with open(texts, "w", encoding="utf-8") as file:
        json.dump(common.all_texts(data), file)
    result = run_json(*encoder_command(python, "tokens", "ours int8", texts))
    print(f"token ids: {result['texts']} texts, {result['different']} differ from the tokenizers package's\n")
    return {"tokens": result}


def measure_fidelity(python, texts):
    import_numpy = ("import json, sys; import numpy as np; a, b = (np.load(p) for p in sys.argv[1:]); "
                    "c = (a.astype(float) * b).sum(1); print(json.dumps({'mean': c.mean(), 'least': c.min()}))")
    results = []
    reference = os.path.join(WORK, "reference.npy")
    run_json(*encoder_command(python, "vectors", "ONNX Runtime fp32", texts, "--threads", "2", "--out", reference))
    for engine in ("ours fp32", "ours int8", "ONNX Runtime int8", "ONNX Runtime int8, fused"):
        other = os.path.join(WORK, "other.npy")
        run_json(*encoder_command(python, "vectors", engine, texts, "--threads", "2", "--out", other))
        results.append({"engine": engine, **run_json(python, "-c", import_numpy, reference, other)})
    print("cosine with ONNX Runtime fp32")
    common.table(("engine", "mean", "least"),
                 [(r["engine"], f"{r['mean']:.7f}", f"{r['least']:.7f}") for r in results])
    print()
    return {"fidelity": results}


def old_model():
    """The model in the layout that the old package's encoder loads."""
    directory = os.path.join(WORK, "old-model")
    os.makedirs(directory, exist_ok=True)
    for source, name in ((ONNX, "model_optimized.onnx"), (TOKENIZER, "tokenizer.json"),
                         (os.path.join(FP32, "config.json"), "config.json")):
        shutil.copyfile(source, os.path.join(directory, name))
    for name, content in (("tokenizer_config.json", {"model_max_length": 512, "pad_token": "[PAD]"}),
                          ("special_tokens_map.json", {"pad_token": "[PAD]", "unk_token": "[UNK]"})):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            json.dump(content, file)
    return directory


def measure_import(data):
    rows = common.banking77(data, "train")
    routes = {}
    for text, route in rows:
        routes.setdefault(route, []).append(text)
    python, model = environment("venv-peers-old", "requirements-old.txt"), old_model()
    threads = str(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as directory:
        path = lambda name: os.path.join(directory, name)
        common.write_csv(path("train.csv"), rows)
        with open(path("routes.json"), "w", encoding="utf-8") as file:
            json.dump(routes, file)
        start = time.monotonic()
        done = subprocess.run([common.PROGRAM, "--db", path("routes.db"), "--threads", threads, "import", "--no-fit",
                               path("train.csv")], capture_output=True, text=True)
        ours = time.monotonic() - start
        if done.returncode != 0:
            common.fail(f"import failed: {done.stderr}")
        old = run_json(python, os.path.join(HERE, "peer_import.py"), model, path("routes.json"), path("old.db"),
                       threads)
    result = {"utterances": len(rows), "threads": int(threads), "ours_seconds": ours, "old_package": old,
              "share_of_old": ours / old["seconds_after_loading"]}
    common.table(("import of 10,003 utterances", "seconds"),
                 [("ours, the whole run", ours), ("old package", old["seconds"]),
                  ("old package, model loaded", old["seconds_after_loading"])])
    print(f"ours / old package: {result['share_of_old']:.3f}\n")
    return {"import": result}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--texts", type=int, default=1000, help="how many, for speed and fidelity")
    parser.add_argument("--only", default="speed,tokens,fidelity,import")
    options = parser.parse_args()
    data = common.data_directory(options)
    parts = options.only.split(",")
    for path in (common.LIBRARY, common.PROGRAM):
        if not os.path.exists(path) and (path == common.LIBRARY or "import" in parts):
            common.fail(f"{path} is not built; run ninja -C build first")
    os.makedirs(WORK, exist_ok=True)
    if not os.path.exists(os.path.join(FP32, "synaptoroute.json")) or not os.path.exists(ONNX):
        subprocess.run([os.path.join(common.ROOT, "tools", "fetch_model")], check=True, stdout=sys.stderr)
    python = environment("venv-peers", "requirements.txt")
    subprocess.run([python, os.path.join(HERE, "peer_models.py"), ONNX, WORK], check=True, stdout=sys.stderr)
    texts = os.path.join(WORK, "texts.json")
    with open(texts, "w", encoding="utf-8") as file:
        json.dump(common.sample(data, options.texts), file)
    result = {"benchmark": "peers", "machine": common.machine(), "texts": options.texts}
    if "speed" in parts:
        result.update(measure_speed(python, texts, options.rounds, options.seconds))
    if "tokens" in parts:
        result.update(measure_tokens(python, data))
    if "fidelity" in parts:
        result.update(measure_fidelity(python, texts))
    if "import" in parts:
        result.update(measure_import(data))
    common.finish(options, result)


if __name__ == "__main__":
    main()
