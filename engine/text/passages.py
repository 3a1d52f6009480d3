"""A question and its passages as callers give them, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastspan.errors import InputError
from fastspan.options import is_number, shown
from fastspan.text.inputs import check_pair

__all__ = ["GivenSet", "Passage", "PassageSet", "passage_set", "unpacked"]

Passage = str | tuple[str | int, str]
"""A passage as callers give it: its text, or its id and its text."""

GivenSet = tuple[str, Iterable[Passage]] | tuple[str, Iterable[Passage], Iterable[float] | None]
"""A question and its passages as callers give them, perhaps with the retriever's scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageSet:
    """A question and the passages to read for it, checked.

    Attributes:
        question: What is asked.
        texts: The passages.
        ids: What was given as their ids; None where none was.
        retriever_scores: One score a passage, or None.
    """

    question: str
    texts: tuple[str, ...]
    ids: tuple[str | int | None, ...]
    retriever_scores: tuple[float, ...] | None


def passage_set(
    question: object, passages: object, retriever_scores: object = None, index: int | None = None
) -> PassageSet:
    """Check a question and its passages.

    Args:
        question: Should be a string that is not blank.
        passages: Should be strings, or pairs of an id and a string; any number of them.
        retriever_scores: Should be one finite number a passage, or None.
        index: Position of the set in the caller's list, for the error; None for a lone one.

    Raises:
        InputError: One of them is not; the message names it.
    """
    try:
        check_pair(question, "")
    except InputError as error:
        raise InputError(str(error), index=index) from error
    if isinstance(passages, str) or not isinstance(passages, Iterable):
        raise InputError(
            "passages must be strings, or pairs of an id and a string, in a list or generator, not "
            f"{type(passages).__name__}.",
            index=index,
        )
    texts: list[str] = []
    ids: list[str | int | None] = []
    for number, passage in enumerate(passages):
        name, text = (None, passage) if isinstance(passage, str) else _pair(passage, number, index)
        texts.append(text)
        ids.append(name)
    scores = None
    if retriever_scores is not None:
        scores = _scores(retriever_scores, len(texts), index)
    return PassageSet(question=str(question), texts=tuple(texts), ids=tuple(ids), retriever_scores=scores)


def unpacked(given: object, index: int) -> tuple[object, object, object]:
    """Return question, passages and retriever scores of one set of a list; None where there are no scores.

    Raises:
        InputError: It is no tuple of two or three.
    """
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        size = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise InputError(
            f"sets[{index}] must be a tuple of question and passages, and retriever scores perhaps, not a "
            f"{type(given).__name__}{size}.",
            index=index,
        )
    question, passages, *scores = given
    return question, passages, scores[0] if scores else None


def _pair(passage: object, number: int, index: int | None) -> tuple[str | int, str]:
    name = f"passages[{number}]"
    if not isinstance(passage, Sequence) or isinstance(passage, bytes) or len(passage) != 2:
        raise InputError(
            f"{name} must be a string, or a pair of an id and a string, not {shown(passage)}.", index=index
        )
    key, text = passage
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise InputError(f"{name} has the id {shown(key)}; an id is a string or a whole number.", index=index)
    if not isinstance(text, str):
        raise InputError(f"{name} must hold a string, not {type(text).__name__}.", index=index)
    return key, text


def _scores(given: object, passages: int, index: int | None) -> tuple[float, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(
            f"retriever_scores must be numbers, one a passage, not {type(given).__name__}.", index=index
        )
    scores: list[float] = []
    for number, score in enumerate(given):
        # Retrievers give numbers of numpy's, too.
        value = score.item() if hasattr(score, "item") else score
        if not is_number(value) or math.isinf(value):
            raise InputError(
                f"retriever_scores[{number}] must be a finite number, not {shown(score)}.", index=index
            )
        scores.append(float(value))
    if len(scores) != passages:
        raise InputError(
            f"{len(scores)} retriever_scores but {passages} passages; pass as many of each.", index=index
        )
    return tuple(scores)
