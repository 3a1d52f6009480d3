"""Medians of interleaved samples, and ratios of two systems' medians, with bootstrap intervals.

Samples of one turn share whatever the machine did meanwhile, so whole rounds are drawn, not single samples
(a cluster bootstrap; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13). For
a ratio, both systems' turns of a drawn round are taken, so that what slowed both cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.bootstrap import Interval
from fastspan.errors import DataError

__all__ = ["Latency", "median_interval", "ratio_interval", "summarize"]

Rounds = Mapping[int, Sequence[float]]
"""Round → the seconds of its recorded runs."""

_LEVEL = 0.95
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long runs took, in seconds.

    Attributes:
        samples: How many.
        median: The median, with its 95% interval.
        p95: What 95% of the runs stay below; None with fewer than 20 samples, which cannot show it.
        p99: The same for 99%; None with fewer than 100 samples.
    """

    samples: int
    median: Interval
    p95: float | None
    p99: float | None


def summarize(rounds: Rounds) -> Latency:
    """Summarize the samples of one system at one workload.

    Raises:
        DataError: There are none.
    """
    seconds = np.concatenate([np.asarray(taken, np.float64) for taken in rounds.values()] or [np.empty(0)])
    if not seconds.size:
        raise DataError("There are no samples to summarize.")
    p95, p99 = (
        float(np.quantile(seconds, share)) if seconds.size >= round(1 / (1 - share)) else None
        for share in (0.95, 0.99)
    )
    return Latency(samples=seconds.size, median=median_interval(rounds), p95=p95, p99=p99)


def median_interval(rounds: Rounds, *, seed: int = 0) -> Interval:
    """Estimate the median.

    Args:
        rounds: The samples, at least one.
        seed: Seed of the random draws.
    """
    numbers = sorted(rounds)
    return _interval(_median(rounds, numbers), _medians(rounds, numbers, _draws(len(numbers), seed)))


def ratio_interval(slower: Rounds, faster: Rounds, *, seed: int = 0) -> Interval:
    """Estimate median of ``slower`` ÷ median of ``faster``: how many times as fast the latter is.

    Args:
        slower: One system's samples.
        faster: The other's, some of the same rounds.
        seed: Seed of the random draws.

    Raises:
        DataError: They have no round in common.
    """
    numbers = sorted(slower.keys() & faster.keys())
    if not numbers:
        raise DataError("The two systems were never measured in the same round.")
    drawn = _draws(len(numbers), seed)
    ratios = _medians(slower, numbers, drawn) / _medians(faster, numbers, drawn)
    return _interval(_median(slower, numbers) / _median(faster, numbers), ratios)


def _median(rounds: Rounds, numbers: Sequence[int]) -> float:
    return float(np.median(np.concatenate([np.asarray(rounds[number]) for number in numbers])))


def _draws(count: int, seed: int) -> NDArray[np.intp]:
    return np.random.default_rng(seed).integers(count, size=(_RESAMPLES, count))


def _medians(rounds: Rounds, numbers: Sequence[int], drawn: NDArray[np.intp]) -> NDArray[np.float64]:
    """The median of every resample. *Shape:* ``(resamples,)``."""
    samples = [np.asarray(rounds[number], np.float64) for number in numbers]
    return np.array([np.median(np.concatenate([samples[i] for i in row])) for row in drawn.tolist()])


def _interval(estimate: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(estimate=estimate, low=float(low), high=float(high), level=_LEVEL)
