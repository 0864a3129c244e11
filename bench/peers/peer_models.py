"""Prepares ONNX Runtime's models; called by peers.py: peer_models.py ONNX DIRECTORY.

fused.onnx     fp32 after ONNX Runtime's own transformer optimizer (fused attention, GELU and norms)
int8.onnx      the same with weights quantised dynamically to int8, one scale per output channel
int8_plain.onnx  the exporter's graph quantised dynamically with the function's defaults
"""

import os
import sys

from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic


def main():
    source, directory = sys.argv[1:3]
    path = lambda name: os.path.join(directory, name)
    if not os.path.exists(path("int8_plain.onnx")):
        quantize_dynamic(source, path("new.onnx"), weight_type=QuantType.QInt8)
        os.rename(path("new.onnx"), path("int8_plain.onnx"))
    if not os.path.exists(path("int8.onnx")):
        from onnxruntime.transformers.optimizer import optimize_model
        # opt_level 0: the fusions written in Python, which need no PyTorch.
        fused = optimize_model(source, model_type="bert", num_heads=12, hidden_size=384, opt_level=0)
        fused.save_model_to_file(path("new.onnx"))
        os.rename(path("new.onnx"), path("fused.onnx"))
        quantize_dynamic(path("fused.onnx"), path("new.onnx"), weight_type=QuantType.QInt8, per_channel=True,
                         extra_options={"DefaultTensorType": TensorProto.FLOAT})
        os.rename(path("new.onnx"), path("int8.onnx"))


if __name__ == "__main__":
    main()
