"""The variants of a bundle, and how close each came to its reference, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from fastspan.bundle.strict_json import named
from fastspan.bundle.variants import Variant
from fastspan.cli.terminal import Style, megabytes, table

__all__ = ["COLUMNS", "variants_table"]

COLUMNS = "Δ logit: the largest difference of a logit; equal: the share of equal answers."
"""What the columns of the comparison say."""

_HEADER = ("variant", "size", "Δ logit", "equal", "gate")


def variants_table(variants: Sequence[Variant], style: Style) -> str:
    """Lay out the parity that was measured when a bundle was exported, a row a variant."""
    rows = table(_HEADER, [_row(variant) for variant in variants], style)
    references = {
        f"{parity.reference} on {parity.questions} questions": None
        for variant in variants
        if (parity := variant.parity) is not None
    }
    if not references:
        return rows
    compared = f"Compared with {' and '.join(references)}."
    return f"{rows}\n\n{compared}\n{COLUMNS}"


def _row(variant: Variant) -> tuple[str, ...]:
    parity = variant.parity
    if parity is None:
        return (variant.name, megabytes(variant.bytes), "–", "–", "not compared")
    verdict = "passed" if parity.passed else "missed, loss accepted"
    return (
        variant.name,
        megabytes(variant.bytes),
        f"{parity.max_logit_difference:.2g}",
        f"{parity.equal_answers:.1%}",
        f"{verdict} ({named(parity.gate)})",
    )
