"""Whether ONNX Runtime's CUDA provider starts on this machine: known only by starting it."""

from __future__ import annotations

from types import ModuleType

from fastspan.machine.cuda_libraries import preload_cuda
from fastspan.runtime.cuda.gpu_gate import gpu_shared

__all__ = ["cuda_runs"]


# An ONNX model of one node, y = Relu(x): what it takes to learn whether the provider starts.
_PROBE = bytes.fromhex(
    "08083a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020801"
    "620f0a0179120a0a08080112040a02080142040a001011"
)


def cuda_runs(onnxruntime: ModuleType) -> bool:
    """Whether ONNX Runtime's CUDA provider starts on this machine: known only by starting it.

    Args:
        onnxruntime: An ONNX Runtime that offers the provider.
    """
    preload_cuda(onnxruntime)
    options = onnxruntime.SessionOptions()
    # What is missing is told in one place, not also in ONNX Runtime's log.
    options.log_severity_level = 4
    try:
        with gpu_shared():
            session = onnxruntime.InferenceSession(_PROBE, options, providers=["CUDAExecutionProvider"])
    except Exception:  # noqa: BLE001 - whatever it raises, the provider does not run
        return False
    return bool(session.get_providers()[0] == "CUDAExecutionProvider")
