"""Execution providers by the names people use, and the promise that what was asked for is what runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from fastspan.bundle.variants import ProviderKind
from fastspan.errors import MissingDependency, ProviderError
from fastspan.options import shown

__all__ = [
    "available_providers",
    "bounds_spinning",
    "import_onnxruntime",
    "needs_cuda",
    "needs_tensorrt",
    "provider_kind",
    "resolve_provider",
]

_FULL_NAMES: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
_WHEELS: Final = {
    "CUDAExecutionProvider": "pip install 'fastspan[gpu]' in an environment without onnxruntime",
    "TensorrtExecutionProvider": (
        "pip install 'fastspan[gpu]' 'tensorrt<11' in an environment without onnxruntime"
    ),
    "OpenVINOExecutionProvider": "pip install onnxruntime-openvino in an environment without onnxruntime",
    "DmlExecutionProvider": "pip install onnxruntime-directml in an environment without onnxruntime",
}

# The first version that reads session.intra_op.spin_duration_us. Others take the entry and ignore it.
_BOUNDS_SPINNING: Final = (1, 26)

_TELEMETRY: Final = "ORT_DISABLE_TELEMETRY"


def bounds_spinning(version: str) -> bool:
    """Whether a version of ONNX Runtime can be told how long its idle threads spin.

    Args:
        version: As ``onnxruntime.__version__`` says it; of one that cannot be read, False.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _BOUNDS_SPINNING


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime, with its telemetry off unless ``ORT_DISABLE_TELEMETRY`` says otherwise.

    Raises:
        MissingDependency: It is not installed, or its library does not load.
    """
    try:
        with _telemetry_off():
            import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            f"ONNX Runtime is not usable ({error}): run pip install 'fastspan[cpu]', or "
            "pip install 'fastspan[gpu]' for an NVIDIA GPU (one of the two, not both)."
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingDependency(
            "onnxruntime is only half installed: two of its wheels overwrote each other. Run "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'fastspan[cpu]' or "
            "'fastspan[gpu]'."
        )
    module: ModuleType = onnxruntime
    return module


@contextmanager
def _telemetry_off() -> Iterator[None]:
    """Keep an import of onnxruntime from starting its telemetry.

    Since 1.29 the import starts a thread that reports to Microsoft. A forked child inherits that thread's
    state but not the thread, and then hangs or aborts: when it makes a session, or when it exits. The
    variable is read once, at the import; it is the only full opt-out, so it is set for just so long.
    """
    if "onnxruntime" in sys.modules or _TELEMETRY in os.environ:
        yield
        return
    os.environ[_TELEMETRY] = "1"
    try:
        yield
    finally:
        os.environ.pop(_TELEMETRY, None)


def available_providers() -> list[str]:
    """Full names of the execution providers that this onnxruntime was built with."""
    return list(import_onnxruntime().get_available_providers())


def resolve_provider(name: str) -> str:
    """Turn ``"cpu"``, ``"cuda"`` … or a full name into the full name of an available provider.

    ``"auto"`` takes CUDA where this onnxruntime has it, else the CPU.

    Raises:
        ProviderError: The name means nothing, or this onnxruntime lacks the provider.
    """
    available = available_providers()
    if name == "auto":
        cuda = _FULL_NAMES["cuda"]
        return cuda if cuda in available else _FULL_NAMES["cpu"]
    full = _FULL_NAMES.get(name.lower(), name)
    if full in available:
        return full
    if full not in {*_FULL_NAMES.values()} and not full.endswith("ExecutionProvider"):
        raise ProviderError(
            f"provider {shown(name)} is not known: use 'auto', {', '.join(map(repr, _FULL_NAMES))} or the "
            "full name of an ONNX Runtime execution provider."
        )
    mend = _WHEELS.get(full, "install the onnxruntime build that has it")
    raise ProviderError(
        f"provider {shown(name)} was asked for, but the installed onnxruntime offers only "
        f"{', '.join(available)}: {mend}, or load with provider='cpu'."
    )


def needs_cuda(full_name: str) -> bool:
    """Whether a provider needs NVIDIA's driver and libraries."""
    return full_name in {_FULL_NAMES[name] for name in ("cuda", "tensorrt", "tensorrt-rtx")}


def needs_tensorrt(full_name: str) -> bool:
    """Whether a provider needs TensorRT's libraries. TensorRT-RTX is another product, with its own."""
    return full_name == _FULL_NAMES["tensorrt"]


def provider_kind(full_name: str) -> ProviderKind:
    """Which graphs suit a provider: those for its kind, or the interchange graph (``"other"``)."""
    if full_name == _FULL_NAMES["cpu"]:
        return "cpu"
    return "cuda" if full_name == _FULL_NAMES["cuda"] else "other"
