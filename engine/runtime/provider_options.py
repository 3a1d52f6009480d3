"""What execution providers are told unless the caller says otherwise.

Names and meanings are those of ONNX Runtime's documentation:
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html,
…/TensorRT-ExecutionProvider.html and …/TensorRTRTX-ExecutionProvider.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastspan.errors import ProviderError
from fastspan.machine.user_cache import user_cache

__all__ = ["default_options", "engine_cache", "make_cache_folders"]

_CACHES = ("trt_engine_cache_path", "trt_timing_cache_path", "nv_runtime_cache_path")


def default_options(
    provider: str, *, half: bool, capture: bool, memory_limit: int | None, digests: Iterable[str]
) -> Mapping[str, str]:
    """Return the options of a provider.

    Args:
        provider: Its full name.
        half: Whether the graph computes in fp16.
        capture: Whether runs are to be captured as CUDA graphs.
        memory_limit: Bytes that it may take on the GPU; None: all there are.
        digests: SHA-256 of the graph and of its data files, which name the folder of the engines built of it.

    Returns:
        Nothing for a provider that needs nothing.

    Raises:
        ProviderError: There is no folder to keep engines in.
    """
    match provider:
        case "CUDAExecutionProvider":
            options = {
                # The arena grows by what is asked for; doubling could pass any limit.
                "arena_extend_strategy": "kSameAsRequested",
                # TF32 keeps 10 bits of a mantissa: fp32, and the QA head of fp16, would not be what they say.
                "use_tf32": "0",
                # Without it the sums of a normalization are fp16.
                "enable_skip_layer_norm_strict_mode": "1",
                "enable_cuda_graph": "1" if capture else "0",
            }
            limit = "gpu_mem_limit"
        case "TensorrtExecutionProvider":
            cache = str(engine_cache(digests))
            options = {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": cache,
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": cache,
                "trt_fp16_enable": "1" if half else "0",
            }
            limit = "trt_max_workspace_size"
        case "NvTensorRTRTXExecutionProvider":
            options = {"nv_runtime_cache_path": str(engine_cache(digests))}
            limit = "nv_max_workspace_size"
        case _:
            return {}
    return options if memory_limit is None else {**options, limit: str(memory_limit)}


def engine_cache(digests: Iterable[str]) -> Path:
    """Return where the engines of a graph are kept: in the user's cache, apart from those of other graphs.

    Args:
        digests: SHA-256 of the graph and of its data files: models of one architecture differ in these alone.

    Raises:
        ProviderError: The user has no home folder, as in some containers, and the environment names no cache.
    """
    key = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    try:
        cache = user_cache()
    except RuntimeError as error:
        raise ProviderError(
            "There is no home folder to keep TensorRT's engines in: set XDG_CACHE_HOME to a folder that "
            "outlives this process, since they are slow to build."
        ) from error
    return cache / "engines" / key


def make_cache_folders(options: Mapping[str, str]) -> None:
    """Make the folders that a provider is told to keep engines in: TensorRT makes one level of them at most.

    Raises:
        ProviderError: One cannot be made.
    """
    for name in _CACHES:
        if options.get(name):
            try:
                Path(options[name]).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ProviderError(
                    f"{options[name]} cannot be made to keep engines in ({error.strerror or error}): name "
                    f"another folder with provider_options={{{name!r}: ...}}, or set XDG_CACHE_HOME."
                ) from error
