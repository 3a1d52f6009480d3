"""Safetensors, Flax and PyTorch files: read as they are written, refused when damaged or hostile."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastspan.errors import CheckpointError, MissingDependency
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.weight_formats.flax import flax_to_pytorch, read_flax
from fastspan.export.checkpoint.weight_formats.safetensors import read_safetensors
from support.models.checkpoint_files import (
    State,
    chunked,
    flatten,
    flax_bytes,
    flax_tree,
    good,
    make,
    refuse,
    small_state,
)
from support.packages import hide

ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("f2", "f4", "f8", "i8", "u1", "?", ml_dtypes.bfloat16)]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    elements=st.integers(0, 1),
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), ARRAYS, max_size=4), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_safetensors_are_read_as_their_package_writes_them(
    tmp_path_factory: pytest.TempPathFactory, arrays: State, padding: int
) -> None:
    arrays.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("safetensors") / "x"
    data = safetensors.numpy.save(arrays, metadata={"format": "pt"})
    (length,) = struct.unpack("<Q", data[:8])
    # Spaces after the header leave the tensors unaligned.
    path.write_bytes(
        struct.pack("<Q", length + padding) + data[8 : 8 + length] + b" " * padding + data[8 + length :]
    )
    tensors, metadata = read_safetensors(path)
    assert metadata == {"format": "pt"}
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array, strict=True)


@given(
    st.recursive(
        ARRAYS,
        lambda inner: st.dictionaries(
            st.text("abc012", min_size=1, max_size=3), inner, min_size=1, max_size=3
        ),
        max_leaves=6,
    ),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_flax_arrays_are_read_chunked_or_whole(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, most: int
) -> None:
    tree = tree if isinstance(tree, dict) else {"alone": tree}

    def split(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: split(child) for key, child in node.items()}
        return chunked(node, most) if node.size > most else node

    path = tmp_path_factory.mktemp("flax") / "x"
    path.write_bytes(flax_bytes(split(tree)))
    found = read_flax(path)
    expected = flatten({}, tree)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_flax_scalars_are_arrays_without_dimensions(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(flax_bytes({"scale": np.float32(2.5)}))
    scale = read_flax(tmp_path / "x")["scale"]
    assert (scale.shape, scale.dtype, float(scale)) == ((), np.float32, 2.5)


def test_flax_kernels_are_turned_into_pytorch_layout() -> None:
    dense, convolution = np.arange(6).reshape(2, 3), np.arange(120).reshape(2, 3, 4, 5)
    name, turned = flax_to_pytorch("encoder/layer/0/dense/kernel", dense)
    assert name == "encoder.layer.0.dense.weight"
    np.testing.assert_array_equal(turned, dense.T)
    name, turned = flax_to_pytorch("conv.kernel", convolution)
    assert (name, turned.shape) == ("conv.weight", (5, 4, 2, 3))
    assert turned[4, 3, 1, 2] == convolution[1, 2, 3, 4]
    assert flax_to_pytorch("LayerNorm/bias", dense)[0] == "LayerNorm.bias"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_header_byte_is_refused_or_gives_whole_arrays(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = good(tmp_path_factory.mktemp("flipped"))
    content = bytearray((path / "model.safetensors").read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    content[data.draw(st.integers(0, 8 + length - 1))] = data.draw(st.integers(0, 255))
    (path / "model.safetensors").write_bytes(content)
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointError:
        return
    for name in checkpoint.weights:
        assert checkpoint.weights[name].sum() is not None


FLAX_REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "truncated, damaged or no Flax checkpoint"),
    "truncated": (flax_bytes(flax_tree(small_state()))[:-3], "truncated, damaged or no Flax checkpoint"),
    "followed by more": (flax_bytes(flax_tree(small_state())) + b"\0", "truncated, damaged or no Flax"),
    "a pickle": (pickle.dumps({"a": 1}), "no Flax checkpoint"),
    "nested without end": (b"\x81\xa1a" * 200_000, "no Flax checkpoint"),
    "not a tree": (flax_bytes([1, 2]), "a list stands at ''"),
    "a number": (flax_bytes({"a": {"b": 3}}), "a int stands at 'a/b'"),
    "complex": (flax_bytes({"a": 1j}), "extension type 2"),
    "of objects": (
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1,), "object", bytes(8))))}),
        "the type 'object'",
    ),
    "shape and bytes apart": (
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((3,), "float32", bytes(8))))}),
        "no Flax checkpoint",
    ),
    "negative shape": (
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((-1,), "float32", bytes(8))))}),
        r"\[-1\] is not a shape",
    ),
    "array without bytes": (
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(((1,), "float32", "text")))}),
        "an array without bytes",
    ),
    "a payload of two": (
        msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb((1, 2)))}),
        "no Flax checkpoint",
    ),
    "chunks missing": (
        flax_bytes({"a": {**chunked(np.zeros(4), 2), "chunks": {"0": np.zeros(2)}}}),
        "do not fill its shape",
    ),
    "chunks unnumbered": (
        flax_bytes({"a": {**chunked(np.zeros(4), 2), "chunks": {"x": np.zeros(4)}}}),
        "not numbered from 0",
    ),
    "chunks no arrays": (
        flax_bytes({"a": {**chunked(np.zeros(1), 1), "chunks": {"0": 1}}}),
        "without chunks",
    ),
}


@pytest.mark.parametrize(("data", "message"), FLAX_REFUSED.values(), ids=FLAX_REFUSED)
def test_damaged_flax_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    refuse(make(tmp_path, flax_model__msgpack=data), message)


def test_flax_without_msgpack_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, flax_model__msgpack=flax_bytes({}))
    hide(monkeypatch, "msgpack")
    refuse(path, r'pip install "fastspan\[export\]"', MissingDependency)


class Hostile:
    """Pickled, it makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


