"""The report that compares kinds of hardware: FastSpan's times on each, and its peers' beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import (
    NONE,
    Block,
    Code,
    Figure,
    Heading,
    Paragraph,
    Table,
    without_empty_columns,
)
from fastspan.benchmarks.reporting.files import make_folder
from fastspan.benchmarks.speed.answers import Device
from fastspan.benchmarks.speed_report.comparison import MARK, default_of
from fastspan.benchmarks.speed_report.equal_answers import share_cell
from fastspan.benchmarks.speed_report.plots import Bar, ranked_bars
from fastspan.benchmarks.speed_report.section import PLOTS, Section
from fastspan.benchmarks.speed_report.tables import faster_modes, like_for_like, ratio, three_digits

__all__ = ["hardware"]

# The package of ONNX Runtime that a record's environment names.
_RUNTIMES: Mapping[Device, str] = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu"}
_COMPARED_AT = "single-128"


def hardware(sections: Sequence[Section], root: Path) -> Iterator[Block]:
    """Compare what was measured on each kind of hardware.

    Args:
        sections: One a measurement, each in the folder of its kind of hardware.
        root: The folder of the report.
    """
    yield Paragraph(
        "Every kind of hardware that was measured has a report of its own, which the first table links. "
        "Times are medians from text to answer. Times of two machines were not taken side by side: machines, "
        "versions and what else ran differ, so compare ratios before times."
    )
    yield from _headline(sections, root)
    yield Heading(2, "What was measured")
    yield _measured(sections)
    models = dict.fromkeys(model for section in sections for model in section.models)
    yield Heading(2, "FastSpan on each kind of hardware")
    yield Paragraph(
        "Milliseconds of one question of so many tokens; questions a second where many are asked at once, in "
        "the faster mode. **Bold**: what FastSpan runs there by default."
    )
    for model in models:
        yield Heading(3, model)
        yield _own_times(sections, model)
    yield Heading(2, "FastSpan against its peers on each")
    yield Paragraph(
        f"The peer's time ÷ FastSpan's for one question of 128 tokens ({_COMPARED_AT}), fp32 with fp32 and "
        "lower precision with lower precision; above 1, FastSpan is faster. Behind a ratio stands the peer's "
        f"share of answers equal to its own fp32, where it was measured. {MARK}"
    )
    for model in models:
        yield Heading(3, f"Peers on {model}")
        yield _ratios(sections, model)
    if not any(section.record.device == "gpu" for section in sections):
        yield Heading(2, "GPU")
        yield Paragraph(
            "No GPU was at hand for any of these measurements. On a machine with an NVIDIA GPU and its "
            "driver, one command measures it:"
        )
        yield Code("make bench-gpu")
    yield Heading(2, "Measure yours")
    yield Paragraph(
        "`make bench` files what it measures in a folder named after this machine's kind of CPU and writes "
        "both reports again."
    )
    yield Code("make bench")


def _name(section: Section) -> str:
    return section.folder.name


def _headline(sections: Sequence[Section], root: Path) -> Iterator[Block]:
    """A plot of what FastSpan runs by default on each kind of hardware, where there is more than one."""
    model = next((model for section in sections for model in section.models), None)
    bars = []
    for section in sections:
        default = model and default_of(section, model)
        if model and default:
            row = faster_modes(section.of_model(model), _COMPARED_AT).get((OURS, default))
            if row is not None:
                median = row.latency.median
                bars.append(
                    Bar(
                        label=f"{_name(section)}, {default}",
                        value=1e3 * median.estimate,
                        low=1e3 * median.low,
                        high=1e3 * median.high,
                        ours=True,
                    )
                )
    if len(bars) > 1:
        make_folder(root / PLOTS)
        file = f"{PLOTS}/hardware.svg"
        ranked_bars(
            bars, root / file, x="median latency, ms (shorter is better)", write=sections[0].write_plot
        )
        yield Figure(file, f"{model}: one question of 128 tokens, in what FastSpan runs there by default.")


def _measured(sections: Sequence[Section]) -> Table:
    lines = []
    for section in sections:
        record = section.record
        gpu = record.environment.get("GPU", NONE) if record.device == "gpu" else NONE
        lines.append(
            (
                f"[{_name(section)}]({_name(section)}/report.md)",
                record.cpu.name,
                " ".join(record.cpu.instruction_sets) or "unknown",
                str(record.cpu.cores),
                gpu,
                "quick" if record.quick else "full",
                record.environment.get("measured", NONE)[:10],
                record.environment.get(_RUNTIMES[record.device], NONE),
            )
        )
    headers = ("Hardware", "CPU", "instruction sets", "cores", "GPU", "run", "measured", "onnxruntime")
    return without_empty_columns(Table(headers=headers, rows=lines, texts=3))


def _own_times(sections: Sequence[Section], model: str) -> Table:
    workloads = list(
        dict.fromkeys(row.workload.name for section in sections for row in section.of_model(model))
    )
    lines = []
    for section in sections:
        rows = section.of_model(model)
        best = {name: faster_modes(rows, name) for name in workloads}
        variants = dict.fromkeys(row.peer.variant for row in rows if row.peer.system == OURS)
        for variant in variants:
            found = [best[name].get((OURS, variant)) for name in workloads]
            cells = [
                NONE
                if row is None
                else f"{three_digits(1e3 * row.latency.median.estimate)} ms"
                if row.workload.questions == 1
                else f"{three_digits(row.questions_per_second)}/s"
                for row in found
            ]
            name = f"**{variant}**" if variant == default_of(section, model) else variant
            lines.append((_name(section), name, *cells))
    return without_empty_columns(Table(headers=("Hardware", "variant", *workloads), rows=lines, texts=2))


def _ratios(sections: Sequence[Section], model: str) -> Table:
    columns = []
    for section in sections:
        rows = section.of_model(model)
        best = faster_modes(rows, _COMPARED_AT)
        against = like_for_like(rows)
        cells = {}
        for (system, variant), row in best.items():
            if system != OURS:
                share = share_cell(section.shares.get((model, system, variant)))
                found = ratio(row, best.get((OURS, against(variant))))
                cells[f"{system} {variant}"] = found if share == NONE else f"{found}, {share}"
        columns.append(cells)
    peers = dict.fromkeys(peer for cells in columns for peer in cells)
    return without_empty_columns(
        Table(
            headers=("Peer", *map(_name, sections)),
            rows=[(peer, *(cells.get(peer, NONE) for cells in columns)) for peer in peers],
        )
    )
