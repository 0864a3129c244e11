#!/usr/bin/env python3
"""Fits the constants of the confidence prior in src/decide/decide.c and prints them.

Takes a sample of the TRAINING data of CLINC150 and Banking77 (never their test data), encodes it with
bge-small-en-v1.5 through ONNX Runtime, decides each text by its nearest other utterance, and fits
    P(right) = logistic(bias + score * cosine + lead * (cosine - cosine of the second route)).
A table in use may have few or many utterances per route, so decisions are made with 5, 10 and 20 of them.
Out-of-scope texts (oos_train and oos_val) are never right; they are weighted so that they make up a sixth
of CLINC150's decisions. The `lone` constants leave out the lead, for tables of one route: there each
decision compares a text with its own route or, as often, with another.

    fit_confidence_prior.py --model DIR --clinc data_full.json --banking train.csv

DIR holds bge-small-en-v1.5.onnx and bge-small-en-v1.5-tokenizer.json. Needs onnxruntime, tokenizers and
numpy. Takes a few minutes on two cores.
"""
import argparse
import collections
import csv
import json
import random

import numpy as np
import onnxruntime
import tokenizers

PER_ROUTE = 21  # utterances of a route that are encoded: 20 to search and the one to be decided


def sample(rows, rng):
    """At most PER_ROUTE texts of each route, in random order."""
    routes = collections.defaultdict(list)
    for text, route in rows:
        routes[route].append(text)
    for texts in routes.values():
        rng.shuffle(texts)
    return [(text, route) for route in sorted(routes) for text in routes[route][:PER_ROUTE]]


def encode(directory, texts):
    tokenizer = tokenizers.Tokenizer.from_file(f"{directory}/bge-small-en-v1.5-tokenizer.json")
    tokenizer.enable_truncation(512)
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(f"{directory}/bge-small-en-v1.5.onnx")
    names = {entry.name for entry in session.get_inputs()}
    encodings = [tokenizer.encode(text) for text in texts]
    by_length = sorted(range(len(texts)), key=lambda i: len(encodings[i].ids))
    vectors = np.zeros((len(texts), 384), dtype=np.float32)
    for start in range(0, len(by_length), 32):
        batch = by_length[start:start + 32]
        width = max(len(encodings[i].ids) for i in batch)
        ids = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, :len(encodings[i].ids)] = encodings[i].ids
            mask[row, :len(encodings[i].ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: feed[name] for name in names})[0]
        vectors[batch] = hidden[:, 0] if hidden.ndim == 3 else hidden
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def decisions(vectors, labels, outside, per_route, rng):
    """(cosine, lead, right) of every text of a table with `per_route` utterances per route, and the same
    of the texts outside. Routes are numbers; vectors[i] belongs to labels[i]."""
    count = labels.max() + 1
    places = [np.flatnonzero(labels == route) for route in range(count)]

    def best_of_routes(vector, left_out):
        scores = np.full(count, -1.0)
        cosines = vectors @ vector
        for route in range(count):
            candidates = places[route][places[route] != left_out]
            chosen = candidates[:per_route]
            scores[route] = cosines[chosen].max()
        return scores

    inside_rows, lone_rows, outside_rows = [], [], []
    for i in rng.sample(range(len(labels)), len(labels)):
        scores = best_of_routes(vectors[i], i)
        order = np.argsort(-scores)
        inside_rows.append((scores[order[0]], scores[order[0]] - scores[order[1]], order[0] == labels[i]))
        lone_rows.append((scores[labels[i]], 0.0, True))
        lone_rows.append((scores[rng.choice([r for r in range(count) if r != labels[i]])], 0.0, False))
    for vector in outside:
        scores = np.sort(best_of_routes(vector, -1))[::-1]
        outside_rows.append((scores[0], scores[0] - scores[1], False))
    return inside_rows, lone_rows, outside_rows


def fit(features, right, weights):
    """Weighted logistic regression by Newton's method."""
    design = np.column_stack([np.ones(len(features)), features])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (weights * (right - p))
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(len(beta))
        beta += np.linalg.solve(hessian, gradient)
    p = 1 / (1 + np.exp(-design @ beta))
    return beta, p


def report(name, p, right, weights):
    total, ece = weights.sum(), 0.0
    for low in np.arange(0, 1, 0.1):
        inside = (p >= low) & (p < low + 0.1 + 1e-12)
        if inside.any():
            w = weights[inside]
            ece += w.sum() / total * abs(np.average(p[inside], weights=w) - np.average(right[inside], weights=w))
    print(f"{name}: {len(p)} decisions, right {np.average(right, weights=weights):.3f}, "
          f"expected calibration error {ece:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clinc", required=True)
    parser.add_argument("--banking", required=True)
    arguments = parser.parse_args()
    rng = random.Random(1)
    with open(arguments.clinc, encoding="utf-8") as file:
        clinc = json.load(file)
    with open(arguments.banking, encoding="utf-8", newline="") as file:
        banking = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    tables = [sample(clinc["train"], rng), sample(banking, rng)]
    outside = [text for text, _ in clinc["oos_train"] + clinc["oos_val"]]
    texts = [text for table in tables for text, _ in table] + outside
    print(f"encoding {len(texts)} texts")
    vectors = encode(arguments.model, texts)
    outside_vectors = vectors[len(texts) - len(outside):]

    rows, weights, lone = [], [], []
    start = 0
    for number, table in enumerate(tables):
        names = {name: i for i, name in enumerate(sorted({route for _, route in table}))}
        labels = np.array([names[route] for _, route in table])
        own = vectors[start:start + len(table)]
        start += len(table)
        for per_route in (5, 10, 20):
            inside, alone, out = decisions(own, labels, outside_vectors if number == 0 else [], per_route, rng)
            rows += inside + out
            weights += [1.0] * len(inside) + [len(inside) / 5 / len(out)] * len(out) if out else [1.0] * len(inside)
            lone += alone
    data, weights = np.array(rows, dtype=float), np.array(weights)
    beta, p = fit(data[:, :2], data[:, 2], weights)
    report("two routes or more", p, data[:, 2], weights)
    alone = np.array(lone, dtype=float)
    ones = np.ones(len(alone))
    lone_beta, lone_p = fit(alone[:, :1], alone[:, 2], ones)
    report("one route", lone_p, alone[:, 2], ones)
    print("prior = {" + ", ".join(f"{value:.3f}" for value in [*beta, *lone_beta]) + "};")


if __name__ == "__main__":
    main()
