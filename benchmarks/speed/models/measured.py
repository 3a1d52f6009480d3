"""The models speed is measured on: each a checkpoint for the peers and a bundle for the engine."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastspan
import fastspan.export
from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.speed.models.random_checkpoint import BERT_BASE_CASED, random_checkpoint
from fastspan.bundle.folder import Bundle, sha256_of
from fastspan.bundle.variants import VariantName
from fastspan.errors import BundleError, InputError

__all__ = ["BUNDLED", "RANDOM", "SpeedModel", "bundled_model", "random_model"]


BUNDLED, RANDOM = "minilm-l6-squad2", "bert-base-random"
"""The models' names."""

_CACHE = ROOT / "models" / ".cache" / "benchmarks"
_CHECKPOINT = ROOT / "models" / BUNDLED
_BUNDLE = ROOT / "models" / "exported" / BUNDLED


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedModel:
    """A model to measure.

    Attributes:
        name: Its name.
        title: What it is, for people.
        checkpoint: Folder with ``config.json``, SafeTensors and tokenizer: what the peers load.
        bundle: What the engine loads.
        cache: Folder for what the peers make of the checkpoint; another one for other weights.
        trained: Whether its answers mean anything.
    """

    name: str
    title: str
    checkpoint: Path
    bundle: Path
    cache: Path
    trained: bool

    def flops(self, tokens: Sequence[int]) -> float:
        """Floating-point operations of windows of these lengths: the encoder's matrix products.

        A layer multiplies (tokens, hidden) by 4 · hidden² + 2 · hidden · inner weights, and its attention
        takes 2 · tokens² · hidden multiplications; each is two operations.
        """
        config: dict[str, Any] = json.loads((self.checkpoint / "config.json").read_text(encoding="utf-8"))
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        weights = 4 * hidden**2 + 2 * hidden * inner
        layers: int = config["num_hidden_layers"]
        return float(sum(2 * layers * (n * weights + 2 * n * n * hidden) for n in tokens))


def bundled_model() -> SpeedModel:
    """Return the checkpoint that comes with the project, exported before.

    Raises:
        InputError: It is not exported.
    """
    if not (_BUNDLE / "fastspan.json").is_file():
        raise InputError(f"{_BUNDLE} is missing: run `make export` first.")
    return SpeedModel(
        name=BUNDLED,
        title="the bundled checkpoint: MiniLM, 6 layers of width 384, trained on SQuAD 2.0",
        checkpoint=_CHECKPOINT,
        bundle=_BUNDLE,
        cache=_CACHE / f"{BUNDLED}-{_digest(_CHECKPOINT)}",
        trained=True,
    )


def random_model(variants: Sequence[VariantName]) -> SpeedModel:
    """Return a BERT of bert-base-cased's geometry with random weights, made and exported where it is not yet.

    Args:
        variants: Which variants its bundle needs.
    """
    checkpoint = random_checkpoint(_CACHE / RANDOM, BERT_BASE_CASED, _CHECKPOINT)
    cache = _CACHE / f"{RANDOM}-{_digest(checkpoint)}"
    bundle = cache / f"bundle-{'-'.join(variants)}-{_exporter_digest()}"
    if not _is_whole(bundle):
        from fastspan.export.exporter import ExportOptions, export
        from fastspan.export.progress import LineProgress

        # Random weights promise nothing about int8's answers, which are not what is measured.
        options = ExportOptions(variants=variants, allow_parity_loss=True)
        export(checkpoint, bundle, options, progress=LineProgress(sys.stderr))
    return SpeedModel(
        name=RANDOM,
        title="bert-base-cased's geometry (12 layers of width 768) with random weights",
        checkpoint=checkpoint,
        bundle=bundle,
        cache=cache,
        trained=False,
    )


def _is_whole(bundle: Path) -> bool:
    try:
        Bundle.open(bundle)
    except BundleError:
        return False
    return True


def _digest(checkpoint: Path) -> str:
    return sha256_of(checkpoint / "model.safetensors")[:10]


def _exporter_digest() -> str:
    """Identify the code that exports, so that a bundle of an older one is not measured."""
    digest = hashlib.sha256(fastspan.__version__.encode())
    for path in sorted(Path(fastspan.export.__path__[0]).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]
