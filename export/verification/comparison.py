"""Does an exported graph answer as its checkpoint does? Measured on real questions before publishing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastspan.decoding.squad import decode_squad
from fastspan.options import AnswerOptions
from fastspan.runtime.session import Session
from fastspan.runtime.workers import by_pair
from fastspan.text.encoder import EncodedPair, Window

__all__ = [
    "EXPORT_GATES",
    "SURE_SHARE",
    "Comparison",
    "Gate",
    "LogitPairs",
    "compare",
    "logits_of",
    "lower_bound",
    "windows_of",
]


LogitPairs = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


CONFIDENCE = 0.95
"""How sure a gate wants to be of its smallest sure share."""

SURE_SHARE = 0.90
"""The share of equal answers that has to lie below the truth with that confidence."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one graph differs from its reference.

    Attributes:
        largest_difference: Largest absolute difference of a logit.
        equal_answers: Share of the questions with the same answer, in [0, 1].
        windows: Windows compared.
        questions: Questions compared.
    """

    largest_difference: float
    equal_answers: float
    windows: int
    questions: int

    @property
    def surely_equal(self) -> float:
        """The share of equal answers that the truth exceeds with 95% confidence (see ``lower_bound``)."""
        return lower_bound(round(self.equal_answers * self.questions), self.questions)


@dataclass(frozen=True, slots=True)
class Gate:
    """What a variant must reach to be published.

    Attributes:
        largest_difference: Largest allowed difference of a logit, None where it is not asked.
        equal_answers: Smallest allowed share of questions with the same answer, None where it is not asked.
    """

    largest_difference: float | None
    equal_answers: float | None

    def met(self, comparison: Comparison) -> bool:
        """Whether what was measured meets the gate, however few questions it was measured on."""
        if self.largest_difference is not None and not (
            comparison.largest_difference <= self.largest_difference
        ):
            return False
        return self.equal_answers is None or comparison.equal_answers >= self.equal_answers

    def passed(self, comparison: Comparison) -> bool:
        """Whether the comparison meets the gate, and on questions enough to be sure of ``SURE_SHARE``."""
        if not self.met(comparison):
            return False
        return self.equal_answers is None or comparison.surely_equal >= SURE_SHARE

    def __str__(self) -> str:
        demands = []
        if self.largest_difference is not None:
            demands.append(f"logits within {self.largest_difference:g}")
        if self.equal_answers is not None:
            demands.append(f"at least {self.equal_answers:.1%} equal answers, {SURE_SHARE:.0%} surely")
        return ", ".join(demands)


# Of two spans that tie within fp32's last digits an exact export may pick the other one, so fp32 is held
# to its logits alone.
EXPORT_GATES = {"fp32": Gate(1e-4, None), "fp16": Gate(None, 0.995), "int8": Gate(None, 0.95)}


def lower_bound(successes: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided lower confidence bound of a share, exact for a binomial.

    Source: Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26 (1934).

    Args:
        successes: How often it was so.
        trials: Of how many.
        confidence: How sure to be that the true share is not below the bound, in (0, 1).
    """
    if successes == 0:
        return 0.0

    def chance(share: float) -> float:
        """The probability of so many successes or more, were that the true share."""
        return math.fsum(
            math.comb(trials, count) * share**count * (1 - share) ** (trials - count)
            for count in range(successes, trials + 1)
        )

    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) > 1 - confidence else (middle, high)
    return low


def logits_of(session: Session, pairs: Sequence[EncodedPair], step: Callable[[], None]) -> LogitPairs:
    """Run every window of ``pairs``, one at a time, as the engine runs them alone.

    Args:
        session: The graph.
        pairs: Encoded questions.
        step: Called after each window.
    """
    found = []
    for window in windows_of(pairs):
        start, end = session.run([window])
        found.append((start[0], end[0]))
        step()
    return found


def compare(pairs: Sequence[EncodedPair], reference: LogitPairs, found: LogitPairs) -> Comparison:
    """Compare two sets of logits over the same windows, and the answers they decode to."""
    largest = 0.0
    for one, other in zip(reference, found, strict=True):
        for a, b in zip(one, other, strict=True):
            difference = float(np.abs(a - b).max())
            # max() would drop a NaN; a graph that yields one must fail every gate.
            largest = difference if np.isnan(difference) else max(largest, difference)
            if np.isnan(largest):
                return Comparison(float("nan"), 0.0, len(reference), len(pairs))
    equal = [
        one == other for one, other in zip(_answers(pairs, reference), _answers(pairs, found), strict=True)
    ]
    return Comparison(largest, float(np.mean(equal)), len(reference), len(pairs))


def windows_of(pairs: Sequence[EncodedPair]) -> Iterable[Window]:
    """Every window of the pairs, in their order."""
    return (window for pair in pairs for window in pair.windows)


def _answers(pairs: Sequence[EncodedPair], logits: LogitPairs) -> list[tuple[int, int] | None]:
    """Where each question's answer stands, None for none, at threshold 0."""
    starts, ends = (by_pair(pairs, [window[side] for window in logits]) for side in (0, 1))
    predictions = decode_squad(pairs, starts, ends, AnswerOptions(), threshold=0.0)
    return [(p.answer.start, p.answer.end) if p.answer else None for p in predictions]
