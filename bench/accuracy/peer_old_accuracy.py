"""Accuracy of the old Python package on vectors that are known already; called by compare.py.

    peer_old_accuracy.py CASES.json VECTORS.npy

CASES.json: {"texts": {text: row}, "cases": [{"name", "train": [[text, route]], "threshold", "test": [text]}]}.
Prints {name: [route or null for each text]}.
"""

import contextlib
import json
import os
import re
import sys
import tempfile

import numpy as np


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    matrix = np.load(sys.argv[2])
    from synaptoroute import AdaptiveRouter, Route, SQLiteStorage
    from synaptoroute.encoder import BaseEncoder

    class Known(BaseEncoder):
        requires_lock = False
        dim = matrix.shape[1]

        def encode(self, text):
            return matrix[given["texts"][text]]

        def encode_batch(self, texts):
            return matrix[[given["texts"][text] for text in texts]]

    answers = {}
    for case in given["cases"]:
        routes, names = {}, {}
        for text, route in case["train"]:
            routes.setdefault(route, []).append(text)
        with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stdout(sys.stderr):
            router = AdaptiveRouter(encoder=Known(), storage=SQLiteStorage(os.path.join(directory, "old.db")))
            for route, texts in routes.items():
                # The package allows no other characters in a name, strips texts, and wants each once.
                name = re.sub(r"[^a-zA-Z0-9_-]", "_", route)
                names[name] = route
                for text in texts:
                    given["texts"].setdefault(text.strip(), given["texts"][text])
                router.add_route(Route(name=name, utterances=texts, threshold=case["threshold"]))
            found = [router(text) for text in case["test"]]
        answers[case["name"]] = [None if one is None else names[one.name] for one in found]
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
