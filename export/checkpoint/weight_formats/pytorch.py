"""PyTorch's ``.bin`` files: pickles, read by nothing but ``torch.load(weights_only=True)``.

A pickle can run any program. PyTorch's restricted unpickler builds tensors and plain containers
only, so this is the one reader that needs PyTorch, and it asks for a release whose restriction holds.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from fastspan.errors import CheckpointError, MissingDependency
from fastspan.options import shown

__all__ = ["read_pytorch"]

# Before 2.6, weights_only=True could be led to run code: CVE-2025-32434.
_SAFE_TORCH = (2, 6)

_CONVERT = (
    "convert the checkpoint where PyTorch is, with "
    "`AutoModelForQuestionAnswering.from_pretrained(folder).save_pretrained(folder)`, "
    "which writes model.safetensors"
)


def read_pytorch(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the tensors of a file that ``torch.save`` wrote.

    Files of PyTorch 1.6 and later are mapped into memory; older ones are read whole.

    Args:
        path: The file.

    Returns:
        The tensors by name, read-only, in their stored types (bfloat16 as ``ml_dtypes.bfloat16``).

    Raises:
        MissingDependency: PyTorch is not installed, or is older than 2.6.
        CheckpointError: The file is damaged, or holds anything but named tensors.
    """
    torch = _torch(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        # Damaged and hostile files surface as whatever the unpickler stumbled over.
        raise CheckpointError(
            f"{path} is damaged, or holds Python objects that are not tensors and are never unpickled here "
            f"({type(error).__name__}): download the file again, or {_CONVERT}."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} holds no named tensors: save the model's state_dict there.")
    return {name: _array(torch, path, name, value) for name, value in state.items()}


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            f'{path} can only be read by PyTorch: `pip install "fastspan[reference]"`, or {_CONVERT}.'
        ) from error
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or (int(version[1]), int(version[2])) < _SAFE_TORCH:
        raise MissingDependency(
            f"{path} is a pickle, and PyTorch {torch.__version__} does not read pickles safely "
            f'(CVE-2025-32434): `pip install "fastspan[reference]"`, or {_CONVERT}.'
        )
    return torch


def _array(torch: Any, path: Path, name: str, value: Any) -> npt.NDArray[Any]:
    if not isinstance(value, torch.Tensor):
        raise CheckpointError(
            f"{path} holds a {type(value).__name__} under {shown(name)}, where a model's weights hold "
            "tensors: save the model's state_dict there, not a training state."
        )
    if value.layout is not torch.strided or value.is_quantized:
        raise CheckpointError(
            f"{path} stores {shown(name)} as a sparse or quantized tensor, which cannot be exported: "
            "save the checkpoint as float32, float16 or bfloat16."
        )
    tensor = value.detach()
    array: npt.NDArray[Any]
    if tensor.dtype is torch.bfloat16:
        # numpy has no bfloat16 of its own, so PyTorch hands over the bits.
        array = tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    else:
        try:
            array = tensor.numpy()
        except TypeError as error:
            raise CheckpointError(
                f"{path} stores {shown(name)} as {tensor.dtype}, which cannot be exported: "
                "save the checkpoint as float32, float16 or bfloat16."
            ) from error
    array.flags.writeable = False
    return np.asarray(array)
