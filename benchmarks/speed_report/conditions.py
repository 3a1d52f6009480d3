"""The report's account of itself: what was measured on, what was not measured, what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastspan.benchmarks.reporting.document import Block, Code, Heading, Paragraph, Table, plain
from fastspan.benchmarks.speed.interleaving import Turn
from fastspan.benchmarks.speed.samples import Measured
from fastspan.benchmarks.speed_report.section import Section

__all__ = ["absent", "again", "conditions", "opening"]

# Beyond so many processors' worth of foreign work, figures say more about the machine than about systems.
_QUIET = 0.1


def opening(section: Section) -> Iterator[Block]:
    """Say what was measured when and where, and warn of what makes it less than it should be."""
    environment = section.record.environment
    kind = "A quick run with few repeats" if section.record.quick else "A full run"
    yield Paragraph(
        f"{kind}, measured {environment.get('measured', '')} on {environment.get('CPU', '')} with "
        f"{environment.get('memory', '')} of memory. Text in, answer out: every time includes tokenizing "
        "and decoding. Each system runs in a process of its own, at settings meant to suit it best, which "
        "are listed at the end. They take turns, and those whose turn it is not are stopped."
    )
    if not section.record.finished:
        yield Paragraph(
            "**This run did not come to its end.** What follows rests on what was measured until then."
        )
    busy = _foreign_work([sampled.turn for sampled in section.measured.samples])
    if busy > _QUIET:
        yield Paragraph(
            f"**This machine was busy with other work**, {busy:.1f} processors' worth on average. "
            "Ratios suffer less than times, but neither should be relied on; measure again."
        )


def absent(section: Section) -> Iterator[Block]:
    """Name every peer that was not measured, with the reason, and every failure."""
    yield Heading(section.level, section.title("Not measured, and failures"))
    sampled = {(row.peer.model, row.peer.name) for row in section.rows}
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for peer in section.record.peers:
        if peer.status != "measured":
            reasons.setdefault((peer.name, peer.status, peer.reason), []).append(peer.model)
        elif (peer.model, peer.name) not in sampled:
            reason = "it loaded, and no workload was measured with it"
            reasons.setdefault((peer.name, "failed", reason), []).append(peer.model)
    if reasons:
        yield Table(
            headers=("Peer", "is", "why", "with"),
            rows=[(*map(plain, key), ", ".join(models)) for key, models in reasons.items()],
            texts=4,
        )
    else:
        yield Paragraph("Every peer was measured.")
    for failure in section.record.failures:
        yield Paragraph(f"Failure: {plain(failure)}")
    if not section.record.failures:
        yield Paragraph("Nothing failed.")


def conditions(section: Section) -> Iterator[Block]:
    """Describe the machine, the software and what else the machine did."""
    yield Heading(section.level, section.title("Conditions"))
    turns = [sampled.turn for sampled in section.measured.samples]
    if turns:
        samples = sum(len(turn.seconds) for turn in turns)
        stopped = max(turn.stopped_cpu_seconds for turn in turns)
        by_workload: dict[tuple[str, str], list[Turn]] = {}
        for each in section.measured.samples:
            by_workload.setdefault((each.model, each.workload), []).append(each.turn)
        busy = {place: _foreign_work(own) for place, own in by_workload.items()}
        model, workload = max(busy, key=lambda place: busy[place])
        yield Paragraph(
            f"{samples:,} samples in {len(turns):,} turns. While others answered, the stopped systems "
            f"used {stopped:.2f} processor seconds at most in a turn. The rest of the machine did "
            f"{_foreign_work(turns):.2f} processors' worth of work on average, and most, "
            f"{busy[model, workload]:.2f}, during {workload} of {model}."
        )
    environment = [(plain(name), plain(value)) for name, value in section.record.environment.items()]
    yield Table(headers=("", ""), rows=[("kind of CPU", section.record.cpu.kind), *environment], texts=2)
    ran = {
        peer.name: "; ".join(f"{key} {value}" for key, value in peer.description.items())
        for peer in section.record.peers
        if peer.description
    }
    yield Table(headers=("Peer", "ran"), rows=[(name, plain(what)) for name, what in ran.items()], texts=2)


def again(measured: Measured) -> Iterator[Block]:
    """Say how to measure again, and where every sample lies."""
    device = measured.record.device
    yield Heading(2, "Measure again")
    yield Paragraph(
        "Written by the command below; not edited by hand. `make bench` is the quick run, `make bench-full` "
        f"the full one. Every sample is in `speed-{device}-samples.jsonl`, digests of all answers in "
        f"`speed-{device}-answers.jsonl`, everything else in `speed-{device}.json`."
    )
    yield Code(measured.record.environment.get("command", "make bench"))


def _foreign_work(turns: Sequence[Turn]) -> float:
    """Processors' worth of work that the rest of the machine did during these turns.

    Of all together: a turn of some milliseconds is shorter than the hundredths the system counts in.
    """
    elapsed = sum(turn.elapsed for turn in turns)
    return max(0.0, sum(turn.foreign_cpu_seconds for turn in turns) / elapsed) if elapsed else 0.0
