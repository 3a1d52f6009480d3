"""A calibration in words and rows for people; the command lays the rows out."""

from __future__ import annotations

from fastspan.benchmarks.accuracy.evaluation import GroupScores
from fastspan.benchmarks.calibration.calibrate import Calibrated, Held
from fastspan.benchmarks.calibration.calibrate_sets import CalibratedSets, HeldSets
from fastspan.bundle.beside.calibrations import Guarantee

__all__ = ["BEFORE_AND_AFTER", "notes", "opening", "rows", "set_notes", "set_opening", "set_rows"]

BEFORE_AND_AFTER = ("", "before", "after")
"""The header over ``rows`` and ``set_rows``."""


def opening(calibrated: Calibrated) -> str:
    """Say what was fitted on what."""
    fitted_on = calibrated.fitted_on
    aim = (
        "the best F1"
        if calibrated.target_precision is None
        else f"a precision of {calibrated.target_precision:g}"
    )
    if calibrated.guarantee is not None:
        aim += f" with a certainty of {calibrated.guarantee.level:g}"
    return (
        f"{fitted_on.name}: fitted on {fitted_on.questions:,} questions for {aim}, "
        f"reported on the other {fitted_on.reported_on_questions:,} ({calibrated.variant})"
    )


def rows(calibrated: Calibrated) -> list[tuple[str, str, str]]:
    """Return the held-out half before and after."""
    before, after = calibrated.before, calibrated.after
    threshold = (
        "no-answer threshold",
        f"{before.evaluation.threshold:.4f}",
        f"{calibrated.threshold:.4f}",
    )
    return [threshold, *_beside(_column(before), _column(after))]


def notes(calibrated: Calibrated) -> list[str]:
    """Say what is not stored of a calibration and why, and what its threshold promises."""
    return [text for text in (_left_out(calibrated), _promised(calibrated.guarantee)) if text]


def set_opening(calibrated: CalibratedSets) -> str:
    """Say what was fitted on what, for sets of passages."""
    fitted_on = calibrated.fitted.fitted_on
    return (
        f"{fitted_on.name}: sets of {calibrated.fitted.passages} passages, fitted on {fitted_on.questions:,} "
        f"questions, reported on the other {fitted_on.reported_on_questions:,} ({calibrated.variant})"
    )


def set_rows(calibrated: CalibratedSets) -> list[tuple[str, str, str]]:
    """Return the held-out half's sets before and after."""
    return _beside(_set_column(calibrated.before), _set_column(calibrated.after))


def set_notes(calibrated: CalibratedSets) -> list[str]:
    """Say why a calibration of sets is not stored, and what its threshold promises."""
    left_out = (
        "" if calibrated.helps else "It is not stored: the questions that were not fitted on come out worse."
    )
    return [text for text in (left_out, _promised(calibrated.fitted.guarantee)) if text]


def _beside(before: list[tuple[str, str]], after: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    return [(label, old, new) for (label, old), (_, new) in zip(before, after, strict=True)]


def _promised(guarantee: Guarantee | None) -> str:
    """What a threshold promises, in a sentence."""
    if guarantee is None:
        return ""
    return (
        f"With a certainty of {guarantee.level:g}, at least {guarantee.precision:g} of the answers match "
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
        f"The fitted {' and '.join(missing)} {'are' if both else 'is'} not stored: with "
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
