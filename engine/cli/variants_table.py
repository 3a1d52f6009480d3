"""The variants of a bundle, and how close each came to its reference, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from fastspan.bundle.variants import Variant
from fastspan.cli.terminal import Style, megabytes, table

__all__ = ["variants_table"]

_HEADER = ("variant", "size", "reference", "questions", "largest Δ logit", "equal answers", "gate")


def variants_table(variants: Sequence[Variant], style: Style) -> str:
    """Lay out the parity that was measured when a bundle was exported, a row a variant."""
    return table(_HEADER, [_row(variant) for variant in variants], style)


def _row(variant: Variant) -> tuple[str, ...]:
    parity = variant.parity
    if parity is None:
        return (variant.name, megabytes(variant.bytes), "–", "–", "–", "–", "not compared")
    verdict = "passed" if parity.passed else "missed, loss accepted"
    return (
        variant.name,
        megabytes(variant.bytes),
        parity.reference,
        str(parity.questions),
        f"{parity.max_logit_difference:.2g}",
        f"{parity.equal_answers:.1%}",
        f"{verdict} ({parity.gate})",
    )
