"""Accuracy for the speed report: what the peers answered, and what parity reports found on more questions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.speed_record import MeasuredPeer, SpeedRecord
from fastspan.errors import DataError

__all__ = ["Difference", "differences"]

_REFERENCE = ("transformers", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far a system's accuracy is from PyTorch's in fp32, in points.

    Attributes:
        exact: Of exact match.
        f1: Of F1.
        source: Where from, for people.
        questions: How many questions it rests on.
    """

    exact: float
    f1: float
    source: str
    questions: int


def differences(record: SpeedRecord, folder: Path) -> dict[tuple[str, str], Difference]:
    """Return (model, peer's name) → its difference, where it is known.

    A parity report, which decodes both sides alike and asks more questions, goes before the answers that were
    given while speed was measured. It has to be on the very graph that was measured; of several such reports
    the one with the most questions is taken.

    Args:
        record: What was measured.
        folder: Where parity reports, ``parity-*.json``, lie.

    Raises:
        DataError: A parity report is malformed.
    """
    found = dict(_from_answers(record.peers))
    reports = [compared for path in sorted(folder.glob("parity-*.json")) for compared in _from_parity(path)]
    # Sorted with the most questions last, and by file name among equals: the last one stays.
    for compared in sorted(reports, key=lambda compared: compared.difference.questions):
        if not compared.is_of(record):
            continue
        for peer in record.peers:
            if (peer.model, peer.system, peer.variant) == (compared.model, OURS, compared.variant):
                found[peer.model, peer.name] = compared.difference
    return found


@dataclass(frozen=True, slots=True)
class _Compared:
    """What a parity report says of a variant; ``sha256`` are the digests of its graph's files."""

    model: str
    variant: str
    graph: str
    sha256: tuple[str, ...]
    difference: Difference

    def is_of(self, record: SpeedRecord) -> bool:
        """Whether the bundle whose speed was measured holds this very graph; see ``environment.capture``."""
        measured = (
            record.environment.get(f"{self.model}, {self.graph}", "").removeprefix("sha256 ").split(" + ")
        )
        return len(measured) == len(self.sha256) and all(
            beginning and digest.startswith(beginning)
            for digest, beginning in zip(self.sha256, measured, strict=True)
        )


def _from_answers(peers: tuple[MeasuredPeer, ...]) -> dict[tuple[str, str], Difference]:
    references = {
        peer.model: peer.accuracy
        for peer in peers
        if (peer.system, peer.variant) == _REFERENCE and peer.accuracy is not None
    }
    return {
        (peer.model, peer.name): Difference(
            exact=peer.accuracy.exact - reference.exact,
            f1=peer.accuracy.f1 - reference.f1,
            source="what was answered in this run, against transformers' pipeline in fp32; systems decode by "
            "rules of their own, which counts here as well as arithmetic",
            questions=peer.accuracy.questions,
        )
        for peer in peers
        if peer.accuracy is not None and (reference := references.get(peer.model)) is not None
    }


def _from_parity(path: Path) -> list[_Compared]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return [
            _Compared(
                model=str(report["name"]),
                variant=str(variant["variant"]),
                graph=str(variant["graph"]),
                sha256=tuple(map(str, variant["sha256"].values())),
                difference=Difference(
                    exact=float(variant["agreements"][0]["exact_difference"]["estimate"]),
                    f1=float(variant["agreements"][0]["f1_difference"]["estimate"]),
                    source=f"`{path.name}`, which decodes both sides alike",
                    questions=int(report["questions"]),
                ),
            )
            for variant in report["variants"]
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no parity report ({error}); run `make parity` again.") from error
