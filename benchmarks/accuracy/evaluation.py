"""Put a set of questions to an answerer, and score what it answers as SQuAD 2.0 does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.answerer import QuestionAnswerer
from fastspan.benchmarks.accuracy.selective import Selective, selective
from fastspan.benchmarks.accuracy.squad_metric import BestThresholds, best_thresholds, per_question, score
from fastspan.benchmarks.intervals import Interval, mean_interval
from fastspan.benchmarks.questions.squad_files import Question
from fastspan.errors import DataError, InputError
from fastspan.results import Prediction

__all__ = ["Evaluation", "GroupScores", "Outcomes", "ask", "evaluate", "finite_or_text", "judge_confidence"]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What was answered to a set of questions.

    Attributes:
        questions: The questions.
        predictions: One prediction a question, in their order.
        seconds: How long answering them took, in wall-clock seconds.
    """

    questions: tuple[Question, ...]
    predictions: tuple[Prediction, ...]
    seconds: float

    def subset(self, chosen: NDArray[np.bool_]) -> Outcomes:
        """Return the outcomes of the chosen questions; the time goes with their share.

        Args:
            chosen: Which questions. *Shape:* ``(questions,)``.
        """
        index = np.flatnonzero(chosen).tolist()
        return Outcomes(
            tuple(self.questions[i] for i in index),
            tuple(self.predictions[i] for i in index),
            self.seconds * len(index) / len(self.questions),
        )

    @cached_property
    def margins(self) -> NDArray[np.float64]:
        """``null_score - best_span_score``; ``inf`` without a span. *Shape:* ``(questions,)``."""
        return np.array([prediction.margin for prediction in self.predictions], dtype=np.float64)

    @cached_property
    def null_scores(self) -> NDArray[np.float64]:
        """The scores of "no answer". *Shape:* ``(questions,)``."""
        return np.array([prediction.null_score for prediction in self.predictions], dtype=np.float64)

    @cached_property
    def unanswerable(self) -> NDArray[np.bool_]:
        """Whether the passage holds no answer. *Shape:* ``(questions,)``."""
        return np.array([question.is_impossible for question in self.questions], dtype=np.bool_)

    @cached_property
    def spans(self) -> dict[str, str]:
        """Question id → text of the best span, as if it had to be answered; ``""`` where there is none."""
        return {
            question.id: prediction.answers[0].text if prediction.answers else ""
            for question, prediction in zip(self.questions, self.predictions, strict=True)
        }

    @cached_property
    def span_scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Exact match and F1 of the best spans, in [0, 1]. *Shape:* ``(questions,)`` each."""
        return per_question(self.questions, self.spans)

    def texts(self, threshold: float) -> dict[str, str]:
        """Question id → answer, ``""`` for none.

        Args:
            threshold: No answer where the margin exceeds it.
        """
        return {
            key: "" if margin > threshold else text
            for (key, text), margin in zip(self.spans.items(), self.margins.tolist(), strict=True)
        }


@dataclass(frozen=True, slots=True)
class GroupScores:
    """The scores of a group of questions, in percent, with 95% bootstrap intervals.

    Attributes:
        total: How many questions.
        exact: Exact match.
        f1: Token F1.
    """

    total: int
    exact: Interval
    f1: Interval


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of a set of questions at one threshold.

    Attributes:
        threshold: No answer where ``null_score - best_span_score`` exceeds it.
        official: What the official evaluator reports, under its keys, in percent.
        overall: All questions.
        answerable: Those with an answer; None where there are none.
        unanswerable: Those without; None where there are none.
        best: The best thresholds on these questions, as SQuAD 2.0's official script searches them.
        seconds: How long answering took.
    """

    threshold: float
    official: dict[str, float | int]
    overall: GroupScores
    answerable: GroupScores | None
    unanswerable: GroupScores | None
    best: BestThresholds
    seconds: float

    @property
    def questions_per_second(self) -> float:
        """Questions answered in a second, from text to answer."""
        return self.overall.total / self.seconds if self.seconds > 0 else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as built-in types: the official keys, the best thresholds, the intervals."""
        groups = {"": self.overall, "HasAns_": self.answerable, "NoAns_": self.unanswerable}
        return {
            "no_answer_threshold": finite_or_text(self.threshold),
            **self.official,
            "best_exact": self.best.exact,
            "best_exact_thresh": self.best.exact_threshold,
            "best_f1": self.best.f1,
            "best_f1_thresh": self.best.f1_threshold,
            "intervals_95": {
                f"{prefix}{name}": [interval.low, interval.high]
                for prefix, group in groups.items()
                if group is not None
                for name, interval in (("exact", group.exact), ("f1", group.f1))
            },
            "seconds": self.seconds,
            "questions_per_second": finite_or_text(self.questions_per_second),
        }


def ask(
    answerer: QuestionAnswerer,
    questions: Sequence[Question],
    *,
    threshold: float | None = None,
    max_answer_length: int | None = None,
    step: Callable[[], None],
) -> Outcomes:
    """Answer every question. One too long for its window is cut, as the reference of SQuAD 2.0 cuts it.

    Args:
        answerer: The loaded bundle.
        questions: What to ask.
        threshold: No-answer threshold; None: the bundle's.
        max_answer_length: Longest answer, in tokens; None: 30, as in SQuAD 2.0's reference.
        step: Called after each question.

    Raises:
        DataError: A question cannot be asked; the message names it.
        InferenceError: ONNX Runtime failed.
    """
    pairs = ((question.question, question.context) for question in questions)
    predictions: list[Prediction] = []
    began = time.perf_counter()
    try:
        for prediction in answerer.answer_many(
            pairs,
            truncate_question=True,
            no_answer_threshold=threshold,
            max_answer_length=max_answer_length,
        ):
            predictions.append(prediction)
            step()
    except InputError as error:
        # Everything before the fault has been answered, so the count says which question it is.
        raise DataError(f"question {questions[len(predictions)].id!r} cannot be asked: {error}") from error
    return Outcomes(tuple(questions), tuple(predictions), time.perf_counter() - began)


def evaluate(outcomes: Outcomes, threshold: float) -> Evaluation:
    """Score what was answered.

    Args:
        outcomes: What was answered.
        threshold: No answer where the margin exceeds it.
    """
    predictions = outcomes.texts(threshold)
    exact, f1 = per_question(outcomes.questions, predictions)
    unanswerable = outcomes.unanswerable
    margins = dict(zip(outcomes.spans, outcomes.margins.tolist(), strict=True))
    return Evaluation(
        threshold=threshold,
        official=score(outcomes.questions, predictions),
        overall=_scores(exact, f1),
        answerable=_scores(exact[~unanswerable], f1[~unanswerable]) if not unanswerable.all() else None,
        unanswerable=_scores(exact[unanswerable], f1[unanswerable]) if unanswerable.any() else None,
        best=best_thresholds(outcomes.questions, outcomes.spans, margins),
        seconds=outcomes.seconds,
    )


def judge_confidence(outcomes: Outcomes, threshold: float) -> tuple[Selective, Selective]:
    """Measure how well sure answers are told from unsure ones.

    Args:
        outcomes: What was answered.
        threshold: No answer where the margin exceeds it.

    Returns:
        How well the confidence tells right decisions from wrong ones, or, without a calibration, the distance
        from the threshold does; and how well the margin tells best spans that are right from others.
    """
    spans = selective(-outcomes.margins, outcomes.span_scores[0], probabilities=False)
    return _decisions(outcomes, threshold), spans


def _decisions(outcomes: Outcomes, threshold: float) -> Selective:
    abstained = outcomes.margins > threshold
    right = np.where(abstained, outcomes.unanswerable, outcomes.span_scores[0])
    given = [prediction.confidence for prediction in outcomes.predictions]
    # A confidence is that of the prediction's own decision; at another threshold there is none.
    decided = [prediction.answer is None for prediction in outcomes.predictions]
    if any(each is None for each in given) or decided != abstained.tolist():
        with np.errstate(invalid="ignore"):
            distance = np.nan_to_num(np.abs(outcomes.margins - threshold), nan=0.0)
        return selective(distance, right, probabilities=False)
    return selective(np.array(given, dtype=np.float64), right)


def finite_or_text(value: float) -> float | str:
    """Return the number, or its text where it is infinite: JSON has no infinity."""
    return value if math.isfinite(value) else str(value)


def _scores(exact: NDArray[np.float64], f1: NDArray[np.float64]) -> GroupScores:
    return GroupScores(exact.size, mean_interval(100.0 * exact), mean_interval(100.0 * f1))
