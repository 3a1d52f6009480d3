"""The speed reports, of what was measured and nothing else: one a kind of hardware, and a comparison.

Every kind of hardware has a folder with its record, its samples, ``report.md`` and ``report.html``. The
folder above has the comparison, in files of the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import Block, Heading, markdown
from fastspan.benchmarks.reporting.files import make_folder, write_text
from fastspan.benchmarks.reporting.html import to_html
from fastspan.benchmarks.reporting.plot_style import Write, write_figure
from fastspan.benchmarks.speed.answers import Device
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.comparison import headline, ratios
from fastspan.benchmarks.speed_report.conditions import absent, again, conditions, opening
from fastspan.benchmarks.speed_report.gpu import utilization
from fastspan.benchmarks.speed_report.hardware import hardware
from fastspan.benchmarks.speed_report.resources import cost, parts, peaks, stages, start_up
from fastspan.benchmarks.speed_report.section import PLOTS, Section
from fastspan.benchmarks.speed_report.summary import accuracy, summary
from fastspan.benchmarks.speed_report.trade_offs import trade_offs
from fastspan.errors import DataError

__all__ = ["write_comparison", "write_hardware_report", "write_speed_reports"]

_DEVICES: tuple[Device, ...] = ("cpu", "gpu")
# In the order of a section.
_SUBJECTS = (
    opening, headline, ratios, trade_offs, accuracy, summary, stages, start_up, cost, peaks, utilization,
    parts, absent, conditions,
)  # fmt: skip


def write_speed_reports(root: Path, *, price_per_hour: float | None) -> list[Path]:
    """Write the report of every kind of hardware under a folder, and the comparison.

    Args:
        root: The folder whose folders hold records and samples.
        price_per_hour: Price of the machine, in any currency; None: what is assumed of its kind.

    Returns:
        The files, those of the comparison first.

    Raises:
        DataError: There is no measurement, or a file is malformed.
        MissingDependency: matplotlib or markdown-it-py is not installed.
    """
    kinds = [path.parent for device in _DEVICES for path in sorted(root.glob(f"*/speed-{device}.json"))]
    if not kinds:
        raise DataError(f"{root} holds no measurement: run `make bench` first.")
    reports = [
        path
        for folder in dict.fromkeys(kinds)
        for path in write_hardware_report(folder, price_per_hour=price_per_hour)
    ]
    return [*write_comparison(root), *reports]


def write_hardware_report(
    folder: Path, *, price_per_hour: float | None, write_plot: Write = write_figure
) -> list[Path]:
    """Write the report on what lies in the folder of one kind of hardware.

    Args:
        folder: Where the records and samples lie, and where the report is put.
        price_per_hour: Price of the machine, in any currency; None: what is assumed of its kind.
        write_plot: Writes a plot.

    Returns:
        The files.

    Raises:
        DataError: There is no measurement, or a file is malformed.
        MissingDependency: matplotlib or markdown-it-py is not installed.
    """
    found = _measured(folder)
    if not found:
        raise DataError(f"{folder} holds no measurement: run `make bench` first.")
    make_folder(folder / PLOTS)
    blocks: list[Block] = [Heading(1, f"FastSpan's speed on {folder.name}")]
    for measured in found:
        if measured.record.device == "gpu":
            blocks.append(Heading(2, "GPU"))
        blocks += _blocks(Section.of(measured, folder, price_per_hour, write_plot))
    return _write(folder, [*blocks, *again(found[0])])


def write_comparison(root: Path) -> list[Path]:
    """Write the report that compares all kinds of hardware under a folder.

    Raises:
        DataError: A file is malformed.
        MissingDependency: matplotlib or markdown-it-py is not installed.
    """
    folders = [path for path in sorted(root.iterdir()) if path.is_dir()]
    sections = [Section.of(measured, folder, None) for folder in folders for measured in _measured(folder)]
    return _write(root, [Heading(1, "FastSpan: speed"), *hardware(sections, root)])


def _measured(folder: Path) -> list[Measured]:
    return [
        Measured.read(folder, device) for device in _DEVICES if (folder / f"speed-{device}.json").is_file()
    ]


def _blocks(section: Section) -> Iterator[Block]:
    for subject in _SUBJECTS:
        yield from subject(section)


def _write(folder: Path, blocks: Sequence[Block]) -> list[Path]:
    paths = [folder / "report.md", folder / "report.html"]
    text = markdown(blocks)
    write_text(paths[0], text)
    write_text(paths[1], to_html(text, folder, ours=OURS))
    return paths
