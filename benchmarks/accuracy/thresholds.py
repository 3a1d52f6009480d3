"""The no-answer threshold: every split of the questions that a threshold can make, tried at once.

The margin is ``null_score - best_span_score``; a question is left unanswered where its margin exceeds the
threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastspan.errors import DataError, InputError

__all__ = [
    "PrecisionCoverage",
    "ThresholdFit",
    "fit_no_answer_threshold",
    "parallel_arrays",
    "precision_coverage",
    "sweep_threshold",
]


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """A no-answer threshold and what it does to the questions it was fitted on.

    Attributes:
        threshold: No answer where ``null_score - best_span_score`` exceeds it; finite.
        exact: Exact match over all questions, in [0, 1].
        f1: Token F1 over all questions, in [0, 1].
        precision: The share of the given answers that match exactly; NaN where none is given.
        coverage: The share of all questions, answerable or not, that get an answer.
    """

    threshold: float
    exact: float
    f1: float
    precision: float
    coverage: float


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionCoverage:
    """What answering more questions costs in precision, strictest threshold first.

    Attributes:
        thresholds: The no-answer thresholds. *Shape:* ``(points,)``.
        answers: How many questions each of them answers, at least one. *Shape:* ``(points,)``.
        coverage: The share of all questions that get an answer. *Shape:* ``(points,)``.
        precision: The share of the given answers that are right. *Shape:* ``(points,)``.
    """

    thresholds: NDArray[np.float64]
    answers: NDArray[np.intp]
    coverage: NDArray[np.float64]
    precision: NDArray[np.float64]


def fit_no_answer_threshold(
    margins: ArrayLike,
    exact: ArrayLike,
    f1: ArrayLike,
    unanswerable: ArrayLike,
    *,
    target_precision: float | None = None,
    least_answers: int = 30,
) -> ThresholdFit:
    """Fit the threshold above which a question is left unanswered.

    Without a target, the threshold with the best mean F1. With one, the loosest threshold at which the share
    of the given answers that match exactly reaches it: exact match, because that is also what the confidence
    of an answer is the probability of. Either way the figures for these questions are optimistic; what the
    threshold does to others is measured on others.

    Args:
        margins: ``null_score - best_span_score``; ``inf`` where there is no span. *Shape:* ``(questions,)``.
        exact: Exact match of the best span, in [0, 1]. *Shape:* ``(questions,)``.
        f1: Token F1 of the best span, in [0, 1]. *Shape:* ``(questions,)``.
        unanswerable: Whether the passage holds no answer. *Shape:* ``(questions,)``.
        target_precision: The precision to reach, above 0 and at most 1.
        least_answers: A precision counts only when measured on this many given answers.

    Raises:
        DataError: The arguments are malformed, or no threshold reaches the target.
        InputError: ``target_precision`` or ``least_answers`` is out of range.
    """
    margin, matches, overlaps, empty = parallel_arrays(margins, exact, f1, unanswerable)
    if target_precision is None:
        _, threshold = sweep_threshold(margin, overlaps, empty)
    else:
        threshold = _loosest_threshold(precision_coverage(margin, matches), target_precision, least_answers)
    answered = margin <= threshold
    return ThresholdFit(
        threshold=threshold,
        exact=float(np.where(answered, matches, empty).mean()),
        f1=float(np.where(answered, overlaps, empty).mean()),
        precision=float(matches[answered].mean()) if answered.any() else float("nan"),
        coverage=float(answered.mean()),
    )


def precision_coverage(margins: ArrayLike, right: ArrayLike) -> PrecisionCoverage:
    """Return precision and coverage at every threshold that makes a difference.

    Args:
        margins: ``null_score - best_span_score``; ``inf`` where there is no span. *Shape:* ``(questions,)``.
        right: Whether the best span is right, or a score in [0, 1]. *Shape:* ``(questions,)``.

    Raises:
        DataError: There are no questions, the shapes differ, a value is NaN, or no question has a span.
    """
    margin, hit = parallel_arrays(margins, right)
    thresholds, counts, hits = _sweep(margin, hit)
    some = counts > 0
    if not some.any():
        raise DataError("None of the questions has a span (every margin is inf), so no precision is defined.")
    answers = counts[some]
    return PrecisionCoverage(thresholds[some], answers, answers / margin.size, hits[some] / answers)


def sweep_threshold(
    margins: ArrayLike, if_answered: ArrayLike, if_abstained: ArrayLike
) -> tuple[float, float]:
    """Find the threshold with the best mean score; of equally good ones, the lowest.

    Args:
        margins: ``null_score - best_span_score``; ``inf`` where there is no span. *Shape:* ``(questions,)``.
        if_answered: Each question's score when it is answered. *Shape:* ``(questions,)``.
        if_abstained: Each question's score when it is not. *Shape:* ``(questions,)``.

    Returns:
        The best mean score, in the scores' unit, and a finite threshold that reaches it.

    Raises:
        DataError: There are no questions, the shapes differ, or a value is NaN.
    """
    margin, answered, abstained = parallel_arrays(margins, if_answered, if_abstained)
    thresholds, _, gains = _sweep(margin, answered - abstained)
    best = int(np.argmax(gains))
    return float((abstained.sum() + gains[best]) / margin.size), float(thresholds[best])


def parallel_arrays(*columns: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Return columns that hold one value per question as float64. *Shape:* ``(questions,)`` each.

    Raises:
        DataError: There are no questions, the shapes differ, or a value is NaN.
    """
    arrays = tuple(np.asarray(column, dtype=np.float64) for column in columns)
    shapes = [array.shape for array in arrays]
    if arrays[0].ndim != 1 or not arrays[0].size or len(set(shapes)) > 1:
        raise DataError(
            "Lists of one length are needed, with one value per question and at least one question; "
            f"got the shapes {', '.join(map(str, shapes))}."
        )
    for array in arrays:
        if np.isnan(array).any():
            raise DataError(f"The value for question number {int(np.argmax(np.isnan(array)))} is NaN.")
    return arrays