@pytest.mark.reference
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_never_run(tmp_path: Path, zipped: bool) -> None:
    import torch

    canary = tmp_path / "canary"
    state = {"qa_outputs.weight": torch.zeros(2, 4), "x": Hostile(canary)}
    path = make(tmp_path / "m")
    torch.save(state, path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    refuse(path, "never unpickled here .*UnpicklingError.*which writes model.safetensors")
    assert not canary.exists()
    torch.load(path / "pytorch_model.bin", weights_only=False)
    assert canary.exists(), "the pickle would have run"


def torch_states() -> dict[str, tuple[Any, str]]:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    sparse = torch.eye(2).to_sparse()
    return {
        "a list": ([torch.ones(1)], "holds no named tensors"),
        "numbered": ({1: torch.ones(1)}, "holds no named tensors"),
        "a training state": (
            {"state_dict": {"a": torch.ones(1)}, "epoch": 3},
            "holds a dict under 'state_dict'",
        ),
        "sparse": ({"a": sparse}, "'a' as a sparse or quantized tensor"),
        "quantized": ({"a": quantized}, "'a' as a sparse or quantized tensor"),
        "float8": ({"a": torch.ones(2).to(torch.float8_e4m3fn)}, "'a' as torch.float8_e4m3fn"),
    }


# PyTorch warns of itself when it rebuilds a quantized tensor.
@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
@pytest.mark.parametrize("name", ["a list", "numbered", "a training state", "sparse", "quantized", "float8"])
def test_pytorch_files_without_plain_weights_are_refused(tmp_path: Path, name: str) -> None:
    import torch

    state, message = torch_states()[name]
    torch.save(state, make(tmp_path) / "pytorch_model.bin")
    refuse(tmp_path, message)


@pytest.mark.reference
@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({"a": 1})[:-2], b"PK\x03\x04" + bytes(100)])
def test_damaged_pytorch_files_are_refused(tmp_path: Path, data: bytes) -> None:
    refuse(make(tmp_path, pytorch_model__bin=data), r"pytorch_model\.bin is damaged, or holds Python objects")


def test_pytorch_files_without_torch_say_how_to_convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "torch")
    path = make(tmp_path, pytorch_model__bin=b"")
    refuse(path, r'pip install "fastspan\[reference\]"`, or convert .*model\.safetensors', MissingDependency)


@pytest.mark.reference
@pytest.mark.parametrize("version", ["2.5.1+cpu", "1.13.0", "unknown"])
def test_torch_whose_restriction_can_be_broken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    import torch

    monkeypatch.setattr(torch, "__version__", version)
    refuse(make(tmp_path, pytorch_model__bin=b""), "CVE-2025-32434", MissingDependency)
