"""Reading BERT encoders that were exported to ONNX by PyTorch.

An exporter keeps the names of biases, norms and embeddings, but makes the matrices of linear layers
anonymous ("onnx::MatMul_1525") and stores them transposed, as [in, out]. Their names are found again
from the nodes that use them: "/encoder/layer.0/attention/self/query/MatMul". What comes out is the
layout of Hugging Face's BertModel: matrices as [out, in], names without a prefix.

`forward` is the plain forward pass in NumPy, by which a conversion is checked.
"""

import math

import numpy as np
import onnx
from onnx import numpy_helper

_erf = np.frompyfunc(math.erf, 1, 1)


def _matrix_names(model):
    """Maps the name of each anonymous matrix to the layer that uses it."""
    names = {}
    initialisers = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in initialisers:
            continue
        if not node.name.endswith("/MatMul"):
            raise SystemExit(f"unexpected name of a MatMul node: {node.name}")
        layer = node.name[: -len("/MatMul")].strip("/").replace("/", ".") + ".weight"
        if node.input[1] in names:
            raise SystemExit(f"{node.input[1]} is used by two layers; tied matrices are not supported")
        names[node.input[1]] = layer
    return names


def read(path):
    """Returns {name: float32 array} in the layout of BertModel; the pooler and position ids are left out."""
    model = onnx.load(path)
    matrices = _matrix_names(model)
    tensors = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name in matrices:
            tensors[matrices[tensor.name]] = np.ascontiguousarray(array.T)
        elif tensor.name.startswith(("embeddings.", "encoder.")) and array.dtype == np.float32:
            tensors[tensor.name] = array
    missing = set(expected_names(count_layers(tensors))) ^ set(tensors)
    if missing:
        raise SystemExit(f"{path}: not the tensors of a BertModel; differing: {sorted(missing)[:5]}")
    return tensors


def replace(path, tensors):
    """Returns the ONNX model of `path`, serialised, its weights replaced by those of `tensors`."""
    model = onnx.load(path)
    matrices = _matrix_names(model)
    for tensor in model.graph.initializer:
        layer = matrices.get(tensor.name)
        if layer is not None:
            array = np.ascontiguousarray(tensors[layer].T)
        elif tensor.name in tensors:
            array = tensors[tensor.name]
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float32), tensor.name))
    return model.SerializeToString()


def count_layers(tensors):
    numbers = {int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer.")}
    return len(numbers)


def expected_names(layers):
    names = ["embeddings.%s_embeddings.weight" % kind for kind in ("word", "position", "token_type")]
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        prefix = f"encoder.layer.{i}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value",
                     "attention.output.dense", "intermediate.dense", "output.dense"):
            names += [prefix + part + ".weight", prefix + part + ".bias"]
        norms += [prefix + "attention.output.LayerNorm", prefix + "output.LayerNorm"]
    for norm in norms:
        names += [norm + ".weight", norm + ".bias"]
    return names


def is_matrix(name):
    """Whether a tensor belongs to a linear layer, and so is quantised with a scale per output."""
    return name.startswith("encoder.") and name.endswith(".weight") and "LayerNorm" not in name


def _norm(x, tensors, name, epsilon):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * tensors[name + ".weight"] + tensors[name + ".bias"]


def _linear(x, tensors, name):
    return x @ tensors[name + ".weight"].T + tensors[name + ".bias"]


def _attention(x, tensors, prefix, heads):
    width = x.shape[1] // heads
    split = lambda part: _linear(x, tensors, prefix + "self." + part).reshape(-1, heads, width).transpose(1, 0, 2)
    query, key, value = split("query"), split("key"), split("value")
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(width)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    return (scores @ value).transpose(1, 0, 2).reshape(x.shape)


def forward(tensors, ids, heads, epsilon=1e-12):
    """The last hidden state of one text, [tokens, hidden]."""
    x = (tensors["embeddings.word_embeddings.weight"][ids]
         + tensors["embeddings.position_embeddings.weight"][: len(ids)]
         + tensors["embeddings.token_type_embeddings.weight"][0])
    x = _norm(x, tensors, "embeddings.LayerNorm", epsilon)
    for i in range(count_layers(tensors)):
        prefix = f"encoder.layer.{i}."
        context = _attention(x, tensors, prefix + "attention.", heads)
        x = _norm(_linear(context, tensors, prefix + "attention.output.dense") + x, tensors,
                  prefix + "attention.output.LayerNorm", epsilon)
        inner = _linear(x, tensors, prefix + "intermediate.dense")
        inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)).astype(np.float32))
        x = _norm(_linear(inner, tensors, prefix + "output.dense") + x, tensors,
                  prefix + "output.LayerNorm", epsilon)
    return x


def pool(hidden, pooling):
    """One normalised vector from hidden states [tokens, hidden]; every row counts for the mean."""
    vector = hidden[0] if pooling == "cls" else hidden.mean(0)
    return vector / np.linalg.norm(vector)


def onnx_vectors(session, tokenizer, texts, pooling, max_tokens=512, prefix=""):
    """Normalised vectors [texts, hidden] by ONNX Runtime, one text at a time, so that nothing is padded."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    vectors = []
    for text in texts:
        ids = np.array([tokenizer.encode(prefix + text).ids], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})[0]
        vectors.append(pool(hidden[0], pooling))
    return np.array(vectors, dtype=np.float32)
