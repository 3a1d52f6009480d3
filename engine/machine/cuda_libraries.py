"""What ONNX Runtime's CUDA and TensorRT providers need from this machine, looked for one by one."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = [
    "CudaFindings",
    "find_cuda",
    "preload_cuda",
    "preload_tensorrt",
    "why_cuda_fails",
    "why_tensorrt_fails",
]


# The major versions of the libraries that a build for each major version of CUDA links to.
_LIBRARIES = {
    12: {"cudart": 12, "cublas": 12, "cublasLt": 12, "cudnn": 9, "cufft": 11, "curand": 10, "nvrtc": 12},
    13: {"cudart": 13, "cublas": 13, "cublasLt": 13, "cudnn": 9, "cufft": 12, "curand": 10, "nvrtc": 13},
}
_NEWEST = max(_LIBRARIES)
# The major version of TensorRT that the provider links to.
_TENSORRT = 10

Load = Callable[[str], Any]
"""Returns the library of a file, or None where it does not load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaFindings:
    """What of CUDA is here.

    Attributes:
        driver: The newest CUDA version the driver can run, such as ``"12.8"``; None without a driver.
        devices: The names of the GPUs.
        built_for: The CUDA version that the installed ONNX Runtime was built for; None where it is not a
            CUDA build.
        missing: Files of libraries that do not load.
    """

    driver: str | None
    devices: tuple[str, ...]
    built_for: str | None
    missing: tuple[str, ...]


def find_cuda(onnxruntime: ModuleType | None, *, load: Load | None = None) -> CudaFindings:
    """Look for the driver, its GPUs, and the libraries of the CUDA version that ONNX Runtime was built for.

    Args:
        onnxruntime: The installed ONNX Runtime; None: the libraries of the newest CUDA are looked for.
        load: Loads a library; None: the system's loader does.
    """
    built_for = _built_for(onnxruntime)
    if onnxruntime is not None and built_for is not None:
        preload_cuda(onnxruntime)
    major = int(built_for.split(".")[0]) if built_for else _NEWEST
    versions = _LIBRARIES.get(major, _LIBRARIES[_NEWEST])
    files = [_file_name(name, version) for name, version in versions.items()]
    load = load or load_library
    driver = load(_driver_file())
    missing = [file for file in files if load(file) is None]
    if driver is None:
        missing.insert(0, _driver_file())
    return CudaFindings(
        driver=_driver_version(driver) if driver is not None else None,
        devices=tuple(_devices(driver)) if driver is not None else (),
        built_for=built_for,
        missing=tuple(missing),
    )


def preload_cuda(onnxruntime: ModuleType) -> None:
    """Load CUDA and cuDNN from NVIDIA's wheels where they are installed: only ONNX Runtime looks there.

    What does not load is found out when a session starts.

    Args:
        onnxruntime: The installed ONNX Runtime.
    """
    if hasattr(onnxruntime, "preload_dlls"):
        # It prints what it lacks.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            onnxruntime.preload_dlls()


def preload_tensorrt() -> None:
    """Load TensorRT from NVIDIA's wheels where they are installed: ONNX Runtime does not look there.

    What does not load is found out when a session starts.
    """
    # Its import loads whatever lies in its folder.
    with contextlib.suppress(Exception):
        importlib.import_module("tensorrt_libs")


def why_cuda_fails(onnxruntime: ModuleType) -> str | None:
    """Say what a provider that needs CUDA lacks on this machine, and how to mend it; None: nothing is found.

    Args:
        onnxruntime: An ONNX Runtime that offers such a provider.
    """
    found = find_cuda(onnxruntime)
    if found.driver is None:
        return (
            f"NVIDIA's driver ({_driver_file()}) is missing or does not load: install it, or start the "
            "container with its GPUs (--gpus all)."
        )
    if not found.devices:
        return "NVIDIA's driver shows no GPU: check `nvidia-smi`, and CUDA_VISIBLE_DEVICES."
    if found.missing:
        cuda = found.built_for or _NEWEST
        return (
            f"{', '.join(found.missing)} of CUDA {cuda} and cuDNN did not load: run pip install "
            "'onnxruntime-gpu[cuda,cudnn]', or install them system-wide."
        )
    if found.built_for is not None and _newer(found.built_for, found.driver):
        return (
            f"this ONNX Runtime was built for CUDA {found.built_for}, and NVIDIA's driver runs CUDA up to "
            f"{found.driver}: install a newer driver (CUDA 13 needs 580 or later), or an older "
            "onnxruntime-gpu (for CUDA 12: 'onnxruntime-gpu<1.27')."
        )
    return None


def why_tensorrt_fails(*, load: Load | None = None) -> str | None:
    """Say that TensorRT is missing, and how to mend it; None: its libraries load.

    ONNX Runtime's wheels for NVIDIA GPUs offer the provider whether or not TensorRT is installed.

    Args:
        load: As for ``find_cuda``.
    """
    preload_tensorrt()
    files = [_tensorrt_file(name) for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")]
    load = load or load_library
    missing = [file for file in files if load(file) is None]
    if not missing:
        return None
    return (
        f"{', '.join(missing)} of TensorRT {_TENSORRT} did not load: run pip install "
        f"'tensorrt<{_TENSORRT + 1}', or install it system-wide."
    )


def _built_for(onnxruntime: ModuleType | None) -> str | None:
    if onnxruntime is None or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return None
    version = str(getattr(onnxruntime, "cuda_version", "") or "")
    return version if re.match(r"\d+", version) else str(_NEWEST)


def _newer(built_for: str, driver: str) -> bool:
    """Whether the major version of the one is beyond the other's; minor versions go together."""
    return int(built_for.split(".")[0]) > int(driver.split(".")[0])


def _driver_file() -> str:
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def _file_name(name: str, version: int) -> str:
    if sys.platform == "win32":
        return f"{name}64_{version}.dll"
    return f"lib{name}.so.{version}"


def _tensorrt_file(name: str) -> str:
    return f"{name}_{_TENSORRT}.dll" if sys.platform == "win32" else f"lib{name}.so.{_TENSORRT}"


def load_library(file: str) -> Any:
    """The library, or None where it does not load."""
    try:
        return ctypes.CDLL(file)
    except OSError:
        return None


def _driver_version(driver: Any) -> str | None:
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _devices(driver: Any) -> Iterator[str]:
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return
    for index in range(count.value):
        name = ctypes.create_string_buffer(256)
        device = ctypes.c_int()
        if driver.cuDeviceGet(ctypes.byref(device), index) == 0:
            driver.cuDeviceGetName(name, len(name), device)
            yield name.value.decode(errors="replace")
