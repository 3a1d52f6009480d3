"""The speed report's tables: who took how long at what, and how that compares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.reporting.document import Table
from fastspan.benchmarks.speed.record import Measured, MeasuredPeer, MeasuredWorkload
from fastspan.benchmarks.speed.spread import Latency, Spread, ratio_spread, summarize
from fastspan.benchmarks.speed_report.accuracy import Difference

__all__ = [
    "STAGES",
    "Row",
    "cost_table",
    "peak_table",
    "ratio_table",
    "rows_of",
    "stage_table",
    "start_table",
    "summary_table",
]

STAGES = ("encode", "plan", "run", "decode", "objects", "other")
"""What FastSpan says its time goes to, in the order of a run."""

_NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A system at a workload, with what it took."""

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


def summary_table(rows: Sequence[Row], accuracy: Mapping[tuple[str, str, str], Difference]) -> Table:
    """One row a system and workload of one model."""
    return Table(
        headers=(
            "Workload", "System", "Variant", "Mode", "Batch", "Threads", "p50 ms", "p95 ms", "p99 ms",
            "runs (rounds)", "Questions/s", "Memory MB", "Δ EM", "Δ F1",
        ),
        rows=[
            (
                row.workload.name,
                row.peer.system,
                row.peer.variant,
                row.peer.mode,
                row.peer.batching.get(row.workload.name, _NONE),
                str(row.peer.threads),
                _milliseconds(row.latency.median),
                _ms(row.latency.p95),
                _ms(row.latency.p99),
                f"{row.latency.samples} ({row.latency.median.rounds})",
                _figure(row.questions_per_second),
                _megabytes(row.peer),
                *_points(accuracy.get((row.peer.model, row.peer.system, row.peer.variant))),
            )
            for row in rows
        ],
        texts=5,
    )  # fmt: skip


def ratio_table(rows: Sequence[Row], *, ours: str | None) -> Table:
    """How many times as fast FastSpan is as every other system, a column a workload.

    Args:
        rows: Rows of one model.
        ours: The variant of FastSpan to compare with; None: fp32 with fp32, and int8 with what is below.
    """
    workloads = list(dict.fromkeys(row.workload.name for row in rows))
    best = {name: _faster_modes(rows, name) for name in workloads}
    others = dict.fromkeys(key for found in best.values() for key in found if key[0] != OURS)
    lines = []
    for system, variant in others:
        mine = ours or ("fp32" if variant.startswith("fp32") else "int8")
        cells = [
            _ratio(best[name].get((system, variant)), best[name].get((OURS, mine))) for name in workloads
        ]
        lines.append((f"{system} {variant}", f"{OURS} {mine}", *cells))
    return Table(headers=("Peer", "against", *workloads), rows=lines, texts=2)


def stage_table(rows: Sequence[Row]) -> Table:
    """Milliseconds of a run by stage, for the systems that can say."""
    return Table(
        headers=("Workload", "Variant", *STAGES, "share of run"),
        rows=[
            (
                row.workload.name,
                row.peer.variant,
                *(f"{stages[stage] * 1e3:.3f}" for stage in STAGES),
                f"{stages['run'] / sum(stages.values()):.1%}",
            )
            for row, stages in _staged(rows)
        ],
        texts=2,
    )


def start_table(peers: Sequence[MeasuredPeer]) -> Table:
    """How long each system took to start, and the memory it came to hold."""
    return Table(
        headers=(
            "Model",
            "System",
            "Variant",
            "Mode",
            "ready after s",
            "loading s",
            "peak memory MB",
            "its graph MB",
            "memory ÷ graph",
        ),
        rows=[
            (
                peer.model,
                peer.system,
                peer.variant,
                peer.mode,
                f"{peer.start_seconds:.2f}",
                f"{peer.load_seconds:.2f}",
                _megabytes(peer),
                *_beside_graph(peer),
            )
            for peer in peers
            if peer.status == "measured"
        ],
        texts=4,
    )


