"""A checkpoint of bert-base-cased's geometry with random weights, to measure speed on.

Speed does not depend on what the weights are, only on their shapes, so this stands in for any fine-tuned
BERT-base. Its answers mean nothing.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from fastspan.errors import InputError

__all__ = ["BERT_BASE_CASED", "Geometry", "random_checkpoint"]

_COPIED = "tokenizer_config.json"

Named = tuple[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The sizes of a BERT.

    Attributes:
        vocabulary: Rows of the token embedding.
        hidden: Width of the encoder.
        layers: Number of its layers.
        heads: Attention heads of a layer.
        inner: Width of the feed-forward layers.
        positions: Longest window, in tokens.
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int = 512


BERT_BASE_CASED = Geometry(vocabulary=28996, hidden=768, layers=12, heads=12, inner=3072)
"""The sizes of bert-base-cased."""


def random_checkpoint(folder: Path, geometry: Geometry, tokenizer: Path, *, seed: int = 0) -> Path:
    """Write ``config.json``, ``model.safetensors`` and a tokenizer, unless the folder is there already.

    The folder appears whole or not at all.

    Args:
        folder: Where to.
        geometry: The sizes.
        tokenizer: A folder with a WordPiece tokenizer of at least ``geometry.vocabulary`` pieces, of which
            the first so many are kept.
        seed: Seed of the weights.

    Returns:
        ``folder``.

    Raises:
        InputError: The tokenizer is too small, or no WordPiece.
    """
    if folder.is_dir():
        return folder
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    draft.mkdir(parents=True)
    try:
        pieces = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
        _write_json(draft / "tokenizer.json", _cut(pieces, geometry.vocabulary))
        shutil.copyfile(tokenizer / _COPIED, draft / _COPIED)
        _write_json(draft / "config.json", _config(geometry))
        weights = dict(_Initializer(geometry, np.random.default_rng(seed)).weights())
        safetensors.numpy.save_file(weights, draft / "model.safetensors", metadata={"format": "pt"})
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _cut(tokenizer: dict[str, Any], size: int) -> dict[str, Any]:
    """Keep the first ``size`` pieces of a WordPiece vocabulary."""
    model = tokenizer.get("model", {})
    if model.get("type") != "WordPiece" or len(model["vocab"]) < size:
        raise InputError(f"The tokenizer must be a WordPiece of at least {size} pieces; give another one.")
    kept = {piece: number for piece, number in model["vocab"].items() if number < size}
    return {**tokenizer, "model": {**model, "vocab": kept}}


def _config(geometry: Geometry) -> dict[str, Any]:
    return {
        "architectures": ["BertForQuestionAnswering"],
        "model_type": "bert",
        "vocab_size": geometry.vocabulary,
        "hidden_size": geometry.hidden,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.heads,
        "intermediate_size": geometry.inner,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": geometry.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


class _Initializer:
    """Draws weights as BERT initializes them: normal with a deviation of 0.02, biases 0, norms 1."""

    def __init__(self, geometry: Geometry, generator: np.random.Generator) -> None:
        self._geometry = geometry
        self._generator = generator

    def weights(self) -> Iterator[Named]:
        """Every weight of the model, by name."""
        hidden, inner = self._geometry.hidden, self._geometry.inner
        rows = {"word": self._geometry.vocabulary, "position": self._geometry.positions, "token_type": 2}
        for kind, count in rows.items():
            yield f"bert.embeddings.{kind}_embeddings.weight", self._normal(count, hidden)
        yield from self._norm("bert.embeddings.LayerNorm")
        for layer in range(self._geometry.layers):
            prefix = f"bert.encoder.layer.{layer}"
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                yield from self._linear(f"{prefix}.attention.{part}", hidden, hidden)
            yield from self._norm(f"{prefix}.attention.output.LayerNorm")
            yield from self._linear(f"{prefix}.intermediate.dense", hidden, inner)
            yield from self._linear(f"{prefix}.output.dense", inner, hidden)
            yield from self._norm(f"{prefix}.output.LayerNorm")
        yield from self._linear("qa_outputs", hidden, 2)

    def _normal(self, *shape: int) -> NDArray[np.float32]:
        return self._generator.standard_normal(shape, np.float32) * np.float32(0.02)

    def _linear(self, name: str, inputs: int, outputs: int) -> Iterator[Named]:
        yield f"{name}.weight", self._normal(outputs, inputs)
        yield f"{name}.bias", np.zeros(outputs, np.float32)

    def _norm(self, name: str) -> Iterator[Named]:
        yield f"{name}.weight", np.ones(self._geometry.hidden, np.float32)
        yield f"{name}.bias", np.zeros(self._geometry.hidden, np.float32)
