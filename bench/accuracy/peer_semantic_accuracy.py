"""Accuracy of aurelio's semantic-router on vectors that are known already; called by compare.py.

    peer_semantic_accuracy.py CASES.json VECTORS.npy

Cases and answers as in peer_old_accuracy.py; a threshold of null is none, and "fit": [[text, route or null]]
calibrates (its own Platt scaling) and takes the confidence threshold that is best on those texts. Texts are
decided as its evaluate() does, all scored in one call: asking one by one gives the same answers and takes hours.
"""

import json
import os
import sys

import numpy as np


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    matrix = np.load(sys.argv[2])
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder
    from semantic_router.routers.base import run

    class Known(DenseEncoder):
        name: str = "known"

        def __call__(self, docs):
            return matrix[[given["texts"][text] for text in docs]].tolist()

        async def acall(self, docs):
            return self(docs)

    def choose(router, texts):
        scored = run(router._scores_many(texts))
        return [router._choose(scores, 1, None) for scores in scored]

    answers = {}
    for case in given["cases"]:
        routes = {}
        for text, route in case["train"]:
            routes.setdefault(route, []).append(text)
        router = IndexedRouter(encoder=Known(), routes=[Route(name=n, utterances=u) for n, u in routes.items()],
                               top_k=case.get("top_k", 5), aggregation=case.get("aggregation", "mean"),
                               confidence_threshold=case["threshold"])
        if case.get("fit"):
            texts, labels = zip(*case["fit"])
            router.fit(list(texts), list(labels))
            picks = choose(router, list(texts))
            steps = np.linspace(0, 0.98, 50)
            right = [np.mean([(p.name if p.confidence >= step else None) == label for p, label in zip(picks, labels)])
                     for step in steps]
            router.confidence_threshold = float(steps[int(np.argmax(right))])
        answers[case["name"]] = [pick.name for pick in choose(router, case["test"])]
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
