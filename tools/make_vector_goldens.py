#!/usr/bin/env python3
"""Writes the vectors that the encoder's tests compare with, by ONNX Runtime: tests/golden/vectors*.

    build/venv-tools/bin/python tools/make_vector_goldens.py [ONNX]

after `tools/fetch_model`. ONNX defaults to build/fetch/bge-small-en-v1.5/bge-small-en-v1.5.onnx.

    vectors.jsonl             one text a line: {"text", "tokens" (number, uncut), "mean" (row in the mean file, or null)}
    vectors_fp32.f32          row i: CLS vector of line i by the original fp32 weights
    vectors_dequantised.f32   the same with the committed int8 weights, dequantised: what a forward pass in fp32
                              over them must give, so that it can be tested without the fp32 file
    vectors_mean.f32          mean pooling of the dequantised weights, for the lines that name a row

Each .f32 file is rows of 384 little-endian floats, of Euclidean length 1. Texts are cut to 512 tokens.
"""

import json
import os
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

import bert_onnx
import convert_weights
from sample_texts import TEXTS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL = os.path.join(ROOT, "models", "bge-small-en-v1.5")
GOLDEN = os.path.join(ROOT, "tests", "golden")
MEAN_EVERY = 12


def vectors(model, texts, pooling):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json"))
    return bert_onnx.onnx_vectors(session, tokenizer, texts, pooling)


def write(name, rows):
    np.ascontiguousarray(rows, dtype="<f4").tofile(os.path.join(GOLDEN, name))


def main():
    default = os.path.join(ROOT, "build", "fetch", "bge-small-en-v1.5", "bge-small-en-v1.5.onnx")
    original = sys.argv[1] if len(sys.argv) > 1 else default
    replaced = bert_onnx.replace(
        original, convert_weights.dequantise(convert_weights.load_safetensors(MODEL)))
    mean_lines = list(range(0, len(TEXTS), MEAN_EVERY))
    tokenizer = Tokenizer.from_file(os.path.join(MODEL, "tokenizer.json"))
    with open(os.path.join(GOLDEN, "vectors.jsonl"), "w", encoding="utf-8") as file:
        for line, text in enumerate(TEXTS):
            file.write(json.dumps({
                "text": text,
                "tokens": len(tokenizer.encode(text).ids),
                "mean": mean_lines.index(line) if line in mean_lines else None}, ensure_ascii=False) + "\n")
    exact = vectors(original, TEXTS, "cls")
    dequantised = vectors(replaced, TEXTS, "cls")
    write("vectors_fp32.f32", exact)
    write("vectors_dequantised.f32", dequantised)
    write("vectors_mean.f32", vectors(replaced, [TEXTS[line] for line in mean_lines], "mean"))
    cosines = (exact * dequantised).sum(1)
    print(f"{len(TEXTS)} texts; dequantised against fp32: cosine mean {cosines.mean():.6f}, least {cosines.min():.6f}")


if __name__ == "__main__":
    main()
