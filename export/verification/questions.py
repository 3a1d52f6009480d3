"""The questions on which graphs are compared, and their windows."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np

from fastspan.options import AnswerOptions
from fastspan.text.encoder import EncodedPair, Encoder

__all__ = ["FEWEST_QUESTIONS", "encode", "questions"]


FEWEST_QUESTIONS = 30
"""All answers of fewer could be equal, and a share of 90% would still not be sure."""


_SHORT_CONTEXT = 1200  # characters; such a context and its question fit into one window


def questions() -> list[tuple[str, str]]:
    """The project's own evaluation questions with their contexts.

    The first question of every passage comes first, then the second …; but one question whose context
    needs several windows leads, and the others of that kind come last.
    """
    file = resources.files("fastspan.export") / "data" / "evaluation" / "fastspan-eval.json"
    passages = [
        [(qa["question"], paragraph["context"]) for qa in paragraph["qas"]]
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
    ]
    rounds = range(max(map(len, passages)))
    spread = [passage[turn] for turn in rounds for passage in passages if turn < len(passage)]
    short = [pair for pair in spread if len(pair[1]) <= _SHORT_CONTEXT]
    long = [pair for pair in spread if len(pair[1]) > _SHORT_CONTEXT]
    return [*long[:1], *short, *long[1:]]


def encode(
    encoder: Encoder, tokens: int, max_length: int, overlap: int, *, fewest: int = FEWEST_QUESTIONS
) -> list[EncodedPair]:
    """Encode verification questions.

    Args:
        encoder: The bundle's.
        tokens: About how many tokens the windows may hold together.
        max_length: Longest window.
        overlap: Context tokens that neighbouring windows share.
        fewest: Never fewer questions than these are taken, however many tokens they have.
    """
    texts = questions()
    options = AnswerOptions(max_length=max_length, overlap=overlap, truncate_question=True)
    pairs = encoder.encode([question for question, _ in texts], [context for _, context in texts], options)
    sizes = [sum(len(window.input_ids) for window in pair.windows) for pair in pairs]
    affordable = int(np.searchsorted(np.cumsum(sizes), tokens, side="right"))
    return pairs[: max(fewest, affordable)]
