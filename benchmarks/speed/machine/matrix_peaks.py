"""How fast this machine multiplies matrices when it does nothing else: what a model's speed is held against.

Run as a process of its own: ``python -m fastspan.benchmarks.speed.machine.matrix_peaks THREADS`` prints JSON.
It holds operations a second in fp32 and with 8-bit integers (unsigned by signed, summed in 32 bits), the
better of several shapes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort

__all__ = ["main", "peak"]

# A BERT-base's feed-forward layer over a window of 384 tokens, and two square products.
_SHAPES = ((384, 768, 3072), (1024, 1024, 1024), (1536, 1536, 1536))
_REPEATS = 12


def main(arguments: Sequence[str]) -> None:
    """Print the peaks."""
    threads = int(arguments[0])
    print(json.dumps({kind: peak(kind, threads) for kind in ("fp32", "int8")}))


def peak(
    kind: str, threads: int, shapes: Sequence[tuple[int, int, int]] = _SHAPES, repeats: int = _REPEATS
) -> float:
    """Return the operations a second that ONNX Runtime's matrix product reaches.

    A product of (m, k) by (k, n) is 2 · m · k · n operations; the median time of a shape counts.

    Args:
        kind: ``"fp32"`` or ``"int8"``.
        threads: Threads to compute with.
        shapes: The products, as m, k and n.
        repeats: Runs of each.
    """
    generator = np.random.default_rng(0)
    best = 0.0
    for m, k, n in shapes:
        if kind == "fp32":
            left = generator.standard_normal((m, k), np.float32)
            right = generator.standard_normal((k, n), np.float32)
        else:
            # Small weights: without VNNI, sums of larger ones saturate.
            left = generator.integers(0, 256, (m, k)).astype(np.uint8)
            right = generator.integers(-64, 65, (k, n)).astype(np.int8)
        session = _session("MatMul" if kind == "fp32" else "MatMulInteger", left, right, threads)
        feeds = {"left": left}
        session.run(None, feeds)
        taken = []
        for _ in range(repeats):
            began = time.perf_counter()
            session.run(None, feeds)
            taken.append(time.perf_counter() - began)
        best = max(best, 2 * m * k * n / statistics.median(taken))
    return best


def _session(operator: str, left: np.ndarray, right: np.ndarray, threads: int) -> ort.InferenceSession:
    """One matrix product, its right side a constant, as weights are."""
    helper = onnx.helper
    result = onnx.TensorProto.FLOAT if operator == "MatMul" else onnx.TensorProto.INT32
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", helper.np_dtype_to_tensor_dtype(left.dtype), left.shape)],
        [helper.make_tensor_value_info("product", result, (left.shape[0], right.shape[1]))],
        [onnx.numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main(sys.argv[1:])
