"""Fit a bundle's no-answer threshold and confidence on one half of the questions, and report on the other.

The halves are split by passage, so no passage is in both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.accuracy.evaluation import Evaluation, Outcomes, evaluate
from fastspan.benchmarks.accuracy.thresholds import (
    PrecisionCoverage,
    fit_no_answer_threshold,
    precision_coverage,
)
from fastspan.benchmarks.calibration.confidence_fit import (
    ConfidenceFit,
    ReliabilityBin,
    expected_calibration_error,
    fit_confidence,
    reliability_bins,
    split_halves,
)
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
from fastspan.bundle.folder import Bundle
from fastspan.bundle.manifest import Confidence, FittedOn, NoAnswer
from fastspan.decoding.confidence import decision_confidence
from fastspan.errors import DataError
from fastspan.export.publishing.bundle_writer import update_manifest

__all__ = ["Calibrated", "Held", "calibrate", "store"]


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
        confidence: The fitted curves.
        before: The held-out half at threshold 0 with the uncalibrated confidence.
        after: The held-out half at the fitted threshold with the fitted confidence.
        bins: The held-out half by confidence.
        curve: Precision and coverage of the held-out half.
    """

    variant: str
    fitted_on: FittedOn
    target_precision: float | None
    threshold: float
    confidence: ConfidenceFit
    before: Held
    after: Held
    bins: tuple[ReliabilityBin, ...]
    curve: PrecisionCoverage

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as built-in types."""
        return {
            "variant": self.variant,
            "fitted_on": asdict(self.fitted_on),
            "target_precision": self.target_precision,
            "no_answer_threshold": self.threshold,
            "confidence": self.confidence.to_dict(),
            "held_out": {"before": _held_dict(self.before), "after": _held_dict(self.after)},
            "reliability": [asdict(group) for group in self.bins],
        }


def calibrate(
    data: EvaluationSet, outcomes: Outcomes, variant: str, *, target_precision: float | None = None
) -> Calibrated:
    """Fit on one half of what was answered, and measure on the other.

    Args:
        data: Where the questions came from.
        outcomes: What was answered to them.
        variant: The variant that answered.
        target_precision: The loosest threshold at which so large a share of the given answers matches
            exactly; None: the threshold with the best F1.

    Raises:
        DataError: There are too few questions to fit on, or no threshold reaches the target.
        InputError: ``target_precision`` is out of range.
    """
    fitting, holding = split_halves([question.context for question in outcomes.questions])
    fit_on, held = outcomes.subset(fitting), outcomes.subset(holding)
    exact, f1 = fit_on.span_scores
    threshold = fit_no_answer_threshold(
        fit_on.margins, exact, f1, fit_on.unanswerable, target_precision=target_precision
    ).threshold
    confidence = fit_confidence(fit_on.margins, exact, fit_on.unanswerable)
    if not np.isfinite(held.margins).any():
        raise DataError(f"None of the {len(held.questions)} held-out questions of {data.name} has a span.")
    uncalibrated = np.array(
        [decision_confidence(m, 0.0, None, answered=not m > 0.0) for m in held.margins.tolist()]
    )
    calibrated = confidence.confidence(held.margins, held.margins > threshold)
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
        confidence=confidence,
        before=_held(held, 0.0, uncalibrated),
        after=_held(held, threshold, calibrated),
        bins=reliability_bins(calibrated, _right(held, threshold)),
        curve=precision_coverage(held.margins, held.span_scores[0]),
    )


def store(bundle: Bundle, calibrated: Calibrated) -> None:
    """Write the threshold and the confidence into a bundle's manifest, in one step.

    Raises:
        BundleError: The bundle was exported again meanwhile, or cannot be written to.
    """
    manifest = replace(
        bundle.manifest,
        no_answer=NoAnswer(threshold=calibrated.threshold, fitted_on=calibrated.fitted_on),
        confidence=Confidence(
            **calibrated.confidence.to_dict(), fitted_on=calibrated.fitted_on, ece=calibrated.after.ece
        ),
    )
    update_manifest(bundle.folder, manifest)


def _right(outcomes: Outcomes, threshold: float) -> NDArray[np.float64]:
    """Whether each decision is right, 0 or 1. *Shape:* ``(questions,)``."""
    return np.where(outcomes.margins > threshold, outcomes.unanswerable, outcomes.span_scores[0])


def _held(outcomes: Outcomes, threshold: float, confidence: NDArray[np.float64]) -> Held:
    answered = outcomes.margins <= threshold
    return Held(
        evaluation=evaluate(outcomes, threshold),
        precision=float(outcomes.span_scores[0][answered].mean()) if answered.any() else None,
        coverage=float(answered.mean()),
        ece=expected_calibration_error(confidence, _right(outcomes, threshold)),
    )


def _held_dict(held: Held) -> dict[str, Any]:
    return {
        **held.evaluation.to_dict(),
        "precision": held.precision,
        "coverage": held.coverage,
        "ece": held.ece,
    }
