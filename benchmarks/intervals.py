"""Intervals over questions: of a mean score and of the difference of two by the bootstrap, of a share.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. Questions are drawn one by one:
where those on the same passage succeed and fail together, the true interval is wider than the one given here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastspan.errors import DataError, InputError

__all__ = [
    "Interval",
    "mean_interval",
    "paired_difference_interval",
    "share_interval",
    "statistic_interval",
]

DRAWN_AT_ONCE = 1 << 20
"""Indices drawn at once: 8 MB of them, whatever the number of questions."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval around it.

    Attributes:
        estimate: The mean, or the mean difference, over all questions; in the unit of the scores.
        low: Lower end, in the same unit.
        high: Upper end, in the same unit.
        level: The share of resamples within the interval, 0.95 for a 95% interval.
    """

    estimate: float
    low: float
    high: float
    level: float


def mean_interval(
    values: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    at_once: int = DRAWN_AT_ONCE,
) -> Interval:
    """Estimate the mean of ``values`` over questions like these.

    Equal arguments give equal intervals.

    Args:
        values: One score per question, in any unit. *Shape:* ``(questions,)``.
        level: The share of resampled means that the interval holds, between 0 and 1.
        resamples: How often the questions are drawn anew, with replacement.
        seed: Seed of the random draws.
        at_once: About how many indices are drawn together.

    Raises:
        DataError: There are no values, they are not one-dimensional, or one is not finite.
        InputError: ``level`` or ``resamples`` is out of range.
    """
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise DataError(f"An interval needs a list of scores, at least one; got the shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise DataError(f"Score number {int(np.argmin(np.isfinite(scores)))} is not a finite number.")
    if not 0.0 < level < 1.0:
        raise InputError(f"level must be between 0 and 1, such as 0.95, not {level!r}.")
    if resamples < 1:
        raise InputError(f"resamples must be at least 1, not {resamples!r}.")
    means = _resampled_means(scores, resamples, seed, at_once)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=float(scores.mean()), low=float(low), high=float(high), level=level)


def paired_difference_interval(
    first: ArrayLike, second: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Estimate the mean of ``first - second`` where both scored the same questions.

    Each question is drawn with both its scores, so what makes it hard or easy for both cancels out: the
    interval is far narrower than the difference of two separate ones. The difference is significant at
    ``1 - level`` where the interval does not hold 0.

    Args:
        first: One score per question. *Shape:* ``(questions,)``.
        second: The other system's scores of the same questions, in the same order. *Shape:* ``(questions,)``.
        level: See :func:`mean_interval`.
        resamples: See :func:`mean_interval`.
        seed: See :func:`mean_interval`.

    Raises:
        DataError: The scores are not of one shape, or as for :func:`mean_interval`.
        InputError: As for :func:`mean_interval`.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise DataError(f"Paired scores must be of the same questions; got shapes {a.shape} and {b.shape}.")
    return mean_interval(a - b, level=level, resamples=resamples, seed=seed)


def statistic_interval(
    statistic: Callable[[NDArray[np.float64]], float],
    count: int,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Estimate any statistic of ``count`` questions over questions like these.

    Args:
        statistic: Takes how often each question was drawn, *shape* ``(count,)``, and returns the figure.
        count: How many questions there are, at least one.
        level: See :func:`mean_interval`.
        resamples: See :func:`mean_interval`.
        seed: See :func:`mean_interval`.
    """
    generator = np.random.default_rng(seed)
    found = [
        statistic(np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64))
        for _ in range(resamples)
    ]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=statistic(np.ones(count)), low=float(low), high=float(high), level=level)


def share_interval(
    share: NDArray[np.float64], counts: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95% score interval of shares (Wilson, 1927), which holds up near 0 and 1.

    Args:
        share: Shares in [0, 1]. *Shape:* any.
        counts: Out of how many each is. *Shape:* the same.
    """
    z2 = 1.959963984540054**2
    center = (share + z2 / (2 * counts)) / (1 + z2 / counts)
    half = np.sqrt(z2 * (share * (1 - share) / counts + z2 / (4 * counts**2))) / (1 + z2 / counts)
    # Rounding could put an end a hair outside.
    return np.clip(center - half, 0, 1), np.clip(center + half, 0, 1)


def _resampled_means(
    scores: NDArray[np.float64], resamples: int, seed: int, at_once: int
) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    rows = max(1, at_once // scores.size)
    means = np.empty(resamples)
    for begin in range(0, resamples, rows):
        end = min(begin + rows, resamples)
        drawn = generator.integers(scores.size, size=(end - begin, scores.size))
        means[begin:end] = scores[drawn].mean(axis=1)
    return means
