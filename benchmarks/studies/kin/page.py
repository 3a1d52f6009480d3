"""What was measured of each family, as a page."""

from __future__ import annotations

from collections.abc import Sequence

from fastspan.benchmarks.reporting.document import NONE, Block, Heading, Paragraph, Table
from fastspan.benchmarks.studies.kin.families import KIN
from fastspan.benchmarks.studies.kin.measuring import Measured

__all__ = ["page", "table"]


def table(found: Sequence[Measured]) -> Table:
    """Lay results out, a row a family."""
    lacks = {family.name: family.lacks for family in KIN}
    rows: list[tuple[str, ...]] = []
    for each in found:
        if each.fault:
            rows.append((each.name, NONE, NONE, NONE, NONE, NONE, NONE, each.fault))
            continue
        rows.append(
            (
                each.name,
                f"{each.parameters / 1e6:.0f} M, {each.layers} layers",
                *(f"{each.differences[name]:.1e}" for name in ("fp32", "int8")),
                *(f"{1000 * each.seconds[name]:.1f} ms" for name in ("PyTorch fp32", "fp32", "int8")),
                lacks[each.name],
            )
        )
    header = (
        *("model", "size", "fp32: difference", "int8: difference", "PyTorch fp32", "fp32", "int8"),
        "to be as fast as BERT it would need",
    )
    return Table(header, rows, texts=2)


def page(
    found: Sequence[Measured], length: int, layers: int | None, threads: int, machine: dict[str, str]
) -> list[Block]:
    """Lay the page out.

    Args:
        found: Each family's results.
        length: Tokens of the window.
        layers: How many layers each had; None: as many as published.
        threads: Threads that computed.
        machine: What it ran on.
    """
    cut = f" A trial: every model has {layers} layers only." if layers is not None else ""
    return [
        Heading(1, "Kin of BERT through the traced route"),
        Paragraph(
            f"Random weights, published models' geometry; one window of {length} tokens, {threads} "
            "threads, medians of runs in turns. A difference is the largest of a logit from PyTorch's, in "
            f"standard deviations of PyTorch's logits.{cut} Written by "
            "`python -m fastspan.benchmarks.studies.kin`."
        ),
        table(found),
        Heading(2, "Environment"),
        Table(("", ""), list(machine.items()), texts=2),
    ]
