"""Fit a bundle's calibration for sets of passages on one half of the questions, and report on the other."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastspan.benchmarks.accuracy.evaluation import Evaluation, evaluate
from fastspan.benchmarks.accuracy.guaranteed_threshold import guaranteed_threshold
from fastspan.benchmarks.accuracy.thresholds import (
    PrecisionCoverage,
    fit_no_answer_threshold,
    precision_coverage,
)
from fastspan.benchmarks.calibration.confidence_fit import (
    ReliabilityBin,
    expected_calibration_error,
    fit_logistic,
    reliability_bins,
    split_halves,
)
from fastspan.benchmarks.calibration.set_outcomes import SetOutcomes
from fastspan.benchmarks.calibration.storing import present_calibration
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
from fastspan.bundle.beside.calibrations import Calibration, FittedOn, SetConfidence, SetCurve, SetCurves
from fastspan.bundle.folder import Bundle
from fastspan.decoding.confidence import decision_confidence
from fastspan.decoding.set_confidence import SetFeatures, set_confidence
from fastspan.export.publishing.bundle_writer import update_manifest

__all__ = [
    "CalibratedSets",
    "HeldSets",
    "calibrate_sets",
    "confidences",
    "fit_sets",
    "held_sets",
    "store_sets",
]


@dataclass(frozen=True, slots=True)
class HeldSets:
    """What one calibration does to the held-out half.

    Attributes:
        threshold: No answer where the margin exceeds it.
        evaluation: Its scores.
        ece: Expected calibration error of the confidence without retriever scores, in [0, 1].
        ece_with_retriever: The same with them.
    """

    threshold: float
    evaluation: Evaluation
    ece: float
    ece_with_retriever: float


@dataclass(frozen=True, eq=False)
class CalibratedSets:
    """A calibration for sets, and what it does to questions it was not fitted on.

    Attributes:
        variant: The variant whose scores it was fitted on.
        fitted: What was fitted.
        before: The held-out half with what the bundle had; without a calibration for sets, what it says of
            one context is applied to the best margin.
        after: The held-out half with what was fitted.
        helps: Whether that is at least as good in F1 and in calibration error.
        bins: The held-out half by confidence.
        curve: Precision and coverage of the held-out half.
    """

    variant: str
    fitted: SetConfidence
    before: HeldSets
    after: HeldSets
    helps: bool
    bins: tuple[ReliabilityBin, ...]
    curve: PrecisionCoverage

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as built-in types; ``sets`` is what a checkpoint's calibration.json may hold."""
        return {
            "variant": self.variant,
            "sets": asdict(self.fitted),
            "held_out": {"before": _held_dict(self.before), "after": _held_dict(self.after)},
            "stored": self.helps,
            "reliability": [asdict(group) for group in self.bins],
        }


def calibrate_sets(
    data: EvaluationSet,
    outcomes: SetOutcomes,
    variant: str,
    *,
    present: Calibration,
    target_precision: float | None = None,
    confidence_level: float | None = None,
) -> CalibratedSets:
    """Fit on one half of what was read, and measure on the other.

    Args:
        data: Where the questions came from.
        outcomes: What was read for them.
        variant: The variant that read.
        present: What the bundle has now, which the fit must not be worse than.
        target_precision: The loosest threshold at which so large a share of the given answers matches
            exactly; None: the threshold with the best F1.
        confidence_level: With a target: how sure to be of it (``guaranteed_threshold``); None: the fitting
            half reaches it.

    Raises:
        DataError: There are too few questions to fit on, or no threshold reaches the target.
        InputError: ``target_precision`` or ``confidence_level`` is out of range.
    """
    fitting, holding = split_halves([each.question.context for each in outcomes.sets])
    fit_on, held = outcomes.subset(fitting), outcomes.subset(holding)
    reached = None if confidence_level is not None else target_precision
    fitted = fit_sets(data, fit_on, len(held.sets), target_precision=reached)
    if target_precision is not None and confidence_level is not None:
        threshold, guarantee = guaranteed_threshold(
            fit_on.outcomes.margins,
            fit_on.outcomes.span_scores[0],
            held.outcomes.margins,
            held.outcomes.span_scores[0],
            precision=target_precision,
            level=confidence_level,
        )
        fitted = replace(fitted, threshold=threshold, guarantee=guarantee)
    before = held_sets(held, present)
    after = held_sets(held, Calibration(sets=fitted))
    fitted = replace(fitted, ece=after.ece)
    right = _right(held, after.threshold)
    return CalibratedSets(
        variant=variant,
        fitted=fitted,
        before=before,
        after=after,
        helps=after.ece <= before.ece
        and (
            target_precision is not None
            or after.evaluation.overall.f1.estimate >= before.evaluation.overall.f1.estimate
        ),
        bins=reliability_bins(confidences(held, Calibration(sets=fitted), retriever=False), right),
        curve=precision_coverage(held.outcomes.margins, held.outcomes.span_scores[0]),
    )


