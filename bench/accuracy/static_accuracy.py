#!/usr/bin/env python3
"""What a trained head reaches on a static model's vectors: scikit-learn's logistic regression.

    bench/accuracy/static_accuracy.py --data DIR [--model NAME|DIR] [--folds N] [--strengths 3,10,30,100]

For Banking77 and for CLINC150 in scope: vectors of all training texts by the C library; C chosen by
cross-validation on them alone; then one fit on all of them and the accuracy on the test texts. Beside it the
accuracy of the nearest training text (cosine), which needs no head. Prints a table and JSON, and saves the JSON
to bench/results/. scikit-learn comes from a virtual environment under build/, made when missing.
"""

import argparse
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, os.pardir), os.path.join(HERE, os.pardir, "peers")]
import bench_common as common


def in_environment():
    """Runs this script again with the Python of a virtual environment that has scikit-learn."""
    try:
        import sklearn  # noqa: F401
        return
    except ImportError:
        pass
    directory = os.path.join(common.BUILD, "venv-accuracy")
    python = os.path.join(directory, "bin", "python")
    if os.path.abspath(sys.executable) == python:
        common.fail("scikit-learn cannot be loaded from build/venv-accuracy; remove that directory and try again")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    subprocess.run([os.path.join(directory, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "-r",
                    os.path.join(HERE, "requirements-accuracy.txt")], check=True)
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


def evaluate(engine, name, train, test, options):
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    start = time.perf_counter()
    x, queries = (engine.encode([text for text, _ in rows]) for rows in (train, test))
    seconds = time.perf_counter() - start
    y, expected = (np.array([route for _, route in rows]) for rows in (train, test))
    head = lambda c: LogisticRegression(C=c, max_iter=1000)
    folds = StratifiedKFold(options.folds, shuffle=True, random_state=0)
    validated = {c: float(cross_val_score(head(c), x, y, cv=folds, n_jobs=options.jobs).mean())
                 for c in options.strengths}
    best = max(validated, key=validated.get)
    accuracy = float(head(best).fit(x, y).score(queries, expected))
    nearest = float((y[(queries @ x.T).argmax(1)] == expected).mean())
    return {"name": name, "train": len(train), "test": len(test), "c": best, "cross_validation": validated,
            "accuracy": accuracy, "nearest_text_accuracy": nearest, "encode_seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    common.add_options(parser, "static-accuracy")
    parser.add_argument("--model", default=os.path.join(common.ROOT, "models", "static-en"))
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--strengths", default="3,10,30,100", metavar="C,...",
                        type=lambda text: [float(c) for c in text.split(",")])
    options = parser.parse_args()
    data = common.data_directory(options)
    if not os.path.exists(common.LIBRARY):
        common.fail(f"{common.LIBRARY} is not built; run ninja -C build first")
    in_environment()
    import peer_engines
    machine = common.machine()
    engine = peer_engines.Ours(common.LIBRARY, options.model, 1)
    runs = [evaluate(engine, "Banking77", common.banking77(data, "train"), common.banking77(data, "test"), options),
            evaluate(engine, "CLINC150 in scope", common.clinc150(data, "train"), common.clinc150(data, "test"),
                     options)]
    common.table(("logistic regression on static vectors", "train", "test", "C", "validated %", "test %",
                  "nearest text %"),
                 [(r["name"], r["train"], r["test"], f"{r['c']:g}", f"{100 * r['cross_validation'][r['c']]:.2f}",
                   f"{100 * r['accuracy']:.2f}", f"{100 * r['nearest_text_accuracy']:.2f}") for r in runs])
    common.finish(options, {"benchmark": "static accuracy", "machine": machine,
                            "model": os.path.basename(os.path.normpath(options.model)),
                            "dimension": engine.dimension, "runs": runs})


if __name__ == "__main__":
    main()
