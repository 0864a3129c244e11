"""The router through the C API, with vectors that are known already: an encoder that looks texts up.

So a table is made, fitted and asked without encoding anything twice, and every contender of a comparison gets
the same vectors. The fast path's static encoder is the library's own.
"""

import ctypes
import math

import numpy as np

PATHS = {"auto": 0, "fast": 1, "slow": 2}
COSINE, CONFIDENCE = 1, 2


class SrStr(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class RawStr(ctypes.Structure):
    """The same, read by length: text may hold any byte."""
    _fields_ = [("data", ctypes.c_void_p), ("len", ctypes.c_size_t)]

    def __str__(self):
        return ctypes.string_at(self.data, self.len).decode() if self.len else ""


class SrError(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 1024), ("place", ctypes.c_char * 256)]


ENCODE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(RawStr), ctypes.c_size_t, ctypes.c_void_p)


class EncoderOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("kind", ctypes.c_int), ("model", ctypes.c_char_p),
                ("threads", ctypes.c_int), ("pooling", ctypes.c_int), ("prefix", ctypes.c_char_p),
                ("max_tokens", ctypes.c_int), ("encode", ctypes.c_void_p), ("user", ctypes.c_void_p),
                ("dimension", ctypes.c_int), ("identity", ctypes.c_char_p), ("profile", ctypes.c_int),
                ("cache_bytes", ctypes.c_size_t)]


class RouterOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("database", ctypes.c_char_p), ("model", ctypes.c_char_p),
                ("threads", ctypes.c_int), ("flags", ctypes.c_uint), ("margin", ctypes.c_double),
                ("encoder", ctypes.c_void_p), ("progress", ctypes.c_void_p), ("progress_user", ctypes.c_void_p),
                ("profile", ctypes.c_int), ("cache_bytes", ctypes.c_size_t), ("prefix", ctypes.c_char_p),
                ("fast_model", ctypes.c_char_p)]


class Threshold(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("value", ctypes.c_double)]


class Route(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("name", SrStr), ("utterances", ctypes.POINTER(SrStr)),
                ("utterance_count", ctypes.c_size_t), ("threshold", ctypes.POINTER(Threshold)),
                ("description", ctypes.c_void_p), ("metadata", ctypes.c_void_p)]


class DecideOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("path", ctypes.c_int), ("top_k", ctypes.c_int),
                ("no_reject", ctypes.c_int)]


class Candidate(ctypes.Structure):
    _fields_ = [("route", RawStr), ("confidence", ctypes.c_double), ("score", ctypes.c_double), ("utterance", RawStr)]


class Decision(ctypes.Structure):
    _fields_ = [("text", RawStr), ("status", ctypes.c_int), ("reason", ctypes.c_int), ("route", RawStr),
                ("confidence", ctypes.c_double), ("score", ctypes.c_double), ("margin", ctypes.c_double),
                ("path", ctypes.c_int), ("truncated", ctypes.c_int), ("revision", ctypes.c_uint64),
                ("candidates", ctypes.POINTER(Candidate)), ("candidate_count", ctypes.c_size_t),
                ("fitted", ctypes.c_int)]


class FitReport(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("revision", ctypes.c_uint64), ("routes", ctypes.c_uint64),
                ("utterances", ctypes.c_uint64), ("oos_examples", ctypes.c_uint64), ("labelled", ctypes.c_uint64),
                *((name, ctypes.c_double) for name in (
                    "neighbours_accuracy", "slow_accuracy", "fast_accuracy", "auto_accuracy", "fast_share",
                    "oos_auroc", "ece", "auto_threshold", "oos_accepted", "precision", "seconds"))]


def strings(texts):
    raw = [text.encode() for text in texts]
    return (SrStr * max(len(raw), 1))(*[SrStr(text, len(text)) for text in raw])


class Library:
    def __init__(self, path):
        self.api = ctypes.CDLL(path)
        self.api.sr_decisions_get.restype = ctypes.POINTER(Decision)
        self.api.sr_encoder_fingerprint.restype = ctypes.c_char_p
        self.api.sr_cpu_level.restype = ctypes.c_char_p
        self.error = SrError()

    def must(self, name, *arguments):
        if getattr(self.api, name)(*arguments, ctypes.byref(self.error)) != 0:
            raise RuntimeError(f"{name}: {self.error.message.decode()}")

    def open_encoder(self, model=None):
        encoder = ctypes.c_void_p()
        options = EncoderOptions(size=ctypes.sizeof(EncoderOptions), model=model and model.encode())
        self.must("sr_encoder_open", ctypes.byref(options), ctypes.byref(encoder))
        return encoder

    def fingerprint(self, encoder):
        return self.api.sr_encoder_fingerprint(encoder).decode()

    def encode(self, encoder, texts):
        out = np.empty((len(texts), self.api.sr_encoder_dimension(encoder)), dtype=np.float32)
        self.must("sr_encoder_encode", encoder, strings(texts), ctypes.c_size_t(len(texts)),
                  out.ctypes.data_as(ctypes.c_void_p), None)
        return out


