"""How one graph compares with its reference, and what the checks of a variant's graphs come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastspan.bundle.variants import Graph, Parity, Variant
from fastspan.export.verification.comparison import EXPORT_GATES, Comparison

__all__ = ["GraphCheck", "Reference", "misses", "parity_of"]

Reference = Literal["pytorch", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCheck:
    """How one graph compares with its reference.

    Attributes:
        variant: The variant it belongs to.
        graph: The graph.
        reference: What it was compared with: the checkpoint in PyTorch, or the bundle's fp32 graph.
        runs_here: Whether a CPU runs it; if not, it was left alone.
        comparison: How it differs; None where it does not run here or is itself the reference.
    """

    variant: str
    graph: Graph
    reference: Reference
    runs_here: bool
    comparison: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether it passes its gate; a graph that was not compared has missed none."""
        return self.comparison is None or EXPORT_GATES[self.variant].passed(self.comparison)

    @property
    def met(self) -> bool:
        """Whether what was measured meets its gate, be it on too few questions to be sure of it."""
        return self.comparison is None or EXPORT_GATES[self.variant].met(self.comparison)

    def to_dict(self) -> dict[str, Any]:
        """Return the check as built-in types, ready for JSON."""
        found = self.comparison
        return {
            "variant": self.variant,
            "graph": self.graph.file,
            "reference": self.reference,
            "runs_here": self.runs_here,
            "gate": str(EXPORT_GATES[self.variant]),
            "passed": self.passed if found is not None else None,
            "largest_difference": found.largest_difference if found is not None else None,
            "equal_answers": found.equal_answers if found is not None else None,
            "surely_equal": found.surely_equal if found is not None else None,
            "questions": found.questions if found is not None else 0,
            "windows": found.windows if found is not None else 0,
        }


def parity_of(checks: Sequence[GraphCheck]) -> Parity | None:
    """The worst of what a variant's graphs gave; None where none of them was compared."""
    found = [check.comparison for check in checks if check.comparison is not None]
    if not found:
        return None
    gate = EXPORT_GATES[checks[0].variant]
    return Parity(
        reference=checks[0].reference,
        questions=found[0].questions,
        windows=found[0].windows,
        max_logit_difference=max(comparison.largest_difference for comparison in found),
        equal_answers=min(comparison.equal_answers for comparison in found),
        gate=str(gate),
        passed=all(check.passed for check in checks),
        provider="CPUExecutionProvider",
    )


def misses(variants: Mapping[str, Variant]) -> list[str]:
    """Say of every variant that missed its gate by how much, for people."""
    return [
        f"{name} has {variant.parity.equal_answers:.1%} equal answers and a largest logit difference of "
        f"{variant.parity.max_logit_difference:.2g} over {variant.parity.questions} questions "
        f"(its gate: {variant.parity.gate})"
        for name, variant in variants.items()
        if variant.parity is not None and not variant.parity.passed
    ]
