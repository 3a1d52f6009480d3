"""The report's figures in full: every system's accuracy, and its times at every workload."""

from __future__ import annotations

from collections.abc import Iterator

from fastspan.benchmarks.reporting.document import (
    NONE,
    Block,
    Heading,
    Paragraph,
    Table,
    without_empty_columns,
)
from fastspan.benchmarks.speed_report.comparison import BRACKETS, MARK
from fastspan.benchmarks.speed_report.equal_answers import EqualAnswers, share_cell
from fastspan.benchmarks.speed_report.section import Section
from fastspan.benchmarks.speed_report.tables import workload_table

__all__ = ["accuracy", "summary"]


def accuracy(section: Section) -> Iterator[Block]:
    """Say how accurate every system is, and what is known of FastSpan from parity reports."""
    tables = [(model, _accuracy_table(section, model)) for model in section.models]
    tables = [(model, table) for model, table in tables if table.rows]
    if not tables and not section.parity:
        return
    yield Heading(section.level, section.title("Accuracy"))
    if tables:
        equal = (
            " Equal answers are those that a system gives in fp32 as well, with the 95% interval of that "
            f"share (Wilson). {MARK}"
        )
        yield Paragraph(
            "All systems answer the same questions off the clock, on all threads. EM and F1 are SQuAD 2.0's "
            "exact match and F1, F1 with its 95% bootstrap interval over questions; Δ is the difference from "
            "transformers' pipeline in fp32, in points. Systems decode by rules of their own, so scores "
            f"differ for more reasons than arithmetic.{equal if section.shares else ''} Random weights have "
            "no accuracy."
        )
    for model, table in tables:
        yield Heading(3, section.title(f"Accuracy of {model}"))
        yield table
    if section.parity:
        yield Heading(3, section.title("FastSpan against PyTorch"))
        yield Paragraph(
            "Both sides decoded alike, from `make parity`. Reports on SQuAD's questions quote them and are "
            "not kept with the project."
        )
        yield Table(
            headers=("Model", "variant", "questions", "equal answers", "Δ EM", "Δ F1", "report"),
            rows=[
                (
                    found.model,
                    found.variant,
                    f"{found.difference.questions:,}",
                    f"{found.equal_answers:.2%}",
                    f"{found.difference.exact:+.2f}",
                    f"{found.difference.f1:+.2f}",
                    f"`{found.file}`",
                )
                for found in section.parity
            ],
            texts=2,
        )


def summary(section: Section) -> Iterator[Block]:
    """Give every system's times at every workload."""
    yield Heading(section.level, section.title("Summary"))
    yield Paragraph(
        f"p50 is the median. {BRACKETS} p95 is given from 20 runs on, p99 from 100 on: fewer cannot show "
        "them. A batch is what a system was asked or chose to run at once."
    )
    for model in section.models:
        yield Heading(3, section.title(f"Summary of {model}"))
        rows = section.of_model(model)
        for workload in dict.fromkeys(row.workload.name for row in rows):
            yield Heading(4, section.title(f"{workload}, {model}"))
            yield workload_table([row for row in rows if row.workload.name == workload])


def _accuracy_table(section: Section, model: str) -> Table:
    lines = []
    for peer in section.record.peers:
        # A score without its interval rests on too few questions to tell anything.
        if peer.model != model or peer.accuracy is None or peer.accuracy.f1_low is None:
            continue
        key = (peer.model, peer.system, peer.variant)
        scored, equal, difference = peer.accuracy, section.shares.get(key), section.accuracy.get(key)
        low, high = scored.f1_low, scored.f1_high
        ends = "" if low is None or high is None else f" [{low:.1f}, {high:.1f}]"
        lines.append(
            (
                peer.name,
                f"{scored.questions:,}",
                share_cell(equal) + _interval(equal),
                NONE if equal is None else equal.reference,
                f"{scored.exact:.2f}",
                f"{scored.f1:.2f}{ends}",
                NONE if difference is None else f"{difference.exact:+.2f}",
                NONE if difference is None else f"{difference.f1:+.2f}",
            )
        )
    headers = ("System", "questions", "equal answers", "with", "EM", "F1", "Δ EM", "Δ F1")
    return without_empty_columns(Table(headers=headers, rows=lines))


def _interval(equal: EqualAnswers | None) -> str:
    if equal is None or equal.is_reference:
        return ""
    low, high = equal.interval
    return f" [{100 * low:.1f}, {100 * high:.1f}]"
