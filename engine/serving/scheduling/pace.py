"""How long runs take: learned from those that ran, by their size, on the machine that runs them."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np

__all__ = ["Density", "Foresight", "Pace"]

# What is left of a run's weight once one more has been measured. How fast runs are changes with what else the
# machine does, and the last fifty or so count. What a run costs beside its tokens hardly changes, is a small
# part of its time, and needs many runs to be seen.
_KEPT = 1 - 1 / 64
_KEPT_LONG = 1 - 1 / 512

# For so many runs the one counts that was measured before the first request.
_FIRST_COUNTS = 16.0

# So many runs, and sizes that differ by so much of their mean, tell what a run costs beside its tokens.
_LEAST_RUNS = 8.0
_LEAST_SPREAD = 0.1

# Each request's share in what is known of the latest, and how many deviations away is sure.
_SHARE = 1 / 16
_DEVIATIONS = 2
_LARGEST_FACTOR = 3.0

# A run is large enough once no more than this share of its time goes to what it costs beside its tokens.
_FIXED_SHARE = 1 / 32

# So many runs at first are each followed by a fit, and later one in so many.
_FITTED_EACH = 64
_FITTED_EVERY = 16

# Lengths are counted in so many tokens, so that the sums below are of one size.
_UNIT = 128


class Pace:
    """What a run costs and what its tokens do, by least squares over many runs, at the speed of the latest.

    Args:
        side_by_side: How many runs there are at once.
    """

    def __init__(self, side_by_side: int) -> None:
        self._side_by_side = side_by_side
        self._lock = threading.Lock()
        # Weighted sums over the latest runs: of 1, tokens and seconds.
        self._latest = (0.0, 0.0, 0.0)
        # Over many runs, of the products of 1, tokens and squared lengths, and of these with the time. The
        # unit of time is what a token took just then: a slow while does not bend the line.
        self._products = [[0.0] * 3 for _ in range(3)]
        self._times = [0.0] * 3
        # The time of a run beside its tokens, and of a token, in that unit; None: too little is known.
        self._line: tuple[float, float] | None = None
        self._enough = math.inf
        self._measured = 0

    def begin_with(self, tokens: int, seconds: float) -> None:
        """Know of a run before the first request. It counts as several do: the first find cold caches."""
        with self._lock:
            self._latest = (_FIRST_COUNTS, _FIRST_COUNTS * tokens, _FIRST_COUNTS * seconds)

    def measured(self, lengths: Sequence[int], seconds: float) -> None:
        """Take a run into account: the tokens of each of its windows, and how long it took."""
        taken, tokens = max(seconds, 1e-6), sum(lengths)
        with self._lock:
            runs, size, time = self._latest
            runs, size, time = _KEPT * runs + 1, _KEPT * size + tokens, _KEPT * time + taken
            self._latest = (runs, size, time)
            # Attention takes time by the square of a window's length, however many share the run.
            squares = sum(length * length for length in lengths)
            run = (1.0, tokens / _UNIT, squares / _UNIT**2)
            spent = taken * size / time / _UNIT
            # A thread takes no other run before, and numpy's calls take longer than these few products.
            self._products = [
                [_KEPT_LONG * product + one * other for product, other in zip(products, run, strict=True)]
                for products, one in zip(self._products, run, strict=True)
            ]
            self._times = [
                _KEPT_LONG * product + one * spent for product, one in zip(self._times, run, strict=True)
            ]
            self._measured += 1
            # What hardly changes need not be fitted anew each time.
            if self._measured < _FITTED_EACH or self._measured % _FITTED_EVERY == 0:
                self._learn()

    @property
    def tokens_per_second(self) -> float | None:
        """Of all runs together; None: nothing has run yet."""
        _, tokens, seconds = self._latest
        return self._side_by_side * tokens / seconds if seconds else None

    def seconds(self, tokens: int) -> float:
        """Estimate how long tokens take that all threads share; 0 where nothing is known yet."""
        pace = self.tokens_per_second
        return tokens / pace if pace else 0.0

    def run_seconds(self, tokens: int) -> float:
        """Estimate how long one run takes; 0 where nothing is known yet."""
        fixed, each = self._costs()
        return fixed + each * tokens

    def tokens_within(self, seconds: float) -> float:
        """Estimate how many tokens one run gets through in some time."""
        fixed, each = self._costs()
        return (seconds - fixed) / each if each else math.inf

    def enough_tokens(self) -> float:
        """Estimate from how many tokens on a run gains nothing by more of them; infinite: it is not known.

        Who waits for a run waits for all of it. So where company brings nothing, a window had best run alone.
        """
        return self._enough

    def _costs(self) -> tuple[float, float]:
        """Seconds of a run beside its tokens, and of each token."""
        runs, tokens, seconds = self._latest
        fixed, each = self._line or (0.0, 1.0)
        height = seconds / (fixed * runs + each * tokens) if runs else 0.0
        return height * fixed, height * each

    def _learn(self) -> None:
        """Fit what is known; the lock is held."""
        (runs, tokens, _), (_, squares, _), _ = self._products
        mean, time = tokens / runs, self._times[0] / runs
        variance = squares / runs - mean * mean
        if runs < _LEAST_RUNS or variance < (_LEAST_SPREAD * mean) ** 2:
            self._line, self._enough = None, math.inf
            return
        slope = (self._times[1] / runs - mean * time) / variance
        # Neither a run nor a token takes less than no time.
        each = min(max(slope, 0.0), time / mean)
        self._line = max(0.0, time - each * mean) * _UNIT, each
        # The line's height at no tokens is no run's cost where long windows take more than their share.
        fixed = float(np.linalg.lstsq(self._products, self._times, rcond=1e-9)[0][0])
        of_tokens = time - fixed
        enough = fixed / of_tokens * mean * (1 / _FIXED_SHARE - 1) if of_tokens > 0 else math.inf
        self._enough = max(0.0, float(enough) * _UNIT)


class _Mean:
    """A mean and a mean deviation that move with each value, as TCP estimates a round trip (RFC 6298)."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.deviation = 0.0

    def take(self, value: float) -> None:
        """Take a value into account."""
        self.deviation += _SHARE * (abs(value - self.value) - self.deviation)
        self.value += _SHARE * (value - self.value)


