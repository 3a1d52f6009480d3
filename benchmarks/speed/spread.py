"""Medians of interleaved samples, and ratios of two systems round by round, with bootstrap intervals.

Samples of one turn share whatever the machine did meanwhile, so whole rounds are drawn, not single samples
(a cluster bootstrap; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13). A
ratio is taken within each round, so that what slowed both systems cancels out; the median of these counts.

A few rounds cannot make an interval of 95%, whatever is done with them: a median lies outside the range of
n independent measurements of it with a probability of 2 / 2ⁿ, which is below 5% from six on. With fewer, what
is given is that range, and called one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastspan.errors import DataError

__all__ = ["ENOUGH_ROUNDS", "Latency", "Spread", "median_spread", "ratio_spread", "summarize"]

Rounds = Mapping[int, Sequence[float]]
"""Round → the seconds of its recorded runs."""

ENOUGH_ROUNDS = 6
"""From so many rounds on there is an interval of 95%."""

_LEVEL = 0.95
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median in seconds, or the ratio of two, and how far it strayed.

    Attributes:
        estimate: The median over the samples of all rounds; of a ratio, over the rounds.
        low: Lower end of the 95% bootstrap interval; with fewer than ``ENOUGH_ROUNDS`` rounds, the least that
            a single round gives.
        high: Upper end; with fewer rounds, the greatest.
        rounds: How many rounds it rests on.
    """

    estimate: float
    low: float
    high: float
    rounds: int

    @property
    def is_interval(self) -> bool:
        """Whether ``low`` and ``high`` are a 95% interval, and not a mere range."""
        return self.rounds >= ENOUGH_ROUNDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long runs took, in seconds.

    Attributes:
        samples: How many.
        median: The median.
        p95: What 95% of the runs stay below; None with fewer than 20 samples, which cannot show it.
        p99: The same for 99%; None with fewer than 100 samples.
    """

    samples: int
    median: Spread
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
    return Latency(samples=seconds.size, median=median_spread(rounds), p95=p95, p99=p99)


def median_spread(rounds: Rounds, *, seed: int = 0) -> Spread:
    """Estimate the median.

    Args:
        rounds: The samples, at least one.
        seed: Seed of the random draws.
    """
    numbers = sorted(rounds)
    drawn = _draws(len(numbers), seed)
    return _spread(_median(rounds, numbers), _medians(rounds, numbers, drawn), len(numbers))


def ratio_spread(slower: Rounds, faster: Rounds, *, seed: int = 0) -> Spread:
    """Estimate ``slower`` ÷ ``faster``, of each round's medians: how many times as fast the latter is.

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
    ratios = np.array([np.median(slower[number]) / np.median(faster[number]) for number in numbers])
    resampled = np.median(ratios[_draws(len(numbers), seed)], axis=1)
    return _spread(float(np.median(ratios)), resampled, len(numbers))


def _median(rounds: Rounds, numbers: Sequence[int]) -> float:
    return float(np.median(np.concatenate([np.asarray(rounds[number]) for number in numbers])))


def _draws(count: int, seed: int) -> NDArray[np.intp]:
    """Places of the rounds that each resample takes; of too few rounds, each round once by itself."""
    if count < ENOUGH_ROUNDS:
        return np.arange(count)[:, None]
    return np.random.default_rng(seed).integers(count, size=(_RESAMPLES, count))


def _medians(rounds: Rounds, numbers: Sequence[int], drawn: NDArray[np.intp]) -> NDArray[np.float64]:
    """The median of every resample. *Shape:* ``(resamples,)``."""
    samples = [np.asarray(rounds[number], np.float64) for number in numbers]
    if len({len(taken) for taken in samples}) == 1:
        # The same, for all resamples at once.
        return np.median(np.stack(samples)[drawn].reshape(len(drawn), -1), axis=1)
    return np.array([np.median(np.concatenate([samples[i] for i in row])) for row in drawn.tolist()])


def _spread(estimate: float, resampled: NDArray[np.float64], rounds: int) -> Spread:
    shares = [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2] if rounds >= ENOUGH_ROUNDS else [0.0, 1.0]
    low, high = np.quantile(resampled, shares)
    return Spread(estimate=estimate, low=float(low), high=float(high), rounds=rounds)
