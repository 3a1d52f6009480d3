"""Safetensors: a JSON header of names, types and offsets, then the tensors' bytes.

The format is read here rather than by its package because its specification
(https://github.com/huggingface/safetensors#format) is a few lines, and reading it this way leaves
every tensor on the disk until it is used, knows bfloat16 without PyTorch, and can tell a truncated
file from a damaged one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from fastspan.bundle.strict_json import named, parse
from fastspan.errors import CheckpointError
from fastspan.options import shown

__all__ = ["read_safetensors"]

_DTYPES: dict[str, npt.DTypeLike] = {
    "BOOL": "?",
    "U8": "<u1",
    "I8": "<i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": ml_dtypes.bfloat16,
}

_LENGTH_BYTES = 8
# The limit of the reference implementation.
_HEADER_MOST = 100_000_000


def read_safetensors(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Map the tensors of a safetensors file into memory.

    Args:
        path: The file.

    Returns:
        The tensors by name, as read-only views of the mapped file in their stored types
        (bfloat16 as ``ml_dtypes.bfloat16``; a view need not be aligned), and the file's
        ``__metadata__``.

    Raises:
        CheckpointError: The file is truncated, damaged or no safetensors file, or stores a tensor
            in a type that cannot be exported.
    """
    header, begin = _read_header(path)
    size = path.stat().st_size - begin
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise _damaged(path, "its __metadata__ is not an object")
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    tensors: dict[str, npt.NDArray[Any]] = {}
    ranges: list[tuple[int, int]] = []
    for name, entry in header.items():
        dtype, shape, first, last = _entry(path, name, entry)
        if last - first != math.prod(shape) * dtype.itemsize:
            raise _damaged(path, f"{shown(name)} has {last - first} bytes for the shape {shape} of {dtype}")
        if last > size:
            raise CheckpointError(
                f"{path} is truncated, {shown(name)} ends at byte {begin + last} of {begin + size}: "
                "copy or download the file again."
            )
        try:
            tensors[name] = np.ndarray(shape, dtype, buffer=mapped, offset=begin + first)
        except (ValueError, OverflowError) as error:
            raise _damaged(path, f"{shown(name)} has the shape {shape}") from error
        ranges.append((first, last))
    # The format forbids holes and overlaps: bytes that belong to no tensor, or to two, are damage.
    expected = 0
    for first, last in sorted(ranges):
        if first != expected:
            raise _damaged(path, "its tensors overlap or leave holes")
        expected = last
    if expected != size:
        raise _damaged(path, f"{size - expected} bytes at its end belong to no tensor")
    return tensors, metadata


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header, and the offset in the file that its own offsets count from."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if size >= _LENGTH_BYTES and length > _HEADER_MOST:
            raise _damaged(path, f"it announces a header of {length} bytes")
        if size < _LENGTH_BYTES + length:
            raise CheckpointError(
                f"{path} is truncated, it ends within its header: copy or download the file again."
            )
        header_bytes = stream.read(length)
    try:
        header = parse(header_bytes)
    except ValueError as error:
        raise _damaged(path, f"its header is not JSON ({named(str(error))})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not an object")
    return header, _LENGTH_BYTES + length


def _entry(path: Path, name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Return a header entry's type, shape and first and last offset, each checked alone."""
    match entry:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [first, last]}:
            counts = [*shape, first, last]
        case _:
            raise _damaged(path, f"its header does not say where {shown(name)} lies")
    if any(type(count) is not int or count < 0 for count in counts) or first > last:
        raise _damaged(path, f"{shown(name)} has the shape {shape} at the bytes {first} to {last}")
    if kind not in _DTYPES:
        raise CheckpointError(
            f"{path} stores {shown(name)} as {kind}, which cannot be exported: "
            "save the checkpoint as float32, float16 or bfloat16."
        )
    return np.dtype(_DTYPES[kind]), tuple(shape), first, last


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged or no safetensors file, {how}: copy or download the file again."
    )
