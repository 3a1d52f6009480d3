"""The bundled checkpoint in PyTorch, real questions, and its logits, each computed once in a test session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from fastspan.text.encoder import EncodedPair, Window
from support.paths import ROOT

MODEL = ROOT / "models" / "minilm-l6-squad2"
SQUAD = ROOT / ".." / "shared" / "data" / "squad2-dev-part.json"

Logits = list[list[np.ndarray]]

_computed: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}


@cache
def paragraphs() -> list[tuple[str, list[str]]]:
    """Contexts of SQuAD 2.0 that the checkpoint was not trained on, each with its questions."""
    if not SQUAD.is_file():
        pytest.skip("needs SQuAD 2.0's development questions")
    articles = json.loads(SQUAD.read_text(encoding="utf-8"))["data"]
    return [
        (paragraph["context"], [entry["question"] for entry in paragraph["qas"]])
        for article in articles
        for paragraph in article["paragraphs"]
    ]


def real_pairs(count: int) -> tuple[list[str], list[str]]:
    """``count`` questions, evenly spread, with their paragraphs."""
    pairs = [(question, context) for context, questions in paragraphs() for question in questions]
    chosen = [pairs[i * len(pairs) // count] for i in range(count)]
    return [question for question, _ in chosen], [context for _, context in chosen]


def long_pairs(count: int) -> tuple[list[str], list[str]]:
    """``count`` questions over three paragraphs joined, theirs in the middle."""
    texts = paragraphs()
    at = [1 + i * (len(texts) - 2) // count for i in range(count)]
    joined = ["\n".join(context for context, _ in texts[i - 1 : i + 2]) for i in at]
    return [texts[i][1][0] for i in at], joined


@cache
def reference_tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(MODEL)


@cache
def reference_model() -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    if not (MODEL / "model.safetensors").is_file():
        pytest.skip("needs the bundled checkpoint")
    torch.set_num_threads(1)  # On a busy machine the threads of one small window wait for each other.
    return transformers.BertForQuestionAnswering.from_pretrained(MODEL, dtype=torch.float32).eval()


def _window_logits(window: Window) -> tuple[np.ndarray, np.ndarray]:
    key = window.input_ids.tobytes() + window.type_ids.tobytes()
    if key not in _computed:
        import torch

        with torch.inference_mode():
            output = reference_model()(
                input_ids=torch.from_numpy(window.input_ids)[None],
                token_type_ids=torch.from_numpy(window.type_ids)[None],
            )
        _computed[key] = output.start_logits[0].numpy().copy(), output.end_logits[0].numpy().copy()
    return _computed[key]


def reference_logits(pairs: Sequence[EncodedPair]) -> tuple[Logits, Logits]:
    """Start and end logits of every window of every pair, computed on the unpadded window in float32."""
    logits = [[_window_logits(window) for window in pair.windows] for pair in pairs]
    return [[start for start, _ in pair] for pair in logits], [[end for _, end in pair] for pair in logits]
