"""How well a confidence tells right decisions from wrong ones, with bootstrap intervals.

A service that may stay silent is judged by what it keeps: its risk is the share of wrong ones among the kept,
its coverage the share that is kept (El-Yaniv and Wiener, "On the Foundations of Noise-free Selective
Classification", 2010; Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", 2017; for
question answering Kamath, Jia and Liang, "Selective Question Answering under Domain Shift", 2020).

- AURC: the mean risk over all coverages (Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation
  for Deep Neural Classifiers", 2019). Lower is better; the best possible depends on the share that is right.
- AUROC: the chance that a right one is held for surer than a wrong one; 0.5 is guessing.
- Coverage at an accuracy: the most that can be kept while so many of the kept are right (Kamath and others).
- ECE: as in ``confidence_fit``. It may be small where every confidence is the average.
- MacroCE: the mean of how far right ones stay below 1 and wrong ones above 0 (Si, Zhao, Min and Boyd-Graber,
  "Re-Examining Calibration: The Case of Question Answering", 2022). Such an average gives 0.5.

A threshold cannot part equal confidences, so ties are kept or dropped together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastspan.benchmarks.accuracy.thresholds import parallel_arrays
from fastspan.benchmarks.intervals import Interval, statistic_interval
from fastspan.errors import DataError

__all__ = ["RiskCoverage", "Selective", "risk_coverage", "selective"]

Floats = NDArray[np.float64]

_BINS = 15

# The coverages, and the shares of right ones, that a table shows.
_SHOWN = (0.25, 0.5, 0.75, 1.0)
_ACCURACIES = (0.8, 0.9)


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """What keeping more costs, surest first.

    Attributes:
        coverage: The share that is kept. *Shape:* ``(points,)``, rising to 1.
        risk: The share of the kept that is wrong. *Shape:* ``(points,)``.
    """

    coverage: Floats
    risk: Floats

    def risk_at(self, coverage: float) -> float:
        """Return the risk at the lowest coverage on the curve that is not below ``coverage``."""
        return float(self.risk[int(np.searchsorted(self.coverage, coverage - 1e-12))])

    def coverage_at(self, accuracy: float) -> float:
        """Return the highest coverage at which so large a share of the kept is right, or 0."""
        return float(self.coverage[self.risk <= 1 - accuracy + 1e-12].max(initial=0.0))


@dataclass(frozen=True, slots=True)
class Selective:
    """The figures, each with its 95% bootstrap interval; None where it is not defined.

    Attributes:
        count: How many decisions.
        aurc: Area under the risk-coverage curve, in [0, 1].
        auroc: In [0, 1]; None where all are right or all wrong.
        ece: Expected calibration error, in [0, 1]; None for scores that are no probabilities.
        macro_ce: In [0, 1]; None where ``auroc`` or ``ece`` is.
        risks: Coverage → risk.
        kept: Share of right ones → the highest coverage at which so many of the kept are right.
    """

    count: int
    aurc: Interval
    auroc: Interval | None
    ece: Interval | None
    macro_ce: Interval | None
    risks: dict[float, float]
    kept: dict[float, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as built-in types."""
        figures = {
            "aurc": self.aurc,
            "auroc": self.auroc,
            "ece": self.ece,
            "macro_ce": self.macro_ce,
            **{f"coverage_at_{100 * accuracy:g}": found for accuracy, found in self.kept.items()},
        }
        return {
            "count": self.count,
            **{name: None if found is None else found.estimate for name, found in figures.items()},
            "intervals_95": {
                name: [found.low, found.high] for name, found in figures.items() if found is not None
            },
            "risk_at_coverage": {f"{coverage:g}": risk for coverage, risk in self.risks.items()},
        }


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Return the risk at every coverage that a threshold on the confidence can make.

    Args:
        confidence: Any score that is higher where one is surer. *Shape:* ``(decisions,)``.
        correct: Whether each is right, 0 or 1. *Shape:* the same.

    Raises:
        DataError: There are no decisions, the shapes differ, or a value is NaN or no 0 or 1.
    """
    ranked = _Ranked.of(confidence, correct)
    return ranked.curve(np.ones(ranked.correct.size))


def selective(confidence: ArrayLike, correct: ArrayLike, *, probabilities: bool = True) -> Selective:
    """Measure a confidence.

    Args:
        confidence: The probability that each decision is right; or, without ``probabilities``, any score that
            is higher where one is surer. *Shape:* ``(decisions,)``.
        correct: Whether each is right, 0 or 1. *Shape:* the same.
        probabilities: Whether ECE and MacroCE mean anything.

    Raises:
        DataError: There are no decisions, the shapes differ, or a value is NaN or out of range.
    """
    ranked = _Ranked.of(confidence, correct)
    if probabilities and (ranked.confidence.min() < 0 or ranked.confidence.max() > 1):
        raise DataError("A probability must be between 0 and 1.")
    both = 0 < ranked.correct.sum() < ranked.correct.size

    def measured(statistic: Callable[[Floats], float], *, defined: bool) -> Interval | None:
        return statistic_interval(statistic, ranked.correct.size) if defined else None

    curve = risk_coverage(confidence, correct)
    return Selective(
        count=ranked.correct.size,
        aurc=statistic_interval(ranked.aurc, ranked.correct.size),
        auroc=measured(ranked.auroc, defined=both),
        ece=measured(ranked.ece, defined=probabilities),
        macro_ce=measured(ranked.macro_ce, defined=probabilities and both),
        risks={coverage: curve.risk_at(coverage) for coverage in _SHOWN},
        kept={
            accuracy: statistic_interval(partial(ranked.coverage_at, accuracy), ranked.correct.size)
            for accuracy in _ACCURACIES
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Decisions, surest first. Every figure is a function of how often each was drawn."""

    confidence: Floats
    correct: Floats
    # Behind the last of each group of equal confidence.
    ends: NDArray[np.intp]
    bins: NDArray[np.intp]

    @classmethod
    def of(cls, confidence: ArrayLike, correct: ArrayLike) -> _Ranked:
        """Rank decisions by their confidence; of equal ones, the order stays."""
        sure, right = parallel_arrays(confidence, correct)
        if not np.isin(right, (0.0, 1.0)).all():
            raise DataError("What is correct must be 0 or 1.")
        order = np.argsort(-sure, kind="stable")
        sure, right = sure[order], right[order]
        ends = np.flatnonzero(np.append(sure[1:] != sure[:-1], True)) + 1
        # As reliability_bins has them; of scores that are no probabilities nobody asks.
        edges = np.linspace(0.0, 1.0, _BINS + 1)
        bins = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, _BINS - 1)
        return cls(sure, right, ends, bins)

    def sums(self, drawn: Floats) -> tuple[Floats, Floats]:
        """How many are kept, and how many of them are wrong, at the end of every group."""
        at = self.ends - 1
        return np.cumsum(drawn)[at], np.cumsum(drawn * (1 - self.correct))[at]

    def curve(self, drawn: Floats) -> RiskCoverage:
        """Coverage and risk at the end of every group that was drawn at all."""
        kept, wrong = self.sums(drawn)
        some = kept > 0
        return RiskCoverage(kept[some] / kept[-1], wrong[some] / kept[some])

    def coverage_at(self, accuracy: float, drawn: Floats) -> float:
        """As ``RiskCoverage.coverage_at``."""
        return self.curve(drawn).coverage_at(accuracy)

    def aurc(self, drawn: Floats) -> float:
        """The area under the risk-coverage curve: the mean risk over all coverages."""
        kept, wrong = self.sums(drawn)
        steps = np.diff(kept, prepend=0.0)
        some = kept > 0
        return float((steps[some] * wrong[some] / kept[some]).sum() / kept[-1])

    def auroc(self, drawn: Floats) -> float:
        """How often a right decision is surer than a wrong one; 0.5 where there are none to compare."""
        kept, wrong = self.sums(drawn)
        wrongs = np.diff(wrong, prepend=0.0)
        rights = np.diff(kept, prepend=0.0) - wrongs
        # Each wrong one is beaten by the right ones before it, and by half of those as sure.
        before = np.cumsum(rights) - rights / 2
        pairs = rights.sum() * wrongs.sum()
        return float((wrongs * before).sum() / pairs) if pairs else 0.5

    def ece(self, drawn: Floats) -> float:
        """The mean gap between confidence and accuracy in a bin, each bin weighted by what lies in it."""
        gaps = np.bincount(self.bins, drawn * (self.confidence - self.correct), minlength=_BINS)
        return float(np.abs(gaps).sum() / drawn.sum())

    def macro_ce(self, drawn: Floats) -> float:
        """The mean error of confidence among right decisions and among wrong ones, averaged."""
        off = np.abs(self.correct - self.confidence) * drawn
        right = self.correct > 0
        return float(sum(off[one].sum() / max(1.0, drawn[one].sum()) for one in (right, ~right)) / 2)
