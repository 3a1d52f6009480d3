"""The speed report: ``report.md`` and ``report.html`` from what was measured, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import Block, Code, Heading, Paragraph, markdown
from fastspan.benchmarks.reporting.files import make_folder, write_text
from fastspan.benchmarks.reporting.html import to_html
from fastspan.benchmarks.speed.record import Measured
from fastspan.benchmarks.speed_report.comparison import plots, ratios, summary
from fastspan.benchmarks.speed_report.conditions import absent, again, conditions, opening
from fastspan.benchmarks.speed_report.gpu import utilization
from fastspan.benchmarks.speed_report.resources import cost, parts, peaks, stages, start_up
from fastspan.benchmarks.speed_report.section import PLOTS, Section
from fastspan.errors import DataError

__all__ = ["write_report"]

# In the order of a section.
_SUBJECTS = (
    opening, ratios, summary, plots, stages, start_up, cost, peaks, utilization, parts, absent, conditions,
)  # fmt: skip


def write_report(folder: Path, *, price_per_hour: float) -> list[Path]:
    """Write the report on what lies in a folder of results.

    Args:
        folder: Where the records and samples lie, and where the report is put.
        price_per_hour: Price of the machine, in any currency.

    Returns:
        The files.

    Raises:
        DataError: There is no measurement, or a file is malformed.
        MissingDependency: matplotlib is not installed.
    """
    cpu = Measured.read(folder, "cpu") if (folder / "speed-cpu.json").is_file() else None
    gpu = Measured.read(folder, "gpu") if (folder / "speed-gpu.json").is_file() else None
    if cpu is None and gpu is None:
        raise DataError(f"{folder} holds no measurement: run `make bench` first.")
    make_folder(folder / PLOTS)
    blocks: list[Block] = [Heading(1, "FastSpan: speed")]
    if cpu is not None:
        blocks += _blocks(Section.of(cpu, folder, price_per_hour))
    blocks.append(Heading(2, "GPU"))
    if gpu is None:
        blocks += [
            Paragraph(
                "No GPU was at hand when this was measured, so this section is empty. On a machine with an "
                "NVIDIA GPU and its driver, one command fills it:"
            ),
            Code("make bench-gpu"),
        ]
    else:
        blocks += _blocks(Section.of(gpu, folder, price_per_hour))
    if cpu is not None:
        blocks += again(cpu)
    paths = [folder / "report.md", folder / "report.html"]
    write_text(paths[0], markdown(blocks))
    write_text(paths[1], to_html(blocks, folder, ours=OURS))
    return paths


def _blocks(section: Section) -> Iterator[Block]:
    for subject in _SUBJECTS:
        yield from subject(section)
