#!/usr/bin/env python3
"""Turns a BERT encoder from ONNX and tokenizer.json into Hugging Face's layout.

    convert_weights.py NAME ONNX TOKENIZER --fp32 DIR --int8 DIR

writes config.json, tokenizer.json (an exact copy), model.safetensors and synaptoroute.json into each
directory asked for. The result is the same on every machine, byte for byte. `tools/fetch_model` fetches
the inputs and calls this.

int8 follows the compressed-tensors convention: each linear layer has `weight` I8 [out, in] and
`weight_scale` F32 [out, 1], symmetric, scale = max|w| / 127; word embeddings likewise, one scale per row.
Clipping the scale so as to minimise the squared error was tried and gained nothing (mean cosine of
the vectors 0.999852 against 0.999851), so the largest weight is kept exactly.

Activations are quantised per token when the model runs, asymmetrically: after GELU they are anything
but symmetric, and the symmetric kind costs a third more error.

In model.safetensors the tensors are laid out with the largest first and the header padded, so that every
tensor begins at a multiple of 64 bytes: the file can be mapped and used in place.
"""

import argparse
import hashlib
import json
import os
import shutil

import numpy as np

import bert_onnx

# int8_cosine: the least mean cosine of int8 vectors with fp32's on the sample texts. What int8 costs differs by
# model: bge-small-en-v1.5 measures 0.99985, all-MiniLM-L6-v2, of half as many layers and with mean pooling,
# 0.99922. The bound stands a little below: it finds a wrong conversion, and does not say that all are as good.
HOST = "https://huggingface.co/"
MODELS = {
    "bge-small-en-v1.5": dict(
        pooling="cls", prefix="", max_tokens=512, license="MIT", repository="BAAI/bge-small-en-v1.5",
        int8_cosine=0.9995),
    "all-MiniLM-L6-v2": dict(
        pooling="mean", prefix="", max_tokens=256, license="Apache-2.0",
        repository="sentence-transformers/all-MiniLM-L6-v2", int8_cosine=0.999),
    "e5-small-v2": dict(
        pooling="mean", prefix="query: ", prefixes={"query": "query: ", "passage": "passage: "}, max_tokens=512,
        license="MIT", repository="intfloat/e5-small-v2",
        int8_cosine=0.9995),
}
ARTIFACT = "Maven artifact dev.langchain4j:langchain4j-embeddings-%s:1.0.0-beta3"
ARTIFACTS = {"bge-small-en-v1.5": "bge-small-en-v15", "all-MiniLM-L6-v2": "all-minilm-l6-v2",
             "e5-small-v2": "e5-small-v2"}
HEADS = 12
EPSILON = 1e-12


def quantise_rows(array):
    """Symmetric int8 with one scale per row: (I8 [rows, columns], F32 [rows, 1])."""
    largest = np.abs(array).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.clip(np.rint(array / scale), -127, 127).astype(np.int8), scale


def is_quantised(name):
    return bert_onnx.is_matrix(name) or name == "embeddings.word_embeddings.weight"


def quantise(tensors):
    """The int8 layout of fp32 tensors."""
    result = {}
    for name, array in tensors.items():
        if is_quantised(name):
            result[name], result[name + "_scale"] = quantise_rows(array)
        else:
            result[name] = array
    return result


def dequantise(tensors):
    """fp32 tensors of the int8 layout: what the fp32 forward pass computes with."""
    result = {}
    for name, array in tensors.items():
        if name.endswith("_scale"):
            continue
        scale = tensors.get(name + "_scale")
        result[name] = array if scale is None else array.astype(np.float32) * scale
    return result


