"""An evaluation as a table for people."""

from __future__ import annotations

from fastspan.benchmarks.accuracy.evaluation import Evaluation, GroupScores
from fastspan.benchmarks.accuracy.selective import Selective
from fastspan.benchmarks.intervals import Interval
from fastspan.benchmarks.questions.evaluation_set import EvaluationSet
from fastspan.results import Info

__all__ = ["evaluation_text", "with_interval"]


def evaluation_text(
    data: EvaluationSet, info: Info, evaluation: Evaluation, judged: tuple[Selective, Selective]
) -> str:
    """Write what was evaluated, on what, the scores, and how far the confidence can be trusted."""
    groups = (
        ("all", evaluation.overall),
        ("with an answer", evaluation.answerable),
        ("without an answer", evaluation.unanswerable),
    )
    rows = "\n".join(_row(name, scores) for name, scores in groups if scores is not None)
    best = evaluation.best
    return (
        f"{data.name}: {len(data.questions):,} questions, {data.unanswerable:,} without an answer\n"
        f"{info.name}, {info.variant} on {', '.join(info.providers)}, threads: {info.threads} "
        f"({info.reason})\n"
        f"no answer where null score − best span score exceeds {evaluation.threshold:.4g}\n\n"
        f"{'':<18} {'questions':>9}  {'exact match':<22}  F1\n"
        f"{rows}\n\n"
        f"best exact match {best.exact:.2f} at threshold {best.exact_threshold:.4g}, "
        f"best F1 {best.f1:.2f} at {best.f1_threshold:.4g}\n"
        "(searched on these very questions, so optimistic; `fastspan calibrate` fits on one half)\n\n"
        f"{_selective_text(*judged)}\n\n"
        f"{evaluation.questions_per_second:,.1f} questions/s, {evaluation.seconds:,.1f} s in all"
    )


def _selective_text(decisions: Selective, spans: Selective) -> str:
    """Write how well sure decisions are told from unsure ones."""
    rows = (("decisions", decisions), ("best spans", spans))
    columns = ("AURC", "AUROC", "ECE", "MacroCE")
    lines = [f"{'surer first':<12} {'  '.join(f'{name:<20}' for name in columns)}".rstrip()]
    for name, found in rows:
        figures = (found.aurc, found.auroc, found.ece, found.macro_ce)
        shown = ("–" if each is None else with_interval(each, digits=3) for each in figures)
        lines.append(f"{name:<12} {'  '.join(f'{text:<20}' for text in shown)}".rstrip())
    risks = "; ".join(
        f"{name} " + ", ".join(f"{risk:.1%} of {coverage:.0%}" for coverage, risk in found.risks.items())
        for name, found in rows
    )
    return "\n".join([*lines, f"wrong among the surest: {risks}"])


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


def _row(name: str, scores: GroupScores) -> str:
    exact, f1 = with_interval(scores.exact), with_interval(scores.f1)
    return f"{name:<18} {scores.total:>9,}  {exact:<22}  {f1}"
