#!/usr/bin/env python3
"""Accuracy beside scikit-learn, the old Python package and aurelio's semantic-router, all in one run.

    bench/accuracy/compare.py --data DIR [--only PART,...] [--seeds N]

Parts (default: all)
  full       all training texts of Banking77 and CLINC150: this router before a fit (nearest neighbour) and by its
             slow, fast and automatic path, beside the others; in scope without rejection
  scope      all 5,500 test texts of CLINC150, with automatic thresholds, with the 100 out-of-scope training texts
             put into the table and without any: overall, in scope, out-of-scope recall, AUROC, calibration error,
             and what the fast path answers. The others with the cosine that suits them best on the validation
             texts (semantic-router: its own calibration on those), which this router is not given
  few        5, 10 and 20 texts per route, N samples of each (--seeds): mean and standard deviation
  typos      two random edits in each test text of Banking77: what they cost this router, and the nearest neighbour
  program    the program itself: import, which fits, and eval of both data sets by each path; the time of a fit
             of CLINC150; decisions a second of `route -` for its in-scope test texts, automatic against slow

Everybody gets the same vectors, those of this library's default model, made once and kept under build/. All runs
of this router but those of `program` go through the C API with an encoder that looks vectors up. Virtual
environments with pinned packages are made under build/. Prints tables and JSON, and saves the JSON to
bench/results/.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, os.pardir)]
import bench_common as common

WORK = os.path.join(common.BUILD, "compare")
SHOTS = (5, 10, 20)
BINS = 15


# ---- Environments ---------------------------------------------------------------------------------------------------

def environment(name, requirements):
    """The Python of a virtual environment under build/ that holds what the file requires."""
    directory, wanted = os.path.join(common.BUILD, name), os.path.join(HERE, requirements)
    installed, python = os.path.join(directory, "installed.txt"), os.path.join(directory, "bin", "python")
    with open(wanted, encoding="utf-8") as file:
        content = file.read()
    if not os.path.exists(installed) or open(installed, encoding="utf-8").read() != content:
        print(f"compare.py: installing {requirements} into build/{name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r",
                        wanted], check=True)
        with open(installed, "w", encoding="utf-8") as file:
            file.write(content)
    return python


def in_environment():
    """Runs this script again with a Python that has scikit-learn."""
    python = environment("venv-accuracy", "requirements-accuracy.txt")
    if os.path.abspath(sys.executable) != python:
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


# ---- Data -----------------------------------------------------------------------------------------------------------

class Data:
    """Texts of both data sets, and their vectors."""

    def __init__(self, directory, library, options):
        read = lambda *splits: common.clinc150(directory, *splits)
        self.banking = {"name": "Banking77", "train": common.banking77(directory, "train"),
                        "test": common.banking77(directory, "test")}
        self.clinc = {"name": "CLINC150", "train": read("train"), "test": read("test")}
        self.val, self.oos_val = read("val"), [text for text, _ in read("oos_val")]
        self.oos_train, self.oos_test = ([text for text, _ in read(s)] for s in ("oos_train", "oos_test"))
        self.typos = [(misspell(text, i), route) for i, (text, route) in enumerate(self.banking["test"])]
        texts = [text for rows in (self.banking["train"], self.banking["test"], self.clinc["train"],
                                   self.clinc["test"], self.val, self.typos) for text, _ in rows]
        texts += self.oos_val + self.oos_train + self.oos_test
        texts = list(dict.fromkeys(texts))
        self.rows = {text: i for i, text in enumerate(texts)}
        self.library, self.encoder = library, library.open_encoder(options.model)
        self.matrix = self.vectors(texts)

    def vectors(self, texts):
        import numpy as np
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
        self.file = os.path.join(WORK, f"vectors-{self.library.fingerprint(self.encoder)[:12]}-{digest}.npy")
        if not os.path.exists(self.file):
            print(f"compare.py: encoding {len(texts)} texts", file=sys.stderr)
            os.makedirs(WORK, exist_ok=True)
            np.save(self.file, self.library.encode(self.encoder, texts))
        return np.load(self.file)

    def of(self, texts):
        return self.matrix[[self.rows[text] for text in texts]]


def misspell(text, seed):
    """Two random edits among letters: one left out, doubled, replaced or swapped with the next."""
    chance = random.Random(f"typo {seed}")
    letters = "abcdefghijklmnopqrstuvwxyz"
    for _ in range(2):
        places = [i for i, c in enumerate(text) if c.isalpha()]
        if not places:
            return text
        i, kind = chance.choice(places), chance.randrange(4)
        swapped = text[i + 1:i + 2] + text[i]
        text = text[:i] + ("", 2 * text[i], chance.choice(letters), swapped)[kind] + text[i + (2 if kind == 3 else 1):]
    return text


def sample(rows, shots, seed):
    """`shots` rows of each route, in the order of the file."""
    chance, places = random.Random(f"{shots} {seed}"), {}
    for i, (_, route) in enumerate(rows):
        places.setdefault(route, []).append(i)
    chosen = sorted(i for mine in places.values() for i in chance.sample(mine, min(shots, len(mine))))
    return [rows[i] for i in chosen]


# ---- Figures --------------------------------------------------------------------------------------------------------

def share(flags):
    flags = list(flags)
    return sum(flags) / len(flags) if flags else None


def auroc(inside, outside):
    import numpy as np
    from sklearn.metrics import roc_auc_score
    return float(roc_auc_score(np.r_[np.ones(len(inside)), np.zeros(len(outside))], np.r_[inside, outside]))


def calibration_error(confidences, right):
    bins = {}
    for confidence, hit in zip(confidences, right):
        one = bins.setdefault(max(-int(-confidence * BINS // 1) - 1, 0), [0.0, 0])
        one[0] += confidence
        one[1] += hit
    return sum(abs(c - r) for c, r in bins.values()) / len(confidences)


def scope_figures(decisions, expected):
    """`expected` None: out of scope."""
    inside = [d for d, e in zip(decisions, expected) if e is not None]
    outside = [d for d, e in zip(decisions, expected) if e is None]
    fast = [e is None for d, e in zip(decisions, expected) if d[3]]
    return {"overall": share(d[0] == e for d, e in zip(decisions, expected)),
            "in_scope": share(d[0] == e for d, e in zip(decisions, expected) if e is not None),
            "oos_recall": share(d[0] is None for d in outside),
            "auroc": auroc([d[2] for d in inside], [d[2] for d in outside]),
            "ece": calibration_error([d[2] for d in decisions], [d[1] == e for d, e in zip(decisions, expected)]),
            "fast_share_in_scope": share(d[3] for d in inside), "oos_among_fast": share(fast)}


# ---- This router ----------------------------------------------------------------------------------------------------

def make_router(data, train, oos=(), fit=True, options=None):
    import router_api
    router = router_api.Router(data.library, data.rows, data.matrix, data.encoder, threads=options.threads or 0)
    router.put(train, oos)
    return router, router.fit() if fit else None


def in_scope(router, test, path):
    texts = [text for text, _ in test]
    decisions = router.decide(texts, path, no_reject=True)
    right = [d[1] == route for d, (_, route) in zip(decisions, test)]
    return {"accuracy": share(right), "ece": calibration_error([d[2] for d in decisions], right),
            "fast_share": share(d[3] for d in decisions)}


def ours(data, train, test, options):
    """Figures in scope, by contender."""
    router, _ = make_router(data, train, fit=False, options=options)
    results = {"ours, not fitted": in_scope(router, test, "slow")}
    report = router.fit()
    for path in ("slow", "fast", "auto"):
        try:
            results["ours, " + path] = in_scope(router, test, path)
        except RuntimeError as error:
            print(f"compare.py: {path}: {error}", file=sys.stderr)
    router.close()
    results["ours, slow"]["fit"] = report
    return results


# ---- The others -----------------------------------------------------------------------------------------------------

def logistic_regression(data, train):
    from sklearn.linear_model import LogisticRegression
    head = LogisticRegression(C=100, max_iter=1000)
    return head.fit(data.of([text for text, _ in train]), [route for _, route in train])


def nearest(data, train, texts):
    """Route and cosine of each text's nearest."""
    import numpy as np
    cosines = data.of(texts) @ data.of([text for text, _ in train]).T
    best = cosines.argmax(1)
    return [train[i][1] for i in best], cosines[np.arange(len(texts)), best]


