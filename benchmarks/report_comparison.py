"""The report's comparison: who took how long, how many times as long, and how accurate the answers were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fastspan.benchmarks.report_accuracy import Difference
from fastspan.benchmarks.report_document import Block, Figure, Heading, Paragraph, Table
from fastspan.benchmarks.report_plots import Point, scatter
from fastspan.benchmarks.report_section import Section
from fastspan.benchmarks.report_tables import Row, ratio_table, summary_table
from fastspan.benchmarks.speed_statistics import ENOUGH_ROUNDS

__all__ = ["plots", "ratios", "summary"]

_LATENCY_AT = "single-128"
_BRACKETS = (
    "Square brackets hold a 95% bootstrap interval over rounds, round ones the range of the rounds where "
    f"fewer than {ENOUGH_ROUNDS} were taken, which are too few for an interval."
)


def ratios(section: Section) -> Iterator[Block]:
    """Say how many times as fast FastSpan is as each of the others, and what was asked."""
    yield Heading(section.level, section.title("FastSpan against its peers"))
    yield Paragraph(
        "How many times as fast FastSpan answers (the peer's median time ÷ FastSpan's); above 1, FastSpan is "
        f"faster. {_BRACKETS} At workloads of many windows, each system's faster mode counts. First like "
        "against like: fp32 with fp32, lower precision with int8."
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
        f"p50 is the median. {_BRACKETS} p95 is given from 20 runs on, p99 from 100 on: fewer cannot show "
        "them. Memory is the process's peak over all workloads."
    )
    yield Paragraph(
        "Δ EM and Δ F1 are the points by which SQuAD 2.0's scores differ from PyTorch's in fp32; random "
        f"weights have none. {' '.join(_sources(section.accuracy))}"
    )
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
                y="F1 of the throughput workload's answers",
            )
            yield Figure(
                file,
                f"{model}: accuracy against latency. Systems differ in decoding as well as arithmetic.",
            )


def _sources(accuracy: Mapping[tuple[str, str], Difference]) -> list[str]:
    """A sentence for each source of accuracies: whose they are, and how much one question weighs."""
    peers: dict[tuple[str, int], dict[str, None]] = {}
    for (_, peer), found in accuracy.items():
        peers.setdefault((found.source, found.questions), {})[peer] = None
    return [
        f"{', '.join(names)}: {source}; {questions:,} questions, each worth {100 / questions:.2f} points."
        for (source, questions), names in peers.items()
    ]


def _best_throughput(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """(system, variant) → questions a second at the throughput workload, in the faster mode."""
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.workload.name == "throughput":
            key = (row.peer.system, row.peer.variant)
            found[key] = max(found.get(key, 0.0), row.questions_per_second)
    return found
