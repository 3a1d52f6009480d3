"""Put questions over several passages to an answerer, and keep what their confidence is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastspan.answerer import QuestionAnswerer
from fastspan.benchmarks.accuracy.evaluation import Outcomes
from fastspan.benchmarks.questions.passage_sets import AskedSet
from fastspan.decoding.set_confidence import SetFeatures
from fastspan.errors import DataError, InputError
from fastspan.results import Answer, Prediction, Reading

__all__ = ["SetOutcomes", "read_all"]


@dataclass(frozen=True, eq=False)
class SetOutcomes:
    """What was read for a number of questions.

    Attributes:
        sets: The questions with their passages.
        readings: One a set, in their order.
        seconds: How long reading took, in wall-clock seconds.
    """

    sets: tuple[AskedSet, ...]
    readings: tuple[Reading, ...]
    seconds: float

    def subset(self, chosen: NDArray[np.bool_]) -> SetOutcomes:
        """Return the outcomes of the chosen sets; the time goes with their share.

        Args:
            chosen: Which sets. *Shape:* ``(sets,)``.
        """
        index = np.flatnonzero(chosen).tolist()
        return SetOutcomes(
            tuple(self.sets[i] for i in index),
            tuple(self.readings[i] for i in index),
            self.seconds * len(index) / len(self.sets),
        )

    @cached_property
    def outcomes(self) -> Outcomes:
        """The same as the outcomes of questions: the best span over all passages stands for the answer."""
        return Outcomes(
            tuple(each.question for each in self.sets),
            tuple(map(_as_prediction, self.readings)),
            self.seconds,
        )

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """What was seen, in the order of a curve's weights. *Shape:* ``(sets, 4)``.

        The first of a set without any span is not finite.
        """
        return np.array(
            [
                SetFeatures.of(reading, each.retriever_scores).row()
                for each, reading in zip(self.sets, self.readings, strict=True)
            ],
            dtype=np.float64,
        )

    @cached_property
    def right_passage(self) -> NDArray[np.bool_]:
        """Whether the best span lies in the question's own passage. *Shape:* ``(sets,)``."""
        return np.array(
            [
                bool(reading.answers) and reading.answers[0].passage == each.own
                for each, reading in zip(self.sets, self.readings, strict=True)
            ],
            dtype=np.bool_,
        )


def read_all(answerer: QuestionAnswerer, sets: Sequence[AskedSet], step: Callable[[], None]) -> SetOutcomes:
    """Read every set. A question too long for its window is cut, as the reference of SQuAD 2.0 cuts it.

    Args:
        answerer: The loaded bundle.
        sets: What to read.
        step: Called after each.

    Raises:
        DataError: A question cannot be asked; the message names it.
        InferenceError: ONNX Runtime failed.
    """
    given = ((each.question.question, each.passages, each.retriever_scores) for each in sets)
    readings: list[Reading] = []
    began = time.perf_counter()
    try:
        for reading in answerer.read_many(given, top_k=1, truncate_question=True):
            readings.append(reading)
            step()
    except InputError as error:
        name = sets[len(readings)].question.id
        raise DataError(f"question {name!r} cannot be asked: {error}") from error
    return SetOutcomes(tuple(sets), tuple(readings), time.perf_counter() - began)


def _as_prediction(reading: Reading) -> Prediction:
    if not reading.answers:
        # A margin of infinity, however a score of nothing is written.
        return Prediction(None, (), reading.confidence, 0.0, -np.inf)
    best = reading.answers[0]
    span = Answer(best.text, best.start, best.end, best.score)
    given = span if reading.answer is not None else None
    return Prediction(given, (span,), reading.confidence, best.null_score, best.score)
