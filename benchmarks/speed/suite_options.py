"""What a run of the suite is asked for, and how much that is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fastspan.benchmarks.speed.answers import Device
from fastspan.benchmarks.speed.interleaving import Schedule
from fastspan.benchmarks.speed.measurement import Plan
from fastspan.errors import InputError
from fastspan.machine.cpu import usable_cores

__all__ = ["SuiteOptions"]

# Seven rounds make an interval of a median. Eight peers stand at every place once in eight rounds.
_QUICK = Schedule(least=7, most=16, seconds=10, per_turn=2, unrecorded=1, long=0.3)
_FULL = Schedule(least=6, most=25, seconds=240, per_turn=5, unrecorded=1, warmups=2)
# What a peer may take for one request. The quick run's ten minutes are not to be spent on one that hangs.
_QUICK_TIMEOUT_S, _FULL_TIMEOUT_S = 120.0, 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """What is measured.

    Attributes:
        quick: In under ten minutes: fewer peers, fewer repeats.
        device: ``"cpu"`` or ``"gpu"``.
        data: Questions to ask; None: a part of SQuAD 2.0 where it is at hand, else the project's own.
        threads: Threads of every peer; None: the usable cores.
        peers: Only FastSpan and peers whose name holds this.
        models: Only models whose name holds this.
        workloads: Only workloads whose name holds this.
        rounds: Rounds of every workload, at most; None: what quick or full runs take.
        parts: Whether to measure the engine's parts on their own as well.
    """

    quick: bool = False
    device: Device = "cpu"
    data: Path | None = None
    threads: int | None = None
    peers: str = ""
    models: str = ""
    workloads: str = ""
    rounds: int | None = None
    parts: bool = True

    def __post_init__(self) -> None:
        for name in ("threads", "rounds"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}.")

    def plan(self) -> Plan:
        """Return how much that is."""
        schedule = _QUICK if self.quick else _FULL
        if self.rounds is not None:
            schedule = replace(schedule, most=self.rounds, least=min(schedule.least, self.rounds))
        return Plan(
            schedule=schedule,
            threads=self.threads or usable_cores(),
            timeout=_QUICK_TIMEOUT_S if self.quick else _FULL_TIMEOUT_S,
        )
