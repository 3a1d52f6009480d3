"""Questions over several passages: each question's own passage among those that are most like the question.

A retriever's list, made without one: of the other passages of the same file, BM25 finds those that share most
words with the question. A passage that the file calls unanswering may still be answered by another one; on
SQuAD that is rare, and it counts as the file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastspan.benchmarks.questions.bm25 import Bm25
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.errors import DataError

__all__ = ["AskedSet", "passage_sets"]


@dataclass(frozen=True, slots=True)
class AskedSet:
    """A question and the passages to read for it.

    Attributes:
        question: The question; its ``context`` is one of the passages.
        passages: The passages, best first by BM25.
        retriever_scores: Their BM25 scores.
        own: Which passage is the question's own.
    """

    question: Question
    passages: tuple[str, ...]
    retriever_scores: tuple[float, ...]
    own: int


def passage_sets(questions: Sequence[Question], size: int = 10) -> list[AskedSet]:
    """Hide each question's passage among others.

    Args:
        questions: Questions on two passages at least.
        size: How many passages a set holds, at least 2; all of the file's, where these are fewer.

    Raises:
        DataError: There is but one passage, or ``size`` is too small.
    """
    passages = list(dict.fromkeys(question.context for question in questions))
    if len(passages) < 2 or size < 2:
        raise DataError(
            f"A set needs two passages at least: {len(passages)} are there, and {size} are asked for."
        )
    index = Bm25(passages)
    number = {passage: n for n, passage in enumerate(passages)}
    sets = []
    for question in questions:
        scores = index.scores(question.question)
        own = number[question.context]
        near = [n for n in index.best(question.question, size) if n != own][: size - 1]
        # Where the own one ranks among them is what a retriever would have said of it.
        chosen = sorted((own, *near), key=lambda n: (-scores[n], n))
        sets.append(
            AskedSet(
                question,
                tuple(passages[n] for n in chosen),
                tuple(float(scores[n]) for n in chosen),
                chosen.index(own),
            )
        )
    return sets
