"""Fit a bundle's no-answer threshold and confidence on one half of the questions, and report on the other.

The halves are split by passage, so no passage is in both. What the other half shows to be worse than before
is not stored.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.accuracy.evaluation import Evaluation, Outcomes, evaluate
from fastspan.benchmarks.accuracy.guaranteed_threshold import guaranteed_threshold
from fastspan.benchmarks.accuracy.thresholds import (
    PrecisionCoverage,
    fit_no_answer_threshold,
    precision_coverage,
)
from fastspan.benchmarks.calibration.confidence_fit import (
    ConfidenceCurve,
    ConfidenceFit,
    ReliabilityBin,
    expected_calibration_error,
    fit_confidence,
    reliability_bins,
    split_halves,
)
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
from fastspan.bundle.beside.calibrations import Calibration, FittedOn, Guarantee
from fastspan.errors import DataError

__all__ = ["Calibrated", "Held", "Present", "calibrate"]


@dataclass(frozen=True, slots=True)
class Present:
    """The threshold and curves that a bundle has before it is calibrated.

    Attributes:
        threshold: Its no-answer threshold.
        confidence: Its curves; None: it has none.
    """

    threshold: float = 0.0
    confidence: ConfidenceFit | None = None

    @classmethod
    def of(cls, calibration: Calibration) -> Present:
        """Return what a manifest holds."""
        curves = calibration.confidence
        return cls(
            threshold=calibration.no_answer.threshold,
            confidence=None
            if curves is None
            else ConfidenceFit(
                answered=ConfidenceCurve(curves.answered_scale, curves.answered_offset),
                abstained=ConfidenceCurve(curves.abstained_scale, curves.abstained_offset),
            ),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What one threshold and one confidence do to the held-out half.

    Attributes:
        evaluation: Its scores.
        precision: The share of the given answers that match exactly; None where none is given.
        coverage: The share of the questions that get an answer.
        ece: Expected calibration error of the confidence, in [0, 1].
    """

    evaluation: Evaluation
    precision: float | None
    coverage: float
    ece: float


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration, and what it does to questions it was not fitted on.

    Attributes:
        variant: The variant whose scores it was fitted on.
        fitted_on: The data and the sizes of the halves.
        target_precision: The precision that was asked for; None: the best F1.
        threshold: The fitted no-answer threshold.
        guarantee: What the threshold promises; None where nothing was asked for.
        confidence: The fitted curves.
        before: The held-out half with what the bundle had; where that is no calibration, the confidence is
            the logistic function of the margin's distance from the threshold.
        after: The held-out half at the fitted threshold with the fitted confidence.
        keep_threshold: Whether the fitted threshold is to be stored.
        keep_confidence: Whether the fitted curves are to be stored.
        kept_ece: Expected calibration error of the curves on the held-out half, with what is to be stored.
        tenths: Of how many questions of the held-out half the confidence, with what is to be stored, lies in
            each tenth of [0, 1], the lowest first.
        bins: The held-out half by confidence.
        curve: Precision and coverage of the held-out half.
    """

    variant: str
    fitted_on: FittedOn
    target_precision: float | None
    threshold: float
    guarantee: Guarantee | None
    confidence: ConfidenceFit
    before: Held
    after: Held
    keep_threshold: bool
    keep_confidence: bool
    kept_ece: float
    tenths: tuple[int, ...]
    bins: tuple[ReliabilityBin, ...]
    curve: PrecisionCoverage

    @property
    def helps(self) -> bool:
        """Whether anything of it is to be stored."""
        return self.keep_threshold or self.keep_confidence

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as built-in types."""
        return {
            "variant": self.variant,
            "fitted_on": asdict(self.fitted_on),
            "target_precision": self.target_precision,
            "no_answer_threshold": self.threshold,
            "guarantee": None if self.guarantee is None else asdict(self.guarantee),
            "confidence": {**self.confidence.to_dict(), "tenths": list(self.tenths)},
            "held_out": {"before": _held_dict(self.before), "after": _held_dict(self.after)},
            "stored": {"no_answer_threshold": self.keep_threshold, "confidence": self.keep_confidence},
            "reliability": [asdict(group) for group in self.bins],
        }