def cost_table(rows: Sequence[Row], price_per_hour: float) -> Table:
    """The cost of a million questions at the throughput workload's speed."""
    return Table(
        headers=("Model", "System", "Variant", "Mode", "Questions/s", "Hours a million", "Cost a million"),
        rows=[
            (
                row.workload.model,
                row.peer.system,
                row.peer.variant,
                row.peer.mode,
                _figure(row.questions_per_second),
                f"{(hours := 1e6 / row.questions_per_second / 3600):.1f}",
                f"{hours * price_per_hour:.2f}",
            )
            for row in rows
            if row.workload.name == "throughput"
        ],
        texts=4,
    )


def peak_table(rows: Sequence[Row], peaks: Mapping[str, float]) -> Table:
    """What share of a bare matrix product's speed each system reaches, text to answer included."""
    lines = []
    for row in rows:
        kind = "int8" if row.peer.variant.startswith("int8") else "fp32"
        if row.peer.variant.startswith(("int8", "fp32")) and peaks.get(kind):
            speed = row.workload.flops / row.latency.median.estimate
            lines.append(
                (
                    row.workload.model,
                    row.workload.name,
                    row.peer.system,
                    row.peer.variant,
                    row.peer.mode,
                    f"{speed / 1e9:.0f}",
                    f"{peaks[kind] / 1e9:.0f}",
                    f"{speed / peaks[kind]:.0%}",
                )
            )
    headers = ("Model", "Workload", "System", "Variant", "Mode", "Gop/s", "peak Gop/s", "share")
    return Table(headers=headers, rows=lines, texts=5)


def _staged(rows: Sequence[Row]) -> Iterator[tuple[Row, Mapping[str, float]]]:
    for row in rows:
        stages = row.peer.stages.get(row.workload.name)
        if stages:
            yield row, stages


def _faster_modes(rows: Sequence[Row], workload: str) -> dict[tuple[str, str], Row]:
    """(system, variant) → its faster mode at a workload."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.workload.name == workload:
            key = (row.peer.system, row.peer.variant)
            if key not in found or row.latency.median.estimate < found[key].latency.median.estimate:
                found[key] = row
    return found


def _ratio(other: Row | None, mine: Row | None) -> str:
    if other is None or mine is None or not other.rounds.keys() & mine.rounds.keys():
        return _NONE
    ratio = ratio_spread(other.rounds, mine.rounds)
    return f"{ratio.estimate:.2f}×{_ends(ratio, f'{ratio.low:.2f}', f'{ratio.high:.2f}')}"


def _milliseconds(median: Spread) -> str:
    middle, low, high = (_figure(1e3 * value) for value in (median.estimate, median.low, median.high))
    return f"{middle}{_ends(median, low, high)}"


def _ends(spread: Spread, low: str, high: str) -> str:
    """An interval in square brackets; a mere range in round ones."""
    if spread.rounds == 1:
        # One round shows no spread, and a range of no width would claim that there is none.
        return ""
    return f" [{low}, {high}]" if spread.is_interval else f" ({low}–{high})"


def _ms(seconds: float | None) -> str:
    return _NONE if seconds is None else _figure(1e3 * seconds)


def _megabytes(peer: MeasuredPeer) -> str:
    return f"{peer.memory_bytes / 1e6:.0f}" if peer.memory_bytes else _NONE


def _beside_graph(peer: MeasuredPeer) -> tuple[str, str]:
    """The size of the graph that ran, and memory as a multiple of it."""
    if not (peer.graph_bytes and peer.memory_bytes):
        return _NONE, _NONE
    return f"{peer.graph_bytes / 1e6:.0f}", f"{peer.memory_bytes / peer.graph_bytes:.2f}"


def _figure(value: float) -> str:
    """Three digits that count, and no more than that after the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _points(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return _NONE, _NONE
    return f"{difference.exact:+.2f}", f"{difference.f1:+.2f}"
