"""``make figures``: the README's tables, written from the reports that hold the figures, never by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastspan.benchmarks.paths import ROOT
from fastspan.benchmarks.reporting.document import Paragraph, Table, markdown
from fastspan.benchmarks.reporting.files import write_text
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.comparison import BRACKETS, MARK, models_by_default
from fastspan.benchmarks.speed_report.equal_answers import equal_answers
from fastspan.benchmarks.speed_report.tables import comparison_table, like_for_like, rows_of
from fastspan.errors import DataError, FastSpanError
from fastspan.machine.cpu import CpuFeatures

__all__ = ["fill", "headline", "main", "parity_summary", "speed_tables"]

_RESULTS = ROOT / "benchmarks" / "results"
_LEFT_OUT = ("single-32", "single-384")
_PARITY = _RESULTS / "parity-minilm-l6-squad2-fastspan-eval.json"


def main() -> int:
    """Rewrite the README's tables."""
    readme = ROOT / "README.md"
    try:
        text = fill(readme.read_text(encoding="utf-8"), "parity", parity_summary(_PARITY))
        text = fill(text, "headline", headline(_RESULTS))
        write_text(readme, fill(text, "speed", speed_tables(_RESULTS)))
    except FastSpanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def fill(text: str, name: str, content: str) -> str:
    """Put ``content`` between the comments ``<!-- NAME -->`` and ``<!-- /NAME -->``.

    Raises:
        DataError: The text lacks one of them.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise DataError(f"There is no place for {name}: put {begin.strip()} and {end} into the text.")
    return f"{before}{begin}{content}{end}{after}"


def parity_summary(report: Path) -> str:
    """A row a variant, from a parity report's JSON.

    Raises:
        DataError: The file is no such report; ``make parity`` writes it.
    """
    try:
        found: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        rows = [("PyTorch", "–", f"{found['exact']:.2f}", f"{found['f1']:.2f}", "–", "–", "–")]
        for variant in found["variants"]:
            judged = variant["agreements"][0]
            rows.append(
                (
                    variant["variant"],
                    f"{variant['bytes'] / 1e6:.1f} MB",
                    f"{judged['exact']:.2f}",
                    f"{judged['f1']:.2f}",
                    f"{judged['exact'] - found['exact']:+.2f}",
                    f"{judged['f1'] - found['f1']:+.2f}",
                    f"{judged['equal_answers']:.2%}",
                )
            )
        asked = (
            f"{found['questions']} questions of the project's own, {found['unanswerable']} without an answer"
        )
        machine = f"{found['environment']['threads']} threads on {found['environment']['CPU']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{report} is no parity report ({error}); `make parity` writes it.") from error
    headers = ("variant", "its graph", "EM", "F1", "Δ EM", "Δ F1", "equal answers")
    return markdown([Table(headers, rows), Paragraph(f"{asked}; {machine}. Written by `make parity`.")])


def headline(root: Path) -> str:
    """The bundled model's speed and equal answers in one small table, from a CPU's speed record.

    Args:
        root: The folder of the results, those of each kind of hardware in a folder of its own.

    Raises:
        DataError: There is no such record; ``make bench`` writes it.
    """
    measured = _shown(root)
    record, shares = measured.record, equal_answers(measured)
    model = next(iter(record.models))
    rows = [row for row in rows_of(measured) if row.workload.model == model]
    table = comparison_table(rows, shares, against=like_for_like(rows))
    # The others are in the report: a first screen has room for one length.
    kept = [place for place, title in enumerate(table.headers) if title not in _LEFT_OUT]
    small = replace(
        table,
        headers=[table.headers[place] for place in kept],
        rows=[[row[place] for place in kept] for row in table.rows],
    )
    marked = f" {MARK}" if shares else ""
    return markdown(
        [
            Paragraph(
                f"Text in, answer out, for {model} on {record.cpu.name} ({record.cpu.cores} cores): the "
                "peer's time ÷ FastSpan's, so above 1 FastSpan is faster. Equal answers are those that a "
                f"system gives in fp32 too.{marked} Written by `make bench`."
            ),
            small,
        ]
    )


def _shown(root: Path) -> Measured:
    """The newest record of a CPU with 8-bit dot products, which most servers have; else of any."""
    folders = [path.parent for path in sorted(root.glob("*/speed-cpu.json"))]
    if not folders:
        raise DataError(f"{root} holds no speed record; `make bench` writes one.")
    found = [Measured.read(folder, "cpu") for folder in folders]
    return max(found, key=lambda one: (_multiplies_bytes(one), one.record.environment.get("measured", "")))


def _multiplies_bytes(measured: Measured) -> bool:
    flags = frozenset(measured.record.cpu.instruction_sets)
    return any(CpuFeatures(machine, flags).int8_dot_product for machine in ("x86_64", "arm64"))


def speed_tables(root: Path) -> str:
    """How fast FastSpan and its peers answer, a table a model, from a CPU's speed record.

    Args:
        root: The folder of the results, those of each kind of hardware in a folder of its own.

    Raises:
        DataError: There is no such record; ``make bench`` writes it.
    """
    measured = _shown(root)
    record, rows, shares = measured.record, rows_of(measured), equal_answers(measured)
    blocks: list[Paragraph | Table] = []
    for model, title in record.models.items():
        own = [row for row in rows if row.workload.model == model]
        blocks.append(Paragraph(f"**{model}**, {title}:"))
        blocks.append(comparison_table(own, shares, against=like_for_like(own)))
    counts = " or ".join(f"{count:,}" for count in sorted({equal.questions for equal in shares.values()}))
    compared = f" Equal answers: those that a system gives in fp32 too, of {counts} questions. {MARK}"
    machine = f"{record.cpu.name}, {record.cpu.cores} cores with {', '.join(record.cpu.instruction_sets)}"
    defaults = "; ".join(f"{chosen.variant} on {models}" for chosen, models in models_by_default(record))
    blocks.append(
        Paragraph(
            "FastSpan's median times, and the peers' as multiples of them: the peer's time ÷ FastSpan's in "
            "each round of one interleaved run, and the median of these; above 1, FastSpan is faster. "
            f"{BRACKETS}{compared if shares else ''} There FastSpan runs {defaults} by default. "
            f"{machine}. Written by `make bench`."
        )
    )
    return markdown(blocks)


if __name__ == "__main__":
    sys.exit(main())
