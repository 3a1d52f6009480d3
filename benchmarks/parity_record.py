"""What a parity report says, as data: the figures of every variant, its gate, and the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fastspan.benchmarks.parity_figures import Demand, VariantParity

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
        command: What made the report.
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
        """Whether every variant passed its gate."""
        return all(demand.passed for demands in self.demands.values() for demand in demands)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(
            {"passed": self.passed, **asdict(self)}, indent=2, ensure_ascii=False, allow_nan=False
        )
