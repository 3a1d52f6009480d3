"""A calibration as a table for people."""

from __future__ import annotations

from fastspan.benchmarks.accuracy.evaluation import GroupScores
from fastspan.benchmarks.calibration.calibrate import Calibrated, Held
from fastspan.benchmarks.calibration.calibrate_sets import CalibratedSets, HeldSets
from fastspan.bundle.calibrations import Guarantee

__all__ = ["calibration_text", "set_calibration_text"]


def calibration_text(calibrated: Calibrated) -> str:
    """Write what was fitted on what, and the held-out half before and after."""
    fitted_on, threshold = calibrated.fitted_on, calibrated.threshold
    aim = (
        "the best F1"
        if calibrated.target_precision is None
        else f"a precision of {calibrated.target_precision:g}"
    )
    if calibrated.guarantee is not None:
        aim += f" with a certainty of {calibrated.guarantee.level:g}"
    columns = zip(_column(calibrated.before), _column(calibrated.after), strict=True)
    rows = "\n".join(f"{label:<34} {old:>12} {new:>12}" for (label, old), (_, new) in columns)
    return (
        f"{fitted_on.name}: fitted on {fitted_on.questions:,} questions for {aim}, "
        f"reported on the other {fitted_on.reported_on_questions:,} ({calibrated.variant})\n\n"
        f"{'':<34} {'before':>12} {'after':>12}\n"
        f"{'no-answer threshold':<34} {calibrated.before.evaluation.threshold:>12.4f} {threshold:>12.4f}\n"
        f"{rows}{_left_out(calibrated)}{_promised(calibrated.guarantee)}"
    )


def set_calibration_text(calibrated: CalibratedSets) -> str:
    """Write what was fitted on what for sets, and the held-out half before and after."""
    fitted_on = calibrated.fitted.fitted_on
    columns = zip(_set_column(calibrated.before), _set_column(calibrated.after), strict=True)
    rows = "\n".join(f"{label:<36} {old:>12} {new:>12}" for (label, old), (_, new) in columns)
    left_out = (
        ""
        if calibrated.helps
        else "\n\nIt is not stored: the questions that were not fitted on come out worse."
    )
    return (
        f"{fitted_on.name}: sets of {calibrated.fitted.passages} passages, fitted on {fitted_on.questions:,} "
        f"questions, reported on the other {fitted_on.reported_on_questions:,} ({calibrated.variant})\n\n"
        f"{'':<36} {'before':>12} {'after':>12}\n{rows}{left_out}{_promised(calibrated.fitted.guarantee)}"
    )


def _promised(guarantee: Guarantee | None) -> str:
    """What a threshold promises, in a sentence."""
    if guarantee is None:
        return ""
    return (
        f"\n\nWith a certainty of {guarantee.level:g}, at least {guarantee.precision:g} of the answers match "
        f"on questions like these: of {guarantee.answers:,} in the other half, {guarantee.right:,} did."
    )


def _set_column(held: HeldSets) -> list[tuple[str, str]]:
    scores = held.evaluation
    groups = (
        ("", scores.overall),
        (", with an answer", scores.answerable),
        (", without an answer", scores.unanswerable),
    )
    return [
        ("no-answer threshold", f"{held.threshold:.4f}"),
        *(cell for label, group in groups for cell in _scores(label, group)),
        ("calibration error (ECE)", f"{held.ece:.4f}"),
        ("the same with retriever scores", f"{held.ece_with_retriever:.4f}"),
    ]


def _left_out(calibrated: Calibrated) -> str:
    """What is not stored of a calibration, and why."""
    kept = {"threshold": calibrated.keep_threshold, "confidence": calibrated.keep_confidence}
    missing = [name for name, keep in kept.items() if not keep]
    if not missing:
        return ""
    both = len(missing) > 1
    return (
        f"\n\nThe fitted {' and '.join(missing)} {'are' if both else 'is'} not stored: with "
        f"{'them' if both else 'it'}, the questions that were not fitted on come out worse than before."
    )


def _column(held: Held) -> list[tuple[str, str]]:
    scores = held.evaluation
    groups = (
        ("", scores.overall),
        (", with an answer", scores.answerable),
        (", without an answer", scores.unanswerable),
    )
    return [
        *(cell for label, group in groups for cell in _scores(label, group)),
        ("precision of the given answers", "–" if held.precision is None else f"{held.precision:.2%}"),
        ("questions answered", f"{held.coverage:.2%}"),
        ("calibration error (ECE)", f"{held.ece:.4f}"),
    ]


def _scores(label: str, scores: GroupScores | None) -> list[tuple[str, str]]:
    if scores is None:
        return []
    return [
        (f"exact match{label}", f"{scores.exact.estimate:.2f}"),
        (f"F1{label}", f"{scores.f1.estimate:.2f}"),
    ]
