"""The weights of a checkpoint, whatever format they lie in, under PyTorch's names as float32.

Safetensors, PyTorch's ``.bin`` and Flax's ``.msgpack`` of one model give the same arrays. A format's
weights lie in one file, or in several that an index names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.weight_formats.flax import flax_to_pytorch, read_flax
from fastspan.export.checkpoint.weight_formats.pytorch import read_pytorch
from fastspan.export.checkpoint.weight_formats.safetensors import read_safetensors
from fastspan.options import shown

__all__ = [
    "LAYOUTS",
    "WeightFiles",
    "WeightFormat",
    "WeightLayout",
    "Weights",
    "find_weights",
    "read_weights",
]

WeightFormat = Literal["safetensors", "pytorch", "flax"]


@dataclass(frozen=True, slots=True)
class WeightLayout:
    """How a format names its files.

    Attributes:
        format: The format.
        single: The file that holds all weights.
        index: Where there are several files, the JSON file whose ``weight_map`` says which of them
            holds which tensor.
        shards: A glob that matches the several files and not ``single``.
    """

    format: WeightFormat
    single: str
    index: str
    shards: str


# In the order in which transformers looks for them, so that the weights exported are those it would load.
LAYOUTS = (
    WeightLayout("safetensors", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    WeightLayout("pytorch", "pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
    WeightLayout("flax", "flax_model.msgpack", "flax_model.msgpack.index.json", "flax_model-*.msgpack"),
)


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The files that hold a checkpoint's weights.

    Attributes:
        format: Their format.
        names: Their names within the folder; several for a sharded checkpoint.
        tensors: What a sharded checkpoint's index says: stored tensor name to file name; else empty.
    """

    format: WeightFormat
    names: tuple[str, ...]
    tensors: Mapping[str, str]


class Weights(Mapping[str, npt.NDArray[np.float32]]):
    """Named parameters in PyTorch's layouts, converted to float32 when they are looked up.

    What is stored as float32 stays a view of the memory-mapped file. float16 and bfloat16 are widened,
    which is exact, and float64 is rounded; the converted array is not kept. Arrays are read-only and need
    be neither contiguous nor aligned.

    Attributes:
        stored_dtypes: The types that occur in the files, sorted, such as ``("float16",)``.
    """

    def __init__(self, stored: Mapping[str, npt.NDArray[Any]]) -> None:
        self._stored = dict(stored)
        self.stored_dtypes = tuple(sorted({array.dtype.name for array in self._stored.values()}))

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = self._stored[name].astype(np.float32, copy=False)
        array.flags.writeable = False
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a parameter without converting it.

        Raises:
            KeyError: There is no such parameter.
        """
        return self._stored[name].shape


def find_weights(files: CheckpointFolder) -> WeightFiles:
    """Return the weight files of a checkpoint, in the first format it has.

    Raises:
        CheckpointError: It has none, or its index is malformed.
    """
    for layout in LAYOUTS:
        if files.has(layout.single):
            return WeightFiles(layout.format, (layout.single,), {})
        if files.has(layout.index):
            tensors = files.json(layout.index).get("weight_map")
            if (
                not isinstance(tensors, dict)
                or not tensors
                or not all(isinstance(name, str) for name in tensors.values())
            ):
                raise CheckpointError(
                    f"{files.path / layout.index} has no weight_map of tensor names to file names: "
                    "copy or download the file again."
                )
            return WeightFiles(layout.format, tuple(sorted(set(tensors.values()))), tensors)
    expected = ", ".join(layout.single for layout in LAYOUTS)
    raise CheckpointError(
        f"{files.path} holds no weights: expected one of {expected}, or an index of shards."
    )


def read_weights(files: CheckpointFolder, found: WeightFiles) -> Weights:
    """Read the parameters that ``find_weights`` found.

    Old names become today's: ``LayerNorm.gamma`` and ``beta`` are ``weight`` and ``bias``, and the
    prefixes that ``DataParallel`` and ``torch.compile`` put before a whole model go. Tensors
    of whole numbers, such as ``position_ids``, are left out: they are not learned.

    Raises:
        MissingDependency: The format needs a package that is not installed.
        CheckpointError: A file is missing, damaged or unsafe to read; a tensor is missing or stands twice.
    """
    stored: dict[str, npt.NDArray[Any]] = {}
    # Checked before any is read: a missing shard should not show up after minutes.
    paths = {name: files.file(name) for name in found.names}
    for file_name, path in paths.items():
        tensors = _READERS[found.format](path)
        for missing in (t for t, place in found.tensors.items() if place == file_name and t not in tensors):
            raise CheckpointError(
                f"{path} lacks {shown(missing)}, which the checkpoint's index says it holds: "
                "copy or download the checkpoint again."
            )
        for raw_name, raw in tensors.items():
            name, array = flax_to_pytorch(raw_name, raw) if found.format == "flax" else (raw_name, raw)
            name = _today(name)
            if array.dtype.kind != "f" and array.dtype != ml_dtypes.bfloat16:
                continue
            if name in stored:
                raise CheckpointError(f"{path} holds {shown(name)} a second time: save the checkpoint again.")
            stored[name] = array
    return Weights(stored)


_OLD_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")
_OLD_NORM = re.compile(r"(?<=norm)\.(gamma|beta)$", re.IGNORECASE)


def _today(name: str) -> str:
    name = _OLD_PREFIX.sub("", name)
    return _OLD_NORM.sub(lambda match: ".weight" if match[1].lower() == "gamma" else ".bias", name)


def _safetensors_in_pytorch_layout(path: Path) -> dict[str, npt.NDArray[Any]]:
    tensors, metadata = read_safetensors(path)
    origin = metadata.get("format", "pt")
    if origin == "flax":
        return dict(flax_to_pytorch(name, array) for name, array in tensors.items())
    if origin == "tf":
        raise CheckpointError(
            f"{path} was saved by TensorFlow, whose layout is not read: save the checkpoint with PyTorch, "
            "`AutoModelForQuestionAnswering.from_pretrained(folder, from_tf=True).save_pretrained(folder)`."
        )
    return tensors


_READERS: Mapping[WeightFormat, Callable[[Path], dict[str, npt.NDArray[Any]]]] = {
    "safetensors": _safetensors_in_pytorch_layout,
    "pytorch": read_pytorch,
    "flax": read_flax,
}