def store_sets(bundle: Bundle, calibrated: CalibratedSets, domain: str | None = None) -> None:
    """Write a calibration for sets into a bundle's manifest, in one step.

    Args:
        bundle: The bundle.
        calibrated: The calibration.
        domain: The domain it is for; None: the general one.

    Raises:
        BundleError: The bundle was exported again meanwhile, or cannot be written to.
    """
    kept = replace(present_calibration(bundle.manifest, domain), sets=calibrated.fitted)
    update_manifest(bundle.folder, bundle.manifest.with_calibration(domain, kept))


def fit_sets(
    data: EvaluationSet, outcomes: SetOutcomes, held_out: int, *, target_precision: float | None = None
) -> SetConfidence:
    """Fit threshold and curves to all that was read. The calibration error is filled in by who measures it.

    Args:
        data: Where the questions came from.
        outcomes: What was read for them.
        held_out: How many questions it will be reported on.
        target_precision: As for ``calibrate_sets``.

    Raises:
        DataError: There is nothing to learn from, or no threshold reaches the target.
    """
    of_best = outcomes.outcomes
    exact, f1 = of_best.span_scores
    threshold = fit_no_answer_threshold(
        of_best.margins, exact, f1, of_best.unanswerable, target_precision=target_precision
    ).threshold
    finite = np.isfinite(of_best.margins)
    rows = outcomes.features[finite]
    right, empty = exact[finite], of_best.unanswerable[finite].astype(np.float64)
    return SetConfidence(
        passages=max(len(each.passages) for each in outcomes.sets),
        threshold=threshold,
        curves=_curves(rows[:, :3], right, empty),
        with_retriever=_curves(rows, right, empty),
        fitted_on=FittedOn(
            name=data.name,
            questions=len(outcomes.sets),
            sha256=data.sha256,
            reported_on_questions=held_out,
        ),
        ece=0.0,
    )


def held_sets(outcomes: SetOutcomes, calibration: Calibration) -> HeldSets:
    """Measure a calibration on sets that it was not fitted on."""
    threshold = _threshold(calibration)
    right = _right(outcomes, threshold)
    return HeldSets(
        threshold=threshold,
        evaluation=evaluate(outcomes.outcomes, threshold),
        ece=expected_calibration_error(confidences(outcomes, calibration, retriever=False), right),
        ece_with_retriever=expected_calibration_error(
            confidences(outcomes, calibration, retriever=True), right
        ),
    )


def confidences(outcomes: SetOutcomes, calibration: Calibration, *, retriever: bool) -> NDArray[np.float64]:
    """Return the confidence of every decision. *Shape:* ``(sets,)``.

    Args:
        outcomes: What was read.
        calibration: The calibration; without one for sets, that of one context is applied to the best margin.
        retriever: Whether the retriever's scores are used.
    """
    threshold = _threshold(calibration)
    found = []
    for each, reading in zip(outcomes.sets, outcomes.readings, strict=True):
        answered = reading.margin <= threshold
        if calibration.sets is None:
            found.append(
                decision_confidence(reading.margin, threshold, calibration.confidence, answered=answered)
            )
            continue
        features = SetFeatures.of(reading, each.retriever_scores if retriever else None)
        found.append(set_confidence(features, calibration.sets, answered=answered))
    return np.array(found)


def _threshold(calibration: Calibration) -> float:
    return calibration.no_answer.threshold if calibration.sets is None else calibration.sets.threshold


def _right(outcomes: SetOutcomes, threshold: float) -> NDArray[np.float64]:
    """Whether each decision is right, 0 or 1. *Shape:* ``(sets,)``."""
    of_best = outcomes.outcomes
    return np.where(of_best.margins > threshold, of_best.unanswerable, of_best.span_scores[0])


def _curves(rows: NDArray[np.float64], right: NDArray[np.float64], empty: NDArray[np.float64]) -> SetCurves:
    return SetCurves(
        answered=_curve(rows, right, "questions whose best span is right"),
        abstained=_curve(rows, empty, "unanswerable questions"),
    )


def _curve(rows: NDArray[np.float64], labels: NDArray[np.float64], what: str) -> SetCurve:
    slopes, offset = fit_logistic(rows, labels, what)
    margin, rival, agreement, retriever = [*slopes.tolist(), 0.0][:4]
    return SetCurve(margin=margin, rival=rival, agreement=agreement, retriever=retriever, offset=offset)


def _held_dict(held: HeldSets) -> dict[str, Any]:
    return {
        **held.evaluation.to_dict(),
        "ece": held.ece,
        "ece_with_retriever": held.ece_with_retriever,
    }