def write_safetensors(path, tensors):
    kinds = {np.dtype(np.float32): "F32", np.dtype(np.int8): "I8"}
    # Sizes that are no multiple of 64 come last, lest they shift the others.
    order = sorted(tensors, key=lambda n: (tensors[n].nbytes % 64 != 0, -tensors[n].nbytes, n))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        array = tensors[name]
        header[name] = {"dtype": kinds[array.dtype], "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def config_of(tensors, quantised):
    word = tensors["embeddings.word_embeddings.weight"].shape
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": word[1],
        "initializer_range": 0.02,
        "intermediate_size": tensors["encoder.layer.0.intermediate.dense.bias"].shape[0],
        "layer_norm_eps": EPSILON,
        "max_position_embeddings": tensors["embeddings.position_embeddings.weight"].shape[0],
        "model_type": "bert",
        "num_attention_heads": HEADS,
        "num_hidden_layers": bert_onnx.count_layers(tensors),
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "type_vocab_size": tensors["embeddings.token_type_embeddings.weight"].shape[0],
        "vocab_size": word[0],
    }
    if quantised:
        weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
        inputs = {"num_bits": 8, "type": "int", "symmetric": False, "strategy": "token", "dynamic": True}
        config["quantization_config"] = {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "quantization_status": "compressed",
            "config_groups": {
                "group_0": {"targets": ["Linear"], "weights": weights, "input_activations": inputs,
                            "output_activations": None},
                "group_1": {"targets": ["re:.*word_embeddings"], "weights": weights,
                            "input_activations": None, "output_activations": None},
            },
            "ignore": [],
        }
    return config


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def digest(path):
    with open(path, "rb") as file:
        data = file.read()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_model(directory, name, tensors, tokenizer, quantised):
    model = MODELS[name]
    os.makedirs(directory, exist_ok=True)
    path = lambda file: os.path.join(directory, file)
    write_json(path("config.json"), config_of(tensors, quantised))
    shutil.copyfile(tokenizer, path("tokenizer.json"))
    write_safetensors(path("model.safetensors"), tensors)
    # The C loader trusts these digests instead of reading all weights at each start.
    write_json(path("synaptoroute.json"), {
        "format": 1,
        "name": name,
        "pooling": model["pooling"],
        "normalize": True,
        "prefix": model["prefix"],
        **({"prefixes": model["prefixes"]} if "prefixes" in model else {}),
        "max_tokens": model["max_tokens"],
        "license": model["license"],
        "source": HOST + model["repository"] + ", by way of the " + ARTIFACT % ARTIFACTS[name],
        "files": {file: digest(path(file)) for file in ("config.json", "tokenizer.json", "model.safetensors")},
    })


def load_safetensors(directory):
    from safetensors.numpy import load_file
    return load_file(os.path.join(directory, "model.safetensors"))


def verify(name, onnx_path, directory, quantised, least):
    """Compares vectors of the written weights, by a plain forward pass, with ONNX Runtime's on the original."""
    import onnxruntime
    from tokenizers import Tokenizer
    from sample_texts import TEXTS

    model = MODELS[name]
    tensors = load_safetensors(directory)
    tensors = dequantise(tensors) if quantised else tensors
    tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    texts = [text for text in TEXTS if len(text) < 400][:50]
    session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    expected = bert_onnx.onnx_vectors(session, tokenizer, texts, model["pooling"], prefix=model["prefix"])
    cosines = []
    for text, vector in zip(texts, expected):
        ids = tokenizer.encode(model["prefix"] + text).ids
        cosines.append(float(vector @ bert_onnx.pool(
            bert_onnx.forward(tensors, ids, HEADS, EPSILON), model["pooling"])))
    print(f"{directory}: {len(texts)} texts against ONNX Runtime: cosine mean {np.mean(cosines):.6f}, "
          f"least {min(cosines):.6f}")
    if np.mean(cosines) < least:
        raise SystemExit(f"{directory}: the mean cosine should be {least} or more: the conversion is wrong")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("onnx")
    parser.add_argument("tokenizer")
    parser.add_argument("--fp32", metavar="DIR", help="write fp32 weights there")
    parser.add_argument("--int8", metavar="DIR", help="write int8 weights there")
    parser.add_argument("--no-verify", action="store_true", help="do not compare with ONNX Runtime")
    options = parser.parse_args()
    tensors = bert_onnx.read(options.onnx)
    int8_cosine = MODELS[options.name]["int8_cosine"]
    for directory, quantised, least in ((options.fp32, False, 0.999999), (options.int8, True, int8_cosine)):
        if directory is None:
            continue
        write_model(directory, options.name, quantise(tensors) if quantised else tensors, options.tokenizer,
                    quantised)
        if not options.no_verify:
            verify(options.name, options.onnx, directory, quantised, least)


if __name__ == "__main__":
    main()
