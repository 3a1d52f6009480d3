"""What a parity report says, as data: the figures of every variant, its gate, and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastspan.benchmarks.parity.figures import VariantParity
from fastspan.benchmarks.parity.gates import FEWEST_FOR_F1, Demand

__all__ = ["ParityReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Every variant of a bundle against PyTorch.

    Attributes:
        name: The bundle's name.
        data: The data's name.
        data_sha256: SHA-256 of the data.
        questions: How many questions were asked.
        unanswerable: How many of them have no answer.
        windows: How many windows they make.
        threshold: The no-answer threshold that the gates judge at.
        exact: PyTorch's exact match there, in percent.
        f1: PyTorch's F1 there, in percent.
        reference_seconds: How long PyTorch took, loading included.
        variants: The variants' figures.
        demands: Variant → what its gate asks, and what was found.
        environment: What it was measured on, name → value.
        command: The command line that made the report.
    """

    name: str
    data: str
    data_sha256: str
    questions: int
    unanswerable: int
    windows: int
    threshold: float
    exact: float
    f1: float
    reference_seconds: float
    variants: tuple[VariantParity, ...]
    demands: Mapping[str, tuple[Demand, ...]]
    environment: Mapping[str, str]
    command: str

    @property
    def passed(self) -> bool:
        """Whether no variant missed its gate."""
        return not self.missed

    @property
    def missed(self) -> tuple[str, ...]:
        """What was missed, for people: the variant, what was wanted, what was found."""
        return tuple(
            f"{name}: {demand.wanted}, found {demand.found}"
            for name, demands in self.demands.items()
            for demand in demands
            if demand.passed is False
        )

    @property
    def unjudged(self) -> str:
        """A sentence on what too few questions were asked to judge; empty where all was judged."""
        names = [
            name for name, demands in self.demands.items() if any(demand.passed is None for demand in demands)
        ]
        if not names:
            return ""
        return (
            f"F1 of {' and '.join(names)} not judged: too few questions "
            f"({self.questions:,} of the {FEWEST_FOR_F1:,} it takes)."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as built-in types."""
        return {"passed": self.passed, **asdict(self)}
