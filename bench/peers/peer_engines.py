"""Encoders under one interface: ours through the C API, ONNX Runtime and OpenVINO through their Python packages.

An engine has encode(texts) -> float32 [texts, dimension], normalised; tokenising is part of it.
"""

import ctypes

import numpy as np


class SrStr(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class SrError(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024), ("place", ctypes.c_char * 256)]


class SrEncoderOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("kind", ctypes.c_int), ("model", ctypes.c_char_p),
                ("threads", ctypes.c_int), ("pooling", ctypes.c_int), ("prefix", ctypes.c_char_p),
                ("max_tokens", ctypes.c_int), ("encode", ctypes.c_void_p), ("user", ctypes.c_void_p),
                ("dimension", ctypes.c_int), ("identity", ctypes.c_char_p)]


class Ours:
    def __init__(self, library, model, threads, prefix=None):
        self._library = ctypes.CDLL(library)
        self._library.sr_cpu_level.restype = ctypes.c_char_p
        self._encoder = ctypes.c_void_p()
        self._error = SrError()
        options = SrEncoderOptions(size=ctypes.sizeof(SrEncoderOptions), model=model.encode(), threads=threads,
                                   prefix=None if prefix is None else prefix.encode())
        self._must(self._library.sr_encoder_open(
            ctypes.byref(options), ctypes.byref(self._encoder), ctypes.byref(self._error)))
        self.dimension = self._library.sr_encoder_dimension(self._encoder)
        self.level = self._library.sr_cpu_level().decode()

    def _must(self, status):
        if status != 0:
            raise RuntimeError(self._error.message.decode())

    def encode(self, texts):
        raw = [text.encode() for text in texts]
        strings = (SrStr * len(raw))(*[SrStr(text, len(text)) for text in raw])
        out = np.empty((len(raw), self.dimension), dtype=np.float32)
        self._must(self._library.sr_encoder_encode(
            self._encoder, strings, ctypes.c_size_t(len(raw)), out.ctypes.data_as(ctypes.c_void_p), None,
            ctypes.byref(self._error)))
        return out


    def tokenize(self, text, capacity=1 << 20):
        raw, count = text.encode(), ctypes.c_size_t()
        ids = (ctypes.c_int32 * min(capacity, len(raw) + 64))()
        self._must(self._library.sr_encoder_tokenize(
            self._encoder, SrStr(raw, len(raw)), ids, ctypes.c_size_t(len(ids)), ctypes.byref(count), None,
            ctypes.byref(self._error)))
        return list(ids[:count.value])


class Padded:
    """A peer that takes padded batches, CLS pooling. Tokenising uses the threads that it may."""

    def __init__(self, tokenizer):
        from tokenizers import Tokenizer
        self._tokenizer = Tokenizer.from_file(tokenizer)
        self._tokenizer.enable_truncation(512)
        self._tokenizer.enable_padding()

    def encode(self, texts):
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([e.ids for e in encoded], dtype=np.int64)
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        vectors = self.hidden({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})[:, 0]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class OnnxRuntime(Padded):
    level = "ONNX Runtime's own"

    def __init__(self, model, tokenizer, threads):
        super().__init__(tokenizer)
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def hidden(self, feed):
        return self._session.run(None, {name: feed[name] for name in self._inputs})[0]


class OpenVino(Padded):
    level = "OpenVINO's own"

    def __init__(self, model, tokenizer, threads):
        super().__init__(tokenizer)
        import openvino
        self._model = openvino.Core().compile_model(
            model, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})

    def hidden(self, feed):
        return self._model(feed)[0]


KINDS = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
