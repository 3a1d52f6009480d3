"""One measurement on its way into the report: its rows, and where its section of the report stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fastspan.benchmarks.reporting.plot_style import Write, write_figure
from fastspan.benchmarks.speed.answers import Device
from fastspan.benchmarks.speed.record import SpeedRecord
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.accuracy import Difference, ParityFigures, differences, parity_figures
from fastspan.benchmarks.speed_report.equal_answers import Shares, equal_answers
from fastspan.benchmarks.speed_report.tables import Row, rows_of

__all__ = ["PLOTS", "Section"]

PLOTS = "plots"
"""The folder of the plots, within that of the report."""

# Of a machine with two cores, and of one with a large GPU: orders of magnitude, for costs to have one.
_PRICES: Mapping[Device, float] = MappingProxyType({"cpu": 0.10, "gpu": 3.00})


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is said of one measurement.

    Attributes:
        measured: The record with its samples.
        folder: Where the report is put, and its plots under it.
        price_per_hour: Price of the machine, in any currency.
        rows: Every system at every workload it was measured at.
        shares: The systems' equal answers, where they were compared.
        accuracy: (model, system, variant) → how far its accuracy is from PyTorch's, where that is known.
        parity: What parity reports say of FastSpan's variants.
        write_plot: Writes a plot.
    """

    measured: Measured
    folder: Path
    price_per_hour: float
    rows: tuple[Row, ...]
    shares: Shares
    accuracy: Mapping[tuple[str, str, str], Difference]
    parity: tuple[ParityFigures, ...]
    write_plot: Write

    @classmethod
    def of(
        cls, measured: Measured, folder: Path, price_per_hour: float | None, write_plot: Write = write_figure
    ) -> Section:
        """Compute what the section's parts share.

        Args:
            measured: The record with its samples.
            folder: Where the report is put.
            price_per_hour: Price of the machine; None: what is assumed of its kind.
            write_plot: Writes a plot.

        Raises:
            DataError: A parity report in the folder or the one above is malformed.
        """
        return cls(
            measured=measured,
            folder=folder,
            price_per_hour=_PRICES[measured.record.device] if price_per_hour is None else price_per_hour,
            rows=tuple(rows_of(measured)),
            shares=equal_answers(measured),
            accuracy=differences(measured.record.peers),
            parity=tuple(parity_figures(measured.record, (folder, folder.parent))),
            write_plot=write_plot,
        )

    @property
    def record(self) -> SpeedRecord:
        """Everything about the measurement but its samples."""
        return self.measured.record

    @property
    def level(self) -> int:
        """The level of its headings: under "GPU", which is one itself, one lower."""
        return 2 if self.record.device == "cpu" else 3

    def title(self, text: str) -> str:
        """Return a heading that no other measurement's section has."""
        return text if self.record.device == "cpu" else f"{text} (GPU)"

    @property
    def models(self) -> list[str]:
        """The models that were measured, those whose answers mean something first."""
        trained = {peer.model for peer in self.record.peers if peer.accuracy is not None}
        return sorted(self.record.models, key=lambda model: model not in trained)

    def of_model(self, model: str) -> list[Row]:
        """Return the rows of one model."""
        return [row for row in self.rows if row.workload.model == model]

    def plot(self, name: str) -> str:
        """Return the path of a plot's file, relative to the folder."""
        return f"{PLOTS}/{self.record.device}-{name}.svg"
