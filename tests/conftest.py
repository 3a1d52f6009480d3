"""Bundles that many tests share, each made once in a session."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastspan
from fastspan.bundle.folder import Bundle
from fastspan.errors import BundleError, MissingDependency
from fastspan.machine.cuda_libraries import why_cuda_fails
from fastspan.runtime.cuda.probe import cuda_runs
from fastspan.runtime.providers import import_onnxruntime
from support.paths import EXPORTED_MINILM, MINILM
from support.tiny_checkpoint import save_tiny_checkpoint

# Tests import onnxruntime by themselves too, and send no telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A shell makes what it runs in the background ignore SIGINT, and so would the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, where all can see it, what needs a GPU that ONNX Runtime's CUDA provider does not run on here."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        runtime = import_onnxruntime()
    except MissingDependency as error:
        lacking = str(error)
    else:
        if "CUDAExecutionProvider" not in runtime.get_available_providers():
            lacking = "the installed onnxruntime has no CUDA provider"
        elif cuda_runs(runtime):
            return
        else:
            lacking = why_cuda_fails(runtime) or "CUDA's provider does not start"
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=f"needs an NVIDIA GPU: {lacking}"))


class SilentProgress:
    """A progress that nobody watches."""

    def stage(self, text: str) -> None:
        pass

    @contextmanager
    def bar(self, text: str, total: int) -> Iterator[Callable[[], None]]:
        yield lambda: None


def _export_untrained(checkpoint: Path, out: Path, *variants: str) -> Path:
    """Export random weights: they promise no parity in int8, so little is spent on measuring it."""
    exporter = pytest.importorskip("fastspan.export.exporter")
    options = pytest.importorskip("fastspan.export.options")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastspan.export.verification.checks._WORK", 0)
        patch.setattr(exporter, "has_pytorch", lambda: False)
        patch.setattr(exporter, "difference_from_transformers", lambda files, tokenizer: None)
        exporter.export(
            checkpoint,
            out,
            options.ExportOptions(
                variants=variants, allow_parity_loss=True, int8=options.Int8Recipe(windows=4)
            ),
            progress=SilentProgress(),
        )
    return out


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, as SafeTensors."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "tiny-qa")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, with the variants fp32 and int8. To be read only: copy it before changing a file."""
    return _export_untrained(tiny_checkpoint, tmp_path_factory.mktemp("bundles") / "tiny-qa", "fp32", "int8")


@pytest.fixture(scope="session")
def tiny_half_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint's bundle with fp32 and fp16, so with the graphs for CUDA. To be read only."""
    return _export_untrained(tiny_checkpoint, tmp_path_factory.mktemp("halves") / "tiny-qa", "fp32", "fp16")


@pytest.fixture(scope="session")
def deep_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of many narrow layers: slow as a whole, while none of its operators takes long."""
    checkpoint = save_tiny_checkpoint(tmp_path_factory.mktemp("deep") / "deep-qa", layers=64)
    with pytest.MonkeyPatch.context() as patch:
        exporter = pytest.importorskip("fastspan.export.exporter")
        patch.setattr(exporter, "_verify", lambda checkpoint, folder, manifest, *rest: manifest)
        return _export_untrained(checkpoint, tmp_path_factory.mktemp("bundles") / "deep-qa", "fp32")


@pytest.fixture(scope="session")
def bundled_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the checkpoint that comes with the project. To be read only."""
    try:
        bundle = Bundle.open(EXPORTED_MINILM)
        bundle.verify_all()
    except BundleError:
        pass
    else:
        if bundle.manifest.created_with == fastspan.__version__:
            return EXPORTED_MINILM
    if not (MINILM / "model.safetensors").is_file():
        pytest.skip("needs the checkpoint in models/minilm-l6-squad2")
    exporter = pytest.importorskip("fastspan.export.exporter")
    out = tmp_path_factory.mktemp("bundles") / "minilm-l6-squad2"
    exporter.export(MINILM, out, progress=SilentProgress())
    return out
