"""A confidence that is the probability of being right: fitting it, and measuring how far it can be trusted.

It is fitted on one half of the questions and measured on the other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastspan.benchmarks.accuracy.thresholds import parallel_arrays
from fastspan.errors import DataError, InputError

__all__ = [
    "ConfidenceCurve",
    "ConfidenceFit",
    "ReliabilityBin",
    "expected_calibration_error",
    "fit_confidence",
    "fit_logistic",
    "reliability_bins",
    "split_halves",
]

# A standard normal prior on the slope per standard deviation of x: it matters only where the data does not
# determine a slope, as where the two kinds of question are perfectly apart, or all margins are equal.
_RIDGE = 1.0

# Farther out, in logits, a curve is flat; and an infinite margin times a slope of zero would be NaN.
_FARTHEST = 1e6


@dataclass(frozen=True, slots=True)
class ConfidenceCurve:
    """A logistic curve from x = ``best_span_score - null_score`` to a probability.

    Attributes:
        scale: Its slope, in log-odds per unit of x.
        offset: Its value at x = 0, in log-odds.
    """

    scale: float
    offset: float

    def __call__(self, margins: ArrayLike) -> NDArray[np.float64]:
        """Return ``1 / (1 + exp(-(scale * x + offset)))`` with x = -margin, of the shape of ``margins``."""
        x = np.clip(-np.asarray(margins, dtype=np.float64), -_FARTHEST, _FARTHEST)
        return _logistic(self.scale * x + self.offset)


@dataclass(frozen=True, slots=True)
class ConfidenceFit:
    """The two curves of a calibrated confidence.

    Neither depends on the no-answer threshold, so both stay valid when a caller moves it.

    Attributes:
        answered: The probability that the best span is right.
        abstained: The probability that the passage holds no answer.
    """

    answered: ConfidenceCurve
    abstained: ConfidenceCurve

    def confidence(self, margins: ArrayLike, abstained: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that what was decided is right.

        Args:
            margins: ``null_score - best_span_score``. *Shape:* ``(questions,)``.
            abstained: Whether the question was left unanswered. *Shape:* ``(questions,)``.
        """
        chosen = np.asarray(abstained, dtype=np.bool_)
        return np.where(chosen, self.abstained(margins), self.answered(margins))

    def to_dict(self) -> dict[str, float]:
        """Return the four numbers under the names they have in a bundle's manifest."""
        return {
            "answered_scale": self.answered.scale,
            "answered_offset": self.answered.offset,
            "abstained_scale": self.abstained.scale,
            "abstained_offset": self.abstained.offset,
        }


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The predictions whose confidence lies between ``low`` and ``high``.

    Attributes:
        low: Lower bound, in [0, 1].
        high: Upper bound, in [0, 1].
        count: How many predictions it holds, at least one.
        confidence: Their mean confidence.
        accuracy: The share of them that is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def split_halves(passages: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split questions in two halves, so that none is reported on what it was fitted on.

    Passages are put in the order of their SHA-256 and cut where the questions before come closest to half of
    all. So all questions on a passage go together, the halves are as equal as that allows, and they depend
    neither on the order of the file nor on chance; they do depend on which passages it holds.

    Args:
        passages: For each question its passage; or its article's title, for a split by article.

    Returns:
        Masks of the fitting half and of the held-out half. *Shape:* ``(questions,)`` each.

    Raises:
        DataError: There are fewer than two passages.
    """
    counts = Counter(passages)
    if len(counts) < 2:
        raise DataError(
            f"{len(passages)} questions on {len(counts)} passages cannot be split into halves by passage; "
            "take questions on more passages."
        )
    ordered = sorted(counts, key=_digest)
    before = np.cumsum([counts[passage] for passage in ordered])[:-1]
    cut = int(np.argmin(np.abs(2 * before - len(passages)))) + 1
    chosen = frozenset(ordered[:cut])
    fitting = np.array([passage in chosen for passage in passages], dtype=np.bool_)
    return fitting, ~fitting


def fit_confidence(margins: ArrayLike, exact: ArrayLike, unanswerable: ArrayLike) -> ConfidenceFit:
    """Fit the probability that an answer is right, and the probability that there is none.

    Two logistic regressions on x = ``best_span_score - null_score`` (Platt, "Probabilistic Outputs for
    Support Vector Machines", 1999), each over all questions. One curve and its complement would not do: the
    two probabilities do not add up to 1, because an answerable question whose best span is wrong counts for
    neither.

    Args:
        margins: ``null_score - best_span_score``. Infinite ones are left out. *Shape:* ``(questions,)``.
        exact: Whether the best span matches exactly, 0 or 1. *Shape:* ``(questions,)``.
        unanswerable: Whether the passage holds no answer, 0 or 1. *Shape:* ``(questions,)``.

    Raises:
        DataError: The arguments are malformed; or all spans are right or all wrong, or all questions
            answerable or none, so that there is nothing to learn from.
    """
    margin, right, empty = parallel_arrays(margins, exact, unanswerable)
    finite = np.isfinite(margin)
    x = -margin[finite]
    return ConfidenceFit(
        answered=_fit_curve(x, right[finite], "questions whose best span is right"),
        abstained=_fit_curve(x, empty[finite], "unanswerable questions"),
    )


def reliability_bins(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Group predictions by their confidence.

    Args:
        confidence: The probability of being right, in [0, 1]. *Shape:* ``(predictions,)``.
        correct: Whether the prediction is right, 0 or 1. *Shape:* ``(predictions,)``.
        bins: How many groups, of equal width.

    Returns:
        The groups that hold a prediction, by rising confidence.

    Raises:
        DataError: There are no predictions, the shapes differ, or a value is out of range.
        InputError: ``bins`` is not positive.
    """
    confidences, hits = parallel_arrays(confidence, correct)
    if confidences.min() < 0.0 or confidences.max() > 1.0 or not np.isin(hits, (0.0, 1.0)).all():
        raise DataError("A confidence must be between 0 and 1, and what is correct must be 0 or 1.")
    if bins < 1:
        raise InputError(f"bins must be at least 1, not {bins!r}.")
    edges = np.linspace(0.0, 1.0, bins + 1)
    member = np.minimum(np.searchsorted(edges, confidences, side="right") - 1, bins - 1)
    groups = []
    for n in np.unique(member):
        inside = confidences[member == n]
        groups.append(
            ReliabilityBin(
                low=float(edges[n]),
                high=float(edges[n + 1]),
                count=inside.size,
                confidence=float(inside.mean()),
                accuracy=float(hits[member == n].mean()),
            )
        )
    return tuple(groups)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> float:
    """Return the mean distance, over predictions, between a bin's confidence and its accuracy; in [0, 1].

    Guo et al., "On Calibration of Modern Neural Networks" (2017), equation 3. A perfect confidence does not
    reach 0 on a finite sample: with 15 bins and 1,000 predictions, chance alone gives about 0.03.

    Args:
        confidence: See :func:`reliability_bins`.
        correct: See :func:`reliability_bins`.
        bins: See :func:`reliability_bins`.

    Raises:
        DataError: As for :func:`reliability_bins`.
        InputError: As for :func:`reliability_bins`.
    """
    groups = reliability_bins(confidence, correct, bins=bins)
    total = sum(group.count for group in groups)
    return sum(group.count / total * abs(group.confidence - group.accuracy) for group in groups)


def _digest(passage: str) -> bytes:
    return hashlib.sha256(passage.encode("utf-8", "surrogatepass")).digest()


def fit_logistic(
    features: NDArray[np.float64], labels: NDArray[np.float64], what: str
) -> tuple[NDArray[np.float64], float]:
    """Fit a logistic regression with Platt's targets and a weak normal prior on the standardized slopes.

    Args:
        features: One row a question. *Shape:* ``(questions, features)``, finite.
        labels: 0 or 1. *Shape:* ``(questions,)``.
        what: What the label 1 means, for messages.

    Returns:
        The slopes, *shape* ``(features,)``, and the intercept, in log-odds.

    Raises:
        DataError: A label is neither 0 nor 1, or all are equal.
    """
    if not np.isin(labels, (0.0, 1.0)).all():
        raise DataError(f"The labels of {what} must be 0 or 1.")
    positive = float(labels.sum())
    negative = labels.size - positive
    if not positive or not negative:
        raise DataError(
            f"{positive:.0f} of {labels.size} are {what}, which leaves nothing to learn from; "
            "calibrate on questions of both kinds."
        )
    # Platt's targets: the certainty of 0 and 1 would claim more than a finite sample can say.
    targets = np.where(labels > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    center = features.mean(axis=0)
    spread = np.where(np.ptp(features, axis=0) > 0, features.std(axis=0), 1.0)
    weights = _newton((features - center) / spread, targets)
    slopes = weights[:-1] / spread
    return slopes, float(weights[-1] - slopes @ center)


def _fit_curve(x: NDArray[np.float64], labels: NDArray[np.float64], what: str) -> ConfidenceCurve:
    slopes, offset = fit_logistic(x[:, None], labels, what)
    return ConfidenceCurve(scale=float(slopes[0]), offset=offset)


def _newton(z: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    # The penalized log-loss is strictly convex, so Newton's method with step halving converges from
    # anywhere (Lin, Lin and Weng, "A note on Platt's probabilistic outputs", 2007), in about six steps.
    design = np.column_stack((z, np.ones(len(z))))
    penalty = np.array([*[_RIDGE] * z.shape[1], 0.0])

    def loss(weights: NDArray[np.float64]) -> float:
        """The penalized log-loss: -Σ t·log p + (1 - t)·log(1 - p), written so that no logit overflows."""
        logits = design @ weights
        return float((np.logaddexp(0.0, logits) - targets * logits).sum() + (penalty * weights**2).sum() / 2)

    weights = np.zeros(design.shape[1])
    for _ in range(100):
        probability = _logistic(design @ weights)
        gradient = design.T @ (probability - targets) + penalty * weights
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        if float(gradient @ step) < 1e-18 * len(z):
            break
        while loss(weights - step) > loss(weights):
            step = step / 2
        weights = weights - step
    return weights


def _logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # One form for each sign: exp never overflows.
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)