def scikit_learn(data, train, test):
    from sklearn.neighbors import KNeighborsClassifier
    x, queries = data.of([text for text, _ in train]), data.of([text for text, _ in test])
    expected, y = [route for _, route in test], [route for _, route in train]
    neighbour = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(x, y)
    return {"scikit-learn, nearest neighbour": {"accuracy": float(neighbour.score(queries, expected))},
            "scikit-learn, logistic regression": {
                "accuracy": float(logistic_regression(data, train).score(queries, expected))}}


PEERS = {"old package 0.3.0": ("peer_old_accuracy.py", "venv-accuracy-old", "requirements-old-accuracy.txt"),
         "semantic-router 1.1.1": ("peer_semantic_accuracy.py", "venv-accuracy-semantic",
                                   "requirements-semantic-accuracy.txt")}


def ask_peer(peer, data, cases):
    """Answers of another package, in a process of its own."""
    script, venv, requirements = PEERS[peer]
    texts = {text: data.rows[text] for case in cases
             for text in [t for t, _ in case["train"] + case.get("fit", [])] + case["test"]}
    path = os.path.join(WORK, script.replace(".py", ".json"))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"texts": texts, "cases": cases}, file)
    start = time.monotonic()
    done = subprocess.run([environment(venv, requirements), os.path.join(HERE, script), path, data.file],
                          stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        common.fail(f"{script} failed")
    print(f"compare.py: {peer}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def ask_peers(data, cases, thresholds):
    """{peer: {case: answers}}; `cases` are (name, train, test)."""
    return {peer: ask_peer(peer, data, [{"name": name, "train": train, "test": [text for text, _ in test],
                                         "threshold": thresholds[peer]} for name, train, test in cases])
            for peer in PEERS}


NO_REJECTION = {"old package 0.3.0": -1.0, "semantic-router 1.1.1": None}


# ---- Parts ----------------------------------------------------------------------------------------------------------

def measure_full(data, options):
    sets = (data.banking, data.clinc)
    results = {each["name"]: {**ours(data, each["train"], each["test"], options),
                              **scikit_learn(data, each["train"], each["test"])} for each in sets}
    answers = {} if options.no_packages else ask_peers(
        data, [(each["name"], each["train"], each["test"]) for each in sets], NO_REJECTION)
    for peer, found in answers.items():
        for each in sets:
            results[each["name"]][peer] = {
                "accuracy": share(a == route for a, (_, route) in zip(found[each["name"]], each["test"]))}
    contenders = list(results["CLINC150"])
    cell = lambda name, contender, key: percent(results[name].get(contender, {}).get(key))
    common.table(("all training texts, in scope, no rejection", "Banking77 %", "fast %", "ECE %", "CLINC150 %",
                  "fast %", "ECE %"),
                 [(c, *(cell(name, c, key) for name in results for key in ("accuracy", "fast_share", "ece")))
                  for c in contenders])
    for name, found in results.items():
        print(f"fit of {name}: {found['ours, slow']['fit']['seconds']:.1f} s with vectors given")
    print()
    return {"full": results}


def percent(value):
    return None if value is None else f"{100 * value:.2f}"


def best_cosine(data, score, expected_best):
    """The threshold on a score that gives most right answers on the validation texts."""
    import numpy as np
    rows = sorted(zip(score, expected_best), key=lambda row: row[0])
    right = np.array([hit for _, hit in rows], dtype=float)
    outside = np.array([hit is None for _, hit in rows], dtype=float)
    right[outside == 1] = 0
    gained = np.r_[right.sum(), right.sum() + np.cumsum(outside - right)]
    at = int(gained.argmax())
    return float(rows[at][0]) if at < len(rows) else float("inf")


def scope_of_others(data, test, expected):
    """The nearest neighbour and logistic regression, each with the threshold that suits the validation texts."""
    train, val = data.clinc["train"], data.val + [(text, None) for text in data.oos_val]
    head = logistic_regression(data, train)

    def by_neighbour(texts):
        return nearest(data, train, texts)

    def by_regression(texts):
        return head.predict(data.of(texts)), head.decision_function(data.of(texts)).max(1)

    results = {}
    for name, ask in (("scikit-learn, nearest neighbour", by_neighbour),
                      ("scikit-learn, logistic regression", by_regression)):
        routes, scores = ask([text for text, _ in val])
        threshold = best_cosine(data, scores, [None if e is None else r == e for r, (_, e) in zip(routes, val)])
        routes, scores = ask(test)
        decisions = [(r if s >= threshold else None, r, float(s), False) for r, s in zip(routes, scores)]
        figures = scope_figures([(a, b, min(max(c, 0), 1), f) for a, b, c, f in decisions], expected)
        figures["auroc"] = auroc([d[2] for d, e in zip(decisions, expected) if e is not None],
                                 [d[2] for d, e in zip(decisions, expected) if e is None])
        figures.update(ece=None, fast_share_in_scope=None, oos_among_fast=None)
        results[name + ", threshold from val"] = figures
        if ask is by_neighbour:
            results["old package 0.3.0"] = {"threshold": threshold}
    return results


def scope_of_packages(data, test, expected, threshold):
    train = data.clinc["train"]
    val = [list(row) for row in data.val] + [[text, None] for text in data.oos_val]
    cases = {"old package 0.3.0": [("threshold 0.60", {"threshold": 0.60}),
                                   ("threshold from val", {"threshold": threshold})],
             "semantic-router 1.1.1": [("calibrated on val", {"threshold": None, "fit": val})]}
    results = {}
    for peer, kinds in cases.items():
        answers = ask_peer(peer, data, [{"name": kind, "train": train, "test": test, **more} for kind, more in kinds])
        for kind, found in answers.items():
            results[f"{peer}, {kind}"] = {
                "overall": share(a == e for a, e in zip(found, expected)),
                "in_scope": share(a == e for a, e in zip(found, expected) if e is not None),
                "oos_recall": share(a is None for a, e in zip(found, expected) if e is None)}
    return results


def measure_scope(data, options):
    test = [text for text, _ in data.clinc["test"]] + data.oos_test
    expected = [route for _, route in data.clinc["test"]] + [None] * len(data.oos_test)
    results = {}
    for name, oos in (("with 100 out-of-scope texts", data.oos_train), ("without any", ())):
        router, report = make_router(data, data.clinc["train"], oos, options=options)
        for path in ("slow", "fast", "auto"):
            try:
                results[f"ours, {path}, {name}"] = scope_figures(router.decide(test, path), expected)
            except RuntimeError as error:
                print(f"compare.py: {path}: {error}", file=sys.stderr)
        results[f"ours, slow, {name}"]["fit"] = report
        router.close()
    router, _ = make_router(data, data.clinc["train"], fit=False, options=options)
    results["ours, not fitted, cosine 0.60"] = scope_figures(router.decide(test, "slow"), expected)
    router.close()
    others = scope_of_others(data, test, expected)
    threshold = others.pop("old package 0.3.0")["threshold"]
    results.update(others)
    if not options.no_packages:
        results.update(scope_of_packages(data, test, expected, threshold))
    keys = ("overall", "in_scope", "oos_recall", "auroc", "ece", "fast_share_in_scope", "oos_among_fast")
    common.table(("CLINC150, all 5,500 test texts", "overall %", "in scope %", "oos recall %", "AUROC", "ECE %",
                  "fast, in scope %", "oos among fast %"),
                 [(name, *(f"{found[k]:.4f}" if k == "auroc" and found.get(k) is not None else percent(found.get(k))
                           for k in keys)) for name, found in results.items()])
    print()
    return {"scope": results}


def measure_few(data, options):
    sets = (data.banking, data.clinc)
    samples = [(each["name"], shots, seed, sample(each["train"], shots, seed), each["test"])
               for each in sets for shots in SHOTS for seed in range(options.seeds)]
    runs = {}

    def keep(name, shots, contender, accuracy):
        runs.setdefault((name, shots), {}).setdefault(contender, []).append(accuracy)

    for name, shots, seed, train, test in samples:
        for contender, found in {**ours(data, train, test, options), **scikit_learn(data, train, test)}.items():
            keep(name, shots, contender, found["accuracy"])
        print(f"compare.py: {name}, {shots} per route, sample {seed + 1}", file=sys.stderr)
    if not options.no_packages:
        cases = [(f"{name} {shots} {seed}", train, test) for name, shots, seed, train, test in samples]
        for peer, found in ask_peers(data, cases, NO_REJECTION).items():
            for name, shots, seed, _, test in samples:
                keep(name, shots, peer, share(
                    a == route for a, (_, route) in zip(found[f"{name} {shots} {seed}"], test)))
    shown = lambda values: None if not values else f"{100 * statistics.mean(values):.2f}" + (
        f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else "")
    contenders = list(next(iter(runs.values())))
    common.table((f"in scope, {options.seeds} samples", *(f"{name} {shots}" for name, shots in runs)),
                 [(c, *(shown(found.get(c)) for found in runs.values())) for c in contenders])
    print()
    return {"few": [{"data": name, "per_route": shots, "contender": c, "mean": statistics.mean(values),
                     "deviation": statistics.stdev(values) if len(values) > 1 else 0, "accuracies": values}
                    for (name, shots), found in runs.items() for c, values in found.items()]}


def measure_typos(data, options):
    train, results = data.banking["train"], {}
    for fitted in (False, True):
        router, _ = make_router(data, train, fit=fitted, options=options)
        for path in ("slow", "auto") if fitted else ("slow",):
            clean, typos = (in_scope(router, test, path)["accuracy"] for test in (data.banking["test"], data.typos))
            results["ours, " + (path if fitted else "not fitted")] = {
                "clean": clean, "typos": typos, "cost": clean - typos}
        router.close()
    baseline = results["ours, not fitted"]["cost"]
    common.table(("Banking77, two random edits", "clean %", "typos %", "cost %", "share of the neighbour's cost"),
                 [(name, percent(r["clean"]), percent(r["typos"]), percent(r["cost"]), r["cost"] / baseline)
                  for name, r in results.items()])
    print()
    return {"typos": results}


# ---- The program ----------------------------------------------------------------------------------------------------

def run_program(options, database, *arguments, stdin=None):
    command = [common.PROGRAM, "--db", database]
    if options.model:
        command += ["--model", options.model]
    if options.threads:
        command += ["--threads", str(options.threads)]
    start = time.monotonic()
    done = subprocess.run(command + list(arguments), input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        common.fail(f"{' '.join(command + list(arguments))} failed: {done.stderr.strip()}")
    return done.stdout, time.monotonic() - start


def decisions_a_second(options, database, texts, fast_share):
    """`route -`, the median of the rounds, the paths taking turns; starting the program included."""
    lines, times = "".join(text + "\n" for text in texts), {"slow": [], "auto": []}
    for _ in range(options.rounds):
        for path, found in times.items():
            found.append(run_program(options, database, "--json", "route", "-", "--path", path, stdin=lines)[1])
    one = run_program(options, database, "--json", "route", "-", "--path", "slow", stdin=lines.split("\n")[0])[1]
    rates = {path: len(texts) / (statistics.median(found) - one) for path, found in times.items()}
    whole = {path: len(texts) / statistics.median(found) for path, found in times.items()}
    target = 0.9 / (1 - fast_share) if fast_share < 1 else None
    result = {"texts": len(texts), "start_seconds": one, "per_second": rates, "per_second_with_start": whole,
              "ratio": rates["auto"] / rates["slow"], "target": target}
    print(f"decisions a second, starting apart: slow {rates['slow']:,.0f}, auto {rates['auto']:,.0f}, ratio "
          f"{result['ratio']:.2f}, wanted 0.9 / (1 - {fast_share:.3f}) = {target:.2f}")
    return result


def measure_program(data, options):
    results = {}
    for each in (data.banking, data.clinc):
        with tempfile.TemporaryDirectory() as directory:
            path = lambda name: os.path.join(directory, name)
            common.write_csv(path("train.csv"), each["train"])
            common.write_csv(path("test.csv"), each["test"])
            imported, seconds = run_program(options, path("r.db"), "--json", "import", path("train.csv"))
            result = {"import": json.loads(imported), "import_seconds": seconds}
            fitted, seconds = run_program(options, path("r.db"), "--json", "fit")
            result.update(fit=json.loads(fitted), fit_seconds=seconds)
            for by in ("slow", "fast", "auto"):
                result[by] = json.loads(run_program(options, path("r.db"), "--json", "eval", path("test.csv"),
                                                    "--no-reject", "--path", by)[0])
            if each is data.clinc:
                result["speed"] = decisions_a_second(options, path("r.db"), [text for text, _ in each["test"]],
                                                     result["auto"]["fast_share"])
            results[each["name"]] = result
    common.table(("the program", "import s", "fit s", "slow %", "fast %", "auto %", "answered fast %", "ECE auto"),
                 [(name, r["import_seconds"], r["fit_seconds"], *(percent(r[by]["accuracy"]) for by in
                                                                  ("slow", "fast", "auto")),
                   percent(r["auto"]["fast_share"]), r["auto"]["ece"]) for name, r in results.items()])
    print()
    return {"program": results}


PARTS = {"full": measure_full, "scope": measure_scope, "few": measure_few, "typos": measure_typos,
         "program": measure_program}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "compare")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="samples of each size (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="of the decisions a second")
    parser.add_argument("--no-packages", action="store_true",
                        help="without the old one and semantic-router, which take most of the time")
    parser.add_argument("--model", help="as the program's own option")
    parser.add_argument("--threads", type=int, help="as the program's own option")
    options = parser.parse_args()
    parts = options.only.split(",")
    for part in parts:
        if part not in PARTS:
            common.fail(f"--only {part} is none of {', '.join(PARTS)}")
    directory = common.data_directory(options)
    for path in (common.LIBRARY, common.PROGRAM):
        if not os.path.exists(path):
            common.fail(f"{path} is not built; run ninja -C build first")
    in_environment()
    import router_api
    machine, library = common.machine(), router_api.Library(common.LIBRARY)
    data = Data(directory, library, options)
    result = {"benchmark": "compare", "machine": machine, "model": options.model or "bge-small-en-v1.5",
              "fingerprint": library.fingerprint(data.encoder), "seeds": options.seeds}
    for part in parts:
        result.update(PARTS[part](data, options))
    common.finish(options, result)


if __name__ == "__main__":
    main()
