"""What the report says of the resources: where the time goes, start-up, memory, money, the machine's peak."""

from __future__ import annotations

from collections.abc import Iterator

from fastspan.benchmarks.reporting.document import Block, Figure, Heading, Paragraph, Table
from fastspan.benchmarks.speed_report.plots import stacked_bars
from fastspan.benchmarks.speed_report.section import Section
from fastspan.benchmarks.speed_report.tables import STAGES, cost_table, peak_table, stage_table, start_table

__all__ = ["cost", "parts", "peaks", "stages", "start_up"]


def stages(section: Section) -> Iterator[Block]:
    """Say where FastSpan's time goes."""
    table = stage_table(section.rows)
    if not table.rows:
        return
    yield Heading(section.level, section.title("Where FastSpan's time goes"))
    yield Paragraph(
        "Milliseconds of a run by stage, the stages' own functions wrapped in clocks: text to windows, "
        "windows to batches, ONNX Runtime, the search for spans, and making answers of them. In latency "
        "mode only: where runs overlap, stages do not add up to what passes on a clock. Measured after the "
        "timed rounds, so on a machine that is never equally fast for long the sum may differ from the "
        "summary's median: the shares are what counts."
    )
    bars = {
        f"{row.workload.model} {row.peer.variant}, {row.workload.name}": spent
        for row in section.rows
        if (spent := row.peer.stages.get(row.workload.name))
    }
    if bars:
        file = section.plot("stages")
        stacked_bars(bars, STAGES, section.folder / file, x="share of a run, %")
        yield Figure(file, "Time by stage, one run at a time.")
    for model in section.record.models:
        yield Heading(3, section.title(f"Stages of {model}, ms"))
        yield stage_table(section.of_model(model))


def start_up(section: Section) -> Iterator[Block]:
    """Say how long each system takes to start, and what memory it comes to hold."""
    yield Heading(section.level, section.title("Start-up and memory"))
    yield Paragraph(
        "From starting the process, interpreter and imports included, until the first question could be "
        "asked; one start each, its files in the page cache or not, as it came. Memory is the most the "
        "process held, interpreter and libraries included."
    )
    yield start_table(section.record.peers)


def cost(section: Section) -> Iterator[Block]:
    """Say what a million questions cost."""
    table = cost_table(section.rows, section.price_per_hour)
    if table.rows:
        yield Heading(section.level, section.title("Cost of a million questions"))
        yield Paragraph(
            f"At {section.price_per_hour:g} an hour for this machine (`--price-per-hour`; in any currency, "
            "an assumption and no offer), kept busy with the throughput workload."
        )
        yield table


def peaks(section: Section) -> Iterator[Block]:
    """Hold every system against what the machine's arithmetic could do."""
    table = peak_table(section.rows, section.record.peaks)
    if table.rows:
        reached = ", ".join(f"{kind} {value / 1e9:.0f} Gop/s" for kind, value in section.record.peaks.items())
        yield Heading(section.level, section.title("Share of the machine's peak"))
        yield Paragraph(
            f"Bare matrix products in ONNX Runtime reached {reached} in the same session, the better of "
            "once before and once after everything else. A share counts the encoder's matrix products only, "
            "against the whole time from text to answer."
        )
        yield table


def parts(section: Section) -> Iterator[Block]:
    """Give the engine's parts on their own."""
    if section.record.parts:
        yield Heading(section.level, section.title("Parts of the engine"))
        yield Paragraph(
            "Measured with pytest-benchmark on the bundled checkpoint, against the baseline before."
        )
        yield Table(
            headers=("Part", "median µs", "IQR µs", "rounds", "baseline µs", "change"),
            rows=[
                (
                    part.name,
                    f"{1e6 * part.median:.1f}",
                    f"{1e6 * part.iqr:.1f}",
                    str(part.rounds),
                    "–" if part.baseline is None else f"{1e6 * part.baseline:.1f}",
                    "–" if part.baseline is None else f"{part.median / part.baseline - 1:+.0%}",
                )
                for part in section.record.parts
            ],
        )
