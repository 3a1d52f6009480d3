"""Pairs to the columns of their answers: what every worker does, wherever it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from fastspan.answerer import QuestionAnswerer
from fastspan.errors import InputError
from fastspan.results import Prediction

__all__ = ["ANSWER_FIELDS", "Answered", "answer_pairs", "fields_of"]

ANSWER_FIELDS = ("answer", "start", "end", "score", "confidence", "null_score", "best_span_score")
"""The columns of an answer. ``answer`` to ``score`` are those of ``Prediction.answer``, null where the
context does not answer the question; the others are the prediction's."""

Answered: TypeAlias = tuple[str | int | float | None, ...]
"""The values of ``ANSWER_FIELDS`` for one row."""

# In a chunk an argument is named by its place, which means nothing to who reads a rejected row.
_PLACE = re.compile(r"^(question|context|pair)s\[\d+\]")


def answer_pairs(
    qa: QuestionAnswerer, pairs: Sequence[tuple[str, str]], options: Mapping[str, Any]
) -> Iterator[Answered | str]:
    """Answer pairs, in order.

    Args:
        qa: The answerer.
        pairs: Questions and contexts.
        options: Fields of ``AnswerOptions``.

    Yields:
        The values of ``ANSWER_FIELDS``; for a pair that cannot be used, why.

    Raises:
        InputError: An option is unusable.
        InferenceError: ONNX Runtime failed.
    """
    for result in qa.answer_many(pairs, on_error="yield", **options):
        yield _PLACE.sub(r"\1", str(result)) if isinstance(result, InputError) else fields_of(result)


def fields_of(prediction: Prediction) -> Answered:
    """Return the values of ``ANSWER_FIELDS``; a number that is not finite is None."""
    answer = prediction.answer
    span = (None,) * 4 if answer is None else (answer.text, answer.start, answer.end, _finite(answer.score))
    numbers = (prediction.confidence, prediction.null_score, prediction.best_span_score)
    return (*span, *map(_finite, numbers))


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
