"""A checkpoint that would not serve is refused before any work begins, by the name of its fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import SilentProgress
from tokenizers import Tokenizer

from fastspan import QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.errors import BundleError, CheckpointError, InferenceError
from fastspan.export.checkpoint.reader import read_checkpoint
from fastspan.export.checkpoint.soundness import require_finite
from fastspan.export.exporter import ExportOptions, export
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.verification import try_out
from fastspan.export.verification.checks import Effort
from fastspan.export.verification.pytorch_reference import load_model


def options(*variants: str, **more: object) -> ExportOptions:
    """Little is compared, and not with PyTorch."""
    return ExportOptions(
        variants=variants or ("fp32",), pytorch=False, effort=Effort(work=0, fewest=3), **more
    )


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def configure(checkpoint: Path, **values: object) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values), encoding="utf-8")


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(checkpoint / "model.safetensors")


def store(checkpoint: Path, tensors: dict[str, np.ndarray]) -> None:
    safetensors.numpy.save_file(tensors, checkpoint / "model.safetensors")


def add_token(checkpoint: Path, token: str) -> None:
    path = checkpoint / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.add_tokens([token])
    tokenizer.save(str(path))


def refused(checkpoint: Path, match: str, variants=("fp32",)) -> str:
    out = checkpoint.with_name("bundle")
    with pytest.raises(CheckpointError, match=match) as caught:
        export(
            checkpoint,
            out,
            options(*variants, allow_parity_loss=True),
            progress=SilentProgress(),
        )
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_number_that_is_not_finite_is_placed(checkpoint, value, dtype):
    tensors = {name: array.astype(dtype) for name, array in weights(checkpoint).items()}
    name = "bert.encoder.layer.1.output.dense.weight"
    tensors[name][3, 4] = value
    store(checkpoint, tensors)
    refused(checkpoint, rf"Tensor '{name}' holds 1 of \d+ numbers .* the first at \[3, 4\]:")


def test_a_row_of_an_embedding_that_is_not_finite_is_found(checkpoint):
    tensors = weights(checkpoint)
    tensors["bert.embeddings.word_embeddings.weight"][7] = np.nan
    store(checkpoint, tensors)
    refused(checkpoint, r"word_embeddings.weight' holds 32 of \d+ numbers .* the first at \[7, 0\]:")


def test_a_float64_beyond_float32_is_not_finite(checkpoint):
    tensors = {name: array.astype(np.float64) for name, array in weights(checkpoint).items()}
    tensors["qa_outputs.bias"][1] = 1e200
    store(checkpoint, tensors)
    with pytest.raises(CheckpointError, match=r"'qa_outputs.bias' holds 1 of 2 numbers"):
        require_finite(read_checkpoint(checkpoint).weights)


def test_layers_that_the_configuration_leaves_unread_are_refused(checkpoint):
    configure(checkpoint, num_hidden_layers=1)
    message = refused(checkpoint, "with 1 layers, as its config.json describes it, does not read")
    assert "'bert.encoder.layer.1.attention.output.LayerNorm.bias' and 15 more" in message


def test_an_adapter_beside_a_layer_is_refused(checkpoint):
    name = "bert.encoder.layer.0.attention.self.query.lora_A.weight"
    store(checkpoint, weights(checkpoint) | {name: np.ones((2, 2), np.float32)})
    refused(checkpoint, rf"stores '{name}', which a bert model .* merge adapters into the weights")


def test_a_pooler_and_other_heads_are_left_out(checkpoint):
    others = ("bert.pooler.dense.weight", "cls.predictions.bias", "classifier.weight")
    store(checkpoint, weights(checkpoint) | {name: np.ones((2, 2), np.float32) for name in others})
    export(
        checkpoint,
        checkpoint.with_name("bundle"),
        options(),
        progress=SilentProgress(),
    )


@pytest.mark.reference
def test_the_pytorch_reference_refuses_unread_layers_too(checkpoint):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    load_model(read_checkpoint(checkpoint))
    configure(checkpoint, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"with 1 layers, as its config.json describes it, does"):
        load_model(read_checkpoint(checkpoint))


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("vocab_size", "word_embeddings"),
        ("max_position_embeddings", "position_embeddings"),
        ("type_vocab_size", "token_type_embeddings"),
    ],
)
@pytest.mark.parametrize("more", [1, -1])
def test_sizes_that_contradict_the_embeddings_are_refused(checkpoint, key, tensor, more):
    stored = weights(checkpoint)[f"bert.embeddings.{tensor}.weight"].shape[0]
    configure(checkpoint, **{key: stored + more})
    refused(checkpoint, rf"{tensor}.weight' is {stored}×32, but config.json says {stored + more}×32")


def test_heads_that_do_not_divide_the_width_are_refused(checkpoint):
    configure(checkpoint, num_attention_heads=5)
    refused(checkpoint, "hidden size 32 cannot be split into 5 heads")


def test_a_padding_id_without_an_embedding_is_refused(checkpoint):
    rows = weights(checkpoint)["bert.embeddings.word_embeddings.weight"].shape[0]
    configure(checkpoint, pad_token_id=rows)
    refused(checkpoint, rf"pad_token_id {rows} has no embedding")


def test_a_token_without_an_embedding_is_refused(checkpoint):
    add_token(checkpoint, "covid19")
    refused(checkpoint, "token 'covid19' has the id")


def test_an_architecture_that_is_traced_is_held_to_its_vocabulary_too(checkpoint):
    configure(checkpoint, model_type="albert")
    add_token(checkpoint, "covid19")
    refused(checkpoint, "token 'covid19' has the id")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"[]", "config.json holds a JSON list where an object is expected"),
        ('{"model_type": "caf\u00e9"}'.encode("latin-1"), "config.json is not JSON"),
        (b"", "config.json is not JSON"),
        (b"[" * 100_000, "config.json is not JSON"),
    ],
)
def test_a_configuration_that_is_no_object_is_refused(checkpoint, data, match):
    (checkpoint / "config.json").write_bytes(data)
    refused(checkpoint, match)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_broken_file_beside_it_is_refused(checkpoint, name):
    (checkpoint / name).write_text("[]")
    refused(checkpoint, f"{name} holds a JSON list")


def test_a_byte_order_mark_does_not_reach_the_bundle(checkpoint, tmp_path):
    names = ("config.json", "tokenizer_config.json", "tokenizer.json")
    for name in names:
        path = checkpoint / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    export(checkpoint, tmp_path / "bundle", options(), progress=SilentProgress())
    for name in names:
        assert json.loads((tmp_path / "bundle" / name).read_text(encoding="utf-8"))
    with QuestionAnswerer.load(tmp_path / "bundle", threads=1) as answerer:
        assert answerer.answer("who was the leader?", "rollo was the leader").answers


@pytest.mark.parametrize("positions", [32, 40, 128])
def test_a_model_of_few_positions_can_be_exported(checkpoint, tmp_path, positions):
    tensors = weights(checkpoint)
    name = "bert.embeddings.position_embeddings.weight"
    store(checkpoint, tensors | {name: tensors[name][:positions].copy()})
    configure(checkpoint, max_position_embeddings=positions)
    chosen = options("fp32", "int8", allow_parity_loss=True, int8=Int8Recipe(windows=4))
    manifest = export(checkpoint, tmp_path / "bundle", chosen, progress=SilentProgress()).bundle.manifest
    assert (manifest.max_length, manifest.overlap) == (positions, positions // 3)
    with QuestionAnswerer.load(tmp_path / "bundle", variant="int8", threads=1) as answerer:
        assert answerer.answer("who was it?", "rollo was the leader " * 60).answers


def test_too_few_positions_are_refused(checkpoint):
    tensors = weights(checkpoint)
    name = "bert.embeddings.position_embeddings.weight"
    store(checkpoint, tensors | {name: tensors[name][:31].copy()})
    configure(checkpoint, max_position_embeddings=31)
    refused(checkpoint, "takes windows of at most 31 tokens")


def test_a_bundle_that_the_engine_does_not_load_is_not_published(checkpoint, tmp_path, monkeypatch):
    class Broken:
        @staticmethod
        def load(folder: Path, **options: object) -> object:
            Bundle.open(folder).verify_all()  # it is whole by then
            assert options["variant"] == "fp32"
            raise InferenceError("The graph does not load: copy the bundle again.")

    monkeypatch.setattr(try_out, "QuestionAnswerer", Broken)
    with pytest.raises(BundleError, match=r"The fp32 variant was made but does not serve \(The graph does"):
        export(checkpoint, tmp_path / "bundle", options(), progress=SilentProgress())
    assert not (tmp_path / "bundle").exists()
