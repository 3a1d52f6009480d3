"""What a peer is to the process that runs it, and how that process speaks with the one that measures.

Messages are JSON objects over a pipe. A request has ``do``; its answer has ``error`` where it failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fastspan.benchmarks.questions.workloads import Workload

__all__ = ["MAX_ANSWER_TOKENS", "MAX_LENGTH", "OVERLAP", "Job", "Peer", "Staged"]

# Every peer is asked for the same work: these windows, answers of at most so many tokens, one answer, and
# "no answer" among the choices.
MAX_LENGTH, OVERLAP, MAX_ANSWER_TOKENS = 384, 128, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a peer loads.

    Attributes:
        checkpoint: The checkpoint's folder.
        bundle: The bundle's folder.
        cache: Folder for what the peer makes of the checkpoint and need not make again.
        threads: Threads to compute with.
        options: The peer's own options.
    """

    checkpoint: Path
    bundle: Path
    cache: Path
    threads: int
    options: Mapping[str, Any]

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Job:
        """Read what ``to_json`` returned."""
        paths = {name: Path(record[name]) for name in ("checkpoint", "bundle", "cache")}
        return cls(**paths, threads=int(record["threads"]), options=record["options"])

    def to_json(self) -> dict[str, Any]:
        """Return the job as built-in types."""
        return {
            "checkpoint": str(self.checkpoint),
            "bundle": str(self.bundle),
            "cache": str(self.cache),
            "threads": self.threads,
            "options": dict(self.options),
        }


class Peer(Protocol):
    """A loaded system. Its module has a function ``load(job: Job) -> Peer``."""

    def describe(self) -> dict[str, str]:
        """Say what runs: versions, providers, precision."""

    def prepare(self, workload: Workload) -> str:
        """Get ready for a workload, choosing what suits it best, and say how it will be batched."""

    def run(self, workload: Workload) -> list[str]:
        """Answer every question, ``""`` for no answer. This is what is timed."""


@runtime_checkable
class Staged(Protocol):
    """A peer that can say where its time goes."""

    def stages(self, workload: Workload, repeats: int) -> dict[str, float]:
        """Return stage → median seconds of a run."""
