"""A calibration in words and rows for people; the command lays the rows out."""

from __future__ import annotations

from fastspan.benchmarks.accuracy.evaluation import GroupScores
from fastspan.benchmarks.calibration.calibrate import Calibrated, Held

__all__ = ["BEFORE_AND_AFTER", "left_out", "opening", "rows"]

BEFORE_AND_AFTER = ("", "before", "after")
"""The header over ``rows``."""


def opening(calibrated: Calibrated) -> str:
    """Say what was fitted on what."""
    fitted_on = calibrated.fitted_on
    aim = (
        "the best F1"
        if calibrated.target_precision is None
        else f"a precision of {calibrated.target_precision:g}"
    )
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
    columns = zip(_column(before), _column(after), strict=True)
    return [threshold, *((label, old, new) for (label, old), (_, new) in columns)]


def left_out(calibrated: Calibrated) -> str:
    """Say what is not stored of a calibration, and why; empty where all of it is."""
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