def calibrate(
    data: EvaluationSet,
    outcomes: Outcomes,
    variant: str,
    *,
    present: Present | None = None,
    target_precision: float | None = None,
    confidence_level: float | None = None,
) -> Calibrated:
    """Fit on one half of what was answered, and measure on the other.

    Args:
        data: Where the questions came from.
        outcomes: What was answered to them.
        variant: The variant that answered.
        present: What the bundle has now, which the fit must not be worse than; None: threshold 0, no curves.
        target_precision: The loosest threshold at which so large a share of the given answers matches
            exactly; None: the threshold with the best F1.
        confidence_level: With a target: how sure to be of it. The held-out half then tests the thresholds
            (``guaranteed_threshold``). None: the fitting half reaches it.

    Raises:
        DataError: There are too few questions to fit on, or no threshold reaches the target.
        InputError: ``target_precision`` or ``confidence_level`` is out of range.
    """
    fitting, holding = split_halves([question.context for question in outcomes.questions])
    fit_on, held = outcomes.subset(fitting), outcomes.subset(holding)
    exact, f1 = fit_on.span_scores
    guarantee = None
    if target_precision is not None and confidence_level is not None:
        threshold, guarantee = guaranteed_threshold(
            fit_on.margins,
            exact,
            held.margins,
            held.span_scores[0],
            precision=target_precision,
            level=confidence_level,
        )
    else:
        threshold = fit_no_answer_threshold(
            fit_on.margins, exact, f1, fit_on.unanswerable, target_precision=target_precision
        ).threshold
    confidence = fit_confidence(fit_on.margins, exact, fit_on.unanswerable)
    if not np.isfinite(held.margins).any():
        raise DataError(f"None of the {len(held.questions)} held-out questions of {data.name} has a span.")
    present = present or Present()
    fitted = Present(threshold, confidence)
    before, after = _held(held, present), _held(held, fitted)
    kept, keep_threshold, keep_confidence = before, False, False
    chosen = present
    # Both parts, else one alone: the first choice that is no worse than before.
    for take_threshold, take_confidence in ((True, True), (True, False), (False, True)):
        choice = Present(
            fitted.threshold if take_threshold else present.threshold,
            fitted.confidence if take_confidence else present.confidence,
        )
        result = _held(held, choice)
        if _no_worse(result, before, target_precision if take_threshold else None, choice):
            kept, keep_threshold, keep_confidence = result, take_threshold, take_confidence
            chosen = choice
            break
    calibrated = _confidence(held.margins, fitted)
    return Calibrated(
        variant=variant,
        fitted_on=FittedOn(
            name=data.name,
            questions=len(fit_on.questions),
            sha256=data.sha256,
            reported_on_questions=len(held.questions),
        ),
        target_precision=target_precision,
        threshold=threshold,
        guarantee=guarantee,
        confidence=confidence,
        before=before,
        after=after,
        keep_threshold=keep_threshold,
        keep_confidence=keep_confidence,
        kept_ece=kept.ece,
        tenths=_tenths(_confidence(held.margins, chosen)),
        bins=reliability_bins(calibrated, _right(held, threshold)),
        curve=precision_coverage(held.margins, held.span_scores[0]),
    )


def _no_worse(found: Held, before: Held, target: float | None, choice: Present) -> bool:
    """Whether the held-out half is decided at least as well as before.

    With a target, a lower F1 is what was asked for: there, a lower precision speaks against it where the
    target is missed. Without curves, no confidence is given, and none can be worse.
    """
    if target is None:
        decided = found.evaluation.overall.f1.estimate >= before.evaluation.overall.f1.estimate
    else:
        precision = found.precision or 0.0
        decided = precision >= min(target, before.precision or 0.0)
    return decided and (choice.confidence is None or found.ece <= before.ece)


def _right(outcomes: Outcomes, threshold: float) -> NDArray[np.float64]:
    """Whether each decision is right, 0 or 1. *Shape:* ``(questions,)``."""
    return np.where(outcomes.margins > threshold, outcomes.unanswerable, outcomes.span_scores[0])


def _confidence(margins: NDArray[np.float64], choice: Present) -> NDArray[np.float64]:
    """The confidence of each decision. *Shape:* ``(questions,)``."""
    abstained = margins > choice.threshold
    if choice.confidence is not None:
        return choice.confidence.confidence(margins, abstained)
    # What the scores alone suggest: it rises with the distance from the threshold, but is no frequency.
    return ConfidenceCurve(1.0, 0.0)(-np.abs(margins - choice.threshold))


def _tenths(confidences: NDArray[np.float64]) -> tuple[int, ...]:
    """How many lie in each tenth of [0, 1]."""
    return tuple(int(count) for count in np.histogram(confidences, 10, (0.0, 1.0))[0])


def _held(outcomes: Outcomes, choice: Present) -> Held:
    answered = outcomes.margins <= choice.threshold
    return Held(
        evaluation=evaluate(outcomes, choice.threshold),
        precision=float(outcomes.span_scores[0][answered].mean()) if answered.any() else None,
        coverage=float(answered.mean()),
        ece=expected_calibration_error(
            _confidence(outcomes.margins, choice), _right(outcomes, choice.threshold)
        ),
    )


def _held_dict(held: Held) -> dict[str, Any]:
    return {
        **held.evaluation.to_dict(),
        "precision": held.precision,
        "coverage": held.coverage,
        "ece": held.ece,
    }