def _loosest_threshold(curve: PrecisionCoverage, target: float, least_answers: int) -> float:
    if not 0.0 < target <= 1.0:
        raise InputError(f"target_precision must be above 0 and at most 1, not {target!r}.")
    if least_answers < 1:
        raise InputError(f"least_answers must be at least 1, not {least_answers!r}.")
    enough = curve.answers >= least_answers
    if not enough.any():
        raise DataError(
            f"A precision takes at least {least_answers} given answers to measure, and only "
            f"{curve.answers[-1]} questions have a span; take more questions."
        )
    thresholds, precisions = curve.thresholds[enough], curve.precision[enough]
    reached = np.flatnonzero(precisions >= target)
    if not reached.size:
        best = int(np.argmax(precisions))
        raise DataError(
            f"No threshold reaches a precision of {target:g}: the best on at least {least_answers} answers "
            f"is {precisions[best]:.4f}, at the threshold {thresholds[best]:.4f}; ask for less."
        )
    return float(thresholds[reached[-1]])


def _sweep(
    margins: NDArray[np.float64], gains: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Return thresholds for every split, ascending; how many each answers; the sum of their gains."""
    levels = np.unique(margins[np.isfinite(margins)])
    if not levels.size:
        levels = np.zeros(1)
    # Between two neighbouring margins every threshold decides alike. Half-way, it still decides alike for
    # the slightly different logits of another precision.
    between = levels[:-1] + (levels[1:] - levels[:-1]) / 2
    # Two neighbouring floats have nothing in between, and the middle may round up to the higher one.
    between = np.where(between < levels[1:], between, levels[:-1])
    below = min(levels[0] - 1.0, np.nextafter(levels[0], -np.inf))
    thresholds = np.concatenate(([below], between, [levels[-1] + 1.0]))
    order = np.argsort(margins, kind="stable")
    counts = np.searchsorted(margins[order], thresholds, side="right")
    return thresholds, counts, np.concatenate(([0.0], np.cumsum(gains[order])))[counts]
