"""Checkpoint files as other programs write them, written here: small, and without those programs."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import safetensors.numpy

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.reader import read_checkpoint

State = dict[str, np.ndarray]

CONFIG = {"model_type": "bert", "architectures": ["BertForQuestionAnswering"]}


def flax_leaf(value: Any) -> Any:
    """What flax.serialization packs an array, a numpy scalar and a complex number into."""
    if isinstance(value, np.ndarray):
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes("C"))))
    if isinstance(value, np.generic):
        return msgpack.ExtType(3, msgpack.packb(((), value.dtype.name, value.tobytes())))
    if isinstance(value, complex):
        return msgpack.ExtType(2, msgpack.packb((value.real, value.imag)))
    raise TypeError(type(value))


def chunked(array: np.ndarray, most: int) -> dict[str, Any]:
    """What flax.serialization makes of an array that is larger than its limit."""
    flat = array.reshape(-1)
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): size for i, size in enumerate(array.shape)},
        "chunks": {str(i): flat[begin : begin + most] for i, begin in enumerate(range(0, flat.size, most))},
    }


def flax_bytes(tree: Any) -> bytes:
    return msgpack.packb(tree, default=flax_leaf, strict_types=True)


def flax_tree(state: State) -> dict[str, Any]:
    """The parameters of the Flax model that a PyTorch state belongs to: transformers' renaming, backwards."""
    tree: dict[str, Any] = {}
    for name, array in state.items():
        *path, parameter = name.split(".")
        if parameter == "weight" and "LayerNorm" in path[-1]:
            parameter = "scale"
        elif parameter == "weight" and path[-1].endswith("_embeddings"):
            parameter = "embedding"
        elif parameter == "weight":
            parameter, array = "kernel", np.ascontiguousarray(array.T)
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[parameter] = array
    return tree


def small_state(dtype: Any = np.float32) -> State:
    rng = np.random.default_rng(7)
    shapes = {
        "bert.embeddings.word_embeddings.weight": (9, 4),
        "bert.embeddings.LayerNorm.weight": (4,),
        "bert.embeddings.LayerNorm.bias": (4,),
        "bert.encoder.layer.0.output.dense.weight": (4, 6),
        "bert.encoder.layer.0.output.dense.bias": (4,),
        "qa_outputs.weight": (2, 4),
        "qa_outputs.bias": (2,),
    }
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def safetensors_bytes(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def make(path: Path, **files: bytes | Mapping[str, Any]) -> Path:
    """Write a checkpoint folder; a double underscore stands for the dot of a file's name."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in {"config__json": CONFIG, **files}.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def assert_same(weights: Mapping[str, np.ndarray], state: State) -> None:
    assert set(weights) == set(state)
    for name, expected in state.items():
        assert weights[name].dtype == np.float32
        assert not weights[name].flags.writeable
        np.testing.assert_array_equal(weights[name], expected.astype(np.float32), err_msg=name)


def flatten(found: dict[str, Any], node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    for key, child in node.items():
        if isinstance(child, dict):
            flatten(found, child, f"{prefix}{key}/")
        else:
            found[prefix + key] = child
    return found


def good(path: Path) -> Path:
    make(path)
    safetensors.numpy.save_file(small_state(), path / "model.safetensors")
    return path


def refuse(path: Path, message: str, kind: type[Exception] = CheckpointError) -> None:
    with pytest.raises(kind, match=message) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
