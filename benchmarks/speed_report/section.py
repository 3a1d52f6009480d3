"""One measurement on its way into the report: its rows, and where its section of the report stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastspan.benchmarks.speed.record import Measured, SpeedRecord
from fastspan.benchmarks.speed_report.accuracy import Difference, Parity, differences, parities
from fastspan.benchmarks.speed_report.tables import Row, rows_of

__all__ = ["PLOTS", "Section"]

PLOTS = "plots"
"""The folder of the plots, within that of the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is said of one measurement.

    Attributes:
        measured: The record with its samples.
        folder: Where the report is put, and its plots under it.
        price_per_hour: Price of the machine, in any currency.
        rows: Every system at every workload it was measured at.
        accuracy: (model, system, variant) → how far its accuracy is from PyTorch's, where that is known.
        parity: What parity reports say of FastSpan's variants.
    """

    measured: Measured
    folder: Path
    price_per_hour: float
    rows: tuple[Row, ...]
    accuracy: Mapping[tuple[str, str, str], Difference]
    parity: tuple[Parity, ...]

    @classmethod
    def of(cls, measured: Measured, folder: Path, price_per_hour: float) -> Section:
        """Compute what the section's parts share.

        Raises:
            DataError: A parity report in the folder is malformed.
        """
        return cls(
            measured=measured,
            folder=folder,
            price_per_hour=price_per_hour,
            rows=tuple(rows_of(measured)),
            accuracy=differences(measured.record.peers),
            parity=tuple(parities(measured.record, folder)),
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

    def of_model(self, model: str) -> list[Row]:
        """Return the rows of one model."""
        return [row for row in self.rows if row.workload.model == model]

    def plot(self, name: str) -> str:
        """Return the path of a plot's file, relative to the folder."""
        return f"{PLOTS}/{self.record.device}-{name}.svg"
