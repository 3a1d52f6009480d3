"""The speed report's tables of speed: who took how long at what, and how that compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import NONE, Table, without_empty_columns
from fastspan.benchmarks.speed.record import MeasuredPeer, MeasuredWorkload
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed.spread import Latency, Spread, ratio_spread, summarize
from fastspan.benchmarks.speed_report.equal_answers import Shares, share_cell

__all__ = [
    "Row",
    "comparison_table",
    "faster_modes",
    "like_for_like",
    "milliseconds",
    "ratio",
    "rows_of",
    "three_digits",
    "workload_table",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A system at a workload, with what it took.

    Attributes:
        peer: The system.
        workload: The workload.
        latency: What a run took.
        rounds: The samples.
    """

    peer: MeasuredPeer
    workload: MeasuredWorkload
    latency: Latency
    rounds: Mapping[int, Sequence[float]]

    @property
    def questions_per_second(self) -> float:
        """From the median."""
        return self.workload.questions / self.latency.median.estimate


def rows_of(measured: Measured) -> list[Row]:
    """Return every system at every workload it was measured at: by model, workload, then as in the record."""
    found = []
    for workload in measured.record.workloads:
        for peer in measured.record.peers:
            rounds = measured.rounds(workload.model, workload.name, peer.name)
            if peer.model == workload.model and rounds:
                found.append(Row(peer=peer, workload=workload, latency=summarize(rounds), rounds=rounds))
    return found


def workload_table(rows: Sequence[Row]) -> Table:
    """One row a system, of one workload of one model; without percentiles where no system has them."""
    return without_empty_columns(
        Table(
            headers=("System", "p50 ms", "p95 ms", "p99 ms", "questions/s", "runs (rounds)", "batch"),
            rows=[
                (
                    row.peer.name,
                    milliseconds(row.latency.median),
                    _ms(row.latency.p95),
                    _ms(row.latency.p99),
                    three_digits(row.questions_per_second),
                    f"{row.latency.samples} ({row.latency.median.rounds})",
                    row.peer.batching.get(row.workload.name, NONE),
                )
                for row in rows
            ],
        )
    )


def like_for_like(rows: Sequence[Row]) -> Callable[[str], str]:
    """Return what says which variant of FastSpan a peer's variant is compared with.

    fp32 with fp32; lower precision with fp16 on a GPU, and with int8 on a CPU.
    """
    ours = list(dict.fromkeys(row.peer.variant for row in rows if row.peer.system == OURS))
    whole = [variant for variant in ours if variant.startswith("fp32")]
    lower = [variant for variant in ours if not variant.startswith("fp32")]

    def chosen(variant: str) -> str:
        """The variant of FastSpan, whatever there is where its like is not."""
        found = (whole or lower) if variant.startswith("fp32") else (lower or whole)
        return found[0] if found else ""

    return chosen


def comparison_table(
    rows: Sequence[Row], shares: Shares, *, against: Callable[[str], str], unit: bool = True
) -> Table:
    """How long FastSpan takes, and how many times as long every other system does, a column a workload.

    Args:
        rows: Rows of one model.
        shares: The systems' equal answers.
        against: A peer's variant → the variant of FastSpan to compare with.
        unit: Whether to give FastSpan's own times, in rows of their own.
    """
    workloads = list(dict.fromkeys(row.workload.name for row in rows))
    best = {name: faster_modes(rows, name) for name in workloads}
    systems = dict.fromkeys(key for found in best.values() for key in found)
    model = rows[0].workload.model if rows else ""
    lines = []
    for system, variant in sorted(systems, key=lambda key: key[0] != OURS):
        own = {name: best[name].get((system, variant)) for name in workloads}
        if system == OURS:
            if not unit:
                continue
            mine, cells = "", [_own_time(own[name]) for name in workloads]
        else:
            mine = against(variant)
            cells = [ratio(own[name], best[name].get((OURS, mine))) for name in workloads]
        share = share_cell(shares.get((model, system, variant)))
        lines.append((f"{system} {variant}", f"{OURS} {mine}".strip() if mine else NONE, share, *cells))
    return without_empty_columns(
        Table(headers=("System", "against", "equal answers", *workloads), rows=lines, texts=2)
    )


def faster_modes(rows: Sequence[Row], workload: str) -> dict[tuple[str, str], Row]:
    """Return (system, variant) → its faster mode at a workload."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.workload.name == workload:
            key = (row.peer.system, row.peer.variant)
            if key not in found or row.latency.median.estimate < found[key].latency.median.estimate:
                found[key] = row
    return found


def ratio(other: Row | None, mine: Row | None) -> str:
    """Write how many times as long ``other`` takes as ``mine``, where both were measured in one round."""
    if other is None or mine is None or not other.rounds.keys() & mine.rounds.keys():
        return NONE
    found = ratio_spread(other.rounds, mine.rounds)
    return f"{found.estimate:.2f}×{_ends(found, f'{found.low:.2f}', f'{found.high:.2f}')}"


def milliseconds(median: Spread) -> str:
    """Write a time with its interval or range."""
    middle, low, high = (three_digits(1e3 * value) for value in (median.estimate, median.low, median.high))
    return f"{middle}{_ends(median, low, high)}"


def three_digits(value: float) -> str:
    """Three digits that count, and no more than that after the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _own_time(row: Row | None) -> str:
    return NONE if row is None else f"{three_digits(1e3 * row.latency.median.estimate)} ms"


def _ends(spread: Spread, low: str, high: str) -> str:
    """An interval in square brackets; a mere range in round ones."""
    if spread.rounds == 1:
        # One round shows no spread, and a range of no width would claim that there is none.
        return ""
    return f" [{low}, {high}]" if spread.is_interval else f" ({low}–{high})"


def _ms(seconds: float | None) -> str:
    return NONE if seconds is None else three_digits(1e3 * seconds)
