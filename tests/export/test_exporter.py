"""One command, one kind of bundle: whole exports of small checkpoints, by either route."""

from __future__ import annotations

import importlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import SilentProgress

from fastspan import QuestionAnswerer
from fastspan.bundle.folder import Bundle
from fastspan.errors import ParityError
from fastspan.export.exporter import ExportOptions, export
from fastspan.export.int8.recipe import Int8Recipe
from fastspan.export.traced.sizes import traced_model
from fastspan.export.verification import comparison, pytorch_reference
from fastspan.export.verification.checks import Effort
from fastspan.export.verification.comparison import Gate
from fastspan.export.verification.pytorch_reference import has_pytorch, torch_logits
from fastspan.export.verification.questions import encode
from fastspan.text.encoder import Encoder
from support.models.checkpoint_files import flax_bytes, flax_tree

CONTEXT = "The stone bridge of the north was built by norse raiders. Rollo was the leader of the raiders."


FEW = Effort(work=0, of_appeal=31)


def albert(tiny_checkpoint: Path, folder: Path) -> Path:
    """A random ALBERT with the tiny checkpoint's tokenizer."""
    import torch
    import transformers

    shutil.copytree(tiny_checkpoint, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    sizes = json.loads((tiny_checkpoint / "config.json").read_text())
    del sizes["model_type"], sizes["architectures"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = transformers.AlbertConfig(**sizes | {"embedding_size": 16, "initializer_range": 0.3})
        transformers.AlbertForQuestionAnswering(config).save_pretrained(folder)
    return folder


def flax_only(tiny_checkpoint: Path, folder: Path) -> Path:
    shutil.copytree(tiny_checkpoint, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    state = safetensors.numpy.load_file(tiny_checkpoint / "model.safetensors")
    (folder / "flax_model.msgpack").write_bytes(flax_bytes(flax_tree(state)))
    return folder


@pytest.mark.reference
def test_an_architecture_without_native_lowering_becomes_a_bundle_like_any_other(tiny_checkpoint, tmp_path):
    report = export(
        albert(tiny_checkpoint, tmp_path / "albert"),
        tmp_path / "bundle",
        ExportOptions(allow_parity_loss=True, effort=FEW),
        progress=SilentProgress(),
    )
    assert report.route == "optimum"
    assert "'albert' has no native lowering" in report.route_reason
    bundle = Bundle.open(tmp_path / "bundle")
    bundle.verify_all()
    assert list(bundle.manifest.variants) == ["fp32", "fp16", "int8"]
    fp32 = bundle.manifest.variants["fp32"].parity
    assert (fp32.reference, fp32.passed) == ("pytorch", True)
    assert fp32.max_logit_difference <= 1e-4
    model = bundle.manifest.model
    assert (model.hidden_size, model.layers, model.heads, model.segment_ids) == (32, 2, 4, True)
    assert (tmp_path / "bundle" / "README.md").is_file()
    with QuestionAnswerer.load(tmp_path / "bundle", variant="fp32", threads=1) as answerer:
        answer = answerer.answer("who was the leader?", CONTEXT).answers[0]
    assert CONTEXT[answer.start : answer.end] == answer.text


@pytest.mark.reference
def test_flax_weights_are_compared_with_pytorch(tiny_checkpoint, tmp_path):
    source = flax_only(tiny_checkpoint, tmp_path / "flax")
    report = export(
        source, tmp_path / "bundle", ExportOptions(variants=("fp32",), effort=FEW), progress=SilentProgress()
    )
    found = report.bundle.manifest
    assert found.source.format == "flax"
    assert found.variants["fp32"].parity.reference == "pytorch"
    assert found.variants["fp32"].parity.passed


@pytest.mark.reference
def test_the_reference_gives_threads_and_log_levels_back(tiny_checkpoint, tiny_bundle):
    import torch

    importlib.import_module("transformers")  # its import sets the level that is to be given back
    logger = logging.getLogger("transformers")
    before = torch.get_num_threads(), logger.level
    encoder = Encoder.from_folder(tiny_bundle, segment_ids=True, max_positions=512)
    during = set()
    logits = torch_logits(
        tiny_checkpoint,
        encode(encoder, 0, 384, 128, fewest=2),
        segment_ids=True,
        threads=before[0] + 1,
        step=lambda: during.add((torch.get_num_threads(), logger.level)),
    )
    assert during == {(before[0] + 1, logging.ERROR)}
    assert (torch.get_num_threads(), logger.level) == before
    assert all(np.isfinite(start).all() and start.dtype == np.float32 for start, _ in logits)


@pytest.mark.parametrize(
    ("installed", "enough"), [("4.55.4", False), ("4.56.0", True), ("5.0.0rc1", True), ("4.6.1", False)]
)
def test_an_old_transformers_is_no_reference(installed, enough, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(pytorch_reference, "version", lambda name: installed)
    assert has_pytorch() is enough


def test_a_missed_gate_publishes_nothing_unless_the_loss_is_accepted(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(comparison.EXPORT_GATES, "int8", Gate(1e-9, 1.0))
    out = tmp_path / "out" / "bundle"

    def run(**options):
        chosen = ExportOptions(
            variants=("int8",), int8=Int8Recipe(windows=4), pytorch=False, effort=FEW, **options
        )
        return export(tiny_checkpoint, out, chosen, progress=SilentProgress())

    with pytest.raises(
        ParityError,
        match=r"int8 has [\d.]+% equal answers and a largest logit difference of \S+ over 31 questions "
        r"\(its gate: logits within 1e-09, at least 100\.0% equal answers, 90% surely\)\. Nothing was",
    ):
        run()
    assert not list(out.parent.iterdir())

    variants = run(allow_parity_loss=True).bundle.manifest.variants
    assert (variants["int8"].parity.passed, variants["int8"].parity.accepted_loss) == (False, True)
    assert (variants["fp32"].parity.passed, variants["fp32"].parity.accepted_loss) == (True, False)


def test_graphs_that_were_not_compared_are_named(tiny_checkpoint, tmp_path):
    report = export(
        tiny_checkpoint,
        tmp_path / "bundle",
        ExportOptions(
            variants=("fp32", "fp16"),
            allow_parity_loss=True,
            pytorch=False,
            effort=Effort(work=0, fewest=2),
        ),
        progress=SilentProgress(),
    )
    assert report.not_run == ("onnx/model_fp16_packed.onnx", "onnx/model_fp16_cuda.onnx")
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "No figure covers `onnx/model_fp16_packed.onnx`, `onnx/model_fp16_cuda.onnx`: made for" in card


@pytest.mark.reference
def test_a_model_without_attention_heads_has_a_manifest():
    config = {"model_type": "fnet", "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 3}
    model = traced_model(config, segment_ids=True)
    assert (model.heads, model.hidden_size, model.layers, model.vocab_size) == (0, 32, 2, 32000)


@pytest.mark.reference
def test_sizes_are_read_under_the_architectures_own_names():
    config = {"model_type": "xlm", "emb_dim": 64, "n_layers": 3, "n_heads": 4, "n_words": 90}
    model = traced_model(config, segment_ids=True)
    assert (model.hidden_size, model.layers, model.heads, model.vocab_size) == (64, 3, 4, 90)
