"""Flax's ``.msgpack`` files, and Flax's names and layouts as PyTorch's.

The format is that of ``flax.serialization.msgpack_serialize``
(https://github.com/google/flax/blob/main/flax/serialization.py): a MessagePack map of maps whose
leaves are extension values.

- Type 1, an array: a MessagePack array of its shape, the name of its type and its bytes in row-major order.
- Type 3, a scalar of numpy: the same, with an empty shape.
- Type 2, a complex number, which no weight is.
- An array of more than 2**30 bytes is a map instead: ``__msgpack_chunked_array__``, ``shape`` and
  ``chunks``, the last two being maps from "0", "1" … to the dimensions and to the pieces of the
  flattened array.

MessagePack holds data only: reading it runs nothing.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from fastspan.bundle.strict_json import named
from fastspan.errors import CheckpointError, MissingDependency
from fastspan.options import shown

__all__ = ["flax_to_pytorch", "read_flax"]

_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"

_DTYPES: dict[str, npt.DTypeLike] = {
    "bool": "?",
    "uint8": "<u1",
    "int8": "<i1",
    "uint16": "<u2",
    "int16": "<i2",
    "uint32": "<u4",
    "int32": "<i4",
    "uint64": "<u8",
    "int64": "<i8",
    "float16": "<f2",
    "float32": "<f4",
    "float64": "<f8",
    "bfloat16": ml_dtypes.bfloat16,
}

# What Flax calls the parameters that PyTorch calls weight; biases have one name in both.
_WEIGHTS = ("kernel", "embedding", "scale")


def read_flax(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a Flax checkpoint.

    Args:
        path: The file.

    Returns:
        The arrays by their path in the tree, joined by ``/``, in Flax's layout and their stored
        types (bfloat16 as ``ml_dtypes.bfloat16``), read-only.

    Raises:
        MissingDependency: The package ``msgpack`` is not installed.
        CheckpointError: The file is truncated, damaged, or holds anything but a tree of arrays.
    """
    try:
        import msgpack
    except ImportError as error:
        raise MissingDependency(
            f'{path} can only be read with the package msgpack: `pip install "fastspan[export]"`.'
        ) from error

    def leaf(code: int, payload: bytes) -> npt.NDArray[Any]:
        """The array that an extension value of MessagePack holds."""
        if code not in (_ARRAY, _SCALAR):
            raise ValueError(f"a value of extension type {code} is not an array")
        shape, kind, data = msgpack.unpackb(payload)
        return _array(shape, kind, data)

    try:
        # Mapped, so that the file and the arrays made of it are not in memory at once.
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            tree = msgpack.unpackb(mapped, ext_hook=leaf)
        arrays = _flatten(tree)
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException) as error:
        raise CheckpointError(
            f"{path} is truncated, damaged or no Flax checkpoint ({named(str(error))}): copy or download "
            "the file again."
        ) from error
    if arrays and all(name.startswith("params/") for name in arrays):
        return {name.removeprefix("params/"): array for name, array in arrays.items()}
    return arrays


def flax_to_pytorch(name: str, array: npt.NDArray[Any]) -> tuple[str, npt.NDArray[Any]]:
    """Return a Flax parameter under PyTorch's name and in PyTorch's layout.

    A dense kernel is (in, out) in Flax and (out, in) in PyTorch; a two-dimensional convolution's is
    (height, width, in, out) and (out, in, height, width). Other parameters have one layout in both.

    Args:
        name: The path in the tree, joined by ``/`` or ``.``.
        array: The parameter; what is returned is a view of it.
    """
    *module, parameter = name.replace("/", ".").split(".")
    if parameter not in _WEIGHTS:
        return ".".join([*module, parameter]), array
    if parameter == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return ".".join([*module, "weight"]), array


def _array(shape: Any, kind: Any, data: Any) -> npt.NDArray[Any]:
    if kind not in _DTYPES:
        raise ValueError(f"the type {shown(kind)} cannot be exported")
    if not isinstance(data, bytes):
        raise ValueError("an array without bytes")
    return np.frombuffer(data, _DTYPES[kind]).reshape(_dimensions(shape))


def _dimensions(shape: Any) -> tuple[int, ...]:
    # Without this check, reshape would read a negative dimension as one to be worked out.
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"{shown(shape)} is not a shape")
    return tuple(shape)


def _flatten(tree: Any) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    pending = [("", tree)]
    while pending:
        name, node = pending.pop()
        if isinstance(node, np.ndarray):
            arrays[name] = node
        elif isinstance(node, dict) and _CHUNKED in node:
            arrays[name] = _unchunk(node)
        elif isinstance(node, dict):
            pending += [(f"{name}/{key}" if name else str(key), child) for key, child in node.items()]
        else:
            raise ValueError(f"a {type(node).__name__} stands at {shown(name)} where an array is expected")
    return arrays


def _unchunk(node: dict[Any, Any]) -> npt.NDArray[Any]:
    shape, chunks = (_in_order(node.get(key)) for key in ("shape", "chunks"))
    if not chunks or not all(isinstance(chunk, np.ndarray) for chunk in chunks):
        raise ValueError("a chunked array without chunks")
    dimensions = _dimensions(shape)
    if sum(chunk.size for chunk in chunks) != math.prod(dimensions):
        raise ValueError(f"the chunks of an array do not fill its shape {dimensions}")
    joined = np.concatenate([chunk.reshape(-1) for chunk in chunks]).reshape(dimensions)
    joined.flags.writeable = False
    return joined


def _in_order(numbered: Any) -> list[Any]:
    if not isinstance(numbered, dict) or set(numbered) != {str(i) for i in range(len(numbered))}:
        raise ValueError("the parts of a chunked array are not numbered from 0")
    return [numbered[str(i)] for i in range(len(numbered))]
