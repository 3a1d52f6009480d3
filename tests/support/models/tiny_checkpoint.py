"""A BERT small enough to export in a second: random weights, a WordPiece vocabulary of letters and words."""

from __future__ import annotations

import json
import string
from pathlib import Path

import safetensors.numpy
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from support.models.random_models import Sizes, bert_config, random_weights

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
    sizes = Sizes(
        vocabulary=tokenizer.get_vocab_size(),
        hidden=hidden,
        layers=layers,
        inner=2 * hidden,
        positions=POSITIONS,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(bert_config(sizes)), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}), encoding="utf-8"
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    # Wide enough a spread that different texts get clearly different logits.
    weights = random_weights(sizes, seed, deviation=0.4, bias=0.25)
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