class Foresight:
    """How much longer requests took than was estimated when they were let in.

    A machine whose runs take now this long and now that promises less. That a run more or less comes first is
    no error of an estimate; so one run is added to both times before they are compared.
    """

    def __init__(self) -> None:
        self._ratio = _Mean(1.0)

    def safe(self, estimated: float, run: float) -> float:
        """Return how long something hardly takes longer than.

        Args:
            estimated: How long it takes by estimate, in seconds.
            run: How long a run takes.
        """
        factor = max(1.0, self._ratio.value + _DEVIATIONS * self._ratio.deviation)
        return min(factor, _LARGEST_FACTOR) * (estimated + run) - run

    def took(self, estimated: float, seconds: float, run: float) -> None:
        """Take down how long something took that was estimated, and how long a run takes."""
        if estimated:
            self._ratio.take(min((seconds + run) / (estimated + run), _LARGEST_FACTOR))


class Density:
    """How many tokens requests make of a byte of their bodies."""

    def __init__(self) -> None:
        self._found: _Mean | None = None

    def tokens(self, size: int) -> tuple[int, int]:
        """Estimate how many a body of so many bytes makes: on average, and at least; 0: nobody knows yet."""
        if self._found is None:
            return 0, 0
        least = max(0.0, self._found.value - _DEVIATIONS * self._found.deviation)
        return round(self._found.value * size), round(least * size)

    def found(self, tokens: int, size: int) -> None:
        """Take down how many a body made."""
        density = tokens / max(1, size)
        if self._found is None:
            self._found = _Mean(density)
            # One tells nothing of how they differ.
            self._found.deviation = density / _DEVIATIONS
        self._found.take(density)
