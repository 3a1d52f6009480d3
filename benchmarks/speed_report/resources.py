"""What the report says of the resources: where the time goes, start-up, memory, money, the machine's peak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastspan.benchmarks.reporting.document import (
    NONE,
    Block,
    Figure,
    Heading,
    Paragraph,
    Table,
    without_empty_columns,
)
from fastspan.benchmarks.speed_report.plots import stacked_bars
from fastspan.benchmarks.speed_report.section import Section
from fastspan.benchmarks.speed_report.tables import three_digits

__all__ = ["STAGES", "cost", "parts", "peaks", "stages", "start_up"]

STAGES = ("encode", "plan", "run", "decode", "other")
"""What FastSpan says its time goes to, in the order of a run."""


def stages(section: Section) -> Iterator[Block]:
    """Say where FastSpan's time goes."""
    staged = {
        model: [row for row in section.of_model(model) if row.peer.stages.get(row.workload.name)]
        for model in section.models
    }
    if not any(staged.values()):
        return
    yield Heading(section.level, section.title("Where FastSpan's time goes"))
    yield Paragraph(
        "Milliseconds of a run by stage: text to windows (encode), windows to batches (plan), ONNX Runtime "
        "(run), and logits to answers (decode). In latency mode, where no runs overlap. Measured after the "
        "timed rounds. A machine is never equally fast for long, so the sum may differ from the summary's "
        "median: the shares are what counts."
    )
    for model, rows in staged.items():
        if not rows:
            continue
        yield Heading(3, section.title(f"Stages of {model}, ms"))
        spent = {
            f"{row.peer.variant}, {row.workload.name}": whole_stages(row.peer.stages[row.workload.name])
            for row in rows
        }
        yield Table(
            headers=("Variant, workload", *STAGES, "share of run"),
            rows=[
                (
                    name,
                    *(f"{seconds[stage] * 1e3:.3f}" for stage in STAGES),
                    f"{seconds['run'] / sum(seconds.values()):.1%}",
                )
                for name, seconds in spent.items()
            ],
        )
        file = section.plot(f"stages-{model}")
        stacked_bars(spent, STAGES, section.folder / file, x="share of a run, %")
        yield Figure(file, f"{model}: time by stage, one run at a time.")


def whole_stages(spent: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds of each stage; older records tell the making of answers apart from decoding."""
    decode = spent["decode"] + spent.get("objects", 0.0)
    return {stage: {**spent, "decode": decode}[stage] for stage in STAGES}


def start_up(section: Section) -> Iterator[Block]:
    """Say how long each system takes to start, and what memory it comes to hold."""
    yield Heading(section.level, section.title("Start-up and memory"))
    yield Paragraph(
        "From starting the process, interpreter and imports included, until the first question could be "
        "asked; one start each, its files in the page cache or not, as it came. Memory is the most the "
        "process held over all workloads, interpreter and libraries included."
    )
    headers = (
        "System", "model", "ready after s", "loading s", "peak memory MB", "its graph MB", "memory ÷ graph",
    )  # fmt: skip
    lines = []
    for peer in section.record.peers:
        if peer.status == "measured":
            graph, memory = peer.graph_bytes, peer.memory_bytes
            lines.append(
                (
                    peer.name,
                    peer.model,
                    f"{peer.start_seconds:.2f}",
                    f"{peer.load_seconds:.2f}",
                    f"{memory / 1e6:.0f}" if memory else NONE,
                    f"{graph / 1e6:.0f}" if graph and memory else NONE,
                    f"{memory / graph:.2f}" if graph and memory else NONE,
                )
            )
    yield without_empty_columns(Table(headers=headers, rows=lines, texts=2))


def cost(section: Section) -> Iterator[Block]:
    """Say what a million questions cost."""
    lines = []
    for row in section.rows:
        if row.workload.name == "throughput":
            hours = 1e6 / row.questions_per_second / 3600
            lines.append(
                (
                    row.peer.name,
                    row.workload.model,
                    three_digits(row.questions_per_second),
                    three_digits(hours),
                    three_digits(hours * section.price_per_hour),
                )
            )
    if lines:
        yield Heading(section.level, section.title("Cost of a million questions"))
        yield Paragraph(
            f"At {section.price_per_hour:g} an hour for this machine (`--price-per-hour`; in any currency, "
            "an assumption and no offer), kept busy with the throughput workload."
        )
        headers = ("System", "model", "questions/s", "hours a million", "cost a million")
        yield Table(headers=headers, rows=lines, texts=2)


def peaks(section: Section) -> Iterator[Block]:
    """Hold every system against what the machine's arithmetic could do."""
    reached = section.record.peaks
    lines = []
    for row in section.rows:
        kind = row.peer.variant[:4]
        if kind in ("int8", "fp32") and reached.get(kind):
            speed = row.workload.flops / row.latency.median.estimate
            lines.append(
                (
                    row.peer.name,
                    row.workload.model,
                    row.workload.name,
                    f"{speed / 1e9:.0f}",
                    f"{reached[kind] / 1e9:.0f}",
                    f"{speed / reached[kind]:.0%}",
                )
            )
    if lines:
        found = ", ".join(f"{kind} {value / 1e9:.0f} Gop/s" for kind, value in reached.items())
        yield Heading(section.level, section.title("Share of the machine's peak"))
        yield Paragraph(
            f"Bare matrix products in ONNX Runtime reached {found} in the same session, the better of "
            "once before and once after everything else. A share counts the encoder's matrix products only, "
            "against the whole time from text to answer."
        )
        headers = ("System", "model", "workload", "Gop/s", "peak Gop/s", "share")
        yield Table(headers=headers, rows=lines, texts=3)


def parts(section: Section) -> Iterator[Block]:
    """Give the engine's parts on their own."""
    if section.record.parts:
        yield Heading(section.level, section.title("Parts of the engine"))
        yield Paragraph(
            "Measured with pytest-benchmark on the bundled checkpoint, against the baseline before."
        )
        table = Table(
            headers=("Part", "median µs", "IQR µs", "rounds", "baseline µs", "change"),
            rows=[
                (
                    part.name,
                    f"{1e6 * part.median:.1f}",
                    f"{1e6 * part.iqr:.1f}",
                    str(part.rounds),
                    NONE if part.baseline is None else f"{1e6 * part.baseline:.1f}",
                    NONE if part.baseline is None else f"{part.median / part.baseline - 1:+.0%}",
                )
                for part in section.record.parts
            ],
        )
        yield without_empty_columns(table)
