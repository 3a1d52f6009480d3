"""The report's comparison: who took how long, how many times as long, and how accurate the answers were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastspan.benchmarks.reporting.document import Block, Figure, Heading, Paragraph, Table
from fastspan.benchmarks.speed.spread import ENOUGH_ROUNDS
from fastspan.benchmarks.speed_report.plots import Point, scatter
from fastspan.benchmarks.speed_report.section import Section
from fastspan.benchmarks.speed_report.tables import Row, ratio_table, summary_table

__all__ = ["BRACKETS", "plots", "ratios", "summary"]

_LATENCY_AT = "single-128"
BRACKETS = (
    "Square brackets hold a 95% bootstrap interval over rounds, round ones the range of the rounds where "
    f"fewer than {ENOUGH_ROUNDS} were taken, which are too few for an interval."
)
"""What the tables' brackets mean, for people."""


def ratios(section: Section) -> Iterator[Block]:
    """Say how many times as fast FastSpan is as each of the others, and what was asked."""
    yield Heading(section.level, section.title("FastSpan against its peers"))
    yield Paragraph(
        "How many times as fast FastSpan answers: the peer's time ÷ FastSpan's in each round, and the median "
        f"of these; above 1, FastSpan is faster. {BRACKETS} At "
        "workloads of many windows, each system's faster mode counts. First like against like: fp32 with "
        "fp32, lower precision with int8."
    )
    like = None if section.record.device == "cpu" else "fp16 CUDA"
    for model, title in section.record.models.items():
        rows = section.of_model(model)
        yield Heading(3, section.title(f"{model}: {title}"))
        yield ratio_table(rows, ours=like)
        if like is None:
            yield Paragraph("And all of them against int8, which FastSpan runs by default where it pays:")
            yield ratio_table(rows, ours="int8")
    yield Table(
        headers=("Workload", "is", "model", "questions", "windows", "tokens"),
        rows=[
            (w.name, w.title, w.model, str(w.questions), str(w.windows), f"{w.tokens:,}")
            for w in section.record.workloads
        ],
        texts=3,
    )


def summary(section: Section) -> Iterator[Block]:
    """Give every system's figures at every workload."""
    yield Heading(section.level, section.title("Summary"))
    yield Paragraph(
        f"p50 is the median. {BRACKETS} p95 is given from 20 runs on, p99 from 100 on: fewer cannot show "
        "them. Memory is the process's peak over all workloads."
    )
    yield from _accuracy(section)
    for model in section.record.models:
        yield Heading(3, section.title(f"Summary of {model}"))
        yield summary_table(section.of_model(model), section.accuracy)


def plots(section: Section) -> Iterator[Block]:
    """Plot latency against throughput, and accuracy against latency."""
    for model in section.record.models:
        latency = {row.peer.name: row for row in section.of_model(model) if row.workload.name == _LATENCY_AT}
        served = _best_throughput(section.of_model(model))
        points = [
            Point(
                system=row.peer.system,
                label=row.peer.variant,
                x=1e3 * row.latency.median.estimate,
                y=served[row.peer.system, row.peer.variant],
            )
            for row in latency.values()
            if (row.peer.system, row.peer.variant) in served
        ]
        if points:
            file = section.plot(f"latency-throughput-{model}")
            scatter(
                points,
                section.folder / file,
                x="median latency of one question of 128 tokens, ms",
                y="questions/s",
                log_y=True,
            )
            yield Figure(file, f"{model}: latency against throughput. Better is further up and to the left.")
        scored = [
            Point(
                system=row.peer.system,
                label=row.peer.variant,
                x=1e3 * row.latency.median.estimate,
                y=row.peer.accuracy.f1,
            )
            for row in latency.values()
            if row.peer.accuracy is not None
        ]
        if scored:
            file = section.plot(f"accuracy-latency-{model}")
            scatter(
                scored,
                section.folder / file,
                x="median latency of one question of 128 tokens, ms",
                y="F1",
            )
            yield Figure(
                file,
                f"{model}: accuracy against latency. Systems differ in decoding as well as arithmetic.",
            )


def _accuracy(section: Section) -> Iterator[Block]:
    """Say what the columns of accuracy mean, and what is known of FastSpan's on more questions."""
    asked = {found.questions for found in section.accuracy.values()}
    if asked:
        weight = " or ".join(f"{100 / questions:.2f}" for questions in sorted(asked))
        count = " or ".join(f"{questions:,}" for questions in sorted(asked))
        yield Paragraph(
            f"Δ EM and Δ F1 are the points by which SQuAD 2.0's scores of a system's answers to {count} "
            "questions, asked off the clock, differ from those of transformers' pipeline in fp32. One "
            f"question weighs {weight} points, and systems decode by rules of their own: this shows that all "
            "do the same work, and no more. Random weights have no accuracy."
        )
    if section.parity:
        yield Paragraph(
            "FastSpan against PyTorch on more questions, both sides decoded alike, from `make parity`. "
            "(Reports on SQuAD's questions quote them and are not kept with the project.)"
        )
        yield Table(
            headers=("Model", "Variant", "questions", "Δ EM", "Δ F1", "report"),
            rows=[
                (
                    found.model,
                    found.variant,
                    f"{found.difference.questions:,}",
                    f"{found.difference.exact:+.2f}",
                    f"{found.difference.f1:+.2f}",
                    f"`{found.file}`",
                )
                for found in section.parity
            ],
            texts=2,
        )


def _best_throughput(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """(system, variant) → questions a second at the throughput workload, in the faster mode."""
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.workload.name == "throughput":
            key = (row.peer.system, row.peer.variant)
            found[key] = max(found.get(key, 0.0), row.questions_per_second)
    return found
