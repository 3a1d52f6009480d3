"""Accuracy for the speed report: of what all systems answered, and of FastSpan on more questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fastspan.benchmarks.peers.catalogue import OURS
from fastspan.benchmarks.speed.record import MeasuredPeer, SpeedRecord
from fastspan.errors import DataError

__all__ = ["Difference", "ParityFigures", "differences", "parity_figures"]

_REFERENCE = ("transformers", "fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far a system's accuracy is from PyTorch's in fp32, in points.

    Attributes:
        exact: Of exact match.
        f1: Of F1.
        questions: How many questions it rests on.
    """

    exact: float
    f1: float
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityFigures:
    """What a parity report, which decodes both sides alike, says of a variant of FastSpan.

    Attributes:
        model: The model's name.
        variant: The variant's.
        graph: Its graph's file.
        sha256: Digests of the graph's files.
        file: The report's name.
        difference: From PyTorch.
        equal_answers: The share of PyTorch's answers that it gives, in [0, 1].
    """

    model: str
    variant: str
    graph: str
    sha256: tuple[str, ...]
    file: str
    difference: Difference
    equal_answers: float

    def is_of(self, record: SpeedRecord) -> bool:
        """Whether the bundle whose speed was measured holds this very graph; see ``environment.capture``."""
        measured = (
            record.environment.get(f"{self.model}, {self.graph}", "").removeprefix("sha256 ").split(" + ")
        )
        return len(measured) == len(self.sha256) and all(
            beginning and digest.startswith(beginning)
            for digest, beginning in zip(self.sha256, measured, strict=True)
        )


def differences(peers: Sequence[MeasuredPeer]) -> dict[tuple[str, str, str], Difference]:
    """Return (model, system, variant) → its difference from transformers' pipeline, where both were scored.

    All systems answer the same questions, each with the decoding it comes with.
    """
    references = {
        peer.model: peer.accuracy
        for peer in peers
        if (peer.system, peer.variant) == _REFERENCE and peer.accuracy is not None
    }
    return {
        (peer.model, peer.system, peer.variant): Difference(
            exact=peer.accuracy.exact - reference.exact,
            f1=peer.accuracy.f1 - reference.f1,
            questions=peer.accuracy.questions,
        )
        for peer in peers
        if peer.accuracy is not None and (reference := references.get(peer.model)) is not None
    }


def parity_figures(record: SpeedRecord, folders: Sequence[Path]) -> list[ParityFigures]:
    """Return what parity reports say of the very graphs that were measured.

    Of several reports on a graph the one with the most questions is taken.

    Args:
        record: What was measured.
        folders: Where parity reports, ``parity-*.json``, lie.

    Raises:
        DataError: A parity report is malformed.
    """
    paths = [path for folder in folders for path in sorted(folder.glob("parity-*.json"))]
    reports = [compared for path in paths for compared in _read(path)]
    measured = {(peer.model, peer.variant) for peer in record.peers if peer.system == OURS}
    # Sorted with the most questions last, and by file name among equals: the last one stays.
    best = {
        (compared.model, compared.variant): compared
        for compared in sorted(reports, key=lambda compared: compared.difference.questions)
        if (compared.model, compared.variant) in measured and compared.is_of(record)
    }
    return list(best.values())


def _read(path: Path) -> list[ParityFigures]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return [
            ParityFigures(
                model=str(report["name"]),
                variant=str(variant["variant"]),
                graph=str(variant["graph"]),
                sha256=tuple(map(str, variant["sha256"].values())),
                file=path.name,
                difference=Difference(
                    exact=float(variant["agreements"][0]["exact_difference"]["estimate"]),
                    f1=float(variant["agreements"][0]["f1_difference"]["estimate"]),
                    questions=int(report["questions"]),
                ),
                equal_answers=float(variant["agreements"][0]["equal_answers"]),
            )
            for variant in report["variants"]
        ]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no parity report ({error}); run `make parity` again.") from error
