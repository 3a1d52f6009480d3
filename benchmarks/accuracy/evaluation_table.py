"""An evaluation in words and rows for people; the command lays the rows out."""

from __future__ import annotations

from fastspan.benchmarks.accuracy.evaluation import Evaluation, GroupScores
from fastspan.benchmarks.accuracy.selective import Selective
from fastspan.benchmarks.intervals import Interval
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
from fastspan.bundle.strict_json import named
from fastspan.results import Info

__all__ = [
    "SCORES",
    "SELECTIVE",
    "closing",
    "kept_rows",
    "opening",
    "risk_rows",
    "rows",
    "selective_rows",
    "with_interval",
]

SCORES = ("", "questions", "exact match", "F1")
"""The header over ``rows``."""

SELECTIVE = ("surer first", "AURC", "AUROC", "ECE", "MacroCE")
"""The header over ``selective_rows``."""


def opening(data: EvaluationSet, info: Info, evaluation: Evaluation) -> str:
    """Say what was evaluated, and on what."""
    return (
        f"{data.name}: {len(data.questions):,} questions, {data.unanswerable:,} without an answer\n"
        f"{named(info.name)}, {info.variant} on {', '.join(info.providers)}, threads: {info.threads} "
        f"({info.reason})\n"
        f"no answer where null score − best span score exceeds {evaluation.threshold:.4g}"
    )


def rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the scores of all questions, and of those with and without an answer."""
    groups = (
        ("all", evaluation.overall),
        ("with an answer", evaluation.answerable),
        ("without an answer", evaluation.unanswerable),
    )
    return [_row(name, scores) for name, scores in groups if scores is not None]


def selective_rows(decisions: Selective, spans: Selective) -> list[tuple[str, ...]]:
    """Return how well sure decisions, and sure best spans, are told from unsure ones."""
    return [
        (
            name,
            *(
                "–" if each is None else with_interval(each, digits=3)
                for each in (found.aurc, found.auroc, found.ece, found.macro_ce)
            ),
        )
        for name, found in (("decisions", decisions), ("best spans", spans))
    ]


def risk_rows(decisions: Selective, spans: Selective) -> list[tuple[str, ...]]:
    """Return how many of the surest are wrong, under a header of how many are kept."""
    return [
        ("wrong among the surest", *(f"{coverage:.0%}" for coverage in decisions.risks)),
        *(
            (name, *(f"{risk:.1%}" for risk in found.risks.values()))
            for name, found in (("decisions", decisions), ("best spans", spans))
        ),
    ]


def kept_rows(decisions: Selective, spans: Selective) -> list[tuple[str, ...]]:
    """Return how many can be kept, surest first, under a header of how many of the kept are right."""
    return [
        ("kept while so many are right", *(f"{accuracy:.0%}" for accuracy in decisions.kept)),
        *(
            (name, *(_percent(kept) for kept in found.kept.values()))
            for name, found in (("decisions", decisions), ("best spans", spans))
        ),
    ]


def closing(evaluation: Evaluation) -> str:
    """Say which thresholds would have been best, and how long it took."""
    best = evaluation.best
    return (
        f"best exact match {best.exact:.2f} at threshold {best.exact_threshold:.4g}, "
        f"best F1 {best.f1:.2f} at {best.f1_threshold:.4g}\n"
        "(searched on these very questions, so optimistic; `fastspan calibrate` fits on one half)\n"
        f"{evaluation.questions_per_second:,.1f} questions/s, {evaluation.seconds:,.1f} s in all"
    )


def with_interval(interval: Interval, *, digits: int = 2, sign: bool = False) -> str:
    """Write an estimate with its interval, such as ``74.67 [73.12, 76.20]``.

    Args:
        interval: What to write.
        digits: Decimal places.
        sign: Write a plus sign where a number is positive, as for differences.
    """
    style = f"{'+' if sign else ''}.{digits}f"
    # A difference that rounds to nothing has no sign.
    estimate, low, high = (
        format(round(number, digits) + 0.0, style)
        for number in (interval.estimate, interval.low, interval.high)
    )
    return f"{estimate} [{low}, {high}]"


def _row(name: str, scores: GroupScores) -> tuple[str, ...]:
    return name, f"{scores.total:,}", with_interval(scores.exact), with_interval(scores.f1)


def _percent(share: Interval) -> str:
    return f"{share.estimate:.1%} [{share.low:.1%}, {share.high:.1%}]"
