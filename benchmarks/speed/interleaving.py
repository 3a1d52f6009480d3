"""Whole systems side by side: sampled in turns, A B C A C B, everyone else stopped in between.

A machine is never equally fast for long, so systems measured one after the other are measured on different
machines. Here every round asks each system once. Each sample records the processor time that the stopped ones
used all the same, and what everything else on the machine used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastspan.benchmarks.speed.peer_process import PeerError, PeerProcess, import_psutil

__all__ = ["Schedule", "Turn", "balanced_order", "interleave"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How often everything is asked.

    Attributes:
        least: Rounds to take whatever they cost.
        most: Rounds to take if there is time.
        seconds: Begin no further round after so long, once the least are taken.
        per_turn: Recorded runs of a turn.
        unrecorded: Runs before these, which find the processor's caches full of another system's data.
        warmups: Runs of each system before the first round.
        long: Seconds; where even the fastest system's last warm-up took longer, a turn is one run, with none
            before it: caches filled by another system weigh little on so long a run.
    """

    least: int
    most: int
    seconds: float
    per_turn: int = 1
    unrecorded: int = 0
    warmups: int = 1
    long: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one system took when its turn came.

    Attributes:
        peer: Its name.
        round: The number of the round, from 0.
        seconds: Wall-clock seconds of each recorded run.
        cpu_seconds: Processor seconds of each, over all of the process's threads.
        elapsed: Wall-clock seconds of the whole turn, with the runs that are not recorded.
        stopped_cpu_seconds: Processor seconds that the stopped systems used meanwhile.
        foreign_cpu_seconds: Processor seconds that the rest of the machine used meanwhile. The system counts
            in hundredths, so that a short turn's may be off by one either way, and even negative.
    """

    peer: str
    round: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    elapsed: float
    stopped_cpu_seconds: float
    foreign_cpu_seconds: float


def interleave(
    peers: Sequence[PeerProcess],
    schedule: Schedule,
    *,
    failed: Callable[[PeerProcess, PeerError], None],
    record: Callable[[Turn], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Ask every system once a round, in an order that is balanced over the rounds.

    Args:
        peers: Systems with a workload prepared.
        schedule: How often.
        failed: Told of a system that fails; it is not asked again.
        record: Given every turn, as soon as it is over.
        clock: Tells the time, in seconds.
    """
    alive = list(peers)
    if schedule.warmups:
        warm = []
        for peer in peers:
            try:
                warm.extend(_run(peer, schedule.warmups - 1, 1)["seconds"])
            except PeerError as failure:
                alive.remove(peer)
                failed(peer, failure)
        if min(warm, default=0) > schedule.long:
            schedule = replace(schedule, per_turn=1, unrecorded=0)
    began = clock()
    for number in range(schedule.most):
        if not alive or (number >= schedule.least and clock() - began > schedule.seconds):
            break
        for peer in [alive[place] for place in balanced_order(len(alive), number)]:
            others = [other for other in alive if other is not peer]
            try:
                record(_turn(peer, others, number, schedule))
            except PeerError as failure:
                alive.remove(peer)
                failed(peer, failure)


def balanced_order(count: int, number: int) -> list[int]:
    """Return the order in which round ``number`` asks ``count`` systems.

    What ran before leaves its mark on what runs next: a hot processor, a lowered clock, foreign data in its
    caches. Over ``count`` rounds (twice as many where ``count`` is odd) every system stands at every place,
    and follows every other, equally often (Williams, "Experimental designs balanced for the estimation of
    residual effects of treatments", 1949). Merely turning the order by one place a round would let each
    follow the same other nearly always.
    """
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    order = [(place + number) % count for place in first]
    # With an odd count, followers balance only over the rows and their mirror images.
    return order[::-1] if count % 2 and number // count % 2 else order


def _run(peer: PeerProcess, unrecorded: int, times: int) -> Mapping[str, Any]:
    return peer.ask("run", unrecorded=unrecorded, times=times)


def _turn(peer: PeerProcess, others: Sequence[PeerProcess], number: int, schedule: Schedule) -> Turn:
    before = _Usage.now(peer, others)
    found = _run(peer, schedule.unrecorded, schedule.per_turn)
    after = _Usage.now(peer, others)
    return Turn(
        peer=peer.name,
        round=number,
        seconds=tuple(found["seconds"]),
        cpu_seconds=tuple(found["cpu_seconds"]),
        elapsed=after.at - before.at,
        stopped_cpu_seconds=after.others - before.others,
        foreign_cpu_seconds=(after.machine - before.machine)
        - (after.peer - before.peer)
        - (after.others - before.others),
    )


@dataclass(frozen=True, slots=True)
class _Usage:
    """Processor seconds used so far: by a system, by the stopped ones, by the whole machine."""

    at: float
    peer: float
    others: float
    machine: float

    @classmethod
    def now(cls, peer: PeerProcess, others: Sequence[PeerProcess]) -> _Usage:
        """Read the clock and the counters of a system, the stopped ones and the machine."""
        times = import_psutil().cpu_times()
        # Time that the hypervisor gave to other machines is not this one's, but it slows what is measured.
        kinds = ("user", "nice", "system", "irq", "softirq", "steal")
        return cls(
            at=time.perf_counter(),
            peer=peer.cpu_seconds(),
            others=sum(other.cpu_seconds() for other in others),
            machine=sum(getattr(times, kind, 0.0) for kind in kinds),
        )
