"""Real questions, and what the bundled checkpoint in PyTorch makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import pytest

from fastspan.options import AnswerOptions
from fastspan.text.encoder import EncodedPair
from support.paths import MINILM, ROOT, SQUAD_PART
from support.references.golden import Golden

__all__ = [
    "WINDOWS",
    "RealWindows",
    "long_pairs",
    "paragraphs",
    "real_pairs",
    "real_windows",
    "reference_model",
    "reference_tokenizer",
]

EVALUATION = ROOT / "export" / "data" / "evaluation" / "fastspan-eval.json"

_LONGEST = 1000  # characters of a context, so that what is kept stays small

Logits = list[list[np.ndarray]]

WINDOWS = (384, 128)
"""The windows that real questions are asked with: whole paragraphs, and several windows to a question."""


@cache
def paragraphs(path: Path = EVALUATION) -> list[tuple[str, list[str]]]:
    """Contexts that the checkpoint was not trained on, each with its questions."""
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [
        (paragraph["context"], [entry["question"] for entry in paragraph["qas"]])
        for article in articles
        for paragraph in article["paragraphs"]
    ]


def _usual(path: Path) -> list[tuple[str, list[str]]]:
    """Contexts of some length in which a character is one code point.

    Elsewhere answers are whole characters, which run_squad's and the pipeline's need not be.
    """
    return [
        (context, questions)
        for context, questions in paragraphs(path)
        if len(context) < _LONGEST and not any(c == "\u200d" or category(c)[0] == "M" for c in context)
    ]


def real_pairs(count: int, path: Path = EVALUATION) -> tuple[list[str], list[str]]:
    """``count`` questions, evenly spread, with their paragraphs."""
    texts = _usual(path)
    pairs = [(question, context) for context, questions in texts for question in questions]
    chosen = [pairs[i * len(pairs) // count] for i in range(count)]
    return [question for question, _ in chosen], [context for _, context in chosen]


def long_pairs(count: int, path: Path = EVALUATION) -> tuple[list[str], list[str]]:
    """``count`` questions over three paragraphs joined, theirs in the middle."""
    texts = _usual(path)
    at = [1 + i * (len(texts) - 2) // count for i in range(count)]
    joined = ["\n".join(context for context, _ in texts[i - 1 : i + 2]) for i in at]
    # Questions without an answer stand last.
    return [texts[i][1][-(n % 2)] for n, i in enumerate(at)], joined


@cache
def reference_tokenizer() -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(MINILM)


@cache
def reference_model() -> Any:
    import torch
    import transformers

    torch.set_num_threads(1)  # On a busy machine the threads of one small window wait for each other.
    return transformers.BertForQuestionAnswering.from_pretrained(MINILM, dtype=torch.float32).eval()


@dataclass(frozen=True)
class RealWindows:
    """Questions, contexts, the windows' token ids and their logits, all as the reference gives them."""

    options: AnswerOptions
    questions: list[str]
    contexts: list[str]
    input_ids: list[list[list[int]]]
    starts: Logits
    ends: Logits


def real_windows(golden: Golden, max_length: int, *, squad: bool = False) -> RealWindows:
    """The windows of real questions and their logits in PyTorch, fp32, without padding, to 3 decimals.

    Args:
        golden: Keeps them for all modules, the fixture ``real_golden``.
        max_length: One of ``WINDOWS``.
        squad: Ask many of SQuAD's questions instead, whose answers are not kept; needs PyTorch.
    """
    options = AnswerOptions(max_length=max_length, overlap=max_length // 3)
    path = SQUAD_PART if squad else EVALUATION
    many = 250 if squad else 20
    questions, contexts = real_pairs(many, path) if max_length == 384 else long_pairs(many // 5, path)
    windows = []
    for number, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        if squad:
            windows.append(_ask(question, context, options))
            continue
        key = f"windows of {max_length}, question {number}: {question}"
        # A thousandth was kept: what is half a thousandth away may be rounded to the other side.
        windows.append(golden.value(key, lambda q=question, c=context: _ask(q, c, options), within=0.0011))
    return RealWindows(
        options,
        questions,
        contexts,
        [[window["ids"] for window in each] for each in windows],
        [[np.array(window["starts"], np.float32) for window in each] for each in windows],
        [[np.array(window["ends"], np.float32) for window in each] for each in windows],
    )


@cache
def _ask(question: str, context: str, options: AnswerOptions) -> list[dict[str, list[float]]]:
    import torch

    encoded = reference_tokenizer()(
        question,
        context,
        truncation="only_second",
        max_length=options.max_length,
        stride=options.overlap,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
    )
    windows = []
    for ids, segments in zip(encoded["input_ids"], encoded["token_type_ids"], strict=True):
        with torch.inference_mode():
            output = reference_model()(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([segments]))
        starts, ends = (np.round(logits[0].double().numpy(), 3).tolist() for logits in output[:2])
        windows.append({"ids": ids, "starts": starts, "ends": ends})
    return windows


def same_ids(pairs: Sequence[EncodedPair], real: RealWindows) -> bool:
    """Whether questions were encoded to the windows of the reference."""
    return [[window.input_ids.tolist() for window in pair.windows] for pair in pairs] == real.input_ids