class Router:
    """A table in memory. `rows` maps texts to rows of the float32 `matrix`; what is not there (names of routes,
    which a fit wants as texts) goes to `encoder`."""

    def __init__(self, library, rows, matrix, encoder, threads=0, fast_model=None):
        self._library, self._api = library, library.api
        dimension, base = matrix.shape[1], matrix.ctypes.data
        row_bytes = 4 * dimension
        others = {}

        def look_up(_, texts, n, out):
            for i in range(n):
                text = ctypes.string_at(texts[i].data, texts[i].len).decode()
                row = rows.get(text)
                if row is None and text not in others:
                    others[text] = library.encode(encoder, [text])
                source = others[text].ctypes.data if row is None else base + row * row_bytes
                ctypes.memmove(out + i * row_bytes, source, row_bytes)
            return 0

        self._callback, self._matrix = ENCODE(look_up), matrix
        self._encoder, self._router = ctypes.c_void_p(), ctypes.c_void_p()
        options = EncoderOptions(size=ctypes.sizeof(EncoderOptions), kind=1,
                                 encode=ctypes.cast(self._callback, ctypes.c_void_p), dimension=dimension,
                                 identity=b"known vectors")
        library.must("sr_encoder_open", ctypes.byref(options), ctypes.byref(self._encoder))
        options = RouterOptions(size=ctypes.sizeof(RouterOptions), threads=threads, encoder=self._encoder,
                                fast_model=fast_model and fast_model.encode())
        library.must("sr_router_open", ctypes.byref(options), ctypes.byref(self._router))

    def close(self):
        self._api.sr_router_close(ctypes.byref(self._router))
        self._api.sr_encoder_close(ctypes.byref(self._encoder))

    def put(self, rows, oos=(), cosine=None):
        """`rows` are (text, route); thresholds are automatic, or a cosine for all."""
        texts = {}
        for text, route in rows:
            texts.setdefault(route, []).append(text)
        threshold = None if cosine is None else ctypes.pointer(Threshold(COSINE, cosine))
        kept = [(name.encode(), strings(mine)) for name, mine in texts.items()]
        routes = (Route * len(kept))(*[
            Route(size=ctypes.sizeof(Route), name=SrStr(name, len(name)), utterances=mine,
                  utterance_count=len(texts[name.decode()]), threshold=threshold) for name, mine in kept])
        self._library.must("sr_routes_put", self._router, routes, ctypes.c_size_t(len(kept)), None, None)
        if oos:
            self._library.must("sr_oos_put", self._router, strings(oos), ctypes.c_size_t(len(oos)), None)

    def fit(self):
        report = ctypes.POINTER(FitReport)()
        self._library.must("sr_fit", self._router, None, ctypes.byref(report))
        found = {name: getattr(report.contents, name) for name, _ in FitReport._fields_}
        self._api.sr_fit_report_free(ctypes.byref(report))
        return {name: None if isinstance(value, float) and math.isnan(value) else value
                for name, value in found.items()}

    def decide(self, texts, path="auto", no_reject=False):
        """For each text: the route or None, the best candidate, its confidence, whether the fast path answered."""
        options = DecideOptions(size=ctypes.sizeof(DecideOptions), path=PATHS[path], top_k=1, no_reject=no_reject)
        decisions = ctypes.c_void_p()
        self._library.must("sr_decide", self._router, strings(texts), ctypes.c_size_t(len(texts)),
                           ctypes.byref(options), ctypes.byref(decisions))
        result = []
        for i in range(len(texts)):
            one = self._api.sr_decisions_get(decisions, ctypes.c_size_t(i)).contents
            best = str(one.candidates[0].route) if one.candidate_count else None
            confidence = 0.0 if best is None or math.isnan(one.confidence) else one.confidence
            result.append((str(one.route) or None, best, confidence, one.path == PATHS["fast"]))
        self._api.sr_decisions_free(ctypes.byref(decisions))
        return result
