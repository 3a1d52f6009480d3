"""A threshold whose precision is promised, from finitely many questions.

Learn then test (Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control", 2021) with fixed-sequence testing: one half of the questions says in
which order thresholds are tried, the other half tests them one after the other, from the one that is surest
to looser ones, and stops at the first that it cannot confirm. The test is the exact binomial one, whose bound
is that of Clopper and Pearson (Biometrika 26, 1934). So the chance that the chosen threshold misses the
precision on questions like these is at most 1 − level, however many thresholds were tried.

It holds for questions drawn independently. Questions on one passage succeed and fail together, so where a
file has many of them, the promise is somewhat too bold.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastspan.benchmarks.accuracy.thresholds import PrecisionCoverage, parallel_arrays, precision_coverage
from fastspan.bundle.beside.calibrations import Guarantee
from fastspan.errors import DataError, InputError

__all__ = ["answers_needed", "chance_of_as_many", "guaranteed_threshold"]

# More thresholds than a hundred make no difference to a reader, and every one has to be confirmed.
_STEPS = 100
# The share of fewer answers says nothing: two right ones of two are no reason to be sure.
_FEWEST = 10
_MOST_ANSWERS = 10_000_000


def guaranteed_threshold(
    fit_margins: ArrayLike,
    fit_exact: ArrayLike,
    margins: ArrayLike,
    exact: ArrayLike,
    *,
    precision: float,
    level: float,
) -> tuple[float, Guarantee]:
    """Find the loosest threshold that keeps a precision with a wished certainty.

    Args:
        fit_margins: ``null_score - best_span_score`` of the half that orders the thresholds. *Shape:*
            ``(questions,)``.
        fit_exact: Whether its best spans match exactly, 0 or 1. *Shape:* the same.
        margins: Those of the half that tests them. *Shape:* ``(questions,)``.
        exact: The same of its best spans.
        precision: The share of the given answers that is to match, between 0 and 1.
        level: The certainty, between 0 and 1.

    Returns:
        The threshold, and what it promises.

    Raises:
        DataError: Nothing can be promised; the message says how many questions it would take.
        InputError: ``precision`` or ``level`` is out of range.
    """
    if not (0.0 < precision < 1.0 and 0.0 < level < 1.0):
        raise InputError(
            f"A promise needs a precision and a level between 0 and 1, not {precision!r} and {level!r}."
        )
    margin, right = parallel_arrays(margins, exact)
    curve = precision_coverage(fit_margins, fit_exact)
    best: tuple[float, Guarantee] | None = None
    for threshold in _sequence(curve, precision):
        answered = margin <= threshold
        count, hits = int(answered.sum()), round(float(right[answered].sum()))
        if chance_of_as_many(hits, count, precision) > 1 - level:
            if best is None:
                raise _too_few(margin.size, count, hits, threshold, precision, level)
            break
        best = threshold, Guarantee(precision=precision, level=level, answers=count, right=hits)
    if best is None:
        raise DataError("None of the questions has a span, so no threshold can be tried.")
    return best


def chance_of_as_many(hits: int, count: int, share: float) -> float:
    """Return the probability of at least ``hits`` successes in ``count`` trials of probability ``share``.

    Args:
        hits: At most ``count``.
        count: At least 0.
        share: Between 0 and 1.
    """
    if hits <= 0:
        return 1.0
    terms = [
        math.lgamma(count + 1)
        - math.lgamma(n + 1)
        - math.lgamma(count - n + 1)
        + n * math.log(share)
        + (count - n) * math.log1p(-share)
        for n in range(hits, count + 1)
    ]
    highest = max(terms)
    return min(1.0, math.exp(highest) * math.fsum(math.exp(term - highest) for term in terms))


def answers_needed(share: float, precision: float, level: float) -> int | None:
    """Return how many answers, of which ``share`` are right, would show the precision with that certainty.

    By the normal approximation of the binomial; None where the share is not above the precision.
    """
    if share <= precision:
        return None
    if share >= 1.0:
        return math.ceil(math.log(1 - level) / math.log(precision))
    z = NormalDist().inv_cdf(level)
    spread = math.sqrt(precision * (1 - precision))
    return min(_MOST_ANSWERS, math.ceil((z * spread / (share - precision)) ** 2 + 1 / (share - precision)))


def _sequence(curve: PrecisionCoverage, precision: float) -> NDArray[np.float64]:
    """The thresholds to try, in order: from the one that this half is surest of, looser and looser."""
    hits = np.rint(curve.precision * curve.answers).astype(int)
    enough = int(np.argmax(curve.answers >= min(_FEWEST, curve.answers[-1])))
    steps = np.unique(np.linspace(enough, curve.answers.size - 1, 2 * _STEPS).round().astype(int))
    chances = [chance_of_as_many(int(hits[n]), int(curve.answers[n]), precision) for n in steps]
    # Of equally sure ones the first, which is the strictest.
    begin = int(steps[int(np.argmin(chances))])
    rest = np.unique(np.linspace(begin, curve.answers.size - 1, _STEPS).round().astype(int))
    tried: NDArray[np.float64] = curve.thresholds[rest]
    return tried


def _too_few(
    questions: int, count: int, hits: int, threshold: float, precision: float, level: float
) -> DataError:
    share = hits / count if count else 0.0
    told = (
        f"A precision of {precision:g} cannot be promised with a certainty of {level:g}: at the threshold "
        f"{threshold:.4f}, which the fitting half is surest of, {hits} of {count} answers of the other half "
        "match"
    )
    needed = answers_needed(share, precision, level)
    if needed is None:
        return DataError(f"{told}, no larger share than that. Ask for less, or take a better model.")
    # Both halves, and those that get no answer.
    total = 2 * math.ceil(needed * questions / count)
    return DataError(f"{told}. That takes about {total:,} questions like these; there are {2 * questions:,}.")
