"""Checkpoints in every format give the same weights, and what is not a checkpoint is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from fastspan.errors import CheckpointError
from fastspan.export.checkpoint.folder import CheckpointFolder
from fastspan.export.checkpoint.reader import Checkpoint, read_checkpoint
from fastspan.export.checkpoint.weights import Weights
from support.models.checkpoint_files import (
    CONFIG,
    State,
    assert_same,
    chunked,
    flatten,
    flax_bytes,
    flax_tree,
    good,
    make,
    refuse,
    safetensors_bytes,
    small_state,
)
from support.packages import hide
from support.paths import ROOT

# --- The three formats. ---


def build_transformer(kind: str) -> Any:
    import transformers

    sizes = {
        "vocab_size": 50,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 16,
    }
    if kind == "bert":
        return transformers.BertForQuestionAnswering(transformers.BertConfig(**sizes))
    return transformers.RobertaForQuestionAnswering(transformers.RobertaConfig(**sizes, type_vocab_size=1))


def save(model: Any, path: Path, form: str) -> None:
    import torch

    path.mkdir()
    model.config.save_pretrained(path)
    state = model.state_dict()
    arrays = {name: tensor.float().numpy() for name, tensor in state.items()}
    if form == "safetensors":
        model.save_pretrained(path)
    elif form == "safetensors, sharded":
        model.save_pretrained(path, max_shard_size="8KB")
    elif form == "safetensors by flax":
        flat = {}
        pending = [("", flax_tree(arrays))]
        while pending:
            prefix, node = pending.pop()
            for key, child in node.items():
                name = f"{prefix}.{key}" if prefix else key
                if isinstance(child, dict):
                    pending.append((name, child))
                else:
                    flat[name] = child
        safetensors.numpy.save_file(flat, path / "model.safetensors", metadata={"format": "flax"})
    elif form == "pytorch":
        torch.save(state, path / "pytorch_model.bin")
    elif form == "pytorch, sharded":
        model.save_pretrained(path, safe_serialization=False, max_shard_size="8KB")
    elif form == "pytorch before 1.6":
        torch.save(state, path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    elif form == "pytorch, old names":
        old = {}
        for name, tensor in state.items():
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            old["module." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = torch.nn.Parameter(tensor)
        old["module.bert.embeddings.position_ids"] = torch.arange(16)[None]
        torch.save(old, path / "pytorch_model.bin")
    elif form == "flax":
        (path / "flax_model.msgpack").write_bytes(flax_bytes(flax_tree(arrays)))
    elif form == "flax, chunked":
        tree = {"params": flax_tree(arrays)}
        base = tree["params"]["bert" if "bert" in tree["params"] else "roberta"]
        words = base["embeddings"]["word_embeddings"]
        words["embedding"] = chunked(words["embedding"], 100)
        assert len(words["embedding"]["chunks"]) > 2
        (path / "flax_model.msgpack").write_bytes(flax_bytes(tree))
    elif form == "flax, sharded":
        shards: list[dict[str, np.ndarray]] = [{}, {}]
        for number, (name, array) in enumerate(arrays.items()):
            ((raw, node),) = flatten({}, flax_tree({name: array})).items()
            shards[number % 2][raw] = node
        names = [f"flax_model-0000{i + 1}-of-00002.msgpack" for i in range(2)]
        for name, shard in zip(names, shards, strict=True):
            (path / name).write_bytes(flax_bytes(shard))
        weight_map = {raw: names[i] for i in range(2) for raw in shards[i]}
        (path / "flax_model.msgpack.index.json").write_text(json.dumps({"weight_map": weight_map}))


FORMS = (
    "safetensors",
    "safetensors, sharded",
    "safetensors by flax",
    "pytorch",
    "pytorch, sharded",
    "pytorch before 1.6",
    "pytorch, old names",
    "flax",
    "flax, chunked",
    "flax, sharded",
)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def model(request: pytest.FixtureRequest) -> Any:
    return build_transformer(request.param)


@pytest.mark.reference
@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_weights(tmp_path: Path, model: Any, form: str) -> None:
    save(model, tmp_path / "m", form)
    checkpoint = read_checkpoint(tmp_path / "m")
    expected = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert_same(checkpoint.weights, expected)
    if not form.startswith("safetensors"):
        assert checkpoint.format == form.split(",")[0].split()[0]
    assert (len(checkpoint.weight_files) > 1) == ("sharded" in form)
    for name, digest in checkpoint.sha256.items():
        assert hashlib.sha256((tmp_path / "m" / name).read_bytes()).hexdigest() == digest
    assert checkpoint.config["model_type"] == model.config.model_type
    assert (checkpoint.source, checkpoint.revision, checkpoint.folder) == ("m", None, tmp_path / "m")


@pytest.mark.parametrize(
    "form", ["safetensors", pytest.param("pytorch", marks=pytest.mark.reference), "flax"]
)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_float_types_become_float32(tmp_path: Path, form: str, dtype: Any) -> None:
    state = small_state(dtype)
    path = make(tmp_path)
    if form == "safetensors":
        safetensors.numpy.save_file(state, path / "model.safetensors")
    elif form == "flax":
        (path / "flax_model.msgpack").write_bytes(flax_bytes(flax_tree(state)))
    else:
        import torch

        kind = getattr(torch, np.dtype(dtype).name)
        tensors = {k: torch.from_numpy(v.astype(np.float64)).to(kind) for k, v in state.items()}
        torch.save(tensors, path / "pytorch_model.bin")
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.weights, state)
    assert checkpoint.stored_dtypes == (np.dtype(dtype).name,)


@pytest.mark.reference
def test_tied_tensors_are_read_under_both_names(tmp_path: Path) -> None:
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in small_state().items()}
    tensors["tied.weight"] = tensors["qa_outputs.weight"]
    tensors["transposed.weight"] = tensors["qa_outputs.weight"].t()
    torch.save(tensors, make(tmp_path) / "pytorch_model.bin")
    expected = small_state()
    expected["tied.weight"] = expected["qa_outputs.weight"]
    expected["transposed.weight"] = expected["qa_outputs.weight"].T
    assert_same(read_checkpoint(tmp_path).weights, expected)


def test_safetensors_come_first_as_in_transformers(tmp_path: Path) -> None:
    path = make(tmp_path, flax_model__msgpack=b"never read", pytorch_model__bin=b"never read")
    safetensors.numpy.save_file(small_state(), path / "model.safetensors")
    checkpoint = read_checkpoint(str(path))
    assert (checkpoint.format, checkpoint.weight_files) == ("safetensors", ("model.safetensors",))


def test_the_bundled_checkpoint_is_read_in_place() -> None:
    path = ROOT / "models" / "minilm-l6-squad2"
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.weights, safetensors.numpy.load_file(path / "model.safetensors"))
    assert checkpoint.stored_dtypes == ("float16",)
    assert checkpoint.weights.shape("qa_outputs.weight") == (2, 384)


def test_reading_maps_float32_safetensors_instead_of_loading_them(tmp_path: Path) -> None:
    path = make(tmp_path)
    safetensors.numpy.save_file(small_state(), path / "model.safetensors")
    array = read_checkpoint(path).weights["qa_outputs.weight"]
    base: Any = array
    while not isinstance(base, np.memmap):
        assert not base.flags.owndata
        base = base.base
    assert Path(base.filename) == path / "model.safetensors"


def test_reading_safetensors_and_flax_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch")
    for form in ("safetensors", "flax"):
        path = make(tmp_path / form)
        if form == "flax":
            (path / "flax_model.msgpack").write_bytes(flax_bytes(flax_tree(small_state())))
        else:
            safetensors.numpy.save_file(small_state(), path / "model.safetensors")
        assert_same(read_checkpoint(path).weights, small_state())


def test_weights_are_a_mapping() -> None:
    weights = Weights({"a": np.ones((2, 3), np.float16)})
    assert list(weights) == ["a"]
    assert (len(weights), "a" in weights, "b" in weights, weights.get("b")) == (1, True, False, None)
    assert weights.shape("a") == (2, 3)
    with pytest.raises(KeyError):
        weights["b"]


# --- What is refused. ---


def without_head(path: Path) -> None:
    state = {name: array for name, array in small_state().items() if not name.startswith("qa_outputs")}
    safetensors.numpy.save_file(state, path / "model.safetensors")


def without_head_bias(path: Path) -> None:
    state = small_state()
    del state["qa_outputs.bias"]
    safetensors.numpy.save_file(state, path / "model.safetensors")


def with_three_outputs(path: Path) -> None:
    state = {**small_state(), "qa_outputs.weight": np.zeros((3, 4), np.float32)}
    safetensors.numpy.save_file(state, path / "model.safetensors")


def edit(change: Callable[[bytes], bytes], name: str = "model.safetensors") -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes())) and None


def put(name: str, content: Any) -> Callable[[Path], None]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda path: (path / name).write_bytes(data) and None


def header(entries: Any, data: bytes = b"") -> Callable[[Path], None]:
    return put("model.safetensors", safetensors_bytes(entries, data))


def index(weight_map: Any, **shards: State) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "model.safetensors").unlink()
        put("model.safetensors.index.json", {"weight_map": weight_map})(path)
        for name, state in shards.items():
            safetensors.numpy.save_file(state, path / f"{name}.safetensors")

    return change


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        good(path.parent / "elsewhere")
        (path / name).unlink()
        (path / name).symlink_to(target)

    return change


def folder_in_place_of(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return change


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 433296508\n"
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config.json": (lambda path: (path / "config.json").unlink(), r"holds no config\.json"),
    "config not JSON": (put("config.json", b"{'model_type': 1}"), r"config\.json is not JSON"),
    "config not text": (put("config.json", b"\xff\xfe\xfa"), r"config\.json is not JSON"),
    "config nested without end": (put("config.json", b"[" * 200_000), r"config\.json is not JSON"),
    "config a list": (put("config.json", []), r"config\.json holds a JSON list"),
    "config an LFS pointer": (put("config.json", LFS), r"config\.json is a Git LFS pointer.*git lfs pull"),
    "config a folder": (folder_in_place_of("config.json"), r"config\.json is not a file"),
    "quantized": (
        put("config.json", {**CONFIG, "quantization_config": {"quant_method": "gptq"}}),
        "weights are quantized",
    ),
    "no weights": (
        lambda path: (path / "model.safetensors").unlink(),
        "holds no weights: expected one of model",
    ),
    "weights an LFS pointer": (put("model.safetensors", LFS), r"safetensors is a Git LFS pointer"),
    "weights a folder": (folder_in_place_of("model.safetensors"), "safetensors is not a file"),
    "empty": (put("model.safetensors", b""), "truncated, it ends within its header"),
    "seven bytes": (put("model.safetensors", b"1234567"), "truncated, it ends within its header"),
    "cut within the header": (edit(lambda data: data[:40]), "truncated, it ends within its header"),
    "cut within a tensor": (edit(lambda data: data[:-5]), "truncated, '.*' ends at byte"),
    "longer than its header says": (edit(lambda data: data + b"?"), "1 bytes at its end belong to no tensor"),
    "a pickle": (put("model.safetensors", pickle.dumps([1] * 50)), "damaged or no safetensors file"),
    "header not JSON": (header(b"{nothing}"), "its header is not JSON"),
    "header a list": (header([]), "its header is not an object"),
    "header with a name twice": (header(b'{"a": 1, "a": 2}'), "its header is not JSON .*twice"),
    "metadata a string": (header({"__metadata__": ""}), "__metadata__ is not an object"),
    "entry without offsets": (header({"a": {"dtype": "F32", "shape": []}}), "does not say where 'a' lies"),
    "negative shape": (header({"a": {**F32, "shape": [-1, -2]}}, b"8 bytes."), r"shape \[-1, -2\]"),
    "true as a size": (header({"a": {**F32, "shape": [True, 2]}}, b"8 bytes."), r"shape \[True, 2\]"),
    "endless shape": (header({"a": {**F32, "shape": [0, 2**70], "data_offsets": [0, 0]}}), "has the shape"),
    "shape and bytes apart": (header({"a": {**F32, "shape": [3]}}, b"8 bytes."), "8 bytes for the shape"),
    "overlap": (header({"a": F32, "b": F32}, b"8 bytes."), "overlap or leave holes"),
    "hole": (header({"a": {**F32, "data_offsets": [4, 12]}}, bytes(12)), "overlap or leave holes"),
    "float8": (
        header({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"xy"),
        "as F8_E4M3, which cannot be exported",
    ),
    "by TensorFlow": (header({"__metadata__": {"format": "tf"}, "a": F32}, bytes(8)), "saved by TensorFlow"),
    "no head": (without_head, r"is not a question-answering model but BertForQ.*no qa_outputs\.weight"),
    "no head's bias": (without_head_bias, r"no qa_outputs\.bias"),
    "three outputs": (with_three_outputs, r"qa_outputs\.weight has the shape \(3, 4\)"),
    "index not an index": (index([]), r"index\.json has no weight_map"),
    "index of nothing": (index({}), r"index\.json has no weight_map"),
    "index of numbers": (index({"a": 1}), r"index\.json has no weight_map"),
    "shard missing": (index({"a": "model-1.safetensors"}), r"model-1\.safetensors is missing"),
    "shard outside": (index({"a": "../elsewhere/model.safetensors"}), r"outside of it, '\.\./elsewhere"),
    "shard absolute": (index({"a": "/etc/passwd"}), "outside of it, '/etc/passwd'"),
    "shard outside on Windows": (index({"a": "..\\model.safetensors"}), "outside of it"),
    "shard in a subfolder": (index({"a": "sub/model.safetensors"}), "outside of it"),
    "shard lacks a tensor": (
        index({"a": "s.safetensors", "b": "s.safetensors"}, s={"a": np.zeros(1, np.float32)}),
        r"s\.safetensors lacks 'b'",
    ),
    "tensor in two shards": (
        index(
            {"a": "s.safetensors", "b": "t.safetensors"},
            s={"a": np.zeros(1, np.float32)},
            t={name: np.zeros(1, np.float32) for name in ("a", "b")},
        ),
        "holds 'a' a second time",
    ),
    "config a link out": (link("config.json", "../elsewhere/config.json"), "leads out of the checkpoint"),
    "weights a link out": (link("model.safetensors", "../elsewhere/model.safetensors"), "leads out"),
    "weights an absolute link out": (link("model.safetensors", os.devnull), "leads out"),
    "weights a link to nothing": (link("model.safetensors", "gone"), "is a link that leads nowhere"),
    "weights a link to itself": (link("model.safetensors", "model.safetensors"), "leads nowhere"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_checkpoint_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    path = good(tmp_path / "checkpoint")
    assert isinstance(read_checkpoint(path), Checkpoint)
    change(path)
    refuse(path, message)


def test_not_a_folder_is_refused(tmp_path: Path) -> None:
    path = good(tmp_path / "m")
    refuse(path / "model.safetensors", "is a file: give the folder")
    refuse(tmp_path / "gone", "does not exist")


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    path = good(tmp_path / "m")
    (path / "model.safetensors").rename(path / "blob")
    (path / "model.safetensors").symlink_to("blob")
    assert_same(read_checkpoint(path).weights, small_state())


def test_a_folder_reached_by_a_link_is_read(tmp_path: Path) -> None:
    good(tmp_path / "m")
    (tmp_path / "link").symlink_to("m")
    assert_same(read_checkpoint(tmp_path / "link").weights, small_state())


def test_the_empty_name_and_the_folder_itself_are_no_files(tmp_path: Path) -> None:
    files = CheckpointFolder.open(tmp_path)
    for name in ("", ".", "..", "C:x", "a\0"):
        with pytest.raises(CheckpointError, match="outside of it"):
            files.file(name)
