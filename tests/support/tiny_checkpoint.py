"""A BERT small enough to export in a second: random weights, a WordPiece vocabulary of letters and words."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import safetensors.numpy
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

__all__ = ["WORDS", "save_tiny_checkpoint"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("the", "of", "who", "what", "when", "where", "norman", "norse", "raiders", "leader", "rollo", "france"),
    *("river", "bridge", "stone", "tower", "built", "year", "engine", "answer", "question", "passage"),
    *("window", "token", "rain", "snow", "wind", "north", "south", "red", "green", "blue"),
)
POSITIONS = 512


def save_tiny_checkpoint(folder: Path, *, hidden: int = 32, layers: int = 2, seed: int = 11) -> Path:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer of a random BERT into ``folder``."""
    tokenizer = _tokenizer()
    config = {
        "model_type": "bert",
        "architectures": ["BertForQuestionAnswering"],
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
        "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}), encoding="utf-8"
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    weights = _weights(tokenizer.get_vocab_size(), hidden, layers, np.random.default_rng(seed))
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    return folder


def _tokenizer() -> Tokenizer:
    """Lower case, WordPiece, ``[CLS] question [SEP] context [SEP]``; what it has no word for, it spells."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = (*SPECIAL, *WORDS, *characters, *(f"##{character}" for character in characters))
    tokenizer = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )
    return tokenizer


def _weights(vocabulary: int, hidden: int, layers: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Wide enough a spread that different texts get clearly different logits."""

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.4, shape).astype(np.float32)

    weights: dict[str, np.ndarray] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = normal(outputs, inputs), normal(outputs)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = 1 + normal(hidden) / 4
        weights[f"{name}.bias"] = normal(hidden) / 4

    embeddings = "bert.embeddings"
    for kind, rows in (("word", vocabulary), ("position", POSITIONS), ("token_type", 2)):
        weights[f"{embeddings}.{kind}_embeddings.weight"] = normal(rows, hidden)
    norm(f"{embeddings}.LayerNorm")
    for layer in range(layers):
        prefix = f"bert.encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            linear(f"{prefix}.attention.self.{part}", hidden, hidden)
        linear(f"{prefix}.attention.output.dense", hidden, hidden)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", hidden, 2 * hidden)
        linear(f"{prefix}.output.dense", 2 * hidden, hidden)
        norm(f"{prefix}.output.LayerNorm")
    linear("qa_outputs", hidden, 2)
    return weights
